//! A sale that was refused, or could not be written, leaves no file: neither now nor after
//! the next start.

use crate::disk_full::{mount_point, on_a_small_disk};
use crate::harness::{Server, Setup, shop};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).map(|entries| entries.map(|e| e.unwrap().file_name()).collect());
    let mut names: Vec<String> = entries
        .unwrap_or_else(|_| Vec::new())
        .iter()
        .map(|name: &std::ffi::OsString| name.to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_refused_definition_leaves_nothing_and_the_next_start_is_ready() {
    let mut server = Server::start();
    server.define("kept", &shop::spec(&[("phone", 1)]));
    let mut wrong = shop::spec(&[("phone", 1)]);
    wrong["rounds"][0]["closes_at"] = wrong["rounds"][0]["opens_at"].clone();
    let no_currency = shop::with(shop::spec(&[("phone", 1)]), json!({ "currency": "ABC" }));
    for (sale, body) in [
        ("wrong", wrong.to_string()),
        ("other", no_currency.to_string()),
        ("torn", "{\"name\":".to_owned()),
        ("Bad%20Name", shop::spec(&[("phone", 1)]).to_string()),
    ] {
        let refused = server.admin_send("PUT", &format!("/sales/{sale}"), &body);
        assert_eq!(refused.problem(), "invalid", "{sale}: {refused:?}");
    }
    let clash = server.admin_send("PUT", "/sales/kept", &shop::spec(&[("case", 1)]).to_string());
    assert_eq!(clash.problem(), "conflict", "its round has opened: {clash:?}");
    assert_eq!(entries(&server.data.join("sales")), ["kept"]);
    server.kill();
    server.restart();
    assert_eq!(server.client.get(&server.admin_url("/readyz")).status, 200);
    assert_eq!(entries(&server.data.join("sales")), ["kept"]);
    assert_eq!(entries(&server.data.join("sales/.unfinished")), Vec::<String>::new());
}

#[test]
fn a_sale_for_which_the_disk_has_no_room_leaves_nothing() {
    let mount_point = mount_point();
    let wrapper = on_a_small_disk(mount_point.path().to_str().unwrap());
    let data = mount_point.path().join("data");
    let mut server = Server::with(Setup { wrapper, data: Some(data.clone()), ..Setup::default() });
    let seen = PathBuf::from(format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), data.display()));
    server.see_data_at(seen.clone());
    let spec = shop::spec(&[("phone", 1)]);
    server.admin("PUT", "/sales/launch/draft", &spec);
    let mut room = 16 << 20;
    for n in 0..100 {
        let full = seen.parent().unwrap().join(format!("ballast-{n}"));
        if fs::write(&full, vec![1; room]).is_err() {
            let _ = fs::remove_file(&full);
            room /= 2;
        }
        if room < 4096 {
            break;
        }
    }
    assert!(room < 4096, "the disk is not full");
    for _ in 0..2 {
        let refused = server.admin_send("PUT", "/sales/other", &spec.to_string());
        assert_eq!((refused.status, &*refused.problem()), (503, "unavailable"), "{refused:?}");
        assert_eq!(entries(&seen.join("sales")), Vec::<String>::new());
        assert_eq!(entries(&seen.join("sales/.unfinished")), Vec::<String>::new());
        assert_eq!(server.client.get(&server.admin_url("/readyz")).status, 200);
    }
    let refused = server.admin_send("POST", "/sales/launch/publish", r#"{"reason":"ready"}"#);
    assert_eq!(refused.problem(), "unavailable", "{refused:?}");
    let list = server.admin("GET", "/sales", &Value::Null);
    assert_eq!((&list["sales"], &list["drafts"][0]["sale"]), (&json!([]), &"launch".into()), "{list}");
    assert_eq!(entries(&seen.join("sales")), Vec::<String>::new());

    // A draft is written whole or not at all.
    let large = shop::with(spec.clone(), json!({ "name": "x".repeat(100_000) }));
    let refused = server.admin_send("PUT", "/sales/large/draft", &large.to_string());
    assert_eq!(refused.problem(), "unavailable", "{refused:?}");
    assert_eq!(entries(&seen.join("operators/drafts")), ["launch.json"]);

    for name in entries(seen.parent().unwrap()).iter().filter(|name| name.starts_with("ballast")) {
        fs::remove_file(seen.parent().unwrap().join(name)).unwrap();
    }
    assert_eq!(server.admin_send("POST", "/sales/launch/publish", r#"{"reason":"ready"}"#).status, 200);
    server.sale("launch");
}
