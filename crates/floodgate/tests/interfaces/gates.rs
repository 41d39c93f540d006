//! Gates in separate processes: they share a port, ask one process for the sale, and go on when
//! another ends.

use crate::harness::{
    BINARY, Server, Setup,
    http::Client,
    poll,
    shop::{self, hold, in_parallel, with},
};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A gate; it is killed when the test ends.
pub(crate) struct Gate {
    child: Child,
    pub(crate) shop: String,
    admin: String,
    /// Kept open, because the process must be able to print.
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a gate on a port that others share.
pub(crate) fn join(server: &Server, shop: &str, challenge: &str) -> Gate {
    join_with(server, shop, "", challenge)
}

/// The same, with keys of `[gate]` and tables after it.
pub(crate) fn join_with(server: &Server, shop: &str, keys: &str, tables: &str) -> Gate {
    let config = server.scratch().join("gate.toml");
    let limits = "[gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\nshopper_per_second = 0\n";
    std::fs::write(&config, format!("[gate]\nshop_listen = \"{shop}\"\n{keys}{limits}{tables}")).unwrap();
    let log =
        std::fs::File::options().create(true).append(true).open(server.scratch().join("gates")).unwrap();
    let socket = server.data.join("gates/socket");
    let mut child = Command::new(BINARY)
        .args(["serve", "--role", "gate", "--join"])
        .arg(socket)
        .arg("--data")
        .arg(&server.data)
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    while !printed.contains("admin: http://") {
        assert!(stdout.read_line(&mut printed).unwrap() > 0, "the gate ended before it was ready: {printed}");
    }
    let address = |name: &str| {
        let at = printed.split_once(name).unwrap().1;
        at.split_once("http://").unwrap().1.split('/').next().unwrap().to_owned()
    };
    let (shop, admin) = (address("shop:"), address("admin:"));
    Gate { child, shop, admin, _stdout: stdout }
}

fn sales_alone(settings: &str) -> Server {
    Server::with(Setup {
        serve: vec!["--role".into(), "sale".into()],
        settings: settings.into(),
        ..Setup::default()
    })
}

/// Sets the sale up, and waits until the gates have heard of it.
pub(crate) fn define(server: &Server, spec: &Value, gates: &[&Gate]) {
    server.define("launch", spec);
    for gate in gates {
        poll("the gate hears of the sale", || {
            let metrics = server.client.get(&format!("http://{}/metrics", gate.admin)).body;
            metrics.contains("floodgate_sale_log_sequence{sale=\"launch\"}").then_some(())
        });
    }
}

const SOLD_OUT_ALONE: &str = "floodgate_gate_answered_alone_total{outcome=\"sold_out\"}";
const NOT_ELIGIBLE_ALONE: &str = "floodgate_gate_answered_alone_total{outcome=\"not_eligible\"}";

/// A metric of a process, by the whole name of its line.
fn metric(server: &Server, admin: &str, name: &str) -> u64 {
    figure(&server.client, admin, name)
}

fn figure(client: &Client, admin: &str, name: &str) -> u64 {
    let metrics = client.get(&format!("http://{admin}/metrics")).body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn gates_share_a_port_and_a_sale_and_a_kill_of_either_side_loses_no_answer() {
    let mut server = sales_alone("");
    let first = join(&server, "127.0.0.1:0", "");
    let second = join(&server, &first.shop, "");
    assert_eq!(first.shop, second.shop);
    server.shop = first.shop.clone();
    let spec = with(shop::spec(&[("phone", 40)]), json!({ "waitlist": { "places": 0 } }));
    define(&server, &spec, &[&first, &second]);
    let sale = server.sale("launch");
    let passes: Vec<(usize, String)> = server.passes("launch", "s", 60).into_iter().enumerate().collect();
    let buy = |(n, pass): &(usize, String)| sale.buy(pass, &format!("k-{n}"), "phone");
    let answers = in_parallel(8, &passes, buy);
    let granted = |answers: &[Value]| answers.iter().filter(|a| a["outcome"] == "granted").count();
    assert_eq!(granted(&answers), 40, "exactly the stock");
    assert!(answers.iter().all(|a| a["outcome"] == "granted" || a["outcome"] == "sold_out"), "{answers:?}");
    // Both have answered, and each has refused by itself once nothing was left.
    let again = in_parallel(8, &passes, buy);
    for (before, now) in answers.iter().zip(&again) {
        assert_eq!(before["outcome"], now["outcome"]);
        assert_eq!(before["attempt"], now["attempt"]);
    }
    let alone = [&first, &second].map(|gate| metric(&server, &gate.admin, SOLD_OUT_ALONE));
    assert!(alone.iter().sum::<u64>() >= 20, "{alone:?}");
    let answered: Vec<u64> = [&first, &second]
        .iter()
        .map(|gate| {
            metric(&server, &gate.admin, "floodgate_gate_answers_total{outcome=\"granted\"}")
                + metric(&server, &gate.admin, "floodgate_gate_answers_total{outcome=\"sold_out\"}")
        })
        .collect();
    assert!(answered.iter().all(|n| *n > 0), "the kernel spreads connections over both: {answered:?}");
    assert_eq!(answered.iter().sum::<u64>(), 120);

    // One of the two is killed: the other goes on.
    drop(second);
    assert_eq!(granted(&in_parallel(4, &passes, buy)), 40);

    // The process with the sales is killed: the gate says so, and goes on once it is back, with the
    // same answers.
    server.kill();
    let asked = sale.client.send(
        "POST",
        &sale.attempts_url,
        &shop::Sale::attempt_headers(&passes[0].1, "k-0"),
        &shop::basket(&[("phone", 1)]),
    );
    assert_eq!(asked.status, 503, "{asked:?}");
    assert!(!asked.header("retry-after").is_empty());
    server.restart();
    server.shop = first.shop.clone();
    poll("the gate has joined again", || {
        let ready = server.client.try_send("GET", &format!("http://{}/readyz", first.admin), &[], "");
        ready.ok().filter(|ready| ready.status == 200)
    });
    let after = in_parallel(4, &passes, buy);
    for (before, now) in answers.iter().zip(&after) {
        assert_eq!(before["outcome"], now["outcome"], "{now}");
    }
    // A unit comes back, and goes through the gate to the next shopper who asks.
    let winner = answers.iter().find(|a| a["outcome"] == "granted").unwrap();
    let (loser, pass) = passes.iter().find(|(n, _)| answers[*n]["outcome"] == "sold_out").unwrap();
    server.admin("POST", &hold(winner, "release"), &json!({ "reason": "gave it back" }));
    poll("the gate hears of it", || {
        (sale.buy(pass, &format!("k-{loser}"), "phone")["outcome"] == "granted").then_some(())
    });
    poll("what the gates said is in the log", || {
        let said = server.stats("launch")["outcomes"]["sold_out"].as_u64().unwrap();
        (said >= 20).then_some(())
    });
    server.audit();
}

#[test]
fn gates_accept_a_solution_once_together_and_have_no_operators_commands() {
    let challenge = "[gate.challenge]\nmode = \"proof_of_work\"\nmaxnumber = 1000\n";
    let mut server = sales_alone(challenge);
    let gate = join(&server, "127.0.0.1:0", challenge);
    let other = join(&server, &gate.shop, challenge);
    server.shop = gate.shop.clone();
    define(&server, &shop::spec(&[("phone", 1)]), &[&gate, &other]);
    let asker = server.asker("launch", "alice");
    let made = asker.challenge();
    let solution = crate::harness::challenge::altcha(&crate::harness::challenge::solve(&made));
    let used = in_parallel(8, &[(); 16], |()| asker.redeem(&solution).status);
    assert_eq!(used.iter().filter(|status| **status == 200).count(), 1, "{used:?}");
    // A gate has no commands of operators.
    let stats = server.client.admin(
        "GET",
        &format!("http://{}/api/v1/admin/sales/launch/stats", other.admin),
        "fgk_x_y",
        "",
    );
    assert_eq!(stats.status, 404, "{stats:?}");
}

#[test]
fn gates_share_one_rate_and_one_line() {
    let mut server = sales_alone("");
    let first = join(&server, "127.0.0.1:0", "");
    let second = join(&server, &first.shop, "");
    server.shop = first.shop.clone();
    let spec = with(shop::spec(&[("phone", 100)]), json!({ "waitlist": { "places": 0 } }));
    define(&server, &spec, &[&first, &second]);
    server.admin("POST", "/sales/launch/rate", &json!({ "per_second": 1 }));
    let sale = server.sale("launch");
    let passes: Vec<(usize, String)> = server.passes("launch", "s", 40).into_iter().enumerate().collect();
    let buy = |(n, pass): &(usize, String)| sale.attempt(pass, &format!("k-{n}"), &[("phone", 1)]).json();
    let told = in_parallel(8, &passes, buy);
    let queued: Vec<&Value> = told.iter().filter(|told| told["outcome"] == "queued").collect();
    assert!(queued.len() > 20, "{told:?}");
    for told in &queued {
        let (position, wait_ms) = (told["position"].as_u64().unwrap(), told["wait_ms"].as_u64().unwrap());
        assert!(
            wait_ms > position.saturating_sub(1) * 1000,
            "one second for each attempt before it, over both gates: {told}"
        );
    }
    let both = [&first, &second]
        .map(|gate| metric(&server, &gate.admin, "floodgate_gate_answers_total{outcome=\"queued\"}"));
    assert!(both.iter().all(|n| *n > 0), "the kernel spreads connections over both: {both:?}");
    for gate in [&first, &second] {
        poll("the gate hears of the line", || {
            (metric(&server, &gate.admin, "floodgate_sale_line_length{sale=\"launch\"}") > 0).then_some(())
        });
    }
    // The place comes from the sale, through either gate, and there is one line: the last attempt
    // is after all others that are left.
    let seen: Vec<Value> =
        told.iter().zip(&passes).map(|(told, (_, pass))| sale.look(&told["attempt"], pass)).collect();
    let positions = |all: &[Value]| all.iter().filter_map(|seen| seen["wait_ms"].as_u64()).max();
    let left = server.stats("launch")["line"].as_u64().unwrap();
    assert!(left > 0 && positions(&seen).unwrap() > (left - 1) * 1000, "{left} left: {seen:?}");
    // A retry takes no other place.
    let again = in_parallel(8, &passes, buy);
    for (before, now) in told.iter().zip(&again) {
        assert_eq!(before["attempt"], now["attempt"]);
        assert!(now["outcome"] == "granted" || now["position"].as_u64() <= before["position"].as_u64());
    }
    server.admin("POST", "/sales/launch/rate", &json!({ "per_second": 0 }));
    for (told, (_, pass)) in told.iter().zip(&passes) {
        let decided = poll("the decision", || {
            Some(sale.look(&told["attempt"], pass)).filter(|seen| seen["outcome"] != "queued")
        });
        assert_eq!(decided["outcome"], "granted");
    }
    assert_eq!(server.stats("launch")["outcomes"]["granted"], 40);
}

#[test]
fn no_gate_by_itself_answers_sold_out_to_a_shopper_in_line() {
    let mut server = sales_alone("");
    let first = join(&server, "127.0.0.1:0", "");
    server.shop = first.shop.clone();
    let spec = with(shop::spec(&[("phone", 1), ("case", 9)]), json!({ "waitlist": { "places": 0 } }));
    define(&server, &spec, &[&first]);
    // A rate of one in ten minutes would do, but rates are whole numbers a second: so a crowd is in
    // line before the shopper of this test.
    server.admin("POST", "/sales/launch/rate", &json!({ "per_second": 1 }));
    let sale = server.sale("launch");
    let crowd: Vec<(usize, String)> = server.passes("launch", "crowd", 60).into_iter().enumerate().collect();
    let buy = |pass: &str, key: &str| sale.attempt(pass, key, &[("phone", 1)]).json();
    assert_eq!(buy(&crowd[0].1, "k-0")["outcome"], "granted", "at once");
    // The item is sold out, and a gate says so by itself; but not for a basket of two items, which
    // the sale must decide.
    let both = |pass: &str| sale.attempt(pass, "k", &[("phone", 1), ("case", 1)]).json();
    let told = in_parallel(8, &crowd[1..], |(_, pass)| both(pass));
    let (last, (_, pass)) =
        told.iter().zip(&crowd[1..]).max_by_key(|(told, _)| told["position"].as_u64()).unwrap();
    assert_eq!(last["outcome"], "queued", "{told:?}");
    let stranger = server.pass("launch", "stranger");
    poll("the gate says so alone", || (buy(&stranger, "k")["outcome"] == "sold_out").then_some(()));
    assert!(metric(&server, &first.admin, SOLD_OUT_ALONE) > 0);
    assert_ne!(buy(pass, "k2")["outcome"], "sold_out", "the same shopper is in line");
    // A gate that comes later knows too.
    let second = join(&server, "127.0.0.1:0", "");
    let elsewhere = |pass: &str| {
        let url = format!("http://{}{}", second.shop, sale.attempts_url.split_once(&first.shop).unwrap().1);
        let headers = shop::Sale::attempt_headers(pass, "k3");
        sale.client.send("POST", &url, &headers, &shop::basket(&[("phone", 1)])).json()["outcome"].clone()
    };
    assert_eq!(elsewhere(&stranger), "sold_out");
    assert_ne!(elsewhere(pass), "sold_out");
}

#[test]
fn a_gate_that_cannot_join_says_why() {
    let server = Server::start();
    let config = server.config_file();
    let run = |args: &[&str]| {
        let output = Command::new(BINARY)
            .arg("serve")
            .args(args)
            .arg("--data")
            .arg(&server.data)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["--role", "gate"]).contains("--join"), "a gate needs a socket");
    assert!(run(&["--join", "x.sock"]).contains("--role gate"));
    // Another program listens there.
    let socket = server.scratch().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"SSH-2.0-other\r\n").unwrap();
        // The gate ends the connection, and has said nothing.
        assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_or(0), 0);
    });
    let said = run(&["--role", "gate", "--join", socket.to_str().unwrap()]);
    assert!(said.contains("join ") && said.contains("other.sock"), "{said}");
    other.join().unwrap();
}

