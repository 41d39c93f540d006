//! The courier takes what is due from the core, delivers it, and reports what came of it. It has a
//! thread of its own, so that a crowd of slow endpoints does not slow anything else.

use crate::{
    bodies::{Bodies, LogReader, Stored},
    core::{
        Attempted, Command, Delivery, Notify, Outcome, Reply, SUBSCRIPTIONS_MAX, Signing, Turn,
        record::SubscriptionNo, spec::SubscriptionSpec,
    },
    push::{Attempt, Endpoint, Failure, Message, Outcome as Pushed, Pusher, Secret},
};
use data_encoding::BASE64;
use engines::{clock::Clock, log::LogError};
use runtime::Handle;
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use units::{DurationMs, TimeMs};
use web::{
    secret::{invalid, random_bytes, read_or_create_secret},
    warning::Warning,
};

/// Results that are reported in one turn, at the most.
const ENDED_MAX: usize = 4096;
/// Deliveries that begin in one turn, at the most.
const BEGUN_MAX: usize = 1024;
/// How long to wait when the core cannot answer.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long nothing begins after this machine had no file handle, port or memory for a delivery. An
/// event that met this waits a second.
const SHORTAGE_WAIT: Duration = Duration::from_millis(200);
/// The longest wait: a clock that is set ahead is noticed within it.
const NAP: Duration = Duration::from_secs(1);

const MASTER_BYTES: usize = 32;

/// The secrets that sign deliveries. Each is derived from one secret of the installation, the
/// subscription's number, when it was made, for a restored copy may give a number away again, and
/// how often its secret was rotated.
#[derive(Clone)]
pub struct Secrets([u8; MASTER_BYTES]);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Reads `keys/notify.key` in the data directory, or makes it.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("keys/notify.key");
        let bytes = read_or_create_secret(&path, || random_bytes().map(|b: [u8; MASTER_BYTES]| b.to_vec()))?;
        let master = bytes.as_slice().try_into();
        master.map(Self).map_err(|_| invalid(&path, "want 32 bytes: put it back from a backup"))
    }

    /// The newest secret of a subscription.
    pub fn of(&self, subscription: SubscriptionNo, signing: Signing) -> Secret {
        let mut material = self.0.to_vec();
        material.extend_from_slice(&subscription.0.to_le_bytes());
        material.extend_from_slice(&signing.made_at.0.to_le_bytes());
        if signing.rotations > 0 {
            material.extend_from_slice(&signing.rotations.to_le_bytes());
        }
        let bytes = blake3::derive_key("floodgate notify signing secret v1", &material);
        let text = format!("whsec_{}", BASE64.encode(&bytes));
        text.parse().expect("32 bytes are a secret")
    }

    /// Those that sign at this time, the newest first.
    pub(crate) fn at(&self, now: TimeMs, subscription: SubscriptionNo, signing: Signing) -> Vec<Secret> {
        let mut secrets = vec![self.of(subscription, signing)];
        if now < signing.old_until
            && let Some(rotations) = signing.rotations.checked_sub(1)
        {
            secrets.push(self.of(subscription, Signing { rotations, ..signing }));
        }
        secrets
    }
}

/// What the courier needs.
pub struct Courier {
    pub handle: Handle<Notify>,
    pub bodies: Bodies,
    pub reader: LogReader,
    pub pusher: Arc<Pusher>,
    /// For the endpoints of tenants.
    pub of_tenants: Arc<Pusher>,
    pub secrets: Secrets,
    pub clock: Arc<dyn Clock>,
    pub in_flight_max: usize,
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("in_flight_max", &self.in_flight_max).finish_non_exhaustive()
    }
}

/// An endpoint, as it was last needed.
struct Known {
    spec: Arc<SubscriptionSpec>,
    signing: Signing,
    /// Whether the secret before the last rotation signs as well.
    signs_twice: bool,
    endpoint: Result<Arc<Endpoint>, String>,
}

impl Courier {
    /// Starts the courier's thread. It ends some time after `ends` turns true, when what is under
    /// way is reported.
    pub fn start(self, ends: watch::Receiver<bool>) -> io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Each delivery under way reports once, so there is always room.
        let (report, reports) = mpsc::channel::<Attempted>(self.in_flight_max.max(1));
        let sender = Sender {
            pushers: [self.pusher, self.of_tenants],
            clock: Arc::clone(&self.clock),
            runtime: runtime.handle().clone(),
            own: Arc::default(),
        };
        let way = Way { report, sender, reader: self.reader };
        let round = Round {
            handle: self.handle,
            bodies: self.bodies,
            secrets: self.secrets,
            clock: self.clock,
            in_flight_max: self.in_flight_max,
            way,
        };
        std::thread::Builder::new()
            .name("notify-courier".into())
            .spawn(move || runtime.block_on(round.run(reports, ends)))
    }
}

/// The courier at work.
struct Round {
    handle: Handle<Notify>,
    bodies: Bodies,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    in_flight_max: usize,
    way: Way,
}

