//! `floodgate backup` and `restore`: a data directory as files, consistent although its server goes on writing.
//!
//! Each sale's snapshots are copied before its log, so that the log is never behind them; the log only grows, so a copy of it is
//! the log as it was at some moment, with at most one append cut at its end, of which nobody had been told when it was copied.

use super::print;
use crate::data::{self, partition_dir};
use crate::{CommandResult, Context};
use engines::embedded::open_read_only;
use sale::worker::recover;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// Where to: a directory that is not there yet, or empty
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
}

pub(crate) fn backup(context: &Context, args: &BackupArgs) -> CommandResult {
    copy(&context.data, &args.to, "backup")?;
    print(&format!("It holds the signing keys: keep {} as safe as the server itself.\n", args.to.display()));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> CommandResult {
    copy(&args.from, &context.data, "restore")?;
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &Path, what: &str) -> Result<(), Box<dyn std::error::Error>> {
    let failed = |path: &Path, error: io::Error| format!("{what} {}: {error}", path.display());
    let sales = data::sales(from)?;
    let occupied = fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(format!("{what} to {}: it is not empty; name a new directory", to.display()).into());
    }
    make_dir(to).map_err(|e| failed(to, e))?;
    let keys = from.join("keys");
    make_dir(&to.join("keys")).map_err(|e| failed(to, e))?;
    for file in files(&keys).map_err(|e| failed(&keys, e))? {
        copy_file(&keys.join(&file), &to.join("keys").join(&file))
            .map_err(|e| failed(&keys.join(&file), e))?;
    }
    make_dir(&to.join("sales")).map_err(|e| failed(to, e))?;
    for sale in sales {
        let (source, target) = (partition_dir(from, &sale), partition_dir(to, &sale));
        make_dir(&target).map_err(|e| failed(&target, e))?;
        copy_log(&source, &target).map_err(|e| failed(&source, e))?;
        sync_dir(&target).map_err(|e| failed(&target, e))?;
        let mut log = open_read_only(&target)?;
        let snapshot = log.latest_snapshot()?;
        let (core, _) = recover(&mut log, snapshot)?;
        print(&format!("{what}: sale {sale}: {} entries, replayed\n", core.sequence()));
    }
    for dir in [to.join("keys"), to.join("sales"), to.to_owned()] {
        sync_dir(&dir).map_err(|e| failed(&dir, e))?;
    }
    Ok(())
}

/// `snap-` before `seg-`: see above.
fn copy_log(source: &Path, target: &Path) -> io::Result<()> {
    for name in files(source)?.iter().filter(|name| name.starts_with("snap-")) {
        match copy_file(&source.join(name), &target.join(name)) {
            // It may be superseded between listing and copying.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    let mut copied = 0;
    loop {
        let segments = segments(source)?;
        for name in &segments[copied..] {
            copy_file(&source.join(name), &target.join(name))?;
        }
        if self::segments(source)?.len() == segments.len() {
            return Ok(());
        }
        // A segment has been begun meanwhile, so the one that was the last may have been copied before its end.
        copied = segments.len().saturating_sub(1);
    }
}

fn segments(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = files(dir)?;
    names.retain(|name| name.starts_with("seg-"));
    names.sort();
    Ok(names)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn files(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Copies a file with its permissions, leaving holes where there are only zeros (a segment is made at full length), durably.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode();
    let mut target = File::options().write(true).create(true).truncate(true).mode(mode).open(to)?;
    let mut block = vec![0; 1 << 20];
    let mut len = 0;
    loop {
        let count = source.read(&mut block)?;
        if count == 0 {
            break;
        }
        if block[..count].iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(len))?;
            target.write_all(&block[..count])?;
        }
        len += count as u64;
    }
    target.set_len(len)?;
    target.sync_all()
}
