//! Who waits, for operators.

use crate::{AttemptId, Basket, SealedShopper, ShopperKey};
use units::Sequence;

/// A place on a waitlist whose turn has not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingPlace {
    pub attempt: AttemptId,
    pub shopper: ShopperKey,
    /// The shopper's id, encrypted.
    pub sealed: SealedShopper,
    pub basket: Basket,
    /// The place that the shopper was told, from 1, among those who wait for the item.
    pub position: u32,
    /// The entry of the log by which the place was given.
    pub as_of: Sequence,
}

/// A page of the places, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingQuery {
    /// The item's number in the sale; all items if there is none.
    pub item: Option<u16>,
    /// Places that were given after this entry of the log.
    pub after: Sequence,
    pub max: usize,
}
