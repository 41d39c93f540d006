//! Checks what is only looked at: it must be what the log says.

use super::Checker;
use crate::model::{Event, Subscription};
use notify::core::record::EventNo;
use notify::core::{
    Command, EventSeen, Letter, Letters, Numbered, Owed, Refused, Reply, SubscriptionSeen, TopicSeen,
};
use sim::{Check, Violation, ensure};
use units::Sequence;

/// Whether the command changes nothing.
pub(super) fn is_read(command: &Command) -> bool {
    matches!(
        command,
        Command::Topics
            | Command::Subscription(_)
            | Command::Subscriptions { .. }
            | Command::Letters { .. }
            | Command::Event { .. }
            | Command::Numbered { .. }
            | Command::Followed { .. }
    )
}

impl Checker {
    /// The reply to a command that changes nothing is what the log says here.
    pub(super) fn read(&self, command: &Command, reply: &Reply) -> Check {
        let model = &self.model;
        let is_so = match (command, reply) {
            (Command::Topics, Reply::Topics(seen)) => {
                let known = model.topics.values().map(|topic| TopicSeen {
                    name: topic.name.clone(),
                    spec: topic.spec.clone(),
                    kept: topic.kept_count(),
                    last: EventNo(topic.last()),
                    delayed: topic.delayed_count(),
                });
                known.eq(seen.iter().cloned())
            }
            (Command::Subscriptions { .. }, Reply::Subscriptions(seen)) => {
                ensure(seen.len() == model.subscriptions.len(), "reply", || format!("{seen:?}"))?;
                let mut by_name: Vec<_> = model.subscriptions.iter().collect();
                by_name.sort_by_key(|(_, known)| &known.name);
                for ((number, known), seen) in by_name.into_iter().zip(seen) {
                    self.subscription(*number, known, seen)?;
                }
                true
            }
            (Command::Letters { name, which, after, at_most }, reply) => match model.subscription(name) {
                None => *reply == Reply::Refused(Refused::NoSubscription(name.clone())),
                Some((number, known)) => {
                    let letters = match which {
                        Letters::Dead => known.dead.clone(),
                        Letters::Blocked => known.blocked(),
                    };
                    let letters = letters.into_iter().filter(|(event, _)| *event > after.0);
                    let letters = letters.take(*at_most).map(|(event, letter)| {
                        let sequence = model.event_of(number, event).map_or(0, |event| event.sequence);
                        Letter { event: EventNo(event), sequence: Sequence(sequence), letter }
                    });
                    *reply == Reply::Letters(letters.collect())
                }
            },
            (Command::Event { topic, event }, reply) => match (model.topic(topic), reply) {
                (None, reply) => *reply == Reply::Refused(Refused::NoTopic(topic.clone())),
                (Some((_, known)), Reply::Event(seen)) => match (known.kept(event.0), seen) {
                    (Some(kept), Some(seen)) => return self.event(event.0, kept, seen),
                    (kept, seen) => kept.is_none() && seen.is_none(),
                },
                _ => false,
            },
            (Command::Numbered { topic, from, at_most }, reply) => match model.topic(topic) {
                None => *reply == Reply::Refused(Refused::NoTopic(topic.clone())),
                Some((_, known)) => {
                    let (first, next) = (known.trimmed + 1, known.last() + 1);
                    let numbers = (from.0.max(first)..next).take(*at_most);
                    let event = |number| Some((EventNo(number), Sequence(known.ever(number)?.sequence)));
                    let events = numbers.filter_map(event).collect();
                    *reply == Reply::Numbered(Numbered { first: EventNo(first), next: EventNo(next), events })
                }
            },
            (Command::Followed { log }, Reply::Followed(up_to)) => {
                model.followed.get(log).copied().unwrap_or_default() == up_to.0
            }
            _ => false,
        };
        ensure(is_so, "reply", || format!("{command:?} is answered {reply:?}"))
    }

    pub(crate) fn subscription(&self, number: u32, known: &Subscription, seen: &SubscriptionSeen) -> Check {
        let blocked = known.blocked().len() as u64;
        let counts = (known.delivered, known.failed, known.dead.len() as u64, blocked);
        let is_as_set = (&known.name, &known.spec, known.state, known.signing)
            == (&seen.name, &*seen.spec, seen.state, seen.signing);
        let told = (seen.delivered, seen.failed, seen.dead, seen.blocked);
        ensure(is_as_set && told == counts, "reply", || {
            let state = known.state;
            format!("{seen:?}: by the log it is {state:?}, delivered, failed, dead, blocked are {counts:?}")
        })?;
        let owed = known.owed_count();
        let topic = self.model.topics.get(&known.topic);
        // After a replay, old events that are kept for another one count until they are looked at.
        let counts_others =
            !known.replays.is_empty() && topic.is_some_and(|topic| topic.has_apart_since(known.looked_up_to));
        let is_none = (seen.backlog == 0) == (owed == 0) || (owed == 0 && counts_others);
        ensure(seen.backlog >= owed && is_none, "reply", || format!("{seen:?}: it has not had {owed}"))?;
        let first =
            known.owed.values().filter_map(|lane| lane.first_key_value()).map(|(event, _)| *event).min();
        let oldest = first.and_then(|first| Some(topic?.kept(first)?.at));
        let is_old = match (seen.oldest, oldest) {
            (Some(seen), Some(oldest)) => seen <= oldest,
            (seen, None) => seen.is_none() || counts_others,
            (None, Some(_)) => false,
        };
        ensure(is_old, "reply", || format!("{seen:?}: the oldest that it has not had is of {oldest:?}"))?;
        let known = (self.under_way.count(number), self.under_way.left_alone_until(number));
        let seen = (seen.in_flight, seen.left_alone_until);
        ensure(seen == known, "reply", || {
            format!("{number}: {seen:?} under way, left alone until; not {known:?}")
        })
    }

    fn event(&self, event: u64, kept: &Event, seen: &EventSeen) -> Check {
        let is_kept = (seen.sequence.0, seen.at) == (kept.sequence, kept.at);
        let known = kept.matched.iter().filter_map(|number| self.model.subscriptions.get(number));
        let mut owed = seen.owed.iter();
        let mut is_so = is_kept;
        for known in known {
            let wait = known.owes(kept.key, event);
            is_so &= match (owed.next(), known.dead.get(&event), wait) {
                (Some(Owed::Dead { to, letter }), Some(dead), None) => *to == known.name && letter == dead,
                (Some(Owed::Waiting { to, attempts, again_at, is_blocked }), None, Some(wait)) => {
                    let is_first = known.first(kept.key).is_some_and(|(first, _)| first == event);
                    let is_tried = again_at.is_none() || is_first;
                    let counts = (*attempts, *is_blocked) == (wait.attempts, wait.is_blocked());
                    *to == known.name && counts && is_tried
                }
                (Some(Owed::Delivered { to }), None, None) => *to == known.name,
                _ => false,
            };
        }
        let what = || format!("event {event} is seen as {seen:?}, and is {kept:?}");
        let is_all = owed.next().is_none();
        if is_so && is_all { Ok(()) } else { Err(Violation { rule: "reply", what: what() }) }
    }
}