impl Round {
    async fn run(mut self, mut reports: mpsc::Receiver<Attempted>, mut ends: watch::Receiver<bool>) {
        let mut sequence = self.handle.sequence();
        let mut known: HashMap<SubscriptionNo, Known> = HashMap::new();
        let mut ended: Vec<Attempted> = Vec::new();
        let mut in_flight = 0_usize;
        let (mut epoch, mut is_unsure) = (0, false);
        loop {
            while ended.len() < ENDED_MAX
                && let Ok(one) = reports.try_recv()
            {
                ended.push(one);
            }
            let ends_now = *ends.borrow();
            // Those that are not reported yet still count.
            let room = self.in_flight_max.saturating_sub(in_flight).min(BEGUN_MAX);
            is_unsure &= in_flight > ended.len();
            let pause = self.way.sender.pause();
            let room = if ends_now || is_unsure || !pause.is_zero() { 0 } else { room };
            sequence.borrow_and_update();
            let free = self.in_flight_max.saturating_sub(in_flight - ended.len());
            let turn = Turn { epoch, ended: ended.clone(), room, free };
            let asked = self.handle.ask(Command::Turn(Arc::new(turn)));
            let reply = match asked {
                Ok(reply) => reply.await.ok(),
                Err(_) => None,
            };
            let Some(Reply::Turned { deliveries, epoch: now_epoch, next_at }) = reply else {
                if ends_now {
                    return;
                }
                // What was reported is reported again.
                sleep(AGAIN_AFTER).await;
                continue;
            };
            in_flight -= ended.len();
            ended.clear();
            // What was under way is over: nothing would report, and nothing begin, any more.
            is_unsure = (is_unsure || now_epoch != epoch) && in_flight > 0;
            epoch = now_epoch;
            let is_busy = !deliveries.is_empty();
            in_flight += deliveries.len();
            self.begin(deliveries, &mut known);
            if ends_now && in_flight == 0 {
                return;
            }
            if is_busy && in_flight < self.in_flight_max && !ends_now {
                continue;
            }
            let now = self.clock.now();
            let wait = next_at.map_or(NAP, |at| Duration::from_millis(at.since(now).0).min(NAP));
            let wait = wait.max(pause);
            let is_full = is_unsure || in_flight >= self.in_flight_max;
            if wait.is_zero() && !is_full && !ends_now {
                continue;
            }
            tokio::select! {
                one = reports.recv() => ended.extend(one),
                _ = sequence.changed(), if !is_full && pause.is_zero() => {}
                () = sleep(wait), if !is_full && !ends_now => {}
                _ = ends.changed(), if !ends_now => {}
            }
        }
    }

    fn begin(&mut self, deliveries: Vec<Delivery>, known: &mut HashMap<SubscriptionNo, Known>) {
        if deliveries.is_empty() {
            return;
        }
        if let Err(error) = self.bodies.follow() {
            self.way.sender.own_trouble(|own| own.unreadable(&error));
        }
        let mut old = Vec::new();
        for delivery in deliveries {
            let endpoint = endpoint_of(&delivery, known, &self.secrets, self.clock.now());
            let sequence = delivery.sequence;
            let pending = Pending { delivery, report: self.way.report.clone(), is_reported: false };
            match (endpoint, self.bodies.get(sequence)) {
                (Err(why), _) => pending.fail(&why),
                (Ok(endpoint), Some(stored)) => self.way.sender.push(pending, endpoint, stored),
                (Ok(endpoint), None) => old.push((sequence, (pending, endpoint))),
            }
        }
        if old.is_empty() {
            return;
        }
        // What stands behind one another in the log is read together.
        old.sort_by_key(|(sequence, _)| *sequence);
        let sender = self.way.sender.clone();
        self.way.reader.ask(move |reading| {
            for (sequence, with) in old {
                sender.read(with, reading.event(sequence));
            }
        });
    }
}

/// What is needed to send deliveries on their way.
struct Way {
    report: mpsc::Sender<Attempted>,
    sender: Sender,
    reader: LogReader,
}

/// Sends deliveries on their way, from any thread.
#[derive(Clone)]
struct Sender {
    /// For the endpoints of operators, and of tenants.
    pushers: [Arc<Pusher>; 2],
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Handle,
    own: Arc<Mutex<OwnTrouble>>,
}

/// What keeps deliveries back that is no endpoint's.
#[derive(Default)]
struct OwnTrouble {
    /// Nothing begins before.
    until: Option<Instant>,
    shortage: Warning,
    unreadable: Warning,
}

