//! Processes that a bench starts: on one processor, ended by their process id in every case, and
//! the resources that the kernel says they have used. It does not know what they do.

use crate::shell::{Failure, command, output};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The processors of servers, and of their clients.
pub(super) const SERVER_CORE: &str = "0";
pub(super) const CLIENT_CORE: &str = "1";
/// The processors for both, if there are many of each.
pub(super) const BOTH_CORES: &str = "0,1";

/// Steps a second in which `/proc/PID/stat` counts CPU time: USER_HZ, which is 100 wherever Debian
/// runs (proc(5)).
const STEPS_PER_SECOND: f64 = 100.0;
/// How long a process may take to end. A gate ends its open requests first, for up to 10 s.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// How long a server must be idle to count as quiet: memory is checked four times a second.
pub(super) const QUIET_FOR: Duration = Duration::from_millis(1200);
/// How long it may take to become so.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// CPU time, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// A process and its descendants. All of them end when it is dropped.
pub(super) struct Running {
    child: Child,
}

impl Running {
    /// Starts a program on one processor; its standard error goes to `log`.
    pub(super) fn start(core: &str, program: &Path, args: &[&str], log: &Path) -> Result<Self, Failure> {
        let mut command = pinned(core, program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        Self::spawn(&mut command)
    }

    pub(super) fn spawn(command: &mut Command) -> Result<Self, Failure> {
        let child = command.spawn().map_err(|e| Failure(format!("start {command:?}: {e}")))?;
        Ok(Self { child })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id, and those of its descendants.
    fn family(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let parent = stat(pid).and_then(|fields| fields.get(1)?.parse().ok());
            children.entry(parent.unwrap_or(0)).or_default().push(pid);
        }
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while at < family.len() {
            family.extend(children.remove(&family[at]).unwrap_or_default());
            at += 1;
        }
        family
    }

    /// The CPU time that it and its descendants have used.
    pub(super) fn cpu(&self) -> Cpu {
        self.family().into_iter().filter_map(stat).fold(Cpu::default(), |sum, fields| {
            // utime and stime: fields 14 and 15 in proc(5), whose third is the first here.
            let seconds =
                |at: usize| fields.get(at).and_then(|f| f.parse().ok()).unwrap_or(0.0) / STEPS_PER_SECOND;
            Cpu { user: sum.user + seconds(11), system: sum.system + seconds(12) }
        })
    }

    /// Waits until the process is idle, whatever it does before or afterwards.
    pub(super) fn wait_until_quiet(&self, quiet_for: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        let mut used = self.cpu();
        while started.elapsed() < QUIET_WITHIN {
            sleep(quiet_for);
            let now = self.cpu();
            // One step is what a second of waiting takes.
            if now.user + now.system - used.user - used.system < 1.5 / STEPS_PER_SECOND {
                return Ok(());
            }
            used = now;
        }
        Err(Failure(format!("a server is still busy after {} s", QUIET_WITHIN.as_secs())))
    }

    /// Bytes of anonymous memory that it and its descendants have in RAM.
    pub(super) fn anonymous_bytes(&self) -> u64 {
        let of = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.family().into_iter().filter_map(of).sum::<u64>() << 10
    }
}

/// The fields of `/proc/PID/stat` after the name, which may have blanks in it.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// A command that runs on one processor, and ends with the bench even if that is killed. `setpriv`
/// becomes `taskset`, and that becomes the program, so the process is the program's.
pub(super) fn pinned(core: &str, program: &Path) -> Command {
    let mut command = command("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", core]).arg(program);
    command
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let family = self.family();
        let _ = output("kill", &["-TERM", &self.child.id().to_string()]);
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
        }
        let left = family.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        for pid in left {
            let _ = output("kill", &["-KILL", &pid.to_string()]);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_ended_with_its_descendants() {
        let mut shell = command("sh");
        shell.args(["-c", "sleep 60 & i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; wait"]);
        let running = Running::spawn(&mut shell).unwrap();
        let started = Instant::now();
        let used = || running.cpu().user + running.cpu().system;
        while (running.family().len() < 2 || used() == 0.0) && started.elapsed() < Duration::from_secs(30) {
            sleep(Duration::from_millis(10));
        }
        let family = running.family();
        assert_eq!(family.len(), 2);
        assert!(used() > 0.0);
        assert!(running.anonymous_bytes() > 0);
        drop(running);
        // A process that lost its parent is still there until its exit status is read.
        let ended = |pid: &u32| stat(*pid).is_none_or(|fields| fields[0] == "Z");
        let asked = Instant::now();
        while !family.iter().all(ended) {
            assert!(asked.elapsed() < Duration::from_secs(30), "{family:?}");
            sleep(Duration::from_millis(10));
        }
    }
}
