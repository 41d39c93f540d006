//! The search: what a product is found by, what a shopper's words mean, and the index that follows
//! the database. The database is the truth; the index is in memory, and is built from it again
//! after each start, whenever an operator asks for it, and when it breaks.

use crate::{
    changes::{self, State},
    store,
    tokens::{self, Asked, Word},
};
use contracts::store::{Category, CategoryHits, Hits, Localized, Product, ProductSlug, Understood};
use engines::{
    clock::Clock,
    search::{Change, Document, HITS_MAX, Index, Query, SearchError, View, Wanted},
    sql::{Sql, SqlError},
};
use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
};
use units::{DurationMs, TimeMs};

/// Of the names; of categories, variants and SKUs; and of the descriptions.
const WEIGHTS: [f32; 3] = [8.0, 3.0, 1.0];
/// Products and changes that are read in one transaction.
const READ_AT_ONCE: usize = 100;
/// How often it is looked for changes, if nothing tells of one; other processes do not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long changes are gathered, so that an index is not written anew for each.
const GATHER_FOR: Duration = Duration::from_millis(100);
/// How long changes are kept for those who follow.
const KEPT_FOR: DurationMs = DurationMs(7 * 24 * 3600 * 1000);
const FORGET_EVERY: DurationMs = DurationMs(60_000);
/// An index is taken for broken once in this time, at the most.
const BROKEN_EVERY: DurationMs = DurationMs(60_000);
/// Searches that are computed at once, and that wait for a turn.
const AT_ONCE: usize = 2;
const LINE_MAX: usize = 64;
/// Words of one search that are taken for others, and how many are tried for each.
const MENDED_MAX: usize = 4;
const TRIED_MAX: usize = 3;
/// Letters of a word from which on one change, and two, may make it a known one.
const ONE_CHANGE_FROM: usize = 4;
const TWO_CHANGES_FROM: usize = 8;

/// What a product is found by.
fn document(product: &Product, categories: &[Category]) -> Document {
    let both = |text: &Localized| [tokens::of_text(&text.en), tokens::of_text(&text.zh)];
    let category = categories.iter().find(|category| category.slug == product.category);
    let mut about = Vec::new();
    about.extend(category.into_iter().flat_map(|category| both(&category.name)));
    for variant in &product.variants {
        about.extend(both(&variant.name));
        about.push(tokens::of_sku(variant.sku.as_str()));
    }
    Document {
        key: product.slug.to_string(),
        group: product.category.to_string(),
        position: product.position.into(),
        texts: [both(&product.name).join(" "), about.join(" "), both(&product.description).join(" ")],
    }
}

fn change(slug: &ProductSlug, product: Option<&Product>, categories: &[Category]) -> Change {
    match product.filter(|product| product.is_published) {
        Some(product) => Change::Put(document(product, categories)),
        None => Change::Remove(slug.to_string()),
    }
}

fn wanted(word: &Word) -> Wanted {
    let beginning = word.is_beginning.then(|| word.written.clone());
    Wanted { tokens: word.tokens.clone(), beginning }
}

/// What products have in the place of words that none has. Of the nearest words the one is taken
/// that goes best with the others.
fn understand(view: &View, asked: &Asked) -> Result<(Vec<Wanted>, Vec<Understood>), SearchError> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut unknown: Vec<&Word> = Vec::new();
    for word in &asked.words {
        let wanted = wanted(word);
        let may_be_mended = word.is_letters && word.written.chars().count() >= ONE_CHANGE_FROM;
        if may_be_mended && unknown.len() < MENDED_MAX && !view.has(&wanted)? {
            unknown.push(word);
        } else {
            all.push(wanted);
        }
    }
    let mut understood = Vec::new();
    for word in unknown {
        let written = word.written.as_str();
        let mut near = view.near(written, 1, tokens::LETTERS, TRIED_MAX)?;
        if near.is_empty() && written.chars().count() >= TWO_CHANGES_FROM {
            near = view.near(written, 2, tokens::LETTERS, TRIED_MAX)?;
        }
        let Some(taken_as) = goes_best_with(view, &all, near)? else {
            all.push(wanted(word));
            continue;
        };
        all.push(Wanted { tokens: tokens::tokens_of(&taken_as), beginning: None });
        understood.push(Understood { written: written.to_owned(), taken_as });
    }
    Ok((all, understood))
}

