//! Asks the filters of subscriptions that begin with events from before they were made, for these
//! events, part by part. It begins at the next part after a restart.

use crate::{
    core::{
        Command, Fill, FillSeen, Numbered, Reply, cloud_events::from_json, record::EventNo,
        record::SubscriptionNo,
    },
    parts::Running,
    problem::{Problem, of_reply},
};
use engines::log::LogError;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Events of one part, and bytes of the log that are read for it: for one event up to half a
/// mebibyte more.
const PART_EVENTS: usize = 1000;
const PART_BYTES: usize = 4 << 20;
/// The wait when events cannot be read, or nothing can be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After so many tries an event that cannot be read is taken to pass the filters: its delivery
/// waits then, and no other event's.
const UNREAD_MAX: u32 = 120;
/// How often it is looked whether there is something to do, if nobody says so: who has made a
/// subscription may not have stayed to say it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Parts in a row that failed, by subscription.
type Failed = BTreeMap<SubscriptionNo, u32>;

/// Works until it is dropped.
pub(crate) async fn run(running: Arc<Running>) {
    let mut failed = Failed::new();
    loop {
        match round(&running, &mut failed).await {
            Ok(true) if failed.is_empty() => {}
            Ok(false) => drop(timeout(LOOK_EVERY, running.fills.notified()).await),
            Ok(true) | Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

/// One part of each subscription; false if there is none. What fails for one keeps no other
/// waiting.
async fn round(running: &Running, failed: &mut Failed) -> Result<bool, Problem> {
    let fills = match running.ask(Command::Fills).await? {
        Reply::Fills(fills) => fills,
        other => return Err(of_reply(&other)),
    };
    failed.retain(|number, _| fills.iter().any(|of| of.subscription == *number));
    let is_any = !fills.is_empty();
    for of in fills {
        let subscription = of.subscription;
        let tries = failed.get(&subscription).copied().unwrap_or_default();
        match fill(running, of, tries >= UNREAD_MAX).await {
            Ok(()) => drop(failed.remove(&subscription)),
            Err(_) => drop(failed.insert(subscription, tries + 1)),
        }
    }
    Ok(is_any)
}

async fn fill(running: &Running, of: FillSeen, takes_unread: bool) -> Result<(), Problem> {
    let subscription = of.subscription;
    let Fill { next, end } = of.fill;
    let (matched, up_to) = part(running, of, takes_unread).await?;
    let up_to = up_to.max(next).min(EventNo(end.0 - 1));
    match running.ask(Command::Fill { subscription, next, up_to, matched }).await? {
        Reply::Done => Ok(()),
        other => Err(of_reply(&other)),
    }
}

/// Which of the next events pass the filters, and up to which event was looked.
async fn part(
    running: &Running,
    of: FillSeen,
    takes_unread: bool,
) -> Result<(Vec<EventNo>, EventNo), Problem> {
    let FillSeen { spec, fill: Fill { next, end }, .. } = of;
    let asked = Command::Numbered { topic: spec.topic.clone(), from: next, at_most: PART_EVENTS };
    let mut events = match running.ask(asked).await? {
        Reply::Numbered(Numbered { events, .. }) => events,
        other => return Err(of_reply(&other)),
    };
    events.retain(|(number, _)| *number < end);
    let (Some(&(first, _)), Some(&(last, _))) = (events.first(), events.last()) else {
        // None is left of those, or only some that are kept for others.
        return Ok((Vec::new(), end));
    };
    if spec.filters.is_empty() {
        return Ok((events.into_iter().map(|(number, _)| number).collect(), last));
    }
    if takes_unread {
        tracing::warn!(topic = %spec.topic, event = first.0, "an event cannot be read: its filters are not asked");
        return Ok((vec![first], first));
    }
    let read = running.read_for_stream(move |reading| {
        let (mut matched, mut up_to) = (Vec::new(), next);
        let before = reading.read_bytes();
        for (number, sequence) in events {
            let read = match reading.event(sequence) {
                Err(error) if number == first => return Err(error),
                // The next part begins with it.
                Err(_) => break,
                Ok(read) => read,
            };
            up_to = number;
            // It was let go meanwhile.
            let Some(stored) = read else { continue };
            let fails = from_json(&stored.body)
                .is_ok_and(|event| !spec.filters.iter().all(|filter| filter.passes(&event.attributes)));
            matched.extend((!fails).then_some(number));
            if reading.read_bytes().wrapping_sub(before) >= PART_BYTES {
                break;
            }
        }
        Ok::<_, LogError>((matched, up_to))
    });
    read.await
}
