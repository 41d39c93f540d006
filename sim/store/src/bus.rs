//! The model of the message service: topics that keep their events, and subscriptions that deliver
//! them at least once, those of one key in their order, the next one only when the one before is
//! done. A delivery or a settlement may be lost, and a subscription may be set back.

use crate::world::{World, lock};
use contracts::store::{Asked, Ended, Inbox, Posts, Pulled, Receipt, StoreError};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long a consumer may take.
const LEASE: Duration = Duration::from_secs(30);
/// Tries until an event is a dead letter.
const ATTEMPTS_MAX: u32 = 50;

#[derive(Debug)]
struct Entry {
    event: String,
    key: String,
    /// Out until then, or not to be delivered before.
    not_before: Instant,
    is_out: bool,
    attempt: u32,
    is_done: bool,
}

/// One subscription, which keeps all events.
#[derive(Debug, Default)]
struct Subscription {
    entries: Vec<Entry>,
    /// Those that are not done, by their key.
    open: BTreeMap<String, BTreeSet<usize>>,
    dead: u64,
}

impl Subscription {
    fn push(&mut self, event: String, not_before: Instant) {
        let document: Value = serde_json::from_str(&event).unwrap_or_default();
        let key = document["subject"].as_str().unwrap_or_default().to_owned();
        self.open.entry(key.clone()).or_default().insert(self.entries.len());
        self.entries.push(Entry { event, key, not_before, is_out: false, attempt: 1, is_done: false });
    }

    fn reopen(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        (entry.is_done, entry.is_out, entry.attempt) = (false, false, 1);
        self.open.entry(entry.key.clone()).or_default().insert(number);
    }

    fn is_over(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        (entry.is_done, entry.is_out) = (true, false);
        if let Some(open) = self.open.get_mut(&entry.key) {
            open.remove(&number);
            if open.is_empty() {
                self.open.remove(&entry.key);
            }
        }
    }

    /// What may be delivered now, or when the next may be.
    fn due(&self, now: Instant) -> (Vec<usize>, Option<Instant>) {
        let first = self.open.values().filter_map(|of| of.first().copied());
        let (due, later): (Vec<_>, Vec<_>) = first.partition(|at| self.entries[*at].not_before <= now);
        (due, later.into_iter().map(|at| self.entries[at].not_before).min())
    }
}

/// The topics, and the store's three subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    sales: Mutex<Subscription>,
    payments: Mutex<Subscription>,
    listed: Mutex<Subscription>,
    /// What was posted to these topics, in its order.
    pub(crate) orders: Mutex<Vec<String>>,
    pub(crate) stock: Mutex<Vec<String>>,
    posted: Notify,
}

/// A subscription of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    Sales,
    Payments,
    /// The store's own orders, for their list.
    Orders,
}

/// A topic of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Payments,
    Orders,
    Stock,
}

impl Bus {
    fn of(&self, followed: Followed) -> &Mutex<Subscription> {
        match followed {
            Followed::Sales => &self.sales,
            Followed::Payments => &self.payments,
            Followed::Orders => &self.listed,
        }
    }

    fn all(&self) -> [&Mutex<Subscription>; 3] {
        [&self.sales, &self.payments, &self.listed]
    }

    /// An event of the sale, which comes this much later.
    pub(crate) fn tell_of_sale(&self, event: String, later: Duration) {
        lock(&self.sales).push(event, Instant::now() + later);
        self.posted.notify_waiters();
    }

    /// Whether all was delivered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.all().iter().all(|of| lock(of).open.is_empty())
    }

    /// Events that were given up.
    pub(crate) fn dead(&self) -> u64 {
        self.all().iter().map(|of| lock(of).dead).sum()
    }

    /// Events of payments, as they were posted.
    pub(crate) fn of_payments(&self) -> Vec<String> {
        lock(&self.payments).entries.iter().map(|entry| entry.event.clone()).collect()
    }

    /// Sets a subscription back: events of some time come again, in their order.
    pub(crate) fn replay(&self, followed: Followed, share: u64) {
        let mut of = lock(self.of(followed));
        let count = of.entries.len();
        let from = count - count * share as usize / 100;
        (from..count).for_each(|number| of.reopen(number));
        drop(of);
        self.posted.notify_waiters();
    }
}

