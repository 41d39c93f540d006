//! The best hits and the counts of all, in one pass over what matches.

use super::Found;
use std::{cmp::Ordering, collections::BTreeMap};
use tantivy::{
    DocId, Score, SegmentOrdinal, SegmentReader, TantivyError,
    collector::{Collector, SegmentCollector},
    columnar::{Column, StrColumn},
};

/// The best hits of a group, or of all, and how many each group has.
pub(super) struct Best {
    pub(super) group: Option<String>,
    pub(super) at_most: usize,
}

/// A hit as one part of the index has it: its keys are numbered in their order.
#[derive(Clone, Copy)]
pub(super) struct Hit<K> {
    score: Score,
    position: u64,
    key: K,
}

impl<K: Ord> Hit<K> {
    /// The better one is less.
    fn compare(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then_with(|| self.position.cmp(&other.position))
            .then_with(|| self.key.cmp(&other.key))
    }
}

/// Keeps the best, and a little more.
fn truncate<K: Ord>(hits: &mut Vec<Hit<K>>, at_most: usize) {
    if hits.len() > at_most {
        hits.select_nth_unstable_by(at_most, Hit::compare);
        hits.truncate(at_most);
    }
}

/// What one part of the index has.
pub(super) struct Part {
    keys: Option<StrColumn>,
    groups: Option<StrColumn>,
    positions: Column<u64>,
    /// The number of the group that is asked for; hits of others are only counted.
    wanted: Wanted,
    at_most: usize,
    hits: Vec<Hit<u64>>,
    /// The least score that may still be among the best.
    threshold: Score,
    counts: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Group(u64),
    /// No document of this part is of the group.
    None,
}

impl SegmentCollector for Part {
    type Fruit = tantivy::Result<(Vec<Hit<String>>, BTreeMap<String, u64>)>;

    fn collect(&mut self, doc: DocId, score: Score) {
        let group = self.groups.as_ref().and_then(|groups| groups.ords().first(doc));
        if let Some(count) = group.and_then(|group| self.counts.get_mut(group as usize)) {
            *count += 1;
        }
        let is_wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Group(wanted) => group == Some(wanted),
            Wanted::None => false,
        };
        if !is_wanted || score < self.threshold || self.at_most == 0 {
            return;
        }
        let position = self.positions.first(doc).unwrap_or(u64::MAX);
        let Some(key) = self.keys.as_ref().and_then(|keys| keys.ords().first(doc)) else { return };
        self.hits.push(Hit { score, position, key });
        if self.hits.len() >= 2 * self.at_most {
            truncate(&mut self.hits, self.at_most);
            let least = self.hits.iter().map(|hit| hit.score).min_by(Score::total_cmp);
            self.threshold = least.unwrap_or(self.threshold);
        }
    }

    fn harvest(mut self) -> Self::Fruit {
        truncate(&mut self.hits, self.at_most);
        let mut hits = Vec::with_capacity(self.hits.len());
        if let Some(keys) = &self.keys {
            for Hit { score, position, key } in self.hits {
                let mut text = String::new();
                keys.ord_to_str(key, &mut text)?;
                hits.push(Hit { score, position, key: text });
            }
        }
        let mut counts = BTreeMap::new();
        if let Some(groups) = &self.groups {
            for (group, count) in (0..).zip(self.counts).filter(|(_, count)| *count > 0) {
                let mut text = String::new();
                groups.ord_to_str(group, &mut text)?;
                counts.insert(text, count);
            }
        }
        Ok((hits, counts))
    }
}

impl Collector for Best {
    type Fruit = Found;
    type Child = Part;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<Part> {
        let fast = segment.fast_fields();
        let groups = fast.str("group")?;
        let wanted = match (&self.group, &groups) {
            (None, _) => Wanted::All,
            (Some(wanted), Some(groups)) => match groups.dictionary().term_ord(wanted)? {
                Some(group) => Wanted::Group(group),
                None => Wanted::None,
            },
            (Some(_), None) => Wanted::None,
        };
        let count = groups.as_ref().map_or(0, |groups| groups.dictionary().num_terms());
        Ok(Part {
            keys: fast.str("key")?,
            groups,
            positions: fast.u64("position")?,
            wanted,
            at_most: self.at_most,
            hits: Vec::new(),
            threshold: Score::NEG_INFINITY,
            counts: vec![0; count],
        })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, parts: Vec<<Part as SegmentCollector>::Fruit>) -> tantivy::Result<Found> {
        let (mut hits, mut groups) = (Vec::new(), BTreeMap::<String, u64>::new());
        for part in parts {
            let (some, counts) = part?;
            hits.extend(some);
            for (group, count) in counts {
                *groups.entry(group).or_default() += count;
            }
        }
        hits.sort_unstable_by(Hit::compare);
        hits.truncate(self.at_most);
        Ok::<_, TantivyError>(Found { keys: hits.into_iter().map(|hit| hit.key).collect(), groups })
    }
}
