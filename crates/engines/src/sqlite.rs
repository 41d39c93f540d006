//! SQLite behind the SQL port: a file in WAL mode, one thread that writes, and some that read.
//!
//! The writing thread takes what waits, runs each transaction within a savepoint, and commits all
//! of them with one sync of the disk (group commit). A caller has its answer after that sync.

use crate::sql::{Cell, Cells, Engine, Job, Kind, Param, Row, Sql, SqlError, Statements, Tx, Verdict};
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter, types::ValueRef};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

pub mod in_line;

/// Transactions that may wait, of each kind.
const QUEUE_MAX: usize = 1024;
/// Threads that read, each with a connection.
const READERS: usize = 2;
/// Transactions that are committed together, and how long the first of them waits for the others.
const GROUP_MAX: usize = 128;
const GROUP_FOR: Duration = Duration::from_millis(5);
/// How long a transaction may take.
const TRANSACTION_MAX: Duration = Duration::from_secs(5);
/// Instructions of SQLite's machine between two looks at the clock.
const LOOK_EVERY: i32 = 10_000;
/// Statements that each connection keeps prepared.
const PREPARED_MAX: usize = 128;
/// Bytes of a row or of a text of SQL.
const LENGTH_MAX: i32 = 16 << 20;

/// Opens the database in this file, or makes it. It stays open until the last clone of the answer
/// is dropped and all transactions have ended.
pub fn open(path: &Path) -> Result<Sql, SqlError> {
    // Only its owner may read it. The files beside it get the same mode.
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|error| of_io(path, &error))?;
    let (writes, to_write) = sync_channel(QUEUE_MAX);
    let (reads, to_read) = sync_channel(QUEUE_MAX);
    let writer = Reopened::open(path, false)?;
    start("sql-write", move || write_all(writer, &to_write))?;
    let to_read = Arc::new(Mutex::new(to_read));
    for _ in 0..READERS {
        let (reader, to_read) = (Reopened::open(path, true)?, Arc::clone(&to_read));
        start("sql-read", move || read_all(reader, &to_read))?;
    }
    Ok(Sql::new(Arc::new(Sqlite { writes, reads })))
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SqlError> {
    match thread::Builder::new().name(name.into()).spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(SqlError::Shortage(format!("start a thread: {error}"))),
    }
}

/// A transaction, and whether it may take as long as it needs.
type Asked = (Box<dyn Job>, bool);

struct Sqlite {
    writes: SyncSender<Asked>,
    reads: SyncSender<Asked>,
}

impl Engine for Sqlite {
    fn submit(&self, job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError> {
        let queue = if kind.is_read() { &self.reads } else { &self.writes };
        queue.try_send((job, kind == Kind::Schema)).map_err(|error| match error {
            TrySendError::Full(_) => SqlError::Busy,
            TrySendError::Disconnected(_) => SqlError::Defect("the database's thread has ended".into()),
        })
    }
}

/// A connection, with the time at which its transaction is stopped.
struct Open {
    connection: Connection,
    started: Instant,
    /// Milliseconds after `started`; 0 is none.
    stop_at: Arc<AtomicU64>,
}

impl Open {
    fn at(path: &Path, is_reader: bool) -> Result<Self, rusqlite::Error> {
        let access =
            if is_reader { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let mut connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(TRANSACTION_MAX)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        if !is_reader {
            let mode: String =
                connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            debug_assert_eq!(mode, "wal");
            connection.pragma_update(None, "synchronous", "full")?;
            // What a large transaction has made of the log is given back.
            connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        }
        let (started, stop_at) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let watched = Arc::clone(&stop_at);
        let is_late = move || match watched.load(Relaxed) {
            0 => false,
            at => started.elapsed().as_millis() as u64 > at,
        };
        connection.progress_handler(LOOK_EVERY, Some(is_late))?;
        Ok(Self { connection, started, stop_at })
    }

    fn run(&mut self, (job, is_long): &mut Asked) -> Verdict {
        let stop_at = (self.started.elapsed() + TRANSACTION_MAX).as_millis() as u64;
        self.stop_at.store(if *is_long { 0 } else { stop_at }, Relaxed);
        // A panic is the function's own: its caller is told, and the others go on.
        let verdict = catch_unwind(AssertUnwindSafe(|| job.run(&mut Tx(&mut Current(&self.connection)))));
        self.stop_at.store(0, Relaxed);
        verdict.unwrap_or(Verdict::Rollback)
    }

    fn step(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.raw_execute().map(drop)
    }

    fn batch(&self, sql: &str) -> Result<(), SqlError> {
        self.step(sql).map_err(of_sqlite)
    }
}

/// A connection that is opened again after an error of the disk.
struct Reopened {
    path: Box<Path>,
    is_reader: bool,
    open: Option<Open>,
}

impl Reopened {
    fn open(path: &Path, is_reader: bool) -> Result<Self, SqlError> {
        let open = Open::at(path, is_reader).map_err(|error| named(path, error))?;
        Ok(Self { path: path.into(), is_reader, open: Some(open) })
    }

