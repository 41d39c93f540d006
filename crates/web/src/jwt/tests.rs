//! Tokens that must and must not be accepted.

use super::*;
use crate::secret::write_secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// A changed file is noticed within this time.
const FILE_CHECKED: Duration = Duration::from_millis(1050);

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn config(algorithms: &[JwtAlgorithm]) -> JwtConfig {
    JwtConfig { algorithms: algorithms.to_vec(), ..JwtConfig::default() }
}

fn hs256() -> (tempfile::TempDir, JwtVerifier) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwt.key");
    write_secret(&path, SECRET).unwrap();
    let verifier = JwtVerifier::open("gate", &config(&[JwtAlgorithm::HS256]), &path).unwrap();
    (dir, verifier)
}

fn claims() -> Value {
    json!({"iss": "shop", "aud": "floodgate", "sub": "alice", "exp": 1_800_000_060u64})
}

fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

#[test]
fn a_token_of_the_shop_is_accepted() {
    let (_dir, verifier) = hs256();
    let alice = Shopper { id: "alice".into(), tier: 3 };
    let token = sign_token(SECRET, &JwtConfig::default(), &alice, NOW, 60);
    assert_eq!(verifier.verify(&token, NOW), Ok(alice));
    assert_eq!(verifier.verify(&token, TimeMs(NOW.0 + 89_000)).map(|s| s.tier), Ok(3), "within the leeway");
    assert_eq!(verifier.verify(&token, TimeMs(NOW.0 + 90_000)), Err(JwtError::Expired));
}

#[test]
fn each_wrong_claim_of_a_token_is_refused_by_name() {
    let (_dir, verifier) = hs256();
    let check = |name: &str, value: Value, want: &str| {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        let token = signed(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET));
        let refused = verifier.verify(&token, NOW).unwrap_err().to_string();
        assert!(refused.contains(want), "{name}: {refused}");
    };
    check("iss", json!("other"), "iss");
    check("iss", Value::Null, "iss");
    check("aud", json!("other"), "aud");
    check("aud", Value::Null, "aud");
    check("exp", Value::Null, "exp");
    check("exp", json!(1_799_999_970u64), "expired");
    check("nbf", json!(1_800_000_031u64), "nbf");
    check("sub", Value::Null, "sub");
    for id in [
        json!(""),
        json!("x".repeat(65)),
        json!(" bot "),
        json!("bot\r"),
        json!("\u{feff}bot"),
        json!("小明"),
    ] {
        check("sub", id, "sub: want 1 to 64 visible ASCII characters");
    }
    check("tier", json!(256), "claims");
    for text in ["", "a.b", "a.b.c", &"x".repeat(5000)] {
        assert_eq!(verifier.verify(text, NOW), Err(JwtError::Malformed));
    }
}

