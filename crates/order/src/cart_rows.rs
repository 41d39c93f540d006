//! Carts in tables: a row for each line, by its owner and its SKU.

use crate::directory::{self, Wants};
use contracts::store::{Bucket, CART_LINES_MAX, CartOwner, GuestCart, LINE_QUANTITY_MAX, Quantity, Sku};
use engines::{
    params,
    sql::{Row, SqlError, Tx},
};
use units::TimeMs;

/// The name under which a cart is kept, which is in the same bucket as the shopper's orders. A
/// guest's secret is not stored, only a hash of it.
pub(crate) fn owner_name(owner: &CartOwner) -> String {
    match owner {
        CartOwner::Account(account) => account.to_string(),
        CartOwner::Guest(secret) => guest_name(secret),
    }
}

pub(crate) fn guest_name(secret: &GuestCart) -> String {
    format!("guest-{}", &blake3::hash(secret.as_str().as_bytes()).to_hex()[..40])
}

const LINES: &str = "SELECT sku, quantity FROM cart_lines WHERE owner = ? ORDER BY added_at, sku LIMIT ?";

fn line(row: &Row<'_>) -> Result<(Sku, u32), SqlError> {
    Ok((row.parsed(0, "a sku")?, u32::try_from(row.count(1)?).unwrap_or(LINE_QUANTITY_MAX)))
}

/// The lines, in the order in which they came.
pub(crate) fn lines(tx: &mut Tx<'_>, owner: &str) -> Result<Vec<(Sku, u32)>, SqlError> {
    tx.query(LINES, params![owner, CART_LINES_MAX], line)
}

/// The same, which no other transaction changes before this one has ended.
pub(crate) fn locked_lines(tx: &mut Tx<'_>, owner: &str) -> Result<Vec<(Sku, u32)>, SqlError> {
    tx.query_locked(LINES, params![owner, CART_LINES_MAX], line)
}

/// Why a line was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeError {
    Sql(SqlError),
    /// The line, or the cart, would have more than it can.
    TooMuch(String),
}

impl From<SqlError> for ChangeError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

/// Changes a line.
pub(crate) fn change(
    tx: &mut Tx<'_>,
    at: TimeMs,
    owner: &str,
    sku: &Sku,
    quantity: Quantity,
) -> Result<(), ChangeError> {
    let lines = locked_lines(tx, owner)?;
    let found = lines.iter().find(|(of, _)| of == sku).map(|(_, quantity)| *quantity);
    let wanted = match quantity {
        Quantity::Set(quantity) => quantity,
        Quantity::Add(more) => found.unwrap_or(0).saturating_add(more),
    };
    if wanted > LINE_QUANTITY_MAX {
        return Err(ChangeError::TooMuch(format!("quantity: want {LINE_QUANTITY_MAX} at the most")));
    }
    let key = params![owner, sku.as_str()];
    match (found, wanted) {
        (None, 0) => {}
        (Some(_), 0) => drop(tx.execute("DELETE FROM cart_lines WHERE owner = ? AND sku = ?", key)?),
        (Some(_), wanted) => {
            let text = "UPDATE cart_lines SET quantity = ?, changed_at = ? WHERE owner = ? AND sku = ?";
            tx.execute(text, params![wanted, at.0, owner, sku.as_str()])?;
        }
        (None, _) if lines.len() >= CART_LINES_MAX => {
            let why = format!("the cart has {CART_LINES_MAX} different products: take one out first");
            return Err(ChangeError::TooMuch(why));
        }
        (None, wanted) => {
            let text = "INSERT INTO cart_lines (owner, sku, quantity, added_at, changed_at, bucket) \
                        VALUES (?, ?, ?, ?, ?, ?)";
            let bucket = Bucket::of_shopper(owner).number();
            tx.execute(text, params![owner, sku.as_str(), wanted, at.0, at.0, bucket])?;
        }
    }
    Ok(())
}

/// Takes units out of a cart, as many as there are: they have become an order.
pub(crate) fn take(tx: &mut Tx<'_>, owner: &str, sku: &Sku, quantity: u32) -> Result<(), SqlError> {
    let key = params![owner, sku.as_str(), quantity];
    tx.execute("DELETE FROM cart_lines WHERE owner = ? AND sku = ? AND quantity <= ?", key)?;
    let text = "UPDATE cart_lines SET quantity = quantity - ? WHERE owner = ? AND sku = ?";
    tx.execute(text, params![quantity, owner, sku.as_str()])?;
    Ok(())
}

/// Takes all out.
pub(crate) fn empty(tx: &mut Tx<'_>, owner: &str) -> Result<(), SqlError> {
    tx.execute("DELETE FROM cart_lines WHERE owner = ?", params![owner]).map(drop)
}

/// Whether there are lines that were changed last before this.
pub(crate) fn any_before(tx: &mut Tx<'_>, before: TimeMs) -> Result<bool, SqlError> {
    let text = "SELECT owner FROM cart_lines WHERE changed_at < ? LIMIT 1";
    Ok(tx.query_first(text, params![before.0], |row| row.text(0))?.is_some())
}

/// Lets lines go that were changed last before `before`, some at the most. Returns how many.
pub(crate) fn forget(tx: &mut Tx<'_>, before: TimeMs, at_most: usize) -> Result<usize, SqlError> {
    let text = "SELECT owner, sku FROM cart_lines WHERE changed_at < ? LIMIT ?";
    let old = tx.query(text, params![before.0, at_most], |row| Ok((row.text(0)?, row.text(1)?)))?;
    let mut count = 0;
    for (owner, sku) in &old {
        // Of a bucket that is being moved it goes later.
        if directory::is_here(tx, Bucket::of_shopper(owner), Wants::Change)? {
            tx.execute("DELETE FROM cart_lines WHERE owner = ? AND sku = ?", params![owner, sku])?;
            count += 1;
        }
    }
    Ok(count)
}
