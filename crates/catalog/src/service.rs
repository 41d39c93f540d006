//! The catalogue as a service: what shoppers' pages ask, and what changes it.

use crate::{
    cached::{self, Cached, read_published},
    changes, picture_rows, rules,
    search::{Figures, NotAnswered, Question, Search},
    served::{self, Served},
    sheet::{self, SheetProduct},
    store::{self, Filter, Position, PutError},
    trail::{self, By},
};
use contracts::{
    SaleId,
    store::{
        Asked, CART_LINES_MAX, Catalog, Category, ForSale, Listings, Page, Posts, Product, ProductQuery,
        ProductSlug, Sku, StoreError,
    },
};
use engines::{
    cache::memory::Memory,
    clock::Clock,
    search::HITS_MAX,
    sql::{
        Sql, SqlError, Tx,
        outbox::{self, NotTold},
    },
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use units::TimeMs;
use web::{precondition::Expected, warning::Warning};

/// Products of one answer, at the most.
const PAGE_MAX: usize = 100;
/// Words of a search that compares texts, and characters of each; more are left out.
const WORDS_MAX: usize = 8;
const WORD_MAX: usize = 40;
/// Searches that compare texts and wait for their turn.
const COMPARISON_TURN_MAX: Duration = Duration::from_secs(3);
const COMPARISONS_LINE_MAX: usize = 32;
/// Products of a sheet that one transaction stores.
const IMPORTED_AT_ONCE: usize = 100;
/// How long a change waits for those before it.
const TURN_MAX: Duration = Duration::from_secs(20);
/// Bytes of a picture in SVG.
pub const PICTURE_BYTES_MAX: usize = 1 << 20;
/// Uploads in memory: each has ten MiB at the most.
pub(crate) const UPLOADS_MAX: usize = 4;
/// How long an upload waits until the one before it is decoded.
pub(crate) const DECODING_TURN_MAX: Duration = Duration::from_secs(20);

/// The context's service.
pub struct Service {
    pub(crate) sql: Sql,
    pub(crate) clock: Arc<dyn Clock>,
    cached: Option<Arc<Cached>>,
    /// A sheet is large: they are taken one at a time.
    imports: Semaphore,
    changes: Semaphore,
    pub(crate) search: Search,
    /// A search that compares texts reads all of them: one at a time, and some wait.
    comparisons: Semaphore,
    comparisons_line: Semaphore,
    /// Uploads that are in memory, and the one that is being decoded.
    pub(crate) uploads: Semaphore,
    pub(crate) decoding: Arc<Semaphore>,
    /// Pictures that were asked for, and the turns of those that are read.
    pub(crate) served: Memory<Served>,
    pub(crate) reads: Semaphore,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

pub(crate) fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "the catalogue's database");
    }
    StoreError::Unavailable("the catalogue cannot be read or changed at the moment".into())
}

pub(crate) fn of_put(error: PutError) -> StoreError {
    match error {
        PutError::Sql(error) => of_sql(&error),
        PutError::Picture(name) => {
            StoreError::Invalid(format!("pictures: there is no picture {name:?}: upload it first"))
        }
        PutError::Category => StoreError::Invalid("category: there is no such category".into()),
        PutError::Sku { sku, product } => {
            StoreError::Conflict(format!("sku {sku}: the product {product} has it already"))
        }
    }
}

/// What tells one state of a product from another.
pub fn mark(product: &Product) -> String {
    let document = serde_json::to_vec(product).unwrap_or_default();
    blake3::hash(&document).to_hex()[..32].to_owned()
}

/// What tells one state of all categories from another.
pub(crate) fn categories_mark(categories: &[Category]) -> String {
    let document = serde_json::to_vec(categories).unwrap_or_default();
    blake3::hash(&document).to_hex()[..32].to_owned()
}

/// Why a sheet was not stored as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// Where the product begins that was refused.
    pub line: u64,
    /// How many products were stored before it.
    pub stored: usize,
    pub why: StoreError,
}

/// The product that begins on this line was refused.
struct Refused(u64, PutError);

impl From<(u64, PutError)> for Refused {
    fn from((line, error): (u64, PutError)) -> Self {
        Self(line, error)
    }
}

impl From<SqlError> for Refused {
    fn from(error: SqlError) -> Self {
        Self(0, error.into())
    }
}

