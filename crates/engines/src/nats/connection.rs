//! One connection to the servers, for all logs of a process. The port is synchronous: what is asked
//! runs on a thread of its own, and the caller waits, never longer than it was told to.
//!
//! Knows subjects and payloads, and nothing of streams.

use super::place::{Place, SignIn};
use crate::log::LogError;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerAddr};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};

/// How long a question waits. A server that syncs every message answers within milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long the start of a log waits for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A server that has vanished without a word is noticed after three of these.
const PING_EVERY: Duration = Duration::from_secs(3);
/// How often a server that is away is tried: often at first, for a restart takes a second or two.
const RETRY: Duration = Duration::from_millis(250);
/// What else may come before a waiting caller learns that its time is over.
const GRACE: Duration = Duration::from_secs(1);
/// The oldest server of which the engine's promises were tested.
const SERVER_AT_LEAST: (i64, i64, i64) = (2, 12, 0);

/// A connection that comes back by itself when it was lost.
pub struct Connection {
    client: Client,
    runtime: Option<Runtime>,
    place: String,
    opened: Instant,
    /// What last kept it from being connected.
    trouble: Arc<Mutex<String>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.place)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// No server has received the question, and none will.
    NotSent(String),
    /// It may have been received, or may yet be.
    Lost(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotSent(why) | Self::Lost(why)) = self;
        f.write_str(why)
    }
}

/// The error of a server that does not answer: it may pass.
pub(super) fn away(doing: String, why: String) -> LogError {
    LogError::Io { doing, source: io::Error::new(ErrorKind::NotConnected, why) }
}

/// The error of a server that is full: it may pass.
pub(super) fn no_room(doing: String, why: String) -> LogError {
    LogError::Io { doing, source: io::Error::new(ErrorKind::StorageFull, why) }
}

impl Connection {
    /// Begins to connect, and goes on trying whenever there is no connection.
    pub fn open(place: &Place) -> Result<Arc<Self>, LogError> {
        let failed = |source| LogError::Io { doing: format!("connect to {place}"), source };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("nats").enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let trouble = Arc::new(Mutex::new(String::from("no connection yet")));
        let options = options(place, Arc::clone(&trouble)).map_err(failed)?;
        let servers = place.servers.iter().map(|server| {
            let scheme = if place.is_tls { "tls" } else { "nats" };
            format!("{scheme}://{server}").parse()
        });
        let servers: Vec<ServerAddr> = servers.collect::<io::Result<_>>().map_err(failed)?;
        let client = runtime
            .block_on(options.connect(&servers[..]))
            .map_err(|error| failed(io::Error::new(ErrorKind::NotConnected, error.to_string())))?;
        Ok(Arc::new(Self {
            client,
            runtime: Some(runtime),
            place: place.to_string(),
            opened: Instant::now(),
            trouble,
        }))
    }

