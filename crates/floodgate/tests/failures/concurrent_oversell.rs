//! fossasia/eventyay#1359: a path that skips the lock sells more than there is. Here one writer
//! decides everything, and a crowd gets exactly the stock, and each shopper one truthful answer.

use crate::harness::{
    Server,
    shop::{self, hold, in_parallel},
};
use serde_json::{Value, json};

#[test]
fn concurrent_shoppers_get_exactly_the_stock() {
    const STOCK: usize = 60;
    const SHOPPERS: usize = 400;
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", STOCK as u64)]));
    let passes = server.passes("launch", "crowd", SHOPPERS);
    let outcomes = in_parallel(32, &passes, |pass| sale.buy(pass, "buy", "phone"));
    let (granted, refused): (Vec<Value>, Vec<Value>) =
        outcomes.into_iter().partition(|o| o["outcome"] == "granted");
    assert_eq!(granted.len(), STOCK);
    assert!(refused.iter().all(|o| o["outcome"] == "sold_out"), "{refused:?}");

    for (at, outcome) in granted.iter().enumerate() {
        let paid = server.admin("POST", &hold(outcome, "confirm"), &json!({ "payment": format!("p-{at}") }));
        assert_eq!(paid["result"], "confirmed", "{paid}");
    }
    assert_eq!(server.document("launch")["items"][0]["state"], "sold_out");
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!(
        (&item["sold"], &item["free"], &item["held"]),
        (&STOCK.into(), &0.into(), &0.into()),
        "{item}"
    );
}

/// Stock that is taken away while the crowd buys never goes below what was promised.
#[test]
fn taking_stock_away_during_a_storm_breaks_no_promise() {
    const STOCK: usize = 200;
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", STOCK as u64)]));
    let passes = server.passes("launch", "crowd", 300);
    let (mut taken, mut refused) = (0, 0);
    let granted = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let outcomes = in_parallel(8, &passes, |pass| sale.buy(pass, "buy", "phone"));
            outcomes.iter().filter(|o| o["outcome"] == "granted").count()
        });
        for _ in 0..30 {
            let adjust = json!({ "delta": -10, "reason": "damaged" }).to_string();
            let reply = server.admin_send("POST", "/sales/launch/items/phone/adjust", &adjust);
            match reply.status {
                200 => taken += 10,
                409 => refused += 1,
                _ => panic!("{reply:?}"),
            }
        }
        crowd.join().unwrap()
    });
    assert!(granted + taken <= STOCK && taken > 0 && refused > 0, "{granted} + {taken}, refused {refused}");
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!(item["held"], granted, "{item}");
    assert_eq!(item["free"], STOCK - taken - granted, "{item}");
}
