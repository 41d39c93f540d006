//! Runs programs, and installs them where they are missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, for the person at the terminal.
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

/// Runs a program with the terminal's input and output; an exit code other than 0 is a failure.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    eprintln!("$ {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .status()
        .map_err(|e| Failure(format!("{program}: {e}; is it installed?")))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{program} {}: {status}", args.join(" ")))) }
}

pub(crate) fn cargo(args: &[&str]) -> Result<(), Failure> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    run(&program, args)
}

/// What a program prints on standard output.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String, Failure> {
    let out = Command::new(program)
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

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The release build of one of a package's binaries, made if needed.
pub(crate) fn release_binary_of(package: &str, binary: &str) -> Result<PathBuf, Failure> {
    cargo(&["build", "--release", "--locked", "--package", package, "--bin", binary])?;
    Ok(target().join("release").join(binary))
}

/// A program by name, or a file by its whole path.
fn is_installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Installs Python packages, such as `altcha==2.3.0`, into an environment of the build's own, if they are not there.
pub(crate) fn ensure_python(packages: &[&str]) -> Result<(), Failure> {
    let dir = target().join("python");
    let (python, stamp) = (dir.join("bin/python"), dir.join("installed"));
    let wanted = packages.join(" ");
    if python.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let (place, python) = (dir.display().to_string(), python.display().to_string());
    let make = || run("python3", &["-m", "venv", "--clear", &place]);
    // Debian's python3 comes without the part that makes environments.
    if make().is_err() {
        install(&["python3", "python3-venv"])?;
        make()?;
    }
    run(&python, &[&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"], packages].concat())?;
    Ok(std::fs::write(stamp, wanted)?)
}

/// Installs the Debian packages of those programs that are not there.
pub(crate) fn ensure_programs(programs: &[(&str, &str)]) -> Result<(), Failure> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    eprintln!("installing {}", packages.join(" "));
    run("apt-get", &["-q", "update"])?;
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(packages);
    run("apt-get", &args)
}

/// The same for packages whose services must not start only because they were installed.
pub(crate) fn ensure_services(programs: &[(&str, &str)]) -> Result<(), Failure> {
    // What the packages' scripts ask before they start anything (deb-systemd-invoke, invoke-rc.d).
    const POLICY: &str = "/usr/sbin/policy-rc.d";
    let all_there = programs.iter().all(|(program, _)| is_installed(program));
    if all_there || Path::new(POLICY).exists() {
        return ensure_programs(programs);
    }
    std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
    std::fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let installed = ensure_programs(programs);
    std::fs::remove_file(POLICY)?;
    installed
}
