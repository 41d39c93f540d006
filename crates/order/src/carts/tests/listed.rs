//! The list takes what the service tells.

use super::*;
use crate::summary::OrderSummary;

impl Shop {
    /// Has the list take what was told since. Returns the events.
    pub(super) async fn take_listed(&self) -> Vec<String> {
        let mut all = Vec::new();
        for shard in self.orders.needs.shards.all() {
            let take = shard.sql.write(|tx| {
                let told = tx.query("SELECT body FROM outbox ORDER BY number", &[], |row| row.text(0))?;
                tx.execute("DELETE FROM outbox", &[])?;
                Ok::<_, engines::sql::SqlError>(told)
            });
            all.extend(take.await.unwrap());
        }
        let pulled = |(number, event): (u64, &String)| Pulled {
            receipt: Receipt { number, attempt: 1 },
            event: event.clone(),
        };
        let pulled: Vec<Pulled> = (1..).zip(&all).map(pulled).collect();
        let ended = Arc::clone(&self.orders).take_listed(pulled).await;
        assert_eq!(ended.len(), all.len());
        assert!(ended.iter().all(|(_, ended)| *ended == Ended::Done), "{ended:?}");
        all
    }
}

#[tokio::test]
async fn the_list_follows_what_is_told_also_by_versions_that_had_none() {
    let shop = shop(&[("A", 10)]).await;
    shop.put("A", Quantity::Add(2)).await.unwrap();
    let order = shop.orders.check_out(shop.wanted(2_000)).await.unwrap();
    assert!(shop.orders.newest(None, None, 10).await.unwrap().is_empty(), "it has not heard of it");
    shop.take_listed().await;
    let listed = async || shop.orders.newest(None, None, 10).await.unwrap();
    let seen = async || vec![OrderSummary::from(shop.orders.find(order.id).await.unwrap().unwrap())];
    assert_eq!(listed().await, seen().await);
    let (waiting, refunds) = shop.orders.waiting().await.unwrap();
    assert_eq!((waiting.for_payment, waiting.to_pack, refunds), (1, 0, Some(0)));
    // Events as they were before.
    shop.orders.cancel(shop.shopper, order.id).await.unwrap();
    let event = |version: u64, summary: &str| {
        let subject = order.id;
        let data = format!(r#"{{"order":"{subject}","version":{version}{summary}}}"#);
        format!(r#"{{"type":"floodgate.order.cancelled","subject":"{subject}","data":{data}}}"#)
    };
    let of_return = format!(r#"{{"subject":"{}","data":{{"return":1}}}}"#, order.id);
    let take = async |event: String| {
        let pulled = vec![Pulled { receipt: Receipt { number: 1, attempt: 1 }, event }];
        Arc::clone(&shop.orders).take_listed(pulled).await[0].1
    };
    assert_eq!(take(event(order.version, "")).await, Ended::Done);
    assert_eq!(listed().await[0].state, OrderState::AwaitingPayment, "that version is listed");
    assert_eq!(take(event(order.version + 1, "")).await, Ended::Done);
    assert_eq!(listed().await, seen().await);
    assert_eq!(take(of_return).await, Ended::Done);
    assert_eq!(take("{}".into()).await, Ended::Failed);
    assert_eq!(take(event(9, r#","summary":{"id":1}"#)).await, Ended::Failed);
}
