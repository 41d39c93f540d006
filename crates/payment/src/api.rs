//! Payments over HTTP: for those who run the shop, and for providers' webhooks.

use crate::{
    provider::WebhookError,
    report::{Day, Report, Summary},
    service::{NotTaken, Service},
};
use axum::{
    body::Bytes,
    extract::{Path, Request, State},
};
use contracts::store::{PaymentId, PaymentView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use web::{
    api_keys::Role,
    body::read,
    json::JsonReply,
    operation::{Access, Operation, get, post},
    problem::{BODY_TIMEOUT, BODY_TOO_LARGE, INVALID, Kind, NOT_FOUND, Problem, UNAVAILABLE, of_store},
    query::Query,
};

const WEBHOOK_BYTES_MAX: usize = 64 << 10;

web::kinds! {
    /// The kinds that payments add.
    OWN_KINDS:
    WEBHOOK_REFUSED = Kind::new(
        400,
        "webhook-refused",
        "The webhook is not signed by the provider",
        "Its signature is missing, wrong or too old. Only the provider sends webhooks; its secret, and the clocks of \
         both machines, must be right.",
    );
}

/// What the handlers use.
pub type Parts = web::parts::Parts<Service>;

/// Payments, newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct PaymentsPage {
    payments: Vec<PaymentView>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<PaymentId>,
}

/// Which payments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those that are older than this one.
    #[serde(default)]
    before: Option<PaymentId>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// The webhook is stored.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Taken {
    done: bool,
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    vec![
        get("/api/v1/store/payments", "listPayments", Access::Role(Role::ReadOnly), list)
            .tagged()
            .does("Payments of all orders, newest first.")
            .query::<Wanted>()
            .replies::<PaymentsPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get("/api/v1/store/reconciliations", "listReconciliations", Access::Role(Role::ReadOnly), reports)
            .tagged()
            .does("The provider's books against the shop's, day by day, newest first.")
            .query::<WantedReports>()
            .replies::<ReportsPage>("A page of reports.")
            .problems(&[&UNAVAILABLE]),
        get("/api/v1/store/reconciliations/{day}", "getReconciliation", Access::Role(Role::ReadOnly), report)
            .tagged()
            .does("The report of one day.")
            .replies::<Report>("The report.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/store/reconciliations/{day}", "makeReconciliation", Access::Role(Role::Operator), make)
            .does(
                "Reads the provider's books of that day once more, and compares them with the shop's. The report \
                 takes the place of an earlier one.",
            )
            .replies::<Report>("The new report.")
            .problems(&[&INVALID, &UNAVAILABLE]),
        post("/api/v1/store/webhooks/{provider}", "takeWebhook", Access::Open, webhook)
            .does("Takes a webhook of a payment provider. What it tells counts once, however often it comes.")
            .replies::<Taken>("It is stored.")
            .problems(&[
                &WEBHOOK_REFUSED,
                &NOT_FOUND,
                &INVALID,
                &UNAVAILABLE,
                &BODY_TIMEOUT,
                &BODY_TOO_LARGE,
            ]),
    ]
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { before, limit }): Query<Wanted>,
) -> Result<JsonReply<PaymentsPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let payments = service.newest(before, limit).await.map_err(of_store)?;
    let next = payments.last().map(|payment| payment.id).filter(|_| payments.len() == limit);
    Ok(JsonReply(PaymentsPage { payments, next }))
}

/// The figures of reports, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReconciliationsPage")]
struct ReportsPage {
    reports: Vec<Summary>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Day>,
}

/// Which reports.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedReports {
    /// Of days before this one.
    #[serde(default)]
    before: Option<Day>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

async fn reports(
    State(Parts { service, .. }): State<Parts>,
    Query(WantedReports { before, limit }): Query<WantedReports>,
) -> Result<JsonReply<ReportsPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let reports = service.reports(before, limit).await.map_err(of_store)?;
    let next = reports.last().map(|report| report.day.clone()).filter(|_| reports.len() == limit);
    Ok(JsonReply(ReportsPage { reports, next }))
}

async fn report(
    State(Parts { service, .. }): State<Parts>,
    Path(day): Path<Day>,
) -> Result<JsonReply<Report>, Problem> {
    let none = || Problem::new(&NOT_FOUND, "of that day there is no report: make one with POST");
    service.report(day).await.map_err(of_store)?.map(JsonReply).ok_or_else(none)
}

async fn make(
    State(Parts { service, .. }): State<Parts>,
    Path(day): Path<Day>,
) -> Result<JsonReply<Report>, Problem> {
    service.reconcile(day).await.map(JsonReply).map_err(of_store)
}

async fn webhook(
    State(Parts { service, protection }): State<Parts>,
    Path(provider): Path<String>,
    request: Request,
) -> Result<JsonReply<Taken>, Problem> {
    let (parts, body) = request.into_parts();
    let body: Bytes = read(body, WEBHOOK_BYTES_MAX, protection.body_timeout()).await?;
    match service.webhook(&provider, &parts.headers, &body).await {
        Ok(()) => Ok(JsonReply(Taken { done: true })),
        Err(NotTaken::Provider) => Err(Problem::new(&NOT_FOUND, "no such provider is configured")),
        Err(NotTaken::Webhook(WebhookError::Signature)) => {
            Err(Problem::new(&WEBHOOK_REFUSED, "its signature is missing, wrong or too old"))
        }
        Err(NotTaken::Webhook(WebhookError::Form(why))) => {
            Err(Problem::new(&INVALID, format!("body: {why}")))
        }
        // A provider sends it again.
        Err(NotTaken::Unknown(_)) => {
            Err(Problem::new(&NOT_FOUND, "it tells of a payment that is not known (yet)"))
        }
        Err(NotTaken::Unavailable) => Err(Problem::unavailable("payments cannot be written at the moment")),
    }
}
