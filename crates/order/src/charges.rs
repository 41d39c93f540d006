//! What an order costs beside its lines: shipping and tax, by rules that a shop sets.

use contracts::store::{Charges, Quote, ShippingMethod};
use std::{fmt, sync::Arc};
use units::{Currency, Money};

/// How tax is reckoned. A shop with other rules puts its own in this place.
pub trait TaxRule: Send + Sync {
    /// Of these sums, in minor units.
    fn tax(&self, goods_minor: u64, shipping_minor: u64) -> Tax;
}

/// A tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tax {
    pub minor: u64,
    /// The sums have it already; otherwise it comes on top.
    pub is_included: bool,
}

/// One rate, which the prices have already: such as China's value-added tax of 13 %. Rounded down.
#[derive(Debug, Clone, Copy)]
pub struct IncludedTax {
    /// Hundredths of a per cent: 1,300 are 13 %.
    pub basis_points: u32,
}

impl TaxRule for IncludedTax {
    fn tax(&self, goods_minor: u64, shipping_minor: u64) -> Tax {
        let rate = u128::from(self.basis_points);
        let minor = (u128::from(goods_minor) + u128::from(shipping_minor)) * rate / (10_000 + rate);
        Tax { minor: u64::try_from(minor).unwrap_or(u64::MAX), is_included: true }
    }
}

/// The rules of a shop.
#[derive(Clone)]
pub struct Rules {
    /// At least one; the first is offered first.
    pub shipping: Vec<ShippingMethod>,
    pub tax: Arc<dyn TaxRule>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("shipping", &self.shipping).finish_non_exhaustive()
    }
}

impl Rules {
    /// One way of shipping, which costs nothing, and no tax.
    pub fn free() -> Self {
        let (name, name_zh) = ("Standard delivery".into(), "标准配送".into());
        let standard = ShippingMethod { id: "standard".into(), name, name_zh, price_minor: 0 };
        Self { shipping: vec![standard], tax: Arc::new(IncludedTax { basis_points: 0 }) }
    }

    /// What goods of this sum cost when they go in this way. `None` if there is no such way, or if
    /// it is more than a number can say.
    pub(crate) fn quote(&self, goods: Money, shipping: &str) -> Option<(Quote, Charges)> {
        let method = self.shipping.iter().find(|method| method.id == shipping)?;
        let Tax { minor, is_included } = self.tax.tax(goods.amount_minor, method.price_minor);
        let on_top = if is_included { 0 } else { minor };
        let total = goods.amount_minor.checked_add(method.price_minor)?.checked_add(on_top)?;
        i64::try_from(total).ok()?;
        let sum = |amount_minor| money(amount_minor, goods.currency);
        let quote = Quote {
            goods,
            shipping: sum(method.price_minor),
            tax: sum(minor),
            tax_is_included: is_included,
            total: sum(total),
        };
        let charges =
            Charges { shipping: Some(method.clone()), tax_minor: minor, tax_is_included: is_included };
        Some((quote, charges))
    }
}

fn money(amount_minor: u64, currency: Currency) -> Money {
    Money { amount_minor, currency }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OnTop;

    impl TaxRule for OnTop {
        fn tax(&self, goods_minor: u64, shipping_minor: u64) -> Tax {
            Tax { minor: (goods_minor + shipping_minor) / 10, is_included: false }
        }
    }

    fn quote(rules: &Rules, goods_minor: u64, shipping: &str) -> Option<(u64, u64)> {
        let (quote, _) = rules.quote(money(goods_minor, "CNY".parse().unwrap()), shipping)?;
        Some((quote.tax.amount_minor, quote.total.amount_minor))
    }

    #[test]
    fn tax_is_in_the_price_or_on_top_of_it() {
        let mut rules = Rules::free();
        assert_eq!(quote(&rules, 11_300, "standard"), Some((0, 11_300)));
        rules.shipping[0].price_minor = 1_130;
        rules.tax = Arc::new(IncludedTax { basis_points: 1_300 });
        assert_eq!(quote(&rules, 11_300, "standard"), Some((1_430, 12_430)));
        rules.tax = Arc::new(OnTop);
        assert_eq!(quote(&rules, 11_300, "standard"), Some((1_243, 13_673)));
        assert_eq!(quote(&rules, 11_300, "by pigeon"), None);
        assert_eq!(quote(&rules, i64::MAX as u64, "standard"), None, "more than a number can say");
    }
}
