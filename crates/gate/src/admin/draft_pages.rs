//! The operators' pages of drafts: what is prepared, and forms to save, copy, publish and delete.
//! They work without JavaScript.

use super::{
    change::{change, sale_id},
    drafts::ListedDraft,
    pages::places,
};
use crate::{
    drafts::{Document, Draft, Drafts},
    front::Fronts,
    page::state_in,
    ports::Sales,
    problem::{self, Problem},
};
use axum::{
    extract::{Path, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{REASON_BYTES_MAX, SaleId, SaleState, SaleView};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    page::{Frame, Lang},
    precondition::Expected,
    query::Query,
    reason::Reasons,
};

/// A document of a megabyte, with three bytes for each byte of it, and the other fields.
const DOCUMENT_FORM_BYTES_MAX: usize = (3 << 20) + 8192;
const FORM_BYTES_MAX: usize = 8192;
/// The document that a new draft's form begins with.
const EMPTY: &str = r#"{
  "name": "",
  "currency": "EUR",
  "items": [{ "item": "phone", "name": "Phone" }],
  "rounds": [{
    "opens_at": "2030-01-01T10:00:00Z",
    "closes_at": "2030-01-01T12:00:00Z",
    "items": [{ "item": "phone", "stock": 100, "price_minor": 79900 }]
  }]
}"#;

type Form = SignedForm<FORM_BYTES_MAX>;
type DocumentForm = SignedForm<DOCUMENT_FORM_BYTES_MAX>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    lang: Option<String>,
    /// What was done by the request before.
    done: Option<String>,
}

/// What a page of drafts is made from.
struct Page<'a> {
    lang: Lang,
    fronts: &'a Fronts,
    drafts: &'a Drafts,
    signed_in: Option<&'a SignedIn>,
    /// What was done, or why it was not.
    said: Said,
}

enum Said {
    Nothing,
    Done(&'static str),
    Refused(String),
}

/// `GET /drafts`: all drafts, and the sales that can be copied or deleted.
pub(super) async fn list(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, done }): Query<Shown>,
    headers: HeaderMap,
) -> Html<String> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let said = match done.as_deref() {
        Some("saved") => Said::Done(lang.say("The draft is saved.", "草稿已保存。")),
        Some("copied") => Said::Done(lang.say("The copy is a draft now.", "已复制为草稿。")),
        Some("published") => Said::Done(lang.say("The sale is published.", "活动已发布。")),
        Some("deleted") => Said::Done(lang.say("It is deleted.", "已删除。")),
        _ => Said::Nothing,
    };
    let page = Page { lang, fronts: &fronts, drafts: &drafts, signed_in: signed_in.as_ref(), said };
    Html(page.list().into_string())
}

/// `GET /drafts/{sale}/document`: a form to change a draft's document.
pub(super) async fn document(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Path(sale): Path<String>,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let draft = drafts.find(&sale_id(&sale)?)?;
    let text = serde_json::to_string_pretty(&draft.definition).map_err(|_| Problem::internal())?;
    let lang = Lang::of(lang.as_deref(), &headers);
    let (signed_in, said) = (signed_in.as_ref(), Said::Nothing);
    let page = Page { lang, fronts: &fronts, drafts: &drafts, signed_in, said };
    Ok(Html(page.document(&sale, &text, draft.revision()).into_string()))
}

/// `POST /drafts/save`.
pub(super) async fn save(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: DocumentForm,
) -> Response {
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let saved = async {
        let sale = sale_id(form.field("sale"))?;
        let reason = form.field("reason");
        Reasons::Optional.check(reason)?;
        let definition: Document = serde_json::from_str(form.field("definition")).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let why = format!("the document is no JSON object: see line {line}, column {column}");
            Problem::new(&problem::INVALID, why)
        })?;
        let by = form.operator.actor(reason);
        let expected = expected(form.field("revision"));
        change(Arc::clone(&drafts), &fronts, move |drafts, sales| {
            drafts.save(sales, &sale, definition, &by, &expected)
        })
        .await
    };
    match saved.await {
        Ok(_) => done(lang, "saved"),
        // The text that was typed is not lost.
        Err(refused) => {
            let said = Said::Refused(refused.detail().to_owned());
            let page = Page { lang, fronts: &fronts, drafts: &drafts, signed_in: signed_in.as_ref(), said };
            let markup = page.document(form.field("sale"), form.field("definition"), form.field("revision"));
            (status(&refused), Html(markup.into_string())).into_response()
        }
    }
}

