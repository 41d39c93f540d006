//! Drives a core as a ledger: each test is a list of requests and answers.
#![allow(dead_code, reason = "each test file uses its part")]

use contracts::*;
use contracts::{AttemptId, ShopperKey};
use engines::log::{LogError, LogRead, Visit};
use runtime::{Progress, Step};
use sale::core::{Core, Entry, Operated, Record, SoFar};
use units::{Sequence, TimeMs};

pub const OPENS: u64 = 1_000_000;
pub const CLOSES: u64 = 2_000_000;
pub const HOLD_SECONDS: u64 = 10;

pub fn key(n: u8) -> ShopperKey {
    ShopperKey([n; 16])
}

pub fn id(n: u8) -> AttemptId {
    AttemptId([n; 16])
}

pub fn spec(stock: u64) -> SaleSpec {
    let json = format!(
        r#"{{"name":"Launch","currency":"CNY","hold_seconds":{HOLD_SECONDS},
            "items":[{{"item":"phone","name":"Phone"}},{{"item":"case","name":"Case"}}],
            "rounds":[{{"opens_at":"{}","closes_at":"{}","items":[
                {{"item":"phone","stock":{stock},"price_minor":199900,"limit_per_shopper":1}},
                {{"item":"case","stock":{stock},"price_minor":9900,"limit_per_shopper":5}}]}}]}}"#,
        TimeMs(OPENS),
        TimeMs(CLOSES)
    );
    serde_json::from_str(&json).unwrap()
}

/// A core, its log and its time.
pub struct Ledger {
    pub core: Core,
    pub now: u64,
    pub log: Vec<Vec<u8>>,
}

pub fn by() -> Actor {
    Actor::new("ops", "test")
}

impl Ledger {
    /// A sale that has just opened.
    pub fn open(spec: SaleSpec) -> Self {
        let mut ledger = Self { core: Core::new(), now: OPENS - 1000, log: Vec::new() };
        ledger.operate(Operation::Define(Box::new(spec))).unwrap();
        ledger.at(OPENS);
        ledger
    }

    /// What fits into one step: these ledgers are small.
    fn run<T>(&mut self, f: impl FnOnce(&mut Core, TimeMs, &mut Step) -> T) -> T {
        let mut step = Step::default();
        let now = TimeMs(self.now);
        assert_eq!(self.core.tick(now, &mut step).unwrap(), Progress::Done);
        let result = f(&mut self.core, now, &mut step);
        assert!(!step.is_full());
        self.log.extend(step.batch().entries().map(<[u8]>::to_vec));
        self.check_replay();
        result
    }

    /// INV-7, after every step: the log alone gives the same bytes, and so does a snapshot of it.
    fn check_replay(&self) {
        let mut replayed = Core::new();
        for (at, bytes) in self.log.iter().enumerate() {
            replayed.apply(&[Entry::decode(bytes).unwrap()]).unwrap();
            assert_eq!(replayed.sequence(), Sequence(at as u64 + 1));
        }
        let snapshot = self.core.snapshot();
        assert_eq!(replayed.snapshot(), snapshot, "replay differs");
        assert_eq!(Core::restore(&snapshot).unwrap().snapshot(), snapshot, "restore differs");
    }

    pub fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self.run(|_, _, _| ());
        self
    }

    /// Attempt `n` of shopper `who`.
    pub fn attempt(&mut self, n: u8, who: u8, lines: &[(u16, u16)]) -> Answer {
        let lines: Vec<Line> = lines.iter().map(|&(item, quantity)| Line { item, quantity }).collect();
        let sealed = SealedShopper::new(&[who]).unwrap();
        let attempt =
            Attempt { id: id(n), shopper: key(who), sealed, tier: who, basket: Basket::new(&lines).unwrap() };
        self.run(|core, now, out| core.attempt(now, &attempt, out).unwrap())
    }

    /// The answer in a word: `granted`, `waitlisted 3`, `sold_out`, `key_reused` …
    pub fn buy(&mut self, n: u8, who: u8, lines: &[(u16, u16)]) -> String {
        match self.attempt(n, who, lines) {
            Answer::Granted(hold) => format!("granted {}", hold.state.as_str()),
            Answer::Waitlisted { position, place: Place::Waiting } => format!("waitlisted {position}"),
            Answer::Waitlisted { position, place: Place::Left } => format!("waitlisted {position} left"),
            Answer::Waitlisted { position, place: Place::Promoted(hold) } => {
                format!("waitlisted {position} {}", hold.state.as_str())
            }
            Answer::Refused { refusal: Refusal::LimitReached { held_by: Some(by) }, .. } => {
                format!("limit_reached {}", by.0[0])
            }
            Answer::Refused { refusal, .. } => refusal.as_str().to_owned(),
            Answer::KeyReused => "key_reused".into(),
            Answer::None { .. } => "none".into(),
        }
    }

    pub fn operate(&mut self, operation: Operation) -> Result<OperationDone, OperateError> {
        self.run(|core, now, out| match core.operate(now, by(), operation, SoFar::default(), out).unwrap() {
            Operated::Done(done) => done,
            Operated::More(so_far) => panic!("the step is not full: {so_far:?}"),
        })
    }

    /// `confirmed`, `confirmed late`, `refund`, or why not.
    pub fn pay(&mut self, n: u8, payment: &str) -> String {
        match self.operate(Operation::Confirm { hold: id(n), payment: payment.into() }) {
            Ok(OperationDone::Confirmed { result: ConfirmResult::Confirmed { late: false }, .. }) => {
                "confirmed".into()
            }
            Ok(OperationDone::Confirmed { result: ConfirmResult::Confirmed { late: true }, .. }) => {
                "confirmed late".into()
            }
            Ok(OperationDone::Confirmed { result: ConfirmResult::Refund, .. }) => "refund".into(),
            other => format!("{other:?}"),
        }
    }

    pub fn release(&mut self, n: u8) {
        self.operate(Operation::Release { hold: id(n) }).unwrap();
    }

    /// Free, held, sold, waiting of an item.
    pub fn stock(&self, item: usize) -> (u64, u64, u64, u64) {
        let stats = self.core.stats();
        let item = &stats.items[item];
        (item.free, item.held, item.sold, item.waiting)
    }

    pub fn records(&self) -> Vec<Record> {
        self.log.iter().map(|bytes| Entry::decode(bytes).unwrap().record).collect()
    }
}

/// A log that is nothing but its entries, for readers of logs.
pub struct MemoryLog(pub Vec<Vec<u8>>);

impl LogRead for MemoryLog {
    fn last(&self) -> Sequence {
        Sequence(self.0.len() as u64)
    }

    fn first(&self) -> Sequence {
        Sequence(1)
    }

    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        let mut last = Sequence(from.0.max(1) - 1);
        for bytes in self.0.iter().skip(last.0 as usize) {
            last = last.next();
            if visit(last, bytes).is_break() {
                break;
            }
        }
        Ok(last)
    }
}
