//! Shoppers: winners of the sale, and owners of carts. They pay in time, at the last moment, too
//! late, twice, another sum, or never; they give orders up, and send back what they have.

use crate::{
    catalog::{ITEMS, SKUS},
    process::Outside,
    provider::Choice,
    sale::reference,
    services::Process,
    world::{World, lock},
};
use contracts::store::{
    AccountId, Address, CartOwner, Carts, CheckOut, OrderId, OrderOrigin, OrderState, OrderView, Orders,
    PaymentId, PaymentSeen, Payments, Quantity, RequestReturn, Sku, StartPayment, StartedPayment, StockLine,
    StoreError, Wish,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use units::{DurationMs, TimeMs};

/// How much later than its time to pay an order of a cart expires: what the order's context says.
const GRACE: DurationMs = DurationMs(60_000);
/// How often a shopper looks for something that does not come.
const LOOKS_MAX: u32 = 400;

/// What a shopper does with an order that waits for its payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Soon,
    /// At the moment at which it expires.
    AtTheEdge,
    TooLate,
    Never,
    GiveUp,
    /// Gives it up while the payment is on its way.
    PayAndGiveUp,
    /// Begins two payments, one after the other, and makes both.
    Twice,
    OtherSum,
    /// More than the order's total.
    TooMuch,
    /// The provider takes the money of one payment twice.
    TakenTwice,
    OtherCurrency,
    FailThenPay,
    /// Gives the hold back on the sale's page.
    GiveHoldBack,
    /// The same while the payment is on its way.
    PayAndGiveHoldBack,
    /// An operator of the sale takes the hold back while the payment is on its way.
    PayAndVoid,
    /// Tries again after the expiry, and then pays for the first hold after all.
    BuyAgain,
    /// Pays elsewhere, which the sale is told.
    Elsewhere,
}

const PLANS: [Plan; 22] = [
    Plan::Soon,
    Plan::Soon,
    Plan::Soon,
    Plan::Soon,
    Plan::AtTheEdge,
    Plan::AtTheEdge,
    Plan::AtTheEdge,
    Plan::TooLate,
    Plan::Never,
    Plan::GiveUp,
    Plan::PayAndGiveUp,
    Plan::Twice,
    Plan::OtherSum,
    Plan::TooMuch,
    Plan::TakenTwice,
    Plan::OtherCurrency,
    Plan::FailThenPay,
    Plan::GiveHoldBack,
    Plan::PayAndGiveHoldBack,
    Plan::PayAndVoid,
    Plan::BuyAgain,
    Plan::Elsewhere,
];

/// What carts were given, and what is to be left in them: of each account and SKU the units that
/// its shopper put in.
#[derive(Debug, Default)]
pub(crate) struct Baskets(pub(crate) Mutex<BTreeMap<String, BTreeMap<Sku, u32>>>);

/// A shopper.
struct Shopper {
    outside: Arc<Outside>,
    account: AccountId,
}

pub(crate) fn address() -> Address {
    Address {
        name: "Ann".into(),
        phone: "13800138000".into(),
        street: "Chang'an Street 1".into(),
        city: "Beijing".into(),
        country: "CN".into(),
        ..Address::default()
    }
}

/// Sends the shoppers of the run.
pub(crate) fn send(outside: &Arc<Outside>, baskets: &Arc<Baskets>) {
    let world = &outside.world;
    for _ in 0..world.manners.winners {
        let shopper = Shopper::new(outside);
        world.spawn_actor(async move { shopper.win().await });
    }
    for _ in 0..world.manners.carts {
        let (shopper, baskets) = (Shopper::new(outside), Arc::clone(baskets));
        world.spawn_actor(async move { shopper.fill_a_cart(&baskets).await });
    }
}

impl Shopper {
    fn new(outside: &Arc<Outside>) -> Self {
        let account = AccountId::new(outside.world.now(), outside.world.bytes16());
        Self { outside: Arc::clone(outside), account }
    }

    fn world(&self) -> &Arc<World> {
        &self.outside.world
    }

    /// Asks, and notes what was shown.
    async fn order_of<F>(&self, call: impl FnOnce(Arc<Process>) -> F) -> Option<Result<OrderView, StoreError>>
    where
        F: Future<Output = Result<OrderView, StoreError>>,
    {
        let answer = self.world().ask(call).await;
        if let Some(Ok(order)) = &answer {
            self.world().is_shown(order);
        }
        answer
    }

    async fn look(&self, order: OrderId) -> Option<OrderView> {
        let account = self.account;
        let found = self.world().ask(|process| async move { process.orders.order(account, order).await });
        let found = found.await?.ok()??;
        self.world().is_shown(&found);
        Some(found)
    }

