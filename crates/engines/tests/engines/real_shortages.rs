//! Shortages of a real machine: a file system that is full, and a process that may open no more
//! files. What fails leaves nothing behind, and the log goes on when the shortage is over.
//!
//! Each test runs itself again in a process of its own: one with a small file system that is
//! mounted where no other process sees it, one with a low limit of open files.

use crate::world::{append, check_all, options};
use engines::{
    embedded::{EmbeddedLog, Options, disk::RealDisk},
    log::{AppendError, Log},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const DIR: &str = "FLOODGATE_SHORTAGE_DIR";
const DISK_BYTES: usize = 2 << 20;
const SEGMENT_BYTES: u64 = 1 << 20;

/// Where the test is to work, if it is the process that was started for it.
pub(crate) fn inside() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// Runs a test of this binary again, by a command.
fn again(test: &str, dir: &Path, wrapper: &[&str]) {
    let exe = env::current_exe().unwrap();
    let mut command = Command::new(wrapper.first().map_or(exe.as_os_str(), |first| first.as_ref()));
    if let [_, rest @ ..] = wrapper {
        command.args(rest).arg(exe);
    }
    let output = command.args([test, "--exact", "--nocapture"]).env(DIR, dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The command that runs another after `mount`, a shell's words, in mounts of its own. Root may
/// lack the right to mount, as in most containers, and have it in a user namespace.
fn that_mounts<'a>(dir: &Path, mount: &'a str) -> Vec<&'a str> {
    let mut refused = String::new();
    for namespaces in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let unshare = ["unshare", "--propagation", "unchanged"];
        let wrapper = [&unshare, namespaces, &["sh", "-c", mount, "sh"]].concat();
        let tried = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").env(DIR, dir).output();
        match tried {
            Ok(tried) if tried.status.success() => return wrapper,
            Ok(tried) => refused.push_str(&String::from_utf8_lossy(&tried.stderr)),
            Err(error) => refused.push_str(&format!("{}: {error}\n", wrapper[0])),
        }
    }
    panic!(
        "this test needs a small file system of its own, so it needs unshare and mount, and either the \
         capability CAP_SYS_ADMIN or the right of users to make namespaces (kernel.unprivileged_userns_clone, \
         user.max_user_namespaces):\n{refused}"
    );
}

fn open(dir: &Path, segment_bytes: u64) -> EmbeddedLog<RealDisk> {
    EmbeddedLog::open_dir(dir, Options { segment_bytes, ..options() }).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "LOCK").collect();
    names.sort();
    names
}

/// Appends until something fails, which must be a shortage.
fn append_until_short(log: &mut EmbeddedLog<RealDisk>) {
    loop {
        match append(log, 20) {
            Ok(_) => {}
            Err(AppendError::Shortage(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs a test of this binary again, on a file system of its own of `DISK_BYTES`.
pub(crate) fn again_on_a_small_disk(test: &str) {
    let mount_point = tempfile::tempdir_in("/dev/shm").unwrap();
    let mount = format!(
        "mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm && \
         mount -t tmpfs -o size={DISK_BYTES} tmpfs \"${DIR}\" && exec \"$@\""
    );
    let wrapper = that_mounts(mount_point.path(), &mount);
    again(test, mount_point.path(), &wrapper);
}

#[test]
fn a_full_file_system_is_a_shortage_and_leaves_no_files() {
    let Some(dir) = inside() else {
        let test = "real_shortages::a_full_file_system_is_a_shortage_and_leaves_no_files";
        return again_on_a_small_disk(test);
    };
    let (data, ballast) = (dir.join("log"), dir.join("ballast"));
    let mut log = open(&data, SEGMENT_BYTES);
    append(&mut log, 3).unwrap();
    fs::write(&ballast, vec![1; DISK_BYTES / 2]).unwrap();
    log.snapshots().write(log.last(), &vec![7; DISK_BYTES]).unwrap_err();
    assert_eq!(names(&data), ["seg-00000000000000000001.log"]);
    append_until_short(&mut log);
    let last = log.last();
    log.snapshots().write(last, &[7; 100_000]).unwrap_err();
    assert_eq!(names(&data), ["seg-00000000000000000001.log"]);
    check_all(&mut *log.reader(), last.0);
    fs::remove_file(ballast).unwrap();
    append(&mut log, 20).unwrap();
    log.snapshots().write(log.last(), &[7; 100_000]).unwrap();
    drop(log);
    check_all(&mut *open(&data, SEGMENT_BYTES).reader(), last.0 + 20);
}

#[test]
fn no_more_open_files_are_a_shortage_and_leave_no_files() {
    let Some(dir) = inside() else {
        let dir = tempfile::tempdir().unwrap();
        return again(
            "real_shortages::no_more_open_files_are_a_shortage_and_leave_no_files",
            dir.path(),
            &[],
        );
    };
    let data = dir.join("log");
    let mut log = open(&data, 16 << 10);
    append(&mut log, 3).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let before = names(&data);
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    log.snapshots().write(log.last(), b"state").unwrap_err();
    append_until_short(&mut log);
    append_until_short(&mut log);
    let last = log.last();
    let read = log.reader().read(last, &mut |_, _| std::ops::ControlFlow::Continue(()));
    assert!(read.unwrap_err().is_shortage());
    // One handle is enough for a segment: its directory is open already.
    taken.pop();
    assert_eq!(names(&data), before);
    append(&mut log, 20).unwrap();
    taken.clear();
    log.snapshots().write(log.last(), b"state").unwrap();
    drop(log);
    check_all(&mut *open(&data, 16 << 10).reader(), last.0 + 20);
}
