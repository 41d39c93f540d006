//! `floodgate key`: the operators' API keys. A running server applies changes by itself.

use super::print;
use crate::{CommandResult, Context};
use contracts::Actor;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use units::TimeMs;
use web::api_keys::{ApiKeys, Role};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it, once
    New {
        /// Who it is for: a-z, 0-9 and -
        #[arg(value_name = "NAME")]
        name: String,
        /// owner, operator or read-only
        #[arg(long, value_name = "ROLE", default_value = "operator")]
        role: Role,
    },
    /// Make a key worthless
    Revoke {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print names, roles and ages; the keys themselves are kept nowhere
    List,
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    // A wrong --data must not get keys that no server ever reads.
    if !context.data.join("keys/master.key").is_file() {
        let dir = context.data.display();
        return Err(
            format!("key: {dir} has no data: name the server's --data, or start it there once").into()
        );
    }
    let keys = ApiKeys::open(&context.data)?;
    match &args.action {
        Action::New { name, role } => {
            if Actor::SYSTEM.contains(&&**name) {
                return Err(format!(
                    "key new: {name:?} is how the log calls the sale's own actions; give the key another name"
                )
                .into());
            }
            let now = TimeMs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64);
            print(&format!("{}\n", keys.create(name, *role, now)?));
        }
        Action::Revoke { name } => {
            if !keys.revoke(name)? {
                return Err(format!(
                    "key revoke: there is no key {name:?}; `floodgate key list` prints them"
                )
                .into());
            }
        }
        Action::List => {
            for key in keys.list()? {
                print(&format!("{}\t{}\t{}\n", key.name, key.role, key.created_at));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
