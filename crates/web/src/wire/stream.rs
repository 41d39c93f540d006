//! A connection's bytes: reading what has arrived, writing answers as far as the socket takes them,
//! and the ways in which a connection leaves: to axum, or for good.

use super::{
    Travelling,
    conn::{Conn, State},
    event_loop::Loop,
    head::{self, Form},
    hot::{Before, Hot, HotRequest, Served},
    io::{Io, OUT_BYTES},
    proxy::{self, Parsed},
    slab::Token,
    write,
};
use crate::{
    cors::Caller,
    problem::{ADDRESS_DENIED, BAD_REQUEST, BODY_TOO_LARGE, HEAD_TOO_LARGE, Problem},
    protection::Protection,
};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown},
    sync::{Arc, atomic::Ordering},
};

/// The most reads of one connection in a row, so that a client that sends without end leaves room
/// for others.
const READS_MAX: usize = 4;
/// Seconds that a client has to close after the last answer.
const LINGER_SECONDS: u32 = 2;
/// Seconds after which a client that does not read its answer is cut off.
const WRITE_STALL_SECONDS: u32 = 30;

/// The result for the request at the start of some bytes.
enum Step {
    /// It was answered; the next one may follow.
    Answered,
    /// It waits for its answer.
    Waits,
    /// More bytes are needed. True if the head is complete.
    Partial(bool),
    /// It is left to axum, and has this many bytes; `None` if only its chunks tell the length.
    Other(Option<u64>),
}

