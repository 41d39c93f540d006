//! The data directory: the place of each file in it, and who may open it.
//!
//! ```text
//! DIR/INCOMPLETE       a backup or a restore is under way here, or was cut off: not to be served
//! DIR/LOCK             held by the one process that writes
//! DIR/keys/            the master secret, the token secret, the operators' hashed keys
//! DIR/gates/socket     where gates in processes of their own ask, while this one runs
//! DIR/operators/       what operators have ordered: networks that are denied, the strategy
//! DIR/challenges/      what the gate keeps of used challenges
//! DIR/sales/SALE/made  the sale has a log: one that is gone is not taken for a new sale
//! DIR/sales/SALE/sold-out  there while the sale is sold out, for a web server in front
//! DIR/sales/SALE/p0/   the decision log of the sale's partition 0, with its snapshots; or a note
//!                      of the stream on NATS that it is in
//! DIR/operators/drafts/  sales that are not public yet
//! DIR/notify/made      the message service has a log, as for a sale
//! DIR/notify/p0/       the log of the message service, with its snapshots
//! DIR/sales/.unfinished/  sales that are being made or deleted; emptied at the start
//! ```
//!
//! A sale comes to its place and leaves it by one rename, so a crash leaves all of it or nothing.
//! No rename leads from one file system to another, and `sales/` may be a mount of its own: so what
//! is unfinished lies inside it.

use crate::logs::{self, KeptLog, Logs, NewLog, OpenLog, new_log_id};
use contracts::SaleId;
use engines::embedded::Checks;
use engines::embedded::disk::{Disk, RealDisk, make_dir_durable};
use engines::log::LogError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};
use units::Sequence;

/// A data directory that this process may write to.
#[derive(Debug)]
pub(crate) struct Data {
    dir: PathBuf,
    logs: Logs,
    _lock: <RealDisk as Disk>::Lock,
}

fn io_error(doing: String) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { doing, source }
}

