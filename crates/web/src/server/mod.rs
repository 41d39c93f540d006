//! The listeners that axum serves, in clear and over TLS, with HTTP/1.1 and HTTP/2, and the
//! requests that the loops hand over. A connection that waits for its next request owns no buffer:
//! it is a socket and a small task. So a crowd may connect before a sale opens.

mod connection;
mod http2;
mod low_priority;
mod roll;
mod tls;

pub use crate::net::Peer;
pub use tls::Tls;

use crate::{
    api_keys::{Role, Wanted},
    limits::{Reason, Share, Shares},
    operation::{Answered, Callers, Operation, preflights, router},
    page,
    pressure::CLOSED_AT_ONCE,
    problem::{self, Explained, KEY_REFUSED, NOT_FOUND, Problem, RATE_LIMITED, RIGHT_REFUSED},
    protection::{DRAIN_GRACE, NO_OPERATION, Protection, drained_for},
    warning::Warning,
    wire::{LOW_SECONDS, Pace, Seat, Travelling, refuse_denied},
};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use connection::{Guarded, InHand, Patience, Stream, Taken, Visit};
use futures_util::FutureExt;
use http::{HeaderValue, Request, header};
use low_priority::Turns;
use roll::{Among, Entry, Origin, Roll};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tower_service::Service;

/// Connections that are still accepted when the listener is closed: more than it queues.
const QUEUED_MAX: usize = 16 << 10;
/// How long a new connection waits for one that was told to close.
const ROOM_WAIT_MAX: Duration = Duration::from_millis(50);

/// How often it tells one more to close.
const TELL_EVERY: Duration = Duration::from_millis(4);
/// New connections that wait at once, of all and of one address.
const WAIT_FOR_ROOM_MAX: usize = 1024;
const WAIT_OF_ADDRESS_MAX: usize = 512;

/// After one visit, a browser uses only TLS for a year (RFC 6797). The field is sent over TLS only,
/// and only if the server has an HTTPS origin: it applies to all ports of the host, and another
/// port may be meant to be in clear.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The buffers of an accepted connection, which the kernel doubles. The kernel's defaults are up to
/// 4 MiB for each, which no measure of this process's memory sees: a client that asks for large
/// answers and does not read them would have them.
#[derive(Debug, Clone, Copy)]
pub struct Buffers {
    pub receive_bytes: usize,
    pub send_bytes: usize,
}

/// Listens on an address once.
pub fn listen_once(
    what: &str,
    address: SocketAddr,
    backlog: u32,
    is_shared: bool,
    buffers: Buffers,
) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let (listeners, at) = listen(what, address, backlog, 1, is_shared, buffers)?;
    let listener = listeners.into_iter().next();
    Ok((listener.ok_or_else(|| io::Error::other(format!("{what}: no listener")))?, at))
}

/// Listens on an address `count` times, and returns the address: the kernel spreads connections
/// over the listeners by a hash, so that none has to be handed from one thread to another. If the
/// port `is_shared`, other processes of the same user may listen on it too.
pub fn listen(
    what: &str,
    address: SocketAddr,
    backlog: u32,
    count: usize,
    is_shared: bool,
    buffers: Buffers,
) -> io::Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    let bind = || {
        let mut sockets: Vec<socket2::Socket> = Vec::new();
        let mut at = address;
        for number in 0..count {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Accepted sockets inherit these options, which saves system calls for each.
            socket.set_tcp_nodelay(true)?;
            socket.set_recv_buffer_size(buffers.receive_bytes)?;
            socket.set_send_buffer_size(buffers.send_bytes)?;
            // The first listener binds and listens alone: if the port were shared before that, a
            // second server would silently take half of the crowd. With a single listener the port
            // is not shared at all.
            if number > 0 || is_shared {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&at.into())?;
            at = socket.local_addr()?.as_socket().unwrap_or(at);
            socket.listen(i32::try_from(backlog.div_ceil(count as u32)).unwrap_or(i32::MAX))?;
            if count > 1 || is_shared {
                socket.set_reuse_port(true)?;
            }
            sockets.push(socket);
        }
        Ok((sockets.into_iter().map(Into::into).collect(), at))
    };
    bind().map_err(|e: io::Error| io::Error::new(e.kind(), format!("{what}: listen on {address}: {e}")))
}