/// Of these words, of which the most frequent is first, the one that most products have that have
/// all others too.
fn goes_best_with(view: &View, others: &[Wanted], words: Vec<String>) -> Result<Option<String>, SearchError> {
    if others.is_empty() || words.len() < 2 {
        return Ok(words.into_iter().next());
    }
    // A beginning may be that of many words, and would be looked up for each.
    let mut others: Vec<Wanted> =
        others.iter().filter(|wanted| wanted.beginning.is_none()).cloned().collect();
    let mut best: Option<(usize, String)> = None;
    for word in words {
        others.push(Wanted { tokens: tokens::tokens_of(&word), beginning: None });
        let count = view.count(&others)?;
        others.pop();
        if best.as_ref().is_none_or(|(most, _)| count > *most) {
            best = Some((count, word));
        }
    }
    Ok(best.map(|(_, word)| word))
}

/// What is searched for.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) words: String,
    pub(crate) category: Option<ProductSlug>,
    pub(crate) skip: usize,
    pub(crate) at_most: usize,
}

/// The products of a page, and what was found as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) slugs: Vec<ProductSlug>,
    pub(crate) hits: Hits,
}

impl Answer {
    /// Whether hits follow on this page that can be had.
    pub(crate) fn is_more(&self, until: usize) -> bool {
        until < HITS_MAX && until < usize::try_from(self.hits.total).unwrap_or(usize::MAX)
    }
}

fn answer(view: &View, question: &Question) -> Result<Answer, SearchError> {
    let asked = tokens::of_query(&question.words);
    let (words, understood) = understand(view, &asked)?;
    let found = view.find(&Query {
        words,
        preferred: asked.whole,
        group: question.category.as_ref().map(ProductSlug::to_string),
        skip: question.skip,
        at_most: question.at_most,
    })?;
    let categories: Vec<CategoryHits> = found
        .groups
        .iter()
        .filter_map(|(group, count)| Some(CategoryHits { category: group.parse().ok()?, count: *count }))
        .collect();
    let of =
        |hits: &&CategoryHits| question.category.as_ref().is_none_or(|category| *category == hits.category);
    let total = categories.iter().filter(of).map(|hits| hits.count).sum();
    let slugs = found.keys.iter().filter_map(|key| key.parse().ok()).collect();
    Ok(Answer { slugs, hits: Hits { total, categories, understood } })
}

/// Why a search was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAnswered {
    /// The index is not built yet.
    NotBuilt,
    /// Too many searches wait already.
    Busy,
}

/// How the index stands to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Whether searches use it. If not, they compare texts.
    pub is_built: bool,
    /// Whether another one is being built.
    pub is_building: bool,
    pub documents: u64,
    /// Changes of the catalogue that it has not followed yet.
    pub behind: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

/// The index that searches use, and what it follows.
pub(crate) struct Search {
    sql: Sql,
    clock: Arc<dyn Clock>,
    /// None until it is built for the first time, and while a broken one is replaced.
    index: Mutex<Option<Arc<Index>>>,
    /// Up to which change it is like the database.
    followed: AtomicU64,
    is_building: AtomicBool,
    /// A search has failed: another index takes its place.
    is_broken: AtomicBool,
    broken_at: AtomicU64,
    told: Notify,
    turns: Arc<Semaphore>,
    line: Semaphore,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").finish_non_exhaustive()
    }
}

/// Why the index could not go on.
#[derive(Debug)]
enum Stopped {
    Sql(SqlError),
    /// It is thrown away, and built anew.
    Index(SearchError),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Index(error) => error.fmt(f),
        }
    }
}

