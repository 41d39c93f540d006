//! Refusals that gates sent by themselves and that are not logged yet.
//!
//! Once a refusal is in the log, the audit holds the sale to it. So a report is checked first: a
//! gate may name only entries at which, by the views that were published, it was true. How many
//! shoppers were told so is the gate's word.

use crate::core::REFUSALS_EVERY;
use crate::sync::Instant;
use contracts::{GateRefusal, IneligibleBy, SaleState, SaleView, SequenceRange};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;
use units::Sequence;

/// What the views that were published let gates say by themselves.
#[derive(Debug, Default)]
struct Published {
    /// The entries, first and last, of consecutive views that said so.
    said: HashMap<SequenceRange, Vec<(Sequence, Sequence)>>,
    last_view: Sequence,
}

impl Published {
    /// The most ranges that are remembered. When there are more, the older half is forgotten, and
    /// reports of these that are still to come are not logged.
    const RANGES_MAX: usize = 16_384;
    /// The most interruptions that are remembered of one range.
    const SPANS_MAX: usize = 64;

    fn add(&mut self, view: &SaleView) {
        for range in ranges(view) {
            let spans = self.said.entry(range).or_default();
            match spans.last_mut() {
                Some((_, last)) if *last == self.last_view => *last = view.as_of,
                _ => spans.push((view.as_of, view.as_of)),
            }
            if spans.len() > Self::SPANS_MAX {
                spans.remove(0);
            }
        }
        self.last_view = view.as_of;
        if self.said.len() > Self::RANGES_MAX {
            let last_of = |spans: &Vec<(Sequence, Sequence)>| spans.last().map_or(Sequence(0), |span| span.1);
            let mut lasts: Vec<Sequence> = self.said.values().map(last_of).collect();
            let half = lasts.len() / 2;
            let newer = *lasts.select_nth_unstable(half).1;
            self.said.retain(|_, spans| last_of(spans) >= newer);
        }
    }

    fn allows(&self, said: &GateRefusal) -> bool {
        let (first, last) = said.entries();
        let Some(spans) = self.said.get(&said.range()) else { return false };
        let covers = |from: Sequence, to: Sequence| from <= last && last <= to;
        first <= last
            && spans.iter().any(|&(from, to)| match said {
                // A place on the waitlist may have been free in between.
                GateRefusal::SoldOut(_) => covers(from, to),
                // The rule has applied since the entry that the range names.
                GateRefusal::NotEligible(_) => covers(first, to),
            })
    }
}

/// Whatever a gate can say by itself from this view.
fn ranges(view: &SaleView) -> impl Iterator<Item = SequenceRange> {
    let sold_out = (0..view.items.len()).filter_map(|item| {
        let said = view.item_sold_out(u16::try_from(item).ok()?)?;
        Some(GateRefusal::SoldOut(said).range())
    });
    let by_tier = (view.spec.eligibility.tier_min() > 0).then_some(IneligibleBy::Tier);
    let by_list = (!view.denied.is_empty()).then_some(IneligibleBy::DenyList);
    let rules = by_tier.into_iter().chain(by_list).filter(|_| view.state == SaleState::Open);
    let not_eligible = rules.map(|by| SequenceRange::NotEligible { by, first_as_of: view.rule_since(by) });
    sold_out.chain(not_eligible)
}

/// Refusals that gates sent by themselves and that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Said {
    counts: HashMap<SequenceRange, GateRefusal>,
    since: Option<Instant>,
    /// Refusals that found no room here: they were sent, and only their count is not logged.
    lost: u64,
    published: Published,
    /// Refusals that no published view allowed.
    unfounded: u64,
}

impl Said {
    /// Ranges of entries that are counted separately: a sale whose units are released one by one
    /// makes some hundred in a second.
    const COUNTS_MAX: usize = 8192;

    /// From now on gates may say what this view says. Called before the view is published.
    pub(super) fn publish(&mut self, view: &SaleView) {
        self.published.add(view);
    }

