//! Stripe as a provider. A payment is a PaymentIntent that a Checkout Session makes: Stripe's own
//! page asks for the card, so no number of a card comes here, and it works without a script of
//! ours. What becomes of it comes by signed webhooks, and stands in the lists of charges and
//! refunds.

use crate::{
    core::Said,
    provider::{Event, Intent, LedgerPage, Provider, RefundAsked, Started, WebhookError},
    signature,
};
use aws_lc_rs::hmac;
use contracts::store::{Asked, StoreError};
use engines::clock::Clock;
use http::HeaderMap;
use std::{fmt, sync::Arc};
use units::{Currency, DurationMs, Money, TimeMs};

mod client;
mod wire;

pub use client::ApiUrl;
use client::{Call, Client};

/// Its name among the providers.
pub const NAME: &str = "stripe";
const SIGNATURE: &str = "stripe-signature";
/// Stripe ends a page that was not paid this long after the payment was begun; its own bounds are
/// 30 minutes and 24 hours after the page was made.
const PAGE_FOR: DurationMs = DurationMs(90 * 60_000);
/// A payment is begun anew after this time, so that a page is never shorter than Stripe allows.
const GOOD_FOR: DurationMs = DurationMs(55 * 60_000);
/// Rows of a list, as many as Stripe gives.
const ROWS: &str = "100";
/// The two lists that are its books, as their pages are called.
const CHARGES: &str = "charges";
const REFUNDS: &str = "refunds";

/// What the provider is configured with.
pub struct Settings {
    /// Of the API: for Checkout Sessions and refunds to write, for charges and refunds to read.
    pub secret_key: String,
    /// Of the webhook's endpoint.
    pub webhook_secret: String,
    pub api: ApiUrl,
    /// The shop's origin, to which Stripe's page leads back, and by which the shop knows its own.
    pub shop: String,
    /// Ways to pay, as Stripe calls them.
    pub methods: Vec<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("api", &self.api).field("shop", &self.shop).finish_non_exhaustive()
    }
}

