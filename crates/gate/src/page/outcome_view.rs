//! What became of a shopper's requests: the answer to the last one, with one step to go on, and
//! what the sale keeps of the others.

use super::{
    art::{Art, art},
    does::Does,
    text::Words,
    view::{Form, Known, Own, Said, SalePage, is_kept, readable, waits},
};
use crate::{decisions::Current, outcome::Outcome};
use contracts::{Basket, HoldState, ItemSpec};
use maud::{Markup, html};
use units::TimeMs;

impl SalePage<'_> {
    pub(super) fn answer_part(&self, words: Words) -> Markup {
        html! { div id="answer" aria-live="polite" { (self.answer(words)) } }
    }

    /// How many are before a shopper in line, and how many were at first.
    pub(super) fn line(&self) -> Option<(u64, u64)> {
        let Said::Outcome(said) = &self.said else { return None };
        let position = said.outcome.position.filter(|_| said.outcome.is_queued())?;
        Some((position, self.line_from.unwrap_or(position).max(position)))
    }

    /// What became of the last request. It stays until the next one.
    fn answer(&self, words: Words) -> Markup {
        let said = match &self.said {
            Said::Nothing => return html! {},
            Said::Notice { title, words, detail } => {
                return html! { section class="card outcome notice" aria-labelledby="answer-title" data-outcome="problem" {
                    (art(Art::Clock))
                    div {
                        h2 id="answer-title" tabindex="-1" autofocus { (title) }
                        p { (words) }
                        p class="hint" lang="en" { (detail) }
                    }
                } };
            }
            Said::Outcome(said) => said,
        };
        let outcome = &said.outcome;
        let (title, meaning) = words.outcome(outcome);
        let held = held(outcome);
        let is_good = outcome.hold.as_ref().is_some_and(|hold| is_kept(hold.state));
        let line = self.line();
        html! {
            section class={ "card outcome" (if is_good { " good" } else { "" }) } aria-labelledby="answer-title"
                data-attempt=(outcome.attempt) data-outcome=(outcome.outcome) data-final=(outcome.is_final())
                data-from=[line.map(|(_, from)| from)] {
                (art(drawing(outcome)))
                div {
                    h2 id="answer-title" tabindex="-1" autofocus { (title) }
                    @if let Some(basket) = &said.basket { p class="goods" { strong { (self.goods(words, basket)) } } }
                    p { (meaning) }
                    @if let Some((position, from)) = line { (progress(words, outcome, position, from)) }
                    @if waits(outcome) && !outcome.is_queued() { (self.place(words, outcome)) }
                    @if let Some(pay_by) = held { (self.time_to_pay(words, pay_by)) }
                    (self.sold(words, said))
                    (self.next_step(words, said))
                    (number(words, outcome))
                }
            }
        }
    }

    /// A place on the waitlist. It keeps its number, so fewer may be before it.
    fn place(&self, words: Words, outcome: &Outcome) -> Markup {
        let spec = &self.view.spec;
        html! {
            @if let Some(position) = outcome.position {
                p class="place" { (words.say("Place", "候补序号")) " " strong { (position) } }
            }
            p { (words.turn(spec.hold_seconds)) }
            @if let Some(ends_at) = spec.waitlist_ends_at {
                p class="small" { (words.say("The waitlist ends", "候补截止时间")) " " time datetime=(ends_at) data-local="" { (readable(ends_at)) } }
            }
        }
    }

    /// Until when to pay, as a clock.
    fn time_to_pay(&self, words: Words, pay_by: TimeMs) -> Markup {
        html! {
            p class="time-to-pay" {
                // Without a script it would stand still: then only the time is shown.
                strong data-until=(pay_by.0) role="timer" aria-live="off" hidden { (words.time_left(pay_by.since(self.now))) }
                " " span { (words.say("Pay until", "请在此时间前付款：")) " " time datetime=(pay_by) data-local="" { (readable(pay_by)) } }
            }
        }
    }

    /// How many were sold, to a shopper who got none.
    fn sold(&self, words: Words, said: &Current) -> Markup {
        let (Some(stats), Some(basket)) = (&self.sold, &said.basket) else { return html! {} };
        let items = &self.view.spec.items;
        let lines = basket.iter().filter_map(|line| {
            let item = items.get(usize::from(line.item))?;
            let of = stats.items.iter().find(|of| of.item == item.item)?;
            Some((item, of.sold, of.held))
        });
        html! {
            @for (item, sold, held) in lines {
                p { (words.sold(words.item_name(item), sold, held)) }
            }
        }
    }

    /// One clear step, which leads somewhere.
    fn next_step(&self, words: Words, said: &Current) -> Markup {
        let outcome = &said.outcome;
        let mine = self.own.iter().find(|own| own.current.outcome.attempt == outcome.attempt);
        let way_back = mine.and_then(|own| own.way_back.as_deref()).or(self.way_back.as_deref());
        let is_held = held(outcome).is_some();
        html! {
            @match (is_held, self.again(said)) {
                (true, _) => (self.to_pay(words, way_back)),
                (false, Some((item, does))) if !waits(outcome) => {
                    p class="actions" {
                        a class="button" href={ "#item-" (item.item) } {
                            @if does == Does::JoinWaitlist { (words.say("Join the waitlist", "加入候补名单")) }
                            @else { (words.say("Try again", "再试一次")) }
                        }
                    }
                    (self.to_go_on(words, way_back, true))
                }
                _ if outcome.held_by.is_some() => {
                    p class="actions" { a class="button" href="#yours" { (words.say("See what you have", "查看您已有的商品")) } }
                    (self.to_go_on(words, way_back, true))
                }
                _ if matches!(outcome.outcome, "not_open" | "paused") => {
                    p class="actions" { a class="button" href="#sale" { (words.say("To the sale's clock", "查看活动时间")) } }
                }
                _ if outcome.is_queued() => {}
                _ => (self.to_go_on(words, way_back, waits(outcome))),
            }
            @if mine.is_some() { (self.giving_up(words, outcome)) }
        }
    }

    /// The item of a request that got nothing, if it can be had, or waited for, now.
    fn again(&self, said: &Current) -> Option<(&ItemSpec, Does)> {
        let is_over = match (&said.outcome.hold, said.outcome.outcome) {
            (Some(hold), _) => matches!(hold.state, HoldState::Expired | HoldState::Released),
            (None, "sold_out" | "none") => true,
            (None, "waitlisted") => said.outcome.place == Some("left"),
            _ => false,
        };
        let basket = said.basket.filter(|_| is_over && self.form.is_some())?;
        let at = usize::from(basket.first()?.item);
        let (item, seen) = (self.view.spec.items.get(at)?, self.view.items.get(at)?);
        let does = Does::now(self.view.state, *seen, self.has(at));
        does.is_possible().then_some((item, does))
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

    /// All that the sale keeps of the visitor, but for what the answer above is about.
    pub(super) fn own_part(&self, words: Words) -> Markup {
        let had: Vec<&str> = (0..self.view.spec.items.len())
            .filter(|at| self.form.is_some() && self.has(*at))
            .map(|at| self.view.spec.items[at].item.as_str())
            .collect();
        let above = match &self.said {
            Said::Outcome(said) => Some(said.outcome.attempt),
            _ => self.above,
        };
        let others = || self.own.iter().filter(|own| Some(own.current.outcome.attempt) != above);
        html! {
            div id="yours" data-have=(had.join(" ")) {
                @if others().next().is_some() {
                    section class="card" aria-labelledby="yours-title" {
                        h2 id="yours-title" { (words.say("Yours", "您的商品")) }
                        ul class="own" { @for own in others() { (self.own_row(words, own)) } }
                    }
                }
            }
        }
    }

    /// A hold or a place, with its own buttons.
    fn own_row(&self, words: Words, own: &Own) -> Markup {
        let Own { current: Current { outcome, basket }, way_back } = own;
        let (title, _) = words.outcome(outcome);
        let held = held(outcome);
        let good = outcome.hold.as_ref().is_some_and(|h| is_kept(h.state));
        html! {
            li class=[good.then_some("good")] data-attempt=(outcome.attempt) data-final=(outcome.is_final()) {
                p { strong { @if let Some(basket) = basket { (self.goods(words, basket)) } } }
                p {
                    span class="tag" { (title) }
                    @if let Some(pay_by) = held {
                        " " (words.say("Pay by", "付款截止")) " " time datetime=(pay_by) data-local="" { (readable(pay_by)) }
                        " · " (words.say("time left", "剩余")) " "
                        strong data-until=(pay_by.0) role="timer" aria-live="off" { (words.time_left(pay_by.since(self.now))) }
                    }
                    @if let (true, Some(position)) = (waits(outcome), outcome.position) {
                        " " (words.say("Place", "候补序号")) " " strong { (position) }
                    }
                }
                @if held.is_some() && self.known != Known::DemoVisitor {
                    (self.to_pay_at_the_shop(words, way_back.as_deref()))
                } @else if let Some(way_back) = way_back {
                    (go_on(words, way_back, true))
                }
                @if let (Some(form), true, Known::DemoVisitor) = (&self.form, held.is_some(), self.known) {
                    (self.act(form, outcome, "pay", words.say("Pay (sandbox)", "付款（沙盒）")))
                }
                (self.giving_up(words, outcome))
            }
        }
    }

    /// Gives a hold or a place back. In a demo it can be had again; in earnest it is asked twice.
    fn giving_up(&self, words: Words, outcome: &Outcome) -> Markup {
        let Some(form) = &self.form else { return html! {} };
        let give_back = || self.act(form, outcome, "give-back", words.say("Give it back", "退回"));
        html! {
            @if held(outcome).is_some() {
                @if self.known == Known::DemoVisitor {
                    (give_back())
                } @else {
                    details {
                        summary { (words.say("I do not want it", "不想要了")) }
                        p { (words.say(
                            "Another shopper may get it at once, and you cannot take it back.",
                            "退回后可能立即由其他顾客购得，无法撤销。",
                        )) }
                        (give_back())
                    }
                }
            } @else if waits(outcome) {
                (self.act(form, outcome, "give-back", words.say("Leave the waitlist", "退出候补")))
            }
        }
    }

    /// The one big button of what was won.
    fn to_pay(&self, words: Words, way_back: Option<&str>) -> Markup {
        match (&self.form, &self.said) {
            (Some(form), Said::Outcome(said)) if self.known == Known::DemoVisitor => html! {
                (self.act(form, &said.outcome, "pay", words.say("Pay (sandbox)", "付款（沙盒）")))
                @if let Some(way_back) = way_back { (go_on(words, way_back, true)) }
            },
            _ => self.to_pay_at_the_shop(words, way_back),
        }
    }

    /// The shop takes the payment: there with the ticket, or at least there.
    fn to_pay_at_the_shop(&self, words: Words, way_back: Option<&str>) -> Markup {
        let to = way_back.unwrap_or(self.shop_url);
        html! {
            @if to.is_empty() {
                p { (words.say("To pay, go back to the shop.", "请返回商店付款。")) }
            } @else {
                p class="actions" { a class="back button" href=(to) rel="noreferrer" { (words.say("Pay at the shop", "前往商店付款")) } }
            }
        }
    }

    /// The way back to the shop, with what the shop can check; or at least to it.
    fn to_go_on(&self, words: Words, way_back: Option<&str>, is_quiet: bool) -> Markup {
        let shop = self.return_url.unwrap_or(self.shop_url);
        html! {
            @match (way_back, shop) {
                (Some(way_back), _) => (go_on(words, way_back, is_quiet)),
                (None, "") => {}
                (None, shop) => p class="actions" {
                    a class={ "button" (if is_quiet { " quiet" } else { "" }) } href=(shop) { (words.say("See what else the shop has", "去商店逛逛")) }
                },
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

fn go_on(words: Words, way_back: &str, is_quiet: bool) -> Markup {
    html! { p class="actions" {
        a class={ "back button" (if is_quiet { " quiet" } else { "" }) } href=(way_back) rel="noreferrer" { (words.say("Go on at the shop", "返回商店继续")) }
    } }
}

/// Until when it is to be paid, if it is.
fn held(outcome: &Outcome) -> Option<TimeMs> {
    outcome.hold.as_ref().filter(|hold| hold.state == HoldState::Held).map(|hold| hold.pay_by)
}

fn drawing(outcome: &Outcome) -> Art {
    match (&outcome.hold, outcome.outcome) {
        (Some(hold), _) if is_kept(hold.state) => Art::Present,
        (Some(hold), _) if hold.state == HoldState::Expired => Art::Clock,
        (None, "queued") => Art::Line,
        (None, "waitlisted") if waits(outcome) => Art::Bell,
        (None, "limit_reached") => Art::Bag,
        (None, "not_open" | "paused") => Art::Clock,
        (None, "not_eligible" | "closed") => Art::Door,
        _ => Art::Shelf,
    }
}

/// The way to the front of the line, from where the shopper first was told the place.
fn progress(words: Words, outcome: &Outcome, position: u64, from: u64) -> Markup {
    html! {
        p class="place" { (words.say("Place", "当前位置")) " " strong { (position.saturating_add(1)) } }
        progress max=(from.saturating_add(1)) value=(from - position) aria-label=(words.say("Your way to the front", "排队进度")) {}
        p { strong { (words.in_line(position, outcome.wait_ms)) } }
    }
}

/// What the shop's staff can find the request by.
fn number(words: Words, outcome: &Outcome) -> Markup {
    html! { p class="small" {
        (words.say("If you ask the shop about it, give this number:", "如需咨询商家，请提供此编号："))
        " " code { (outcome.attempt) }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{Answer, AttemptId, HoldView, ItemState, ItemView, Line, Place, Refusal, SaleView};
    use std::sync::Arc;
    use units::Sequence;
    use web::page::Lang;

    const NOW: TimeMs = TimeMs(1_794_391_200_000);
    const SHOP: &str = "https://shop.example/launch";

    /// A sale whose phone is sold out, and whose waitlist is open.
    fn view() -> SaleView {
        let mut view = crate::testing::view();
        let mut spec = (*view.spec).clone();
        spec.items[0].name_zh = Some("手机".into());
        spec.waitlist_ends_at = Some(NOW);
        view.spec = Arc::new(spec);
        let item = ItemView {
            state: ItemState::SoldOut,
            offered: true,
            waitlist_open: true,
            price_minor: 199_900,
            limit_per_shopper: 1,
            sold_out_since: Sequence(3),
        };
        SaleView { items: vec![item; 2], ..view }
    }

    /// The page's answer to this, to a shopper of the sale.
    fn said(lang: Lang, answer: &Answer, known: Known) -> String {
        let basket = Some(Basket::new(&[Line { item: 0, quantity: 1 }]).unwrap());
        let outcome = || crate::outcome::outcome_of(AttemptId([7; 16]), answer).unwrap();
        let current = || Current { outcome: outcome(), basket };
        let is_kept = outcome().hold.is_some() || waits(&outcome());
        let own = is_kept.then(|| Own { current: current(), way_back: None });
        let view = view();
        let page = SalePage {
            lang,
            now: NOW,
            view: &view,
            known,
            form: Some(Form { csrf: "c".into(), idempotency_keys: vec!["k".into()], pass: "p".into() }),
            said: Said::Outcome(Box::new(current())),
            own: own.into_iter().collect(),
            above: None,
            line_from: None,
            sold: None,
            return_url: None,
            way_back: None,
            shop_url: SHOP,
            query: String::new(),
            carried: None,
            path: String::new(),
        };
        page.answer_part(Words(lang)).into_string()
    }

    #[test]
    fn each_outcome_has_its_drawing_its_words_and_one_step_that_leads_somewhere() {
        let hold = |state| {
            let pay_by = NOW.plus(units::DurationMs::seconds(900));
            Answer::Granted(HoldView { state, pay_by, granted_as_of: Sequence(2) })
        };
        let refused = |refusal| Answer::Refused { refusal, as_of: Sequence(4) };
        let place = Answer::Waitlisted { position: 3, place: Place::Waiting };
        let other = Some(AttemptId([9; 16]));
        let shop = "href=\"https://shop.example/launch\"";
        let again = "href=\"#item-phone\"";
        for (answer, en, zh, step) in [
            (hold(HoldState::Held), "It is yours to pay", "抢购成功，请付款", shop),
            (hold(HoldState::Confirmed), "Enjoy it!", "祝您使用愉快", shop),
            (hold(HoldState::Expired), "the shop gives your money back", "商家将退还款项", again),
            (hold(HoldState::Released), "Given back", "已退回", again),
            (hold(HoldState::Voided), "Ask the shop for the reason.", "请向商家咨询原因。", shop),
            (place, "Keep this page open, or look in again", "请保留本页或稍后再来查看", shop),
            (refused(Refusal::SoldOut), "Thank you for being here", "感谢您的参与", again),
            (
                refused(Refusal::LimitReached { held_by: other }),
                "enough for others",
                "其余留给其他顾客",
                "href=\"#yours\"",
            ),
            (
                refused(Refusal::LimitReached { held_by: None }),
                "Your limit is reached",
                "已达到限购数量",
                shop,
            ),
            (refused(Refusal::NotEligible), "Not for this sale", "您不符合本次活动的条件", shop),
            (refused(Refusal::Closed), "The sale is over", "活动已结束", shop),
            (refused(Refusal::NotOpen), "Wait for the countdown", "请等待倒计时结束", "href=\"#sale\""),
            (refused(Refusal::Paused), "The sale is paused", "活动已暂停", "href=\"#sale\""),
            (Answer::None { as_of: Sequence(4) }, "No answer is kept", "没有保存的结果", again),
        ] {
            for (lang, words, goods) in [(Lang::En, en, "1 × Phone"), (Lang::Zh, zh, "1 × 手机")] {
                let page = said(lang, &answer, Known::Shopper { until: NOW });
                for part in [words, goods, step, "<svg class=\"art\"", "07070707"] {
                    assert!(page.contains(part), "{answer:?}: {part}: {page}");
                }
            }
        }
    }

    #[test]
    fn what_was_won_has_a_clock_and_one_big_button() {
        let pay_by = NOW.plus(units::DurationMs::seconds(900));
        let held = Answer::Granted(HoldView { state: HoldState::Held, pay_by, granted_as_of: Sequence(2) });
        let page = said(Lang::En, &held, Known::Shopper { until: NOW });
        assert!(page.contains("hidden>00:15:00</strong> <span>Pay until <time "), "{page}");
        assert_eq!(page.matches("Pay at the shop").count(), 1, "{page}");
        assert!(page.contains("<details><summary>I do not want it</summary>"), "{page}");
        let page = said(Lang::Zh, &held, Known::DemoVisitor);
        assert!(page.contains("请在此时间前付款：") && page.contains("付款（沙盒）"), "{page}");
    }

    #[test]
    fn a_place_on_the_waitlist_says_what_happens_next() {
        let place = Answer::Waitlisted { position: 3, place: Place::Waiting };
        let en = said(Lang::En, &place, Known::DemoVisitor);
        for part in ["Place <strong>3</strong>", "for 15 minutes.", "The waitlist ends", "Leave the waitlist"]
        {
            assert!(en.contains(part), "{part}: {en}");
        }
        let zh = said(Lang::Zh, &place, Known::DemoVisitor);
        assert!(zh.contains("候补序号 <strong>3</strong>") && zh.contains("15 分钟"), "{zh}");
    }
}
