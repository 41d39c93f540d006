//! How strict the gate is: the orders of the operators, and the stage that the load calls for. Each
//! stage makes requests cost more, so that the present clients can be served; no stage decides
//! anything of a sale. The sale's rate belongs to the sale, and is in its log.
//!
//! The orders are kept in `operators/strategy.json` under the data directory. The stage is not
//! kept: it follows from the load.

use crate::ports::QueueFill;
use arc_swap::ArcSwap;
use contracts::{Actor, Attempt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};
use units::TimeMs;
use web::orders::OrdersFile;

const VERSION: u32 = 1;
/// If every turn of a loop takes this long, the load is 100 %: each client of the loop waits as
/// long.
const LAG_MS_FULL: u32 = 250;
/// The most that a single turn counts for: a machine that was busy with something else for a moment
/// calls for no stage.
const LAG_PERCENT_MAX: u32 = 400;

/// How strict the gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Normal,
    /// Challenges are one level of risk harder, a request counts twice against the address's rate,
    /// and idle connections are closed soon.
    Guarded,
    /// Challenges are two levels harder, and a request counts four times; answers other than to
    /// attempts end their connection; passes are only for shoppers who solved a challenge.
    Fortress,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::Normal, Self::Guarded, Self::Fortress];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Guarded => "guarded",
            Self::Fortress => "fortress",
        }
    }

    /// For operators who read Chinese.
    pub(crate) fn label_zh(self) -> &'static str {
        match self {
            Self::Normal => "正常",
            Self::Guarded => "戒备",
            Self::Fortress => "堡垒",
        }
    }

    fn of(number: u8) -> Self {
        Self::ALL[usize::from(number).min(2)]
    }
}

/// Who chooses the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Choice {
    /// The load.
    Automatic,
    Normal,
    Guarded,
    Fortress,
}

/// When a stage begins, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trigger {
    /// Load at which the stage begins.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) up_percent: u32,
    /// The stage ends once the load has been below this for down_seconds. Must be below up_percent.
    pub(crate) down_percent: u32,
    #[schemars(range(max = 3600))]
    pub(crate) down_seconds: u32,
}

/// The most that a tier may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TierShare {
    pub(crate) tier: u8,
    /// Part of the sale's rate. It is also the part of the queue up to which the tier's attempts
    /// may fill it.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) percent: u8,
}

/// The orders of the operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) stage: Choice,
    pub(crate) guarded: Trigger,
    pub(crate) fortress: Trigger,
    /// The part of each sale's queue that attempts may fill.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) queue_percent: u8,
    #[schemars(length(max = 256))]
    pub(crate) tiers: Vec<TierShare>,
    /// Effects are decided and counted, but nothing is refused or slowed.
    pub(crate) dry_run: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            stage: Choice::Automatic,
            guarded: Trigger { up_percent: 80, down_percent: 60, down_seconds: 30 },
            fortress: Trigger { up_percent: 95, down_percent: 80, down_seconds: 60 },
            queue_percent: 100,
            tiers: Vec::new(),
            dry_run: false,
        }
    }
}

impl Plan {
    /// The field that is wrong, and the allowed values.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let wrong = |trigger: &Trigger| {
            !(1..=100).contains(&trigger.up_percent)
                || trigger.down_percent >= trigger.up_percent
                || trigger.down_seconds > 3600
        };
        let want = "want up_percent of 1 to 100, down_percent below it, and down_seconds of 3600 at the most";
        let share = |percent: u8| (1..=100).contains(&percent);
        let mut tiers = [false; 256];
        let twice = self.tiers.iter().any(|of| std::mem::replace(&mut tiers[usize::from(of.tier)], true));
        if wrong(&self.guarded) {
            Some(("guarded", want))
        } else if wrong(&self.fortress) {
            Some(("fortress", want))
        } else if self.fortress.up_percent <= self.guarded.up_percent {
            Some(("fortress", "want up_percent above that of guarded"))
        } else if !share(self.queue_percent) {
            Some(("queue_percent", "want 1 to 100"))
        } else if twice || !self.tiers.iter().all(|of| share(of.percent)) {
            Some(("tiers", "want each tier once, with percent of 1 to 100"))
        } else {
            None
        }
    }
}

/// A plan, with who ordered it, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    version: u32,
    pub(crate) plan: Plan,
    pub(crate) since: TimeMs,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

