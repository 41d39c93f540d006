//! Plants bugs one at a time and shows that the simulator, or the model checker of schedules,
//! catches each.
//!
//! A checker that passes everything looks like a program without bugs. So the checker is checked:
//! every patch breaks one promise in the production code, and a run must fail for it.
#![expect(clippy::print_stdout, reason = "printing is what such a program is for")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;
use std::{env, fs, io};

/// A bug that is not caught within this many seeds counts as missed.
const SEEDS: u64 = 500;

/// What must fail for a bug.
#[derive(Debug, Clone, Copy)]
pub enum Checked {
    /// A program of the package, which runs seeds.
    Seeds(&'static str),
    /// Tests of the package: the binary, and a part of their names.
    Tests(&'static str, &'static str),
}

/// The planted bugs of one system.
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// The package that checks the system, and its folder.
    pub package: &'static str,
    pub folder: &'static str,
    pub checked: Checked,
    /// The folder of the patches.
    pub patches: &'static str,
    /// Many times the duration of a run without a bug.
    pub run_seconds_max: u32,
    /// The members of the workspace from which the program is built.
    pub members: &'static [&'static str],
    /// Other folders with what these read.
    pub others: &'static [&'static str],
}

/// The result for one planted bug.
enum Fate {
    /// The seed, if the simulator could still name it, and its message.
    Caught {
        seed: Option<u64>,
        how: String,
    },
    Survived,
    /// The patch does not apply, or the patched code does not build.
    Unusable(String),
}

/// The whole program. Its first argument is a part of the names of the patches that are tried.
pub fn main(planted: &Planted) -> ExitCode {
    match run(planted, env::args().nth(1).as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("mutants: {error}");
            ExitCode::from(2)
        }
    }
}

/// Tries every patch, or those whose name contains `only`; true if all were caught.
fn run(planted: &Planted, only: Option<&str>) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or(io::ErrorKind::NotFound)?;
    let place = root.join("target/mutants").join(planted.package);
    copy_workspace(planted, root, &place.join("src"))?;
    let mut patches: Vec<PathBuf> = fs::read_dir(root.join(planted.patches))?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension() == Some(OsStr::new("patch")))
        .filter(|path| only.is_none_or(|only| stem(path).contains(only)))
        .collect();
    patches.sort();

    // Without a bug it must build and pass, otherwise catching proves nothing.
    match try_one(planted, &place, None)? {
        Fate::Survived => println!("no bug planted: passes"),
        Fate::Caught { how, .. } | Fate::Unusable(how) => {
            println!("no bug planted, and yet: {how}");
            return Ok(false);
        }
    }
    let mut failed = 0;
    for patch in &patches {
        let started = Instant::now();
        let fate = try_one(planted, &place, Some(patch))?;
        let verdict = match &fate {
            Fate::Caught { seed: Some(seed), how } => format!("caught at seed {seed}: {how}"),
            Fate::Caught { seed: None, how } => format!("caught: {how}"),
            Fate::Survived => "SURVIVED".to_owned(),
            Fate::Unusable(why) => format!("UNUSABLE: {why}"),
        };
        failed += usize::from(!matches!(fate, Fate::Caught { .. }));
        println!("{:34} {:3} s  {verdict}", stem(patch), started.elapsed().as_secs());
    }
    println!("{} passed, {failed} failed", patches.len() - failed);
    Ok(failed == 0)
}