/// Notes what is other in a product than in the stored one, before it is stored.
pub(crate) fn note_put(tx: &mut Tx<'_>, now: TimeMs, by: By<'_>, product: &Product) -> Result<(), SqlError> {
    let before = store::find_readable(tx, &product.slug)?;
    trail::note(tx, now, by, (product.slug.as_str(), &trail::difference(before.as_ref(), product)))
}

fn too_many_searches() -> StoreError {
    StoreError::Unavailable("too many searches wait already".into())
}

/// The words and the category, of which texts have each.
fn filter(query: &ProductQuery, only_published: bool) -> Filter {
    let words = query.words.as_deref().unwrap_or_default().to_lowercase();
    let words = words.split_whitespace().take(WORDS_MAX);
    Filter {
        category: query.category.clone(),
        words: words.map(|word| word.chars().take(WORD_MAX).collect()).collect(),
        after: None,
        only_published,
        skip: 0,
        at_most: 0,
    }
}

async fn products_of(
    sql: &Sql,
    query: ProductQuery,
    only_published: bool,
) -> Result<Page<Product>, StoreError> {
    let at_most = query.at_most.clamp(1, PAGE_MAX);
    let after = query.after.as_ref().map(|after| after.parse::<Position>()).transpose();
    let filter = Filter {
        after: after.map_err(|error| StoreError::Invalid(format!("after: {error}")))?,
        // One more tells whether there is a further page.
        at_most: at_most + 1,
        ..filter(&query, only_published)
    };
    let read = sql.read(move |tx| store::list(tx, &filter)).await;
    let mut products = read.map_err(|error| of_sql(&error))?;
    let is_more = products.len() > at_most;
    products.truncate(at_most);
    let place = |last: &Product| Position { position: last.position, slug: last.slug.clone() }.to_string();
    let next = products.last().filter(|_| is_more).map(place);
    Ok(Page { rows: products, next })
}

impl Service {
    /// Brings the tables up to date. Everything is read from them.
    pub async fn open(sql: Sql, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SqlError> {
        Self::open_cached(sql, clock, None).await
    }

    /// The same; what shoppers' pages read most is kept for a while.
    pub async fn open_cached(
        sql: Sql,
        clock: Arc<dyn Clock>,
        cache: Option<cached::Settings>,
    ) -> Result<Arc<Self>, SqlError> {
        sql.migrate(store::MIGRATIONS).await?;
        sql.write(changes::begin).await?;
        let cached = match cache {
            Some(settings) => Some(Arc::new(Cached::open(sql.clone(), Arc::clone(&clock), settings).await?)),
            None => None,
        };
        Ok(Arc::new(Self {
            cached,
            decoding: Arc::new(Semaphore::new(1)),
            served: served::nothing(Arc::clone(&clock)),
            reads: Semaphore::new(served::READ_AT_ONCE),
            search: Search::new(sql.clone(), Arc::clone(&clock)),
            sql,
            clock,
            imports: Semaphore::new(1),
            changes: Semaphore::new(1),
            comparisons: Semaphore::new(1),
            comparisons_line: Semaphore::new(COMPARISONS_LINE_MAX),
            uploads: Semaphore::new(UPLOADS_MAX),
        }))
    }

    /// Builds the search's index, and has it follow the catalogue, for as long as the answer is
    /// kept. Without it, searches compare texts.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let (mut loops, service) = (JoinSet::new(), Arc::clone(self));
        loops.spawn(async move { match service.search.follow().await {} });
        let service = Arc::clone(self);
        loops.spawn(async move { match service.sweep_pictures().await {} });
        if let Some(cached) = self.cached.clone() {
            loops.spawn(async move { match cached.follow().await {} });
        }
        loops
    }

    /// Tells others what changes, within a second, for as long as the answer is kept.
    pub fn tell(self: &Arc<Self>, posts: Arc<dyn Posts>) -> JoinSet<()> {
        let (mut loops, databases) = (JoinSet::new(), [self.sql.clone()]);
        loops.spawn(async move {
            let (posts, mut warning) = (&*posts, Warning::default());
            let failed = |error: NotTold<StoreError>| {
                if let Some(count) = warning.due() {
                    tracing::warn!(%error, count, "catalogue: events wait, they cannot be told now");
                }
            };
            match outbox::tell(&databases, &Notify::new(), |events| posts.post(events), failed).await {}
        });
        loops
    }

    /// How the search's index stands to the catalogue.
    pub async fn search_figures(&self) -> Result<Figures, StoreError> {
        self.search.figures().await.map_err(|error| of_sql(&error))
    }

    /// What the cache did; none if there is no cache.
    pub fn cache_figures(&self) -> Option<engines::cache::loading::Figures> {
        self.cached.as_deref().map(Cached::figures)
    }

