//! Listeners, connections and their end. A connection that waits for its next request owns no buffer: it is a socket and a
//! small task, so a crowd may connect before the opening.

mod connection;
mod http2;
mod tls;

use crate::{
    admin::{self, keys::ApiKeys},
    api,
    challenge::Challenges,
    config::Config,
    cors,
    filter::DenyList,
    jwt::JwtVerifier,
    keys::Keyring,
    metrics::RouteClass,
    page,
    ports::Sales,
    pressure::{Memory, Watch},
    problem::{self, Explained, Kind, Problem},
    state::{Gate, Peer, drained},
    strategy::Strategy,
    wire::{Loops, Seat, Travelling, Warning},
};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use connection::{Guarded, InHand, Stream, Taken, Visit};
use futures_util::FutureExt;
use http::{HeaderValue, Request, header};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tls::Tls;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use tower_service::Service;

/// Connections on the admin listener: a few people, stores and a scraper.
const ADMIN_OPEN_MAX: usize = 1024;

/// What the kernel keeps of a shopper's connection until it is read: the largest request, with its head's default limit, fits. By
/// itself the kernel keeps ten times that and more, which adds up where a flood is read slowly.
const UNREAD_BYTES_MAX: usize = 16 << 10;

/// Browsers that were here once come by TLS for a year (RFC 6797). Said behind TLS only, and only if `gate.public_origin` says that
/// the shop is there: it holds for the host's other ports too, of which somebody may want one in clear.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What a gate is made of.
pub struct Options {
    pub config: Config,
    pub sales: Arc<dyn Sales>,
    pub keys: Arc<Keyring>,
    pub jwt: JwtVerifier,
    pub api_keys: Arc<ApiKeys>,
    pub challenges: Challenges,
    pub denied: DenyList,
    pub memory: Memory,
    pub strategy: Strategy,
    /// The page sells to whoever comes, payment is a sandbox, and loopback has no address limit.
    pub demo: bool,
    pub part: Part,
}

/// What of a gate is in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Both listeners.
    #[default]
    All,
    /// The operators' listener alone: shoppers come to gates in processes of their own.
    Operators,
    /// The shop's listener, on a port that other processes share, and of the operators' what is about this process.
    Shoppers,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("demo", &self.demo)
            .finish_non_exhaustive()
    }
}

/// Where a server listens; the ports are real even if 0 was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// None in a process that has the operators' listener alone.
    pub shop: Option<SocketAddr>,
    /// The shop behind TLS, if `gate.tls.listen` says where.
    pub tls: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// The listeners, bound, and all that answers on them.
#[derive(Debug)]
pub struct Server {
    /// One for each loop, all of the same port.
    shop: Vec<std::net::TcpListener>,
    tls: Option<(TcpListener, Arc<Tls>)>,
    admin: TcpListener,
    bound: Bound,
    gate: Arc<Gate>,
    part: Part,
    drain: watch::Sender<bool>,
}

/// Binds the listeners. Connections are queued by the kernel from here on, and answered by [`Server::run`].
pub fn bind(options: Options) -> io::Result<Server> {
    let config = &options.config;
    let connections = &config.connections;
    let is_shared = options.part == Part::Shoppers;
    let (shop, shop_address) = match options.part {
        Part::Operators => (Vec::new(), None),
        Part::All | Part::Shoppers => {
            let (backlog, threads) = (connections.backlog, connections.threads());
            let (shop, at) = listen("gate.shop_listen", config.shop_listen, backlog, threads, is_shared)?;
            // Accepted sockets inherit it.
            for listener in &shop {
                socket2::SockRef::from(listener).set_recv_buffer_size(UNREAD_BYTES_MAX)?;
            }
            (shop, Some(at))
        }
    };
    let (admin, admin_address) = listen_once("gate.admin_listen", config.admin_listen, 128, false)?;
    let tls = match config.tls.address().filter(|_| options.part != Part::Operators) {
        Some(address) => Some(listen_once("gate.tls.listen", address, connections.backlog, is_shared)?),
        None => None,
    };
    let bound = Bound { shop: shop_address, tls: tls.as_ref().map(|(_, at)| *at), admin: admin_address };
    let part = options.part;
    let (drain, draining) = watch::channel(false);
    let gate = Arc::new(Gate::new(options, draining));
    let tls = match tls {
        Some((listener, _)) => Some((listener, Arc::new(Tls::open(&gate.config.tls, &gate.metrics)?))),
        None => None,
    };
    Ok(Server { shop, tls, admin, bound, gate, part, drain })
}

