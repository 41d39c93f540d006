//! An endpoint whose every connection runs a script, and the pusher that delivers to it.

use http::{HeaderName, HeaderValue};
use notify::push::{Attempt, Bytes, Endpoint, Message, Pusher, Settings};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use units::TimeMs;

pub(crate) const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
pub(crate) const NOW: TimeMs = TimeMs(1_614_265_330_999);
pub(crate) const BODY: &str = r#"{"test": 2432232314}"#;
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// What the endpoint has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) accepted: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) open_max: AtomicUsize,
    /// Heads and bodies.
    pub(crate) requests: Mutex<Vec<String>>,
}

impl Seen {
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Listens on 127.0.0.1 until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One accepted connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// From 1.
    pub(crate) number: usize,
    seen: Arc<Seen>,
}

impl Server {
    pub(crate) async fn start<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let of_task = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = of_task.accepted.fetch_add(1, SeqCst) + 1;
                let open = of_task.open.fetch_add(1, SeqCst) + 1;
                of_task.open_max.fetch_max(open, SeqCst);
                tokio::spawn(script(Peer { stream, number, seen: Arc::clone(&of_task) }));
            }
        });
        Self { address, seen, task }
    }

    /// Gives each request the same response.
    pub(crate) async fn answering(response: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while peer.request().await {
                peer.send(response).await;
            }
        })
        .await
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(&format!("http://{}/hook?a=b", self.address))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(1, SeqCst);
    }
}

impl Peer {
    /// Reads one request; false if the connection was closed instead.
    pub(crate) async fn request(&mut self) -> bool {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse().unwrap() {
                    self.seen.requests.lock().unwrap().push(text.into_owned());
                    return true;
                }
            }
            match self.stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }

    /// False if the connection is closed.
    pub(crate) async fn send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// Until the pusher closes the connection.
    pub(crate) async fn closed(&mut self) {
        while self.stream.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    Endpoint { url: url.parse().unwrap(), secrets: vec![SECRET.parse().unwrap()] }
}

pub(crate) fn message() -> Message {
    let further = (HeaderName::from_static("x-shop"), HeaderValue::from_static("7"));
    Message {
        id: ID.into(),
        content_type: "application/json",
        body: Bytes::from_static(BODY.as_bytes()),
        headers: vec![further],
    }
}

/// Delivers to 127.0.0.0/8. The times suit a machine that is busy with other tests.
pub(crate) fn settings() -> Settings {
    Settings {
        connect_ms: 10_000,
        total_ms: 20_000,
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..Settings::default()
    }
}

pub(crate) fn pusher(change: impl FnOnce(&mut Settings)) -> Pusher {
    let mut settings = settings();
    change(&mut settings);
    Pusher::new(settings).unwrap()
}

pub(crate) async fn push(pusher: &Pusher, server: &Server) -> Attempt {
    pusher.push(&server.endpoint(), &message(), NOW).await
}
