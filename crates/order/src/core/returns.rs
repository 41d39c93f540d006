//! The rules of a return: which units may come back, what is paid for them, and in which order its
//! steps come.

use super::OrderLine;
use contracts::store::{OrderState, RETURN_WITHIN, ReturnState, StockLine, Wish};
use std::collections::BTreeMap;
use units::TimeMs;

/// Returns of one order.
pub const RETURNS_MAX: usize = 20;

/// What the rules need to know of an order.
#[derive(Debug, Clone, Copy)]
pub struct Bought<'a> {
    pub state: OrderState,
    pub delivered_at: Option<TimeMs>,
    pub lines: &'a [OrderLine],
    /// All that was paid.
    pub total_minor: u64,
    /// Tax that came on top of the lines' prices.
    pub tax_on_top_minor: u64,
    /// What went back outside of returns, at the provider.
    pub gone_minor: u64,
}

/// What the rules need to know of an earlier return.
#[derive(Debug, Clone)]
pub struct Earlier {
    pub state: ReturnState,
    pub lines: Vec<StockLine>,
    pub refund_minor: u64,
}

/// Why units do not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReturned {
    /// The order is not delivered.
    State(OrderState),
    TooLate,
    TooMany,
    /// No units were named.
    Nothing,
    /// So many units of this SKU could come back yet.
    Units {
        sku: String,
        left: u64,
    },
}

/// What can come back of each SKU yet.
pub fn left(lines: &[OrderLine], earlier: &[Earlier]) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::<String, u64>::new();
    for line in lines {
        *left.entry(line.sku.to_string()).or_default() += u64::from(line.quantity);
    }
    let alive = earlier.iter().filter(|earlier| earlier.state.is_alive());
    for line in alive.flat_map(|earlier| &earlier.lines) {
        if let Some(left) = left.get_mut(line.sku.as_str()) {
            *left = left.saturating_sub(line.quantity.into());
        }
    }
    left
}

/// Whether these units may come back. Returns what goes back for them: their price and their part
/// of the tax; with the last ones, all that is left of what was paid, shipping too.
pub fn request(
    now: TimeMs,
    of: Bought<'_>,
    earlier: &[Earlier],
    lines: &[StockLine],
) -> Result<u64, NotReturned> {
    if !matches!(of.state, OrderState::Delivered | OrderState::PartRefunded) {
        return Err(NotReturned::State(of.state));
    }
    if of.delivered_at.is_none_or(|at| at.plus(RETURN_WITHIN) < now) {
        return Err(NotReturned::TooLate);
    }
    if earlier.len() >= RETURNS_MAX {
        return Err(NotReturned::TooMany);
    }
    if lines.iter().all(|line| line.quantity == 0) {
        return Err(NotReturned::Nothing);
    }
    let mut left = left(of.lines, earlier);
    for line in lines {
        let of_sku = left.get_mut(line.sku.as_str());
        match of_sku {
            Some(left) if *left >= u64::from(line.quantity) => *left -= u64::from(line.quantity),
            other => {
                let left = other.map_or(0, |left| *left);
                return Err(NotReturned::Units { sku: line.sku.to_string(), left });
            }
        }
    }
    Ok(value(of, earlier, lines))
}

/// What goes back for these units, beside these returns, of which those that were rejected or
/// withdrawn do not count.
pub fn value(of: Bought<'_>, earlier: &[Earlier], lines: &[StockLine]) -> u64 {
    let mut left = left(of.lines, earlier);
    for line in lines {
        let of_sku = left.entry(line.sku.to_string()).or_default();
        *of_sku = of_sku.saturating_sub(line.quantity.into());
    }
    let given: u64 = earlier.iter().filter(|of| of.state.is_alive()).map(|of| of.refund_minor).sum();
    let rest = of.total_minor.saturating_sub(given).saturating_sub(of.gone_minor);
    if left.values().all(|left| *left == 0) {
        return rest;
    }
    let price =
        |sku: &str| of.lines.iter().find(|line| line.sku.as_str() == sku).map_or(0, |of| of.price_minor);
    let goods: u64 = lines.iter().map(|line| price(line.sku.as_str()) * u64::from(line.quantity)).sum();
    let all: u64 = of.lines.iter().map(|line| line.price_minor * u64::from(line.quantity)).sum();
    let tax = u128::from(of.tax_on_top_minor) * u128::from(goods) / u128::from(all.max(1));
    (goods + tax as u64).min(rest)
}

/// What is done with a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Approve,
    Reject,
    Withdraw,
    /// The units are here.
    Receive,
    /// The money is back with the shopper.
    Refunded,
    /// The same units cannot be sent again: the money goes back instead.
    GiveUp,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Withdraw => "withdraw",
            Self::Receive => "receive",
            Self::Refunded => "refunded",
            Self::GiveUp => "give up",
        }
    }
}

