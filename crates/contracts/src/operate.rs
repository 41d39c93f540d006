//! Commands of operators and payments to a sale, and its replies. Each command that changes
//! something is logged with its actor and reason.

use crate::{AttemptId, HoldView, ItemId, SaleSpec, ShopperKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use units::{Sequence, TimeMs};

/// Bytes of a reason, a payment reference or an actor's name.
pub const REASON_BYTES_MAX: usize = 200;

/// Shopper keys in one chunk of an uploaded list (64 KiB in the log).
pub const LIST_CHUNK_MAX: usize = 4096;

/// Attempts that one void may name.
pub const VOID_BATCH_MAX: usize = 4096;

/// Who gave the command and why, as the log will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The API key's name, or one of [`Actor::SYSTEM`].
    pub name: String,
    /// In the actor's own words; may be empty where nothing is owed to a shopper.
    pub reason: String,
}

impl Actor {
    /// What the sale does because it is due.
    pub const TIMER: &str = "timer";
    /// The pause of a sale whose log is ahead of the clock.
    pub const CLOCK: &str = "clock";
    /// The pause of a sale that was restored from a backup.
    pub const RESTORE: &str = "restore";
    /// A visitor of the demo's page, or the program that sets the demo up.
    pub const DEMO: &str = "demo";
    /// A shopper's reservation, and what a shopper gives back.
    pub const SHOPPER: &str = "shopper";
    /// In the message service's log: what the sales tell, what it tells itself, and what an
    /// endpoint's answer did.
    pub const SALE: &str = "sale";
    pub const NOTIFY: &str = "notify";
    pub const ENDPOINT: &str = "endpoint";
    /// The store of this process, which confirms and releases holds.
    pub const STORE: &str = "floodgate-store";
    /// The names by which logs call what no API key has asked for. None of them may be the name of
    /// a key, or its commands could not be told from what is done by itself.
    pub const SYSTEM: [&str; 9] = [
        Self::TIMER,
        Self::CLOCK,
        Self::RESTORE,
        Self::DEMO,
        Self::SHOPPER,
        Self::SALE,
        Self::NOTIFY,
        Self::ENDPOINT,
        Self::STORE,
    ];

    /// A shopper who gives a hold back, or a place, on the sale's page.
    pub fn giving_back() -> Self {
        Self::new(Self::SHOPPER, "given back on the sale's page")
    }

    /// Whether this is the sale itself, which does what is due.
    pub fn is_timer(&self) -> bool {
        self.name == Self::TIMER
    }

    /// The same with both texts truncated to [`REASON_BYTES_MAX`].
    pub fn new(name: &str, reason: &str) -> Self {
        let cut = |text: &str| text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        Self { name: cut(name), reason: cut(reason) }
    }
}

/// Whose stock a void returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoidTarget {
    /// All that this shopper holds, has bought or waits for.
    Shopper(ShopperKey),
    /// These attempts, [`VOID_BATCH_MAX`] at the most.
    Attempts(Vec<AttemptId>),
}

/// A list of shoppers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// The shoppers who may buy, if the sale's eligibility is a list.
    Allowed,
    /// The shoppers who may not buy.
    Denied,
}

/// A new limit per shopper for an item in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundItemLimit {
    pub round: u16,
    pub item: u16,
    pub limit: u16,
}

/// The Idempotency-Key of a command, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandKey {
    /// A hash of the caller's name and the key.
    pub id: [u8; 16],
    /// A hash of the command with its reason.
    pub command: [u8; 16],
}

/// A command to a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Opens the next round now.
    Open,
    Pause,
    Resume,
    /// Ends the open round now.
    Close,
    /// Moves the end of the open round.
    Extend {
        closes_at: TimeMs,
    },
    /// Adds or takes away stock of the sale's `item`-th item, never below what is held and sold.
    Adjust {
        item: u16,
        delta: i64,
    },
    /// `sale`: units per shopper over all rounds (`Some(0)` lifts it, `None` leaves it).
    Limits {
        sale: Option<u32>,
        items: Vec<RoundItemLimit>,
    },
    /// Ends the waitlists for good: all who wait leave, and no place is given any more.
    EndWaitlist,
    /// Attempts admitted per second; 0 lifts it.
    Rate {
        per_second: u32,
    },
    /// Adds a chunk to a list; the first chunk of an upload clears the list.
    List {
        list: ListKind,
        clear: bool,
        shoppers: Vec<ShopperKey>,
    },
    Void(VoidTarget),
    /// The hold was paid. `payment` is the provider's reference, by which a repeat is recognised.
    Confirm {
        hold: AttemptId,
        payment: String,
    },
    /// The hold, or the place on the waitlist, is given back.
    Release {
        hold: AttemptId,
    },
    /// Puts the shopper on the list of reservations, or takes them off.
    Reserve {
        shopper: ShopperKey,
        reserved: bool,
    },
    /// A command of an operator that is carried out once, however often it comes with this key.
    Once {
        key: CommandKey,
        operation: Box<Self>,
    },
    /// Sets the sale up, or changes its document as long as no round has opened.
    Define(Box<SaleSpec>),
}

