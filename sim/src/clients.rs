//! Shoppers, payment providers and operators beyond a network that loses, repeats and reorders.
//!
//! They know what they heard and nothing else. What they heard they keep, to be held against the log at the end.

use crate::story::{Check, ensure, name};
use crate::workload::{Workload, operate};
use contracts::{Answer, Attempt, AttemptId, Found, HoldState, HoldView, Operation, OperationDone, Place};
use sale::worker::{Command, Reply};
use std::collections::BTreeMap;
use units::{Sequence, TimeMs};

/// Times that a question is sent again before its asker gives up.
const TRIES_MAX: u32 = 5;

/// A question under way, by its number.
#[derive(Debug)]
struct Asked {
    command: Command,
    tries: u32,
    answered: bool,
}

/// What is going to happen.
#[derive(Debug)]
enum Event {
    /// The request reaches the server.
    Arrive(usize),
    /// The reply reaches the client.
    Hear(usize, Reply),
    /// The client loses patience.
    Impatient(usize),
    /// Somebody sends something that was decided on earlier.
    Send(Command),
}

/// What a client was told for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    position: u32,
    hold: Option<(TimeMs, Sequence)>,
}

/// All clients and the network.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    asked: Vec<Asked>,
    /// By time, then in the order in which they were planned.
    agenda: BTreeMap<(u64, u64), Event>,
    planned: u64,
    /// Questions at the server's door.
    inbox: Vec<usize>,
    heard: BTreeMap<AttemptId, Heard>,
    /// Real time, which no clock shows.
    pub(crate) time_ms: u64,
}

impl Clients {
    fn plan(&mut self, in_ms: u64, event: Event) {
        self.planned += 1;
        self.agenda.insert((self.time_ms + in_ms, self.planned), event);
    }

    /// Sends a command, and again if no answer comes.
    pub(crate) fn send(&mut self, work: &mut Workload, command: Command) {
        self.asked.push(Asked { command, tries: 0, answered: false });
        self.transmit(work, self.asked.len() - 1);
    }

    /// Sends it at a later time.
    pub(crate) fn send_later(&mut self, in_ms: u64, command: Command) {
        self.plan(in_ms, Event::Send(command));
    }

    fn transmit(&mut self, work: &mut Workload, ticket: usize) {
        let delay = |work: &mut Workload| {
            let slow = if work.prng.percent(3) { 20 } else { 1 };
            work.prng.below(work.habits.delay_ms_max * slow + 1)
        };
        if !work.prng.percent(work.habits.lost) {
            let in_ms = delay(work);
            self.plan(in_ms, Event::Arrive(ticket));
        }
        if work.prng.percent(work.habits.repeated) {
            let in_ms = delay(work) * 2;
            self.plan(in_ms, Event::Arrive(ticket));
        }
        self.asked[ticket].tries += 1;
        if self.asked[ticket].tries < TRIES_MAX {
            let in_ms = 500 + work.prng.below(4000);
            self.plan(in_ms, Event::Impatient(ticket));
        }
    }

