//! Connection loops: a few threads, each with its own epoll, that serve a context's hot routes and
//! hand all other requests over to axum. The connection comes back once it is idle.
//!
//! Why not hyper for all of it: docs/adr, *A connection loop of our own*. A connection that waits
//! between two requests is a socket and a few hundred bytes; a request is read into the thread's
//! own buffer, and an answer is one write. A context handles its requests with [`Hot`].

mod conn;
mod event_loop;
pub mod head;
mod hot;
mod io;
mod pace;
pub mod proxy;
mod slab;
mod stream;
mod turns;
mod write;

pub use hot::{Before, Hot, HotRequest, Served};
pub use io::Io;
pub(crate) use pace::{LOW_SECONDS, Pace};
pub use slab::{Slab, Token};
pub(crate) use stream::{boundaries, refuse_denied};
pub use write::number;

use crate::{limits::Share, protection::Protection};
use axum::body::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    fmt,
    io::Result as IoResult,
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A connection's place among those that may be open, released when it is dropped.
#[derive(Debug)]
pub struct Seat {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<[Share; 2]>,
}

impl Seat {
    /// One place among all, and one each for the address and its network if those have limits.
    pub fn new(of_all: OwnedSemaphorePermit, of_address: Option<[Share; 2]>) -> Self {
        Self { _of_all: of_all, of_address }
    }
}

/// Where a connection came from and goes back to.
pub trait Home: Send + Sync + fmt::Debug {
    /// Hands a connection to its loop: a new one, or one that is idle again.
    fn give_back(&self, connection: Travelling);
}

/// A connection that is handed over between a loop and axum.
#[derive(Debug)]
pub struct Travelling {
    pub stream: TcpStream,
    pub peer: IpAddr,
    pub seat: Seat,
    /// Bytes that were read and not served yet.
    pub early: Bytes,
    /// The length of the request that is handed over; `None` if only its chunks tell it.
    pub request_bytes: Option<u64>,
    /// It is a new connection of a balancer, which first names the client's address in a header of
    /// the PROXY protocol.
    pub is_announced: bool,
    pub home: Arc<dyn Home>,
}

/// Messages of other threads for a loop.
#[derive(Debug)]
struct Letters<L> {
    /// The context's own messages.
    own: Vec<L>,
    back: Vec<Travelling>,
}

impl<L> Default for Letters<L> {
    fn default() -> Self {
        Self { own: Vec::new(), back: Vec::new() }
    }
}

/// A loop's inbox for other threads.
pub struct Inbox<L> {
    letters: Mutex<Letters<L>>,
    wake: OwnedFd,
    /// The loop has been woken and has not read its inbox yet.
    woken: AtomicBool,
    drains: AtomicBool,
    ends: AtomicBool,
    /// Connections that the loop has, and those on their way to it.
    open: AtomicUsize,
}

impl<L> fmt::Debug for Inbox<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("open", &self.open).finish_non_exhaustive()
    }
}

impl<L> Inbox<L> {
    fn new() -> IoResult<Self> {
        Ok(Self {
            letters: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            woken: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        })
    }

    fn letters(&self) -> MutexGuard<'_, Letters<L>> {
        // Letters are consistent between two statements, so a panic of another holder leaves
        // nothing half done.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // This fails only when the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_le_bytes());
        }
    }

    /// Sends letters to the loop, with one wake-up for all of them.
    pub fn tell(&self, letters: impl IntoIterator<Item = L>) {
        self.letters().own.extend(letters);
        self.wake();
    }
}

impl<L: Send> Home for Inbox<L> {
    fn give_back(&self, connection: Travelling) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.letters().back.push(connection);
        self.wake();
    }
}

/// A loop that ends before it was told to leaves connections that are not served, and a port that
/// does not answer. It is better that the process ends, and is started again.
struct EndProcess<L>(Arc<Inbox<L>>);

impl<L> Drop for EndProcess<L> {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.0.ends.load(Ordering::SeqCst) {
            tracing::error!("a connection loop ended by itself: the process ends");
            std::process::abort();
        }
    }
}

/// The loops of a listener.
#[derive(Debug)]
pub struct Loops<L> {
    inboxes: Vec<Arc<Inbox<L>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<L: Send + 'static> Loops<L> {
    /// Starts one loop for each listener. `hot` makes the handler of its hot routes. Connections
    /// for axum come out of the channel. To be called inside a tokio runtime.
    pub fn start<H: Hot<Letter = L>>(
        protection: &Arc<Protection>,
        listeners: Vec<TcpListener>,
        permits: &Arc<Semaphore>,
        to_axum: &mpsc::Sender<Travelling>,
        hot: impl Fn(&Arc<Inbox<L>>) -> H,
    ) -> IoResult<Self> {
        let inboxes = listeners.iter().map(|_| Inbox::new().map(Arc::new)).collect::<IoResult<Vec<_>>>()?;
        let all: Arc<[Arc<Inbox<L>>]> = inboxes.clone().into();
        let mut loops = Self { inboxes, threads: Vec::new() };
        for (number, (inbox, listener)) in all.iter().zip(listeners).enumerate() {
            let io = Io::new(
                Arc::clone(protection),
                listener,
                Arc::clone(permits),
                to_axum.clone(),
                Arc::clone(inbox),
                Arc::clone(&all),
            )?;
            let event_loop = event_loop::Loop { io, hot: hot(inbox) };
            let mine = Arc::clone(inbox);
            let run = move || {
                let _guard = EndProcess(mine);
                event_loop.run();
            };
            loops.threads.push(
                std::thread::Builder::new().name(format!("{}-{number}", protection.section)).spawn(run)?,
            );
        }
        Ok(loops)
    }

    /// Wakes each loop.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let inboxes = self.inboxes.clone();
        move || inboxes.iter().for_each(|inbox| inbox.wake())
    }

    /// Accepts no new connections. Open connections end with their next answer.
    pub fn drain(&self) {
        for inbox in &self.inboxes {
            inbox.drains.store(true, Ordering::SeqCst);
            inbox.wake();
        }
    }

    /// Ends the threads, even with open connections. Blocks for a moment.
    pub fn end(self) {
        for inbox in &self.inboxes {
            inbox.ends.store(true, Ordering::SeqCst);
            inbox.wake();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a connection loop panicked");
            }
        }
    }
}
