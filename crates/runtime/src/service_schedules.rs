//! The service's threads under a model checker: in thousands of schedules, each different in which
//! thread goes on between any two uses of a lock or a condition, every command that was queued is
//! answered once. A wake-up that is lost is a deadlock there, for no wait ever times out.

use super::{Handle, Mailbox, NotQueued, Run, Service, Settings, spawn};
use engines::clock::Clock;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::LogError;
use ledger::{Command, Ledger, Reply};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};
use sim::disk::{EMFILE, SimDisk};
use std::sync::{Arc, Mutex};
use units::TimeMs;

#[path = "../tests/ledger/mod.rs"]
mod ledger;

const SCHEDULES: usize = 5000;
const SENDERS: u64 = 3;
const COMMANDS: u64 = 4;

/// A clock that stands: nothing is ever due.
struct Still;

impl Clock for Still {
    fn now(&self) -> TimeMs {
        TimeMs(1)
    }
}

/// Keeps the tokens of what it got. Its lock is no one else's business, and is not modelled.
#[derive(Default)]
struct Inbox(Mutex<Vec<u64>>);

impl Mailbox<Reply> for Inbox {
    fn deliver(&self, mail: &mut Vec<(u64, Reply)>) {
        self.0.lock().unwrap().extend(mail.drain(..).map(|(token, _)| token));
    }
}

fn options() -> Options {
    Options::new(Partition(0), LogId([7; 16]))
}

fn log(disk: &SimDisk) -> EmbeddedLog<SimDisk> {
    EmbeddedLog::open(disk.clone(), options()).unwrap()
}

fn settings(queue_max: usize) -> Settings {
    Settings { queue_max, snapshot_every: 5 }
}

fn service(queue_max: usize) -> Service<Ledger> {
    Service::start("ledger", log(&SimDisk::new()), Arc::new(Still), settings(queue_max)).unwrap()
}

/// Sends its commands, and again while the queue is full; returns those that were queued.
fn send(handle: &Handle<Ledger>, inbox: &Arc<Inbox>, sender: u64) -> Vec<u64> {
    let to: Arc<dyn Mailbox<Reply>> = Arc::clone(inbox) as _;
    let mut queued = Vec::new();
    for token in sender * COMMANDS..(sender + 1) * COMMANDS {
        loop {
            match handle.send(&to, token, Command::Move { account: sender as u32, amount: 1 }) {
                Ok(()) => break queued.push(token),
                Err(NotQueued::QueueFull) => thread::yield_now(),
                Err(NotQueued::Stopping) => return queued,
            }
        }
    }
    queued
}

fn in_many_schedules(run: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // A thread's stack: the worker keeps a step on it.
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(SCHEDULES), config).run(run);
}

/// Senders of which the service is stopped at the end, or at any time.
fn check(queue_max: usize, stops_early: bool) {
    in_many_schedules(move || {
        let running = service(queue_max);
        let inbox = Arc::new(Inbox::default());
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (handle, inbox) = (running.handle(), Arc::clone(&inbox));
                thread::spawn(move || send(&handle, &inbox, sender))
            })
            .collect();
        let mut running = Some(running);
        if let Some(running) = running.take_if(|_| stops_early) {
            running.stop();
        }
        let queued: Vec<Vec<u64>> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        if let Some(running) = running {
            running.stop();
        }
        let mut queued: Vec<u64> = queued.concat();
        assert!(stops_early || queued.len() as u64 == SENDERS * COMMANDS);
        let mut answered = inbox.0.lock().unwrap().clone();
        queued.sort_unstable();
        answered.sort_unstable();
        assert_eq!(answered, queued, "each command that was queued is answered, once");
    });
}

/// A machine whose second thread cannot be started, for want of threads or memory. A caller who
/// tries again finds the log as it was, and its lock free.
#[test]
fn a_service_of_which_a_thread_cannot_be_started_leaves_nothing_running() {
    in_many_schedules(|| {
        let disk = SimDisk::new();
        for failing in [1, 2] {
            let mut started = 0;
            let spawn = |name: &str, run: Run| {
                started += 1;
                if started < failing {
                    return spawn(name, run);
                }
                Err(LogError::Io {
                    doing: format!("start thread {name}"),
                    source: std::io::Error::from_raw_os_error(EMFILE),
                })
            };
            let log = log(&disk);
            assert!(EmbeddedLog::open(disk.clone(), options()).is_err(), "one process writes");
            let refused = Service::<Ledger>::start_by(spawn, "ledger", log, Arc::new(Still), settings(1));
            assert!(refused.is_err_and(|error| error.is_shortage()));
        }
        Service::<Ledger>::start("ledger", log(&disk), Arc::new(Still), settings(1)).unwrap().stop();
    });
}

#[test]
fn no_wake_up_of_the_worker_is_lost() {
    check(100, false);
}

#[test]
fn a_queue_that_is_full_now_and_then_loses_no_command() {
    check(1, false);
}

#[test]
fn a_service_that_is_stopped_at_any_time_answers_what_it_has_queued() {
    check(2, true);
}
