//! The `[gate]` section of the configuration. Its commented default is the manual; a test holds the two together.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, net::SocketAddr, str::FromStr};

/// Every default, commented. `floodgate config` prints it.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// The section `[gate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub shop_listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub public_origin: String,
    pub pass_ttl_seconds: u64,
    pub decision_wait_ms: u64,
    pub jwt: JwtConfig,
    pub limits: LimitsConfig,
    pub connections: ConnectionsConfig,
}

/// The section `[gate.jwt]`: who signs shopper tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    pub issuer: String,
    pub audience: String,
    pub algorithms: Vec<JwtAlgorithm>,
    pub key_file: String,
    pub jwks_file: String,
    pub jwks_url: String,
}

/// An algorithm of RFC 7518 or RFC 8037, by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    HS256,
    ES256,
    RS256,
    EdDSA,
}

/// The section `[gate.limits]`: how often one may ask. A rate of 0 is no limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub address_per_second: u32,
    pub address_burst: u32,
    pub shopper_per_second: u32,
    pub shopper_burst: u32,
    pub exempt_addresses: Vec<Net>,
    pub trusted_proxies: Vec<Net>,
}

/// The section `[gate.connections]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    pub open_max: usize,
    pub events_max: usize,
    pub backlog: u32,
    pub header_bytes_max: usize,
    pub header_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub drain_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shop_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            public_origin: String::new(),
            pass_ttl_seconds: 86_400,
            decision_wait_ms: 2000,
            jwt: JwtConfig::default(),
            limits: LimitsConfig::default(),
            connections: ConnectionsConfig::default(),
        }
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            issuer: "shop".into(),
            audience: "floodgate".into(),
            algorithms: vec![JwtAlgorithm::HS256],
            key_file: String::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            address_per_second: 100,
            address_burst: 400,
            shopper_per_second: 5,
            shopper_burst: 20,
            exempt_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            open_max: 60_000,
            events_max: 4096,
            backlog: 8192,
            header_bytes_max: 8192,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            idle_timeout_seconds: 300,
            drain_seconds: 10,
        }
    }
}

/// A range of addresses, such as `10.0.0.0/8` or `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Net {
    base: IpAddr,
    prefix: u8,
}

impl Net {
    /// Whether the address lies in the range. An IPv4 address in IPv6's clothes is taken as what it is.
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

    #[derive(Deserialize)]
    struct File {
        gate: Config,
    }

    #[test]
    fn the_default_file_says_every_default() {
        let file: File = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(file.gate, Config::default());
        let written: toml::Value = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(
            written["gate"],
            toml::Value::try_from(Config::default()).unwrap(),
            "a key is missing in the file"
        );
        let wrong = toml::from_str::<File>("[gate]\nshop_listn = \"1.2.3.4:1\"").err().unwrap().to_string();
        assert!(wrong.contains("shop_listn"), "{wrong}");
    }

    #[test]
    fn ranges_contain_what_they_should() {
        let check = |net: &str, address: &str| net.parse::<Net>().unwrap().contains(address.parse().unwrap());
        assert!(check("127.0.0.0/8", "127.9.9.9"));
        assert!(check("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(check("::1", "::1"));
        assert!(check("0.0.0.0/0", "8.8.8.8"));
        assert!(!check("10.0.0.0/8", "11.0.0.1"));
        assert!(!check("::/0", "10.0.0.1"));
        assert!("10.0.0.0/33".parse::<Net>().is_err());
    }
}
