//! The page's HTML. Everything that is shown is passed in.

use super::{SCRIPT, text::Words};
use crate::outcome::Outcome;
use contracts::{HoldState, ItemSpec, ItemState, ItemView, SaleState, SaleView};
use maud::{Markup, html};
use units::{Money, TimeMs};
use web::page::{Frame, Lang};

/// The most units that the page offers if there is no limit.
const QUANTITY_SHOWN_MAX: u32 = 10;

/// What a visitor needs in order to buy.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) csrf: String,
    pub(super) idempotency_key: String,
    pub(super) pass: String,
}

/// Everything that a sale's page shows.
#[derive(Debug)]
pub(super) struct SalePage<'a> {
    pub(super) lang: Lang,
    pub(super) now: TimeMs,
    pub(super) view: &'a SaleView,
    pub(super) demo: bool,
    pub(super) form: Option<Form>,
    pub(super) outcome: Option<Outcome>,
    pub(super) notice: Option<String>,
    /// The shop's return URL, and the same with the outcome, once there is one for the shop.
    pub(super) return_url: Option<&'a str>,
    pub(super) way_back: Option<String>,
    /// What links of the page carry after `?lang=…`.
    pub(super) query: String,
    /// The page's own path, for the language switch.
    pub(super) path: String,
    /// The outcome is of the attempt that was requested, and not a reminder of an earlier one.
    pub(super) answered: bool,
}

