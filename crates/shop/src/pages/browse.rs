//! Home, categories, search, and products.

use super::{cart, framed, page};
use crate::{
    design::{Frame, grid, picture, price, text},
    parts::Shop,
    visitor::{Visitor, log_in_path},
};
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use contracts::store::{Category, Listing, Page, Product, ProductQuery, ProductSlug, Sku};
use maud::{Markup, html};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use web::{
    page::Lang,
    problem::{INVALID, NOT_FOUND, Problem, of_store},
};

/// Products on one page.
const PAGE_MAX: usize = 24;
/// Characters of a search.
const WORDS_MAX: usize = 80;

/// What pages of lists take. Links from elsewhere may have parameters of their own.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    q: Option<String>,
    after: Option<String>,
}

fn unknown(what: &str) -> Problem {
    Problem::new(&NOT_FOUND, format!("{what}: there is none of this name"))
}

/// `GET /`.
pub(super) async fn home(
    State(shop): State<Arc<Shop>>,
    Query(Asked { after, .. }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let lang = visitor.lang;
    let query = ProductQuery { after: after.clone(), at_most: PAGE_MAX, ..ProductQuery::default() };
    let found = shop.catalog.products(query).await.map_err(of_store)?;
    let in_sale = match after {
        None => first_in_sale(&shop, &found).await?,
        Some(_) => None,
    };
    let body = html! {
        @if let Some(product) = &in_sale { (hero(lang, product)) }
        @else { h1 { (lang.say("All products", "全部商品")) } }
        @if in_sale.is_some() { h2 { (lang.say("Everything in the shop", "全部商品")) } }
        (list(lang, &found, "/?"))
    };
    page(&shop, &visitor, lang.say("Home", "首页"), &body).await
}

/// The first product of a sale, which the home page shows large.
async fn first_in_sale(shop: &Shop, found: &Page<Listing>) -> Result<Option<Product>, Problem> {
    let mut in_sale = found.rows.iter().filter(|listing| listing.offered_in.is_some());
    match in_sale.next() {
        Some(listing) => shop.catalog.product(listing.slug.clone()).await.map_err(of_store),
        None => Ok(None),
    }
}

fn hero(lang: Lang, product: &Product) -> Markup {
    let lead = text(lang, &product.description).split("\n\n").next().unwrap_or_default();
    html! {
        section class="hero" aria-labelledby="hero-title" {
            div {
                p { span class="badge" { (lang.say("Launch sale", "首发抢购")) } }
                h1 id="hero-title" { (text(lang, &product.name)) }
                p class="lead" { (lead) }
                @if let Some(lowest) = product.variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount_minor) {
                    p { (price(lang, lowest)) }
                }
                p { a class="button" href={ "/p/" (product.slug) } { (lang.say("To the sale", "进入抢购")) } }
            }
            @if let Some(first) = product.pictures.first() { (picture(lang, first, true)) }
        }
    }
}

fn list(lang: Lang, found: &Page<Listing>, path: &str) -> Markup {
    html! {
        (grid(lang, &found.rows))
        @if let Some(next) = &found.next {
            nav class="actions" aria-label=(lang.say("Pages of the list", "分页")) {
                a class="button quiet" rel="next" href={ (path) "after=" (next) } { (lang.say("More products", "更多商品")) }
            }
        }
    }
}

/// `GET /c/{category}`.
pub(super) async fn category(
    State(shop): State<Arc<Shop>>,
    Path(slug): Path<String>,
    Query(Asked { after, .. }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let slug: ProductSlug = slug.parse().map_err(|_| unknown("category"))?;
    let categories = shop.catalog.categories().await.map_err(of_store)?;
    let category: &Category =
        categories.iter().find(|category| category.slug == slug).ok_or_else(|| unknown("category"))?;
    let query = ProductQuery { category: Some(slug.clone()), after, at_most: PAGE_MAX, words: None };
    let found = shop.catalog.products(query).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, text(visitor.lang, &category.name));
    let body = html! {
        h1 { (title) }
        @if found.rows.is_empty() { p { (lang.say("There is nothing here yet.", "该分类暂无商品。")) } }
        (list(lang, &found, &format!("/c/{slug}?")))
    };
    page(&shop, &visitor, title, &body).await
}

