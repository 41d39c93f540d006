//! Metrics of a process for Prometheus, in its text format. A context declares its metrics in one
//! enum and registers them here; [`ServerMetrics`] registers those that every server has.
//!
//! The library finds a metric by its labels in a table under a lock. Here the labels are known when
//! a metric is registered: the caller keeps a handle for each set of labels, and counting is one
//! atomic addition. The rows of a metric are written in the order in which they were registered.

mod histogram;
mod server;

use axum::response::{IntoResponse, Response};
pub use histogram::Histogram;
use http::header;
pub use prometheus_client::{encoding::EncodeLabelSet as Labels, metrics::counter::Counter};
use prometheus_client::{
    encoding::{
        EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
        prometheus_text::{CONTENT_TYPE, encode},
    },
    metrics::MetricType,
};
pub use server::{Naming, ServerMetric, ServerMetrics};
use std::{
    borrow::Cow,
    fmt::{self, Debug},
};

/// Room for a thousand rows; the buffer grows for a longer text.
const TEXT_BYTES: usize = 128 << 10;

/// The declaration of a metric: the name of its samples, its kind, and its help. The text format
/// puts a full stop after the help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: MetricType,
}

impl Metric {
    /// A value that only grows. Its name ends in `_total`.
    pub fn counter(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), help: help.into(), kind: MetricType::Counter }
    }

    /// A value that goes up and down.
    pub fn gauge(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), help: help.into(), kind: MetricType::Gauge }
    }

    /// Durations. Its samples are `_bucket`, `_sum` and `_count`.
    pub fn histogram(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), help: help.into(), kind: MetricType::Histogram }
    }

    /// The kind, as the text format names it.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }

    /// Whether samples have this name.
    pub fn has_sample(&self, name: &str) -> bool {
        match (name.strip_prefix(&*self.name), self.kind) {
            (Some(part), MetricType::Histogram) => ["_bucket", "_sum", "_count"].contains(&part),
            (part, _) => part == Some(""),
        }
    }
}

/// Metrics and their values.
#[derive(Debug, Default)]
pub struct Registry(prometheus_client::registry::Registry);

impl Registry {
    /// Registers a counter without labels.
    pub fn counter(&mut self, metric: impl Into<Metric>) -> Counter {
        let counter = Counter::default();
        self.register(metric.into(), MetricType::Counter, vec![(NO_LABELS, counter.clone())]);
        counter
    }

    /// Registers a counter for each set of labels. The handles are in the order of the sets.
    pub fn counters<L: Labels + Debug + Send + Sync + 'static>(
        &mut self,
        metric: impl Into<Metric>,
        sets: impl IntoIterator<Item = L>,
    ) -> Vec<Counter> {
        let rows: Vec<_> = sets.into_iter().map(|labels| (labels, Counter::default())).collect();
        let handles = rows.iter().map(|(_, counter)| counter.clone()).collect();
        self.register(metric.into(), MetricType::Counter, rows);
        handles
    }

    /// Registers a histogram for each set of labels. The handles are in the order of the sets.
    pub fn histograms<L: Labels + Debug + Send + Sync + 'static>(
        &mut self,
        metric: impl Into<Metric>,
        bounds_seconds: &'static [f64],
        sets: impl IntoIterator<Item = L>,
    ) -> Vec<Histogram> {
        let rows: Vec<_> = sets.into_iter().map(|labels| (labels, Histogram::new(bounds_seconds))).collect();
        let handles = rows.iter().map(|(_, histogram)| histogram.clone()).collect();
        self.register(metric.into(), MetricType::Histogram, rows);
        handles
    }

    /// Registers a value without labels that is kept elsewhere and read at each scrape.
    pub fn value(&mut self, metric: impl Into<Metric>, value: u64) {
        self.values(metric, [(NO_LABELS, value)]);
    }

    /// Registers values of a counter or a gauge that are kept elsewhere and read at each scrape.
    pub fn values<L: Labels + Debug + Send + Sync + 'static>(
        &mut self,
        metric: impl Into<Metric>,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) {
        let metric = metric.into();
        let kind = metric.kind;
        assert!(kind != MetricType::Histogram, "{}: a histogram is more than a value", metric.name);
        let rows = rows.into_iter().map(|(labels, value)| (labels, Value { kind, value })).collect();
        self.register(metric, kind, rows);
    }

    fn register<L, M>(&mut self, metric: Metric, kind: MetricType, rows: Vec<(L, M)>)
    where
        L: Labels + Debug + Send + Sync + 'static,
        M: EncodeMetric + Debug + Send + Sync + 'static,
    {
        let Metric { name, help, kind: declared } = metric;
        assert!(declared == kind, "{name}: declared as a {}", declared.as_str());
        let name = match kind {
            // The library adds the suffix to each sample.
            MetricType::Counter => name
                .strip_suffix("_total")
                .unwrap_or_else(|| panic!("{name}: the name of a counter ends in _total")),
            _ => &name,
        };
        self.0.register(name, help, Rows { kind, rows });
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

/// The answer to a scrape: the metrics of all these registries. No metric may be in two of them.
pub fn answer(registries: &[&Registry]) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], write(registries)).into_response()
}

