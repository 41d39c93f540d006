//! What protects one listener protects each: silent connections, slow readers, floods of what is
//! served without a credential, and lines that a stranger can cause.

use crate::client::send;
use crate::fake::{MEMORY_LIMIT_BYTES, Running, THREADS};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use units::{DurationMs, TimeMs};
use web::api_keys::Role;

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = (&mut &*stream).read(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn silent_connections_do_not_keep_operators_out() {
    let gate = Running::start(true, false, |config| config.connections.header_timeout_seconds = 3);
    let began = Instant::now();
    // More than may be open in all. An address has a quarter of them.
    let silent: Vec<TcpStream> = (0..1100)
        .map(|n| {
            let mut stream = connect(gate.bound.admin);
            if n % 3 == 0 {
                let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHo");
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(send(gate.bound.admin, "GET", "/healthz", &[], "").status, 200);
    }
    // Beyond a quarter of the listener's connections, those that wait for room are closed soon.
    wait("one address has a quarter", || silent.iter().filter(|stream| is_open(stream)).count() <= 256);
    // Nor does a connection that asks again and again, and is served, lose its place.
    let mut used = connect(gate.bound.admin);
    for _ in 0..3 {
        for _ in 0..30 {
            drop(connect(gate.bound.admin));
        }
        used.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(used.read(&mut [0; 2048]).unwrap() > 0);
    }
    // A connection without a first request is closed like one without the rest of its head.
    wait("closed", || !silent.iter().any(is_open));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// What keeps every thread of the shoppers busy does not keep a payment from being confirmed.
#[test]
fn operators_are_served_while_all_threads_of_shoppers_are_busy() {
    let gate = Running::start(true, false, |_| {});
    let is_over = Arc::new(AtomicBool::new(false));
    let busy = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 * THREADS {
        let (is_over, busy) = (Arc::clone(&is_over), Arc::clone(&busy));
        gate.threads.spawn(async move {
            busy.fetch_add(1, Relaxed);
            while !is_over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    wait("busy", || busy.load(Relaxed) == THREADS);
    // Served by these threads, and not by a loop.
    let shop = gate.bound.shop;
    let shopper = std::thread::spawn(move || send(shop, "GET", "/api/v1/openapi.json", &[], "").status);
    let bearer = format!("Bearer {}", gate.owner);
    let began = Instant::now();
    for path in ["/healthz", "/metrics", "/api/v1/openapi.json", "/api/v1/admin/sales/demo/stats"] {
        let answer = send(gate.bound.admin, "GET", path, &[("authorization", &bearer)], "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!shopper.is_finished(), "the threads of shoppers are busy");
    is_over.store(true, Relaxed);
    assert_eq!(shopper.join().unwrap(), 200);
}

/// The hosts of one network hold all that the network may have.
#[test]
fn silent_neighbours_do_not_keep_an_operator_out() {
    let gate = Running::start(true, false, |config| config.connections.header_timeout_seconds = 60);
    let connect_from = |host| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&gate.bound.admin.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let silent: Vec<TcpStream> = (0..600_u16).map(|n| connect_from(2 + (n % 2) as u8)).collect();
    wait("half of the listener is theirs", || silent.iter().filter(|stream| is_open(stream)).count() == 512);
    for _ in 0..20 {
        let mut operator = connect_from(4);
        operator.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut head = [0; 12];
        operator.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
}

#[test]
fn idle_connections_of_operators_are_closed_above_the_memory_mark() {
    let gate = Running::start(true, false, |config| {
        (config.connections.open_max, config.connections.threads) = (16, 1);
        config.connections.memory_mark_percent = 50;
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let idle: Vec<TcpStream> = (0..8).map(|_| connect(gate.bound.admin)).collect();
    // With few connections of shoppers none is closed.
    let shoppers: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(gate.bound.shop);
            stream.write_all(b"GET ").unwrap();
            stream
        })
        .collect();
    wait("counted", || metric(&gate, "floodgate_gate_connections") == 4);
    gate.resident_bytes.store(MEMORY_LIMIT_BYTES / 100 * 60, Relaxed);
    wait("closed", || !idle.iter().any(is_open));
    drop(shoppers);
}

fn metric(gate: &Running, line: &str) -> u64 {
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

/// Bytes that the kernel holds for this server's port and that a client has not taken.
pub(crate) fn unsent_bytes(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let at = format!(":{port:04X}");
    let rows = table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, queues) = (fields.next()?, fields.nth(2)?);
        let unsent = queues.split(':').next()?;
        local.ends_with(&at).then(|| u64::from_str_radix(unsent, 16).unwrap())
    });
    rows.sum()
}

#[test]
fn a_slow_reader_of_large_answers_holds_little_in_the_kernel() {
    let gate = Running::start(true, false, |config| {
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    });
    for (what, at, path) in [
        ("shop", gate.bound.shop, "/api/v1/openapi.json"),
        ("shop's loops", gate.bound.shop, "/api/v1/sales/demo"),
        ("admin", gate.bound.admin, "/api/v1/openapi.json"),
    ] {
        const READERS: u64 = 5;
        let slow: Vec<TcpStream> = (0..READERS)
            .map(|_| {
                let address: socket2::SockAddr = at.into();
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_recv_buffer_size(4096).unwrap();
                socket.connect(&address).unwrap();
                let mut stream = TcpStream::from(socket);
                stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
                let many = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(5000);
                let _ = stream.write_all(many.as_bytes());
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let each = unsent_bytes(at.port()) / READERS;
        assert!(each > 1000 && each < 512 << 10, "{what}: {each} bytes for each slow reader");
        drop(slow);
    }
}

#[test]
fn what_anybody_may_read_is_under_an_address_rate() {
    let gate = Running::start(true, false, |config| {
        (config.limits.address_per_second, config.limits.address_burst) = (1, 3);
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    for (n, path) in
        ["/api/v1/sales/demo", "/api/v1/sales/none", "/", "/sales/demo", "/api/v1/openapi.json", "/nothing"]
            .into_iter()
            .enumerate()
    {
        let from = format!("203.0.113.{n}");
        let ask = || send(gate.bound.shop, "GET", path, &[("x-forwarded-for", &from)], "");
        let let_in = (0..60).take_while(|_| ask().status != 429).count();
        // Ten times the burst, and what is refilled meanwhile.
        assert!((30..55).contains(&let_in), "{path}: {let_in}");
        let refused = ask();
        if refused.status == 429 {
            assert_eq!(refused.problem(), "rate-limited");
            assert!(refused.header("retry-after").is_some());
        }
    }
    // Operators read as often as they like, and those who show no key do not.
    let ask = |path: &str, key: &str| {
        let sum = path.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let from = format!("198.51.100.{sum}");
        let bearer = format!("Bearer {key}");
        let fields = [("x-forwarded-for", &*from), ("authorization", &*bearer)];
        let fields = if key.is_empty() { &fields[..1] } else { &fields[..] };
        send(gate.bound.admin, "GET", path, fields, "").status
    };
    for path in ["/healthz", "/metrics", "/api/v1/openapi.json", "/nothing", "/api/v1/admin/refusals"] {
        let let_in = (0..60).take_while(|_| ask(path, "") != 429).count();
        assert!((30..55).contains(&let_in), "{path}: {let_in}");
        // From the same address.
        assert!((0..100).all(|_| ask(path, &gate.owner) != 429), "{path}");
    }
    // A caller who guesses keys is stopped ten times as soon.
    let guesses =
        (0..60).take_while(|_| ask("/api/v1/admin/denied-networks", "fgk_boss_guess") == 401).count();
    assert!((3..10).contains(&guesses), "{guesses}");
    assert_eq!(ask("/api/v1/admin/denied-networks", &gate.owner), 200, "the operator beside them");
}

#[test]
fn a_denied_network_gets_nothing_from_the_operators_listener_without_a_key() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let owner = [("authorization", &*bearer), ("content-type", "application/json")];
    let denied = "/api/v1/admin/denied-networks";
    let link = format!("/sign-in?key={}", gate.api_keys.mint_one_time().unwrap());
    let order = r#"{"networks":["127.0.0.0/8"],"reason":"bots"}"#;
    assert_eq!(send(gate.bound.admin, "PUT", denied, &owner, order).status, 200);
    for path in ["/", "/api/v1/openapi.json", "/nothing", denied] {
        let refused = send(gate.bound.admin, "GET", path, &[], "");
        assert_eq!((refused.status, refused.problem()), (403, "address-denied".into()), "{path}");
    }
    let guess = [("authorization", "Bearer fgk_boss_guess")];
    assert_eq!(send(gate.bound.admin, "GET", denied, &guess, "").problem(), "address-denied");
    // Monitors do not take the server for dead, and no operator is locked out.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(send(gate.bound.admin, "GET", path, &[], "").status, 200, "{path}");
    }
    let signed_in = send(gate.bound.admin, "POST", &link, &[], "");
    assert_eq!(signed_in.status, 303, "{signed_in:?}");
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(send(gate.bound.admin, "GET", "/", &[("cookie", cookie)], "").status, 200);
    let allow = format!("{denied}?network=127.0.0.0/8&reason=a+mistake");
    assert_eq!(send(gate.bound.admin, "DELETE", &allow, &owner, "").status, 200);
    assert_eq!(send(gate.bound.admin, "GET", denied, &[], "").problem(), "key-missing");
}

#[test]
fn an_unreadable_file_of_keys_is_no_refusal_of_them() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let ask =
        || send(gate.bound.admin, "GET", "/api/v1/admin/sales/demo/stats", &[("authorization", &bearer)], "");
    assert_eq!(ask().status, 200);
    gate.api_keys.create("nora", Role::Operator, TimeMs(0)).unwrap();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = TimeMs(since_epoch.as_millis() as u64);
    let minted = gate.api_keys.mint_sign_in("nora", now, DurationMs(600_000)).unwrap();
    let signed_in = send(gate.bound.admin, "POST", &format!("/sign-in?key={}", minted.1), &[], "");
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = || send(gate.bound.admin, "GET", "/drafts", &[("cookie", &cookie)], "").status;
    assert_eq!(page(), 200);
    // A loop of links cannot be read, and is neither missing nor wrong.
    let file = gate.data().join("keys/admin.json");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let answer = ask();
    assert_eq!((answer.status, answer.problem()), (503, "unavailable".to_owned()), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(page(), 503, "a session is not over");
    std::fs::remove_file(&file).unwrap();
    web::secret::write_secret(&file, &kept).unwrap();
    assert_eq!((ask().status, page()), (200, 200), "tried again");
    std::fs::write(&file, "{").unwrap();
    assert_eq!((ask().status, page()), (401, 401), "a damaged file keeps no key alive");
}

#[test]
fn looking_at_a_sign_in_link_does_not_use_it_up() {
    let gate = Running::start(true, false, |_| {});
    let path = format!("/sign-in?key={}", gate.api_keys.mint_one_time().unwrap());
    for method in ["HEAD", "GET", "GET"] {
        let looked = send(gate.bound.admin, method, &path, &[], "");
        assert!(looked.status == 200 && looked.header("set-cookie").is_none(), "{looked:?}");
        assert_eq!(looked.header("cache-control"), Some("no-store"));
        let button = format!("<form method=\"post\" action=\"{path}&amp;lang=en\"><button type=\"submit\"");
        assert_eq!(looked.body.contains(&button), method == "GET", "{looked:?}");
    }
    for foreign in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "http://shop.example")]
    {
        let refused = send(gate.bound.admin, "POST", &path, &[foreign], "");
        assert_eq!(refused.problem(), "form-refused", "another site signs nobody in: {foreign:?}");
    }
    let signed_in = send(gate.bound.admin, "POST", &path, &[], "");
    let cookie = signed_in.header("set-cookie").unwrap_or_default();
    assert!(signed_in.status == 303 && cookie.starts_with("floodgate_session="), "{signed_in:?}");
    assert_eq!(send(gate.bound.admin, "POST", &path, &[], "").status, 401, "once");
    assert_eq!(send(gate.bound.admin, "GET", &path, &[], "").status, 401, "once");
}

#[test]
fn a_session_whose_pages_have_https_addresses_never_leaves_in_the_clear() {
    let gate = Running::start(true, false, |_| {});
    let path = format!("/sign-in?key={}", gate.api_keys.mint_one_time().unwrap());
    let signed_in = send(gate.bound.admin, "POST", &path, &[("origin", "https://console.shop.example")], "");
    let cookie = signed_in.header("set-cookie").unwrap_or_default();
    assert!(cookie.starts_with("__Host-floodgate_session=") && cookie.ends_with("; Secure"), "{signed_in:?}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(send(gate.bound.admin, "GET", "/", &[("cookie", cookie)], "").status, 200);
    // A proxy may keep the page's address from being sent: then only the browser's own headers say
    // that it is `https`. They come on plain HTTP too, from a page of this machine.
    for (host, is_secure) in
        [("console.shop.example", true), ("localhost:8081", false), ("[::1]:8081", false)]
    {
        let path = format!("/sign-in?key={}", gate.api_keys.mint_one_time().unwrap());
        let sent = [("origin", "null"), ("sec-fetch-site", "same-origin"), ("host", host)];
        let signed_in = send(gate.bound.admin, "POST", &path, &sent, "");
        let cookie = signed_in.header("set-cookie").unwrap_or_default();
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{host}: {signed_in:?}");
    }
    // One that has ended does not hide one that has not.
    let path = format!("/sign-in?key={}", gate.api_keys.mint_one_time().unwrap());
    let plain = send(gate.bound.admin, "POST", &path, &[], "");
    let plain = plain.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let both = format!("__Host-floodgate_session=ended; {plain}");
    assert_eq!(send(gate.bound.admin, "GET", "/", &[("cookie", &both)], "").status, 200);
}
