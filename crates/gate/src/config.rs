//! The `[gate]` section of the configuration. Its commented default is the manual; a test holds the two together.

use crate::{cors, return_url::is_entry};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, net::SocketAddr, str::FromStr};

/// Every default, commented. `floodgate config` prints it.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// The smallest and largest value of each number in the section `[gate]`, by its name below it. The limits count in steps of
/// 10 µs, so they know no more than 100,000 a second.
pub const RANGES: &[(&str, i64, i64)] = &[
    ("pass_ttl_seconds", 1, 31_622_400),
    ("decision_wait_ms", 1, 60_000),
    ("limits.address_per_second", 0, 100_000),
    ("limits.address_burst", 1, 1_000_000),
    ("limits.prefix_per_second", 0, 100_000),
    ("limits.prefix_burst", 1, 1_000_000),
    ("limits.address_connections_max", 1, 10_000_000),
    ("limits.prefix_connections_max", 1, 10_000_000),
    ("limits.shopper_per_second", 0, 100_000),
    ("limits.shopper_burst", 1, 1_000_000),
    ("risk.fast_solution_points", 0, 1000),
    ("risk.bare_client_points", 0, 1000),
    ("risk.many_shoppers_points", 0, 1000),
    ("risk.shoppers_max", 1, 200),
    ("risk.steady_cadence_points", 0, 1000),
    ("risk.refuse_at", 0, 2000),
    ("risk.half_life_seconds", 1, 86_400),
    ("challenge.proof_of_work_lifetime_seconds", 10, 3600),
    ("challenge.image_lifetime_seconds", 10, 3600),
    ("challenge.maxnumber", 1, 100_000_000),
    ("challenge.code_length", 4, 6),
    ("challenge.used_max", 1000, 50_000_000),
    ("tls.handshake_timeout_seconds", 1, 3600),
    ("tls.streams_max", 1, 1000),
    ("connections.threads", 0, 256),
    ("connections.open_max", 1, 10_000_000),
    ("connections.memory_mark_percent", 1, 100),
    ("connections.events_max", 1, 1_000_000),
    ("connections.events_per_shopper_max", 1, 1_000_000),
    ("connections.events_per_address_max", 1, 1_000_000),
    ("connections.backlog", 1, 65_535),
    ("connections.header_bytes_max", 8192, 1 << 16),
    ("connections.header_timeout_seconds", 1, 3600),
    ("connections.body_timeout_seconds", 1, 3600),
    ("connections.idle_timeout_seconds", 1, 86_400),
    ("connections.drain_seconds", 0, 3600),
];

/// The section `[gate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub shop_listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub public_origin: String,
    pub allowed_origins: Vec<String>,
    pub return_urls: Vec<String>,
    pub pass_ttl_seconds: u64,
    pub decision_wait_ms: u64,
    pub tls: TlsConfig,
    pub jwt: JwtConfig,
    pub limits: LimitsConfig,
    pub risk: RiskConfig,
    pub challenge: ChallengeConfig,
    pub connections: ConnectionsConfig,
}

/// The section `[gate.tls]`: the shop's second listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    pub listen: String,
    pub certificate_file: String,
    pub key_file: String,
    pub handshake_timeout_seconds: u64,
    pub streams_max: u32,
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
    pub prefix_per_second: u32,
    pub prefix_burst: u32,
    pub address_connections_max: usize,
    pub prefix_connections_max: usize,
    pub shopper_per_second: u32,
    pub shopper_burst: u32,
    pub exempt_addresses: Vec<Net>,
    pub trusted_proxies: Vec<Net>,
}

/// The section `[gate.risk]`: what makes an address look like a script, in points, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskConfig {
    pub fast_solution_points: u32,
    pub bare_client_points: u32,
    pub many_shoppers_points: u32,
    pub shoppers_max: u32,
    pub steady_cadence_points: u32,
    pub levels: Vec<u32>,
    pub refuse_at: u32,
    pub half_life_seconds: u32,
    pub dry_run: bool,
}

/// The section `[gate.challenge]`: what a pass costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChallengeConfig {
    pub mode: ChallengeMode,
    pub proof_of_work_lifetime_seconds: u64,
    pub maxnumber: u64,
    pub maxnumber_factors: Vec<u64>,
    pub image_lifetime_seconds: u64,
    pub code_length: u32,
    pub used_max: usize,
}

/// What must be solved before a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeMode {
    Off,
    /// A proof of work, in the stage that is called so.
    Fortress,
    ProofOfWork,
    Image,
}

