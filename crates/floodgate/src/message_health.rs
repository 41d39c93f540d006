//! Whether the message service runs. It knows nothing of what keeps it from running.

use gate::ports::MessageService;
use notify::parts::Running;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the message service runs, for those who watch the sales.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Known>);

#[derive(Debug, Default)]
pub(crate) enum Known {
    /// The configuration has none.
    #[default]
    None,
    Down,
    Runs(Arc<Running>),
}

impl Health {
    pub(crate) fn set(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    pub(crate) fn now(&self) -> MessageService {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Known::None => MessageService::None,
            Known::Runs(running) if running.stopped().is_none() => MessageService::Runs,
            Known::Down | Known::Runs(_) => MessageService::Down,
        }
    }
}
