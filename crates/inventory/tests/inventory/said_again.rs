//! What is said again, at once or later, is done once.

use crate::harness::{HELD_MS, by, lines, on_both, order, sale, sku};
use contracts::store::{CameBack, Reserved, Stock as _, StoreError, TakenFrom};
use inventory::core::{Change, State};
use tokio::task::JoinSet;

#[test]
fn a_reservation_that_many_ask_for_at_once_is_one() {
    on_both(async |stock| {
        stock.put("A", 100).await;
        for round in 0..5 {
            let mut clients = JoinSet::new();
            for client in 0..16 {
                let (service, until) = (stock.service(client), stock.until());
                clients.spawn(async move {
                    let order = order(round);
                    // Lines of one SKU are added up, whichever way they are written.
                    let basket = if client % 2 == 0 { &[("A", 2)][..] } else { &[("A", 1), ("A", 1)] };
                    let reserved = service.reserve(order, TakenFrom::Free, lines(basket), until).await;
                    assert_eq!(reserved, Ok(Reserved::Whole));
                    assert_eq!(service.confirm(order).await, Ok(Reserved::Whole));
                    assert_eq!(service.ship(order).await, Ok(()));
                    let back = service.take_back(order, "r1".into(), lines(&[("A", 1)]), CameBack::Restock);
                    assert_eq!(back.await, Ok(()));
                });
            }
            clients.join_all().await;
            assert_eq!(stock.figures("A").await, [99 - round, 0, 0, 99 - round]);
        }
        stock.assert_audited().await;
    });
}

#[test]
fn what_does_not_fit_is_refused_in_words_and_changes_nothing() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        let service = stock.service(0);
        let conflict = |why: &str| Err::<(), _>(StoreError::Conflict(why.into()));
        let missing = |why: &str| Err::<(), _>(StoreError::NotFound(why.into()));
        let invalid = |why: &str| Err::<(), _>(StoreError::Invalid(why.into()));
        let of = order(1);
        assert_eq!(stock.reserve(1, &[("A", 4)]).await, Ok(Reserved::Whole));
        let reserve = async |basket: &[(&str, u32)]| stock.reserve(1, basket).await.map(drop);
        let other = format!("order {of}: it has a reservation of other lines");
        assert_eq!(reserve(&[("A", 5)]).await, conflict(&other));
        assert_eq!(reserve(&[]).await, invalid("lines: want at least one"));
        assert_eq!(reserve(&[("A", 0)]).await, invalid("lines[0].quantity: want at least 1"));
        let held = format!("order {of}: its reservation is held");
        assert_eq!(service.ship(of).await, conflict(&held));
        let back =
            |key: &str, units| service.take_back(of, key.into(), lines(&[("A", units)]), CameBack::Restock);
        assert_eq!(back("r1", 1).await, conflict(&held));
        let unknown = order(99);
        let none = format!("order {unknown}: it has no reservation");
        assert_eq!(service.confirm(unknown).await.map(drop), missing(&none));
        assert_eq!(service.ship(unknown).await, missing(&none));
        service.confirm(of).await.unwrap();
        service.ship(of).await.unwrap();
        assert_eq!(back("r1", 3).await, Ok(()));
        let used = format!("order {of}: the key \"r1\" was used for another return");
        assert_eq!(back("r1", 2).await, conflict(&used));
        let more = format!("order {of}: more units of sku A would have come back than were shipped");
        assert_eq!(back("r2", 2).await, conflict(&more));
        assert_eq!(back("", 1).await, invalid("key: want 1 to 64 bytes without control characters"));
        assert_eq!(back("r2", 1).await, Ok(()), "a key of what was refused is free");
        assert_eq!(stock.figures("A").await, [10, 0, 0, 10]);

        // What is given up before it is asked for is not set aside afterwards.
        service.release(order(2), "a test".into()).await.unwrap();
        let released = format!("order {}: its reservation is released", order(2));
        assert_eq!(stock.reserve(2, &[("A", 1)]).await.map(drop), conflict(&released));
        assert_eq!(service.confirm(order(2)).await.map(drop), conflict(&released));

        let claim = async |units| service.claim(by(), sale("launch"), sku("A"), units).await.map(drop);
        let few = "units: of sku A only 10 units are free; what is set aside stays";
        assert_eq!(claim(11).await, conflict(few));
        assert_eq!(claim(u64::MAX).await, invalid("units: want 1000000000000 at the most"));
        let unknown = service.claim(by(), sale("launch"), sku("NONE"), 1).await.map(drop);
        assert_eq!(unknown, missing("sku NONE: the stock does not know it: make it known first"));
        let no_claim = service.return_claim(by(), sale("launch")).await.map(drop);
        assert_eq!(
            no_claim,
            missing("sale launch: no stock was claimed for it"),
            "the refused one left none"
        );
        stock.assert_audited().await;
    });
}

