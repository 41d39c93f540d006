//! The sandbox: a provider that is built in, for demos and tests. On its page the payer chooses
//! what happens. It tells of it by webhooks as a real one does: signed, later, twice, and again
//! until they are taken.

use crate::{
    core::Said,
    provider::{Event, Intent, LedgerPage, Provider, RefundAsked, Started, WebhookError},
    service::{NotTaken, Service, of_sql},
    signature,
    store::AHEAD,
};
use aws_lc_rs::hmac;
use contracts::store::{Asked, OrderId, PaymentId, StoreError};
use data_encoding::BASE32_NOPAD;
use engines::{
    clock::Clock,
    params,
    sql::{Sql, SqlError, Tx, unexpected},
};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Notify;
use units::{DurationMs, Money, TimeMs};

pub mod page;

/// Its name among the providers.
pub const NAME: &str = "sandbox";
const SIGNATURE: &str = "sandbox-signature";
/// When a payment that is chosen to be late comes.
const LATE: DurationMs = DurationMs(60_000);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 100;
const PAUSE_MAX: DurationMs = DurationMs(60_000);
/// The two halves of the books, as their pages are called.
const CHARGES: &str = "charges";
const REFUNDS: &str = "refunds";

/// What is said of money that was taken, and of that which was taken once more for the same charge.
const SUCCEEDED: &str = "succeeded";
const AGAIN: &str = "succeeded_again";

/// What the payer can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Pay,
    /// The provider refuses the card.
    Fail,
    /// The money comes a minute later, and the success is told then.
    PayLate,
    /// The money is taken twice, and each time the success is told.
    PayTwice,
    /// The success is told twice, as two events.
    TellTwice,
    /// The success is never told: the shop finds it in the provider's books.
    TellNever,
}

impl Choice {
    pub const ALL: [Self; 6] =
        [Self::Pay, Self::Fail, Self::PayLate, Self::PayTwice, Self::TellTwice, Self::TellNever];

    /// Its name in the page's form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Fail => "fail",
            Self::PayLate => "pay_late",
            Self::PayTwice => "pay_twice",
            Self::TellTwice => "tell_twice",
            Self::TellNever => "tell_never",
        }
    }
}

/// A payment as the sandbox has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub reference: String,
    pub payment: PaymentId,
    pub order: OrderId,
    pub amount: Money,
    pub return_path: String,
    pub is_open: bool,
}

/// The provider.
pub struct Sandbox {
    sql: Sql,
    clock: Arc<dyn Clock>,
    /// Signs webhooks.
    secret: hmac::Key,
    webhooks: Notify,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

/// A webhook's body.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    id: String,
    reference: String,
    said: String,
    amount: Money,
    refund: Option<String>,
}

/// A webhook that is to be sent.
#[derive(Debug, Clone)]
struct Due {
    number: u64,
    body: String,
    tries: u64,
}