impl Data {
    /// Creates the directory if it does not exist, and locks it. A second process is refused.
    pub(crate) fn open(dir: &Path, logs: Logs) -> Result<Self, LogError> {
        let doing = || format!("open data directory {}", dir.display());
        let disk = RealDisk::create(dir).map_err(io_error(doing()))?;
        refuse_incomplete(dir)?;
        make_dir_durable(&dir.join("sales")).map_err(io_error(doing()))?;
        match disk.lock().map_err(io_error(doing()))? {
            Some(lock) => {
                // Checked again: a restore may have begun before the lock was taken.
                refuse_incomplete(dir)?;
                let data = Self { dir: dir.to_owned(), logs, _lock: lock };
                data.clear_up();
                Ok(data)
            }
            None => Err(LogError::InUse { what: dir.display().to_string() }),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The sales that have a log here.
    pub(crate) fn sales(&self) -> Result<Vec<SaleId>, LogError> {
        sales(&self.dir)
    }

    /// Removes what an earlier process left unfinished. What cannot be removed does no harm.
    fn clear_up(&self) {
        let cannot = |what: &Path, error: io::Error| {
            tracing::warn!(what = %what.display(), %error, "what an earlier process left unfinished cannot be removed: do it by hand");
        };
        // Earlier builds had it beside `sales/`.
        for unfinished in [self.dir.join("sales").join(UNFINISHED), self.dir.join("unfinished")] {
            for sale in fs::read_dir(&unfinished).into_iter().flatten().flatten() {
                if let Err(error) = self.remove_sale(&sale.path()) {
                    cannot(&sale.path(), error);
                }
            }
            // Empty, or kept for what could not be removed.
            let _ = fs::remove_dir(&unfinished);
        }
        for dir in ["keys", "operators", "operators/drafts"] {
            let dir = self.dir.join(dir);
            if let Err(error) = web::secret::remove_unfinished(&dir) {
                cannot(&dir, error);
            }
        }
        // Earlier builds made a sale's directory before its log.
        for sale in self.sales().unwrap_or_default() {
            if made_marker(&self.dir, &sale).exists() || has_log(&self.dir, &sale).unwrap_or(true) {
                continue;
            }
            match self.take_away(&sale) {
                Ok(()) => tracing::warn!(%sale, "the directory of a sale that never had a log was removed"),
                Err(error) => cannot(&self.sale_dir(&sale), error),
            }
        }
    }

    fn sale_dir(&self, sale: &SaleId) -> PathBuf {
        self.dir.join("sales").join(sale.as_str())
    }

    fn unfinished_dir(&self, sale: &SaleId) -> PathBuf {
        self.dir.join("sales").join(UNFINISHED).join(sale.as_str())
    }

    /// Begins a log for a sale that has none, in a place that is not searched for sales.
    pub(crate) fn begin_log(&self, sale: &SaleId) -> Result<OpenLog, LogError> {
        let dir = self.unfinished_dir(sale);
        let failed = || format!("create {}", dir.display());
        self.remove_sale(&dir).map_err(io_error(failed()))?;
        make_dir_durable(&dir).map_err(io_error(failed()))?;
        let new = NewLog { of: sale.as_str(), log_id: new_log_id()?, first: Sequence(1) };
        self.logs.make(&dir.join("p0"), &new, Checks::All)
    }

    /// Removes a sale that is in none of the places where sales are looked for. Its directory goes
    /// last: it knows what else there is to remove.
    fn remove_sale(&self, dir: &Path) -> io::Result<()> {
        if dir.join("p0").exists() {
            self.logs
                .remove_outside(&dir.join("p0"))
                .map_err(|error| io::Error::other(crate::with_causes(&error)))?;
        }
        remove_tree(dir)
    }

    /// Moves a sale whose log was begun to where sales are looked for, durably.
    pub(crate) fn put_in_place(&self, sale: &SaleId) -> io::Result<()> {
        let (from, to) = (self.unfinished_dir(sale), self.sale_dir(sale));
        mark_made(&from.join("made"))?;
        self.rename(&from, &to)?;
        self.forget_unfinished();
        Ok(())
    }

    /// Whether there is anything of this name where sales are looked for.
    pub(crate) fn has(&self, sale: &SaleId) -> bool {
        self.sale_dir(sale).exists()
    }

    /// Moves a sale away from where sales are looked for, durably, and removes its files.
    pub(crate) fn take_away(&self, sale: &SaleId) -> io::Result<()> {
        let away = self.unfinished_dir(sale);
        self.remove_sale(&away)?;
        make_dir_durable(&self.dir.join("sales").join(UNFINISHED))?;
        self.rename(&self.sale_dir(sale), &away)?;
        self.abandon(sale);
        Ok(())
    }

    /// Removes a sale that was begun or taken away. What is left of it is removed at the next
    /// start.
    pub(crate) fn abandon(&self, sale: &SaleId) {
        let dir = self.unfinished_dir(sale);
        if let Err(error) = self.remove_sale(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "files of an unfinished or deleted sale are left: the next start removes them");
        }
        self.forget_unfinished();
    }

    /// Removes the place for unfinished sales if it is empty: to earlier builds it is a foreign
    /// directory.
    fn forget_unfinished(&self) {
        let _ = fs::remove_dir(self.dir.join("sales").join(UNFINISHED));
    }

    /// Moves a directory, durably. After an error it is where it was, as far as anybody can see.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Opened first, so that nothing is moved when no more files can be opened.
        let dirs = [from, to].into_iter().filter_map(Path::parent).map(fs::File::open);
        let dirs = dirs.collect::<io::Result<Vec<_>>>()?;
        fs::rename(from, to)?;
        dirs.iter().try_for_each(fs::File::sync_all).inspect_err(|_| {
            if let Err(error) = fs::rename(to, from) {
                tracing::error!(from = %to.display(), to = %from.display(), %error, "move back: failed");
            }
        })
    }

