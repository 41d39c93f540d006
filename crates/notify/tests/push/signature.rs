//! The request: its line, its headers, and the signatures of Standard Webhooks.

use crate::endpoint::{BODY, ID, NO_CONTENT, NOW, Server, message, push, pusher};
use http::{HeaderName, HeaderValue};
use notify::push::{Failure, Outcome};

/// What the package `standardwebhooks` (PyPI) signs for this id, time, body and secret.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[tokio::test]
async fn the_request_is_signed_as_standard_webhooks_has_it() {
    let server = Server::answering(NO_CONTENT).await;
    push(&pusher(|_| {}), &server).await;
    let request = server.seen.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /hook?a=b HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "content-length: 20",
            "content-type: application/json",
            &format!("host: {}", server.address),
            &format!("user-agent: Floodgate-Notify/{}", env!("CARGO_PKG_VERSION")),
            &format!("webhook-id: {ID}"),
            &format!("webhook-signature: {SIGNATURE}"),
            "webhook-timestamp: 1614265330",
            "x-shop: 7",
        ]
    );
    assert_eq!(body, BODY);
}

#[tokio::test]
async fn each_secret_signs_the_newest_first_and_four_at_most() {
    let server = Server::answering(NO_CONTENT).await;
    let pusher = pusher(|_| {});
    let mut endpoint = server.endpoint();
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    endpoint.secrets.insert(0, other);
    for (count, want) in [(0, 0), (2, 2), (5, 4)] {
        let mut of_count = endpoint.clone();
        of_count.secrets = endpoint.secrets.iter().cycle().take(count).cloned().collect();
        pusher.push(&of_count, &message(), NOW).await;
        let request = server.seen.requests().pop().unwrap();
        let signatures = request.lines().find_map(|line| line.strip_prefix("webhook-signature: "));
        let signatures: Vec<&str> = signatures.unwrap_or_default().split_whitespace().collect();
        assert_eq!(signatures.len(), want);
        assert!(signatures.get(1).is_none_or(|second| *second == SIGNATURE));
        assert!(signatures.first().is_none_or(|first| first.starts_with("v1,") && *first != SIGNATURE));
    }
}

#[tokio::test]
async fn a_message_cannot_change_the_framing_or_its_own_names() {
    let server = Server::answering(NO_CONTENT).await;
    let mut message = message();
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("content-length", "0"),
        ("connection", "close"),
        ("expect", "100-continue"),
        ("host", "elsewhere.example"),
        ("webhook-id", "other"),
        ("webhook-signature", "v1,none"),
    ] {
        message.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    let attempt = pusher(|_| {}).push(&server.endpoint(), &message, NOW).await;
    assert_eq!(attempt.outcome, Outcome::Accepted { status: 204 });
    let request = server.seen.requests().remove(0);
    for (name, count) in [
        ("transfer-encoding:", 0),
        ("connection:", 0),
        ("expect:", 0),
        ("content-length: 20", 1),
        ("content-length:", 1),
        ("host: 127.0.0.1", 1),
        ("host:", 1),
        ("webhook-id:", 1),
        ("webhook-signature:", 1),
        ("v1,none", 0),
    ] {
        assert_eq!(request.matches(name).count(), count, "{name} in {request}");
    }
}

#[tokio::test]
async fn an_id_that_would_blur_what_is_signed_is_not_sent() {
    let server = Server::answering(NO_CONTENT).await;
    let pusher = pusher(|_| {});
    for id in ["", "a.b", "a b", "a\r\nx: y", "é", &"a".repeat(257)] {
        let mut message = message();
        message.id = id.to_owned();
        let attempt = pusher.push(&server.endpoint(), &message, NOW).await;
        assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Protocol(_))), "{id:?}: {attempt:?}");
    }
    assert_eq!(server.seen.accepted(), 0);
}
