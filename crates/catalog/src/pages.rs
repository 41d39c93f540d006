//! The operators' pages of the catalogue: its products, one with a form for it, and sheets in and
//! out. They work without JavaScript.

use crate::{
    api::Parts,
    category_pages, picture_pages,
    service::mark,
    sheet::{parse_price, written_price},
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::store::{
    CONSOLE_PLACES, Catalog, Category, Localized, Product, ProductQuery, ProductSlug, StoreError, Variant,
};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use units::{Currency, Money};
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Lang, wide},
    problem::{NOT_FOUND, Problem, of_store},
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
/// A description may have 10,000 characters in each language.
const FORM_BYTES_MAX: usize = 256 << 10;
const PAGE_MAX: usize = 100;
/// Empty rows for further variants.
const FREE_ROWS: usize = 2;
const ROWS_MAX: usize = crate::rules::VARIANTS_MAX;

type Form = SignedForm<FORM_BYTES_MAX>;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    let mut pages = vec![
        get("/console/products", "showProductsOfAll", READ, products),
        get("/console/products/{product}", "showProductForm", READ, edit),
        get("/console/new-product", "showNewProductForm", OPERATE, new),
        post("/console/products/save", "saveProductForm", OPERATE, save).form(),
        post("/console/products/remove", "removeProductForm", OPERATE, remove).form(),
    ];
    pages.extend(picture_pages::pages());
    pages.extend(category_pages::pages());
    pages
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    q: Option<String>,
    after: Option<String>,
}

