//! The subcommands, a file each.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod openapi;
pub(crate) mod rehearse;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod waitlist;

use std::io::Write;

/// Writes to standard output, as a command's result. A reader that has gone away (`| head`) ends
/// the command quietly.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