#[test]
fn a_sale_that_does_not_come_back_is_not_taken_for_another_or_for_sold_out() {
    let mut server = sales_alone("");
    let gate = join(&server, "127.0.0.1:0", "");
    server.shop = gate.shop.clone();
    let spec = |stock| with(shop::spec(&[("phone", stock)]), json!({ "waitlist": { "places": 0 } }));
    for (name, stock) in [("a-first", 1), ("launch", 2)] {
        server.define(name, &spec(stock));
    }
    poll("the gate hears of both", || {
        let metrics = server.client.get(&format!("http://{}/metrics", gate.admin)).body;
        let told = |name: &str| metrics.contains(&format!("floodgate_sale_log_sequence{{sale=\"{name}\"}}"));
        (told("a-first") && told("launch")).then_some(())
    });
    let (first, second) = (server.sale("a-first"), server.sale("launch"));
    let (a, b) = (server.pass("a-first", "a"), server.pass("a-first", "b"));
    first.granted(&a, "k", "phone");
    assert_eq!(first.buy(&b, "k", "phone")["outcome"], "sold_out");

    server.kill();
    let asked = |key: &str| {
        let headers = shop::Sale::attempt_headers(&b, key);
        first.client.send("POST", &first.attempts_url, &headers, &shop::basket(&[("phone", 1)])).status
    };
    assert_eq!(asked("k2"), 503, "while the sale is down no shopper is told that it is sold out");
    std::fs::rename(server.data.join("sales/a-first/p0"), server.scratch().join("lost")).unwrap();
    server.restart_unready();
    server.shop = gate.shop.clone();
    let other = server.pass("launch", "c");
    poll("the gate has joined again", || {
        let headers = shop::Sale::attempt_headers(&other, "k");
        let reply =
            second.client.send("POST", &second.attempts_url, &headers, &shop::basket(&[("phone", 1)]));
        (reply.status == 200).then_some(())
    });
    for n in 0..5 {
        assert_eq!(asked(&format!("again-{n}")), 503, "its number is now that of another sale");
    }
    let stats = server.stats("launch");
    assert_eq!(
        (&stats["items"][0]["held"], &stats["outcomes"]["granted"]),
        (&1.into(), &1.into()),
        "{stats}"
    );
}

