//! Starts the message service beside the sales, and keeps it running: they wait neither for its log
//! nor for what is wrong with it. What is short now may be there later, so that is tried again.

use crate::{feed, message_health::Known, registry::Registry};
use engines::log::is_shortage;
use gate::Keyring;
use notify::{
    parts::Running,
    server::{Bound, NotStarted, Server, recover},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a start was of no use.
enum Failed {
    /// It may be of use later, with the same listener.
    Passing(Box<Bound>, String),
    ForGood(String),
}

/// Serves the message service until `ends`, and tells who is to know of it while it runs.
pub(crate) async fn serve(
    mut bound: Bound,
    registry: Arc<Registry>,
    keys: Arc<Keyring>,
    tell: watch::Sender<Option<Arc<Running>>>,
    mut ends: oneshot::Receiver<()>,
) {
    let health = registry.message_service();
    health.set(Known::Down);
    let server = loop {
        let started = tokio::select! {
            started = start(bound, Arc::clone(&registry)) => started,
            // A log is only read at a start: the process may end meanwhile as at any moment.
            _ = &mut ends => return,
        };
        match started {
            Ok(server) => break server,
            Err(Failed::ForGood(why)) => {
                return tracing::error!(%why, "the message service cannot be brought back: no event is taken or delivered; see the reason, then restart");
            }
            Err(Failed::Passing(again, why)) => {
                tracing::warn!(%why, "the message service waits: it is tried again every few seconds");
                bound = *again;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            _ = &mut ends => return,
        }
    };
    let running = server.running();
    health.set(Known::Runs(Arc::clone(&running)));
    tell.send_replace(Some(Arc::clone(&running)));
    let feed = tokio::spawn(feed::follow_sales(Arc::clone(&registry), keys, running));
    let served = server.run(async move { drop(ends.await) }).await;
    health.set(Known::Down);
    tell.send_replace(None);
    feed.abort();
    if let Err(error) = served {
        tracing::error!(%error, "the message service has ended: no event is taken or delivered; restart when the reason is gone");
    }
}

/// Brings the message service back and starts it, on a thread of its own: that reads files, for as
/// long as the log is, and nothing can end it.
async fn start(bound: Bound, registry: Arc<Registry>) -> Result<Server, Failed> {
    // What a thread was to have is lost if the thread cannot be made.
    let given = Arc::new(Mutex::new(Some(bound)));
    let take = |given: &Mutex<Option<Bound>>| given.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (of_thread, runtime) = (Arc::clone(&given), Handle::current());
    let (tell, told) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("notify-start".into()).spawn(move || {
        let _within = runtime.enter();
        if let Some(bound) = take(&of_thread) {
            drop(tell.send(start_now(bound, &registry)));
        }
    });
    match spawned {
        Ok(_) => told.await.unwrap_or_else(|_| Err(Failed::ForGood("its start panicked: a defect".into()))),
        Err(error) => match take(&given) {
            Some(bound) => Err(failed(bound, is_shortage(&error), &error)),
            None => Err(Failed::ForGood(error.to_string())),
        },
    }
}

fn start_now(bound: Bound, registry: &Registry) -> Result<Server, Failed> {
    let prepared = match bound.prepare(registry.dir()) {
        Ok(prepared) => prepared,
        // A file that is missing or wrong may be mended meanwhile, and looking again costs little.
        Err(error) => return Err(failed(bound, true, &error)),
    };
    let log = match registry.open_notify_log() {
        Ok(opened) => opened.log,
        Err(error) => return Err(failed(bound, error.is_shortage(), &error)),
    };
    let recovered = match recover(log, registry.clock()) {
        Ok(recovered) => recovered,
        Err(error) => return Err(failed(bound, error.is_shortage(), &error)),
    };
    bound.start(recovered, prepared).map_err(|not| {
        let NotStarted { bound, error } = *not;
        let is_passing = is_shortage(&error);
        failed(bound, is_passing, &error)
    })
}

fn failed<E: std::error::Error + 'static>(bound: Bound, is_passing: bool, error: &E) -> Failed {
    let why = crate::with_causes(error);
    if is_passing { Failed::Passing(Box::new(bound), why) } else { Failed::ForGood(why) }
}
