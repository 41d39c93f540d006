//! A seed's publishers and operators. Small on purpose: few topics, keys and subscriptions, so that
//! keys wait, letters die, and events are repeated and let go all the time.

use crate::consumers::Consumers;
use crate::model::{Model, Topic};
use crate::names::{
    FAMILIES, FOLLOWED, KINDS, NO_TOPIC, SUBSCRIPTIONS, TOPICS, Wants, What, derived_name, operator,
    subscription, topic,
};
use contracts::CommandKey;
use notify::core::record::EventNo;
use notify::core::spec::{Exhausted, Retry, SubscriptionSpec, SubscriptionState, TopicSpec};
use notify::core::{Attempted, Command, From, Letters, Outcome, Post, Reply, Turn};
use sim::Habits;
use std::sync::Arc;
use units::{DurationMs, Prng, Sequence, TimeMs};

/// How often publishers and operators do each thing in this seed, in a hundred.
#[derive(Debug)]
pub(crate) struct Manners {
    operators: u64,
    repeats: u64,
    /// Keys of events, and how many of a hundred events have none.
    keys: u64,
    keyless: u64,
    /// Events in a post, at the most.
    events_max: u64,
    /// Of a hundred events, how many are to be published later.
    delayed: u64,
    /// Of a hundred commands, how many are of consumers that pull, if there are any.
    pulls: u64,
    /// Operators have events delivered again.
    replays: bool,
    /// Retries over days, and pauses of hours.
    pub(crate) is_slow: bool,
}

/// A seed's publishers and operators.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) manners: Manners,
    topics: usize,
    subscriptions: usize,
    /// Whether the consumers of each subscription pull.
    pulled: Vec<bool>,
    last_name: u64,
    /// What was posted, to be posted again.
    posts: Vec<Arc<Post>>,
    /// The latest commands under a key, to be sent again.
    keyed: Vec<Command>,
    /// How far the follower of the other log has come, as it knows; `None` if it must ask.
    followed: Option<u64>,
}

/// The longest pauses, of a quick and of a slow seed.
const PAUSE_MS: u64 = 30_000;
const LONG_PAUSE_MS: u64 = 40 * 3_600_000;

/// Further ahead than an event may be due.
const TOO_LATE_MS: u64 = 367 * 24 * 3_600_000;

/// Commands that may be sent again.
const KEYED_MAX: usize = 8;

/// Events and names that are asked about when two machines are compared.
const PROBED: usize = 24;

impl Workload {
    pub(crate) fn new(prng: &mut Prng) -> (Self, Habits) {
        let is_slow = prng.percent(25);
        let habits = Habits {
            batch_max: *prng.pick(&[1, 3, 8, 20]),
            lost: *prng.pick(&[0, 3, 15]),
            repeated: *prng.pick(&[0, 5, 20]),
            trouble: *prng.pick(&[1, 3, 8]),
            delay_ms_max: *prng.pick(&[1, 100, 3000]),
            first_bytes: *prng.pick(&[4 << 10, 5 << 10, 64 << 10]),
            segment_bytes: *prng.pick(&[6 << 10, 16 << 10, 64 << 10]),
            time_jumps: prng.percent(50),
            pause_ms_max: if is_slow { LONG_PAUSE_MS } else { PAUSE_MS },
            ahead_at_start_ms: 0,
            counts_crowds: true,
        };
        let manners = Manners {
            operators: *prng.pick(&[3, 8, 20]),
            repeats: *prng.pick(&[2, 10, 25]),
            keys: *prng.pick(&[1, 4, 12]),
            keyless: *prng.pick(&[0, 20, 60]),
            events_max: if is_slow { 1 } else { *prng.pick(&[1, 2, 6]) },
            delayed: *prng.pick(&[0, 0, 10, 40]),
            pulls: *prng.pick(&[5, 15]),
            replays: prng.percent(50),
            is_slow,
        };
        let pulled = *prng.pick(&[0, 0, 40]);
        let work = Self {
            manners,
            topics: 1 + prng.below(TOPICS.len() as u64) as usize,
            subscriptions: 2 + prng.below(SUBSCRIPTIONS.len() as u64 - 1) as usize,
            pulled: SUBSCRIPTIONS.iter().map(|_| prng.percent(pulled)).collect(),
            last_name: 0,
            posts: Vec::new(),
            keyed: Vec::new(),
            followed: None,
        };
        (work, habits)
    }

