//! The side of the process with the sales: a socket for gates and for stores.

use super::message::{
    self, COUNTS_MAX, DENIED_MAX, DeniedPart, FRAME_BYTES_MAX, Fill, KEPT_MAX, News, Nonce, Question, Reply,
    SaleNumber, Seen, Side, ToGate, ToSales, UNPROVEN_BYTES_MAX,
};
use super::store::Served;
use crate::registry::{Registry, Wired};
use crate::store::ports::Ports;
use contracts::store::StoreError;
use contracts::{
    Actor, Attempt, DeniedShoppers, Mail, Mailbox, OperateError, Operation, OperationDone, SaleId, SaleSpec,
    SaleView, Told, Unavailable,
};
use gate::Keyring;
use gate::ports::{Sale as _, Sales, UseError, UsedChallenges};
use sale::membership_filter::Follower;
use sale::service::Handle;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

/// How late a gate is told of a new sale.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the other side may take to send its greeting.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// The most requests of a gate that wait at once; its attempts are bounded by the sale's queue and
/// line.
const ASKED_MAX: usize = 4096;
/// How long a gate may take to read what it is sent. News that it has not read meanwhile is kept
/// for it here.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of deny lists that are buffered before they are sent.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// What a connection's tasks share.
struct Shared {
    registry: Arc<Registry>,
    keys: Arc<Keyring>,
    challenges: Option<Arc<dyn UsedChallenges>>,
    store: Served,
    outbox: Mutex<Outbox>,
    /// There is something to send.
    news: Notify,
    asked: tokio::sync::Semaphore,
}

/// The answer to an attempt, under its token.
type NamedAnswer = (u64, Result<Told, Unavailable>);

#[derive(Default)]
struct Outbox {
    answers: HashMap<SaleNumber, Vec<NamedAnswer>>,
    replies: Vec<(u64, Reply)>,
    /// In the order in which they were sent to the gate.
    sales: Vec<Sale>,
}

/// A sale that has been sent to the gate.
#[derive(Clone)]
struct Sale {
    id: SaleId,
    handle: Handle,
    wired: Wired,
    /// The gate was told that the sale is gone.
    is_forgotten: bool,
    follower: Arc<Follower>,
    /// The state that was sent last.
    seen: Arc<SaleView>,
    fill: Fill,
}

impl Shared {
    /// It is consistent between two statements, so a panic of another holder leaves nothing half
    /// done.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, sale: SaleNumber) -> Option<Handle> {
        self.outbox().sales.get(usize::from(sale)).map(|told| told.handle.clone())
    }

    fn answer(&self, sale: SaleNumber, answers: impl IntoIterator<Item = NamedAnswer>) {
        self.outbox().answers.entry(sale).or_default().extend(answers);
        self.news.notify_one();
    }
}

/// Takes the answers of one sale to one gate.
struct ToOneGate {
    shared: Arc<Shared>,
    sale: SaleNumber,
}

impl Mailbox for ToOneGate {
    fn deliver(&self, mail: &mut Vec<Mail>) {
        self.shared.answer(self.sale, mail.drain(..).map(|mail| (mail.token, mail.said)));
    }
}

/// What those who join are served with.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) registry: Arc<Registry>,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) challenges: Option<Arc<dyn UsedChallenges>>,
    pub(crate) store: Ports,
}

/// Listens until it is dropped, for so many gates at once. A socket that an earlier process left is
/// removed.
pub(crate) fn serve_gates(
    path: &Path,
    gates_max: usize,
    joining: Joining,
) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("listen for gates at {}: {e}", path.display()));
    // In a directory that only the owner may enter, so that there is no moment at which others may
    // connect.
    let dir = path.parent().unwrap_or(path);
    engines::embedded::disk::make_dir_durable(dir).map_err(named)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(named)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    let room = Arc::new(tokio::sync::Semaphore::new(gates_max));
    Ok(async move {
        loop {
            // Others wait in the socket's backlog.
            let Ok(seat) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Joining { registry, keys, challenges, store } = joining.clone();
                    let shared = Arc::new(Shared {
                        registry,
                        keys,
                        challenges,
                        store: Served::new(store),
                        outbox: Mutex::default(),
                        news: Notify::new(),
                        asked: tokio::sync::Semaphore::new(ASKED_MAX),
                    });
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, shared).await {
                            tracing::warn!(%error, "a gate is gone");
                        }
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "accept a gate: failed");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    })
}

