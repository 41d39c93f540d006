//! openapi.json, checked by Schemathesis: it reads the document from the listener, sends requests
//! that the document describes and many that it does not, and checks every answer against it. Its
//! settings, and what it leaves out and why, are in schemathesis.toml.

use crate::harness::{Server, Setup, challenge, python_program, shop, shop::text};
use std::process::Command;

const ADMIN: &str = "^/(api/v1/admin/|healthz|readyz|metrics)";
const FORM: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                    response_headers_conformance,unsupported_method,allow_header_conformance";

/// Runs Schemathesis against a listener. Its own options choose the operations.
#[track_caller]
fn conforms(server: &Server, url: &str, headers: &[(&str, &str)], which: &[&str], ids: [&str; 3]) {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interfaces/schemathesis.toml");
    let mut command = Command::new(python_program("schemathesis"));
    // It looks for its files in the directory in which it is started.
    command.current_dir(server.scratch()).args(["--config-file", config, "run"]);
    command.arg(format!("{url}/api/v1/openapi.json")).args(["--url", url, "--no-color"]).args(which);
    for (name, value) in headers {
        command.args(["--header", &format!("{name}: {value}")]);
    }
    command.envs(["SALE", "ROUND_KEY", "ATTEMPT"].into_iter().zip(ids));
    let output =
        command.output().unwrap_or_else(|e| panic!("start Schemathesis: {e}: run `cargo xtask test`"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complained}", output.status);
    // An empty run passes too.
    let generated = said.split(" generated,").next().and_then(|before| before.rsplit(' ').next());
    let generated: u32 = generated.and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(generated >= 50, "too few cases: {said}");
}

#[test]
fn both_listeners_answer_as_their_document_says() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 1000)]));
    let pass = server.pass("launch", "alice");
    let granted = sale.granted(&pass, "first", "phone");
    let round = sale.attempts_url.split("/rounds/").nth(1).unwrap().strip_suffix("/attempts").unwrap();
    let token = format!("Bearer {}", server.output(&["token", "--shopper", "alice"]).trim());
    let shopper = [("Authorization", &*token), ("Floodgate-Pass", &pass)];
    let owner = format!("Bearer {}", server.new_key("schemathesis", "owner"));
    let owner = [("Authorization", &*owner)];
    let ids = ["launch", round, text(&granted["hold"]["id"])];
    conforms(&server, &server.shop_url(""), &shopper, &["--exclude-path-regex", ADMIN], ids);
    conforms(&server, &server.admin_url(""), &owner, &["--include-path-regex", ADMIN], ids);
    // For what does not exist, only the form of the answer is checked: it is 404, whatever else is
    // wrong.
    let nobody = "0".repeat(32);
    let ids = ["nothing", &nobody, &nobody];
    conforms(
        &server,
        &server.shop_url(""),
        &shopper,
        &["--exclude-path-regex", ADMIN, "--checks", FORM],
        ids,
    );
    conforms(&server, &server.admin_url(""), &owner, &["--include-path-regex", ADMIN, "--checks", FORM], ids);
    server.audit();
}

#[test]
fn so_does_a_shop_that_asks_for_challenges() {
    let server = Server::with(Setup { settings: challenge::PROOF_OF_WORK.into(), ..Setup::default() });
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let token = format!("Bearer {}", server.output(&["token", "--shopper", "alice"]).trim());
    let which = &["--include-path-regex", "/(challenge|passes)$"];
    conforms(&server, &server.shop_url(""), &[("Authorization", &token)], which, ["launch", "", ""]);
}

#[test]
fn so_does_the_store() {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
    let server = Server::with(Setup { serve, settings, ..Setup::default() });
    let owner = format!("Bearer {}", server.new_key("schemathesis", "owner"));
    let url = format!("http://{}", server.store);
    let which = ["--include-path-regex", "^/api/v1/store/"];
    conforms(&server, &url, &[("Authorization", &*owner)], &which, ["demo", "", ""]);
}
