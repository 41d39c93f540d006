//! MariaDB and MySQL behind the SQL port: some threads, each with a connection of its own.
//!
//! A transaction that met a deadlock, or that waited too long for another, is run again from its
//! beginning. A connection that breaks while its transaction is being committed leaves it unknown
//! whether the transaction is stored.
//!
//! A database on MariaDB may have replicas, which then answer reads: see [`replicas`].

use crate::{
    chance::{Chance, SystemChance},
    sql::{Engine, Job, Kind, Reads, Sql, SqlError},
};
use connection::{CONNECT_MAX, Open, STATEMENT_MAX, Server, no_answer, of_server};
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use position::{Gtids, Position};
use replicas::{Counts, Replicas};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

mod connection;
mod position;
mod replicas;

/// Transactions that may wait.
const QUEUE_MAX: usize = 1024;
/// Threads, each with a connection, of the primary and of each replica.
const CONNECTIONS: usize = 8;
/// Reads that may wait for a replica. With more the primary answers: a replica that is a little
/// late for each of them would be slower than none.
const REPLICA_QUEUE_MAX: usize = 2 * CONNECTIONS;
/// How often a transaction is run that others are in the way of, and the longest pause before.
const TRIES_MAX: u32 = 20;
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Statements that each connection keeps prepared.
const PREPARED_MAX: usize = 128;
/// Rows of the table of marks that are older are of no process any more, or written again.
const MARKS_KEPT_SECONDS: u64 = 7 * 86_400;
/// How long a transaction waits until a mark is written.
const MARK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Opens the database of a URL such as `mysql://user:password@host:3306/name`. Nothing is asked of
/// the server yet: while it is away, transactions are refused as a shortage.
pub fn open(url: &str) -> Result<Sql, SqlError> {
    open_with(OptsBuilder::from_opts(Opts::from_url(url).map_err(|_| unreadable())?), Vec::new())
}

/// The same, for a database that is made if it is not there and the user may make it. Replicas are
/// other servers that copy the one of the URL, each with a URL such as
/// `mysql://user:password@host:3306`; their databases have the same name.
pub fn open_or_make(url: &str, name: &str, replicas: &[&str]) -> Result<Sql, SqlError> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || !is_name(name) {
        return Err(SqlError::Defect(format!(
            "the name of a database, {name:?}: want letters, digits and _"
        )));
    }
    let read = |url: &str| Opts::from_url(url).map_err(|_| unreadable());
    let (opts, has_replicas) = (read(url)?, !replicas.is_empty());
    let replicas = replicas.iter().map(|url| {
        let opts = Opts::from_url(url).map_err(|_| unreadable_replica())?;
        let place = format!("{}:{}/{name}", opts.ip_or_hostname(), opts.tcp_port());
        Ok((place, configured(OptsBuilder::from_opts(opts).db_name(Some(name)))))
    });
    let replicas = replicas.collect::<Result<Vec<_>, SqlError>>()?;
    let server = Server::new(OptsBuilder::from_opts(opts.clone()).db_name(None::<String>).into())?;
    let made = server
        .runtime
        .block_on(async { tokio::time::timeout(CONNECT_MAX, make(server.opts(), name, has_replicas)).await });
    made.map_err(|_| no_answer())??;
    open_with(OptsBuilder::from_opts(opts).db_name(Some(name)), replicas)
}

async fn make(server: &Opts, name: &str, has_replicas: bool) -> Result<(), SqlError> {
    const DENIED: [u16; 2] = [1044, 1227];
    let mut conn = Conn::new(server.clone()).await.map_err(of_server)?;
    match conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {name}")).await {
        Err(mysql_async::Error::Server(error)) if DENIED.contains(&error.code) => {}
        made => made.map_err(of_server)?,
    }
    if has_replicas {
        look_at_log(&mut conn).await?;
    }
    conn.disconnect().await.map_err(of_server)
}

