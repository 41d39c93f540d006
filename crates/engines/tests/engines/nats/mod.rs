//! The engine on NATS, against a real nats-server.

mod cluster;
mod conformance;
mod damage;
mod fence;
mod full_store;
mod killed_server;
pub(crate) mod server;
mod sign_in;

use engines::log::{AppendError, Batch, Log, LogError, LogId, LogRead, Partition};
use engines::nats::{Connection, NatsLog, Options, Place};
use server::NatsServer;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use units::Sequence;

fn connect(url: &str) -> Arc<Connection> {
    Connection::open(&Place::parse(url).unwrap()).unwrap()
}

fn options(stream: &str) -> Options {
    Options {
        stream: stream.into(),
        log_id: LogId(*b"0123456789abcdef"),
        partition: Partition(3),
        replicas: 1,
        description: "a test".into(),
        first: Sequence(1),
    }
}

/// A server with an empty log.
fn begin(jetstream: &str, settings: &str) -> (NatsServer, NatsLog) {
    let server = NatsServer::with(jetstream, settings);
    let log = NatsLog::make(&connect(&server.url()), options("log")).unwrap();
    (server, log)
}

fn reopened(server: &NatsServer) -> Result<NatsLog, LogError> {
    NatsLog::open(&connect(&server.url()), options("log"))
}

fn one(entry: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.push(entry);
    batch
}

fn append(log: &mut NatsLog, entry: &[u8]) -> Result<Sequence, AppendError> {
    log.append(log.last(), &one(entry))
}

/// Everything that is kept.
fn read_all(reader: &mut dyn LogRead) -> Result<Vec<Vec<u8>>, LogError> {
    let mut all = Vec::new();
    let first = reader.first();
    reader.read(first, &mut |sequence, bytes| {
        assert_eq!(sequence.0, first.0 + all.len() as u64);
        all.push(bytes.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// Repeats what a passing shortage prevents.
fn insist<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = ask() {
            return done;
        }
        assert!(began.elapsed() < server::PATIENCE, "{what}: not within {:?}", server::PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}
