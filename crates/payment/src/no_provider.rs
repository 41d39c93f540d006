//! For a shop that takes no payments by itself: operators confirm what was paid elsewhere.

use crate::provider::{Event, Intent, LedgerPage, Provider, RefundAsked, Started, WebhookError};
use contracts::store::{Asked, StoreError};
use http::HeaderMap;
use units::TimeMs;

/// No provider.
#[derive(Debug)]
pub struct NoProvider;

impl Provider for NoProvider {
    fn name(&self) -> &'static str {
        "none"
    }

    fn start(&self, _: Intent) -> Asked<'_, Started> {
        let why = "the shop takes no payments here: pay as it has told you";
        Box::pin(async move { Err(StoreError::Invalid(why.into())) })
    }

    fn has_books(&self) -> bool {
        false
    }

    fn refund(&self, refund: RefundAsked) -> Asked<'_, Option<Event>> {
        let payment = refund.payment;
        Box::pin(
            async move { Err(StoreError::Invalid(format!("payment {payment}: no provider is configured"))) },
        )
    }

    fn read(&self, _: &HeaderMap, _: &[u8]) -> Result<Vec<Event>, WebhookError> {
        Err(WebhookError::Signature)
    }

    fn ledger(&self, _: TimeMs, _: TimeMs, _: Option<String>) -> Asked<'_, LedgerPage> {
        Box::pin(async { Ok(LedgerPage::default()) })
    }
}
