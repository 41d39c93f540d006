//! The real server with a demo's shop: one process after the other on the same data and ports.

use crate::chaos::http::{Answer, ask};
use crate::shell::{Failure, command, output};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The longest wait for a start, an end and an answer: far beyond what a busy machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a winner has to pay.
pub(super) const HOLD: Duration = Duration::from_secs(4);

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
    /// Starts it for the first time, before the sale's opening. `databases` are lines of `[store]`.
    pub(super) fn begin(binary: &Path, scratch: &Path, databases: &str) -> Result<Self, Failure> {
        let free = || -> Result<SocketAddr, Failure> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
        let (shop, gate, admin, events) = (free()?, free()?, free()?, free()?);
        let config = scratch.join("floodgate.toml");
        fs::write(
            &config,
            format!(
                "[gate]\nshop_listen = \"{gate}\"\nadmin_listen = \"{admin}\"\n[notify]\nlisten = \"{events}\"\n\
                 [store]\nlisten = \"{shop}\"\n{databases}"
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
        let defined = server.admin_with("PUT", "/sales/demo?reason=chaos", &short_holds()?.to_string())?;
        let began = Instant::now();
        loop {
            let sale = ask(gate, ("GET", "/api/v1/sales/demo"), &[], "")?;
            let sale: Value = serde_json::from_str(&sale.body).unwrap_or_default();
            if let Some(url) = sale["attempts_url"].as_str() {
                server.places.attempts = url.to_owned();
                return Ok(server);
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure(format!("no sale: {sale}, though it was defined: {defined}")));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Starts it, and waits until the shop answers.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let mut said = Vec::new();
        while began.elapsed() < PATIENCE {
            let errors = File::options().create(true).append(true).open(&self.log)?;
            let mut child = command(&self.binary)
                .args(["serve", "--demo", "--demo-opens-in", "600", "--demo-stock", "5000", "--data"])
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
        self.admin_with("GET", path, "")
    }

    fn admin_with(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        self.operate(self.places.admin, (method, &format!("/api/v1/admin{path}")), body)
    }

    /// Begins to move orders to another database.
    pub(super) fn begin_move(&self, buckets: &str, to: &str) -> Result<Child, Failure> {
        let errors = File::options().create(true).append(true).open(self.log.with_extension("moves"))?;
        let mut mover = command(&self.binary);
        mover.args(["store", "move", "--buckets", buckets, "--to", to, "--data"]).arg(&self.data);
        mover.arg("--config").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        Ok(mover.spawn()?)
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

/// The demo's sale with holds that end while shoppers pay. What comes too late goes back.
fn short_holds() -> Result<Value, Failure> {
    let offer = |item: &str, price: u64| json!({ "item": item, "stock": 5000, "price_minor": price, "limit_per_shopper": 1 });
    let now = std::time::UNIX_EPOCH.elapsed().map_err(|error| Failure(error.to_string()))?;
    let at = |seconds: u64| utc(now.as_secs() + seconds);
    Ok(json!({
        "name": "Launch day", "currency": "CNY",
        "hold_seconds": HOLD.as_secs(), "late_payment": "refund",
        "items": [{ "item": "phone", "name": "Phone" }, { "item": "earbuds", "name": "Earbuds" }],
        "rounds": [{
            "opens_at": at(2), "closes_at": at(86_400),
            "items": [offer("phone", 199_900), offer("earbuds", 29_900)],
        }],
    }))
}

/// A time as sales read it (Hinnant, "chrono-compatible low-level date algorithms").
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_a_date_also_around_a_leap_day() {
        let dates = [951_782_399, 951_782_400, 951_868_800, 1_795_521_600].map(utc);
        let want =
            ["2000-02-28T23:59:59Z", "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z", "2026-11-24T12:00:00Z"];
        assert_eq!(dates, want);
    }
}
