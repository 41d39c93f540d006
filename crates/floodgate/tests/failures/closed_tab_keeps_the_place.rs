//! cloudflare/cloudflare-docs#21157: a shopper who closes the tab loses the place in line. Here the
//! place belongs to the shopper, who finds it again with any of their passes, from any device.

use crate::harness::{
    Server,
    http::Client,
    shop::{self, Sale, text, with},
};
use serde_json::json;

#[test]
fn a_shopper_who_closes_the_tab_keeps_the_place() {
    let mut server = Server::start();
    let spec = with(shop::spec(&[("phone", 1), ("case", 1)]), json!({ "waitlist": { "places": 5 } }));
    let sale = server.open_sale("launch", &spec);
    let [first, other] = ["first", "other"].map(|shopper| server.pass("launch", shopper));
    sale.granted(&first, "buy", "phone");
    assert_eq!(sale.buy(&other, "buy", "phone")["position"], 1);

    let tab = server.pass("launch", "traveller");
    let waiting = sale.buy(&tab, "buy", "phone");
    assert_eq!((&waiting["outcome"], &waiting["position"]), (&"waitlisted".into(), &2.into()), "{waiting}");
    let held = sale.granted(&tab, "buy-case", "case");
    drop(sale);

    // Another device: logged in again at the shop, with a new token and so a new pass, and a server
    // that was restarted.
    server.kill();
    server.restart();
    let token = server.output(&["token", "--shopper", "traveller"]);
    let bearer = format!("Bearer {}", token.trim());
    let passes = server.shop_url("/api/v1/sales/launch/passes");
    let issued = server.client.send("POST", &passes, &[("authorization", &bearer)], "").json();
    let device = text(&issued["pass"]).to_owned();
    assert_ne!(device, tab);
    let sale = Sale { client: Client::default(), ..server.sale("launch") };
    let found = sale.ask("GET", "/attempts", &device).json();
    let found = found["attempts"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0]["attempt"], &found[0]["hold"]), (&held["attempt"], &held["hold"]), "newest first");
    assert_eq!((&found[1]["attempt"], &found[1]["position"]), (&waiting["attempt"], &2.into()), "{found:?}");
    assert_eq!(found[1]["lines"], json!([{ "item": "phone", "quantity": 1 }]));
    assert_eq!(sale.look(&waiting["attempt"], &device), waiting);
    assert_eq!(sale.buy(&device, "buy", "phone"), waiting, "the same key is the same attempt on any device");

    // No other shopper sees it.
    let stranger = sale.look(&waiting["attempt"], &other);
    assert_eq!(stranger["outcome"], "none", "{stranger}");
}
