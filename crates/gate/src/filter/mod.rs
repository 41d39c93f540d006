//! Who may ask at all: how often, over how many connections, and why not. It sees addresses, keyed hashes of shoppers and times,
//! and no HTTP. What it keeps of who asks has a fixed size, whatever a crowd sends; what it counts of connections goes with them.

mod buckets;
mod denied;
mod refusals;
mod risk;
mod shares;

use crate::config::{LimitsConfig, RiskConfig};
use buckets::Buckets;
use contracts::{IneligibleBy, ShopperKey};
pub use denied::DenyList;
pub(crate) use denied::{ChangeError, DENIED_MAX, Denied};
pub(crate) use refusals::Known;
use refusals::Refusals;
use risk::Risks;
pub(crate) use risk::{Risk, Signal};
pub(crate) use shares::{Share, Shares};
use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use units::TimeMs;

/// Slots of the limits of addresses and shoppers: 1 MiB each. There are fewer networks than addresses.
const LIMIT_SLOTS: usize = 1 << 17;
const PREFIX_SLOTS: usize = 1 << 15;
/// Connections for whose owners there is room from the start: 2 MiB at the most.
const CONNECTION_KEYS_MAX: usize = 1 << 16;
/// Slots of those who were refused: 3 MiB each.
const REFUSAL_SLOTS: usize = 1 << 17;
/// Slots of those who took challenges or passes: 5 MiB.
const RISK_SLOTS: usize = 1 << 17;

/// Each change of a reservation is an entry in a log that nothing trims: who changes their mind ten times may do so again every
/// ten seconds.
const RESERVATION_SECONDS: u32 = 10;
const RESERVATION_BURST: u32 = 10;

/// Why the gate refused somebody: before their question reached a sale, or by a rule of the sale that the gate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Denied,
    Connections,
    AddressRate,
    PrefixRate,
    ShopperRate,
    RoundKey,
    Pass,
    Token,
    Challenge,
    Risk,
    DenyList,
    Tier,
}

/// Of shoppers alone: nothing is held against the address from which they ask.
impl From<IneligibleBy> for Reason {
    fn from(by: IneligibleBy) -> Self {
        match by {
            IneligibleBy::DenyList => Self::DenyList,
            IneligibleBy::Tier => Self::Tier,
        }
    }
}

impl Reason {
    pub(crate) const ALL: [Self; 12] = [
        Self::Denied,
        Self::Connections,
        Self::AddressRate,
        Self::PrefixRate,
        Self::ShopperRate,
        Self::RoundKey,
        Self::Pass,
        Self::Token,
        Self::Challenge,
        Self::Risk,
        Self::DenyList,
        Self::Tier,
    ];

    /// In metrics and in the API.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Connections => "connections",
            Self::AddressRate => "address_rate",
            Self::PrefixRate => "prefix_rate",
            Self::ShopperRate => "shopper_rate",
            Self::RoundKey => "round_key",
            Self::Pass => "pass",
            Self::Token => "token",
            Self::Challenge => "challenge",
            Self::Risk => "risk",
            Self::DenyList => "deny_list",
            Self::Tier => "tier",
        }
    }

    /// What happened, and what an operator can do about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Denied => {
                "the address is in a network that an operator has denied; GET /api/v1/admin/denied-networks says who and why, DELETE \
                 lets it in again"
            }
            Self::Connections => {
                "more connections than gate.limits.address_connections_max, or its network than prefix_connections_max; many \
                 people behind one address: raise it, or name the address in exempt_addresses; a balancer: name it in \
                 trusted_proxies"
            }
            Self::AddressRate => {
                "more requests than gate.limits.address_per_second; many people behind one address: raise it, or name the address in \
                 exempt_addresses; a balancer: name it in trusted_proxies"
            }
            Self::PrefixRate => {
                "the network (a /24, or a /48 of IPv6), with all who share it, sent more requests than \
                 gate.limits.prefix_per_second; many people in it: raise it, or name the network in exempt_addresses"
            }
            Self::ShopperRate => {
                "more attempts than gate.limits.shopper_per_second, or more changes of a reservation than one every 10 s"
            }
            Self::RoundKey => {
                "an attempts_url that no open round has: guessed, kept from another round, or too early"
            }
            Self::Pass => "no pass, or one that is expired, forged or of another sale",
            Self::Token => "no shopper token, or one that is expired, forged or of another issuer",
            Self::Challenge => {
                "a solution of the challenge that is wrong, expired, used before or another shopper's"
            }
            Self::Risk => {
                "no pass for an address that takes them like a machine (gate.risk.refuse_at); it fades; if it is a server of the shop, name \
                 it in exempt_addresses"
            }
            Self::DenyList => {
                "the shopper is on a sale's deny list; the sale's log says who put it there and why; PUT \
                 /api/v1/admin/sales/{sale}/denylist without them lets them in again"
            }
            Self::Tier => {
                "the shopper's pass is of a lower tier than the sale is for (eligibility in its document); the shop's token says the tier"
            }
        }
    }
}

