//! A seed's sale, and the commands of its shoppers, payments and operators. Small on purpose: few
//! units, few shoppers and many keys, so that sell-outs, limits, waitlists and releases happen all
//! the time.

use crate::bounds::{COMMAND_KEYS_MAX, Extreme, WAITING_PAGE_MAX};
use crate::model::Model;
use crate::names::{attempt_id, shopper_key};
use contracts::{
    Actor, Attempt, AttemptId, Basket, CommandKey, Eligibility, GateRefusal, ItemSpec, LINES_MAX,
    LIST_CHUNK_MAX, LatePayment, Line, ListKind, Operation, QUANTITY_MAX, REASON_BYTES_MAX, RoundItemLimit,
    RoundItemSpec, RoundSpec, STOCK_MAX, SaleSpec, SealedShopper, ShopperKey, SoldOutRange, VOID_BATCH_MAX,
    VoidTarget, WaitingQuery, Waitlist,
};
use sale::Command;
use sim::Habits;
use sim::story::EPOCH_MS;
use std::collections::BTreeSet;
use units::{Currency, DurationMs, Prng, Sequence, TimeMs};

/// How often shoppers, payments and operators do each thing in this seed, in a hundred.
#[derive(Debug)]
pub(crate) struct Manners {
    pub(crate) operators: u64,
    pub(crate) pays: u64,
    pub(crate) releases: u64,
}

/// A seed's shoppers, sale and attempts so far.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) manners: Manners,
    spec: SaleSpec,
    pub(crate) shoppers: Vec<(ShopperKey, u8)>,
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts of which a client was told that they were granted or waitlisted.
    pub(crate) holds: Vec<AttemptId>,
    payments: u64,
    /// Commands that were given under a key.
    keyed: Vec<(CommandKey, Operation)>,
    /// The next commands of a crowd, the last one first.
    crowd: Vec<Command>,
    /// Crowds that are still to come.
    crowds: u32,
    /// Attempts of crowds: what becomes of them is the crowd's business.
    pub(crate) crowded: BTreeSet<AttemptId>,
    /// Attempts in a crowd.
    crowd_len: usize,
    /// Long reports, or rows of refusals, that are still to come.
    bursts: u32,
    pub(crate) extreme: Option<Extreme>,
}

/// Attempts of a crowd: more than a step that counts to a thousand would end; and more than one
/// piece of the deadlines has.
const CROWD: usize = 1200;
const LARGE_CROWD: usize = 4500;

/// Makes room for a crowd: enough units of the first item, in all rounds, and no limit.
fn crowded(spec: &mut SaleSpec, crowd_len: usize) {
    spec.limit_per_shopper = 0;
    spec.hold_seconds = 3;
    for offer in spec.rounds.iter_mut().flat_map(|round| &mut round.items) {
        if offer.item == spec.items[0].item {
            (offer.stock, offer.limit_per_shopper) = (crowd_len as u64 * 2, 0);
        }
    }
}

/// By how much the whole sale is later than the run, in milliseconds: in one seed of twenty, whose
/// clock is then ahead at the start, and not by so much that the sale would open. What happens
/// before an opening is seldom seen otherwise. It has a generator of its own, so that the other
/// seeds run as they would without it.
fn opens_late_ms(mut prng: Prng) -> u64 {
    let mut prng = Prng::new(prng.next_u64() ^ 0x6c61_7465_6f70_656e);
    if prng.percent(5) { 120_000 + prng.below(2 * 3_600_000) } else { 0 }
}

/// Moves every time of a sale.
fn postpone(spec: &mut SaleSpec, by: DurationMs) {
    for round in &mut spec.rounds {
        (round.opens_at, round.closes_at) = (round.opens_at.plus(by), round.closes_at.plus(by));
    }
    spec.waitlist_ends_at = spec.waitlist_ends_at.map(|at| at.plus(by));
}

/// Kept attempts, and keys of commands, that are asked about when two machines are compared.
const PROBED: usize = 24;

fn item_name(item: u64) -> String {
    format!("item-{item}")
}

