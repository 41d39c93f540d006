//! Values in a Redis, for all processes that have it. Each key and each mark is a key there, under
//! a prefix; a value begins with the mark that it was kept under, and is given only while that is
//! its group's. Marks are random and do not grow: one that Redis has lost makes values unknown, and
//! never brings an old one back. A server that was restored, or a replica in its place, may have
//! marks of before: so each new connection begins with new ones, for all groups.
//!
//! It never makes anybody wait for long: after a failure it is left alone for a moment, and then
//! one call tries whether it is back.

use super::{Answer, Cache, CacheError, KEPT_FOR_MAX, Key, Looked, MARKS, Mark, VALUE_BYTES_MAX, mark_of};
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    aio::MultiplexedConnection, pipe,
};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The longest wait for an answer, and for a connection.
const ANSWER_MAX: Duration = Duration::from_millis(100);
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// How long a server that did not answer is left alone.
const LEFT_ALONE_MS: u64 = 1_000;
/// Commands that wait for one connection.
const COMMANDS_MAX: usize = 1_024;
/// A mark that is over makes what was kept under it unknown.
const MARK_SECONDS: u64 = 2 * KEPT_FOR_MAX.as_secs();
const MARK_BYTES: usize = 8;

/// The engine.
pub struct Redis {
    client: Client,
    prefix: String,
    connection: Mutex<Option<MultiplexedConnection>>,
    began: Instant,
    /// It has failed, and was not seen to answer since.
    is_down: AtomicBool,
    /// Until then it is left alone, in milliseconds after `began`.
    left_alone_until: AtomicU64,
    random: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn of_redis(error: &RedisError) -> CacheError {
    // Its category only: details may have an address with a password.
    CacheError(format!("Redis: {}", error.category()))
}

impl Redis {
    /// A server such as `redis://user:password@host:6379/0`; it need not be there yet. What is kept
    /// in it has this prefix.
    pub fn new(url: &str, prefix: &str) -> Result<Self, CacheError> {
        let wrong = |_: RedisError| CacheError("want a URL such as redis://user:password@host:6379/0".into());
        let client = Client::open(url.into_connection_info().map_err(wrong)?).map_err(wrong)?;
        Ok(Self {
            client,
            prefix: prefix.to_owned(),
            connection: Mutex::new(None),
            began: Instant::now(),
            is_down: AtomicBool::new(false),
            left_alone_until: AtomicU64::new(0),
            random: AtomicU64::new(0),
        })
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn new_mark(&self) -> [u8; MARK_BYTES] {
        RandomState::new().hash_one(self.random.fetch_add(1, Relaxed)).to_be_bytes()
    }

    fn name(&self, key: &Key) -> String {
        format!("{}:value:{}:{}:{}", self.prefix, key.group.len(), key.group, key.name)
    }

    fn mark_name(&self, number: usize) -> String {
        format!("{}:mark:{number}", self.prefix)
    }

    async fn connect(&self, is_trial: bool) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &*connection {
            return Ok(open.clone());
        }
        // Another call has tried while this one waited.
        if self.is_down.load(SeqCst) && !is_trial {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_concurrency_limit(COMMANDS_MAX);
        let mut opened = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.new_marks(0..MARKS).query_async::<()>(&mut opened).await?;
        Ok(connection.insert(opened).clone())
    }

    /// Whether a call may be tried, and whether it is the one that finds out if the server is back.
    fn may_try(&self) -> Option<bool> {
        if !self.is_down.load(SeqCst) {
            return Some(false);
        }
        let (now, until) = (self.now_ms(), self.left_alone_until.load(SeqCst));
        let next = now + LEFT_ALONE_MS;
        let is_mine =
            now >= until && self.left_alone_until.compare_exchange(until, next, SeqCst, SeqCst).is_ok();
        is_mine.then_some(true)
    }

    /// Runs the commands, unless the server failed a moment ago.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, CacheError> {
        let is_trial = self.may_try().ok_or_else(|| CacheError("Redis failed a moment ago".into()))?;
        let answered = tokio::time::timeout(CONNECT_MAX + ANSWER_MAX, async {
            let mut connection = self.connect(is_trial).await?;
            commands.query_async(&mut connection).await
        });
        let error = match answered.await {
            Ok(Ok(answer)) => {
                self.is_down.store(false, SeqCst);
                return Ok(answer);
            }
            // It answers, and has no room for this, or something else under the key.
            Ok(Err(error)) if matches!(error.code(), Some("OOM" | "WRONGTYPE")) => {
                return Err(of_redis(&error));
            }
            Ok(Err(error)) => of_redis(&error),
            Err(_) => CacheError("Redis does not answer in time".into()),
        };
        self.left_alone_until.store(self.now_ms() + LEFT_ALONE_MS, SeqCst);
        self.is_down.store(true, SeqCst);
        // The next call makes another connection.
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
        Err(error)
    }

