//! What a sale's log means, by code that shares nothing with the sale's: plain lists, counted
//! afresh for every check. [`fold`] checks every rule at every entry.
//!
//! It shares the entries' bytes with `sale::core` and nothing else.

mod fold;

use crate::bounds::WAITING_PAGE_MAX;
use crate::names::name;
use contracts::{
    Attempt, AttemptId, Basket, CommandKey, Eligibility, Line, OperationDone, SaleSpec, ShopperKey,
    WaitingPlace, WaitingQuery, Waitlist,
};
use sim::{Check, Violation};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use units::{Sequence, TimeMs};

/// The state of a kept attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Left,
    Held,
    Confirmed,
    Released,
    Expired,
    Voided,
}

impl Standing {
    /// Whether its units count against its shopper's limits.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Waiting | Self::Held | Self::Confirmed)
    }
}

/// An attempt that the log keeps.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) attempt: Attempt,
    pub(crate) round: u16,
    /// 0 if it was granted at once.
    pub(crate) position: u32,
    pub(crate) pay_by: TimeMs,
    /// The entry that granted it, at once or by promotion; 0 if none has.
    pub(crate) granted: u64,
    /// Every state that it had, with the entry that caused it; none comes twice.
    pub(crate) history: Vec<(u64, Standing)>,
    /// Payments seen, and whether each bought (`Some(late)`) or is to be refunded.
    pub(crate) payments: Vec<(String, Option<bool>)>,
}

impl Kept {
    pub(crate) fn standing(&self) -> Standing {
        self.history[self.history.len() - 1].1
    }
}

/// An item's units.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) initial: i64,
    pub(crate) adjusted: i64,
    pub(crate) free: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
    /// The free units after each entry that changed them.
    history: Vec<(u64, i64)>,
    /// Whether the open round offered the item and its waitlist had no place left, after each entry
    /// that changed that.
    none_left: Vec<(u64, bool)>,
    /// The waiting attempts, in order of acceptance.
    pub(crate) waiting: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) opens_at: TimeMs,
    pub(crate) closes_at: TimeMs,
    /// Item → (stock, limit).
    offers: BTreeMap<u16, (u64, u32)>,
}

/// The sale by the log.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The last entry read, and its time.
    pub(crate) last: u64,
    pub(crate) now: TimeMs,
    pub(crate) spec: Option<SaleSpec>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) opened: usize,
    /// The entry that opened the first round.
    pub(crate) first_opened: Option<u64>,
    pub(crate) open: bool,
    pub(crate) paused: bool,
    pub(crate) items: Vec<Units>,
    sale_limit: u32,
    pub(crate) kept: Vec<Kept>,
    by_id: BTreeMap<AttemptId, usize>,
    pub(crate) reserved: BTreeSet<ShopperKey>,
    pub(crate) allowed: BTreeSet<ShopperKey>,
    pub(crate) denied: BTreeSet<ShopperKey>,
    /// Attempts by outcome, refusals as journalled.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// The entry since which the sale has been open, paused or closed as it is.
    state_since: u64,
    /// The entries after which the sale became open, or stopped being open.
    opened_and_shut: Vec<(u64, bool)>,
    /// The entries after which there was another deny list, and whether it had any shopper.
    deny_lists: Vec<(u64, bool)>,
    journalled: u64,
    /// Keys of commands that were carried out, the newest of them, and in their order.
    pub(crate) commands: BTreeMap<[u8; 16], (CommandKey, OperationDone)>,
    pub(crate) command_order: VecDeque<CommandKey>,
    /// The last one that was forgotten.
    pub(crate) forgotten_key: Option<CommandKey>,
    /// The last entry journalled refusals while something was due.
    owes_timers: bool,
    pub(crate) waitlist_ended: bool,
    /// Attempts that are let in per second; 0 is no limit.
    pub(crate) rate: u32,
    /// The sale has paused itself because its log is ahead of the clock; and when it was told to go
    /// on.
    paused_by_clock: bool,
    pub(crate) ahead_accepted: TimeMs,
}

impl Model {
    pub(crate) fn find(&self, id: AttemptId) -> Option<&Kept> {
        self.by_id.get(&id).map(|at| &self.kept[*at])
    }

    pub(crate) fn open_round(&self) -> Option<u16> {
        self.open.then(|| self.opened as u16 - 1)
    }

    pub(crate) fn next_round(&self) -> Option<&Round> {
        self.rounds.get(self.opened)
    }

    pub(crate) fn offer(&self, round: u16, item: u16) -> Option<(u64, u32)> {
        self.rounds.get(usize::from(round))?.offers.get(&item).copied()
    }

    pub(crate) fn offered(&self, round: u16, basket: &Basket) -> bool {
        basket.iter().all(|line| self.offer(round, line.item).is_some())
    }

    fn free(&self, item: u16) -> i64 {
        self.items.get(usize::from(item)).map_or(0, |units| units.free)
    }

    /// A line that asks for more than is free.
    pub(crate) fn lacking(&self, basket: &Basket) -> Option<Line> {
        basket.iter().find(|line| self.free(line.item) < i64::from(line.quantity)).copied()
    }

    pub(crate) fn eligible(&self, shopper: ShopperKey, tier: u8) -> bool {
        let listed = match self.spec.as_ref().map(|spec| spec.eligibility) {
            None => false,
            Some(Eligibility::Everyone) => true,
            Some(Eligibility::Reservation) => self.reserved.contains(&shopper),
            Some(Eligibility::Tier { min }) => tier >= min,
            Some(Eligibility::List) => self.allowed.contains(&shopper),
            Some(Eligibility::All { reservation, list, tier_min }) => {
                (!reservation || self.reserved.contains(&shopper))
                    && (!list || self.allowed.contains(&shopper))
                    && tier >= tier_min
            }
        };
        listed && !self.denied.contains(&shopper)
    }

