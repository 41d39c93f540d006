//! The metrics that every HTTP server has, whatever its context.

use super::{Counter, Histogram, Metric, Registry};
use crate::{
    problem::Kind,
    protection::{NO_OPERATION, PAGE, PREFLIGHT, Protection},
};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

const BOUNDS_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The names of a context for its server.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    /// The prefix of its metrics.
    pub prefix: &'static str,
    /// Its section of the configuration, which the help texts name.
    pub section: &'static str,
}

/// Every metric of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMetric {
    Refusals,
    RequestSeconds,
    Connections,
    ConnectionsRefused,
    HandshakesFailed,
    CertificateExpires,
    CertificateFailures,
    ConnectionsShed,
    MemoryBytes,
    MemoryMarkBytes,
}

impl ServerMetric {
    pub const ALL: [Self; 10] = [
        Self::Refusals,
        Self::RequestSeconds,
        Self::Connections,
        Self::ConnectionsRefused,
        Self::HandshakesFailed,
        Self::CertificateExpires,
        Self::CertificateFailures,
        Self::ConnectionsShed,
        Self::MemoryBytes,
        Self::MemoryMarkBytes,
    ];

    /// The metric, under its name in a context.
    pub fn of(self, Naming { prefix, section }: Naming) -> Metric {
        let named = |name: &str| format!("{prefix}_{name}");
        match self {
            Self::Refusals => Metric::counter(named("refusals_total"), "Problem documents sent, by kind"),
            Self::RequestSeconds => {
                Metric::histogram(named("request_seconds"), "Time from request to answer")
            }
            Self::Connections => {
                Metric::gauge(named("connections"), "Connections open on the public listeners")
            }
            Self::ConnectionsRefused => Metric::counter(
                named("connections_refused_total"),
                format!("Connections over {section}.connections.open_max"),
            ),
            Self::HandshakesFailed => Metric::counter(
                named("tls_handshakes_failed_total"),
                "TLS handshakes that failed or took too long",
            ),
            Self::CertificateExpires => Metric::gauge(
                named("certificate_expires_seconds"),
                format!("When the certificate of {section}.tls expires, in seconds since 1970"),
            ),
            Self::CertificateFailures => Metric::counter(
                named("certificate_failures_total"),
                format!("Changes of the files of {section}.tls that could not be used"),
            ),
            Self::ConnectionsShed => Metric::counter(
                named("connections_shed_total"),
                "Connections closed because memory was above the mark: idle ones, and new ones",
            ),
            Self::MemoryBytes => Metric::gauge(named("memory_bytes"), "Memory that the process has"),
            Self::MemoryMarkBytes => Metric::gauge(
                named("memory_mark_bytes"),
                format!(
                    "Memory from which on connections are closed ({section}.connections.memory_mark_percent)"
                ),
            ),
        }
    }
}

/// A server's counts of requests. Its counts of connections are in its [`Protection`].
#[derive(Debug)]
pub struct ServerMetrics {
    naming: Naming,
    refusals: Vec<(&'static Kind, Counter)>,
    /// By operation.
    request_seconds: Vec<(&'static str, Histogram)>,
}

impl ServerMetrics {
    /// Registers the counts of requests: problem documents of these `kinds`, and durations by
    /// operation. `operations` are searched in their order, so the most frequent come first.
    pub fn new(
        naming: Naming,
        kinds: &[&'static Kind],
        operations: &[&'static str],
        registry: &mut Registry,
    ) -> Self {
        let operations: Vec<_> = operations.iter().copied().chain([PAGE, PREFLIGHT, NO_OPERATION]).collect();
        let slugs = kinds.iter().map(|kind| [("problem", kind.slug)]);
        let refusals = registry.counters(ServerMetric::Refusals.of(naming), slugs);
        let routes = operations.iter().map(|operation| [("route", *operation)]);
        let times = ServerMetric::RequestSeconds.of(naming);
        let times = registry.histograms(times, &BOUNDS_SECONDS, routes);
        Self {
            naming,
            refusals: kinds.iter().copied().zip(refusals).collect(),
            request_seconds: operations.into_iter().zip(times).collect(),
        }
    }

    /// Counts a problem document that was sent.
    pub fn refused(&self, kind: &'static Kind) {
        if let Some((_, count)) = self.refusals.iter().find(|(known, _)| std::ptr::eq(*known, kind)) {
            count.inc();
        }
    }

    /// Records how long a request for that operation took.
    pub fn took(&self, operation: &'static str, time: Duration) {
        let known = self.request_seconds.iter().find(|(known, _)| *known == operation);
        debug_assert!(known.is_some(), "{operation}: not among the operations that are counted");
        if let Some((_, times)) = known {
            times.observe(time);
        }
    }

    /// Registers the listeners' values of connections and memory, which are read at each scrape.
    pub fn read(&self, protection: &Protection, registry: &mut Registry) {
        let (counters, pressure) = (&protection.counters, &protection.pressure);
        for (metric, value) in [
            (ServerMetric::Connections, counters.connections.load(Relaxed)),
            (ServerMetric::ConnectionsRefused, counters.connections_refused.load(Relaxed)),
            (ServerMetric::HandshakesFailed, counters.handshakes_failed.load(Relaxed)),
            (ServerMetric::CertificateFailures, counters.certificate_failures.load(Relaxed)),
            (ServerMetric::MemoryBytes, pressure.resident_bytes.load(Relaxed)),
            (ServerMetric::MemoryMarkBytes, pressure.mark_bytes),
        ] {
            registry.value(metric.of(self.naming), value);
        }
        let expires_seconds = counters.certificate_expires_seconds.load(Relaxed);
        if expires_seconds > 0 {
            registry.value(ServerMetric::CertificateExpires.of(self.naming), expires_seconds);
        }
        let shed = [("idle", &pressure.idle_closed), ("new", &pressure.new_closed)];
        let shed = shed.map(|(which, count)| ([("which", which)], count.load(Relaxed)));
        registry.values(ServerMetric::ConnectionsShed.of(self.naming), shed);
    }
}