    fn get(&mut self) -> Result<&mut Open, SqlError> {
        if self.open.is_none() {
            self.open = Some(Open::at(&self.path, self.is_reader).map_err(|error| named(&self.path, error))?);
        }
        Ok(self.open.as_mut().expect("it was opened"))
    }
}

fn write_all(mut writer: Reopened, jobs: &Receiver<Asked>) {
    let mut group: Vec<Asked> = Vec::new();
    while let Ok(first) = jobs.recv() {
        group.push(first);
        let mut own = None;
        let stored = match writer.get() {
            Ok(open) => write_group(open, &mut group, jobs, &mut own),
            Err(error) => Err(error),
        };
        if stored.is_err() {
            // What the connection believes of the file may be wrong.
            writer.open = None;
        }
        for (at, (job, _)) in group.drain(..).enumerate() {
            job.end(stored.clone(), own == Some(at));
        }
    }
}

/// Runs what is in the group, and what comes meanwhile, and commits it. `own` is the one by whose
/// own error all have failed, if it was one.
fn write_group(
    open: &mut Open,
    group: &mut Vec<Asked>,
    jobs: &Receiver<Asked>,
    own: &mut Option<usize>,
) -> Result<(), SqlError> {
    open.batch("BEGIN IMMEDIATE")?;
    let began = Instant::now();
    let mut at = 0;
    loop {
        open.batch("SAVEPOINT one")?;
        let verdict = open.run(&mut group[at]);
        // A full disk, for example, ends the whole transaction by itself.
        if open.connection.is_autocommit() {
            *own = Some(at);
            return Err(SqlError::Shortage("a statement ended its transaction".into()));
        }
        let end = if verdict == Verdict::Rollback { open.batch("ROLLBACK TO one") } else { Ok(()) };
        if let Err(error) = end.and_then(|()| open.batch("RELEASE one")) {
            let _ = open.batch("ROLLBACK");
            return Err(error);
        }
        at += 1;
        if at == GROUP_MAX || began.elapsed() > GROUP_FOR {
            break;
        }
        match jobs.try_recv() {
            Ok(job) => group.push(job),
            Err(_) => break,
        }
    }
    match open.step("COMMIT") {
        Ok(()) => Ok(()),
        Err(error) if !open.connection.is_autocommit() => {
            // It is still open, so nothing of it was stored.
            let _ = open.batch("ROLLBACK");
            Err(of_sqlite(error))
        }
        // What the commit needed was not there, so it did not become one.
        Err(error) if is_full(&error) => Err(of_sqlite(error)),
        Err(error) => Err(SqlError::Unknown(error.to_string())),
    }
}

fn read_all(mut reader: Reopened, jobs: &Mutex<Receiver<Asked>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        let done = reader.get().and_then(|open| {
            open.batch("BEGIN")?;
            open.run(&mut job);
            open.batch("ROLLBACK")
        });
        if done.is_err() {
            reader.open = None;
        }
        job.0.end(done, true);
    }
}

/// The connection within a transaction.
struct Current<'a>(&'a Connection);

