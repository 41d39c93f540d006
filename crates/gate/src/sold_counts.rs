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

/// The newest figures of each sale, and when they were asked for. Names are of sales that exist.
#[derive(Debug, Default)]
pub(crate) struct SoldCounts(Mutex<HashMap<String, (TimeMs, Option<Arc<SaleStats>>)>>);

impl SoldCounts {
    /// None while the first answer is on its way, or if there is none.
    pub(crate) async fn of(&self, sale: &str, front: &Front, now: TimeMs) -> Option<Arc<SaleStats>> {
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((asked_at, stats)) = all.get_mut(sale) {
                if now.since(*asked_at) < FRESH {
                    return stats.clone();
                }
                // The others go on with these meanwhile.
                *asked_at = now;
            } else {
                all.insert(sale.to_owned(), (now, None));
            }
        }
        let stats = Arc::new(front.sale.stats().await.ok()?.ok()?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.get_mut(sale) {
            *known = Some(Arc::clone(&stats));
        }
        Some(stats)
    }
}