/// A list of several frames: the first one, changed ones, and after a kill of the process with the
/// sales.
#[test]
fn gates_apply_a_changed_deny_list_and_refuse_no_other_shopper() {
    const BOTS: u64 = 150_000;
    let mut server = sales_alone("");
    let gate = join(&server, "127.0.0.1:0", "");
    server.shop = gate.shop.clone();
    define(&server, &shop::spec(&[("phone", 20)]), &[&gate]);
    let sale = server.sale("launch");
    let [bot, last, alice, late] =
        ["bot-1", &format!("bot-{BOTS}"), "alice", "late"].map(|shopper| server.pass("launch", shopper));
    let first = sale.granted(&alice, "k", "phone");
    let bots: String = (1..=BOTS).map(|n| format!("bot-{n}\n")).collect();
    server.deny("launch", &format!("alice\n{bots}"));
    // The gate hears of it within a moment; before that the sale itself refuses.
    let client = server.client.clone();
    let alone = |gate: &Gate| figure(&client, &gate.admin, NOT_ELIGIBLE_ALONE);
    let mut asked = 0;
    poll("the gate answers alone", || {
        asked += 1;
        assert_eq!(sale.buy(&last, &format!("k-{asked}"), "phone")["outcome"], "not_eligible");
        (alone(&gate) > 0).then_some(())
    });
    let before = alone(&gate);
    for n in 0..20 {
        assert_eq!(sale.buy(&bot, &format!("k-{n}"), "phone")["outcome"], "not_eligible");
    }
    assert_eq!(alone(&gate), before + 20);
    assert_eq!(
        sale.buy(&alice, "k", "phone"),
        first,
        "a shopper who has something gets the sale's own answer"
    );
    let url = format!("http://{}/api/v1/admin/refusals?shopper=bot-1", gate.admin);
    let why = server.client.admin("GET", &url, &server.new_key("support", "read-only"), "").json();
    assert_eq!(why["refused"][0]["reason"], "deny_list", "{why}");

    // A gate that joins now gets all of it before it answers any request.
    let other = join(&server, "127.0.0.1:0", "");
    server.shop = other.shop.clone();
    let there = server.sale("launch");
    assert_eq!(there.buy(&last, "there", "phone")["outcome"], "not_eligible");
    assert_eq!(alone(&other), 1);
    assert_eq!(there.buy(&alice, "k", "phone")["outcome"], "granted");
    assert_eq!(alone(&other), 1);

    // Another list: with a new shopper on it, and with one removed.
    server.deny("launch", "late\n");
    poll("the gates hear of it", || {
        let told = there.buy(&late, "k", "phone")["outcome"].clone();
        assert_eq!(told, "not_eligible");
        (alone(&other) > 1).then_some(())
    });
    assert_eq!(there.buy(&bot, "let-in", "phone")["outcome"], "granted", "removed by the same change");
    poll("the other one too", || (sale.buy(&last, "let-in", "phone")["outcome"] == "granted").then_some(()));

    // While the process with the sales is down no shopper is refused by the old list, as soon as
    // the gate has noticed it, and afterwards by the current one.
    server.kill();
    let headers = shop::Sale::attempt_headers(&late, "away");
    poll("the gate notices that the sales are away", || {
        let away = there.client.send("POST", &there.attempts_url, &headers, &shop::basket(&[("phone", 1)]));
        (away.status == 503).then_some(())
    });
    server.restart();
    let before = alone(&other);
    poll("the gate has joined again and answers alone", || {
        let body = shop::basket(&[("phone", 1)]);
        let told = there.client.send("POST", &there.attempts_url, &headers, &body);
        assert!(told.status == 503 || told.json()["outcome"] == "not_eligible", "{told:?}");
        (alone(&other) > before).then_some(())
    });
    server.deny("launch", "");
    server.shop = other.shop.clone();
    poll("let in", || (there.buy(&late, "at-last", "phone")["outcome"] == "granted").then_some(()));
    poll("what the gates said is in the log", || {
        (server.stats("launch")["outcomes"]["not_eligible"].as_u64().unwrap() > 0).then_some(())
    });
    server.audit();
}

