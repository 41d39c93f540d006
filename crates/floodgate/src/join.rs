//! Several gates, one sale: gates in processes of their own share the shop's port, and put their
//! questions over a local socket to the process that has the sales. What each knows by itself is a
//! copy that is told in the order of the log, so a gate never says "sold out" to somebody of whom
//! the sale had kept something by then.

mod client;
mod message;
mod server;

pub(crate) use client::Joined;
pub(crate) use server::serve_gates;

use std::path::{Path, PathBuf};

/// The socket of a data directory. Whoever may write to it may do what the gate may.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("gates/socket")
}

/// A thread that follows the other process may leave anything half told if it panics: this process
/// ends, and starts afresh.
struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
