//! Requests that want the same rows, carried out by one transaction: those that come while others
//! are being stored wait together, and are the next transaction. One that comes alone is one alone.
//!
//! Each request has an answer of its own. A transaction that fails as a whole because one of its
//! requests cannot be carried out, or takes too long, is tried again with each of them alone. What
//! passes, such as a full disk or a server that is away, is told to all of them.

use super::{Job, Kind, Sql, SqlError, Tx, Verdict};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Transactions under way at once: while one is stored, others wait for its locks, or have rows of
/// their own.
const AT_ONCE: usize = 3;

/// What bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that wait, and their weight; more are refused.
    pub waiting_max: usize,
    pub waiting_weight_max: usize,
    /// The weight of one transaction. A request that is heavier goes alone.
    pub weight_max: usize,
}

type Body<R, A, E> = dyn Fn(&mut Tx<'_>, &[R]) -> Result<Vec<Result<A, E>>, SqlError> + Send + Sync;
type Tell<A, E> = oneshot::Sender<Result<A, E>>;

struct Waiting<R, A, E> {
    request: R,
    weight: usize,
    tell: Tell<A, E>,
}

struct Queue<R, A, E> {
    waiting: VecDeque<Waiting<R, A, E>>,
    weight: usize,
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
    E: From<SqlError> + Send + 'static,
{
    /// `body` carries out requests in one transaction, and returns an answer for each, in their
    /// order. It may be called again, and changes nothing but the database. What it answers with an
    /// error it has not written, or taken back.
    pub fn new(
        sql: Sql,
        bounds: Bounds,
        body: impl Fn(&mut Tx<'_>, &[R]) -> Result<Vec<Result<A, E>>, SqlError> + Send + Sync + 'static,
    ) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), weight: 0, under_way: 0 });
        Self(Arc::new(Inner { sql, bounds, body: Box::new(body), queue }))
    }

    /// The answer, when it is stored. If the caller goes away it may be carried out or not.
    pub async fn ask(&self, request: R, weight: usize) -> Result<A, E> {
        let (tell, told) = oneshot::channel();
        let Bounds { waiting_max, waiting_weight_max, .. } = self.0.bounds;
        let is_one_more = {
            let mut queue = self.0.lock();
            if queue.waiting.len() >= waiting_max || queue.weight >= waiting_weight_max {
                return Err(SqlError::Busy.into());
            }
            queue.weight += weight;
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
            Err(_) => Err(SqlError::Defect("a transaction was not ended".into()).into()),
        }
    }

    /// Requests that wait, and transactions under way.
    pub(super) fn load(&self) -> (usize, usize) {
        let queue = self.0.lock();
        (queue.waiting.len(), queue.under_way)
    }
}

impl<R, A, E> Inner<R, A, E> {
    fn lock(&self) -> MutexGuard<'_, Queue<R, A, E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests that fit into one transaction, without those whose callers have gone.
    fn take(&self) -> (Vec<R>, Vec<Tell<A, E>>) {
        let mut queue = self.lock();
        let (mut requests, mut callers, mut weight) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            if !requests.is_empty() && weight + next.weight > self.bounds.weight_max {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            queue.weight -= next.weight;
            if !next.tell.is_closed() {
                weight += next.weight;
                requests.push(next.request);
                callers.push(next.tell);
            }
        }
        (requests, callers)
    }
}

/// Gives the engine a transaction for what waits; it counts as under way already.
fn submit<R, A, E>(inner: &Arc<Inner<R, A, E>>)
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Send + 'static,
{
    loop {
        let batch = Batch {
            inner: Arc::clone(inner),
            requests: Vec::new(),
            callers: Vec::new(),
            said: None,
            has_run: false,
            holds_place: true,
        };
        let Err(error) = inner.sql.engine.submit(Box::new(batch), Kind::Write) else { return };
        // Others that are under way take what waits. Without any it is told, some at a time, for
        // there may be room for the rest.
        if inner.lock().under_way > 0 {
            return;
        }
        tell_all(inner.take().1, &error);
        let mut queue = inner.lock();
        if queue.waiting.is_empty() || queue.under_way > 0 {
            return;
        }
        queue.under_way += 1;
    }
}

