//! Measures appends and a read of the whole log: on the embedded engine in a directory, or on NATS
//! at a URL.
//!
//! ```text
//! cargo run --release -p engines --features nats --example appends -- DIR | nats://HOST:PORT
//! ```
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use engines::embedded::{self, EmbeddedLog};
use engines::log::{Batch, Log, LogId, Partition};
use engines::nats::{self, Connection, NatsLog, Place};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};
use units::Sequence;

const ENTRY_BYTES: usize = 100;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(5);

fn main() {
    let to = std::env::args().nth(1).expect("want a directory or a URL");
    for count in [1, 64, 4096] {
        let mut log = open(&to, count);
        let mut batch = Batch::default();
        (0..count).for_each(|_| batch.push(&[0x5a; ENTRY_BYTES]));
        let mut times = Vec::new();
        let began = Instant::now();
        while began.elapsed() < WARM_UP + MEASURED {
            let at = Instant::now();
            log.append(log.last(), &batch).expect("an append");
            if began.elapsed() > WARM_UP {
                times.push(at.elapsed());
            }
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let per_second = times.len() as f64 * count as f64 / MEASURED.as_secs_f64();
        let began = Instant::now();
        let mut read = 0_u64;
        let mut visit = |_: Sequence, _: &[u8]| {
            read += 1;
            ControlFlow::Continue(())
        };
        log.reader().read(Sequence(1), &mut visit).expect("a read");
        let read_per_second = read as f64 / began.elapsed().as_secs_f64();
        println!(
            "batches of {count}: {per_second:.0} entries/s; p50 {:.2} ms, p99 {:.2} ms; read {read_per_second:.0} entries/s",
            at(50),
            at(99),
        );
    }
}

fn open(to: &str, nth: usize) -> Box<dyn Log> {
    let log_id = LogId([nth as u8; 16]);
    match Place::parse(to) {
        Ok(place) => {
            let connection = Connection::open(&place).expect("a connection");
            let options = nats::Options {
                stream: format!("appends-{nth}"),
                log_id,
                partition: Partition(0),
                replicas: 1,
                description: "a measurement".into(),
                first: Sequence(1),
            };
            Box::new(NatsLog::make(&connection, options).expect("a log on NATS"))
        }
        Err(_) => {
            let options = embedded::Options::new(Partition(0), log_id);
            let dir = Path::new(to).join(nth.to_string());
            Box::new(EmbeddedLog::open_dir(&dir, options).expect("a log in files"))
        }
    }
}
