//! The connections of one loop and their shared state, with the operations that a context's hot
//! routes may use.

use super::{
    Inbox, Letters, Seat, Travelling,
    conn::{Conn, State},
    head::Head,
    slab::{Slab, Token},
    write,
};
use crate::{
    cors::Caller,
    limits::Share,
    pressure::CLOSED_AT_ONCE,
    problem::{Problem, RATE_LIMITED},
    protection::{DRAIN_GRACE, Protection},
    warning::Warning,
};
use axum::body::Bytes;
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    net::{SocketFlags, acceptfrom_with},
};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

/// Tokens that name no connection.
pub(super) const LISTENER: u64 = u64::MAX;
pub(super) const INBOX: u64 = u64::MAX - 1;

/// Answers of one connection are written once this much has been collected.
pub(super) const OUT_BYTES: usize = 64 << 10;
/// A pooled buffer: a usual request fits.
const BUFFER_BYTES: usize = 1 << 10;
/// Buffers kept for later requests; beyond that they are freed.
const POOLED_MAX: usize = 4096;
/// Connections accepted in one turn, so that open connections are served meanwhile.
const ACCEPTS_MAX: usize = 64;
/// Turns of accepting before the listener is closed: at least as many connections as it queues.
const ACCEPT_TURNS_AT_END: usize = 256;
/// A loop hands new connections over once it has more than another by an eighth and this many.
const AHEAD_MAX: usize = 64;

/// A thread's connections, with buffers, clocks and counters.
pub struct Io<L> {
    pub(super) protection: Arc<Protection>,
    pub(super) epoll: OwnedFd,
    pub(super) listener: Option<TcpListener>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) to_axum: mpsc::Sender<Travelling>,
    pub(super) inbox: Arc<Inbox<L>>,
    /// The connections of all loops, including this one's.
    pub(super) all: Arc<[Arc<Inbox<L>>]>,
    pub(super) runtime: Handle,
    pub(super) conns: Slab<Conn>,
    /// Connections with bytes left to be read or served, in the next turn.
    pub(super) again: Vec<Token>,
    /// Connections that were answered and may have more to be served in this turn.
    pub(super) resumed: VecDeque<Token>,
    /// New connections, and those that came back from axum, to be served in this turn.
    pub(super) arrived: VecDeque<Token>,
    /// Connections of low priority, first to last.
    pub(super) back: VecDeque<Token>,
    /// When the connections of low priority are served next.
    pub(super) back_from: Instant,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) out: Vec<u8>,
    body: Vec<u8>,
    /// Empty: kept for its memory.
    pub(super) letters: Letters<L>,
    pub(super) date: write::Date,
    pub(super) began: Instant,
    pub(super) swept: u32,
    /// The last check of memory after which connections were closed.
    relieved: u64,
    pub(super) drains: bool,
    /// While it drains: until when connections are accepted, and requests awaited on idle ones.
    pub(super) grace_ends: Option<Instant>,
    /// More connections were open than may be.
    full: Warning,
    /// An address, or its network, had as many connections as it may.
    shared_out: Warning,
    /// A balancer did not name the client's address.
    pub(super) unannounced: Warning,
    failed: Warning,
    panicked: Warning,
    /// No connection can be accepted for a moment.
    deaf: bool,
}

impl<L> std::fmt::Debug for Io<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// The operations of a context's hot routes.
impl<L: Send + 'static> Io<L> {
    /// The inbox for other threads.
    pub fn inbox(&self) -> &Arc<Inbox<L>> {
        &self.inbox
    }

    /// For longer work, which sends a letter to the loop at its end.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Notes that a connection ends with the answer to this request, if either side wants that.
    pub fn closes(&mut self, conn: Token, head: &Head<'_>) -> bool {
        let close = head.close || self.drains;
        self.end_after(conn, close);
        close
    }

    /// Notes that a connection ends with its next answer, if `close`.
    pub fn end_after(&mut self, conn: Token, close: bool) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.close |= close;
        }
    }

    /// Notes that the connection's request is answered later.
    pub fn wait(&mut self, conn: Token) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.state = State::Waiting;
        }
    }

    /// Begins the answer to a request that waited, and returns whether the answer ends the
    /// connection. `None` if the connection is gone.
    pub fn begin_answer(&mut self, conn: Token) -> Option<bool> {
        let close = self.conns.get_mut(conn)?.close || self.drains;
        self.out.clear();
        Some(close)
    }

    /// Sends that answer.
    pub fn end_answer(&mut self, token: Token, close: bool) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.state = State::Idle;
            conn.close |= close;
        }
        if self.flush(token) {
            self.rest(token);
            let more = |conn: &mut Conn| conn.readable || conn.ended || conn.input.is_some();
            if self.conns.get_mut(token).is_some_and(more) {
                self.resumed.push_back(token);
            }
        }
    }

    /// Writes an answer in JSON, which `write` appends to an empty buffer. No cache may keep it.
    pub fn json(
        &mut self,
        to: Token,
        status: &str,
        retry_after: Option<u64>,
        close: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.body.clear();
        write(&mut self.body);
        let cors = self.protection.cors.lines(self.caller(to));
        write::json(&mut self.out, status, &self.body, retry_after, cors, &self.date, close);
    }

    /// Writes a document that is the same for every caller, and may be kept for a second.
    pub fn public(&mut self, to: Token, body: &[u8], close: bool) {
        let cors = self.protection.cors.lines(self.caller(to));
        write::public(&mut self.out, body, cors, &self.date, close);
    }

    /// Notes the address of a refused caller.
    pub fn note(&self, address: IpAddr, problem: &Problem) {
        if let Some(reason) = problem.reason() {
            self.protection.addresses.note(address, reason, self.protection.now());
        }
    }

    /// Writes a problem as the answer.
    pub fn refuse(&mut self, token: Token, problem: &Problem, close: bool) {
        self.protection.policy.refused(problem.kind);
        if problem.reason().is_some() || problem.is(&RATE_LIMITED) {
            self.lower_priority(token);
        }
        let cors = self.protection.cors.lines(self.caller(token));
        write::problem(&mut self.out, &mut self.body, problem, cors, &self.date, close);
        self.end_after(token, close);
    }

    /// Runs an action for a connection. A panic in one request ends that connection and no other.
    pub fn guarded(&mut self, conn: Token, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.panicked();
            self.drop_conn(conn);
        }
    }
}