    pub(crate) fn set_up(&mut self, prng: &mut Prng) -> Vec<Command> {
        let topics: Vec<Command> = (0..self.topics).map(|at| self.define(prng, at)).collect();
        let subscriptions: Vec<Command> =
            (0..self.subscriptions).map(|at| self.subscribe(prng, SUBSCRIPTIONS[at])).collect();
        [topics, subscriptions].concat()
    }

    fn define(&self, prng: &mut Prng, at: usize) -> Command {
        let slowly = if self.manners.is_slow { 1000 } else { 1 };
        let spec = TopicSpec {
            retain_seconds: *prng.pick(&[0, 20, 60, 300]) * slowly,
            repeat_seconds: *prng.pick(&[0, 10, 60, 86_400]),
            retain_events: *prng.pick(&[0, 5, 1_000_000, 1_000_000]),
            ..TopicSpec::default()
        };
        Command::DefineTopic { name: topic(TOPICS[at]), spec, by: operator() }
    }

    fn some_topic(&self, prng: &mut Prng) -> &'static str {
        if prng.percent(1) { NO_TOPIC } else { TOPICS[prng.below(self.topics as u64) as usize] }
    }

    fn some_subscription(&self, prng: &mut Prng) -> &'static str {
        SUBSCRIPTIONS[prng.below(self.subscriptions as u64) as usize]
    }

    fn subscribe(&self, prng: &mut Prng, name: &str) -> Command {
        let kind = prng.below(KINDS.len() as u64) as usize;
        let wants = match prng.below(10) {
            0..=4 => Wants::All,
            5 => Wants::Only(kind),
            6 => Wants::NotThis(kind),
            7 => Wants::Beginning(FAMILIES[prng.below(FAMILIES.len() as u64) as usize]),
            8 => Wants::Two(kind, (kind + 1) % KINDS.len()),
            _ => Wants::None,
        };
        let longest_seconds = *prng.pick(&[5, 60]);
        let first_seconds = *prng.pick(&[1, 1, 5]);
        let (factor, attempts) = (*prng.pick(&[1, 2, 4]), *prng.pick(&[1, 2, 3, 6]));
        let retry = match self.manners.is_slow && prng.percent(70) {
            true => Retry::default(),
            false => Retry { first_seconds, factor, longest_seconds, attempts },
        };
        // Now and then a subscription has an endpoint that had none, or the other way round.
        let is_pulled =
            SUBSCRIPTIONS.iter().zip(&self.pulled).any(|(other, pulled)| *other == name && *pulled);
        let is_pulled = is_pulled != (self.has_pulled() && prng.percent(8));
        let exhausted = if prng.percent(25) { Exhausted::BlockKey } else { Exhausted::DeadLetter };
        let spec = SubscriptionSpec {
            topic: topic(self.some_topic(prng)),
            url: (!is_pulled).then(|| format!("https://{name}.example/{}", prng.below(3))),
            filters: wants.filters(),
            retry,
            exhausted,
            in_flight_max: *prng.pick(&[1, 3, 20]),
            rate_max: 0,
            lag_alert_seconds: 300,
        };
        Command::Subscribe { name: subscription(name), spec, from: None, by: operator() }
    }

    fn has_pulled(&self) -> bool {
        self.pulled.contains(&true)
    }

    /// The next command of somebody.
    pub(crate) fn ask(&mut self, prng: &mut Prng, now: TimeMs, model: &mut Model) -> Command {
        let Manners { operators, repeats, pulls, .. } = self.manners;
        if self.has_pulled() && prng.percent(pulls) {
            return self.pull(prng);
        }
        match prng.below(100) {
            n if n < operators => self.command(prng, model),
            n if n < operators + 6 => self.look(prng, model),
            n if n < operators + 12 => self.follow(prng, model),
            n if n < operators + 12 + repeats && !self.posts.is_empty() => {
                // Mostly a late one: its answer was lost, or so its publisher believes.
                let count = self.posts.len() as u64;
                let back = if prng.percent(70) { count.min(5) } else { count };
                let at = (count - 1 - prng.below(back)) as usize;
                Command::Post(Arc::clone(&self.posts[at]))
            }
            _ => self.post(prng, now, model),
        }
    }

    /// A consumer pulls: mostly where there is something to be pulled.
    fn pull(&self, prng: &mut Prng) -> Command {
        let pulled = SUBSCRIPTIONS.iter().zip(&self.pulled).filter(|(_, pulled)| **pulled);
        let pulled: Vec<&str> = pulled.map(|(name, _)| *name).collect();
        let name = if prng.percent(5) { self.some_subscription(prng) } else { prng.pick(&pulled) };
        Consumers::pull(prng, subscription(name))
    }

    fn post(&mut self, prng: &mut Prng, now: TimeMs, model: &mut Model) -> Command {
        let mut whats: Vec<What> = Vec::new();
        for _ in 0..1 + prng.below(self.manners.events_max) {
            let earlier = self.last_name > 0 && prng.percent(6);
            let name = if earlier { 1 + prng.below(self.last_name) } else { self.last_name + 1 };
            self.last_name = self.last_name.max(name);
            // Now and then it is another event of the same name.
            let content = u64::from(prng.percent(3));
            whats.push(self.posted(prng, now, model, (name, content)));
            // The same twice, or two different ones of one name.
            if prng.percent(2) {
                let content = if prng.percent(30) { 1 - content } else { content };
                whats.push(self.posted(prng, now, model, (name, content)));
            }
        }
        let events = whats.iter().map(What::event).collect();
        let post = Arc::new(Post { topic: topic(self.some_topic(prng)), events, followed: None });
        self.posts.push(Arc::clone(&post));
        Command::Post(post)
    }

    /// An event that is posted, perhaps not for the first time.
    fn posted(&self, prng: &mut Prng, now: TimeMs, model: &mut Model, (name, content): (u64, u64)) -> What {
        let new = |prng: &mut Prng| What { due: self.due(prng, now), ..self.what(name, content) };
        model.sent.entry((name, content)).or_insert_with(|| new(prng)).clone()
    }

    /// When an event is to be published: now, soon, some together with others, or much later.
    fn due(&self, prng: &mut Prng, now: TimeMs) -> Option<TimeMs> {
        if !prng.percent(self.manners.delayed) {
            return None;
        }
        let long_ms = if self.manners.is_slow { LONG_PAUSE_MS } else { 10 * PAUSE_MS };
        Some(match prng.below(100) {
            0..5 => TimeMs(now.0 - prng.below(5000)),
            5..45 => now.plus(DurationMs(prng.below(5000))),
            45..75 => TimeMs(now.0.next_multiple_of(2000) + 2000 * prng.below(10)),
            75..98 => now.plus(DurationMs(prng.below(long_ms))),
            _ => now.plus(DurationMs(TOO_LATE_MS)),
        })
    }

    /// The event of a name, always the same one.
    fn what(&self, name: u64, content: u64) -> What {
        let mut prng = Prng::new(name ^ (content << 32));
        let has_key = !prng.percent(self.manners.keyless);
        let key = has_key.then(|| prng.below(self.manners.keys));
        What { name, content, kind: prng.below(KINDS.len() as u64) as usize, key, due: None }
    }

    /// The follower of another log posts what comes next there, or asks how far it has come.
    fn follow(&mut self, prng: &mut Prng, model: &mut Model) -> Command {
        let Some(from) = self.followed.filter(|_| !prng.percent(10)) else {
            return Command::Followed { log: FOLLOWED.into() };
        };
        let up_to = from + prng.below(4);
        let whats: Vec<What> = (from + 1..=up_to).map(|entry| self.what(derived_name(entry), 0)).collect();
        let events = whats.iter().map(What::event).collect();
        model.sent.extend(whats.into_iter().map(|what| ((what.name, what.content), what)));
        let followed = Some((FOLLOWED.to_owned(), Sequence(up_to)));
        self.followed = None;
        Command::Post(Arc::new(Post { topic: topic(TOPICS[0]), events, followed }))
    }

    /// The follower hears how far it has come.
    pub(crate) fn hear(&mut self, command: &Command, reply: &Reply) {
        match (command, reply) {
            (Command::Followed { .. }, Reply::Followed(up_to)) => self.followed = Some(up_to.0),
            (Command::Post(post), Reply::Accepted(_)) => {
                if let Some((_, up_to)) = &post.followed {
                    self.followed = Some(self.followed.unwrap_or_default().max(up_to.0));
                }
            }
            _ => {}
        }
    }

    /// A read-only command.
    fn look(&self, prng: &mut Prng, model: &Model) -> Command {
        let name = subscription(self.some_subscription(prng));
        match prng.below(6) {
            0 => Command::Topics,
            1..=2 => Command::Subscriptions { after: None, at_most: usize::MAX },
            3 => {
                let at_most = *prng.pick(&[0, 2, 1000]);
                let which = *prng.pick(&[Letters::Dead, Letters::Blocked]);
                Command::Letters { name, which, after: EventNo(prng.below(50)), at_most }
            }
            _ => {
                let topic = topic(self.some_topic(prng));
                let last = model.topic(&topic).map_or(0, |(_, known)| known.last());
                match prng.below(last + 2) {
                    // There is none of this number: where are those from the middle on, or all?
                    event if event > last => {
                        let from = EventNo(if last.is_multiple_of(2) { 0 } else { event / 2 });
                        Command::Numbered { topic, from, at_most: 8 }
                    }
                    event => Command::Event { topic, event: EventNo(event) },
                }
            }
        }
    }

    /// A command of an operator, half of them under a key where they may have one. Its answer may
    /// be lost: then it comes again, at once or later, or its key is taken for another one.
    fn command(&mut self, prng: &mut Prng, model: &Model) -> Command {
        if !self.keyed.is_empty() && prng.percent(15) {
            return prng.pick(&self.keyed).clone();
        }
        let command = self.operation(prng, model);
        let takes_key = matches!(
            command,
            Command::Redrive { .. }
                | Command::Discard { .. }
                | Command::Replay { .. }
                | Command::RotateSecret { .. }
        );
        if !prng.percent(if takes_key { 50 } else { 1 }) {
            return command;
        }
        let number = prng.below(1 << 32);
        let mut of_command = [0; 16];
        of_command[..8].copy_from_slice(&number.to_le_bytes());
        let key = CommandKey { id: [prng.below(40) as u8; 16], command: of_command };
        let once = Command::Once { key, command: Box::new(command) };
        if self.keyed.len() >= KEYED_MAX {
            self.keyed.remove(0);
        }
        self.keyed.push(once.clone());
        once
    }

    fn operation(&mut self, prng: &mut Prng, model: &Model) -> Command {
        let name = self.some_subscription(prng);
        let (known, by) = (model.subscription(&subscription(name)), operator());
        match prng.below(24) {
            0..=3 => self.set_state(prng, name, SubscriptionState::Paused),
            4..=9 => self.set_state(prng, name, SubscriptionState::Active),
            10 if prng.percent(40) => Command::Unsubscribe { name: subscription(name), by },
            10..=12 => self.subscribe(prng, name),
            13 => {
                let at = prng.below(self.topics as u64) as usize;
                self.define(prng, at)
            }
            20 => {
                let overlap = DurationMs(*prng.pick(&[0, 1000, 86_400_000, 40 * 86_400_000]));
                Command::RotateSecret { name: subscription(name), overlap, by }
            }
            21..=22 if self.manners.replays => {
                let topic = known.and_then(|(_, known)| model.topics.get(&known.topic));
                Command::Replay { name: subscription(name), from: again(prng, topic, model.now), by }
            }
            n => {
                // A dead letter, one that waits, any other, or all.
                let dead = known.and_then(|(_, known)| known.dead.keys().next().copied());
                let begun = known.and_then(|(_, known)| {
                    let firsts = known.owed.values().filter_map(|lane| lane.first_key_value());
                    firsts.filter(|(_, wait)| wait.attempts > 0).map(|(event, _)| *event).next()
                });
                let event = match prng.below(6) {
                    0 => None,
                    1..=2 => dead,
                    3..=4 => begun.or(dead),
                    _ => Some(prng.below(60)),
                };
                let (name, event) = (subscription(name), event.map(EventNo));
                match n < 18 {
                    true => Command::Redrive { name, event, by },
                    false => Command::Discard { name, event, by },
                }
            }
        }
    }

    /// Everybody who pulls does so once more.
    pub(crate) fn last_pulls(model: &Model) -> Vec<Command> {
        let lease = DurationMs(1000);
        let pulled = model.subscriptions.values().filter(|known| known.spec.url.is_none());
        pulled.map(|known| Command::Pull { name: known.name.clone(), at_most: 100, lease }).collect()
    }

    fn set_state(&self, prng: &mut Prng, name: &str, state: SubscriptionState) -> Command {
        let state = if prng.percent(5) { SubscriptionState::Disabled } else { state };
        Command::SetState { name: subscription(name), state, by: operator() }
    }

    /// The faults are over: every publisher posts once more what it has ever posted, and operators
    /// resume what is not active.
    pub(crate) fn last_questions(&self) -> Vec<Vec<Command>> {
        let again = self.posts.iter().map(|post| Command::Post(Arc::clone(post)));
        let state = SubscriptionState::Active;
        let resume =
            SUBSCRIPTIONS.map(|name| Command::SetState { name: subscription(name), state, by: operator() });
        let all: Vec<Command> = again.chain(resume).collect();
        all.chunks(64).map(<[Command]>::to_vec).collect()
    }

    /// Commands whose answers show every part of the state: what is known of each topic and
    /// subscription, what is recognised, what is due, and what each attempt's failure makes.
    pub(crate) fn probes(&self, model: &Model) -> Vec<Command> {
        let mut probes = vec![Command::Topics, Command::Subscriptions { after: None, at_most: usize::MAX }];
        probes.push(Command::Followed { log: FOLLOWED.into() });
        for known in model.topics.values() {
            let last = known.last() + 1;
            let events = last.saturating_sub(PROBED as u64)..=last;
            let event = |event| Command::Event { topic: known.name.clone(), event: EventNo(event) };
            probes.extend(events.map(event));
            let (topic, from) = (known.name.clone(), EventNo(0));
            probes.push(Command::Numbered { topic, from, at_most: PROBED });
        }
        probes.extend(self.posts.iter().rev().take(PROBED).map(|post| Command::Post(Arc::clone(post))));
        // A machine of an earlier entry may have one that was deleted since.
        for (name, spec) in &model.specs {
            let name = name.clone();
            for which in [Letters::Dead, Letters::Blocked] {
                let (name, after, at_most) = (name.clone(), EventNo(0), usize::MAX);
                probes.push(Command::Letters { name, which, after, at_most });
            }
            // Otherwise it depends on an order that is not in the log what begins first.
            let spec = SubscriptionSpec { in_flight_max: u32::MAX, ..spec.clone() };
            probes.push(Command::Subscribe { name: name.clone(), spec, from: None, by: operator() });
            probes.push(Command::Pull { name, at_most: usize::MAX, lease: DurationMs(1000) });
        }
        let turn =
            |ended| Command::Turn(Arc::new(Turn { epoch: 0, ended, room: usize::MAX, free: usize::MAX }));
        probes.push(turn(Vec::new()));
        let mut ended = Vec::new();
        for (number, known) in &model.subscriptions {
            let firsts = known.owed.values().filter_map(|lane| lane.first_key_value());
            for (event, wait) in firsts.filter(|(_, wait)| !wait.is_blocked()) {
                ended.push(Attempted {
                    subscription: notify::core::record::SubscriptionNo(*number),
                    event: EventNo(*event),
                    attempt: wait.attempts + 1,
                    outcome: Outcome::Failed { retry_after: None },
                    status: 404,
                    took_ms: 1,
                    said: "probe".into(),
                });
            }
        }
        probes.push(turn(ended));
        for known in model.subscriptions.values() {
            let (name, by, state) = (known.name.clone(), operator(), SubscriptionState::Active);
            probes.push(Command::SetState { name: name.clone(), state, by: by.clone() });
            probes.push(Command::Redrive { name: name.clone(), event: None, by: by.clone() });
            let overlap = DurationMs(1000);
            probes.push(Command::RotateSecret { name: name.clone(), overlap, by: by.clone() });
            // What is out stays out, which was not pulled or taken before.
            let from = From::Event(EventNo(known.looked_up_to / 2));
            probes.push(Command::Replay { name: name.clone(), from, by });
            probes.push(Command::Pull { name, at_most: usize::MAX, lease: DurationMs(1000) });
        }
        probes.push(turn(Vec::new()));
        probes.push(Command::Subscriptions { after: None, at_most: usize::MAX });
        probes
    }
}

/// From where a subscription is to get its events again: mostly one of the latest.
fn again(prng: &mut Prng, topic: Option<&Topic>, now: TimeMs) -> From {
    let last = topic.map_or(0, Topic::last);
    match prng.below(10) {
        0..6 => From::Event(EventNo((last + 2).saturating_sub(prng.below(20)))),
        6 => From::Event(EventNo(prng.below(last + 2))),
        7..9 => From::Time(TimeMs(now.0.saturating_sub(prng.below(20_000)))),
        _ => From::Time(TimeMs((now.0 + 1000).saturating_sub(prng.below(600_000)))),
    }
}
