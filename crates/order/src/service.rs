//! Orders as a service: what shoppers may ask, and the loops that follow the sales and the
//! payments.

use crate::{
    core::{By, Command},
    names::Names,
    store::{self, OrderError, Shards},
};
use contracts::store::{
    AccountId, Asked, Bucket, Catalog, Ended, HoldRef, Inbox, OrderId, OrderState, OrderView, Orders, Page,
    PaymentId, Payments, Posts, Pulled, Receipt, SaleHolds, StoreError,
};
use engines::{clock::Clock, sql::SqlError};
use serde::Deserialize;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify},
    task::JoinSet,
};
use web::warning::Warning;

/// Events that are taken at once.
const PULL_MAX: usize = 500;
/// How long a loop waits for events, and after something failed.
const PULL_WAIT: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Orders of one answer, at the most.
const PAGE_MAX: usize = 100;

/// What orders need of others.
pub struct Needs {
    pub shards: Shards,
    pub clock: Arc<dyn Clock>,
    pub catalog: Arc<dyn Catalog>,
    pub sales: Arc<dyn SaleHolds>,
    pub payments: Arc<dyn Payments>,
}

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// The context's service.
#[derive(Debug)]
pub struct Service {
    pub(crate) needs: Needs,
    /// What the sales' items are called in the catalogue.
    pub(crate) names: Mutex<Names>,
    /// Told when there may be a new task, or a new event to tell.
    pub(crate) tasks: Notify,
    pub(crate) outbox: Notify,
}

/// The answer of a database, for other contexts.
pub(crate) fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "orders: the database");
    }
    StoreError::Unavailable("orders cannot be read or changed at the moment".into())
}

pub(crate) fn of_order(error: OrderError) -> StoreError {
    match error {
        OrderError::Sql(error) => of_sql(&error),
        OrderError::NotFound(_) => StoreError::NotFound(error.to_string()),
        OrderError::Refused(_) => StoreError::Conflict(error.to_string()),
    }
}

impl Service {
    pub fn new(needs: Needs) -> Arc<Self> {
        let (names, tasks, outbox) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { needs, names, tasks, outbox })
    }

    /// Follows the sales and the payments, does what is due, and tells others, for as long as the
    /// answer is kept.
    pub fn start(
        self: &Arc<Self>,
        of_sales: Arc<dyn Inbox>,
        of_payments: Arc<dyn Inbox>,
        posts: Arc<dyn Posts>,
    ) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        let this = || Arc::clone(self);
        let winners = this();
        loops.spawn(follow(of_sales, "sales", move |pulled| {
            let service = Arc::clone(&winners);
            async move { service.import(pulled).await }
        }));
        let paid = this();
        loops.spawn(follow(of_payments, "payments", move |pulled| {
            let service = Arc::clone(&paid);
            async move { service.take_payments(pulled).await }
        }));
        loops.spawn(this().do_tasks());
        loops.spawn(this().tell_others(posts));
        loops
    }

    /// Something may have been written that others wait for.
    pub(crate) fn wake(&self) {
        self.tasks.notify_one();
        self.outbox.notify_one();
    }

    /// Carries out a command of any actor.
    pub async fn command(
        &self,
        order: OrderId,
        actor: String,
        reason: String,
        command: Command,
    ) -> Result<OrderView, OrderError> {
        let now = self.needs.clock.now();
        let done = self.needs.shards.of(order.bucket()).write(move |tx| {
            let by = By { actor: &actor, reason: &reason };
            let (stored, _) = store::apply(tx, now, order, by, command.clone())?;
            store::view(tx, stored).map_err(OrderError::Sql)
        });
        let done = done.await;
        self.wake();
        done
    }

    /// Orders of all shoppers, newest first, for those who run the shop.
    pub async fn newest(
        &self,
        state: Option<OrderState>,
        before: Option<OrderId>,
        at_most: usize,
    ) -> Result<Vec<OrderView>, SqlError> {
        let at_most = at_most.clamp(1, PAGE_MAX);
        let mut all = Vec::new();
        for shard in self.needs.shards.all() {
            let found = shard.read(move |tx| {
                let found = store::newest(tx, state, before, at_most)?;
                found.into_iter().map(|stored| store::view(tx, stored)).collect::<Result<Vec<_>, SqlError>>()
            });
            all.extend(found.await?);
        }
        all.sort_by_key(|order| std::cmp::Reverse(order.id));
        all.truncate(at_most);
        Ok(all)
    }

    /// An order of any shopper.
    pub async fn find(&self, order: OrderId) -> Result<Option<OrderView>, SqlError> {
        let read = self.needs.shards.of(order.bucket()).read(move |tx| {
            let found = store::find(tx, order, false)?;
            found.map(|stored| store::view(tx, stored)).transpose()
        });
        read.await
    }

    /// Payments of which the provider has told something become known to their orders.
    async fn take_payments(&self, pulled: Vec<Pulled>) -> Vec<(Receipt, Ended)> {
        let mut ended = Vec::new();
        for Pulled { receipt, event } in pulled {
            ended.push((receipt, self.take_payment(&event).await));
        }
        ended
    }

    async fn take_payment(&self, event: &str) -> Ended {
        let told: PaymentTold = match serde_json::from_str(event) {
            Ok(told) => told,
            Err(error) => {
                tracing::error!(%error, "an event of payments cannot be read");
                return Ended::Failed;
            }
        };
        let PaymentData { payment, order, amount_minor } = told.data;
        let command = match &*told.kind {
            "floodgate.payment.succeeded" => Command::Paid { payment, amount_minor },
            "floodgate.payment.refunded" => Command::Refunded { payment },
            _ => return Ended::Done,
        };
        let done = self.command(order, "payment".into(), format!("payment {payment}"), command).await;
        match done {
            Ok(_) => Ended::Done,
            Err(error) => {
                tracing::warn!(%order, %payment, %error, "a payment is not taken by its order yet");
                match error {
                    OrderError::Sql(error) if error.passes() => Ended::Later,
                    OrderError::Sql(_) | OrderError::NotFound(_) | OrderError::Refused(_) => Ended::Failed,
                }
            }
        }
    }

    async fn of_shopper(
        &self,
        shopper: AccountId,
        after: Option<String>,
        at_most: usize,
    ) -> Result<Page<OrderView>, StoreError> {
        let before = after.map(|after| after.parse::<OrderId>()).transpose();
        let before = before.map_err(|error| StoreError::Invalid(format!("after: {error}")))?;
        let (name, at_most) = (shopper.to_string(), at_most.clamp(1, PAGE_MAX));
        let shard = self.needs.shards.of(Bucket::of_shopper(&name));
        // One more tells whether there is a further page.
        let read = shard.read(move |tx| store::of_shopper(tx, &name, before, at_most + 1));
        let mut rows = read.await.map_err(|error| of_sql(&error))?;
        let is_more = rows.len() > at_most;
        rows.truncate(at_most);
        let next = rows.last().filter(|_| is_more).map(|last| last.id.to_string());
        Ok(Page { rows, next })
    }

    async fn of_shoppers_hold(
        &self,
        shopper: AccountId,
        hold: HoldRef,
    ) -> Result<Option<OrderView>, StoreError> {
        let shopper = shopper.to_string();
        let shard = self.needs.shards.of(Bucket::of_shopper(&shopper));
        let read = shard.read(move |tx| {
            let Some(id) = store::of_hold(tx, &hold)? else { return Ok(None) };
            let found = store::find(tx, id, false)?.filter(|stored| stored.shopper == shopper);
            found.map(|stored| store::view(tx, stored)).transpose()
        });
        read.await.map_err(|error: SqlError| of_sql(&error))
    }

    async fn one_of_shopper(
        &self,
        shopper: AccountId,
        order: OrderId,
    ) -> Result<Option<OrderView>, StoreError> {
        let found = self.find(order).await.map_err(|error| of_sql(&error))?;
        Ok(found.filter(|order| order.shopper == shopper.to_string()))
    }
}

