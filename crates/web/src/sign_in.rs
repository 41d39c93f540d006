//! Signing in: a browser exchanges a one-time key for a session. The link leads to a page with a
//! button, and the button uses the key up: programs that look at links, as mail and chat programs
//! do, leave it valid.

use crate::{
    api_keys::{ApiKeys, SECURE_SESSION_COOKIE, SESSION_COOKIE, Taken},
    operation::{Access, Credential, Operation, Sent, get, post},
    page::{Frame, Lang},
    problem::{FORM_REFUSED, KEY_REFUSED, Problem},
};
use axum::{
    extract::{FromRef, RawQuery, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::{HeaderMap, header, uri::Authority};
use maud::html;
use std::{
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use units::TimeMs;

/// The one-time key, in the URL that `floodgate key sign-in` prints, or a demo at its start.
static ONE_TIME_KEY: Credential =
    Credential { name: "oneTimeKey", sent: Sent::Query("key"), missing: &KEY_REFUSED, refused: &KEY_REFUSED };

/// The operations that begin a session, which leads to the page at `home`.
pub fn operations<S>(home: &'static str) -> Vec<Operation<S>>
where
    S: Clone + Send + Sync + 'static,
    Arc<ApiKeys>: FromRef<S>,
{
    let take = move |keys: State<Arc<ApiKeys>>, query: RawQuery, headers: HeaderMap| {
        sign_in(home, keys, query, headers)
    };
    vec![
        get("/sign-in", "showSignIn", Access::Credential(&ONE_TIME_KEY), show),
        post("/sign-in", "signIn", Access::Credential(&ONE_TIME_KEY), take),
    ]
}

/// `GET /sign-in?key=…`: the page with the button. The key stays valid.
async fn show(
    State(keys): State<Arc<ApiKeys>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let query = query.unwrap_or_default();
    let key = key_of(&query).to_owned();
    let lang = Lang::asked(Some(&query), &headers);
    if !keys.is_one_time(&key) {
        let (key, warned) = (key.clone(), Arc::clone(&keys));
        let known = tokio::task::spawn_blocking(move || keys.is_sign_in(&key)).await;
        match known.map_err(std::io::Error::other).flatten() {
            Ok(true) => {}
            Ok(false) => return Err(unknown()),
            Err(error) => return Err(unread(&warned, &error)),
        }
    }
    let title = lang.say("Sign in", "登录");
    // The key has only letters and digits: it is one of ours.
    let carried = format!("&key={key}");
    let frame = Frame { query: &carried, ..Frame::plain(lang, title, "/sign-in") };
    let body = html! {
        h1 { (title) }
        section class="card" {
            p { (lang.say(
                "This link signs one browser in, once. Continue only if you asked for it.",
                "此链接仅限在一个浏览器中使用一次。如非您本人申请，请勿继续。",
            )) }
            form method="post" action={ "/sign-in?key=" (key) "&lang=" (lang.code()) } {
                button type="submit" autofocus { (title) }
            }
        }
    };
    Ok(Html(frame.render(&body).into_string()))
}

/// `POST /sign-in?key=…`: uses the key up.
async fn sign_in(
    home: &'static str,
    State(keys): State<Arc<ApiKeys>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if is_of_another_site(&headers) {
        let why = "the form is of another site: open the link that `floodgate key sign-in` printed";
        return Err(Problem::new(&FORM_REFUSED, why));
    }
    let (query, now) = (query.unwrap_or_default(), now());
    let (key, warned) = (key_of(&query).to_owned(), Arc::clone(&keys));
    // It ends, and is noted, also when the browser goes away meanwhile.
    let taken = tokio::task::spawn_blocking(move || {
        let taken = match keys.sign_in(&key) {
            Some(session) => Taken::Session { name: "session".into(), session },
            None => keys.take_sign_in(&key, now)?,
        };
        // The operators' own record of who came in: a warning, as for everything that they order.
        match &taken {
            Taken::Session { name, .. } => {
                tracing::warn!(by = name, "an operator signed in with a one-time link")
            }
            Taken::Refused { name, why } => tracing::warn!(by = name, why, "a one-time link was refused"),
            Taken::Unknown => {}
        }
        Ok(taken)
    });
    match taken.await.map_err(std::io::Error::other).flatten() {
        Ok(Taken::Session { session, .. }) => {
            let home = format!("{home}?lang={}", Lang::asked(Some(&query), &headers).code());
            Ok(([(header::SET_COOKIE, cookie(&headers, &session))], Redirect::to(&home)).into_response())
        }
        Ok(Taken::Refused { why, .. }) => {
            let why = format!("sign-in key: {why}: `floodgate key sign-in` makes another");
            Err(Problem::new(&KEY_REFUSED, why))
        }
        Ok(Taken::Unknown) => Err(unknown()),
        Err(error) => Err(unread(&warned, &error)),
    }
}

/// Whether a page of another site sends the form: it could sign the browser in as somebody else.
/// Browsers say so (Fetch Metadata) if the server's address is `https` or this machine; otherwise
/// the origin of the page must be the host that was asked.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    match (text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")), text(header::HOST)) {
        (Some(of_page), Some(asked)) => !of_page.eq_ignore_ascii_case(asked),
        _ => false,
    }
}

/// Whether the page of the form has an `https` address, also if that is a proxy's. A browser says
/// so (RFC 6454, section 7), unless a proxy's referrer policy keeps it from that. But it sends
/// Fetch Metadata only to `https` and to its own machine.
fn is_of_https(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).map_or(&b"null"[..], |origin| origin.as_bytes());
    if origin != b"null" {
        return origin.starts_with(b"https://");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.parse::<Authority>();
    let is_own_machine = host.is_ok_and(|host| {
        let name = host.host();
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
        name == "localhost"
            || name.ends_with(".localhost")
            || address.is_ok_and(|address| address.is_loopback())
    });
    headers.contains_key("sec-fetch-site") && !is_own_machine
}

/// The session's cookie. One that was set on an `https` page never leaves in the clear.
fn cookie(headers: &HeaderMap, session: &str) -> String {
    let (name, secure) = match is_of_https(headers) {
        true => (SECURE_SESSION_COOKIE, "; Secure"),
        false => (SESSION_COOKIE, ""),
    };
    format!("{name}={session}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

fn key_of(query: &str) -> &str {
    query.split('&').find_map(|pair| pair.strip_prefix("key=")).unwrap_or_default()
}

fn now() -> TimeMs {
    TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

fn unknown() -> Problem {
    let why = "sign-in key: unknown, or used already: `floodgate key sign-in` makes another, and a restart of a demo too";
    Problem::new(&KEY_REFUSED, why)
}

/// A stranger can try any key, so the line is rationed.
fn unread(keys: &ApiKeys, error: &std::io::Error) -> Problem {
    if keys.is_unread_line_due() {
        tracing::error!(%error, "sign-in links can be neither read nor used up: nobody is signed in");
    }
    Problem::unavailable("sign-in key: it cannot be used now: see the server's log").retry_after(2)
}
