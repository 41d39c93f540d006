//! What the service knows and does not log: what is on its way, what consumers have leased, which
//! endpoints are left alone, and which keys could not be tried. A restart forgets it, and so does a
//! state that is built again.

use crate::model::{Model, Subscription};
use notify::core::Delivery;
use notify::core::record::Key;
use notify::core::spec::SubscriptionState;
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use units::{DurationMs, TimeMs};

/// As `docs/notify.md` has it: so many failures in a row, and then 1 to 60 s.
const FAILURES_MAX: u32 = 10;
const LEFT_ALONE_MAX: DurationMs = DurationMs(60_000);
/// How long a key waits that could not be tried.
const NOT_TRIED_WAIT: DurationMs = DurationMs(1000);

/// How an endpoint has answered lately.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    failures: u32,
    pub(crate) left_alone_until: Option<TimeMs>,
}

/// A key that could not be tried.
#[derive(Debug, Clone, Copy)]
struct PutOff {
    until: TimeMs,
    /// The service is known to wait that long. It may have forgotten that the event was on its way.
    is_certain: bool,
}

/// A delivery that a consumer has pulled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) attempt: u32,
    pub(crate) began: TimeMs,
    pub(crate) until: TimeMs,
}

/// All of it, of one life of the state.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) epoch: u64,
    /// The key and the attempt of what is on its way, by subscription and event; and the keys.
    flying: BTreeMap<(u32, u64), (Key, u32)>,
    flying_keys: BTreeSet<(u32, Key)>,
    counts: BTreeMap<u32, u32>,
    endpoints: BTreeMap<u32, Endpoint>,
    put_off: BTreeMap<(u32, Key), PutOff>,
    /// By subscription and event; and when they end.
    leases: BTreeMap<(u32, u64), Lease>,
    lease_ends: BTreeSet<(TimeMs, u32, u64)>,
    /// The service has looked at all events of a subscription before this one.
    looked_up_to: BTreeMap<u32, u64>,
    /// How many replays came before the last delivery began, by subscription and event.
    begun_after: BTreeMap<(u32, u64), usize>,
    /// The latest time that a turn has had: what was due then is due, also when the clock was set
    /// back since.
    latest: TimeMs,
}

impl UnderWay {
    /// A turn is taken at this time.
    pub(crate) fn sees(&mut self, now: TimeMs) {
        self.latest = self.latest.max(now);
    }

    /// The state was built anew from the log.
    pub(crate) fn forget(&mut self, epoch: u64) {
        *self = Self { epoch, ..Self::default() };
    }

    pub(crate) fn count(&self, subscription: u32) -> u32 {
        self.counts.get(&subscription).copied().unwrap_or_default()
    }

    pub(crate) fn left_alone_until(&self, subscription: u32) -> Option<TimeMs> {
        self.endpoints.get(&subscription)?.left_alone_until
    }

    /// The subscription is no more.
    pub(crate) fn is_gone(&mut self, subscription: u32) {
        self.flying.retain(|(of, _), _| *of != subscription);
        self.flying_keys.retain(|(of, _)| *of != subscription);
        self.counts.remove(&subscription);
        self.endpoints.remove(&subscription);
        self.put_off.retain(|(of, _), _| *of != subscription);
        self.leases.retain(|(of, _), _| *of != subscription);
        self.lease_ends.retain(|(_, of, _)| *of != subscription);
        self.looked_up_to.remove(&subscription);
    }

    /// A consumer has pulled this, in the place of one who had it before.
    pub(crate) fn leases(&mut self, subscription: u32, event: u64, lease: Lease) {
        if let Some(before) = self.leases.insert((subscription, event), lease) {
            self.lease_ends.remove(&(before.until, subscription, event));
        }
        self.lease_ends.insert((lease.until, subscription, event));
    }

    /// The first lease that ends: when, and of which subscription and event.
    pub(crate) fn first_lease(&self) -> Option<(TimeMs, u32, u64)> {
        self.lease_ends.first().copied()
    }

