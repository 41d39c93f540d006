//! What is asked of the message service, and what it answers.

use super::{
    record::{EventNo, Key, Signing, SubscriptionNo},
    spec::{SubscriptionSpec, SubscriptionState, TopicSpec},
    subscription::{DeadLetter, Fill},
    times::ScheduleSpec,
};
use crate::filter::Attributes;
use contracts::{Actor, CommandKey, ScheduleId, SubscriptionId, TopicId};
use runtime::Outage;
use std::{collections::BTreeMap, sync::Arc};
use units::{DurationMs, Sequence, TimeMs};

/// An event that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Of source and id.
    pub identity: u128,
    /// Of the whole event.
    pub content: u64,
    /// `None`: in no order.
    pub key: Option<Key>,
    /// It is as if it were posted then, if that is later.
    pub due: Option<TimeMs>,
    pub attributes: Attributes,
    /// In the JSON format of CloudEvents.
    pub body: Arc<[u8]>,
}

/// Events to be stored, all of them or none.
#[derive(Debug, Clone)]
pub struct Post {
    pub topic: TopicId,
    pub events: Vec<NewEvent>,
    /// They are derived from another log, up to this entry.
    pub followed: Option<(String, Sequence)>,
}

/// An event that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// 0 if it is not due yet, or was not when it was posted.
    pub event: EventNo,
    /// It was stored before.
    pub is_repeat: bool,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// It may be tried again, after a time that the endpoint named.
    Failed {
        retry_after: Option<DurationMs>,
    },
    /// The endpoint wants no more (410).
    Gone,
    /// It was not tried, for a reason that passes. No attempt is spent.
    NotTried,
}

/// A delivery that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    pub subscription: SubscriptionNo,
    pub event: EventNo,
    pub attempt: u32,
    pub outcome: Outcome,
    /// An HTTP status; 0 if no answer came.
    pub status: u16,
    pub took_ms: u32,
    /// The beginning of the answer, or why there was none.
    pub said: String,
}

/// Deliveries that have ended, and how many more may begin.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// That of the last reply; 0 at first. Under another one nothing begins: see
    /// [`Reply::Turned`].
    pub epoch: u64,
    pub ended: Vec<Attempted>,
    /// How many may begin now, and how many may be on their way besides those that are.
    pub room: usize,
    pub free: usize,
}

/// An event to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub subscription: SubscriptionNo,
    pub name: SubscriptionId,
    pub spec: Arc<SubscriptionSpec>,
    pub event: EventNo,
    /// Its entry in the log.
    pub sequence: Sequence,
    /// 1 for the first.
    pub attempt: u32,
    pub signing: Signing,
}

/// From where on a subscription gets its events again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Event(EventNo),
    Time(TimeMs),
}

