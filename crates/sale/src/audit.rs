//! Derives everything again from the log alone, and says of each invariant whether the log proves it.
//!
//! It shares the records' bytes with [`crate::core`] and nothing else: its own state is kept in the plainest way, so that a
//! mistake in the core's clever tables is not made here too. At the end the two are held against each other.

use crate::core::{Core, Entry, Record, RefusalCount, RefusalKind};
use contracts::{Attempt, Basket, SaleSpec};
use engines::log::{LogError, LogRead};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use units::{AttemptId, ItemId, Sequence, ShopperKey};

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    pub items: Vec<ItemReport>,
    /// Attempts by what was said to them.
    pub outcomes: BTreeMap<String, u64>,
    /// Holds by where they stand now.
    pub holds: BTreeMap<String, u64>,
    pub invariants: Vec<Verdict>,
}

/// An item's figures.
#[derive(Debug, Clone, Serialize)]
pub struct ItemReport {
    pub item: ItemId,
    pub initial: u64,
    pub adjustments: i64,
    pub free: i64,
    pub held: i64,
    pub sold: i64,
    pub waiting: u64,
}

/// Whether the log proves an invariant.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub id: &'static str,
    pub holds: bool,
    /// What was checked, or the first entry that breaks it.
    pub how: String,
}

impl Report {
    /// True if the log proves every invariant.
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(|v| v.holds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Waiting,
    Left,
    Held,
    Confirmed,
    Released,
    Expired,
    Voided,
}

impl Standing {
    fn as_str(self) -> &'static str {
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

#[derive(Debug)]
struct Seen {
    shopper: ShopperKey,
    basket: Basket,
    round: u16,
    /// Order in which it was accepted.
    order: u64,
    standing: Standing,
}

#[derive(Debug, Default)]
struct Item {
    initial: u64,
    adjustments: i64,
    free: i64,
    held: i64,
    sold: i64,
    /// Order of acceptance → attempt.
    waiting: BTreeMap<u64, AttemptId>,
    /// Free units behind each entry that changed them, since refusals were last journalled; and before that.
    history: Vec<(Sequence, i64)>,
}

/// The first entry that breaks an invariant, by its number.
#[derive(Debug, Default)]
struct Findings(BTreeMap<u8, String>);

impl Findings {
    fn check(&mut self, inv: u8, holds: bool, sequence: Sequence, why: impl FnOnce() -> String) {
        if !holds {
            self.0.entry(inv).or_insert_with(|| format!("entry {sequence}: {}", why()));
        }
    }
}

#[derive(Debug, Default)]
struct Auditor {
    spec: Option<SaleSpec>,
    items: Vec<Item>,
    round: Option<u16>,
    rounds_opened: u16,
    paused: bool,
    sale_limit: u32,
    /// (round, item) → limit.
    limits: HashMap<(u16, u16), u32>,
    seen: HashMap<AttemptId, Seen>,
    by_shopper: HashMap<ShopperKey, BTreeSet<AttemptId>>,
    /// (hold, payment) → refund?
    payments: HashMap<(AttemptId, String), bool>,
    outcomes: BTreeMap<String, u64>,
    /// Behind which entry the sale last changed between open, paused and closed.
    state_since: Sequence,
    refusals_since: Sequence,
    findings: Findings,
    checked: Checked,
}

/// How often each thing was checked, so that a verdict can say what it rests on.
#[derive(Debug, Default)]
struct Checked {
    stock: u64,
    refusals: u64,
    limits: u64,
    answers: u64,
    order: u64,
}

/// Audits a log, and a snapshot of it if there is one.
///
/// # Errors
/// If the log cannot be read, or an entry is none: then nothing is proven.
pub fn audit(log: &mut dyn LogRead, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Report, AuditError> {
    let mut auditor = Auditor::default();
    let mut core = Core::new();
    let mut same_bytes = None;
    let mut failed = None;
    let mut entries = 0;
    log.read(Sequence(1), &mut |sequence, bytes| {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                failed = Some(AuditError::Entry { sequence, why: error.to_string() });
                return ControlFlow::Break(());
            }
        };
        if let Err(error) = core.replay(sequence, bytes) {
            auditor.findings.check(7, false, sequence, || format!("the core refuses it: {error}"));
            return ControlFlow::Break(());
        }
        auditor.entry(sequence, &entry.record);
        entries += 1;
        if let Some((at, bytes)) = &snapshot
            && *at == sequence
            && Core::writes_like(bytes)
        {
            same_bytes = Some(core.snapshot() == *bytes);
        }
        ControlFlow::Continue(())
    })
    .map_err(AuditError::Log)?;
    match failed {
        Some(error) => Err(error),
        None => Ok(auditor.report(entries, &core, same_bytes)),
    }
}

/// Why nothing could be proven.
#[derive(Debug)]
pub enum AuditError {
    Log(LogError),
    Entry { sequence: Sequence, why: String },
}

impl std::fmt::Display for AuditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Entry { sequence, why } => write!(f, "entry {sequence}: {why}"),
        }
    }
}

