//! Carts and checking out, over SQLite, with a catalogue and a stock of this test's own.

use super::*;
use crate::{
    charges::Rules,
    core::{Command, returns::Step},
    list::List,
    return_rows::ReturnError,
    service::{Needs, of_return},
    shards::{Shards, numbered},
    store::Asks,
};
use contracts::{
    SaleId,
    store::{
        Address, CameBack, Catalog, Category, Delivery, Ended, HoldRef, Lacking, Listings, Localized,
        OfferedIn, Orders, PaymentId, PaymentSeen, PaymentState, PaymentView, Payments, Product,
        ProductQuery, ProductSlug, Pulled, Receipt, RequestReturn, ReturnState, SaleDecision, SaleHolds,
        StartPayment, StartedPayment, Stock, StockLevel, Variant, Wish,
    },
};
use engines::clock::Clock;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

mod erased;
mod listed;

const NOW: u64 = 1_795_521_600_000;

/// A catalogue of one price for all, and a stock that counts.
#[derive(Default)]
struct World {
    now_ms: AtomicU64,
    price: AtomicU64,
    is_away: AtomicBool,
    gone: AtomicU64,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    free: BTreeMap<Sku, u64>,
    reserved: BTreeMap<OrderId, Vec<StockLine>>,
    over: Vec<OrderId>,
    shipped: Vec<OrderId>,
    /// What payments were asked to give back.
    refunds: Vec<(String, u64)>,
}

fn no_answer<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("away".into()))
}

impl Clock for World {
    fn now(&self) -> TimeMs {
        TimeMs(NOW + self.now_ms.load(Relaxed))
    }
}

impl Catalog for World {
    fn categories(&self) -> Asked<'_, Vec<Category>> {
        Box::pin(async { no_answer() })
    }
    fn products(&self, _: ProductQuery) -> Asked<'_, Listings> {
        Box::pin(async { no_answer() })
    }
    fn product(&self, _: ProductSlug) -> Asked<'_, Option<Product>> {
        Box::pin(async { no_answer() })
    }
    fn of_sale(&self, _: SaleId) -> Asked<'_, Vec<Product>> {
        Box::pin(async { no_answer() })
    }

    /// SKUs that begin with `NO` are unknown, with `SALE` in a sale, with `USD` of another
    /// currency.
    fn for_sale(&self, skus: Vec<Sku>) -> Asked<'_, Vec<ForSale>> {
        let amount_minor = self.price.load(Relaxed);
        let of = move |sku: Sku| {
            let name = sku.as_str().to_owned();
            let offered_in = match name.starts_with("SALE") {
                true => vec![OfferedIn { sale: "launch".parse().unwrap(), item: "phone".parse().unwrap() }],
                false => vec![],
            };
            let currency = if name.starts_with("USD") { "USD" } else { "CNY" };
            let price = Money { amount_minor, currency: currency.parse().unwrap() };
            let text = Localized { en: name.clone(), zh: name.clone() };
            let variant = Variant { sku, name: Localized::default(), price, offered_in };
            ForSale { product: name.to_lowercase().parse().unwrap(), name: text, picture: None, variant }
        };
        let known = skus.into_iter().filter(|sku| !sku.as_str().starts_with("NO"));
        let found = known.map(of).collect();
        Box::pin(async move { Ok(found) })
    }
}

impl Stock for World {
    fn levels(&self, skus: Vec<Sku>) -> Asked<'_, Vec<StockLevel>> {
        let shelf = self.shelf.lock().unwrap();
        let level = |sku: Sku| StockLevel { on_hand: shelf.free[&sku], sku, reserved: 0, claimed: 0 };
        let levels = skus.into_iter().filter(|sku| shelf.free.contains_key(sku)).map(level).collect();
        Box::pin(async move { Ok(levels) })
    }

    fn reserve(&self, order: OrderId, _: TakenFrom, lines: Vec<StockLine>, _: TimeMs) -> Asked<'_, Reserved> {
        let mut shelf = self.shelf.lock().unwrap();
        let said = if self.is_away.load(Relaxed) {
            no_answer()
        } else if shelf.over.contains(&order) {
            Err(StoreError::Conflict("it was given back".into()))
        } else if shelf.reserved.contains_key(&order) {
            Ok(Reserved::Whole)
        } else {
            let free = |line: &StockLine| shelf.free.get(&line.sku).copied().unwrap_or_default();
            let lacks = lines.iter().filter(|line| free(line) < u64::from(line.quantity));
            let lacking: Vec<Lacking> = lacks
                .map(|line| Lacking { sku: line.sku.clone(), wanted: line.quantity, free: free(line) })
                .collect();
            if lacking.is_empty() {
                for line in &lines {
                    *shelf.free.get_mut(&line.sku).unwrap() -= u64::from(line.quantity);
                }
                shelf.reserved.insert(order, lines);
                Ok(Reserved::Whole)
            } else {
                Ok(Reserved::Short(lacking))
            }
        };
        Box::pin(async move { said })
    }

    fn confirm(&self, order: OrderId) -> Asked<'_, Reserved> {
        let is_held = self.shelf.lock().unwrap().reserved.contains_key(&order);
        Box::pin(async move {
            match is_held {
                true => Ok(Reserved::Whole),
                false => Err(StoreError::Conflict("none".into())),
            }
        })
    }

    fn release(&self, order: OrderId, _: String) -> Asked<'_, ()> {
        let mut shelf = self.shelf.lock().unwrap();
        for line in shelf.reserved.remove(&order).unwrap_or_default() {
            *shelf.free.get_mut(&line.sku).unwrap() += u64::from(line.quantity);
        }
        shelf.over.push(order);
        Box::pin(async { Ok(()) })
    }

    fn ship(&self, order: OrderId) -> Asked<'_, ()> {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.reserved.remove(&order);
        shelf.shipped.push(order);
        Box::pin(async { Ok(()) })
    }

    fn take_back(&self, _: OrderId, _: String, lines: Vec<StockLine>, what: CameBack) -> Asked<'_, ()> {
        let mut shelf = self.shelf.lock().unwrap();
        for line in lines.iter().filter(|_| what == CameBack::Restock) {
            *shelf.free.get_mut(&line.sku).unwrap() += u64::from(line.quantity);
        }
        Box::pin(async { Ok(()) })
    }
}

