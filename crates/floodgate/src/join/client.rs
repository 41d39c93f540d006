//! A gate's side: the sales of another process, behind the gate's ports. While that process is away, what must be asked is
//! answered "not now"; nothing is lost, for the same question may be asked again.

use super::message::{self, News, Question, Reply, SaleNumber, Seen, ToGate, ToSales};
use arc_swap::ArcSwap;
use contracts::{
    Actor, Answer, Attempt, Found, Mail, Mailbox, OperateError, Operation, OperationDone, SaleSpec,
    SaleStats, SaleView, ShopperRecord, SoldOutCount, Unavailable,
};
use engines::clock::{Clock, SteadyClock};
use gate::ports::{self, QueueFill, Queued, Sale, SaleHealth, Sales, UseError, UsedChallenges, Winner};
use sale::known::Known;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use units::{AttemptId, SaleId, Sequence, ShopperKey, TimeMs};

/// Attempts and questions that may be on their way, and bytes that may wait for the socket.
const ON_THE_WAY_MAX: usize = 1 << 17;
const UNSENT_BYTES_MAX: usize = 16 << 20;
/// How soon it is tried again where nobody listens.
const AGAIN_IN: Duration = Duration::from_millis(100);
/// How long the sales may take to be told at the start.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(30);

/// The sales of the process that listens on a socket.
#[derive(Debug, Clone)]
pub(crate) struct Joined(Arc<Link>);

struct Link {
    socket: PathBuf,
    clock: SteadyClock,
    sales: RwLock<BTreeMap<SaleId, Arc<JoinedSale>>>,
    down: Mutex<Vec<SaleId>>,
    line: Mutex<Line>,
    /// There are bytes to be sent, or the line has changed.
    to_send: Condvar,
    token: AtomicU64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.socket.display())
    }
}

/// The line to the other process, and what is on its way.
#[derive(Default)]
struct Line {
    /// Counts connections, so that a thread knows when its own is over.
    number: u64,
    up: bool,
    unsent: Vec<u8>,
    attempts: HashMap<u64, Flight>,
    asked: HashMap<u64, Tell>,
}

/// Takes a reply to whoever asked; none if it will never come.
type Tell = Box<dyn FnOnce(Option<Reply>) + Send>;

/// An attempt that is not answered.
struct Flight {
    sale: Arc<JoinedSale>,
    shopper: ShopperKey,
    id: AttemptId,
    /// Its number among all that this gate has sent.
    number: u64,
    waiter: Waiter,
}

enum Waiter {
    One(oneshot::Sender<Result<Answer, Unavailable>>),
    Many(Arc<dyn Mailbox>, u64),
}

struct JoinedSale {
    link: std::sync::Weak<Link>,
    id: SaleId,
    log_id: String,
    /// On the present line.
    number: AtomicU64,
    view: ArcSwap<SaleView>,
    known: Known,
    queue: AtomicU64,
    queue_max: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    sequence: watch::Sender<Sequence>,
}

/// What is behind a lock is whole between two statements, so a panic of another holder leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away() -> Unavailable {
    Unavailable::Passing("the process with the sales is away: ask again in a moment".into())
}

impl Joined {
    /// Joins the process that listens there, and waits until its sales are told. Afterwards it follows it through restarts.
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let link = Arc::new(Link {
            socket: socket.to_owned(),
            clock: SteadyClock::start(),
            sales: RwLock::default(),
            down: Mutex::default(),
            line: Mutex::default(),
            to_send: Condvar::new(),
            token: AtomicU64::new(0),
        });
        let (told, is_told) = std::sync::mpsc::channel();
        let reader = Arc::clone(&link);
        std::thread::Builder::new().name("join".into()).spawn(move || {
            let _guard = super::EndProcessOnPanic;
            let mut told = Some(told);
            loop {
                if let Err(error) = reader.follow(&mut told) {
                    if let Some(told) = &told {
                        // Nobody hears it any more once the start has given up.
                        let _ = told.send(Err(error));
                    } else {
                        tracing::error!(%error, socket = %reader.socket.display(), "the process with the sales is away: joining again");
                    }
                }
                reader.hang_up();
                std::thread::sleep(AGAIN_IN);
            }
        })?;
        let named = |why: String| io::Error::other(format!("join {}: {why}", socket.display()));
        let deadline = std::time::Instant::now() + FIRST_WAIT_MAX;
        let mut last = "nothing was said within its time".to_owned();
        loop {
            match is_told.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {
                Ok(Ok(())) => return Ok(Self(link)),
                // It may be starting, as this process is. What speaks another language will not learn it.
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(named(error.to_string()));
                }
                Ok(Err(error)) => {
                    if last != error.to_string() {
                        tracing::warn!(%error, socket = %socket.display(), "nobody to join yet: trying again for a while");
                    }
                    last = error.to_string();
                }
                Err(_) => return Err(named(last)),
            }
        }
    }
}

