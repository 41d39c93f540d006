//! The stock as a service: what orders may ask, what operators do, and the loops that expire
//! reservations and tell others.

use crate::{
    audit::{self, Found},
    core::{
        self, Change, Claim, Houses, Kind, Refused, Reservation, Spot, TransferRefused, UNITS_MAX, Unfit,
    },
    store::{self, Remembered, Stored},
    transactions::{self, RETURNED_MAX, Reserving, StockError, Wanted},
    warehouses::{self, Warehouse},
};
use contracts::{
    Actor, CommandKey, SaleId,
    store::{
        Asked, CameBack, OrderId, Posts, Reserved, Sku, Stock, StockLevel, StockLine, StoreError, TakenFrom,
        TransferId, WarehouseId,
    },
};
use engines::{
    cache::{
        CacheError, Key,
        loading::{Loading, Settings},
    },
    clock::Clock,
    sql::{
        Sql, SqlError, Tx,
        outbox::{self, NotTold},
        together::{Bounds, Together},
        trail,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use units::TimeMs;
use web::{command_key::hash, warning::Warning};

pub mod sheets;
pub mod transfers;

/// Reservations that one transaction ends.
const EXPIRED_MAX: usize = 50;
/// How often it is looked for reservations whose time has come, and for commands to forget.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGOTTEN_MAX: usize = 500;
/// Rows of one answer, at the most.
const PAGE_MAX: usize = 500;
/// SKUs of which one question asks.
const SKUS_MAX: usize = core::LINES_MAX;
/// Units that one command moves.
pub(crate) const MOVED_MAX: u64 = 1_000_000_000;
/// Characters of a warehouse's name, at the most.
const NAME_MAX: usize = 100;
/// What a parcel costs, and after how many days it arrives, at the most.
const PARCEL_COST_MAX: u64 = 1_000_000_000;
const DAYS_MAX: u32 = 365;
/// Bytes of the key of what came back.
const KEY_MAX: usize = 64;

/// A page may show levels of a second ago: what can be had is decided when it is asked for.
const SHOWN: Settings =
    Settings { bytes_max: 16 << 20, kept_for: Duration::from_secs(1), none_kept_for: Duration::from_secs(1) };

/// Baskets that wait, and the lines of those that one transaction sets aside.
const RESERVING: Bounds = Bounds { waiting_max: 1024, waiting_weight_max: 1 << 14, weight_max: 256 };

const KEYS: &str = "floodgate inventory command keys v1";
const COMMANDS: &str = "floodgate inventory commands v1";

/// The context's service.
pub struct Service {
    sql: Sql,
    clock: Arc<dyn Clock>,
    outbox: Notify,
    /// Orders that are placed at once.
    reserving: Together<Arc<Wanted>, Reserving, StockError>,
    /// A sheet is large: they are taken one at a time.
    sheets: Semaphore,
    /// What pages show.
    shown: Arc<Loading<Vec<StockLevel>, NotShown>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// The level of a SKU after a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StockMoved")]
pub struct Moved {
    /// By so many units what is on hand has changed.
    pub change: i64,
    #[serde(flatten)]
    pub level: LevelView,
}

/// The level of a SKU, in all warehouses together and in each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StockLevel")]
pub struct LevelView {
    pub sku: Sku,
    pub on_hand: u64,
    /// Set aside for orders that are not shipped.
    pub reserved: u64,
    /// Set aside for sales, without what is reserved of it.
    pub claimed: u64,
    /// What others may have: what nothing is set aside of, in warehouses that orders are sent from.
    pub free: u64,
    /// On their way from one warehouse to another, and on hand in none.
    // Answers that were remembered for their keys by earlier builds have none.
    #[serde(default)]
    #[schemars(!default)]
    pub in_transit: u64,
    /// How many entries its ledgers have.
    pub sequence: u64,
    // Answers that were remembered for their keys by earlier builds have none.
    #[serde(default)]
    #[schemars(!default)]
    pub warehouses: Vec<SpotLevel>,
}

/// The level of a SKU in one warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StockLevelOfWarehouse")]
pub struct SpotLevel {
    pub warehouse: WarehouseId,
    pub on_hand: u64,
    pub reserved: u64,
    pub claimed: u64,
    /// What nothing is set aside of.
    pub free: u64,
    /// On their way here.
    #[serde(default)]
    #[schemars(!default)]
    pub in_transit: u64,
    /// The number of the last entry of its ledger here.
    pub sequence: u64,
}

impl LevelView {
    /// Adds up the levels of a SKU in its warehouses; `houses` are those that orders are sent from.
    pub(crate) fn of(sku: Sku, levels: &[Stored], houses: &Houses) -> Self {
        let warehouses = Vec::with_capacity(levels.len());
        let (on_hand, reserved, claimed, free, in_transit, sequence) = (0, 0, 0, 0, 0, 0);
        let mut of = Self { sku, on_hand, reserved, claimed, free, in_transit, sequence, warehouses };
        for Stored { at, level, sequence } in levels {
            let (warehouse, free) = (at.warehouse.clone(), level.free());
            let core::Level { on_hand, reserved, claimed, in_transit } = *level;
            of.on_hand += on_hand;
            of.reserved += reserved;
            of.claimed += claimed;
            of.in_transit += in_transit;
            of.free += if houses.contains_key(&warehouse) { free } else { 0 };
            of.sequence += sequence;
            of.warehouses.push(SpotLevel {
                warehouse,
                on_hand,
                reserved,
                claimed,
                free,
                in_transit,
                sequence: *sequence,
            });
        }
        of
    }
}

/// A movement that the ledger has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "StockEntry")]
pub(crate) struct LedgerEntry {
    /// Its number in the ledger of this SKU in this warehouse, from 1.
    pub(crate) sequence: u64,
    pub(crate) warehouse: WarehouseId,
    pub(crate) at: TimeMs,
    pub(crate) kind: Kind,
    pub(crate) units: i64,
    /// Of a reservation, how many came out of a sale's claim; of its end, how many went back.
    pub(crate) of_claim: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sale: Option<SaleId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer: Option<TransferId>,
    pub(crate) actor: String,
    pub(crate) reason: String,
}

/// An answer of a database, for other contexts.
fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "the stock's database");
    }
    StoreError::Unavailable("the stock cannot be read or changed at the moment".into())
}

