//! What the handlers of a context's API use: its service, and what protects the listener.

use crate::protection::Protection;
use axum::extract::FromRef;
use std::{fmt, sync::Arc};

/// The state of a table of operations over the service `S`.
pub struct Parts<S> {
    pub service: Arc<S>,
    pub protection: Arc<Protection>,
}

impl<S> Clone for Parts<S> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), protection: Arc::clone(&self.protection) }
    }
}

impl<S> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<S> FromRef<Parts<S>> for Arc<Protection> {
    fn from_ref(parts: &Parts<S>) -> Self {
        Arc::clone(&parts.protection)
    }
}
