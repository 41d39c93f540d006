//! Readiness and metrics.

use crate::{
    core::{SubscriptionSeen, spec::SubscriptionState},
    parts::{AllParts, Parts, Running},
    problem::Problem,
};
use axum::{extract::State, response::Response};
use http::HeaderMap;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use units::TimeMs;
use web::{
    metrics::{Metric, Registry},
    protection::Protection,
};

/// `GET /readyz`.
pub(crate) async fn ready(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
) -> Result<&'static str, Problem> {
    if *protection.draining.borrow() {
        return Err(Problem::unavailable("the server drains"));
    }
    match running.stopped() {
        Some(_) => Err(Problem::unavailable("the message service has stopped: see the server's log")),
        None => Ok("ready\n"),
    }
}

/// `GET /metrics`. Rows with names of tenants and of what they have are for operators only: the
/// others read the rest, as any monitor may.
pub(crate) async fn metrics(State(parts): State<Parts>, headers: HeaderMap) -> Result<Response, Problem> {
    let AllParts { running, protection, api_keys, counts, counted } = &*parts.0;
    let shows_tenants = api_keys.is_operators(&headers);
    let mut now = Registry::default();
    counts.read(protection, &mut now);
    let stopped = u64::from(running.stopped().is_some());
    now.value(Metric::gauge("floodgate_notify_stopped", "1 once the message service has stopped"), stopped);
    if stopped == 0 {
        let seen = running.seen_lately().await?;
        let shown = seen.iter().filter(|of| shows_tenants || !of.name.is_of_tenant());
        read_subscriptions(&shown.collect::<Vec<_>>(), protection.now(), &mut now);
    }
    let streams = &running.streams;
    let [open, sent, gaps] = of_streams();
    now.value(open, streams.open());
    now.value(sent, streams.sent.load(Relaxed));
    now.value(gaps, streams.gaps.load(Relaxed));
    if shows_tenants {
        running.quotas.read(&mut now);
    }
    Ok(web::metrics::answer(&[counted, &now]))
}

/// Open streams, events that they have sent, and gaps.
fn of_streams() -> [Metric; 3] {
    [
        Metric::gauge("floodgate_notify_streams", "Streams of topics that are open"),
        Metric::counter("floodgate_notify_streamed_total", "Events that streams have sent"),
        Metric::counter("floodgate_notify_stream_gaps_total", "Times that a stream's events were gone"),
    ]
}

/// What is read of a subscription at a time.
type Value = fn(&SubscriptionSeen, TimeMs) -> u64;

/// The metrics of each subscription.
fn of_subscriptions() -> [(Metric, Value); 12] {
    [
        (Metric::counter("floodgate_notify_delivered_total", "Events delivered"), |of, _| of.delivered),
        (Metric::counter("floodgate_notify_failed_total", "Attempts to deliver that failed"), |of, _| {
            of.failed
        }),
        (Metric::gauge("floodgate_notify_dead_letters", "Dead letters"), |of, _| of.dead),
        (Metric::gauge("floodgate_notify_blocked_keys", "Keys that wait for an operator"), |of, _| {
            of.blocked
        }),
        (
            Metric::counter(
                "floodgate_notify_dropped_total",
                "Events that a topic let go before a subscription had them",
            ),
            |of, _| of.dropped,
        ),
        (
            Metric::gauge(
                "floodgate_notify_filling",
                "Earlier events for which a subscription's filters are still to be asked",
            ),
            |of, _| of.fill.map_or(0, |fill| fill.end.0.saturating_sub(fill.next.0)),
        ),
        (Metric::gauge("floodgate_notify_backlog", "Events that a subscription has not had"), |of, _| {
            of.backlog
        }),
        (
            Metric::gauge(
                "floodgate_notify_lag_seconds",
                "Age of the oldest event that a subscription has not had, in seconds",
            ),
            |of, at| of.oldest.map_or(0, |oldest| at.since(oldest).0 / 1000),
        ),
        (
            Metric::gauge("floodgate_notify_lagging", "1 if that is more than its lag_alert_seconds"),
            |of, at| u64::from(of.is_lagging(at)),
        ),
        (
            Metric::gauge("floodgate_notify_attempt_ms", "Average milliseconds of the latest attempts"),
            |of, _| u64::from(of.took_ms.unwrap_or_default()),
        ),
        (Metric::gauge("floodgate_notify_in_flight", "Deliveries on their way"), |of, _| {
            u64::from(of.in_flight)
        }),
        (Metric::gauge("floodgate_notify_active", "1 if a subscription is delivered to"), |of, _| {
            u64::from(of.state == SubscriptionState::Active)
        }),
    ]
}

fn read_subscriptions(seen: &[&SubscriptionSeen], at: TimeMs, now: &mut Registry) {
    for (metric, value) in of_subscriptions() {
        let rows = seen.iter().map(|of| ([("subscription", of.name.to_string())], value(of, at)));
        now.values(metric, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERTS: &str = include_str!("../../../docs/notify-alerts.yml");
    const DOCUMENT: &str = include_str!("../../../docs/notify.md");

    fn names(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("floodgate_notify_"))
    }

    #[test]
    fn alerts_and_the_document_name_what_there_is_and_all_of_it() {
        let mut all: Vec<String> =
            of_subscriptions().iter().map(|(metric, _)| metric.name.to_string()).collect();
        all.extend(of_streams().iter().map(|metric| metric.name.to_string()));
        all.push("floodgate_notify_stopped".into());
        let rows: Vec<&str> = DOCUMENT
            .lines()
            .filter_map(|line| line.strip_prefix("| `floodgate_notify_")?.split('`').next())
            .collect();
        let told: Vec<String> = rows.iter().map(|row| format!("floodgate_notify_{row}")).collect();
        for name in &all {
            assert!(told.contains(name), "{name} has no row in docs/notify.md");
        }
        assert_eq!(told.len(), all.len(), "{told:?}");
        let expressions: Vec<&str> =
            ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
        assert!(expressions.len() >= 5);
        for expression in expressions {
            assert!(names(expression).count() > 0, "{expression}");
            names(expression).for_each(|name| assert!(all.iter().any(|known| known == name), "{name}"));
        }
    }
}
