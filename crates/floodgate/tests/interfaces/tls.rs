//! The shop over TLS, as the binary serves it: a client that trusts the certificate reaches it at
//! the printed address, and the log says what an operator must do about the certificate.

use crate::harness::{Server, Setup, poll, run, shop, stderr};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
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

fn settings(files: &Path) -> String {
    let path = |name: &str| files.join(name).display().to_string();
    format!(
        "\n[gate.tls]\nlisten = \"127.0.0.1:0\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        path("shop.pem"),
        path("shop.key")
    )
}

/// The HTTP/2 library warns of each answer to a question that it never asked, and any stranger can
/// send millions.
#[test]
fn a_strangers_flood_of_http2_ping_acks_writes_no_lines() {
    let files = tempfile::tempdir().unwrap();
    let certificate = put(files.path(), 2040);
    let server = Server::with(Setup { settings: settings(files.path()), ..Setup::default() });
    let at = server.printed.lines().find_map(|line| line.strip_prefix("shop:  https://")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(at.trim_end_matches('/')).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket);
    // RFC 9113, sections 3.4, 6.5 and 6.7: the preface with empty settings, and PING frames of 8
    // bytes, here with ACK set.
    let ping = |flags: u8| [&[0, 0, 8, 6, flags, 0, 0, 0, 0][..], &[7; 8]].concat();
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    stream.write_all(&preface).unwrap();
    let before = server.errors();
    for _ in 0..20 {
        stream.write_all(&ping(1).repeat(1000)).unwrap();
    }
    // One without it is answered, so all before it were read.
    stream.write_all(&ping(0)).unwrap();
    let (mut seen, want) = (Vec::new(), ping(1));
    while !seen.windows(want.len()).any(|part| part == want) {
        let mut part = [0; 1024];
        match stream.read(&mut part).unwrap() {
            0 => panic!("the connection ended: {seen:?}"),
            read => seen.extend_from_slice(&part[..read]),
        }
    }
    assert_eq!(server.errors(), before);
}

#[test]
fn the_tls_shop_is_at_its_printed_address_and_certificate_problems_are_logged() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    put(files.path(), 2020);
    let server = Server::with(Setup { settings: settings(files.path()), ..Setup::default() });
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
