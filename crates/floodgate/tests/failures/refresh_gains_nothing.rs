//! emfcamp/Website#816: the fastest refresher wins. Here repeated requests, however many, move no
//! shopper forward.

use crate::harness::{
    Server, poll,
    shop::{self, in_parallel, with},
};
use serde_json::json;

#[test]
fn refreshing_does_not_improve_a_shoppers_place() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 10 } }));
    let sale = server.open_sale("launch", &spec);
    let [owner, patient, eager] = ["owner", "patient", "eager"].map(|shopper| server.pass("launch", shopper));
    sale.granted(&owner, "buy", "phone");
    let patient_waits = sale.buy(&patient, "buy", "phone");
    let eager_waits = sale.buy(&eager, "buy", "phone");
    assert_eq!((&patient_waits["position"], &eager_waits["position"]), (&1.into(), &2.into()));

    let clicks: Vec<usize> = (0..200).collect();
    in_parallel(8, &clicks, |click| {
        if click % 2 == 0 {
            assert_eq!(sale.buy(&eager, "buy", "phone"), eager_waits, "the same place");
        } else {
            let other = sale.buy(&eager, &format!("refresh-{click}"), "phone");
            assert_eq!(other["outcome"], "limit_reached", "no second place in line: {other}");
            assert_eq!(other["held_by"], eager_waits["attempt"], "{other}");
        }
    });

    server.admin("POST", "/sales/launch/items/phone/adjust", &json!({ "delta": 1, "reason": "found one" }));
    poll("promotion", || {
        (sale.look(&patient_waits["attempt"], &patient)["place"] == "promoted").then_some(())
    });
    assert_eq!(sale.look(&eager_waits["attempt"], &eager)["place"], "waiting");
    server.audit();
}
