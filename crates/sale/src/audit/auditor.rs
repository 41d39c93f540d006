//! The auditor's own reading of the log: plain maps, and sums of its own.
//!
//! An entry that breaks a promise is noted, and applied as far as possible: the units go where the
//! entry says that they went, so that the figures show its effect. No content of an entry may make
//! the auditor stop.

mod times;

use super::report::ItemReport;
use crate::core::{Entry, Record};
use contracts::{
    Actor, Attempt, AttemptId, Basket, Eligibility, ItemId, LatePayment, ListKind, RoundItemLimit, SaleSpec,
    ShopperKey, Waitlist,
};
use runtime::audit::Findings;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use units::{DurationMs, Sequence, TimeMs};

/// Keys of commands that a sale remembers, as the documentation says.
const COMMAND_KEYS_MAX: usize = 4096;

/// Places on one waitlist, as the documentation says.
const WAITLIST_PLACES_MAX: i128 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Waiting,
    Left,
    Held,
    Confirmed,
    Released,
    Expired,
    Voided,
}

impl Standing {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Left => "left_the_waitlist",
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Voided => "voided",
        }
    }

    fn counts(self) -> bool {
        matches!(self, Self::Waiting | Self::Held | Self::Confirmed)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    shopper: ShopperKey,
    basket: Basket,
    round: u16,
    /// The order of acceptance.
    order: u64,
    pub(super) standing: Standing,
    pay_by: TimeMs,
}

/// Signed and wide, so that no log can make a sum wrap.
#[derive(Debug, Default)]
pub(super) struct Item {
    initial: i128,
    adjustments: i128,
    pub(super) free: i128,
    held: i128,
    sold: i128,
    waiting: Waiting,
    /// Free units after each entry that changed them, since refusals were last journalled; and the
    /// value before that.
    pub(super) history: Vec<(Sequence, i128)>,
    /// When nothing was free while the sale was open.
    pub(super) none_free: SequenceRanges,
    /// The same, when in addition the open round offered it and no place on the waitlist was left.
    pub(super) none_left: SequenceRanges,
}

/// The places that wait for an item: by quantity, so that thousands that do not fit are not checked
/// one by one at each entry; then by order of acceptance.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_quantity: BTreeMap<u16, BTreeMap<u64, AttemptId>>,
    count: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn insert(&mut self, quantity: u16, order: u64, attempt: AttemptId) {
        let replaced = self.by_quantity.entry(quantity).or_default().insert(order, attempt);
        self.count += usize::from(replaced.is_none());
    }

    fn remove(&mut self, quantity: u16, order: u64) {
        let Some(queue) = self.by_quantity.get_mut(&quantity) else { return };
        self.count -= usize::from(queue.remove(&order).is_some());
        if queue.is_empty() {
            self.by_quantity.remove(&quantity);
        }
    }

    /// The first in line that asks for no more than `free`.
    fn first_fitting(&self, free: i128) -> Option<AttemptId> {
        let most = u16::try_from(free.clamp(0, u16::MAX.into())).unwrap_or_default();
        let firsts = self.by_quantity.range(..=most).filter_map(|(_, queue)| queue.first_key_value());
        firsts.min_by_key(|(order, _)| **order).map(|(_, attempt)| *attempt)
    }
}

/// The ranges of entries after which a condition holds.
#[derive(Debug, Default)]
pub(super) struct SequenceRanges {
    past: Vec<(Sequence, Sequence)>,
    since: Option<Sequence>,
}

impl SequenceRanges {
    /// Notes whether the condition holds after this entry.
    fn follow(&mut self, sequence: Sequence, holds: bool) {
        match (self.since, holds) {
            (None, true) => self.since = Some(sequence),
            (Some(from), false) => {
                // After the previous entry it still held.
                self.past.push((from, Sequence(sequence.0.saturating_sub(1))));
                self.since = None;
            }
            _ => {}
        }
    }

    /// Whether the condition held after every entry from the first to the last.
    pub(super) fn cover(&self, first: Sequence, last: Sequence) -> bool {
        let before = self.past.partition_point(|(from, _)| *from <= first);
        let ended = self.past[..before].last().is_some_and(|(_, to)| last <= *to);
        ended || self.since.is_some_and(|from| from <= first)
    }
}

impl Item {
    fn put_up(&self) -> i128 {
        self.initial + self.adjustments
    }