impl std::error::Error for AuditError {}

impl Auditor {
    fn entry(&mut self, sequence: Sequence, record: &Record) {
        if !matches!(record, Record::Promoted { .. }) {
            self.nobody_waits_for_what_is_free(sequence);
        }
        match record {
            Record::Defined { spec, .. } => {
                self.items = spec.items.iter().map(|_| Item::default()).collect();
                self.sale_limit = spec.limit_per_shopper;
                self.limits.clear();
                for (round, offers) in spec.rounds.iter().enumerate() {
                    for offer in &offers.items {
                        if let Some(item) = spec.item_index(offer.item.as_str()) {
                            self.limits.insert((round as u16, item), offer.limit_per_shopper);
                        }
                    }
                }
                self.spec = Some(spec.as_ref().clone());
            }
            Record::RoundOpened { round, .. } => {
                self.state_since = sequence;
                self.round = Some(*round);
                self.rounds_opened = *round + 1;
                let Some(spec) = self.spec.clone() else { return };
                for offer in spec.rounds.get(usize::from(*round)).iter().flat_map(|r| &r.items) {
                    if let Some(item) = spec.item_index(offer.item.as_str()) {
                        self.items[usize::from(item)].initial += offer.stock;
                        self.move_units(sequence, item, offer.stock as i64, 0, 0);
                    }
                }
            }
            Record::RoundClosed { .. } => {
                self.state_since = sequence;
                self.round = None;
            }
            Record::Paused { .. } | Record::Resumed { .. } => {
                self.state_since = sequence;
                self.paused = matches!(record, Record::Paused { .. });
            }
            Record::Adjusted { item, delta, .. } => {
                self.items[usize::from(*item)].adjustments += delta;
                self.move_units(sequence, *item, *delta, 0, 0);
            }
            Record::Limits { sale, items, .. } => {
                self.sale_limit = sale.unwrap_or(self.sale_limit);
                self.limits.extend(items.iter().map(|l| ((l.round, l.item), u32::from(l.limit))));
            }
            Record::Granted { attempt, round, .. } => self.granted(sequence, attempt, *round),
            Record::Waitlisted { attempt, round, .. } => self.waitlisted(sequence, attempt, *round),
            Record::Promoted { attempt, .. } => self.promoted(sequence, attempt),
            Record::Confirmed { hold, payment, late, .. } => {
                self.confirmed(sequence, *hold, *late);
                self.payment(sequence, *hold, payment, false);
            }
            Record::RefundDue { hold, payment, .. } => self.payment(sequence, *hold, payment, true),
            Record::Released { hold, .. } => self.ended(sequence, *hold, Standing::Released),
            Record::Expired { hold } => self.ended(sequence, *hold, Standing::Expired),
            Record::Voided { hold, .. } => self.ended(sequence, *hold, Standing::Voided),
            Record::Left { attempt, .. } => self.left(sequence, *attempt),
            Record::Refusals { entries } => self.refusals(sequence, entries),
            Record::SpaceRegained { refused, .. } => {
                *self.outcomes.entry("paused".into()).or_default() += refused;
            }
            Record::Extended { .. } | Record::Rate { .. } | Record::List { .. } | Record::Reserved { .. } => {
            }
        }
    }

    /// INV-1 and INV-6 behind every movement.
    fn move_units(&mut self, sequence: Sequence, item: u16, free: i64, held: i64, sold: i64) {
        let since = self.refusals_since;
        let at = &mut self.items[usize::from(item)];
        if at.history.is_empty() {
            at.history.push((since, at.free));
        }
        at.free += free;
        at.held += held;
        at.sold += sold;
        at.history.push((sequence, at.free));
        let put_up = at.initial as i64 + at.adjustments;
        let (f, h, s) = (at.free, at.held, at.sold);
        self.checked.stock += 1;
        self.findings.check(1, f >= 0 && h >= 0 && s >= 0 && h + s <= put_up, sequence, || {
            format!("item {item}: {h} held and {s} sold of {put_up}")
        });
        self.findings.check(6, put_up == f + h + s, sequence, || {
            format!("item {item}: {put_up} put up, but {f} free + {h} held + {s} sold")
        });
    }

