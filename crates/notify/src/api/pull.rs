//! Pulling and settling. What was taken for a consumer who does not hear of it is given back.

use super::documents::{FailedReceipt, Pull, Pulled, PulledEvent, Receipt, SettledCount, Settling};
use crate::{
    core::{Command, Delivery, Outcome, Reply, Settled, record::EventNo},
    parts::Running,
    problem::{INVALID, Problem, of_reply},
    scope::KnownSubscription,
};
use axum::extract::State;
use contracts::SubscriptionId;
use serde_json::value::RawValue;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use units::{DurationMs, TimeMs};
use web::{
    json::{JsonBody, JsonReply},
    protection::Protection,
    tenants::Scope,
};

const PULL_BYTES_MAX: usize = 4096;
/// Events that are settled at once, and bytes of their receipts.
const SETTLED_MAX: usize = 1000;
const SETTLING_BYTES_MAX: usize = 128 << 10;
/// How long a consumer that waits does not ask, at the most.
const PULL_NAP: Duration = Duration::from_secs(1);

pub(super) async fn pull(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownSubscription(name): KnownSubscription,
    scope: Scope,
    JsonBody(Pull { max, wait_ms, lease_seconds }): JsonBody<Pull, PULL_BYTES_MAX>,
) -> Result<JsonReply<Pulled>, Problem> {
    for (field, value, least, most) in [
        ("max", max as u64, 1, 100),
        ("wait_ms", wait_ms, 0, 30_000),
        ("lease_seconds", lease_seconds, 1, 3600),
    ] {
        if !(least..=most).contains(&value) {
            return Err(Problem::new(&INVALID, format!("{field}: {value}, want {least} to {most}")));
        }
    }
    let _counted = running.quotas.pull(&scope, protection.now())?;
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let left = || deadline.saturating_duration_since(Instant::now());
    let lease = DurationMs::seconds(lease_seconds);
    let mut draining = protection.draining.clone();
    let mut sequence = running.handle.sequence();
    sequence.borrow_and_update();
    let mut taken = Taken::ask(&running, &name, max, lease).await?;
    let mut asking = None;
    while taken.deliveries.is_empty() && !left().is_zero() && !*draining.borrow() {
        let Some(turn) = &asking else {
            asking = tokio::select! {
                turn = running.pulls.turn(&name, left()) => turn,
                _ = draining.changed() => None,
            };
            continue;
        };
        let pause = turn.pause();
        let due = taken.next_at.map_or(left(), |at| Duration::from_millis(at.since(protection.now()).0));
        tokio::select! {
            // A consumer that waits does not ask after each entry.
            _ = sequence.changed() => tokio::time::sleep(pause.min(left())).await,
            // What another consumer gives back is not in the log.
            () = tokio::time::sleep(due.max(pause).min(PULL_NAP).min(left())) => {}
            _ = draining.changed() => {}
        }
        sequence.borrow_and_update();
        taken = Taken::ask(&running, &name, max, lease).await?;
    }
    drop(asking);
    let lease_until = taken.until;
    Ok(JsonReply(Pulled { events: pulled_events(&running, taken).await?, lease_until }))
}

/// The events of deliveries, in the order of their numbers, as far as they fit into one answer. The
/// rest is given back.
async fn pulled_events(running: &Running, mut taken: Taken) -> Result<Vec<PulledEvent>, Problem> {
    taken.deliveries.sort_by_key(|delivery| delivery.event);
    let sequences = taken.deliveries.iter().map(|delivery| delivery.sequence).collect();
    let read = running.events(sequences).await?;
    let fit = read.iter().take_while(|event| event.is_some()).count();
    let events = taken.hand_out(fit).into_iter().zip(read.into_iter().flatten());
    let view = |(delivery, event): (Delivery, Box<RawValue>)| PulledEvent {
        number: delivery.event.0,
        attempt: delivery.attempt,
        event,
    };
    Ok(events.map(view).collect())
}

pub(super) async fn settle(
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(Settling { done, failed, returned }): JsonBody<Settling, SETTLING_BYTES_MAX>,
) -> Result<JsonReply<SettledCount>, Problem> {
    let all = done.len() + failed.len() + returned.len();
    if all > SETTLED_MAX {
        let why = format!("{all} events, want {SETTLED_MAX} at the most");
        return Err(Problem::new(&INVALID, why));
    }
    let as_ended =
        |outcome| move |Receipt { number, attempt }| Settled { event: EventNo(number), attempt, outcome };
    let failed = failed.into_iter().map(|FailedReceipt { number, attempt, retry_after_seconds }| {
        let retry_after = retry_after_seconds.map(DurationMs::seconds);
        Settled { event: EventNo(number), attempt, outcome: Outcome::Failed { retry_after } }
    });
    let done = done.into_iter().map(as_ended(Outcome::Delivered));
    let returned = returned.into_iter().map(as_ended(Outcome::NotTried));
    let ended = done.chain(failed).chain(returned).collect();
    match running.ask(Command::Settle { name, ended }).await? {
        Reply::Settled { counted, late } => Ok(JsonReply(SettledCount { settled: counted, late })),
        other => Err(of_reply(&other)),
    }
}

/// Deliveries that were taken for a consumer. What is left in it when it is dropped is given back:
/// another consumer may have it, and no attempt is spent.
struct Taken {
    running: Arc<Running>,
    name: SubscriptionId,
    deliveries: Vec<Delivery>,
    until: TimeMs,
    /// Without a delivery: when there may be one, if nothing happens before.
    next_at: Option<TimeMs>,
}

impl Taken {
    /// Takes some. The reply of the core is waited for in a task of its own: a consumer that goes
    /// away meanwhile leaves nothing taken.
    async fn ask(
        running: &Arc<Running>,
        name: &SubscriptionId,
        at_most: usize,
        lease: DurationMs,
    ) -> Result<Self, Problem> {
        let (tell, told) = oneshot::channel();
        let (running, name) = (Arc::clone(running), name.clone());
        tokio::spawn(async move {
            let reply = running.ask(Command::Pull { name: name.clone(), at_most, lease }).await;
            // If the consumer is gone, it is dropped here, and so given back.
            drop(tell.send(reply.and_then(|reply| match reply {
                Reply::Pulled { deliveries, until, next_at } => {
                    Ok(Self { running, name, deliveries, until, next_at })
                }
                other => Err(of_reply(&other)),
            })));
        });
        told.await.map_err(|_| Problem::unavailable("the message service is stopping"))?
    }

    /// The first ones, which the consumer gets; the rest is given back.
    fn hand_out(mut self, count: usize) -> Vec<Delivery> {
        let left = self.deliveries.split_off(count.min(self.deliveries.len()));
        std::mem::replace(&mut self.deliveries, left)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let returned = std::mem::take(&mut self.deliveries).into_iter().map(|delivery| Settled {
            event: delivery.event,
            attempt: delivery.attempt,
            outcome: Outcome::NotTried,
        });
        let ended: Vec<Settled> = returned.collect();
        if ended.is_empty() {
            return;
        }
        let (running, name) = (Arc::clone(&self.running), self.name.clone());
        // Where there is no runtime any more, the lease ends with the process.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(running.ask(Command::Settle { name, ended }).await) });
        }
    }
}
