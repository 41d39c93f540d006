//! How much an address looks like a script, by cheap signals that fade: its score now, and so its
//! level of risk. This module sees hashes, times and signals, and keeps them in a table of fixed
//! size. What follows from a level is decided elsewhere.
//!
//! Each signal is a suspicion, not a proof: a level makes requests cost more. Only signals of a
//! machine ([`Signal::is_machine`]) can refuse an address for a while, and neither a plain client
//! nor many people with one address give such a signal.

use crate::config::RiskConfig;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Slots in which a key may live. When all are taken, the key with the lowest score is forgotten.
const WAYS: usize = 4;
/// A slot's first word holds 24 bits that identify its key and 40 bits of milliseconds, which wrap
/// around after 35 years.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Parts of a point, so that a small decay between two requests is not lost in rounding.
const PARTS: u64 = 64;
/// The most points of one signal: as many as its 16 bits hold.
pub(crate) const POINTS_MAX: u64 = u16::MAX as u64 / PARTS;
/// The window in which shoppers are counted.
const SHOPPERS_WINDOW_MS: u64 = 600_000;
/// People who share an address send requests at random times. Two gaps in a row differ by less than
/// a sixteenth in one case of sixteen, so six such pairs in a row are one case in many millions.
const STEADY_RUN: u64 = 6;
/// Shorter gaps are those of a crowd, and longer ones are not those of a script.
const STEADY_GAP_MS: std::ops::RangeInclusive<u64> = 50..=120_000;

/// A signal that an address may be a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// A proof of work was solved faster than any browser can.
    FastSolution,
    /// Headers that no browser sends.
    BareClient,
    /// Passes for many shoppers.
    ManyShoppers,
    /// Passes at regular intervals.
    SteadyCadence,
}

impl Signal {
    pub(crate) const ALL: [Self; 4] =
        [Self::FastSolution, Self::BareClient, Self::ManyShoppers, Self::SteadyCadence];

    /// The name in metrics and in the API.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::FastSolution => "fast_solution",
            Self::BareClient => "bare_client",
            Self::ManyShoppers => "many_shoppers",
            Self::SteadyCadence => "steady_cadence",
        }
    }

    /// Whether only a machine gives this signal, however many people share the address.
    fn is_machine(self) -> bool {
        matches!(self, Self::FastSolution | Self::SteadyCadence)
    }

    fn points(self, config: &RiskConfig) -> u64 {
        u64::from(match self {
            Self::FastSolution => config.fast_solution_points,
            Self::BareClient => config.bare_client_points,
            Self::ManyShoppers => config.many_shoppers_points,
            Self::SteadyCadence => config.steady_cadence_points,
        })
    }
}

/// Points by signal.
pub(crate) type Points = [u64; Signal::ALL.len()];

/// The risk of an address now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Risk {
    /// 0 to 3.
    pub(crate) level: usize,
    /// The same without the signal for many shoppers, so that an office is not slowed down.
    pub(crate) own_level: usize,
    /// Seconds until the address may have a pass again.
    pub(crate) refused_seconds: Option<u32>,
    pub(crate) points: Points,
}

#[derive(Debug, Default)]
struct Slot {
    owner_and_ms: AtomicU64,
    /// 16 bits for each [`Signal`], in parts of a point, at the time of the slot.
    points: AtomicU64,
    /// A bit for each of 64 hash classes of shoppers (linear counting: Whang et al., 1990).
    shoppers: AtomicU64,
    /// 32 bits: the last gap. 8 bits: how many gaps were like it. 24 bits: the window in which
    /// shoppers are counted.
    cadence: AtomicU64,
    /// When the last pass was requested, in milliseconds.
    pass_ms: AtomicU64,
}

/// The risks of a bounded number of addresses.
#[derive(Debug)]
pub(crate) struct Risks {
    slots: Vec<Slot>,
    config: RiskConfig,
    /// The number of classes with a shopper at the configured number of shoppers, beyond which
    /// there are points.
    classes_max: u32,
    seen: [AtomicU64; Signal::ALL.len()],
}

impl Risks {
    /// `slots` is a power of two; each takes 40 bytes.
    pub(crate) fn new(config: &RiskConfig, slots: usize) -> Self {
        let expected = 64.0 * (1.0 - (-f64::from(config.shoppers_max) / 64.0).exp());
        Self {
            slots: std::iter::repeat_with(Slot::default).take(slots.next_power_of_two().max(WAYS)).collect(),
            config: config.clone(),
            classes_max: expected.round() as u32,
            seen: Default::default(),
        }
    }

