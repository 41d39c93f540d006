//! How long each part of a long run takes, to show which one to shorten.

use crate::shell::{self, Failure};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// The number of steps that are named at the end.
const SLOWEST_COUNT: usize = 10;
/// How often to check whether cargo has ended: steps take seconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The steps so far, and how long each took.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// Runs one step. A failed one counts as well.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        does: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let result = does();
        self.0.push((name.to_owned(), started.elapsed()));
        result
    }

    /// The slowest, slowest first, and what all took together.
    pub(crate) fn report(&self) -> String {
        let mut sorted: Vec<&(String, Duration)> = self.0.iter().collect();
        sorted.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let all: Duration = self.0.iter().map(|(_, took)| *took).sum();
        let slowest = sorted.iter().take(SLOWEST_COUNT);
        let lines = slowest.map(|(name, took)| format!("{:>8.1} s  {name}\n", took.as_secs_f64()));
        format!(
            "the slowest of {} steps:\n{}{:>8.1} s  all\n",
            self.0.len(),
            lines.collect::<String>(),
            all.as_secs_f64()
        )
    }

    /// Runs `cargo test` with these flags; each program of tests is a step of its own.
    pub(crate) fn cargo_test(&mut self, args: &[&str]) -> Result<(), Failure> {
        let cargo = shell::cargo_program();
        let words = [&["test"], args].concat();
        eprintln!("$ {cargo} {}", words.join(" "));
        // Cargo prints each step that it begins on standard error. The tests' own results go
        // directly to standard output.
        let mut child = shell::command(&cargo).args(&words).stderr(Stdio::piped()).spawn()?;
        let said = child.stderr.take().ok_or_else(|| Failure("cargo's standard error is missing".into()))?;
        // Steps that wait to be noted: more than the repository has test programs.
        let (tell, hear) = mpsc::sync_channel(256);
        thread::spawn(move || pass_on(said, &tell));
        let (mut name, mut started) = ("build the tests".to_owned(), Instant::now());
        let status = loop {
            match hear.recv_timeout(LOOK_EVERY) {
                Ok(next) => {
                    self.0.push((std::mem::replace(&mut name, next), started.elapsed()));
                    started = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait()?,
                // It ends when cargo does, even if a process that a test has left holds the pipe.
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = child.try_wait()? {
                        break status;
                    }
                }
            }
        };
        self.0.push((name, started.elapsed()));
        if status.success() { Ok(()) } else { Err(Failure(format!("cargo {}: {status}", words.join(" ")))) }
    }
}

/// Passes cargo's output on, and reports each step that begins.
fn pass_on(said: impl Read, tell: &SyncSender<String>) {
    let (mut said, mut line) = (BufReader::new(said), Vec::new());
    while said.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Without a terminal to print to, the run goes on.
        let _ = std::io::stderr().write_all(&line);
        if let Some(next) = begun(&String::from_utf8_lossy(&line)) {
            let _ = tell.send(next);
        }
        line.clear();
    }
}

/// The step that begins with this line of cargo's, if one does.
fn begun(line: &str) -> Option<String> {
    // `     Running tests/interfaces/main.rs (target/debug/deps/interfaces-0b1c2d3e)`, `
    // Doc-tests units`.
    if let Some(rest) = line.strip_prefix("     Running ") {
        let (source, program) = rest.trim_end().strip_suffix(')')?.split_once(" (")?;
        let (name, _hash) = program.rsplit('/').next()?.rsplit_once('-')?;
        let kind = if source.starts_with("unittests ") { "unit tests of" } else { "tests" };
        return Some(format!("{kind} {name}"));
    }
    Some(format!("doc tests of {}", line.strip_prefix("   Doc-tests ")?.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_recognised_in_cargos_output() {
        for (line, step) in [
            (
                "     Running tests/interfaces/main.rs (target/debug/deps/interfaces-0b1c)\n",
                Some("tests interfaces"),
            ),
            ("     Running unittests src/lib.rs (/t/debug/deps/gate-77aa)\n", Some("unit tests of gate")),
            ("   Doc-tests units\n", Some("doc tests of units")),
            ("   Compiling units v0.1.0\n", None),
            ("     Running `target/debug/xtask test`\n", None),
            ("a test wrote: Running x (y)\n", None),
        ] {
            assert_eq!(begun(line).as_deref(), step, "{line}");
        }
    }

    #[test]
    fn each_step_is_reported_once() {
        let said =
            "   Compiling units v0.1.0\n     Running unittests src/lib.rs (t/deps/units-0b)\nnot UTF-8: ";
        let said = [said.as_bytes(), b"\xff\n   Doc-tests units\n"].concat();
        let (tell, hear) = mpsc::sync_channel(4);
        pass_on(&*said, &tell);
        drop(tell);
        assert_eq!(hear.iter().collect::<Vec<_>>(), ["unit tests of units", "doc tests of units"]);
    }

    #[test]
    fn the_report_names_ten_steps_and_counts_a_failed_one() {
        let mut steps = Steps((1..=11).map(|n| (format!("step {n}"), Duration::from_secs(n))).collect());
        assert!(steps.step("fails", || Err::<(), _>(Failure("no".into()))).is_err());
        let report = steps.report();
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines.len(), 12, "{report}");
        assert_eq!((lines[0], lines[1]), ("the slowest of 12 steps:", "    11.0 s  step 11"));
        assert_eq!((lines[10], lines[11]), ("     2.0 s  step 2", "    66.0 s  all"));
    }
}