    async fn look(&self, key: &Key) -> Result<Looked<Vec<u8>>, CacheError> {
        let mark = self.mark_name(mark_of(&key.group));
        let mut commands = pipe();
        commands.cmd("GET").arg(self.name(key));
        commands
            .cmd("SET")
            .arg(&mark)
            .arg(&self.new_mark()[..])
            .arg("NX")
            .arg("EX")
            .arg(MARK_SECONDS)
            .ignore();
        commands.cmd("GET").arg(&mark);
        commands.cmd("PTTL").arg(self.name(key));
        let (value, mark, left): (Option<Vec<u8>>, Option<Vec<u8>>, i64) = self.run(&commands).await?;
        let mark = mark.and_then(|mark| <[u8; MARK_BYTES]>::try_from(mark).ok());
        let mark =
            mark.ok_or_else(|| CacheError("Redis has no room, or something else under our keys".into()))?;
        let value = value.and_then(|value| value.strip_prefix(&mark).map(<[u8]>::to_vec));
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Ok(Looked {
            left: if value.is_some() { left } else { Duration::ZERO },
            value,
            mark: Mark(u64::from_be_bytes(mark)),
        })
    }

    async fn keep(&self, key: &Key, value: &[u8], kept_for: Duration, mark: Mark) -> Result<(), CacheError> {
        let kept_for = kept_for.min(KEPT_FOR_MAX).as_millis() as u64;
        if key.is_too_long() || value.len() > VALUE_BYTES_MAX || kept_for == 0 {
            return Ok(());
        }
        let bytes = [&mark.0.to_be_bytes(), value].concat();
        let mut commands = pipe();
        commands.cmd("SET").arg(self.name(key)).arg(bytes).arg("PX").arg(kept_for).ignore();
        self.run(&commands).await
    }

    fn new_marks(&self, numbers: impl Iterator<Item = usize>) -> Pipeline {
        let mut commands = pipe();
        for number in numbers {
            let command = commands.cmd("SET").arg(self.mark_name(number)).arg(&self.new_mark()[..]);
            command.arg("EX").arg(MARK_SECONDS).ignore();
        }
        commands
    }

    async fn mark_anew(&self, numbers: impl Iterator<Item = usize>) -> Result<(), CacheError> {
        let commands = self.new_marks(numbers);
        if commands.is_empty() { Ok(()) } else { self.run(&commands).await }
    }
}

impl Cache<Vec<u8>> for Redis {
    fn look<'a>(&'a self, key: &'a Key) -> Answer<'a, Looked<Vec<u8>>> {
        Box::pin(self.look(key))
    }

    fn keep<'a>(&'a self, key: &'a Key, value: Vec<u8>, kept_for: Duration, mark: Mark) -> Answer<'a, ()> {
        Box::pin(async move { self.keep(key, &value, kept_for, mark).await })
    }

    fn forget<'a>(&'a self, groups: &'a [String]) -> Answer<'a, ()> {
        Box::pin(self.mark_anew(groups.iter().map(|group| mark_of(group))))
    }

    fn forget_all(&self) -> Answer<'_, ()> {
        Box::pin(self.mark_anew(0..MARKS))
    }
}
