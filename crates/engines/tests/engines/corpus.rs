//! Every file that the fuzzer found, or that it starts from, goes through the check that the fuzz
//! target makes.

#[path = "../../../../fuzz/checks/log_frames.rs"]
mod log_frames;

use crate::world::{append, newest_segment, options};
use engines::embedded::{EmbeddedLog, Options, segment::FRAMES_AT};
use sim::disk::SimDisk;
use std::{fs, path::PathBuf};
use units::Prng;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "log_frames"].iter().collect();
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A segment of a few frames, without most of the zeros after them, so that a fuzzer's changes hit
/// data.
fn segment(close: bool) -> Vec<u8> {
    let disk = SimDisk::new();
    let options = Options { segment_bytes: FRAMES_AT + 640, ..options() };
    let mut log = EmbeddedLog::open(disk.clone(), options).unwrap();
    for count in [1, 2, 3] {
        append(&mut log, count).unwrap();
    }
    let disk = if close { disk } else { disk.kill() };
    drop(log);
    disk.files().remove(&newest_segment(&disk)).unwrap()
}

#[test]
fn every_corpus_file_is_read_or_refused() {
    let corpus = corpus();
    assert!(corpus.len() >= 5, "the corpus is not here");
    for (_, data) in &corpus {
        log_frames::check(data);
    }
}

#[test]
fn mutated_segments_are_read_or_refused() {
    let mut prng = Prng::new(1);
    for round in 0..3000 {
        let mut data = segment(round % 2 == 0);
        for _ in 0..1 + prng.below(4) {
            // Most of the first page is never looked at.
            let at = if prng.percent(30) { prng.below(64) } else { FRAMES_AT - 8 + prng.below(600) };
            data[at as usize] = prng.next_u64() as u8;
        }
        if prng.percent(20) {
            data.truncate(prng.below(data.len() as u64) as usize);
        }
        log_frames::check(&data);
    }
}

/// Writes the seed files again with `GOLDEN=write`.
#[test]
fn the_seed_files_are_segments_of_this_version() {
    let closed = segment(true);
    let killed = segment(false);
    let mut torn = killed.clone();
    let end = torn.iter().rposition(|&byte| byte != 0).unwrap();
    torn[end - 20..].fill(0);
    let mut flipped = killed.clone();
    flipped[FRAMES_AT as usize + 34] ^= 1;
    let header = closed[..64].to_vec();
    let seeds =
        [("closed", closed), ("killed", killed), ("torn", torn), ("flipped", flipped), ("header", header)];
    let dir: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", "log_frames"].iter().collect();
    for (name, bytes) in seeds {
        if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(dir.join(name), &bytes).unwrap();
        }
        assert!(fs::read(dir.join(name)).unwrap() == bytes, "{name}");
    }
}