#[test]
fn a_token_cannot_choose_its_own_algorithm() {
    let (dir, verifier) = hs256();
    let alice = Shopper { id: "alice".into(), tier: 0 };
    let token = sign_token(SECRET, &JwtConfig::default(), &alice, NOW, 60);
    let (_, rest) = token.split_once('.').unwrap();
    for header in
        [r#"{"alg":"none"}"#, r#"{"alg":"None","typ":"JWT"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"ES256"}"#]
    {
        let forged = format!("{}.{rest}", data_encoding::BASE64URL_NOPAD.encode(header.as_bytes()));
        assert!(verifier.verify(&forged, NOW).is_err(), "{header}");
    }
    let other = signed(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(b"x"));
    assert_eq!(verifier.verify(&other, NOW), Err(JwtError::Signature));

    // The well-known attack: a public key used as the secret of an HMAC, with both algorithms
    // allowed.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let path = dir.path().join("public.pem");
    fs::write(&path, pem).unwrap();
    let both = config(&[JwtAlgorithm::EdDSA, JwtAlgorithm::HS256]);
    let verifier = JwtVerifier::open("gate", &both, &path).unwrap();
    for secret in [pem.as_bytes(), pem.trim().as_bytes()] {
        let forged = signed(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(secret));
        assert_eq!(verifier.verify(&forged, NOW), Err(JwtError::UnknownKey));
    }
    assert!(
        JwtVerifier::open("gate", &config(&[JwtAlgorithm::HS256]), &path).is_err(),
        "no key for the configured algorithm"
    );
}

#[test]
fn old_and_new_keys_of_a_jwks_work_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let pair = |seed: u8| {
        let signing = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let x = data_encoding::BASE64URL_NOPAD.encode(signing.verifying_key().as_bytes());
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend_from_slice(&[seed; 32]);
        let kid = format!("k{seed}");
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x});
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid);
        (jwk, signed(&header, &claims(), &EncodingKey::from_ed_der(&der)))
    };
    let ((old_jwk, old), (new_jwk, new)) = (pair(1), pair(2));
    let encryption = json!({"kty": "OKP", "crv": "X25519", "use": "enc", "kid": "e", "x": "AAAA"});
    fs::write(&path, json!({"keys": [old_jwk, encryption]}).to_string()).unwrap();
    let config = JwtConfig { jwks_file: path.to_str().unwrap().into(), ..config(&[JwtAlgorithm::EdDSA]) };
    let verifier = JwtVerifier::open("gate", &config, Path::new("")).unwrap();
    assert_eq!(verifier.verify(&old, NOW).map(|s| s.id), Ok("alice".to_owned()));
    assert_eq!(verifier.verify(&new, NOW), Err(JwtError::UnknownKey));

    fs::write(&path, json!({"keys": [old_jwk, new_jwk]}).to_string()).unwrap();
    std::thread::sleep(FILE_CHECKED);
    assert!(verifier.verify(&new, NOW).is_ok());
    assert!(verifier.verify(&old, NOW).is_ok());

    fs::write(&path, json!({"keys": [new_jwk]}).to_string()).unwrap();
    std::thread::sleep(FILE_CHECKED);
    assert_eq!(verifier.verify(&old, NOW), Err(JwtError::UnknownKey));
}

// Made by another implementation, so that its signatures are checked. The private keys were
// deleted.
const ES256_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6gnNtrEAQ5qBDIEmeRe3Qle3jIQr\niqH7IDUCkeQ5U5tLWVBRgXwn2zTFIzCGfXAbRaiuRXFkmiV+DmIXdLglIA==\n-----END PUBLIC KEY-----\n";
const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaG9wIiwiYXVkIjoiZmxvb2RnYXRlIiwic3ViIjoiY\
     WxpY2UiLCJleHAiOjE4MDAwMDAwNjB9.i4iQWeQzHc8fEWflmaBHdXv27FqhklOAH-80axhklNT0ckbsxlVl3U25bD\
     jODTItw_IRTGtK_JIHwBNDMyOU-Q";
const RS256_N: &str = "vfDX_RcINovA4YoIlsqQlUSB969ene7Sxn90OJ_SQpICHd3ECo5GWppp9AkbC409f6vws9hxnHsZzhSElsnd-LcKlu\
     UnDydxp-WoILBrQJYViJhSg6s5VNuWEwBFbSWRyTWfrHlEZBE_t7HE-0UvT6tSIvM6PMsAa-AyQWSsYQ2Il-FZDXVm\
     RiuE-ExZWgxVBTH8hDpXTi30ctKUkSFQJ8UM8S7NYzFPveclNlGUGREcembzuBLAS3I3V1Ymq0ccxLB644dgV9Iz5J\
     DQXvBc57Y1bNijO5F4IjdhhFj6yphE07A9akKn53Q01Z1snQynJpIBB68OKMuoJoGYtayfrQ";
const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaG9wIiwiYXVkIjoiZmxvb2RnYXRlIiwic3ViIjoiY\
     WxpY2UiLCJleHAiOjE4MDAwMDAwNjB9.RfglbnCoK3p_qqhucNltbfbT8v1tuhuzifiUO1-89HC6AiZRldVkPWxZH1\
     pPRBTd51azvHlXF1idPYJycasSLqD6F5TohOI3HQFFFcMcLk8f_pcypmWlZh6UzN4y2DOhYqIVU-7NA4y10j2z7mj9\
     YpL3d6sB-I4Sa223Oh_rdPUvnUKr2RQMvxoHg9IeLFabRpP-pS4FBSDMr_ClsGrV0Qv-L-P904tlG_0Gy57ZTu7LH9\
     lGhzjJVCs-sSvYzpBhZB8iLXs5bKncUkHLJQXmqu2MX4Rnb405-D-bT8C5oqaRKjJE3WokwXij6IoayqpvNKthBgBA\
     Td8yc-Jfogv8QA";

