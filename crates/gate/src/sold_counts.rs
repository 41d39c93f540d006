//! How many were sold, for the pages of shoppers who got none. A crowd asks for such a page at the
//! same moment, so each sale is asked at most once in [`FRESH`].

use crate::front::Front;
use contracts::SaleStats;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use units::{DurationMs, TimeMs};

const FRESH: DurationMs = DurationMs(5000);
/// Older ones are not shown: the sale does not answer.
const SHOWN_FOR: DurationMs = DurationMs(60_000);

/// The newest figures of each sale. Names are of sales that exist.
#[derive(Debug, Default)]
pub(crate) struct SoldCounts(Mutex<HashMap<String, Counts>>);

#[derive(Debug)]
struct Counts {
    asked_at: TimeMs,
    /// With when they were asked for.
    stats: Option<(TimeMs, Arc<SaleStats>)>,
}

impl SoldCounts {
    /// None while the first answer is on its way, or if there is none.
    pub(crate) async fn of(&self, sale: &str, front: &Front, now: TimeMs) -> Option<Arc<SaleStats>> {
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = all.get_mut(sale) {
                if now.since(known.asked_at) < FRESH {
                    let shown = known.stats.as_ref().filter(|(at, _)| now.since(*at) < SHOWN_FOR);
                    return shown.map(|(_, stats)| Arc::clone(stats));
                }
                // The others go on with these meanwhile.
                known.asked_at = now;
            } else {
                all.insert(sale.to_owned(), Counts { asked_at: now, stats: None });
            }
        }
        let stats = Arc::new(front.sale.stats().await.ok()?.ok()?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(sale) {
            known.stats = Some((now, Arc::clone(&stats)));
        }
        Some(stats)
    }
}
