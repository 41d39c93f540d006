//! The side of a gate, or of a store: implements their ports by the sales of another process.
//! While that process is down, requests that need it are answered "not now"; nothing is lost, for
//! the same request may be sent again.

use super::message::{
    self, COUNTS_MAX, DeniedComing, FRAME_BYTES_MAX, Fill, GATES_MAX, News, Nonce, OfStore, Question, Reply,
    SaleNumber, Side, ToGate, ToSales, ToStore, UNPROVEN_BYTES_MAX,
};
use arc_swap::ArcSwap;
use contracts::store::StoreError;
use contracts::{
    Actor, Attempt, AttemptId, Found, GateRefusal, Mail, Mailbox, OperateError, Operation, OperationDone,
    SaleId, SaleSpec, SaleStats, SaleView, ShopperKey, ShopperRecord, TimelineEntry, TimelineFilter, Told,
    Unavailable, WaitingPlace, WaitingQuery,
};
use engines::clock::{Clock, SteadyClock};
use gate::Keyring;
use gate::ports::{self, Made, QueueFill, Sale, SaleHealth, Sales, UseError, UsedChallenges, Winner};
use sale::membership_filter::MembershipFilter;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use units::{Sequence, TimeMs};

/// The most attempts and requests under way, and the most bytes that may wait for the socket.
const ON_THE_WAY_MAX: usize = 1 << 17;
const UNSENT_BYTES_MAX: usize = 16 << 20;
/// How soon to try again when no process listens.
const AGAIN_IN: Duration = Duration::from_millis(100);
/// A view older than this is no ground for a refusal by the gate itself: the other process sends a
/// sign of life every tenth of a second.
const NEWS_MAX: Duration = Duration::from_millis(500);
/// How long the other side may be silent; it says something every tenth of a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long the other side may be silent during the greeting.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// How long the other process may take to answer a store.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long the initial transfer of the sales may take.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(30);

/// The sales of the process that listens on a socket.
#[derive(Debug, Clone)]
pub(crate) struct Joined(Arc<Link>);

struct Link {
    socket: PathBuf,
    is_store: bool,
    keys: Arc<Keyring>,
    /// The greeting of both sides.
    greeting: String,
    clock: SteadyClock,
    /// By how much the other process's clock is ahead of ours, and the latest time that was
    /// returned here.
    ahead_ms: AtomicI64,
    latest_ms: AtomicU64,
    began: Instant,
    /// When the last message of the other process came, in milliseconds since `began`; [`NEVER`]
    /// while it is down.
    heard_ms: AtomicU64,
    sales: RwLock<BTreeMap<SaleId, Arc<JoinedSale>>>,
    down: Mutex<Vec<SaleId>>,
    line: Mutex<Line>,
    /// There are bytes to send, or the connection has changed.
    to_send: Condvar,
    token: AtomicU64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.socket.display())
    }
}

/// The connection to the other process, and the requests under way on it.
#[derive(Default)]
struct Line {
    /// Counts connections, so that a thread knows when its own is over.
    number: u64,
    up: bool,
    unsent: Vec<u8>,
    attempts: HashMap<u64, Flight>,
    asked: HashMap<u64, Tell>,
}

/// Passes a reply to the caller; none if it will never come.
type Tell = Box<dyn FnOnce(Option<Reply>) + Send>;

/// An attempt without an answer yet.
struct Flight {
    sale: Arc<JoinedSale>,
    shopper: ShopperKey,
    waiter: Waiter,
}

enum Waiter {
    One(oneshot::Sender<Result<Told, Unavailable>>),
    Many(Arc<dyn Mailbox>, u64),
}

