//! A code of a few letters, as a picture or as a sound. The server keeps nothing of it: the id that
//! the client sends back contains a keyed hash of the answer, and only the owner of the key can
//! check a guess against it.
//!
//! ```text
//! id    base64url(nonce, 16 · expires, ms, 8 · answer's keyed hash, 16 · binding, 16)
//! ```
//!
//! Both hashes are over sale, shopper, nonce and expiry, each after its length. One guess uses the
//! challenge up, so each guess costs a new picture. Programs read such pictures too, and a program
//! that has the crate's recordings can compare them: like a proof of work, a code is a price, which
//! needs another skill.

use super::{Asker, Challenge, Checked, Code, Made, MadeCode, Reason, Solution, Wish, ledger::Nonce, sound};
use crate::{config::ChallengeConfig, keys::Keyring};
use captcha::{
    Captcha,
    filters::{Dots, Noise, Wave},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use std::{io, sync::Arc};
use subtle::ConstantTimeEq;
use units::{DurationMs, TimeMs};
use web::secret::random_bytes;

/// Letters that look or sound like another are left out: O and 0, I, L and 1, S and 5, B and 8, and
/// most of those that rhyme. So are J, M and W: the crate draws letters on a canvas of fixed size,
/// which the narrowest and the widest code must fit.
const ALPHABET: [char; 21] =
    ['2', '3', '4', '5', '6', '7', '8', '9', 'A', 'C', 'E', 'F', 'H', 'K', 'N', 'P', 'R', 'T', 'U', 'X', 'Y'];
const WIDTH: u32 = 280;
const HEIGHT: u32 = 120;
const ID_BYTES: usize = 16 + 8 + 16 + 16;

#[derive(Debug)]
pub(super) struct ImageCode {
    keys: Arc<Keyring>,
    lifetime: DurationMs,
    length: u32,
}

impl ImageCode {
    pub(super) fn new(keys: Arc<Keyring>, config: &ChallengeConfig) -> Self {
        let lifetime = DurationMs::seconds(config.lifetime_seconds());
        Self { keys, lifetime, length: config.code_length }
    }

    fn bind(&self, purpose: &str, asker: &Asker, nonce: &Nonce, expires: &[u8; 8], last: &[u8]) -> [u8; 16] {
        let fields = [asker.sale.as_bytes(), &asker.shopper.0, nonce, expires, last];
        self.keys.challenge_binding(purpose, &fields)
    }

    fn answer_hash(&self, asker: &Asker, nonce: &Nonce, expires: &[u8; 8], answer: &str) -> [u8; 16] {
        // People type spaces, and small letters for large ones.
        let answer: String =
            answer.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_uppercase).collect();
        self.bind("code answer", asker, nonce, expires, answer.as_bytes())
    }

    fn id(&self, asker: &Asker, nonce: &Nonce, expires_at: TimeMs, answer: &str) -> String {
        let expires = expires_at.0.to_be_bytes();
        let answer = self.answer_hash(asker, nonce, &expires, answer);
        let binding = self.bind("code", asker, nonce, &expires, &answer);
        BASE64URL_NOPAD.encode(&[nonce.as_slice(), &expires, &answer, &binding].concat())
    }
}

impl Challenge for ImageCode {
    fn make(&self, asker: &Asker, wish: Wish) -> io::Result<Made> {
        let nonce: Nonce = random_bytes()?;
        let expires_at = asker.now.plus(self.lifetime);
        let mut drawing = Captcha::new();
        drawing.set_chars(&ALPHABET).add_chars(self.length);
        let id = self.id(asker, &nonce, expires_at, &drawing.chars_as_string());
        let (image, audio) = if wish.sound {
            let letters = drawing.as_wav().into_iter().collect::<Option<Vec<_>>>();
            let wav = letters
                .as_deref()
                .and_then(sound::join)
                .ok_or_else(|| io::Error::other("no sound came of it"))?;
            (None, Some(format!("data:audio/wav;base64,{}", BASE64.encode(&wav))))
        } else {
            let png =
                finish(&mut drawing, wish.risk).ok_or_else(|| io::Error::other("no picture came of it"))?;
            (Some(format!("data:image/png;base64,{}", BASE64.encode(&png))), None)
        };
        Ok(Made::Code(MadeCode { code: Code { id, length: self.length, image, audio }, expires_at }))
    }

    fn check(&self, asker: &Asker, solution: &Solution) -> Result<Checked, Reason> {
        let Solution::Code(code) = solution else { return Err(Reason::OtherKind) };
        let bytes = BASE64URL_NOPAD.decode(code.id.as_bytes()).map_err(|_| Reason::Malformed)?;
        let bytes: [u8; ID_BYTES] = bytes.try_into().map_err(|_| Reason::Malformed)?;
        let (mut nonce, mut expires, mut answer, mut binding) = ([0; 16], [0; 8], [0; 16], [0; 16]);
        nonce.copy_from_slice(&bytes[..16]);
        expires.copy_from_slice(&bytes[16..24]);
        answer.copy_from_slice(&bytes[24..40]);
        binding.copy_from_slice(&bytes[40..]);
        if !bool::from(self.bind("code", asker, &nonce, &expires, &answer).ct_eq(&binding)) {
            return Err(Reason::NotYours);
        }
        let expires_at = TimeMs(u64::from_be_bytes(expires));
        if asker.now >= expires_at {
            return Err(Reason::Expired);
        }
        let solved = self.answer_hash(asker, &nonce, &expires, &code.answer).ct_eq(&answer).into();
        Ok(Checked { nonce, expires_at, solved, too_fast: false })
    }

