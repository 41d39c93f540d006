//! One HTTP/1.1 connection, in clear or over TLS. hyper keeps a read buffer of 8 KiB from its first
//! poll to its end. So hyper runs only while there is a request: it is dropped once the answer is
//! written, and made anew when bytes arrive.
//!
//! hyper is dropped only between two requests, and never while a body is not read to its end: the
//! rest of that body must not be taken for a request (request smuggling). Such a connection ends
//! with its answer.

use super::roll::Entry;
use crate::{
    config::ConnectionsConfig,
    protection::{drained, drained_for},
    wire,
};
use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

/// How often a connection with a request is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A client that reads nothing of its answer for this long is taken to be gone.
pub(super) const WRITE_STALL_MAX_MS: u64 = 30_000;

/// The most bytes of one read of a head.
const READ_BYTES: usize = 2048;
/// How long, and for how many bytes, a client that was refused is waited for to close.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 256 << 10;

/// The state of a connection, as its socket and its service see it.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    /// Requests whose answer is not written yet.
    busy: AtomicU32,
    /// Bytes of a request have arrived, and its headers are incomplete.
    in_headers: AtomicBool,
    write_blocked: AtomicBool,
    answered: AtomicBool,
    /// A request's body was dropped before its end.
    body_left: AtomicBool,
    changed_ms: AtomicU64,
    /// Answers with a part that is ready and that the client has not taken (HTTP/2: its window is
    /// full).
    owed: AtomicU32,
    /// When the client last took a part.
    taken_ms: AtomicU64,
    /// Its place on the listener's roll; a connection of a loop has none.
    entry: Option<Arc<Entry>>,
}

impl Activity {
    pub(super) fn new(entry: Option<Arc<Entry>>) -> Self {
        Self {
            entry,
            started: Instant::now(),
            busy: AtomicU32::new(0),
            in_headers: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            body_left: AtomicBool::new(false),
            changed_ms: AtomicU64::new(0),
            owed: AtomicU32::new(0),
            taken_ms: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn touch(&self) {
        self.changed_ms.store(self.now_ms(), Relaxed);
    }

    /// Milliseconds since something last changed.
    pub(super) fn unchanged_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.changed_ms.load(Relaxed))
    }

    /// Milliseconds for which the client has taken nothing of what is ready; `None` if nothing is
    /// ready.
    pub(super) fn stalled_ms(&self) -> Option<u64> {
        (self.owed.load(Relaxed) > 0).then(|| self.now_ms().saturating_sub(self.taken_ms.load(Relaxed)))
    }

    /// A request has arrived.
    pub(super) fn begin(self: &Arc<Self>) -> InHand {
        self.in_headers.store(false, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        self.entry.iter().for_each(|entry| entry.begin());
        self.touch();
        InHand(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    fn is_between_requests(&self) -> bool {
        self.answered.load(Relaxed)
            && self.busy.load(Relaxed) == 0
            && !self.in_headers.load(Relaxed)
            && !self.write_blocked.load(Relaxed)
            && !self.body_left.load(Relaxed)
    }
}

/// A request, from its head until its answer ends or the client is gone.
#[derive(Debug)]
pub(super) struct InHand(Arc<Activity>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.entry.iter().for_each(|entry| entry.end());
        self.0.answered.store(true, Relaxed);
        self.0.touch();
    }
}

/// The transport of a connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Waits for bytes or for the end of the stream, and returns whether that has come. What was
    /// read of a stream that cannot be peeked at is put into `early`: at most one byte.
    fn poll_ended(&mut self, early: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;
}

impl Stream for TcpStream {
    fn poll_ended(&mut self, _early: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.poll_peek(cx, &mut ReadBuf::new(&mut [0; 1])).map_ok(|peeked| peeked == 0)
    }
}

impl Stream for Box<TlsStream<TcpStream>> {
    fn poll_ended(&mut self, early: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut byte = [0; 1];
        let mut part = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(self).poll_read(cx, &mut part))?;
        *early = Bytes::copy_from_slice(part.filled());
        Poll::Ready(Ok(early.is_empty()))
    }
}

/// How much of a connection hyper may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// One request of this many bytes; hyper may not read what follows it.
    One(u64),
    /// One request whose length only hyper finds out. The connection ends with it.
    Last,
}

/// The time that a connection has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the first byte of its first request.
    pub(super) first: Duration,
    /// While it is idle and the server drains.
    pub(super) drain: Duration,
}

