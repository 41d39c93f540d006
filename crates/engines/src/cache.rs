//! The cache port: values by key for a while, and the promise that what was forgotten is not given
//! any more, also if somebody had begun to read it from a database before.
//!
//! Each key belongs to a group, and what is forgotten is a group. A look gives a [`Mark`] of the
//! group with its answer; a value is kept under the mark that was seen *before* it
//! was read from where it comes from, and is given only for as long as the group has that mark.
//! Forgetting gives the group another one. So a slow reader cannot bring an old value back.
//!
//! Engines: [`memory`], in the process, and with the feature `redis` [`redis`], for several
//! processes. [`loading`] puts one over the other, and loads what neither has.

use std::{fmt, pin::Pin, time::Duration};

pub mod conformance;
pub mod loading;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

/// Bytes of a value that is kept for other processes; a larger one is not kept.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Bytes of a group's and of a key's name; with a longer one nothing is kept.
pub const NAME_BYTES_MAX: usize = 8 << 10;
/// The longest time for which a value may be kept.
pub const KEPT_FOR_MAX: Duration = Duration::from_secs(3600);
/// Groups share so many marks. Forgetting one forgets those that have the same.
const MARKS: usize = 1024;

/// Why a cache did not answer. Its user goes on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheError(pub String);

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cache: {}", self.0)
    }
}

impl std::error::Error for CacheError {}

/// What a value is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// What is forgotten together.
    pub group: String,
    /// One of the group.
    pub name: String,
}

impl Key {
    pub fn new(group: impl Into<String>, name: impl Into<String>) -> Self {
        Self { group: group.into(), name: name.into() }
    }

    fn is_too_long(&self) -> bool {
        self.group.len() > NAME_BYTES_MAX || self.name.len() > NAME_BYTES_MAX
    }
}

/// A state of a key's group: another one after each forgetting. Of one engine in one process they
/// grow, unless the engine says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub(crate) u64);

/// What a cache has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked<V> {
    pub value: Option<V>,
    /// For so long it is still kept; zero without a value.
    pub left: Duration,
    /// Under which a value may be kept that is read from now on.
    pub mark: Mark,
}

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CacheError>> + Send + 'a>>;

/// The port.
pub trait Cache<V>: fmt::Debug + Send + Sync {
    fn look<'a>(&'a self, key: &'a Key) -> Answer<'a, Looked<V>>;

    /// Keeps a value for this long, [`KEPT_FOR_MAX`] at the most, that was read after the mark was
    /// seen. It may be gone earlier.
    fn keep<'a>(&'a self, key: &'a Key, value: V, kept_for: Duration, mark: Mark) -> Answer<'a, ()>;

    /// When it has returned, no value of these groups is given that was kept under a mark of
    /// before.
    fn forget<'a>(&'a self, groups: &'a [String]) -> Answer<'a, ()>;

    /// The same, of all groups.
    fn forget_all(&self) -> Answer<'_, ()>;
}

/// Which of the [`MARKS`] is this group's: the same in each process and version (FNV-1a).
fn mark_of(group: &str) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 32)) as usize % MARKS
}