#[test]
fn a_command_with_a_key_is_carried_out_once() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        let mut clients = JoinSet::new();
        for client in 0..16 {
            let service = stock.service(client);
            clients.spawn(async move {
                let receive = Change::Receive { units: 5 };
                service.change(by(), Some("k1".into()), sku("A"), receive).await.unwrap().level.on_hand
            });
        }
        assert!(clients.join_all().await.into_iter().all(|on_hand| on_hand == 15));
        let service = stock.service(0);
        let again = async |key: &str, change| {
            service.change(by(), Some(key.into()), sku("A"), change).await.map(|moved| moved.level.on_hand)
        };
        let used = "the Idempotency-Key was used before, for another command";
        let conflict = Err(StoreError::Conflict(used.into()));
        assert_eq!(again("k1", Change::Receive { units: 6 }).await, conflict);
        assert_eq!(again("k1", Change::Adjust { change: 5 }).await, conflict);
        let few = "change: of sku A only 15 units are free; what is set aside stays";
        assert_eq!(again("k2", Change::Adjust { change: -16 }).await, Err(StoreError::Conflict(few.into())));
        // What was refused is not remembered.
        assert_eq!(again("k2", Change::Adjust { change: -15 }).await, Ok(0));
        assert_eq!(again("k1", Change::Receive { units: 5 }).await, Ok(15), "the answer of then");
        assert_eq!(stock.figures("A").await, [0, 0, 0, 0]);
        stock.assert_audited().await;
    });
}

#[test]
fn what_is_not_paid_in_time_is_free_again_and_a_late_payment_takes_it_if_it_is_there() {
    on_both(async |stock| {
        stock.put("A", 120).await;
        for number in 0..120 {
            assert_eq!(stock.reserve(number, &[("A", 1)]).await, Ok(Reserved::Whole));
        }
        let service = stock.service(0);
        assert_eq!(service.expire_due().await, Ok(0), "their time has not come");
        stock.clock.advance(HELD_MS);
        let mut batches = Vec::new();
        while let count @ 1.. = service.expire_due().await.unwrap() {
            batches.push(count);
        }
        assert_eq!(batches, [50, 50, 20], "a transaction ends some of them");
        assert_eq!(stock.figures("A").await, [120, 0, 0, 120]);
        assert_eq!(service.confirm(order(3)).await, Ok(Reserved::Whole));
        assert_eq!(stock.reserve(500, &[("A", 119)]).await, Ok(Reserved::Whole));
        // An order that comes in after its time is held for no time, and can be paid late as well.
        let late = service.reserve(order(600), TakenFrom::Free, lines(&[("A", 1)]), units::TimeMs(5));
        assert!(matches!(late.await, Ok(Reserved::Short(_))));
        service.release(order(500), "a test".into()).await.unwrap();
        let late = service.reserve(order(601), TakenFrom::Free, lines(&[("A", 1)]), units::TimeMs(5));
        assert_eq!((late.await, service.expire_due().await), (Ok(Reserved::Whole), Ok(1)));
        assert_eq!(service.confirm(order(601)).await, Ok(Reserved::Whole));
        assert_eq!(stock.reserve(501, &[("A", 118)]).await, Ok(Reserved::Whole));
        let Ok(Reserved::Short(lacking)) = service.confirm(order(4)).await else { panic!("there is none") };
        assert_eq!((lacking.len(), lacking[0].free), (1, 0));
        assert_eq!(service.reservation(order(4)).await.unwrap().state, State::Expired);
        stock.assert_audited().await;
    });
}
