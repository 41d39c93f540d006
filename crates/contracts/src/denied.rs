//! A sale's deny list, as part of the sale's view: exact, shared, and never changed. A changed list
//! is a new value.

use crate::ShopperKey;
use std::fmt;
use std::sync::Arc;
use units::Sequence;

/// The most shoppers in a merged run: the sale's writer makes one of 8 MiB within some
/// milliseconds.
const RUN_MAX: usize = 1 << 19;

/// The shoppers who may not buy, and the entry since which the list is the same.
///
/// The list is kept in sorted runs that views and gates share. Added shoppers form a new run, which
/// is merged with the runs before it while they are no more than twice as long (as in O'Neil et
/// al., "The log-structured merge-tree", 1996). So each shopper is copied some ten times while
/// millions are uploaded in parts, and there are about twenty runs at the most, and four for each
/// further million.
#[derive(Clone, Default)]
pub struct DeniedShoppers {
    since: Sequence,
    runs: Vec<Arc<[ShopperKey]>>,
}

/// Omits the shoppers, of whom there may be millions.
impl fmt::Debug for DeniedShoppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeniedShoppers")
            .field("since", &self.since)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl DeniedShoppers {
    /// The list that has these runs. Each is sorted, and no shopper is in two of them.
    pub fn of_runs(since: Sequence, runs: Vec<Arc<[ShopperKey]>>) -> Self {
        Self { since, runs }
    }

    /// The list with further shoppers, from an entry on. None of them is on it yet, and none is
    /// named twice.
    pub fn and(&self, mut others: Vec<ShopperKey>, since: Sequence) -> Self {
        let mut runs = self.runs.clone();
        if !others.is_empty() {
            others.sort_unstable();
            while let Some(last) = runs.last()
                && last.len() <= 2 * others.len()
                && last.len() + others.len() <= RUN_MAX
            {
                others.extend_from_slice(last);
                // The stable sort finds the two sorted runs, and merges them.
                others.sort();
                runs.pop();
            }
            runs.push(others.into());
        }
        Self { since, runs }
    }

    /// Whether this shopper may not buy.
    pub fn contains(&self, shopper: ShopperKey) -> bool {
        self.runs.iter().any(|run| run.binary_search(&shopper).is_ok())
    }

    /// The entry since which the list has been the same.
    pub fn since(&self) -> Sequence {
        self.since
    }

    /// The number of shoppers.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// True if this list denies no shopper.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs, which a later list may share.
    pub fn runs(&self) -> &[Arc<[ShopperKey]>] {
        &self.runs
    }

    /// How many of the first runs this list shares with an earlier one. The runs after them are
    /// new.
    pub fn shared_runs(&self, earlier: &Self) -> usize {
        let both = self.runs.iter().zip(&earlier.runs);
        both.take_while(|(mine, theirs)| Arc::ptr_eq(mine, theirs)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use units::Prng;

    fn shopper(n: u64) -> ShopperKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        key[8..].copy_from_slice(&n.to_be_bytes());
        ShopperKey(key)
    }

    #[test]
    fn a_deny_list_contains_exactly_the_shoppers_added_to_it() {
        let mut prng = Prng::new(3);
        let (mut list, mut told) = (DeniedShoppers::default(), BTreeSet::new());
        assert!(list.is_empty() && !list.contains(shopper(1)));
        for part in 0..300 {
            let new: BTreeSet<u64> = (0..prng.below(90)).map(|_| prng.below(20_000)).collect();
            let new: Vec<u64> = new.into_iter().filter(|n| told.insert(*n)).collect();
            let before = list.clone();
            list = list.and(new.iter().map(|n| shopper(*n)).collect(), Sequence(part));
            assert_eq!((list.since(), list.len()), (Sequence(part), told.len()));
            assert_eq!(before.len(), told.len() - new.len(), "the one before stays as it was");
            assert!(list.runs().iter().all(|run| run.is_sorted() && !run.is_empty()));
        }
        assert!((0..20_000).all(|n| list.contains(shopper(n)) == told.contains(&n)));
        assert!(format!("{list:?}").len() < 80, "{list:?}");
    }

    /// A million in parts: few runs to search, and each shopper is copied a few times, not once for
    /// every part.
    #[test]
    fn a_deny_list_of_many_parts_copies_each_shopper_few_times() {
        const PART: u64 = 512;
        let (mut list, mut copied) = (DeniedShoppers::default(), 0);
        for part in 0..2048 {
            let before = list.clone();
            list = list.and((part * PART..(part + 1) * PART).map(shopper).collect(), Sequence(part));
            let shared = list.shared_runs(&before);
            copied += list.runs()[shared..].iter().map(|run| run.len()).sum::<usize>();
            assert!(list.runs().len() <= 12, "{} runs after part {part}", list.runs().len());
        }
        assert_eq!(list.len(), 2048 * PART as usize);
        assert!(copied < 12 * list.len(), "{copied} copied for {} shoppers", list.len());
        let longer = list.and(vec![shopper(u64::MAX)], Sequence(9999));
        assert_eq!(longer.shared_runs(&list), list.runs().len(), "one more is a run of one");
    }
}