    /// Takes a gate's report.
    pub(super) fn report(&mut self, counts: &[GateRefusal]) {
        for count in counts {
            match self.published.allows(count) {
                true => self.add(std::slice::from_ref(count)),
                false => self.unfounded = self.unfounded.saturating_add(count.count()),
            }
        }
        if self.unfounded > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Takes refusals that have been checked.
    pub(super) fn add(&mut self, counts: &[GateRefusal]) {
        for count in counts {
            let room = self.counts.len() < Self::COUNTS_MAX;
            match self.counts.entry(count.range()) {
                Entry::Occupied(mut known) => drop(known.get_mut().merge(count)),
                Entry::Vacant(new) if room => drop(new.insert(*count)),
                Entry::Vacant(_) => self.lost = self.lost.saturating_add(count.count()),
            }
        }
        if !self.counts.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// The refusals to log now.
    pub(super) fn take_due(&mut self) -> Option<Vec<GateRefusal>> {
        let old = self.since.is_some_and(|since| since.elapsed() >= Duration::from_millis(REFUSALS_EVERY.0));
        old.then(|| self.take())
    }

    pub(super) fn take(&mut self) -> Vec<GateRefusal> {
        self.since = None;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::warn!(
                lost,
                "gates answered alone in more ranges than are counted: so many answers are not in the log"
            );
        }
        let unfounded = std::mem::take(&mut self.unfounded);
        if unfounded > 0 {
            tracing::warn!(
                unfounded,
                "a gate reports answers that no view of this process allowed, or one of long ago: they are not in the \
                 sale's log. After a restart some are expected; else look for a process that should not be there"
            );
        }
        let mut counts: Vec<GateRefusal> = self.counts.drain().map(|(_, count)| count).collect();
        counts.sort_unstable_by_key(GateRefusal::range);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{
        DeniedShoppers, ItemState, ItemView, NotEligibleRange, SaleSpec, ShopperKey, SoldOutRange,
    };
    use std::sync::Arc;
    use units::TimeMs;

    fn view(as_of: u64, out_since: Option<u64>, waitlist_open: bool, denied_since: Option<u64>) -> SaleView {
        let spec: SaleSpec = serde_json::from_str(
            r#"{"name":"Launch","currency":"CNY","items":[{"item":"phone","name":"Phone"}],
                "rounds":[{"opens_at":"2026-11-11T10:00:00Z","closes_at":"2026-11-11T11:00:00Z",
                           "items":[{"item":"phone","stock":1,"price_minor":199900}]}]}"#,
        )
        .unwrap();
        let state = if out_since.is_some() { ItemState::SoldOut } else { ItemState::Available };
        let item = ItemView {
            state,
            offered: true,
            waitlist_open,
            price_minor: 1,
            limit_per_shopper: 1,
            sold_out_since: Sequence(out_since.unwrap_or_default()),
        };
        let denied = denied_since.map_or_else(DeniedShoppers::default, |since| {
            DeniedShoppers::of_runs(Sequence(since), vec![vec![ShopperKey([1; 16])].into()])
        });
        SaleView {
            sale: "launch".parse().unwrap(),
            spec: Arc::new(spec),
            state: SaleState::Open,
            rounds_opened: 1,
            opens_at: TimeMs(1),
            closes_at: TimeMs(2),
            items: vec![item],
            rate_per_second: 0,
            limit_per_shopper: 0,
            disk_full: false,
            pause: None,
            is_restored: false,
            state_since: Sequence(2),
            denied: Arc::new(denied),
            as_of: Sequence(as_of),
        }
    }

    fn sold_out(first: u64, last: u64) -> GateRefusal {
        let (first_as_of, last_as_of) = (Sequence(first), Sequence(last));
        GateRefusal::SoldOut(SoldOutRange { item: 0, first_as_of, last_as_of, count: 1 })
    }

    fn denied(first: u64, last: u64) -> GateRefusal {
        let (first_as_of, last_as_of) = (Sequence(first), Sequence(last));
        let by = IneligibleBy::DenyList;
        GateRefusal::NotEligible(NotEligibleRange { by, first_as_of, last_as_of, count: 1 })
    }

    #[test]
    fn a_gate_may_say_what_a_published_view_said() {
        let mut published = Published::default();
        published.add(&view(3, None, false, None));
        for as_of in [5, 6, 8] {
            published.add(&view(as_of, Some(4), false, Some(5)));
        }
        for said in [sold_out(4, 5), sold_out(4, 8), denied(5, 5), denied(5, 8)] {
            assert!(published.allows(&said), "{said:?}");
        }
        for said in
            [sold_out(3, 5), sold_out(5, 6), sold_out(4, 4), sold_out(4, 9), denied(2, 6), denied(5, 9)]
        {
            assert!(!published.allows(&said), "{said:?}");
        }
    }

    #[test]
    fn a_gate_may_not_say_sold_out_while_a_place_was_free() {
        let mut published = Published::default();
        for (as_of, is_free) in [(5, false), (6, true), (7, true), (8, false)] {
            published.add(&view(as_of, Some(4), is_free, None));
        }
        let allowed = [5, 6, 7, 8].map(|last| published.allows(&sold_out(4, last)));
        assert_eq!(allowed, [true, false, false, true]);
    }

    #[test]
    fn what_a_view_said_before_a_restock_may_still_be_reported() {
        let mut published = Published::default();
        for (as_of, since) in [(5, Some(4)), (7, None), (9, Some(9))] {
            published.add(&view(as_of, since, false, None));
        }
        assert!(published.allows(&sold_out(4, 5)) && published.allows(&sold_out(9, 9)));
        assert!(!published.allows(&sold_out(4, 7)) && !published.allows(&sold_out(4, 9)));
    }

    #[test]
    fn what_is_remembered_of_views_is_bounded() {
        let mut published = Published::default();
        // The shortest interruptions that there can be, of one range and of more and more.
        for n in 0..200_000 {
            published.add(&view(2 * n, Some(n / 1000 * 1000), n % 2 == 0, Some(n)));
            let spans = published.said.values().map(Vec::len).max();
            assert!(published.said.len() <= Published::RANGES_MAX + 2 && spans <= Some(Published::SPANS_MAX));
        }
        assert!(published.allows(&denied(199_999, 399_998)));
    }
}
