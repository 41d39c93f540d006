//! Orders as a service: what shoppers may ask, and the loops that follow the sales and the
//! payments.

use crate::{
    charges::Rules,
    core::{
        By, Command,
        returns::{NotReturned, Step},
    },
    list::List,
    names::Names,
    return_rows::{self, ReturnError},
    returned,
    shards::Shards,
    store::{self, Asks, OrderError},
};
use contracts::store::{
    AccountId, Address, Asked, Backlog, Bucket, CameBack, Catalog, Ended, HoldRef, Inbox, OrderId, OrderView,
    Orders, Page, PaymentId, Payments, Posts, Pulled, Receipt, RequestReturn, ReturnState, ReturnView,
    SaleHolds, Stock, StoreError,
};
use engines::{
    chance::Chance,
    clock::Clock,
    sql::{SqlError, Tx},
};
use serde::Deserialize;
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
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
/// How long a page waits for how far the orders are behind the sales.
const LAG_WITHIN: Duration = Duration::from_millis(500);
/// Orders of one answer, at the most.
const PAGE_MAX: usize = 100;

/// What orders need of others.
pub struct Needs {
    pub shards: Shards,
    /// What lists over all orders are read from.
    pub list: List,
    pub clock: Arc<dyn Clock>,
    /// Draws the ids of orders.
    pub chance: Arc<dyn Chance>,
    pub catalog: Arc<dyn Catalog>,
    pub sales: Arc<dyn SaleHolds>,
    pub payments: Arc<dyn Payments>,
    pub stock: Arc<dyn Stock>,
    pub rules: Rules,
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
    pub(crate) stock_tasks: Notify,
    pub(crate) outbox: Notify,
    /// What follows the sales, once it does, and what follows the orders for the list.
    of_sales: Followed,
    pub(crate) of_orders: Followed,
}

/// A subscription, once the service is started.
#[derive(Default)]
pub(crate) struct Followed(OnceLock<Arc<dyn Inbox>>);

impl Followed {
    /// How much there is to take; `None` if the message service does not say so at once.
    pub(crate) async fn behind(&self) -> Option<Backlog> {
        let asked = tokio::time::timeout(LAG_WITHIN, self.0.get()?.backlog()).await;
        asked.ok()?.ok()?
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}

/// What the service follows.
#[expect(missing_debug_implementations, reason = "a subscription has none")]
pub struct Follows {
    /// What happens to the holds of all sales.
    pub sales: Arc<dyn Inbox>,
    pub payments: Arc<dyn Inbox>,
    /// The service's own events, for the list.
    pub orders: Arc<dyn Inbox>,
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

pub(crate) fn of_return(error: ReturnError) -> StoreError {
    match error {
        ReturnError::Order(error) => of_order(error),
        ReturnError::NotFound(_) => StoreError::NotFound(error.to_string()),
        ReturnError::NotReturned(NotReturned::Nothing | NotReturned::Units { .. })
        | ReturnError::ExchangeOnly
        | ReturnError::Amount { .. } => StoreError::Invalid(error.to_string()),
        ReturnError::NotReturned(_)
        | ReturnError::NotPaid
        | ReturnError::Other(_)
        | ReturnError::OnItsWay
        | ReturnError::Step(..) => StoreError::Conflict(error.to_string()),
    }
}

impl Service {
    pub fn new(needs: Needs) -> Arc<Self> {
        let (names, tasks, outbox) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self {
            needs,
            names,
            tasks,
            stock_tasks: Notify::new(),
            outbox,
            of_sales: Followed::default(),
            of_orders: Followed::default(),
        })
    }

    /// Follows the sales, the payments and its own events, does what is due, and tells others, for
    /// as long as the answer is kept.
    pub fn start(self: &Arc<Self>, follows: Follows, posts: Arc<dyn Posts>) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        let this = || Arc::clone(self);
        let Follows { sales, payments, orders } = follows;
        // It is started once.
        let _ = self.of_sales.0.set(Arc::clone(&sales));
        let _ = self.of_orders.0.set(Arc::clone(&orders));
        let listed = this();
        loops.spawn(follow(orders, "orders", move |pulled| {
            let service = Arc::clone(&listed);
            async move { service.take_listed(pulled).await }
        }));
        loops.spawn(this().build_list());
        let winners = this();
        loops.spawn(follow(sales, "sales", move |pulled| {
            let service = Arc::clone(&winners);
            async move { service.import(pulled).await }
        }));
        let paid = this();
        loops.spawn(follow(payments, "payments", move |pulled| {
            let service = Arc::clone(&paid);
            async move { service.take_payments(pulled).await }
        }));
        loops.spawn(this().do_tasks(Asks::SalesAndPayments));
        loops.spawn(this().do_tasks(Asks::Stock));
        loops.spawn(this().sweep());
        loops.spawn(this().tell_others(posts));
        loops
    }

