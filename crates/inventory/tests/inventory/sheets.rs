//! Sheets of counts: stored as a whole or not at all, and never over what has moved meanwhile.

use crate::harness::{Stock, by, on_both, order, sku};
use contracts::store::{Reserved, Stock as _, StockLine, TakenFrom};
use inventory::{
    core::{Change, SheetCount},
    service::sheets::{NotTaken, Taken},
    sheet,
};

fn counts(rows: &str) -> Vec<SheetCount> {
    sheet::read(format!("sku,on_hand,warehouse,sequence\n{rows}").as_bytes()).unwrap()
}

async fn take(stock: &Stock, rows: &str, new_skus: bool) -> Result<Taken, NotTaken> {
    stock.service(0).take_sheet(by(), None, counts(rows), new_skus).await
}

async fn on_hand(stock: &Stock, name: &str) -> Option<u64> {
    let levels = stock.service(0).levels(vec![sku(name)]).await.unwrap();
    levels.first().map(|level| level.on_hand)
}

fn why(refused: Result<Taken, NotTaken>) -> Vec<String> {
    match refused {
        Err(NotTaken::Wrong(errors)) => {
            errors.iter().map(|error| format!("{}: {}", error.line, error.why)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sheet_is_stored_whole_or_not_at_all_and_once() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        stock.put("B", 5).await;
        assert_eq!(stock.reserve(1, &[("B", 2)]).await, Ok(Reserved::Whole));
        let wrong = "A,12,,\nB,1,,\nNEW,3,,\nA,4,north,\n";
        let refused = why(take(stock, wrong, false).await);
        assert_eq!(
            refused,
            [
                "3: on_hand: of sku B only 3 units are free; what is set aside stays",
                "4: sku NEW: the stock does not know it: make it known first",
                "5: warehouse north: there is none of this name: make it first",
            ]
        );
        // What is only set aside has not moved.
        let looked = take(stock, "A,10,,1\nB,5,,1\n", false).await;
        assert_eq!(looked, Ok(Taken { lines: 2, changed: 0, new_skus: 0 }));
        stock.service(0).change(by(), None, sku("B"), Change::Adjust { change: 1 }).await.unwrap();
        let moved = why(take(stock, "A,12,,\nB,9,main,2\n", false).await);
        assert_eq!(
            moved,
            [
                "3: sequence: units of sku B have moved in warehouse main since the sheet was written (entry 2, and now 3): take a new one"
            ]
        );
        let strange = why(take(stock, "A,12,,9\n", false).await);
        assert!(strange[0].starts_with("2: sequence: "), "{strange:?}");
        stock.service(0).change(by(), None, sku("B"), Change::Adjust { change: -1 }).await.unwrap();
        assert_eq!((on_hand(stock, "A").await, on_hand(stock, "NEW").await), (Some(10), None));
        // What is there now is no change, whenever the sheet was written.
        let right = "A,12,,1\nB,5,,1\nNEW,3,,\n";
        assert_eq!(take(stock, right, true).await, Ok(Taken { lines: 3, changed: 2, new_skus: 1 }));
        assert_eq!((on_hand(stock, "A").await, on_hand(stock, "NEW").await), (Some(12), Some(3)));
        assert_eq!(take(stock, right, false).await, Ok(Taken { lines: 3, changed: 0, new_skus: 0 }));
        stock.assert_audited().await;
    });
}

#[test]
fn a_sheet_is_counted_while_orders_take_units_and_another_one_waits() {
    on_both(async |stock| {
        let rows: String = (0..600).map(|number| format!("S{number},50,,\n")).collect();
        let (service, other) = (stock.service(0), stock.service(0));
        let (first, second) = tokio::join!(
            service.take_sheet(by(), None, counts(&rows), true),
            other.take_sheet(by(), None, counts("A,1,,\n"), true)
        );
        assert_eq!(first, Ok(Taken { lines: 600, changed: 600, new_skus: 600 }));
        assert!(
            matches!(second, Err(NotTaken::Unavailable { stored: Taken { lines: 0, .. }, .. })),
            "{second:?}"
        );
        let mut orders = tokio::task::JoinSet::new();
        for number in 0..60 {
            let (service, until) = (stock.service(number), stock.until());
            let first = number as usize * 10;
            let wanted: Vec<StockLine> = (first..first + 10)
                .map(|number| StockLine { sku: sku(&format!("S{number}")), quantity: 1 })
                .collect();
            orders.spawn(async move { service.reserve(order(number), TakenFrom::Free, wanted, until).await });
        }
        let rows: String = (0..600).map(|number| format!("S{number},40,,\n")).collect();
        let again = service.take_sheet(by(), None, counts(&rows), false);
        assert_eq!(again.await, Ok(Taken { lines: 600, changed: 600, new_skus: 0 }));
        for said in orders.join_all().await {
            assert_eq!(said, Ok(Reserved::Whole));
        }
        let level = service.levels(vec![sku("S599")]).await.unwrap();
        assert_eq!((level[0].on_hand, level[0].reserved), (40, 1));
        stock.assert_audited().await;
    });
}

#[test]
fn a_sheet_that_is_sent_again_with_its_key_counts_nothing_over_what_was_sold_since() {
    on_both(async |stock| {
        let rows: String = (0..300).map(|number| format!("S{number},10,,\n")).collect();
        let service = stock.service(0);
        let send = |rows: &str| service.take_sheet(by(), Some("monday".into()), counts(rows), true);
        let first = send(&rows).await;
        assert_eq!(first, Ok(Taken { lines: 300, changed: 300, new_skus: 300 }));
        assert_eq!(stock.reserve(1, &[("S7", 2), ("S299", 1)]).await, Ok(Reserved::Whole));
        assert_eq!(service.confirm(order(1)).await, Ok(Reserved::Whole));
        assert_eq!(service.ship(order(1)).await, Ok(()));
        assert_eq!(send(&rows).await, first, "the same answer");
        assert_eq!((on_hand(stock, "S7").await, on_hand(stock, "S299").await), (Some(8), Some(9)));
        let other = why(send(&rows.replace("S0,10", "S0,11")).await);
        assert_eq!(other, ["2: the Idempotency-Key was used before, for another command"]);
        stock.assert_audited().await;
    });
}
