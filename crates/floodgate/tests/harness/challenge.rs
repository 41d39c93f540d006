//! Solves challenges as a browser does, and, as only tests can, with the server's own secret.

use super::Server;
use super::http::Reply;
use super::shop::text;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::process::Command;

pub const PROOF_OF_WORK: &str = "\n[gate.challenge]\nmode = \"proof_of_work\"\nmaxnumber = 2000\n";

/// Codes with the fewest letters, so that a test can try all of them.
pub const IMAGE: &str = "\n[gate.challenge]\nmode = \"image\"\ncode_length = 4\n";

/// A shopper who requests passes.
#[derive(Debug, Clone)]
pub struct Asker<'a> {
    server: &'a Server,
    pub sale: String,
    bearer: String,
}

impl Server {
    pub fn asker(&self, sale: &str, shopper: &str) -> Asker<'_> {
        let token = self.output(&["token", "--shopper", shopper]);
        Asker { server: self, sale: sale.into(), bearer: format!("Bearer {}", token.trim()) }
    }

    /// A key derived from the server's master secret.
    pub fn derived_key(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, &fs::read(self.data.join("keys/master.key")).unwrap())
    }
}

impl Asker<'_> {
    pub fn ask(&self, query: &str) -> Reply {
        let url = self.server.shop_url(&format!("/api/v1/sales/{}/challenge{query}", self.sale));
        self.server.client.send("GET", &url, &[("authorization", &self.bearer)], "")
    }

    #[track_caller]
    pub fn challenge(&self) -> Value {
        let reply = self.ask("");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    pub fn redeem(&self, body: &Value) -> Reply {
        let url = self.server.shop_url(&format!("/api/v1/sales/{}/passes", self.sale));
        let headers = [("authorization", &*self.bearer), ("content-type", "application/json")];
        self.server.client.send("POST", &url, &headers, &body.to_string())
    }

    /// A pass, for a proof of work.
    #[track_caller]
    pub fn pass(&self) -> String {
        let reply = self.redeem(&altcha(&solve(&self.challenge())));
        assert_eq!(reply.status, 200, "{reply:?}");
        text(&reply.json()["pass"]).to_owned()
    }

    #[track_caller]
    pub fn is_refused(&self, body: &Value, problem: &str, word: &str) {
        let reply = self.redeem(body);
        assert_eq!((reply.status, &*reply.problem()), (403, problem), "{reply:?}");
        assert!(reply.body.contains(word), "{word}: {reply:?}");
    }
}

/// The payload that solves a proof of work.
#[track_caller]
pub fn solve(made: &Value) -> Value {
    let hash = |n: u64| HEXLOWER.encode(&Sha256::digest(format!("{}{n}", text(&made["salt"]))));
    let number = (0..=made["maxnumber"].as_u64().unwrap()).find(|&n| made["challenge"] == hash(n)).unwrap();
    json!({
        "algorithm": made["algorithm"], "challenge": made["challenge"], "number": number,
        "salt": made["salt"], "signature": made["signature"],
    })
}

/// The body with that payload.
pub fn altcha(payload: &Value) -> Value {
    json!({ "altcha": BASE64.encode(payload.to_string().as_bytes()) })
}

/// The code in a challenge's image, found by trying every code with the server's secret, as
/// crates/gate binds it; without the secret this is impossible.
pub fn read_code(server: &Server, sale: &str, shopper: &str, made: &Value) -> String {
    const ALPHABET: &[u8] = b"23456789ACEFHKNPRTUXY";
    let id = BASE64URL_NOPAD.decode(text(&made["code"]["id"]).as_bytes()).unwrap();
    let master: [u8; 32] = fs::read(server.data.join("keys/master.key")).unwrap().try_into().unwrap();
    let shopper = gate::Keyring::from_master(&master).shopper_key(shopper);
    let key = server.derived_key("floodgate gate challenge binding v1");
    let letters = ALPHABET.len();
    (0..letters.pow(4))
        .map(|n| (0..4).map(|at| char::from(ALPHABET[n / letters.pow(at) % letters])).collect::<String>())
        .find(|code| {
            let mut hasher = blake3::Hasher::new_keyed(&key);
            for field in
                [b"code answer", sale.as_bytes(), &shopper.0, &id[..16], &id[16..24], code.as_bytes()]
            {
                hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
            }
            hasher.finalize().as_bytes()[..16] == id[24..40]
        })
        .unwrap()
}

/// Runs a Python program with ALTCHA's own library, and returns what it prints.
#[track_caller]
pub fn python(program: &str, args: &[&str]) -> String {
    let python = super::python_program("python");
    let output = Command::new(&python).arg("-c").arg(program).args(args).output();
    let advice = "these tests need the Python package altcha: run `cargo xtask test`, which installs it";
    let output = output.unwrap_or_else(|e| panic!("start {}: {e}: {advice}", python.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{}", if errors.contains("No module") { advice } else { "" });
    String::from_utf8(output.stdout).unwrap()
}
