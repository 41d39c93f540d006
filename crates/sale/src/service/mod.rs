//! Gives a sale's worker its thread, its bounded queue and its snapshots, and callers a [`Handle`].

mod before_opening;
mod front;
mod gate_reports;
mod handle;
mod settings;
mod shared;
mod timeline;
mod winners;

pub use before_opening::{kept_for, set_up};
pub use handle::{Handle, Receiver};
pub use settings::{DEFAULT_TOML, RANGES, Settings};

use crate::core::Core;
use crate::membership_filter::MembershipFilter;
use crate::queue::{Limits, Queue};
use crate::sync::{ArcSwapOption, Condvar, Mutex, Threads};
use contracts::SaleId;
use engines::clock::Clock;
use engines::log::Log;
use gate_reports::Said;
use runtime::drive::{Ending, Run, SnapshotPlan, run_snapshots, run_worker};
use runtime::{RecoverError, Recovery, Worker};
use shared::{Shared, lock};
use std::sync::Arc;
use tokio::sync::watch;

/// A running sale; stop it with [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    threads: Threads,
    /// What recovery found.
    pub recovery: Recovery,
}

impl Service {
    /// Recovers the sale from its log and starts its threads.
    pub fn start<L: Log + 'static>(
        sale: SaleId,
        log: L,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, RecoverError> {
        let (reader, snapshot_reader, snapshots) = (log.reader(), log.reader(), log.snapshots());
        let (worker, recovery) = Worker::<Core, L>::open(log)?;
        let limits = Limits { queue_max: settings.queue_max, line_max: settings.line_max };
        let (view, mut said) = (worker.machine().view(&sale, false), Said::default());
        view.iter().for_each(|view| said.publish(view));
        let shared = Arc::new(Shared {
            clock,
            limits,
            queue: Mutex::new(Queue::new(limits)),
            work: Condvar::new(),
            ending: Ending::default(),
            view: ArcSwapOption::from(view.map(Arc::new)),
            known: MembershipFilter::of(limits.all()),
            said: Mutex::new(said),
            sequence: watch::Sender::new(worker.machine().sequence()),
            reader: Mutex::new(reader),
            stopped: ArcSwapOption::empty(),
            invariants: Mutex::default(),
            sale,
        });
        worker.machine().shoppers().for_each(|shopper| shared.known.keep(shopper));
        let newest = recovery.snapshot.unwrap_or_default();
        let plan = SnapshotPlan { name: shared.sale.to_string(), newest, every: settings.snapshot_every };
        let (a, b) = (Arc::clone(&shared), Arc::clone(&shared));
        let snapshots: Run = Box::new(move || {
            let on_broken = |ids: &[&'static str]| lock(&b.invariants).extend(ids);
            // A sale's log is its proof, and is kept whole.
            run_snapshots::<Core>(plan, snapshot_reader, snapshots, &b.ending, on_broken, |_| ());
        });
        let worker: Run = Box::new(move || run_worker(&*a, worker));
        let names = (format!("snap-{}", shared.sale), format!("sale-{}", shared.sale));
        let threads = Threads::start(&shared.ending, (&names.0, snapshots), (&names.1, worker))?;
        Ok(Self { handle: Handle(shared), threads, recovery })
    }

    /// A handle for callers.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets the worker finish the queue and the line, then ends its threads.
    pub fn stop(self) {
        lock(&self.handle.0.queue).jobs.stop();
        self.handle.0.work.notify_one();
        self.handle.0.ending.begin();
        self.threads.join();
    }
}