impl Sandbox {
    /// On the database of payments. `secret` signs its webhooks.
    pub fn new(sql: Sql, clock: Arc<dyn Clock>, secret: &[u8]) -> Arc<Self> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Arc::new(Self { sql, clock, secret, webhooks: Notify::new() })
    }

    /// The charge with this reference.
    pub async fn charge(&self, reference: String) -> Result<Option<Charge>, StoreError> {
        let found = self.sql.read(move |tx| charge(tx, &reference)).await;
        found.map_err(|error| of_sql(&error))
    }

    /// The payer has chosen. Returns the charge as it was; one that is over stays as it is.
    pub async fn choose(&self, reference: String, choice: Choice) -> Result<Option<Charge>, StoreError> {
        let now = self.clock.now();
        let chosen = self.sql.write(move |tx| {
            let Some(found) = charge(tx, &reference)? else { return Ok(None) };
            if found.is_open {
                let state = if choice == Choice::Fail { "failed" } else { SUCCEEDED };
                let due_at = if choice == Choice::PayLate { now.plus(LATE) } else { now };
                tx.execute(
                    "UPDATE sandbox_charges SET state = ?, paid_at = ?, is_twice = ? WHERE reference = ?",
                    params![state, due_at.0, choice == Choice::PayTwice, &reference],
                )?;
                let told: &[&str] = match choice {
                    Choice::Pay | Choice::Fail | Choice::PayLate => &[state],
                    Choice::PayTwice => &[state, AGAIN],
                    Choice::TellTwice => &[state, state],
                    Choice::TellNever => &[],
                };
                for (number, said) in (1..).zip(told) {
                    add_webhook(tx, &reference, &format!("{reference}-{state}-{number}"), said, due_at)?;
                }
            }
            Ok::<_, SqlError>(Some(found))
        });
        let chosen = chosen.await.map_err(|error| of_sql(&error))?;
        self.webhooks.notify_one();
        Ok(chosen)
    }

    /// Sends webhooks to the shop, for ever.
    pub async fn send_webhooks(self: Arc<Self>, to: Arc<Service>) {
        loop {
            match self.send_due(&to).await {
                Ok(AT_ONCE) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "sandbox: webhooks wait"),
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.webhooks.notified()).await;
        }
    }

    async fn send_due(&self, to: &Service) -> Result<usize, SqlError> {
        let now = self.clock.now();
        let due = self.sql.primary().read(move |tx| due_webhooks(tx, now)).await?;
        let count = due.len();
        for Due { number, body, tries } in due {
            let sent = to.webhook(NAME, &self.signed(&body), body.as_bytes()).await;
            let write = match sent {
                Ok(()) => self.sql.write(move |tx| end_webhook(tx, number)).await,
                Err(NotTaken::Unavailable | NotTaken::Unknown(_)) => {
                    let until = self.clock.now().plus(DurationMs((1000 << tries.min(6)).min(PAUSE_MAX.0)));
                    self.sql.write(move |tx| put_webhook_off(tx, number, tries, until)).await
                }
                Err(error @ (NotTaken::Provider | NotTaken::Webhook(_))) => {
                    tracing::error!(?error, "sandbox: a webhook of its own is refused");
                    self.sql.write(move |tx| end_webhook(tx, number)).await
                }
            };
            write?;
        }
        Ok(count)
    }

    /// Sends what is due now. Returns how many there were.
    #[cfg(test)]
    pub(crate) async fn tell(&self, to: &Service) -> usize {
        self.send_due(to).await.unwrap()
    }

    fn signed(&self, body: &str) -> HeaderMap {
        let signature = signature::sign(&self.secret, self.clock.now(), body.as_bytes());
        let value = HeaderValue::try_from(signature).expect("digits and letters");
        HeaderMap::from_iter([(http::HeaderName::from_static(SIGNATURE), value)])
    }

    async fn start_one(&self, intent: Intent) -> Result<Started, StoreError> {
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let reference = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        let written = self.sql.write(move |tx| {
            tx.insert_new(
                "INSERT INTO sandbox_charges (reference, payment, order_id, currency, amount_minor, \
                 return_path, state) VALUES (?, ?, ?, ?, ?, ?, 'open')",
                params![
                    &reference,
                    &intent.payment.to_bytes(),
                    &intent.order.to_bytes(),
                    intent.amount.currency.as_str(),
                    intent.amount.amount_minor,
                    &intent.return_path
                ],
            )?;
            // The one that is there, if it was started before.
            let (text, key) =
                ("SELECT reference FROM sandbox_charges WHERE payment = ?", intent.payment.to_bytes());
            let reference = tx.query_first(text, params![&key], |row| row.text(0))?;
            reference.ok_or_else(|| SqlError::Defect("a charge is gone".into()))
        });
        let reference = written.await.map_err(|error| of_sql(&error))?;
        let url = format!("/sandbox/{reference}");
        Ok(Started { reference, url })
    }

    /// Gives back once for each key, of what was paid.
    async fn refund_one(&self, refund: RefundAsked) -> Result<Option<Event>, StoreError> {
        let now = self.clock.now();
        let written = self.sql.write(move |tx| {
            let RefundAsked { reference, key, amount, .. } = &refund;
            let text = "SELECT reference FROM sandbox_charges WHERE reference = ? AND state = 'succeeded'";
            if tx.query_first(text, params![reference], |row| row.text(0))?.is_none() {
                return Ok(false);
            }
            let is_new = tx.insert_new(
                "INSERT INTO sandbox_refunds (reference, refund_key, amount_minor, at) VALUES (?, ?, ?, ?)",
                params![reference, key, amount.amount_minor, now.0],
            )?;
            if is_new {
                let event = refund_number(reference, key);
                tx.execute(
                    "INSERT INTO sandbox_webhooks (reference, event, said, due_at, tries, amount_minor, refund_key) \
                     VALUES (?, ?, 'refunded', ?, 0, ?, ?)",
                    params![reference, &event, now.0, amount.amount_minor, key],
                )?;
            }
            Ok::<_, SqlError>(true)
        });
        let is_known = written.await.map_err(|error| of_sql(&error))?;
        self.webhooks.notify_one();
        match is_known {
            true => Ok(None),
            false => Err(StoreError::Invalid("the sandbox has taken no such payment".into())),
        }
    }
}

