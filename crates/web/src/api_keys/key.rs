//! A key without its secret: its name, and what it is for.

use crate::tenants::{Right, TenantGrant};
use contracts::{Actor, TenantId, TopicId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};
use units::TimeMs;

/// What a key may do. Each role includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads figures and winners.
    ReadOnly,
    /// Helps the store's shoppers: cancels, approves and rejects returns, has links sent. Changes
    /// no price and no stock, and gives no money back.
    Support,
    /// Runs sales that are set up: opens, pauses, voids, confirms.
    Operator,
    /// Sets sales up.
    Owner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Owner => "owner",
        })
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::ReadOnly, Self::Support, Self::Operator, Self::Owner];
        let known = all.into_iter().find(|role| role.to_string() == text);
        known.ok_or_else(|| format!("role {text:?}: want owner, operator, support or read-only"))
    }
}

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Everything, as far as the role goes.
    Role(Role),
    /// A part of the message service.
    Tenant(TenantGrant),
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::Tenant(grant) => grant.fmt(f),
        }
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredKey", into = "StoredKey")]
pub struct ApiKey {
    /// 1 to 40 of `a-z`, `0-9` and `-`; the log names it as the actor.
    pub name: String,
    pub grant: Grant,
    pub created_at: TimeMs,
    /// BLAKE3 of the secret, in hexadecimal.
    pub(super) hash: String,
}

impl ApiKey {
    /// Whether the log calls what is done by itself so: it must tell that from what an operator
    /// does. Earlier builds made such keys; none may act, by whatever way.
    pub(super) fn has_logs_own_name(&self) -> bool {
        is_logs_own(&self.name)
    }

    /// None of a tenant's.
    pub(super) fn role(&self) -> Option<Role> {
        match self.grant {
            Grant::Role(role) => Some(role),
            Grant::Tenant(_) => None,
        }
    }
}

/// See [`ApiKey::has_logs_own_name`].
pub(super) fn is_logs_own(name: &str) -> bool {
    Actor::SYSTEM.contains(&name)
}

/// A key as the file has it: with a role, or with a tenant and rights.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rights: Option<BTreeSet<Right>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topics: Option<BTreeSet<TopicId>>,
    created_at: TimeMs,
    hash: String,
}

impl TryFrom<StoredKey> for ApiKey {
    type Error = String;
    fn try_from(stored: StoredKey) -> Result<Self, String> {
        let StoredKey { name, role, tenant, rights, topics, created_at, hash } = stored;
        let grant = match (role, tenant, rights, topics) {
            (Some(role), None, None, None) => Grant::Role(role),
            (None, Some(tenant), Some(rights), topics) => {
                let grant = TenantGrant { tenant, rights, topics };
                match grant.problem() {
                    Some(why) => return Err(format!("key {name:?}: {why}")),
                    None => Grant::Tenant(grant),
                }
            }
            _ => return Err(format!("key {name:?}: want a role, or a tenant and rights")),
        };
        Ok(Self { name, grant, created_at, hash })
    }
}

impl From<ApiKey> for StoredKey {
    fn from(key: ApiKey) -> Self {
        let ApiKey { name, grant, created_at, hash } = key;
        let of_role = Self { name, role: None, tenant: None, rights: None, topics: None, created_at, hash };
        match grant {
            Grant::Role(role) => Self { role: Some(role), ..of_role },
            Grant::Tenant(TenantGrant { tenant, rights, topics }) => {
                Self { tenant: Some(tenant), rights: Some(rights), topics, ..of_role }
            }
        }
    }
}
