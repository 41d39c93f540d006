//! The people who run the shop: they ship, cancel, decide about returns and give money back; and
//! they book what comes into the stock, is found, is lost and is counted. Troubles of the machine
//! are here too: full disks, crashes, events that are sent again, time that passes all at once.

use crate::{
    bus::Followed,
    catalog::{ITEMS, SKUS, sale},
    process::{INVENTORY, LIST, Outside, PAYMENTS, SHARDS},
    reached::CALLS,
    services::Process,
    world::{World, lock},
};
use contracts::{
    Actor,
    store::{
        CameBack, Delivery, OrderState, OrderView, ReturnState, ReturnView, Sku, StockLine, StoreError,
        TransferId, WarehouseId,
    },
};
use inventory::{
    core::{Change, Spot},
    service::transfers::Send,
    warehouses::Warehouse,
};
use order::core::{Command, returns::Step};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// A movement that an operator has booked, by the reason, which is another one each time.
#[derive(Debug, Clone)]
pub(crate) struct Booked {
    pub(crate) at: Spot,
    pub(crate) change: Change,
    /// By so much it changed what is on hand, if it was answered.
    pub(crate) answered: Option<i64>,
}

/// A transfer that an operator has sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) units: i64,
    pub(crate) is_answered: bool,
    /// Of what they said has arrived: what was answered, and all of it.
    pub(crate) arrived: i64,
    pub(crate) tried: i64,
    /// Whether they have said that the rest is lost.
    pub(crate) is_closed: bool,
}

/// What operators have done.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) booked: Mutex<BTreeMap<String, Booked>>,
    /// By the transfers' names.
    pub(crate) sent: Mutex<BTreeMap<String, Sent>>,
    number: Mutex<u64>,
    /// Whether the day is over.
    pub(crate) is_over: AtomicBool,
}

/// Two that orders are sent from, most of the time, and one that they are never sent from.
const WAREHOUSES: [&str; 3] = [WarehouseId::MAIN, "east", "returns"];

fn warehouse(name: &str, ships: bool) -> Warehouse {
    Warehouse {
        warehouse: name.parse().expect("it is a warehouse"),
        name: name.into(),
        ships,
        parcel_cost: name.len() as u64,
        days: 2,
        version: 0,
    }
}

fn by(reason: &str) -> Actor {
    Actor::new("operator", reason)
}

fn all_skus() -> Vec<Sku> {
    let known = ITEMS.iter().filter_map(|(_, sku)| *sku).chain(SKUS);
    known.map(|sku| sku.parse().expect("it is a sku")).collect()
}

pub(crate) struct Operators {
    pub(crate) outside: Arc<Outside>,
    pub(crate) books: Arc<Books>,
}

impl Operators {
    fn world(&self) -> &Arc<World> {
        &self.outside.world
    }

    /// Books a movement once, however often it has to be sent.
    pub(crate) async fn book(&self, at: Spot, change: Change) {
        let number = {
            let mut number = lock(&self.books.number);
            *number += 1;
            *number
        };
        let reason = format!("movement {number}");
        let booked = Booked { at: at.clone(), change, answered: None };
        lock(&self.books.booked).insert(reason.clone(), booked);
        for _ in 0..30 {
            let (at, reason) = (at.clone(), reason.clone());
            let key = Some(reason.clone());
            let send = |of: Arc<Process>| async move { of.stock.change(by(&reason), key, at, change).await };
            match self.world().ask(send).await {
                Some(Ok(moved)) => {
                    if let Some(booked) = lock(&self.books.booked).get_mut(&format!("movement {number}")) {
                        booked.answered = Some(moved.change);
                    }
                    return;
                }
                Some(Err(StoreError::Unavailable(_))) | None => self.world().pause(100, 4_000).await,
                Some(Err(_)) => {
                    self.world().reach("a movement is refused");
                    return;
                }
            }
        }
    }

