//! Compares the crowd's ledger with the log: nothing lost, nothing twice, nothing contradicted.

use super::FIRST;
use super::ledger::{Line, Paid, Told};
use contracts::{AttemptId, ShopperKey};
use engines::log::{LogError, LogRead};
use sale::core::{Entry, Record};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use units::TimeMs;

/// The result of the comparison.
#[derive(Debug, Default, Serialize)]
pub(super) struct Comparison {
    pub(super) lines: u64,
    pub(super) attempts_in_log: u64,
    pub(super) holds_in_log: u64,
    pub(super) payments_in_log: u64,
    /// The kinds of difference, and how often each occurs.
    pub(super) differences: BTreeMap<&'static str, u64>,
}

impl Comparison {
    pub(super) fn summary(&self) -> String {
        let agree = if self.differences.is_empty() { "agree" } else { "DIFFER" };
        format!(
            "{agree}: {} shoppers' lines against {} attempts, {} holds and {} payments in the log",
            self.lines, self.attempts_in_log, self.holds_in_log, self.payments_in_log
        )
    }

    /// Compares one shopper's line with the log's entries of the attempt.
    fn line(&mut self, line: &Line, seen: &InLog) {
        self.differ(line.contradictions > 0, "a shopper was told one thing and then another");
        match line.told {
            Told::Granted => {
                self.differ(seen.holds == 0, "told granted, but the log has no hold");
                self.differ(seen.position > 0, "told granted, but the log has a place on the waitlist");
            }
            Told::Waitlisted => {
                self.differ(seen.position == 0, "told waitlisted, but the log has no place");
                let another = seen.position > 0 && seen.position != line.position;
                self.differ(another, "told a place on the waitlist, but the log has another");
                let no_turn = line.held && seen.holds == 0;
                self.differ(no_turn, "told that the turn has come, but the log has no hold");
            }
            Told::SoldOut | Told::Refused => {
                let kept = seen.holds > 0 || seen.position > 0;
                self.differ(kept, "told a refusal last, but the log has a hold or a place");
            }
            // Every shopper asks until an answer comes or the rehearsal's time is over: one without
            // an answer is a failure, and there is no answer to compare with the log.
            Told::Nothing => self.differ(true, "a shopper heard nothing"),
        }
        let another = line.held && seen.holds > 0 && seen.pay_by != line.pay_by;
        self.differ(another, "told to pay by one time, but the log has another");
        let (confirmed, refunds) = (seen.confirmed, seen.refunds);
        match line.paid {
            Paid::Confirmed => {
                self.differ(confirmed == 0, "told paid, but the log has no confirmation");
                self.differ(refunds > 0, "told paid, but the log pays the money back");
            }
            Paid::Refund => {
                self.differ(confirmed > 0, "told refund, but the log has a confirmation");
                self.differ(refunds == 0, "told refund, but the log pays nothing back");
            }
            Paid::No => {
                self.differ(confirmed > 0, "never paid, but the log has a confirmation");
                self.differ(refunds > 0, "never paid, but the log pays money back");
            }
            Paid::Unknown => self.differ(true, "a shopper paid and heard nothing"),
        }
    }

    fn differ(&mut self, when: bool, what: &'static str) {
        if when {
            *self.differences.entry(what).or_default() += 1;
        }
    }
}

#[derive(Debug, Default)]
struct InLog {
    /// Its place on the waitlist when it was put there; 0 if it never waited.
    position: u32,
    holds: u32,
    /// The `pay_by` of its last hold.
    pay_by: TimeMs,
    confirmed: u32,
    refunds: u32,
    claimed: bool,
}

