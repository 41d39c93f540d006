//! Subscriptions without an endpoint: consumers pull, and settle what they have pulled.

use crate::world::*;
use notify::core::spec::SubscriptionSpec;
use notify::core::{Command, Delivery, From, Outcome, Refused, Reply, Settled};
use units::DurationMs;

const LEASE: DurationMs = DurationMs(30_000);
const FAILED: Outcome = Outcome::Failed { retry_after: None };

fn pulled_spec() -> SubscriptionSpec {
    SubscriptionSpec { url: None, ..spec() }
}

fn pull(world: &mut World, at_most: usize) -> Vec<Delivery> {
    match world.ask(Command::Pull { name: id("worker"), at_most, lease: LEASE }) {
        Reply::Pulled { deliveries, .. } => deliveries,
        other => panic!("{other:?}"),
    }
}

/// How many were settled in time, and how many were late.
fn settle(world: &mut World, deliveries: &[Delivery], outcome: Outcome) -> (u64, u64) {
    let settled = |delivery: &Delivery| Settled { event: delivery.event, attempt: delivery.attempt, outcome };
    let ended = deliveries.iter().map(settled).collect();
    match world.ask(Command::Settle { name: id("worker"), ended }) {
        Reply::Settled { counted, late } => (counted, late),
        other => panic!("{other:?}"),
    }
}

fn start() -> World {
    let mut world = World::new();
    world.subscribe("worker", pulled_spec());
    world.posted((1..=6).map(|name| event(name, "t", Some(name % 2))).collect());
    world
}

#[test]
fn one_event_of_a_key_is_pulled_at_a_time_and_in_order() {
    let mut world = start();
    assert!(world.begin().is_empty(), "nothing is posted");
    let first = pull(&mut world, 10);
    assert_eq!(numbers(&first), [1, 2]);
    assert!(pull(&mut world, 10).is_empty());
    assert_eq!(settle(&mut world, &first[..1], Outcome::Delivered), (1, 0));
    assert_eq!(numbers(&pull(&mut world, 10)), [3]);
    world.restart(world.disk.kill());
    assert_eq!(numbers(&pull(&mut world, 10)), [2, 3], "leases end with the process");
    assert_eq!(world.see("worker").delivered, 1);
}

#[test]
fn what_is_not_settled_in_time_has_failed_and_is_tried_again() {
    let mut world = start();
    let first = pull(&mut world, 1);
    world.pass(LEASE.0);
    let other = pull(&mut world, 10);
    assert_eq!(numbers(&other), [2], "the first one's key waits");
    assert_eq!((world.see("worker").failed, world.see("worker").in_flight), (1, 1));
    world.pass(1200);
    let again = pull(&mut world, 10);
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 2));
    // What a consumer says that was too slow ends no other's lease.
    assert_eq!(settle(&mut world, &first, FAILED), (0, 1));
    assert_eq!(settle(&mut world, &first, Outcome::NotTried), (0, 1));
    assert!(pull(&mut world, 10).is_empty());
    assert_eq!(settle(&mut world, &again, FAILED), (1, 0));
    world.pass(60_000);
    let again = pull(&mut world, 1);
    world.pass(LEASE.0);
    world.pull_nothing();
    assert_eq!(settle(&mut world, &again, Outcome::Delivered), (0, 1));
    assert_eq!(world.see("worker").delivered, 1, "it is done");
    assert_eq!(settle(&mut world, &again, Outcome::Delivered), (0, 1));
    assert_eq!(world.see("worker").delivered, 1);
    world.restart(world.disk.kill());
}

#[test]
fn what_is_returned_spends_no_attempt_and_what_failed_waits() {
    let mut world = start();
    let first = pull(&mut world, 2);
    assert_eq!(settle(&mut world, &first[..1], Outcome::NotTried), (1, 0));
    let later = Outcome::Failed { retry_after: Some(DurationMs(90_000)) };
    assert_eq!(settle(&mut world, &first[1..], later), (1, 0));
    world.pass(1000);
    let again = pull(&mut world, 10);
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 1));
    world.pass(88_000);
    assert!(!numbers(&pull(&mut world, 10)).contains(&2));
    world.pass(1000);
    let again = pull(&mut world, 10);
    assert!(again.iter().any(|delivery| (delivery.event, delivery.attempt) == (no(2), 2)), "{again:?}");
}

#[test]
fn consumers_that_say_nothing_use_the_attempts_up_and_no_breaker_opens() {
    let mut world = World::new();
    world.subscribe("worker", SubscriptionSpec { in_flight_max: 40, ..pulled_spec() });
    world.posted((1..=40).map(|name| event(name, "t", None)).collect());
    for _ in 0..4 {
        assert_eq!(pull(&mut world, 100).len(), 40);
        world.pass(LEASE.0);
        world.pull_nothing();
        assert_eq!(world.see("worker").left_alone_until, None);
        world.pass(120_000);
    }
    assert_eq!((world.see("worker").dead, world.see("worker").backlog), (40, 0));
    world.restart(world.disk.kill());
}

#[test]
fn nothing_is_pulled_from_a_subscription_with_an_endpoint() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    let pull = Command::Pull { name: id("crm"), at_most: 1, lease: LEASE };
    assert_eq!(world.ask(pull), Reply::Refused(Refused::HasEndpoint(id("crm"))));
}

#[test]
fn what_a_consumer_holds_at_a_replay_comes_again_after_it() {
    for (outcome, waits_ms) in [(Some(FAILED), 3000), (Some(Outcome::NotTried), 3000), (None, 120_000)] {
        let mut world = start();
        let held = pull(&mut world, 1);
        assert_eq!(numbers(&held), [1]);
        let replay = Command::Replay { name: id("worker"), from: From::Event(no(1)), by: by() };
        assert_eq!(world.ask(replay), Reply::Replays(no(1)));
        assert_eq!(numbers(&pull(&mut world, 10)), [2], "1 is out, and 3 is of its key");
        if let Some(outcome) = outcome {
            assert_eq!(settle(&mut world, &held, outcome), (1, 0));
        }
        world.pass(waits_ms);
        world.pull_nothing();
        world.pass(3000);
        assert!(numbers(&pull(&mut world, 10)).contains(&1), "{outcome:?}: it is not out for ever");
    }
}

#[test]
fn what_is_not_out_is_not_settled() {
    let mut world = start();
    let first = pull(&mut world, 1);
    assert_eq!(numbers(&first), [1]);
    // 3 comes after 1 in its key, and no consumer has it.
    let other = Delivery { event: no(3), ..first[0].clone() };
    assert_eq!(settle(&mut world, &[other], Outcome::Delivered), (0, 1));
    assert_eq!(world.see("worker").delivered, 0);
    world.subscribe("crm", spec());
    let ended = vec![Settled { event: no(1), attempt: 1, outcome: Outcome::Delivered }];
    let refused = world.ask(Command::Settle { name: id("crm"), ended });
    assert_eq!(refused, Reply::Refused(Refused::HasEndpoint(id("crm"))));
    world.restart(world.disk.kill());
    assert_eq!(numbers(&pull(&mut world, 10)), [1, 2]);
}

impl World {
    /// Time passes in the core: what is due is done.
    fn pull_nothing(&mut self) {
        assert!(pull(self, 0).is_empty());
    }
}
