//! bootsrc/jseckill#19: an acknowledgement that comes too late is taken for a failure, and the
//! purchase that succeeded is made again. A client without an answer cannot know the outcome: here
//! it retries with the same key and gets it.

use crate::harness::{
    Server,
    http::Raw,
    shop::{self, Sale, basket, in_parallel},
};

#[test]
fn a_retry_after_a_timeout_gets_the_first_answer() {
    const SHOPPERS: usize = 40;
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 100)]));
    let passes = server.passes("launch", "mobile", SHOPPERS);
    let path = sale.attempts_url.split_once(&server.shop).unwrap().1;
    let body = basket(&[("phone", 1)]);
    in_parallel(8, &passes, |pass| {
        let mut connection = Raw::connect(&server.shop);
        connection.head("POST", path, &Sale::attempt_headers(pass, "tunnel"), body.len());
        connection.write(body.as_bytes());
        // The client is gone before the answer: it cannot know whether the attempt was decided.
        drop(connection);
        let heard = sale.granted(pass, "tunnel", "phone");
        assert_eq!(sale.granted(pass, "tunnel", "phone"), heard);
    });
    let report = server.audit()[0].clone();
    assert_eq!(report["items"][0]["held"], SHOPPERS, "{report}");
    assert_eq!(report["outcomes"]["granted"], SHOPPERS, "each was granted once: {report}");
}

/// The answer to a request whose client did not wait is kept for a later retry.
#[test]
fn an_answer_that_was_never_received_is_kept_for_a_retry() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let pass = server.pass("launch", "mobile");
    let path = sale.attempts_url.split_once(&server.shop).unwrap().1;
    let body = basket(&[("phone", 1)]);
    let mut connection = Raw::connect(&server.shop);
    connection.head("POST", path, &Sale::attempt_headers(&pass, "tunnel"), body.len());
    connection.write(body.as_bytes());
    server.wait_for_item("launch", "phone", |item| item["held"] == 1);
    drop(connection);
    let kept = sale.ask("GET", "/attempts", &pass).json();
    assert_eq!(kept["attempts"].as_array().unwrap().len(), 1, "{kept}");
    assert_eq!(kept["attempts"][0]["attempt"], sale.granted(&pass, "tunnel", "phone")["attempt"]);
}
