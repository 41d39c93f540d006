//! The message services that are measured: Floodgate's, NATS with JetStream that syncs each
//! write, and RabbitMQ; and the endpoint that is delivered to. All listen on loopback, on both
//! processors, in directories of their own.

use super::{
    TempDir,
    process::{BOTH_CORES, Running, pinned},
    servers::{PATIENCE, ask, free_address, nginx, text, wait_for},
};
use crate::shell::{Failure, output};
use crate::tools;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// Deliveries at once to the endpoint, as many as a subscription may have.
const IN_FLIGHT_MAX: u32 = 1000;

/// `floodgate serve` with its message service.
pub(super) struct Floodgate {
    pub(super) running: Running,
    pub(super) at: SocketAddr,
    pub(super) api_key: String,
    program: PathBuf,
    dir: TempDir,
}

impl Floodgate {
    pub(super) fn start(program: &Path, dir: PathBuf) -> Result<Self, Failure> {
        let dir = TempDir::at(dir)?;
        let (at, shop, admin) = (free_address()?, free_address()?, free_address()?);
        let (data, config) = (text(&dir.0.join("data")), text(&dir.0.join("floodgate.toml")));
        fs::write(
            &config,
            format!(
                "[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n\
                 [gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\n\
                 [notify]\nlisten = \"{at}\"\nopen_max = 2048\nallowed_networks = [\"127.0.0.0/8\"]\n"
            ),
        )?;
        let running = Self::run(program, &dir, at)?;
        let key = output(&text(program), &["key", "new", "bench", "--role", "owner", "--data", &data])?;
        Ok(Self { running, at, api_key: key.trim().to_owned(), program: program.to_owned(), dir })
    }

    fn run(program: &Path, dir: &TempDir, at: SocketAddr) -> Result<Running, Failure> {
        let log = dir.0.join("log");
        let (data, config) = (text(&dir.0.join("data")), text(&dir.0.join("floodgate.toml")));
        let running =
            Running::start(BOTH_CORES, program, &["serve", "--data", &data, "--config", &config], &log)?;
        wait_for("the message service", at, &log)?;
        Ok(running)
    }

    /// Kills it and starts it again. When it was killed.
    pub(super) fn kill_and_start(&mut self) -> Result<Instant, Failure> {
        self.running.child().kill()?;
        self.running.child().wait()?;
        let killed = Instant::now();
        self.running = Self::run(&self.program, &self.dir, self.at)?;
        Ok(killed)
    }

    pub(super) fn define_topic(&self, topic: &str) -> Result<(), Failure> {
        self.ask("PUT", &format!("topics/{topic}"), &json!({})).map(drop)
    }

    pub(super) fn subscribe(&self, name: &str, topic: &str, to: SocketAddr) -> Result<(), Failure> {
        let url = format!("http://{to}/{name}");
        let spec = json!({ "topic": topic, "url": url, "in_flight_max": IN_FLIGHT_MAX });
        self.ask("PUT", &format!("subscriptions/{name}"), &spec).map(drop)
    }

    /// What the subscription has had, and the attempts that failed.
    pub(super) fn delivered(&self, name: &str) -> Result<(u64, u64), Failure> {
        let seen = self.ask("GET", &format!("subscriptions/{name}"), &Value::Null)?;
        let count = |what: &str| seen[what].as_u64().unwrap_or_default();
        Ok((count("delivered"), count("failed")))
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.api_key,
            body.len()
        );
        serde_json::from_str(&ask(self.at, &request)?).map_err(|e| Failure(e.to_string()))
    }
}

/// nats-server with a stream on the same disk.
pub(super) struct Nats {
    pub(super) running: Running,
    pub(super) at: SocketAddr,
    _dir: TempDir,
}

impl Nats {
    pub(super) const SUBJECT: &str = "bench";

