//! nats-server is killed with `kill -9` at random moments while a writer appends, and started again
//! on its store: what was acknowledged is there, once and in order, and the writer goes on.

use super::server::NatsServer;
use super::{begin, connect, insist, one, options, read_all, reopened};
use engines::log::{AppendError, Batch, Log};
use engines::nats::NatsLog;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use units::Prng;

/// Appends until told to stop, as the runtime does: waits a shortage out, and after an unknown
/// outcome reads what the log holds. Returns what was acknowledged, and how often the outcome was
/// unknown.
pub(super) fn write(mut log: NatsLog, stop: &AtomicBool, seed: u64) -> (Vec<Vec<u8>>, usize) {
    let mut prng = Prng::new(seed);
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    let mut tried = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        tried += 1;
        let entries: Vec<Vec<u8>> = (0..1 + prng.below(8))
            .map(|nth| {
                let mut entry = format!("try {tried}, entry {nth} ").into_bytes();
                entry.resize(entry.len() + prng.below(3000) as usize, b'.');
                entry
            })
            .collect();
        let mut batch = Batch::default();
        entries.iter().for_each(|entry| batch.push(entry));
        let expected = log.last();
        assert_eq!(expected.0, acknowledged.len() as u64);
        match log.append(expected, &batch) {
            Ok(last) => {
                assert_eq!(last, expected.plus(batch.count()));
                acknowledged.extend(entries);
            }
            Err(AppendError::Shortage(_)) => thread::sleep(Duration::from_millis(20)),
            Err(AppendError::Unknown(why)) => {
                assert!(why.is_shortage, "{why}");
                unknown += 1;
                let last = insist("reopen", || match log.reopen() {
                    Ok(last) => Some(last),
                    Err(error) => {
                        assert!(error.is_shortage(), "{error:?}");
                        None
                    }
                });
                if last != expected {
                    assert_eq!(last, expected.plus(batch.count()), "all of a batch, or nothing");
                    acknowledged.extend(entries);
                }
            }
            Err(conflict) => panic!("there is no other writer: {conflict}"),
        }
    }
    (acknowledged, unknown)
}

#[test]
fn what_was_acknowledged_survives_kills_of_the_server() {
    const KILLS: usize = 8;
    let (mut server, log) = begin("", "max_payload: 8192");
    let stop = AtomicBool::new(false);
    let mut prng = Prng::new(42);
    let mut reader = log.reader();
    let (acknowledged, unknown) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(log, &stop, 7));
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(150 + prng.below(400)));
            server.kill();
            thread::sleep(Duration::from_millis(prng.below(300)));
            server.restart();
        }
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer goes on")
    });
    assert!(acknowledged.len() > 100, "{} entries", acknowledged.len());
    assert!(unknown > 0, "no kill came in the middle of an append");
    let check = |all: Vec<Vec<u8>>, whose: &str| {
        assert_eq!(all.len(), acknowledged.len(), "{whose}");
        assert!(all == acknowledged, "{whose}: entries differ from what was acknowledged");
    };
    check(read_all(&mut *reader).unwrap(), "the reader beside the writer");
    server.kill();
    server.restart();
    check(read_all(&mut *reopened(&server).unwrap().reader()).unwrap(), "another process");
}

#[test]
fn a_server_that_is_away_or_frozen_stops_the_writer_for_a_bounded_time_and_not_for_good() {
    let (mut server, mut log) = begin("", "");
    log.append(log.last(), &one(b"before")).unwrap();
    server.kill();
    insist("the connection is lost", || {
        match log.append(log.last(), &one(b"away")) {
            Err(AppendError::Shortage(_)) => Some(()),
            // It was sent before the loss was noticed, and stays unknown until the server is back.
            Err(AppendError::Unknown(_)) => log.reopen().unwrap_err().is_shortage().then_some(()),
            other => panic!("no server is there: {other:?}"),
        }
    });
    let began = Instant::now();
    let refused = log.append(log.last(), &one(b"away"));
    assert!(matches!(refused, Err(AppendError::Shortage(_) | AppendError::Unknown(_))), "{refused:?}");
    assert!(
        log.reader()
            .read(units::Sequence(1), &mut |_, _| panic!("nothing can be read"))
            .unwrap_err()
            .is_shortage()
    );
    assert!(log.snapshots().latest().unwrap_err().is_shortage());
    assert!(began.elapsed() < Duration::from_secs(1), "it is known at once: {:?}", began.elapsed());
    server.restart();
    insist("it goes on", || log.reopen().ok().and_then(|last| log.append(last, &one(b"after")).ok()));

    server.freeze();
    let began = Instant::now();
    let refused = log.append(log.last(), &one(b"frozen"));
    let Err(AppendError::Unknown(why)) = refused else { panic!("{refused:?}") };
    assert!(why.is_shortage, "{why}");
    assert!(log.reopen().unwrap_err().is_shortage());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    server.thaw();
    let last = insist("it goes on", || log.reopen().ok());
    let all = read_all(&mut *log.reader()).unwrap();
    assert_eq!(all.len() as u64, last.0);
    assert_eq!(&all[..2], [b"before".to_vec(), b"after".to_vec()]);
    log.append(last, &one(b"thawed")).unwrap();
}

#[test]
fn a_log_waits_a_moment_for_its_server_and_then_says_which_one_it_is() {
    let mut server = NatsServer::start();
    drop(NatsLog::make(&connect(&server.url()), options("log")).unwrap());
    server.kill();
    let error = NatsLog::open(&connect(&server.url()), options("log")).unwrap_err();
    assert!(error.is_shortage() && error.to_string().contains(&server.url()), "{error:?}");
    server.restart();
    reopened(&server).unwrap();
}
