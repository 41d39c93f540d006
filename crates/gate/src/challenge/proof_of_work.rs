//! Proof of work for the ALTCHA widget (version 1 of its protocol, which version 3 of the widget
//! still supports): find the number for which the SHA-256 of the salt and the number is the
//! challenge. <https://altcha.org/docs/v2/server-integration/>
//!
//! ```text
//! salt       NONCE BINDING ?issued=MS&expires=SECONDS&maxnumber=N&
//!            (nonce and binding: 32 hexadecimal digits each)
//! challenge  hex(SHA-256(salt · number in decimal))
//! signature  hex(HMAC-SHA256(challenge))
//! ```
//!
//! The signature proves that this gate made the challenge with its number. The binding, a keyed
//! hash over sale, shopper, nonce, both times and maxnumber, each after its length, proves what the
//! salt was made for. Only this one spelling of a salt is accepted. It ends with `&`, so that no
//! digit can move between the expiry and the number (GHSA-6gvq-jcmp-8959, typo3-altcha#33).

use super::{
    Asker, Challenge, Checked, Made, MadeProofOfWork, RISK_MAX, Reason, Solution, Wish, ledger::Nonce,
};
use crate::{config::ChallengeConfig, keys::Keyring};
use data_encoding::{BASE64, HEXLOWER};
use hmac::Mac;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{io, sync::Arc};
use subtle::ConstantTimeEq;
use units::{DurationMs, TimeMs};
use web::secret::random_bytes;

const ALGORITHM: &str = "SHA-256";
/// Bytes of a nonce, and of a binding, in hexadecimal.
const HEX_BYTES: usize = 32;
/// The least time of a browser for one try, with as many workers as the widget starts (16), each on
/// a fast core: several times less than was ever measured. A browser that divides the numbers among
/// workers may still be lucky, so one fast solution proves nothing.
const BROWSER_NS_PER_TRY: u128 = 50;

#[derive(Debug)]
pub(super) struct ProofOfWork {
    keys: Arc<Keyring>,
    lifetime: DurationMs,
    maxnumber: u64,
    factors: Vec<u64>,
}

/// The solution, as the widget sends it. It may have further fields, such as how long it took.
#[derive(Debug, Deserialize)]
struct Payload {
    algorithm: String,
    challenge: String,
    number: u64,
    salt: String,
    signature: String,
}

/// The content of a salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Salt {
    nonce: Nonce,
    binding: [u8; 16],
    issued_ms: u64,
    expires_seconds: u64,
    maxnumber: u64,
}

impl ProofOfWork {
    pub(super) fn new(keys: Arc<Keyring>, config: &ChallengeConfig) -> Self {
        Self {
            keys,
            lifetime: DurationMs::seconds(config.lifetime_seconds()),
            maxnumber: config.maxnumber,
            factors: config.maxnumber_factors.clone(),
        }
    }

    /// The largest number that may have to be tried; on average half of them are. A risk beyond the
    /// last level counts as the last.
    pub(super) fn difficulty(&self, risk: usize) -> u64 {
        let factor = self.factors.get(risk.min(RISK_MAX)).copied().unwrap_or(1);
        self.maxnumber.saturating_mul(factor).max(1)
    }

    /// The binding: a keyed hash of the rest of a salt.
    fn binding(&self, asker: &Asker, salt: &Salt) -> [u8; 16] {
        let [issued, expires, maxnumber] =
            [salt.issued_ms, salt.expires_seconds, salt.maxnumber].map(u64::to_be_bytes);
        let fields = [asker.sale.as_bytes(), &asker.shopper.0, &salt.nonce, &issued, &expires, &maxnumber];
        self.keys.challenge_binding("proof of work", &fields)
    }
}

