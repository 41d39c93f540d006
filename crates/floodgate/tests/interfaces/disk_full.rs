//! The disk is full: the sale pauses itself and says so, loses nothing, and goes on by itself when
//! there is room.
//!
//! The server has a small file system of its own, mounted where no other process sees it; it is
//! gone when the server is. The test reaches it through `/proc/PID/root`.

use crate::harness::{
    Server, Setup, audit, poll,
    shop::{self, hold},
};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Room for one log segment of 64 MiB, and, without the ballast, for one more.
const DISK_BYTES: usize = 160 << 20;
const BALLAST_BYTES: usize = 90 << 20;

/// A mount point that is a directory of `/dev/shm`.
pub(crate) fn mount_point() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// The command line that starts a program with its own file system at `dir`, a [`mount_point`].
pub(crate) fn on_a_small_disk(dir: &str) -> Vec<String> {
    // Only a mount can be hidden from other processes. In a chroot `/` is a plain directory;
    // `/dev/shm` is a mount there too.
    let mount = format!(
        "mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm && \
         mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\" && exec \"$@\""
    );
    let is_root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] = if is_root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let words =
        [&["unshare", "--propagation", "unchanged"], namespaces, &["sh", "-c", &*mount, dir]].concat();
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_full_disk_pauses_the_sale_and_loses_nothing() {
    let mount_point = mount_point();
    let wrapper = on_a_small_disk(mount_point.path().to_str().unwrap());
    let tried = Command::new(&wrapper[0]).args(&wrapper[1..]).arg("true").output().unwrap();
    assert!(
        tried.status.success(),
        "this test needs a small file system of its own: run it as root, or where users may make namespaces \
         (unshare and mount): {}",
        String::from_utf8_lossy(&tried.stderr)
    );
    let data = mount_point.path().join("data");
    let mut server = Server::with(Setup { wrapper, data: Some(data.clone()), ..Setup::default() });
    let seen = PathBuf::from(format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), data.display()));
    server.see_data_at(seen.clone());
    let ballast = seen.parent().unwrap().join("ballast");

    let sale = server.open_sale("launch", &shop::spec(&[("phone", 10)]));
    let [early, paid, late] = ["early", "paid", "late"].map(|shopper| server.pass("launch", shopper));
    let held = sale.attempt(&early, "k", &[("phone", 1)]);
    let bought = sale.granted(&paid, "k", "phone");
    server.admin("POST", &hold(&bought, "confirm"), &json!({ "payment": "p-1" }));
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();

    // A million ids take 16 MiB of log: the first segment fills, and there is no room for the next.
    // Then smaller and smaller lists, until not even the smallest record fits into the remaining
    // room.
    let key = server.new_key("lists", "operator");
    let headers = [("authorization", &*format!("Bearer {key}")), ("content-type", "text/plain")];
    let url = server.admin_url("/api/v1/admin/sales/launch/denylist?reason=filling");
    let metrics = || server.client.get(&server.admin_url("/metrics")).body;
    let is_full = || metrics().contains("floodgate_sale_disk_full{sale=\"launch\"} 1");
    for ids_count in [1_000_000, 4096, 256, 16, 1] {
        let ids: String = (0..ids_count).map(|n| format!("bot-{n}\n")).collect();
        for _ in 0..2000 {
            // A sale that has just paused refuses everything until it tries again, a second later:
            // such a refusal proves nothing about this size.
            let looked = Instant::now();
            while is_full() && looked.elapsed() < Duration::from_millis(2500) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let reply = server.client.send("PUT", &url, &headers, &ids);
            if reply.status != 200 {
                assert_eq!((reply.status, &*reply.problem()), (503, "unavailable"), "{reply:?}");
                break;
            }
        }
    }

    poll("the pause", || {
        assert_eq!(sale.buy(&late, "k", "phone")["outcome"], "paused");
        (is_full() && server.document("launch")["state"] == "paused").then_some(())
    });
    assert_eq!(sale.attempt(&early, "k", &[("phone", 1)]).body, held.body, "the stored answer is repeated");
    assert_eq!(sale.look(&bought["attempt"], &paid)["hold"]["state"], "confirmed");
    let pay = server.admin_send("POST", &hold(&held.json(), "confirm"), "{\"payment\":\"p-2\"}");
    assert_eq!(
        (pay.status, &*pay.problem()),
        (503, "unavailable"),
        "a payment that cannot be stored is refused"
    );
    assert!(pay.body.contains("disk is full"), "{pay:?}");
    audit(&seen);

    fs::remove_file(&ballast).unwrap();
    let granted = poll("the sale to go on by itself", || {
        let outcome = sale.buy(&late, "k", "phone");
        (outcome["outcome"] != "paused").then_some(outcome)
    });
    assert_eq!(granted["outcome"], "granted", "{granted}");
    assert!(!is_full());
    assert_eq!(server.document("launch")["state"], "open");
    assert_eq!(
        server.admin("POST", &hold(&held.json(), "confirm"), &json!({ "payment": "p-2" }))["result"],
        "confirmed"
    );
    let report = audit(&seen)[0].clone();
    assert_eq!(
        (&report["items"][0]["sold"], &report["items"][0]["held"]),
        (&2.into(), &1.into()),
        "{report}"
    );
    assert!(report["outcomes"]["paused"].as_u64().unwrap() >= 1, "the refusals are counted: {report}");
}