    /// Lets everything happen that is due; what reaches the server waits at its door.
    pub(crate) fn run(&mut self, work: &mut Workload) -> Check {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.time_ms
        {
            match entry.remove() {
                Event::Arrive(ticket) => self.inbox.push(ticket),
                Event::Hear(ticket, reply) => {
                    // Nobody takes "unavailable" for an answer.
                    self.asked[ticket].answered = !matches!(reply, Reply::Unavailable(_));
                    self.hear(work, ticket, &reply)?;
                }
                Event::Impatient(ticket) if !self.asked[ticket].answered => self.transmit(work, ticket),
                Event::Impatient(_) => {}
                Event::Send(command) => self.send(work, command),
            }
        }
        Ok(())
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes questions off the door, `max` at the most.
    pub(crate) fn take(&mut self, max: usize) -> Vec<(usize, Command)> {
        let max = max.min(self.inbox.len());
        self.inbox.drain(..max).map(|ticket| (ticket, self.asked[ticket].command.clone())).collect()
    }

    /// A question's number, for one that does not go through the network.
    pub(crate) fn ticket(&mut self, command: &Command) -> usize {
        self.asked.push(Asked { command: command.clone(), tries: TRIES_MAX, answered: false });
        self.asked.len() - 1
    }

    /// The server is gone, and with it all that stood at its door.
    pub(crate) fn server_gone(&mut self) {
        self.inbox.clear();
    }

    /// Sends a reply on its way.
    pub(crate) fn reply(&mut self, work: &mut Workload, ticket: usize, reply: Reply) {
        if !work.prng.percent(work.habits.lost) {
            let in_ms = work.prng.below(work.habits.delay_ms_max + 1);
            self.plan(in_ms, Event::Hear(ticket, reply));
        }
    }

    fn hear(&mut self, work: &mut Workload, ticket: usize, reply: &Reply) -> Check {
        match (self.asked[ticket].command.clone(), reply) {
            (Command::Attempt(attempt), Reply::Answer(answer)) => {
                self.heard(attempt.id, answer)?;
                if matches!(answer, Answer::Granted(_) | Answer::Waitlisted { .. }) {
                    work.holds.push(attempt.id);
                }
                self.go_on(work, attempt, answer);
            }
            (Command::Lookup { attempt, .. }, Reply::Found(Found { answer, .. })) => {
                self.heard(attempt, answer)?;
                if let Answer::Waitlisted {
                    place: Place::Promoted(HoldView { state: HoldState::Held, .. }),
                    ..
                } = answer
                    && work.prng.percent(work.habits.pays)
                {
                    self.pay(work, attempt);
                }
            }
            (Command::Operate { operation: Operation::Pause, .. }, Reply::Done(Ok(_))) => {
                let in_ms = work.prng.below(8000);
                self.send_later(in_ms, operate(Operation::Resume));
            }
            (
                Command::Operate { operation: Operation::Confirm { hold, payment }, .. },
                Reply::Done(Ok(_)),
            ) => self.pay_again(work, hold, payment),
            _ => {}
        }
        Ok(())
    }

    /// What a shopper does about an answer.
    fn go_on(&mut self, work: &mut Workload, attempt: Attempt, answer: &Answer) {
        let id = attempt.id;
        match answer {
            Answer::Granted(HoldView { state: HoldState::Held, .. }) => {
                if work.prng.percent(work.habits.releases) {
                    let in_ms = work.prng.below(20_000);
                    self.send_later(in_ms, operate(Operation::Release { hold: id }));
                }
                if work.prng.percent(work.habits.pays) {
                    self.pay(work, id);
                }
            }
            Answer::Waitlisted { .. } => {
                let in_ms = work.prng.below(20_000);
                let look = Command::Lookup { attempt: id, shopper: attempt.shopper };
                let leave = work.prng.percent(work.habits.releases / 3);
                self.send_later(in_ms, if leave { operate(Operation::Release { hold: id }) } else { look });
            }
            Answer::Refused { .. } if work.prng.percent(25) => {
                let in_ms = work.prng.below(15_000);
                self.send_later(in_ms, Command::Attempt(attempt));
            }
            _ => {}
        }
        if work.prng.percent(6) {
            let in_ms = work.prng.below(60_000);
            let again = if work.prng.percent(50) { work.reused(attempt) } else { attempt };
            self.send_later(in_ms, Command::Attempt(again));
        }
    }

    fn pay(&mut self, work: &mut Workload, hold: AttemptId) {
        let in_ms = work.prng.below(*work.prng.clone().pick(&[500, 5000, 60_000]));
        let payment = work.payment();
        self.send_later(in_ms, operate(Operation::Confirm { hold, payment }));
    }

    /// The provider tells it once more, or the shopper has paid twice.
    fn pay_again(&mut self, work: &mut Workload, hold: AttemptId, payment: String) {
        if work.prng.percent(20) {
            let in_ms = work.prng.below(60_000);
            let payment = if work.prng.percent(60) { payment } else { work.payment() };
            self.send_later(in_ms, operate(Operation::Confirm { hold, payment }));
        }
    }

    /// Keeps what was promised; the same was promised before, or nothing.
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

    /// Whether the sale's own list of attempts has what every client heard.
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

    /// What a failed operation did, for the story.
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
            Reply::Noted => "noted".into(),
            Reply::Unavailable(why) => format!("unavailable: {why:?}"),
        }
    }
}
