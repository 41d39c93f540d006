//! What Stripe sends, as far as it is of interest: objects of the API, which are the same in
//! answers and in webhooks (API reference, versions from 2022-11-15 on).

use super::{money, moved};
use crate::{
    core::Said,
    provider::{Event, WebhookError},
};
use contracts::store::PaymentId;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use units::{Currency, Money, TimeMs};

/// What the shop has written on an object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    shop: Option<String>,
    payment: Option<String>,
    key: Option<String>,
}

impl Metadata {
    /// The payment, if it is this shop's: another one may use the same account.
    fn payment(&self, shop: &str) -> Option<PaymentId> {
        self.payment.as_ref().filter(|_| self.shop.as_deref() == Some(shop))?.parse().ok()
    }
}

/// The payment on which an object's metadata says it was made.
fn payment_of(shop: &str, metadata: Option<&Metadata>) -> Option<PaymentId> {
    metadata.and_then(|of| of.payment(shop))
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

/// A page on which a shopper pays.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) url: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct PaymentIntent {
    id: String,
    amount_received: u64,
    currency: String,
    metadata: Option<Metadata>,
}

/// Money that was taken, or was to be.
#[derive(Debug, Deserialize)]
pub(super) struct Charge {
    pub(super) id: String,
    payment_intent: Option<String>,
    paid: bool,
    captured: bool,
    amount_captured: u64,
    currency: String,
    created: u64,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    payment_intent: Option<String>,
    status: Option<String>,
    amount: u64,
    currency: String,
    created: u64,
    metadata: Option<Metadata>,
}

/// What an object belongs to.
pub(super) struct Of<'a> {
    pub(super) payment: Option<PaymentId>,
    pub(super) payment_intent: &'a str,
    pub(super) key: Option<&'a str>,
}

fn time(seconds: u64) -> TimeMs {
    TimeMs(seconds.saturating_mul(1000).min(TimeMs::MAX.0))
}

impl PaymentIntent {
    fn moved(&self, shop: &str) -> Option<Event> {
        let payment = payment_of(shop, self.metadata.as_ref());
        let of = Of { payment, payment_intent: &self.id, key: None };
        Some(moved(Said::Succeeded, &self.id, money(self.amount_received, &self.currency)?, &of))
    }
}

impl Charge {
    /// The money that was taken, and when; none if the charge failed, or is of no PaymentIntent.
    pub(super) fn moved(&self, shop: &str) -> Option<(TimeMs, Event)> {
        let intent = self.payment_intent.as_deref().filter(|_| self.paid && self.captured)?;
        // A PaymentIntent has one charge that succeeds: the money is known by its number.
        let payment = payment_of(shop, self.metadata.as_ref());
        let of = Of { payment, payment_intent: intent, key: None };
        let amount = money(self.amount_captured, &self.currency)?;
        Some((time(self.created), moved(Said::Succeeded, intent, amount, &of)))
    }
}

impl Refund {
    /// Whether nothing goes back by it any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    /// Whether it was made for this part of what is to go back.
    pub(super) fn is_of(&self, shop: &str, payment: PaymentId, key: &str) -> bool {
        let metadata = self.metadata.as_ref();
        payment_of(shop, metadata) == Some(payment)
            && metadata.is_some_and(|of| of.key.as_deref() == Some(key))
    }

    /// As the list of refunds has it: the money that went back, or that it did not.
    pub(super) fn listed(&self, shop: &str) -> Option<(TimeMs, Event)> {
        if self.is_over() { self.said(shop, Said::RefundFailed) } else { self.moved(shop) }
    }

    /// The money that went back, and when it was asked for.
    pub(super) fn moved(&self, shop: &str) -> Option<(TimeMs, Event)> {
        let is_back = self.status.as_deref() == Some("succeeded");
        is_back.then(|| self.said(shop, Said::Refunded)).flatten()
    }

    fn said(&self, shop: &str, said: Said) -> Option<(TimeMs, Event)> {
        let metadata = self.metadata.as_ref();
        let of = Of {
            payment: payment_of(shop, metadata),
            payment_intent: self.payment_intent.as_deref()?,
            key: metadata.and_then(|of| of.key.as_deref()),
        };
        let amount = money(self.amount, &self.currency)?;
        Some((time(self.created), moved(said, &self.id, amount, &of)))
    }
}

