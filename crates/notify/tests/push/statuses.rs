//! Each status is an outcome, and a redirect is only a status.

use crate::endpoint::{Server, push, pusher};
use notify::push::Outcome;
use std::{net::IpAddr, time::Duration};

#[tokio::test]
async fn each_status_is_an_outcome() {
    let pusher = pusher(|_| {});
    let accepted = |status| Outcome::Accepted { status };
    let refused = |status, seconds: Option<u64>| Outcome::Refused {
        status,
        retry_after: seconds.map(Duration::from_secs),
    };
    for (response, outcome, excerpt) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", accepted(204), ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntook", accepted(200), "took"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            accepted(202),
            "",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nto\r\n2\r\nok\r\n0\r\n\r\n",
            accepted(200),
            "took",
        ),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\na\x1b[1m", refused(500, None), "a\u{fffd}[1m"),
        ("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", refused(429, Some(7)), ""),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: Thu, 25 Feb 2021 15:03:00 GMT\r\ncontent-length: 0\r\n\r\n",
            // The push has the time 15:02:10.999.
            Outcome::Refused { status: 429, retry_after: Some(Duration::from_millis(49_001)) },
            "",
        ),
        (
            "HTTP/1.1 503 No\r\nretry-after: 999999\r\ncontent-length: 0\r\n\r\n",
            refused(503, Some(86_400)),
            "",
        ),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", refused(410, None), ""),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            refused(101, None),
            "",
        ),
    ] {
        let server = Server::answering(response).await;
        // Twice: on a new connection, and mostly on a kept one.
        for _ in 0..2 {
            let attempt = push(&pusher, &server).await;
            assert_eq!(attempt.outcome, outcome, "{response}");
            assert_eq!(attempt.excerpt, excerpt, "{response}");
            assert_eq!(attempt.address, Some(IpAddr::from([127, 0, 0, 1])));
            assert!(attempt.took > Duration::ZERO);
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::answering(crate::endpoint::NO_CONTENT).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/", target.address);
        let response =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::answering(response.leak()).await;
        let attempt = push(&pusher(|_| {}), &server).await;
        assert_eq!(attempt.outcome, Outcome::Refused { status, retry_after: None });
    }
    assert_eq!(target.seen.accepted(), 0);
}

#[tokio::test]
async fn an_excerpt_is_cut_and_the_connection_stays_in_use() {
    let body = "ä".repeat(1000);
    let response = format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = Server::answering(response.leak()).await;
    let pusher = pusher(|settings| settings.excerpt_bytes_max = 101);
    for _ in 0..3 {
        assert_eq!(push(&pusher, &server).await.excerpt, "ä".repeat(50));
    }
    assert_eq!(server.seen.accepted(), 1);
}
