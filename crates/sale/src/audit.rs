//! Derives everything again from the log alone, and reports for each invariant whether the log
//! proves it.
//!
//! The auditor reads every entry, also those that the core refuses: it shares the records' bytes
//! with [`crate::core`] and nothing else, and keeps its own state in the plainest way, so that a
//! mistake in the core's clever tables is not made here too. [`runtime::audit`] has the core replay
//! the same entries, and compares the two.

mod auditor;
mod checked;
mod refusals;
mod report;

pub use report::{ItemReport, Report};
pub use runtime::audit::{Found, Verdict};

use auditor::Auditor;
use engines::log::{LogError, LogRead};
use std::collections::BTreeMap;
use units::Sequence;

/// Audits a log, and a snapshot of it if there is one.
///
/// # Errors
/// If the log cannot be read: then nothing is proven.
pub fn audit(log: &mut dyn LogRead, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Report, LogError> {
    let mut auditor = Auditor::default();
    let (invariants, audited) = runtime::audit::audit(&mut auditor, log, snapshot)?;
    let mut holds: BTreeMap<String, u64> = BTreeMap::new();
    for seen in auditor.seen.values() {
        *holds.entry(seen.standing.as_str().into()).or_default() += 1;
    }
    let refunds_due = auditor.refunds_due;
    let specs = auditor.spec.iter().flat_map(|spec| &spec.items);
    let items = auditor.items.iter().zip(specs).map(|(item, spec)| item.report(spec.item.clone()));
    let items = items.collect();
    Ok(Report { entries: audited.entries, items, outcomes: auditor.outcomes, holds, refunds_due, invariants })
}