    fn is_slow(&self) -> bool {
        true
    }
}

/// The picture of the letters, as PNG. It is distorted, and has more dots for a higher risk.
fn finish(drawing: &mut Captcha, risk: usize) -> Option<Vec<u8>> {
    let noise = 0.1 * (1 + risk) as f32;
    drawing.apply_filter(Noise::new(noise));
    drawing.apply_filter(Wave::new(2.0, 15.0).horizontal());
    drawing.apply_filter(Wave::new(2.0, 15.0).vertical());
    drawing.view(WIDTH, HEIGHT).apply_filter(Dots::new(5));
    drawing.as_png()
}

#[cfg(test)]
mod tests {
    use super::{super::CodeAnswer, super::tests::asker, *};

    fn code() -> (Arc<Keyring>, ImageCode) {
        let keys = Arc::new(Keyring::from_master(&[7; 32]));
        let config = ChallengeConfig {
            mode: crate::config::ChallengeMode::Image,
            image_lifetime_seconds: 100,
            ..Default::default()
        };
        (Arc::clone(&keys), ImageCode::new(keys, &config))
    }

    fn answer(id: &str, answer: &str) -> Solution {
        Solution::Code(CodeAnswer { id: id.into(), answer: answer.into() })
    }

    #[test]
    fn a_code_is_good_for_its_shopper_its_sale_and_its_time() {
        let (keys, code) = code();
        let alice = asker(&keys, "demo", "alice", 0);
        let id = code.id(&alice, &[9; 16], TimeMs(100_000), "AC3FH");
        let check = |sale, shopper, now, text| {
            code.check(&asker(&keys, sale, shopper, now), &answer(&id, text)).map(|checked| checked.solved)
        };
        for right in ["AC3FH", "ac3fh", " ac3 fh\n"] {
            assert_eq!(check("demo", "alice", 99_999, right), Ok(true), "{right:?}");
        }
        for wrong in ["", "AC3F", "AC3FHH", "AC3FJ"] {
            assert_eq!(check("demo", "alice", 0, wrong), Ok(false), "{wrong:?}: ours, so it is used up");
        }
        assert_eq!(check("demo", "alice", 100_000, "AC3FH"), Err(Reason::Expired));
        assert_eq!(check("demo", "bob", 0, "AC3FH"), Err(Reason::NotYours));
        assert_eq!(check("demo2", "alice", 0, "AC3FH"), Err(Reason::NotYours));
        assert_eq!(code.check(&alice, &Solution::Altcha("e30=".into())), Err(Reason::OtherKind));
        assert_eq!(code.check(&alice, &answer("AAAA", "AC3FH")), Err(Reason::Malformed));
        // The id of one challenge with the hash of another, byte by byte.
        let bytes = BASE64URL_NOPAD.decode(id.as_bytes()).unwrap();
        let other =
            BASE64URL_NOPAD.decode(code.id(&alice, &[8; 16], TimeMs(200_000), "AAAAA").as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut spliced = bytes.clone();
            spliced[at] ^= 1;
            let changed = code.check(&alice, &answer(&BASE64URL_NOPAD.encode(&spliced), "AC3FH"));
            assert_eq!(changed, Err(Reason::NotYours), "byte {at}");
            let spliced = [&bytes[..at], &other[at..]].concat();
            let spliced = code.check(&alice, &answer(&BASE64URL_NOPAD.encode(&spliced), "AC3FH"));
            assert!(at == 0 || spliced == Err(Reason::NotYours), "byte {at}: {spliced:?}");
        }
    }

    #[test]
    fn the_narrowest_and_the_widest_code_fit() {
        for letter in ALPHABET {
            for length in 4..=6 {
                let mut drawing = Captcha::new();
                drawing.set_chars(&[letter]).add_chars(length);
                let text = drawing.text_area();
                assert!(
                    text.right - text.left < WIDTH - 30,
                    "{length} of {letter}, and how far they are bent"
                );
                assert_eq!(drawing.chars().len(), length as usize);
                assert!(finish(&mut drawing, 0).is_some());
            }
        }
    }

    #[test]
    fn a_picture_and_a_sound_are_what_they_say() {
        let (keys, code) = code();
        let alice = asker(&keys, "demo", "alice", 0);
        let make = |sound, risk| match code.make(&alice, Wish { risk, sound }).unwrap() {
            Made::Code(made) => made.code,
            other => panic!("no code: {other:?}"),
        };
        let bytes =
            |uri: &str, kind: &str| BASE64.decode(uri.strip_prefix(kind).unwrap().as_bytes()).unwrap();
        for risk in 0..=super::super::RISK_MAX {
            let picture = make(false, risk);
            let png = bytes(picture.image.as_deref().unwrap(), "data:image/png;base64,");
            assert!(png.starts_with(b"\x89PNG\r\n") && png.len() > 1000, "{} bytes", png.len());
            assert_eq!(&png[16..24], [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat(), "its size");
        }
        let sound = make(true, 0);
        let wav = bytes(sound.audio.as_deref().unwrap(), "data:audio/wav;base64,");
        assert!(wav.starts_with(b"RIFF") && wav.len() > 50_000, "{} bytes", wav.len());
        assert_eq!(sound.image, None);
        assert_ne!(sound.id, make(true, 0).id);
        assert_eq!(sound.length, 5);
    }
}
