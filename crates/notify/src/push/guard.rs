//! Which addresses a message may go to. An endpoint is named by a shop, and must not become a way
//! into the operator's own network (server-side request forgery). It judges addresses, never names:
//! a name may lead elsewhere at the next question.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is allowed beyond `https` to public addresses.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) allowed_networks: Vec<IpNet>,
    pub(super) http_allowed: bool,
}

/// The judgement of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// This address may be connected to: the same one, an IPv4-mapped one as IPv4.
    Permitted(IpAddr),
    /// Neither public nor in an allowed network.
    NotPublic,
    /// Public, and the URL is plain `http`.
    Unencrypted,
}

impl Guard {
    pub(super) fn judge(&self, address: IpAddr, is_https: bool) -> Judgement {
        let address = address.to_canonical();
        if self.allowed_networks.iter().any(|network| network.contains(&address)) {
            return Judgement::Permitted(address);
        }
        match is_public(address) {
            false => Judgement::NotPublic,
            true if is_https || self.http_allowed => Judgement::Permitted(address),
            true => Judgement::Unencrypted,
        }
    }
}

/// Whether an address is global unicast. What the IANA registries of special-purpose addresses
/// (RFC 6890) do not call globally reachable is not, with the few exceptions inside such ranges:
/// no shop's server is there.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// First address, and bits of the prefix.
    const NOT_PUBLIC: [([u8; 4], u32); 15] = [
        // "This network", RFC 791.
        ([0, 0, 0, 0], 8),
        // Private use, RFC 1918.
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        // Shared by the customers of a carrier's NAT, RFC 6598.
        ([100, 64, 0, 0], 10),
        // Loopback, RFC 1122.
        ([127, 0, 0, 0], 8),
        // Link-local, RFC 3927: clouds keep their metadata, with keys, at 169.254.169.254.
        ([169, 254, 0, 0], 16),
        // IETF protocol assignments, RFC 6890.
        ([192, 0, 0, 0], 24),
        // Documentation, RFC 5737.
        ([192, 0, 2, 0], 24),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Relays of 6to4, deprecated by RFC 7526.
        ([192, 88, 99, 0], 24),
        // Benchmarks, RFC 2544.
        ([198, 18, 0, 0], 15),
        // Multicast, RFC 5771.
        ([224, 0, 0, 0], 4),
        // Reserved, RFC 1112, and broadcast.
        ([240, 0, 0, 0], 4),
    ];
    let address = address.to_bits();
    !NOT_PUBLIC.iter().any(|(first, bits)| (address ^ u32::from_be_bytes(*first)) >> (32 - bits) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
        // NAT64, RFC 6052: the gateway connects to the IPv4 address inside.
        return is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    match segments {
        // IETF protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID.
        [0x2001, 0..=0x1ff, ..] => false,
        // Documentation, RFC 3849 and RFC 9637.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // 6to4, RFC 3056: it leads to whatever IPv4 address is inside, and nobody serves on it.
        [0x2002, ..] => false,
        // All that is given out as global unicast, RFC 4291. Loopback, unique local, link-local,
        // multicast, IPv4-compatible and local NAT64 addresses are outside.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str], http_allowed: bool) -> Guard {
        Guard { allowed_networks: allowed.iter().map(|net| net.parse().unwrap()).collect(), http_allowed }
    }

    #[test]
    fn only_global_unicast_is_public() {
        for (address, want) in [
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.0.1", false),
            ("192.169.0.0", true),
            ("198.17.255.255", true),
            ("198.18.0.0", false),
            ("198.19.255.255", false),
            ("198.20.0.0", true),
            ("198.51.100.7", false),
            ("203.0.113.7", false),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("8.8.8.8", true),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::8.8.8.8", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b:1::808:808", false),
            ("100::1", false),
            ("2000::1", true),
            ("2001::1", false),
            ("2001:0:7f00:1::", false),
            ("2001:2::1", false),
            ("2001:1ff:ffff::1", false),
            ("2001:200::1", true),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("2002:808:808::1", false),
            ("2606:4700:4700::1111", true),
            ("3fff::1", false),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:8.8.8.8", true),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            let canonical = parsed.to_canonical();
            let judged = if want { Judgement::Permitted(canonical) } else { Judgement::NotPublic };
            assert_eq!(guard(&[], false).judge(parsed, true), judged, "{address}");
        }
    }

    #[test]
    fn an_allowed_network_is_allowed_and_its_neighbour_is_not() {
        let guard = guard(&["10.1.0.0/16", "fd00::/8"], false);
        for (address, is_https, want) in [
            ("10.1.2.3", true, true),
            ("10.1.2.3", false, true),
            ("::ffff:10.1.2.3", false, true),
            ("10.2.0.0", true, false),
            ("64:ff9b::10.1.2.3", true, false),
            ("fd12::1", false, true),
            ("fc12::1", true, false),
        ] {
            let judged = guard.judge(address.parse().unwrap(), is_https);
            assert_eq!(matches!(judged, Judgement::Permitted(_)), want, "{address}: {judged:?}");
        }
    }

    #[test]
    fn plain_http_to_a_public_address_has_to_be_allowed() {
        let public: IpAddr = "8.8.8.8".parse().unwrap();
        assert_eq!(guard(&[], false).judge(public, false), Judgement::Unencrypted);
        assert_eq!(guard(&[], true).judge(public, false), Judgement::Permitted(public));
        let private: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(guard(&[], true).judge(private, false), Judgement::NotPublic);
    }
}