/// What a consumer says of a delivery that it has pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub event: EventNo,
    pub attempt: u32,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Command {
    DefineTopic {
        name: TopicId,
        spec: TopicSpec,
        by: Actor,
    },
    /// Makes a subscription, from the next event of its topic on or from an earlier one that is
    /// kept, or changes it, which leaves that as it is.
    Subscribe {
        name: SubscriptionId,
        spec: SubscriptionSpec,
        from: Option<From>,
        by: Actor,
    },
    /// Which of the earlier events of a subscription that begins with one passed its filters: of
    /// those from its next one up to this one.
    Fill {
        subscription: SubscriptionNo,
        next: EventNo,
        up_to: EventNo,
        matched: Vec<EventNo>,
    },
    /// Subscriptions whose filters are to be asked for earlier events.
    Fills,
    SetState {
        name: SubscriptionId,
        state: SubscriptionState,
        by: Actor,
    },
    Unsubscribe {
        name: SubscriptionId,
        by: Actor,
    },
    Post(Arc<Post>),
    Turn(Arc<Turn>),
    /// Takes deliveries of a subscription without an endpoint. What is not settled within the lease
    /// has failed.
    Pull {
        name: SubscriptionId,
        at_most: usize,
        lease: DurationMs,
    },
    Settle {
        name: SubscriptionId,
        ended: Vec<Settled>,
    },
    /// Sends again what the subscription was to get, from somewhere on, as far as it is kept.
    Replay {
        name: SubscriptionId,
        from: From,
        by: Actor,
    },
    /// Signs deliveries with a new secret, and for a while also with the one before.
    RotateSecret {
        name: SubscriptionId,
        overlap: DurationMs,
        by: Actor,
    },
    /// Tries a dead letter again, or a blocked or waiting event at once; if none is named, ten
    /// thousand dead letters and blocked events.
    Redrive {
        name: SubscriptionId,
        event: Option<EventNo>,
        by: Actor,
    },
    /// Gives a dead letter, or a blocked or waiting event, up; ten thousand dead letters if none is
    /// named.
    Discard {
        name: SubscriptionId,
        event: Option<EventNo>,
        by: Actor,
    },
    /// One of the last four, which is carried out once under this key.
    Once {
        key: CommandKey,
        command: Box<Command>,
    },
    /// Makes a schedule, or changes it: it posts next at the first of its times from now on.
    SetSchedule {
        name: ScheduleId,
        spec: Box<ScheduleSpec>,
        by: Actor,
    },
    DeleteSchedule {
        name: ScheduleId,
        by: Actor,
    },
    Topics,
    /// One.
    Schedule(ScheduleId),
    /// Those whose names come after this one, so many at the most.
    Schedules {
        after: Option<ScheduleId>,
        at_most: usize,
    },
    /// One.
    Subscription(SubscriptionId),
    /// Those whose names come after this one, so many at the most.
    Subscriptions {
        after: Option<SubscriptionId>,
        at_most: usize,
    },
    /// Dead letters, or events for which their keys wait; after this event, so many at the most.
    Letters {
        name: SubscriptionId,
        which: Letters,
        after: EventNo,
        at_most: usize,
    },
    Event {
        topic: TopicId,
        event: EventNo,
    },
    /// Where events of a topic are, from this number on, so many at the most.
    Numbered {
        topic: TopicId,
        from: EventNo,
        at_most: usize,
    },
    /// How far another log has been followed.
    Followed {
        log: String,
    },
}

/// Events whose attempts are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    Dead,
    Blocked,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    NoTopic(TopicId),
    NoSubscription(SubscriptionId),
    NoSchedule(ScheduleId),
    /// Another command was carried out under this Idempotency-Key.
    OtherCommand,
    /// The command is the same however often it is carried out.
    TakesNoKey,
    /// A subscription cannot move to another topic.
    OtherTopic(TopicId),
    TooMany {
        what: &'static str,
        max: usize,
    },
    /// Another event with the source and id of this one of the batch (from 0) was posted lately.
    Repeated {
        at: usize,
        event: EventNo,
    },
    /// So many events are kept already, because some subscription has not had the oldest.
    Full {
        kept: u64,
    },
    /// This event of the batch (from 0) is due in more than a year.
    TooLate {
        at: usize,
    },
    /// The topic has so many filters that fewer events fit into one post.
    TooManyComparisons {
        fit: usize,
    },
    /// The subscription has an endpoint: nothing is pulled from it.
    HasEndpoint(SubscriptionId),
    /// The event is neither dead, blocked nor waiting.
    NotFailed(EventNo),
    /// The other log was followed further than this already.
    FollowedBefore(Sequence),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Done,
    /// The subscription has this number.
    Subscribed {
        subscription: SubscriptionNo,
        signing: Signing,
        is_new: bool,
    },
    /// The subscription gets its events again, from this one on.
    Replays(EventNo),
    /// So many dead letters were changed, and so many are left.
    Changed {
        changed: u64,
        left: u64,
    },
    Accepted(Vec<Accepted>),
    Turned {
        deliveries: Vec<Delivery>,
        /// Another than before if the state was built again from the log. It does not know then
        /// what is under way: begin nothing before that has ended, or it is overtaken.
        epoch: u64,
        /// Ask again then, if nothing happens before.
        next_at: Option<TimeMs>,
    },
    /// To be settled until then; without any, there may be some at `next_at`, or when something
    /// happens.
    Pulled {
        deliveries: Vec<Delivery>,
        until: TimeMs,
        next_at: Option<TimeMs>,
    },
    /// So many were settled in time, and so many after their lease had ended.
    Settled {
        counted: u64,
        late: u64,
    },
    Refused(Refused),
    Topics(Vec<TopicSeen>),
    Fills(Vec<FillSeen>),
    Schedules(Vec<ScheduleSeen>),
    Subscription(Box<SubscriptionSeen>),
    Subscriptions(Vec<SubscriptionSeen>),
    Letters(Vec<Letter>),
    Event(Option<EventSeen>),
    Numbered(Numbered),
    Followed(Sequence),
    /// Nothing can be written at the moment.
    Busy,
    Unavailable(Outage),
}

