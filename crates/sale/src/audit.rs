//! Derives everything again from the log alone, and says of each invariant whether the log proves it.
//!
//! The auditor reads every entry, whatever the core thinks of it: it shares the records' bytes with [`crate::core`] and
//! nothing else, and keeps its own state in the plainest way, so that a mistake in the core's clever tables is not made here
//! too. The core replays the same entries beside it; what the core refuses is a finding, and at the end the two are held
//! against each other. What was not looked at is not called proven.

mod auditor;
mod refusals;

use crate::core::{Core, Entry};
use auditor::{Auditor, Item};
use contracts::ItemId;
use engines::log::{LogError, LogRead};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use units::Sequence;

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    pub items: Vec<ItemReport>,
    /// Attempts by what was said to them.
    pub outcomes: BTreeMap<String, u64>,
    /// Holds by where they stand now.
    pub holds: BTreeMap<String, u64>,
    pub invariants: Vec<Verdict>,
}

/// An item's figures.
#[derive(Debug, Clone, Serialize)]
pub struct ItemReport {
    pub item: ItemId,
    pub initial: u64,
    pub adjustments: i64,
    pub free: i64,
    pub held: i64,
    pub sold: i64,
    pub waiting: u64,
}

/// Whether the log proves an invariant.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub id: &'static str,
    /// True if it is [`Found::Proven`].
    pub holds: bool,
    pub found: Found,
    /// What was checked; the first entry that breaks it; or why it is not shown.
    pub how: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Checked at every entry of the log.
    Proven,
    Broken,
    /// Not broken as far as the audit came, and it did not come to the end.
    NotShown,
}

impl Found {
    /// The word that a report uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Broken => "BROKEN",
            Self::NotShown => "NOT SHOWN",
        }
    }
}

impl Report {
    /// True if the log proves every invariant.
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(|v| v.holds)
    }
}

/// The core beside the auditor, as far as it follows.
#[derive(Debug, Default)]
struct Replay {
    core: Core,
    refused: bool,
    /// Whether the stored snapshot has the bytes of the core at its entry.
    same_bytes: Option<bool>,
}

/// Audits a log, and a snapshot of it if there is one.
///
/// # Errors
/// If the log cannot be read: then nothing is proven.
pub fn audit(log: &mut dyn LogRead, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Report, LogError> {
    let mut auditor = Auditor::default();
    let mut replay = Replay::default();
    let mut ended_early = None;
    let mut entries = 0;
    log.read(Sequence(1), &mut |sequence, bytes| {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                auditor.check(7, false, sequence, || format!("no record: {error}"));
                ended_early = Some(format!("the audit ended at entry {sequence}, which is no record"));
                return ControlFlow::Break(());
            }
        };
        auditor.entry(sequence, &entry);
        replay.entry(sequence, &entry, &mut auditor);
        entries += 1;
        if let Some((at, bytes)) = &snapshot
            && *at == sequence
            && !replay.refused
            && Core::writes_like(bytes)
        {
            replay.same_bytes = Some(replay.core.snapshot() == *bytes);
        }
        ControlFlow::Continue(())
    })?;
    if entries == 0 && ended_early.is_none() {
        ended_early = Some("the log is empty".into());
    }
    let end = Sequence(entries);
    if ended_early.is_none() {
        auditor.nobody_waits_for_what_is_free(end);
        let behind = snapshot.as_ref().is_none_or(|(at, _)| *at <= end);
        auditor
            .check(7, behind, end, || "a snapshot stands at a later entry: the log's end is missing".into());
        replay.end(end, &mut auditor);
    }
    Ok(report(auditor, entries, replay.same_bytes, ended_early))
}

impl Replay {
    /// The core's refusal stands under the invariant that it names, and under INV-7: what cannot be replayed is no fold.
    fn entry(&mut self, sequence: Sequence, entry: &Entry, auditor: &mut Auditor) {
        if self.refused {
            return;
        }
        let Err(error) = self.core.replay_entries(sequence, std::slice::from_ref(entry)) else { return };
        self.refused = true;
        for id in error.invariants() {
            auditor.check(number(id), false, sequence, || format!("the core refuses it: {error}"));
        }
    }

