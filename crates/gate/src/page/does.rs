//! What a button of the page does.

use contracts::{ItemState, ItemView, SaleState};

/// What an item's button does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Buy,
    JoinWaitlist,
    SoldOut,
    Upcoming,
    /// The shopper has as many as one may have.
    HasAll,
    Wait,
    Paused,
    Ended,
}

impl Does {
    pub(super) fn now(sale: SaleState, item: ItemView, has: bool) -> Self {
        match (sale, item.state) {
            (SaleState::Closed, _) => Self::Ended,
            _ if has => Self::HasAll,
            (SaleState::Scheduled, _) => Self::Wait,
            (SaleState::Paused, _) => Self::Paused,
            (SaleState::Open, _) if !item.offered => Self::Ended,
            (SaleState::Open, ItemState::Available) => Self::Buy,
            (SaleState::Open, ItemState::Upcoming) => Self::Upcoming,
            (SaleState::Open, ItemState::SoldOut) if item.waitlist_open => Self::JoinWaitlist,
            (SaleState::Open, ItemState::SoldOut) => Self::SoldOut,
        }
    }

    pub(super) fn is_possible(self) -> bool {
        matches!(self, Self::Buy | Self::JoinWaitlist)
    }
}
