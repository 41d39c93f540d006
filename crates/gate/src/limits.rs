//! How many requests an address or a shopper may send, and the records of those that were refused.

use crate::{
    filter::{self, Filter},
    pass::Pass,
    problem::{self, Problem},
    strategy::Strategy,
};
use contracts::ShopperKey;
use std::{fmt, sync::Arc};
use units::TimeMs;
use web::{
    limits::{Reason, TooMany},
    protection::Protection,
    server::Peer,
};

/// The limits of the gate.
pub(crate) struct Limits {
    pub(crate) filter: Filter,
    strategy: Arc<Strategy>,
    protection: Arc<Protection>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    pub(crate) fn new(filter: Filter, strategy: &Arc<Strategy>, protection: &Arc<Protection>) -> Self {
        Self { filter, strategy: Arc::clone(strategy), protection: Arc::clone(protection) }
    }

    /// Lets an address send a request, or returns when it may again.
    pub(crate) fn address(&self, peer: Peer) -> Result<(), Problem> {
        self.address_at(peer, self.protection.now())
    }

    /// The same for a caller that has read the clock, so that a hot request reads it only once.
    pub(crate) fn address_at(&self, peer: Peer, now: TimeMs) -> Result<(), Problem> {
        let asked = self.filter.address(peer.0, self.strategy.tokens_factor(), now);
        asked.map_err(limited("too many requests from this address or its network: wait as Retry-After says"))
    }

    /// Lets a shopper send an attempt, or returns when they may again.
    pub(crate) fn shopper(&self, pass: &Pass, now: TimeMs) -> Result<(), Problem> {
        let asked = self.filter.shopper(pass.shopper, now);
        asked.map_err(limited("too many attempts by this shopper: wait as Retry-After says"))
    }

    /// Lets a shopper make or cancel a reservation, or returns when they may again.
    pub(crate) fn reservation(&self, pass: &Pass) -> Result<(), Problem> {
        self.change(pass, "too many changes of this reservation: wait as Retry-After says")
    }

    /// Lets a shopper give a hold or a place back, or returns when they may again.
    pub(crate) fn give_back(&self, pass: &Pass) -> Result<(), Problem> {
        self.change(pass, "too much given back by this shopper: wait as Retry-After says")
    }

    /// What a shopper changes is an entry in a log that is never trimmed.
    fn change(&self, pass: &Pass, why: &'static str) -> Result<(), Problem> {
        let now = self.protection.now();
        self.shopper(pass, now)?;
        self.filter.reservation(pass.shopper, now).map_err(limited(why))
    }

    /// Notes that a shopper was refused.
    pub(crate) fn note_shopper(&self, shopper: ShopperKey, reason: Reason) {
        self.filter.note_shopper(shopper, reason, self.protection.now());
    }

    /// Notes that a rule of a sale refused a shopper.
    pub(crate) fn note_ineligible(&self, shopper: ShopperKey, by: contracts::IneligibleBy) {
        self.note_shopper(shopper, filter::reason_of(by));
    }
}

fn limited(why: &'static str) -> impl Fn(TooMany) -> Problem {
    move |too_many| Problem::new(&problem::RATE_LIMITED, why).retry_after(too_many.wait_seconds)
}
