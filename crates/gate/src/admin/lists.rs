//! Uploads of shopper lists: one id a line, read as it streams, hashed, and handed to the sale in chunks. The ids themselves
//! are never stored.

use super::{Operator, authorize, keys::Role};
use crate::{
    api::{json, reservation::operate_problem},
    front::Front,
    problem::{Kind, Problem},
    state::{Gate, reply, want_media_type},
};
use axum::{
    body::Body,
    extract::{Path, State},
    response::Response,
};
use contracts::{LIST_CHUNK_MAX, ListKind, Operation, SHOPPER_ID_BYTES_MAX};
use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::json as document;
use std::{sync::Arc, time::Duration};
use units::ShopperKey;

/// Lines in one upload.
const SHOPPERS_MAX: u64 = 10_000_000;

/// `PUT …/list`: those who may buy.
pub(super) async fn allowed(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    upload(&gate, &sale, &headers, body, ListKind::Allowed).await
}

/// `PUT …/denylist`: those who may not.
pub(super) async fn denied(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    upload(&gate, &sale, &headers, body, ListKind::Denied).await
}

struct Upload<'a> {
    gate: &'a Gate,
    front: &'a Front,
    operator: Operator,
    list: ListKind,
    chunk: Vec<ShopperKey>,
    sent_chunks: u64,
    lines: u64,
    shoppers: u64,
}

async fn upload(
    gate: &Arc<Gate>,
    sale: &str,
    headers: &HeaderMap,
    mut body: Body,
    list: ListKind,
) -> Result<Response, Problem> {
    let operator = authorize(gate, headers, Role::Operator)?;
    let front = gate.front(sale)?;
    want_media_type(headers, "text/plain")?;
    let chunk = Vec::with_capacity(LIST_CHUNK_MAX);
    let mut upload =
        Upload { gate, front: &front, operator, list, chunk, sent_chunks: 0, lines: 0, shoppers: 0 };
    let silence_max = Duration::from_secs(gate.config.connections.body_timeout_seconds);
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let frame = tokio::time::timeout(silence_max, body.frame())
            .await
            .map_err(|_| upload.cut_short(Kind::BodyTimeout, "the body stopped"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| upload.cut_short(Kind::BadRequest, &e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let mut lines = data.split(|&b| b == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                rest.extend_from_slice(line);
                // One more for a carriage return.
                if rest.len() > SHOPPER_ID_BYTES_MAX + 1 {
                    upload.line(&rest).await?;
                }
            } else if rest.is_empty() {
                upload.line(line).await?;
            } else {
                rest.extend_from_slice(line);
                upload.line(&rest).await?;
                rest.clear();
            }
        }
    }
    if !rest.is_empty() {
        upload.line(&rest).await?;
    }
    if !upload.chunk.is_empty() || upload.sent_chunks == 0 {
        upload.send().await?;
    }
    Ok(json(&document!({ "shoppers": upload.shoppers })))
}

impl Upload<'_> {
    async fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.lines += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let id = std::str::from_utf8(line).ok().filter(|id| id.len() <= SHOPPER_ID_BYTES_MAX);
        let Some(id) = id else {
            return Err(self.cut_short(Kind::Invalid, "want one shopper id of 1 to 64 bytes in UTF-8"));
        };
        self.shoppers += 1;
        if self.shoppers > SHOPPERS_MAX {
            return Err(self.cut_short(Kind::BodyTooLarge, "more than 10000000 shoppers"));
        }
        self.chunk.push(self.gate.keys.shopper_key(id));
        if self.chunk.len() == LIST_CHUNK_MAX {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Problem> {
        let shoppers = std::mem::replace(&mut self.chunk, Vec::with_capacity(LIST_CHUNK_MAX));
        let operation = Operation::List { list: self.list, clear: self.sent_chunks == 0, shoppers };
        reply(self.front.sale.operate(self.operator.actor(""), operation)).await?.map_err(operate_problem)?;
        self.sent_chunks += 1;
        Ok(())
    }

    fn cut_short(&self, kind: Kind, why: &str) -> Problem {
        let line = self.lines;
        let stands = match self.sent_chunks {
            0 => "the list is as it was",
            _ => "the list is incomplete: upload it again, whole",
        };
        Problem::new(kind, format!("line {line}: {why}; {stands}"))
    }
}
