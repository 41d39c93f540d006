//! Is it alive, can it answer, and in which figures. For machines, without a key: the listener is
//! not public.

use crate::{
    metrics::{INVARIANTS, MetricName},
    problem::Problem,
    state::{Gate, reply},
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use contracts::SaleState;
use http::header;
use std::{fmt::Write, sync::Arc, time::Duration};

const READY_WAIT: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: every sale answers, and the server does not drain.
pub(super) async fn readyz(State(gate): State<Arc<Gate>>) -> Result<&'static str, Problem> {
    if *gate.protection.draining.borrow() {
        return Err(Problem::unavailable("the server is stopping"));
    }
    if let Some(id) = gate.sales.down().first() {
        return Err(Problem::unavailable(&format!(
            "sale {id} could not be brought back from its log: the server's log says why"
        )));
    }
    for id in gate.sales.list() {
        let Some(sale) = gate.sales.get(id.as_str()) else { continue };
        match tokio::time::timeout(READY_WAIT, reply(sale.stats())).await {
            Ok(stats) => stats.map(drop)?,
            Err(_) => return Err(Problem::unavailable(&format!("sale {id} does not answer"))),
        }
    }
    Ok("ready\n")
}

/// `GET /metrics`, in Prometheus's text format 0.0.4.
pub(super) async fn metrics(State(gate): State<Arc<Gate>>) -> Response {
    let mut out = String::with_capacity(8192);
    let streams = gate.config.connections.events_max.saturating_sub(gate.events.available_permits());
    gate.metrics.render(&gate.filter, (&gate.protection, &gate.strategy), streams, &mut out);
    let mut sales = Vec::new();
    for id in gate.sales.list() {
        let Some(sale) = gate.sales.get(id.as_str()) else { continue };
        let queue = match tokio::time::timeout(READY_WAIT, reply(sale.stats())).await {
            Ok(Ok(stats)) => Some((stats.queue, stats.line)),
            _ => None,
        };
        let sequence = *sale.sequence().borrow();
        sales.push((id, queue, sequence, sale.view()));
    }
    let name = MetricName::QueueLength.head(&mut out);
    for (id, queue, ..) in &sales {
        let _ = queue.map(|(queue, _)| writeln!(out, "{name}{{sale=\"{id}\"}} {queue}"));
    }
    let name = MetricName::LineLength.head(&mut out);
    for (id, queue, ..) in &sales {
        let _ = queue.map(|(_, line)| writeln!(out, "{name}{{sale=\"{id}\"}} {line}"));
    }
    let name = MetricName::LogSequence.head(&mut out);
    for (id, _, sequence, _) in &sales {
        let _ = writeln!(out, "{name}{{sale=\"{id}\"}} {sequence}");
    }
    let name = MetricName::SaleState.head(&mut out);
    for (id, _, _, view) in &sales {
        for (state, label) in [
            (SaleState::Scheduled, "scheduled"),
            (SaleState::Open, "open"),
            (SaleState::Paused, "paused"),
            (SaleState::Closed, "closed"),
        ] {
            let _ =
                writeln!(out, "{name}{{sale=\"{id}\",state=\"{label}\"}} {}", u8::from(view.state == state));
        }
    }
    let name = MetricName::DiskFull.head(&mut out);
    for (id, _, _, view) in &sales {
        let _ = writeln!(out, "{name}{{sale=\"{id}\"}} {}", u8::from(view.disk_full));
    }
    // Of those too that could not be brought back: nobody else counts them.
    let mut all: Vec<_> = sales.into_iter().map(|(id, ..)| id).chain(gate.sales.down()).collect();
    all.sort_unstable();
    all.dedup();
    let health: Vec<_> = all.into_iter().map(|id| (gate.sales.health(&id), id)).collect();
    let name = MetricName::SaleStopped.head(&mut out);
    for (health, id) in &health {
        let _ = writeln!(out, "{name}{{sale=\"{id}\"}} {}", u8::from(health.stopped));
    }
    let name = MetricName::InvariantBroken.head(&mut out);
    for (health, id) in &health {
        for invariant in INVARIANTS {
            let broken = health.invariants_broken.contains(&invariant);
            let _ = writeln!(out, "{name}{{sale=\"{id}\",invariant=\"{invariant}\"}} {}", u8::from(broken));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}
