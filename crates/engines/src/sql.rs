//! The SQL port: short transactions on one database, with one query text for every engine.
//!
//! A transaction is a function that the engine calls on a thread of its own, with the statements'
//! answers as return values. What it returns as `Ok` is durable when the caller has it; after `Err`
//! nothing of it is there. The function may be called again, after a deadlock for example, so it
//! changes nothing but the database.
//!
//! Texts are written once: `?` for parameters, and the types `BIGINT`, `VARCHAR(n)`, `BINARY(n)`,
//! `MEDIUMTEXT` and `MEDIUMBLOB`. `{serial}` is the type of a number that the database counts up.
//! Texts are compared byte for byte. Every engine passes [`conformance`].
//!
//! A database may have replicas, which answer reads. A read sees all that this process was told to
//! be written before it began, whichever server answers it. What another process has written it
//! sees a second later at the latest, or at once if it is asked of [`Sql::primary`].

use std::{fmt, sync::Arc};
use tokio::sync::oneshot;

pub mod conformance;
pub mod outbox;
pub mod recording;
pub mod together;
pub mod trail;

/// Why a transaction or a statement did nothing, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlError {
    /// A row with this key is there already.
    Duplicate(String),
    /// Too much waits for the database already. It may succeed later.
    Busy,
    /// There is no room, no file handle, no memory, or the server is away. It may succeed later.
    Shortage(String),
    /// A statement took too long, and was stopped.
    TooLong,
    /// Other transactions were in the way; the engine has tried it several times.
    Contended,
    /// It is not known whether the transaction was stored. The caller reads what is there, or does
    /// it again where that is safe.
    Unknown(String),
    /// The database is not what this program has made: it is newer, or damaged.
    Schema(String),
    /// The server is not set up for what it is to do.
    Setup(String),
    /// Any other error: a defect.
    Defect(String),
}

impl SqlError {
    /// Whether the same may succeed later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Busy | Self::Shortage(_) | Self::TooLong | Self::Contended | Self::Unknown(_) => true,
            Self::Duplicate(_) | Self::Schema(_) | Self::Setup(_) | Self::Defect(_) => false,
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(what) => write!(f, "a row with this key is there already: {what}"),
            Self::Busy => f.write_str("too much waits for the database already"),
            Self::Shortage(why) => write!(f, "the database cannot go on for now: {why}"),
            Self::TooLong => f.write_str("a statement took too long"),
            Self::Contended => f.write_str("other transactions were in the way"),
            Self::Unknown(why) => write!(f, "it is not known whether this was stored: {why}"),
            Self::Schema(why) => write!(f, "the database's tables: {why}"),
            Self::Setup(why) => write!(f, "the database's server: {why}"),
            Self::Defect(why) => write!(f, "the database refused a statement: {why}"),
        }
    }
}

impl std::error::Error for SqlError {}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

macro_rules! params_from {
    ($($from:ty: $value:ident => $param:expr;)*) => {$(
        impl<'a> From<$from> for Param<'a> {
            fn from($value: $from) -> Self {
                $param
            }
        }
    )*};
}

params_from! {
    i64: value => Self::Int(value);
    u32: value => Self::Int(value.into());
    u16: value => Self::Int(value.into());
    bool: value => Self::Int(value.into());
    // Times, amounts and counts, which are checked where they come in.
    u64: value => Self::Int(i64::try_from(value).expect("a number below 2^63"));
    usize: value => Self::Int(i64::try_from(value).expect("a number below 2^63"));
    &'a str: value => Self::Text(value);
    &'a String: value => Self::Text(value);
    &'a [u8]: value => Self::Bytes(value);
    &'a Vec<u8>: value => Self::Bytes(value);
}

impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The parameters of one row of many, in the order of its columns.
#[macro_export]
macro_rules! row {
    ($($param:expr),* $(,)?) => { [$($crate::sql::Param::from($param)),*] };
}

/// The parameters of a statement, in the order of its question marks.
#[macro_export]
macro_rules! params {
    ($($param:expr),* $(,)?) => { &[$($crate::sql::Param::from($param)),*][..] };
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    Int(i64),
    /// A text or bytes: one engine does not tell them apart.
    Bytes(&'a [u8]),
}

/// A row of an answer. Columns are counted from 0.
pub struct Row<'a>(pub(crate) &'a dyn Cells);

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").finish_non_exhaustive()
    }
}

/// Where an engine's row has its values.
pub(crate) trait Cells {
    /// `None` for a column that there is not, or of a type that no table of ours has.
    fn cell(&self, column: usize) -> Option<Cell<'_>>;
}