    /// The servers, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Waits until there is a connection, to a server that is recent enough. While none came so far
    /// it waits only once: many logs may be opened one after the other.
    pub(super) fn wait(&self) -> Result<(), LogError> {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        let doing = || format!("connect to {}", self.place);
        let until = self.opened + CONNECT_PATIENCE;
        while !self.is_there() {
            if Instant::now() > until {
                return Err(away(doing(), self.trouble()));
            }
            thread::sleep(LOOK_EVERY);
        }
        let (major, minor, patch) = SERVER_AT_LEAST;
        if !self.client.is_server_compatible(major, minor, patch) {
            let version = self.client.server_info().version;
            let why = format!("nats-server {version} is too old: it must be {major}.{minor} or later");
            return Err(LogError::Io { doing: doing(), source: io::Error::other(why) });
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The longest message that the server takes, with its headers.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Asks, and waits for the one answer.
    pub(super) fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<Message, Unanswered> {
        if !self.is_there() {
            return Err(Unanswered::NotSent(format!("{}: {}", self.place, self.trouble())));
        }
        let (client, subject) = (self.client.clone(), subject.to_owned());
        let request = Request::new().headers(headers).payload(payload.into()).timeout(Some(PATIENCE));
        let asked = self.run(async move { client.send_request(subject, request).await });
        match asked {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => {
                    Unanswered::NotSent(format!("{}: JetStream or the stream is not there", self.place))
                }
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    Unanswered::NotSent(error.to_string())
                }
                RequestErrorKind::TimedOut | RequestErrorKind::Other => {
                    Unanswered::Lost(format!("{}: {error}", self.place))
                }
            }),
            None => Err(Unanswered::Lost(format!("{}: no answer in {} s", self.place, PATIENCE.as_secs()))),
        }
    }

    /// Asks, and waits for answers until `is_end` says that one is the last.
    pub(super) fn ask_many(
        &self,
        subject: &str,
        payload: Vec<u8>,
        is_end: fn(&Message) -> bool,
    ) -> Result<Vec<Message>, Unanswered> {
        use futures_util::StreamExt as _;
        if !self.is_there() {
            return Err(Unanswered::NotSent(format!("{}: {}", self.place, self.trouble())));
        }
        let (client, subject) = (self.client.clone(), subject.to_owned());
        let asked = self.run(async move {
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
            client
                .publish_with_reply(subject, inbox, payload.into())
                .await
                .map_err(|error| error.to_string())?;
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await {
                let ends = is_end(&answer);
                all.push(answer);
                if ends {
                    return Ok(all);
                }
            }
            Err("the connection was closed".to_owned())
        });
        match asked {
            Some(Ok(all)) => Ok(all),
            Some(Err(why)) => Err(Unanswered::Lost(format!("{}: {why}", self.place))),
            None => Err(Unanswered::Lost(format!("{}: no answer in {} s", self.place, PATIENCE.as_secs()))),
        }
    }

    /// Runs this on the connection's thread, for as long as a question may take. Any thread may
    /// wait for it, also one that drives tasks of its own.
    fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        self.runtime.as_ref()?.spawn(async move {
            if let Ok(done) = tokio::time::timeout(PATIENCE, what).await {
                // A caller that has given up has dropped the receiver.
                let _ = sender.send(done);
            }
        });
        receiver.recv_timeout(PATIENCE + GRACE).ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Not awaited: the last handle may be dropped by a thread that drives tasks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn options(place: &Place, trouble: Arc<Mutex<String>>) -> io::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name("floodgate")
        .ping_interval(PING_EVERY)
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .reconnect_delay_callback(|tries| if tries <= 1 { Duration::ZERO } else { RETRY })
        .retry_on_initial_connect()
        .event_callback(move |event| {
            if !matches!(event, Event::Connected) {
                *trouble.lock().unwrap_or_else(PoisonError::into_inner) = event.to_string();
            }
            std::future::ready(())
        });
    options = match &place.sign_in {
        SignIn::No => options,
        SignIn::Token(token) => options.token(token.clone()),
        SignIn::User { name, password } => options.user_and_password(name.clone(), password.clone()),
    };
    if let Some(file) = &place.credentials_file {
        let named = |error| io::Error::other(format!("{}: {error}", file.display()));
        options = options.credentials(&std::fs::read_to_string(file).map_err(named)?).map_err(named)?;
    }
    if place.is_tls {
        options = options.require_tls(true);
    }
    if place.is_tls || place.root_certificates.is_some() {
        options = options.tls_client_config(tls(place)?);
    }
    Ok(options)
}

/// With the cryptography that the other connections of the process have.
fn tls(place: &Place) -> io::Result<ClientConfig> {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    match &place.root_certificates {
        Some(file) => {
            let named = |error: &dyn fmt::Display| io::Error::other(format!("{}: {error}", file.display()));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| named(&error))? {
                roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(io::Error::other("there is no certificate to trust"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// No two handles draw the same.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Keyed from the system's randomness.
    RandomState::new().hash_one(std::process::id())
}
