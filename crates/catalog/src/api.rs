//! The catalogue over HTTP: products for everybody, and what changes them for operators.

use crate::{
    pictures::UPLOAD_BYTES_MAX,
    search::Figures,
    service::{ImportError, Service},
    sheet,
};
use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use contracts::store::{
    Catalog, Category, Listings, Localized, Picture, Product, ProductQuery, ProductSlug, StoreError,
};
use futures_util::StreamExt;
use http::header;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use web::{
    api_keys::{Operator, Role},
    body::want_media_type,
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, Text, delete, get, post, put},
    precondition::{Expected, Precondition, quoted, tag_of},
    problem::{
        BODY_TIMEOUT, BODY_TOO_LARGE, CHANGED, CONFLICT, INVALID, MEDIA_TYPE, NOT_FOUND, Problem,
        UNAVAILABLE, of_store,
    },
    query::Query,
    sheet::{download, refused},
};

const PRODUCTS: &str = "/api/v1/store/products";
const PRODUCT: &str = "/api/v1/store/products/{product}";
const PICTURES: &str = "/api/v1/store/products/{product}/pictures";
const BODY_BYTES_MAX: usize = 128 << 10;
const IF_MATCH: &str = "The `ETag` of what was read, or `*` for any state. If there is another state now, the answer is \
                        412, and nothing is done.";
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

/// What a picture shows, in words.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AltTexts {
    /// In English, for those who do not see it. 120 characters at the most.
    #[serde(default)]
    alt_en: String,
    /// In Chinese.
    #[serde(default)]
    alt_zh: String,
}

/// The bytes of a file.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
struct File(#[expect(dead_code, reason = "it is only described")] String);

/// The pictures of a product, in the order in which they are shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Pictures {
    pictures: Vec<Picture>,
}