    fn move_basket(&mut self, sequence: Sequence, basket: &Basket, free: i64, held: i64, sold: i64) {
        for line in basket.iter() {
            let n = i64::from(line.quantity);
            self.move_units(sequence, line.item, free * n, held * n, sold * n);
        }
    }

    /// The first in line for an item that asks for no more than is free.
    fn first_fitting(&self, item: u16) -> Option<AttemptId> {
        let at = &self.items[usize::from(item)];
        let fits =
            |id: &&AttemptId| self.seen.get(*id).is_some_and(|s| i64::from(s.basket[0].quantity) <= at.free);
        if at.free <= 0 { None } else { at.waiting.values().find(fits).copied() }
    }

    /// INV-2, second half. Promotions follow at once what made them possible, so before any other entry nobody fits.
    fn nobody_waits_for_what_is_free(&mut self, sequence: Sequence) {
        if self.paused {
            return;
        }
        for item in 0..self.items.len() as u16 {
            if let Some(waiting) = self.first_fitting(item) {
                self.findings.check(2, false, sequence, || format!("{waiting} waits for what is free"));
            }
        }
    }

    /// INV-3, counted over everything that the shopper has.
    fn within_limits(
        &mut self,
        sequence: Sequence,
        id: AttemptId,
        shopper: ShopperKey,
        basket: &Basket,
        round: u16,
    ) {
        let mut of_sale: u32 = basket.iter().map(|l| u32::from(l.quantity)).sum();
        let mut of_item: BTreeMap<u16, u32> =
            basket.iter().map(|l| (l.item, u32::from(l.quantity))).collect();
        let others = self.by_shopper.get(&shopper).into_iter().flatten().filter(|other| **other != id);
        for other in others.filter_map(|other| self.seen.get(other)).filter(|s| s.standing.counts()) {
            for line in other.basket.iter() {
                of_sale += u32::from(line.quantity);
                if other.round == round
                    && let Some(sum) = of_item.get_mut(&line.item)
                {
                    *sum += u32::from(line.quantity);
                }
            }
        }
        self.checked.limits += 1;
        let sale_limit = self.sale_limit;
        self.findings.check(3, sale_limit == 0 || of_sale <= sale_limit, sequence, || {
            format!("{id}: its shopper has {of_sale} units, the sale's limit is {sale_limit}")
        });
        for (item, sum) in of_item {
            let limit = self.limits.get(&(round, item)).copied().unwrap_or(0);
            self.findings.check(3, limit == 0 || sum <= limit, sequence, || {
                format!("{id}: its shopper has {sum} of item {item} in round {round}, the limit is {limit}")
            });
        }
    }

    fn accept(&mut self, sequence: Sequence, attempt: &Attempt, round: u16, standing: Standing) {
        self.checked.answers += 1;
        let open = self.round == Some(round) && !self.paused;
        self.findings.check(4, open, sequence, || format!("{} while round {round} is not open", attempt.id));
        self.within_limits(sequence, attempt.id, attempt.shopper, &attempt.basket, round);
        let (shopper, basket) = (attempt.shopper, attempt.basket);
        let order = self.seen.len() as u64;
        let before = self.seen.insert(attempt.id, Seen { shopper, basket, round, order, standing });
        self.findings.check(4, before.is_none(), sequence, || format!("{} was answered before", attempt.id));
        self.by_shopper.entry(shopper).or_default().insert(attempt.id);
    }

    fn granted(&mut self, sequence: Sequence, attempt: &Attempt, round: u16) {
        self.accept(sequence, attempt, round, Standing::Held);
        *self.outcomes.entry("granted".into()).or_default() += 1;
        for line in attempt.basket.iter() {
            let passed_by = self.first_fitting(line.item);
            self.checked.order += 1;
            self.findings.check(5, passed_by.is_none(), sequence, || {
                format!("{} passes by {passed_by:?}, which waits and fits", attempt.id)
            });
        }
        self.move_basket(sequence, &attempt.basket, -1, 1, 0);
    }

