//! A few seeds on every test run; `cargo xtask chaos sim notify` runs thousands.

use sim::{runner, world};
use sim_notify::Messages;

#[test]
fn every_promise_holds_under_injected_faults() {
    let plan = runner::Plan { from: 1, seeds: 20, commands: runner::COMMANDS, jobs: 2 };
    let summary = runner::run::<Messages>(plan, &|_| {});
    if let Some((seed, outcome)) = summary.failed {
        let (story, replay) =
            (outcome.story.join("\n"), runner::replay_command::<Messages>(seed, plan.commands));
        panic!("seed {seed}:\n{story}\nreplay: {replay}");
    }
    assert_eq!(summary.passed, plan.seeds);
    assert!(summary.crashes >= plan.seeds && summary.commands >= plan.seeds * plan.commands);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1000..1004 {
        let run = || world::run::<Messages>(seed, 1000, false);
        let (first, second) = (run(), run());
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.commands, first.crashes), (second.commands, second.crashes), "seed {seed}");
    }
    assert_ne!(world::run::<Messages>(1, 1000, false).hash, world::run::<Messages>(2, 1000, false).hash);
}

#[test]
fn ten_days_of_a_dead_subscriber_take_a_moment() {
    // In some seeds endpoints are dead from the first day to the last, with retries over days.
    let days = (41..141).map(|seed| {
        let outcome = world::run::<Messages>(seed, 1000, false);
        assert_eq!(outcome.failure, None, "seed {seed}");
        outcome.time_ms / 86_400_000
    });
    let longest = days.take_while(|days| *days < 10).count();
    assert!(longest < 100, "no seed has ten days");
}