async fn serve(stream: UnixStream, shared: Arc<Shared>) -> io::Result<()> {
    let greeting = message::greeting(&shared.keys)?;
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::with_capacity(1 << 16, from);
    let mut bytes = Vec::new();
    let of_sales: Nonce = web::secret::random_bytes()?;
    message::write(&ToGate::Hello { greeting: greeting.clone(), nonce: of_sales }, &mut bytes)?;
    send(&mut to, &bytes).await?;
    let mut frame = Vec::new();
    let hello = tokio::time::timeout(GREETING_MAX, read(&mut from, &mut frame, UNPROVEN_BYTES_MAX)).await;
    let of_gate = match hello.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it says nothing"))?? {
        ToSales::Hello { greeting: theirs, nonce, proof } if theirs == greeting => {
            message::check_proof(&shared.keys, Side::Gate, &of_sales, &nonce, &proof)?;
            nonce
        }
        ToSales::Hello { greeting: theirs, .. } => {
            let why =
                format!("it says {theirs:?}, and this is {greeting:?}: run the same build on the same data");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not greet")),
    };
    bytes.clear();
    let proof = message::proof(&shared.keys, Side::Sales, &of_sales, &of_gate);
    message::write(&ToGate::Proven { proof, now: shared.registry.now() }, &mut bytes)?;
    send(&mut to, &bytes).await?;
    tracing::info!("a gate has joined");
    // Whichever ends first ends the other: a gate that gets no more messages must join again.
    let heard = tokio::select! {
        heard = hear(&shared, &mut from, &mut frame) => heard,
        told = tell(Arc::clone(&shared), to) => told,
    };
    shared.store.end().await;
    match heard {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::info!("a gate has left");
            Ok(())
        }
        heard => heard,
    }
}

async fn read(from: &mut BufReader<OwnedReadHalf>, frame: &mut Vec<u8>, max: usize) -> io::Result<ToSales> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    frame.resize(message::frame_len(head, max)?, 0);
    from.read_exact(frame).await?;
    message::decode(frame)
}

async fn hear(
    shared: &Arc<Shared>,
    from: &mut BufReader<OwnedReadHalf>,
    frame: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        match read(from, frame, FRAME_BYTES_MAX).await? {
            ToSales::Hello { .. } => {}
            ToSales::Attempts(sale, patience_ms, batch) => attempts(shared, sale, patience_ms, batch)?,
            ToSales::GateRefusal(sale, counts) => {
                if let Some(handle) = shared.handle(sale) {
                    handle.gate_refused(&counts[..counts.len().min(COUNTS_MAX)]);
                }
            }
            ToSales::Ask(token, question) => ask(shared, token, question),
        }
    }
}

fn attempts(
    shared: &Arc<Shared>,
    sale: SaleNumber,
    patience_ms: u64,
    mut batch: Vec<(u64, Attempt)>,
) -> io::Result<()> {
    let Some(handle) = shared.handle(sale) else {
        // No gate that we accept does this; and its attempts are answered only when its connection
        // ends.
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("attempts at sale number {sale}: none was told"),
        ));
    };
    let mailbox: Arc<dyn Mailbox> = Arc::new(ToOneGate { shared: Arc::clone(shared), sale });
    handle.attempts(&mailbox, patience_ms, &mut batch);
    Ok(())
}