impl Sender {
    /// How long nothing begins from now on.
    fn pause(&self) -> Duration {
        let until = self.own.lock().unwrap_or_else(PoisonError::into_inner).until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn own_trouble(&self, note: impl FnOnce(&mut OwnTrouble)) {
        note(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn push(&self, pending: Pending, endpoint: Arc<Endpoint>, stored: Stored) {
        let message = Message {
            id: message_id(&pending.delivery, &stored),
            content_type: "application/cloudevents+json",
            body: axum::body::Bytes::from_owner(stored.body),
            headers: Vec::new(),
        };
        let [of_operators, of_tenants] = &self.pushers;
        let pusher = if pending.delivery.name.is_of_tenant() { of_tenants } else { of_operators };
        let (pusher, now) = (Arc::clone(pusher), self.clock.now());
        let this = self.clone();
        self.runtime.spawn(async move {
            let attempt = pusher.push(&endpoint, &message, now).await;
            if let Pushed::Failed(Failure::Shortage(why)) = &attempt.outcome {
                this.own_trouble(|own| own.shortage(why));
            }
            let attempted = attempted(&pending.delivery, attempt);
            pending.report(attempted);
        });
    }

    /// Goes on with what was read from the log.
    fn read(&self, (pending, endpoint): (Pending, Arc<Endpoint>), read: Result<Option<Stored>, LogError>) {
        match read {
            Ok(Some(stored)) => self.push(pending, endpoint, stored),
            Ok(None) => pending.fail("the event is not in the log"),
            // It is tried again a little later, and no attempt is spent.
            Err(error) => self.own_trouble(|own| own.unreadable(&error)),
        }
    }
}

impl OwnTrouble {
    fn shortage(&mut self, why: &str) {
        self.until = Some(Instant::now() + SHORTAGE_WAIT);
        if let Some(count) = self.shortage.due() {
            tracing::warn!(
                why,
                count,
                "deliveries wait: this machine has no file handle, port or memory for them (see `ulimit -n`)"
            );
        }
    }

    fn unreadable(&mut self, error: &LogError) {
        if let LogError::Io { doing, source } = error
            && error.is_shortage()
        {
            return self.shortage(&format!("{doing}: {source}"));
        }
        if let Some(count) = self.unreadable.due() {
            tracing::warn!(%error, count, "an event cannot be read from the log");
        }
    }
}

/// A delivery that is on its way. It reports once, whatever becomes of it.
struct Pending {
    delivery: Delivery,
    report: mpsc::Sender<Attempted>,
    is_reported: bool,
}

impl Pending {
    fn report(mut self, attempted: Attempted) {
        self.is_reported = self.report.try_send(attempted).is_ok();
    }

    fn fail(self, why: &str) {
        let failed = not_answered(&self.delivery, why);
        self.report(failed);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_reported {
            let not_tried = Attempted { outcome: Outcome::NotTried, ..not_answered(&self.delivery, "") };
            let _ = self.report.try_send(not_tried);
        }
    }
}

/// The same for each attempt of an event, and another for another event: a restored copy may give a
/// number away again.
fn message_id(delivery: &Delivery, stored: &Stored) -> String {
    // An id has no full stop (Standard Webhooks): what is signed has them between its parts.
    let topic = delivery.spec.topic.as_str().replace('.', "_");
    format!("{topic}_{}_{:032x}", delivery.event.0, stored.identity)
}

fn endpoint_of(
    delivery: &Delivery,
    known: &mut HashMap<SubscriptionNo, Known>,
    secrets: &Secrets,
    now: TimeMs,
) -> Result<Arc<Endpoint>, String> {
    let signing = delivery.signing;
    let signs_twice = now < signing.old_until;
    if let Some(known) = known.get(&delivery.subscription)
        && Arc::ptr_eq(&known.spec, &delivery.spec)
        && (known.signing, known.signs_twice) == (signing, signs_twice)
    {
        return known.endpoint.clone();
    }
    // Those of deleted subscriptions go with the others.
    if known.len() >= SUBSCRIPTIONS_MAX {
        known.clear();
    }
    let secrets = secrets.at(now, delivery.subscription, signing);
    let url = delivery.spec.url.as_deref().unwrap_or_default();
    let endpoint = url.parse().map_err(|error| format!("url: {error}"));
    let endpoint = endpoint.map(|url| Arc::new(Endpoint { url, secrets }));
    let spec = Arc::clone(&delivery.spec);
    known.insert(delivery.subscription, Known { spec, signing, signs_twice, endpoint: endpoint.clone() });
    endpoint
}

fn not_answered(delivery: &Delivery, why: &str) -> Attempted {
    Attempted {
        subscription: delivery.subscription,
        event: delivery.event,
        attempt: delivery.attempt,
        outcome: Outcome::Failed { retry_after: None },
        status: 0,
        took_ms: 0,
        said: why.to_owned(),
    }
}

fn attempted(delivery: &Delivery, attempt: Attempt) -> Attempted {
    let (outcome, status, said) = match attempt.outcome {
        Pushed::Accepted { status } => (Outcome::Delivered, status, String::new()),
        Pushed::Refused { status: 410, .. } => (Outcome::Gone, 410, attempt.excerpt),
        Pushed::Refused { status, retry_after } => {
            let retry_after = retry_after.map(|wait| DurationMs(wait.as_millis() as u64));
            (Outcome::Failed { retry_after }, status, attempt.excerpt)
        }
        Pushed::Failed(failure @ Failure::Shortage(_)) => (Outcome::NotTried, 0, failure.to_string()),
        Pushed::Failed(failure) => (Outcome::Failed { retry_after: None }, 0, failure.to_string()),
    };
    Attempted {
        outcome,
        status,
        said,
        took_ms: u32::try_from(attempt.took.as_millis()).unwrap_or(u32::MAX),
        ..not_answered(delivery, "")
    }
}
