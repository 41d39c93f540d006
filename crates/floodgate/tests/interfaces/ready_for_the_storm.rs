//! Preparations that would cost the first shoppers of a crowd tenths of a second are done before
//! the first request.

use crate::harness::{Server, poll};
use std::fs;

#[test]
fn the_server_prepares_kernel_tables_and_thread_priorities_at_its_start() {
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
    // A thread lowers its priority as its first action, which may be a moment after it was started.
    poll("those that stand back, and no others: a sale has a thread for snapshots once there is one", || {
        let mut stands_back = Vec::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            // It may have ended meanwhile.
            let Ok(stat) = fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
            let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).unwrap();
            // Field 19 of proc(5); the first field here is its third.
            let nice: i32 = rest.split_whitespace().nth(16).unwrap().parse().unwrap();
            if nice > 0 {
                stands_back.push(name.to_owned());
            }
        }
        stands_back.sort();
        (stands_back == ["gate-watch", "notify-snap", "notify-watch"]).then_some(())
    });
}
