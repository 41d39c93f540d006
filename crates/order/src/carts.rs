//! Carts, and how one becomes an order: what is in it is priced by the catalogue of the moment,
//! the order is stored with its number, and then the stock is asked for its units. When that is
//! cut off, a task asks again; the cart keeps its lines until the units are set aside.

use crate::{
    cart_rows::{self, ChangeError},
    core::By,
    directory::{self, Wants},
    moves::{MoveError, Mover},
    service::{Needs, Service, of_order, of_sql},
    store::{self, NewOrder, OrderError, whole_name},
};
use contracts::store::{
    AccountId, Asked, Bucket, CartLine, CartOwner, CartView, Carts, CheckOut, ForSale, GuestCart,
    LINE_QUANTITY_MAX, LineState, Localized, OrderId, OrderLine, OrderState, OrderView, Quantity, Quote,
    Reserved, ShippingMethod, Sku, StockLine, StoreError, TakenFrom,
};
use engines::sql::{SqlError, Tx};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use units::{DurationMs, Money, TimeMs};
use web::warning::Warning;

#[cfg(test)]
mod tests;

/// How long a cart's order waits for its payment.
pub const PAY_WITHIN: DurationMs = DurationMs(30 * 60_000);
/// How much later it expires: a payment that was made in time may be told late.
const GRACE: DurationMs = DurationMs(60_000);
/// How much later still units that were never confirmed are free by themselves.
const UNITS_KEPT_FOR: DurationMs = DurationMs(86_400_000);
/// Orders of carts that one shopper may leave unpaid: more would keep units from others.
const UNPAID_MAX: usize = 5;
/// A key of a page that is older than this is not taken, nor one of the future.
const KEY_AGE_MAX: DurationMs = DurationMs(86_400_000);
const KEY_AHEAD_MAX: DurationMs = DurationMs(300_000);
/// How long a shopper waits for the stock's answer; later the order's page shows it.
const STOCK_WITHIN: Duration = Duration::from_secs(5);
/// Carts that were not changed for so long are forgotten.
const CART_KEPT_FOR: DurationMs = DurationMs(30 * 86_400_000);
/// Rows that one look changes, and how often it is looked.
const SWEPT_MAX: usize = 200;
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What an order that waits for its payment is told to the stock as.
pub(crate) fn units_until(pay_by: TimeMs) -> TimeMs {
    pay_by.plus(UNITS_KEPT_FOR)
}

pub(crate) fn stock_lines(order: &OrderView) -> Vec<StockLine> {
    let of = |line: &OrderLine| StockLine { sku: line.sku.clone(), quantity: line.quantity };
    order.lines.iter().map(of).collect()
}

fn conflict<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Conflict(why.to_owned()))
}

fn of_change(error: ChangeError) -> StoreError {
    match error {
        ChangeError::Sql(error) => of_sql(&error),
        ChangeError::TooMuch(why) => StoreError::Invalid(why),
    }
}

impl Service {
    async fn lines_of(&self, owner: &str) -> Result<Vec<(Sku, u32)>, StoreError> {
        let (bucket, owner) = (Bucket::of_shopper(owner), owner.to_owned());
        let read = self.needs.shards.read(bucket, move |tx| cart_rows::lines(tx, &owner)).await;
        read.map_err(|error| of_sql(&error))
    }

    /// The same for what is decided by them or written again, which replicas do not answer.
    async fn lines_of_primary(&self, owner: &str) -> Result<Vec<(Sku, u32)>, StoreError> {
        let (bucket, owner) = (Bucket::of_shopper(owner), owner.to_owned());
        let read = self.needs.shards.read_primary(bucket, move |tx| cart_rows::lines(tx, &owner)).await;
        read.map_err(|error| of_sql(&error))
    }

