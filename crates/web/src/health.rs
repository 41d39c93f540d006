//! Liveness, readiness and metrics: for machines, without a key. Readiness and metrics are on a
//! listener that is not public.

use crate::operation::{Access, Operation, Text, get};
use axum::handler::Handler;

/// `/healthz`, which tells a balancer that the listener answers.
pub fn alive<S: Clone + Send + Sync + 'static>() -> Operation<S> {
    get("/healthz", "health", Access::Open, healthz)
        .does("The process runs. On each listener.")
        .tag("health")
        .replies_as::<Text>("text/plain", "ok")
}

/// `/healthz`, `/readyz` and `/metrics`. The context supplies readiness and metrics.
pub fn operations<S, R, M, RT, MT>(ready: R, metrics: M) -> Vec<Operation<S>>
where
    S: Clone + Send + Sync + 'static,
    R: Handler<RT, S>,
    M: Handler<MT, S>,
    RT: 'static,
    MT: 'static,
{
    vec![
        alive(),
        get("/readyz", "ready", Access::Open, ready)
            .does("The server can answer requests, and does not drain.")
            .tag("health")
            .replies_as::<Text>("text/plain", "ready")
            .problems(&[&crate::problem::UNAVAILABLE]),
        get("/metrics", "metrics", Access::Open, metrics)
            .does("Metrics for Prometheus.")
            .tag("health")
            .replies_as::<Text>("text/plain", "Metrics."),
    ]
}

async fn healthz() -> &'static str {
    "ok\n"
}
