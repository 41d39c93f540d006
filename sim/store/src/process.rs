//! The process under test: the real services of orders, payments and stock, wired as `floodgate`
//! wires them, on databases that outlive it. It is ended at any point, and started anew.

use crate::{
    bus::{Bus, Followed, Follows, Told, Topic},
    catalog::{Prices, Shelf},
    provider::{Model, Till},
    sale::{Holds, Sale},
    services::Process,
    world::{SimChance, SimClock, Tables, World},
};
use contracts::store::{Inbox, OrderId, Posts, ShippingMethod};
use engines::{
    clock::Clock,
    sql::{Sql, SqlError},
    sqlite::in_line::{Database, Ran},
};
use order::charges::{IncludedTax, Rules};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;

/// Databases over which orders are spread.
pub(crate) const SHARDS: [&str; 2] = ["orders-0", "orders-1"];
pub(crate) const PAYMENTS: &str = "payments";
pub(crate) const INVENTORY: &str = "inventory";
pub(crate) const LIST: &str = "order-list";
/// How often it is tried to open the services, and the pause before.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A database with the task that runs its transactions.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    asked: Arc<Notify>,
}

impl Store {
    fn new(name: &'static str) -> Result<Self, SqlError> {
        Ok(Self { name, database: Database::in_memory()?, asked: Arc::default() })
    }

    fn sql(&self, world: &Arc<World>) -> Sql {
        let (world, asked) = (Arc::clone(world), Arc::clone(&self.asked));
        self.database.sql(Arc::new(move || {
            world.is_taken()?;
            asked.notify_one();
            Ok(())
        }))
    }

    /// Runs what waits, one transaction after another, each after a moment.
    async fn run(self, world: Arc<World>) {
        loop {
            self.asked.notified().await;
            while self.database.is_asked() {
                match world.below(world.manners.transaction_ms_max + 1) {
                    0 => tokio::task::yield_now().await,
                    ms => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
                let mut tables = Tables::default();
                let ran = self.database.run_next(&mut |point| world.fate(self.name, &mut tables, point));
                if ran == Some(Ran::Died) {
                    world.dies();
                }
            }
        }
    }
}

/// All that outlives the process.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) world: Arc<World>,
    pub(crate) stores: Vec<Store>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) sale: Arc<Sale>,
    pub(crate) till: Arc<Till>,
    pub(crate) prices: Arc<Prices>,
    /// As the list was last seen: of each order the build and the version of its row.
    pub(crate) listed: Mutex<BTreeMap<OrderId, (u64, u64)>>,
}

impl Outside {
    pub(crate) fn new(world: &Arc<World>) -> Result<Arc<Self>, SqlError> {
        let names = SHARDS.into_iter().chain([PAYMENTS, INVENTORY, LIST]);
        let bus = Arc::<Bus>::default();
        Ok(Arc::new(Self {
            world: Arc::clone(world),
            stores: names.map(Store::new).collect::<Result<_, _>>()?,
            sale: Sale::new(world, &bus),
            bus,
            till: Till::new(world),
            prices: Arc::default(),
            listed: Mutex::default(),
        }))
    }

    pub(crate) fn store(&self, name: &str) -> &Store {
        self.stores.iter().find(|store| store.name == name).expect("a database of this name")
    }

    /// Runs the databases, and a process as long as each lives.
    pub(crate) fn start(self: &Arc<Self>) {
        for store in &self.stores {
            self.world.spawn(store.clone().run(Arc::clone(&self.world)));
        }
        self.world.spawn(Arc::clone(self).keep());
    }

