//! Benchmarks: run the measuring programs and print their table.

mod beside;
mod client;
mod crowd;
mod flood;
mod gate;
mod gates;
mod idle;
mod messages;
mod notify;
mod pages;
mod parked;
mod probe;
mod process;
mod servers;
mod shoppers;
mod storm;

use crate::shell::{Failure, cargo, release_binary, release_binary_of};
use std::path::PathBuf;

/// `cargo xtask bench sale`.
pub(crate) fn sale(args: &[&str]) -> Result<(), Failure> {
    let binary = release_binary("floodgate")?;
    let binary = binary.to_string_lossy().into_owned();
    let mut all = vec!["run", "--release", "--locked", "--package", "sale", "--example", "bench", "--"];
    all.extend(["--binary", &binary]);
    all.extend(args);
    cargo(&all)
}

/// `cargo xtask bench steps`.
pub(crate) fn steps(args: &[&str]) -> Result<(), Failure> {
    let mut all = vec!["run", "--release", "--locked", "--package", "sale", "--example", "steps", "--"];
    all.extend(args);
    cargo(&all)
}

/// `cargo xtask bench inventory`.
pub(crate) fn inventory(args: &[&str]) -> Result<(), Failure> {
    let mut all =
        vec!["run", "--release", "--locked", "--package", "inventory@0.1.0", "--example", "figures", "--"];
    all.extend(args);
    cargo(&all)
}

/// `cargo xtask bench search`.
pub(crate) fn search(args: &[&str]) -> Result<(), Failure> {
    let mut all = vec!["run", "--release", "--locked", "--package", "catalog", "--example", "search", "--"];
    all.extend(args);
    cargo(&all)
}

/// `cargo xtask bench checkouts`.
pub(crate) fn checkouts(args: &[&str]) -> Result<(), Failure> {
    let mut all =
        vec!["run", "--release", "--locked", "--package", "floodgate", "--example", "checkouts", "--"];
    all.extend(args);
    cargo(&all)
}

/// `cargo xtask bench gate`.
pub(crate) fn gate(args: &[&str]) -> Result<(), Failure> {
    gate::run(&Options::read(args)?)
}

/// `cargo xtask bench pages`.
pub(crate) fn pages(args: &[&str]) -> Result<(), Failure> {
    pages::run(&Options::read(args)?)
}

/// `cargo xtask bench idle`.
pub(crate) fn idle(args: &[&str]) -> Result<(), Failure> {
    idle::run(&Options::read(args)?)
}

/// `cargo xtask bench crowd`.
pub(crate) fn crowd(args: &[&str]) -> Result<(), Failure> {
    crowd::run(&Options::read(args)?)
}

/// `cargo xtask bench flood`.
pub(crate) fn flood(args: &[&str]) -> Result<(), Failure> {
    flood::run(&Options::read(args)?)
}

/// `cargo xtask bench beside`.
pub(crate) fn beside(args: &[&str]) -> Result<(), Failure> {
    beside::run(&Options::read(args)?)
}

/// `cargo xtask bench storm`.
pub(crate) fn storm(args: &[&str]) -> Result<(), Failure> {
    storm::run(&Options::read(args)?)
}

/// `cargo xtask bench notify`.
pub(crate) fn notify(args: &[&str]) -> Result<(), Failure> {
    notify::run(&Options::read(args)?)
}

/// The options of the benches of the gate and of the message service.
struct Options {
    /// Rounds; each has every server of a row once.
    runs: usize,
    /// Requests of one measurement.
    requests: usize,
    only: Option<String>,
    /// The crowd's connections, over how many gates, and how long they wait.
    connections: Option<usize>,
    gates: Option<usize>,
    hold_seconds: Option<u64>,
    json: bool,
    /// Another build of the server, instead of this repository's.
    binary: Option<PathBuf>,
}

impl Options {
    fn read(args: &[&str]) -> Result<Self, Failure> {
        // 300,000 requests are 2 s of CPU or more, compared with which the kernel's 10 ms steps of
        // CPU time are small.
        let mut options = Self {
            runs: 5,
            requests: 300_000,
            only: None,
            connections: None,
            gates: None,
            hold_seconds: None,
            json: false,
            binary: None,
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value =
                || rest.next().copied().ok_or_else(|| Failure(format!("{arg}: a value is missing")));
            let number = |text: &str| match text.parse::<usize>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(Failure(format!("{arg} {text}: want a number above 0"))),
            };
            match *arg {
                "--json" => options.json = true,
                "--only" => options.only = Some(value()?.to_owned()),
                "--runs" => options.runs = number(value()?)?,
                "--connections" => options.connections = Some(number(value()?)?),
                "--gates" => options.gates = Some(number(value()?)?),
                "--hold-seconds" => options.hold_seconds = Some(number(value()?)? as u64),
                "--requests" => options.requests = number(value()?)?,
                "--binary" => options.binary = Some(value()?.into()),
                _ => return Err(Failure(format!("not a flag: {arg}"))),
            }
        }
        Ok(options)
    }
}

/// The programs that take part.
struct Programs {
    floodgate: PathBuf,
    load: PathBuf,
    crowd: PathBuf,
    flood: PathBuf,
    browse: PathBuf,
}

impl Programs {
    /// Builds the missing programs.
    fn ensure(options: &Options) -> Result<Self, Failure> {
        let floodgate = match &options.binary {
            Some(binary) => binary.clone(),
            None => release_binary("floodgate")?,
        };
        let own = |name: &str| release_binary_of("xtask", name);
        Ok(Self {
            floodgate,
            load: own("load")?,
            crowd: own("crowd")?,
            flood: own("flood")?,
            browse: own("browse")?,
        })
    }
}

/// Median, lowest and highest.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        let median = (at(last / 2) + at(sorted.len() / 2)) / 2.0;
        Self { median, lowest: at(0), highest: at(last) }
    }

    fn json(self) -> serde_json::Value {
        serde_json::json!({ "median": self.median, "lowest": self.lowest, "highest": self.highest })
    }

    fn text(self, digits: usize) -> String {
        let Self { median, lowest, highest } = self;
        format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

/// A directory that is removed when the bench ends, in every case.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Result<Self, Failure> {
        Self::at(std::env::temp_dir().join(format!("floodgate-bench-{name}-{}", std::process::id())))
    }

    fn at(dir: PathBuf) -> Result<Self, Failure> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// The file system used, for the cost of durability depends on the disk.
    fn file_system(&self) -> String {
        let path = self.0.to_string_lossy();
        crate::shell::output("stat", &["-f", "-c", "%T", &path])
            .map_or_else(|_| "unknown".into(), |t| t.trim().into())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let of = |values: &[f64]| {
            let Spread { median, lowest, highest } = Spread::of(values.iter().copied());
            (lowest, median, highest)
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), (1.0, 2.5, 4.0));
        assert_eq!(of(&[7.0]), (7.0, 7.0, 7.0));
    }
}
