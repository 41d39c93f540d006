//! Metrics of the gate and its sales. All names of the gate are in one enum; those that every
//! server has are in `web`. Nothing is decided here.

use crate::{
    challenge::Reason,
    filter::{Filter, REASONS},
    outcome::OUTCOMES,
    problem::{self, Kind},
    strategy::{Stage, Strategy},
};
use std::time::Duration;
use web::{
    metrics::{Counter, Metric, Naming, Registry, ServerMetrics},
    protection::Protection,
};

/// The prefix of the metrics of the gate's listeners, and its section of the configuration.
const NAMING: Naming = Naming { prefix: "floodgate_gate", section: "gate" };

/// Every metric of the gate and its sales, other than those that every server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricName {
    Answers,
    AnsweredAlone,
    Filtered,
    RiskSignals,
    RiskEffects,
    Stage,
    StrategyEffects,
    EventStreams,
    ChallengesIssued,
    ChallengesSolved,
    ChallengesRefused,
    QueueLength,
    LineLength,
    LogSequence,
    SaleState,
    DiskFull,
    WaitsForOperator,
    SaleStopped,
    InvariantBroken,
    MessageServiceUp,
}

/// The invariants of docs/invariants.md, by the names that they have everywhere.
pub(crate) const INVARIANTS: [&str; 7] = ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7"];

impl MetricName {
    #[cfg(test)]
    const ALL: [Self; 20] = [
        Self::Answers,
        Self::AnsweredAlone,
        Self::Filtered,
        Self::RiskSignals,
        Self::RiskEffects,
        Self::Stage,
        Self::StrategyEffects,
        Self::EventStreams,
        Self::ChallengesIssued,
        Self::ChallengesSolved,
        Self::ChallengesRefused,
        Self::QueueLength,
        Self::LineLength,
        Self::LogSequence,
        Self::SaleState,
        Self::DiskFull,
        Self::WaitsForOperator,
        Self::SaleStopped,
        Self::InvariantBroken,
        Self::MessageServiceUp,
    ];
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Answers => {
                Self::counter("floodgate_gate_answers_total", "Attempts answered, by outcome")
            }
            MetricName::AnsweredAlone => Self::counter(
                "floodgate_gate_answered_alone_total",
                "Attempts refused without the sale being asked, by outcome; they are among the answers too",
            ),
            MetricName::Filtered => Self::counter(
                "floodgate_gate_filtered_total",
                "Requests and connections that the filter refused, by reason",
            ),
            MetricName::RiskSignals => Self::counter(
                "floodgate_gate_risk_signals_total",
                "Signs of a script that were seen, by sign",
            ),
            MetricName::RiskEffects => Self::counter(
                "floodgate_gate_risk_effects_total",
                "What was decided because of an address's risk, by effect",
            ),
            MetricName::Stage => Self::gauge("floodgate_gate_stage", "1 for the stage that the gate is in"),
            MetricName::StrategyEffects => Self::counter(
                "floodgate_gate_strategy_effects_total",
                "What was decided because of the strategy, by effect",
            ),
            MetricName::EventStreams => Self::gauge("floodgate_gate_event_streams", "Event streams open"),
            MetricName::ChallengesIssued => {
                Self::counter("floodgate_gate_challenges_issued_total", "Challenges given out")
            }
            MetricName::ChallengesSolved => {
                Self::counter("floodgate_gate_challenges_solved_total", "Challenges exchanged for a pass")
            }
            MetricName::ChallengesRefused => {
                Self::counter("floodgate_gate_challenges_refused_total", "Solutions refused, by reason")
            }
            MetricName::QueueLength => Self::gauge(
                "floodgate_sale_queue_length",
                "Attempts that wait for a decision, those in line not counted",
            ),
            MetricName::LineLength => {
                Self::gauge("floodgate_sale_line_length", "Attempts in line behind the queue")
            }
            MetricName::LogSequence => {
                Self::gauge("floodgate_sale_log_sequence", "The log's last durable entry")
            }
            MetricName::SaleState => {
                Self::gauge("floodgate_sale_state", "1 for the state that the sale is in")
            }
            MetricName::DiskFull => Self::gauge(
                "floodgate_sale_disk_full",
                "1 while the sale is paused because nothing can be written (the disk is full, or file handles \
                 or memory are short)",
            ),
            MetricName::WaitsForOperator => Self::gauge(
                "floodgate_sale_waits_for_operator",
                "1 if the sale has paused itself for this cause, and waits for an operator's resume",
            ),
            MetricName::SaleStopped => Self::gauge(
                "floodgate_sale_stopped",
                "1 if the sale answers nobody: its writer stopped for good, or its log could not be brought \
                 back",
            ),
            MetricName::InvariantBroken => Self::gauge(
                "floodgate_invariant_broken",
                "1 for an invariant that a decision or the log would have broken: the sale stopped before it \
                 said anything",
            ),
            MetricName::MessageServiceUp => Self::gauge(
                "floodgate_message_service_up",
                "1 while the message service runs, 0 while it does not; nothing if there is to be none",
            ),
        }
    }
}