    /// Makes the SKUs known, and puts units on the shelves, some of them for the sale.
    pub(crate) async fn set_up(&self) {
        let world = self.world();
        self.put(warehouse("east", true)).await;
        self.put(warehouse("returns", false)).await;
        for sku in all_skus() {
            for _ in 0..100 {
                let of = sku.clone();
                let known = |process: Arc<Process>| async move { process.stock.make_known(of).await };
                if matches!(world.ask(known).await, Some(Ok(_))) {
                    break;
                }
                world.pause(10, 1_000).await;
            }
            let units = 1 + world.below(12);
            // Many a basket needs two parcels.
            let east = world.below(units + 1);
            for (at, units) in [(0, units - east), (1, east), (2, world.below(3))] {
                if units > 0 {
                    self.book(self.spot(&sku, at), Change::Receive { units }).await;
                }
            }
            if sku.as_str().starts_with('P') {
                self.claim(sku, world.below(units + 1)).await;
            }
        }
    }

    fn spot(&self, sku: &Sku, at: usize) -> Spot {
        Spot { sku: sku.clone(), warehouse: warehouse(WAREHOUSES[at], true).warehouse }
    }

    async fn put(&self, of: Warehouse) {
        for _ in 0..100 {
            let of = of.clone();
            let put = |process: Arc<Process>| async move {
                process.stock.put_warehouse(by("as planned"), of, None).await
            };
            if matches!(self.world().ask(put).await, Some(Ok(_))) {
                return;
            }
            self.world().pause(10, 1_000).await;
        }
    }

    async fn claim(&self, sku: Sku, units: u64) {
        let claim =
            |of: Arc<Process>| async move { of.stock.claim(by("for the sale"), sale(), sku, units).await };
        if let Some(Ok(_)) = self.world().ask(claim).await {
            self.world().reach("units are claimed for the sale");
        }
    }

    /// So many units of each SKU that no order waits for stock any more.
    pub(crate) async fn fill_up(&self) {
        for sku in all_skus() {
            self.book(sku.into(), Change::Receive { units: 500 }).await;
        }
    }

    /// Works until the day is over.
    pub(crate) async fn work(self) {
        let world = Arc::clone(self.world());
        while !self.books.is_over.load(SeqCst) {
            world.pause(500, 15_000).await;
            match world.below(11) {
                0 => self.stock_work().await,
                2 => {
                    let begin = |of: Arc<Process>| async move { of.list.begin().await };
                    if let Some(Ok(())) = world.ask(begin).await {
                        world.reach("the list is built anew");
                    }
                }
                1 => {
                    let at = world.below(SKUS.len() as u64) as usize;
                    self.outside.prices.change(at, 100);
                }
                _ => self.order_work().await,
            }
        }
    }

    async fn stock_work(&self) {
        let (world, skus) = (self.world(), all_skus());
        let sku = world.pick(&skus);
        let at = self.spot(&sku, world.below(WAREHOUSES.len() as u64) as usize);
        match world.below(9) {
            7 | 8 => self.transfer(sku).await,
            0 | 1 => self.book(at, Change::Receive { units: 1 + world.below(9) }).await,
            2 => self.book(at, Change::Adjust { change: 1 + world.below(3) as i64 }).await,
            3 => self.book(at, Change::Adjust { change: -1 - world.below(3) as i64 }).await,
            4 => self.book(at, Change::Count { counted: world.below(20) }).await,
            5 => {
                let ships = world.percent(60);
                self.put(warehouse("east", ships)).await;
                world.reach(if ships { "a warehouse sends orders" } else { "a warehouse sends no orders" });
            }
            _ if world.percent(70) => self.claim(sku, world.below(15)).await,
            _ => {
                let give = |of: Arc<Process>| async move { of.stock.return_claim(by("over"), sale()).await };
                if let Some(Ok(_)) = world.ask(give).await {
                    world.reach("a sale gives its claims back");
                }
            }
        }
    }

