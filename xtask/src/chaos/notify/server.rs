//! The real server: one process after the other on the same data and the same ports, and what it
//! says about itself.

use crate::chaos::http::{Answer, ask};
use crate::shell::{Failure, command, output};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The longest wait for a start, a stop and a calm end: far beyond what a busy machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// What it writes when its message service cannot be brought back.
pub(super) const CANNOT_BE_BROUGHT_BACK: &str = "the message service cannot be brought back";

/// What it writes when it has to wait for room.
const WAITS_FOR_ITS_LOG: &str = "the message service waits: it is tried again";

pub(super) struct Server {
    binary: PathBuf,
    pub(super) data: PathBuf,
    config: PathBuf,
    /// Its standard error over all starts, which is not on the disk that fills.
    pub(super) log: PathBuf,
    pub(super) events: SocketAddr,
    /// How often it was started.
    pub(super) life: Arc<AtomicU32>,
    key: String,
    child: Option<Child>,
}

/// What came of a start.
#[derive(Debug)]
pub(super) enum Started {
    Ready,
    /// The message service is not there, or the process has ended; with what it said.
    Refused(String),
}

impl Server {
    /// `settings` are further tables of its configuration.
    pub(super) fn new(binary: &Path, data: &Path, scratch: &Path, settings: &str) -> Result<Self, Failure> {
        let free = || -> Result<SocketAddr, Failure> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
        let (shop, admin, events) = (free()?, free()?, free()?);
        let config = scratch.join("floodgate.toml");
        fs::write(
            &config,
            format!(
                "[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n\
                 [gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\n\
                 [notify]\nlisten = \"{events}\"\nallowed_networks = [\"127.0.0.0/8\"]\nattempt_ms = 2000\n{settings}"
            ),
        )?;
        Ok(Self {
            binary: binary.to_owned(),
            data: data.to_owned(),
            config,
            log: scratch.join("log"),
            events,
            life: Arc::default(),
            key: String::new(),
            child: None,
        })
    }

    /// The directory of the message service's log.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.data.join("notify/p0")
    }

    /// Starts it, and waits until the message service is ready, or has refused.
    pub(super) fn start(&mut self) -> Result<Started, Failure> {
        let began = Instant::now();
        loop {
            let said_before = self.said_bytes();
            let errors = File::options().create(true).append(true).open(&self.log)?;
            self.life.fetch_add(1, SeqCst);
            let mut child = command(&self.binary)
                .args(["serve", "--data"])
                .arg(&self.data)
                .arg("--config")
                .arg(&self.config)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors)
                .spawn()?;
            let stdout = child.stdout.take().ok_or_else(|| Failure("the server has no pipe".into()))?;
            let mut stdout = BufReader::new(stdout);
            let mut printed = String::new();
            // The line of the operators' listener is the last one.
            while !printed.contains("admin: http://") {
                if stdout.read_line(&mut printed)? == 0 {
                    let status = child.wait()?;
                    let said = self.said_since(said_before);
                    // Another process has one of the ports for a moment.
                    if said.contains("(os error 98)") && began.elapsed() < PATIENCE {
                        break;
                    }
                    return Ok(Started::Refused(format!("{status}: {said}")));
                }
            }
            if !printed.contains("admin: http://") {
                sleep(Duration::from_millis(200));
                continue;
            }
            self.child = Some(child);
            // A server that cannot print ends.
            thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
            if !printed.contains("events: http://") {
                return Ok(Started::Refused(self.said_since(said_before)));
            }
            while began.elapsed() < PATIENCE {
                let ready = ask(self.events, ("GET", "/readyz"), &[], "");
                if ready.is_ok_and(|answer| answer.status == 200) {
                    return Ok(Started::Ready);
                }
                // The sales do not wait for it, so the process goes on without.
                let said = self.said_since(said_before);
                if [CANNOT_BE_BROUGHT_BACK, WAITS_FOR_ITS_LOG].iter().any(|why| said.contains(why)) {
                    return Ok(Started::Refused(said));
                }
                sleep(Duration::from_millis(20));
            }
            return Err(Failure(format!("the server is not ready: {}", self.said_since(said_before))));
        }
    }

    /// Starts it where it must become ready.
    pub(super) fn start_well(&mut self) -> Result<(), Failure> {
        match self.start()? {
            Started::Ready => Ok(()),
            Started::Refused(said) => Err(Failure(format!("the message service does not start: {said}"))),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
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

    /// Asks it to end, which it must do in order.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        output("kill", &["-TERM", &child.id().to_string()])?;
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(Failure(format!("the server ended with {status}"))),
                };
            }
            sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        Err(Failure(format!("the server did not end within {PATIENCE:?} after SIGTERM")))
    }

    /// Makes a key for the run.
    pub(super) fn make_key(&mut self) -> Result<String, Failure> {
        let (data, config) = (self.data.to_string_lossy(), self.config.to_string_lossy());
        let args = ["key", "new", "chaos", "--role", "owner", "--data", &data, "--config", &config];
        self.key = output(&self.binary.to_string_lossy(), &args)?.trim().to_owned();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.ask("GET", "/api/v1/topics", "")?.status == 200 {
                return Ok(self.key.clone());
            }
            sleep(Duration::from_millis(50));
        }
        Err(Failure("the server does not know its new key".into()))
    }

    /// A request of an owner, to the message service.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Result<Answer, Failure> {
        let authorization = format!("Bearer {}", self.key);
        let fields = [("authorization", &*authorization), ("content-type", "application/json")];
        ask(self.events, (method, path), &fields, body)
            .map_err(|error| Failure(format!("{method} {path}: {error}")))
    }

    /// How much it has said so far.
    pub(super) fn said_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// What it has said since then.
    pub(super) fn said_since(&self, bytes: u64) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(said.get(bytes as usize..).unwrap_or_default()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}