impl Row<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>, SqlError> {
        self.0
            .cell(column)
            .ok_or_else(|| SqlError::Schema(format!("column {column} of an answer is missing")))
    }

    /// The value, if it is not NULL.
    pub fn maybe_int(&self, column: usize) -> Result<Option<i64>, SqlError> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Int(value) => Ok(Some(value)),
            Cell::Bytes(_) => Err(unexpected(column, "a number")),
        }
    }

    /// The value, if it is not NULL.
    pub fn maybe_text(&self, column: usize) -> Result<Option<String>, SqlError> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(unexpected(column, "a text")),
            },
            Cell::Int(_) => Err(unexpected(column, "a text")),
        }
    }

    /// The value, if it is not NULL.
    pub fn maybe_bytes(&self, column: usize) -> Result<Option<Vec<u8>>, SqlError> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Bytes(bytes) => Ok(Some(bytes.to_vec())),
            Cell::Int(_) => Err(unexpected(column, "bytes")),
        }
    }

    pub fn int(&self, column: usize) -> Result<i64, SqlError> {
        self.maybe_int(column)?.ok_or_else(|| unexpected(column, "a number"))
    }

    pub fn text(&self, column: usize) -> Result<String, SqlError> {
        self.maybe_text(column)?.ok_or_else(|| unexpected(column, "a text"))
    }

    pub fn bytes(&self, column: usize) -> Result<Vec<u8>, SqlError> {
        self.maybe_bytes(column)?.ok_or_else(|| unexpected(column, "bytes"))
    }

    /// A number that is not negative.
    pub fn count(&self, column: usize) -> Result<u64, SqlError> {
        u64::try_from(self.int(column)?).map_err(|_| unexpected(column, "a number from 0"))
    }

    /// The value, if it is not NULL: a number that is not negative.
    pub fn maybe_count(&self, column: usize) -> Result<Option<u64>, SqlError> {
        let value = self.maybe_int(column)?;
        value.map(u64::try_from).transpose().map_err(|_| unexpected(column, "a number from 0"))
    }

    /// Bytes of this length, such as an id.
    pub fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], SqlError> {
        self.bytes(column)?.try_into().map_err(|_| unexpected(column, "an id"))
    }

    /// A text in the form that a type prints and parses.
    pub fn parsed<T: std::str::FromStr>(&self, column: usize, want: &str) -> Result<T, SqlError> {
        self.text(column)?.parse().map_err(|_| unexpected(column, want))
    }
}

/// For a value that is not of the kind that this program writes.
pub fn unexpected(column: usize, want: &str) -> SqlError {
    SqlError::Schema(format!("column {column} of an answer: want {want}"))
}

/// What an engine's connection can do within a transaction.
pub(crate) trait Statements {
    /// Returns how many rows were changed.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError>;

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError>;

    /// The number that the database gave to the row of the last insert.
    fn last_serial(&mut self) -> Result<u64, SqlError>;

    /// What is added to a query whose rows no other transaction may change before the end of this
    /// one.
    fn for_update(&self) -> &'static str;

    /// The same for rows that others may go on reading, and locking so.
    fn for_share(&self) -> &'static str;

    /// The engine's text of a statement that makes or changes a table.
    fn schema_text(&self, sql: &str) -> String;

    /// Makes or changes a table, by such a text.
    fn change_schema(&mut self, sql: &str) -> Result<(), SqlError>;
}

/// How many rows one statement inserts: few texts, for each is kept prepared.
const ROWS_AT_ONCE: [usize; 3] = [16, 4, 1];

fn insert_text<const N: usize>(insert: &str, rows: usize) -> String {
    let row = format!("({})", ["?"; N].join(", "));
    format!("{insert} VALUES {}", vec![&*row; rows].join(", "))
}