impl Link {
    /// One connection, from its beginning to its end.
    fn follow(
        self: &Arc<Self>,
        told: &mut Option<std::sync::mpsc::Sender<io::Result<()>>>,
    ) -> io::Result<()> {
        let stream = UnixStream::connect(&self.socket)?;
        let mut hello = Vec::new();
        message::write(&ToSales::Hello(message::greeting()), &mut hello)?;
        (&stream).write_all(&hello)?;
        let mut from = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let mut frame = Vec::new();
        match message::read(&mut from, &mut frame)? {
            ToGate::Hello(theirs) if theirs == message::greeting() => {}
            other => {
                let why =
                    format!("it says {other:?}, and this is {}: run the same build", message::greeting());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        let number = {
            let mut line = lock(&self.line);
            line.number += 1;
            line.number
        };
        let mut sales: Vec<Arc<JoinedSale>> = Vec::new();
        loop {
            match message::read(&mut from, &mut frame)? {
                ToGate::Hello(_) => {}
                ToGate::Sale { id, log_id, spec, seen, known } => {
                    let sale = self.sale(sales.len() as SaleNumber, id, log_id, &spec, seen, known)?;
                    sales.push(sale);
                }
                ToGate::News(sale, news) => {
                    let sale = sales.get(usize::from(sale)).ok_or_else(|| wrong("news of no sale"))?;
                    self.news(sale, news)?;
                }
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

    /// Every sale has been told: from now on the line is used.
    fn begin(
        self: &Arc<Self>,
        number: u64,
        stream: &UnixStream,
        told: &mut Option<std::sync::mpsc::Sender<io::Result<()>>>,
    ) -> io::Result<()> {
        lock(&self.line).up = true;
        let (link, stream) = (Arc::clone(self), stream.try_clone()?);
        std::thread::Builder::new().name("join-send".into()).spawn(move || link.send(number, &stream))?;
        if let Some(told) = told.take() {
            // Nobody hears it if the start has given up.
            let _ = told.send(Ok(()));
        }
        Ok(())
    }

    /// Sends what there is until the line is another one.
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

    /// Nobody is answered any more on this line. What was asked may be decided all the same: its shoppers are known from now on
    /// as those who may have something.
    fn hang_up(&self) {
        let (attempts, asked) = {
            let mut line = lock(&self.line);
            line.up = false;
            line.number += 1;
            line.unsent.clear();
            (std::mem::take(&mut line.attempts), std::mem::take(&mut line.asked))
        };
        self.to_send.notify_all();
        for flight in attempts.into_values() {
            flight.sale.known.keep(flight.shopper);
            flight.land(Err(away()));
        }
        asked.into_values().for_each(|tell| tell(None));
    }

    /// A sale that was told: a new one, or one that is back.
    fn sale(
        self: &Arc<Self>,
        number: SaleNumber,
        id: SaleId,
        log_id: String,
        spec: &str,
        seen: Seen,
        known: Vec<u64>,
    ) -> io::Result<Arc<JoinedSale>> {
        let spec: Arc<SaleSpec> = Arc::new(serde_json::from_str(spec).map_err(io::Error::other)?);
        let queue = seen.queue;
        let view = seen.view(id.clone(), spec);
        let mut sales = self.sales.write().unwrap_or_else(PoisonError::into_inner);
        let sale = match sales.get(&id) {
            Some(sale) if sale.log_id == log_id => Arc::clone(sale),
            Some(_) => {
                // What was said of the log before is not true of this one, and what it knows of shoppers neither.
                tracing::error!(sale = %id, "the sale has another log than before: this gate ends, to start afresh");
                std::process::exit(1);
            }
            None => {
                let sale = Arc::new(JoinedSale {
                    link: Arc::downgrade(self),
                    id: id.clone(),
                    log_id,
                    number: AtomicU64::new(0),
                    view: ArcSwap::from_pointee(view.clone()),
                    known: Known::default(),
                    queue: AtomicU64::new(0),
                    queue_max: AtomicU64::new(0),
                    sent: AtomicU64::new(0),
                    answered: AtomicU64::new(0),
                    sequence: watch::Sender::new(view.as_of),
                });
                sales.insert(id, Arc::clone(&sale));
                sale
            }
        };
        sale.known.keep_words(known.into_iter());
        sale.number.store(u64::from(number), Relaxed);
        sale.see(view, queue);
        Ok(sale)
    }

    fn news(&self, sale: &Arc<JoinedSale>, news: News) -> io::Result<()> {
        let News { kept, spec, seen, answers } = news;
        kept.into_iter().for_each(|shopper| sale.known.keep(shopper));
        if let Some(seen) = seen {
            let spec = match spec {
                Some(spec) => Arc::new(serde_json::from_str(&spec).map_err(io::Error::other)?),
                None => Arc::clone(&sale.view.load().spec),
            };
            let queue = seen.queue;
            sale.see(seen.view(sale.id.clone(), spec), queue);
        }
        if answers.is_empty() {
            return Ok(());
        }
        let landed: Vec<(Flight, Result<Answer, Unavailable>)> = {
            let mut line = lock(&self.line);
            let land = |(token, answer)| Some((line.attempts.remove(&token)?, answer));
            answers.into_iter().filter_map(land).collect()
        };
        sale.answered.fetch_add(landed.len() as u64, Relaxed);
        let mut post: Vec<(Arc<dyn Mailbox>, Vec<Mail>)> = Vec::new();
        for (flight, answer) in landed {
            sale.known.decided(flight.shopper);
            match flight.waiter {
                // Whoever asked may have gone.
                Waiter::One(sender) => drop(sender.send(answer)),
                Waiter::Many(to, token) => {
                    let mail = Mail { token, answer };
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

    /// Puts a message on its way, if the line is up and there is room; what it says of that in `line` is noted with it.
    fn put(&self, message: &ToSales, note: impl FnOnce(&mut Line)) -> bool {
        let mut line = lock(&self.line);
        let on_the_way = line.attempts.len() + line.asked.len();
        if !line.up || on_the_way >= ON_THE_WAY_MAX || line.unsent.len() >= UNSENT_BYTES_MAX {
            return false;
        }
        let was_empty = line.unsent.is_empty();
        if let Err(error) = message::write(message, &mut line.unsent) {
            tracing::error!(%error, "put a question to the process with the sales: failed");
            return false;
        }
        note(&mut line);
        drop(line);
        if was_empty {
            self.to_send.notify_all();
        }
        true
    }

    fn next_token(&self) -> u64 {
        self.token.fetch_add(1, Relaxed)
    }

    /// Puts a question; `pick` takes its answer out of the reply.
    fn ask<T: Send + 'static>(
        &self,
        question: Question,
        pick: impl FnOnce(Option<Reply>) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let token = self.next_token();
        // Whoever asked may have gone.
        let mut tell: Option<Tell> = Some(Box::new(move |reply| drop(sender.send(pick(reply)))));
        self.put(&ToSales::Ask(token, question), |line| {
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
    fn land(self, answer: Result<Answer, Unavailable>) {
        self.sale.known.decided(self.shopper);
        match self.waiter {
            Waiter::One(sender) => drop(sender.send(answer)),
            Waiter::Many(to, token) => to.deliver(&mut vec![Mail { token, answer }]),
        }
    }
}

impl JoinedSale {
    fn see(&self, view: SaleView, queue: (u64, u64)) {
        let as_of = view.as_of;
        self.view.store(Arc::new(view));
        self.queue.store(queue.0, Relaxed);
        self.queue_max.store(queue.1, Relaxed);
        self.sequence.send_if_modified(|last| std::mem::replace(last, as_of) != as_of);
    }

    fn number(&self) -> SaleNumber {
        self.number.load(Relaxed) as SaleNumber
    }

    /// Puts attempts on their way, all or none.
    fn put(self: &Arc<Self>, batch: Vec<(Attempt, Waiter)>) -> Result<u64, Vec<(Attempt, Waiter)>> {
        let Some(link) = self.link.upgrade() else { return Err(batch) };
        let tokens: Vec<u64> = batch.iter().map(|_| link.next_token()).collect();
        let named = tokens.iter().zip(&batch).map(|(token, (attempt, _))| (*token, *attempt)).collect();
        // Known before the answer can be.
        batch.iter().for_each(|(attempt, _)| self.known.ask(attempt.shopper));
        let mut batch = Some(batch);
        let mut first = 0;
        link.put(&ToSales::Attempts(self.number(), named), |line| {
            for (token, (attempt, waiter)) in tokens.iter().zip(batch.take().into_iter().flatten()) {
                let number = self.sent.fetch_add(1, Relaxed);
                first = number;
                let (shopper, id) = (attempt.shopper, attempt.id);
                line.attempts.insert(*token, Flight { sale: Arc::clone(self), shopper, id, number, waiter });
            }
        });
        match batch {
            None => Ok(first.saturating_sub(self.answered.load(Relaxed))),
            Some(batch) => {
                batch.iter().for_each(|(attempt, _)| self.known.decided(attempt.shopper));
                Err(batch)
            }
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: Question,
        pick: impl FnOnce(Reply) -> Option<Result<T, Unavailable>> + Send + 'static,
    ) -> ports::Reply<T> {
        let pick = |reply: Option<Reply>| reply.and_then(pick).unwrap_or_else(|| Err(away()));
        match self.link.upgrade() {
            Some(link) => link.ask(question, pick),
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

    fn attempt(&self, attempt: Attempt) -> Option<Queued> {
        let (sender, answer) = oneshot::channel();
        let position = self.0.put(vec![(attempt, Waiter::One(sender))]).ok()?;
        Some(Queued { position, answer })
    }

    fn attempts(&self, to: &Arc<dyn Mailbox>, batch: &mut Vec<(u64, Attempt)>) {
        let waiting = batch.iter().map(|(token, attempt)| (*attempt, Waiter::Many(Arc::clone(to), *token)));
        if self.0.put(waiting.collect()).is_ok() {
            batch.clear();
        }
    }

    fn may_have(&self, shopper: ShopperKey) -> bool {
        self.0.known.may_have(shopper)
    }

    fn said_sold_out(&self, counts: &[SoldOutCount]) {
        if let Some(link) = self.0.link.upgrade() {
            // Where nobody hears it, the answers were true all the same; only their number is not in the log.
            link.put(&ToSales::SaidSoldOut(self.0.number(), counts.to_vec()), |_| {});
        }
    }

    fn queue(&self) -> QueueFill {
        // What this gate has on its way waits too, wherever it is.
        let mine = self.0.sent.load(Relaxed).saturating_sub(self.0.answered.load(Relaxed));
        QueueFill { length: mine.max(self.0.queue.load(Relaxed)), max: self.0.queue_max.load(Relaxed) }
    }

    fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Option<u64> {
        let link = self.0.link.upgrade()?;
        let line = lock(&link.line);
        let flight =
            line.attempts.values().find(|flight| flight.id == attempt && flight.shopper == shopper)?;
        // Those of this gate, or all that waited when the sale was last heard of: whichever is more.
        let mine = flight.number.saturating_sub(self.0.answered.load(Relaxed));
        Some(mine.max(self.0.queue.load(Relaxed)))
    }

    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> ports::Reply<Found> {
        let question = Question::Lookup(self.0.number(), attempt, shopper);
        self.0.ask(question, |reply| if let Reply::Found(found) = reply { Some(found) } else { None })
    }

    fn shopper(&self, shopper: ShopperKey) -> ports::Reply<ShopperRecord> {
        let question = Question::Shopper(self.0.number(), shopper);
        self.0.ask(question, |reply| if let Reply::Shopper(record) = reply { Some(record) } else { None })
    }

    fn operate(
        &self,
        actor: Actor,
        operation: Operation,
    ) -> ports::Reply<Result<OperationDone, OperateError>> {
        let question = Question::Operate(self.0.number(), actor, operation);
        self.0.ask(question, |reply| if let Reply::Operated(done) = reply { Some(done) } else { None })
    }

    fn stats(&self) -> ports::Reply<SaleStats> {
        let question = Question::Stats(self.0.number());
        self.0.ask(question, |reply| if let Reply::Stats(stats) = reply { Some(stats) } else { None })
    }

    fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence.subscribe()
    }

    fn log_id(&self) -> &str {
        &self.0.log_id
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
        // Whoever has the sale says how it is.
        SaleHealth::default()
    }

    fn get_or_create(&self, _: &SaleId) -> Result<Arc<dyn Sale>, Unavailable> {
        Err(elsewhere())
    }

    fn now(&self) -> TimeMs {
        self.0.clock.now()
    }
}

impl UsedChallenges for Joined {
    fn use_up(
        &self,
        nonce: [u8; 16],
        expires_at: TimeMs,
        now: TimeMs,
    ) -> oneshot::Receiver<Result<(), UseError>> {
        self.0.ask(Question::UseUp { nonce, expires_at, now }, |reply| match reply {
            Some(Reply::UsedUp(used)) => used,
            _ => Err(UseError::Busy),
        })
    }
}
