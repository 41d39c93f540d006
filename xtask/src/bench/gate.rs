//! `cargo xtask bench gate`: what the gate spends on a request, compared with what other servers
//! spend on the same one.
//!
//! All servers run at once and work in turn, each on the same processor and alone; the client has
//! another one. Every round has every server of a row once, and starts with another server than the
//! last round.

use super::{
    Options, Programs, Spread, TempDir,
    client::{Measured, measure},
    process::{QUIET_FOR, Running},
    servers::{Gate, LuaRedis, Nginx, Setup},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const CONNECTIONS: usize = 256;
/// Warm-up requests before those that count, so that connections, buffers and pages exist.
const WARM_UP: usize = 10_000;
/// How long a server without deferred work must be idle: its work has ended.
const SETTLES_WITHIN: Duration = Duration::from_millis(150);
/// Units of a sale, unless more are requested.
const STOCK_MIN: usize = 100_000;
/// Shoppers of the row in which they ask too often: each may still ask once a second.
const HASTY_SHOPPERS: usize = 16;
/// The part of the answers that those few may be.
const HASTY_SHARE: f64 = 0.005;

/// A server of a row, and what it must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// A fresh sale, and a new shopper with each request.
    Granted,
    /// As `Granted`, with a field that comes twice: such requests are served by hyper and axum.
    GrantedByHyper,
    SoldOut,
    BadRoundKey,
    BadPass,
    OverRate,
    State,
    NginxOk,
    NginxNotFound,
    NginxString,
    NginxFile,
    NginxLuaRedis,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Granted => "gate, granted",
            Self::GrantedByHyper => "gate, granted, through hyper and axum",
            Self::SoldOut => "gate, sold out",
            Self::BadRoundKey => "gate, wrong round key",
            Self::BadPass => "gate, forged pass",
            Self::OverRate => "gate, shopper asks too often",
            Self::State => "gate, the sale's state",
            Self::NginxOk => "nginx, return 200",
            Self::NginxNotFound => "nginx, return 404",
            Self::NginxString => "nginx, the same bytes by return",
            Self::NginxFile => "nginx, the same bytes as an open file",
            Self::NginxLuaRedis => "nginx + Lua + Redis, fsync always",
        }
    }

    /// Its name in the JSON document.
    fn key(self) -> String {
        format!("{self:?}")
    }
}

struct Row {
    /// Its name for `--only`.
    name: &'static str,
    servers: &'static [Server],
    /// Ratios of CPU time of the first server to the cheapest of these, and how high they may be.
    reaches: &'static [(&'static [Server], f64)],
}

const ROWS: &[Row] = &[
    Row {
        name: "granted",
        servers: &[Server::Granted, Server::NginxOk, Server::NginxLuaRedis],
        reaches: &[(&[Server::NginxOk], 1.15), (&[Server::NginxLuaRedis], 0.35)],
    },
    Row {
        name: "sold-out",
        servers: &[Server::SoldOut, Server::NginxOk],
        reaches: &[(&[Server::NginxOk], 1.1)],
    },
    Row {
        name: "bad-round-key",
        servers: &[Server::BadRoundKey, Server::NginxNotFound],
        reaches: &[(&[Server::NginxNotFound], 1.0)],
    },
    Row {
        name: "bad-pass",
        servers: &[Server::BadPass, Server::NginxNotFound],
        reaches: &[(&[Server::NginxNotFound], 1.0)],
    },
    Row {
        name: "over-rate",
        servers: &[Server::OverRate, Server::NginxNotFound],
        reaches: &[(&[Server::NginxNotFound], 1.0)],
    },
    Row {
        name: "state",
        servers: &[Server::State, Server::NginxString, Server::NginxFile],
        reaches: &[(&[Server::NginxString, Server::NginxFile], 1.0)],
    },
    // The gain of our own loop; without a limit.
    Row {
        name: "hyper",
        servers: &[Server::Granted, Server::GrantedByHyper],
        reaches: &[(&[Server::GrantedByHyper], f64::INFINITY)],
    },
];

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let rows: Vec<&Row> =
        ROWS.iter().filter(|row| options.only.as_deref().is_none_or(|only| only == row.name)).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(Failure(format!("--only: want one of {}", names.join(", "))));
    }
    let programs = Programs::ensure(options)?;
    let dir = TempDir::new("gate")?;
    let place = Place::set_up(&programs, &dir.0, options.requests)?;
    let mut results = Vec::new();
    for row in rows {
        let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); row.servers.len()];
        for round in 0..options.runs {
            for turn in 0..row.servers.len() {
                let at = (round + turn) % row.servers.len();
                let server = row.servers[at];
                let measured = place.measure(server)?;
                eprintln!(
                    "{} {}/{}: {}: {:.2} µs, {:.0}/s",
                    row.name,
                    round + 1,
                    options.runs,
                    server.name(),
                    measured.cpu_us(),
                    measured.requests_per_second
                );
                runs[at].push(measured);
            }
        }
        results.push(Figures { row, runs });
    }
    if options.json {
        let rows: Vec<Value> = results.iter().map(Figures::json).collect();
        let document = json!({
            "rounds": options.runs, "requests": options.requests, "connections": CONNECTIONS,
            "file_system": dir.file_system(), "rows": rows,
        });
        println!("{document}");
    } else {
        print(&results, options, &dir.file_system());
    }
    Ok(())
}

