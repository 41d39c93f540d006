//! Where keys come from: a file, which is read again when it changes, or a URL, which a thread
//! fetches. A token whose key is not known yet is asked about again with newer keys before it is
//! refused for good.

use super::keys::{Key, key_of_file, keys_of_set};
use crate::{config::JwtAlgorithm, secret, warning::Warning};
use arc_swap::ArcSwap;
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

const FILE_BYTES_MAX: u64 = 256 * 1024;
const JWKS_BYTES_MAX: u64 = 256 * 1024;
const JWKS_HEAD_BYTES_MAX: usize = 16 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const FILE_CHECK_EVERY_MS: u64 = 1000;
/// The shortest time between two looks at the file because of tokens that it has no key for.
const FILE_CHECK_EVERY_MIN_MS: u64 = 20;
/// Tokens whose first refusal is remembered: 32 KiB. One that is forgotten is told once more to
/// come again.
const SEEN_SLOTS: usize = 4096;

/// How often a set is fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) every: Duration,
    /// The shortest time between two fetches.
    pub(super) every_min: Duration,
}

impl Pace {
    pub(super) const USUAL: Self =
        Self { every: Duration::from_secs(300), every_min: Duration::from_secs(10) };
}

/// What to tell the bearer of a token that no known key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No newer keys can help.
    Final,
    /// Newer keys are in place: check it again.
    Again,
    /// Newer keys are being fetched, and may know the token's.
    Later { retry_after_seconds: u32 },
}

/// A source of keys.
#[derive(Debug)]
pub(super) enum Source {
    File(FileSource),
    Url(UrlSource),
}

#[derive(Debug)]
pub(super) struct FileSource {
    path: PathBuf,
    is_set: bool,
    algorithms: Vec<JwtAlgorithm>,
    keys: ArcSwap<Vec<Key>>,
    stamp: Mutex<Option<Stamp>>,
    checked_ms: AtomicU64,
    started: Instant,
    failed: Mutex<Warning>,
}

/// A change of the file changes its time, its length or its inode.
type Stamp = (SystemTime, u64, u64, i64, i64);

impl FileSource {
    pub(super) fn open(path: PathBuf, is_set: bool, algorithms: &[JwtAlgorithm]) -> io::Result<Self> {
        let stamp = stamp_of(&path);
        let keys = load(&path, is_set, algorithms)?;
        Ok(Self {
            path,
            is_set,
            algorithms: algorithms.to_vec(),
            keys: ArcSwap::from_pointee(keys),
            stamp: Mutex::new(stamp),
            checked_ms: AtomicU64::new(0),
            started: Instant::now(),
            failed: Mutex::default(),
        })
    }