impl Challenge for ProofOfWork {
    fn make(&self, asker: &Asker, wish: Wish) -> io::Result<Made> {
        let nonce: Nonce = random_bytes()?;
        let maxnumber = self.difficulty(wish.risk);
        // A remainder of 64 random bits: the chances of two numbers differ by less than one in
        // 2^30.
        let number = u64::from_le_bytes(random_bytes()?) % (maxnumber + 1);
        let expires_seconds = asker.now.plus(self.lifetime).0 / 1000;
        let issued_ms = asker.now.0;
        let unbound = Salt { nonce, binding: [0; 16], issued_ms, expires_seconds, maxnumber };
        let salt = Salt { binding: self.binding(asker, &unbound), ..unbound }.write();
        let challenge = challenge_of(&salt, number);
        let signature = self.keys.challenge_mac().chain_update(&challenge).finalize().into_bytes();
        let signature = HEXLOWER.encode(&signature);
        Ok(Made::ProofOfWork(MadeProofOfWork { algorithm: ALGORITHM, challenge, maxnumber, salt, signature }))
    }

    fn check(&self, asker: &Asker, solution: &Solution) -> Result<Checked, Reason> {
        let Solution::Altcha(text) = solution else { return Err(Reason::OtherKind) };
        let json = BASE64.decode(text.as_bytes()).map_err(|_| Reason::Malformed)?;
        let payload: Payload = serde_json::from_slice(&json).map_err(|_| Reason::Malformed)?;
        let signature = HEXLOWER.decode(payload.signature.as_bytes()).map_err(|_| Reason::Malformed)?;
        let salt = Salt::read(&payload.salt).ok_or(Reason::Malformed)?;
        if payload.algorithm != ALGORITHM {
            return Err(Reason::Malformed);
        }
        let Salt { nonce, expires_seconds, .. } = salt;
        if !bool::from(self.binding(asker, &salt).ct_eq(&salt.binding)) {
            return Err(Reason::NotYours);
        }
        let expires_at = TimeMs(expires_seconds.saturating_mul(1000));
        if asker.now >= expires_at {
            return Err(Reason::Expired);
        }
        let challenge = challenge_of(&payload.salt, payload.number);
        let signed = self.keys.challenge_mac().chain_update(&challenge).verify_slice(&signature).is_ok();
        // A wrong number cannot be distinguished from a forged challenge: neither is signed. Only a
        // right solution uses the challenge up.
        if !signed || challenge != payload.challenge {
            return Err(Reason::NotYours);
        }
        let took_ns = u128::from(asker.now.0.saturating_sub(salt.issued_ms)) * 1_000_000;
        // Issued later than now: the clocks of two gates differ, so the time that it took is
        // unknown.
        let is_known = salt.issued_ms <= asker.now.0;
        let too_fast = is_known && took_ns < u128::from(payload.number) * BROWSER_NS_PER_TRY;
        Ok(Checked { nonce, expires_at, solved: true, too_fast })
    }

    fn is_slow(&self) -> bool {
        false
    }
}

impl Salt {
    fn write(&self) -> String {
        let (nonce, binding) = (HEXLOWER.encode(&self.nonce), HEXLOWER.encode(&self.binding));
        let Self { issued_ms, expires_seconds, maxnumber, .. } = self;
        format!("{nonce}{binding}?issued={issued_ms}&expires={expires_seconds}&maxnumber={maxnumber}&")
    }

    /// Accepts only one spelling: the salt is written again from its fields, and must be the same.
    fn read(text: &str) -> Option<Self> {
        let (hex, parameters) = text.split_once('?')?;
        let (nonce, binding) = hex.split_at_checked(HEX_BYTES)?;
        let (issued, parameters) = parameters.strip_prefix("issued=")?.split_once("&expires=")?;
        let (expires, maxnumber) = parameters.split_once("&maxnumber=")?;
        let bytes = |hex: &str| Nonce::try_from(HEXLOWER.decode(hex.as_bytes()).ok()?).ok();
        let salt = Self {
            nonce: bytes(nonce)?,
            binding: bytes(binding)?,
            issued_ms: issued.parse().ok()?,
            expires_seconds: expires.parse().ok()?,
            maxnumber: maxnumber.strip_suffix('&')?.parse().ok()?,
        };
        (salt.write() == text).then_some(salt)
    }
}

