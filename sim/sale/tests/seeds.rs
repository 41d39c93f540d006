//! A few dozen seeds on every test run; `cargo xtask chaos sim` runs thousands.

use sim::{runner, world};
use sim_sale::Sale;

#[test]
fn every_promise_holds_under_injected_faults() {
    let plan = runner::Plan { from: 1, seeds: 40, commands: runner::COMMANDS, jobs: 2 };
    let summary = runner::run::<Sale>(plan, &|_| {});
    if let Some((seed, outcome)) = summary.failed {
        let (story, replay) = (outcome.story.join("\n"), runner::replay_command::<Sale>(seed, plan.commands));
        panic!("seed {seed}:\n{story}\nreplay: {replay}");
    }
    assert_eq!(summary.passed, plan.seeds);
    assert!(summary.crashes >= plan.seeds && summary.commands >= plan.seeds * plan.commands);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1000..1006 {
        let (first, second) = (world::run::<Sale>(seed, 1000, false), world::run::<Sale>(seed, 1000, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.commands, first.crashes), (second.commands, second.crashes), "seed {seed}");
    }
    assert_ne!(world::run::<Sale>(1, 1000, false).hash, world::run::<Sale>(2, 1000, false).hash);
}