/// The outcomes that a gate may return without asking the sale.
const ALONE: [&str; 2] = ["sold_out", "not_eligible"];

/// The counts of the gate.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    server: ServerMetrics,
    /// By [`OUTCOMES`].
    answers: Vec<Counter>,
    /// By [`ALONE`].
    answered_alone: Vec<Counter>,
    challenges_issued: Counter,
    challenges_solved: Counter,
    /// By [`Reason::ALL`].
    challenges_refused: Vec<Counter>,
}

impl Metrics {
    /// `operations` are the ids of those whose requests are counted.
    pub(crate) fn new(operations: &[&'static str]) -> Self {
        let mut registry = Registry::default();
        let outcomes = |of: &'static [&'static str]| of.iter().map(|outcome| [("outcome", *outcome)]);
        let reasons = Reason::ALL.map(|reason| [("reason", reason.label())]);
        Self {
            server: ServerMetrics::new(NAMING, &problem::all_kinds(), operations, &mut registry),
            answers: registry.counters(MetricName::Answers, outcomes(&OUTCOMES)),
            answered_alone: registry.counters(MetricName::AnsweredAlone, outcomes(&ALONE)),
            challenges_issued: registry.counter(MetricName::ChallengesIssued),
            challenges_solved: registry.counter(MetricName::ChallengesSolved),
            challenges_refused: registry.counters(MetricName::ChallengesRefused, reasons),
            registry,
        }
    }

    /// The registry with what is counted here.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn answered(&self, outcome: &str) {
        if let Some(at) = OUTCOMES.iter().position(|o| *o == outcome) {
            self.answers[at].inc();
        }
    }

    /// Counts an outcome that the gate returned without asking the sale.
    pub(crate) fn answered_alone(&self, outcome: &str) {
        self.answered(outcome);
        if let Some(at) = ALONE.iter().position(|o| *o == outcome) {
            self.answered_alone[at].inc();
        }
    }

    pub(crate) fn refused(&self, kind: &'static Kind) {
        self.server.refused(kind);
    }

    pub(crate) fn challenge_issued(&self) {
        self.challenges_issued.inc();
    }

    pub(crate) fn challenge_solved(&self) {
        self.challenges_solved.inc();
    }

    pub(crate) fn challenge_refused(&self, reason: Reason) {
        self.challenges_refused[reason as usize].inc();
    }

    /// Records how long a request for this operation took.
    pub(crate) fn took(&self, operation: &'static str, time: Duration) {
        self.server.took(operation, time);
    }

    /// Registers the values of this gate that are kept elsewhere and read at each scrape.
    pub(crate) fn read(
        &self,
        filter: &Filter,
        (protection, strategy): (&Protection, &Strategy),
        event_streams: usize,
        now: &mut Registry,
    ) {
        self.server.read(protection, now);
        let filtered = REASONS.map(|why| ([("reason", why.label)], protection.addresses.count_of(why)));
        now.values(MetricName::Filtered, filtered);
        let (signals, effects) = filter.risks();
        now.values(MetricName::RiskSignals, signals.map(|(signal, count)| ([("signal", signal)], count)));
        now.values(MetricName::RiskEffects, effects.map(|(effect, count)| ([("effect", effect)], count)));
        let stages = Stage::ALL.map(|at| ([("stage", at.label())], u64::from(strategy.stage() == at)));
        now.values(MetricName::Stage, stages);
        let effects = strategy.effects().map(|(effect, count)| ([("effect", effect)], count));
        now.values(MetricName::StrategyEffects, effects);
        now.value(MetricName::EventStreams, event_streams as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use web::metrics::ServerMetric;

    const ALERTS: &str = include_str!("../../../docs/alerts.yml");
    const OPERATING: &str = include_str!("../../../docs/operating.md");

    /// Every metric that `GET /metrics` has.
    fn all() -> impl Iterator<Item = Metric> {
        let of_every_server = ServerMetric::ALL.into_iter().map(|metric| metric.of(NAMING));
        MetricName::ALL.into_iter().map(Metric::from).chain(of_every_server)
    }

    /// The expressions after `expr:` in the rules.
    fn expressions() -> Vec<&'static str> {
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect()
    }

    fn names(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("floodgate_"))
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        let names: HashSet<_> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn alerts_name_only_metrics_that_exist() {
        let exists = |name: &str| all().any(|metric| metric.has_sample(name));
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

    /// The gate's own metrics, and those that every server has.
    #[test]
    fn every_metric_has_its_row_in_the_documents() {
        for metric in all() {
            let (name, kind) = (&metric.name, metric.kind());
            assert!(OPERATING.contains(&format!("| `{name}` | {kind} |")), "{name}");
        }
    }

    #[test]
    fn every_row_of_the_documents_has_its_metric() {
        let rows = OPERATING.lines().filter_map(|line| line.strip_prefix("| `floodgate_")?.split('`').next());
        let rows: Vec<_> = rows.map(|name| format!("floodgate_{name}")).collect();
        assert_eq!(rows.len(), all().count());
        rows.iter().for_each(|row| assert!(all().any(|metric| metric.name == **row), "{row}"));
    }
}
