//! The log's entries. Their bytes are a promise: a field is never changed, a kind never reused.

use contracts::{Actor, CommandKey, ScheduleId, SubscriptionId, TopicId};
use engines::codec::{Codec, DecodeError, Reader, Writer};
use std::sync::Arc;
use units::{Sequence, TimeMs};

use super::spec::SubscriptionState;

/// The number of a topic, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TopicNo(pub u32);

/// The number of a subscription, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SubscriptionNo(pub u32);

/// The number of an event within its topic: 1, 2, 3 …
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct EventNo(pub u64);

/// Events of one key are delivered in their order. It is a hash; two keys with the same one share
/// an order, which is stricter than it need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Key(pub u64);

/// An attempt, as it is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub subscription: SubscriptionNo,
    pub event: EventNo,
    /// 1 for the first.
    pub attempt: u32,
    /// An HTTP status; 0 if no answer came.
    pub status: u16,
    pub took_ms: u32,
    /// What the endpoint answered, or why there was no answer; empty after a delivery.
    pub said: String,
}

/// Which secrets sign a subscription's deliveries: that of the last rotation, and until a time also
/// the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Signing {
    /// When the subscription was made.
    pub made_at: TimeMs,
    pub rotations: u32,
    pub old_until: TimeMs,
}

/// What a command under a key was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Said {
    Rotated(Signing),
    Replays(EventNo),
    Changed { changed: u64, left: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    TopicDefined {
        topic: TopicNo,
        name: TopicId,
        /// JSON.
        spec: String,
        by: Actor,
    },
    Subscribed {
        subscription: SubscriptionNo,
        name: SubscriptionId,
        topic: TopicNo,
        /// JSON.
        spec: String,
        by: Actor,
    },
    StateSet {
        subscription: SubscriptionNo,
        state: SubscriptionState,
        by: Actor,
    },
    Unsubscribed {
        subscription: SubscriptionNo,
        by: Actor,
    },
    Published {
        topic: TopicNo,
        /// Of source and id.
        identity: u128,
        /// Of the whole event: a repetition has the same.
        content: u64,
        key: Key,
        /// Whose filters it passed, in rising order.
        matched: Vec<SubscriptionNo>,
        /// The event in the JSON format of CloudEvents.
        body: Arc<[u8]>,
    },
    Delivered(Tried),
    Failed {
        tried: Tried,
        again_at: TimeMs,
    },
    /// The last attempt failed, and the event is a dead letter.
    Died(Tried),
    /// The last attempt failed, and the key waits for an operator.
    Blocked(Tried),
    /// A dead letter, or the blocked event of a key, is tried again from the first attempt.
    Redriven {
        subscription: SubscriptionNo,
        event: EventNo,
        by: Actor,
    },
    Discarded {
        subscription: SubscriptionNo,
        event: EventNo,
        by: Actor,
    },
    /// The topic's events up to this one are no longer kept, apart from those that somebody needs.
    Trimmed {
        topic: TopicNo,
        up_to: EventNo,
    },
    /// The events that are derived from another log, up to this entry of it, have been published.
    Followed {
        log: String,
        up_to: Sequence,
    },
    ShortageOver {
        since: TimeMs,
        turned_away: u64,
    },
    /// The topic was full, and its events up to this one were dropped, also for those who had not
    /// had them.
    Dropped {
        topic: TopicNo,
        up_to: EventNo,
    },
    /// A subscription gets again what it was to get from this event on.
    Replayed {
        subscription: SubscriptionNo,
        from: EventNo,
        by: Actor,
    },
    /// An event is stored, and is to be published later.
    Delayed {
        topic: TopicNo,
        identity: u128,
        content: u64,
        /// `None`: in no order.
        key: Option<Key>,
        due: TimeMs,
        /// Whose filters it passed, in rising order.
        matched: Vec<SubscriptionNo>,
        body: Arc<[u8]>,
    },
    /// The event of this earlier entry is published.
    Due {
        topic: TopicNo,
        due: TimeMs,
        delayed: Sequence,
    },
    /// A subscription's deliveries are signed with a new secret, and until then also with the one
    /// before.
    SecretRotated {
        subscription: SubscriptionNo,
        old_until: TimeMs,
        by: Actor,
    },
    /// The subscription that the entry before made begins with this earlier event. Its filters are
    /// yet to be asked for those up to now.
    StartedEarlier {
        subscription: SubscriptionNo,
        from: EventNo,
    },
    /// The filters of such a subscription were asked for all events up to this one, and these
    /// passed.
    Filled {
        subscription: SubscriptionNo,
        up_to: EventNo,
        matched: Vec<EventNo>,
    },
    ScheduleSet {
        name: ScheduleId,
        topic: TopicNo,
        /// JSON.
        spec: String,
        /// When it posts next; `None`: never.
        next: Option<TimeMs>,
        by: Actor,
    },
    ScheduleDeleted {
        name: ScheduleId,
        by: Actor,
    },
    /// A command was carried out under an Idempotency-Key: the entries before, if it changed
    /// anything.
    CommandDone {
        subscription: SubscriptionNo,
        key: CommandKey,
        said: Said,
    },
    /// A schedule has posted what it was due to post, which is the entry before, unless it was
    /// posted before; and when it posts next.
    SchedulePosted {
        name: ScheduleId,
        next: Option<TimeMs>,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Delivered,
    Failed,
    /// It was the last one, and the event is a dead letter.
    Died,
    /// It was the last one, and its key waits for an operator.
    Blocked,
}

/// An entry and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: TimeMs,
    pub record: Record,
}

