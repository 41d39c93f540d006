//! A sale's document for this crate's unit tests.

use contracts::SaleSpec;

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
