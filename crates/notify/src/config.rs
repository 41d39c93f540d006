//! The `[notify]` section of the configuration. Its commented default is the manual.

use crate::{
    push::{IpNet, Settings},
    quotas::Limits,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Every default, with comments. `floodgate config` prints it.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// The smallest and largest value of each number in the section, by its name.
pub const RANGES: &[(&str, i64, i64)] = &[
    ("open_max", 1, 100_000),
    ("in_flight_max", 1, 100_000),
    ("attempt_ms", 100, 600_000),
    ("tenant_topics_max", 0, 1000),
    ("tenant_subscriptions_max", 0, 10_000),
    ("tenant_schedules_max", 0, 1000),
    ("key_events_per_second", 0, 1_000_000),
    ("key_bytes_per_second", 0, 1 << 30),
    ("key_pulls_max", 0, 100_000),
    ("key_streams_max", 0, 100_000),
    ("streams_max", 1, 100_000),
];

/// Test deliveries and looks for names, at the most.
const TESTS_MAX: usize = 16;
/// Those who look for names apart from each other: deliveries and tests, of operators and of
/// tenants.
const LOOKERS: usize = 4;
const LOOKS_MAX: usize = 64;
/// Files that a look for a name has open at once, on the average over many: two sockets, or a file
/// that says where to look.
const FILES_OF_A_LOOK: usize = 2;

/// The section `[notify]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: String,
    pub open_max: usize,
    pub in_flight_max: usize,
    pub allowed_networks: Vec<String>,
    pub tenant_networks: Vec<String>,
    pub http_allowed: bool,
    pub roots_file: String,
    pub attempt_ms: u64,
    pub tenant_topics_max: usize,
    pub tenant_subscriptions_max: usize,
    pub tenant_schedules_max: usize,
    pub key_events_per_second: u64,
    pub key_bytes_per_second: u64,
    pub key_pulls_max: usize,
    pub key_streams_max: usize,
    pub streams_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8082".into(),
            open_max: 512,
            in_flight_max: 1024,
            allowed_networks: Vec::new(),
            tenant_networks: Vec::new(),
            http_allowed: false,
            roots_file: String::new(),
            attempt_ms: 15_000,
            tenant_topics_max: 100,
            tenant_subscriptions_max: 100,
            tenant_schedules_max: 20,
            key_events_per_second: 1000,
            key_bytes_per_second: 4 << 20,
            key_pulls_max: 32,
            key_streams_max: 16,
            streams_max: 128,
        }
    }
}

