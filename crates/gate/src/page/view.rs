//! The page's HTML. Everything that is shown is passed in.

use super::{SCRIPT, does::Does, text::Words};
use crate::{decisions::Current, outcome::Outcome};
use contracts::{Basket, HoldState, ItemSpec, ItemState, ItemView, SaleState, SaleView};
use maud::{Markup, html};
use units::{Money, TimeMs};
use web::{
    page::{Frame, Lang},
    words::money,
};

/// The most units that the page offers if there is no limit.
const QUANTITY_SHOWN_MAX: u32 = 10;

/// What a visitor needs in order to buy.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) csrf: String,
    /// One for each item: each button of the page is a purchase of its own.
    pub(super) idempotency_keys: Vec<String>,
    pub(super) pass: String,
}

/// What is known of the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing; though the shop may have sent the visitor just now.
    Stranger { has_entered: bool },
    /// Buys here, and pays in the sandbox.
    DemoVisitor,
    /// Buys here until then, and pays at the shop.
    Shopper { until: TimeMs },
}

/// A hold or a place of the visitor, and the shop's return URL with it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) current: Current,
    pub(super) way_back: Option<String>,
}

/// What the page says about the last request.
#[derive(Debug)]
pub(super) enum Said {
    Nothing,
    /// The outcome of the attempt that was asked for.
    Outcome(Box<Current>),
    /// Why there is none, in the page's language, and for developers.
    Notice {
        title: &'static str,
        words: String,
        detail: String,
    },
}

/// Everything that a sale's page shows.
#[derive(Debug)]
pub(super) struct SalePage<'a> {
    pub(super) lang: Lang,
    pub(super) now: TimeMs,
    pub(super) view: &'a SaleView,
    pub(super) known: Known,
    pub(super) form: Option<Form>,
    pub(super) said: Said,
    /// All that the sale keeps of the visitor, newest first.
    pub(super) own: Vec<Own>,
    /// The shop's return URL, and the same with the outcome of the last request, if the sale keeps
    /// nothing of that.
    pub(super) return_url: Option<&'a str>,
    pub(super) way_back: Option<String>,
    /// The page of the shop that runs the sale; empty if the operator has named none.
    pub(super) shop_url: &'a str,
    /// What links of the page carry after `?lang=…`.
    pub(super) query: String,
    /// The refusal that is shown, as the page's address carries it; none if it is stored.
    pub(super) carried: Option<&'a str>,
    /// The page's own path, for the language switch.
    pub(super) path: String,
}

fn document(
    lang: Lang,
    title: &str,
    (path, query): (&str, &str),
    refresh_seconds: Option<u64>,
    body: &Markup,
) -> Markup {
    let own = format!("{path}?lang={}{query}", lang.code());
    let frame = Frame {
        lang,
        title,
        path,
        query,
        skip: lang.say("Skip to the sale", "跳到活动内容"),
        footer: lang.say(
            "Sells exactly what there is. Every answer is kept in a log that can be checked.",
            "有多少卖多少。每个结果都记录在可核查的日志中。",
        ),
        script: Some(SCRIPT.path()),
        refresh: refresh_seconds.map(|seconds| (seconds, &*own)),
        places: &[],
        is_wide: false,
    };
    frame.render(body)
}

/// The list of sales.
pub(super) fn index(lang: Lang, sales: &[std::sync::Arc<SaleView>]) -> Markup {
    let words = Words(lang);
    let title = words.say("Sales", "活动");
    let body = html! {
        h1 { (title) }
        @if sales.is_empty() { p { (words.say("There is no sale yet.", "暂无活动。")) } }
        ul class="sales" {
            @for view in sales {
                li class="card" {
                    a href={ "/sales/" (view.sale) "?lang=" (lang.code()) } { (words.sale_name(&view.spec)) }
                    " " span class="tag" { (words.sale_state(view.state)) }
                }
            }
        }
    };
    document(lang, title, ("/", ""), None, &body)
}

