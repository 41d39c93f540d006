//! Schedules: events that the service posts by itself.

use crate::world::{START, World, by, event, numbers, spec, topic};
use contracts::ScheduleId;
use engines::log::Log;
use notify::{
    core::{
        Command, Post, Refused, Reply, ScheduleSeen,
        record::{Entry, Record},
        spec::TopicSpec,
        times::ScheduleSpec,
    },
    filter::Filter,
};
use std::{ops::ControlFlow, sync::Arc};
use units::{Sequence, TimeMs};

const MINUTE_MS: u64 = 60_000;

fn name(text: &str) -> ScheduleId {
    text.parse().unwrap()
}

fn schedule(cron: &str, time_zone: &str, event: &str) -> ScheduleSpec {
    let document = serde_json::json!({
        "topic": topic(), "cron": cron, "time_zone": time_zone,
        "event": serde_json::from_str::<serde_json::Value>(event).unwrap(),
    });
    serde_json::from_str(&document.to_string()).unwrap()
}

fn report() -> ScheduleSpec {
    schedule("*/5 * * * *", "UTC", r#"{"source":"/shop","type":"shop.report","data":{"n":1}}"#)
}

impl World {
    fn set(&mut self, named: &str, spec: ScheduleSpec) {
        let set = Command::SetSchedule { name: name(named), spec: Box::new(spec), by: by() };
        assert_eq!(self.ask(set), Reply::Done);
    }

    fn scheduled(&mut self, named: &str) -> ScheduleSeen {
        match self.ask(Command::Schedule(name(named))) {
            Reply::Schedules(seen) => seen.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Sleeps until the service wants to be woken, and wakes it.
    fn sleep(&mut self) {
        let until = self.worker.next_wakeup().unwrap();
        self.now = self.now.max(until);
        while !self.worker.step(self.now, &[]).is_empty() {}
    }

    fn bodies(&mut self) -> Vec<String> {
        let mut bodies = Vec::new();
        let mut reader = self.worker.log().reader();
        let each = &mut |_, bytes: &[u8]| {
            if let Ok(Entry { record: Record::Published { body, .. }, .. }) =
                engines::codec::Codec::decode(bytes)
            {
                bodies.push(String::from_utf8(body.to_vec()).unwrap());
            }
            ControlFlow::Continue(())
        };
        reader.read(Sequence(1), each).unwrap();
        bodies
    }
}

#[test]
fn a_schedule_posts_at_each_of_its_times_to_those_who_want_it() {
    let mut world = World::new();
    let wants: Filter = serde_json::from_str(r#"{"exact":{"type":"shop.report"}}"#).unwrap();
    world.subscribe("crm", notify::core::spec::SubscriptionSpec { filters: vec![wants], ..spec() });
    // START is 2027-01-15T08:00:00Z.
    world.pass(680);
    world.set("five", report());
    assert_eq!(world.scheduled("five").next, Some(TimeMs(START.0 + 5 * MINUTE_MS)));
    world.pass(5 * MINUTE_MS - 681);
    assert!(world.begin().is_empty());
    world.sleep();
    assert_eq!(numbers(&world.begin()), [1]);
    world.sleep();
    assert_eq!(numbers(&world.begin()), [2]);
    let want = |at: &str| {
        format!(
            r#"{{"id":"five@2027-01-15T{at}.000Z","source":"/shop","specversion":"1.0","time":"2027-01-15T{at}.000Z","type":"shop.report","data":{{"n":1}}}}"#
        )
    };
    assert_eq!(world.bodies(), [want("08:05:00"), want("08:10:00")]);
    let seen = world.scheduled("five");
    assert_eq!(
        (seen.posted, seen.last, seen.next.map(|at| at.0 - world.now.0)),
        (2, Some(world.now), Some(5 * MINUTE_MS))
    );
    world.restart(world.disk.kill());
    let paused = ScheduleSpec { is_paused: true, ..report() };
    world.set("five", paused);
    assert_eq!(world.scheduled("five").next, None);
    assert_eq!(world.worker.next_wakeup(), None);
    assert_eq!(world.ask(Command::DeleteSchedule { name: name("five"), by: by() }), Reply::Done);
    let none = Reply::Refused(Refused::NoSchedule(name("five")));
    assert_eq!(world.ask(Command::DeleteSchedule { name: name("five"), by: by() }), none);
    assert_eq!(world.ask(Command::Schedule(name("five"))), none);
    world.restart(world.disk.kill());
}

#[test]
fn times_that_are_missed_are_made_up_for_once() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.set("five", report());
    world.restart(world.disk.kill());
    world.pass(7 * 24 * 60 * MINUTE_MS + 1);
    assert_eq!(numbers(&world.begin()), [1], "one event for a week");
    let seen = world.scheduled("five");
    assert_eq!(seen.last, Some(TimeMs(START.0 + 5 * MINUTE_MS)), "for the first time missed");
    assert!(seen.next.unwrap() > world.now);
    // The clock is set back: nothing is posted for a second time.
    world.now = TimeMs(world.now.0 - 24 * 60 * MINUTE_MS);
    assert!(world.begin().is_empty());
    world.restart(world.disk.kill());
    assert!(numbers(&world.begin()).iter().all(|number| *number == 1));
}

#[test]
fn a_schedule_goes_by_the_clock_again_after_a_start_with_one_that_was_far_ahead() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.set("five", report());
    let right = world.now;
    world.now = TimeMs(right.0 + 10 * 365 * 24 * 60 * MINUTE_MS);
    world.begin();
    assert_eq!(world.scheduled("five").posted, 1);
    world.now = right;
    world.restart(world.disk.kill());
    assert_eq!(world.ask(Command::DeleteSchedule { name: name("five"), by: by() }), Reply::Done);
    world.set("five", report());
    assert_eq!(world.scheduled("five").next, Some(TimeMs(right.0 + 5 * MINUTE_MS)));
    world.sleep();
    assert_eq!(world.scheduled("five").posted, 1);
    world.restart(world.disk.kill());
}

#[test]
fn a_schedule_waits_while_its_topic_is_full() {
    let mut world = World::new();
    let small = TopicSpec { events_max: 2000, retain_events: 0, retain_seconds: 60, ..TopicSpec::default() };
    let define = |spec| Command::DefineTopic { name: topic(), spec, by: by() };
    assert_eq!(world.ask(define(small.clone())), Reply::Done);
    world.subscribe("crm", spec());
    for from in [0, 1000] {
        world.posted((from..from + 1000).map(|name| event(name, "t", None)).collect());
    }
    world.set("five", report());
    world.sleep();
    assert_eq!(world.scheduled("five").posted, 0);
    let woken = world.worker.next_wakeup().unwrap();
    assert!(woken > world.now && woken.0 <= world.now.0 + 1000, "it tries again, and not at once");
    world.restart(world.disk.kill());
    assert_eq!(world.ask(define(TopicSpec { events_max: 3000, ..small })), Reply::Done);
    world.sleep();
    let seen = world.scheduled("five");
    assert_eq!((seen.posted, seen.last.map(|at| at.0 - START.0)), (1, Some(5 * MINUTE_MS)));
    world.restart(world.disk.kill());
}

#[test]
fn an_event_that_was_posted_under_the_id_of_a_schedule_holds_it_up_never() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.set("five", report());
    let id = format!("five@{}", TimeMs(world.now.0 + 5 * MINUTE_MS));
    let forged = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"forged"}}"#);
    let events = vec![notify::core::cloud_events::from_json(forged.as_bytes()).unwrap()];
    let post = Post { topic: topic(), events, followed: None };
    assert!(matches!(world.ask(Command::Post(Arc::new(post))), Reply::Accepted(_)));
    world.sleep();
    assert_eq!(world.scheduled("five").last.map(|at| at.0), Some(world.now.0));
    world.sleep();
    assert_eq!(world.bodies().len(), 2);
}