    async fn win(self) {
        let world = self.world();
        world.pause(0, 20_000).await;
        let mut lines = vec![(world.below(ITEMS.len() as u64 - 1) as usize, 1 + world.below(2) as u32)];
        if world.percent(10) {
            lines.push((ITEMS.len() - 1, 1));
        }
        let pay_within = DurationMs(world.pick(&[20_000, 300_000, 600_000]));
        let Some(hold) = self.outside.sale.attempt(self.account, lines.clone(), pay_within) else { return };
        let account = self.account;
        for _ in 0..LOOKS_MAX {
            world.pause(100, 4_000).await;
            let found = world.ask(|process| async move {
                Orders::of_hold(&*process.orders, account, reference(hold)).await
            });
            let Some(Ok(Some(order))) = found.await else { continue };
            world.is_shown(&order);
            let plan = world.pick(&PLANS);
            let pay_by = self.outside.sale.pay_by(hold).unwrap_or(world.now());
            if world.percent(10) {
                // At any moment, whatever the shopper does.
                let (sale, of_world) = (Arc::clone(&self.outside.sale), Arc::clone(world));
                world.spawn_actor(async move {
                    of_world.pause(0, 120_000).await;
                    sale.void(hold);
                });
            }
            match plan {
                Plan::GiveHoldBack => {
                    world.pause(0, 60_000).await;
                    drop(self.outside.sale.release(hold));
                }
                Plan::Elsewhere => {
                    world.pause(0, 60_000).await;
                    drop(self.outside.sale.pay(hold, "elsewhere-1"));
                }
                Plan::BuyAgain => {
                    let again = {
                        let begun = self.begin(&order).await;
                        world.sleep_until(pay_by.plus(DurationMs(1 + world.below(3_000)))).await;
                        let _ = self.outside.sale.attempt(self.account, lines.clone(), pay_within);
                        begun
                    };
                    if let Some(payment) = again {
                        self.outside.till.pay(payment, Choice::Pay);
                        world.reach("a late payment comes after another attempt");
                    }
                    self.follow(order.id).await;
                }
                plan => self.go_on(order, plan, pay_by).await,
            }
            if world.percent(6) {
                world.pause(0, 300_000).await;
                self.outside.sale.void(hold);
            }
            return;
        }
    }

    /// Pays as planned, and looks after the order until it has come.
    async fn go_on(&self, order: OrderView, plan: Plan, expires: TimeMs) {
        self.world().note(format_args!("{} of {}: {plan:?}", order.id, self.account));
        self.pay(&order, plan, expires).await;
        self.follow(order.id).await;
    }

    /// Sets the address, and begins a payment.
    async fn begin(&self, order: &OrderView) -> Option<PaymentId> {
        let (account, id, amount) = (self.account, order.id, order.total);
        for _ in 0..6 {
            let Some(found) = self.look(id).await else {
                self.world().pause(100, 3_000).await;
                continue;
            };
            let is_payable = found.state == OrderState::AwaitingPayment && found.payment == PaymentSeen::None;
            if !is_payable {
                return None;
            }
            if found.address.is_none() {
                let sent = self.order_of(|of| async move { of.orders.send_to(account, id, address()).await });
                sent.await?.ok()?;
            }
            let start =
                StartPayment { order: id, shopper: account, amount, return_path: format!("/orders/{id}") };
            let begun = self.world().ask(|of| async move { Payments::start(&*of.payments, start).await });
            match begun.await {
                Some(Ok(StartedPayment { payment, .. })) => return Some(payment),
                Some(Err(StoreError::Conflict(_) | StoreError::Invalid(_))) => return None,
                Some(Err(_)) | None => self.world().pause(100, 3_000).await,
            }
        }
        None
    }

