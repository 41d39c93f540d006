//! The listener on which a context answers the others: for processes of the same installation,
//! which show its key. It takes no shopper and no operator.

use super::{
    KEY_FIELD,
    ports::{NotCalled, Offered},
};
use axum::{
    body::Body,
    extract::{FromRef, Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use std::{net::SocketAddr, sync::Arc};
use subtle::ConstantTimeEq;
use web::{
    body,
    config::AddressLimits,
    health, kinds,
    metrics::{Naming, Registry, ServerMetrics},
    operation::{Access, Callers, Credential, Sent, post},
    problem::{BODY_TIMEOUT, BODY_TOO_LARGE, INVALID, KINDS, Kind, MEDIA_TYPE, NOT_FOUND, Problem},
    protection::Protection,
    server::{Buffers, Listening, listen_once},
};

/// Connections that may be open to it. An address may have a quarter of them, which is more than
/// all other contexts use together.
pub(in crate::store) const OPEN_MAX: usize = 2048;
/// A cart of a hundred lines, an address, and more.
const BODY_BYTES_MAX: usize = 256 << 10;
const BUFFERS: Buffers = Buffers { receive_bytes: 16 << 10, send_bytes: 64 << 10 };
const ID: &str = "port";
const NAMING: Naming = Naming { prefix: "floodgate_store_ports", section: "store.services" };
const PATH: &str = "/ports/1/{port}/{method}";

kinds! {
    /// The kinds of this listener alone.
    OWN_KINDS:
    SERVICES_KEY_MISSING = Kind::new(
        401,
        "services-key-missing",
        "The key of the services is needed",
        "Contexts of the store show the key of their installation: the file keys/services.key.",
    );
    SERVICES_KEY_REFUSED = Kind::new(
        401,
        "services-key-refused",
        "The key of the services was refused",
        "It is the key of another installation: give both sides the same file keys/services.key.",
    );
}

static KEY: Credential = Credential {
    name: "services-key",
    sent: Sent::Field(KEY_FIELD),
    missing: &SERVICES_KEY_MISSING,
    refused: &SERVICES_KEY_REFUSED,
};

/// What the handler uses.
#[derive(Clone)]
struct Parts {
    offered: Arc<Offered>,
    key: HeaderValue,
    protection: Arc<Protection>,
}

impl FromRef<Parts> for Arc<Protection> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.protection)
    }
}

/// None: callers who show the key ask as much as they want, and others are refused before anything
/// is read. An address has a quarter of the connections, as on each listener that is not for
/// shoppers, and those that have been idle longest make room.
pub(in crate::store) fn limits() -> AddressLimits {
    const MANY: u32 = 1_000_000;
    AddressLimits {
        address_per_second: MANY,
        address_burst: MANY,
        prefix_per_second: MANY,
        prefix_burst: MANY,
        address_connections_max: OPEN_MAX / 2,
        prefix_connections_max: OPEN_MAX / 2,
        exempt_addresses: Vec::new(),
        trusted_proxies: Vec::new(),
    }
}

pub(in crate::store) fn listen(
    at: SocketAddr,
    backlog: u32,
) -> std::io::Result<(std::net::TcpListener, SocketAddr)> {
    listen_once("store.services", at, backlog.min(1024), false, BUFFERS)
}

pub(in crate::store) fn counts(counted: &mut Registry) -> ServerMetrics {
    let kinds: Vec<&'static Kind> = KINDS.iter().chain(OWN_KINDS).copied().collect();
    ServerMetrics::new(NAMING, &kinds, &[ID, "health"], counted)
}

/// The listener, for callers who show the key.
pub(in crate::store) fn listening(
    offered: Offered,
    key: HeaderValue,
    protection: &Arc<Protection>,
) -> Listening {
    let (offered, of_handler) = (Arc::new(offered), key.clone());
    let parts = Parts { offered, key: of_handler, protection: Arc::clone(protection) };
    let called = post(PATH, ID, Access::Credential(&KEY), call)
        .does("Answers another context of the store.")
        .problems(&[&INVALID, &NOT_FOUND, &BODY_TIMEOUT, &BODY_TOO_LARGE, &MEDIA_TYPE]);
    let operations = vec![called.with_state(parts), health::alive()];
    let listening = Listening::new(protection, operations, (), Callers::Operators, OPEN_MAX);
    listening.with_own_key(KEY_FIELD, key)
}

async fn call(
    State(parts): State<Parts>,
    Path((port, method)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(shown) = headers.get(KEY_FIELD) else {
        return Err(Problem::new(&SERVICES_KEY_MISSING, format!("{KEY_FIELD}: want the installation's key")));
    };
    if !bool::from(shown.as_bytes().ct_eq(parts.key.as_bytes())) {
        return Err(Problem::new(&SERVICES_KEY_REFUSED, format!("{KEY_FIELD}: not the installation's key")));
    }
    body::want_media_type(&headers, "application/json")?;
    let arguments = body::read_large(body, BODY_BYTES_MAX, parts.protection.body_timeout()).await?;
    match parts.offered.call(&port, &method, &arguments).await {
        Ok(answer) => Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response()),
        Err(NotCalled::Unknown) => {
            Err(Problem::new(&NOT_FOUND, format!("{port}/{method}: this process does not answer it")))
        }
        Err(NotCalled::Unreadable) => {
            Err(Problem::new(&INVALID, format!("{port}/{method}: arguments of another version")))
        }
    }
}