    /// For a new order's id.
    pub(crate) fn random(&self) -> Result<[u8; 16], SqlError> {
        self.needs.chance.bytes16().map_err(|error| SqlError::Shortage(error.to_string()))
    }

    /// Something may have been written that others wait for.
    pub(crate) fn wake(&self) {
        self.tasks.notify_one();
        self.stock_tasks.notify_one();
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
        let done = self.needs.shards.write(order.bucket(), move |tx| {
            let by = By { actor: &actor, reason: &reason };
            let (stored, _) = store::apply(tx, now, order, by, command.clone())?;
            store::view(tx, stored).map_err(OrderError::Sql)
        });
        let done = done.await;
        self.wake();
        done
    }

    /// How far the orders are behind the sales; `None` if the message service does not say so at
    /// once.
    pub(crate) async fn behind_sales(&self) -> Option<Backlog> {
        self.of_sales.behind().await
    }

    /// An order of any shopper.
    pub async fn find(&self, order: OrderId) -> Result<Option<OrderView>, SqlError> {
        self.needs.shards.read(order.bucket(), move |tx| view_of(tx, order)).await
    }

    /// The same for what is decided by it, which replicas do not answer.
    pub(crate) async fn find_primary(&self, order: OrderId) -> Result<Option<OrderView>, SqlError> {
        self.needs.shards.read_primary(order.bucket(), move |tx| view_of(tx, order)).await
    }

