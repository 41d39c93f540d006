//! The rules, one by one.

use crate::world::*;
use notify::core::spec::{Exhausted, SubscriptionSpec, SubscriptionState, TopicSpec, WhenFull};
use notify::core::{Accepted, Command, From, Letters, NewEvent, Outcome, Owed, Post, Refused, Reply};
use notify::filter::Filter;
use std::sync::Arc;
use units::{DurationMs, Sequence, TimeMs};

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
    let letters = Command::Letters { name: id("crm"), which: Letters::Dead, after: no(0), at_most: 10 };
    let Reply::Letters(seen) = world.ask(letters.clone()) else { panic!() };
    assert_eq!((seen[0].event, seen[0].letter.attempts, &*seen[0].letter.said), (no(1), 4, "answer 400"));
    world.restart(world.disk.kill());
    assert_eq!(world.see("crm").dead, 1);
    let redrive = Command::Redrive { name: id("crm"), event: Some(no(1)), by: by() };
    assert_eq!(world.ask(redrive.clone()), Reply::Changed { changed: 1, left: 0 });
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
    assert_eq!(world.ask(discard), Reply::Changed { changed: 1, left: 0 });
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
    assert_eq!(world.ask(redrive), Reply::Changed { changed: 1, left: 0 });
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
    let (_, again_at) = (again_at, world.turn(Vec::new(), 1000).1);
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
    world.turn(Vec::new(), 0);
    assert_eq!(kept(&mut world), 3, "one subscription has had nothing");
    world.set_state("slow", SubscriptionState::Active);
    let tried = world.begin();
    world.turn(tried.iter().map(delivered).collect(), 0);
    world.posted(vec![event(4, "t", None)]);
    world.turn(Vec::new(), 0);
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
    assert_eq!(world.ask(redrive), Reply::Changed { changed: 1, left: 0 });
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

fn kept(world: &mut World) -> u64 {
    match world.ask(Command::Topics) {
        Reply::Topics(topics) => topics[0].kept,
        other => panic!("{other:?}"),
    }
}

fn define(world: &mut World, spec: TopicSpec) {
    assert_eq!(world.ask(Command::DefineTopic { name: topic(), spec, by: by() }), Reply::Done);
}

fn deliver_all(world: &mut World) -> Vec<u64> {
    let tried = world.begin();
    world.turn(tried.iter().map(delivered).collect(), 0);
    numbers(&tried)
}

/// The first event fails four times and is dead, or blocks its key.
fn use_up(world: &mut World) {
    for _ in 0..4 {
        let (first, rest): (Vec<_>, Vec<_>) =
            world.begin().into_iter().partition(|tried| tried.event == no(1));
        let first = first.iter().map(failed);
        world.turn(rest.iter().map(delivered).chain(first).collect(), 0);
        world.pass(120_000);
    }
}

#[test]
fn what_nobody_is_owed_goes_when_there_is_too_much_of_it() {
    let mut world = World::new();
    define(&mut world, TopicSpec { retain_events: 5, ..TopicSpec::default() });
    world.subscribe("crm", spec());
    for name in 1..=8 {
        world.posted(vec![event(name, "t", None)]);
        deliver_all(&mut world);
    }
    world.posted(vec![event(9, "t", None)]);
    assert_eq!(kept(&mut world), 6);
    world.restart(world.disk.kill());
    assert_eq!((kept(&mut world), deliver_all(&mut world)), (6, vec![9]));
}