/// All servers that stay running.
struct Place<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    requests: usize,
    open: Gate,
    sold_out: Gate,
    strict: Gate,
    nginx: Nginx,
    lua_redis: LuaRedis,
    /// Of the open gate's sale, the sold-out one's, and the strict one's.
    passes: [String; 3],
}

impl<'a> Place<'a> {
    fn set_up(programs: &'a Programs, dir: &'a Path, requests: usize) -> Result<Self, Failure> {
        let start = |name: &str, setup: &Setup| Gate::start(&programs.floodgate, dir.join(name), setup);
        let open = start("open", &Setup::OPEN)?;
        let sold_out = start("sold-out", &Setup { stock: 1, ..Setup::OPEN })?;
        let strict = start("strict", &Setup { shopper_per_second: 1, ..Setup::OPEN })?;
        let nginx = Nginx::start(&dir.join("nginx"), &open.document()?)?;
        let lua_redis = LuaRedis::start(&dir.join("lua-redis"))?;
        let passes = |gate: &Gate, name: &str, count: usize| -> Result<String, Failure> {
            Ok(gate.passes(name, count)?.to_string_lossy().into_owned())
        };
        let passes = [
            passes(&open, "shopper", requests + WARM_UP)?,
            passes(&sold_out, "shopper", requests + WARM_UP)?,
            passes(&strict, "hasty", HASTY_SHOPPERS)?,
        ];
        let place = Self { programs, dir, requests, open, sold_out, strict, nginx, lua_redis, passes };
        place.buy_the_only_unit()?;
        Ok(place)
    }

    fn buy_the_only_unit(&self) -> Result<(), Failure> {
        let pass = self.sold_out.passes("first", 1)?;
        let ask = Ask {
            connections: 1,
            requests: 1,
            warm_up: 0,
            ..self.ask(&self.sold_out, &pass.to_string_lossy(), "200", GRANTED)
        };
        check("the only unit", &ask, measure(&self.programs.load, &ask.args(), &[], SETTLES_WITHIN), 0.0)
            .map(drop)
    }

