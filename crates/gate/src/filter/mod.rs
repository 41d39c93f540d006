//! Which requests are admitted, in addition to the limits of addresses: limits of shoppers, risks
//! of addresses, and the reasons of refusals. This module sees addresses, keyed hashes of shoppers
//! and times, and no HTTP. Its records have a fixed size, whatever a crowd sends.

mod risk;

use crate::config::{LimitsConfig, RiskConfig};
use contracts::{IneligibleBy, ShopperKey};
use risk::Risks;
pub(crate) use risk::{Risk, Signal};
use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use units::TimeMs;
use web::limits::{AddressFilter, Buckets, Reason, Refusals, Refused, TooMany};

/// Slots of the limits of shoppers: 1 MiB.
const LIMIT_SLOTS: usize = 1 << 17;
/// Slots of refused shoppers: 3 MiB for each table.
const REFUSAL_SLOTS: usize = 1 << 17;
/// Slots of addresses that took challenges or passes: 5 MiB.
const RISK_SLOTS: usize = 1 << 17;

/// Each change of a reservation is an entry in a log that is never trimmed. After ten changes a
/// shopper may make another every ten seconds.
const RESERVATION_SECONDS: u32 = 10;
const RESERVATION_BURST: u32 = 10;

// Reasons of the gate, after those of every server.
pub(crate) const SHOPPER_RATE: Reason = Reason {
    at: 4,
    label: "shopper_rate",
    advice: "more attempts than gate.limits.shopper_per_second, or more changes of a reservation than one every 10 s",
};
pub(crate) const ROUND_KEY: Reason = Reason {
    at: 5,
    label: "round_key",
    advice: "an attempts_url that no open round has: guessed, kept from another round, or too early",
};
pub(crate) const PASS: Reason =
    Reason { at: 6, label: "pass", advice: "no pass, or one that is expired, forged or of another sale" };
pub(crate) const TOKEN: Reason = Reason {
    at: 7,
    label: "token",
    advice: "no shopper token, or one that is expired, forged or of another issuer",
};
pub(crate) const CHALLENGE: Reason = Reason {
    at: 8,
    label: "challenge",
    advice: "a solution of the challenge that is wrong, expired, used before or another shopper's",
};
pub(crate) const RISK: Reason = Reason {
    at: 9,
    label: "risk",
    advice: "no pass for an address that takes them like a machine (gate.risk.refuse_at); it fades; if it is a server of the shop, name \
                 it in exempt_addresses",
};
pub(crate) const DENY_LIST: Reason = Reason {
    at: 10,
    label: "deny_list",
    advice: "the shopper is on a sale's deny list; the sale's log says who put it there and why; PUT \
                 /api/v1/admin/sales/{sale}/denylist without them lets them in again",
};
pub(crate) const TIER: Reason = Reason {
    at: 11,
    label: "tier",
    advice: "the shopper's pass is of a lower tier than the sale is for (eligibility in its document); the shop's token says the tier",
};

/// All reasons, in the order of their indices.
pub(crate) const REASONS: [Reason; 12] = [
    Reason::DENIED,
    Reason::CONNECTIONS,
    Reason::ADDRESS_RATE,
    Reason::PREFIX_RATE,
    SHOPPER_RATE,
    ROUND_KEY,
    PASS,
    TOKEN,
    CHALLENGE,
    RISK,
    DENY_LIST,
    TIER,
];

/// Reasons that concern shoppers only: they are not recorded for the address.
pub(crate) fn reason_of(by: IneligibleBy) -> Reason {
    match by {
        IneligibleBy::DenyList => DENY_LIST,
        IneligibleBy::Tier => TIER,
    }
}

/// An effect of a level of risk.
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

/// The limits of shoppers, the risks of addresses, and the refusals.
#[derive(Debug)]
pub(crate) struct Filter {
    addresses: Arc<AddressFilter>,
    shoppers: Buckets,
    reservations: Buckets,
    refused_shoppers: Refusals,
    /// Refusals by a rule of a sale, in a separate table: shoppers on a list of millions who send
    /// attempts all the time push no other record out.
    ruled_out: Refusals,
    risks: Risks,
    /// Effects of risks are counted, and do not happen.
    risk_dry_run: bool,
    risk_effects: [AtomicU64; RiskEffect::ALL.len()],
    hasher: RandomState,
}

impl Filter {
    pub(crate) fn new(config: &LimitsConfig, risk: &RiskConfig, addresses: Arc<AddressFilter>) -> Self {
        Self {
            addresses,
            shoppers: Buckets::new(config.shopper_per_second, config.shopper_burst, LIMIT_SLOTS),
            reservations: Buckets::slow(RESERVATION_SECONDS, RESERVATION_BURST, LIMIT_SLOTS),
            refused_shoppers: Refusals::new(REFUSAL_SLOTS),
            ruled_out: Refusals::new(REFUSAL_SLOTS),
            risks: Risks::new(risk, RISK_SLOTS),
            risk_dry_run: risk.dry_run,
            risk_effects: Default::default(),
            hasher: RandomState::new(),
        }
    }

    /// Lets an address send a request, or returns when it may again. A request counts this many
    /// `times`, and more if the address looks like a script.
    pub(crate) fn address(&self, address: IpAddr, times: u64, now: TimeMs) -> Result<(), TooMany> {
        let level = self.risk_key(address).map_or(0, |key| self.risks.of(key, now.0).own_level);
        let level = self.effect(RiskEffect::Slowed, level);
        self.addresses.ask(address, times * (1 + level as u64), now)
    }

    /// The key under which the risk of an address is kept.
    fn risk_key(&self, address: IpAddr) -> Option<u64> {
        (!self.addresses.is_exempt(address) && !self.addresses.is_trusted(address))
            .then(|| self.addresses.address_key(address))
    }

