//! The servers that are measured: the gate with a sale, and its rivals, each set up to be fast: one
//! worker, no access log, keep-alive connections. All listen on loopback, at ports of their own, in
//! directories of their own.

use super::{
    TempDir,
    process::{QUIET_FOR, Running, SERVER_CORE},
};
use crate::shell::{Failure, output};
use crate::tools::LUA_MODULE;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LUA_KIT: &str = "/usr/lib/nginx/modules/ndk_http_module.so";

/// Units on sale: more than any run asks for.
const STOCK: u64 = 100_000_000;
/// How long a server may take to listen, and to answer what the bench itself asks.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(super) fn wait_for(what: &str, address: SocketAddr, log: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > PATIENCE {
            let log = fs::read_to_string(log).unwrap_or_default();
            return Err(Failure(format!("{what} does not listen at {address}; it said:\n{log}")));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The body of an answer with status 200.
pub(super) fn ask(to: SocketAddr, request: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(Failure(format!("asked {request:?}, got {text:?}"))),
    }
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `floodgate serve` with one sale.
pub(super) struct Gate {
    pub(super) running: Running,
    pub(super) shop: SocketAddr,
    pub(super) tls: Option<SocketAddr>,
    /// The listener of its message service.
    pub(super) events: Option<SocketAddr>,
    pub(super) api_key: String,
    /// The URL for its attempts.
    pub(super) attempts_path: String,
    program: PathBuf,
    // After `running`, so that it is dropped when no process writes there any more.
    dir: TempDir,
}

/// The settings that switch the message service off, which would need a port of its own; none for a
/// program that has no message service yet.
pub(super) fn no_messages(program: &Path) -> Result<&'static str, Failure> {
    let has_messages = output(&text(program), &["config"])?.contains("[notify]");
    Ok(if has_messages { "[notify]\nlisten = \"\"\n" } else { "" })
}

/// A section of the configuration, with a certificate made for it.
fn tls_settings(dir: &Path, at: SocketAddr) -> Result<String, Failure> {
    let (certificate, key) = (text(&dir.join("shop.pem")), text(&dir.join("shop.key")));
    let of_key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let of_files = ["-keyout", &key, "-out", &certificate, "-days", "30", "-subj", "/CN=shop.test"];
    output("openssl", &[&of_key[..], &of_files].concat())?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(format!("[gate.tls]\nlisten = \"{at}\"\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n"))
}

/// The settings that differ from gate to gate.
pub(super) struct Setup {
    pub(super) stock: u64,
    /// Attempts a second by one shopper; 0 is no limit.
    pub(super) shopper_per_second: u32,
    /// The limits of addresses hold for loopback too, as by default.
    pub(super) is_limited: bool,
    /// It listens for TLS too.
    pub(super) has_tls: bool,
    /// It has its message service.
    pub(super) has_messages: bool,
}

impl Setup {
    pub(super) const OPEN: Self =
        Self { stock: STOCK, shopper_per_second: 0, is_limited: false, has_tls: false, has_messages: false };
}

impl Gate {
    pub(super) const SALE: &str = "bench";

