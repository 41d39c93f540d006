//! aws-solutions/virtual-waiting-room-on-aws#154: shoppers who left keep their place in line, and
//! those after them are stuck. Here each has the time of a hold to pay, and then the unit goes by
//! itself to the next shopper.

use crate::harness::{
    Server, poll,
    shop::{self, Sale, with},
};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;

/// Sends an attempt whose answer is never read.
fn ask(server: &Server, sale: &Sale, pass: &str) -> TcpStream {
    let path = sale.attempts_url.split_once(&server.shop).unwrap().1;
    let body = shop::basket(&[("phone", 1)]);
    let mut stream = TcpStream::connect(&server.shop).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nfloodgate-pass: {pass}\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn abandoned_holds_do_not_block_the_waitlist() {
    const GONE: usize = 4;
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "hold_seconds": 1, "waitlist": { "places": 10 } }));
    let sale = server.open_sale("launch", &spec);
    let owner = server.pass("launch", "owner");
    sale.granted(&owner, "k", "phone");
    let left: Vec<TcpStream> =
        server.passes("launch", "gone", GONE).iter().map(|pass| ask(&server, &sale, pass)).collect();
    poll("the decisions", || {
        let outcomes = server.stats("launch")["outcomes"].clone();
        let kept = outcomes["granted"].as_u64().unwrap() + outcomes["waitlisted"].as_u64().unwrap();
        (kept == 1 + GONE as u64).then_some(())
    });
    drop(left);
    let patient = server.pass("launch", "patient");
    let waiting = sale.buy(&patient, "k", "phone");
    assert_eq!(waiting["outcome"], "waitlisted", "{waiting}");
    let turn: Value = poll("the turn of the one who stayed", || {
        let seen = sale.look(&waiting["attempt"], &patient);
        (seen["place"] == "promoted").then_some(seen)
    });
    let paid = server.admin("POST", &shop::hold(&turn, "confirm"), &json!({ "payment": "p-1" }));
    assert_eq!(paid["result"], "confirmed", "{turn}");
    let report = server.audit()[0].clone();
    assert_eq!(report["holds"]["expired"], 1 + GONE as u64, "each had the unit for a second: {report}");
}
