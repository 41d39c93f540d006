//! Wires the sales' services into the gate's ports, by function call.

use crate::data::Data;
use crate::logs::OpenLog;
use crate::message_health;
use contracts::{
    Actor, Attempt, AttemptId, Eligibility, Found, GateRefusal, LatePayment, Mailbox, OperateError,
    Operation, OperationDone, SaleId, SaleSpec, SaleState, SaleStats, SaleView, ShopperKey, ShopperRecord,
    TimelineEntry, TimelineFilter, Told, WaitingPlace, WaitingQuery, Waitlist,
};
use engines::clock::{Clock, SteadyClock};
use engines::log::LogError;
use gate::ports::{Made, MessageService, QueueFill, Reply, Sale, SaleHealth, Sales, Unavailable, Winner};
use runtime::RecoverError;
use sale::core::CLOCK_AHEAD_MAX;
use sale::service::{self, Handle, Service, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{oneshot, watch};
use units::{Currency, Sequence, TimeMs};

/// Every sale of this process.
#[derive(Debug)]
pub(crate) struct Registry {
    data: Data,
    clock: Arc<SteadyClock>,
    settings: Settings,
    sales: RwLock<BTreeMap<SaleId, Running>>,
    /// Held while a sale is started, which waits for the disk: look-ups do not wait for that.
    starting: Mutex<()>,
    /// Sales whose log is here but could not be recovered, with the invariants that it breaks, if
    /// that is the reason.
    down: Mutex<BTreeMap<SaleId, Vec<&'static str>>>,
    /// Those of them that a passing shortage keeps down: they are tried again.
    waiting: Mutex<BTreeSet<SaleId>>,
    message_service: message_health::Health,
}

#[derive(Debug)]
struct Running {
    service: Service,
    log_id: Arc<str>,
    is_gone: Arc<AtomicBool>,
}

impl Running {
    fn wired(&self) -> Wired {
        let (log_id, is_gone) = (Arc::clone(&self.log_id), Arc::clone(&self.is_gone));
        Wired { handle: self.service.handle(), log_id, is_gone }
    }
}

/// A map is consistent between two statements, so a panic of another holder leaves nothing half
/// done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Recovers every sale of the data directory. One that cannot be recovered is logged, and does
    /// not keep the others down.
    pub(crate) fn open(data: Data, settings: Settings) -> Result<Self, RecoverError> {
        let registry = Self {
            clock: Arc::new(SteadyClock::start()),
            settings,
            sales: RwLock::default(),
            starting: Mutex::default(),
            down: Mutex::default(),
            waiting: Mutex::default(),
            message_service: message_health::Health::default(),
            data,
        };
        for sale in registry.data.sales()? {
            if let Err(error) = registry.start(&sale) {
                registry.is_down(&sale, &error);
                if error.is_shortage() {
                    lock(&registry.waiting).insert(sale);
                }
            }
        }
        Ok(registry)
    }

    /// Starts the sales that could not be brought back for a reason that may have passed.
    pub(crate) fn start_waiting(&self) {
        let waiting: Vec<SaleId> = lock(&self.waiting).iter().cloned().collect();
        for sale in waiting {
            let _starting = lock(&self.starting);
            match self.start(&sale) {
                // Another sale's log may be kept on other servers.
                Err(error) if error.is_shortage() => continue,
                Ok(_) => {}
                Err(error) => self.is_down(&sale, &error),
            }
            lock(&self.waiting).remove(&sale);
        }
    }

    /// Notes that a sale could not be brought back, and why.
    fn is_down(&self, sale: &SaleId, error: &RecoverError) {
        lock(&self.down).insert(sale.clone(), error.invariants());
        let then = match error.is_shortage() {
            true => "it is tried again every few seconds",
            false => "see the reason, then restart",
        };
        let why = crate::with_causes(error);
        tracing::error!(%sale, %why, "the sale cannot be brought back: it answers no request; {then}");
    }

    /// The clock that all sales follow.
    pub(crate) fn clock(&self) -> Arc<SteadyClock> {
        Arc::clone(&self.clock)
    }

    fn running(&self) -> RwLockReadGuard<'_, BTreeMap<SaleId, Running>> {
        self.sales.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of every sale that is set up.
    pub(crate) fn views(&self) -> Vec<Arc<SaleView>> {
        self.running().values().filter_map(|running| running.service.handle().view()).collect()
    }

    /// Every sale that is set up, for gates in other processes.
    pub(crate) fn told(&self) -> Vec<(Wired, Arc<SaleView>)> {
        let told = |running: &Running| {
            let wired = running.wired();
            let view = wired.handle.view()?;
            Some((wired, view))
        };
        self.running().values().filter_map(told).collect()
    }

    /// Every sale that has a log here, also one that could not be recovered.
    pub(crate) fn all(&self) -> Vec<SaleId> {
        self.data.sales().unwrap_or_default()
    }

    /// Every sale that is set up, for those who follow its log.
    pub(crate) fn handles(&self) -> Vec<(Handle, Arc<str>)> {
        let running = self.running();
        running.values().map(|running| (running.service.handle(), Arc::clone(&running.log_id))).collect()
    }

    pub(crate) fn has_log(&self, log_id: &str) -> bool {
        self.running().values().any(|running| *running.log_id == *log_id)
    }

    pub(crate) fn open_notify_log(&self) -> Result<OpenLog, LogError> {
        self.data.open_notify_log()
    }

    /// Whether the message service runs.
    pub(crate) fn message_service(&self) -> &message_health::Health {
        &self.message_service
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.data.dir()
    }

    /// Starts a sale from its log, unless it runs already. Called with `starting` held, or before
    /// any request.
    fn start(&self, sale: &SaleId) -> Result<Wired, RecoverError> {
        if let Some(running) = self.running().get(sale) {
            return Ok(running.wired());
        }
        let OpenLog { log, log_id } = self.data.open_log(sale)?;
        let log_id = data_encoding::HEXLOWER.encode(&log_id.0).into();
        let service = Service::start(sale.clone(), log, self.clock.clone(), self.settings)?;
        let recovery = &service.recovery;
        if let Some(why) = &recovery.passed_over {
            tracing::warn!(%sale, %why, "a snapshot was passed over; the log was replayed instead");
        }
        tracing::info!(
            %sale, snapshot = recovery.snapshot.map(|s| s.0), replayed = recovery.replayed, "sale is ready"
        );
        let ahead_ms = recovery.time.since(self.clock.now()).0;
        if ahead_ms > CLOCK_AHEAD_MAX.0 {
            tracing::error!(
                %sale, seconds = ahead_ms / 1000,
                "the sale's last entry is ahead of this machine's clock: the sale pauses until an operator resumes it; set the \
                 clock right and restart, or resume it if the log's time is right"
            );
        }
        let running = Running { service, log_id, is_gone: Arc::default() };
        let wired = running.wired();
        self.sales.write().unwrap_or_else(PoisonError::into_inner).insert(sale.clone(), running);
        lock(&self.down).remove(sale);
        Ok(wired)
    }

    /// The same for a request, which cannot wait for a passing failure.
    fn start_now(&self, sale: &SaleId) -> Result<Wired, Unavailable> {
        self.start(sale).map_err(|error| {
            let why = crate::with_causes(&error);
            tracing::error!(%sale, %why, "the sale cannot be started");
            Unavailable::Stopped(why)
        })
    }

    /// Starts a sale that was stopped in order to be deleted, and stays.
    fn start_again(&self, sale: &SaleId) {
        if let Err(error) = self.start(sale) {
            let why = crate::with_causes(&error);
            tracing::error!(%sale, %why, "the sale cannot be started again: restart the server");
            lock(&self.down).insert(sale.clone(), error.invariants());
        }
    }

    /// Makes a sale with its document as the first entry, and starts it. If anything fails, nothing
    /// of it is left.
    fn make(&self, sale: &SaleId, actor: Actor, spec: Box<SaleSpec>) -> Made {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let why = crate::with_causes(error);
            tracing::error!(%sale, %why, "the sale cannot be set up: nothing of it is left");
            Unavailable::Passing("the sale cannot be written to the disk: see the server's log".into())
        };
        let log = match self.data.begin_log(sale) {
            Ok(log) => log,
            Err(error) => {
                self.data.abandon(sale);
                return Err(failed(&error));
            }
        };
        match service::set_up(log.log, self.clock.now(), actor, spec) {
            Ok(Ok(_)) => {}
            refused => {
                self.data.abandon(sale);
                return refused.map(|done| done.map(drop));
            }
        }
        let started = match self.data.put_in_place(sale) {
            Ok(()) => self.start_now(sale),
            Err(error) => Err(failed(&error)),
        };
        if let Err(why) = started {
            if self.data.has(sale)
                && let Err(error) = self.data.take_away(sale)
            {
                tracing::error!(%sale, %error, "the sale was set up, and cannot be started or taken back: restart");
            }
            self.data.abandon(sale);
            return Err(why);
        }
        Ok(Ok(()))
    }

    /// Lets every sale decide its queued attempts, and closes the logs.
    pub(crate) fn stop(&self) {
        let sales = std::mem::take(&mut *self.sales.write().unwrap_or_else(PoisonError::into_inner));
        sales.into_values().for_each(|running| running.service.stop());
    }
}

