//! The rules, one by one.

use crate::world::*;
use notify::core::spec::{Exhausted, SubscriptionSpec, SubscriptionState};
use notify::core::{Accepted, Command, Outcome, Owed, Refused, Reply};
use notify::filter::Filter;
use units::{DurationMs, TimeMs};

#[test]
fn an_event_goes_to_every_subscription_whose_filters_it_passes() {
    let mut world = World::new();
    world.subscribe("all", spec());
    let granted: Filter = serde_json::from_str(r#"{"suffix":{"type":".granted"}}"#).unwrap();
    world.subscribe("granted", SubscriptionSpec { filters: vec![granted], ..spec() });
    world.posted(vec![event(1, "sale.opened", None), event(2, "sale.granted", None)]);
    let mut got: Vec<(String, u64)> =
        world.begin().iter().map(|delivery| (delivery.name.to_string(), delivery.event.0)).collect();
    got.sort();
    assert_eq!(got, [("all".into(), 1), ("all".into(), 2), ("granted".into(), 2)]);
    assert!(world.begin().is_empty(), "they are on their way");
}

#[test]
fn events_of_one_key_wait_for_each_other_and_other_keys_do_not() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted((1..=6).map(|name| event(name, "t", Some(name % 2))).collect());
    let first = world.begin();
    assert_eq!(numbers(&first), [1, 2]);
    let (next, again_at) = world.turn(vec![failed(&first[0]), delivered(&first[1])], 1000);
    assert_eq!(numbers(&next), [4], "1 is tried again before 3 and 5");
    let again_at = again_at.unwrap();
    assert!((900..=1100).contains(&again_at.since(world.now).0), "{again_at:?}");
    let (last, _) = world.turn(vec![delivered(&next[0])], 1000);
    assert_eq!(numbers(&last), [6]);
    world.turn(vec![delivered(&last[0])], 0);
    world.now = again_at;
    let again = world.begin();
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 2));
    assert_eq!(world.see("crm").backlog, 3);
}

#[test]
fn a_repetition_is_stored_once_and_another_event_of_its_name_is_refused() {
    let mut world = World::new();
    let (one, two) =
        (Accepted { event: no(1), is_repeat: false }, Accepted { event: no(2), is_repeat: false });
    let again = |accepted: Accepted| Accepted { is_repeat: true, ..accepted };
    assert_eq!(world.posted(vec![event(7, "t", None)]), [one]);
    assert_eq!(world.posted(vec![event(7, "t", None), event(8, "t", None)]), [again(one), two]);
    assert!(world.posted(vec![event(9, "t", None), event(9, "t", None)])[1].is_repeat);
    let mut other = event(8, "t", None);
    other.content = 99;
    let refused = world.post(vec![event(10, "t", None), other.clone()]);
    assert_eq!(refused, Reply::Refused(Refused::Repeated { at: 1, event: no(2) }));
    assert_eq!(world.posted(vec![event(10, "t", None)])[0].event, no(4), "nothing of the batch was stored");
    world.restart(world.disk.kill());
    assert_eq!(world.posted(vec![event(7, "t", None)]), [again(one)]);
    // After a day it is another event.
    world.pass(86_400_001);
    assert!(!world.posted(vec![other])[0].is_repeat);
}

#[test]
fn the_last_attempt_makes_a_dead_letter_that_can_be_tried_again_or_given_up() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1))]);
    for attempt in 1..=4 {
        let tried = world.begin();
        assert_eq!((numbers(&tried), tried[0].attempt), (vec![1], attempt));
        world.turn(vec![failed(&tried[0])], 0);
        world.pass(120_000);
    }
    assert_eq!(numbers(&world.begin()), [2], "the next of its key goes on");
    let letters = Command::Letters { name: id("crm"), after: no(0), at_most: 10 };
    let Reply::Letters(seen) = world.ask(letters.clone()) else { panic!() };
    assert_eq!((seen[0].event, seen[0].letter.attempts, &*seen[0].letter.said), (no(1), 4, "answer 400"));
    world.restart(world.disk.kill());
    assert_eq!(world.see("crm").dead, 1);
    let redrive = Command::Redrive { name: id("crm"), event: Some(no(1)), by: by() };
    assert_eq!(world.ask(redrive.clone()), Reply::Changed(1));
    assert_eq!(world.ask(redrive), Reply::Refused(Refused::NotFailed(no(1))));
    let again = world.begin();
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 1));
    for _ in 0..4 {
        let tried = world.begin();
        let tried = if tried.is_empty() { again.clone() } else { tried };
        world.turn(vec![failed(&tried[0])], 0);
        world.pass(120_000);
    }
    assert_eq!(world.see("crm").dead, 1);
    let discard = Command::Discard { name: id("crm"), event: None, by: by() };
    assert_eq!(world.ask(discard), Reply::Changed(1));
    assert_eq!(world.see("crm").dead, 0);
}

