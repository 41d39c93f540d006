//! Opens a connection: the name's addresses, those of them that the guard permits, TCP, TLS. It
//! sends no request.

use super::{
    Failure,
    connection::{Connection, Stream, chain},
    guard::{Guard, Judgement},
    pool::{Pool, Pools},
    shortage, timed,
    url::{EndpointUrl, Host},
};
use std::{
    fs, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

/// How long a look waits for others to end.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(1);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Bytes of the file of roots: that of a whole Linux distribution has 0.25 MB.
const ROOTS_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Opens connections.
pub(super) struct Dialer {
    pub(super) guard: Guard,
    pub(super) connect_max: Duration,
    pub(super) response_bytes_max: usize,
    tls: TlsConnector,
    /// One permit for each look for a name that runs: it has files open too. Those who deliver for
    /// different callers have their own, so that names that are never found hold up only those who
    /// named them.
    looks: Arc<Semaphore>,
}

impl Dialer {
    /// Reads the machine's root certificates, and those of the file.
    pub(super) fn new(
        guard: Guard,
        connect_max: Duration,
        response_bytes_max: usize,
        looks_max: usize,
        roots: Option<&Path>,
    ) -> io::Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(root_store(roots)?).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let looks = Arc::new(Semaphore::new(looks_max));
        Ok(Self { guard, connect_max, response_bytes_max, tls, looks })
    }

    /// Opens a connection to an address that was resolved and judged for it alone. `address` is
    /// that of the last try.
    pub(super) async fn open(
        &self,
        pools: &Pools,
        pool: &Pool,
        url: &EndpointUrl,
        deadline: Instant,
        address: &mut Option<IpAddr>,
    ) -> Result<Connection, Failure> {
        let found = match url.host() {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => timed(deadline, "resolve", resolve(&self.looks, pool, name)).await??,
        };
        let permitted = permitted(&self.guard, &found, url)?;
        let permit = timed(deadline, "wait for a connection", pools.budget.permit()).await?;
        let tcp = self.connect(&permitted, url.port(), deadline, address).await?;
        let peer = address.unwrap_or(permitted[0]);
        let stream = if url.is_https() { self.secure(tcp, url, deadline).await? } else { Stream::Plain(tcp) };
        Connection::new(stream, peer, self.response_bytes_max, permit).await.map_err(Failure::Protocol)
    }

    /// Tries one address after another. Each has its part of the time, so that one that does not
    /// answer leaves some for the next. If one of them could not be tried, it is not known whether
    /// the endpoint would have answered.
    async fn connect(
        &self,
        addresses: &[IpAddr],
        port: u16,
        deadline: Instant,
        address: &mut Option<IpAddr>,
    ) -> Result<TcpStream, Failure> {
        let until = deadline.min(Instant::now() + self.connect_max);
        let (mut failed, mut lacks) = (None, None);
        for (at, ip) in addresses.iter().enumerate() {
            *address = Some(*ip);
            let left = until.saturating_duration_since(Instant::now());
            let part = left / (addresses.len() - at) as u32;
            let to = SocketAddr::new(*ip, port);
            match timeout_at(Instant::now() + part, TcpStream::connect(to)).await {
                Ok(Ok(tcp)) => {
                    // A message is one write: there is nothing to wait for.
                    tcp.set_nodelay(true).map_err(|e| Failure::Connect(format!("{to}: {e}")))?;
                    return Ok(tcp);
                }
                Ok(Err(error)) if shortage::kept_from_connecting(&error, to) => {
                    lacks = Some(Failure::Shortage(format!("connect to {to}: {error}")));
                }
                Ok(Err(error)) => failed = Some(Failure::Connect(format!("{to}: {error}"))),
                Err(_) => failed = Some(Failure::TimedOut("connect")),
            }
        }
        Err(lacks.or(failed).unwrap_or(Failure::TimedOut("connect")))
    }

    async fn secure(&self, tcp: TcpStream, url: &EndpointUrl, deadline: Instant) -> Result<Stream, Failure> {
        let name = match url.host() {
            Host::Address(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|e| Failure::Tls(format!("{name}: {e}")))?,
        };
        let until = deadline.min(Instant::now() + self.connect_max);
        let tls = timed(until, "tls handshake", self.tls.connect(name, tcp)).await?;
        let tls = tls.map_err(|error| match shortage::is_one(&error) {
            true => Failure::Shortage(format!("tls: {error}")),
            false => Failure::Tls(chain(&error)),
        })?;
        Ok(Stream::Tls(Box::new(tls)))
    }
}

