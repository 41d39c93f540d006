//! The section `[store.services]`: the contexts of the store as services of their own, each in a
//! process of its own. What one needs of another is a port: by function call where both are in one
//! process, and otherwise over HTTP, on a listener that is for the other contexts only.

mod client;
mod ports;
mod server;

pub(super) use client::Elsewhere;
pub(super) use ports::Offered;
pub(super) use server::{OPEN_MAX, counts, limits, listen, listening};

use data_encoding::BASE64URL_NOPAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use web::{
    metrics::{Metric, Registry},
    secret::{random_bytes, read_or_create_secret, read_secret},
};

/// The header field with the key that all services of an installation share.
const KEY_FIELD: &str = "floodgate-services-key";
/// The number is of the ports' version: processes that differ in it do not understand each other.
const PREFIX: &str = "/ports/1";

/// A part of the store that can be a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Account,
    Catalog,
    Order,
    Payment,
    Inventory,
    /// The shoppers' pages over them.
    Shop,
}

impl Part {
    pub(crate) const ALL: [Self; 6] =
        [Self::Account, Self::Catalog, Self::Order, Self::Payment, Self::Inventory, Self::Shop];

    /// The name of the role.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Catalog => "catalog",
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Shop => "shop",
        }
    }

    /// What a shopper may read of it.
    fn words(self) -> &'static str {
        match self {
            Self::Account => "accounts",
            Self::Catalog => "the catalogue",
            Self::Order => "orders",
            Self::Payment => "payments",
            Self::Inventory => "the stock",
            Self::Shop => "the shop",
        }
    }

    /// Those that it asks.
    fn asks(self) -> &'static [Self] {
        match self {
            Self::Catalog | Self::Payment | Self::Inventory => &[],
            Self::Account => &[Self::Order],
            Self::Order => &[Self::Catalog, Self::Payment, Self::Inventory],
            Self::Shop => &[Self::Account, Self::Catalog, Self::Order, Self::Payment, Self::Inventory],
        }
    }
}

/// Where one of them is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Place {
    /// Of its own pages and its API.
    listen: String,
    /// Where it answers the others.
    ports: String,
}

/// The section `[store.services]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    account: Place,
    catalog: Place,
    order: Place,
    payment: Place,
    inventory: Place,
}

impl Config {
    fn place(&self, part: Part) -> Option<&Place> {
        match part {
            Part::Account => Some(&self.account),
            Part::Catalog => Some(&self.catalog),
            Part::Order => Some(&self.order),
            Part::Payment => Some(&self.payment),
            Part::Inventory => Some(&self.inventory),
            // It listens at `store.listen`, and answers no port.
            Part::Shop => None,
        }
    }

    /// Why the section cannot be used, with the key.
    pub(crate) fn wrong(&self) -> Option<(&'static str, String)> {
        let all = [
            ("services.account", &self.account),
            ("services.catalog", &self.catalog),
            ("services.order", &self.order),
            ("services.payment", &self.payment),
            ("services.inventory", &self.inventory),
        ];
        all.into_iter().find_map(|(key, place)| {
            if !place.listen.is_empty() && place.listen.parse::<SocketAddr>().is_err() {
                let want = "listen: want an address with a port, such as \"127.0.0.1:8101\", or \"\"";
                return Some((key, want.to_owned()));
            }
            if !place.ports.is_empty() && !is_place(&place.ports) {
                let want = "ports: want a host and a port, such as \"127.0.0.1:8201\", or \"\"";
                return Some((key, want.to_owned()));
            }
            None
        })
    }

    /// What is not configured that a process with this part alone needs.
    pub(super) fn lacks(&self, part: Part) -> Option<String> {
        if let Some(Err(want)) = self.answers(part) {
            return Some(want);
        }
        let is_missing = |part: &&Part| self.place(**part).is_some_and(|place| place.ports.is_empty());
        let missing = part.asks().iter().find(is_missing);
        missing.map(|missing| {
            let (name, missing) = (part.name(), missing.name());
            format!("the role `{name}` asks the role `{missing}`: set store.services.{missing}.ports")
        })
    }

    /// Where the pages and the API of this part are; none if that is `store.listen`.
    pub(super) fn listens(&self, part: Part) -> Option<&str> {
        self.place(part).map(|place| &*place.listen)
    }

    /// Where this part answers the others.
    pub(super) fn answers(&self, part: Part) -> Option<Result<SocketAddr, String>> {
        let ports = &self.place(part)?.ports;
        let want = || {
            format!(
                "store.services.{}.ports is {ports:?}: to answer there, want an address with a port",
                part.name()
            )
        };
        Some(ports.parse().map_err(|_| want()))
    }
}

