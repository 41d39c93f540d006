//! The catalogue over HTTP: products for everybody, and what changes them for operators.

use crate::{
    search::Figures,
    service::{ImportError, Service},
    sheet,
};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use contracts::store::{Catalog, Category, Listings, Product, ProductQuery, ProductSlug, StoreError};
use futures_util::StreamExt;
use http::header;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use web::{
    api_keys::Role,
    body::want_media_type,
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, delete, get, post, put},
    problem::{
        BODY_TIMEOUT, BODY_TOO_LARGE, CONFLICT, INVALID, MEDIA_TYPE, NOT_FOUND, Problem, UNAVAILABLE,
        of_store,
    },
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
    /// Words that each must have in its names, descriptions, category, variants or SKUs. 80
    /// characters at the most.
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

/// How the search's index stands to the catalogue.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct SearchFigures {
    /// Whether searches use it. Until then they compare texts.
    is_built: bool,
    /// Whether another one is being built.
    is_building: bool,
    /// Products in it.
    documents: u64,
    /// Changes that it does not have yet.
    behind: u64,
    /// Its memory.
    bytes: u64,
}

/// A sheet was taken.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Imported {
    /// Products.
    stored: usize,
}

/// Bytes of a sheet.
const SHEET_BYTES_MAX: usize = 8 << 20;

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (open, operate) = (Access::Open, Access::Role(Role::Operator));
    let read_only = Access::Role(Role::ReadOnly);
    vec![
        get(PRODUCTS, "listProducts", open, list)
            .does(
                "Products that are published, in the shop's order, or those that have all words of `q`, the best first: a name \
                 weighs the most, then a category, a variant or a SKU, then a description. The last word may be the beginning of one; \
                 a word that no product has is taken for one that looks like it, which `hits.understood` says. The first thousand \
                 hits can be had.",
            )
            .query::<Wanted>()
            .replies::<Listings>("A page of them.")
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
        get("/api/v1/store/product-sheet", "exportProducts", read_only, export)
            .does("All products as comma-separated values, also those that are not published: a row for each variant.")
            .replies_as::<String>("text/csv", "The sheet.")
            .problems(&[&UNAVAILABLE]),
        post("/api/v1/store/product-sheet", "importProducts", operate, import)
            .does(
                "Takes such a sheet (`text/csv`, UTF-8, 8 MiB at the most): makes its products, or puts them in the place of those \
                 with their slugs. Pictures, sales and products that it does not name stay. If anything is wrong with it, nothing is \
                 stored, and what is wrong is said by line; what changes meanwhile may stop it half-way, which is said too.",
            )
            .takes_as::<String>("text/csv")
            .replies::<Imported>("They are stored.")
            .problems(&[&CONFLICT, &INVALID, &UNAVAILABLE, &BODY_TIMEOUT, &BODY_TOO_LARGE, &MEDIA_TYPE]),
        get("/api/v1/store/search", "readSearch", read_only, read_search)
            .does("How the search's index of this process stands to the catalogue.")
            .replies::<SearchFigures>("The figures.")
            .problems(&[&UNAVAILABLE]),
        post("/api/v1/store/search/rebuild", "rebuildSearch", operate, rebuild_search)
            .does(
                "Has every process build the search's index from the catalogue anew. It follows each change by itself: this is for \
                 an index that is in doubt. Searches use the former one meanwhile.",
            )
            .replies::<Stored>("It has begun.")
            .problems(&[&UNAVAILABLE]),
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
) -> Result<JsonReply<Listings>, Problem> {
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

async fn read_search(
    State(Parts { service, .. }): State<Parts>,
) -> Result<JsonReply<SearchFigures>, Problem> {
    let figures = service.search_figures().await.map_err(of_store)?;
    let Figures { is_built, is_building, documents, behind, bytes } = figures;
    Ok(JsonReply(SearchFigures { is_built, is_building, documents, behind, bytes }))
}

async fn rebuild_search(State(Parts { service, .. }): State<Parts>) -> Result<JsonReply<Stored>, Problem> {
    service.rebuild_search().await.map_err(of_store)?;
    Ok(DONE)
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

/// Writes page by page, so that no more than one is in memory.
async fn export(State(Parts { service, .. }): State<Parts>) -> Result<Response, Problem> {
    let query = |after| ProductQuery { after, at_most: 100, ..ProductQuery::default() };
    let first = service.all(query(None)).await.map_err(of_store)?;
    let rest = first.next;
    let head = Bytes::from(sheet::write(&first.rows, true));
    let pages = futures_util::stream::unfold((service, rest), move |(service, next)| async move {
        let found = service.all(query(Some(next?))).await;
        // What was cut off is seen: the answer does not end as it should.
        let page = found.map_err(std::io::Error::other);
        let next = page.as_ref().ok().and_then(|page| page.next.clone());
        let page = page.map(|page| Bytes::from(sheet::write(&page.rows, false)));
        Some((page, (service, next)))
    });
    let all = futures_util::stream::once(async move { Ok(head) }).chain(pages);
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"products.csv\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(all)).into_response())
}

async fn import(
    State(Parts { service, protection }): State<Parts>,
    request: Request,
) -> Result<JsonReply<Imported>, Problem> {
    let (parts, body) = request.into_parts();
    want_media_type(&parts.headers, "text/csv")?;
    let bytes = web::body::read(body, SHEET_BYTES_MAX, protection.body_timeout()).await?;
    let categories = service.categories().await.map_err(of_store)?;
    let categories: BTreeSet<ProductSlug> = categories.into_iter().map(|category| category.slug).collect();
    let products = match sheet::read(&bytes, &categories) {
        Ok(products) => products,
        Err(errors) => {
            let lines: Vec<String> =
                errors.iter().map(|error| format!("line {}: {}", error.line, error.why)).collect();
            return Err(Problem::new(&INVALID, lines.join("; ")));
        }
    };
    match service.import(products).await {
        Ok(stored) => Ok(JsonReply(Imported { stored })),
        Err(ImportError { line, stored, why: StoreError::Conflict(why) | StoreError::Invalid(why) }) => {
            let why = format!("line {line}: {why}; {stored} products before it are stored");
            Err(Problem::new(&CONFLICT, why))
        }
        Err(ImportError { stored, why: StoreError::Unavailable(why), .. }) => {
            let why = format!("{why}; {stored} products of the sheet are stored: send it again");
            Err(Problem::new(&UNAVAILABLE, why))
        }
        Err(ImportError { why, .. }) => Err(of_store(why)),
    }
}