fn of_stock(error: StockError) -> StoreError {
    let why = error.to_string();
    match error {
        StockError::Sql(error) => of_sql(&error),
        StockError::UnknownSku(_)
        | StockError::UnknownWarehouse(_)
        | StockError::NoClaim(_)
        | StockError::NoTransfer(_)
        | StockError::NoReservation(_) => StoreError::NotFound(why),
        StockError::Number { why: Unfit::TooMany, .. }
        | StockError::Transfer(_, TransferRefused::SamePlace | TransferRefused::Unfit(_, Unfit::TooMany)) => {
            StoreError::Invalid(why)
        }
        StockError::Order(_, Refused::Unfit(..))
        | StockError::Transfer(_, TransferRefused::Unfit(_, Unfit::NotSetAside)) => {
            tracing::error!(why, "the stock's tables do not agree: audit them");
            StoreError::Unavailable(why)
        }
        StockError::Number { .. }
        | StockError::TooManyWarehouses
        | StockError::WarehouseChanged(..)
        | StockError::Taken { .. }
        | StockError::Order(..)
        | StockError::Changed { .. }
        | StockError::Moved { .. }
        | StockError::Line(..)
        | StockError::Transfer(..)
        | StockError::OtherTransfer(_)
        | StockError::OtherTakeBack { .. }
        | StockError::OtherCommand => StoreError::Conflict(why),
    }
}

fn invalid(why: impl fmt::Display) -> StoreError {
    StoreError::Invalid(why.to_string())
}

/// What becomes of a reservation that may be short.
fn reserved(done: Result<(), StockError>) -> Result<Reserved, StoreError> {
    match done {
        Ok(()) => Ok(Reserved::Whole),
        Err(StockError::Order(_, Refused::Short(lacking))) => Ok(Reserved::Short(lacking)),
        Err(error) => Err(of_stock(error)),
    }
}

/// Why levels are not shown.
#[derive(Debug, Clone)]
struct NotShown(StoreError);