impl Sales for Registry {
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>> {
        // A sale that was never set up exists only for the operator who sets it up.
        let id: SaleId = sale.parse().ok()?;
        let wired = self.running().get(&id).map(Running::wired)?;
        wired.handle.view().is_some().then(|| Arc::new(wired) as Arc<dyn Sale>)
    }

    fn list(&self) -> Vec<SaleId> {
        let set_up = |(id, running): (&SaleId, &Running)| {
            running.service.handle().view().is_some().then(|| id.clone())
        };
        self.running().iter().filter_map(set_up).collect()
    }

    fn down(&self) -> Vec<SaleId> {
        lock(&self.down).keys().cloned().collect()
    }

    fn message_service(&self) -> MessageService {
        self.message_service.now()
    }

    fn health(&self, sale: &SaleId) -> SaleHealth {
        if let Some(broken) = lock(&self.down).get(sale) {
            return SaleHealth { stopped: true, invariants_broken: broken.clone() };
        }
        let handle = self.running().get(sale).map(|running| running.service.handle());
        handle.map_or_else(SaleHealth::default, |handle| SaleHealth {
            stopped: handle.stopped().is_some(),
            invariants_broken: handle.invariants_broken(),
        })
    }

    fn define(&self, sale: &SaleId, actor: Actor, spec: Box<SaleSpec>) -> Made {
        let running = {
            let _starting = lock(&self.starting);
            if self.running().get(sale).is_none() && !self.data.has(sale) {
                return self.make(sale, actor, spec);
            }
            self.start_now(sale)?
        };
        let done = running.handle.operate(actor, Operation::Define(spec)).blocking_recv();
        let done = done.unwrap_or_else(|_| Err(Unavailable::Passing("the sale is stopping".into())))?;
        Ok(done.map(drop))
    }