impl From<SqlError> for Stopped {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<SearchError> for Stopped {
    fn from(error: SearchError) -> Self {
        Self::Index(error)
    }
}

/// An index that is being built.
struct Building {
    index: Arc<Index>,
    /// The last change before it was begun: what it lacks follows.
    number: u64,
    /// The last product that it has.
    after: Option<ProductSlug>,
}

impl Search {
    pub(crate) fn new(sql: Sql, clock: Arc<dyn Clock>) -> Self {
        Self {
            sql,
            clock,
            index: Mutex::new(None),
            followed: AtomicU64::new(0),
            is_building: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            broken_at: AtomicU64::new(0),
            told: Notify::new(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            line: Semaphore::new(AT_ONCE + LINE_MAX),
        }
    }

    fn current(&self) -> Option<Arc<Index>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, index: Option<Arc<Index>>) {
        let before =
            std::mem::replace(&mut *self.index.lock().unwrap_or_else(PoisonError::into_inner), index);
        // Its threads are waited for, which may take a moment.
        drop(spawn_blocking(move || drop(before)));
    }

    fn is_current(&self, index: &Arc<Index>) -> bool {
        self.current().is_some_and(|current| Arc::ptr_eq(&current, index))
    }

    /// Whether it is not said too often that the index is broken: each time costs a build.
    fn may_break(&self) -> bool {
        let now = self.clock.now();
        let last = self.broken_at.swap(now.0, Relaxed);
        now.since(TimeMs(last)).0 >= BROKEN_EVERY.0
    }

    /// Something has changed.
    pub(crate) fn tell(&self) {
        self.told.notify_one();
    }

    /// A search takes milliseconds of a processor: on a thread of its own, a few at a time.
    pub(crate) async fn ask(&self, question: Question) -> Result<Answer, NotAnswered> {
        let index = self.current().ok_or(NotAnswered::NotBuilt)?;
        let asked = Arc::clone(&index);
        let _place = self.line.try_acquire().map_err(|_| NotAnswered::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| NotAnswered::Busy)?;
        let answered = spawn_blocking(move || {
            // The caller may be gone: the turn ends when the work does.
            let _turn = turn;
            answer(&index.view(), &question)
        });
        let why: Box<dyn fmt::Display + Send> = match answered.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Box::new(error),
            Err(error) => Box::new(error),
        };
        // One that fails by what was asked is answered by the tables; the index, if it is to
        // blame, is built anew, and used until then.
        tracing::error!(%why, "a search has failed");
        if self.is_current(&asked) && self.may_break() {
            self.is_broken.store(true, Relaxed);
            self.tell();
        }
        Err(NotAnswered::NotBuilt)
    }

    /// How the index stands to the database.
    pub(crate) async fn figures(&self) -> Result<Figures, SqlError> {
        let index = self.current();
        let followed = self.followed.load(Relaxed);
        let state = self.sql.primary().read(changes::state).await?;
        let view = index.map(|index| index.view());
        Ok(Figures {
            is_built: view.is_some(),
            is_building: self.is_building.load(Relaxed),
            documents: view.as_ref().map_or(0, View::documents),
            behind: state.number.saturating_sub(followed),
            bytes: view.and_then(|view| view.bytes().ok()).unwrap_or(0),
        })
    }