/// `GET /console/products`.
async fn products(
    State(Parts { service, .. }): State<Parts>,
    Query(Shown { lang, q, after }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let words = q.unwrap_or_default();
    let query = ProductQuery { category: None, words: Some(words.clone()), after, at_most: PAGE_MAX };
    let found = service.all(query).await.map_err(of_store)?;
    let title = lang.say("Products", "商品");
    let heads = [
        lang.say("Product", "商品"),
        lang.say("Name", "名称"),
        lang.say("Category", "分类"),
        lang.say("Variants", "规格数"),
        lang.say("Price", "价格"),
        lang.say("Shown to shoppers", "已上架"),
    ];
    let body = html! {
        h1 { (title) }
        form class="operate" method="get" action="/console/products" {
            input type="hidden" name="lang" value=(lang.code());
            label for="q" { (lang.say("Words or SKU", "关键词或 SKU")) }
            input id="q" name="q" type="search" value=(words) maxlength="80";
            button type="submit" { (lang.say("Find", "查询")) }
        }
        p {
            a href={ "/console/new-product?lang=" (lang.code()) } { (lang.say("A new product", "新建商品")) } " · "
            a href="/api/v1/store/product-sheet" { (lang.say("All as a sheet (CSV)", "导出全部（CSV）")) } " · "
            a href={ "/console/trail/catalog?lang=" (lang.code()) } { (lang.say("Who changed what", "变更记录")) }
        }
        @if found.rows.is_empty() { p { (lang.say("There are none.", "暂无商品。")) } }
        @else {
            div class="scroll" tabindex="0" {
                table {
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody { @for of in &found.rows { tr {
                        th scope="row" { a href={ "/console/products/" (of.slug) "?lang=" (lang.code()) } { (of.slug) } }
                        td { (lang.say(&of.name.en, &of.name.zh)) } td { (of.category) } td { (of.variants.len()) }
                        td { @if let Some(first) = of.variants.first() { (first.price) } }
                        td { @if of.is_published { (lang.say("yes", "是")) } @else { (lang.say("no", "否")) } }
                    } } }
                }
            }
        }
        @if let Some(next) = &found.next {
            @let words: String = form_urlencoded::byte_serialize(words.as_bytes()).collect();
            p { a rel="next" href={ "/console/products?lang=" (lang.code()) "&q=" (words) "&after=" (next) } { (lang.say("Further ones", "更多")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/products"), title, &body))
}

/// What a form shows: a product, as far as it is one.
struct Typed {
    slug: String,
    name: Localized,
    description: Localized,
    category: String,
    position: String,
    is_published: bool,
    currency: String,
    /// SKU, names, price.
    rows: Vec<[String; 4]>,
    /// The state of the stored product that was seen; empty for a new one.
    seen: String,
}

impl Typed {
    fn of(product: &Product) -> Self {
        let row = |variant: &Variant| {
            [
                variant.sku.to_string(),
                variant.name.en.clone(),
                variant.name.zh.clone(),
                written_price(variant.price),
            ]
        };
        Self {
            slug: product.slug.to_string(),
            name: product.name.clone(),
            description: product.description.clone(),
            category: product.category.to_string(),
            position: product.position.to_string(),
            is_published: product.is_published,
            currency: product
                .variants
                .first()
                .map_or("CNY", |first| first.price.currency.as_str())
                .to_owned(),
            rows: product.variants.iter().map(row).collect(),
            seen: mark(product),
        }
    }

    fn empty() -> Self {
        Self {
            slug: String::new(),
            name: Localized::default(),
            description: Localized::default(),
            category: String::new(),
            position: "100".into(),
            is_published: false,
            currency: "CNY".into(),
            rows: Vec::new(),
            seen: String::new(),
        }
    }

    fn read(form: &Form) -> Self {
        let field = |name: &str| form.field(name).to_owned();
        // Browsers send new lines as two characters (HTML, form submission).
        let lines = |name: &str| form.field(name).replace("\r\n", "\n");
        let row = |at: usize| ["sku", "en", "zh", "price"].map(|name| field(&format!("{name}-{at}")));
        let rows = (0..ROWS_MAX).map(row).filter(|row| row.iter().any(|field| !field.is_empty()));
        Self {
            slug: field("slug"),
            name: Localized { en: field("name_en"), zh: field("name_zh") },
            description: Localized { en: lines("description_en"), zh: lines("description_zh") },
            category: field("category"),
            position: field("position"),
            is_published: !form.field("published").is_empty(),
            currency: field("currency"),
            rows: rows.collect(),
            seen: field("seen"),
        }
    }

    /// The product, or which field is wrong.
    fn product(&self) -> Result<Product, String> {
        let slug: ProductSlug = self.slug.parse().map_err(|error| format!("slug: {error}"))?;
        let currency: Currency = self.currency.parse().map_err(|error| format!("currency: {error}"))?;
        let variant = |[sku, en, zh, price]: &[String; 4]| {
            let amount_minor = parse_price(price, currency)
                .ok_or_else(|| format!("price: {price:?}, want a sum such as 1999.00"))?;
            Ok(Variant {
                sku: sku.parse().map_err(|error| format!("sku: {error}"))?,
                name: Localized { en: en.clone(), zh: zh.clone() },
                price: Money { amount_minor, currency },
                offered_in: Vec::new(),
            })
        };
        Ok(Product {
            slug,
            name: self.name.clone(),
            description: self.description.clone(),
            category: self.category.parse().map_err(|error| format!("category: {error}"))?,
            variants: self.rows.iter().map(variant).collect::<Result<_, String>>()?,
            pictures: Vec::new(),
            position: self.position.parse().map_err(|_| "position: want a number".to_owned())?,
            is_published: self.is_published,
        })
    }
}

/// `GET /console/products/{product}`.
async fn edit(
    State(Parts { service, .. }): State<Parts>,
    Path(slug): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let slug: ProductSlug = slug.parse().map_err(|_| unknown())?;
    let product = service.find(slug).await.map_err(of_store)?.ok_or_else(unknown)?;
    let categories = service.categories().await.map_err(of_store)?;
    let pictures = picture_pages::section(lang, signed_in.as_ref(), &product);
    let shown = Shows { typed: &Typed::of(&product), categories: &categories, pictures: Some(&pictures) };
    Ok(form_page(lang, signed_in.as_ref(), &shown, None))
}

/// `GET /console/new-product`.
async fn new(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let categories = service.categories().await.map_err(of_store)?;
    let shown = Shows { typed: &Typed::empty(), categories: &categories, pictures: None };
    Ok(form_page(lang, signed_in.as_ref(), &shown, None))
}

fn unknown() -> Problem {
    Problem::new(&NOT_FOUND, "product: there is none of this name")
}

/// What the page of a product shows.
struct Shows<'a> {
    typed: &'a Typed,
    categories: &'a [Category],
    /// Those of a product that is stored, with their forms.
    pictures: Option<&'a Markup>,
}

fn form_page(lang: Lang, by: Option<&SignedIn>, shows: &Shows<'_>, wrong: Option<&str>) -> Html<String> {
    let Shows { typed, categories, pictures } = *shows;
    let is_new = typed.seen.is_empty();
    let title = if is_new { lang.say("A new product", "新建商品") } else { &typed.slug };
    let field = |name: &str, label: &str, value: &str| {
        html! { p { label for=(name) { (label) } br; input id=(name) name=(name) type="text" value=(value) autocomplete="off"; } }
    };
    let area = |name: &str, label: &str, value: &str| {
        html! { p { label for=(name) { (label) } br; textarea id=(name) name=(name) rows="5" cols="60" { (value) } } }
    };
    let heads = [
        "SKU",
        lang.say("Variant, English", "规格（英文）"),
        lang.say("Variant, Chinese", "规格（中文）"),
        lang.say("Price", "价格"),
    ];
    let rows = typed.rows.len() + FREE_ROWS;
    let body = html! {
        h1 { (title) }
        @if let Some(why) = wrong { p role="alert" { strong { (lang.say("Nothing was stored: ", "未保存：")) } (why) } }
        form method="post" action="/console/products/save" {
            @if let Some(by) = by { input type="hidden" name=(TOKEN_FIELD) value=(by.form_token()); }
            input type="hidden" name="lang" value=(lang.code());
            input type="hidden" name="seen" value=(typed.seen);
            @if is_new { (field("slug", lang.say("Name in URLs (a-z, 0-9, -)", "网址名称（a-z、0-9、-）"), &typed.slug)) }
            @else { input type="hidden" name="slug" value=(typed.slug); }
            (field("name_en", lang.say("Name, English", "名称（英文）"), &typed.name.en))
            (field("name_zh", lang.say("Name, Chinese", "名称（中文）"), &typed.name.zh))
            (area("description_en", lang.say("Description, English", "描述（英文）"), &typed.description.en))
            (area("description_zh", lang.say("Description, Chinese", "描述（中文）"), &typed.description.zh))
            p { label for="category" { (lang.say("Category", "分类")) } br;
                select id="category" name="category" { @for of in categories {
                    option value=(of.slug) selected[of.slug.as_str() == typed.category] { (lang.say(&of.name.en, &of.name.zh)) }
                } } }
            (field("position", lang.say("Position in lists (lowest first)", "排序（小的在前）"), &typed.position))
            (field("currency", lang.say("Currency", "货币"), &typed.currency))
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for at in 0..rows {
                    @let empty = [const { String::new() }; 4];
                    @let row = typed.rows.get(at).unwrap_or(&empty);
                    tr { @for ((name, value), head) in ["sku", "en", "zh", "price"].iter().zip(row).zip(heads) {
                        td { input name={ (name) "-" (at) } type="text" value=(value) aria-label={ (head) " " (at + 1) } autocomplete="off"; }
                    } }
                } }
            } }
            p { label { input type="checkbox" name="published" value="yes" checked[typed.is_published]; " " (lang.say("Shown to shoppers", "上架")) } }
            @if by.is_some_and(|by| by.may(Role::Operator)) { button type="submit" { (lang.say("Store it", "保存")) } }
        }
        @if let Some(pictures) = pictures { (pictures) }
        @if !is_new && by.is_some_and(|by| by.may(Role::Operator)) {
            details { summary { (lang.say("Remove it", "删除商品")) }
                form method="post" action="/console/products/remove" {
                    @if let Some(by) = by { input type="hidden" name=(TOKEN_FIELD) value=(by.form_token()); }
                    input type="hidden" name="lang" value=(lang.code());
                    input type="hidden" name="slug" value=(typed.slug);
                    p { (lang.say("Orders keep what they had.", "已有订单不受影响。")) }
                    button type="submit" { (lang.say("Remove it for good", "确认删除")) }
                }
            }
        }
    };
    let path = match is_new {
        true => "/console/new-product".to_owned(),
        false => format!("/console/products/{}", typed.slug),
    };
    wide(&CONSOLE_PLACES, (lang, &path), title, &body)
}

/// `POST /console/products/save`. Pictures and sales stay as they are.
async fn save(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let typed = Typed::read(&form);
    let seen = (!typed.seen.is_empty()).then(|| typed.seen.clone());
    let stored = match typed.product() {
        Ok(mut product) => {
            let slug = product.slug.clone();
            if let Some(old) = service.find(slug).await.map_err(of_store)? {
                crate::sheet::keep(&mut product, &old);
            }
            service.put_seen(form.operator.name().to_owned(), product, seen).await
        }
        Err(why) => Err(StoreError::Invalid(why)),
    };
    match stored {
        Ok(()) => {
            let to = format!("/console/products/{}?lang={}", typed.slug, lang.code());
            Ok(Redirect::to(&to).into_response())
        }
        Err(StoreError::Invalid(why) | StoreError::Conflict(why)) => {
            let categories = service.categories().await.map_err(of_store)?;
            let shows = Shows { typed: &typed, categories: &categories, pictures: None };
            let shown = form_page(lang, signed_in.as_ref(), &shows, Some(&why));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /console/products/remove`.
async fn remove(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let slug: ProductSlug = form.field("slug").parse().map_err(|_| unknown())?;
    service.remove_as(Some(form.operator.name().to_owned()), slug).await.map_err(of_store)?;
    Ok(Redirect::to(&format!("/console/products?lang={}", lang.code())).into_response())
}