    /// The lines at today's prices, and how many units of each are free.
    async fn view_of(&self, lines: Vec<(Sku, u32)>) -> Result<CartView, StoreError> {
        let skus: Vec<Sku> = lines.iter().map(|(sku, _)| sku.clone()).collect();
        if skus.is_empty() {
            return Ok(CartView::default());
        }
        let found = self.needs.catalog.for_sale(skus.clone()).await?;
        let mut by_sku: BTreeMap<Sku, ForSale> =
            found.into_iter().map(|of| (of.variant.sku.clone(), of)).collect();
        let levels = self.needs.stock.levels(skus).await?;
        let free: BTreeMap<Sku, u64> =
            levels.into_iter().map(|level| (level.sku.clone(), level.free())).collect();
        let (mut view, mut currency) = (CartView::default(), None);
        for (sku, quantity) in lines {
            let Some(ForSale { product, name, picture, variant }) = by_sku.remove(&sku) else {
                let name = Localized { en: sku.to_string(), zh: sku.to_string() };
                view.lines.push(CartLine {
                    sku,
                    product: None,
                    name,
                    variant: Localized::default(),
                    picture: None,
                    quantity,
                    price: None,
                    state: LineState::Gone,
                });
                continue;
            };
            let free = free.get(&sku).copied().unwrap_or_default();
            let price = variant.price;
            let state = match variant.offered_in.is_empty() {
                false => LineState::Gone,
                true if *currency.get_or_insert(price.currency) != price.currency => LineState::OtherCurrency,
                true if free < u64::from(quantity) => LineState::Only(free),
                true => LineState::Good,
            };
            view.lines.push(CartLine {
                sku,
                product: Some(product),
                name,
                variant: variant.name,
                picture,
                quantity,
                price: Some(price),
                state,
            });
        }
        view.goods = sum(&view.lines);
        Ok(view)
    }

    async fn change_line(&self, owner: CartOwner, sku: Sku, quantity: Quantity) -> Result<(), StoreError> {
        let (Quantity::Add(count) | Quantity::Set(count)) = quantity;
        if count > LINE_QUANTITY_MAX || quantity == Quantity::Add(0) {
            return Err(StoreError::Invalid(format!("quantity: want 1 to {LINE_QUANTITY_MAX}")));
        }
        let name = cart_rows::owner_name(&owner);
        if quantity != Quantity::Set(0) {
            let found = self.needs.catalog.for_sale(vec![sku.clone()]).await?.into_iter().next();
            let Some(found) = found else {
                return Err(StoreError::Invalid(format!("sku: {sku} is not sold here")));
            };
            if !found.variant.offered_in.is_empty() {
                return Err(StoreError::Invalid(format!("sku: {sku} is sold in a sale only")));
            }
            let held = self.view_of(self.lines_of(&name).await?).await?;
            if held.goods.is_some_and(|goods| goods.currency != found.variant.price.currency) {
                return Err(StoreError::Invalid(format!(
                    "sku: {sku} has another currency than what is in the cart: order that first"
                )));
            }
        }
        let (bucket, at) = (Bucket::of_shopper(&name), self.needs.clock.now());
        // Nothing is asked of others after it: it would be done, and be told as if it were not.
        let changed =
            self.needs.shards.write(bucket, move |tx| cart_rows::change(tx, at, &name, &sku, quantity));
        changed.await.map_err(of_change)
    }

    /// Of what is in both, the larger number stays: so it may be done twice.
    async fn merge_into(&self, guest: GuestCart, account: AccountId) -> Result<(), StoreError> {
        let (guest, account, now) =
            (cart_rows::guest_name(&guest), account.to_string(), self.needs.clock.now());
        let lines = self.lines_of_primary(&guest).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let merged = self.needs.shards.write(Bucket::of_shopper(&account), move |tx| {
            let held: BTreeMap<Sku, u32> = cart_rows::lines(tx, &account)?.into_iter().collect();
            for (sku, quantity) in &lines {
                let most = held.get(sku).copied().unwrap_or(0).max(*quantity);
                match cart_rows::change(tx, now, &account, sku, Quantity::Set(most)) {
                    // The cart is full: what the account had before stays.
                    Ok(()) | Err(ChangeError::TooMuch(_)) => {}
                    Err(ChangeError::Sql(error)) => return Err(error),
                }
            }
            Ok(())
        });
        merged.await.map_err(|error: SqlError| of_sql(&error))?;
        let bucket = Bucket::of_shopper(&guest);
        let emptied = self.needs.shards.write(bucket, move |tx| cart_rows::empty(tx, &guest)).await;
        emptied.map_err(|error| of_sql(&error))
    }

    /// A page that is sent twice at once finds the cart of the first one changed: it gets the same
    /// order.
    async fn check_out_one(&self, wanted: CheckOut) -> Result<OrderView, StoreError> {
        let (key, shopper, guest) = (wanted.key, wanted.shopper.to_string(), wanted.cart.clone());
        let made = match self.try_check_out(wanted).await {
            Err(StoreError::Conflict(why)) => {
                match self.find_primary(key).await.map_err(|error| of_sql(&error))? {
                    Some(order) => self.checked_out_before(order, &shopper).await,
                    None => Err(StoreError::Conflict(why)),
                }
            }
            other => other,
        }?;
        if let Some(guest) = guest {
            self.empty_of(&cart_rows::guest_name(&guest), &made).await?;
        }
        Ok(made)
    }

