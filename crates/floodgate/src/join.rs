//! Several gates, one sale: gates in processes of their own share the port of the shoppers, and
//! send their requests over a local socket to the process that has the sales. So does a store in a
//! process of its own. Each gate's own knowledge is a copy that is updated in the order of the
//! log, so a gate never says "sold out" to a shopper of whom the sale had kept something by then.

mod client;
mod message;
mod server;
mod store;

pub(crate) use client::Joined;
pub(crate) use message::GATES_MAX;
pub(crate) use server::{Joining, serve_gates};
pub(crate) use store::store_ports;

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