    /// Initial, adjustments, free, held, sold, waiting.
    pub(super) fn figures(&self) -> [i128; 6] {
        [self.initial, self.adjustments, self.free, self.held, self.sold, self.waiting.len() as i128]
    }

    pub(super) fn report(&self, item: ItemId) -> ItemReport {
        let signed = |n: i128| n.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        ItemReport {
            item,
            initial: self.initial.clamp(0, u64::MAX.into()) as u64,
            adjustments: signed(self.adjustments),
            free: signed(self.free),
            held: signed(self.held),
            sold: signed(self.sold),
            waiting: self.waiting.len() as u64,
        }
    }
}

/// The sale's invariants, by their number minus one.
pub(super) const IDS: [&str; 7] = ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7"];

#[derive(Debug, Default)]
pub(super) struct Auditor {
    pub(super) spec: Option<SaleSpec>,
    pub(super) items: Vec<Item>,
    now: TimeMs,
    pub(super) round: Option<u16>,
    pub(super) rounds_opened: u16,
    closes_at: Vec<TimeMs>,
    pub(super) paused: bool,
    pub(super) sale_limit: u32,
    /// (round, item) → limit, of all that is offered.
    pub(super) limits: HashMap<(u16, u16), u32>,
    reserved: HashSet<ShopperKey>,
    allowed: HashSet<ShopperKey>,
    pub(super) denied: HashSet<ShopperKey>,
    /// When the sale was open and had one and the same deny list, which was not empty; and when it
    /// was open and asked for a tier.
    pub(super) denying: SequenceRanges,
    pub(super) by_tier: SequenceRanges,
    pub(super) seen: HashMap<AttemptId, Seen>,
    accepted: u64,
    has: ShopperUnits,
    /// The hold for which a payment was settled, by its reference.
    payments: HashMap<String, AttemptId>,
    settled: HashSet<(AttemptId, String)>,
    /// The keys of the last commands, oldest first.
    command_keys: VecDeque<[u8; 16]>,
    /// The ends of all holds that are held.
    held: BTreeSet<(TimeMs, AttemptId)>,
    /// The times of the entries from [`Auditor::refusals_since`] on.
    pub(super) times: Vec<TimeMs>,
    /// Something was due when the last entry journalled refusals: what it was.
    owed: Option<Due>,
    waitlist_ended: bool,
    pub(super) outcomes: BTreeMap<String, u64>,
    /// Payments that must be refunded.
    pub(super) refunds_due: u64,
    /// The entry at which the sale last changed between open, paused and closed.
    pub(super) state_since: Sequence,
    pub(super) refusals_since: Sequence,
    pub(super) findings: Findings,
    pub(super) checked: Checked,
}

/// The units that count against each shopper's limits. One shopper may have 40,000 holds, so they
/// are not added up anew for each.
#[derive(Debug, Default)]
struct ShopperUnits {
    all: HashMap<ShopperKey, u64>,
    /// By round and item.
    of: HashMap<(ShopperKey, u16, u16), u64>,
}

impl ShopperUnits {
    /// Adds the units of an attempt whose standing now is `to`, or takes them away.
    fn follow(&mut self, seen: &Seen, from: Option<Standing>, to: Standing) {
        let counted = from.is_some_and(Standing::counts);
        if counted == to.counts() {
            return;
        }
        for line in seen.basket.iter() {
            let (all, of) = (seen.shopper, (seen.shopper, seen.round, line.item));
            for sum in [self.all.entry(all).or_default(), self.of.entry(of).or_default()] {
                *sum = sum.saturating_add_signed(i64::from(line.quantity) * if counted { -1 } else { 1 });
            }
        }
    }
}

/// What should have happened by now.
#[derive(Debug, Clone, Copy)]
enum Due {
    EndWaitlist(TimeMs),
    Expiry(TimeMs, AttemptId),
    Close(u16, TimeMs),
    Open(u16, TimeMs),
    /// So many wait, and the waitlist has ended.
    Leave(usize),
}

/// How often each thing was checked, so that a verdict can say what it is based on.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) stock: u64,
    pub(super) limits: u64,
    pub(super) places: u64,
    pub(super) answers: u64,
    pub(super) expiries: u64,
    pub(super) order: u64,
    pub(super) sold_out: u64,
    pub(super) refusals_of_sale: u64,
    pub(super) refusals_of_somebody: u64,
    pub(super) refusals_disk_full: u64,
    /// At the log's end promotions are due, and the core is about to do them.
    pub(super) owes_promotions: bool,
}

