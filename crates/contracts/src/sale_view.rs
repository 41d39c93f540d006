//! The public view of a sale: what the gate needs in order to answer without asking.

use crate::{
    Basket, DeniedShoppers, GateRefusal, IneligibleBy, NotEligibleRange, PauseCause, SaleId, SaleSpec,
    ShopperKey, SoldOutRange,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::{Sequence, TimeMs};

/// The state of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// A round is still to open, and none is open.
    Scheduled,
    Open,
    Paused,
    /// No round is open or to come.
    Closed,
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Not offered now, but in a round to come.
    Upcoming,
    /// Units are free. Whether they can be bought now depends on the sale's state.
    Available,
    /// No unit is free.
    SoldOut,
}

/// An item in a [`SaleView`], in the order of the sale's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemView {
    pub state: ItemState,
    /// The open round or a later one offers it.
    pub offered: bool,
    /// The waitlist has room for one more.
    pub waitlist_open: bool,
    /// The price in the current round (or the next), in minor units.
    pub price_minor: u64,
    /// Units that one shopper may have of the item in the current round (or the next), as operators
    /// have set it; 0 is no limit.
    pub limit_per_shopper: u32,
    /// If no unit is free: the entry since which this has been so without a break, with the sale
    /// open.
    pub sold_out_since: Sequence,
}

/// What a sale publishes whenever it changes.
#[derive(Debug, Clone)]
pub struct SaleView {
    pub sale: SaleId,
    pub spec: Arc<SaleSpec>,
    pub state: SaleState,
    /// Rounds that have opened so far; the last of them is the current one.
    pub rounds_opened: u16,
    /// Of the open round, or else of the next; of the last when all is over. Past times are the
    /// real ones: when the round really opened and ended.
    pub opens_at: TimeMs,
    pub closes_at: TimeMs,
    pub items: Vec<ItemView>,
    /// Units that one shopper may have over all items and rounds, as operators have set it; 0 is no
    /// limit.
    pub limit_per_shopper: u32,
    pub rate_per_second: u32,
    /// Paused because the disk is full, not by an operator.
    pub disk_full: bool,
    /// Why the log says that it is paused, if it says so.
    pub pause: Option<PauseCause>,
    /// It goes on from a backup of another log.
    pub is_restored: bool,
    /// The entry since which the round and the pause have been as they are.
    pub state_since: Sequence,
    /// The shoppers who may not buy, as of the same entry.
    pub denied: Arc<DeniedShoppers>,
    pub as_of: Sequence,
}

impl SaleView {
    /// Whether all that the open round offers is sold out, and no place on a waitlist is left.
    pub fn is_sold_out(&self) -> bool {
        let mut now = self.items.iter().filter(|item| item.offered && item.state != ItemState::Upcoming);
        let out = |item: &ItemView| item.state == ItemState::SoldOut && !item.waitlist_open;
        self.state == SaleState::Open && now.next().is_some_and(out) && now.all(out)
    }

    /// The answer "sold out" to a basket of a shopper who has nothing in the sale, if it is
    /// certain. For a single unit only: whether more are within the limits, the sale itself must
    /// decide.
    pub fn sold_out(&self, basket: &Basket) -> Option<SoldOutRange> {
        let [line] = **basket else { return None };
        if line.quantity == 1 { self.item_sold_out(line.item) } else { None }
    }

    /// The answer "sold out" to a shopper who wants one unit of an item, if it is certain.
    pub fn item_sold_out(&self, item: u16) -> Option<SoldOutRange> {
        let of = self.items.get(usize::from(item))?;
        let so = self.state == SaleState::Open
            && of.offered
            && of.state == ItemState::SoldOut
            && !of.waitlist_open;
        let (first_as_of, last_as_of) = (of.sold_out_since, self.as_of);
        so.then_some(SoldOutRange { item, first_as_of, last_as_of, count: 1 })
    }

    /// The rule by which a shopper may not buy, if the view has it. Whether a shopper has a
    /// reservation, or is on the allow list, the sale itself must decide.
    pub fn ineligible_by(&self, shopper: ShopperKey, tier: u8) -> Option<IneligibleBy> {
        if self.denied.contains(shopper) {
            return Some(IneligibleBy::DenyList);
        }
        (tier < self.spec.eligibility.tier_min()).then_some(IneligibleBy::Tier)
    }

    /// The answer "not eligible" to a shopper who has nothing in the sale, if it is certain.
    pub fn not_eligible(&self, shopper: ShopperKey, tier: u8) -> Option<NotEligibleRange> {
        if self.state != SaleState::Open {
            return None;
        }
        let by = self.ineligible_by(shopper, tier)?;
        Some(NotEligibleRange { by, first_as_of: self.rule_since(by), last_as_of: self.as_of, count: 1 })
    }

    /// The entry since which the sale has been in its state, with this rule.
    pub fn rule_since(&self, by: IneligibleBy) -> Sequence {
        match by {
            IneligibleBy::DenyList => self.denied.since().max(self.state_since),
            IneligibleBy::Tier => self.state_since,
        }
    }

    /// The refusal that a gate may send without asking the sale, in the order in which the sale
    /// itself checks. `may_have` says whether something may be kept of the shopper, or an attempt
    /// of theirs be undecided: then the sale answers.
    pub fn alone(
        &self,
        shopper: ShopperKey,
        tier: u8,
        basket: &Basket,
        may_have: impl FnOnce() -> bool,
    ) -> Option<GateRefusal> {
        let not_eligible = self.not_eligible(shopper, tier).map(GateRefusal::NotEligible);
        let said = not_eligible.or_else(|| self.sold_out(basket).map(GateRefusal::SoldOut))?;
        (!may_have()).then_some(said)
    }
}
