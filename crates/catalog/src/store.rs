//! Products in tables: what is read and written within one transaction. A product is stored as its
//! JSON document, beside columns that it is found by.

use crate::{
    changes,
    events::{self, OfCategory, OfProduct},
    picture_rows,
};
use contracts::{
    SaleId,
    store::{Category, ForSale, Listing, Localized, OfferedIn, Product, ProductSlug, Sku},
};
use engines::{
    params, sql,
    sql::{Migration, Param, Row, SqlError, Tx, unexpected},
};
use std::{fmt, str::FromStr};
use units::TimeMs;

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "categories, products, stock-keeping units, sales' items and pictures",
        statements: FIRST,
    },
    Migration { name: "changes of products", statements: changes::TABLES },
    Migration { name: "which product shows which picture", statements: picture_rows::TABLES },
    Migration { name: "what operators change", statements: sql::trail::TABLES },
    Migration { name: "what tells this catalogue from others", statements: IDENTITY },
    Migration { name: "the outbox", statements: &[sql::outbox::TABLE] },
];

const FIRST: &[&str] = &[
    "CREATE TABLE categories (
        slug VARCHAR(64) PRIMARY KEY, position BIGINT NOT NULL,
        name_en VARCHAR(120) NOT NULL, name_zh VARCHAR(120) NOT NULL)",
    "CREATE TABLE products (
        slug VARCHAR(64) PRIMARY KEY, category VARCHAR(64) NOT NULL, position BIGINT NOT NULL,
        is_published BIGINT NOT NULL, changed_at BIGINT NOT NULL, words MEDIUMTEXT NOT NULL, document MEDIUMTEXT NOT NULL)",
    "CREATE INDEX products_by_position ON products (position, slug)",
    "CREATE INDEX products_by_category ON products (category, position, slug)",
    "CREATE TABLE skus (sku VARCHAR(64) PRIMARY KEY, product VARCHAR(64) NOT NULL)",
    "CREATE INDEX skus_of_products ON skus (product)",
    "CREATE TABLE sale_items (
        sale VARCHAR(40) NOT NULL, product VARCHAR(64) NOT NULL, PRIMARY KEY (sale, product))",
    "CREATE TABLE pictures (
        name VARCHAR(100) PRIMARY KEY, media_type VARCHAR(40) NOT NULL, bytes MEDIUMBLOB NOT NULL)",
];

const IDENTITY: &[&str] =
    &["CREATE TABLE catalog_identity (id BIGINT PRIMARY KEY, name VARCHAR(32) NOT NULL)"];

/// What tells this catalogue from all others: a random name that it is given once.
pub(crate) fn identity(tx: &mut Tx<'_>) -> Result<String, SqlError> {
    let name = web::secret::random_bytes::<16>()
        .map_err(|error| SqlError::Shortage(format!("random bytes: {error}")))?;
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    tx.insert_new("INSERT INTO catalog_identity (id, name) VALUES (1, ?)", params![&name])?;
    let found = tx.query_first("SELECT name FROM catalog_identity WHERE id = 1", &[], |row| row.text(0))?;
    found.ok_or_else(|| SqlError::Schema("the row of catalog_identity is missing".into()))
}

/// Categories, at the most.
pub(crate) const CATEGORIES_MAX: usize = 200;
/// Products of one sale, at the most.
const SALE_MAX: usize = 200;

pub(crate) fn put_category(
    tx: &mut Tx<'_>,
    at: TimeMs,
    position: usize,
    category: &Category,
) -> Result<(), SqlError> {
    let (slug, Localized { en, zh }) = (category.slug.as_str(), &category.name);
    let same = "SELECT slug FROM categories WHERE slug = ? AND position = ? AND name_en = ? AND name_zh = ?";
    if tx.query_first(same, params![slug, position, en, zh], |row| row.text(0))?.is_some() {
        return Ok(());
    }
    tx.execute("DELETE FROM categories WHERE slug = ?", params![slug])?;
    tx.execute(
        "INSERT INTO categories (slug, position, name_en, name_zh) VALUES (?, ?, ?, ?)",
        params![slug, position, en, zh],
    )?;
    events::of_category(tx, at, &category.slug, OfCategory::Changed)
}