/// Returns the number of the primary, and how far it has committed.
async fn look_at_log(conn: &mut Conn) -> Result<(u32, Gtids), SqlError> {
    let unfit = |why: &str| Err(SqlError::Setup(why.to_owned()));
    let version: Option<String> = conn.query_first("SELECT VERSION()").await.map_err(of_server)?;
    if !version.unwrap_or_default().contains("MariaDB") {
        return unfit("replicas are given, and it is not MariaDB: use MariaDB, or take the replicas out");
    }
    let log = "SELECT @@global.log_bin, @@global.server_id, @@global.gtid_binlog_pos";
    match conn.query_first::<(u8, u32, String), _>(log).await.map_err(of_server)? {
        Some((0, ..)) | None => unfit(
            "replicas are given, and it writes no binary log: start it with log_bin and a server_id of its own, or take the replicas out",
        ),
        Some((_, server, gtids)) => match Gtids::parse(&gtids) {
            Some(gtids) => Ok((server, gtids)),
            None => {
                unfit("replicas are given, and its gtid_binlog_pos cannot be read: take the replicas out")
            }
        },
    }
}

fn configured(opts: OptsBuilder) -> Opts {
    opts.client_found_rows(true).stmt_cache_size(PREPARED_MAX).tcp_nodelay(true).into()
}

fn open_with(opts: OptsBuilder, replicas: Vec<(String, Opts)>) -> Result<Sql, SqlError> {
    let opts = configured(opts);
    let (jobs, to_do) = sync_channel(QUEUE_MAX);
    let to_do = Arc::new(Mutex::new(to_do));
    let replicas = match replicas.is_empty() {
        true => None,
        false => {
            let fall_back = jobs.clone();
            let fall_back = move |job| give(&fall_back, job, Kind::ReadPrimary);
            Some(Replicas::open(replicas, (CONNECTIONS, REPLICA_QUEUE_MAX), Arc::new(fall_back))?)
        }
    };
    for _ in 0..CONNECTIONS {
        let log = replicas.as_ref().map(|of| (Arc::clone(of.position()), Arc::clone(of.counts())));
        let primary = Primary { server: Server::new(opts.clone())?, connection: None, log };
        let to_do = Arc::clone(&to_do);
        let started = thread::Builder::new().name("sql".into()).spawn(move || run_all(primary, &to_do));
        started.map_err(|error| SqlError::Shortage(format!("start a thread: {error}")))?;
    }
    Ok(Sql::new(Arc::new(MariaDb { jobs, replicas })))
}

fn unreadable() -> SqlError {
    // It may have a password in it.
    SqlError::Defect("the URL of a database cannot be read: want mysql://user:password@host:3306/name".into())
}

fn unreadable_replica() -> SqlError {
    SqlError::Setup(
        "the URL of a replica cannot be read: want mysql://user:password@host:3306, with %23 for # in a password, and so on".into(),
    )
}

/// A transaction, and what it is for.
type Asked = (Box<dyn Job>, Kind);

struct MariaDb {
    jobs: SyncSender<Asked>,
    replicas: Option<Replicas>,
}

impl Engine for MariaDb {
    fn submit(&self, mut job: Box<dyn Job>, kind: Kind) -> Result<(), SqlError> {
        if kind == Kind::Read
            && let Some(replicas) = &self.replicas
        {
            match replicas.take(job) {
                None => return Ok(()),
                Some(back) => job = back,
            }
        }
        give(&self.jobs, job, kind).map_err(|(_, error)| error)
    }

    fn catch_up(&self) {
        self.replicas.iter().for_each(|replicas| replicas.position().doubt());
    }

    fn reads(&self) -> Option<Reads> {
        self.replicas.as_ref().map(Replicas::reads)
    }
}

/// Gives the primary a transaction. Returns it, and why, if it does not take it.
fn give(jobs: &SyncSender<Asked>, job: Box<dyn Job>, kind: Kind) -> Result<(), (Box<dyn Job>, SqlError)> {
    jobs.try_send((job, kind)).map_err(|error| match error {
        TrySendError::Full((job, _)) => (job, SqlError::Busy),
        TrySendError::Disconnected((job, _)) => {
            (job, SqlError::Defect("the database's threads have ended".into()))
        }
    })
}

/// The server that has the database, and the connection to it if there is one.
struct Primary {
    server: Server,
    connection: Option<Open>,
    /// If there are replicas: how far the primary is, and what is counted.
    log: Option<(Arc<Position>, Arc<Counts>)>,
}

