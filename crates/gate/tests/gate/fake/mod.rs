//! A sale in memory, for tests of the gate alone. It counts stock and remembers answers, and has
//! none of the guarantees of a real sale.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use contracts::{
    Actor, Answer, Attempt, AttemptId, ConfirmResult, Found, GateRefusal, HoldState, HoldView, ItemState,
    ItemStats, ItemView, LinePlace, Mail, Mailbox, OperateError, Operation, OperationDone, Place, Refusal,
    SaleId, SaleSpec, SaleState, SaleStats, SaleView, ShopperKey, StoredAttempt, TimelineEntry,
    TimelineFilter, Told, WaitingPlace, WaitingQuery,
};
use gate::{
    Config, Keyring, Options,
    ports::{
        Made, QueueFill, Reply, Sale, SaleHealth, Sales, ShopperRecord, Unavailable, Winner, WinnerEvent,
    },
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{oneshot, watch};
use units::{DurationMs, Sequence, TimeMs};
use web::{
    api_keys::{ApiKeys, Role},
    jwt::{JwtVerifier, Shopper, sign_token},
};

/// What the sale does with the next attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Answers,
    /// Never decides.
    Silent,
    /// Expects to decide in 90 seconds, and says so.
    InLine,
    /// The same; a look-up of the place then gets a refusal.
    RefusedInLine,
    /// The same; a look-up gets no place.
    MuteInLine,
    /// The line is full, and 7 seconds long.
    Full,
    /// The shopper has as many attempts in line as is allowed.
    TooMany,
    /// Cannot answer for a moment.
    Passing,
    /// Cannot answer until an operator acts.
    Unavailable,
    Panics,
    Waitlists,
    /// Refuses shoppers who have nothing, by a rule that the gate does not know.
    NotEligible,
    /// Carries out a command only some time after it was sent.
    Slow,
    /// Grants everything and keeps nothing, without allocating.
    Grants,
}

/// The place of an attempt in line.
pub const IN_LINE: LinePlace = LinePlace { position: 41, wait_ms: Some(90_000) };

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub shop: std::net::SocketAddr,
    pub tls: Option<std::net::SocketAddr>,
    pub admin: std::net::SocketAddr,
}

pub struct FakeSale {
    inner: Mutex<Inner>,
    held: Mutex<VecDeque<(Sender<()>, Receiver<()>)>>,
    sequence: watch::Sender<Sequence>,
    skew_ms: Arc<AtomicU64>,
    is_gone: AtomicBool,
}

struct Inner {
    view: Arc<SaleView>,
    stored: Vec<(ShopperKey, StoredAttempt)>,
    free: u64,
    mood: Mood,
    operations: Vec<(Actor, Operation)>,
    winners: Vec<Winner>,
    timeline: Vec<TimelineEntry>,
    waiting: Vec<WaitingPlace>,
    reserved: bool,
    /// Attempts that were submitted to it, and the answers that the gate gave without asking.
    asked: u64,
    said: Vec<GateRefusal>,
    /// The shoppers whose attempts wait at the gate for their turn.
    expected: Vec<ShopperKey>,
    mail: Vec<Mail>,
    queue_length: u64,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

fn ready<T>(value: T) -> Reply<T> {
    let (send, receive) = oneshot::channel();
    let _ = send.send(Ok(value));
    receive
}

/// A sale of two items that opens in this many seconds.
pub fn spec(opens_in_seconds: u64) -> SaleSpec {
    let opens_at = TimeMs(now_ms()).plus(DurationMs::seconds(opens_in_seconds));
    let closes_at = opens_at.plus(DurationMs::seconds(3600));
    let offer = |item: &str, price_minor: u64| serde_json::json!({"item": item, "stock": 2, "price_minor": price_minor});
    let spec = serde_json::json!({
        "name": "Launch <day>", "name_zh": "新品首发", "currency": "CNY",
        "items": [{"item": "phone", "name": "Phone", "name_zh": "手机"}, {"item": "watch", "name": "Watch", "name_zh": "手表"}],
        "rounds": [{"opens_at": opens_at, "closes_at": closes_at, "items": [offer("phone", 199_900), offer("watch", 9900)]}],
    });
    serde_json::from_value(spec).unwrap()
}

impl FakeSale {
    fn new(sale: &SaleId, spec: SaleSpec, open: bool, skew_ms: Arc<AtomicU64>) -> Self {
        let state = if open { ItemState::Available } else { ItemState::Upcoming };
        let view = SaleView {
            sale: sale.clone(),
            state: if open { SaleState::Open } else { SaleState::Scheduled },
            rounds_opened: u16::from(open),
            opens_at: spec.rounds[0].opens_at,
            closes_at: spec.rounds[0].closes_at,
            items: [199_900, 9900]
                .map(|price_minor| ItemView {
                    state,
                    offered: true,
                    waitlist_open: true,
                    price_minor,
                    limit_per_shopper: spec.rounds[0].items[0].limit_per_shopper,
                    sold_out_since: Sequence(1),
                })
                .to_vec(),
            limit_per_shopper: spec.limit_per_shopper,
            rate_per_second: 0,
            disk_full: false,
            pause: None,
            is_restored: false,
            state_since: Sequence(1),
            denied: Arc::default(),
            as_of: Sequence(1),
            spec: Arc::new(spec),
        };
        let inner = Inner {
            view: Arc::new(view),
            stored: Vec::new(),
            free: 2,
            mood: Mood::Answers,
            operations: Vec::new(),
            winners: Vec::new(),
            timeline: Vec::new(),
            waiting: Vec::new(),
            reserved: false,
            asked: 0,
            said: Vec::new(),
            expected: Vec::new(),
            mail: Vec::new(),
            queue_length: 0,
        };
        Self {
            inner: Mutex::new(inner),
            held: Mutex::default(),
            sequence: watch::Sender::new(Sequence(1)),
            skew_ms,
            is_gone: AtomicBool::new(false),
        }
    }

