//! What a response says: taken, or come again, and when. It reads no socket.

use super::Outcome;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use units::TimeMs;

/// The longest time that a `retry-after` is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn outcome(status: StatusCode, headers: &HeaderMap, now: TimeMs) -> Outcome {
    match status.is_success() {
        true => Outcome::Accepted { status: status.as_u16() },
        false => Outcome::Refused { status: status.as_u16(), retry_after: retry_after(headers, now) },
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3). A date in the past is now.
fn retry_after(headers: &HeaderMap, now: TimeMs) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // What overflows is more than a day.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now.0);
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// At most so many bytes of text from the beginning of a body. What is no UTF-8, or would change
/// how the text around it is shown, is replaced.
pub(super) fn excerpt(body: &[u8], bytes_max: usize) -> String {
    if body.is_empty() {
        return String::new();
    }
    let lossy = String::from_utf8_lossy(body);
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        // Bidirectional marks turn the words after them around.
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut text: String = lossy.chars().map(shown).collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_a_day_at_most() {
        // 1994-11-06T08:49:37Z.
        let now = TimeMs(784_111_777_000);
        for (text, want) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_excerpt_is_short_and_safe_to_show() {
        for (body, max, want) in [
            (&b"fine"[..], 512, "fine"),
            (b"a\r\nb\x1b[31m\0", 512, "a  b\u{fffd}[31m\u{fffd}"),
            (b"\xff\xfe", 512, "\u{fffd}\u{fffd}"),
            ("ab\u{202e}c".as_bytes(), 512, "ab\u{fffd}c"),
            ("aü".as_bytes(), 2, "a"),
            (b"\xff\xff", 4, "\u{fffd}"),
            (b"", 512, ""),
        ] {
            assert_eq!(excerpt(body, max), want);
        }
    }
}
