//! Refusals, as they were journalled: which of them the log shows to have been true.
//!
//! The log has them by kind, item and quantity, without the shopper or the basket. So what a kind
//! says of the sale can be checked. What it says of a shopper or a basket (`limit_reached`,
//! `not_eligible`, `not_open` of an item that the open round does not offer) cannot, except that
//! the sale's state made such a refusal possible.

use super::auditor::{Auditor, Item};
use crate::core::{RefusalCount, RefusalKind};
use contracts::{Eligibility, IneligibleBy, NotEligibleRange, SoldOutRange};
use units::Sequence;

/// What the log shows of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Shown,
    /// It depends on the shopper and the basket.
    OfSomebody,
    Refuted,
}

impl Auditor {
    /// INV-2, first half, and INV-4 for refusals: each was true when it was said, and stayed so
    /// until it was journalled.
    pub(super) fn refusals(&mut self, sequence: Sequence, entries: &[RefusalCount]) {
        for e in entries {
            let kind = e.kind.as_str();
            self.count(kind, e.count);
            let in_time = self.refusals_since <= e.first_as_of && e.first_as_of < sequence;
            self.check(4, in_time, sequence, || format!("refusals as of {}", e.first_as_of));
            self.said_in_time(sequence, e);
            let truth = self.truth(e.kind);
            let so = self.state_since <= e.first_as_of && truth != Truth::Refuted;
            self.check(4, so, sequence, || format!("{} {kind} said in another state", e.count));
            if e.kind == RefusalKind::SoldOut {
                let most_free = self.most_free_since(e.item, e.first_as_of);
                let lacked = most_free.is_some_and(|most| most < i128::from(e.quantity));
                self.check(2, lacked, sequence, || {
                    let free = most_free.map_or_else(|| "there is none".into(), |n| format!("{n} were free"));
                    format!("{} were refused {} of item {} while {free}", e.count, e.quantity, e.item)
                });
                self.checked.sold_out = self.checked.sold_out.saturating_add(e.count);
            }
            let sum = match truth {
                Truth::OfSomebody => &mut self.checked.refusals_of_somebody,
                _ => &mut self.checked.refusals_of_sale,
            };
            *sum = sum.saturating_add(e.count);
        }
        self.refusals_since = sequence;
        self.times.clear();
        for item in &mut self.items {
            item.history.clear();
        }
    }

    /// INV-2: who was told that nothing is left was told after all holds had expired whose time was
    /// over at the entry that was named.
    fn said_in_time(&mut self, sequence: Sequence, e: &RefusalCount) {
        let RefusalCount { kind, first_as_of, count, .. } = *e;
        let entry = first_as_of.0.checked_sub(self.refusals_since.0).map(|at| at as usize);
        // The first of these times is that of the entry that journalled refusals last.
        let named_at = entry.and_then(|at| self.times.get(at)).copied();
        let overdue = self.first_end().filter(|(end, _)| named_at.is_some_and(|at| *end <= at));
        self.check(2, overdue.is_none(), sequence, || {
            overdue.map_or_else(String::new, |(end, hold)| {
                format!(
                    "{count} {} said as of {first_as_of}, and {hold} was to expire at {end}",
                    kind.as_str()
                )
            })
        });
    }

    /// The same for refusals by gates. Gates report them later, and name the entries at which they
    /// were true.
    pub(super) fn gate_refusals(&mut self, sequence: Sequence, entries: &[SoldOutRange]) {
        for e in entries {
            let (first, last) = (e.first_as_of, e.last_as_of);
            self.count("sold_out", e.count);
            self.check(4, first <= last && last < sequence, sequence, || {
                format!("gates' refusals as of {first} to {last}")
            });
            let so = |item: &Item| item.none_free.cover(first, last) && item.none_left.cover(last, last);
            let so = self.items.get(usize::from(e.item)).is_some_and(so);
            self.check(2, so, sequence, || {
                format!("{} were told that item {} is sold out as of {first} to {last}", e.count, e.item)
            });
            self.checked.sold_out = self.checked.sold_out.saturating_add(e.count);
            self.checked.refusals_of_sale = self.checked.refusals_of_sale.saturating_add(e.count);
        }
    }

    /// The same for `not_eligible`. The log does not name the shoppers: it shows that the sale had
    /// the rule by which they were refused at each entry that was named, and that a deny list was
    /// the same one throughout.
    pub(super) fn gate_not_eligible(&mut self, sequence: Sequence, entries: &[NotEligibleRange]) {
        for e in entries {
            let (first, last) = (e.first_as_of, e.last_as_of);
            self.count("not_eligible", e.count);
            let (so, rule) = match e.by {
                IneligibleBy::DenyList => (self.denying.cover(first, last), "one deny list"),
                IneligibleBy::Tier => (self.by_tier.cover(first, last), "a tier to be had"),
            };
            self.check(4, so && first <= last && last < sequence, sequence, || {
                format!(
                    "{} refused as not eligible as of {first} to {last}, without {rule} throughout",
                    e.count
                )
            });
            self.checked.refusals_of_somebody = self.checked.refusals_of_somebody.saturating_add(e.count);
        }
    }

    /// What the sale's current state shows of such a refusal.
    fn truth(&self, kind: RefusalKind) -> Truth {
        let of_sale = |said: bool| if said { Truth::Shown } else { Truth::Refuted };
        let Some(spec) = &self.spec else { return of_sale(kind == RefusalKind::NotOpen) };
        let Some(round) = self.round else {
            let over = usize::from(self.rounds_opened) >= spec.rounds.len();
            return of_sale(kind == if over { RefusalKind::Closed } else { RefusalKind::NotOpen });
        };
        if self.paused {
            return of_sale(kind == RefusalKind::Paused);
        }
        let of_somebody = |possible: bool| if possible { Truth::OfSomebody } else { Truth::Refuted };
        match kind {
            // Its stock is checked separately.
            RefusalKind::SoldOut => Truth::Shown,
            RefusalKind::LimitReached => {
                let of_round = self.limits.iter().any(|((of, _), limit)| *of == round && *limit > 0);
                of_somebody(self.sale_limit > 0 || of_round)
            }
            RefusalKind::NotEligible => {
                of_somebody(spec.eligibility != Eligibility::Everyone || !self.denied.is_empty())
            }
            // For an item that this round does not offer; also for one that only an earlier
            // document had.
            RefusalKind::NotOpen => Truth::OfSomebody,
            RefusalKind::Closed | RefusalKind::Paused => Truth::Refuted,
        }
    }

    /// The greatest number of free units at any entry since; `None` if there is no such item.
    fn most_free_since(&self, item: u16, from: Sequence) -> Option<i128> {
        let at = self.items.get(usize::from(item))?;
        let before = at.history.iter().rev().find(|(sequence, _)| *sequence <= from);
        let after = at.history.iter().filter(|(sequence, _)| *sequence > from);
        before.into_iter().chain(after).map(|(_, free)| *free).max().or(Some(at.free))
    }
}
