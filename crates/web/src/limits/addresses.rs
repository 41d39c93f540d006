//! The limits of addresses and their networks, for all listeners.

use super::{Buckets, DenyList, REASONS_MAX, Reason, Refusals, Refused, Share, Shares};
use crate::config::AddressLimits;
use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use units::TimeMs;

/// Slots of the limits of addresses: 1 MiB. There are fewer networks than addresses.
const LIMIT_SLOTS: usize = 1 << 17;
const PREFIX_SLOTS: usize = 1 << 15;
/// What is the same for all callers is answered from memory, and costs a tenth of an attempt. So
/// ten times as many such requests are let in.
const READS_FACTOR: u32 = 10;
/// The most connections for whose addresses there is room from the start: 2 MiB.
const CONNECTION_KEYS_MAX: usize = 1 << 16;
/// Slots of refused addresses: 3 MiB.
const REFUSAL_SLOTS: usize = 1 << 17;

/// Too many requests were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    pub reason: Reason,
    /// Seconds until the next may be sent.
    pub wait_seconds: u32,
}

/// The limits of addresses, and the addresses that were refused by them.
#[derive(Debug)]
pub struct AddressFilter {
    config: AddressLimits,
    /// Loopback is exempt too.
    exempts_loopback: bool,
    addresses: Buckets,
    prefixes: Buckets,
    reads: Buckets,
    prefix_reads: Buckets,
    connections: Arc<Shares>,
    prefix_connections: Arc<Shares>,
    refused: Refusals,
    counts: [AtomicU64; REASONS_MAX],
    denied: DenyList,
    hasher: RandomState,
}

impl AddressFilter {
    /// A filter with room for `open_max` connections. Loopback has no limits if `exempts_loopback`.
    pub fn new(config: &AddressLimits, open_max: usize, exempts_loopback: bool, denied: DenyList) -> Self {
        let shares = || Arc::new(Shares::with_room(open_max.min(CONNECTION_KEYS_MAX)));
        Self {
            exempts_loopback,
            addresses: Buckets::new(config.address_per_second, config.address_burst, LIMIT_SLOTS),
            prefixes: Buckets::new(config.prefix_per_second, config.prefix_burst, PREFIX_SLOTS),
            reads: Buckets::new(
                config.address_per_second.saturating_mul(READS_FACTOR),
                config.address_burst.saturating_mul(READS_FACTOR),
                LIMIT_SLOTS,
            ),
            prefix_reads: Buckets::new(
                config.prefix_per_second.saturating_mul(READS_FACTOR),
                config.prefix_burst.saturating_mul(READS_FACTOR),
                PREFIX_SLOTS,
            ),
            connections: shares(),
            prefix_connections: shares(),
            refused: Refusals::new(REFUSAL_SLOTS),
            counts: Default::default(),
            denied,
            hasher: RandomState::new(),
            config: config.clone(),
        }
    }

