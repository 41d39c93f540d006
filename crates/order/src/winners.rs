//! Winners: each hold that a sale grants becomes one order, and what becomes of the hold is followed.
//! An event that comes again changes nothing: an order knows the last entry of the sale's log that
//! it has followed, and that is written in one transaction with what follows from it.

use crate::{
    core::{By, Command, HoldEvent},
    service::Service,
    store::{self, NewOrder, OrderError},
};
use contracts::{
    AttemptId, ItemId, SaleId,
    store::{Bucket, HoldRef, OrderId, OrderLine, Product, Pulled, Receipt, Sku},
};
use engines::sql::{SqlError, Tx};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use units::{Currency, TimeMs};

/// How long the catalogue's names of a sale's items are used.
const NAMES_FOR: Duration = Duration::from_secs(60);

/// The products of each sale, and when the catalogue was asked.
pub(crate) type Names = BTreeMap<SaleId, (Instant, Arc<Vec<Product>>)>;

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
    sequence: u64,
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
    Ok(Some(News { receipt: pulled.receipt, hold, sequence: data.sequence, what }))
}

impl Service {
    /// Makes orders of the holds, and lets them follow their sales. Returns which events are done
    /// with; the others are to come again.
    pub(crate) async fn import(self: Arc<Self>, pulled: Vec<Pulled>) -> Vec<(Receipt, bool)> {
        let (mut ended, mut all) = (Vec::new(), Vec::new());
        for one in &pulled {
            match read(one) {
                Ok(Some(news)) => all.push(news),
                Ok(None) => ended.push((one.receipt, true)),
                Err(why) => {
                    tracing::error!(why, number = one.receipt.number, "an event of a sale cannot be read");
                    ended.push((one.receipt, false));
                }
            }
        }
        match self.by_shard(all).await {
            Ok(shards) => {
                for (shard, news) in shards {
                    ended.extend(self.import_into(shard, news).await);
                }
            }
            Err((news, error)) => {
                tracing::warn!(%error, "winners wait: orders cannot be read");
                ended.extend(news.into_iter().map(|receipt| (receipt, false)));
            }
        }
        self.wake();
        ended
    }

    /// Each hold's news with the number of its shard. A grant names the shopper, and so the shard;
    /// where the order of a hold lies that was granted before, each shard is asked, once for all.
    async fn by_shard(
        &self,
        all: Vec<News>,
    ) -> Result<BTreeMap<usize, Vec<News>>, (Vec<Receipt>, SqlError)> {
        let mut known: BTreeMap<HoldRef, usize> = BTreeMap::new();
        for news in &all {
            if let What::Granted { shopper, .. } = &news.what {
                let shard = self.needs.shards.number_of(Bucket::of_shopper(shopper));
                known.insert(news.hold.clone(), shard);
            }
        }
        let sought: BTreeSet<&HoldRef> = all.iter().map(|news| &news.hold).collect();
        let sought = sought.into_iter().filter(|hold| !known.contains_key(*hold)).cloned();
        let sought: Arc<Vec<HoldRef>> = Arc::new(sought.collect());
        for (number, shard) in self.needs.shards.all().iter().enumerate() {
            if sought.is_empty() {
                break;
            }
            let asked = Arc::clone(&sought);
            let found = shard.read(move |tx| {
                asked.iter().map(|hold| Ok(store::of_hold(tx, hold)?.is_some())).collect::<Result<Vec<bool>, SqlError>>()
            });
            match found.await {
                Ok(found) => {
                    let here = sought.iter().zip(found).filter(|(_, is_here)| *is_here);
                    known.extend(here.map(|(hold, _)| (hold.clone(), number)));
                }
                Err(error) => return Err((all.iter().map(|news| news.receipt).collect(), error)),
            }
        }
        let mut shards = BTreeMap::<usize, Vec<News>>::new();
        for news in all {
            // One that no shard knows is refused there, and comes again.
            let shard = known.get(&news.hold).copied().unwrap_or_default();
            shards.entry(shard).or_default().push(news);
        }
        Ok(shards)
    }

    /// One transaction for all of them.
    async fn import_into(&self, shard: usize, news: Vec<News>) -> Vec<(Receipt, bool)> {
        let mut products = BTreeMap::new();
        for one in &news {
            if matches!(one.what, What::Granted { .. }) && !products.contains_key(&one.hold.sale) {
                let sale = one.hold.sale.clone();
                products.insert(sale.clone(), self.products_of(sale).await);
            }
        }
        let now = self.needs.clock.now();
        let receipts: Vec<Receipt> = news.iter().map(|one| one.receipt).collect();
        let written = self.needs.shards.all()[shard].write(move |tx| {
            let each = news.iter().map(|one| Ok((one.receipt, follow(tx, now, one, &products)?)));
            each.collect::<Result<Vec<_>, SqlError>>()
        });
        written.await.unwrap_or_else(|error| {
            tracing::warn!(%error, shard, count = receipts.len(), "winners wait: orders cannot be written");
            receipts.into_iter().map(|receipt| (receipt, false)).collect()
        })
    }