impl Auditor {
    pub(super) fn check(&mut self, inv: u8, holds: bool, sequence: Sequence, why: impl FnOnce() -> String) {
        let id = IDS[usize::from(inv) - 1];
        self.findings.check(id, holds, sequence, why);
    }

    pub(super) fn count(&mut self, outcome: &str, count: u64) {
        let sum = self.outcomes.entry(outcome.into()).or_default();
        *sum = sum.saturating_add(count);
    }

    pub(super) fn entry(&mut self, sequence: Sequence, entry: &Entry) {
        let (at, record, before) = (entry.at, &entry.record, self.now);
        self.check(7, at >= before, sequence, || format!("its time is {at}, behind one of {before}"));
        self.now = before.max(at);
        if sequence == Sequence(1) {
            // Refusals before the first entry name entry 0.
            self.times.push(TimeMs(0));
        }
        self.in_time(sequence, record);
        let of_the_line = match record {
            Record::Promoted { .. } | Record::CommandDone { .. } => true,
            Record::Paused { by } => by.name == Actor::RESTORE,
            Record::Left { by, .. } => by.name == Actor::TIMER,
            _ => false,
        };
        if !of_the_line {
            self.nobody_waits_for_what_is_free(sequence, &[]);
        }
        match record {
            Record::Defined { spec, .. } => self.defined(sequence, spec),
            Record::RoundOpened { round, by } => {
                let opens_at = self.opens_at(*round);
                self.turns_in_time(sequence, (*round, "opens"), by, opens_at);
                self.round_opened(sequence, *round);
            }
            Record::RoundClosed { round, by } => {
                let closes_at = self.closes_at.get(usize::from(*round)).copied();
                self.turns_in_time(sequence, (*round, "closes"), by, closes_at);
                let open = self.round == Some(*round);
                self.check(4, open, sequence, || format!("round {round} closes and was not open"));
                self.state_since = sequence;
                self.round = None;
            }
            Record::Paused { .. } | Record::Resumed { .. } => {
                self.state_since = sequence;
                self.paused = matches!(record, Record::Paused { .. });
            }
            Record::Extended { round, closes_at, .. } => self.extended(sequence, *round, *closes_at),
            Record::Adjusted { item, delta, .. } => {
                if let Some(at) = self.items.get_mut(usize::from(*item)) {
                    at.adjustments += i128::from(*delta);
                }
                self.move_units(sequence, *item, i128::from(*delta), 0, 0);
            }
            Record::Limits { sale, items, .. } => self.limits(sequence, *sale, items),
            Record::List { list, clear, shoppers, .. } => {
                let set = match list {
                    ListKind::Allowed => &mut self.allowed,
                    ListKind::Denied => &mut self.denied,
                };
                if *clear {
                    set.clear();
                }
                set.extend(shoppers);
                if *list == ListKind::Denied {
                    // Another list begins another range.
                    self.denying.follow(sequence, false);
                }
            }
            Record::Reserved { shopper, reserved } => {
                let early = self.rounds_opened == 0;
                self.check(3, early, sequence, || "a reservation after the sale has opened".into());
                if *reserved {
                    self.reserved.insert(*shopper);
                } else {
                    self.reserved.remove(shopper);
                }
            }
            Record::Granted { attempt, round, pay_by } => self.granted(sequence, attempt, *round, *pay_by),
            Record::Waitlisted { attempt, round, position } => {
                self.waitlisted(sequence, attempt, *round, *position);
            }
            Record::Promoted { attempt, round, pay_by } => self.promoted(sequence, attempt, *round, *pay_by),
            Record::Confirmed { hold, payment, late, .. } => {
                self.paid_in_time(sequence, *hold, *late);
                self.confirmed(sequence, *hold, *late);
                self.payment(sequence, *hold, payment);
            }
            Record::RefundDue { hold, payment, .. } => {
                self.refunds_due += 1;
                self.refund(sequence, *hold);
                self.payment(sequence, *hold, payment);
            }
            Record::Released { hold, .. } => self.ended(sequence, *hold, Standing::Released),
            Record::Expired { hold } => self.expired(sequence, *hold),
            Record::Voided { hold, .. } => self.ended(sequence, *hold, Standing::Voided),
            Record::Left { attempt, by, .. } => self.left(sequence, *attempt, by),
            Record::Refusals { entries } => self.refusals(sequence, entries),
            Record::GateRefusals { entries } => self.gate_refusals(sequence, entries),
            Record::GateNotEligible { entries } => self.gate_not_eligible(sequence, entries),
            Record::SpaceRegained { refused, .. } => {
                self.count("paused", *refused);
                self.checked.refusals_disk_full = self.checked.refusals_disk_full.saturating_add(*refused);
            }
            Record::WaitlistEnded { by } => self.waitlist_ends(sequence, by),
            Record::CommandDone { key, .. } => {
                let fresh = !self.command_keys.contains(&key.id);
                self.check(4, fresh, sequence, || "a command is done twice under one key".into());
                self.command_keys.push_back(key.id);
                if self.command_keys.len() > COMMAND_KEYS_MAX {
                    self.command_keys.pop_front();
                }
            }
            // The rate of attempts is not a promise of the log.
            Record::Rate { .. } => {}
        }
        self.times.push(self.now);
        (0..self.items.len()).for_each(|item| self.follow_sold_out(sequence, item));
        let open = self.round.is_some() && !self.paused;
        self.denying.follow(sequence, open && !self.denied.is_empty());
        let eligibility = self.spec.as_ref().map(|spec| spec.eligibility);
        self.by_tier.follow(sequence, open && eligibility.is_some_and(|rule| rule.tier_min() > 0));
    }

