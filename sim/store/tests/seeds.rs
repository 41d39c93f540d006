//! A few dozen seeds on every test run; `cargo xtask chaos sim store` runs thousands.

use sim_store::runner::{self, Plan, run_one};

#[test]
fn every_promise_holds_under_injected_faults() {
    let plan = Plan { from: 1, seeds: 40, jobs: 2 };
    let summary = runner::run(plan, &|_| {});
    if let Some((seed, outcome)) = summary.failed {
        let (story, failure) = (outcome.story.join("\n"), outcome.failure);
        panic!("seed {seed}:\n{story}\n{failure:?}\nreplay: {}", runner::replay_command(seed));
    }
    assert_eq!(summary.passed, plan.seeds);
    let times = |what: &str| summary.reached.get(what).map_or(0, |(_, times)| *times);
    assert!(times("crash") >= 4 * plan.seeds && times("an operator does: delivered") >= plan.seeds);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1000..1006 {
        let (first, second) = (run_one(seed, false), run_one(seed, false));
        assert_eq!(first.failure, None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.processes, first.reached), (second.processes, second.reached), "seed {seed}");
    }
    assert_ne!(run_one(1, false).hash, run_one(2, false).hash);
}