impl Operation {
    /// Whether it may have an Idempotency-Key. The others are idempotent by themselves.
    pub fn takes_key(&self) -> bool {
        match self {
            Self::Open
            | Self::Pause
            | Self::Resume
            | Self::Close
            | Self::Extend { .. }
            | Self::Adjust { .. }
            | Self::Limits { .. }
            | Self::Rate { .. }
            | Self::EndWaitlist
            | Self::Void(_) => true,
            Self::List { .. }
            | Self::Confirm { .. }
            | Self::Release { .. }
            | Self::Reserve { .. }
            | Self::Once { .. }
            | Self::Define(_) => false,
        }
    }
}

/// The result of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfirmResult {
    /// The units are the shopper's. `late`: it came after the deadline and stock was left.
    Confirmed { late: bool },
    /// The units are not the shopper's: refund the payment.
    Refund,
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationDone {
    /// Done, or already done.
    Ok,
    /// The number of attempts that were voided; the others were already over.
    Voided {
        count: u64,
    },
    Confirmed {
        result: ConfirmResult,
        hold: HoldView,
    },
    Released {
        hold: Option<HoldView>,
    },
    /// An item's new figures.
    Adjusted {
        free: u64,
    },
    Reserved {
        reserved: bool,
    },
}

/// Why an operation was refused, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperateError {
    /// It does not fit the sale's current state.
    Conflict(String),
    /// It names something that the sale does not have.
    NotFound(String),
    /// The command is wrong in any state of the sale.
    Invalid(String),
}

impl fmt::Display for OperateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(why) | Self::NotFound(why) | Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OperateError {}

/// Why a sale is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// An operator has paused it.
    #[default]
    Operator,
    /// Its log's last entry was ahead of the machine's clock. It waits for an operator's resume.
    Clock,
    /// It was restored from a backup. It waits for an operator's resume.
    Restored,
}

impl PauseCause {
    pub const ALL: [Self; 3] = [Self::Operator, Self::Clock, Self::Restored];

    /// The cause of a pause that this actor has logged.
    pub fn of(actor: &Actor) -> Self {
        match &*actor.name {
            Actor::CLOCK => Self::Clock,
            Actor::RESTORE => Self::Restored,
            _ => Self::Operator,
        }
    }

    /// The cause's name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Clock => "clock",
            Self::Restored => "restored",
        }
    }

    /// What an operator must do, if the sale has paused by itself.
    pub fn what_to_do(self) -> Option<&'static str> {
        match self {
            Self::Operator => None,
            Self::Clock => Some(
                "its log is ahead of this machine's clock: set the clock right and restart, or resume it if the log's time is right",
            ),
            Self::Restored => Some(
                "it was restored from a backup: resume it once the server that the backup is of is gone for good",
            ),
        }
    }
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    pub cause: PauseCause,
    /// The entry since which the sale has been paused.
    pub as_of: Sequence,
}

/// A sale in figures, for its operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
pub struct SaleStats {
    pub as_of: Sequence,
    /// Why the sale is paused, if it is.
    #[serde(default)]
    pub pause: Option<Pause>,
    pub items: Vec<ItemStats>,
    /// Attempts by outcome since the log began: granted, waitlisted, and each refusal (these as
    /// journalled, so up to a second late).
    pub outcomes: BTreeMap<String, u64>,
    pub reservations: u64,
    pub denied: u64,
    pub allowed: u64,
    pub rate_per_second: u32,
    /// Payments that bought nothing and must be refunded, since the log began.
    #[serde(default)]
    pub refunds_due: u64,
    /// Attempts that wait for a decision, those in line not counted.
    pub queue: u64,
    /// Attempts in line before the queue.
    pub line: u64,
}

/// An item in figures. `initial + adjustments = free + held + sold`, always (INV-6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemStats {
    pub item: ItemId,
    pub initial: u64,
    pub adjustments: i64,
    pub free: u64,
    pub held: u64,
    pub sold: u64,
    /// Places on the waitlist.
    pub waiting: u64,
}
