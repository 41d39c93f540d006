//! Two threads that run in turns, one at a time: see [`super::SimDisk::in_turns`].

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Turn {
    #[default]
    Main,
    Work,
    /// The work is done: it is the main thread's for good.
    Over,
}

#[derive(Debug, Default)]
struct Turns {
    turn: Mutex<Turn>,
    changed: Condvar,
}

/// The turns of two threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    turns: Arc<Turns>,
    thread: Option<ThreadId>,
}

impl Pace {
    pub(super) fn of_this_thread(&self) -> Self {
        Self { turns: Arc::clone(&self.turns), thread: Some(thread::current().id()) }
    }

    pub(super) fn is_of_this_thread(&self) -> bool {
        self.thread == Some(thread::current().id())
    }

    /// Makes it another's turn, unless the work is over.
    pub(super) fn pass(&self, to: Turn) {
        let mut turn = self.turns.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if *turn != Turn::Over {
            *turn = to;
        }
        self.turns.changed.notify_all();
    }

    pub(super) fn wait_for(&self, wanted: Turn) {
        let turn = self.turns.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let other = |turn: &mut Turn| *turn != wanted && *turn != Turn::Over;
        drop(self.turns.changed.wait_while(turn, other).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for the main thread's turn; true if the work is over.
    pub(super) fn wait_for_main(&self) -> bool {
        let turn = self.turns.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let other = |turn: &mut Turn| *turn == Turn::Work;
        *self.turns.changed.wait_while(turn, other).unwrap_or_else(PoisonError::into_inner) == Turn::Over
    }
}

/// Ends the turns when it is dropped.
pub(super) struct EndOfTurns<'a>(pub(super) &'a Pace);

impl Drop for EndOfTurns<'_> {
    fn drop(&mut self) {
        self.0.pass(Turn::Over);
    }
}