impl SaleHolds for World {
    fn confirm(&self, _: HoldRef, _: PaymentId) -> Asked<'_, SaleDecision> {
        Box::pin(async { no_answer() })
    }
    fn release(&self, _: HoldRef) -> Asked<'_, ()> {
        Box::pin(async { no_answer() })
    }
}

impl Payments for World {
    fn start(&self, _: StartPayment) -> Asked<'_, StartedPayment> {
        Box::pin(async { no_answer() })
    }
    /// Of each order one, of 30.00, of which so much went back by hand.
    fn of_order(&self, order: OrderId) -> Asked<'_, Vec<PaymentView>> {
        let amount = Money { amount_minor: 3_000, currency: "CNY".parse().unwrap() };
        let view = PaymentView {
            id: PaymentId::new(TimeMs(NOW), [1; 16]),
            order,
            state: PaymentState::Succeeded,
            amount,
            refunded_minor: self.gone.load(Relaxed),
            provider_reference: "r".into(),
            created_at: TimeMs(NOW),
        };
        Box::pin(async move { Ok(vec![view]) })
    }
    fn refund(&self, _: PaymentId, why: String) -> Asked<'_, ()> {
        self.shelf.lock().unwrap().refunds.push((why, 0));
        Box::pin(async { no_answer() })
    }
    fn refund_part(&self, _: PaymentId, key: String, minor: u64, _: String) -> Asked<'_, ()> {
        self.shelf.lock().unwrap().refunds.push((key, minor));
        Box::pin(async { Ok(()) })
    }
    fn forgo_part(&self, _: PaymentId, _: String, minor: u64) -> Asked<'_, ()> {
        let is_left = 3_000 - self.gone.load(Relaxed) >= minor;
        let said = if is_left { Err(StoreError::Conflict("so much is left".into())) } else { Ok(()) };
        Box::pin(async move { said })
    }
}

struct Shop {
    world: Arc<World>,
    orders: Arc<Service>,
    shopper: AccountId,
    _dir: tempfile::TempDir,
}

/// With these units on the shelf, at 10.00 each.
async fn shop(stock: &[(&str, u64)]) -> Shop {
    let dir = tempfile::tempdir().unwrap();
    let shard = |number: u8| engines::sqlite::open(&dir.path().join(format!("{number}.db"))).unwrap();
    let all = numbered((0..2).map(shard).collect());
    let shards = Shards::open(all, TimeMs(NOW), &engines::chance::SystemChance).await.unwrap();
    let list = engines::sqlite::open(&dir.path().join("list.db")).unwrap();
    let list = List::open(list, &shards).await.unwrap();
    let world = Arc::new(World::default());
    world.price.store(1_000, Relaxed);
    world.shelf.lock().unwrap().free =
        stock.iter().map(|(sku, free)| (sku.parse().unwrap(), *free)).collect();
    let orders = Service::new(Needs {
        shards,
        list,
        clock: Arc::clone(&world) as _,
        chance: Arc::new(engines::chance::SystemChance),
        catalog: Arc::clone(&world) as _,
        sales: Arc::clone(&world) as _,
        payments: Arc::clone(&world) as _,
        stock: Arc::clone(&world) as _,
        rules: Rules::free(),
    });
    Shop { world, orders, shopper: AccountId::new(TimeMs(NOW), [7; 16]), _dir: dir }
}

fn address() -> Address {
    Address {
        name: "Ann".into(),
        phone: "13800138000".into(),
        street: "Chang'an Street 1".into(),
        city: "Beijing".into(),
        country: "CN".into(),
        ..Address::default()
    }
}

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

impl Shop {
    fn owner(&self) -> CartOwner {
        CartOwner::Account(self.shopper)
    }

