//! A message service on a simulated disk, with subscribers that fail as they are told.

use contracts::{Actor, SubscriptionId, TopicId};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use notify::core::record::{EventNo, Key};
use notify::core::spec::{Exhausted, Retry, SubscriptionSpec, SubscriptionState, TopicSpec};
use notify::core::{
    Accepted, Attempted, Command, Delivery, NewEvent, Notify, Outcome, Post, Reply, SubscriptionSeen, Turn,
};
use notify::filter::Attributes;
use runtime::{Machine, Worker, recover};
use sim::disk::SimDisk;
use std::sync::Arc;
use units::TimeMs;

pub const START: TimeMs = TimeMs(1_800_000_000_000);

pub struct World {
    pub disk: SimDisk,
    pub worker: Worker<Notify, EmbeddedLog<SimDisk>>,
    pub now: TimeMs,
    pub epoch: u64,
}

pub fn by() -> Actor {
    Actor::new("test", "")
}

pub fn topic() -> TopicId {
    "sales".parse().unwrap()
}

pub fn id(name: &str) -> SubscriptionId {
    name.parse().unwrap()
}

pub fn spec() -> SubscriptionSpec {
    SubscriptionSpec {
        topic: topic(),
        url: Some("https://crm.example/".into()),
        filters: Vec::new(),
        retry: Retry { first_seconds: 1, factor: 2, longest_seconds: 60, attempts: 4 },
        exhausted: Exhausted::DeadLetter,
        in_flight_max: 8,
        rate_max: 0,
        lag_alert_seconds: 300,
    }
}

/// An event of a type, in the order of a key.
pub fn event(name: u64, kind: &str, key: Option<u64>) -> NewEvent {
    let attributes: Attributes =
        [("id", name.to_string()), ("type", kind.into()), ("source", "/test".into())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    NewEvent {
        identity: u128::from(name),
        content: name,
        key: key.map(Key),
        due: None,
        attributes,
        body: format!("{{\"id\":\"{name}\"}}").into_bytes().into(),
    }
}

fn open(disk: &SimDisk) -> Worker<Notify, EmbeddedLog<SimDisk>> {
    let options = Options::new(Partition(0), LogId(*b"message service!"));
    let log = EmbeddedLog::open(disk.clone(), Options { segment_bytes: 64 << 10, ..options }).unwrap();
    Worker::open(log).unwrap().0
}

impl World {
    pub fn new() -> Self {
        let disk = SimDisk::new();
        let mut world = Self { worker: open(&disk), disk, now: START, epoch: 0 };
        let define = Command::DefineTopic { name: topic(), spec: TopicSpec::default(), by: by() };
        assert_eq!(world.ask(define), Reply::Done);
        world
    }

    pub fn ask(&mut self, command: Command) -> Reply {
        loop {
            let replies = self.worker.step(self.now, std::slice::from_ref(&command)).to_vec();
            if let [reply] = &replies[..] {
                return reply.clone();
            }
        }
    }

    pub fn subscribe(&mut self, name: &str, spec: SubscriptionSpec) {
        let reply = self.ask(Command::Subscribe { name: id(name), spec, from: None, by: by() });
        assert!(matches!(reply, Reply::Subscribed { is_new: true, .. }), "{reply:?}");
    }

    pub fn post(&mut self, events: Vec<NewEvent>) -> Reply {
        self.ask(Command::Post(Arc::new(Post { topic: topic(), events, followed: None })))
    }

    pub fn posted(&mut self, events: Vec<NewEvent>) -> Vec<Accepted> {
        match self.post(events) {
            Reply::Accepted(accepted) => accepted,
            other => panic!("{other:?}"),
        }
    }

    /// Ends deliveries, and begins others.
    pub fn turn(&mut self, ended: Vec<Attempted>, room: usize) -> (Vec<Delivery>, Option<TimeMs>) {
        let turn = Turn { epoch: self.epoch, ended, room, free: room };
        match self.ask(Command::Turn(Arc::new(turn))) {
            Reply::Turned { deliveries, epoch, next_at } => {
                self.epoch = epoch;
                (deliveries, next_at)
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn begin(&mut self) -> Vec<Delivery> {
        self.turn(Vec::new(), 1000).0
    }

    pub fn see(&self, name: &str) -> SubscriptionSeen {
        let Some(Reply::Subscription(seen)) = self.worker.read(&Command::Subscription(id(name))) else {
            panic!()
        };
        *seen
    }

    pub fn set_state(&mut self, name: &str, state: SubscriptionState) {
        assert_eq!(self.ask(Command::SetState { name: id(name), state, by: by() }), Reply::Done);
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = TimeMs(self.now.0 + ms);
    }

    /// The process dies, the power fails or not, and it starts again; what it is then is what it
    /// was, and what its log says from the first entry on.
    pub fn restart(&mut self, disk: SimDisk) {
        let (at, live) = (self.worker.machine().sequence(), self.worker.machine().snapshot());
        self.epoch = 0;
        self.disk = disk;
        self.worker = open(&self.disk);
        let machine = self.worker.machine();
        if machine.sequence() == at {
            assert_eq!(machine.snapshot(), live, "the restarted machine at {at} is not what it was");
        }
        let restored = Notify::restore(&machine.snapshot()).unwrap();
        assert_eq!(restored.snapshot(), machine.snapshot());
        let (whole, _) = recover::<Notify>(&mut *reader(&self.worker), None).unwrap();
        assert_eq!(whole.snapshot(), machine.snapshot(), "the log says something else");
    }
}

fn reader(worker: &Worker<Notify, EmbeddedLog<SimDisk>>) -> Box<dyn engines::log::LogRead> {
    engines::log::Log::reader(worker.log())
}

pub fn ended(delivery: &Delivery, outcome: Outcome, status: u16) -> Attempted {
    Attempted {
        subscription: delivery.subscription,
        event: delivery.event,
        attempt: delivery.attempt,
        outcome,
        status,
        took_ms: 3,
        said: if status == 204 { String::new() } else { format!("answer {status}") },
    }
}

pub fn delivered(delivery: &Delivery) -> Attempted {
    ended(delivery, Outcome::Delivered, 204)
}

pub fn failed(delivery: &Delivery) -> Attempted {
    ended(delivery, Outcome::Failed { retry_after: None }, 400)
}

pub fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.event.0).collect()
}

pub fn no(number: u64) -> EventNo {
    EventNo(number)
}
