//! Figures about the gate in Prometheus's text form. Every name stands in one enum; nothing here
//! decides anything.

use crate::{
    challenge::Reason,
    filter::{Filter, REASONS},
    problem::{self, Kind},
    strategy::{Stage, Strategy},
};
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use web::protection::Protection;

/// Every metric of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricName {
    Answers,
    AnsweredAlone,
    Refusals,
    Filtered,
    RiskSignals,
    RiskEffects,
    Stage,
    StrategyEffects,
    RequestSeconds,
    Connections,
    ConnectionsRefused,
    HandshakesFailed,
    CertificateExpires,
    CertificateFailures,
    ConnectionsShed,
    MemoryBytes,
    MemoryMarkBytes,
    EventStreams,
    ChallengesIssued,
    ChallengesSolved,
    ChallengesRefused,
    QueueLength,
    LineLength,
    LogSequence,
    SaleState,
    DiskFull,
    SaleStopped,
    InvariantBroken,
}

/// The promises of docs/invariants.md, by the names that they have everywhere.
pub(crate) const INVARIANTS: [&str; 7] = ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7"];

impl MetricName {
    #[cfg(test)]
    const ALL: [Self; 28] = [
        Self::Answers,
        Self::AnsweredAlone,
        Self::Refusals,
        Self::Filtered,
        Self::RiskSignals,
        Self::RiskEffects,
        Self::Stage,
        Self::StrategyEffects,
        Self::RequestSeconds,
        Self::Connections,
        Self::ConnectionsRefused,
        Self::HandshakesFailed,
        Self::CertificateExpires,
        Self::CertificateFailures,
        Self::ConnectionsShed,
        Self::MemoryBytes,
        Self::MemoryMarkBytes,
        Self::EventStreams,
        Self::ChallengesIssued,
        Self::ChallengesSolved,
        Self::ChallengesRefused,
        Self::QueueLength,
        Self::LineLength,
        Self::LogSequence,
        Self::SaleState,
        Self::DiskFull,
        Self::SaleStopped,
        Self::InvariantBroken,
    ];

    fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Answers => ("floodgate_gate_answers_total", "counter", "Attempts answered, by outcome"),
            Self::AnsweredAlone => (
                "floodgate_gate_answered_alone_total",
                "counter",
                "Attempts refused without the sale being asked, by outcome; they are among the answers too",
            ),
            Self::Refusals => ("floodgate_gate_refusals_total", "counter", "Problem documents sent, by kind"),
            Self::Filtered => (
                "floodgate_gate_filtered_total",
                "counter",
                "Requests and connections that the filter refused, by reason",
            ),
            Self::RiskSignals => {
                ("floodgate_gate_risk_signals_total", "counter", "Signs of a script that were seen, by sign")
            }
            Self::RiskEffects => (
                "floodgate_gate_risk_effects_total",
                "counter",
                "What was decided because of an address's risk, by effect",
            ),
            Self::Stage => ("floodgate_gate_stage", "gauge", "1 for the stage that the gate is in"),
            Self::StrategyEffects => (
                "floodgate_gate_strategy_effects_total",
                "counter",
                "What was decided because of the strategy, by effect",
            ),
            Self::RequestSeconds => {
                ("floodgate_gate_request_seconds", "histogram", "Time from request to answer")
            }
            Self::Connections => {
                ("floodgate_gate_connections", "gauge", "Connections open on the shop's listeners")
            }
            Self::ConnectionsRefused => (
                "floodgate_gate_connections_refused_total",
                "counter",
                "Connections over gate.connections.open_max",
            ),
            Self::HandshakesFailed => (
                "floodgate_gate_tls_handshakes_failed_total",
                "counter",
                "TLS handshakes that failed or took too long",
            ),
            Self::CertificateExpires => (
                "floodgate_gate_certificate_expires_seconds",
                "gauge",
                "When the certificate of gate.tls expires, in seconds since 1970",
            ),
            Self::CertificateFailures => (
                "floodgate_gate_certificate_failures_total",
                "counter",
                "Changes of the files of gate.tls that could not be used",
            ),
            Self::ConnectionsShed => (
                "floodgate_gate_connections_shed_total",
                "counter",
                "Connections closed because memory was above the mark: idle ones, and new ones",
            ),
            Self::MemoryBytes => ("floodgate_gate_memory_bytes", "gauge", "Memory that the process has"),
            Self::MemoryMarkBytes => (
                "floodgate_gate_memory_mark_bytes",
                "gauge",
                "Memory from which on connections are closed (gate.connections.memory_mark_percent)",
            ),
            Self::EventStreams => ("floodgate_gate_event_streams", "gauge", "Event streams open"),
            Self::ChallengesIssued => {
                ("floodgate_gate_challenges_issued_total", "counter", "Challenges given out")
            }
            Self::ChallengesSolved => {
                ("floodgate_gate_challenges_solved_total", "counter", "Challenges exchanged for a pass")
            }
            Self::ChallengesRefused => {
                ("floodgate_gate_challenges_refused_total", "counter", "Solutions refused, by reason")
            }
            Self::QueueLength => (
                "floodgate_sale_queue_length",
                "gauge",
                "Attempts that wait for a decision, those in line not counted",
            ),
            Self::LineLength => ("floodgate_sale_line_length", "gauge", "Attempts in line behind the queue"),
            Self::LogSequence => ("floodgate_sale_log_sequence", "gauge", "The log's last durable entry"),
            Self::SaleState => ("floodgate_sale_state", "gauge", "1 for the state that the sale is in"),
            Self::DiskFull => (
                "floodgate_sale_disk_full",
                "gauge",
                "1 while the sale is paused because nothing can be written (the disk is full, or file handles or memory are short)",
            ),
            Self::SaleStopped => (
                "floodgate_sale_stopped",
                "gauge",
                "1 if the sale answers nobody: its writer stopped for good, or its log could not be brought back",
            ),
            Self::InvariantBroken => (
                "floodgate_invariant_broken",
                "gauge",
                "1 for an invariant that a decision or the log would have broken: the sale stopped before it said anything",
            ),
        }
    }

    pub(crate) fn head(self, out: &mut String) -> &'static str {
        let (name, kind, help) = self.describe();
        let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
        name
    }
}

