//! Keys of tenants: each may do a part of what the message service does, with the topics and
//! subscriptions of its tenant, whose names begin with the tenant's. Which those are is all that is
//! decided here; what is not there is the context's concern.

use crate::problem::{INTERNAL, Problem};
use axum::extract::FromRequestParts;
use contracts::{ScheduleId, SubscriptionId, TenantId, TopicId};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// Topics that a key may name.
const TOPICS_MAX: usize = 100;

/// What a tenant's key may do. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Posts events.
    Produce,
    /// Takes events, and looks after what could not be delivered.
    Consume,
    /// Makes, changes and deletes topics and subscriptions.
    Manage,
}

impl Right {
    const ALL: [Self; 3] = [Self::Produce, Self::Consume, Self::Manage];
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Manage => "manage",
        })
    }
}

impl FromStr for Right {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|right| right.to_string() == text);
        known.ok_or_else(|| format!("right {text:?}: want produce, consume or manage"))
    }
}

/// Words with a comma between.
pub(crate) fn listed<T: fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    words.join(", ")
}

/// What a tenant's key may do, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantGrant {
    pub tenant: TenantId,
    pub rights: BTreeSet<Right>,
    /// It produces and consumes of these topics only; none: of all of the tenant's.
    pub topics: Option<BTreeSet<TopicId>>,
}

impl TenantGrant {
    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self { tenant, rights, topics } = self;
        if rights.is_empty() {
            return Some("rights: none, want some of produce, consume and manage".into());
        }
        let topics = topics.as_ref()?;
        if topics.is_empty() || topics.len() > TOPICS_MAX {
            return Some(format!("topics: {}, want 1 to {TOPICS_MAX}", topics.len()));
        }
        let foreign = topics.iter().find(|topic| !tenant.owns(topic.as_str()))?;
        Some(format!("topics: {foreign}: those of tenant {tenant} begin with {tenant}."))
    }

    /// The topics to which a request is narrowed that wants one of these rights. Who manages has
    /// all of the tenant's.
    pub(crate) fn narrowed(&self, wanted: &[Right]) -> Option<BTreeSet<TopicId>> {
        let manages = wanted.contains(&Right::Manage) && self.rights.contains(&Right::Manage);
        self.topics.clone().filter(|_| !manages)
    }
}

/// `acme: produce, consume (acme.orders)`.
impl fmt::Display for TenantGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tenant, listed(&self.rights))?;
        match &self.topics {
            Some(topics) => write!(f, " ({})", listed(topics)),
            None => Ok(()),
        }
    }
}

/// A tenant's caller, who has a right that the operation wants.
#[derive(Debug, PartialEq, Eq)]
pub struct OfTenant {
    /// The name of the key.
    pub key: String,
    pub tenant: TenantId,
    /// The topics to which this request is narrowed.
    pub topics: Option<BTreeSet<TopicId>>,
}

/// The names that a caller may know of.
#[derive(Debug, Clone)]
pub enum Scope {
    /// An operator's: all.
    All,
    Tenant(Arc<OfTenant>),
}

impl Scope {
    /// The tenant's caller, if it is none of an operator.
    pub fn of_tenant(&self) -> Option<&Arc<OfTenant>> {
        match self {
            Self::All => None,
            Self::Tenant(of) => Some(of),
        }
    }

    pub fn has_topic(&self, topic: &TopicId) -> bool {
        self.of_tenant().is_none_or(|of| {
            of.tenant.owns(topic.as_str()) && of.topics.as_ref().is_none_or(|topics| topics.contains(topic))
        })
    }

    /// Whether the caller may know of a subscription of this name, if it is of a topic that fits:
    /// see [`Scope::fits`].
    pub fn has_subscription(&self, name: &SubscriptionId) -> bool {
        self.of_tenant().is_none_or(|of| of.tenant.owns(name.as_str()))
    }

    /// Whether the caller may know of a schedule of this name, if it is of a topic that fits.
    pub fn has_schedule(&self, name: &ScheduleId) -> bool {
        self.of_tenant().is_none_or(|of| of.tenant.owns(name.as_str()))
    }

    /// Whether the caller may know of its own subscriptions of this topic. An operator may have
    /// made one of another's topic.
    pub fn fits(&self, topic: &TopicId) -> bool {
        let topics = self.of_tenant().and_then(|of| of.topics.as_ref());
        topics.is_none_or(|topics| topics.contains(topic))
    }
}

/// It is missing in the handler of an operation that no role guards, which is a bug: nothing is
/// shown then.
impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "an operation asks for its caller and names no role");
            Problem::new(&INTERNAL, "this operation names no role: nothing was done")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(rights: &[Right], topics: Option<&[&str]>) -> TenantGrant {
        TenantGrant {
            tenant: "acme".parse().unwrap(),
            rights: rights.iter().copied().collect(),
            topics: topics.map(|topics| topics.iter().map(|topic| topic.parse().unwrap()).collect()),
        }
    }

    #[test]
    fn a_grant_that_cannot_be_meant_is_refused() {
        let check = |grant: TenantGrant, want: Option<&str>| {
            let said = grant.problem();
            assert!(said.as_deref().map(|said| said.split(',').next().unwrap()) == want, "{said:?}");
        };
        check(grant(&[Right::Produce], None), None);
        check(grant(&[Right::Produce], Some(&["acme.orders"])), None);
        check(grant(&[], None), Some("rights: none"));
        check(grant(&[Right::Produce], Some(&[])), Some("topics: 0"));
        let foreign = "topics: acmes.orders: those of tenant acme begin with acme.";
        check(grant(&[Right::Produce], Some(&["acme.orders", "acmes.orders"])), Some(foreign));
    }

    #[test]
    fn topics_narrow_what_is_produced_and_consumed_and_not_what_is_managed() {
        let of = grant(&[Right::Consume, Right::Manage], Some(&["acme.orders"]));
        assert!(of.narrowed(&[Right::Consume]).is_some());
        assert!(of.narrowed(&[Right::Consume, Right::Manage]).is_none());
        let of = grant(&[Right::Consume], Some(&["acme.orders"]));
        assert!(of.narrowed(&[Right::Consume, Right::Manage]).is_some());
        assert_eq!(of.to_string(), "acme: consume (acme.orders)");
    }
}