fn stem(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Plants a bug, builds, runs, and takes it out again.
fn try_one(planted: &Planted, place: &Path, patch: Option<&Path>) -> io::Result<Fate> {
    let src = place.join("src");
    if let Some(patch) = patch {
        let applied = apply(&src, patch, false)?;
        if !applied.status.success() {
            return Ok(Fate::Unusable(last_line(&applied.stderr)));
        }
        if !String::from_utf8_lossy(&applied.stderr).contains("cleanly") {
            return Ok(Fate::Unusable("changes nothing".to_owned()));
        }
    }
    let fate = build_and_run(planted, place)?;
    if let Some(patch) = patch
        && !apply(&src, patch, true)?.status.success()
    {
        return Ok(Fate::Unusable("cannot be taken out again".to_owned()));
    }
    Ok(fate)
}

fn apply(src: &Path, patch: &Path, reverse: bool) -> io::Result<Output> {
    let mut git = Command::new("git");
    // The copy is not a repository, and must not be taken for a part of the one around it: there
    // `git apply` would silently skip every file.
    let above = src.parent().unwrap_or(src);
    git.current_dir(src).env("GIT_CEILING_DIRECTORIES", above).args(["apply", "--verbose"]);
    if reverse {
        git.arg("--reverse");
    }
    git.arg(patch).output()
}

fn build_and_run(planted: &Planted, place: &Path) -> io::Result<Fate> {
    let target = place.join("target");
    let (package, target_of) = (
        planted.package,
        match planted.checked {
            Checked::Seeds(program) => ["--bin", program],
            Checked::Tests(binary, _) => ["--test", binary],
        },
    );
    let verb: &[&str] = match planted.checked {
        Checked::Seeds(_) => &["build"],
        Checked::Tests(..) => &["test", "--no-run"],
    };
    let build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(place.join("src"))
        .args(verb)
        .args(["--release", "--package", package, "--target-dir"])
        .arg(&target)
        .args(target_of)
        // Built many times and run for seconds each: build time is what counts.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
        .env("CARGO_PROFILE_RELEASE_PANIC", "unwind")
        .env("CARGO_INCREMENTAL", "1")
        .output()?;
    if !build.status.success() {
        let errors = String::from_utf8_lossy(&build.stderr);
        let first = errors.lines().find(|line| line.starts_with("error")).unwrap_or("does not build");
        return Ok(Fate::Unusable(first.to_owned()));
    }
    let complained = String::from_utf8_lossy(&build.stderr);
    let mut run = Command::new("timeout");
    run.arg(planted.run_seconds_max.to_string());
    match planted.checked {
        Checked::Seeds(program) => {
            run.arg(target.join("release").join(program)).args(["--seeds", &SEEDS.to_string()]);
        }
        // Cargo names the binary, whose name has a hash.
        Checked::Tests(_, tests) => {
            let named = complained.lines().filter_map(|line| line.split_once("Executable ")).next_back();
            let path = named.and_then(|(_, rest)| rest.split_once('(')?.1.strip_suffix(')'));
            run.arg(place.join("src").join(path.unwrap_or_default())).arg(tests);
            // Where cargo would run it.
            run.current_dir(place.join("src").join(planted.folder));
        }
    }
    let run = run.args(env::args().skip(2)).output()?;
    if run.status.success() {
        return Ok(Fate::Survived);
    }
    // The exit code of `timeout`: a bug that makes the system loop for ever counts as caught, like
    // one that makes it fail.
    if run.status.code() == Some(124) {
        let how = format!("does not end within {} s", planted.run_seconds_max);
        return Ok(Fate::Caught { seed: None, how });
    }
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    let seed = said.lines().chain(complained.lines()).find_map(|line| {
        let rest = line.strip_prefix("seed ")?;
        rest.split_once(' ')?.0.parse().ok()
    });
    let how = said.lines().find_map(|line| line.trim_start().strip_prefix("FAILED: "));
    let panicked = complained.lines().find(|line| line.contains("panicked"));
    // A test says in the next line why it has.
    let mut lines = said.lines().chain(complained.lines()).skip_while(|line| !line.contains("panicked at"));
    let test_said = lines.nth(1).filter(|_| matches!(planted.checked, Checked::Tests(..)));
    let how = how.or(test_said).or(panicked).unwrap_or("died without a word").chars().take(150).collect();
    Ok(Fate::Caught { seed, how })
}

fn last_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().last().unwrap_or("no reason given").to_owned()
}

/// Brings the copy up to date. Unchanged files keep their time, so that cargo builds only what
/// differs.
fn copy_workspace(planted: &Planted, root: &Path, to: &Path) -> io::Result<()> {
    // The members of `sim` are in its folder.
    for part in planted.members.iter().chain(planted.others).filter(|member| !member.starts_with("sim/")) {
        copy_tree(&root.join(part), &to.join(part))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let trimmed = manifest.lines().map(|line| match line.split_once(" = ") {
        Some(("members", _)) => format!("members = {:?}\n", planted.members),
        Some(("default-members", _)) => format!("default-members = [{:?}]\n", planted.folder),
        _ => format!("{line}\n"),
    });
    write_if_changed(&to.join("Cargo.toml"), trimmed.collect::<String>().as_bytes())?;
    write_if_changed(&to.join("Cargo.lock"), &fs::read(root.join("Cargo.lock"))?)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            write_if_changed(&target, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) { Ok(()) } else { fs::write(path, bytes) }
}