    async fn put(&self, of: &str, quantity: Quantity) -> Result<CartView, StoreError> {
        self.orders.change(self.owner(), sku(of), quantity).await?;
        self.orders.cart(self.owner()).await
    }

    /// The lines of the cart, as `2 A`.
    async fn cart(&self) -> Vec<String> {
        let cart = self.orders.cart(self.owner()).await.unwrap();
        cart.lines.iter().map(|line| format!("{} {}", line.quantity, line.sku)).collect()
    }

    fn wanted(&self, total_minor: u64) -> CheckOut {
        CheckOut {
            cart: None,
            shopper: self.shopper,
            key: self.orders.key_for(self.shopper).unwrap(),
            address: address(),
            shipping: "standard".into(),
            total_minor,
        }
    }

    async fn due(&self) {
        for shard in self.orders.needs.shards.all() {
            for of in [Asks::SalesAndPayments, Asks::Stock] {
                Arc::clone(&self.orders).do_due(shard, of).await.unwrap();
            }
        }
    }

    async fn sweep(&self) {
        for number in 0..self.orders.needs.shards.all().len() {
            self.orders.sweep_shard(number).await.unwrap();
        }
    }

    fn wait(&self, ms: u64) {
        self.world.now_ms.fetch_add(ms, Relaxed);
    }

    fn free(&self, of: &str) -> u64 {
        self.world.shelf.lock().unwrap().free[&sku(of)]
    }

    async fn state(&self, order: OrderId) -> OrderState {
        self.orders.find(order).await.unwrap().unwrap().state
    }
}

#[tokio::test]
async fn a_cart_becomes_one_order_however_often_it_is_sent() {
    let shop = shop(&[("A", 10), ("B", 1)]).await;
    shop.put("A", Quantity::Add(2)).await.unwrap();
    shop.put("B", Quantity::Add(1)).await.unwrap();
    assert_eq!(shop.cart().await, ["2 A", "1 B"]);
    let wanted = shop.wanted(3_000);
    let order = shop.orders.check_out(wanted.clone()).await.unwrap();
    assert_eq!((order.state, order.total.amount_minor), (OrderState::AwaitingPayment, 3_000));
    assert_eq!((order.address, order.id), (Some(address()), wanted.key));
    assert_eq!((shop.free("A"), shop.free("B")), (8, 0));
    assert!(shop.cart().await.is_empty());
    // The page was sent twice, or reloaded; meanwhile something else was put into the cart.
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let again = shop.orders.check_out(wanted).await.unwrap();
    assert_eq!((again.id, again.version), (order.id, order.version));
    assert_eq!((shop.cart().await, shop.free("A")), (vec!["1 A".to_owned()], 8));
}

#[tokio::test]
async fn what_cannot_be_had_orders_nothing_and_leaves_the_cart_as_it_was() {
    let shop = shop(&[("A", 10), ("B", 1)]).await;
    shop.put("A", Quantity::Add(2)).await.unwrap();
    let refused = async |wanted: CheckOut| {
        let why = shop.orders.check_out(wanted).await.unwrap_err();
        assert!(matches!(why, StoreError::Conflict(_)), "{why:?}");
        why.to_string().split(':').next().unwrap().to_owned()
    };
    // A price has changed since the page was shown.
    assert_eq!(refused(shop.wanted(1_999)).await, "total");
    shop.put("B", Quantity::Add(2)).await.unwrap();
    assert_eq!(refused(shop.wanted(4_000)).await, "cart");
    // Somebody is faster, after the cart was looked at.
    shop.put("B", Quantity::Set(1)).await.unwrap();
    let before = shop.wanted(3_000);
    *shop.world.shelf.lock().unwrap().free.get_mut(&sku("B")).unwrap() = 0;
    let cart = shop.orders.cart(shop.owner()).await.unwrap();
    assert_eq!(cart.lines[1].state, LineState::Only(0));
    *shop.world.shelf.lock().unwrap().free.get_mut(&sku("B")).unwrap() = 1;
    let lines = shop.orders.lines_of(&shop.shopper.to_string()).await.unwrap();
    assert_eq!(lines.len(), 2);
    let order = shop.orders.check_out(before.clone()).await.unwrap();
    assert_eq!(order.state, OrderState::AwaitingPayment);
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let late = shop.wanted(1_000);
    // The stock says no where the look before it said yes.
    shop.world.shelf.lock().unwrap().over.push(late.key);
    assert_eq!(refused(late.clone()).await, "stock");
    assert_eq!(refused(late).await, "stock", "and says so again");
    assert_eq!(shop.cart().await, ["1 A"]);
}

#[tokio::test]
async fn while_the_stock_does_not_answer_the_order_waits_for_it() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(2)).await.unwrap();
    shop.world.is_away.store(true, Relaxed);
    let order = shop.orders.check_out(shop.wanted(2_000)).await.unwrap();
    assert_eq!(order.state, OrderState::Created);
    assert_eq!(shop.cart().await, ["2 A"], "it stays in the cart until it is set aside");
    shop.wait(10_000);
    shop.due().await;
    assert_eq!(shop.state(order.id).await, OrderState::Created);
    shop.world.is_away.store(false, Relaxed);
    shop.wait(120_000);
    shop.due().await;
    assert_eq!(shop.state(order.id).await, OrderState::AwaitingPayment);
    assert!(shop.cart().await.is_empty());
    assert_eq!(shop.free("A"), 8);
}

