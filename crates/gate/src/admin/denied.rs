//! `/api/v1/admin/denied-networks`: networks that are shut out of the shop's listener, from the
//! answer on and after a restart too.

use super::{authorize, operate::parse};
use crate::{
    api::json,
    problem::{self, Problem},
    state::Gate,
};
use axum::{
    body::Body,
    extract::{Query, State},
    response::Response,
};
use contracts::Actor;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json as document;
use std::sync::Arc;
use web::{
    api_keys::Role,
    limits::{ChangeError, DENIED_MAX},
    net::Net,
    reason::Reasons,
};

/// The longest network has 43 characters: a full list with room for what JSON puts around it.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    networks: Vec<Net>,
    #[serde(default)]
    reason: String,
}

/// Without anything needed, for who may ask is looked at first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Remove {
    network: String,
    reason: String,
}

/// `GET`: all of them.
pub(super) async fn list(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Result<Response, Problem> {
    authorize(&gate, &headers, Role::ReadOnly)?;
    Ok(json(&document!({ "networks": gate.protection.addresses.denied().list() })))
}

/// `PUT {"networks", "reason"}`: shuts these out too.
pub(super) async fn add(
    State(gate): State<Arc<Gate>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let Add { networks, reason } = parse(&gate, &headers, body, BODY_BYTES_MAX).await?;
    Reasons::Needed.check(&reason)?;
    if networks.is_empty() {
        return Err(Problem::new(&problem::INVALID, "networks: want at least one"));
    }
    let actor = operator.actor(&reason);
    let added = change(&gate, actor.clone(), move |gate| {
        gate.protection.addresses.denied().add(&networks, &actor, gate.now()).inspect(|added| {
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
    Ok(json(&document!({ "added": added })))
}

/// `DELETE ?network=…&reason=…`: lets one in again.
pub(super) async fn remove(
    State(gate): State<Arc<Gate>>,
    Query(Remove { network, reason }): Query<Remove>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    Reasons::Needed.check(&reason)?;
    let network: Net =
        network.parse().map_err(|why| Problem::new(&problem::INVALID, format!("network: {why}")))?;
    let actor = operator.actor(&reason);
    change(&gate, actor.clone(), move |gate| {
        gate.protection.addresses.denied().remove(&network).inspect(|()| {
            tracing::warn!(actor = actor.name, reason = actor.reason, %network, "a network is let in again");
        })
    })
    .await?;
    Ok(json(&document!({ "done": true })))
}

/// Makes a change on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    gate: &Arc<Gate>,
    actor: Actor,
    change: impl FnOnce(&Gate) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Problem> {
    let gate = Arc::clone(gate);
    let changed = tokio::task::spawn_blocking(move || change(&gate)).await;
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
