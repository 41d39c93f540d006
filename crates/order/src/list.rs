//! The list of orders: all orders of all shards in one database, for those who run the shop. It
//! follows the events of `store-orders`, so it is behind the orders by what is still on its way;
//! [`listed`](crate::listed) takes them. What was never told, or is lost, a build brings.

use crate::{
    directory,
    list_rows::{self, Build, Place},
    rows,
    shards::Shards,
    store,
    summary::OrderSummary,
};
use contracts::store::{BUCKETS, Bucket, OrderId};
use engines::{
    params,
    sql::{Sql, SqlError, Tx},
};

/// Orders that a build reads and writes at once.
const PAGE_MAX: usize = 100;
/// Steps of a build that are done before the store is open, so that a new shop's list is whole at
/// once: each is a page, or some orders of an early version that get their buckets.
const AT_START_MAX: usize = 20;

/// The database of the list. Clones share it.
#[derive(Debug, Clone)]
pub struct List {
    sql: Sql,
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The orders of so many buckets are written.
    Buckets(u16),
    /// All orders are written, and rows without one are being removed.
    Removing,
    Done,
}

impl List {
    /// Brings the tables up to date, and begins a build if the list is new, or of an earlier
    /// version.
    pub async fn open(sql: Sql, shards: &Shards) -> Result<Self, SqlError> {
        sql.migrate(list_rows::MIGRATIONS).await?;
        sql.write(list_rows::begin_if_needed).await?;
        let list = Self { sql };
        for _ in 0..AT_START_MAX {
            match list.build_some(shards).await {
                Ok(Progress::Done) => break,
                Ok(_) => {}
                // The store goes on with it, and a bucket that is on its way arrives meanwhile.
                Err(error) if error.passes() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }

    /// Begins another build: [`build_some`](Self::build_some) goes on with it, of this process or
    /// of any other. The list answers meanwhile.
    pub async fn begin(&self) -> Result<(), SqlError> {
        self.sql.write(list_rows::begin).await
    }

    /// Goes on with a build by one page, if there is one. What it has done is stored: a process
    /// that ends is followed by another one from there.
    pub async fn build_some(&self, shards: &Shards) -> Result<Progress, SqlError> {
        let Build { number, at, .. } = self.sql.primary().read(list_rows::build).await?;
        let Some(at) = at else { return Ok(Progress::Done) };
        if at.has_written_all() {
            self.sql.write(move |tx| list_rows::remove_some(tx, number, at)).await?;
            return Ok(Progress::Removing);
        }
        if at == Place::START {
            for shard in shards.all() {
                if shard.sql.write(rows::number_some).await? {
                    return Ok(Progress::Buckets(0));
                }
            }
        }
        let (page, next) = read_page(shards, at).await?;
        self.sql.write(move |tx| list_rows::put_page(tx, (number, at), &page, next)).await?;
        Ok(Progress::Buckets(next.bucket))
    }

    /// Writes what events have told.
    pub(crate) async fn put(&self, told: Vec<OrderSummary>) -> Result<(), SqlError> {
        self.sql.write(move |tx| list_rows::put_told(tx, &told)).await
    }

    /// Of each of these orders whether it is listed in this version or a later one. Of one without
    /// a version that is not known.
    pub(crate) async fn are_listed(&self, all: Vec<(OrderId, Option<u64>)>) -> Result<Vec<bool>, SqlError> {
        let sql = self.sql.primary();
        let read = sql.read(move |tx| {
            let each = all.iter().map(|(order, version)| match version {
                Some(version) => Ok(list_rows::version(tx, *order)?.is_some_and(|of| of >= *version)),
                None => Ok(false),
            });
            each.collect()
        });
        read.await
    }

    /// Reads the list. `None` while it lacks orders because its first build is not done: a part
    /// would look like all.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<Option<T>, SqlError> {
        let read = self.sql.read(move |tx| match list_rows::build(tx)?.is_whole {
            true => body(tx).map(Some),
            false => Ok(None),
        });
        read.await
    }
}

/// The next orders, and where those after them are. One transaction reads orders of the buckets
/// that follow each other in one database; those of a bucket on its way wait until it has arrived.
async fn read_page(shards: &Shards, at: Place) -> Result<(Vec<OrderSummary>, Place), SqlError> {
    let Some(first) = Bucket::numbered(at.bucket) else {
        return Err(SqlError::Schema(format!("the list of orders is built up to bucket {}", at.bucket)));
    };
    // What a replica has not copied yet would be missing for good.
    let read = shards.read_primary(first, move |tx| {
        let here = directory::read_here(tx)?;
        let end = (at.bucket..BUCKETS).find(|bucket| !here.contains(bucket)).unwrap_or(BUCKETS);
        let read = |row: &engines::sql::Row<'_>| row.array(0).map(OrderId::from_bytes);
        let text = "SELECT id FROM orders WHERE bucket = ? AND id > ? ORDER BY id LIMIT ?";
        let mut ids = tx.query(text, params![at.bucket, &at.after, PAGE_MAX], read)?;
        if ids.len() < PAGE_MAX {
            let text = "SELECT id FROM orders WHERE bucket > ? AND bucket < ? ORDER BY bucket, id LIMIT ?";
            ids.extend(tx.query(text, params![at.bucket, end, PAGE_MAX - ids.len()], read)?);
        }
        let next = match ids.last() {
            Some(last) if ids.len() == PAGE_MAX => {
                Place { bucket: last.bucket().number(), after: last.to_bytes() }
            }
            _ => Place::at(end),
        };
        let mut page = Vec::new();
        for id in ids {
            if let Some(stored) = store::find(tx, id, false)? {
                page.push(store::summary(tx, &stored)?);
            }
        }
        Ok((page, next))
    });
    read.await
}

#[cfg(test)]
mod tests;
