//! The shop over TLS, as the binary serves it: a client that trusts the certificate reaches it at
//! the printed address, and the log says what an operator must do about the certificate.

use crate::harness::{Server, Setup, poll, run, shop, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Writes a certificate for loopback that is valid until a year, and returns it.
fn put(dir: &Path, until_year: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::write(dir.join("shop.pem"), &certificate).unwrap();
    fs::write(dir.join("shop.key"), key.serialize_pem()).unwrap();
    fs::set_permissions(dir.join("shop.key"), fs::Permissions::from_mode(0o600)).unwrap();
    certificate
}

#[test]
fn the_tls_shop_is_at_its_printed_address_and_certificate_problems_are_logged() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    put(files.path(), 2020);
    let settings = format!(
        "\n[gate.tls]\nlisten = \"127.0.0.1:0\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        path("shop.pem").display(),
        path("shop.key").display()
    );
    let server = Server::with(Setup { settings, ..Setup::default() });
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let said = |what: &str| poll(what, || server.errors().contains(what).then_some(()));
    said("the certificate expires soon, or has: renew it");
    fs::write(path("shop.pem"), "torn").unwrap();
    said("certificate not read: the old one stays in use");
    let certificate = put(files.path(), 2040);

    let url = server.printed.lines().find_map(|line| line.strip_prefix("shop:  https://")).unwrap();
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(certificate.as_bytes()).unwrap()]);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    let agent = ureq::Agent::config_builder().tls_config(tls).build().new_agent();
    let mut answer =
        poll("the new certificate", || agent.get(format!("https://{url}api/v1/sales/launch")).call().ok());
    assert!(answer.body_mut().read_to_string().unwrap().contains("\"sale\":\"launch\""));
    let log = server.errors();
    assert_eq!(
        log.matches("certificate not read").count(),
        1,
        "logged once, however often the files are read: {log}"
    );
    assert!(log.contains("shop.pem") && !log.contains("PRIVATE"), "{log}");

    fs::set_permissions(path("shop.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let second = run(&server.scratch().join("other"), Some(&server.config_file()), &["serve"]);
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("gate.tls.key_file") && said.contains("chmod 600"), "{said}");
}
