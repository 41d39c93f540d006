//! `floodgate log`: a sale's log in words, from a data directory or a copy, with or without a
//! running server.

use super::print;
use crate::{CommandResult, Context, data};
use contracts::{AttemptId, SHOPPER_ID_FORM, SaleId, TimelineEntry, TimelineFilter, is_shopper_id};
use engines::log::LogRead;
use sale::timeline::{Page, Timeline};
use serde_json::json;
use std::ops::ControlFlow;
use std::process::ExitCode;
use units::Sequence;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sale; needed if there are several
    #[arg(long, value_name = "SALE")]
    sale: Option<SaleId>,
    /// Only what was done by and for this shopper
    #[arg(long, value_name = "ID")]
    shopper: Option<String>,
    /// Only this hold, or this attempt; with --shopper, only if it is theirs
    #[arg(long, value_name = "HOLD")]
    hold: Option<AttemptId>,
    /// Only what this actor did: the name of an API key, timer, demo
    #[arg(long, value_name = "ACTOR")]
    by: Option<String>,
    /// Only entries after this one
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Only so many, the first that fit
    #[arg(long, value_name = "N")]
    max: Option<usize>,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    let sale = data::one_sale("log", &context.data, args.sale.as_ref())?;
    let keys = context.data.join("keys/master.key").is_file().then(|| gate::Keyring::open(&context.data));
    let keys = keys.transpose()?;
    let mut wanted = TimelineFilter { by: args.by.clone(), ..TimelineFilter::default() };
    wanted.attempt = args.hold;
    if let Some(id) = &args.shopper {
        if !is_shopper_id(id) {
            return Err(format!("log: shopper {id:?}: want {SHOPPER_ID_FORM}").into());
        }
        let keys = keys.as_ref().ok_or("log: --shopper needs keys/master.key beside the log")?;
        wanted.shopper = Some(keys.shopper_key(id));
    }
    let mut log = context.logs.read(&data::partition_dir(&context.data, &sale))?;
    // From the first entry on, also with --after: only there do items and holds get their names.
    let mut page = Page::new(Timeline::default(), wanted, 1);
    let mut left = args.max.unwrap_or(usize::MAX);
    let mut undecodable = None;
    log.read(Sequence(1), &mut |sequence, bytes| {
        if let Err(error) = page.take(sequence, bytes) {
            undecodable = Some(format!("log: entry {sequence}: {error}"));
            return ControlFlow::Break(());
        }
        for entry in page.found.drain(..).filter(|entry| entry.sequence.0 > args.after).take(left) {
            left -= 1;
            print(&text(&entry, keys.as_ref(), args.json));
        }
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match undecodable {
        Some(why) => Err(why.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn text(entry: &TimelineEntry, keys: Option<&gate::Keyring>, is_json: bool) -> String {
    let sealed = entry.shopper.zip(entry.sealed);
    let shopper = keys.zip(sealed).and_then(|(keys, (key, sealed))| keys.unseal(key, &sealed));
    let by = entry.by.as_ref();
    if is_json {
        let line = json!({
            "sequence": entry.sequence,
            "at": entry.at,
            "kind": entry.kind,
            "by": by.map(|by| &by.name),
            "reason": by.map(|by| &by.reason).filter(|reason| !reason.is_empty()),
            "shopper": shopper.as_deref(),
            "hold": entry.attempt,
            "what": entry.what,
        });
        return format!("{line}\n");
    }
    let mut line = format!("{:>8}  {}  {}", entry.sequence, entry.at, entry.what);
    if let Some(shopper) = &shopper {
        line += &format!(", for {:?}", shopper.as_str());
    }
    if let Some(hold) = entry.attempt {
        line += &format!(", hold {hold}");
    }
    if let Some(by) = by {
        line += &format!(", by {}", by.name);
        if !by.reason.is_empty() {
            line += &format!(": {:?}", by.reason);
        }
    }
    line + "\n"
}
