//! Checks what consumers pull and settle, and that a lease which ends counts as a failure.

use super::{Checker, News, Step, none, wrong};
use crate::model::{End, Subscription};
use crate::underway::Lease;
use contracts::SubscriptionId;
use notify::core::record::{EventNo, Record, SubscriptionNo, Tried};
use notify::core::{Attempted, Outcome, Refused, Reply, Settled};
use sim::{Check, ensure};
use units::{DurationMs, TimeMs};

/// What the log says of an attempt whose consumer said nothing, and of one that it gave up.
pub(super) const NO_WORD: &str = "no word from the consumer within its lease";
pub(super) const GIVEN_UP: &str = "the consumer failed";

impl Checker {
    /// The leases that have ended come first: each is a failed attempt.
    pub(super) fn leases_end(&mut self, step: &Step<'_>, news: &mut News<'_>) -> Check {
        while let Some((until, subscription, event)) =
            self.under_way.first_lease().filter(|(until, ..)| *until <= step.now)
        {
            let Some(Lease { attempt, began, .. }) = self.under_way.lease(subscription, event) else { break };
            let report = Attempted {
                subscription: SubscriptionNo(subscription),
                event: EventNo(event),
                attempt,
                outcome: Outcome::Failed { retry_after: None },
                status: 0,
                took_ms: took_ms(began, until),
                said: NO_WORD.into(),
            };
            let stops_here = news.entries.as_slice().is_empty() && step.may_be_full();
            if stops_here && self.model.end(&report) != End::Nothing {
                break;
            }
            self.unseen_ends += u32::from(self.model.end(&report) == End::Nothing);
            self.under_way.ends_lease(subscription, event);
            self.ended(&report, news)?;
        }
        Ok(())
    }

    /// A subscription whose consumers pull.
    fn pulled(&self, name: &SubscriptionId) -> Result<(u32, &Subscription), Reply> {
        let (number, known) = self.model.subscription(name).ok_or_else(|| none(name))?;
        match known.spec.url {
            Some(_) => Err(Reply::Refused(Refused::HasEndpoint(name.clone()))),
            None => Ok((number, known)),
        }
    }

    /// What is due is pulled, and is leased from now on; and nothing that is due stays behind while
    /// there is room.
    pub(super) fn pull(
        &mut self,
        (name, at_most, lease): (&SubscriptionId, usize, DurationMs),
        reply: &Reply,
        news: &News<'_>,
    ) -> Check {
        let number = match self.pulled(name) {
            Ok((number, _)) => number,
            Err(refused) => {
                return ensure(*reply == refused, "reply", || format!("{name} is pulled: {reply:?}"));
            }
        };
        let Reply::Pulled { deliveries, until, next_at } = reply else {
            return Err(wrong("MSG-6", format!("a pull of {name} is answered {reply:?}")));
        };
        let now = news.now;
        ensure(*until == now.plus(lease) && deliveries.len() <= at_most, "reply", || {
            format!("{at_most} of {name} were pulled at {now} for {lease:?}: {reply:?}")
        })?;
        self.under_way.sees(now);
        for delivery in deliveries {
            ensure(delivery.subscription.0 == number, "MSG-5", || format!("{name} gets {delivery:?}"))?;
            self.under_way.begins(&self.model, delivery, now)?;
            let (event, attempt) = (delivery.event.0, delivery.attempt);
            self.under_way.leases(number, event, Lease { attempt, began: now, until: *until });
            let ends = self.leased.entry((number, event, attempt)).or_insert(*until);
            *ends = (*ends).min(*until);
        }
        let due = self.model.subscriptions.get(&number).and_then(|known| self.under_way.due(number, known));
        let is_all = deliveries.len() == at_most || next_at.is_some_and(|at| at <= now);
        let is_in_time = due.is_none_or(|due| due > now && next_at.is_some_and(|at| at <= due));
        ensure(is_all || is_in_time, "MSG-6", || {
            format!("something of {name} is due at {due:?}, and is to be pulled at {next_at:?}")
        })
    }

    /// What a consumer says counts if it has the lease. If it has not, only that it is done with
    /// the next event of a key.
    pub(super) fn settle(
        &mut self,
        name: &SubscriptionId,
        ended: &[Settled],
        news: &mut News<'_>,
    ) -> Result<Reply, sim::Violation> {
        let number = match self.pulled(name) {
            Ok((number, _)) => number,
            Err(refused) => return Ok(refused),
        };
        let (mut counted, mut late) = (0, 0);
        for &Settled { event, attempt, outcome } in ended {
            let lease = self.under_way.lease(number, event.0).filter(|lease| lease.attempt == attempt);
            let is_delivered = outcome == Outcome::Delivered;
            let report = Attempted {
                subscription: SubscriptionNo(number),
                event,
                attempt,
                outcome,
                status: 0,
                took_ms: lease.map_or(0, |lease| took_ms(lease.began, news.now)),
                said: if is_delivered { String::new() } else { GIVEN_UP.into() },
            };
            if lease.is_some() {
                counted += 1;
                self.under_way.ends_lease(number, event.0);
                self.ended(&report, news)?;
                continue;
            }
            late += 1;
            if is_delivered && self.counts_late(&report, news) {
                self.ended(&report, news)?;
            }
        }
        Ok(Reply::Settled { counted, late })
    }

    /// Whether an event is done of which a consumer says so without a lease. It is if it is the
    /// next one of its key, and the service has looked at it in this life. If it may not have,
    /// either is right: the event comes again otherwise.
    fn counts_late(&self, report: &Attempted, news: &News<'_>) -> bool {
        let (number, event) = (report.subscription.0, report.event.0);
        let Some(known) = self.model.subscriptions.get(&number) else { return false };
        let Some(kept) = self.model.event_of(number, event) else { return false };
        let is_first = known.first(kept.key).is_some_and(|(first, _)| first == event);
        if event < self.under_way.looked_up_to(number, known) {
            return is_first;
        }
        let may_count = is_first || self.under_way.has_begun(number, event);
        let next = news.entries.as_slice().first().map(|entry| &entry.record);
        let is_logged = |tried: &Tried| (tried.subscription.0, tried.event.0) == (number, event);
        may_count && matches!(next, Some(Record::Delivered(tried)) if is_logged(tried))
    }
}

fn took_ms(began: TimeMs, ended: TimeMs) -> u32 {
    u32::try_from(ended.since(began).0).unwrap_or(u32::MAX)
}
