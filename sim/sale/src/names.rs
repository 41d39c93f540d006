//! Ids that carry a number, and records in a word, for traces.

use contracts::{AttemptId, ShopperKey};
use sale::core::Record;
use sim::story::clock;

/// Sixteen bytes that carry a number: uniform at the front, where tables look, and legible at the
/// end.
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
        Record::CommandDone { key, answer } => format!("command {} is done: {answer:?}", key.id[0]),
        other => format!("{other:?}"),
    }
}
