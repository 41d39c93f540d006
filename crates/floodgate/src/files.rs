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

/// How many files are for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) of_shoppers: usize,
    pub(crate) of_operators: usize,
    /// For the message service: connections of publishers, deliveries and tests, and looks for
    /// names.
    pub(crate) of_messages: usize,
    /// For gates in processes of their own: a socket for each.
    pub(crate) of_gates: usize,
    /// For the store: its connections, and the files of its databases.
    pub(crate) of_store: usize,
    /// For what is no connection: logs, their next segments, snapshots and readers of a hundred
    /// sales, secrets and lists that are read again, and the files of the process itself.
    pub(crate) of_logs: usize,
}

impl Room {
    /// All but the shoppers'.
    pub(crate) fn of_others(self) -> usize {
        self.of_operators + self.of_messages + self.of_gates + self.of_store + self.of_logs
    }
}

/// How many files are wanted for what, at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) operators: usize,
    pub(crate) messages: usize,
    pub(crate) gates: usize,
    pub(crate) store: usize,
}

/// Divides the open files. However few there are, connections leave half of them to the logs: a
/// sale whose log cannot make its next segment pauses.
pub(crate) fn room(limit: u64, wanted: Wanted) -> Room {
    const OF_LOGS_MAX: usize = 676;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let of_operators = wanted.operators.min(limit / 8).max(1);
    let of_messages = wanted.messages.min(limit / 8);
    let of_gates = wanted.gates.min((limit / 64).max(1));
    let of_store = wanted.store.min(limit / 10);
    let of_logs = OF_LOGS_MAX.min(limit / 2);
    let room = Room { of_shoppers: 0, of_operators, of_messages, of_gates, of_store, of_logs };
    Room { of_shoppers: limit.saturating_sub(room.of_others()).max(1), ..room }
}

/// How many files a store in a process of its own may have for its connections and databases.
pub(crate) fn room_of_store(limit: u64) -> usize {
    /// The files of the process itself, letters, pictures and secrets that are read again.
    const OF_THE_PROCESS: usize = 64;
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OF_THE_PROCESS)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_logs_at_every_limit() {
        for limit in (16..3000).chain([20_000, 65_536, 1 << 20, u64::MAX]) {
            let room = room(limit, Wanted { operators: 1024, messages: 1680, gates: 64, store: 2112 });
            assert!(room.of_shoppers.saturating_add(room.of_others()) as u64 <= limit);
            assert!(room.of_shoppers > 0 && room.of_operators > 0, "{limit}");
            assert!(room.of_logs as u64 >= (limit / 2).min(676), "{limit}");
        }
        let of = |limit, messages, gates, store| {
            let Room { of_shoppers, of_operators, of_messages, of_gates, of_store, of_logs } =
                room(limit, Wanted { operators: 1024, messages, gates, store });
            [of_shoppers, of_operators, of_messages, of_gates, of_store, of_logs]
        };
        assert_eq!(of(20_000, 1680, 64, 0), [16_556, 1024, 1680, 64, 0, 676]);
        assert_eq!(of(20_000, 1680, 64, 2112), [14_556, 1024, 1680, 64, 2000, 676]);
        assert_eq!(of(20_000, 0, 0, 0), [18_300, 1024, 0, 0, 0, 676]);
        assert_eq!(of(256, 1680, 64, 0), [60, 32, 32, 4, 0, 128]);
    }
}