/// The first byte of an event that was posted.
const PUBLISHED: u8 = 5;
/// That of an event that is to be published later.
const DELAYED: u8 = 18;
/// Those of attempts.
const ATTEMPTS: std::ops::RangeInclusive<u8> = 6..=9;

impl Record {
    /// Whether these are the bytes of an entry with an event.
    pub fn has_event(entry: &[u8]) -> bool {
        entry.first().is_some_and(|kind| [PUBLISHED, DELAYED].contains(kind))
    }

    /// Whether these are the bytes of an attempt.
    pub fn is_attempt(entry: &[u8]) -> bool {
        entry.first().is_some_and(|kind| ATTEMPTS.contains(kind))
    }

    /// The attempt that this is.
    pub fn tried(&self) -> Option<&Tried> {
        match self {
            Self::Delivered(tried)
            | Self::Failed { tried, .. }
            | Self::Died(tried)
            | Self::Blocked(tried) => Some(tried),
            _ => None,
        }
    }

    /// How this attempt ended.
    pub fn end(&self) -> Option<End> {
        match self {
            Self::Delivered(_) => Some(End::Delivered),
            Self::Failed { .. } => Some(End::Failed),
            Self::Died(_) => Some(End::Died),
            Self::Blocked(_) => Some(End::Blocked),
            _ => None,
        }
    }

    /// When the event of a failed attempt is tried again.
    pub fn again_at(&self) -> Option<TimeMs> {
        match self {
            Self::Failed { again_at, .. } => Some(*again_at),
            _ => None,
        }
    }
}

fn write_by(w: &mut Writer<'_>, by: &Actor) {
    w.text(&by.name);
    w.text(&by.reason);
}

fn read_by(r: &mut Reader<'_>) -> Result<Actor, DecodeError> {
    Ok(Actor { name: r.text()?, reason: r.text()? })
}

fn write_tried(w: &mut Writer<'_>, tried: &Tried) {
    w.u32(tried.subscription.0);
    w.u64(tried.event.0);
    w.u32(tried.attempt);
    w.u16(tried.status);
    w.u32(tried.took_ms);
    w.text(&tried.said);
}

fn read_tried(r: &mut Reader<'_>) -> Result<Tried, DecodeError> {
    Ok(Tried {
        subscription: SubscriptionNo(r.u32()?),
        event: EventNo(r.u64()?),
        attempt: r.u32()?,
        status: r.u16()?,
        took_ms: r.u32()?,
        said: r.text()?,
    })
}

fn write_matched(w: &mut Writer<'_>, matched: &[SubscriptionNo]) {
    w.u32(matched.len() as u32);
    matched.iter().for_each(|subscription| w.u32(subscription.0));
}