#[tokio::test]
async fn what_is_not_paid_in_time_expires_and_its_units_are_free_again() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(4)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(4_000)).await.unwrap();
    shop.wait(PAY_WITHIN.0 + GRACE.0 - 1);
    shop.sweep().await;
    assert_eq!(shop.state(order.id).await, OrderState::AwaitingPayment);
    shop.wait(1);
    shop.sweep().await;
    assert_eq!(shop.state(order.id).await, OrderState::Expired);
    shop.due().await;
    assert_eq!(shop.free("A"), 10);
}

#[tokio::test]
async fn a_paid_order_keeps_its_units_until_they_are_shipped() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(4)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(4_000)).await.unwrap().id;
    let give = async |command| {
        shop.orders.command(order, "test".into(), "because".into(), command).await.unwrap();
        shop.due().await;
    };
    let payment = PaymentId::new(TimeMs(NOW), [1; 16]);
    give(Command::Paid { payment, amount_minor: 4_000 }).await;
    assert_eq!(shop.state(order).await, OrderState::Allocated);
    shop.wait(10 * PAY_WITHIN.0);
    shop.sweep().await;
    give(Command::Ship(Delivery { carrier: "SF".into(), tracking: "SF1".into() })).await;
    let shelf = shop.world.shelf.lock().unwrap();
    assert_eq!((shelf.shipped.as_slice(), shelf.free[&sku("A")]), (&[order][..], 6));
}

#[tokio::test]
async fn a_guests_cart_comes_along_once() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let guest = GuestCart::new([9; 16]);
    let owner = CartOwner::Guest(guest.clone());
    shop.orders.change(owner.clone(), sku("A"), Quantity::Add(3)).await.unwrap();
    shop.put("A", Quantity::Add(2)).await.unwrap();
    shop.put("B", Quantity::Add(1)).await.unwrap();
    shop.orders.merge(guest.clone(), shop.shopper).await.unwrap();
    assert_eq!(shop.cart().await, ["3 A", "1 B"]);
    assert_eq!(shop.orders.units(owner.clone()).await, Ok(0));
    // A cut between the two: the guest's lines were still there.
    shop.orders.change(owner, sku("A"), Quantity::Add(3)).await.unwrap();
    shop.orders.merge(guest, shop.shopper).await.unwrap();
    assert_eq!(shop.cart().await, ["3 A", "1 B"]);
}

#[tokio::test]
async fn what_cannot_be_in_a_cart_is_refused_by_its_name() {
    let shop = shop(&[("A", 1000)]).await;
    let check = async |of: &str, quantity: Quantity, want: &str| {
        let refused = shop.put(of, quantity).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().starts_with(want), "{refused}");
    };
    check("NONE", Quantity::Add(1), "sku: NONE is not sold here").await;
    check("SALE-1", Quantity::Add(1), "sku: SALE-1 is sold in a sale only").await;
    check("A", Quantity::Add(0), "quantity:").await;
    check("A", Quantity::Add(100), "quantity:").await;
    check("A", Quantity::Set(u32::MAX), "quantity:").await;
    shop.put("A", Quantity::Add(60)).await.unwrap();
    check("A", Quantity::Add(60), "quantity:").await;
    check("USD-1", Quantity::Add(1), "sku: USD-1 has another currency").await;
    for number in 1..contracts::store::CART_LINES_MAX {
        shop.put(&format!("X{number}"), Quantity::Add(1)).await.unwrap();
    }
    check("Y", Quantity::Add(1), "the cart has 100 different products").await;
    assert_eq!(shop.cart().await[0], "60 A");
    shop.put("A", Quantity::Set(0)).await.unwrap();
    shop.put("Y", Quantity::Add(1)).await.unwrap();
    // What the catalogue does not have any more can be taken out.
    shop.put("NONE", Quantity::Set(0)).await.unwrap();
}

#[tokio::test]
async fn a_checkout_that_is_made_up_is_refused() {
    let shop = shop(&[("A", 100)]).await;
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let refused = async |change: &dyn Fn(&mut CheckOut)| {
        let mut wanted = shop.wanted(1_000);
        change(&mut wanted);
        shop.orders.check_out(wanted).await.unwrap_err()
    };
    let starts = |error: &StoreError, want: &str| {
        assert!(matches!(error, StoreError::Invalid(_)) && error.to_string().starts_with(want), "{error:?}");
    };
    let other = (1..=u8::MAX).map(|n| AccountId::new(TimeMs(NOW), [n; 16])).find(|account| {
        Bucket::of_shopper(&account.to_string()) != Bucket::of_shopper(&shop.shopper.to_string())
    });
    let foreign = shop.orders.key_for(other.unwrap()).unwrap();
    starts(&refused(&|wanted| wanted.key = foreign).await, "key");
    let old = OrderId::in_bucket(TimeMs(NOW - KEY_AGE_MAX.0 - 1), shop.wanted(0).key.bucket(), [1; 16]);
    starts(&refused(&|wanted| wanted.key = old).await, "key");
    let ahead = OrderId::in_bucket(TimeMs(NOW + KEY_AHEAD_MAX.0 + 1), old.bucket(), [1; 16]);
    starts(&refused(&|wanted| wanted.key = ahead).await, "key");
    starts(&refused(&|wanted| wanted.shipping = "pigeon".into()).await, "shipping");
    starts(&refused(&|wanted| wanted.address.street = String::new()).await, "address.street");
    assert_eq!((shop.cart().await, shop.free("A")), (vec!["1 A".to_owned()], 100));
}

