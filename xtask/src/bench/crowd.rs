//! `cargo xtask bench crowd`: a crowd of waiting connections, over several gates in processes of
//! their own, and a sale through them. None may be dropped, and the sale must be exact.

use super::{
    Options, Programs, TempDir,
    client::Client,
    gates::Gates,
    process::{BOTH_CORES, Running},
    servers::Gate,
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

const CONNECTIONS: usize = 200_000;
/// Connections of one gate. With 20,000 open files it has room for 18,300, and at 80 % of those it
/// was in the stage `guarded` and closed idle connections early (docs/operating.md, "Strategy");
/// the kernel spreads connections at random.
const PER_GATE: usize = 13_400;
/// Connections of one client, limited by its open files.
const PER_CLIENT: usize = 18_500;
const HOLD_SECONDS: u64 = 300;
const STOCK: u64 = 2_000;
const ATTEMPTS: usize = 10_000;
/// Connections a second, of all clients.
const CONNECTS_PER_SECOND: usize = 5_000;
/// The part of the crowd that asks in a minute.
const ACTIVE_SHARE: f64 = 0.01;

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let all = options.connections.unwrap_or(CONNECTIONS);
    let hold_seconds = options.hold_seconds.unwrap_or(HOLD_SECONDS);
    let programs = Programs::ensure(options)?;
    let dir = TempDir::new("crowd")?;
    let kernel_before = Kernel::now();
    let gates = Gates::start(
        &programs.floodgate,
        dir.0.join("gates"),
        BOTH_CORES,
        options.gates.unwrap_or(all.div_ceil(PER_GATE)),
        STOCK,
        super::servers::no_messages(&programs.floodgate)?,
    )?;
    let passes = gates.passes(ATTEMPTS)?;
    let clients = all.div_ceil(PER_CLIENT);
    let part = |of: usize, number: usize| of * (number + 1) / clients - of * number / clients;
    let mut crowd = Vec::new();
    for number in 0..clients {
        let from = Ipv4Addr::new(127, 1, number as u8, 1).to_string();
        let skip = ATTEMPTS * number / clients;
        let args = [
            ("--to", gates.shop.to_string()),
            ("--from", from),
            ("--connections", part(all, number).to_string()),
            ("--document", Gate::document_path()),
            ("--path", gates.attempts_path.clone()),
            ("--per-address", "1000".to_owned()),
            ("--credentials", passes.to_string_lossy().into_owned()),
            ("--skip", skip.to_string()),
            ("--attempts", part(ATTEMPTS, number).to_string()),
        ];
        let args: Vec<String> = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        crowd.push(Client::start_on(BOTH_CORES, &programs.crowd, &args)?);
    }
    let user_before: Vec<u64> = gates.gates.iter().map(Running::anonymous_bytes).collect();
    let rate = CONNECTS_PER_SECOND.div_ceil(clients);
    eprintln!("{all} connections, {} gates, {clients} clients", gates.gates.len());
    let connected = tell(&mut crowd, |_| format!("connect {rate}"))?;
    eprintln!("connected: {connected:?}");
    let user: Vec<u64> = gates.gates.iter().map(Running::anonymous_bytes).collect();
    let kernel = Kernel::now();
    let active = (all as f64 * ACTIVE_SHARE * hold_seconds as f64 / 60.0).ceil() as usize;
    let cpu_before = cpu_seconds(&gates);
    let held = tell(&mut crowd, |number| {
        format!("hold {hold_seconds} {} {}", part(active, number), part(ATTEMPTS, number))
    })?;
    let cpu = cpu_seconds(&gates) - cpu_before;
    eprintln!("held: {held:?}");
    let last = tell(&mut crowd, |_| format!("last {rate}"))?;
    eprintln!("last: {last:?}");
    let audit = gates.audit()?;
    let remarks = gates.remarks();
    drop(crowd);

    let outcome = |of: &Heard, name: &str| of.outcomes.get(name).copied().unwrap_or(0);
    let granted = outcome(&held, "granted");
    let sold_out = outcome(&held, "sold_out");
    let decided = granted + sold_out;
    let in_log =
        audit["items"][0]["held"].as_u64().unwrap_or(0) + audit["items"][0]["sold"].as_u64().unwrap_or(0);
    let proven = audit["proven"].as_bool() == Some(true);
    let closed = connected.closed + held.closed + last.closed;
    let reset = connected.reset + held.reset + last.reset;
    let answered_last = outcome(&last, "document");
    let none_dropped = closed + reset == 0 && answered_last == all as u64;
    let exact = granted == STOCK && in_log == STOCK && decided == ATTEMPTS as u64 && proven;
    let each: Vec<u64> = user.iter().zip(&user_before).map(|(with, without)| with - without).collect();
    let user_each = each.iter().sum::<u64>() as f64 / all as f64;
    let kernel_each =
        |bytes: fn(&Kernel) -> u64| bytes(&kernel).saturating_sub(bytes(&kernel_before)) as f64 / all as f64;
    let at = |sorted: &[u64], part: f64| {
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * part) as usize).map_or(f64::NAN, |us| *us as f64 / 1000.0)
    };
    if options.json {
        let document = json!({
            "connections": all, "gates": gates.gates.len(), "clients": clients, "hold_seconds": hold_seconds,
            "served_once": outcome(&connected, "document"), "connect_failed": connected.connect_failed, "open_after": held.open,
            "answered_last": answered_last, "closed": closed, "reset": reset, "none_dropped": none_dropped,
            "stock": STOCK, "attempts": ATTEMPTS, "outcomes": held.outcomes, "granted": granted, "granted_in_log": in_log,
            "proven": proven, "exact": exact,
            "user_bytes_a_connection": user_each, "gates_bytes_before": user_before, "gates_bytes": user,
            "slab_bytes_a_connection": kernel_each(|k| k.slab), "tcp_pages_before": kernel_before.tcp_pages, "tcp_pages": kernel.tcp_pages,
            "tcp_in_use": kernel.tcp_in_use,
            "documents": held.documents_us.len(), "document_p50_ms": at(&held.documents_us, 0.5), "document_p99_ms": at(&held.documents_us, 0.99),
            "attempt_p50_ms": at(&held.attempts_us, 0.5), "attempt_p99_ms": at(&held.attempts_us, 0.99),
            "servers_cpu_seconds": cpu, "remarks": remarks,
        });
        println!("{document}");
    } else {
        let mib = |bytes: u64| bytes >> 20;
        let (least, most) =
            (each.iter().min().copied().unwrap_or(0), each.iter().max().copied().unwrap_or(0));
        println!("| what | wanted | seen |\n|---|---|---|");
        println!("| connections, each served once | {all} | {} |", outcome(&connected, "document"));
        println!("| gates; clients | | {}; {clients} |", gates.gates.len());
        println!("| open after {hold_seconds} s | {all} | {} |", held.open);
        println!("| answered once more at the end | {all} | {answered_last} |");
        println!("| closed; reset by the servers | 0; 0 | {closed}; {reset} |");
        println!(
            "| attempts decided; sold out | {ATTEMPTS}; {} | {decided}; {sold_out} |",
            ATTEMPTS as u64 - STOCK
        );
        println!("| granted as said; in the log | {STOCK}; {STOCK} | {granted}; {in_log} |");
        println!("| every invariant proven by the audit | yes | {} |", if proven { "yes" } else { "**no**" });
        println!(
            "| anonymous memory of the gates, without and with the crowd | | {}, {} MiB |",
            mib(user_before.iter().sum()),
            mib(user.iter().sum())
        );
        println!(
            "| the same by connection; more of a gate, least and most | | {user_each:.0} bytes; {}, {} MiB |",
            mib(least),
            mib(most)
        );
        println!(
            "| kernel's memory (slab) by connection, both ends | | {:.0} bytes |",
            kernel_each(|k| k.slab)
        );
        println!(
            "| sockets in use; pages of their buffers, before and with | | {}; {}, {} |",
            kernel.tcp_in_use, kernel_before.tcp_pages, kernel.tcp_pages
        );
        println!(
            "| {} documents of the crowd's active, p50; p99 | | {:.2}; {:.2} ms |",
            held.documents_us.len(),
            at(&held.documents_us, 0.5),
            at(&held.documents_us, 0.99)
        );
        println!(
            "| attempts, p50; p99 | | {:.2}; {:.2} ms |",
            at(&held.attempts_us, 0.5),
            at(&held.attempts_us, 0.99)
        );
        println!("| CPU of all servers while held | | {cpu:.1} s |");
        remarks.iter().for_each(|line| println!("\n{line}"));
    }
    match none_dropped && exact {
        true => Ok(()),
        false => Err(Failure("connections were dropped, or the sale was not exact: see above".into())),
    }
}

