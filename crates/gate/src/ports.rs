//! The ports of the gate: what it needs from the sales. `floodgate` implements them with the sale's
//! worker, by function calls in one process and by a socket between two.

use contracts::{
    Actor, Attempt, AttemptId, Found, GateRefusal, Mailbox, OperateError, Operation, OperationDone, SaleId,
    SaleSpec, SaleStats, SaleView, ShopperKey, TimelineEntry, TimelineFilter, Told, WaitingPlace,
    WaitingQuery,
};
pub use contracts::{ShopperRecord, Unavailable, Winner, WinnerEvent};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use tokio::sync::{oneshot, watch};
use units::{Sequence, TimeMs};

/// A reply that comes later. A dropped sender means that the process is stopping.
pub type Reply<T> = oneshot::Receiver<Result<T, Unavailable>>;

/// The result of setting a sale up or deleting it.
pub type Made = Result<Result<(), OperateError>, Unavailable>;

/// How full a sale's queue is, and the line after it. A long line under a low rate is no load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFill {
    /// Attempts that wait for a decision, without those in line.
    pub length: u64,
    pub max: u64,
    /// Attempts in line.
    pub line: u64,
    pub line_max: u64,
}

/// One sale.
pub trait Sale: Send + Sync {
    /// The public state of the sale. Cheap: takes no lock that a writer holds for long.
    fn view(&self) -> Arc<SaleView>;

    /// Whether the sale was deleted, or stopped and started again, since this was obtained: ask
    /// [`Sales::get`] again. Cheap.
    fn is_gone(&self) -> bool;

    /// Hands an attempt to the writer, or waits for the decision of the same attempt if it is
    /// queued already. The reply is its answer; or, at once, its place in line, if the answer is
    /// expected later than in `patience_ms`: no further reply follows then. If there is no room
    /// ([`Unavailable::LineFull`], [`Unavailable::TooManyInLine`]), the reply is still an earlier
    /// promise to the same attempt, or its place if it is in line.
    fn attempt(&self, attempt: Attempt, patience_ms: u64) -> Reply<Told>;

    /// The same for many attempts at once, each with a token. Their replies go to `to`, those of
    /// one batch together. `batch` is left empty.
    fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>);

    /// Whether the sale itself must answer this shopper: it keeps something of them, or an attempt
    /// of theirs is not decided yet. To be called after [`Sale::view`]: then no shopper who has
    /// something by that view is missed. False positives are possible.
    fn may_have(&self, shopper: ShopperKey) -> bool;

    /// An attempt of this shopper waits at the gate for its turn. Until it is [no
    /// longer](Sale::no_longer_expect) expected, [`Sale::may_have`] is true.
    fn expect(&self, shopper: ShopperKey);

    /// Takes back one [`Sale::expect`].
    fn no_longer_expect(&self, shopper: ShopperKey);

    /// Takes a report of the answers that a gate gave without asking the sale, from
    /// [`SaleView::alone`]. The report is logged.
    fn gate_refused(&self, counts: &[GateRefusal]);

    /// How full the queue is. Takes the queue's lock for a moment.
    fn queue(&self) -> QueueFill;

    /// The place of a shopper's attempt that is not decided yet; or how it was refused a short time
    /// ago, if the shopper was told a place before; or why it was not queued, if the shopper has
    /// not been told. If the sale is in this process, the reply is there at once.
    fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Option<Told>>;

    /// What the sale keeps of an attempt; [`Answer::None`] if nothing, or if the attempt is another
    /// shopper's.
    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Found>;

    /// What the sale keeps of a shopper's attempts, newest first, at most 100; and whether they
    /// have a reservation.
    fn shopper(&self, shopper: ShopperKey) -> Reply<ShopperRecord>;

    /// Carries out a command and logs it with its actor.
    fn operate(&self, actor: Actor, operation: Operation) -> Reply<Result<OperationDone, OperateError>>;

    /// The sale in figures.
    fn stats(&self) -> Reply<SaleStats>;

    /// A page of those who wait.
    fn waiting(&self, query: WaitingQuery) -> Reply<Vec<WaitingPlace>>;

    /// When these entries of the log were written, in order: of all, or of the first ones. Blocks
    /// on the disk.
    fn times(&self, of: &[Sequence]) -> Result<Vec<TimeMs>, Unavailable>;

    /// The log's last durable entry, and every new one.
    fn sequence(&self) -> watch::Receiver<Sequence>;

    /// Identifies this log. A log that was restored from a backup has another id.
    fn log_id(&self) -> &str;

    /// The log in words: entries after `after` that are wanted, in order, at most `max`, and the
    /// sequence up to which the log was searched. Blocks on the disk: call it off the event loop.
    fn timeline(
        &self,
        after: Sequence,
        wanted: TimelineFilter,
        max: usize,
    ) -> Result<(Vec<TimelineEntry>, Sequence), Unavailable>;

    /// Events after `after`, in order, at most `max`, and the sequence up to which the log was
    /// searched. Blocks on the disk: call it off the event loop.
    fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable>;
}

