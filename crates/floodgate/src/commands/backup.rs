//! `floodgate backup` and `restore`: copy a data directory consistently while its server goes on
//! writing.
//!
//! A sale's log is not copied as files, which the writer changes meanwhile, but read entry by
//! entry, checked, and written again: the copy ends with a whole entry, as of some moment after the
//! start of the copy. The message service's log, which may have lost its beginning, is copied as
//! files and then checked; from or to NATS, its entries with the snapshot before them.
//!
//! A backup is files wherever the logs are. A restored log comes to where the configuration says:
//! so a backup also moves logs from one engine to the other.

use super::print;
use crate::data::{
    self, has_log, has_notify_log, mark_complete, mark_incomplete, mark_notify_made, mark_sale_made,
    notify_dir, partition_dir,
};
use crate::logs::{Logs, NewLog, OpenLog, new_log_id};
use crate::{CommandResult, Context};
use contracts::Actor;
use data_encoding::HEXLOWER;
use engines::embedded::disk::{Disk, RealDisk, make_dir_durable};
use engines::embedded::{Checks, EmbeddedLog, Options, open_read_only};
use engines::log::{AppendError, Batch, Log, LogError, LogId, LogRead};
use notify::core::Notify;
use runtime::{Machine, recover, snapshot};
use sale::core::{Entry, Record};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use units::Sequence;
use web::secret::is_unfinished;

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
    // A backup is files: it needs no server.
    let logs = (&context.logs, &Logs::in_files());
    copy(&context.data, &args.to, logs, What::Backup)?;
    print(&format!("It holds the signing keys: keep {} as safe as the server itself.\n", args.to.display()));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> CommandResult {
    copy(&args.from, &context.data, (&Logs::in_files(), &context.logs), What::Restore)?;
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

fn copy(
    from: &Path,
    to: &Path,
    (logs_from, logs_to): (&Logs, &Logs),
    what: What,
) -> Result<(), Box<dyn std::error::Error>> {
    let failed = |path: &Path, error: io::Error| format!("{what} {}: {error}", path.display());
    // Before anything is made.
    data::sales(from)?;
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
        let files = files(&from).map_err(|e| failed(&from, e))?;
        copy_files(&from, &to, &files, dir == "operators/drafts").map_err(|(path, e)| failed(&path, e))?;
        sync_dir(&to).map_err(|e| failed(&to, e))?;
    }
    make_dir_durable(&to.join("sales")).map_err(|e| failed(to, e))?;
    // After the drafts: one that is published meanwhile is a sale before its draft is gone.
    let sales = data::sales(from)?;
    let mut moved = Vec::new();
    for sale in sales {
        if !has_log(from, &sale).map_err(|e| failed(from, e))? {
            print(&format!("{what}: sale {sale}: no log was begun, left out\n"));
            continue;
        }
        let (from, to_log) = (partition_dir(from, &sale), partition_dir(to, &sale));
        let Copied { last, from: old_id, to: new_id } = copy_log::<sale::core::Core>(
            (logs_from, &from),
            (logs_to, &to_log, sale.as_str()),
            what,
            |_, newest| Ok(vec![pause_after(newest)?]),
        )?;
        let followed_as = |id: LogId| crate::feed::followed_as(&sale, &HEXLOWER.encode(&id.0));
        // The copy of the sale may be older than what the message service was told of it.
        moved.push((followed_as(old_id), followed_as(new_id), last));
        mark_sale_made(to, &sale).map_err(|e| failed(to, e))?;
        print(&format!("{what}: sale {sale}: {last} entries, replayed\n"));
    }
    let of_notify = notify_dir(from);
    if has_notify_log(from).map_err(|e| failed(&of_notify, e))? {
        let is_in_files = logs_to.are_in_files() && logs_from.read(&of_notify)?.is_in_files();
        let last = match is_in_files {
            true => copy_messages(&of_notify, &notify_dir(to), what, &moved)?,
            false => {
                copy_messages_by_entry((logs_from, &of_notify), (logs_to, &notify_dir(to)), what, &moved)?
            }
        };
        mark_notify_made(to).map_err(|e| failed(to, e))?;
        print(&format!("{what}: message service: {last} entries, replayed\n"));
    }
    mark_complete(to).map_err(|e| failed(to, e))?;
    Ok(())
}

/// A log's copy: its last entry, and the ids of both logs.
struct Copied {
    last: Sequence,
    from: LogId,
    to: LogId,
}