    /// Notes a request for a challenge or a pass.
    pub(crate) fn asked(&self, address: IpAddr, is_bare: bool, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.asked(key, is_bare, now.0);
        }
    }

    /// Notes that a pass is requested. Returns the seconds to wait for one, if the address looks
    /// too much like a script.
    pub(crate) fn asked_for_pass(&self, address: IpAddr, is_bare: bool, now: TimeMs) -> Option<u32> {
        let key = self.risk_key(address)?;
        let refused = || self.risks.of(key, now.0).refused_seconds;
        // A refusal must not prolong itself: a refused address gets no more points.
        if refused().is_none() {
            self.risks.asked(key, is_bare, now.0);
            self.risks.asked_for_pass(key, now.0);
        }
        Some(self.effect(RiskEffect::PassRefused, refused().unwrap_or(0))).filter(|seconds| *seconds > 0)
    }

    /// Notes that a proof of work was right.
    pub(crate) fn solved(&self, address: IpAddr, too_fast: bool, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.solved(key, too_fast, now.0);
        }
    }

    /// Notes that a shopper got a pass.
    pub(crate) fn gave_pass(&self, address: IpAddr, shopper: ShopperKey, now: TimeMs) {
        if let Some(key) = self.risk_key(address) {
            self.risks.gave_pass(key, self.hasher.hash_one(shopper.low_bits()), now.0);
        }
    }

    /// The level of risk for which a challenge is to be made.
    pub(crate) fn challenge_level(&self, address: IpAddr, now: TimeMs) -> usize {
        self.effect(RiskEffect::HarderChallenge, self.known_risk(address, now).level)
    }

    /// The risk of an address.
    pub(crate) fn known_risk(&self, address: IpAddr, now: TimeMs) -> Risk {
        self.risk_key(address).map_or_else(Risk::default, |key| self.risks.of(key, now.0))
    }

    /// Counts an effect, if there is one, and returns it; in a dry run, returns none.
    fn effect<T: Default + PartialEq>(&self, effect: RiskEffect, much: T) -> T {
        if much == T::default() {
            return much;
        }
        self.risk_effects[effect as usize].fetch_add(1, Relaxed);
        if self.risk_dry_run { T::default() } else { much }
    }

    /// How often each signal was seen, and each effect decided, since the start.
    pub(crate) fn risks(
        &self,
    ) -> (impl Iterator<Item = (&'static str, u64)>, impl Iterator<Item = (&'static str, u64)>) {
        let counts = self.risk_effects.iter().map(|count| count.load(Relaxed));
        (self.risks.seen(), RiskEffect::ALL.iter().map(|effect| effect.label()).zip(counts))
    }

    /// Lets a shopper send an attempt, or returns when they may again.
    pub(crate) fn shopper(&self, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        self.of_shopper(&self.shoppers, shopper, now)
    }

    /// Lets a shopper make or cancel a reservation, or returns when they may again.
    pub(crate) fn reservation(&self, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        self.of_shopper(&self.reservations, shopper, now)
    }

    fn of_shopper(&self, buckets: &Buckets, shopper: ShopperKey, now: TimeMs) -> Result<(), TooMany> {
        buckets.take(shopper.low_bits(), now.0).map_err(|wait_seconds| {
            self.note_shopper(shopper, SHOPPER_RATE, now);
            TooMany { reason: SHOPPER_RATE, wait_seconds }
        })
    }

    /// Notes that a shopper was refused. It is counted here only if no address is noted with it.
    pub(crate) fn note_shopper(&self, shopper: ShopperKey, reason: Reason, now: TimeMs) {
        if [SHOPPER_RATE, DENY_LIST, TIER].contains(&reason) {
            self.addresses.count(reason);
        }
        let table =
            if [DENY_LIST, TIER].contains(&reason) { &self.ruled_out } else { &self.refused_shoppers };
        table.note(shopper.low_bits(), reason, now.0);
    }

    /// Why a shopper was refused.
    pub(crate) fn refused_shopper(&self, shopper: ShopperKey) -> Option<Refused> {
        let key = shopper.low_bits();
        match (self.refused_shoppers.of(key), self.ruled_out.of(key)) {
            (Some(here), Some(there)) => Some(here.and(there)),
            (here, there) => here.or(there),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use web::{config::AddressLimits, limits::DenyList};

    #[test]
    fn every_reason_has_its_own_index() {
        for (at, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(usize::from(reason.at), at, "{}", reason.label);
        }
    }

    #[test]
    fn refusals_of_a_list_of_millions_push_no_other_record_out() {
        let dir = tempfile::tempdir().unwrap();
        let denied = DenyList::open(dir.path()).unwrap();
        let addresses = Arc::new(AddressFilter::new(&AddressLimits::default(), 100, false, denied));
        let filter = Filter::new(&LimitsConfig::default(), &RiskConfig::default(), addresses);
        let shopper = |n: u64| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            ShopperKey(key)
        };
        filter.note_shopper(shopper(1), SHOPPER_RATE, TimeMs(1000));
        (0..500_000).for_each(|n| filter.note_shopper(shopper(n), DENY_LIST, TimeMs(2000 + n)));
        let known = filter.refused_shopper(shopper(1)).unwrap();
        assert_eq!(known.counts[usize::from(SHOPPER_RATE.at)], 1);
        filter.note_shopper(shopper(1), TIER, TimeMs(900_000));
        let known = filter.refused_shopper(shopper(1)).unwrap();
        assert_eq!((known.last_seconds, known.counts[usize::from(TIER.at)]), (900, 1));
        assert_eq!(known.counts[usize::from(SHOPPER_RATE.at)], 1, "both refusals are in the record");
    }
}
