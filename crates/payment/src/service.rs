//! Payments as a service: what other contexts may ask, webhooks of providers, and the loops that
//! refund and tell.

use crate::{
    provider::{Event, Intent, Provider, WebhookError},
    store::{self, Followed, Source, Wanted},
};
use contracts::store::{
    Asked, OrderId, PaymentId, PaymentView, Payments, Posts, StartPayment, StartedPayment, StoreError,
};
use engines::{
    chance::Chance,
    clock::Clock,
    sql::{
        Sql, SqlError,
        outbox::{self, NotTold},
    },
};
use http::HeaderMap;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};
use units::{DurationMs, TimeMs};
use web::warning::Warning;

/// How often it is looked for what is due, if nothing tells of something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const READ_MAX: usize = 200;
/// Characters of a refund's key.
const REFUND_KEY_MAX: usize = 24;
/// The longest pause before a refund is tried again.
const PAUSE_MAX: DurationMs = DurationMs(600_000);

/// The context's service.
pub struct Service {
    pub(crate) sql: Sql,
    pub(crate) clock: Arc<dyn Clock>,
    /// Draws the ids of payments.
    chance: Arc<dyn Chance>,
    pub(crate) provider: Arc<dyn Provider>,
    /// Held by those who read the provider's books.
    pub(crate) reading: tokio::sync::Mutex<()>,
    /// Told when a refund may be due, or an event is to be told.
    refunds: Notify,
    outbox: Notify,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

/// Why a webhook was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// No provider of this name is configured.
    Provider,
    Webhook(WebhookError),
    /// It tells of a payment that is not known; if it was sent too early, it is sent again.
    Unknown(String),
    /// It may be taken later.
    Unavailable,
}

pub(crate) fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "payments: the database");
    }
    StoreError::Unavailable("payments cannot be read or changed at the moment".into())
}

/// Makes the tables of payments and of the sandbox, or brings them up to date.
pub async fn migrate(sql: &Sql) -> Result<(), SqlError> {
    sql.migrate(store::MIGRATIONS).await
}

impl Service {
    /// On a database that [`migrate`] has brought up to date.
    pub fn new(
        sql: Sql,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        provider: Arc<dyn Provider>,
    ) -> Arc<Self> {
        let (reading, refunds, outbox) = Default::default();
        Arc::new(Self { sql, clock, chance, provider, reading, refunds, outbox })
    }