struct JoinedSale {
    link: std::sync::Weak<Link>,
    id: SaleId,
    log_id: String,
    is_gone: AtomicBool,
    /// The sale's number on the current connection; [`NEVER`] if the sale has not been received on
    /// it. Changes only under the connection's lock.
    number: AtomicU64,
    view: ArcSwap<SaleView>,
    known: MembershipFilter,
    fill: Mutex<Fill>,
    /// Attempts of this gate without an answer yet.
    on_the_way: AtomicU64,
    sequence: watch::Sender<Sequence>,
    /// Refusals that were sent and not reported yet.
    unreported: Mutex<Vec<GateRefusal>>,
}

/// No time, and no number.
const NEVER: u64 = u64::MAX;

/// The data under a lock is consistent between two statements, so a panic of another holder leaves
/// nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away() -> Unavailable {
    Unavailable::Passing("the process with the sales is away: ask again in a moment".into())
}

impl Joined {
    /// Joins the process that listens there, and waits until its sales are received. Afterwards it
    /// follows that process through restarts. `keys` shows whether both have the same keys.
    pub(crate) fn open(socket: &Path, keys: &Arc<Keyring>) -> io::Result<Self> {
        let link = Link::new(socket, keys, false)?;
        let (told, is_told) = std::sync::mpsc::channel();
        link.start(Some(told))?;
        let named = |why: String| io::Error::other(format!("join {}: {why}", socket.display()));
        let deadline = Instant::now() + FIRST_WAIT_MAX;
        let mut last = "nothing was said within its time".to_owned();
        loop {
            match is_told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => return Ok(Self(link)),
                // The other process may be starting, as this one is. One that speaks another
                // protocol will not change.
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(named(error.to_string()));
                }
                Ok(Err(error)) => {
                    if last != error.to_string() {
                        tracing::warn!(%error, socket = %socket.display(), "no process with the sales to join yet: trying again for a while");
                    }
                    last = error.to_string();
                }
                Err(_) => return Err(named(last)),
            }
        }
    }

    /// Joins the process that listens there as soon as it does, and waits for nothing: a store's
    /// pages need no sale.
    pub(crate) fn open_later(socket: &Path, keys: &Arc<Keyring>) -> io::Result<Self> {
        let link = Link::new(socket, keys, true)?;
        link.start(None)?;
        Ok(Self(link))
    }

    /// Asks for a store. `patience` is how long the answer may be waited for on purpose.
    pub(super) async fn ask_for_store(
        &self,
        of_store: OfStore,
        patience: Duration,
    ) -> Result<ToStore, StoreError> {
        let away = || Err(StoreError::Unavailable("the process with the sales is away".into()));
        let pick = move |reply| if let Some(Reply::ToStore(said)) = reply { said } else { away() };
        let said = self.0.ask(None, |_| Question::OfStore(of_store), pick);
        // A process that is stopped keeps its connection.
        let said = tokio::time::timeout(ANSWERS_WITHIN + patience, said).await;
        said.ok().and_then(Result::ok).unwrap_or_else(away)
    }
}

