//! Checks one reply against the log: whether what it says is in the log, and was true.

use super::{Checker, standing, unheard_of};
use crate::bounds::SHOPPER_ATTEMPTS_MAX;
use crate::model::{Kept, Standing};
use crate::names::name;
use contracts::{
    Answer, Attempt, AttemptId, Found, HoldView, OperateError, Operation, OperationDone, Place, Refusal,
    SaleStats, ShopperKey, ShopperRecord,
};
use sale::{Command, Reply};
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;

impl Checker {
    /// Checks a reply that names an entry, with the model at that entry.
    pub(super) fn as_of(&self, command: &Command, reply: &Reply, full: bool) -> Check {
        match (command, reply) {
            (Command::Attempt(attempt), Reply::Answer(Answer::Refused { refusal, .. })) => {
                ensure(self.refusal_is_true(attempt, *refusal, full), "INV-4", || {
                    format!(
                        "{} is told {refusal:?} as of {}, which is not so",
                        name(attempt.id),
                        self.model.last
                    )
                })
            }
            (
                Command::Lookup { attempt, shopper },
                Reply::Found(Found { answer: Answer::None { .. }, .. }),
            ) => {
                let kept = self.model.find(*attempt).is_some_and(|kept| kept.attempt.shopper == *shopper);
                ensure(!kept, "INV-4", || format!("{} is told that it was never stored", name(*attempt)))
            }
            (Command::Shopper(shopper), Reply::Shopper(record)) => self.shopper(*shopper, record),
            (Command::Stats, Reply::Stats(stats)) => self.stats(stats),
            _ => Ok(()),
        }
    }

    fn refusal_is_true(&self, attempt: &Attempt, refusal: Refusal, full: bool) -> bool {
        let m = &self.model;
        let Attempt { id, shopper, basket, tier, .. } = attempt;
        if m.find(*id).is_some() {
            return false;
        }
        if full {
            return refusal == Refusal::Paused;
        }
        let Some(round) = m.open_round() else {
            let over = m.spec.is_some() && m.next_round().is_none();
            return refusal == if over { Refusal::Closed } else { Refusal::NotOpen };
        };
        if m.paused {
            return refusal == Refusal::Paused;
        }
        match refusal {
            Refusal::NotOpen => !m.offered(round, basket),
            Refusal::NotEligible => !m.eligible(*shopper, *tier),
            Refusal::LimitReached { held_by } => {
                let alone = m.over_limit(ShopperKey([0; 16]), basket, round, None);
                let theirs = |kept: &Kept| kept.attempt.shopper == *shopper && kept.standing().counts();
                m.over_limit(*shopper, basket, round, None)
                    && held_by.map_or(alone, |by| m.find(by).is_some_and(theirs))
            }
            Refusal::SoldOut => m.lacking(basket).is_some_and(|line| basket.len() > 1 || !m.has_place(line)),
            Refusal::Closed | Refusal::Paused => false,
        }
    }

    fn shopper(&self, shopper: ShopperKey, record: &ShopperRecord) -> Check {
        let newest = self.model.kept.iter().rev().map(|kept| &kept.attempt);
        let mine: Vec<AttemptId> = newest.filter(|a| a.shopper == shopper).map(|a| a.id).collect();
        let told = record.attempts.iter().map(|a| a.id);
        let are_mine = told.eq(mine.iter().copied().take(SHOPPER_ATTEMPTS_MAX));
        ensure(are_mine, "INV-4", || {
            format!("a shopper is told of {} attempts and has {}", record.attempts.len(), mine.len())
        })?;
        let reserved = self.model.reserved.contains(&shopper);
        ensure(record.reserved == reserved, "INV-4", || format!("a reservation: {} told", record.reserved))?;
        for told in &record.attempts {
            let kept = self.model.find(told.id).ok_or_else(|| unheard_of(told.id))?;
            let state = self.permanent(told.id, &told.answer)?;
            ensure(state == kept.standing() && told.basket == kept.attempt.basket, "INV-4", || {
                format!("{} is told as {told:?}", name(told.id))
            })?;
        }
        Ok(())
    }

    /// Whether the sale's figures are those that the model counts.
    pub(crate) fn stats(&self, stats: &SaleStats) -> Check {
        for (item, (s, u)) in stats.items.iter().zip(&self.model.items).enumerate() {
            let told =
                (s.initial as i64, s.adjustments, s.free as i64, s.held as i64, s.sold as i64, s.waiting);
            let counted = (u.initial, u.adjusted, u.free, u.held, u.sold, u.waiting.len() as u64);
            ensure(told == counted, "INV-6", || format!("item {item}: told {told:?}, counted {counted:?}"))?;
        }
        let payments = self.model.kept.iter().flat_map(|kept| &kept.payments);
        let due = payments.filter(|(_, bought)| bought.is_none()).count() as u64;
        ensure(stats.refunds_due == due, "INV-6", || {
            format!("{} refunds are due, counted {due}", stats.refunds_due)
        })?;
        self.outcomes(&stats.outcomes)
    }

    /// Whether these are the attempts by outcome.
    pub(crate) fn outcomes(&self, told: &BTreeMap<String, u64>) -> Check {
        for (outcome, count) in told {
            let counted = self.model.outcomes.get(outcome).copied().unwrap_or(0);
            ensure(*count == counted, "INV-6", || format!("{outcome}: told {count}, counted {counted}"))?;
        }
        Ok(())
    }