    /// Refunds what is due, and tells others, for as long as the answer is kept.
    pub fn start(self: &Arc<Self>, posts: Arc<dyn Posts>) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        loops.spawn(Arc::clone(self).refund_what_is_due());
        loops.spawn(Arc::clone(self).tell_others(posts));
        if self.provider.has_books() {
            loops.spawn(Arc::clone(self).keep_books());
        }
        loops
    }

    /// Takes a webhook of a provider. When it answers, what it tells is stored; what was told
    /// before is known.
    pub async fn webhook(&self, provider: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), NotTaken> {
        if provider != self.provider.name() {
            return Err(NotTaken::Provider);
        }
        let events = self.provider.read(headers, body).map_err(NotTaken::Webhook)?;
        for event in events {
            // One of a payment that the provider was not told of by us may be another shop's, with
            // the same account at the provider; if it is not, it is found in the books.
            let is_ours = self.provider.names_payments() == event.payment.is_some();
            match self.follow(event).await {
                Err(NotTaken::Unknown(_)) if !is_ours => {}
                followed => followed?,
            }
        }
        self.outbox.notify_one();
        Ok(())
    }

    /// There may be something to tell.
    pub(crate) fn tell_now(&self) {
        self.outbox.notify_one();
    }

    async fn follow(&self, event: Event) -> Result<(), NotTaken> {
        let (now, name, reference) = (self.clock.now(), self.provider.name(), event.reference.clone());
        let followed = self.sql.write(move |tx| store::follow(tx, now, name, &event, Source::Webhook)).await;
        match followed {
            Ok(Followed::NotKnown) => Err(NotTaken::Unknown(reference)),
            // What cannot be so is in the log, and would be so again.
            Ok(Followed::New | Followed::Known | Followed::Refused) => Ok(()),
            Err(error) => {
                of_sql(&error);
                Err(NotTaken::Unavailable)
            }
        }
    }

    /// Newest first, older than `before`, for those who run the shop.
    pub async fn newest(
        &self,
        before: Option<PaymentId>,
        at_most: usize,
    ) -> Result<Vec<PaymentView>, StoreError> {
        let read = self.sql.read(move |tx| store::newest(tx, before, at_most.clamp(1, 100)));
        let found = read.await.map_err(|error| of_sql(&error))?;
        Ok(found.iter().map(store::Stored::view).collect())
    }

    async fn start_one(&self, start: StartPayment) -> Result<StartedPayment, StoreError> {
        let StartPayment { order, shopper, amount, return_path } = start;
        let random = self.chance.bytes16().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let now = self.clock.now();
        let id = PaymentId::new(now, random);
        let intent = Intent { payment: id, order, amount, return_path };
        let (shopper, name) = (shopper.to_string(), self.provider.name());
        let good_since = TimeMs(now.0.saturating_sub(self.provider.good_for().0));
        let begun =
            self.sql.write(move |tx| store::begin(tx, (now, good_since), id, &shopper, name, &intent));
        let begun = match begun.await.map_err(|error| of_sql(&error))? {
            store::Begun::Pending(begun) => begun,
            store::Begun::Paid => return Err(StoreError::Conflict("the order is paid already".into())),
            store::Begun::TooMany => {
                let why = "the order has had too many payments that failed: write to the shop";
                return Err(StoreError::Invalid(why.into()));
            }
        };
        if let Some(started) = begun.started {
            return Ok(StartedPayment { payment: begun.id, url: started.url });
        }
        // If this process ends in between, the next start of the payment finds the same at the
        // provider.
        let started = self.provider.start(begun.intent()).await?;
        let (payment, url) = (begun.id, started.url.clone());
        let written = self.sql.write(move |tx| store::is_started(tx, payment, &started));
        written.await.map_err(|error| of_sql(&error))?;
        Ok(StartedPayment { payment, url })
    }

    async fn refund_one(&self, wanted: Wanted) -> Result<(), StoreError> {
        let (now, payment) = (self.clock.now(), wanted.payment);
        let written = self.sql.write(move |tx| store::refund(tx, now, &wanted)).await;
        self.refunds.notify_one();
        match written.map_err(|error| of_sql(&error))? {
            Some(true) => Ok(()),
            Some(false) => Err(StoreError::Conflict(format!("payment {payment}: so much is not left of it"))),
            None => Err(StoreError::NotFound(format!("payment {payment}: there is none"))),
        }
    }

    async fn forgo_one(&self, payment: PaymentId, key: String, amount_minor: u64) -> Result<(), StoreError> {
        let now = self.clock.now();
        let written = self.sql.write(move |tx| store::forgo(tx, now, payment, (&key, amount_minor))).await;
        match written.map_err(|error| of_sql(&error))? {
            Some(true) => Ok(()),
            Some(false) => {
                Err(StoreError::Conflict(format!("payment {payment}: it goes back by its provider")))
            }
            None => Err(StoreError::NotFound(format!("payment {payment}: there is none"))),
        }
    }

    async fn refund_what_is_due(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            match self.refund_due().await {
                Ok(READ_MAX..) => continue,
                Ok(_) => {}
                Err(error) => {
                    if let Some(count) = warning.due() {
                        tracing::warn!(%error, count, "refunds wait: they cannot be read or written now");
                    }
                }
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.refunds.notified()).await;
        }
    }

    /// Asks the provider for refunds that are due; returns how many those were.
    pub(crate) async fn refund_due(&self) -> Result<usize, SqlError> {
        let (now, name) = (self.clock.now(), self.provider.name());
        let due = self.sql.primary().read(move |tx| store::due_refunds(tx, now, name, READ_MAX)).await?;
        let count = due.len();
        for (refund, tries) in due {
            let asked = match refund.amount.amount_minor {
                0 => Ok(None),
                _ => self.provider.refund(refund.clone()).await,
            };
            match asked {
                Ok(known) => {
                    let now = self.clock.now();
                    let written = self.sql.write(move |tx| {
                        store::end_refund(tx, now, &refund)?;
                        if let Some(event) = &known {
                            store::follow(tx, now, name, event, Source::Books)?;
                        }
                        Ok::<_, SqlError>(())
                    });
                    written.await?;
                    self.tell_now();
                }
                Err(error) => {
                    tracing::warn!(payment = %refund.payment, %error, "a refund is tried again later");
                    let pause = DurationMs((1000 << tries.min(10)).min(PAUSE_MAX.0));
                    let until = self.clock.now().plus(pause);
                    self.sql.write(move |tx| store::put_refund_off(tx, &refund, tries, until)).await?;
                }
            }
        }
        Ok(count)
    }

    async fn tell_others(self: Arc<Self>, posts: Arc<dyn Posts>) {
        let (posts, mut warning) = (&*posts, Warning::default());
        let failed = |error: NotTold<StoreError>| {
            if let Some(count) = warning.due() {
                tracing::warn!(%error, count, "payments: events wait, they cannot be told now");
            }
        };
        let databases = std::slice::from_ref(&self.sql);
        outbox::tell(databases, &self.outbox, |events| posts.post(events), failed).await;
    }
}

impl Payments for Service {
    fn start(&self, start: StartPayment) -> Asked<'_, StartedPayment> {
        Box::pin(self.start_one(start))
    }

    fn of_order(&self, order: OrderId) -> Asked<'_, Vec<PaymentView>> {
        Box::pin(async move {
            let found = self.sql.read(move |tx| store::of_order(tx, order)).await;
            let found = found.map_err(|error| of_sql(&error))?;
            Ok(found.iter().map(store::Stored::view).collect())
        })
    }

    fn refund(&self, payment: PaymentId, reason: String) -> Asked<'_, ()> {
        let key = store::WHOLE.to_owned();
        Box::pin(self.refund_one(Wanted { payment, key, amount_minor: None, reason }))
    }

    fn refund_part(
        &self,
        payment: PaymentId,
        key: String,
        amount_minor: u64,
        reason: String,
    ) -> Asked<'_, ()> {
        Box::pin(async move {
            if !(1..=REFUND_KEY_MAX).contains(&key.len()) || store::is_own_key(&key) {
                return Err(StoreError::Invalid(format!("key: want 1 to {REFUND_KEY_MAX} characters")));
            }
            self.refund_one(Wanted { payment, key, amount_minor: Some(amount_minor), reason }).await
        })
    }

    fn forgo_part(&self, payment: PaymentId, key: String, amount_minor: u64) -> Asked<'_, ()> {
        Box::pin(self.forgo_one(payment, key, amount_minor))
    }
}