impl<L: Send + 'static> Io<L> {
    pub(super) fn new(
        protection: Arc<Protection>,
        listener: TcpListener,
        permits: Arc<Semaphore>,
        to_axum: mpsc::Sender<Travelling>,
        inbox: Arc<Inbox<L>>,
        all: Arc<[Arc<Inbox<L>>]>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &inbox.wake, EventData::new_u64(INBOX), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            protection,
            epoll,
            listener: Some(listener),
            permits,
            to_axum,
            inbox,
            all,
            runtime: Handle::current(),
            conns: Slab::default(),
            again: Vec::new(),
            resumed: VecDeque::new(),
            arrived: VecDeque::new(),
            back: VecDeque::new(),
            back_from: Instant::now(),
            buffers: Vec::new(),
            out: Vec::with_capacity(OUT_BYTES),
            body: Vec::with_capacity(4096),
            letters: Letters::default(),
            date: write::Date::new(),
            began: Instant::now(),
            swept: 0,
            relieved: 0,
            drains: false,
            grace_ends: None,
            full: Warning::default(),
            shared_out: Warning::default(),
            unannounced: Warning::default(),
            failed: Warning::default(),
            panicked: Warning::default(),
            deaf: false,
        })
    }

    /// A request met a bug: a line now and then, for the caller who found the request may repeat
    /// it.
    pub(super) fn panicked(&mut self) {
        if let Some(count) = self.panicked.due() {
            tracing::error!(count, "serve a connection: panicked");
        }
    }

    pub(super) fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }

    fn caller(&self, token: Token) -> Caller {
        self.conns.peek(token).map(|conn| conn.caller).unwrap_or_default()
    }

    /// Notes the origin of the page that sent the request.
    pub(super) fn meet(&mut self, token: Token, caller: Caller) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.caller = caller;
        }
    }

    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            let (socket, peer) = match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                Ok(accepted) => accepted,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    // Most likely the process is out of descriptors. Open connections go on, and
                    // some of them will end.
                    if self.failed.due().is_some() {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                    }
                    // Retried at the next sweep: until then the listener would wake this loop again
                    // and again.
                    self.deaf = epoll::delete(&self.epoll, listener).is_ok();
                    return;
                }
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
            self.admit(TcpStream::from(socket), peer.ip());
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr) {
        if self.protection.sheds() {
            return;
        }
        let Some(of_address) = self.share(peer) else { return };
        let Ok(of_all) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.protection.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            if let Some(refused) = self.full.due() {
                let open_max = self.protection.settings.open_max;
                let section = self.protection.section;
                tracing::warn!(
                    open_max,
                    refused,
                    "connection closed: too many are open ({section}.connections.open_max)"
                );
            }
            return;
        };
        self.protection.counters.connections.fetch_add(1, Ordering::Relaxed);
        let home = Arc::clone(self.home_of_new());
        let is_mine = Arc::ptr_eq(&home, &self.inbox);
        let seat = Seat::new(of_all, of_address);
        let is_announced =
            self.protection.settings.proxy_protocol && self.protection.addresses.is_trusted(peer);
        let new = Travelling {
            stream,
            peer,
            seat,
            early: Bytes::new(),
            request_bytes: None,
            is_announced,
            home: home.clone(),
        };
        if is_mine {
            self.inbox.open.fetch_add(1, Ordering::Relaxed);
            self.welcome_back(new);
        } else {
            super::Home::give_back(&*home, new);
        }
    }

    /// A share of the connections of the address; `Some(None)` if it has no limit, `None` if all
    /// its shares are taken.
    pub(super) fn share(&mut self, address: IpAddr) -> Option<Option<[Share; 2]>> {
        let refused = match self.protection.addresses.connection(address, self.protection.now()) {
            Ok(of_address) => return Some(of_address),
            Err(refused) => refused,
        };
        // Metrics count each, and operators can query them: a log line for each would be a flood by
        // one host.
        if let Some(count) = self.shared_out.due() {
            let reason = refused.label;
            tracing::warn!(%address, reason, count, "connection closed: {}", refused.advice);
        }
        None
    }

    /// Chooses the loop of a new connection. The kernel spreads connections at random, and some
    /// stay longer than others. So a loop that has clearly more than another hands new ones over.
    /// To move one costs a wake-up.
    fn home_of_new(&self) -> &Arc<Inbox<L>> {
        let open = |inbox: &Arc<Inbox<L>>| inbox.open.load(Ordering::Relaxed);
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
            if self.failed.due().is_some() {
                tracing::error!(%error, "watch a connection: failed");
            }
            self.drop_conn(token);
            return None;
        }
        Some(token)
    }

    pub(super) fn drop_conn(&mut self, token: Token) {
        if let Some(conn) = self.conns.remove(token) {
            self.inbox.open.fetch_sub(1, Ordering::Relaxed);
            self.protection.counters.connections.fetch_sub(1, Ordering::Relaxed);
            self.keep(conn.input);
            self.keep(conn.output.map(|(bytes, _)| bytes));
        }
    }

    /// Keeps a buffer for the next connection that needs one.
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

    /// Ends an idle connection if the server drains and no request is awaited any more.
    pub(super) fn rest_if_draining(&mut self, token: Token) {
        let Some(conn) = self.conns.peek(token) else { return };
        if self.is_ending()
            && matches!(conn.state, State::Announced | State::Idle)
            && conn.output.is_none()
            && !conn.is_of_balancer
        {
            self.drop_conn(token);
        }
    }

    /// Whether it drains, and the time in which requests are still awaited is over.
    fn is_ending(&self) -> bool {
        self.drains && self.grace_ends.is_none()
    }

    /// What has arrived is answered, and what arrives within a moment. Each answer ends its
    /// connection.
    pub(super) fn begin_drain(&mut self) {
        self.drains = true;
        self.grace_ends = Some(Instant::now() + DRAIN_GRACE);
    }

    /// Accepts what the kernel has queued, closes the listener, and returns the idle connections.
    pub(super) fn end_grace(&mut self) -> Vec<Token> {
        self.grace_ends = None;
        // What comes faster than it can be accepted is refused, like what comes later.
        for _ in 0..ACCEPT_TURNS_AT_END {
            self.accept();
        }
        self.listener = None;
        let mut idle = Vec::new();
        let idles = |conn: &Conn| matches!(conn.state, State::Announced | State::Idle);
        self.conns.find(&mut idle, |conn| idles(conn) && conn.output.is_none());
        let seconds = self.protection.settings.drain_seconds.saturating_sub(1) as u32;
        let until = self.seconds() + seconds;
        for token in &idle {
            if let Some(conn) = self.conns.get_mut(*token) {
                (conn.readable, conn.until) = (true, until);
            }
        }
        idle
    }

    /// Once for each check that found too much memory: closes some idle connections, the longest
    /// idle first.
    pub(super) fn relieve(&mut self) {
        let pressure = &self.protection.pressure;
        let open = self.protection.open();
        let Some(look) = pressure.closing(open).filter(|look| *look != self.relieved) else { return };
        self.relieved = look;
        let mut idle = Vec::new();
        let rests = |conn: &Conn| conn.state == State::Idle && conn.output.is_none();
        self.conns.find(&mut idle, |conn| rests(conn) && !conn.is_of_balancer);
        let since = |token: &Token| self.conns.peek(*token).map_or(u32::MAX, |conn| conn.until);
        if idle.len() > CLOSED_AT_ONCE {
            idle.select_nth_unstable_by_key(CLOSED_AT_ONCE, since);
            idle.truncate(CLOSED_AT_ONCE);
        }
        pressure.idle_closed.fetch_add(idle.len() as u64, Ordering::Relaxed);
        for token in idle {
            self.drop_conn(token);
        }
    }

    /// Once a second: closes connections whose state has lasted too long.
    pub(super) fn sweep(&mut self) {
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
                let seconds = self.protection.settings.body_timeout_seconds;
                self.out.clear();
                self.refuse(token, &crate::body::late(seconds), true);
                self.flush(token);
            } else {
                self.drop_conn(token);
            }
        }
    }
}
