//! Schedules: events that the service posts by itself, at the times that a cron expression names.
//!
//! The next time of each is in the log, so that the state does not depend on how a build computes
//! times: time zones change their rules.

use super::{
    Notify,
    cloud_events::{EventError, from_template},
    command::{NewEvent, Post, Refused, Reply, ScheduleSeen},
    record::{Record, TopicNo},
    times::ScheduleSpec,
    topic::Topic,
};

use contracts::{Actor, ScheduleId};
use runtime::{Broken, Progress, Step};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};
use units::{DurationMs, TimeMs};

pub const SCHEDULES_MAX: usize = 1000;
/// How long a schedule waits whose topic is full.
const FULL_WAIT: DurationMs = DurationMs(1000);
/// Work of a step (see [`Step::spend`]) for one posted event, beside its comparisons: its times are
/// computed, and it is read as any event.
const WORK: usize = 128;

impl ScheduleSpec {
    /// What is wrong with it, for a schedule of this name.
    pub fn problem(&self, name: &ScheduleId, now: TimeMs) -> Option<String> {
        self.problem_of_times(now).or_else(|| self.event(name, now).err().map(|error| error.to_string()))
    }

    /// The event that is posted for this time.
    fn event(&self, name: &ScheduleId, due: TimeMs) -> Result<NewEvent, EventError> {
        from_template(self.event.get(), &format!("{name}@{due}"), due)
    }
}

/// A schedule in the state.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Schedule {
    topic: TopicNo,
    #[serde(with = "super::as_json")]
    spec: Arc<ScheduleSpec>,
    /// When it posts next; `None`: never.
    next: Option<TimeMs>,
    /// How often it has posted, and the time for which it has posted last.
    posted: u64,
    last: Option<TimeMs>,
    /// It waits until then, because its topic is full. Not in the log.
    #[serde(skip)]
    put_off: Option<TimeMs>,
}

impl Schedule {
    /// When to look at it next.
    fn wakes(&self) -> Option<TimeMs> {
        self.next.map(|next| self.put_off.map_or(next, |until| next.max(until)))
    }

    fn seen(&self, name: &ScheduleId) -> ScheduleSeen {
        let Self { topic: _, spec, next, posted, last, put_off: _ } = self;
        ScheduleSeen { name: name.clone(), spec: Arc::clone(spec), next: *next, posted: *posted, last: *last }
    }
}

/// All schedules, and which is due first.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Schedules {
    all: BTreeMap<ScheduleId, Schedule>,
    due: BTreeSet<(TimeMs, ScheduleId)>,
}

impl Schedules {
    pub(super) fn restore(all: BTreeMap<ScheduleId, Schedule>) -> Self {
        let due = all.iter().filter_map(|(name, schedule)| Some((schedule.wakes()?, name.clone()))).collect();
        Self { all, due }
    }

    pub(super) fn all(&self) -> &BTreeMap<ScheduleId, Schedule> {
        &self.all
    }

    pub(super) fn next_wakeup(&self) -> Option<TimeMs> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Changes a schedule, or takes it away.
    fn change(&mut self, name: &ScheduleId, change: impl FnOnce(Option<Schedule>) -> Option<Schedule>) {
        let before = self.all.remove(name);
        if let Some(at) = before.as_ref().and_then(Schedule::wakes) {
            self.due.remove(&(at, name.clone()));
        }
        if let Some(schedule) = change(before) {
            self.due.extend(schedule.wakes().map(|at| (at, name.clone())));
            self.all.insert(name.clone(), schedule);
        }
    }

    /// Folds that a schedule was set.
    pub(super) fn set(
        &mut self,
        name: &ScheduleId,
        topic: TopicNo,
        spec: ScheduleSpec,
        next: Option<TimeMs>,
    ) {
        self.change(name, |before| {
            let (posted, last) = before.map_or((0, None), |before| (before.posted, before.last));
            Some(Schedule { topic, spec: Arc::new(spec), next, posted, last, put_off: None })
        });
    }

