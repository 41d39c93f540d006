//! Drafts: sales that are being prepared, and what can be done with a sale before it opens.

use super::{
    Done,
    change::{change, sale_id},
    operate::WithNeededReason,
    says::says,
};
use crate::{
    drafts::{Document, Draft, Drafts, late_times},
    front::Fronts,
    ports::Sales,
    problem::Problem,
};
use axum::{
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use contracts::SaleId;
use http::header;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Operator,
    json::{JsonBody, JsonReply},
    precondition::Precondition,
    reason::{Reason, Reasons},
};

/// As for a sale's document.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
const COMMAND_BYTES_MAX: usize = 4096;

/// A sale's document, as far as it is written: any fields.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct DraftDefinition(#[schemars(with = "Map<String, Value>")] pub(super) Document);

/// The name of a copy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyTo {
    /// A name that no sale and no draft has.
    #[schemars(with = "SaleId")]
    to: String,
    #[serde(default)]
    reason: Reason,
}

/// A draft in the list of sales.
#[derive(Serialize, JsonSchema)]
pub(super) struct ListedDraft {
    pub(super) sale: SaleId,
    /// Of the document, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[schemars(extend("const" = "draft"))]
    state: &'static str,
    /// Tells this document from another one of the same name.
    pub(super) revision: String,
    /// Whether it can be published as it is.
    pub(super) is_valid: bool,
    pub(super) saved_at: TimeMs,
    /// The API key that saved it.
    pub(super) by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// What the document would mean, in words; nothing if it is not valid.
    pub(super) says: Vec<String>,
    /// What must be corrected before it can be published.
    pub(super) problems: Vec<String>,
    /// What is allowed and may be a mistake.
    pub(super) warnings: Vec<String>,
}

/// A draft with its document.
#[derive(Serialize, JsonSchema)]
pub(super) struct DraftedSale {
    #[serde(flatten)]
    draft: ListedDraft,
    /// The document as it was saved.
    #[schemars(with = "Map<String, Value>")]
    definition: Document,
}

impl ListedDraft {
    pub(super) fn new(draft: &Draft, now: TimeMs) -> Self {
        let name = draft.definition.get("name").and_then(Value::as_str).map(str::to_owned);
        let (says, problems, warnings) = match draft.spec() {
            Ok(spec) => {
                let mut warnings = spec.warnings();
                warnings.extend(late_times(spec, now));
                (says(spec), Vec::new(), warnings)
            }
            Err(why) => (Vec::new(), vec![why.to_owned()], Vec::new()),
        };
        Self {
            sale: draft.sale.clone(),
            name,
            state: "draft",
            revision: draft.revision().to_owned(),
            is_valid: problems.is_empty(),
            saved_at: draft.saved_at,
            by: draft.by.clone(),
            reason: draft.reason.clone(),
            says,
            problems,
            warnings,
        }
    }
}

fn drafted(draft: &Draft, now: TimeMs) -> Response {
    let definition = draft.definition.clone();
    let tag = format!("\"{}\"", draft.revision());
    let reply = JsonReply(DraftedSale { draft: ListedDraft::new(draft, now), definition });
    ([(header::ETAG, tag)], reply).into_response()
}

/// `GET …/sales/{sale}/draft`.
pub(super) async fn read(
    State(drafts): State<Arc<Drafts>>,
    State(fronts): State<Arc<Fronts>>,
    Path(sale): Path<String>,
) -> Result<Response, Problem> {
    let draft = drafts.find(&sale_id(&sale)?)?;
    Ok(drafted(&draft, fronts.sales().now()))
}

/// `PUT …/sales/{sale}/draft?reason=…`.
pub(super) async fn save(
    operator: Operator,
    State(drafts): State<Arc<Drafts>>,
    State(fronts): State<Arc<Fronts>>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
    Precondition(expected): Precondition,
    JsonBody(DraftDefinition(definition)): JsonBody<DraftDefinition, DOCUMENT_BYTES_MAX>,
) -> Result<Response, Problem> {
    let reason = Reasons::Optional.in_query(query.as_deref())?;
    let (sale, by) = (sale_id(&sale)?, operator.actor(&reason));
    let save =
        move |drafts: &Drafts, sales: &dyn Sales| drafts.save(sales, &sale, definition, &by, &expected);
    let draft = change(drafts, &fronts, save).await?;
    Ok(drafted(&draft, fronts.sales().now()))
}

/// `POST …/sales/{sale}/copy {"to", "reason"}`.
pub(super) async fn copy(
    operator: Operator,
    State(drafts): State<Arc<Drafts>>,
    State(fronts): State<Arc<Fronts>>,
    Path(sale): Path<String>,
    Precondition(expected): Precondition,
    JsonBody(CopyTo { to, reason }): JsonBody<CopyTo, COMMAND_BYTES_MAX>,
) -> Result<Response, Problem> {
    Reasons::Optional.check(&reason.0)?;
    let (from, to, by) = (sale_id(&sale)?, sale_id(&to)?, operator.actor(&reason.0));
    let copy = move |drafts: &Drafts, sales: &dyn Sales| drafts.copy(sales, &from, &to, &by, &expected);
    let draft = change(drafts, &fronts, copy).await?;
    Ok(drafted(&draft, fronts.sales().now()))
}

/// `POST …/sales/{sale}/publish {"reason"}`.
pub(super) async fn publish(
    operator: Operator,
    State(drafts): State<Arc<Drafts>>,
    State(fronts): State<Arc<Fronts>>,
    Path(sale): Path<String>,
    Precondition(expected): Precondition,
    JsonBody(WithNeededReason { reason }): JsonBody<WithNeededReason, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Done>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let (sale, by) = (sale_id(&sale)?, operator.actor(&reason.0));
    change(drafts, &fronts, move |drafts, sales| drafts.publish(sales, &sale, &by, &expected)).await?;
    Ok(JsonReply(Done::DONE))
}

/// `DELETE …/sales/{sale}?reason=…`.
pub(super) async fn delete(
    operator: Operator,
    State(drafts): State<Arc<Drafts>>,
    State(fronts): State<Arc<Fronts>>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
    Precondition(expected): Precondition,
) -> Result<JsonReply<Done>, Problem> {
    let reason = Reasons::Needed.in_query(query.as_deref())?;
    let (sale, by) = (sale_id(&sale)?, operator.actor(&reason));
    change(drafts, &fronts, move |drafts, sales| drafts.delete(sales, &sale, &by, &expected)).await?;
    Ok(JsonReply(Done::DONE))
}
