//! What is erased of a shopper's orders, and what waits because it is open.

use super::*;
use crate::summary::OrderSummary;
use contracts::store::{HoldsPersonalData, InTheWay};

impl Shop {
    async fn in_the_way(&self) -> Option<InTheWay> {
        self.orders.in_the_way(self.shopper).await.unwrap()
    }

    async fn erase(&self) -> bool {
        self.orders.erase(self.shopper).await.unwrap()
    }

    async fn seen(&self, order: OrderId) -> OrderView {
        self.orders.find(order).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_order_that_is_open_is_erased_once_it_has_ended() {
    let shop = shop(&[("A", 10)]).await;
    assert_eq!((shop.in_the_way().await, shop.erase().await), (None, true), "there is nothing");
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(1_000)).await.unwrap();
    shop.put("A", Quantity::Add(3)).await.unwrap();
    assert_eq!(shop.in_the_way().await, Some(InTheWay::Order(order.id)));
    assert!(!shop.erase().await);
    assert_eq!(shop.seen(order.id).await.address, Some(address()), "it is open: it is as it was");
    assert!(shop.cart().await.is_empty(), "the cart goes at once");
    shop.wait(PAY_WITHIN.0 + GRACE.0);
    shop.sweep().await;
    assert_eq!(shop.in_the_way().await, None);
    assert!(shop.erase().await);
    let erased = shop.seen(order.id).await;
    let left = erased.address.clone().unwrap();
    assert_eq!([&*left.name, &*left.phone, &*left.street, &*left.city], ["deleted"; 4]);
    assert_eq!(left.country, "CN");
    let last = erased.history.last().unwrap();
    assert_eq!(
        (last.actor.as_str(), last.from, last.to),
        ("account", Some(OrderState::Expired), OrderState::Expired)
    );
    assert_eq!(erased.version, order.version + 2, "it has expired, and was erased");
    assert!(shop.erase().await);
    assert_eq!(shop.seen(order.id).await, erased, "once");
    // What is paid after that goes back: it could not be sent.
    let paid = shop.is_back(order.id, "", 0, "succeeded").await;
    assert_eq!((paid.state, paid.payment), (OrderState::Expired, contracts::store::PaymentSeen::None));
    shop.due().await;
    let refunds = shop.world.shelf.lock().unwrap().refunds.clone();
    assert_eq!(refunds, [("the shopper's account was deleted".to_owned(), 0)]);
    // Another shopper's is not touched.
    let other = Shop { shopper: AccountId::new(TimeMs(NOW), [8; 16]), ..shop };
    other.put("A", Quantity::Add(1)).await.unwrap();
    let order = other.orders.check_out(other.wanted(1_000)).await.unwrap();
    assert!(other.orders.erase(AccountId::new(TimeMs(NOW), [7; 16])).await.unwrap());
    assert_eq!(other.seen(order.id).await.address, Some(address()));
}

#[tokio::test]
async fn a_return_that_is_open_is_in_the_way_and_its_reason_goes_with_the_person() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    assert_eq!(shop.in_the_way().await, None);
    shop.ask_back(&order, &[("A", 1)], Wish::Refund).await.unwrap();
    for step in [Step::Approve, Step::Receive] {
        assert_eq!(shop.in_the_way().await, Some(InTheWay::Return(order.id)));
        assert!(!shop.erase().await);
        shop.step(order.id, 1, step).await.unwrap();
    }
    assert_eq!(shop.in_the_way().await, Some(InTheWay::Return(order.id)), "its money is on its way");
    shop.is_back(order.id, "return-1", 1_000, "part_refunded").await;
    assert_eq!(shop.in_the_way().await, None);
    let before = shop.seen(order.id).await;
    let mut told = shop.take_listed().await;
    assert!(told.iter().any(|event| event.contains("SF1")), "the parcel's number: {told:?}");
    assert!(shop.erase().await);
    let after = shop.take_listed().await;
    assert!(!after.is_empty() && !after.iter().any(|event| event.contains("SF1")), "{after:?}");
    told.extend(after);
    // Events and the list have nothing else of the person at any time.
    assert!(told.len() > 5, "{told:?}");
    let listed = shop.orders.newest(None, None, 10).await.unwrap();
    assert_eq!(listed, [OrderSummary::from(shop.seen(order.id).await)], "it has the version of now");
    let all = format!("{told:?} {listed:?}");
    let reason = &before.returns[0].history[0].reason;
    for of_person in ["Ann", "13800138000", "Chang'an", "Beijing", reason] {
        assert!(!all.contains(of_person), "{of_person}: {all}");
    }
    let erased = shop.seen(order.id).await;
    let reasons: Vec<_> = erased.returns[0].history.iter().map(|step| step.reason.as_str()).collect();
    assert_eq!((reasons[0], reasons[1]), ("deleted", "because"), "operators' reasons stay");
    assert_eq!(erased.delivery, None);
    // What books need is as it was.
    assert_eq!(
        (&erased.lines, erased.total, &erased.charges),
        (&before.lines, before.total, &before.charges)
    );
    assert_eq!((erased.state, erased.payment), (before.state, before.payment));
}

#[tokio::test]
async fn that_a_delivered_order_is_erased_gives_no_more_time_to_return_it() {
    let shop = shop(&[("A", 10), ("B", 10)]).await;
    let order = delivered(&shop).await;
    shop.wait(29 * 86_400_000);
    assert!(shop.erase().await);
    shop.wait(2 * 86_400_000);
    let late = shop.ask_back(&order, &[("A", 1)], Wish::Refund).await;
    assert!(matches!(late, Err(StoreError::Conflict(ref why)) if why.contains("over")), "{late:?}");
}

#[tokio::test]
async fn more_orders_than_one_transaction_has_are_all_erased() {
    let shop = shop(&[("A", 1_000)]).await;
    let mut ids = Vec::new();
    for _ in 0..120 {
        shop.put("A", Quantity::Add(1)).await.unwrap();
        let order = shop.orders.check_out(shop.wanted(1_000)).await.unwrap().id;
        shop.orders.command(order, "test".into(), "because".into(), Command::Cancel).await.unwrap();
        ids.push(order);
    }
    shop.put("A", Quantity::Add(1)).await.unwrap();
    let open = shop.orders.check_out(shop.wanted(1_000)).await.unwrap().id;
    assert_eq!(shop.in_the_way().await, Some(InTheWay::Order(open)));
    assert!(!shop.erase().await, "the open one waits, and no other for it");
    for id in ids {
        assert_eq!(shop.seen(id).await.address.unwrap().name, "deleted");
    }
}