#[derive(Deserialize)]
struct PaymentTold {
    #[serde(rename = "type")]
    kind: String,
    data: PaymentData,
}

#[derive(Deserialize)]
struct PaymentData {
    payment: PaymentId,
    order: OrderId,
    amount_minor: u64,
}

impl Orders for Service {
    fn orders(
        &self,
        shopper: AccountId,
        after: Option<String>,
        at_most: usize,
    ) -> Asked<'_, Page<OrderView>> {
        Box::pin(self.of_shopper(shopper, after, at_most))
    }

    fn order(&self, shopper: AccountId, order: OrderId) -> Asked<'_, Option<OrderView>> {
        Box::pin(self.one_of_shopper(shopper, order))
    }

    fn of_hold(&self, shopper: AccountId, hold: HoldRef) -> Asked<'_, Option<OrderView>> {
        Box::pin(self.of_shoppers_hold(shopper, hold))
    }

    fn cancel(&self, shopper: AccountId, order: OrderId) -> Asked<'_, OrderView> {
        Box::pin(async move {
            if self.one_of_shopper(shopper, order).await?.is_none() {
                return Err(StoreError::NotFound(OrderError::NotFound(order).to_string()));
            }
            let (actor, reason) = (shopper.to_string(), "the shopper gave it up".to_owned());
            self.command(order, actor, reason, Command::Cancel).await.map_err(of_order)
        })
    }
}

/// Takes events, hands them to `take`, and settles them as it says, for ever.
async fn follow<F>(inbox: Arc<dyn Inbox>, what: &'static str, take: impl Fn(Vec<Pulled>) -> F)
where
    F: Future<Output = Vec<(Receipt, Ended)>>,
{
    let mut warning = Warning::default();
    loop {
        let pulled = match inbox.pull(PULL_MAX, PULL_WAIT).await {
            Ok(pulled) if pulled.is_empty() => continue,
            Ok(pulled) => pulled,
            Err(error) => {
                if let Some(count) = warning.due() {
                    tracing::warn!(%error, what, count, "orders: events are not to be had now");
                }
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        let ended = take(pulled).await;
        let waits = ended.iter().any(|(_, ended)| *ended == Ended::Later);
        // What is not settled comes again, and is then found to be done.
        if let Err(error) = inbox.settle(ended).await {
            tracing::warn!(%error, what, "orders: events that are done cannot be settled now");
        }
        if waits {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}