impl Link {
    fn new(socket: &Path, keys: &Arc<Keyring>, is_store: bool) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            socket: socket.to_owned(),
            is_store,
            greeting: message::greeting(keys)?,
            keys: Arc::clone(keys),
            clock: SteadyClock::start(),
            ahead_ms: AtomicI64::new(0),
            latest_ms: AtomicU64::new(0),
            began: Instant::now(),
            heard_ms: AtomicU64::new(NEVER),
            sales: RwLock::default(),
            down: Mutex::default(),
            line: Mutex::default(),
            to_send: Condvar::new(),
            token: AtomicU64::new(0),
        }))
    }

    /// Starts the thread that joins the other process, and joins it again whenever it is back.
    /// `told` hears of the tries until the first that succeeds.
    fn start(self: &Arc<Self>, mut told: Option<std::sync::mpsc::Sender<io::Result<()>>>) -> io::Result<()> {
        let reader = Arc::clone(self);
        let join = move || {
            let _guard = super::EndProcessOnPanic;
            let mut is_refused = false;
            loop {
                let was_here = told.is_none();
                if let Err(error) = reader.follow(&mut told) {
                    if let Some(told) = &told {
                        // There is no receiver any more once the start has given up.
                        let _ = told.send(Err(error));
                    } else if was_here && error.kind() == io::ErrorKind::InvalidData {
                        // Another build, or other keys: trying again does not help a gate. A
                        // store's pages go on, and somebody may be in the middle of replacing
                        // both.
                        if !reader.is_store {
                            tracing::error!(%error, socket = %reader.socket.display(), "cannot join any more: this gate ends");
                            std::process::exit(1);
                        }
                        if !std::mem::replace(&mut is_refused, true) {
                            tracing::error!(%error, socket = %reader.socket.display(), "cannot join: trying again until it fits");
                        }
                    } else if reader.heard_ms.load(Relaxed) != NEVER {
                        tracing::error!(%error, socket = %reader.socket.display(), "the process with the sales is away: joining again");
                    }
                }
                reader.hang_up();
                std::thread::sleep(AGAIN_IN);
            }
        };
        std::thread::Builder::new().name("join".into()).spawn(join).map(drop)
    }

    /// Serves one connection until it ends.
    fn follow(
        self: &Arc<Self>,
        told: &mut Option<std::sync::mpsc::Sender<io::Result<()>>>,
    ) -> io::Result<()> {
        let stream = UnixStream::connect(&self.socket)?;
        let mut from = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let mut frame = Vec::new();
        self.greet(&stream, &mut from, &mut frame).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let why = format!("it does not greet in time (at most {GATES_MAX} gates can join)");
                io::Error::new(io::ErrorKind::TimedOut, why)
            }
            _ => error,
        })?;
        let number = {
            let mut line = lock(&self.line);
            line.number += 1;
            line.number
        };
        let mut sales: Vec<Arc<JoinedSale>> = Vec::new();
        let mut denied = DeniedComing::default();
        loop {
            let heard = message::read(&mut from, &mut frame, FRAME_BYTES_MAX)?;
            // A part of a list says nothing about the sale's current state.
            if !matches!(heard, ToGate::Denied(_)) {
                self.heard_ms.store(self.began.elapsed().as_millis() as u64, Relaxed);
            }
            match heard {
                ToGate::Hello { .. } | ToGate::Proven { .. } | ToGate::StillHere => {}
                ToGate::Sale { id, log_id, spec, seen, known } => {
                    let denied = denied.list(&Arc::default(), seen.denied)?;
                    let spec = Arc::new(serde_json::from_str(&spec).map_err(io::Error::other)?);
                    let (fill, view) = (seen.fill, seen.view(id, spec, denied));
                    let sale = self.sale(sales.len() as SaleNumber, log_id, view, fill, known)?;
                    sales.push(sale);
                }
                ToGate::News(sale, news) => {
                    let sale = sales.get(usize::from(sale)).ok_or_else(|| wrong("news of no sale"))?;
                    self.news(sale, news, &mut denied)?;
                }
                ToGate::Gone(sale) => {
                    let sale = sales.get(usize::from(sale)).ok_or_else(|| wrong("the end of no sale"))?;
                    self.forget(sale);
                }
                ToGate::Denied(part) => denied.enqueue(part),
                ToGate::Reply(token, reply) => {
                    let asked = lock(&self.line).asked.remove(&token);
                    if let Some(tell) = asked {
                        tell(Some(reply));
                    }
                }
                ToGate::Down(down) => *lock(&self.down) = down,
                ToGate::AllTold => self.begin(number, &stream, told)?,
            }
        }
    }

    /// Both sides say which build and which keys they are of, and prove that they have the keys.
    fn greet(
        &self,
        mut stream: &UnixStream,
        from: &mut BufReader<UnixStream>,
        frame: &mut Vec<u8>,
    ) -> io::Result<()> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        stream.set_read_timeout(Some(GREETING_MAX))?;
        stream.set_write_timeout(Some(GREETING_MAX))?;
        let of_sales = match message::read(from, frame, UNPROVEN_BYTES_MAX)? {
            ToGate::Hello { greeting, nonce } if greeting == self.greeting => nonce,
            ToGate::Hello { greeting, .. } => {
                return Err(invalid(format!(
                    "it says {greeting:?}, and this is {:?}: run the same build on the same data",
                    self.greeting
                )));
            }
            _ => return Err(invalid("it does not greet".into())),
        };
        let of_gate: Nonce = web::secret::random_bytes()?;
        let hello = ToSales::Hello {
            greeting: self.greeting.clone(),
            nonce: of_gate,
            proof: message::proof(&self.keys, Side::Gate, &of_sales, &of_gate),
        };
        let mut bytes = Vec::new();
        message::write(&hello, &mut bytes)?;
        stream.write_all(&bytes)?;
        match message::read(from, frame, UNPROVEN_BYTES_MAX)? {
            ToGate::Proven { proof, now } => {
                message::check_proof(&self.keys, Side::Sales, &of_sales, &of_gate, &proof)?;
                self.ahead_ms.store(now.0 as i64 - self.clock.now().0 as i64, Relaxed);
            }
            _ => return Err(invalid("it does not prove that it has the master key".into())),
        }
        // A process that is stopped keeps its connection. What it is asked meanwhile is not to be
        // done when it goes on, for nothing waits for it any more.
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(None)
    }

    /// Every sale has been received: from now on the connection is used.
    fn begin(
        self: &Arc<Self>,
        number: u64,
        stream: &UnixStream,
        told: &mut Option<std::sync::mpsc::Sender<io::Result<()>>>,
    ) -> io::Result<()> {
        // What was not sent now is down, or was deleted while this gate was away.
        let down = lock(&self.down).clone();
        let known: Vec<_> =
            self.sales.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let deleted =
            |sale: &&Arc<JoinedSale>| sale.number.load(Relaxed) == NEVER && !down.contains(&sale.id);
        known.iter().filter(deleted).for_each(|sale| self.forget(sale));
        lock(&self.line).up = true;
        let (link, stream) = (Arc::clone(self), stream.try_clone()?);
        std::thread::Builder::new().name("join-send".into()).spawn(move || link.send(number, &stream))?;
        if let Some(told) = told.take() {
            // There is no receiver if the start has given up.
            let _ = told.send(Ok(()));
        }
        Ok(())
    }

    /// Sends what there is until the connection is replaced.
    fn send(&self, number: u64, mut stream: &UnixStream) {
        let mut bytes = Vec::new();
        loop {
            {
                let mut line = lock(&self.line);
                while line.number == number && line.up && line.unsent.is_empty() {
                    line = self.to_send.wait(line).unwrap_or_else(PoisonError::into_inner);
                }
                if line.number != number || !line.up {
                    return;
                }
                bytes.clear();
                std::mem::swap(&mut line.unsent, &mut bytes);
            }
            if stream.write_all(&bytes).is_err() {
                // The reader sees the end of it too, and hangs up.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }

    /// No reply comes any more on this connection. Requests under way may still be decided: their
    /// shoppers count from now on as shoppers who may have something.
    fn hang_up(&self) {
        self.heard_ms.store(NEVER, Relaxed);
        let (attempts, asked) = {
            let mut line = lock(&self.line);
            line.up = false;
            line.number += 1;
            line.unsent.clear();
            // A sale that is not sent again is gone, and its number belongs to another.
            let sales = self.sales.read().unwrap_or_else(PoisonError::into_inner);
            sales.values().for_each(|sale| sale.number.store(NEVER, Relaxed));
            (std::mem::take(&mut line.attempts), std::mem::take(&mut line.asked))
        };
        self.to_send.notify_all();
        for flight in attempts.into_values() {
            flight.sale.known.keep(flight.shopper);
            flight.land(Err(away()));
        }
        asked.into_values().for_each(|tell| tell(None));
    }

    /// A sale that was received: a new one, or one that is back.
    fn sale(
        self: &Arc<Self>,
        number: SaleNumber,
        log_id: String,
        view: SaleView,
        fill: Fill,
        known: Vec<u64>,
    ) -> io::Result<Arc<JoinedSale>> {
        let id = view.sale.clone();
        let mut sales = self.sales.write().unwrap_or_else(PoisonError::into_inner);
        let sale = match sales.get(&id) {
            Some(sale) if sale.log_id == log_id => Arc::clone(sale),
            Some(_) if !self.is_store => {
                // Earlier answers are not true of this log, nor is what the gate knows of shoppers.
                tracing::error!(sale = %id, "the sale has another log than before: this gate ends, to start afresh");
                std::process::exit(1);
            }
            before => {
                // A store has kept nothing of the log before.
                before.iter().for_each(|before| before.is_gone.store(true, Relaxed));
                let sale = Arc::new(JoinedSale {
                    link: Arc::downgrade(self),
                    id: id.clone(),
                    log_id,
                    is_gone: AtomicBool::new(false),
                    number: AtomicU64::new(NEVER),
                    view: ArcSwap::from_pointee(view.clone()),
                    known: MembershipFilter::default(),
                    fill: Mutex::default(),
                    on_the_way: AtomicU64::new(0),
                    sequence: watch::Sender::new(view.as_of),
                    unreported: Mutex::default(),
                });
                sales.insert(id, Arc::clone(&sale));
                sale
            }
        };
        sale.known.keep_words(known.into_iter());
        sale.see(view, fill);
        drop(sales);
        let _line = lock(&self.line);
        sale.number.store(u64::from(number), Relaxed);
        Ok(sale)
    }

    /// The sale was deleted: it never opened, and no shopper has anything in it.
    fn forget(&self, sale: &JoinedSale) {
        sale.is_gone.store(true, Relaxed);
        self.sales.write().unwrap_or_else(PoisonError::into_inner).remove(&sale.id);
        let _line = lock(&self.line);
        sale.number.store(NEVER, Relaxed);
    }

    fn news(&self, sale: &Arc<JoinedSale>, news: News, denied: &mut DeniedComing) -> io::Result<()> {
        let News { kept, spec, seen, answers } = news;
        kept.into_iter().for_each(|shopper| sale.known.keep(shopper));
        if let Some(seen) = seen {
            let spec = match spec {
                Some(spec) => Arc::new(serde_json::from_str(&spec).map_err(io::Error::other)?),
                None => Arc::clone(&sale.view.load().spec),
            };
            let denied = denied.list(&sale.view.load().denied, seen.denied)?;
            let fill = seen.fill;
            sale.see(seen.view(sale.id.clone(), spec, denied), fill);
        }
        if answers.is_empty() {
            return Ok(());
        }
        let landed: Vec<(Flight, Result<Told, Unavailable>)> = {
            let mut line = lock(&self.line);
            let land = |(token, said)| Some((line.attempts.remove(&token)?, said));
            answers.into_iter().filter_map(land).collect()
        };
        sale.on_the_way.fetch_sub(landed.len() as u64, Relaxed);
        let mut post: Vec<(Arc<dyn Mailbox>, Vec<Mail>)> = Vec::new();
        for (flight, said) in landed {
            // A shopper who was told a place in line is already in the filter.
            sale.known.decided(flight.shopper);
            match flight.waiter {
                // The caller may have gone.
                Waiter::One(sender) => drop(sender.send(said)),
                Waiter::Many(to, token) => {
                    let mail = Mail { token, said };
                    match post.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &to)) {
                        Some((_, mails)) => mails.push(mail),
                        None => post.push((to, vec![mail])),
                    }
                }
            }
        }
        post.iter_mut().for_each(|(to, mails)| to.deliver(mails));
        Ok(())
    }

    /// Sends a message if the connection is up, the sale was received on it, and there is room, or
    /// returns what is missing; the consequences are noted in `line` at the same time.
    fn put(
        &self,
        sale: Option<&JoinedSale>,
        message: impl FnOnce(SaleNumber) -> ToSales,
        note: impl FnOnce(&mut Line),
    ) -> Result<(), Unavailable> {
        let mut line = lock(&self.line);
        let on_the_way = line.attempts.len() + line.asked.len();
        // Under the lock: a number is valid for the connection on which it was received.
        let number = sale.map_or(0, |sale| sale.number.load(Relaxed));
        if number == NEVER || !line.up {
            return Err(away());
        }
        if on_the_way >= ON_THE_WAY_MAX || line.unsent.len() >= UNSENT_BYTES_MAX {
            return Err(Unavailable::QueueFull);
        }
        let was_empty = line.unsent.is_empty();
        if let Err(error) = message::write(&message(number as SaleNumber), &mut line.unsent) {
            tracing::error!(%error, "put a question to the process with the sales: failed");
            return Err(Unavailable::QueueFull);
        }
        note(&mut line);
        drop(line);
        if was_empty {
            self.to_send.notify_all();
        }
        Ok(())
    }

    /// Whether the gate's copy of the sale is current.
    fn is_fresh(&self) -> bool {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let heard_ms = self.heard_ms.load(Relaxed);
        heard_ms != NEVER && now_ms.saturating_sub(heard_ms) < NEWS_MAX.as_millis() as u64
    }

    fn next_token(&self) -> u64 {
        self.token.fetch_add(1, Relaxed)
    }

    /// Sends a request; `pick` takes its answer out of the reply.
    fn ask<T: Send + 'static>(
        &self,
        sale: Option<&JoinedSale>,
        question: impl FnOnce(SaleNumber) -> Question,
        pick: impl FnOnce(Option<Reply>) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let token = self.next_token();
        // The caller may have gone.
        let mut tell: Option<Tell> = Some(Box::new(move |reply| drop(sender.send(pick(reply)))));
        let message = |number| ToSales::Ask(token, question(number));
        // If something is missing, the caller is answered as if no reply came.
        let _ = self.put(sale, message, |line| {
            if let Some(tell) = tell.take() {
                line.asked.insert(token, tell);
            }
        });
        if let Some(tell) = tell {
            tell(None);
        }
        receiver
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Flight {
    fn land(self, said: Result<Told, Unavailable>) {
        self.sale.on_the_way.fetch_sub(1, Relaxed);
        self.sale.known.decided(self.shopper);
        self.waiter.tell(said);
    }
}

impl Waiter {
    fn tell(self, said: Result<Told, Unavailable>) {
        match self {
            Self::One(sender) => drop(sender.send(said)),
            Self::Many(to, token) => to.deliver(&mut vec![Mail { token, said }]),
        }
    }
}

impl JoinedSale {
    fn see(&self, view: SaleView, fill: Fill) {
        let as_of = view.as_of;
        self.view.store(Arc::new(view));
        *lock(&self.fill) = fill;
        self.sequence.send_if_modified(|last| std::mem::replace(last, as_of) != as_of);
    }

    /// Sends attempts, all or none; their callers are told if none was sent.
    fn put(self: &Arc<Self>, batch: Vec<(Attempt, Waiter)>, patience_ms: u64) {
        let link = self.link.upgrade();
        let tokens: Vec<u64> =
            batch.iter().map(|_| link.as_ref().map_or(0, |link| link.next_token())).collect();
        let named = tokens.iter().zip(&batch).map(|(token, (attempt, _))| (*token, *attempt)).collect();
        // In the filter before the answer can arrive.
        batch.iter().for_each(|(attempt, _)| self.known.ask(attempt.shopper));
        let mut batch = Some(batch);
        let message = |number| ToSales::Attempts(number, patience_ms, named);
        let note = |line: &mut Line| {
            for (token, (attempt, waiter)) in tokens.iter().zip(batch.take().into_iter().flatten()) {
                self.on_the_way.fetch_add(1, Relaxed);
                let flight = Flight { sale: Arc::clone(self), shopper: attempt.shopper, waiter };
                line.attempts.insert(*token, flight);
            }
        };
        let put = link.map_or_else(|| Err(away()), |link| link.put(Some(self), message, note));
        let Err(why) = put else { return };
        for (attempt, waiter) in batch.into_iter().flatten() {
            self.known.decided(attempt.shopper);
            waiter.tell(Err(why.clone()));
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(SaleNumber) -> Question,
        pick: impl FnOnce(Reply) -> Option<Result<T, Unavailable>> + Send + 'static,
    ) -> ports::Reply<T> {
        let pick = |reply: Option<Reply>| reply.and_then(pick).unwrap_or_else(|| Err(away()));
        match self.link.upgrade() {
            Some(link) => link.ask(Some(self), question, pick),
            None => oneshot::channel().1,
        }
    }
}

/// The gate's port over a sale of another process.
struct Wired(Arc<JoinedSale>);

impl Sale for Wired {
    fn view(&self) -> Arc<SaleView> {
        self.0.view.load_full()
    }

    fn is_gone(&self) -> bool {
        self.0.is_gone.load(Relaxed)
    }

    fn attempt(&self, attempt: Attempt, patience_ms: u64) -> ports::Reply<Told> {
        let (sender, told) = oneshot::channel();
        self.0.put(vec![(attempt, Waiter::One(sender))], patience_ms);
        told
    }

    fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>) {
        let waiting = |(token, attempt)| (attempt, Waiter::Many(Arc::clone(to), token));
        self.0.put(batch.drain(..).map(waiting).collect(), patience_ms);
    }

    fn may_have(&self, shopper: ShopperKey) -> bool {
        // An outdated view is no ground for a refusal: the sale may have gone on without this gate.
        let is_told = self.0.number.load(Relaxed) != NEVER;
        let is_fresh = is_told && self.0.link.upgrade().is_some_and(|link| link.is_fresh());
        !is_fresh || self.0.known.may_have(shopper)
    }

    fn expect(&self, shopper: ShopperKey) {
        self.0.known.ask(shopper);
    }

    fn no_longer_expect(&self, shopper: ShopperKey) {
        self.0.known.decided(shopper);
    }

    fn gate_refused(&self, counts: &[GateRefusal]) {
        let Some(link) = self.0.link.upgrade() else { return };
        let mut unreported = lock(&self.0.unreported);
        for count in counts {
            if unreported.iter_mut().any(|known| known.merge(count)) {
                continue;
            }
            match unreported.len() < COUNTS_MAX {
                true => unreported.push(*count),
                false => {
                    tracing::warn!(sale = %self.0.id, "answers that this gate gave by itself are not in the log: the line is stuck")
                }
            }
        }
        // Refusals that find no room now go with the next report.
        let report = unreported.clone();
        if link.put(Some(&self.0), |number| ToSales::GateRefusal(number, report), |_| {}).is_ok() {
            unreported.clear();
        }
    }

    fn queue(&self) -> QueueFill {
        let Fill { queue, line } = *lock(&self.0.fill);
        // This gate's requests under way wait too, wherever they are; but not those that are in
        // line by now.
        let mine = self.0.on_the_way.load(Relaxed).saturating_sub(line.0);
        QueueFill { length: mine.max(queue.0), max: queue.1, line: line.0, line_max: line.1 }
    }

    fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> ports::Reply<Option<Told>> {
        // The sale must answer: this gate does not know how many attempts of other gates are before
        // it. The attempt was sent on the same connection before.
        let question = move |number| Question::Position(number, attempt, shopper);
        self.0.ask(question, |reply| if let Reply::Position(place) = reply { Some(place) } else { None })
    }

    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> ports::Reply<Found> {
        let question = move |number| Question::Lookup(number, attempt, shopper);
        self.0.ask(question, |reply| if let Reply::Found(found) = reply { Some(found) } else { None })
    }

    fn shopper(&self, shopper: ShopperKey) -> ports::Reply<ShopperRecord> {
        let question = move |number| Question::Shopper(number, shopper);
        self.0.ask(question, |reply| if let Reply::Shopper(record) = reply { Some(record) } else { None })
    }

    fn operate(
        &self,
        actor: Actor,
        operation: Operation,
    ) -> ports::Reply<Result<OperationDone, OperateError>> {
        let done = |reply| if let Reply::Operated(done) = reply { Some(done) } else { None };
        // The commands that are a shopper's own. Operators' commands go to the other process.
        match operation {
            Operation::Reserve { shopper, reserved } => {
                self.0.ask(move |number| Question::Reserve(number, shopper, reserved), done)
            }
            Operation::Release { hold } if actor.name == Actor::SHOPPER => {
                self.0.ask(move |number| Question::GiveBack(number, hold), done)
            }
            _ => {
                let (sender, receiver) = oneshot::channel();
                // The receiver still exists here.
                let _ = sender.send(Err(elsewhere()));
                receiver
            }
        }
    }

    fn stats(&self) -> ports::Reply<SaleStats> {
        let question = Question::Stats;
        self.0.ask(question, |reply| if let Reply::Stats(stats) = reply { Some(stats) } else { None })
    }

    fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence.subscribe()
    }

    fn log_id(&self) -> &str {
        &self.0.log_id
    }

    fn timeline(
        &self,
        _: Sequence,
        _: TimelineFilter,
        _: usize,
    ) -> Result<(Vec<TimelineEntry>, Sequence), Unavailable> {
        Err(elsewhere())
    }

    fn waiting(&self, _: WaitingQuery) -> ports::Reply<Vec<WaitingPlace>> {
        let (sender, reply) = oneshot::channel();
        // The receiver still exists here.
        let _ = sender.send(Err(elsewhere()));
        reply
    }

    fn times(&self, _: &[Sequence]) -> Result<Vec<TimeMs>, Unavailable> {
        Err(elsewhere())
    }

    fn winners(&self, _: Sequence, _: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        Err(elsewhere())
    }
}