/// The section `[gate.connections]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    pub threads: usize,
    pub open_max: usize,
    pub memory_mark_percent: u64,
    pub proxy_protocol: bool,
    pub events_max: usize,
    pub events_per_shopper_max: usize,
    pub events_per_address_max: usize,
    pub backlog: u32,
    pub header_bytes_max: usize,
    pub header_timeout_seconds: u64,
    pub body_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub drain_seconds: u64,
}

/// Each request with an Origin is compared with all of them.
const ORIGINS_MAX: usize = 100;

impl Config {
    /// A value that is wrong though its type is right: its name below `[gate]`, and what is wanted.
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let origin =
            self.public_origin.strip_prefix("https://").or(self.public_origin.strip_prefix("http://"));
        if !self.public_origin.is_empty() && origin.is_none_or(|host| host.is_empty() || host.contains('/')) {
            return Some((
                "public_origin",
                "want such as \"https://sale.example.com\", without a path, or \"\"",
            ));
        }
        if self.allowed_origins.len() > ORIGINS_MAX
            || !self.allowed_origins.iter().all(|o| cors::is_origin(o))
        {
            return Some((
                "allowed_origins",
                "want up to 100 origins as browsers write them, such as \"https://shop.example\": no path, no *, no port that is the scheme's own",
            ));
        }
        if self.return_urls.len() > ORIGINS_MAX || !self.return_urls.iter().all(|url| is_entry(url)) {
            return Some((
                "return_urls",
                "want up to 100 places such as \"https://shop.example/checkout\": https (http only to this machine), no query, no port that is the scheme's own",
            ));
        }
        if self.connections.proxy_protocol && !self.tls.listen.is_empty() {
            return Some((
                "connections.proxy_protocol",
                "want false with tls.listen, where that header is not read: let the balancer end TLS, and leave tls.listen empty",
            ));
        }
        self.tls
            .wrong()
            .or_else(|| self.jwt.wrong())
            .or_else(|| self.risk.wrong())
            .or_else(|| self.challenge.wrong())
    }
}

impl TlsConfig {
    /// Where the shop is behind TLS, if it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// As [`Config::wrong`].
    fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.listen.is_empty() {
            return None;
        }
        if self.address().is_none() {
            return Some((
                "tls.listen",
                "want an address and a port, such as \"0.0.0.0:8443\", or \"\" for no TLS",
            ));
        }
        if self.certificate_file.is_empty() {
            return Some(("tls.certificate_file", "want the file of the certificate and its chain, in PEM"));
        }
        self.key_file.is_empty().then_some(("tls.key_file", "want the file of the certificate's key, in PEM"))
    }
}

impl JwtConfig {
    /// The same for `[gate.jwt]`; the name is still that below `[gate]`.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if self.algorithms.is_empty() {
            return Some(("jwt.algorithms", "want at least one of HS256, ES256, RS256 and EdDSA"));
        }
        if self.issuer.is_empty() {
            return Some(("jwt.issuer", "want the iss that the shop's tokens carry"));
        }
        if self.audience.is_empty() {
            return Some(("jwt.audience", "want the aud that the shop's tokens carry"));
        }
        let sources = [
            ("jwt.key_file", &self.key_file),
            ("jwt.jwks_file", &self.jwks_file),
            ("jwt.jwks_url", &self.jwks_url),
        ];
        let mut named = sources.iter().filter(|(_, source)| !source.is_empty());
        if let (Some(_), Some((second, _))) = (named.next(), named.next()) {
            return Some((second, "want one of key_file, jwks_file and jwks_url"));
        }
        let local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
        let safe =
            |url: &str| url.starts_with("https://") || local.iter().any(|start| url.starts_with(start));
        if !self.jwks_url.is_empty() && !safe(&self.jwks_url) {
            return Some(("jwt.jwks_url", "want https:// (http:// only to this machine)"));
        }
        None
    }
}

impl RiskConfig {
    /// As [`Config::wrong`].
    fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let levels = &self.levels;
        let rise = levels.windows(2).all(|pair| pair[0] < pair[1]);
        let right = levels.len() == crate::challenge::RISK_MAX && rise && levels.first() > Some(&0);
        (!right)
            .then_some(("risk.levels", "want three numbers of points, above 0, each above the one before"))
    }
}

impl LimitsConfig {
    /// Lowers the limits of connections so that neither one address nor one network can have all that may be open: an address a quarter, a
    /// network half. True if that changed one.
    pub fn leave_room(&mut self, open_max: usize) -> bool {
        let before = (self.address_connections_max, self.prefix_connections_max);
        self.address_connections_max = before.0.min((open_max / 4).max(1));
        self.prefix_connections_max = before.1.min((open_max / 2).max(1));
        before != (self.address_connections_max, self.prefix_connections_max)
    }
}

