//! `floodgate audit`: reads the logs of a data directory, or of a copy, with or without a running
//! server.

use super::print;
use crate::{CommandResult, Context, data};
use contracts::SaleId;
use sale::audit::{Report, audit};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this sale
    #[arg(long, value_name = "SALE")]
    sale: Option<SaleId>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct SaleReport {
    sale: SaleId,
    /// True if the log proves every invariant.
    proven: bool,
    /// A torn append at the log's end, which was never acknowledged.
    torn_bytes: u64,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    let sales = match &args.sale {
        Some(sale) => vec![data::one_sale("audit", &context.data, Some(sale))?],
        None => data::sales(&context.data)?,
    };
    if sales.is_empty() {
        return Err(format!("audit {}: there is no sale in it", context.data.display()).into());
    }
    let mut reports = Vec::new();
    let mut empty = Vec::new();
    for sale in sales {
        let mut log = context.logs.read(&data::partition_dir(&context.data, &sale))?;
        let torn_bytes = log.torn_bytes();
        let snapshot = log.latest_snapshot()?;
        let report = audit(&mut log, snapshot)?;
        if report.entries == 0 {
            empty.push(sale.to_string());
            continue;
        }
        reports.push(SaleReport { sale, proven: report.holds(), torn_bytes, report });
    }
    let holds = reports.iter().all(|r| r.proven);
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&reports)?));
    } else {
        reports.iter().for_each(|r| print(&text(r)));
    }
    if !empty.is_empty() {
        let (dir, names) = (context.data.display(), empty.join(", "));
        return Err(format!("audit {dir}: an empty log proves nothing: {names}").into());
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(sale: &SaleReport) -> String {
    let mut out = String::new();
    let report = &sale.report;
    // Writing to a String cannot fail.
    let _ = writeln!(out, "sale {}: {} entries", sale.sale, report.entries);
    if sale.torn_bytes > 0 {
        let _ = writeln!(
            out,
            "  {} bytes of a torn append at the end, of which nobody was told",
            sale.torn_bytes
        );
    }
    let _ = writeln!(
        out,
        "  {:<20} {:>10} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "item", "initial", "adjustments", "free", "held", "sold", "waiting"
    );
    for i in &report.items {
        let _ = writeln!(
            out,
            "  {:<20} {:>10} {:>12} {:>10} {:>10} {:>10} {:>10}",
            i.item.as_str(),
            i.initial,
            i.adjustments,
            i.free,
            i.held,
            i.sold,
            i.waiting
        );
    }
    for (title, counts) in [("answers", &report.outcomes), ("attempts now", &report.holds)] {
        let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(out, "  {title}: {}", all.join(", "));
    }
    if report.refunds_due > 0 {
        let _ = writeln!(out, "  refunds due: {}", report.refunds_due);
    }
    for verdict in &report.invariants {
        let _ = writeln!(out, "  {} {}: {}", verdict.id, verdict.found.as_str(), verdict.how);
    }
    out
}