/// Events of a topic, in the order of their numbers, which have no gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The number of the first event that is kept, apart from those of which few are left, and the
    /// one that the topic's next event gets.
    pub first: EventNo,
    pub next: EventNo,
    /// Each with its entry in the log.
    pub events: Vec<(EventNo, Sequence)>,
}

/// A topic, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSeen {
    pub name: TopicId,
    pub spec: TopicSpec,
    /// Events that are kept, and the number of the last one that was posted.
    pub kept: u64,
    pub last: EventNo,
    /// Events that are not due yet.
    pub delayed: u64,
}

/// A subscription whose filters are to be asked for earlier events.
#[derive(Debug, Clone, PartialEq)]
pub struct FillSeen {
    pub subscription: SubscriptionNo,
    pub spec: Arc<SubscriptionSpec>,
    pub fill: Fill,
}

/// A schedule, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSeen {
    pub name: ScheduleId,
    pub spec: Arc<ScheduleSpec>,
    /// When it posts next, if ever.
    pub next: Option<TimeMs>,
    /// How often it has posted, and the time for which it has posted last.
    pub posted: u64,
    pub last: Option<TimeMs>,
}

/// A subscription, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionSeen {
    pub number: SubscriptionNo,
    pub name: SubscriptionId,
    pub spec: Arc<SubscriptionSpec>,
    pub state: SubscriptionState,
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    pub dead: u64,
    /// Keys that wait for an operator.
    pub blocked: u64,
    /// Earlier events for which its filters are still to be asked, if it begins with some.
    pub fill: Option<Fill>,
    /// Events that its topic let go before it had them: because it was full, or before its filters
    /// were asked for them.
    pub dropped: u64,
    /// Events that it has not had: at the most, if some were not looked at yet.
    pub backlog: u64,
    pub in_flight: u32,
    /// When the oldest of these was posted.
    pub oldest: Option<TimeMs>,
    pub left_alone_until: Option<TimeMs>,
    /// The average of its latest attempts, since the last start.
    pub took_ms: Option<u32>,
    pub signing: Signing,
}

impl SubscriptionSeen {
    /// Whether an event that it has not had is older than the subscription allows.
    pub fn is_lagging(&self, now: TimeMs) -> bool {
        let is_old = |oldest: TimeMs| now.since(oldest) > DurationMs::seconds(self.spec.lag_alert_seconds);
        self.oldest.is_some_and(is_old)
    }
}

/// A dead letter, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    pub event: EventNo,
    pub sequence: Sequence,
    pub letter: DeadLetter,
}

/// An event, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSeen {
    pub sequence: Sequence,
    pub at: TimeMs,
    pub owed: Vec<Owed>,
    /// The numbers of those subscriptions, as the log has them.
    pub numbers: BTreeMap<SubscriptionNo, SubscriptionId>,
}

/// What a subscription has had of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Owed {
    Delivered { to: SubscriptionId },
    Waiting { to: SubscriptionId, attempts: u32, again_at: Option<TimeMs>, is_blocked: bool },
    Dead { to: SubscriptionId, letter: DeadLetter },
}
