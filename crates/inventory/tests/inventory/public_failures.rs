//! Failures that users of other shops have reported in public.

use crate::harness::{by, lines, on_both, order, sale, sku};
use contracts::store::{Lacking, Reserved, Stock as _, TakenFrom};
use inventory::core::State;

/// vendure#1738: who had a cart before the stock went out could still check it out, and the stock
/// became negative. What is set aside, and nothing before it, says who may buy.
#[test]
fn vendure_1738_a_cart_from_before_the_stock_was_sold_is_short() {
    on_both(async |stock| {
        stock.put("C", 20).await;
        let seen = stock.level("C").await;
        assert_eq!(seen.free(), 20, "the first shopper sees it, and puts five into a cart");
        assert_eq!(stock.reserve(2, &[("C", 20)]).await, Ok(Reserved::Whole));
        let lacking = Lacking { sku: sku("C"), wanted: 5, free: 0 };
        assert_eq!(stock.reserve(1, &[("C", 5)]).await, Ok(Reserved::Short(vec![lacking])));
        assert_eq!(stock.figures("C").await, [20, 20, 0, 0]);
        stock.assert_audited().await;
    });
}

/// vendure#2702: the same variant in two lines of one basket passed the check twice.
#[test]
fn vendure_2702_the_same_sku_in_two_lines_counts_twice() {
    on_both(async |stock| {
        stock.put("A", 1).await;
        let lacking = Lacking { sku: sku("A"), wanted: 2, free: 1 };
        assert_eq!(stock.reserve(1, &[("A", 1), ("A", 1)]).await, Ok(Reserved::Short(vec![lacking])));
        assert_eq!(stock.figures("A").await, [1, 0, 0, 1]);
    });
}

/// medusa#14987: what was confirmed looked at all of the stock, and what was reserved at a part of
/// it. Here the answer "whole" is given by the transaction that took the units, and the ledger has
/// each of them.
#[test]
fn medusa_14987_what_is_said_to_be_reserved_is_reserved_in_full() {
    on_both(async |stock| {
        stock.put("A", 5).await;
        stock.put("B", 2).await;
        let service = stock.service(0);
        service.claim(by(), sale("launch"), sku("A"), 3).await.unwrap();
        // Partly from the claim, partly from what is free.
        let from = TakenFrom::Claim(sale("launch"));
        let whole = service.reserve(order(1), from, lines(&[("B", 2), ("A", 4)]), stock.until()).await;
        assert_eq!(whole, Ok(Reserved::Whole));
        let of = service.reservation(order(1)).await.unwrap();
        let line = |name: &str| {
            let line = of.lines[&sku(name).into()];
            (line.quantity, line.of_claim)
        };
        assert_eq!((of.state, line("A"), line("B")), (State::Held, (4, 3), (2, 0)));
        assert_eq!(stock.figures("A").await, [5, 4, 0, 1]);
        assert_eq!(stock.figures("B").await, [2, 2, 0, 0]);
        service.confirm(order(1)).await.unwrap();
        service.ship(order(1)).await.unwrap();
        assert_eq!(stock.figures("A").await, [1, 0, 0, 1]);
        stock.assert_audited().await;
    });
}

/// woocommerce#44273: units that are held by carts which are never paid starve real buyers.
#[test]
fn woocommerce_44273_a_cart_that_is_never_paid_gives_its_units_back() {
    on_both(async |stock| {
        stock.put("A", 1).await;
        assert_eq!(stock.reserve(1, &[("A", 1)]).await, Ok(Reserved::Whole));
        assert!(matches!(stock.reserve(2, &[("A", 1)]).await, Ok(Reserved::Short(_))));
        stock.clock.advance(crate::harness::HELD_MS);
        assert_eq!(stock.service(0).expire_due().await, Ok(1));
        assert_eq!(stock.reserve(2, &[("A", 1)]).await, Ok(Reserved::Whole));
    });
}
