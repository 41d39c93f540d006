//! Pictures in tables, and which product shows which. What no product shows any more is swept, a
//! day later, because pages and carts that were loaded before may still ask for it.

use crate::pictures::Rendition;
use contracts::store::{Product, ProductSlug};
use engines::{
    params,
    sql::{SqlError, Tx},
};
use units::{DurationMs, TimeMs};

/// How long a picture stays that no product shows.
pub(crate) const KEPT: DurationMs = DurationMs(24 * 3600 * 1000);
/// Pictures that one transaction sweeps: it reads none of them.
const SWEPT_AT_ONCE: usize = 10;
/// Bytes of a picture's name, as the tables have it.
const NAME_BYTES_MAX: usize = 100;
/// Products that one transaction notes.
const NOTED_AT_ONCE: usize = 100;
/// What `catalog_steps` says once the pictures of all products are noted.
const USES_NOTED: &str = "picture_uses";

pub(crate) const TABLES: &[&str] = &[
    "ALTER TABLE pictures ADD COLUMN unused_since BIGINT",
    "CREATE TABLE picture_uses (
        product VARCHAR(64) NOT NULL, name VARCHAR(100) NOT NULL, PRIMARY KEY (product, name))",
    "CREATE INDEX picture_uses_by_name ON picture_uses (name)",
    "CREATE INDEX pictures_unused ON pictures (unused_since)",
    // What is done once after an update, by its name.
    "CREATE TABLE catalog_steps (step VARCHAR(40) PRIMARY KEY)",
];

/// The names in a product's pictures.
fn names(product: &Product) -> impl Iterator<Item = &str> {
    let paths = product.pictures.iter().flat_map(|picture| {
        std::iter::once(&picture.path).chain(picture.sizes.iter().map(|size| &size.path))
    });
    paths.map(|path| path.strip_prefix("/media/").unwrap_or(path))
}

/// Notes what a product shows. Returns the name of one that is not there.
pub(crate) fn note_uses(tx: &mut Tx<'_>, product: &Product) -> Result<Option<String>, SqlError> {
    for name in names(product) {
        let known = "SELECT name FROM pictures WHERE name = ?";
        if tx.query_first(known, params![name], |row| row.text(0))?.is_none() {
            return Ok(Some(name.to_owned()));
        }
        let text = "INSERT INTO picture_uses (product, name) VALUES (?, ?)";
        tx.insert_new(text, params![product.slug.as_str(), name])?;
        tx.execute("UPDATE pictures SET unused_since = NULL WHERE name = ?", params![name])?;
    }
    Ok(None)
}

/// Notes that this product shows none any more.
pub(crate) fn forget_uses(tx: &mut Tx<'_>, at: TimeMs, product: &ProductSlug) -> Result<(), SqlError> {
    let text = "SELECT name FROM picture_uses WHERE product = ?";
    let names = tx.query(text, params![product.as_str()], |row| row.text(0))?;
    tx.execute("DELETE FROM picture_uses WHERE product = ?", params![product.as_str()])?;
    for name in &names {
        let text = "UPDATE pictures SET unused_since = ? WHERE name = ?";
        tx.execute(text, params![at.0, name])?;
    }
    Ok(())
}

/// Stores the sizes of a picture; what is there already stays.
pub(crate) fn put(tx: &mut Tx<'_>, at: TimeMs, sizes: &[Rendition]) -> Result<(), SqlError> {
    for Rendition { name, media_type, bytes, .. } in sizes {
        put_one(tx, at, name, media_type, bytes)?;
    }
    Ok(())
}

/// The same, of one. It is swept unless a product shows it within a day.
pub(crate) fn put_one(
    tx: &mut Tx<'_>,
    at: TimeMs,
    name: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<(), SqlError> {
    let text = "INSERT INTO pictures (name, media_type, bytes, unused_since) VALUES (?, ?, ?, ?)";
    if !tx.insert_new(text, params![name, media_type, bytes, at.0])? {
        let text = "UPDATE pictures SET unused_since = ? WHERE name = ? AND unused_since IS NOT NULL";
        tx.execute(text, params![at.0, name])?;
    }
    Ok(())
}

/// Its type and its bytes.
pub(crate) fn find(tx: &mut Tx<'_>, name: &str) -> Result<Option<(String, Vec<u8>)>, SqlError> {
    let text = "SELECT media_type, bytes FROM pictures WHERE name = ?";
    tx.query_first(text, params![name], |row| Ok((row.text(0)?, row.bytes(1)?)))
}

/// Deletes some that no product has shown since then. Returns how many.
pub(crate) fn sweep(tx: &mut Tx<'_>, before: TimeMs) -> Result<usize, SqlError> {
    let text = "SELECT p.name FROM pictures p WHERE p.unused_since < ? \
                AND NOT EXISTS (SELECT 1 FROM picture_uses u WHERE u.name = p.name) LIMIT ?";
    let unused = tx.query(text, params![before.0, SWEPT_AT_ONCE], |row| row.text(0))?;
    for name in &unused {
        tx.execute("DELETE FROM pictures WHERE name = ?", params![name])?;
    }
    Ok(unused.len())
}

/// Whether the products of a version that did not note their pictures have been noted.
pub(crate) fn are_uses_noted(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    let text = "SELECT step FROM catalog_steps WHERE step = ?";
    Ok(tx.query_first(text, params![USES_NOTED], |row| row.text(0))?.is_some())
}

/// Notes the pictures of some products after this one. Returns the last of them; none when all are
/// noted, which is noted too.
pub(crate) fn note_old(tx: &mut Tx<'_>, after: &str) -> Result<Option<String>, SqlError> {
    let text = "SELECT slug, document FROM products WHERE slug > ? ORDER BY slug LIMIT ?";
    let some = tx.query(text, params![after, NOTED_AT_ONCE], |row| Ok((row.text(0)?, row.text(1)?)))?;
    for (_, document) in &some {
        // A document that cannot be read shows nothing to shoppers.
        let Ok(product) = serde_json::from_str::<Product>(document) else { continue };
        // A longer one is none of ours.
        for name in names(&product).filter(|name| name.len() <= NAME_BYTES_MAX) {
            let text = "INSERT INTO picture_uses (product, name) VALUES (?, ?)";
            tx.insert_new(text, params![product.slug.as_str(), name])?;
        }
    }
    let last = some.into_iter().next_back().map(|(slug, _)| slug);
    if last.is_none() {
        tx.insert_new("INSERT INTO catalog_steps (step) VALUES (?)", params![USES_NOTED])?;
    }
    Ok(last)
}
