//! How a shopper comes from the shop to the sale's page, with or without JavaScript: a form of the
//! shop's page sends the shop's token here, and the browser gets a cookie for the sale.
//!
//! All that is checked before the API issues a pass is checked here too. And the Origin: without
//! that, a page of any other site could send a token of its owner's, and a shopper who looks at it
//! would buy for that owner. The token is in the body alone: no URL has it, no cookie, and no log.

use super::{
    enter_view::{Entrance, Why},
    reply::{Shown, form, with_cookie},
    visitor::{ENTERED_SECONDS_MAX, entered_cookie},
};
use crate::{
    attempts::Attempts,
    basket::known_item,
    browser,
    challenge::{CodeAnswer, Made, Solution},
    front::Front,
    problem::{self, Problem},
    return_url::ReturnUrl,
    shop_page::ShopPage,
};
use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    body::clip,
    jwt::Shopper,
    page::{Lang, PageOfProblem},
    server::Peer,
};

/// A token has at most 4,096 bytes, an encoded return URL 3,072, and a solution some 600.
const FORM_BYTES_MAX: usize = 12 << 10;

/// What the shop's page sends; and the page that asks for a solution, which sends it once more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnterForm {
    token: String,
    #[serde(default)]
    return_url: String,
    #[serde(default)]
    lang: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    code_id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    altcha: String,
    /// `audio` for a code that is heard.
    #[serde(default)]
    media: String,
}

impl EnterForm {
    fn solution(&self) -> Option<Solution> {
        match (self.altcha.as_str(), self.code.trim()) {
            ("", "") => None,
            ("", answer) => {
                let (id, answer) = (self.code_id.clone(), answer.to_owned());
                Some(Solution::Code(CodeAnswer { id, answer }))
            }
            (altcha, _) => Some(Solution::Altcha(altcha.to_owned())),
        }
    }
}

/// A shopper who comes to a sale.
struct Entering {
    shop: Arc<ShopPage>,
    front: Arc<Front>,
    lang: Lang,
    return_to: Option<ReturnUrl>,
    form: EnterForm,
}

/// Why a shopper does not get in with this request, and what is to be solved, if it is that.
struct NotYet {
    problem: Problem,
    made: Option<Made>,
}

impl From<Problem> for NotYet {
    fn from(problem: Problem) -> Self {
        Self { problem, made: None }
    }
}

