//! What happens in sales becomes events of the message service. They are derived from each sale's
//! log, whose place is stored together with the events: none is missed, and none is invented.

use crate::registry::Registry;
use contracts::{Actor, SaleEvent, SaleId, SaleSpec, Winner, WinnerEvent};
use gate::Keyring;
use notify::{
    core::{Command, NewEvent, Post, Refused, Reply, cloud_events::from_json, spec::TopicSpec},
    parts::Running,
};
use sale::{free_units::FreeUnits, service::Handle};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use units::{Sequence, TimeMs};

/// The topic of all sales.
pub(crate) const TOPIC: &str = "sales";
/// Events that are stored at once, and the wait after each time: a storm of grants is told a little
/// later, with few writes to a disk that the sale needs.
const AT_ONCE: usize = 500;
const PACE: Duration = Duration::from_millis(50);
/// How often it is looked for new sales, and how long to wait when something failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a quiet sale is still there.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// Follows every sale, also those that are set up later, until the process ends.
pub(crate) async fn follow_sales(registry: Arc<Registry>, keys: Arc<Keyring>, running: Arc<Running>) {
    while !has_topic(&running).await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut followed: BTreeSet<Arc<str>> = BTreeSet::new();
    loop {
        for (handle, log_id) in registry.handles() {
            if handle.view().is_some() && followed.insert(Arc::clone(&log_id)) {
                let registry = Arc::clone(&registry);
                let sale = Followed {
                    registry,
                    handle,
                    log_id,
                    keys: Arc::clone(&keys),
                    running: Arc::clone(&running),
                };
                tokio::spawn(sale.follow());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the topic is there. It is made once: what an operator changes of it stays.
async fn has_topic(running: &Running) -> bool {
    match running.ask(Command::Topics).await {
        Ok(Reply::Topics(topics)) if topics.iter().any(|topic| topic.name.as_str() == TOPIC) => true,
        Ok(Reply::Topics(_)) => {
            let name = TOPIC.parse().expect("it is a name");
            let by = Actor::new(Actor::SALE, "the topic of all sales");
            let made = running.ask(Command::DefineTopic { name, spec: TopicSpec::default(), by }).await;
            matches!(made, Ok(Reply::Done))
        }
        _ => false,
    }
}

/// The name under which the message service remembers the place in a sale's log. Of a log that was
/// restored the entries after its end are others, so it has an id of its own.
pub(crate) fn followed_as(sale: &SaleId, log_id: &str) -> String {
    format!("{sale}/{log_id}")
}

/// What became of events that were to be stored.
enum Stored {
    All,
    /// Nothing: what is told of this log goes up to here already.
    Before(Sequence),
    /// Nothing: so many may be stored at once.
    Fits(usize),
}

struct Followed {
    registry: Arc<Registry>,
    handle: Handle,
    log_id: Arc<str>,
    keys: Arc<Keyring>,
    running: Arc<Running>,
}

impl Followed {
    async fn follow(self) {
        let mut sequence = self.handle.sequence();
        let this = Arc::new(self);
        let log = followed_as(this.handle.sale(), &this.log_id);
        let mut place = loop {
            match this.running.ask(Command::Followed { log: log.clone() }).await {
                Ok(Reply::Followed(place)) => break place,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let mut free = FreeUnits::default();
        let (mut at_once, mut fits) = (AT_ONCE, AT_ONCE);
        loop {
            let end = *sequence.borrow_and_update();
            let reader = Arc::clone(&this);
            let read = tokio::task::spawn_blocking(move || {
                let events = reader.events(&mut free, place, at_once);
                (free, events)
            });
            let Ok((seen, Some(events))) = read.await else {
                // What was folded in part is folded again, from the beginning.
                free = FreeUnits::default();
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            free = seen;
            let searched = free.at();
            if !events.is_empty() {
                let stored = this.post(events, (&log, searched)).await;
                match stored {
                    Stored::All => (place, at_once) = (searched, fits),
                    Stored::Before(before) => place = before,
                    // The last entry may have become several: fewer entries, down to one, do fit.
                    Stored::Fits(fit) => {
                        fits = fit.clamp(1, fits);
                        at_once = fits.min(at_once / 2).max(1);
                    }
                }
                if place != searched {
                    free = FreeUnits::default();
                }
                tokio::time::sleep(PACE).await;
            } else if searched > place {
                place = searched;
            } else if searched < place || end > searched {
                tokio::time::sleep(PACE).await;
            } else {
                let _ = tokio::time::timeout(GONE_AFTER, sequence.changed()).await;
                // A sale that never opened may be deleted.
                if !this.registry.has_log(&this.log_id) {
                    return;
                }
            }
        }
    }

    /// Stores events and the place behind them, however long that takes.
    async fn post(&self, events: Vec<NewEvent>, (log, searched): (&str, Sequence)) -> Stored {
        let topic = TOPIC.parse().expect("it is a name");
        let post = Arc::new(Post { topic, events, followed: Some((log.to_owned(), searched)) });
        loop {
            match self.running.ask(Command::Post(Arc::clone(&post))).await {
                Ok(Reply::Accepted(_)) => return Stored::All,
                // It was stored, and the answer was lost.
                Ok(Reply::Refused(Refused::FollowedBefore(before))) => return Stored::Before(before),
                Ok(Reply::Refused(Refused::TooManyComparisons { fit })) => return Stored::Fits(fit),
                other => {
                    tracing::warn!(sale = %self.handle.sale(), ?other, "events of the sale wait: they cannot be stored now");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// The next events after `place`; without any, `free` may have been moved on. Reads the disk.
    fn events(&self, free: &mut FreeUnits, place: Sequence, at_most: usize) -> Option<Vec<NewEvent>> {
        let view = self.handle.view()?;
        let found = match free.at() < place {
            true => self.handle.catch_up(free, place).map(|()| Vec::new()),
            false => self.handle.events(free, at_most),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(sale = %self.handle.sale(), %error, "events of the sale wait: its log cannot be read now");
                return None;
            }
        };
        let mut events = Vec::with_capacity(found.len());
        for event in &found {
            let document = self.document(&view.spec, event).to_string();
            match from_json(document.as_bytes()) {
                Ok(event) => events.push(event),
                Err(error) => {
                    tracing::error!(sale = %self.handle.sale(), %error, "an event of the sale cannot be told: a defect");
                }
            }
        }
        Some(events)
    }

    fn document(&self, spec: &SaleSpec, event: &SaleEvent) -> Value {
        let sale = self.handle.sale();
        match event {
            SaleEvent::Hold(winner) => self.of_hold(sale, spec, winner),
            SaleEvent::RoundOpened { sequence, at, round } => {
                self.with_data("opened", sale, (*sequence, *at), None, json!({ "round": round + 1 }))
            }
            SaleEvent::RoundClosed { sequence, at, round } => {
                self.with_data("closed", sale, (*sequence, *at), None, json!({ "round": round + 1 }))
            }
            SaleEvent::SoldOut { sequence, at, item } => {
                let name = spec.items.get(usize::from(*item)).map(|item| item.item.as_str());
                let mut told =
                    self.with_data("sold_out", sale, (*sequence, *at), None, json!({ "item": name }));
                // Another event of the same entry may stand beside it.
                told["id"] = json!(format!("{}-{sequence}-sold-out-{item}", self.log_id));
                told
            }
        }
    }

    fn of_hold(&self, sale: &SaleId, spec: &SaleSpec, winner: &Winner) -> Value {
        let (kind, data) = match &winner.event {
            WinnerEvent::Granted { sealed, shopper, basket, prices_minor, pay_by } => {
                let lines = basket.iter().zip(prices_minor).map(|(line, price_minor)| {
                    let item = spec.items.get(usize::from(line.item)).map(|item| item.item.as_str());
                    json!({ "item": item, "quantity": line.quantity, "price_minor": price_minor })
                });
                let lines: Vec<Value> = lines.collect();
                let shopper = self.keys.unseal(*shopper, sealed).map(|shopper| shopper.to_string());
                let data = json!({ "shopper": shopper, "lines": lines, "currency": spec.currency, "pay_by": pay_by });
                ("granted", data)
            }
            WinnerEvent::Confirmed { payment, late } => {
                ("confirmed", json!({ "payment": payment, "late": late }))
            }
            WinnerEvent::Released => ("released", json!({})),
            WinnerEvent::Expired => ("expired", json!({})),
            WinnerEvent::Voided { reason } => ("voided", json!({ "reason": reason })),
            WinnerEvent::RefundDue { payment } => ("refund_due", json!({ "payment": payment })),
        };
        self.with_data(kind, sale, (winner.sequence, winner.at), Some(winner.hold.to_string()), data)
    }

    /// The events of one hold have it as their subject, and so are delivered in their order.
    fn with_data(
        &self,
        kind: &str,
        sale: &SaleId,
        (sequence, at): (Sequence, TimeMs),
        hold: Option<String>,
        mut data: Value,
    ) -> Value {
        data["sale"] = json!(sale);
        // Of a sale that was restored, entries after the copy are others under the same numbers.
        data["log"] = json!(&*self.log_id);
        data["sequence"] = json!(sequence);
        if let Some(hold) = &hold {
            data["hold"] = json!(hold);
        }
        json!({
            "specversion": "1.0",
            "id": format!("{}-{sequence}", self.log_id),
            "source": format!("/sales/{sale}"),
            "type": format!("floodgate.sale.{kind}"),
            "subject": hold.unwrap_or_else(|| format!("sale-{sale}")),
            "time": at,
            "datacontenttype": "application/json",
            "data": data,
        })
    }
}