fn run_all(mut primary: Primary, jobs: &Mutex<Receiver<Asked>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((mut job, kind)) = next else { return };
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let done = primary.run(&mut *job, kind);
            match done {
                Err(SqlError::Contended) if tries < TRIES_MAX => {
                    thread::sleep(PAUSE_MAX.min(Duration::from_millis(1) * (1 << tries.min(7))));
                }
                other => break other,
            }
        };
        if let Some((_, counts)) = &primary.log
            && kind.is_read()
        {
            counts.by_primary.fetch_add(1, Relaxed);
        }
        job.end(done, true);
    }
}

impl Primary {
    fn run(&mut self, job: &mut dyn Job, kind: Kind) -> Result<(), SqlError> {
        let is_write = !kind.is_read();
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        self.write_mark();
        // One that broke while it was idle is made again.
        if let Some(open) = &mut self.connection
            && self.server.begin(open, is_write).is_err()
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            let mut open = self.connect()?;
            self.server.begin(&mut open, is_write)?;
            self.connection = Some(open);
        }
        let open = self.connection.as_mut().expect("it was opened");
        let position = self.log.as_ref().map(|(position, _)| &**position);
        let done = self.server.transaction(open, job, is_write, position);
        let has_ended = matches!(done, Ok(()) | Err(SqlError::Contended));
        // It may have been stored before the answer was lost.
        if let Some(position) = position.filter(|_| is_write && !has_ended) {
            position.doubt();
        }
        // What the connection believes may be wrong: another one is made.
        if !has_ended || open.is_half_read || kind == Kind::Schema {
            self.connection = None;
        }
        done
    }

    fn connect(&self) -> Result<Open, SqlError> {
        let mut open = self.server.connect(CONNECT_MAX, STATEMENT_MAX)?;
        if let Some((position, _)) = &self.log {
            // It may be another server than before. What was said to be written is in its log, or
            // lost with the other one.
            let first = position.first_question();
            let looked = self.server.runtime.block_on(async {
                let look = look_at_log(&mut open.conn);
                tokio::time::timeout(STATEMENT_MAX, look).await.map_err(|_| no_answer())?
            });
            match looked {
                Ok((server, gtids)) => position.note_primary(&first, server, &gtids),
                // Without a position the primary answers everything.
                Err(error) => {
                    tracing::warn!(%error, "a database's replicas are not used for now");
                    position.doubt();
                }
            }
        }
        Ok(open)
    }

    /// Writes a mark, if replicas have none to show. Without it they are not used, and nothing else
    /// fails.
    fn write_mark(&mut self) {
        let (Some((position, _)), Some(open)) = (&self.log, &mut self.connection) else { return };
        if !position.is_to_mark(Instant::now()) {
            return;
        }
        let Ok(mark) = SystemChance.bytes16() else { return };
        let question = position.question();
        let write = async {
            let made = "CREATE TABLE IF NOT EXISTS replica_marks (mark BINARY(16) PRIMARY KEY, at BIGINT NOT NULL) ENGINE = InnoDB";
            open.conn.query_drop(made).await?;
            let text = "INSERT INTO replica_marks (mark, at) VALUES (?, UNIX_TIMESTAMP())";
            open.conn.exec_drop(text, (mark.as_slice(),)).await?;
            open.conn.query_first::<String, _>("SELECT @@global.gtid_binlog_pos").await
        };
        match self
            .server
            .answer_of(MARK_WAIT_MAX, write)
            .map(|said| said.and_then(|text| Gtids::parse(&text)))
        {
            Ok(Some(gtids)) => {
                position.note(question, &gtids);
                position.set_mark(mark, Instant::now());
                // Another process may be at it.
                let old =
                    format!("DELETE FROM replica_marks WHERE at < UNIX_TIMESTAMP() - {MARKS_KEPT_SECONDS}");
                if self.server.answer_of(MARK_WAIT_MAX, open.conn.query_drop(old)).is_err() {
                    self.connection = None;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a database's replicas are not used: the table replica_marks");
                self.connection = None;
            }
        }
    }
}