#[tokio::test]
async fn a_shopper_leaves_only_so_many_orders_unpaid() {
    let shop = shop(&[("A", 100)]).await;
    let mut orders = Vec::new();
    for _ in 0..UNPAID_MAX {
        shop.put("A", Quantity::Add(1)).await.unwrap();
        orders.push(shop.orders.check_out(shop.wanted(1_000)).await.unwrap().id);
    }
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let refused = shop.orders.check_out(shop.wanted(1_000)).await.unwrap_err().to_string();
    assert!(refused.starts_with("orders:"), "{refused}");
    let given_up = shop.orders.command(orders[0], "shopper".into(), "changed".into(), Command::Cancel).await;
    assert_eq!(given_up.unwrap().state, OrderState::Cancelled);
    shop.orders.check_out(shop.wanted(1_000)).await.unwrap();
}

#[tokio::test]
async fn carts_that_were_not_changed_for_a_month_are_forgotten() {
    let shop = shop(&[("A", 100)]).await;
    shop.put("A", Quantity::Add(1)).await.unwrap();
    shop.wait(CART_KEPT_FOR.0);
    shop.sweep().await;
    assert_eq!(shop.cart().await, ["1 A"]);
    shop.wait(1);
    shop.sweep().await;
    assert!(shop.cart().await.is_empty());
}

/// A delivered order of two A and one B, at 10.00 each.
async fn delivered(shop: &Shop) -> OrderView {
    shop.put("A", Quantity::Add(2)).await.unwrap();
    shop.put("B", Quantity::Add(1)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(3_000)).await.unwrap().id;
    let payment = PaymentId::new(TimeMs(NOW), [1; 16]);
    let parcel = Delivery { carrier: "SF".into(), tracking: "SF1".into() };
    for command in [Command::Paid { payment, amount_minor: 3_000 }, Command::Ship(parcel), Command::Deliver] {
        shop.orders.command(order, "test".into(), "because".into(), command).await.unwrap();
        shop.due().await;
    }
    shop.orders.find(order).await.unwrap().unwrap()
}

impl Shop {
    async fn ask_back(
        &self,
        order: &OrderView,
        lines: &[(&str, u32)],
        wish: Wish,
    ) -> Result<OrderView, StoreError> {
        let line = |(of, quantity): &(&str, u32)| StockLine { sku: sku(of), quantity: *quantity };
        let lines = lines.iter().map(line).collect();
        let wanted =
            RequestReturn { lines, wish, reason: "too large".into(), number: order.returns.len() as u32 + 1 };
        self.orders.request_return(self.shopper, order.id, wanted).await
    }

    async fn step(&self, order: OrderId, number: u32, step: Step) -> Result<OrderView, ReturnError> {
        let units = (step == Step::Receive).then_some(CameBack::Restock);
        let (actor, reason) = ("owner".to_owned(), "because".to_owned());
        let done = self.orders.step_return((order, number), actor, reason, step, units).await;
        self.due().await;
        done
    }

    /// Payments tell that a refund was made, or that the money has come.
    async fn is_back(&self, order: OrderId, key: &str, refunded_minor: u64, kind: &str) -> OrderView {
        self.is_told(order, key, refunded_minor, kind, 0).await
    }

    async fn is_told(
        &self,
        order: OrderId,
        key: &str,
        refunded_minor: u64,
        kind: &str,
        version: u64,
    ) -> OrderView {
        let payment = PaymentId::new(TimeMs(NOW), [1; 16]);
        let event = serde_json::json!({
            "type": format!("floodgate.payment.{kind}"),
            "data": { "payment": payment, "order": order, "version": version, "amount_minor": 3_000,
                "refunded_minor": refunded_minor, "refund": key },
        });
        let pulled = Pulled { receipt: Receipt { number: 1, attempt: 1 }, event: event.to_string() };
        let ended = self.orders.take_payments(vec![pulled]).await;
        assert_eq!(ended[0].1, Ended::Done);
        self.orders.find(order).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn money_that_went_back_before_it_was_known_to_have_come_buys_nothing() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(3)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(3_000)).await.unwrap().id;
    shop.due().await;
    shop.is_told(order, "by-hand", 3_000, "refunded", 2).await;
    let told = shop.is_told(order, "", 0, "succeeded", 1).await;
    shop.due().await;
    assert_eq!((told.state, told.payment), (OrderState::Cancelled, contracts::store::PaymentSeen::Refunded));
    assert_eq!(shop.free("A"), 10);
}

