//! A connection to a server, and a transaction on it. It does not know which of several servers it
//! is for.

use super::position::{Gtids, Position};
use crate::sql::{Cell, Cells, Job, Param, Row, SqlError, Statements, Tx, Verdict};
use mysql_async::{BinaryProtocol, Conn, Opts, Params, QueryResult, TextProtocol, Value, prelude::Queryable};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, time::timeout};

/// How long a statement may take, a connection to be made, and a lock to be free.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(10);
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);
const LOCK_WAIT_SECONDS: u32 = 5;

/// Where a server is, and what waits for its answers.
pub(super) struct Server {
    opts: Opts,
    pub(super) runtime: Runtime,
}

/// A connection.
pub(super) struct Open {
    pub(super) conn: Conn,
    /// Byte for byte, also the spaces at the end.
    collation: &'static str,
    pub(super) is_mariadb: bool,
    /// The rest of an answer may still come: it can be asked nothing more.
    pub(super) is_half_read: bool,
}

impl Server {
    pub(super) fn new(opts: Opts) -> Result<Self, SqlError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| SqlError::Shortage(format!("start a runtime: {error}")))?;
        Ok(Self { opts, runtime })
    }

    pub(super) fn opts(&self) -> &Opts {
        &self.opts
    }

    /// The server ends statements that take longer than `statement_max`.
    pub(super) fn connect(&self, at_most: Duration, statement_max: Duration) -> Result<Open, SqlError> {
        self.answer_of(at_most, async {
            let mut conn = Conn::new(self.opts.clone()).await?;
            let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
            let is_mariadb = version.unwrap_or_default().contains("MariaDB");
            let (collation, longest) = match is_mariadb {
                true => ("utf8mb4_nopad_bin", format!("max_statement_time = {}", statement_max.as_secs())),
                false => ("utf8mb4_0900_bin", format!("max_execution_time = {}", statement_max.as_millis())),
            };
            conn.query_drop(format!(
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
                 innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, {longest}"
            ))
            .await?;
            conn.query_drop(format!("SET NAMES utf8mb4 COLLATE {collation}")).await?;
            conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            // Newer MariaDBs refuse to lock what has changed since the transaction's first
            // look, which a queue for one row always has. Those that do not know it refuse the
            // variable.
            let _ = conn.query_drop("SET SESSION innodb_snapshot_isolation = OFF").await;
            Ok(Open { conn, collation, is_mariadb, is_half_read: false })
        })
    }

    /// Waits for what a server answers, for so long.
    pub(super) fn answer_of<T>(
        &self,
        at_most: Duration,
        answer: impl Future<Output = Result<T, mysql_async::Error>>,
    ) -> Result<T, SqlError> {
        // The limit needs the runtime's clock.
        match self.runtime.block_on(async { timeout(at_most, answer).await }) {
            Ok(done) => done.map_err(of_server),
            Err(_) => Err(no_answer()),
        }
    }

    pub(super) fn begin(&self, open: &mut Open, is_write: bool) -> Result<(), SqlError> {
        let text = if is_write { "START TRANSACTION READ WRITE" } else { "START TRANSACTION READ ONLY" };
        self.answer_of(STATEMENT_MAX, open.conn.query_drop(text))
    }

    /// Runs what has begun on the primary, and ends it. With a position, how far the primary has
    /// committed is noted there before anybody is told of the transaction.
    pub(super) fn transaction(
        &self,
        open: &mut Open,
        job: &mut dyn Job,
        is_write: bool,
        position: Option<&Position>,
    ) -> Result<(), SqlError> {
        let mut current = Current::new(&self.runtime, open, is_write, None);
        // A panic is the function's own: its caller is told, and the others go on.
        let verdict =
            catch_unwind(AssertUnwindSafe(|| job.run(&mut Tx(&mut current)))).unwrap_or(Verdict::Rollback);
        match current.failed.take() {
            // The server has rolled it back, and it is to be run again.
            Some(error @ SqlError::Contended) => {
                current.plain("ROLLBACK")?;
                return Err(error);
            }
            // Whatever the function made of it: the connection is gone, and with it the
            // transaction.
            Some(error @ SqlError::Shortage(_)) => return Err(error),
            _ => {}
        }
        match (verdict, is_write) {
            (Verdict::Commit, true) => self.end(open, "COMMIT", position).map_err(|error| match error {
                SqlError::Contended => SqlError::Contended,
                // It may have been stored before the answer was lost.
                error => SqlError::Unknown(error.to_string()),
            }),
            _ => self.end(open, "ROLLBACK", position),
        }
    }

    /// Ends a transaction. How far the primary is by then comes in the same answer: what this
    /// transaction has committed or seen, its own or others', is not further.
    fn end(&self, open: &mut Open, text: &str, position: Option<&Position>) -> Result<(), SqlError> {
        let Some(position) = position else {
            return self.answer_of(2 * STATEMENT_MAX, open.conn.query_drop(text));
        };
        let question = position.question();
        let text = format!("{text}; SELECT @@global.gtid_binlog_pos");
        let mut ended = self.answer_of(2 * STATEMENT_MAX, open.conn.query_iter(text))?;
        // From here on the transaction has ended as it was to, also if the rest does not come.
        match self.answer_of(STATEMENT_MAX, read_gtids(&mut ended)) {
            Ok(Some(gtids)) => position.note(question, &gtids),
            Ok(None) => position.doubt(),
            Err(_) => {
                position.doubt();
                open.is_half_read = true;
            }
        }
        Ok(())
    }

    /// Runs what has begun on a replica for so long, and ends it within `end_max`. An error says
    /// that the primary is to run it.
    pub(super) fn read(
        &self,
        open: &mut Open,
        job: &mut dyn Job,
        (at_most, end_max): (Duration, Duration),
    ) -> Result<(), SqlError> {
        let mut current = Current::new(&self.runtime, open, false, Some(Instant::now() + at_most));
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut Tx(&mut current))));
        match (ran, current.refused.take()) {
            (Ok(_), Some(error)) => Err(error),
            _ => self.answer_of(end_max, open.conn.query_drop("ROLLBACK")),
        }
    }
}

