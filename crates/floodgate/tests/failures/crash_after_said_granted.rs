//! haopengmai/dianping#1: the server dies between telling the shopper of the success and recording
//! it, so that one of the two is wrong for ever. Here an answer is on the disk before it is sent.

use crate::harness::{
    Server,
    shop::{self, basket, in_parallel},
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

#[test]
fn a_grant_that_was_answered_survives_a_crash() {
    let mut server = Server::start();
    let mut sale = server.open_sale("launch", &shop::spec(&[("phone", 3)]));
    for life in 0..3 {
        let (pass, key) = (server.pass("launch", &format!("shopper-{life}")), format!("key-{life}"));
        let said = sale.attempt(&pass, &key, &[("phone", 1)]);
        let ticket = sale.ticket(&said.json()["attempt"], &pass);
        server.kill();
        assert_eq!(said.json()["outcome"], "granted", "{said:?}");
        assert_eq!(said.json()["hold"].get("ticket"), None, "the answer to an attempt has no ticket");

        server.restart();
        sale = server.sale("launch");
        let again = sale.attempt(&pass, &key, &[("phone", 1)]);
        assert_eq!(again.body, said.body, "a retry gets the same answer");
        assert_eq!(sale.look(&said.json()["attempt"], &pass), said.json());
        assert_eq!(sale.ticket(&said.json()["attempt"], &pass), ticket, "the same ticket, to the byte");
    }
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["held"], &item["free"]), (&3.into(), &0.into()), "{item}");
}

#[test]
fn a_crash_during_a_storm_loses_no_answer() {
    const STOCK: u64 = 100_000;
    let mut server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", STOCK)]));
    let passes = server.passes("launch", "crowd", 2000);
    let (said, count, dead) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for crowd in passes.chunks(250) {
            let (sale, said, count, dead) = (&sale, &said, &count, &dead);
            scope.spawn(move || {
                for pass in crowd {
                    match sale.try_attempt(pass, "storm", &basket(&[("phone", 1)])) {
                        Some(reply) => {
                            said.lock().unwrap().push((pass.clone(), reply));
                            count.fetch_add(1, Relaxed);
                        }
                        None if dead.load(Relaxed) => return,
                        None => {}
                    }
                }
            });
        }
        crate::harness::poll("the storm", || (count.load(Relaxed) >= 300).then_some(()));
        dead.store(true, Relaxed);
        server.kill();
    });

    server.restart();
    let sale = server.sale("launch");
    let said = said.into_inner().unwrap();
    assert!((300..2000).contains(&said.len()), "killed in the middle: {}", said.len());
    in_parallel(8, &said, |(pass, reply)| {
        assert_eq!(reply.json()["outcome"], "granted", "{reply:?}");
        let again = sale.attempt(pass, "storm", &[("phone", 1)]);
        assert_eq!(again.body, reply.body);
    });
    let item = server.audit()[0]["items"][0].clone();
    let held = item["held"].as_u64().unwrap();
    assert!(held >= said.len() as u64 && held <= 2000, "{item}");
    assert_eq!(item["free"], STOCK - held, "{item}");
}
