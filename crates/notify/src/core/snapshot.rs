//! Snapshots of the message service, and how those of earlier builds are read.

use super::{
    Notify,
    record::{SubscriptionNo, TopicNo},
    remembered::{Commanded, Commands},
    schedule::{Schedule, Schedules},
    subscription::{self, Fill, Subscription},
    topic::{DelayedV2, Topic},
};
use contracts::ScheduleId;
use runtime::SnapshotError;
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use units::{Sequence, TimeMs};

const SNAPSHOT_VERSION: u8 = 5;
/// Those before it, which are read too: the logs that they stand for may have been trimmed. Version
/// 4 has no commands that were carried out under a key, 3 has neither schedules nor subscriptions
/// that are filled, and 2 has delayed events in another form.
const VERSION_WITHOUT_COMMANDS: u8 = 4;
const VERSION_WITHOUT_SCHEDULES: u8 = 3;
const VERSION_WITH_MATCHED: u8 = 2;

/// What all versions have of what is in the log.
#[derive(Deserialize)]
struct Snapshot<T> {
    _version: u8,
    sequence: u64,
    now: u64,
    topics: BTreeMap<TopicNo, T>,
    last_topic: u32,
    subscriptions: Vec<subscription::Saved>,
    last_subscription: u32,
    followed: BTreeMap<String, u64>,
}

/// What version 4 has besides.
#[derive(Default, Deserialize)]
struct Added {
    schedules: BTreeMap<ScheduleId, Schedule>,
    fills: BTreeMap<SubscriptionNo, Fill>,
}

/// What version 5 has besides these: of each subscription that has any.
type AddedCommands = BTreeMap<SubscriptionNo, Vec<Commanded>>;

/// Whether the present build wrote these bytes.
pub(super) fn is_newest(snapshot: &[u8]) -> bool {
    snapshot.first() == Some(&SNAPSHOT_VERSION)
}

/// The bytes that stand for this state.
pub(super) fn write(notify: &Notify) -> Vec<u8> {
    let head = (SNAPSHOT_VERSION, notify.sequence.0, notify.now.0);
    let followed: BTreeMap<&str, u64> =
        notify.followed.iter().map(|(log, up_to)| (log.as_str(), up_to.0)).collect();
    let subscriptions: Vec<subscription::Saved> =
        notify.subscriptions.values().map(Subscription::save).collect();
    let counts = (notify.last_topic, subscriptions, notify.last_subscription);
    let filled = |known: &Subscription| Some((known.number, known.fill?));
    let fills: BTreeMap<SubscriptionNo, Fill> = notify.subscriptions.values().filter_map(filled).collect();
    let commands = notify.subscriptions.values();
    let commands: AddedCommands =
        commands.filter_map(|known| Some((known.number, known.commands.save()?))).collect();
    let parts = (head, &notify.topics, counts, followed, notify.schedules.all(), fills, commands);
    postcard::to_allocvec(&parts).expect("every part is of plain fields")
}

/// The state that these bytes stand for.
pub(super) fn restore(bytes: &[u8]) -> Result<Notify, SnapshotError> {
    match bytes.first() {
        Some(&SNAPSHOT_VERSION) => {
            let (snapshot, added, commands): (Snapshot<Topic>, Added, AddedCommands) = read(bytes)?;
            let mut notify = built(snapshot, added)?;
            for (number, commands) in commands {
                let known = notify.subscriptions.get_mut(&number);
                let none = || SnapshotError("no subscription that was commanded".into());
                known.ok_or_else(none)?.commands = Commands::restore(commands);
            }
            Ok(notify)
        }
        Some(&VERSION_WITHOUT_COMMANDS) => {
            let (snapshot, added): (Snapshot<Topic>, Added) = read(bytes)?;
            built(snapshot, added)
        }
        Some(&VERSION_WITHOUT_SCHEDULES) => built(read::<Snapshot<Topic>>(bytes)?, Added::default()),
        Some(&VERSION_WITH_MATCHED) => built(read::<Snapshot<Topic<DelayedV2>>>(bytes)?, Added::default()),
        _ => Err(SnapshotError("of another version".into())),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SnapshotError> {
    postcard::from_bytes(bytes).map_err(|error| SnapshotError(error.to_string()))
}

fn built<T: Into<Topic>>(snapshot: Snapshot<T>, added: Added) -> Result<Notify, SnapshotError> {
    let topics = snapshot.topics.into_iter().map(|(number, topic)| (number, topic.into()));
    let mut notify = Notify {
        sequence: Sequence(snapshot.sequence),
        now: TimeMs(snapshot.now),
        topics: topics.collect(),
        last_topic: snapshot.last_topic,
        last_subscription: snapshot.last_subscription,
        followed: snapshot.followed.into_iter().map(|(log, up_to)| (log, Sequence(up_to))).collect(),
        ..Notify::default()
    };
    for (number, topic) in &mut notify.topics {
        topic.index();
        if !topic.is_whole() {
            return Err(SnapshotError(format!("topic {} does not fit together", topic.name)));
        }
        notify.topic_nos.insert(topic.name.clone(), *number);
        let delayed = topic.delayed.keys().map(|&(due, sequence)| (due, sequence, *number));
        notify.delayed.extend(delayed);
    }
    for saved in snapshot.subscriptions {
        if !notify.topics.contains_key(&saved.topic) {
            return Err(SnapshotError("a subscription to no topic".into()));
        }
        let restored = Subscription::restore(saved);
        let number = restored.number;
        notify.subscription_nos.insert(restored.name.clone(), number);
        notify.subscriptions.insert(number, restored);
        notify.queue(number);
    }
    for (number, fill) in added.fills {
        let known = notify.subscriptions.get_mut(&number);
        known.ok_or_else(|| SnapshotError("no subscription that is filled".into()))?.fill = Some(fill);
        notify.filling.insert(number);
    }
    notify.schedules = Schedules::restore(added.schedules);
    Ok(notify)
}