impl Workload {
    pub(crate) fn new(prng: &mut Prng, commands: u64) -> (Self, Habits) {
        let opens_late_ms = opens_late_ms(prng.clone());
        let extreme = Extreme::of(prng.clone());
        // In this order, on which the seeds depend.
        let batch_max = *prng.pick(&[1, 3, 8, 40]);
        let lost = *prng.pick(&[0, 3, 15]);
        let repeated = *prng.pick(&[0, 5, 20]);
        let operators = *prng.pick(&[2, 5, 12]);
        let trouble = *prng.pick(&[1, 3, 8]);
        let pays = *prng.pick(&[10, 50, 90]);
        let releases = *prng.pick(&[5, 30, 60]);
        let delay_ms_max = *prng.pick(&[1, 100, 3000]);
        let segment_bytes = *prng.pick(&[6 << 10, 16 << 10, 64 << 10]);
        let first_bytes = *prng.pick(&[4 << 10, 5 << 10, 64 << 10]);
        let time_jumps = prng.percent(50);
        let habits = Habits {
            batch_max,
            lost,
            repeated,
            trouble,
            delay_ms_max,
            first_bytes,
            segment_bytes,
            time_jumps,
            pause_ms_max: 30_000,
            ahead_at_start_ms: opens_late_ms * 3 / 4,
            counts_crowds: extreme.is_none(),
        };
        let is_hoarders = extreme == Some(Extreme::Hoarders);
        let manners = match is_hoarders {
            true => Manners { operators, pays: 90, releases: 5 },
            false => Manners { operators, pays, releases },
        };
        let shoppers = if is_hoarders { 3 } else { 3 + prng.below(14) };
        let shoppers = (0..shoppers).map(|n| (shopper_key(n), prng.below(4) as u8)).collect();
        // The average duration and commands of a turn (`sim::world`): the rounds fill the run, and
        // little more.
        let (turn_ms, ten_turns) = (425 + 37 * habits.batch_max, 6 * (1 + habits.batch_max));
        let mut spec = Self::sale(prng, commands * turn_ms * 10 / ten_turns);
        postpone(&mut spec, DurationMs(opens_late_ms));
        let (attempts, holds) = (Vec::new(), Vec::new());
        let mut crowds = if prng.percent(5) { 1 + prng.below(2) as u32 } else { 0 };
        let mut crowd_len = CROWD;
        if let Some(extreme) = extreme {
            extreme.change(prng, &mut spec);
            crowds = if extreme == Extreme::Holds { 1 } else { 0 };
            crowd_len = LARGE_CROWD;
        }
        if crowds > 0 {
            crowded(&mut spec, crowd_len);
        }
        let (payments, keyed, crowd, crowded) = (0, Vec::new(), Vec::new(), BTreeSet::new());
        let work = Self {
            manners,
            spec,
            shoppers,
            attempts,
            holds,
            payments,
            keyed,
            crowd,
            crowds,
            crowded,
            crowd_len,
            bursts: 3,
            extreme,
        };
        (work, habits)
    }

    /// Commands past the network: of a crowd, or such as reach a bound.
    pub(crate) fn together(&mut self, prng: &mut Prng, model: &Model, now: TimeMs) -> Vec<Command> {
        match self.extreme {
            None | Some(Extreme::Holds) => self.crowd(prng, model, now),
            Some(extreme) if prng.percent(if extreme == Extreme::Keys { 60 } else { 25 }) => match extreme {
                Extreme::Keys => self.many_keys(prng, model),
                Extreme::Payments => self.many_payments(prng, model),
                Extreme::Waiting => self.many_wait(prng, model),
                Extreme::Refusals => self.many_refusals(model),
                Extreme::Hoarders => self.many_units(prng, model),
                Extreme::Document | Extreme::Holds => Vec::new(),
            },
            Some(_) => Vec::new(),
        }
    }

    /// Commands under new keys, until more are known than are kept; then under those at both ends
    /// of what is kept, and under the last that is not. Then a gate's report.
    fn many_keys(&mut self, prng: &mut Prng, model: &Model) -> Vec<Command> {
        /// Less than a step has.
        const AT_ONCE: usize = 1500;
        let mut commands = Vec::new();
        if model.forgotten_key.is_none() {
            let left = (COMMAND_KEYS_MAX + 1).saturating_sub(model.commands.len());
            for _ in 0..left.min(AT_ONCE) {
                let operation = match prng.percent(5) {
                    true => Operation::Adjust { item: 0, delta: 1 },
                    false => Operation::Rate { per_second: prng.below(3) as u32 },
                };
                commands.push(operate(self.under_new_key(operation)));
            }
            return commands;
        }
        let ends = [model.forgotten_key.as_ref(), model.command_order.front(), model.command_order.back()];
        for key in ends.into_iter().flatten() {
            let known = self.keyed.iter().find(|(known, _)| known == key).cloned();
            commands.extend(known.map(|(key, operation)| operate(once(key, operation))));
        }
        commands.extend(self.long_report(model));
        commands
    }