/// All pictures of a product, in the order in which they are to be shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PicturesInOrder")]
struct Arranged {
    #[schemars(length(max = 20))]
    pictures: Vec<ArrangedPicture>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ArrangedPicture {
    /// The last part of its path.
    name: String,
    alt: Localized,
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (open, operate) = (Access::Open, Access::Role(Role::Operator));
    let read_only = Access::Role(Role::ReadOnly);
    vec![
        get(PRODUCTS, "listProducts", open, list)
            .tagged()
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
            .tagged()
            .does("A product that is published, with its variants and prices.")
            .replies::<Product>("The product.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(PRODUCT, "putProduct", operate, store)
            .does("Makes a product, or puts it in the place of the one with its slug. Orders keep what they had.")
            .may_have::<Text>("If-Match", IF_MATCH)
            .may_have::<Text>("If-None-Match", "`*`: there is no product of this slug.")
            .takes::<Product>()
            .replies::<Stored>("It is stored.")
            .with_field::<Text>("ETag", "Of the product as it is now.")
            .problems(&[&NOT_FOUND, &CONFLICT, &CHANGED, &INVALID, &UNAVAILABLE]),
        delete(PRODUCT, "deleteProduct", operate, remove)
            .does("Deletes a product. Orders keep what they had.")
            .may_have::<Text>("If-Match", IF_MATCH)
            .replies::<Stored>("It is gone.")
            .problems(&[&NOT_FOUND, &CHANGED, &INVALID, &UNAVAILABLE]),
        get(PICTURES, "listPictures", read_only, pictures)
            .tagged()
            .does("The pictures of a product, also of one that is not published, in their order.")
            .replies::<Pictures>("The pictures.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post(PICTURES, "addPicture", operate, add_picture)
            .does(
                "Adds a picture: a JPEG, PNG or WebP of 10 MiB and 25 million pixels at the most, which its bytes say, not \
                 `Content-Type`. It is turned upright and written anew, 320, 640 and 1280 pixels long at the most and never larger \
                 than it is, without its metadata. The same file sent again is the same picture.",
            )
            .query::<AltTexts>()
            .takes_as::<File>("application/octet-stream")
            .replies::<Picture>("It is one of the product's pictures.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        put(PICTURES, "arrangePictures", operate, arrange_pictures)
            .does(
                "Puts a product's pictures into this order, with these texts. They must be all that it has: 409 says that \
                 another operator has changed them meanwhile.",
            )
            .takes::<Arranged>()
            .replies::<Pictures>("The pictures.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        delete("/api/v1/store/products/{product}/pictures/{picture}", "removePicture", operate, remove_picture)
            .does("Takes a picture from a product. Its file is gone a day after no product shows it any more.")
            .replies::<Stored>("The product does not have it any more.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE, &INVALID, &CONFLICT]),
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
            .tagged()
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
            .tagged()
            .does("The categories, in the shop's order.")
            .replies::<Categories>("The categories.")
            .problems(&[&UNAVAILABLE]),
        put("/api/v1/store/categories", "putCategories", operate, put_categories)
            .does("Sets these categories, in this order. Others stay, after them.")
            .may_have::<Text>("If-Match", IF_MATCH)
            .takes::<Categories>()
            .replies::<Stored>("They are stored.")
            .problems(&[&CHANGED, &INVALID, &UNAVAILABLE]),
    ]
}

fn by_name(by: &Operator) -> Option<String> {
    Some(by.name().to_owned())
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
    by: Operator,
    Precondition(expected): Precondition,
    JsonBody(product): JsonBody<Product, BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    if slug_of(&slug)? != product.slug {
        return Err(Problem::new(&INVALID, "slug: it is another than the path's"));
    }
    match service.put_if(by_name(&by), product, expected).await.map_err(of_store)? {
        Some(tag) => Ok(([(header::ETAG, quoted(&tag))], DONE).into_response()),
        None => Err(changed()),
    }
}

fn changed() -> Problem {
    Problem::new(&CHANGED, "another operator has changed it since, or it is there already: nothing was done")
}

async fn remove(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
    by: Operator,
    Precondition(expected): Precondition,
) -> Result<JsonReply<Stored>, Problem> {
    match service.remove_if(by_name(&by), slug_of(&product)?, expected).await.map_err(of_store)? {
        Some(true) => Ok(DONE),
        Some(false) => Err(unknown(&product)),
        None => Err(changed()),
    }
}

async fn pictures(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
) -> Result<JsonReply<Pictures>, Problem> {
    let found = service.find(slug_of(&product)?).await.map_err(of_store)?;
    let Product { pictures, .. } = found.ok_or_else(|| unknown(&product))?;
    Ok(JsonReply(Pictures { pictures }))
}

async fn add_picture(
    State(Parts { service, protection }): State<Parts>,
    Path(product): Path<String>,
    Query(AltTexts { alt_en, alt_zh }): Query<AltTexts>,
    by: Operator,
    request: Request,
) -> Result<JsonReply<Picture>, Problem> {
    let slug = slug_of(&product)?;
    let (parts, body) = request.into_parts();
    let says_picture =
        parts.headers.get(header::CONTENT_TYPE).is_some_and(|of| of.as_bytes().starts_with(b"image/"));
    if !says_picture {
        want_media_type(&parts.headers, "application/octet-stream")?;
    }
    let _room = service.room_for_upload().map_err(of_store)?;
    let upload = web::body::read_large(body, UPLOAD_BYTES_MAX, protection.body_timeout()).await?;
    let alt = Localized { en: alt_en, zh: alt_zh };
    Ok(JsonReply(service.add_picture(by.name().to_owned(), slug, upload, alt).await.map_err(of_store)?))
}

async fn arrange_pictures(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
    by: Operator,
    JsonBody(Arranged { pictures }): JsonBody<Arranged, BODY_BYTES_MAX>,
) -> Result<JsonReply<Pictures>, Problem> {
    let wanted = pictures.into_iter().map(|ArrangedPicture { name, alt }| (name, alt)).collect();
    let pictures = service
        .arrange_pictures(by.name().to_owned(), slug_of(&product)?, (wanted, Vec::new()), None)
        .await
        .map_err(of_store)?;
    Ok(JsonReply(Pictures { pictures }))
}

async fn remove_picture(
    State(Parts { service, .. }): State<Parts>,
    Path((product, picture)): Path<(String, String)>,
    by: Operator,
) -> Result<JsonReply<Stored>, Problem> {
    match service.remove_picture(by.name().to_owned(), slug_of(&product)?, picture).await.map_err(of_store)? {
        true => Ok(DONE),
        false => Err(Problem::new(&NOT_FOUND, "picture: the product has none of this name")),
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
    by: Operator,
    Precondition(expected): Precondition,
    JsonBody(Categories { categories }): JsonBody<Categories, BODY_BYTES_MAX>,
) -> Result<JsonReply<Stored>, Problem> {
    // By the answer in which they were read.
    let are_expected = move |stored: &[Category]| {
        let answer = serde_json::to_vec(&Categories { categories: stored.to_vec() }).unwrap_or_default();
        expected == Expected::Any || expected.is_met(Some(&tag_of(&answer)))
    };
    match service.put_categories_if(by_name(&by), categories, are_expected).await.map_err(of_store)? {
        true => Ok(DONE),
        false => Err(changed()),
    }
}

async fn export(State(Parts { service, .. }): State<Parts>) -> Result<Response, Problem> {
    let query = |after| ProductQuery { after, at_most: 100, ..ProductQuery::default() };
    let first = service.all(query(None)).await.map_err(of_store)?;
    let head = sheet::write(&first.rows, true);
    let pages = futures_util::stream::unfold((service, first.next), move |(service, next)| async move {
        let found = service.all(query(Some(next?))).await;
        let next = found.as_ref().ok().and_then(|page| page.next.clone());
        Some((found.map(|page| sheet::write(&page.rows, false)), (service, next)))
    });
    Ok(download("products.csv", futures_util::stream::once(async { Ok(head) }).chain(pages)))
}

async fn import(
    State(Parts { service, protection }): State<Parts>,
    by: Operator,
    request: Request,
) -> Result<JsonReply<Imported>, Problem> {
    let (parts, body) = request.into_parts();
    want_media_type(&parts.headers, "text/csv")?;
    let bytes = web::body::read(body, SHEET_BYTES_MAX, protection.body_timeout()).await?;
    let categories = service.categories().await.map_err(of_store)?;
    let categories: BTreeSet<ProductSlug> = categories.into_iter().map(|category| category.slug).collect();
    let products = match sheet::read(&bytes, &categories) {
        Ok(products) => products,
        Err(errors) => return Err(refused(&errors)),
    };
    match service.import(by.name(), products).await {
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
