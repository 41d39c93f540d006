//! `floodgate openapi`: what the HTTP interface is, without a server.

use crate::CommandResult;
use clap::ValueEnum;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose interface
    #[arg(value_enum, default_value = "gate")]
    context: Described,
    /// What each type of problem means, in Markdown, instead of the OpenAPI document
    #[arg(long)]
    problems: bool,
}

/// A context with an HTTP interface.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Described {
    /// The flash sale: shoppers, operators, health
    Gate,
    /// The message service: publishers, operators, health
    Notify,
    /// The store: products, orders, payments, stock
    Store,
}

pub(crate) fn run(args: &Args) -> CommandResult {
    let reference = match args.context {
        Described::Gate => gate::reference(),
        Described::Notify => notify::reference::reference(),
        Described::Store => crate::store::reference::reference(),
    };
    super::print(if args.problems { reference.problems() } else { reference.openapi() });
    Ok(ExitCode::SUCCESS)
}
