//! The design system: the style sheet with its tokens, the frame of a page, and components. All
//! pages are made of these; `/design` shows each of them.

use crate::{parts::Shop, visitor::Visitor, words};
use axum::response::{IntoResponse, Response};
use contracts::store::{Category, Listing, Localized, OrderState, Picture};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, html};
use units::Money;
use web::page::{ICON, Lang, StaticFile, mark};

pub(crate) mod showcase;

/// The style sheet, and what makes product pages with a sale live.
pub(crate) static STYLE: StaticFile = StaticFile::style("shop", &[include_str!("style.css")]);
pub(crate) static SCRIPT: StaticFile =
    StaticFile::new("shop", "js", "text/javascript; charset=utf-8", include_str!("shop.js"));

/// The text in the visitor's language.
pub(crate) fn text(lang: Lang, text: &Localized) -> &str {
    lang.say(&text.en, &text.zh)
}

/// What a page tells those who pass its link on, and search engines.
pub(crate) struct About {
    pub(crate) description: String,
    /// The path of its picture.
    pub(crate) picture: Option<String>,
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
    /// A form of it leads to the sale's own page.
    pub(crate) enters_sale: bool,
    /// After how many seconds the page goes where, such as to itself.
    pub(crate) refresh: Option<(u64, String)>,
    /// Where the same page is in the other language, if not where the visitor is.
    pub(crate) here: Option<String>,
    /// It is a form that was refused.
    pub(crate) is_refused: bool,
    pub(crate) about: Option<About>,
}

impl<'a> Frame<'a> {
    /// A page without anything special about it.
    pub(crate) fn plain(shop: &'a Shop, visitor: &'a Visitor, title: &'a str) -> Self {
        Self {
            shop,
            visitor,
            title,
            categories: Vec::new(),
            cart_units: 0,
            words: "",
            has_sale: false,
            enters_sale: false,
            refresh: None,
            here: None,
            is_refused: false,
            about: None,
        }
    }
}

