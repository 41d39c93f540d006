//! The operators' page of the categories: made, renamed, put into order, and removed when no
//! product is in them. It works without JavaScript.

use crate::{api::Parts, service::categories_mark};
use axum::{
    extract::{Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::store::{CONSOLE_PLACES, Catalog, Category, Localized, ProductSlug, StoreError};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Lang, wide},
    problem::{Problem, of_store},
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
/// Two hundred categories with their names.
const FORM_BYTES_MAX: usize = 256 << 10;
const PAGE: &str = "/console/categories";

type Form = SignedForm<FORM_BYTES_MAX>;

pub(crate) fn pages() -> Vec<Operation<Parts>> {
    vec![
        get(PAGE, "showCategories", READ, show),
        post("/console/categories/save", "saveCategoriesForm", OPERATE, save).form(),
    ]
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
}

/// `GET /console/categories`.
async fn show(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let categories = service.categories().await.map_err(of_store)?;
    Ok(page(lang, signed_in.as_ref(), &categories, None))
}

fn page(lang: Lang, by: Option<&SignedIn>, categories: &[Category], wrong: Option<&str>) -> Html<String> {
    let title = lang.say("Categories", "分类");
    let heads = [
        lang.say("Category", "分类"),
        lang.say("Place", "顺序"),
        lang.say("Name, English", "名称（英文）"),
        lang.say("Name, Chinese", "名称（中文）"),
        lang.say("Remove", "删除"),
    ];
    let text = |name: &str, at: usize, value: &str, head: &str| {
        html! { td { input name={ (name) "-" (at) } type="text" maxlength="120" value=(value) aria-label={ (head) " " (at + 1) } autocomplete="off"; } }
    };
    let products = |of: &Category| {
        html! { a href={ "/c/" (of.slug) "?lang=" (lang.code()) } { (of.slug) } }
    };
    let body = html! {
        h1 { (title) }
        @if let Some(why) = wrong { p role="alert" { strong { (lang.say("Nothing was stored: ", "未保存：")) } (why) } }
        @if let Some(by) = by.filter(|by| by.may(Role::Operator)) {
            form method="post" action="/console/categories/save" {
                input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
                input type="hidden" name="lang" value=(lang.code());
                input type="hidden" name="seen" value=(categories_mark(categories));
                div class="scroll" tabindex="0" { table {
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody {
                        @for (at, of) in categories.iter().enumerate() { tr {
                            th scope="row" { input type="hidden" name={ "slug-" (at) } value=(of.slug); (products(of)) }
                            td { input name={ "place-" (at) } type="number" min="1" max="999" value=(at + 1) aria-label={ (heads[1]) " " (at + 1) }; }
                            (text("en", at, &of.name.en, heads[2])) (text("zh", at, &of.name.zh, heads[3]))
                            td { input name={ "remove-" (at) } type="checkbox" value="yes" aria-label={ (heads[4]) " " (at + 1) }; }
                        } }
                        (new_row(lang, categories.len(), heads))
                    }
                } }
                p { (lang.say("The last row makes a new category. One with products in it is not removed.", "最后一行用于新建分类；仍有商品的分类不能删除。")) }
                button type="submit" { (lang.say("Store them", "保存")) }
            }
        } @else if categories.is_empty() { p { (lang.say("There are none.", "暂无分类。")) } }
        @else {
            ul { @for of in categories { li { (products(of)) ": " (lang.say(&of.name.en, &of.name.zh)) } } }
        }
    };
    wide(&CONSOLE_PLACES, (lang, PAGE), title, &body)
}

fn new_row(lang: Lang, at: usize, heads: [&str; 5]) -> Markup {
    let label = lang.say("Name in URLs of a new one", "新分类的网址名称");
    html! { tr {
        td { input name={ "slug-" (at) } type="text" maxlength="64" placeholder="a-z, 0-9, -" aria-label=(label) autocomplete="off"; }
        td { input name={ "place-" (at) } type="number" min="1" max="999" value=(at + 1) aria-label={ (heads[1]) " " (at + 1) }; }
        td { input name={ "en-" (at) } type="text" maxlength="120" aria-label={ (heads[2]) " " (at + 1) } autocomplete="off"; }
        td { input name={ "zh-" (at) } type="text" maxlength="120" aria-label={ (heads[3]) " " (at + 1) } autocomplete="off"; }
        td {}
    } }
}

/// `POST /console/categories/save`.
async fn save(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let field = |name: &str, at: usize| form.field(&format!("{name}-{at}"));
    let (mut kept, mut gone, mut wrong) = (Vec::new(), Vec::new(), None);
    for at in (0..=crate::store::CATEGORIES_MAX).filter(|at| !field("slug", *at).is_empty()) {
        let slug: ProductSlug = match field("slug", at).parse() {
            Ok(slug) => slug,
            Err(error) => {
                wrong = Some(StoreError::Invalid(format!("slug: {error}")));
                continue;
            }
        };
        if !field("remove", at).is_empty() {
            gone.push(slug);
            continue;
        }
        let name = Localized { en: field("en", at).to_owned(), zh: field("zh", at).to_owned() };
        kept.push((field("place", at).parse().unwrap_or(u32::MAX), at, Category { slug, name }));
    }
    // Of equal places the one that stood before comes first.
    kept.sort_by_key(|(place, at, _)| (*place, *at));
    let kept = kept.into_iter().map(|(_, _, category)| category).collect();
    let by = form.operator.name().to_owned();
    let done = match wrong {
        Some(wrong) => Err(wrong),
        None => service.arrange_categories(by, kept, gone, form.field("seen").to_owned()).await,
    };
    match done {
        Ok(()) => Ok(Redirect::to(&format!("{PAGE}?lang={}", lang.code())).into_response()),
        Err(StoreError::Invalid(why) | StoreError::Conflict(why)) => {
            let now = service.categories().await.map_err(of_store)?;
            let shown = page(lang, signed_in.as_ref(), &now, Some(&why));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
        Err(error) => Err(of_store(error)),
    }
}