    /// A gate's report of more ranges than an entry has: each from another entry on.
    fn long_report(&mut self, model: &Model) -> Option<Command> {
        const RANGES: u64 = 1030;
        let item = self.spec.items.len() as u16 - 1;
        let (since, last) = (model.sold_out_since(item)?, model.last);
        let first = (last + 1).checked_sub(RANGES).filter(|first| *first >= since)?;
        self.bursts = self.bursts.checked_sub(1)?;
        let range = |first| {
            let (first_as_of, last_as_of) = (Sequence(first), Sequence(last));
            GateRefusal::SoldOut(SoldOutRange { item, first_as_of, last_as_of, count: 1 + first % 3 })
        };
        Some(Command::GateRefusals((first..=last).map(range).collect()))
    }

    /// As many units more as a command may add, of an item that is scarce.
    fn many_units(&mut self, prng: &mut Prng, model: &Model) -> Vec<Command> {
        let item = self.item(prng);
        let is_scarce = model.items.get(usize::from(item)).is_some_and(|units| units.free < 1_000_000);
        if is_scarce {
            return vec![operate(Operation::Adjust { item, delta: STOCK_MAX as i64 })];
        }
        let basket = Basket::single(item, QUANTITY_MAX);
        let (shopper, tier) = self.shopper(prng);
        let is_free = model.open_round().is_some_and(|round| {
            model.offered(round, &basket) && !model.over_limit(shopper, &basket, round, None)
        });
        if self.bursts == 0 || !is_free {
            return Vec::new();
        }
        // More units than 16 bits hold; then a limit that binds, and in the end all taken back.
        self.bursts -= 1;
        let mut commands = Vec::new();
        for _ in 0..70 {
            let id = attempt_id(self.attempts.len() as u64);
            let attempt = Self::attempt_of(id, shopper, tier, basket);
            self.attempts.push(attempt);
            self.crowded.insert(id);
            commands.push(Command::Attempt(attempt));
        }
        let limit = RoundItemLimit { round: model.open_round().unwrap_or(0), item, limit: 1000 };
        commands.push(operate(Operation::Limits { sale: Some(1000), items: vec![limit] }));
        let more = Self::attempt_of(attempt_id((5 << 40) + u64::from(self.bursts)), shopper, tier, basket);
        commands.push(Command::Attempt(more));
        if prng.percent(50) {
            commands.push(operate(Operation::Void(VoidTarget::Shopper(shopper))));
            commands.push(operate(Operation::Limits {
                sale: Some(0),
                items: vec![RoundItemLimit { limit: 0, ..limit }],
            }));
        }
        commands
    }

    /// Payments for one hold until it may see no more, and some beyond; then one that it has seen.
    fn many_payments(&mut self, prng: &mut Prng, model: &Model) -> Vec<Command> {
        const PAYMENTS: usize = 18;
        let Some(hold) = self.some_hold(prng) else { return Vec::new() };
        let mut commands: Vec<Command> = (0..PAYMENTS)
            .map(|_| {
                self.payments += 1;
                operate(Operation::Confirm { hold, payment: format!("p{}", self.payments) })
            })
            .collect();
        let seen = model.find(hold).and_then(|kept| kept.payments.last());
        commands
            .extend(seen.map(|(payment, _)| operate(Operation::Confirm { hold, payment: payment.clone() })));
        commands.push(operate(self.beyond_a_bound(prng)));
        commands
    }

    /// More shoppers than a page has, who wait for the first item in as many quantities; then pages
    /// of them.
    fn many_wait(&mut self, prng: &mut Prng, model: &Model) -> Vec<Command> {
        const SHOPPERS: u64 = 1100;
        let all = u64::from(QUANTITY_MAX);
        let may_wait = model.open_round().is_some_and(|round| {
            model.offered(round, &Basket::single(0, 1)) && !model.paused && !model.waitlist_ended
        });
        if self.crowded.is_empty() && may_wait && model.items[0].free < 2 * all as i64 {
            let mut commands = Vec::new();
            for n in 0..SHOPPERS {
                let quantity = if n < 2 { all } else { 1 + prng.below(all) };
                let id = attempt_id(self.attempts.len() as u64);
                let basket = Basket::single(0, quantity as u16);
                let attempt = Self::attempt_of(id, shopper_key((3 << 32) + n), 3, basket);
                self.attempts.push(attempt);
                self.crowded.insert(id);
                commands.push(Command::Attempt(attempt));
            }
            return commands;
        }
        self.pages(model)
    }

