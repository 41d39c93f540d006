//! One thread's connections: what epoll says, what is read, what is written, and whose patience has ended.
//!
//! Sockets are edge-triggered: one system call registers a connection for its whole life. Each turn reads what is there, puts
//! all attempts of the turn to their sale together, and then looks at what was answered meanwhile.

use super::{
    Inbox, Letters, Seat, Travelling, Warning,
    conn::{Conn, Pending, Slab, State, Token},
    stream::OUT_BYTES,
    write,
};
use crate::{
    api::Asked,
    filter::Share,
    front::Front,
    pressure::CLOSED_AT_ONCE,
    problem::{Kind, Problem},
    state::Gate,
};
use axum::body::Bytes;
use contracts::{Attempt, GateRefusal, Mailbox};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    net::{SocketFlags, acceptfrom_with},
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

/// Tokens that name no connection.
const LISTENER: u64 = u64::MAX;
const INBOX: u64 = u64::MAX - 1;

/// What one read takes at most: 16 requests of a pipeline, or the largest request that is served here (8 KiB of head, 4 KiB of
/// body) with room behind it.
const SCRATCH_BYTES: usize = 16 << 10;
/// A pooled buffer: a usual request fits.
const BUFFER_BYTES: usize = 1 << 10;
/// Buffers kept for those to come; beyond that they are freed.
const POOLED_MAX: usize = 4096;
/// Connections accepted in one turn, so that those who are here are served meanwhile.
const ACCEPTS_MAX: usize = 64;
/// Connections that a loop may have more than another, beside an eighth, before it gives new ones away.
const AHEAD_MAX: usize = 64;

/// A sale, and attempts for it, each under the token of its [`Pending`].
type Batch = (Arc<Front>, Vec<(u64, Attempt)>);

/// A thread's connections and all that it keeps for them.
pub(super) struct Loop {
    pub(super) gate: Arc<Gate>,
    pub(super) epoll: OwnedFd,
    pub(super) listener: Option<TcpListener>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) to_axum: mpsc::Sender<Travelling>,
    pub(super) inbox: Arc<Inbox>,
    /// Those of all loops, this one's too.
    pub(super) all: Arc<[Arc<Inbox>]>,
    pub(super) mailbox: Arc<dyn Mailbox>,
    pub(super) runtime: Handle,
    pub(super) conns: Slab<Conn>,
    pub(super) pending: Slab<Pending>,
    /// When each pending attempt is told to wait, first to last: all have the same patience.
    pub(super) due: VecDeque<(Instant, Token)>,
    /// Attempts that their tier's part of the sale's rate holds back until their turn.
    pub(super) turns: BinaryHeap<Reverse<(Instant, Token)>>,
    /// Attempts of this turn of the loop, by sale.
    pub(super) batches: Vec<Batch>,
    /// Attempts of this turn whose patience has ended: they are told where they stand once they do.
    pub(super) late: Vec<Token>,
    /// Connections with bytes left to be read or served, in the next turn.
    pub(super) again: Vec<Token>,
    /// Those who are served behind the others, first to last.
    pub(super) back: VecDeque<Token>,
    /// When they are next.
    pub(super) back_from: Instant,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) out: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// What was said in this turn without a sale being asked.
    pub(super) said: Vec<(Arc<Front>, GateRefusal)>,
    /// Empty, but for memory.
    letters: Letters,
    pub(super) date: write::Date,
    pub(super) began: Instant,
    pub(super) swept: u32,
    /// The last look at memory after which connections were closed.
    pub(super) relieved: u64,
    pub(super) drains: bool,
    /// More connections were open than may be.
    pub(super) full: Warning,
    /// An address, or its network, had as many as it may.
    pub(super) shared_out: Warning,
    /// A balancer did not say whom it speaks for.
    pub(super) unannounced: Warning,
    pub(super) failed: Warning,
    /// No connection can be accepted for a moment.
    pub(super) deaf: bool,
}

