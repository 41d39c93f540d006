//! Who looks at a page, in which language, and whose form it is.

use crate::parts::{Parts, Shop};
use axum::{
    extract::{FromRef, FromRequestParts},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{AccountId, CartOwner, Guest, GuestCart, Language, SignedIn, StoreError};
use http::{HeaderMap, HeaderValue, Method, header, request};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use web::{
    body::cookie,
    form::PlainForm,
    net::Peer,
    page::{LANGUAGE_COOKIE, Lang, Refused},
    problem::{FORM_REFUSED, Problem, RATE_LIMITED},
};

const SESSION: &str = "shop_session";
const CART: &str = "shop_cart";
const CART_SECONDS: u64 = 30 * 86_400;
const GUEST: &str = "shop_guest";
/// As long as a letter's link to an order is good.
const GUEST_SECONDS: u64 = 180 * 86_400;
/// Orders of a guest that a browser remembers: the newest ones. Letters lead to all.
const GUEST_ORDERS_MAX: usize = 5;
const LANGUAGE_SECONDS: u64 = 365 * 86_400;
/// Bytes of an address that a page of a problem repeats.
const HERE_MAX: usize = 512;
/// The field of a form that only a page of the session knows.
pub(crate) const TOKEN_FIELD: &str = "form";

/// The visitor of a page.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) lang: Lang,
    pub(crate) signed_in: Option<SignedIn>,
    /// The cart from before the visitor logged in.
    pub(crate) guest: Option<GuestCart>,
    /// The guest whose order the page is about, with the secret that the browser has.
    pub(crate) buyer: Option<(Guest, String)>,
    /// Secrets of orders that the visitor has made as a guest.
    guest_orders: Vec<String>,
    /// What this browser brings back from the provider of identities.
    pub(crate) at_provider: Option<String>,
    /// The page's path with its query, without the language.
    pub(crate) here: String,
    /// Accounts do not answer: it is not known who this is.
    is_unknown: bool,
    /// The language was chosen with this request, and is to be remembered.
    chooses: bool,
}

/// The page that has the form that is sent to this path: a form's own path may have no page.
fn page_of_form(path: &str) -> &str {
    match path {
        "/account/name" | "/account/password" | "/account/log-out-elsewhere" => "/account/settings",
        "/account/addresses/forget" | "/account/data" => "/account",
        "/account/log-out" => "/",
        "/guest/account" | "/guest/data" | "/guest/forget" => "/",
        "/account/provider" => "/account/log-in",
        "/account/provider/connect" | "/account/provider/disconnect" => "/account/settings",
        "/cart/lines" => "/cart",
        _ => match path.strip_prefix("/orders/").and_then(|rest| rest.split_once('/')) {
            Some((order, "address" | "return")) if !order.is_empty() => path,
            Some((order, _)) => &path[.."/orders/".len() + order.len()],
            None => path,
        },
    }
}

impl FromRequestParts<Parts> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &Parts) -> Result<Self, Problem> {
        let shop = Arc::<Shop>::from_ref(state);
        let query = parts.uri.query().unwrap_or_default();
        let chooses = query.split('&').any(|pair| pair.starts_with("lang="));
        let lang = Lang::chosen(Some(query), &parts.headers);
        let here = here(&parts.method, &parts.uri);
        let found = match cookie(&parts.headers, SESSION) {
            Some(session) => shop.accounts.session(session.to_owned()).await,
            None => Ok(None),
        };
        // Without accounts the shop is still there to look at.
        let (is_unknown, signed_in) = (found.is_err(), found.unwrap_or_default());
        let guest = cookie(&parts.headers, CART).and_then(|secret| secret.parse().ok());
        let at_provider = cookie(&parts.headers, at_provider(&shop)).map(str::to_owned);
        let guest_orders = cookie(&parts.headers, GUEST).unwrap_or_default().split('.');
        let guest_orders: Vec<String> =
            guest_orders.filter(|of| !of.is_empty()).take(GUEST_ORDERS_MAX).map(str::to_owned).collect();
        let bought = buyer(&shop, parts.uri.path(), &guest_orders).await;
        let is_unknown = is_unknown || bought.is_err();
        let buyer = bought.unwrap_or_default();
        Ok(Self { lang, signed_in, guest, buyer, guest_orders, at_provider, here, is_unknown, chooses })
    }
}

/// The guest whose order the page at this path is about, and the secret of it.
async fn buyer(shop: &Shop, path: &str, secrets: &[String]) -> Result<Option<(Guest, String)>, StoreError> {
    let Some(order) = path.strip_prefix("/orders/").and_then(|rest| rest.split('/').next()) else {
        return Ok(None);
    };
    for secret in secrets {
        let found = shop.guests.guest(secret.clone()).await?;
        if let Some(guest) = found.filter(|guest| guest.order.to_string() == order) {
            return Ok(Some((guest, secret.clone())));
        }
    }
    Ok(None)
}