/// The results of all clients.
#[derive(Default)]
struct Heard {
    documents_us: Vec<u64>,
    attempts_us: Vec<u64>,
    outcomes: BTreeMap<String, u64>,
    open: u64,
    closed: u64,
    reset: u64,
    lost: u64,
    unasked: u64,
    connect_failed: u64,
    seconds: f64,
    client_cpu_seconds: f64,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heard")
            .field("outcomes", &self.outcomes)
            .field("open", &self.open)
            .field("closed", &self.closed)
            .field("reset", &self.reset)
            .field("lost", &self.lost)
            .field("unasked", &self.unasked)
            .field("connect_failed", &self.connect_failed)
            .field("seconds", &self.seconds)
            .field("client_cpu_seconds", &self.client_cpu_seconds)
            .finish_non_exhaustive()
    }
}

/// Gives a command to all clients, which work at the same time, and adds up their results.
fn tell(crowd: &mut [Client], command: impl Fn(usize) -> String) -> Result<Heard, Failure> {
    for (number, client) in crowd.iter_mut().enumerate() {
        client.tell(&command(number))?;
    }
    let mut all = Heard::default();
    for client in crowd {
        let report = client.hear_json()?;
        let count = |name: &str| report[name].as_u64().unwrap_or_default();
        let times = |name: &str| -> Vec<u64> {
            report[name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
        };
        all.documents_us.extend(times("documents_us"));
        all.attempts_us.extend(times("attempts_us"));
        for (name, number) in report["outcomes"].as_object().into_iter().flatten() {
            *all.outcomes.entry(name.clone()).or_default() += number.as_u64().unwrap_or_default();
        }
        all.open += count("open");
        all.closed += count("closed");
        all.reset += count("reset");
        all.lost += count("lost");
        all.unasked += count("unasked");
        all.connect_failed += count("connect_failed");
        all.seconds = all.seconds.max(report["seconds"].as_f64().unwrap_or_default());
        all.client_cpu_seconds += report["cpu_seconds"].as_f64().unwrap_or_default();
    }
    all.documents_us.sort_unstable();
    all.attempts_us.sort_unstable();
    Ok(all)
}

fn cpu_seconds(gates: &Gates) -> f64 {
    let of = |running: &Running| {
        let cpu = running.cpu();
        cpu.user + cpu.system
    };
    gates.gates.iter().chain([&gates.sale]).map(of).sum()
}

/// The kernel's figures of connections, of the whole machine.
pub(super) struct Kernel {
    slab: u64,
    tcp_in_use: u64,
    /// Pages of sockets' buffers.
    pub(super) tcp_pages: u64,
}

impl Kernel {
    pub(super) fn now() -> Self {
        let words = |file: &str, line: &str| -> Vec<String> {
            let text = fs::read_to_string(file).unwrap_or_default();
            let found = text.lines().find(|found| found.starts_with(line));
            found.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let after = |words: &[String], name: &str| -> u64 {
            let at = words.iter().position(|word| word == name);
            at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(0)
        };
        let tcp = words("/proc/net/sockstat", "TCP:");
        Self {
            slab: after(&words("/proc/meminfo", "Slab:"), "Slab:") << 10,
            tcp_in_use: after(&tcp, "inuse"),
            tcp_pages: after(&tcp, "mem"),
        }
    }
}