    /// Keeps the ranges of entries in which an item is sold out in an open sale.
    fn follow_sold_out(&mut self, sequence: Sequence, item: usize) {
        let places = self.places(item);
        let offered = self.round.is_some_and(|round| self.limits.contains_key(&(round, item as u16)));
        let open = self.round.is_some() && !self.paused;
        let Some(at) = self.items.get_mut(item) else { return };
        let none_free = open && at.free <= 0;
        at.none_free.follow(sequence, none_free);
        at.none_left.follow(sequence, none_free && offered && at.waiting.len() as i128 >= places);
    }

    fn defined(&mut self, sequence: Sequence, spec: &SaleSpec) {
        let begun = self.rounds_opened > 0 || self.accepted > 0;
        self.check(4, !begun, sequence, || "another document after the sale has begun".into());
        if begun {
            return;
        }
        self.state_since = sequence;
        self.items = spec.items.iter().map(|_| Item::default()).collect();
        self.sale_limit = spec.limit_per_shopper;
        self.closes_at = spec.rounds.iter().map(|round| round.closes_at).collect();
        self.limits.clear();
        for (round, offers) in spec.rounds.iter().enumerate() {
            for offer in &offers.items {
                if let Some(item) = spec.item_index(offer.item.as_str()) {
                    self.limits.insert((round as u16, item), offer.limit_per_shopper);
                }
            }
        }
        self.spec = Some(spec.clone());
    }

    /// INV-6: stock comes from the rounds, each opened once and in order. Any other opening brings
    /// none.
    fn round_opened(&mut self, sequence: Sequence, round: u16) {
        self.state_since = sequence;
        let offers = self.spec.as_ref().and_then(|spec| spec.rounds.get(usize::from(round))).cloned();
        let in_turn = self.round.is_none() && round == self.rounds_opened && offers.is_some();
        self.check(6, in_turn, sequence, || format!("round {round} opens out of turn"));
        self.round = Some(round);
        if !in_turn {
            return;
        }
        self.rounds_opened += 1;
        for offer in offers.iter().flat_map(|round| &round.items) {
            let item = self.spec.as_ref().and_then(|spec| spec.item_index(offer.item.as_str()));
            if let Some(item) = item {
                self.items[usize::from(item)].initial += i128::from(offer.stock);
                self.move_units(sequence, item, i128::from(offer.stock), 0, 0);
            }
        }
    }

    fn extended(&mut self, sequence: Sequence, round: u16, closes_at: TimeMs) {
        let was = self.closes_at.get(usize::from(round)).copied();
        let later = self.round == Some(round) && was.is_some_and(|was| closes_at > was);
        let next = self.opens_at(round.saturating_add(1));
        let later = later && next.is_none_or(|next| closes_at <= next);
        self.check(4, later, sequence, || format!("round {round} is extended to {closes_at}, from {was:?}"));
        if let Some(at) = self.closes_at.get_mut(usize::from(round)) {
            *at = closes_at;
        }
    }

