//! Joins the recordings of letters into one sound: WAV, mono, 8 bits, 11,025 samples a second. The
//! result has a quarter of the bytes of the recordings. This module knows no letters.

/// Samples a second of the recordings. Every second sample is kept.
const RATE_IN: u32 = 22_050;

/// Joins WAV files of 16-bit samples, mono; `None` for another kind of file.
pub(super) fn join(letters: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut samples = Vec::new();
    for letter in letters {
        let (pairs, _) = data(letter)?.as_chunks::<4>();
        samples.extend(pairs.iter().map(|[a, b, c, d]| {
            let (first, second) = (i16::from_le_bytes([*a, *b]), i16::from_le_bytes([*c, *d]));
            let mean = (i32::from(first) + i32::from(second)) / 2;
            ((mean >> 8) + 128) as u8
        }));
    }
    let rate = RATE_IN / 2;
    let len = u32::try_from(samples.len()).ok()?;
    let mut wav = Vec::with_capacity(44 + samples.len());
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + len).to_le_bytes());
    // PCM, one channel, one byte for each sample.
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(b"\x01\0\x08\0data");
    wav.extend_from_slice(&len.to_le_bytes());
    wav.extend_from_slice(&samples);
    Some(wav)
}

/// The samples of a file, as bytes.
fn data(wav: &[u8]) -> Option<&[u8]> {
    let mut rest = wav.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (len, after) = after.split_first_chunk::<4>()?;
        let (chunk, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if name == b"data" {
            return Some(chunk);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_joined_and_halved() {
        let wav = |samples: &[i16]| {
            let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
            let len = (bytes.len() as u32).to_le_bytes();
            [b"RIFF\0\0\0\0WAVEjunk\x02\0\0\0xxdata".as_slice(), &len, &bytes].concat()
        };
        let joined = join(&[wav(&[0, 0, i16::MAX, i16::MAX]), wav(&[i16::MIN, i16::MIN])]).unwrap();
        assert_eq!(joined[44..], [128, 255, 0]);
        assert_eq!(data(&joined), Some([128, 255, 0].as_slice()));
        assert_eq!(joined[40..44], 3u32.to_le_bytes());
        for broken in [b"".as_slice(), b"RIFF", b"RIFF\0\0\0\0WAVEdata\xff\0\0\0x"] {
            assert_eq!(join(&[broken.to_vec()]), None);
        }
    }
}