/// The plan in force, prepared for fast look-ups.
#[derive(Debug)]
struct Standing {
    order: Option<Order>,
    plan: Plan,
    /// By tier.
    percents: [u8; 256],
    has_shares: bool,
}

impl Standing {
    fn new(order: Option<Order>) -> Self {
        let plan = order.as_ref().map(|order| order.plan.clone()).unwrap_or_default();
        let mut percents = [100; 256];
        plan.tiers.iter().for_each(|of| percents[usize::from(of.tier)] = of.percent);
        let has_shares = plan.queue_percent < 100 || percents.iter().any(|percent| *percent < 100);
        Self { order, plan, percents, has_shares }
    }
}

/// An effect of the strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    HarderChallenge,
    Slowed,
    /// An answer ended its connection.
    Closed,
    /// No pass without a challenge.
    ChallengeNeeded,
    /// The part of the queue that an attempt may fill was full.
    QueueShare,
    /// The part of the sale's rate of an attempt's tier was used up.
    RateShare,
}

impl Effect {
    const ALL: [Self; 6] = [
        Self::HarderChallenge,
        Self::Slowed,
        Self::Closed,
        Self::ChallengeNeeded,
        Self::QueueShare,
        Self::RateShare,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::HarderChallenge => "harder_challenge",
            Self::Slowed => "slowed",
            Self::Closed => "closed",
            Self::ChallengeNeeded => "challenge_needed",
            Self::QueueShare => "queue_share",
            Self::RateShare => "rate_share",
        }
    }
}

/// How much of each resource is used, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Load {
    pub(crate) queue: u32,
    pub(crate) connections: u32,
    /// Of gate.connections.memory_mark_percent.
    pub(crate) memory: u32,
    /// How long the turns of the loops took, over the last two seconds: 100 is 250 ms.
    pub(crate) lag: u32,
}

impl Load {
    pub(crate) fn most(&self) -> u32 {
        self.queue.max(self.connections).max(self.memory).max(self.lag)
    }

    /// The lag after a check at which the longest turn of a loop took this long: a moving average,
    /// to which each check contributes an eighth.
    pub(crate) fn next_lag(self, turn_ms: u32) -> u32 {
        let now = (turn_ms.saturating_mul(100) / LAG_MS_FULL).min(LAG_PERCENT_MAX);
        (self.lag * 7 + now) / 8
    }
}

/// A stage that follows the load.
#[derive(Debug, Default)]
struct Climb {
    load: Load,
    below_since: Option<TimeMs>,
}

/// The strategy.
#[derive(Debug)]
pub struct Strategy {
    file: OrdersFile,
    standing: ArcSwap<Standing>,
    climb: Mutex<Climb>,
    stage: AtomicU8,
    effects: [AtomicU64; Effect::ALL.len()],
}

impl Strategy {
    /// Reads the order, if there is one.
    pub fn open(data: &Path) -> io::Result<Self> {
        let strategy = Self {
            file: OrdersFile::new(data.join("operators/strategy.json")),
            standing: ArcSwap::from_pointee(Standing::new(None)),
            climb: Mutex::default(),
            stage: AtomicU8::new(0),
            effects: Default::default(),
        };
        strategy.refresh()?;
        Ok(strategy)
    }

    /// Reads the order in the file, if it has changed.
    pub(crate) fn refresh(&self) -> io::Result<()> {
        self.file.follow(|bytes| {
            let order = match bytes {
                None => None,
                Some(bytes) => {
                    let order: Order = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
                    if order.version != VERSION {
                        return Err(format!("version {}, want {VERSION}", order.version));
                    }
                    if let Some((field, want)) = order.plan.wrong() {
                        return Err(format!("{field}: {want}"));
                    }
                    Some(order)
                }
            };
            self.standing.store(Standing::new(order).into());
            Ok(())
        })
    }

    /// The plan in force, and its order, if there is one.
    pub(crate) fn standing(&self) -> (Plan, Option<Order>) {
        let standing = self.standing.load();
        (standing.plan.clone(), standing.order.clone())
    }