/// Serves one connection until either side ends it, it idles too long, it is told to close, or the
/// server drains.
pub(super) async fn serve<S, F, A>(
    mut stream: S,
    settings: &ConnectionsConfig,
    patience: Patience,
    mut draining: watch::Receiver<bool>,
    entry: Arc<Entry>,
    answer: F,
) where
    S: Stream,
    F: Fn(Request<Taken>, InHand) -> A + Clone + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let mut early = Bytes::new();
    let mut idle_max = patience.first;
    loop {
        if early.is_empty() {
            let mut first = [0; 1];
            tokio::select! {
                // First: what has arrived is answered, also while the server drains.
                biased;
                read = timeout(idle_max, stream.read(&mut first)) => match read {
                    Ok(Ok(1)) => early = Bytes::copy_from_slice(&first),
                    _ => return,
                },
                () = drained_for(&mut draining, patience.drain) => return,
                () = entry.told_to_close() => return,
            }
        }
        idle_max = Duration::from_secs(settings.idle_timeout_seconds);
        // Heads are read by the parser of the loops before hyper reads them: it refuses what two
        // parsers might read differently.
        let visit = tokio::select! {
            visit = read_head(&mut stream, &mut early, settings) => match visit {
                Some(visit) => visit,
                None => return,
            },
            () = entry.told_to_close() => return,
        };
        // Boxed, so that an idle connection's task needs no room for it.
        let of_roll = Some(Arc::clone(&entry));
        let busy = serve_busy(stream, early, visit, settings, &mut draining, of_roll, answer.clone());
        match Box::pin(busy).await {
            Some(rested) => (stream, early) = rested,
            None => return,
        }
    }
}

/// Reads on until the head of the request is complete, and returns how much of the connection hyper
/// may read for it. `None` if it was refused, or did not come in time.
async fn read_head<S: Stream>(
    stream: &mut S,
    early: &mut Bytes,
    settings: &ConnectionsConfig,
) -> Option<Visit> {
    let limit = Duration::from_secs(settings.header_timeout_seconds);
    let mut bytes = early.to_vec();
    let read = timeout(limit, async {
        loop {
            match wire::boundaries(&bytes, settings.header_bytes_max) {
                Some(Ok(request_bytes)) => return Some(Ok(request_bytes)),
                Some(Err(refusal)) => return Some(Err(refusal)),
                None => {}
            }
            let mut part = [0; READ_BYTES];
            match stream.read(&mut part).await {
                Ok(read @ 1..) => bytes.extend_from_slice(&part[..read]),
                _ => return None,
            }
        }
    });
    match read.await.ok()?? {
        Ok(request_bytes) => {
            *early = bytes.into();
            Some(request_bytes.map_or(Visit::Last, Visit::One))
        }
        Err(refusal) => {
            let end = async {
                stream.write_all(&refusal).await?;
                stream.shutdown().await?;
                // Closing with bytes unread would reset the connection, and the answer with it.
                let mut left = LINGER_BYTES_MAX;
                while let Ok(read @ 1..) = stream.read(&mut [0; READ_BYTES]).await
                    && left > read
                {
                    left -= read;
                }
                Ok::<(), io::Error>(())
            };
            let _ = timeout(LINGER, end).await;
            None
        }
    }
}

/// Runs hyper until the connection ends (`None`) or is idle: then returns the bytes that arrived
/// and were not served.
pub(super) async fn serve_busy<S, F, A>(
    stream: S,
    early: Bytes,
    visit: Visit,
    settings: &ConnectionsConfig,
    draining: &mut watch::Receiver<bool>,
    entry: Option<Arc<Entry>>,
    answer: F,
) -> Option<(S, Bytes)>
where
    S: Stream,
    F: Fn(Request<Taken>, InHand) -> A + Clone + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let activity = Arc::new(Activity::new(entry.clone()));
    let io = TokioIo::new(Watched {
        stream,
        early,
        left: match visit {
            Visit::One(bytes) => bytes,
            Visit::Last => u64::MAX,
        },
        activity: Arc::clone(&activity),
    });
    let of_service = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let in_hand = of_service.begin();
        let request = request.map(|body| Taken::new(body, &of_service));
        let response = answer(request, in_hand);
        let of_answer = Arc::clone(&of_service);
        async move {
            let mut response = response.await;
            if of_answer.body_left.load(Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(settings.header_bytes_max.max(8192)).header_read_timeout(None);
    // hyper closes a connection that is told to shut down before it has read anything. So one that
    // begins while the server drains is told from the start that it ends with its answer.
    let mut drains = *draining.borrow();
    builder.keep_alive(visit != Visit::Last && !drains);
    let mut connection = builder.serve_connection(io, service);
    let mut closes = entry.is_none();
    let told = async {
        match &entry {
            Some(entry) => entry.told_to_close().await,
            None => std::future::pending().await,
        }
    };
    let mut told = std::pin::pin!(told);
    let header_ms_max = settings.header_timeout_seconds * 1000;
    loop {
        // hyper flushes before it waits. So once the body of an answer is dropped, the answer has
        // been written, or the socket is blocked.
        let ended = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if visit != Visit::Last && activity.is_between_requests() => Poll::Ready(false),
            polled => polled.map(|_| true),
        });
        let mut rests = false;
        tokio::select! {
            // First: hyper has then read something.
            biased;
            ended = ended => match ended {
                true => return None,
                false => rests = true,
            },
            () = sleep(LOOK_EVERY) => {}
            () = drained(draining), if !drains => {
                drains = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut told, if !closes => {
                if !activity.is_busy() {
                    return None;
                }
                closes = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        let unchanged_ms = activity.unchanged_ms();
        let headers_late = activity.in_headers.load(Relaxed) && unchanged_ms > header_ms_max;
        let reader_gone = activity.write_blocked.load(Relaxed) && unchanged_ms > WRITE_STALL_MAX_MS;
        // A connection whose last body was not read never becomes idle, so its silence is measured
        // here.
        let silent = activity.answered.load(Relaxed)
            && activity.busy.load(Relaxed) == 0
            && !activity.in_headers.load(Relaxed)
            && unchanged_ms > header_ms_max.min(settings.idle_timeout_seconds * 1000);
        if headers_late || reader_gone || silent {
            return None;
        }
        if rests {
            let parts = connection.into_parts();
            let watched = parts.io.into_inner();
            if parts.read_buf.is_empty() {
                return Some((watched.stream, watched.early));
            }
            let rest = [parts.read_buf, watched.early].concat();
            return Some((watched.stream, rest.into()));
        }
    }
}

/// A socket that reports what happens on it, returns first the bytes that were read too early, and
/// ends where hyper must stop reading.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    early: Bytes,
    /// Bytes that hyper may still read.
    left: u64,
    activity: Arc<Activity>,
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.remaining());
        if room == 0 {
            return self.poll_end(cx);
        }
        if self.early.is_empty() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
        } else {
            let len = self.early.len().min(room);
            buf.put_slice(&self.early.split_to(len));
        }
        self.left -= (buf.filled().len() - before) as u64;
        let activity = &self.activity;
        // The timeout of the headers starts with their first byte, so that a byte now and then does
        // not extend it.
        if buf.filled().len() > before
            && activity.busy.load(Relaxed) == 0
            && !activity.in_headers.swap(true, Relaxed)
        {
            activity.touch();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> Watched<S> {
    /// After the last byte that hyper may read: it learns of the end of the stream, and of nothing
    /// else.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            return Poll::Pending;
        }
        match std::task::ready!(self.stream.poll_ended(&mut self.early, cx))? {
            true => Poll::Ready(Ok(())),
            // The next request has arrived, and is read later. hyper is polled again when its
            // answer is ready.
            false => Poll::Pending,
        }
    }

    fn written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let blocked = written.is_pending();
        if self.activity.write_blocked.swap(blocked, Relaxed) != blocked || !blocked {
            self.activity.touch_unless_in_headers();
        }
        written
    }
}

