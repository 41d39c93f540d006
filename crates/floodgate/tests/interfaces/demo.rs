//! The demo: what it keeps, what it removes, and what it says about both.

use crate::harness::{BINARY, Server, Setup, shop::text};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const ON_FREE_PORTS: &str = "[gate]\nshop_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[notify]\nlisten = \"127.0.0.1:0\"\n";

#[test]
fn a_demo_on_existing_data_continues_and_says_that_its_switches_are_ignored() {
    let serve = ["--demo", "--demo-opens-in", "0", "--demo-stock", "3"].map(str::to_owned).to_vec();
    let mut server = Server::with(Setup { serve, ..Setup::default() });
    assert!(!server.printed.contains("ignored"), "{}", server.printed);
    let sale = server.sale("demo");
    let pass = server.pass("demo", "alice");
    let granted = sale.granted(&pass, "k", "phone");
    let before = server.document("demo");
    assert_eq!(server.stats("demo")["items"][0]["initial"], 3);

    server.stop();
    server.set_serve(&["--demo", "--demo-opens-in", "900", "--demo-stock", "7"]);
    server.restart();
    let said = &server.printed;
    assert!(said.contains("--demo-opens-in and --demo-stock are ignored"), "{said}");
    let again = server.document("demo");
    assert_eq!((&again["state"], &again["opens_at"]), (&"open".into(), &before["opens_at"]), "{again}");
    assert_eq!(server.stats("demo")["items"][0]["initial"], 3, "the stock is unchanged");
    assert_eq!(sale.look(&granted["attempt"], &pass), granted);

    server.stop();
    server.set_serve(&["--demo"]);
    server.restart();
    assert!(!server.printed.contains("ignored"), "no switch, nothing to say: {}", server.printed);
}

/// Starts a demo in a directory, without `--data`, and waits until it has printed where it keeps
/// its data.
fn said(dir: &Path, config: &str) -> String {
    fs::write(dir.join("floodgate.toml"), config).unwrap();
    let mut child = Command::new(BINARY)
        .args(["serve", "--demo", "--config", "floodgate.toml"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let found = lines.into_iter().find(|line| line.contains("sale `demo` opens"));
    child.kill().unwrap();
    child.wait().unwrap();
    found.expect("a line about the demo")
}

#[test]
fn a_demos_data_is_removed_unless_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let forgotten = said(dir.path(), ON_FREE_PORTS);
    assert!(forgotten.contains("forgotten at the end"), "{forgotten}");
    assert!(!dir.path().join("floodgate-data").exists(), "no files are left");
    let kept = said(dir.path(), &format!("data = \"kept\"\n{ON_FREE_PORTS}"));
    assert!(kept.contains("kept in kept"), "{kept}");
    assert!(dir.path().join("kept/sales/demo").is_dir());
}

#[test]
fn a_demo_says_that_its_page_asks_for_no_challenge_although_one_is_configured() {
    const SAYS: &str = "its page asks for no challenge, although gate.challenge is configured";
    let demo = |settings: &str| {
        let serve = vec!["--demo".to_owned()];
        Server::with(Setup { serve, settings: settings.into(), ..Setup::default() })
    };
    // The line comes after those that the harness waits for.
    let says = |server: &mut Server| {
        server.stop();
        server.rest_of_stdout()
    };
    let mut server = demo("[gate.challenge]\nmode = \"proof_of_work\"\n");
    let page = server.client.get(&server.shop_url("/sales/demo"));
    assert!(page.status == 200 && page.body.contains("data-pass="), "the page works: {page:?}");
    // A shopper with a token has to solve one, as the line says.
    let token = server.output(&["token", "--shopper", "alice"]);
    let bearer = format!("Bearer {}", token.trim());
    let url = server.shop_url("/api/v1/sales/demo/passes");
    let refused = server.client.send("POST", &url, &[("authorization", &bearer)], "");
    assert_eq!(refused.problem(), "challenge-missing");
    let said = says(&mut server);
    assert!(said.contains(SAYS), "{said}");
    let said = says(&mut demo(""));
    assert!(said.contains("sandbox") && !said.contains(SAYS), "{said}");
}

#[test]
fn the_server_accepts_the_token_commands_tokens() {
    let server = Server::start();
    server.open_sale("launch", &crate::harness::shop::spec(&[("phone", 5)]));
    let url = server.shop_url("/api/v1/sales/launch/passes");
    let trade = |token: &str| {
        let reply = server.client.send("POST", &url, &[("authorization", &format!("Bearer {token}"))], "");
        assert_eq!(reply.status, 200, "{reply:?}");
        text(&reply.json()["pass"]).to_owned()
    };
    let sale = server.sale("launch");
    let one = server.output(&["token", "--shopper", "alice"]);
    assert_eq!(one.trim().split('.').count(), 3, "a JWT in a line: {one}");
    let granted = sale.granted(&trade(one.trim()), "k", "phone");
    assert_eq!(sale.look(&granted["attempt"], &server.pass("launch", "alice")), granted, "the same shopper");

    for (args, field) in [(&[][..], "token"), (&["--sale", "launch"], "pass")] {
        let lines = server.output(&[&["token", "--shopper", "crowd", "--count", "3"], args].concat());
        let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let names: Vec<&str> = lines.iter().map(|line| text(&line["shopper"])).collect();
        assert_eq!(names, ["crowd-1", "crowd-2", "crowd-3"]);
        for (n, line) in lines.iter().enumerate() {
            assert_eq!(line.as_object().unwrap().len(), 2, "{line}");
            let pass =
                if field == "token" { trade(text(&line[field])) } else { text(&line[field]).to_owned() };
            let reply = sale.ask("GET", "/attempts", &pass);
            assert_eq!(reply.status, 200, "{n}: {reply:?}");
        }
    }
}