/// What follows from a level of risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RiskEffect {
    /// A challenge was made harder.
    HarderChallenge,
    /// A request counted for more than one.
    Slowed,
    PassRefused,
}

impl RiskEffect {
    const ALL: [Self; 3] = [Self::HarderChallenge, Self::Slowed, Self::PassRefused];

    fn label(self) -> &'static str {
        match self {
            Self::HarderChallenge => "harder_challenge",
            Self::Slowed => "slowed",
            Self::PassRefused => "pass_refused",
        }
    }
}

/// Too much was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) reason: Reason,
    /// When it will be less.
    pub(crate) wait_seconds: u32,
}

/// The limits, and who met them.
#[derive(Debug)]
pub(crate) struct Filter {
    config: LimitsConfig,
    /// Loopback is exempt too.
    is_demo: bool,
    addresses: Buckets,
    prefixes: Buckets,
    shoppers: Buckets,
    reservations: Buckets,
    connections: Arc<Shares>,
    prefix_connections: Arc<Shares>,
    refused_addresses: Refusals,
    refused_shoppers: Refusals,
    /// By a rule of a sale: those on a list of millions, who ask all the time, make nobody else forgotten.
    ruled_out: Refusals,
    refused: [AtomicU64; Reason::ALL.len()],
    risks: Risks,
    /// What is decided of risks is counted, and does not happen.
    risk_dry_run: bool,
    risk_effects: [AtomicU64; RiskEffect::ALL.len()],
    pub(crate) denied: DenyList,
    hasher: RandomState,
}

impl Filter {
    pub(crate) fn new(
        config: &LimitsConfig,
        risk: &RiskConfig,
        open_max: usize,
        is_demo: bool,
        denied: DenyList,
    ) -> Self {
        let shares = || Arc::new(Shares::with_room(open_max.min(CONNECTION_KEYS_MAX)));
        Self {
            is_demo,
            addresses: Buckets::new(config.address_per_second, config.address_burst, LIMIT_SLOTS),
            prefixes: Buckets::new(config.prefix_per_second, config.prefix_burst, PREFIX_SLOTS),
            shoppers: Buckets::new(config.shopper_per_second, config.shopper_burst, LIMIT_SLOTS),
            reservations: Buckets::slow(RESERVATION_SECONDS, RESERVATION_BURST, LIMIT_SLOTS),
            connections: shares(),
            prefix_connections: shares(),
            refused_addresses: Refusals::new(REFUSAL_SLOTS),
            refused_shoppers: Refusals::new(REFUSAL_SLOTS),
            ruled_out: Refusals::new(REFUSAL_SLOTS),
            refused: Default::default(),
            risks: Risks::new(risk, RISK_SLOTS),
            risk_dry_run: risk.dry_run,
            risk_effects: Default::default(),
            denied,
            hasher: RandomState::new(),
            config: config.clone(),
        }
    }

    /// Whether an address has no limits.
    pub(crate) fn is_exempt(&self, address: IpAddr) -> bool {
        (self.is_demo && address.to_canonical().is_loopback())
            || self.config.exempt_addresses.iter().any(|net| net.contains(address))
    }

