//! vendure-ecommerce/vendure#3508 and medusajs/medusa#16502: stock is checked in one transaction
//! and allocated in another, and bundles oversell their scarcest part. Here a basket is granted
//! whole, in one decision, or takes nothing.

use crate::harness::{
    Server,
    shop::{self, in_parallel},
};

#[test]
fn a_bundle_is_granted_whole_or_not_at_all() {
    const CASES: usize = 7;
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 30), ("case", CASES as u64)]));
    let passes = server.passes("launch", "crowd", 60);
    let outcomes = in_parallel(16, &passes, |pass| {
        let reply = sale.attempt(pass, "bundle", &[("phone", 1), ("case", 1)]);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["outcome"].clone()
    });
    assert_eq!(outcomes.iter().filter(|o| **o == "granted").count(), CASES);
    assert_eq!(outcomes.iter().filter(|o| **o == "sold_out").count(), 60 - CASES);
    let items = server.audit()[0]["items"].clone();
    assert_eq!((&items[0]["held"], &items[0]["free"]), (&CASES.into(), &(30 - CASES).into()), "{items}");
    assert_eq!((&items[1]["held"], &items[1]["free"]), (&CASES.into(), &0.into()), "{items}");
}

/// Lines of one item are added up before anything is checked.
#[test]
fn equal_lines_of_a_basket_are_summed() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 30)]));
    let pass = server.pass("launch", "clever");
    let outcome = sale.attempt(&pass, "twice", &[("phone", 1), ("phone", 1)]).json();
    assert_eq!(outcome["outcome"], "limit_reached", "{outcome}");
    assert!(outcome.get("held_by").is_none(), "nothing is held: the basket alone is over the limit");
    let item = server.stats("launch")["items"][0].clone();
    assert_eq!(item["free"], 30, "{item}");
}