    pub(super) fn start(program: &Path, dir: PathBuf, setup: &Setup) -> Result<Self, Failure> {
        let dir = TempDir::at(dir)?;
        let (shop, admin) = (free_address()?, free_address()?);
        let limits = match setup.is_limited {
            true => String::new(),
            false => format!(
                "[gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\nshopper_per_second = {}\nshopper_burst = 1\n",
                setup.shopper_per_second
            ),
        };
        let (tls, of_tls) = match setup.has_tls {
            true => {
                let at = free_address()?;
                (Some(at), tls_settings(&dir.0, at)?)
            }
            false => (None, String::new()),
        };
        let events = free_address()?;
        let messages = match setup.has_messages {
            true => format!("[notify]\nlisten = \"{events}\"\nallowed_networks = [\"127.0.0.0/8\"]\n"),
            false => no_messages(program)?.to_owned(),
        };
        fs::write(
            dir.0.join("floodgate.toml"),
            format!(
                "[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n{limits}[gate.connections]\nthreads = 1\n{of_tls}{messages}"
            ),
        )?;
        let (data, config, log) =
            (text(&dir.0.join("data")), text(&dir.0.join("floodgate.toml")), dir.0.join("log"));
        let args = ["serve", "--data", &data, "--config", &config];
        let running = Running::start(SERVER_CORE, program, &args, &log)?;
        wait_for("the gate", admin, &log)?;
        wait_for("the gate", shop, &log)?;
        let key = output(&text(program), &["key", "new", "bench", "--role", "owner", "--data", &data])?;
        define(admin, &key, setup.stock)?;
        let mut gate = Self {
            running,
            shop,
            tls,
            events: setup.has_messages.then_some(events),
            api_key: key.trim().to_owned(),
            attempts_path: String::new(),
            program: program.to_owned(),
            dir,
        };
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let document: Value =
                serde_json::from_str(&gate.document()?).map_err(|e| Failure(e.to_string()))?;
            if let Some(url) = document["attempts_url"].as_str() {
                gate.attempts_path = url[url.find("/api/").unwrap_or(0)..].to_owned();
                gate.running.wait_until_quiet(QUIET_FOR)?;
                return Ok(gate);
            }
            sleep(Duration::from_millis(50));
        }
        Err(Failure("the sale did not open".into()))
    }

    pub(super) fn document_path() -> String {
        format!("/api/v1/sales/{}", Self::SALE)
    }

    /// The sale's public state.
    pub(super) fn document(&self) -> Result<String, Failure> {
        ask(
            self.shop,
            &format!("GET {} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", Self::document_path()),
        )
    }

    /// A file of passes of `count` shoppers, who are new to the sale if `name` is new.
    pub(super) fn passes(&self, name: &str, count: usize) -> Result<PathBuf, Failure> {
        self.credentials(name, count, &["--sale", Self::SALE])
    }

    /// The same of the tokens for which the shop's customers get their passes.
    pub(super) fn tokens(&self, name: &str, count: usize) -> Result<PathBuf, Failure> {
        self.credentials(name, count, &[])
    }

    /// Lines of the log that report a change of stage.
    pub(super) fn stages(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.0.join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("stage has changed")).map(str::to_owned).collect()
    }

    fn credentials(&self, name: &str, count: usize, more: &[&str]) -> Result<PathBuf, Failure> {
        let (data, config) = (text(&self.dir.0.join("data")), text(&self.dir.0.join("floodgate.toml")));
        let count = count.to_string();
        let args = ["token", "--data", &data, "--config", &config, "--shopper", name, "--count", &count];
        let args = [&args[..], more].concat();
        let file = self.dir.0.join(format!("credentials-{name}"));
        fs::write(&file, output(&text(&self.program), &args)?)?;
        Ok(file)
    }
}

/// Sets the sale up, with an API key of an owner. It opens at once, or in a moment.
pub(super) fn define(admin: SocketAddr, key: &str, stock: u64) -> Result<(), Failure> {
    let document = json!({
        "name": "Bench", "currency": "EUR", "hold_seconds": 86_400, "waitlist": { "places": 0 },
        "items": [{ "item": "phone", "name": "Phone" }],
        "rounds": [{
            "opens_at": "2020-01-01T00:00:00Z", "closes_at": "2100-01-01T00:00:00Z",
            "items": [{ "item": "phone", "stock": stock, "price_minor": 79_900 }],
        }],
    });
    let body = document.to_string();
    let request = format!(
        "PUT /api/v1/admin/sales/{} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        Gate::SALE,
        key.trim(),
        body.len()
    );
    ask(admin, &request).map(drop)
}

/// One nginx that answers at once, in four ways.
pub(super) struct Nginx {
    pub(super) running: Running,
    pub(super) ok: SocketAddr,
    pub(super) not_found: SocketAddr,
    /// The sale's document as a string in its configuration.
    pub(super) string: SocketAddr,
    /// The same as a file that is kept open.
    pub(super) file: SocketAddr,
}

impl Nginx {
    /// The path of the document as a file.
    pub(super) const FILE_PATH: &str = "/sale.json";

    pub(super) fn start(dir: &Path, document: &str) -> Result<Self, Failure> {
        fs::create_dir_all(dir.join("www"))?;
        fs::write(dir.join("www/sale.json"), document)?;
        let (ok, not_found, string, file) =
            (free_address()?, free_address()?, free_address()?, free_address()?);
        let quoted = document.replace('\\', "\\\\").replace('\'', "\\'").replace('$', "${dollar}");
        let servers = format!(
            "geo $dollar {{ default \"$\"; }}
            server {{ listen {ok} backlog=4096; location / {{ return 200; }} }}
            server {{ listen {not_found} backlog=4096; location / {{ return 404; }} }}
            server {{ listen {string} backlog=4096; default_type application/json; location / {{ return 200 '{quoted}'; }} }}
            server {{ listen {file} backlog=4096; default_type application/json; root {dir}/www;
                sendfile on; tcp_nopush on; open_file_cache max=10 inactive=1h; open_file_cache_valid 1h; types {{ }} }}",
            dir = dir.display()
        );
        let running = nginx(SERVER_CORE, dir, "", &servers)?;
        wait_for("nginx", file, &dir.join("log"))?;
        Ok(Self { running, ok, not_found, string, file })
    }
}