async fn read_gtids(
    ended: &mut QueryResult<'_, 'static, TextProtocol>,
) -> Result<Option<Gtids>, mysql_async::Error> {
    // The first answer has no rows.
    ended.collect::<String>().await?;
    let said = ended.collect::<Option<String>>().await?;
    Ok(said.into_iter().next().flatten().and_then(|text| Gtids::parse(&text)))
}

pub(super) fn no_answer() -> SqlError {
    SqlError::Shortage("the database's server does not answer".into())
}

/// The connection within a transaction.
struct Current<'a> {
    runtime: &'a Runtime,
    open: &'a mut Open,
    is_write: bool,
    /// Until then all its answers must be there; otherwise each statement may take its time.
    until: Option<Instant>,
    /// The first error after which the transaction cannot go on.
    failed: Option<SqlError>,
    /// The first error of the server, of any kind.
    refused: Option<SqlError>,
}

impl<'a> Current<'a> {
    fn new(runtime: &'a Runtime, open: &'a mut Open, is_write: bool, until: Option<Instant>) -> Self {
        Self { runtime, open, is_write, until, failed: None, refused: None }
    }

    fn plain(&mut self, sql: &str) -> Result<(), SqlError> {
        let conn = &mut self.open.conn;
        self.runtime.block_on(async {
            match timeout(2 * STATEMENT_MAX, conn.query_drop(sql)).await {
                Ok(done) => done.map_err(of_server),
                Err(_) => Err(no_answer()),
            }
        })
    }

    fn ask<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        read: impl AsyncFnOnce(&mut QueryResult<'_, 'static, BinaryProtocol>) -> Result<T, Stop>,
    ) -> Result<T, SqlError> {
        let values = params.iter().map(value_of).collect::<Vec<Value>>();
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let longest = 2 * STATEMENT_MAX;
        let longest = self.until.map_or(longest, |until| until.saturating_duration_since(Instant::now()));
        let conn = &mut self.open.conn;
        let asked = self.runtime.block_on(async {
            let asked = async {
                let mut result = conn.exec_iter(sql, params).await.map_err(Stop::Server)?;
                read(&mut result).await
            };
            timeout(longest, asked).await
        });
        let error = match asked {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Stop::Reader(error))) => return Err(error),
            Ok(Err(Stop::Server(error))) => of_server(error),
            Err(_) => no_answer(),
        };
        if matches!(error, SqlError::Contended | SqlError::Shortage(_)) {
            self.failed.get_or_insert(error.clone());
        }
        self.refused.get_or_insert(error.clone());
        Err(error)
    }
}

