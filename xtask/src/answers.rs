//! How the measuring clients find an answer in bytes.

use crate::clients::Outcome;
use memchr::memmem::Finder;
use std::ops::Range;

/// An answer with its body: the largest here, to a batch of 500 events, has about 20 KiB.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The position of the body of the answer at the start of the bytes, if it is complete.
pub fn body_of(bytes: &[u8], head_end: &Finder<'_>) -> Outcome<Option<Range<usize>>> {
    let Some(end) = head_end.find(bytes) else { return Ok(None) };
    let head = &bytes[..end];
    // Each line from its end, so that no byte of a value is read twice.
    let mut at = 0;
    for line_end in memchr::memchr_iter(b'\n', head).chain([end]) {
        let line = &head[at..line_end];
        at = line_end + 1;
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[7] == b'-' && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let digits = line[NAME.len()..].trim_ascii();
            let length = digits.iter().fold(0, |n, digit| n * 10 + usize::from(digit.wrapping_sub(b'0')));
            let body = end + 4..end + 4 + length;
            if body.end > ANSWER_BYTES_MAX {
                return Err("an answer is longer than expected".into());
            }
            return Ok((bytes.len() >= body.end).then_some(body));
        }
    }
    Err(format!("an answer without Content-Length: {}", String::from_utf8_lossy(head)).into())
}
