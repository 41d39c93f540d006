//! A file is safe only if the name of every directory above it is. After creating a directory, the
//! server syncs its parent before it sends any reply; a power cut then cannot remove a whole sale,
//! its log and the mark that it had one, without a trace.

use crate::harness::{Server, Setup, shop};
use std::collections::HashMap;
use std::fs;

#[test]
fn the_parent_of_every_new_directory_is_synced() {
    let scratch = tempfile::tempdir().unwrap();
    let (trace, data) = (scratch.path().join("trace"), scratch.path().join("some").join("data"));
    // -D: the server is the child that the test ends, and strace a process next to it.
    let calls = "trace=mkdir,mkdirat,rename,fsync";
    let strace = ["strace", "-D", "-f", "-qq", "-y", "-e", calls, "-e", "signal=none", "-o"];
    let mut wrapper: Vec<String> = strace.iter().map(|word| (*word).to_owned()).collect();
    wrapper.push(trace.display().to_string());
    let mut server = Server::with(Setup { wrapper, data: Some(data.clone()), ..Setup::default() });
    server.see_data_at(data.clone());
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));

    let trace = fs::read_to_string(&trace).unwrap();
    // The directory whose name is not durable yet, by the directory that holds the name.
    let mut pending: HashMap<String, String> = HashMap::new();
    let mut made = Vec::new();
    for line in whole_calls(&trace) {
        let quoted = |at: usize| line.split('"').nth(at).unwrap().to_owned();
        let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
        if line.contains(" mkdir") && line.ends_with("= 0") {
            let dir = quoted(1);
            pending.insert(parent(&dir), dir.clone());
            made.push(dir);
        } else if line.contains(" rename(") && line.ends_with("= 0") {
            // A sale is made elsewhere, and comes to its place by a rename, which both directories
            // must keep.
            let (from, to) = (quoted(1), quoted(3));
            pending.insert(parent(&from), from);
            pending.insert(parent(&to), to.clone());
            made.push(to);
        } else if line.contains(" fsync(") {
            let synced = line.split_once('<').unwrap().1.split('>').next().unwrap();
            pending.remove(synced);
        }
    }
    let under = |name: &str| data.join(name).display().to_string();
    for dir in [
        data.display().to_string(),
        under("keys"),
        under("sales"),
        under("sales/.unfinished"),
        under("sales/.unfinished/launch"),
        under("sales/.unfinished/launch/p0"),
        under("sales/launch"),
    ] {
        assert!(made.contains(&dir), "{dir} is not among {made:?}");
    }
    assert!(pending.is_empty(), "not durable: {pending:?}");
}

/// The calls of a trace, one a line. A call during which another thread made one is written in two
/// parts.
fn whole_calls(trace: &str) -> Vec<String> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(part) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, part);
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            calls.push(format!(" {}{rest}", begun.remove(thread).unwrap_or_default().trim_start()));
        } else {
            calls.push(format!(" {}", call.trim_start()));
        }
    }
    calls
}

#[test]
fn a_call_in_two_parts_is_read_as_one() {
    let trace = "1  mkdir(\"/a\", 0700 <unfinished ...>\n2  fsync(3</b>) = 0\n1  <... mkdir resumed>)   = 0\n";
    assert_eq!(whole_calls(trace), [" fsync(3</b>) = 0", " mkdir(\"/a\", 0700 )   = 0"]);
}
