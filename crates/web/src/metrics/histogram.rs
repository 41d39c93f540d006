//! A histogram of durations. That of the library takes a lock for each observation: the loops would
//! wait for each other at every answer.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use std::{
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A histogram of durations. Clones share their values.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds_seconds: &'static [f64],
    /// One more than the bounds.
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds_seconds: &'static [f64]) -> Self {
        let buckets = (0..=bounds_seconds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds_seconds, buckets, sum_us: AtomicU64::new(0) }))
    }

    /// Counts an observation.
    pub fn observe(&self, time: Duration) {
        let Inner { bounds_seconds, buckets, sum_us } = &*self.0;
        let seconds = time.as_secs_f64();
        let at = bounds_seconds.iter().position(|&bound| seconds <= bound).unwrap_or(bounds_seconds.len());
        buckets[at].fetch_add(1, Relaxed);
        sum_us.fetch_add(time.as_micros() as u64, Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Inner { bounds_seconds, buckets, sum_us } = &*self.0;
        let bounds = bounds_seconds.iter().copied().chain(iter::once(f64::INFINITY));
        let buckets: Vec<_> = bounds.zip(buckets.iter().map(|bucket| bucket.load(Relaxed))).collect();
        // Read once, so that the count equals the last bucket, whatever is counted meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum_us.load(Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