/// An nginx of one worker with these servers.
pub(super) fn nginx(core: &str, dir: &Path, modules: &str, servers: &str) -> Result<Running, Failure> {
    let config = dir.join("nginx.conf");
    let here = dir.display();
    let temp = |kind: &str| format!("{kind}_temp_path {here}/{kind};");
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temp).join(" ");
    fs::write(
        &config,
        format!(
            "{modules}
            user root; daemon off; worker_processes 1; worker_rlimit_nofile 20000;
            pid {here}/nginx.pid; error_log {here}/error.log error;
            events {{ worker_connections 19900; }}
            http {{
                access_log off; keepalive_requests 4000000000; keepalive_timeout 1h; tcp_nodelay on; {temps}
                {servers}
            }}"
        ),
    )?;
    let (prefix, config, log) = (text(dir), text(&config), dir.join("log"));
    Running::start(core, Path::new("nginx"), &["-p", &prefix, "-c", &config], &log)
}

/// nginx that asks Redis by one script a purchase.
pub(super) struct LuaRedis {
    pub(super) nginx: Running,
    pub(super) redis: Running,
    pub(super) shop: SocketAddr,
    redis_at: SocketAddr,
}

/// Stock, limit and purchase in one step, as it is usually written.
const SCRIPT: &str = "\
if tonumber(redis.call('GET', KEYS[1]) or '0') <= 0 then return 0 end \
if redis.call('SETNX', KEYS[2], ARGV[1]) == 0 then return 2 end \
redis.call('DECR', KEYS[1]) return 1";

impl LuaRedis {
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let (shop, redis_at) = (free_address()?, free_address()?);
        let (port, here, log) = (redis_at.port().to_string(), text(dir), dir.join("redis-log"));
        // A local socket spares both of them the kernel's TCP.
        let socket = text(&dir.join("redis.sock"));
        // No work besides appending: no snapshots, and the file is never rewritten.
        let args = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            &socket,
            "--dir",
            &here,
            "--daemonize",
            "no",
            "--save",
            "",
        ];
        let durable =
            ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
        let args = [&args[..], &durable].concat();
        let redis = Running::start(SERVER_CORE, Path::new("redis-server"), &args, &log)?;
        wait_for("redis", redis_at, &log)?;
        let sha = resp(redis_at, &["SCRIPT", "LOAD", SCRIPT])?;
        // Passes are not verified, and the body is read but not parsed: both would only add to its
        // cost.
        let servers = format!(
            "lua_package_path '/usr/share/lua/5.1/?.lua;;';
            server {{
                listen {shop} backlog=4096; default_type application/json;
                location / {{ content_by_lua_block {{
                    ngx.req.read_body()
                    local redis = require 'nginx.redis'
                    local red = redis:new()
                    red:set_timeout(10000)
                    local answer, result = '{{\"outcome\":\"unavailable\"}}', nil
                    if red:connect('unix:{socket}') then
                        result = red:evalsha('{sha}', 2, 'stock', 'bought:' .. ngx.var.http_idempotency_key, '1')
                        red:set_keepalive(60000, 512)
                    end
                    if result == 1 then answer = '{{\"outcome\":\"granted\"}}'
                    elseif result == 0 then answer = '{{\"outcome\":\"sold_out\"}}'
                    elseif result == 2 then answer = '{{\"outcome\":\"limit_reached\"}}'
                    else ngx.status = 503 end
                    ngx.header.content_length = #answer
                    ngx.print(answer)
                }} }}
            }}"
        );
        let modules = format!("load_module {LUA_KIT}; load_module {LUA_MODULE};");
        let nginx = nginx(SERVER_CORE, dir, &modules, &servers)?;
        wait_for("nginx with Lua", shop, &dir.join("log"))?;
        Ok(Self { nginx, redis, shop, redis_at })
    }

    /// Forgets which shoppers have bought.
    pub(super) fn restock(&self) -> Result<(), Failure> {
        resp(self.redis_at, &["FLUSHALL"])?;
        resp(self.redis_at, &["SET", "stock", &STOCK.to_string()])?;
        Ok(())
    }

    /// The units that are left.
    pub(super) fn sold(&self) -> Result<u64, Failure> {
        let left = resp(self.redis_at, &["GET", "stock"])?;
        let left: u64 = left.parse().map_err(|_| Failure(format!("redis has {left:?} in stock")))?;
        Ok(STOCK - left)
    }
}

/// Redis's answer to one command (RESP 2), if it is a line or a string.
fn resp(to: SocketAddr, words: &[&str]) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let words: String = std::iter::once(format!("*{}\r\n", words.len()))
        .chain(words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())))
        .collect();
    stream.write_all(words.as_bytes())?;
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().unwrap_or_else(|| Ok(String::new()));
    let first = line()?;
    match first.chars().next() {
        Some('+' | ':') => Ok(first[1..].to_owned()),
        Some('$') if first != "$-1" => Ok(line()?),
        _ => Err(Failure(format!("redis said {first:?}"))),
    }
}
