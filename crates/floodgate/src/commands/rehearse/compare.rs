//! The crowd's ledger against the log: nothing lost, nothing twice, nothing contradicted.

use super::FIRST;
use super::ledger::{Line, Paid, Told};
use engines::log::{LogError, LogRead};
use sale::core::{Entry, Record};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use units::{AttemptId, ShopperKey};

/// How the two agree.
#[derive(Debug, Default, Serialize)]
pub(super) struct Comparison {
    pub(super) lines: u64,
    pub(super) attempts_in_log: u64,
    pub(super) holds_in_log: u64,
    pub(super) payments_in_log: u64,
    /// What differs, and how often.
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

    fn differ(&mut self, when: bool, what: &'static str) {
        if when {
            *self.differences.entry(what).or_default() += 1;
        }
    }
}

#[derive(Debug, Default)]
struct InLog {
    waitlisted: bool,
    holds: u32,
    confirmed: u32,
    refunds: u32,
    claimed: bool,
}

pub(super) fn compare(lines: &[Line], log: &mut dyn LogRead) -> Result<Comparison, LogError> {
    let mut result = Comparison { lines: lines.len() as u64, ..Comparison::default() };
    let mut attempts: HashMap<AttemptId, InLog> = HashMap::new();
    let mut holds_of: HashMap<ShopperKey, u32> = HashMap::new();
    log.read(FIRST, &mut |_, bytes| {
        // The audit has decoded every entry before.
        let Ok(entry) = Entry::decode(bytes) else { return ControlFlow::Break(()) };
        match entry.record {
            Record::Granted { attempt, .. } | Record::Promoted { attempt, .. } => {
                attempts.entry(attempt.id).or_default().holds += 1;
                *holds_of.entry(attempt.shopper).or_default() += 1;
            }
            Record::Waitlisted { attempt, .. } => attempts.entry(attempt.id).or_default().waitlisted = true,
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
        result.differ(line.contradictions > 0, "a shopper was told one thing and then another");
        match line.told {
            Told::Granted => {
                result.differ(seen.holds == 0, "told granted, but the log has no hold");
                result.differ(seen.waitlisted, "told granted, but the log has a place on the waitlist");
            }
            Told::Waitlisted => {
                result.differ(!seen.waitlisted, "told waitlisted, but the log has no place");
                result.differ(
                    line.held && seen.holds == 0,
                    "told that the turn has come, but the log has no hold",
                );
            }
            Told::SoldOut | Told::Refused => {
                result.differ(
                    seen.holds > 0 || seen.waitlisted,
                    "told a refusal last, but the log has a hold or a place",
                );
            }
            // The server could not be reached in time: the log may have decided, and the shopper can still learn it.
            Told::Nothing => {}
        }
        match line.paid {
            Paid::Confirmed => {
                result.differ(seen.confirmed != 1, "told paid, but the log has no confirmation")
            }
            Paid::Refund => result.differ(seen.confirmed > 0, "told refund, but the log has a confirmation"),
            Paid::No => result.differ(seen.confirmed > 0, "never paid, but the log has a confirmation"),
            Paid::Unknown => {}
        }
    }
    for seen in attempts.values() {
        result.differ(!seen.claimed, "the log has an attempt that no shopper made");
        result.differ(seen.confirmed > 1, "a hold was confirmed twice");
    }
    Ok(result)
}