#[tokio::test]
async fn a_part_of_an_order_comes_back_and_then_the_rest() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    let asked = shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap();
    assert_eq!((asked.returns[0].state, asked.returns[0].refund_minor), (ReturnState::Requested, 1_000));
    // The page was sent twice.
    assert_eq!(shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap().returns.len(), 1);
    shop.step(order.id, 1, Step::Approve).await.unwrap();
    let received = shop.step(order.id, 1, Step::Receive).await.unwrap();
    assert_eq!((received.state, received.returns[0].state), (OrderState::Delivered, ReturnState::Received));
    assert_eq!(shop.free("A"), 9);
    shop.step(order.id, 1, Step::Receive).await.unwrap();
    assert_eq!(shop.free("A"), 9, "it came once");
    let told = shop.is_back(order.id, "return-1", 1_000, "part_refunded").await;
    assert_eq!((told.state, told.returns[0].state), (OrderState::PartRefunded, ReturnState::Refunded));

    let rest = shop.ask_back(&told, &[("A", 1), ("B", 1)], Wish::Refund).await.unwrap();
    assert_eq!(rest.returns[1].refund_minor, 2_000);
    shop.step(order.id, 2, Step::Approve).await.unwrap();
    assert_eq!(shop.step(order.id, 2, Step::Receive).await.unwrap().state, OrderState::Returned);
    let told = shop.is_back(order.id, "return-2", 3_000, "refunded").await;
    assert_eq!((told.state, told.payment), (OrderState::Refunded, contracts::store::PaymentSeen::Refunded));
    assert_eq!((shop.free("A"), shop.free("B")), (10, 10));
    let refunds = shop.world.shelf.lock().unwrap().refunds.clone();
    assert_eq!(refunds, [("return-1".to_owned(), 1_000), ("return-2".to_owned(), 2_000)]);
}