impl<H: Hot> Loop<H> {
    /// Handles an event of a socket.
    pub(super) fn ready(&mut self, token: Token, flags: EventFlags, scratch: &mut [u8]) {
        let Some(conn) = self.io.conns.get_mut(token) else { return };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return self.io.drop_conn(token);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
            conn.readable = true;
            conn.end_seen |= flags.contains(EventFlags::RDHUP);
        }
        if flags.contains(EventFlags::OUT) && conn.output.is_some() && !self.io.write_rest(token) {
            return;
        }
        self.serve_in_turn(token, scratch);
    }

    /// Serves the bytes that have arrived.
    pub(super) fn serve(&mut self, token: Token, scratch: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(conn) = self.io.conns.get_mut(token) else { return };
            if conn.state == State::Waiting || conn.output.is_some() {
                return;
            }
            let mut have = 0;
            if let Some(input) = conn.input.take() {
                // The kept bytes came from this buffer, or from axum, which got them from it.
                have = input.len().min(scratch.len());
                scratch[..have].copy_from_slice(&input[..have]);
                let whole = have == input.len();
                self.io.keep(Some(input));
                if !whole {
                    return self.io.drop_conn(token);
                }
            }
            let Some(conn) = self.io.conns.get_mut(token) else { return };
            let mut all_read = true;
            if conn.readable && !conn.ended {
                match conn.stream.read(&mut scratch[have..]) {
                    Ok(0) => conn.ended = true,
                    Ok(read) => {
                        have += read;
                        all_read = have < scratch.len() && !conn.end_seen;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => all_read = false,
                    Err(_) => return self.io.drop_conn(token),
                }
                conn.readable = !all_read;
            }
            if conn.state == State::Lingering {
                if conn.ended {
                    return self.io.drop_conn(token);
                }
            } else if !self.serve_bytes(token, &scratch[..have]) {
                return;
            }
            let Some(conn) = self.io.conns.get_mut(token) else { return };
            if conn.ended && conn.state != State::Waiting && conn.output.is_none() {
                // No complete request is left, and no more bytes will come.
                return self.io.drop_conn(token);
            }
            if all_read || self.io.waits_for_turn(token) {
                return;
            }
        }
        self.io.again.push(token);
    }

    /// Serves the requests in `bytes`, and keeps the rest. False if the connection is no longer
    /// here.
    fn serve_bytes(&mut self, token: Token, bytes: &[u8]) -> bool {
        let mut at = 0;
        self.io.out.clear();
        if self.io.conns.peek(token).is_some_and(|conn| conn.state == State::Announced) {
            match self.io.announced(token, bytes) {
                Some(len) => at = len,
                None => return false,
            }
            if at == 0 {
                return self.io.keep_left(token, bytes);
            }
        }
        while at < bytes.len() {
            let step = self.request(token, &bytes[at..], &mut at);
            match step {
                Step::Answered => {
                    let Some(conn) = self.io.conns.get_mut(token) else { return false };
                    // The next request has its own timeout.
                    conn.state = State::Idle;
                    let closes = conn.close;
                    if closes {
                        at = bytes.len();
                    }
                    if self.io.out.len() < OUT_BYTES && !closes {
                        continue;
                    }
                    if !self.io.flush(token) {
                        return false;
                    }
                    if self.io.conns.get_mut(token).is_none_or(|conn| conn.output.is_some()) {
                        break;
                    }
                }
                Step::Waits => break,
                Step::Partial(head_is_whole) => {
                    self.io.wait_for_more(token, head_is_whole);
                    break;
                }
                Step::Other(request_bytes) => {
                    if !self.io.flush(token) {
                        return false;
                    }
                    // Earlier answers must be sent first.
                    if self.io.conns.get_mut(token).is_some_and(|conn| conn.output.is_none()) {
                        self.io.hand_over(token, &bytes[at..], request_bytes);
                        return false;
                    }
                    break;
                }
            }
        }
        if !self.io.flush(token) {
            return false;
        }
        if at == bytes.len() {
            self.io.rest(token);
            return true;
        }
        self.io.keep_left(token, &bytes[at..])
    }

    /// Serves the request at the start of `bytes`, and moves `at` past it if it was served.
    fn request(&mut self, token: Token, bytes: &[u8], at: &mut usize) -> Step {
        let Self { io, hot } = self;
        let bytes_max = io.protection.settings.header_bytes_max;
        let head = match head::parse(bytes, bytes_max, H::FIELDS) {
            head::Parsed::Partial => return Step::Partial(false),
            head::Parsed::Whole(head) => {
                io.count_request(token);
                let caller = io.protection.cors.of(head.fields.origin);
                io.meet(token, caller);
                head
            }
            head::Parsed::Refused(why) => {
                io.meet(token, Caller::default());
                io.refuse(token, &malformed(why, bytes_max), true);
                return Step::Answered;
            }
        };
        let total = head.len as u64 + head.body_len;
        if head.form != Form::Plain || !H::is_hot(head.target) {
            return Step::Other((!head.chunked).then_some(total));
        }
        let here = bytes.len() as u64;
        let Some(peer) = io.conns.peek(token).map(|conn| conn.peer) else { return Step::Answered };
        let forwarded = head.fields.forwarded_for.into_iter();
        let address = io.protection.addresses.believed_address(peer, forwarded);
        if let Err(problem) = refuse_denied(&io.protection, address) {
            *at += total.min(here) as usize;
            io.note(address, &problem);
            io.refuse(token, &problem, true);
            return Step::Answered;
        }
        let now = io.protection.now();
        let asked = HotRequest { conn: token, head: &head, address, now, is_whole: here >= total };
        match hot.head(io, &asked) {
            Before::Other => Step::Other(Some(total)),
            Before::Answered => {
                *at += total.min(here) as usize;
                Step::Answered
            }
            Before::Body { bytes_max } if head.body_len > bytes_max as u64 => {
                let why = format!("body: more than {bytes_max} bytes");
                io.refuse(token, &Problem::new(&BODY_TOO_LARGE, why), true);
                Step::Answered
            }
            Before::Body { .. } if !asked.is_whole => Step::Partial(true),
            Before::Body { .. } => {
                *at += total as usize;
                match hot.request(io, &asked, &bytes[head.len..total as usize]) {
                    Served::Answered => Step::Answered,
                    Served::Waits => Step::Waits,
                }
            }
        }
    }
}

/// Refuses an address that an operator has denied.
pub(crate) fn refuse_denied(protection: &Protection, address: IpAddr) -> Result<(), Problem> {
    if !protection.addresses.is_denied(address) {
        return Ok(());
    }
    let why =
        "this address, or its network, is shut out by an operator: use another network, or write to the shop";
    Err(Problem::new(&ADDRESS_DENIED, why))
}

/// The boundaries of the request at the start of some bytes: its length, or `None` if only its
/// chunks tell it. An error is the answer that refuses it. `None` if the head is incomplete.
pub(crate) fn boundaries(bytes: &[u8], bytes_max: usize) -> Option<Result<Option<u64>, Vec<u8>>> {
    match head::parse(bytes, bytes_max, &[]) {
        head::Parsed::Partial => None,
        head::Parsed::Whole(head) => {
            let total = head.len as u64 + head.body_len;
            Some(Ok((!head.chunked).then_some(total)))
        }
        head::Parsed::Refused(why) => {
            let mut date = write::Date::new();
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            date.at(since.as_millis() as u64);
            let (mut out, mut scratch) = (Vec::new(), Vec::new());
            write::problem(&mut out, &mut scratch, &malformed(why, bytes_max), "", &date, true);
            Some(Err(out))
        }
    }
}