    /// Changes these products, or categories, of which nothing from before is given afterwards,
    /// also if the caller does not wait, or it is not known what became of it. One change waits
    /// for the database at a time, so that those that come at once do not take all its connections
    /// from those who read.
    pub(crate) async fn change<T, E>(
        &self,
        changed: Vec<ProductSlug>,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SqlError> + Send + 'static,
    {
        let turn = tokio::time::timeout(TURN_MAX, self.changes.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(SqlError::Busy.into()) };
        let (sql, cached) = (self.sql.clone(), self.cached.clone());
        let done = tokio::spawn(async move {
            let written = sql.write(move |tx| {
                changes::take_turn(tx)?;
                body(tx)
            });
            let written = written.await;
            if let Some(cached) = cached {
                cached.forget(changed.iter()).await;
            }
            written
        });
        let done = done.await.unwrap_or_else(|_| Err(SqlError::Defect("a change panicked".into()).into()));
        self.search.tell();
        done
    }

    /// Has every process build the search's index anew; they use the former one meanwhile.
    pub async fn rebuild_search(&self) -> Result<(), StoreError> {
        let noted = self.change(Vec::new(), changes::note_all);
        noted.await.map_err(|error: SqlError| of_sql(&error))
    }

    /// Stores these categories, in this order, before those that it does not name. It is no
    /// operator's doing.
    pub async fn put_categories(&self, categories: Vec<Category>) -> Result<(), StoreError> {
        self.put_categories_if(None, categories, |_| true).await.map(drop)
    }

    /// The same, if those that are stored are as expected. Returns whether they were.
    pub(crate) async fn put_categories_if(
        &self,
        by: Option<String>,
        categories: Vec<Category>,
        are_expected: impl Fn(&[Category]) -> bool + Send + 'static,
    ) -> Result<bool, StoreError> {
        if categories.len() > store::CATEGORIES_MAX {
            return Err(StoreError::Invalid(format!(
                "categories: want {} at the most",
                store::CATEGORIES_MAX
            )));
        }
        for category in &categories {
            rules::category(category).map_err(StoreError::Invalid)?;
        }
        let now = self.clock.now();
        let written = self.change(Vec::new(), move |tx| {
            let before = store::categories(tx)?;
            if !are_expected(&before) {
                return Ok(false);
            }
            if let Some(name) = &by {
                let named: Vec<&str> = categories.iter().map(|of| of.slug.as_str()).collect();
                let by = By { name, did: "categories.put" };
                trail::note(tx, now, by, ("categories", &named.join(", ")))?;
            }
            for (position, category) in categories.iter().enumerate() {
                store::put_category(tx, now, position, category)?;
            }
            // Products are found by their categories' names.
            let is_known = |category: &Category| before.iter().all(|known| known.slug != category.slug);
            match categories.iter().all(|category| before.contains(category) || is_known(category)) {
                true => changes::note_lists(tx)?,
                false => changes::note_all(tx)?,
            }
            Ok(true)
        });
        written.await.map_err(|error: SqlError| of_sql(&error))
    }

    /// Stores these categories as all that there are, in this order, without those that are to go;
    /// if they are still those that were seen. One with products in it does not go.
    pub(crate) async fn arrange_categories(
        &self,
        by: String,
        kept: Vec<Category>,
        gone: Vec<ProductSlug>,
        seen: String,
    ) -> Result<(), StoreError> {
        if kept.len() > store::CATEGORIES_MAX {
            let most = store::CATEGORIES_MAX;
            return Err(StoreError::Invalid(format!("categories: want {most} at the most")));
        }
        for category in &kept {
            let wrong = |why: String| StoreError::Invalid(format!("{}: {why}", category.slug));
            rules::category(category).map_err(wrong)?;
        }
        let now = self.clock.now();
        let written = self.change(Vec::new(), move |tx| {
            let before = store::categories(tx)?;
            let is_named = |of: &Category| {
                kept.iter().filter(|kept| kept.slug == of.slug).count() == 1 || gone.contains(&of.slug)
            };
            if categories_mark(&before) != seen || !before.iter().all(is_named) {
                return Ok(Some("they were changed meanwhile: look at them again".to_owned()));
            }
            let is_twice = |of: &Category| kept.iter().filter(|kept| kept.slug == of.slug).count() > 1;
            if let Some(twice) = kept.iter().find(|of| is_twice(of)) {
                return Ok(Some(format!("{} is there already", twice.slug)));
            }
            // A refusal is no error, and would keep what was written before it.
            for slug in &gone {
                if store::has_products(tx, slug)? {
                    return Ok(Some(format!("{slug} has products: move them to another category first")));
                }
            }
            for slug in &gone {
                store::remove_category(tx, now, slug)?;
                trail::note(tx, now, By { name: &by, did: "category.remove" }, (slug.as_str(), ""))?;
            }
            for (position, category) in kept.iter().enumerate() {
                let old = before.iter().position(|of| of.slug == category.slug);
                let did = match old.map(|at| (at, &before[at])) {
                    Some((at, of)) if of == category && at == position => continue,
                    Some((_, of)) if of == category => "category.move",
                    Some(_) => "category.rename",
                    None => "category.make",
                };
                store::put_category(tx, now, position, category)?;
                let detail = format!("{} / {}, place {}", category.name.en, category.name.zh, position + 1);
                trail::note(tx, now, By { name: &by, did }, (category.slug.as_str(), &detail))?;
            }
            // Products are found by their categories' names.
            if kept.iter().any(|of| before.iter().any(|old| old.slug == of.slug && old.name != of.name)) {
                changes::note_all(tx)?;
            } else {
                changes::note_lists(tx)?;
            }
            Ok(None)
        });
        let refused = written.await.map_err(|error: SqlError| of_sql(&error))?;
        match refused {
            Some(why) => Err(StoreError::Conflict(format!("categories: {why}"))),
            None => Ok(()),
        }
    }

    /// Stores a product, in place of the one with its slug if there is one. It is no operator's
    /// doing.
    pub async fn put(&self, product: Product) -> Result<(), StoreError> {
        self.put_as(None, product).await
    }

    pub(crate) async fn put_as(&self, by: Option<String>, product: Product) -> Result<(), StoreError> {
        self.put_if(by, product, Expected::Any).await.map(drop)
    }

    /// The same, if the stored one is the one that is expected. Returns the mark of what is stored
    /// now; `None` if it was another.
    pub(crate) async fn put_if(
        &self,
        by: Option<String>,
        product: Product,
        expected: Expected,
    ) -> Result<Option<String>, StoreError> {
        rules::product(&product).map_err(StoreError::Invalid)?;
        let now = self.clock.now();
        let written = self.change(vec![product.slug.clone()], move |tx| {
            // One that cannot be read any more can still be replaced.
            if expected != Expected::Any {
                let stored = store::find_locked(tx, &product.slug)?.map(|stored| mark(&stored));
                if !expected.is_met(stored.as_deref()) {
                    return Ok(None);
                }
            }
            if let Some(name) = &by {
                note_put(tx, now, By { name, did: "product.put" }, &product)?;
            }
            store::put(tx, now, &product)?;
            Ok(store::find_locked(tx, &product.slug)?.map(|stored| mark(&stored)))
        });
        written.await.map_err(of_put)
    }

    /// The same, if the stored one is still the one that was seen: none, or that with this mark.
    pub async fn put_seen(
        &self,
        by: String,
        product: Product,
        seen: Option<String>,
    ) -> Result<(), StoreError> {
        let expected = seen.map_or(Expected::Absent, Expected::Revision);
        match self.put_if(Some(by), product, expected).await? {
            Some(_) => Ok(()),
            None => {
                Err(StoreError::Conflict("product: it was changed meanwhile, or is there already".into()))
            }
        }
    }

    /// Returns whether it was there.
    pub async fn remove(&self, slug: ProductSlug) -> Result<bool, StoreError> {
        self.remove_as(None, slug).await
    }

    pub(crate) async fn remove_as(&self, by: Option<String>, slug: ProductSlug) -> Result<bool, StoreError> {
        Ok(self.remove_if(by, slug, Expected::Any).await? == Some(true))
    }

    /// The same, if the stored one is the one that is expected; `None` if it was another.
    pub(crate) async fn remove_if(
        &self,
        by: Option<String>,
        slug: ProductSlug,
        expected: Expected,
    ) -> Result<Option<bool>, StoreError> {
        let now = self.clock.now();
        let removed = self.change(vec![slug.clone()], move |tx| {
            if expected != Expected::Any {
                let stored = store::find_locked(tx, &slug)?.map(|stored| mark(&stored));
                if stored.is_some() && !expected.is_met(stored.as_deref()) {
                    return Ok(None);
                }
            }
            let was_there = store::remove(tx, now, &slug)?;
            if let Some(name) = by.as_ref().filter(|_| was_there) {
                trail::note(tx, now, By { name, did: "product.remove" }, (slug.as_str(), ""))?;
            }
            Ok(Some(was_there))
        });
        removed.await.map_err(|error: SqlError| of_sql(&error))
    }

    /// Stores a picture in SVG. Returns its path: the same for the same bytes.
    pub async fn put_svg(&self, svg: String) -> Result<String, StoreError> {
        if svg.len() > PICTURE_BYTES_MAX {
            return Err(StoreError::Invalid(format!(
                "a picture: want {PICTURE_BYTES_MAX} bytes at the most"
            )));
        }
        let name = format!("{}.svg", &blake3::hash(svg.as_bytes()).to_hex()[..32]);
        let path = format!("/media/{name}");
        let now = self.clock.now();
        let write =
            move |tx: &mut Tx<'_>| picture_rows::put_one(tx, now, &name, "image/svg+xml", svg.as_bytes());
        self.sql.write(write).await.map_err(|error| of_sql(&error))?;
        Ok(path)
    }

    /// Where shoppers' pages are read from.
    fn loads_from(&self) -> Sql {
        self.cached.as_ref().map_or_else(|| self.sql.clone(), |cached| cached.loads_from())
    }

    async fn list(&self, query: ProductQuery) -> Result<Listings, StoreError> {
        if query.words.as_ref().is_some_and(|words| !words.trim().is_empty()) {
            return self.find_by_words(query).await;
        }
        let read = {
            let (sql, query) = (self.loads_from(), query.clone());
            move || async move {
                let Page { rows, next } = products_of(&sql, query, true).await?;
                let rows = rows.into_iter().filter_map(store::listing).collect();
                Ok(Listings { rows, next, hits: None })
            }
        };
        match &self.cached {
            // Of a list, the first page is asked for again and again.
            Some(cached) if query.after.is_none() => {
                cached.listings(query.category.as_ref(), query.at_most, read).await
            }
            _ => read().await,
        }
    }

    /// Best first, by the index. Rows come from the tables, so what is not published any more is
    /// left out also before the index knows of it.
    async fn find_by_words(&self, query: ProductQuery) -> Result<Listings, StoreError> {
        let skip = query.after.as_deref().map_or(Ok(0), str::parse::<usize>).ok();
        let skip = skip.filter(|skip| *skip <= HITS_MAX);
        let skip = skip.ok_or_else(|| StoreError::Invalid("after: want what the page before gave".into()))?;
        let question = Question {
            words: query.words.clone().unwrap_or_default(),
            category: query.category.clone(),
            skip,
            at_most: query.at_most.clamp(1, PAGE_MAX),
        };
        let until = skip + question.at_most;
        match self.search.ask(question).await {
            Ok(answer) => {
                let next = answer.is_more(until).then(|| until.to_string());
                let read = self.sql.read(move |tx| {
                    let each = answer.slugs.iter().map(|slug| store::published(tx, slug));
                    each.collect::<Result<Vec<_>, SqlError>>()
                });
                let rows = read.await.map_err(|error| of_sql(&error))?;
                let rows = rows.into_iter().flatten().filter_map(store::listing).collect();
                Ok(Listings { rows, next, hits: Some(answer.hits) })
            }
            Err(NotAnswered::NotBuilt) => self.compare(query, skip).await,
            Err(NotAnswered::Busy) => Err(too_many_searches()),
        }
    }

    /// Searches without the index.
    async fn compare(&self, query: ProductQuery, skip: usize) -> Result<Listings, StoreError> {
        let _place = self.comparisons_line.try_acquire().map_err(|_| too_many_searches())?;
        let turn = tokio::time::timeout(COMPARISON_TURN_MAX, self.comparisons.acquire()).await;
        let _turn = turn.map_err(|_| too_many_searches())?.map_err(|_| too_many_searches())?;
        let at_most = query.at_most.clamp(1, PAGE_MAX);
        let filter = Filter { skip, at_most: at_most + 1, ..filter(&query, true) };
        let read = self.sql.read(move |tx| store::list(tx, &filter)).await;
        let mut products = read.map_err(|error| of_sql(&error))?;
        let is_more = products.len() > at_most && skip + at_most < HITS_MAX;
        products.truncate(at_most);
        let next = is_more.then(|| (skip + at_most).to_string());
        Ok(Listings { rows: products.into_iter().filter_map(store::listing).collect(), next, hits: None })
    }

    /// Products in the shop's order, for those who run it also those that are not published.
    pub async fn all(&self, query: ProductQuery) -> Result<Page<Product>, StoreError> {
        products_of(&self.sql, query, false).await
    }

    /// Stores the products of a sheet, some in a transaction. What a sheet does not say, pictures
    /// and sales, stays as it is. Returns the first that is refused: those before it are stored.
    pub async fn import(&self, by: &str, products: Vec<SheetProduct>) -> Result<usize, ImportError> {
        let _turn = self.imports.try_acquire().map_err(|_| ImportError {
            line: 0,
            stored: 0,
            why: StoreError::Unavailable("another sheet is being taken".into()),
        })?;
        let (now, all) = (self.clock.now(), Arc::new(products));
        self.want_free_units(&all).await?;
        let mut stored = 0;
        while stored < all.len() {
            let (products, until) = (Arc::clone(&all), all.len().min(stored + IMPORTED_AT_ONCE));
            let by = by.to_owned();
            let slugs = all[stored..until].iter().map(|of| of.product.slug.clone()).collect();
            let written = self.change(slugs, move |tx| {
                for SheetProduct { line, product } in &products[stored..until] {
                    let refused = |error: PutError| (*line, error);
                    let mut product = product.clone();
                    if let Some(old) =
                        store::find(tx, &product.slug).map_err(|error| refused(error.into()))?
                    {
                        sheet::keep(&mut product, &old);
                    }
                    let by = By { name: &by, did: "sheet.put" };
                    note_put(tx, now, by, &product).map_err(|error| refused(error.into()))?;
                    store::put(tx, now, &product).map_err(refused)?;
                }
                Ok::<_, Refused>(())
            });
            written.await.map_err(|Refused(line, error)| ImportError { line, stored, why: of_put(error) })?;
            stored = until;
        }
        Ok(stored)
    }

    /// Refuses a sheet of which another product has a unit, before anything of it is stored.
    async fn want_free_units(&self, all: &Arc<Vec<SheetProduct>>) -> Result<(), ImportError> {
        let all = Arc::clone(all);
        let looked = self.sql.read(move |tx| {
            for SheetProduct { line, product } in all.iter() {
                if let Some((sku, product)) = store::taken_unit(tx, product)? {
                    return Err(Refused(*line, PutError::Sku { sku, product }));
                }
            }
            Ok(())
        });
        looked.await.map_err(|Refused(line, error)| ImportError { line, stored: 0, why: of_put(error) })
    }

    /// A product, also one that is not published. Who changes it writes the rest of it back, so
    /// replicas do not answer.
    pub async fn find(&self, slug: ProductSlug) -> Result<Option<Product>, StoreError> {
        self.sql.primary().read(move |tx| store::find(tx, &slug)).await.map_err(|error| of_sql(&error))
    }
}

impl Catalog for Service {
    fn categories(&self) -> Asked<'_, Vec<Category>> {
        let sql = self.loads_from();
        let read = || async move { sql.read(store::categories).await.map_err(|error| of_sql(&error)) };
        Box::pin(async move {
            match &self.cached {
                Some(cached) => cached.categories(read).await,
                None => read().await,
            }
        })
    }

