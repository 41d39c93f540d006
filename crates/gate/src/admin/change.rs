//! Changes of what sales there are, which wait for the disk.

use crate::{
    drafts::Drafts,
    front::Fronts,
    ports::Sales,
    problem::{self, Problem},
};
use contracts::SaleId;
use std::sync::Arc;

/// A sale's name in a request.
pub(super) fn sale_id(text: &str) -> Result<SaleId, Problem> {
    text.parse().map_err(|e: contracts::IdError| Problem::new(&problem::INVALID, e.to_string()))
}

/// Makes a change on a thread that may wait for the disk.
pub(super) async fn change<T: Send + 'static>(
    drafts: Arc<Drafts>,
    fronts: &Fronts,
    change: impl FnOnce(&Drafts, &dyn Sales) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let sales = Arc::clone(fronts.sales());
    let changed = tokio::task::spawn_blocking(move || change(&drafts, &*sales)).await;
    changed.unwrap_or_else(|_| Err(Problem::internal()))
}
