//! A wrong configuration is refused before anything is opened, with the key, its line and the
//! nearest known name.

use crate::harness::{run, stderr, stdout};
use std::fs;
use std::path::Path;

fn refused(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("floodgate.toml");
    fs::write(&file, text).unwrap();
    let output = run(&dir.path().join("data"), Some(&file), &["serve"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing was opened");
    said.replace(&file.display().to_string(), "FILE")
}

#[test]
fn config_errors_name_key_line_and_nearest_name() {
    let check = |text: &str, want: &[&str]| {
        let said = refused(text);
        assert!(want.iter().all(|part| said.contains(part)), "{text:?}: {said}");
    };
    check(
        "[gate]\n\nshop_listn = \"127.0.0.1:1\"",
        &["FILE, line 3: unknown key `gate.shop_listn`; did you mean `gate.shop_listen`?"],
    );
    check("[gate.limts]\nx = 1", &["line 1: unknown key `gate.limts`; did you mean `gate.limits`?"]);
    check("[gate.limits]\nshoper_burst = 1", &["line 2:", "did you mean `gate.limits.shopper_burst`?"]);
    check("gate.limits.shoper_burst = 1", &["line 1:", "did you mean `gate.limits.shopper_burst`?"]);
    check("[elsewhere]\nx = 1", &["line 1: unknown key `elsewhere`", "floodgate config"]);
    check("[gate]\npass_ttl = 1", &["line 2:", "did you mean `gate.pass_ttl_seconds`?"]);
    check("queue_max = 1", &["line 1:", "it belongs to [sale]: `sale.queue_max`"]);
    check(
        "# why\n[sale]\nqueue_max = \"many\"",
        &["FILE, line 3: `sale.queue_max` = \"many\": want a whole number"],
    );
    check(
        "[gate.limits]\naddress_per_second = -1",
        &["line 2: `gate.limits.address_per_second` = -1: want 0 to"],
    );
    check(
        "[gate]\nshop_listen = \"nowhere\"",
        &["line 2: `gate.shop_listen` = \"nowhere\"", "127.0.0.1:8080"],
    );
    check(
        "[gate.challenge]\nmode = \"captcha\"",
        &["line 2: `gate.challenge.mode` = \"captcha\"", "proof_of_work"],
    );
    check("[gate.tls]\nlisten = \"8443\"", &["line 2: `gate.tls.listen` = \"8443\"", "0.0.0.0:8443"]);
    check("[gate.tls]\nlisten = \"[::]:8443\"", &["`gate.tls.certificate_file`", "in PEM"]);
    for origin in ["*", "null", "shop.example", "https://shop.example/", "https://shop.example:443"] {
        let text = format!("[gate]\nallowed_origins = [\"https://a.example\", \"{origin}\"]");
        check(&text, &["line 2: `gate.allowed_origins`", "https://shop.example"]);
    }
    for url in
        ["shop.example", "http://shop.example/", "https://a@shop.example", "https://shop.example/a/../b"]
    {
        let text = format!("[gate]\nreturn_urls = [\"{url}\"]");
        check(&text, &["line 2: `gate.return_urls`", "https://shop.example/checkout"]);
    }
    let no_key = "[gate.tls]\nlisten = \"[::]:8443\"\ncertificate_file = \"shop.pem\"";
    check(no_key, &["`gate.tls.key_file`", "in PEM"]);
    check("[gate.challenge]\nimage_lifetime_seconds = 5", &["line 2:", "want 10 to 3600"]);
    for factors in ["[1, 2, 3]", "[1, 2, 3, 1001]", "[0, 1, 1, 1]", "[4, 3, 2, 1]"] {
        let text = format!("[gate.challenge]\nmaxnumber_factors = {factors}");
        check(&text, &["line 2: `gate.challenge.maxnumber_factors`", "four factors of 1 to 1000"]);
    }
    check("[sale", &["FILE", "line 1"]);
}

/// By every command: before it opens anything, and with the line, the key and the allowed values.
#[test]
fn a_wrong_value_is_refused_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("floodgate.toml");
    let commands: [&[&str]; 9] = [
        &["serve"],
        &["serve", "--demo"],
        &["rehearse", "--shoppers", "1", "--stock", "1"],
        &["audit"],
        &["token", "--shopper", "x"],
        &["key", "list"],
        &["backup", "copy"],
        &["restore", "copy"],
        &["config"],
    ];
    for (text, want) in [
        ("[log]\nlevel = \"loud\"", "line 2: `log.level` = \"loud\": want error, warn, info, debug, trace"),
        ("[gate.jwt]\nalgorithms = []", "line 2: `gate.jwt.algorithms` = []: want at least one of HS256"),
        ("[sale]\nqueue_max = 0", "line 2: `sale.queue_max` = 0: want 1 to"),
        ("[sale]\nsnapshot_every = 0", "line 2: `sale.snapshot_every` = 0: want 1 to"),
        ("[gate.connections]\nopen_max = 0", "line 2: `gate.connections.open_max` = 0: want 1 to"),
    ] {
        fs::write(&file, text).unwrap();
        for command in commands {
            let output = run(&dir.path().join("data"), Some(&file), command);
            let said = stderr(&output);
            assert!(output.status.code() == Some(1) && said.contains(want), "{command:?} {text:?}: {said}");
        }
        assert!(!dir.path().join("data").exists(), "nothing was opened");
    }
}

#[test]
fn a_missing_configuration_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), Some(&dir.path().join("none.toml")), &["audit"]);
    assert!(!output.status.success() && stderr(&output).contains("none.toml"), "{}", stderr(&output));
}

