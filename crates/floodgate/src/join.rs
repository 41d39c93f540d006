//! Several gates, one sale: gates in processes of their own share the shop's port, and send their
//! requests over a local socket to the process that has the sales. Each gate's own knowledge is a
//! copy that is updated in the order of the log, so a gate never says "sold out" to a shopper of
//! whom the sale had kept something by then.

mod client;
mod message;
mod server;

pub(crate) use client::Joined;
pub(crate) use message::GATES_MAX;
pub(crate) use server::serve_gates;

use std::path::{Path, PathBuf};

/// The socket of a data directory. A process that may write to it may do what the gate may.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("gates/socket")
}

/// A thread that follows the other process may leave updates half applied if it panics: this
/// process ends, and starts afresh.
struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
