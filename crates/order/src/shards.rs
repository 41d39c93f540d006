//! The databases over which orders and carts are spread, each with a name, on any number of
//! servers. A transaction names its bucket, and is carried out where that bucket is, or not at all.

use crate::{
    directory::{self, HOME, UnderWay, Wants},
    store,
};
use contracts::store::{BUCKETS, Bucket};
use engines::{
    chance::Chance,
    sql::{Sql, SqlError, Tx},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use units::TimeMs;

/// Databases before there was a directory: buckets were spread over them by arithmetic.
const BEFORE_THE_DIRECTORY: usize = 4;
/// The most databases of one installation.
pub const SHARDS_MAX: usize = 32;
/// How long a transaction waits for a bucket that is being moved, and the pauses meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// One of the databases.
#[derive(Debug, Clone)]
pub struct Shard {
    pub(crate) name: String,
    pub(crate) sql: Sql,
}

/// What the directory said when it was last read.
#[derive(Debug)]
struct Map {
    version: u64,
    names: Vec<String>,
    /// For each bucket the number of its database here; `None` if this process has it not.
    places: Vec<Option<usize>>,
}

impl Map {
    fn new(version: u64, names: Vec<String>, all: &[Shard]) -> Self {
        let place = |name: &String| all.iter().position(|shard| shard.name == *name);
        let places = names.iter().map(place).collect();
        Self { version, names, places }
    }
}

#[derive(Debug)]
struct Inner {
    all: Vec<Shard>,
    /// The database that has the directory, which replicas do not answer.
    home: Sql,
    map: RwLock<Arc<Map>>,
}

/// The databases over which orders are spread. Clones share them.
#[derive(Debug, Clone)]
pub struct Shards(Arc<Inner>);

/// Gives databases the names that they have by default.
pub fn numbered(all: Vec<Sql>) -> Vec<(String, Sql)> {
    all.into_iter().enumerate().map(|(number, sql)| (format!("orders_{number}"), sql)).collect()
}

fn schema<T>(why: String) -> Result<T, SqlError> {
    Err(SqlError::Schema(why))
}

/// The shards as numbers: neighbouring buckets share one.
fn spread(over: usize) -> impl Iterator<Item = usize> {
    (0..usize::from(BUCKETS)).map(move |bucket| bucket * over / usize::from(BUCKETS))
}

/// What is known of a database when it is opened.
struct Found {
    identity: Option<(String, [u8; 16])>,
    rows: Vec<Bucket>,
}

impl Shards {
    /// Takes these, at least one with the name [`HOME`], brings their tables up to date, and holds
    /// what each says of itself against the directory. The first time it writes the directory: of
    /// an installation that has orders as they lie, of a new one over all.
    pub async fn open(all: Vec<(String, Sql)>, now: TimeMs, chance: &dyn Chance) -> Result<Self, SqlError> {
        let all: Vec<Shard> = all.into_iter().map(|(name, sql)| Shard { name, sql }).collect();
        let names: BTreeSet<&str> = all.iter().map(|shard| &*shard.name).collect();
        let home = all.iter().position(|shard| shard.name == HOME);
        let Some(home) = home.filter(|_| names.len() == all.len() && all.len() <= SHARDS_MAX) else {
            return schema(format!(
                "the orders' databases: want up to {SHARDS_MAX} with different names, one of them {HOME}"
            ));
        };
        for shard in &all {
            shard.sql.migrate(store::MIGRATIONS).await?;
        }
        let mut found = Vec::new();
        for shard in &all {
            let look = |tx: &mut Tx<'_>| {
                Ok::<_, SqlError>(Found {
                    identity: directory::identity(tx)?,
                    rows: directory::buckets_of_rows(tx)?,
                })
            };
            found.push(shard.sql.primary().read(look).await?);
        }
        are_themselves(&all, &found, home)?;
        let home_sql = all[home].sql.primary();
        let is_there = home_sql.read(directory::version).await?.is_some();
        match is_there {
            true => join(&all, &found, home).await?,
            false => begin(&all, &found, home, now, chance).await?,
        }
        let map = read_map(&all, &home_sql).await?;
        let this = Self(Arc::new(Inner { all, home: home_sql, map: RwLock::new(Arc::new(map)) }));
        if let Some((bucket, name)) = this.first_missing() {
            return schema(format!(
                "bucket {bucket} is in {name}, which is not one of the orders' databases here: add it to store.orders"
            ));
        }
        Ok(this)
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.0.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn first_missing(&self) -> Option<(usize, String)> {
        let map = self.map();
        let bucket = map.places.iter().position(Option::is_none)?;
        Some((bucket, map.names[bucket].clone()))
    }

    /// The database of a bucket, as far as is known.
    pub(crate) fn of(&self, bucket: Bucket) -> Result<&Shard, SqlError> {
        self.number_of(bucket).map(|number| &self.0.all[number])
    }

    pub(crate) fn number_of(&self, bucket: Bucket) -> Result<usize, SqlError> {
        let (map, number) = (self.map(), usize::from(bucket.number()));
        map.places[number].ok_or_else(|| {
            let name = &map.names[number];
            SqlError::Shortage(format!(
                "bucket {number} is in {name}, which this process does not have: add it to store.orders, and restart"
            ))
        })
    }

    pub(crate) fn all(&self) -> &[Shard] {
        &self.0.all
    }

    pub(crate) fn home(&self) -> &Sql {
        &self.0.home
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Shard> {
        self.0.all.iter().find(|shard| shard.name == name)
    }

    /// The version of the directory, for each database the buckets that it has, and what is being
    /// moved.
    pub async fn describe(&self) -> Result<(u64, BTreeMap<String, Vec<u16>>, Vec<UnderWay>), SqlError> {
        self.refresh().await?;
        let moves = self.home().read(directory::moves).await?;
        let map = self.map();
        let mut all: BTreeMap<String, Vec<u16>> =
            self.all().iter().map(|shard| (shard.name.clone(), Vec::new())).collect();
        for (name, bucket) in map.names.iter().zip(0..) {
            all.entry(name.clone()).or_default().push(bucket);
        }
        Ok((map.version, all, moves))
    }

    pub(crate) async fn has_moves(&self) -> Result<bool, SqlError> {
        Ok(!self.home().read(directory::moves).await?.is_empty())
    }

    /// Reads the directory, if there is a newer version of it.
    pub(crate) async fn refresh(&self) -> Result<(), SqlError> {
        let known = self.map().version;
        if self.home().read(directory::version).await? == Some(known) {
            return Ok(());
        }
        let map = read_map(&self.0.all, &self.0.home).await?;
        // A replica may be so late that a bucket which has come back looks as it was when it left.
        self.all().iter().for_each(|shard| shard.sql.catch_up());
        tracing::info!(version = map.version, "orders: the directory of buckets is a newer one");
        *self.0.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
        if let Some((bucket, name)) = self.first_missing() {
            tracing::error!(
                bucket,
                shard = name,
                "orders lie in a database that this process does not have: add it to store.orders, and restart"
            );
        }
        Ok(())
    }

    /// A transaction that only reads, on the database of this bucket, or a replica of it.
    pub(crate) async fn read<T, E>(
        &self,
        bucket: Bucket,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        self.read_on(bucket, body, Of::Any).await
    }

    /// The same for what is decided by it, which replicas do not answer.
    pub(crate) async fn read_primary<T, E>(
        &self,
        bucket: Bucket,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        self.read_on(bucket, body, Of::Primary).await
    }

    async fn read_on<T, E>(
        &self,
        bucket: Bucket,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        mut of: Of,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let (mut waits, body) = (Waits::begin(), Arc::new(Mutex::new(body)));
        loop {
            let sql = of.sql(self.of(bucket)?);
            let body = Arc::clone(&body);
            let read = sql.read(move |tx| match directory::is_here(tx, bucket, Wants::Read)? {
                true => (body.lock().unwrap_or_else(PoisonError::into_inner))(tx).map(Some),
                false => Ok(None),
            });
            match read.await? {
                Some(read) => return Ok(read),
                None => waits.pause(self, bucket).await?,
            }
            // It may only be a replica that has not heard of it.
            of = Of::Primary;
        }
    }

    /// A transaction on the database of this bucket, which it changes.
    pub(crate) async fn write<T, E>(
        &self,
        bucket: Bucket,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let (mut waits, body) = (Waits::begin(), Arc::new(Mutex::new(body)));
        loop {
            let (shard, body) = (self.of(bucket)?, Arc::clone(&body));
            let write =
                shard.write(bucket, move |tx| (body.lock().unwrap_or_else(PoisonError::into_inner))(tx));
            match write.await? {
                Some(written) => return Ok(written),
                None => waits.pause(self, bucket).await?,
            }
        }
    }

    /// Reads in all databases, so that each bucket is seen once.
    pub(crate) async fn read_all<T, E>(
        &self,
        body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Clone + Send + 'static,
    ) -> Result<Vec<T>, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let (mut waits, mut of) = (Waits::begin(), Of::Any);
        loop {
            let (mut answers, mut seen) = (Vec::new(), Seen::default());
            for shard in self.all() {
                let mut body = body.clone();
                let sql = of.sql(shard);
                let read = sql.read(move |tx| {
                    let here = directory::read_here(tx)?;
                    Ok::<_, E>((here, body(tx)?))
                });
                let (here, answer) = read.await?;
                seen.add(here);
                answers.push(answer);
            }
            if seen.is_each_once() {
                return Ok(answers);
            }
            // One went from a database that was read to one that was not, or the other way round,
            // or has done so for one replica and not yet for another.
            of = Of::Primary;
            let missing = seen.a_missing();
            waits.pause(self, missing).await?;
        }
    }
}

/// Which servers may answer a read.
#[derive(Debug, Clone, Copy)]
enum Of {
    Any,
    Primary,
}

impl Of {
    fn sql(self, shard: &Shard) -> Sql {
        match self {
            Self::Any => shard.sql.clone(),
            Self::Primary => shard.sql.primary(),
        }
    }
}

impl Shard {
    /// A transaction that changes a bucket here. `None`, and nothing is done, if the bucket is not
    /// here, or is being moved.
    pub(crate) async fn write<T, E>(
        &self,
        bucket: Bucket,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Option<T>, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let write = self.sql.write(move |tx| match directory::is_here(tx, bucket, Wants::Change)? {
            true => body(tx).map(Some),
            false => Ok(None),
        });
        write.await
    }
}

/// The buckets that databases had when they were read one after another.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    all: BTreeSet<u16>,
    is_any_twice: bool,
}

