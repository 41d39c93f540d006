//! Runs programs. `tools` lists them.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// An error, for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The repository's top folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

pub(crate) fn enter_root() -> Result<(), Failure> {
    std::env::set_current_dir(root()).map_err(|e| Failure(format!("enter the repository: {e}")))
}

/// The `PATH` of started programs, once it is set.
static PATH: OnceLock<PathBuf> = OnceLock::new();

/// From now on programs are found in this directory only, also by the programs themselves.
pub(crate) fn narrow_path(dir: PathBuf) {
    // A second call is for the same purpose: a run of xtask has one.
    let _ = PATH.set(dir);
}

/// A program to run. All commands of xtask are made here.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(dir) = PATH.get() {
        command.env("PATH", dir);
    }
    command
}

/// Whether the person at the terminal has such a program.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a program with the terminal's input and output; an exit code other than 0 is a failure.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    finish(command(program).args(args))
}

/// The same for an existing command.
pub(crate) fn finish(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let words = command.get_args().map(|word| format!(" {}", word.to_string_lossy()));
    let line = words.fold(program.clone(), |line, word| line + &word);
    eprintln!("$ {line}");
    let status = command.status().map_err(|e| Failure(format!("{program}: {e}; is it installed?")))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{line}: {status}"))) }
}

pub(crate) fn cargo(args: &[&str]) -> Result<(), Failure> {
    run(&cargo_program(), args)
}

/// The cargo that runs this program.
pub(crate) fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// What a program prints on standard output.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String, Failure> {
    let out = command(program)
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure(format!("{program}: {e}; is it installed?")))?;
    if !out.status.success() {
        return Err(Failure(format!("{program} {}: {}", args.join(" "), out.status)));
    }
    String::from_utf8(out.stdout).map_err(|_| Failure(format!("{program}: output is not UTF-8")))
}

/// The release build of the binary of that name, made if needed.
pub(crate) fn release_binary(package: &str) -> Result<PathBuf, Failure> {
    release_binary_of(package, package)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The release build of one of a package's binaries, made if needed.
pub(crate) fn release_binary_of(package: &str, binary: &str) -> Result<PathBuf, Failure> {
    cargo(&["build", "--release", "--locked", "--package", package, "--bin", binary])?;
    Ok(target().join("release").join(binary))
}
