//! The catalogue: what is for sale, in two languages.

use super::{Asked, Sku};
use crate::{IdError, ItemId, SaleId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use units::Money;

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Localized {
    pub en: String,
    pub zh: String,
}

/// A product's name in URLs: 1 to 64 of a-z, 0-9 and -, not beginning with -.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = "^[a-z0-9][a-z0-9-]{0,63}$"))]
pub struct ProductSlug(String);

impl ProductSlug {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProductSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProductSlug {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(is_allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::Form { what: "slug", want: "1 to 64 of a-z, 0-9 and -" }),
        }
    }
}

impl TryFrom<String> for ProductSlug {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ProductSlug> for String {
    fn from(slug: ProductSlug) -> String {
        slug.0
    }
}

/// A group of products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    pub slug: ProductSlug,
    pub name: Localized,
}

/// A picture of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Where the shop's listener has it: a path on it.
    pub path: String,
    /// In CSS pixels.
    pub width: u32,
    pub height: u32,
    pub alt: Localized,
    /// The same picture in several sizes, the smallest first, of which a browser takes one. None
    /// if it has one size, or any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub sizes: Vec<PictureSize>,
}

/// A size of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PictureSize {
    pub path: String,
    /// In pixels.
    pub width: u32,
}

/// What can be bought of a product: one stock-keeping unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub sku: Sku,
    /// What distinguishes it from the product's other variants, such as its colour; empty if it is
    /// the only one.
    pub name: Localized,
    pub price: Money,
    /// The sales in which it is sold, instead of by the cart; of those it is shown with the first.
    pub offered_in: Vec<OfferedIn>,
}

/// A sale in which a variant is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferedIn {
    pub sale: SaleId,
    pub item: ItemId,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Product {
    pub slug: ProductSlug,
    pub name: Localized,
    /// Plain text; an empty line begins a paragraph.
    pub description: Localized,
    /// The slug of its category.
    pub category: ProductSlug,
    /// At least one, 100 at the most.
    pub variants: Vec<Variant>,
    pub pictures: Vec<Picture>,
    /// Lists begin with the lowest; products of the same position are in the order of their slugs.
    pub position: u32,
    /// Only a product that is published is shown to shoppers.
    pub is_published: bool,
}

/// A product in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listing {
    pub slug: ProductSlug,
    pub name: Localized,
    /// The lowest of its variants'.
    pub price: Money,
    pub picture: Option<Picture>,
    /// The first of its variants'.
    pub offered_in: Option<OfferedIn>,
}

/// A variant that is published, with what a cart shows of its product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForSale {
    pub product: ProductSlug,
    pub name: Localized,
    pub picture: Option<Picture>,
    pub variant: Variant,
}

/// Which products are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductQuery {
    pub category: Option<ProductSlug>,
    /// Words, in any of the two languages: the best hits come first. Without any, products come in
    /// the shop's order.
    pub words: Option<String>,
    /// What the page before gave as [`Listings::next`].
    pub after: Option<String>,
    /// 1 to 100.
    pub at_most: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// What asks for the next page; none if this is the last.
    pub next: Option<String>,
}

/// Products that were asked for, a page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listings {
    pub rows: Vec<Listing>,
    /// What asks for the next page; none if this is the last.
    pub next: Option<String>,
    /// What was found as a whole, if words were asked for. It is missing for a moment after a
    /// start, while searches compare texts because the index is not built yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<Hits>,
}

/// What a search has found as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hits {
    /// Products, of the category that was asked for; the first thousand can be had.
    pub total: u64,
    /// How many each category has, also those that were not asked for, in the order of their slugs.
    pub categories: Vec<CategoryHits>,
    /// Words that no product has, and which words were searched for in their place.
    pub understood: Vec<Understood>,
}

/// How many products of a category were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CategoryHits {
    pub category: ProductSlug,
    pub count: u64,
}

/// A word that was taken for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Understood {
    pub written: String,
    pub taken_as: String,
}

/// The port of the context `catalog`, for shoppers: it says nothing of what is not published.
pub trait Catalog: Send + Sync {
    fn categories(&self) -> Asked<'_, Vec<Category>>;

    fn products(&self, query: ProductQuery) -> Asked<'_, Listings>;

    fn product(&self, slug: ProductSlug) -> Asked<'_, Option<Product>>;

    /// The variants of these units, in the order in which they were asked for, without those that
    /// are unknown or not published. [`CART_LINES_MAX`](super::CART_LINES_MAX) at the most.
    fn for_sale(&self, skus: Vec<Sku>) -> Asked<'_, Vec<ForSale>>;

    /// The products of a sale, also those that are not published.
    fn of_sale(&self, sale: SaleId) -> Asked<'_, Vec<Product>>;
}