/// A subscription, for one life of the process.
#[derive(Debug)]
pub(crate) struct Follows {
    pub(crate) bus: Arc<Bus>,
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
    pub(crate) followed: Followed,
}

impl Follows {
    fn take(&self, at_most: usize) -> (Vec<Pulled>, Option<Instant>) {
        let now = Instant::now();
        let mut of = lock(self.bus.of(self.followed));
        let (due, next) = of.due(now);
        let mut pulled = Vec::new();
        for number in due.into_iter().take(at_most) {
            let entry = &mut of.entries[number];
            if entry.is_out {
                // Its lease is over: the consumer is taken for gone.
                entry.attempt += 1;
            }
            (entry.is_out, entry.not_before) = (true, now + LEASE);
            let receipt = Receipt { number: number as u64, attempt: entry.attempt };
            pulled.push(Pulled { receipt, event: entry.event.clone() });
        }
        (pulled, next)
    }

    fn end(&self, receipt: Receipt, ended: Ended) {
        let now = Instant::now();
        let mut of = lock(self.bus.of(self.followed));
        let number = receipt.number as usize;
        let entry = &mut of.entries[number];
        if entry.is_done || entry.attempt != receipt.attempt {
            return;
        }
        entry.is_out = false;
        match ended {
            Ended::Done if self.world.fault(4) => {
                self.world.reach("an event comes again after it was done");
                (entry.not_before, entry.attempt) = (now, receipt.attempt + 1);
            }
            Ended::Done => of.is_over(number),
            Ended::Later => entry.not_before = now + Duration::from_secs(1),
            Ended::Failed => {
                entry.attempt += 1;
                let pause = (1 << entry.attempt.min(10)).min(600);
                entry.not_before = now + Duration::from_secs(pause);
                if entry.attempt > ATTEMPTS_MAX {
                    of.dead += 1;
                    of.is_over(number);
                }
            }
        }
    }
}

impl Inbox for Follows {
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            let until = Instant::now() + wait;
            let count = self.world.pick(&[1, 2, 5, 50, 500]).min(at_most);
            loop {
                self.world.only_of(self.life).await;
                let posted = self.bus.posted.notified();
                let (pulled, next) = self.take(count);
                if !pulled.is_empty() {
                    let lost = || Err(StoreError::Unavailable("the delivery was cut off".into()));
                    return if self.world.fault(3) { lost() } else { Ok(pulled) };
                }
                if Instant::now() >= until {
                    return Ok(Vec::new());
                }
                let _ = tokio::time::timeout_at(until.min(next.unwrap_or(until)), posted).await;
            }
        })
    }

    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        let settled = move || {
            ended.into_iter().for_each(|(receipt, ended)| self.end(receipt, ended));
            self.bus.posted.notify_waiters();
            Ok(())
        };
        Box::pin(self.world.call(self.life, "settle", settled))
    }
}

/// A topic, for one life of the process.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) bus: Arc<Bus>,
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
    pub(crate) topic: Topic,
}

impl Posts for Told {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        let post = move || {
            let followed = match self.topic {
                Topic::Orders => {
                    lock(&self.bus.orders).extend(events.iter().cloned());
                    &self.bus.listed
                }
                Topic::Stock => {
                    lock(&self.bus.stock).extend(events);
                    return Ok(());
                }
                Topic::Payments => &self.bus.payments,
            };
            let mut of = lock(followed);
            events.into_iter().for_each(|event| of.push(event, Instant::now()));
            drop(of);
            self.bus.posted.notify_waiters();
            Ok(())
        };
        let name = match self.topic {
            Topic::Payments => "post of payments",
            Topic::Orders => "post of orders",
            Topic::Stock => "post of stock",
        };
        Box::pin(self.world.call(self.life, name, post))
    }
}
