//! The last refusals of shoppers who were told a place in line.

use contracts::{Answer, Attempt, AttemptId, IdentityBuildHasher, ShopperKey};
use std::collections::{HashMap, VecDeque};

/// Refusals of shoppers who were told a place. The sale keeps other outcomes of an attempt, but not
/// refusals.
#[derive(Default)]
pub(super) struct Refused {
    answers: HashMap<AttemptId, (ShopperKey, Answer), IdentityBuildHasher>,
    /// First to last.
    order: VecDeque<AttemptId>,
}

impl Refused {
    pub(super) fn note(&mut self, attempt: &Attempt, answer: &Answer, max: usize) {
        if self.answers.insert(attempt.id, (attempt.shopper, *answer)).is_none() {
            self.order.push_back(attempt.id);
        }
        while self.order.len() > max {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.answers.remove(&oldest));
        }
    }

    pub(super) fn forget(&mut self, attempt: AttemptId) {
        if !self.answers.is_empty() {
            self.answers.remove(&attempt);
        }
    }

    pub(super) fn get(&self, attempt: AttemptId, shopper: ShopperKey) -> Option<Answer> {
        self.answers.get(&attempt).filter(|(of, _)| *of == shopper).map(|(_, answer)| *answer)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}