    /// One measurement; it fails if the answers are not those of the row.
    fn measure(&self, server: Server) -> Result<Measured, Failure> {
        let [open, sold_out, hasty] = &self.passes;
        let nginx = |to, status| Ask { to, ..self.ask(&self.open, open, status, "") };
        let ask = match server {
            Server::Granted => return self.measure_fresh(server, self.requests, &[]),
            Server::GrantedByHyper => return self.measure_fresh(server, self.requests, &["--twice"]),
            Server::SoldOut => self.ask(&self.sold_out, sold_out, "200", r#""outcome":"sold_out""#),
            Server::BadRoundKey => Ask {
                // The key of another sale.
                path: self.sold_out.attempts_path.clone(),
                ..self.ask(&self.open, open, "404", "no round with this key")
            },
            Server::BadPass => {
                Ask { flags: &["--forged"], ..self.ask(&self.open, open, "401", "/problems#pass-refused") }
            }
            Server::OverRate => self.ask(&self.strict, hasty, "429", "too many attempts by this shopper"),
            Server::State => Ask {
                path: Gate::document_path(),
                passes: String::new(),
                ..self.ask(&self.open, "", "200", r#""state":"open""#)
            },
            Server::NginxOk => nginx(self.nginx.ok, "200"),
            Server::NginxNotFound => nginx(self.nginx.not_found, "404"),
            Server::NginxString => Ask {
                path: Gate::document_path(),
                passes: String::new(),
                marker: r#""state":"open""#,
                ..nginx(self.nginx.string, "200")
            },
            Server::NginxFile => Ask {
                path: Nginx::FILE_PATH.into(),
                passes: String::new(),
                marker: r#""state":"open""#,
                ..nginx(self.nginx.file, "200")
            },
            Server::NginxLuaRedis => {
                self.lua_redis.restock()?;
                Ask { marker: GRANTED, ..nginx(self.lua_redis.shop, "200") }
            }
        };
        let servers: &[&Running] = match server {
            Server::SoldOut => &[&self.sold_out.running],
            Server::OverRate => &[&self.strict.running],
            Server::NginxOk | Server::NginxNotFound | Server::NginxString | Server::NginxFile => {
                &[&self.nginx.running]
            }
            Server::NginxLuaRedis => &[&self.lua_redis.nginx, &self.lua_redis.redis],
            _ => &[&self.open.running],
        };
        let may_differ = if server == Server::OverRate { HASTY_SHARE } else { 0.0 };
        let measured = measure(&self.programs.load, &ask.args(), servers, SETTLES_WITHIN);
        let measured = check(server.name(), &ask, measured, may_differ)?;
        if server == Server::NginxLuaRedis {
            let (sold, asked) = (self.lua_redis.sold()?, (ask.requests + ask.warm_up) as u64);
            if sold != asked {
                return Err(Failure(format!("redis has sold {sold} of {asked} that were granted")));
            }
        }
        Ok(measured)
    }

    /// A gate with a sale of its own, so that each round starts the same, with an empty log.
    fn measure_fresh(
        &self,
        server: Server,
        requests: usize,
        flags: &'static [&'static str],
    ) -> Result<Measured, Failure> {
        // No more units than a launch has: the sale's tables are as large as its stock.
        let stock = (requests + WARM_UP).max(STOCK_MIN) as u64;
        let setup = Setup { stock, ..Setup::OPEN };
        let gate = Gate::start(&self.programs.floodgate, self.dir.join("fresh"), &setup)?;
        let passes = gate.passes("shopper", requests + WARM_UP)?;
        let ask = Ask { flags, requests, ..self.ask(&gate, &passes.to_string_lossy(), "200", GRANTED) };
        check(
            server.name(),
            &ask,
            measure(&self.programs.load, &ask.args(), &[&gate.running], QUIET_FOR),
            0.0,
        )
    }

    fn ask(&self, gate: &Gate, passes: &str, status: &'static str, marker: &'static str) -> Ask {
        Ask {
            to: gate.shop,
            path: gate.attempts_path.clone(),
            passes: passes.to_owned(),
            flags: &[],
            status,
            marker,
            connections: CONNECTIONS,
            requests: self.requests,
            warm_up: WARM_UP,
        }
    }
}

const GRANTED: &str = r#""outcome":"granted""#;

/// The parameters of a client.
pub(super) struct Ask {
    pub(super) to: SocketAddr,
    pub(super) path: String,
    /// None makes it a GET.
    pub(super) passes: String,
    pub(super) flags: &'static [&'static str],
    /// The marker that each answer must have.
    pub(super) status: &'static str,
    pub(super) marker: &'static str,
    pub(super) connections: usize,
    pub(super) requests: usize,
    pub(super) warm_up: usize,
}

impl Ask {
    pub(super) fn args(&self) -> Vec<String> {
        let mut args = vec!["--to".into(), self.to.to_string(), "--path".into(), self.path.clone()];
        let mut with = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
        with("--connections", &self.connections.to_string());
        with("--requests", &self.requests.to_string());
        with("--warm-up", &self.warm_up.to_string());
        with("--status", self.status);
        with("--marker", self.marker);
        if !self.passes.is_empty() {
            with("--passes", &self.passes);
        }
        args.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        args
    }
}

/// Refuses a measurement whose answers are not those of its row.
pub(super) fn check(
    what: &str,
    ask: &Ask,
    measured: Result<Measured, Failure>,
    may_differ: f64,
) -> Result<Measured, Failure> {
    let measured = measured.map_err(|Failure(why)| Failure(format!("{what}: {why}")))?;
    let wrong = measured.answers - measured.matched;
    if measured.answers != ask.requests as u64 || wrong as f64 > measured.answers as f64 * may_differ {
        return Err(Failure(format!(
            "{what}: of {} answers {} were {} with {:?}; others by status: {}; the first of them:\n{}",
            measured.answers, measured.matched, ask.status, ask.marker, measured.others, measured.odd
        )));
    }
    Ok(measured)
}