/// `POST /sales/{sale}/enter`.
pub(super) async fn enter(
    State(shop): State<Arc<ShopPage>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Shown {
    let front = shop.attempts.fronts.get(&sale)?;
    shop.attempts.limits.address(peer)?;
    want_origin(&shop, &uri, &headers)?;
    let form: EnterForm = form(&shop, &headers, body, FORM_BYTES_MAX).await?;
    let lang = Lang::of(Some(form.lang.as_str()).filter(|lang| !lang.is_empty()), &headers);
    let return_to = shop.ways_back.named(Some(form.return_url.as_str()).filter(|url| !url.is_empty()))?;
    if !form.item.is_empty() {
        known_item(&front.sale.view().spec, &form.item)
            .map_err(|why| Problem::new(&problem::INVALID, why))?;
    }
    let entering = Entering { shop, front, lang, return_to, form };
    match entering.admit(peer, &headers).await {
        Ok((pass, seconds)) => Ok(entering.go_on(&sale, &pass, seconds)),
        Err(not_yet) => Ok(entering.explain(&sale, not_yet)),
    }
}

/// The page that sent the form must be of an allowed origin, or this server's own.
fn want_origin(shop: &ShopPage, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let field = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    let origin = field("origin").unwrap_or_default();
    let is_own = || {
        let host = origin.split_once("://").map(|(_, host)| host);
        // HTTP/2 has the authority in the place of Host.
        let own = field("host").or_else(|| uri.authority().map(http::uri::Authority::as_str));
        origin == shop.public_origin || (shop.public_origin.is_empty() && host.is_some() && host == own)
    };
    if !origin.is_empty() && (shop.protection.cors.allows(headers) || is_own()) {
        return Ok(());
    }
    let why = format!(
        "Origin {:?}: want one of gate.allowed_origins, from which the form is sent; a page whose Referrer-Policy is no-referrer or same-origin \
         hides its origin, so it needs another, such as strict-origin",
        clip(origin)
    );
    Err(Problem::new(&problem::FORM_REFUSED, why))
}

impl Entering {
    /// A pass of the shopper whom the token names, and for how many seconds the page may know them.
    async fn admit(&self, peer: Peer, headers: &HeaderMap) -> Result<(String, u64), NotYet> {
        let passes = &self.shop.attempts.passes;
        let shopper = passes.shopper_of(&self.form.token)?;
        let sale = self.front.sale.view().sale.clone();
        let solution = self.form.solution();
        if solution.is_none() && passes.asks_for_solution() {
            let why = "this sale asks for a solution first";
            return Err(self
                .ask(Problem::new(&problem::CHALLENGE_MISSING, why), &shopper, peer, headers)
                .await);
        }
        passes.let_ask(peer, headers)?;
        if let Err(problem) = passes.redeem(&sale, &shopper, peer, solution.as_ref()).await {
            let is_to_be_solved =
                problem.is(&problem::CHALLENGE_REFUSED) || problem.is(&problem::CHALLENGE_MISSING);
            return Err(match is_to_be_solved {
                true => self.ask(problem, &shopper, peer, headers).await,
                false => problem.into(),
            });
        }
        let (pass, expires_at) = passes.give(&sale, &shopper, peer, ENTERED_SECONDS_MAX)?;
        Ok((pass, expires_at.since(self.shop.protection.now()).0 / 1000))
    }

    /// Refuses for want of a solution, with a challenge to be solved.
    async fn ask(&self, problem: Problem, shopper: &Shopper, peer: Peer, headers: &HeaderMap) -> NotYet {
        let Attempts { limits, passes, .. } = &*self.shop.attempts;
        limits.filter.asked(peer.0, browser::is_bare(headers), self.shop.protection.now());
        let sale = self.front.sale.view().sale.clone();
        match passes.challenge(&sale, shopper, peer, self.form.media == "audio").await {
            Ok(made) => NotYet { problem, made: Some(made) },
            Err(problem) => problem.into(),
        }
    }

    /// On to the sale's page, with the cookie.
    fn go_on(&self, sale: &str, pass: &str, seconds: u64) -> Response {
        let query = self.return_to.as_ref().map(ReturnUrl::as_query).unwrap_or_default();
        let item = match self.form.item.as_str() {
            "" => String::new(),
            item => format!("#item-{item}"),
        };
        let to = format!("/sales/{sale}?lang={}&entered=1{query}{item}", self.lang.code());
        let cookie = entered_cookie(&self.shop, sale, pass, seconds);
        with_cookie(Redirect::to(&to).into_response(), Some(&cookie))
    }

    /// The problem; for a person a page that says what to do, or has what is to be solved.
    fn explain(&self, sale: &str, NotYet { problem, made }: NotYet) -> Response {
        let view = self.front.sale.view();
        let page = Entrance {
            lang: self.lang,
            sale,
            spec: &view.spec,
            token: &self.form.token,
            item: &self.form.item,
            return_url: self.return_to.as_ref().map(ReturnUrl::as_str),
            shop_url: &self.shop.shop_url,
            why: match &made {
                Some(made) => Why::Solve { made, was_wrong: problem.is(&problem::CHALLENGE_REFUSED) },
                None if problem.is(&problem::TOKEN_REFUSED) => Why::Token,
                None => Why::Later,
            },
            detail: problem.detail(),
            now: self.shop.protection.now(),
        };
        let page = page.render().into_string();
        let mut response = problem.into_response();
        response.extensions_mut().insert(PageOfProblem(page));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if made.is_some() {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY_WITH_CODE));
        }
        response
    }
}

/// That of the other pages, but for the picture or the sound of a code, which are in the page.
const POLICY_WITH_CODE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; media-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