    async fn pay(&self, order: &OrderView, plan: Plan, expires: TimeMs) {
        let (world, till) = (self.world(), &self.outside.till);
        if matches!(plan, Plan::Never) {
            return;
        }
        if plan == Plan::GiveUp {
            world.pause(0, 30_000).await;
            return self.give_up(order.id).await;
        }
        let Some(payment) = self.begin(order).await else { return };
        match plan {
            Plan::AtTheEdge => {
                // Now and then the news come quickly enough to be decided at that very moment.
                let early = DurationMs(world.pick(&[5, 20, 60, 300, 1_500]));
                let at = TimeMs(expires.0.saturating_sub(early.0)).plus(DurationMs(world.below(1_500)));
                world.sleep_until(at).await;
            }
            Plan::TooLate => {
                let late = DurationMs(1 + world.below(900_000));
                world.sleep_until(expires.plus(late)).await;
                world.reach("a payment after the expiry");
            }
            _ => world.pause(0, 20_000).await,
        }
        match plan {
            Plan::OtherSum => {
                till.pay(payment, Choice::OtherSum);
                world.reach("a payment of another sum");
            }
            Plan::TooMuch => {
                till.pay(payment, Choice::TooMuch);
                world.reach("a payment of more than the total");
            }
            Plan::TakenTwice => {
                till.pay(payment, Choice::Pay);
                world.pause(0, 20_000).await;
                if till.pay(payment, Choice::Again) {
                    world.reach("the money of one payment is taken twice");
                }
            }
            Plan::OtherCurrency => {
                till.pay(payment, Choice::OtherCurrency);
                world.reach("a payment of another currency");
            }
            Plan::FailThenPay => {
                till.pay(payment, Choice::Fail);
                world.pause(0, 60_000).await;
                // With another card, on the same page, or on a new one.
                if world.percent(50) {
                    till.pay(payment, Choice::Pay);
                } else if let Some(other) = self.begin(order).await {
                    till.pay(other, Choice::Pay);
                }
            }
            Plan::Twice => {
                // The first is not the same any more, and its page is still good.
                world.pause(181_000, 200_000).await;
                let second = self.begin(order).await;
                let first_is_first = world.percent(50);
                let both = match first_is_first {
                    true => [Some(payment), second],
                    false => [second, Some(payment)],
                };
                let mut made = 0;
                for payment in both.into_iter().flatten() {
                    made += u32::from(till.pay(payment, Choice::Pay));
                    world.pause(0, 3_000).await;
                }
                if made == 2 {
                    world.reach("an order is paid twice");
                }
            }
            _ => {
                till.pay(payment, Choice::Pay);
            }
        }
        if order.origin == OrderOrigin::Cart && plan == Plan::AtTheEdge {
            // Which of the two it was, its history says at the end.
            self.world().pause(5_000, 20_000).await;
            match self.look(order.id).await.map(|of| of.state) {
                Some(OrderState::Expired) => world.reach("a payment of a cart comes just after its expiry"),
                Some(OrderState::Paid | OrderState::Allocated) => {
                    world.reach("a payment of a cart comes just before its expiry");
                }
                _ => {}
            }
        }
        let race = [0, 60, 400, 3_000];
        match (plan, &order.origin) {
            (Plan::PayAndGiveUp, _) => {
                world.pause(0, 400).await;
                self.give_up(order.id).await;
            }
            (Plan::PayAndGiveHoldBack, OrderOrigin::Sale(of)) => {
                world.pause(0, world.pick(&race)).await;
                world.reach("a hold is given back while its payment is on its way");
                drop(self.outside.sale.release(of.hold));
            }
            (Plan::PayAndVoid, OrderOrigin::Sale(of)) => {
                world.pause(0, world.pick(&race)).await;
                self.outside.sale.void(of.hold);
            }
            _ => {}
        }
        if world.percent(7) {
            world.pause(0, 200_000).await;
            till.give_back_by_hand(payment, world.percent(50));
        }
    }

    async fn give_up(&self, order: OrderId) {
        let account = self.account;
        for _ in 0..3 {
            let given = self.order_of(|of| async move { of.orders.cancel(account, order).await }).await;
            match given {
                Some(Ok(_)) => return self.world().reach("an order is given up"),
                Some(Err(StoreError::Conflict(_))) => {
                    return self.world().reach("an order cannot be given up any more");
                }
                Some(Err(_)) | None => self.world().pause(50, 2_000).await,
            }
        }
    }

    /// Looks after an order until it has come, and sends back some of it.
    async fn follow(&self, order: OrderId) {
        let world = self.world();
        for _ in 0..30 {
            world.pause(1_000, 120_000).await;
            let Some(found) = self.look(order).await else { continue };
            match found.state {
                OrderState::Delivered | OrderState::PartRefunded if !found.returns.iter().any(is_open) => {
                    if world.percent(60) && found.returns.len() < 3 {
                        self.send_back(&found).await;
                    } else {
                        return;
                    }
                }
                OrderState::Cancelled | OrderState::Expired if world.percent(50) => return,
                _ => {}
            }
        }
    }

    async fn send_back(&self, order: &OrderView) {
        let (world, account, id) = (self.world(), self.account, order.id);
        let mut lines = Vec::new();
        for line in &order.lines {
            let quantity = world.below(u64::from(line.quantity) + 1) as u32;
            if quantity > 0 {
                lines.push(StockLine { sku: line.sku.clone(), quantity });
            }
        }
        let number = order.returns.len() as u32 + 1;
        let wish = if world.percent(60) { Wish::Refund } else { Wish::Exchange };
        let wanted = RequestReturn { lines, wish, reason: "it does not fit".into(), number };
        for _ in 0..3 {
            let wanted = wanted.clone();
            let ask = |of: Arc<Process>| async move { of.orders.request_return(account, id, wanted).await };
            match self.order_of(ask).await {
                Some(Ok(_)) => {
                    world.reach("a return is asked for");
                    break;
                }
                Some(Err(StoreError::Unavailable(_))) | None => world.pause(50, 3_000).await,
                Some(Err(_)) => return,
            }
        }
        if world.percent(15) {
            world.pause(0, 60_000).await;
            let withdraw =
                |of: Arc<Process>| async move { of.orders.withdraw_return(account, id, number).await };
            if matches!(self.order_of(withdraw).await, Some(Ok(_))) {
                world.reach("a return is withdrawn");
            }
        }
    }