    /// Opens the message service's log for writing, and makes it at the first start.
    pub(crate) fn open_notify_log(&self) -> Result<OpenLog, LogError> {
        let dir = notify_dir(&self.dir);
        make_dir_durable(&dir).map_err(io_error(format!("create {}", dir.display())))?;
        // It may have many gigabytes.
        self.open_or_make_log(&dir, "notify", &notify_marker(&self.dir), Checks::SinceSnapshots)
    }

    /// Opens a sale's log for writing.
    pub(crate) fn open_log(&self, sale: &SaleId) -> Result<OpenLog, LogError> {
        let dir = partition_dir(&self.dir, sale);
        // Syncs the sale's own name too, although its directory may exist: an earlier start may
        // have been killed before it synced it.
        let sale_dir = self.sale_dir(sale);
        for dir in [&sale_dir, &dir] {
            make_dir_durable(dir).map_err(io_error(format!("create {}", dir.display())))?;
        }
        self.open_or_make_log(&dir, sale.as_str(), &made_marker(&self.dir, sale), Checks::All)
    }

    /// Opens a sale's log to read it, beside its writer.
    pub(crate) fn read_log(&self, sale: &SaleId) -> Result<KeptLog, LogError> {
        self.logs.read(&partition_dir(&self.dir, sale))
    }

    /// Opens a log, or makes it if `made` does not say that it was made before.
    fn open_or_make_log(
        &self,
        dir: &Path,
        of: &str,
        made: &Path,
        checks: Checks,
    ) -> Result<OpenLog, LogError> {
        let log = self.logs.open(dir, of, made.exists(), checks)?;
        mark_made(made).map_err(io_error(format!("create {}", made.display())))?;
        Ok(log)
    }
}

/// Whether the message service has a log here. A server that is starting may be making it at this
/// moment: that is waited for.
pub(crate) fn has_notify_log(dir: &Path) -> io::Result<bool> {
    const MADE_WITHIN: Duration = Duration::from_secs(5);
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let (of_notify, began) = (notify_dir(dir), Instant::now());
    while logs::has_log(&of_notify)? && !notify_marker(dir).exists() && began.elapsed() < MADE_WITHIN {
        std::thread::sleep(LOOK_EVERY);
    }
    logs::has_log(&of_notify)
}

/// The log of the message service.
pub(crate) fn notify_dir(dir: &Path) -> PathBuf {
    dir.join("notify").join("p0")
}

/// Where sales are while they are made or deleted, in the directory of the sales: no sale has such
/// a name.
const UNFINISHED: &str = ".unfinished";

/// Removes a directory with all that is in it, if it exists.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Marks a directory whose contents are not complete yet.
const INCOMPLETE: &str = "INCOMPLETE";

/// Marks a directory that is being filled: no command accepts it as a data directory until
/// [`mark_complete`].
pub(crate) fn mark_incomplete(dir: &Path) -> io::Result<()> {
    make_dir_durable(dir)?;
    fs::write(
        dir.join(INCOMPLETE),
        "A floodgate backup or restore is being written here. If none is running, it was cut off.\n",
    )?;
    fs::File::open(dir)?.sync_all()
}

/// Removes the mark, once all else is durable.
pub(crate) fn mark_complete(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()?;
    fs::remove_file(dir.join(INCOMPLETE))?;
    fs::File::open(dir)?.sync_all()
}

/// A partial copy looks like a data directory whose sales have sold less, or are gone.
fn refuse_incomplete(dir: &Path) -> Result<(), LogError> {
    let mark = dir.join(INCOMPLETE);
    if !mark.exists() {
        return Ok(());
    }
    let why = "a backup or restore into this directory is under way or was cut off, so entries and sales are missing: \
               empty the directory and run it again"
        .into();
    Err(LogError::Foreign { file: mark.display().to_string(), why })
}

/// The file that exists while a sale is sold out.
pub(crate) fn sold_out_file(dir: &Path, sale: &SaleId) -> PathBuf {
    dir.join("sales").join(sale.as_str()).join("sold-out")
}