/// A host and a port.
fn is_place(text: &str) -> bool {
    let is_host = |host: &str| {
        let is_name = |host: &str| {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        is_name(host) || in_brackets.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
    };
    text.rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

const KEY_FILE: &str = "services.key";

/// Makes the key that all services of an installation share, unless there is one. The process with
/// the sales does it, so that two services do not make two.
pub(crate) fn make_key(keys: &Path) -> io::Result<()> {
    let made = || Ok(BASE64URL_NOPAD.encode(&random_bytes::<32>()?).into_bytes());
    read_or_create_secret(&keys.join(KEY_FILE), made).map(drop)
}

/// The key that all services of an installation share.
pub(super) fn key(keys: &Path) -> io::Result<HeaderValue> {
    let path = keys.join(KEY_FILE);
    let read = read_secret(&path)?;
    let read = read.trim_ascii_end();
    let is_key = read.len() == 43 && BASE64URL_NOPAD.decode(read).is_ok();
    let key = is_key.then(|| HeaderValue::from_bytes(read).ok()).flatten();
    let mut key =
        key.ok_or_else(|| web::secret::invalid(&path, "it is no key of services: want 43 characters"))?;
    key.set_sensitive(true);
    Ok(key)
}

/// The contexts that are not in this process.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<Arc<Elsewhere>>);

impl Others {
    /// Of those that `config` names, without these of this process.
    /// They close connections after `idle`.
    pub(super) fn new(config: &Config, here: &[Part], key: &HeaderValue, idle: Duration) -> Self {
        let place = |part: Part| {
            let at = &*config.place(part)?.ports;
            let is_asked = here.iter().any(|of| of.asks().contains(&part)) && !here.contains(&part);
            (is_asked && !at.is_empty()).then(|| Arc::new(Elsewhere::new(part, at, key, idle)))
        };
        Self(Part::ALL.into_iter().filter_map(place).collect())
    }

    /// Says what is to be configured if it is not known where this one is.
    pub(super) fn get(&self, part: Part) -> Result<Arc<Elsewhere>, String> {
        let found = self.0.iter().find(|other| other.part() == part).map(Arc::clone);
        found.ok_or_else(|| {
            let name = part.name();
            format!("store.services.{name}.ports: it is not said where the role `{name}` answers")
        })
    }

    /// How many calls there were, and how many had no answer.
    pub(super) fn metrics(&self, into: &mut Registry) {
        if self.0.is_empty() {
            return;
        }
        let mut rows = |name: &str, help, of: fn((u64, u64)) -> u64| {
            let metric = Metric::counter(format!("floodgate_store_calls_{name}total"), help);
            let row =
                |other: &Arc<Elsewhere>| ([("context", other.part().name().to_owned())], of(other.counts()));
            into.values(metric, self.0.iter().map(row).collect::<Vec<_>>());
        };
        rows("", "Calls of a context in another process", |(calls, _)| calls);
        rows("failed_", "Calls of a context in another process that had no answer", |(_, failed)| failed);
    }
}

/// Open files that a process with these parts needs beside its listener and its databases: for
/// those who ask it, and for those whom it asks.
pub(super) fn files(here: &[Part]) -> usize {
    let [part] = here else { return 0 };
    let answers = if *part == Part::Shop { 0 } else { OPEN_MAX };
    answers + part.asks().len() * client::AT_ONCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_place_is_a_host_and_a_port() {
        for good in ["127.0.0.1:1", "catalog:8201", "catalog.shop.internal:65535", "[::1]:8201"] {
            assert!(is_place(good), "{good}");
        }
        for bad in ["", "8201", "catalog", "catalog:", ":8201", "catalog:0", "catalog:65536", "[catalog]:1"] {
            assert!(!is_place(bad), "{bad}");
        }
        for bad in ["http://catalog:8201", "catalog:8201/", "user@catalog:8201", "ca talog:1", "::1:8201"] {
            assert!(!is_place(bad), "{bad}");
        }
    }

    #[test]
    fn each_part_says_what_it_lacks_with_the_key() {
        let read = |text: &str| toml::from_str::<Config>(text).unwrap();
        let none = read("");
        assert_eq!(none.wrong(), None);
        for part in Part::ALL {
            let lacks = none.lacks(part).unwrap();
            assert!(lacks.contains("store.services."), "{lacks}");
        }
        let catalog = read("[catalog]\nports = \"0.0.0.0:8202\"\n");
        assert_eq!(catalog.lacks(Part::Catalog), None, "it asks no other");
        assert!(catalog.lacks(Part::Order).unwrap().contains("store.services.order.ports"));
        // A name can be reached, and not be listened at.
        let named = read("[catalog]\nports = \"catalog:8202\"\n");
        assert_eq!(named.wrong(), None);
        assert!(named.lacks(Part::Catalog).unwrap().contains("want an address with a port"));
        assert_eq!(read("[order]\nlisten = \"here\"\n").wrong().unwrap().0, "services.order");
        assert!(toml::from_str::<Config>("[shop]\nports = \"127.0.0.1:1\"\n").is_err(), "it answers no port");
    }

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        assert!(key(dir.path()).is_err(), "only the process with the sales makes it");
        make_key(dir.path()).unwrap();
        let first = key(dir.path()).unwrap();
        make_key(dir.path()).unwrap();
        assert_eq!(key(dir.path()).unwrap(), first);
        assert!(first.is_sensitive() && !format!("{first:?}").contains(first.to_str().unwrap()));
        let path = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(key(dir.path()).unwrap_err().to_string().contains("services.key"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(key(dir.path()).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn ports_have_names_of_their_own() {
        let names: BTreeSet<&str> = ports::NAMES.iter().copied().collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names.len(), ports::NAMES.len());
    }
}
