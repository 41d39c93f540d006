//! What orders have done outside of their database: the sale is asked about a payment, a hold is
//! given back, money goes back, and others are told. Each is written down in the transaction that
//! decided it, and done at least once.

use crate::{
    carts,
    core::{By, Command, Order},
    returned,
    service::{Service, of_sql},
    shards::Shard,
    store::{self, Asks, OrderError, Task, TaskKind},
};
use contracts::store::{
    CameBack, HoldRef, OrderId, OrderOrigin, OrderState, OrderView, PaymentId, PaymentSeen, Posts, Reserved,
    ReturnState, SaleDecision, Sku, StockLine, StoreError, TakenFrom,
};
use engines::sql::{
    Sql, SqlError, Tx,
    outbox::{self, NotTold},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use units::{DurationMs, TimeMs};
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
/// The same for a paid order that waits for stock.
const SHORT_PAUSE_MAX: DurationMs = DurationMs(600_000);

enum Tried {
    Done,
    /// The sale has answered about a payment.
    Decided(SaleDecision),
    /// The units that the stock knows are set aside.
    StockIsSet {
        is_all: bool,
    },
    /// There is too little stock for a paid order yet.
    Short,
    /// So much is not left of the payment: money of a return is owed.
    Owed(StoreError),
    /// Again later, because of this.
    Later(StoreError),
}

impl Service {
    /// Does what is due, for ever.
    pub(crate) async fn do_tasks(self: Arc<Self>, of: Asks) {
        let told = match of {
            Asks::SalesAndPayments => &self.tasks,
            Asks::Stock => &self.stock_tasks,
        };
        let mut warning = Warning::default();
        loop {
            let mut is_more = false;
            for shard in self.needs.shards.all() {
                match Arc::clone(&self).do_due(shard, of).await {
                    Ok(more) => is_more |= more,
                    Err(error) => {
                        if let Some(count) = warning.due() {
                            tracing::warn!(%error, count, "orders: what is due cannot be read now");
                        }
                    }
                }
            }
            if !is_more {
                let _ = tokio::time::timeout(LOOK_EVERY, told.notified()).await;
            }
        }
    }

    /// Returns whether more may be due at once: not while what became of tasks cannot be written.
    pub(crate) async fn do_due(self: Arc<Self>, shard: &Shard, of: Asks) -> Result<bool, SqlError> {
        let now = self.needs.clock.now();
        // Others are asked for them: what another process has done a moment ago is not asked again.
        let due = shard.sql.primary().read(move |tx| store::due_tasks(tx, now, of, READ_MAX)).await?;
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

    /// Returns whether it is written what became of the task. Of an order that is moved meanwhile
    /// it is not written, and the task is done again where the order arrives.
    async fn do_task(&self, shard: &Shard, task: Task) -> bool {
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
                put_off(shard, task, now.plus(pause)).await
            }
            Tried::Short => {
                if task.tries == 0 {
                    tracing::warn!(%order, "an order is paid, and there is too little stock for it: it waits");
                }
                let pause = DurationMs((10_000 << task.tries.min(6)).min(SHORT_PAUSE_MAX.0));
                put_off(shard, task, now.plus(pause)).await
            }
            Tried::Owed(error) => {
                if task.tries == 0 {
                    tracing::error!(%order, %error, "the money of a return does not go back by the provider: give it back elsewhere, and say so; it is tried again");
                }
                let pause = DurationMs((10_000 << task.tries.min(6)).min(SHORT_PAUSE_MAX.0));
                put_off(shard, task, now.plus(pause)).await
            }
            Tried::Done | Tried::Decided(_) | Tried::StockIsSet { .. } => {
                let write = shard.write(order.bucket(), move |tx| {
                    // Before what the answer leads to, which may be the same again.
                    store::end_task(tx, task.number)?;
                    let (actor, reason, command) = match tried {
                        Tried::Decided(SaleDecision::Confirmed) => {
                            let command = Command::SaleAnswered { payment: task.payment, is_confirmed: true };
                            ("sale", "paid, says the sale", command)
                        }
                        Tried::Decided(SaleDecision::Refund) => {
                            let command =
                                Command::SaleAnswered { payment: task.payment, is_confirmed: false };
                            ("sale", "the sale did not take the payment", command)
                        }
                        Tried::StockIsSet { is_all } => {
                            ("inventory", "its units are set aside", Command::StockIsSet { is_all })
                        }
                        _ => return Ok(()),
                    };
                    store::apply(tx, now, task.order, By { actor, reason }, command).map(drop)
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
        matches!(written, Ok(Some(())))
    }

    async fn attempt(&self, shard: &Shard, task: &Task) -> Result<Tried, SqlError> {
        let (order, stock) = (task.order, &self.needs.stock);
        let answer = match task.kind {
            TaskKind::Refund => {
                let refund = self.needs.payments.refund(task.payment, task.reason.clone());
                refund.await.map(|()| Tried::Done)
            }
            TaskKind::Confirm => match self.of_sale(shard, order).await? {
                // A payment whose money is back by now buys nothing of the sale.
                Some((hold, of))
                    if of.payment == PaymentSeen::BeingConfirmed && of.payment_id == Some(task.payment) =>
                {
                    self.needs.sales.confirm(hold, task.payment).await.map(Tried::Decided)
                }
                _ => Ok(Tried::Done),
            },
            TaskKind::Release => match self.of_sale(shard, order).await? {
                Some((hold, _)) => match self.needs.sales.release(hold).await {
                    // It is over already; the sale's events tell how.
                    Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => Ok(Tried::Done),
                    other => other.map(|()| Tried::Done),
                },
                None => Ok(Tried::Done),
            },
            TaskKind::Reserve => match self.find_primary(order).await? {
                Some(order) => self.reserve(&order).await.map(|_| Tried::Done),
                None => Ok(Tried::Done),
            },
            TaskKind::SetStock => match self.find_primary(order).await? {
                Some(order) => self.set_stock(&order).await,
                None => Ok(Tried::Done),
            },
            TaskKind::FreeStock => match self.find_primary(order).await? {
                // It is paid after all: its units are set aside again.
                Some(of) if !matches!(of.state, OrderState::Cancelled | OrderState::Expired) => {
                    Ok(Tried::Done)
                }
                _ => stock.release(order, task.reason.clone()).await.map(|()| Tried::Done),
            },
            TaskKind::ShipStock => match stock.ship(order).await {
                // It has none there: they were set aside by hand, or will be when the stock
                // answers.
                Err(StoreError::NotFound(why) | StoreError::Conflict(why)) => {
                    tracing::error!(%order, why, "an order was shipped without the stock's units: look into it");
                    Ok(Tried::Done)
                }
                other => other.map(|()| Tried::Done),
            },
            TaskKind::TakeBack | TaskKind::RefundReturn => match self.find_primary(order).await? {
                Some(order) => self.settle_return(&order, task).await,
                None => Ok(Tried::Done),
            },
        };
        Ok(answer.unwrap_or_else(Tried::Later))
    }

    /// Sets the units of a paid order aside until they are shipped: a winner's from what was
    /// claimed for the sale, a cart's are so already.
    async fn set_stock(&self, order: &OrderView) -> Result<Tried, StoreError> {
        let stock = &self.needs.stock;
        // Also one that was allocated by hand, shipped or sent back meanwhile: its units left the
        // shelf.
        use OrderState::{Allocated, Delivered, Paid, PartRefunded, Refunded, Returned, Shipped};
        let needs_units = [Paid, Allocated, Shipped, Delivered, PartRefunded, Returned, Refunded];
        if !needs_units.contains(&order.state) {
            return Ok(Tried::Done);
        }
        let (lines, are_all_known) = self.known_lines(order).await?;
        if lines.is_empty() {
            // The stock is kept elsewhere: people say when it is set aside.
            return Ok(Tried::Done);
        }
        if let OrderOrigin::Sale(hold) = &order.origin {
            let from = TakenFrom::Claim(hold.sale.clone());
            let until = carts::units_until(self.needs.clock.now());
            match stock.reserve(order.id, from, lines, until).await {
                Ok(Reserved::Whole) => {}
                Ok(Reserved::Short(_)) => return Ok(Tried::Short),
                // It has other lines: more of its units have become known since. Or it was given
                // back, which the next answer says too.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match stock.confirm(order.id).await {
            // People say when those are there that the stock does not know.
            Ok(Reserved::Whole) => Ok(Tried::StockIsSet { is_all: are_all_known }),
            Ok(Reserved::Short(_)) => Ok(Tried::Short),
            Err(error) => given_back(order, error),
        }
    }

    /// The units of a return go back to the stock, or its money to the shopper.
    async fn settle_return(&self, order: &OrderView, task: &Task) -> Result<Tried, StoreError> {
        let number = returned::number_of(task.payment);
        let Some(of) = order.returns.iter().find(|of| of.number == number) else { return Ok(Tried::Done) };
        let key = returned::refund_key(number);
        if task.kind == TaskKind::RefundReturn && of.state != ReturnState::Received {
            // The money went back elsewhere.
            return Ok(Tried::Done);
        }
        if task.kind == TaskKind::TakeBack {
            let what = of.units.unwrap_or(CameBack::Scrap);
            // Those that the stock does not know are people's to book, as when they were set aside.
            let (lines, are_all_known) = self.known(of.lines.clone()).await?;
            if !are_all_known {
                tracing::warn!(order = %order.id, number, "units came back that the stock does not know: book them by hand");
            }
            if lines.is_empty() {
                return Ok(Tried::Done);
            }
            // Before it is asked: what the stock hears meanwhile is heard at the next try.
            let waits = self.waits_for_stock(order.id).await?;
            let taken = self.needs.stock.take_back(order.id, key, lines, what).await;
            return match taken {
                Ok(()) => Ok(Tried::Done),
                Err(StoreError::Conflict(_) | StoreError::NotFound(_)) if waits => {
                    Err(StoreError::Unavailable("its units are not booked out yet".into()))
                }
                // It did not leave by the stock, such as one that was allocated by hand.
                Err(StoreError::NotFound(why) | StoreError::Conflict(why)) => {
                    tracing::warn!(order = %order.id, number, why, "units came back: book them by hand");
                    Ok(Tried::Done)
                }
                Err(error) => Err(error),
            };
        }
        let Some(payment) = self.paid_with(order).await? else {
            tracing::error!(order = %order.id, number, "an order was not paid here: the money of its return goes back by hand: say so then");
            return Ok(Tried::Done);
        };
        let refund = self.needs.payments.refund_part(payment, key, of.refund_minor, "returned".into());
        match refund.await {
            // More of it went back at the provider than we knew.
            Err(error @ StoreError::Conflict(_)) => Ok(Tried::Owed(error)),
            other => other.map(|()| Tried::Done),
        }
    }

    /// The lines of an order that the stock knows, and whether these are all.
    pub(crate) async fn known_lines(&self, order: &OrderView) -> Result<(Vec<StockLine>, bool), StoreError> {
        self.known(carts::stock_lines(order)).await
    }

    /// Of these lines those that the stock knows, and whether these are all.
    async fn known(&self, mut lines: Vec<StockLine>) -> Result<(Vec<StockLine>, bool), StoreError> {
        let levels = self.needs.stock.levels(lines.iter().map(|line| line.sku.clone()).collect()).await?;
        let known: BTreeSet<Sku> = levels.into_iter().map(|level| level.sku).collect();
        let count = lines.len();
        lines.retain(|line| known.contains(&line.sku));
        let are_all = lines.len() == count;
        Ok((lines, are_all))
    }

    async fn waits_for_stock(&self, order: OrderId) -> Result<bool, StoreError> {
        let body = move |tx: &mut Tx<'_>| store::waits_for_stock(tx, order);
        let read = self.needs.shards.read_primary(order.bucket(), body);
        read.await.map_err(|error| of_sql(&error))
    }

    pub(crate) async fn paid_with(&self, order: &OrderView) -> Result<Option<PaymentId>, StoreError> {
        let id = order.id;
        let found = self.needs.shards.read_primary(id.bucket(), move |tx| store::find(tx, id, false)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        Ok(found.and_then(|stored| stored.order.payment_id))
    }

    /// An order of a sale, and its hold there.
    async fn of_sale(&self, shard: &Shard, order: OrderId) -> Result<Option<(HoldRef, Order)>, SqlError> {
        let found = shard.sql.primary().read(move |tx| store::find(tx, order, false)).await?;
        Ok(found.and_then(|stored| Some((stored.hold?, stored.order))))
    }

    /// Tells others what became of orders, for ever.
    pub(crate) async fn tell_others(self: Arc<Self>, posts: Arc<dyn Posts>) {
        let (posts, mut warning) = (&*posts, Warning::default());
        let failed = |error: NotTold<StoreError>| {
            if let Some(count) = warning.due() {
                tracing::warn!(%error, count, "orders: events wait, they cannot be told now");
            }
        };
        let all: Vec<Sql> = self.needs.shards.all().iter().map(|shard| shard.sql.clone()).collect();
        outbox::tell(&all, &self.outbox, |events| posts.post(events), failed).await;
    }
}

async fn put_off(shard: &Shard, task: Task, until: TimeMs) -> Result<Option<()>, OrderError> {
    let bucket = task.order.bucket();
    shard.write(bucket, move |tx| store::put_task_off(tx, &task, until).map_err(OrderError::Sql)).await
}

/// The stock refuses an order whose units were given back. One that was given up and then paid
/// after all needs people.
fn given_back(order: &OrderView, error: StoreError) -> Result<Tried, StoreError> {
    match error {
        StoreError::Conflict(why) => {
            tracing::error!(order = %order.id, why, "a paid order gets no stock by itself: allocate it by hand");
            Ok(Tried::Done)
        }
        error => Err(error),
    }
}