    /// Puts a plan in force, once this returns. Blocks on the disk.
    pub(crate) fn order(&self, plan: Plan, actor: &Actor, now: TimeMs) -> io::Result<()> {
        let Actor { name: actor, reason } = actor.clone();
        let order = Order { version: VERSION, plan, since: now, actor, reason };
        self.file.change(
            || Ok::<_, io::Error>((serde_json::to_vec_pretty(&order)?, Standing::new(Some(order.clone())))),
            |standing| self.standing.store(standing.into()),
        )?;
        self.look(self.load(), now);
        Ok(())
    }

    /// The present stage, also in a dry run.
    pub(crate) fn stage(&self) -> Stage {
        Stage::of(self.stage.load(Relaxed))
    }

    /// The load at the last check.
    pub(crate) fn load(&self) -> Load {
        self.climb().load
    }

    /// Chooses the stage for this load.
    pub(crate) fn look(&self, load: Load, now: TimeMs) {
        let mut climb = self.climb();
        climb.load = load;
        let (was, plan) = (self.stage(), &self.standing.load().plan);
        let stage = next(was, plan, &mut climb, now);
        if stage == was {
            return;
        }
        self.stage.store(stage as u8, Relaxed);
        let Load { queue, connections, memory, lag } = load;
        let (from, to, dry_run) = (was.label(), stage.label(), plan.dry_run);
        tracing::warn!(from, to, queue, connections, memory, lag, dry_run, "the gate's stage has changed");
    }

    fn climb(&self) -> MutexGuard<'_, Climb> {
        self.climb.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of levels by which a challenge is harder.
    pub(crate) fn harder_levels(&self) -> usize {
        self.effect(Effect::HarderChallenge, self.stage() as usize)
    }

    /// How many times a request counts against its address's rate.
    pub(crate) fn tokens_factor(&self) -> u64 {
        1 << self.effect(Effect::Slowed, self.stage() as u64)
    }

    /// Whether an answer other than to an attempt ends its connection.
    pub(crate) fn closes(&self) -> bool {
        self.effect(Effect::Closed, self.stage() == Stage::Fortress)
    }

    /// Whether a pass needs a solution, even if the configuration does not require one.
    pub(crate) fn needs_challenge(&self) -> bool {
        self.effect(Effect::ChallengeNeeded, self.stage() == Stage::Fortress)
    }

    /// Whether idle connections are closed soon.
    pub(crate) fn is_hurried(&self) -> bool {
        self.stage() > Stage::Normal && !self.standing.load().plan.dry_run
    }

    /// The rate of a tier in a sale with this rate, if it is less.
    pub(crate) fn tier_rate(&self, tier: u8, rate: u32) -> Option<u32> {
        let percent = self.standing.load().percents[usize::from(tier)];
        (percent < 100).then(|| (u64::from(rate) * u64::from(percent) / 100).max(1) as u32)
    }

    /// Counts an attempt beyond its tier's rate, and returns whether it is refused.
    pub(crate) fn is_over_rate_share(&self) -> bool {
        self.effect(Effect::RateShare, true)
    }

    /// Removes from a batch the attempts for which the part of the queue that they may fill has no
    /// room, and returns their tokens.
    pub(crate) fn over_queue_share(
        &self,
        queue: impl FnOnce() -> QueueFill,
        batch: &mut Vec<(u64, Attempt)>,
    ) -> Vec<u64> {
        let standing = self.standing.load();
        let mut over = Vec::new();
        if !standing.has_shares {
            return over;
        }
        let QueueFill { mut length, max, .. } = queue();
        batch.retain(|(token, attempt)| {
            let percent = standing.percents[usize::from(attempt.tier)].min(standing.plan.queue_percent);
            let has_room = length < (max * u64::from(percent)).div_ceil(100);
            let stays = has_room || !self.effect(Effect::QueueShare, true);
            length += u64::from(stays);
            if !stays {
                over.push(*token);
            }
            stays
        });
        over
    }

    /// Counts an effect, if there is one, and returns it; in a dry run, returns none.
    fn effect<T: Default + PartialEq>(&self, effect: Effect, much: T) -> T {
        if much == T::default() {
            return much;
        }
        self.effects[effect as usize].fetch_add(1, Relaxed);
        if self.standing.load().plan.dry_run { T::default() } else { much }
    }

    /// How often each effect was decided since the start.
    pub(crate) fn effects(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Effect::ALL.iter().zip(&self.effects).map(|(effect, count)| (effect.label(), count.load(Relaxed)))
    }
}

