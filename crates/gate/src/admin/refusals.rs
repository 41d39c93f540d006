//! `GET /api/v1/admin/refusals`: why the gate refused an address or a shopper.

use super::authorize;
use crate::{
    api::json,
    filter::{REASONS, Risk, Signal},
    problem::{self, Problem},
    state::Gate,
};
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use units::TimeMs;
use web::body::clip;
use web::{
    api_keys::Role,
    limits::{Denied, Refused},
};

/// Exactly one of the two.
#[derive(Debug, Deserialize)]
pub(super) struct RefusalQuery {
    address: Option<String>,
    shopper: Option<String>,
}

/// What is known.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<AddressNow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<TimeMs>,
    refused: Vec<RefusedFor>,
}

/// An address, as it stands with the gate.
#[derive(Debug, Serialize)]
struct AddressNow {
    address: IpAddr,
    exempt: bool,
    trusted_proxy: bool,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<Denied>,
    risk: RiskNow,
}

/// How much the address looks like a script.
#[derive(Debug, Serialize)]
struct RiskNow {
    /// 0 to 3.
    level: usize,
    /// By signal; those without are left out.
    points: BTreeMap<&'static str, u64>,
    /// How long it gets no pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_seconds: Option<u32>,
}

impl From<Risk> for RiskNow {
    fn from(Risk { level, points, refused_seconds, .. }: Risk) -> Self {
        let points = Signal::ALL.map(Signal::label).into_iter().zip(points).filter(|(_, points)| *points > 0);
        Self { level, points: points.collect(), refused_seconds }
    }
}

#[derive(Debug, Serialize)]
struct RefusedFor {
    reason: &'static str,
    /// 255 stands for 255 or more.
    count: u8,
    advice: &'static str,
}

pub(super) async fn read(
    State(gate): State<Arc<Gate>>,
    Query(asked): Query<RefusalQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorize(&gate, &headers, Role::ReadOnly)?;
    let invalid = |why: String| Problem::new(&problem::INVALID, why);
    let (address, shopper, known) = match (asked.address, asked.shopper) {
        (Some(text), None) => {
            let address: IpAddr = text
                .parse()
                .map_err(|_| invalid(format!("address {:?}: want such as 203.0.113.9", clip(&text))))?;
            let addresses = &gate.protection.addresses;
            let (known, connections) = addresses.refused(address);
            let (exempt, trusted_proxy) = (addresses.is_exempt(address), addresses.is_trusted(address));
            let denied = addresses.denied().of(address).filter(|_| addresses.is_denied(address));
            let risk = gate.filter.known_risk(address, gate.now()).into();
            (Some(AddressNow { address, exempt, trusted_proxy, connections, denied, risk }), None, known)
        }
        (None, Some(id)) => {
            let known = gate.filter.refused_shopper(gate.keys.shopper_key(&id));
            (None, Some(clip(&id).to_owned()), known)
        }
        _ => return Err(invalid("query: want address=… or shopper=…, one of the two".into())),
    };
    let last_at = known.map(|known| TimeMs(known.last_seconds * 1000));
    Ok(json(&Answer { address, shopper, last_at, refused: known.map(refused).unwrap_or_default() }))
}

fn refused(known: Refused) -> Vec<RefusedFor> {
    let counted = REASONS.into_iter().zip(known.counts).filter(|(_, count)| *count > 0);
    counted.map(|(reason, count)| RefusedFor { reason: reason.label, count, advice: reason.advice }).collect()
}