    /// Pages of those who wait: of all, of each item, and from the middle on.
    pub(crate) fn pages(&self, model: &Model) -> Vec<Command> {
        let max = WAITING_PAGE_MAX + 1;
        let whole = WaitingQuery { item: None, after: Sequence(0), max };
        let page = model.page(&whole);
        let mut queries = vec![whole.clone(), WaitingQuery { item: Some(0), ..whole.clone() }];
        for place in [page.last(), page.get(page.len() / 2)].into_iter().flatten() {
            let item = Some(place.basket[0].item);
            queries.push(WaitingQuery { after: place.as_of, ..whole.clone() });
            queries.push(WaitingQuery { after: place.as_of, item, max: 3 });
        }
        queries.into_iter().map(Command::Waiting).collect()
    }

    /// More different refusals than are counted before they are journalled.
    fn many_refusals(&mut self, model: &Model) -> Vec<Command> {
        const QUANTITIES: u16 = 600;
        let item = self.spec.items.len() as u16 - 1;
        if self.bursts == 0 || model.sold_out_since(item).is_none() {
            return Vec::new();
        }
        self.bursts -= 1;
        let (shopper, tier) = self.shoppers[0];
        let refused = (1..=QUANTITIES).map(|quantity| {
            let id = attempt_id((4 << 40) + u64::from(quantity));
            self.crowded.insert(id);
            Command::Attempt(Self::attempt_of(id, shopper, tier, Basket::single(item, quantity)))
        });
        refused.collect()
    }

    /// A crowd's next commands, if there is one: one shopper with more holds than a step of a
    /// thousand ends, payments for many of them at the moment at which all are due, and a void of
    /// all that are left.
    fn crowd(&mut self, prng: &mut Prng, model: &Model, now: TimeMs) -> Vec<Command> {
        let (shopper, tier) = self.shopper(prng);
        let basket = Basket::single(0, 1);
        let may_buy = model.open_round().is_some_and(|round| {
            model.offered(round, &basket)
                && !model.paused
                && model.eligible(shopper, tier)
                && !model.over_limit(shopper, &basket, round, None)
                && model.items[0].free > self.crowd_len as i64
        });
        if self.crowd.is_empty() && self.crowds > 0 && may_buy && prng.percent(10) {
            self.crowds -= 1;
            self.crowd.push(operate(Operation::Void(VoidTarget::Shopper(shopper))));
            let mut bought = Vec::new();
            for _ in 0..self.crowd_len {
                let id = attempt_id(self.attempts.len() as u64);
                let attempt = Self::attempt_of(id, shopper, tier, basket);
                self.attempts.push(attempt);
                self.crowded.insert(id);
                bought.push(attempt);
            }
            for attempt in bought.iter().step_by(5) {
                let payment = self.payment(prng);
                self.crowd.push(operate(Operation::Confirm { hold: attempt.id, payment }));
            }
            self.crowd.extend(bought.into_iter().map(Command::Attempt));
            // Held for long enough that the void meets them, or all due at once.
            if prng.percent(50) {
                self.crowd.remove(0);
            }
        }
        // First all that buy, and the rest when their time is over; or, with a void, before.
        let buys = self.crowd.iter().rev().take_while(|c| matches!(c, Command::Attempt(_))).count();
        let voids =
            matches!(self.crowd.first(), Some(Command::Operate { operation: Operation::Void(_), .. }));
        let is_time = !self.crowd.is_empty() && (voids && prng.percent(50) || model.late(now).is_some());
        let now = if buys > 0 {
            buys
        } else if is_time {
            self.crowd.len()
        } else {
            0
        };
        let mut commands = self.crowd.split_off(self.crowd.len() - now);
        commands.reverse();
        commands
    }

