//! The heads that the fuzzer starts from or found, and thousands of mutations of them.
#![allow(unreachable_pub, reason = "each test is a crate of its own")]

use std::{fs, path::PathBuf};
use units::Prng;

pub fn corpus() -> Vec<Vec<u8>> {
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "request_head"].iter().collect();
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Mutations of the requests of the corpus. They use pieces of heads, so that the result is often
/// still a head.
pub fn mutants(count: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
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
            // Mostly at the start of a line: elsewhere a piece is seldom a field.
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
