//! The items of which units may be free for waiting shoppers.

/// Items of which units became free, or may be given again, and which have not been checked since;
/// ascending. Derived from the state, so not part of a snapshot.
#[derive(Debug, Default)]
pub(super) struct DueItems(Vec<u16>);

impl DueItems {
    pub(super) fn add(&mut self, item: u16) {
        if let Err(at) = self.0.binary_search(&item) {
            self.0.insert(at, item);
        }
    }

    /// Makes all of `count` items due.
    pub(super) fn add_all(&mut self, count: usize) {
        self.0.clear();
        self.0.extend(0..count as u16);
    }

    pub(super) fn first(&self) -> Option<u16> {
        self.0.first().copied()
    }

    pub(super) fn remove_first(&mut self) {
        self.0.remove(0);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