#[test]
fn the_printed_configuration_is_valid_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let printed = stdout(&run(dir.path(), None, &["config"]));
    let file = dir.path().join("all.toml");
    fs::write(&file, &printed).unwrap();
    // Refused for the lack of a sale, not for a key of the configuration.
    let output = run(&dir.path().join("data"), Some(&file), &["audit"]);
    assert!(!stderr(&output).contains("all.toml"), "{}", stderr(&output));
    // With a file the values in force are printed, which are a configuration too.
    fs::write(&file, "[gate]\npass_ttl_seconds = 77\n").unwrap();
    let in_force = stdout(&run(dir.path(), Some(&file), &["config"]));
    for line in ["pass_ttl_seconds = 77", "decision_wait_ms = 2000", "[gate.jwt]"] {
        assert!(in_force.lines().any(|l| l == line), "{line}: {in_force}");
    }
    let again = dir.path().join("again.toml");
    fs::write(&again, &in_force).unwrap();
    let without_name = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    let printed_again = stdout(&run(dir.path(), Some(&again), &["config"]));
    assert_eq!(without_name(&printed_again), without_name(&in_force));
}

#[test]
fn a_command_on_what_is_not_there_says_so_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    let output = run(&empty, None, &["key", "new", "me"]);
    assert!(!output.status.success() && stderr(&output).contains("has no data"), "{}", stderr(&output));
    assert!(!empty.exists(), "nothing was made");

    let server = crate::harness::Server::start();
    server.open_sale("launch", &crate::harness::shop::spec(&[("phone", 1)]));
    let output = server.command(&["audit", "--sale", "nosuch"]);
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("there is no sale nosuch; there are: launch"),
        "{said}"
    );
}

/// The manual contains the output of the command, word for word.
#[test]
fn the_manual_has_the_printed_configuration() {
    const BEGIN: &str = "<!-- begin floodgate config -->\n```toml\n";
    const END: &str = "```\n<!-- end floodgate config -->";
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (_, rest) = text.split_once(BEGIN).expect("docs/configuration.md: the line before the output");
    let (block, _) = rest.split_once(END).expect("docs/configuration.md: the line behind the output");
    let dir = tempfile::tempdir().unwrap();
    let printed = stdout(&run(dir.path(), None, &["config"]));
    assert!(
        block == printed,
        "docs/configuration.md: put what `floodgate config` prints between the comments"
    );
}