/// Listens on an address, for tokio.
fn listen_once(
    what: &str,
    address: SocketAddr,
    backlog: u32,
    is_shared: bool,
) -> io::Result<(TcpListener, SocketAddr)> {
    let (listeners, at) = listen(what, address, backlog, 1, is_shared)?;
    let listener = listeners.into_iter().next().map(TcpListener::from_std);
    Ok((listener.ok_or_else(|| io::Error::other(format!("{what}: no listener")))??, at))
}

/// Listens on an address `count` times, and says which it is: the kernel spreads connections over the listeners by a hash, so that
/// none has to be handed from one thread to another. If it `is_shared`, other processes of the same user may do so too.
fn listen(
    what: &str,
    address: SocketAddr,
    backlog: u32,
    count: usize,
    is_shared: bool,
) -> io::Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    let bind = || {
        let mut sockets: Vec<socket2::Socket> = Vec::new();
        let mut at = address;
        for number in 0..count {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Accepted sockets inherit it, which saves a system call for each.
            socket.set_tcp_nodelay(true)?;
            // The first one binds and listens alone: were the port shared before, a second server would silently take half of the
            // crowd. It is not shared at all where one listener is enough.
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

impl Server {
    /// Where it listens.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Serves until `shutdown` is ready, then lets open requests end for `gate.connections.drain_seconds` at the most.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let connections = self.gate.config.connections.clone();
        let mut shop_routes: Vec<_> = api::routes().into_iter().chain(page::routes()).collect();
        shop_routes.extend(cors::preflights(&shop_routes));
        let admin_routes = match self.part {
            Part::All | Part::Operators => admin::routes().into_iter().chain(admin::pages()).collect(),
            Part::Shoppers => admin::routes_of_a_gate(),
        };
        let shop = Arc::new(Listening::new(&self.gate, shop_routes, true, connections.open_max));
        let admin = Arc::new(Listening::new(&self.gate, admin_routes, false, ADMIN_OPEN_MAX));
        // As many as may be open: a loop never waits for axum.
        let (to_axum, from_loops) = mpsc::channel(shop.open_max);
        let loops = Loops::start(&self.gate, self.shop, &shop.permits, &to_axum)?;
        let watch = Watch::start(&self.gate, loops.inboxes())?;
        let travelling = tokio::spawn(Arc::clone(&shop).serve_travelling(from_loops));
        let behind_tls = async {
            let Some((listener, tls)) = self.tls else { return std::future::pending().await };
            let watch = Arc::clone(&tls).watch(&self.gate.metrics, || self.gate.now());
            let listening = Arc::new(shop.behind(tls));
            tokio::join!(watch, listening.accept(listener)).0
        };
        tokio::select! {
            () = Arc::clone(&admin).accept(self.admin) => {}
            () = behind_tls => {}
            () = shutdown => {}
        }
        loops.drain();
        self.drain.send_replace(true);
        let closed = async {
            shop.all_closed().await;
            admin.all_closed().await;
        };
        let limit = Duration::from_secs(connections.drain_seconds);
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!(
                seconds = limit.as_secs(),
                "drained for as long as allowed: requests were cut off"
            );
        }
        travelling.abort();
        tokio::task::spawn_blocking(|| {
            drop(watch);
            loops.end();
        })
        .await
        .map_err(io::Error::other)
    }
}