/// Copies a log. `paused` makes the entries by which a restored machine stands
/// still, from its state and the newest entry.
fn copy_log<M: Machine>(
    (logs_from, from): (&Logs, &Path),
    (logs_to, to, of): (&Logs, &Path, &str),
    what: What,
    paused: impl FnOnce(&M, &[u8]) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>>,
) -> Result<Copied, Box<dyn std::error::Error>> {
    let mut source = logs_from.read(from)?;
    if source.first() > Sequence(1) {
        return Err(format!(
            "{}: its first entries were trimmed; copy it while its server is down",
            from.display()
        )
        .into());
    }
    make_dir_durable(to)?;
    // The entries that a restored log gets after its end differ from those that the lost log had
    // there: it gets an id of its own, by which stores that follow the log (the winners' feed)
    // notice.
    let log_id = match what {
        What::Backup => source.log_id(),
        What::Restore => new_log_id()?,
    };
    let new = NewLog { of, log_id, first: Sequence(1) };
    let OpenLog { log: mut copy, .. } = logs_to.make(to, &new, Checks::All)?;
    let newest = copy_entries(&mut source, &mut *copy)?;
    if what == What::Restore && !newest.is_empty() {
        let (machine, _) = recover::<M>(&mut *copy.reader(), None)?;
        append_all(&mut *copy, &paused(&machine, &newest)?)?;
    }
    // The copy's own snapshot: making it replays every entry, which verifies the backup.
    if copy.last() > Sequence(0) {
        snapshot::<M>(&mut *copy.reader(), &mut *copy.snapshots())?;
    }
    Ok(Copied { last: copy.last(), from: source.log_id(), to: log_id })
}

