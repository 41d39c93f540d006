//! The design system: the style sheet with its tokens, the frame of a page, and components. All
//! pages are made of these; `/design` shows each of them.

use crate::{parts::Shop, visitor::Visitor, words};
use axum::response::{IntoResponse, Response};
use contracts::store::{Category, Listing, Localized, OrderState, Picture};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use units::Money;
use web::page::{Lang, StaticFile};

pub(crate) mod showcase;

/// The style sheet, and what makes product pages with a sale live.
pub(crate) static STYLE: StaticFile =
    StaticFile::new("shop", "css", "text/css; charset=utf-8", include_str!("style.css"));
pub(crate) static SCRIPT: StaticFile =
    StaticFile::new("shop", "js", "text/javascript; charset=utf-8", include_str!("shop.js"));

/// The text in the visitor's language.
pub(crate) fn text(lang: Lang, text: &Localized) -> &str {
    lang.say(&text.en, &text.zh)
}

/// A page.
pub(crate) struct Frame<'a> {
    pub(crate) shop: &'a Shop,
    pub(crate) visitor: &'a Visitor,
    pub(crate) title: &'a str,
    pub(crate) categories: Vec<Category>,
    pub(crate) cart_units: u32,
    /// What was searched for, to be shown in the field.
    pub(crate) words: &'a str,
    /// The page runs the sale's script.
    pub(crate) has_sale: bool,
    /// After how many seconds the page goes where, such as to itself.
    pub(crate) refresh: Option<(u64, String)>,
}

impl Frame<'_> {
    pub(crate) fn render(&self, body: &Markup) -> Response {
        let page = self.page(body).into_string();
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (headers, page).into_response();
        if self.has_sale {
            let sale = &self.shop.sale_origin;
            let policy = format!(
                "default-src 'none'; script-src 'self' {sale}; style-src 'self'; connect-src 'self' {sale}; \
                 img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            );
            // The configuration has checked the origin.
            if let Ok(policy) = HeaderValue::try_from(policy) {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
        }
        self.visitor.remember(&mut response);
        response
    }

    fn page(&self, body: &Markup) -> Markup {
        let Self { shop, visitor, title, .. } = *self;
        let lang = visitor.lang;
        let name = lang.say(&shop.name[0], &shop.name[1]);
        html! {
            (DOCTYPE)
            html lang=(lang.say("en", "zh-Hans")) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · " (name) }
                    link rel="stylesheet" href=(STYLE.path());
                    link rel="icon" href="/favicon.ico";
                    @if let Some((seconds, to)) = &self.refresh {
                        meta http-equiv="refresh" content={ (seconds) ";url=" (to) };
                    }
                    @if self.has_sale { script src=(SCRIPT.path()) defer {} }
                }
                body {
                    a class="skip" href="#main" { (lang.say("Skip to the content", "跳到内容")) }
                    (self.top(name))
                    main id="main" { (body) }
                    (self.bottom(name))
                }
            }
        }
    }

    fn top(&self, name: &str) -> Markup {
        let Visitor { lang, signed_in, here, .. } = self.visitor;
        html! {
            @if self.shop.is_demo && self.shop.has_sandbox {
                p class="demo-bar" { (lang.say(
                    "This is a demo: nothing real is sold, and payment is a sandbox.",
                    "演示商店：商品与付款均为模拟，不会真实扣款。",
                )) }
            } @else if self.shop.has_sandbox {
                p class="demo-bar" { (lang.say(
                    "Payment is a sandbox here: no money moves.",
                    "当前使用沙盒支付，不会真实扣款。",
                )) }
            }
            header class="top" {
                div class="bar" {
                    a class="brand" href="/" { (MARK) span { (name) } }
                    form class="search" role="search" action="/search" {
                        label class="hidden" for="q" { (lang.say("Search the shop", "搜索商品")) }
                        input id="q" name="q" type="search" maxlength="80" value=(self.words) placeholder=(lang.say("Search", "搜索"));
                        button class="quiet" type="submit" { (lang.say("Search", "搜索")) }
                    }
                    nav class="you" aria-label=(lang.say("Your account", "我的账户")) {
                        @if let Some(you) = signed_in {
                            a href="/orders" { (lang.say("Orders", "我的订单")) }
                            a href="/account" { (you.name) }
                        } @else {
                            a href=(crate::visitor::log_in_path(here)) { (lang.say("Log in", "登录")) }
                        }
                        a href="/cart" {
                            (lang.say("Cart", "购物车"))
                            @if self.cart_units > 0 { " " span class="badge" { (self.cart_units) } }
                        }
                        (other_language(*lang, here))
                    }
                }
                @if !self.categories.is_empty() {
                    nav class="categories" aria-label=(lang.say("Categories", "商品分类")) {
                        @for category in &self.categories {
                            @let path = format!("/c/{}", category.slug);
                            a href=(path) aria-current=[(*here == path).then_some("page")] { (text(*lang, &category.name)) }
                        }
                    }
                }
            }
        }
    }

    fn bottom(&self, name: &str) -> Markup {
        let lang = self.visitor.lang;
        html! {
            footer class="bottom" {
                p { (name) " · " (lang.say("Sold fairly.", "公平抢购。")) }
                p { a href="/design" { (lang.say("How these pages are built", "页面设计说明")) } }
            }
        }
    }
}

