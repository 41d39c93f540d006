//! Requests that want the same rows, carried out by one transaction: those that come while others
//! are being stored wait together, and are the next transaction. One that comes alone is one alone.
//!
//! Each request has an answer of its own. A transaction that fails as a whole, by a defect or a
//! function that panics, is tried again with each of its requests alone, so that one which cannot
//! be carried out fails for itself.

use super::{Job, Kind, Sql, SqlError, Tx, Verdict};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Transactions under way at once: while one is stored, the next one waits for its locks.
const AT_ONCE: usize = 2;

/// What bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that wait; more are refused.
    pub waiting_max: usize,
    /// The weight of one transaction. A request that is heavier goes alone.
    pub weight_max: usize,
}

type Body<R, A, E> = dyn Fn(&mut Tx<'_>, &[R]) -> Result<Vec<Result<A, E>>, E> + Send + Sync;

struct Waiting<R, A, E> {
    request: R,
    weight: usize,
    tell: oneshot::Sender<Result<A, E>>,
}

struct Queue<R, A, E> {
    waiting: VecDeque<Waiting<R, A, E>>,
    under_way: usize,
}

struct Inner<R, A, E> {
    sql: Sql,
    bounds: Bounds,
    body: Box<Body<R, A, E>>,
    queue: Mutex<Queue<R, A, E>>,
}

/// Carries out requests `R`, with answers `A` or `E`. Clones share it.
pub struct Together<R, A, E>(Arc<Inner<R, A, E>>);

impl<R, A, E> Clone for Together<R, A, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R, A, E> fmt::Debug for Together<R, A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<R, A, E> Together<R, A, E>
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    /// `body` carries out requests in one transaction, and returns an answer for each, in their
    /// order. It may be called again, and changes nothing but the database. What it answers with an
    /// error it has not written, or taken back.
    pub fn new(
        sql: Sql,
        bounds: Bounds,
        body: impl Fn(&mut Tx<'_>, &[R]) -> Result<Vec<Result<A, E>>, E> + Send + Sync + 'static,
    ) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), under_way: 0 });
        Self(Arc::new(Inner { sql, bounds, body: Box::new(body), queue }))
    }

    /// The answer, when it is stored. Once it waits it is carried out, also if the caller goes away.
    pub async fn ask(&self, request: R, weight: usize) -> Result<A, E> {
        let (tell, told) = oneshot::channel();
        let is_one_more = {
            let mut queue = self.0.lock();
            if queue.waiting.len() >= self.0.bounds.waiting_max {
                return Err(SqlError::Busy.into());
            }
            queue.waiting.push_back(Waiting { request, weight, tell });
            let is_one_more = queue.under_way < AT_ONCE;
            queue.under_way += usize::from(is_one_more);
            is_one_more
        };
        if is_one_more {
            submit(&self.0);
        }
        match told.await {
            Ok(said) => said,
            Err(_) => Err(SqlError::Defect("a transaction's function panicked".into()).into()),
        }
    }
}

impl<R, A, E> Inner<R, A, E> {
    fn lock(&self) -> MutexGuard<'_, Queue<R, A, E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests that fit into one transaction.
    fn take(&self) -> (Vec<R>, Vec<oneshot::Sender<Result<A, E>>>) {
        let mut queue = self.lock();
        let (mut requests, mut callers, mut weight) = (Vec::new(), Vec::new(), 0usize);
        while let Some(next) = queue.waiting.front() {
            weight = weight.saturating_add(next.weight);
            if !requests.is_empty() && weight > self.bounds.weight_max {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            requests.push(next.request);
            callers.push(next.tell);
        }
        (requests, callers)
    }
}

/// Gives the engine a transaction for what waits; it counts as under way already.
fn submit<R, A, E>(inner: &Arc<Inner<R, A, E>>)
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    let (inner, holds_place) = (Arc::clone(inner), true);
    let sql = inner.sql.clone();
    let batch = Batch { inner, requests: Vec::new(), callers: Vec::new(), said: None, holds_place };
    if let Err(error) = sql.engine.submit(Box::new(batch), Kind::Write) {
        tracing::debug!(%error, "requests that wait together: their transaction was not taken");
    }
}

