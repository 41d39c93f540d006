//! Who waits, a page at a time: a waitlist may have a million places, and the worker serves
//! shoppers meanwhile.

use super::rules::Core;
use super::waitlist::Waiter;
use contracts::{WaitingPlace, WaitingQuery};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

/// Places of one page.
pub const WAITING_PAGE_MAX: usize = 1000;

impl Core {
    /// A page of the places, at most [`WAITING_PAGE_MAX`]. The work grows with the page and the
    /// number of items, not with the waitlist.
    pub fn waiting(&self, query: &WaitingQuery) -> Vec<WaitingPlace> {
        let WaitingQuery { item, after, max } = *query;
        let slots = &self.state.slots;
        let lists = self.state.waiting.iter().enumerate();
        let wanted = lists.filter(|(at, _)| item.is_none_or(|item| usize::from(item) == *at));
        let mut rows: Vec<Peekable<_>> = wanted
            .map(|(_, list)| list.after(|waiter| slots.get(waiter.slot).as_of <= after).peekable())
            .collect();
        let head = |row: &mut Peekable<_>| row.peek().map(|waiter: &&Waiter| waiter.slot);
        let mut heads: BinaryHeap<_> =
            rows.iter_mut().enumerate().filter_map(|(at, row)| Some(Reverse((head(row)?, at)))).collect();
        let mut page = Vec::new();
        while page.len() < max.min(WAITING_PAGE_MAX)
            && let Some(Reverse((slot, at))) = heads.pop()
        {
            if let Some(waiter) = rows[at].next() {
                let (kept, basket) = (slots.get(slot), slots.basket(slot));
                page.push(WaitingPlace {
                    attempt: kept.attempt,
                    shopper: kept.shopper,
                    sealed: waiter.sealed,
                    basket,
                    position: kept.position,
                    as_of: kept.as_of,
                });
            }
            heads.extend(head(&mut rows[at]).map(|slot| Reverse((slot, at))));
        }
        page
    }
}