    fn sale(prng: &mut Prng, horizon_ms: u64) -> SaleSpec {
        let items = 1 + prng.below(4);
        let rounds = 1 + prng.below(3);
        let mut opens_at = EPOCH_MS + prng.below(horizon_ms / 20 + 1);
        let round_ms = horizon_ms / rounds;
        let mut round = |prng: &mut Prng| {
            let length = round_ms * (70 + prng.below(35)) / 100;
            let offer = |prng: &mut Prng, item| RoundItemSpec {
                item: item_name(item).parse().expect("a name of letters"),
                stock: *prng.pick(&[0, 1, 1, 2, 3, 5, 8, 13]),
                price_minor: 100,
                limit_per_shopper: *prng.pick(&[0, 1, 1, 2, 3, 6]),
            };
            let mut offers: Vec<RoundItemSpec> = (0..items).map(|item| offer(prng, item)).collect();
            if offers.len() > 1 && prng.percent(30) {
                offers.remove(prng.below(items) as usize);
            }
            let spec = RoundSpec {
                opens_at: TimeMs(opens_at),
                closes_at: TimeMs(opens_at + length.max(1)),
                items: offers,
            };
            opens_at += length.max(1) + if prng.percent(50) { 0 } else { prng.below(round_ms / 10 + 1) };
            spec
        };
        let rounds: Vec<RoundSpec> = (0..rounds).map(|_| round(prng)).collect();
        let (last, ends) = (&rounds[rounds.len() - 1], prng.percent(25));
        let open_ms = last.closes_at.since(last.opens_at).0;
        let waitlist_ends_at = ends.then(|| last.opens_at.plus(DurationMs(1 + prng.below(open_ms + 20_000))));
        SaleSpec {
            waitlist_ends_at,
            name: "sale".into(),
            name_zh: None,
            currency: Currency::NONE,
            eligibility: match prng.below(6) {
                0 => Eligibility::Reservation,
                1 => Eligibility::Tier { min: 1 + prng.below(2) as u8 },
                2 => Eligibility::List,
                3 => Eligibility::All {
                    reservation: prng.percent(50),
                    list: true,
                    tier_min: prng.below(2) as u8,
                },
                _ => Eligibility::Everyone,
            },
            limit_per_shopper: *prng.pick(&[0, 0, 0, 2, 4, 7]),
            hold_seconds: *prng.pick(&[1, 3, 10, 40]),
            late_payment: if prng.percent(70) { LatePayment::ClaimIfFree } else { LatePayment::Refund },
            waitlist: match prng.below(5) {
                0 => Waitlist::Places(0),
                1 => Waitlist::Percent(*prng.pick(&[10, 50, 100])),
                _ => Waitlist::Places(1 + prng.below(6) as u32),
            },
            items: (0..items)
                .map(|item| ItemSpec {
                    item: item_name(item).parse().expect("a name of letters"),
                    name: item_name(item),
                    name_zh: None,
                    picture: None,
                })
                .collect(),
            rounds,
        }
    }

    /// The sale's document, and the lists that it needs before it opens.
    pub(crate) fn set_up(&mut self, prng: &mut Prng) -> Vec<Command> {
        let mut commands = vec![operate(Operation::Define(Box::new(self.spec.clone())))];
        if self.extreme == Some(Extreme::Document) {
            let too_large = Extreme::too_large(&self.spec).into_iter();
            commands.extend(too_large.map(|spec| operate(Operation::Define(Box::new(spec)))));
        }
        if self.spec.eligibility.wants_list() {
            let half = self.shoppers.len() / 2;
            let keys: Vec<ShopperKey> = self.shoppers.iter().map(|s| s.0).collect();
            for (clear, chunk) in [(true, &keys[..half]), (false, &keys[half..])] {
                let mut chosen: Vec<ShopperKey> =
                    chunk.iter().filter(|_| prng.percent(80)).copied().collect();
                if prng.percent(20) {
                    // As long as a part may be, those who come to the sale last.
                    let others = (LIST_CHUNK_MAX - chosen.len()) as u64;
                    chosen.splice(0..0, (0..others).map(|n| shopper_key((1 << 32) + n)));
                }
                commands.push(list(ListKind::Allowed, clear, chosen));
            }
            if prng.percent(20) {
                let too_many = (0..=LIST_CHUNK_MAX as u64).map(shopper_key).collect();
                commands.push(list(ListKind::Allowed, true, too_many));
            }
        }
        if self.spec.eligibility.wants_reservation() {
            for (shopper, _) in self.shoppers.clone() {
                if prng.percent(80) {
                    commands.push(operate(Operation::Reserve { shopper, reserved: true }));
                }
            }
        }
        commands
    }