/// One listener's side of a server.
pub struct Listening {
    protection: Arc<Protection>,
    router: Router,
    open_max: usize,
    permits: Arc<Semaphore>,
    callers: Callers,
    tls: Option<Arc<Tls>>,
    roll: Arc<Roll>,
    turns: Turns,
    /// New connections that wait for one that was told to close.
    wait_for_room: Arc<Semaphore>,
    waiting_of_address: Arc<Shares>,
    /// Connections of each operators' address. Those of shoppers are counted for all listeners
    /// together.
    of_operators: Arc<Shares>,
    /// The last check of memory after which connections were closed.
    relieved: Mutex<u64>,
    warnings: Mutex<Warnings>,
    /// How people are shown problems, if not as on every listener.
    problem_page: Option<page::ProblemPage>,
    /// What callers that are neither operators nor tenants show, and in which field.
    own_key: Option<(&'static str, HeaderValue)>,
}

/// Why a request is not answered.
enum LetIn {
    Refused(Problem),
    /// Too many of low priority wait.
    NoTurn(Problem),
}

/// What a request on an operators' listener shows of its caller, before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A key or a session that is valid, of an operator or a tenant.
    Key,
    WrongKey,
    /// No key, for what proves its caller in another way, or says nothing to a stranger.
    NothingYet,
    Nothing,
}

/// Paths that are answered without a key also in denied networks: a link proves its caller with its
/// own key, and monitors must not take a server for dead because its operators denied a network.
const PROVEN_ELSEWHERE: [&str; 4] = ["/sign-in", "/healthz", "/readyz", "/metrics"];

/// Marks the answer to a request that got no turn.
#[derive(Clone, Copy)]
struct NoTurn;

/// Why a new connection has no room.
#[derive(Debug, Clone, Copy)]
enum Full {
    /// The listener has no permit left.
    Listener,
    /// An operators' address, or its network, has all its shares.
    Share(u64),
    /// A shoppers' address is refused, or has all its shares.
    Public(Reason),
}

/// Lines that a stranger could cause.
#[derive(Debug, Default)]
struct Warnings {
    full: Warning,
    share: Warning,
    failed: Warning,
    panicked: Warning,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("callers", &self.callers).finish_non_exhaustive()
    }
}

