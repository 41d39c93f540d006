//! hfbin/Seckill#14: limit and decrement are two steps, so that an impatient shopper's second click
//! takes a second unit, or takes one and gives nothing for it.

use crate::harness::{
    Server,
    shop::{self, in_parallel},
};

const CLICKS: usize = 50;

#[test]
fn a_repeated_click_takes_no_further_stock() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 10)]));
    let pass = server.pass("launch", "impatient");
    let bodies = in_parallel(CLICKS, &[(); CLICKS], |()| {
        let reply = sale.attempt(&pass, "one-purchase", &[("phone", 1)]);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    });
    assert!(bodies[0].contains("\"granted\""), "{}", bodies[0]);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "all clicks are one attempt");
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["held"], &item["free"]), (&1.into(), &9.into()), "{item}");
}

/// The same clicks from a page that draws a new key for each.
#[test]
fn a_repeated_click_with_a_new_key_takes_no_further_stock() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 10)]));
    let pass = server.pass("launch", "impatient");
    let keys: Vec<String> = (0..CLICKS).map(|click| format!("click-{click}")).collect();
    let outcomes = in_parallel(CLICKS, &keys, |key| sale.buy(&pass, key, "phone"));
    let (granted, others): (Vec<_>, Vec<_>) = outcomes.iter().partition(|o| o["outcome"] == "granted");
    assert_eq!(granted.len(), 1, "{outcomes:?}");
    for other in others {
        assert_eq!(other["outcome"], "limit_reached", "{other}");
        assert_eq!(other["held_by"], granted[0]["attempt"], "names the attempt that has the unit");
    }
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["held"], &item["free"]), (&1.into(), &9.into()), "{item}");
}
