//! An endpoint's rate, and when a subscription lags.

use crate::world::{World, delivered, event, failed, spec};
use notify::core::spec::SubscriptionSpec;
use units::{DurationMs, TimeMs};

/// Delivers all that begins, for so many milliseconds. When each began.
fn begun_in(world: &mut World, ms: u64) -> Vec<TimeMs> {
    let end = world.now.plus(DurationMs(ms));
    let mut begun = Vec::new();
    let mut ended = Vec::new();
    while world.now < end {
        let (deliveries, next_at) = world.turn(std::mem::take(&mut ended), 1000);
        begun.extend(deliveries.iter().map(|_| world.now));
        ended = deliveries.iter().map(delivered).collect();
        if ended.is_empty() {
            let next = next_at.unwrap_or(end);
            assert!(next > world.now, "asked to come back at once");
            world.now = next;
        }
    }
    begun
}

#[test]
fn deliveries_keep_to_the_rate_and_are_spread() {
    for rate in [1_u32, 7, 50, 1000] {
        let mut world = World::new();
        world.subscribe("crm", SubscriptionSpec { rate_max: rate, in_flight_max: 1000, ..spec() });
        for block in 0..rate as u64 * 12 / 1000 + 1 {
            world.posted((1..=1000).map(|name| event(block * 1000 + name, "t", None)).collect());
        }
        let begun = begun_in(&mut world, 10_000);
        let most = rate as usize * 10 + 1 + rate as usize / 10;
        assert!((rate as usize * 10..=most).contains(&begun.len()), "{rate}: {} in ten seconds", begun.len());
        let in_a_second =
            |from: usize| begun[from..].iter().take_while(|at| at.since(begun[from]).0 < 1000).count();
        let busiest = (0..begun.len()).map(in_a_second).max().unwrap();
        let burst = 1 + rate as usize / 10;
        assert!(busiest <= rate as usize + burst, "{rate}: {busiest} in a second");
    }
}

#[test]
fn a_clock_that_is_set_back_holds_the_rate_up_for_a_moment_only() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { rate_max: 10, ..spec() });
    world.posted((1..=100).map(|name| event(name, "t", None)).collect());
    assert_eq!(begun_in(&mut world, 1000).len(), 11);
    world.now = TimeMs(world.now.0 - 3_600_000);
    world.posted(vec![event(101, "t", None)]);
    let begun = begun_in(&mut world, 1000).len();
    assert!((9..=11).contains(&begun), "{begun} in a second");
}

#[test]
fn a_subscription_lags_when_what_it_has_not_had_is_old() {
    let mut world = World::new();
    world.subscribe("crm", SubscriptionSpec { lag_alert_seconds: 10, ..spec() });
    world.posted(vec![event(1, "t", None)]);
    let tried = world.begin();
    let posted_at = world.see("crm").oldest.unwrap();
    let after = |seconds: u64| posted_at.plus(DurationMs::seconds(seconds));
    assert!(!world.see("crm").is_lagging(after(10)) && world.see("crm").is_lagging(after(11)));
    assert_eq!(world.see("crm").took_ms, None);
    world.turn(vec![failed(&tried[0])], 0);
    assert!(world.see("crm").took_ms.is_some(), "{:?}", world.see("crm"));
    world.pass(60_000);
    let tried = world.begin();
    world.turn(vec![delivered(&tried[0])], 0);
    assert!(!world.see("crm").is_lagging(after(1_000_000)), "nothing is owed");
}
