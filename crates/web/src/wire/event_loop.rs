//! One thread's loop: epoll's events, messages from other threads, and the order in which
//! connections are served.
//!
//! Sockets are edge-triggered: one system call registers a connection for its whole life. Each turn
//! reads what is there, lets the context handle the turn's requests together, and then processes
//! the answers that came meanwhile.

use super::{
    hot::Hot,
    io::{INBOX, Io, LISTENER},
    slab::Token,
};
use rustix::event::{Timespec, epoll};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// The most bytes of one read: 16 pipelined requests, or the largest request that is served here (8
/// KiB of head, 4 KiB of body) with some room after it.
const SCRATCH_BYTES: usize = 16 << 10;

/// A thread's connections, and what serves their hot routes.
pub(super) struct Loop<H: Hot> {
    pub(super) io: Io<H::Letter>,
    pub(super) hot: H,
}

impl<H: Hot> Loop<H> {
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(1024);
        let header_bytes_max = self.io.protection.settings.header_bytes_max;
        let mut scratch = vec![0; SCRATCH_BYTES.max(header_bytes_max + (8 << 10))];
        while !self.io.inbox.ends.load(Ordering::SeqCst) {
            events.clear();
            let wait = self.wait();
            let waited =
                epoll::wait(&self.io.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "wait for connections: failed");
                return;
            }
            let turn = Instant::now();
            self.io.date.at(self.io.protection.now().0);
            for event in &events {
                // Copied, because the struct is packed.
                let (flags, data) = (event.flags, event.data);
                match data.u64() {
                    LISTENER => self.io.accept(),
                    INBOX => {}
                    token => {
                        let token = Token::from_u64(token);
                        self.guarded(token, |it| it.ready(token, flags, &mut scratch));
                    }
                }
                self.serve_arrived(&mut scratch);
            }
            for token in std::mem::take(&mut self.io.again) {
                self.guarded(token, |it| it.serve(token, &mut scratch));
            }
            self.read_letters(&mut scratch);
            self.hot.turn(&mut self.io);
            self.serve_resumed(&mut scratch);
            self.serve_those_back(&mut scratch);
            self.hot.end_of_turn(&mut self.io);
            self.serve_resumed(&mut scratch);
            self.end_grace(&mut scratch);
            self.io.relieve();
            self.io.sweep();
            let turn_ms = turn.elapsed().as_millis() as u32;
            if turn_ms > 0 {
                self.io.protection.turn_ms_max.fetch_max(turn_ms, Ordering::Relaxed);
            }
        }
    }

    /// A bug that one request meets must not end all other connections.
    pub(super) fn guarded(&mut self, token: Token, serve: impl FnOnce(&mut Self)) {
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(self)));
        if served.is_err() {
            self.io.panicked();
            self.io.drop_conn(token);
        }
    }

    /// How long the loop may sleep if no event arrives.
    fn wait(&self) -> Timespec {
        let now = Instant::now();
        let mut wait = Duration::from_secs(1);
        if !self.io.again.is_empty() {
            wait = Duration::ZERO;
        }
        for at in [self.hot.due(), self.io.back_due(), self.io.grace_ends].into_iter().flatten() {
            wait = wait.min(at.saturating_duration_since(now));
        }
        Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    /// While it drains: once nothing is awaited any more, serves what has arrived on connections
    /// that are idle, and closes those on which nothing has.
    fn end_grace(&mut self, scratch: &mut [u8]) {
        if self.io.grace_ends.is_none_or(|at| Instant::now() < at) {
            return;
        }
        for token in self.io.end_grace() {
            self.guarded(token, |it| it.serve(token, scratch));
            self.io.rest_if_draining(token);
        }
        self.serve_arrived(scratch);
    }

    /// Serves connections that are new, or that came back from axum.
    fn serve_arrived(&mut self, scratch: &mut [u8]) {
        while let Some(token) = self.io.arrived.pop_front() {
            self.guarded(token, |it| it.serve_in_turn(token, scratch));
            self.io.rest_if_draining(token);
        }
    }

    /// Goes on with connections whose answers have been sent.
    fn serve_resumed(&mut self, scratch: &mut [u8]) {
        while let Some(token) = self.io.resumed.pop_front() {
            self.guarded(token, |it| it.serve_in_turn(token, scratch));
        }
    }

    fn read_letters(&mut self, scratch: &mut [u8]) {
        if !self.io.inbox.woken.swap(false, Ordering::SeqCst) {
            return;
        }
        // The memory of these letters is used for the next ones.
        let mut letters = std::mem::take(&mut self.io.letters);
        std::mem::swap(&mut letters, &mut *self.io.inbox.letters());
        for letter in letters.own.drain(..) {
            self.hot.letter(&mut self.io, letter);
            self.serve_resumed(scratch);
        }
        for travelling in letters.back.drain(..) {
            self.io.welcome_back(travelling);
            self.serve_arrived(scratch);
        }
        self.io.letters = letters;
        if self.io.inbox.drains.load(Ordering::SeqCst) && !self.io.drains {
            self.io.begin_drain();
        }
    }
}
