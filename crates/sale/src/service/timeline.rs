//! A page of the log in words.

use super::handle::Handle;
use super::shared::lock;
use crate::core::Entry;
use crate::timeline::{Page, Timeline};
use contracts::{TimelineEntry, TimelineFilter, Unavailable};
use std::ops::ControlFlow;
use units::{Sequence, TimeMs};

/// Entries read in one call. Fewer than for the winners: each is put into words before the filter
/// sees it, and the feeds wait for the same reader.
const ENTRIES_MAX: u64 = 10_000;

impl Handle {
    /// When these entries were written, in order: of all, or of the first ones, if the last is far
    /// from the first. At least one, if there are any. Reads the disk.
    pub fn times(&self, of: &[Sequence]) -> Result<Vec<TimeMs>, Unavailable> {
        let mut times = Vec::with_capacity(of.len());
        let Some(first) = of.first() else { return Ok(times) };
        let mut undecodable = None;
        let read = lock(&self.0.reader).read(*first, &mut |sequence, bytes| {
            if of.get(times.len()) == Some(&sequence) {
                match Entry::decode(bytes) {
                    Ok(entry) => times.push(entry.at),
                    Err(error) => undecodable = Some(format!("entry {sequence}: {error}")),
                }
            }
            let enough = times.len() == of.len() || sequence.0 - first.0 >= ENTRIES_MAX;
            if enough || undecodable.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (read, undecodable) {
            (Ok(_), None) => Ok(times),
            (Err(error), _) => Err(Unavailable::Passing(error.to_string())),
            (_, Some(why)) => Err(Unavailable::Stopped(why)),
        }
    }

    /// The entries after `after` that are wanted, `max` at the most, and how far the log was
    /// searched. Reads the disk.
    pub fn timeline(
        &self,
        after: Sequence,
        wanted: TimelineFilter,
        max: usize,
    ) -> Result<(Vec<TimelineEntry>, Sequence), Unavailable> {
        let timeline = self.view().map(|view| Timeline::of(&view.spec)).unwrap_or_default();
        let mut page = Page::new(timeline, wanted, max);
        let mut searched = after;
        let mut undecodable = None;
        let mut reader = lock(&self.0.reader);
        let read = reader.read(after.next(), &mut |sequence, bytes| match page.take(sequence, bytes) {
            Ok(full) => {
                searched = sequence;
                let enough = full || sequence.0 - after.0 >= ENTRIES_MAX;
                if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Err(error) => {
                undecodable = Some(format!("entry {sequence}: {error}"));
                ControlFlow::Break(())
            }
        });
        match (read, undecodable) {
            (Ok(_), None) => Ok((page.found, searched)),
            (Err(error), _) => Err(Unavailable::Passing(error.to_string())),
            (_, Some(why)) => Err(Unavailable::Stopped(why)),
        }
    }
}
