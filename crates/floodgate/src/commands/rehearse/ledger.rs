//! What the crowd was told, as the crowd recorded it: one line a shopper, written by the load
//! processes and compared with the log at the end.

use contracts::AttemptId;
use std::io::{self, BufRead, Write};
use units::TimeMs;

/// The last answer to a shopper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Granted,
    Waitlisted,
    SoldOut,
    /// Another refusal.
    Refused,
    /// No decision reached the shopper.
    Nothing,
}

/// The answer to a shopper's payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Paid {
    /// Did not pay: had nothing to pay for, or was a no-show.
    No,
    Confirmed,
    Refund,
    /// Paid, and got no answer.
    Unknown,
}

/// One shopper's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) attempt: AttemptId,
    pub(super) told: Told,
    pub(super) paid: Paid,
    /// Got a hold: at once, or by promotion.
    pub(super) held: bool,
    /// Until when it could be paid, as the first answer that named a hold said; 0 if none did.
    pub(super) pay_by: TimeMs,
    /// The place on the waitlist, as the first answer that named one said; 0 if none did.
    pub(super) position: u32,
    /// From the intended time of sending to the first decision, in microseconds.
    pub(super) latency_us: u64,
    /// Requests sent again after an error, a 429 or a 503.
    pub(super) retries: u32,
    /// Answers that contradicted an earlier one.
    pub(super) contradictions: u32,
}

const TOLD: [(Told, &str); 5] = [
    (Told::Granted, "granted"),
    (Told::Waitlisted, "waitlisted"),
    (Told::SoldOut, "sold_out"),
    (Told::Refused, "refused"),
    (Told::Nothing, "nothing"),
];
const PAID: [(Paid, &str); 4] =
    [(Paid::No, "no"), (Paid::Confirmed, "confirmed"), (Paid::Refund, "refund"), (Paid::Unknown, "unknown")];

impl Told {
    pub(super) fn as_str(self) -> &'static str {
        TOLD.iter().find(|(told, _)| *told == self).map_or("", |(_, name)| name)
    }
}

impl Line {
    /// A shopper who has not asked yet.
    pub(super) fn new(attempt: AttemptId) -> Self {
        Self {
            attempt,
            told: Told::Nothing,
            paid: Paid::No,
            held: false,
            pay_by: TimeMs(0),
            position: 0,
            latency_us: 0,
            retries: 0,
            contradictions: 0,
        }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let paid = PAID.iter().find(|(paid, _)| *paid == self.paid).map_or("", |(_, name)| name);
        writeln!(
            to,
            "{} {} {} {} {} {} {} {} {}",
            self.attempt,
            self.told.as_str(),
            paid,
            u8::from(self.held),
            self.pay_by.0,
            self.position,
            self.latency_us,
            self.retries,
            self.contradictions
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = Self {
            attempt: words.next()?.parse().ok()?,
            told: by_name(&TOLD, words.next()?)?,
            paid: by_name(&PAID, words.next()?)?,
            held: words.next()? == "1",
            pay_by: TimeMs(words.next()?.parse().ok()?),
            position: words.next()?.parse().ok()?,
            latency_us: words.next()?.parse().ok()?,
            retries: words.next()?.parse().ok()?,
            contradictions: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(line)
    }
}

fn by_name<T: Copy>(names: &[(T, &str)], name: &str) -> Option<T> {
    names.iter().find(|(_, n)| *n == name).map(|(value, _)| *value)
}

/// Reads a ledger back.
pub(super) fn read(from: impl BufRead) -> io::Result<Vec<Line>> {
    let parse = |text: io::Result<String>| {
        let text = text?;
        Line::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("ledger line {text:?}")))
    };
    from.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_line_survives_a_round_trip_through_text() {
        let line = Line {
            attempt: AttemptId([7; 16]),
            told: Told::Waitlisted,
            paid: Paid::Refund,
            held: true,
            pay_by: TimeMs(1_800_000_000_123),
            position: 12,
            latency_us: 12_345,
            retries: 3,
            contradictions: 0,
        };
        let mut text = Vec::new();
        line.write(&mut text).unwrap();
        assert_eq!(read(&text[..]).unwrap(), [line]);
        assert!(read(&b"07 granted"[..]).is_err());
    }
}