#[test]
fn a_key_that_is_to_wait_for_an_operator_waits_through_a_restart() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { exhausted: Exhausted::BlockKey, ..spec() });
    world.posted((1..=4).map(|name| event(name, "t", Some(name % 2))).collect());
    for _ in 0..4 {
        let tried = world.begin();
        let ends = tried.iter().map(|tried| match tried.event.0 % 2 {
            1 => failed(tried),
            _ => delivered(tried),
        });
        world.turn(ends.collect(), 0);
        world.pass(120_000);
    }
    world.restart(world.disk.kill());
    world.pass(86_400_000);
    assert!(world.begin().is_empty());
    let Reply::Event(Some(seen)) = world.ask(Command::Event { topic: topic(), event: no(1) }) else {
        panic!()
    };
    let blocked = Owed::Waiting { to: id("crm"), attempts: 4, again_at: None, is_blocked: true };
    assert_eq!(seen.owed, [blocked]);
    let redrive = Command::Redrive { name: id("crm"), event: Some(no(1)), by: by() };
    assert_eq!(world.ask(redrive), Reply::Changed(1));
    assert_eq!(numbers(&world.begin()), [1]);
}

#[test]
fn what_an_endpoint_asks_for_is_honoured() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", None), event(2, "t", None)]);
    let tried = world.begin();
    let after = Outcome::Failed { retry_after: Some(DurationMs::seconds(90)) };
    let (_, again_at) = world.turn(vec![ended(&tried[0], after, 429)], 0);
    let (_, again_at) = (again_at, world.turn(Vec::new(), 1).1);
    assert_eq!(again_at, Some(TimeMs(world.now.0 + 90_000)));
    world.turn(vec![ended(&tried[1], Outcome::Gone, 410)], 0);
    assert_eq!(world.see("crm").state, SubscriptionState::Disabled);
    world.pass(1_000_000);
    assert!(world.begin().is_empty());
    world.restart(world.disk.kill());
    assert!(world.begin().is_empty());
    world.set_state("crm", SubscriptionState::Active);
    assert_eq!(world.begin().len(), 2, "nothing was dropped");
}

#[test]
fn an_endpoint_that_is_down_is_left_alone_and_no_event_pays_for_that() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { in_flight_max: 20, ..spec() });
    world.posted((1..=40).map(|name| event(name, "t", None)).collect());
    let tried = world.begin();
    assert_eq!(tried.len(), 20);
    let down = Outcome::Failed { retry_after: None };
    let (next, _) = world.turn(tried.iter().map(|tried| ended(tried, down, 503)).collect(), 1000);
    assert!(next.is_empty());
    let until = world.see("crm").left_alone_until.unwrap();
    world.now = until;
    let probe = world.begin();
    assert_eq!(probe.len(), 1, "one delivery tries whether it answers again");
    let (next, _) = world.turn(vec![delivered(&probe[0])], 1000);
    assert_eq!(next.len(), 20);
    assert!(next.iter().all(|delivery| delivery.attempt <= 2), "{next:?}");
}

#[test]
fn a_paused_subscription_keeps_what_it_is_owed() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.set_state("crm", SubscriptionState::Paused);
    world.posted(vec![event(1, "t", None)]);
    assert!(world.begin().is_empty());
    world.restart(world.disk.kill());
    world.set_state("crm", SubscriptionState::Active);
    assert_eq!(numbers(&world.begin()), [1]);
    assert_eq!(world.ask(Command::Unsubscribe { name: id("crm"), by: by() }), Reply::Done);
    assert!(world.begin().is_empty());
}

