//! Whether everything happened at its time: what was due came before the next decision, and nothing
//! came early.

use super::{Actor, AttemptId, Auditor, Due, Record, Sequence, Standing, TimeMs};

/// Whether an entry was decided after the timers had done all that was due at its time.
fn is_decision(record: &Record) -> bool {
    match record {
        Record::RoundOpened { by, .. }
        | Record::RoundClosed { by, .. }
        | Record::WaitlistEnded { by }
        | Record::Left { by, .. } => by.name != Actor::TIMER,
        Record::Paused { by } => by.name != Actor::RESTORE,
        Record::Promoted { .. }
        | Record::CommandDone { .. }
        | Record::Expired { .. }
        | Record::Refusals { .. }
        | Record::SpaceRegained { .. } => false,
        _ => true,
    }
}

/// Whether an entry is an expiry, or a round that turns by itself.
fn is_timers(record: &Record) -> bool {
    match record {
        Record::RoundOpened { .. } | Record::RoundClosed { .. } => !is_decision(record),
        Record::Expired { .. } => true,
        _ => false,
    }
}

impl Auditor {
    /// What is due and not done: the waitlist's end, the first hold's end, or a round's turn.
    fn due(&self) -> Option<Due> {
        let now = self.now;
        if let Some(ends_at) = self.waitlist_ends_at().filter(|at| *at <= now) {
            return Some(Due::EndWaitlist(ends_at));
        }
        let waiting = self.items.iter().map(|item| item.waiting.len()).sum();
        if self.waitlist_ended && waiting > 0 {
            return Some(Due::Leave(waiting));
        }
        let expiry = self.held.first().filter(|(pay_by, _)| *pay_by <= now);
        if let Some(&(pay_by, hold)) = expiry {
            return Some(Due::Expiry(pay_by, hold));
        }
        match self.round {
            Some(round) => {
                let closes_at = self.closes_at.get(usize::from(round)).copied();
                closes_at.filter(|at| *at <= now).map(|at| Due::Close(round, at))
            }
            None => {
                let next = self.rounds_opened;
                self.opens_at(next).filter(|at| *at <= now).map(|at| Due::Open(next, at))
            }
        }
    }

    fn waitlist_ends_at(&self) -> Option<TimeMs> {
        self.spec.as_ref().and_then(|spec| spec.waitlist_ends_at).filter(|_| !self.waitlist_ended)
    }

    /// The waitlist ends by itself at its time, and earlier only if an operator says so.
    pub(super) fn waitlist_ends(&mut self, sequence: Sequence, by: &Actor) {
        let is_time = self.waitlist_ends_at().is_some_and(|ends_at| ends_at <= self.now);
        self.check(4, by.name != Actor::TIMER || is_time, sequence, || {
            "the waitlist ends before its time, and no operator said so".into()
        });
        self.waitlist_ended = true;
    }

    pub(super) fn opens_at(&self, round: u16) -> Option<TimeMs> {
        let rounds = self.spec.as_ref().map(|spec| &spec.rounds);
        rounds.and_then(|rounds| rounds.get(usize::from(round))).map(|round| round.opens_at)
    }

    /// Time is a promise too: nothing is decided before what was due by then is done. Refusals are
    /// journalled while something is due only directly before the entry that does it.
    pub(super) fn in_time(&mut self, sequence: Sequence, record: &Record) {
        if let Some(due) = self.owed.take()
            && !is_timers(record)
        {
            self.overdue(sequence, due);
        }
        let due = self.due();
        if is_decision(record)
            && let Some(due) = due
        {
            self.overdue(sequence, due);
        }
        if matches!(record, Record::Refusals { .. }) {
            self.owed = due;
        }
    }

    /// The log is read to its end: refusals were not its last entry while something was due.
    pub(in crate::audit) fn ends_in_time(&mut self, end: Sequence) {
        if let Some(due) = self.owed.take() {
            self.overdue(end, due);
        }
    }

    fn overdue(&mut self, sequence: Sequence, due: Due) {
        let now = self.now;
        match due {
            Due::Expiry(pay_by, hold) => self.check(2, false, sequence, || {
                format!("{hold} is still held at {now}, and its time was over at {pay_by}")
            }),
            Due::Close(round, at) => self.check(4, false, sequence, || {
                format!("round {round} is still open at {now}, and was to close at {at}")
            }),
            Due::EndWaitlist(at) => self.check(4, false, sequence, || {
                format!("the waitlist goes on at {now}, and was to end at {at}")
            }),
            Due::Leave(waiting) => {
                self.check(4, false, sequence, || format!("{waiting} still wait, and the waitlist has ended"))
            }
            Due::Open(round, at) => self.check(4, false, sequence, || {
                format!("round {round} is not open at {now}, and was to open at {at}")
            }),
        }
    }

    /// A round turns by itself at its time, and earlier only if an operator says so.
    pub(super) fn turns_in_time(
        &mut self,
        sequence: Sequence,
        (round, turns): (u16, &str),
        by: &Actor,
        due_at: Option<TimeMs>,
    ) {
        let early = due_at.map_or(0, |due_at| due_at.since(self.now).0);
        self.check(4, by.name != Actor::TIMER || early == 0, sequence, || {
            format!("round {round} {turns} {early} ms before its time, and no operator said so")
        });
    }

    pub(super) fn paid_in_time(&mut self, sequence: Sequence, hold: AttemptId, late: bool) {
        let (now, held) = (self.now, self.seen.get(&hold).filter(|seen| seen.standing == Standing::Held));
        let Some(pay_by) = held.map(|seen| seen.pay_by) else { return };
        self.check(4, late || now < pay_by, sequence, || {
            format!("{hold} is paid as if in time, and was to be paid by {pay_by}")
        });
    }

    /// The hold whose end comes first, of those that are held.
    pub(in crate::audit) fn first_end(&self) -> Option<(TimeMs, AttemptId)> {
        self.held.first().copied()
    }
}