    fn delete(&self, sale: &SaleId) -> Made {
        let refused = |why: String| {
            let advice = "; only what never opened, and no shopper has an entry in, can be deleted";
            Ok(Err(OperateError::Conflict(format!("delete: {why}{advice}"))))
        };
        let _starting = lock(&self.starting);
        let Some(view) = self.running().get(sale).map(|running| running.service.handle().view()) else {
            return match self.data.has(sale) {
                true => refused("its log could not be read at the start".into()),
                false => Ok(Err(OperateError::NotFound(format!("delete: no sale {sale}")))),
            };
        };
        if view.is_some_and(|view| view.rounds_opened > 0) {
            return refused("the sale has opened".into());
        }
        let kept_for = || self.data.read_log(sale).and_then(|mut log| service::kept_for(&mut log));
        // A sale that stays goes on meanwhile.
        if let Ok(Some(why)) = kept_for() {
            return refused(why);
        }
        // Whatever shoppers and timers do at this moment is decided before the log is looked at
        // again.
        let running = self.sales.write().unwrap_or_else(PoisonError::into_inner).remove(sale);
        if let Some(running) = running {
            running.is_gone.store(true, Ordering::Relaxed);
            running.service.stop();
        }
        let taken = match kept_for() {
            Ok(None) => self.data.take_away(sale).map_err(|error| error.to_string()),
            Ok(Some(why)) => {
                self.start_again(sale);
                return refused(why);
            }
            Err(error) => Err(crate::with_causes(&error)),
        };
        if let Err(why) = taken {
            self.start_again(sale);
            tracing::error!(%sale, %why, "the sale cannot be deleted");
            return Err(Unavailable::Passing("the sale cannot be deleted now: see the server's log".into()));
        }
        Ok(Ok(()))
    }

