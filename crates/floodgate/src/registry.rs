//! Wires the sales' services into the gate's ports, by function call.

use crate::data::Data;
use contracts::{
    Actor, Answer, Attempt, Eligibility, LatePayment, OperateError, Operation, OperationDone, SaleSpec,
    SaleState, SaleStats, SaleView, ShopperRecord, Waitlist,
};
use engines::clock::{Clock, SteadyClock};
use gate::ports::{Queued, Reply, Sale, Sales, Unavailable, Winner};
use sale::service::{Handle, Service, Settings};
use sale::worker::RecoverError;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use units::{AttemptId, Currency, SaleId, Sequence, ShopperKey, TimeMs};

/// Every sale of this process.
#[derive(Debug)]
pub(crate) struct Registry {
    data: Data,
    clock: Arc<SteadyClock>,
    settings: Settings,
    sales: RwLock<BTreeMap<SaleId, Service>>,
}

impl Registry {
    /// Brings back every sale of the data directory.
    pub(crate) fn open(data: Data, settings: Settings) -> Result<Self, RecoverError> {
        let registry =
            Self { clock: Arc::new(SteadyClock::start()), settings, sales: RwLock::default(), data };
        for sale in registry.data.sales()? {
            registry.start(&sale)?;
        }
        Ok(registry)
    }

    fn start(&self, sale: &SaleId) -> Result<Handle, RecoverError> {
        let mut sales = self.sales.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = sales.get(sale) {
            return Ok(running.handle());
        }
        let log = self.data.open_log(sale)?;
        let service = Service::start(sale.clone(), log, self.clock.clone(), self.settings)?;
        let recovery = &service.recovery;
        if let Some(why) = &recovery.passed_over {
            tracing::warn!(%sale, %why, "a snapshot was passed over; the log was replayed instead");
        }
        tracing::info!(
            %sale, snapshot = recovery.snapshot.map(|s| s.0), replayed = recovery.replayed, "sale is ready"
        );
        let handle = service.handle();
        sales.insert(sale.clone(), service);
        Ok(handle)
    }

    fn handle(&self, sale: &str) -> Option<Handle> {
        let id: SaleId = sale.parse().ok()?;
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        sales.get(&id).map(Service::handle)
    }

    /// Lets every sale finish what is queued, and closes the logs.
    pub(crate) fn stop(&self) {
        let sales = std::mem::take(&mut *self.sales.write().unwrap_or_else(PoisonError::into_inner));
        sales.into_values().for_each(Service::stop);
    }
}

impl Sales for Registry {
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>> {
        // A sale that was never set up is not there yet for anybody but the operator who sets it up.
        let handle = self.handle(sale).filter(|handle| handle.view().is_some())?;
        Some(Arc::new(Wired(handle)))
    }

    fn list(&self) -> Vec<SaleId> {
        let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
        sales.iter().filter(|(_, s)| s.handle().view().is_some()).map(|(id, _)| id.clone()).collect()
    }

    fn get_or_create(&self, sale: &SaleId) -> Result<Arc<dyn Sale>, Unavailable> {
        let handle = self.start(sale).map_err(|error| Unavailable(crate::with_causes(&error)))?;
        Ok(Arc::new(Wired(handle)))
    }

    fn now(&self) -> TimeMs {
        self.clock.now()
    }
}

struct Wired(Handle);

impl Sale for Wired {
    fn view(&self) -> Arc<SaleView> {
        self.0.view().unwrap_or_else(|| Arc::new(not_set_up(self.0.sale())))
    }

    fn attempt(&self, attempt: Attempt) -> Option<Queued> {
        self.0.attempt(attempt).map(|(position, answer)| Queued { position, answer })
    }

    fn position(&self, attempt: AttemptId) -> Option<u64> {
        self.0.position(attempt)
    }

    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Answer> {
        self.0.lookup(attempt, shopper)
    }

    fn shopper(&self, shopper: ShopperKey) -> Reply<ShopperRecord> {
        self.0.shopper(shopper)
    }

    fn operate(&self, actor: Actor, operation: Operation) -> Reply<Result<OperationDone, OperateError>> {
        self.0.operate(actor, operation)
    }

    fn stats(&self) -> Reply<SaleStats> {
        self.0.stats()
    }

    fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence()
    }

    fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        self.0.winners(after, max)
    }
}

/// What the operator who is setting a sale up sees of it.
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
        as_of: Sequence(0),
    }
}
