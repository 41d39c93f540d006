//! The decision log as operators read it: who did what, when and why, by the command and by the
//! API, in whole and by sale, shopper, hold and actor.

use crate::harness::{
    Server,
    shop::{self, hold, text},
    stderr,
};
use serde_json::{Value, json};

#[test]
fn the_log_says_who_did_what_and_why() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5), ("case", 5)]));
    let [alice, bob] = ["alice", "bob"].map(|shopper| server.pass("launch", shopper));
    let (hers, his) = (sale.buy(&alice, "k", "phone"), sale.buy(&bob, "k", "case"));
    let key = server.new_key("night-shift", "owner");
    let post = |path: &str, body: Value| {
        let url = server.admin_url(&format!("/api/v1/admin{path}"));
        assert_eq!(server.client.admin("POST", &url, &key, &body.to_string()).status, 200, "{path}");
    };
    post(&hold(&hers, "confirm"), json!({ "payment": "pay-7" }));
    post("/sales/launch/void", json!({ "shopper": "bob", "reason": "a bot" }));

    let all = server.output(&["log"]);
    for words in [
        "round 1 opened",
        "1 × phone held in round 1 until",
        ", for \"alice\", hold ",
        "payment \"pay-7\" was recorded",
        "the hold was voided",
        "by night-shift: \"a bot\"",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
    let lines = |args: &[&str]| {
        let out = server.output(&[&["log", "--sale", "launch", "--json"], args].concat());
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        out.lines().map(read).collect::<Vec<_>>()
    };
    let kinds = |found: &[Value]| found.iter().map(|l| text(&l["kind"]).to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(&lines(&["--shopper", "bob"])), ["granted", "voided"]);
    let his_hold = text(&his["hold"]["id"]);
    assert_eq!(kinds(&lines(&["--hold", his_hold])), ["granted", "voided"]);
    assert_eq!(kinds(&lines(&["--by", "night-shift"])), ["confirmed", "voided"]);
    let both = lines(&["--shopper", "alice", "--by", "night-shift"]);
    assert_eq!(both[0]["what"], "payment \"pay-7\" was recorded", "{both:?}");
    assert_eq!(lines(&["--after", "1", "--max", "1"])[0]["sequence"], 2);
    // Filters narrow each other down.
    assert_eq!(kinds(&lines(&["--shopper", "bob", "--hold", his_hold])), ["granted", "voided"]);
    assert_eq!(lines(&["--shopper", "alice", "--hold", his_hold]), Vec::<Value>::new());
    let output = server.command(&["log", "--sale", "nosuch"]);
    assert!(stderr(&output).contains("there is no sale nosuch; there are: launch"), "{}", stderr(&output));

    // The same by the API, page after page.
    let read = |query: &str| {
        let url = server.admin_url(&format!("/api/v1/admin/sales/launch/log?{query}"));
        server.client.admin("GET", &url, &key, "").json()
    };
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = read(&format!("max=2&after={after}"));
        found.extend(page["entries"].as_array().unwrap().clone());
        if page["searched"] == page["end"] {
            break;
        }
        after = page["searched"].as_u64().unwrap();
    }
    assert_eq!(kinds(&found), kinds(&lines(&[])));
    // A page that begins after the hold was made still knows whose it is.
    let page = read("shopper=bob&after=4");
    assert_eq!(kinds(page["entries"].as_array().unwrap()).last().unwrap(), "voided", "{page}");
    let of = |query: &str| kinds(read(query)["entries"].as_array().unwrap());
    assert_eq!(of(&format!("shopper=bob&hold={his_hold}")), ["granted", "voided"]);
    assert_eq!(of(&format!("shopper=alice&hold={his_hold}")), Vec::<String>::new());
    assert_eq!(read("shopper=b%20ob")["status"], 422);
    assert_eq!(read("max=0")["status"], 422);
    assert_eq!(read("after=18446744073709551615")["status"], 409);
}
