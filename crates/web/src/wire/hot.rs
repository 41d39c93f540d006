//! What a context serves inside the connection loops, without axum: [`Hot`].

use super::{Io, Token, head::Head};
use std::{net::IpAddr, time::Instant};
use units::TimeMs;

/// A request whose head is complete.
#[derive(Debug)]
pub struct HotRequest<'a> {
    pub conn: Token,
    pub head: &'a Head<'a>,
    /// The client's address, after trusted proxies.
    pub address: IpAddr,
    pub now: TimeMs,
    /// Whether the body has arrived too.
    pub is_whole: bool,
}

/// What to do with a request before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Its answer is written.
    Answered,
    /// The body is needed, of at most this many bytes.
    Body { bytes_max: usize },
    /// It is left to axum.
    Other,
}

/// The result of serving a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Its answer is written.
    Answered,
    /// It is answered later, between [`Io::begin_answer`] and [`Io::end_answer`].
    Waits,
}

/// The hot routes of a context. One value serves one loop, on its thread; nothing in it may block.
pub trait Hot: Send + 'static {
    /// The messages that other threads send through the [`Inbox`](super::Inbox).
    type Letter: Send + 'static;

    /// Fields of a request's head that the routes read in addition to the usual ones, in lower
    /// case; at most [`head::OWN_FIELDS_MAX`](super::head::OWN_FIELDS_MAX).
    const FIELDS: &'static [&'static str];

    /// Whether a target is one of the hot routes. Called for every request, before anything is
    /// known of the caller.
    fn is_hot(target: &str) -> bool;

    /// Checks a request whose head is complete, before its body has arrived.
    fn head(&mut self, io: &mut Io<Self::Letter>, asked: &HotRequest<'_>) -> Before;

    /// Serves a complete request, right after it was decided that its body is needed.
    fn request(&mut self, io: &mut Io<Self::Letter>, asked: &HotRequest<'_>, body: &[u8]) -> Served;

    /// Handles a message from another thread.
    fn letter(&mut self, io: &mut Io<Self::Letter>, letter: Self::Letter);

    /// Called once a turn, after the requests of the turn.
    fn turn(&mut self, io: &mut Io<Self::Letter>);

    /// Called once a turn, at its end, after the connections of low priority.
    fn end_of_turn(&mut self, io: &mut Io<Self::Letter>);

    /// When [`Hot::turn`] has work next, if nothing happens before.
    fn due(&self) -> Option<Instant>;
}
