//! A file under the data directory that holds an order of the operators. The process that receives
//! the order writes it durably; every other process on the same directory reads it.

use crate::secret::{read_secret, write_secret};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// Distinguishes a file from the one that it replaces: inode, length and time of the last change.
type Stamp = (u64, u64, SystemTime);

/// The file, and its identity when it was last loaded.
#[derive(Debug)]
pub struct OrdersFile {
    path: PathBuf,
    /// Held while an order is made durable, or read.
    known: Mutex<Option<Stamp>>,
}

impl OrdersFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Loads the file, if it has changed; `None` if there is none. A file that could not be loaded
    /// is tried again.
    pub fn follow(&self, adopt: impl FnOnce(Option<&[u8]>) -> Result<(), String>) -> io::Result<()> {
        let mut known = self.known();
        let stamp = self.stamp();
        if stamp == *known {
            return Ok(());
        }
        let named = |why: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", self.path.display()))
        };
        match read_secret(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => adopt(None).map_err(named)?,
            read => adopt(Some(&read?)).map_err(named)?,
        }
        *known = stamp;
        Ok(())
    }

    /// Writes the result of `order`, durably, and then applies it. One order at a time.
    pub fn change<T, E: From<io::Error>>(
        &self,
        order: impl FnOnce() -> Result<(Vec<u8>, T), E>,
        hold: impl FnOnce(T),
    ) -> Result<(), E> {
        let mut known = self.known();
        let (bytes, ordered) = order()?;
        write_secret(&self.path, &bytes)?;
        hold(ordered);
        *known = self.stamp();
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> Option<Stamp> {
        let file = fs::metadata(&self.path).ok()?;
        Some((file.ino(), file.len(), file.modified().ok()?))
    }
}
