//! The log engine on NATS JetStream: one stream for each log, on servers that keep it on their
//! disks, and, with several of them, on more than one machine.
//!
//! It knows nothing of what the entries say. The messages are described in `docs/engines.md`.

mod api;
mod connection;
mod log;
mod message;
mod place;
mod reader;
mod snapshots;
mod source;

pub use connection::Connection;
pub use log::{NatsLog, Options, Torn, remove};
pub use place::{Place, PlaceError};
pub use reader::{NatsReader, open_read_only};