impl From<CacheError> for NotShown {
    fn from(error: CacheError) -> Self {
        tracing::error!(%error, "stock: levels that pages show");
        Self(StoreError::Unavailable("the stock cannot be read at the moment".into()))
    }
}

async fn levels_of(sql: &Sql, skus: Vec<Sku>) -> Result<Vec<StockLevel>, StoreError> {
    if skus.len() > SKUS_MAX {
        return Err(invalid(format_args!("skus: want {SKUS_MAX} at the most")));
    }
    let found = sql.read(move |tx| {
        let houses = warehouses::houses(tx)?;
        let each = skus.iter().map(|sku| Ok((sku.clone(), store::levels_of(tx, sku)?)));
        Ok((each.collect::<Result<Vec<_>, SqlError>>()?, houses))
    });
    let (found, houses) = found.await.map_err(|error| of_sql(&error))?;
    // What lies where no orders are sent from is not for those who ask here.
    let level = |(sku, levels): (Sku, Vec<Stored>)| {
        let sent_from = levels.iter().filter(|of| houses.contains_key(&of.at.warehouse));
        let sum = |figure: fn(&core::Level) -> u64| sent_from.clone().map(|of| figure(&of.level)).sum();
        StockLevel {
            sku,
            on_hand: sum(|of| of.on_hand),
            reserved: sum(|of| of.reserved),
            claimed: sum(|of| of.claimed),
        }
    };
    Ok(found.into_iter().filter(|(_, levels)| !levels.is_empty()).map(level).collect())
}

impl Service {
    /// Brings the tables up to date.
    pub async fn open(sql: Sql, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SqlError> {
        sql.migrate(store::MIGRATIONS).await?;
        let shown = Loading::new(SHOWN, None, Arc::clone(&clock));
        let reserving = Together::new(sql.clone(), RESERVING, transactions::reserve);
        Ok(Arc::new(Self { sql, clock, outbox: Notify::new(), reserving, sheets: Semaphore::new(1), shown }))
    }

    /// Ends reservations whose time has come, and tells others, for as long as the answer is kept.
    pub fn start(self: &Arc<Self>, posts: Arc<dyn Posts>) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        loops.spawn(Arc::clone(self).expire_what_is_due());
        loops.spawn(Arc::clone(self).forget_commands());
        loops.spawn(Arc::clone(self).tell_others(posts));
        loops
    }