/// The outcomes of an attempt, as in the API.
pub(crate) const OUTCOMES: [&str; 10] = [
    "granted",
    "waitlisted",
    "sold_out",
    "limit_reached",
    "not_eligible",
    "not_open",
    "closed",
    "paused",
    "none",
    "queued",
];

/// Those that a gate may say by itself.
const ALONE: [&str; 2] = ["sold_out", "not_eligible"];

/// Which latency a request counts towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteClass {
    Attempt,
    Other,
}

impl RouteClass {
    /// Of the request of a path.
    pub(crate) fn of_path(path: &str) -> Self {
        if path.contains("/rounds/") { Self::Attempt } else { Self::Other }
    }
}

const BOUNDS_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    sum_us: AtomicU64,
}

/// The gate's counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    answers: [AtomicU64; OUTCOMES.len()],
    /// By [`ALONE`].
    answered_alone: [AtomicU64; ALONE.len()],
    /// By kind of problem.
    refusals: Vec<(&'static Kind, AtomicU64)>,
    attempt: Histogram,
    other: Histogram,
    pub(crate) challenges_issued: AtomicU64,
    pub(crate) challenges_solved: AtomicU64,
    challenges_refused: [AtomicU64; Reason::ALL.len()],
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            answers: Default::default(),
            answered_alone: Default::default(),
            refusals: problem::all_kinds().map(|kind| (kind, AtomicU64::new(0))).collect(),
            attempt: Histogram::default(),
            other: Histogram::default(),
            challenges_issued: AtomicU64::new(0),
            challenges_solved: AtomicU64::new(0),
            challenges_refused: Default::default(),
        }
    }

    pub(crate) fn answered(&self, outcome: &str) {
        if let Some(at) = OUTCOMES.iter().position(|o| *o == outcome) {
            self.answers[at].fetch_add(1, Relaxed);
        }
    }

    /// An outcome that was said without the sale being asked.
    pub(crate) fn answered_alone(&self, outcome: &str) {
        self.answered(outcome);
        if let Some(at) = ALONE.iter().position(|o| *o == outcome) {
            self.answered_alone[at].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn refused(&self, kind: &'static Kind) {
        if let Some((_, count)) = self.refusals.iter().find(|(known, _)| std::ptr::eq(*known, kind)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn challenge_refused(&self, reason: Reason) {
        self.challenges_refused[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn took(&self, class: RouteClass, time: Duration) {
        let histogram = match class {
            RouteClass::Attempt => &self.attempt,
            RouteClass::Other => &self.other,
        };
        let seconds = time.as_secs_f64();
        let at = BOUNDS_SECONDS.iter().position(|&b| seconds <= b).unwrap_or(BOUNDS_SECONDS.len());
        histogram.buckets[at].fetch_add(1, Relaxed);
        histogram.sum_us.fetch_add(time.as_micros() as u64, Relaxed);
    }

    /// Appends all that the gate itself counts.
    pub(crate) fn render(
        &self,
        filter: &Filter,
        (protection, strategy): (&Protection, &Strategy),
        event_streams: usize,
        out: &mut String,
    ) {
        let name = MetricName::Answers.head(out);
        for (outcome, count) in OUTCOMES.iter().zip(&self.answers) {
            let _ = writeln!(out, "{name}{{outcome=\"{outcome}\"}} {}", count.load(Relaxed));
        }
        let name = MetricName::AnsweredAlone.head(out);
        for (outcome, count) in ALONE.iter().zip(&self.answered_alone) {
            let _ = writeln!(out, "{name}{{outcome=\"{outcome}\"}} {}", count.load(Relaxed));
        }
        let name = MetricName::Refusals.head(out);
        for (kind, count) in &self.refusals {
            let _ = writeln!(out, "{name}{{problem=\"{}\"}} {}", kind.slug, count.load(Relaxed));
        }
        let name = MetricName::Filtered.head(out);
        for reason in REASONS {
            let count = protection.addresses.count_of(reason);
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {count}", reason.label);
        }
        let (signals, effects) = filter.risks();
        let name = MetricName::RiskSignals.head(out);
        for (signal, count) in signals {
            let _ = writeln!(out, "{name}{{signal=\"{signal}\"}} {count}");
        }
        let name = MetricName::RiskEffects.head(out);
        for (effect, count) in effects {
            let _ = writeln!(out, "{name}{{effect=\"{effect}\"}} {count}");
        }
        let name = MetricName::Stage.head(out);
        for stage in Stage::ALL {
            let is = u8::from(strategy.stage() == stage);
            let _ = writeln!(out, "{name}{{stage=\"{}\"}} {is}", stage.label());
        }
        let name = MetricName::StrategyEffects.head(out);
        for (effect, count) in strategy.effects() {
            let _ = writeln!(out, "{name}{{effect=\"{effect}\"}} {count}");
        }
        let name = MetricName::RequestSeconds.head(out);
        for (route, histogram) in [("attempt", &self.attempt), ("other", &self.other)] {
            let mut below = 0;
            for (at, bucket) in histogram.buckets.iter().enumerate() {
                below += bucket.load(Relaxed);
                let bound = BOUNDS_SECONDS.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {below}");
            }
            let sum = histogram.sum_us.load(Relaxed) as f64 / 1e6;
            let _ = writeln!(
                out,
                "{name}_sum{{route=\"{route}\"}} {sum}\n{name}_count{{route=\"{route}\"}} {below}"
            );
        }
        let (counters, pressure) = (&protection.counters, &protection.pressure);
        for (metric, value) in [
            (MetricName::Connections, counters.connections.load(Relaxed)),
            (MetricName::ConnectionsRefused, counters.connections_refused.load(Relaxed)),
            (MetricName::HandshakesFailed, counters.handshakes_failed.load(Relaxed)),
            (MetricName::CertificateFailures, counters.certificate_failures.load(Relaxed)),
            (MetricName::MemoryBytes, pressure.resident_bytes.load(Relaxed)),
            (MetricName::MemoryMarkBytes, pressure.mark_bytes),
            (MetricName::EventStreams, event_streams as u64),
            (MetricName::ChallengesIssued, self.challenges_issued.load(Relaxed)),
            (MetricName::ChallengesSolved, self.challenges_solved.load(Relaxed)),
        ] {
            let name = metric.head(out);
            let _ = writeln!(out, "{name} {value}");
        }
        let expires_seconds = counters.certificate_expires_seconds.load(Relaxed);
        if expires_seconds > 0 {
            let name = MetricName::CertificateExpires.head(out);
            let _ = writeln!(out, "{name} {expires_seconds}");
        }
        let name = MetricName::ConnectionsShed.head(out);
        for (which, count) in [("idle", &pressure.idle_closed), ("new", &pressure.new_closed)] {
            let _ = writeln!(out, "{name}{{which=\"{which}\"}} {}", count.load(Relaxed));
        }
        let name = MetricName::ChallengesRefused.head(out);
        for (reason, count) in Reason::ALL.iter().zip(&self.challenges_refused) {
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {}", reason.label(), count.load(Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERTS: &str = include_str!("../../../docs/alerts.yml");
    const OPERATING: &str = include_str!("../../../docs/operating.md");

    /// What stands behind `expr:` in the rules.
    fn expressions() -> Vec<&'static str> {
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect()
    }

    fn names(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("floodgate_"))
    }

    #[test]
    fn alerts_name_only_metrics_that_exist() {
        let exists = |name: &str| {
            MetricName::ALL.iter().any(|metric| {
                let (known, kind, _) = metric.describe();
                let part = name.strip_prefix(known);
                part == Some("") || kind == "histogram" && matches!(part, Some("_bucket" | "_sum" | "_count"))
            })
        };
        let expressions = expressions();
        let alerts = ALERTS.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
        assert_eq!(expressions.len(), alerts, "one expression in one line for each alert");
        for expression in expressions {
            assert!(names(expression).count() > 0, "{expression}");
            names(expression).for_each(|name| assert!(exists(name), "{name} in {expression}"));
        }
    }

    #[test]
    fn every_invariant_has_its_alert() {
        for id in INVARIANTS {
            let expression = format!("floodgate_invariant_broken{{invariant=\"{id}\"}} > 0");
            assert!(expressions().contains(&&*expression), "{id}");
        }
    }

    #[test]
    fn every_metric_has_its_row_in_the_documents() {
        for metric in MetricName::ALL {
            let (name, kind, _) = metric.describe();
            assert!(OPERATING.contains(&format!("| `{name}` | {kind} |")), "{name}");
        }
    }
}
