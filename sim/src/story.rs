//! What happened, line by line: the last lines are a failing seed's story, and the hash of all of them its fingerprint.

use contracts::{AttemptId, ShopperKey};
use sale::core::Record;
use std::collections::VecDeque;
use units::TimeMs;

/// Lines that a failing seed tells.
const KEPT: usize = 30;

/// A promise of the sale that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant (`INV-1` …), or what else was promised.
    pub rule: &'static str,
    pub what: String,
}

/// The outcome of a check.
pub(crate) type Check = Result<(), Violation>;

/// Fails with `what` unless `holds`.
pub(crate) fn ensure(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Story {
    lines: VecDeque<String>,
    keep_all: bool,
    hash: u64,
}

impl Story {
    pub(crate) fn new(keep_all: bool) -> Self {
        Self { lines: VecDeque::new(), keep_all, hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(crate) fn note(&mut self, line: String) {
        // FNV-1a: only to tell two runs apart.
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if !self.keep_all && self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// Sixteen bytes that carry a number: uniform in front, where tables look, and legible behind.
fn numbered(number: u64, salt: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&units::Prng::new(number ^ salt).next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number(bytes: [u8; 16]) -> u64 {
    let mut tail = [0; 8];
    tail.copy_from_slice(&bytes[8..]);
    u64::from_be_bytes(tail)
}

pub(crate) fn attempt_id(number: u64) -> AttemptId {
    AttemptId(numbered(number, 0xa11e))
}

pub(crate) fn shopper_key(number: u64) -> ShopperKey {
    ShopperKey(numbered(number, 0x5409))
}

/// `a17`
pub(crate) fn name(id: AttemptId) -> String {
    format!("a{}", number(id.0))
}

/// `s3`
pub(crate) fn shopper_name(key: ShopperKey) -> String {
    format!("s{}", number(key.0))
}

/// Seconds and milliseconds since the run began.
pub(crate) fn clock(at: TimeMs) -> String {
    let ms = i128::from(at.0) - i128::from(EPOCH_MS);
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// When every run begins: far enough from zero to jump back.
pub(crate) const EPOCH_MS: u64 = 1_000_000_000;

/// A record in a word.
pub(crate) fn brief(record: &Record) -> String {
    match record {
        Record::Granted { attempt, pay_by, .. } => {
            format!("granted {} until {}", name(attempt.id), clock(*pay_by))
        }
        Record::Waitlisted { attempt, position, .. } => {
            format!("waitlisted {} at {position}", name(attempt.id))
        }
        Record::Promoted { attempt, pay_by, .. } => {
            format!("promoted {} until {}", name(attempt.id), clock(*pay_by))
        }
        Record::Confirmed { hold, payment, late, .. } => {
            format!("confirmed {} by {payment}, late: {late}", name(*hold))
        }
        Record::RefundDue { hold, payment, .. } => format!("refund due for {} of {payment}", name(*hold)),
        Record::Released { hold, .. } => format!("released {}", name(*hold)),
        Record::Expired { hold } => format!("expired {}", name(*hold)),
        Record::Voided { hold, .. } => format!("voided {}", name(*hold)),
        Record::Left { attempt, .. } => format!("{} left the waitlist", name(*attempt)),
        Record::Defined { .. } => "defined".into(),
        Record::RoundOpened { round, .. } => format!("round {round} opened"),
        Record::RoundClosed { round, .. } => format!("round {round} closed"),
        other => format!("{other:?}"),
    }
}
