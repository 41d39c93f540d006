//! The SQL port on a real MariaDB.

use engines::{
    mariadb, params,
    sql::{Migration, Sql, SqlError, conformance},
};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

const LEDGER: &[Migration] = &[Migration {
    name: "a ledger",
    statements: &["CREATE TABLE ledger (number BIGINT PRIMARY KEY, body MEDIUMTEXT NOT NULL)"],
}];

/// A server with data of its own. It is killed when the test ends, however it ends.
struct MariaDb {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl MariaDb {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("floodgate-mariadb-").tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { dir, port, child: None };
        server.restart();
        // A kill within the moment in which it makes its files would leave them unusable.
        let mut child = server.child.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        server.restart();
        server
    }

    /// Starts it on the same data and the same port, and waits until it answers.
    fn restart(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let errors = File::options().create(true).append(true).open(self.dir.path().join("errors")).unwrap();
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=1"])
            // Without tables of users: everybody is let in, and no installer is needed.
            .args(["--innodb-buffer-pool-size=64M", "--skip-log-bin", "--skip-grant-tables"])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--tmpdir={}", self.dir.path().display()))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--port={}", self.port))
            .args(user())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let sql = mariadb::open(&self.url("information_schema")).unwrap();
        let began = Instant::now();
        while let Err(error) = runtime().block_on(sql.read(|tx| tx.query("SELECT 1", &[], |row| row.int(0))))
        {
            let said = fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "{error}: {said}");
            assert!(error.passes(), "{error}: {said}");
            sleep(Duration::from_millis(100));
        }
    }

    fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// A new database.
    async fn database(&self, name: &str) -> Sql {
        let all = mariadb::open(&self.url("information_schema")).unwrap();
        let make = format!("CREATE DATABASE {name}");
        all.write(move |tx| tx.execute(&make, &[])).await.unwrap();
        mariadb::open(&self.url(name)).unwrap()
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The server does not run as root unless it is told to.
fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn numbers(sql: &Sql) -> Result<Vec<u64>, SqlError> {
    sql.read(|tx| tx.query("SELECT number FROM ledger ORDER BY number", &[], |row| row.count(0))).await
}

#[test]
fn mariadb_keeps_every_promise_of_the_port() {
    let server = Arc::new(MariaDb::start());
    let mut count = 0;
    runtime().block_on(conformance::check(&mut || {
        count += 1;
        let server = Arc::clone(&server);
        Box::pin(async move { server.database(&format!("fresh{count}")).await })
    }));
}

#[test]
fn a_server_that_is_killed_is_waited_for_and_what_was_said_to_be_written_is_there() {
    let mut server = MariaDb::start();
    let runtime = runtime();
    let sql = runtime.block_on(server.database("ledgers"));
    runtime.block_on(sql.migrate(LEDGER)).unwrap();
    let (mut said, mut unknown, mut refused) = (Vec::new(), Vec::new(), 0);
    for number in 0..300u64 {
        if number % 100 == 60 {
            server.kill();
            let down = runtime.block_on(numbers(&sql));
            assert!(matches!(down, Err(SqlError::Shortage(_))), "{down:?}");
        }
        let body = "x".repeat(1 + (number as usize * 37) % 3000);
        let insert = sql.write(move |tx| {
            tx.execute("INSERT INTO ledger (number, body) VALUES (?, ?)", params![number, &body])
        });
        match runtime.block_on(insert) {
            Ok(_) => said.push(number),
            Err(SqlError::Unknown(_)) => unknown.push(number),
            Err(error) => {
                assert!(error.passes(), "{number}: {error:?}");
                refused += 1;
                if number % 100 == 65 {
                    server.restart();
                }
            }
        }
    }
    assert!(said.len() > 200 && refused > 0, "{} were written, {refused} refused", said.len());
    let found = runtime.block_on(numbers(&sql)).unwrap();
    let missing: Vec<_> = said.iter().filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "said to be written, and gone: {missing:?}");
    let invented: Vec<_> =
        found.iter().filter(|number| !said.contains(number) && !unknown.contains(number)).collect();
    assert!(invented.is_empty(), "refused, and there: {invented:?}");
}

#[test]
fn transactions_that_lock_each_other_out_are_run_again() {
    let server = MariaDb::start();
    runtime().block_on(async {
        let sql = server.database("locks").await;
        sql.migrate(LEDGER).await.unwrap();
        for number in [1u64, 2] {
            let insert = move |tx: &mut engines::sql::Tx<'_>| {
                tx.execute("INSERT INTO ledger (number, body) VALUES (?, '0')", params![number])
            };
            sql.write(insert).await.unwrap();
        }
        let mut all = tokio::task::JoinSet::new();
        for client in 0..16u64 {
            let sql = sql.clone();
            // Half of them take the two rows in the one order, half in the other.
            let order = if client % 2 == 0 { [1u64, 2] } else { [2, 1] };
            all.spawn(async move {
                sql.write(move |tx| {
                    for number in order {
                        let text = "SELECT body FROM ledger WHERE number = ?";
                        let body = tx.query_locked(text, params![number], |row| row.text(0))?;
                        let next = (body[0].parse::<u64>().unwrap() + 1).to_string();
                        tx.execute("UPDATE ledger SET body = ? WHERE number = ?", params![&next, number])?;
                    }
                    Ok::<_, SqlError>(())
                })
                .await
            });
        }
        all.join_all().await.into_iter().for_each(|done| assert_eq!(done, Ok(())));
        let bodies = sql.read(|tx| tx.query("SELECT body FROM ledger", &[], |row| row.text(0))).await;
        assert_eq!(bodies, Ok(vec!["16".to_owned(), "16".to_owned()]));
    });
}

#[test]
fn a_url_that_cannot_be_read_does_not_say_its_password() {
    let error = mariadb::open("mysql://root:secret@127.0.0.1:port/x").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}
