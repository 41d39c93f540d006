//! A backup is taken while shoppers buy, and restored elsewhere. The restored server gives the same
//! answers as before.

use crate::harness::{
    Server, Setup, audit, run,
    shop::{self, basket, in_parallel},
    stderr, stdout,
};
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn a_backup_taken_under_load_restores_the_same_answers() {
    // Snapshots come and go while files are copied.
    let settings = "\n[sale]\nsnapshot_every = 100\n".to_owned();
    let mut server = Server::with(Setup { settings: settings.clone(), ..Setup::default() });
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 100_000)]));
    let passes = server.passes("launch", "crowd", 20_000);
    let (before, crowd) = passes.split_at(200);
    let told = in_parallel(8, before, |pass| (pass.clone(), sale.attempt(pass, "k", &[("phone", 1)]).body));

    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    let (done, bought) = (AtomicBool::new(false), Mutex::new(0));
    std::thread::scope(|scope| {
        for part in crowd.chunks(crowd.len() / 4) {
            let (sale, done, bought) = (&sale, &done, &bought);
            scope.spawn(move || {
                let body = basket(&[("phone", 1)]);
                let mut count = 0;
                for pass in part.iter().take_while(|_| !done.load(Relaxed)) {
                    count += u64::from(sale.try_attempt(pass, "k", &body).is_some());
                }
                *bought.lock().unwrap() += count;
            });
        }
        server.wait_for_item("launch", "phone", |item| item["held"].as_u64() > Some(250));
        let said = server.output(&["backup", &backup.display().to_string()]);
        done.store(true, Relaxed);
        assert!(said.contains("sale launch") && said.contains("signing keys"), "{said}");
    });
    let bought = bought.into_inner().unwrap();
    assert!(bought > 50, "it was taken under load: {bought}");

    let occupied = server.command(&["backup", &backup.display().to_string()]);
    assert!(!occupied.status.success() && stderr(&occupied).contains("not empty"), "{}", stderr(&occupied));
    stdout(&run(&restored, None, &["restore", &backup.display().to_string()]));
    let again = run(&restored, None, &["restore", &backup.display().to_string()]);
    assert!(!again.status.success() && stderr(&again).contains("not empty"), "{}", stderr(&again));
    let held = |report: &serde_json::Value| report[0]["items"][0]["held"].as_u64().unwrap();
    let at_backup = held(&audit(&restored));
    let at_end = held(&server.audit());
    assert!((250..=at_end).contains(&at_backup), "{at_backup} of {at_end}");
    server.kill();

    let copy = Server::with(Setup { settings, data: Some(restored), ..Setup::default() });
    let ready = copy.client.try_send("GET", &copy.admin_url("/readyz"), &[], "").unwrap();
    assert!(
        ready.status == 200 && ready.body.contains("sale launch is paused: it was restored"),
        "{ready:?}"
    );
    assert_eq!(copy.stats("launch")["pause"]["cause"], "restored");
    let same = copy.sale("launch");
    let path = |url: &str| url.split_once("/api/").unwrap().1.to_owned();
    assert_ne!(
        path(&same.attempts_url),
        path(&sale.attempts_url),
        "a URL of the old server is none of the copy"
    );
    assert_eq!(same.buy(&copy.pass("launch", "early"), "k", "phone")["outcome"], "paused");
    assert_eq!(
        copy.admin_send("POST", "/sales/launch/resume", r#"{"reason":"the old one is gone"}"#).status,
        200
    );
    in_parallel(8, &told, |(pass, body)| assert_eq!(same.attempt(pass, "k", &[("phone", 1)]).body, *body));
    same.granted(&copy.pass("launch", "new"), "k", "phone");
    assert_eq!(held(&copy.audit()), at_backup + 1);
}

#[test]
fn an_incomplete_restore_is_not_served() {
    let mut server = Server::start();
    for sale in ["first", "second"] {
        server.open_sale(sale, &shop::spec(&[("phone", 3)]));
    }
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    server.output(&["backup", &backup.display().to_string()]);
    server.stop();
    let segment = backup.join("sales/second/p0/seg-00000000000000000001.log");
    let file = fs::File::options().read(true).write(true).open(segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4200).unwrap();

    let cut_off = run(&restored, None, &["restore", &backup.display().to_string()]);
    assert!(!cut_off.status.success() && stderr(&cut_off).contains("seg-"), "{}", stderr(&cut_off));
    assert!(restored.join("sales/first/p0").is_dir(), "a part of the copy is there");
    for command in [["serve"].as_slice(), &["audit"], &["backup", "elsewhere"]] {
        let refused = run(&restored, None, command);
        assert!(
            !refused.status.success() && stderr(&refused).contains("was cut off"),
            "{}",
            stderr(&refused)
        );
    }
}

#[test]
fn a_store_that_follows_the_winners_notices_that_a_backup_was_restored() {
    let mut server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 9)]));
    let feed = |server: &Server, query: &str| {
        server.admin_send("GET", &format!("/sales/launch/winners.ndjson?{query}"), "")
    };
    sale.granted(&server.pass("launch", "alice"), "k", "phone");
    let log = feed(&server, "after=0").header("floodgate-log").to_owned();
    let backup = server.scratch().join("backup");
    server.output(&["backup", &backup.display().to_string()]);
    // Answered, read by the store, and then lost.
    sale.granted(&server.pass("launch", "bob"), "k", "phone");
    let last = server.stats("launch")["as_of"].as_u64().unwrap();
    assert_eq!(feed(&server, &format!("after={last}&log={log}")).status, 200);
    server.stop();
    fs::remove_dir_all(&server.data).unwrap();
    stdout(&run(&server.data, None, &["restore", &backup.display().to_string()]));
    server.restart();
    assert_eq!(server.admin_send("POST", "/sales/launch/resume", "").status, 200);
    let sale = server.sale("launch");
    for name in ["carol", "dave"] {
        sale.granted(&server.pass("launch", name), "k", "phone");
    }
    assert!(
        server.stats("launch")["as_of"].as_u64().unwrap() > last,
        "the new log is longer than the old position"
    );
    let noticed = feed(&server, &format!("after={last}&log={log}"));
    assert_eq!(noticed.status, 409, "{noticed:?}");
    let new = feed(&server, "after=0").header("floodgate-log").to_owned();
    assert_ne!(new, log);
    assert_eq!(feed(&server, &format!("after=0&log={new}")).status, 200);
}