/// The state after a step; `None` if the step does not fit. A step that was made already changes
/// nothing.
pub fn follow(state: ReturnState, wish: Wish, step: Step) -> Option<ReturnState> {
    use ReturnState::{Approved, Exchanged, Received, Refunded, Rejected, Requested, Withdrawn};
    Some(match (step, state) {
        (Step::Approve, Requested | Approved) => Approved,
        (Step::Reject, Requested | Approved | Rejected) => Rejected,
        (Step::Withdraw, Requested | Approved | Withdrawn) => Withdrawn,
        (Step::Receive, Approved) if wish == Wish::Exchange => Exchanged,
        (Step::Receive, Approved | Received) => Received,
        (Step::Receive, Exchanged | Refunded) => state,
        (Step::Refunded, Received | Refunded) => Refunded,
        (Step::GiveUp, Exchanged) => Received,
        // Of a return that was an exchange once.
        (Step::GiveUp, Received | Refunded) => state,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn line(sku: &str, quantity: u32, price_minor: u64) -> OrderLine {
        OrderLine { sku: sku.parse().unwrap(), name: sku.into(), name_zh: sku.into(), quantity, price_minor }
    }

    fn back(sku: &str, quantity: u32) -> StockLine {
        StockLine { sku: sku.parse().unwrap(), quantity }
    }

    fn bought(lines: &[OrderLine]) -> Bought<'_> {
        let total_minor = 5_000 + 2_000 + 700 + 300;
        let delivered_at = Some(TimeMs(DAY));
        Bought {
            state: OrderState::Delivered,
            delivered_at,
            lines,
            total_minor,
            tax_on_top_minor: 700,
            gone_minor: 0,
        }
    }

    fn earlier(state: ReturnState, lines: Vec<StockLine>, refund_minor: u64) -> Earlier {
        Earlier { state, lines, refund_minor }
    }

    #[test]
    fn a_part_gets_its_price_and_tax_back_and_the_last_part_all_that_is_left() {
        // Five of 10.00, one of 20.00, tax of 7.00 on top, shipping of 3.00.
        let lines = [line("A", 5, 1_000), line("B", 1, 2_000)];
        let ask = |earlier: &[Earlier], lines_back: &[StockLine]| {
            request(TimeMs(2 * DAY), bought(&lines), earlier, lines_back)
        };
        assert_eq!(ask(&[], &[back("A", 2)]), Ok(2_200));
        assert_eq!(ask(&[], &[back("A", 5), back("B", 1)]), Ok(8_000));
        let two = earlier(ReturnState::Refunded, vec![back("A", 2)], 2_200);
        assert_eq!(ask(std::slice::from_ref(&two), &[back("A", 3), back("B", 1)]), Ok(5_800));
        let too_many = NotReturned::Units { sku: "A".into(), left: 3 };
        assert_eq!(ask(std::slice::from_ref(&two), &[back("A", 4)]), Err(too_many.clone()));
        assert_eq!(
            ask(std::slice::from_ref(&two), &[back("A", 3), back("A", 1)]).unwrap_err(),
            NotReturned::Units { sku: "A".into(), left: 0 }
        );
        // What was rejected, or kept after all, may come back later.
        let kept = earlier(ReturnState::Withdrawn, vec![back("A", 5)], 5_500);
        assert_eq!(ask(&[kept], &[back("A", 5)]), Ok(5_500));
        assert_eq!(ask(&[], &[back("C", 1)]), Err(NotReturned::Units { sku: "C".into(), left: 0 }));
        assert_eq!(ask(&[], &[back("A", 0)]), Err(NotReturned::Nothing));
        // What the provider gave back by hand counts too.
        let mut some_gone = bought(&lines);
        some_gone.gone_minor = 7_900;
        assert_eq!(request(TimeMs(2 * DAY), some_gone, &[], &[back("A", 2)]), Ok(100));
        // Money that was given back before for nothing counts.
        let gift = earlier(ReturnState::Received, vec![], 7_900);
        assert_eq!(ask(&[gift], &[back("A", 2)]), Ok(100));
    }

    #[test]
    fn only_what_was_delivered_comes_back_and_in_time() {
        let lines = [line("A", 1, 8_000)];
        let of = |state, now| request(TimeMs(now), Bought { state, ..bought(&lines) }, &[], &[back("A", 1)]);
        assert_eq!(of(OrderState::Shipped, DAY), Err(NotReturned::State(OrderState::Shipped)));
        assert_eq!(of(OrderState::Refunded, DAY), Err(NotReturned::State(OrderState::Refunded)));
        assert_eq!(of(OrderState::Delivered, 31 * DAY), Ok(8_000));
        assert_eq!(of(OrderState::Delivered, 31 * DAY + 1), Err(NotReturned::TooLate));
        let rejected = vec![earlier(ReturnState::Rejected, vec![], 0); RETURNS_MAX];
        let too_many = request(TimeMs(DAY), bought(&lines), &rejected, &[back("A", 1)]);
        assert_eq!(too_many, Err(NotReturned::TooMany));
    }

    #[test]
    fn a_step_that_comes_again_changes_nothing_and_one_that_does_not_fit_is_refused() {
        use ReturnState::{Approved, Exchanged, Received, Refunded, Rejected, Requested, Withdrawn};
        let check = |wish, from, step, want| {
            assert_eq!(follow(from, wish, step), want, "{step:?} of {from:?}");
            if let Some(after) = want {
                assert_eq!(follow(after, wish, step), want, "{step:?} of {from:?} again");
            }
        };
        check(Wish::Refund, Requested, Step::Approve, Some(Approved));
        check(Wish::Refund, Approved, Step::Receive, Some(Received));
        check(Wish::Exchange, Approved, Step::Receive, Some(Exchanged));
        check(Wish::Refund, Received, Step::Refunded, Some(Refunded));
        check(Wish::Refund, Approved, Step::Withdraw, Some(Withdrawn));
        check(Wish::Refund, Requested, Step::Reject, Some(Rejected));
        check(Wish::Refund, Requested, Step::Receive, None);
        check(Wish::Refund, Received, Step::Reject, None);
        check(Wish::Refund, Received, Step::Withdraw, None);
        check(Wish::Refund, Rejected, Step::Approve, None);
        check(Wish::Refund, Approved, Step::Refunded, None);
        check(Wish::Exchange, Exchanged, Step::GiveUp, Some(Received));
        check(Wish::Exchange, Approved, Step::GiveUp, None);
        // News of the refund that comes again after it, and the receipt that comes again behind it.
        check(Wish::Refund, Refunded, Step::Receive, Some(Refunded));
    }
}
