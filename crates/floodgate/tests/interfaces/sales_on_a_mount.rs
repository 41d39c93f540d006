//! `sales/` may be a file system of its own: a sale is set up there and deleted, and leaves
//! nothing.

use crate::disk_full::{mount_point, on_a_small_disk};
use crate::harness::{Server, Setup, shop};
use std::fs;
use std::path::PathBuf;

#[test]
fn a_sale_is_set_up_and_deleted_where_sales_are_a_mount_of_their_own() {
    let mount_point = mount_point();
    let data = mount_point.path().join("data");
    let mut wrapper = on_a_small_disk(mount_point.path().to_str().unwrap());
    let mount = "mkdir -p \"$0/sales\" && mount -t tmpfs -o size=32m tmpfs \"$0/sales\" && \
                 mkdir \"$0/sales/lost+found\" && exec \"$@\"";
    wrapper.extend(["sh", "-c", mount, data.to_str().unwrap()].map(str::to_owned));
    let mut server = Server::with(Setup { wrapper, data: Some(data.clone()), ..Setup::default() });
    let seen = PathBuf::from(format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), data.display()));
    server.see_data_at(seen.clone());

    let sale = server.open_sale("launch", &shop::spec(&[("phone", 3)]));
    let pass = server.pass("launch", "early");
    sale.granted(&pass, "k", "phone");
    let mut later = shop::spec(&[("phone", 5)]);
    later["rounds"][0]["opens_at"] = shop::in_ms(3_600_000).into();
    later["rounds"][0]["closes_at"] = shop::in_ms(7_200_000).into();
    server.define("later", &later);
    let deleted = server.admin_send("DELETE", "/sales/later?reason=cancelled", "");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let mut left: Vec<_> =
        fs::read_dir(seen.join("sales")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["launch", "lost+found"], "and what such a file system has");
}
