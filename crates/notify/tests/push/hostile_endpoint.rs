//! Endpoints that are slow, endless, silent or wrong cost a bounded time and a bounded number of
//! bytes.

use crate::endpoint::{Peer, Server, push, pusher};
use notify::push::{Attempt, Failure, Outcome, Pusher};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::io::AsyncWriteExt;

const TOTAL_MS: u64 = 500;
/// What a push may take beyond its time on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(10);

fn quick() -> Pusher {
    pusher(|settings| settings.total_ms = TOTAL_MS)
}

async fn push_in_time(pusher: &Pusher, server: &Server) -> Attempt {
    let started = Instant::now();
    let attempt = push(pusher, server).await;
    assert!(started.elapsed() < Duration::from_millis(TOTAL_MS) + SLACK, "{attempt:?}");
    attempt
}

/// Sends the beginning, and the rest again and again with a pause between. Counts the bytes.
async fn endless(begin: &'static str, rest: &'static str, pause_ms: u64) -> (Server, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::start(move |mut peer: Peer| {
        let sent = Arc::clone(&counted);
        async move {
            peer.request().await;
            peer.send(begin).await;
            while let Ok(bytes) = peer.stream.write(rest.as_bytes()).await {
                sent.fetch_add(bytes, SeqCst);
                if pause_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
        }
    })
    .await;
    (server, sent)
}

#[tokio::test]
async fn no_answer_is_a_timeout_that_names_the_phase() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let attempt = push_in_time(&quick(), &server).await;
    assert_eq!(attempt.outcome, Outcome::Failed(Failure::TimedOut("response")));
    assert!(attempt.took >= Duration::from_millis(TOTAL_MS));
}

#[tokio::test]
async fn a_head_that_drips_is_a_timeout() {
    let (server, _) = endless("HTTP/1.1 200 OK\r\nx: ", "a", 50).await;
    let attempt = push_in_time(&quick(), &server).await;
    assert_eq!(attempt.outcome, Outcome::Failed(Failure::TimedOut("response")));
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_time_and_the_status_counts() {
    let (server, _) = endless("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", "a", 50).await;
    let attempt = push_in_time(&quick(), &server).await;
    assert_eq!(attempt.outcome, Outcome::Accepted { status: 200 });
    assert!(attempt.excerpt.starts_with('a'), "{attempt:?}");
}

#[tokio::test]
async fn a_gigabyte_is_not_read() {
    const BLOCK: &str = match str::from_utf8(&[b'a'; 64 * 1024]) {
        Ok(block) => block,
        Err(_) => panic!(),
    };
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3B9ACA00\r\n",
    ] {
        let (server, sent) = endless(head, BLOCK, 0).await;
        let attempt = push_in_time(&pusher(|_| {}), &server).await;
        assert_eq!(attempt.outcome, Outcome::Accepted { status: 200 });
        assert_eq!(attempt.excerpt, "a".repeat(512));
        // Most of it in the buffers of the two sockets.
        let sent = sent.load(SeqCst);
        assert!(sent < 50_000_000, "{head}: {sent} bytes");
    }
}

#[tokio::test]
async fn endless_heads_and_what_is_no_http_are_failures_of_the_protocol() {
    for (begin, rest) in [
        ("HTTP/1.1 200 OK\r\n", "x-more: and more\r\n"),
        (
            "HTTP/1.1 200 OK\r\nx: ",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "SSH-2.0-OpenSSH_9.6\r\n"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "a"),
    ] {
        let (server, _) = endless(begin, rest, 0).await;
        let attempt = push(&pusher(|_| {}), &server).await;
        assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Protocol(_))), "{begin}: {attempt:?}");
        assert!(attempt.took < SLACK, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_at_once_is_a_failure_and_not_repeated() {
    for is_read in [false, true] {
        let server = Server::start(move |mut peer| async move {
            if is_read {
                peer.request().await;
            }
        })
        .await;
        let attempt = push(&pusher(|_| {}), &server).await;
        assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Protocol(_))), "{attempt:?}");
        assert_eq!(server.seen.accepted(), 1);
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_failure_to_connect() {
    let server = Server::answering("").await;
    let endpoint = server.endpoint();
    let address = server.address;
    drop(server);
    tokio::task::yield_now().await;
    let attempt = pusher(|_| {}).push(&endpoint, &crate::endpoint::message(), crate::endpoint::NOW).await;
    let Outcome::Failed(Failure::Connect(why)) = attempt.outcome else { panic!("{attempt:?}") };
    assert!(why.starts_with(&address.to_string()), "{why}");
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_the_status_and_closes_the_connection() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await;
    })
    .await;
    let pusher = pusher(|_| {});
    for accepted in 1..=2 {
        let attempt = push(&pusher, &server).await;
        assert_eq!(attempt.outcome, Outcome::Accepted { status: 200 });
        assert_eq!((&*attempt.excerpt, server.seen.accepted()), ("short", accepted));
    }
}