/// Why an answer was not read to its end.
enum Stop {
    Server(mysql_async::Error),
    Reader(SqlError),
}

fn value_of(param: &Param<'_>) -> Value {
    match *param {
        Param::Null => Value::NULL,
        Param::Int(value) => Value::Int(value),
        Param::Text(text) => Value::Bytes(text.as_bytes().to_vec()),
        Param::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

struct MariaRow(mysql_async::Row);

impl Cells for MariaRow {
    fn cell(&self, column: usize) -> Option<Cell<'_>> {
        match self.0.as_ref(column)? {
            Value::NULL => Some(Cell::Null),
            Value::Bytes(bytes) => Some(Cell::Bytes(bytes)),
            Value::Int(value) => Some(Cell::Int(*value)),
            Value::UInt(value) => i64::try_from(*value).ok().map(Cell::Int),
            Value::Float(_) | Value::Double(_) | Value::Date(..) | Value::Time(..) => None,
        }
    }
}

impl Statements for Current<'_> {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, SqlError> {
        self.ask(sql, params, async |result| Ok(result.affected_rows()))
    }

    fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        // All rows are read before the next statement: the connection has one answer at a time.
        self.ask(sql, params, async |result| {
            while let Some(row) = result.next().await.map_err(Stop::Server)? {
                each(&Row(&MariaRow(row))).map_err(Stop::Reader)?;
            }
            Ok(())
        })
    }

    fn last_serial(&mut self) -> Result<u64, SqlError> {
        self.open.conn.last_insert_id().ok_or_else(|| SqlError::Defect("no row was inserted".into()))
    }

    fn for_update(&self) -> &'static str {
        // A transaction that only reads sees one state as it is, and may lock nothing.
        if self.is_write { " FOR UPDATE" } else { "" }
    }

    fn for_share(&self) -> &'static str {
        // MariaDB and MySQL both know these words.
        if self.is_write { " LOCK IN SHARE MODE" } else { "" }
    }

    fn schema_text(&self, sql: &str) -> String {
        let sql = sql.replace("{serial}", "BIGINT AUTO_INCREMENT PRIMARY KEY");
        match sql.starts_with("CREATE TABLE") {
            true => {
                format!("{sql} ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {}", self.open.collation)
            }
            false => sql,
        }
    }

    /// What changes tables is a transaction of its own here: after a crash in the middle the rest
    /// is made, and what is there already is passed over.
    fn change_schema(&mut self, sql: &str) -> Result<(), SqlError> {
        const TABLE_EXISTS: u16 = 1050;
        const COLUMN_EXISTS: u16 = 1060;
        const INDEX_EXISTS: u16 = 1061;
        let conn = &mut self.open.conn;
        // An index on many rows takes its time. The connection is not used for anything else.
        let changed = self.runtime.block_on(async {
            let _ = conn.query_drop("SET SESSION max_statement_time = 0").await;
            conn.query_drop(sql).await
        });
        match changed {
            Err(mysql_async::Error::Server(error))
                if [TABLE_EXISTS, COLUMN_EXISTS, INDEX_EXISTS].contains(&error.code) =>
            {
                Ok(())
            }
            changed => changed.map_err(of_server),
        }
    }
}

pub(super) fn of_server(error: mysql_async::Error) -> SqlError {
    let why = error.to_string();
    let mysql_async::Error::Server(error) = error else {
        return match error {
            mysql_async::Error::Io(_) => SqlError::Shortage(why),
            // A connection that broke in the middle of an answer is one of these.
            mysql_async::Error::Driver(_) => SqlError::Shortage(why),
            _ => SqlError::Defect(why),
        };
    };
    match error.code {
        1062 | 1586 => SqlError::Duplicate(why),
        // Deadlock; lock wait; and MariaDB's record that changed since it was read.
        1213 | 1205 | 1020 => SqlError::Contended,
        1969 | 3024 => SqlError::TooLong,
        // No room, no connection, no memory, read-only for a while, shutting down, not let in.
        1021 | 1037 | 1038 | 1040 | 1041 | 1045 | 1049 | 1053 | 1114 | 1129 | 1135 | 1203 | 1226 | 1290
        | 1317 | 1792 | 1836 | 1927 => SqlError::Shortage(why),
        _ => SqlError::Defect(why),
    }
}