    fn limits(&mut self, sequence: Sequence, sale: Option<u32>, items: &[RoundItemLimit]) {
        self.sale_limit = sale.unwrap_or(self.sale_limit);
        for l in items {
            let known = self.limits.get_mut(&(l.round, l.item));
            let offered = known.map(|limit| *limit = u32::from(l.limit)).is_some();
            self.check(3, offered, sequence, || {
                format!("a limit for item {}, which round {} does not offer", l.item, l.round)
            });
        }
    }

    /// INV-1 and INV-6 after every movement.
    fn move_units(&mut self, sequence: Sequence, item: u16, free: i128, held: i128, sold: i128) {
        let since = self.refusals_since;
        let Some(at) = self.items.get_mut(usize::from(item)) else {
            return self.check(1, false, sequence, || format!("item {item}: there is none"));
        };
        if at.history.is_empty() {
            at.history.push((since, at.free));
        }
        at.free += free;
        at.held += held;
        at.sold += sold;
        at.history.push((sequence, at.free));
        let (put_up, f, h, s) = (at.put_up(), at.free, at.held, at.sold);
        self.checked.stock += 1;
        self.check(1, f >= 0 && h >= 0 && s >= 0 && h + s <= put_up, sequence, || {
            format!("item {item}: {h} held and {s} sold of {put_up}")
        });
        self.check(6, put_up == f + h + s, sequence, || {
            format!("item {item}: {put_up} put up, but {f} free + {h} held + {s} sold")
        });
    }

    fn move_basket(&mut self, sequence: Sequence, basket: &Basket, free: i128, held: i128, sold: i128) {
        for line in basket.iter() {
            let n = i128::from(line.quantity);
            self.move_units(sequence, line.item, free * n, held * n, sold * n);
        }
    }

    fn free(&self, item: u16) -> i128 {
        self.items.get(usize::from(item)).map_or(0, |at| at.free)
    }

    /// The first in line for an item that asks for no more than is free.
    fn first_fitting(&self, item: u16) -> Option<AttemptId> {
        let at = self.items.get(usize::from(item))?;
        if at.free <= 0 || self.waitlist_ended { None } else { at.waiting.first_fitting(at.free) }
    }

    /// INV-2, second half. Promotions directly follow the entry that made them possible, so before
    /// any other entry no waiting place fits. For items that are `owed` the next entry may do it.
    pub(super) fn nobody_waits_for_what_is_free(&mut self, sequence: Sequence, owed: &[u16]) {
        if self.paused {
            return;
        }
        for item in (0..self.items.len() as u16).filter(|item| !owed.contains(item)) {
            if let Some(waiting) = self.first_fitting(item) {
                self.check(2, false, sequence, || format!("{waiting} waits for what is free"));
            }
        }
    }

    /// INV-5: this basket overtakes no waiting place that fits.
    fn nobody_passed_by(&mut self, sequence: Sequence, id: AttemptId, basket: &Basket) {
        for line in basket.iter() {
            let passed_by = self.first_fitting(line.item);
            self.checked.order += 1;
            self.check(5, passed_by.is_none(), sequence, || {
                format!("{id} passes by {passed_by:?}, which waits and fits")
            });
        }
    }

    /// INV-3, counted over everything that the shopper has: which limit this would break.
    fn over_limit(&self, id: AttemptId, shopper: ShopperKey, basket: &Basket, round: u16) -> Option<String> {
        // It may be among them already.
        let own = self.seen.get(&id).filter(|seen| seen.standing.counts() && seen.shopper == shopper);
        let with =
            |had: Option<&u64>, units: u64| had.copied().unwrap_or(0) + if own.is_some() { 0 } else { units };
        let limit = self.sale_limit;
        if limit > 0 {
            let units = basket.iter().map(|line| u64::from(line.quantity)).sum();
            let of_sale = with(self.has.all.get(&shopper), units);
            if of_sale > u64::from(limit) {
                return Some(format!("{id}: its shopper has {of_sale} units, the sale's limit is {limit}"));
            }
        }
        basket.iter().find_map(|line| {
            let item = line.item;
            let limit = self.limits.get(&(round, item)).copied().filter(|limit| *limit > 0)?;
            let sum = with(self.has.of.get(&(shopper, round, item)), line.quantity.into());
            (sum > u64::from(limit)).then(|| {
                format!("{id}: its shopper has {sum} of item {item} in round {round}, the limit is {limit}")
            })
        })
    }

