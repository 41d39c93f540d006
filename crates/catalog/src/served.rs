//! Pictures as they are sent, kept in the memory of the process: all who are sent one at once share
//! its bytes, and the database is asked for it seldom. A picture never changes under its name.

use axum::body::Bytes;
use engines::{cache::memory::Memory, clock::Clock};
use std::{sync::Arc, time::Duration};

/// Bytes of all that is kept.
const BYTES_MAX: u64 = 32 << 20;
pub(crate) const SERVED_FOR: Duration = Duration::from_secs(600);
/// Pictures that are read from the database at once, and how long others wait for a turn.
pub(crate) const READ_AT_ONCE: usize = 4;
pub(crate) const READ_TURN_MAX: Duration = Duration::from_secs(5);

/// A picture.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// None yet.
pub(crate) fn nothing(clock: Arc<dyn Clock>) -> Memory<Served> {
    Memory::new(BYTES_MAX, clock, |served: &Served| served.bytes.len())
}
