//! MariaDB and MySQL behind the SQL port: some threads, each with a connection of its own.
//!
//! A transaction that met a deadlock, or that waited too long for another, is run again from its
//! beginning. A connection that breaks while its transaction is being committed leaves it unknown
//! whether the transaction is stored.

use crate::sql::{Cell, Cells, Engine, Job, Kind, Param, Row, Sql, SqlError, Statements, Tx, Verdict};
use mysql_async::{Conn, Opts, OptsBuilder, Params, Value, prelude::Queryable};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};
use tokio::runtime::Runtime;

/// Transactions that may wait.
const QUEUE_MAX: usize = 1024;
/// Threads, each with a connection.
const CONNECTIONS: usize = 8;
/// How long a statement may take, a connection to be made, and a lock to be free.
const STATEMENT_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(10);
const LOCK_WAIT_SECONDS: u32 = 5;
/// How often a transaction is run that others are in the way of, and the longest pause before.
const TRIES_MAX: u32 = 20;
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Statements that each connection keeps prepared.
const PREPARED_MAX: usize = 128;

/// Opens the database of a URL such as `mysql://user:password@host:3306/name`. Nothing is asked of
/// the server yet: while it is away, transactions are refused as a shortage.
pub fn open(url: &str) -> Result<Sql, SqlError> {
    open_with(OptsBuilder::from_opts(Opts::from_url(url).map_err(|_| unreadable())?))
}

fn open_with(opts: OptsBuilder) -> Result<Sql, SqlError> {
    let opts: Opts = opts.client_found_rows(true).stmt_cache_size(PREPARED_MAX).tcp_nodelay(true).into();
    let (jobs, to_do) = sync_channel(QUEUE_MAX);
    let to_do = Arc::new(Mutex::new(to_do));
    for _ in 0..CONNECTIONS {
        let runtime = a_runtime()?;
        let server = Server { opts: Opts::clone(&opts), runtime, connection: None };
        let to_do = Arc::clone(&to_do);
        let started = thread::Builder::new().name("sql".into()).spawn(move || run_all(server, &to_do));
        started.map_err(|error| SqlError::Shortage(format!("start a thread: {error}")))?;
    }
    Ok(Sql(Arc::new(MariaDb { jobs })))
}

/// The same, for a database that is made if it is not there and the user may make it.
pub fn open_or_make(url: &str, name: &str) -> Result<Sql, SqlError> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || !is_name(name) {
        return Err(SqlError::Defect(format!(
            "the name of a database, {name:?}: want letters, digits and _"
        )));
    }
    let opts = Opts::from_url(url).map_err(|_| unreadable())?;
    let server: Opts = OptsBuilder::from_opts(opts.clone()).db_name(None::<String>).into();
    let runtime = a_runtime()?;
    let made = runtime.block_on(async {
        tokio::time::timeout(CONNECT_MAX, async {
            let mut conn = Conn::new(server).await?;
            conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {name}")).await?;
            conn.disconnect().await
        })
        .await
    });
    const DENIED: [u16; 2] = [1044, 1227];
    match made {
        Ok(Err(mysql_async::Error::Server(error))) if DENIED.contains(&error.code) => {}
        Ok(made) => made.map_err(of_server)?,
        Err(_) => return Err(SqlError::Shortage("the database's server does not answer".into())),
    }
    open_with(OptsBuilder::from_opts(opts).db_name(Some(name)))
}

fn unreadable() -> SqlError {
    // It may have a password in it.
    SqlError::Defect("the URL of a database cannot be read: want mysql://user:password@host:3306/name".into())
}

fn a_runtime() -> Result<Runtime, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| SqlError::Shortage(format!("start a runtime: {error}")))
}

/// A transaction, and what it is for.
type Asked = (Box<dyn Job>, Kind);

struct MariaDb {
    jobs: SyncSender<Asked>,
}

impl Engine for MariaDb {
    fn submit(&self, job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError> {
        self.jobs.try_send((job, kind)).map_err(|error| match error {
            TrySendError::Full(_) => SqlError::Busy,
            TrySendError::Disconnected(_) => SqlError::Defect("the database's threads have ended".into()),
        })
    }
}

/// A server, and the connection to it if there is one.
struct Server {
    opts: Opts,
    runtime: Runtime,
    connection: Option<Open>,
}

struct Open {
    conn: Conn,
    /// Byte for byte, also the spaces at the end.
    collation: &'static str,
}

fn run_all(mut server: Server, jobs: &Mutex<Receiver<Asked>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((mut job, kind)) = next else { return };
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let done = server.run(&mut *job, kind);
            match done {
                Err(SqlError::Contended) if tries < TRIES_MAX => {
                    thread::sleep(PAUSE_MAX.min(Duration::from_millis(1) * (1 << tries.min(7))));
                }
                other => break other,
            }
        };
        job.end(done, true);
    }
}