impl Seen {
    pub(crate) fn add(&mut self, here: BTreeSet<u16>) {
        for bucket in here {
            self.is_any_twice |= !self.all.insert(bucket);
        }
    }

    pub(crate) fn is_each_once(&self) -> bool {
        !self.is_any_twice && self.all.len() == usize::from(BUCKETS)
    }

    fn a_missing(&self) -> Bucket {
        let is_missing = |bucket: &Bucket| !self.all.contains(&bucket.number());
        Bucket::all().find(is_missing).unwrap_or_else(|| Bucket::of_shopper(""))
    }
}

/// Pauses while a bucket is on its way.
struct Waits {
    until: Instant,
    pause: Duration,
}

impl Waits {
    fn begin() -> Self {
        Self { until: Instant::now() + WAIT_MAX, pause: PAUSE_MIN }
    }

    async fn pause(&mut self, shards: &Shards, bucket: Bucket) -> Result<(), SqlError> {
        if Instant::now() > self.until {
            let number = bucket.number();
            return Err(SqlError::Shortage(format!("bucket {number} of orders is being moved")));
        }
        shards.refresh().await?;
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        Ok(())
    }
}

async fn read_map(all: &[Shard], home: &Sql) -> Result<Map, SqlError> {
    let read = home.read(|tx| {
        let version = directory::version(tx)?;
        let version = version.ok_or_else(|| SqlError::Schema("the directory of buckets is gone".into()))?;
        Ok((version, directory::read(tx)?))
    });
    let (version, names) = read.await.map_err(|error: SqlError| error)?;
    Ok(Map::new(version, names, all))
}

