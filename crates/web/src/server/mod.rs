//! The listeners that axum serves, in clear and over TLS, with HTTP/1.1 and HTTP/2, and the
//! requests that the loops hand over. A connection that waits for its next request owns no buffer:
//! it is a socket and a small task. So a crowd may connect before a sale opens.

mod connection;
mod http2;
mod tls;

pub use tls::Tls;

use crate::{
    operation::{Answered, Callers, Operation, preflights, router},
    page,
    problem::{self, Explained, NOT_FOUND, Problem},
    protection::{NO_OPERATION, Protection, drained},
    wire::{Seat, Travelling, Warning, refuse_denied},
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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tower_service::Service;

/// After one visit, a browser uses only TLS for a year (RFC 6797). The field is sent over TLS only,
/// and only if the server has an HTTPS origin: it applies to all ports of the host, and another
/// port may be meant to be in clear.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The address that a request came from, after trusted proxies.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Listens on an address, for use with tokio.
pub fn listen_once(
    what: &str,
    address: SocketAddr,
    backlog: u32,
    is_shared: bool,
) -> io::Result<(TcpListener, SocketAddr)> {
    let (listeners, at) = listen(what, address, backlog, 1, is_shared)?;
    let listener = listeners.into_iter().next().map(TcpListener::from_std);
    Ok((listener.ok_or_else(|| io::Error::other(format!("{what}: no listener")))??, at))
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
) -> io::Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    let bind = || {
        let mut sockets: Vec<socket2::Socket> = Vec::new();
        let mut at = address;
        for number in 0..count {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Accepted sockets inherit this option, which saves a system call for each.
            socket.set_tcp_nodelay(true)?;
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
        let router = router(operations, callers, &protection.api_keys)
            .fallback(|| async { Problem::new(&NOT_FOUND, "no such path: see /api/v1/openapi.json") })
            .with_state(state);
        let open_max = open_max.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(open_max));
        Self { protection: Arc::clone(protection), router, open_max, permits, callers, tls: None }
    }

    /// The same over TLS. Both listeners share the permits, so that connections of one leave fewer
    /// for the other.
    pub fn behind(&self, tls: Arc<Tls>) -> Self {
        Self {
            protection: Arc::clone(&self.protection),
            router: self.router.clone(),
            open_max: self.open_max,
            permits: Arc::clone(&self.permits),
            callers: self.callers,
            tls: Some(tls),
        }
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

    /// Accepts connections and serves them, for as long as it is polled.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let (mut full, mut failed) = (Warning::default(), Warning::default());
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely the process is out of descriptors. Open connections go on, and
                    // some of them will end.
                    if failed.due().is_some() {
                        tracing::error!(%error, "accept a connection: failed (see `ulimit -n`)");
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if self.is_public() && self.protection.sheds() {
                continue;
            }
            // Operators and their machines have no limit of connections by address; shoppers have
            // one, which counts their connections of the loops' listener too.
            let of_address = match &self.tls {
                Some(_) => match self.protection.addresses.connection(peer.ip(), self.protection.now()) {
                    Ok(shares) => shares,
                    Err(_) => continue,
                },
                None => None,
            };
            let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                self.protection.counters.connections_refused.fetch_add(1, Relaxed);
                if let Some(refused) = full.due() {
                    tracing::warn!(
                        open_max = self.open_max,
                        refused,
                        "connection closed: too many are open on this listener"
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
                        listening.protection.counters.connections.fetch_add(1, Relaxed);
                        let open = Open(&listening.protection);
                        Arc::clone(&listening).handshake(tls, stream, peer.ip()).await;
                        drop(open);
                    }
                }
            });
        }
    }

    async fn handshake(self: Arc<Self>, tls: &Tls, stream: TcpStream, peer: IpAddr) {
        let mut draining = self.protection.draining.clone();
        let handshake = tokio::select! {
            handshake = tls.handshake(stream) => handshake,
            () = drained(&mut draining) => return,
        };
        // Boxed, so that a connection without a first byte needs no room for it.
        match handshake {
            Some(done) if done.is_http2 => Box::pin(self.http2(done.stream, peer, tls)).await,
            Some(done) => Box::pin(self.http1(done.stream, peer)).await,
            None => drop(self.protection.counters.handshakes_failed.fetch_add(1, Relaxed)),
        }
    }

    async fn http1(self: Arc<Self>, stream: impl Stream, peer: IpAddr) {
        let answer = self.answers(peer);
        let settings = &self.protection.settings;
        connection::serve(stream, settings, self.protection.draining.clone(), answer).await;
    }

    async fn http2(self: Arc<Self>, stream: impl Stream, peer: IpAddr, tls: &Tls) {
        let answer = self.answers(peer);
        let (settings, draining) = (&self.protection.settings, self.protection.draining.clone());
        http2::serve(stream, settings, tls.streams_max(), draining, answer).await;
    }

    /// Answers the requests of one connection.
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
        let answer = self.answers(peer);
        let rested = match TcpStream::from_std(stream) {
            Ok(stream) => {
                let (settings, mut draining) = (&protection.settings, protection.draining.clone());
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
            None => drop(protection.counters.connections.fetch_sub(1, Relaxed)),
        }
    }

    async fn answer(&self, request: Request<Taken>, peer: IpAddr, in_hand: InHand) -> Response {
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
        // Operators must not lock themselves out.
        let let_in = if self.is_public() { refuse_denied(&self.protection, address) } else { Ok(()) };
        let called = AssertUnwindSafe(async {
            match let_in {
                Ok(()) => router.call(request).await,
                Err(problem) => Ok(problem.into_response()),
            }
        });
        let called = called.catch_unwind().await;
        let mut response = called.map_or_else(
            |_| {
                tracing::error!("answer a request: panicked");
                Problem::internal().into_response()
            },
            |Ok(response)| response,
        );
        let answered = response.extensions_mut().remove::<Answered>();
        let operation = answered.map_or(NO_OPERATION, |Answered(operation)| operation);
        let mut response = problem::ensure(response);
        if let Some(explained) = response.extensions_mut().remove::<Explained>() {
            policy.refused(explained.kind);
            if let Some(reason) = explained.reason {
                addresses.note(address, reason, self.protection.now());
            }
            if let Some(reader) = reader {
                reader.show(&explained, &mut response);
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
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let policy =
        if is_html { page::CONTENT_SECURITY_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}