    pub(crate) fn last_lease_ends(&self) -> Option<TimeMs> {
        self.lease_ends.last().map(|(until, ..)| *until)
    }

    pub(crate) fn lease(&self, subscription: u32, event: u64) -> Option<Lease> {
        self.leases.get(&(subscription, event)).copied()
    }

    /// The lease ends, by its consumer or by its time.
    pub(crate) fn ends_lease(&mut self, subscription: u32, event: u64) {
        if let Some(lease) = self.leases.remove(&(subscription, event)) {
            self.lease_ends.remove(&(lease.until, subscription, event));
        }
    }

    /// The service has certainly looked at all events of the subscription before this one.
    pub(crate) fn looked_up_to(&self, number: u32, known: &Subscription) -> u64 {
        known.looked_up_to.max(self.looked_up_to.get(&number).copied().unwrap_or_default())
    }

    /// The subscription begins again at this event. The service forgets that it has looked at those
    /// after it, and that their keys could not be tried. `first` is each key's next event.
    pub(crate) fn replays(&mut self, subscription: u32, from: u64, first: impl Fn(Key) -> Option<u64>) {
        self.looked_up_to.entry(subscription).and_modify(|up_to| *up_to = from.min(*up_to));
        self.put_off.retain(|(of, key), _| *of != subscription || first(*key).is_some_and(|it| it < from));
    }

    /// The event was given up.
    pub(crate) fn is_given_up(&mut self, subscription: u32, event: u64) {
        if let Some((key, _)) = self.flying.remove(&(subscription, event)) {
            self.flying_keys.remove(&(subscription, key));
            self.counts.entry(subscription).and_modify(|count| *count -= 1);
        }
    }

    /// Something of this key was decided: it does not wait for what could not be tried.
    pub(crate) fn is_decided(&mut self, subscription: u32, key: Key) {
        self.put_off.remove(&(subscription, key));
    }

    /// This attempt has ended. A late report of an earlier one ends nothing.
    pub(crate) fn ends(&mut self, subscription: u32, event: u64, attempt: u32) -> bool {
        let flying = self.flying.get(&(subscription, event));
        let ends = flying.is_some_and(|(_, flying)| *flying == attempt);
        if ends {
            self.is_given_up(subscription, event);
        }
        ends
    }

    pub(crate) fn puts_off(&mut self, subscription: u32, key: Key, now: TimeMs, is_certain: bool) {
        let (until, at) = (now.plus(NOT_TRIED_WAIT), (subscription, key));
        // A second report of the same changes nothing; the clock may have been set back since.
        if is_certain || self.put_off.get(&at).is_none_or(|before| before.until < until) {
            self.put_off.insert(at, PutOff { until, is_certain });
        }
    }

    /// The endpoint has answered something else than that it cannot.
    pub(crate) fn answers(&mut self, subscription: u32) {
        self.endpoints.remove(&subscription);
    }

    /// The endpoint fails for all alike.
    pub(crate) fn fails(&mut self, subscription: u32, now: TimeMs) {
        let endpoint = self.endpoints.entry(subscription).or_default();
        if endpoint.left_alone_until.is_some_and(|until| until > now) {
            return;
        }
        endpoint.failures += 1;
        if endpoint.failures >= FAILURES_MAX {
            let doubled = 1000 << (endpoint.failures - FAILURES_MAX).min(6);
            endpoint.left_alone_until = Some(now.plus(DurationMs(doubled).min(LEFT_ALONE_MAX)));
        }
    }

    fn room(&self, number: u32, known: &Subscription) -> u32 {
        let is_probe = self.left_alone_until(number).is_some();
        if is_probe { 1 } else { known.spec.in_flight_max }
    }

    pub(crate) fn has_begun(&self, subscription: u32, event: u64) -> bool {
        self.flying.contains_key(&(subscription, event))
    }

    /// How many replays came before the last delivery of this event began.
    pub(crate) fn begun_after(&self, subscription: u32, event: u64) -> usize {
        self.begun_after.get(&(subscription, event)).copied().unwrap_or_default()
    }