#[test]
fn a_gate_with_other_keys_is_refused() {
    let server = sales_alone("");
    let stranger = Server::start();
    let output = Command::new(BINARY)
        .args(["serve", "--role", "gate", "--join"])
        .arg(server.data.join("gates/socket"))
        .arg("--data")
        .arg(&stranger.data)
        .arg("--config")
        .arg(stranger.config_file())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("on the same data"), "{said}");
}

/// The socket's directory is only the owner's, but a peer that can connect must still prove that it
/// has the master key.
#[test]
fn a_peer_that_only_repeats_the_greeting_is_told_nothing() {
    use std::io::{Read, Write};
    let server = sales_alone("");
    define(&server, &shop::spec(&[("phone", 1)]), &[]);
    let connect = || {
        let stream = std::os::unix::net::UnixStream::connect(server.data.join("gates/socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let frame = |stream: &mut std::os::unix::net::UnixStream| {
        let mut head = [0; 4];
        stream.read_exact(&mut head).map(|()| {
            let mut frame = vec![0; u32::from_le_bytes(head) as usize];
            stream.read_exact(&mut frame).unwrap();
            frame
        })
    };
    let mut stream = connect();
    // The greeting in its frame: a tag, the text's length and the text, the nonce.
    let theirs = frame(&mut stream).unwrap();
    let greeting = &theirs[..theirs.len() - 32];
    assert!(String::from_utf8_lossy(greeting).contains("floodgate"), "{theirs:?}");
    let other = frame(&mut connect()).unwrap();
    assert_ne!(theirs, other, "each connection has a nonce of its own");
    let hello = [greeting, &[1; 32], &[2; 32]].concat();
    stream.write_all(&(hello.len() as u32).to_le_bytes()).unwrap();
    stream.write_all(&hello).unwrap();
    let told = frame(&mut stream).map_err(|error| error.kind());
    assert_eq!(told, Err(std::io::ErrorKind::UnexpectedEof));
    // And a frame that is larger than any greeting is not waited for.
    let mut stream = connect();
    frame(&mut stream).unwrap();
    stream.write_all(&(1_u32 << 20).to_le_bytes()).unwrap();
    assert_eq!(frame(&mut stream).map_err(|error| error.kind()), Err(std::io::ErrorKind::UnexpectedEof));
    poll("the log says why", || server.errors().contains("master key").then_some(()));
}

#[test]
fn a_deleted_sale_is_gone_from_the_gates_and_its_name_may_be_used_again() {
    let mut server = sales_alone("");
    let gate = join(&server, "127.0.0.1:0", "");
    server.shop = gate.shop.clone();
    let mut later = shop::spec(&[("phone", 5)]);
    later["rounds"][0]["opens_at"] = shop::in_ms(3_600_000).into();
    later["rounds"][0]["closes_at"] = shop::in_ms(7_200_000).into();
    define(&server, &later, &[&gate]);
    let status = |server: &Server| server.client.get(&server.shop_url("/api/v1/sales/launch")).status;
    let wait_for = |server: &Server, want: u16| {
        poll("the gate hears of the change", || (status(server) == want).then_some(()));
    };
    assert_eq!(status(&server), 200);
    server.admin("DELETE", "/sales/launch?reason=cancelled", &Value::Null);
    wait_for(&server, 404);
    server.define("launch", &shop::spec(&[("phone", 1)]));
    wait_for(&server, 200);
    let again = server.sale("launch");
    again.granted(&server.pass("launch", "alice"), "k", "phone");

    // A sale that is deleted while the gate is away.
    server.define("other", &later);
    let other = |server: &Server| server.client.get(&server.shop_url("/api/v1/sales/other")).status;
    poll("the gate hears of the other", || (other(&server) == 200).then_some(()));
    server.kill();
    std::fs::remove_dir_all(server.data.join("sales/other")).unwrap();
    server.shop = "127.0.0.1:0".into();
    server.restart();
    server.shop = gate.shop.clone();
    poll("the gate hears that it is gone", || (other(&server) == 404).then_some(()));
    let launch = status(&server);
    assert_eq!(launch, 200, "the one that is left is served");
    again.granted(&server.pass("launch", "alice"), "k", "phone");
}