    /// Notes a request for a challenge or a pass.
    pub(crate) fn asked(&self, key: u64, is_bare: bool, now_ms: u64) {
        if is_bare {
            self.add(key, Signal::BareClient, now_ms);
        }
    }

    /// Notes that a pass was requested.
    pub(crate) fn asked_for_pass(&self, key: u64, now_ms: u64) {
        let slot = self.slot(key, now_ms);
        let before = slot.pass_ms.swap(now_ms, Relaxed);
        let gap = now_ms.saturating_sub(before).min(u64::from(u32::MAX));
        let cadence = slot.cadence.load(Relaxed);
        let (last_gap, run, window) = (cadence & 0xffff_ffff, cadence >> 32 & 0xff, cadence >> 40);
        let is_like = STEADY_GAP_MS.contains(&gap) && gap.abs_diff(last_gap) <= gap / 16;
        let run = if is_like { (run + 1).min(0xff) } else { 0 };
        slot.cadence.store(gap | run << 32 | window << 40, Relaxed);
        if run >= STEADY_RUN {
            self.add(key, Signal::SteadyCadence, now_ms);
        }
    }

    /// Notes a shopper who got a pass; `shopper` is a hash.
    pub(crate) fn gave_pass(&self, key: u64, shopper: u64, now_ms: u64) {
        let slot = self.slot(key, now_ms);
        let window = (now_ms / SHOPPERS_WINDOW_MS) & 0xff_ffff;
        let cadence = slot.cadence.load(Relaxed);
        let known = match cadence >> 40 == window {
            true => slot.shoppers.load(Relaxed),
            false => {
                slot.cadence.store(cadence & 0xff_ffff_ffff | window << 40, Relaxed);
                0
            }
        };
        let classes = known | 1 << (shopper >> 58);
        slot.shoppers.store(classes, Relaxed);
        if classes != known && classes.count_ones() > self.classes_max {
            self.add(key, Signal::ManyShoppers, now_ms);
        }
    }

    /// Notes a proof of work that was right. A slow one takes back half of the points of a fast
    /// one: of a thousand people with one address, a few are as fast by luck as a program always
    /// is.
    pub(crate) fn solved(&self, key: u64, too_fast: bool, now_ms: u64) {
        if too_fast {
            return self.add(key, Signal::FastSolution, now_ms);
        }
        let back = Signal::FastSolution.points(&self.config) * PARTS / 2;
        self.change(key, now_ms, |parts| parts[0] = parts[0].saturating_sub(back));
    }

    /// The risk of an address.
    pub(crate) fn of(&self, key: u64, now_ms: u64) -> Risk {
        let (owner, ways) = self.ways(key);
        let Some(slot) = ways.iter().find(|slot| slot.owner() == owner) else { return Risk::default() };
        let parts = self.parts(slot, now_ms);
        let sum = |wanted: fn(Signal) -> bool| -> u64 {
            Signal::ALL
                .into_iter()
                .zip(parts)
                .filter(|(signal, _)| wanted(*signal))
                .map(|(_, parts)| parts)
                .sum()
        };
        let level = |parts: u64| {
            self.config.levels.iter().take_while(|from| parts >= u64::from(**from) * PARTS).count()
        };
        let (machine, refuse_at) = (sum(Signal::is_machine), u64::from(self.config.refuse_at) * PARTS);
        let refused = refuse_at > 0 && machine >= refuse_at;
        // The score halves every `half_life_seconds`, as often as needed.
        let wait = || {
            let halvings = (machine as f64 / refuse_at as f64).log2();
            (halvings * f64::from(self.config.half_life_seconds)).ceil().max(1.0) as u32
        };
        Risk {
            level: level(sum(|_| true)),
            own_level: level(sum(|signal| signal != Signal::ManyShoppers)),
            refused_seconds: refused.then(wait),
            points: parts.map(|parts| parts / PARTS),
        }
    }

