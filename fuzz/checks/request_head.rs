//! What must hold for any bytes that come as the head of a request: it ends at one place only,
//! whatever follows; it means what a reader that knows only lines and colons finds in it; and
//! nothing in it is ambiguous.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use web::wire::head::{Form, Head, Parsed, parse};

/// As the gate's default.
const BYTES_MAX: usize = 8192;
/// Fields that a context reads in addition to those of every server: here the flash sale's.
const FIELDS: [&str; 2] = ["floodgate-pass", "idempotency-key"];

pub(crate) fn check(data: &[u8]) {
    let Parsed::Whole(head) = parse(data, BYTES_MAX, &FIELDS) else { return };
    assert!(head.len <= data.len().min(BYTES_MAX), "{head:?}");
    for cut in [0, head.len / 2, head.len - 1] {
        assert_eq!(parse(&data[..cut], BYTES_MAX, &FIELDS), Parsed::Partial, "{cut} of {head:?}");
    }
    let longer = [&data[..head.len], b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(
        parse(&longer, BYTES_MAX, &FIELDS),
        Parsed::Whole(head.clone()),
        "what follows changes nothing"
    );
    oracle(&data[..head.len], &head);
}

/// The same again, slowly: lines that end in CR LF, names before the first colon.
fn oracle(bytes: &[u8], head: &Head<'_>) {
    assert!(bytes.ends_with(b"\r\n\r\n"), "{head:?}");
    let bare = |at: usize| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r');
    assert!(!(0..bytes.len()).any(bare), "a bare LF: {head:?}");
    let text: Vec<u8> = bytes.to_vec();
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = text.as_slice();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    let mut lines = lines.into_iter().skip_while(|line| line.is_empty());
    let request_line = lines.next().unwrap_or_default();
    let wanted = [head.method.as_bytes(), head.target.as_bytes()].join(&b' ');
    assert!(request_line.starts_with(&wanted), "{head:?}");
    let old = request_line.ends_with(b"HTTP/1.0");
    let (mut hosts, mut lengths, mut codings, mut passes) = (0, Vec::new(), 0, Vec::new());
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_whitespace), "{head:?}");
        assert!(!value.contains(&0) && !value.contains(&b'\r'), "{head:?}");
        match name.as_slice() {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => codings += 1,
            b"floodgate-pass" => passes.push(value.to_vec()),
            _ => {}
        }
    }
    assert!(hosts == 1 || (old && hosts == 0), "{head:?}");
    assert!(lengths.len() <= 1 && codings <= 1 && lengths.len() + codings <= 1, "{head:?}");
    let length = lengths.first().map_or(0, |digits| {
        std::str::from_utf8(digits).unwrap_or_default().parse::<u64>().expect("a length of digits")
    });
    assert_eq!(head.body_len, length, "{head:?}");
    if head.form == Form::Plain {
        assert!(codings == 0 && !old && head.target.starts_with('/') && passes.len() <= 1, "{head:?}");
        assert_eq!(head.fields.own[0].map(<[u8]>::trim_ascii), passes.first().map(Vec::as_slice), "{head:?}");
    }
}
