//! What orders have done outside of their database: the sale is asked about a payment, a hold is
//! given back, money goes back, and others are told. Each is written down in the transaction that
//! decided it, and done at least once.

use crate::{
    core::{By, Command},
    service::Service,
    store::{self, OrderError, Task, TaskKind},
};
use contracts::store::{HoldRef, Posts, SaleDecision, StoreError};
use engines::sql::{
    Sql, SqlError,
    outbox::{self, NotTold},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use units::DurationMs;
use web::warning::Warning;

/// Tasks that are done at once, and that are read at once.
const AT_ONCE: usize = 16;
const READ_MAX: usize = 200;
/// How often it is looked for what is due, if nothing tells of something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the sale, or payments, may take to answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// The longest pause before a task is tried again.
const PAUSE_MAX: DurationMs = DurationMs(60_000);

enum Tried {
    /// And the sale has answered a question.
    Done(Option<SaleDecision>),
    /// Again later, because of this.
    Later(StoreError),
}

impl Service {
    /// Does what is due, for ever.
    pub(crate) async fn do_tasks(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            let mut is_more = false;
            for shard in self.needs.shards.all() {
                match Arc::clone(&self).do_due(shard).await {
                    Ok(more) => is_more |= more,
                    Err(error) => {
                        if let Some(count) = warning.due() {
                            tracing::warn!(%error, count, "orders: what is due cannot be read now");
                        }
                    }
                }
            }
            if !is_more {
                let _ = tokio::time::timeout(LOOK_EVERY, self.tasks.notified()).await;
            }
        }
    }

    /// Returns whether more may be due at once: not while what became of tasks cannot be written.
    async fn do_due(self: Arc<Self>, shard: &Sql) -> Result<bool, SqlError> {
        let now = self.needs.clock.now();
        let due = shard.read(move |tx| store::due_tasks(tx, now, READ_MAX)).await?;
        let (count, mut written) = (due.len(), 0);
        let mut under_way = JoinSet::new();
        for task in due {
            if under_way.len() == AT_ONCE {
                written += usize::from(matches!(under_way.join_next().await, Some(Ok(true))));
            }
            let (service, shard) = (Arc::clone(&self), shard.clone());
            under_way.spawn(async move { service.do_task(&shard, task).await });
        }
        while let Some(done) = under_way.join_next().await {
            written += usize::from(matches!(done, Ok(true)));
        }
        Ok(count == READ_MAX && written == count)
    }

    /// Returns whether it is written what became of the task.
    async fn do_task(&self, shard: &Sql, task: Task) -> bool {
        let (order, kind) = (task.order, task.kind.as_str());
        let attempt = tokio::time::timeout(ATTEMPT_MAX, self.attempt(shard, &task)).await;
        let late = || Ok(Tried::Later(StoreError::Unavailable("no answer in time".into())));
        let tried = match attempt.unwrap_or_else(|_| late()) {
            Ok(tried) => tried,
            Err(error) => {
                tracing::warn!(%order, kind, %error, "a task of an order waits");
                return false;
            }
        };
        let now = self.needs.clock.now();
        let written = match tried {
            Tried::Later(error) => {
                let is_for_people = !matches!(error, StoreError::Unavailable(_) | StoreError::TooMany { .. });
                match is_for_people {
                    true => {
                        tracing::error!(%order, kind, %error, "a task of an order is refused: look into it; it is tried again")
                    }
                    false => tracing::warn!(%order, kind, %error, "a task of an order is tried again later"),
                }
                let pause = DurationMs((1000 << task.tries.min(6)).min(PAUSE_MAX.0));
                shard
                    .write(move |tx| store::put_task_off(tx, &task, now.plus(pause)).map_err(OrderError::Sql))
                    .await
            }
            Tried::Done(answer) => {
                let write = shard.write(move |tx| {
                    if let Some(answer) = answer {
                        let is_confirmed = answer == SaleDecision::Confirmed;
                        let reason = match is_confirmed {
                            true => "paid, says the sale",
                            false => "the sale did not take the payment",
                        };
                        let command = Command::SaleAnswered { payment: task.payment, is_confirmed };
                        store::apply(tx, now, task.order, By { actor: "sale", reason }, command)?;
                    }
                    store::end_task(tx, task.number).map_err(OrderError::Sql)
                });
                let written = write.await;
                if written.is_ok() {
                    self.wake();
                }
                written
            }
        };
        if let Err(error) = &written {
            tracing::warn!(%order, kind, %error, "what became of a task of an order is not written; it is done again");
        }
        written.is_ok()
    }

    async fn attempt(&self, shard: &Sql, task: &Task) -> Result<Tried, SqlError> {
        let answer = match task.kind {
            TaskKind::Refund => {
                self.needs.payments.refund(task.payment, task.reason.clone()).await.map(|()| None)
            }
            TaskKind::Confirm => match self.hold_of(shard, task).await? {
                Some(hold) => self.needs.sales.confirm(hold, task.payment).await.map(Some),
                None => Ok(None),
            },
            TaskKind::Release => match self.hold_of(shard, task).await? {
                Some(hold) => match self.needs.sales.release(hold).await {
                    // It is over already; the sale's events tell how.
                    Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => Ok(None),
                    other => other.map(|()| None),
                },
                None => Ok(None),
            },
        };
        Ok(match answer {
            Ok(decision) => Tried::Done(decision),
            Err(error) => Tried::Later(error),
        })
    }

    async fn hold_of(&self, shard: &Sql, task: &Task) -> Result<Option<HoldRef>, SqlError> {
        let order = task.order;
        let found = shard.read(move |tx| store::find(tx, order, false)).await?;
        Ok(found.and_then(|stored| stored.hold))
    }

    /// Tells others what became of orders, for ever.
    pub(crate) async fn tell_others(self: Arc<Self>, posts: Arc<dyn Posts>) {
        let (posts, mut warning) = (&*posts, Warning::default());
        let failed = |error: NotTold<StoreError>| {
            if let Some(count) = warning.due() {
                tracing::warn!(%error, count, "orders: events wait, they cannot be told now");
            }
        };
        outbox::tell(self.needs.shards.all(), &self.outbox, |events| posts.post(events), failed).await;
    }
}
