//! Values in a Redis, for all processes that have it. Each key and each mark is a key there, under
//! a prefix; a value begins with the mark that it was kept under, and is given only while that is
//! its group's. Marks are random, and go later than all that was kept under them: a mark that Redis
//! has lost makes values unknown, and never brings an old one back.
//!
//! It never makes anybody wait for long: after a failure it is left alone for a moment.

use super::{Answer, Cache, CacheError, KEPT_FOR_MAX, Key, Looked, MARKS, Mark, VALUE_BYTES_MAX, mark_of};
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    aio::MultiplexedConnection, pipe,
};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
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
/// Marks stay longer than anything that is kept under them.
const MARK_SECONDS: u64 = 2 * KEPT_FOR_MAX.as_secs();
const MARK_BYTES: usize = 8;

/// The engine.
pub struct Redis {
    client: Client,
    prefix: String,
    connection: Mutex<Option<MultiplexedConnection>>,
    began: Instant,
    /// In milliseconds after `began`.
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

    async fn connect(&self) -> Result<MultiplexedConnection, CacheError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &*connection {
            return Ok(open.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_concurrency_limit(COMMANDS_MAX);
        let opened = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let opened = opened.map_err(|error| of_redis(&error))?;
        Ok(connection.insert(opened).clone())
    }

    /// Runs the commands, unless the server failed a moment ago.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, CacheError> {
        if self.now_ms() < self.left_alone_until.load(Relaxed) {
            return Err(CacheError("Redis did not answer a moment ago".into()));
        }
        let answered = tokio::time::timeout(CONNECT_MAX + ANSWER_MAX, async {
            let mut connection = self.connect().await?;
            commands.query_async(&mut connection).await.map_err(|error| of_redis(&error))
        });
        let late = || CacheError("Redis does not answer in time".into());
        let answered = answered.await.unwrap_or_else(|_| Err(late()));
        if answered.is_err() {
            self.left_alone_until.store(self.now_ms() + LEFT_ALONE_MS, Relaxed);
            // The next one makes another connection.
            if let Ok(mut connection) = self.connection.try_lock() {
                *connection = None;
            }
        }
        answered
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
        let (value, mark): (Option<Vec<u8>>, Option<Vec<u8>>) = self.run(&commands).await?;
        let mark = mark.and_then(|mark| <[u8; MARK_BYTES]>::try_from(mark).ok());
        let mark =
            mark.ok_or_else(|| CacheError("Redis has no room, or something else under our keys".into()))?;
        let value = value.and_then(|value| value.strip_prefix(&mark).map(<[u8]>::to_vec));
        Ok(Looked { value, mark: Mark(u64::from_be_bytes(mark)) })
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

    async fn mark_anew(&self, numbers: impl Iterator<Item = usize>) -> Result<(), CacheError> {
        let mut commands = pipe();
        for number in numbers {
            let command = commands.cmd("SET").arg(self.mark_name(number)).arg(&self.new_mark()[..]);
            command.arg("EX").arg(MARK_SECONDS).ignore();
        }
        self.run(&commands).await
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
