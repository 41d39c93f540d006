//! Three servers, each with all messages: the promises are kept with replicas that lag behind, and
//! while one server after the other is killed.

use super::killed_server::write;
use super::server::NatsServer;
use super::{connect, insist, options, read_all};
use engines::log::Log;
use engines::log::conformance::{Harness, run};
use engines::nats::{NatsLog, Options};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use units::Prng;

struct OnCluster {
    servers: Vec<NatsServer>,
    logs: usize,
}

fn url(servers: &[NatsServer]) -> String {
    servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
}

fn on_three(stream: &str) -> Options {
    Options { replicas: 3, ..options(stream) }
}

/// Opens it once the servers have found each other, or a new leader.
fn opened(servers: &[NatsServer], open: impl Fn(&str) -> Result<NatsLog, engines::log::LogError>) -> NatsLog {
    let url = url(servers);
    insist("a log on three servers", || match open(&url) {
        Ok(log) => Some(log),
        Err(error) => {
            let said = format!("{error:?}");
            // Until all three are there, no stream can be placed on them (code 10005).
            assert!(error.is_shortage() || said.contains("10005"), "{said}");
            None
        }
    })
}

impl Harness for OnCluster {
    fn fresh(&mut self) -> Box<dyn Log> {
        self.logs += 1;
        let name = format!("log-{}", self.logs);
        Box::new(opened(&self.servers, |url| NatsLog::make(&connect(url), on_three(&name))))
    }

    fn restart(&mut self, log: Box<dyn Log>) -> Box<dyn Log> {
        drop(log);
        let name = format!("log-{}", self.logs);
        Box::new(opened(&self.servers, |url| NatsLog::open(&connect(url), on_three(&name))))
    }
}

#[test]
fn a_log_with_three_replicas_passes_the_conformance_suite() {
    run(&mut OnCluster { servers: NatsServer::cluster(), logs: 0 });
}

#[test]
fn what_was_acknowledged_survives_kills_of_one_server_after_the_other() {
    let mut servers = NatsServer::cluster();
    let log = opened(&servers, |url| NatsLog::make(&connect(url), on_three("log")));
    let stop = AtomicBool::new(false);
    let mut prng = Prng::new(3);
    let (acknowledged, _) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(log, &stop, 11));
        for killed in [0, 1, 2] {
            thread::sleep(Duration::from_millis(500 + prng.below(1000)));
            servers[killed].kill();
            thread::sleep(Duration::from_millis(500 + prng.below(1500)));
            servers[killed].restart();
            // Two of three must be in step before the next is killed.
            thread::sleep(Duration::from_secs(2));
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer goes on")
    });
    assert!(acknowledged.len() > 100, "{} entries", acknowledged.len());
    let log = opened(&servers, |url| NatsLog::open(&connect(url), on_three("log")));
    let all = insist("all of it is read", || match read_all(&mut *log.reader()) {
        Ok(all) => Some(all),
        Err(error) => {
            assert!(error.is_shortage(), "{error:?}");
            None
        }
    });
    assert_eq!(all.len(), acknowledged.len());
    assert!(all == acknowledged, "entries differ from what was acknowledged");
}