/// Calls `each` with the texts that insert these rows, and the rows of each.
fn in_statements<'p, const N: usize>(
    insert: &str,
    mut rows: &[[Param<'p>; N]],
    mut each: impl FnMut(&str, &[[Param<'p>; N]]) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for at_once in ROWS_AT_ONCE {
        if rows.len() < at_once {
            continue;
        }
        let text = insert_text::<N>(insert, at_once);
        while let Some((these, others)) = rows.split_at_checked(at_once) {
            each(&text, these)?;
            rows = others;
        }
    }
    Ok(())
}

/// A transaction.
pub struct Tx<'a>(pub(crate) &'a mut dyn Statements);

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx<'_> {
    /// Returns how many rows were found to change.
    pub fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.0.execute(sql, params)
    }

    /// Inserts a row, unless one with its key is there. Returns whether it was inserted.
    pub fn insert_new(&mut self, sql: &str, params: &[Param<'_>]) -> Result<bool, SqlError> {
        match self.0.execute(sql, params) {
            Ok(_) => Ok(true),
            Err(SqlError::Duplicate(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Inserts rows: `insert` is the text up to `VALUES`, and each row has as many parameters.
    /// Several go in one statement.
    pub fn insert_all<const N: usize>(
        &mut self,
        insert: &str,
        rows: &[[Param<'_>; N]],
    ) -> Result<(), SqlError> {
        in_statements(insert, rows, |text, rows| self.0.execute(text, rows.as_flattened()).map(drop))
    }

    /// The same, without those whose keys are there. Returns which rows were inserted.
    pub fn insert_all_new<const N: usize>(
        &mut self,
        insert: &str,
        rows: &[[Param<'_>; N]],
    ) -> Result<Vec<bool>, SqlError> {
        let mut inserted = Vec::with_capacity(rows.len());
        in_statements(insert, rows, |text, rows| {
            match self.0.execute(text, rows.as_flattened()) {
                Ok(_) => inserted.extend(rows.iter().map(|_| true)),
                Err(SqlError::Duplicate(_)) if rows.len() == 1 => inserted.push(false),
                // Nothing of the statement is there: each by itself.
                Err(SqlError::Duplicate(_)) => {
                    let text = insert_text::<N>(insert, 1);
                    for row in rows {
                        inserted.push(self.insert_new(&text, row)?);
                    }
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(inserted)
    }

    /// Inserts a row into a table with a `{serial}`. Returns its number. Numbers grow, but those of
    /// transactions that end later may be lower.
    pub fn insert_serial(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.0.execute(sql, params)?;
        self.0.last_serial()
    }

    /// All rows. The text has a `LIMIT`, or asks by a key.
    pub fn query<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut rows = Vec::new();
        self.0.query(sql, params, &mut |row| {
            rows.push(read(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row.
    pub fn query_first<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        Ok(self.query(sql, params, read)?.into_iter().next())
    }

    /// The same rows, which no other transaction changes before this one has ended.
    pub fn query_locked<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        match self.0.for_update() {
            "" => self.query(sql, params, read),
            locked => self.query(&format!("{sql}{locked}"), params, read),
        }
    }

    /// The same rows as they are now, which no other transaction changes before this one has
    /// ended. Others may ask for them so too.
    pub fn query_shared<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        match self.0.for_share() {
            "" => self.query(sql, params, read),
            locked => self.query(&format!("{sql}{locked}"), params, read),
        }
    }
}

/// What becomes of a transaction whose function has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Commit,
    Rollback,
}

/// A transaction that waits for its turn.
pub(crate) trait Job: Send {
    /// Calls the function. It may be called again.
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict;

    /// What the last call returned is now stored, or rolled back as it asked; or neither, and
    /// `is_own` says whether by an error of this transaction itself.
    fn end(self: Box<Self>, stored: Result<(), SqlError>, is_own: bool);
}

struct Work<F, T, E> {
    body: F,
    said: Option<Result<T, E>>,
    tell: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Work<F, T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<SqlError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        // Nothing that an earlier call said is true any more.
        self.said = None;
        let said = (self.body)(tx);
        let verdict = if said.is_ok() { Verdict::Commit } else { Verdict::Rollback };
        self.said = Some(said);
        verdict
    }

    fn end(self: Box<Self>, stored: Result<(), SqlError>, is_own: bool) {
        let said = match (stored, self.said) {
            (Err(_), Some(Err(refused))) if is_own => Err(refused),
            // It may have seen what others wrote before it, which is not there now.
            (Ok(()), Some(done)) => done,
            (Ok(()), None) => Err(SqlError::Defect("a transaction was not run".into()).into()),
            (Err(error), _) => Err(error.into()),
        };
        // The caller may have gone.
        let _ = self.tell.send(said);
    }
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It reads, and a replica may answer.
    Read,
    /// It reads on the primary.
    ReadPrimary,
    Write,
    /// It changes tables, and may take long.
    Schema,
}

impl Kind {
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadPrimary)
    }
}

/// An engine.
pub(crate) trait Engine: Send + Sync {
    /// Takes a transaction, or says why not.
    fn submit(&self, job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError>;

    /// See [`Sql::catch_up`].
    fn catch_up(&self) {}

    /// See [`Sql::reads`].
    fn reads(&self) -> Option<Reads> {
        None
    }
}

/// Which servers have answered the reads of a database with replicas since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// Reads that replicas answered.
    pub by_replicas: u64,
    /// Reads that the primary answered.
    pub by_primary: u64,
    /// Of those, reads for which a replica was too late.
    pub late: u64,
    /// Of those, reads that a replica has failed: it is away, or not what it should be.
    pub failed: u64,
    pub replicas: u64,
    /// Replicas that reads are given to now.
    pub replicas_in_use: u64,
}

/// A database. Clones share it.
#[derive(Clone)]
pub struct Sql {
    pub(crate) engine: Arc<dyn Engine>,
    reads_on_primary: bool,
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").finish_non_exhaustive()
    }
}

impl Sql {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, reads_on_primary: false }
    }

    /// The same database, of which replicas answer nothing: for reads by which something is decided
    /// that other processes may have changed at this moment.
    pub fn primary(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), reads_on_primary: true }
    }

    /// From now on reads see all that other processes have written before this call. It waits for
    /// nothing.
    pub fn catch_up(&self) {
        self.engine.catch_up();
    }

    /// Which servers have answered reads, if there are replicas.
    pub fn reads(&self) -> Option<Reads> {
        self.engine.reads()
    }

    /// A transaction that only reads. It sees one state of the database.
    pub async fn read<T, E>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let kind = if self.reads_on_primary { Kind::ReadPrimary } else { Kind::Read };
        self.ask(body, kind).await
    }

    /// A read of one thing that another process may have written a moment ago: what a replica does
    /// not have is asked of the primary.
    pub async fn find<T, E>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<Option<T>, E> + Clone + Send + 'static,
    ) -> Result<Option<T>, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let found = self.read(body.clone()).await?;
        if found.is_some() || self.reads_on_primary || self.engine.reads().is_none() {
            return Ok(found);
        }
        self.primary().read(body).await
    }

    /// A transaction. Once it is submitted it is carried out, also if the caller goes away.
    pub async fn write<T, E>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        self.ask(body, Kind::Write).await
    }

    async fn ask<T, E>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        kind: Kind,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.engine.submit(Box::new(Work { body, said: None, tell }), kind)?;
        match told.await {
            Ok(said) => said,
            Err(_) => Err(SqlError::Defect("a transaction's function panicked".into()).into()),
        }
    }

    /// Brings the tables up to date. What was applied before must be the first of these, unchanged.
    pub async fn migrate(&self, migrations: &'static [Migration]) -> Result<(), SqlError> {
        self.ask(move |tx: &mut Tx<'_>| migrate(tx, migrations), Kind::Schema).await
    }
}

/// A change of the tables, made once. It is never edited after a release: a further one is added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it does, in a few words.
    pub name: &'static str,
    pub statements: &'static [&'static str],
}

