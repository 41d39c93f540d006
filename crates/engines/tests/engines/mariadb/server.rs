//! A real MariaDB on this machine, and the ways to end it. Knows processes, and no tables.
#![allow(dead_code, unreachable_pub, reason = "each test target uses its own part")]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with data of its own. It is killed when the test ends, however it ends.
#[derive(Debug)]
pub struct MariaDb {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    role: Role,
}

/// What a server is to the others.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// It writes no binary log.
    Alone,
    Primary,
    /// With this number, which differs from all others'.
    Replica(u32),
}

/// Where a server without tables of users keeps how far it has copied: it makes them neither.
const COPIED_TO: &str = "SET sql_log_bin = 0; CREATE DATABASE IF NOT EXISTS mysql; \
    CREATE TABLE IF NOT EXISTS mysql.gtid_slave_pos ( \
        domain_id INT UNSIGNED NOT NULL, sub_id BIGINT UNSIGNED NOT NULL, \
        server_id INT UNSIGNED NOT NULL, seq_no BIGINT UNSIGNED NOT NULL, \
        PRIMARY KEY (domain_id, sub_id)) ENGINE = InnoDB";

impl MariaDb {
    pub fn start() -> Self {
        Self::start_as(Role::Alone)
    }

    /// One that others can copy.
    pub fn start_primary() -> Self {
        let server = Self::start_as(Role::Primary);
        server.execute(COPIED_TO);
        server
    }

    /// A server that copies this primary from the beginning of its log, and that only its
    /// administrator may write to. `number` is not one that another replica has.
    pub fn start_replica(&self, number: u32) -> Self {
        let server = Self::start_as(Role::Replica(1 + number));
        server.execute(COPIED_TO);
        server.execute(&format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root', \
             MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos; START SLAVE",
            self.port
        ));
        server
    }

    fn start_as(role: Role) -> Self {
        let dir = tempfile::Builder::new().prefix("floodgate-mariadb-").tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { dir, port, child: None, role };
        server.restart();
        // A kill within the moment in which it makes its files would leave them unusable.
        let pid = Pid::from_child(server.child.as_ref().expect("it runs"));
        kill_process(pid, Signal::TERM).unwrap();
        server.wait_until("does not end", |server| {
            let child = server.child.as_mut().expect("it was started");
            child.try_wait().unwrap().is_some_and(|status| status.success())
        });
        server.restart();
        server
    }

    /// Starts it on the same data and the same port, and waits until it answers.
    pub fn restart(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let errors = File::options().create(true).append(true).open(self.dir.path().join("errors")).unwrap();
        let readied = self.times_ready();
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=1"])
            // Without tables of users: everybody is let in, and no installer is needed.
            .args(["--innodb-buffer-pool-size=64M", "--skip-grant-tables"])
            .args(match self.role {
                Role::Alone => vec!["--skip-log-bin".to_owned()],
                Role::Primary => vec!["--server-id=1".to_owned(), "--log-bin=log".to_owned()],
                Role::Replica(number) => {
                    vec![
                        format!("--server-id={number}"),
                        "--read-only".to_owned(),
                        "--relay-log=relay".to_owned(),
                    ]
                }
            })
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
        // A socket is there before that, and a server that is told to end in between never does.
        self.wait_until("is not ready", |server| server.times_ready() > readied);
    }

    /// How often it has said that it serves.
    fn times_ready(&self) -> usize {
        self.said().matches("ready for connections").count()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default()
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "mariadbd {what}: {}", self.said());
            sleep(Duration::from_millis(50));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL without a database.
    pub fn server_url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    /// Has the client that comes with the server carry this out, as its administrator. Returns rows
    /// as lines, with a tab between columns.
    #[track_caller]
    pub fn execute(&self, sql: &str) -> String {
        let done = Command::new("mariadb")
            .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--batch"])
            .args(["--skip-column-names", &format!("--port={}", self.port), "--execute", sql])
            .output()
            .unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    /// Stops its process, or lets it go on: it keeps its connections, and answers nothing.
    pub fn freeze(&self, is_frozen: bool) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, if is_frozen { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    pub fn kill(&mut self) {
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