    pub fn set_mood(&self, mood: Mood) {
        self.inner.lock().unwrap().mood = mood;
    }

    /// Holds the loop that submits the next attempts inside the sale. The first channel end is told
    /// when it is there; it goes on once the second end is dropped. What arrives meanwhile, the
    /// loop finds in one turn.
    pub fn hold_next(&self) -> (Receiver<()>, Sender<()>) {
        let ((there, hears), (releases, go_on)) = (channel(), channel());
        self.held.lock().unwrap().push_back((there, go_on));
        (hears, releases)
    }

    /// Makes the queue report that this many of its 100 places are taken.
    pub fn set_queue(&self, length: u64) {
        self.inner.lock().unwrap().queue_length = length;
    }

    pub fn change_view(&self, change: impl FnOnce(&mut SaleView)) {
        let mut inner = self.inner.lock().unwrap();
        let mut view = (*inner.view).clone();
        change(&mut view);
        inner.view = Arc::new(view);
        drop(inner);
        self.advance();
    }

    pub fn open(&self) {
        self.change_view(|v| {
            v.state = SaleState::Open;
            v.rounds_opened = 1;
            v.items.iter_mut().for_each(|i| i.state = ItemState::Available);
        });
    }

    pub fn set_waiting(&self, places: Vec<WaitingPlace>) {
        self.inner.lock().unwrap().waiting = places;
    }

    pub fn log(&self, entry: TimelineEntry) {
        self.inner.lock().unwrap().timeline.push(entry);
    }

    /// The answers that the gate gave without asking.
    pub fn said(&self) -> Vec<GateRefusal> {
        self.inner.lock().unwrap().said.clone()
    }

    pub fn operations(&self) -> Vec<(Actor, Operation)> {
        self.inner.lock().unwrap().operations.clone()
    }

    /// Attempts that were submitted to it.
    pub fn asked(&self) -> u64 {
        self.inner.lock().unwrap().asked
    }

    fn advance(&self) -> Sequence {
        self.sequence.send_modify(|s| *s = s.next());
        *self.sequence.borrow()
    }

    fn now(&self) -> TimeMs {
        TimeMs(now_ms() + self.skew_ms.load(Relaxed))
    }

