//! Buckets move from one database to another while the store runs. For as long as one is copied it
//! can be read, and changes of it wait.
//!
//! A move is a row of `bucket_moves` beside the directory, and goes through these states, each of
//! them written in one transaction of one database:
//!
//! | step | from | to | directory |
//! |---|---|---|---|
//! | the bucket is frozen | `leaving` | `arriving` | from |
//! | its rows are copied, read again and compared | `leaving` | `arriving` | from |
//! | nothing is served from the old place | `left` | `arriving` | from |
//! | a new version of the directory | `left` | `arriving` | to |
//! | it is served from the new place | `left` | `held` | to |
//! | the old rows are removed | – | `held` | to |
//!
//! At most one of the two has the bucket, whatever crashes. Until the third step it can be taken
//! back; after a crash the next mover begins the copy anew, or goes on behind the third step. Each
//! transaction of a mover looks for its own number on the row of the bucket, so one that was
//! thought to be dead, and is not, changes nothing any more.
//!
//! Replicas take no part in it: what they have may be older than the bucket's last change.

use crate::{
    directory::{self, Held, UnderWay},
    rows::{self, Digest},
    shards::{Shard, Shards},
};
use contracts::store::{BUCKETS, Bucket};
use engines::{
    chance::Chance,
    clock::Clock,
    params,
    sql::{SqlError, Tx},
};
use std::{fmt, sync::Arc, time::Duration};
use units::{DurationMs, TimeMs};

/// A mover that was not seen for so long has died.
pub(crate) const DEAD_AFTER: DurationMs = DurationMs(60_000);
/// How often, and after which pause, it is tried again when a database is away.
const TRIES_MAX: u32 = 60;
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Events that may wait in the old database: they are all looked at while the bucket is frozen.
const EVENTS_MAX: u64 = 10_000;

/// Why a bucket was not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveError {
    Sql(SqlError),
    /// The configuration has no database of this name.
    Unknown(String),
    /// Another mover has taken over.
    Overtaken(u16),
    /// What was read in the new place is not what was copied.
    Differs {
        bucket: u16,
        table: &'static str,
    },
    /// So many events wait in the database: they are to be told first.
    EventsWait {
        shard: String,
        count: u64,
    },
}

impl From<SqlError> for MoveError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Unknown(name) => write!(f, "{name} is not one of the orders' databases: see store.orders"),
            Self::Overtaken(bucket) => write!(f, "bucket {bucket}: another mover goes on with it"),
            Self::Differs { bucket, table } => {
                write!(f, "bucket {bucket}: the copy of {table} is not what was copied; it was taken back")
            }
            Self::EventsWait { shard, count } => write!(
                f,
                "{count} events or more wait in {shard}: let the message service take them, then move"
            ),
        }
    }
}

impl std::error::Error for MoveError {}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub orders: u64,
    /// Of all tables.
    pub rows: u64,
    /// Of the directory.
    pub version: u64,
}

/// How a move has ended that was not made.
enum Ended {
    /// The bucket is where it was.
    TakenBack(MoveError),
    /// It is to be gone on with.
    Open(MoveError),
}

impl From<MoveError> for Ended {
    fn from(error: MoveError) -> Self {
        Self::Open(error)
    }
}

/// Moves buckets, one after another.
pub struct Mover {
    shards: Shards,
    clock: Arc<dyn Clock>,
    number: [u8; 16],
}

impl fmt::Debug for Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mover").finish_non_exhaustive()
    }
}

impl Mover {
    pub fn new(shards: Shards, clock: Arc<dyn Clock>, chance: &dyn Chance) -> Result<Self, SqlError> {
        let number = chance.bytes16().map_err(|error| SqlError::Shortage(error.to_string()))?;
        Ok(Self { shards, clock, number })
    }

