//! What must hold for any bytes that come as a header of the PROXY protocol: it ends at one place
//! only, whatever follows, it is never longer than promised, and its source is read from where the
//! specification puts it.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use std::net::IpAddr;
use web::wire::proxy::{BYTES_MAX, Parsed, parse};

pub(crate) fn check(data: &[u8]) {
    let Parsed::Whole { len, source } = parse(data) else { return };
    assert!((16..=BYTES_MAX).contains(&len) && len <= data.len());
    assert_eq!(len, 16 + usize::from(data[14]) * 256 + usize::from(data[15]));
    for cut in 0..len {
        assert_eq!(parse(&data[..cut]), Parsed::Partial, "{cut}");
    }
    let longer = [&data[..len], b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(parse(&longer), Parsed::Whole { len, source }, "what follows changes nothing");
    assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && data[12] >> 4 == 2);
    match source {
        None => assert!(data[12] == 0x20 || data[13] == 0),
        Some(IpAddr::V4(source)) => assert_eq!((data[13], &source.octets()[..]), (0x11, &data[16..20])),
        Some(IpAddr::V6(source)) => assert_eq!((data[13], &source.octets()[..]), (0x21, &data[16..32])),
    }
}
