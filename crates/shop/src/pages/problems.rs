//! A problem as a page of the shop: in its own frame, in its reader's language and words. It asks
//! no database, which may be what is wrong; what is for developers stands in the document that
//! programs get.

use crate::{
    design::{Frame, no_page, problem},
    parts::Parts,
    visitor::Visitor,
};
use http::Method;
use std::sync::Arc;
use web::{
    page::{Lang, ProblemPage, Refused, what_to_do},
    problem::ADDRESS_DENIED,
};

/// The page of a listener with the shop. The console's pages have their own.
pub fn problem_page(parts: &Parts) -> ProblemPage {
    let shop = Arc::clone(&parts.0);
    Arc::new(move |refused| {
        let path = refused.uri.path();
        let is_of_operators = ["/console", "/sign-in"]
            .iter()
            .any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if is_of_operators {
            return None;
        }
        let visitor = Visitor::of_problem(refused);
        let (title, words) = says(visitor.lang, refused);
        Some(Frame::plain(&shop, &visitor, title).page(&problem(visitor.lang, title, &words)).into_string())
    })
}

/// A title, and what to do.
fn says(lang: Lang, refused: &Refused<'_>) -> (&'static str, String) {
    let (title, words) = match refused.kind.status {
        _ if refused.kind == &ADDRESS_DENIED => (
            lang.say("You can't shop from this network", "当前网络无法访问"),
            lang.say(
                "Please use another network, such as a mobile one, or write to us.",
                "请更换网络（例如移动网络），或联系我们。",
            ),
        ),
        404 => no_page(lang),
        // Of what changes nothing this is known; else the reader may just have paid.
        500.. if [Method::GET, Method::HEAD].contains(refused.method) => (
            lang.say("We'll be right back", "稍后再试"),
            lang.say(
                "Please try again in a moment. Your orders and payments are safe.",
                "服务暂时不可用，您的订单与付款不受影响，请稍后再试。",
            ),
        ),
        _ => return what_to_do(lang, refused.kind, refused.retry_after_seconds),
    };
    (title, words.to_owned())
}
