//! `GET /api/v1/admin/refusals`: why the gate refused an address or a shopper.

use crate::{
    filter::{REASONS, Risk, Signal},
    keys::Keyring,
    limits::Limits,
    problem::{self, Problem},
};
use axum::extract::State;
use contracts::{SHOPPER_ID_FORM, SHOPPER_ID_PATTERN, is_shopper_id};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use units::TimeMs;
use web::{
    body::clip,
    json::JsonReply,
    limits::{Denied, Refused},
    protection::Protection,
    query::Query,
};

/// The query: exactly one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusalQuery {
    /// An address. Give either this or shopper.
    #[schemars(extend("examples" = ["203.0.113.9"]))]
    address: Option<String>,
    /// A shopper's id.
    #[schemars(extend("pattern" = SHOPPER_ID_PATTERN))]
    shopper: Option<String>,
}

/// The refusals of an address or a shopper.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refusals {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<AddressNow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<TimeMs>,
    refused: Vec<RefusedFor>,
}

/// The state of an address at the gate.
#[derive(Debug, Serialize, JsonSchema)]
struct AddressNow {
    /// The address as in the request. For IPv6, the other fields concern its /64.
    #[schemars(with = "String")]
    address: IpAddr,
    /// Whether the address is exempt from limits.
    exempt: bool,
    /// Whether the address is a proxy that forwards for others.
    trusted_proxy: bool,
    /// Connections open now. 0 for an address without a limit, whose connections are not counted.
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<Denied>,
    risk: RiskNow,
}

/// How much the address looks like a script.
#[derive(Debug, Serialize, JsonSchema)]
struct RiskNow {
    #[schemars(range(max = 3))]
    level: usize,
    #[schemars(extend("additionalProperties" = { "type": "integer", "minimum": 1 }))]
    /// Points by signal (fast_solution, bare_client, many_shoppers, steady_cadence); signals
    /// without points are left out.
    points: BTreeMap<&'static str, u64>,
    /// Seconds for which the address gets no pass.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_seconds: Option<u32>,
}

impl From<Risk> for RiskNow {
    fn from(Risk { level, points, refused_seconds, .. }: Risk) -> Self {
        let points = Signal::ALL.map(Signal::label).into_iter().zip(points).filter(|(_, points)| *points > 0);
        Self { level, points: points.collect(), refused_seconds }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct RefusedFor {
    #[schemars(extend("enum" = REASONS.map(|reason| reason.label)))]
    reason: &'static str,
    /// 255 stands for 255 or more.
    #[schemars(range(min = 1, max = 255))]
    count: u8,
    /// What happened, and what an operator can do.
    advice: &'static str,
}

pub(super) async fn read(
    State(limits): State<Arc<Limits>>,
    State(keys): State<Arc<Keyring>>,
    State(protection): State<Arc<Protection>>,
    Query(asked): Query<RefusalQuery>,
) -> Result<JsonReply<Refusals>, Problem> {
    let invalid = |why: String| Problem::new(&problem::INVALID, why);
    let (address, shopper, known) = match (asked.address, asked.shopper) {
        (Some(text), None) => {
            let address: IpAddr = text
                .parse()
                .map_err(|_| invalid(format!("address {:?}: want such as 203.0.113.9", clip(&text))))?;
            let addresses = &protection.addresses;
            let (known, connections) = addresses.refused(address);
            let (exempt, trusted_proxy) = (addresses.is_exempt(address), addresses.is_trusted(address));
            let denied = addresses.denied().of(address).filter(|_| addresses.is_denied(address));
            let risk = limits.filter.known_risk(address, protection.now()).into();
            (Some(AddressNow { address, exempt, trusted_proxy, connections, denied, risk }), None, known)
        }
        (None, Some(id)) if !is_shopper_id(&id) => {
            return Err(invalid(format!("shopper {:?}: want {SHOPPER_ID_FORM}", clip(&id))));
        }
        (None, Some(id)) => {
            let known = limits.filter.refused_shopper(keys.shopper_key(&id));
            (None, Some(clip(&id).to_owned()), known)
        }
        _ => return Err(invalid("query: want address=… or shopper=…, one of the two".into())),
    };
    let last_at = known.map(|known| TimeMs(known.last_seconds * 1000));
    let refused = known.map(refused).unwrap_or_default();
    Ok(JsonReply(Refusals { address, shopper, last_at, refused }))
}

fn refused(known: Refused) -> Vec<RefusedFor> {
    let counted = REASONS.into_iter().zip(known.counts).filter(|(_, count)| *count > 0);
    counted.map(|(reason, count)| RefusedFor { reason: reason.label, count, advice: reason.advice }).collect()
}