    async fn keep(self: Arc<Self>) {
        let world = &self.world;
        loop {
            let life = world.next_life();
            world.is_born(life);
            world.note(format_args!("process {life} starts"));
            let died = {
                let death = world.death(life);
                let serves = async {
                    let process = self.open(life).await;
                    world.note(format_args!("process {life} serves"));
                    world.serves(Some(Arc::new(process)));
                    std::future::pending::<()>().await;
                };
                tokio::select! { biased; () = death => true, () = serves => false }
            };
            debug_assert!(died);
            if let Some(process) = world.process() {
                process.end();
            }
            world.serves(None);
            self.stores.iter().for_each(|store| store.database.forget_waiting());
            world.reach("crash");
            let down = if world.is_calm() { 10 } else { world.pick(&[10, 500, 4_000, 60_000]) };
            tokio::time::sleep(Duration::from_millis(down)).await;
            let skew = match world.fault(if world.manners.has_clock_trouble { 50 } else { 0 }) {
                true => world.pick(&[-600_000, -2_000, 1_500, 400_000, 3_700_000, 90_000_000]),
                false => 0,
            };
            if skew != 0 {
                world.reach(if skew > 0 { "a clock that is ahead" } else { "a clock that is behind" });
                world.note(format_args!("the clock is {skew} ms off"));
            }
            world.set_skew(skew);
        }
    }

    async fn open(self: &Arc<Self>, life: u64) -> Process {
        loop {
            match self.try_open(life).await {
                Ok(process) => return process,
                Err(error) if error.passes() => {
                    self.world.note(format_args!("it cannot be opened: {error}"));
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    let what = format!("the services cannot be opened: {error}");
                    self.world.violate(sim::Violation { rule: "STORE-OPENS", what });
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn try_open(self: &Arc<Self>, life: u64) -> Result<Process, SqlError> {
        let world = &self.world;
        let clock: Arc<dyn Clock> = Arc::new(SimClock(Arc::clone(world)));
        let chance = Arc::new(SimChance(Arc::clone(world)));
        let sql = |name: &str| self.store(name).sql(world);
        payment::service::migrate(&sql(PAYMENTS)).await?;
        let provider = Arc::new(Model { till: Arc::clone(&self.till), world: Arc::clone(world), life });
        let payments = payment::service::Service::new(
            sql(PAYMENTS),
            Arc::clone(&clock),
            Arc::clone(&chance) as _,
            provider,
        );
        let stock = inventory::service::Service::open(sql(INVENTORY), Arc::clone(&clock)).await?;
        let all = order::shards::numbered(SHARDS.into_iter().map(sql).collect());
        let shards = order::shards::Shards::open(all, clock.now(), &*chance).await?;
        let list = order::list::List::open(sql(LIST), &shards).await?;
        let shelf = Shelf { prices: Arc::clone(&self.prices), world: Arc::clone(world), life };
        let holds = Holds { sale: Arc::clone(&self.sale), world: Arc::clone(world), life };
        let orders = order::service::Service::new(order::service::Needs {
            shards,
            list: list.clone(),
            clock,
            chance,
            catalog: Arc::new(shelf),
            sales: Arc::new(holds),
            payments: Arc::clone(&payments) as _,
            stock: Arc::clone(&stock) as _,
            rules: rules(),
        });
        let posts = |topic| -> Arc<dyn Posts> {
            Arc::new(Told { bus: Arc::clone(&self.bus), world: Arc::clone(world), life, topic })
        };
        let inbox = |followed| -> Arc<dyn Inbox> {
            Arc::new(Follows { bus: Arc::clone(&self.bus), world: Arc::clone(world), life, followed })
        };
        let follows = order::service::Follows {
            sales: inbox(Followed::Sales),
            payments: inbox(Followed::Payments),
            orders: inbox(Followed::Orders),
        };
        let loops = vec![
            payments.start(posts(Topic::Payments)),
            stock.start(posts(Topic::Stock)),
            orders.start(follows, posts(Topic::Orders)),
        ];
        Ok(Process::new(orders, list, payments, stock, loops))
    }
}

/// Two ways of shipping, and a tax that the prices have.
fn rules() -> Rules {
    let way = |id: &str, price_minor| ShippingMethod {
        id: id.into(),
        name: id.into(),
        name_zh: id.into(),
        price_minor,
    };
    let shipping = vec![way("standard", 0), way("express", 2_000)];
    Rules { shipping, tax: Arc::new(IncludedTax { basis_points: 1_300 }) }
}