    fn shopper(&mut self, prng: &mut Prng) -> (ShopperKey, u8) {
        *prng.pick(&self.shoppers)
    }

    fn item(&mut self, prng: &mut Prng) -> u16 {
        prng.below(self.spec.items.len() as u64) as u16
    }

    fn basket(&mut self, prng: &mut Prng) -> Basket {
        let items = self.spec.items.len() as u64;
        let count = *prng.pick(&[1, 1, 1, 2, 3]);
        // One in two hundred asks for an item that does not exist.
        let beyond = u64::from(prng.percent(1) && prng.percent(50));
        let extreme = self.extreme;
        let line = |prng: &mut Prng| Line {
            item: match extreme {
                Some(Extreme::Document) if prng.percent(20) => items as u16 - 1,
                _ => prng.below(items + beyond) as u16,
            },
            quantity: match extreme {
                Some(Extreme::Hoarders) => *prng.pick(&[1, 1, 1, 2, 17, QUANTITY_MAX, QUANTITY_MAX]),
                _ => *prng.pick(&[1, 1, 1, 1, 2, 3, 4]),
            },
        };
        let lines: Vec<Line> = match extreme {
            Some(Extreme::Document) if prng.percent(20) => some_lines(prng, items),
            _ => (0..count).map(|_| line(prng)).collect(),
        };
        Basket::new(&lines).unwrap_or_else(|_| Basket::single(0, 1))
    }

    /// A shopper's new attempt.
    pub(crate) fn attempt(&mut self, prng: &mut Prng) -> Attempt {
        let (shopper, tier) = self.shopper(prng);
        let id = attempt_id(self.attempts.len() as u64);
        let attempt = Self::attempt_of(id, shopper, tier, self.basket(prng));
        self.attempts.push(attempt);
        attempt
    }

    fn attempt_of(id: AttemptId, shopper: ShopperKey, tier: u8, basket: Basket) -> Attempt {
        let sealed = SealedShopper::new(&shopper.0).expect("sixteen bytes");
        Attempt { id, shopper, sealed, tier, basket }
    }

    /// One of the attempts so far, a late one more likely.
    pub(crate) fn some_attempt(&mut self, prng: &mut Prng) -> Option<Attempt> {
        let count = self.attempts.len() as u64;
        let back = if prng.percent(70) { count.min(20) } else { count };
        (count > 0).then(|| self.attempts[(count - 1 - prng.below(back)) as usize])
    }

    /// An attempt that mostly has, or had, a hold or a place.
    fn some_hold(&mut self, prng: &mut Prng) -> Option<AttemptId> {
        if self.holds.is_empty() || prng.percent(15) {
            return self.some_attempt(prng).map(|attempt| attempt.id);
        }
        Some(*prng.pick(&self.holds))
    }

    /// The same key for another basket, or from another shopper.
    pub(crate) fn reused(&mut self, prng: &mut Prng, attempt: Attempt) -> Attempt {
        if prng.percent(80) {
            Attempt { basket: self.basket(prng), ..attempt }
        } else {
            Attempt { shopper: self.shopper(prng).0, ..attempt }
        }
    }

    /// A payment's reference: a new one, or one that another hold's payment has.
    pub(crate) fn payment(&mut self, prng: &mut Prng) -> String {
        self.payments += u64::from(prng.percent(90));
        format!("p{}", self.payments)
    }

    /// A read-only command.
    pub(crate) fn look(&mut self, prng: &mut Prng) -> Command {
        let Some(attempt) = self.some_attempt(prng) else { return Command::Stats };
        match prng.below(10) {
            0 => Command::Stats,
            1 => Command::Shopper(attempt.shopper),
            2 => Command::Lookup { attempt: attempt.id, shopper: self.shopper(prng).0 },
            3 => Command::Lookup { attempt: attempt_id(1 << 40), shopper: attempt.shopper },
            _ => Command::Lookup { attempt: attempt.id, shopper: attempt.shopper },
        }
    }

