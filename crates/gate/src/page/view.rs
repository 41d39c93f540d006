//! The page's HTML. Everything that is shown is passed in.

use super::{
    SCRIPT, SHEET,
    art::{Art, art},
    does::Does,
    picture::picture,
    text::Words,
};
use crate::{decisions::Current, outcome::Outcome};
use contracts::{AttemptId, HoldState, ItemSpec, ItemState, ItemView, SaleState, SaleStats, SaleView};
use maud::{Markup, html};
use std::sync::Arc;
use units::{DurationMs, Money, TimeMs};
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
    /// The attempt whose answer the page has already, above that.
    pub(super) above: Option<AttemptId>,
    /// How many were before the shopper when the page first said it.
    pub(super) line_from: Option<u64>,
    /// The sale in figures, for a shopper who got nothing of it.
    pub(super) sold: Option<Arc<SaleStats>>,
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

/// A page for shoppers.
pub(super) struct Document<'a> {
    pub(super) lang: Lang,
    pub(super) title: &'a str,
    /// Its path, and what links carry after `?lang=…`.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) refresh_seconds: Option<u64>,
    /// The page of the shop that runs the sale; empty if the operator has named none.
    pub(super) shop_url: &'a str,
}

impl Document<'_> {
    pub(super) fn render(&self, body: &Markup) -> Markup {
        let Self { lang, title, path, query, refresh_seconds, shop_url } = *self;
        let own = format!("{path}?lang={}{query}", lang.code());
        let sales = format!("/?lang={}", lang.code());
        let frame = Frame {
            query,
            skip: lang.say("Skip to the sale", "跳到活动内容"),
            footer: lang.say(
                "Sells exactly what there is. Every answer is kept in a log that can be checked.",
                "有多少卖多少。每个结果都记录在可核查的日志中。",
            ),
            script: Some(SCRIPT.path()),
            refresh: refresh_seconds.map(|seconds| (seconds, &*own)),
            home: Some(if shop_url.is_empty() { &sales } else { shop_url }),
            sheet: &SHEET,
            ..Frame::plain(lang, title, path)
        };
        frame.render(body)
    }
}

/// The list of sales.
pub(super) fn index(lang: Lang, sales: &[Arc<SaleView>], shop_url: &str) -> Markup {
    let words = Words(lang);
    let title = words.say("Sales", "活动");
    let body = html! {
        h1 { (title) }
        @if sales.is_empty() { p { (words.say("There is no sale yet.", "暂无活动。")) } }
        ul class="sales" {
            @for view in sales {
                li {
                    a href={ "/sales/" (view.sale) "?lang=" (lang.code()) } {
                        @match view.spec.items.iter().find(|item| item.picture.is_some()) {
                            Some(item) => (picture(words, item, false)),
                            None => div class="frame" { (art(Art::Present)) },
                        }
                        span class="name" { (words.sale_name(&view.spec)) }
                    }
                    p { span class="tag" { (words.sale_state(view.state)) } }
                    p class="small" { (when(words, view)) }
                }
            }
        }
    };
    Document { lang, title, path: "/", query: "", refresh_seconds: None, shop_url }.render(&body)
}

