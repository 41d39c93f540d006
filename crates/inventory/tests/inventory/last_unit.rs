//! The last units, asked for by 64 clients at once, are sold once.

use crate::harness::{on_both, order, sku};
use contracts::store::{Lacking, Reserved, Stock as _};
use tokio::task::JoinSet;

const CLIENTS: u64 = 64;

#[test]
fn sixty_four_clients_share_the_last_units_and_nothing_is_sold_twice() {
    on_both(async |stock| {
        for (name, units) in [("LAST", 1), ("TEN", 10)] {
            stock.put(name, units).await;
            let mut clients = JoinSet::new();
            for client in 0..CLIENTS {
                let (service, until) = (stock.service(client), stock.until());
                let (order, lines) = (order(units * 1000 + client), crate::harness::lines(&[(name, 1)]));
                clients.spawn(async move {
                    let from = contracts::store::TakenFrom::Free;
                    match service.reserve(order, from, lines, until).await.unwrap() {
                        Reserved::Whole => {
                            assert_eq!(service.confirm(order).await, Ok(Reserved::Whole));
                            service.ship(order).await.unwrap();
                            true
                        }
                        Reserved::Short(lacking) => {
                            assert_eq!(lacking, [Lacking { sku: sku(name), wanted: 1, free: 0 }]);
                            false
                        }
                    }
                });
            }
            let sold = clients.join_all().await.into_iter().filter(|sold| *sold).count();
            assert_eq!((sold as u64, stock.figures(name).await), (units, [0, 0, 0, 0]), "{name}");
        }
        assert_eq!(stock.deadlocks().await, 0);
        stock.assert_audited().await;
    });
}