/// A link to the same page in the other language, named in that language.
fn other_language(lang: Lang, here: &str) -> Markup {
    let (code, tag, name) = match lang {
        Lang::En => ("zh", "zh-Hans", "中文"),
        Lang::Zh => ("en", "en", "English"),
    };
    let mark = if here.contains('?') { '&' } else { '?' };
    html! { a href={ (here) (mark) "lang=" (code) } lang=(tag) hreflang=(tag) { (name) } }
}

/// The shop's mark.
const MARK: PreEscaped<&str> = PreEscaped(
    "<svg class='mark' viewBox='0 0 32 32' width='28' height='28' aria-hidden='true'>\
     <rect width='32' height='32' rx='9' fill='currentColor'/>\
     <path d='M9 11h14M9 16h14M9 21h8' stroke='var(--on-brand)' stroke-width='2.6' stroke-linecap='round'/></svg>",
);

/// A price.
pub(crate) fn price(lang: Lang, sum: Money) -> Markup {
    html! { span class="price" { (words::money(sum, lang)) } }
}

/// How wide a picture is on a page, for browsers that choose one of its sizes: the widths are those
/// of the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The one that a page is about, which is loaded at once.
    Main,
    /// One of several in a grid.
    Card,
    /// Beside a line of a cart, or below the main one.
    Small,
}

impl Room {
    fn sizes(self) -> &'static str {
        match self {
            Self::Main => "(min-width: 48rem) 30rem, 84vw",
            Self::Card => "(min-width: 48rem) 12rem, 44vw",
            Self::Small => "6rem",
        }
    }
}

/// A picture that keeps its room while it loads.
pub(crate) fn picture(lang: Lang, picture: &Picture, room: Room) -> Markup {
    let sizes: Vec<String> = picture.sizes.iter().map(|of| format!("{} {}w", of.path, of.width)).collect();
    // A browser that knows no `srcset` is old, and is not sent the largest.
    let source = picture.sizes.iter().rev().nth(1).map_or(&picture.path, |of| &of.path);
    html! {
        img src=(source) srcset=[(!sizes.is_empty()).then(|| sizes.join(", "))]
            sizes=[(!sizes.is_empty()).then(|| room.sizes())]
            width=(picture.width) height=(picture.height) alt=(text(lang, &picture.alt))
            loading=(if room == Room::Main { "eager" } else { "lazy" }) decoding="async";
    }
}

/// A product in a list.
pub(crate) fn card(lang: Lang, listing: &Listing) -> Markup {
    html! {
        li class="product" {
            a href={ "/p/" (listing.slug) } {
                div class="frame" {
                    @if let Some(of) = &listing.picture { (picture(lang, of, Room::Card)) }
                    @if listing.offered_in.is_some() { span class="badge" { (lang.say("In the sale", "限量抢购")) } }
                }
                span class="name" { (text(lang, &listing.name)) }
                (price(lang, listing.price))
            }
        }
    }
}

/// Products side by side.
pub(crate) fn grid(lang: Lang, listings: &[Listing]) -> Markup {
    html! { ul class="grid" { @for listing in listings { (card(lang, listing)) } } }
}