    /// Units that count for the shopper, of everything or of one item in one round.
    pub(crate) fn has(&self, shopper: ShopperKey, but: Option<AttemptId>, of: Option<(u16, u16)>) -> u32 {
        let mine = self.kept.iter().filter(|k| k.attempt.shopper == shopper && Some(k.attempt.id) != but);
        let mut sum = 0;
        for kept in mine.filter(|k| k.standing().counts()) {
            for line in kept.attempt.basket.iter() {
                if of.is_none_or(|of| of == (kept.round, line.item)) {
                    sum += u32::from(line.quantity);
                }
            }
        }
        sum
    }

    /// Whether the shopper would have more than a limit allows.
    pub(crate) fn over_limit(
        &self,
        shopper: ShopperKey,
        basket: &Basket,
        round: u16,
        but: Option<AttemptId>,
    ) -> bool {
        let asked: u32 = basket.iter().map(|line| u32::from(line.quantity)).sum();
        if self.sale_limit > 0 && asked + self.has(shopper, but, None) > self.sale_limit {
            return true;
        }
        basket.iter().any(|line| {
            let limit = self.offer(round, line.item).map_or(0, |(_, limit)| limit);
            limit > 0 && u32::from(line.quantity) + self.has(shopper, but, Some((round, line.item))) > limit
        })
    }

    /// When the waitlists are to end, if they have not.
    fn waitlist_ends_at(&self) -> Option<TimeMs> {
        self.spec.as_ref().and_then(|spec| spec.waitlist_ends_at).filter(|_| !self.waitlist_ended)
    }

    /// Places on an item's waitlist.
    pub(crate) fn places(&self, item: u16) -> i64 {
        if self.waitlist_ended {
            return 0;
        }
        let units = &self.items[usize::from(item)];
        match self.spec.as_ref().map(|spec| spec.waitlist) {
            None => 0,
            Some(Waitlist::Places(places)) => i64::from(places),
            Some(Waitlist::Percent(percent)) => (units.initial + units.adjusted) * i64::from(percent) / 100,
        }
    }

    /// Whether the waitlist has a place for a new attempt for this line.
    pub(crate) fn has_place(&self, line: Line) -> bool {
        let units = &self.items[usize::from(line.item)];
        i64::from(line.quantity) <= units.initial + units.adjusted
            && (units.waiting.len() as i64) < self.places(line.item)
    }

    /// The entry since which the open round has been offering the item, and neither a unit nor a
    /// place was left.
    pub(crate) fn sold_out_since(&self, item: u16) -> Option<u64> {
        let units = self.items.get(usize::from(item))?;
        let (open_since, is_open) = self.opened_and_shut.last()?;
        let (none_since, is_none) = units.none_left.last()?;
        let empty = units.history.iter().rev().take_while(|(_, free)| *free == 0).last()?;
        (*is_open && *is_none).then(|| *open_since.max(none_since).max(&empty.0))
    }

    /// A page of those who wait, in the order in which they got their places.
    pub(crate) fn page(&self, query: &WaitingQuery) -> Vec<WaitingPlace> {
        let wanted = |(at, _): &(usize, &Units)| query.item.is_none_or(|item| usize::from(item) == *at);
        let lists = self.items.iter().enumerate().filter(wanted);
        let mut waiting: Vec<usize> = lists.flat_map(|(_, units)| units.waiting.iter().copied()).collect();
        waiting.sort_unstable();
        let place = |at: &usize| {
            let Kept { attempt, position, history, .. } = &self.kept[*at];
            let &Attempt { id, shopper, sealed, basket, .. } = attempt;
            let (position, as_of) = (*position, Sequence(history[0].0));
            WaitingPlace { attempt: id, shopper, sealed, basket, position, as_of }
        };
        let places = waiting.iter().map(place).filter(|place| place.as_of > query.after);
        places.take(query.max.min(WAITING_PAGE_MAX)).collect()
    }

    /// The first in line for an item that asks for no more than is free.
    fn first_fitting(&self, item: u16) -> Option<AttemptId> {
        let units = self.items.get(usize::from(item)).filter(|_| !self.waitlist_ended)?;
        let fits = |at: &&usize| i64::from(self.kept[**at].attempt.basket[0].quantity) <= units.free;
        units.waiting.iter().find(fits).map(|at| self.kept[*at].attempt.id)
    }

    fn nobody_passed_by(&self, id: AttemptId, basket: &Basket) -> Check {
        for line in basket.iter() {
            if let Some(first) = self.first_fitting(line.item) {
                let what = format!("{} takes item {} before {}", name(id), line.item, name(first));
                return Err(Violation { rule: "INV-5", what });
            }
        }
        Ok(())
    }

    /// INV-2, second half.
    pub(crate) fn nobody_waits_for_what_is_free(&self) -> Check {
        if self.paused {
            return Ok(());
        }
        for (item, units) in self.items.iter().enumerate() {
            if let Some(first) = self.first_fitting(item as u16) {
                let what = format!("{} waits for item {item}, of which {} are free", name(first), units.free);
                return Err(Violation { rule: "INV-2", what });
            }
        }
        Ok(())
    }
}
