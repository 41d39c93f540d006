//! A writer that was replaced, or that was told nothing of an append, changes nothing any more.

use super::server::Proxy;
use super::{append, begin, connect, insist, options, read_all, reopened};
use engines::log::{AppendError, Log, LogError};
use engines::nats::{NatsLog, open_read_only};
use std::ops::ControlFlow;
use units::Sequence;

#[test]
fn a_writer_that_was_replaced_is_refused_and_stays_so() {
    let (server, mut old) = begin("", "");
    append(&mut old, b"one").unwrap();
    let mut new = reopened(&server).unwrap();
    // Nothing was appended since, and yet it comes too late.
    for _ in 0..2 {
        let refused = append(&mut old, b"stale");
        assert!(matches!(refused, Err(AppendError::Conflict { actual: Sequence(1) })), "{refused:?}");
    }
    append(&mut new, b"two").unwrap();
    let refused = append(&mut old, b"stale");
    assert!(matches!(refused, Err(AppendError::Conflict { actual: Sequence(2) })), "{refused:?}");
    assert_eq!(read_all(&mut *new.reader()).unwrap(), [b"one", b"two"]);
}

#[test]
fn a_reader_in_another_process_follows_and_fences_no_writer() {
    let (server, mut log) = begin("", "");
    let (connection, of) = (connect(&server.url()), options("log"));
    let mut reader = open_read_only(&connection, &of.stream, of.log_id, of.partition).unwrap();
    for count in 1..=5 {
        append(&mut log, b"entry").unwrap();
        assert_eq!(read_all(&mut reader).unwrap().len(), count);
    }
    log.snapshots().write(Sequence(5), b"state").unwrap();
    assert_eq!(reader.latest_snapshot().unwrap(), Some((Sequence(5), b"state".to_vec())));
}

/// A log whose writer sends through a proxy, with an append that the proxy holds back.
fn held(proxy: &Proxy) -> NatsLog {
    let mut log = NatsLog::open(&connect(&proxy.url()), options("log")).unwrap();
    append(&mut log, b"one").unwrap();
    proxy.hold();
    let refused = append(&mut log, b"late");
    assert!(matches!(refused, Err(AppendError::Unknown(_))), "{refused:?}");
    // Until it is known, nothing else is appended.
    let refused = append(&mut log, b"two");
    assert!(matches!(refused, Err(AppendError::Unknown(_))), "{refused:?}");
    log
}

#[test]
fn an_append_that_arrives_after_the_reopening_is_refused() {
    let (server, first) = begin("", "");
    drop(first);
    let proxy = Proxy::before(&server);
    let mut log = held(&proxy);
    proxy.cut();
    assert_eq!(insist("reopen", || log.reopen().ok()), Sequence(1));
    assert!(proxy.release() > 0, "nothing was held back");
    append(&mut log, b"two").unwrap();
    assert_eq!(read_all(&mut *log.reader()).unwrap(), [b"one", b"two"]);
    assert_eq!(read_all(&mut *reopened(&server).unwrap().reader()).unwrap(), [b"one", b"two"]);
}

#[test]
fn an_append_that_arrives_before_the_reopening_counts() {
    let (server, first) = begin("", "");
    drop(first);
    let proxy = Proxy::before(&server);
    let mut log = held(&proxy);
    assert!(proxy.release() > 0, "nothing was held back");
    proxy.cut();
    assert_eq!(insist("reopen", || log.reopen().ok()), Sequence(2));
    append(&mut log, b"two").unwrap();
    assert_eq!(read_all(&mut *log.reader()).unwrap(), [&b"one"[..], b"late", b"two"]);
}

#[test]
fn a_trim_that_got_no_answer_and_was_done_is_taken_up() {
    let (server, first) = begin("", "");
    drop(first);
    let proxy = Proxy::before(&server);
    let mut log = NatsLog::open(&connect(&proxy.url()), options("log")).unwrap();
    for _ in 0..8 {
        append(&mut log, b"entry").unwrap();
    }
    let mut reader = log.reader();
    proxy.hold_from("STREAM.PURGE");
    assert!(log.trim(Sequence(3)).unwrap_err().is_shortage());
    proxy.cut();
    assert!(proxy.release() > 0, "nothing was held back");
    // Who reads from before it is told so, and not that the log is damaged.
    let error = insist("an answer", || {
        reader.read(Sequence(1), &mut |_, _| ControlFlow::Continue(())).err().filter(|e| !e.is_shortage())
    });
    assert!(matches!(error, LogError::Trimmed { first: Sequence(4), .. }), "{error:?}");
    log.trim(Sequence(5)).unwrap();
    assert_eq!((log.reader().first(), read_all(&mut *log.reader()).unwrap().len()), (Sequence(6), 3));
    append(&mut log, b"entry").unwrap();
}

#[test]
fn a_writer_that_was_replaced_while_it_knew_nothing_does_not_take_the_log_back() {
    let (server, first) = begin("", "");
    drop(first);
    let proxy = Proxy::before(&server);
    let mut old = held(&proxy);
    let mut new = reopened(&server).unwrap();
    append(&mut new, b"two").unwrap();
    proxy.cut();
    let error = insist("reopen", || old.reopen().err().filter(|error| !error.is_shortage()));
    assert!(matches!(error, LogError::InUse { .. }), "{error:?}");
    proxy.release();
    append(&mut new, b"three").unwrap();
    assert_eq!(read_all(&mut *new.reader()).unwrap(), [&b"one"[..], b"two", b"three"]);
}
