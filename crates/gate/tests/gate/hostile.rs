//! Hostile clients of the hot routes: each is answered or cut off, and no other client notices.

use crate::client::send;
use crate::fake::Running;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const SALE: &str = "/api/v1/sales/demo";
const ONE_PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;

/// A gate with timeouts of one or two seconds.
fn impatient() -> Running {
    Running::start(true, false, |config| {
        config.connections.header_timeout_seconds = 1;
        config.connections.body_timeout_seconds = 1;
        config.connections.idle_timeout_seconds = 2;
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.shopper_per_second = 0;
    })
}

fn connect(gate: &Running) -> TcpStream {
    let stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// All bytes until the server ends the connection.
fn read_to_end(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer to these bytes, on a connection that the server then closes.
fn told(gate: &Running, bytes: &[u8]) -> String {
    let mut stream = connect(gate);
    stream.write_all(bytes).unwrap();
    read_to_end(&stream)
}

/// An honest shopper reads the sale and buys.
#[track_caller]
fn others_are_served(gate: &Running) {
    let started = Instant::now();
    assert_eq!(send(gate.bound.shop, "GET", SALE, &[], "").status, 200);
    let mut stream = connect(gate);
    stream.write_all(attempt(gate, "honest", &pass_of(gate, "honest")).as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_to_end(&stream);
    assert!(answer.contains("\"outcome\":\"granted\""), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn pass(gate: &Running) -> String {
    pass_of(gate, "mallory")
}

fn pass_of(gate: &Running, shopper: &str) -> String {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let answer =
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", &bearer)], "");
    answer.json()["pass"].as_str().unwrap().to_owned()
}

fn attempt(gate: &Running, key: &str, pass: &str) -> String {
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    format!(
        "POST {url} HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{ONE_PHONE}",
        ONE_PHONE.len()
    )
}

#[test]
fn a_pipeline_of_a_thousand_is_answered_in_order() {
    let gate = impatient();
    let (pass, mut stream) = (pass(&gate), connect(&gate));
    let mut bytes = String::new();
    for n in 0..1000 {
        match n % 10 {
            3 => bytes.push_str(&attempt(&gate, &format!("k{n}"), &pass)),
            7 => bytes.push_str("GET /api/v1/sales/none HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => bytes.push_str("GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n"),
        }
        if n == 0 {
            others_are_served(&gate);
        }
    }
    bytes.push_str("GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut writer = stream.try_clone().unwrap();
    let sent = std::thread::spawn(move || writer.write_all(bytes.as_bytes()).unwrap());
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    sent.join().unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses.len(), 1001);
    for (n, status) in statuses.iter().enumerate() {
        assert_eq!(*status, if n % 10 == 7 && n < 1000 { "404" } else { "200" }, "answer {n}");
    }
    let outcomes: Vec<&str> =
        answers.split("\"outcome\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!((outcomes.len(), outcomes[0]), (100, "granted"));
    assert!(outcomes[1..].iter().all(|outcome| *outcome != "granted"), "one for each shopper: {outcomes:?}");
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    let gate = impatient();
    let (pass, mut stream) = (pass(&gate), connect(&gate));
    stream.set_nodelay(true).unwrap();
    let request = attempt(&gate, "split", &pass);
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[test]
fn an_endless_head_is_refused_and_its_connection_ends() {
    let gate = impatient();
    let bomb = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert!(told(&gate, bomb.as_bytes()).starts_with("HTTP/1.1 431 "));
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    assert!(told(&gate, line.as_bytes()).starts_with("HTTP/1.1 431 "));
    let fields = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert!(told(&gate, fields.as_bytes()).starts_with("HTTP/1.1 431 "));
    others_are_served(&gate);
}

#[test]
fn an_announced_body_of_four_gigabytes_is_refused_before_it_arrives() {
    let gate = impatient();
    let request = attempt(&gate, "k", &pass(&gate));
    let announced = request.replace("Content-Length: 41", "Content-Length: 4294967296");
    let answer = told(&gate, announced.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    // The part that was sent is not taken for a request.
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn a_request_that_could_hide_another_ends_the_connection() {
    let gate = impatient();
    let hidden = "GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 50\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length:\r\n 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "Host: b\r\n",
    ] {
        for path in [SALE, "/api/v1/sales/demo/rounds/guessed/attempts", "/"] {
            let answer = told(
                &gate,
                format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{hidden}").as_bytes(),
            );
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path} {fields:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{path} {fields:?}: {answer}");
        }
    }
    others_are_served(&gate);
}

#[test]
fn nul_cr_and_lf_in_any_field_are_refused() {
    let gate = impatient();
    // A hot route; a hot route in a rare form, which axum serves; a route of axum.
    let hot = attempt(&gate, "k", "p").replace(
        "Host: a\r\n",
        "Host: a\r\nX-Forwarded-For: 192.0.2.1\r\nOrigin: https://a\r\nConnection: keep-alive\r\n",
    );
    let rare = hot.replace("Host: a\r\n", "Host: a\r\nExpect: 100-continue\r\n");
    let cold = hot.replace(
        "Host: a\r\n",
        "Host: a\r\nAuthorization: Bearer t\r\nCookie: b=c\r\nAccept-Language: en\r\n",
    );
    let cold = format!("POST /api/v1/sales/demo/passes HTTP/1.1\r\n{}", cold.split_once("\r\n").unwrap().1);
    let mut tried = 0;
    for request in [hot, rare, cold] {
        let head = request.split_once("\r\n\r\n").unwrap().0;
        // Before and inside each value, and inside the target and each name.
        let at = head.match_indices(": ").flat_map(|(colon, _)| [colon - 1, colon + 2, colon + 3]);
        for at in at.chain([head.find("/api").unwrap(), head.find("/api").unwrap() + 3]) {
            for evil in ["\0", "\r", "\n"] {
                let bytes = [&request[..at], evil, &request[at..]].concat();
                let answer = told(&gate, bytes.as_bytes());
                let statuses: Vec<&str> =
                    answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
                assert_eq!(statuses, ["400"], "{bytes:?}: {answer}");
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried}");
    others_are_served(&gate);
}

#[test]
fn an_encoded_line_end_in_a_url_injects_no_line_into_an_answer() {
    let gate = Running::start(true, true, |config| {
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        config.return_urls = vec!["https://shop.example/".parse().unwrap()];
    });
    let end = "%0d%0aInjected:%20yes%0d%0a%0d%0a";
    for path in [
        format!("/{end}"),
        format!("/api/v1/sales/{end}"),
        format!("/api/v1/sales/demo?{end}"),
        format!("/api/v1/sales/demo/rounds/{end}/attempts"),
        format!("/api/v1/sales/demo/attempts/{end}"),
        format!("/sales/{end}"),
        format!("/sales/demo?lang={end}"),
        format!("/sales/{end}/buy"),
        format!("/?return_url=https://shop.example/{end}"),
        format!("/sales/demo?return_url=https://shop.example/{end}"),
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = told(&gate, request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 "), "{method} {path}: {answer}");
            let injected = answer.lines().any(|line| line.to_ascii_lowercase().starts_with("injected"));
            assert!(!injected, "{method} {path}: {answer}");
        }
    }
}

#[test]
fn slow_and_silent_clients_are_cut_off() {
    let gate = impatient();
    let request = attempt(&gate, "k", &pass(&gate));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    // A byte now and then does not extend the timeout.
    let drip = |sent: &str, rest: &str| {
        let mut stream = connect(&gate);
        stream.write_all(sent.as_bytes()).unwrap();
        let started = Instant::now();
        for byte in rest.bytes().cycle() {
            if stream.write_all(&[byte]).is_err() || started.elapsed() > Duration::from_secs(10) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        (started.elapsed(), read_to_end(&stream))
    };
    let (took, said) = drip("GET /", "x");
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(said, "");
    let (took, _) = drip(&format!("{head}\r\n\r\n{}", &body[..3]), " ");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let silent: Vec<TcpStream> = (0..500).map(|_| connect(&gate)).collect();
    others_are_served(&gate);
    let started = Instant::now();
    for stream in &silent {
        assert_eq!(read_to_end(stream), "");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn clients_that_vanish_midway_leave_nothing_open() {
    let gate = impatient();
    let pass = pass(&gate);
    let request = attempt(&gate, "vanished", &pass);
    for cut in (1..request.len()).step_by(7) {
        let mut stream = connect(&gate);
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
        // Closing with a linger time of 0 sends a reset.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut stream = connect(&gate);
    stream.write_all(attempt(&gate, "stays", &pass).as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let open = || {
        let figures = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
        let line = figures.lines().find(|line| line.starts_with("floodgate_gate_connections ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let started = Instant::now();
    while open() > 1 {
        assert!(started.elapsed() < Duration::from_secs(10), "{} are still open", open());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_client_that_never_reads_answers_blocks_only_itself() {
    let gate = impatient();
    let mut stream = connect(&gate);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let many = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(1000);
    // Until the server takes no more, which is soon: it keeps what it could not write, and reads
    // nothing more.
    let taken = (0..10_000).take_while(|_| stream.write_all(many.as_bytes()).is_ok()).count();
    assert!(taken < 10_000, "the server read without end");
    others_are_served(&gate);
}

#[test]
fn pipelined_requests_to_ordinary_routes_are_all_answered() {
    let gate = impatient();
    let mut stream = connect(&gate);
    // More than hyper reads at once, and then more than it answers in a row, with requests for hot
    // routes among them.
    let mut bytes = String::new();
    for n in 0..600 {
        let path = if n % 50 == 49 { SALE } else { "/nothing" };
        bytes.push_str(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    bytes.push_str("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(bytes.as_bytes()).unwrap();
    let answers = read_to_end(&stream);
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses.len(), 601);
    for (n, status) in statuses.iter().enumerate() {
        assert_eq!(*status, if n % 50 == 49 { "200" } else { "404" }, "answer {n}");
    }
}

#[test]
fn no_request_is_smuggled_after_one_to_an_ordinary_route() {
    let gate = impatient();
    let hidden = "GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n";
    for evil in [
        "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /nothing HTTP/1.1\nHost: a\n\n",
        "GET /nothing HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let answer =
            told(&gate, format!("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n{evil}{hidden}").as_bytes());
        let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["404", "400"], "{evil:?}: {answer}");
        // Nor after a body that is not read, or a chunked one: the connection ends after that
        // request.
        for body in ["Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"] {
            let answer =
                told(&gate, format!("POST /nothing HTTP/1.1\r\nHost: a\r\n{body}{evil}{hidden}").as_bytes());
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{body:?}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("connection: close"), "{body:?}: {answer}");
        }
    }
}

#[test]
fn an_attempt_after_another_request_in_a_pipeline_is_not_delayed() {
    let gate = Running::start(true, false, |config| {
        config.limits.shopper_per_second = 0;
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let pass = pass(&gate);
    let mut quickest = Duration::MAX;
    for (n, first) in ["GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), attempt(&gate, "first", &pass)]
        .iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let mut stream = connect(&gate);
        stream.write_all(first.as_bytes()).unwrap();
        let second = attempt(&gate, &format!("k{n}"), &pass)
            .replace("Host: a\r\n", "Host: a\r\nConnection: close\r\n");
        let started = Instant::now();
        stream.write_all(second.as_bytes()).unwrap();
        let answers = read_to_end(&stream);
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
        quickest = quickest.min(started.elapsed());
        if n % 2 == 1 || n == 0 {
            // An idle loop wakes up once a second: a delayed attempt would have waited until then.
            assert!(quickest < Duration::from_millis(800), "{quickest:?}");
        }
    }
}

#[test]
fn a_client_that_closes_its_sending_side_gets_the_answer_and_then_the_close() {
    let gate = Running::start(true, false, |_| {});
    let pass = pass(&gate);
    for request in [format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n"), attempt(&gate, "k", &pass)] {
        let mut stream = connect(&gate);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the connection ends, and before the idle timeout");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
