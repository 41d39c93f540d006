//! The engine on NATS keeps the promises of the log port: with messages of the usual length, with
//! batches that need many, and when the server is killed at each restart.

use super::server::NatsServer;
use super::{append, connect, options, read_all};
use engines::log::Log;
use engines::log::conformance::{Harness, run};
use engines::nats::{NatsLog, Options};
use units::{Prng, Sequence};

struct OnNats {
    server: NatsServer,
    logs: usize,
    kills: Option<Prng>,
}

impl Harness for OnNats {
    fn fresh(&mut self) -> Box<dyn Log> {
        self.logs += 1;
        let options = options(&format!("log-{}", self.logs));
        Box::new(NatsLog::make(&connect(&self.server.url()), options).unwrap())
    }

    /// The process ends in order, or the server is killed too.
    fn restart(&mut self, log: Box<dyn Log>) -> Box<dyn Log> {
        drop(log);
        if self.kills.as_mut().is_some_and(|prng| prng.below(3) == 0) {
            self.server.kill();
            self.server.restart();
        }
        let options = options(&format!("log-{}", self.logs));
        Box::new(NatsLog::open(&connect(&self.server.url()), options).unwrap())
    }
}

fn check(settings: &str, kills: Option<Prng>) {
    run(&mut OnNats { server: NatsServer::with("", settings), logs: 0, kills });
}

#[test]
fn the_log_on_nats_passes_the_conformance_suite() {
    check("", None);
}

#[test]
fn a_log_may_begin_later_than_with_entry_1() {
    let server = NatsServer::start();
    let later = Options { first: Sequence(8), ..options("log") };
    let mut log = NatsLog::make(&connect(&server.url()), later).unwrap();
    for last in 8..12 {
        assert_eq!(append(&mut log, b"entry").unwrap(), Sequence(last));
        assert_eq!((log.reader().first(), log.last()), (Sequence(8), Sequence(last)));
        log = NatsLog::open(&connect(&server.url()), options("log")).unwrap();
        assert_eq!(read_all(&mut *log.reader()).unwrap().len() as u64, last - 7);
    }
}

#[test]
fn it_passes_it_when_most_batches_are_split_and_the_server_is_killed() {
    check("max_payload: 6000", Some(Prng::new(1)));
}