#[tokio::test]
async fn what_is_exchanged_is_sent_again_and_costs_nothing() {
    let shop = shop(&[("A", 2), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.ask_back(&order, &[("A", 2)], Wish::Exchange).await.unwrap();
    shop.step(order.id, 1, Step::Approve).await.unwrap();
    let done = shop.step(order.id, 1, Step::Receive).await.unwrap();
    assert_eq!((done.state, done.returns[0].state), (OrderState::Delivered, ReturnState::Exchanged));
    shop.wait(120_000);
    shop.due().await;
    shop.due().await;
    let all = shop.orders.orders(shop.shopper, None, 10).await.unwrap().rows;
    let other = all.iter().find(|of| of.id != order.id).unwrap();
    assert_eq!((other.state, other.total.amount_minor), (OrderState::Allocated, 0));
    assert_eq!((other.lines[0].sku.clone(), other.lines[0].quantity), (sku("A"), 2));
    assert_eq!(other.address, Some(address()));
    assert!(shop.world.shelf.lock().unwrap().refunds.is_empty());
    // The money of the exchanged ones does not go back with the rest.
    let rest = shop.ask_back(&done, &[("B", 1)], Wish::Refund).await.unwrap();
    assert_eq!(rest.returns[1].refund_minor, 1_000);
    // What costs nothing is not turned into money.
    assert_eq!(other.returns, []);
}

#[tokio::test]
async fn an_exchange_that_cannot_be_had_is_given_up_for_its_money() {
    let shop = shop(&[("A", 2), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.ask_back(&order, &[("A", 2)], Wish::Exchange).await.unwrap();
    shop.step(order.id, 1, Step::Approve).await.unwrap();
    // Nothing is exchanged yet.
    let early = shop.step(order.id, 1, Step::GiveUp).await;
    assert!(matches!(early, Err(ReturnError::Step(Step::GiveUp, ReturnState::Approved))), "{early:?}");
    shop.step(order.id, 1, Step::Receive).await.unwrap();
    for _ in 0..2 {
        let given_up = shop.step(order.id, 1, Step::GiveUp).await.unwrap();
        let of = &given_up.returns[0];
        assert_eq!((of.state, of.wish, of.refund_minor), (ReturnState::Received, Wish::Refund, 2_000));
        assert_eq!(given_up.state, OrderState::Delivered);
    }
    shop.wait(120_000);
    shop.due().await;
    shop.due().await;
    let all = shop.orders.orders(shop.shopper, None, 10).await.unwrap().rows;
    assert_eq!(all.iter().find(|of| of.id != order.id).unwrap().state, OrderState::Cancelled);
    let refunds = shop.world.shelf.lock().unwrap().refunds.clone();
    assert_eq!(refunds, [("return-1".to_owned(), 2_000)]);
    shop.is_back(order.id, "return-1", 2_000, "part_refunded").await;
    // The rest comes back for money too, and that is all.
    let order = shop.orders.find(order.id).await.unwrap().unwrap();
    assert_eq!((order.state, order.returns[0].state), (OrderState::PartRefunded, ReturnState::Refunded));
    let rest = shop.ask_back(&order, &[("B", 1)], Wish::Refund).await.unwrap();
    assert_eq!(rest.returns[1].refund_minor, 1_000);
    // What was never exchanged is no exchange to give up.
    shop.step(order.id, 2, Step::Approve).await.unwrap();
    shop.step(order.id, 2, Step::Receive).await.unwrap();
    let other = shop.step(order.id, 2, Step::GiveUp).await;
    assert!(matches!(other, Err(ReturnError::Step(Step::GiveUp, ReturnState::Received))), "{other:?}");
}

#[tokio::test]
async fn an_exchange_that_was_sent_is_not_given_up() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.ask_back(&order, &[("A", 1)], Wish::Exchange).await.unwrap();
    shop.step(order.id, 1, Step::Approve).await.unwrap();
    shop.step(order.id, 1, Step::Receive).await.unwrap();
    shop.wait(120_000);
    shop.due().await;
    shop.due().await;
    let all = shop.orders.orders(shop.shopper, None, 10).await.unwrap().rows;
    let sent = all.iter().find(|of| of.id != order.id).unwrap().id;
    let ship = Command::Ship(Delivery { carrier: "SF".into(), tracking: "1".into() });
    shop.orders.command(sent, "test".into(), "because".into(), ship).await.unwrap();
    let late = shop.step(order.id, 1, Step::GiveUp).await.map_err(of_return);
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    let order = shop.orders.find(order.id).await.unwrap().unwrap();
    assert_eq!(order.returns[0].state, ReturnState::Exchanged);
}

#[tokio::test]
async fn a_return_that_does_not_fit_is_refused() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    let refused = async |lines: &[(&str, u32)], want: &str| {
        let why = shop.ask_back(&order, lines, Wish::Refund).await.unwrap_err().to_string();
        assert_eq!(why, want);
    };
    refused(&[], "lines: want at least one unit").await;
    refused(&[("A", 3)], "lines: of A 2 can come back").await;
    refused(&[("A", u32::MAX), ("A", u32::MAX)], "lines: of A 2 can come back").await;
    refused(&[("C", 1)], "lines: of C 0 can come back").await;
    let stranger = AccountId::new(TimeMs(NOW), [8; 16]);
    let wanted = RequestReturn { lines: vec![], wish: Wish::Refund, reason: String::new(), number: 1 };
    let other = shop.orders.request_return(stranger, order.id, wanted).await;
    assert!(matches!(other, Err(StoreError::NotFound(_))), "{other:?}");
    assert!(matches!(shop.step(order.id, 1, Step::Approve).await, Err(ReturnError::NotFound(1))));
    shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap();
    assert!(matches!(shop.step(order.id, 1, Step::Receive).await, Err(ReturnError::Step(..))));
    shop.orders.withdraw_return(shop.shopper, order.id, 1).await.unwrap();
    assert!(matches!(shop.step(order.id, 1, Step::Approve).await, Err(ReturnError::Step(..))));
    shop.wait(contracts::store::RETURN_WITHIN.0 + 1);
    let order = shop.orders.find(order.id).await.unwrap().unwrap();
    let late = RequestReturn {
        lines: vec![StockLine { sku: sku("A"), quantity: 1 }],
        wish: Wish::Refund,
        reason: String::new(),
        number: 2,
    };
    let late = shop.orders.request_return(shop.shopper, order.id, late).await.unwrap_err();
    assert_eq!(late.to_string(), "return: the time to return it is over");
}

#[tokio::test]
async fn an_operator_gives_back_no_more_than_was_paid() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    let give = async |amount_minor: u64, number: u32| {
        let (actor, reason) = ("owner".to_owned(), "it came scratched".to_owned());
        let done = shop.orders.refund_by_hand(order.id, actor, reason, (amount_minor, number)).await;
        shop.due().await;
        done.map(|order| order.returns.len()).map_err(of_return)
    };
    assert_eq!(give(500, 1).await, Ok(1));
    assert_eq!(give(500, 1).await, Ok(1), "the same refund again");
    let other = give(600, 1).await;
    assert!(matches!(other, Err(StoreError::Conflict(_))), "another sum under the same number: {other:?}");
    let too_much = give(2_501, 2).await.unwrap_err().to_string();
    assert_eq!(too_much, "amount_minor: want 1 to 2500, which is left");
    assert!(matches!(give(0, 2).await, Err(StoreError::Invalid(_))));
    assert_eq!(shop.world.shelf.lock().unwrap().refunds, [("return-1".to_owned(), 500)]);
}

#[tokio::test]
async fn what_went_back_before_the_payment_was_told_counts() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(3)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(3_000)).await.unwrap().id;
    // The provider's people have given 5.00 back, and that was told before the success.
    assert_eq!(shop.is_back(order, "", 500, "succeeded").await.payment, PaymentSeen::Received);
    let (actor, reason) = ("owner".to_owned(), "it came scratched".to_owned());
    let too_much = shop.orders.refund_by_hand(order, actor, reason, (2_501, 1)).await.unwrap_err();
    assert_eq!(too_much.to_string(), "amount_minor: want 1 to 2500, which is left");
}

