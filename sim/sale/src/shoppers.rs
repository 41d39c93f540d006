//! Shoppers, payment providers and operators, as they react to replies.
//!
//! They know only the replies that they received. They keep these, to be compared with the log at
//! the end.

use crate::names::name;
use crate::workload::{Workload, operate};
use contracts::{Answer, Attempt, AttemptId, Found, HoldState, HoldView, Operation, OperationDone, Place};
use sale::{Command, Reply};
use sim::{Check, ensure};
use std::collections::BTreeMap;
use units::{Prng, Sequence, TimeMs};

/// The commands to send later, and in how many milliseconds.
pub(crate) type Later = Vec<(u64, Command)>;

/// The lasting part of what a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    position: u32,
    hold: Option<(TimeMs, Sequence)>,
}

fn pauses(operation: &Operation) -> bool {
    match operation {
        Operation::Once { operation, .. } => pauses(operation),
        operation => *operation == Operation::Pause,
    }
}

/// All clients.
#[derive(Debug, Default)]
pub(crate) struct Shoppers {
    heard: BTreeMap<AttemptId, Heard>,
}

impl Shoppers {
    /// A client receives a reply.
    pub(crate) fn hear(
        &mut self,
        work: &mut Workload,
        prng: &mut Prng,
        command: &Command,
        reply: &Reply,
        later: &mut Later,
    ) -> Check {
        match (command.clone(), reply) {
            (Command::Attempt(attempt), Reply::Answer(answer)) => {
                self.heard(attempt.id, answer)?;
                if work.crowded.contains(&attempt.id) {
                    return Ok(());
                }
                if matches!(answer, Answer::Granted(_) | Answer::Waitlisted { .. }) {
                    work.holds.push(attempt.id);
                }
                Self::go_on(work, prng, attempt, answer, later);
            }
            (Command::Lookup { attempt, .. }, Reply::Found(Found { answer, .. })) => {
                self.heard(attempt, answer)?;
                if let Answer::Waitlisted {
                    place: Place::Promoted(HoldView { state: HoldState::Held, .. }),
                    ..
                } = answer
                    && prng.percent(work.manners.pays)
                {
                    Self::pay(work, prng, attempt, later);
                }
            }
            (Command::Operate { operation, .. }, Reply::Done(Ok(_))) if pauses(&operation) => {
                let in_ms = prng.below(8000);
                later.push((in_ms, operate(Operation::Resume)));
            }
            (
                Command::Operate { operation: Operation::Confirm { hold, payment }, .. },
                Reply::Done(Ok(_)),
            ) => Self::pay_again(work, prng, hold, payment, later),
            _ => {}
        }
        Ok(())
    }

    /// A shopper's reaction to an answer.
    fn go_on(work: &mut Workload, prng: &mut Prng, attempt: Attempt, answer: &Answer, later: &mut Later) {
        let id = attempt.id;
        match answer {
            Answer::Granted(HoldView { state: HoldState::Held, .. }) => {
                if prng.percent(work.manners.releases) {
                    let in_ms = prng.below(20_000);
                    later.push((in_ms, operate(Operation::Release { hold: id })));
                }
                if prng.percent(work.manners.pays) {
                    Self::pay(work, prng, id, later);
                }
            }
            Answer::Waitlisted { .. } => {
                let in_ms = prng.below(20_000);
                let look = Command::Lookup { attempt: id, shopper: attempt.shopper };
                let leave = prng.percent(work.manners.releases / 3);
                later.push((in_ms, if leave { operate(Operation::Release { hold: id }) } else { look }));
            }
            Answer::Refused { .. } if prng.percent(25) => {
                let in_ms = prng.below(15_000);
                later.push((in_ms, Command::Attempt(attempt)));
            }
            _ => {}
        }
        if prng.percent(6) {
            let in_ms = prng.below(60_000);
            let again = if prng.percent(50) { work.reused(prng, attempt) } else { attempt };
            later.push((in_ms, Command::Attempt(again)));
        }
    }

    fn pay(work: &mut Workload, prng: &mut Prng, hold: AttemptId, later: &mut Later) {
        let in_ms = prng.below(*prng.clone().pick(&[500, 5000, 60_000]));
        let payment = work.payment(prng);
        later.push((in_ms, operate(Operation::Confirm { hold, payment })));
    }

    /// The provider reports it once more, or the shopper has paid twice.
    fn pay_again(work: &mut Workload, prng: &mut Prng, hold: AttemptId, payment: String, later: &mut Later) {
        if prng.percent(20) {
            let in_ms = prng.below(60_000);
            let payment = if prng.percent(60) { payment } else { work.payment(prng) };
            later.push((in_ms, operate(Operation::Confirm { hold, payment })));
        }
    }

    /// Keeps the promise in an answer; an earlier answer must have promised the same, or nothing.
    fn heard(&mut self, id: AttemptId, answer: &Answer) -> Check {
        let hold = |view: &HoldView| Some((view.pay_by, view.granted_as_of));
        let now = match answer {
            Answer::Granted(view) => Heard { position: 0, hold: hold(view) },
            Answer::Waitlisted { position, place: Place::Promoted(view) } => {
                Heard { position: *position, hold: hold(view) }
            }
            Answer::Waitlisted { position, .. } => Heard { position: *position, hold: None },
            _ => return Ok(()),
        };
        let before = self.heard.get(&id).copied();
        let same = before.is_none_or(|before| {
            before.position == now.position
                && (before.hold.is_none() || now.hold.is_none() || before.hold == now.hold)
        });
        ensure(same, "INV-4", || format!("{} heard {before:?}, and now {now:?}", name(id)))?;
        if now.hold.is_some() || before.is_none() {
            self.heard.insert(id, now);
        }
        Ok(())
    }

    /// Whether the sale's own list of attempts has what every client was told.
    pub(crate) fn agree(&self, kept: impl Fn(AttemptId) -> Option<(u32, TimeMs, u64)>) -> Check {
        for (id, heard) in &self.heard {
            let log = kept(*id);
            let same = log.is_some_and(|(position, pay_by, granted)| {
                position == heard.position
                    && heard.hold.is_none_or(|hold| hold == (pay_by, Sequence(granted)))
            });
            ensure(same, "INV-4", || format!("{} heard {heard:?}, the log has {log:?}", name(*id)))?;
        }
        Ok(())
    }

    /// What a failed operation did, for the trace.
    pub(crate) fn brief(reply: &Reply) -> String {
        match reply {
            Reply::Answer(Answer::Refused { refusal, as_of }) => {
                format!("{} as of {as_of}", refusal.as_str())
            }
            Reply::Answer(answer) | Reply::Found(Found { answer, .. }) => format!("{answer:?}"),
            Reply::Done(Ok(OperationDone::Ok)) => "ok".into(),
            Reply::Done(Ok(done)) => format!("{done:?}"),
            Reply::Done(Err(error)) => format!("error: {error}"),
            Reply::Shopper(record) => format!("{} attempts as of {}", record.attempts.len(), record.as_of),
            Reply::Stats(stats) => format!("stats as of {}", stats.as_of),
            Reply::Waiting(page) => format!("{} places", page.len()),
            Reply::Noted => "noted".into(),
            Reply::Unavailable(why) => format!("unavailable: {why:?}"),
        }
    }
}