impl SalePage<'_> {
    pub(super) fn render(&self) -> Markup {
        let words = Words(self.lang);
        let view = self.view;
        let name = words.sale_name(&view.spec);
        let body = html! {
            @if self.known == Known::DemoVisitor {
                p class="demo" role="note" {
                    (words.say(
                        "This is a demo. Nothing real is sold, payment is a sandbox, and a cookie makes you a demo shopper. Addresses of this machine have no rate limit.",
                        "这是演示。不销售真实商品，付款为沙盒，Cookie 让您成为演示顾客。本机地址不受频率限制。",
                    ))
                }
            }
            section id="sale" class="card" aria-labelledby="sale-name"
                data-sale=(view.sale) data-lang=(self.lang.code()) data-now=(self.now.0) data-day=(words.say("d", "天"))
                data-opens=(view.opens_at.0) data-state=(state_name(view.state)) data-query=(self.query)
                data-pass=[self.form.as_ref().map(|form| &form.pass)] data-knows=[self.knows_until()]
                data-failed=(words.say("No answer arrived. Nothing is lost: press the button again.", "没有收到回复。没有任何损失：请再次点击按钮。")) {
                h1 id="sale-name" { (name) }
                p { span class="tag" id="sale-state"
                    data-scheduled=(words.sale_state(SaleState::Scheduled)) data-open=(words.sale_state(SaleState::Open))
                    data-paused=(words.sale_state(SaleState::Paused)) data-closed=(words.sale_state(SaleState::Closed))
                    { (words.sale_state(view.state)) } }
                (self.clock(words))
            }
            (self.answer_part(words))
            (self.own_part(words))
            section class="card" aria-labelledby="items-title" {
                h2 id="items-title" { (words.say("For sale", "商品")) }
                (self.items(words))
                @if let Known::Stranger { has_entered } = self.known { (self.to_the_shop(words, has_entered)) }
            }
            (self.about_shopper(words))
        };
        // What no sale stores is carried on: a refusal, and that a browser keeps no cookies.
        let carried = self.carried.map(|said| format!("&said={said}")).unwrap_or_default();
        let entered = if let Known::Stranger { has_entered: true } = self.known { "&entered=1" } else { "" };
        let query = format!("{carried}{entered}{}", self.query);
        document(self.lang, name, (&self.path, &query), self.refresh_seconds(), &body)
    }

    /// When the page must be loaded again, because its forms are over.
    fn knows_until(&self) -> Option<u64> {
        if let Known::Shopper { until } = self.known { Some(until.0) } else { None }
    }

    /// Without JavaScript a page reloads itself only while something may still change.
    fn refresh_seconds(&self) -> Option<u64> {
        if let Said::Outcome(said) = &self.said
            && said.outcome.is_queued()
        {
            return Some(2);
        }
        if self.own.iter().any(|own| waits(&own.current.outcome)) {
            return Some(10);
        }
        let opens_in = self.view.opens_at.since(self.now).0.div_ceil(1000);
        (self.view.state == SaleState::Scheduled).then(|| opens_in.clamp(1, 30))
    }

    fn clock(&self, words: Words) -> Markup {
        let view = self.view;
        let opening = view.state == SaleState::Scheduled;
        html! {
            p class="clock" {
                @if opening {
                    span class="while-closed" {
                        (words.say("Opens in", "距开始")) " "
                        // No live region: a screen reader must not read every tick.
                        strong id="countdown" role="timer" aria-live="off" { (words.time_left(view.opens_at.since(self.now))) }
                        " (" time datetime=(view.opens_at) data-local="" { (readable(view.opens_at)) } ")"
                    }
                }
                span class="while-open" hidden[opening] {
                    span id="closes-word" data-open=(words.say("Open until", "开放至")) data-closed=(words.say("Ended", "结束于")) {
                        @if view.state == SaleState::Closed { (words.say("Ended", "结束于")) }
                        @else { (words.say("Open until", "开放至")) }
                    }
                    " " time id="closes" datetime=(view.closes_at) data-local="" { (readable(view.closes_at)) }
                }
            }
            p id="opened" class="visually-hidden" role="status" data-text=(words.say("The sale is open.", "活动已开始。")) {}
        }
    }

    /// Only the shop knows who a visitor is, so this page leads to it.
    fn to_the_shop(&self, words: Words, has_entered: bool) -> Markup {
        let to = self.return_url.unwrap_or(self.shop_url);
        html! {
            @if has_entered {
                p { (words.say(
                    "This page does not know you any more: your browser has not kept its cookie, or you were here for too long. Allow cookies for this site, and open the sale from the shop again.",
                    "本页面无法识别您：浏览器没有保存 Cookie，或停留时间过长。请允许本站使用 Cookie，并从商店重新进入。",
                )) }
            }
            @if to.is_empty() {
                p { (words.say("To buy, come from the shop that runs this sale.", "请从举办本活动的商店进入购买。")) }
            } @else {
                p { a class="back" href=(to) { (words.say("Buy at the shop that runs this sale", "前往举办本活动的商店购买")) } }
            }
        }
    }

    /// Where the shopper is from, and the way out on a device that others use too.
    fn about_shopper(&self, words: Words) -> Markup {
        let (Known::Shopper { until }, Some(form)) = (self.known, &self.form) else { return html! {} };
        let shop = self.return_url.unwrap_or(self.shop_url);
        let host =
            shop.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        html! {
            section class="shopper" aria-label=(words.say("You", "您")) {
                p class="small" {
                    @if host.is_empty() { (words.say("You came here from the shop", "您从商店进入")) }
                    @else { (words.say("You came here from", "您来自")) " " strong { (host) } }
                    (words.say(", and this page knows you until", "，本页面识别您的时间至")) " "
                    time datetime=(until) data-local="" { (readable(until)) } (words.say(".", "。"))
                }
                form class="leave" method="post" action={ "/sales/" (self.view.sale) "/leave" } {
                    input type="hidden" name="csrf" value=(form.csrf);
                    input type="hidden" name="lang" value=(self.lang.code());
                    (self.return_field())
                    button class="quiet" type="submit" { (words.say("Leave: this is not my device", "退出：这不是我的设备")) }
                }
            }
        }
    }

    /// The items, each with a button of its own: nothing is selected, so nothing is bought that was
    /// not chosen.
    fn items(&self, words: Words) -> Markup {
        let view = self.view;
        html! {
            ul class="items" {
                @for (at, (item, seen)) in view.spec.items.iter().zip(&view.items).enumerate() {
                    li id={ "item-" (item.item) } data-row=(item.item) data-offered=(seen.offered) {
                        p {
                            span class="name" { (words.item_name(item)) } " "
                            span class="price" { (self.price(seen.price_minor)) } " "
                            (item_tag(words, view.state, item, *seen))
                        }
                        @if let Some(form) = &self.form { (self.buy(words, form, at, item, *seen)) }
                    }
                }
            }
            @if self.form.is_some() && view.state == SaleState::Scheduled {
                noscript { p class="hint" { (words.say("This page reloads itself until the sale opens.", "活动开始前，本页面会自动刷新。")) } }
            }
        }
    }

    fn price(&self, amount_minor: u64) -> String {
        money(Money { amount_minor, currency: self.view.spec.currency }, self.lang)
    }

    fn buy(&self, words: Words, form: &Form, at: usize, item: &ItemSpec, seen: ItemView) -> Markup {
        let view = self.view;
        let does = Does::now(view.state, seen, self.has(at));
        let limit = self.quantity_max(at);
        html! {
            form class="buy" method="post" action={ "/sales/" (view.sale) "/buy" } {
                input type="hidden" name="csrf" value=(form.csrf);
                input type="hidden" name="key" value=(form.idempotency_keys.get(at).map_or("", String::as_str));
                input type="hidden" name="lang" value=(self.lang.code());
                input type="hidden" name="item" value=(item.item);
                (self.return_field())
                @if limit > 1 {
                    label { (words.say("Quantity", "数量"))
                        span class="visually-hidden" { ": " (words.item_name(item)) } " "
                        select name="quantity" { @for n in 1..=limit { option value=(n) { (n) } } } }
                } @else {
                    input type="hidden" name="quantity" value="1";
                }
                button type="submit" disabled[!does.is_possible()] data-busy=(words.say("Asking…", "提交中…"))
                    data-buy=(words.does(Does::Buy)) data-waitlist=(words.does(Does::JoinWaitlist))
                    data-sold_out=(words.does(Does::SoldOut)) data-upcoming=(words.does(Does::Upcoming))
                    data-have=(words.does(Does::HasAll)) data-scheduled=(words.does(Does::Wait))
                    data-paused=(words.does(Does::Paused)) data-closed=(words.does(Does::Ended)) {
                    span class="does" { (words.does(does)) }
                    span class="visually-hidden" { ": " (words.item_name(item)) }
                }
            }
        }
    }

    fn return_field(&self) -> Markup {
        html! { @if let Some(url) = self.return_url { input type="hidden" name="return_url" value=(url); } }
    }

    /// The most units that a visitor may ask for at once.
    fn quantity_max(&self, at: usize) -> u32 {
        let unlimited = |limit: u32| if limit == 0 { QUANTITY_SHOWN_MAX } else { limit };
        let of_item = self.view.items.get(at).map_or(1, |item| item.limit_per_shopper);
        unlimited(of_item).min(unlimited(self.view.limit_per_shopper)).min(QUANTITY_SHOWN_MAX)
    }

    /// Whether the visitor has, or waits for, as many of an item as one shopper may have. In a sale
    /// of several rounds the limit is that of a round, and the round of a hold is not known here:
    /// there the sale itself answers.
    fn has(&self, at: usize) -> bool {
        if self.view.spec.rounds.len() > 1 {
            return false;
        }
        let lines = || {
            self.own
                .iter()
                .map(|own| &own.current)
                .filter(|own| is_had(&own.outcome))
                .filter_map(|own| own.basket)
        };
        let all: u64 = lines().flat_map(|b| b.to_vec()).map(|line| u64::from(line.quantity)).sum();
        let of_item: u64 = lines()
            .flat_map(|b| b.to_vec())
            .filter(|line| usize::from(line.item) == at)
            .map(|line| u64::from(line.quantity))
            .sum();
        let reached = |limit: u32, had: u64| limit > 0 && had >= u64::from(limit);
        let item_limit = self.view.items.get(at).map_or(0, |item| item.limit_per_shopper);
        reached(item_limit, of_item) || reached(self.view.limit_per_shopper, all)
    }

    /// Both parts that a request may change, as the script puts them into the page.
    pub(super) fn fragment(&self) -> Markup {
        let words = Words(self.lang);
        html! {
            @if !matches!(self.said, Said::Nothing) { (self.answer_part(words)) }
            (self.own_part(words))
        }
    }

    fn answer_part(&self, words: Words) -> Markup {
        html! { div id="answer" aria-live="polite" { (self.answer(words)) } }
    }

    /// What became of the last request. It stays until the next one.
    fn answer(&self, words: Words) -> Markup {
        let said = match &self.said {
            Said::Nothing => return html! {},
            Said::Notice { title, words, detail } => {
                return html! { section class="card notice" aria-labelledby="answer-title" data-outcome="problem" {
                    h2 id="answer-title" tabindex="-1" autofocus { (title) }
                    p { (words) }
                    p class="hint" lang="en" { (detail) }
                } };
            }
            Said::Outcome(said) => said,
        };
        let outcome = &said.outcome;
        let (title, meaning) = words.outcome(outcome);
        let is_good = outcome.hold.as_ref().is_some_and(|h| is_kept(h.state));
        html! {
            section class={ "card " (if is_good { "good" } else { "notice" }) } aria-labelledby="answer-title"
                data-attempt=(outcome.attempt) data-outcome=(outcome.outcome) data-final=(outcome.is_final()) {
                h2 id="answer-title" tabindex="-1" autofocus { (title) }
                @if let Some(basket) = &said.basket { p { strong { (self.goods(words, basket)) } } }
                p { (meaning) }
                @if let (true, Some(position)) = (outcome.is_queued(), outcome.position) {
                    p { strong { (words.in_line(position, outcome.wait_ms)) } }
                }
                @if outcome.held_by.is_some() {
                    p { a href="#yours" { (words.say("See what you have", "查看您已有的商品")) } }
                }
                (to_go_on(words, self.way_back.as_deref()))
                (number(words, outcome))
            }
        }
    }

    /// `2 × Phone · CN¥3,998.00` for each line. The price is that of now, unless rounds differ in
    /// it: then the hold's own is not known here, and none is shown.
    fn goods(&self, words: Words, basket: &Basket) -> String {
        let spec = &self.view.spec;
        let mut text = Vec::new();
        for line in basket.iter() {
            let Some(item) = spec.items.get(usize::from(line.item)) else { continue };
            let offers = spec.rounds.iter().flat_map(|r| &r.items).filter(|offer| offer.item == item.item);
            let mut prices: Vec<u64> = offers.map(|offer| offer.price_minor).collect();
            prices.dedup();
            let price = match prices[..] {
                [one] => format!(" · {}", self.price(one.saturating_mul(u64::from(line.quantity)))),
                _ => String::new(),
            };
            text.push(format!("{} × {}{price}", line.quantity, words.item_name(item)));
        }
        text.join(", ")
    }

    fn own_part(&self, words: Words) -> Markup {
        let had: Vec<&str> = (0..self.view.spec.items.len())
            .filter(|at| self.form.is_some() && self.has(*at))
            .map(|at| self.view.spec.items[at].item.as_str())
            .collect();
        html! {
            div id="yours" data-have=(had.join(" ")) {
                @if !self.own.is_empty() {
                    section class="card" aria-labelledby="yours-title" {
                        h2 id="yours-title" { (words.say("Yours", "您的商品")) }
                        ul class="own" { @for own in &self.own { (self.own_row(words, own)) } }
                    }
                }
            }
        }
    }

    /// A hold or a place, with its own buttons.
    fn own_row(&self, words: Words, own: &Own) -> Markup {
        let Own { current: Current { outcome, basket }, way_back } = own;
        let (title, _) = words.outcome(outcome);
        let held = outcome.hold.as_ref().filter(|h| h.state == HoldState::Held);
        let waits = waits(outcome);
        let good = outcome.hold.as_ref().is_some_and(|h| is_kept(h.state));
        html! {
            li class=[good.then_some("good")] data-attempt=(outcome.attempt) data-final=(outcome.is_final()) {
                p { strong { @if let Some(basket) = basket { (self.goods(words, basket)) } } }
                p {
                    span class="tag" { (title) }
                    @if let Some(hold) = held {
                        " " (words.say("Pay by", "付款截止")) " " time datetime=(hold.pay_by) data-local="" { (readable(hold.pay_by)) }
                        " · " (words.say("time left", "剩余")) " "
                        strong data-until=(hold.pay_by.0) role="timer" aria-live="off" { (words.time_left(hold.pay_by.since(self.now))) }
                    }
                    @if let (true, Some(position)) = (waits, outcome.position) {
                        " " (words.say("Place", "候补序号")) " " strong { (position) }
                    }
                }
                @if held.is_some() && self.known != Known::DemoVisitor {
                    (self.to_pay(words, way_back.as_deref()))
                } @else {
                    (to_go_on(words, way_back.as_deref()))
                }
                @if let Some(form) = &self.form {
                    @if held.is_some() {
                        @let give_back = self.act(form, outcome, "give-back", words.say("Give it back", "退回"));
                        @if self.known == Known::DemoVisitor {
                            (self.act(form, outcome, "pay", words.say("Pay (sandbox)", "付款（沙盒）")))
                            (give_back)
                        } @else {
                            details {
                                summary { (words.say("I do not want it", "不想要了")) }
                                p { (words.say(
                                    "Another shopper may get it at once, and you cannot take it back.",
                                    "退回后可能立即由其他顾客购得，无法撤销。",
                                )) }
                                (give_back)
                            }
                        }
                    }
                    @if waits { (self.act(form, outcome, "give-back", words.say("Leave the waitlist", "退出候补"))) }
                }
            }
        }
    }

    /// The shop takes the payment: there with the ticket, or at least there.
    fn to_pay(&self, words: Words, way_back: Option<&str>) -> Markup {
        let to = way_back.unwrap_or(self.shop_url);
        html! {
            @if to.is_empty() {
                p { (words.say("To pay, go back to the shop.", "请返回商店付款。")) }
            } @else {
                p { a class="back button" href=(to) rel="noreferrer" { (words.say("Pay at the shop", "前往商店付款")) } }
            }
        }
    }

    fn act(&self, form: &Form, outcome: &Outcome, what: &str, label: &str) -> Markup {
        html! {
            form class=(what) method="post" action={ "/sales/" (self.view.sale) "/" (what) } {
                input type="hidden" name="csrf" value=(form.csrf);
                input type="hidden" name="lang" value=(self.lang.code());
                input type="hidden" name="hold" value=(outcome.attempt);
                (self.return_field())
                button type="submit" { (label) }
            }
        }
    }
}

