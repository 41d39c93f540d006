//! Every head that the fuzzer starts from or found, and thousands near them, go through the check that the fuzz target makes; and
//! through hyper, which must find in a plain request what the gate finds in it.

#[path = "../../../fuzz/checks/request_head.rs"]
mod request_head;

use gate::wire::head::{Form, Parsed, hot_route, parse};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::io::AsyncWriteExt;
use units::Prng;

fn corpus() -> Vec<Vec<u8>> {
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "request_head"].iter().collect();
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Requests near those of the corpus. Pieces are what a head is made of, so that a change is often still one.
fn mutants(count: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    const PIECES: [&[u8]; 20] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b": ",
        b" ",
        b"\t",
        b"Host: b\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b" folded\r\n",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"X: \xff\r\n",
        b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let corpus = corpus();
    let mut prng = Prng::new(seed);
    (0..count).map(move |_| {
        let mut bytes = prng.pick(&corpus).clone();
        for _ in 0..1 + prng.below(3) {
            let at = prng.below(bytes.len() as u64 + 1) as usize;
            // Where a line begins, most of the time: elsewhere a piece is seldom a field.
            let line = bytes[..at].windows(2).rposition(|pair| pair == b"\r\n").map_or(0, |begin| begin + 2);
            match prng.below(5) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = prng.next_u64() as u8,
                2 => drop(bytes.splice(at..at, prng.pick(&PIECES).iter().copied())),
                _ => drop(bytes.splice(line..line, prng.pick(&PIECES).iter().copied())),
            }
        }
        bytes
    })
}

#[test]
fn every_head_means_one_thing_or_is_refused() {
    let corpus = corpus();
    assert!(corpus.len() >= 8, "the corpus is not here");
    corpus.iter().for_each(|bytes| request_head::check(bytes));
    let whole = corpus.iter().filter(|bytes| matches!(parse(bytes, 8192), Parsed::Whole(_)));
    assert!((4..corpus.len()).contains(&whole.count()), "the seeds reach both ends");
    mutants(50_000, 1).for_each(|bytes| request_head::check(&bytes));
}

/// What hyper finds at the start of a connection: method, target and body of the first request.
async fn hyper_finds(bytes: &[u8]) -> Option<(String, String, Vec<u8>)> {
    let found = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&found);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            if let Ok(body) = request.into_body().collect().await {
                seen.lock().unwrap().get_or_insert((method, target, body.to_bytes().to_vec()));
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
    found.lock().unwrap().take()
}

#[tokio::test]
async fn hyper_finds_the_same_in_every_plain_request() {
    let mut compared = 0;
    for bytes in corpus().into_iter().chain(mutants(60_000, 2)) {
        let Parsed::Whole(head) = parse(&bytes, 8192) else { continue };
        let end = head.len + usize::try_from(head.body_len).unwrap_or(usize::MAX / 2);
        if head.form != Form::Plain || bytes.len() < end {
            continue;
        }
        let ours = (head.method.to_owned(), head.target.to_owned(), bytes[head.len..end].to_vec());
        let Some(theirs) = hyper_finds(&bytes).await else {
            // Of a target that is no hot route, hyper has the last word anyway.
            let hot = hot_route(head.target).is_some();
            assert!(!hot, "hyper refuses {:?}", String::from_utf8_lossy(&bytes));
            continue;
        };
        assert_eq!(theirs, ours, "{:?}", String::from_utf8_lossy(&bytes));
        compared += 1;
    }
    assert!(compared > 2000, "too few were plain: {compared}");
}

#[test]
fn a_request_split_anywhere_is_the_same_request() {
    for bytes in corpus() {
        let whole = parse(&bytes, 8192);
        for end in 0..bytes.len() {
            match (parse(&bytes[..end], 8192), &whole) {
                (Parsed::Partial, _) => {}
                (early, whole) => assert_eq!(early, *whole, "{end}"),
            }
        }
    }
}
