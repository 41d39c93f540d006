//! Every header that the fuzzer starts from or found, and thousands of mutations of them, pass
//! through the check of the fuzz target.

#[path = "../../../fuzz/checks/proxy_header.rs"]
mod proxy_header;

use std::{fs, path::PathBuf};
use units::Prng;
use web::wire::proxy::{Parsed, parse};

#[test]
fn every_corpus_proxy_header_has_one_meaning_or_is_refused() {
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "proxy_header"].iter().collect();
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.into_iter().map(|path| fs::read(path).unwrap()).collect();
    corpus.iter().for_each(|bytes| proxy_header::check(bytes));
    let is_whole = |bytes: &[u8]| matches!(parse(bytes), Parsed::Whole { .. });
    let whole = corpus.iter().filter(|bytes| is_whole(bytes)).count();
    assert!(whole >= 5 && whole < corpus.len(), "the seeds have valid and invalid headers");
    let (mut prng, mut whole) = (Prng::new(1), 0);
    for _ in 0..50_000 {
        let mut bytes = prng.pick(&corpus).clone();
        // Mostly after the signature: after a change in the signature it is not a header at all.
        let at = (10 + prng.below(30) as usize).min(bytes.len() - 1);
        match prng.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, prng.next_u64() as u8),
            _ => bytes[at] = prng.next_u64() as u8,
        }
        whole += u32::from(is_whole(&bytes));
        proxy_header::check(&bytes);
    }
    assert!(whole > 5000, "too few were headers: {whole}");
}
