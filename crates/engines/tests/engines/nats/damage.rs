//! What is not as it was written is named, and never passed over.

use super::{append, begin, connect, one, options, read_all, reopened};
use engines::log::{AppendError, Log, LogError, LogId};
use engines::nats::{NatsLog, Options, remove};
use units::Sequence;

#[test]
fn a_message_that_is_not_ours_is_named() {
    let (server, mut log) = begin("", "");
    append(&mut log, b"one").unwrap();
    let stored = server.ask("log", b"somebody else's");
    assert!(stored.contains("\"seq\":3"), "{stored}");
    let refused = append(&mut log, b"two");
    assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    let error = reopened(&server).unwrap_err();
    assert!(matches!(error, LogError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("message 3 of stream log"), "{error}");
}

#[test]
fn a_stream_that_is_gone_or_emptied_is_damage_and_never_begun_anew() {
    let (server, mut log) = begin("", "");
    append(&mut log, b"one").unwrap();
    append(&mut log, b"two").unwrap();
    let mut reader = log.reader();
    // By somebody's hand: the first messages, and then all.
    server.ask("$JS.API.STREAM.PURGE.log", b"{\"seq\":3}");
    let error = read_all(&mut *reader).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    server.ask("$JS.API.STREAM.PURGE.log", b"");
    for error in [reopened(&server).unwrap_err(), read_all(&mut *reader).unwrap_err()] {
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    }
    remove(&connect(&server.url()), "log").unwrap();
    remove(&connect(&server.url()), "log").unwrap();
    for error in [reopened(&server).unwrap_err(), read_all(&mut *reader).unwrap_err()] {
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("the log that was here is gone"), "{error}");
    }
    // Made anew by hand, it is still not the log that was there.
    drop(NatsLog::make(&connect(&server.url()), options("other")).unwrap());
    server.ask("$JS.API.STREAM.PURGE.other", b"");
    let empty = NatsLog::open(&connect(&server.url()), options("other")).unwrap_err();
    assert!(matches!(empty, LogError::Damaged { .. }), "{empty:?}");
}

#[test]
fn a_stream_of_another_log_or_one_that_forgets_by_itself_is_refused() {
    let (server, log) = begin("", "");
    drop(log);
    let other = Options { log_id: LogId([9; 16]), ..options("log") };
    for opened in [NatsLog::open, NatsLog::make] {
        let error = opened(&connect(&server.url()), other.clone()).unwrap_err();
        assert!(matches!(error, LogError::Foreign { .. }), "{error:?}");
    }
    // Nor is one that fewer servers have than its owner believes.
    let on_two = Options { replicas: 2, ..options("log") };
    let error = NatsLog::open(&connect(&server.url()), on_two).unwrap_err();
    assert!(format!("{error:?}").contains("logs.replicas is 2"), "{error:?}");
    let config = server.ask("$JS.API.STREAM.INFO.log", b"");
    let config = config.split_once("\"config\":").unwrap().1.split_once(",\"created\"").unwrap().0;
    let said = server
        .ask("$JS.API.STREAM.UPDATE.log", config.replace("\"max_msgs\":-1", "\"max_msgs\":1000").as_bytes());
    assert!(!said.contains("\"error\""), "{said}");
    let error = reopened(&server).unwrap_err();
    assert!(error.to_string().contains("max_msgs"), "{error:?}");
}

#[test]
fn a_snapshot_that_was_cut_off_or_damaged_is_passed_over_and_removed() {
    let (server, mut log) = begin("", "");
    for _ in 0..9 {
        append(&mut log, b"entry").unwrap();
    }
    let mut snapshots = log.snapshots();
    let state = vec![7; 2_000_000];
    snapshots.write(Sequence(4), &state).unwrap();
    // One of which a message is missing, and one with a message that is not a part of it.
    server.ask("log-snapshots.7.90.3", b"the first of three");
    server.ask("log-snapshots.8.91.1", b"not a part");
    assert_eq!(snapshots.latest().unwrap(), Some((Sequence(4), state.clone())));
    snapshots.write(Sequence(9), b"newer").unwrap();
    assert_eq!(snapshots.latest().unwrap(), Some((Sequence(9), b"newer".to_vec())));
    let listed = server.ask("$JS.API.STREAM.INFO.log-snapshots", b"{\"subjects_filter\":\">\"}");
    assert!(!listed.contains("log-snapshots.7.90.3"), "{listed}");
    // Snapshots are never the truth: without them there are none.
    server.ask("$JS.API.STREAM.DELETE.log-snapshots", b"");
    assert_eq!(snapshots.latest().unwrap(), None);
    snapshots.write(Sequence(9), b"again").unwrap();
    assert_eq!(snapshots.latest().unwrap(), Some((Sequence(9), b"again".to_vec())));
    log.append(log.last(), &one(b"more")).unwrap();
}
