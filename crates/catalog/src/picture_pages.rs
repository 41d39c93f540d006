//! A product's pictures in the console: a form that uploads one, and one that puts them into order
//! and describes them. They work without JavaScript.

use crate::{
    api::Parts,
    pictures::UPLOAD_BYTES_MAX,
    rules::{NAME_MAX, PICTURES_MAX},
    uploads::{mark_of, name_of},
};
use axum::{
    extract::{Path, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::store::{CONSOLE_PLACES, Localized, Picture, Product, ProductSlug, StoreError};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use web::{
    api_keys::{Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD, UploadForm},
    operation::{Access, Operation, post},
    page::{Lang, wide},
    problem::{NOT_FOUND, Problem, of_store},
};

const OPERATE: Access = Access::Role(Role::Operator);
/// Beside the file, a form has a few words.
const UPLOAD_FORM_BYTES_MAX: usize = UPLOAD_BYTES_MAX + (64 << 10);
const FORM_BYTES_MAX: usize = 64 << 10;
/// Pixels of a picture's width in the form.
const THUMBNAIL: u32 = 96;

type Form = SignedForm<FORM_BYTES_MAX>;

pub(crate) fn pages() -> Vec<Operation<Parts>> {
    vec![
        post("/console/products/{product}/pictures", "uploadPictureForm", OPERATE, upload).form(),
        post("/console/products/{product}/picture-order", "arrangePicturesForm", OPERATE, arrange).form(),
    ]
}

/// The pictures of a product, with their forms for an operator who may send them.
pub(crate) fn section(lang: Lang, by: Option<&SignedIn>, product: &Product) -> Markup {
    let by = by.filter(|by| by.may(Role::Operator));
    let base = format!("/console/products/{}", product.slug);
    html! {
        h2 id="pictures" { (lang.say("Pictures", "图片")) }
        @if product.pictures.is_empty() { p { (lang.say("There are none.", "暂无图片。")) } }
        @else if let Some(by) = by { (order_form(lang, by, &base, &product.pictures)) }
        @else { @for of in &product.pictures { p { (thumbnail(lang, of)) } } }
        @if let Some(by) = by {
            h3 { (lang.say("Add a picture", "添加图片")) }
            form method="post" action={ (base) "/pictures" } enctype="multipart/form-data" {
                input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
                input type="hidden" name="lang" value=(lang.code());
                p { label for="file" { (lang.say("A JPEG, PNG or WebP file, up to 10 MiB", "JPEG、PNG 或 WebP 文件，不超过 10 MiB")) } br;
                    input id="file" name="file" type="file" accept="image/jpeg,image/png,image/webp" required; }
                p { label for="alt_en" { (lang.say("What it shows, English", "图片说明（英文）")) } br;
                    input id="alt_en" name="alt_en" type="text" maxlength=(NAME_MAX) value=(product.name.en) autocomplete="off"; }
                p { label for="alt_zh" { (lang.say("What it shows, Chinese", "图片说明（中文）")) } br;
                    input id="alt_zh" name="alt_zh" type="text" maxlength=(NAME_MAX) value=(product.name.zh) autocomplete="off"; }
                button type="submit" { (lang.say("Upload it", "上传")) }
            }
        }
    }
}

fn thumbnail(lang: Lang, picture: &Picture) -> Markup {
    let smallest = picture.sizes.first().map_or(&picture.path, |of| &of.path);
    let height = (u64::from(picture.height) * u64::from(THUMBNAIL) / u64::from(picture.width.max(1))).max(1);
    html! {
        a href=(picture.path) {
            img src=(smallest) width=(THUMBNAIL) height=(height)
                alt=(lang.say(&picture.alt.en, &picture.alt.zh)) loading="lazy";
        }
    }
}

/// A row for each: its place, its texts, and whether it is to go.
fn order_form(lang: Lang, by: &SignedIn, base: &str, pictures: &[Picture]) -> Markup {
    let heads = [
        lang.say("Picture", "图片"),
        lang.say("Place", "顺序"),
        lang.say("What it shows, English", "图片说明（英文）"),
        lang.say("What it shows, Chinese", "图片说明（中文）"),
        lang.say("Remove", "移除"),
    ];
    html! {
        form method="post" action={ (base) "/picture-order" } {
            input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
            input type="hidden" name="lang" value=(lang.code());
            input type="hidden" name="seen" value=(mark_of(pictures));
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for (at, of) in pictures.iter().enumerate() { tr {
                    td { input type="hidden" name={ "name-" (at) } value=(name_of(of)); (thumbnail(lang, of)) }
                    td { input name={ "place-" (at) } type="number" min="1" max="99" value=(at + 1) aria-label={ (heads[1]) " " (at + 1) }; }
                    td { input name={ "en-" (at) } type="text" maxlength=(NAME_MAX) value=(of.alt.en) aria-label={ (heads[2]) " " (at + 1) } autocomplete="off"; }
                    td { input name={ "zh-" (at) } type="text" maxlength=(NAME_MAX) value=(of.alt.zh) aria-label={ (heads[3]) " " (at + 1) } autocomplete="off"; }
                    td { input name={ "remove-" (at) } type="checkbox" value="yes" aria-label={ (heads[4]) " " (at + 1) }; }
                } } }
            } }
            p { (lang.say("The first one is shown in lists.", "列表中显示第一张。")) }
            button type="submit" { (lang.say("Store the order and the texts", "保存顺序与说明")) }
        }
    }
}