    fn set_hold(&self, hold: AttemptId, state: HoldState, event: WinnerEvent) -> Option<HoldView> {
        let sequence = self.advance();
        let mut inner = self.inner.lock().unwrap();
        let at = inner.stored.iter().position(|(_, s)| s.id == hold)?;
        let Answer::Granted(view) = &mut inner.stored[at].1.answer else { return None };
        view.state = state;
        let view = *view;
        inner.winners.push(Winner { sequence, at: TimeMs(now_ms()), hold, event });
        Some(view)
    }
}

impl Sale for FakeSale {
    fn view(&self) -> Arc<SaleView> {
        Arc::clone(&self.inner.lock().unwrap().view)
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    fn attempt(&self, attempt: Attempt, _: u64) -> Reply<Told> {
        let (send, told) = oneshot::channel();
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let as_of = *self.sequence.borrow();
        inner.asked += 1;
        let known = inner.stored.iter().find(|(_, s)| s.id == attempt.id).map(|(_, s)| *s);
        let said = match (inner.mood, known) {
            (Mood::Panics, _) => panic!("a bug"),
            (Mood::Passing, _) => Err(Unavailable::Passing("the disk is full".into())),
            (Mood::Unavailable, _) => Err(Unavailable::Stopped("log in an unknown state".into())),
            (Mood::Silent, _) => {
                std::mem::forget(send);
                return told;
            }
            (_, Some(stored)) if stored.basket != attempt.basket => Ok(Answer::KeyReused),
            (_, Some(stored)) => Ok(stored.answer),
            (Mood::Full, None) => Err(Unavailable::LineFull { wait_ms: Some(7000) }),
            (Mood::TooMany, None) => Err(Unavailable::TooManyInLine { wait_ms: Some(20_000) }),
            (Mood::InLine | Mood::RefusedInLine | Mood::MuteInLine, None) => {
                let _ = send.send(Ok(Told::InLine(IN_LINE)));
                return told;
            }
            (Mood::Grants, None) => Err(Unavailable::QueueFull),
            (Mood::NotEligible, None) => Ok(Answer::Refused { refusal: Refusal::NotEligible, as_of }),
            (Mood::Waitlists, None) => Ok(Answer::Waitlisted { position: 3, place: Place::Waiting }),
            (Mood::Answers | Mood::Slow, None) if inner.view.state == SaleState::Scheduled => {
                Ok(Answer::Refused { refusal: Refusal::NotOpen, as_of })
            }
            (Mood::Answers | Mood::Slow, None) if inner.free == 0 => {
                Ok(Answer::Refused { refusal: Refusal::SoldOut, as_of })
            }
            (Mood::Answers | Mood::Slow, None) => {
                if let Some((_, mine)) =
                    inner.stored.iter().find(|(s, a)| *s == attempt.shopper && a.basket == attempt.basket)
                {
                    let refusal = Refusal::LimitReached { held_by: Some(mine.id) };
                    Ok(Answer::Refused { refusal, as_of })
                } else {
                    inner.free -= 1;
                    let pay_by = self.now().plus(DurationMs::seconds(900));
                    let sequence = self.advance();
                    let event = WinnerEvent::Granted {
                        sealed: attempt.sealed,
                        shopper: attempt.shopper,
                        basket: attempt.basket,
                        prices_minor: vec![199_900; attempt.basket.len()],
                        pay_by,
                    };
                    inner.winners.push(Winner { sequence, at: self.now(), hold: attempt.id, event });
                    Ok(Answer::Granted(HoldView { state: HoldState::Held, pay_by, granted_as_of: sequence }))
                }
            }
        };
        if let Ok(answer @ (Answer::Granted(_) | Answer::Waitlisted { .. })) = said
            && known.is_none()
        {
            inner.stored.insert(
                0,
                (attempt.shopper, StoredAttempt { id: attempt.id, basket: attempt.basket, answer }),
            );
        }
        let _ = send.send(said.map(Told::Answer));
        told
    }

    fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>) {
        let held = self.held.lock().unwrap().pop_front();
        if let Some((there, go_on)) = held {
            there.send(()).unwrap();
            let _ = go_on.recv();
        }
        let mut inner = self.inner.lock().unwrap();
        if inner.mood == Mood::Grants {
            let (pay_by, granted_as_of) = (self.now(), Sequence(1));
            let answer = Answer::Granted(HoldView { state: HoldState::Held, pay_by, granted_as_of });
            let said = Ok(Told::Answer(answer));
            inner.mail.extend(batch.drain(..).map(|(token, _)| Mail { token, said: said.clone() }));
            return to.deliver(&mut inner.mail);
        }
        drop(inner);
        for (token, attempt) in batch.drain(..) {
            if let Ok(said) = self.attempt(attempt, patience_ms).try_recv() {
                to.deliver(&mut vec![Mail { token, said }]);
            }
        }
    }

    fn may_have(&self, shopper: ShopperKey) -> bool {
        let inner = self.inner.lock().unwrap();
        inner.stored.iter().any(|(of, _)| *of == shopper) || inner.expected.contains(&shopper)
    }