    /// A command of an operator, or a shopper's reservation.
    pub(crate) fn operation(&mut self, prng: &mut Prng, now: TimeMs) -> Command {
        let item = self.item(prng);
        let operation = match prng.below(40) {
            0..=3 => Operation::Pause,
            4..=9 => Operation::Resume,
            10 if prng.percent(20) => Operation::Close,
            10 => Operation::Resume,
            11 => Operation::Open,
            12..=13 => {
                let end = prng.pick(&self.spec.rounds).closes_at.0;
                let from = if prng.percent(80) { end } else { now.0 };
                // Up to the opening of a round, or anywhere.
                let closes_at = match prng.percent(25) {
                    true => prng.pick(&self.spec.rounds).opens_at,
                    false => TimeMs(from + prng.below(20_000)),
                };
                Operation::Extend { closes_at }
            }
            14..=20 => Operation::Adjust { item, delta: self.delta(prng) },
            21..=23 if self.extreme == Some(Extreme::Hoarders) => Operation::Limits {
                sale: Some(*prng.pick(&[0, 0, 30, 999, 1000])),
                items: vec![RoundItemLimit {
                    round: prng.below(self.spec.rounds.len() as u64) as u16,
                    item,
                    limit: *prng.pick(&[0, 17, 40, 1000]),
                }],
            },
            21..=23 => Operation::Limits {
                sale: prng.percent(50).then(|| prng.below(8) as u32),
                items: vec![RoundItemLimit {
                    round: prng.below(self.spec.rounds.len() as u64) as u16,
                    item,
                    limit: prng.below(5) as u16,
                }],
            },
            24 if prng.percent(30) => Operation::EndWaitlist,
            24 => Operation::Rate { per_second: prng.below(3) as u32 },
            25..=26 => {
                let clear = prng.percent(50);
                let chosen = self.shoppers.iter().map(|s| s.0).filter(|_| prng.percent(15)).collect();
                return list(ListKind::Denied, clear, chosen);
            }
            27 => {
                let chosen = self.shoppers.iter().map(|s| s.0).filter(|_| prng.percent(70)).collect();
                return list(ListKind::Allowed, prng.percent(60), chosen);
            }
            28..=29 => Operation::Void(VoidTarget::Shopper(self.shopper(prng).0)),
            30 if prng.percent(10) => self.beyond_a_bound(prng),
            30..=34 => {
                let count = 1 + prng.below(3);
                let ids: Vec<AttemptId> = (0..count).filter_map(|_| self.some_hold(prng)).collect();
                Operation::Void(VoidTarget::Attempts(ids))
            }
            35 => {
                let mut spec = self.spec.clone();
                spec.limit_per_shopper = prng.below(6) as u32;
                Operation::Define(Box::new(spec))
            }
            36..=37 => match self.some_hold(prng) {
                Some(hold) => Operation::Release { hold },
                None => Operation::Resume,
            },
            _ => {
                let reserved = prng.percent(70);
                Operation::Reserve { shopper: self.shopper(prng).0, reserved }
            }
        };
        operate(self.under_a_key(prng, operation))
    }

    fn delta(&self, prng: &mut Prng) -> i64 {
        let most = STOCK_MAX as i64;
        match self.extreme {
            Some(Extreme::Hoarders) => *prng.pick(&[1, most, most, -most, most - 1, -1]),
            _ => *prng.pick(&[1, 1, 2, 4, -1, -1, -2, -9, 0]),
        }
    }

    /// A command that is larger than commands may be, or as large as they may be.
    fn beyond_a_bound(&mut self, prng: &mut Prng) -> Operation {
        let some = self.some_hold(prng).unwrap_or(attempt_id(0));
        let limit = RoundItemLimit { round: 0, item: 0, limit: 1000 };
        let more = usize::from(prng.percent(50));
        match prng.below(5) {
            0 => Operation::Void(VoidTarget::Attempts(vec![some; VOID_BATCH_MAX + more])),
            1 => Operation::Limits { sale: Some(1000 + more as u32), items: Vec::new() },
            2 => Operation::Limits { sale: None, items: vec![limit; 1000 + more] },
            3 => {
                self.payments += 1;
                let payment = format!("{:p<len$}", self.payments, len = REASON_BYTES_MAX + more);
                Operation::Confirm { hold: some, payment }
            }
            _ => Operation::Adjust { item: 0, delta: -(STOCK_MAX as i64) - more as i64 },
        }
    }