struct Batch<R, A, E>
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    inner: Arc<Inner<R, A, E>>,
    /// Taken from what waits when it is run for the first time.
    requests: Vec<R>,
    callers: Vec<oneshot::Sender<Result<A, E>>>,
    said: Option<Result<Vec<Result<A, E>>, E>>,
    /// Whether it counts as under way.
    holds_place: bool,
}

impl<R, A, E> Job for Batch<R, A, E>
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        self.said = None;
        if self.requests.is_empty() && self.holds_place {
            (self.requests, self.callers) = self.inner.take();
        }
        if self.requests.is_empty() {
            return Verdict::Rollback;
        }
        let said = (self.inner.body)(tx, &self.requests);
        let verdict = if said.is_ok() { Verdict::Commit } else { Verdict::Rollback };
        self.said = Some(said);
        verdict
    }

    fn end(mut self: Box<Self>, stored: Result<(), SqlError>, is_own: bool) {
        let (requests, callers) = (std::mem::take(&mut self.requests), std::mem::take(&mut self.callers));
        let inner = Arc::clone(&self.inner);
        let said = match (stored, self.said.take()) {
            (Err(_), Some(Err(refused))) if is_own => Err((refused, true)),
            (Ok(()), Some(Ok(said))) if said.len() == requests.len() => Ok(said),
            (Ok(()), Some(Err(refused))) => Err((refused, true)),
            // It panicked, or did not answer each.
            (Ok(()), _) => Err((SqlError::Defect("a transaction did not answer".into()).into(), true)),
            (Err(error), _) => {
                let is_defect = !error.passes() || error == SqlError::TooLong;
                Err((error.into(), is_defect))
            }
        };
        // What waits goes on before anybody is told: who is told asks for more.
        if self.holds_place {
            let is_more = {
                let mut queue = inner.lock();
                let is_more = !queue.waiting.is_empty();
                queue.under_way -= usize::from(!is_more);
                is_more
            };
            self.holds_place = false;
            if is_more {
                submit(&inner);
            }
        }
        match said {
            Ok(said) => {
                for (tell, said) in callers.into_iter().zip(said) {
                    // The caller may have gone.
                    let _ = tell.send(said);
                }
            }
            Err((_, true)) if requests.len() > 1 => alone(&inner, requests, callers),
            Err((error, _)) => {
                for tell in callers {
                    let _ = tell.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Gives each of these requests a transaction of its own.
fn alone<R, A, E>(inner: &Arc<Inner<R, A, E>>, requests: Vec<R>, callers: Vec<oneshot::Sender<Result<A, E>>>)
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    for (request, tell) in requests.into_iter().zip(callers) {
        let batch = Batch {
            inner: Arc::clone(inner),
            requests: vec![request],
            callers: vec![tell],
            said: None,
            holds_place: false,
        };
        if let Err(error) = inner.sql.engine.submit(Box::new(batch), Kind::Write) {
            tracing::debug!(%error, "a request that goes alone: its transaction was not taken");
        }
    }
}

impl<R, A, E> Drop for Batch<R, A, E>
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Clone + Send + 'static,
{
    /// It has ended, or the engine does not take it: then its callers are told, and those that wait
    /// for it.
    fn drop(&mut self) {
        let mut gone: Vec<_> = self.callers.drain(..).collect();
        if self.holds_place {
            let mut queue = self.inner.lock();
            queue.under_way -= 1;
            // Another one takes what waits.
            if queue.under_way == 0 {
                gone.extend(queue.waiting.drain(..).map(|waiting| waiting.tell));
            }
        }
        for tell in gone {
            let _ = tell.send(Err(SqlError::Busy.into()));
        }
    }
}