/// Copies the entries after those that the copy has; returns the newest.
fn copy_entries(source: &mut dyn LogRead, copy: &mut dyn Log) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    /// Entries appended, and synced, together; and bytes, after which no more are added.
    const TOGETHER: u64 = 8192;
    const BYTES_TOGETHER: usize = 2 << 20;
    let mut batch = Batch::default();
    let mut failed = None;
    let mut newest = Vec::new();
    source.read(copy.last().next(), &mut |_, entry| {
        batch.push(entry);
        newest.clear();
        newest.extend_from_slice(entry);
        if batch.count() < TOGETHER && batch.as_bytes().len() < BYTES_TOGETHER {
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
    Ok(newest)
}

fn append_all(copy: &mut dyn Log, entries: &[Vec<u8>]) -> Result<(), AppendError> {
    let mut batch = Batch::default();
    entries.iter().for_each(|entry| batch.push(entry));
    if batch.is_empty() { Ok(()) } else { copy.append(copy.last(), &batch).map(drop) }
}

/// Copies the log of the message service from one engine to another: its entries, as far as they
/// are kept, and the snapshot without which there is no way to the first of them.
fn copy_messages_by_entry(
    (logs_from, from): (&Logs, &Path),
    (logs_to, to): (&Logs, &Path),
    what: What,
    moved: &[(String, String, Sequence)],
) -> Result<Sequence, Box<dyn std::error::Error>> {
    let mut source = logs_from.read(from)?;
    let (first, log_id) = (source.first(), source.log_id());
    let begins_with = source.latest_snapshot()?.filter(|_| first > Sequence(1));
    make_dir_durable(to)?;
    let log_id = if what == What::Backup { log_id } else { new_log_id()? };
    let new = NewLog { of: "notify", log_id, first };
    let OpenLog { log: mut copy, .. } = logs_to.make(to, &new, Checks::SinceSnapshots)?;
    match copy_entries(&mut source, &mut *copy).map_err(|error| (error.downcast::<LogError>(), from)) {
        Err((Ok(trimmed), from)) if matches!(*trimmed, LogError::Trimmed { .. }) => {
            let advice = "its server trimmed it meanwhile: run this again into another directory";
            return Err(format!("{}: {advice}", from.display()).into());
        }
        Err((Ok(error), _)) => return Err(error),
        Err((Err(error), _)) => return Err(error),
        Ok(_) => {}
    }
    if let Some((at, bytes)) = begins_with {
        copy.snapshots().write(at, &bytes)?;
    }
    let (state, _) = recover::<Notify>(&mut *copy.reader(), copy.snapshots().latest()?)?;
    if what == What::Restore {
        let by = Actor::new(Actor::RESTORE, "restored from a backup");
        append_all(&mut *copy, &state.stand_still(&by, moved))?;
    }
    if copy.last() > Sequence(0) {
        snapshot::<Notify>(&mut *copy.reader(), &mut *copy.snapshots())?;
    }
    Ok(copy.last())
}

/// Copies the log of the message service, whose first entries may have been trimmed: its files, and
/// then what was copied is checked as a whole. While a server goes on writing, files come and go,
/// and it is begun anew.
fn copy_messages(
    from: &Path,
    to: &Path,
    what: What,
    moved: &[(String, String, Sequence)],
) -> Result<Sequence, Box<dyn std::error::Error>> {
    const TRIES: usize = 8;
    let mut tries = 1;
    let state = loop {
        match copy_log_files(from, to) {
            Ok(state) => break state,
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        fs::remove_dir_all(to)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
    };
    let report = open_read_only(to)?.report().clone();
    // What was under way at the end of the copy is cut off, as after a crash.
    let mut copy = EmbeddedLog::open_dir(to, Options::new(report.partition, report.log_id))?;
    if what == What::Restore {
        let by = Actor::new(Actor::RESTORE, "restored from a backup");
        append_all(&mut copy, &state.stand_still(&by, moved))?;
    }
    if copy.last() > Sequence(0) {
        snapshot::<Notify>(&mut *copy.reader(), &mut *copy.snapshots())?;
    }
    Ok(copy.last())
}

/// Copies the files of a log as they are at the moment, and recovers from the copy.
fn copy_log_files(from: &Path, to: &Path) -> Result<Notify, Box<dyn std::error::Error>> {
    make_dir_durable(to)?;
    let named = |extension: &str| {
        let mut names = files(from)?;
        names.retain(|name| name.ends_with(extension));
        names.sort_unstable();
        io::Result::Ok(names)
    };
    // A snapshot is older than the segments that are copied after it. Of those the older ones come
    // first: each proves that all before it are whole.
    for name in named(".snap")? {
        copy_file(&from.join(&name), &to.join(&name))?;
    }
    let mut copied: Vec<String> = Vec::new();
    loop {
        let missing: Vec<String> = named(".log")?.into_iter().filter(|name| !copied.contains(name)).collect();
        if missing.is_empty() {
            break;
        }
        // The newest one has grown and been closed since it was copied.
        if let Some(last) = copied.last() {
            fs::remove_file(to.join(last))?;
            copy_file(&from.join(last), &to.join(last))?;
        }
        for name in missing {
            copy_file(&from.join(&name), &to.join(&name))?;
            copied.push(name);
        }
    }
    sync_dir(to)?;
    let mut copy = open_read_only(to)?;
    let snapshot = copy.latest_snapshot()?;
    Ok(recover::<Notify>(&mut copy, snapshot)?.0)
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

/// Copies the listed files of a directory. Drafts come and go while the server runs: one that is
/// gone since it was listed is left out. Of other files none may be missing.
fn copy_files(
    from: &Path,
    to: &Path,
    names: &[String],
    are_drafts: bool,
) -> Result<(), (PathBuf, io::Error)> {
    for name in names {
        let source = from.join(name);
        // A copy must not bring a link back that was used meanwhile; nor has it a use for what is
        // being written at this moment, and gets its name later.
        if name == "sign-in.json" || is_unfinished(&source) {
            continue;
        }
        match copy_file(&source, &to.join(name)) {
            Err(error) if are_drafts && error.kind() == io::ErrorKind::NotFound => {}
            copied => copied.map_err(|error| (source, error))?,
        }
    }
    Ok(())
}

/// Copies a file with its permissions, durably. If it is not there, nothing is made.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode();
    let mut target = File::options().write(true).create_new(true).mode(mode).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_that_is_gone_since_it_was_listed_is_left_out_and_no_other_file_may_be() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        for name in ["gone.json", "kept.json", "kept.new-AbCdEfGh", "sign-in.json"] {
            fs::write(from.join(name), name).unwrap();
        }
        let listed = files(&from).unwrap();
        fs::remove_file(from.join("gone.json")).unwrap();
        fs::remove_file(from.join("kept.new-AbCdEfGh")).unwrap();
        copy_files(&from, &to, &listed, true).unwrap();
        assert_eq!(files(&to).unwrap(), ["kept.json"]);
        fs::remove_file(to.join("kept.json")).unwrap();
        let (path, error) = copy_files(&from, &to, &listed, false).unwrap_err();
        assert_eq!((path, error.kind()), (from.join("gone.json"), io::ErrorKind::NotFound));
    }
}
