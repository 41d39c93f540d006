//! The sale's log in words: who did what, when, and why.

use crate::{
    api::AtSale,
    attempts::parse_attempt,
    keys::Keyring,
    problem::{self, Problem, reply},
};
use axum::extract::State;
use contracts::{
    AttemptId, SHOPPER_ID_FORM, SHOPPER_ID_PATTERN, TimelineEntry, TimelineFilter, is_shopper_id,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::{Sequence, TimeMs};
use web::json::JsonReply;
use web::query::Query;

const PAGE_ENTRIES: usize = 100;
const PAGE_ENTRIES_MAX: usize = 1000;

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineQuery {
    /// Entries after this sequence: `searched` of the page before, or 0.
    #[serde(default)]
    after: u64,
    /// The most entries of the page.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    max: Option<usize>,
    /// A shopper's id: what was done by and for them. With further filters, only entries that fit
    /// them all.
    #[serde(default)]
    #[schemars(extend("pattern" = SHOPPER_ID_PATTERN))]
    shopper: Option<String>,
    /// A hold, or another attempt.
    #[serde(default)]
    #[schemars(with = "Option<AttemptId>")]
    hold: Option<String>,
    /// The name of an actor: an API key, `timer`, `demo`.
    #[serde(default)]
    by: Option<String>,
}

/// A page of the log.
#[derive(Serialize, JsonSchema)]
pub(super) struct TimelinePage {
    entries: Vec<TimelineLine>,
    /// The next page has `after` from here. It is complete once this is `end`.
    searched: Sequence,
    /// The log's last entry.
    end: Sequence,
}

/// An entry in words.
#[derive(Serialize, JsonSchema)]
struct TimelineLine {
    sequence: Sequence,
    at: TimeMs,
    /// The entry's name in the log's format.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The shopper's id, where the entry has it and its key still exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<AttemptId>,
    what: String,
}

/// `GET …/log`.
pub(super) async fn read(
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    Query(query): Query<TimelineQuery>,
) -> Result<JsonReply<TimelinePage>, Problem> {
    let max = query.max.unwrap_or(PAGE_ENTRIES);
    if !(1..=PAGE_ENTRIES_MAX).contains(&max) {
        return Err(Problem::new(&problem::INVALID, format!("max: want 1 to {PAGE_ENTRIES_MAX}")));
    }
    let mut wanted = TimelineFilter { by: query.by, ..TimelineFilter::default() };
    if let Some(hold) = &query.hold {
        wanted.attempt = Some(parse_attempt(hold)?);
    }
    if let Some(id) = &query.shopper {
        if !is_shopper_id(id) {
            return Err(Problem::new(&problem::INVALID, format!("shopper: want {SHOPPER_ID_FORM}")));
        }
        let shopper = keys.shopper_key(id);
        wanted.shopper = Some(shopper);
        // A page may begin after the entry that ties a hold to its shopper.
        let record = reply(front.sale.shopper(shopper)).await?;
        wanted.shoppers_attempts.extend(record.attempts.iter().map(|attempt| attempt.id));
    }
    let end = *front.sale.sequence().borrow();
    if query.after > end.0 {
        let why = format!("after: the log ends at {end} (a backup was restored?): begin again with after=0");
        return Err(Problem::new(&problem::CONFLICT, why));
    }
    let read = move || front.sale.timeline(Sequence(query.after), wanted, max);
    let read = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::internal())?;
    let (entries, searched) = read.map_err(problem::of_unavailable)?;
    let entries = entries.into_iter().map(|entry| line(&keys, entry)).collect();
    Ok(JsonReply(TimelinePage { entries, searched, end: end.max(searched) }))
}

fn line(keys: &Keyring, entry: TimelineEntry) -> TimelineLine {
    let name = entry.shopper.zip(entry.sealed).and_then(|(key, sealed)| keys.unseal(key, &sealed));
    let (by, reason) = entry.by.map(|actor| (actor.name, actor.reason)).unzip();
    TimelineLine {
        sequence: entry.sequence,
        at: entry.at,
        kind: entry.kind,
        by,
        reason: reason.filter(|reason| !reason.is_empty()),
        shopper: name.map(|name| name.to_string()),
        hold: entry.attempt,
        what: entry.what,
    }
}