#[tokio::test]
async fn a_second_return_under_the_number_of_another_is_refused() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap();
    let other = shop.ask_back(&order, &[("B", 1)], Wish::Refund).await;
    assert!(matches!(&other, Err(StoreError::Conflict(why)) if why.starts_with("return 1:")), "{other:?}");
}

#[tokio::test]
async fn what_a_return_is_worth_is_reckoned_when_it_has_come() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    // The rest of the order is asked for while the first part is still to come, and is kept then.
    let one = shop.ask_back(&order, &[("A", 2)], Wish::Refund).await.unwrap();
    let two = shop.ask_back(&one, &[("B", 1)], Wish::Refund).await.unwrap();
    assert_eq!(two.returns[1].refund_minor, 1_000);
    shop.orders.withdraw_return(shop.shopper, order.id, 1).await.unwrap();
    shop.step(order.id, 2, Step::Approve).await.unwrap();
    let received = shop.step(order.id, 2, Step::Receive).await.unwrap();
    assert_eq!((received.returns[1].refund_minor, received.state), (1_000, OrderState::Delivered));
}

#[tokio::test]
async fn lines_of_another_currency_are_not_added_up() {
    let shop = shop(&[("A", 10), ("USD-1", 10)]).await;
    shop.put("A", Quantity::Add(1)).await.unwrap();
    // By way of a guest's cart, whose currency was its own.
    let guest = GuestCart::new([9; 16]);
    shop.orders.change(CartOwner::Guest(guest.clone()), sku("USD-1"), Quantity::Add(1)).await.unwrap();
    shop.orders.merge(guest, shop.shopper).await.unwrap();
    let cart = shop.orders.cart(shop.owner()).await.unwrap();
    let states: Vec<LineState> = cart.lines.iter().map(|line| line.state).collect();
    assert_eq!(states, [LineState::Good, LineState::OtherCurrency]);
    assert_eq!(cart.goods.unwrap().amount_minor, 1_000);
    for total in [1_000, 2_000] {
        let refused = shop.orders.check_out(shop.wanted(total)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_order_that_was_allocated_by_hand_takes_its_units_all_the_same() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(4)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(4_000)).await.unwrap().id;
    let give = async |command| {
        shop.orders.command(order, "test".into(), "because".into(), command).await.unwrap();
    };
    // Before the stock was asked.
    give(Command::Paid { payment: PaymentId::new(TimeMs(NOW), [1; 16]), amount_minor: 4_000 }).await;
    give(Command::Allocate).await;
    give(Command::Ship(Delivery { carrier: "SF".into(), tracking: "SF1".into() })).await;
    shop.due().await;
    shop.due().await;
    assert!(shop.world.shelf.lock().unwrap().shipped.contains(&order));
    assert_eq!(shop.free("A"), 6);
}

#[tokio::test]
async fn the_same_page_sent_twice_at_once_gets_one_order() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let wanted = shop.wanted(1_000);
    let send = || shop.orders.check_out(wanted.clone());
    let (a, b, c, d) = tokio::join!(send(), send(), send(), send());
    for sent in [a, b, c, d, send().await] {
        assert_eq!(sent.unwrap().id, wanted.key);
    }
    assert_eq!(shop.free("A"), 9);
}

#[tokio::test]
async fn the_money_of_a_return_goes_back_in_one_way() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap();
    shop.step(order.id, 1, Step::Approve).await.unwrap();
    shop.step(order.id, 1, Step::Receive).await.unwrap();
    // The provider has been asked for it.
    assert_eq!(shop.step(order.id, 1, Step::Refunded).await, Err(ReturnError::OnItsWay));
    // It has too little left for the next one, which goes back elsewhere then.
    shop.world.gone.store(2_500, Relaxed);
    let order = shop.orders.find(order.id).await.unwrap().unwrap();
    shop.ask_back(&order, &[("B", 1)], Wish::Refund).await.unwrap();
    shop.step(order.id, 2, Step::Approve).await.unwrap();
    shop.step(order.id, 2, Step::Receive).await.unwrap();
    let settled = shop.step(order.id, 2, Step::Refunded).await.unwrap();
    assert_eq!(settled.returns[1].state, ReturnState::Refunded);
}

#[tokio::test]
async fn an_order_that_is_paid_after_all_keeps_its_units() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(4)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(4_000)).await.unwrap().id;
    let payment = PaymentId::new(TimeMs(NOW), [1; 16]);
    let paid = Command::Paid { payment, amount_minor: 4_000 };
    shop.orders.command(order, "test".into(), "because".into(), paid).await.unwrap();
    // A task to free them, which was put off, is still there.
    let shards = &shop.orders.needs.shards;
    let late = shards.write(order.bucket(), move |tx| {
        store::add_task(tx, TimeMs(NOW), order, store::TaskKind::FreeStock, None, "expired")
    });
    late.await.unwrap();
    shop.due().await;
    assert_eq!((shop.free("A"), shop.state(order).await), (6, OrderState::Allocated));
}
