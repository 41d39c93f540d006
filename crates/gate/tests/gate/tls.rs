//! The shop's TLS listener: it serves what the other listener serves, a hostile client harms only
//! itself, and the certificate follows its file.

use crate::fake::{Mood, Running};
use crate::second_class::unsent_bytes;
use gate::Config;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName},
        version::{TLS12, TLS13},
    },
};

const NAME: &str = "shop.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// A self-signed certificate, and how long it is valid.
pub(crate) struct Made {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

pub(crate) fn make(until_year: i32) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

pub(crate) fn put(dir: &Path, made: &Made) {
    fs::write(dir.join("shop.pem"), &made.certificate).unwrap();
    put_key(dir, &made.key);
}

fn put_key(dir: &Path, key: &str) {
    fs::write(dir.join("shop.key"), key).unwrap();
    fs::set_permissions(dir.join("shop.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A gate with a TLS listener, and the files of its certificate.
struct Shop {
    running: Running,
    made: Made,
    files: tempfile::TempDir,
}

pub(crate) fn with_files(config: &mut Config, files: &Path) {
    config.tls.listen = "127.0.0.1:0".into();
    config.tls.certificate_file = files.join("shop.pem").display().to_string();
    config.tls.key_file = files.join("shop.key").display().to_string();
}

impl Shop {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let (files, made) = (tempfile::tempdir().unwrap(), make(2040));
        put(files.path(), &made);
        let running = Running::start(true, true, |config| {
            with_files(config, files.path());
            change(config);
        });
        Self { running, made, files }
    }

    fn at(&self) -> SocketAddr {
        self.running.bound.tls.unwrap()
    }

    fn client(&self, protocol: &str) -> Arc<ClientConfig> {
        client(&[&self.made], protocol)
    }

    fn metric(&self, name: &str) -> u64 {
        let answer = crate::client::send(self.running.bound.admin, "GET", "/metrics", &[], "");
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name}"))
    }

    fn wait_for_metric(&self, name: &str, want: u64) {
        let began = Instant::now();
        while self.metric(name) != want {
            assert!(began.elapsed() < PATIENCE, "{name} is {}, want {want}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn client(known: &[&Made], protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    known.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    NAME.try_into().unwrap()
}

/// A connection on which bytes are written by hand.
pub(crate) fn raw(
    at: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name()).unwrap(), socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

async fn connect(at: SocketAddr, config: Arc<ClientConfig>) -> TlsStream<tokio::net::TcpStream> {
    let socket = tokio::net::TcpStream::connect(at).await.unwrap();
    TlsConnector::from(config).connect(name(), socket).await.unwrap()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(format!("https://{NAME}{path}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

type Said = (StatusCode, http::HeaderMap, String);

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn new(shop: &Shop, protocol: &str) -> Self {
        let stream = connect(shop.at(), shop.client(protocol)).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        let io = TokioIo::new(stream);
        if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            return Self::Two(sender);
        }
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self::One(sender)
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Said {
        let answer = match self {
            Self::One(sender) => {
                request.headers_mut().insert("host", NAME.parse().unwrap());
                *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
            Self::Two(sender) => sender.send_request(request).await,
        };
        let (parts, body) = answer.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap()
}

/// Buys a phone: reads the sale's document, sends an attempt, and reads its outcome.
async fn buys(shop: &Shop, protocol: &str, shopper: &str) {
    let mut sender = Sender::new(shop, protocol).await;
    let (status, headers, body) = sender.send(request("GET", "/api/v1/sales/demo", &[], "")).await;
    assert_eq!((status, &headers["cache-control"]), (StatusCode::OK, &"public, max-age=1".parse().unwrap()));
    let url = json(&body)["attempts_url"].as_str().unwrap().to_owned();
    let token = format!("Bearer {}", shop.running.token(shopper));
    let passes = request("POST", "/api/v1/sales/demo/passes", &[("authorization", &token)], "");
    let (_, _, body) = sender.send(passes).await;
    let pass = json(&body)["pass"].as_str().unwrap().to_owned();
    let headers =
        [("floodgate-pass", &*pass), ("idempotency-key", "one"), ("content-type", "application/json")];
    let basket = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
    let (status, _, first) = sender.send(request("POST", &url, &headers, basket)).await;
    assert_eq!((status, json(&first)["outcome"].as_str()), (StatusCode::OK, Some("granted")), "{first}");
    let (_, _, again) = sender.send(request("POST", &url, &headers, basket)).await;
    assert_eq!(json(&again)["attempt"], json(&first)["attempt"]);
    // Refusals and pages look as they do on the other listener.
    let (status, headers, body) = sender.send(request("POST", &url, &[], "")).await;
    assert_eq!(
        (status, json(&body)["type"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("/problems#pass-missing"))
    );
    assert_eq!(headers["content-type"], "application/problem+json");
    let (status, headers, body) = sender.send(request("GET", "/sales/demo", &[], "")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("Launch"), "{body}");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
}

#[test]
fn a_purchase_works_over_http1_and_http2() {
    let shop = Shop::start(|_| {});
    block_on(buys(&shop, "http/1.1", "alice"));
    block_on(buys(&shop, "h2", "bob"));
    assert_eq!(shop.metric("floodgate_gate_answers_total{outcome=\"granted\"}"), 4, "each asked twice");
    shop.wait_for_metric("floodgate_gate_connections", 0);
    assert_eq!(shop.metric("floodgate_gate_certificate_expires_seconds"), 2_208_988_800, "2040-01-01");
}

#[test]
fn hsts_is_sent_only_if_the_public_origin_is_https() {
    for (origin, want) in [("", false), ("http://shop.test", false), ("https://shop.test", true)] {
        let shop = Shop::start(|config| config.public_origin = origin.into());
        let (_, headers, _) = block_on(async {
            let mut sender = Sender::new(&shop, "h2").await;
            sender.send(request("GET", "/api/v1/sales/demo", &[], "")).await
        });
        assert_eq!(headers.contains_key("strict-transport-security"), want, "{origin:?}");
        let in_clear = crate::client::send(shop.running.bound.shop, "GET", "/sales/demo", &[], "");
        assert_eq!(in_clear.header("strict-transport-security"), None, "RFC 6797, section 7.2");
    }
}

#[test]
fn a_client_that_speaks_no_tls_does_not_affect_others() {
    let shop = Shop::start(|config| config.tls.handshake_timeout_seconds = 1);
    // A client that sends nothing at all is cut off as well.
    for bytes in [&b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"[..], &[0x16, 3, 1, 0, 200, 1], &[0xff; 4096], b""]
    {
        let mut socket = TcpStream::connect(shop.at()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut said = Vec::new();
        // The connection is reset or closed, but not left open.
        let end = socket.read_to_end(&mut said);
        let kind = end.err().map(|e| e.kind());
        assert!(matches!(kind, None | Some(std::io::ErrorKind::ConnectionReset)), "{kind:?}");
        assert!(said.len() < 16, "at most an alert: {said:?}");
    }
    shop.wait_for_metric("floodgate_gate_tls_handshakes_failed_total", 4);
    shop.wait_for_metric("floodgate_gate_connections", 0);
    block_on(buys(&shop, "h2", "alice"));
}

#[test]
fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let shop = Shop::start(|_| {});
    let (new, third) = (make(2041), make(2042));
    let config = client(&[&shop.made, &new, &third], "h2");
    let served = || {
        let stream = raw(shop.at(), Arc::clone(&config)).unwrap();
        stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let stays = |stream: &mut Sender| {
        let (status, ..) = block_on(stream.send(request("GET", "/api/v1/sales/demo", &[], "")));
        assert_eq!(status, StatusCode::OK);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut before = runtime.block_on(Sender::new(&shop, "h2"));
    assert_eq!(served(), shop.made.der);
    put(shop.files.path(), &new);
    shop.wait_for_metric("floodgate_gate_certificate_expires_seconds", 2_240_611_200);
    assert_eq!(served(), new.der);
    stays(&mut before);

    // Neither a certificate without its key, nor a broken one, nor a key that others can read is
    // used: the old pair stays in use. A valid pair after them is used, which shows that they were
    // read.
    let broken: [&dyn Fn(); 4] = [
        &|| fs::write(shop.files.path().join("shop.pem"), &third.certificate).unwrap(),
        &|| fs::write(shop.files.path().join("shop.pem"), "no certificate").unwrap(),
        &|| fs::remove_file(shop.files.path().join("shop.pem")).unwrap(),
        &|| {
            fs::set_permissions(shop.files.path().join("shop.key"), fs::Permissions::from_mode(0o644))
                .unwrap()
        },
    ];
    for (n, break_it) in broken.iter().enumerate() {
        break_it();
        shop.wait_for_metric("floodgate_gate_certificate_failures_total", n as u64 + 1);
        assert_eq!(served(), new.der);
    }
    put(shop.files.path(), &third);
    shop.wait_for_metric("floodgate_gate_certificate_expires_seconds", 2_272_147_200);
    assert_eq!(served(), third.der);
}

#[test]
fn a_start_with_bad_certificate_files_says_what_is_wrong() {
    let (files, made, other) = (tempfile::tempdir().unwrap(), make(2040), make(2040));
    let path = |name: &str| files.path().join(name);
    let check = |break_it: &dyn Fn(), want: &[&str]| {
        put(files.path(), &made);
        break_it();
        let error = Running::try_start(true, true, |config| with_files(config, files.path())).err();
        let said = error.expect("it started").to_string();
        assert!(want.iter().all(|part| said.contains(part)), "{said}: want {want:?}");
        assert!(!said.contains("PRIVATE"), "{said}");
    };
    let write = |name: &'static str, text: String| move || fs::write(path(name), &text).unwrap();
    check(
        &|| fs::remove_file(path("shop.pem")).unwrap(),
        &["gate.tls.certificate_file", "shop.pem", "No such file"],
    );
    check(&|| fs::remove_file(path("shop.key")).unwrap(), &["gate.tls.key_file", "shop.key", "No such file"]);
    let mode = || fs::set_permissions(path("shop.key"), fs::Permissions::from_mode(0o644)).unwrap();
    check(&mode, &["gate.tls.key_file", "shop.key", "mode 644 lets others in: chmod 600 it"]);
    check(&write("shop.key", other.key.clone()), &["shop.key", "does not fit", "shop.pem"]);
    check(&write("shop.key", made.certificate.clone()), &["shop.key", "no private key"]);
    check(&write("shop.pem", made.key.clone()), &["shop.pem", "no certificate"]);
    let torn = made.certificate.replace("-----END", "-----END OF");
    check(&write("shop.pem", torn), &["gate.tls.certificate_file", "shop.pem"]);
    let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned();
    check(&write("shop.pem", empty), &["shop.pem", "cannot be read"]);
}

#[test]
fn connection_limits_count_both_listeners_together() {
    let check = |change: &dyn Fn(&mut Config)| {
        let (files, made) = (tempfile::tempdir().unwrap(), make(2040));
        put(files.path(), &made);
        let running = Running::start(true, false, |config| {
            with_files(config, files.path());
            change(config);
        });
        let shop = Shop { running, made, files };
        let held = raw(shop.at(), shop.client("h2")).unwrap();
        let in_clear = TcpStream::connect(shop.running.bound.shop).unwrap();
        shop.wait_for_metric("floodgate_gate_connections", 2);
        assert!(raw(shop.at(), shop.client("h2")).is_err(), "a third connection");
        let mut third = TcpStream::connect(shop.running.bound.shop).unwrap();
        third.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(third.read(&mut [0; 1]).unwrap_or(0) == 0, "closed as it came");
        drop((held, in_clear));
        shop.wait_for_metric("floodgate_gate_connections", 0);
        block_on(buys(&shop, "h2", "alice"));
    };
    check(&|config| config.limits.address_connections_max = 2);
    check(&|config| config.connections.open_max = 2);
}

#[test]
fn requests_over_tls_count_towards_the_address_limit() {
    let shop = Shop::start(|config| {
        (config.limits.address_per_second, config.limits.address_burst) = (1, 3);
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    let statuses = block_on(async {
        let mut sender = Sender::new(&shop, "h2").await;
        let mut statuses = Vec::new();
        for address in ["203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2"] {
            let path = "/api/v1/sales/demo/attempts";
            let (status, ..) = sender.send(request("GET", path, &[("x-forwarded-for", address)], "")).await;
            statuses.push(status.as_u16());
        }
        statuses
    });
    assert_eq!(statuses, [401, 401, 401, 429, 401]);
}

#[test]
fn slow_readers_over_tls_hold_little_in_the_kernel() {
    let shop = Shop::start(|config| {
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    });
    for path in ["/api/v1/openapi.json", "/api/v1/sales/demo"] {
        const READERS: u64 = 5;
        let slow: Vec<_> = (0..READERS)
            .map(|_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_recv_buffer_size(4096).unwrap();
                socket.connect(&shop.at().into()).unwrap();
                let socket = TcpStream::from(socket);
                let mut stream =
                    StreamOwned::new(ClientConnection::new(shop.client("http/1.1"), name()).unwrap(), socket);
                stream.conn.complete_io(&mut stream.sock).unwrap();
                stream.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
                let many = format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n").repeat(5000);
                let _ = stream.write_all(many.as_bytes());
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let each = unsent_bytes(shop.at().port()) / READERS;
        assert!(each > 1000 && each < 512 << 10, "{path}: {each} bytes for each slow reader");
        drop(slow);
        // Another client is served as ever.
        shop.wait_for_metric("floodgate_gate_connections", 0);
        block_on(buys(&shop, "http/1.1", path));
        shop.wait_for_metric("floodgate_gate_connections", 0);
    }
}

#[test]
fn a_head_over_tls_that_is_too_large_is_refused() {
    let shop = Shop::start(|_| {});
    let bomb = "x".repeat(9000);
    for protocol in ["http/1.1", "h2"] {
        let (status, ..) = block_on(async {
            let mut sender = Sender::new(&shop, protocol).await;
            sender.send(request("GET", "/sales/demo", &[("x-bomb", &bomb)], "")).await
        });
        assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{protocol}");
    }
    block_on(buys(&shop, "h2", "alice"));
}

/// HTTP/2 by hand (RFC 9113, section 4.1).
mod frames {
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const ENHANCE_YOUR_CALM: u32 = 11;

    pub fn preface() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
    }

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Literals without indexing (RFC 7541, section 6.2.2).
    pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.push(0);
            for text in [name, value] {
                match text.len() {
                    len @ 0..127 => out.push(len as u8),
                    len => {
                        out.push(127);
                        let rest = len - 127;
                        assert!(rest < 1 << 14);
                        if rest < 128 {
                            out.push(rest as u8);
                        } else {
                            out.extend([(rest & 127 | 128) as u8, (rest >> 7) as u8]);
                        }
                    }
                }
                out.extend(text.as_bytes());
            }
        }
        out
    }
}

/// Frames until the server ends the connection or `enough` says so.
fn read_frames(
    stream: &mut StreamOwned<ClientConnection, TcpStream>,
    mut enough: impl FnMut(&[(u8, u32, Vec<u8>)]) -> bool,
) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut head = [0; 9];
    while !enough(&frames) && stream.read_exact(&mut head).is_ok() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((head[3], id, payload));
    }
    frames
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[payload.len().min(8) - 4..][..4].try_into().unwrap())
}

#[test]
fn http2_streams_beyond_the_limit_are_refused_and_more_end_the_connection() {
    let shop = Shop::start(|config| config.tls.streams_max = 8);
    let token = format!("Bearer {}", shop.running.token("alice"));
    let fields = frames::fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/api/v1/sales/demo/passes"),
        (":authority", NAME),
        ("authorization", &token),
    ]);
    let mut stream = raw(shop.at(), shop.client("h2")).unwrap();
    // Their bodies do not arrive, so they stay open.
    let open = |ids: std::ops::Range<u32>| -> Vec<u8> {
        ids.flat_map(|n| frames::frame(frames::HEADERS, frames::END_HEADERS, 2 * n + 1, &fields)).collect()
    };
    stream.write_all(&[frames::preface(), open(0..12)].concat()).unwrap();
    let resets = |frames: &[(u8, u32, Vec<u8>)]| {
        frames.iter().filter(|(kind, ..)| *kind == frames::RST_STREAM).count()
    };
    let seen = read_frames(&mut stream, |frames| resets(frames) == 4);
    let refused: Vec<(u32, u32)> = seen
        .iter()
        .filter(|(kind, ..)| *kind == frames::RST_STREAM)
        .map(|(_, id, payload)| (*id, code(payload)))
        .collect();
    let want: Vec<(u32, u32)> = (8..12).map(|n| (2 * n + 1, frames::REFUSED_STREAM)).collect();
    assert_eq!(refused, want);
    stream.write_all(&open(12..112)).unwrap();
    let seen = read_frames(&mut stream, |_| false);
    let last = seen.iter().rfind(|(kind, ..)| *kind == frames::GOAWAY).expect("a GOAWAY");
    assert_eq!(code(&last.2), frames::ENHANCE_YOUR_CALM);
    shop.wait_for_metric("floodgate_gate_connections", 0);
}

#[test]
fn a_client_that_keeps_resetting_http2_streams_is_cut_off() {
    let shop = Shop::start(|_| {});
    let fields = frames::fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/api/v1/sales/demo"),
        (":authority", NAME),
    ]);
    let flags = frames::END_HEADERS | frames::END_STREAM;
    let storm = (0..100).flat_map(|n| {
        let id = 2 * n + 1;
        let reset = frames::frame(frames::RST_STREAM, 0, id, &frames::CANCEL.to_be_bytes());
        [frames::frame(frames::HEADERS, flags, id, &fields), reset].concat()
    });
    let mut stream = raw(shop.at(), shop.client("h2")).unwrap();
    stream.write_all(&frames::preface().into_iter().chain(storm).collect::<Vec<_>>()).unwrap();
    let seen = read_frames(&mut stream, |_| false);
    let last = seen.iter().rfind(|(kind, ..)| *kind == frames::GOAWAY).expect("a GOAWAY");
    assert_eq!(code(&last.2), frames::ENHANCE_YOUR_CALM);
    shop.wait_for_metric("floodgate_gate_connections", 0);
    block_on(buys(&shop, "h2", "alice"));
}

#[test]
fn an_idle_http2_connection_is_closed() {
    let shop = Shop::start(|config| {
        config.connections.header_timeout_seconds = 1;
        config.connections.idle_timeout_seconds = 1;
    });
    // Before a first request, and after one; with a GOAWAY, except for a client that has sent
    // nothing.
    let get = frames::fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/api/v1/sales/demo"),
        (":authority", NAME),
    ]);
    let flags = frames::END_HEADERS | frames::END_STREAM;
    for first in [vec![], frames::preface(), [frames::preface(), frames::frame(1, flags, 1, &get)].concat()] {
        let mut stream = raw(shop.at(), shop.client("h2")).unwrap();
        stream.write_all(&first).unwrap();
        let seen = read_frames(&mut stream, |_| false);
        let said_goodbye = seen.iter().any(|(kind, ..)| *kind == frames::GOAWAY);
        assert!(said_goodbye || first.is_empty(), "{seen:?}");
        shop.wait_for_metric("floodgate_gate_connections", 0);
    }
}

#[test]
fn a_drain_sends_goaway_and_lets_http2_streams_finish() {
    let mut shop = Shop::start(|config| config.decision_wait_ms = 1500);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    shop.running.sale.set_mood(Mood::Silent);
    let (asked, connection) = runtime.block_on(async {
        let stream = connect(shop.at(), shop.client("h2")).await;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut ask = async |request| {
            let answer = sender.send_request(request).await.unwrap();
            json(std::str::from_utf8(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
        };
        let sale = ask(request("GET", "/api/v1/sales/demo", &[], "")).await;
        let token = format!("Bearer {}", shop.running.token("alice"));
        let pass = ask(request("POST", "/api/v1/sales/demo/passes", &[("authorization", &token)], "")).await;
        let headers = [
            ("floodgate-pass", pass["pass"].as_str().unwrap()),
            ("idempotency-key", "one"),
            ("content-type", "application/json"),
        ];
        let basket = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        let attempt = request("POST", sale["attempts_url"].as_str().unwrap(), &headers, basket);
        let asked = tokio::spawn(async move {
            let answer = sender.send_request(attempt).await.unwrap();
            let status = answer.status();
            answer.into_body().collect().await.unwrap();
            status
        });
        (asked, connection)
    });
    // The attempt has reached the sale once the sale was asked for its place in the queue; until
    // then a drain may come before it.
    let began = Instant::now();
    while shop.running.sale.asked() == 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    shop.running.stop();
    assert_eq!(block_on(asked).unwrap(), StatusCode::ACCEPTED, "the open stream was answered");
    block_on(connection).unwrap().expect("the connection ended without an error");
    assert!(raw(shop.at(), shop.client("h2")).is_err(), "the listener is closed");
}

#[test]
fn requests_over_tls_that_arrived_before_a_stop_are_all_answered() {
    const REQUESTS: usize = 64;
    for round in 0..3 {
        for protocol in ["http/1.1", "h2"] {
            let mut shop = Shop::start(|config| {
                config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
            });
            let get = frames::fields(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/problems"),
                (":authority", NAME),
            ]);
            let flags = frames::END_HEADERS | frames::END_STREAM;
            let request = match protocol {
                "h2" => [frames::preface(), frames::frame(frames::HEADERS, flags, 1, &get)].concat(),
                _ => b"GET /problems HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            };
            let mut streams: Vec<_> =
                (0..REQUESTS).map(|_| raw(shop.at(), shop.client(protocol)).unwrap()).collect();
            streams.iter_mut().for_each(|stream| stream.write_all(&request).unwrap());
            std::thread::sleep(Duration::from_micros(300 * round));
            shop.running.tell_to_stop();
            let mut answered = 0;
            for stream in &mut streams {
                let is_answered = match protocol {
                    "h2" => {
                        let ends = |frames: &[(u8, u32, Vec<u8>)]| {
                            frames.iter().any(|(kind, id, _)| (*kind, *id) == (frames::HEADERS, 1))
                        };
                        ends(&read_frames(stream, ends))
                    }
                    _ => {
                        let mut said = Vec::new();
                        // rustls reports an end without a farewell as an error.
                        let _ = stream.read_to_end(&mut said);
                        said.starts_with(b"HTTP/1.1 200")
                    }
                };
                answered += usize::from(is_answered);
            }
            assert_eq!(answered, REQUESTS, "{protocol}, round {round}");
            shop.running.stop();
        }
    }
}