    /// Whether an address has no limits.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        (self.exempts_loopback && address.to_canonical().is_loopback())
            || self.config.exempt_addresses.iter().any(|net| net.contains(address))
    }

    /// Whether an address is one of our balancers, which forward the connections of clients.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(address))
    }

    /// Whether an operator has denied an address. Exempt addresses and trusted proxies are never
    /// denied: that would deny more clients than was meant.
    pub fn is_denied(&self, address: IpAddr) -> bool {
        self.denied.contains(address) && !self.is_trusted(address) && !self.is_exempt(address)
    }

    /// One household has a /64 (RFC 6177); single IPv6 addresses are free.
    pub fn address_key(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.hasher.hash_one(u32::from(v4)),
            IpAddr::V6(v6) => self.hasher.hash_one(u128::from(v6) >> 64),
        }
    }

    /// The largest network that a provider gives to one customer, and the smallest that is routed
    /// (RFC 6177, RFC 7454).
    pub(crate) fn prefix_key(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.hasher.hash_one((4u8, u32::from(v4) >> 8)),
            IpAddr::V6(v6) => self.hasher.hash_one((6u8, u128::from(v6) >> 80)),
        }
    }

    /// Counts one more connection of an address and of its network, until the shares are dropped.
    /// `Ok(None)` if the address has no limit.
    pub fn connection(&self, peer: IpAddr, now: TimeMs) -> Result<Option<[Share; 2]>, Reason> {
        if self.is_trusted(peer) || self.is_exempt(peer) {
            return Ok(None);
        }
        if self.denied.contains(peer) {
            self.note(peer, Reason::DENIED, now);
            return Err(Reason::DENIED);
        }
        let address = self.connections.take(self.address_key(peer), self.config.address_connections_max);
        let network =
            || self.prefix_connections.take(self.prefix_key(peer), self.config.prefix_connections_max);
        let shares = address.and_then(|address| Some([address, network()?]));
        if shares.is_none() {
            self.note(peer, Reason::CONNECTIONS, now);
        }
        shares.map(Some).ok_or(Reason::CONNECTIONS)
    }

    /// Lets an address send a request, or returns when it may again. The request counts `times`
    /// times.
    pub fn ask(&self, address: IpAddr, times: u64, now: TimeMs) -> Result<(), TooMany> {
        if self.is_exempt(address) {
            return Ok(());
        }
        let too_many = |reason| move |wait_seconds| TooMany { reason, wait_seconds };
        self.addresses
            .take_several(self.address_key(address), times, now.0)
            .map_err(too_many(Reason::ADDRESS_RATE))
            .and_then(|()| {
                let taken = self.prefixes.take(self.prefix_key(address), now.0);
                taken.map_err(too_many(Reason::PREFIX_RATE))
            })
            .inspect_err(|too_many| self.note(address, too_many.reason, now))
    }

    /// Lets an address send a request of any kind, or returns when it may again. [`Self::ask`]
    /// counts those that cost more.
    pub fn ask_any(&self, address: IpAddr, now: TimeMs) -> Result<(), TooMany> {
        if self.is_exempt(address) {
            return Ok(());
        }
        let too_many = |reason| move |wait_seconds| TooMany { reason, wait_seconds };
        self.reads
            .take(self.address_key(address), now.0)
            .map_err(too_many(Reason::ADDRESS_RATE))
            .and_then(|()| {
                let taken = self.prefix_reads.take(self.prefix_key(address), now.0);
                taken.map_err(too_many(Reason::PREFIX_RATE))
            })
            .inspect_err(|too_many| self.note(address, too_many.reason, now))
    }

    /// The networks that operators have denied.
    pub fn denied(&self) -> &DenyList {
        &self.denied
    }

    /// Notes that an address was refused, and counts it.
    pub fn note(&self, address: IpAddr, reason: Reason, now: TimeMs) {
        self.count(reason);
        self.refused.note(self.address_key(address), reason, now.0);
    }

    /// Counts a refusal without recording an address.
    pub fn count(&self, reason: Reason) {
        self.counts[usize::from(reason.at)].fetch_add(1, Relaxed);
    }

    /// How often each reason occurred since the start.
    pub fn count_of(&self, reason: Reason) -> u64 {
        self.counts[usize::from(reason.at)].load(Relaxed)
    }

    /// Why an address was refused, and how many connections it has.
    pub fn refused(&self, address: IpAddr) -> (Option<Refused>, usize) {
        let key = self.address_key(address);
        (self.refused.of(key), self.connections.of(key))
    }

    /// Whether an address was refused in the last few seconds.
    pub fn was_refused_within(&self, address: IpAddr, seconds: u64, now: TimeMs) -> bool {
        let last = self.refused.of(self.address_key(address)).map(|refused| refused.last_seconds);
        last.is_some_and(|last| last + seconds > now.0 / 1000)
    }

    /// The client's address: the peer, or the address that a trusted proxy names. `forwarded` are
    /// the X-Forwarded-For fields, last to first.
    pub fn believed_address<'a>(&self, peer: IpAddr, forwarded: impl Iterator<Item = &'a [u8]>) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        // Read from the right, where our proxies wrote. A value that is not an address was not
        // written by one of them, and everything to its left came from the client.
        let mut believed = peer;
        for field in forwarded {
            for named in std::str::from_utf8(field).unwrap_or("?").rsplit(',') {
                let Some(address) = forwarded_address(named.trim()) else { return believed };
                believed = address;
                if !self.is_trusted(address) {
                    return address;
                }
            }
        }
        believed
    }
}

