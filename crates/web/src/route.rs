//! The table of a listener's routes: method, path and what answers.

use axum::{Router, routing::MethodRouter};

/// A row of the table.
#[derive(Debug)]
pub struct Route<S> {
    /// In lower case.
    pub method: &'static str,
    pub path: &'static str,
    pub handler: MethodRouter<S>,
}

/// A row of a table of routes.
pub fn route<S>(method: &'static str, path: &'static str, handler: MethodRouter<S>) -> Route<S> {
    Route { method, path, handler }
}

/// Puts a table of routes into a router.
pub fn router<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
}