fn read_matched(r: &mut Reader<'_>) -> Result<Vec<SubscriptionNo>, DecodeError> {
    let count = r.u32()? as usize;
    if count > r.left() / 4 {
        return Err(DecodeError("too short"));
    }
    (0..count).map(|_| Ok(SubscriptionNo(r.u32()?))).collect()
}

fn write_state(w: &mut Writer<'_>, state: SubscriptionState) {
    w.u8(match state {
        SubscriptionState::Active => 0,
        SubscriptionState::Paused => 1,
        SubscriptionState::Disabled => 2,
    });
}

fn read_state(r: &mut Reader<'_>) -> Result<SubscriptionState, DecodeError> {
    match r.u8()? {
        0 => Ok(SubscriptionState::Active),
        1 => Ok(SubscriptionState::Paused),
        2 => Ok(SubscriptionState::Disabled),
        _ => Err(DecodeError("unknown state of a subscription")),
    }
}

fn write_said(w: &mut Writer<'_>, said: Said) {
    match said {
        Said::Rotated(Signing { made_at, rotations, old_until }) => {
            w.u8(1);
            w.u64(made_at.0);
            w.u32(rotations);
            w.u64(old_until.0);
        }
        Said::Replays(from) => {
            w.u8(2);
            w.u64(from.0);
        }
        Said::Changed { changed, left } => {
            w.u8(3);
            w.u64(changed);
            w.u64(left);
        }
    }
}

fn read_said(r: &mut Reader<'_>) -> Result<Said, DecodeError> {
    Ok(match r.u8()? {
        1 => Said::Rotated(Signing {
            made_at: TimeMs(r.u64()?),
            rotations: r.u32()?,
            old_until: TimeMs(r.u64()?),
        }),
        2 => Said::Replays(EventNo(r.u64()?)),
        3 => Said::Changed { changed: r.u64()?, left: r.u64()? },
        _ => return Err(DecodeError("unknown answer to a command")),
    })
}

/// Length (u32) and text: a specification may be longer than other texts.
fn write_long(w: &mut Writer<'_>, text: &str) {
    w.u32(text.len() as u32);
    w.bytes(text.as_bytes());
}

fn read_long(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let len = r.u32()? as usize;
    let text = std::str::from_utf8(r.take(len)?).map_err(|_| DecodeError("text is not UTF-8"))?;
    Ok(text.to_owned())
}

/// A byte that says whether there is one, and the time, or 0.
fn write_time(w: &mut Writer<'_>, at: Option<TimeMs>) {
    w.u8(u8::from(at.is_some()));
    w.u64(at.map_or(0, |at| at.0));
}

fn read_time(r: &mut Reader<'_>) -> Result<Option<TimeMs>, DecodeError> {
    match (r.u8()?, r.u64()?) {
        (0, 0) => Ok(None),
        (1, at) => Ok(Some(TimeMs(at))),
        _ => Err(DecodeError("neither a time nor none")),
    }
}

fn name<T: std::str::FromStr>(r: &mut Reader<'_>) -> Result<T, DecodeError> {
    r.text()?.parse().map_err(|_| DecodeError("not a name"))
}

