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
        let shown = seen.iter().filter(|of| shows_tenants || !of.name.as_str().contains('.'));
        read_subscriptions(&shown.collect::<Vec<_>>(), protection.now(), &mut now);
    }
    let streams = &running.streams;
    now.value(Metric::gauge("floodgate_notify_streams", "Streams of topics that are open"), streams.open());
    for (name, help, count) in [
        ("floodgate_notify_streamed_total", "Events that streams have sent", &streams.sent),
        ("floodgate_notify_stream_gaps_total", "Times that a stream's events were gone", &streams.gaps),
    ] {
        now.value(Metric::counter(name, help), count.load(Relaxed));
    }
    if shows_tenants {
        running.quotas.read(&mut now);
    }
    Ok(web::metrics::answer(&[counted, &now]))
}

fn read_subscriptions(seen: &[&SubscriptionSeen], at: TimeMs, now: &mut Registry) {
    let mut row = |metric: Metric, value: fn(&SubscriptionSeen, TimeMs) -> u64| {
        let rows = seen.iter().map(|of| ([("subscription", of.name.to_string())], value(of, at)));
        now.values(metric, rows);
    };
    row(Metric::counter("floodgate_notify_delivered_total", "Events delivered"), |of, _| of.delivered);
    row(Metric::counter("floodgate_notify_failed_total", "Attempts to deliver that failed"), |of, _| {
        of.failed
    });
    row(Metric::gauge("floodgate_notify_dead_letters", "Dead letters"), |of, _| of.dead);
    row(Metric::gauge("floodgate_notify_blocked_keys", "Keys that wait for an operator"), |of, _| of.blocked);
    let dropped = "Events that a full topic dropped before a subscription had them";
    row(Metric::counter("floodgate_notify_dropped_total", dropped), |of, _| of.dropped);
    row(Metric::gauge("floodgate_notify_backlog", "Events that a subscription has not had"), |of, _| {
        of.backlog
    });
    let lag = "Age of the oldest event that a subscription has not had, in seconds";
    row(Metric::gauge("floodgate_notify_lag_seconds", lag), |of, at| {
        of.oldest.map_or(0, |oldest| at.since(oldest).0 / 1000)
    });
    let state = "1 if a subscription is delivered to";
    row(Metric::gauge("floodgate_notify_active", state), |of, _| {
        u64::from(of.state == SubscriptionState::Active)
    });
}