impl Server {
    fn run(&mut self, job: &mut dyn Job, kind: Kind) -> Result<(), SqlError> {
        let is_write = kind != Kind::Read;
        // One that broke while it was idle is made again.
        if let Some(open) = &mut self.connection
            && self.runtime.block_on(begin(&mut open.conn, is_write)).is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut open = self.connect()?;
            self.runtime.block_on(begin(&mut open.conn, is_write))?;
            self.connection = Some(open);
        }
        let open = self.connection.as_mut().expect("it was opened");
        let done = transaction(&self.runtime, open, job, is_write);
        // What the connection believes may be wrong: another one is made.
        if !matches!(done, Ok(()) | Err(SqlError::Contended)) || kind == Kind::Schema {
            self.connection = None;
        }
        done
    }

    fn connect(&self) -> Result<Open, SqlError> {
        let opened = self.runtime.block_on(async {
            tokio::time::timeout(CONNECT_MAX, async {
                let mut conn = Conn::new(self.opts.clone()).await?;
                let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
                let is_mariadb = version.unwrap_or_default().contains("MariaDB");
                let (collation, longest) = match is_mariadb {
                    true => ("utf8mb4_nopad_bin", format!("max_statement_time = {}", STATEMENT_MAX.as_secs())),
                    false => ("utf8mb4_0900_bin", format!("max_execution_time = {}", STATEMENT_MAX.as_millis())),
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
                Ok(Open { conn, collation })
            })
            .await
        });
        match opened {
            Ok(Ok(open)) => Ok(open),
            Ok(Err(error)) => Err(of_server(error)),
            Err(_) => Err(SqlError::Shortage("the database's server does not answer".into())),
        }
    }
}

async fn begin(conn: &mut Conn, is_write: bool) -> Result<(), SqlError> {
    let text = if is_write { "START TRANSACTION READ WRITE" } else { "START TRANSACTION READ ONLY" };
    match tokio::time::timeout(STATEMENT_MAX, conn.query_drop(text)).await {
        Ok(done) => done.map_err(of_server),
        Err(_) => Err(SqlError::Shortage("the database's server does not answer".into())),
    }
}

/// Runs what has begun, and ends it.
fn transaction(
    runtime: &Runtime,
    open: &mut Open,
    job: &mut dyn Job,
    is_write: bool,
) -> Result<(), SqlError> {
    let mut current = Current { runtime, open, is_write, failed: None };
    // A panic is the function's own: its caller is told, and the others go on.
    let verdict =
        catch_unwind(AssertUnwindSafe(|| job.run(&mut Tx(&mut current)))).unwrap_or(Verdict::Rollback);
    match current.failed.take() {
        // The server has rolled it back, and it is to be run again.
        Some(error @ SqlError::Contended) => {
            current.plain("ROLLBACK")?;
            return Err(error);
        }
        // Whatever the function made of it: the connection is gone, and the transaction with it.
        Some(error @ SqlError::Shortage(_)) => return Err(error),
        _ => {}
    }
    match (verdict, is_write) {
        (Verdict::Commit, true) => current.plain("COMMIT").map_err(|error| match error {
            SqlError::Contended => SqlError::Contended,
            // It may have been stored before the answer was lost.
            error => SqlError::Unknown(error.to_string()),
        }),
        _ => current.plain("ROLLBACK"),
    }
}

/// The connection within a transaction.
struct Current<'a> {
    runtime: &'a Runtime,
    open: &'a mut Open,
    is_write: bool,
    /// The first error after which the transaction cannot go on.
    failed: Option<SqlError>,
}

impl Current<'_> {
    fn plain(&mut self, sql: &str) -> Result<(), SqlError> {
        let conn = &mut self.open.conn;
        self.runtime.block_on(async {
            match tokio::time::timeout(2 * STATEMENT_MAX, conn.query_drop(sql)).await {
                Ok(done) => done.map_err(of_server),
                Err(_) => Err(SqlError::Shortage("the database's server does not answer".into())),
            }
        })
    }

    fn ask<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        read: impl AsyncFnOnce(
            &mut mysql_async::QueryResult<'_, 'static, mysql_async::BinaryProtocol>,
        ) -> Result<T, Stop>,
    ) -> Result<T, SqlError> {
        let values = params.iter().map(value_of).collect::<Vec<Value>>();
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let conn = &mut self.open.conn;
        let asked = self.runtime.block_on(async {
            let asked = async {
                let mut result = conn.exec_iter(sql, params).await.map_err(Stop::Server)?;
                read(&mut result).await
            };
            match tokio::time::timeout(2 * STATEMENT_MAX, asked).await {
                Ok(done) => done.map_err(|stop| match stop {
                    Stop::Server(error) => of_server(error),
                    Stop::Reader(error) => error,
                }),
                Err(_) => Err(SqlError::Shortage("the database's server does not answer".into())),
            }
        });
        if let Err(error @ (SqlError::Contended | SqlError::Shortage(_))) = &asked
            && self.failed.is_none()
        {
            self.failed = Some(error.clone());
        }
        asked
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

fn of_server(error: mysql_async::Error) -> SqlError {
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
