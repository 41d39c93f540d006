//! The services of one life of the process, as those outside of it have them.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// The services, and their loops.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) orders: Arc<order::service::Service>,
    pub(crate) list: order::list::List,
    pub(crate) payments: Arc<payment::service::Service>,
    pub(crate) stock: Arc<inventory::service::Service>,
    loops: Mutex<Vec<JoinSet<()>>>,
}

impl Process {
    pub(crate) fn new(
        orders: Arc<order::service::Service>,
        list: order::list::List,
        payments: Arc<payment::service::Service>,
        stock: Arc<inventory::service::Service>,
        loops: Vec<JoinSet<()>>,
    ) -> Self {
        Self { orders, list, payments, stock, loops: Mutex::new(loops) }
    }

    /// Ends all loops where they are.
    pub(crate) fn end(&self) {
        let loops = std::mem::take(&mut *self.loops.lock().unwrap_or_else(PoisonError::into_inner));
        drop(loops);
    }
}
