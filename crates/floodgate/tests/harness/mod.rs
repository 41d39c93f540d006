//! A real `floodgate` process with its own data directory and ports, and the ways to end it. This
//! module knows commands, files and signals; HTTP is in [`http`] and [`shop`].
#![allow(dead_code, unreachable_pub, reason = "each test target uses its own part")]

pub mod challenge;
pub mod http;
pub mod identities;
pub mod mailpit;
#[path = "../../../engines/tests/engines/mariadb/server.rs"]
pub mod mariadb;
#[path = "../../../engines/tests/engines/nats/server.rs"]
pub mod nats;
pub mod shop;

use http::{Client, Reply};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_floodgate");

/// The longest wait for anything that must happen: far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Loopback has no limits here, because all shoppers of a test come from there.
const SETTINGS: &str = "\
[log]
level = \"warn\"

[gate.limits]
exempt_addresses = [\"127.0.0.0/8\"]
shopper_per_second = 0
";

/// Repeats a question until there is an answer.
#[track_caller]
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Keys of the configuration's `[gate]` in addition to the tests' own.
    pub gate: String,
    /// Keys of the configuration's `[notify]`.
    pub notify: String,
    /// Tables of configuration after the tests' own.
    pub settings: String,
    /// Arguments after `serve`.
    pub serve: Vec<String>,
    /// The command that starts it, if not the test itself; the binary and its arguments follow.
    pub wrapper: Vec<String>,
    /// The data directory, if not in the scratch directory.
    pub data: Option<PathBuf>,
}

