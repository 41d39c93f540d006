//! The page's requests: a visitor looks, buys, pays. Each POST is checked against the visitor's
//! cookie before anything else, and answered with a redirect, so that reloading buys nothing twice.

use super::{
    view::{Form, SalePage, index as index_page},
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
use contracts::{Actor, Answer, AttemptId, Basket, Operation, QUANTITY_MAX, SaleView, Told};
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
        let (pass, _) = self.shop.attempts.passes.issue(&self.front.sale.view().sale, &visitor.shopper())?;
        let idempotency_key = BASE64URL_NOPAD.encode(&random_bytes::<16>().ok()?);
        Some(Form { csrf: visitor.csrf(&self.shop.attempts.keys, &self.sale), idempotency_key, pass })
    }

    fn show(
        &self,
        path: String,
        shown: Option<Current>,
        notice: Option<String>,
        answered: bool,
        fragment: bool,
    ) -> Markup {
        let view = self.front.sale.view();
        let page = SalePage {
            lang: self.lang,
            now: self.shop.protection.now(),
            view: &view,
            demo: self.shop.is_demo(&self.sale),
            form: self.form(),
            way_back: shown.as_ref().and_then(|shown| self.way_back(&view, shown)),
            return_url: self.return_to.as_ref().map(ReturnUrl::as_str),
            query: self.query(),
            outcome: shown.map(|shown| shown.outcome),
            notice,
            path,
            answered,
        };
        if fragment { page.outcome_fragment() } else { page.render() }
    }

    /// The newest attempt that the sale keeps of this visitor, so that a closed tab loses nothing.
    async fn newest(&self) -> Option<Current> {
        let pass = self.pass.as_ref()?;
        let record = reply(self.front.sale.shopper(pass.shopper)).await.ok()?;
        let stored = record.attempts.first()?;
        let outcome = outcome_of(stored.id, &stored.answer)?;
        Some(Current { outcome, basket: Some(stored.basket) })
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
    let newest = if new.is_none() { visit.newest().await } else { None };
    let markup = visit.show(format!("/sales/{}", visit.sale), newest, None, false, false);
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
    let said = query.said.as_deref().and_then(|said| Said::parse(&shop, &visit.sale, id, said));
    let shown = match (said, &visit.pass) {
        (Some(outcome), _) => Current { outcome, basket: None },
        (None, Some(pass)) => current(&visit.front, pass, id).await?,
        (None, None) => return Err(no_visitor()),
    };
    let path = format!("/sales/{}/attempts/{id}", visit.sale);
    Ok(page(StatusCode::OK, visit.show(path, Some(shown), None, true, query.fragment.is_some()), None))
}

/// A refusal that a redirect carries.
struct Said;

impl Said {
    fn write(shop: &ShopPage, sale: &str, outcome: &Outcome) -> String {
        let as_of = outcome.as_of.unwrap_or_default().to_string();
        let held_by = outcome.held_by.map(|id| id.to_string()).unwrap_or_default();
        let proof = shop
            .attempts
            .keys
            .page_token("said", &[sale, &outcome.attempt.to_string(), outcome.outcome, &as_of, &held_by]);
        format!("{}.{as_of}.{held_by}.{proof}", outcome.outcome)
    }

    fn parse(shop: &ShopPage, sale: &str, attempt: AttemptId, said: &str) -> Option<Outcome> {
        let mut parts = said.split('.');
        let (name, as_of, held_by, proof) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let outcome = OUTCOMES.into_iter().find(|o| *o == name)?;
        if !shop.attempts.keys.is_page_token(
            proof,
            "said",
            &[sale, &attempt.to_string(), outcome, as_of, held_by],
        ) {
            return None;
        }
        let as_of = Some(Sequence(as_of.parse().ok()?));
        Some(Outcome { as_of, held_by: held_by.parse().ok(), ..Outcome::plain(attempt, outcome) })
    }
}

fn no_visitor() -> Problem {
    Problem::new(
        &problem::FORM_REFUSED,
        "the form does not fit the visitor's cookie: load the page again, with cookies allowed",
    )
}

#[derive(Debug, Deserialize)]
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
struct PayForm {
    csrf: String,
    hold: AttemptId,
    #[serde(default)]
    lang: Option<String>,
    #[serde(default)]
    return_url: Option<String>,
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
    shop.attempts.fronts.get(&sale)?;
    shop.attempts.limits.address(peer)?;
    let (visitor, form) = read_form::<BuyForm>(&shop, &sale, &headers, body).await?;
    if !visitor.is_csrf(&shop.attempts.keys, &sale, &form.csrf) {
        return Err(no_visitor());
    }
    let lang = Lang::of(form.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(form.return_url.as_deref())?;
    let visit = Visit::new(Arc::clone(&shop), sale, lang, Some(visitor), return_to)?;
    let fragment = wants_fragment(&headers);
    let bought = match buy_one(&visit, &form).await {
        Ok(bought) => bought,
        Err(problem) => {
            let (status, notice) = (
                http::StatusCode::from_u16(problem.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                problem.detail().to_owned(),
            );
            let markup = visit.show(format!("/sales/{}", visit.sale), None, Some(notice), true, fragment);
            let retry_after = problem.into_response().headers().get(header::RETRY_AFTER).cloned();
            let mut response = page(status, markup, None);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            return Ok(response);
        }
    };
    if fragment {
        return Ok(page(StatusCode::OK, visit.show(String::new(), Some(bought), None, true, true), None));
    }
    let outcome = bought.outcome;
    let stored = outcome.as_of.is_none();
    let said =
        if stored { String::new() } else { format!("&said={}", Said::write(&shop, &visit.sale, &outcome)) };
    let query = visit.query();
    let to = format!("/sales/{}/attempts/{}?lang={}{said}{query}", visit.sale, outcome.attempt, lang.code());
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
    shop.attempts.fronts.get(&sale)?;
    shop.attempts.limits.address(peer)?;
    let (visitor, form) = read_form::<PayForm>(&shop, &sale, &headers, body).await?;
    if !visitor.is_csrf(&shop.attempts.keys, &sale, &form.csrf) {
        return Err(no_visitor());
    }
    let lang = Lang::of(form.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(form.return_url.as_deref())?;
    let visit = Visit::new(Arc::clone(&shop), sale, lang, Some(visitor), return_to)?;
    let pass = visit.pass.as_ref().ok_or_else(no_visitor)?;
    let hold = form.hold;
    let found = reply(visit.front.sale.lookup(hold, pass.shopper)).await?;
    if !matches!(found.answer, Answer::Granted(_) | Answer::Waitlisted { .. }) {
        return Err(Problem::new(&problem::NOT_FOUND, format!("no hold {hold} of this visitor")));
    }
    let confirm = Operation::Confirm { hold, payment: format!("sandbox-{hold}") };
    let paid = reply(visit.front.sale.operate(Actor::new("demo", "sandbox payment"), confirm)).await?;
    paid.map_err(of_operation)?;
    if wants_fragment(&headers) {
        let paid = current(&visit.front, pass, hold).await?;
        return Ok(page(StatusCode::OK, visit.show(String::new(), Some(paid), None, true, true), None));
    }
    let query = visit.query();
    let to = format!("/sales/{}/attempts/{hold}?lang={}{query}", visit.sale, lang.code());
    Ok(Redirect::to(&to).into_response())
}
