//! `/api/v1/admin/denied-networks`: networks that the shop's listener refuses, as soon as the
//! request is answered, and after a restart too.

use super::Done;
use crate::problem::{self, Problem};
use axum::extract::State;
use contracts::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use web::{
    api_keys::Operator,
    json::{JsonBody, JsonReply},
    limits::{ChangeError, DENIED_MAX, Denied},
    net::Net,
    protection::Protection,
    query::Query,
    reason::{NeededReason, Reasons},
};

/// A full list: the longest network has 43 characters, with some room for the JSON around it.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Networks to deny.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AddNetworks")]
pub(super) struct Add {
    #[schemars(length(min = 1, max = 10_000))]
    networks: Vec<Net>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// How many were denied.
#[derive(Serialize, JsonSchema)]
pub(super) struct Added {
    /// How many were not denied before.
    added: usize,
}

/// No field is required here, so that the problem can name what is missing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(!default)]
pub(super) struct Remove {
    /// As it is in the list.
    #[schemars(with = "Net")]
    network: String,
    #[schemars(with = "NeededReason")]
    reason: String,
}

/// The networks that are denied.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeniedNetworks {
    networks: Vec<Denied>,
}

/// `GET`: all denied networks.
pub(super) async fn list(State(protection): State<Arc<Protection>>) -> JsonReply<DeniedNetworks> {
    JsonReply(DeniedNetworks { networks: protection.addresses.denied().list() })
}

/// `PUT {"networks", "reason"}`: denies these too.
pub(super) async fn add(
    operator: Operator,
    State(protection): State<Arc<Protection>>,
    JsonBody(Add { networks, reason }): JsonBody<Add, BODY_BYTES_MAX>,
) -> Result<JsonReply<Added>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    if networks.is_empty() {
        return Err(Problem::new(&problem::INVALID, "networks: want at least one"));
    }
    let actor = operator.actor(&reason.0);
    let added = change(&protection, actor.clone(), move |protection| {
        protection.addresses.denied().add(&networks, &actor, protection.now()).inspect(|added| {
            let of = networks.first().map(Net::to_string);
            tracing::warn!(
                actor = actor.name,
                reason = actor.reason,
                added,
                first = of,
                "networks are denied"
            );
        })
    })
    .await?;
    Ok(JsonReply(Added { added }))
}

/// `DELETE ?network=…&reason=…`: removes one from the list.
pub(super) async fn remove(
    operator: Operator,
    State(protection): State<Arc<Protection>>,
    Query(Remove { network, reason }): Query<Remove>,
) -> Result<JsonReply<Done>, Problem> {
    Reasons::Needed.check(&reason)?;
    let network: Net =
        network.parse().map_err(|why| Problem::new(&problem::INVALID, format!("network: {why}")))?;
    let actor = operator.actor(&reason);
    change(&protection, actor.clone(), move |protection| {
        protection.addresses.denied().remove(&network).inspect(|()| {
            tracing::warn!(actor = actor.name, reason = actor.reason, %network, "a network is let in again");
        })
    })
    .await?;
    Ok(JsonReply(Done::DONE))
}

/// Makes a change on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    protection: &Arc<Protection>,
    actor: Actor,
    change: impl FnOnce(&Protection) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Problem> {
    let protection = Arc::clone(protection);
    let changed = tokio::task::spawn_blocking(move || change(&protection)).await;
    changed.map_err(|_| Problem::internal())?.map_err(|error| match error {
        ChangeError::TooMany => {
            let why = format!(
                "there would be more than {DENIED_MAX} denied networks: name larger ones, or use a firewall"
            );
            Problem::new(&problem::CONFLICT, why)
        }
        ChangeError::NotThere => {
            let why =
                "this network is not denied as such: GET lists those that are, and a larger one may hold it";
            Problem::new(&problem::NOT_FOUND, why)
        }
        ChangeError::Disk(error) => {
            tracing::error!(%error, actor = actor.name, "change the denied networks: not written");
            let why = "the change cannot be written, and does not hold: see the server's log";
            Problem::new(&problem::UNAVAILABLE, why).retry_after(5)
        }
    })
}