fn challenge_of(salt: &str, number: u64) -> String {
    HEXLOWER.encode(&Sha256::new().chain_update(salt).chain_update(number.to_string()).finalize())
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::tests::asker, *};
    use serde_json::{Value, json};

    fn proof(maxnumber: u64) -> (Arc<Keyring>, ProofOfWork) {
        let keys = Arc::new(Keyring::from_master(&[7; 32]));
        let config = ChallengeConfig { maxnumber, proof_of_work_lifetime_seconds: 100, ..Default::default() };
        (Arc::clone(&keys), ProofOfWork::new(keys, &config))
    }

    pub(in super::super) fn solve(made: &Value) -> String {
        let (salt, challenge) = (made["salt"].as_str().unwrap(), made["challenge"].as_str().unwrap());
        let number = (0..=made["maxnumber"].as_u64().unwrap()).find(|&n| challenge_of(salt, n) == challenge);
        payload(made, number.expect("the number is among those that were named"))
    }

    fn payload(made: &Value, number: u64) -> String {
        let payload = json!({
            "algorithm": made["algorithm"], "challenge": made["challenge"], "number": number,
            "salt": made["salt"], "signature": made["signature"], "took": 12,
        });
        BASE64.encode(payload.to_string().as_bytes())
    }

    /// A challenge, as a client gets it.
    pub(in super::super) fn sent(made: &Made) -> Value {
        serde_json::to_value(made).unwrap()
    }

    const EASY: Wish = Wish { risk: 0, sound: false };

    #[test]
    fn difficulty_grows_with_risk() {
        let (keys, proof) = proof(1000);
        let factors = ChallengeConfig::default().maxnumber_factors;
        for (risk, factor) in factors.iter().enumerate() {
            assert_eq!(proof.difficulty(risk), 1000 * factor);
            let made = proof.make(&asker(&keys, "demo", "alice", 0), Wish { risk, sound: false }).unwrap();
            assert_eq!(sent(&made)["maxnumber"], 1000 * factor);
        }
        assert_eq!(proof.difficulty(9), proof.difficulty(RISK_MAX));
    }

    #[test]
    fn a_solution_is_good_for_its_shopper_its_sale_and_its_time() {
        let (keys, proof) = proof(50);
        let made = proof.make(&asker(&keys, "demo", "alice", 500), EASY).unwrap();
        let solution = Solution::Altcha(solve(&sent(&made)));
        let check =
            |sale, shopper, now| proof.check(&asker(&keys, sale, shopper, now), &solution).map(|c| c.solved);
        assert_eq!(check("demo", "alice", 500), Ok(true));
        assert_eq!(check("demo", "alice", 99_999), Ok(true));
        assert_eq!(check("demo", "alice", 100_000), Err(Reason::Expired));
        assert_eq!(check("demo", "bob", 500), Err(Reason::NotYours));
        assert_eq!(check("demo2", "alice", 500), Err(Reason::NotYours));
        let other = ProofOfWork { keys: Arc::new(Keyring::from_master(&[8; 32])), ..proof };
        assert!(other.check(&asker(&keys, "demo", "alice", 500), &solution).is_err());
        let code = Solution::Code(super::super::CodeAnswer { id: "x".into(), answer: "y".into() });
        assert_eq!(other.check(&asker(&keys, "demo", "alice", 500), &code), Err(Reason::OtherKind));
    }

    #[test]
    fn a_solution_faster_than_any_browser_is_accepted_and_noted() {
        // 10,000,000 tries take a browser at least 0.5 s.
        let (keys, proof) = proof(10_000_000);
        let salt = Salt {
            nonce: [1; 16],
            binding: [0; 16],
            issued_ms: 5000,
            expires_seconds: 100,
            maxnumber: 10_000_000,
        };
        let alice = |now| asker(&keys, "demo", "alice", now);
        let salt = Salt { binding: proof.binding(&alice(0), &salt), ..salt }.write();
        let number = 8_000_000;
        let challenge = challenge_of(&salt, number);
        let signature = keys.challenge_mac().chain_update(&challenge).finalize().into_bytes();
        let made = json!({ "algorithm": ALGORITHM, "challenge": challenge, "salt": salt, "signature": HEXLOWER.encode(&signature) });
        let solution = Solution::Altcha(payload(&made, number));
        for (now, too_fast) in [(5000, true), (5399, true), (5400, false), (90_000, false), (4000, false)] {
            let checked = proof.check(&alice(now), &solution).unwrap();
            assert_eq!((checked.solved, checked.too_fast), (true, too_fast), "at {now}");
        }
    }

    /// No digit moves from one field to the next, none is added, and no field occurs twice
    /// (typo3-altcha#33).
    #[test]
    fn no_spliced_or_changed_solution_is_good() {
        let (keys, proof) = proof(5000);
        let alice = asker(&keys, "demo", "alice", 0);
        let made = proof.make(&alice, EASY).unwrap();
        let solved = solve(&sent(&made));
        let good: Value = serde_json::from_slice(&BASE64.decode(solved.as_bytes()).unwrap()).unwrap();
        let (salt, number) = (good["salt"].as_str().unwrap(), good["number"].as_u64().unwrap());
        let check = |salt: &str, number: Value| {
            let mut changed = good.clone();
            (changed["salt"], changed["number"]) = (salt.into(), number);
            proof.check(&alice, &Solution::Altcha(BASE64.encode(changed.to_string().as_bytes())))
        };
        assert!(check(salt, number.into()).is_ok());
        let digits = number.to_string();
        let bare = salt.strip_suffix('&').unwrap();
        let spliced = [
            (format!("{salt}{}", &digits[..1]), digits[1..].parse().unwrap_or(0)),
            (format!("{bare}{digits}&"), 0),
            (format!("{bare}0&"), number),
            (bare.to_owned(), number),
            (format!("{salt}expires=99999999999&"), number),
            (salt.replace("issued=0", "issued=1"), number),
            (salt.replace("issued=0", "issued=00"), number),
            (salt.replace("expires=100", "expires=1000"), number),
            (salt.replace("expires=100", "expires=0100"), number),
            (salt.replace("expires=100", "expires=+100"), number),
            (salt.replace("maxnumber=5000", "maxnumber=5"), number),
            (salt.replace("expires=100&maxnumber=5000", "maxnumber=5000&expires=100"), number),
            (salt.to_uppercase(), number),
            (format!(" {salt}"), number),
        ];
        for (salt, number) in spliced {
            assert!(check(&salt, number.into()).is_err(), "{salt} {number}");
        }
        for spelled in ["expires=0100&", "expires=+100&"] {
            assert!(Salt::read(&salt.replace("expires=100&", spelled)).is_none(), "{spelled}");
        }
        for wrong in [json!(number + 1), json!(-1), json!(number as f64 + 0.5), json!(digits), json!(null)] {
            assert!(check(salt, wrong.clone()).is_err(), "{wrong}");
        }
        for field in ["algorithm", "challenge", "salt", "signature"] {
            for at in 0..good[field].as_str().unwrap().len() {
                let mut changed = good.clone();
                let mut bytes = good[field].as_str().unwrap().as_bytes().to_vec();
                bytes[at] ^= 1;
                changed[field] = String::from_utf8(bytes).unwrap().into();
                let changed = Solution::Altcha(BASE64.encode(changed.to_string().as_bytes()));
                assert!(proof.check(&alice, &changed).is_err(), "{field}, byte {at}");
            }
        }
        // The salt of one challenge with the rest of another.
        let other = proof.make(&alice, EASY).unwrap();
        assert!(check(sent(&other)["salt"].as_str().unwrap(), number.into()).is_err());
        for text in ["", "e30=", "????", "bnVsbA=="] {
            assert_eq!(proof.check(&alice, &Solution::Altcha(text.into())), Err(Reason::Malformed), "{text}");
        }
    }
}