/// Passes a request on. Its answer is sent when it comes; beyond the bound no request is passed on.
fn ask(shared: &Arc<Shared>, token: u64, question: Question) {
    let gone = || Unavailable::Passing("the sale is stopping".into());
    let unknown = || Unavailable::Passing("no such sale".into());
    let on_behalf = Arc::clone(shared);
    let Ok(permit) = shared.asked.try_acquire() else {
        let reply = match question {
            Question::Lookup(..) => Reply::Found(Err(Unavailable::QueueFull)),
            Question::Position(..) => Reply::Position(Err(Unavailable::QueueFull)),
            Question::Shopper(..) => Reply::Shopper(Err(Unavailable::QueueFull)),
            Question::Reserve(..) | Question::GiveBack(..) => Reply::Operated(Err(Unavailable::QueueFull)),
            Question::Stats(_) => Reply::Stats(Err(Unavailable::QueueFull)),
            Question::UseUp { .. } => Reply::UsedUp(Err(UseError::Busy)),
            Question::OfStore(_) => Reply::ToStore(Err(StoreError::TooMany { wait_seconds: 1 })),
        };
        shared.outbox().replies.push((token, reply));
        return shared.news.notify_one();
    };
    permit.forget();
    tokio::spawn(async move {
        let shared = on_behalf;
        let handle = |sale| shared.handle(sale).ok_or_else(unknown);
        let reply = match question {
            Question::Lookup(sale, attempt, shopper) => Reply::Found(match handle(sale) {
                Ok(handle) => handle.lookup(attempt, shopper).await.unwrap_or_else(|_| Err(gone())),
                Err(error) => Err(error),
            }),
            Question::Position(sale, attempt, shopper) => {
                Reply::Position(handle(sale).and_then(|handle| handle.position(attempt, shopper)))
            }
            Question::Shopper(sale, shopper) => Reply::Shopper(match handle(sale) {
                Ok(handle) => handle.shopper(shopper).await.unwrap_or_else(|_| Err(gone())),
                Err(error) => Err(error),
            }),
            Question::Reserve(sale, shopper, reserved) => {
                let operation = Operation::Reserve { shopper, reserved };
                Reply::Operated(operate(handle(sale), Actor::new(Actor::SHOPPER, ""), operation).await)
            }
            Question::GiveBack(sale, hold) => {
                let operation = Operation::Release { hold };
                Reply::Operated(operate(handle(sale), Actor::giving_back(), operation).await)
            }
            Question::Stats(sale) => Reply::Stats(match handle(sale) {
                Ok(handle) => handle.stats().await.unwrap_or_else(|_| Err(gone())),
                Err(error) => Err(error),
            }),
            Question::UseUp { nonce, expires_at, now } => Reply::UsedUp(match &shared.challenges {
                Some(ledger) => {
                    let used = ledger.use_up(nonce, expires_at, now).await;
                    used.unwrap_or_else(|_| Err(UseError::Disk("the ledger has ended".into())))
                }
                None => Err(UseError::Disk("no challenge is asked for where the sales are".into())),
            }),
            Question::OfStore(of_store) => Reply::ToStore(shared.store.answer(of_store).await),
        };
        shared.asked.add_permits(1);
        shared.outbox().replies.push((token, reply));
        shared.news.notify_one();
    });
}

/// Carries out a command of a shopper.
async fn operate(
    handle: Result<Handle, Unavailable>,
    actor: Actor,
    operation: Operation,
) -> Result<Result<OperationDone, OperateError>, Unavailable> {
    let done = handle?.operate(actor, operation).await;
    done.unwrap_or_else(|_| Err(Unavailable::Passing("the sale is stopping".into())))
}

/// Sends the gate all news, for as long as it is connected.
async fn tell(shared: Arc<Shared>, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut followers = Followers::default();
    let mut bytes = Vec::new();
    let mut down = Vec::new();
    let mut first = true;
    loop {
        bytes.clear();
        let mut all = told(&shared, &mut followers, &mut down, &mut bytes, &mut to).await;
        if std::mem::take(&mut first) {
            all = all.and_then(|()| message::write(&ToGate::AllTold, &mut bytes));
        }
        all?;
        if bytes.is_empty() {
            message::write(&ToGate::StillHere, &mut bytes)?;
        }
        send(&mut to, &bytes).await?;
        let _ = tokio::time::timeout(LOOK_EVERY, shared.news.notified()).await;
    }
}

async fn send(to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let written = tokio::time::timeout(READS_WITHIN, to.write_all(bytes)).await;
    written.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it reads nothing")))
}

