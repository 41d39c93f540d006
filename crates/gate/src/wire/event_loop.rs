//! One thread's connections: what epoll says, what is read, what is written, and whose patience has ended.
//!
//! Sockets are edge-triggered: one system call registers a connection for its whole life. Each turn reads what is there, puts
//! all attempts of the turn to their sale together, and then looks at what was answered meanwhile.

use super::{
    Inbox, Travelling,
    conn::{Conn, Pending, Slab, State, Token},
    head::{self, Form, Head, Hot, Parsed},
    write,
};
use crate::{
    api::{self, Asked, Outcome, Question, ShopperLines, outcome_of},
    front::Front,
    metrics::RouteClass,
    problem::{Kind, Problem},
    state::{Gate, Peer},
};
use contracts::{Answer, Attempt, Mailbox};
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
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
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
/// Answers of one connection are written when so much has gathered.
const OUT_BYTES: usize = 64 << 10;
/// Reads of one connection in a row, so that a pipeline without end leaves room for others.
const READS_MAX: usize = 4;
/// Connections accepted in one turn, for the same reason.
const ACCEPTS_MAX: usize = 64;
/// Seconds that a client has to close after the last answer.
const LINGER_SECONDS: u32 = 2;
/// Seconds after which a client that does not take its answer is gone.
const WRITE_STALL_SECONDS: u32 = 30;
/// A warning about connections that cannot be served is written no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What became of the request at the start of some bytes.
enum Step {
    /// It was answered; the next one may follow.
    Answered,
    /// It waits for the sale.
    Waits,
    /// More bytes are needed. True if the head is whole.
    Partial(bool),
    /// It is axum's.
    Other,
}

pub(super) struct Loop {
    gate: Arc<Gate>,
    epoll: OwnedFd,
    listener: Option<TcpListener>,
    permits: Arc<Semaphore>,
    to_axum: mpsc::Sender<Travelling>,
    inbox: Arc<Inbox>,
    mailbox: Arc<dyn Mailbox>,
    runtime: Handle,
    conns: Slab<Conn>,
    pending: Slab<Pending>,
    /// When each pending attempt is told to wait, first to last: all have the same patience.
    due: VecDeque<(Instant, Token)>,
    /// Attempts that the sale's rate holds back until their turn.
    turns: BinaryHeap<Reverse<(Instant, Token)>>,
    /// Attempts of this turn of the loop, by sale.
    batches: Vec<(Arc<Front>, Vec<(u64, Attempt)>)>,
    /// Connections with bytes left to be read or served, in the next turn.
    again: Vec<Token>,
    buffers: Vec<Vec<u8>>,
    out: Vec<u8>,
    body: Vec<u8>,
    date: write::Date,
    began: Instant,
    swept: u32,
    drains: bool,
    refused: u64,
    warned: Option<Instant>,
    failed: Option<Instant>,
}

