//! The page's requests: a visitor looks, buys, gives back, and in a demo pays. Each POST is checked
//! against the visitor's cookie before anything else, and answered with a redirect, so that
//! reloading buys nothing twice.

use super::{
    picture::{allow, allow_origins},
    reply::{Shown, form, page, refusal, with_cookie},
    view::{Form, Known, Own, Said, SalePage, index as index_page},
    visitor::{DemoVisitor, Visitor, entered_cookie},
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
    response::{IntoResponse, Redirect, Response},
};
use contracts::{
    Actor, Answer, AttemptId, Basket, Line, Operation, QUANTITY_MAX, SaleState, SaleStats, SaleView,
    ShopperKey, Told,
};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use std::sync::Arc;
use units::Sequence;
use web::{
    page::{Lang, what_to_do},
    secret::random_bytes,
    server::Peer,
};

const FORM_BYTES_MAX: usize = 4096;
/// The most origins of pictures in the list of sales. Of those after that the words are shown.
const LIST_ORIGINS_MAX: usize = 16;
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
    /// The shop has just sent the shopper, whose browser then has a cookie.
    entered: Option<String>,
    /// How many were before the shopper when the page first said it. Only the bar goes by it.
    from: Option<u64>,
    /// The attempt whose answer the page has already.
    above: Option<AttemptId>,
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
    let mut origins: Vec<&str> = Vec::new();
    for origin in views.iter().flat_map(|view| view.spec.picture_origins()) {
        if origins.len() < LIST_ORIGINS_MAX && !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    let list = page(StatusCode::OK, index_page(lang, &views, &shop.shop_url), None);
    Ok(allow_origins(list, &origins))
}

/// `GET /time`: milliseconds, for the countdown.
pub(super) async fn time(State(shop): State<Arc<ShopPage>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, shop.protection.now().0.to_string()).into_response()
}

/// A visitor at a sale.
struct Visit {
    shop: Arc<ShopPage>,
    front: Arc<Front>,
    sale: String,
    lang: Lang,
    visitor: Option<Visitor>,
    pass: Option<Pass>,
    /// The shop has just sent the visitor.
    has_entered: bool,
    /// A refusal that is shown, as the address carries it.
    carried: Option<String>,
    return_to: Option<ReturnUrl>,
    /// As the query has them.
    line_from: Option<u64>,
    above: Option<AttemptId>,
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
        Ok(Self {
            shop,
            front,
            sale,
            lang,
            visitor,
            pass,
            has_entered: false,
            carried: None,
            return_to,
            line_from: None,
            above: None,
        })
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

    fn known(&self) -> Known {
        match &self.visitor {
            Some(Visitor::Demo(_)) => Known::DemoVisitor,
            Some(Visitor::Shopper(pass)) => Known::Shopper { until: pass.expires_at },
            None => Known::Stranger { has_entered: self.has_entered },
        }
    }

    fn form(&self) -> Option<Form> {
        let visitor = self.visitor.as_ref()?;
        let view = self.front.sale.view();
        let pass = visitor.issue(&self.shop.attempts.passes, &view.sale)?;
        let key = |_| random_bytes::<16>().ok().map(|bytes| BASE64URL_NOPAD.encode(&bytes));
        let idempotency_keys = view.items.iter().map(key).collect::<Option<_>>()?;
        Some(Form { csrf: visitor.csrf(&self.shop.attempts.keys, &self.sale), idempotency_keys, pass })
    }

    /// The sale in figures, if what is said to the shopper is that nothing was left.
    async fn sold(&self, said: &Said) -> Option<Arc<SaleStats>> {
        let Said::Outcome(said) = said else { return None };
        let got_none = matches!(said.outcome.outcome, "sold_out" | "closed");
        let (counts, now) = (&self.shop.sold_counts, self.shop.protection.now());
        if got_none { counts.of(&self.sale, &self.front, now).await } else { None }
    }

    /// A page of the sale, which may load the sale's pictures.
    fn page(&self, markup: Markup, cookie: Option<&str>) -> Response {
        allow(page(StatusCode::OK, markup, cookie), &self.front.sale.view().spec)
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
        let sold = self.sold(&said).await;
        let page = SalePage {
            lang: self.lang,
            now: self.shop.protection.now(),
            view: &view,
            known: self.known(),
            form: self.form(),
            said,
            own,
            above: self.above,
            line_from: self.line_from,
            sold,
            way_back,
            return_url: self.return_to.as_ref().map(ReturnUrl::as_str),
            shop_url: &self.shop.shop_url,
            query: self.query(),
            carried: self.carried.as_deref(),
            path,
        };
        if is_fragment { page.fragment() } else { page.render() }
    }

