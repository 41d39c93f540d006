//! TLS: a certificate must come from a known root, be for this name, and not have expired.

use crate::endpoint::{NO_CONTENT, NOW, endpoint, message, pusher};
use notify::push::{Attempt, Endpoint, Failure, Outcome};
use rcgen::{CertificateParams, KeyPair};
use std::{fs, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

/// Pushes twice to `https://localhost` with a certificate for this name until this year. Returns
/// the attempts, and the number of accepted connections.
async fn push(name: &str, until_year: i32, is_root: bool) -> ([Attempt; 2], usize) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, certificate.pem()).unwrap();

    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, mut count) = tokio::sync::mpsc::channel(8);
    let server = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            accepted.try_send(()).unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                // Each request here is one read.
                while tls.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {
                    tls.write_all(NO_CONTENT.as_bytes()).await.unwrap();
                }
            });
        }
    });

    let pusher = pusher(|settings| settings.roots = is_root.then_some(roots));
    let endpoint: Endpoint = endpoint(&format!("https://localhost:{port}/"));
    let first = pusher.push(&endpoint, &message(), NOW).await;
    let second = pusher.push(&endpoint, &message(), NOW).await;
    server.abort();
    let mut connections = 0;
    while count.try_recv().is_ok() {
        connections += 1;
    }
    ([first, second], connections)
}

#[tokio::test]
async fn a_good_certificate_is_accepted_and_its_connection_kept() {
    let (attempts, connections) = push("localhost", 2090, true).await;
    for attempt in attempts {
        assert_eq!(attempt.outcome, Outcome::Accepted { status: 204 });
    }
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_certificate_that_is_expired_or_of_another_name_or_root_is_a_failure_with_the_reason() {
    for (name, until_year, is_root, want) in [
        ("localhost", 2020, true, "expired"),
        ("shop.test", 2090, true, "not valid for name"),
        ("localhost", 2090, false, "UnknownIssuer"),
    ] {
        for attempt in push(name, until_year, is_root).await.0 {
            let Outcome::Failed(Failure::Tls(why)) = attempt.outcome else { panic!("{name}: {attempt:?}") };
            assert!(why.contains(want), "{name} until {until_year}: {why}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_is_a_failure_of_tls() {
    let server = crate::endpoint::Server::start(|mut peer| async move {
        peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let url = format!("https://{}/", server.address);
    let attempt = pusher(|_| {}).push(&endpoint(&url), &message(), NOW).await;
    assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Tls(_))), "{attempt:?}");
}

#[test]
fn a_file_of_roots_that_has_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let mut settings = crate::endpoint::settings();
        settings.roots = Some(file.clone());
        let error = notify::push::Pusher::new(settings).unwrap_err().to_string();
        assert!(error.starts_with("roots ") && error.contains("roots.pem"), "{text:?}: {error}");
    }
}