    async fn write<T: Send + 'static>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, StockError> + Send + 'static,
    ) -> Result<T, StockError> {
        let done = self.sql.write(body).await;
        if done.is_ok() {
            self.outbox.notify_one();
        }
        done
    }

    async fn read<T: Send + 'static>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.sql.read(body).await.map_err(|error| of_sql(&error))
    }

    /// Makes a SKU known, with nothing on hand. Returns whether it was not.
    pub async fn make_known(&self, sku: Sku) -> Result<bool, StoreError> {
        let at = Spot::from(sku);
        self.write(move |tx| Ok(store::make_known(tx, &at)?)).await.map_err(of_stock)
    }

    /// All warehouses, by their ids.
    pub async fn warehouses(&self) -> Result<Vec<Warehouse>, StoreError> {
        self.read(warehouses::all).await
    }

    /// Makes a warehouse, or changes it; `seen` is the version that was seen of it, 0 of none.
    /// Returns whether it is new.
    pub async fn put_warehouse(
        &self,
        by: Actor,
        of: Warehouse,
        seen: Option<u64>,
    ) -> Result<(Warehouse, bool), StoreError> {
        let name = of.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_MAX || name.contains(char::is_control) {
            return Err(invalid(format_args!("name: want 1 to {NAME_MAX} characters in one line")));
        }
        if of.parcel_cost > PARCEL_COST_MAX {
            return Err(invalid(format_args!("parcel_cost: want {PARCEL_COST_MAX} at the most")));
        }
        if of.days > DAYS_MAX {
            return Err(invalid(format_args!("days: want {DAYS_MAX} at the most")));
        }
        let (of, now) = (Warehouse { name, ..of }, self.clock.now());
        let done = self.write(move |tx| transactions::put_warehouse(tx, now, &by, &of, seen));
        done.await.map_err(of_stock)
    }

    /// What operators have changed of the warehouses, newest first.
    pub(crate) async fn trail(
        &self,
        subject: Option<String>,
        before: Option<u64>,
        at_most: usize,
    ) -> Result<Vec<trail::Stored>, StoreError> {
        self.read(move |tx| trail::page(tx, subject.as_deref(), before, at_most)).await
    }

    /// Makes a SKU known with so many units on hand, of which a sale may claim some; unless it is
    /// known already.
    pub async fn open_with(
        &self,
        by: Actor,
        sku: Sku,
        units: u64,
        claimed: Option<(SaleId, u64)>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let done = self.write(move |tx| {
            let at = Spot::from(sku.clone());
            if !store::make_known(tx, &at)? {
                return Ok(());
            }
            if units > 0 {
                transactions::change_level(tx, now, &by, &at, Change::Receive { units })?;
            }
            if let Some((sale, units)) = &claimed {
                transactions::claim(tx, now, &by, sale, &sku, *units)?;
            }
            Ok(())
        });
        done.await.map_err(of_stock)
    }

    /// What an operator does with the units of one SKU, in the main warehouse if none is named;
    /// with a key, once.
    pub async fn change(
        &self,
        by: Actor,
        key: Option<String>,
        at: impl Into<Spot>,
        change: Change,
    ) -> Result<Moved, StoreError> {
        self.change_seen(by, key, at.into(), change, None).await
    }

    /// The same, if there are still as many units on hand as the operator has seen.
    pub(crate) async fn change_seen(
        &self,
        by: Actor,
        key: Option<String>,
        at: Spot,
        change: Change,
        seen: Option<u64>,
    ) -> Result<Moved, StoreError> {
        check(change).map_err(invalid)?;
        let now = self.clock.now();
        let key = key.map(|key| CommandKey {
            id: hash(KEYS, &[&by.name, &key]),
            command: command_hash(&by.reason, &at, change),
        });
        let done = self.write(move |tx| {
            let body = |tx: &mut Tx<'_>| {
                transactions::want_on_hand(tx, &at, seen)?;
                moved(tx, now, &by, &at, change)
            };
            match key {
                Some(key) => once(tx, now, key, body),
                None => body(tx),
            }
        });
        done.await.map_err(of_stock)
    }

    /// Sets how many units of a SKU a sale has in all. They are taken from what is free.
    pub async fn claim(&self, by: Actor, sale: SaleId, sku: Sku, units: u64) -> Result<Claim, StoreError> {
        self.claim_one(by, sale, sku, units).await.map(|(claim, _)| claim)
    }

    pub(crate) async fn claim_one(
        &self,
        by: Actor,
        sale: SaleId,
        sku: Sku,
        units: u64,
    ) -> Result<(Claim, LevelView), StoreError> {
        self.claim_seen(by, (sale, sku), units, None).await
    }

    /// The same, if the sale has still as many in all as the operator has seen.
    pub(crate) async fn claim_seen(
        &self,
        by: Actor,
        (sale, sku): (SaleId, Sku),
        units: u64,
        seen: Option<u64>,
    ) -> Result<(Claim, LevelView), StoreError> {
        if units > UNITS_MAX {
            return Err(invalid(format_args!("units: want {UNITS_MAX} at the most")));
        }
        let now = self.clock.now();
        let done = self.write(move |tx| {
            transactions::want_claimed(tx, &sale, &sku, seen)?;
            let (claim, levels) = transactions::claim(tx, now, &by, &sale, &sku, units)?;
            Ok((claim, LevelView::of(sku.clone(), &levels, &warehouses::houses(tx)?)))
        });
        done.await.map_err(of_stock)
    }

    /// The sale gives back what is left of its claims. Returns how many units of each SKU; a sale
    /// that has given them back gives nothing back again.
    pub async fn return_claim(&self, by: Actor, sale: SaleId) -> Result<Vec<(Sku, u64)>, StoreError> {
        let (now, mut all) = (self.clock.now(), Vec::<(Sku, u64)>::new());
        loop {
            let after = all.last().map(|(sku, _)| sku.to_string()).unwrap_or_default();
            let (by, of) = (by.clone(), sale.clone());
            let some = self.write(move |tx| transactions::return_claims(tx, now, &by, &of, &after));
            let some = some.await.map_err(of_stock)?;
            let count = some.len();
            all.extend(some);
            if count < RETURNED_MAX {
                break;
            }
        }
        match all.is_empty() {
            true => Err(of_stock(StockError::NoClaim(sale))),
            false => Ok(all),
        }
    }

    /// The claims of a sale on SKUs after `after`.
    pub async fn claims(
        &self,
        sale: SaleId,
        after: String,
        at_most: usize,
    ) -> Result<Vec<(Sku, Claim)>, StoreError> {
        self.read(move |tx| store::claims_of(tx, &sale, &after, at_most.clamp(1, PAGE_MAX))).await
    }

    /// Levels of SKUs after `after` that begin with `prefix`.
    pub(crate) async fn list(
        &self,
        prefix: String,
        after: String,
        at_most: usize,
    ) -> Result<Vec<LevelView>, StoreError> {
        let read = self.read(move |tx| {
            let (levels, _) = store::levels(tx, &prefix, &after, at_most)?;
            Ok((levels, warehouses::houses(tx)?))
        });
        let (levels, houses) = read.await?;
        let by_sku = levels.chunk_by(|one, other| one.at.sku == other.at.sku);
        Ok(by_sku.map(|of| LevelView::of(of[0].at.sku.clone(), of, &houses)).collect())
    }

    pub(crate) async fn level(&self, sku: Sku) -> Result<LevelView, StoreError> {
        let of = sku.clone();
        let read = self.read(move |tx| Ok((store::levels_of(tx, &of)?, warehouses::houses(tx)?)));
        let (levels, houses) = read.await?;
        match levels.is_empty() {
            true => Err(of_stock(StockError::UnknownSku(sku))),
            false => Ok(LevelView::of(sku, &levels, &houses)),
        }
    }

    /// The ledger of a SKU in a warehouse, newest first, before an entry.
    pub(crate) async fn ledger(
        &self,
        at: Spot,
        before: Option<u64>,
        at_most: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let before = before.unwrap_or(i64::MAX as u64).min(i64::MAX as u64);
        let of = at.clone();
        let found = self.read(move |tx| {
            if store::levels_of(tx, &of.sku)?.is_empty() {
                return Ok(Err(StockError::UnknownSku(of.sku.clone())));
            }
            if warehouses::all(tx)?.iter().all(|known| known.warehouse != of.warehouse) {
                return Ok(Err(StockError::UnknownWarehouse(of.warehouse.clone())));
            }
            store::newest_entries(tx, &of, before, at_most).map(Ok)
        });
        let found = found.await?.map_err(of_stock)?;
        let entry = |entry: store::Entry| LedgerEntry {
            sequence: entry.sequence,
            warehouse: at.warehouse.clone(),
            at: entry.at,
            kind: entry.moved.movement.kind,
            units: entry.moved.movement.units,
            of_claim: entry.moved.movement.of_claim,
            order: entry.moved.order,
            sale: entry.moved.sale,
            transfer: entry.moved.transfer,
            actor: entry.by.name,
            reason: entry.by.reason,
        };
        Ok(found.into_iter().map(entry).collect())
    }

    /// The reservation of an order.
    pub async fn reservation(&self, order: OrderId) -> Result<Reservation, StoreError> {
        let read = self.read(move |tx| store::reservations(tx, &BTreeSet::from([order]), false));
        read.await?.pop().ok_or_else(|| of_stock(StockError::NoReservation(order)))
    }

    /// Derives the levels of SKUs after `after` again, and says where they differ.
    pub async fn audit(&self, after: String, at_most: usize) -> Result<Found, StoreError> {
        let found = audit::audit(&self.sql, after, at_most.clamp(1, PAGE_MAX)).await;
        found.map_err(|error| of_sql(&error))
    }

    async fn reserve_one(
        &self,
        order: OrderId,
        from: TakenFrom,
        lines: Vec<StockLine>,
        until: TimeMs,
    ) -> Result<Reserved, StoreError> {
        let basket = core::basket(&lines).map_err(invalid)?;
        let sale = match from {
            TakenFrom::Free => None,
            TakenFrom::Claim(sale) => Some(sale),
        };
        let (now, until) = (self.clock.now(), until.min(TimeMs::MAX));
        let weight = basket.len();
        let wanted = Arc::new(Wanted { now, order, sale, basket, until });
        let mut done = Ok(Reserving::Again);
        if weight <= RESERVING.weight_max {
            done = self.reserving.ask(Arc::clone(&wanted), weight).await;
            self.outbox.notify_one();
        }
        let done = match done {
            Ok(Reserving::Again) => self.write(move |tx| transactions::reserve_one(tx, &wanted)).await,
            done => done.map(drop),
        };
        reserved(done)
    }

    async fn take_back_one(
        &self,
        order: OrderId,
        key: String,
        lines: Vec<StockLine>,
        what: CameBack,
    ) -> Result<(), StoreError> {
        let basket = core::basket(&lines).map_err(invalid)?;
        if !(1..=KEY_MAX).contains(&key.len()) || key.contains(char::is_control) {
            return Err(invalid(format_args!("key: want 1 to {KEY_MAX} bytes without control characters")));
        }
        let now = self.clock.now();
        let done = self.write(move |tx| transactions::take_back(tx, now, order, &key, &basket, what));
        done.await.map_err(of_stock)
    }

    /// A page asks for all of a product's units at once: what it gets is kept as a whole.
    async fn levels_shown(&self, skus: Vec<Sku>) -> Result<Vec<StockLevel>, StoreError> {
        let all: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let (key, sql) = (Key::new(all.join(" "), ""), self.sql.clone());
        let read = || async move { levels_of(&sql, skus).await.map(Some).map_err(NotShown) };
        let kept = self.shown.get(key, read).await.map_err(|error| error.0)?;
        Ok(kept.map_or_else(Vec::new, |kept| kept.to_vec()))
    }
    async fn expire_what_is_due(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            match self.expire_due().await {
                Ok(EXPIRED_MAX) => continue,
                Ok(_) => {}
                Err(error) => {
                    if let Some(count) = warning.due() {
                        tracing::warn!(%error, count, "stock: reservations that have expired wait");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends some reservations whose time has come. Returns how many were due.
    pub async fn expire_due(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let due = self.sql.primary().read(move |tx| store::due(tx, now, EXPIRED_MAX)).await;
        let due = due.map_err(|error| of_sql(&error))?;
        let count = due.len();
        if count > 0 {
            let orders = due.into_iter().collect();
            let done = self.write(move |tx| Ok(transactions::expire(tx, now, &orders)?)).await;
            for error in done.map_err(of_stock)? {
                tracing::error!(%error, "stock: a reservation cannot expire: audit the stock; it is tried again in an hour");
            }
        }
        Ok(count)
    }

    async fn forget_commands(self: Arc<Self>) {
        loop {
            let now = self.clock.now();
            match self.sql.write(move |tx| store::forget(tx, now, FORGOTTEN_MAX)).await {
                Ok(FORGOTTEN_MAX) => continue,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "stock: commands are forgotten later"),
            }
            tokio::time::sleep(FORGET_EVERY).await;
        }
    }

    async fn tell_others(self: Arc<Self>, posts: Arc<dyn Posts>) {
        let (posts, mut warning) = (&*posts, Warning::default());
        let failed = |error: NotTold<StoreError>| {
            if let Some(count) = warning.due() {
                tracing::warn!(%error, count, "stock: events wait, they cannot be told now");
            }
        };
        let databases = std::slice::from_ref(&self.sql);
        outbox::tell(databases, &self.outbox, |events| posts.post(events), failed).await;
    }
}

fn moved(tx: &mut Tx<'_>, now: TimeMs, by: &Actor, at: &Spot, change: Change) -> Result<Moved, StockError> {
    let (change, levels) = transactions::change_level(tx, now, by, at, change)?;
    Ok(Moved { change, level: LevelView::of(at.sku.clone(), &levels, &warehouses::houses(tx)?) })
}

/// Does something once for a key; a repeat of the same gets the same answer.
fn once<T>(
    tx: &mut Tx<'_>,
    now: TimeMs,
    CommandKey { id, command }: CommandKey,
    act: impl FnOnce(&mut Tx<'_>) -> Result<T, StockError>,
) -> Result<T, StockError>
where
    T: Serialize + DeserializeOwned,
{
    let unreadable = |error: serde_json::Error| SqlError::Defect(format!("a command's answer: {error}"));
    match store::remember(tx, now, id, command)? {
        Remembered::Answer(answer) => Ok(serde_json::from_str(&answer).map_err(unreadable)?),
        Remembered::Other => Err(StockError::OtherCommand),
        Remembered::New => {
            let done = act(tx)?;
            store::note_answer(tx, id, &serde_json::to_string(&done).map_err(unreadable)?)?;
            Ok(done)
        }
    }
}

/// Why a number can be none that an operator means.
fn check(change: Change) -> Result<(), String> {
    match change {
        Change::Receive { units } if !(1..=MOVED_MAX).contains(&units) => {
            Err(format!("units: want 1 to {MOVED_MAX}"))
        }
        Change::Adjust { change } if change == 0 || change.unsigned_abs() > MOVED_MAX => {
            Err(format!("change: want -{MOVED_MAX} to {MOVED_MAX}, and not 0"))
        }
        Change::Count { counted } if counted > UNITS_MAX => {
            Err(format!("counted: want {UNITS_MAX} at the most"))
        }
        Change::Receive { .. } | Change::Adjust { .. } | Change::Count { .. } => Ok(()),
    }
}

/// Identifies a command. The database has it, so it is the same in every build.
fn command_hash(reason: &str, at: &Spot, change: Change) -> [u8; 16] {
    let (name, number) = match change {
        Change::Receive { units } => ("receive", units.to_string()),
        Change::Adjust { change } => ("adjust", change.to_string()),
        Change::Count { counted } => ("count", counted.to_string()),
    };
    let mut of = vec![reason, at.sku.as_str(), name, &number];
    // Before there were others, none was named.
    of.extend((at.warehouse.as_str() != WarehouseId::MAIN).then_some(at.warehouse.as_str()));
    hash(COMMANDS, &of)
}

impl Stock for Service {
    fn levels(&self, skus: Vec<Sku>) -> Asked<'_, Vec<StockLevel>> {
        Box::pin(levels_of(&self.sql, skus))
    }

    fn shown(&self, skus: Vec<Sku>) -> Asked<'_, Vec<StockLevel>> {
        Box::pin(self.levels_shown(skus))
    }

    fn reserve(
        &self,
        order: OrderId,
        from: TakenFrom,
        lines: Vec<StockLine>,
        until: TimeMs,
    ) -> Asked<'_, Reserved> {
        Box::pin(self.reserve_one(order, from, lines, until))
    }

    fn confirm(&self, order: OrderId) -> Asked<'_, Reserved> {
        Box::pin(async move {
            let now = self.clock.now();
            reserved(self.write(move |tx| transactions::confirm(tx, now, order)).await)
        })
    }

    fn release(&self, order: OrderId, reason: String) -> Asked<'_, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            let done = self.write(move |tx| transactions::release(tx, now, order, &reason));
            done.await.map_err(of_stock)
        })
    }

    fn ship(&self, order: OrderId) -> Asked<'_, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            self.write(move |tx| transactions::ship(tx, now, order)).await.map_err(of_stock)
        })
    }

    fn take_back(&self, order: OrderId, key: String, lines: Vec<StockLine>, what: CameBack) -> Asked<'_, ()> {
        Box::pin(self.take_back_one(order, key, lines, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn hex(bytes: [u8; 16]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The database has such hashes: a change of one refuses retries across the upgrade.
    #[test]
    fn the_hash_of_each_command_is_the_same_in_every_build() {
        let sku: Spot = "P-1".parse::<Sku>().unwrap().into();
        let commands =
            [Change::Receive { units: 5 }, Change::Adjust { change: -5 }, Change::Count { counted: 5 }];
        let hashes = commands.map(|change| hex(command_hash("because", &sku, change)));
        assert_eq!(
            hashes,
            [
                "e1623fe1c5e95fc03759d643122e0bf6",
                "deb9855d30f42890363827dfe85a0aa0",
                "c28afadc6dd2aa7bc18f749dec101ed7"
            ]
        );
    }
}
