//! How many streams of topics are open, and what they have sent.

use crate::{
    bodies::LogReader,
    problem::{Problem, UNAVAILABLE},
};
use engines::log::LogRead;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All streams of the process.
#[derive(Debug)]
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    max: usize,
    /// With a thread of its own, so that those who catch up keep neither deliveries nor operators
    /// waiting. A stream has one job for it at a time.
    pub(crate) reader: LogReader,
    begun: AtomicU64,
    /// Events that were sent.
    pub(crate) sent: AtomicU64,
    /// Times that a stream's events were gone.
    pub(crate) gaps: AtomicU64,
}

/// A place among those that may be open, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Which of all streams it is.
    pub(crate) number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Streams {
    /// At most so many.
    pub(crate) fn start(max: usize, reader: Box<dyn LogRead>) -> io::Result<Self> {
        let reader = LogReader::start(reader, max)?;
        let [begun, sent, gaps] = [(); 3].map(|()| AtomicU64::new(0));
        Ok(Self { places: Arc::new(Semaphore::new(max)), max, reader, begun, sent, gaps })
    }

    /// A place for one more stream.
    pub(crate) fn begin(&self) -> Result<Place, Problem> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let why = format!("{} streams are open, as many as may be (notify.streams_max)", self.max);
            Problem::new(&UNAVAILABLE, why).retry_after(10)
        })?;
        Ok(Place { number: self.begun.fetch_add(1, Relaxed), _permit: permit })
    }

    pub(crate) fn open(&self) -> u64 {
        self.max.saturating_sub(self.places.available_permits()) as u64
    }
}
