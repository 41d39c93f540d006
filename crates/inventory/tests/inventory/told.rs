//! What others are told: each change once, in its order, and what could not be told is told later.

use crate::harness::{by, lines, on_both, order, sale, sku};
use contracts::store::{Asked, CameBack, Posts, Stock as _, StoreError};
use inventory::core::Change;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A message service that is away at first.
#[derive(Default)]
struct Told {
    refusals: Mutex<u32>,
    events: Mutex<Vec<Value>>,
}

impl Posts for Told {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        Box::pin(async move {
            let mut refusals = self.refusals.lock().unwrap();
            *refusals += 1;
            if *refusals <= 2 {
                return Err(StoreError::Unavailable("it is away".into()));
            }
            let read = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
            self.events.lock().unwrap().extend(read);
            Ok(())
        })
    }
}

#[test]
fn each_change_is_told_once_with_the_levels_after_it() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        stock.put("B", 10).await;
        let service = stock.service(0);
        let of = order(1);
        service.change(by(), None, sku("A"), Change::Count { counted: 9 }).await.unwrap();
        service.claim(by(), sale("launch"), sku("A"), 2).await.unwrap();
        service.return_claim(by(), sale("launch")).await.unwrap();
        stock.reserve(1, &[("B", 1), ("A", 2)]).await.unwrap();
        stock.reserve(1, &[("B", 1), ("A", 2)]).await.unwrap();
        service.confirm(of).await.unwrap();
        service.ship(of).await.unwrap();
        service.take_back(of, "r1".into(), lines(&[("A", 1)]), CameBack::Scrap).await.unwrap();
        stock.reserve(2, &[("B", 1)]).await.unwrap();
        service.release(order(2), "not wanted".into()).await.unwrap();
        stock.reserve(3, &[("B", 1)]).await.unwrap();
        stock.clock.advance(crate::harness::HELD_MS);
        service.expire_due().await.unwrap();
        let told = Arc::new(Told::default());
        let loops = service.start(Arc::clone(&told) as _);
        let want = [
            ("received", "A".to_owned()),
            ("received", "B".to_owned()),
            ("adjusted", "A".to_owned()),
            ("claimed", "A".to_owned()),
            ("claim_returned", "A".to_owned()),
            ("reserved", of.to_string()),
            ("shipped", of.to_string()),
            ("returned", of.to_string()),
            ("reserved", order(2).to_string()),
            ("released", order(2).to_string()),
            ("reserved", order(3).to_string()),
            ("expired", order(3).to_string()),
        ];
        for _ in 0..200 {
            if told.events.lock().unwrap().len() >= want.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(1200)).await;
        drop(loops);
        let events = told.events.lock().unwrap().clone();
        let seen: Vec<(String, String)> = events
            .iter()
            .map(|event| {
                let text = |key: &str| event[key].as_str().unwrap().to_owned();
                (text("type"), text("subject"))
            })
            .collect();
        let want = want.map(|(kind, subject)| (format!("floodgate.stock.{kind}"), subject));
        assert_eq!(seen, want);
        let mut ids: Vec<String> = events.iter().map(|event| event["id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), events.len(), "each has an id of its own");
        let reserved = &events[5]["data"];
        assert_eq!(reserved["lines"][0]["sku"], "A");
        assert_eq!(reserved["lines"][0]["units"], 2);
        assert_eq!(reserved["lines"][0]["free"], 7);
        assert_eq!(reserved["lines"][1]["sku"], "B");
        assert_eq!(
            (&events[9]["data"]["reason"], &events[2]["data"]["actor"]),
            (&"not wanted".into(), &"alice".into())
        );
    });
}
