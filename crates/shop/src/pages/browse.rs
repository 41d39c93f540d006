//! Home, categories, search, and products.

use super::{
    cart, framed,
    sale::{Entry, sale_box, sale_state},
};
use crate::{
    design::{About, Facet, Frame, Mood, Room, crumbs, facets, grid, notice, picture, price, text},
    parts::Shop,
    visitor::Visitor,
};
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use contracts::store::{Category, Hits, Listings, Product, ProductQuery, ProductSlug, Sku, Understood};
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
    /// A category's slug, of which a search is.
    category: Option<String>,
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
    let is_further = after.is_some();
    let hero_of = match after {
        None => first_in_sale(&shop, &found).await?,
        Some(_) => None,
    };
    let body = html! {
        @if let Some(product) = &hero_of { (hero(&shop, lang, product)) }
        @else { h1 { (lang.say("All products", "全部商品")) } }
        @if hero_of.is_some() { h2 { (lang.say("Everything in the shop", "全部商品")) } }
        (list(lang, &found, "/?"))
    };
    let title = if is_further { lang.say("All products", "全部商品") } else { "" };
    let about = (!is_further).then(|| About {
        description: hero_of.as_ref().map_or_else(String::new, |of| lead(lang, of).to_owned()),
        picture: hero_of.as_ref().and_then(|of| of.pictures.first()).map(|of| of.path.clone()),
    });
    framed(&shop, &visitor, title, &body, |frame| Frame { about, ..frame }).await
}

/// The first product of a sale, which the home page shows large.
async fn first_in_sale(shop: &Shop, found: &Listings) -> Result<Option<Product>, Problem> {
    let mut in_sale = found.rows.iter().filter(|listing| listing.offered_in.is_some());
    match in_sale.next() {
        Some(listing) => shop.catalog.product(listing.slug.clone()).await.map_err(of_store),
        None => Ok(None),
    }
}

/// The first paragraph of a product's description.
fn lead(lang: Lang, product: &Product) -> &str {
    text(lang, &product.description).split("\n\n").next().unwrap_or_default()
}

fn hero(shop: &Shop, lang: Lang, product: &Product) -> Markup {
    let offered = product.variants.iter().find_map(|variant| variant.offered_in.first());
    html! {
        section class="hero" aria-labelledby="hero-title" {
            div {
                p { span class="badge" { (lang.say("Launch sale", "首发抢购")) } }
                h1 id="hero-title" { (text(lang, &product.name)) }
                p class="lead" { (lead(lang, product)) }
                @if let Some(of) = offered { (sale_state(shop, lang, of)) }
                @if let Some(lowest) = product.variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount_minor) {
                    p { (price(lang, lowest)) }
                }
                p { a class="button" href={ "/p/" (product.slug) } { (lang.say("See the sale", "进入抢购")) } }
            }
            @if let Some(first) = product.pictures.first() { (picture(lang, first, Room::Main)) }
        }
    }
}

fn list(lang: Lang, found: &Listings, path: &str) -> Markup {
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
    let about = Some(About {
        description: how_category(lang, title, shop.name[usize::from(lang == Lang::Zh)].as_str()),
        picture: found.rows.first().and_then(|of| of.picture.as_ref()).map(|of| of.path.clone()),
    });
    framed(&shop, &visitor, title, &body, |frame| Frame { about, ..frame }).await
}

fn how_category(lang: Lang, category: &str, shop: &str) -> String {
    match lang {
        Lang::En => format!("{category} at {shop}"),
        Lang::Zh => format!("{shop}的{category}"),
    }
}