    /// How often each signal was seen since the start.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Signal::ALL.iter().zip(&self.seen).map(|(signal, count)| (signal.label(), count.load(Relaxed)))
    }

    fn add(&self, key: u64, signal: Signal, now_ms: u64) {
        let points = signal.points(&self.config);
        if points == 0 {
            return;
        }
        self.seen[signal as usize].fetch_add(1, Relaxed);
        let most = POINTS_MAX * PARTS;
        self.change(key, now_ms, |parts| {
            let of_signal = &mut parts[signal as usize];
            *of_signal = (*of_signal + points * PARTS).min(most);
        });
    }

    /// Changes the score of a key. Of two changes at the same moment one may be lost.
    fn change(&self, key: u64, now_ms: u64, change: impl FnOnce(&mut Points)) {
        let slot = self.slot(key, now_ms);
        let mut parts = self.parts(slot, now_ms);
        change(&mut parts);
        let packed = parts.iter().rev().fold(0, |packed, parts| packed << 16 | parts);
        slot.points.store(packed, Relaxed);
        slot.owner_and_ms.store(slot.owner() | now_ms & TIME_MASK, Relaxed);
    }

    /// The slot of the key; if it has none, the slot with the lowest score.
    fn slot(&self, key: u64, now_ms: u64) -> &Slot {
        let (owner, ways) = self.ways(key);
        if let Some(slot) = ways.iter().find(|slot| slot.owner() == owner) {
            return slot;
        }
        let score = |slot: &&Slot| (self.parts(slot, now_ms).iter().sum::<u64>(), slot.pass_ms.load(Relaxed));
        let slot = ways.iter().min_by_key(score).unwrap_or(&self.slots[0]);
        for word in [&slot.points, &slot.shoppers, &slot.cadence, &slot.pass_ms] {
            word.store(0, Relaxed);
        }
        slot.owner_and_ms.store(owner | now_ms & TIME_MASK, Relaxed);
        slot
    }

    fn ways(&self, key: u64) -> (u64, &[Slot]) {
        let owner = (key >> TIME_BITS) << TIME_BITS;
        let first = (key as usize).wrapping_mul(WAYS) & (self.slots.len() - 1);
        (owner, &self.slots[first..first + WAYS])
    }

    /// What is left of a slot's points. After a clock was set back, the time of the slot counts as
    /// long ago.
    fn parts(&self, slot: &Slot, now_ms: u64) -> Points {
        let since_ms = now_ms.wrapping_sub(slot.owner_and_ms.load(Relaxed)) & TIME_MASK;
        let halvings = since_ms as f64 / (f64::from(self.config.half_life_seconds) * 1000.0);
        let packed = slot.points.load(Relaxed);
        std::array::from_fn(|at| ((packed >> (16 * at) & 0xffff) as f64 * (-halvings).exp2()).round() as u64)
    }
}