/// The provider.
pub struct Stripe {
    client: Client,
    webhook_secret: hmac::Key,
    shop: String,
    methods: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Settings {
    /// Whether money would move: the key is not one of Stripe's test mode.
    pub fn is_live(&self) -> bool {
        !self.secret_key.contains("_test_")
    }
}

/// Whether these are ways to pay: at least one, each of a-z and `_`.
pub fn are_methods(methods: &[String]) -> bool {
    let is_name = |name: &String| {
        (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    (1..=20).contains(&methods.len()) && methods.iter().all(is_name)
}

impl Stripe {
    /// `Err` says which of the settings cannot be right.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let Settings { secret_key, webhook_secret, api, shop, methods } = settings;
        if !webhook_secret.starts_with("whsec_") {
            return Err("the webhook's secret: want one that begins with whsec_".into());
        }
        let client = Client::new(api, secret_key)?;
        let webhook_secret = hmac::Key::new(hmac::HMAC_SHA256, webhook_secret.as_bytes());
        Ok(Arc::new(Self { client, webhook_secret, shop, methods, clock }))
    }

    async fn start_one(&self, intent: Intent) -> Result<Started, StoreError> {
        let amount = stripe_amount(intent.amount)?;
        let payment = intent.payment.to_string();
        let back = format!("{}{}", self.shop, intent.return_path);
        let given_up = back.split('?').next().unwrap_or_default();
        let ends_at = intent.payment.at().plus(PAGE_FOR).0 / 1000;
        let mut call = Call::post("/v1/checkout/sessions")
            .with("mode", "payment")
            .with("client_reference_id", &payment)
            .with("success_url", &back)
            .with("cancel_url", given_up)
            .with("expires_at", &ends_at.to_string())
            .with("line_items[0][quantity]", "1")
            .with(
                "line_items[0][price_data][currency]",
                &intent.amount.currency.as_str().to_ascii_lowercase(),
            )
            .with("line_items[0][price_data][unit_amount]", &amount.to_string())
            .with("line_items[0][price_data][product_data][name]", &format!("Order {}", intent.order))
            .with("metadata[payment]", &payment)
            .with("metadata[shop]", &self.shop)
            .with("payment_intent_data[metadata][payment]", &payment)
            .with("payment_intent_data[metadata][order]", &intent.order.to_string())
            .with("payment_intent_data[metadata][shop]", &self.shop)
            .once(format!("{payment}-start"));
        for method in &self.methods {
            call = call.with("payment_method_types[]", method);
            if method == "wechat_pay" {
                call = call.with("payment_method_options[wechat_pay][client]", "web");
            }
        }
        let session: wire::Session = self.client.ask(call).await?;
        let url = session.url.ok_or_else(|| StoreError::Unavailable("Stripe's answer has no page".into()))?;
        Ok(Started { reference: session.id, url })
    }

    /// Stripe forgets a key of a repeat after a day or more, so it is asked first what it has made.
    async fn refund_one(&self, asked: RefundAsked) -> Result<Option<Event>, StoreError> {
        let RefundAsked { payment, reference, key, amount } = asked;
        let made = Call::get("/v1/refunds").with("payment_intent", &reference).with("limit", ROWS);
        let made: wire::List<wire::Refund> = self.client.ask(made).await?;
        let ours = || made.data.iter().filter(|refund| refund.is_of(&self.shop, payment, &key));
        if let Some(refund) = ours().find(|refund| !refund.is_over()) {
            return Ok(refund.moved(&self.shop).map(|(_, event)| event));
        }
        // One that has failed is followed by another, under another key.
        let failed = ours().count();
        let minor = stripe_amount(amount)?;
        let call = Call::post("/v1/refunds")
            .with("payment_intent", &reference)
            .with("amount", &minor.to_string())
            .with("metadata[payment]", &payment.to_string())
            .with("metadata[key]", &key)
            .with("metadata[shop]", &self.shop)
            .once(format!("{payment}-refund-{key}-{minor}-{failed}"));
        let refund: wire::Refund = self.client.ask(call).await?;
        match refund.is_over() {
            true => Err(StoreError::Unavailable(format!("Stripe's refund {} has failed", refund.id))),
            false => Ok(refund.moved(&self.shop).map(|(_, event)| event)),
        }
    }

    async fn page(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Result<LedgerPage, StoreError> {
        let (list, last) = list_of(after.as_deref());
        let mut call = Call::get(if list == REFUNDS { "/v1/refunds" } else { "/v1/charges" })
            .with("limit", ROWS)
            .with("created[gte]", &(from.0 / 1000).to_string())
            .with("created[lt]", &to.0.div_ceil(1000).to_string());
        if let Some(last) = last {
            call = call.with("starting_after", last);
        }
        let (movements, last, has_more) = if list == REFUNDS {
            let page: wire::List<wire::Refund> = self.client.ask(call).await?;
            let last = page.data.last().map(|refund| refund.id.clone());
            (page.data.iter().filter_map(|of| of.listed(&self.shop)).collect(), last, page.has_more)
        } else {
            let page: wire::List<wire::Charge> = self.client.ask(call).await?;
            let last = page.data.last().map(|charge| charge.id.clone());
            (page.data.iter().filter_map(|of| of.moved(&self.shop)).collect(), last, page.has_more)
        };
        Ok(LedgerPage { movements, next: next(list, last, has_more) })
    }
}

/// Which list a page is of, and after which of its rows.
fn list_of(after: Option<&str>) -> (&str, Option<&str>) {
    match after.map(|after| (after, after.split_once('/'))) {
        None => (CHARGES, None),
        Some((_, Some((list, last)))) => (list, Some(last)),
        Some((list, None)) => (list, None),
    }
}

/// What asks for the page after this one: first all charges, then all refunds.
fn next(list: &str, last: Option<String>, has_more: bool) -> Option<String> {
    match (last, has_more) {
        (Some(last), true) => Some(format!("{list}/{last}")),
        _ => (list == CHARGES).then(|| REFUNDS.to_owned()),
    }
}

impl Provider for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn names_payments(&self) -> bool {
        true
    }

    fn good_for(&self) -> DurationMs {
        GOOD_FOR
    }

    fn start(&self, intent: Intent) -> Asked<'_, Started> {
        Box::pin(self.start_one(intent))
    }

    fn refund(&self, refund: RefundAsked) -> Asked<'_, Option<Event>> {
        Box::pin(self.refund_one(refund))
    }

    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, WebhookError> {
        signature::verify(&self.webhook_secret, (headers, SIGNATURE), body, self.clock.now())?;
        wire::read(&self.shop, body)
    }