    fn within_limits(&mut self, sequence: Sequence, id: AttemptId, seen: &Seen) {
        self.checked.limits += 1;
        let over = self.over_limit(id, seen.shopper, &seen.basket, seen.round);
        self.check(3, over.is_none(), sequence, || over.unwrap_or_default());
    }

    fn eligible(&self, shopper: ShopperKey, tier: u8) -> bool {
        let listed = match self.spec.as_ref().map(|spec| spec.eligibility) {
            None => false,
            Some(Eligibility::Everyone) => true,
            Some(Eligibility::Reservation) => self.reserved.contains(&shopper),
            Some(Eligibility::Tier { min }) => tier >= min,
            Some(Eligibility::List) => self.allowed.contains(&shopper),
            Some(Eligibility::All { reservation, list, tier_min }) => {
                let reserved = !reservation || self.reserved.contains(&shopper);
                let is_listed = !list || self.allowed.contains(&shopper);
                reserved && is_listed && tier >= tier_min
            }
        };
        listed && !self.denied.contains(&shopper)
    }

    fn accept(&mut self, sequence: Sequence, attempt: &Attempt, round: u16, standing: Standing) -> Seen {
        self.checked.answers += 1;
        let id = attempt.id;
        let open = self.round == Some(round) && !self.paused;
        self.check(4, open, sequence, || format!("{id} while round {round} is not open"));
        let offered = attempt.basket.iter().all(|line| self.limits.contains_key(&(round, line.item)));
        self.check(4, offered, sequence, || format!("{id} for what round {round} does not offer"));
        let eligible = self.eligible(attempt.shopper, attempt.tier);
        self.check(3, eligible, sequence, || format!("{id}: its shopper may not buy"));
        let (shopper, basket) = (attempt.shopper, attempt.basket);
        let seen = Seen { shopper, basket, round, order: self.accepted, standing, pay_by: TimeMs(0) };
        self.accepted += 1;
        self.within_limits(sequence, id, &seen);
        let before = self.seen.contains_key(&id);
        self.check(4, !before, sequence, || format!("{id} was answered before"));
        if !before {
            self.seen.insert(id, seen);
            self.has.follow(&seen, None, standing);
        }
        seen
    }

    /// A new hold can be paid for exactly as long as the sale says.
    fn hold_begins(&mut self, sequence: Sequence, id: AttemptId, pay_by: TimeMs) {
        let length = self.spec.as_ref().map_or(0, |spec| spec.hold_seconds);
        let honest = pay_by == self.now.plus(DurationMs::seconds(length));
        let now = self.now;
        self.check(4, honest, sequence, || {
            format!("{id} is to be paid by {pay_by}, and a hold of {now} has {length} s")
        });
        if let Some(seen) = self.seen.get_mut(&id) {
            self.held.remove(&(seen.pay_by, id));
            seen.pay_by = pay_by;
            if seen.standing == Standing::Held {
                self.held.insert((pay_by, id));
            }
        }
    }

    fn granted(&mut self, sequence: Sequence, attempt: &Attempt, round: u16, pay_by: TimeMs) {
        self.accept(sequence, attempt, round, Standing::Held);
        self.hold_begins(sequence, attempt.id, pay_by);
        self.count("granted", 1);
        self.nobody_passed_by(sequence, attempt.id, &attempt.basket);
        self.move_basket(sequence, &attempt.basket, -1, 1, 0);
    }

    /// Places on an item's waitlist.
    fn places(&self, item: usize) -> i128 {
        if self.waitlist_ended {
            return 0;
        }
        match self.spec.as_ref().map(|spec| spec.waitlist) {
            None => 0,
            Some(Waitlist::Places(places)) => i128::from(places),
            Some(Waitlist::Percent(percent)) => {
                let put_up = self.items.get(item).map_or(0, Item::put_up);
                (put_up * i128::from(percent) / 100).min(WAITLIST_PLACES_MAX)
            }
        }
    }

