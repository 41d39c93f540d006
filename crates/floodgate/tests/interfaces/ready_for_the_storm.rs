//! What would cost the first of a crowd tenths of a second is done before anybody comes.

use crate::harness::Server;
use std::fs;

#[test]
fn the_kernel_has_nothing_to_make_ready_in_the_middle_of_the_storm() {
    const CONNECTIONS: u64 = 1000;
    let server = Server::with(crate::harness::Setup {
        settings: format!("[gate.connections]\nopen_max = {CONNECTIONS}\n"),
        ..Default::default()
    });
    let pid = server.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().parse().unwrap()
    };
    assert!(number("FDSize") > CONNECTIONS, "{status}");
    assert_eq!(number("THP_enabled"), 0, "{status}");
    let mut stands_back = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).unwrap();
        // Field 19 of proc(5), whose third is the first here.
        let nice: i32 = rest.split_whitespace().nth(16).unwrap().parse().unwrap();
        if nice > 0 {
            stands_back.push(name.to_owned());
        }
    }
    stands_back.sort();
    assert_eq!(stands_back, ["gate-nonces", "gate-watch"], "snapshots have a thread when there is a sale");
}