/// The largest factor of a proof of work's difficulty. With the largest `maxnumber` it stays below 2^53, which JavaScript can count to.
const MAXNUMBER_FACTOR_MAX: u64 = 1000;

impl ChallengeConfig {
    /// How long a challenge of the mode may be used.
    pub(crate) fn lifetime_seconds(&self) -> u64 {
        match self.mode {
            ChallengeMode::Off | ChallengeMode::Fortress | ChallengeMode::ProofOfWork => {
                self.proof_of_work_lifetime_seconds
            }
            ChallengeMode::Image => self.image_lifetime_seconds,
        }
    }

    /// As [`Config::wrong`].
    fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let good = |factor: &u64| (1..=MAXNUMBER_FACTOR_MAX).contains(factor);
        let factors = &self.maxnumber_factors;
        let want = "want four factors of 1 to 1000, one for each level of risk, none below the one before";
        let right = factors.len() == crate::challenge::RISK_MAX + 1
            && factors.iter().all(good)
            && factors.is_sorted();
        (!right).then_some(("challenge.maxnumber_factors", want))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shop_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            public_origin: String::new(),
            allowed_origins: Vec::new(),
            return_urls: Vec::new(),
            pass_ttl_seconds: 86_400,
            decision_wait_ms: 2000,
            tls: TlsConfig::default(),
            jwt: JwtConfig::default(),
            limits: LimitsConfig::default(),
            risk: RiskConfig::default(),
            challenge: ChallengeConfig::default(),
            connections: ConnectionsConfig::default(),
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            listen: String::new(),
            certificate_file: String::new(),
            key_file: String::new(),
            handshake_timeout_seconds: 10,
            streams_max: 32,
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
            prefix_per_second: 2000,
            prefix_burst: 8000,
            address_connections_max: 2000,
            prefix_connections_max: 10_000,
            shopper_per_second: 5,
            shopper_burst: 20,
            exempt_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for RiskConfig {
    fn default() -> Self {
        Self {
            fast_solution_points: 40,
            bare_client_points: 5,
            many_shoppers_points: 3,
            shoppers_max: 20,
            steady_cadence_points: 20,
            levels: vec![40, 80, 160],
            refuse_at: 320,
            half_life_seconds: 120,
            dry_run: false,
        }
    }
}

impl Default for ChallengeConfig {
    fn default() -> Self {
        Self {
            mode: ChallengeMode::Off,
            proof_of_work_lifetime_seconds: 300,
            maxnumber: 100_000,
            maxnumber_factors: vec![1, 3, 10, 30],
            image_lifetime_seconds: 180,
            code_length: 5,
            used_max: 1_000_000,
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            open_max: 60_000,
            memory_mark_percent: 50,
            proxy_protocol: false,
            events_max: 4096,
            events_per_shopper_max: 4,
            events_per_address_max: 1024,
            backlog: 8192,
            header_bytes_max: 8192,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            idle_timeout_seconds: 300,
            drain_seconds: 10,
        }
    }
}

impl ConnectionsConfig {
    /// Threads of the shop's connections: as many as there are processors, if nobody said how many.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
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

impl Net {
    /// The same range, named by its first address; one of IPv4 in IPv6's clothes as what it is.
    pub(crate) fn without_host_bits(&self) -> Self {
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

    pub(crate) fn is_v4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Its first and last address, as numbers.
    pub(crate) fn range(&self) -> (u128, u128) {
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
    fn nobody_may_have_all_connections_of_a_small_machine() {
        let check = |open_max, want: (usize, usize, bool)| {
            let mut limits = LimitsConfig::default();
            let changed = limits.leave_room(open_max);
            assert_eq!((limits.address_connections_max, limits.prefix_connections_max, changed), want);
        };
        check(ConnectionsConfig::default().open_max, (2000, 10_000, false));
        check(18_000, (2000, 9000, true));
        check(1000, (250, 500, true));
        check(1, (1, 1, true));
    }

    #[test]
    fn a_header_that_nobody_reads_is_not_asked_for() {
        let mut config = Config::default();
        config.connections.proxy_protocol = true;
        assert_eq!(config.wrong(), None);
        config.tls.listen = "127.0.0.1:8443".into();
        assert_eq!(config.wrong().map(|(name, _)| name), Some("connections.proxy_protocol"));
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
        let named = |net: &str| net.parse::<Net>().unwrap().without_host_bits().to_string();
        assert_eq!(
            ["10.9.8.7/8", "::ffff:10.9.8.7/104", "2001:db8::7/32", "::7/0", "1.2.3.4"].map(named),
            ["10.0.0.0/8", "10.0.0.0/8", "2001:db8::/32", "::/0", "1.2.3.4/32"]
        );
    }
}
