//! Subscriptions that begin with events from before they were made.

use crate::world::{World, by, delivered, event, failed, id, no, numbers, spec, topic};
use notify::core::{
    Command, Delivery, Fill, From, Reply,
    record::SubscriptionNo,
    spec::{Retry, SubscriptionSpec, TopicSpec},
};
use runtime::Machine;
use units::TimeMs;

impl World {
    fn subscribe_from(&mut self, name: &str, from: From) -> SubscriptionNo {
        match self.ask(Command::Subscribe { name: id(name), spec: spec(), from: Some(from), by: by() }) {
            Reply::Subscribed { subscription, .. } => subscription,
            other => panic!("{other:?}"),
        }
    }

    fn fills(&mut self) -> Vec<(u64, u64)> {
        match self.ask(Command::Fills) {
            Reply::Fills(fills) => fills.iter().map(|of| (of.fill.next.0, of.fill.end.0)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn fill(&mut self, subscription: SubscriptionNo, (next, up_to): (u64, u64), matched: &[u64]) {
        let matched = matched.iter().map(|number| no(*number)).collect();
        let fill = Command::Fill { subscription, next: no(next), up_to: no(up_to), matched };
        assert_eq!(self.ask(fill), Reply::Done);
    }

    /// What a subscription is delivered until there is no more.
    fn all_of(&mut self, name: &str) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let begun: Vec<Delivery> = self.begin();
            if begun.is_empty() {
                return all;
            }
            all.extend(numbers(
                &begun.iter().filter(|one| one.name == id(name)).cloned().collect::<Vec<_>>(),
            ));
            self.turn(begun.iter().map(delivered).collect(), 0);
        }
    }
}

/// Ten events of two keys.
fn world() -> World {
    let mut world = World::new();
    world.subscribe("old", spec());
    world.posted((1..=10).map(|name| event(name, "t", Some(name % 2))).collect());
    world
}

#[test]
fn a_subscription_gets_earlier_events_that_passed_its_filters_before_any_later_one() {
    let mut world = world();
    let late = world.subscribe_from("late", From::Event(no(3)));
    world.posted(vec![event(11, "t", Some(1))]);
    assert_eq!(world.fills(), [(3, 11)]);
    assert!(world.all_of("late").is_empty(), "its filters were not asked yet");
    world.restart(world.disk.kill());
    world.fill(late, (3, 6), &[3, 5, 6]);
    world.fill(late, (3, 6), &[4]);
    assert_eq!(world.see("late").fill, Some(Fill { next: no(7), end: no(11) }), "only the first counts");
    assert_eq!(world.all_of("late"), [3, 6, 5]);
    world.restart(world.disk.kill());
    world.fill(late, (7, 10), &[9]);
    assert!(world.fills().is_empty());
    world.restart(world.disk.kill());
    assert_eq!(world.all_of("late"), [9, 11]);
    let replay = Command::Replay { name: id("late"), from: From::Event(no(1)), by: by() };
    assert_eq!(world.ask(replay), Reply::Replays(no(3)));
    let mut again = world.all_of("late");
    again.sort_unstable();
    assert_eq!(again, [3, 5, 6, 9, 11]);
}

#[test]
fn a_start_at_a_time_or_past_the_last_event_is_one_too() {
    let mut world = world();
    world.pass(1000);
    world.posted(vec![event(11, "t", None)]);
    world.subscribe_from("timed", From::Time(TimeMs(world.now.0 - 500)));
    assert_eq!(world.fills(), [(11, 12)]);
    world.subscribe_from("next", From::Event(no(12)));
    world.subscribe_from("far", From::Event(no(u64::MAX)));
    assert_eq!(world.fills(), [(11, 12)], "they begin with the next event");
    world.posted(vec![event(12, "t", None)]);
    assert_eq!(world.all_of("next"), [12]);
    // For one that exists it means nothing.
    let again =
        Command::Subscribe { name: id("old"), spec: spec(), from: Some(From::Event(no(1))), by: by() };
    assert!(matches!(world.ask(again), Reply::Subscribed { is_new: false, .. }));
    assert_eq!(world.fills(), [(11, 12)]);
}

#[test]
fn what_is_told_of_other_events_than_the_next_ones_is_no_news() {
    let mut world = world();
    let late = world.subscribe_from("late", From::Event(no(3)));
    let before = world.worker.machine().snapshot();
    for (range, matched) in [
        ((2, 5), &[3][..]),
        ((4, 5), &[4]),
        ((3, 2), &[]),
        ((3, 11), &[3]),
        ((3, 5), &[6]),
        ((3, 5), &[5, 4]),
        ((3, 5), &[4, 4]),
    ] {
        world.fill(late, range, matched);
    }
    world.fill(SubscriptionNo(99), (3, 5), &[3]);
    assert_eq!(world.worker.machine().snapshot(), before);
}

#[test]
fn events_that_the_topic_lets_go_meanwhile_are_not_waited_for() {
    let mut world = World::new();
    let short = TopicSpec { retain_seconds: 60, retain_events: 0, ..TopicSpec::default() };
    let define = Command::DefineTopic { name: topic(), spec: short, by: by() };
    assert_eq!(world.ask(define), Reply::Done);
    world.posted((1..=10).map(|name| event(name, "t", None)).collect());
    let late = world.subscribe_from("late", From::Event(no(1)));
    world.posted(vec![event(11, "t", None)]);
    world.pass(61_000);
    assert_eq!(world.all_of("late"), [11], "all before it are gone");
    world.fill(late, (1, 10), &[1, 10]);
    assert!(world.fills().is_empty());
    assert_eq!(world.see("late").dropped, 10);
    world.restart(world.disk.kill());
    assert!(world.all_of("late").is_empty());
}

/// What is found for an event that is kept just for another by then is no news, live as well as
/// from the log.
#[test]
fn an_event_that_goes_apart_before_its_filter_is_asked_is_lost_to_it() {
    let mut world = World::new();
    let short = TopicSpec { retain_seconds: 60, retain_events: 0, ..TopicSpec::default() };
    let define = Command::DefineTopic { name: topic(), spec: short, by: by() };
    assert_eq!(world.ask(define), Reply::Done);
    world.subscribe("old", SubscriptionSpec { retry: Retry { attempts: 1, ..spec().retry }, ..spec() });
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(2))]);
    let begun = world.begin();
    world.turn(begun.iter().map(failed).collect(), 0);
    assert_eq!(world.see("old").dead, 2);
    world.posted(vec![event(3, "t", Some(1))]);
    let late = world.subscribe_from("late", From::Event(no(1)));
    world.pass(61_000);
    world.posted(vec![event(4, "t", Some(1))]);
    let begun = world.begin();
    world.turn(begun.iter().map(delivered).collect(), 0);
    world.fill(late, (1, 3), &[1, 3]);
    world.restart(world.disk.kill());
    let begun: Vec<Delivery> = world.begin().into_iter().filter(|one| one.name == id("late")).collect();
    world.turn(begun.iter().map(failed).collect(), 0);
    world.restart(world.disk.kill());
    let seen = world.see("late");
    assert_eq!((numbers(&begun)[0] > 2, seen.failed, seen.fill), (true, 1, None), "{begun:?}");
}
