//! Tables of tokens and keys, one row for each rule of RFC 7515, RFC 7517, RFC 7518, RFC 7519,
//! RFC 7797 and RFC 8725 that a reader must keep, and the fetches of a set.

use super::*;
use crate::secret::write_secret;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256"}"#;
const CLAIMS: &str = r#"{"iss":"shop","aud":"floodgate","sub":"alice","exp":1800000060}"#;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// A token with exactly these bytes, signed with a secret.
fn hs256(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", b64(header), b64(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

fn verifier_of(file: &[u8], config: &JwtConfig) -> io::Result<JwtVerifier> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_secret(&path, file).unwrap();
    JwtVerifier::open("gate", config, &path)
}

fn config(algorithms: &[JwtAlgorithm]) -> JwtConfig {
    JwtConfig { algorithms: algorithms.to_vec(), ..JwtConfig::default() }
}

#[track_caller]
fn check(name: &str, said: Result<Shopper, JwtError>, want: &str) {
    let said = said.map_or_else(|refused| refused.to_string(), |_| "accepted".to_owned());
    assert!(said.contains(want), "{name}: want {want:?}, got {said:?}");
}

#[test]
fn headers_are_held_to_the_rfcs() {
    let verifier = verifier_of(SECRET, &config(&[JwtAlgorithm::HS256])).unwrap();
    let many: String = (0..20).map(|n| format!(r#","m{n}":1"#)).collect();
    let long = format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(1000));
    for (name, header, want) in [
        ("alg alone", HEADER, "accepted"),
        ("spaces and an escape", r#" { "\u0061lg" : "HS256" } "#, "accepted"),
        ("unknown members", r#"{"alg":"HS256","x":{"y":[1,null]},"jku":"https://evil"}"#, "accepted"),
        ("an empty kid", r#"{"alg":"HS256","kid":""}"#, "accepted"),
        ("no alg", r#"{"typ":"JWT"}"#, "alg"),
        ("alg none", r#"{"alg":"none"}"#, "alg"),
        ("alg None", r#"{"alg":"None"}"#, "alg"),
        ("alg in another case", r#"{"alg":"hs256"}"#, "alg"),
        ("alg with a space", r#"{"alg":"HS256 "}"#, "alg"),
        ("alg of a number", r#"{"alg":256}"#, "alg"),
        ("alg not configured", r#"{"alg":"HS512"}"#, "alg"),
        ("alg of another kind of key", r#"{"alg":"RS256"}"#, "alg"),
        ("alg twice", r#"{"alg":"HS256","alg":"HS256"}"#, "no JWT"),
        ("alg twice, once escaped", r#"{"alg":"HS256","\u0061lg":"none"}"#, "no JWT"),
        ("another member twice", r#"{"alg":"HS256","x":1,"x":1}"#, "no JWT"),
        ("crit of an unknown extension", r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, "crit"),
        ("crit of b64", r#"{"alg":"HS256","crit":["b64"],"b64":true}"#, "crit"),
        ("crit, empty", r#"{"alg":"HS256","crit":[]}"#, "crit"),
        ("crit of a string", r#"{"alg":"HS256","crit":"exp"}"#, "crit"),
        ("crit of null", r#"{"alg":"HS256","crit":null}"#, "crit"),
        ("crit of what is not there", r#"{"alg":"HS256","crit":["x"]}"#, "crit"),
        ("crit of what all must know", r#"{"alg":"HS256","crit":["alg"]}"#, "crit"),
        ("b64 of false", r#"{"alg":"HS256","b64":false}"#, "b64"),
        ("b64 of a string", r#"{"alg":"HS256","b64":"true"}"#, "b64"),
        ("kid of a number", r#"{"alg":"HS256","kid":1}"#, "kid"),
        ("kid of null", r#"{"alg":"HS256","kid":null}"#, "kid"),
        ("typ JWT", r#"{"alg":"HS256","typ":"JWT"}"#, "accepted"),
        ("typ jwt", r#"{"alg":"HS256","typ":"jwt"}"#, "accepted"),
        ("typ as a media type", r#"{"alg":"HS256","typ":"application/JWT"}"#, "accepted"),
        ("typ of an access token", r#"{"alg":"HS256","typ":"at+jwt"}"#, "typ"),
        ("typ of a log-out", r#"{"alg":"HS256","typ":"logout+jwt"}"#, "typ"),
        ("typ of a number", r#"{"alg":"HS256","typ":1}"#, "typ"),
        ("an array", "[]", "no JWT"),
        ("nothing", "", "no JWT"),
        ("more after it", r#"{"alg":"HS256"}{}"#, "no JWT"),
        ("a comma at the end", r#"{"alg":"HS256",}"#, "no JWT"),
        ("nested deeply", &format!(r#"{{"alg":"HS256","x":{}}}"#, "[".repeat(200)), "no JWT"),
        ("many members", &format!(r#"{{"alg":"HS256"{many}}}"#), "no JWT"),
        ("long", &long, "1,024 bytes"),
    ] {
        check(name, verifier.verify(&hs256(header, CLAIMS), NOW), want);
    }
    check("no UTF-8", verifier.verify(&hs256(b"{\"alg\":\"HS256\",\"x\":\"\xff\"}", CLAIMS), NOW), "no JWT");
    let strict = JwtConfig { typ: "at+jwt".into(), ..config(&[JwtAlgorithm::HS256]) };
    let strict = verifier_of(SECRET, &strict).unwrap();
    for (typ, want) in
        [(r#","typ":"at+jwt""#, "accepted"), (r#","typ":"application/at+JWT""#, "accepted"), ("", "typ")]
    {
        check(typ, strict.verify(&hs256(format!(r#"{{"alg":"HS256"{typ}}}"#), CLAIMS), NOW), want);
    }
}

#[test]
fn claims_are_held_to_the_rfcs() {
    let verifier = verifier_of(SECRET, &config(&[JwtAlgorithm::HS256])).unwrap();
    let usual = [("iss", "\"shop\""), ("aud", "\"floodgate\""), ("sub", "\"alice\""), ("exp", "1800000060")];
    let with = |name: &str, value: &str| {
        let others = usual.iter().filter(|(known, _)| *known != name);
        let others = others.map(|(name, value)| format!("\"{name}\":{value}"));
        let all: Vec<String> = others.chain([format!("\"{name}\":{value}")]).collect();
        format!("{{{}}}", all.join(","))
    };
    for (name, value, want) in [
        ("exp", "1800000060.5", "accepted"),
        ("exp", "1.80000006e9", "accepted"),
        ("exp", "1799999970.001", "accepted"),
        ("exp", "1799999970.0", "expired"),
        ("exp", "-1", "expired"),
        ("exp", "\"1800000060\"", "exp"),
        ("exp", "null", "exp"),
        ("exp", "true", "exp"),
        ("exp", "1e999", "claims"),
        ("exp", "18446744073709551616", "accepted"),
        ("nbf", "1800000000.75", "accepted"),
        ("nbf", "1800000030.0", "accepted"),
        ("nbf", "1800000030.001", "nbf"),
        ("nbf", "\"0\"", "nbf"),
        ("nbf", "null", "nbf"),
        ("iat", "1799999999.123", "accepted"),
        ("iat", "\"now\"", "iat"),
        ("iss", "\"Shop\"", "iss"),
        ("iss", "[\"shop\"]", "iss"),
        ("iss", "null", "iss"),
        ("aud", "[\"floodgate\"]", "accepted"),
        ("aud", "[\"other\",\"floodgate\"]", "accepted"),
        ("aud", "[]", "aud"),
        ("aud", "[\"floodgate\",1]", "aud"),
        ("aud", "\"other floodgate\"", "aud"),
        ("aud", "null", "aud"),
        ("sub", "1", "sub"),
        ("tier", "255", "accepted"),
        ("tier", "256", "tier"),
        ("tier", "-1", "tier"),
        ("tier", "\"1\"", "tier"),
        ("anything", "{\"x\":[1,2]}", "accepted"),
        ("anything", "1,\"anything\":1", "twice"),
        ("sub", "\"bob\",\"sub\":\"alice\"", "twice"),
    ] {
        check(&format!("{name} {value}"), verifier.verify(&hs256(HEADER, with(name, value)), NOW), want);
    }
    for claims in ["[]", "\"alice\"", "", "{}x"] {
        check(claims, verifier.verify(&hs256(HEADER, claims), NOW), "claims");
    }
}

#[test]
fn the_compact_form_is_held_to_the_rfcs() {
    let verifier = verifier_of(SECRET, &config(&[JwtAlgorithm::HS256])).unwrap();
    let token = hs256(HEADER, CLAIMS);
    check("as it is", verifier.verify(&token, NOW), "accepted");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let unused_bits = {
        let last = signature.as_bytes()[42];
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(last as char).unwrap();
        format!("{}{}", &signature[..42], &alphabet[at + 1..at + 2])
    };
    for (name, text) in [
        ("four parts", format!("{token}.x")),
        ("five parts, as of encryption", format!("{header}.{claims}.x.y.{signature}")),
        ("two parts", format!("{header}.{claims}")),
        ("an empty part", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("padding", format!("{token}=")),
        ("padding of the header", format!("{header}=.{claims}.{signature}")),
        ("a line end", format!("{token}\n")),
        ("a space", format!("{header}.{claims}. {signature}")),
        ("base64 without url", format!("{header}.{claims}.{}", "+/".repeat(21) + "A")),
        ("bits left over", format!("{header}.{claims}.{unused_bits}")),
        ("a signature cut short", token[..token.len() - 1].to_owned()),
        ("a signature of zeros", format!("{header}.{claims}.{}", "A".repeat(43))),
        ("one claim changed", format!("{header}.{}.{signature}", b64(CLAIMS.replace("alice", "bob")))),
        ("one header changed", format!("{}.{claims}.{signature}", b64(r#"{"alg":"HS256" }"#))),
        ("JSON", json!({"payload": claims, "protected": header, "signature": signature}).to_string()),
    ] {
        assert!(verifier.verify(&text, NOW).is_err(), "{name}");
    }
}

/// A signer of each algorithm, with its public key as a JWK.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn rsa(size: KeySize) -> Self {
        Self::Rsa(RsaKeyPair::generate(size).unwrap())
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self) -> Value {
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let bytes = |n: aws_lc_rs::io::Positive<'_>| n.big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "n": b64(bytes(n)), "e": b64(bytes(e))})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Self::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
        }
    }

    fn token(&self, header: Value) -> String {
        let mut header = header;
        header["alg"] = self.alg().into();
        let signed = format!("{}.{}", b64(header.to_string()), b64(CLAIMS));
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }
}

const ALL: [JwtAlgorithm; 4] =
    [JwtAlgorithm::HS256, JwtAlgorithm::ES256, JwtAlgorithm::RS256, JwtAlgorithm::EdDSA];

/// A verifier with the keys of a set in a file.
fn of_set(set: &str) -> io::Result<JwtVerifier> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    write_secret(&path, set.as_bytes()).unwrap();
    let config = JwtConfig { jwks_file: path.to_str().unwrap().into(), ..config(&ALL) };
    let opened = JwtVerifier::open("gate", &config, Path::new(""));
    opened.inspect(|_| std::mem::forget(dir))
}

#[test]
fn keys_of_a_set_are_held_to_the_rfcs() {
    let (rsa, ec, ed) = (Signer::rsa(KeySize::Rsa2048), Signer::ec(), Signer::ed());
    let x = ec.jwk()["x"].as_str().unwrap().to_owned();
    let n = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let zero_first = b64([&[0], &*BASE64URL_NOPAD.decode(n.as_bytes()).unwrap()].concat());
    let even = "AQAA";
    for (name, signer, change, is_usable) in [
        ("plain RSA", &rsa, json!({}), true),
        ("plain EC", &ec, json!({}), true),
        ("plain OKP", &ed, json!({}), true),
        ("all members", &ec, json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"], "kid": "k"}), true),
        ("operations without use", &ec, json!({"key_ops": ["verify", "encrypt"]}), true),
        ("use and operations agree", &ec, json!({"use": "sig", "key_ops": ["sign", "verify"]}), true),
        ("unknown members", &ed, json!({"x5u": "https://evil", "ext": true, "y2": [1]}), true),
        ("use enc", &ec, json!({"use": "enc"}), false),
        ("use in another case", &ec, json!({"use": "SIG"}), false),
        ("use of null", &ec, json!({"use": null}), false),
        ("operations without verify", &ec, json!({"key_ops": ["sign"]}), false),
        ("no operation", &ec, json!({"key_ops": []}), false),
        ("an operation twice", &ec, json!({"key_ops": ["verify", "verify"]}), false),
        ("operations of a string", &ec, json!({"key_ops": "verify"}), false),
        ("use and operations differ", &ec, json!({"use": "sig", "key_ops": ["verify", "encrypt"]}), false),
        ("alg of another key", &ec, json!({"alg": "RS256"}), false),
        ("alg of the same kind", &rsa, json!({"alg": "PS256"}), false),
        ("alg of a number", &rsa, json!({"alg": 256}), false),
        ("kty of another key", &rsa, json!({"kty": "EC"}), false),
        ("kty in another case", &rsa, json!({"kty": "rsa"}), false),
        ("unknown kty", &rsa, json!({"kty": "PQ"}), false),
        ("no kty", &rsa, json!({"kty": null}), false),
        ("crv of another key", &ec, json!({"crv": "P-384"}), false),
        ("crv of encryption", &ed, json!({"crv": "X25519"}), false),
        ("a point off the curve", &ec, json!({"y": x}), false),
        ("a coordinate cut short", &ec, json!({"x": x[..42]}), false),
        ("no coordinate", &ec, json!({"y": null}), false),
        ("padding", &ec, json!({"x": format!("{x}=")}), false),
        ("modulus with a zero first", &rsa, json!({"n": zero_first}), false),
        ("an even exponent", &rsa, json!({"e": even}), false),
        ("an exponent of one", &rsa, json!({"e": "AQ"}), false),
        ("kid of a number", &ed, json!({"kid": 7}), false),
    ] {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        // Another key, so that the set is never empty.
        let other = json!({"kty": "oct", "k": b64(SECRET), "kid": "other"});
        let verifier = of_set(&json!({"keys": [jwk, other, 7, {"kty": 7}]}).to_string()).unwrap();
        let said = verifier.verify(&signer.token(json!({})), NOW);
        assert_eq!(said.is_ok(), is_usable, "{name}: {said:?}");
    }
    let twice = ec.jwk().to_string().replacen('{', "{\"kty\":\"EC\",", 1);
    assert!(of_set(&format!("{{\"keys\":[{twice}]}}")).is_err(), "a member of a key twice");
    let short = json!({"keys": [{"kty": "oct", "k": b64(&SECRET[1..])}]});
    assert!(of_set(&short.to_string()).is_err(), "a secret of 31 bytes");
    for set in ["[]", "{}", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}", "{\"keys\":[]}", "x"] {
        assert!(of_set(set).is_err(), "{set}");
    }
}

#[test]
fn rsa_keys_under_2048_bits_are_refused() {
    // An odd number of 1,024 bits.
    let n = b64([0xc5; 128]);
    assert!(of_set(&json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]}).to_string()).is_err());
    let der = |modulus: &[u8]| {
        let integer = |bytes: &[u8]| {
            let mut out = vec![2, 0x81, bytes.len() as u8 + 1, 0];
            out.extend_from_slice(bytes);
            out
        };
        let body = [integer(modulus), vec![2, 3, 1, 0, 1]].concat();
        [&[0x30, 0x81, body.len() as u8], &*body].concat()
    };
    let pkcs1 = data_encoding::BASE64.encode(&der(&BASE64URL_NOPAD.decode(n.as_bytes()).unwrap()));
    let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{pkcs1}\n-----END RSA PUBLIC KEY-----\n");
    let said = verifier_of(pem.as_bytes(), &config(&[JwtAlgorithm::RS256])).unwrap_err().to_string();
    assert!(said.contains("2,048"), "{said}");
}

#[test]
fn a_token_without_kid_is_tried_against_two_keys() {
    let signers: Vec<Signer> = (0..3).map(|_| Signer::ec()).collect();
    let named = |n: usize| {
        let mut jwk = signers[n].jwk();
        jwk["kid"] = format!("k{n}").into();
        jwk
    };
    // A key of another algorithm does not count.
    let other = Signer::ed();
    let two = of_set(&json!({"keys": [other.jwk(), named(0), named(1)]}).to_string()).unwrap();
    assert!(signers[..2].iter().all(|signer| two.verify(&signer.token(json!({})), NOW).is_ok()));
    assert_eq!(two.verify(&signers[2].token(json!({})), NOW), Err(JwtError::Signature));
    let three = of_set(&json!({"keys": [named(0), named(1), named(2)]}).to_string()).unwrap();
    assert_eq!(three.verify(&signers[2].token(json!({})), NOW), Err(JwtError::KeyNotNamed));
    for (n, signer) in signers.iter().enumerate() {
        assert!(three.verify(&signer.token(json!({"kid": format!("k{n}")})), NOW).is_ok());
    }
    assert_eq!(three.verify(&signers[0].token(json!({"kid": "k1"})), NOW), Err(JwtError::Signature));
    assert_eq!(three.verify(&signers[0].token(json!({"kid": "K0"})), NOW), Err(JwtError::UnknownKey));
}

#[test]
fn a_key_file_is_what_its_document_says() {
    let hs = config(&[JwtAlgorithm::HS256]);
    let sign = |secret: &[u8]| sign_token(secret, &hs, &Shopper { id: "a".into(), tier: 0 }, NOW, 60);
    // One line end is not part of the secret, and everything else is.
    for (file, secret) in [
        (SECRET.to_vec(), SECRET.to_vec()),
        ([SECRET, b"\n"].concat(), SECRET.to_vec()),
        ([SECRET, b"\r\n"].concat(), SECRET.to_vec()),
        ([SECRET, b"\n\n"].concat(), [SECRET, b"\n"].concat()),
        ([b" ", SECRET, b" \t"].concat(), [b" ", SECRET, b" \t"].concat()),
        (vec![0x20; 32], vec![0x20; 32]),
    ] {
        let verifier = verifier_of(&file, &hs).unwrap();
        assert!(verifier.verify(&sign(&secret), NOW).is_ok(), "{file:?}");
        assert_eq!(shared_secret(&file).unwrap(), secret);
    }
    // What everybody knows is never taken for a secret.
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let der = data_encoding::BASE64
        .decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>().as_bytes())
        .unwrap();
    let all = config(&ALL);
    for (name, file, want) in [
        ("a JWK Set", json!({"keys": [{"kty": "oct"}]}).to_string().into_bytes(), "jwks_file"),
        ("an SSH key", format!("ssh-ed25519 {}", "A".repeat(60)).into_bytes(), "PEM"),
        ("a key in DER", der, "PEM"),
        ("a private key", pair.serialize_pem().into_bytes(), "private key"),
        ("a torn PEM", pem.replace("-----END", "").into_bytes(), "PEM"),
        ("31 bytes", [&SECRET[1..], b"\n"].concat(), "32 bytes"),
        ("nothing", Vec::new(), "32 bytes"),
    ] {
        let said = verifier_of(&file, &all).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(want), "{name}: {said}");
    }
    // Text before the PEM does not turn the public key into a secret.
    let verifier = verifier_of(format!("# the shop's key\n{pem}").as_bytes(), &all).unwrap();
    let forged = sign(format!("# the shop's key\n{pem}").as_bytes());
    assert_eq!(verifier.verify(&forged, NOW), Err(JwtError::UnknownKey));
}

/// A server that answers each request with the present text, and counts them.
struct Provider {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (mine, count) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 2048]);
                let answer = mine.lock().unwrap().clone();
                let _ = stream.write_all(answer.as_bytes());
                count.fetch_add(1, SeqCst);
            }
        });
        Self { url, answer, asked }
    }

    fn say(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn verifier(&self, every_min: Duration) -> JwtVerifier {
        let config = JwtConfig { jwks_url: self.url.clone(), ..config(&ALL) };
        let pace = Pace { every: Duration::from_secs(300), every_min };
        JwtVerifier::open_at("gate", &config, Path::new(""), pace).unwrap()
    }

    fn wait_until_asked(&self, times: usize) {
        let began = Instant::now();
        while self.asked.load(SeqCst) < times {
            assert!(began.elapsed() < Duration::from_secs(10), "not asked {times} times");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The thread has read the answer soon after it was sent.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ok(set: &Value) -> String {
    let body = set.to_string();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn set_of(kid: &str, signer: &Signer) -> Value {
    let mut jwk = signer.jwk();
    jwk["kid"] = kid.into();
    json!({ "keys": [jwk] })
}

#[test]
fn a_good_token_of_a_rotated_key_gets_no_final_refusal() {
    let (old, new) = (Signer::ec(), Signer::ec());
    // The new key has another kid, or the same one.
    for kid in ["new", "old"] {
        let provider = Provider::start(ok(&set_of("old", &old)));
        let verifier = provider.verifier(Duration::from_millis(400));
        provider.wait_until_asked(1);
        assert!(verifier.verify(&old.token(json!({"kid": "old"})), NOW).is_ok());
        provider.say(ok(&set_of(kid, &new)));
        let token = new.token(json!({ "kid": kid }));
        // Just after a fetch: the answer is to come again, and never that it is refused.
        let began = Instant::now();
        loop {
            match verifier.verify(&token, NOW) {
                Ok(_) => break,
                Err(JwtError::KeysOutdated { retry_after_seconds }) => {
                    assert!((1..=2).contains(&retry_after_seconds), "{retry_after_seconds}");
                }
                Err(other) => panic!("{other}"),
            }
            assert!(began.elapsed() < Duration::from_secs(5), "not accepted within 5 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        // A forged one is refused for good once a newer set lacks its key; before that it is told
        // to come again. Another's refusal does not decide for it.
        for forged in [old.token(json!({ "kid": kid })), old.token(json!({"kid": "none"}))] {
            let asked = provider.asked.load(SeqCst);
            assert!(matches!(verifier.verify(&forged, NOW), Err(JwtError::KeysOutdated { .. })));
            provider.wait_until_asked(asked + 1);
            let refused = verifier.verify(&forged, NOW).unwrap_err();
            assert!(matches!(refused, JwtError::Signature | JwtError::UnknownKey), "{refused:?}");
        }
        // While the set cannot be fetched, nothing is refused for good.
        provider.say("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into());
        let forged = Signer::ec().token(json!({ "kid": kid }));
        let asked = provider.asked.load(SeqCst);
        assert!(matches!(verifier.verify(&forged, NOW), Err(JwtError::KeysOutdated { .. })));
        provider.wait_until_asked(asked + 1);
        assert!(matches!(verifier.verify(&forged, NOW), Err(JwtError::KeysOutdated { .. })));
        assert!(verifier.verify(&token, NOW).is_ok(), "the known keys stay");
    }
}

#[test]
fn a_flood_of_unknown_keys_does_not_reach_the_provider() {
    let (known, other) = (Signer::ed(), Signer::ed());
    let provider = Provider::start(ok(&set_of("k", &known)));
    let verifier = provider.verifier(Duration::from_millis(500));
    provider.wait_until_asked(1);
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_millis(900) {
        n += 1;
        assert!(verifier.verify(&other.token(json!({ "kid": format!("k{n}") })), NOW).is_err());
    }
    assert!(n > 100 && provider.asked.load(SeqCst) <= 3, "{n}: {}", provider.asked.load(SeqCst));
}

/// Whether a verifier that fetches from this provider accepts the token.
fn is_taken(provider: &Provider, token: &str) -> bool {
    let asked = provider.asked.load(SeqCst);
    let verifier = provider.verifier(Duration::from_millis(50));
    provider.wait_until_asked(asked + 1);
    verifier.verify(token, NOW).is_ok()
}

#[test]
fn a_fetch_follows_no_redirect_and_is_bounded() {
    let signer = Signer::ed();
    let token = signer.token(json!({"kid": "k"}));
    let set = set_of("k", &signer);
    let good = Provider::start(ok(&set));
    assert!(is_taken(&good, &token));
    let asked = good.asked.load(SeqCst);
    for status in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            good.url
        );
        assert!(!is_taken(&Provider::start(moved), &token), "{status}");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(good.asked.load(SeqCst), asked, "a redirect was followed");
    let filled = |fill: usize| {
        let mut set = set.clone();
        set["fill"] = "x".repeat(fill).into();
        ok(&set)
    };
    assert!(is_taken(&Provider::start(filled(200 << 10)), &token));
    assert!(!is_taken(&Provider::start(filled(300 << 10)), &token), "a body of 300 KiB");
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "x".repeat(40 << 10));
    let long = ok(&set).replacen("HTTP/1.1 200 OK\r\n", &head, 1);
    assert!(!is_taken(&Provider::start(long), &token), "a head of 40 KiB");
    let other = ok(&set).replacen("200 OK", "203 Other", 1);
    assert!(!is_taken(&Provider::start(other), &token), "another status");
}

/// Runs itself in a process with a proxy in its environment, which only fetches.
#[test]
fn a_fetch_uses_no_proxy_of_the_environment() {
    if let Ok(url) = std::env::var("FLOODGATE_TEST_URL") {
        let config = JwtConfig { jwks_url: url, ..config(&ALL) };
        let _verifier = JwtVerifier::open("gate", &config, Path::new("")).unwrap();
        return std::thread::sleep(Duration::from_millis(700));
    }
    let signer = Signer::ed();
    let provider = Provider::start(ok(&set_of("k", &signer)));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", proxy.local_addr().unwrap());
    proxy.set_nonblocking(true).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"] {
        child.env(name, &at);
    }
    child.env("FLOODGATE_TEST_URL", &provider.url);
    child.args(["--exact", "jwt::cases::a_fetch_uses_no_proxy_of_the_environment"]);
    assert!(child.output().unwrap().status.success());
    assert!(provider.asked.load(SeqCst) > 0, "the provider was not asked");
    assert!(proxy.accept().is_err(), "the proxy was asked");
}

/// A provider that sends a byte now and then does not hold the fetch for longer than allowed.
#[test]
fn a_slow_provider_does_not_hold_a_fetch() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let config = JwtConfig { jwks_url: url, ..config(&ALL) };
    let pace = Pace { every: Duration::from_secs(300), every_min: Duration::from_millis(10) };
    let verifier = JwtVerifier::open_at("gate", &config, Path::new(""), pace).unwrap();
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").unwrap();
    let began = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(9), "still read after 9 s");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(verifier.verify(&Signer::ed().token(json!({})), NOW), Err(JwtError::NoKeysYet));
}
