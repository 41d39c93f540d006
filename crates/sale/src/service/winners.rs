//! The events that a store and a payment system get of the sale, read from its log.

use super::handle::Handle;
use super::shared::lock;
use crate::core::{Entry, Record};
use contracts::{Basket, SaleEvent, SaleSpec, Unavailable, Winner, WinnerEvent};
use std::ops::ControlFlow;
use std::sync::Arc;
use units::Sequence;

impl Handle {
    /// Events of holds after `after`, `max` at the most, and how far the log was searched. Reads
    /// the disk.
    pub fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        self.picked(after, max, winner)
    }

    /// As [`Handle::winners`]: what the sale tells the other contexts.
    pub fn events(&self, after: Sequence, max: usize) -> Result<(Vec<SaleEvent>, Sequence), Unavailable> {
        self.picked(after, max, |sequence, entry, spec| match entry.record {
            Record::RoundOpened { round, .. } => {
                Some(SaleEvent::RoundOpened { sequence, at: entry.at, round })
            }
            Record::RoundClosed { round, .. } => {
                Some(SaleEvent::RoundClosed { sequence, at: entry.at, round })
            }
            _ => winner(sequence, entry, spec).map(SaleEvent::Hold),
        })
    }

    fn picked<T>(
        &self,
        after: Sequence,
        max: usize,
        pick: impl Fn(Sequence, Entry, &SaleSpec) -> Option<T>,
    ) -> Result<(Vec<T>, Sequence), Unavailable> {
        /// Entries read in one call, so that a long run of entries without winners does not hold
        /// the reader for long.
        const ENTRIES_MAX: u64 = 200_000;
        let Some(view) = self.view() else { return Ok((Vec::new(), after)) };
        let mut spec = Arc::clone(&view.spec);
        let mut found = Vec::new();
        let mut searched = after;
        let mut undecodable = None;
        let mut reader = lock(&self.0.reader);
        let read = reader.read(after.next(), &mut |sequence, bytes| {
            match Entry::decode(bytes) {
                Ok(entry) => {
                    // The view of it may not be published yet.
                    if let Record::Defined { spec: newer, .. } = &entry.record {
                        spec = Arc::new((**newer).clone());
                    }
                    found.extend(pick(sequence, entry, &spec));
                }
                Err(error) => {
                    undecodable = Some(format!("entry {sequence}: {error}"));
                    return ControlFlow::Break(());
                }
            }
            searched = sequence;
            let enough = found.len() >= max || sequence.0 - after.0 >= ENTRIES_MAX;
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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
