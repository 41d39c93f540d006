//! What the store asks of the sales and of the message service, which are in this process or in one
//! that it has joined.

use super::{
    messages::{Messages, Subscribed, Told},
    sale::{Holds, Views},
    topic_of,
};
use contracts::store::{Inbox, Posts, SaleHolds, SaleViews};
use gate::ports::Sales;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Its ports.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) holds: Arc<dyn SaleHolds>,
    pub(crate) views: Arc<dyn SaleViews>,
    /// By [`Follows`].
    pub(crate) inboxes: [Arc<dyn Inbox>; Follows::ALL.len()],
    /// By [`Tells`].
    pub(crate) posts: [Arc<dyn Posts>; Tells::ALL.len()],
}

/// The subscriptions of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Follows {
    /// What happens to the holds of all sales.
    Winners,
    /// What happens to the store's payments.
    Paid,
    /// What happens to the orders, for their list.
    Listed,
}

impl Follows {
    pub(crate) const ALL: [Self; 3] = [Self::Winners, Self::Paid, Self::Listed];

    fn inbox(self, messages: &Messages) -> Subscribed {
        let (name, topic) = match self {
            Self::Winners => ("store-winners", crate::feed::TOPIC),
            Self::Paid => ("store-paid", super::PAYMENTS),
            Self::Listed => ("store-listed", super::ORDERS),
        };
        Subscribed::new(messages.clone(), name, topic_of(topic))
    }
}

/// The topics of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tells {
    Orders,
    Payments,
    Stock,
    Accounts,
    Catalog,
}

impl Tells {
    pub(crate) const ALL: [Self; 5] =
        [Self::Orders, Self::Payments, Self::Stock, Self::Accounts, Self::Catalog];

    fn topic(self) -> &'static str {
        match self {
            Self::Orders => super::ORDERS,
            Self::Payments => super::PAYMENTS,
            Self::Stock => super::STOCK,
            Self::Accounts => super::ACCOUNTS,
            Self::Catalog => super::CATALOG,
        }
    }
}

impl Ports {
    /// Of the sales and the message service of this process.
    pub(crate) fn here(sales: &Arc<dyn Sales>, messages: &Messages) -> Self {
        Self {
            holds: Arc::new(Holds::new(Arc::clone(sales))),
            views: Self::views_of(sales),
            inboxes: Follows::ALL.map(|follows| Arc::new(follows.inbox(messages)) as _),
            posts: Tells::ALL.map(|tells| {
                Arc::new(Told { messages: messages.clone(), topic: topic_of(tells.topic()) }) as _
            }),
        }
    }

    /// What the pages show of these sales.
    pub(crate) fn views_of(sales: &Arc<dyn Sales>) -> Arc<dyn SaleViews> {
        Arc::new(Views(Arc::clone(sales)))
    }

    pub(crate) fn inbox(&self, follows: Follows) -> &Arc<dyn Inbox> {
        &self.inboxes[follows as usize]
    }

    pub(crate) fn posts(&self, tells: Tells) -> &Arc<dyn Posts> {
        &self.posts[tells as usize]
    }
}
