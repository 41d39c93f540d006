//! A full disk: what was delivered meanwhile is stored later, and delivering goes on by itself.

use crate::world::{by, event, id, spec, topic};
use engines::clock::SteadyClock;
use engines::embedded::disk::RealDisk;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots};
use notify::bodies::{Bodies, LogReader};
use notify::core::spec::{SubscriptionSpec, TopicSpec};
use notify::core::{Command, Notify, Post, Reply};
use notify::courier::{Courier, Secrets};
use notify::push::{Pusher, Settings as PushSettings};
use runtime::{Handle, Service, service::Settings};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};
use units::Sequence;

const PATIENCE: Duration = Duration::from_secs(20);

/// A log on a disk that can be full.
struct OnADisk {
    log: EmbeddedLog<RealDisk>,
    is_full: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Log for OnADisk {
    fn last(&self) -> Sequence {
        self.log.last()
    }

    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        if self.is_full.load(SeqCst) {
            self.refused.fetch_add(1, SeqCst);
            return Err(AppendError::Shortage("the disk is full".into()));
        }
        self.log.append(expected, batch)
    }

    fn reopen(&mut self) -> Result<Sequence, LogError> {
        self.log.reopen()
    }

    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError> {
        self.log.trim(up_to)
    }

    fn reader(&self) -> Box<dyn LogRead> {
        self.log.reader()
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        self.log.snapshots()
    }
}

/// Takes everything that is posted to it, while its gate is open.
fn endpoint(gate: Arc<Mutex<()>>, taken: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = move |mut stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).unwrap() == 0 {
                    return;
                }
                let length_of = |line: &str| line.strip_prefix("content-length: ")?.trim().parse().ok();
                length = length_of(&line).unwrap_or(length);
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            taken.fetch_add(1, SeqCst);
            drop(gate.lock());
            stream.write_all(b"HTTP/1.1 204 Taken\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    url
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(10));
    }
}

fn ask(handle: &Handle<Notify>, command: Command) -> Reply {
    handle.ask(command).unwrap().blocking_recv().unwrap()
}

#[test]
fn deliveries_go_on_when_there_is_room_again_although_all_had_ended_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (is_full, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let log = EmbeddedLog::open_dir(&dir.path().join("log"), Options::new(Partition(0), LogId([7; 16])));
    let log = OnADisk { log: log.unwrap(), is_full: Arc::clone(&is_full), refused: Arc::clone(&refused) };
    let bodies = Bodies::new(log.reader());
    let reader = LogReader::start(log.reader(), 100).unwrap();
    let clock = Arc::new(SteadyClock::start());
    let settings = Settings { queue_max: 100, snapshot_every: 1_000_000 };
    let service = Service::<Notify>::start("notify", log, clock.clone(), settings).unwrap();
    let handle = service.handle();
    let (gate, taken) = (Arc::<Mutex<()>>::default(), Arc::<AtomicUsize>::default());
    let url = endpoint(Arc::clone(&gate), Arc::clone(&taken));
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    let push =
        PushSettings { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..PushSettings::default() };
    let courier = Courier {
        reader,
        handle: handle.clone(),
        bodies,
        pusher: Arc::new(Pusher::new(push.clone()).unwrap()),
        of_tenants: Arc::new(Pusher::new(push).unwrap()),
        secrets: Secrets::open(dir.path()).unwrap(),
        clock,
        in_flight_max: 16,
    };
    let (end, ends) = tokio::sync::watch::channel(false);
    let courier = courier.start(ends).unwrap();
    ask(&handle, Command::DefineTopic { name: topic(), spec: TopicSpec::default(), by: by() });
    let spec = SubscriptionSpec { url: Some(url), ..spec() };
    ask(&handle, Command::Subscribe { name: id("crm"), spec, from: None, by: by() });
    let post = |number: u64| {
        let events = vec![event(number, "t", None)];
        ask(&handle, Command::Post(Arc::new(Post { topic: topic(), events, followed: None })))
    };
    let held: MutexGuard<'_, ()> = gate.lock().unwrap();
    assert!(matches!(post(1), Reply::Accepted(_)));
    until("the first is on its way", || taken.load(SeqCst) == 1);
    is_full.store(true, SeqCst);
    drop(held);
    until("that it was delivered cannot be stored", || refused.load(SeqCst) > 0);
    assert_eq!(post(2), Reply::Busy);
    is_full.store(false, SeqCst);
    until("there is room again", || matches!(post(3), Reply::Accepted(_)));
    until("what was stored after it is delivered", || taken.load(SeqCst) == 2);
    until("both count as delivered", || {
        match ask(&handle, Command::Subscriptions { after: None, at_most: 10 }) {
            Reply::Subscriptions(seen) => seen[0].delivered == 2 && seen[0].backlog == 0,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(taken.load(SeqCst), 2, "none came twice");
    end.send_replace(true);
    courier.join().unwrap();
    service.stop();
}
