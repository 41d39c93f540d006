//! Refusals that gates send without asking the sale, and how they are counted. The sale logs the
//! counts, so that each refusal can be checked at the entries that it names.

use crate::{Answer, Refusal};
use serde::{Deserialize, Serialize};
use units::Sequence;

/// A count of shoppers whom a gate told, without asking the sale, that a unit of an item is sold
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoldOutRange {
    pub item: u16,
    /// The entry since which no unit of it has been free, and the last that one of the answers
    /// named.
    pub first_as_of: Sequence,
    pub last_as_of: Sequence,
    pub count: u64,
}

/// A rule by which a shopper may not buy, and which a gate knows from the sale's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IneligibleBy {
    /// They are on the sale's deny list.
    DenyList = 1,
    /// The sale is for passes of a higher tier.
    Tier = 2,
}

impl IneligibleBy {
    pub const ALL: [Self; 2] = [Self::DenyList, Self::Tier];
}

/// A count of shoppers whom a gate told, without asking the sale, that they may not buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEligibleRange {
    pub by: IneligibleBy,
    /// The entry since which the sale has been open with this deny list, and the last that one of
    /// the answers named.
    pub first_as_of: Sequence,
    pub last_as_of: Sequence,
    pub count: u64,
}

/// Refusals that a gate sent by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateRefusal {
    SoldOut(SoldOutRange),
    NotEligible(NotEligibleRange),
}

/// Answers that are counted together: the same refusal, from the same entry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SequenceRange {
    SoldOut { item: u16, first_as_of: Sequence },
    NotEligible { by: IneligibleBy, first_as_of: Sequence },
}

impl GateRefusal {
    pub fn range(&self) -> SequenceRange {
        match *self {
            Self::SoldOut(SoldOutRange { item, first_as_of, .. }) => {
                SequenceRange::SoldOut { item, first_as_of }
            }
            Self::NotEligible(NotEligibleRange { by, first_as_of, .. }) => {
                SequenceRange::NotEligible { by, first_as_of }
            }
        }
    }

    /// The first and the last entry at which the refusal was true.
    pub fn entries(&self) -> (Sequence, Sequence) {
        match self {
            Self::SoldOut(said) => (said.first_as_of, said.last_as_of),
            Self::NotEligible(said) => (said.first_as_of, said.last_as_of),
        }
    }

    pub fn count(&self) -> u64 {
        match self {
            Self::SoldOut(said) => said.count,
            Self::NotEligible(said) => said.count,
        }
    }

    /// The answer that the counted shoppers got.
    pub fn answer(&self) -> Answer {
        let refusal = match self {
            Self::SoldOut(_) => Refusal::SoldOut,
            Self::NotEligible(_) => Refusal::NotEligible,
        };
        Answer::Refused { refusal, as_of: self.entries().1 }
    }

    /// Adds another count to this one, if both are of the same range of entries.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.range() != other.range() {
            return false;
        }
        let (last, more) = (other.entries().1, other.count());
        let (last_as_of, count) = match self {
            Self::SoldOut(said) => (&mut said.last_as_of, &mut said.count),
            Self::NotEligible(said) => (&mut said.last_as_of, &mut said.count),
        };
        *last_as_of = last.max(*last_as_of);
        *count = count.saturating_add(more);
        true
    }
}