impl Config {
    /// The listener's address, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// A value of the right type that is not allowed: its name in `[notify]`, and the allowed
    /// values.
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        if !self.listen.is_empty() && self.address().is_none() {
            return Some((
                "listen",
                "want an address and a port, such as \"127.0.0.1:8082\", or \"\" for none",
            ));
        }
        let is_network = |text: &String| text.parse::<IpNet>().is_ok();
        for (name, networks) in
            [("allowed_networks", &self.allowed_networks), ("tenant_networks", &self.tenant_networks)]
        {
            if !networks.iter().all(is_network) {
                return Some((name, "want networks such as \"10.1.0.0/16\""));
            }
        }
        None
    }

    /// The limits of tenants and their keys.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            topics_max: self.tenant_topics_max,
            subscriptions_max: self.tenant_subscriptions_max,
            schedules_max: self.tenant_schedules_max,
            events_per_second: self.key_events_per_second,
            bytes_per_second: self.key_bytes_per_second,
            pulls_max: self.key_pulls_max,
            streams_max: self.key_streams_max,
        }
    }

    /// Streams that may be open at once. Each has a connection: half of those are for requests.
    pub(crate) fn streams(&self) -> usize {
        self.streams_max.min(self.open_max / 2).max(1)
    }

    /// Test deliveries at once, and looks for names at once: both are few beside the deliveries,
    /// however few those may be.
    pub(crate) fn tests_max(&self) -> usize {
        self.in_flight_max.div_ceil(8).min(TESTS_MAX)
    }

    fn looks_max(&self) -> usize {
        self.in_flight_max.div_ceil(16 * LOOKERS).min(LOOKS_MAX / LOOKERS)
    }

    /// Connections to endpoints that are open at once: of operators' and tenants' deliveries, with
    /// those that are kept, and of tests.
    fn connections_max(&self) -> usize {
        self.in_flight_max + self.tests_max()
    }

    /// Files that all this may have open at once.
    pub fn files_max(&self) -> usize {
        self.open_max + self.connections_max() + FILES_OF_A_LOOK * LOOKERS * self.looks_max()
    }

    /// Lowers the limits until no more than so many files are open, as far as that is possible:
    /// half are for publishers.
    pub fn fit(&mut self, files_max: usize) {
        if self.files_max() <= files_max {
            return;
        }
        self.open_max = self.open_max.min(files_max / 2).max(1);
        while self.in_flight_max > 1 && self.files_max() > files_max {
            self.in_flight_max -= (self.in_flight_max / 64).max(1);
        }
        // Each of those who look for names has one look, however few files there are.
        let over = self.files_max().saturating_sub(files_max);
        self.open_max = self.open_max.saturating_sub(over).max(1);
    }

    /// How messages are delivered.
    pub fn push(&self) -> Settings {
        let defaults = Settings::default();
        Settings {
            connect_ms: defaults.connect_ms.min(self.attempt_ms),
            total_ms: self.attempt_ms,
            connections_max: self.connections_max().min(65_536),
            looks_max: self.looks_max(),
            // A subscription has its own limit, so that no attempt waits for a connection.
            connections_each_max: self.in_flight_max.min(65_536),
            allowed_networks: networks(&self.allowed_networks),
            http_allowed: self.http_allowed,
            roots: (!self.roots_file.is_empty()).then(|| self.roots_file.clone().into()),
            ..defaults
        }
    }

    /// How messages are delivered to the endpoints of tenants: they may not know the network.
    pub fn push_of_tenants(&self) -> Settings {
        let allowed_networks = networks(&self.tenant_networks);
        Settings { allowed_networks, names_addresses: false, ..self.push() }
    }
}

fn networks(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_default_is_the_default() {
        let table: toml::Table = toml::from_str(DEFAULT_TOML).unwrap();
        let section: Config = table["notify"].clone().try_into().unwrap();
        assert_eq!(section, Config::default());
        assert_eq!(section.wrong(), None);
        for (name, min, max) in RANGES {
            let value = table["notify"][*name].as_integer().unwrap();
            assert!((*min..=*max).contains(&value), "{name}");
        }
    }

    #[test]
    fn all_that_is_open_at_once_fits_into_the_files_that_there_are() {
        let default = Config::default();
        // Publishers, deliveries with those that are kept, tests, and two files for each look.
        assert_eq!(default.files_max(), 512 + 1024 + 16 + 2 * 64);
        for files_max in (16..3000).chain([20_000, 65_536]) {
            let mut config = Config::default();
            config.fit(files_max);
            assert!(config.files_max() <= files_max, "{files_max}: {config:?}");
            assert!(config.open_max > 0 && config.in_flight_max > 0);
            // Hardly more is given up than must be: a look less of each has eight files less.
            let is_whole = config.in_flight_max == default.in_flight_max;
            let step = files_max / 32 + FILES_OF_A_LOOK * LOOKERS;
            assert!(is_whole || config.files_max() + step > files_max, "{files_max}");
        }
        let mut config = Config::default();
        config.fit(10_000);
        assert_eq!(config, default);
    }

    #[test]
    fn values_that_cannot_be_meant_are_named() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.wrong().map(|(name, _)| name)
        };
        assert_eq!(wrong(|config| config.listen.clear()), None);
        assert_eq!(wrong(|config| config.listen = "8082".into()), Some("listen"));
        assert_eq!(wrong(|config| config.allowed_networks = vec!["10.1".into()]), Some("allowed_networks"));
    }
}
