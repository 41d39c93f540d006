//! Whose turn it is: of the consumers who wait for the same subscription, one at a time asks the
//! core.

use contracts::SubscriptionId;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::timeout,
};

/// The pause before it is asked again whether there is something, while few subscriptions wait.
const PAUSE: Duration = Duration::from_millis(20);
/// So many may ask after each such pause: with more of them, each pauses longer.
const ASKERS_EACH_PAUSE: usize = 100;
/// So many names are kept of subscriptions for which no consumer waits any more.
const NAMES_MAX: usize = 1000;

/// The turns of those who wait.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    turns: Mutex<BTreeMap<SubscriptionId, Weak<Turn<()>>>>,
    asking: Arc<AtomicUsize>,
}

/// The one who has it asks for the subscription.
pub(crate) struct Asking {
    _turn: OwnedMutexGuard<()>,
    asking: Arc<AtomicUsize>,
}

impl Asking {
    /// The pause before the next question, so that the core is asked some thousand times a second
    /// at the most, however many wait.
    pub(crate) fn pause(&self) -> Duration {
        PAUSE * u32::try_from(self.asking.load(Relaxed).div_ceil(ASKERS_EACH_PAUSE)).unwrap_or(u32::MAX)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asking.fetch_sub(1, Relaxed);
    }
}

impl Pulls {
    /// Waits for the turn to ask for this subscription; those who came earlier have it earlier.
    pub(crate) async fn turn(&self, name: &SubscriptionId, patience: Duration) -> Option<Asking> {
        let turn = self.turn_of(name);
        let turn = timeout(patience, turn.lock_owned()).await.ok()?;
        self.asking.fetch_add(1, Relaxed);
        Some(Asking { _turn: turn, asking: Arc::clone(&self.asking) })
    }

    fn turn_of(&self, name: &SubscriptionId) -> Arc<Turn<()>> {
        let mut turns: MutexGuard<'_, _> = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= NAMES_MAX {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(name.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_those_who_wait_asks_and_the_more_ask_the_longer_they_pause() {
        let pulls = Pulls::default();
        let name = |number: usize| -> SubscriptionId { format!("s{number}").parse().unwrap() };
        let short = Duration::from_millis(20);
        let first = pulls.turn(&name(0), short).await.unwrap();
        assert!(pulls.turn(&name(0), short).await.is_none(), "two ask for one subscription");
        assert_eq!(first.pause(), PAUSE);
        drop(first);
        assert!(pulls.turn(&name(0), short).await.is_some());
        let mut all = Vec::new();
        for number in 0..3 * NAMES_MAX {
            all.push(pulls.turn(&name(number), short).await.unwrap());
        }
        assert_eq!(all[0].pause(), PAUSE * 30);
        drop(all);
        let last = pulls.turn(&name(9999), short).await.unwrap();
        assert_eq!((last.pause(), pulls.turns.lock().unwrap().len()), (PAUSE, 1));
    }
}
