//! Snapshots that earlier builds have written are read: the log that they stand for may have been
//! trimmed since.

use crate::world::{World, by, delivered, event, failed, id, spec, topic};
use contracts::CommandKey;
use notify::{
    core::{Command, From, NewEvent, Notify, Post, Reply, record::EventNo, spec::SubscriptionSpec},
    filter::Filter,
};
use runtime::{Machine, Step};
use std::sync::Arc;
use units::DurationMs;

const VERSION_2: &[u8] = include_bytes!("golden/snapshot-2.bin");
const VERSION_3: &[u8] = include_bytes!("golden/snapshot-3.bin");
const VERSION_4: &[u8] = include_bytes!("golden/snapshot-4.bin");
const VERSION_5: &[u8] = include_bytes!("golden/snapshot-5.bin");

/// A service with something of everything that snapshots of all versions have.
fn world() -> World {
    let mut world = World::new();
    let paid: Filter = serde_json::from_str(r#"{"prefix":{"type":"order.paid"}}"#).unwrap();
    world.subscribe("all", spec());
    world.subscribe("paid", SubscriptionSpec { filters: vec![paid], ..spec() });
    world.posted(vec![event(1, "order.paid", Some(1)), event(2, "order.made", Some(2))]);
    let due = Some(world.now.plus(DurationMs::seconds(60)));
    let later = |name, kind, key| NewEvent { due, ..event(name, kind, key) };
    world.posted(vec![later(3, "order.paid", Some(1)), later(4, "order.made", None)]);
    let tried = world.begin();
    assert_eq!(tried.len(), 3);
    world.turn(vec![delivered(&tried[0]), delivered(&tried[1]), failed(&tried[2])], 0);
    world.posted(vec![event(5, "order.paid", Some(2))]);
    world
}

/// And what came with version 4.
fn world_4() -> World {
    let mut world = world();
    let schedule = r#"{"topic":"sales","cron":"0 10 * * *","event":{"source":"/s","type":"t"}}"#;
    let spec = serde_json::from_str(schedule).unwrap();
    let set = Command::SetSchedule { name: "daily".parse().unwrap(), spec, by: by() };
    assert_eq!(world.ask(set), Reply::Done);
    let from = Some(From::Event(EventNo(2)));
    let late = Command::Subscribe { name: id("late"), spec: crate::world::spec(), from, by: by() };
    assert!(matches!(world.ask(late), Reply::Subscribed { .. }));
    world
}

/// And what came with version 5.
fn newest_world() -> World {
    let mut world = world_4();
    let redrive = |number| Command::Redrive { name: id("all"), event: Some(EventNo(number)), by: by() };
    let replay = Command::Replay { name: id("paid"), from: From::Event(EventNo(2)), by: by() };
    let rotate = Command::RotateSecret { name: id("paid"), overlap: DurationMs::seconds(60), by: by() };
    for (number, command) in [replay, rotate, redrive(2), redrive(1)].into_iter().enumerate() {
        let key = CommandKey { id: [number as u8; 16], command: [7; 16] };
        world.ask(Command::Once { key, command: Box::new(command) });
    }
    world
}

#[test]
fn the_newest_version_is_read_as_it_was_written() {
    let newest = newest_world().worker.machine().snapshot();
    assert!(newest == VERSION_5, "the newest version has other bytes: give them a number of their own");
    let restored = Notify::restore(VERSION_5).unwrap();
    assert!(restored.snapshot() == newest);
    assert!(
        matches!(Machine::read(&restored, &Command::Fills), Some(Reply::Fills(fills)) if fills.len() == 1)
    );
}

#[test]
fn a_snapshot_of_each_version_is_read_and_written_as_the_newest() {
    let now = world();
    for (version, bytes, now) in [(2, VERSION_2, &now), (3, VERSION_3, &now), (4, VERSION_4, &world_4())] {
        assert_eq!(bytes[0], version);
        let restored = Notify::restore(bytes).unwrap();
        let newest = now.worker.machine().snapshot();
        assert!(restored.snapshot() == newest, "version {version} is read as something else");
        let topics = Machine::read(&restored, &Command::Topics);
        assert_eq!(topics, Machine::read(now.worker.machine(), &Command::Topics));
    }
    // What was posted lately is forgotten in its time.
    let mut upgraded = Notify::restore(VERSION_2).unwrap();
    let again = |machine: &mut Notify| {
        let post = Post { topic: topic(), events: vec![event(1, "order.paid", Some(1))], followed: None };
        let mut out = Step::default();
        let now = now.now.plus(DurationMs::seconds(2 * 86_400));
        machine.decide(now, &Command::Post(Arc::new(post)), &0, &mut out).map(drop).unwrap();
        machine.snapshot()
    };
    let mut current = Notify::restore(VERSION_3).unwrap();
    assert!(again(&mut upgraded) == again(&mut current));
    let mut cut = VERSION_2.to_vec();
    cut.truncate(VERSION_2.len() / 2);
    Notify::restore(&cut).map(drop).unwrap_err();
    cut[0] = 99;
    Notify::restore(&cut).map(drop).unwrap_err();
}

#[test]
fn what_was_delayed_comes_to_all_that_it_matched() {
    let mut world = world();
    world.pass(61_000);
    let mut names: Vec<String> = Vec::new();
    loop {
        let begun = world.begin();
        if begun.is_empty() {
            break;
        }
        names.extend(begun.iter().map(|one| format!("{} {}", one.name, one.event.0)));
        world.turn(begun.iter().map(delivered).collect(), 0);
    }
    names.retain(|name| !name.ends_with(" 1") && !name.ends_with(" 2"));
    names.sort();
    assert_eq!(names, ["all 3", "all 4", "all 5", "paid 3", "paid 4"]);
}