    fn expect(&self, shopper: ShopperKey) {
        self.inner.lock().unwrap().expected.push(shopper);
    }

    fn no_longer_expect(&self, shopper: ShopperKey) {
        let mut inner = self.inner.lock().unwrap();
        let at = inner.expected.iter().position(|of| *of == shopper).unwrap();
        inner.expected.remove(at);
    }

    fn gate_refused(&self, counts: &[GateRefusal]) {
        self.inner.lock().unwrap().said.extend(counts);
    }

    fn queue(&self) -> QueueFill {
        QueueFill { length: self.inner.lock().unwrap().queue_length, max: 100, line: 1000, line_max: 5000 }
    }

    fn position(&self, _: AttemptId, _: ShopperKey) -> Reply<Option<Told>> {
        ready(match self.inner.lock().unwrap().mood {
            Mood::Silent => Some(Told::InLine(LinePlace { position: 5, wait_ms: None })),
            Mood::InLine => Some(Told::InLine(IN_LINE)),
            Mood::RefusedInLine => {
                let as_of = *self.sequence.borrow();
                Some(Told::Answer(Answer::Refused { refusal: Refusal::SoldOut, as_of }))
            }
            Mood::MuteInLine => {
                let (send, reply) = oneshot::channel();
                let _ = send.send(Err(Unavailable::QueueFull));
                return reply;
            }
            _ => None,
        })
    }

    fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Reply<Found> {
        let inner = self.inner.lock().unwrap();
        let found = inner.stored.iter().find(|(s, a)| *s == shopper && a.id == attempt);
        let none = Found { answer: Answer::None { as_of: *self.sequence.borrow() }, basket: None };
        ready(found.map_or(none, |(_, a)| Found { answer: a.answer, basket: Some(a.basket) }))
    }

    fn shopper(&self, shopper: ShopperKey) -> Reply<ShopperRecord> {
        let inner = self.inner.lock().unwrap();
        let attempts = inner.stored.iter().filter(|(s, _)| *s == shopper).map(|(_, a)| *a).collect();
        ready(ShopperRecord { attempts, reserved: inner.reserved, as_of: *self.sequence.borrow() })
    }

    fn operate(&self, actor: Actor, operation: Operation) -> Reply<Result<OperationDone, OperateError>> {
        self.inner.lock().unwrap().operations.push((actor, operation.clone()));
        let missing = || OperateError::NotFound("no such hold".into());
        if self.inner.lock().unwrap().mood == Mood::Slow {
            let (send, reply) = oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                send.send(Ok(Ok(OperationDone::Ok)))
            });
            return reply;
        }
        let operation = match operation {
            Operation::Once { operation, .. } => *operation,
            operation => operation,
        };
        ready(match operation {
            Operation::Open => {
                self.open();
                Ok(OperationDone::Ok)
            }
            Operation::Pause => Err(OperateError::Conflict("it is paused already".into())),
            Operation::Confirm { hold, payment } => {
                let event = WinnerEvent::Confirmed { payment, late: false };
                let hold = self.set_hold(hold, HoldState::Confirmed, event).ok_or_else(missing);
                hold.map(|hold| OperationDone::Confirmed {
                    result: ConfirmResult::Confirmed { late: false },
                    hold,
                })
            }
            Operation::Release { hold } => {
                let hold =
                    self.set_hold(hold, HoldState::Released, WinnerEvent::Released).ok_or_else(missing);
                hold.map(|hold| OperationDone::Released { hold: Some(hold) })
            }
            Operation::Reserve { reserved, .. } => {
                self.inner.lock().unwrap().reserved = reserved;
                Ok(OperationDone::Reserved { reserved })
            }
            Operation::Void(_) => Ok(OperationDone::Voided { count: 1 }),
            Operation::Adjust { .. } => Ok(OperationDone::Adjusted { free: 9 }),
            _ => Ok(OperationDone::Ok),
        })
    }

    fn stats(&self) -> Reply<SaleStats> {
        let inner = self.inner.lock().unwrap();
        let count = |at: usize, state| {
            let of = inner.stored.iter().filter(|(_, stored)| {
                usize::from(stored.basket[0].item) == at
                    && matches!(stored.answer, Answer::Granted(hold) if hold.state == state)
            });
            of.count() as u64
        };
        let items = inner.view.spec.items.iter().enumerate().map(|(at, item)| ItemStats {
            item: item.item.clone(),
            initial: 0,
            adjustments: 0,
            free: 0,
            held: count(at, HoldState::Held),
            sold: count(at, HoldState::Confirmed),
            waiting: 0,
        });
        ready(SaleStats { as_of: *self.sequence.borrow(), items: items.collect(), ..SaleStats::default() })
    }

    fn sequence(&self) -> watch::Receiver<Sequence> {
        self.sequence.subscribe()
    }

    fn waiting(&self, query: WaitingQuery) -> Reply<Vec<WaitingPlace>> {
        let inner = self.inner.lock().unwrap();
        let wanted = |place: &&WaitingPlace| {
            place.as_of > query.after && query.item.is_none_or(|item| place.basket[0].item == item)
        };
        ready(inner.waiting.iter().filter(wanted).take(query.max).copied().collect())
    }

    /// Entries are a second apart, and of one read only a few are found.
    fn times(&self, of: &[Sequence]) -> Result<Vec<TimeMs>, Unavailable> {
        Ok(of.iter().take(3).map(|sequence| TimeMs(sequence.0 * 1000)).collect())
    }

    fn log_id(&self) -> &str {
        "00112233445566778899aabbccddeeff"
    }

    fn timeline(
        &self,
        after: Sequence,
        wanted: TimelineFilter,
        max: usize,
    ) -> Result<(Vec<TimelineEntry>, Sequence), Unavailable> {
        let all: Vec<TimelineEntry> = self.inner.lock().unwrap().timeline.clone();
        let found = all.into_iter().filter(|e| e.sequence > after && wanted.wants(e)).take(max).collect();
        Ok((found, *self.sequence.borrow()))
    }

    fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        let inner = self.inner.lock().unwrap();
        let found: Vec<Winner> =
            inner.winners.iter().filter(|w| w.sequence > after).take(max).cloned().collect();
        let searched = if found.len() == max { found[max - 1].sequence } else { *self.sequence.borrow() };
        Ok((found, searched))
    }
}

