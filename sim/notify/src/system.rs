//! Puts publishers, subscribers, courier and checker together as one system.

use crate::checker::{self, Checker, Witnesses};
use crate::consumers::Consumers;
use crate::courier::Courier;
use crate::model::Subscription;
use crate::names::operator;
use crate::subscribers::Subscribers;
use crate::workload::Workload;
use contracts::SubscriptionId;
use engines::log::{Log, LogRead};
use notify::core::record::EventNo;
use notify::core::{Command, From, Letters, Notify, Reply};
use runtime::Machine;
use sim::story::clock;
use sim::{Batch, Check, Habits, Step, System, Violation, ensure};
use units::{DurationMs, Prng, Sequence, TimeMs};

/// How long after the faults, and after the time at which an event is to be tried again, all is
/// delivered to the endpoints that answer.
const QUIET: DurationMs = DurationMs(60_000);
/// How long the courier waits, at the end, for what is under way.
const LANDING_MS: u64 = 2;

/// The last part of a run, in which nothing breaks any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It has not come yet.
    No,
    /// What is owed is delivered, to endpoints that answer until this time.
    Delivers { until: TimeMs },
    /// Operators have decided about what is dead or blocked: once more.
    Redrives { until: TimeMs },
}

/// The message service and everyone who uses it.
#[derive(Debug)]
pub struct Messages {
    work: Workload,
    subscribers: Subscribers,
    courier: Courier,
    consumers: Consumers,
    checker: Checker,
    /// Once all is done, every subscription gets all again.
    replays_at_the_end: bool,
    /// And before that, once, while something is on its way that is far from the first.
    replays_on_the_way: bool,
    /// What of a dying courier's deliveries arrives is decided by a generator of its own.
    prng: Prng,
    ending: Ending,
}

impl System for Messages {
    type Machine = Notify;

    const RUN: &'static str = "cargo xtask chaos sim notify";

    fn new(prng: &mut Prng, _commands: u64) -> (Self, Habits) {
        let (work, habits) = Workload::new(prng);
        let dead_each = if prng.percent(30) { 2 + prng.below(2) as u32 } else { 0 };
        let in_flight_max = *prng.pick(&[2, 8, 60]);
        let repeats = *prng.pick(&[0, 0, 0, 15]);
        let system = Self {
            work,
            subscribers: Subscribers::new(dead_each),
            courier: Courier::new(in_flight_max, repeats),
            consumers: Consumers::default(),
            replays_at_the_end: prng.percent(20),
            replays_on_the_way: prng.percent(60),
            checker: Checker::default(),
            prng: Prng::new(prng.next_u64()),
            ending: Ending::No,
        };
        (system, habits)
    }

    fn set_up(&mut self, prng: &mut Prng) -> Vec<Command> {
        self.work.set_up(prng)
    }

    fn ask(&mut self, prng: &mut Prng, now: TimeMs) -> Command {
        self.work.ask(prng, now, &mut self.checker.model)
    }

    fn hear(
        &mut self,
        prng: &mut Prng,
        command: &Command,
        reply: &Reply,
        later: &mut Vec<(u64, Command)>,
    ) -> Check {
        self.work.hear(command, reply);
        self.consumers.hear(prng, &self.subscribers, (command, reply), later);
        Ok(())
    }

    /// The courier takes its turn; it does not know whether the service is there.
    fn beside(
        &mut self,
        prng: &mut Prng,
        _machine: Option<(&Notify, bool)>,
    ) -> Result<Option<Command>, Violation> {
        self.subscribers.live(prng, self.checker.model.last_subscription);
        if !prng.percent(60) {
            return Ok(None);
        }
        self.courier.turns(prng, &self.checker.model, &mut self.subscribers).map(Some)
    }

    fn restarted(&mut self, machine: &Notify, reader: &mut dyn LogRead) -> Check {
        self.courier.dies(&mut self.prng, &self.checker.model, &mut self.subscribers)?;
        let Self { subscribers, courier, consumers, .. } = self;
        self.checker.restarted(reader, Witnesses { subscribers, courier, consumers })?;
        self.keeps_bodies(machine)
    }