    fn waitlisted(&mut self, sequence: Sequence, attempt: &Attempt, round: u16, position: u32) {
        let id = attempt.id;
        let order = self.accept(sequence, attempt, round, Standing::Waiting).order;
        self.count("waitlisted", 1);
        let one = attempt.basket.len() == 1;
        self.check(3, one, sequence, || format!("{id} waits for several things"));
        let line = attempt.basket[0];
        let lacks = self.free(line.item) < i128::from(line.quantity);
        self.check(2, lacks, sequence, || format!("{id} must wait for what is free"));
        let places = self.places(usize::from(line.item));
        // If an attempt was answered before, the first answer counts.
        let waits_for = self.seen.get(&id).map_or(line.quantity, |seen| seen.basket[0].quantity);
        let Some(item) = self.items.get_mut(usize::from(line.item)) else { return };
        let (before, put_up) = (item.waiting.len() as i128, item.put_up());
        item.waiting.insert(waits_for, order, id);
        self.checked.places += 1;
        self.check(3, before < places, sequence, || {
            format!("{id} is number {} on a waitlist of {places} places", before + 1)
        });
        self.check(3, i128::from(line.quantity) <= put_up, sequence, || {
            format!("{id} waits for {} of item {}, and there are {put_up}", line.quantity, line.item)
        });
        self.check(4, i128::from(position) == before + 1, sequence, || {
            format!("{id} is told position {position}, behind {before}")
        });
    }

    fn promoted(&mut self, sequence: Sequence, attempt: &Attempt, round: u16, pay_by: TimeMs) {
        let (id, item) = (attempt.id, attempt.basket[0].item);
        let denied = self.denied.contains(&attempt.shopper);
        self.check(3, !denied, sequence, || format!("{id} is promoted, and its shopper is on the deny list"));
        let ended = self.waitlist_ended;
        self.check(4, !ended, sequence, || format!("{id} is promoted after the waitlist's end"));
        let paused = self.paused;
        self.check(4, !paused, sequence, || format!("{id} is promoted while the sale is paused"));
        let first = self.first_fitting(item);
        self.checked.order += 1;
        self.check(5, first == Some(id), sequence, || {
            format!("{id} is promoted, but {first:?} is the first that fits")
        });
        let known = self.seen.get_mut(&id).filter(|seen| seen.standing == Standing::Waiting);
        let same = known.is_some_and(|seen| {
            // It counted while it waited, too.
            seen.standing = Standing::Held;
            let (order, line) = (seen.order, seen.basket[0]);
            if let Some(at) = self.items.get_mut(usize::from(line.item)) {
                at.waiting.remove(line.quantity, order);
            }
            (seen.shopper, seen.basket, seen.round) == (attempt.shopper, attempt.basket, round)
        });
        self.check(4, same, sequence, || format!("{id} is promoted and did not wait so"));
        self.hold_begins(sequence, id, pay_by);
        self.count("promoted", 1);
        self.move_basket(sequence, &attempt.basket, -1, 1, 0);
    }