fn document(
    lang: Lang,
    title: &str,
    (path, query): (&str, &str),
    refresh_seconds: Option<u64>,
    body: &Markup,
) -> Markup {
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
        refresh_seconds,
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
            @if self.demo {
                p class="demo" role="note" {
                    (words.say(
                        "This is a demo. Nothing real is sold, payment is a sandbox, and a cookie makes you a demo shopper. Addresses of this machine have no rate limit.",
                        "这是演示。不销售真实商品，付款为沙盒，Cookie 让您成为演示顾客。本机地址不受频率限制。",
                    ))
                }
            }
            section id="sale" class="card" aria-labelledby="sale-name"
                data-sale=(view.sale) data-lang=(self.lang.code()) data-now=(self.now.0)
                data-opens=(view.opens_at.0) data-state=(state_name(view.state)) data-query=(self.query) {
                h1 id="sale-name" { (name) }
                p { span class="tag" id="sale-state"
                    data-scheduled=(words.sale_state(SaleState::Scheduled)) data-open=(words.sale_state(SaleState::Open))
                    data-paused=(words.sale_state(SaleState::Paused)) data-closed=(words.sale_state(SaleState::Closed))
                    { (words.sale_state(view.state)) } }
                (self.clock(words))
                @if self.form.is_some() { (self.buy(words)) } @else {
                    (self.items(words))
                    p { (words.say("To buy, come from the shop that runs this sale.", "请从举办本活动的商店进入购买。")) }
                }
            }
            div id="outcome" aria-live="polite" { (self.outcome_fragment()) }
        };
        document(self.lang, name, (&self.path, &self.query), self.refresh_seconds(), &body)
    }

    /// Without JavaScript a page reloads itself only while something may still change.
    fn refresh_seconds(&self) -> Option<u64> {
        match &self.outcome {
            Some(outcome) if outcome.outcome == "queued" => return Some(2),
            Some(outcome) if !outcome.is_final() && outcome.hold.is_none() => return Some(10),
            _ => {}
        }
        let opens_in = self.view.opens_at.since(self.now).0.div_ceil(1000);
        (self.view.state == SaleState::Scheduled).then(|| opens_in.clamp(1, 30))
    }

    fn clock(&self, words: Words) -> Markup {
        let view = self.view;
        let opening = view.state == SaleState::Scheduled;
        let opens_in = view.opens_at.since(self.now).0 / 1000;
        html! {
            p class="clock" {
                @if opening {
                    span class="while-closed" {
                        (words.say("Opens in", "距开始")) " "
                        // No live region: a screen reader must not read every tick.
                        strong id="countdown" role="timer" aria-live="off" { (hms(opens_in)) }
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

    fn items(&self, words: Words) -> Markup {
        let view = self.view;
        html! {
            ul class="items" {
                @for (item, seen) in view.spec.items.iter().zip(&view.items) {
                    li {
                        span class="name" { (words.item_name(item)) }
                        span class="price" { (self.price(seen.price_minor)) }
                        (item_tag(words, view.state, item, *seen))
                    }
                }
            }
        }
    }

    fn price(&self, amount_minor: u64) -> Money {
        Money { amount_minor, currency: self.view.spec.currency }
    }

    fn buy(&self, words: Words) -> Markup {
        let Some(form) = &self.form else { return html! {} };
        let view = self.view;
        let open = view.state == SaleState::Open;
        let first = view.items.iter().position(|i| i.state == ItemState::Available && i.offered).unwrap_or(0);
        let limit = self.quantity_max();
        html! {
            form id="buy" method="post" action={ "/sales/" (view.sale) "/buy" } data-pass=(form.pass) {
                input type="hidden" name="csrf" value=(form.csrf);
                input type="hidden" name="key" value=(form.idempotency_key);
                input type="hidden" name="lang" value=(self.lang.code());
                (self.return_field())
                fieldset {
                    legend { (words.say("Choose", "选择商品")) }
                    ul class="items" {
                        @for (at, (item, seen)) in view.spec.items.iter().zip(&view.items).enumerate() {
                            li {
                                label {
                                    input type="radio" name="item" value=(item.item) checked[at == first] required;
                                    span class="name" { (words.item_name(item)) }
                                    span class="price" { (self.price(seen.price_minor)) }
                                    (item_tag(words, view.state, item, *seen))
                                }
                            }
                        }
                    }
                }
                @if limit > 1 {
                    p { label { (words.say("Quantity", "数量")) " "
                        select name="quantity" { @for n in 1..=limit { option value=(n) { (n) } } } } }
                } @else {
                    input type="hidden" name="quantity" value="1";
                }
                button type="submit" disabled[!open] data-open=(words.say("Buy now", "立即抢购"))
                    data-wait=(words.say("Waiting for the opening", "等待开始")) data-busy=(words.say("Asking…", "提交中…"))
                    data-failed=(words.say("No answer arrived. Nothing is lost: press the button again.", "没有收到回复。没有任何损失：请再次点击按钮。")) {
                    @if open { (words.say("Buy now", "立即抢购")) }
                    @else if view.state == SaleState::Scheduled { (words.say("Waiting for the opening", "等待开始")) }
                    @else { (words.sale_state(view.state)) }
                }
                @if !open && view.state == SaleState::Scheduled {
                    noscript { p class="hint" { (words.say("This page reloads itself until the sale opens.", "活动开始前，本页面会自动刷新。")) } }
                }
            }
        }
    }

    fn return_field(&self) -> Markup {
        html! { @if let Some(url) = self.return_url { input type="hidden" name="return_url" value=(url); } }
    }

    fn quantity_max(&self) -> u32 {
        let spec = &self.view.spec;
        let round = usize::from(self.view.rounds_opened.max(1)) - 1;
        let of_round = spec.rounds.get(round).map(|r| r.items.iter().map(|i| i.limit_per_shopper));
        let unlimited = |limit: u32| if limit == 0 { QUANTITY_SHOWN_MAX } else { limit };
        let item = of_round.and_then(|limits| limits.map(unlimited).max()).unwrap_or(1);
        item.min(unlimited(spec.limit_per_shopper)).min(QUANTITY_SHOWN_MAX)
    }

    /// The outcome alone, as the script puts it into the page.
    pub(super) fn outcome_fragment(&self) -> Markup {
        let words = Words(self.lang);
        if let Some(notice) = &self.notice {
            let title = words.say("It did not work", "未能完成");
            return html! { section class="card notice" aria-labelledby="outcome-title" data-outcome="problem" {
                h2 id="outcome-title" tabindex="-1" { (title) } p { (notice) }
            } };
        }
        let Some(outcome) = &self.outcome else { return html! {} };
        let (title, meaning) = words.outcome(outcome);
        let hold = outcome.hold.as_ref();
        let held = hold.filter(|h| h.state == HoldState::Held);
        let tone = match hold.map(|h| h.state) {
            Some(HoldState::Held | HoldState::Confirmed) => "good",
            _ => "notice",
        };
        html! {
            section class={ "card " (tone) } aria-labelledby="outcome-title" data-attempt=(outcome.attempt)
                data-outcome=(outcome.outcome) data-final=(outcome.is_final()) data-answered=(self.answered) {
                h2 id="outcome-title" tabindex="-1" autofocus[self.answered] { (title) }
                p { (meaning) }
                @if let (true, Some(position)) = (outcome.is_queued(), outcome.position) {
                    p { strong { (words.in_line(position, outcome.wait_ms)) } }
                } @else if let Some(position) = outcome.position.filter(|_| hold.is_none() && outcome.place != Some("left")) {
                    p { (words.say("Position", "位置")) ": " strong { (position) } }
                }
                @if let Some(hold) = held {
                    p { (words.say("Pay by", "付款截止")) " " time datetime=(hold.pay_by) data-local="" { (readable(hold.pay_by)) }
                        " · " (words.say("time left", "剩余")) " "
                        strong data-until=(hold.pay_by.0) role="timer" aria-live="off" { (hms(hold.pay_by.since(self.now).0 / 1000)) } }
                    @if let Some(form) = &self.form {
                        form class="pay" method="post" action={ "/sales/" (self.view.sale) "/pay" } {
                            input type="hidden" name="csrf" value=(form.csrf);
                            input type="hidden" name="lang" value=(self.lang.code());
                            input type="hidden" name="hold" value=(hold.id);
                            (self.return_field())
                            button type="submit" { (words.say("Pay (sandbox)", "付款（沙盒）")) }
                        }
                    }
                }
                @if let Some(other) = outcome.held_by {
                    p { a href={ "/sales/" (self.view.sale) "/attempts/" (other) "?lang=" (self.lang.code()) (self.query) } { (words.say("See what you have", "查看您已有的商品")) } }
                }
                @if let Some(way_back) = &self.way_back {
                    p { a class="back" href=(way_back) rel="noreferrer" { (words.say("Go on at the shop", "返回商店继续")) } }
                }
                p class="small" {
                    (words.say("Attempt", "请求编号")) " " code { (outcome.attempt) }
                    @if let Some(as_of) = outcome.as_of { " · " (words.say("true at log entry", "对应日志序号")) " " (as_of) }
                }
            }
        }
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

fn hms(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-11 10:00:00 UTC`; the script replaces it by the visitor's local time.
fn readable(time: TimeMs) -> String {
    let text = time.to_string();
    format!("{} {} UTC", &text[..10], &text[11..19])
}
