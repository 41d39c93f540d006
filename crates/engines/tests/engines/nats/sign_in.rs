//! Users, tokens and TLS, and that no secret is told.

use super::server::NatsServer;
use super::{append, options};
use engines::log::Log;
use engines::nats::{Connection, NatsLog, Place};
use units::Sequence;

fn check(server: &NatsServer, place: &Place, secret: &str) {
    let connection = Connection::open(place).unwrap();
    let mut log = NatsLog::make(&connection, options("log")).unwrap();
    append(&mut log, b"entry").unwrap();
    assert_eq!(log.last(), Sequence(1));
    let said = format!("{place} {place:?} {connection:?} {log:?} {}", server.url());
    assert!(!said.contains(secret), "{said}");
}

fn refused(place: &Place) -> String {
    let error = NatsLog::make(&Connection::open(place).unwrap(), options("log")).unwrap_err();
    assert!(error.is_shortage(), "{error:?}");
    format!("{error:?}")
}

#[test]
fn a_user_or_a_token_signs_in_and_a_wrong_one_is_told_so() {
    let server = NatsServer::with("", "authorization { user: gate, password: \"s3cr:et\" }");
    let place = |user: &str| Place::parse(&format!("nats://{user}@{}", server.address())).unwrap();
    check(&server, &place("gate:s3cr%3Aet"), "s3cr");
    let said = refused(&place("gate:wr0ng"));
    assert!(said.contains("authorization") && !said.contains("wr0ng"), "{said}");

    let server = NatsServer::with("", "authorization { token: \"t0ken\" }");
    check(&server, &Place::parse(&format!("nats://t0ken@{}", server.address())).unwrap(), "t0ken");
}

#[test]
fn over_tls_the_server_must_have_a_certificate_that_is_trusted() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", cert.display(), key.display());
    let server = NatsServer::with("", &files);
    let url = format!("tls://s3cret@localhost:{}", server.address().rsplit_once(':').unwrap().1);
    let stranger = Place::parse(&url).unwrap();
    let mut trusting = stranger.clone();
    trusting.root_certificates = Some(cert);
    check(&server, &trusting, "s3cret");
    refused(&stranger);
}
