//! Connections are kept and used again, no more than allowed are open, and one that the endpoint
//! closed costs no message.

use crate::endpoint::{NO_CONTENT, NOW, Peer, Server, message, push, pusher, settings};
use notify::push::{Failure, Outcome, Pusher, Settings};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const ACCEPTED: Outcome = Outcome::Accepted { status: 204 };

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    for response in [
        NO_CONTENT,
        "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
        "HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad",
        "HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
    ] {
        let server = Server::answering(response).await;
        let pusher = pusher(|_| {});
        for _ in 0..20 {
            push(&pusher, &server).await;
        }
        assert_eq!((server.seen.accepted(), server.seen.requests().len()), (1, 20), "{response}");
    }
}

#[tokio::test]
async fn a_connection_that_the_endpoint_announces_to_close_is_not_kept() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let pusher = pusher(|_| {});
    for _ in 0..3 {
        assert_eq!(push(&pusher, &server).await.outcome, Outcome::Accepted { status: 200 });
    }
    assert_eq!(server.seen.accepted(), 3);
    until("open connections", || server.seen.open.load(SeqCst) == 0).await;
}

/// Answers one request on each connection, and then does this.
async fn one_answer_then<F>(then: impl Fn(Peer) -> F + Copy + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    Server::start(move |mut peer| async move {
        if peer.request().await && peer.send(NO_CONTENT).await {
            then(peer).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_in_the_meantime_is_replaced() {
    let server = one_answer_then(|peer| async move { drop(peer) }).await;
    let pusher = pusher(|_| {});
    for number in 1..=5 {
        assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
        assert_eq!(server.seen.requests().len(), number);
        until("closed connection", || server.seen.open.load(SeqCst) == 0).await;
    }
    assert_eq!(server.seen.accepted(), 5);
}

#[tokio::test]
async fn a_kept_connection_that_closes_without_an_answer_is_replaced_once() {
    let server = one_answer_then(|mut peer| async move {
        peer.request().await;
    })
    .await;
    let pusher = pusher(|_| {});
    assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
    assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
    // The first, the second in vain, the second again.
    assert_eq!((server.seen.accepted(), server.seen.requests().len()), (2, 3));

    let server = Server::start(|mut peer| async move {
        peer.request().await;
        if peer.number == 1 {
            peer.send(NO_CONTENT).await;
            peer.request().await;
        }
    })
    .await;
    assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
    let attempt = push(&pusher, &server).await;
    assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Protocol(_))), "{attempt:?}");
    assert_eq!((server.seen.accepted(), server.seen.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_kept_connection_that_closes_within_an_answer_is_a_failure() {
    let server = one_answer_then(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 2").await;
    })
    .await;
    let pusher = pusher(|_| {});
    assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
    let attempt = push(&pusher, &server).await;
    assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Protocol(_))), "{attempt:?}");
    assert_eq!((server.seen.accepted(), server.seen.requests().len()), (1, 2));
}

#[tokio::test]
async fn what_an_endpoint_says_unasked_is_no_answer_to_the_next_message() {
    let said = Arc::new(AtomicUsize::new(0));
    let of_server = Arc::clone(&said);
    let server = Server::start(move |mut peer| {
        let said = Arc::clone(&of_server);
        async move {
            peer.request().await;
            peer.send(NO_CONTENT).await;
            // Once the answer is read, and the connection kept.
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            said.fetch_add(1, SeqCst);
            peer.closed().await;
        }
    })
    .await;
    let pusher = pusher(|_| {});
    for number in 1..=3 {
        assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
        until("what is said unasked", || said.load(SeqCst) == number).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.seen.requests().len(), 3);
}

#[tokio::test]
async fn no_more_connections_are_open_than_allowed() {
    for (each_max, all_max) in [(8, 2048), (64, 8)] {
        let server = Server::start(|mut peer| async move {
            while peer.request().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
                peer.send(NO_CONTENT).await;
            }
        })
        .await;
        let pusher = Arc::new(pusher(|settings| {
            settings.connections_each_max = each_max;
            settings.connections_max = all_max;
        }));
        let pushes = (0..100).map(|_| {
            let (pusher, endpoint) = (Arc::clone(&pusher), server.endpoint());
            tokio::spawn(async move { pusher.push(&endpoint, &message(), NOW).await.outcome })
        });
        let pushes: Vec<_> = pushes.collect();
        for push in pushes {
            assert_eq!(push.await.unwrap(), ACCEPTED);
        }
        assert_eq!(server.seen.requests().len(), 100);
        assert!(server.seen.open_max.load(SeqCst) <= 8, "{:?}", server.seen.open_max);
        if each_max == 8 {
            assert_eq!(server.seen.accepted(), 8);
        }
    }
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another_endpoint() {
    let pusher = pusher(|settings| settings.connections_max = 2);
    let mut servers = Vec::new();
    for _ in 0..5 {
        servers.push(Server::answering(NO_CONTENT).await);
    }
    for server in servers.iter().chain(&servers) {
        assert_eq!(push(&pusher, server).await.outcome, ACCEPTED);
    }
    let open = || servers.iter().map(|server| server.seen.open.load(SeqCst)).sum::<usize>();
    until("two open connections", || open() == 2).await;
}

