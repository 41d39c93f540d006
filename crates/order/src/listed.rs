//! What the orders' events tell becomes rows of the list, and what the list answers. An event is
//! settled once its row is stored; one that comes late or again changes nothing.

use crate::{
    list::Progress,
    list_rows,
    service::{Service, of_sql},
    store,
    summary::OrderSummary,
    waiting_rows::{self, Waiting},
};
use contracts::store::{Backlog, Ended, OrderId, OrderState, Pulled, Receipt, ReturnState, StoreError};
use engines::sql::{SqlError, Tx};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use web::warning::Warning;

/// Orders of one answer, at the most.
const PAGE_MAX: usize = 100;
/// Orders that one transaction writes.
const WRITTEN_MAX: usize = 100;
/// How often it is looked whether there is a build to go on with.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a page waits for what each database of orders knows.
const SHARDS_WITHIN: Duration = Duration::from_millis(500);

/// An event of the topic `store-orders`.
#[derive(Debug, Deserialize)]
struct Told {
    subject: OrderId,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    /// Events of versions without a list do not have it.
    #[serde(default)]
    summary: Option<OrderSummary>,
    /// Those of returns did not have this one either.
    #[serde(default)]
    version: Option<u64>,
}

fn is_being_built() -> StoreError {
    StoreError::Unavailable("the list of orders is being built: ask again later".into())
}

impl Service {
    /// Writes the rows of what was told. Returns how the work on each event ended.
    pub(crate) async fn take_listed(self: Arc<Self>, pulled: Vec<Pulled>) -> Vec<(Receipt, Ended)> {
        let (mut ended, mut all, mut without) = (Vec::new(), Vec::new(), Vec::new());
        for Pulled { receipt, event } in pulled {
            match serde_json::from_str::<Told>(&event) {
                Ok(Told { data: Data { summary: Some(summary), .. }, .. }) => all.push((receipt, summary)),
                Ok(Told { subject, data }) => without.push((receipt, subject, data.version)),
                Err(error) => {
                    tracing::error!(%error, "an event of an order cannot be read");
                    ended.push((receipt, Ended::Failed));
                }
            }
        }
        // What waits for an order's database does not keep what was told whole.
        self.put_listed(&all, &mut ended).await;
        let (mut read, mut is_away) = (Vec::new(), false);
        for (receipt, order) in self.not_listed(without, &mut ended).await {
            if is_away {
                ended.push((receipt, Ended::Later));
                continue;
            }
            match self.summary_of(order).await {
                Ok(summary) => read.push((receipt, summary)),
                Err(outcome) => {
                    is_away = outcome == Ended::Later;
                    ended.push((receipt, outcome));
                }
            }
        }
        self.put_listed(&read, &mut ended).await;
        ended
    }

    async fn put_listed(&self, all: &[(Receipt, OrderSummary)], ended: &mut Vec<(Receipt, Ended)>) {
        for some in all.chunks(WRITTEN_MAX) {
            let written = self.needs.list.put(some.iter().map(|(_, of)| of.clone()).collect()).await;
            let outcome = match written {
                Ok(()) => Ended::Done,
                Err(error) => {
                    tracing::warn!(%error, count = some.len(), "the list of orders cannot be written now");
                    if error.passes() { Ended::Later } else { Ended::Failed }
                }
            };
            ended.extend(some.iter().map(|(receipt, _)| (*receipt, outcome)));
        }
    }

