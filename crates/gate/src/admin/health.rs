//! Readiness of the sales, and metrics.

use crate::{
    front::Fronts,
    limits::Limits,
    metrics::{INVARIANTS, MetricName, Metrics},
    ports::{MessageService, Sales},
    problem::{Problem, UNAVAILABLE, reply},
    strategy::Strategy,
    streams::Streams,
};
use axum::{extract::State, response::Response};
use contracts::{PauseCause, SaleId, SaleState, SaleView};
use std::{sync::Arc, time::Duration};
use web::{metrics::Registry, protection::Protection};

const READY_WAIT: Duration = Duration::from_secs(2);

/// `GET /readyz`: whether every sale answers, and the server does not drain. A sale that has paused
/// itself answers, so the server is ready; the text says what it waits for.
pub(super) async fn readyz(
    State(fronts): State<Arc<Fronts>>,
    State(protection): State<Arc<Protection>>,
) -> Result<String, Problem> {
    protection.refuse_draining()?;
    if let Some(id) = fronts.sales().down().first() {
        return Err(Problem::unavailable(&format!(
            "sale {id} could not be brought back from its log: the server's log says why"
        )));
    }
    let mut ready = "ready\n".to_owned();
    for (id, sale) in fronts.each() {
        if let Some(what) = sale.view().pause.and_then(PauseCause::what_to_do) {
            ready.push_str(&format!("sale {id} is paused: {what}\n"));
        }
        match tokio::time::timeout(READY_WAIT, reply(sale.stats())).await {
            Ok(Ok(_)) => {}
            Ok(Err(problem)) if problem.is(&UNAVAILABLE) => return Err(problem),
            _ => return Err(Problem::unavailable(&format!("sale {id} does not answer"))),
        }
    }
    // The sales do not need it.
    if fronts.sales().message_service() == MessageService::Down {
        ready.push_str("the message service does not run: it is starting, or the server's log says why\n");
    }
    Ok(ready)
}

/// `GET /metrics`, in Prometheus' text format: counts since the start, and present values.
pub(super) async fn metrics(
    State(fronts): State<Arc<Fronts>>,
    State(limits): State<Arc<Limits>>,
    State(strategy): State<Arc<Strategy>>,
    State(streams): State<Arc<Streams>>,
    State(metrics): State<Arc<Metrics>>,
    State(protection): State<Arc<Protection>>,
) -> Response {
    let mut now = Registry::default();
    metrics.read(&limits.filter, (&protection, &strategy), streams.open(), &mut now);
    let mut seen = Vec::new();
    for (id, sale) in fronts.each() {
        let queue = match tokio::time::timeout(READY_WAIT, reply(sale.stats())).await {
            Ok(Ok(stats)) => Some((stats.queue, stats.line)),
            _ => None,
        };
        let sequence = sale.sequence().borrow().0;
        seen.push(Seen { id, queue, sequence, view: sale.view() });
    }
    read_sales(&seen, &mut now);
    read_health(&**fronts.sales(), seen, &mut now);
    let up = match fronts.sales().message_service() {
        MessageService::None => None,
        MessageService::Down => Some(0),
        MessageService::Runs => Some(1),
    };
    up.into_iter().for_each(|up| now.value(MetricName::MessageServiceUp, up));
    web::metrics::answer(&[metrics.registry(), &now])
}

/// The state of a sale that answers.
struct Seen {
    id: SaleId,
    /// How many attempts wait, in the queue and in line; none if the sale did not answer in time.
    queue: Option<(u64, u64)>,
    sequence: u64,
    view: Arc<SaleView>,
}

fn read_sales(sales: &[Seen], now: &mut Registry) {
    let queues = || sales.iter().filter_map(|of| Some((of_sale(&of.id), of.queue?)));
    now.values(MetricName::QueueLength, queues().map(|(sale, (queue, _))| (sale, queue)));
    now.values(MetricName::LineLength, queues().map(|(sale, (_, line))| (sale, line)));
    now.values(MetricName::LogSequence, sales.iter().map(|of| (of_sale(&of.id), of.sequence)));
    let states = sales.iter().flat_map(|of| {
        let row = |(state, label)| ((of_sale(&of.id), [("state", label)]), u64::from(of.view.state == state));
        STATES.map(row)
    });
    now.values(MetricName::SaleState, states);
    let full = sales.iter().map(|of| (of_sale(&of.id), u64::from(of.view.disk_full)));
    now.values(MetricName::DiskFull, full);
    let waits = sales.iter().flat_map(|of| {
        let causes = PauseCause::ALL.into_iter().filter(|cause| cause.what_to_do().is_some());
        causes.map(|cause| {
            let is_so = of.view.pause == Some(cause);
            ((of_sale(&of.id), [("cause", cause.as_str())]), u64::from(is_so))
        })
    });
    now.values(MetricName::WaitsForOperator, waits);
}

/// Includes the sales that could not be recovered, which are counted nowhere else.
fn read_health(sales: &dyn Sales, seen: Vec<Seen>, now: &mut Registry) {
    let mut all: Vec<_> = seen.into_iter().map(|of| of.id).chain(sales.down()).collect();
    all.sort_unstable();
    all.dedup();
    let health: Vec<_> = all.into_iter().map(|id| (sales.health(&id), id)).collect();
    let stopped = health.iter().map(|(health, id)| (of_sale(id), u64::from(health.stopped)));
    now.values(MetricName::SaleStopped, stopped);
    let broken = health.iter().flat_map(|(health, id)| {
        INVARIANTS.map(|invariant| {
            let is_broken = health.invariants_broken.contains(&invariant);
            ((of_sale(id), [("invariant", invariant)]), u64::from(is_broken))
        })
    });
    now.values(MetricName::InvariantBroken, broken);
}

const STATES: [(SaleState, &str); 4] = [
    (SaleState::Scheduled, "scheduled"),
    (SaleState::Open, "open"),
    (SaleState::Paused, "paused"),
    (SaleState::Closed, "closed"),
];

fn of_sale(id: &SaleId) -> [(&'static str, String); 1] {
    [("sale", id.to_string())]
}