#[tokio::test]
async fn those_who_deliver_for_different_callers_have_no_more_open_together_and_share_none() {
    let of_operators = pusher(|settings| settings.connections_max = 3);
    let [of_tenants, of_tests] = [(); 2].map(|()| of_operators.beside(settings()).unwrap());
    let pushers = [of_operators, of_tenants, of_tests];
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::answering(NO_CONTENT).await);
    }
    let open = || servers.iter().map(|server| server.seen.open.load(SeqCst)).sum::<usize>();
    // All keep what they have, and each makes room for the others.
    for server in &servers {
        for (at, pusher) in pushers.iter().enumerate() {
            assert_eq!(push(pusher, server).await.outcome, ACCEPTED);
            assert_eq!(server.seen.accepted(), at + 1, "a connection of its own");
        }
    }
    until("three open connections", || open() == 3).await;
    assert!(servers.iter().all(|server| server.seen.open_max.load(SeqCst) <= 3));
}

#[tokio::test]
async fn a_push_that_finds_no_room_waits_and_then_names_what_it_waited_for() {
    let silent = Server::start(|mut peer| async move { peer.closed().await }).await;
    let other = Server::answering(NO_CONTENT).await;
    let pusher = Arc::new(pusher(|settings| {
        settings.connections_each_max = 2;
        settings.connections_max = 1;
        settings.total_ms = 500;
    }));
    // Two of each endpoint have a slot, and one of these four the only connection. Once the time of
    // one that is not answered is up, that of the others is nearly up.
    let endpoints = [silent.endpoint(), other.endpoint()];
    let pushes = (0..40).map(|at| {
        let (pusher, endpoint) = (Arc::clone(&pusher), endpoints[usize::from(at >= 20)].clone());
        tokio::spawn(async move { pusher.push(&endpoint, &message(), NOW).await.outcome })
    });
    let pushes: Vec<_> = pushes.collect();
    let mut waited = 0;
    for push in pushes {
        let outcome = push.await.unwrap();
        assert!(matches!(outcome, Outcome::Failed(Failure::TimedOut(_)) | ACCEPTED), "{outcome:?}");
        waited += usize::from(outcome == Outcome::Failed(Failure::TimedOut("wait for a connection")));
    }
    assert!(waited > 0);
    assert_eq!(push(&pusher, &other).await.outcome, ACCEPTED);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = Server::answering(NO_CONTENT).await;
    let pusher = pusher(|settings| settings.idle_ms = 100);
    for accepted in 1..=2 {
        assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
        assert_eq!(server.seen.accepted(), accepted);
        until("closed connection", || server.seen.open.load(SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn a_dropped_push_and_a_dropped_pusher_close_their_connections() {
    let silent = Server::start(|mut peer| async move { peer.closed().await }).await;
    let pusher = pusher(|_| {});
    let dropped = tokio::time::timeout(Duration::from_millis(300), push(&pusher, &silent)).await;
    assert!(dropped.is_err());
    until("closed connection", || silent.seen.open.load(SeqCst) == 0).await;

    let server = Server::answering(NO_CONTENT).await;
    assert_eq!(push(&pusher, &server).await.outcome, ACCEPTED);
    drop(pusher);
    until("closed connection", || server.seen.open.load(SeqCst) == 0).await;
}

#[test]
fn settings_have_their_defaults_and_their_bounds() {
    let settings = Settings::default();
    assert_eq!((settings.connect_ms, settings.total_ms, settings.idle_ms), (5_000, 15_000, 30_000));
    assert_eq!((settings.response_bytes_max, settings.excerpt_bytes_max), (65_536, 512));
    assert_eq!((settings.connections_each_max, settings.connections_max), (64, 2_048));
    assert!(settings.allowed_networks.is_empty() && !settings.http_allowed && settings.roots.is_none());
    let error = Pusher::new(Settings { connections_max: 0, ..settings }).unwrap_err();
    assert_eq!(error.to_string(), "connections_max 0: want 1 to 65536");
}
