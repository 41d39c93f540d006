//! Counts of refusals, which are logged together.

use contracts::Refusal;
use units::Sequence;

/// The count of refusals of one kind. `item` and `quantity` are what was asked for and not free
/// (sold out), else 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalCount {
    pub kind: RefusalKind,
    pub item: u16,
    pub quantity: u16,
    /// The sequence that the first of them named.
    pub first_as_of: Sequence,
    pub count: u64,
}

/// The kinds of [`Refusal`], without their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalKind {
    SoldOut = 1,
    LimitReached = 2,
    NotEligible = 3,
    NotOpen = 4,
    Closed = 5,
    Paused = 6,
}

impl RefusalKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::SoldOut, Self::LimitReached, Self::NotEligible, Self::NotOpen, Self::Closed, Self::Paused];

    /// The name that answers, metrics and audits use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::LimitReached => "limit_reached",
            Self::NotEligible => "not_eligible",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::Paused => "paused",
        }
    }
}

impl From<Refusal> for RefusalKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SoldOut => Self::SoldOut,
            Refusal::LimitReached { .. } => Self::LimitReached,
            Refusal::NotEligible => Self::NotEligible,
            Refusal::NotOpen => Self::NotOpen,
            Refusal::Closed => Self::Closed,
            Refusal::Paused => Self::Paused,
        }
    }
}