    /// Sends units of a SKU to another warehouse, where they arrive in two parcels, or are lost.
    async fn transfer(&self, sku: Sku) {
        let world = self.world();
        let number = {
            let mut number = lock(&self.books.number);
            *number += 1;
            *number
        };
        let (from, units) = (world.below(3) as usize, 1 + world.below(4) as u32);
        let to = (from + 1 + world.below(2) as usize) % WAREHOUSES.len();
        let place = |at: usize| warehouse(WAREHOUSES[at], true).warehouse;
        let lines = |quantity: u32| vec![StockLine { sku: sku.clone(), quantity }];
        let name = format!("t-{number}");
        let id: TransferId = name.parse().expect("it is a transfer");
        let of = Send {
            transfer: id.clone(),
            from: place(from),
            to: place(to),
            lines: lines(units),
            expected_at: None,
        };
        lock(&self.books.sent).insert(name.clone(), Sent { units: units.into(), ..Sent::default() });
        let note = |change: &dyn Fn(&mut Sent)| {
            if let Some(sent) = lock(&self.books.sent).get_mut(&name) {
                change(sent);
            }
        };
        let send = |process: Arc<Process>| {
            let of = of.clone();
            async move { process.stock.send_transfer(by("for the other shop"), of).await.map(drop) }
        };
        if self.until_it_is_done(send).await != Some(true) {
            return;
        }
        note(&|sent| sent.is_answered = true);
        world.reach("units leave for another warehouse");
        for (parcel, quantity) in [units / 2, units - units / 2].into_iter().enumerate() {
            world.pause(500, 20_000).await;
            if world.percent(20) {
                note(&|sent| sent.is_closed = true);
                let close = |process: Arc<Process>| {
                    let id = id.clone();
                    async move { process.stock.close_transfer(by("lost"), id).await.map(drop) }
                };
                if self.until_it_is_done(close).await == Some(true) {
                    world.reach("units are lost on their way");
                }
                return;
            }
            if quantity == 0 {
                continue;
            }
            note(&|sent| sent.tried += i64::from(quantity));
            let arrive = |process: Arc<Process>| {
                let (id, key, lines) = (id.clone(), Some(format!("{name}-{parcel}")), lines(quantity));
                async move { process.stock.arrive(by("a parcel"), key, id, lines).await.map(drop) }
            };
            match self.until_it_is_done(arrive).await {
                Some(true) => {
                    note(&|sent| sent.arrived += i64::from(quantity));
                    world.reach("units arrive in another warehouse");
                }
                // It is refused for good, under its key.
                Some(false) => note(&|sent| sent.tried -= i64::from(quantity)),
                None => {}
            }
        }
    }

    /// Sends a command until it is answered. Returns whether it was carried out, if that is known.
    async fn until_it_is_done<F>(&self, send: impl Fn(Arc<Process>) -> F) -> Option<bool>
    where
        F: Future<Output = Result<(), StoreError>> + std::marker::Send + 'static,
    {
        for _ in 0..30 {
            match self.world().ask(&send).await {
                Some(Ok(())) => return Some(true),
                Some(Err(StoreError::Unavailable(_))) | None => self.world().pause(100, 4_000).await,
                Some(Err(_)) => return Some(false),
            }
        }
        None
    }

    async fn order_work(&self) {
        let world = self.world();
        let list = |of: Arc<Process>| async move { of.orders.newest(None, None, 100).await };
        let Some(Ok(listed)) = world.ask(list).await else { return };
        if listed.is_empty() {
            return;
        }
        let id = world.pick(&listed).id;
        let read = |of: Arc<Process>| async move { of.orders.find(id).await };
        let Some(Ok(Some(order))) = world.ask(read).await else { return };
        world.is_shown(&order);
        let open: Vec<ReturnView> = order.returns.iter().filter(|of| of.state.is_alive()).cloned().collect();
        if !open.is_empty() && world.percent(70) {
            let of = world.pick(&open);
            return self.return_work(&order, of).await;
        }
        let is_known = order.lines.iter().all(|line| all_skus().contains(&line.sku));
        let command = match order.state {
            OrderState::AwaitingPayment | OrderState::Created if world.percent(8) => Command::Cancel,
            OrderState::Paid if !is_known => Command::Allocate,
            OrderState::Allocated => {
                let tracking = format!("T-{}", order.id);
                Command::Ship(Delivery { carrier: "post".into(), tracking })
            }
            OrderState::Shipped => Command::Deliver,
            OrderState::Delivered | OrderState::PartRefunded if world.percent(15) => {
                return self.give_money_back(&order).await;
            }
            _ => return,
        };
        let id = order.id;
        // Now and then it is sent twice.
        for _ in 0..1 + u64::from(world.percent(20)) {
            let command = command.clone();
            let send = |of: Arc<Process>| async move {
                of.orders.command(id, "operator".into(), "as it is due".into(), command).await
            };
            if let Some(Ok(order)) = world.ask(send).await {
                world.is_shown(&order);
                world.reach(format!("an operator does: {}", order.state.as_str()));
            }
        }
    }