pub(crate) fn has_products(tx: &mut Tx<'_>, category: &ProductSlug) -> Result<bool, SqlError> {
    let text = "SELECT slug FROM products WHERE category = ? LIMIT 1";
    Ok(tx.query_first(text, params![category.as_str()], |row| row.text(0))?.is_some())
}

pub(crate) fn remove_category(tx: &mut Tx<'_>, at: TimeMs, slug: &ProductSlug) -> Result<(), SqlError> {
    match tx.execute("DELETE FROM categories WHERE slug = ?", params![slug.as_str()])? {
        0 => Ok(()),
        _ => events::of_category(tx, at, slug, OfCategory::Removed),
    }
}

pub(crate) fn categories(tx: &mut Tx<'_>) -> Result<Vec<Category>, SqlError> {
    let text = "SELECT slug, name_en, name_zh FROM categories ORDER BY position, slug LIMIT ?";
    tx.query(text, params![CATEGORIES_MAX], |row| {
        Ok(Category {
            slug: row.parsed(0, "a slug")?,
            name: Localized { en: row.text(1)?, zh: row.text(2)? },
        })
    })
}

/// Why a product is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutError {
    Sql(SqlError),
    /// There is no such category.
    Category,
    /// Another product has this unit.
    Sku {
        sku: String,
        product: String,
    },
    /// There is no such picture.
    Picture(String),
}

impl From<SqlError> for PutError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

/// Stores a product, in place of the one with its slug if there is one.
pub(crate) fn put(tx: &mut Tx<'_>, at: TimeMs, product: &Product) -> Result<(), PutError> {
    let (slug, category) = (product.slug.as_str(), product.category.as_str());
    let known = "SELECT slug FROM categories WHERE slug = ?";
    if tx.query_first(known, params![category], |row| row.text(0))?.is_none() {
        return Err(PutError::Category);
    }
    let before = "SELECT is_published, document FROM products WHERE slug = ?";
    let before = tx.query_first(before, params![slug], |row| Ok((row.count(0)? != 0, row.text(1)?)))?;
    clear(tx, at, &product.slug)?;
    if let Some(name) = picture_rows::note_uses(tx, product)? {
        return Err(PutError::Picture(name));
    }
    for variant in &product.variants {
        let text = "INSERT INTO skus (sku, product) VALUES (?, ?)";
        if !tx.insert_new(text, params![variant.sku.as_str(), slug])? {
            let owner = "SELECT product FROM skus WHERE sku = ?";
            let owner = tx.query_first(owner, params![variant.sku.as_str()], |row| row.text(0))?;
            let (sku, product) = (variant.sku.to_string(), owner.unwrap_or_default());
            return Err(PutError::Sku { sku, product });
        }
        for OfferedIn { sale, .. } in &variant.offered_in {
            let text = "INSERT INTO sale_items (sale, product) VALUES (?, ?)";
            tx.insert_new(text, params![sale.as_str(), slug])?;
        }
    }
    let document = serde_json::to_string(product)
        .map_err(|error| SqlError::Defect(format!("product {slug}: {error}")))?;
    tx.execute(
        "INSERT INTO products (slug, category, position, is_published, changed_at, words, document) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![slug, category, product.position, product.is_published, at.0, &words_of(product), &document],
    )?;
    changes::note(tx, at, &product.slug)?;
    let (was_published, before) = before.unzip();
    let is_same = before.as_ref() == Some(&document);
    if let Some(what) = OfProduct::of(was_published, product.is_published, is_same) {
        events::of_product(tx, at, &product.slug, what, product.is_published)?;
    }
    Ok(())
}

