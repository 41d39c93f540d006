//! The Idempotency-Keys of operators' commands that were carried out, each with its command and
//! answer. The newest are kept: a caller retries within minutes.

use contracts::{CommandKey, OperationDone};
use std::collections::{BTreeMap, VecDeque};

/// Keys that a sale remembers. An operator gives some commands a minute, a script some a second: it
/// would take it a quarter of an hour to push one out. Each takes 41 bytes of a snapshot, so all
/// take 164 KiB.
pub const COMMAND_KEYS_MAX: usize = 4096;

/// The answer to a command that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandAnswer {
    Done,
    /// Attempts that were voided.
    Voided(u64),
    /// An item's free units.
    Adjusted(u64),
}

impl CommandAnswer {
    /// `None` for an answer to a command that takes no key.
    pub(super) fn of(done: &OperationDone) -> Option<Self> {
        match done {
            OperationDone::Ok => Some(Self::Done),
            OperationDone::Voided { count } => Some(Self::Voided(*count)),
            OperationDone::Adjusted { free } => Some(Self::Adjusted(*free)),
            OperationDone::Confirmed { .. }
            | OperationDone::Released { .. }
            | OperationDone::Reserved { .. } => None,
        }
    }

    /// As it is stored: what it is, and its figure, 0 if it has none.
    pub(super) fn as_stored(self) -> (u8, u64) {
        match self {
            Self::Done => (1, 0),
            Self::Voided(count) => (2, count),
            Self::Adjusted(free) => (3, free),
        }
    }

    pub(super) fn from_stored(stored: (u8, u64)) -> Option<Self> {
        match stored {
            (1, 0) => Some(Self::Done),
            (2, count) => Some(Self::Voided(count)),
            (3, free) => Some(Self::Adjusted(free)),
            _ => None,
        }
    }
}

impl From<CommandAnswer> for OperationDone {
    fn from(answer: CommandAnswer) -> Self {
        match answer {
            CommandAnswer::Done => Self::Ok,
            CommandAnswer::Voided(count) => Self::Voided { count },
            CommandAnswer::Adjusted(free) => Self::Adjusted { free },
        }
    }
}

/// The newest [`COMMAND_KEYS_MAX`] keys.
#[derive(Debug, Default)]
pub(super) struct CommandKeys {
    /// Oldest first.
    order: VecDeque<CommandKey>,
    by_id: BTreeMap<[u8; 16], (CommandKey, CommandAnswer)>,
}

impl CommandKeys {
    pub(super) fn find(&self, id: [u8; 16]) -> Option<(CommandKey, CommandAnswer)> {
        self.by_id.get(&id).copied()
    }

    /// Keeps a key, and forgets the oldest if there are too many; false if it is known already.
    pub(super) fn insert(&mut self, key: CommandKey, answer: CommandAnswer) -> bool {
        if self.by_id.contains_key(&key.id) {
            return false;
        }
        self.by_id.insert(key.id, (key, answer));
        self.order.push_back(key);
        if self.order.len() > COMMAND_KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest.id);
        }
        true
    }

    /// All of them, oldest first.
    pub(super) fn in_order(&self) -> impl ExactSizeIterator<Item = (CommandKey, CommandAnswer)> {
        self.order.iter().map(|key| self.by_id.get(&key.id).copied().unwrap_or((*key, CommandAnswer::Done)))
    }
}