/// The way back to the shop, with what the shop can check.
fn to_go_on(words: Words, way_back: Option<&str>) -> Markup {
    html! {
        @if let Some(way_back) = way_back {
            p { a class="back" href=(way_back) rel="noreferrer" { (words.say("Go on at the shop", "返回商店继续")) } }
        }
    }
}

/// Whether it is a place on the waitlist whose turn has not come.
fn waits(outcome: &Outcome) -> bool {
    outcome.hold.is_none() && !outcome.is_final()
}

/// What the shop's staff can find the request by.
fn number(words: Words, outcome: &Outcome) -> Markup {
    html! { p class="small" {
        (words.say("If you ask the shop about it, give this number:", "如需咨询商家，请提供此编号："))
        " " code { (outcome.attempt) }
    } }
}

fn is_kept(state: HoldState) -> bool {
    matches!(state, HoldState::Held | HoldState::Confirmed)
}

/// Whether it counts for the shopper's limits.
fn is_had(outcome: &Outcome) -> bool {
    match &outcome.hold {
        Some(hold) => is_kept(hold.state),
        None => outcome.place == Some("waiting"),
    }
}

/// The state of an item. Units that are left after the sale are shown as over: neither sold out nor
/// available. The script does the same if the sale ends while the page is open.
fn item_tag(words: Words, sale: SaleState, item: &ItemSpec, seen: ItemView) -> Markup {
    let ended = words.say("Ended", "已结束");
    let available = if seen.offered { words.item_state(ItemState::Available) } else { ended };
    let word = match seen.state {
        ItemState::Available if sale == SaleState::Closed => ended,
        ItemState::Available => available,
        state => words.item_state(state),
    };
    html! {
        span class="tag" data-item=(item.item) data-upcoming=(words.item_state(ItemState::Upcoming)) data-available=(available)
            data-sold_out=(words.item_state(ItemState::SoldOut)) data-ended=(ended) { (word) }
    }
}

pub(crate) fn state_name(state: SaleState) -> &'static str {
    match state {
        SaleState::Scheduled => "scheduled",
        SaleState::Open => "open",
        SaleState::Paused => "paused",
        SaleState::Closed => "closed",
    }
}

/// `2026-11-11 10:00:00 UTC`; the script replaces it by the visitor's local time.
fn readable(time: TimeMs) -> String {
    let text = time.to_string();
    format!("{} {} UTC", &text[..10], &text[11..19])
}