    fn waitlisted(&mut self, sequence: Sequence, attempt: &Attempt, round: u16) {
        self.accept(sequence, attempt, round, Standing::Waiting);
        *self.outcomes.entry("waitlisted".into()).or_default() += 1;
        let line = attempt.basket[0];
        let order = self.seen[&attempt.id].order;
        let item = &mut self.items[usize::from(line.item)];
        let lacks = item.free < i64::from(line.quantity);
        item.waiting.insert(order, attempt.id);
        self.findings.check(2, lacks, sequence, || format!("{} must wait for what is free", attempt.id));
    }

    fn promoted(&mut self, sequence: Sequence, attempt: &Attempt) {
        let line = attempt.basket[0];
        let first = self.first_fitting(line.item);
        self.checked.order += 1;
        self.findings.check(5, first == Some(attempt.id), sequence, || {
            format!("{} is promoted, but {first:?} is the first that fits", attempt.id)
        });
        if let Some(seen) = self.seen.get_mut(&attempt.id) {
            seen.standing = Standing::Held;
            let order = seen.order;
            self.items[usize::from(line.item)].waiting.remove(&order);
        }
        *self.outcomes.entry("promoted".into()).or_default() += 1;
        self.move_basket(sequence, &attempt.basket, -1, 1, 0);
    }

    fn confirmed(&mut self, sequence: Sequence, hold: AttemptId, late: bool) {
        let Some(seen) = self.seen.get_mut(&hold) else {
            return self
                .findings
                .check(4, false, sequence, || format!("{hold} is confirmed but was never granted"));
        };
        let was = seen.standing;
        seen.standing = Standing::Confirmed;
        let (shopper, basket, round) = (seen.shopper, seen.basket, seen.round);
        let legal =
            if late { matches!(was, Standing::Expired | Standing::Released) } else { was == Standing::Held };
        self.findings
            .check(4, legal, sequence, || format!("{hold} is {}, confirmed late: {late}", was.as_str()));
        if late {
            self.within_limits(sequence, hold, shopper, &basket, round);
            self.move_basket(sequence, &basket, -1, 0, 1);
        } else {
            self.move_basket(sequence, &basket, 0, -1, 1);
        }
    }

    fn payment(&mut self, sequence: Sequence, hold: AttemptId, payment: &str, refund: bool) {
        let before = self.payments.insert((hold, payment.to_owned()), refund);
        self.findings
            .check(4, before.is_none(), sequence, || format!("payment {payment} of {hold} is settled twice"));
    }

    fn ended(&mut self, sequence: Sequence, hold: AttemptId, end: Standing) {
        let Some(seen) = self.seen.get_mut(&hold) else {
            return self.findings.check(4, false, sequence, || format!("{hold} ends but was never granted"));
        };
        let (was, basket, order) = (seen.standing, seen.basket, seen.order);
        match was {
            Standing::Waiting if end != Standing::Expired => {
                seen.standing = Standing::Left;
                self.items[usize::from(basket[0].item)].waiting.remove(&order);
            }
            Standing::Held => {
                seen.standing = end;
                self.move_basket(sequence, &basket, 1, -1, 0);
            }
            Standing::Confirmed if end == Standing::Voided => {
                seen.standing = end;
                self.move_basket(sequence, &basket, 1, 0, -1);
            }
            _ => self
                .findings
                .check(4, false, sequence, || format!("{hold} is {}, not to be {end:?}", was.as_str())),
        }
    }

    fn left(&mut self, sequence: Sequence, attempt: AttemptId) {
        let waited = self.seen.get(&attempt).is_some_and(|seen| seen.standing == Standing::Waiting);
        self.findings.check(4, waited, sequence, || format!("{attempt} leaves and did not wait"));
        if waited {
            self.ended(sequence, attempt, Standing::Released);
        }
    }