/// `203.0.113.9`, `203.0.113.9:5100`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5100`.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_000_000);

    fn filter(change: impl FnOnce(&mut AddressLimits)) -> AddressFilter {
        let mut config = AddressLimits::default();
        change(&mut config);
        filter_of(&config, false)
    }

    fn filter_of(config: &AddressLimits, exempts_loopback: bool) -> AddressFilter {
        let dir = tempfile::tempdir().unwrap();
        AddressFilter::new(config, 100, exempts_loopback, DenyList::open(dir.path()).unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_refusal_reason_has_its_own_index() {
        for (at, reason) in Reason::OWN.into_iter().enumerate() {
            assert_eq!(usize::from(reason.at), at, "{}", reason.label);
        }
    }

    #[test]
    fn a_network_of_many_addresses_has_a_limit_of_its_own() {
        let filter = filter(|config| (config.prefix_per_second, config.prefix_burst) = (1, 100));
        let asked = |n: u8| filter.ask(address(&format!("203.0.113.{n}")), 1, NOW);
        assert!((0..100).all(|n| asked(n).is_ok()));
        let too_many = asked(100).unwrap_err();
        assert_eq!(too_many, TooMany { reason: Reason::PREFIX_RATE, wait_seconds: 1 });
        assert!(filter.ask(address("203.0.114.1"), 1, NOW).is_ok(), "the network beside it");
        let (known, _) = filter.refused(address("203.0.113.100"));
        assert_eq!(known.unwrap().counts[usize::from(Reason::PREFIX_RATE.at)], 1);
        assert_eq!(filter.count_of(Reason::PREFIX_RATE), 1);
        // A /48 is one customer, however its networks are numbered.
        let six = |n: u16| filter.ask(address(&format!("2001:db8:7:{n:x}::1")), 1, NOW);
        assert!((0..100).all(|n| six(n).is_ok()));
        assert_eq!(six(100).unwrap_err().reason, Reason::PREFIX_RATE);
    }

    #[test]
    fn an_address_cannot_exceed_its_connection_limit() {
        let filter = filter(|config| {
            (config.address_connections_max, config.prefix_connections_max) = (2, 5);
            config.exempt_addresses = vec!["198.51.100.0/24".parse().unwrap()];
            config.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
        });
        let peer = address("203.0.113.9");
        let held: Vec<_> = (0..2).map(|_| filter.connection(peer, NOW).unwrap().unwrap()).collect();
        assert_eq!(filter.connection(peer, NOW).unwrap_err(), Reason::CONNECTIONS);
        let (known, connections) = filter.refused(peer);
        assert_eq!((known.unwrap().counts[usize::from(Reason::CONNECTIONS.at)], connections), (1, 2));
        assert!(filter.connection(address("203.0.113.10"), NOW).is_ok(), "another address");
        for exempt in ["198.51.100.7", "10.0.0.1"] {
            assert!((0..10).all(|_| filter.connection(address(exempt), NOW).unwrap().is_none()));
        }
        drop(held);
        let network = |n: u8| filter.connection(address(&format!("192.0.2.{n}")), NOW);
        let held: Vec<_> = (0..5).map(|n| network(n).unwrap()).collect();
        assert_eq!(network(5).unwrap_err(), Reason::CONNECTIONS, "a network of many addresses");
        drop(held);
        assert!(filter.connection(peer, NOW).is_ok());
        assert_eq!(filter.refused(peer).1, 0);
    }

    #[test]
    fn loopback_is_exempt_only_if_configured() {
        let strict = AddressLimits { address_per_second: 1, address_burst: 1, ..AddressLimits::default() };
        let twice = |exempts_loopback| {
            let filter = filter_of(&strict, exempts_loopback);
            (0..2).filter(|_| filter.ask(address("::ffff:127.0.0.1"), 1, NOW).is_ok()).count()
        };
        assert_eq!((twice(true), twice(false)), (2, 1));
    }
}
