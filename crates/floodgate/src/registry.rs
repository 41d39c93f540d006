//! Wires the sales' services into the gate's ports, by function call.

use crate::data::Data;
use contracts::{
    Actor, Attempt, AttemptId, Eligibility, Found, GateRefusal, LatePayment, Mailbox, OperateError,
    Operation, OperationDone, SaleId, SaleSpec, SaleState, SaleStats, SaleView, ShopperKey, ShopperRecord,
    TimelineEntry, TimelineFilter, Told, Waitlist,
};
use engines::clock::{Clock, SteadyClock};
use gate::ports::{QueueFill, Reply, Sale, SaleHealth, Sales, Unavailable, Winner};
use runtime::RecoverError;
use sale::core::CLOCK_AHEAD_MAX;
use sale::service::{Handle, Service, Settings};
use std::collections::BTreeMap;
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
}

#[derive(Debug)]
struct Running {
    service: Service,
    log_id: Arc<str>,
}

impl Running {
    fn wired(&self) -> Wired {
        Wired { handle: self.service.handle(), log_id: Arc::clone(&self.log_id) }
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
            data,
        };
        for sale in registry.data.sales()? {
            if let Err(error) = registry.start(&sale) {
                let why = crate::with_causes(&error);
                tracing::error!(%sale, %why, "the sale cannot be brought back: it answers nobody; see the reason, then restart");
                lock(&registry.down).insert(sale, error.invariants());
            }
        }
        Ok(registry)
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
    pub(crate) fn told(&self) -> Vec<(Handle, Arc<str>, Arc<SaleView>)> {
        let told = |running: &Running| {
            let handle = running.service.handle();
            let view = handle.view()?;
            Some((handle, Arc::clone(&running.log_id), view))
        };
        self.running().values().filter_map(told).collect()
    }

    /// Every sale that has a log here, also one that could not be recovered.
    pub(crate) fn all(&self) -> Vec<SaleId> {
        self.data.sales().unwrap_or_default()
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.data.dir()
    }

    fn start(&self, sale: &SaleId) -> Result<Wired, RecoverError> {
        let _starting = lock(&self.starting);
        if let Some(running) = self.running().get(sale) {
            return Ok(running.wired());
        }
        let log = self.data.open_log(sale)?;
        let log_id = data_encoding::HEXLOWER.encode(&log.report().log_id.0).into();
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
        let running = Running { service, log_id };
        let wired = running.wired();
        self.sales.write().unwrap_or_else(PoisonError::into_inner).insert(sale.clone(), running);
        lock(&self.down).remove(sale);
        Ok(wired)
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

    fn get_or_create(&self, sale: &SaleId) -> Result<Arc<dyn Sale>, Unavailable> {
        let wired = self.start(sale).map_err(|error| {
            let why = crate::with_causes(&error);
            tracing::error!(%sale, %why, "the sale cannot be started");
            Unavailable::Stopped(why)
        })?;
        Ok(Arc::new(wired))
    }

    fn now(&self) -> TimeMs {
        self.clock.now()
    }
}

struct Wired {
    handle: Handle,
    log_id: Arc<str>,
}

impl Sale for Wired {
    fn view(&self) -> Arc<SaleView> {
        self.handle.view().unwrap_or_else(|| Arc::new(not_set_up(self.handle.sale())))
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
        rate_per_second: 0,
        disk_full: false,
        pause: None,
        is_restored: false,
        state_since: Sequence(0),
        denied: Arc::default(),
        as_of: Sequence(0),
    }
}