/// What the sandbox calls money that it has given back.
fn refund_number(reference: &str, key: &str) -> String {
    format!("{reference}-{key}")
}

impl Provider for Sandbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&self, intent: Intent) -> Asked<'_, Started> {
        Box::pin(self.start_one(intent))
    }

    fn refund(&self, refund: RefundAsked) -> Asked<'_, Option<Event>> {
        Box::pin(self.refund_one(refund))
    }

    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, WebhookError> {
        signature::verify(&self.secret, (headers, SIGNATURE), body, self.clock.now())?;
        let webhook: Webhook =
            serde_json::from_slice(body).map_err(|error| WebhookError::Form(error.to_string()))?;
        let Webhook { id, reference, said, amount, refund } = webhook;
        Ok(vec![match &*said {
            SUCCEEDED => event(id, reference, Said::Succeeded, amount, refund),
            AGAIN => taken_again(id, reference, amount),
            "failed" => event(id, reference, Said::Failed, amount, refund),
            "refunded" => event(id, reference, Said::Refunded, amount, refund),
            other => return Err(WebhookError::Form(format!("said: {other:?}"))),
        }])
    }

    fn ledger(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage> {
        Box::pin(async move {
            // Its books are whole: a replica may lack the last lines.
            let page = self.sql.primary().read(move |tx| ledger(tx, (from, to), after.as_deref())).await;
            page.map_err(|error| of_sql(&error))
        })
    }
}

fn event(id: String, reference: String, said: Said, amount: Money, refund_key: Option<String>) -> Event {
    let movement = match (said, &refund_key) {
        (Said::Refunded, Some(key)) => refund_number(&reference, key),
        (Said::Succeeded | Said::Refunded, _) => reference.clone(),
        (Said::Failed | Said::RefundFailed, _) => String::new(),
    };
    Event { id, payment: None, reference, said, movement, amount, refund_key }
}

/// Money that was taken once more for the same charge.
fn taken_again(id: String, reference: String, amount: Money) -> Event {
    let movement = format!("{reference}-again");
    Event { movement, ..event(id, reference, Said::Succeeded, amount, None) }
}

/// A page of what was paid and given back between these times. Those that are given back come after
/// all that were paid; within each the order is that of references.
fn ledger(
    tx: &mut Tx<'_>,
    (from, to): (TimeMs, TimeMs),
    after: Option<&str>,
) -> Result<LedgerPage, SqlError> {
    let (is_refunds, after) = match after.map(|after| after.split_once('/').unwrap_or((after, ""))) {
        None => (false, ""),
        Some((kind, after)) => (kind == REFUNDS, after),
    };
    let (reference, key) = after.split_once('/').unwrap_or((after, ""));
    let currency_and_amount = |row: &engines::sql::Row<'_>| {
        Ok::<_, SqlError>(Money { currency: row.parsed(1, "a currency")?, amount_minor: row.count(2)? })
    };
    if !is_refunds {
        let text = "SELECT reference, currency, amount_minor, paid_at, is_twice FROM sandbox_charges \
                    WHERE state = 'succeeded' AND paid_at >= ? AND paid_at < ? AND reference > ? \
                    ORDER BY reference LIMIT ?";
        let charges = tx.query(text, params![from.0, to.0, reference, AT_ONCE], |row| {
            let (reference, amount) = (row.text(0)?, currency_and_amount(row)?);
            Ok((TimeMs(row.count(3)?), reference, amount, row.count(4)? != 0))
        })?;
        let next = match charges.last() {
            Some((_, last, ..)) if charges.len() == AT_ONCE => format!("{CHARGES}/{last}"),
            _ => REFUNDS.to_owned(),
        };
        let mut movements = Vec::with_capacity(charges.len());
        for (at, reference, amount, is_twice) in charges {
            let id = format!("{reference}-books");
            if is_twice {
                movements.push((at, taken_again(format!("{id}-again"), reference.clone(), amount)));
            }
            movements.push((at, event(id, reference, Said::Succeeded, amount, None)));
        }
        return Ok(LedgerPage { movements, next: Some(next) });
    }
    let text = "SELECT r.reference, c.currency, r.amount_minor, r.at, r.refund_key FROM sandbox_refunds r \
                JOIN sandbox_charges c ON c.reference = r.reference WHERE r.at >= ? AND r.at < ? \
                AND (r.reference > ? OR (r.reference = ? AND r.refund_key > ?)) \
                ORDER BY r.reference, r.refund_key LIMIT ?";
    let movements = tx.query(text, params![from.0, to.0, reference, reference, key, AT_ONCE], |row| {
        let (reference, amount, key) = (row.text(0)?, currency_and_amount(row)?, row.text(4)?);
        let (at, id) = (TimeMs(row.count(3)?), format!("{}-books", refund_number(&reference, &key)));
        Ok((at, event(id, reference, Said::Refunded, amount, Some(key))))
    })?;
    let last = movements.last().filter(|_| movements.len() == AT_ONCE);
    let next = last.map(|(_, of)| {
        format!("{REFUNDS}/{}/{}", of.reference, of.refund_key.as_deref().unwrap_or_default())
    });
    Ok(LedgerPage { movements, next })
}

