//! What a refused token costs beside an accepted one, in CPU time: `cargo run --release -p web
//! --example tokens`.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use std::{fs, hint::black_box, path::Path};
use units::TimeMs;
use web::{
    config::{JwtAlgorithm, JwtConfig},
    jwt::JwtVerifier,
    secret::write_secret,
};

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const CLAIMS: &str = r#"{"iss":"shop","aud":"floodgate","sub":"alice","exp":1800000060}"#;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

fn hs256(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

fn es256(key: &EcdsaKeyPair, header: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(CLAIMS));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
    format!("{signed}.{}", b64(signature))
}

fn jwk(key: &EcdsaKeyPair, kid: &str) -> serde_json::Value {
    let point = key.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
}

/// CPU time of this thread for a check, in microseconds: the least of several rounds.
fn cpu_us(verifier: &JwtVerifier, token: &str) -> f64 {
    const CHECKS: u32 = 200;
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let round = |_| {
        let began = now();
        (0..CHECKS).for_each(|_| drop(black_box(verifier.verify(token, NOW))));
        (now() - began) / f64::from(CHECKS)
    };
    (0..20).map(round).fold(f64::MAX, f64::min)
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (one, two, stranger) = (key(), key(), key());
    let set_of = |name: &str, keys: Vec<serde_json::Value>| {
        let file = dir.path().join(name);
        fs::write(&file, json!({"keys": keys}).to_string()).expect("a file");
        let jwks_file = file.display().to_string();
        let config = JwtConfig { algorithms: vec![JwtAlgorithm::ES256], jwks_file, ..JwtConfig::default() };
        JwtVerifier::open("gate", &config, Path::new("")).expect("a set of keys")
    };
    let pair = set_of("pair", vec![jwk(&one, "one"), jwk(&two, "two")]);
    let many = set_of("many", (0..32).map(|n| jwk(&key(), &format!("k{n}"))).collect());
    let file = dir.path().join("secret");
    write_secret(&file, SECRET).expect("a file");
    let secret = JwtVerifier::open("gate", &JwtConfig::default(), &file).expect("a secret");

    let named = r#"{"alg":"ES256","kid":"one"}"#;
    let unnamed = r#"{"alg":"ES256"}"#;
    let short = r#"{"alg":"HS256"}"#;
    let named_ok = cpu_us(&pair, &es256(&one, named));
    let unnamed_ok = cpu_us(&pair, &es256(&two, unnamed));
    let secret_ok = cpu_us(&secret, &hs256(short, CLAIMS));
    println!("accepted: ES256 {named_ok:.1} µs, without kid {unnamed_ok:.1} µs, HS256 {secret_ok:.1} µs\n");
    println!("| refused | µs | of an accepted one |\n|---|---|---|");
    let right = hs256(short, CLAIMS);
    let forged = format!("{}A{}", &right[..right.len() - 9], &right[right.len() - 8..]);
    for (name, verifier, token, accepted) in [
        ("ES256, forged", &pair, es256(&stranger, named), named_ok),
        ("ES256, no kid, two keys", &pair, es256(&stranger, unnamed), unnamed_ok),
        ("ES256, no kid, 32 keys", &many, es256(&stranger, unnamed), unnamed_ok),
        ("ES256, unknown kid", &many, es256(&stranger, named), named_ok),
        ("HS256, forged", &secret, forged, secret_ok),
        ("HS256, crit", &secret, hs256(r#"{"alg":"HS256","crit":["x"]}"#, CLAIMS), secret_ok),
        ("HS256, expired", &secret, hs256(short, &CLAIMS.replace("1800000060", "1")), secret_ok),
        ("no JWT, 4 KB", &secret, "x".repeat(4096), secret_ok),
    ] {
        assert!(verifier.verify(&token, NOW).is_err(), "{name}");
        let refused = cpu_us(verifier, &token);
        println!("| {name} | {refused:.1} | {:.2} |", refused / accepted);
    }
}
