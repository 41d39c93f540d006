//! Winners: each hold that a sale grants becomes one order, and what becomes of the hold is
//! followed. An event that comes again changes nothing: an order knows the last entry of the
//! sale's log that it has followed, and that is written in one transaction with what follows from
//! it.

use crate::{
    core::{By, Command, HoldEvent, Place},
    directory::{self, Wants},
    service::Service,
    shards::Seen,
    store::{self, NewOrder, OrderError, whole_name},
};
use contracts::{
    AttemptId, ItemId, SaleId,
    store::{Bucket, Charges, Ended, HoldRef, OrderId, OrderLine, Product, Pulled, Receipt, Sku, Variant},
};
use engines::{
    chance::Chance,
    sql::{SqlError, Tx},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use units::{Currency, DurationMs, TimeMs};

/// How long the catalogue's names of a sale's items are used.
const NAMES_FOR: DurationMs = DurationMs(60_000);

/// The products of sales; `None` of one of which the catalogue has not answered yet.
type Products = BTreeMap<SaleId, Option<Arc<Vec<Product>>>>;

/// An event of the topic `sales`.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    sale: SaleId,
    /// Events of earlier builds do not say it.
    #[serde(default)]
    log: String,
    sequence: u64,
    hold: Option<AttemptId>,
    shopper: Option<String>,
    lines: Option<Vec<Line>>,
    currency: Option<Currency>,
    pay_by: Option<TimeMs>,
    payment: Option<String>,
    late: Option<bool>,
    reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Line {
    item: ItemId,
    quantity: u32,
    price_minor: u64,
}

/// What is told of one hold.
#[derive(Debug, Clone)]
struct News {
    receipt: Receipt,
    hold: HoldRef,
    place: Place,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Granted { shopper: String, lines: Vec<Line>, currency: Currency, pay_by: TimeMs },
    Event(HoldEvent),
}

/// `None` for an event that is not about a hold.
fn read(pulled: &Pulled) -> Result<Option<News>, String> {
    let Told { kind, data } = serde_json::from_str(&pulled.event).map_err(|error| error.to_string())?;
    let Some(kind) = kind.strip_prefix("floodgate.sale.") else { return Ok(None) };
    let lacks = |what: &str| format!("{kind}: it has no {what}");
    let what = match kind {
        "granted" => What::Granted {
            shopper: data.shopper.ok_or_else(|| lacks("shopper"))?,
            lines: data.lines.ok_or_else(|| lacks("lines"))?,
            currency: data.currency.ok_or_else(|| lacks("currency"))?,
            pay_by: data.pay_by.ok_or_else(|| lacks("pay_by"))?,
        },
        "confirmed" => What::Event(HoldEvent::Confirmed {
            payment: data.payment.ok_or_else(|| lacks("payment"))?,
            is_late: data.late.unwrap_or(false),
        }),
        "released" => What::Event(HoldEvent::Released),
        "expired" => What::Event(HoldEvent::Expired),
        "voided" => What::Event(HoldEvent::Voided { reason: data.reason.unwrap_or_default() }),
        "refund_due" => {
            What::Event(HoldEvent::RefundDue { payment: data.payment.ok_or_else(|| lacks("payment"))? })
        }
        _ => return Ok(None),
    };
    let hold = HoldRef { sale: data.sale, hold: data.hold.ok_or_else(|| lacks("hold"))? };
    let place = Place { log: data.log, sequence: data.sequence };
    Ok(Some(News { receipt: pulled.receipt, hold, place, what }))
}

impl Service {
    /// Makes orders of the holds, and lets them follow their sales. Returns how the work on each
    /// event ended.
    pub(crate) async fn import(self: Arc<Self>, pulled: Vec<Pulled>) -> Vec<(Receipt, Ended)> {
        let (mut ended, mut all) = (Vec::new(), Vec::new());
        // Where an order is to be written is looked up in the newest directory.
        if let Err(error) = self.needs.shards.refresh().await {
            tracing::warn!(%error, "the directory of orders cannot be read: the one that is known is used");
        }
        for one in &pulled {
            match read(one) {
                Ok(Some(news)) => all.push(news),
                Ok(None) => ended.push((one.receipt, Ended::Done)),
                Err(why) => {
                    tracing::error!(why, number = one.receipt.number, "an event of a sale cannot be read");
                    ended.push((one.receipt, Ended::Failed));
                }
            }
        }
        let (shards, waiting) = self.by_shard(all).await;
        ended.extend(waiting.into_iter().map(|receipt| (receipt, Ended::Later)));
        for (shard, news) in shards {
            ended.extend(self.import_into(shard, news).await);
        }
        self.wake();
        ended
    }

    /// Each hold's news with the number of its shard. A grant names the shopper, and so the shard;
    /// where the order of a hold lies that was granted before, each shard is asked, once for all.
    async fn by_shard(&self, all: Vec<News>) -> (BTreeMap<usize, Vec<News>>, Vec<Receipt>) {
        let mut known: BTreeMap<HoldRef, usize> = BTreeMap::new();
        let mut is_complete = true;
        for news in &all {
            if let What::Granted { shopper, .. } = &news.what {
                match self.needs.shards.number_of(Bucket::of_shopper(shopper)) {
                    Ok(shard) => drop(known.insert(news.hold.clone(), shard)),
                    Err(error) => {
                        tracing::error!(%error, "winners wait");
                        is_complete = false;
                    }
                }
            }
        }
        let sought: BTreeSet<&HoldRef> = all.iter().map(|news| &news.hold).collect();
        let sought = sought.into_iter().filter(|hold| !known.contains_key(*hold)).cloned();
        let sought: Arc<Vec<HoldRef>> = Arc::new(sought.collect());
        let (mut seen, is_any_sought) = (Seen::default(), !sought.is_empty());
        for (number, shard) in self.needs.shards.all().iter().enumerate() {
            if sought.is_empty() {
                break;
            }
            let asked = Arc::clone(&sought);
            // What is not found becomes an order.
            let sql = shard.sql.primary();
            let found = sql.read(move |tx| {
                let here = directory::read_here(tx)?;
                let found = asked.iter().map(|hold| match store::of_hold(tx, hold)? {
                    Some(order) => directory::is_here(tx, order.bucket(), Wants::Read),
                    None => Ok(false),
                });
                Ok((here, found.collect::<Result<Vec<bool>, SqlError>>()?))
            });
            match found.await {
                Ok((here, found)) => {
                    seen.add(here);
                    let here = sought.iter().zip(found).filter(|(_, is_here)| *is_here);
                    known.extend(here.map(|(hold, _)| (hold.clone(), number)));
                }
                Err(error) => {
                    let error: SqlError = error;
                    tracing::warn!(%error, shard = shard.name, "winners wait: orders cannot be read");
                    is_complete = false;
                }
            }
        }
        // An order may have been on its way from a database to another.
        is_complete &= !is_any_sought || seen.is_each_once();
        let (mut shards, mut waiting) = (BTreeMap::<usize, Vec<News>>::new(), Vec::new());
        for news in all {
            match known.get(&news.hold) {
                Some(shard) => shards.entry(*shard).or_default().push(news),
                None if !is_complete => waiting.push(news.receipt),
                // One that no shard knows is refused there, and comes again.
                None => shards.entry(0).or_default().push(news),
            }
        }
        (shards, waiting)
    }

    /// One transaction for all of them.
    async fn import_into(&self, shard: usize, news: Vec<News>) -> Vec<(Receipt, Ended)> {
        let mut products = Products::new();
        for one in &news {
            if matches!(one.what, What::Granted { .. }) && !products.contains_key(&one.hold.sale) {
                let sale = one.hold.sale.clone();
                let known = self.products_of(&sale, false).await;
                // The catalogue may have learnt of an item since it was asked.
                let is_new = |products: &Arc<Vec<Product>>| lacks_an_item(&news, &sale, products);
                let known = match known.as_ref().is_some_and(is_new) {
                    true => self.products_of(&sale, true).await,
                    false => known,
                };
                products.insert(sale, known);
            }
        }
        let (news, products) = (Arc::new(news), Arc::new(products));
        match self.write_all(shard, &news, &products).await {
            Ok(ended) => ended,
            Err(error) if error.passes() && error != SqlError::TooLong => {
                tracing::warn!(%error, shard, count = news.len(), "winners wait: orders cannot be written");
                news.iter().map(|one| (one.receipt, Ended::Later)).collect()
            }
            // One of them is the reason: the others do not wait for it.
            Err(_) => {
                let mut ended = Vec::new();
                for one in news.iter() {
                    let alone = Arc::new(vec![one.clone()]);
                    ended.extend(self.write_all(shard, &alone, &products).await.unwrap_or_else(|error| {
                        tracing::error!(%error, shard, hold = %one.hold.hold, "an order cannot be written");
                        let outcome = if error.passes() { Ended::Later } else { Ended::Failed };
                        vec![(one.receipt, outcome)]
                    }));
                }
                ended
            }
        }
    }

    async fn write_all(
        &self,
        shard: usize,
        news: &Arc<Vec<News>>,
        products: &Arc<Products>,
    ) -> Result<Vec<(Receipt, Ended)>, SqlError> {
        let (news, products, now) = (Arc::clone(news), Arc::clone(products), self.needs.clock.now());
        let chance = Arc::clone(&self.needs.chance);
        let written = self.needs.shards.all()[shard].sql.write(move |tx| {
            let each = news.iter().map(|one| Ok((one.receipt, follow(tx, (now, &*chance), one, &products)?)));
            each.collect()
        });
        written.await
    }

    /// The catalogue's products of a sale; `None` if it has not answered yet.
    async fn products_of(&self, sale: &SaleId, is_anew: bool) -> Option<Arc<Vec<Product>>> {
        let mut names = self.names.lock().await;
        let now = self.needs.clock.now();
        if let Some((at, products)) = names.get(sale)
            && !is_anew
            && now < at.plus(NAMES_FOR)
        {
            return Some(Arc::clone(products));
        }
        match self.needs.catalog.of_sale(sale.clone()).await {
            Ok(products) => {
                let products = Arc::new(products);
                names.insert(sale.clone(), (now, Arc::clone(&products)));
                Some(products)
            }
            Err(error) => {
                tracing::warn!(%error, %sale, "the catalogue does not answer");
                names.get(sale).map(|(_, products)| Arc::clone(products))
            }
        }
    }
}

/// Returns how it ended. An order that cannot follow is no reason for the others
/// to wait.
fn follow(
    tx: &mut Tx<'_>,
    (now, chance): (TimeMs, &dyn Chance),
    news: &News,
    products: &Products,
) -> Result<Ended, SqlError> {
    let (sale, hold) = (&news.hold.sale, &news.hold.hold);
    match &news.what {
        What::Granted { shopper, lines, currency, pay_by } => {
            if !directory::is_here(tx, Bucket::of_shopper(shopper), Wants::Change)? {
                return Ok(Ended::Later);
            }
            if let Some(order) = store::of_hold(tx, &news.hold)? {
                let command = Command::InSale { place: news.place.clone(), event: HoldEvent::Granted };
                let by = By { actor: "sale", reason: "granted again in the sale, which was restored" };
                let ended = apply(tx, now, order, by, command)?;
                // What comes again of the same log changes nothing.
                if ended == Some(true) {
                    store::set_pay_by(tx, order, *pay_by)?;
                }
                return Ok(if ended.is_some() { Ended::Done } else { Ended::Failed });
            }
            let Some(Some(known)) = products.get(sale) else { return Ok(Ended::Later) };
            let random = chance.bytes16().map_err(|error| SqlError::Shortage(error.to_string()))?;
            let new = NewOrder {
                id: OrderId::in_bucket(now, Bucket::of_shopper(shopper), random),
                shopper: shopper.clone(),
                hold: Some((news.hold.clone(), news.place.clone())),
                currency: *currency,
                lines: lines.iter().map(|line| order_line(sale, line, known)).collect(),
                charges: Charges::default(),
                address: None,
                pay_by: Some(*pay_by),
            };
            if new.total_minor().is_none() {
                tracing::error!(%sale, %hold, "a hold is no order: its total is too large");
                return Ok(Ended::Failed);
            }
            store::create(tx, now, By { actor: "sale", reason: "granted in the sale" }, &new)?;
            Ok(Ended::Done)
        }
        What::Event(event) => {
            let Some(order) = store::of_hold(tx, &news.hold)? else {
                tracing::warn!(%sale, %hold, "of this hold there is no order: its grant has not come, or was not kept");
                return Ok(Ended::Failed);
            };
            if !directory::is_here(tx, order.bucket(), Wants::Change)? {
                return Ok(Ended::Later);
            }
            let reason = match event {
                HoldEvent::Confirmed { is_late: false, .. } => "paid, says the sale",
                HoldEvent::Confirmed { is_late: true, .. } => "paid late, says the sale, and a unit was left",
                HoldEvent::Released => "given back in the sale",
                HoldEvent::Expired => "not paid in time, says the sale",
                HoldEvent::Voided { reason } => reason,
                HoldEvent::RefundDue { .. } => "the sale did not take the payment",
                HoldEvent::Granted => "granted in the sale",
            };
            let command = Command::InSale { place: news.place.clone(), event: event.clone() };
            let done = apply(tx, now, order, By { actor: "sale", reason }, command)?;
            Ok(if done.is_some() { Ended::Done } else { Ended::Failed })
        }
    }
}

/// Returns whether anything changed; `None` if the order refuses.
fn apply(
    tx: &mut Tx<'_>,
    now: TimeMs,
    order: OrderId,
    by: By<'_>,
    command: Command,
) -> Result<Option<bool>, SqlError> {
    match store::apply(tx, now, order, by, command) {
        Ok((_, is_changed)) => Ok(Some(is_changed)),
        Err(OrderError::Sql(error)) => Err(error),
        Err(error @ (OrderError::NotFound(_) | OrderError::Refused(_))) => {
            tracing::error!(%order, %error, "an order does not follow its sale");
            Ok(None)
        }
    }
}

/// The product, and its variant, that is an item of a sale.
fn variant_of<'a>(
    sale: &SaleId,
    item: &ItemId,
    products: &'a [Product],
) -> Option<(&'a Product, &'a Variant)> {
    let is_it = |variant: &&Variant| variant.offered_in.iter().any(|of| of.sale == *sale && of.item == *item);
    products.iter().find_map(|product| product.variants.iter().find(is_it).map(|variant| (product, variant)))
}

/// Whether a grant of the sale has an item that none of the products is.
fn lacks_an_item(news: &[News], sale: &SaleId, products: &[Product]) -> bool {
    news.iter().filter(|one| one.hold.sale == *sale).any(|one| match &one.what {
        What::Granted { lines, .. } => {
            lines.iter().any(|line| variant_of(sale, &line.item, products).is_none())
        }
        What::Event(_) => false,
    })
}

/// The line as the catalogue names it.
fn order_line(sale: &SaleId, line: &Line, products: &[Product]) -> OrderLine {
    let found = variant_of(sale, &line.item, products);
    let (quantity, price_minor) = (line.quantity, line.price_minor);
    match found {
        Some((product, variant)) => OrderLine {
            sku: variant.sku.clone(),
            name: whole_name(&product.name.en, &variant.name.en),
            name_zh: whole_name(&product.name.zh, &variant.name.zh),
            quantity,
            price_minor,
        },
        None => {
            let name = line.item.as_str().to_owned();
            let sku: Sku = name.parse().expect("an item's id is one");
            OrderLine { sku, name: name.clone(), name_zh: name, quantity, price_minor }
        }
    }
}
