//! Subscriptions that begin with events from before they were made. Whom an event is for is decided
//! when it is posted, and its attributes are not in memory; so the filters of such a subscription
//! are asked later, part by part, by a task that reads the events from the log and tells what it
//! found. Until that is done, the subscription gets no later event.

use super::{
    Notify,
    command::{FillSeen, From, Reply},
    record::{EventNo, Record, SubscriptionNo, TopicNo},
};
use runtime::{Broken, Step};
use std::sync::Arc;
use units::TimeMs;

impl Notify {
    /// A new subscription begins with an earlier event of its topic that is kept, if there is one.
    pub(super) fn start_earlier(
        &mut self,
        now: TimeMs,
        (subscription, topic): (SubscriptionNo, TopicNo),
        from: From,
        out: &mut Step,
    ) -> Result<(), Broken> {
        let topic = self.topic(topic)?;
        let from = match from {
            From::Event(event) => event.0,
            From::Time(at) => topic.first_since(at),
        };
        // Those before its first one are kept only for others.
        let (from, next) = (from.max(topic.first()), topic.next());
        if from >= next {
            return Ok(());
        }
        self.commit(now, Record::StartedEarlier { subscription, from: EventNo(from) }, out)
    }

    /// What was found for another part than the subscription's next one is no news.
    pub(super) fn fill(
        &mut self,
        now: TimeMs,
        (subscription, next, up_to): (SubscriptionNo, EventNo, EventNo),
        matched: &[EventNo],
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let fill = self.subscriptions.get(&subscription).and_then(|known| known.fill);
        let is_within =
            matched.is_sorted_by(|a, b| a < b) && matched.iter().all(|event| (next..=up_to).contains(event));
        if is_within && fill.is_some_and(|fill| fill.next == next && (next..fill.end).contains(&up_to)) {
            let topic = self.subscriptions.get(&subscription).and_then(|known| self.topics.get(&known.topic));
            out.spend(matched.len() + topic.map_or(0, |topic| topic.sets_work(matched)));
            let matched = matched.to_vec();
            self.commit(now, Record::Filled { subscription, up_to, matched }, out)?;
        }
        Ok(Reply::Done)
    }

    pub(super) fn see_fills(&self) -> Vec<FillSeen> {
        let seen = |number: &SubscriptionNo| {
            let known = self.subscriptions.get(number)?;
            let (subscription, spec) = (known.number, Arc::clone(&known.spec));
            Some(FillSeen { subscription, spec, fill: known.fill? })
        };
        self.filling.iter().filter_map(seen).collect()
    }
}
