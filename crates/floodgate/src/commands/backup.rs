//! `floodgate backup` and `restore`: copy a data directory consistently while its server goes on
//! writing.
//!
//! A log is not copied as files, which the writer changes meanwhile, but read entry by entry,
//! checked, and written again: the copy ends with a whole entry, as of some moment after the start
//! of the copy.

use super::print;
use crate::data::{self, has_log, mark_complete, mark_incomplete, mark_sale_made, partition_dir};
use crate::{CommandResult, Context};
use contracts::Actor;
use engines::embedded::disk::{Disk, RealDisk, make_dir_durable};
use engines::embedded::{EmbeddedLog, Options, open_read_only};
use engines::log::{Batch, Log, LogRead};
use runtime::snapshot;
use sale::core::{Entry, Record};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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
    copy(&context.data, &args.to, What::Backup)?;
    print(&format!("It holds the signing keys: keep {} as safe as the server itself.\n", args.to.display()));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> CommandResult {
    copy(&args.from, &context.data, What::Restore)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Backup,
    Restore,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Backup { "backup" } else { "restore" })
    }
}

fn copy(from: &Path, to: &Path, what: What) -> Result<(), Box<dyn std::error::Error>> {
    let failed = |path: &Path, error: io::Error| format!("{what} {}: {error}", path.display());
    let sales = data::sales(from)?;
    let occupied = fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(format!("{what} to {}: it is not empty; name a new directory", to.display()).into());
    }
    mark_incomplete(to).map_err(|e| failed(to, e))?;
    // Held until the end, so that a server that starts here meanwhile is refused.
    let lock = RealDisk::existing(to).lock().map_err(|e| failed(to, e))?;
    if lock.is_none() {
        return Err(format!("{what} to {}: another process has it open", to.display()).into());
    }
    // The operators' orders to the gate exist only once they have given any.
    let dirs = ["keys", "operators", "operators/drafts"];
    for dir in dirs.into_iter().filter(|dir| *dir == "keys" || from.join(dir).exists()) {
        let (from, to) = (from.join(dir), to.join(dir));
        make_dir_durable(&to).map_err(|e| failed(&to, e))?;
        for file in files(&from).map_err(|e| failed(&from, e))? {
            // A copy must not bring a link back that was used meanwhile.
            if file == "sign-in.json" {
                continue;
            }
            copy_file(&from.join(&file), &to.join(&file)).map_err(|e| failed(&from.join(&file), e))?;
        }
        sync_dir(&to).map_err(|e| failed(&to, e))?;
    }
    make_dir_durable(&to.join("sales")).map_err(|e| failed(to, e))?;
    for sale in sales {
        if !has_log(from, &sale).map_err(|e| failed(from, e))? {
            print(&format!("{what}: sale {sale}: no log was begun, left out\n"));
            continue;
        }
        let last = copy_log(&partition_dir(from, &sale), &partition_dir(to, &sale), what)?;
        mark_sale_made(to, &sale).map_err(|e| failed(to, e))?;
        print(&format!("{what}: sale {sale}: {last} entries, replayed\n"));
    }
    mark_complete(to).map_err(|e| failed(to, e))?;
    Ok(())
}

/// Returns the copy's last entry.
fn copy_log(from: &Path, to: &Path, what: What) -> Result<Sequence, Box<dyn std::error::Error>> {
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
    make_dir_durable(to)?;
    let partition = source.report().partition;
    // The entries that a restored log gets after its end differ from those that the lost log had
    // there: it gets an id of its own, by which stores that follow the log (the winners' feed)
    // notice.
    let log_id = match what {
        What::Backup => source.report().log_id,
        What::Restore => data::new_log_id()?,
    };
    let mut copy = EmbeddedLog::open_dir(to, Options::new(partition, log_id))?;
    let mut batch = Batch::default();
    let mut failed = None;
    let mut newest = Vec::new();
    source.read(Sequence(1), &mut |_, entry| {
        batch.push(entry);
        newest.clear();
        newest.extend_from_slice(entry);
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
    if what == What::Restore && !newest.is_empty() {
        batch.push(&pause_after(&newest)?);
    }
    if !batch.is_empty() {
        copy.append(copy.last(), &batch)?;
    }
    // The copy's own snapshot: making it replays every entry, which verifies the backup.
    if copy.last() > Sequence(0) {
        snapshot::<sale::core::Core>(&mut *copy.reader(), &mut *copy.snapshots())?;
    }
    Ok(copy.last())
}

/// The pause of a restored copy: two servers that both sell the same stock would promise it twice.
/// An operator resumes it, and says by that that the server which the backup is of is gone for
/// good.
fn pause_after(newest: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let at = Entry::decode(newest).map_err(|error| format!("the backup's last entry: {error}"))?.at;
    let by = Actor::new(Actor::RESTORE, "restored from a backup");
    let mut pause = Vec::new();
    Record::Paused { by }.encode(at, &mut pause);
    Ok(pause)
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
