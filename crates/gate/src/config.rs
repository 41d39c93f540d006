//! The `[gate]` section of the configuration. Its commented default is the manual; a test compares
//! the two.

use crate::return_url::is_entry;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
pub use web::config::{AddressLimits, ConnectionsConfig, JwtAlgorithm, JwtConfig, TlsConfig};
use web::{cors, net::Net};

/// Every default, with comments. `floodgate config` prints it.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// The smallest and largest value of each number in the section `[gate]`, by its name in the
/// section. The limits count in steps of 10 µs, so a rate is at most 100,000 a second.
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
    pub shop_url: String,
    pub pass_ttl_seconds: u64,
    pub decision_wait_ms: u64,
    pub tls: TlsConfig,
    pub jwt: JwtConfig,
    pub limits: LimitsConfig,
    pub risk: RiskConfig,
    pub challenge: ChallengeConfig,
    pub connections: ConnectionsConfig,
}

/// The section `[gate.limits]`: how many requests an address or a shopper may send. A rate of 0 is
/// no limit.
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

/// The section `[gate.risk]`: what makes an address look like a script, in points, and the
/// consequences.
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

/// The section `[gate.challenge]`: what must be solved before a pass.
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

/// The kind of challenge before a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeMode {
    Off,
    /// A proof of work, in the stage with this name only.
    Fortress,
    ProofOfWork,
    Image,
}

/// The highest level of risk; the lowest is 0.
pub(crate) const RISK_MAX: usize = 3;
/// Bounded, because each request with an Origin is compared with all of them.
const ORIGINS_MAX: usize = 100;

impl Config {
    /// A value of the right type that is not allowed: its name in `[gate]`, and the allowed values.
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
        if !self.shop_url.is_empty() && !is_entry(&self.shop_url) {
            return Some((
                "shop_url",
                "want such as \"https://shop.example/launch\": https (http only to this machine), no query, no port that is the scheme's own; or \"\"",
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

impl RiskConfig {
    /// As [`Config::wrong`].
    fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let levels = &self.levels;
        let rise = levels.windows(2).all(|pair| pair[0] < pair[1]);
        let right = levels.len() == RISK_MAX && rise && levels.first() > Some(&0);
        (!right)
            .then_some(("risk.levels", "want three numbers of points, above 0, each above the one before"))
    }
}

impl LimitsConfig {
    /// The limits for addresses.
    pub fn addresses(&self) -> AddressLimits {
        AddressLimits {
            address_per_second: self.address_per_second,
            address_burst: self.address_burst,
            prefix_per_second: self.prefix_per_second,
            prefix_burst: self.prefix_burst,
            address_connections_max: self.address_connections_max,
            prefix_connections_max: self.prefix_connections_max,
            exempt_addresses: self.exempt_addresses.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
        }
    }

    /// Lowers the limits of connections, so that no address may have more than a quarter, and no
    /// network more than half, of those that may be open. True if a limit was lowered.
    pub fn leave_room(&mut self, open_max: usize) -> bool {
        let before = (self.address_connections_max, self.prefix_connections_max);
        self.address_connections_max = before.0.min((open_max / 4).max(1));
        self.prefix_connections_max = before.1.min((open_max / 2).max(1));
        before != (self.address_connections_max, self.prefix_connections_max)
    }
}

/// The largest factor of a proof of work's difficulty. Its product with the largest `maxnumber`
/// stays below 2^53, up to which JavaScript counts exactly.
const MAXNUMBER_FACTOR_MAX: u64 = 1000;

impl ChallengeConfig {
    /// How long a challenge of this mode is valid.
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
        let right = factors.len() == RISK_MAX + 1 && factors.iter().all(good) && factors.is_sorted();
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
            shop_url: String::new(),
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

impl Default for LimitsConfig {
    fn default() -> Self {
        let of_addresses = AddressLimits::default();
        Self {
            address_per_second: of_addresses.address_per_second,
            address_burst: of_addresses.address_burst,
            prefix_per_second: of_addresses.prefix_per_second,
            prefix_burst: of_addresses.prefix_burst,
            address_connections_max: of_addresses.address_connections_max,
            prefix_connections_max: of_addresses.prefix_connections_max,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        gate: Config,
    }

    #[test]
    fn the_default_file_has_every_default() {
        let file: File = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(file.gate, Config::default());
        let written: toml::Value = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(
            written["gate"],
            toml::Value::try_from(Config::default()).unwrap(),
            "the file lacks a key"
        );
        let wrong = toml::from_str::<File>("[gate]\nshop_listn = \"1.2.3.4:1\"").err().unwrap().to_string();
        assert!(wrong.contains("shop_listn"), "{wrong}");
    }

    #[test]
    fn one_address_or_network_cannot_have_all_connections_of_a_small_machine() {
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
    fn proxy_protocol_together_with_tls_is_refused() {
        let mut config = Config::default();
        config.connections.proxy_protocol = true;
        assert_eq!(config.wrong(), None);
        config.tls.listen = "127.0.0.1:8443".into();
        assert_eq!(config.wrong().map(|(name, _)| name), Some("connections.proxy_protocol"));
    }
}