impl Migration {
    fn checksum(&self) -> u32 {
        self.statements.iter().fold(0, |sum, statement| crc32c::crc32c_append(sum, statement.as_bytes()))
    }
}

fn migrate(tx: &mut Tx<'_>, migrations: &[Migration]) -> Result<(), SqlError> {
    let table = tx.0.schema_text(
        "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL, checksum BIGINT NOT NULL)",
    );
    tx.0.change_schema(&table)?;
    let applied = tx.query("SELECT number, name, checksum FROM migrations ORDER BY number", &[], |row| {
        Ok((row.count(0)?, row.text(1)?, row.count(2)?))
    })?;
    if applied.len() > migrations.len() {
        let (known, found) = (migrations.len(), applied.len());
        let why =
            format!("a newer version made them ({found} changes, this version knows {known}): use that one");
        return Err(SqlError::Schema(why));
    }
    for (at, migration) in migrations.iter().enumerate() {
        let (number, checksum) = (at as u64 + 1, u64::from(migration.checksum()));
        match applied.get(at) {
            Some((known, _, sum)) if (*known, *sum) == (number, checksum) => continue,
            Some((_, name, _)) => {
                let why =
                    format!("change {number}, {name:?}, is another than this version's {:?}", migration.name);
                return Err(SqlError::Schema(why));
            }
            None => {}
        }
        for statement in migration.statements {
            let text = tx.0.schema_text(statement);
            tx.0.change_schema(&text)?;
        }
        let row = params![number, migration.name, checksum];
        tx.execute("INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)", row)?;
    }
    Ok(())
}