struct Figures {
    row: &'static Row,
    /// By server, then by round.
    runs: Vec<Vec<Measured>>,
}

impl Figures {
    fn spread(&self, server: usize, what: impl Fn(&Measured) -> f64) -> Spread {
        Spread::of(self.runs[server].iter().map(what))
    }

    /// Of the first server to the cheapest of the others, round by round.
    fn ratio(&self, rivals: &[Server]) -> (Server, Spread) {
        let place = |server: Server| self.row.servers.iter().position(|s| *s == server).unwrap_or(0);
        let cost = |at: usize| self.spread(at, Measured::cpu_us).median;
        let rival =
            rivals.iter().map(|s| place(*s)).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(0);
        let rounds = self.runs[0].iter().zip(&self.runs[rival]);
        (self.row.servers[rival], Spread::of(rounds.map(|(ours, theirs)| ours.cpu_us() / theirs.cpu_us())))
    }

    fn json(&self) -> Value {
        let servers = self.row.servers.iter().enumerate().map(|(at, server)| {
            let spread = |what: fn(&Measured) -> f64| self.spread(at, what).json();
            let sum = |what: fn(&Measured) -> u64| self.runs[at].iter().map(what).sum::<u64>();
            json!({
                "server": server.key(), "name": server.name(),
                "cpu_us": spread(Measured::cpu_us), "user_us": spread(|m| m.user_us), "system_us": spread(|m| m.system_us), "later_us": spread(|m| m.later_us),
                "requests_per_second": spread(|m| m.requests_per_second),
                "p50_ms": spread(|m| m.p50_ms), "p99_ms": spread(|m| m.p99_ms),
                "client_busy": spread(|m| m.client_busy),
                "answers": sum(|m| m.answers), "as_wanted": sum(|m| m.matched),
                "request_bytes": self.runs[at][0].request_bytes, "answer_bytes": self.runs[at][0].answer_bytes,
            })
        });
        let ratios = self.row.reaches.iter().map(|(rivals, reach)| {
            let (rival, ratio) = self.ratio(rivals);
            let reach = reach.is_finite().then_some(*reach);
            json!({
                "to": rival.key(), "ratio": ratio.json(), "reach": reach,
                "reached": reach.map(|reach| ratio.median <= reach),
            })
        });
        json!({ "row": self.row.name, "servers": servers.collect::<Vec<_>>(), "ratios": ratios.collect::<Vec<_>>() })
    }
}

fn print(results: &[Figures], options: &Options, file_system: &str) {
    println!(
        "{} rounds of {} requests over {CONNECTIONS} connections, logs on {file_system}; median (lowest to highest)\n",
        options.runs, options.requests
    );
    println!(
        "| row | server | CPU-µs a request | of it system | of it later | requests/s | p50 ms | p99 ms | client busy | answers |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for result in results {
        for (at, server) in result.row.servers.iter().enumerate() {
            let sum = |what: fn(&Measured) -> u64| result.runs[at].iter().map(what).sum::<u64>();
            println!(
                "| {} | {} | {} | {:.2} | {:.2} | {} | {} | {} | {:.0} % | {} of {} as wanted |",
                result.row.name,
                server.name(),
                result.spread(at, Measured::cpu_us).text(2),
                result.spread(at, |m| m.system_us).median,
                result.spread(at, |m| m.later_us).median,
                result.spread(at, |m| m.requests_per_second).text(0),
                result.spread(at, |m| m.p50_ms).text(2),
                result.spread(at, |m| m.p99_ms).text(2),
                result.spread(at, |m| m.client_busy * 100.0).median,
                sum(|m| m.matched),
                sum(|m| m.answers),
            );
        }
    }
    println!("\n| row | CPU time beside | reach | ratio of a round | |\n|---|---|---|---|---|");
    for result in results {
        for (rivals, reach) in result.row.reaches {
            let (rival, ratio) = result.ratio(rivals);
            let (reach, verdict) = match reach.is_finite() {
                true if ratio.median <= *reach => (format!("≤ {reach}"), "reached"),
                true => (format!("≤ {reach}"), "**not reached**"),
                false => (String::new(), ""),
            };
            println!("| {} | {} | {reach} | {} | {verdict} |", result.row.name, rival.name(), ratio.text(2));
        }
    }
}
