//! Challenges before a pass, if the configuration requires them: image codes, ALTCHA's own library,
//! and a ledger without room.

use crate::harness::challenge::{IMAGE, PROOF_OF_WORK, altcha, python, read_code, solve};
use crate::harness::shop::{self, text};
use crate::harness::{Server, Setup};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::{fs, io};

fn server(settings: &str) -> Server {
    Server::with(Setup { settings: settings.into(), ..Setup::default() })
}

#[test]
fn one_solution_or_one_wrong_guess_uses_an_image_code_up() {
    let mut server = server(IMAGE);
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let answer = |made: &Value, code: &str| json!({ "code": { "id": made["code"]["id"], "answer": code } });
    let alice = server.asker("launch", "alice");
    let made = alice.challenge();
    let code = read_code(&server, "launch", "alice", &made);
    assert!(!made.to_string().contains(&code), "the answer stands nowhere but in the picture");
    server.asker("launch", "bob").is_refused(&answer(&made, &code), "challenge-refused", "another shopper");
    let reply = alice.redeem(&answer(&made, &code.to_lowercase()));
    assert_eq!(reply.status, 200, "{reply:?}");
    sale.granted(text(&reply.json()["pass"]), "k", "phone");
    alice.is_refused(&answer(&made, &code), "challenge-refused", "used before");

    // A wrong guess uses the code up, and reveals nothing.
    let guessed = alice.challenge();
    let code = read_code(&server, "launch", "alice", &guessed);
    alice.is_refused(&answer(&guessed, "????"), "challenge-refused", "wrong");
    alice.is_refused(&answer(&guessed, &code), "challenge-refused", "used before");
    alice.is_refused(&answer(&guessed, "????"), "challenge-refused", "used before");

    let heard = alice.ask("?media=audio").json();
    assert!(text(&heard["code"]["audio"]).starts_with("data:audio/wav;base64,UklGR"), "{heard:.200}");
    let code = read_code(&server, "launch", "alice", &heard);
    assert_eq!(alice.redeem(&answer(&heard, &code)).status, 200);
    alice.is_refused(&altcha(&json!({})), "challenge-refused", "another kind");

    server.kill();
    server.restart();
    let alice = server.asker("launch", "alice");
    alice.is_refused(&answer(&guessed, &code), "challenge-refused", "used before");
    alice.is_refused(&answer(&heard, &code), "challenge-refused", "used before");
}

/// The library finds the number, makes the payload and gets a pass; and with the key it accepts our
/// challenge as one of its own.
#[test]
fn altchas_own_library_solves_and_verifies_our_challenges() {
    const SOLVE: &str = "
import base64, json, sys
from altcha import solve_challenge_v1, verify_solution_v1, PayloadV1
made, key = json.loads(sys.argv[1]), bytes.fromhex(sys.argv[2])
number = solve_challenge_v1(made['challenge'], made['salt'], made['algorithm'], made['maxnumber']).number
payload = PayloadV1(made['algorithm'], made['challenge'], number, made['salt'], made['signature'])
wrong = PayloadV1(made['algorithm'], made['challenge'], number + 1, made['salt'], made['signature'])
assert payload.parse_salt()[1] == int(made['salt'].split('expires=')[1].split('&')[0])
assert verify_solution_v1(payload, key, check_expires=True) == (True, None)
assert verify_solution_v1(wrong, key, check_expires=True) == (False, None)
assert verify_solution_v1(payload, b'another key', check_expires=True) == (False, None)
print(payload.to_base64())
";
    // A challenge that the library makes itself is refused: it has neither our keys nor our salt.
    const MAKE: &str = "
import json, sys
from altcha import create_challenge_v1, solve_challenge_v1, PayloadV1
made = create_challenge_v1(hmac_key=sys.argv[1], max_number=100)
number = solve_challenge_v1(made).number
print(PayloadV1(made.algorithm, made.challenge, number, made.salt, made.signature).to_base64())
";
    let server = server(PROOF_OF_WORK);
    server.define("launch", &shop::spec(&[("phone", 1)]));
    let alice = server.asker("launch", "alice");
    let key = HEXLOWER.encode(&server.derived_key("floodgate gate challenge mac v1"));
    for _ in 0..3 {
        let solution = json!({ "altcha": python(SOLVE, &[&alice.challenge().to_string(), &key]).trim() });
        let reply = alice.redeem(&solution);
        assert!(reply.status == 200 && reply.json()["pass"].is_string(), "{reply:?}");
        alice.is_refused(&solution, "challenge-refused", "used before");
    }
    let foreign = json!({ "altcha": python(MAKE, &[&key]).trim() });
    alice.is_refused(&foreign, "challenge-refused", "malformed");
}

#[test]
fn a_full_disk_accepts_no_replayed_solution() {
    let mount_point = super::disk_full::mount_point();
    let wrapper = super::disk_full::on_a_small_disk(mount_point.path().to_str().unwrap());
    let data = mount_point.path().join("data");
    let settings = PROOF_OF_WORK.to_owned();
    let mut server = Server::with(Setup { wrapper, settings, data: Some(data.clone()), ..Setup::default() });
    let seen = PathBuf::from(format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), data.display()));
    server.see_data_at(seen.clone());
    server.define("launch", &shop::spec(&[("phone", 1)]));
    let alice = server.asker("launch", "alice");
    let solution = altcha(&solve(&alice.challenge()));

    let ballast = seen.parent().unwrap().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let full = (0..).find_map(|_| file.write_all(&[1; 4096]).err()).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
    for _ in 0..2 {
        let reply = alice.redeem(&solution);
        assert_eq!((reply.status, &*reply.problem()), (503, "unavailable"), "{reply:?}");
        assert!(reply.body.contains("ledger of used challenges"), "{reply:?}");
        assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1, "{reply:?}");
    }
    assert!(server.errors().contains("no passes are issued"), "{}", server.errors());

    drop(file);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(alice.redeem(&solution).status, 200, "the refusals have not used it up");
    alice.is_refused(&solution, "challenge-refused", "used before");
}
