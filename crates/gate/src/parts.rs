//! The parts of the gate. A handler takes only the parts that it uses.

use crate::{
    attempts::Attempts, decisions::Decisions, drafts::Drafts, front::Fronts, keys::Keyring, limits::Limits,
    metrics::Metrics, passes::Passes, shop_page::ShopPage, strategy::Strategy, streams::Streams,
    way_back::WaysBack,
};
use axum::extract::FromRef;
use std::{fmt, ops::Deref, sync::Arc};
use web::{api_keys::ApiKeys, protection::Protection};

macro_rules! parts {
    ($($name:ident: $part:ty,)*) => {
        /// All parts.
        pub(crate) struct AllParts {
            $(pub(crate) $name: Arc<$part>,)*
        }

        $(impl FromRef<Parts> for Arc<$part> {
            fn from_ref(parts: &Parts) -> Self {
                Arc::clone(&parts.$name)
            }
        })*
    };
}

parts! {
    fronts: Fronts,
    drafts: Drafts,
    limits: Limits,
    passes: Passes,
    decisions: Decisions,
    attempts: Attempts,
    streams: Streams,
    ways_back: WaysBack,
    shop_page: ShopPage,
    keys: Keyring,
    strategy: Strategy,
    metrics: Metrics,
    protection: Protection,
    api_keys: ApiKeys,
}

/// All parts, as the state of a router, which copies it for each request.
#[derive(Clone)]
pub(crate) struct Parts(pub(crate) Arc<AllParts>);

impl Deref for Parts {
    type Target = AllParts;

    fn deref(&self) -> &AllParts {
        &self.0
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
