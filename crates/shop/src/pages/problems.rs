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
    page::{Lang, ProblemPage, Refused},
    problem::ADDRESS_DENIED,
};

/// The page of a listener with the shop. The console's pages have their own.
pub fn problem_page(parts: &Parts) -> ProblemPage {
    let shop = Arc::clone(&parts.0);
    Arc::new(move |refused| {
        let path = refused.uri.path();
        let is_of_operators = ["/console", "/sign-in"].iter().any(|own| path.starts_with(own));
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
        403 => (
            lang.say("Please try again", "请重试"),
            lang.say(
                "This form is out of date. Go back, reload the page and send it again.",
                "页面已过期，请返回刷新后重新提交。",
            ),
        ),
        413 | 431 => (
            lang.say("That was too long", "内容过长"),
            lang.say("Please shorten your text and try again.", "请缩短内容后重试。"),
        ),
        429 => {
            let seconds = refused.retry_after_seconds.unwrap_or(1);
            let words = match (lang, seconds) {
                (Lang::En, 1) => "Please wait a second and try again.".into(),
                (Lang::En, _) => format!("Please wait {seconds} seconds and try again."),
                (Lang::Zh, _) => format!("请在 {seconds} 秒后重试。"),
            };
            return (lang.say("Too many requests", "操作过于频繁"), words);
        }
        status if status >= 500 => {
            // Only of what changes nothing is this known.
            let nothing_was_done = [Method::GET, Method::HEAD].contains(refused.method);
            let words = match nothing_was_done {
                true => lang.say(
                    "Please try again in a moment. Nothing was ordered or charged.",
                    "服务暂时不可用，未产生任何订单或扣款，请稍后再试。",
                ),
                false => lang.say("Please try again in a moment.", "服务暂时不可用，请稍后再试。"),
            };
            (lang.say("We'll be right back", "稍后再试"), words)
        }
        _ => (
            lang.say("That didn't work", "操作未成功"),
            lang.say("Please go back and try again.", "请返回后重试。"),
        ),
    };
    (title, words.to_owned())
}