#[test]
fn one_dead_letter_or_blocked_key_keeps_no_other_event() {
    for exhausted in [Exhausted::DeadLetter, Exhausted::BlockKey] {
        let mut world = World::new();
        define(&mut world, TopicSpec { retain_events: 0, ..TopicSpec::default() });
        world.subscribe("crm", SubscriptionSpec { exhausted, ..spec() });
        world.posted((1..=8).map(|name| event(name, "t", Some(name))).collect());
        use_up(&mut world);
        world.posted(vec![event(9, "t", Some(1))]);
        world.posted(vec![event(10, "t", Some(2))]);
        let waits = if exhausted == Exhausted::BlockKey { vec![10] } else { vec![9, 10] };
        assert_eq!(deliver_all(&mut world), waits, "{exhausted:?}");
        world.posted(vec![event(11, "t", Some(3))]);
        // 1, 11, and 9 if its key waits.
        world.turn(Vec::new(), 0);
        assert_eq!(kept(&mut world), 4 - waits.len() as u64, "{exhausted:?}");
        world.restart(world.disk.kill());
        let redrive = Command::Redrive { name: id("crm"), event: None, by: by() };
        assert_eq!(world.ask(redrive), Reply::Changed { changed: 1, left: 0 });
        let mut first = deliver_all(&mut world);
        first.sort_unstable();
        assert_eq!(first, [1, 11], "{exhausted:?}");
        world.posted(vec![event(12, "t", Some(3))]);
        let last = deliver_all(&mut world);
        assert_eq!(last, if exhausted == Exhausted::BlockKey { vec![9, 12] } else { vec![12] });
        world.posted(vec![event(13, "t", Some(3))]);
        world.turn(Vec::new(), 0);
        assert_eq!(kept(&mut world), 1, "{exhausted:?}: nothing is kept apart for ever");
        world.restart(world.disk.kill());
    }
}

#[test]
fn a_deleted_subscription_keeps_nothing_apart() {
    let mut world = World::new();
    define(&mut world, TopicSpec { retain_events: 0, ..TopicSpec::default() });
    world.subscribe("crm", spec());
    world.posted((1..=8).map(|name| event(name, "t", Some(name))).collect());
    use_up(&mut world);
    world.posted(vec![event(9, "t", None)]);
    world.posted(vec![event(10, "t", None)]);
    assert_eq!(kept(&mut world), 3);
    assert_eq!(world.ask(Command::Unsubscribe { name: id("crm"), by: by() }), Reply::Done);
    assert_eq!(kept(&mut world), 2);
    world.restart(world.disk.kill());
}

#[test]
fn a_full_topic_refuses_or_drops_the_oldest_and_counts_it() {
    let mut world = World::new();
    define(&mut world, TopicSpec { events_max: 2000, retain_events: 0, ..TopicSpec::default() });
    world.subscribe("crm", spec());
    world.set_state("crm", SubscriptionState::Paused);
    let batch =
        |from: u64| (from..from + 1000).map(|name| event(name, "t", Some(name % 7))).collect::<Vec<_>>();
    world.posted(batch(1));
    world.posted(batch(1001));
    assert_eq!(world.post(batch(2001)), Reply::Refused(Refused::Full { kept: 2000 }));
    let when_full = WhenFull::DropOldest;
    define(&mut world, TopicSpec { events_max: 2000, retain_events: 0, when_full, ..TopicSpec::default() });
    world.posted(batch(2001));
    let seen = world.see("crm");
    assert_eq!((kept(&mut world), seen.dropped, seen.backlog), (2000, 1000, 2000));
    world.restart(world.disk.kill());
    world.set_state("crm", SubscriptionState::Active);
    assert_eq!(world.see("crm").dropped, 1000);
    let begun = world.begin();
    assert_eq!(numbers(&begun)[..3], [1001, 1002, 1003]);
    // What is on the way while it is dropped leaves no trace.
    world.posted(batch(3001));
    let (next, _) = world.turn(begun.iter().map(delivered).collect(), 1000);
    assert_eq!((next.len(), world.see("crm").in_flight), (7, 7), "one of each key");
    assert_eq!(world.see("crm").delivered, 0);
    world.restart(world.disk.kill());
}

