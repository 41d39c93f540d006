//! A replay from far back, while an event is on its way, and while few of the old events are left.

use crate::world::*;
use notify::core::spec::{Retry, SubscriptionSpec, SubscriptionState, TopicSpec};
use notify::core::{Command, Delivery, From, Outcome, Reply, Settled};
use units::DurationMs;

/// More than the service looks at for one delivery.
const MANY: u64 = 1200;
const LEASE: DurationMs = DurationMs(30_000);

fn replay_all(world: &mut World, name: &str) {
    let replay = Command::Replay { name: id(name), from: From::Event(no(1)), by: by() };
    assert_eq!(world.ask(replay), Reply::Replays(no(1)));
}

/// Events without a key, but for the first and the last one, which have the same.
fn post_many(world: &mut World) {
    let key = |name| (name == 1 || name == MANY).then_some(7);
    (1..=MANY).for_each(|name| drop(world.posted(vec![event(name, "t", key(name))])));
}

/// Delivers until nothing begins any more, or this event does.
fn deliver_until(world: &mut World, last: u64) -> (Vec<u64>, Option<Delivery>) {
    let (mut had, mut ended) = (Vec::new(), Vec::new());
    loop {
        let (begun, _) = world.turn(std::mem::take(&mut ended), 1);
        match &begun[..] {
            [] => return (had, None),
            [delivery] if delivery.event == no(last) => return (had, begun.into_iter().next()),
            begun => {
                had.extend(numbers(begun));
                ended.extend(begun.iter().map(delivered));
            }
        }
    }
}

#[test]
fn what_is_on_its_way_far_from_where_a_replay_begins_is_not_on_its_way_for_ever() {
    for outcome in [delivered, failed] {
        let mut world = World::new();
        world.subscribe("crm", SubscriptionSpec { in_flight_max: 1, ..spec() });
        post_many(&mut world);
        let (had, last) = deliver_until(&mut world, MANY);
        assert_eq!(had.len() as u64, MANY - 1);
        replay_all(&mut world, "crm");
        assert!(world.begin().is_empty(), "one is on its way");
        let (begun, _) = world.turn(vec![outcome(&last.unwrap())], 1);
        assert_eq!(numbers(&begun), [1], "it has ended, and the first one comes before it");
        let (_, none) = world.turn(begun.iter().map(delivered).collect(), 0);
        assert_eq!(none, Some(world.now));
        let (had, _) = deliver_until(&mut world, 0);
        assert_eq!((had.len() as u64, had.last()), (MANY - 1, Some(&MANY)));
        assert_eq!((world.see("crm").in_flight, world.see("crm").backlog), (0, 0));
        world.restart(world.disk.kill());
    }
}

#[test]
fn what_is_leased_far_from_where_a_replay_begins_comes_again_in_its_order() {
    for settles in [true, false] {
        let mut world = World::new();
        let retry = Retry { attempts: 100, ..spec().retry };
        world.subscribe("worker", SubscriptionSpec { url: None, in_flight_max: 1000, retry, ..spec() });
        post_many(&mut world);
        let pull = |world: &mut World| match world.ask(Command::Pull {
            name: id("worker"),
            at_most: 1000,
            lease: LEASE,
        }) {
            Reply::Pulled { deliveries, .. } => deliveries,
            other => panic!("{other:?}"),
        };
        let settle = |world: &mut World, deliveries: &[Delivery], outcome| {
            let settled =
                |delivery: &Delivery| Settled { event: delivery.event, attempt: delivery.attempt, outcome };
            let ended = deliveries.iter().map(settled).collect();
            assert!(matches!(
                world.ask(Command::Settle { name: id("worker"), ended }),
                Reply::Settled { .. }
            ));
        };
        let first = pull(&mut world);
        settle(&mut world, &first, Outcome::Delivered);
        let mut rest = pull(&mut world);
        let last = rest.pop().unwrap();
        assert_eq!(last.event, no(MANY));
        settle(&mut world, &rest, Outcome::Delivered);
        replay_all(&mut world, "worker");
        match settles {
            true => settle(&mut world, &[last], Outcome::NotTried),
            false => world.pass(LEASE.0),
        }
        let first = pull(&mut world);
        assert_eq!((first.len(), first[0].event), (1000, no(1)));
        settle(&mut world, &first[1..], Outcome::Delivered);
        let rest = pull(&mut world);
        assert_eq!(rest.len() as u64, MANY - 1001, "the last one comes after the first one of its key");
        settle(&mut world, &first[..1], Outcome::Delivered);
        assert_eq!(numbers(&pull(&mut world)), [MANY]);
        assert_eq!(world.see("worker").in_flight, rest.len() as u32 + 1);
    }
}

#[test]
fn old_events_that_come_again_are_counted_before_they_are_looked_at() {
    let mut world = World::new();
    let spec_of_topic = TopicSpec { retain_events: 0, ..TopicSpec::default() };
    assert_eq!(world.ask(Command::DefineTopic { name: topic(), spec: spec_of_topic, by: by() }), Reply::Done);
    let retry = Retry { attempts: 1, ..spec().retry };
    world.subscribe("crm", SubscriptionSpec { retry, ..spec() });
    world.posted((1..=6).map(|name| event(name, "t", None)).collect());
    // Three die, and are kept, although those round them go.
    let begun = world.begin();
    let end = |delivery: &Delivery| {
        if delivery.event.0.is_multiple_of(2) { failed(delivery) } else { delivered(delivery) }
    };
    world.turn(begun.iter().map(end).collect(), 0);
    world.turn(Vec::new(), 0);
    assert_eq!((world.see("crm").dead, world.see("crm").backlog), (3, 0));
    replay_all(&mut world, "crm");
    let seen = world.see("crm");
    assert!((3..=6).contains(&seen.backlog) && seen.oldest == Some(START), "{seen:?}");
    assert_eq!(numbers(&world.begin()), [2, 4, 6]);
    assert_eq!(world.see("crm").backlog, 3);
}

#[test]
fn a_replay_of_what_is_no_longer_kept_is_no_backlog() {
    let mut world = World::new();
    let spec_of_topic = TopicSpec { retain_events: 1, ..TopicSpec::default() };
    assert_eq!(world.ask(Command::DefineTopic { name: topic(), spec: spec_of_topic, by: by() }), Reply::Done);
    let filters = serde_json::from_str(r#"[{"exact":{"type":"sale.granted"}}]"#).unwrap();
    world.subscribe("crm", SubscriptionSpec { filters, ..spec() });
    world.posted(vec![event(1, "sale.granted", None), event(2, "sale.expired", None)]);
    let begun = world.begin();
    world.turn(begun.iter().map(delivered).collect(), 0);
    world.turn(Vec::new(), 0);
    world.set_state("crm", SubscriptionState::Paused);
    replay_all(&mut world, "crm");
    let seen = world.see("crm");
    assert_eq!((seen.backlog, seen.oldest), (0, None), "the event that is left is not for it");
}