impl Loop {
    pub(super) fn new(
        gate: Arc<Gate>,
        listener: TcpListener,
        permits: Arc<Semaphore>,
        to_axum: mpsc::Sender<Travelling>,
        inbox: Arc<Inbox>,
        all: Arc<[Arc<Inbox>]>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &inbox.wake, EventData::new_u64(INBOX), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            mailbox: Arc::clone(&inbox) as Arc<dyn Mailbox>,
            gate,
            epoll,
            listener: Some(listener),
            permits,
            to_axum,
            inbox,
            all,
            runtime: Handle::current(),
            conns: Slab::default(),
            pending: Slab::default(),
            due: VecDeque::new(),
            turns: BinaryHeap::new(),
            batches: Vec::new(),
            late: Vec::new(),
            again: Vec::new(),
            back: VecDeque::new(),
            back_from: Instant::now(),
            buffers: Vec::new(),
            out: Vec::with_capacity(OUT_BYTES),
            body: Vec::with_capacity(4096),
            said: Vec::new(),
            letters: Letters::default(),
            date: write::Date::new(),
            began: Instant::now(),
            swept: 0,
            relieved: 0,
            drains: false,
            full: Warning::default(),
            shared_out: Warning::default(),
            unannounced: Warning::default(),
            failed: Warning::default(),
            deaf: false,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(1024);
        let mut scratch =
            vec![0; SCRATCH_BYTES.max(self.gate.config.connections.header_bytes_max + (8 << 10))];
        while !self.inbox.ends.load(Ordering::SeqCst) {
            events.clear();
            let wait = self.wait();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "wait for connections: failed");
                return;
            }
            let turn = Instant::now();
            self.date.at(self.gate.now().0);
            for event in &events {
                // A copy, for the struct is packed.
                let (flags, data) = (event.flags, event.data);
                match data.u64() {
                    LISTENER => self.accept(&mut scratch),
                    INBOX => {}
                    token => {
                        let token = Token::from_u64(token);
                        self.guarded(token, |it| it.ready(token, flags, &mut scratch));
                    }
                }
            }
            for token in std::mem::take(&mut self.again) {
                self.guarded(token, |it| it.serve(token, &mut scratch));
            }
            self.read_letters(&mut scratch);
            self.find_those_who_wait();
            self.take_turns();
            self.submit(&mut scratch);
            self.serve_those_back(&mut scratch);
            self.report_what_was_said();
            self.tell_those_who_wait(&mut scratch);
            self.relieve();
            self.sweep();
            let turn_ms = turn.elapsed().as_millis() as u32;
            if turn_ms > 0 {
                self.gate.strategy.turn_ms.fetch_max(turn_ms, Ordering::Relaxed);
            }
        }
    }

    /// A bug that one request meets must not end the connections of all others.
    pub(super) fn guarded(&mut self, token: Token, serve: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| serve(self))).is_err() {
            tracing::error!("serve a connection: panicked");
            self.drop_conn(token);
        }
    }

    /// Until when nothing needs to be done if nothing happens.
    fn wait(&self) -> Timespec {
        let now = Instant::now();
        let due = self.due.front().map(|(at, _)| *at);
        let turn = self.turns.peek().map(|Reverse((at, _))| *at);
        let mut wait = Duration::from_secs(1);
        if !self.again.is_empty() || self.batches.iter().any(|(_, batch)| !batch.is_empty()) {
            wait = Duration::ZERO;
        }
        for at in [due, turn, self.back_due()].into_iter().flatten() {
            wait = wait.min(at.saturating_duration_since(now));
        }
        Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    pub(super) fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }

    fn accept(&mut self, scratch: &mut [u8]) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            let (socket, peer) = match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                Ok(accepted) => accepted,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: what is open goes on, and some of it will end.
                    if self.failed.due().is_some() {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                    }
                    // Asked again at the next sweep: the listener would wake this loop without end.
                    self.deaf = epoll::delete(&self.epoll, listener).is_ok();
                    return;
                }
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
            self.admit(TcpStream::from(socket), peer.ip(), scratch);
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, scratch: &mut [u8]) {
        if self.gate.pressure.sheds(self.gate.metrics.connections.load(Ordering::Relaxed)) {
            self.gate.pressure.new_closed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(of_address) = self.share(peer) else { return };
        let Ok(of_all) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.gate.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            if let Some(refused) = self.full.due() {
                let open_max = self.gate.config.connections.open_max;
                tracing::warn!(
                    open_max,
                    refused,
                    "connection closed: too many are open (gate.connections.open_max)"
                );
            }
            return;
        };
        self.gate.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let home = Arc::clone(self.home_of_new());
        let seat = Seat::new(of_all, of_address);
        let is_announced = self.gate.config.connections.proxy_protocol && self.gate.filter.is_trusted(peer);
        let new =
            Travelling { stream, peer, seat, early: Bytes::new(), request_bytes: None, is_announced, home };
        if Arc::ptr_eq(&new.home, &self.inbox) {
            self.inbox.open.fetch_add(1, Ordering::Relaxed);
            self.welcome_back(new, scratch);
        } else {
            Arc::clone(&new.home).give_back(new);
        }
    }

    /// A share of what the address may have, `Some(None)` if it has no limit; `None` if it has all of it.
    pub(super) fn share(&mut self, address: IpAddr) -> Option<Option<[Share; 2]>> {
        let refused = match self.gate.filter.connection(address, self.gate.now()) {
            Ok(of_address) => return Some(of_address),
            Err(refused) => refused,
        };
        // Metrics count each, and operators who ask are told: a line for each would be the flood of one host.
        if let Some(count) = self.shared_out.due() {
            let reason = refused.label();
            tracing::warn!(%address, reason, count, "connection closed: {}", refused.advice());
        }
        None
    }

    /// Where a new connection lives. The kernel spreads them evenly, but by chance, and those that stay are not those that go: a loop
    /// that has clearly more than another gives new ones away. To move one costs a wake-up.
    fn home_of_new(&self) -> &Arc<Inbox> {
        let open = |inbox: &Arc<Inbox>| inbox.open.load(Ordering::Relaxed);
        let mine = &self.inbox;
        let emptiest = self.all.iter().min_by_key(|inbox| open(inbox)).unwrap_or(mine);
        let (most, least) = (open(mine), open(emptiest));
        if most > least + AHEAD_MAX + least / 8 { emptiest } else { mine }
    }

    pub(super) fn adopt(&mut self, conn: Conn) -> Option<Token> {
        let token = self.conns.insert(conn);
        let added = match self.conns.get_mut(token) {
            Some(conn) => {
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, &conn.stream, EventData::new_u64(token.to_u64()), flags)
            }
            None => return None,
        };
        if let Err(error) = added {
            tracing::error!(%error, "watch a connection: failed");
            self.drop_conn(token);
            return None;
        }
        Some(token)
    }

    pub(super) fn drop_conn(&mut self, token: Token) {
        if let Some(conn) = self.conns.remove(token) {
            self.inbox.open.fetch_sub(1, Ordering::Relaxed);
            self.gate.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            self.keep(conn.input);
            self.keep(conn.output.map(|(bytes, _)| bytes));
        }
    }

    /// Keeps a buffer for the next one who needs it.
    pub(super) fn keep(&mut self, buffer: Option<Vec<u8>>) {
        if let Some(mut buffer) = buffer
            && buffer.capacity() <= 2 * BUFFER_BYTES
            && self.buffers.len() < POOLED_MAX
        {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    fn read_letters(&mut self, scratch: &mut [u8]) {
        if !self.inbox.woken.swap(false, Ordering::SeqCst) {
            return;
        }
        // The memory of the letters before takes the next ones.
        let mut letters = std::mem::take(&mut self.letters);
        std::mem::swap(&mut letters, &mut *self.inbox.letters());
        for mail in letters.mail.drain(..) {
            let asked = mail.said.map(Asked::from).map_err(Problem::from);
            self.say(Token::from_u64(mail.token), asked, scratch);
        }
        for (token, asked) in letters.asked.drain(..) {
            self.say(Token::from_u64(token), asked, scratch);
        }
        for travelling in letters.back.drain(..) {
            self.welcome_back(travelling, scratch);
        }
        self.letters = letters;
        if self.inbox.drains.load(Ordering::SeqCst) && !self.drains {
            self.begin_drain();
        }
    }

    pub(super) fn rest_if_draining(&mut self, token: Token) {
        if self.drains && self.conns.get_mut(token).is_some_and(|conn| conn.state == State::Idle) {
            self.drop_conn(token);
        }
    }

    fn begin_drain(&mut self) {
        self.drains = true;
        self.listener = None;
        let mut idle = Vec::new();
        let idles = |conn: &Conn| matches!(conn.state, State::Announced | State::Idle);
        self.conns.find(&mut idle, |conn| idles(conn) && conn.output.is_none());
        for token in idle {
            self.drop_conn(token);
        }
    }

    /// Once for each look that found too much memory: ends some connections that rest, those that do for longest first.
    fn relieve(&mut self) {
        let open = self.gate.metrics.connections.load(Ordering::Relaxed);
        let Some(look) = self.gate.pressure.closing(open).filter(|look| *look != self.relieved) else {
            return;
        };
        self.relieved = look;
        let mut idle = Vec::new();
        self.conns.find(&mut idle, |conn| conn.state == State::Idle && conn.output.is_none());
        let since = |token: &Token| self.conns.peek(*token).map_or(u32::MAX, |conn| conn.until);
        if idle.len() > CLOSED_AT_ONCE {
            idle.select_nth_unstable_by_key(CLOSED_AT_ONCE, since);
            idle.truncate(CLOSED_AT_ONCE);
        }
        self.gate.pressure.idle_closed.fetch_add(idle.len() as u64, Ordering::Relaxed);
        for token in idle {
            self.drop_conn(token);
        }
    }

    /// Once a second: ends what has lasted too long.
    fn sweep(&mut self) {
        let now = self.seconds();
        if now == self.swept {
            return;
        }
        self.swept = now;
        if self.deaf
            && let Some(listener) = &self.listener
        {
            let heard = epoll::add(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN);
            self.deaf = heard.is_err();
        }
        let mut late = Vec::new();
        self.conns.find(&mut late, |conn| {
            conn.until < now && (conn.state != State::Waiting || conn.output.is_some())
        });
        for token in late {
            let Some(conn) = self.conns.get_mut(token) else { continue };
            if conn.state == State::Body && conn.output.is_none() {
                let seconds = self.gate.config.connections.body_timeout_seconds;
                let why = format!("body: not here within {seconds} s");
                self.out.clear();
                self.refuse(token, &Problem::new(Kind::BodyTimeout, why), true);
                self.flush(token);
            } else {
                self.drop_conn(token);
            }
        }
    }
}