/// A server. It is killed when the test ends, however it ends.
#[derive(Debug)]
pub struct Server {
    scratch: tempfile::TempDir,
    pub data: PathBuf,
    setup: Setup,
    child: Option<Child>,
    /// Kept open: a server that cannot print ends.
    stdout: Option<BufReader<ChildStdout>>,
    /// `HOST:PORT` of each listener; the same after a restart.
    pub shop: String,
    pub admin: String,
    pub events: String,
    /// Of the store, where there is one.
    pub store: String,
    /// All that it printed at its start.
    pub printed: String,
    pub client: Client,
    owner_key: String,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let scratch = tempfile::Builder::new().prefix("floodgate-test-").tempdir().unwrap();
        let data = setup.data.clone().unwrap_or_else(|| scratch.path().join("data"));
        let free = || "127.0.0.1:0".to_owned();
        let mut server = Self {
            scratch,
            data,
            setup,
            child: None,
            stdout: None,
            shop: free(),
            admin: free(),
            events: free(),
            store: String::new(),
            printed: String::new(),
            client: Client::default(),
            owner_key: String::new(),
        };
        server.write_config();
        server.restart();
        if server.setup.wrapper.is_empty() {
            server.owner_key = server.make_key(&unique("tests"), "owner");
        }
        server
    }

    /// A scratch directory that lives as long as the server.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.scratch.path().join("floodgate.toml")
    }

    fn write_config(&self) {
        let own = &self.setup.gate;
        let gate =
            format!("[gate]\n{own}shop_listen = \"{}\"\nadmin_listen = \"{}\"\n", self.shop, self.admin);
        let notify = format!("[notify]\n{}listen = \"{}\"\n", self.setup.notify, self.events);
        fs::write(self.config_file(), format!("{gate}{SETTINGS}{notify}{}", self.setup.settings)).unwrap();
    }

    /// The arguments after `serve` from the next start on.
    pub fn set_serve(&mut self, args: &[&str]) {
        self.setup.serve = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// The tables of configuration after the tests' own, from the next start on.
    pub fn set_settings(&mut self, settings: &str) {
        self.setup.settings = settings.to_owned();
    }

    /// Starts it on the same data and the same ports.
    pub fn restart(&mut self) {
        self.restart_unready();
        poll("readyz", || {
            self.client.try_send("GET", &self.admin_url("/readyz"), &[], "").ok().filter(|r| r.status == 200)
        });
    }

    /// The same, for a server that will not report that it is ready.
    pub fn restart_unready(&mut self) {
        self.write_config();
        poll("start the server", || self.try_start());
    }

    /// `None` while another process has one of the ports for a moment.
    fn try_start(&mut self) -> Option<()> {
        let errors = self.scratch.path().join("stderr");
        let args = [
            "serve".to_owned(),
            "--data".into(),
            self.data.display().to_string(),
            "--config".into(),
            self.config_file().display().to_string(),
        ];
        let words: Vec<&str> =
            self.setup.wrapper.iter().map(String::as_str).chain(std::iter::once(BINARY)).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(args)
            .args(&self.setup.serve)
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        // When the admin line is there, all lines before it have been printed.
        while !printed.contains("admin: http://") {
            if stdout.read_line(&mut printed).unwrap() == 0 {
                let status = child.wait().unwrap();
                let said = fs::read_to_string(&errors).unwrap();
                if said.ends_with("(os error 98)\n") {
                    return None;
                }
                panic!("the server ended before it was ready, {status}: {said}");
            }
        }
        let address = |name: &str| {
            let at = printed.split_once(name).unwrap().1;
            at.split_once("http://").unwrap().1.split('/').next().unwrap().to_owned()
        };
        (self.shop, self.admin) = (address("shop:"), address("admin:"));
        if printed.contains("events: http://") {
            self.events = address("events:");
        }
        if printed.contains("store: http://") {
            self.store = address("store:");
        }
        (self.child, self.stdout, self.printed) = (Some(child), Some(stdout), printed);
        Some(())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the server runs"))
    }

    /// `kill -9`, at any moment.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The same, from a thread that only borrows the server, which collects it with [`Self::wait`].
    pub fn send_sigkill(&self) {
        kill_process(self.pid(), Signal::KILL).unwrap();
    }

    /// Asks it to end.
    pub fn send_sigterm(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let status = poll("end of the server", || child.try_wait().unwrap());
        assert!(child.try_wait().is_ok());
        status
    }

    /// What it printed after the line with its admin address, once it has ended.
    pub fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout.take().unwrap(), &mut rest).unwrap();
        rest
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) {
        self.send_sigterm();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.errors());
    }

    /// Its standard error, over all restarts.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default()
    }

    /// Runs a subcommand on its data.
    pub fn command(&self, args: &[&str]) -> Output {
        run(&self.data, Some(&self.config_file()), args)
    }

    /// The same, for one that must succeed; its standard output.
    #[track_caller]
    pub fn output(&self, args: &[&str]) -> String {
        stdout(&self.command(args))
    }

    /// The audit of the log; every invariant must be proven.
    #[track_caller]
    pub fn audit(&self) -> Value {
        audit(&self.data)
    }

    pub fn shop_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.shop)
    }

    /// Of the message service.
    pub fn events_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.events)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// Only the server sees the data under its own path; `path` is where this process sees it.
    pub fn see_data_at(&mut self, path: PathBuf) {
        self.data = path;
        self.owner_key = self.new_key(&unique("tests"), "owner");
    }

    fn make_key(&self, name: &str, role: &str) -> String {
        self.output(&["key", "new", name, "--role", role]).trim().to_owned()
    }

    /// An API key of a role, once the running server has read it.
    pub fn new_key(&self, name: &str, role: &str) -> String {
        self.known_key(self.make_key(name, role))
    }

    /// An API key of a tenant, with these rights and other arguments, once the running server has
    /// read it.
    pub fn tenant_key(&self, name: &str, tenant: &str, rights: &str, others: &[&str]) -> String {
        let args = [&["key", "new", name, "--tenant", tenant, "--rights", rights], others].concat();
        self.known_key(self.output(&args).trim().to_owned())
    }

    fn known_key(&self, key: String) -> String {
        let url = self.admin_url("/api/v1/admin/sales/none/stats");
        poll("the new key", || (self.client.admin("GET", &url, &key, "").status != 401).then_some(()));
        key
    }

    /// An operator's request under `/api/v1/admin`, as an owner.
    pub fn admin_send(&self, method: &str, path: &str, body: &str) -> Reply {
        let key = self.owner_key.clone();
        self.client.admin(method, &self.admin_url(&format!("/api/v1/admin{path}")), &key, body)
    }

    /// The same; none if no answer came.
    pub fn try_admin_send(&self, method: &str, path: &str, body: &str) -> Option<Reply> {
        let url = self.admin_url(&format!("/api/v1/admin{path}"));
        let bearer = format!("Bearer {}", self.owner_key);
        let fields = [("content-type", "application/json"), ("authorization", &*bearer)];
        self.client.try_send(method, &url, &fields, body).ok()
    }

    /// The same, for one that must succeed.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.admin_send(method, path, &body.to_string());
        assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        reply.json()
    }

    /// Uploads a sale's deny list, one shopper a line; it is in force when this returns.
    #[track_caller]
    pub fn deny(&self, sale: &str, shoppers: &str) {
        let url = self.admin_url(&format!("/api/v1/admin/sales/{sale}/denylist?reason=bots"));
        let bearer = format!("Bearer {}", self.owner_key);
        let fields = [("authorization", &*bearer), ("content-type", "text/plain")];
        let reply = self.client.send("PUT", &url, &fields, shoppers);
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    #[track_caller]
    pub fn stats(&self, sale: &str) -> Value {
        let reply = self.admin_send("GET", &format!("/sales/{sale}/stats"), "");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}

/// A name that no other server of this process has used: a restored directory keeps its keys.
fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Relaxed))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let mut said = String::new();
            let _ = writeln!(said, "the server said:\n{}", self.errors());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
        }
    }
}

/// A program of the Python environment that `cargo xtask test` makes next to the build's output.
pub fn python_program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("python/bin").join(name)
}

/// Runs the binary on a data directory.
pub fn run(data: &Path, config: Option<&Path>, args: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).arg("--data").arg(data);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.output().unwrap()
}

/// The standard output of a command that must have succeeded.
#[track_caller]
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Audits a data directory: every sale's report, each of which must hold.
#[track_caller]
pub fn audit(data: &Path) -> Value {
    let text = stdout(&run(data, None, &["audit", "--json"]));
    let reports: Value = serde_json::from_str(&text).unwrap();
    for report in reports.as_array().unwrap() {
        assert_eq!(report["proven"], true, "{report}");
        assert_eq!(report["invariants"].as_array().unwrap().len(), 7, "{report}");
    }
    reports
}