    /// Payments of which the provider has told something become known to their orders.
    pub(crate) async fn take_payments(&self, pulled: Vec<Pulled>) -> Vec<(Receipt, Ended)> {
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
        let PaymentData { payment, order, version, amount_minor, refunded_minor, refund } = told.data;
        let gone = Command::PartRefunded { payment, version, refunded_minor };
        let commands = match &*told.kind {
            // A part may have gone back before it was known that the money had come.
            "floodgate.payment.succeeded" => vec![Command::Paid { payment, amount_minor }, gone],
            "floodgate.payment.refunded" => vec![Command::Refunded { payment, version }],
            "floodgate.payment.part_refunded" | "floodgate.payment.refund_failed" => vec![gone],
            _ => return Ended::Done,
        };
        // What is told of a return's money is that it went back, not that it did not.
        let is_back = told.kind != "floodgate.payment.refund_failed";
        let now = self.needs.clock.now();
        let done = self.needs.shards.write(order.bucket(), move |tx| {
            let reason = format!("payment {payment}");
            for command in &commands {
                let command = match command.clone() {
                    Command::Paid { payment, .. } if store::is_erased(tx, order)? => {
                        Command::PaidErased { payment }
                    }
                    command => command,
                };
                let by = By { actor: "payment", reason: &reason };
                store::apply(tx, now, order, by, command)?;
            }
            match refund.as_ref().filter(|_| is_back) {
                Some(key) => return_rows::is_back(tx, now, order, key),
                None => Ok(()),
            }
        });
        let done = done.await;
        self.wake();
        match done {
            Ok(()) => Ended::Done,
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
        let bucket = Bucket::of_shopper(&name);
        // One more tells whether there is a further page.
        let body = move |tx: &mut Tx<'_>| store::of_shopper(tx, &name, before, at_most + 1);
        let read = self.needs.shards.read(bucket, body);
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
        let read = self.needs.shards.read(Bucket::of_shopper(&shopper), move |tx| {
            let Some(id) = store::of_hold(tx, &hold)? else { return Ok(None) };
            let found = store::find(tx, id, false)?.filter(|stored| stored.shopper == shopper);
            found.map(|stored| store::view(tx, stored)).transpose()
        });
        read.await.map_err(|error: SqlError| of_sql(&error))
    }

    /// A step of a return by any actor.
    pub async fn step_return(
        &self,
        (order, number): (OrderId, u32),
        actor: String,
        reason: String,
        step: Step,
        units: Option<CameBack>,
    ) -> Result<OrderView, ReturnError> {
        if step == Step::Refunded {
            self.forgo_refund(order, number).await?;
        }
        let (now, random) = (self.needs.clock.now(), self.random()?);
        let done = self.needs.shards.write(order.bucket(), move |tx| {
            let by = By { actor: &actor, reason: &reason };
            return_rows::step(tx, (now, random), order, number, by, (step, units))
        });
        let done = done.await;
        self.wake();
        done
    }

    /// The money of a return went back elsewhere: the provider of the order's payment is not asked
    /// for it any more. Refused while it has enough left: then it gives it back.
    async fn forgo_refund(&self, order: OrderId, number: u32) -> Result<(), ReturnError> {
        let of_store = |_| ReturnError::Order(SqlError::Shortage("payments do not answer".into()).into());
        let Some(found) = self.find_primary(order).await? else { return Ok(()) };
        let is_owed = |of: &&ReturnView| of.number == number && of.state == ReturnState::Received;
        let Some(of) = found.returns.iter().find(is_owed).filter(|of| of.refund_minor > 0) else {
            return Ok(());
        };
        let Some(payment) = self.paid_with(&found).await.map_err(of_store)? else { return Ok(()) };
        let key = returned::refund_key(number);
        match self.needs.payments.forgo_part(payment, key, of.refund_minor).await {
            Ok(()) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(StoreError::Conflict(_)) => Err(ReturnError::OnItsWay),
            Err(error) => Err(of_store(error)),
        }
    }

    /// Gives money back for nothing that was returned, as the return of this number, which is one
    /// more than the order has.
    pub async fn refund_by_hand(
        &self,
        order: OrderId,
        actor: String,
        reason: String,
        (amount_minor, number): (u64, u32),
    ) -> Result<OrderView, ReturnError> {
        let now = self.needs.clock.now();
        let done = self.needs.shards.write(order.bucket(), move |tx| {
            let by = By { actor: &actor, reason: &reason };
            return_rows::refund_by_hand(tx, now, order, by, (amount_minor, number))
        });
        let done = done.await;
        self.wake();
        done
    }

    /// The order, if it is this shopper's.
    async fn want_own(&self, shopper: AccountId, order: OrderId) -> Result<OrderView, StoreError> {
        let found = self.one_of_shopper(shopper, order).await?;
        found.ok_or_else(|| StoreError::NotFound(OrderError::NotFound(order).to_string()))
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
    /// Events of earlier builds do not say these three.
    #[serde(default)]
    version: u64,
    #[serde(default)]
    refunded_minor: u64,
    #[serde(default)]
    refund: Option<String>,
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

    fn send_to(&self, shopper: AccountId, order: OrderId, address: Address) -> Asked<'_, OrderView> {
        Box::pin(async move {
            let address = address.checked();
            let address =
                address.map_err(|(field, want)| StoreError::Invalid(format!("address.{field}: {want}")))?;
            self.want_own(shopper, order).await?;
            let write = move |tx: &mut Tx<'_>| store::set_address(tx, order, &address);
            let is_set = self.needs.shards.write(order.bucket(), write).await;
            match is_set.map_err(|error| of_sql(&error))? {
                true => self.want_own(shopper, order).await,
                false => Err(StoreError::Conflict("address: the order is packed already".into())),
            }
        })
    }

    fn request_return(
        &self,
        shopper: AccountId,
        order: OrderId,
        wanted: RequestReturn,
    ) -> Asked<'_, OrderView> {
        Box::pin(async move {
            self.want_own(shopper, order).await?;
            let (now, actor) = (self.needs.clock.now(), shopper.to_string());
            let write = self.needs.shards.write(order.bucket(), move |tx| {
                let by = By { actor: &actor, reason: &wanted.reason };
                return_rows::request(tx, now, order, by, &wanted)
            });
            let requested = write.await.map_err(of_return);
            self.wake();
            requested
        })
    }

    fn withdraw_return(&self, shopper: AccountId, order: OrderId, number: u32) -> Asked<'_, OrderView> {
        Box::pin(async move {
            self.want_own(shopper, order).await?;
            let (actor, reason) = (shopper.to_string(), "the shopper keeps it".to_owned());
            self.step_return((order, number), actor, reason, Step::Withdraw, None).await.map_err(of_return)
        })
    }

    fn cancel(&self, shopper: AccountId, order: OrderId) -> Asked<'_, OrderView> {
        Box::pin(async move {
            self.want_own(shopper, order).await?;
            let (actor, reason) = (shopper.to_string(), "the shopper gave it up".to_owned());
            self.command(order, actor, reason, Command::Cancel).await.map_err(of_order)
        })
    }
}

fn view_of(tx: &mut Tx<'_>, order: OrderId) -> Result<Option<OrderView>, SqlError> {
    let found = store::find(tx, order, false)?;
    found.map(|stored| store::view(tx, stored)).transpose()
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
