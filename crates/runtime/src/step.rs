//! What one step may do: a batch of entries, and a budget that needs no clock.

use engines::codec::Codec;
use engines::log::Batch;

/// Entries of one step, in bytes: the largest single write, which at 100 MB/s takes 10 ms. A single
/// decision may exceed it, by what it pushes between two checks of [`Step::is_full`].
pub const STEP_BYTES_MAX: usize = 1 << 20;

/// Work of one step, in units. Each command and each entry is one; a machine adds what costs more.
/// On two shared cores a grant of the sale, which is two units, took 0.5 to 0.7 µs, and a
/// promotion, which is four, 0.7 to 1.5 µs (`cargo xtask bench sale`): a step of promotions takes 4
/// ms on average before it is written. The longest of a million's steps took 7 to 24 ms while
/// others used the machine. A full step of 4,096 commands that are all granted fits.
pub const STEP_WORK_MAX: usize = 16_384;

/// Work of the reads that are answered between two steps of long work, or in one step of a
/// shortage.
pub(crate) const READS_WORK_MAX: usize = STEP_WORK_MAX / 4;

/// What one step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub bytes_max: usize,
    pub work_max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes_max: STEP_BYTES_MAX, work_max: STEP_WORK_MAX }
    }
}

/// The entries of one step, and how much of its budget is left.
#[derive(Debug, Default)]
pub struct Step {
    batch: Batch,
    work: usize,
    budget: Budget,
}

impl Step {
    /// A step with another budget. A test that wants many steps makes it small.
    pub fn with_budget(budget: Budget) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Adds an entry.
    pub fn push<E: Codec>(&mut self, entry: &E) {
        self.work += 1;
        self.batch.push_record(entry);
    }

    /// Counts work that pushes no entry.
    pub fn spend(&mut self, units: usize) {
        self.work += units;
    }

    /// True if no more work may be begun in this step.
    pub fn is_full(&self) -> bool {
        self.work >= self.budget.work_max || self.batch.as_bytes().len() >= self.budget.bytes_max
    }

    /// The entries to append.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Begins another step, and keeps the memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.work = 0;
    }
}
