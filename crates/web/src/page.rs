//! The frame of every page: language, head, header and footer, the style sheet, and problems shown
//! to a person.

use crate::{
    brand,
    problem::{ADDRESS_DENIED, Explained, FORM_REFUSED, Kind},
};
use axum::response::{Html, Response};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

pub use crate::{
    lang::{LANGUAGE_COOKIE, Lang},
    statics::{ICON, StaticFile, statics},
};

/// Pages load nothing from other origins, and run no inline scripts.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The same for a page with pictures of these origins, which have been checked.
pub fn policy_with_pictures(origins: &[&str]) -> String {
    CONTENT_SECURITY_POLICY.replace("img-src 'self'", &format!("img-src 'self' {}", origins.join(" ")))
}

/// What the style sheets of plain pages have in common.
pub const BASE: &str = include_str!("style.css");
/// The style sheet of plain pages.
pub static STYLE: StaticFile = StaticFile::style("style", &[BASE]);

/// The frame around a page's own content.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub lang: Lang,
    pub title: &'a str,
    /// The page's path, and what its links carry after `?lang=…`.
    pub path: &'a str,
    pub query: &'a str,
    /// The skip link's text.
    pub skip: &'a str,
    pub footer: &'a str,
    /// The path of the module that makes the page live.
    pub script: Option<&'a str>,
    /// After how many seconds the page loads itself again without JavaScript, and from where. An
    /// empty address is the one that the browser shows: if that has a fragment, such as the skip
    /// link's, browsers load nothing.
    pub refresh: Option<(u64, &'a str)>,
    /// The pages of the navigation: path, and name in this language. The page of the path beside
    /// them is marked.
    pub places: &'a [(&'a str, &'a str)],
    /// The page has tables.
    pub is_wide: bool,
    /// A page for shoppers: where the shop's mark leads.
    pub home: Option<&'a str>,
    pub sheet: &'a StaticFile,
}

impl<'a> Frame<'a> {
    /// A page that is neither live nor wide, and leads nowhere else.
    pub fn plain(lang: Lang, title: &'a str, path: &'a str) -> Self {
        Self {
            lang,
            title,
            path,
            query: "",
            skip: lang.say("Skip to the content", "跳到内容"),
            footer: "",
            script: None,
            refresh: None,
            places: &[],
            is_wide: false,
            home: None,
            sheet: &STYLE,
        }
    }

    /// The whole page.
    pub fn render(&self, body: &Markup) -> Markup {
        let (lang, brand) = (self.lang, brand::worn());
        html! {
            (DOCTYPE)
            html lang=(lang.tag()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · " (brand.name(lang)) }
                    link rel="stylesheet" href=(self.sheet.path());
                    link rel="icon" href=(ICON.path()) type="image/svg+xml";
                    @if let Some(script) = self.script {
                        script type="module" src=(script) {}
                    }
                    @match self.refresh {
                        Some((seconds, "")) => noscript { meta http-equiv="refresh" content=(seconds); },
                        Some((seconds, url)) => noscript { meta http-equiv="refresh" content={ (seconds) ";url=" (url) }; },
                        None => {}
                    }
                }
                body class=[self.home.map(|_| "shop")] {
                    a class="skip" href="#main" { (self.skip) }
                    header {
                        p class="brand" {
                            @let name = html! { (mark()) span { (brand.name(lang)) } };
                            @match self.home {
                                Some(home) => a href=(home) { (name) },
                                None => a href={ "/?lang=" (lang.code()) } { (name) },
                            }
                        }
                        @if !self.places.is_empty() {
                            nav aria-label=(lang.say("Pages", "页面")) {
                                @for (path, name) in self.places {
                                    a href={ (path) "?lang=" (lang.code()) } aria-current=[(*path == self.path).then_some("page")] { (name) }
                                }
                            }
                        }
                        nav aria-label=(lang.say("Language", "语言")) {
                            a href={ (self.path) "?lang=en" (self.query) } lang="en" hreflang="en" aria-current=[(lang == Lang::En).then_some("true")] { "English" }
                            a href={ (self.path) "?lang=zh" (self.query) } lang="zh-Hans" hreflang="zh-Hans" aria-current=[(lang == Lang::Zh).then_some("true")] { "中文" }
                        }
                    }
                    main id="main" class=[self.is_wide.then_some("wide")] { (body) }
                    footer { p { (self.footer) } }
                }
            }
        }
    }
}

