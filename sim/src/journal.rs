//! The entries of a log as they were first read: a durable entry never changes, and none is lost.

use crate::story::{Check, Violation, ensure};
use engines::codec::Codec;
use engines::log::LogRead;
use std::ops::ControlFlow;
use units::Sequence;

/// How far a log has been read, and what it said.
#[derive(Debug, Default)]
pub struct Journal {
    /// Every entry's bytes, as a hash.
    hashes: Vec<u64>,
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Journal {
    /// The last entry that was read.
    pub fn last(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Reads the entries after those that are known.
    pub fn news<E: Codec>(&mut self, reader: &mut dyn LogRead) -> Result<Vec<E>, Violation> {
        let mut news = Vec::new();
        let mut wrong = None;
        let hashes = &mut self.hashes;
        let read = reader.read(Sequence(hashes.len() as u64 + 1), &mut |sequence, bytes| {
            hashes.push(hash(bytes));
            match E::decode(bytes) {
                Ok(entry) if hashes.len() as u64 == sequence.0 => news.push(entry),
                Ok(_) => wrong = Some(format!("entry {sequence} comes out of turn")),
                Err(error) => wrong = Some(format!("entry {sequence}: {error}")),
            }
            if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (read, wrong) {
            (Ok(_), None) => Ok(news),
            (Err(error), _) => Err(Violation { rule: "log", what: error.to_string() }),
            (_, Some(what)) => Err(Violation { rule: "log", what }),
        }
    }

    /// Reads the log of a machine that was restarted: all that was known must be there, as it was.
    /// `rule` is broken if it is not.
    pub fn is_kept(&self, reader: &mut dyn LogRead, rule: &'static str) -> Check {
        let known = &self.hashes;
        let mut found = Vec::new();
        let read = reader.read(Sequence(1), &mut |_, bytes| {
            found.push(hash(bytes));
            if found.len() < known.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        ensure(read.is_ok(), "log", || format!("{read:?}"))?;
        found.truncate(known.len());
        let same = found.iter().zip(known).take_while(|(a, b)| a == b).count();
        ensure(same == known.len(), rule, || {
            format!("entry {} was durable, and is gone or changed; {} were known", same + 1, known.len())
        })
    }
}