/// Why a challenge was not marked as used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UseError {
    /// It was used before.
    Used,
    /// It expired so long ago that the ledger has forgotten it.
    Forgotten,
    /// The ledger is full of used challenges that have not expired.
    Full,
    /// Too many uses wait to be written.
    Busy,
    /// Writing it to the disk failed.
    Disk(String),
}

impl fmt::Display for UseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("it was used before"),
            Self::Forgotten => f.write_str("it has expired"),
            Self::Full => f.write_str("the ledger of used challenges is full (gate.challenge.used_max)"),
            Self::Busy => f.write_str("too many challenges are being used at once"),
            // The reason is for the log, not for the caller.
            Self::Disk(_) => f.write_str("the ledger of used challenges cannot be written"),
        }
    }
}

/// Which challenges were used. All gates of a sale share one ledger.
pub trait UsedChallenges: fmt::Debug + Send + Sync {
    /// Marks a challenge as used, by its nonce. The mark is durable once this returns `Ok`, which
    /// it does only once for each challenge, even after a crash.
    fn use_up(
        &self,
        nonce: [u8; 16],
        expires_at: TimeMs,
        now: TimeMs,
    ) -> oneshot::Receiver<Result<(), UseError>>;
}

/// Whether the message service runs, in the process with the sales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageService {
    /// There is to be none.
    None,
    /// Its log is read, it waits for what is short, or it has stopped.
    Down,
    Runs,
}

/// The health of a sale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaleHealth {
    /// It answers no requests until an operator acts: its writer has stopped for good, or its log
    /// could not be recovered.
    pub stopped: bool,
    /// The invariants (`INV-1` …) that were found broken, before any shopper was told of the
    /// result.
    pub invariants_broken: Vec<&'static str>,
}

/// All sales of this process.
pub trait Sales: Send + Sync + 'static {
    /// The sale with this name.
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>>;

    /// Their names, in order.
    fn list(&self) -> Vec<SaleId>;

    /// Sales whose log exists and could not be recovered: they answer no requests.
    fn down(&self) -> Vec<SaleId>;

    /// The health of a sale, also of one that is [down](Sales::down).
    fn health(&self, sale: &SaleId) -> SaleHealth;

    /// What runs beside the sales in this process, as far as operators watch it here.
    fn message_service(&self) -> MessageService {
        MessageService::None
    }

    /// Sets a sale up, or changes its document as long as no round has opened. A sale that was
    /// refused, or could not be written, leaves nothing behind. Blocks on the disk.
    fn define(&self, sale: &SaleId, actor: Actor, spec: Box<SaleSpec>) -> Made;

    /// Deletes a sale that never opened, and in whose log no shopper has an entry, with all of its
    /// files. Blocks on the disk.
    fn delete(&self, sale: &SaleId) -> Made;

    /// The time, which never runs backwards.
    fn now(&self) -> TimeMs;
}