    fn ledger(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage> {
        Box::pin(self.page(from, to, after))
    }

    fn refunds(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage> {
        Box::pin(self.page(from, to, after.or_else(|| Some(REFUNDS.to_owned()))))
    }
}

/// By how much an amount in Stripe's smallest unit is larger or smaller than in ISO 4217's minor
/// unit (Stripe's documentation, "Supported currencies", special cases).
fn scale(currency: Currency) -> (u64, u64) {
    match currency.as_str() {
        // Without a minor unit, and written with two digits all the same.
        "ISK" | "UGX" => (100, 1),
        // Taken without a minor unit.
        "MGA" => (1, 100),
        _ => (1, 1),
    }
}

/// As Stripe writes it.
fn stripe_amount(of: Money) -> Result<u64, StoreError> {
    let (times, by) = scale(of.currency);
    // Stripe rounds the last digit of these away.
    let by_ten = of.currency.minor_digits() == 3;
    let is_whole = of.amount_minor.is_multiple_of(by) && (!by_ten || of.amount_minor.is_multiple_of(10));
    let amount = of.amount_minor.checked_mul(times).filter(|_| is_whole).map(|amount| amount / by);
    amount.ok_or_else(|| StoreError::Invalid(format!("{of}: Stripe takes no such amount")))
}

/// From an amount as Stripe writes it, with the currency in lower case.
fn money(amount: u64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.to_ascii_uppercase().parse().ok()?;
    let (times, by) = scale(currency);
    Some(Money { amount_minor: amount.checked_mul(by)? / times, currency })
}

/// What Stripe says of money that moved.
fn moved(said: Said, movement: &str, amount: Money, of: &wire::Of<'_>) -> Event {
    let what = match said {
        Said::Succeeded => "received",
        Said::Refunded => "given-back",
        Said::Failed | Said::RefundFailed => "failed",
    };
    Event {
        id: format!("{movement}-{what}"),
        payment: of.payment,
        reference: of.payment_intent.to_owned(),
        said,
        movement: movement.to_owned(),
        amount,
        refund_key: of.key.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_stripe_does() {
        let of = |amount_minor, currency: &str| Money { amount_minor, currency: currency.parse().unwrap() };
        for (ours, theirs) in [
            (of(199_900, "CNY"), 199_900),
            (of(1_999, "JPY"), 1_999),
            (of(1_999, "ISK"), 199_900),
            (of(1_500, "UGX"), 150_000),
            (of(199_900, "MGA"), 1_999),
            (of(1_230, "KWD"), 1_230),
        ] {
            assert_eq!(stripe_amount(ours), Ok(theirs), "{ours}");
            assert_eq!(money(theirs, &ours.currency.as_str().to_lowercase()), Some(ours));
        }
        for wrong in [of(1_234, "KWD"), of(150, "MGA"), of(u64::MAX, "ISK")] {
            assert!(matches!(stripe_amount(wrong), Err(StoreError::Invalid(_))), "{wrong}");
        }
        assert_eq!((money(1, "x"), money(u64::MAX, "mga")), (None, None));
    }

    #[test]
    fn the_books_are_all_charges_and_then_all_refunds() {
        let step = |after: Option<&str>, last: Option<&str>, has_more| {
            let (list, _) = list_of(after);
            next(list, last.map(str::to_owned), has_more)
        };
        assert_eq!(list_of(None), (CHARGES, None));
        let second = step(None, Some("ch_100"), true).unwrap();
        assert_eq!(list_of(Some(&second)), (CHARGES, Some("ch_100")));
        let third = step(Some(&second), Some("ch_150"), false).unwrap();
        assert_eq!(list_of(Some(&third)), (REFUNDS, None));
        assert_eq!(step(None, None, false).as_deref(), Some(REFUNDS), "a day without a charge");
        let fourth = step(Some(&third), Some("re_100"), true).unwrap();
        assert_eq!(list_of(Some(&fourth)), (REFUNDS, Some("re_100")));
        assert_eq!(step(Some(&fourth), Some("re_101"), false), None);
        assert_eq!(step(Some(&third), None, false), None);
    }

    #[test]
    fn the_api_is_reached_over_tls_or_on_this_machine() {
        for good in ["https://api.stripe.com", "http://127.0.0.1:12111"] {
            assert!(good.parse::<ApiUrl>().is_ok(), "{good}");
        }
        for wrong in [
            "",
            "https://",
            "http://api.stripe.com",
            "https://a.example/v1",
            "https://u@a.example",
            "ftp://a",
        ] {
            assert!(wrong.parse::<ApiUrl>().is_err(), "{wrong}");
        }
    }
}
