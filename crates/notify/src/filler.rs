//! Asks the filters of subscriptions that begin with events from before they were made, for these
//! events, part by part. It begins at the next part after a restart.

use crate::{
    core::{Command, Fill, FillSeen, Numbered, Reply, cloud_events::from_json, record::EventNo},
    parts::Running,
    problem::{Problem, of_reply},
};
use engines::log::LogError;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Events of one part, and bytes of them that are read: one event may have more.
const PART_EVENTS: usize = 1000;
const PART_BYTES: usize = 1 << 20;
/// The wait when the events cannot be read, or nothing can be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Works until it is dropped.
pub(crate) async fn run(running: Arc<Running>) {
    loop {
        match round(&running).await {
            Ok(true) => {}
            Ok(false) => running.fills.notified().await,
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

/// One part of each subscription; false if there is none.
async fn round(running: &Running) -> Result<bool, Problem> {
    let fills = match running.ask(Command::Fills).await? {
        Reply::Fills(fills) => fills,
        other => return Err(of_reply(&other)),
    };
    let is_any = !fills.is_empty();
    for of in fills {
        let subscription = of.subscription;
        let (next, end) = (of.fill.next, of.fill.end);
        let (matched, up_to) = part(running, of).await?;
        let up_to = up_to.max(next).min(EventNo(end.0 - 1));
        match running.ask(Command::Fill { subscription, next, up_to, matched }).await? {
            Reply::Done => {}
            other => return Err(of_reply(&other)),
        }
    }
    Ok(is_any)
}

/// Which of the next events pass the filters, and up to which event was looked.
async fn part(running: &Running, of: FillSeen) -> Result<(Vec<EventNo>, EventNo), Problem> {
    let FillSeen { spec, fill: Fill { next, end }, .. } = of;
    let asked = Command::Numbered { topic: spec.topic.clone(), from: next, at_most: PART_EVENTS };
    let mut events = match running.ask(asked).await? {
        Reply::Numbered(Numbered { events, .. }) => events,
        other => return Err(of_reply(&other)),
    };
    events.retain(|(number, _)| *number < end);
    // None is left of those, or none that is not kept just for others.
    let Some(&(last, _)) = events.last() else { return Ok((Vec::new(), end)) };
    if spec.filters.is_empty() {
        return Ok((events.into_iter().map(|(number, _)| number).collect(), last));
    }
    let read = running.read_for_stream(move |reading| {
        let (mut matched, mut up_to, mut bytes) = (Vec::new(), next, 0);
        for (number, sequence) in events {
            if bytes > PART_BYTES {
                break;
            }
            up_to = number;
            // It was let go meanwhile.
            let Some(stored) = reading.event(sequence)? else { continue };
            bytes += stored.body.len();
            let fails = from_json(&stored.body)
                .is_ok_and(|event| !spec.filters.iter().all(|filter| filter.passes(&event.attributes)));
            matched.extend((!fails).then_some(number));
        }
        Ok::<_, LogError>((matched, up_to))
    });
    read.await
}
