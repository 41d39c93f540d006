//! The page's requests: a visitor looks, buys, pays. Each POST is checked against the visitor's
//! cookie before anything else, and answered with a redirect, so that reloading buys nothing twice.

use super::{
    view::{Form, Own, Said, SalePage, index as index_page},
    visitor::Visitor,
};
use crate::{
    attempts::parse_attempt,
    basket::known_item,
    decisions::{Current, current},
    front::Front,
    outcome::{OUTCOMES, Outcome, outcome_of},
    pass::Pass,
    problem::{self, Problem, of_operation, reply},
    return_url::ReturnUrl,
    shop_page::ShopPage,
};
use axum::{
    Extension,
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{Actor, Answer, AttemptId, Basket, Line, Operation, QUANTITY_MAX, SaleView, Told};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use std::sync::Arc;
use units::Sequence;
use web::{
    body::{self, want_media_type},
    page::Lang,
    secret::random_bytes,
    server::Peer,
};

const FORM_BYTES_MAX: usize = 4096;
/// The most holds and places that the page lists.
const OWN_SHOWN_MAX: usize = 20;

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct PageQuery {
    lang: Option<String>,
    /// A refusal of the request before: it is not stored, so the redirect carries it, signed.
    said: Option<String>,
    /// Whether only the outcome is wanted.
    fragment: Option<String>,
    return_url: Option<String>,
}

type Shown = Result<Response, Problem>;

fn page(status: StatusCode, markup: Markup, visitor: Option<(&ShopPage, &Visitor)>) -> Response {
    let mut response = (status, Html(markup.into_string())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, http::HeaderValue::from_static("accept-language, cookie"));
    if let Some(Ok(cookie)) = visitor.map(|(shop, visitor)| visitor.set_cookie(shop).parse()) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

/// `GET /`.
pub(super) async fn index(
    State(shop): State<Arc<ShopPage>>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Shown {
    let lang = Lang::of(query.lang.as_deref(), &headers);
    let sales = shop.attempts.fronts.sales().list();
    if let [only] = &*sales {
        let lang = query.lang.map(|_| format!("?lang={}", lang.code())).unwrap_or_default();
        return Ok(Redirect::to(&format!("/sales/{only}{lang}")).into_response());
    }
    let views: Vec<_> = shop.attempts.fronts.each().map(|(_, sale)| sale.view()).collect();
    Ok(page(StatusCode::OK, index_page(lang, &views), None))
}

/// `GET /time`: milliseconds, for the countdown.
pub(super) async fn time(State(shop): State<Arc<ShopPage>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, shop.protection.now().0.to_string()).into_response()
}

/// A demo visitor at a sale.
struct Visit {
    shop: Arc<ShopPage>,
    front: Arc<Front>,
    sale: String,
    lang: Lang,
    visitor: Option<Visitor>,
    pass: Option<Pass>,
    return_to: Option<ReturnUrl>,
}

impl Visit {
    fn new(
        shop: Arc<ShopPage>,
        sale: String,
        lang: Lang,
        visitor: Option<Visitor>,
        return_to: Option<ReturnUrl>,
    ) -> Result<Self, Problem> {
        let front = shop.attempts.fronts.get(&sale)?;
        let pass = visitor.as_ref().and_then(|v| v.pass(&shop.attempts.keys, shop.protection.now()));
        Ok(Self { shop, front, sale, lang, visitor, pass, return_to })
    }

    /// What follows `?lang=…` in a link of the page.
    fn query(&self) -> String {
        self.return_to.as_ref().map(ReturnUrl::as_query).unwrap_or_default()
    }

    /// The return URL of the shop, with what it can check.
    fn way_back(&self, view: &SaleView, shown: &Current) -> Option<String> {
        let (to, pass) = (self.return_to.as_ref()?, self.pass.as_ref()?);
        self.shop.ways_back.signed(to, view, &shown.outcome, pass, shown.basket.as_ref())
    }

    fn form(&self) -> Option<Form> {
        let visitor = self.visitor.as_ref()?;
        let view = self.front.sale.view();
        let (pass, _) = self.shop.attempts.passes.issue(&view.sale, &visitor.shopper())?;
        let key = |_| random_bytes::<16>().ok().map(|bytes| BASE64URL_NOPAD.encode(&bytes));
        let idempotency_keys = view.items.iter().map(key).collect::<Option<_>>()?;
        Some(Form { csrf: visitor.csrf(&self.shop.attempts.keys, &self.sale), idempotency_keys, pass })
    }

    /// The page, or the parts of it that a request changes.
    async fn show(&self, path: String, said: Said, is_fragment: bool) -> Markup {
        let kept = self.own().await;
        let view = self.front.sale.view();
        let is_kept = |shown: &Current| kept.iter().any(|own| own.outcome.attempt == shown.outcome.attempt);
        let way_back = match &said {
            Said::Outcome(shown) if !is_kept(shown) => self.way_back(&view, shown),
            _ => None,
        };
        let with_way = |current: Current| Own { way_back: self.way_back(&view, &current), current };
        let own = kept.into_iter().map(with_way).collect();
        let page = SalePage {
            lang: self.lang,
            now: self.shop.protection.now(),
            view: &view,
            demo: self.shop.is_demo(&self.sale),
            form: self.form(),
            said,
            own,
            way_back,
            return_url: self.return_to.as_ref().map(ReturnUrl::as_str),
            shop_url: &self.shop.shop_url,
            query: self.query(),
            path,
        };
        if is_fragment { page.fragment() } else { page.render() }
    }

    /// What the sale keeps of this visitor, newest first, so that a closed tab loses nothing.
    async fn own(&self) -> Vec<Current> {
        let Some(pass) = &self.pass else { return Vec::new() };
        let Ok(record) = reply(self.front.sale.shopper(pass.shopper)).await else { return Vec::new() };
        let kept = record.attempts.iter().filter_map(|stored| {
            let outcome = outcome_of(stored.id, &stored.answer)?;
            Some(Current { outcome, basket: Some(stored.basket) })
        });
        kept.take(OWN_SHOWN_MAX).collect()
    }
}

/// `GET /sales/{sale}`.
pub(super) async fn sale(
    State(shop): State<Arc<ShopPage>>,
    Path(sale): Path<String>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Shown {
    shop.attempts.fronts.get(&sale)?;
    let lang = Lang::of(query.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(query.return_url.as_deref())?;
    let demo = shop.is_demo(&sale);
    let known = Visitor::known(&shop.attempts.keys, &headers).filter(|_| demo);
    let new = match (&known, demo) {
        (None, true) => Some(Visitor::new().map_err(|e| Problem::unavailable(&e.to_string()))?),
        _ => None,
    };
    let visit = Visit::new(Arc::clone(&shop), sale, lang, known.or_else(|| new.clone()), return_to)?;
    let markup = visit.show(format!("/sales/{}", visit.sale), Said::Nothing, query.fragment.is_some()).await;
    Ok(page(StatusCode::OK, markup, new.as_ref().map(|v| (&*shop, v))))
}

/// `GET /sales/{sale}/attempts/{attempt}`: the outcome.
pub(super) async fn attempt(
    State(shop): State<Arc<ShopPage>>,
    Path((sale, attempt)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Shown {
    let lang = Lang::of(query.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(query.return_url.as_deref())?;
    let Some(visitor) = Visitor::known(&shop.attempts.keys, &headers).filter(|_| shop.is_demo(&sale)) else {
        shop.attempts.fronts.get(&sale)?;
        let query = return_to.as_ref().map(ReturnUrl::as_query).unwrap_or_default();
        return Ok(Redirect::to(&format!("/sales/{sale}?lang={}{query}", lang.code())).into_response());
    };
    let id = parse_attempt(&attempt)?;
    let visit = Visit::new(Arc::clone(&shop), sale, lang, Some(visitor), return_to)?;
    let carried = query.said.as_deref().and_then(|said| Carried::parse(&shop, &visit, id, said));
    let shown = match (carried, &visit.pass) {
        (Some(refused), _) => refused,
        (None, Some(pass)) => current(&visit.front, pass, id).await?,
        (None, None) => return Err(no_visitor()),
    };
    let path = format!("/sales/{}/attempts/{id}", visit.sale);
    let markup = visit.show(path, Said::Outcome(Box::new(shown)), query.fragment.is_some()).await;
    Ok(page(StatusCode::OK, markup, None))
}

/// A refusal that a redirect carries.
struct Carried;

impl Carried {
    fn proof(shop: &ShopPage, sale: &str, attempt: AttemptId, fields: &str) -> String {
        shop.attempts.keys.page_token("said", &[sale, &attempt.to_string(), fields])
    }

    /// `sold_out.as_of.held_by.item.quantity.proof`
    fn write(shop: &ShopPage, sale: &str, said: &Current) -> String {
        let outcome = &said.outcome;
        let as_of = outcome.as_of.unwrap_or_default();
        let held_by = outcome.held_by.map(|id| id.to_string()).unwrap_or_default();
        let line = said.basket.and_then(|basket| basket.first().copied()).unwrap_or_default();
        let fields = format!("{}.{as_of}.{held_by}.{}.{}", outcome.outcome, line.item, line.quantity);
        let proof = Self::proof(shop, sale, outcome.attempt, &fields);
        format!("{fields}.{proof}")
    }

    fn parse(shop: &ShopPage, visit: &Visit, attempt: AttemptId, text: &str) -> Option<Current> {
        let (fields, proof) = text.rsplit_once('.')?;
        let want = (&*visit.sale, &*attempt.to_string());
        if !shop.attempts.keys.is_page_token(proof, "said", &[want.0, want.1, fields]) {
            return None;
        }
        let [name, as_of, held_by, item, quantity] = fields.split('.').collect::<Vec<_>>()[..] else {
            return None;
        };
        let outcome = OUTCOMES.into_iter().find(|o| *o == name)?;
        let (as_of, held_by) = (Some(Sequence(as_of.parse().ok()?)), held_by.parse().ok());
        let basket = Basket::new(&[Line { item: item.parse().ok()?, quantity: quantity.parse().ok()? }]).ok();
        Some(Current { outcome: Outcome { as_of, held_by, ..Outcome::plain(attempt, outcome) }, basket })
    }
}

fn no_visitor() -> Problem {
    Problem::new(
        &problem::FORM_REFUSED,
        "the form does not fit the visitor's cookie: load the page again, with cookies allowed",
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuyForm {
    csrf: String,
    key: String,
    item: String,
    quantity: u16,
    #[serde(default)]
    lang: Option<String>,
    #[serde(default)]
    return_url: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldForm {
    csrf: String,
    hold: AttemptId,
    #[serde(default)]
    lang: Option<String>,
    #[serde(default)]
    return_url: Option<String>,
}

/// What every form of the page has.
trait PageForm: serde::de::DeserializeOwned {
    fn csrf(&self) -> &str;
    fn lang(&self) -> Option<&str>;
    fn return_url(&self) -> Option<&str>;
}

macro_rules! page_form {
    ($form:ty) => {
        impl PageForm for $form {
            fn csrf(&self) -> &str {
                &self.csrf
            }

            fn lang(&self) -> Option<&str> {
                self.lang.as_deref()
            }

            fn return_url(&self) -> Option<&str> {
                self.return_url.as_deref()
            }
        }
    };
}

page_form!(BuyForm);
page_form!(HoldForm);

/// The visitor of a demo who sent a form of this page, and the form. The sale and the address are
/// checked before anything is read.
async fn posted<T: PageForm>(
    shop: Arc<ShopPage>,
    peer: Peer,
    sale: String,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<(Visit, T), Problem> {
    shop.attempts.fronts.get(&sale)?;
    shop.attempts.limits.address(peer)?;
    let (visitor, form) = read_form::<T>(&shop, &sale, headers, body).await?;
    if !visitor.is_csrf(&shop.attempts.keys, &sale, form.csrf()) {
        return Err(no_visitor());
    }
    let lang = Lang::of(form.lang(), headers);
    let return_to = shop.ways_back.named(form.return_url())?;
    let visit = Visit::new(shop, sale, lang, Some(visitor), return_to)?;
    Ok((visit, form))
}

/// The form; it is read only from a visitor of a demo.
async fn read_form<T: serde::de::DeserializeOwned>(
    shop: &ShopPage,
    sale: &str,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<(Visitor, T), Problem> {
    let visitor =
        Visitor::known(&shop.attempts.keys, headers).filter(|_| shop.is_demo(sale)).ok_or_else(no_visitor)?;
    want_media_type(headers, "application/x-www-form-urlencoded")?;
    let bytes = body::read(body, FORM_BYTES_MAX, shop.protection.body_timeout()).await?;
    // The query syntax of a URI is that of a form, and the framework reads it.
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let uri = format!("/?{text}")
        .parse::<http::Uri>()
        .map_err(|_| Problem::new(&problem::INVALID, "form: not url-encoded"))?;
    let form = Query::<T>::try_from_uri(&uri)
        .map_err(|e| Problem::new(&problem::INVALID, format!("form: {}", e.body_text())))?;
    Ok((visitor, form.0))
}

fn wants_fragment(headers: &HeaderMap) -> bool {
    headers.contains_key("x-fragment")
}

/// `POST /sales/{sale}/buy`.
pub(super) async fn buy(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Shown {
    let (visit, form) = posted::<BuyForm>(Arc::clone(&shop), peer, sale, &headers, body).await?;
    let fragment = wants_fragment(&headers);
    let bought = match buy_one(&visit, &form).await {
        Ok(bought) => bought,
        Err(problem) => {
            let (status, notice) = (
                http::StatusCode::from_u16(problem.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                problem.detail().to_owned(),
            );
            let markup = visit.show(format!("/sales/{}", visit.sale), Said::Notice(notice), fragment).await;
            let retry_after = problem.into_response().headers().get(header::RETRY_AFTER).cloned();
            let mut response = page(status, markup, None);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            return Ok(response);
        }
    };
    if fragment {
        let markup = visit.show(String::new(), Said::Outcome(Box::new(bought)), true).await;
        return Ok(page(StatusCode::OK, markup, None));
    }
    let is_stored = bought.outcome.as_of.is_none();
    let said = if is_stored {
        String::new()
    } else {
        format!("&said={}", Carried::write(&shop, &visit.sale, &bought))
    };
    let (query, id) = (visit.query(), bought.outcome.attempt);
    let to = format!("/sales/{}/attempts/{id}?lang={}{said}{query}", visit.sale, visit.lang.code());
    Ok(Redirect::to(&to).into_response())
}

async fn buy_one(visit: &Visit, form: &BuyForm) -> Result<Current, Problem> {
    let shop = &visit.shop;
    let pass = visit.pass.as_ref().ok_or_else(no_visitor)?;
    shop.attempts.limits.shopper(pass, shop.protection.now())?;
    if form.key.is_empty() || form.key.len() > 64 || !form.key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::new(&problem::IDEMPOTENCY_KEY, "key: want 1 to 64 visible ASCII characters"));
    }
    if form.quantity == 0 || form.quantity > QUANTITY_MAX {
        return Err(Problem::new(&problem::INVALID, format!("quantity: want 1 to {QUANTITY_MAX}")));
    }
    let view = visit.front.sale.view();
    let item = known_item(&view.spec, &form.item).map_err(|why| Problem::new(&problem::INVALID, why))?;
    let basket = Basket::single(item, form.quantity);
    let id = shop.attempts.keys.attempt_id(view.sale.as_str(), pass.shopper, &form.key);
    let outcome = match shop.attempts.decisions.ask(&visit.front, pass, id, basket).await? {
        Told::InLine(place) => Outcome::queued(id, place),
        Told::Answer(answer) => outcome_of(id, &answer).ok_or_else(|| {
            Problem::new(&problem::KEY_REUSED, "this form was used already: load the page again")
        })?,
    };
    Ok(Current { outcome, basket: Some(basket) })
}

/// `POST /sales/{sale}/pay`: the sandbox's payment, in a demo only.
pub(super) async fn pay(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Shown {
    let pay = |hold| Operation::Confirm { hold, payment: format!("sandbox-{hold}") };
    act(shop, peer, sale, &headers, body, pay).await
}

/// `POST /sales/{sale}/give-back`: gives a hold back, or a place on the waitlist.
pub(super) async fn give_back(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Shown {
    act(shop, peer, sale, &headers, body, |hold| Operation::Release { hold }).await
}

/// What a visitor does with what they have.
async fn act(
    shop: Arc<ShopPage>,
    peer: Peer,
    sale: String,
    headers: &HeaderMap,
    body: axum::body::Body,
    operation: impl FnOnce(AttemptId) -> Operation,
) -> Shown {
    let (visit, form) = posted::<HoldForm>(shop, peer, sale, headers, body).await?;
    let pass = visit.pass.as_ref().ok_or_else(no_visitor)?;
    let hold = form.hold;
    let found = reply(visit.front.sale.lookup(hold, pass.shopper)).await?;
    if !matches!(found.answer, Answer::Granted(_) | Answer::Waitlisted { .. }) {
        return Err(Problem::new(&problem::NOT_FOUND, format!("no hold {hold} of this visitor")));
    }
    let done =
        reply(visit.front.sale.operate(Actor::new(Actor::DEMO, "visitor of the demo"), operation(hold)))
            .await?;
    done.map_err(of_operation)?;
    if wants_fragment(headers) {
        let said = Said::Outcome(Box::new(current(&visit.front, pass, hold).await?));
        return Ok(page(StatusCode::OK, visit.show(String::new(), said, true).await, None));
    }
    let query = visit.query();
    let to = format!("/sales/{}/attempts/{hold}?lang={}{query}", visit.sale, visit.lang.code());
    Ok(Redirect::to(&to).into_response())
}
