//! TLS for the shop's second listener (RFC 8446, RFC 5246): the certificate, which is read again
//! when it changes, and the handshake. It knows no HTTP.

use crate::{config::TlsConfig, protection::Counters, secret::read_secret};
use arc_swap::ArcSwap;
use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        Error, InconsistentKeys, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};
use units::TimeMs;
use x509_cert::der::Decode;

/// How often the files are read. New content is used once two reads in a row have found it: it is
/// then a complete pair of certificate and key, and not one that is half written.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Certificates are renewed a month before they expire. Two weeks before, something is wrong, and
/// there is still time to mend it.
const WARN_AHEAD_SECONDS: u64 = 14 * 86_400;
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// Accepts handshakes, with the newest valid certificate.
pub struct Tls {
    acceptor: TlsAcceptor,
    served: Arc<Served>,
    files: Files,
    /// From the content of the files at the start.
    opened: [u8; 32],
    handshake_max: Duration,
    streams_max: u32,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The result of a handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Boxed: futures that pass it on would each have room for it, for as long as they live.
    pub(super) stream: Box<TlsStream<TcpStream>>,
    pub(super) is_http2: bool,
}

impl Tls {
    /// Reads the certificate and its key, which this section of the configuration names. The error
    /// names the key, the file and what to do.
    pub fn open(section: &'static str, config: &TlsConfig, counters: &Counters) -> io::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let files = Files {
            section,
            certificate: PathBuf::from(&config.certificate_file),
            key: PathBuf::from(&config.key_file),
            provider: Arc::clone(&provider),
        };
        let read = files.read();
        let pair = files.pair(&read)?;
        counters.certificate_expires_seconds.store(pair.expires_seconds, Relaxed);
        let served = Arc::new(Served(ArcSwap::from_pointee(pair.key)));
        let versions = [&TLS13, &TLS12];
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let mut server = builder
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as _);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets that the client keeps, so that a crowd that comes back costs no memory here.
        // Early data stays off: it can be replayed (RFC 8446, section 8).
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            served,
            files,
            opened: read.hash(),
            handshake_max: Duration::from_secs(config.handshake_timeout_seconds),
            streams_max: config.streams_max,
        })
    }

    /// Streams that a connection of HTTP/2 may have open.
    pub(super) fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// `None` if the client does not speak TLS, or takes too long.
    pub(super) async fn handshake(&self, stream: TcpStream) -> Option<Handshake> {
        let stream = timeout(self.handshake_max, self.acceptor.accept(stream)).await.ok()?.ok()?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Some(Handshake { stream: Box::new(stream), is_http2 })
    }

    /// Follows changes of the files for as long as it is polled. `now` returns the time.
    pub async fn watch(self: Arc<Self>, counters: &Counters, now: impl Fn() -> TimeMs) {
        let mut seen = Seen { known: self.opened, last: self.opened };
        let mut warned: Option<tokio::time::Instant> = None;
        loop {
            let left = counters.certificate_expires_seconds.load(Relaxed).saturating_sub(now().0 / 1000);
            if left <= WARN_AHEAD_SECONDS && warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                let (days, file) = (left / 86_400, self.files.certificate.display());
                tracing::warn!(%file, days, "the certificate expires soon, or has: renew it");
                warned = Some(tokio::time::Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let (hash, pair) = self.look().await;
            if seen.is_news(hash) {
                match pair {
                    Ok(pair) => {
                        counters.certificate_expires_seconds.store(pair.expires_seconds, Relaxed);
                        self.served.0.store(Arc::new(pair.key));
                        warned = None;
                        tracing::info!(file = %self.files.certificate.display(), "certificate read again");
                    }
                    Err(error) => {
                        counters.certificate_failures.fetch_add(1, Relaxed);
                        tracing::error!(%error, "certificate not read: the old one stays in use");
                    }
                }
            }
        }
    }

    async fn look(self: &Arc<Self>) -> ([u8; 32], io::Result<Pair>) {
        let tls = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            let read = tls.files.read();
            (read.hash(), tls.files.pair(&read))
        });
        looked.await.unwrap_or_else(|error| ([0; 32], Err(io::Error::other(error))))
    }
}

/// The hashes of the content that was last read, and of the content that was last taken or refused.
struct Seen {
    known: [u8; 32],
    last: [u8; 32],
}

impl Seen {
    /// Whether there is new content to take or refuse: once for each content, and only if two reads
    /// in a row have found it.
    fn is_news(&mut self, hash: [u8; 32]) -> bool {
        let is_news = hash != self.known && hash == self.last;
        self.last = hash;
        if is_news {
            self.known = hash;
        }
        is_news
    }
}

/// The certificate for every handshake, whatever server name the client sends.
#[derive(Debug)]
struct Served(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Where the certificate and its key are.
#[derive(Debug)]
struct Files {
    section: &'static str,
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

/// The content of the files, valid or not.
struct Read {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
}

/// A certificate with its chain and its key.
struct Pair {
    key: CertifiedKey,
    expires_seconds: u64,
}

impl Read {
    fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for file in [&self.certificate, &self.key] {
            let text = file.as_ref().map_or_else(|error| error.to_string().into_bytes(), Clone::clone);
            hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
        }
        *hasher.finalize().as_bytes()
    }
}

impl Files {
    fn read(&self) -> Read {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.certificate.display()));
        Read { certificate: fs::read(&self.certificate).map_err(named), key: read_secret(&self.key) }
    }

    fn pair(&self, read: &Read) -> io::Result<Pair> {
        let again =
            |what: &str, e: &io::Error| io::Error::new(e.kind(), format!("{}.tls.{what}: {e}", self.section));
        let certificate = read.certificate.as_ref().map_err(|e| again("certificate_file", e))?;
        let key = read.key.as_ref().map_err(|e| again("key_file", e))?;
        let wrong = |what: &str, file: &PathBuf, why: &str| {
            let text = format!("{}.tls.{what}: {}: {why}", self.section, file.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let wrong_certificate = |why: &str| wrong("certificate_file", &self.certificate, why);
        let wrong_key = |why: &str| wrong("key_file", &self.key, why);
        let chain =
            CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().map_err(|e| {
                wrong_certificate(&format!("cannot be read as PEM ({e}): want the certificate and its chain"))
            })?;
        let Some(first) = chain.first() else {
            return Err(wrong_certificate(
                "no certificate in it: want the certificate and its chain, in PEM",
            ));
        };
        let expires_seconds = expiry(first).ok_or_else(|| {
            wrong_certificate("its first certificate cannot be read: put it back as it was issued")
        })?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| wrong_key("no private key in it: want one in PEM"))?;
        let key = CertifiedKey::from_der(chain, key, &self.provider).map_err(|e| match e {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong_key(&format!(
                "does not fit the first certificate in {}: put the server's own certificate first, and its key here",
                self.certificate.display()
            )),
            other => wrong_key(&format!("cannot be used ({other}): want an ECDSA, Ed25519 or RSA key in PEM")),
        })?;
        Ok(Pair { key, expires_seconds })
    }
}

/// When a certificate expires, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_same_for_two_looks_is_news_once() {
        let mut seen = Seen { known: [0; 32], last: [0; 32] };
        let looks =
            [(0, false), (1, false), (1, true), (1, false), (2, false), (3, false), (3, true), (3, false)];
        for (look, want) in
            looks.into_iter().chain([(1, false), (3, false), (0, false), (0, true), (0, false)])
        {
            assert_eq!(seen.is_news([look; 32]), want, "{look}");
        }
    }
}