/// Returns whether it was there.
pub(crate) fn remove(tx: &mut Tx<'_>, at: TimeMs, slug: &ProductSlug) -> Result<bool, SqlError> {
    let was_there = clear(tx, at, slug)?;
    if was_there {
        changes::note(tx, at, slug)?;
        events::of_product(tx, at, slug, OfProduct::Removed, false)?;
    }
    Ok(was_there)
}

fn clear(tx: &mut Tx<'_>, at: TimeMs, slug: &ProductSlug) -> Result<bool, SqlError> {
    let key = params![slug.as_str()];
    picture_rows::forget_uses(tx, at, slug)?;
    tx.execute("DELETE FROM skus WHERE product = ?", key)?;
    tx.execute("DELETE FROM sale_items WHERE product = ?", key)?;
    Ok(tx.execute("DELETE FROM products WHERE slug = ?", key)? > 0)
}

/// What a product is found by: its names and description, in lower case.
fn words_of(product: &Product) -> String {
    let Product { name, description, .. } = product;
    let skus = product.variants.iter().map(|variant| variant.sku.as_str());
    let all = [&*name.en, &*name.zh, &*description.en, &*description.zh].into_iter().chain(skus);
    all.collect::<Vec<_>>().join("\n").to_lowercase()
}

fn document(row: &Row<'_>) -> Result<Product, SqlError> {
    serde_json::from_str(&row.text(0)?).map_err(|_| unexpected(0, "a product's document"))
}

const FIND: &str = "SELECT document FROM products WHERE slug = ?";

pub(crate) fn find(tx: &mut Tx<'_>, slug: &ProductSlug) -> Result<Option<Product>, SqlError> {
    tx.query_first(FIND, params![slug.as_str()], document)
}

/// The same, which no other transaction changes before this one has ended.
pub(crate) fn find_locked(tx: &mut Tx<'_>, slug: &ProductSlug) -> Result<Option<Product>, SqlError> {
    Ok(tx.query_locked(FIND, params![slug.as_str()], document)?.into_iter().next())
}

/// A unit of this product that another one has, and which.
pub(crate) fn taken_unit(tx: &mut Tx<'_>, product: &Product) -> Result<Option<(String, String)>, SqlError> {
    for variant in &product.variants {
        let text = "SELECT product FROM skus WHERE sku = ?";
        let owner = tx.query_first(text, params![variant.sku.as_str()], |row| row.text(0))?;
        if let Some(owner) = owner.filter(|owner| owner != product.slug.as_str()) {
            return Ok(Some((variant.sku.to_string(), owner)));
        }
    }
    Ok(None)
}

/// The variant of a unit, if it is published.
pub(crate) fn for_sale(tx: &mut Tx<'_>, sku: &Sku) -> Result<Option<ForSale>, SqlError> {
    let text = "SELECT p.document FROM skus s JOIN products p ON p.slug = s.product \
                WHERE s.sku = ? AND p.is_published = 1";
    let Some(found) = tx.query_first(text, params![sku.as_str()], document)? else { return Ok(None) };
    let Product { slug, name, pictures, variants, .. } = found;
    let variant = variants.into_iter().find(|variant| variant.sku == *sku);
    let picture = pictures.into_iter().next();
    Ok(variant.map(|variant| ForSale { product: slug, name, picture, variant }))
}

pub(crate) fn of_sale(tx: &mut Tx<'_>, sale: &SaleId) -> Result<Vec<Product>, SqlError> {
    tx.query(
        "SELECT p.document FROM sale_items s JOIN products p ON p.slug = s.product WHERE s.sale = ? \
         ORDER BY p.position, p.slug LIMIT ?",
        params![sale.as_str(), SALE_MAX],
        document,
    )
}

/// A product's place in lists: `12.phone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) position: u32,
    pub(crate) slug: ProductSlug,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.slug)
    }
}