    /// Perhaps gives the command a key, or repeats one that was given before, or uses its key for
    /// this one.
    fn under_a_key(&mut self, prng: &mut Prng, operation: Operation) -> Operation {
        if !self.keyed.is_empty() && prng.percent(15) {
            let back = prng.below(self.keyed.len().min(8) as u64) as usize;
            let (key, known) = self.keyed[self.keyed.len() - 1 - back].clone();
            if prng.percent(70) {
                return once(key, known);
            }
            return once(CommandKey { command: [0xff; 16], ..key }, known);
        }
        if !operation.takes_key() || prng.percent(50) {
            return operation;
        }
        self.under_new_key(operation)
    }

    fn under_new_key(&mut self, operation: Operation) -> Operation {
        let number = (self.keyed.len() as u128 + 1).to_le_bytes();
        let key = CommandKey { id: number, command: number };
        self.keyed.push((key, operation.clone()));
        once(key, operation)
    }

    /// Commands whose answers show every part of a sale's state: what is kept of each shopper,
    /// which payments and keys were seen, who is on which list, what is free, and who is next in
    /// line.
    pub(crate) fn probes(&self, model: &Model) -> Vec<Command> {
        let mut probes = vec![Command::Stats];
        probes.extend(self.shoppers.iter().map(|(shopper, _)| Command::Shopper(*shopper)));
        let newest = model.kept.iter().rev().take(PROBED);
        for kept in newest {
            let hold = kept.attempt.id;
            // As it was paid, by another's payment, and by a new one.
            for payment in [kept.payments.last().map(|(seen, _)| seen.clone()), Some(format!("probe {hold}"))]
            {
                let confirm = |payment| operate(Operation::Confirm { hold, payment });
                probes.extend(payment.map(confirm));
            }
            probes.push(Command::Attempt(kept.attempt));
        }
        let keyed = self.keyed.iter().rev().take(PROBED).cloned();
        probes.extend(keyed.map(|(key, operation)| operate(once(key, operation))));
        let ends = [model.forgotten_key.as_ref(), model.command_order.front()];
        for key in ends.into_iter().flatten() {
            let known = self.keyed.iter().find(|(known, _)| known == key).cloned();
            probes.extend(known.map(|(key, operation)| operate(once(key, operation))));
        }
        probes.push(operate(Operation::Resume));
        let items = self.spec.items.len() as u64;
        // Of two hundred items some, and the last.
        let of_items: Vec<u64> = (0..items).filter(|item| items <= 16 || (item + 1) % 20 == 0).collect();
        let asks = (0..).zip(&self.shoppers).flat_map(|(n, (shopper, tier))| {
            of_items.iter().map(move |&item| {
                let id = attempt_id((2 << 40) + n * items + item);
                Self::attempt_of(id, *shopper, *tier, Basket::single(item as u16, 1))
            })
        });
        let asks: Vec<Command> = asks.map(Command::Attempt).collect();
        probes.extend(asks.clone());
        for item in 0..items as u16 {
            probes.push(operate(Operation::Adjust { item, delta: 2 }));
        }
        let void = |(shopper, _): &(ShopperKey, u8)| operate(Operation::Void(VoidTarget::Shopper(*shopper)));
        probes.extend(self.shoppers.iter().take(2).map(void));
        probes.extend(asks);
        probes.push(operate(Operation::EndWaitlist));
        probes.push(Command::Stats);
        probes
    }

    /// An unexpected payment, for any attempt.
    pub(crate) fn stray_payment(&mut self, prng: &mut Prng) -> Option<Command> {
        let hold = self.some_hold(prng)?;
        let payment = self.payment(prng);
        Some(operate(Operation::Confirm { hold, payment }))
    }
}

fn once(key: CommandKey, operation: Operation) -> Operation {
    Operation::Once { key, operation: Box::new(operation) }
}

/// As many lines as a basket may have, of different items.
fn some_lines(prng: &mut Prng, items: u64) -> Vec<Line> {
    let from = prng.below(items.saturating_sub(LINES_MAX as u64) + 1);
    let lines = from..(from + LINES_MAX as u64).min(items);
    lines.map(|item| Line { item: item as u16, quantity: 1 }).collect()
}

/// Who gives all commands.
pub(crate) fn operator() -> Actor {
    Actor::new("simulator", "because")
}

/// A command of the operators' side.
pub(crate) fn operate(operation: Operation) -> Command {
    Command::Operate { actor: operator(), operation }
}

fn list(list: ListKind, clear: bool, shoppers: Vec<ShopperKey>) -> Command {
    operate(Operation::List { list, clear, shoppers })
}