/// The file that marks that a sale has a log.
fn made_marker(dir: &Path, sale: &SaleId) -> PathBuf {
    dir.join("sales").join(sale.as_str()).join("made")
}

/// The same for the message service.
fn notify_marker(dir: &Path) -> PathBuf {
    dir.join("notify").join("made")
}

/// As [`mark_made`], for the copy of a sale in another directory.
pub(crate) fn mark_sale_made(dir: &Path, sale: &SaleId) -> io::Result<()> {
    mark_made(&made_marker(dir, sale))
}

/// The same for the copy of the message service.
pub(crate) fn mark_notify_made(dir: &Path) -> io::Result<()> {
    mark_made(&notify_marker(dir))
}

/// True if a sale's log was begun: a crash may come between its directory and its first segment.
pub(crate) fn has_log(dir: &Path, sale: &SaleId) -> io::Result<bool> {
    logs::has_log(&partition_dir(dir, sale))
}

/// Durable before the log's first entry can be, for it is made before any request can arrive.
fn mark_made(path: &Path) -> io::Result<()> {
    // Opened first, so that nothing is made when no more files can be opened.
    let names = fs::File::open(path.parent().unwrap_or(Path::new(".")))?;
    match fs::File::options().write(true).create_new(true).open(path) {
        Ok(file) => {
            let synced = file.sync_all().and_then(|()| names.sync_all());
            synced.inspect_err(|_| drop(fs::remove_file(path)))
        }
        // An earlier start may have been killed before it synced the name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => names.sync_all(),
        Err(error) => Err(error),
    }
}

/// The sales that have a log under this data directory, in order.
pub(crate) fn sales(dir: &Path) -> Result<Vec<SaleId>, LogError> {
    refuse_incomplete(dir)?;
    let path = dir.join("sales");
    let mut sales = Vec::new();
    let entries = fs::read_dir(&path).map_err(io_error(format!("list {}", path.display())))?;
    for entry in entries {
        let name = entry.map_err(io_error(format!("list {}", path.display())))?.file_name();
        // The root of a file system of its own may have the other one.
        if name == UNFINISHED || name == "lost+found" {
            continue;
        }
        match name.to_str().map(str::parse) {
            Some(Ok(sale)) => sales.push(sale),
            _ => {
                let file = path.join(&name).display().to_string();
                return Err(LogError::Foreign { file, why: "its name is no sale's".into() });
            }
        }
    }
    sales.sort();
    Ok(sales)
}

/// The sale that is wanted, or the only one that there is.
pub(crate) fn one_sale(command: &str, dir: &Path, wanted: Option<&SaleId>) -> Result<SaleId, String> {
    let sales = sales(dir).map_err(|error| format!("{command}: {error}"))?;
    let names = || sales.iter().map(SaleId::as_str).collect::<Vec<_>>().join(", ");
    match (wanted, &sales[..]) {
        (Some(wanted), _) if sales.contains(wanted) => Ok(wanted.clone()),
        (_, []) => Err(format!("{command} {}: there is no sale in it", dir.display())),
        (Some(wanted), _) => {
            Err(format!("{command} {}: there is no sale {wanted}; there are: {}", dir.display(), names()))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(format!("{command} {}: name one with --sale: {}", dir.display(), names())),
    }
}

/// The directory of the log of a sale's only partition.
pub(crate) fn partition_dir(dir: &Path, sale: &SaleId) -> PathBuf {
    dir.join("sales").join(sale.as_str()).join("p0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_messages_that_is_being_made_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_notify_log(dir.path()).unwrap());
        fs::create_dir_all(notify_dir(dir.path())).unwrap();
        assert!(!has_notify_log(dir.path()).unwrap());
        fs::write(notify_dir(dir.path()).join("seg-00000000000000000001.log"), "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                mark_notify_made(dir.path()).unwrap();
            });
            assert!(has_notify_log(dir.path()).unwrap());
            assert!(notify_marker(dir.path()).exists());
        });
    }
}