/// Tasks that wake the teller when a sale's log grows; they end with it.
#[derive(Default)]
struct Followers(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Followers {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn told(
    shared: &Arc<Shared>,
    followers: &mut Followers,
    down: &mut Vec<SaleId>,
    bytes: &mut Vec<u8>,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    // A sale that was deleted is forgotten before another of its name is told.
    for (number, told) in shared.outbox().sales.iter_mut().enumerate() {
        if told.wired.is_gone() && !std::mem::replace(&mut told.is_forgotten, true) {
            message::write(&ToGate::Gone(number as SaleNumber), bytes)?;
        }
    }
    for (wired, view) in shared.registry.told() {
        if shared.outbox().sales.iter().any(|told| told.id == view.sale && !told.is_forgotten) {
            continue;
        }
        let handle = wired.handle.clone();
        if shared.outbox().sales.len() > usize::from(SaleNumber::MAX) {
            // The gate joins again, and its numbers begin afresh.
            return Err(io::Error::other("more sales were told on one connection than have numbers"));
        }
        // Shoppers who are kept after this are in the news, and those who were kept before are in
        // the filter.
        let follower = handle.follow();
        let view = handle.view().unwrap_or(view);
        tell_denied(&view.denied, 0, bytes, to).await?;
        let fill = Fill::of(&handle);
        let sale = ToGate::Sale {
            id: view.sale.clone(),
            log_id: wired.log_id.to_string(),
            spec: json(&view.spec)?,
            seen: Seen::of(&view, 0, fill),
            known: handle.known().words().collect(),
        };
        message::write(&sale, bytes)?;
        let mut sequence = handle.sequence();
        let waker = Arc::clone(shared);
        followers.0.push(tokio::spawn(async move {
            while sequence.changed().await.is_ok() {
                waker.news.notify_one();
            }
        }));
        let id = view.sale.clone();
        let told = Sale { id, handle, wired, is_forgotten: false, follower, seen: view, fill };
        shared.outbox().sales.push(told);
    }
    let now_down = shared.registry.down();
    if now_down != *down {
        message::write(&ToGate::Down(now_down.clone()), bytes)?;
        *down = now_down;
    }
    // Answers are taken first and sent last: the state that they depend on is read in between.
    let (mut answers, replies, sales) = {
        let mut outbox = shared.outbox();
        (std::mem::take(&mut outbox.answers), std::mem::take(&mut outbox.replies), outbox.sales.clone())
    };
    for (number, told) in sales.iter().enumerate() {
        let number = number as SaleNumber;
        if told.is_forgotten {
            let answers = answers.remove(&number).unwrap_or_default();
            if !answers.is_empty() {
                message::write(&ToGate::News(number, News { answers, ..News::default() }), bytes)?;
            }
            continue;
        }
        let Some(view) = told.handle.view() else { continue };
        let fill = Fill::of(&told.handle);
        let news = news(told, (&view, fill), answers.remove(&number).unwrap_or_default())?;
        let same = Arc::ptr_eq(&told.seen, &view) && told.fill == fill;
        if same && news.kept.is_empty() && news.answers.is_empty() {
            continue;
        }
        if let Some(told) = shared.outbox().sales.get_mut(usize::from(number)) {
            (told.seen, told.fill) = (Arc::clone(&view), fill);
        }
        let shared_runs = view.denied.shared_runs(&told.seen.denied);
        tell_denied(&view.denied, shared_runs, bytes, to).await?;
        // In pieces, the shoppers who have something first.
        let mut news = news;
        while news.kept.len() > KEPT_MAX {
            let kept = news.kept.split_off(news.kept.len() - KEPT_MAX);
            message::write(&ToGate::News(number, News { kept, ..News::default() }), bytes)?;
        }
        message::write(&ToGate::News(number, news), bytes)?;
    }
    for (token, reply) in replies {
        message::write(&ToGate::Reply(token, reply), bytes)?;
    }
    Ok(())
}

fn news(told: &Sale, (view, fill): (&SaleView, Fill), answers: Vec<NamedAnswer>) -> io::Result<News> {
    // The view was taken before: the shoppers who have the units that it no longer shows are among
    // those kept.
    let kept = told.follower.take();
    let spec = if Arc::ptr_eq(&told.seen.spec, &view.spec) { None } else { Some(json(&view.spec)?) };
    let shared_runs = view.denied.shared_runs(&told.seen.denied);
    Ok(News { kept, spec, seen: Some(Seen::of(view, shared_runs, fill)), answers })
}

/// Sends the runs of a deny list after those that the gate has. The list applies once the view that
/// it belongs to is sent. Sent piece by piece: a list of millions is not buffered here a second
/// time.
async fn tell_denied(
    list: &DeniedShoppers,
    shared_runs: usize,
    bytes: &mut Vec<u8>,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    for run in &list.runs()[shared_runs..] {
        let mut parts = run.chunks(DENIED_MAX).peekable();
        while let Some(part) = parts.next() {
            let part = DeniedPart { shoppers: part.to_vec(), ends: parts.peek().is_none() };
            message::write(&ToGate::Denied(part), bytes)?;
            if bytes.len() >= UNSENT_BYTES_MAX {
                send(to, bytes).await?;
                bytes.clear();
            }
        }
    }
    Ok(())
}

fn json(spec: &SaleSpec) -> io::Result<String> {
    serde_json::to_string(spec).map_err(io::Error::other)
}