impl Activity {
    fn touch_unless_in_headers(&self) {
        if !self.in_headers.load(Relaxed) {
            self.touch();
        }
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS what was written may not be in the socket yet.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request's body, which notes whether it was read to its end.
#[derive(Debug)]
pub(super) struct Taken {
    body: Incoming,
    ended: bool,
    activity: Arc<Activity>,
}

impl Taken {
    pub(super) fn new(body: Incoming, activity: &Arc<Activity>) -> Self {
        Self { body, ended: false, activity: Arc::clone(activity) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.activity.body_left.store(true, Relaxed);
        }
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; the request is over when it is dropped.
#[derive(Debug)]
pub(super) struct Guarded {
    body: Body,
    in_hand: InHand,
    /// A part is ready, and the client has not taken it yet.
    owed: bool,
}

impl Guarded {
    pub(super) fn new(body: Body, in_hand: InHand) -> Self {
        let mut guarded = Self { body, in_hand, owed: false };
        guarded.owe(true);
        guarded
    }

    fn owe(&mut self, owed: bool) {
        let activity = &self.in_hand.0;
        activity.taken_ms.store(activity.now_ms(), Relaxed);
        match (self.owed, owed) {
            (false, true) => drop(activity.owed.fetch_add(1, Relaxed)),
            (true, false) => drop(activity.owed.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.owed = owed;
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.owe(false);
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.owe(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    /// hyper asks for a part of an answer once the client has room for it.
    #[test]
    fn an_answer_is_owed_to_a_client_until_it_takes_it() {
        let activity = Arc::new(Activity::new(None));
        let parts = stream::iter([Ok::<_, Infallible>("one")]).chain(stream::pending());
        let mut answer = Guarded::new(Body::from_stream(parts), activity.begin());
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(activity.stalled_ms().is_some(), "the client has taken nothing yet");
        assert!(Pin::new(&mut answer).poll_frame(cx).is_ready());
        assert!(activity.stalled_ms().is_some(), "more parts may follow");
        assert!(Pin::new(&mut answer).poll_frame(cx).is_pending());
        assert_eq!(
            activity.stalled_ms(),
            None,
            "an event stream waits for the server, and not for its client"
        );
        let mut other = Guarded::new(Body::from("all of it"), activity.begin());
        assert!(Pin::new(&mut other).poll_frame(cx).is_ready());
        assert!(activity.stalled_ms().is_some(), "one of two answers is pending");
        drop(other);
        assert_eq!(activity.stalled_ms(), None);
        assert!(activity.is_busy());
        drop(answer);
        assert!(!activity.is_busy() && activity.has_answered());
        assert_eq!(activity.stalled_ms(), None);
    }
}
