//! Records what is asked of a database, for a bench that asks the same of it without the program
//! that asked first.

use super::{Engine, Job, Kind, Param, Reads, Row, Sql, SqlError, Statements, Tx, Verdict};
use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Param<'_>> for Value {
    fn from(param: &Param<'_>) -> Self {
        match *param {
            Param::Null => Self::Null,
            Param::Int(value) => Self::Int(value),
            Param::Text(value) => Self::Text(value.to_owned()),
            Param::Bytes(value) => Self::Bytes(value.to_owned()),
        }
    }
}

/// A statement, and the rows that it changed, or returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    pub params: Vec<Value>,
    pub is_query: bool,
    pub rows: u64,
}

/// A transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub is_read: bool,
    pub statements: Vec<Statement>,
}

/// What was recorded so far.
#[derive(Debug, Clone, Default)]
pub struct Recording(Arc<Mutex<Vec<Transaction>>>);

impl Recording {
    /// Takes all of it, in the order of the commits.
    pub fn take(&self) -> Vec<Transaction> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The same database, whose transactions are recorded once they are committed.
pub fn record(sql: &Sql) -> (Sql, Recording) {
    let recording = Recording::default();
    let recorder = Recorder { sql: sql.clone(), recording: recording.clone() };
    (Sql::new(Arc::new(recorder)), recording)
}

struct Recorder {
    sql: Sql,
    recording: Recording,
}

impl Engine for Recorder {
    fn submit(&self, job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError> {
        let (recording, is_read) = (self.recording.clone(), kind.is_read());
        self.sql.engine.submit(Box::new(Recorded { job, is_read, statements: Vec::new(), recording }), kind)
    }

    fn catch_up(&self) {
        self.sql.catch_up();
    }

    fn reads(&self) -> Option<Reads> {
        self.sql.reads()
    }
}

struct Recorded {
    job: Box<dyn Job>,
    is_read: bool,
    statements: Vec<Statement>,
    recording: Recording,
}

impl Job for Recorded {
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        self.statements.clear();
        let verdict = self.job.run(&mut Tx(&mut Noting { tx, statements: &mut self.statements }));
        if verdict == Verdict::Rollback {
            self.statements.clear();
        }
        verdict
    }

    fn end(self: Box<Self>, stored: Result<(), SqlError>, is_own: bool) {
        let Self { job, is_read, statements, recording } = *self;
        if stored.is_ok() && !statements.is_empty() {
            let mut all = recording.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Transaction { is_read, statements });
        }
        job.end(stored, is_own);
    }
}

/// Notes what passes through it.
struct Noting<'n, 'tx> {
    tx: &'n mut Tx<'tx>,
    statements: &'n mut Vec<Statement>,
}

impl Noting<'_, '_> {
    fn note(&mut self, text: &str, params: &[Param<'_>], is_query: bool, rows: u64) {
        let params = params.iter().map(Value::from).collect();
        self.statements.push(Statement { text: text.to_owned(), params, is_query, rows });
    }
}

impl Statements for Noting<'_, '_> {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        let changed = self.tx.0.execute(sql, params)?;
        self.note(sql, params, false, changed);
        Ok(changed)
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut rows = 0;
        self.tx.0.query(sql, params, &mut |row| {
            rows += 1;
            each(row)
        })?;
        self.note(sql, params, true, rows);
        Ok(())
    }

    fn last_serial(&mut self) -> Result<u64, SqlError> {
        self.tx.0.last_serial()
    }

    fn for_update(&self) -> &'static str {
        self.tx.0.for_update()
    }

    fn for_share(&self) -> &'static str {
        self.tx.0.for_share()
    }

    fn schema_text(&self, sql: &str) -> String {
        self.tx.0.schema_text(sql)
    }

    fn change_schema(&mut self, sql: &str) -> Result<(), SqlError> {
        self.tx.0.change_schema(sql)
    }
}