#[test]
fn a_replay_delivers_again_in_order_and_no_more_than_it_was_to_get() {
    let mut world = World::new();
    world.posted(vec![event(1, "t", Some(1))]);
    world.subscribe("crm", spec());
    world.posted((2..=6).map(|name| event(name, "t", Some(name % 2))).collect());
    while !deliver_all(&mut world).is_empty() {}
    world.pass(60_000);
    world.posted(vec![event(7, "t", Some(1))]);
    deliver_all(&mut world);
    let replay = |from| Command::Replay { name: id("crm"), from, by: by() };
    assert_eq!(world.ask(replay(From::Time(world.now))), Reply::Replays(no(7)));
    assert_eq!(deliver_all(&mut world), [7]);
    assert_eq!(world.ask(replay(From::Event(no(1)))), Reply::Replays(no(2)), "1 was before it");
    world.restart(world.disk.kill());
    let mut again = Vec::new();
    loop {
        let some = deliver_all(&mut world);
        if some.is_empty() {
            break;
        }
        again.extend(some);
    }
    let of_key = |odd| again.iter().copied().filter(|name| name % 2 == odd).collect::<Vec<_>>();
    assert_eq!((of_key(0), of_key(1)), (vec![2, 4, 6], vec![3, 5, 7]));
    assert_eq!(world.ask(replay(From::Event(no(99)))), Reply::Replays(no(8)));
    assert!(deliver_all(&mut world).is_empty());
    world.restart(world.disk.kill());
}

#[test]
fn a_replay_takes_up_what_waits_is_dead_or_blocked() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { exhausted: Exhausted::BlockKey, ..spec() });
    world.subscribe("erp", spec());
    world.posted((1..=3).map(|name| event(name, "t", Some(name))).collect());
    use_up(&mut world);
    assert_eq!((world.see("crm").blocked, world.see("erp").dead), (1, 1));
    for name in ["crm", "erp"] {
        let replay = Command::Replay { name: id(name), from: From::Event(no(1)), by: by() };
        assert_eq!(world.ask(replay), Reply::Replays(no(1)));
        let seen = world.see(name);
        assert_eq!((seen.blocked, seen.dead, seen.backlog), (0, 0, 3), "{name}");
    }
    world.restart(world.disk.kill());
    let begun = world.begin();
    assert_eq!((begun.len(), begun.iter().all(|delivery| delivery.attempt == 1)), (6, true));
}

#[test]
fn blocked_keys_are_listed_with_why() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { exhausted: Exhausted::BlockKey, ..spec() });
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1))]);
    use_up(&mut world);
    let listed = |world: &mut World| {
        let blocked =
            Command::Letters { name: id("crm"), which: Letters::Blocked, after: no(0), at_most: 10 };
        let Reply::Letters(letters) = world.ask(blocked) else { panic!() };
        letters
            .iter()
            .map(|letter| (letter.event.0, letter.letter.attempts, letter.letter.status))
            .collect::<Vec<_>>()
    };
    assert_eq!((listed(&mut world), world.see("crm").blocked), (vec![(1, 4, 400)], 1));
    world.restart(world.disk.kill());
    assert_eq!(listed(&mut world), [(1, 4, 400)]);
    let discard = Command::Discard { name: id("crm"), event: Some(no(1)), by: by() };
    assert_eq!(world.ask(discard), Reply::Changed { changed: 1, left: 0 });
    assert_eq!((listed(&mut world), deliver_all(&mut world)), (vec![], vec![2]));
}

#[test]
fn slow_endpoints_leave_places_for_others() {
    let mut world = World::new();
    for name in ["a", "b", "c", "d"] {
        world.subscribe(name, SubscriptionSpec { in_flight_max: 64, ..spec() });
    }
    world.posted((1..=100).map(|name| event(name, "t", None)).collect());
    let all = world.turn(Vec::new(), 100).0;
    assert!(all.len() <= 100);
    let of = |name: &str| all.iter().filter(|delivery| delivery.name == id(name)).count();
    assert!(
        ["a", "b", "c", "d"].iter().all(|name| of(name) >= 12),
        "{} {} {} {}",
        of("a"),
        of("b"),
        of("c"),
        of("d")
    );
    // A place that is free again is taken at once.
    let (next, _) = world.turn(vec![delivered(&all[0])], 100 - all.len() + 1);
    assert_eq!(next.len(), 1);
}

