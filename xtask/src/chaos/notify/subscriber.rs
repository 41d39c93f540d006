//! A subscriber: an HTTP server that keeps a ledger of what arrives, answers as badly as it is told
//! to, and can be killed and started again at the same address.

use super::event::Event;
use super::judge::Arrival;
use crate::chaos::dice::Dice;
use crate::shell::Failure;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

/// Faults that are remembered of each subscriber.
const FAULTS_MAX: usize = 5;

/// How it treats a delivery, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manners {
    /// Answers a status that is no success.
    pub(super) refuses: u64,
    /// Closes the connection without an answer.
    pub(super) hangs_up: u64,
    /// Answers after up to so many milliseconds, of which the server may not wait for all.
    pub(super) dawdles: u64,
    pub(super) dawdle_ms_max: u64,
    /// Never takes a poisonous event, until it is mended.
    pub(super) refuses_poison: bool,
}

/// A subscriber on this machine.
pub(super) struct Subscriber {
    pub(super) name: &'static str,
    pub(super) wants: fn(Event) -> bool,
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    manners: Manners,
    is_up: AtomicBool,
    /// From now on it takes everything, poison apart.
    is_calm: AtomicBool,
    is_mended: AtomicBool,
    ledger: Mutex<Vec<Arrival>>,
    faults: Mutex<Vec<String>>,
    dice: Mutex<Dice>,
    /// Open connections, which a kill closes.
    streams: Mutex<BTreeMap<u64, TcpStream>>,
    connections: AtomicU64,
    /// How often the server was started.
    life: Arc<AtomicU32>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Request {
    fields: HashMap<String, String>,
    body: Vec<u8>,
}

enum Treatment {
    Take,
    Refuse(u16),
    HangUp,
}

impl Subscriber {
    pub(super) fn start(
        name: &'static str,
        wants: fn(Event) -> bool,
        manners: Manners,
        seed: u64,
        life: &Arc<AtomicU32>,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let shared = Shared {
            manners,
            is_up: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            is_mended: AtomicBool::new(false),
            ledger: Mutex::default(),
            faults: Mutex::default(),
            dice: Mutex::new(Dice(seed)),
            streams: Mutex::default(),
            connections: AtomicU64::new(0),
            life: Arc::clone(life),
        };
        let address = listener.local_addr()?;
        let mut subscriber = Self { name, wants, address, shared: Arc::new(shared), accepting: None };
        subscriber.serve(listener);
        Ok(subscriber)
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        shared.is_up.store(true, SeqCst);
        self.accepting = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                if !shared.is_up.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, number) = (Arc::clone(&shared), shared.connections.fetch_add(1, SeqCst));
                let Ok(handle) = stream.try_clone() else { continue };
                lock(&shared.streams).insert(number, handle);
                thread::spawn(move || {
                    // The end of a connection is no fault: either side may be killed.
                    let _ = shared.converse(stream);
                    lock(&shared.streams).remove(&number);
                });
            }
        }));
    }

    /// From now on connections are refused, and those that were open are closed, whatever was under
    /// way on them.
    pub(super) fn kill(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.shared.is_up.store(false, SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if accepting.join().is_err() {
            self.shared.fault("a subscriber's thread panicked".into());
        }
        for stream in std::mem::take(&mut *lock(&self.shared.streams)).values() {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Listens again after a kill.
    pub(super) fn revive(&mut self) -> Result<(), Failure> {
        if self.accepting.is_some() {
            return Ok(());
        }
        // A connection of the server's may have the port for a moment.
        for _ in 0..100 {
            match TcpListener::bind(self.address) {
                Ok(listener) => {
                    self.serve(listener);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(Duration::from_millis(50)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure(format!("subscriber {}: {} stays in use", self.name, self.address)))
    }

    pub(super) fn is_killed(&self) -> bool {
        self.accepting.is_none()
    }

    pub(super) fn calm_down(&self) {
        self.shared.is_calm.store(true, SeqCst);
    }

    /// From now on it takes the poisonous events too.
    pub(super) fn mend(&self) {
        self.shared.is_mended.store(true, SeqCst);
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.name)
    }

    /// What has arrived so far.
    pub(super) fn ledger(&self) -> Vec<Arrival> {
        lock(&self.shared.ledger).clone()
    }

    pub(super) fn arrivals_count(&self) -> usize {
        lock(&self.shared.ledger).len()
    }

    /// Those of these events that it has not accepted.
    pub(super) fn not_accepted(&self, events: &BTreeSet<Event>) -> BTreeSet<Event> {
        let ledger = lock(&self.shared.ledger);
        let accepted: BTreeSet<Event> = ledger
            .iter()
            .filter(|arrival| arrival.accepted_at.is_some())
            .map(|arrival| arrival.event)
            .collect();
        events.difference(&accepted).copied().collect()
    }

    /// What was delivered and must not be, and what else went wrong.
    pub(super) fn faults(&self) -> Vec<String> {
        lock(&self.shared.faults).iter().map(|fault| format!("{}: {fault}", self.name)).collect()
    }
}

impl Shared {
    fn fault(&self, what: String) {
        let mut faults = lock(&self.faults);
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    /// Answers the requests of one connection until it ends.
    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            let Some(at) = self.note(&request) else {
                stream.write_all(b"HTTP/1.1 400 Wrong\r\ncontent-length: 0\r\n\r\n")?;
                continue;
            };
            let (event, wait) = (lock(&self.ledger)[at].event, self.dawdle());
            sleep(wait);
            let status = match self.treat(event) {
                Treatment::HangUp => return Ok(()),
                Treatment::Refuse(status) => status,
                Treatment::Take => {
                    // Noted before it is said, for the next event of its key may come at once.
                    let mut ledger = lock(&self.ledger);
                    let so_far = ledger.len();
                    ledger[at].accepted_at = Some(so_far);
                    204
                }
            };
            let retry = if status == 503 { "retry-after: 1\r\n" } else { "" };
            write!(stream, "HTTP/1.1 {status} Said\r\n{retry}content-length: 0\r\n\r\n")?;
        }
        Ok(())
    }

    /// Notes an arrival; none if it is not what was posted.
    fn note(&self, Request { fields, body }: &Request) -> Option<usize> {
        let text = String::from_utf8_lossy(body);
        let start: String = text.chars().take(200).collect();
        let name = text.split_once("\"id\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let Some(event) = name.and_then(|(name, _)| Event::parse(name)) else {
            self.fault(format!("no event of anybody was delivered: {start}"));
            return None;
        };
        if event.delivered().as_bytes() != body.as_slice() {
            self.fault(format!("{event} is not as it was posted: {start}"));
            return None;
        }
        let Some(id) = fields.get("webhook-id").filter(|_| fields.contains_key("webhook-signature")) else {
            self.fault(format!("{event} has no webhook-id or no signature"));
            return None;
        };
        // FNV-1a: ids are compared within one run.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let id = id.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
        let mut ledger = lock(&self.ledger);
        ledger.push(Arrival { event, id, accepted_at: None, life: self.life.load(SeqCst) });
        Some(ledger.len() - 1)
    }

    fn dawdle(&self) -> Duration {
        let mut dice = lock(&self.dice);
        let dawdles = !self.is_calm.load(SeqCst) && dice.is_one_of_a_thousand(self.manners.dawdles);
        Duration::from_millis(if dawdles { dice.below(self.manners.dawdle_ms_max) } else { 0 })
    }

    fn treat(&self, event: Event) -> Treatment {
        const STATUSES: [u16; 6] = [500, 502, 503, 429, 404, 301];
        if self.manners.refuses_poison && event.is_poison() && !self.is_mended.load(SeqCst) {
            return Treatment::Refuse(422);
        }
        if self.is_calm.load(SeqCst) {
            return Treatment::Take;
        }
        let mut dice = lock(&self.dice);
        let drawn = dice.below(1000);
        if drawn < self.manners.refuses {
            Treatment::Refuse(STATUSES[dice.below(STATUSES.len() as u64) as usize])
        } else if drawn < self.manners.refuses + self.manners.hangs_up {
            Treatment::HangUp
        } else {
            Treatment::Take
        }
    }
}

/// The next request; none at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut fields = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { fields, body }))
}
