//! Random days: publishers that repeat themselves, subscribers that fail, crashes at any moment.
//! What was accepted arrives at every subscription that wants it, each key in its order.

use crate::world::*;
use notify::core::spec::{SubscriptionSpec, SubscriptionState, TopicSpec};
use notify::core::{Attempted, Command, Delivery, Letters, NewEvent, Outcome, Reply};
use notify::filter::Filter;
use std::collections::{BTreeMap, BTreeSet};
use units::Prng;

const SEEDS: u64 = 150;
const NAMES: [&str; 3] = ["one", "two", "three"];
const KINDS: [&str; 2] = ["sale.granted", "sale.expired"];

/// What a subscriber has seen.
#[derive(Default)]
struct Seen {
    /// Of each event, whether the subscriber answered that it has it.
    answered: BTreeMap<u64, bool>,
    dead: BTreeSet<u64>,
}

struct Day {
    world: World,
    prng: Prng,
    /// Of each accepted event: its kind and key.
    accepted: BTreeMap<u64, What>,
    seen: BTreeMap<&'static str, Seen>,
    on_the_way: Vec<Delivery>,
    last_name: u64,
    is_unsure: bool,
    /// What a publisher has had no answer to: it posts the same again.
    unanswered: Option<(Vec<NewEvent>, Vec<What>)>,
}

/// The kind and the key of an event.
type What = (usize, Option<u64>);