/// `POST /drafts/copy`.
pub(super) async fn copy(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: Form,
) -> Response {
    let copied = async {
        let (from, to) = (sale_id(form.field("sale"))?, sale_id(form.field("to"))?);
        let (by, expected) = (form.operator.actor(""), expected(form.field("revision")));
        let copy = move |drafts: &Drafts, sales: &dyn Sales| drafts.copy(sales, &from, &to, &by, &expected);
        change(Arc::clone(&drafts), &fronts, copy).await
    };
    let copied = copied.await.map(drop);
    answer(&form, &headers, (&fronts, &drafts, signed_in.as_ref()), copied, "copied")
}

/// `POST /drafts/publish`.
pub(super) async fn publish(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: Form,
) -> Response {
    let published = async {
        let (sale, reason) = (sale_id(form.field("sale"))?, form.field("reason"));
        Reasons::Needed.check(reason)?;
        let (by, expected) = (form.operator.actor(reason), expected(form.field("revision")));
        change(Arc::clone(&drafts), &fronts, move |drafts, sales| {
            drafts.publish(sales, &sale, &by, &expected)
        })
        .await
    };
    let published = published.await;
    answer(&form, &headers, (&fronts, &drafts, signed_in.as_ref()), published, "published")
}

/// `POST /drafts/delete`.
pub(super) async fn delete(
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    headers: HeaderMap,
    form: Form,
) -> Response {
    let deleted = async {
        let (sale, reason) = (sale_id(form.field("sale"))?, form.field("reason"));
        Reasons::Needed.check(reason)?;
        let (by, expected) = (form.operator.actor(reason), expected(form.field("revision")));
        change(Arc::clone(&drafts), &fronts, move |drafts, sales| drafts.delete(sales, &sale, &by, &expected))
            .await
    };
    let deleted = deleted.await;
    answer(&form, &headers, (&fronts, &drafts, signed_in.as_ref()), deleted, "deleted")
}

/// What the page of the form showed: the draft of this revision, or none.
fn expected(revision: &str) -> Expected {
    match revision {
        "" => Expected::Absent,
        revision => Expected::Revision(revision.to_owned()),
    }
}

fn done(lang: Lang, what: &str) -> Response {
    Redirect::to(&format!("/drafts?lang={}&done={what}", lang.code())).into_response()
}