#[test]
fn many_schedules_are_due_at_once_and_all_post() {
    let mut world = World::new();
    for at in 0..1000 {
        world.set(&format!("all-{at}"), report());
    }
    let one_more = Command::SetSchedule { name: name("more"), spec: Box::new(report()), by: by() };
    assert!(matches!(world.ask(one_more), Reply::Refused(Refused::TooMany { what: "schedules", .. })));
    world.pass(5 * MINUTE_MS);
    let steps = (0..).take_while(|_| {
        world.worker.step(world.now, &[]);
        world.worker.next_wakeup().is_some_and(|at| at <= world.now)
    });
    assert!(steps.count() < 1000);
    assert_eq!(world.bodies().len(), 1000);
    let page = |world: &mut World, after: &str| match world
        .ask(Command::Schedules { after: Some(name(after)), at_most: 2 })
    {
        Reply::Schedules(seen) => seen.iter().map(|seen| seen.name.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(page(&mut world, "all-99"), ["all-990", "all-991"]);
    world.restart(world.disk.kill());
}

#[test]
fn what_is_no_schedule_is_named() {
    let now = START;
    let problem = |spec: &ScheduleSpec| spec.problem(&name("five"), now).unwrap_or_default();
    assert_eq!(problem(&report()), "");
    for (cron, want) in [
        ("* * *", "five fields"),
        ("0 0 10 * * *", "five fields"),
        ("61 * * * *", "cron: \"61"),
        ("0 0 31 2 *", "names no time that ever comes"),
        (&"1,".repeat(400), "800 bytes, want 200"),
        ("", "cron: \"\""),
    ] {
        let said = problem(&ScheduleSpec { cron: cron.into(), ..report() });
        assert!(said.contains(want), "{cron}: {said}");
    }
    let said = problem(&ScheduleSpec { time_zone: "Mars/Olympus".into(), ..report() });
    assert!(said.contains("time_zone: \"Mars/Olympus\""), "{said}");
    for (event, want) in [
        (r#"{"source":"/shop"}"#, "type: missing"),
        (r#"{"source":"/shop","type":"t","id":"7"}"#, "id: leave it out"),
        (r#"{"source":"/shop","type":"t","deliverat":"2027-01-15T08:00:00Z"}"#, "deliverat: leave it out"),
    ] {
        let said = problem(&schedule("@daily", "UTC", event));
        assert!(said.contains(want), "{event}: {said}");
    }
}

#[test]
fn times_are_those_of_the_zone_also_when_its_clocks_change() {
    let mut world = World::new();
    let event = r#"{"source":"/shop","type":"t"}"#;
    world.set("shanghai", schedule("0 10 * * *", "Asia/Shanghai", event));
    assert_eq!(world.scheduled("shanghai").next, Some("2027-01-16T02:00:00Z".parse().unwrap()));
    // In Berlin 02:30 does not come on this day, and on the other it comes twice.
    for (from, times) in [
        ("2027-03-27T12:00:00Z", ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]),
        ("2027-10-30T12:00:00Z", ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]),
    ] {
        let mut world = World::new();
        world.now = from.parse().unwrap();
        world.set("berlin", schedule("30 2 * * *", "Europe/Berlin", event));
        for want in times {
            assert_eq!(world.scheduled("berlin").next, Some(want.parse().unwrap()), "from {from}");
            world.sleep();
        }
    }
}
