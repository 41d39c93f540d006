//! A process with few file handles, all of which idle connections would take: the log cannot make
//! its next segment and stops the sale, or the keys cannot be read and every operator's key is
//! "wrong". Here the connections of all listeners together leave half of the handles to the logs.

use crate::harness::{
    PATIENCE, Server, Setup, poll,
    shop::{self, in_parallel},
};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const HANDLES: usize = 256;
/// Far more than the listener may have, and nearly as many as there are handles.
const IDLE_OPERATORS: usize = 240;
/// Nearly as many as the listener may have: these connections are from an exempt address, which
/// may have them all.
const IDLE_SHOPPERS: usize = 52;

/// How many handles the process has open, and how many of them are sockets.
fn open_files(server: &Server) -> (usize, usize) {
    let dir = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    let links: Vec<_> =
        fs::read_dir(dir).unwrap().filter_map(|e| fs::read_link(e.ok()?.path()).ok()).collect();
    let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:")).count();
    (links.len(), sockets)
}

fn segments(log: &Path) -> usize {
    let names = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("seg-")).count()
}

#[test]
fn idle_connections_leave_handles_to_the_log_and_to_operators() {
    let wrapper = ["sh", "-c", &format!("ulimit -n {HANDLES} && exec \"$@\""), "sh"].map(str::to_owned);
    let mut server = Server::with(Setup { wrapper: wrapper.into(), ..Setup::default() });
    server.see_data_at(server.data.clone());
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 100_000)]));
    let log = server.data.join("sales/launch/p0");
    let ids: String = (0..1_000_000).map(|n| format!("bot-{n}\n")).collect();
    let passes = server.passes("launch", "crowd", 4000);

    let to = [vec![&server.admin; IDLE_OPERATORS], vec![&server.shop; IDLE_SHOPPERS]].concat();
    let idle: Vec<TcpStream> = to.iter().map(|to| TcpStream::connect(to).unwrap()).collect();
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut answers = Vec::new();
            while !is_over.load(Relaxed) && began.elapsed() < PATIENCE {
                // While few handles are left, idle connections are closed, perhaps as one is used
                // again: then the request is sent once more, and must be answered.
                let ask = || server.try_admin_send("GET", "/sales/launch/stats", "");
                let reply = ask().or_else(ask).expect("an operator is answered");
                answers.push(reply.status);
                let (files, sockets) = open_files(&server);
                assert!(files < HANDLES * 3 / 4, "{files} files are open, {sockets} of them sockets");
                std::thread::sleep(Duration::from_millis(20));
            }
            answers
        });
        let mut granted = 0;
        for pass in passes.chunks(100) {
            server.deny("launch", &ids);
            let outcomes = in_parallel(4, pass, |pass| sale.buy(pass, "k", "phone")["outcome"].clone());
            assert!(outcomes.iter().all(|outcome| outcome == "granted"), "{outcomes:?}");
            granted += outcomes.len();
            if segments(&log) > 1 || began.elapsed() > PATIENCE {
                break;
            }
        }
        is_over.store(true, Relaxed);
        (asked.join().unwrap(), granted)
    });
    let (answers, granted) = answers;
    assert!(segments(&log) > 1, "the log has a further segment after {granted} grants");
    assert!(answers.len() > 10 && answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    drop(idle);
    poll("an answer to operators", || {
        (server.admin_send("GET", "/sales/launch/stats", "").status == 200).then_some(())
    });
    assert_eq!(server.document("launch")["state"], "open");
    assert!(!server.errors().contains("nothing can be written"), "{}", server.errors());
    assert_eq!(server.stats("launch")["items"][0]["held"], granted);
    server.stop();
}
