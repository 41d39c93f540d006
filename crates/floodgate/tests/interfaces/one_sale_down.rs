//! A sale whose log is damaged answers no request; the others go on, and the operators are told.

use crate::harness::{Server, shop};
use std::fs;
use std::os::unix::fs::FileExt;

#[test]
fn a_damaged_log_keeps_only_its_own_sale_down() {
    let mut server = Server::start();
    let old = server.open_sale("old", &shop::spec(&[("phone", 5)]));
    let pass = server.pass("old", "alice");
    for key in ["a", "b"] {
        old.attempt(&pass, key, &[("phone", 1)]);
    }
    let new = server.open_sale("new", &shop::spec(&[("phone", 5)]));
    server.stop();
    // One bit, after the header and before the last entry.
    let log = server.data.join("sales/old/p0/seg-00000000000000000001.log");
    let file = fs::File::options().read(true).write(true).open(log).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4200).unwrap();

    server.restart_unready();
    let pass = server.pass("new", "bob");
    new.granted(&pass, "k", "phone");
    let client = &server.client;
    assert_eq!(client.send("GET", &server.shop_url("/api/v1/sales/old"), &[], "").status, 404);
    let ready = client.send("GET", &server.admin_url("/readyz"), &[], "");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.body.contains("sale old could not be brought back"), "{ready:?}");
    let metrics = client.send("GET", &server.admin_url("/metrics"), &[], "").body;
    for line in [
        "floodgate_sale_stopped{sale=\"old\"} 1\n",
        "floodgate_sale_stopped{sale=\"new\"} 0\n",
        // Damage of the disk breaks no invariant.
        "floodgate_invariant_broken{sale=\"old\",invariant=\"INV-7\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert!(server.errors().contains("the sale cannot be brought back"), "{}", server.errors());
}