/// When a sale opens, or until when it is open.
fn when(words: Words, view: &SaleView) -> Markup {
    let (word, at) = match view.state {
        SaleState::Scheduled => (words.say("Opens", "开始时间"), view.opens_at),
        SaleState::Open | SaleState::Paused => (words.say("Open until", "开放至"), view.closes_at),
        SaleState::Closed => (words.say("Ended", "结束于"), view.closes_at),
    };
    html! { (word) " " time datetime=(at) data-local="" { (readable(at)) } }
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
            // What became of the last request is what the page is about, until the next one.
            (self.answer_part(words))
            (self.own_part(words))
            (self.hero(words, name))
            (self.others(words))
            (self.about_shopper(words))
        };
        // What no sale stores is carried on: a refusal, that a browser keeps no cookies, and where
        // the shopper was in line at first.
        let carried = self.carried.map(|said| format!("&said={said}")).unwrap_or_default();
        let entered = if let Known::Stranger { has_entered: true } = self.known { "&entered=1" } else { "" };
        let from = self.line().map(|(_, from)| format!("&from={from}")).unwrap_or_default();
        let query = format!("{carried}{entered}{from}{}", self.query);
        let document = Document {
            lang: self.lang,
            title: name,
            path: &self.path,
            query: &query,
            refresh_seconds: self.refresh_seconds(),
            shop_url: self.shop_url,
        };
        document.render(&body)
    }

    /// The sale, its clock, and its first item.
    fn hero(&self, words: Words, name: &str) -> Markup {
        let view = self.view;
        let first = view.spec.items.first();
        let has_picture = first.is_some_and(|item| item.picture.is_some());
        html! {
            section id="sale" class=(if has_picture { "hero" } else { "hero plain" }) aria-labelledby="sale-name"
                data-sale=(view.sale) data-lang=(self.lang.code()) data-now=(self.now.0) data-day=(words.say("d", "天"))
                data-opens=(view.opens_at.0) data-state=(state_name(view.state)) data-query=(self.query)
                data-pass=[self.form.as_ref().map(|form| &form.pass)] data-knows=[self.knows_until()]
                data-failed=(words.say("No answer arrived. Nothing is lost: press the button again.", "没有收到回复。没有任何损失：请再次点击按钮。")) {
                div class="what" {
                    p { span class="tag" id="sale-state"
                        data-scheduled=(words.sale_state(SaleState::Scheduled)) data-open=(words.sale_state(SaleState::Open))
                        data-paused=(words.sale_state(SaleState::Paused)) data-closed=(words.sale_state(SaleState::Closed))
                        { (words.sale_state(view.state)) } }
                    h1 id="sale-name" { (name) }
                    (self.clock(words))
                }
                @if let Some(item) = first { (picture(words, item, true)) }
                div class="first" {
                    @if let (Some(item), Some(seen)) = (first, view.items.first()) {
                        div id={ "item-" (item.item) } data-row=(item.item) data-offered=(seen.offered) {
                            (self.item(words, 0, item, *seen))
                        }
                    }
                    @if self.form.is_some() && view.state == SaleState::Scheduled {
                        noscript { p class="hint" { (words.say("This page reloads itself until the sale opens.", "活动开始前，本页面会自动刷新。")) } }
                    }
                    @if let Known::Stranger { has_entered } = self.known { (self.to_the_shop(words, has_entered)) }
                }
            }
        }
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

    /// Both of its lines have the same room, so that nothing moves when the sale opens.
    fn clock(&self, words: Words) -> Markup {
        let view = self.view;
        let opening = view.state == SaleState::Scheduled;
        html! {
            div class="clock" {
                @if opening {
                    div class="while-closed" {
                        p { (words.say("Opens in", "距开始")) }
                        (countdown(words, view.opens_at.since(self.now)))
                        p class="small" { time id="opens" datetime=(view.opens_at) data-local="" { (readable(view.opens_at)) } }
                    }
                }
                p class="while-open" hidden[opening] {
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

    /// The items after the first. Each has a button of its own: nothing is selected, so nothing is
    /// bought that was not chosen.
    fn others(&self, words: Words) -> Markup {
        let view = self.view;
        let others = || view.spec.items.iter().zip(&view.items).enumerate().skip(1);
        html! {
            @if others().next().is_some() {
                section class="others" aria-labelledby="items-title" {
                    h2 id="items-title" { (words.say("Also in this sale", "更多商品")) }
                    ul class="items" {
                        @for (at, (item, seen)) in others() {
                            li id={ "item-" (item.item) } data-row=(item.item) data-offered=(seen.offered) {
                                (picture(words, item, false))
                                div { (self.item(words, at, item, *seen)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn item(&self, words: Words, at: usize, item: &ItemSpec, seen: ItemView) -> Markup {
        html! {
            p class="offer" {
                span class="name" { (words.item_name(item)) } " "
                span class="price" { (self.price(seen.price_minor)) } " "
                (item_tag(words, self.view.state, item, seen))
            }
            @if let Some(form) = &self.form { (self.buy(words, form, at, item, seen)) }
        }
    }

    pub(super) fn price(&self, amount_minor: u64) -> String {
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

    pub(super) fn return_field(&self) -> Markup {
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
    pub(super) fn has(&self, at: usize) -> bool {
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
}

/// Days, hours, minutes and seconds. No live region: a screen reader must not read every tick.
fn countdown(words: Words, left: DurationMs) -> Markup {
    let seconds = left.0.div_ceil(1000);
    let parts = [
        ("d", seconds / 86_400, words.say("days", "天")),
        ("h", seconds / 3600 % 24, words.say("hours", "时")),
        ("m", seconds / 60 % 60, words.say("minutes", "分")),
        ("s", seconds % 60, words.say("seconds", "秒")),
    ];
    html! {
        div id="countdown" role="timer" aria-live="off" {
            @for (unit, count, name) in parts {
                span { b data-unit=(unit) { (format!("{count:02}")) } " " span { (name) } " " }
            }
        }
    }
}

/// Whether it counts for the shopper's limits.
fn is_had(outcome: &Outcome) -> bool {
    match &outcome.hold {
        Some(hold) => is_kept(hold.state),
        None => outcome.place == Some("waiting"),
    }
}

/// Whether a hold in this state is the shopper's.
pub(super) fn is_kept(state: HoldState) -> bool {
    matches!(state, HoldState::Held | HoldState::Confirmed)
}

/// Whether it is a place on the waitlist whose turn has not come.
pub(super) fn waits(outcome: &Outcome) -> bool {
    outcome.hold.is_none() && !outcome.is_final()
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
pub(super) fn readable(time: TimeMs) -> String {
    let text = time.to_string();
    format!("{} {} UTC", &text[..10], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::ItemPicture;

    #[test]
    fn the_list_of_sales_has_a_card_for_each_with_picture_name_state_and_time() {
        let open = crate::testing::view();
        let mut spec = (*open.spec).clone();
        spec.name_zh = Some("首发日".into());
        let url = "https://media.example/watch.webp".to_owned();
        let picture = ItemPicture { url, width: 4, height: 3, alt: "A watch".into(), alt_zh: None };
        spec.items[1].picture = Some(picture);
        let (sale, opens_at) = ("autumn".parse().unwrap(), TimeMs(1_794_391_200_000));
        let state = SaleState::Scheduled;
        let scheduled = SaleView { sale, state, opens_at, spec: Arc::new(spec), ..open.clone() };
        let sales = [Arc::new(open), Arc::new(scheduled)];
        let en = index(Lang::En, &sales, "https://shop.example/").into_string();
        let cards: Vec<&str> = en.split("<li>").skip(1).collect();
        for (card, parts) in cards.iter().zip([
            ["href=\"/sales/demo?lang=en\"", "<svg class=\"art\"", ">Launch<", ">Open<", "Open until <time"],
            [
                "href=\"/sales/autumn?lang=en\"",
                "src=\"https://media.example/watch.webp\" width=\"4\" height=\"3\" alt=\"A watch\"",
                "loading=\"lazy\"",
                ">Not open yet<",
                "Opens <time datetime=\"2026-11-11T10:00:00.000Z\"",
            ],
        ]) {
            for part in parts {
                assert!(card.contains(part), "{part}: {card}");
            }
        }
        assert_eq!(cards.len(), 2, "{en}");
        let zh = index(Lang::Zh, &sales, "").into_string();
        assert!(zh.contains(">首发日<") && zh.contains("开始时间 <time"), "{zh}");
    }
}