/// Compares the answers to the shoppers of a sale of `stock` units, one to a shopper, with its log.
pub(super) fn compare(lines: &[Line], stock: u64, log: &mut dyn LogRead) -> Result<Comparison, LogError> {
    let mut result = Comparison { lines: lines.len() as u64, ..Comparison::default() };
    let mut attempts: HashMap<AttemptId, InLog> = HashMap::new();
    let mut holds_of: HashMap<ShopperKey, u32> = HashMap::new();
    log.read(FIRST, &mut |_, bytes| {
        // The audit has decoded every entry before.
        let Ok(entry) = Entry::decode(bytes) else { return ControlFlow::Break(()) };
        match entry.record {
            Record::Granted { attempt, pay_by, .. } | Record::Promoted { attempt, pay_by, .. } => {
                let seen = attempts.entry(attempt.id).or_default();
                seen.holds += 1;
                seen.pay_by = pay_by;
                *holds_of.entry(attempt.shopper).or_default() += 1;
            }
            Record::Waitlisted { attempt, position, .. } => {
                attempts.entry(attempt.id).or_default().position = position;
            }
            Record::Confirmed { hold, .. } => attempts.entry(hold).or_default().confirmed += 1,
            Record::RefundDue { hold, .. } => attempts.entry(hold).or_default().refunds += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    result.attempts_in_log = attempts.len() as u64;
    result.holds_in_log = attempts.values().map(|a| u64::from(a.holds)).sum();
    result.payments_in_log = attempts.values().map(|a| u64::from(a.confirmed)).sum();
    for shopper_holds in holds_of.values() {
        result.differ(*shopper_holds > 1, "a shopper had more than one hold, with a limit of one");
    }
    let paid = lines.iter().filter(|line| line.paid == Paid::Confirmed).count() as u64;
    result.differ(paid > stock, "more shoppers were told paid than there were units");
    result.differ(result.payments_in_log > stock, "the log has more payments than there were units");
    let nothing = InLog::default();
    for line in lines {
        let seen = match attempts.get_mut(&line.attempt) {
            Some(seen) => {
                result.differ(seen.claimed, "two shoppers' lines name one attempt");
                seen.claimed = true;
                &*seen
            }
            None => &nothing,
        };
        result.line(line, seen);
    }
    for seen in attempts.values() {
        result.differ(!seen.claimed, "the log has an attempt that no shopper made");
        result.differ(seen.confirmed > 1, "a hold was confirmed twice");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{Attempt, Basket, SealedShopper};
    use engines::log::Visit;
    use units::Sequence;

    const PAY_BY: TimeMs = TimeMs(1000);

    /// Entries, and nothing else.
    struct Entries(Vec<Vec<u8>>);

    impl LogRead for Entries {
        fn last(&self) -> Sequence {
            Sequence(self.0.len() as u64)
        }

        fn first(&self) -> Sequence {
            FIRST
        }

        fn read(&mut self, _from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
            for (bytes, at) in self.0.iter().zip(1..) {
                let _ = visit(Sequence(at), bytes);
            }
            Ok(self.last())
        }
    }

    fn id(n: u8) -> AttemptId {
        AttemptId([n; 16])
    }

    fn attempt(n: u8) -> Attempt {
        let sealed = SealedShopper::new(&[n]).unwrap();
        Attempt { id: id(n), shopper: ShopperKey([n; 16]), sealed, tier: 0, basket: Basket::single(0, 1) }
    }

    fn grant(n: u8) -> Record {
        Record::Granted { attempt: attempt(n), round: 0, pay_by: PAY_BY }
    }

    fn wait(n: u8, position: u32) -> Record {
        Record::Waitlisted { attempt: attempt(n), round: 0, position }
    }

    fn promote(n: u8) -> Record {
        Record::Promoted { attempt: attempt(n), round: 0, pay_by: PAY_BY }
    }

    fn pay(n: u8) -> Record {
        Record::Confirmed { hold: id(n), payment: "p".into(), late: false, by: None }
    }

    fn refund(n: u8) -> Record {
        Record::RefundDue { hold: id(n), payment: "p".into(), by: None }
    }

    fn told(n: u8, told: Told, paid: Paid) -> Line {
        let held = told == Told::Granted;
        let pay_by = if held { PAY_BY } else { TimeMs(0) };
        let position = u32::from(told == Told::Waitlisted);
        Line { told, paid, held, pay_by, position, ..Line::new(id(n)) }
    }

    /// Compares the shoppers' lines with the log's records: the expected differences, each once.
    /// Two units are on sale.
    fn check(lines: &[Line], records: &[Record], differences: &[&str]) {
        let encode = |record: &Record| {
            let mut bytes = Vec::new();
            record.encode(TimeMs(1), &mut bytes);
            bytes
        };
        let found = compare(lines, 2, &mut Entries(records.iter().map(encode).collect())).unwrap();
        let want: BTreeMap<&str, u64> = differences.iter().map(|what| (*what, 1)).collect();
        assert_eq!(found.differences, want, "{lines:#?} {records:#?}");
    }

    #[test]
    fn ledgers_that_agree_have_no_differences() {
        let promoted = Line { held: true, pay_by: PAY_BY, ..told(3, Told::Waitlisted, Paid::Refund) };
        let lines = [
            told(1, Told::Granted, Paid::Confirmed),
            told(2, Told::Granted, Paid::No),
            promoted,
            told(4, Told::SoldOut, Paid::No),
            told(5, Told::Refused, Paid::No),
        ];
        check(&lines, &[grant(1), grant(2), wait(3, 1), pay(1), promote(3), refund(3)], &[]);
    }

    #[test]
    fn an_answer_that_the_log_contradicts_is_a_difference() {
        let granted = told(1, Told::Granted, Paid::No);
        let waits = told(1, Told::Waitlisted, Paid::No);
        check(&[granted], &[], &["told granted, but the log has no hold"]);
        check(
            &[granted],
            &[wait(1, 1)],
            &[
                "told granted, but the log has no hold",
                "told granted, but the log has a place on the waitlist",
            ],
        );
        let later = Line { pay_by: TimeMs(1001), ..granted };
        check(&[later], &[grant(1)], &["told to pay by one time, but the log has another"]);
        check(&[waits], &[], &["told waitlisted, but the log has no place"]);
        check(&[waits], &[wait(1, 2)], &["told a place on the waitlist, but the log has another"]);
        let promoted = Line { held: true, pay_by: PAY_BY, ..waits };
        check(&[promoted], &[wait(1, 1)], &["told that the turn has come, but the log has no hold"]);
        let early = Line { pay_by: TimeMs(999), ..promoted };
        check(&[early], &[wait(1, 1), promote(1)], &["told to pay by one time, but the log has another"]);
        let kept = "told a refusal last, but the log has a hold or a place";
        check(&[told(1, Told::SoldOut, Paid::No)], &[grant(1)], &[kept]);
        check(&[told(1, Told::Refused, Paid::No)], &[wait(1, 1)], &[kept]);
        let changed = Line { contradictions: 2, ..granted };
        check(&[changed], &[grant(1)], &["a shopper was told one thing and then another"]);
    }

    #[test]
    fn a_payment_that_the_log_contradicts_is_a_difference() {
        let paid = |paid| [told(1, Told::Granted, paid)];
        check(&paid(Paid::Confirmed), &[grant(1)], &["told paid, but the log has no confirmation"]);
        check(
            &paid(Paid::Confirmed),
            &[grant(1), refund(1)],
            &["told paid, but the log has no confirmation", "told paid, but the log pays the money back"],
        );
        check(&paid(Paid::Confirmed), &[grant(1), pay(1), pay(1)], &["a hold was confirmed twice"]);
        check(&paid(Paid::Refund), &[grant(1)], &["told refund, but the log pays nothing back"]);
        check(
            &paid(Paid::Refund),
            &[grant(1), pay(1)],
            &["told refund, but the log has a confirmation", "told refund, but the log pays nothing back"],
        );
        check(&paid(Paid::No), &[grant(1), pay(1)], &["never paid, but the log has a confirmation"]);
        check(&paid(Paid::No), &[grant(1), refund(1)], &["never paid, but the log pays money back"]);
    }

    #[test]
    fn a_shopper_without_an_answer_is_a_difference_whatever_the_log_says() {
        let nothing = [told(1, Told::Nothing, Paid::No)];
        check(&nothing, &[], &["a shopper heard nothing"]);
        check(&nothing, &[grant(1)], &["a shopper heard nothing"]);
        let unknown = [told(1, Told::Granted, Paid::Unknown)];
        check(&unknown, &[grant(1)], &["a shopper paid and heard nothing"]);
        check(&unknown, &[grant(1), pay(1)], &["a shopper paid and heard nothing"]);
    }

    #[test]
    fn a_unit_sold_twice_or_to_no_shopper_is_a_difference() {
        let granted = |n| told(n, Told::Granted, Paid::Confirmed);
        let all = [grant(1), pay(1), grant(2), pay(2), grant(3), pay(3)];
        check(
            &[granted(1), granted(2), granted(3)],
            &all,
            &[
                "more shoppers were told paid than there were units",
                "the log has more payments than there were units",
            ],
        );
        check(&[granted(1)], &all[..3], &["the log has an attempt that no shopper made"]);
        let twice = "a shopper had more than one hold, with a limit of one";
        check(&[granted(1)], &[grant(1), grant(1), pay(1)], &[twice]);
        check(&[granted(1), granted(1)], &[grant(1), pay(1)], &["two shoppers' lines name one attempt"]);
    }
}