fn write(registries: &[&Registry]) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    let whole = registries.iter().try_for_each(|registry| encode(&mut text, &registry.0));
    whole.expect("a String takes whatever is written");
    text
}

/// A metric with a row for each set of labels.
#[derive(Debug)]
struct Rows<L, M> {
    kind: MetricType,
    rows: Vec<(L, M)>,
}

impl<L: EncodeLabelSet, M: EncodeMetric> EncodeMetric for Rows<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

/// A value that is kept elsewhere.
#[derive(Debug)]
struct Value {
    kind: MetricType,
    value: u64,
}

impl EncodeMetric for Value {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&self.value, None),
            _ => encoder.encode_gauge(&self.value),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn metrics_are_written_in_the_text_of_prometheus() {
        let (mut counted, mut now) = (Registry::default(), Registry::default());
        let answers = counted.counters(
            Metric::counter("test_answers_total", "Answers"),
            ["yes", "no"].map(|said| [("said", said)]),
        );
        answers[1].inc_by(2);
        counted.counter(Metric::counter("test_starts_total", "Starts")).inc();
        let times = counted.histograms(
            Metric::histogram("test_seconds", "Time"),
            &[0.0005, 1.0, 2.5],
            [[("route", "a")]],
        );
        times[0].observe(Duration::from_micros(500));
        times[0].observe(Duration::from_millis(1500));
        times[0].observe(Duration::from_secs(3));
        now.value(Metric::gauge("test_open", "Open"), u64::MAX);
        now.values(
            Metric::counter("test_seen_total", "Seen"),
            [([("of", "a \"b\"\n".to_owned()), ("by", "c".to_owned())], 7)],
        );
        now.values(Metric::gauge("test_nobody", "Nobody"), [(NO_LABELS, 0); 0]);
        let expected = "\
# HELP test_answers_total Answers.
# TYPE test_answers_total counter
test_answers_total{said=\"yes\"} 0
test_answers_total{said=\"no\"} 2
# HELP test_starts_total Starts.
# TYPE test_starts_total counter
test_starts_total 1
# HELP test_seconds Time.
# TYPE test_seconds histogram
test_seconds_bucket{route=\"a\",le=\"0.0005\"} 1
test_seconds_bucket{route=\"a\",le=\"1\"} 1
test_seconds_bucket{route=\"a\",le=\"2.5\"} 2
test_seconds_bucket{route=\"a\",le=\"+Inf\"} 3
test_seconds_sum{route=\"a\"} 4.5005
test_seconds_count{route=\"a\"} 3
# HELP test_open Open.
# TYPE test_open gauge
test_open 18446744073709551615
# HELP test_seen_total Seen.
# TYPE test_seen_total counter
test_seen_total{of=\"a \\\"b\\\"\\n\",by=\"c\"} 7
# HELP test_nobody Nobody.
# TYPE test_nobody gauge
";
        assert_eq!(write(&[&counted, &now]), expected);
    }

    #[test]
    #[should_panic(expected = "test_open: declared as a gauge")]
    fn what_is_declared_as_a_gauge_is_no_counter() {
        Registry::default().counter(Metric::gauge("test_open", "Open"));
    }
}