#[test]
fn a_rotated_secret_leaves_the_old_one_for_a_while() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", None)]);
    assert_eq!(world.begin()[0].signing.rotations, 0);
    let rotate = Command::RotateSecret { name: id("crm"), overlap: DurationMs(60_000), by: by() };
    let Reply::Subscribed { signing, .. } = world.ask(rotate) else { panic!() };
    assert_eq!((signing.rotations, signing.old_until), (1, world.now.plus(DurationMs(60_000))));
    world.restart(world.disk.kill());
    assert_eq!(world.begin()[0].signing, signing);
}

#[test]
fn a_post_that_would_cost_too_much_says_how_many_events_fit() {
    let mut world = World::new();
    let filter = |n: usize| -> Filter {
        let all: Vec<_> = (0..n).map(|n| serde_json::json!({ "exact": { "type": n.to_string() } })).collect();
        serde_json::from_value(serde_json::json!({ "any": all })).unwrap()
    };
    for name in 0..100 {
        world.subscribe(&format!("s{name}"), SubscriptionSpec { filters: vec![filter(60)], ..spec() });
    }
    let batch = |n| (1..=n).map(|name| event(name, "t", None)).collect::<Vec<_>>();
    let Reply::Refused(Refused::TooManyComparisons { fit }) = world.post(batch(1000)) else { panic!() };
    assert!((10..100).contains(&fit), "{fit}");
    assert_eq!(world.posted(batch(fit as u64)).len(), fit);
}

#[test]
fn subscriptions_are_listed_page_by_page() {
    let mut world = World::new();
    for name in ["c", "a", "b"] {
        world.subscribe(name, spec());
    }
    let page = |world: &mut World, after: Option<&str>| match world
        .ask(Command::Subscriptions { after: after.map(id), at_most: 2 })
    {
        Reply::Subscriptions(seen) => seen.iter().map(|seen| seen.name.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (page(&mut world, None), page(&mut world, Some("b"))),
        (vec!["a".into(), "b".into()], vec!["c".to_owned()])
    );
}

#[test]
fn a_delayed_event_is_published_when_it_is_due_also_after_a_restart() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.subscribe("gone", spec());
    let due = |world: &World, seconds: u64| Some(world.now.plus(DurationMs::seconds(seconds)));
    let delayed =
        |world: &World, name, seconds| NewEvent { due: due(world, seconds), ..event(name, "t", Some(1)) };
    let batch = vec![delayed(&world, 1, 60), event(2, "t", Some(1)), delayed(&world, 3, 30)];
    let accepted = world.posted(batch.clone());
    assert_eq!(accepted.iter().map(|accepted| accepted.event.0).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(world.posted(batch).iter().all(|accepted| accepted.is_repeat));
    let other = NewEvent { content: 9, ..delayed(&world, 1, 60) };
    assert_eq!(world.post(vec![other]), Reply::Refused(Refused::Repeated { at: 0, event: no(0) }));
    assert_eq!(world.ask(Command::Unsubscribe { name: id("gone"), by: by() }), Reply::Done);
    assert_eq!(deliver_all(&mut world), [1]);
    world.subscribe("late", spec());
    world.restart(world.disk.kill());
    world.pass(29_999);
    assert!(world.begin().is_empty());
    assert_eq!(world.worker.next_wakeup(), Some(world.now.plus(DurationMs(1))));
    world.pass(1);
    let begun = world.begin();
    assert_eq!(
        (numbers(&begun), begun[0].name.clone()),
        (vec![2], id("crm")),
        "who subscribed later has it not"
    );
    world.restart(world.disk.kill());
    world.pass(30_000);
    assert_eq!(deliver_all(&mut world), [2]);
    assert_eq!(deliver_all(&mut world), [3]);
    let Reply::Topics(topics) = world.ask(Command::Topics) else { panic!() };
    assert_eq!((topics[0].delayed, topics[0].last), (0, no(3)));
    let past = NewEvent { due: Some(TimeMs(5)), ..event(7, "t", None) };
    assert_eq!(world.posted(vec![past])[0].event, no(4), "at once");
    let far = NewEvent { due: due(&world, 400 * 86_400), ..event(8, "t", None) };
    assert_eq!(world.post(vec![event(9, "t", None), far]), Reply::Refused(Refused::TooLate { at: 1 }));
    world.restart(world.disk.kill());
}

#[test]
fn a_retry_that_ends_after_the_state_was_built_again_is_logged() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1))]);
    let first = world.begin();
    let (_, again_at) = world.turn(vec![failed(&first[0])], 1000);
    world.now = again_at.unwrap();
    let second = world.begin();
    assert_eq!(second[0].attempt, 2);
    world.disk.fail_next_sync(3);
    world.posted(vec![event(2, "t", Some(2))]);
    world.turn(vec![failed(&second[0])], 0);
    assert_eq!(world.see("crm").failed, 2, "both attempts count");
}