/// A link that narrows a list, with how many it leaves.
pub(crate) struct Facet<'a> {
    pub(crate) href: String,
    pub(crate) name: &'a str,
    pub(crate) count: u64,
    pub(crate) is_chosen: bool,
}

pub(crate) fn facets(label: &str, all: &[Facet<'_>]) -> Markup {
    html! {
        nav class="facets" aria-label=(label) {
            @for Facet { href, name, count, is_chosen } in all {
                a href=(href) aria-current=[is_chosen.then_some("true")] { (name) " " span { (count) } }
            }
        }
    }
}

/// What kind of news a notice brings.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    Good,
    Neutral,
    Bad,
}

/// News for the visitor, said by screen readers too.
pub(crate) fn notice(mood: Mood, title: &str, body: &Markup) -> Markup {
    let class = match mood {
        Mood::Good => "notice good",
        Mood::Neutral => "notice",
        Mood::Bad => "notice bad",
    };
    let role = if matches!(mood, Mood::Bad) { "alert" } else { "status" };
    html! { div class=(class) role=(role) { p class="title" { (title) } (body) } }
}

/// A field of a form.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) value: &'a str,
    pub(crate) autocomplete: &'a str,
    pub(crate) hint: &'a str,
    pub(crate) error: Option<&'a str>,
    pub(crate) is_optional: bool,
}

pub(crate) fn field(field: &Field<'_>) -> Markup {
    let (hint, error) = (format!("{}-hint", field.name), format!("{}-error", field.name));
    let mut described = Vec::new();
    described.extend((!field.hint.is_empty()).then_some(hint.as_str()));
    described.extend(field.error.map(|_| error.as_str()));
    let described = (!described.is_empty()).then(|| described.join(" "));
    html! {
        div class="field" {
            label for=(field.name) { (field.label) }
            @if !field.hint.is_empty() { p class="hint" id=(hint) { (field.hint) } }
            input id=(field.name) name=(field.name) type=(field.kind) value=(field.value) required[!field.is_optional]
                autocomplete=(field.autocomplete) aria-describedby=[described]
                aria-invalid=[field.error.map(|_| "true")];
            @if let Some(why) = field.error { p class="error" id=(error) { (why) } }
        }
    }
}

/// How far an order is, in a shopper's words.
pub(crate) fn state_words(lang: Lang, state: OrderState) -> &'static str {
    match state {
        OrderState::Created => lang.say("Being checked", "确认库存中"),
        OrderState::AwaitingPayment => lang.say("Waiting for your payment", "等待付款"),
        OrderState::Paid => lang.say("Paid", "已付款"),
        OrderState::Allocated => lang.say("Being packed", "备货中"),
        OrderState::Shipped => lang.say("On its way", "已发货"),
        OrderState::Delivered => lang.say("Delivered", "已送达"),
        OrderState::Cancelled => lang.say("Cancelled", "已取消"),
        OrderState::Expired => lang.say("Not paid in time", "超时未付款"),
        OrderState::Returned => lang.say("Returned", "已退货"),
        OrderState::Refunded => lang.say("Refunded", "已退款"),
        OrderState::PartRefunded => lang.say("Refunded in part", "部分退款"),
    }
}

/// An order's way as a row of steps; none for one that ended before its delivery.
pub(crate) fn steps(lang: Lang, state: OrderState) -> Markup {
    const WAY: [OrderState; 5] = [
        OrderState::AwaitingPayment,
        OrderState::Paid,
        OrderState::Allocated,
        OrderState::Shipped,
        OrderState::Delivered,
    ];
    let names = [
        lang.say("Ordered", "已下单"),
        lang.say("Paid", "已付款"),
        lang.say("Packed", "备货"),
        lang.say("Shipped", "发货"),
        lang.say("Delivered", "送达"),
    ];
    let Some(reached) = WAY.iter().position(|step| *step == state) else { return html! {} };
    html! {
        ol class="steps" aria-label=(lang.say("How far the order is", "订单进度")) {
            @for (at, name) in names.into_iter().enumerate() {
                li class=[(at <= reached).then_some("done")] aria-current=[(at == reached).then_some("step")] { (name) }
            }
        }
    }
}
