//! The shop behind TLS, as the binary serves it: where it says it is, a client that trusts the certificate finds it.

use crate::harness::{Server, Setup, run, shop, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

#[test]
fn the_shop_is_where_it_says_that_it_is() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(path("shop.pem"), made.cert.pem()).unwrap();
    fs::write(path("shop.key"), made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(path("shop.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "\n[gate.tls]\nlisten = \"127.0.0.1:0\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        path("shop.pem").display(),
        path("shop.key").display()
    );
    let server = Server::with(Setup { settings, ..Setup::default() });
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let url = server.printed.lines().find_map(|line| line.strip_prefix("shop:  https://")).unwrap();
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()]);
    let tls = TlsConfig::builder().root_certs(roots).build();
    let agent = ureq::Agent::config_builder().tls_config(tls).build().new_agent();
    let mut answer = agent.get(format!("https://{url}api/v1/sales/launch")).call().unwrap();
    assert!(answer.body_mut().read_to_string().unwrap().contains("\"sale\":\"launch\""));

    fs::set_permissions(path("shop.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let second = run(&server.scratch().join("other"), Some(&server.config_file()), &["serve"]);
    let said = stderr(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("gate.tls.key_file"), "{said}");
}