fn wants(name: &str, kind: usize) -> bool {
    name != "two" || kind == 0
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        // Events go as soon as no subscription needs them.
        let spec_of_topic = TopicSpec { retain_events: 10, ..TopicSpec::default() };
        let define = Command::DefineTopic { name: topic(), spec: spec_of_topic, by: by() };
        assert_eq!(world.ask(define), Reply::Done);
        for name in NAMES {
            let mut spec = SubscriptionSpec { in_flight_max: 5, ..spec() };
            if name == "two" {
                let filter: Filter = serde_json::from_str(r#"{"exact":{"type":"sale.granted"}}"#).unwrap();
                spec.filters.push(filter);
            }
            world.subscribe(name, spec);
        }
        let seen = NAMES.into_iter().map(|name| (name, Seen::default())).collect();
        let (prng, accepted) = (Prng::new(seed), BTreeMap::new());
        Self {
            world,
            prng,
            accepted,
            seen,
            on_the_way: Vec::new(),
            last_name: 0,
            is_unsure: false,
            unanswered: None,
        }
    }

    fn post(&mut self) {
        let mut events = Vec::new();
        let mut what = Vec::new();
        for _ in 0..1 + self.prng.below(6) {
            // A repetition now and then.
            let is_repeat = self.last_name > 0 && self.prng.percent(15);
            let name = if is_repeat { 1 + self.prng.below(self.last_name) } else { self.last_name + 1 };
            self.last_name = self.last_name.max(name);
            let kind = (name % 2) as usize;
            let key = (name % 5 != 0).then_some(name % 4);
            events.push(event(name, KINDS[kind], key));
            what.push((kind, key));
        }
        self.unanswered = Some((events, what));
        self.post_again();
    }

    fn post_again(&mut self) {
        let Some((events, what)) = self.unanswered.clone() else { return };
        match self.world.post(events) {
            Reply::Accepted(accepted) => {
                self.unanswered = None;
                for (accepted, what) in accepted.into_iter().zip(what) {
                    let before = self.accepted.insert(accepted.event.0, what);
                    assert!(before.is_none_or(|before| accepted.is_repeat && before == what));
                }
            }
            Reply::Busy | Reply::Unavailable(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// A delivery reaches its subscriber, who may fail or whose answer may be lost.
    fn arrive(&mut self, delivery: &Delivery) -> Option<Attempted> {
        let name = NAMES.into_iter().find(|name| *name == delivery.name.as_str()).unwrap();
        let (kind, key) = self.accepted[&delivery.event.0];
        assert!(wants(name, kind), "{name} wants no event {}", delivery.event.0);
        let seen = self.seen.get_mut(name).unwrap();
        // All before it of its key are answered or dead.
        for (&number, &(kind, of)) in self.accepted.range(..delivery.event.0) {
            let is_done = seen.answered.get(&number) == Some(&true) || seen.dead.contains(&number);
            assert!(
                key.is_none() || of != key || !wants(name, kind) || is_done,
                "{name} gets {} before {number} of its key",
                delivery.event.0
            );
        }
        let fails = self.prng.percent(20);
        let answered = seen.answered.entry(delivery.event.0).or_default();
        *answered |= !fails;
        let is_lost = self.prng.percent(5);
        Some(match (fails, is_lost) {
            (false, false) => delivered(delivery),
            (true, false) if self.prng.percent(50) => failed(delivery),
            _ => ended(delivery, Outcome::Failed { retry_after: None }, 0),
        })
    }

    fn turn(&mut self) {
        let mut arrived = Vec::new();
        let count = self.prng.below(self.on_the_way.len() as u64 + 1);
        for _ in 0..count {
            let at = self.prng.below(self.on_the_way.len() as u64) as usize;
            let delivery = self.on_the_way.swap_remove(at);
            arrived.extend(self.arrive(&delivery));
        }
        // As the courier does: nothing begins before what an earlier state knew of has ended.
        self.is_unsure &= !self.on_the_way.is_empty();
        let room = if self.is_unsure { 0 } else { self.prng.below(20) as usize };
        let turn = notify::core::Turn { epoch: self.world.epoch, ended: arrived, room, free: 1000 };
        match self.world.ask(Command::Turn(std::sync::Arc::new(turn))) {
            Reply::Turned { deliveries, epoch, .. } => {
                self.is_unsure |= epoch != self.world.epoch;
                self.world.epoch = epoch;
                self.on_the_way.extend(deliveries);
            }
            Reply::Busy | Reply::Unavailable(_) => {}
            other => panic!("{other:?}"),
        }
        self.note_dead();
    }

    fn note_dead(&mut self) {
        for name in NAMES {
            let letters =
                Command::Letters { name: id(name), which: Letters::Dead, after: no(0), at_most: 10_000 };
            let Some(Reply::Letters(letters)) = self.world.worker.read(&letters) else { continue };
            let seen = self.seen.get_mut(name).unwrap();
            seen.dead.extend(letters.iter().map(|letter| letter.event.0));
        }
    }

    fn crash(&mut self) {
        self.on_the_way.clear();
        let disk = match self.prng.percent(50) {
            true => self.world.disk.power_cut(&mut self.prng),
            false => self.world.disk.kill(),
        };
        self.world.restart(disk);
        self.post_again();
        self.note_dead();
    }

    /// An append whose sync fails: the state is built again from the log, and nobody dies. What is
    /// under way arrives all the same.
    fn rebuild(&mut self) {
        self.world.disk.fail_next_sync(self.prng.next_u64());
        self.post();
        self.post_again();
    }

    fn live(&mut self) {
        for _ in 0..120 {
            match self.prng.below(20) {
                0..7 => self.post(),
                7..16 => self.turn(),
                16 => {
                    let state = match self.prng.percent(50) {
                        true => SubscriptionState::Paused,
                        false => SubscriptionState::Active,
                    };
                    let name = *self.prng.pick(&NAMES);
                    self.world.set_state(name, state);
                }
                17 => self.crash(),
                18 if self.prng.percent(50) => self.rebuild(),
                18 => {
                    let operations = self.prng.below(12);
                    self.world.disk.die_after_operations(operations);
                    self.post();
                    if self.world.disk.is_down() {
                        self.crash();
                    }
                    self.world.disk.die_after_operations(u64::MAX);
                }
                _ => {}
            }
            let passed = self.prng.below(3000);
            self.world.pass(passed);
            if self.world.worker.stopped().is_some() {
                self.crash();
            }
        }
    }

    /// All troubles are over: everything arrives or is dead.
    fn end(&mut self) {
        self.crash();
        for name in NAMES {
            self.world.set_state(name, SubscriptionState::Active);
        }
        for _ in 0..2000 {
            self.turn();
            self.world.pass(2000);
            if self.on_the_way.is_empty() && NAMES.iter().all(|name| self.world.see(name).backlog == 0) {
                break;
            }
        }
        for name in NAMES {
            let seen = &self.seen[name];
            for (number, (kind, _)) in &self.accepted {
                let is_done = seen.answered.get(number) == Some(&true) || seen.dead.contains(number);
                assert!(!wants(name, *kind) || is_done, "{name} never gets {number}");
            }
            let counts = self.world.see(name);
            assert_eq!(counts.in_flight, 0, "{counts:?}");
        }
        self.world.restart(self.world.disk.kill());
    }
}

#[test]
fn what_was_accepted_arrives_in_the_order_of_its_key() {
    let (mut accepted, mut dead) = (0, 0);
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut day = Day::new(seed);
            day.live();
            day.end();
            (day.accepted.len(), day.seen.values().map(|seen| seen.dead.len()).sum::<usize>())
        });
        let run = run.unwrap_or_else(|_| panic!("seed {seed}"));
        accepted += run.0;
        dead += run.1;
    }
    assert!(accepted > 10_000 && dead > 20, "the days were too quiet: {accepted} accepted, {dead} dead");
}
