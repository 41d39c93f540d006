//! The connections of one loop. An idle one is this struct and a socket; it owns no buffer.

use super::{Seat, pace::Pace};
use crate::cors::Caller;
use std::net::{IpAddr, TcpStream};

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Before the header of the PROXY protocol, which names the client's address.
    Announced,
    /// Between two requests, or before the first.
    Idle,
    /// Some bytes of a head have arrived.
    Head,
    /// The head is complete, the body is not.
    Body,
    /// A request waits for its answer; the requests after it wait too.
    Waiting,
    /// The answer said that the connection ends. Bytes that still arrive are discarded until the
    /// client has closed as well: closing with bytes unread would reset the connection, and the
    /// answer might be lost with it (RFC 9112, section 9.6).
    Lingering,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    /// The peer is a trusted proxy, and speaks for its clients over one connection after another.
    /// Its idle connections are not closed early: it may just be sending a request on one.
    pub(super) is_of_balancer: bool,
    pub(super) seat: Seat,
    /// The origin of the page that sent the current request.
    pub(super) caller: Caller,
    /// Whether it is served after the others.
    pub(super) pace: Pace,
    pub(super) state: State,
    /// Seconds since the loop began at which this state has lasted too long.
    pub(super) until: u32,
    /// The socket may have more bytes: an edge was reported, and the socket was not read to its
    /// end.
    pub(super) readable: bool,
    /// The client will send nothing more.
    pub(super) ended: bool,
    /// The client has closed its side. After the bytes that can be read there is the end, and no
    /// further edge.
    pub(super) end_seen: bool,
    /// Close once the answer is written.
    pub(super) close: bool,
    /// The loop is told when the socket takes bytes again.
    pub(super) watches_out: bool,
    /// Bytes of an incomplete request, or of one that waits for another's answer.
    pub(super) input: Option<Vec<u8>>,
    /// Bytes of answers that the socket has not taken, and how many of them it has.
    pub(super) output: Option<(Vec<u8>, usize)>,
}
