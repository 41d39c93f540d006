//! SQLite behind the SQL port for simulators: no thread of its own, one transaction after another,
//! each when the simulator says so, and cut off where it says so. What survives the end of a
//! simulated process is what was committed.
//!
//! Transactions of one database run in the order in which they were asked for, each by itself. In
//! [`open`](super::open) reads may overtake writes that were asked for before, and writes are
//! committed in groups: that is not simulated.

use super::{Current, LENGTH_MAX, PREPARED_MAX, of_sqlite};
use crate::sql::{Engine, Job, Kind, Param, Row, Sql, SqlError, Statements, Tx, Verdict};
use rusqlite::Connection;
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A place at which a transaction that writes can be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point<'a> {
    /// Before the statement, by its text, which changes something.
    Statement(&'a str),
    /// Before the commit.
    Commit,
    /// After it, before the caller is told.
    Committed,
}

/// What happens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    GoOn,
    /// The statement, or the commit, fails. After the commit only [`SqlError::Unknown`] is honest.
    Fail(SqlError),
    /// The process ends: the caller is never told.
    Die,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// It was committed, or rolled back by itself, and the caller was told.
    Told,
    Died,
}

/// Called when a transaction waits; an error refuses it.
pub type Asked = Arc<dyn Fn() -> Result<(), SqlError> + Send + Sync>;

struct Inner {
    connection: Connection,
    waiting: VecDeque<(Box<dyn Job>, Kind)>,
}

/// A database in memory, which outlives simulated processes. Clones share it.
#[derive(Clone)]
pub struct Database(Arc<Mutex<Inner>>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

struct InLine {
    database: Database,
    asked: Asked,
}

impl Engine for InLine {
    fn submit(&self, job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError> {
        (self.asked)()?;
        self.database.lock().waiting.push_back((job, kind));
        Ok(())
    }
}

impl Database {
    /// An empty one.
    pub fn in_memory() -> Result<Self, SqlError> {
        let open = || {
            let connection = Connection::open_in_memory()?;
            connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
            connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            Ok(connection)
        };
        let connection = open().map_err(of_sqlite)?;
        Ok(Self(Arc::new(Mutex::new(Inner { connection, waiting: VecDeque::new() }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database as a process has it.
    pub fn sql(&self, asked: Asked) -> Sql {
        Sql::new(Arc::new(InLine { database: self.clone(), asked }))
    }

    /// Whether a transaction waits.
    pub fn is_asked(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The process has ended: transactions that wait are never carried out.
    pub fn forget_waiting(&self) {
        let gone: Vec<_> = self.lock().waiting.drain(..).collect();
        // Not while the database is locked: callers that are dropped may ask for more.
        drop(gone);
    }

    /// Runs the transaction that waits for longest; `fate` is asked at each point of one that
    /// writes. `None` if none waits.
    pub fn run_next(&self, fate: &mut dyn FnMut(Point<'_>) -> Fate) -> Option<Ran> {
        let mut inner = self.lock();
        let (mut job, kind) = inner.waiting.pop_front()?;
        let (stored, died) = run(&inner.connection, &mut *job, kind, fate);
        drop(inner);
        if died {
            return Some(Ran::Died);
        }
        job.end(stored, true);
        Some(Ran::Told)
    }

    /// Reads beside all processes, what is committed.
    pub fn look<T>(&self, read: impl FnOnce(&mut Tx<'_>) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let inner = self.lock();
        read(&mut Tx(&mut Current(&inner.connection)))
    }
}

/// Returns what its caller is told of the commit, and whether the process has ended.
fn run(
    connection: &Connection,
    job: &mut dyn Job,
    kind: Kind,
    fate: &mut dyn FnMut(Point<'_>) -> Fate,
) -> (Result<(), SqlError>, bool) {
    let step = |sql: &str| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.raw_execute().map(drop)
    };
    let step = |sql: &str| step(sql).map_err(of_sqlite);
    if let Err(error) = step("BEGIN") {
        return (Err(error), false);
    }
    let mut watched = Watched { current: Current(connection), fate, has_died: false, has_written: false };
    let verdict = job.run(&mut Tx(&mut watched));
    let (has_died, has_written) = (watched.has_died, watched.has_written);
    if has_died || kind.is_read() || verdict == Verdict::Rollback {
        let ended = if connection.is_autocommit() { Ok(()) } else { step("ROLLBACK") };
        return (ended, has_died);
    }
    match if has_written { fate(Point::Commit) } else { Fate::GoOn } {
        Fate::GoOn => {}
        Fate::Fail(error) => return (step("ROLLBACK").and(Err(error)), false),
        Fate::Die => return (step("ROLLBACK"), true),
    }
    if let Err(error) = step("COMMIT") {
        return (step("ROLLBACK").and(Err(error)), false);
    }
    match if has_written { fate(Point::Committed) } else { Fate::GoOn } {
        Fate::GoOn => (Ok(()), false),
        Fate::Fail(error) => (Err(error), false),
        Fate::Die => (Ok(()), true),
    }
}

/// The connection within a transaction that may be cut off.
struct Watched<'a> {
    current: Current<'a>,
    fate: &'a mut dyn FnMut(Point<'_>) -> Fate,
    has_died: bool,
    has_written: bool,
}

impl Statements for Watched<'_> {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.has_written = true;
        let gone = || SqlError::Shortage("the process has ended".into());
        if self.has_died {
            return Err(gone());
        }
        match (self.fate)(Point::Statement(sql)) {
            Fate::GoOn => self.current.execute(sql, params),
            Fate::Fail(error) => Err(error),
            Fate::Die => {
                self.has_died = true;
                Err(gone())
            }
        }
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        self.current.query(sql, params, each)
    }

    fn last_serial(&mut self) -> Result<u64, SqlError> {
        self.current.last_serial()
    }

    fn for_update(&self) -> &'static str {
        self.current.for_update()
    }

    fn for_share(&self) -> &'static str {
        self.current.for_share()
    }

    fn schema_text(&self, sql: &str) -> String {
        self.current.schema_text(sql)
    }

    fn change_schema(&mut self, sql: &str) -> Result<(), SqlError> {
        self.execute(sql, &[]).map(drop)
    }
}