    /// A guest's cart becomes that of the shopper who orders it, in the shopper's database. The
    /// guest keeps it until the order is made.
    async fn copy(&self, guest: &GuestCart, shopper: &str) -> Result<(), StoreError> {
        let (shopper, now) = (shopper.to_owned(), self.needs.clock.now());
        let lines = self.lines_of_primary(&cart_rows::guest_name(guest)).await?;
        let bucket = Bucket::of_shopper(&shopper);
        let copied = self.needs.shards.write(bucket, move |tx| {
            if cart_rows::locked_lines(tx, &shopper)? == lines {
                return Ok(());
            }
            cart_rows::empty(tx, &shopper)?;
            let set = |(sku, quantity): &(Sku, u32)| {
                cart_rows::change(tx, now, &shopper, sku, Quantity::Set(*quantity))
            };
            lines.iter().try_for_each(set)
        });
        copied.await.map_err(of_change)
    }

    /// Empties a cart that has what was ordered, and nothing else.
    async fn empty_of(&self, owner: &str, order: &OrderView) -> Result<(), StoreError> {
        let (bucket, owner) = (Bucket::of_shopper(owner), owner.to_owned());
        let ordered: BTreeMap<Sku, u32> =
            order.lines.iter().map(|line| (line.sku.clone(), line.quantity)).collect();
        let emptied = self.needs.shards.write(bucket, move |tx| {
            let held: BTreeMap<Sku, u32> = cart_rows::locked_lines(tx, &owner)?.into_iter().collect();
            if held == ordered { cart_rows::empty(tx, &owner) } else { Ok(()) }
        });
        emptied.await.map_err(|error: SqlError| of_sql(&error))
    }

    async fn try_check_out(&self, wanted: CheckOut) -> Result<OrderView, StoreError> {
        let (shopper, now) = (wanted.shopper.to_string(), self.needs.clock.now());
        let bucket = Bucket::of_shopper(&shopper);
        let made_at = wanted.key.at();
        let is_of_now = made_at.plus(KEY_AGE_MAX) >= now && made_at <= now.plus(KEY_AHEAD_MAX);
        if wanted.key.bucket() != bucket || !is_of_now {
            return Err(StoreError::Invalid("key: the page is too old: load it again".into()));
        }
        let address = wanted.address.checked();
        let address =
            address.map_err(|(field, want)| StoreError::Invalid(format!("address.{field}: {want}")))?;
        let found = self.find_primary(wanted.key).await.map_err(|error| of_sql(&error))?;
        if let Some(order) = found {
            return self.checked_out_before(order, &shopper).await;
        }
        if let Some(guest) = &wanted.cart {
            self.copy(guest, &shopper).await?;
        }
        let lines = self.lines_of_primary(&shopper).await?;
        let cart = self.view_of(lines.clone()).await?;
        if !cart.is_good() {
            return conflict("cart: look at it again, not all of it can be had");
        }
        let Some((quote, charges)) =
            cart.goods.and_then(|goods| self.needs.rules.quote(goods, &wanted.shipping))
        else {
            return Err(StoreError::Invalid("shipping: there is no such way".into()));
        };
        if quote.total.amount_minor != wanted.total_minor {
            return conflict("total: a price has changed, look at the new one");
        }
        let new = NewOrder {
            id: wanted.key,
            shopper: shopper.clone(),
            hold: None,
            currency: quote.total.currency,
            lines: cart.lines.iter().map(order_line).collect(),
            charges,
            address: Some(address),
            pay_by: Some(now.plus(PAY_WITHIN)),
        };
        let write = self.needs.shards.write(bucket, move |tx| {
            // What was shown is what is ordered. Who has the cart's rows keeps others who check out
            // the same cart waiting, and sees what they have written.
            let is_same = cart_rows::locked_lines(tx, &new.shopper)? == lines;
            if let Some(stored) = store::find(tx, new.id, true)? {
                return Ok(Written::Order(Box::new(store::view(tx, stored)?)));
            }
            if !is_same {
                return Ok(Written::CartChanged);
            }
            if store::is_being_made(tx, &new.shopper)? {
                return Ok(Written::BeingMade);
            }
            if store::count_unpaid(tx, &new.shopper, UNPAID_MAX)? >= UNPAID_MAX {
                return Ok(Written::TooManyUnpaid);
            }
            let by = By { actor: &new.shopper, reason: "checked out" };
            store::create(tx, now, by, &new)?;
            let stored = store::find(tx, new.id, false)?;
            let stored = stored.ok_or_else(|| SqlError::Defect("a new order is not there".into()))?;
            Ok(Written::Order(Box::new(store::view(tx, stored)?)))
        });
        let order = match write.await.map_err(|error: SqlError| of_sql(&error))? {
            Written::Order(order) => *order,
            Written::BeingMade => {
                return conflict("orders: one of this cart is being made, look at your orders");
            }
            Written::CartChanged => return conflict("cart: it has changed meanwhile, look at it again"),
            Written::TooManyUnpaid => {
                return conflict("orders: pay for those that wait first, or give them up");
            }
        };
        self.checked_out_before(order, &shopper).await
    }