#[test]
fn a_late_report_does_not_end_a_later_attempt() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted(vec![event(1, "t", Some(1))]);
    let first = world.begin();
    let (_, again_at) = world.turn(vec![failed(&first[0])], 1000);
    world.now = again_at.unwrap();
    let second = world.begin();
    let (begun, _) = world.turn(vec![failed(&first[0])], 1000);
    assert!(begun.is_empty(), "it is on its way: {begun:?}");
    assert_eq!(world.see("crm").in_flight, 1);
    world.turn(vec![delivered(&second[0])], 1000);
    assert_eq!((world.see("crm").in_flight, world.see("crm").delivered), (0, 1));
}

#[test]
fn a_log_cannot_have_been_followed_up_to_nothing() {
    let mut world = World::new();
    let post = |up_to| {
        let followed = Some(("sale-1".to_owned(), Sequence(up_to)));
        Command::Post(Arc::new(Post { topic: topic(), events: Vec::new(), followed }))
    };
    let refused = |before| Reply::Refused(Refused::FollowedBefore(Sequence(before)));
    assert_eq!(world.ask(post(0)), refused(0));
    assert_eq!(world.ask(post(2)), Reply::Accepted(Vec::new()));
    assert_eq!(world.ask(post(2)), refused(2));
}

#[test]
fn old_events_go_also_from_a_topic_to_which_nobody_posts() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.posted((1..=5).map(|name| event(name, "t", None)).collect());
    deliver_all(&mut world);
    world.pass(8 * 86_400_000);
    world.turn(Vec::new(), 0);
    assert_eq!(kept(&mut world), 0);
    world.restart(world.disk.kill());
    assert_eq!(kept(&mut world), 0);
}

#[test]
fn a_replay_waits_for_what_is_on_its_way() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { in_flight_max: 1, ..spec() });
    world.posted(vec![event(1, "t", Some(1)), event(2, "t", Some(1))]);
    let first = world.begin();
    let replay = Command::Replay { name: id("crm"), from: From::Event(no(1)), by: by() };
    assert_eq!(world.ask(replay), Reply::Replays(no(1)));
    assert!(world.begin().is_empty(), "1 is on its way");
    assert_eq!(world.see("crm").in_flight, 1);
    let (next, _) = world.turn(vec![delivered(&first[0])], 1000);
    assert_eq!(numbers(&next), [2]);
    world.turn(vec![delivered(&next[0])], 1000);
    assert_eq!((world.see("crm").in_flight, world.see("crm").backlog), (0, 0));
    world.restart(world.disk.kill());
}

#[test]
fn a_refused_batch_names_the_number_that_the_earlier_event_would_have() {
    let mut world = World::new();
    let due = Some(world.now.plus(DurationMs::seconds(60)));
    let later = |name| NewEvent { due, ..event(name, "t", None) };
    let other = |name| NewEvent { content: 99, ..event(name, "t", None) };
    let refused = |at, number| Reply::Refused(Refused::Repeated { at, event: no(number) });
    let soon = |name| event(name, "t", None);
    assert_eq!(world.post(vec![soon(1), soon(2), other(2)]), refused(2, 2));
    assert_eq!(world.post(vec![later(1), other(1)]), refused(1, 0), "it has no number yet");
    assert_eq!(world.post(vec![later(1), soon(2), other(2)]), refused(2, 1), "1 takes none");
}
