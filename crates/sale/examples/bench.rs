//! Measures the core. Run by `cargo xtask bench sale`, which prints the table.

use contracts::*;
use engines::log::Batch;
use sale::core::Core;
use std::time::Instant;
use units::{AttemptId, Prng, ShopperKey, TimeMs};

fn main() {
    for round in 0..3 {
        println!("{round} storm {:.2} M/s", storm(200_000));
        println!("{round} grants {:.2} M/s", storm(1_000_000));
    }
}

fn storm(stock: u64) -> f64 {
    let mut core = Core::new();
    let mut batch = Batch::default();
    let json = format!(
        r#"{{"name":"B","currency":"CNY","limit_per_shopper":2,"waitlist":{{"places":0}},"items":[{{"item":"phone","name":"P"}}],
        "rounds":[{{"opens_at":"2026-01-01T00:00:00Z","closes_at":"2027-01-01T00:00:00Z","items":[{{"item":"phone","stock":{stock},"price_minor":1}}]}}]}}"#
    );
    let spec: SaleSpec = serde_json::from_str(&json).unwrap();
    let mut now = spec.rounds[0].opens_at;
    core.operate(now, Actor::new("b", ""), Operation::Define(Box::new(spec)), &mut batch).unwrap().unwrap();
    let mut prng = Prng::new(1);
    let attempts: Vec<Attempt> = (0..1_000_000)
        .map(|_| Attempt {
            id: AttemptId(prng.bytes16()),
            shopper: ShopperKey(prng.bytes16()),
            sealed: SealedShopper::new(&[7; 36]).unwrap(),
            tier: 0,
            basket: Basket::single(0, 1),
        })
        .collect();
    let started = Instant::now();
    let mut granted = 0;
    for chunk in attempts.chunks(4096) {
        batch.clear();
        now = TimeMs(now.0 + 1);
        core.tick(now, &mut batch).unwrap();
        for attempt in chunk {
            granted +=
                u64::from(matches!(core.attempt(now, attempt, &mut batch).unwrap(), Answer::Granted(_)));
        }
    }
    let took = started.elapsed();
    assert_eq!(granted, stock);
    attempts.len() as f64 / took.as_secs_f64() / 1e6
}