impl Loop {
    pub(super) fn new(
        gate: Arc<Gate>,
        listener: TcpListener,
        permits: Arc<Semaphore>,
        to_axum: mpsc::Sender<Travelling>,
        inbox: Arc<Inbox>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Exclusive: one of the threads wakes up for a connection, not all of them.
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), flags)?;
        epoll::add(&epoll, &inbox.wake, EventData::new_u64(INBOX), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            mailbox: Arc::clone(&inbox) as Arc<dyn Mailbox>,
            gate,
            epoll,
            listener: Some(listener),
            permits,
            to_axum,
            inbox,
            runtime: Handle::current(),
            conns: Slab::default(),
            pending: Slab::default(),
            due: VecDeque::new(),
            turns: BinaryHeap::new(),
            batches: Vec::new(),
            again: Vec::new(),
            buffers: Vec::new(),
            out: Vec::with_capacity(OUT_BYTES),
            body: Vec::with_capacity(4096),
            date: write::Date::new(),
            began: Instant::now(),
            swept: 0,
            drains: false,
            refused: 0,
            warned: None,
            failed: None,
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
            self.date.at(self.gate.now().0);
            for event in &events {
                // A copy, for the struct is packed.
                let (flags, data) = (event.flags, event.data);
                match data.u64() {
                    LISTENER => self.accept(),
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
            self.take_turns();
            self.submit(&mut scratch);
            self.read_letters(&mut scratch);
            self.tell_those_who_wait(&mut scratch);
            self.sweep();
        }
    }

    /// A bug that one request meets must not end the connections of all others.
    fn guarded(&mut self, token: Token, serve: impl FnOnce(&mut Self)) {
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
        if !self.again.is_empty() {
            wait = Duration::ZERO;
        }
        for at in [due, turn].into_iter().flatten() {
            wait = wait.min(at.saturating_duration_since(now));
        }
        Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            let (socket, peer) = match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                Ok(accepted) => accepted,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: what is open goes on, and some of it will end.
                    if self.failed.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                        self.failed = Some(Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            };
            let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
            self.admit(TcpStream::from(socket), peer.ip());
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.refused += 1;
            self.gate.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            if self.warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                tracing::warn!(
                    open_max = self.gate.config.connections.open_max,
                    refused = self.refused,
                    "connection closed: too many are open (gate.connections.open_max)"
                );
                self.warned = Some(Instant::now());
            }
            return;
        };
        self.gate.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let until = self.seconds() + self.gate.config.connections.idle_timeout_seconds as u32;
        let conn = Conn {
            stream,
            peer,
            permit,
            state: State::Idle,
            until,
            readable: false,
            ended: false,
            close: false,
            watches_out: false,
            input: None,
            output: None,
        };
        self.adopt(conn);
    }

    fn adopt(&mut self, conn: Conn) -> Option<Token> {
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

    fn drop_conn(&mut self, token: Token) {
        if let Some(conn) = self.conns.remove(token) {
            self.gate.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            self.keep(conn.input);
            self.keep(conn.output.map(|(bytes, _)| bytes));
        }
    }

    /// Keeps a buffer for the next one who needs it.
    fn keep(&mut self, buffer: Option<Vec<u8>>) {
        if let Some(mut buffer) = buffer
            && buffer.capacity() <= 2 * BUFFER_BYTES
            && self.buffers.len() < POOLED_MAX
        {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Something happened on a socket.
    fn ready(&mut self, token: Token, flags: EventFlags, scratch: &mut Vec<u8>) {
        let Some(conn) = self.conns.get_mut(token) else { return };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return self.drop_conn(token);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
            conn.readable = true;
        }
        if flags.contains(EventFlags::OUT) && conn.output.is_some() && !self.write_rest(token) {
            return;
        }
        self.serve(token, scratch);
    }

    /// Serves what has come, as far as that goes now.
    fn serve(&mut self, token: Token, scratch: &mut Vec<u8>) {
        for _ in 0..READS_MAX {
            let Some(conn) = self.conns.get_mut(token) else { return };
            if conn.state == State::Waiting || conn.output.is_some() {
                return;
            }
            let mut have = 0;
            if let Some(input) = conn.input.take() {
                have = input.len();
                scratch[..have].copy_from_slice(&input);
                self.keep(Some(input));
            }
            let Some(conn) = self.conns.get_mut(token) else { return };
            let mut all_read = true;
            if conn.readable && !conn.ended {
                match conn.stream.read(&mut scratch[have..]) {
                    Ok(0) => conn.ended = true,
                    Ok(read) => {
                        have += read;
                        all_read = have < scratch.len();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => all_read = false,
                    Err(_) => return self.drop_conn(token),
                }
                conn.readable = !all_read;
            }
            if conn.state == State::Lingering {
                if conn.ended {
                    return self.drop_conn(token);
                }
            } else if !self.serve_bytes(token, &scratch[..have]) {
                return;
            }
            let Some(conn) = self.conns.get_mut(token) else { return };
            if conn.ended && conn.state != State::Waiting && conn.output.is_none() {
                // Nothing whole is left, and nothing more comes.
                return self.drop_conn(token);
            }
            if all_read {
                return;
            }
        }
        self.again.push(token);
    }

    /// Serves the requests in `bytes`, and keeps what is left. False if the connection is no longer here.
    fn serve_bytes(&mut self, token: Token, bytes: &[u8]) -> bool {
        let mut at = 0;
        self.out.clear();
        while at < bytes.len() {
            let step = self.request(token, &bytes[at..], &mut at);
            match step {
                Step::Answered => {
                    let closes = self.conns.get_mut(token).is_some_and(|conn| conn.close);
                    if closes {
                        at = bytes.len();
                    }
                    if self.out.len() < OUT_BYTES && !closes {
                        continue;
                    }
                    if !self.flush(token) {
                        return false;
                    }
                    if self.conns.get_mut(token).is_none_or(|conn| conn.output.is_some()) {
                        break;
                    }
                }
                Step::Waits => break,
                Step::Partial(head_is_whole) => {
                    self.wait_for_more(token, head_is_whole);
                    break;
                }
                Step::Other => {
                    if !self.flush(token) {
                        return false;
                    }
                    // What was answered before must be on its way first.
                    if self.conns.get_mut(token).is_some_and(|conn| conn.output.is_none()) {
                        self.hand_over(token, &bytes[at..]);
                        return false;
                    }
                    break;
                }
            }
        }
        if !self.flush(token) {
            return false;
        }
        if at == bytes.len() {
            self.rest(token);
        } else {
            let mut left = self.buffer();
            left.extend_from_slice(&bytes[at..]);
            match self.conns.get_mut(token) {
                Some(conn) => conn.input = Some(left),
                None => return false,
            }
        }
        true
    }

    /// All that came was served.
    fn rest(&mut self, token: Token) {
        let now = self.seconds();
        let idle = self.gate.config.connections.idle_timeout_seconds as u32;
        if let Some(conn) = self.conns.get_mut(token)
            && matches!(conn.state, State::Head | State::Body | State::Idle)
        {
            conn.state = State::Idle;
            conn.until = now + idle;
            if self.drains {
                self.drop_conn(token);
            }
        }
    }

    /// Starts the clock of a request that is not whole. A byte now and then does not put it off.
    fn wait_for_more(&mut self, token: Token, head_is_whole: bool) {
        let now = self.seconds();
        let settings = &self.gate.config.connections;
        let (header, body) = (settings.header_timeout_seconds as u32, settings.body_timeout_seconds as u32);
        let Some(conn) = self.conns.get_mut(token) else { return };
        match (conn.state, head_is_whole) {
            (State::Idle, false) => (conn.state, conn.until) = (State::Head, now + header),
            (State::Idle | State::Head, true) => (conn.state, conn.until) = (State::Body, now + body),
            _ => {}
        }
    }

    /// Serves the request at the start of `bytes`, and moves `at` behind it if it was served.
    fn request(&mut self, token: Token, bytes: &[u8], at: &mut usize) -> Step {
        let bytes_max = self.gate.config.connections.header_bytes_max;
        let head = match head::parse(bytes, bytes_max) {
            Parsed::Partial => return Step::Partial(false),
            Parsed::Whole(head) => head,
            Parsed::Refused(why) => {
                self.refuse(token, &malformed(why, bytes_max), true);
                return Step::Answered;
            }
        };
        let Some(hot) = head::hot_route(head.target).filter(|_| head.form == Form::Plain) else {
            return Step::Other;
        };
        let total = head.len as u64 + head.body_len;
        match (hot, head.method) {
            (Hot::Sale(sale), "GET") if head.body_len == 0 => {
                *at += head.len;
                self.sale(token, sale, &head);
                Step::Answered
            }
            // Before the body is waited for, so that whoever guesses a key learns nothing of how bodies are read.
            (Hot::Round { sale, key }, "POST") if let Err(problem) = api::round(&self.gate, sale, key) => {
                let whole = (bytes.len() as u64) >= total;
                *at += total.min(bytes.len() as u64) as usize;
                let close = self.closes(token, &head) || !whole;
                self.refuse(token, &problem, close);
                Step::Answered
            }
            (Hot::Round { .. }, "POST") if head.body_len > api::ATTEMPT_BODY_BYTES_MAX as u64 => {
                let why = format!("body: more than {} bytes", api::ATTEMPT_BODY_BYTES_MAX);
                self.refuse(token, &Problem::new(Kind::BodyTooLarge, why), true);
                Step::Answered
            }
            (Hot::Round { .. }, "POST") if (bytes.len() as u64) < total => Step::Partial(true),
            (Hot::Round { sale, key }, "POST") => {
                *at += total as usize;
                self.attempt(token, sale, key, &head, &bytes[head.len..total as usize])
            }
            _ => Step::Other,
        }
    }

    /// `GET` of the sale's document.
    fn sale(&mut self, token: Token, sale: &str, head: &Head<'_>) {
        let started = Instant::now();
        let close = self.closes(token, head);
        match self.gate.front(sale) {
            Ok(front) => {
                let rendered = front.rendered(&self.gate.keys, self.gate.now());
                write::public(&mut self.out, &rendered.body, &self.date, close);
            }
            Err(problem) => self.refuse(token, &problem, close),
        }
        self.gate.metrics.took(RouteClass::Other, started.elapsed());
    }

    /// Notes that the connection ends with this answer, if either side wants that.
    fn closes(&mut self, token: Token, head: &Head<'_>) -> bool {
        let close = head.close || self.drains;
        if let Some(conn) = self.conns.get_mut(token) {
            conn.close |= close;
        }
        close
    }

    /// Answers with a problem.
    fn refuse(&mut self, token: Token, problem: &Problem, close: bool) {
        self.gate.metrics.refused(problem.kind);
        write::problem(&mut self.out, &mut self.body, problem, &self.date, close);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.close |= close;
        }
    }

    fn attempt(&mut self, token: Token, sale: &str, round_key: &str, head: &Head<'_>, body: &[u8]) -> Step {
        let started = Instant::now();
        let close = self.closes(token, head);
        let Some(peer) = self.conns.get_mut(token).map(|conn| conn.peer) else { return Step::Answered };
        let forwarded = head.fields.forwarded_for;
        let question = Question {
            sale,
            round_key,
            peer: Peer(self.gate.believed_address(peer, forwarded.into_iter())),
            pass: head.fields.pass,
            content_type: head.fields.content_type,
            idempotency_key: head.fields.idempotency_key,
        };
        let admitted = api::admit(&self.gate, &question)
            .and_then(|admitted| Ok((api::basket(body, &admitted.rendered.view.spec)?, admitted)));
        let (basket, admitted) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => {
                self.refuse(token, &problem, close);
                self.gate.metrics.took(RouteClass::Attempt, started.elapsed());
                return Step::Answered;
            }
        };
        let turn = api::turn(&self.gate, &admitted.front);
        let (front, rendered, pass) = (admitted.front, admitted.rendered, admitted.pass);
        let id = self.gate.keys.attempt_id(sale, pass.shopper, admitted.key);
        let pending =
            self.pending.insert(Pending { conn: token, front, rendered, pass, basket, id, started });
        if let Some(conn) = self.conns.get_mut(token) {
            conn.state = State::Waiting;
        }
        self.due.push_back((started + self.gate.decision_wait(), pending));
        match turn {
            Ok(0) => self.put(pending),
            Ok(wait_ms) => self.turns.push(Reverse((started + Duration::from_millis(wait_ms), pending))),
            Err(problem) => self.ask_known(pending, problem),
        }
        Step::Waits
    }

    /// Puts an attempt among those of this turn.
    fn put(&mut self, token: Token) {
        let Some(pending) = self.pending.get_mut(token) else { return };
        let attempt = Attempt {
            id: pending.id,
            shopper: pending.pass.shopper,
            sealed: pending.pass.sealed,
            tier: pending.pass.tier,
            basket: pending.basket,
        };
        let at = match self.batches.iter().position(|(front, _)| Arc::ptr_eq(front, &pending.front)) {
            Some(at) => at,
            None => {
                self.batches.push((Arc::clone(&pending.front), Vec::new()));
                self.batches.len() - 1
            }
        };
        self.batches[at].1.push((token.to_u64(), attempt));
    }

    fn take_turns(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, token))) = self.turns.peek().copied()
            && at <= now
        {
            self.turns.pop();
            self.put(token);
        }
    }

    /// Hands this turn's attempts to their sales.
    fn submit(&mut self, scratch: &mut Vec<u8>) {
        let mut batches = std::mem::take(&mut self.batches);
        for (front, batch) in &mut batches {
            if batch.is_empty() {
                continue;
            }
            if catch_unwind(AssertUnwindSafe(|| front.sale.attempts(&self.mailbox, batch))).is_err() {
                tracing::error!("put attempts to a sale: panicked");
                batch.clear();
                let mut all = Vec::new();
                self.pending.find(&mut all, |pending| Arc::ptr_eq(&pending.front, front));
                for token in all {
                    self.answer(token, Err(Problem::internal()), scratch);
                }
            }
            for (token, _) in batch.drain(..) {
                self.ask_known(Token::from_u64(token), api::queue_full());
            }
        }
        self.batches = batches;
    }

    /// No room: what was promised to this very attempt before is said all the same, else `full`.
    fn ask_known(&self, token: Token, full: Problem) {
        let Some(pending) = self.pending.peek(token) else { return };
        let (gate, inbox, front) =
            (Arc::clone(&self.gate), Arc::clone(&self.inbox), Arc::clone(&pending.front));
        let (id, shopper, basket) = (pending.id, pending.pass.shopper, pending.basket);
        self.runtime.spawn(async move {
            let answer = api::known(&front, id, shopper, basket, full).await;
            drop(gate);
            inbox.tell_known(token.to_u64(), answer);
        });
    }

    fn read_letters(&mut self, scratch: &mut Vec<u8>) {
        if !self.inbox.woken.swap(false, Ordering::SeqCst) {
            return;
        }
        let letters = std::mem::take(&mut *self.inbox.letters());
        for mail in letters.mail {
            let answer = mail.answer.map_err(Problem::from);
            self.answer(Token::from_u64(mail.token), answer, scratch);
        }
        for (token, answer) in letters.known {
            self.answer(Token::from_u64(token), answer, scratch);
        }
        for travelling in letters.back {
            self.welcome_back(travelling, scratch);
        }
        if self.inbox.drains.load(Ordering::SeqCst) && !self.drains {
            self.begin_drain();
        }
    }

    fn answer(&mut self, token: Token, answer: Result<Answer, Problem>, scratch: &mut Vec<u8>) {
        let answer = answer.map(|answer| Asked::Answered(answer));
        self.say(token, answer, scratch);
    }

    /// Says what came of an attempt, and goes on with its connection.
    fn say(&mut self, token: Token, asked: Result<Asked, Problem>, scratch: &mut Vec<u8>) {
        let Some(pending) = self.pending.remove(token) else { return };
        let Some(close) = self.conns.get_mut(pending.conn).map(|conn| conn.close || self.drains) else {
            return;
        };
        self.out.clear();
        let with = ShopperLines {
            keys: &self.gate.keys,
            view: &pending.rendered.view,
            pass: &pending.pass,
            basket: Some(pending.basket),
        };
        let outcome = asked.and_then(|asked| {
            self.gate.metrics.answered(asked.as_str());
            match asked {
                Asked::Answered(answer) => outcome_of(pending.id, &answer, &with).ok_or_else(api::key_reused),
                Asked::Queued(position) => Ok(Outcome::queued(pending.id, position)),
            }
        });
        match outcome {
            Ok(outcome) => {
                self.body.clear();
                serde_json::to_writer(&mut self.body, &outcome).expect("answers have no map with odd keys");
                let status = if outcome.is_queued() { "202 Accepted" } else { "200 OK" };
                let retry_after = outcome.retry_after_ms.map(|ms| ms.div_ceil(1000));
                write::json(&mut self.out, status, &self.body, retry_after, &self.date, close);
            }
            Err(problem) => self.refuse(pending.conn, &problem, close),
        }
        self.gate.metrics.took(RouteClass::Attempt, pending.started.elapsed());
        if let Some(conn) = self.conns.get_mut(pending.conn) {
            conn.state = State::Idle;
            conn.close |= close;
        }
        if self.flush(pending.conn) {
            self.rest(pending.conn);
            let more = |conn: &mut Conn| conn.readable || conn.ended || conn.input.is_some();
            if self.conns.get_mut(pending.conn).is_some_and(more) {
                self.serve(pending.conn, scratch);
            }
        }
    }

    /// Those whose decision takes too long get their place in the queue; the decision comes all the same.
    fn tell_those_who_wait(&mut self, scratch: &mut Vec<u8>) {
        let now = Instant::now();
        while let Some(&(at, token)) = self.due.front() {
            // Most have been answered long ago.
            let Some(pending) = self.pending.peek(token) else {
                self.due.pop_front();
                continue;
            };
            if at > now {
                return;
            }
            self.due.pop_front();
            let position = pending.front.sale.position(pending.id, pending.pass.shopper).unwrap_or(0);
            self.say(token, Ok(Asked::Queued(position)), scratch);
        }
    }

    /// Writes what has gathered in `out`. False if the connection is gone.
    fn flush(&mut self, token: Token) -> bool {
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

    fn write_later(&mut self, token: Token, rest: Vec<u8>) -> bool {
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

    /// Goes on with what the socket did not take. False if it still does not take all, or is gone.
    fn write_rest(&mut self, token: Token) -> bool {
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

    /// Sends what is left and the end, and waits for the client's. False: nothing more is served on it.
    fn linger(&mut self, token: Token) -> bool {
        let until = self.seconds() + LINGER_SECONDS;
        let Some(conn) = self.conns.get_mut(token) else { return false };
        if conn.ended || conn.stream.shutdown(Shutdown::Write).is_err() {
            self.drop_conn(token);
            return false;
        }
        (conn.state, conn.until) = (State::Lingering, until);
        true
    }

    fn hand_over(&mut self, token: Token, bytes: &[u8]) {
        let Some(conn) = self.conns.remove(token) else { return };
        // A socket that is in two epolls would wake both.
        let _ = epoll::delete(&self.epoll, &conn.stream);
        let travelling = Travelling {
            stream: conn.stream,
            peer: conn.peer,
            permit: conn.permit,
            early: bytes.to_vec().into(),
            home: Arc::clone(&self.inbox),
        };
        // It has room for every connection that may be open.
        if self.to_axum.try_send(travelling).is_err() {
            self.gate.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn welcome_back(&mut self, travelling: Travelling, scratch: &mut Vec<u8>) {
        let Travelling { stream, peer, permit, early, .. } = travelling;
        let until = self.seconds() + self.gate.config.connections.idle_timeout_seconds as u32;
        let input = (!early.is_empty()).then(|| early.to_vec());
        let conn = Conn {
            stream,
            peer,
            permit,
            state: State::Idle,
            until,
            // What came meanwhile made no edge here.
            readable: true,
            ended: false,
            close: false,
            watches_out: false,
            input,
            output: None,
        };
        if let Some(token) = self.adopt(conn) {
            self.serve(token, scratch);
            self.rest_if_draining(token);
        }
    }

    fn rest_if_draining(&mut self, token: Token) {
        if self.drains && self.conns.get_mut(token).is_some_and(|conn| conn.state == State::Idle) {
            self.drop_conn(token);
        }
    }

    fn begin_drain(&mut self) {
        self.drains = true;
        self.listener = None;
        let mut idle = Vec::new();
        self.conns.find(&mut idle, |conn| conn.state == State::Idle && conn.output.is_none());
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

fn malformed(why: head::Refusal, bytes_max: usize) -> Problem {
    match why {
        head::Refusal::TooLarge => Problem::new(
            Kind::HeadTooLarge,
            format!("the head of the request has more than {bytes_max} bytes or 64 fields"),
        ),
        head::Refusal::Version => Problem::new(Kind::BadRequest, "want HTTP/1.1 or HTTP/1.0"),
        head::Refusal::Malformed(why) => Problem::new(Kind::BadRequest, why),
    }
}