async fn resolve(looks: &Arc<Semaphore>, pool: &Pool, name: &Arc<str>) -> Result<Vec<IpAddr>, Failure> {
    const NEVER: &str = "the semaphore is never closed";
    let of_origin = Arc::clone(&pool.resolves).acquire_owned().await.expect(NEVER);
    // That others look for names for long is no failure of this endpoint.
    let permit = timeout(LOOK_WAIT_MAX, Arc::clone(looks).acquire_owned()).await;
    let busy = || Failure::Shortage(format!("look for {name}: too many names are looked for already"));
    let permits = (of_origin, permit.map_err(|_| busy())?.expect(NEVER));
    let of_thread = Arc::clone(name);
    let looked = tokio::task::spawn_blocking(move || {
        // The system's resolver cannot be interrupted. The permits stay with its thread, also when
        // no push waits for the result any more.
        let _permits = permits;
        let addresses = (&*of_thread, 0).to_socket_addrs()?;
        Ok::<_, io::Error>(addresses.map(|address| address.ip()).collect::<Vec<_>>())
    });
    let failed = |why: String| Failure::Resolve(format!("{name}: {why}"));
    // A thread that could not look has not found that there is nothing.
    let looked = looked.await.map_err(|e| Failure::Shortage(format!("look for {name}: {}", chain(&e))))?;
    let mut found = looked.map_err(|error| {
        let lacks = if shortage::is_one(&error) { Some(error.to_string()) } else { None };
        match lacks.or_else(|| shortage::kept_from_looking().map(|error| error.to_string())) {
            Some(why) => Failure::Shortage(format!("look for {name}: {why}")),
            None => failed(error.to_string()),
        }
    })?;
    found.dedup();
    if found.is_empty() { Err(failed("no address".to_owned())) } else { Ok(found) }
}

/// The addresses that may be connected to; a failure if there is none.
fn permitted(guard: &Guard, found: &[IpAddr], url: &EndpointUrl) -> Result<Vec<IpAddr>, Failure> {
    let mut refused = None;
    let mut permitted = Vec::new();
    for ip in found {
        let failure = match guard.judge(*ip, url.is_https()) {
            Judgement::Permitted(ip) => {
                permitted.push(ip);
                continue;
            }
            Judgement::NotPublic => Failure::AddressRefused(*ip),
            Judgement::Unencrypted => Failure::Protocol(format!("plain http to {ip}: use https")),
        };
        refused.get_or_insert(failure);
    }
    permitted.truncate(ADDRESSES_MAX);
    match refused {
        Some(failure) if permitted.is_empty() => Err(failure),
        _ => Ok(permitted),
    }
}

fn root_store(file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let of_machine = rustls_native_certs::load_native_certs();
    // Those that could not be read now are there, and would be missed for as long as this runs.
    for error in &of_machine.errors {
        if let rustls_native_certs::ErrorKind::Io { inner, path } = &error.kind
            && shortage::is_one(inner)
        {
            return Err(io::Error::new(inner.kind(), format!("roots {}: {inner}", path.display())));
        }
    }
    // Old distributions have roots that nothing can read any more.
    store.add_parsable_certificates(of_machine.certs);
    if let Some(file) = file {
        let wrong = |why: String| {
            let text = format!("roots {}: {why}: want certificates in PEM", file.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let named = |e: io::Error| io::Error::new(e.kind(), format!("roots {}: {e}", file.display()));
        let length = fs::metadata(file).map_err(named)?.len();
        if length > ROOTS_FILE_BYTES_MAX {
            return Err(wrong(format!("{length} bytes, more than {ROOTS_FILE_BYTES_MAX}")));
        }
        let bytes = fs::read(file).map_err(named)?;
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            store.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        if store.len() == before {
            return Err(wrong("no certificate in it".to_owned()));
        }
    }
    if store.is_empty() {
        let errors: Vec<String> = of_machine.errors.iter().map(ToString::to_string).collect();
        // The shop may have no endpoint over TLS at all.
        tracing::warn!(
            errors = errors.join(", "),
            "root certificates: this machine has none, so no endpoint is reached over TLS: install ca-certificates, or name a file of roots"
        );
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_permitted_addresses_of_a_name_are_tried() {
        let guard = Guard { allowed_networks: vec!["127.0.0.2/32".parse().unwrap()], http_allowed: false };
        let check = |url: &str, found: &[&str]| {
            let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
            match permitted(&guard, &found, &url.parse().unwrap()) {
                Ok(ips) => ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
                Err(failure) => failure.to_string(),
            }
        };
        for (url, found, want) in [
            (
                "https://a.example",
                &["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1"][..],
                "8.8.8.8 2606:4700::1",
            ),
            ("https://a.example", &["127.0.0.1", "::ffff:127.0.0.2"], "127.0.0.2"),
            ("https://a.example", &["::1", "10.0.0.1"], "address ::1: not public, and in no allowed network"),
            ("http://a.example", &["8.8.8.8"], "plain http to 8.8.8.8: use https"),
            ("http://a.example", &["8.8.8.8", "127.0.0.2"], "127.0.0.2"),
            (
                "https://a.example",
                &["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"],
                "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4",
            ),
        ] {
            assert_eq!(check(url, found), want);
        }
    }
}