const RS256_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
     MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvfDX/RcINovA4YoIlsqQ\n\
     lUSB969ene7Sxn90OJ/SQpICHd3ECo5GWppp9AkbC409f6vws9hxnHsZzhSElsnd\n\
     +LcKluUnDydxp+WoILBrQJYViJhSg6s5VNuWEwBFbSWRyTWfrHlEZBE/t7HE+0Uv\n\
     T6tSIvM6PMsAa+AyQWSsYQ2Il+FZDXVmRiuE+ExZWgxVBTH8hDpXTi30ctKUkSFQ\n\
     J8UM8S7NYzFPveclNlGUGREcembzuBLAS3I3V1Ymq0ccxLB644dgV9Iz5JDQXvBc\n\
     57Y1bNijO5F4IjdhhFj6yphE07A9akKn53Q01Z1snQynJpIBB68OKMuoJoGYtayf\n\
     rQIDAQAB\n\
     -----END PUBLIC KEY-----\n";

#[test]
fn rsa_keys_and_certificates_in_pem_verify_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("public.pem");
    let all = [JwtAlgorithm::ES256, JwtAlgorithm::RS256, JwtAlgorithm::EdDSA];
    let said = |pem: &str, token: &str| {
        fs::write(&path, pem).unwrap();
        JwtVerifier::open("gate", &config(&all), &path).unwrap().verify(token, NOW).map(|s| s.id)
    };
    assert_eq!(said(RS256_PEM, RS256_TOKEN), Ok("alice".to_owned()));
    let encoded: String = RS256_PEM.lines().filter(|line| !line.starts_with('-')).collect();
    let spki = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
    // In an RSA key's SubjectPublicKeyInfo, the key of PKCS #1 begins at byte 24.
    let pkcs1 = data_encoding::BASE64.encode(&spki[24..]);
    let pkcs1 = format!("-----BEGIN RSA PUBLIC KEY-----\n{pkcs1}\n-----END RSA PUBLIC KEY-----\n");
    assert_eq!(said(&pkcs1, RS256_TOKEN), Ok("alice".to_owned()));

    for (kind, algorithm) in
        [(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256), (&rcgen::PKCS_ED25519, Algorithm::EdDSA)]
    {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let certificate =
            rcgen::CertificateParams::new(["shop".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&pair.serialize_der()),
            _ => EncodingKey::from_ed_der(&pair.serialize_der()),
        };
        let token = signed(&Header::new(algorithm), &claims(), &key);
        assert_eq!(said(&certificate.pem(), &token), Ok("alice".to_owned()), "{algorithm:?}");
        assert_eq!(said(&pair.public_key_pem(), &token), Ok("alice".to_owned()), "{algorithm:?}");
    }
}

#[test]
fn keys_in_pem_and_jwks_verify_signatures_made_by_another_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("public.pem");
    fs::write(&path, ES256_PEM).unwrap();
    let all = [JwtAlgorithm::ES256, JwtAlgorithm::RS256, JwtAlgorithm::HS256];
    let verifier = JwtVerifier::open("gate", &config(&all), &path).unwrap();
    assert_eq!(verifier.verify(ES256_TOKEN, NOW).map(|s| s.id), Ok("alice".to_owned()));
    assert_eq!(verifier.verify(RS256_TOKEN, NOW), Err(JwtError::UnknownKey));

    let set = json!({"keys": [{"kty": "RSA", "n": RS256_N, "e": "AQAB"}]}).to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
        stream.write_all(format!("{head} {}\r\n\r\n{set}", set.len()).as_bytes()).unwrap();
    });
    let from_url = JwtConfig { jwks_url: url, ..config(&all) };
    let verifier = JwtVerifier::open("gate", &from_url, Path::new("")).unwrap();
    assert!(matches!(verifier.verify(RS256_TOKEN, NOW), Ok(_) | Err(JwtError::NoKeysYet)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while verifier.verify(RS256_TOKEN, NOW).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(verifier.verify(RS256_TOKEN, NOW).map(|s| s.id), Ok("alice".to_owned()));
    assert!(matches!(verifier.verify(ES256_TOKEN, NOW), Err(JwtError::KeysOutdated { .. })));
    let plain = JwtConfig { jwks_url: "http://example.com/keys".into(), ..config(&all) };
    assert!(JwtVerifier::open("gate", &plain, Path::new("")).is_err());
}