    /// Whether a payment after a hold's end may still buy.
    fn may_claim(&self, id: AttemptId, seen: &Seen) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.late_payment == LatePayment::ClaimIfFree)
            && seen.basket.iter().all(|line| {
                self.free(line.item) >= i128::from(line.quantity) && self.first_fitting(line.item).is_none()
            })
            && self.over_limit(id, seen.shopper, &seen.basket, seen.round).is_none()
    }

    /// The units belong to the shopper from here on, so they are taken from wherever they were,
    /// legally or not.
    fn confirmed(&mut self, sequence: Sequence, hold: AttemptId, late: bool) {
        let Some(seen) = self.seen.get_mut(&hold) else {
            return self.check(4, false, sequence, || format!("{hold} is confirmed but was never granted"));
        };
        let was = *seen;
        seen.standing = Standing::Confirmed;
        self.has.follow(&was, Some(was.standing), Standing::Confirmed);
        self.held.remove(&(was.pay_by, hold));
        let legal = match was.standing {
            Standing::Held => !late,
            Standing::Expired | Standing::Released => late,
            _ => false,
        };
        self.check(4, legal, sequence, || {
            format!("{hold} is {}, confirmed late: {late}", was.standing.as_str())
        });
        match was.standing {
            Standing::Held => self.move_basket(sequence, &was.basket, 0, -1, 1),
            Standing::Confirmed => {}
            _ => {
                self.leave(&was);
                let taken = self.spec.as_ref().map(|spec| spec.late_payment);
                self.check(4, taken == Some(LatePayment::ClaimIfFree), sequence, || {
                    format!("{hold} is paid late, which the sale does not take")
                });
                self.within_limits(sequence, hold, &was);
                self.nobody_passed_by(sequence, hold, &was.basket);
                self.move_basket(sequence, &was.basket, -1, 0, 1);
            }
        }
    }

    /// A payment is refunded only if it cannot buy.
    fn refund(&mut self, sequence: Sequence, hold: AttemptId) {
        let Some(seen) = self.seen.get(&hold).copied() else {
            return self.check(4, false, sequence, || format!("{hold} is paid back but was never granted"));
        };
        let due = match seen.standing {
            Standing::Confirmed | Standing::Voided => true,
            Standing::Expired | Standing::Released => !self.may_claim(hold, &seen),
            Standing::Waiting | Standing::Left | Standing::Held => false,
        };
        self.check(4, due, sequence, || {
            format!("{hold} is {}, and a payment that buys is paid back", seen.standing.as_str())
        });
    }

    fn payment(&mut self, sequence: Sequence, hold: AttemptId, payment: &str) {
        let before = *self.payments.entry(payment.to_owned()).or_insert(hold);
        self.check(4, before == hold, sequence, || {
            format!("payment {payment} is settled for {hold}, and was for {before}")
        });
        let fresh = self.settled.insert((hold, payment.to_owned()));
        self.check(4, fresh, sequence, || format!("payment {payment} of {hold} is settled twice"));
    }

    /// A place is given up or taken back; by the sale itself only if its shopper was denied.
    fn left(&mut self, sequence: Sequence, attempt: AttemptId, by: &Actor) {
        let waited = self.seen.get(&attempt).is_some_and(|seen| seen.standing == Standing::Waiting);
        let denied = self.seen.get(&attempt).is_some_and(|seen| self.denied.contains(&seen.shopper));
        let may = denied || self.waitlist_ended;
        self.check(4, by.name != Actor::TIMER || may, sequence, || {
            format!("{attempt} is taken off the line, and is not on the deny list")
        });
        self.check(4, waited, sequence, || format!("{attempt} leaves and did not wait"));
        if waited {
            self.ended(sequence, attempt, Standing::Released);
        }
    }

    fn leave(&mut self, seen: &Seen) {
        if let Some(at) = self.items.get_mut(usize::from(seen.basket[0].item)) {
            at.waiting.remove(seen.basket[0].quantity, seen.order);
        }
    }

    fn expired(&mut self, sequence: Sequence, hold: AttemptId) {
        self.checked.expiries += 1;
        let (now, pay_by) = (self.now, self.seen.get(&hold).map_or(TimeMs(0), |seen| seen.pay_by));
        self.check(4, now >= pay_by, sequence, || {
            format!("{hold} expires {} ms before its pay_by", pay_by.since(now).0)
        });
        let first = self.first_end().filter(|(end, _)| *end < pay_by);
        self.check(2, first.is_none(), sequence, || {
            first.map_or_else(String::new, |(end, first)| {
                format!("{hold} expires before {first}, whose time was over at {end}")
            })
        });
        self.ended(sequence, hold, Standing::Expired);
    }

    fn ended(&mut self, sequence: Sequence, hold: AttemptId, end: Standing) {
        let Some(seen) = self.seen.get_mut(&hold) else {
            return self.check(4, false, sequence, || format!("{hold} ends but was never granted"));
        };
        let was = *seen;
        match was.standing {
            Standing::Waiting if end != Standing::Expired => {
                seen.standing = Standing::Left;
                self.has.follow(&was, Some(was.standing), Standing::Left);
                self.leave(&was);
            }
            Standing::Held => {
                seen.standing = end;
                self.has.follow(&was, Some(was.standing), end);
                self.held.remove(&(was.pay_by, hold));
                self.move_basket(sequence, &was.basket, 1, -1, 0);
            }
            Standing::Confirmed if end == Standing::Voided => {
                seen.standing = end;
                self.has.follow(&was, Some(was.standing), end);
                self.move_basket(sequence, &was.basket, 1, 0, -1);
            }
            _ => self.check(4, false, sequence, || {
                format!("{hold} is {}, not to be {}", was.standing.as_str(), end.as_str())
            }),
        }
    }
}