impl Slot {
    fn owner(&self) -> u64 {
        self.owner_and_ms.load(Relaxed) & !TIME_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    const KEY: u64 = 0x1234_5678_9abc_def0;
    /// A time in 2026.
    const NOW: u64 = 1_795_000_000_000;

    fn risks(change: impl FnOnce(&mut RiskConfig)) -> Risks {
        let mut config = RiskConfig::default();
        change(&mut config);
        Risks::new(&config, 64)
    }

    fn points(risks: &Risks, signal: Signal, now: u64) -> u64 {
        risks.of(KEY, now).points[signal as usize]
    }

    #[test]
    fn points_add_up_to_levels_and_fade() {
        let risks = risks(|config| {
            (config.bare_client_points, config.levels) = (10, vec![20, 40, 80]);
            config.half_life_seconds = 100;
        });
        let levels: Vec<_> = (0..9)
            .map(|_| {
                risks.asked(KEY, true, NOW);
                risks.of(KEY, NOW).level
            })
            .collect();
        assert_eq!(levels, [0, 1, 1, 2, 2, 2, 2, 3, 3]);
        for (seconds, want) in [(0, 90), (50, 63), (100, 45), (200, 22), (1000, 0), (40_000_000, 0)] {
            assert_eq!(points(&risks, Signal::BareClient, NOW + seconds * 1000), want, "after {seconds} s");
        }
        assert_eq!(risks.of(KEY ^ 1 << 60, NOW), Risk::default(), "another key with the same slots");
        risks.asked(KEY, false, NOW);
        assert_eq!(points(&risks, Signal::BareClient, NOW), 90, "a browser adds nothing");
        // Little is lost in rounding, however often the score changes.
        (0..1000).for_each(|ms| risks.solved(KEY, false, NOW + 50_000 + ms));
        assert!((45..=46).contains(&points(&risks, Signal::BareClient, NOW + 100_000)));
    }

    #[test]
    fn neither_many_people_nor_plain_clients_are_refused() {
        let risks = risks(|_| {});
        let mut prng = Prng::new(1);
        let mut now = NOW;
        for _ in 0..5000 {
            now += 1 + prng.below(400);
            risks.asked(KEY, true, now);
            risks.asked_for_pass(KEY, now);
            // Of people with the fastest machines, one in twelve is by luck as fast as a program.
            risks.solved(KEY, prng.below(12) == 0, now);
            risks.gave_pass(KEY, prng.next_u64(), now);
            assert_eq!(risks.of(KEY, now).refused_seconds, None, "at {}", now - NOW);
        }
        assert_eq!(risks.of(KEY, now).level, 3, "the level is still 3");
    }

    #[test]
    fn many_shoppers_raise_the_price_and_do_not_slow_requests() {
        let risks = risks(|config| (config.many_shoppers_points, config.shoppers_max) = (30, 20));
        let mut prng = Prng::new(1);
        let first: Vec<u64> = (0..12).map(|_| prng.next_u64()).collect();
        for shopper in first.iter().cycle().take(1000) {
            risks.gave_pass(KEY, *shopper, NOW);
        }
        assert_eq!(risks.of(KEY, NOW), Risk::default(), "twelve who come often");
        (0..100).for_each(|_| risks.gave_pass(KEY, prng.next_u64(), NOW));
        let risk = risks.of(KEY, NOW);
        assert_eq!((risk.level, risk.own_level, risk.refused_seconds), (3, 0, None));
        let later = NOW + 2 * SHOPPERS_WINDOW_MS;
        first.iter().for_each(|shopper| risks.gave_pass(KEY, *shopper, later));
        assert!(risks.of(KEY, later).points[Signal::ManyShoppers as usize] <= 60, "a new window has begun");
    }

    #[test]
    fn regular_intervals_are_noticed_and_random_ones_are_not() {
        let cadence = |gaps: &mut dyn FnMut() -> u64, count: usize| {
            let (risks, mut now) = (risks(|_| {}), NOW);
            for _ in 0..count {
                now += gaps();
                risks.asked_for_pass(KEY, now);
            }
            points(&risks, Signal::SteadyCadence, now)
        };
        let mut prng = Prng::new(1);
        assert_eq!(cadence(&mut || 1000, 7), 0);
        assert!(cadence(&mut || 1000, 12) > 0);
        assert!(cadence(&mut || 1000 + prng.below(20), 12) > 0, "a loop over a network");
        assert_eq!(cadence(&mut || 10, 1000), 0, "a crowd in one moment");
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let mut chance = || (-500.0 * ((prng.below(1_000_000) + 1) as f64 / 1e6).ln()) as u64;
            assert_eq!(cadence(&mut chance, 2000), 0, "people, seed {seed}");
        }
    }

    #[test]
    fn a_machine_is_refused_until_it_has_been_quiet_for_a_while() {
        let risks = risks(|config| {
            (config.fast_solution_points, config.refuse_at, config.half_life_seconds) = (50, 100, 60);
        });
        risks.solved(KEY, true, NOW);
        assert_eq!(risks.of(KEY, NOW).refused_seconds, None);
        (0..3).for_each(|_| risks.solved(KEY, true, NOW));
        let wait = risks.of(KEY, NOW).refused_seconds.unwrap();
        assert_eq!(wait, 60, "from 200 points to 100");
        let then = NOW + u64::from(wait) * 1000;
        assert!(risks.of(KEY, then - 1000).refused_seconds.is_some());
        assert_eq!(risks.of(KEY, then + 1000).refused_seconds, None);
        let off = self::risks(|config| (config.fast_solution_points, config.refuse_at) = (50, 0));
        (0..100).for_each(|_| off.solved(KEY, true, NOW));
        assert_eq!(off.of(KEY, NOW).refused_seconds, None, "0 refuses nobody");
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_the_highest_scores_stay() {
        let risks = risks(|_| {});
        (0..20).for_each(|_| risks.solved(KEY, true, NOW));
        let mut prng = Prng::new(1);
        (0..100_000).for_each(|_| risks.asked(prng.next_u64(), true, NOW));
        assert_eq!(risks.of(KEY, NOW).level, 3);
        assert_eq!(risks.slots.len(), 64);
    }
}
