//! Uploads of shopper lists: one id on each line, hashed as it streams. The list is handed to the
//! sale in chunks once all of it has arrived: an upload that breaks off, or has a wrong line,
//! changes nothing. The ids themselves are never stored.

use crate::{
    api::AtSale,
    front::Front,
    keys::Keyring,
    problem::{self, Problem, of_operation, reply},
};
use axum::extract::{RawQuery, Request, State};
use contracts::{
    Actor, LIST_CHUNK_MAX, ListKind, Operation, SHOPPER_ID_BYTES_MAX, SHOPPER_ID_FORM, ShopperKey,
    is_shopper_id,
};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use web::{
    api_keys::Operator, body::want_media_type, json::JsonReply, protection::Protection, reason::Reasons,
};

/// The most shoppers in one upload. Each takes 16 bytes until the upload is complete.
const SHOPPERS_MAX: usize = 5_000_000;

/// One shopper id of 1 to 64 visible ASCII characters on each line.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct ShopperIds(String);

/// How many different shoppers the uploaded list has.
#[derive(Serialize, JsonSchema)]
pub(super) struct Uploaded {
    shoppers: usize,
}

type Handled = Result<JsonReply<Uploaded>, Problem>;

/// `PUT …/list?reason=…`: the shoppers who may buy.
pub(super) async fn allowed(
    operator: Operator,
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    State(protection): State<Arc<Protection>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Handled {
    let actor = operator.actor(&Reasons::Optional.in_query(query.as_deref())?);
    upload(front, (&keys, &protection), actor, request, ListKind::Allowed).await
}

/// `PUT …/denylist?reason=…`: the shoppers who may not buy.
pub(super) async fn denied(
    operator: Operator,
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    State(protection): State<Arc<Protection>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Handled {
    let actor = operator.actor(&Reasons::Needed.in_query(query.as_deref())?);
    upload(front, (&keys, &protection), actor, request, ListKind::Denied).await
}

struct Upload<'a> {
    keys: &'a Keyring,
    shoppers: Vec<ShopperKey>,
    lines: u64,
}

async fn upload(
    front: Arc<Front>,
    (keys, protection): (&Keyring, &Protection),
    actor: Actor,
    request: Request,
    list: ListKind,
) -> Handled {
    want_media_type(request.headers(), "text/plain")?;
    let mut body = request.into_body();
    let mut upload = Upload { keys, shoppers: Vec::new(), lines: 0 };
    let silence_max = protection.body_timeout();
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let frame = tokio::time::timeout(silence_max, body.frame())
            .await
            .map_err(|_| upload.wrong(&problem::BODY_TIMEOUT, "the body stopped"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| upload.wrong(&problem::BAD_REQUEST, &e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let mut lines = data.split(|&b| b == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                rest.extend_from_slice(line);
                // With room for a carriage return, and for a byte order mark.
                if rest.len() > SHOPPER_ID_BYTES_MAX + 4 {
                    upload.line(&rest)?;
                }
            } else if rest.is_empty() {
                upload.line(line)?;
            } else {
                rest.extend_from_slice(line);
                upload.line(&rest)?;
                rest.clear();
            }
        }
    }
    if !rest.is_empty() {
        upload.line(&rest)?;
    }
    let mut shoppers = upload.shoppers;
    // A shopper who stands there twice counts once. Sorting millions takes a while.
    let sorted = tokio::task::spawn_blocking(move || {
        shoppers.sort_unstable();
        shoppers.dedup();
        shoppers
    });
    let shoppers = sorted.await.map_err(|_| Problem::internal())?;
    let count = shoppers.len();
    // A separate task, so that it goes on to the end of the list even if the operator's connection
    // breaks.
    let sent = tokio::spawn(async move { hand_over(&front, &actor, list, &shoppers).await });
    sent.await.unwrap_or_else(|_| Err(Problem::internal()))?;
    Ok(JsonReply(Uploaded { shoppers: count }))
}

/// The first chunk clears the list, so a later failure leaves it incomplete, and the problem says
/// so.
async fn hand_over(
    front: &Front,
    actor: &Actor,
    list: ListKind,
    shoppers: &[ShopperKey],
) -> Result<(), Problem> {
    let mut chunks: Vec<&[ShopperKey]> = shoppers.chunks(LIST_CHUNK_MAX).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    for (at, chunk) in chunks.iter().enumerate() {
        let operation = Operation::List { list, clear: at == 0, shoppers: chunk.to_vec() };
        let done = reply(front.sale.operate(actor.clone(), operation)).await;
        if at > 0 && !matches!(done, Ok(Ok(_))) {
            let why =
                format!("the sale took {at} of {} parts of the list: upload it again, whole", chunks.len());
            tracing::error!(%why, "a list is incomplete");
            return Err(Problem::new(&problem::UNAVAILABLE, why).retry_after(1));
        }
        done?.map_err(of_operation)?;
    }
    Ok(())
}

impl Upload<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.lines += 1;
        // Some editors put a byte order mark before the first line.
        let line = if self.lines == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let Some(id) = std::str::from_utf8(line).ok().filter(|id| is_shopper_id(id)) else {
            return Err(self.wrong(&problem::INVALID, &format!("want one shopper id of {SHOPPER_ID_FORM}")));
        };
        if self.shoppers.len() == SHOPPERS_MAX {
            return Err(self.wrong(&problem::BODY_TOO_LARGE, "more than 5000000 shoppers"));
        }
        self.shoppers.push(self.keys.shopper_key(id));
        Ok(())
    }

    fn wrong(&self, kind: &'static problem::Kind, why: &str) -> Problem {
        Problem::new(kind, format!("line {}: {why}; the list is as it was", self.lines))
    }
}