impl Codec for Entry {
    fn encode(&self, w: &mut Writer<'_>) {
        let head = |w: &mut Writer<'_>, kind: u8| {
            w.u8(kind);
            w.u64(self.at.0);
        };
        match &self.record {
            Record::TopicDefined { topic, name, spec, by } => {
                head(w, 1);
                w.u32(topic.0);
                w.text(name.as_str());
                write_long(w, spec);
                write_by(w, by);
            }
            Record::Subscribed { subscription, name, topic, spec, by } => {
                head(w, 2);
                w.u32(subscription.0);
                w.text(name.as_str());
                w.u32(topic.0);
                write_long(w, spec);
                write_by(w, by);
            }
            Record::StateSet { subscription, state, by } => {
                head(w, 3);
                w.u32(subscription.0);
                write_state(w, *state);
                write_by(w, by);
            }
            Record::Unsubscribed { subscription, by } => {
                head(w, 4);
                w.u32(subscription.0);
                write_by(w, by);
            }
            Record::Published { topic, identity, content, key, matched, body } => {
                head(w, PUBLISHED);
                w.u32(topic.0);
                w.bytes(&identity.to_le_bytes());
                w.u64(*content);
                w.u64(key.0);
                write_matched(w, matched);
                w.bytes(body);
            }
            Record::Delivered(tried) => {
                head(w, 6);
                write_tried(w, tried);
            }
            Record::Failed { tried, again_at } => {
                head(w, 7);
                write_tried(w, tried);
                w.u64(again_at.0);
            }
            Record::Died(tried) => {
                head(w, 8);
                write_tried(w, tried);
            }
            Record::Blocked(tried) => {
                head(w, 9);
                write_tried(w, tried);
            }
            Record::Redriven { subscription, event, by } => {
                head(w, 10);
                w.u32(subscription.0);
                w.u64(event.0);
                write_by(w, by);
            }
            Record::Discarded { subscription, event, by } => {
                head(w, 11);
                w.u32(subscription.0);
                w.u64(event.0);
                write_by(w, by);
            }
            Record::Trimmed { topic, up_to } => {
                head(w, 12);
                w.u32(topic.0);
                w.u64(up_to.0);
            }
            Record::Followed { log, up_to } => {
                head(w, 13);
                w.text(log);
                w.u64(up_to.0);
            }
            Record::ShortageOver { since, turned_away } => {
                head(w, 14);
                w.u64(since.0);
                w.u64(*turned_away);
            }
            Record::Delayed { topic, identity, content, key, due, matched, body } => {
                head(w, DELAYED);
                w.u32(topic.0);
                w.bytes(&identity.to_le_bytes());
                w.u64(*content);
                w.u8(u8::from(key.is_some()));
                w.u64(key.map_or(0, |key| key.0));
                w.u64(due.0);
                write_matched(w, matched);
                w.bytes(body);
            }
            Record::Due { topic, due, delayed } => {
                head(w, 19);
                w.u32(topic.0);
                w.u64(due.0);
                w.u64(delayed.0);
            }
            Record::Dropped { topic, up_to } => {
                head(w, 15);
                w.u32(topic.0);
                w.u64(up_to.0);
            }
            Record::Replayed { subscription, from, by } => {
                head(w, 16);
                w.u32(subscription.0);
                w.u64(from.0);
                write_by(w, by);
            }
            Record::SecretRotated { subscription, old_until, by } => {
                head(w, 17);
                w.u32(subscription.0);
                w.u64(old_until.0);
                write_by(w, by);
            }
            Record::StartedEarlier { subscription, from } => {
                head(w, 23);
                w.u32(subscription.0);
                w.u64(from.0);
            }
            Record::Filled { subscription, up_to, matched } => {
                head(w, 24);
                w.u32(subscription.0);
                w.u64(up_to.0);
                w.u32(matched.len() as u32);
                matched.iter().for_each(|event| w.u64(event.0));
            }
            Record::ScheduleSet { name, topic, spec, next, by } => {
                head(w, 20);
                w.text(name.as_str());
                w.u32(topic.0);
                write_long(w, spec);
                write_time(w, *next);
                write_by(w, by);
            }
            Record::ScheduleDeleted { name, by } => {
                head(w, 21);
                w.text(name.as_str());
                write_by(w, by);
            }
            Record::SchedulePosted { name, next } => {
                head(w, 22);
                w.text(name.as_str());
                write_time(w, *next);
            }
            Record::CommandDone { subscription, key, said } => {
                head(w, 25);
                w.u32(subscription.0);
                w.bytes(&key.id);
                w.bytes(&key.command);
                write_said(w, *said);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (kind, at) = (r.u8()?, TimeMs(r.u64()?));
        let record = match kind {
            1 => Record::TopicDefined {
                topic: TopicNo(r.u32()?),
                name: name(&mut r)?,
                spec: read_long(&mut r)?,
                by: read_by(&mut r)?,
            },
            2 => Record::Subscribed {
                subscription: SubscriptionNo(r.u32()?),
                name: name(&mut r)?,
                topic: TopicNo(r.u32()?),
                spec: read_long(&mut r)?,
                by: read_by(&mut r)?,
            },
            3 => Record::StateSet {
                subscription: SubscriptionNo(r.u32()?),
                state: read_state(&mut r)?,
                by: read_by(&mut r)?,
            },
            4 => Record::Unsubscribed { subscription: SubscriptionNo(r.u32()?), by: read_by(&mut r)? },
            PUBLISHED => {
                let topic = TopicNo(r.u32()?);
                let (identity, content) = (u128::from_le_bytes(r.array()?), r.u64()?);
                let (key, matched) = (Key(r.u64()?), read_matched(&mut r)?);
                let body = r.take(r.left())?.into();
                Record::Published { topic, identity, content, key, matched, body }
            }
            6 => Record::Delivered(read_tried(&mut r)?),
            7 => Record::Failed { tried: read_tried(&mut r)?, again_at: TimeMs(r.u64()?) },
            8 => Record::Died(read_tried(&mut r)?),
            9 => Record::Blocked(read_tried(&mut r)?),
            10 => Record::Redriven {
                subscription: SubscriptionNo(r.u32()?),
                event: EventNo(r.u64()?),
                by: read_by(&mut r)?,
            },
            11 => Record::Discarded {
                subscription: SubscriptionNo(r.u32()?),
                event: EventNo(r.u64()?),
                by: read_by(&mut r)?,
            },
            12 => Record::Trimmed { topic: TopicNo(r.u32()?), up_to: EventNo(r.u64()?) },
            13 => Record::Followed { log: r.text()?, up_to: Sequence(r.u64()?) },
            14 => Record::ShortageOver { since: TimeMs(r.u64()?), turned_away: r.u64()? },
            DELAYED => {
                let topic = TopicNo(r.u32()?);
                let (identity, content) = (u128::from_le_bytes(r.array()?), r.u64()?);
                let (has_key, key) = (r.u8()?, Key(r.u64()?));
                let key = match has_key {
                    0 => None,
                    1 => Some(key),
                    _ => return Err(DecodeError("neither with a key nor without")),
                };
                let (due, matched) = (TimeMs(r.u64()?), read_matched(&mut r)?);
                let body = r.take(r.left())?.into();
                Record::Delayed { topic, identity, content, key, due, matched, body }
            }
            19 => {
                Record::Due { topic: TopicNo(r.u32()?), due: TimeMs(r.u64()?), delayed: Sequence(r.u64()?) }
            }
            15 => Record::Dropped { topic: TopicNo(r.u32()?), up_to: EventNo(r.u64()?) },
            16 => Record::Replayed {
                subscription: SubscriptionNo(r.u32()?),
                from: EventNo(r.u64()?),
                by: read_by(&mut r)?,
            },
            17 => Record::SecretRotated {
                subscription: SubscriptionNo(r.u32()?),
                old_until: TimeMs(r.u64()?),
                by: read_by(&mut r)?,
            },
            20 => Record::ScheduleSet {
                name: name(&mut r)?,
                topic: TopicNo(r.u32()?),
                spec: read_long(&mut r)?,
                next: read_time(&mut r)?,
                by: read_by(&mut r)?,
            },
            21 => Record::ScheduleDeleted { name: name(&mut r)?, by: read_by(&mut r)? },
            22 => Record::SchedulePosted { name: name(&mut r)?, next: read_time(&mut r)? },
            23 => Record::StartedEarlier { subscription: SubscriptionNo(r.u32()?), from: EventNo(r.u64()?) },
            24 => {
                let (subscription, up_to) = (SubscriptionNo(r.u32()?), EventNo(r.u64()?));
                let count = r.u32()? as usize;
                if count > r.left() / 8 {
                    return Err(DecodeError("too short"));
                }
                let matched = (0..count).map(|_| Ok(EventNo(r.u64()?))).collect::<Result<_, _>>()?;
                Record::Filled { subscription, up_to, matched }
            }
            25 => Record::CommandDone {
                subscription: SubscriptionNo(r.u32()?),
                key: CommandKey { id: r.array()?, command: r.array()? },
                said: read_said(&mut r)?,
            },
            _ => return Err(DecodeError("unknown kind: written by a newer build?")),
        };
        r.end()?;
        Ok(Self { at, record })
    }
}