struct SqliteRow<'a, 'b>(&'a rusqlite::Row<'b>);

impl Cells for SqliteRow<'_, '_> {
    fn cell(&self, column: usize) -> Option<Cell<'_>> {
        match self.0.get_ref(column).ok()? {
            ValueRef::Null => Some(Cell::Null),
            ValueRef::Integer(value) => Some(Cell::Int(value)),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Cell::Bytes(bytes)),
            ValueRef::Real(_) => None,
        }
    }
}

fn value_of<'a>(param: &Param<'a>) -> rusqlite::types::ToSqlOutput<'a> {
    rusqlite::types::ToSqlOutput::Borrowed(match *param {
        Param::Null => ValueRef::Null,
        Param::Int(value) => ValueRef::Integer(value),
        Param::Text(text) => ValueRef::Text(text.as_bytes()),
        Param::Bytes(bytes) => ValueRef::Blob(bytes),
    })
}

impl Statements for Current<'_> {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        let mut statement = self.0.prepare_cached(sql).map_err(of_sqlite)?;
        let changed = statement.execute(params_from_iter(params.iter().map(value_of)));
        changed.map(|count| count as u64).map_err(of_sqlite)
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut statement = self.0.prepare_cached(sql).map_err(of_sqlite)?;
        let mut rows = statement.query(params_from_iter(params.iter().map(value_of))).map_err(of_sqlite)?;
        while let Some(row) = rows.next().map_err(of_sqlite)? {
            each(&Row(&SqliteRow(row)))?;
        }
        Ok(())
    }

    fn last_serial(&mut self) -> Result<u64, SqlError> {
        Ok(self.0.last_insert_rowid() as u64)
    }

    /// There is one writer.
    fn for_update(&self) -> &'static str {
        ""
    }

    fn for_share(&self) -> &'static str {
        ""
    }

    fn schema_text(&self, sql: &str) -> String {
        sql.replace("{serial}", "INTEGER PRIMARY KEY AUTOINCREMENT")
    }

    fn change_schema(&mut self, sql: &str) -> Result<(), SqlError> {
        self.execute(sql, &[]).map(drop)
    }
}

fn of_io(path: &Path, error: &io::Error) -> SqlError {
    SqlError::Shortage(format!("open {}: {error}", path.display()))
}

fn named(path: &Path, error: rusqlite::Error) -> SqlError {
    let in_file = |why: String| format!("{}: {why}", path.display());
    match of_sqlite(error) {
        SqlError::Shortage(why) => SqlError::Shortage(in_file(why)),
        SqlError::Schema(why) => SqlError::Schema(in_file(why)),
        SqlError::Defect(why) => SqlError::Defect(in_file(why)),
        other => other,
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory))
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed as a function")]
fn of_sqlite(error: rusqlite::Error) -> SqlError {
    const UNIQUE: [i32; 3] = [
        rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
        rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
    ];
    let why = error.to_string();
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return SqlError::Defect(why) };
    match failure.code {
        ErrorCode::ConstraintViolation if UNIQUE.contains(&failure.extended_code) => SqlError::Duplicate(why),
        ErrorCode::OperationInterrupted => SqlError::TooLong,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SqlError::Contended,
        ErrorCode::DiskFull
        | ErrorCode::OutOfMemory
        | ErrorCode::CannotOpen
        | ErrorCode::SystemIoFailure
        | ErrorCode::PermissionDenied
        | ErrorCode::ReadOnly => SqlError::Shortage(why),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => SqlError::Schema(why),
        _ => SqlError::Defect(why),
    }
}
