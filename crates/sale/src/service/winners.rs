//! The events that a store and a payment system get of the sale, read from its log.

use super::handle::Handle;
use super::shared::lock;
use crate::core::{Entry, Record};
use crate::free_units::FreeUnits;
use contracts::{Basket, SaleEvent, SaleSpec, Unavailable, Winner, WinnerEvent};
use std::ops::ControlFlow;
use std::sync::Arc;
use units::Sequence;

/// Entries read in one call, so that a long run of entries without winners does not hold the reader
/// for long.
const ENTRIES_MAX: u64 = 200_000;

impl Handle {
    /// Events of holds after `after`, `max` at the most, and how far the log was searched. Reads
    /// the disk.
    pub fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        self.picked(after, |sequence, entry, spec, found| {
            found.extend(winner(sequence, entry, spec));
            found.len() >= max
        })
    }

    /// What the sale tells the other contexts of the entries after [`FreeUnits::at`], about `max`
    /// events. `free` is moved on to the last entry that was searched. Reads the disk.
    ///
    /// That an item is sold out is told as of the last of these entries: of units that became free
    /// and were granted again meanwhile, nothing is told.
    pub fn events(&self, free: &mut FreeUnits, max: usize) -> Result<Vec<SaleEvent>, Unavailable> {
        let mut last = None;
        let (mut events, searched) = self.picked(free.at(), |sequence, entry, spec, found| {
            free.see(sequence, &entry);
            last = Some(entry.at);
            let at = entry.at;
            found.extend(match entry.record {
                Record::RoundOpened { round, .. } => Some(SaleEvent::RoundOpened { sequence, at, round }),
                Record::RoundClosed { round, .. } => Some(SaleEvent::RoundClosed { sequence, at, round }),
                _ => winner(sequence, entry, spec).map(SaleEvent::Hold),
            });
            found.len() + free.untold() >= max
        })?;
        if let Some(at) = last {
            let sold_out = free.sold_out().into_iter();
            events.extend(sold_out.map(|item| SaleEvent::SoldOut { sequence: searched, at, item }));
        }
        Ok(events)
    }

    /// Moves `free` on without a word, up to this entry at the most. Reads the disk; what is far
    /// away takes several calls.
    pub fn catch_up(&self, free: &mut FreeUnits, up_to: Sequence) -> Result<(), Unavailable> {
        if free.at() < up_to {
            self.picked(free.at(), |sequence, entry, _, _: &mut Vec<()>| {
                free.see(sequence, &entry);
                sequence >= up_to
            })?;
            free.sold_out();
        }
        Ok(())
    }

    /// What `pick` adds for the entries after `after`, until it says that this is enough; and how
    /// far the log was searched.
    fn picked<T>(
        &self,
        after: Sequence,
        mut pick: impl FnMut(Sequence, Entry, &SaleSpec, &mut Vec<T>) -> bool,
    ) -> Result<(Vec<T>, Sequence), Unavailable> {
        let Some(view) = self.view() else { return Ok((Vec::new(), after)) };
        let mut spec = Arc::clone(&view.spec);
        let mut found = Vec::new();
        let mut searched = after;
        let mut undecodable = None;
        let mut reader = lock(&self.0.reader);
        let read = reader.read(after.next(), &mut |sequence, bytes| {
            let enough = match Entry::decode(bytes) {
                Ok(entry) => {
                    // The view of it may not be published yet.
                    if let Record::Defined { spec: newer, .. } = &entry.record {
                        spec = Arc::new((**newer).clone());
                    }
                    pick(sequence, entry, &spec, &mut found)
                }
                Err(error) => {
                    undecodable = Some(format!("entry {sequence}: {error}"));
                    return ControlFlow::Break(());
                }
            };
            searched = sequence;
            if enough || sequence.0 - after.0 >= ENTRIES_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match (read, undecodable) {
            (Ok(_), None) => Ok((found, searched)),
            (Err(error), _) => Err(Unavailable::Passing(error.to_string())),
            (_, Some(why)) => Err(Unavailable::Stopped(why)),
        }
    }
}

/// The event that a store or a payment system gets for an entry, if there is one.
fn winner(sequence: Sequence, entry: Entry, spec: &SaleSpec) -> Option<Winner> {
    let prices = |basket: &Basket, round: u16| {
        let offers = &spec.rounds.get(usize::from(round))?.items;
        let price = |item: u16| {
            let item = &spec.items.get(usize::from(item))?.item;
            Some(offers.iter().find(|offer| offer.item == *item)?.price_minor)
        };
        basket.iter().map(|line| price(line.item)).collect::<Option<Vec<u64>>>()
    };
    let (hold, event) = match entry.record {
        Record::Granted { attempt, round, pay_by } | Record::Promoted { attempt, round, pay_by } => {
            let prices_minor = prices(&attempt.basket, round)?;
            let (sealed, shopper, basket) = (attempt.sealed, attempt.shopper, attempt.basket);
            (attempt.id, WinnerEvent::Granted { sealed, shopper, basket, prices_minor, pay_by })
        }
        Record::Confirmed { hold, payment, late, .. } => (hold, WinnerEvent::Confirmed { payment, late }),
        Record::RefundDue { hold, payment, .. } => (hold, WinnerEvent::RefundDue { payment }),
        Record::Released { hold, .. } => (hold, WinnerEvent::Released),
        Record::Expired { hold } => (hold, WinnerEvent::Expired),
        Record::Voided { hold, by } => (hold, WinnerEvent::Voided { reason: by.reason }),
        _ => return None,
    };
    Some(Winner { sequence, at: entry.at, hold, event })
}
