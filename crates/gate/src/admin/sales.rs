//! The sales as their operators defined them: what will happen, in the terms of the document and in
//! words, before it does.

use super::{drafts::ListedDraft, says::says};
use crate::{
    api::AtSale,
    drafts::Drafts,
    front::Fronts,
    problem::{Problem, reply},
};
use axum::extract::State;
use contracts::{SaleId, SaleState};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use units::{Sequence, TimeMs};
use web::json::JsonReply;

/// All sales of this gate, by name.
#[derive(Serialize, JsonSchema)]
pub(super) struct SaleList {
    sales: Vec<ListedSale>,
    /// What is prepared and not public, by name: no shopper can see it.
    drafts: Vec<ListedDraft>,
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
pub(super) async fn list(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
) -> JsonReply<SaleList> {
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
    let now = fronts.sales().now();
    let drafts = drafts.list().iter().map(|draft| ListedDraft::new(draft, now)).collect();
    JsonReply(SaleList { sales: fronts.each().map(listed).collect(), drafts })
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
        says: says(&view.spec),
        warnings: view.spec.warnings(),
        as_of: view.as_of,
    }))
}