    async fn return_work(&self, order: &OrderView, of: ReturnView) {
        let world = self.world();
        let (step, units) = match of.state {
            ReturnState::Requested if world.percent(85) => (Step::Approve, None),
            ReturnState::Requested => (Step::Reject, None),
            ReturnState::Approved => {
                let what = if world.percent(60) { CameBack::Restock } else { CameBack::Scrap };
                (Step::Receive, Some(what))
            }
            ReturnState::Received if world.percent(25) => (Step::Refunded, None),
            ReturnState::Exchanged if world.percent(20) => (Step::GiveUp, None),
            _ => return,
        };
        let (id, number) = (order.id, of.number);
        for _ in 0..1 + u64::from(world.percent(25)) {
            let send = |process: Arc<Process>| async move {
                let (actor, reason) = ("operator".to_owned(), "looked at".to_owned());
                process.orders.step_return((id, number), actor, reason, step, units).await
            };
            if let Some(Ok(order)) = world.ask(send).await {
                world.is_shown(&order);
                world.reach(format!("a return: {}", step.as_str()));
            }
        }
    }

    async fn give_money_back(&self, order: &OrderView) {
        let world = self.world();
        let (id, number) = (order.id, order.returns.len() as u32 + 1);
        let amount = 1 + world.below(order.total.amount_minor.max(1));
        for _ in 0..1 + u64::from(world.percent(30)) {
            let send = |of: Arc<Process>| async move {
                let (actor, reason) = ("operator".to_owned(), "a scratch".to_owned());
                of.orders.refund_by_hand(id, actor, reason, (amount, number)).await
            };
            if let Some(Ok(order)) = world.ask(send).await {
                world.is_shown(&order);
                world.reach("an operator gives money back");
            }
        }
    }
}

/// Calls that a run makes a few times.
const RARE: [&str; 4] = ["confirm", "refund", "release", "start of a payment"];

/// Breaks what can break, until the day is over.
pub(crate) async fn break_things(outside: Arc<Outside>, books: Arc<Books>) {
    let world = &outside.world;
    let databases = [SHARDS[0], SHARDS[1], PAYMENTS, INVENTORY, LIST];
    while !books.is_over.load(SeqCst) {
        world.pause(1_000, 30_000).await;
        if world.is_calm() {
            return;
        }
        match world.below(8) {
            0 if world.manners.transactions_fail > 0 => {
                world.fill(world.pick(&databases), Duration::from_millis(world.pick(&[50, 2_000, 20_000])));
                world.reach("a database is full for a while");
            }
            1 => {
                let followed = world.pick(&[Followed::Sales, Followed::Payments, Followed::Orders]);
                outside.bus.replay(followed, world.pick(&[10, 50, 100]));
                world.reach("events are replayed");
            }
            2 | 3 if world.manners.points_between_crashes > 0 => {
                // Most are of the stock and of the books: the rare ones are meant more often.
                let call = if world.percent(50) { world.pick(&RARE) } else { world.pick(&CALLS) };
                world.crash_at(world.pick(&["before", "after"]), call);
            }
            // Most points are statements and calls.
            4 | 5 if world.manners.points_between_crashes > 0 => {
                world.crash_at_commit(world.percent(50), 1 + world.below(30));
            }
            _ if world.manners.points_between_crashes > 0 => {
                world.crash_after(1 + world.below(2 * world.manners.points_between_crashes));
            }
            _ => {}
        }
    }
}

/// Lets time pass at once in which nothing happens: to the moment before the next one wakes up, or
/// beyond it, as on a machine that was suspended.
pub(crate) async fn pass_time(world: Arc<World>) {
    loop {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let Some(wait) = world.next_wake() else { continue };
        let is_suspended = world.fault(2);
        let leap = match is_suspended {
            true => wait + Duration::from_millis(world.pick(&[10, 5_000, 900_000])),
            false => wait.saturating_sub(Duration::from_millis(500 + world.below(4_000))),
        };
        if leap > Duration::from_secs(2) {
            if is_suspended {
                world.reach("the machine is suspended");
                world.note(format_args!("suspended for {} s", leap.as_secs()));
            }
            tokio::time::advance(leap).await;
        }
    }
}