    /// Checks the part of an answer that never changes against the log; returns the state that it
    /// reports.
    fn permanent(&self, id: AttemptId, answer: &Answer) -> Result<Standing, Violation> {
        let kept = self.model.find(id).ok_or_else(|| unheard_of(id))?;
        let contradicted =
            || Violation { rule: "INV-4", what: format!("{}: {answer:?}, but {kept:?}", name(id)) };
        let hold = |view: &HoldView| {
            let same = view.pay_by == kept.pay_by && view.granted_as_of.0 == kept.granted;
            if same { Ok(standing(view.state)) } else { Err(contradicted()) }
        };
        match answer {
            Answer::Granted(view) if kept.position == 0 => hold(view),
            Answer::Waitlisted { position, place } if *position == kept.position && *position > 0 => {
                match place {
                    Place::Waiting => Ok(Standing::Waiting),
                    Place::Left => Ok(Standing::Left),
                    Place::Promoted(view) => hold(view),
                }
            }
            _ => Err(contradicted()),
        }
    }

    /// Checks a reported state: it held at some time in the step, and no later state was reported
    /// before.
    fn told(&mut self, id: AttemptId, told: Standing, before: u64) -> Check {
        let kept = self.model.find(id).ok_or_else(|| unheard_of(id))?;
        let at = kept.history.iter().position(|(_, standing)| *standing == told);
        let said = self.said.get(&id).copied().unwrap_or(0);
        let was_so = at.is_some_and(|at| {
            at >= said && kept.history.get(at + 1).is_none_or(|(until, _)| *until > before)
        });
        ensure(was_so, "INV-4", || {
            format!("{} is told to be {told:?}, and was {:?} (told {said} before)", name(id), kept.history)
        })?;
        self.said.insert(id, at.unwrap_or(0));
        Ok(())
    }

    /// Checks a reply that names no entry, with the model after the step.
    pub(super) fn standing_reply(&mut self, command: &Command, reply: &Reply, before: u64) -> Check {
        match (command, reply) {
            (Command::Attempt(Attempt { id, .. }), Reply::Answer(answer))
            | (Command::Lookup { attempt: id, .. }, Reply::Found(Found { answer, .. })) => {
                if let (Command::Lookup { shopper, .. }, Some(kept)) = (command, self.model.find(*id)) {
                    let own = kept.attempt.shopper == *shopper || matches!(answer, Answer::None { .. });
                    ensure(own, "INV-4", || format!("{} is told to somebody else", name(*id)))?;
                }
                if let Reply::Found(Found { basket: Some(basket), .. }) = reply {
                    let same = self.model.find(*id).is_some_and(|kept| kept.attempt.basket == *basket);
                    ensure(same, "INV-4", || format!("{} is told with another basket", name(*id)))?;
                }
                match answer {
                    Answer::Granted(_) | Answer::Waitlisted { .. } => {
                        if let Command::Attempt(asked) = command {
                            let kept = self.model.find(*id).ok_or_else(|| unheard_of(*id))?;
                            let same =
                                kept.attempt.basket == asked.basket && kept.attempt.shopper == asked.shopper;
                            ensure(same, "INV-4", || format!("{} gets another's answer", name(*id)))?;
                        }
                        let told = self.permanent(*id, answer)?;
                        self.told(*id, told, before)
                    }
                    Answer::KeyReused => {
                        let Command::Attempt(asked) = command else {
                            return Err(unheard_of(*id));
                        };
                        let kept = self.model.find(*id).ok_or_else(|| unheard_of(*id))?;
                        let other =
                            kept.attempt.basket != asked.basket || kept.attempt.shopper != asked.shopper;
                        ensure(other, "INV-4", || {
                            format!("{}: the same key and basket are refused", name(*id))
                        })
                    }
                    Answer::Refused { .. } => {
                        let attempt = matches!(command, Command::Attempt(_));
                        ensure(attempt, "replies", || "a lookup is refused".into())
                    }
                    Answer::None { .. } => {
                        let lookup = matches!(command, Command::Lookup { .. });
                        ensure(lookup, "replies", || "an attempt gets no answer".into())
                    }
                }
            }
            // What else it says was checked at the entry at which it was decided.
            (Command::Operate { operation, .. }, Reply::Done(answer)) => {
                self.told_by_operation(operation, answer, before)
            }
            (Command::Shopper(_), Reply::Shopper(_))
            | (Command::Stats, Reply::Stats(_))
            | (Command::Waiting(_), Reply::Waiting(_)) => Ok(()),
            (Command::Operate { .. } | Command::GateRefusals(_), Reply::Unavailable(_)) => Ok(()),
            (Command::GateRefusals(_), Reply::Noted) => Ok(()),
            (command, reply) => {
                Err(Violation { rule: "replies", what: format!("{command:?} is answered {reply:?}") })
            }
        }
    }

    /// A hold's or a place's state that an operation reports is no earlier than one reported
    /// before.
    fn told_by_operation(
        &mut self,
        operation: &Operation,
        answer: &Result<OperationDone, OperateError>,
        before: u64,
    ) -> Check {
        match (operation, answer) {
            (Operation::Confirm { hold, .. }, Ok(OperationDone::Confirmed { hold: view, .. })) => {
                self.told(*hold, standing(view.state), before)
            }
            (Operation::Release { hold }, Ok(OperationDone::Released { hold: view })) => {
                self.told(*hold, view.map_or(Standing::Left, |view| standing(view.state)), before)
            }
            _ => Ok(()),
        }
    }
}