#[derive(Deserialize)]
struct Webhook {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

/// Reads a webhook that is Stripe's.
pub(super) fn read(shop: &str, body: &[u8]) -> Result<Vec<Event>, WebhookError> {
    let form = |error: serde_json::Error| WebhookError::Form(error.to_string());
    let Webhook { id, kind, data: Data { object } } = serde_json::from_slice(body).map_err(form)?;
    fn of<T: DeserializeOwned>(object: Value) -> Result<T, WebhookError> {
        serde_json::from_value(object).map_err(|error| WebhookError::Form(error.to_string()))
    }
    let event = match &*kind {
        "payment_intent.succeeded" => of::<PaymentIntent>(object)?.moved(shop),
        // A card that is refused is no end: the shopper tries another one on the same page.
        "checkout.session.expired" | "checkout.session.async_payment_failed" => {
            over(shop, id, &of::<Session>(object)?)
        }
        "refund.created" | "refund.updated" | "charge.refund.updated" | "refund.failed" => {
            of::<Refund>(object)?.listed(shop).map(|(_, event)| event)
        }
        // The money is taken back by the bank, and stands in neither of the two lists.
        "charge.dispute.created" | "charge.dispute.closed" => {
            tracing::warn!(event = id, kind, "payments: Stripe tells of a dispute: look at it there");
            None
        }
        _ => None,
    };
    Ok(event.into_iter().collect())
}

fn over(shop: &str, id: String, session: &Session) -> Option<Event> {
    Some(Event {
        id,
        payment: Some(payment_of(shop, session.metadata.as_ref())?),
        reference: session.id.clone(),
        said: Said::Failed,
        movement: String::new(),
        amount: Money { amount_minor: 0, currency: Currency::NONE },
        refund_key: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PAYMENT: &str = "01k9zzzzzzzzzzzzzzzzzzzzzz";
    const SHOP: &str = "https://shop.example";

    fn event(kind: &str, object: Value) -> Result<Vec<Event>, WebhookError> {
        read(
            SHOP,
            json!({ "id": "evt_1", "type": kind, "data": { "object": object } }).to_string().as_bytes(),
        )
    }

    fn refund(status: &str) -> Value {
        json!({
            "id": "re_1", "payment_intent": "pi_1", "status": status, "amount": 300, "currency": "cny",
            "created": 1_800_000_000, "metadata": { "shop": SHOP, "payment": PAYMENT, "key": "return-1" },
        })
    }

    #[test]
    fn money_has_the_same_number_in_a_webhook_and_in_the_books() {
        let intent = json!({
            "id": "pi_1", "amount_received": 1_000, "currency": "cny", "metadata": { "shop": SHOP, "payment": PAYMENT },
        });
        let told = event("payment_intent.succeeded", intent).unwrap().remove(0);
        let charge = json!({
            "id": "ch_1", "payment_intent": "pi_1", "paid": true, "captured": true, "amount_captured": 1_000,
            "currency": "cny", "created": 1_800_000_000, "metadata": { "shop": SHOP, "payment": PAYMENT },
        });
        let of_books: Charge = serde_json::from_value(charge.clone()).unwrap();
        assert_eq!(of_books.moved(SHOP), Some((TimeMs(1_800_000_000_000), told.clone())));
        assert_eq!(
            (told.payment, &*told.movement, told.said),
            (PAYMENT.parse().ok(), "pi_1", Said::Succeeded)
        );
        // A card that was refused, or only checked, moved no money.
        for (field, value) in
            [("paid", json!(false)), ("captured", json!(false)), ("payment_intent", Value::Null)]
        {
            let mut charge = charge.clone();
            charge[field] = value;
            assert_eq!(serde_json::from_value::<Charge>(charge).unwrap().moved(SHOP), None, "{field}");
        }

        let told = event("refund.updated", refund("succeeded")).unwrap().remove(0);
        let of_books: Refund = serde_json::from_value(refund("succeeded")).unwrap();
        assert_eq!(of_books.moved(SHOP).unwrap().1, told);
        assert_eq!(
            (&*told.movement, &*told.reference, told.refund_key.as_deref()),
            ("re_1", "pi_1", Some("return-1"))
        );
        for status in ["pending", "requires_action"] {
            assert_eq!(event("refund.created", refund(status)), Ok(vec![]), "{status}");
        }
        for (kind, status) in [("refund.failed", "failed"), ("refund.updated", "canceled")] {
            let failed = event(kind, refund(status)).unwrap().remove(0);
            assert_eq!((failed.said, &*failed.movement), (Said::RefundFailed, "re_1"), "{status}");
            assert_ne!(failed.id, told.id);
            // If no webhook tells of it, the list of refunds does.
            let listed: Refund = serde_json::from_value(refund(status)).unwrap();
            assert_eq!(listed.listed(SHOP), Some((TimeMs(1_800_000_000_000), failed)), "{status}");
        }
    }

    #[test]
    fn a_page_that_is_over_ends_the_payment_and_other_news_are_nothing() {
        let session = json!({ "id": "cs_1", "url": null, "metadata": { "shop": SHOP, "payment": PAYMENT } });
        let over = event("checkout.session.expired", session).unwrap().remove(0);
        assert_eq!((over.said, over.payment, &*over.movement), (Said::Failed, PAYMENT.parse().ok(), ""));
        let foreign = json!({ "id": "cs_1", "url": null, "metadata": {} });
        assert_eq!(event("checkout.session.expired", foreign), Ok(vec![]));
        for kind in ["payment_intent.payment_failed", "charge.dispute.created", "price.created"] {
            assert_eq!(event(kind, json!({})), Ok(vec![]), "{kind}");
        }
        for wrong in [&b""[..], b"{}", br#"{"id":"e","type":"refund.created","data":{"object":{}}}"#, b"\xff"]
        {
            assert!(matches!(read(SHOP, wrong), Err(WebhookError::Form(_))), "{wrong:?}");
        }
    }
}
