//! The embedded log engine: checksummed segment files in one directory, one writer, fdatasync
//! before every answer.
//!
//! It knows nothing of what the entries say. The format is in `docs/log-format.md`.

pub mod disk;
pub mod frame;
mod growth;
mod log;
mod options;
mod reader;
mod recover;
mod report;
pub mod segment;
mod shared;
mod snapshots;
mod walk;

pub use crate::log::{LogId, Partition};
pub use log::{EmbeddedLog, open_read_only};
pub use options::{Checks, Options};
pub use reader::ReadOnlyLog;
pub use report::{Report, Torn};
