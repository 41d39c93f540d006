//! Which connections are served first. One that asks too fast, or that was refused, has low
//! priority: it is served after the others of its loop, in a bounded share of the loop's time. A
//! flood takes no more of the processor than that, and shoppers do not wait for it.

use super::{
    conn::Conn,
    event_loop::Loop,
    hot::Hot,
    io::Io,
    pace::{LOW_SECONDS, Pace},
    slab::Token,
};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// The time that connections of low priority get at once: short compared with the time that a
/// purchase waits for the disk.
const BACK_TURN: Duration = Duration::from_micros(500);
/// After that they get none for this long, so that the loop sleeps: a scheduler first runs the
/// threads that have slept, and a loop that never sleeps waits for its processor like any busy
/// thread.
const BACK_REST: Duration = Duration::from_micros(1500);

impl<L: Send + 'static> Io<L> {
    /// The pace of a new connection: of low priority if its address was refused a short time ago.
    pub(super) fn pace_of_new(&self, peer: IpAddr) -> Pace {
        let mut pace = Pace::default();
        if self.protection.addresses.was_refused_within(peer, u64::from(LOW_SECONDS), self.protection.now())
            && !self.speaks_for_others(peer)
        {
            pace.lower_priority(self.swept);
        }
        pace
    }

    /// Counts a request.
    pub(super) fn count_request(&mut self, token: Token) {
        let now = self.swept;
        if self.conns.get_mut(token).is_some_and(|conn| conn.pace.is_too_fast(now)) {
            self.lower_priority(token);
        }
    }

    /// From now on the connection is served after the others for a while.
    pub(super) fn lower_priority(&mut self, token: Token) {
        let now = self.swept;
        let Some(peer) = self.conns.peek(token).map(|conn| conn.peer) else { return };
        if !self.speaks_for_others(peer)
            && let Some(conn) = self.conns.get_mut(token)
        {
            conn.pace.lower_priority(now);
        }
    }

    /// A balancer, or an exempt address: many people may share one connection.
    fn speaks_for_others(&self, peer: IpAddr) -> bool {
        self.protection.addresses.is_trusted(peer) || self.protection.addresses.is_exempt(peer)
    }

    /// Whether the connection has low priority; it is then in the queue.
    pub(super) fn waits_for_turn(&mut self, token: Token) -> bool {
        let now = self.swept;
        let Some(Conn { pace, .. }) = self.conns.get_mut(token) else { return false };
        let waits = pace.is_low(now);
        if waits && !std::mem::replace(&mut pace.queued, true) {
            self.back.push_back(token);
        }
        waits
    }

    /// When the next connection of low priority is served.
    pub(super) fn back_due(&self) -> Option<Instant> {
        (!self.back.is_empty()).then_some(self.back_from)
    }
}

impl<H: Hot> Loop<H> {
    /// Serves a connection now, or lets it wait for its turn.
    pub(super) fn serve_in_turn(&mut self, token: Token, scratch: &mut [u8]) {
        if !self.io.waits_for_turn(token) {
            self.serve(token, scratch);
        }
    }

    /// Serves connections of low priority, one read of each in turn, within their share of time.
    pub(super) fn serve_those_back(&mut self, scratch: &mut [u8]) {
        let began = Instant::now();
        if self.io.back.is_empty() || began < self.io.back_from {
            return;
        }
        while let Some(token) = self.io.back.pop_front() {
            let Some(conn) = self.io.conns.get_mut(token) else { continue };
            conn.pace.queued = false;
            // A connection with more to read goes to the end.
            self.guarded(token, |it| it.serve(token, scratch));
            let now = Instant::now();
            if now >= began + BACK_TURN {
                self.io.back_from = now + BACK_REST;
                return;
            }
        }
    }
}
