//! What must hold for any bytes that come as an attempt's body: they are a basket that the sale can
//! decide, or are refused with a reason that names the error. Nothing else.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use contracts::{LINES_MAX, QUANTITY_MAX, SaleSpec};
use gate::parse_basket;
use std::{fmt::Write as _, sync::LazyLock};

/// A sale of ten items, so that a basket can have too many; some names are hard to write in JSON or
/// near one another.
pub(crate) static SPEC: LazyLock<SaleSpec> = LazyLock::new(|| {
    let names = ["phone", "phone-2", "case", "a", "b", "c", "d", "e", "f", "g"];
    let list = |make: fn(&str) -> String| names.map(make).join(",");
    let items = list(|item| format!(r#"{{"item":"{item}","name":"{item}"}}"#));
    let offers = list(|item| format!(r#"{{"item":"{item}","stock":9,"price_minor":1}}"#));
    let json = format!(
        r#"{{"name":"Launch","currency":"CNY","items":[{items}],"rounds":[
            {{"opens_at":"2026-11-11T10:00:00Z","closes_at":"2026-11-11T11:00:00Z","items":[{offers}]}}]}}"#
    );
    serde_json::from_str(&json).expect("the sale of this check is one")
});

pub(crate) fn check(data: &[u8]) {
    let basket = match parse_basket(data, &SPEC) {
        Ok(basket) => basket,
        Err(why) => {
            assert!(why.starts_with("body: ") || why.starts_with("lines: "), "{why}");
            assert!(why.len() <= data.len() * 6 + 512, "{} bytes of why for {}", why.len(), data.len());
            return;
        }
    };
    assert!((1..=LINES_MAX).contains(&basket.len()), "{basket:?}");
    assert!(basket.is_sorted_by(|a, b| a.item < b.item), "each item once, in order: {basket:?}");
    assert!(basket.iter().all(|line| (1..=QUANTITY_MAX).contains(&line.quantity)), "{basket:?}");
    let mut again = String::new();
    for line in basket.iter() {
        let item = &SPEC.items[usize::from(line.item)].item;
        let comma = if again.is_empty() { "" } else { "," };
        let _ = write!(again, r#"{comma}{{"item":"{item}","quantity":{}}}"#, line.quantity);
    }
    let again = format!(r#"{{"lines":[{again}]}}"#);
    assert_eq!(parse_basket(again.as_bytes(), &SPEC), Ok(basket), "{again}");
}