/// Each database is the one that the configuration takes it for, and all are of one installation.
fn are_themselves(all: &[Shard], found: &[Found], home: usize) -> Result<(), SqlError> {
    for (shard, Found { identity, .. }) in all.iter().zip(found) {
        if let Some((name, _)) = identity.as_ref().filter(|(name, _)| *name != shard.name) {
            let want = &shard.name;
            return schema(format!(
                "the database that is configured as {want} says that it is {name}: put store.orders right"
            ));
        }
    }
    let installation = found[home].identity.as_ref().map(|(_, installation)| installation);
    for (shard, Found { identity, .. }) in all.iter().zip(found) {
        match (identity, installation) {
            (Some((_, of)), Some(installation)) if of != installation => {
                return schema(format!(
                    "{} belongs to another installation than {HOME}: put store.orders right",
                    shard.name
                ));
            }
            (Some(_), None) => {
                return schema(format!(
                    "{HOME}, which has the directory, is new or of an earlier version, and {} is not: put {HOME} back",
                    shard.name
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Databases that the directory does not know yet get their names; those that it knows must have
/// one.
async fn join(all: &[Shard], found: &[Found], home: usize) -> Result<(), SqlError> {
    let known: BTreeSet<String> = all[home].sql.primary().read(directory::read).await?.into_iter().collect();
    let Some((_, installation)) = found[home].identity.clone() else {
        return schema(format!("{HOME} has a directory, and no name: put it back from a backup"));
    };
    for (shard, found) in all.iter().zip(found).filter(|(_, found)| found.identity.is_none()) {
        if !found.rows.is_empty() {
            return schema(format!(
                "{} has orders, and has never been of this installation: put store.orders right",
                shard.name
            ));
        }
        if known.contains(&shard.name) {
            return schema(format!(
                "{} is empty, and the directory says that it has orders: put store.orders right, or the database back",
                shard.name
            ));
        }
        name_one(shard, installation, Vec::new()).await?;
    }
    Ok(())
}

/// The first start with a directory. It is written last, so that a start that was cut off is begun
/// again.
async fn begin(
    all: &[Shard],
    found: &[Found],
    home: usize,
    now: TimeMs,
    chance: &dyn Chance,
) -> Result<(), SqlError> {
    let is_new = found.iter().all(|found| found.rows.is_empty());
    let over: Vec<String> = match is_new {
        true => all.iter().map(|shard| shard.name.clone()).collect(),
        // It has orders: they lie where versions without a directory have put them.
        false => (0..BEFORE_THE_DIRECTORY).map(|number| format!("orders_{number}")).collect(),
    };
    let names: Vec<String> = spread(over.len()).map(|number| over[number].clone()).collect();
    if let Some(missing) = over.iter().find(|name| !all.iter().any(|shard| shard.name == **name)) {
        return schema(format!(
            "there are orders, and no directory yet: it is written at a start with orders_0 to orders_3, and {missing} is not one of store.orders"
        ));
    }
    for (shard, found) in all.iter().zip(found) {
        let is_foreign = |bucket: &&Bucket| names[usize::from(bucket.number())] != shard.name;
        if let Some(bucket) = found.rows.iter().find(is_foreign) {
            return schema(format!(
                "the database that is configured as {} has orders of bucket {}, which are {}'s: put store.orders right",
                shard.name,
                bucket.number(),
                names[usize::from(bucket.number())]
            ));
        }
    }
    let of = |name: &str| -> Vec<u16> {
        (0..BUCKETS).filter(|bucket| names[usize::from(*bucket)] == name).collect()
    };
    let drawn = chance.bytes16().map_err(|error| SqlError::Shortage(error.to_string()))?;
    name_one(&all[home], drawn, of(HOME)).await?;
    // It may have been named before, with another number.
    let installation =
        all[home].sql.primary().read(directory::identity).await?.map_or(drawn, |(_, drawn)| drawn);
    for shard in all.iter().filter(|shard| shard.name != HOME) {
        name_one(shard, installation, of(&shard.name)).await?;
    }
    for shard in all {
        let want: BTreeSet<u16> = of(&shard.name).into_iter().collect();
        if shard.sql.primary().read(directory::read_here).await? != want {
            return schema(format!(
                "a first start with other databases than these was cut off, says {}: put store.orders right",
                shard.name
            ));
        }
    }
    let what = match is_new {
        true => format!("a new installation over {} databases", over.len()),
        false => "as orders lay before there was a directory".into(),
    };
    all[home].sql.write(move |tx| directory::write_first(tx, now, &names, &what)).await
}

async fn name_one(shard: &Shard, installation: [u8; 16], buckets: Vec<u16>) -> Result<(), SqlError> {
    let name = shard.name.clone();
    shard.sql.write(move |tx| directory::name_it(tx, (&name, &installation), &buckets)).await
}

#[cfg(test)]
mod tests;