fn malformed(why: head::Refusal, bytes_max: usize) -> Problem {
    match why {
        head::Refusal::TooLarge => Problem::new(
            &HEAD_TOO_LARGE,
            format!("the head of the request has more than {bytes_max} bytes or 64 fields"),
        ),
        head::Refusal::Version => Problem::new(&BAD_REQUEST, "want HTTP/1.1 or HTTP/1.0"),
        head::Refusal::Malformed(why) => Problem::new(&BAD_REQUEST, why),
    }
}

impl<L: Send + 'static> Io<L> {
    /// Keeps bytes until more come. False if the connection is no longer here.
    fn keep_left(&mut self, token: Token, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let mut left = self.buffer();
        left.extend_from_slice(bytes);
        let Some(conn) = self.conns.get_mut(token) else { return false };
        conn.input = Some(left);
        true
    }

    /// Takes over the client's address from the header before the first request, and returns how
    /// many bytes it consumed; 0 if the header is incomplete. `None` if the connection is no longer
    /// here.
    fn announced(&mut self, token: Token, bytes: &[u8]) -> Option<usize> {
        let (len, source) = match proxy::parse(bytes) {
            Parsed::Partial => return Some(0),
            Parsed::Whole { len, source } => (len, source),
            Parsed::Refused(why) => {
                let section = self.protection.section;
                let detail = format!(
                    "header of the PROXY protocol, version 2 ({section}.connections.proxy_protocol): {why}"
                );
                if let Some(count) = self.unannounced.due() {
                    let proxy = self.conns.peek(token).map(|conn| conn.peer.to_string());
                    tracing::warn!(proxy, count, "connection refused: {detail}");
                }
                self.refuse(token, &Problem::new(&BAD_REQUEST, detail), true);
                return Some(bytes.len());
            }
        };
        let until = self.seconds() + self.protection.idle_seconds();
        let conn = self.conns.get_mut(token)?;
        (conn.state, conn.until) = (State::Idle, until);
        let Some(source) = source else { return Some(len) };
        conn.peer = source;
        match self.share(source) {
            Some(of_address) => {
                self.conns.get_mut(token)?.seat.of_address = of_address;
                Some(len)
            }
            None => {
                self.drop_conn(token);
                None
            }
        }
    }

    /// How long a connection may be idle now, and how long a balancer's may.
    fn idle_seconds(&self) -> (u32, u32) {
        (self.protection.idle_seconds(), self.protection.settings.idle_timeout_seconds as u32)
    }

    /// Everything that arrived was served.
    pub(super) fn rest(&mut self, token: Token) {
        let now = self.seconds();
        let (idle, configured) = self.idle_seconds();
        let drains = self.drains;
        if let Some(conn) = self.conns.get_mut(token)
            && matches!(conn.state, State::Head | State::Body | State::Idle)
            // Otherwise it is not idle: unwritten output has its own timeout.
            && conn.output.is_none()
        {
            // A balancer's connection has the timeout of a drain once one has begun.
            if !(drains && conn.is_of_balancer && conn.state == State::Idle) {
                conn.until = now + if conn.is_of_balancer { configured } else { idle };
            }
            conn.state = State::Idle;
            if drains {
                self.rest_if_draining(token);
            }
        }
    }

    /// Starts the timeout of an incomplete request. A byte now and then does not extend it.
    pub(super) fn wait_for_more(&mut self, token: Token, head_is_whole: bool) {
        let now = self.seconds();
        let settings = &self.protection.settings;
        let (header, body) = (settings.header_timeout_seconds as u32, settings.body_timeout_seconds as u32);
        let Some(conn) = self.conns.get_mut(token) else { return };
        match (conn.state, head_is_whole) {
            (State::Idle, false) => (conn.state, conn.until) = (State::Head, now + header),
            (State::Idle | State::Head, true) => (conn.state, conn.until) = (State::Body, now + body),
            _ => {}
        }
    }

    /// Writes the bytes collected in `out`. False if the connection is gone.
    pub(super) fn flush(&mut self, token: Token) -> bool {
        let Some(conn) = self.conns.get_mut(token) else { return false };
        if self.out.is_empty() {
            return true;
        }
        if let Some((bytes, _)) = &mut conn.output {
            bytes.extend_from_slice(&self.out);
            self.out.clear();
            return true;
        }
        let written = match conn.stream.write(&self.out) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.drop_conn(token);
                return false;
            }
        };
        let close = conn.close && conn.state != State::Waiting;
        if written < self.out.len() {
            let mut rest = self.buffer();
            rest.extend_from_slice(&self.out[written..]);
            self.out.clear();
            return self.write_later(token, rest);
        }
        self.out.clear();
        if close { self.linger(token) } else { true }
    }

    pub(super) fn write_later(&mut self, token: Token, rest: Vec<u8>) -> bool {
        let until = self.seconds() + WRITE_STALL_SECONDS;
        let Some(conn) = self.conns.get_mut(token) else { return false };
        conn.output = Some((rest, 0));
        conn.until = until;
        if !conn.watches_out {
            conn.watches_out = true;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            if epoll::modify(&self.epoll, &conn.stream, EventData::new_u64(token.to_u64()), flags).is_err() {
                self.drop_conn(token);
                return false;
            }
        }
        true
    }

    /// Writes the rest that the socket did not take. False if it still does not take all, or is
    /// gone.
    pub(super) fn write_rest(&mut self, token: Token) -> bool {
        let until = self.seconds() + WRITE_STALL_SECONDS;
        let Some(conn) = self.conns.get_mut(token) else { return false };
        let Some((bytes, written)) = &mut conn.output else { return true };
        loop {
            match conn.stream.write(&bytes[*written..]) {
                Ok(0) => break self.drop_conn(token),
                Ok(more) => *written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.until = until;
                    break;
                }
                Err(_) => break self.drop_conn(token),
            }
            if *written == bytes.len() {
                let output = conn.output.take().map(|(bytes, _)| bytes);
                let close = conn.close && conn.state != State::Waiting;
                self.keep(output);
                if close {
                    self.linger(token);
                    return false;
                }
                self.rest(token);
                return true;
            }
        }
        false
    }

    /// Sends the remaining output and closes the sending side, and waits for the client to close.
    /// False: nothing more is served on it.
    pub(super) fn linger(&mut self, token: Token) -> bool {
        let until = self.seconds() + LINGER_SECONDS;
        let Some(conn) = self.conns.get_mut(token) else { return false };
        if conn.ended || conn.stream.shutdown(Shutdown::Write).is_err() {
            self.drop_conn(token);
            return false;
        }
        (conn.state, conn.until) = (State::Lingering, until);
        true
    }

    pub(super) fn hand_over(&mut self, token: Token, bytes: &[u8], request_bytes: Option<u64>) {
        let Some(conn) = self.conns.remove(token) else { return };
        self.inbox.open.fetch_sub(1, Ordering::Relaxed);
        // A socket that two epolls watch would wake both.
        let _ = epoll::delete(&self.epoll, &conn.stream);
        let travelling = Travelling {
            stream: conn.stream,
            peer: conn.peer,
            seat: conn.seat,
            early: bytes.to_vec().into(),
            request_bytes,
            is_announced: false,
            home: Arc::clone(&self.inbox) as _,
        };
        // It has room for every connection that may be open.
        if self.to_axum.try_send(travelling).is_err() {
            self.protection.counters.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Accepts a connection that is new, or idle again.
    pub(super) fn welcome_back(&mut self, travelling: Travelling) {
        let Travelling { stream, peer, seat, early, is_announced, .. } = travelling;
        let settings = &self.protection.settings;
        let is_of_balancer = !settings.proxy_protocol && self.protection.addresses.is_trusted(peer);
        let (state, seconds) = match is_announced {
            true => (State::Announced, settings.header_timeout_seconds as u32),
            false if is_of_balancer => (State::Idle, settings.idle_timeout_seconds as u32),
            false => (State::Idle, self.protection.idle_seconds()),
        };
        let until = self.seconds() + seconds;
        let pace = self.pace_of_new(peer);
        let input = (!early.is_empty()).then(|| early.to_vec());
        let conn = Conn {
            stream,
            peer,
            is_of_balancer,
            seat,
            caller: Caller::default(),
            pace,
            state,
            until,
            // Bytes that arrived meanwhile caused no edge here.
            readable: true,
            ended: false,
            end_seen: false,
            close: false,
            watches_out: false,
            input,
            output: None,
        };
        let adopted = self.adopt(conn);
        self.arrived.extend(adopted);
    }
}