/// Where the visitor is: the page's path with its query, without the language.
fn here(method: &Method, uri: &http::Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let others: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("lang=")).collect();
    let is_page = [Method::GET, Method::HEAD].contains(method);
    let path = own_path(if is_page { uri.path() } else { page_of_form(uri.path()) });
    if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) }
}

impl Visitor {
    /// The visitor who is shown a problem. Nothing is asked, as it may be what is wrong: a visitor
    /// with a session's cookie may be signed in.
    pub(crate) fn of_problem(refused: &Refused<'_>) -> Self {
        Self {
            lang: Lang::chosen(refused.uri.query(), refused.headers),
            signed_in: None,
            guest: None,
            buyer: None,
            guest_orders: Vec::new(),
            at_provider: None,
            // An answer is never much longer than what it answers.
            here: Some(here(refused.method, refused.uri))
                .filter(|here| here.len() <= HERE_MAX)
                .unwrap_or_else(|| "/".into()),
            is_unknown: cookie(refused.headers, SESSION).is_some(),
            chooses: false,
        }
    }

    /// It is not known whether the visitor is signed in.
    pub(crate) fn may_be_signed_in(&self) -> bool {
        self.is_unknown
    }

    /// Nothing on a page says who the visitor is, nor what is in a cart.
    pub(crate) fn is_anybody(&self) -> bool {
        let is_private = self.here.starts_with("/account") || self.here.starts_with("/guest/");
        self.signed_in.is_none()
            && self.guest.is_none()
            && self.buyer.is_none()
            && !self.is_unknown
            && !is_private
    }

    pub(crate) fn account(&self) -> Option<AccountId> {
        self.signed_in.as_ref().map(|signed_in| signed_in.account)
    }

    /// Whose order the page is about: that of a guest, or of the visitor's account.
    pub(crate) fn shopper(&self) -> Option<AccountId> {
        self.buyer.as_ref().map(|(guest, _)| guest.shopper).or_else(|| self.account())
    }

    /// What forms about that order carry.
    pub(crate) fn order_csrf(&self) -> &str {
        self.buyer.as_ref().map_or_else(|| self.csrf(), |(guest, _)| &guest.csrf)
    }

    /// Whose cart it is; `None` of a visitor who has none yet.
    pub(crate) fn cart_owner(&self) -> Result<Option<CartOwner>, Problem> {
        self.known()?;
        let guest = || self.guest.clone().map(CartOwner::Guest);
        Ok(self.account().map(CartOwner::Account).or_else(guest))
    }

    /// Units in the visitor's cart, for the top of a page: a page is shown without them too.
    pub(crate) async fn cart_units(&self, shop: &Shop) -> u32 {
        match self.cart_owner() {
            Ok(Some(owner)) => shop.carts.units(owner).await.unwrap_or_default(),
            Ok(None) | Err(_) => 0,
        }
    }

    /// What forms of this session carry; empty of a visitor who is not logged in.
    pub(crate) fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| &signed_in.csrf)
    }

    /// Where to log in, to come back here; unless it is only not known now who this is.
    pub(crate) fn to_log_in(&self) -> Result<Response, Problem> {
        self.known()?;
        Ok(Redirect::to(&log_in_path(&self.here)).into_response())
    }

    fn known(&self) -> Result<(), Problem> {
        match self.is_unknown {
            true => Err(Problem::unavailable("accounts cannot be read at the moment")),
            false => Ok(()),
        }
    }

    /// Remembers the language, if it was chosen with this request.
    pub(crate) fn remember(&self, response: &mut Response) {
        if self.chooses {
            let lang = self.lang.code();
            let value = format!("{LANGUAGE_COOKIE}={lang}; Path=/; Max-Age={LANGUAGE_SECONDS}; SameSite=Lax");
            append(response, value);
        }
    }
}

fn append(response: &mut Response, cookie: String) {
    let value = HeaderValue::try_from(cookie).expect("cookies are made of letters");
    response.headers_mut().append(header::SET_COOKIE, value);
}

/// In which language letters to a visitor of a page are.
pub(crate) fn language(lang: Lang) -> Language {
    match lang {
        Lang::En => Language::En,
        Lang::Zh => Language::Zh,
    }
}

/// Where a visitor logs in who wants to see `path`. None comes back to a page of logging in or of a
/// letter's link, whose path may have a secret.
pub(crate) fn log_in_path(path: &str) -> String {
    let is_secret = (path.starts_with("/account/") && !path.starts_with("/account/settings"))
        || path.starts_with("/guest/");
    let path = if is_secret { "/" } else { path };
    let next: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
    format!("/account/log-in?next={next}")
}