    async fn fill_a_cart(self, baskets: &Baskets) {
        let world = self.world();
        world.pause(0, 20_000).await;
        let owner = || CartOwner::Account(self.account);
        let account = self.account.to_string();
        for _ in 0..1 + world.below(3) {
            let at = world.below(SKUS.len() as u64) as usize;
            let (sku, quantity): (Sku, _) =
                (SKUS[at].parse().expect("it is a sku"), 1 + world.below(3) as u32);
            // Until it is known to be so: what is set twice is set once. What is not known is not
            // checked at the end.
            if let Some(put) = lock(&baskets.0).get_mut(&account) {
                put.remove(&sku);
            }
            for _ in 0..400 {
                let (owner, of) = (owner(), sku.clone());
                let change = |process: Arc<Process>| async move {
                    process.orders.change(owner, of, Quantity::Set(quantity)).await
                };
                if let Some(Ok(_)) = world.ask(change).await {
                    let mut baskets = lock(&baskets.0);
                    baskets.entry(account.clone()).or_default().insert(sku.clone(), quantity);
                    break;
                }
                // It may have been set all the same, and is looked at until it is.
                world.pause(100, 2_000).await;
            }
        }
        world.pause(0, 10_000).await;
        let orders = self.check_out().await;
        let world = self.world();
        for order in orders {
            let plan = match world.pick(&PLANS) {
                Plan::GiveHoldBack
                | Plan::PayAndGiveHoldBack
                | Plan::PayAndVoid
                | Plan::BuyAgain
                | Plan::Elsewhere => Plan::Soon,
                plan => plan,
            };
            let expires = order.pay_by.unwrap_or(world.now()).plus(GRACE);
            self.go_on(order, plan, expires).await;
        }
    }

    /// Orders what is in the cart: the form may be sent twice at once, or two forms of one cart.
    async fn check_out(&self) -> Vec<OrderView> {
        let world = self.world();
        let mut orders: BTreeMap<OrderId, OrderView> = BTreeMap::new();
        for _ in 0..5 {
            let account = self.account;
            let way = world.pick(&["standard", "express"]);
            let form = |process: Arc<Process>| async move {
                let cart = process.orders.cart(CartOwner::Account(account)).await?;
                let quotes = match cart.goods {
                    Some(goods) => process.orders.quotes(goods).await?,
                    None => Vec::new(),
                };
                let quote = quotes.into_iter().find(|(method, _)| method.id == way);
                Ok::<_, StoreError>((
                    process.orders.new_key(account).await?,
                    process.orders.new_key(account).await?,
                    quote.map(|(_, quote)| quote.total.amount_minor),
                ))
            };
            let Some(Ok((key, other, Some(total_minor)))) = world.ask(form).await else {
                world.pause(100, 5_000).await;
                continue;
            };
            world.pause(0, 2_000).await;
            let form = CheckOut {
                shopper: account,
                cart: None,
                key,
                address: address(),
                shipping: way.into(),
                total_minor,
            };
            let second = match world.below(4) {
                0 => Some(form.clone()),
                1 => Some(CheckOut { key: other, ..form.clone() }),
                _ => None,
            };
            let send = |form: CheckOut| async move {
                // What gets no answer is sent again as it is.
                for _ in 0..8 {
                    let form = form.clone();
                    let sent = self.order_of(|of| async move { of.orders.check_out(form).await }).await;
                    match sent {
                        Some(Err(StoreError::Unavailable(_))) | None => self.world().pause(50, 4_000).await,
                        Some(Ok(order)) => return Some(order),
                        Some(Err(_)) => return None,
                    }
                }
                None
            };
            let is_same = second.as_ref().is_some_and(|of| of.key == key);
            let both = match second {
                Some(second) => {
                    world.reach(if is_same { "one form twice at once" } else { "two forms of one cart" });
                    two(send(form), send(second)).await
                }
                None => (send(form).await, None),
            };
            for order in [both.0, both.1].into_iter().flatten() {
                orders.insert(order.id, order);
            }
            if !orders.is_empty() && world.percent(80) {
                break;
            }
            world.pause(100, 5_000).await;
        }
        orders.into_values().collect()
    }
}

fn is_open(of: &contracts::store::ReturnView) -> bool {
    use contracts::store::ReturnState::{Approved, Received, Requested};
    matches!(of.state, Requested | Approved | Received)
}

/// Both at once, the first one first.
async fn two<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> (T, T) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(context)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(context)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
