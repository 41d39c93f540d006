//! Every head that the fuzzer starts from or found, and thousands of mutations of them, pass
//! through the check of the fuzz target; and through hyper, which must parse every plain request as
//! the gate does.

#[path = "../../../../fuzz/checks/request_head.rs"]
mod request_head;

use crate::mutants::{corpus, mutants};
use gate::hot_route;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::io::AsyncWriteExt;
use units::Prng;
use web::wire::head::{Form, Parsed, parse};

/// The fields that the gate reads in addition to those of every server.
const FIELDS: [&str; 2] = ["floodgate-pass", "idempotency-key"];

#[test]
fn every_corpus_head_has_one_meaning_or_is_refused() {
    let corpus = corpus();
    assert!(corpus.len() >= 8, "the corpus is missing");
    corpus.iter().for_each(|bytes| request_head::check(bytes));
    let whole = corpus.iter().filter(|bytes| matches!(parse(bytes, 8192, &FIELDS), Parsed::Whole(_)));
    assert!((4..corpus.len()).contains(&whole.count()), "the seeds have valid and invalid heads");
    mutants(50_000, 1).for_each(|bytes| request_head::check(&bytes));
}

/// A request's method, target and body.
type Found = (String, String, Vec<u8>);

/// What hyper finds on a connection: all requests until one is incomplete or invalid.
async fn hyper_finds(bytes: &[u8]) -> Vec<Found> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&found);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            if let Ok(body) = request.into_body().collect().await {
                seen.lock().unwrap().push((method, target, body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    // An error is one of hyper's answers.
    let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
    drop(client);
    std::mem::take(&mut *found.lock().unwrap())
}

/// What the loops find: all plain requests until the first that is not plain, and whether a request
/// was the connection's last.
fn we_find(mut bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    while let Parsed::Whole(head) = parse(bytes, 8192, &FIELDS) {
        let end = head.len + usize::try_from(head.body_len).unwrap_or(usize::MAX / 2);
        if head.form != Form::Plain || bytes.len() < end {
            break;
        }
        found.push((head.method.to_owned(), head.target.to_owned(), bytes[head.len..end].to_vec()));
        if head.close {
            break;
        }
        bytes = &bytes[end..];
    }
    found
}

#[tokio::test]
async fn hyper_parses_every_plain_request_as_the_gate_does() {
    let mut compared = 0;
    for bytes in corpus().into_iter().chain(mutants(60_000, 2)) {
        let Some(ours) = we_find(&bytes).into_iter().next() else { continue };
        let Some(theirs) = hyper_finds(&bytes).await.into_iter().next() else {
            // A target that is not a hot route is checked by hyper anyway.
            let hot = hot_route(&ours.1).is_some();
            assert!(!hot, "hyper refuses {:?}", String::from_utf8_lossy(&bytes));
            continue;
        };
        assert_eq!(theirs, ours, "{:?}", String::from_utf8_lossy(&bytes));
        compared += 1;
    }
    assert!(compared > 2000, "too few plain requests: {compared}");
}

#[tokio::test]
async fn hyper_parses_pipelined_requests_as_the_gate_does() {
    let mut prng = Prng::new(3);
    let all: Vec<Vec<u8>> = corpus().into_iter().chain(mutants(20_000, 4)).collect();
    // A target that is not a hot route is checked by hyper anyway.
    let is_hot = |found: &Found| hot_route(&found.1).is_some();
    let plain = |bytes: &&Vec<u8>| we_find(bytes).first().is_some_and(is_hot);
    let plain: Vec<&Vec<u8>> = all.iter().filter(plain).collect();
    let mut longest = [0; 5];
    for _ in 0..10_000 {
        let ahead = prng.below(4);
        let ahead = (0..ahead).flat_map(|_| prng.pick(&plain).iter().copied()).collect::<Vec<u8>>();
        let bytes = [&ahead, prng.pick(&all).as_slice()].concat();
        let ours: Vec<Found> = we_find(&bytes).into_iter().take_while(is_hot).collect();
        let theirs = hyper_finds(&bytes).await;
        let first: Vec<&Found> = theirs.iter().take(ours.len()).collect();
        assert_eq!(first, ours.iter().collect::<Vec<_>>(), "{:?}", String::from_utf8_lossy(&bytes));
        longest[ours.len().min(4)] += 1;
    }
    assert!(
        longest[..4].iter().all(|count| *count > 50),
        "pipelines by their number of requests: {longest:?}"
    );
}

#[test]
fn a_request_split_at_any_byte_parses_the_same() {
    for bytes in corpus().into_iter().chain(mutants(20_000, 5)) {
        let whole = parse(&bytes, 8192, &FIELDS);
        for end in 0..bytes.len() {
            match (parse(&bytes[..end], 8192, &FIELDS), &whole) {
                (Parsed::Partial, _) => {}
                (early, whole) => assert_eq!(early, *whole, "{end}"),
            }
        }
    }
}