impl FromStr for Position {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('.').and_then(|(position, slug)| {
            Some(Self { position: position.parse().ok()?, slug: slug.parse().ok()? })
        });
        parts.ok_or("want what the page before gave")
    }
}

/// A product, if it is published.
pub(crate) fn published(tx: &mut Tx<'_>, slug: &ProductSlug) -> Result<Option<Product>, SqlError> {
    let text = "SELECT document FROM products WHERE slug = ? AND is_published = 1";
    tx.query_first(text, params![slug.as_str()], document)
}

/// Products that are published, in the order of their slugs, after this one.
pub(crate) fn published_after(
    tx: &mut Tx<'_>,
    slug: Option<&ProductSlug>,
    at_most: usize,
) -> Result<Vec<(ProductSlug, Option<Product>)>, SqlError> {
    let text =
        "SELECT slug, document FROM products WHERE slug > ? AND is_published = 1 ORDER BY slug LIMIT ?";
    tx.query(text, params![slug.map_or("", ProductSlug::as_str), at_most], |row| {
        let slug: ProductSlug = row.parsed(0, "a slug")?;
        Ok((slug.clone(), readable(&slug, &row.text(1)?)))
    })
}

/// The product, unless its document is none that this version can read: that one is in the log, and
/// keeps no other from being found.
fn readable(slug: &ProductSlug, document: &str) -> Option<Product> {
    let read = serde_json::from_str(document);
    read.inspect_err(|error| tracing::error!(%slug, %error, "catalogue: a product's document cannot be read"))
        .ok()
}

/// The same, of one product.
pub(crate) fn find_readable(tx: &mut Tx<'_>, slug: &ProductSlug) -> Result<Option<Product>, SqlError> {
    let found = tx.query_first(FIND, params![slug.as_str()], |row| row.text(0))?;
    Ok(found.and_then(|document| readable(slug, &document)))
}

/// Which products are listed.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) category: Option<ProductSlug>,
    /// In lower case; each must be found.
    pub(crate) words: Vec<String>,
    pub(crate) after: Option<Position>,
    pub(crate) only_published: bool,
    /// So many of them are left out first.
    pub(crate) skip: usize,
    pub(crate) at_most: usize,
}

/// In the order of their places.
pub(crate) fn list(tx: &mut Tx<'_>, filter: &Filter) -> Result<Vec<Product>, SqlError> {
    let mut text =
        "SELECT document FROM products WHERE (position > ? OR (position = ? AND slug > ?))".to_owned();
    let after = filter.after.as_ref();
    let (position, slug) = after.map_or((0, ""), |after| (after.position, after.slug.as_str()));
    let mut params = vec![Param::from(position), Param::from(position), Param::Text(slug)];
    if filter.only_published {
        text += " AND is_published = 1";
    }
    if let Some(category) = &filter.category {
        text += " AND category = ?";
        params.push(Param::Text(category.as_str()));
    }
    let patterns: Vec<String> = filter.words.iter().map(|word| like(word)).collect();
    for pattern in &patterns {
        text += " AND words LIKE ? ESCAPE '!'";
        params.push(Param::Text(pattern));
    }
    text += " ORDER BY position, slug LIMIT ? OFFSET ?";
    params.extend([Param::from(filter.at_most), Param::from(filter.skip)]);
    tx.query(&text, &params, document)
}

fn like(word: &str) -> String {
    let mut pattern = String::from("%");
    for character in word.chars() {
        if ['%', '_', '!'].contains(&character) {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// A product as a list has it.
pub(crate) fn listing(product: Product) -> Option<Listing> {
    let price =
        product.variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount_minor)?;
    let offered_in = product.variants.iter().find_map(|variant| variant.offered_in.first().cloned());
    let Product { slug, name, pictures, .. } = product;
    Some(Listing { slug, name, price, picture: pictures.into_iter().next(), offered_in })
}