/// `GET /search`.
pub(super) async fn search(
    State(shop): State<Arc<Shop>>,
    Query(Asked { q, after, .. }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let words = q.unwrap_or_default().trim().to_owned();
    if words.chars().count() > WORDS_MAX {
        return Err(Problem::new(&INVALID, format!("q: want {WORDS_MAX} characters at the most")));
    }
    let query = ProductQuery { words: Some(words.clone()), after, at_most: PAGE_MAX, category: None };
    let found = shop.catalog.products(query).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, visitor.lang.say("Search", "搜索"));
    let path: String = form_urlencoded::byte_serialize(words.as_bytes()).collect();
    let body = html! {
        h1 { @if words.is_empty() { (title) } @else { (lang.say("Found for ", "搜索：")) "“" (words) "”" } }
        @if found.rows.is_empty() {
            p role="status" { (lang.say("Nothing was found. Try fewer or other words.", "没有找到商品，请换个关键词试试。")) }
        }
        (list(lang, &found, &format!("/search?q={path}&")))
    };
    framed(&shop, &visitor, title, &body, |frame| Frame { words: &words, ..frame }).await
}

/// `GET /p/{product}`.
pub(super) async fn product(
    State(shop): State<Arc<Shop>>,
    Path(slug): Path<String>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let slug: ProductSlug = slug.parse().map_err(|_| unknown("product"))?;
    let product = shop.catalog.product(slug).await.map_err(of_store)?.ok_or_else(|| unknown("product"))?;
    let (lang, name) = (visitor.lang, text(visitor.lang, &product.name));
    let categories = shop.catalog.categories().await.map_err(of_store)?;
    let category = categories.iter().find(|category| category.slug == product.category);
    let by_cart = product.variants.iter().filter(|variant| variant.offered_in.is_empty());
    let by_cart: Vec<Sku> = by_cart.map(|variant| variant.sku.clone()).collect();
    // What is sold in a sale asks nothing; and without the stock's answer the product is shown.
    let levels = match by_cart.is_empty() {
        true => Some(Vec::new()),
        false => shop.stock.levels(by_cart).await.ok(),
    };
    let free: Option<BTreeMap<Sku, u64>> =
        levels.map(|levels| levels.into_iter().map(|level| (level.sku.clone(), level.free())).collect());
    let has_sale = product.variants.iter().any(|variant| !variant.offered_in.is_empty());
    let body = html! {
        p class="crumbs" { a href="/" { (lang.say("Home", "首页")) } " / " @if let Some(of) = category { a href={ "/c/" (of.slug) } { (text(lang, &of.name)) } } }
        article class="two" {
            div class="picture" { @if let Some(first) = product.pictures.first() { (picture(lang, first, true)) } }
            div {
                h1 { (name) }
                @for paragraph in text(lang, &product.description).split("\n\n") { p { (paragraph) } }
                @for variant in &product.variants {
                    div class="card" {
                        @if !text(lang, &variant.name).is_empty() { p { strong { (text(lang, &variant.name)) } } }
                        p { (price(lang, variant.price)) }
                        @match variant.offered_in.first() {
                            Some(of) => (sale_box(&shop, &visitor, of)),
                            None => @match &free {
                                Some(free) => (cart::buy_box(&visitor, (&variant.sku, text(lang, &variant.name)), free.get(&variant.sku).copied())),
                                None => p class="soft" { (lang.say("It is not known right now whether it is in stock. Look again in a minute.", "暂时无法查询库存，请稍后再试。")) },
                            },
                        }
                    }
                }
            }
        }
    };
    framed(&shop, &visitor, name, &body, |frame| Frame { has_sale, ..frame }).await
}

/// Where a product of a sale is bought: by the sale's script, with the shopper's token.
fn sale_box(shop: &Shop, visitor: &Visitor, of: &contracts::store::OfferedIn) -> Markup {
    let (lang, origin) = (visitor.lang, &shop.sale_origin);
    html! {
        div class="sale" {
            p { (lang.say("This is sold in a launch sale.", "本商品在首发抢购中销售。")) }
            @if visitor.signed_in.is_some() {
                script src={ (origin) "/floodgate.js" } data-sale=(of.sale) data-item=(of.item) data-token-url="/account/sale-token" data-lang=(lang.code()) {}
                noscript { p { (lang.say("The sale needs JavaScript.", "抢购需要启用 JavaScript。")) } }
                p class="actions" { a id="to-order" class="button" href="/orders" hidden { (lang.say("To your order", "查看订单")) } }
            } @else {
                p { a class="button wide" href=(log_in_path(&visitor.here)) { (lang.say("Log in to take part", "登录后参与抢购")) } }
            }
        }
    }
}