#[derive(Default)]
pub struct FakeSales {
    sales: Mutex<Vec<(SaleId, Arc<FakeSale>)>>,
    pub skew_ms: Arc<AtomicU64>,
    pub down: Mutex<Vec<SaleId>>,
    /// The health of sales that are not well.
    pub health: Mutex<Vec<(SaleId, SaleHealth)>>,
}

impl FakeSales {
    pub fn add(&self, sale: &str, spec: SaleSpec, open: bool) -> Arc<FakeSale> {
        let id: SaleId = sale.parse().unwrap();
        let sale = Arc::new(FakeSale::new(&id, spec, open, Arc::clone(&self.skew_ms)));
        self.sales.lock().unwrap().push((id, Arc::clone(&sale)));
        sale
    }
}

impl Sales for FakeSales {
    fn get(&self, sale: &str) -> Option<Arc<dyn Sale>> {
        let sales = self.sales.lock().unwrap();
        sales.iter().find(|(id, _)| id.as_str() == sale).map(|(_, s)| Arc::clone(s) as Arc<dyn Sale>)
    }

    fn list(&self) -> Vec<SaleId> {
        self.sales.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }

    fn message_service(&self) -> gate::ports::MessageService {
        gate::ports::MessageService::Runs
    }

    fn down(&self) -> Vec<SaleId> {
        self.down.lock().unwrap().clone()
    }

    fn health(&self, sale: &SaleId) -> SaleHealth {
        let health = self.health.lock().unwrap();
        health
            .iter()
            .find(|(id, _)| id == sale)
            .map_or_else(SaleHealth::default, |(_, health)| health.clone())
    }

    fn define(&self, sale: &SaleId, actor: Actor, new: Box<SaleSpec>) -> Made {
        let made = self.get(sale.as_str()).unwrap_or_else(|| self.add(sale.as_str(), (*new).clone(), false));
        let done = made.operate(actor, Operation::Define(new)).blocking_recv().unwrap()?;
        Ok(done.map(drop))
    }

    fn delete(&self, sale: &SaleId) -> Made {
        let mut sales = self.sales.lock().unwrap();
        let Some(at) = sales.iter().position(|(id, _)| id == sale) else {
            return Ok(Err(OperateError::NotFound("no such sale".into())));
        };
        if sales[at].1.view().rounds_opened > 0 {
            return Ok(Err(OperateError::Conflict("the sale has opened".into())));
        }
        let (_, sale) = sales.remove(at);
        sale.is_gone.store(true, Relaxed);
        Ok(Ok(()))
    }

