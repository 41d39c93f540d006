//! Accounts over HTTP, for those who run the shop: who a shopper is, without secrets; locks,
//! sessions, and the link that sets a password.

use crate::{operated::Seen, operators::Command, service::Service};
use axum::extract::{Path, State};
use contracts::store::{AccountId, Language, Profile};
use engines::sql::trail::Stored;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;
use web::{
    api_keys::{Operator, Role},
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, get, post},
    problem::{INVALID, NOT_FOUND, Problem, RATE_LIMITED, UNAVAILABLE, of_store},
    query::Query,
    reason::{NeededReason, Reasons},
    trail::{PAGE_MAX, TrailPage, TrailStep, WantedSteps},
};

const ACCOUNT: &str = "/api/v1/store/accounts/{account}";
const BODY_BYTES_MAX: usize = 4096;

/// What the handlers use.
pub type Parts = web::parts::Parts<Service>;

/// A shopper's account.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountView {
    /// The number by which the sale and orders know the shopper too.
    account: AccountId,
    email: String,
    name: String,
    created_at: TimeMs,
    /// Since when nobody can log in to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_at: Option<TimeMs>,
}

fn view(seen: Seen) -> AccountView {
    let Seen { profile: Profile { account, email, name, created_at }, locked_at } = seen;
    AccountView { account, email, name, created_at, locked_at }
}

/// Accounts, newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountsPage {
    accounts: Vec<AccountView>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AccountId>,
}

/// Which accounts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// That of this address of mail, if it has one.
    #[serde(default)]
    email: Option<String>,
    /// Those before this one.
    #[serde(default)]
    before: Option<AccountId>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// Why something is done with an account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AccountBecause")]
struct Because {
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (read_only, operate) = (Access::Role(Role::ReadOnly), Access::Role(Role::Operator));
    let support = Access::Role(Role::Support);
    let done = [&NOT_FOUND, &INVALID, &UNAVAILABLE];
    vec![
        get("/api/v1/store/accounts", "listAccounts", read_only, list)
            .tagged()
            .does("Accounts of shoppers, newest first, or that of an address of mail.")
            .query::<Wanted>()
            .replies::<AccountsPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get(ACCOUNT, "readAccount", read_only, read)
            .tagged()
            .does("An account, without its password and the secrets of its sessions.")
            .replies::<AccountView>("The account.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/store/accounts/{account}/lock", "lockAccount", operate, lock)
            .does("Ends the account's sessions, and lets nobody log in to it. Orders stay. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<AccountView>("The account.")
            .problems(&done),
        post("/api/v1/store/accounts/{account}/unlock", "unlockAccount", operate, unlock)
            .does("Lets its shopper log in again. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<AccountView>("The account.")
            .problems(&done),
        post("/api/v1/store/accounts/{account}/end-sessions", "endSessionsOfAccount", operate, end_sessions)
            .does("Ends the account's sessions. Its shopper may log in again.")
            .takes::<Because>()
            .replies::<AccountView>("The account.")
            .problems(&done),
        post("/api/v1/store/accounts/{account}/send-reset", "sendResetLink", support, send_reset)
            .does("Sends a letter to the account's address, with a link that sets a new password.")
            .takes::<Because>()
            .replies::<AccountView>("The account.")
            .problems(&[&NOT_FOUND, &INVALID, &RATE_LIMITED, &UNAVAILABLE]),
        get("/api/v1/store/trail/accounts", "listAccountsTrail", read_only, trail)
            .tagged()
            .does("What operators have done with accounts, newest first: who, what, with which, why.")
            .query::<WantedSteps>()
            .replies::<TrailPage>("A page of it.")
            .problems(&[&INVALID, &UNAVAILABLE]),
    ]
}

pub(crate) fn id_of(text: &str) -> Result<AccountId, Problem> {
    text.trim().parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { email, before, limit }): Query<Wanted>,
) -> Result<JsonReply<AccountsPage>, Problem> {
    if let Some(email) = email {
        let found = service.seen_by_email(&email).await.map_err(of_store)?;
        return Ok(JsonReply(AccountsPage { accounts: found.into_iter().map(view).collect(), next: None }));
    }
    let limit = limit.clamp(1, 100);
    let found = service.newest(before, limit).await.map_err(of_store)?;
    let next = found.last().map(|seen| seen.profile.account).filter(|_| found.len() == limit);
    Ok(JsonReply(AccountsPage { accounts: found.into_iter().map(view).collect(), next }))
}

async fn read(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
) -> Result<JsonReply<AccountView>, Problem> {
    let found = service.seen(id_of(&account)?).await.map_err(of_store)?;
    let found = found.ok_or_else(|| Problem::new(&NOT_FOUND, "account: there is none"))?;
    Ok(JsonReply(view(found)))
}

async fn operate(
    service: &Service,
    account: &str,
    by: &Operator,
    reason: &str,
    command: Command,
) -> Result<JsonReply<AccountView>, Problem> {
    Reasons::Needed.check(reason)?;
    let done = service.operate(by.actor(reason), id_of(account)?, command).await;
    done.map(|seen| JsonReply(view(seen))).map_err(of_store)
}

async fn lock(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
    by: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<AccountView>, Problem> {
    operate(&service, &account, &by, &reason.0, Command::Lock).await
}

async fn unlock(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
    by: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<AccountView>, Problem> {
    operate(&service, &account, &by, &reason.0, Command::Unlock).await
}

async fn end_sessions(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
    by: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<AccountView>, Problem> {
    operate(&service, &account, &by, &reason.0, Command::EndSessions).await
}

async fn send_reset(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
    by: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<AccountView>, Problem> {
    operate(&service, &account, &by, &reason.0, Command::SendReset(Language::En)).await
}

fn step(stored: Stored) -> TrailStep {
    let Stored { number, at, actor, did, subject, reason, detail } = stored;
    TrailStep { number, at, actor, did, subject, reason, detail }
}

/// A page of the trail.
pub(crate) async fn trail_page(
    service: &Service,
    subject: Option<String>,
    before: Option<u64>,
    limit: usize,
) -> Result<TrailPage, Problem> {
    let limit = limit.clamp(1, PAGE_MAX);
    let found = service.trail(subject, before, limit).await.map_err(of_store)?;
    Ok(TrailPage::of(found.into_iter().map(step).collect(), limit))
}

async fn trail(
    State(Parts { service, .. }): State<Parts>,
    Query(WantedSteps { subject, before, limit }): Query<WantedSteps>,
) -> Result<JsonReply<TrailPage>, Problem> {
    trail_page(&service, subject, before, limit).await.map(JsonReply)
}