/// A path of this shop that a form or a link names; the home page for everything else.
pub(crate) fn own_path(text: &str) -> &str {
    let is_own = text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { text } else { "/" }
}

/// Gives the visitor the cookie of a session.
pub(crate) fn begin_session(shop: &Shop, signed_in: &SignedIn, response: &mut Response) {
    let SignedIn { session, seconds, .. } = signed_in;
    let secure = if shop.protection.is_https { "; Secure" } else { "" };
    append(
        response,
        format!("{SESSION}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"),
    );
}

/// The cookie of a browser that is at the provider of identities. With TLS no other host of the
/// shop's domain can set it: who could would have visitors log in to an account of theirs.
fn at_provider(shop: &Shop) -> &'static str {
    if shop.protection.is_https { "__Host-shop_at_provider" } else { "shop_at_provider" }
}

/// Gives the visitor the cookie to bring back, or takes it away.
pub(crate) fn set_at_provider(shop: &Shop, to: Option<(&str, u64)>, response: &mut Response) {
    let secure = if shop.protection.is_https { "; Secure" } else { "" };
    let (name, (value, seconds)) = (at_provider(shop), to.unwrap_or_default());
    append(response, format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"));
}

/// Lets an address make one more cart.
pub(crate) fn may_make_cart(shop: &Shop, Peer(address): Peer) -> Result<GuestCart, Problem> {
    let (protection, addresses) = (&shop.protection, &shop.protection.addresses);
    if !addresses.is_exempt(address) {
        let wait = |seconds| {
            let why = "too many new carts from this address: wait as Retry-After says";
            Problem::new(&RATE_LIMITED, why).retry_after(seconds)
        };
        let key = addresses.address_key(address);
        shop.new_carts.take(key, protection.now().0).map_err(wait)?;
    }
    let random = web::secret::random_bytes::<16>();
    random.map(GuestCart::new).map_err(|_| Problem::unavailable("no random bytes are to be had now"))
}

/// Gives the visitor the cookie of a cart.
pub(crate) fn give_cart(shop: &Shop, cart: &GuestCart, response: &mut Response) {
    let secure = if shop.protection.is_https { "; Secure" } else { "" };
    let cart = cart.as_str();
    append(
        response,
        format!("{CART}={cart}; Path=/; Max-Age={CART_SECONDS}; HttpOnly; SameSite=Lax{secure}"),
    );
}

/// Remembers the secret of a guest's order.
pub(crate) fn remember_order(shop: &Shop, visitor: &Visitor, secret: &str, response: &mut Response) {
    let secure = if shop.protection.is_https { "; Secure" } else { "" };
    let others = visitor.guest_orders.iter().map(String::as_str).filter(|of| *of != secret);
    let all: Vec<&str> = std::iter::once(secret).chain(others).take(GUEST_ORDERS_MAX).collect();
    let is_plain = |of: &str| of.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let all: Vec<&str> = all.into_iter().filter(|of| is_plain(of)).collect();
    let value = all.join(".");
    append(
        response,
        format!("{GUEST}={value}; Path=/; Max-Age={GUEST_SECONDS}; HttpOnly; SameSite=Lax{secure}"),
    );
}

/// What is in the cart from before comes into the account's. If that cannot be now, the cookie
/// stays for the next log-in.
pub(crate) async fn bring_cart(shop: &Shop, visitor: &Visitor, account: AccountId, response: &mut Response) {
    let Some(guest) = visitor.guest.clone() else { return };
    match shop.carts.merge(guest, account).await {
        Ok(()) => append(response, format!("{CART}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")),
        Err(error) => tracing::warn!(%account, %error, "a cart waits for the next log-in"),
    }
}

/// Takes it away.
pub(crate) fn end_session(response: &mut Response) {
    append(response, format!("{SESSION}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"));
}

/// The session with which a form was sent, after it was checked that a page of that session sent
/// it.
pub(crate) fn session_of<'a, const MAX: usize>(
    visitor: &'a Visitor,
    form: &PlainForm<MAX>,
) -> Result<&'a SignedIn, Problem> {
    visitor.known()?;
    let signed_in = visitor
        .signed_in
        .as_ref()
        .ok_or_else(|| Problem::new(&FORM_REFUSED, "the session is over: log in, and send the form again"))?;
    match bool::from(form.field(TOKEN_FIELD).as_bytes().ct_eq(signed_in.csrf.as_bytes())) {
        true => Ok(signed_in),
        false => Err(Problem::new(
            &FORM_REFUSED,
            "the form is not of this session: load the page again, and send its form",
        )),
    }
}