#[test]
fn old_events_go_when_nobody_is_owed_them() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.subscribe("slow", spec());
    world.set_state("slow", SubscriptionState::Paused);
    world.posted(vec![event(1, "t", None), event(2, "t", None)]);
    let tried = world.begin();
    world.turn(tried.iter().map(delivered).collect(), 0);
    world.pass(8 * 86_400_000);
    world.posted(vec![event(3, "t", None)]);
    let kept = |world: &mut World| match world.ask(Command::Topics) {
        Reply::Topics(topics) => topics[0].kept,
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(&mut world), 3, "one subscription has had nothing");
    world.set_state("slow", SubscriptionState::Active);
    let tried = world.begin();
    world.turn(tried.iter().map(delivered).collect(), 0);
    world.posted(vec![event(4, "t", None)]);
    assert_eq!(kept(&mut world), 2);
    world.restart(world.disk.kill());
    assert_eq!(kept(&mut world), 2);
}

#[test]
fn an_endpoint_that_refuses_one_event_is_not_left_alone_for_that() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { in_flight_max: 20, ..spec() });
    world.posted((1..=40).map(|name| event(name, "t", None)).collect());
    let tried = world.begin();
    let down = Outcome::Failed { retry_after: None };
    world.turn(tried.iter().map(|tried| ended(tried, down, 503)).collect(), 0);
    world.now = world.see("crm").left_alone_until.unwrap();
    let probe = world.begin();
    assert_eq!(probe.len(), 1);
    let (next, _) = world.turn(vec![ended(&probe[0], down, 404)], 1000);
    assert_eq!((next.len(), world.see("crm").left_alone_until), (20, None), "it answers");
}

#[test]
fn a_deleted_subscription_leaves_nothing_under_way() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1))]);
    let tried = world.begin();
    assert_eq!(world.ask(Command::Unsubscribe { name: id("crm"), by: by() }), Reply::Done);
    world.subscribe("crm", spec());
    let (next, _) = world.turn(vec![delivered(&tried[0])], 1000);
    assert!(next.is_empty(), "it begins with the next event: {next:?}");
    world.posted(vec![event(3, "t", Some(1))]);
    assert_eq!(numbers(&world.begin()), [3]);
    assert_eq!(world.see("crm").in_flight, 1);
    world.restart(world.disk.kill());
}

#[test]
fn a_dead_letter_that_is_sent_again_does_not_hold_up_its_key() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1)), event(3, "t", Some(1))]);
    for _ in 0..4 {
        let tried = world.begin();
        world.turn(vec![failed(&tried[0])], 0);
        world.pass(120_000);
    }
    let second = world.begin();
    assert_eq!(numbers(&second), [2]);
    let redrive = Command::Redrive { name: id("crm"), event: Some(no(1)), by: by() };
    assert_eq!(world.ask(redrive), Reply::Changed(1));
    let (next, _) = world.turn(vec![delivered(&second[0])], 1000);
    assert_eq!(numbers(&next), [1]);
    let (last, _) = world.turn(vec![delivered(&next[0])], 1000);
    assert_eq!(numbers(&last), [3]);
}

#[test]
fn nothing_begins_before_what_an_earlier_state_knew_of_has_ended() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1))]);
    let old = world.begin();
    // The sync fails: the state is built again, and does not know that 1 is on its way.
    world.disk.fail_next_sync(3);
    world.posted(vec![event(3, "t", Some(1))]);
    let before = world.epoch;
    let (begun, _) = world.turn(Vec::new(), 1000);
    assert!(begun.is_empty() && world.epoch != before, "{begun:?}");
    let (next, _) = world.turn(vec![delivered(&old[0])], 1000);
    assert_eq!(numbers(&next), [2]);
}

#[test]
fn an_event_that_could_not_be_tried_waits_a_little_and_spends_no_attempt() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", None)]);
    let tried = world.begin();
    let (next, again_at) = world.turn(vec![ended(&tried[0], Outcome::NotTried, 0)], 1000);
    assert!(next.is_empty());
    world.now = again_at.unwrap();
    let again = world.begin();
    assert_eq!((numbers(&again), again[0].attempt), (vec![1], 1));
}

#[test]
fn a_subscription_is_not_behind_for_events_that_are_not_for_it() {
    let mut world = World::new();
    let granted: Filter = serde_json::from_str(r#"{"exact":{"type":"granted"}}"#).unwrap();
    world.subscribe("granted", SubscriptionSpec { filters: vec![granted], ..spec() });
    world.posted(vec![event(1, "expired", None), event(2, "expired", None)]);
    world.pass(60_000);
    let seen = world.see("granted");
    assert_eq!((seen.backlog, seen.oldest), (0, None));
    world.posted(vec![event(3, "granted", None)]);
    assert!(world.see("granted").backlog > 0);
}