fn unknown() -> Problem {
    Problem::new(&NOT_FOUND, "product: there is none of this name")
}

/// Back to the product's page, or what was wrong.
fn answer(lang: Lang, product: &ProductSlug, done: Result<(), StoreError>) -> Result<Response, Problem> {
    let page = format!("/console/products/{product}");
    match done {
        Ok(()) => Ok(Redirect::to(&format!("{page}?lang={}#pictures", lang.code())).into_response()),
        Err(StoreError::Invalid(why) | StoreError::Conflict(why)) => {
            let title = lang.say("Nothing was changed", "未作更改");
            let body = html! {
                h1 { (title) }
                p role="alert" { (why) }
                p { a href={ (page) "?lang=" (lang.code()) "#pictures" } { (lang.say("Back to the product", "返回商品")) } }
            };
            let shown: Html<String> = wide(&CONSOLE_PLACES, (lang, &page), title, &body);
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /console/products/{product}/pictures`.
async fn upload(
    State(Parts { service, protection }): State<Parts>,
    Path(product): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let product: ProductSlug = product.parse().map_err(|_| unknown())?;
    let _room = service.room_for_upload().map_err(of_store)?;
    let form = UploadForm::read(request, UPLOAD_FORM_BYTES_MAX, &protection).await?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let alt = Localized { en: form.field("alt_en").to_owned(), zh: form.field("alt_zh").to_owned() };
    let added = match form.file.len() > UPLOAD_BYTES_MAX {
        true => Err(StoreError::Invalid("picture: want 10 MiB at the most".into())),
        false => service.add_picture(form.operator.name().to_owned(), product.clone(), form.file, alt).await,
    };
    answer(lang, &product, added.map(drop))
}

/// `POST /console/products/{product}/picture-order`. Those that go are named beside those that
/// stay, so what another operator has uploaded meanwhile is neither lost nor moved unseen.
async fn arrange(
    State(Parts { service, .. }): State<Parts>,
    Path(product): Path<String>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let product: ProductSlug = product.parse().map_err(|_| unknown())?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let field = |name: &str, at: usize| form.field(&format!("{name}-{at}")).to_owned();
    let mut rows: Vec<_> = (0..PICTURES_MAX)
        .filter(|at| !field("name", *at).is_empty())
        .map(|at| (field("place", at).parse().unwrap_or(u32::MAX), at))
        .collect();
    // Of equal places the one that stood before comes first.
    rows.sort_unstable();
    let (gone, kept): (Vec<_>, Vec<_>) =
        rows.into_iter().map(|(_, at)| at).partition(|at| !field("remove", *at).is_empty());
    let alt = |at: usize| Localized { en: field("en", at), zh: field("zh", at) };
    let kept = kept.into_iter().map(|at| (field("name", at), alt(at))).collect();
    let gone = gone.into_iter().map(|at| field("name", at)).collect();
    let seen = Some(form.field("seen").to_owned());
    let arranged =
        service.arrange_pictures(form.operator.name().to_owned(), product.clone(), (kept, gone), seen).await;
    answer(lang, &product, arranged.map(drop))
}
