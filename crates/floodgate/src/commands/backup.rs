//! `floodgate backup` and `restore`: a data directory as files, consistent although its server goes on writing.
//!
//! A log is not copied as files, which the writer changes meanwhile, but read entry by entry, each checked, and written anew:
//! the copy ends with an entry that was whole, at some moment after the beginning.

use super::print;
use crate::data::{self, partition_dir};
use crate::{CommandResult, Context};
use engines::embedded::{EmbeddedLog, Options, open_read_only};
use engines::log::{Batch, Log, LogRead};
use sale::service::snapshot;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use units::Sequence;

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
        let last = copy_log(&partition_dir(from, &sale), &partition_dir(to, &sale))?;
        print(&format!("{what}: sale {sale}: {last} entries, replayed\n"));
    }
    for dir in [to.join("keys"), to.join("sales"), to.to_owned()] {
        sync_dir(&dir).map_err(|e| failed(&dir, e))?;
    }
    Ok(())
}

/// Returns the copy's last entry.
fn copy_log(from: &Path, to: &Path) -> Result<Sequence, Box<dyn std::error::Error>> {
    /// Entries appended, and synced, together.
    const TOGETHER: u64 = 8192;
    let mut source = open_read_only(from)?;
    if source.first() > Sequence(1) {
        return Err(format!(
            "{}: its first entries were trimmed; copy it while its server is down",
            from.display()
        )
        .into());
    }
    make_dir(to)?;
    let (partition, log_id) = (source.report().partition, source.report().log_id);
    let mut copy = EmbeddedLog::open_dir(to, Options::new(partition, log_id))?;
    let mut batch = Batch::default();
    let mut failed = None;
    source.read(Sequence(1), &mut |_, entry| {
        batch.push(entry);
        if batch.count() < TOGETHER {
            return ControlFlow::Continue(());
        }
        let appended = copy.append(copy.last(), &batch);
        batch.clear();
        match appended {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if !batch.is_empty() {
        copy.append(copy.last(), &batch)?;
    }
    // A snapshot of the copy's own: it is made by replaying every entry, which is what a backup is for.
    if copy.last() > Sequence(0) {
        snapshot(&mut *copy.reader(), &mut *copy.snapshots())?;
    }
    Ok(copy.last())
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

/// Copies a file with its permissions, durably.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mode = fs::metadata(from)?.permissions().mode();
    let mut target = File::options().write(true).create_new(true).mode(mode).open(to)?;
    io::copy(&mut File::open(from)?, &mut target)?;
    target.sync_all()
}