    pub(super) fn start(dir: PathBuf) -> Result<Self, Failure> {
        let dir = TempDir::at(dir)?;
        let at = free_address()?;
        let (config, store, log) = (dir.0.join("nats.conf"), text(&dir.0.join("store")), dir.0.join("log"));
        fs::write(
            &config,
            format!("listen: \"{at}\"\njetstream {{ store_dir: \"{store}\", sync_interval: always }}\n"),
        )?;
        let program = tools::python_program("nats-server");
        let running = Running::start(BOTH_CORES, &program, &["-c", &text(&config)], &log)?;
        wait_for("nats-server", at, &log)?;
        let stream = json!({
            "name": "BENCH", "subjects": [Self::SUBJECT], "retention": "limits", "storage": "file", "num_replicas": 1,
            "discard": "old", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
            "allow_atomic": true,
        });
        let body = stream.to_string();
        let mut to = TcpStream::connect(at)?;
        to.set_read_timeout(Some(PATIENCE))?;
        let create = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB _INBOX.made 1\r\n\
             PUB $JS.API.STREAM.CREATE.BENCH _INBOX.made {}\r\n{body}\r\n",
            body.len()
        );
        to.write_all(create.as_bytes())?;
        for line in BufReader::new(to).lines() {
            let line = line?;
            if line.contains("\"error\"") || line.starts_with("-ERR") {
                return Err(Failure(format!("NATS does not make the stream: {line}")));
            }
            if line.starts_with('{') {
                return Ok(Self { running, at, _dir: dir });
            }
        }
        Err(Failure("NATS closed the connection".into()))
    }
}

/// RabbitMQ, whose publishers ask for persistent messages in a durable queue, and for confirms.
pub(super) struct RabbitMq {
    pub(super) running: Running,
    pub(super) at: SocketAddr,
    /// Its name service, which would otherwise be left running. It ends after it.
    _names: Running,
    _dir: TempDir,
}

impl RabbitMq {
    pub(super) const QUEUE: &str = "bench";

    /// It needs three ports, of which another connection may have taken one meanwhile: then it is
    /// tried again.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let mut started = Self::start_once(dir);
        for _ in 0..2 {
            if started.is_ok() {
                break;
            }
            started = Self::start_once(dir);
        }
        started
    }

    fn start_once(dir: &Path) -> Result<Self, Failure> {
        let dir = TempDir::at(dir.to_owned())?;
        let (at, names_at, between) = (free_address()?, free_address()?, free_address()?);
        let (log, names_log) = (dir.0.join("log"), dir.0.join("names.log"));
        let names_port = names_at.port().to_string();
        let names = ["-port", &names_port, "-address", "127.0.0.1"];
        let names = Running::start(BOTH_CORES, Path::new("epmd"), &names, &names_log)?;
        wait_for("epmd", names_at, &names_log)?;
        let mut command = pinned(BOTH_CORES, Path::new(tools::RABBITMQ));
        let file = |name: &str| text(&dir.0.join(name));
        command
            // It is a script that calls programs of its own choice.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &dir.0)
            .env("ERL_EPMD_PORT", names_port)
            .env("RABBITMQ_NODENAME", "bench@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", at.ip().to_string())
            .env("RABBITMQ_NODE_PORT", at.port().to_string())
            .env("RABBITMQ_DIST_PORT", between.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("logs"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_CONFIG_FILE", file("none"))
            .env("RABBITMQ_CONF_ENV_FILE", file("none-env"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let running = Running::spawn(&mut command)?;
        wait_for("RabbitMQ", at, &log)?;
        Ok(Self { running, at, _names: names, _dir: dir })
    }
}

/// An nginx that accepts every delivery.
pub(super) struct Accepting {
    pub(super) _running: Running,
    pub(super) at: SocketAddr,
}

impl Accepting {
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let at = free_address()?;
        let server = format!("server {{ listen {at} backlog=4096; location / {{ return 204; }} }}");
        let running = nginx(BOTH_CORES, dir, "", &server)?;
        wait_for("nginx", at, &dir.join("log"))?;
        Ok(Self { _running: running, at })
    }
}