    /// Moves a bucket, unless it is there already. A move of it that was cut off is finished first.
    pub async fn move_to(&self, bucket: Bucket, to: &str) -> Result<Option<Moved>, MoveError> {
        self.shards.named(to).ok_or_else(|| MoveError::Unknown(to.to_owned()))?;
        self.finish_one(bucket).await?;
        self.shards.refresh().await?;
        let from = self.shards.of(bucket)?.name.clone();
        if from == to {
            return Ok(None);
        }
        let old = self.shard(&from)?;
        let count = old.sql.primary().read(rows::count_events).await?;
        if count >= EVENTS_MAX {
            return Err(MoveError::EventsWait { shard: from, count });
        }
        self.prepare(&from).await?;
        let (number, mover, now, to) = (bucket.number(), self.number, self.clock.now(), to.to_owned());
        let (from_name, to_name) = (from.clone(), to.clone());
        let begun = self.shards.home().write(move |tx| {
            let text = "INSERT INTO bucket_moves (bucket, from_shard, to_shard, mover, seen_at) VALUES (?, ?, ?, ?, ?)";
            tx.insert_new(text, params![number, &from_name, &to_name, &mover, now.0])
        });
        match begun.await? {
            true => self.go_on(bucket, &from, &to).await.map(Some),
            false => Err(MoveError::Overtaken(number)),
        }
    }

    /// Finishes all moves that were cut off. Returns how many.
    pub async fn finish(&self) -> Result<usize, MoveError> {
        let all = self.shards.home().read(directory::moves).await?;
        self.take_all_over(all.iter()).await
    }

