//! What a seed's sale is, and what shoppers, payments and operators ask of it. Small on purpose: few units, few shoppers and
//! many keys, so that selling out, limits, waiting and giving back happen all the time.

use crate::story::{EPOCH_MS, attempt_id, shopper_key};
use contracts::{
    Actor, Attempt, AttemptId, Basket, Eligibility, ItemSpec, LatePayment, Line, ListKind, Operation,
    RoundItemLimit, RoundItemSpec, RoundSpec, SaleSpec, SealedShopper, ShopperKey, VoidTarget, Waitlist,
};
use sale::worker::Command;
use units::{Currency, Prng, TimeMs};

/// What differs from seed to seed, so that each meets another kind of trouble.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) batch_max: u64,
    /// In a hundred.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) operators: u64,
    pub(crate) trouble: u64,
    pub(crate) pays: u64,
    pub(crate) releases: u64,
    pub(crate) delay_ms_max: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) time_jumps: bool,
}

/// A seed's shoppers, sale and attempts so far.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) prng: Prng,
    pub(crate) habits: Habits,
    spec: SaleSpec,
    pub(crate) shoppers: Vec<(ShopperKey, u8)>,
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts that somebody heard were granted or waitlisted.
    pub(crate) holds: Vec<AttemptId>,
    payments: u64,
}

fn item_name(item: u64) -> String {
    format!("item-{item}")
}

