//! An endpoint in the operator's own network is refused, however it is written, and nothing
//! connects to it.

use crate::endpoint::{NO_CONTENT, NOW, Server, endpoint, message, pusher};
use notify::push::{Failure, Outcome};
use std::net::IpAddr;

#[tokio::test]
async fn private_addresses_are_refused_unless_their_network_is_allowed() {
    let server = Server::answering(NO_CONTENT).await;
    let port = server.address.port();
    let pusher = pusher(|settings| {
        settings.allowed_networks.clear();
        settings.http_allowed = true;
    });
    for (host, want) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.9.9.9", "127.9.9.9"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::1]", "::1"),
        ("[64:ff9b::127.0.0.1]", "64:ff9b::7f00:1"),
        ("0.0.0.0", "0.0.0.0"),
        ("10.0.0.1", "10.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("localhost", ""),
        ("LOCALHOST", ""),
    ] {
        for scheme in ["http", "https"] {
            let endpoint = endpoint(&format!("{scheme}://{host}:{port}/"));
            let attempt = pusher.push(&endpoint, &message(), NOW).await;
            let Outcome::Failed(Failure::AddressRefused(ip)) = attempt.outcome else {
                panic!("{host}: {attempt:?}")
            };
            let is_named = want.parse::<IpAddr>().is_ok_and(|named| named == ip);
            assert!(is_named || (want.is_empty() && ip.is_loopback()), "{host}: {ip}");
            assert_eq!(attempt.address, None);
        }
    }
    assert_eq!(server.seen.accepted(), 0);
}

#[tokio::test]
async fn an_allowed_network_is_reached_by_address_by_mapped_address_and_by_name() {
    let server = Server::answering(NO_CONTENT).await;
    let port = server.address.port();
    let pusher = pusher(|_| {});
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
        let attempt = pusher.push(&endpoint(&format!("http://{host}:{port}/")), &message(), NOW).await;
        assert_eq!(attempt.outcome, Outcome::Accepted { status: 204 }, "{host}");
        assert_eq!(attempt.address, Some(IpAddr::from([127, 0, 0, 1])), "{host}");
    }
}

#[tokio::test]
async fn plain_http_to_a_public_address_is_not_tried() {
    let attempt = pusher(|_| {}).push(&endpoint("http://8.8.8.8/"), &message(), NOW).await;
    let want = Failure::Protocol("plain http to 8.8.8.8: use https".into());
    assert_eq!((attempt.outcome, attempt.address), (Outcome::Failed(want), None));
}

/// `invalid` has no addresses (RFC 6761), whether or not a name server can be asked.
#[tokio::test]
async fn a_name_without_an_address_is_a_failure_to_resolve() {
    let attempt = pusher(|_| {}).push(&endpoint("https://shop.invalid/"), &message(), NOW).await;
    let Outcome::Failed(Failure::Resolve(why)) = attempt.outcome else { panic!("{attempt:?}") };
    assert!(why.starts_with("shop.invalid: "), "{why}");
}