    /// Reads the file again if it has changed, and was not looked at for this long. Returns whether
    /// there are other keys now.
    fn follow(&self, every_ms: u64) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        let checked = self.checked_ms.load(Relaxed);
        let due = now >= checked + every_ms;
        if !due || self.checked_ms.compare_exchange(checked, now, Relaxed, Relaxed).is_err() {
            return false;
        }
        let new = stamp_of(&self.path);
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if new.is_none() || *stamp == new {
            return false;
        }
        match load(&self.path, self.is_set, &self.algorithms) {
            Ok(keys) => {
                *stamp = new;
                tracing::info!(path = %self.path.display(), keys = keys.len(), "shopper token keys read again");
                self.keys.store(Arc::new(keys));
                true
            }
            Err(error) => {
                // A file with wrong content is read again once it changes. What passes, such as a
                // shortage of descriptors, is tried again.
                if error.kind() == io::ErrorKind::InvalidData {
                    *stamp = new;
                }
                if self.failed.lock().unwrap_or_else(PoisonError::into_inner).due().is_some() {
                    tracing::error!(%error, "shopper token keys not read: the old ones stay in use");
                }
                false
            }
        }
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    // A mended mode changes the last of them alone.
    Some((meta.modified().ok()?, meta.len(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn load(path: &Path, is_set: bool, algorithms: &[JwtAlgorithm]) -> io::Result<Vec<Key>> {
    let invalid = |why: &str| secret::invalid(path, why);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if fs::metadata(path).map_err(named)?.len() > FILE_BYTES_MAX {
        return Err(invalid("more than 256 KiB: want the keys alone"));
    }
    let bytes = fs::read(path).map_err(named)?;
    let keys = if is_set {
        keys_of_set(&bytes, algorithms).map_err(|e| invalid(&e))?
    } else {
        let key = key_of_file(&bytes).map_err(|e| invalid(&e))?;
        if key.algorithm == JwtAlgorithm::HS256 {
            secret::only_the_owner_reads(path)?;
        }
        vec![key]
    };
    if is_set && keys.iter().any(|key| key.algorithm == JwtAlgorithm::HS256) {
        secret::only_the_owner_reads(path)?;
    }
    let keys: Vec<Key> = keys.into_iter().filter(|key| algorithms.contains(&key.algorithm)).collect();
    if keys.is_empty() { Err(invalid("no key for any of jwt.algorithms")) } else { Ok(keys) }
}

#[derive(Debug)]
pub(super) struct UrlSource {
    fetched: Arc<Fetched>,
    /// Has the thread fetch the set now. It ends when this is dropped.
    wake: mpsc::SyncSender<()>,
    pace: Pace,
    seen: Seen,
}

/// The newest usable set, and the fetches so far.
#[derive(Debug)]
struct Fetched {
    set: ArcSwap<Set>,
    /// Fetches that have begun.
    begun: AtomicU32,
    /// When the last one began, in milliseconds since the start.
    began_ms: AtomicU64,
    started: Instant,
}

#[derive(Debug, Default)]
struct Set {
    keys: Vec<Key>,
    /// The number of its fetch; 0 before the first.
    fetch: u32,
}

impl UrlSource {
    pub(super) fn open(url: String, algorithms: &[JwtAlgorithm], pace: Pace) -> io::Result<Self> {
        let fetched = Arc::new(Fetched {
            set: ArcSwap::default(),
            begun: AtomicU32::new(0),
            began_ms: AtomicU64::new(0),
            started: Instant::now(),
        });
        let (wake, woken) = mpsc::sync_channel(1);
        let fetch = fetcher(url, algorithms);
        let of_thread = Arc::clone(&fetched);
        let run = move || run(&of_thread, pace, &woken, fetch);
        std::thread::Builder::new().name("jwks".into()).spawn(run)?;
        Ok(Self { fetched, wake, pace, seen: Seen::default() })
    }

    fn verdict(&self, signature: &[u8]) -> Verdict {
        let set_fetch = self.fetched.set.load().fetch;
        let begun = self.fetched.begun.load(Relaxed);
        match self.seen.first(signature, begun) {
            Some(first) if set_fetch > first => return Verdict::Final,
            _ => drop(self.wake.try_send(())),
        }
        let since = (self.fetched.started.elapsed().as_millis() as u64)
            .saturating_sub(self.fetched.began_ms.load(Relaxed));
        let wait_ms = (self.pace.every_min.as_millis() as u64).saturating_sub(since);
        Verdict::Later { retry_after_seconds: wait_ms.div_ceil(1000) as u32 + 1 }
    }
}

/// When a token was first refused, in fetches that had begun by then. A caller cannot spoil it for
/// a token that it does not have: what is remembered is a hash of the token's signature.
#[derive(Debug)]
struct Seen {
    /// Half a hash, and the number of fetches.
    slots: Vec<AtomicU64>,
    hasher: RandomState,
}

impl Default for Seen {
    fn default() -> Self {
        let slots = std::iter::repeat_with(AtomicU64::default).take(SEEN_SLOTS).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

impl Seen {
    /// The number of its first refusal; `None` if this is the first.
    fn first(&self, signature: &[u8], begun: u32) -> Option<u32> {
        let hash = self.hasher.hash_one(signature);
        let slot = &self.slots[hash as usize % SEEN_SLOTS];
        // Never 0, which is an empty slot.
        let mine = (hash >> 32 | 1) << 32;
        let known = slot.load(Relaxed);
        if known & !0xffff_ffff == mine {
            return Some(known as u32);
        }
        slot.store(mine | u64::from(begun), Relaxed);
        None
    }
}

impl Source {
    /// The keys now; `None` if there have been none yet.
    pub(super) fn with_keys<T>(&self, use_them: impl FnOnce(&[Key]) -> T) -> Option<T> {
        match self {
            Self::File(file) => {
                file.follow(FILE_CHECK_EVERY_MS);
                Some(use_them(&file.keys.load()))
            }
            Self::Url(url) => {
                let set = url.fetched.set.load();
                (set.fetch > 0).then(|| use_them(&set.keys))
            }
        }
    }

    /// Whether newer keys may know the key of a token that the present ones refuse.
    pub(super) fn verdict(&self, signature: &[u8]) -> Verdict {
        match self {
            Self::File(file) if file.follow(FILE_CHECK_EVERY_MIN_MS) => Verdict::Again,
            Self::File(_) => Verdict::Final,
            Self::Url(url) => url.verdict(signature),
        }
    }
}

fn fetcher(url: String, algorithms: &[JwtAlgorithm]) -> impl Fn() -> Result<Vec<Key>, String> + use<> {
    // A public key set cannot hold a shared secret.
    let public: Vec<_> = algorithms.iter().copied().filter(|a| *a != JwtAlgorithm::HS256).collect();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider)).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(FETCH_TIMEOUT))
        .https_only(url.starts_with("https://"))
        // The origin in the configuration vouches for the keys, and no other one does: neither the
        // target of a redirect nor a proxy that the environment names.
        .max_redirects(0)
        .proxy(None)
        .max_response_header_size(JWKS_HEAD_BYTES_MAX)
        .build()
        .into();
    move || {
        let mut response = agent.get(&url).call().map_err(|e| e.to_string())?;
        if response.status() != 200 {
            return Err(format!("status {}, want 200 without a redirect", response.status().as_u16()));
        }
        let body = response.body_mut().with_config().limit(JWKS_BYTES_MAX).read_to_vec();
        let keys = keys_of_set(&body.map_err(|e| e.to_string())?, &public)?;
        if keys.is_empty() { Err("no usable key in it".to_owned()) } else { Ok(keys) }
    }
}

fn run(
    fetched: &Fetched,
    pace: Pace,
    woken: &mpsc::Receiver<()>,
    fetch: impl Fn() -> Result<Vec<Key>, String>,
) {
    loop {
        fetched.began_ms.store(fetched.started.elapsed().as_millis() as u64, Relaxed);
        let number = fetched.begun.fetch_add(1, Relaxed) + 1;
        match fetch() {
            Ok(keys) => fetched.set.store(Arc::new(Set { keys, fetch: number })),
            Err(error) => tracing::warn!(error, "fetch JWKS: failed; the old keys stay in use"),
        }
        std::thread::sleep(pace.every_min);
        if fetched.set.load().fetch == 0 {
            match woken.try_recv() {
                Err(mpsc::TryRecvError::Disconnected) => return,
                _ => continue,
            }
        }
        match woken.recv_timeout(pace.every) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}