impl Workload {
    pub(crate) fn new(seed: u64, commands: u64) -> Self {
        let mut prng = Prng::new(seed);
        let habits = Habits {
            batch_max: *prng.pick(&[1, 3, 8, 40]),
            lost: *prng.pick(&[0, 3, 15]),
            repeated: *prng.pick(&[0, 5, 20]),
            operators: *prng.pick(&[2, 5, 12]),
            trouble: *prng.pick(&[1, 3, 8]),
            pays: *prng.pick(&[10, 50, 90]),
            releases: *prng.pick(&[5, 30, 60]),
            delay_ms_max: *prng.pick(&[1, 100, 3000]),
            segment_bytes: *prng.pick(&[6 << 10, 16 << 10, 64 << 10]),
            time_jumps: prng.percent(50),
        };
        let shoppers = 3 + prng.below(14);
        let shoppers = (0..shoppers).map(|n| (shopper_key(n), prng.below(4) as u8)).collect();
        // What a turn takes on average (`World::pass_time`) and brings: the rounds fill the run, and little more.
        let (turn_ms, ten_turns) = (425 + 37 * habits.batch_max, 6 * (1 + habits.batch_max));
        let spec = Self::sale(&mut prng, commands * turn_ms * 10 / ten_turns);
        Self { prng, habits, spec, shoppers, attempts: Vec::new(), holds: Vec::new(), payments: 0 }
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
        let rounds = (0..rounds).map(|_| round(prng)).collect();
        SaleSpec {
            name: "sale".into(),
            name_zh: None,
            currency: Currency::NONE,
            eligibility: match prng.below(6) {
                0 => Eligibility::Reservation,
                1 => Eligibility::Tier { min: 1 + prng.below(2) as u8 },
                2 => Eligibility::List,
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
                })
                .collect(),
            rounds,
        }
    }

    /// The sale's document, and the lists that it needs before it opens.
    pub(crate) fn set_up(&mut self) -> Vec<Command> {
        let mut commands = vec![operate(Operation::Define(Box::new(self.spec.clone())))];
        match self.spec.eligibility {
            Eligibility::List => {
                let half = self.shoppers.len() / 2;
                let keys: Vec<ShopperKey> = self.shoppers.iter().map(|s| s.0).collect();
                for (clear, chunk) in [(true, &keys[..half]), (false, &keys[half..])] {
                    let chosen = chunk.iter().filter(|_| self.prng.percent(80)).copied().collect();
                    commands.push(list(ListKind::Allowed, clear, chosen));
                }
            }
            Eligibility::Reservation => {
                for (shopper, _) in self.shoppers.clone() {
                    if self.prng.percent(80) {
                        commands.push(operate(Operation::Reserve { shopper, reserved: true }));
                    }
                }
            }
            Eligibility::Everyone | Eligibility::Tier { .. } => {}
        }
        commands
    }

    fn shopper(&mut self) -> (ShopperKey, u8) {
        *self.prng.pick(&self.shoppers)
    }

    fn item(&mut self) -> u16 {
        self.prng.below(self.spec.items.len() as u64) as u16
    }

    fn basket(&mut self) -> Basket {
        let prng = &mut self.prng;
        let items = self.spec.items.len() as u64;
        let count = *prng.pick(&[1, 1, 1, 2, 3]);
        // One in two hundred asks for an item that there is not.
        let beyond = u64::from(prng.percent(1) && prng.percent(50));
        let line = |prng: &mut Prng| Line {
            item: prng.below(items + beyond) as u16,
            quantity: *prng.pick(&[1, 1, 1, 1, 2, 3, 4]),
        };
        let lines: Vec<Line> = (0..count).map(|_| line(prng)).collect();
        Basket::new(&lines).unwrap_or_else(|_| Basket::single(0, 1))
    }

    /// A shopper's new attempt.
    pub(crate) fn attempt(&mut self) -> Attempt {
        let (shopper, tier) = self.shopper();
        let attempt = Attempt {
            id: attempt_id(self.attempts.len() as u64),
            shopper,
            sealed: SealedShopper::new(&shopper.0).expect("sixteen bytes"),
            tier,
            basket: self.basket(),
        };
        self.attempts.push(attempt);
        attempt
    }

    /// One of the attempts so far, a late one more likely.
    pub(crate) fn some_attempt(&mut self) -> Option<Attempt> {
        let count = self.attempts.len() as u64;
        let back = if self.prng.percent(70) { count.min(20) } else { count };
        (count > 0).then(|| self.attempts[(count - 1 - self.prng.below(back)) as usize])
    }

    /// Mostly one that has, or had, a hold or a place.
    fn some_hold(&mut self) -> Option<AttemptId> {
        if self.holds.is_empty() || self.prng.percent(15) {
            return self.some_attempt().map(|attempt| attempt.id);
        }
        Some(*self.prng.pick(&self.holds))
    }

    /// The same key for something else, or from somebody else.
    pub(crate) fn reused(&mut self, attempt: Attempt) -> Attempt {
        if self.prng.percent(80) {
            Attempt { basket: self.basket(), ..attempt }
        } else {
            Attempt { shopper: self.shopper().0, ..attempt }
        }
    }

    /// A payment's reference: a new one, or one that another hold's payment has.
    pub(crate) fn payment(&mut self) -> String {
        self.payments += u64::from(self.prng.percent(90));
        format!("p{}", self.payments)
    }

    /// What somebody asks who only looks.
    pub(crate) fn look(&mut self) -> Command {
        let Some(attempt) = self.some_attempt() else { return Command::Stats };
        match self.prng.below(10) {
            0 => Command::Stats,
            1 => Command::Shopper(attempt.shopper),
            2 => Command::Lookup { attempt: attempt.id, shopper: self.shopper().0 },
            3 => Command::Lookup { attempt: attempt_id(1 << 40), shopper: attempt.shopper },
            _ => Command::Lookup { attempt: attempt.id, shopper: attempt.shopper },
        }
    }

    /// What an operator does, or a shopper who reserves.
    pub(crate) fn operation(&mut self, now: TimeMs) -> Command {
        let item = self.item();
        let prng = &mut self.prng;
        let operation = match prng.below(40) {
            0..=3 => Operation::Pause,
            4..=9 => Operation::Resume,
            10 if prng.percent(20) => Operation::Close,
            10 => Operation::Resume,
            11 => Operation::Open,
            12..=13 => {
                let end = prng.pick(&self.spec.rounds).closes_at.0;
                let from = if prng.percent(80) { end } else { now.0 };
                Operation::Extend { closes_at: TimeMs(from + prng.below(20_000)) }
            }
            14..=20 => Operation::Adjust { item, delta: *prng.pick(&[1, 1, 2, 4, -1, -1, -2, -9, 0]) },
            21..=23 => Operation::Limits {
                sale: prng.percent(50).then(|| prng.below(8) as u32),
                items: vec![RoundItemLimit {
                    round: prng.below(self.spec.rounds.len() as u64) as u16,
                    item,
                    limit: prng.below(5) as u16,
                }],
            },
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
            28..=29 => Operation::Void(VoidTarget::Shopper(self.shopper().0)),
            30..=34 => {
                let count = 1 + self.prng.below(3);
                let ids: Vec<AttemptId> = (0..count).filter_map(|_| self.some_hold()).collect();
                Operation::Void(VoidTarget::Attempts(ids))
            }
            35 => {
                let mut spec = self.spec.clone();
                spec.limit_per_shopper = self.prng.below(6) as u32;
                Operation::Define(Box::new(spec))
            }
            36..=37 => match self.some_hold() {
                Some(hold) => Operation::Release { hold },
                None => Operation::Resume,
            },
            _ => {
                let reserved = self.prng.percent(70);
                Operation::Reserve { shopper: self.shopper().0, reserved }
            }
        };
        operate(operation)
    }

    /// A payment out of the blue, for any attempt.
    pub(crate) fn stray_payment(&mut self) -> Option<Command> {
        let hold = self.some_hold()?;
        let payment = self.payment();
        Some(operate(Operation::Confirm { hold, payment }))
    }
}

/// A command of the operators' side.
pub(crate) fn operate(operation: Operation) -> Command {
    Command::Operate { actor: Actor::new("simulator", "because"), operation }
}

fn list(list: ListKind, clear: bool, shoppers: Vec<ShopperKey>) -> Command {
    operate(Operation::List { list, clear, shoppers })
}
