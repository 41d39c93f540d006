//! How a server starts, ends and comes back.

use crate::harness::{
    Server, Setup,
    http::Raw,
    run,
    shop::{self, Sale, basket, in_parallel, with},
    stderr,
};
use serde_json::json;
use std::io::Read;

#[test]
fn sigterm_lets_open_requests_end_and_exits_with_success() {
    let mut server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 1 } }));
    let sale = server.open_sale("launch", &spec);
    let [pass, waiter] = ["open", "waiter"].map(|shopper| server.pass("launch", shopper));
    let path = sale.attempts_url.split_once(&server.shop).unwrap().1;
    let body = basket(&[("phone", 1)]);
    let mut connection = Raw::connect(&server.shop);
    let headers = [&Sale::attempt_headers(&pass, "k")[..], &[("expect", "100-continue")]].concat();
    connection.head("POST", path, &headers, body.len());
    // The server has begun to read the body when it asks for it.
    let mut continued = [0; 25];
    connection.0.read_exact(&mut continued).unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.send_sigterm();
    crate::harness::poll("a closed door", || {
        std::net::TcpStream::connect(&server.shop).is_err().then_some(())
    });
    connection.write(body.as_bytes());
    let answer = connection.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"granted\""), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.errors());

    server.restart();
    let sale = server.sale("launch");
    let said = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(sale.attempt(&pass, "k", &[("phone", 1)]).body, *said);

    // Event streams that follow an attempt are ended.
    let waiting = sale.buy(&waiter, "k", "phone");
    let url = format!("{}/attempts/{}/events", sale.base, shop::text(&waiting["attempt"]));
    let mut events = sale.client.lines(&url, &[("floodgate-pass", &waiter)]);
    assert_eq!(events.next().as_deref(), Some("event: attempt"));
    server.stop();
    assert!(events.count() <= 2, "the stream has ended");
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = Server::start();
    let elsewhere = server.scratch().join("elsewhere.toml");
    let listen = "[gate]\nshop_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[notify]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&elsewhere, listen).unwrap();
    let second = run(&server.data, Some(&elsewhere), &["serve"]);
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another process has it open"), "{said}");
    assert!(said.contains(&server.data.display().to_string()), "names the directory: {said}");
    assert!(said.contains("--data"), "says what to do: {said}");
    // The first goes on.
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start();
    let taken = server.scratch().join("taken.toml");
    std::fs::write(&taken, format!("[gate]\nshop_listen = \"{}\"\n", server.shop)).unwrap();
    let second = run(&server.scratch().join("other"), Some(&taken), &["serve"]);
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("gate.shop_listen") && said.contains(&server.shop), "{said}");
}

#[test]
fn passes_urls_keys_and_answers_are_the_same_bytes_after_a_crash() {
    let settings = "\n[sale]\nsnapshot_every = 20\n".to_owned();
    let mut server = Server::with(Setup { settings, ..Setup::default() });
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 200)]));
    let passes = server.passes("launch", "crowd", 60);
    let told = in_parallel(8, &passes, |pass| sale.attempt(pass, "k", &[("phone", 1)]).body);
    let log = server.data.join("sales/launch/p0");
    crate::harness::poll("a snapshot", || {
        let mut names = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().ends_with(".snap")).then_some(())
    });
    let keys = server.client.get(&server.shop_url("/api/v1/keys")).body;
    for _ in 0..2 {
        server.kill();
        server.restart();
        let again = server.sale("launch");
        assert_eq!(again.attempts_url, sale.attempts_url, "the round's URL");
        assert_eq!(server.client.get(&server.shop_url("/api/v1/keys")).body, keys, "the signing key");
        let bodies = in_parallel(8, &passes, |pass| again.attempt(pass, "k", &[("phone", 1)]).body);
        assert_eq!(bodies, told, "passes are valid, and tickets and answers are the same bytes");
    }
    server.audit();
}
