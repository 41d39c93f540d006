//! The log forgets what no subscription needs, and keeps the bodies of events that one does.

use crate::world::*;
use engines::{
    clock::Clock,
    embedded::{EmbeddedLog, LogId, Options, Partition},
    log::{Log, LogRead},
};
use notify::core::record::{Entry, Record};
use notify::core::spec::{SubscriptionSpec, TopicSpec};
use notify::core::{Attempted, Command, Delivery, Letters, Notify, Post, Reply, Turn};
use runtime::{Handle, Machine, Service, recover, service::Settings};
use sim::disk::SimDisk;
use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};
use units::{Sequence, TimeMs};

struct Still;

impl Clock for Still {
    fn now(&self) -> TimeMs {
        START
    }
}

fn log(disk: &SimDisk) -> EmbeddedLog<SimDisk> {
    let options = Options::new(Partition(0), LogId(*b"message service!"));
    EmbeddedLog::open(disk.clone(), Options { segment_bytes: 64 << 10, ..options }).unwrap()
}

fn start(disk: &SimDisk) -> (Service<Notify>, Box<dyn LogRead>) {
    let log = log(disk);
    let reader = log.reader();
    let settings = Settings { queue_max: 100, snapshot_every: 200 };
    (Service::start("notify", log, Arc::new(Still), settings).unwrap(), reader)
}

fn ask(handle: &Handle<Notify>, command: Command) -> Reply {
    handle.ask(command).unwrap().blocking_recv().unwrap()
}

fn deliver(handle: &Handle<Notify>, end: impl Fn(&Delivery) -> Attempted) {
    let turn = |ended| Command::Turn(Arc::new(Turn { epoch: 0, ended, room: 100, free: 100 }));
    let Reply::Turned { deliveries, .. } = ask(handle, turn(Vec::new())) else { panic!() };
    let ended = deliveries.iter().map(end).collect();
    let end = Command::Turn(Arc::new(Turn { epoch: 0, ended, room: 0, free: 0 }));
    assert!(matches!(ask(handle, end), Reply::Turned { .. }));
}

fn body_at(reader: &mut dyn LogRead, sequence: Sequence) -> Vec<u8> {
    let mut body = Vec::new();
    let visit = &mut |_, bytes: &[u8]| {
        let entry = <Entry as engines::codec::Codec>::decode(bytes).unwrap();
        let Record::Published { body: found, .. } = entry.record else { panic!("{entry:?}") };
        body = found.to_vec();
        ControlFlow::Break(())
    };
    reader.read(sequence, visit).unwrap();
    body
}

#[test]
fn the_log_keeps_the_bodies_that_are_needed_and_a_restart_has_the_same_state() {
    let disk = SimDisk::new();
    let (service, mut reader) = start(&disk);
    let handle = service.handle();
    let spec_of_topic = TopicSpec { retain_events: 0, ..TopicSpec::default() };
    ask(&handle, Command::DefineTopic { name: topic(), spec: spec_of_topic, by: by() });
    let spec =
        SubscriptionSpec { retry: notify::core::spec::Retry { attempts: 1, ..spec().retry }, ..spec() };
    ask(&handle, Command::Subscribe { name: id("crm"), spec, from: None, by: by() });
    let mut name = 0;
    let mut post = |is_dead: bool| {
        name += 1;
        let events = vec![event(name, "t", Some(name))];
        let post = Command::Post(Arc::new(Post { topic: topic(), events, followed: None }));
        assert!(matches!(ask(&handle, post), Reply::Accepted(_)));
        deliver(&handle, |delivery| if is_dead { failed(delivery) } else { delivered(delivery) });
        name
    };
    // Entries that go, and then one that stays.
    let patience = Instant::now() + Duration::from_secs(60);
    let dead = loop {
        post(false);
        if reader.first() > Sequence(1) {
            break post(true);
        }
        assert!(Instant::now() < patience, "nothing is trimmed");
    };
    let letters = Command::Letters { name: id("crm"), which: Letters::Dead, after: no(0), at_most: 10 };
    let Reply::Letters(letters) = ask(&handle, letters) else { panic!() };
    let sequence = letters[0].sequence;
    // What follows is not trimmed: the dead letter is before it.
    for _ in 0..4000 {
        post(false);
    }
    assert!(reader.first() <= sequence, "{} is needed, {} is the first", sequence, reader.first());
    let want = format!("{{\"id\":\"{dead}\"}}").into_bytes();
    assert_eq!(body_at(&mut *reader, sequence), want);
    service.stop();
    let log = log(&disk.kill());
    let (whole, recovery) = recover::<Notify>(&mut *log.reader(), log.snapshots().latest().unwrap()).unwrap();
    assert!(recovery.snapshot.is_some());
    let again = Notify::restore(&whole.snapshot()).unwrap();
    assert_eq!(again.snapshot(), whole.snapshot());
    assert_eq!(body_at(&mut *log.reader(), sequence), want);
    assert!(recover::<Notify>(&mut *log.reader(), None).is_err(), "its beginning is gone");
}