impl Frame<'_> {
    pub(crate) fn render(&self, body: &Markup) -> Response {
        let page = self.page(body).into_string();
        // What says nothing of a person may be shown again when the visitor goes back to it.
        let cache = if self.visitor.is_anybody() { "private, no-cache" } else { "no-store" };
        let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, cache)];
        let mut response = (headers, page).into_response();
        if self.has_sale {
            let sale = &self.shop.sale_origin;
            let form = if self.enters_sale { sale } else { "" };
            let policy = format!(
                "default-src 'none'; script-src 'self' {sale}; style-src 'self'; connect-src 'self' {sale}; \
                 img-src 'self'; form-action 'self' {form}; base-uri 'none'; frame-ancestors 'none'"
            );
            // The configuration has checked the origin.
            if let Ok(policy) = HeaderValue::try_from(policy) {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
        }
        if self.enters_sale {
            // The sale takes a token from this origin alone, so a form to it must not hide it.
            let headers = response.headers_mut();
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
        }
        self.visitor.remember(&mut response);
        response
    }

    pub(crate) fn page(&self, body: &Markup) -> Markup {
        let Self { shop, visitor, title, .. } = *self;
        let lang = visitor.lang;
        let name = lang.say(&shop.name[0], &shop.name[1]);
        let (to, after) = self.refresh.as_ref().map(|(after, to)| (to, after)).unzip();
        html! {
            (DOCTYPE)
            html lang=(lang.tag()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="theme-color" media="(prefers-color-scheme: light)" content="#ffffff";
                    meta name="theme-color" media="(prefers-color-scheme: dark)" content="#1c1a18";
                    title {
                        @if self.is_refused { (lang.say("Error: ", "出错：")) }
                        @if !title.is_empty() { (title) " · " }
                        (name)
                    }
                    @if let Some(about) = &self.about { (self.about(about, name)) }
                    link rel="stylesheet" href=(STYLE.path());
                    link rel="icon" href=(ICON.path()) type="image/svg+xml";
                    // With JavaScript the page looks by itself, and stays where it is meanwhile.
                    @if let Some((seconds, to)) = &self.refresh {
                        noscript { meta http-equiv="refresh" content={ (seconds) ";url=" (to) }; }
                    }
                    @if self.has_sale || self.refresh.is_some() { script src=(SCRIPT.path()) defer {} }
                }
                body {
                    a class="skip" href="#main" { (lang.say("Skip to the content", "跳到内容")) }
                    (self.top(name))
                    main id="main" data-again=[to] data-after=[after] { (body) }
                    (self.bottom(name))
                }
            }
        }
    }

    fn about(&self, about: &About, name: &str) -> Markup {
        let Self { shop, visitor, title, .. } = self;
        let in_language = |code: &str| {
            let here = with_language(&visitor.here, code);
            format!("{}{here}", shop.origin)
        };
        html! {
            meta name="description" content=(about.description);
            meta property="og:title" content=(if title.is_empty() { name } else { title });
            meta property="og:description" content=(about.description);
            meta property="og:url" content={ (shop.origin) (visitor.here) };
            @if let Some(picture) = &about.picture { meta property="og:image" content={ (shop.origin) (picture) }; }
            link rel="alternate" hreflang="en" href=(in_language("en"));
            link rel="alternate" hreflang="zh-Hans" href=(in_language("zh"));
        }
    }

    fn sandbox_bar(&self) -> Markup {
        let lang = self.visitor.lang;
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
        }
    }

    fn top(&self, name: &str) -> Markup {
        let Visitor { lang, signed_in, .. } = self.visitor;
        let here = self.here.as_deref().unwrap_or(&self.visitor.here);
        let place = here.split('?').next();
        html! {
            header class="top" {
                (self.sandbox_bar())
                div class="bar" {
                    a class="brand" href="/" { (mark()) span { (name) } }
                    nav class="you" aria-label=(lang.say("Your account", "我的账户")) {
                        @if let Some(you) = signed_in {
                            a href="/orders" { (lang.say("Orders", "我的订单")) }
                            a href="/account" aria-label={ (lang.say("Your account: ", "我的账户：")) (you.name) } { (you.name) }
                        } @else if self.visitor.may_be_signed_in() {
                            a href="/orders" { (lang.say("Orders", "我的订单")) }
                            a href="/account" { (lang.say("Account", "账户")) }
                        } @else {
                            a href=(crate::visitor::log_in_path(here)) { (lang.say("Log in", "登录")) }
                        }
                        a href="/cart" {
                            (lang.say("Cart", "购物车"))
                            @if self.cart_units > 0 {
                                " " span class="badge" { (self.cart_units) span class="hidden" { (if self.cart_units == 1 { lang.say(" item", " 件") } else { lang.say(" items", " 件") }) } }
                            }
                        }
                        (other_language(*lang, here))
                    }
                    form class="search" role="search" action="/search" {
                        label class="hidden" for="q" { (lang.say("Search the shop", "搜索商品")) }
                        input id="q" name="q" type="search" maxlength="80" value=(self.words) placeholder=(lang.say("Search", "搜索"));
                        button class="quiet" type="submit" { (lang.say("Search", "搜索")) }
                    }
                }
                @if !self.categories.is_empty() {
                    nav class="categories" aria-label=(lang.say("Categories", "商品分类")) {
                        @for category in &self.categories {
                            @let path = format!("/c/{}", category.slug);
                            a href=(path) aria-current=[(place == Some(&*path)).then_some("page")] { (text(*lang, &category.name)) }
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
                p { (name) }
                @if self.shop.is_demo { p { a href="/design" { (lang.say("How these pages are built", "页面设计说明")) } } }
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
    html! { a href=(with_language(here, code)) lang=(tag) hreflang=(tag) { (name) } }
}

fn with_language(here: &str, code: &str) -> String {
    let mark = if here.contains('?') { '&' } else { '?' };
    format!("{here}{mark}lang={code}")
}

/// The way from the home page to this one: each step's path and name.
pub(crate) fn crumbs(lang: Lang, way: &[(&str, &str)]) -> Markup {
    html! {
        nav class="crumbs" aria-label=(lang.say("Breadcrumb", "当前位置")) {
            @for (at, (path, name)) in way.iter().enumerate() {
                @if at > 0 { " / " }
                a href=(path) { (name) }
            }
        }
    }
}

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
            Self::Card => "(min-width: 48rem) 16rem, 44vw",
            Self::Small => "6rem",
        }
    }
}

/// A picture that keeps its room while it loads.
pub(crate) fn picture(lang: Lang, picture: &Picture, room: Room) -> Markup {
    image(picture, room, text(lang, &picture.alt))
}

/// A picture beside the name of what it shows, which says enough.
pub(crate) fn plain_picture(picture: &Picture, room: Room) -> Markup {
    image(picture, room, "")
}

fn image(picture: &Picture, room: Room, alt: &str) -> Markup {
    let is_main = room == Room::Main;
    let sizes: Vec<String> = picture.sizes.iter().map(|of| format!("{} {}w", of.path, of.width)).collect();
    // A browser that knows no `srcset` is old, and is not sent the largest.
    let source = picture.sizes.iter().rev().nth(1).map_or(&picture.path, |of| &of.path);
    html! {
        img src=(source) srcset=[(!sizes.is_empty()).then(|| sizes.join(", "))]
            sizes=[(!sizes.is_empty()).then(|| room.sizes())]
            width=(picture.width) height=(picture.height) alt=(alt)
            loading=(if is_main { "eager" } else { "lazy" }) fetchpriority=[is_main.then_some("high")] decoding="async";
    }
}

/// A product in a list.
pub(crate) fn card(lang: Lang, listing: &Listing) -> Markup {
    html! {
        li class="product" {
            a href={ "/p/" (listing.slug) } {
                div class="frame" {
                    @if let Some(of) = &listing.picture { (plain_picture(of, Room::Card)) }
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

/// Why a form was refused. It has the focus: its reader is there, and goes on from there.
pub(crate) fn refusal(title: &str, body: &Markup) -> Markup {
    html! { div class="notice bad" role="alert" tabindex="-1" autofocus { p class="title" { (title) } (body) } }
}

/// A field of a form. One that is wrong has the focus, or the first of those that are.
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
    field_that(field, field.error.is_some())
}

fn field_that(field: &Field<'_>, has_focus: bool) -> Markup {
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
                aria-invalid=[field.error.map(|_| "true")] autofocus[has_focus];
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

/// A badge with an order's state; a loud one if the shopper has something to do.
pub(crate) fn state_badge(lang: Lang, state: OrderState) -> Markup {
    let class = if state == OrderState::AwaitingPayment { "badge" } else { "badge plain" };
    html! { span class=(class) { (state_words(lang, state)) } }
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
    // A part of it went back after it had come.
    let state = if state == OrderState::PartRefunded { OrderState::Delivered } else { state };
    let Some(reached) = WAY.iter().position(|step| *step == state) else { return html! {} };
    html! {
        ol class="steps" aria-label=(lang.say("How far the order is", "订单进度")) {
            @for (at, name) in names.into_iter().enumerate() {
                li class=[(at <= reached).then_some("done")] aria-current=[(at == reached).then_some("step")] { (name) }
            }
        }
    }
}

/// What the page of a problem says.
pub(crate) fn problem(lang: Lang, title: &str, words: &str) -> Markup {
    html! {
        div class="narrow problem" {
            h1 { (title) }
            p { (words) }
            p { a class="button" href="/" { (lang.say("Back to the shop", "返回商城")) } }
        }
    }
}

/// Of a page that there is not.
pub(crate) fn no_page(lang: Lang) -> (&'static str, &'static str) {
    (
        lang.say("We can't find this page", "找不到该页面"),
        lang.say("It may have moved, or the product is no longer sold.", "页面可能已移动，或商品已下架。"),
    )
}
