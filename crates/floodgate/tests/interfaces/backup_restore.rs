//! A backup is taken while shoppers buy, put back elsewhere, and gives the answers that were given before.

use crate::harness::{
    Server, Setup, audit, run,
    shop::{self, basket, in_parallel},
    stderr, stdout,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn a_backup_under_load_answers_the_same() {
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
    let same = copy.sale("launch");
    let path = |url: &str| url.split_once("/api/").unwrap().1.to_owned();
    assert_eq!(path(&same.attempts_url), path(&sale.attempts_url), "the round's address is the same");
    in_parallel(8, &told, |(pass, body)| assert_eq!(same.attempt(pass, "k", &[("phone", 1)]).body, *body));
    same.granted(&copy.pass("launch", "new"), "k", "phone");
    assert_eq!(held(&copy.audit()), at_backup + 1);
}
