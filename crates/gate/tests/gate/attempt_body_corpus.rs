//! Every body that the fuzzer starts from or found, and thousands of mutations of them, pass
//! through the check of the fuzz target.

#[path = "../../../../fuzz/checks/attempt_body.rs"]
mod attempt_body;

use std::{fs, path::PathBuf};
use units::Prng;

fn corpus() -> Vec<Vec<u8>> {
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "attempt_body"].iter().collect();
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_corpus_body_is_a_basket_or_refused() {
    let corpus = corpus();
    assert!(corpus.len() >= 6, "the corpus is missing");
    corpus.iter().for_each(|body| attempt_body::check(body));
    let baskets = corpus.iter().filter(|body| gate::parse_basket(body, &attempt_body::SPEC).is_ok());
    assert!(baskets.count() >= 3, "the seeds have valid and invalid bodies");
}

#[test]
fn every_mutated_body_is_a_basket_or_refused() {
    let corpus = corpus();
    // Pieces of bodies, so that most mutations are still JSON.
    let pieces: [&[u8]; 12] =
        [b"\"", b"{", b"}", b"[", b",", b":", b"0", b"1000", b"-1", b"\\u0000", b"\"item\"", b"\xff"];
    let mut prng = Prng::new(1);
    for _ in 0..20_000 {
        let mut body = prng.pick(&corpus).clone();
        for _ in 0..1 + prng.below(3) {
            let at = prng.below(body.len() as u64 + 1) as usize;
            match prng.below(4) {
                0 => body.truncate(at),
                1 if at < body.len() => body[at] = prng.next_u64() as u8,
                2 => drop(body.splice(at..at, prng.pick(&pieces).iter().copied())),
                _ => {
                    let other = prng.pick(&corpus);
                    let from = prng.below(other.len() as u64 + 1) as usize;
                    body.truncate(at);
                    body.extend_from_slice(&other[from..]);
                }
            }
        }
        attempt_body::check(&body);
    }
}