fn charge(tx: &mut Tx<'_>, reference: &str) -> Result<Option<Charge>, SqlError> {
    let found = tx.query_locked(
        "SELECT payment, order_id, currency, amount_minor, return_path, state FROM sandbox_charges \
         WHERE reference = ?",
        params![reference],
        |row| {
            Ok(Charge {
                reference: reference.to_owned(),
                payment: PaymentId::from_bytes(row.array(0)?),
                order: OrderId::from_bytes(row.array(1)?),
                amount: Money { currency: row.parsed(2, "a currency")?, amount_minor: row.count(3)? },
                return_path: row.text(4)?,
                // One that failed may be tried again.
                is_open: ["open", "failed"].contains(&&*row.text(5)?),
            })
        },
    )?;
    Ok(found.into_iter().next())
}

fn add_webhook(
    tx: &mut Tx<'_>,
    reference: &str,
    event: &str,
    said: &str,
    due_at: TimeMs,
) -> Result<(), SqlError> {
    tx.execute(
        "INSERT INTO sandbox_webhooks (reference, event, said, due_at, tries) VALUES (?, ?, ?, ?, 0)",
        params![reference, event, said, due_at.0],
    )?;
    Ok(())
}

fn due_webhooks(tx: &mut Tx<'_>, now: TimeMs) -> Result<Vec<Due>, SqlError> {
    tx.query(
        "SELECT w.number, w.event, w.reference, w.said, c.currency, COALESCE(w.amount_minor, c.amount_minor), \
         w.tries, w.refund_key \
         FROM sandbox_webhooks w JOIN sandbox_charges c ON c.reference = w.reference \
         WHERE w.due_at <= ? OR w.due_at > ? ORDER BY w.due_at, w.number LIMIT ?",
        params![now.0, now.plus(AHEAD).0, AT_ONCE],
        |row| {
            let webhook = Webhook {
                id: row.text(1)?,
                reference: row.text(2)?,
                said: row.text(3)?,
                amount: Money { currency: row.parsed(4, "a currency")?, amount_minor: row.count(5)? },
                refund: row.maybe_text(7)?,
            };
            let body = serde_json::to_string(&webhook).map_err(|_| unexpected(1, "a webhook"))?;
            Ok(Due { number: row.count(0)?, body, tries: row.count(6)? })
        },
    )
}

fn end_webhook(tx: &mut Tx<'_>, number: u64) -> Result<(), SqlError> {
    tx.execute("DELETE FROM sandbox_webhooks WHERE number = ?", params![number])?;
    Ok(())
}

fn put_webhook_off(tx: &mut Tx<'_>, number: u64, tries: u64, until: TimeMs) -> Result<(), SqlError> {
    tx.execute(
        "UPDATE sandbox_webhooks SET due_at = ?, tries = ? WHERE number = ?",
        params![until.0, tries + 1, number],
    )?;
    Ok(())
}
