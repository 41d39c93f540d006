//! Two servers of MariaDB of the run's own, which are killed as the store is. The databases of
//! orders are on both.

use super::server::PATIENCE;
use crate::shell::{Failure, command};
use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Databases of orders: in turns on the two.
pub(super) const ORDERS: usize = 5;

pub(super) struct MariaDb {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl MariaDb {
    /// Starts it on data of its own in this directory.
    pub(super) fn begin(scratch: &Path, name: &str) -> Result<Self, Failure> {
        let dir = scratch.join(name);
        fs::create_dir_all(dir.join("data"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self { dir, port, child: None };
        server.start()?;
        // A kill before its first files are written to the disk would leave them unusable.
        server.stop()?;
        server.start()?;
        Ok(server)
    }

    /// Ends it by SIGTERM, and waits until it has.
    fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let told = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
        told.map_err(|error| Failure(format!("end mariadbd: {error}")))?;
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(Failure("mariadbd does not end".into()));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn times_ready(&self) -> usize {
        let said = fs::read_to_string(self.dir.join("errors")).unwrap_or_default();
        said.matches("ready for connections").count()
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let errors = File::options().create(true).append(true).open(self.dir.join("errors"))?;
        let readied = self.times_ready();
        let mut server = command("mariadbd");
        server
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=1"])
            .args(["--innodb-buffer-pool-size=64M", "--skip-log-bin", "--skip-grant-tables"])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--tmpdir={}", self.dir.display()))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--port={}", self.port));
        if rustix::process::geteuid().is_root() {
            // It does not run as root unless it is told to.
            server.arg("--user=root");
        }
        self.child = Some(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?);
        let began = Instant::now();
        while self.times_ready() == readied {
            let has_ended =
                self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|of| of.is_some()));
            if has_ended || began.elapsed() > PATIENCE {
                return Err(Failure(format!("mariadbd does not start: see {}", path("errors"))));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// `kill -9`. One that has ended by itself is a failure.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            return Err(Failure(format!(
                "mariadbd ended by itself, with {status}: see {}",
                self.dir.display()
            )));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn url(&self, name: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

/// Lines for the section `[store]`.
pub(super) fn settings(servers: &[MariaDb; 2]) -> String {
    let one = |number: usize| {
        let url = servers[number % 2].url(&format!("chaos_orders_{number}"));
        format!("{{ name = \"orders_{number}\", url = \"{url}\" }}")
    };
    let orders: Vec<String> = (0..ORDERS).map(one).collect();
    format!("databases = \"{}\"\norders = [{}]\n", servers[0].url("chaos"), orders.join(", "))
}