fn tell_all<A, E: From<SqlError>>(callers: Vec<Tell<A, E>>, error: &SqlError) {
    for tell in callers {
        // The caller may have gone.
        let _ = tell.send(Err(error.clone().into()));
    }
}

struct Batch<R, A, E>
where
    E: From<SqlError>,
{
    inner: Arc<Inner<R, A, E>>,
    /// Taken from what waits when it is run for the first time.
    requests: Vec<R>,
    callers: Vec<Tell<A, E>>,
    said: Option<Result<Vec<Result<A, E>>, SqlError>>,
    has_run: bool,
    /// Whether it counts as under way.
    holds_place: bool,
}

impl<R, A, E> Job for Batch<R, A, E>
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        self.said = None;
        if !self.has_run && self.holds_place {
            (self.requests, self.callers) = self.inner.take();
        }
        self.has_run = true;
        if self.requests.is_empty() {
            return Verdict::Rollback;
        }
        let said = (self.inner.body)(tx, &self.requests).and_then(|said| match said.len() {
            count if count == self.requests.len() => Ok(said),
            count => Err(SqlError::Defect(format!("{count} answers to {} requests", self.requests.len()))),
        });
        // Without a request that was carried out there is nothing to store.
        let is_done = said.as_ref().is_ok_and(|said| said.iter().any(Result::is_ok));
        self.said = Some(said);
        if is_done { Verdict::Commit } else { Verdict::Rollback }
    }

    fn end(mut self: Box<Self>, stored: Result<(), SqlError>, is_own: bool) {
        let inner = Arc::clone(&self.inner);
        if !self.has_run && self.holds_place {
            // The database could not even be asked: those who would have been next are told so.
            (self.requests, self.callers) = inner.take();
        }
        let (requests, callers) = (std::mem::take(&mut self.requests), std::mem::take(&mut self.callers));
        let said = match (stored, self.said.take()) {
            (Err(_), Some(Err(refused))) if is_own => Err(refused),
            (Err(error), _) => Err(error),
            (Ok(()), Some(said)) => said,
            (Ok(()), None) => Err(SqlError::Defect("a transaction's function panicked".into())),
        };
        // What waits goes on before anybody is told: who is told asks for more.
        if std::mem::take(&mut self.holds_place) {
            let is_more = {
                let mut queue = inner.lock();
                let is_more = !queue.waiting.is_empty();
                queue.under_way -= usize::from(!is_more);
                is_more
            };
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
            Err(error) if requests.len() > 1 && (!error.passes() || error == SqlError::TooLong) => {
                alone(&inner, requests, callers);
            }
            Err(error) => tell_all(callers, &error),
        }
    }
}

/// Gives each of these requests a transaction of its own.
fn alone<R, A, E>(inner: &Arc<Inner<R, A, E>>, requests: Vec<R>, callers: Vec<Tell<A, E>>)
where
    R: Send + Sync + 'static,
    A: Send + 'static,
    E: From<SqlError> + Send + 'static,
{
    for (request, tell) in requests.into_iter().zip(callers) {
        let (requests, callers) = (vec![request], vec![tell]);
        let (inner, said, has_run, holds_place) = (Arc::clone(inner), None, false, false);
        let sql = inner.sql.clone();
        let batch = Batch { inner, requests, callers, said, has_run, holds_place };
        // One that is not taken tells its caller when it is dropped.
        let _ = sql.engine.submit(Box::new(batch), Kind::Write);
    }
}

impl<R, A, E: From<SqlError>> Drop for Batch<R, A, E> {
    /// It has ended, or the engine has not taken it.
    fn drop(&mut self) {
        tell_all(std::mem::take(&mut self.callers), &SqlError::Busy);
        if self.holds_place {
            self.inner.lock().under_way -= 1;
        }
    }
}
