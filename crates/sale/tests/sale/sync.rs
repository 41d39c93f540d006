//! The types of a model checker in the place of std's, for [`crate::filter_schedules`]: a file of
//! the crate that is compiled again here finds them as `crate::sync`.

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Every word is modelled, and made anew for each schedule.
pub(crate) const FILTER_BITS: u64 = 1 << 9;