    /// What became of an order that this key has made.
    async fn checked_out_before(&self, order: OrderView, shopper: &str) -> Result<OrderView, StoreError> {
        if order.shopper != shopper {
            return Err(StoreError::Invalid("key: load the page again".into()));
        }
        let order = match order.state {
            OrderState::Created => {
                let reserved = tokio::time::timeout(STOCK_WITHIN, self.reserve(&order)).await;
                match reserved {
                    Ok(Ok(order)) => order,
                    // A task asks again, and the order's page says what it says.
                    Ok(Err(_)) | Err(_) => order,
                }
            }
            _ => order,
        };
        self.wake();
        let was_short = order.state == OrderState::Cancelled
            && !order.history.iter().any(|step| step.to == OrderState::AwaitingPayment)
            && order.history.iter().any(|step| step.actor == "inventory");
        match was_short {
            true => conflict("stock: somebody was faster, there is too little left"),
            false => Ok(order),
        }
    }

    /// Asks the stock to set a new order's units aside, and writes down what it says.
    pub(crate) async fn reserve(&self, order: &OrderView) -> Result<OrderView, StoreError> {
        // An exchange has no time to pay, and may wait for stock for long.
        let until = units_until(order.pay_by.unwrap_or_else(|| self.needs.clock.now()));
        let (mut lines, is_exchange) = (stock_lines(order), order.total.amount_minor == 0);
        if is_exchange {
            (lines, _) = self.known_lines(order).await?;
            // The stock is kept elsewhere: people say when it is set aside.
            if lines.is_empty() {
                return self.stock_said(order.id, true).await;
            }
        }
        let asked = self.needs.stock.reserve(order.id, TakenFrom::Free, lines, until).await;
        let is_whole = match asked {
            Ok(Reserved::Whole) => true,
            // What is sent in exchange waits until there is stock.
            Ok(Reserved::Short(_)) if is_exchange => {
                return Err(StoreError::Unavailable("there is too little stock yet".into()));
            }
            Ok(Reserved::Short(_)) => false,
            // It was given up meanwhile.
            Err(StoreError::Conflict(_)) => false,
            Err(error) => return Err(error),
        };
        self.stock_said(order.id, is_whole).await
    }

    async fn stock_said(&self, order: OrderId, is_whole: bool) -> Result<OrderView, StoreError> {
        let now = self.needs.clock.now();
        let write = move |tx: &mut Tx<'_>| store::stock_answered(tx, now, order, is_whole);
        let written = self.needs.shards.write(order.bucket(), write).await;
        written.map_err(of_order)
    }

