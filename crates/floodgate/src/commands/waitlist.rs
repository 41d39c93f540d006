//! `floodgate waitlist`: who waits, from a data directory or a copy, with or without a running
//! server.

use super::print;
use crate::{CommandResult, Context, data};
use contracts::{SaleId, WaitingPlace, WaitingQuery};
use engines::log::{LogError, LogRead};
use runtime::recover;
use sale::core::{Core, Entry, WAITING_PAGE_MAX};
use serde_json::json;
use std::ops::ControlFlow;
use std::process::ExitCode;
use units::{Sequence, TimeMs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sale; needed if there are several
    #[arg(long, value_name = "SALE")]
    sale: Option<SaleId>,
    /// Only those who wait for this item
    #[arg(long, value_name = "ITEM")]
    item: Option<String>,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    let sale = data::one_sale("waitlist", &context.data, args.sale.as_ref())?;
    let keys = context.data.join("keys/master.key").is_file().then(|| gate::Keyring::open(&context.data));
    let keys = keys.transpose()?;
    let mut log = context.logs.read(&data::partition_dir(&context.data, &sale))?;
    let snapshot = log.latest_snapshot()?;
    let (core, _) = recover::<Core>(&mut log, snapshot)?;
    let Some(spec) = core.spec() else { return Ok(ExitCode::SUCCESS) };
    let item = match &args.item {
        Some(item) => {
            Some(spec.item_index(item).ok_or_else(|| format!("waitlist: the sale has no item {item:?}"))?)
        }
        None => None,
    };
    let mut query = WaitingQuery { item, after: Sequence(0), max: WAITING_PAGE_MAX };
    loop {
        let page = core.waiting(&query);
        let Some(last) = page.last() else { return Ok(ExitCode::SUCCESS) };
        query.after = last.as_of;
        for (place, since) in page.iter().zip(times(&mut log, &page)?) {
            let Some(line) = place.basket.first() else { continue };
            let item = spec.items.get(usize::from(line.item)).map_or("?", |item| item.item.as_str());
            let shopper = keys.as_ref().and_then(|keys| keys.unseal(place.shopper, &place.sealed));
            let shopper = shopper.as_deref();
            let (position, quantity, attempt) = (place.position, line.quantity, place.attempt);
            print(&match args.json {
                true => {
                    let sequence = place.as_of;
                    let line = json!({
                        "position": position, "shopper": shopper, "item": item, "quantity": quantity,
                        "since": since, "attempt": attempt, "sequence": sequence,
                    });
                    format!("{line}\n")
                }
                false => {
                    let shopper = shopper.unwrap_or("?");
                    format!(
                        "{position:>8}  {since}  {quantity} × {item}, for {shopper:?}, attempt {attempt}\n"
                    )
                }
            });
        }
    }
}

/// When the places of a page were given.
fn times(log: &mut dyn LogRead, page: &[WaitingPlace]) -> Result<Vec<TimeMs>, LogError> {
    let mut times = Vec::with_capacity(page.len());
    let Some(first) = page.first() else { return Ok(times) };
    log.read(first.as_of, &mut |sequence, bytes| {
        if page.get(times.len()).is_some_and(|place| place.as_of == sequence) {
            // The recovery has decoded every entry before.
            times.push(Entry::decode(bytes).map_or(TimeMs(0), |entry| entry.at));
        }
        if times.len() == page.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(times)
}
