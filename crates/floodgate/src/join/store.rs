//! A store in a process of its own: its ports, which the process with the sales answers.

use super::client::Joined;
use super::message::{OfStore, ToStore};
use crate::store::ports::{Follows, Ports, Tells};
use contracts::store::{
    Asked, Backlog, Ended, HoldRef, Inbox, PaymentId, Posts, Pulled, Receipt, SaleDecision, SaleHolds,
    StoreError,
};
use gate::ports::Sales;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The ports of a store beside the sales that it has joined.
pub(crate) fn store_ports(joined: &Joined) -> Ports {
    let sales: Arc<dyn Sales> = Arc::new(joined.clone());
    Ports {
        holds: Arc::new(joined.clone()),
        views: Ports::views_of(&sales),
        inboxes: Follows::ALL.map(|follows| Arc::new(Elsewhere(joined.clone(), follows)) as _),
        posts: Tells::ALL.map(|tells| Arc::new(Elsewhere(joined.clone(), tells)) as _),
    }
}

/// What one store may ask of this process. It gives back what the store has taken and not settled
/// when its connection ends, so that the next one need not wait for the lease.
pub(super) struct Served {
    ports: Ports,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    receipts: Vec<(Follows, Receipt)>,
    has_ended: bool,
}

impl Served {
    pub(super) fn new(ports: Ports) -> Self {
        Self { ports, taken: Mutex::default() }
    }

    pub(super) async fn answer(&self, of_store: OfStore) -> Result<ToStore, StoreError> {
        let ports = &self.ports;
        match of_store {
            OfStore::Confirm(hold, payment) => ports.holds.confirm(hold, payment).await.map(ToStore::Decided),
            OfStore::Release(hold) => ports.holds.release(hold).await.map(|()| ToStore::Done),
            OfStore::Pull(follows, at_most, wait_ms) => {
                let wait = Duration::from_millis(wait_ms);
                let events = ports.inbox(follows).pull(at_most, wait).await?;
                let receipts: Vec<_> = events.iter().map(|event| (follows, event.receipt)).collect();
                if !self.note(&receipts) {
                    self.give_back(receipts).await;
                }
                Ok(ToStore::Pulled(events))
            }
            OfStore::Settle(follows, ended) => {
                let settled: BTreeSet<Receipt> = ended.iter().map(|(receipt, _)| *receipt).collect();
                ports.inbox(follows).settle(ended).await?;
                let is_open =
                    |(of, receipt): &(Follows, Receipt)| *of != follows || !settled.contains(receipt);
                self.taken().receipts.retain(is_open);
                Ok(ToStore::Done)
            }
            OfStore::Backlog(follows) => ports.inbox(follows).backlog().await.map(ToStore::Backlog),
            OfStore::Post(tells, events) => ports.posts(tells).post(events).await.map(|()| ToStore::Done),
        }
    }

    /// Returns whether the store is still there to settle them.
    fn note(&self, receipts: &[(Follows, Receipt)]) -> bool {
        let mut taken = self.taken();
        if !taken.has_ended {
            taken.receipts.extend(receipts);
        }
        !taken.has_ended
    }

    /// The store's connection has ended.
    pub(super) async fn end(&self) {
        let taken = {
            let mut taken = self.taken();
            taken.has_ended = true;
            std::mem::take(&mut taken.receipts)
        };
        self.give_back(taken).await;
    }

    async fn give_back(&self, taken: Vec<(Follows, Receipt)>) {
        for follows in Follows::ALL {
            let of =
                |(of, receipt): &(Follows, Receipt)| (*of == follows).then_some((*receipt, Ended::Later));
            let ended: Vec<_> = taken.iter().filter_map(of).collect();
            if ended.is_empty() {
                continue;
            }
            if let Err(error) = self.ports.inbox(follows).settle(ended).await {
                tracing::warn!(%error, ?follows, "events that a store had taken come again after their lease");
            }
        }
    }

    /// It is consistent between two statements, so a panic of another holder leaves nothing half
    /// done.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscription, or one topic, of the other process.
struct Elsewhere<T>(Joined, T);

fn other<T>(said: &ToStore) -> Result<T, StoreError> {
    Err(StoreError::Invalid(format!("the process with the sales answered {said:?}")))
}

fn done(said: &ToStore) -> Result<(), StoreError> {
    match said {
        ToStore::Done => Ok(()),
        said => other(said),
    }
}

impl SaleHolds for Joined {
    fn confirm(&self, hold: HoldRef, payment: PaymentId) -> Asked<'_, SaleDecision> {
        Box::pin(async move {
            match self.ask_for_store(OfStore::Confirm(hold, payment), Duration::ZERO).await? {
                ToStore::Decided(decision) => Ok(decision),
                said => other(&said),
            }
        })
    }

    fn release(&self, hold: HoldRef) -> Asked<'_, ()> {
        Box::pin(async move { done(&self.ask_for_store(OfStore::Release(hold), Duration::ZERO).await?) })
    }
}

impl Inbox for Elsewhere<Follows> {
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            let wait_ms = wait.as_millis() as u64;
            match self.0.ask_for_store(OfStore::Pull(self.1, at_most, wait_ms), wait).await? {
                ToStore::Pulled(events) => Ok(events),
                said => other(&said),
            }
        })
    }

    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        Box::pin(
            async move { done(&self.0.ask_for_store(OfStore::Settle(self.1, ended), Duration::ZERO).await?) },
        )
    }

    fn backlog(&self) -> Asked<'_, Option<Backlog>> {
        Box::pin(async move {
            match self.0.ask_for_store(OfStore::Backlog(self.1), Duration::ZERO).await? {
                ToStore::Backlog(backlog) => Ok(backlog),
                said => other(&said),
            }
        })
    }
}

impl Posts for Elsewhere<Tells> {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        Box::pin(
            async move { done(&self.0.ask_for_store(OfStore::Post(self.1, events), Duration::ZERO).await?) },
        )
    }
}