    /// Lets orders of carts expire that were not paid in time, and forgets old carts, for ever.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            if let Err(error) = self.look_after_moves().await
                && let Some(count) = warning.due()
            {
                tracing::warn!(%error, count, "orders: a move that was cut off cannot be finished now");
            }
            let mut is_more = false;
            for number in 0..self.needs.shards.all().len() {
                match self.sweep_shard(number).await {
                    Ok(more) => is_more |= more,
                    Err(error) => {
                        if let Some(count) = warning.due() {
                            tracing::warn!(%error, count, "orders: what has expired cannot be written now");
                        }
                    }
                }
            }
            if !is_more {
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        }
    }

    /// Notices a newer directory, and finishes moves whose mover has died.
    async fn look_after_moves(&self) -> Result<(), MoveError> {
        let Needs { shards, clock, chance, .. } = &self.needs;
        shards.refresh().await?;
        if !shards.has_moves().await? {
            return Ok(());
        }
        let mover = Mover::new(shards.clone(), Arc::clone(clock), &**chance)?;
        mover.finish_dead().await.map(drop)
    }

    /// Returns whether there may be more.
    pub(crate) async fn sweep_shard(&self, number: usize) -> Result<bool, OrderError> {
        let (shard, now) = (&self.needs.shards.all()[number], self.needs.clock.now());
        let before = TimeMs(now.0.saturating_sub(GRACE.0));
        let late = shard.sql.primary().read(move |tx| store::unpaid_since(tx, before, SWEPT_MAX)).await?;
        let count = late.len();
        if count > 0 {
            shard
                .sql
                .write(move |tx| {
                    let by = By { actor: "store", reason: "not paid in time" };
                    let expire = |id: &OrderId| {
                        // One that is being moved expires where it arrives.
                        if !directory::is_here(tx, id.bucket(), Wants::Change)? {
                            return Ok(());
                        }
                        store::apply(tx, now, *id, by, crate::core::Command::PaymentIsLate).map(drop)
                    };
                    late.iter().try_for_each(expire)
                })
                .await?;
            self.wake();
        }
        let old = TimeMs(now.0.saturating_sub(CART_KEPT_FOR.0));
        let forgotten = shard.sql.primary().read(move |tx| cart_rows::any_before(tx, old)).await?;
        let forgotten = match forgotten {
            true => shard.sql.write(move |tx| cart_rows::forget(tx, old, SWEPT_MAX)).await?,
            false => 0,
        };
        Ok(count >= SWEPT_MAX || forgotten == SWEPT_MAX)
    }
}

/// What became of the transaction that makes an order of a cart.
enum Written {
    Order(Box<OrderView>),
    CartChanged,
    /// Another order of the same cart waits for the stock.
    BeingMade,
    TooManyUnpaid,
}

/// Of all lines that are not gone; `None` if there are none, or if it is more than a number can
/// say.
fn sum(lines: &[CartLine]) -> Option<Money> {
    let sold = lines.iter().filter(|line| matches!(line.state, LineState::Good | LineState::Only(_)));
    let mut sold = sold.filter_map(|line| Some((line.price?, line.quantity))).peekable();
    let currency = sold.peek()?.0.currency;
    let amount_minor = sold.try_fold(0u64, |sum, (price, quantity)| {
        sum.checked_add(price.amount_minor.checked_mul(u64::from(quantity))?)
    })?;
    Some(Money { amount_minor, currency })
}

/// The line as it is ordered: later changes of the catalogue do not change it.
fn order_line(line: &CartLine) -> OrderLine {
    OrderLine {
        sku: line.sku.clone(),
        name: whole_name(&line.name.en, &line.variant.en),
        name_zh: whole_name(&line.name.zh, &line.variant.zh),
        quantity: line.quantity,
        // A line without a price is gone, and does not come here.
        price_minor: line.price.map_or(0, |price| price.amount_minor),
    }
}

impl Service {
    fn key_for(&self, shopper: AccountId) -> Result<OrderId, StoreError> {
        let random = self.random().map_err(|error| of_sql(&error))?;
        Ok(OrderId::in_bucket(self.needs.clock.now(), Bucket::of_shopper(&shopper.to_string()), random))
    }
}

impl Carts for Service {
    fn cart(&self, owner: CartOwner) -> Asked<'_, CartView> {
        Box::pin(async move {
            let lines = self.lines_of(&cart_rows::owner_name(&owner)).await?;
            self.view_of(lines).await
        })
    }

    fn units(&self, owner: CartOwner) -> Asked<'_, u32> {
        Box::pin(async move {
            let lines = self.lines_of(&cart_rows::owner_name(&owner)).await?;
            Ok(lines.iter().map(|(_, quantity)| quantity).sum())
        })
    }

    fn change(&self, owner: CartOwner, sku: Sku, quantity: Quantity) -> Asked<'_, ()> {
        Box::pin(self.change_line(owner, sku, quantity))
    }

    fn merge(&self, guest: GuestCart, into: AccountId) -> Asked<'_, ()> {
        Box::pin(self.merge_into(guest, into))
    }

    fn quotes(&self, goods: Money) -> Asked<'_, Vec<(ShippingMethod, Quote)>> {
        let rules = &self.needs.rules;
        let by = |method: &ShippingMethod| Some((method.clone(), rules.quote(goods, &method.id)?.0));
        Box::pin(std::future::ready(Ok(rules.shipping.iter().filter_map(by).collect())))
    }

    fn new_key(&self, shopper: AccountId) -> Asked<'_, OrderId> {
        Box::pin(std::future::ready(self.key_for(shopper)))
    }

    fn check_out(&self, check_out: CheckOut) -> Asked<'_, OrderView> {
        Box::pin(self.check_out_one(check_out))
    }
}