    fn end(&self, end: Sequence, auditor: &mut Auditor) {
        if self.refused {
            return;
        }
        let stats = self.core.stats();
        let same_items = stats.items.len() == auditor.items.len();
        auditor.check(7, same_items, end, || "the core has other items".into());
        for (at, s) in stats.items.iter().enumerate() {
            let ours = auditor.items.get(at).map(Item::figures);
            let cores = [
                i128::from(s.initial),
                i128::from(s.adjustments),
                i128::from(s.free),
                i128::from(s.held),
                i128::from(s.sold),
                i128::from(s.waiting),
            ];
            auditor.check(7, ours == Some(cores), end, || {
                format!("item {}: {ours:?} here, {cores:?} in the core", s.item)
            });
        }
        let snapshot = self.core.snapshot();
        let restored = Core::restore(&snapshot).map(|again| again.snapshot() == snapshot);
        auditor.check(7, restored == Ok(true), end, || "a restored snapshot gives other bytes".into());
        let differs = self.same_bytes == Some(false);
        auditor.check(7, !differs, end, || "the stored snapshot differs from the log's replay".into());
    }
}

/// The number in `INV-n`.
fn number(id: &str) -> u8 {
    id.as_bytes().last().map_or(0, |digit| digit - b'0')
}

fn report(
    auditor: Auditor,
    entries: u64,
    snapshot_same: Option<bool>,
    ended_early: Option<String>,
) -> Report {
    let ids = ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7"];
    let verdict = |(id, proven): (&'static str, String)| {
        let (found, how) = match (auditor.findings.get(&number(id)), &ended_early) {
            (Some(broken), _) => (Found::Broken, broken.clone()),
            (None, Some(why)) => (Found::NotShown, why.clone()),
            (None, None) => (Found::Proven, proven),
        };
        Verdict { id, holds: found == Found::Proven, found, how }
    };
    let invariants = ids.into_iter().zip(proven(&auditor, entries, snapshot_same)).map(verdict).collect();
    let mut holds: BTreeMap<String, u64> = BTreeMap::new();
    for seen in auditor.seen.values() {
        *holds.entry(seen.standing.as_str().into()).or_default() += 1;
    }
    let specs = auditor.spec.iter().flat_map(|spec| &spec.items);
    let items = auditor.items.iter().zip(specs).map(|(item, spec)| item.report(spec.item.clone()));
    Report { entries, items: items.collect(), outcomes: auditor.outcomes, holds, invariants }
}

/// What each invariant was checked by, if nothing breaks it.
fn proven(auditor: &Auditor, entries: u64, snapshot_same: Option<bool>) -> [String; 7] {
    let c = &auditor.checked;
    let mut refusals = format!("{} refusals true of the sale as of their sequence", c.refusals_of_sale);
    if c.refusals_of_somebody > 0 {
        refusals.push_str(&format!(
            "; {} (limit_reached, not_eligible, not_open of an item) depend on who asked for what, which the log does not hold: \
             it shows only that the sale had such a rule",
            c.refusals_of_somebody
        ));
    }
    if c.refusals_disk_full > 0 {
        refusals.push_str(&format!(
            "; {} were told paused while the disk was full, of which the log has the count only",
            c.refusals_disk_full
        ));
    }
    let snapshot = match snapshot_same {
        Some(_) => "; the stored snapshot has the replay's bytes",
        None => "; no snapshot was stored by this version",
    };
    [
        format!("never more held and sold than put up: checked behind {} movements of stock", c.stock),
        format!(
            "{} journalled sold_out, none while that much was free; nobody waited for what was free at any entry",
            c.sold_out
        ),
        format!(
            "{} grants, places and late payments recounted per shopper, item, round and sale; {} new ones held against \
             eligibility and deny list, {} places against the waitlist's length",
            c.limits, c.answers, c.places
        ),
        format!(
            "{} answers, each said once and while its round was open; each hold's steps legal, {} expiries not before their \
             pay_by; {refusals}",
            c.answers, c.expiries
        ),
        format!("{} grants, promotions and late payments, none past somebody who waited and fitted", c.order),
        format!("initial + adjustments = free + held + sold behind {} movements", c.stock),
        format!("{entries} entries replayed: the core's figures are the auditor's{snapshot}"),
    ]
}
