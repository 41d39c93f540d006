//! A gate that answers by itself, from its last view of the sale, and reports that later. Its
//! answer to a shopper is checked against the log at once, for the report does not name the
//! shopper.

use crate::model::Model;
use crate::names::shopper_name;
use contracts::{Basket, GateRefusal, SaleView, ShopperKey};
use sale::core::Core;
use sale::membership_filter::MembershipFilter;
use sale::{Command, Reply};
use sim::{Violation, ensure};
use std::collections::BTreeSet;
use units::Prng;

/// Shoppers who ask the gate in a turn.
const ASKERS: u64 = 3;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    view: Option<SaleView>,
    /// The shoppers who might not buy when it looked, by the model.
    barred: BTreeSet<ShopperKey>,
    known: MembershipFilter,
    said: Vec<GateRefusal>,
}

impl Gate {
    /// The sale has been recovered: the filter knows again which shoppers have something in it.
    pub(crate) fn restarted(&mut self, core: &Core) {
        self.known = MembershipFilter::default();
        core.shoppers().for_each(|shopper| self.known.keep(shopper));
    }

    /// The answers that the sale is about to send.
    pub(crate) fn hears(&self, commands: &[Command], replies: &[Reply]) {
        for asked in commands.iter().zip(replies) {
            if let (Command::Attempt(attempt), Reply::Answer(answer)) = asked {
                self.known.hear(attempt.shopper, answer);
            }
        }
    }

    /// It takes the sale's view; the model is at the same entry.
    pub(crate) fn looks(&mut self, view: Option<SaleView>, model: &Model, shoppers: &[(ShopperKey, u8)]) {
        self.view = view;
        let open = model.open_round().is_some() && !model.paused;
        let barred = shoppers.iter().filter(|(shopper, tier)| open && !model.eligible(*shopper, *tier));
        self.barred = barred.map(|(shopper, _)| *shopper).collect();
    }

    /// It answers some shoppers from that view.
    pub(crate) fn speaks(
        &mut self,
        prng: &mut Prng,
        model: &Model,
        shoppers: &[(ShopperKey, u8)],
    ) -> Result<(), Violation> {
        let Some(view) = &self.view else { return Ok(()) };
        let mut said: Vec<GateRefusal> = Vec::new();
        for item in 0..view.items.len() as u16 {
            let sold_out = view.sold_out(&Basket::single(item, 1)).map(GateRefusal::SoldOut);
            said.extend(sold_out.filter(|_| prng.percent(40)));
        }
        for _ in 0..ASKERS {
            let (shopper, tier) = *prng.pick(shoppers);
            let basket = Basket::single(prng.below(view.items.len() as u64) as u16, 1);
            let told = view.alone(shopper, tier, &basket, || self.known.may_have(shopper));
            if told.is_some() {
                let kept = model.kept.iter().any(|kept| kept.attempt.shopper == shopper);
                ensure(!kept, "INV-4", || {
                    format!("a gate tells {} {told:?}, and something is kept of them", shopper_name(shopper))
                })?;
            }
            if let Some(GateRefusal::NotEligible(_)) = told {
                ensure(self.barred.contains(&shopper), "INV-4", || {
                    format!("a gate tells {} {told:?}, and they might buy", shopper_name(shopper))
                })?;
            }
            said.extend(told);
        }
        for said in said {
            if !self.said.iter_mut().any(|known| known.merge(&said)) {
                self.said.push(said);
            }
        }
        Ok(())
    }

    /// It reports its refusals.
    pub(crate) fn reports(&mut self, prng: &mut Prng) -> Option<Command> {
        let reports = !self.said.is_empty() && prng.percent(10);
        reports.then(|| Command::GateRefusals(std::mem::take(&mut self.said)))
    }
}
