//! Who waits, for operators: by the API in pages, as a page for people, and by the command.

use crate::harness::{
    Server,
    shop::{self, hold, text, with},
};
use serde_json::{Value, json};

#[test]
fn operators_list_who_waits_in_the_order_of_their_places() {
    let mut server = Server::start();
    let spec = with(shop::spec(&[("phone", 1), ("case", 1)]), json!({ "waitlist": { "places": 20 } }));
    let sale = server.open_sale("launch", &spec);
    let holder = server.pass("launch", "holder");
    let phone = sale.granted(&holder, "p", "phone");
    sale.granted(&holder, "c", "case");
    for n in 0..7 {
        let pass = server.pass("launch", &format!("w-{n}"));
        let item = if n % 3 == 2 { "case" } else { "phone" };
        assert_eq!(sale.buy(&pass, "k", item)["outcome"], "waitlisted");
    }
    let read = |query: &str| {
        let reply = server.admin_send("GET", &format!("/sales/launch/waitlist{query}"), "");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let brief = |places: &Value| -> Vec<(u64, String, String)> {
        let line = |place: &Value| {
            assert_eq!(place["quantity"], 1, "{place}");
            let since = text(&place["since"]);
            assert!(since > text(&Value::from(shop::now().to_string())).get(..10).unwrap(), "{place}");
            (
                place["position"].as_u64().unwrap(),
                text(&place["shopper"]).to_owned(),
                text(&place["item"]).to_owned(),
            )
        };
        places.as_array().unwrap().iter().map(line).collect()
    };
    let line = |position: u64, n: u64, item: &str| (position, format!("w-{n}"), item.to_owned());
    let all = [
        line(1, 0, "phone"),
        line(2, 1, "phone"),
        line(1, 2, "case"),
        line(3, 3, "phone"),
        line(4, 4, "phone"),
        line(2, 5, "case"),
        line(5, 6, "phone"),
    ];
    let whole = read("");
    assert_eq!((brief(&whole["places"]), whole.get("next")), (all.to_vec(), None), "{whole}");
    assert_eq!(brief(&read("?item=case")["places"]), [all[2].clone(), all[5].clone()]);
    let (mut after, mut found, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = read(&format!("?max=2&after={after}"));
        found.extend(brief(&page["places"]));
        pages += 1;
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!((found, pages), (all.to_vec(), 4));

    // Those whose turn has come, and those who left, are not in it.
    server.admin("POST", &hold(&phone, "release"), &json!({}));
    let left = read("")["places"][0].clone();
    assert_eq!(left["shopper"], "w-1", "the first got the phone");
    server.admin("POST", &format!("/holds/{}/release", text(&left["attempt"])), &json!({}));
    assert_eq!(brief(&read("")["places"]), all[2..]);
    for (query, problem) in [("?max=0", "invalid"), ("?max=1001", "invalid"), ("?item=nosuch", "not-found")] {
        let refused = server.admin_send("GET", &format!("/sales/launch/waitlist{query}"), "");
        assert_eq!(refused.problem(), problem, "{query}");
    }
    let reader = server.new_key("reader", "read-only");
    let ask = |path: &str| server.client.admin("GET", &server.admin_url(path), &reader, "");
    assert_eq!(ask("/api/v1/admin/sales/launch/waitlist").status, 200, "as for the log");
    let page = ask("/sales/launch/waitlist?lang=zh");
    assert!(page.body.contains("候补名单") && page.body.contains("w-3"), "{page:?}");
    assert_eq!(page.body.matches("data-attempt=").count(), 5);
    assert!(ask("/").body.contains("/sales/launch/waitlist?lang=en"), "the page of figures leads there");

    let command = |server: &Server, args: &[&str]| server.output(&[&["waitlist"], args].concat());
    let lines: Vec<Value> =
        command(&server, &["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), read("")["places"], "the command says the same");
    let words = command(&server, &["--item", "case"]);
    assert!(words.lines().count() == 2 && words.contains("1 × case, for \"w-2\", attempt "), "{words}");
    let all_of_them = read("")["places"].as_array().unwrap().len();
    server.stop();
    assert_eq!(command(&server, &[]).lines().count(), all_of_them, "without a server too");
}