    fn now(&self) -> TimeMs {
        self.clock.now()
    }
}

/// A running sale, for callers.
#[derive(Debug, Clone)]
pub(crate) struct Wired {
    pub(crate) handle: Handle,
    pub(crate) log_id: Arc<str>,
    is_gone: Arc<AtomicBool>,
}

impl Sale for Wired {
    fn view(&self) -> Arc<SaleView> {
        self.handle.view().unwrap_or_else(|| Arc::new(not_set_up(self.handle.sale())))
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    fn attempt(&self, attempt: Attempt, patience_ms: u64) -> Reply<Told> {
        self.handle.attempt(attempt, patience_ms)
    }

    fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>) {
        self.handle.attempts(to, patience_ms, batch);
    }

    fn may_have(&self, shopper: ShopperKey) -> bool {
        self.handle.may_have(shopper)
    }

    fn expect(&self, shopper: ShopperKey) {
        self.handle.known().ask(shopper);
    }

    fn no_longer_expect(&self, shopper: ShopperKey) {
        self.handle.known().decided(shopper);
    }

    fn gate_refused(&self, counts: &[GateRefusal]) {
        self.handle.gate_refused(counts);
    }

    fn queue(&self) -> QueueFill {
        let ((length, line), (max, line_max)) = (self.handle.queue_len(), self.handle.queue_max());
        QueueFill { length: length as u64, max: max as u64, line: line as u64, line_max: line_max as u64 }
    }

    fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Option<Told>> {
        let (sender, receiver) = oneshot::channel();
        // The receiver still exists here.
        let _ = sender.send(self.handle.position(attempt, shopper));
        receiver
    }

    fn log_id(&self) -> &str {
        &self.log_id
    }

    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Found> {
        self.handle.lookup(attempt, shopper)
    }

    fn shopper(&self, shopper: ShopperKey) -> Reply<ShopperRecord> {
        self.handle.shopper(shopper)
    }

    fn operate(&self, actor: Actor, operation: Operation) -> Reply<Result<OperationDone, OperateError>> {
        self.handle.operate(actor, operation)
    }

    fn stats(&self) -> Reply<SaleStats> {
        self.handle.stats()
    }

    fn waiting(&self, query: WaitingQuery) -> Reply<Vec<WaitingPlace>> {
        self.handle.waiting(query)
    }

    fn times(&self, of: &[Sequence]) -> Result<Vec<TimeMs>, Unavailable> {
        self.handle.times(of)
    }

    fn sequence(&self) -> watch::Receiver<Sequence> {
        self.handle.sequence()
    }

    fn timeline(
        &self,
        after: Sequence,
        wanted: TimelineFilter,
        max: usize,
    ) -> Result<(Vec<TimelineEntry>, Sequence), Unavailable> {
        self.handle.timeline(after, wanted, max)
    }

    fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        self.handle.winners(after, max)
    }
}

/// The view of a sale for the operator who is setting it up.
fn not_set_up(sale: &SaleId) -> SaleView {
    let at = TimeMs(0);
    let spec = SaleSpec {
        name: sale.to_string(),
        name_zh: None,
        currency: Currency::NONE,
        eligibility: Eligibility::default(),
        limit_per_shopper: 0,
        hold_seconds: 0,
        late_payment: LatePayment::default(),
        waitlist: Waitlist::default(),
        waitlist_ends_at: None,
        items: Vec::new(),
        rounds: Vec::new(),
    };
    SaleView {
        sale: sale.clone(),
        spec: Arc::new(spec),
        state: SaleState::Scheduled,
        rounds_opened: 0,
        opens_at: at,
        closes_at: at,
        items: Vec::new(),
        limit_per_shopper: 0,
        rate_per_second: 0,
        disk_full: false,
        pause: None,
        is_restored: false,
        state_since: Sequence(0),
        denied: Arc::default(),
        as_of: Sequence(0),
    }
}
