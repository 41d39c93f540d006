//! `floodgate`: the one binary. Reads arguments, configuration and files, and wires the contexts
//! together; it makes no decisions itself.

mod commands;
mod config;
mod data;
mod feed;
mod files;
mod join;
mod logs;
mod memory;
mod message_health;
mod message_service;
mod registry;
mod sold_out;
mod store;

use clap::{Parser, Subcommand};
use engines::log::LogError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Gives pages back to the system when a storm is over, and costs less than the system's allocator
/// under many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sells exactly what there is, one truthful answer each, and can prove it afterwards.
#[derive(Debug, Parser)]
#[command(name = "floodgate", version, propagate_version = true)]
struct Cli {
    /// The data directory (default: `data` of the configuration)
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file (default: the built-in defaults, see `floodgate config`)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the shop and admin listeners
    Serve(commands::serve::Args),
    /// Rehearse a sale: a server of its own, and a crowd against it
    Rehearse(commands::rehearse::Args),
    /// Derive everything again from the logs alone, and say whether they prove each invariant
    Audit(commands::audit::Args),
    /// Print shopper tokens or passes, for tests and load tools
    Token(commands::token::Args),
    /// Print a sale's log in words: who did what, when and why
    Log(commands::log::Args),
    /// Print who waits on a sale's waitlists: place, shopper, item, quantity, since when
    Waitlist(commands::waitlist::Args),
    /// Make, revoke and list the operators' API keys, and make links to sign in with
    Key(commands::key::Args),
    /// See where the store's orders are, and move them to another database
    Store(commands::store::Args),
    /// Copy the data directory, consistently, while the server runs
    Backup(commands::backup::BackupArgs),
    /// Put a backup back into an empty data directory
    Restore(commands::backup::RestoreArgs),
    /// Print the commented configuration with every default; with --config, the values in force
    Config,
    /// Print the OpenAPI document of the HTTP interface, or what each type of problem means
    Openapi(commands::openapi::Args),
    /// One process of the rehearsal's crowd
    #[command(hide = true)]
    RehearseLoad(commands::rehearse::load::Args),
}

/// The context of every command.
#[derive(Debug)]
struct Context {
    data: PathBuf,
    config_file: Option<PathBuf>,
    config: config::Config,
    /// Where logs are kept.
    logs: logs::Logs,
}

/// An error of a command, reported once, at the end.
type CommandResult = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // The allocator asks the kernel for pages of 2 MiB. Clearing one takes a millisecond or more
    // when it is first touched, which is in the middle of the storm: small pages kept the 99th
    // percentile lower, and a third of the memory free. If this fails, everything still works.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            say_error(&*error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command's error is for the person who typed it")]
fn say_error(error: &(dyn std::error::Error + 'static)) {
    eprintln!("floodgate: {}", with_causes(error));
}

/// An error and its causes, in one line, with this program's advice about it.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut advice = advice(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        advice = advice.or_else(|| self::advice(cause));
        source = cause.source();
    }
    text + advice.unwrap_or_default()
}

/// Advice that the log's own errors cannot give, for they know neither flags nor commands.
fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref::<LogError>()? {
        LogError::InUse { .. } => Some(", or use another --data"),
        LogError::Damaged { .. } => Some("; `floodgate restore` puts a backup back"),
        LogError::Foreign { .. } | LogError::Trimmed { .. } | LogError::Io { .. } => None,
    }
}

fn run(cli: Cli) -> CommandResult {
    let config = config::load(cli.config.as_deref())?;
    if matches!(cli.command, Command::Config) {
        commands::print(&match &cli.config {
            None => config::default_toml(),
            Some(file) => format!("# In force with {}\n{}", file.display(), toml::to_string(&config)?),
        });
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Openapi(args) = &cli.command {
        return commands::openapi::run(args);
    }
    let given = cli.data.is_some();
    let data = cli.data.unwrap_or_else(|| config.data.clone());
    let logs = logs::Logs::new(&config.logs);
    let context = Context { data, config_file: cli.config, config, logs };
    match cli.command {
        Command::Serve(args) => commands::serve::run(context, &args, given),
        Command::Rehearse(args) => commands::rehearse::run(context, &args, given),
        Command::Audit(args) => commands::audit::run(&context, &args),
        Command::Token(args) => commands::token::run(&context, &args),
        Command::Key(args) => commands::key::run(&context, &args),
        Command::Log(args) => commands::log::run(&context, &args),
        Command::Waitlist(args) => commands::waitlist::run(&context, &args),
        Command::Store(args) => commands::store::run(&context, &args),
        Command::Backup(args) => commands::backup::backup(&context, &args),
        Command::Restore(args) => commands::backup::restore(&context, &args),
        Command::RehearseLoad(args) => commands::rehearse::load::run(&context, &args),
        Command::Config | Command::Openapi(_) => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_error_says_what_the_operator_can_do() {
        let in_use = LogError::InUse { what: "/srv/data".into() };
        let said = "open /srv/data: another process has it open; stop that one first, or use another --data";
        assert_eq!(with_causes(&in_use), said);
        let damaged = || LogError::Damaged { file: "seg".into(), offset: 7, why: "torn".into() };
        let through = runtime::RecoverError::Log(damaged());
        for said in [with_causes(&damaged()), with_causes(&through)] {
            assert_eq!(said.matches("; `floodgate restore` puts a backup back").count(), 1, "{said}");
        }
    }
}
