//! What changes in the catalogue, for others: events of the topic `store-catalog`, written in the
//! transaction of the change, one for each product or category that is another one than before.
//! They say what has changed, not what it is now: that is read from the catalogue.

use contracts::store::ProductSlug;
use engines::sql::{SqlError, Tx, outbox};
use serde_json::{Value, json};
use units::TimeMs;

/// What has become of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfProduct {
    /// Shoppers see it now, and did not before.
    Published,
    /// Shoppers do not see it any more.
    Unpublished,
    /// It is another one than before, or a new one that shoppers do not see.
    Changed,
    Removed,
}

impl OfProduct {
    /// `None`: it is as it was. `before` says whether it was published, if there was one.
    pub(crate) fn of(before: Option<bool>, is_published: bool, is_same: bool) -> Option<Self> {
        match (before.unwrap_or(false), is_published) {
            (false, true) => Some(Self::Published),
            (true, false) => Some(Self::Unpublished),
            (true, true) | (false, false) => (!is_same).then_some(Self::Changed),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unpublished => "unpublished",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What has become of a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfCategory {
    /// It is new, or has another name or place.
    Changed,
    Removed,
}

fn put(
    tx: &mut Tx<'_>,
    at: TimeMs,
    (kind, what): (&str, &str),
    slug: &ProductSlug,
    data: &Value,
) -> Result<(), SqlError> {
    let id = web::secret::random_bytes::<16>();
    let id = id.map_err(|error| SqlError::Shortage(format!("random bytes: {error}")))?;
    let event = json!({
        "specversion": "1.0",
        "id": format!("{:032x}", u128::from_be_bytes(id)),
        "source": "/catalog",
        "type": format!("floodgate.{kind}.{what}"),
        // A product may have the slug of a category.
        "subject": format!("{kind}/{slug}"),
        "time": at,
        "datacontenttype": "application/json",
        "data": data,
    });
    outbox::put(tx, &event.to_string())
}

/// Puts an event of a product into the outbox.
pub(crate) fn of_product(
    tx: &mut Tx<'_>,
    at: TimeMs,
    product: &ProductSlug,
    what: OfProduct,
    is_published: bool,
) -> Result<(), SqlError> {
    let data = json!({ "product": product, "is_published": is_published });
    put(tx, at, ("product", what.as_str()), product, &data)
}

/// Puts an event of a category into the outbox.
pub(crate) fn of_category(
    tx: &mut Tx<'_>,
    at: TimeMs,
    category: &ProductSlug,
    what: OfCategory,
) -> Result<(), SqlError> {
    let name = match what {
        OfCategory::Changed => "changed",
        OfCategory::Removed => "removed",
    };
    put(tx, at, ("category", name), category, &json!({ "category": category }))
}
