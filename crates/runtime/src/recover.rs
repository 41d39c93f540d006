//! Recovers a machine from its log, and makes the snapshots that shorten recovery.

use crate::machine::{Broken, Machine, REPLAY_INVARIANT, SnapshotError};
use engines::codec::{Codec, DecodeError};
use engines::log::{LogError, LogRead, Snapshots};
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use units::{Sequence, TimeMs};

/// Entries that are applied together, so that a machine can look ahead.
const TOGETHER: usize = 512;

/// Why a log entry could not be replayed.
#[derive(Debug)]
pub enum ReplayError {
    Decode { sequence: Sequence, source: DecodeError },
    Broken { sequence: Sequence, source: Broken },
    Gap { want: Sequence, got: Sequence },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode { sequence, source } => write!(f, "replay entry {sequence}: {source}"),
            Self::Broken { sequence, source } => write!(f, "replay entry {sequence}: breaks {source}"),
            Self::Gap { want, got } => write!(f, "replay: entry {got} comes where {want} should"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl ReplayError {
    /// The invariants that this breaks: that of the replay, and the one that is named.
    pub fn invariants(&self) -> impl Iterator<Item = &'static str> {
        let named = match self {
            Self::Broken { source, .. } => source.invariant(),
            Self::Decode { .. } | Self::Gap { .. } => None,
        };
        named.into_iter().chain([REPLAY_INVARIANT])
    }
}

/// Why a machine could not be recovered from its log.
#[derive(Debug)]
pub enum RecoverError {
    Log(LogError),
    Replay(ReplayError),
    /// The snapshot is newer than the log: the log's end is missing.
    LogBehindSnapshot {
        snapshot: Sequence,
        log: Sequence,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Replay(error) => write!(f, "{error}; keep the log as it is and report this"),
            Self::LogBehindSnapshot { snapshot, log } => write!(
                f,
                "recover: a snapshot stands at entry {snapshot}, but the log ends at {log}: its end is missing. Put the \
                 segment files back from a backup; starting without them would forget what was promised"
            ),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            Self::Replay(error) => Some(error),
            Self::LogBehindSnapshot { .. } => None,
        }
    }
}

impl RecoverError {
    /// The invariants that the log breaks, if that is the reason.
    pub fn invariants(&self) -> Vec<&'static str> {
        match self {
            Self::Replay(error) => error.invariants().collect(),
            Self::Log(_) | Self::LogBehindSnapshot { .. } => Vec::new(),
        }
    }

    /// True if the log could not be read or opened because of a passing shortage.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Log(error) if error.is_shortage())
    }
}

impl From<LogError> for RecoverError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// How a machine was recovered.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The snapshot that was used.
    pub snapshot: Option<Sequence>,
    /// A snapshot that could not be used, and why.
    pub passed_over: Option<SnapshotError>,
    /// Entries replayed on top.
    pub replayed: u64,
    /// The time of the last entry; 0 if there is none.
    pub time: TimeMs,
}

/// The state at the end of a log: from the newest usable snapshot, or from the first entry.
pub fn recover<M: Machine>(
    log: &mut dyn LogRead,
    snapshot: Option<(Sequence, Vec<u8>)>,
) -> Result<(M, Recovery), RecoverError> {
    let mut recovery = Recovery::default();
    let mut machine = M::default();
    if let Some((at, bytes)) = snapshot {
        if at > log.last() {
            return Err(RecoverError::LogBehindSnapshot { snapshot: at, log: log.last() });
        }
        match M::restore(&bytes) {
            Ok(restored) if restored.sequence() == at => {
                machine = restored;
                recovery.snapshot = Some(at);
            }
            Ok(_) => {}
            Err(error) => recovery.passed_over = Some(error),
        }
    }
    recovery.replayed = replay(&mut machine, log)?;
    recovery.time = machine.time();
    Ok((machine, recovery))
}

/// Replays the log up to its end; returns how many entries that took.
pub fn replay<M: Machine>(machine: &mut M, log: &mut dyn LogRead) -> Result<u64, RecoverError> {
    let from = machine.sequence().next();
    let mut entries: Vec<M::Entry> = Vec::with_capacity(TOGETHER);
    let mut failed = None;
    log.read(from, &mut |sequence, bytes| {
        let applied = M::Entry::decode(bytes)
            .map_err(|source| ReplayError::Decode { sequence, source })
            .and_then(|entry| {
                let want = machine.sequence().plus(entries.len() as u64 + 1);
                entries.push(entry);
                if sequence == want { Ok(()) } else { Err(ReplayError::Gap { want, got: sequence }) }
            })
            .and_then(|()| if entries.len() < TOGETHER { Ok(()) } else { apply(machine, &mut entries) });
        match applied {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed.map_or_else(|| apply(machine, &mut entries), Err) {
        Ok(()) => Ok(machine.sequence().0 + 1 - from.0),
        Err(error) => Err(RecoverError::Replay(error)),
    }
}

/// Applies the log's next entry, which must be `sequence`.
pub fn replay_entry<M: Machine>(
    machine: &mut M,
    sequence: Sequence,
    bytes: &[u8],
) -> Result<(), ReplayError> {
    let want = machine.sequence().next();
    if sequence != want {
        return Err(ReplayError::Gap { want, got: sequence });
    }
    let entry = M::Entry::decode(bytes).map_err(|source| ReplayError::Decode { sequence, source })?;
    machine.apply(&[entry]).map_err(|source| ReplayError::Broken { sequence, source })
}

fn apply<M: Machine>(machine: &mut M, entries: &mut Vec<M::Entry>) -> Result<(), ReplayError> {
    let applied = machine.apply(entries);
    entries.clear();
    applied.map_err(|source| ReplayError::Broken { sequence: machine.sequence().next(), source })
}

/// Writes a snapshot of the log's end, by a machine of its own: every snapshot is a replay that
/// worked. Returns its entry, and how long it took.
pub fn snapshot<M: Machine>(
    reader: &mut dyn LogRead,
    snapshots: &mut dyn Snapshots,
) -> Result<(Sequence, Duration), RecoverError> {
    let (machine, took) = snapshot_of::<M>(reader, snapshots)?;
    Ok((machine.sequence(), took))
}

/// As [`snapshot`]; returns the machine.
pub(crate) fn snapshot_of<M: Machine>(
    reader: &mut dyn LogRead,
    snapshots: &mut dyn Snapshots,
) -> Result<(M, Duration), RecoverError> {
    let started = Instant::now();
    let mut machine = match snapshots.latest()? {
        Some((at, bytes)) if at <= reader.last() => M::restore(&bytes).unwrap_or_default(),
        _ => M::default(),
    };
    replay(&mut machine, reader)?;
    if let Some(error) = snapshots.write(machine.sequence(), &machine.snapshot())? {
        tracing::warn!(sequence = machine.sequence().0, %error, "a snapshot is written, and older ones are left: the next one removes them");
    }
    let took = started.elapsed();
    Ok((machine, took))
}
