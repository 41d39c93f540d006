//! What the gate needs from the sales behind it. `floodgate` wires the sale's worker into these: by
//! function call in one process, by socket between two.

use contracts::{
    Actor, Attempt, AttemptId, Found, GateRefusal, Mailbox, OperateError, Operation, OperationDone, SaleId,
    SaleStats, SaleView, ShopperKey, Told,
};
pub use contracts::{ShopperRecord, Unavailable, Winner, WinnerEvent};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use tokio::sync::{oneshot, watch};
use units::{Sequence, TimeMs};

/// A reply that comes later. A dropped sender means that the process is stopping.
pub type Reply<T> = oneshot::Receiver<Result<T, Unavailable>>;

/// How full a sale's queue is, and the line behind it. A long line under a low rate is no load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFill {
    /// Attempts that wait for a decision, those in line not counted.
    pub length: u64,
    pub max: u64,
    /// Attempts in line.
    pub line: u64,
    pub line_max: u64,
}

/// One sale.
pub trait Sale: Send + Sync {
    /// What everybody may know of it. Cheap: no lock that a writer holds for long.
    fn view(&self) -> Arc<SaleView>;

    /// Hands an attempt to the writer, or joins the decision of the same one. What comes is its
    /// answer; or at once its place in line, if the answer is expected later than in `patience_ms`,
    /// and then whoever asked is not told more. If there is no room ([`Unavailable::LineFull`],
    /// [`Unavailable::TooManyInLine`]), what was promised to this very attempt before is said all
    /// the same; so it is to whoever is in line.
    fn attempt(&self, attempt: Attempt, patience_ms: u64) -> Reply<Told>;

    /// The same for many at once, each under a token. What they hear comes to `to`, together with
    /// all that are decided together. `batch` is left empty.
    fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>);

    /// Whether the sale itself must answer this shopper: something is kept of them, or an attempt
    /// of theirs is not decided yet. To be asked after [`Sale::view`]: nobody is missed who had got
    /// something by then. Somebody else may be taken for one.
    fn may_have(&self, shopper: ShopperKey) -> bool;

    /// An attempt of this shopper waits here for its turn: until it is [no
    /// longer](Sale::no_longer_expect) expected, [`Sale::may_have`] says yes.
    fn expect(&self, shopper: ShopperKey);

    /// Takes back one [`Sale::expect`].
    fn no_longer_expect(&self, shopper: ShopperKey);

    /// Takes the report of what a gate has told shoppers by itself, from [`SaleView::alone`]; it is
    /// logged.
    fn gate_refused(&self, counts: &[GateRefusal]);

    /// How full the queue is. Takes the queue's lock for a moment.
    fn queue(&self) -> QueueFill;

    /// Where a shopper's attempt stands that is not decided yet, or how it was refused lately, if
    /// they were told a place before; or why it was not taken up, if that has not been said. Where
    /// the sale is in this process, the reply is there at once.
    fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Option<Told>>;

    /// What the sale keeps of an attempt; [`Answer::None`] if nothing, or if it is another
    /// shopper's.
    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Found>;

    /// All that the sale keeps of a shopper's attempts, newest first, 100 at the most; and whether
    /// they have a reservation.
    fn shopper(&self, shopper: ShopperKey) -> Reply<ShopperRecord>;

    /// Carries out a command and logs it with its actor.
    fn operate(&self, actor: Actor, operation: Operation) -> Reply<Result<OperationDone, OperateError>>;

    /// The sale in figures.
    fn stats(&self) -> Reply<SaleStats>;

    /// The log's last durable entry, and every new one.
    fn sequence(&self) -> watch::Receiver<Sequence>;

    /// Tells this log from every other one, also from one that was restored from its backup.
    fn log_id(&self) -> &str;

    /// Events after `after`, in order, `max` at the most, and the sequence up to which the log was
    /// searched. Blocks on the disk: call it off the event loop.
    fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable>;
}

/// Why a challenge was not marked as used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UseError {
    /// It was before.
    Used,
    /// It expired so long ago that it was forgotten.
    Forgotten,
    /// More are used and not yet expired than the ledger may hold.
    Full,
    /// Too many wait.
    Busy,
    /// The disk did not take it.
    Disk(String),
}

impl fmt::Display for UseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("it was used before"),
            Self::Forgotten => f.write_str("it has expired"),
            Self::Full => f.write_str("the ledger of used challenges is full (gate.challenge.used_max)"),
            Self::Busy => f.write_str("too many challenges are being used at once"),
            // Why is for the log, not for whoever asks.
            Self::Disk(_) => f.write_str("the ledger of used challenges cannot be written"),
        }
    }
}

/// Which challenges were used. There is one such ledger for all gates of a sale.
pub trait UsedChallenges: fmt::Debug + Send + Sync {
    /// Marks a challenge, by its nonce, as used; durable once this says `Ok`, which it says once
    /// for each, also after a crash.
    fn use_up(
        &self,
        nonce: [u8; 16],
        expires_at: TimeMs,
        now: TimeMs,
    ) -> oneshot::Receiver<Result<(), UseError>>;
}

/// Whether a sale goes on, as machines ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaleHealth {
    /// It answers nobody until somebody sees to it: its writer has stopped for good, or its log
    /// could not be brought back.
    pub stopped: bool,
    /// The invariants (`INV-1` …) that were found broken, before anything was said of it.
    pub invariants_broken: Vec<&'static str>,
}

/// All sales of this process.
pub trait Sales: Send + Sync + 'static {
    /// The sale of this name.
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>>;

    /// Their names, in order.
    fn list(&self) -> Vec<SaleId>;

    /// Those whose log is there and could not be brought back: they answer nobody.
    fn down(&self) -> Vec<SaleId>;

    /// How a sale is, also one that is [down](Sales::down).
    fn health(&self, sale: &SaleId) -> SaleHealth;

    /// The sale of this name, with a new and empty log if there is none yet. Blocks on the disk.
    fn get_or_create(&self, sale: &SaleId) -> Result<Arc<dyn Sale>, Unavailable>;

    /// The time, which never runs backwards.
    fn now(&self) -> TimeMs;
}