    /// Follows the database for ever.
    pub(crate) async fn follow(&self) -> Infallible {
        let mut building = None;
        let mut forget_at = TimeMs(0);
        loop {
            let stepped = match self.step(&mut building).await {
                Ok(false) => self.forget(&mut forget_at).await.map(|()| false).map_err(Stopped::Sql),
                stepped => stepped,
            };
            match stepped {
                Ok(true) => {}
                Ok(false) => {
                    if tokio::time::timeout(LOOK_EVERY, self.told.notified()).await.is_ok() {
                        tokio::time::sleep(GATHER_FOR).await;
                    }
                }
                Err(stopped) => {
                    match &stopped {
                        Stopped::Sql(error) if error.passes() => {
                            tracing::warn!(%error, "the search does not follow the catalogue for now");
                        }
                        Stopped::Sql(error) => {
                            tracing::error!(%error, "the search does not follow the catalogue")
                        }
                        Stopped::Index(error) => {
                            tracing::error!(%error, "the search's index is built anew");
                            building = None;
                            self.is_building.store(false, Relaxed);
                            self.replace(None);
                        }
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Reads some products, or some changes, into the index. Returns whether there may be more.
    async fn step(&self, building: &mut Option<Building>) -> Result<bool, Stopped> {
        let state = self.sql.primary().read(changes::state).await?;
        let current = self.current();
        // What was forgotten cannot be followed, nor a database that an older copy was put in the
        // place of. Until the other index is there, this one follows what it can.
        let followed = self.followed.load(Relaxed);
        let is_old = current.is_none()
            || followed < state.forgotten_to
            || followed > state.number
            || self.is_broken.load(Relaxed);
        if is_old && building.is_none() {
            let index = spawn_blocking(|| Index::new(WEIGHTS)).await.map_err(panicked)??;
            self.is_building.store(true, Relaxed);
            self.is_broken.store(false, Relaxed);
            *building = Some(Building { index: Arc::new(index), number: state.number, after: None });
        }
        if let Some(under_way) = building
            && self.build(under_way).await?
        {
            let Building { index, number, .. } = building.take().expect("it was under way");
            let documents = index.view().documents();
            tracing::info!(documents, "the search's index is built");
            self.replace(Some(index));
            self.followed.store(number, Relaxed);
            self.is_building.store(false, Relaxed);
            return Ok(true);
        }
        let has_followed = match current {
            Some(index) => self.read_changes(&index, state).await?,
            None => false,
        };
        Ok(building.is_some() || has_followed)
    }

    /// Reads the next products. Returns whether these were the last.
    async fn build(&self, building: &mut Building) -> Result<bool, Stopped> {
        let after = building.after.clone();
        let (products, categories) = self
            .sql
            .read(move |tx| {
                let products = store::published_after(tx, after.as_ref(), READ_AT_ONCE)?;
                Ok::<_, SqlError>((products, store::categories(tx)?))
            })
            .await?;
        let is_end = products.len() < READ_AT_ONCE;
        building.after = products.last().map(|(slug, _)| slug.clone()).or(building.after.take());
        let index = Arc::clone(&building.index);
        let written = spawn_blocking(move || {
            let readable = products.iter().filter_map(|(_, product)| product.as_ref());
            let put = readable.map(|product| Change::Put(document(product, &categories)));
            index.change(put.collect())?;
            if is_end { index.complete() } else { Ok(()) }
        });
        written.await.map_err(panicked)??;
        Ok(is_end)
    }

    /// Follows some changes. Returns whether there may be more.
    async fn read_changes(&self, index: &Arc<Index>, state: State) -> Result<bool, Stopped> {
        let followed = self.followed.load(Relaxed);
        if followed >= state.number {
            return Ok(false);
        }
        let (changed, categories, state) = self
            .sql
            .primary()
            .read(move |tx| {
                let mut all = Vec::new();
                for (number, slug) in changes::after(tx, followed, READ_AT_ONCE)? {
                    let product = store::find_readable(tx, &slug)?;
                    all.push((number, slug, product));
                }
                Ok::<_, SqlError>((all, store::categories(tx)?, changes::state(tx)?))
            })
            .await?;
        if state.forgotten_to > followed {
            // Meanwhile: what was read may lack some. The next step builds anew.
            return Ok(true);
        }
        // Some numbers have no product: it was changed again.
        let is_end = changed.len() < READ_AT_ONCE;
        let until = changed.last().map(|(number, ..)| *number).filter(|_| !is_end).unwrap_or(state.number);
        let index = Arc::clone(index);
        let written = spawn_blocking(move || {
            if changed.is_empty() {
                return Ok(());
            }
            let each = changed.iter().map(|(_, slug, product)| change(slug, product.as_ref(), &categories));
            index.change(each.collect())?;
            index.commit()
        });
        written.await.map_err(panicked)??;
        self.followed.store(until, Relaxed);
        Ok(!is_end)
    }

    /// Forgets, now and then, changes that everybody has followed.
    async fn forget(&self, at: &mut TimeMs) -> Result<(), SqlError> {
        let now = self.clock.now();
        if now < *at {
            return Ok(());
        }
        *at = now.plus(FORGET_EVERY);
        let before = TimeMs(now.0.saturating_sub(KEPT_FOR.0));
        self.sql.write(move |tx| changes::forget(tx, before)).await
    }
}

fn panicked(error: tokio::task::JoinError) -> Stopped {
    Stopped::Index(SearchError::panicked(&error.to_string()))
}
