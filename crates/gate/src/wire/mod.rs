//! The shop's connections: a few threads, each with an epoll of its own, that serve the hot routes themselves and hand every other
//! request over to axum, from which the connection comes back once it rests.
//!
//! Why not hyper for all of it: docs/adr, *A connection loop of our own*. A connection that waits between two requests is a socket and
//! some hundred bytes; a request is read into memory that the thread has anyway, and an answer is one write.

mod conn;
mod event_loop;
pub mod head;
mod hot;
pub mod proxy;
mod stream;
mod turns;
mod write;

pub(crate) use write::number;

use crate::{api::Asked, filter::Share, problem::Problem, state::Gate};
use axum::body::Bytes;
use contracts::{Mail, Mailbox};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    io,
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A connection's place among those that may be open, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<[Share; 2]>,
}

impl Seat {
    pub(crate) fn new(of_all: OwnedSemaphorePermit, of_address: Option<[Share; 2]>) -> Self {
        Self { _of_all: of_all, of_address }
    }
}

/// A connection on its way between a loop and axum.
#[derive(Debug)]
pub(crate) struct Travelling {
    pub(crate) stream: TcpStream,
    pub(crate) peer: IpAddr,
    pub(crate) seat: Seat,
    /// Bytes that were read and not served yet.
    pub(crate) early: Bytes,
    /// How many bytes the request has that it travels for; `None` if only its chunks say that.
    pub(crate) request_bytes: Option<u64>,
    /// It has just come from a balancer that first says in a header of the PROXY protocol whom it is from.
    pub(crate) is_announced: bool,
    /// Where it came from and goes back to.
    pub(crate) home: Arc<Inbox>,
}

/// A warning about connections that cannot be served is written no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Something that may happen to every connection of a flood, and is written now and then.
#[derive(Debug, Default)]
pub(crate) struct Warning {
    count: u64,
    written: Option<Instant>,
}

impl Warning {
    /// Counts it; how often it happened since the start if it is time to write.
    pub(crate) fn due(&mut self) -> Option<u64> {
        self.count += 1;
        let is_due = self.written.is_none_or(|at| at.elapsed() > WARN_EVERY);
        is_due.then(|| {
            self.written = Some(Instant::now());
            self.count
        })
    }
}

/// What others have for a loop.
#[derive(Debug, Default)]
struct Letters {
    mail: Vec<Mail>,
    /// What took a question of its own: whether something was promised before, or where an attempt stands.
    asked: Vec<(u64, Result<Asked, Problem>)>,
    back: Vec<Travelling>,
}

/// Where a loop is reached from other threads.
#[derive(Debug)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    wake: OwnedFd,
    /// The loop has been woken and has not looked yet.
    woken: AtomicBool,
    drains: AtomicBool,
    ends: AtomicBool,
    /// Connections that the loop has, and those on their way to it.
    open: AtomicUsize,
}

impl Inbox {
    fn new() -> io::Result<Self> {
        Ok(Self {
            letters: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            woken: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        })
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        // Letters are whole between two statements, whoever panicked.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // It fails only when the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_le_bytes());
        }
    }

    /// Gives a connection to the loop: a new one, or one that rests again.
    pub(crate) fn give_back(&self, connection: Travelling) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.letters().back.push(connection);
        self.wake();
    }

    fn tell(&self, token: u64, asked: Result<Asked, Problem>) {
        self.letters().asked.push((token, asked));
        self.wake();
    }
}

impl Mailbox for Inbox {
    fn deliver(&self, mail: &mut Vec<Mail>) {
        self.letters().mail.append(mail);
        self.wake();
    }
}

/// A loop that ends before it was told to leaves connections that nobody serves, and a port on which nobody answers: better
/// that the process ends, and starts again.
struct EndProcess(Arc<Inbox>);

impl Drop for EndProcess {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.0.ends.load(Ordering::SeqCst) {
            tracing::error!("a loop of the shop's connections ended by itself: the process ends");
            std::process::abort();
        }
    }
}

/// The loops of a listener.
#[derive(Debug)]
pub(crate) struct Loops {
    inboxes: Vec<Arc<Inbox>>,
    threads: Vec<JoinHandle<()>>,
}

impl Loops {
    /// Starts one for each listener. Connections for axum come out of the channel. Call it inside a tokio runtime.
    pub(crate) fn start(
        gate: &Arc<Gate>,
        listeners: Vec<TcpListener>,
        permits: &Arc<Semaphore>,
        to_axum: &mpsc::Sender<Travelling>,
    ) -> io::Result<Self> {
        let inboxes = listeners.iter().map(|_| Inbox::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let all: Arc<[Arc<Inbox>]> = inboxes.clone().into();
        let mut loops = Self { inboxes, threads: Vec::new() };
        for (number, (inbox, listener)) in all.iter().zip(listeners).enumerate() {
            let event_loop = event_loop::Loop::new(
                Arc::clone(gate),
                listener,
                Arc::clone(permits),
                to_axum.clone(),
                Arc::clone(inbox),
                Arc::clone(&all),
            )?;
            let mine = Arc::clone(inbox);
            let run = move || {
                let _guard = EndProcess(mine);
                event_loop.run();
            };
            loops.threads.push(std::thread::Builder::new().name(format!("gate-{number}")).spawn(run)?);
        }
        Ok(loops)
    }

    /// Where each of them is reached.
    pub(crate) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.inboxes.clone()
    }

    /// No new connections; those that are open end with their next answer.
    pub(crate) fn drain(&self) {
        for inbox in &self.inboxes {
            inbox.drains.store(true, Ordering::SeqCst);
            inbox.wake();
        }
    }

    /// Ends the threads, whatever is still open. Blocks for a moment.
    pub(crate) fn end(self) {
        for inbox in &self.inboxes {
            inbox.ends.store(true, Ordering::SeqCst);
            inbox.wake();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a loop of the shop's connections panicked");
            }
        }
    }
}
