//! Open files: how many this process may have, and room for them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as allowed, and returns it. If it cannot be raised, the
/// current limit applies.
pub(crate) fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(u64::MAX)
}

/// Has the kernel make its table for `count` open files now, 8 bytes each.
///
/// Otherwise it grows by doubling, and each time every thread that opens a file meanwhile waits
/// until all processors have let go of the old table (`synchronize_rcu`): 10 ms each time, as the
/// storm begins.
pub(crate) fn reserve(count: u64) {
    let highest = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // A descriptor of that number grows the table; closing it does not shrink it. Without memory
    // the table stays as it is.
    drop(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), highest));
}
