//! What shoppers' pages read most, kept for a while: products, the first pages of lists, and the
//! categories. The database is the truth. A change forgets what it concerns before it is said to be
//! done; other processes follow the numbered changes of the tables, as the search does.

use crate::{
    changes::{self, State},
    store,
};
use contracts::store::{Category, Listings, Product, ProductSlug, StoreError};
use engines::{
    cache::{
        CacheError, Key,
        loading::{self, Figures, Loading, Shared},
    },
    clock::Clock,
    sql::{Sql, SqlError},
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use web::warning::Warning;

/// For how long it is kept that there is no such product.
const NONE_KEPT_FOR: Duration = Duration::from_secs(5);
/// How often changes of other processes are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const READ_AT_ONCE: usize = 100;
/// The group of lists and categories: any change of the catalogue may concern them.
const LISTS: &str = "lists";

/// How much is kept, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In the process; with 0 nothing is.
    pub bytes_max: u64,
    /// Nothing that was changed is given for longer, whatever fails.
    pub kept_for: Duration,
    /// Between processes.
    pub shared: Option<Shared>,
}

/// Why something was not loaded.
#[derive(Debug, Clone)]
pub(crate) struct NotLoaded(pub(crate) StoreError);

impl From<CacheError> for NotLoaded {
    fn from(error: CacheError) -> Self {
        tracing::error!(%error, "the catalogue");
        Self(StoreError::Unavailable("the catalogue cannot be read at the moment".into()))
    }
}

#[derive(Serialize, Deserialize)]
enum Kept {
    Product(Product),
    Categories(Vec<Category>),
    Listings(Listings),
}

/// The cache.
pub(crate) struct Cached {
    kept: Arc<Loading<Kept, NotLoaded>>,
    sql: Sql,
    /// Groups begin with it: another catalogue may share the Redis.
    identity: String,
    /// Up to which change everything was forgotten that changed.
    followed_to: AtomicU64,
    is_shared: bool,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

impl Cached {
    pub(crate) async fn open(
        sql: Sql,
        clock: Arc<dyn Clock>,
        Settings { bytes_max, kept_for, shared }: Settings,
    ) -> Result<Self, SqlError> {
        // Before anything is kept.
        let State { number, .. } = sql.primary().read(changes::state).await?;
        let identity = sql.write(store::identity).await?;
        let settings = loading::Settings { bytes_max, kept_for, none_kept_for: NONE_KEPT_FOR.min(kept_for) };
        let is_shared = shared.is_some();
        let kept = Loading::new(settings, shared, clock);
        Ok(Self { kept, sql, identity, followed_to: AtomicU64::new(number), is_shared })
    }

    /// Where what is kept is loaded from. What another process has changed is forgotten in the
    /// Redis before a replica needs to have the change: an older product would be kept there.
    pub(crate) fn loads_from(&self) -> Sql {
        if self.is_shared { self.sql.primary() } else { self.sql.clone() }
    }

    fn group_of(&self, slug: &ProductSlug) -> String {
        format!("{}:product:{slug}", self.identity)
    }

    fn lists(&self) -> String {
        format!("{}:{LISTS}", self.identity)
    }

    pub(crate) async fn product<L>(
        &self,
        slug: &ProductSlug,
        load: impl FnOnce() -> L + Send + 'static,
    ) -> Result<Option<Product>, StoreError>
    where
        L: Future<Output = Result<Option<Product>, StoreError>> + Send + 'static,
    {
        let load = move || async move { Ok(load().await.map_err(NotLoaded)?.map(Kept::Product)) };
        let kept = self.kept.get(Key::new(self.group_of(slug), ""), load).await.map_err(|error| error.0)?;
        Ok(kept.and_then(|kept| match &*kept {
            Kept::Product(product) => Some(product.clone()),
            _ => None,
        }))
    }

    pub(crate) async fn categories<L>(
        &self,
        load: impl FnOnce() -> L + Send + 'static,
    ) -> Result<Vec<Category>, StoreError>
    where
        L: Future<Output = Result<Vec<Category>, StoreError>> + Send + 'static,
    {
        let load = move || async move { Ok(Some(Kept::Categories(load().await.map_err(NotLoaded)?))) };
        let kept =
            self.kept.get(Key::new(self.lists(), "categories"), load).await.map_err(|error| error.0)?;
        Ok(kept.map_or_else(Vec::new, |kept| match &*kept {
            Kept::Categories(categories) => categories.clone(),
            _ => Vec::new(),
        }))
    }

    /// The first page of a list.
    pub(crate) async fn listings<L>(
        &self,
        category: Option<&ProductSlug>,
        at_most: usize,
        load: impl FnOnce() -> L + Send + 'static,
    ) -> Result<Listings, StoreError>
    where
        L: Future<Output = Result<Listings, StoreError>> + Send + 'static,
    {
        let of = category.map_or("", ProductSlug::as_str);
        let load = move || async move { Ok(Some(Kept::Listings(load().await.map_err(NotLoaded)?))) };
        let kept = self.kept.get(Key::new(self.lists(), format!("{at_most}:{of}")), load).await;
        let kept = kept.map_err(|error| error.0)?;
        Ok(kept.map_or_else(Listings::default, |kept| match &*kept {
            Kept::Listings(listings) => listings.clone(),
            _ => Listings::default(),
        }))
    }

    /// These products have changed.
    pub(crate) async fn forget(&self, slugs: impl Iterator<Item = &ProductSlug>) {
        let groups: Vec<String> = slugs.map(|slug| self.group_of(slug)).chain([self.lists()]).collect();
        self.kept.forget(&groups).await;
    }

    pub(crate) fn figures(&self) -> Figures {
        self.kept.figures()
    }

    /// Forgets what other processes have changed.
    pub(crate) async fn follow(&self) -> Infallible {
        let mut warning = Warning::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // While the database is away, what is kept is given until its time is over.
            while let Ok(true) = self.follow_some().await {}
            if let Some(error) = self.kept.take_failure()
                && let Some(count) = warning.due()
            {
                tracing::warn!(%error, count, "the catalogue's shared cache: pages come from the database");
            }
        }
    }

    /// Returns whether there may be more.
    async fn follow_some(&self) -> Result<bool, SqlError> {
        let from = self.followed_to.load(SeqCst);
        // Numbers do not go back, as those of replicas might; and what is read afterwards, on any
        // of them, has these changes.
        let sql = self.sql.primary();
        let read = sql.read(move |tx| {
            let State { number, forgotten_to } = changes::state(tx)?;
            let rows = if number == from { Vec::new() } else { changes::after(tx, from, READ_AT_ONCE)? };
            Ok::<_, SqlError>((number, forgotten_to, rows))
        });
        let (number, forgotten_to, rows) = read.await?;
        // A database that was put back to an earlier state has lower numbers.
        if number < from || forgotten_to > from {
            self.kept.forget_all().await;
            self.followed_to.store(number, SeqCst);
            return Ok(false);
        }
        if number == from {
            return Ok(false);
        }
        self.forget(rows.iter().map(|(_, slug)| slug)).await;
        let is_more = rows.len() == READ_AT_ONCE;
        let to = rows.last().filter(|_| is_more).map_or(number, |(last, _)| *last);
        self.followed_to.store(to, SeqCst);
        Ok(is_more)
    }
}

/// A product as pages of shoppers read it.
pub(crate) async fn read_published(sql: &Sql, slug: ProductSlug) -> Result<Option<Product>, SqlError> {
    sql.read(move |tx| store::published(tx, &slug)).await
}
