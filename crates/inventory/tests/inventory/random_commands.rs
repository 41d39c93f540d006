//! Random commands by many clients at once, on few SKUs and few orders: afterwards each level is
//! what its ledger, the orders and the sales say, and no unit is promised twice.

use crate::harness::{HELD_MS, by, lines, on_both, order, sale, sku};
use contracts::store::{CameBack, Stock as _, StoreError, TakenFrom};
use inventory::core::Change;
use tokio::task::JoinSet;
use units::{DurationMs, Prng};

const SKUS: [&str; 4] = ["A", "B", "C", "D"];
const SALES: [&str; 2] = ["launch", "night"];
const CLIENTS: u64 = 16;
const COMMANDS: u64 = 60;

#[test]
fn the_ledger_adds_up_to_the_levels_after_random_commands() {
    on_both(async |stock| {
        for name in SKUS {
            stock.put(name, 30).await;
        }
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (service, clock) = (stock.service(client), std::sync::Arc::clone(&stock.clock));
            clients.spawn(async move {
                let mut random = Prng::new(client + 1);
                let mut done = 0;
                for _ in 0..COMMANDS {
                    let (order, name) = (order(random.below(60)), *random.pick(&SKUS));
                    let of_sale = sale(SALES[random.below(2) as usize]);
                    let units = 1 + random.below(3) as u32;
                    let said = match random.below(12) {
                        0..3 => {
                            let from = match random.percent(50) {
                                true => TakenFrom::Claim(of_sale),
                                false => TakenFrom::Free,
                            };
                            let basket = lines(&[(name, units), (*random.pick(&SKUS), 1)]);
                            let until = engines::clock::Clock::now(&*clock).plus(DurationMs(HELD_MS));
                            service.reserve(order, from, basket, until).await.map(drop)
                        }
                        3 | 4 => service.confirm(order).await.map(drop),
                        5 => service.ship(order).await,
                        6 => service.release(order, "random".into()).await,
                        7 => {
                            let what = *random.pick(&[CameBack::Restock, CameBack::Scrap]);
                            let key = format!("r{}", random.below(3));
                            service.take_back(order, key, lines(&[(name, 1)]), what).await
                        }
                        8 => service.claim(by(), of_sale, sku(name), random.below(12)).await.map(drop),
                        9 => match random.percent(30) {
                            true => service.return_claim(by(), of_sale).await.map(drop),
                            false => Ok(()),
                        },
                        10 => {
                            clock.advance(random.below(HELD_MS / 8));
                            service.expire_due().await.map(drop)
                        }
                        _ => {
                            let change = Change::Adjust { change: *random.pick(&[-3, -2, -1, 1, 2, 3]) };
                            service.change(by(), None, sku(name), change).await.map(drop)
                        }
                    };
                    match said {
                        Ok(()) => done += 1,
                        Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                done
            });
        }
        let done: u64 = clients.join_all().await.into_iter().sum();
        assert!(done > CLIENTS * COMMANDS / 4, "{done} commands did something");
        stock.assert_audited().await;
        for name in SKUS {
            let [on_hand, reserved, claimed, free] = stock.figures(name).await;
            assert_eq!(on_hand, reserved + claimed + free, "{name}");
        }
    });
}
