//! The header of the PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, section 2.2): with it
//! a balancer that forwards TCP names the client's address, before the first forwarded byte.
//! Version 1 is text that a client could send by accident, and is not read.
//!
//! ```text
//! signature   12 bytes
//! version     4 bits: 2; command, 4 bits: 0 LOCAL, 1 PROXY
//! family      4 bits: 1 IPv4, 2 IPv6; transport, 4 bits: 1 stream. 0 for both: unknown
//! length      16 bits, of what follows: source, destination, their ports, and TLVs (passed over)
//! ```
//!
//! This module reads bytes, and does not know who may send them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version, family and length.
const FIXED_BYTES: usize = SIGNATURE.len() + 4;
/// The specification requires a header that fits into one segment of the smallest path (536 bytes).
pub const BYTES_MAX: usize = 536;

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They may still become a header.
    Partial,
    /// A header of this many bytes. `None`: the proxy speaks for itself, as in a health check.
    Whole { len: usize, source: Option<IpAddr> },
    /// They cannot become a header.
    Refused(&'static str),
}

/// Reads the header at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        let so_far = &bytes[..bytes.len().min(SIGNATURE.len())];
        return match SIGNATURE.starts_with(so_far) {
            true => Parsed::Partial,
            false => Parsed::Refused("it does not begin with the signature"),
        };
    };
    if !fixed.starts_with(SIGNATURE) {
        return Parsed::Refused("it does not begin with the signature");
    }
    let addresses_len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED_BYTES + addresses_len;
    if len > BYTES_MAX {
        return Parsed::Refused("it has more than 536 bytes");
    }
    let proxied = match fixed[12] {
        0x20 => false,
        0x21 => true,
        _ => return Parsed::Refused("its version is not 2, or its command neither LOCAL nor PROXY"),
    };
    let Some(addresses) = rest.get(..addresses_len) else { return Parsed::Partial };
    let source = match (proxied, fixed[13]) {
        (false, _) | (true, 0x00) => None,
        (true, 0x11) => match addresses.first_chunk::<12>() {
            Some(&[a, b, c, d, ..]) => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            None => return Parsed::Refused("its addresses are cut off"),
        },
        (true, 0x21) => match addresses.first_chunk::<36>().and_then(|all| all.first_chunk::<16>()) {
            Some(source) => Some(IpAddr::V6(Ipv6Addr::from(*source))),
            None => return Parsed::Refused("its addresses are cut off"),
        },
        _ => return Parsed::Refused("it is of no TCP connection over IPv4 or IPv6"),
    };
    Parsed::Whole { len, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, addresses].concat()
    }

    #[test]
    fn a_proxy_header_names_the_clients_address() {
        let four = [&[203, 0, 113, 9, 10, 0, 0, 1][..], &[0xc3, 0x50, 0, 80]].concat();
        let six = [&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets()[..], &[0; 20]].concat();
        let tlvs = [&four[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        let v4 = Some("203.0.113.9".parse().unwrap());
        for (bytes, source) in [
            (header(0x21, 0x11, &four), v4),
            (header(0x21, 0x11, &tlvs), v4),
            (header(0x21, 0x21, &six), Some("2001:db8::7".parse().unwrap())),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &four), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
        ] {
            let whole = Parsed::Whole { len: bytes.len(), source };
            assert_eq!(parse(&bytes), whole, "{bytes:?}");
            assert_eq!(
                parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()),
                whole,
                "bytes after the header are not read"
            );
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Parsed::Partial, "{end} of {bytes:?}");
            }
        }
    }

    #[test]
    fn an_invalid_proxy_header_is_refused() {
        let four = [0; 12];
        for (bytes, why) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), "signature"),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 80\r\n".to_vec(), "signature"),
            (b"\r\n\r\n\0\r\nQUIT\r1234".to_vec(), "signature"),
            (header(0x11, 0x11, &four), "version"),
            (header(0x22, 0x11, &four), "version"),
            (header(0x21, 0x12, &four), "no TCP"),
            (header(0x21, 0x31, &[0; 216]), "no TCP"),
            (header(0x21, 0x11, &four[..11]), "cut off"),
            (header(0x21, 0x21, &[0; 35]), "cut off"),
            (header(0x21, 0x11, &[0; 521]), "536"),
        ] {
            assert!(matches!(parse(&bytes), Parsed::Refused(said) if said.contains(why)), "{bytes:?}");
        }
        let longest = header(0x21, 0x11, &[0; 520]);
        assert!(matches!(parse(&longest), Parsed::Whole { len: BYTES_MAX, .. }));
    }
}
