//! A real nats-server on this machine, with JetStream that syncs every message, and the ways to end
//! it; and a proxy in front of it that holds back what a client sends.
//!
//! Knows processes and sockets, and nothing of logs.
#![allow(dead_code, unreachable_pub, reason = "each test target uses its own part")]

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server with a store of its own. It is killed when the test ends, however it ends.
#[derive(Debug)]
pub struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    /// What the configuration has in `jetstream { }`, and beside it.
    pub jetstream: String,
    pub settings: String,
}

/// A program of the Python environment that `cargo xtask test` makes next to the build's output.
fn program() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("python/bin/nats-server")
}

impl NatsServer {
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// Three servers, each of which has every message of a stream with three replicas. They need a
    /// few seconds until they have found each other.
    pub fn cluster() -> Vec<Self> {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let routes = [free(), free(), free()];
        let all = routes.map(|at| format!("nats://{at}")).join(", ");
        let settings = |(nth, at)| {
            format!("server_name: n{nth}\ncluster {{ name: tests, listen: \"{at}\", routes: [{all}] }}")
        };
        routes.iter().enumerate().map(settings).map(|settings| Self::with("", &settings)).collect()
    }

    pub fn with(jetstream: &str, settings: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("floodgate-nats-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (jetstream, settings) = (jetstream.to_owned(), settings.to_owned());
        let mut server = Self { dir, port, child: None, jetstream, settings };
        server.restart();
        server
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Starts it on the same store and the same port.
    pub fn restart(&mut self) {
        let (config, store) = (self.dir().join("nats.conf"), self.dir().join("store"));
        let (address, jetstream, settings) = (self.address(), &self.jetstream, &self.settings);
        let text = format!(
            "listen: \"{address}\"\n{settings}\n\
             jetstream {{\n store_dir: \"{}\"\n sync_interval: always\n {jetstream}\n}}\n",
            store.display()
        );
        fs::write(&config, text).unwrap();
        let log = File::options().create(true).append(true).open(self.dir().join("log")).unwrap();
        let program = program();
        let spawned = Command::new(&program).arg("-c").arg(&config).stderr(log).spawn();
        self.child = Some(spawned.unwrap_or_else(|error| {
            panic!("start {}: {error}: `cargo xtask test` installs it", program.display())
        }));
        let began = Instant::now();
        while !self.is_there() {
            assert!(began.elapsed() < PATIENCE, "nats-server does not start: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_there(&self) -> bool {
        let Ok(stream) = TcpStream::connect(self.address()) else { return false };
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("nats-server runs"))
    }

    /// `kill -9`, at any moment.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("nats-server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// It runs, and does nothing.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Asks the server something, as any client may, and returns the answer.
    pub fn ask(&self, subject: &str, payload: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut asked = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB _INBOX.asked 1\r\nPUB {subject} _INBOX.asked {}\r\n",
            payload.len()
        )
        .into_bytes();
        asked.extend_from_slice(payload);
        asked.extend_from_slice(b"\r\n");
        stream.write_all(&asked).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("MSG ") || line.starts_with("HMSG ")), "{subject}");
        lines.next().unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A relay between clients and a server.
#[derive(Debug, Clone)]
pub struct Proxy {
    address: String,
    state: Arc<ProxyState>,
}

#[derive(Debug, Default)]
struct ProxyState {
    /// What clients send is kept, and not passed on.
    holds: AtomicBool,
    /// From the first that says this on, if there is such a word.
    trigger: Mutex<Option<&'static str>>,
    /// The connections that were begun, client's and server's end, and what was held back of each.
    open: Mutex<Vec<(TcpStream, TcpStream, Vec<u8>)>>,
}

impl Proxy {
    pub fn before(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxy = Self { address, state: Arc::default() };
        let (state, target) = (Arc::clone(&proxy.state), server.address());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, Ok(server)) = (client.unwrap(), TcpStream::connect(&target)) else { continue };
                let mut open = state.open.lock().unwrap();
                let nth = open.len();
                open.push((client.try_clone().unwrap(), server.try_clone().unwrap(), Vec::new()));
                drop(open);
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let state = Arc::clone(&state);
                thread::spawn(move || state.relay(nth, client, server));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// From now on what clients send is held back.
    pub fn hold(&self) {
        self.state.holds.store(true, Ordering::SeqCst);
    }

    /// The same, from the first message on that has this word.
    pub fn hold_from(&self, word: &'static str) {
        *self.state.trigger.lock().unwrap() = Some(word);
    }

    /// Ends the clients' ends of all connections; the server's stay, with what was held back.
    /// Connections that come later are not held.
    pub fn cut(&self) {
        self.state.holds.store(false, Ordering::SeqCst);
        for (client, ..) in self.state.open.lock().unwrap().iter() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Passes on what was held back; how many bytes it was.
    pub fn release(&self) -> usize {
        let mut released = 0;
        for (_, server, held) in self.state.open.lock().unwrap().iter_mut() {
            released += held.len();
            let _ = server.write_all(&std::mem::take(held));
        }
        // The server needs a moment to take it; there is no answer to wait for.
        thread::sleep(Duration::from_millis(200));
        released
    }
}

impl ProxyState {
    fn relay(&self, nth: usize, mut client: TcpStream, mut server: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let len = match client.read(&mut bytes) {
                Ok(len) if len > 0 => len,
                _ => return,
            };
            let has = |word: &str| bytes[..len].windows(word.len()).any(|at| at == word.as_bytes());
            if self.trigger.lock().unwrap().take_if(|word| has(word)).is_some() {
                self.holds.store(true, Ordering::SeqCst);
            }
            if self.holds.load(Ordering::SeqCst) {
                self.open.lock().unwrap()[nth].2.extend_from_slice(&bytes[..len]);
            } else if server.write_all(&bytes[..len]).is_err() {
                return;
            }
        }
    }
}