/// The stage after a check. It rises at once, as far as the load calls for, and falls one stage at
/// a time.
fn next(was: Stage, plan: &Plan, climb: &mut Climb, now: TimeMs) -> Stage {
    let pinned = match plan.stage {
        Choice::Automatic => None,
        Choice::Normal => Some(Stage::Normal),
        Choice::Guarded => Some(Stage::Guarded),
        Choice::Fortress => Some(Stage::Fortress),
    };
    if let Some(stage) = pinned {
        climb.below_since = None;
        return stage;
    }
    let load = climb.load.most();
    let called = match load {
        load if load >= plan.fortress.up_percent => Stage::Fortress,
        load if load >= plan.guarded.up_percent => Stage::Guarded,
        _ => Stage::Normal,
    };
    let (trigger, below) = match was {
        Stage::Normal => return called,
        Stage::Guarded => (plan.guarded, Stage::Normal),
        Stage::Fortress => (plan.fortress, Stage::Guarded),
    };
    if called > was {
        climb.below_since = None;
        return called;
    }
    if load >= trigger.down_percent {
        climb.below_since = None;
        return was;
    }
    let since = *climb.below_since.get_or_insert(now);
    if now.since(since).0 < u64::from(trigger.down_seconds) * 1000 {
        return was;
    }
    climb.below_since = None;
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Strategy) {
        let dir = tempfile::tempdir().unwrap();
        let strategy = Strategy::open(dir.path()).unwrap();
        (dir, strategy)
    }

    fn boss() -> Actor {
        Actor::new("boss", "launch day")
    }

    #[test]
    fn a_stage_begins_at_once_and_ends_one_at_a_time() {
        let (_dir, strategy) = open();
        let look = |seconds: u64, load: Load| {
            strategy.look(load, TimeMs(seconds * 1000));
            strategy.stage().label()
        };
        let queue = |percent| Load { queue: percent, ..Load::default() };
        assert_eq!(look(0, queue(79)), "normal");
        assert_eq!(look(1, queue(80)), "guarded");
        // A short quiet time does not end a stage, and a load between the two thresholds is not
        // quiet.
        assert_eq!([look(2, queue(10)), look(31, queue(10)), look(32, queue(70))], ["guarded"; 3]);
        assert_eq!([look(33, queue(10)), look(62, queue(10))], ["guarded"; 2]);
        assert_eq!(look(63, queue(10)), "normal");
        // Each resource counts, and a high load leads directly to the highest stage.
        for load in [
            Load { connections: 95, ..Load::default() },
            Load { memory: 120, ..Load::default() },
            Load { lag: 100, ..Load::default() },
        ] {
            let (_dir, strategy) = open();
            strategy.look(load, TimeMs(0));
            assert_eq!(strategy.stage(), Stage::Fortress, "{load:?}");
        }
        assert_eq!(look(100, queue(100)), "fortress");
        assert_eq!([look(101, queue(5)), look(160, queue(5))], ["fortress"; 2]);
        assert_eq!(look(161, queue(5)), "guarded");
        assert_eq!(
            [look(162, queue(5)), look(191, queue(5)), look(192, queue(5))],
            ["guarded", "guarded", "normal"]
        );
    }

    #[test]
    fn many_slow_turns_are_a_load_and_one_is_not() {
        let lag = |turns: &[u32]| {
            turns.iter().fold(Load::default(), |load, ms| Load { lag: load.next_lag(*ms), ..load }).lag
        };
        assert_eq!(lag(&[60_000]), 50, "a machine that stood still for a minute");
        assert!(lag(&[[60_000].as_slice(), &[0; 16]].concat()) < 10, "four seconds later");
        assert!(lag(&[500; 20]) > 150);
        // Turns of half a second each: every second check sees none that has ended.
        assert!(lag(&[0, 500].repeat(20)) > 95);
        assert!(lag(&[20; 100]) < 10);
    }

    #[test]
    fn a_pinned_stage_does_not_follow_the_load() {
        let (_dir, strategy) = open();
        let pin = |stage| strategy.order(Plan { stage, ..Plan::default() }, &boss(), TimeMs(0)).unwrap();
        pin(Choice::Guarded);
        assert_eq!(strategy.stage(), Stage::Guarded, "as soon as it is ordered");
        for percent in [100, 0] {
            strategy.look(Load { queue: percent, ..Load::default() }, TimeMs(3_600_000));
            assert_eq!(strategy.stage(), Stage::Guarded);
        }
        pin(Choice::Normal);
        strategy.look(Load { queue: 100, ..Load::default() }, TimeMs(3_600_000));
        assert_eq!(strategy.stage(), Stage::Normal);
        pin(Choice::Automatic);
        assert_eq!(strategy.stage(), Stage::Fortress, "the load of the last check");
    }

    #[test]
    fn a_dry_run_counts_effects_and_has_none() {
        let check = |dry_run: bool| {
            let (_dir, strategy) = open();
            let tiers = vec![TierShare { tier: 0, percent: 50 }];
            let plan = Plan { stage: Choice::Fortress, tiers, dry_run, ..Plan::default() };
            strategy.order(plan, &boss(), TimeMs(0)).unwrap();
            let mut batch = batch(&[0, 0]);
            let over = strategy.over_queue_share(|| fill(9), &mut batch).len();
            let done = (strategy.harder_levels(), strategy.tokens_factor(), over, batch.len());
            let refused = [
                strategy.closes(),
                strategy.needs_challenge(),
                strategy.is_over_rate_share(),
                strategy.is_hurried(),
            ];
            assert_eq!(strategy.effects().map(|(_, count)| count).collect::<Vec<_>>(), [1, 1, 1, 1, 2, 1]);
            (done, refused)
        };
        assert_eq!(check(false), ((2, 4, 2, 0), [true; 4]));
        assert_eq!(check(true), ((0, 1, 0, 2), [false; 4]));
    }

    /// The line does not count for shares of the queue.
    fn fill(length: u64) -> QueueFill {
        QueueFill { length, max: 10, line: 1000, line_max: 1000 }
    }

    fn batch(tiers: &[u8]) -> Vec<(u64, Attempt)> {
        let attempt = |(token, tier): (usize, &u8)| {
            let attempt = Attempt {
                id: Default::default(),
                shopper: contracts::ShopperKey([0; 16]),
                sealed: crate::keys::Keyring::from_master(&[7; 32]).seal("alice").unwrap().1,
                tier: *tier,
                basket: contracts::Basket::single(0, 1),
            };
            (token as u64, attempt)
        };
        tiers.iter().enumerate().map(attempt).collect()
    }

    #[test]
    fn a_tier_fills_its_part_of_the_queue_and_leaves_the_rest() {
        let (_dir, strategy) = open();
        let over = |length: u64, tiers: &[u8]| {
            let mut batch = batch(tiers);
            let over = strategy.over_queue_share(|| fill(length), &mut batch);
            assert_eq!(over.len() + batch.len(), tiers.len());
            over
        };
        assert!(over(10, &[0; 5]).is_empty(), "without shares only the sale refuses");
        let tiers = vec![TierShare { tier: 0, percent: 50 }];
        let plan = Plan { queue_percent: 80, tiers, ..Plan::default() };
        strategy.order(plan, &boss(), TimeMs(0)).unwrap();
        assert_eq!(over(3, &[0, 0, 0, 1, 0, 1, 1, 1]), [2, 4, 7], "five of tier 0, eight in all");
        assert_eq!((strategy.tier_rate(0, 100), strategy.tier_rate(1, 100)), (Some(50), None));
        assert_eq!(strategy.tier_rate(0, 1), Some(1), "at least 1");
    }

    #[test]
    fn a_restart_keeps_the_order_and_refuses_a_damaged_file() {
        let (dir, strategy) = open();
        assert_eq!(strategy.standing(), (Plan::default(), None));
        let plan = Plan { queue_percent: 50, stage: Choice::Guarded, ..Plan::default() };
        strategy.order(plan.clone(), &boss(), TimeMs(7)).unwrap();
        let (kept, order) = Strategy::open(dir.path()).unwrap().standing();
        let order = order.unwrap();
        assert_eq!(
            (kept, order.since, &*order.actor, &*order.reason),
            (plan, TimeMs(7), "boss", "launch day")
        );
        let file = dir.path().join("operators/strategy.json");
        let good = std::fs::read_to_string(&file).unwrap();
        for wrong in [
            String::new(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("\"queue_percent\": 50", "\"queue_percent\": 0"),
        ] {
            std::fs::write(&file, wrong).unwrap();
            let why = Strategy::open(dir.path()).unwrap_err().to_string();
            assert!(why.contains("operators/strategy.json"), "{why}");
        }
    }
}
