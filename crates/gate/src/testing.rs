//! A sale for this crate's unit tests.

use contracts::{SaleSpec, SaleState, SaleView};
use std::sync::Arc;
use units::{Sequence, TimeMs};

pub(crate) fn spec() -> SaleSpec {
    serde_json::from_str(
        r#"{"name":"Launch","currency":"CNY",
            "items":[{"item":"phone","name":"Phone"},{"item":"watch","name":"Watch"}],
            "rounds":[{"opens_at":"2026-11-11T10:00:00Z","closes_at":"2026-11-11T11:00:00Z",
                       "items":[{"item":"phone","stock":10,"price_minor":199900},
                                {"item":"watch","stock":10,"price_minor":9900}]}]}"#,
    )
    .expect("the document is well-formed")
}

pub(crate) fn view() -> SaleView {
    SaleView {
        sale: "demo".parse().expect("a name"),
        spec: Arc::new(spec()),
        state: SaleState::Open,
        rounds_opened: 1,
        opens_at: TimeMs(0),
        closes_at: TimeMs(1),
        items: Vec::new(),
        limit_per_shopper: 0,
        rate_per_second: 0,
        disk_full: false,
        pause: None,
        is_restored: false,
        state_since: Sequence(1),
        denied: Arc::default(),
        as_of: Sequence(1),
    }
}