fn elsewhere() -> Unavailable {
    Unavailable::Passing("this is a gate: ask the process that has the sales".into())
}

impl Sales for Joined {
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>> {
        let sales = self.0.sales.read().unwrap_or_else(PoisonError::into_inner);
        let sale = sales.get(&sale.parse::<SaleId>().ok()?)?;
        Some(Arc::new(Wired(Arc::clone(sale))))
    }

    fn list(&self) -> Vec<SaleId> {
        self.0.sales.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn down(&self) -> Vec<SaleId> {
        lock(&self.0.down).clone()
    }

    fn health(&self, _: &SaleId) -> SaleHealth {
        // The process with the sale reports its health.
        SaleHealth::default()
    }

    fn define(&self, _: &SaleId, _: Actor, _: Box<SaleSpec>) -> Made {
        Err(elsewhere())
    }

    fn delete(&self, _: &SaleId) -> Made {
        Err(elsewhere())
    }

    fn now(&self) -> TimeMs {
        // The other process's time, so that all gates of a sale have the same; it never runs
        // backwards here.
        let now = self.0.clock.now().0.saturating_add_signed(self.0.ahead_ms.load(Relaxed));
        TimeMs(self.0.latest_ms.fetch_max(now, Relaxed).max(now))
    }
}

impl UsedChallenges for Joined {
    fn use_up(
        &self,
        nonce: [u8; 16],
        expires_at: TimeMs,
        now: TimeMs,
    ) -> oneshot::Receiver<Result<(), UseError>> {
        self.0.ask(
            None,
            |_| Question::UseUp { nonce, expires_at, now },
            |reply| match reply {
                Some(Reply::UsedUp(used)) => used,
                _ => Err(UseError::Busy),
            },
        )
    }
}