fn status(refused: &Problem) -> StatusCode {
    StatusCode::from_u16(refused.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer to a form of the list: a redirect, so that loading the page again does nothing twice;
/// or the list, with the reason why nothing was done.
fn answer(
    form: &Form,
    headers: &HeaderMap,
    (fronts, drafts, signed_in): (&Fronts, &Drafts, Option<&SignedIn>),
    result: Result<(), Problem>,
    what: &'static str,
) -> Response {
    let lang = Lang::of(Some(form.field("lang")), headers);
    match result {
        Ok(()) => done(lang, what),
        Err(refused) => {
            let said = Said::Refused(refused.detail().to_owned());
            let markup = Page { lang, fronts, drafts, signed_in, said }.list();
            (status(&refused), Html(markup.into_string())).into_response()
        }
    }
}

impl Page<'_> {
    fn may(&self, role: Role) -> Option<&SignedIn> {
        self.signed_in.filter(|signed_in| signed_in.may(role))
    }

    fn frame(&self, title: &str, path: &str, body: &Markup) -> Markup {
        let lang = self.lang;
        let frame = Frame {
            skip: lang.say("Skip to the drafts", "跳到草稿"),
            footer: lang.say("Shoppers see nothing of a draft.", "顾客看不到草稿。"),
            places: &places(lang),
            is_wide: true,
            ..Frame::plain(lang, title, path)
        };
        frame.render(body)
    }

    fn list(&self) -> Markup {
        let lang = self.lang;
        let title = lang.say("Drafts", "草稿");
        let (drafts, now) = (self.drafts.list(), self.fronts.sales().now());
        let sales: Vec<(SaleId, Arc<SaleView>)> =
            self.fronts.each().map(|(sale, port)| (sale, port.view())).collect();
        let body = html! {
            h1 { (title) }
            (self.notice())
            (self.who())
            @if drafts.is_empty() { p { (lang.say("There is no draft.", "暂无草稿。")) } }
            @for draft in &drafts { (self.draft(draft, &ListedDraft::new(draft, now))) }
            @if !sales.is_empty() {
                section aria-labelledby="sales-title" {
                    h2 id="sales-title" { (lang.say("Sales", "活动")) }
                    @for (sale, view) in &sales { (self.sale(sale, view)) }
                }
            }
            @if self.may(Role::Operator).is_some() {
                section class="card" aria-labelledby="new-title" {
                    h2 id="new-title" { (lang.say("New draft", "新草稿")) }
                    (self.document_form("", EMPTY, ""))
                }
            }
        };
        self.frame(title, "/drafts", &body)
    }

    /// `revision`: of the draft that the text is a change of; empty if there was none.
    fn document(&self, sale: &str, text: &str, revision: &str) -> Markup {
        let title = self.lang.say("Document of a draft", "草稿配置");
        let body = html! {
            h1 { (title) ": " (sale) }
            (self.notice())
            (self.who())
            @match self.may(Role::Operator) {
                Some(_) => section class="card" { (self.document_form(sale, text, revision)) },
                None => pre { (text) },
            }
        };
        // The path of the form's own page, for the language switch.
        self.frame(title, &format!("/drafts/{sale}/document"), &body)
    }

    fn notice(&self) -> Markup {
        html! {
            @match &self.said {
                Said::Nothing => {},
                Said::Done(what) => p class="card good" role="status" { (what) },
                Said::Refused(why) => section class="card notice" role="alert" aria-labelledby="refused" {
                    h2 id="refused" tabindex="-1" autofocus { (self.lang.say("It did not work", "未能完成")) }
                    p lang="en" { (why) }
                },
            }
        }
    }

    /// Who is signed in, and what that allows.
    fn who(&self) -> Markup {
        let lang = self.lang;
        html! {
            p class="hint" {
                @if let Some(signed_in) = self.may(Role::Operator) {
                    (lang.say("Signed in with the API key ", "已使用 API 密钥登录：")) strong { (signed_in.name()) } (lang.say(".", "。"))
                    @if !signed_in.may(Role::Owner) {
                        " " (lang.say("To publish or delete, sign in with an owner's key.", "发布或删除需使用 owner 角色的密钥登录。"))
                    }
                } @else {
                    (lang.say("You can only read. To change something, sign in with a link of ", "您只能查看。如需更改，请使用以下命令生成的链接登录："))
                    code { "floodgate key sign-in" } (lang.say(".", "。"))
                }
            }
        }
    }

    fn draft(&self, draft: &Draft, listed: &ListedDraft) -> Markup {
        let (lang, sale) = (self.lang, &draft.sale);
        html! {
            section class="card" data-draft=(sale) data-valid=(listed.is_valid) aria-labelledby={ "draft-" (sale) } {
                h2 id={ "draft-" (sale) } {
                    @if let Some(name) = &listed.name { (name) " " }
                    "(" (sale) ") " span class="tag" { (lang.say("Draft", "草稿")) }
                }
                p { (lang.say("Saved at ", "保存于 ")) time datetime=(listed.saved_at) { (listed.saved_at) } (lang.say(" by ", "，密钥：")) (listed.by) }
                (points(lang.say("To be corrected before it can be published", "发布前必须更正"), &listed.problems))
                (points(lang.say("May be a mistake", "可能有误"), &listed.warnings))
                (points(lang.say("What it means", "说明"), &listed.says))
                p { a href={ "/drafts/" (sale) "/document?lang=" (lang.code()) } {
                    (lang.say("Document", "配置")) span class="visually-hidden" { ": " (sale) }
                } }
                @if listed.is_valid { (self.publish_form(sale, &listed.revision)) }
                (self.copy_form(sale, &listed.revision))
                (self.delete_form(sale, &listed.revision))
            }
        }
    }

    fn sale(&self, sale: &SaleId, view: &SaleView) -> Markup {
        let lang = self.lang;
        let never_opened = view.rounds_opened == 0 && view.state == SaleState::Scheduled;
        html! {
            section class="card" data-sale=(sale) aria-labelledby={ "sale-" (sale) } {
                h3 id={ "sale-" (sale) } {
                    (view.spec.name) " (" (sale) ") " span class="tag" { (state_in(lang, view.state)) }
                }
                (self.copy_form(sale, ""))
                @if never_opened { (self.delete_form(sale, "")) }
            }
        }
    }

    /// The fields that every form has.
    fn common(&self, signed_in: &SignedIn, sale: Option<&str>) -> Markup {
        html! {
            input type="hidden" name=(TOKEN_FIELD) value=(signed_in.form_token());
            input type="hidden" name="lang" value=(self.lang.code());
            @if let Some(sale) = sale { input type="hidden" name="sale" value=(sale); }
        }
    }

    fn reason(&self, sale: &SaleId, of: &str) -> Markup {
        let id = format!("{of}-reason-{sale}");
        html! {
            label for=(id) { (self.lang.say("Reason", "原因")) }
            input id=(id) type="text" name="reason" required maxlength=(REASON_BYTES_MAX) autocomplete="off";
        }
    }

    fn publish_form(&self, sale: &SaleId, revision: &str) -> Markup {
        let Some(signed_in) = self.may(Role::Owner) else { return html! {} };
        html! {
            form class="operate" method="post" action="/drafts/publish" {
                (self.common(signed_in, Some(sale.as_str())))
                input type="hidden" name="revision" value=(revision);
                (self.reason(sale, "publish"))
                button type="submit" {
                    (self.lang.say("Publish", "发布")) span class="visually-hidden" { ": " (sale) }
                }
            }
        }
    }

    /// `revision`: of the draft; empty for a sale.
    fn copy_form(&self, sale: &SaleId, revision: &str) -> Markup {
        let Some(signed_in) = self.may(Role::Operator) else { return html! {} };
        let id = format!("copy-to-{sale}");
        html! {
            form class="operate" method="post" action="/drafts/copy" {
                (self.common(signed_in, Some(sale.as_str())))
                input type="hidden" name="revision" value=(revision);
                label for=(id) { (self.lang.say("Name of the copy", "副本名称")) }
                input id=(id) type="text" name="to" required maxlength="40" pattern="[a-z0-9][a-z0-9\\-]*" autocomplete="off" autocapitalize="off";
                button type="submit" {
                    (self.lang.say("Copy", "复制")) span class="visually-hidden" { ": " (sale) }
                }
            }
        }
    }

    /// `revision`: of the draft; empty for a sale.
    fn delete_form(&self, sale: &SaleId, revision: &str) -> Markup {
        let Some(signed_in) = self.may(Role::Owner) else { return html! {} };
        html! {
            form class="operate" method="post" action="/drafts/delete" {
                (self.common(signed_in, Some(sale.as_str())))
                input type="hidden" name="revision" value=(revision);
                (self.reason(sale, "delete"))
                button type="submit" {
                    (self.lang.say("Delete", "删除")) span class="visually-hidden" { ": " (sale) }
                }
            }
        }
    }

    /// The name of a new draft is asked for. When the draft is another one now, the form keeps the
    /// old revision: the page says so, and the operator looks at the draft before saving over it.
    fn document_form(&self, sale: &str, text: &str, revision: &str) -> Markup {
        let Some(signed_in) = self.may(Role::Operator) else { return html! {} };
        let lang = self.lang;
        let is_kept = !revision.is_empty();
        html! {
            form class="document" method="post" action="/drafts/save" {
                (self.common(signed_in, is_kept.then_some(sale)))
                input type="hidden" name="revision" value=(revision);
                @if !is_kept {
                    label for="new-sale" { (lang.say("Name in addresses: a-z, 0-9 and -", "网址中的名称：a-z、0-9 和 -")) }
                    input id="new-sale" type="text" name="sale" value=(sale) required maxlength="40" pattern="[a-z0-9][a-z0-9\\-]*" autocomplete="off" autocapitalize="off";
                }
                label for="definition" { (lang.say("Document (JSON)", "配置（JSON）")) }
                textarea id="definition" name="definition" rows="20" spellcheck="false" required { (text) }
                label for="save-reason" { (lang.say("Reason (optional)", "原因（可选）")) }
                input id="save-reason" type="text" name="reason" maxlength=(REASON_BYTES_MAX) autocomplete="off";
                button type="submit" { (lang.say("Save the draft", "保存草稿")) }
            }
        }
    }
}

/// Lines under a heading, in the language of the document's own words.
fn points(heading: &str, lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { (heading) }
            ul lang="en" { @for line in lines { li { (line) } } }
        }
    }
}