    /// One that cannot be finished does not keep the others back. Returns how many were.
    async fn take_all_over(&self, all: impl Iterator<Item = &UnderWay>) -> Result<usize, MoveError> {
        let (mut count, mut failed) = (0, None);
        for of in all {
            match self.take_over(of).await {
                Ok(_) => count += 1,
                Err(error) => {
                    tracing::warn!(%error, bucket = of.bucket, "a move of orders is not finished");
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// The same for those whose mover seems to have died.
    pub(crate) async fn finish_dead(&self) -> Result<usize, MoveError> {
        let now = self.clock.now();
        let all = self.shards.home().read(directory::moves).await?;
        let dead = all.iter().filter(|of| of.seen_at.plus(DEAD_AFTER) < now).inspect(|of| {
            let UnderWay { bucket, from, to, .. } = of;
            tracing::warn!(bucket, from, to, "a move of orders was cut off: it goes on");
        });
        self.take_all_over(dead).await
    }

    async fn finish_one(&self, bucket: Bucket) -> Result<(), MoveError> {
        let all = self.shards.home().read(directory::moves).await?;
        match all.iter().find(|of| of.bucket == bucket.number()) {
            Some(of) => self.take_over(of).await.map(drop),
            None => Ok(()),
        }
    }

    async fn take_over(&self, of: &UnderWay) -> Result<Moved, MoveError> {
        let Some(bucket) = Bucket::numbered(of.bucket) else {
            return Err(SqlError::Schema(format!("a move of bucket {}: there is none", of.bucket)).into());
        };
        self.shards.refresh().await?;
        // A process that does not have both leaves the move to one that does.
        self.shard(&of.to)?;
        self.prepare(&of.from).await?;
        self.be_seen(bucket, true).await?;
        self.go_on(bucket, &of.from, &of.to).await
    }

    /// Goes on until it is moved or taken back. A database that is away for a moment would leave
    /// the bucket without a place.
    async fn go_on(&self, bucket: Bucket, from: &str, to: &str) -> Result<Moved, MoveError> {
        let mut tries = 0;
        loop {
            match self.go(bucket, from, to).await {
                Ok(moved) => return Ok(moved),
                Err(Ended::Open(MoveError::Sql(error))) if error.passes() && tries < TRIES_MAX => {
                    tracing::warn!(%error, bucket = bucket.number(), "a move of orders waits for a database");
                    tries += 1;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(Ended::Open(error) | Ended::TakenBack(error)) => return Err(error),
            }
        }
    }

    fn shard(&self, name: &str) -> Result<&Shard, MoveError> {
        self.shards.named(name).ok_or_else(|| MoveError::Unknown(name.to_owned()))
    }

    /// What would take long while the bucket is frozen is done before.
    async fn prepare(&self, from: &str) -> Result<(), MoveError> {
        let shard = self.shard(from)?;
        while shard.sql.write(rows::number_some).await? {}
        Ok(())
    }

    /// Writes down that this mover works on it. One that takes over writes its own number.
    async fn be_seen(&self, bucket: Bucket, takes_over: bool) -> Result<(), MoveError> {
        let (number, mover, now) = (bucket.number(), self.number, self.clock.now());
        let seen = self.shards.home().write(move |tx| match takes_over {
            true => {
                let text = "UPDATE bucket_moves SET mover = ?, seen_at = ? WHERE bucket = ?";
                tx.execute(text, params![&mover, now.0, number])
            }
            false => {
                let text = "UPDATE bucket_moves SET seen_at = ? WHERE bucket = ? AND mover = ?";
                tx.execute(text, params![now.0, number, &mover])
            }
        });
        match seen.await.map_err(|error: SqlError| error)? {
            0 => Err(MoveError::Overtaken(number)),
            _ => Ok(()),
        }
    }

    /// Is seen now and then, so that it is not taken for dead.
    async fn still_here(&self, bucket: Bucket, seen: &mut TimeMs) -> Result<(), MoveError> {
        let now = self.clock.now();
        if now.0.saturating_sub(seen.0) > DEAD_AFTER.0 / 6 {
            self.be_seen(bucket, false).await?;
            *seen = now;
        }
        Ok(())
    }

    async fn go(&self, bucket: Bucket, from: &str, to: &str) -> Result<Moved, Ended> {
        let (old, new) = (self.shard(from)?, self.shard(to)?);
        self.must_fit(bucket, (old, new)).await?;
        // A mover that came before is shut out of both, before anything is looked at.
        let has_arrived = self.claim_new(new, bucket).await?;
        let mut moved = Moved::default();
        let state = self.claim_old(old, bucket, has_arrived).await?;
        if !has_arrived && let Err(error) = self.be_seen(bucket, false).await {
            // One that took over before the claims goes on, or has taken back what there was: a
            // bucket that is frozen now would stay so without a move.
            let is_back = state == Held::Leaving && self.take_back(bucket, (old, new)).await;
            return Err(if is_back { Ended::TakenBack(error) } else { Ended::Open(error) });
        }
        match state {
            Held::Leaving => {
                let copied = async {
                    let (copied, events) = self.copy(bucket, old, new).await?;
                    self.leave(bucket, old, events).await?;
                    Ok(copied)
                };
                moved = match copied.await {
                    Ok(copied) => copied,
                    Err(error) => {
                        return Err(match self.take_back(bucket, (old, new)).await {
                            true => Ended::TakenBack(error),
                            false => Ended::Open(error),
                        });
                    }
                };
            }
            _ => tracing::debug!(bucket = bucket.number(), "it was copied before"),
        }
        if !has_arrived {
            moved.version = self.switch(bucket, from, to).await?;
            self.arrive(bucket, new).await?;
        }
        self.clear(bucket, old, Held::Left).await?;
        self.step(old, bucket, move |tx| directory::set_held(tx, bucket, None)).await?;
        let (number, mover) = (bucket.number(), self.number);
        let text = "DELETE FROM bucket_moves WHERE bucket = ? AND mover = ?";
        let end = self.shards.home().write(move |tx| tx.execute(text, params![number, &mover]));
        end.await.map_err(MoveError::Sql)?;
        self.shards.refresh().await.map_err(MoveError::Sql)?;
        Ok(moved)
    }

    /// What has left was copied to where it is to arrive, which says so. If it says nothing, it was
    /// copied elsewhere, and the old rows are all that there is.
    async fn must_fit(&self, bucket: Bucket, (old, new): (&Shard, &Shard)) -> Result<(), MoveError> {
        let state = async |shard: &Shard| {
            let held = shard.sql.primary().read(move |tx| directory::held(tx, bucket)).await?;
            Ok::<_, MoveError>(held.map(|of| of.state))
        };
        match (state(old).await?, state(new).await?) {
            (Some(Held::Left), None) => Err(unfinished(bucket).into()),
            _ => Ok(()),
        }
    }

    /// Takes the bucket's row where it is to arrive. Returns whether it has: it may have been
    /// changed there since.
    async fn claim_new(&self, shard: &Shard, bucket: Bucket) -> Result<bool, MoveError> {
        let mover = self.number;
        let claimed = shard.sql.write(move |tx| match directory::held(tx, bucket)?.map(|of| of.state) {
            Some(Held::Here) => Ok(true),
            None | Some(Held::Arriving) => {
                directory::set_held(tx, bucket, Some((Held::Arriving, Some(&mover))))?;
                Ok(false)
            }
            Some(Held::Leaving | Held::Left) => Err(unfinished(bucket)),
        });
        Ok(claimed.await?)
    }

    /// Takes the bucket's row where it is to leave, which is frozen from then on.
    async fn claim_old(&self, shard: &Shard, bucket: Bucket, has_arrived: bool) -> Result<Held, MoveError> {
        let mover = self.number;
        let claimed = shard.sql.write(move |tx| {
            let state = match (directory::held(tx, bucket)?.map(|of| of.state), has_arrived) {
                (Some(Held::Here | Held::Leaving), false) => Held::Leaving,
                (Some(Held::Left), _) => Held::Left,
                // Its rows are removed.
                (None, true) => return Ok(Held::Left),
                _ => return Err(unfinished(bucket)),
            };
            directory::set_held(tx, bucket, Some((state, Some(&mover))))?;
            Ok(state)
        });
        Ok(claimed.await?)
    }

    /// A transaction of this mover: it does nothing if another one has taken over.
    async fn step<T: Send + 'static>(
        &self,
        shard: &Shard,
        bucket: Bucket,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<Option<T>, MoveError> {
        let mover = self.number;
        let step = shard.sql.write(move |tx| match directory::held(tx, bucket)? {
            Some(of) if of.mover == Some(mover) => body(tx).map(Some).map_err(MoveError::Sql),
            // What is to be removed is removed.
            None => Ok(None),
            Some(_) => Err(MoveError::Overtaken(bucket.number())),
        });
        step.await
    }

    /// Returns the numbers of the events that it has copied, too.
    async fn copy(&self, bucket: Bucket, old: &Shard, new: &Shard) -> Result<(Moved, Vec<i64>), MoveError> {
        self.clear(bucket, new, Held::Arriving).await?;
        // Versions that do not number them may have written some since.
        while old.sql.write(rows::number_some).await? {}
        let (mut copied, mut events) = (Digest::default(), Vec::new());
        let mut at = rows::Place::default();
        let mut seen = self.clock.now();
        loop {
            self.still_here(bucket, &mut seen).await?;
            let from = at.clone();
            let page = old.sql.primary().read(move |tx| rows::read_page(tx, bucket, &from)).await?;
            let Some(page) = page else { break };
            copied.add(&page);
            events.extend(page.events());
            at = page.next();
            let page = Arc::new(page);
            let put = move |tx: &mut Tx<'_>| rows::put_page(tx, &page);
            self.step(new, bucket, put).await?.ok_or(MoveError::Overtaken(bucket.number()))?;
        }
        let (mut there, mut at) = (Digest::default(), rows::Place::default());
        loop {
            self.still_here(bucket, &mut seen).await?;
            let from = at.clone();
            let page = new.sql.primary().read(move |tx| rows::read_arrived(tx, bucket, &from)).await?;
            let Some(page) = page else { break };
            there.add(&page);
            at = page.next();
        }
        match copied.difference(&there) {
            Some(table) => Err(MoveError::Differs { bucket: bucket.number(), table }),
            None => Ok((Moved { orders: copied.orders(), rows: copied.rows(), version: 0 }, events)),
        }
    }

    /// From here on the bucket is not the old database's any more. Its events go with it.
    async fn leave(&self, bucket: Bucket, old: &Shard, events: Vec<i64>) -> Result<(), MoveError> {
        let mover = self.number;
        let left = self.step(old, bucket, move |tx| {
            rows::remove_events(tx, &events)?;
            directory::set_held(tx, bucket, Some((Held::Left, Some(&mover))))
        });
        left.await?.ok_or(MoveError::Overtaken(bucket.number()))
    }

    async fn switch(&self, bucket: Bucket, from: &str, to: &str) -> Result<u64, MoveError> {
        let (mover, now) = (self.number, self.clock.now());
        let (from, to) = (from.to_owned(), to.to_owned());
        let switched = self.shards.home().write(move |tx| {
            let text = "SELECT bucket FROM bucket_moves WHERE bucket = ? AND mover = ?";
            if tx.query_locked(text, params![bucket.number(), &mover], |_| Ok(()))?.is_empty() {
                return Err(MoveError::Overtaken(bucket.number()));
            }
            let text = "SELECT shard FROM bucket_directory WHERE bucket = ?";
            let place = tx.query_locked(text, params![bucket.number()], |row| row.text(0))?;
            match place.first() == Some(&to) {
                // It was done before a crash.
                true => Ok(directory::version(tx)?.unwrap_or_default()),
                false => Ok(directory::switch(tx, now, bucket, (&from, &to))?),
            }
        });
        switched.await
    }

    async fn arrive(&self, bucket: Bucket, new: &Shard) -> Result<(), MoveError> {
        let arrived = self.step(new, bucket, move |tx| {
            rows::put_events_out(tx, bucket)?;
            directory::set_held(tx, bucket, Some((Held::Here, None)))
        });
        arrived.await?.ok_or(MoveError::Overtaken(bucket.number()))
    }

    /// The bucket stays where it was. Returns false if that could not be written, or if it has left
    /// already.
    async fn take_back(&self, bucket: Bucket, (old, new): (&Shard, &Shard)) -> bool {
        let back = async {
            let thawed = self.step(old, bucket, move |tx| match directory::held(tx, bucket)? {
                Some(of) if of.state == Held::Leaving => {
                    directory::set_held(tx, bucket, Some((Held::Here, None)))?;
                    Ok(true)
                }
                _ => Ok(false),
            });
            if thawed.await? != Some(true) {
                return Ok(false);
            }
            self.clear(bucket, new, Held::Arriving).await?;
            self.step(new, bucket, move |tx| directory::set_held(tx, bucket, None)).await?;
            let (number, mover) = (bucket.number(), self.number);
            let text = "DELETE FROM bucket_moves WHERE bucket = ? AND mover = ?";
            let end = self.shards.home().write(move |tx| tx.execute(text, params![number, &mover]));
            end.await.map(|_| true).map_err(MoveError::Sql)
        };
        back.await.unwrap_or_else(|error: MoveError| {
            tracing::warn!(%error, bucket = bucket.number(), "a move of orders is not taken back yet");
            false
        })
    }

    /// Removes the rows of a bucket that is not this database's.
    async fn clear(&self, bucket: Bucket, shard: &Shard, state: Held) -> Result<(), MoveError> {
        let mut seen = self.clock.now();
        loop {
            self.still_here(bucket, &mut seen).await?;
            let removed = self.step(shard, bucket, move |tx| match directory::held(tx, bucket)? {
                Some(of) if of.state == state => rows::remove_some(tx, bucket),
                _ => {
                    Err(SqlError::Defect(format!("rows of bucket {} are not to be removed", bucket.number())))
                }
            });
            match removed.await? {
                Some(true) => {}
                Some(false) | None => return Ok(()),
            }
        }
    }
}

fn unfinished(bucket: Bucket) -> SqlError {
    SqlError::Schema(format!(
        "bucket {}: the two databases and the directory do not fit together: was one put back from a backup?",
        bucket.number()
    ))
}

/// Reads buckets as people write them: `7`, `0-127`, or several of these with commas.
pub fn parse_buckets(text: &str) -> Result<Vec<Bucket>, String> {
    let want = || format!("want buckets from 0 to {}, such as 0-127,300", BUCKETS - 1);
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|of| *of < BUCKETS).ok_or_else(want);
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(want());
        }
        all.extend((first..=last).filter_map(Bucket::numbered));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests;