    fn is_flying(&self, subscription: u32, key: Key) -> bool {
        self.flying_keys.contains(&(subscription, key))
    }

    /// When something of this subscription can be delivered at the latest, if nothing happens
    /// before; `None` if nothing can.
    pub(crate) fn due(&self, number: u32, known: &Subscription) -> Option<TimeMs> {
        if known.state != SubscriptionState::Active || self.count(number) >= self.room(number, known) {
            return None;
        }
        let keys = known.owed.keys().filter(|key| !self.is_flying(number, **key));
        let due = keys.filter_map(|key| {
            let (_, wait) = known.first(*key).filter(|(_, wait)| !wait.is_blocked())?;
            let put_off = self.put_off.get(&(number, *key)).map(|put_off| put_off.until);
            Some(wait.again_at.unwrap_or_default().max(put_off.unwrap_or_default()))
        });
        due.min().map(|due| due.max(self.left_alone_until(number).unwrap_or_default()))
    }

    /// A delivery begins: it must be its key's turn, and the endpoint must be willing.
    pub(crate) fn begins(&mut self, model: &Model, delivery: &Delivery, now: TimeMs) -> Check {
        let (number, event) = (delivery.subscription.0, delivery.event.0);
        let brief = || format!("event {event} for subscription {number}, attempt {}", delivery.attempt);
        let fails = |rule, why: &str| Violation { rule, what: format!("{}: {why}", brief()) };
        let known = model.subscriptions.get(&number).ok_or_else(|| fails("MSG-5", "it was deleted"))?;
        let is_as_set =
            known.name == delivery.name && known.spec == *delivery.spec && known.signing == delivery.signing;
        ensure(is_as_set, "MSG-5", || {
            format!("{}: it is set to {:?} {:?}, not {delivery:?}", brief(), known.spec, known.signing)
        })?;
        ensure(known.state == SubscriptionState::Active, "MSG-7", || {
            format!("{}: it is {:?}", brief(), known.state)
        })?;
        let kept = model.event_of(number, event).ok_or_else(|| fails("MSG-5", "it is not for it"))?;
        ensure(kept.sequence == delivery.sequence.0, "MSG-5", || {
            format!("{}: it is entry {}, not {}", brief(), kept.sequence, delivery.sequence)
        })?;
        let wait = known.owes(kept.key, event).ok_or_else(|| fails("MSG-1", "it was done with before"))?;
        let first = known.first(kept.key).map(|(first, _)| first);
        ensure(first == Some(event), "MSG-2", || format!("{}: {first:?} comes before it", brief()))?;
        ensure(!wait.is_blocked(), "MSG-2", || format!("{}: its key is blocked", brief()))?;
        ensure(!self.is_flying(number, kept.key), "MSG-2", || format!("{}: its key is under way", brief()))?;
        ensure(wait.attempts + 1 == delivery.attempt, "MSG-4", || format!("{}: {wait:?}", brief()))?;
        let put_off = self.put_off.get(&(number, kept.key)).filter(|put_off| put_off.is_certain);
        let not_before = wait.again_at.max(put_off.map(|put_off| put_off.until));
        ensure(not_before.is_none_or(|at| at <= self.latest), "MSG-4", || {
            format!("{}: at {now}, and not before {not_before:?}", brief())
        })?;
        let left_alone = self.left_alone_until(number);
        ensure(left_alone.is_none_or(|until| until <= now), "MSG-7", || {
            format!("{}: at {now}, and its endpoint is left alone until {left_alone:?}", brief())
        })?;
        ensure(self.count(number) < self.room(number, known), "MSG-7", || {
            format!("{}: {} are under way already", brief(), self.count(number))
        })?;
        self.put_off.remove(&(number, kept.key));
        self.flying.insert((number, event), (kept.key, delivery.attempt));
        self.flying_keys.insert((number, kept.key));
        self.begun_after.insert((number, event), known.replays.len());
        *self.counts.entry(number).or_default() += 1;
        let up_to = self.looked_up_to.entry(number).or_default();
        *up_to = event.saturating_add(1).max(*up_to);
        Ok(())
    }
}
