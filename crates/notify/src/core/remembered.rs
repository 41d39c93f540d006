//! What a subscription remembers of commands that were carried out under an Idempotency-Key. Each
//! has its own, so that the commands of one do not make those of another forgotten.

use super::record::Said;
use contracts::CommandKey;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use units::{DurationMs, TimeMs};

/// Commands that a subscription remembers: more than an operator gives in a day, and some 3 KB.
const REMEMBERED_MAX: usize = 32;
/// How long: an answer that was lost is asked for again within minutes.
const REMEMBERED_FOR: DurationMs = DurationMs(24 * 3600 * 1000);

/// A command that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commanded {
    id: [u8; 16],
    command: [u8; 16],
    at: TimeMs,
    said: Said,
}

impl Commanded {
    pub(super) fn is_of(&self, key: CommandKey) -> bool {
        (self.id, self.command) == (key.id, key.command)
    }

    pub(super) fn said(&self) -> Said {
        self.said
    }
}

/// Those of a subscription, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Commands(VecDeque<Commanded>);

impl Commands {
    pub(super) fn remember(&mut self, at: TimeMs, key: CommandKey, said: Said) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Commanded { id: key.id, command: key.command, at, said });
    }

    /// The latest under this key, if it is not forgotten.
    pub(super) fn find(&self, id: [u8; 16], now: TimeMs) -> Option<&Commanded> {
        self.0.iter().rev().find(|known| known.id == id && known.at.plus(REMEMBERED_FOR) > now)
    }

    pub(super) fn save(&self) -> Option<Vec<Commanded>> {
        (!self.0.is_empty()).then(|| self.0.iter().copied().collect())
    }

    pub(super) fn restore(saved: Vec<Commanded>) -> Self {
        Self(saved.into())
    }
}
