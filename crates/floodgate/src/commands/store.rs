//! `floodgate store`: which database has which orders, moving them to another one, and building the
//! list of all orders anew.

use super::print;
use crate::{CommandResult, Context};
use contracts::store::BUCKETS;
use engines::{
    chance::SystemChance,
    clock::{Clock, SteadyClock},
};
use order::{
    list::Progress,
    moves::{Mover, parse_buckets},
};
use std::{fmt::Write as _, process::ExitCode, sync::Arc};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the databases of orders, the buckets that each has, and what is being moved
    Shards,
    /// Move buckets of orders to another database of `store.orders`, one after another
    ///
    /// The store may be running; all its processes must have the database in their configuration.
    /// Changes of a bucket's orders and carts wait while it is copied. A move that was cut off is
    /// finished by the same command, by `finish`, or by the store itself a minute later.
    Move {
        /// Such as 0-127,300; there are 1,024, and a shopper's orders and cart are in one of them
        #[arg(long, value_name = "BUCKETS")]
        buckets: String,
        /// The name of the database to which they go
        #[arg(long, value_name = "NAME")]
        to: String,
    },
    /// Finish moves that were cut off
    Finish,
    /// Build the list of all orders anew, from the databases of orders
    ///
    /// The store may be running; its lists answer meanwhile. A build that was cut off is finished
    /// by the store.
    BuildList,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    // A wrong --data must not get databases that no server ever reads.
    if !context.data.join("keys/master.key").is_file() {
        let dir = context.data.display();
        return Err(format!("store: {dir} has no data: name the server's --data").into());
    }
    let buckets = match &args.action {
        Action::Move { buckets, .. } => {
            parse_buckets(buckets).map_err(|want| format!("--buckets: {want}"))?
        }
        Action::Shards | Action::Finish | Action::BuildList => Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::start());
        let shards = crate::store::open_orders(&context.config.store, &context.data, &*clock).await?;
        let mover = Mover::new(shards.clone(), clock, &SystemChance)?;
        match &args.action {
            Action::Shards => {
                let (version, all, moves) = shards.describe().await?;
                let mut text = format!("directory of version {version}\n");
                for (name, buckets) in all {
                    let count = buckets.len();
                    let _ = writeln!(text, "{name}: {count} buckets{}", ranges(&buckets));
                }
                for of in moves {
                    let _ = writeln!(
                        text,
                        "bucket {} is being moved from {} to {}, last seen at {}",
                        of.bucket, of.from, of.to, of.seen_at
                    );
                }
                print(&text);
            }
            Action::Move { to, .. } => {
                for bucket in buckets {
                    if let Some(moved) = mover.move_to(bucket, to).await? {
                        let (orders, rows, version) = (moved.orders, moved.rows, moved.version);
                        let number = bucket.number();
                        print(&format!(
                            "bucket {number}: {orders} orders, {rows} rows; directory of version {version}\n"
                        ));
                    }
                }
            }
            Action::Finish => {
                let count = mover.finish().await?;
                print(&format!("{count} moves were finished\n"));
            }
            Action::BuildList => {
                let list = crate::store::open_list(&context.config.store, &context.data, &shards).await?;
                list.begin().await?;
                let mut shown = None;
                loop {
                    let progress = list.build_some(&shards).await?;
                    let line = match progress {
                        Progress::Buckets(count) => format!("{count} of {BUCKETS} buckets are listed\n"),
                        Progress::Removing => "rows without an order are removed\n".to_owned(),
                        Progress::Done => break,
                    };
                    if shown.replace(progress) != Some(progress) {
                        print(&line);
                    }
                }
                print("the list is built\n");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `: 0-3, 7`.
fn ranges(buckets: &[u16]) -> String {
    let mut all: Vec<(u16, u16)> = Vec::new();
    for &bucket in buckets {
        match all.last_mut() {
            Some((_, last)) if *last + 1 == bucket => *last = bucket,
            _ => all.push((bucket, bucket)),
        }
    }
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let all: Vec<String> = all.iter().map(range).collect();
    if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_buckets_are_shown_as_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 7, 9, 10]), ": 0-2, 7, 9-10");
    }
}