/// Whose order a form is about, after it was checked that a page for it sent it.
pub(crate) fn shopper_of<const MAX: usize>(
    visitor: &Visitor,
    form: &PlainForm<MAX>,
) -> Result<AccountId, Problem> {
    let Some((guest, _)) = &visitor.buyer else { return Ok(session_of(visitor, form)?.account) };
    match bool::from(form.field(TOKEN_FIELD).as_bytes().ct_eq(guest.csrf.as_bytes())) {
        true => Ok(guest.shopper),
        false => Err(Problem::new(
            &FORM_REFUSED,
            "the form is not of this order: load the page again, and send its form",
        )),
    }
}

/// Lets an address check out as a guest once more: units are set aside, and a letter is written.
pub(crate) fn may_check_out(shop: &Shop, Peer(address): Peer) -> Result<(), Problem> {
    let (protection, addresses) = (&shop.protection, &shop.protection.addresses);
    let key = addresses.address_key(address);
    if !addresses.is_exempt(address) {
        let wait = |seconds| {
            let why = "too many orders without an account from this address: wait as Retry-After says";
            Problem::new(&RATE_LIMITED, why).retry_after(seconds)
        };
        shop.guest_check_outs.take(key, protection.now().0).map_err(wait)?;
    }
    Ok(())
}

/// Lets an address send one of the forms that cost a password's hash. Returns what stands for its
/// network.
pub(crate) fn ask_to_sign_in(shop: &Shop, Peer(address): Peer) -> Result<u64, Problem> {
    let (protection, addresses) = (&shop.protection, &shop.protection.addresses);
    let key = addresses.address_key(address);
    if !addresses.is_exempt(address) {
        let wait = |seconds| {
            let why = "too many log-ins from this address: wait as Retry-After says";
            Problem::new(&RATE_LIMITED, why).retry_after(seconds)
        };
        shop.sign_ins.take(key, protection.now().0).map_err(wait)?;
    }
    Ok(key)
}

/// Refuses a form that a page of another site has sent: for forms of visitors without a session,
/// who have no token. Browsers say where a form is from (Fetch Metadata; RFC 6454, section 7).
pub(crate) fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let value = |name: http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    let origin = value(header::ORIGIN);
    let is_other = match (site, origin, value(header::HOST)) {
        (Some(site), _, _) => !["same-origin", "none"].contains(&site),
        (None, Some(origin), Some(host)) => origin.split_once("://").is_none_or(|(_, of)| of != host),
        _ => false,
    };
    match is_other {
        true => Err(Problem::new(&FORM_REFUSED, "the form was sent by a page of another site")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_back_leads_into_the_shop() {
        for own in ["/", "/orders/01?x=1", "/p/phone#top"] {
            assert_eq!(own_path(own), own);
        }
        for other in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/a b", "/\n"]
        {
            assert_eq!(own_path(other), "/", "{other:?}");
        }
    }

    #[test]
    fn where_a_visitor_is_leads_into_the_shop() {
        let at = |method: Method, uri: &str| here(&method, &uri.parse().unwrap());
        assert_eq!(at(Method::GET, "/p/phone?a=1&lang=zh&b=2"), "/p/phone?a=1&b=2");
        assert_eq!(at(Method::POST, "/account/password?lang=zh"), "/account/settings");
        for other in ["//evil.example/", "//evil.example/?lang=zh"] {
            assert_eq!(at(Method::GET, other), "/", "{other}");
        }
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let check = |fields: &[(&'static str, &str)], is_taken: bool| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            assert_eq!(refuse_other_sites(&headers).is_ok(), is_taken, "{fields:?}");
        };
        check(&[("host", "shop.example"), ("origin", "https://shop.example")], true);
        check(&[("host", "shop.example"), ("origin", "https://evil.example")], false);
        check(&[("host", "shop.example"), ("origin", "null")], false);
        check(&[("host", "shop.example"), ("sec-fetch-site", "same-origin")], true);
        check(&[("host", "shop.example"), ("sec-fetch-site", "cross-site")], false);
        check(&[("host", "shop.example"), ("sec-fetch-site", "same-site")], false);
        // A program, which has no other site's cookies.
        check(&[("host", "shop.example")], true);
    }

    #[test]
    fn a_form_stands_on_a_page_that_can_be_read() {
        for (form, page) in [
            ("/account/password", "/account/settings"),
            ("/account/log-in", "/account/log-in"),
            ("/account/log-out", "/"),
            ("/cart/lines", "/cart"),
            ("/cart/check-out", "/cart/check-out"),
            ("/orders/01/pay", "/orders/01"),
            ("/orders/01/returns/2/withdraw", "/orders/01"),
            ("/orders/01/return", "/orders/01/return"),
        ] {
            assert_eq!(page_of_form(form), page, "{form}");
        }
    }
}
