//! A network that loses, repeats and reorders messages, and clients that retry.

use crate::story::Check;
use crate::system::{Command, Habits, Reply, System};
use std::collections::BTreeMap;
use units::Prng;

/// The seed's generator, and the settings of the network.
pub(crate) struct Chance<'a> {
    pub(crate) prng: &'a mut Prng,
    pub(crate) habits: &'a Habits,
}

/// Times that a request is sent again before the client gives up.
const TRIES_MAX: u32 = 5;

/// A request under way, by its number.
struct Asked<S: System> {
    command: Command<S>,
    tries: u32,
    answered: bool,
}

/// An event that is due.
enum Event<S: System> {
    /// The request reaches the server.
    Arrive(usize),
    /// The reply reaches the client.
    Hear(usize, Reply<S>),
    /// The client's timeout expires.
    Impatient(usize),
    /// A client sends a command that was decided on earlier.
    Send(Command<S>),
}

/// All messages under way.
pub(crate) struct Network<S: System> {
    asked: Vec<Asked<S>>,
    /// By time, then in the order in which they were planned.
    agenda: BTreeMap<(u64, u64), Event<S>>,
    planned: u64,
    /// Requests that have reached the server.
    inbox: Vec<usize>,
    /// Real time, which no clock shows.
    pub(crate) time_ms: u64,
}

impl<S: System> Network<S> {
    pub(crate) fn new() -> Self {
        Self { asked: Vec::new(), agenda: BTreeMap::new(), planned: 0, inbox: Vec::new(), time_ms: 0 }
    }

    fn plan(&mut self, in_ms: u64, event: Event<S>) {
        self.planned += 1;
        self.agenda.insert((self.time_ms + in_ms, self.planned), event);
    }

    /// Sends a command, and again if no answer comes.
    pub(crate) fn send(&mut self, at: &mut Chance<'_>, command: Command<S>) {
        self.asked.push(Asked { command, tries: 0, answered: false });
        self.transmit(at, self.asked.len() - 1);
    }

    fn transmit(&mut self, at: &mut Chance<'_>, ticket: usize) {
        let delay = |at: &mut Chance<'_>| {
            let slow = if at.prng.percent(3) { 20 } else { 1 };
            at.prng.below(at.habits.delay_ms_max * slow + 1)
        };
        if !at.prng.percent(at.habits.lost) {
            let in_ms = delay(at);
            self.plan(in_ms, Event::Arrive(ticket));
        }
        if at.prng.percent(at.habits.repeated) {
            let in_ms = delay(at) * 2;
            self.plan(in_ms, Event::Arrive(ticket));
        }
        self.asked[ticket].tries += 1;
        if self.asked[ticket].tries < TRIES_MAX {
            let in_ms = 500 + at.prng.below(4000);
            self.plan(in_ms, Event::Impatient(ticket));
        }
    }

    /// Handles all events that are due; requests that reach the server are queued there.
    pub(crate) fn run(&mut self, at: &mut Chance<'_>, system: &mut S) -> Check {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.time_ms
        {
            match entry.remove() {
                Event::Arrive(ticket) => self.inbox.push(ticket),
                Event::Hear(ticket, reply) => {
                    self.asked[ticket].answered = !S::is_no_answer(&reply);
                    let mut later = Vec::new();
                    system.hear(at.prng, &self.asked[ticket].command, &reply, &mut later)?;
                    for (in_ms, command) in later {
                        self.plan(in_ms, Event::Send(command));
                    }
                }
                Event::Impatient(ticket) if !self.asked[ticket].answered => self.transmit(at, ticket),
                Event::Impatient(_) => {}
                Event::Send(command) => self.send(at, command),
            }
        }
        Ok(())
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes queued requests, `max` at the most.
    pub(crate) fn take(&mut self, max: usize) -> Vec<(usize, Command<S>)> {
        let max = max.min(self.inbox.len());
        self.inbox.drain(..max).map(|ticket| (ticket, self.asked[ticket].command.clone())).collect()
    }

    /// A number for a request that does not go through the network.
    pub(crate) fn ticket(&mut self, command: &Command<S>) -> usize {
        self.asked.push(Asked { command: command.clone(), tries: TRIES_MAX, answered: false });
        self.asked.len() - 1
    }

    /// The server is down, and all requests queued there are lost.
    pub(crate) fn server_gone(&mut self) {
        self.inbox.clear();
    }

    /// Sends a reply.
    pub(crate) fn reply(&mut self, at: &mut Chance<'_>, ticket: usize, reply: Reply<S>) {
        if !at.prng.percent(at.habits.lost) {
            let in_ms = at.prng.below(at.habits.delay_ms_max + 1);
            self.plan(in_ms, Event::Hear(ticket, reply));
        }
    }
}
