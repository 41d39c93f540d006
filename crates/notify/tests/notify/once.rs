//! A command under a key is carried out once, however often it comes: over restarts, from a
//! snapshot, and among other commands.

use crate::world::{World, by, event, failed, id, spec};
use contracts::CommandKey;
use notify::core::{Command, From, Notify, Refused, Reply, record::EventNo};
use runtime::Machine;
use units::DurationMs;

fn key(id: u8) -> CommandKey {
    CommandKey { id: [id; 16], command: [id; 16] }
}

fn once(key: CommandKey, command: Command) -> Command {
    Command::Once { key, command: Box::new(command) }
}

fn rotate(name: &str) -> Command {
    Command::RotateSecret { name: id(name), overlap: DurationMs(60_000), by: by() }
}

fn rotations(world: &mut World) -> u32 {
    let Reply::Subscription(seen) = world.ask(Command::Subscription(id("crm"))) else { panic!() };
    seen.signing.rotations
}

#[test]
fn a_repeated_rotation_leaves_the_secret_that_receivers_have() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    let first = world.ask(once(key(1), rotate("crm")));
    assert!(matches!(first, Reply::Subscribed { .. }), "{first:?}");
    world.now = world.now.plus(DurationMs(1000));
    assert_eq!(world.ask(once(key(1), rotate("crm"))), first, "the answer was lost");
    world.restart(world.disk.kill());
    assert_eq!(world.ask(once(key(1), rotate("crm"))), first, "after a restart");
    assert_eq!(rotations(&mut world), 1);
    // The same key for something else.
    let other = CommandKey { command: [9; 16], ..key(1) };
    assert_eq!(world.ask(once(other, rotate("crm"))), Reply::Refused(Refused::OtherCommand));
    assert_eq!(world.ask(once(key(1), Command::Topics)), Reply::Refused(Refused::TakesNoKey));
    assert_eq!(world.ask(once(key(1), rotate("none"))), Reply::Refused(Refused::NoSubscription(id("none"))));
    // Another key, and none, are other commands; the first one is answered as before.
    world.ask(once(key(2), rotate("crm")));
    world.ask(rotate("crm"));
    assert_eq!(world.ask(once(key(1), rotate("crm"))), first);
    assert_eq!(rotations(&mut world), 3);
}

#[test]
fn a_repeated_replay_and_redrive_send_nothing_twice() {
    let mut world = World::new();
    let mut one_attempt = spec();
    one_attempt.retry.attempts = 1;
    world.subscribe("crm", one_attempt);
    world.posted(vec![event(1, "t", Some(1))]);
    let tried = world.begin();
    world.turn(vec![failed(&tried[0])], 0);
    let redrive = once(key(1), Command::Redrive { name: id("crm"), event: None, by: by() });
    let done = Reply::Changed { changed: 1, left: 0 };
    assert_eq!(world.ask(redrive.clone()), done);
    let tried = world.begin();
    world.turn(vec![failed(&tried[0])], 0);
    // It is dead again, and this is no new command.
    assert_eq!(world.ask(redrive), done);
    assert!(world.begin().is_empty());
    let replay = once(key(2), Command::Replay { name: id("crm"), from: From::Event(EventNo(1)), by: by() });
    assert_eq!(world.ask(replay.clone()), Reply::Replays(EventNo(1)));
    assert_eq!(world.begin().len(), 1);
    let before = world.worker.machine().sequence();
    assert_eq!(world.ask(replay), Reply::Replays(EventNo(1)));
    assert_eq!(world.worker.machine().sequence(), before, "nothing is logged");
}

#[test]
fn a_subscription_remembers_its_latest_commands_for_a_day_and_a_snapshot_has_them() {
    let mut world = World::new();
    world.subscribe("crm", spec());
    world.subscribe("other", spec());
    let first = world.ask(once(key(0), rotate("crm")));
    // Those of another one make none forgotten.
    (0..100).for_each(|id| drop(world.ask(once(key(id), rotate("other")))));
    (1..32).for_each(|id| drop(world.ask(once(key(id), rotate("crm")))));
    let restored = Notify::restore(&world.worker.machine().snapshot()).unwrap();
    assert!(restored.snapshot() == world.worker.machine().snapshot());
    let again = |machine: &Notify, now| {
        let mut machine = Notify::restore(&machine.snapshot()).unwrap();
        let command = once(key(0), rotate("crm"));
        match machine.decide(now, &command, &0, &mut runtime::Step::default()).unwrap() {
            runtime::Decision::Done(reply) => reply == first,
            runtime::Decision::More(_) => panic!("a rotation is one step"),
        }
    };
    assert!(again(&restored, world.now));
    assert!(!again(&restored, world.now.plus(DurationMs::seconds(86_400))), "a day later it is forgotten");
    world.ask(once(key(32), rotate("crm")));
    assert!(!again(world.worker.machine(), world.now), "the oldest of more than 32 is forgotten");
    world.ask(Command::Unsubscribe { name: id("crm"), by: by() });
    assert!(Notify::restore(&world.worker.machine().snapshot()).is_ok());
}
