//! Addresses of clients, and ranges of addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// The address that a request came from, after trusted proxies.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// A range of addresses, such as `10.0.0.0/8` or `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$", "examples" = ["10.0.0.0/8"]))]
pub struct Net {
    base: IpAddr,
    prefix: u8,
}

impl Net {
    /// Whether the address lies in the range. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differs = |a: u128, b: u128, bits: u8| bits > 0 && (a ^ b) >> (128 - u32::from(bits)) != 0;
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let wide = |v: std::net::Ipv4Addr| u128::from(u32::from(v)) << 96;
                !differs(wide(a), wide(b), self.prefix)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => !differs(a.into(), b.into(), self.prefix),
            _ => false,
        }
    }
}

impl Net {
    /// The same range, named by its first address; an IPv4-mapped one as IPv4.
    pub fn without_host_bits(&self) -> Self {
        let (base, prefix) = match (self.base.to_canonical(), self.prefix) {
            (base @ IpAddr::V4(_), 96..) if self.base.is_ipv6() => (base, self.prefix - 96),
            _ => (self.base, self.prefix),
        };
        let (first, _) = Self { base, prefix }.range();
        let base = match base {
            IpAddr::V4(_) => IpAddr::from((first as u32).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(first.to_be_bytes()),
        };
        Self { base, prefix }
    }

    pub fn is_v4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Its first and last address, as numbers.
    pub fn range(&self) -> (u128, u128) {
        let (base, bits) = match self.base {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let hosts = match bits - u32::from(self.prefix) {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        };
        (base & !hosts, base | hosts)
    }
}

/// One address.
impl From<IpAddr> for Net {
    fn from(base: IpAddr) -> Self {
        Self { base, prefix: if base.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Net {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("address range {text:?}: want such as 10.0.0.0/8 or ::1");
        let (base, prefix) = text.split_once('/').map_or((text, None), |(base, prefix)| (base, Some(prefix)));
        let base: IpAddr = base.parse().map_err(|_| refused())?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), str::parse).map_err(|_| refused())?;
        if prefix <= bits { Ok(Self { base, prefix }) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Net {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Net> for String {
    fn from(net: Net) -> String {
        net.to_string()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_exactly_its_addresses() {
        let check = |net: &str, address: &str| net.parse::<Net>().unwrap().contains(address.parse().unwrap());
        assert!(check("127.0.0.0/8", "127.9.9.9"));
        assert!(check("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(check("::1", "::1"));
        assert!(check("0.0.0.0/0", "8.8.8.8"));
        assert!(!check("10.0.0.0/8", "11.0.0.1"));
        assert!(!check("::/0", "10.0.0.1"));
        assert!("10.0.0.0/33".parse::<Net>().is_err());
        let named = |net: &str| net.parse::<Net>().unwrap().without_host_bits().to_string();
        assert_eq!(
            ["10.9.8.7/8", "::ffff:10.9.8.7/104", "2001:db8::7/32", "::7/0", "1.2.3.4"].map(named),
            ["10.0.0.0/8", "10.0.0.0/8", "2001:db8::/32", "::/0", "1.2.3.4/32"]
        );
    }
}
