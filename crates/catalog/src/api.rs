//! The catalogue over HTTP: products for everybody, and what changes them for operators.

use crate::service::Service;
use axum::extract::{Path, State};
use contracts::store::{Catalog, Category, Listing, Page, Product, ProductQuery, ProductSlug};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use web::{
    api_keys::Role,
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, delete, get, put},
    problem::{CONFLICT, INVALID, NOT_FOUND, Problem, UNAVAILABLE, of_store},
    query::Query,
};

const PRODUCTS: &str = "/api/v1/store/products";
const PRODUCT: &str = "/api/v1/store/products/{product}";
const BODY_BYTES_MAX: usize = 128 << 10;
/// Characters of a search.
const WORDS_MAX: usize = 80;

/// What the handlers use.
pub type Parts = web::parts::Parts<Service>;

/// It was done.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Stored {
    done: bool,
}

const DONE: JsonReply<Stored> = JsonReply(Stored { done: true });

/// Categories, in the order in which shoppers see them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Categories {
    #[schemars(length(max = 200))]
    categories: Vec<Category>,
}

/// Which products.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those of this category.
    #[serde(default)]
    category: Option<ProductSlug>,
    /// Words that each must have in its names, descriptions or SKUs.
    #[serde(default)]
    q: Option<String>,
    /// What the answer before gave as `next`.
    #[serde(default)]
    after: Option<String>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (open, operate) = (Access::Open, Access::Role(Role::Operator));
    vec![
        get(PRODUCTS, "listProducts", open, list)
            .does("Products that are published, in the shop's order.")
            .query::<Wanted>()
            .replies::<Page<Listing>>("A page of them.")
            .problems(&[&INVALID, &UNAVAILABLE]),
        get(PRODUCT, "readProduct", open, read)
            .does("A product that is published, with its variants and prices.")
            .replies::<Product>("The product.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(PRODUCT, "putProduct", operate, store)
            .does("Makes a product, or puts it in the place of the one with its slug. Orders keep what they had.")
            .takes::<Product>()
            .replies::<Stored>("It is stored.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        delete(PRODUCT, "deleteProduct", operate, remove)
            .does("Deletes a product. Orders keep what they had.")
            .replies::<Stored>("It is gone.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/store/categories", "listCategories", open, categories)
            .does("The categories, in the shop's order.")
            .replies::<Categories>("The categories.")
            .problems(&[&UNAVAILABLE]),
        put("/api/v1/store/categories", "putCategories", operate, put_categories)
            .does("Sets these categories, in this order. Others stay, after them.")
            .takes::<Categories>()
            .replies::<Stored>("They are stored.")
            .problems(&[&INVALID, &UNAVAILABLE]),
    ]
}

fn slug_of(text: &str) -> Result<ProductSlug, Problem> {
    text.parse().map_err(|_| unknown(text))
}

fn unknown(slug: &str) -> Problem {
    let shown: String = slug.chars().take(64).collect();
    Problem::new(&NOT_FOUND, format!("no product {shown:?}"))
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { category, q, after, limit }): Query<Wanted>,
) -> Result<JsonReply<Page<Listing>>, Problem> {
    if q.as_ref().is_some_and(|words| words.chars().count() > WORDS_MAX) {
        return Err(Problem::new(&INVALID, format!("q: want {WORDS_MAX} characters at the most")));
    }
    let query = ProductQuery { category, words: q, after, at_most: limit };
    Ok(JsonReply(service.products(query).await.map_err(of_store)?))
}

async fn read(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
) -> Result<JsonReply<Product>, Problem> {
    let found = service.product(slug_of(&product)?).await.map_err(of_store)?;
    Ok(JsonReply(found.ok_or_else(|| unknown(&product))?))
}

async fn store(
    State(Parts { service, .. }): State<Parts>,
    Path(slug): Path<String>,
    JsonBody(product): JsonBody<Product, BODY_BYTES_MAX>,
) -> Result<JsonReply<Stored>, Problem> {
    if slug_of(&slug)? != product.slug {
        return Err(Problem::new(&INVALID, "slug: it is another than the path's"));
    }
    service.put(product).await.map_err(of_store)?;
    Ok(DONE)
}

async fn remove(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
) -> Result<JsonReply<Stored>, Problem> {
    match service.remove(slug_of(&product)?).await.map_err(of_store)? {
        true => Ok(DONE),
        false => Err(unknown(&product)),
    }
}

async fn categories(State(Parts { service, .. }): State<Parts>) -> Result<JsonReply<Categories>, Problem> {
    Ok(JsonReply(Categories { categories: service.categories().await.map_err(of_store)? }))
}

async fn put_categories(
    State(Parts { service, .. }): State<Parts>,
    JsonBody(Categories { categories }): JsonBody<Categories, BODY_BYTES_MAX>,
) -> Result<JsonReply<Stored>, Problem> {
    service.put_categories(categories).await.map_err(of_store)?;
    Ok(DONE)
}