    /// The catalogue's products of a sale. Without the catalogue an order has the names of the items.
    async fn products_of(&self, sale: SaleId) -> Arc<Vec<Product>> {
        let mut names = self.names.lock().await;
        if let Some((at, products)) = names.get(&sale)
            && at.elapsed() < NAMES_FOR
        {
            return Arc::clone(products);
        }
        match self.needs.catalog.of_sale(sale.clone()).await {
            Ok(products) => {
                let products = Arc::new(products);
                names.insert(sale, (Instant::now(), Arc::clone(&products)));
                products
            }
            Err(error) => {
                tracing::warn!(%error, %sale, "orders of the sale get its items' names: the catalogue does not answer");
                names.get(&sale).map_or_else(Arc::default, |(_, products)| Arc::clone(products))
            }
        }
    }
}

/// Returns whether the news are done with. An order that cannot follow is no reason for the others
/// to wait.
fn follow(
    tx: &mut Tx<'_>,
    now: TimeMs,
    news: &News,
    products: &BTreeMap<SaleId, Arc<Vec<Product>>>,
) -> Result<bool, SqlError> {
    let (sale, hold) = (&news.hold.sale, &news.hold.hold);
    match &news.what {
        What::Granted { shopper, lines, currency, pay_by } => {
            if store::of_hold(tx, &news.hold)?.is_some() {
                return Ok(true);
            }
            let known = products.get(sale).map(|products| products.as_slice()).unwrap_or_default();
            let new = NewOrder {
                id: OrderId::in_bucket(now, Bucket::of_shopper(shopper), random()?),
                shopper: shopper.clone(),
                hold: Some((news.hold.clone(), news.sequence)),
                currency: *currency,
                lines: lines.iter().map(|line| order_line(sale, line, known)).collect(),
                pay_by: Some(*pay_by),
            };
            if new.total_minor().is_none() {
                tracing::error!(%sale, %hold, "a hold is no order: its total is too large");
                return Ok(false);
            }
            store::create(tx, now, By { actor: "sale", reason: "granted in the sale" }, &new)?;
            Ok(true)
        }
        What::Event(event) => {
            let Some(order) = store::of_hold(tx, &news.hold)? else {
                tracing::warn!(%sale, %hold, "of this hold there is no order: its grant has not come, or was not kept");
                return Ok(false);
            };
            let reason = match event {
                HoldEvent::Confirmed { is_late: false, .. } => "paid, says the sale",
                HoldEvent::Confirmed { is_late: true, .. } => "paid late, says the sale, and a unit was left",
                HoldEvent::Released => "given back in the sale",
                HoldEvent::Expired => "not paid in time, says the sale",
                HoldEvent::Voided { reason } => reason,
                HoldEvent::RefundDue { .. } => "the sale did not take the payment",
            };
            let command = Command::InSale { sequence: news.sequence, event: event.clone() };
            match store::apply(tx, now, order, By { actor: "sale", reason }, command) {
                Ok(_) => Ok(true),
                Err(OrderError::Sql(error)) => Err(error),
                Err(error @ (OrderError::NotFound(_) | OrderError::Refused(_))) => {
                    tracing::error!(%order, %error, "an order does not follow its sale");
                    Ok(false)
                }
            }
        }
    }
}

fn random() -> Result<[u8; 16], SqlError> {
    let mut random = [0; 16];
    match getrandom::fill(&mut random) {
        Ok(()) => Ok(random),
        Err(error) => Err(SqlError::Shortage(format!("random bytes: {error}"))),
    }
}

/// The line as the catalogue names it.
fn order_line(sale: &SaleId, line: &Line, products: &[Product]) -> OrderLine {
    let offers = |product: &Product| {
        product.variants.iter().position(|variant| {
            variant.offered_in.as_ref().is_some_and(|of| of.sale == *sale && of.item == line.item)
        })
    };
    let found = products.iter().find_map(|product| offers(product).map(|at| (product, &product.variants[at])));
    let (quantity, price_minor) = (line.quantity, line.price_minor);
    match found {
        Some((product, variant)) => {
            let whole = |name: &str, of: &str| if of.is_empty() { name.to_owned() } else { format!("{name}, {of}") };
            OrderLine {
                sku: variant.sku.clone(),
                name: whole(&product.name.en, &variant.name.en),
                name_zh: whole(&product.name.zh, &variant.name.zh),
                quantity,
                price_minor,
            }
        }
        None => {
            let name = line.item.as_str().to_owned();
            let sku: Sku = name.parse().expect("an item's id is one");
            OrderLine { sku, name: name.clone(), name_zh: name, quantity, price_minor }
        }
    }
}
