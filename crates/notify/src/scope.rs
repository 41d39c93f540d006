//! The topic, the subscription and the schedule that a path names, for a caller who may know of
//! them. For a tenant, what is another's is answered as what does not exist, without a look whether
//! it does.

use crate::{
    core::{EventSeen, Owed, SCHEDULES_MAX, ScheduleSeen, SubscriptionSeen},
    parts::{PAGE_MAX, Running},
    problem::{NOT_FOUND, Problem, no_schedule, no_subscription, no_topic},
};
use axum::extract::{FromRef, FromRequestParts, Path};
use contracts::{ScheduleId, SubscriptionId, TopicId};
use http::request::Parts;
use std::{collections::BTreeMap, sync::Arc};
use web::tenants::Scope;

pub(crate) fn topic_id(text: &str) -> Result<TopicId, Problem> {
    text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

pub(crate) fn subscription_id(text: &str) -> Result<SubscriptionId, Problem> {
    text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

async fn named<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let mut all = Path::<BTreeMap<String, String>>::from_request_parts(parts, state)
        .await
        .map_err(|error| Problem::new(&NOT_FOUND, error.to_string()))?;
    all.0.remove(name).ok_or_else(|| Problem::new(&NOT_FOUND, format!("no {name} in the path")))
}

/// `{topic}`, of which the caller may know.
#[derive(Debug)]
pub(crate) struct KnownTopic(pub(crate) TopicId);

impl<S: Send + Sync> FromRequestParts<S> for KnownTopic {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let topic = topic_id(&named(parts, state, "topic").await?)?;
        let scope = Scope::from_request_parts(parts, state).await?;
        if scope.has_topic(&topic) { Ok(Self(topic)) } else { Err(no_topic(&topic)) }
    }
}

/// `{subscription}`, of which the caller may know.
#[derive(Debug)]
pub(crate) struct KnownSubscription(pub(crate) SubscriptionId);

impl<S> FromRequestParts<S> for KnownSubscription
where
    S: Send + Sync,
    Arc<Running>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = subscription_id(&named(parts, state, "subscription").await?)?;
        let scope = Scope::from_request_parts(parts, state).await?;
        if !scope.has_subscription(&name) {
            return Err(no_subscription(&name));
        }
        let is_narrowed = scope.of_tenant().is_some_and(|of| of.topics.is_some());
        if is_narrowed {
            let seen = Arc::<Running>::from_ref(state).subscription(&name).await?;
            if !scope.fits(&seen.spec.topic) {
                return Err(no_subscription(&name));
            }
        }
        Ok(Self(name))
    }
}

/// `{schedule}`, of which the caller may know.
#[derive(Debug)]
pub(crate) struct KnownSchedule(pub(crate) ScheduleId);

impl<S> FromRequestParts<S> for KnownSchedule
where
    S: Send + Sync,
    Arc<Running>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = named(parts, state, "schedule").await?;
        let name: ScheduleId = text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))?;
        let scope = Scope::from_request_parts(parts, state).await?;
        if !scope.has_schedule(&name) {
            return Err(no_schedule(&name));
        }
        let is_narrowed = scope.of_tenant().is_some_and(|of| of.topics.is_some());
        if is_narrowed {
            match Arc::<Running>::from_ref(state).schedule(&name).await {
                Ok(seen) if !scope.fits(&seen.spec.topic) => return Err(no_schedule(&name)),
                Ok(_) => {}
                Err(problem) if problem.is(&NOT_FOUND) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(Self(name))
    }
}

impl Running {
    /// Those of the caller whose names come after this one, so many at the most.
    pub(crate) async fn schedules_of(
        &self,
        scope: &Scope,
        after: Option<ScheduleId>,
        at_most: usize,
    ) -> Result<Vec<ScheduleSeen>, Problem> {
        if scope.of_tenant().is_none() {
            return self.schedules(after, at_most).await;
        }
        let mut own = self.schedules(after, SCHEDULES_MAX).await?;
        own.retain(|seen| scope.has_schedule(&seen.name) && scope.fits(&seen.spec.topic));
        own.truncate(at_most);
        Ok(own)
    }

    /// Those of the caller whose names come after this one, so many at the most.
    pub(crate) async fn subscriptions_of(
        &self,
        scope: &Scope,
        after: Option<SubscriptionId>,
        at_most: usize,
    ) -> Result<Vec<SubscriptionSeen>, Problem> {
        let Some(of) = scope.of_tenant() else { return self.subscriptions(after, at_most).await };
        // Its own come after the tenant's name, and before any that neither is nor begins with it.
        let tenant: SubscriptionId = subscription_id(of.tenant.as_str())?;
        let mut after = after.map_or(tenant.clone(), |after| after.max(tenant));
        let mut own = Vec::new();
        loop {
            let page = self.subscriptions(Some(after), PAGE_MAX).await?;
            let Some(last) = page.last().map(|last| last.name.clone()) else { break };
            let is_last = page.len() < PAGE_MAX || !last.as_str().starts_with(of.tenant.as_str());
            let is_own =
                |seen: &SubscriptionSeen| scope.has_subscription(&seen.name) && scope.fits(&seen.spec.topic);
            own.extend(page.into_iter().filter(is_own));
            if is_last || own.len() >= at_most {
                break;
            }
            after = last;
        }
        own.truncate(at_most);
        Ok(own)
    }
}

/// What the caller may know of an event: which of its own subscriptions have had it.
pub(crate) fn own_part(scope: &Scope, seen: EventSeen) -> EventSeen {
    let EventSeen { sequence, at, owed, numbers } = seen;
    let is_own = |owed: &Owed| match owed {
        Owed::Delivered { to } | Owed::Waiting { to, .. } | Owed::Dead { to, .. } => {
            scope.has_subscription(to)
        }
    };
    EventSeen {
        sequence,
        at,
        owed: owed.into_iter().filter(is_own).collect(),
        numbers: numbers.into_iter().filter(|(_, name)| scope.has_subscription(name)).collect(),
    }
}