    fn now(&self) -> TimeMs {
        TimeMs(now_ms() + self.skew_ms.load(Relaxed))
    }
}

pub const MEMORY_LIMIT_BYTES: u64 = 1 << 30;
pub const THREADS: usize = 2;

/// A gate with the fake sale, on free ports.
pub struct Running {
    pub bound: Bound,
    pub sales: Arc<FakeSales>,
    pub sale: Arc<FakeSale>,
    pub keys: Arc<Keyring>,
    pub api_keys: Arc<ApiKeys>,
    pub owner: String,
    /// The memory that the process reports to use, of [`MEMORY_LIMIT_BYTES`].
    pub resident_bytes: Arc<AtomicU64>,
    /// The threads that serve shoppers beside the loops, [`THREADS`] of them.
    pub threads: tokio::runtime::Handle,
    jwt_secret: Vec<u8>,
    stop: Option<oneshot::Sender<()>>,
    done: Option<std::thread::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Running {
    pub fn start(open: bool, demo: bool, change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(open, demo, change).unwrap()
    }

    pub fn try_start(open: bool, demo: bool, change: impl FnOnce(&mut Config)) -> std::io::Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let sales = Arc::new(FakeSales::default());
        let sale = sales.add("demo", spec(if open { 0 } else { 30 }), open);
        let keys = Arc::new(Keyring::open(dir.path()).unwrap());
        let jwt_secret = gate::open_jwt_secret(dir.path()).unwrap();
        let mut config = Config::default();
        config.shop_listen.set_port(0);
        config.admin_listen.set_port(0);
        config.decision_wait_ms = 200;
        change(&mut config);
        let jwt = JwtVerifier::open("gate", &config.jwt, &dir.path().join("keys/jwt.key")).unwrap();
        let api_keys = Arc::new(ApiKeys::open(dir.path()).unwrap());
        let owner = api_keys.create("boss", Role::Owner, TimeMs(0)).unwrap();
        let challenges = gate::Challenges::open(&config.challenge, &keys, dir.path()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let resident_bytes = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&resident_bytes);
        let options = Options {
            config,
            sales: Arc::clone(&sales) as _,
            keys: Arc::clone(&keys),
            jwt,
            api_keys: Arc::clone(&api_keys),
            challenges,
            denied: web::limits::DenyList::open(dir.path()).unwrap(),
            strategy: gate::Strategy::open(dir.path()).unwrap(),
            drafts: gate::Drafts::open(dir.path()).unwrap(),
            memory: web::pressure::Memory {
                resident_bytes: Arc::new(move || read.load(Relaxed)),
                limit_bytes: MEMORY_LIMIT_BYTES,
            },
            demo,
            part: gate::Part::All,
            admin_open_max: gate::ADMIN_OPEN_MAX,
        };
        let (tell, told) = std::sync::mpsc::channel();
        let run = move || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(THREADS).enable_all().build().unwrap();
            let threads = runtime.handle().clone();
            runtime.block_on(async {
                match gate::bind(options) {
                    Ok(server) => {
                        let bound = server.bound();
                        let shop = bound.shop.unwrap();
                        let bound = Bound { shop, tls: bound.tls, admin: bound.admin };
                        tell.send(Ok((bound, threads))).unwrap();
                        server.run(async { drop(stopped.await) }).await.unwrap();
                    }
                    Err(error) => tell.send(Err(error)).unwrap(),
                }
            });
        };
        let done = std::thread::spawn(run);
        let (bound, threads) = told.recv().unwrap()?;
        Ok(Self {
            bound,
            sales,
            sale,
            keys,
            api_keys,
            owner,
            resident_bytes,
            threads,
            jwt_secret,
            stop: Some(stop),
            done: Some(done),
            dir,
        })
    }

    pub fn token(&self, shopper: &str) -> String {
        self.token_of_tier(shopper, 0)
    }

    pub fn token_of_tier(&self, shopper: &str, tier: u8) -> String {
        let shopper = Shopper { id: shopper.into(), tier };
        sign_token(&self.jwt_secret, &Config::default().jwt, &shopper, self.sales.now(), 60)
    }

    pub fn sales_now_seconds(&self) -> u64 {
        self.sales.now().0 / 1000
    }

    pub fn data(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Tells the server to drain.
    pub fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Tells the server to drain and waits for its end.
    pub fn stop(&mut self) {
        self.tell_to_stop();
        if let Some(done) = self.done.take() {
            done.join().unwrap();
        }
    }
}
