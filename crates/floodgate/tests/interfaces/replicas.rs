//! The store on a MariaDB with replicas that answer its reads: shoppers see what they did, also
//! while one replica stands still and the other is away.

use crate::{
    carts::{add, check_out, from_the_cart_to_the_refund},
    harness::{Server, Setup, mariadb::MariaDb, poll},
    store::Shopper,
};

/// The value of a metric of the store, over all its databases.
fn total((server, key): (&Server, &str), name: &str) -> u64 {
    let metrics = server.client.admin("GET", &format!("http://{}/metrics", server.store), key, "").body;
    let rows = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    rows.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

fn settings(primary: &MariaDb, replicas: &[&MariaDb]) -> String {
    let replicas: Vec<String> = replicas.iter().map(|of| format!("\"{}\"", of.server_url())).collect();
    format!(
        "[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\nreplicas = [{}]\n",
        primary.url("shop"),
        replicas.join(", ")
    )
}

fn setup(settings: String) -> Setup {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    Setup { serve, settings, ..Setup::default() }
}

#[test]
fn a_shop_with_replicas_shows_each_shopper_what_was_done_whatever_becomes_of_them() {
    let primary = MariaDb::start_primary();
    let (first, mut second) = (primary.start_replica(1), primary.start_replica(2));
    let mut server = Server::with(setup(settings(&primary, &[&first, &second])));
    from_the_cart_to_the_refund(&server);
    let key = server.new_key("scrapes", "read-only");
    poll("replicas answer", || {
        (total((&server, &key), "floodgate_store_replica_reads_total") > 50).then_some(())
    });

    first.execute("STOP SLAVE SQL_THREAD");
    second.kill();
    let before = total((&server, &key), "floodgate_store_primary_reads_total");
    let mut bob = Shopper::new(&server, "Bob");
    add(&mut bob, "1");
    assert!(bob.get("/cart").body.contains("<span class=\"badge\">1<"));
    let order = check_out(&bob).header("location").to_owned();
    assert!(order.starts_with("/orders/"), "{order}");
    assert!(bob.get("/orders").body.contains(&order), "the order is on the list at once");
    assert!(bob.get("/cart").body.contains("Your cart is empty."), "at once");
    assert!(total((&server, &key), "floodgate_store_primary_reads_total") > before);
    assert!(total((&server, &key), "floodgate_store_replicas_away") > 0);

    // A process that is started now reads what the one before wrote.
    let session = bob.session.clone();
    server.stop();
    server.restart();
    let bob = Shopper::with(&server, session);
    poll("the store is open", || bob.try_get("/orders").filter(|page| page.status == 200));
    assert!(bob.get("/orders").body.contains(&order));
    first.execute("START SLAVE SQL_THREAD");
    second.restart();
    let answered = || total((&server, &key), "floodgate_store_replica_reads_total");
    let before = answered();
    poll("replicas answer again", || {
        assert!(bob.get("/orders").body.contains(&order));
        (answered() > before + 20).then_some(())
    });
    let shown = server.output(&["config"]);
    assert!(shown.contains("replicas = [\"mysql://…@127.0.0.1") && !shown.contains("root@"), "{shown}");
}

#[test]
fn a_server_that_writes_no_log_cannot_have_replicas_and_the_shop_says_so() {
    let alone = MariaDb::start();
    let primary = MariaDb::start_primary();
    let server = Server::with(setup(settings(&alone, &[&primary])));
    let said = poll("the store says why it is not open", || {
        let said = server.errors();
        said.contains("the store cannot be opened").then_some(said)
    });
    assert!(said.contains("store.replicas: ") && said.contains("log_bin"), "{said}");
}
