//! The real server with a demo's shop: one process after the other on the same data and ports.

use crate::chaos::http::{Answer, ask};
use crate::shell::{Failure, command, output};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The longest wait for a start, an end and an answer: far beyond what a busy machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Where the server's listeners are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) shop: SocketAddr,
    pub(super) gate: SocketAddr,
    admin: SocketAddr,
    /// Where the gate takes attempts for the demo's sale.
    pub(super) attempts: String,
}

pub(super) struct Server {
    binary: PathBuf,
    data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pub(super) places: Places,
    key: String,
    child: Option<Child>,
}

impl Server {
    /// Starts it for the first time. `databases` is `store.databases`.
    pub(super) fn begin(binary: &Path, scratch: &Path, databases: &str) -> Result<Self, Failure> {
        let free = || -> Result<SocketAddr, Failure> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
        let (shop, gate, admin, events) = (free()?, free()?, free()?, free()?);
        let config = scratch.join("floodgate.toml");
        fs::write(
            &config,
            format!(
                "[gate]\nshop_listen = \"{gate}\"\nadmin_listen = \"{admin}\"\n[notify]\nlisten = \"{events}\"\n\
                 [store]\nlisten = \"{shop}\"\ndatabases = \"{databases}\"\n"
            ),
        )?;
        let mut server = Self {
            binary: binary.to_owned(),
            data: scratch.join("data"),
            config,
            log: scratch.join("log"),
            places: Places { shop, gate, admin, attempts: String::new() },
            key: String::new(),
            child: None,
        };
        server.start()?;
        server.key = server.run(&["key", "new", "chaos", "--role", "owner"])?.trim().to_owned();
        let sale = ask(gate, ("GET", "/api/v1/sales/demo"), &[], "")?;
        let sale: Value = serde_json::from_str(&sale.body).unwrap_or_default();
        let url = sale["attempts_url"].as_str();
        server.places.attempts = url.ok_or_else(|| Failure(format!("no sale: {sale}")))?.to_owned();
        Ok(server)
    }

    /// Starts it, and waits until the shop answers.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let mut said = Vec::new();
        while began.elapsed() < PATIENCE {
            let errors = File::options().create(true).append(true).open(&self.log)?;
            let mut child = command(&self.binary)
                .args(["serve", "--demo", "--demo-opens-in", "0", "--demo-stock", "5000", "--data"])
                .arg(&self.data)
                .arg("--config")
                .arg(&self.config)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors)
                .spawn()?;
            let mut stdout = child.stdout.take().ok_or_else(|| Failure("the server has no pipe".into()))?;
            // A server that cannot print ends.
            let printed = thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
            loop {
                let home = ask(self.places.shop, ("GET", "/"), &[], "");
                if home.is_ok_and(|answer| answer.status == 200) {
                    self.child = Some(child);
                    return Ok(());
                }
                if child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
            // Another process may have had one of the ports for a moment.
            let _ = child.kill();
            child.wait()?;
            drop(printed.join());
            said.clear();
            File::open(&self.log)?.read_to_end(&mut said)?;
            sleep(Duration::from_millis(200));
        }
        let said = String::from_utf8_lossy(&said);
        Err(Failure(format!("the shop does not open within {PATIENCE:?}: {said}")))
    }

    /// `kill -9`. One that has ended by itself is a failure.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            return Err(Failure(format!("the server ended by itself, with {status}")));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What a command of the program prints about the server's data.
    pub(super) fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let (data, config) = (self.data.to_string_lossy(), self.config.to_string_lossy());
        let place = ["--data", &data, "--config", &config];
        output(&self.binary.to_string_lossy(), &[args, &place[..]].concat())
    }

    /// An operator's request to the shop's listener.
    pub(super) fn store(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        self.operate(self.places.shop, (method, &format!("/api/v1/store{path}")), body)
    }

    /// A question at the operators' listener.
    pub(super) fn admin(&self, path: &str) -> Result<Value, Failure> {
        self.operate(self.places.admin, ("GET", &format!("/api/v1/admin{path}")), "")
    }

    fn operate(&self, to: SocketAddr, line: (&str, &str), body: &str) -> Result<Value, Failure> {
        let authorization = format!("Bearer {}", self.key);
        let fields = [("authorization", &*authorization), ("content-type", "application/json")];
        let (method, path) = line;
        let failed = |why: String| Failure(format!("{method} {path}: {why}"));
        let Answer { status, body, .. } =
            ask(to, line, &fields, body).map_err(|error| failed(error.to_string()))?;
        let value = serde_json::from_str(&body).ok().filter(|_| status == 200);
        value.ok_or_else(|| failed(format!("{status} {body}")))
    }

    /// All rows of a list, which has pages.
    pub(super) fn all(&self, path: &str, rows: &str, ask_with: &str) -> Result<Vec<Value>, Failure> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let mut page = self.store("GET", &format!("{path}?limit=100{next}"), "")?;
            if let Some(rows) = page[rows].as_array_mut() {
                all.append(rows);
            }
            match page["next"].as_str() {
                Some(after) => next = format!("&{ask_with}={after}"),
                None => return Ok(all),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}