/// `GET /search`.
pub(super) async fn search(
    State(shop): State<Arc<Shop>>,
    Query(Asked { q, after, category }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let words = q.unwrap_or_default().trim().to_owned();
    if words.chars().count() > WORDS_MAX {
        return Err(Problem::new(&INVALID, format!("q: want {WORDS_MAX} characters at the most")));
    }
    let category: Option<ProductSlug> = match category.filter(|slug| !slug.is_empty()) {
        Some(slug) => Some(slug.parse().map_err(|_| unknown("category"))?),
        None => None,
    };
    let is_further = after.is_some();
    let query =
        ProductQuery { words: Some(words.clone()), after, at_most: PAGE_MAX, category: category.clone() };
    let found = shop.catalog.products(query).await.map_err(of_store)?;
    let categories = shop.catalog.categories().await.map_err(of_store)?;
    let (lang, heading) = (visitor.lang, visitor.lang.say("Search", "搜索"));
    let title = match (lang, words.as_str()) {
        (_, "") => heading.to_owned(),
        (Lang::En, _) => format!("“{words}” – Search"),
        (Lang::Zh, _) => format!("“{words}”的搜索结果"),
    };
    let encoded: String = form_urlencoded::byte_serialize(words.as_bytes()).collect();
    let path = format!("/search?q={encoded}&");
    let of_category = category.as_ref().map_or_else(String::new, |slug| format!("category={slug}&"));
    let body = html! {
        h1 { @if words.is_empty() { (heading) } @else { (lang.say("Results for ", "搜索：")) "“" (words) "”" } }
        @if let Some(hits) = &found.hits {
            (understood(lang, hits))
            @if hits.total > 0 { p class="soft" role="status" { (how_many(lang, hits.total)) } }
            (by_category(lang, hits, &categories, category.as_ref(), &path))
        }
        @if found.rows.is_empty() && is_further {
            p role="status" { (lang.say("There are no further results.", "没有更多结果了。")) }
        } @else if found.rows.is_empty() {
            (notice(Mood::Neutral, lang.say("Nothing was found.", "没有找到相关商品。"), &html! {
                p { (lang.say("Try fewer or other words, or look through a category.", "请减少或更换关键词，也可以按分类浏览。")) }
            }))
        }
        (list(lang, &found, &format!("{path}{of_category}")))
    };
    framed(&shop, &visitor, &title, &body, |frame| Frame { words: &words, ..frame }).await
}

fn how_many(lang: Lang, total: u64) -> String {
    match (lang, total) {
        (Lang::En, 1) => "1 product".into(),
        (Lang::En, _) => format!("{total} products"),
        (Lang::Zh, _) => format!("共 {total} 件商品"),
    }
}

/// Words that were taken for others.
fn understood(lang: Lang, hits: &Hits) -> Markup {
    html! {
        @for Understood { written, taken_as } in &hits.understood {
            @match lang {
                Lang::En => (notice(Mood::Neutral, &format!("Showing results for “{taken_as}”"), &html! {
                    p { "No product has “" (written) "”." }
                })),
                Lang::Zh => (notice(Mood::Neutral, &format!("已为您显示“{taken_as}”的结果"), &html! {
                    p { "没有与“" (written) "”匹配的商品。" }
                })),
            }
        }
    }
}

/// Links that narrow a search to a category, with what each has.
fn by_category(
    lang: Lang,
    hits: &Hits,
    categories: &[Category],
    chosen: Option<&ProductSlug>,
    path: &str,
) -> Markup {
    if hits.categories.len() < 2 && chosen.is_none() {
        return html! {};
    }
    let all = Facet {
        href: path.trim_end_matches('&').to_owned(),
        name: lang.say("All", "全部"),
        count: hits.categories.iter().map(|of| of.count).sum(),
        is_chosen: chosen.is_none(),
    };
    // In the shop's order.
    let each = categories.iter().filter_map(|category| {
        let of = hits.categories.iter().find(|of| of.category == category.slug)?;
        Some(Facet {
            href: format!("{path}category={}", category.slug),
            name: text(lang, &category.name),
            count: of.count,
            is_chosen: chosen == Some(&category.slug),
        })
    });
    let links: Vec<Facet<'_>> = std::iter::once(all).chain(each).collect();
    facets(lang.say("Narrow the results to a category", "按分类筛选"), &links)
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
        false => shop.stock.shown(by_cart).await.ok(),
    };
    let free: Option<BTreeMap<Sku, u64>> =
        levels.map(|levels| levels.into_iter().map(|level| (level.sku.clone(), level.free())).collect());
    let of_category = category.map(|of| (format!("/c/{}", of.slug), text(lang, &of.name)));
    let way: Vec<(&str, &str)> = std::iter::once(("/", lang.say("Home", "首页")))
        .chain(of_category.iter().map(|(path, name)| (&**path, *name)))
        .collect();
    let has_sale = product.variants.iter().any(|variant| !variant.offered_in.is_empty());
    let entry = match has_sale {
        true => Entry::of(&shop, &visitor, &product.slug).await,
        false => None,
    };
    let body = html! {
        (crumbs(lang, &way))
        article class="two" {
            div {
                div class="picture" { @if let Some(first) = product.pictures.first() { (picture(lang, first, Room::Main)) } }
                @if product.pictures.len() > 1 {
                    ul class="more" aria-label=(lang.say("More pictures", "更多图片")) {
                        @for of in &product.pictures[1..] { li { a href=(of.path) { (picture(lang, of, Room::Small)) } } }
                    }
                }
            }
            div {
                h1 { (name) }
                @for paragraph in text(lang, &product.description).split("\n\n") { p { (paragraph) } }
                @for variant in &product.variants {
                    div class="card" {
                        @if !text(lang, &variant.name).is_empty() { p { strong { (text(lang, &variant.name)) } } }
                        p { (price(lang, variant.price)) }
                        @match variant.offered_in.first() {
                            Some(of) => (sale_box(&shop, &visitor, of, entry.as_ref())),
                            None => @match &free {
                                Some(free) => (cart::buy_box(&visitor, (&variant.sku, text(lang, &variant.name)), free.get(&variant.sku).copied())),
                                None => p class="soft" { (lang.say("We can't check stock right now. Please try again in a minute.", "暂时无法查询库存，请稍后再试。")) },
                            },
                        }
                    }
                }
            }
        }
    };
    let about = Some(About {
        description: lead(lang, &product).to_owned(),
        picture: product.pictures.first().map(|of| of.path.clone()),
    });
    framed(&shop, &visitor, name, &body, |frame| Frame {
        has_sale,
        enters_sale: entry.is_some(),
        about,
        ..frame
    })
    .await
}