    /// Folds that a schedule was deleted; false if there is none.
    pub(super) fn delete(&mut self, name: &ScheduleId) -> bool {
        let was_there = self.all.contains_key(name);
        self.change(name, |_| None);
        was_there
    }

    /// Folds that a schedule has posted, and when it posts next; false if there is none.
    pub(super) fn posted(&mut self, name: &ScheduleId, next: Option<TimeMs>) -> bool {
        let was_there = self.all.contains_key(name);
        self.change(name, |before| {
            let before = before?;
            Some(Schedule { last: before.next, posted: before.posted + 1, next, put_off: None, ..before })
        });
        was_there
    }

    fn put_off(&mut self, name: &ScheduleId, until: TimeMs) {
        self.change(name, |before| Some(Schedule { put_off: Some(until), ..before? }));
    }
}

impl Notify {
    pub(super) fn set_schedule(
        &mut self,
        now: TimeMs,
        (name, spec): (&ScheduleId, &ScheduleSpec),
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let Some(&topic) = self.topic_nos.get(&spec.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(spec.topic.clone())));
        };
        match self.schedules.all.get(name) {
            Some(known) if *known.spec == *spec => return Ok(Reply::Done),
            None if self.schedules.all.len() >= SCHEDULES_MAX => {
                return Ok(Reply::Refused(Refused::TooMany { what: "schedules", max: SCHEDULES_MAX }));
            }
            _ => {}
        }
        out.spend(WORK);
        // It was judged before it was sent here. By the clock, also while the log is ahead of it;
        // but nothing is posted for a second time.
        let last = self.schedules.all.get(name).and_then(|known| known.last).unwrap_or_default();
        let next = spec.next_after(now.max(last)).unwrap_or_default();
        let (name, spec, by) = (name.clone(), super::json(spec)?, by.clone());
        self.commit(now, Record::ScheduleSet { name, topic, spec, next, by }, out)?;
        Ok(Reply::Done)
    }

    pub(super) fn delete_schedule(
        &mut self,
        now: TimeMs,
        name: &ScheduleId,
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        if !self.schedules.all.contains_key(name) {
            return Ok(Reply::Refused(Refused::NoSchedule(name.clone())));
        }
        self.commit(now, Record::ScheduleDeleted { name: name.clone(), by: by.clone() }, out)?;
        Ok(Reply::Done)
    }

    /// Posts what schedules are due. One that has missed several times, while the service was down
    /// or its topic full, posts once, for the first of them.
    pub(super) fn post_scheduled(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        while let Some((at, name)) = self.schedules.due.first().cloned() {
            if at > now {
                break;
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
            let Some(schedule) = self.schedules.all.get(&name) else { break };
            let (spec, due) = (Arc::clone(&schedule.spec), schedule.next.unwrap_or(at));
            let is_full = |topic: &Topic| topic.refuses_more();
            if self.topics.get(&schedule.topic).is_some_and(is_full) {
                self.schedules.put_off(&name, now.plus(FULL_WAIT));
                continue;
            }
            out.spend(WORK);
            if let Ok(event) = spec.event(&name, due) {
                let post = Post { topic: spec.topic.clone(), events: vec![event], followed: None };
                if let Reply::Refused(Refused::Full { .. }) = self.post(now, &post, out)? {
                    self.schedules.put_off(&name, now.plus(FULL_WAIT));
                    continue;
                }
            }
            // By the clock, also while the log is ahead of it.
            let next = spec.next_after(now).unwrap_or_default();
            self.commit(now, Record::SchedulePosted { name, next }, out)?;
        }
        Ok(Progress::Done)
    }

    /// Those whose names come after this one, so many at the most.
    pub(super) fn see_schedules(&self, after: Option<&ScheduleId>, at_most: usize) -> Vec<ScheduleSeen> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let those = self.schedules.all.range((after, Bound::Unbounded)).take(at_most);
        those.map(|(name, schedule)| schedule.seen(name)).collect()
    }

    pub(super) fn see_schedule(&self, name: &ScheduleId) -> Option<ScheduleSeen> {
        self.schedules.all.get(name).map(|schedule| schedule.seen(name))
    }
}