    /// The page, or the parts of it, with why something was not done.
    async fn refuse(&self, problem: Problem, is_fragment: bool) -> Response {
        let wait = problem.retry_after_seconds().map(u64::from);
        let (title, words) = what_to_do(self.lang, problem.kind(), wait);
        let notice = Said::Notice { title, words, detail: problem.detail().to_owned() };
        let markup = self.show(format!("/sales/{}", self.sale), notice, is_fragment).await;
        allow(refusal(problem, markup), &self.front.sale.view().spec)
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
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Shown {
    shop.attempts.fronts.get(&sale)?;
    let lang = Lang::of(query.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(query.return_url.as_deref())?;
    let known = known_here(&shop, peer, &sale, &headers)?;
    let new = match (&known, shop.is_demo(&sale)) {
        (None, true) => Some(DemoVisitor::new().map_err(|e| Problem::unavailable(&e.to_string()))?),
        _ => None,
    };
    let cookie = new.as_ref().map(|new| new.set_cookie(&shop));
    let visitor = known.or_else(|| new.map(Visitor::Demo));
    let visit = Visit::new(shop, sale, lang, visitor, return_to)?;
    let visit = Visit { has_entered: query.entered.is_some(), above: query.above, ..visit };
    let markup = visit.show(format!("/sales/{}", visit.sale), Said::Nothing, query.fragment.is_some()).await;
    Ok(visit.page(markup, cookie.as_deref()))
}

/// The visitor who asks for a page. What it shows of them is asked of the sale, so the address has
/// the limits that it has for the same question at the API.
fn known_here(
    shop: &ShopPage,
    peer: Peer,
    sale: &str,
    headers: &HeaderMap,
) -> Result<Option<Visitor>, Problem> {
    let known = Visitor::known(shop, sale, headers);
    if known.is_some() {
        shop.attempts.limits.address(peer)?;
    }
    Ok(known)
}

/// `GET /sales/{sale}/attempts/{attempt}`: the outcome.
pub(super) async fn attempt(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path((sale, attempt)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Shown {
    let lang = Lang::of(query.lang.as_deref(), &headers);
    let return_to = shop.ways_back.named(query.return_url.as_deref())?;
    shop.attempts.fronts.get(&sale)?;
    let Some(visitor) = known_here(&shop, peer, &sale, &headers)? else {
        let query = return_to.as_ref().map(ReturnUrl::as_query).unwrap_or_default();
        return Ok(Redirect::to(&format!("/sales/{sale}?lang={}{query}", lang.code())).into_response());
    };
    let id = parse_attempt(&attempt)?;
    let visit = Visit::new(Arc::clone(&shop), sale, lang, Some(visitor), return_to)?;
    let carried = query.said.as_deref().and_then(|said| Carried::parse(&shop, &visit, id, said));
    let carried_text = query.said.filter(|_| carried.is_some());
    let visit = Visit { carried: carried_text, line_from: query.from, ..visit };
    let shown = match (carried, &visit.pass) {
        (Some(refused), _) => refused,
        (None, Some(pass)) => current(&visit.front, pass, id).await?,
        (None, None) => return Err(no_visitor(&visit.shop, &visit.sale)),
    };
    let path = format!("/sales/{}/attempts/{id}", visit.sale);
    let markup = visit.show(path, Said::Outcome(Box::new(shown)), query.fragment.is_some()).await;
    Ok(visit.page(markup, None))
}

/// A refusal that a redirect carries.
struct Carried;

impl Carried {
    /// It is of one shopper: shown to another, it would be signed as that shopper's for the shop.
    fn proof(shop: &ShopPage, sale: &str, shopper: ShopperKey, attempt: AttemptId, fields: &str) -> String {
        shop.attempts.keys.page_token("said", &[sale, &shopper.to_string(), &attempt.to_string(), fields])
    }

    /// `sold_out.as_of.held_by.item.quantity.proof`
    fn write(shop: &ShopPage, sale: &str, shopper: ShopperKey, said: &Current) -> String {
        let outcome = &said.outcome;
        let as_of = outcome.as_of.unwrap_or_default();
        let held_by = outcome.held_by.map(|id| id.to_string()).unwrap_or_default();
        let line = said.basket.and_then(|basket| basket.first().copied()).unwrap_or_default();
        let fields = format!("{}.{as_of}.{held_by}.{}.{}", outcome.outcome, line.item, line.quantity);
        let proof = Self::proof(shop, sale, shopper, outcome.attempt, &fields);
        format!("{fields}.{proof}")
    }

    fn parse(shop: &ShopPage, visit: &Visit, attempt: AttemptId, text: &str) -> Option<Current> {
        let (fields, proof) = text.rsplit_once('.')?;
        let (shopper, attempt_text) = (visit.pass.as_ref()?.shopper.to_string(), attempt.to_string());
        let said = [&*visit.sale, &*shopper, &*attempt_text, fields];
        if !shop.attempts.keys.is_page_token(proof, "said", &said) {
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

fn no_visitor(shop: &ShopPage, sale: &str) -> Problem {
    let why = match shop.is_demo(sale) {
        true => "the form does not fit the visitor's cookie: load the page again, with cookies allowed",
        false => {
            "the form does not fit the shopper's cookie, or that is over: open the sale from the shop again, with cookies allowed"
        }
    };
    Problem::new(&problem::FORM_REFUSED, why)
}

/// A form with nothing but what every form of the page has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BareForm {
    csrf: String,
    #[serde(default)]
    lang: Option<String>,
    #[serde(default)]
    return_url: Option<String>,
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

page_form!(BareForm);
page_form!(BuyForm);
page_form!(HoldForm);

/// The visitor who sent a form of this page, and the form. The sale, the address and the cookie are
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
    let visitor = Visitor::known(&shop, &sale, headers).ok_or_else(|| no_visitor(&shop, &sale))?;
    let form = form::<T>(&shop, headers, body, FORM_BYTES_MAX).await?;
    if !visitor.is_csrf(&shop.attempts.keys, &sale, form.csrf()) {
        return Err(no_visitor(&shop, &sale));
    }
    let lang = Lang::of(form.lang(), headers);
    let return_to = shop.ways_back.named(form.return_url())?;
    let visit = Visit::new(shop, sale, lang, Some(visitor), return_to)?;
    Ok((visit, form))
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
        Err(problem) => return Ok(visit.refuse(problem, fragment).await),
    };
    if fragment {
        let markup = visit.show(String::new(), Said::Outcome(Box::new(bought)), true).await;
        return Ok(visit.page(markup, None));
    }
    // What has no such number is stored, and is looked up again.
    let said = match (bought.outcome.as_of, &visit.pass) {
        (Some(_), Some(pass)) => {
            format!("&said={}", Carried::write(&shop, &visit.sale, pass.shopper, &bought))
        }
        _ => String::new(),
    };
    let (query, id) = (visit.query(), bought.outcome.attempt);
    let to = format!("/sales/{}/attempts/{id}?lang={}{said}{query}", visit.sale, visit.lang.code());
    Ok(Redirect::to(&to).into_response())
}

async fn buy_one(visit: &Visit, form: &BuyForm) -> Result<Current, Problem> {
    let shop = &visit.shop;
    let pass = visit.pass.as_ref().ok_or_else(|| no_visitor(shop, &visit.sale))?;
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
    // At the API this is what the round key is for: before the opening nothing goes to the writer.
    if view.state == SaleState::Scheduled {
        let outcome = Outcome { as_of: Some(view.as_of), ..Outcome::plain(id, "not_open") };
        return Ok(Current { outcome, basket: Some(basket) });
    }
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
    if let Some(Visitor::Shopper(_)) = Visitor::known(&shop, &sale, &headers) {
        let why = "the shop takes the payment: follow the page's link to it";
        return Err(Problem::new(&problem::NOT_FOUND, why));
    }
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

/// `POST /sales/{sale}/leave`: the browser forgets the shopper.
pub(super) async fn leave(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Shown {
    let (visit, _) = posted::<BareForm>(shop, peer, sale, &headers, body).await?;
    let to = format!("/sales/{}?lang={}{}", visit.sale, visit.lang.code(), visit.query());
    let gone = entered_cookie(&visit.shop, &visit.sale, "", 0);
    Ok(with_cookie(Redirect::to(&to).into_response(), Some(&gone)))
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
    let pass = visit.pass.as_ref().ok_or_else(|| no_visitor(&visit.shop, &visit.sale))?;
    let fragment = wants_fragment(headers);
    if matches!(visit.visitor, Some(Visitor::Shopper(_)))
        && let Err(problem) = visit.shop.attempts.limits.give_back(pass)
    {
        return Ok(visit.refuse(problem, fragment).await);
    }
    let hold = form.hold;
    let found = reply(visit.front.sale.lookup(hold, pass.shopper)).await?;
    if !matches!(found.answer, Answer::Granted(_) | Answer::Waitlisted { .. }) {
        return Err(Problem::new(&problem::NOT_FOUND, format!("no hold {hold} of this visitor")));
    }
    let actor = match &visit.visitor {
        Some(Visitor::Demo(_)) => Actor::new(Actor::DEMO, "visitor of the demo"),
        _ => Actor::giving_back(),
    };
    let done = reply(visit.front.sale.operate(actor, operation(hold))).await?;
    if let Err(error) = done {
        return Ok(visit.refuse(of_operation(error), fragment).await);
    }
    if fragment {
        let said = Said::Outcome(Box::new(current(&visit.front, pass, hold).await?));
        return Ok(visit.page(visit.show(String::new(), said, true).await, None));
    }
    let query = visit.query();
    let to = format!("/sales/{}/attempts/{hold}?lang={}{query}", visit.sale, visit.lang.code());
    Ok(Redirect::to(&to).into_response())
}