    fn check(&mut self, step: &Step<'_, Self>, machine: &Notify, reader: &mut dyn LogRead) -> Check {
        let Step { now, commands, replies, in_shortage, is_stale, next_wakeup, is_whole } = *step;
        let epoch = (!is_stale).then(|| machine.volatile());
        let seen = checker::Step { now, commands, replies, in_shortage, next_wakeup, is_whole, epoch };
        let Self { subscribers, courier, consumers, .. } = self;
        if self.checker.step(&seen, reader, Witnesses { subscribers, courier, consumers })? {
            self.courier.forgets_reports();
        }
        for (command, reply) in commands.iter().zip(replies) {
            match (command, reply) {
                (Command::Turn(_), _) => {
                    let Checker { model, under_way, .. } = &self.checker;
                    self.courier.hears(reply, model, under_way)?;
                }
                // At the end they are there at once, and not behind the network.
                (Command::Pull { name, .. }, Reply::Pulled { deliveries, .. })
                    if self.ending != Ending::No =>
                {
                    self.consumers.hear_at_the_end(&self.subscribers, name, deliveries);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn unseen_steps(&self) -> u32 {
        self.checker.unseen_ends
    }

    fn take_news(&mut self) -> Vec<String> {
        self.checker.take_news()
    }

    fn at(&self) -> u64 {
        self.checker.model.last
    }

    fn last_questions(&mut self) -> Vec<Vec<Command>> {
        self.subscribers.is_over = true;
        self.work.last_questions()
    }

    /// The courier and the consumers go on until nothing is owed any more; then operators decide
    /// about what is dead or blocked, and they go on again.
    fn winds_down(&mut self, prng: &mut Prng, now: TimeMs) -> Result<Option<Batch<Self>>, Violation> {
        if self.ending == Ending::No {
            self.ending = Ending::Delivers { until: self.quiet_by(now) };
        }
        if self.is_settled() {
            if matches!(self.ending, Ending::Redrives { .. }) {
                return Ok(None);
            }
            self.ending = Ending::Redrives { until: self.quiet_by(now) };
            // As the courier does when it hears of a new entry.
            self.courier.next_at = None;
            return Ok(Some((0, self.decisions())));
        }
        let (Ending::Delivers { until } | Ending::Redrives { until }) = self.ending else { return Ok(None) };
        let late = || self.answering().find(|(_, known)| is_due(known));
        if let Some((_, known)) = (now > until).then(late).flatten() {
            let what = format!("at {now} {} has not had all, which it was to have by {until}", known.name);
            return Err(Violation { rule: "MSG-6", what });
        }
        let is_idle = self.courier.is_idle() && self.consumers.to_say.is_empty();
        let next = self.courier.next_at.into_iter().chain(self.next_for_consumers()).min();
        let wait_ms = match is_idle {
            true => next.map_or(LANDING_MS, |at| at.since(now).0.max(1)),
            false => LANDING_MS,
        };
        // What an endpoint answers that is dead is of no interest to those that answer.
        let wait_ms = if now <= until { wait_ms.min(until.since(now).0 + 1) } else { wait_ms };
        let turn = self.courier.turns(prng, &self.checker.model, &mut self.subscribers)?;
        let mut batch = vec![turn];
        batch.append(&mut self.consumers.to_say);
        batch.extend(Workload::last_pulls(&self.checker.model));
        let mut far = self.courier.far_on_the_way(&self.checker.model);
        if let Some(name) = far.next().filter(|_| self.replays_on_the_way) {
            batch.push(replay(name));
            self.replays_on_the_way = false;
        }
        Ok(Some((wait_ms, batch)))
    }

    fn end(&mut self, machine: &Notify, _log: &dyn Log) -> Check {
        let model = &self.checker.model;
        self.checker.quiet(&self.subscribers, &self.consumers)?;
        self.keeps_bodies(machine)?;
        ensure(machine.sequence() == Sequence(model.last), "INV-7", || "the machine's end".into())?;
        let Some(Reply::Subscriptions(seen)) =
            machine.read(&Command::Subscriptions { after: None, at_most: usize::MAX })
        else {
            return ensure(false, "reply", || "subscriptions cannot be seen".into());
        };
        for seen in seen {
            let letters = Command::Letters {
                name: seen.name.clone(),
                which: Letters::Dead,
                after: EventNo(0),
                at_most: usize::MAX,
            };
            let Some(Reply::Letters(letters)) = machine.read(&letters) else { continue };
            let dead = model.subscription(&seen.name).map(|(_, known)| known.dead.keys().copied());
            let told = letters.iter().map(|letter| letter.event.0);
            ensure(dead.is_some_and(|dead| dead.eq(told)), "MSG-1", || format!("the letters of {seen:?}"))?;
            ensure(seen.in_flight == 0, "MSG-6", || format!("{seen:?} at the end"))?;
            if let Some((number, known)) = model.subscription(&seen.name) {
                self.checker.subscription(number, known, &seen)?;
            }
        }
        Ok(())
    }

    fn probes(&self) -> Vec<Command> {
        self.work.probes(&self.checker.model)
    }

    /// In which order what is due begins is not in the log.
    fn of_the_log(reply: Reply) -> Reply {
        match reply {
            Reply::Turned { mut deliveries, epoch, next_at } => {
                deliveries.sort_by_key(|delivery| (delivery.subscription, delivery.event));
                Reply::Turned { deliveries, epoch, next_at }
            }
            Reply::Pulled { mut deliveries, until, next_at } => {
                deliveries.sort_by_key(|delivery| delivery.event);
                Reply::Pulled { deliveries, until, next_at }
            }
            reply => reply,
        }
    }

    fn is_no_answer(reply: &Reply) -> bool {
        matches!(reply, Reply::Unavailable(_) | Reply::Busy)
    }

    fn brief(command: &Command) -> String {
        brief(command)
    }

    fn brief_reply(reply: &Reply) -> String {
        match reply {
            Reply::Turned { deliveries, epoch, next_at } => {
                let begun = deliveries.iter().map(|delivery| {
                    format!(" {}:{}@{}", delivery.subscription.0, delivery.event.0, delivery.attempt)
                });
                let next = next_at.map(clock).unwrap_or_default();
                format!("epoch {epoch}, next {next}:{}", begun.collect::<String>())
            }
            Reply::Pulled { deliveries, until, next_at } => {
                let begun = deliveries.iter().map(|delivery| {
                    format!(" {}:{}@{}", delivery.subscription.0, delivery.event.0, delivery.attempt)
                });
                let next = next_at.map(clock).unwrap_or_default();
                format!("until {}, next {next}:{}", clock(*until), begun.collect::<String>())
            }
            reply => format!("{reply:?}").chars().take(300).collect(),
        }
    }
}

/// Something is owed whose key is not blocked.
fn is_due(known: &Subscription) -> bool {
    let mut firsts = known.owed.values().filter_map(|lane| lane.first_key_value());
    firsts.any(|(_, wait)| !wait.is_blocked())
}

/// When something is to be tried at the latest, of those keys that are not blocked.
fn first_due(known: &Subscription) -> Option<TimeMs> {
    let firsts = known.owed.values().filter_map(|lane| lane.first_key_value());
    firsts.filter(|(_, wait)| !wait.is_blocked()).map(|(_, wait)| wait.again_at.unwrap_or_default()).max()
}

impl Messages {
    /// Subscriptions whose endpoints answer.
    fn answering(&self) -> impl Iterator<Item = (u32, &Subscription)> {
        let all = self.checker.model.subscriptions.iter();
        all.filter(|(number, _)| !self.subscribers.is_dead(**number)).map(|(number, known)| (*number, known))
    }

    /// By when the endpoints and consumers that answer have had all. Those that have a lease may
    /// have gone away: then it is tried again some time after the lease.
    fn quiet_by(&self, now: TimeMs) -> TimeMs {
        let due = self.answering().filter_map(|(_, known)| first_due(known)).max();
        let longest = self.answering().map(|(_, known)| known.spec.retry.longest_seconds * 11 / 10).max();
        let lease = self.checker.under_way.last_lease_ends();
        let lease = lease.map(|until| until.max(now).plus(DurationMs::seconds(longest.unwrap_or_default())));
        let delayed = self.checker.model.last_delayed();
        let last = due.into_iter().chain(lease).chain(delayed).max();
        last.unwrap_or_default().max(now).plus(QUIET)
    }

    /// When something happens next that consumers wait for: an event is published, a lease ends, or
    /// something is to be pulled.
    fn next_for_consumers(&self) -> Option<TimeMs> {
        let Checker { model, under_way, .. } = &self.checker;
        let pulled = model.subscriptions.iter().filter(|(_, known)| known.spec.url.is_none());
        let pulled = pulled.filter_map(|(number, known)| under_way.due(*number, known)).min();
        let lease = under_way.first_lease().map(|(until, ..)| until);
        let delayed = model.next_delayed().map(|(due, ..)| due);
        pulled.into_iter().chain(lease).chain(delayed).min()
    }

    /// Nothing is under way, and what is owed waits for an operator.
    fn is_settled(&self) -> bool {
        let Checker { model, under_way, .. } = &self.checker;
        let is_out = !self.courier.is_idle() || under_way.first_lease().is_some();
        !is_out && model.next_delayed().is_none() && model.subscriptions.values().all(|known| !is_due(known))
    }

    /// The log keeps every body that is still needed.
    fn keeps_bodies(&self, machine: &Notify) -> Check {
        let (kept, needed) = (machine.kept_from(), self.checker.model.first_body());
        let is_kept = kept.is_none_or(|kept| needed.is_none_or(|needed| kept.0 <= needed));
        ensure(is_kept, "MSG-1", || format!("the log is kept from {kept:?} on, and {needed:?} is needed"))
    }

    /// Operators redrive what is dead or blocked where the endpoint answers, and delete a
    /// subscription that waits for them where it never will.
    fn decisions(&self) -> Vec<Command> {
        let mut decisions = Vec::new();
        for (number, known) in &self.checker.model.subscriptions {
            let (name, by) = (known.name.clone(), operator());
            let blocked = known.owed.values().filter_map(|lane| lane.first_key_value());
            let blocked: Vec<EventNo> = blocked.map(|(event, _)| EventNo(*event)).collect();
            if self.subscribers.is_dead(*number) {
                if !blocked.is_empty() {
                    decisions.push(Command::Unsubscribe { name, by });
                }
                continue;
            }
            decisions.push(Command::Redrive { name: name.clone(), event: None, by: by.clone() });
            let redrive = |event| Command::Redrive { name: name.clone(), event: Some(event), by: by.clone() };
            decisions.extend(blocked.into_iter().map(redrive));
            if self.replays_at_the_end {
                decisions.push(replay(&known.name));
            }
        }
        decisions
    }
}

/// All again.
fn replay(name: &SubscriptionId) -> Command {
    Command::Replay { name: name.clone(), from: From::Event(EventNo(0)), by: operator() }
}

fn brief(command: &Command) -> String {
    match command {
        Command::Post(post) => {
            let events = post.events.iter().map(|event| {
                let key = event.key.map(|key| key.0.to_string()).unwrap_or_default();
                let due = event.due.map(|due| format!(" due {}", clock(due))).unwrap_or_default();
                format!(" {}/{} key {key}{due}", event.identity, event.content)
            });
            format!("post to {}{:?}:{}", post.topic, post.followed, events.collect::<String>())
        }
        Command::Turn(turn) => {
            let ended = turn.ended.iter().map(|report| {
                let (of, event, attempt) = (report.subscription.0, report.event.0, report.attempt);
                format!(" {of}:{event}@{attempt} {:?} {}", report.outcome, report.status)
            });
            format!("turn in epoch {}, room {}:{}", turn.epoch, turn.room, ended.collect::<String>())
        }
        Command::Subscribe { name, spec, .. } => format!("subscribe {name} {spec:?}"),
        Command::SetState { name, state, .. } => format!("set {name} {state:?}"),
        Command::Unsubscribe { name, .. } => format!("unsubscribe {name}"),
        Command::Pull { name, at_most, lease } => format!("pull {at_most} of {name} for {} ms", lease.0),
        Command::Settle { name, ended } => {
            let ended = ended
                .iter()
                .map(|settled| format!(" {}@{} {:?}", settled.event.0, settled.attempt, settled.outcome));
            format!("settle of {name}:{}", ended.collect::<String>())
        }
        Command::Replay { name, from, .. } => format!("replay {name} from {from:?}"),
        Command::Once { key, command } => format!("under key {}: {}", key.id[0], brief(command)),
        Command::Redrive { name, event, .. } => format!("redrive {name} {event:?}"),
        Command::Discard { name, event, .. } => format!("discard {name} {event:?}"),
        command => format!("{command:?}"),
    }
}