/// One listener's side of the gate.
struct Listening {
    gate: Arc<Gate>,
    router: Router,
    open_max: usize,
    permits: Arc<Semaphore>,
    /// For shoppers, and for their browsers on the pages of others.
    is_shop: bool,
    tls: Option<Arc<Tls>>,
}

impl Listening {
    fn new(gate: &Arc<Gate>, routes: Vec<api::Route>, is_shop: bool, open_max: usize) -> Self {
        let router = api::router(routes)
            .fallback(|| async { Problem::new(Kind::NotFound, "no such path: see /api/v1/openapi.json") })
            .with_state(Arc::clone(gate));
        let open_max = open_max.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(open_max));
        Self { gate: Arc::clone(gate), router, open_max, permits, is_shop, tls: None }
    }

    /// The same behind TLS, with the same seats: those who came one way leave fewer for the other.
    fn behind(&self, tls: Arc<Tls>) -> Self {
        Self {
            gate: Arc::clone(&self.gate),
            router: self.router.clone(),
            open_max: self.open_max,
            permits: Arc::clone(&self.permits),
            is_shop: self.is_shop,
            tls: Some(tls),
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let (mut full, mut failed) = (Warning::default(), Warning::default());
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: what is open goes on, and some of it will end.
                    if failed.due().is_some() {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if self.is_shop && self.gate.pressure.sheds(self.gate.metrics.connections.load(Relaxed)) {
                self.gate.pressure.new_closed.fetch_add(1, Relaxed);
                continue;
            }
            // Operators and their machines have no shares; shoppers have them on the loops' listener too.
            let of_address = match &self.tls {
                Some(_) => match self.gate.filter.connection(peer.ip(), self.gate.now()) {
                    Ok(shares) => shares,
                    Err(_) => continue,
                },
                None => None,
            };
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                self.gate.metrics.connections_refused.fetch_add(1, Relaxed);
                if let Some(refused) = full.due() {
                    tracing::warn!(
                        open_max = self.open_max,
                        refused,
                        "connection closed: too many are open on the admin listener"
                    );
                }
                continue;
            };
            let listening = Arc::clone(&self);
            let seat = Seat::new(permit, of_address);
            tokio::spawn(async move {
                let _seat = seat;
                match &listening.tls {
                    None => Arc::clone(&listening).http1(stream, peer.ip()).await,
                    Some(tls) => {
                        listening.gate.metrics.connections.fetch_add(1, Relaxed);
                        let open = Open(&listening.gate);
                        Arc::clone(&listening).handshake(tls, stream, peer.ip()).await;
                        drop(open);
                    }
                }
            });
        }
    }

    async fn handshake(self: Arc<Self>, tls: &Tls, stream: TcpStream, peer: IpAddr) {
        let mut draining = self.gate.draining.clone();
        let shaken = tokio::select! {
            shaken = tls.shake_hands(stream) => shaken,
            () = drained(&mut draining) => return,
        };
        // Boxed, so that a connection on which nothing has been said yet has no room for it.
        match shaken {
            Some(shaken) if shaken.is_http2 => Box::pin(self.http2(shaken.stream, peer)).await,
            Some(shaken) => Box::pin(self.http1(shaken.stream, peer)).await,
            None => drop(self.gate.metrics.handshakes_failed.fetch_add(1, Relaxed)),
        }
    }

    async fn http1(self: Arc<Self>, stream: impl Stream, peer: IpAddr) {
        let answer = self.answers(peer);
        let settings = &self.gate.config.connections;
        connection::serve(stream, settings, self.gate.draining.clone(), answer).await;
    }

    async fn http2(self: Arc<Self>, stream: impl Stream, peer: IpAddr) {
        let answer = self.answers(peer);
        let config = &self.gate.config;
        http2::serve(stream, &config.connections, &config.tls, self.gate.draining.clone(), answer).await;
    }

    /// Answers whatever one connection asks.
    fn answers(
        self: &Arc<Self>,
        peer: IpAddr,
    ) -> impl Fn(Request<Taken>, InHand) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + 'static
    {
        let listening = Arc::clone(self);
        move |request, in_hand| {
            let listening = Arc::clone(&listening);
            Box::pin(async move { listening.answer(request, peer, in_hand).await })
        }
    }

    /// Serves the requests that the loops do not, each until its connection rests; then it goes back to its loop.
    async fn serve_travelling(self: Arc<Self>, mut from_loops: mpsc::Receiver<Travelling>) {
        while let Some(travelling) = from_loops.recv().await {
            tokio::spawn(Arc::clone(&self).travelling(travelling));
        }
    }

    async fn travelling(self: Arc<Self>, travelling: Travelling) {
        let Travelling { stream, peer, seat, early, request_bytes, home, .. } = travelling;
        let visit = request_bytes.map_or(Visit::Last, Visit::One);
        let gate = Arc::clone(&self.gate);
        let answer = self.answers(peer);
        let rested = match TcpStream::from_std(stream) {
            Ok(stream) => {
                let (settings, mut draining) = (&gate.config.connections, gate.draining.clone());
                connection::serve_busy(stream, early, visit, settings, &mut draining, answer)
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
            None => drop(gate.metrics.connections.fetch_sub(1, Relaxed)),
        }
    }

    async fn answer(&self, request: Request<Taken>, peer: IpAddr, in_hand: InHand) -> Response {
        let start = Instant::now();
        let class = match request.uri().path().contains("/rounds/") {
            true => RouteClass::Attempt,
            false => RouteClass::Other,
        };
        let caller = self.gate.cors.caller(&request).filter(|_| self.is_shop);
        let mut request = request.map(Body::new);
        let reader = page::Reader::of(&request);
        let address = self.address(&request, peer);
        request.extensions_mut().insert(Peer(address));
        let mut router = self.router.clone();
        // Operators must not shut themselves out.
        let let_in = if self.is_shop { self.gate.refuse_denied(address) } else { Ok(()) };
        let called = AssertUnwindSafe(async {
            match let_in {
                Ok(()) => router.call(request).await,
                Err(problem) => Ok(problem.into_response()),
            }
        });
        let called = called.catch_unwind().await;
        let response = called.map_or_else(
            |_| {
                tracing::error!("answer a request: panicked");
                Problem::internal().into_response()
            },
            |Ok(response)| response,
        );
        let mut response = problem::ensure(response);
        if let Some(explained) = response.extensions_mut().remove::<Explained>() {
            self.gate.metrics.refused(explained.kind);
            if let Some(reason) = explained.reason {
                self.gate.filter.note_address(address, reason, self.gate.now());
            }
            if let Some(reader) = reader {
                reader.show(&explained, &mut response);
            }
        }
        // Not behind TLS, where every further connection costs more than one that rests.
        let may_close = self.is_shop && self.tls.is_none() && class == RouteClass::Other;
        if may_close && self.gate.strategy.closes() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.gate.metrics.took(class, start.elapsed());
        secure(&mut response);
        if let Some(caller) = caller {
            self.gate.cors.put(caller, response.headers_mut());
        }
        if self.tls.is_some() && self.gate.config.public_origin.starts_with("https://") {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        response.map(|body| Body::new(Guarded::new(body, in_hand)))
    }

    fn address<B>(&self, request: &Request<B>, peer: IpAddr) -> IpAddr {
        let fields = request.headers().get_all("x-forwarded-for").iter().rev();
        self.gate.believed_address(peer, fields.map(HeaderValue::as_bytes))
    }

    async fn all_closed(&self) {
        let _ = self.permits.acquire_many(self.open_max as u32).await;
    }
}

/// A connection that is counted for as long as it is there.
struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Relaxed);
    }
}

fn secure(response: &mut Response) {
    let is_html =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let policy =
        if is_html { page::CONTENT_SECURITY_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}
