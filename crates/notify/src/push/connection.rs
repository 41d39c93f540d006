//! One connection that speaks HTTP/1.1 (RFC 9112), one request after another. Whoever waits for the
//! response drives it: there is no task behind it, so a message needs no hop between threads, and
//! an idle connection is only a socket with its buffers.

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    future::poll_fn,
    io::{self, IoSlice},
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Instant,
};
use tokio_rustls::client::TlsStream;

/// Bytes of a response's head: twice the least that hyper can be told. What answers a message needs
/// far less.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A connection that is open, or was when it was last used.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Metered>, Full<Bytes>>,
    has_ended: bool,
    /// Bytes read since the last request.
    read_bytes: Arc<AtomicUsize>,
    address: IpAddr,
    pub(super) opened: Instant,
    /// When it was last used.
    pub(super) used: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Why there is no response.
pub(super) struct Lost {
    pub(super) reason: String,
    /// No byte of a response had come.
    pub(super) is_unanswered: bool,
}

impl Connection {
    /// Takes over a stream. Each response may have `body_bytes_max` bytes, with the bytes that
    /// frame them, besides its head.
    pub(super) async fn new(
        stream: Stream,
        address: IpAddr,
        body_bytes_max: usize,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, String> {
        let read_bytes = Arc::new(AtomicUsize::new(0));
        let read_bytes_max = HEAD_BYTES_MAX + body_bytes_max;
        let metered = Metered { stream, read_bytes: Arc::clone(&read_bytes), read_bytes_max };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(metered)).await.map_err(|e| chain(&e))?;
        let now = Instant::now();
        Ok(Self {
            sender,
            driver,
            has_ended: false,
            read_bytes,
            address,
            opened: now,
            used: now,
            _permit: permit,
        })
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it can take a request now: the last response is read, and the peer has not closed it
    /// as far as is known.
    pub(super) async fn is_ready(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(!self.drive(context) && self.sender.is_ready())).await
    }

    /// Sends a request, and returns the response once its head is there.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
        self.read_bytes.store(0, Relaxed);
        let mut response = pin!(self.sender.try_send_request(request));
        let (driver, has_ended) = (&mut self.driver, &mut self.has_ended);
        let sent = poll_fn(|context| {
            *has_ended = *has_ended || Pin::new(&mut *driver).poll(context).is_ready();
            match response.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result.map_err(|e| chain(e.error()))),
                Poll::Pending if *has_ended => Poll::Ready(Err("connection closed".to_owned())),
                Poll::Pending => Poll::Pending,
            }
        });
        let sent = sent.await;
        sent.map_err(|reason| Lost { reason, is_unanswered: self.read_bytes.load(Relaxed) == 0 })
    }

    /// Reads a response's body, and appends its first bytes, up to `kept_bytes_max`. Returns
    /// whether the body ended properly, within `bytes_max`. What was appended stays when this is
    /// dropped.
    pub(super) async fn read_body(
        &mut self,
        mut body: Incoming,
        bytes_max: usize,
        kept: &mut Vec<u8>,
        kept_bytes_max: usize,
    ) -> bool {
        let is_too_long = body.size_hint().lower() > bytes_max as u64;
        let mut bytes = 0;
        while !body.is_end_stream() {
            let frame = match poll_fn(|context| self.frame(&mut body, context)).await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return false,
                None => return true,
            };
            let Some(data) = frame.data_ref() else { continue };
            bytes += data.len();
            let room = kept_bytes_max.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..room.min(data.len())]);
            if bytes > bytes_max || (is_too_long && kept.len() >= kept_bytes_max) {
                return false;
            }
        }
        true
    }

    fn frame(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        loop {
            let frame = Pin::new(&mut *body).poll_frame(context);
            if frame.is_ready() || self.has_ended {
                // The driver fills the body: once it has ended, nothing more comes.
                return Poll::Ready(match frame {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => None,
                });
            }
            self.drive(context);
            let frame = Pin::new(&mut *body).poll_frame(context);
            if frame.is_ready() || !self.has_ended {
                return frame;
            }
        }
    }

    /// Reads and writes what can be. Returns whether the connection has ended.
    fn drive(&mut self, context: &mut Context<'_>) -> bool {
        self.has_ended = self.has_ended || Pin::new(&mut self.driver).poll(context).is_ready();
        self.has_ended
    }
}

/// An error's text, with those of its sources: hyper's own say little.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// A connected socket, encrypted or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Counts what is read, and reads no more than so much for one request: a peer could send interim
/// responses (1xx) without end.
struct Metered {
    stream: Stream,
    read_bytes: Arc<AtomicUsize>,
    read_bytes_max: usize,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        })?;
        let now = buffer.filled().len() - before;
        let bytes = self.read_bytes.fetch_add(now, Relaxed) + now;
        if bytes > self.read_bytes_max {
            let why = format!("response of more than {} bytes", self.read_bytes_max);
            return Poll::Ready(Err(io::Error::other(why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