impl Listening {
    /// Serves this table, on at most `open_max` connections.
    pub fn new<S: Clone + Send + Sync + 'static>(
        protection: &Arc<Protection>,
        mut operations: Vec<Operation<S>>,
        state: S,
        callers: Callers,
        open_max: usize,
    ) -> Self {
        if callers == Callers::Public {
            operations.extend(preflights(&operations, &protection.cors));
        }
        let router = router(operations, &protection.api_keys)
            .fallback(|| async { Problem::new(&NOT_FOUND, "no such path: see /api/v1/openapi.json") })
            .with_state(state);
        let open_max = open_max.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(open_max));
        let protection = Arc::clone(protection);
        Self::with(protection, router, open_max, permits, callers, None)
    }

    fn with(
        protection: Arc<Protection>,
        router: Router,
        open_max: usize,
        permits: Arc<Semaphore>,
        callers: Callers,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self {
            protection,
            router,
            open_max,
            permits,
            callers,
            tls,
            roll: Arc::default(),
            turns: Turns::default(),
            wait_for_room: Arc::new(Semaphore::new(WAIT_FOR_ROOM_MAX)),
            waiting_of_address: Arc::default(),
            of_operators: Arc::default(),
            relieved: Mutex::default(),
            warnings: Mutex::default(),
            problem_page: None,
            own_key: None,
        }
    }

    /// The same, with a page of its own for problems.
    pub fn with_problem_page(self, page: page::ProblemPage) -> Self {
        Self { problem_page: Some(page), ..self }
    }

    /// The same, on an operators' listener, for callers that show this key in this field in place
    /// of an API key: they ask as much and as fast as they want. The handlers still check it.
    pub fn with_own_key(self, field: &'static str, key: HeaderValue) -> Self {
        Self { own_key: Some((field, key)), ..self }
    }

    /// The same over TLS. Both listeners share the permits, so that connections of one leave fewer
    /// for the other.
    pub fn over_tls(&self, tls: Arc<Tls>) -> Self {
        let (protection, router) = (Arc::clone(&self.protection), self.router.clone());
        let permits = Arc::clone(&self.permits);
        let same = Self::with(protection, router, self.open_max, permits, self.callers, Some(tls));
        Self { problem_page: self.problem_page.clone(), own_key: self.own_key.clone(), ..same }
    }

    /// How many connections may be open.
    pub fn open_max(&self) -> usize {
        self.open_max
    }

    /// The permits for its connections.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    fn is_public(&self) -> bool {
        self.callers == Callers::Public
    }

    /// Accepts connections and serves them until the server drains: then those that the kernel has
    /// queued, and no more.
    pub async fn accept(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut draining = self.protection.draining.clone();
        let ending = drained_for(&mut draining, DRAIN_GRACE);
        let mut ending = std::pin::pin!(ending);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut ending => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip()),
                Err(error) => {
                    // Most likely the process is out of descriptors. Open connections go on, and
                    // some of them will end.
                    if self.warns(|warnings| &mut warnings.failed).is_some() {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                    }
                    self.roll.close_idle(1, Among::All);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        for _ in 0..QUEUED_MAX {
            match listener.accept().now_or_never() {
                Some(Ok((stream, peer))) => self.admit(stream, peer.ip()),
                _ => break,
            }
        }
        Ok(())
    }

    /// Serves a new connection, if there is room. On the operators' listener connections that have
    /// been idle longest make room: a caller who holds connections without using them must not keep
    /// operators out. A crowd of shoppers waits on idle connections, so those stay.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) {
        if self.is_public() && self.protection.sheds() {
            return;
        }
        match self.seat(peer) {
            Ok(seat) => self.serve(stream, peer, seat),
            Err(full) if self.is_public() => self.refused(peer, full),
            Err(full) => match self.place_to_wait(peer) {
                // Others are accepted meanwhile.
                Some(place) => {
                    self.make_room(full);
                    tokio::spawn(Arc::clone(self).wait(stream, peer, full, place));
                }
                None => self.refused(peer, full),
            },
        }
    }

    /// Whether one more connection of this address may wait for another one to end.
    fn place_to_wait(&self, peer: IpAddr) -> Option<(OwnedSemaphorePermit, Share)> {
        let place = Arc::clone(&self.wait_for_room).try_acquire_owned().ok()?;
        let address = self.protection.addresses.address_key(peer);
        Some((place, self.waiting_of_address.take(address, WAIT_OF_ADDRESS_MAX)?))
    }

    /// Serves a new connection once another one has ended: it, or an earlier one, has told one to.
    async fn wait(
        self: Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        full: Full,
        place: (OwnedSemaphorePermit, Share),
    ) {
        let began = Instant::now();
        let mut tried = 0;
        let seat = match full {
            // In the order in which they wait: a later connection does not take the permit first.
            Full::Listener => {
                let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_owned());
                loop {
                    tokio::select! {
                        permit = &mut permit => match permit {
                            Ok(permit) => break self.shares(peer).map(|shares| Seat::new(permit, shares)),
                            Err(_) => break Err(full),
                        },
                        () = tokio::time::sleep(TELL_EVERY) => {}
                    }
                    if began.elapsed() >= ROOM_WAIT_MAX {
                        break Err(full);
                    }
                    // None was idle before, or another connection has taken the share.
                    self.make_room(full);
                }
            }
            Full::Share(_) | Full::Public(_) => loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                tried += 1;
                match self.seat(peer) {
                    Err(full) if began.elapsed() < ROOM_WAIT_MAX => {
                        if tried % TELL_EVERY.as_millis() == 0 {
                            self.make_room(full);
                        }
                    }
                    seat => break seat,
                }
            },
        };
        drop(place);
        match seat {
            Ok(seat) => self.serve(stream, peer, seat),
            Err(full) => self.refused(peer, full),
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, seat: Seat) {
        let listening = Arc::clone(self);
        tokio::spawn(async move {
            let _seat = seat;
            let addresses = &listening.protection.addresses;
            let origin = Origin {
                address: addresses.address_key(peer),
                network: addresses.prefix_key(peer),
                is_shared: listening.is_public() && listening.speaks_for_others(peer),
            };
            let enrolled = listening.roll.enrol(origin, listening.pace_of_new(peer));
            let entry = Arc::clone(&enrolled.entry);
            match &listening.tls {
                // Boxed, so that a connection over TLS needs no room for it.
                None => Box::pin(Arc::clone(&listening).http1(stream, peer, entry)).await,
                Some(tls) => {
                    listening.protection.counters.connections.fetch_add(1, Relaxed);
                    let open = Open(&listening.protection);
                    Arc::clone(&listening).handshake(tls, stream, peer, entry).await;
                    drop(open);
                }
            }
        });
    }

    /// The shares of a connection in those of its address and its network; `None` if they have no
    /// limit.
    fn shares(&self, peer: IpAddr) -> Result<Option<[Share; 2]>, Full> {
        let addresses = &self.protection.addresses;
        if self.is_public() {
            return addresses.connection(peer, self.protection.now()).map_err(Full::Public);
        }
        // The key of a network is that of no address: both are from one keyed hash.
        let (address, network) = (addresses.address_key(peer), addresses.prefix_key(peer));
        let take = |key, max| self.of_operators.take(key, max).ok_or(Full::Share(key));
        Ok(Some([take(address, self.open_max.div_ceil(4))?, take(network, self.open_max.div_ceil(2))?]))
    }

    /// A seat for a connection, of the listener's and of its address's.
    fn seat(&self, peer: IpAddr) -> Result<Seat, Full> {
        let of_address = self.shares(peer)?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Full::Listener)?;
        Ok(Seat::new(permit, of_address))
    }

    /// Tells the connection to close that has been idle longest, of those for which there is no
    /// more room.
    fn make_room(&self, full: Full) {
        match full {
            Full::Listener => self.roll.close_idle(1, Among::All),
            Full::Share(key) => self.roll.close_idle(1, Among::Of(key)),
            Full::Public(_) => 0,
        };
    }

    fn refused(&self, peer: IpAddr, full: Full) {
        match full {
            Full::Listener => {
                self.protection.counters.connections_refused.fetch_add(1, Relaxed);
                if let Some(refused) = self.warns(|warnings| &mut warnings.full) {
                    let open_max = self.open_max;
                    tracing::warn!(
                        open_max,
                        refused,
                        "connection closed: too many are open on this listener"
                    );
                }
            }
            Full::Public(refused) => {
                if let Some(count) = self.warns(|warnings| &mut warnings.share) {
                    let reason = refused.label;
                    tracing::warn!(address = %peer, reason, count, "connection closed: {}", refused.advice);
                }
            }
            Full::Share(_) => {
                if let Some(count) = self.warns(|warnings| &mut warnings.share) {
                    tracing::warn!(
                        address = %peer,
                        count,
                        "connection closed: its address, or its network, has too many on this listener"
                    );
                }
            }
        }
    }

    /// The pace of a new connection: of low priority if its address was refused a short time ago.
    fn pace_of_new(&self, peer: IpAddr) -> Pace {
        let Protection { addresses, .. } = &*self.protection;
        let mut pace = Pace::default();
        let refused = addresses.was_refused_within(peer, u64::from(LOW_SECONDS), self.protection.now());
        if refused && !self.speaks_for_others(peer) {
            pace.lower_priority(self.seconds());
        }
        pace
    }

    /// A balancer, or an exempt address: many people may share one connection.
    fn speaks_for_others(&self, peer: IpAddr) -> bool {
        let addresses = &self.protection.addresses;
        addresses.is_trusted(peer) || addresses.is_exempt(peer)
    }

    fn seconds(&self) -> u32 {
        (self.protection.now().0 / 1000) as u32
    }

    /// Closes idle connections while memory is short, some at each check, the longest idle first.
    /// To be called a few times a second.
    pub fn relieve(&self) {
        let Protection { pressure, .. } = &*self.protection;
        let Some(look) = pressure.closing(self.protection.open()) else { return };
        let mut relieved = self.relieved.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *relieved, look) != look {
            let mut closed = self.roll.close_idle(CLOSED_AT_ONCE, Among::Strangers);
            // Those that many people share come last.
            closed += self.roll.close_idle(CLOSED_AT_ONCE - closed, Among::All);
            pressure.idle_closed.fetch_add(closed as u64, Relaxed);
        }
    }

    /// Counts one event. Returns how many there were, if it is time to write a line about it.
    fn warns(&self, which: impl FnOnce(&mut Warnings) -> &mut Warning) -> Option<u64> {
        which(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner)).due()
    }

    async fn handshake(self: Arc<Self>, tls: &Tls, stream: TcpStream, peer: IpAddr, entry: Arc<Entry>) {
        let mut draining = self.protection.draining.clone();
        // Boxed, as what follows is: a connection without a first byte needs no room for either.
        let handshake = tokio::select! {
            handshake = Box::pin(tls.handshake(stream)) => handshake,
            () = drained_for(&mut draining, DRAIN_GRACE) => return,
            () = entry.told_to_close() => return,
        };
        match handshake {
            Some(done) if done.is_http2 => Box::pin(self.http2(done.stream, peer, tls, entry)).await,
            Some(done) => Box::pin(self.http1(done.stream, peer, entry)).await,
            None => drop(self.protection.counters.handshakes_failed.fetch_add(1, Relaxed)),
        }
    }

    async fn http1(self: Arc<Self>, stream: impl Stream, peer: IpAddr, entry: Arc<Entry>) {
        let answer = self.answers(peer, Some(Arc::clone(&entry)));
        let settings = &self.protection.settings;
        // A crowd connects before a sale opens. Operators have nothing to wait for.
        let first = match self.is_public() {
            true => settings.idle_timeout_seconds,
            false => settings.header_timeout_seconds,
        };
        let patience =
            Patience { first: Duration::from_secs(first), drain: self.protection.drain_patience(peer) };
        let draining = self.protection.draining.clone();
        connection::serve(stream, settings, patience, draining, entry, answer).await;
    }

    async fn http2(self: Arc<Self>, stream: impl Stream, peer: IpAddr, tls: &Tls, entry: Arc<Entry>) {
        let answer = self.answers(peer, Some(Arc::clone(&entry)));
        let (settings, draining) = (&self.protection.settings, self.protection.draining.clone());
        http2::serve(stream, settings, tls.streams_max(), draining, entry, answer).await;
    }

    /// Answers the requests of one connection.
    fn answers(
        self: &Arc<Self>,
        peer: IpAddr,
        entry: Option<Arc<Entry>>,
    ) -> impl Fn(Request<Taken>, InHand) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + 'static
    {
        let listening = Arc::clone(self);
        move |request, in_hand| {
            let (listening, entry) = (Arc::clone(&listening), entry.clone());
            Box::pin(async move { listening.answer(request, peer, entry.as_deref(), in_hand).await })
        }
    }

    /// Serves the requests that the loops hand over. Once its connection is idle, it goes back to
    /// its loop.
    pub async fn serve_travelling(self: Arc<Self>, mut from_loops: mpsc::Receiver<Travelling>) {
        while let Some(travelling) = from_loops.recv().await {
            tokio::spawn(Arc::clone(&self).travelling(travelling));
        }
    }

    async fn travelling(self: Arc<Self>, travelling: Travelling) {
        let Travelling { stream, peer, seat, early, request_bytes, home, .. } = travelling;
        let visit = request_bytes.map_or(Visit::Last, Visit::One);
        let protection = Arc::clone(&self.protection);
        let answer = self.answers(peer, None);
        let rested = match TcpStream::from_std(stream) {
            Ok(stream) => {
                let (settings, mut draining) = (&protection.settings, protection.draining.clone());
                connection::serve_busy(stream, early, visit, settings, &mut draining, None, answer)
                    .await
                    .and_then(|(stream, early)| Some((stream.into_std().ok()?, early)))
            }
            Err(_) => None,
        };
        match rested {
            Some((stream, early)) => home.give_back(Travelling {
                request_bytes: None,
                stream,
                peer,
                seat,
                early,
                is_announced: false,
                home: Arc::clone(&home),
            }),
            None => drop(protection.counters.connections.fetch_sub(1, Relaxed)),
        }
    }

    /// What a request on an operators' listener shows of its caller.
    fn shown(&self, request: &Request<Body>) -> Shown {
        if self.is_public() {
            return Shown::Nothing;
        }
        let (keys, path) = (&self.protection.api_keys, request.uri().path());
        let own = self.own_key.as_ref();
        if let Some((shown, key)) = own.and_then(|(field, key)| Some((request.headers().get(*field)?, key))) {
            return match shown.as_bytes().ct_eq(key.as_bytes()).into() {
                true => Shown::Key,
                false => Shown::WrongKey,
            };
        }
        match keys.authorize(request.headers(), Wanted { role: Role::ReadOnly, rights: &[], is_form: false })
        {
            Err(problem) if problem.is(&KEY_REFUSED) => Shown::WrongKey,
            Err(problem) if problem.is(&RIGHT_REFUSED) => Shown::Key,
            Err(_) if PROVEN_ELSEWHERE.contains(&path) => Shown::NothingYet,
            Err(_) => Shown::Nothing,
            Ok(_) => Shown::Key,
        }
    }

    /// Lets a request be answered, after the others if its connection asks too fast.
    async fn let_in(
        &self,
        peer: IpAddr,
        (address, shown): (IpAddr, Shown),
        entry: Option<&Entry>,
    ) -> Result<(), LetIn> {
        let now = self.protection.now();
        match shown {
            // Operators must not lock themselves out, and tenants have limits of their own.
            Shown::Key => return Ok(()),
            Shown::NothingYet => {}
            Shown::WrongKey | Shown::Nothing => {
                refuse_denied(&self.protection, address).map_err(LetIn::Refused)?;
            }
        }
        match shown {
            // A caller who guesses is let in as seldom as for what costs most.
            Shown::WrongKey => self.protection.let_ask(address, now).map_err(LetIn::Refused)?,
            _ => self.protection.let_read(address, now).map_err(LetIn::Refused)?,
        }
        // The loops have turns of their own, before they hand a connection over.
        let Some(entry) = entry.filter(|_| !self.speaks_for_others(peer)) else { return Ok(()) };
        let now = self.seconds();
        let is_low = {
            let mut pace = entry.pace.lock().unwrap_or_else(PoisonError::into_inner);
            if pace.is_too_fast(now) {
                pace.lower_priority(now);
            }
            pace.is_low(now)
        };
        let key = self.protection.addresses.address_key(address);
        if is_low { self.turns.wait(key).await.map_err(LetIn::NoTurn) } else { Ok(()) }
    }

    async fn answer(
        &self,
        request: Request<Taken>,
        peer: IpAddr,
        entry: Option<&Entry>,
        in_hand: InHand,
    ) -> Response {
        let start = Instant::now();
        let Protection { cors, policy, addresses, .. } = &*self.protection;
        let caller = cors.caller(&request).filter(|_| self.is_public());
        let is_preflight = request.method() == http::Method::OPTIONS;
        let mut request = request.map(Body::new);
        let reader = page::Reader::of(&request);
        let forwarded = request.headers().get_all("x-forwarded-for").iter().rev();
        let address = addresses.believed_address(peer, forwarded.map(HeaderValue::as_bytes));
        request.extensions_mut().insert(Peer(address));
        let mut router = self.router.clone();
        let shown = self.shown(&request);
        let called = AssertUnwindSafe(async {
            match self.let_in(peer, (address, shown), entry).await {
                Ok(()) => router.call(request).await,
                Err(LetIn::Refused(problem)) => Ok(problem.into_response()),
                Err(LetIn::NoTurn(problem)) => {
                    let mut response = problem.into_response();
                    response.extensions_mut().insert(NoTurn);
                    Ok(response)
                }
            }
        });
        let called = called.catch_unwind().await;
        let mut response = called.map_or_else(
            |_| {
                if let Some(count) = self.warns(|warnings| &mut warnings.panicked) {
                    tracing::error!(count, "answer a request: panicked");
                }
                Problem::internal().into_response()
            },
            |Ok(response)| response,
        );
        let had_no_turn = response.extensions_mut().remove::<NoTurn>().is_some();
        let answered = response.extensions_mut().remove::<Answered>();
        let operation = answered.map_or(NO_OPERATION, |Answered(operation)| operation);
        let mut response = problem::ensure(response);
        if let Some(explained) = response.extensions_mut().remove::<Explained>() {
            policy.refused(explained.kind);
            if let Some(reason) = explained.reason {
                addresses.note(address, reason, self.protection.now());
            }
            // A low priority must not be what keeps it low.
            let is_rate = explained.kind == &RATE_LIMITED && !had_no_turn;
            let is_refused = explained.reason.is_some() || is_rate;
            if let Some(entry) = entry.filter(|_| is_refused) {
                let now = self.seconds();
                entry.pace.lock().unwrap_or_else(PoisonError::into_inner).lower_priority(now);
            }
            if let Some(reader) = reader {
                reader.show(&explained, self.problem_page.as_ref(), &mut response);
            }
        }
        // Not over TLS, where a new connection costs more than an idle one. Nor after a preflight,
        // as its request comes next.
        let is_worth_it = is_preflight || policy.keeps(operation);
        let may_close = self.is_public() && self.tls.is_none() && !is_worth_it;
        if may_close && policy.closes() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        policy.took(operation, start.elapsed());
        secure(&mut response);
        if let Some(caller) = caller {
            cors.put(caller, response.headers_mut());
        }
        if self.tls.is_some() && self.protection.is_https {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        response.map(|body| Body::new(Guarded::new(body, in_hand)))
    }

    /// Ready once all its connections have ended.
    pub async fn all_closed(&self) {
        let _ = self.permits.acquire_many(self.open_max as u32).await;
    }
}

/// A connection that is counted for as long as it is there.
struct Open<'a>(&'a Protection);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Relaxed);
    }
}

fn secure(response: &mut Response) {
    let is_html =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    let has_no_body = response.status() == http::StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    if has_no_body {
        // It would be that of the answer which is left out, and what was left is 0.
        headers.remove(header::CONTENT_LENGTH);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page whose address is a secret says less.
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let policy =
        if is_html { page::CONTENT_SECURITY_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    // A handler may name what its page loads from elsewhere.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
    // Forms have tokens, and what pages show changes.
    if is_html && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
