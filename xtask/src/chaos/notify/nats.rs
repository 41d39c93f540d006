//! nats-server, which keeps the log in a run with `--log nats`: one process after the other on the
//! same store and the same port.

use super::server::PATIENCE;
use crate::shell::{Failure, command, output};
use crate::tools;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(super) struct Nats {
    config: PathBuf,
    log: PathBuf,
    at: SocketAddr,
    child: Option<Child>,
}

impl Nats {
    /// Starts it with its store in this directory. What it says goes to `scratch`.
    pub(super) fn begin(disk: &Path, scratch: &Path) -> Result<Self, Failure> {
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (config, log) = (scratch.join("nats.conf"), scratch.join("nats.log"));
        let store = disk.join("nats");
        fs::write(
            &config,
            format!(
                "listen: \"{at}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
                store.display()
            ),
        )?;
        let mut nats = Self { config, log, at, child: None };
        nats.start()?;
        Ok(nats)
    }

    /// For the server's configuration.
    pub(super) fn settings(&self) -> String {
        format!("[logs]\nurl = \"nats://{}\"\nreplicas = 1\n", self.at)
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut child = command(tools::python_program("nats-server"));
        child.arg("-c").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(child.spawn()?);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let mut line = String::new();
            let asked = TcpStream::connect(self.at).and_then(|to| BufReader::new(to).read_line(&mut line));
            if asked.is_ok() && line.starts_with("INFO") {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        Err(Failure(format!("nats-server does not start: see {}", self.log.display())))
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// It runs, and does nothing, until it is sent `CONT`.
    pub(super) fn signal(&self, signal: &str) -> Result<(), Failure> {
        let child = self.child.as_ref().ok_or_else(|| Failure("nats-server does not run".into()))?;
        output("kill", &[signal, &child.id().to_string()]).map(drop)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