    /// INV-2, first half, and INV-4 for refusals: each was true when it was said, and stayed so until it was journalled.
    fn refusals(&mut self, sequence: Sequence, entries: &[RefusalCount]) {
        for e in entries {
            *self.outcomes.entry(e.kind.as_str().into()).or_default() += e.count;
            self.checked.refusals += e.count;
            let in_time = self.refusals_since <= e.first_as_of && e.first_as_of < sequence;
            self.findings.check(4, in_time, sequence, || format!("refusals as of {}", e.first_as_of));
            let state = match e.kind {
                RefusalKind::NotOpen | RefusalKind::Closed => self.state_since <= e.first_as_of,
                RefusalKind::Paused => self.paused && self.state_since <= e.first_as_of,
                _ => self.round.is_some() && !self.paused && self.state_since <= e.first_as_of,
            };
            self.findings.check(4, state, sequence, || {
                format!("{} {} said in another state", e.count, e.kind.as_str())
            });
            if e.kind == RefusalKind::SoldOut {
                let most_free = self.most_free_since(e.item, e.first_as_of);
                self.findings.check(2, most_free < i64::from(e.quantity), sequence, || {
                    format!(
                        "{} were refused {} of item {} while {most_free} were free",
                        e.count, e.quantity, e.item
                    )
                });
            }
        }
        self.refusals_since = sequence;
        for item in &mut self.items {
            item.history.clear();
        }
    }

    fn most_free_since(&self, item: u16, from: Sequence) -> i64 {
        let Some(at) = self.items.get(usize::from(item)) else { return i64::MAX };
        let before = at.history.iter().rev().find(|(sequence, _)| *sequence <= from);
        let after = at.history.iter().filter(|(sequence, _)| *sequence > from);
        before.into_iter().chain(after).map(|(_, free)| *free).max().unwrap_or(at.free)
    }

    fn report(mut self, entries: u64, core: &Core, snapshot_same: Option<bool>) -> Report {
        let end = Sequence(entries);
        self.nobody_waits_for_what_is_free(end);
        let stats = core.stats();
        for (item, s) in self.items.iter().zip(&stats.items) {
            let ours =
                (item.initial, item.adjustments, item.free, item.held, item.sold, item.waiting.len() as u64);
            let cores = (s.initial, s.adjustments, s.free as i64, s.held as i64, s.sold as i64, s.waiting);
            self.findings.check(7, ours == cores, end, || {
                format!("item {}: {ours:?} here, {cores:?} in the core", s.item)
            });
        }
        let restored = Core::restore(&core.snapshot()).map(|again| again.snapshot() == core.snapshot());
        self.findings.check(7, restored == Ok(true), end, || "a restored snapshot gives other bytes".into());
        let differs = snapshot_same == Some(false);
        self.findings.check(7, !differs, end, || "the stored snapshot differs from the log's replay".into());
        let c = &self.checked;
        let snapshot = match snapshot_same {
            Some(_) => "; the stored snapshot has the replay's bytes",
            None => "; no snapshot was stored",
        };
        let how = [
            (
                "INV-1",
                format!(
                    "never more held and sold than put up: checked behind {} movements of stock",
                    c.stock
                ),
            ),
            (
                "INV-2",
                format!(
                    "{} journalled refusals, none while it was free; nobody waited for what was free at any entry",
                    c.refusals
                ),
            ),
            (
                "INV-3",
                format!(
                    "{} grants, places and late payments recounted per shopper, item, round and sale",
                    c.limits
                ),
            ),
            (
                "INV-4",
                format!(
                    "{} answers, each said once, each hold's steps legal, each refusal true as of its sequence",
                    c.answers
                ),
            ),
            ("INV-5", format!("{} grants and promotions, none past somebody who waited and fitted", c.order)),
            ("INV-6", format!("initial + adjustments = free + held + sold behind {} movements", c.stock)),
            ("INV-7", format!("{entries} entries replayed: the core's figures are the auditor's{snapshot}")),
        ];
        let verdicts =
            how.into_iter().enumerate().map(|(at, (id, how))| match self.findings.0.get(&(at as u8 + 1)) {
                Some(broken) => Verdict { id, holds: false, how: broken.clone() },
                None => Verdict { id, holds: true, how },
            });
        let mut holds: BTreeMap<String, u64> = BTreeMap::new();
        for seen in self.seen.values() {
            *holds.entry(seen.standing.as_str().into()).or_default() += 1;
        }
        Report {
            entries,
            items: self
                .items
                .iter()
                .zip(self.spec.iter().flat_map(|spec| &spec.items))
                .map(|(item, spec)| ItemReport {
                    item: spec.item.clone(),
                    initial: item.initial,
                    adjustments: item.adjustments,
                    free: item.free,
                    held: item.held,
                    sold: item.sold,
                    waiting: item.waiting.len() as u64,
                })
                .collect(),
            outcomes: self.outcomes,
            holds,
            invariants: verdicts.collect(),
        }
    }
}
