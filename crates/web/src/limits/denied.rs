//! Networks that operators have denied. The list is looked up for every request, without a lock. It
//! is changed seldom, and kept in `operators/denied.json` under the data directory, so that it
//! survives a restart.

use crate::{net::Net, orders::OrdersFile};
use arc_swap::ArcSwap;
use contracts::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{io, net::IpAddr, path::Path};
use units::TimeMs;

const VERSION: u32 = 1;
/// The most networks in the list. More are a task for a firewall, which refuses them more cheaply.
pub const DENIED_MAX: usize = 10_000;

/// A denied network, with the time, the operator and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DeniedNetwork")]
pub struct Denied {
    pub network: Net,
    pub since: TimeMs,
    /// The name of the API key.
    pub actor: String,
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    networks: Vec<Denied>,
}

/// The networks that are denied.
#[derive(Debug)]
pub struct DenyList {
    file: OrdersFile,
    standing: ArcSwap<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    networks: Vec<Denied>,
    /// First and last address of each range, in order and without overlap. IPv4 and IPv6 are kept
    /// apart: `::/0` contains no IPv4 address.
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// Why a change was not made.
#[derive(Debug)]
pub enum ChangeError {
    /// The list would have more than [`DENIED_MAX`] networks.
    TooMany,
    NotThere,
    Disk(io::Error),
}

impl DenyList {
    /// Reads the list, if there is one yet.
    pub fn open(data: &Path) -> io::Result<Self> {
        let file = OrdersFile::new(data.join("operators/denied.json"));
        let list = Self { file, standing: ArcSwap::default() };
        list.refresh()?;
        Ok(list)
    }

    /// Loads the list from the file, if the file has changed.
    pub fn refresh(&self) -> io::Result<()> {
        self.file.follow(|bytes| {
            let networks = match bytes {
                None => Vec::new(),
                Some(bytes) => {
                    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
                    if stored.version != VERSION {
                        return Err(format!("version {}, want {VERSION}", stored.version));
                    }
                    stored.networks
                }
            };
            self.standing.store(Standing::new(networks).into());
            Ok(())
        })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.standing.load().contains(address)
    }

    /// The entry that denies an address; of several, the one that was made first.
    pub fn of(&self, address: IpAddr) -> Option<Denied> {
        let standing = self.standing.load();
        standing.networks.iter().find(|denied| denied.network.contains(address)).cloned()
    }

    /// All entries, in the order in which they were made.
    pub fn list(&self) -> Vec<Denied> {
        self.standing.load().networks.clone()
    }

    /// Denies networks, and returns how many of them are new. The denial applies once this returns.
    /// Blocks on the disk.
    pub fn add(&self, networks: &[Net], actor: &Actor, now: TimeMs) -> Result<usize, ChangeError> {
        self.change(|list| {
            let before = list.len();
            for network in networks.iter().map(Net::without_host_bits) {
                if list.iter().any(|denied| denied.network == network) {
                    continue;
                }
                if list.len() == DENIED_MAX {
                    return Err(ChangeError::TooMany);
                }
                let Actor { name: actor, reason } = actor.clone();
                list.push(Denied { network, since: now, actor, reason });
            }
            Ok(list.len() - before)
        })
    }

    /// Removes a network, which must be in the list. Blocks on the disk.
    pub fn remove(&self, network: &Net) -> Result<(), ChangeError> {
        let network = network.without_host_bits();
        self.change(|list| {
            let before = list.len();
            list.retain(|denied| denied.network != network);
            if list.len() < before { Ok(()) } else { Err(ChangeError::NotThere) }
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Denied>) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let mut changed = None;
        self.file.change(
            || {
                let mut networks = self.list();
                changed = Some(change(&mut networks)?);
                let stored = Stored { version: VERSION, networks };
                let text = serde_json::to_vec_pretty(&stored).map_err(io::Error::from)?;
                Ok::<_, ChangeError>((text, Standing::new(stored.networks)))
            },
            |standing| self.standing.store(standing.into()),
        )?;
        changed.ok_or_else(|| ChangeError::Disk(io::Error::other("nothing was changed")))
    }
}

impl From<io::Error> for ChangeError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Standing {
    fn new(networks: Vec<Denied>) -> Self {
        let ranges = |is_v4: bool| {
            let family = networks.iter().filter(|denied| denied.network.is_v4() == is_v4);
            merged(family.map(|denied| denied.network.range()).collect())
        };
        Self { v4: ranges(true), v6: ranges(false), networks }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (ranges, address) = match address.to_canonical() {
            IpAddr::V4(v4) => (&self.v4, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (&self.v6, u128::from(v6)),
        };
        let behind = ranges.partition_point(|(first, _)| *first <= address);
        behind > 0 && address <= ranges[behind - 1].1
    }
}

/// The same addresses as ranges in order that do not touch.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    fn open() -> (tempfile::TempDir, DenyList) {
        let dir = tempfile::tempdir().unwrap();
        let list = DenyList::open(dir.path()).unwrap();
        (dir, list)
    }

    fn nets(texts: &[&str]) -> Vec<Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn boss() -> Actor {
        Actor::new("boss", "bots")
    }