    /// Of events without a summary those whose orders are to be read: not those of versions that
    /// are listed already, as a build has done for all that was told before there was a list.
    async fn not_listed(
        &self,
        events: Vec<(Receipt, OrderId, Option<u64>)>,
        ended: &mut Vec<(Receipt, Ended)>,
    ) -> Vec<(Receipt, OrderId)> {
        if events.is_empty() {
            return Vec::new();
        }
        let asked: Vec<(OrderId, Option<u64>)> =
            events.iter().map(|(_, order, version)| (*order, *version)).collect();
        let is_listed = match self.needs.list.are_listed(asked).await {
            Ok(is_listed) => is_listed,
            Err(error) => {
                tracing::warn!(%error, count = events.len(), "the list of orders cannot be read now");
                ended.extend(events.iter().map(|(receipt, ..)| (*receipt, Ended::Later)));
                return Vec::new();
            }
        };
        let mut left = Vec::new();
        for ((receipt, order, _), is_listed) in events.into_iter().zip(is_listed) {
            match is_listed {
                true => ended.push((receipt, Ended::Done)),
                false => left.push((receipt, order)),
            }
        }
        left
    }

    /// What the list is to have of an order, from the order itself.
    async fn summary_of(&self, order: OrderId) -> Result<OrderSummary, Ended> {
        let read = self.needs.shards.read_primary(order.bucket(), move |tx: &mut Tx<'_>| {
            let found = store::find(tx, order, false)?;
            found.map(|stored| store::summary(tx, &stored)).transpose()
        });
        match read.await {
            Ok(Some(summary)) => Ok(summary),
            Ok(None) => {
                tracing::error!(%order, "an event tells of an order that there is not");
                Err(Ended::Failed)
            }
            Err(error) => {
                let error: SqlError = error;
                tracing::warn!(%order, %error, "the list waits for an order that cannot be read now");
                Err(if error.passes() { Ended::Later } else { Ended::Failed })
            }
        }
    }

    /// Goes on with the list's builds, for ever: also those that another process has begun.
    pub(crate) async fn build_list(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            let pause = match self.needs.list.build_some(&self.needs.shards).await {
                Ok(Progress::Done) => LOOK_EVERY,
                Ok(Progress::Buckets(_) | Progress::Removing) => continue,
                Err(error) => {
                    if let Some(count) = warning.due() {
                        tracing::warn!(%error, count, "the list of orders cannot be built now");
                    }
                    AGAIN_AFTER
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Orders of all shoppers as they are listed, newest first.
    pub async fn newest(
        &self,
        state: Option<OrderState>,
        before: Option<OrderId>,
        at_most: usize,
    ) -> Result<Vec<OrderSummary>, StoreError> {
        let at_most = at_most.clamp(1, PAGE_MAX);
        let read = self.needs.list.read(move |tx| list_rows::newest(tx, state, before, at_most)).await;
        read.map_err(|error| of_sql(&error))?.ok_or_else(is_being_built)
    }

    /// Orders that have a return in this state as they are listed, oldest first, behind `after`.
    pub async fn with_returns(
        &self,
        state: ReturnState,
        after: Option<OrderId>,
        at_most: usize,
    ) -> Result<Vec<OrderSummary>, StoreError> {
        let at_most = at_most.clamp(1, PAGE_MAX);
        let read = self.needs.list.read(move |tx| list_rows::with_returns(tx, state, after, at_most)).await;
        read.map_err(|error| of_sql(&error))?.ok_or_else(is_being_built)
    }

    /// How much waits, as it is listed; and the refunds that wait in all databases, unless one of
    /// them does not answer at once.
    pub(crate) async fn waiting(&self) -> Result<(Waiting, Option<u64>), StoreError> {
        let read = self.needs.list.read(waiting_rows::read).await;
        let waiting = read.map_err(|error| of_sql(&error))?.ok_or_else(is_being_built)?;
        let refunds = self.needs.shards.read_all(waiting_rows::refunds);
        let refunds = tokio::time::timeout(SHARDS_WITHIN, refunds).await;
        Ok((waiting, refunds.ok().and_then(Result::ok).map(|of| of.iter().sum())))
    }

    /// How far the list is behind the orders; `None` if the message service does not say so at
    /// once.
    pub(crate) async fn behind_orders(&self) -> Option<Backlog> {
        self.of_orders.behind().await
    }
}