    /// Whether an address is a balancer of ours, which speaks for others.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(address))
    }

    /// Whether an operator has shut an address out. What was said to have no limits, or to speak for others, is not: that would shut
    /// out more than was meant.
    pub(crate) fn is_denied(&self, address: IpAddr) -> bool {
        self.denied.contains(address) && !self.is_trusted(address) && !self.is_exempt(address)
    }

    /// One household has a /64 (RFC 6177); single IPv6 addresses are free.
    pub(crate) fn address_key(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.hasher.hash_one(u32::from(v4)),
            IpAddr::V6(v6) => self.hasher.hash_one(u128::from(v6) >> 64),
        }
    }

    /// What one customer of a provider may have at the most, and the smallest network that is routed (RFC 6177, RFC 7454).
    fn prefix_key(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.hasher.hash_one((4u8, u32::from(v4) >> 8)),
            IpAddr::V6(v6) => self.hasher.hash_one((6u8, u128::from(v6) >> 80)),
        }
    }

    /// Lets an address, and its network, have one more connection, until the shares are dropped. `Ok(None)` if it has no limit.
    pub(crate) fn connection(&self, peer: IpAddr, now: TimeMs) -> Result<Option<[Share; 2]>, Reason> {
        if self.is_trusted(peer) || self.is_exempt(peer) {
            return Ok(None);
        }
        if self.denied.contains(peer) {
            self.note_address(peer, Reason::Denied, now);
            return Err(Reason::Denied);
        }
        let address = self.connections.take(self.address_key(peer), self.config.address_connections_max);
        let network =
            || self.prefix_connections.take(self.prefix_key(peer), self.config.prefix_connections_max);
        let shares = address.and_then(|address| Some([address, network()?]));
        if shares.is_none() {
            self.note_address(peer, Reason::Connections, now);
        }
        shares.map(Some).ok_or(Reason::Connections)
    }

    /// Lets an address ask, or says when it may again. It counts so many `times`.
    pub(crate) fn address(&self, address: IpAddr, times: u64, now: TimeMs) -> Result<(), TooMany> {
        if self.is_exempt(address) {
            return Ok(());
        }
        let too_many = |reason| move |wait_seconds| TooMany { reason, wait_seconds };
        let key = self.address_key(address);
        let risk = if self.is_trusted(address) { Risk::default() } else { self.risks.of(key, now.0) };
        let level = self.effect(RiskEffect::Slowed, risk.own_level);
        self.addresses
            .take_several(key, times * (1 + level as u64), now.0)
            .map_err(too_many(Reason::AddressRate))
            .and_then(|()| {
                let taken = self.prefixes.take(self.prefix_key(address), now.0);
                taken.map_err(too_many(Reason::PrefixRate))
            })
            .inspect_err(|too_many| self.note_address(address, too_many.reason, now))
    }

    /// The key of an address of which risks are kept.
    fn risk_key(&self, address: IpAddr) -> Option<u64> {
        (!self.is_exempt(address) && !self.is_trusted(address)).then(|| self.address_key(address))
    }

    /// Notes a request for a challenge or a pass.
    pub(crate) fn asked(&self, address: IpAddr, is_bare: bool, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.asked(key, is_bare, now.0);
        }
    }

    /// Notes that a pass is asked for. Seconds to wait for one, if the address looks too much like a machine.
    pub(crate) fn asked_for_pass(&self, address: IpAddr, is_bare: bool, now: TimeMs) -> Option<u32> {
        let key = self.risk_key(address)?;
        let refused = || self.risks.of(key, now.0).refused_seconds;
        // A refusal does not feed itself: who is refused gets no more points.
        if refused().is_none() {
            self.risks.asked(key, is_bare, now.0);
            self.risks.asked_for_pass(key, now.0);
        }
        Some(self.effect(RiskEffect::PassRefused, refused().unwrap_or(0))).filter(|seconds| *seconds > 0)
    }

    /// Notes that a proof of work was good.
    pub(crate) fn solved(&self, address: IpAddr, too_fast: bool, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.solved(key, too_fast, now.0);
        }
    }

    /// Notes that a shopper was given a pass.
    pub(crate) fn gave_pass(&self, address: IpAddr, shopper: ShopperKey, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.gave_pass(key, self.hasher.hash_one(shopper.low_bits()), now.0);
        }
    }

    /// The level of risk for which a challenge is to be made.
    pub(crate) fn challenge_level(&self, address: IpAddr, now: TimeMs) -> usize {
        self.effect(RiskEffect::HarderChallenge, self.known_risk(address, now).level)
    }

    /// What an address looks like.
    pub(crate) fn known_risk(&self, address: IpAddr, now: TimeMs) -> Risk {
        self.risk_key(address).map_or_else(Risk::default, |key| self.risks.of(key, now.0))
    }

    /// Counts an effect, if there is one, and says how much of it happens.
    fn effect<T: Default + PartialEq>(&self, effect: RiskEffect, much: T) -> T {
        if much == T::default() {
            return much;
        }
        self.risk_effects[effect as usize].fetch_add(1, Relaxed);
        if self.risk_dry_run { T::default() } else { much }
    }

    /// How often each sign of a script was seen, and each effect decided, since the start.
    pub(crate) fn risks(
        &self,
    ) -> (impl Iterator<Item = (&'static str, u64)>, impl Iterator<Item = (&'static str, u64)>) {
        let counts = self.risk_effects.iter().map(|count| count.load(Relaxed));
        (self.risks.seen(), RiskEffect::ALL.iter().map(|effect| effect.label()).zip(counts))
    }

    /// Lets a shopper attempt, or says when they may again.
    pub(crate) fn shopper(&self, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        self.of_shopper(&self.shoppers, shopper, now)
    }

    /// Lets a shopper make or give up a reservation, or says when they may again.
    pub(crate) fn reservation(&self, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        self.of_shopper(&self.reservations, shopper, now)
    }

    fn of_shopper(&self, buckets: &Buckets, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        buckets.take(shopper.low_bits(), now.0).map_err(|wait_seconds| {
            self.note_shopper(shopper, Reason::ShopperRate, now);
            TooMany { reason: Reason::ShopperRate, wait_seconds }
        })
    }

    /// Notes that an address was refused, and counts it.
    pub(crate) fn note_address(&self, address: IpAddr, reason: Reason, now: TimeMs) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
        self.refused_addresses.note(self.address_key(address), reason, now.0);
    }

    /// Notes that a shopper was refused. It is counted here only if no address is named with it.
    pub(crate) fn note_shopper(&self, shopper: ShopperKey, reason: Reason, now: TimeMs) {
        if let Reason::ShopperRate | Reason::DenyList | Reason::Tier = reason {
            self.refused[reason as usize].fetch_add(1, Relaxed);
        }
        let table = match reason {
            Reason::DenyList | Reason::Tier => &self.ruled_out,
            _ => &self.refused_shoppers,
        };
        table.note(shopper.low_bits(), reason, now.0);
    }

    /// Why an address was refused, and how many connections it has.
    pub(crate) fn known_address(&self, address: IpAddr) -> (Option<Known>, usize) {
        let key = self.address_key(address);
        (self.refused_addresses.of(key), self.connections.of(key))
    }

    /// Whether an address was refused something in the last few seconds.
    pub(crate) fn was_refused_within(&self, address: IpAddr, seconds: u64, now: TimeMs) -> bool {
        let last = self.refused_addresses.of(self.address_key(address)).map(|known| known.last_seconds);
        last.is_some_and(|last| last + seconds > now.0 / 1000)
    }

    /// Why a shopper was refused.
    pub(crate) fn known_shopper(&self, shopper: ShopperKey) -> Option<Known> {
        let key = shopper.low_bits();
        match (self.refused_shoppers.of(key), self.ruled_out.of(key)) {
            (Some(here), Some(there)) => Some(here.and(there)),
            (here, there) => here.or(there),
        }
    }

    /// How often each reason was met since the start.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.iter().zip(&self.refused).map(|(reason, count)| (reason.label(), count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_000_000);

    fn filter(change: impl FnOnce(&mut LimitsConfig)) -> Filter {
        let mut config = LimitsConfig::default();
        change(&mut config);
        filter_of(&config, false)
    }

    fn filter_of(config: &LimitsConfig, is_demo: bool) -> Filter {
        let dir = tempfile::tempdir().unwrap();
        Filter::new(config, &RiskConfig::default(), 100, is_demo, DenyList::open(dir.path()).unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refused(filter: &Filter, reason: Reason) -> u64 {
        filter.refused().nth(reason as usize).unwrap().1
    }

    #[test]
    fn every_reason_has_its_place() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{}", reason.label());
        }
    }

    #[test]
    fn those_on_a_list_of_millions_make_nobody_else_forgotten() {
        let filter = filter(|_| {});
        let shopper = |n: u64| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            ShopperKey(key)
        };
        filter.note_shopper(shopper(1), Reason::ShopperRate, TimeMs(1000));
        (0..500_000).for_each(|n| filter.note_shopper(shopper(n), Reason::DenyList, TimeMs(2000 + n)));
        let known = filter.known_shopper(shopper(1)).unwrap();
        assert_eq!(known.counts[Reason::ShopperRate as usize], 1);
        filter.note_shopper(shopper(1), Reason::Tier, TimeMs(900_000));
        let known = filter.known_shopper(shopper(1)).unwrap();
        assert_eq!((known.last_seconds, known.counts[Reason::Tier as usize]), (900, 1));
        assert_eq!(known.counts[Reason::ShopperRate as usize], 1, "both are told");
    }

    #[test]
    fn a_network_of_many_addresses_has_a_limit_of_its_own() {
        let filter = filter(|config| (config.prefix_per_second, config.prefix_burst) = (1, 100));
        let asked = |n: u8| filter.address(address(&format!("203.0.113.{n}")), 1, NOW);
        assert!((0..100).all(|n| asked(n).is_ok()));
        let too_many = asked(100).unwrap_err();
        assert_eq!(too_many, TooMany { reason: Reason::PrefixRate, wait_seconds: 1 });
        assert!(filter.address(address("203.0.114.1"), 1, NOW).is_ok(), "the network beside it");
        let (known, _) = filter.known_address(address("203.0.113.100"));
        assert_eq!(known.unwrap().counts[Reason::PrefixRate as usize], 1);
        assert_eq!(refused(&filter, Reason::PrefixRate), 1);
        // A /48 is one customer, whatever it numbers its networks by.
        let six = |n: u16| filter.address(address(&format!("2001:db8:7:{n:x}::1")), 1, NOW);
        assert!((0..100).all(|n| six(n).is_ok()));
        assert_eq!(six(100).unwrap_err().reason, Reason::PrefixRate);
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let filter = filter(|config| {
            (config.address_connections_max, config.prefix_connections_max) = (2, 5);
            config.exempt_addresses = vec!["198.51.100.0/24".parse().unwrap()];
            config.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
        });
        let peer = address("203.0.113.9");
        let held: Vec<_> = (0..2).map(|_| filter.connection(peer, NOW).unwrap().unwrap()).collect();
        assert_eq!(filter.connection(peer, NOW).unwrap_err(), Reason::Connections);
        let (known, connections) = filter.known_address(peer);
        assert_eq!((known.unwrap().counts[Reason::Connections as usize], connections), (1, 2));
        assert!(filter.connection(address("203.0.113.10"), NOW).is_ok(), "another address");
        for exempt in ["198.51.100.7", "10.0.0.1"] {
            assert!((0..10).all(|_| filter.connection(address(exempt), NOW).unwrap().is_none()));
        }
        drop(held);
        let network = |n: u8| filter.connection(address(&format!("192.0.2.{n}")), NOW);
        let held: Vec<_> = (0..5).map(|n| network(n).unwrap()).collect();
        assert_eq!(network(5).unwrap_err(), Reason::Connections, "a network of many addresses");
        drop(held);
        assert!(filter.connection(peer, NOW).is_ok());
        assert_eq!(filter.known_address(peer).1, 0);
    }

    #[test]
    fn a_demo_exempts_loopback() {
        let strict = LimitsConfig { address_per_second: 1, address_burst: 1, ..LimitsConfig::default() };
        let twice = |is_demo| {
            let filter = filter_of(&strict, is_demo);
            (0..2).filter(|_| filter.address(address("::ffff:127.0.0.1"), 1, NOW).is_ok()).count()
        };
        assert_eq!((twice(true), twice(false)), (2, 1));
    }
}