    #[test]
    fn a_deny_list_changed_by_another_process_applies_and_an_unreadable_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [here, there] = [0, 1].map(|_| DenyList::open(dir.path()).unwrap());
        let address: IpAddr = "203.0.113.9".parse().unwrap();
        let actor = Actor::new("ops", "test");
        there.add(&["203.0.113.0/24".parse().unwrap()], &actor, TimeMs(1)).unwrap();
        assert!(!here.contains(address));
        here.refresh().unwrap();
        assert!(here.contains(address));
        crate::secret::write_secret(&dir.path().join("operators/denied.json"), b"{").unwrap();
        assert!(here.refresh().is_err() && here.refresh().is_err());
        assert!(here.contains(address), "the one before stays in force");
        std::fs::remove_file(dir.path().join("operators/denied.json")).unwrap();
        here.refresh().unwrap();
        assert!(!here.contains(address));
    }

    #[test]
    fn a_restart_keeps_the_deny_list_and_its_actors() {
        let (dir, list) = open();
        let added = list.add(&nets(&["10.9.8.7/8", "2001:db8::/32", "10.0.0.0/8"]), &boss(), TimeMs(5));
        assert_eq!(added.unwrap(), 2, "host bits do not make another network");
        let reopened = DenyList::open(dir.path()).unwrap();
        for (list, when) in [(&list, "at once"), (&reopened, "after a restart")] {
            for (address, want) in [
                ("10.255.0.1", true),
                ("::ffff:10.0.0.1", true),
                ("2001:db8:ffff::1", true),
                ("11.0.0.0", false),
                ("9.255.255.255", false),
                ("2001:db9::", false),
            ] {
                assert_eq!(list.contains(address.parse().unwrap()), want, "{address} {when}");
            }
            let denied = list.of("10.1.1.1".parse().unwrap()).unwrap();
            assert_eq!((&*denied.network.to_string(), denied.since), ("10.0.0.0/8", TimeMs(5)), "{when}");
            assert_eq!((&*denied.actor, &*denied.reason), ("boss", "bots"), "{when}");
        }
        reopened.remove(&nets(&["10.0.0.0/8"])[0]).unwrap();
        assert!(matches!(reopened.remove(&nets(&["10.0.0.0/8"])[0]), Err(ChangeError::NotThere)));
        let reopened = DenyList::open(dir.path()).unwrap();
        assert!(!reopened.contains("10.1.1.1".parse().unwrap()));
        assert_eq!(reopened.list().len(), 1);
    }

    #[test]
    fn the_deny_lists_ranges_cover_exactly_its_networks() {
        let mut prng = Prng::new(1);
        for _ in 0..200 {
            let mut random = |bits: u64| match prng.below(2) {
                0 => IpAddr::from((0x0a00_0000 | prng.below(1 << bits) as u32).to_be_bytes()),
                _ => IpAddr::from((0x2001_u128 << 112 | u128::from(prng.below(1 << bits))).to_be_bytes()),
            };
            let addresses: Vec<IpAddr> = (0..300).map(|_| random(12)).collect();
            let networks: Vec<IpAddr> = (0..12).map(|_| random(12)).collect();
            let texts = networks.iter().map(|base| {
                let bits = if base.is_ipv4() { 32 } else { 128 };
                format!("{base}/{}", bits - prng.below(7))
            });
            let networks: Vec<Net> = texts.map(|text| text.parse().unwrap()).collect();
            let denied = |network: &Net| Denied {
                network: network.without_host_bits(),
                since: TimeMs(0),
                actor: String::new(),
                reason: String::new(),
            };
            let standing = Standing::new(networks.iter().map(denied).collect());
            for address in addresses {
                let want = networks.iter().any(|network| network.contains(address));
                assert_eq!(standing.contains(address), want, "{address} in {networks:?}");
            }
        }
    }

    #[test]
    fn more_denied_networks_than_fit_change_nothing() {
        let (_dir, list) = open();
        let many: Vec<Net> =
            (0..=DENIED_MAX as u32).map(|n| Net::from(IpAddr::from((n << 8).to_be_bytes()))).collect();
        assert!(matches!(list.add(&many, &boss(), TimeMs(0)), Err(ChangeError::TooMany)));
        assert!(list.list().is_empty());
        assert_eq!(list.add(&many[1..], &boss(), TimeMs(0)).unwrap(), DENIED_MAX);
        assert_eq!(list.add(&many[1..3], &boss(), TimeMs(0)).unwrap(), 0, "they are in the list already");
    }

    #[test]
    fn a_denial_that_cannot_be_written_does_not_apply() {
        let (dir, list) = open();
        std::fs::write(dir.path().join("operators"), "a file where the directory should be").unwrap();
        let net = nets(&["10.0.0.0/8"]);
        assert!(matches!(list.add(&net, &boss(), TimeMs(0)), Err(ChangeError::Disk(_))));
        assert!(!list.contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_damaged_deny_list_is_refused_rather_than_forgotten() {
        let (dir, list) = open();
        list.add(&nets(&["10.0.0.0/8"]), &boss(), TimeMs(0)).unwrap();
        for wrong in ["", "{}", r#"{"version":2,"networks":[]}"#, r#"{"version":1,"networks":[1]}"#] {
            std::fs::write(dir.path().join("operators/denied.json"), wrong).unwrap();
            let why = DenyList::open(dir.path()).unwrap_err().to_string();
            assert!(why.contains("operators/denied.json"), "{why}");
        }
    }
}