    fn products(&self, query: ProductQuery) -> Asked<'_, Listings> {
        Box::pin(self.list(query))
    }

    fn product(&self, slug: ProductSlug) -> Asked<'_, Option<Product>> {
        let (sql, of) = (self.loads_from(), slug.clone());
        let read = || async move { read_published(&sql, of).await.map_err(|error| of_sql(&error)) };
        Box::pin(async move {
            match &self.cached {
                Some(cached) => cached.product(&slug, read).await,
                None => read().await,
            }
        })
    }

    fn for_sale(&self, skus: Vec<Sku>) -> Asked<'_, Vec<ForSale>> {
        Box::pin(async move {
            let read = self.sql.read(move |tx| {
                let each = skus.iter().take(CART_LINES_MAX).map(|sku| store::for_sale(tx, sku));
                let found = each.collect::<Result<Vec<_>, SqlError>>()?;
                Ok(found.into_iter().flatten().collect())
            });
            read.await.map_err(|error: SqlError| of_sql(&error))
        })
    }

    fn of_sale(&self, sale: SaleId) -> Asked<'_, Vec<Product>> {
        Box::pin(async move {
            let read = self.sql.read(move |tx| store::of_sale(tx, &sale)).await;
            read.map_err(|error| of_sql(&error))
        })
    }
}

#[cfg(test)]
mod tests;
