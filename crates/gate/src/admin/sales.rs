//! The sales as their operators defined them: what will happen, in the terms of the document and in
//! words, before it does.

use crate::{
    api::AtSale,
    front::Fronts,
    problem::{Problem, reply},
};
use axum::extract::State;
use contracts::{SaleId, SaleState, SaleView};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use units::{Money, Sequence, TimeMs};
use web::json::JsonReply;

/// All sales of this gate, by name.
#[derive(Serialize, JsonSchema)]
pub(super) struct SaleList {
    sales: Vec<ListedSale>,
}

#[derive(Serialize, JsonSchema)]
struct ListedSale {
    sale: SaleId,
    name: String,
    state: SaleState,
    /// Of the open round, or else of the next, or of the last.
    opens_at: TimeMs,
    closes_at: TimeMs,
    /// Rounds that have opened so far.
    rounds_opened: u16,
    rounds: usize,
}

/// A sale with its whole definition.
#[derive(Serialize, JsonSchema)]
pub(super) struct DefinedSale {
    sale: SaleId,
    state: SaleState,
    rounds_opened: u16,
    /// The document that the sale was set up with, as `defineSale` takes it, with all defaults.
    /// Commands since then may have changed limits, stock and times: see the figures.
    #[schemars(with = "Map<String, Value>")]
    definition: Value,
    /// What the document means, in words: a line for each round, and one for each thing that is
    /// allowed and may be a mistake.
    says: Vec<String>,
    warnings: Vec<String>,
    as_of: Sequence,
}

/// `GET /api/v1/admin/sales`.
pub(super) async fn list(State(fronts): State<Arc<Fronts>>) -> JsonReply<SaleList> {
    let listed = |(sale, port): (SaleId, Arc<dyn crate::ports::Sale>)| {
        let view = port.view();
        ListedSale {
            sale,
            name: view.spec.name.clone(),
            state: view.state,
            opens_at: view.opens_at,
            closes_at: view.closes_at,
            rounds_opened: view.rounds_opened,
            rounds: view.spec.rounds.len(),
        }
    };
    JsonReply(SaleList { sales: fronts.each().map(listed).collect() })
}

/// `GET /api/v1/admin/sales/{sale}`.
pub(super) async fn read(AtSale(front): AtSale) -> Result<JsonReply<DefinedSale>, Problem> {
    // A sale whose log is being read has no document yet, and says so.
    reply(front.sale.stats()).await?;
    let view = front.sale.view();
    Ok(JsonReply(DefinedSale {
        sale: view.sale.clone(),
        state: view.state,
        rounds_opened: view.rounds_opened,
        definition: serde_json::to_value(&*view.spec).map_err(|_| Problem::internal())?,
        says: says(&view),
        warnings: view.spec.warnings(),
        as_of: view.as_of,
    }))
}

fn says(view: &SaleView) -> Vec<String> {
    let spec = &view.spec;
    let mut lines = Vec::new();
    for (at, round) in spec.rounds.iter().enumerate() {
        let offers = round.items.iter().map(|offer| {
            let price = Money { amount_minor: offer.price_minor, currency: spec.currency };
            let limit = match offer.limit_per_shopper {
                0 => "any number".to_owned(),
                limit => format!("at most {limit}"),
            };
            format!("{} × {} at {price} each, {limit} for one shopper", offer.stock, offer.item)
        });
        let offers: Vec<String> = offers.collect();
        let (opens_at, closes_at) = (round.opens_at, round.closes_at);
        lines.push(format!("round {}: {opens_at} to {closes_at}: {}", at + 1, offers.join("; ")));
    }
    let rule = spec.eligibility;
    let mut who: Vec<String> = Vec::new();
    if rule.wants_reservation() {
        who.push("who made a reservation before the first round".into());
    }
    if rule.wants_list() {
        who.push("who are on the uploaded list".into());
    }
    if rule.tier_min() > 0 {
        who.push(format!("whose tier is {} or more", rule.tier_min()));
    }
    lines.push(match who.len() {
        0 => "every shopper may buy who is not on the deny list".into(),
        _ => format!("shoppers may buy {}, and are not on the deny list", who.join(", and ")),
    });
    lines.push(match spec.limit_per_shopper {
        0 => "over all rounds and items there is no limit for one shopper".into(),
        limit => format!("over all rounds and items at most {limit} for one shopper"),
    });
    lines.push(format!("a hold is to be paid within {} s", spec.hold_seconds));
    lines.push(match spec.waitlist_ends_at {
        Some(ends_at) => format!("all who still wait at {ends_at} lose their place"),
        None => "the waitlists end when an operator says so".into(),
    });
    lines
}
