//! Drives an audit: every entry of a log goes to an auditor, also those that the machine refuses,
//! and to the machine.
//!
//! It knows no rule. An auditor keeps its own state in the plainest way and shares the entries'
//! bytes with the machine and nothing else, so that a mistake in the machine's clever tables is not
//! made twice. What the machine refuses is a finding, and at the end the two are compared. What was
//! not checked is not reported as proven.

use crate::machine::{Machine, REPLAY_INVARIANT};
use crate::recover::ReplayError;
use engines::codec::Codec;
use engines::log::{LogError, LogRead};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use units::Sequence;

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
    /// Not broken up to the entry at which the audit stopped, which was not the log's end.
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

/// The first entry that breaks each invariant.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<&'static str, String>);

impl Findings {
    /// Notes that an entry breaks an invariant, unless it `holds`.
    pub fn check(&mut self, id: &'static str, holds: bool, sequence: Sequence, why: impl FnOnce() -> String) {
        if !holds {
            self.0.entry(id).or_insert_with(|| format!("entry {sequence}: {}", why()));
        }
    }

    /// The first violation of an invariant.
    pub fn of(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }
}

/// A context's own reading of its log.
pub trait Auditor {
    type Machine: Machine;

    /// Reads the next entry. No content of an entry may cause a panic.
    fn entry(&mut self, sequence: Sequence, entry: &<Self::Machine as Machine>::Entry);

    /// The log is read to its end: do the remaining checks, such as the machine's figures against
    /// the auditor's. There is no machine if it refused an entry.
    fn end(&mut self, end: Sequence, machine: Option<&Self::Machine>);

    /// The findings so far.
    fn findings(&mut self) -> &mut Findings;

    /// For each invariant, what was checked, to be reported if nothing breaks it; in the order of
    /// the report.
    fn checked(&self, audited: &Audited) -> Vec<(&'static str, String)>;
}

/// How far an audit got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Entries read.
    pub entries: u64,
    /// A stored snapshot was compared with the replay.
    pub snapshot_compared: bool,
    /// Why it did not reach the end.
    pub ended_early: Option<String>,
}

/// The machine that replays the log next to the auditor, up to the first entry that it refuses.
#[derive(Debug, Default)]
struct Beside<M> {
    machine: M,
    refused: bool,
    /// Whether the stored snapshot has the bytes of the machine at its entry.
    same_bytes: Option<bool>,
}

impl<M: Machine> Beside<M> {
    /// The machine's refusal is reported under the invariant that it names, and under that of the
    /// replay.
    fn entry(&mut self, sequence: Sequence, entry: &M::Entry, findings: &mut Findings) {
        if self.refused {
            return;
        }
        let want = self.machine.sequence().next();
        let applied = match sequence == want {
            true => self.machine.apply(std::slice::from_ref(entry)).map_err(|source| (sequence, source)),
            false => return self.refuse(&ReplayError::Gap { want, got: sequence }, sequence, findings),
        };
        if let Err((sequence, source)) = applied {
            self.refuse(&ReplayError::Broken { sequence, source }, sequence, findings);
        }
    }

    fn refuse(&mut self, error: &ReplayError, sequence: Sequence, findings: &mut Findings) {
        self.refused = true;
        for id in error.invariants() {
            findings.check(id, false, sequence, || format!("the core refuses it: {error}"));
        }
    }

    /// A snapshot survives a round trip, and the stored one equals the log's replay.
    fn end(&self, end: Sequence, findings: &mut Findings) {
        if self.refused {
            return;
        }
        let snapshot = self.machine.snapshot();
        let restored = M::restore(&snapshot).map(|again| again.snapshot() == snapshot);
        findings.check(REPLAY_INVARIANT, restored == Ok(true), end, || {
            "a restored snapshot gives other bytes".into()
        });
        findings.check(REPLAY_INVARIANT, self.same_bytes != Some(false), end, || {
            "the stored snapshot differs from the log's replay".into()
        });
    }
}

/// Audits a log, and a snapshot of it if there is one. Returns the verdicts, and how far it got.
///
/// # Errors
/// If the log cannot be read: then nothing is proven.
pub fn audit<A: Auditor>(
    auditor: &mut A,
    log: &mut dyn LogRead,
    snapshot: Option<(Sequence, Vec<u8>)>,
) -> Result<(Vec<Verdict>, Audited), LogError> {
    let mut beside = Beside::<A::Machine>::default();
    let mut audited = Audited { entries: 0, snapshot_compared: false, ended_early: None };
    log.read(Sequence(1), &mut |sequence, bytes| {
        let entry = match <A::Machine as Machine>::Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                let findings = auditor.findings();
                findings.check(REPLAY_INVARIANT, false, sequence, || format!("no record: {error}"));
                audited.ended_early =
                    Some(format!("the audit ended at entry {sequence}, which is no record"));
                return ControlFlow::Break(());
            }
        };
        auditor.entry(sequence, &entry);
        beside.entry(sequence, &entry, auditor.findings());
        audited.entries += 1;
        if let Some((at, bytes)) = &snapshot
            && *at == sequence
            && !beside.refused
            && A::Machine::writes_like(bytes)
        {
            beside.same_bytes = Some(beside.machine.snapshot() == *bytes);
        }
        ControlFlow::Continue(())
    })?;
    if audited.entries == 0 && audited.ended_early.is_none() {
        audited.ended_early = Some("the log is empty".into());
    }
    audited.snapshot_compared = beside.same_bytes.is_some();
    let end = Sequence(audited.entries);
    if audited.ended_early.is_none() {
        let reached = snapshot.as_ref().is_none_or(|(at, _)| *at <= end);
        auditor.findings().check(REPLAY_INVARIANT, reached, end, || {
            "a snapshot stands at a later entry: the log's end is missing".into()
        });
        auditor.end(end, (!beside.refused).then_some(&beside.machine));
        beside.end(end, auditor.findings());
    }
    let verdicts = auditor.checked(&audited).into_iter().map(|(id, proven)| {
        let (found, how) = match (auditor.findings().of(id), &audited.ended_early) {
            (Some(broken), _) => (Found::Broken, broken.to_owned()),
            (None, Some(why)) => (Found::NotShown, why.clone()),
            (None, None) => (Found::Proven, proven),
        };
        Verdict { id, holds: found == Found::Proven, found, how }
    });
    let verdicts = verdicts.collect();
    Ok((verdicts, audited))
}