/// The shop's mark.
pub fn mark() -> Markup {
    brand::worn().mark(ICON.path())
}

/// A wide page at this path, one of several `places`: each has its path, and its name in English
/// and in Chinese.
pub fn wide(
    places: &[(&str, &str, &str)],
    (lang, path): (Lang, &str),
    title: &str,
    body: &Markup,
) -> Html<String> {
    let places: Vec<_> = places.iter().map(|(path, en, zh)| (*path, lang.say(en, zh))).collect();
    let frame = Frame { places: &places, is_wide: true, ..Frame::plain(lang, title, path) };
    Html(frame.render(body).into_string())
}

/// A problem that a person with a browser is shown, and the request that met it.
#[derive(Debug)]
pub struct Refused<'a> {
    pub kind: &'static Kind,
    pub retry_after_seconds: Option<u64>,
    pub method: &'a Method,
    pub uri: &'a Uri,
    /// Its cookies and languages.
    pub headers: &'a HeaderMap,
}

/// A listener's own page for problems; `None` of a path whose problems have the plain one.
pub type ProblemPage = Arc<dyn Fn(&Refused<'_>) -> Option<String> + Send + Sync>;

/// What a handler shows a person for its problem, as an extension of the response: a page that
/// knows more than the problem says, such as where to go on.
#[derive(Debug, Clone)]
pub struct PageOfProblem(pub String);

/// A person with a browser, who gets a problem as a page. Programs get the document.
#[derive(Debug)]
pub(crate) struct Reader {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Reader {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Option<Self> {
        let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let reads = accept.contains("text/html") && !request.uri().path().starts_with("/api/");
        reads.then(|| {
            let mut headers = HeaderMap::new();
            for name in [header::ACCEPT_LANGUAGE, header::COOKIE] {
                for value in request.headers().get_all(&name) {
                    headers.append(name.clone(), value.clone());
                }
            }
            Self { method: request.method().clone(), uri: request.uri().clone(), headers }
        })
    }

    pub(crate) fn show(&self, problem: &Explained, own: Option<&ProblemPage>, response: &mut Response) {
        let Self { method, uri, headers } = self;
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let refused = Refused {
            kind: problem.kind,
            retry_after_seconds: retry_after.and_then(|value| value.to_str().ok()?.parse().ok()),
            method,
            uri,
            headers,
        };
        let of_handler = response.extensions().get::<PageOfProblem>().map(|page| page.0.clone());
        let page = of_handler.or_else(|| own.and_then(|own| own(&refused))).unwrap_or_else(|| {
            let lang = Lang::asked(uri.query(), headers);
            // A page that reloads itself goes on doing so, once it may.
            let again = refused.retry_after_seconds.filter(|_| *method == Method::GET);
            problem_page(lang, &refused, &problem.detail, again).into_string()
        });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.remove(header::CONTENT_LENGTH);
        *response.body_mut() = page.into();
    }
}

/// What a person reads of a problem of this kind, in their language: a title, and what to do.
pub fn what_to_do(lang: Lang, kind: &Kind, retry_after_seconds: Option<u64>) -> (&'static str, String) {
    let (title, words) = match kind.status {
        _ if *kind == ADDRESS_DENIED => (
            lang.say("You can't visit us from this network", "当前网络无法访问"),
            lang.say(
                "Please use another network, such as a mobile one, or write to us.",
                "请更换网络（例如移动网络），或联系我们。",
            ),
        ),
        _ if *kind == FORM_REFUSED => (
            lang.say("Please try again", "请重试"),
            lang.say(
                "This form is out of date. Go back, reload the page and send it again.",
                "页面已过期，请返回刷新后重新提交。",
            ),
        ),
        403 => (
            lang.say("You may not do this", "无权执行此操作"),
            lang.say(
                "If you think that you should be able to, please write to us.",
                "如认为有误，请联系我们。",
            ),
        ),
        404 => (
            lang.say("Not found", "页面不存在"),
            lang.say("Please check the address.", "请检查网址是否正确。"),
        ),
        409 | 412 => (
            lang.say("Something has changed", "情况有变"),
            lang.say("Please reload the page to see how it stands now.", "请刷新页面查看最新状态。"),
        ),
        413 | 431 => (
            lang.say("That was too long", "内容过长"),
            lang.say("Please shorten your text and try again.", "请缩短内容后重试。"),
        ),
        429 => {
            let seconds = retry_after_seconds.unwrap_or(1);
            let words = match (lang, seconds) {
                (Lang::En, 1) => "Please wait a second and try again.".into(),
                (Lang::En, _) => format!("Please wait {seconds} seconds and try again."),
                (Lang::Zh, _) => format!("请在 {seconds} 秒后重试。"),
            };
            return (lang.say("Too many requests", "操作过于频繁"), words);
        }
        500.. => (
            lang.say("We'll be right back", "稍后再试"),
            lang.say("Please try again in a moment.", "服务暂时不可用，请稍后再试。"),
        ),
        _ => (
            lang.say("That didn't work", "操作未成功"),
            lang.say("Please go back and try again.", "请返回后重试。"),
        ),
    };
    (title, words.to_owned())
}

/// A problem as a page. The detail is for the developers who look into it, so it is in English.
fn problem_page(lang: Lang, refused: &Refused<'_>, detail: &str, again_seconds: Option<u64>) -> Markup {
    let (heading, words) = what_to_do(lang, refused.kind, refused.retry_after_seconds);
    let body = html! {
        section class="card notice" aria-labelledby="outcome-title" {
            h1 id="outcome-title" { (heading) }
            p { (words) }
            p class="hint" lang="en" { (refused.kind.title) ": " (detail) }
            p { a href={ "/?lang=" (lang.code()) } { (lang.say("Back to the sale", "返回活动")) } }
        }
    };
    let refresh = again_seconds.map(|seconds| (seconds, own_address(refused.uri)));
    Frame { refresh, ..Frame::plain(lang, heading, "/") }.render(&body)
}

/// The address of a request without its fragment; empty if it could lead to another site.
fn own_address(uri: &Uri) -> &str {
    let address = uri.path_and_query().map_or("", |of| of.as_str());
    let is_elsewhere = address.starts_with("//") || address.contains('\\');
    if address.starts_with('/') && !is_elsewhere { address } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_what_to_do_in_their_language() {
        let of = |status| Kind::new(status, "a-kind", "A kind", "");
        for (kind, wait, en, zh) in [
            (of(429), Some(7), "Please wait 7 seconds and try again.", "请在 7 秒后重试。"),
            (of(429), None, "Please wait a second and try again.", "请在 1 秒后重试。"),
            (of(503), Some(1), "Please try again in a moment.", "服务暂时不可用，请稍后再试。"),
            (of(404), None, "Please check the address.", "请检查网址是否正确。"),
            (of(409), None, "Please reload the page to see how it stands now.", "请刷新页面查看最新状态。"),
            (
                of(403),
                None,
                "If you think that you should be able to, please write to us.",
                "如认为有误，请联系我们。",
            ),
            (of(418), None, "Please go back and try again.", "请返回后重试。"),
        ] {
            assert_eq!(what_to_do(Lang::En, &kind, wait).1, en, "{}", kind.status);
            assert_eq!(what_to_do(Lang::Zh, &kind, wait).1, zh, "{}", kind.status);
        }
        assert_eq!(what_to_do(Lang::En, &ADDRESS_DENIED, None).0, "You can't visit us from this network");
        assert_eq!(what_to_do(Lang::En, &FORM_REFUSED, None).0, "Please try again");
    }

    #[test]
    fn a_page_may_load_pictures_of_the_origins_that_it_names_and_no_others() {
        let policy = policy_with_pictures(&["https://media.example", "http://127.0.0.1:8090"]);
        let of_images = policy.split("; ").find(|part| part.starts_with("img-src")).unwrap();
        assert_eq!(of_images, "img-src 'self' https://media.example http://127.0.0.1:8090");
        assert_eq!(policy.replace(of_images, "img-src 'self'"), CONTENT_SECURITY_POLICY);
    }

    #[test]
    fn a_page_reloads_from_its_own_site() {
        for (uri, want) in [
            ("/sales/demo?lang=zh&a=%23", "/sales/demo?lang=zh&a=%23"),
            ("http://shop.example/sales?x=1", "/sales?x=1"),
            ("//elsewhere.example/", ""),
            ("http://shop.example//elsewhere.example/", ""),
            ("*", ""),
        ] {
            assert_eq!(own_address(&uri.parse().unwrap()), want, "{uri}");
        }
    }
}
