//! What operators must hear of, as events: a full topic drops what a subscription has not had, an
//! endpoint disables its subscription, a subscription lags. They are posted to a topic of their
//! own. It is looked for them some seconds apart, so each event may stand for several of its kind.

use crate::{
    core::{
        Command, NewEvent, Post, Reply, SubscriptionSeen,
        cloud_events::from_json,
        spec::{SubscriptionState, TopicSpec},
    },
    parts::Running,
    problem::{Problem, of_reply},
};
use contracts::{Actor, SubscriptionId, TopicId};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::sleep;
use units::TimeMs;

/// The topic of these events, to which only the message service posts.
pub(crate) const TOPIC: &str = "notify";
/// How often it is looked, and how long to wait when something failed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Events that are posted at once.
const AT_ONCE: usize = 100;

pub(crate) fn topic() -> TopicId {
    TOPIC.parse().expect("it is a name")
}

/// What of a subscription was told last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    dropped: u64,
    is_disabled: bool,
    is_lagging: bool,
}

impl Told {
    fn of(seen: &SubscriptionSeen, now: TimeMs) -> Self {
        Self {
            dropped: seen.dropped,
            is_disabled: seen.state == SubscriptionState::Disabled,
            is_lagging: seen.is_lagging(now),
        }
    }

    /// What is to be told, by kind and data, after this was.
    fn since(self, before: Self) -> Vec<(&'static str, Value)> {
        let mut news = Vec::new();
        if self.dropped > before.dropped {
            news.push((
                "dropped",
                json!({ "events": self.dropped - before.dropped, "in_all": self.dropped }),
            ));
        }
        for (is, was, begins, ends) in [
            (self.is_disabled, before.is_disabled, "disabled", "enabled"),
            (self.is_lagging, before.is_lagging, "lagging", "caught_up"),
        ] {
            if is != was {
                news.push((if is { begins } else { ends }, json!({})));
            }
        }
        news
    }
}

/// Looks until it is dropped. After a start, what is disabled or lags is told again; what was
/// dropped before is not.
pub(crate) async fn run(running: Arc<Running>, now: impl Fn() -> TimeMs) {
    while make_topic(&running).await.is_err() {
        sleep(LOOK_EVERY).await;
    }
    let mut sequence = running.handle.sequence();
    let mut told: Option<BTreeMap<SubscriptionId, Told>> = None;
    let mut waits_for_time = true;
    loop {
        // Without a new entry only a lag can begin, and only where something is owed.
        let is_new = sequence.has_changed().unwrap_or(false);
        if !is_new && !waits_for_time {
            let _ = sequence.changed().await;
        }
        sequence.borrow_and_update();
        if let Ok(seen) = running.all_subscriptions().await {
            let now = now();
            waits_for_time = seen.iter().any(|seen| seen.oldest.is_some());
            let is_so: BTreeMap<SubscriptionId, Told> =
                seen.iter().map(|seen| (seen.name.clone(), Told::of(seen, now))).collect();
            let before = told.get_or_insert_with(|| {
                let known = |of: &Told| Told { dropped: of.dropped, ..Told::default() };
                is_so.iter().map(|(name, of)| (name.clone(), known(of))).collect()
            });
            // What could not be posted is told the next time.
            if post(&running, events(before, &seen, &is_so, now)).await.is_ok() {
                told = Some(is_so);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn events(
    before: &BTreeMap<SubscriptionId, Told>,
    seen: &[SubscriptionSeen],
    is_so: &BTreeMap<SubscriptionId, Told>,
    now: TimeMs,
) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for of in seen {
        let before = before.get(&of.name).copied().unwrap_or_default();
        for (kind, mut data) in is_so[&of.name].since(before) {
            data["subscription"] = json!(of.name);
            data["topic"] = json!(of.spec.topic);
            let event = json!({
                "specversion": "1.0", "id": format!("{}/{kind}@{now}", of.name), "source": "/notify",
                "type": format!("floodgate.notify.{kind}"), "subject": of.name, "time": now.to_string(), "data": data,
            });
            events.extend(from_json(event.to_string().as_bytes()));
        }
    }
    events
}

async fn post(running: &Running, events: Vec<NewEvent>) -> Result<(), Problem> {
    for some in events.chunks(AT_ONCE) {
        let post = Post { topic: topic(), events: some.to_vec(), followed: None };
        match running.ask(Command::Post(Arc::new(post))).await? {
            Reply::Accepted(_) => {}
            other => return Err(of_reply(&other)),
        }
    }
    Ok(())
}

/// The topic is made once: what an operator changes of it stays.
async fn make_topic(running: &Running) -> Result<(), Problem> {
    match running.ask(Command::Topics).await? {
        Reply::Topics(topics) if topics.iter().any(|known| known.name.as_str() == TOPIC) => return Ok(()),
        Reply::Topics(_) => {}
        other => return Err(of_reply(&other)),
    }
    let by = Actor::new(Actor::NOTIFY, "what operators must hear of");
    match running.ask(Command::DefineTopic { name: topic(), spec: TopicSpec::default(), by }).await? {
        Reply::Done => Ok(()),
        other => Err(of_reply(&other)),
    }
}
