//! The level of one SKU, and what each kind of movement does to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Units of one SKU, at the most. Sums of many levels stay far below what a number can say.
pub const UNITS_MAX: u64 = 1_000_000_000_000;

/// How many units there are, and how many of them are set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    pub on_hand: u64,
    /// For orders that are not shipped.
    pub reserved: u64,
    /// For sales, without what is reserved of it.
    pub claimed: u64,
    /// On its way here from another warehouse, and not on hand yet.
    pub in_transit: u64,
}

/// What a movement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StockMovement")]
pub enum Kind {
    /// Units came in.
    Receive,
    /// Units were found, lost or broken.
    Adjust,
    /// Units were counted: the difference from what was believed, which may be 0.
    Count,
    /// Set aside for an order.
    Reserve,
    /// The order is paid. The level stays as it is.
    Confirm,
    /// The order gave them up.
    Release,
    /// The order was not paid in time.
    Expire,
    /// They left the house.
    Ship,
    /// They came back from a shopper.
    TakeBack,
    /// Of those that came back, what cannot be sold again.
    Scrap,
    /// Set aside for a sale.
    Claim,
    /// The sale gives them back.
    ReturnClaim,
    /// They left for another warehouse.
    Dispatch,
    /// They are on their way here.
    Expect,
    /// Of those that were on their way, what has arrived.
    Arrive,
    /// Of those that were on their way, what will not arrive.
    Lose,
}

impl Kind {
    pub const ALL: [Self; 16] = [
        Self::Receive,
        Self::Adjust,
        Self::Count,
        Self::Reserve,
        Self::Confirm,
        Self::Release,
        Self::Expire,
        Self::Ship,
        Self::TakeBack,
        Self::Scrap,
        Self::Claim,
        Self::ReturnClaim,
        Self::Dispatch,
        Self::Expect,
        Self::Arrive,
        Self::Lose,
    ];

    /// Its name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Adjust => "adjust",
            Self::Count => "count",
            Self::Reserve => "reserve",
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::Expire => "expire",
            Self::Ship => "ship",
            Self::TakeBack => "take_back",
            Self::Scrap => "scrap",
            Self::Claim => "claim",
            Self::ReturnClaim => "return_claim",
            Self::Dispatch => "dispatch",
            Self::Expect => "expect",
            Self::Arrive => "arrive",
            Self::Lose => "lose",
        }
    }

    /// Whether units come or go, other than by being set aside, or on their way.
    pub fn moves_units(self) -> bool {
        match self {
            Self::Receive
            | Self::Adjust
            | Self::Count
            | Self::Ship
            | Self::TakeBack
            | Self::Scrap
            | Self::Dispatch
            | Self::Arrive => true,
            Self::Reserve
            | Self::Confirm
            | Self::Release
            | Self::Expire
            | Self::Claim
            | Self::ReturnClaim
            | Self::Expect
            | Self::Lose => false,
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A movement of units of one SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    pub kind: Kind,
    /// Negative only where units were adjusted or counted.
    pub units: i64,
    /// Of a reservation, how many come out of a sale's claim; of its end, how many go back into it.
    pub of_claim: u64,
}

/// Why a movement does not fit a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// So many are free, which is too few.
    TooFew { free: u64 },
    /// There would be more than [`UNITS_MAX`].
    TooMany,
    /// More would be given back than is set aside. It does not come about while the ledger and the
    /// levels agree.
    NotSetAside,
}

impl Level {
    /// What nothing is set aside of.
    pub fn free(self) -> u64 {
        self.on_hand.saturating_sub(self.reserved).saturating_sub(self.claimed)
    }

    /// Whether it is possible.
    pub fn is_sound(self) -> bool {
        let set_aside = self.reserved.checked_add(self.claimed);
        self.on_hand.saturating_add(self.in_transit) <= UNITS_MAX
            && set_aside.is_some_and(|units| units <= self.on_hand)
    }

    /// The level after a movement.
    pub fn after(self, movement: Movement) -> Result<Self, Unfit> {
        let Movement { kind, units, of_claim } = movement;
        let of_claim = i64::try_from(of_claim).map_err(|_| Unfit::NotSetAside)?;
        let (on_hand, reserved, claimed, in_transit) = match kind {
            Kind::Receive | Kind::Adjust | Kind::Count | Kind::TakeBack => (units, 0, 0, 0),
            Kind::Scrap | Kind::Dispatch => (-units, 0, 0, 0),
            Kind::Reserve => (0, units, -of_claim, 0),
            Kind::Confirm => (0, 0, 0, 0),
            Kind::Release | Kind::Expire => (0, -units, of_claim, 0),
            Kind::Ship => (-units, -units, 0, 0),
            Kind::Claim => (0, 0, units, 0),
            Kind::ReturnClaim => (0, 0, -units, 0),
            Kind::Expect => (0, 0, 0, units),
            Kind::Arrive => (units, 0, 0, -units),
            Kind::Lose => (0, 0, 0, -units),
        };
        let set_aside = |of: u64, by| of.checked_add_signed(by).ok_or(Unfit::NotSetAside);
        let (reserved, claimed) = (set_aside(self.reserved, reserved)?, set_aside(self.claimed, claimed)?);
        let in_transit = set_aside(self.in_transit, in_transit)?;
        let free = self.free();
        let on_hand = self.on_hand.checked_add_signed(on_hand).ok_or(Unfit::TooFew { free })?;
        let after = Self { on_hand, reserved, claimed, in_transit };
        match after.is_sound() {
            true => Ok(after),
            false if on_hand.saturating_add(in_transit) > UNITS_MAX => Err(Unfit::TooMany),
            false => Err(Unfit::TooFew { free }),
        }
    }
}
