//! What a seed's topics, subscriptions and events are called.

use contracts::{Actor, SubscriptionId, TopicId};
use notify::core::NewEvent;
use notify::core::record::Key;
use notify::filter::{Attributes, Filter};
use std::collections::BTreeMap;
use units::TimeMs;

/// The topics that a seed may have, and one that no seed makes.
pub(crate) const TOPICS: [&str; 2] = ["sales", "orders"];
pub(crate) const NO_TOPIC: &str = "nothing";

/// The names of subscriptions. A name that was deleted is given away again.
pub(crate) const SUBSCRIPTIONS: [&str; 5] = ["crm", "mail", "search", "stock", "ledger"];

/// The types of events.
pub(crate) const KINDS: [&str; 4] = ["sale.granted", "sale.expired", "order.paid", "order.sent"];

pub(crate) fn topic(name: &str) -> TopicId {
    name.parse().expect("a name of letters")
}

pub(crate) fn subscription(name: &str) -> SubscriptionId {
    name.parse().expect("a name of letters")
}

/// Who gives all commands.
pub(crate) fn operator() -> Actor {
    Actor::new("simulator", "because")
}

/// An event as its publisher means it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct What {
    pub(crate) name: u64,
    /// Another event of the same name has another one.
    pub(crate) content: u64,
    pub(crate) kind: usize,
    pub(crate) key: Option<u64>,
    /// It is to be published then, if that is later.
    pub(crate) due: Option<TimeMs>,
}

impl What {
    pub(crate) fn event(&self) -> NewEvent {
        let attributes: Attributes =
            [("id", self.name.to_string()), ("type", KINDS[self.kind].into()), ("source", "/sim".into())]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
        NewEvent {
            identity: u128::from(self.name),
            content: self.content,
            key: self.key.map(Key),
            due: self.due,
            attributes,
            body: format!("{}/{}/{}", self.name, self.content, KINDS[self.kind]).into_bytes().into(),
        }
    }
}

/// Which events a subscription wants: what is asked of the core, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    All,
    Only(usize),
    NotThis(usize),
    Beginning(&'static str),
    /// Either of these.
    Two(usize, usize),
    /// Two filters that no event passes at once.
    None,
}

/// What begins the types of a family of events.
pub(crate) const FAMILIES: [&str; 2] = ["sale.", "order."];

fn types(value: &str) -> Attributes {
    BTreeMap::from([("type".to_owned(), value.to_owned())])
}

impl Wants {
    pub(crate) fn filters(self) -> Vec<Filter> {
        let exact = |kind: usize| Filter::Exact(types(KINDS[kind]));
        match self {
            Self::All => Vec::new(),
            Self::Only(kind) => vec![exact(kind)],
            Self::NotThis(kind) => vec![Filter::Not(Box::new(exact(kind)))],
            Self::Beginning(family) => vec![Filter::Prefix(types(family))],
            Self::Two(a, b) => vec![Filter::Any(vec![exact(a), exact(b)])],
            Self::None => FAMILIES.map(|family| Filter::Prefix(types(family))).to_vec(),
        }
    }

    fn of(filters: &[Filter]) -> Option<Self> {
        let kinds = 0..KINDS.len();
        let mut all = vec![Self::All, Self::None];
        all.extend(FAMILIES.map(Self::Beginning));
        all.extend(kinds.clone().flat_map(|kind| [Self::Only(kind), Self::NotThis(kind)]));
        all.extend(kinds.clone().flat_map(|a| kinds.clone().map(move |b| Self::Two(a, b))));
        all.into_iter().find(|wants| wants.filters() == filters)
    }

    fn passes(self, kind: usize) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => kind == only,
            Self::NotThis(other) => kind != other,
            Self::Beginning(family) => KINDS[kind].starts_with(family),
            Self::Two(a, b) => kind == a || kind == b,
            Self::None => false,
        }
    }
}

/// Whether an event of this kind passes filters that a seed has made, by what they mean, and not by
/// what the service makes of them. `None` for filters that no seed makes.
pub(crate) fn passes(filters: &[Filter], kind: usize) -> Option<bool> {
    Wants::of(filters).map(|wants| wants.passes(kind))
}

/// Another log, from which events are derived, one for each entry.
pub(crate) const FOLLOWED: &str = "sale-1";

/// The name of the event that an entry of the other log gives.
pub(crate) fn derived_name(entry: u64) -> u64 {
    DERIVED_FROM + entry
}

/// The first of the names of derived events.
const DERIVED_FROM: u64 = 1 << 40;
