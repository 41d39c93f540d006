//! A sale on the shop's pages: where a product of it is bought, and how its winner comes to the
//! order. With JavaScript the sale's script sells on the page of the product. Without it the
//! shopper goes to the sale's own page, with the shop's token, and comes back with what the sale
//! has signed.

use super::{framed, page};
use crate::{
    design::{Frame, Mood, notice},
    parts::Shop,
    visitor::{Visitor, log_in_path},
    words::moment,
};
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::{
    AttemptId, SaleId, SaleState,
    store::{HoldRef, OfferedIn, ProductSlug, ReturnedOutcome, SaleReturn},
};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    page::Lang,
    problem::{Problem, of_store},
};

/// Where the sale leads back to. Its `gate.return_urls` must have it.
pub const RETURN_PATH: &str = "/checkout";
/// How soon a page looks again whose order is on its way.
const AGAIN_SECONDS: u64 = 2;
/// After so many looks for an order it does not look by itself any more.
const TRIES_MAX: u32 = 30;

/// What a shopper takes to the sale's own page.
#[derive(Debug)]
pub(super) struct Entry {
    token: String,
    return_url: String,
}

impl Entry {
    /// Of a shopper who is logged in; `None` of others, and if the sale takes another shop's
    /// tokens or it is not known where it is. The page with it is private: no cache keeps it.
    pub(super) async fn of(shop: &Shop, visitor: &Visitor, product: &ProductSlug) -> Option<Self> {
        let account = visitor.account().filter(|_| !shop.sale_origin.is_empty())?;
        let token = shop.accounts.sale_token(account).await.ok()?;
        let return_url = format!("{}{RETURN_PATH}?product={product}", shop.origin);
        Some(Self { token, return_url })
    }
}

/// Where a product of a sale is bought.
pub(super) fn sale_box(shop: &Shop, visitor: &Visitor, of: &OfferedIn, entry: Option<&Entry>) -> Markup {
    let (lang, origin) = (visitor.lang, &shop.sale_origin);
    html! {
        div class="sale" {
            p { (lang.say("Available in the launch sale only.", "本商品参加首发抢购。")) }
            p class="hidden" role="status" data-opened=(lang.say("The sale is open", "抢购开始")) {}
            @if visitor.signed_in.is_some() {
                script src={ (origin) "/floodgate.js" } data-sale=(of.sale) data-item=(of.item) data-token-url="/account/sale-token" data-lang=(lang.code()) {}
                noscript {
                    (sale_state(shop, lang, of))
                    @match entry {
                        Some(entry) => (enter(lang, origin, of, entry)),
                        None => p { (lang.say("Turn on JavaScript to take part in this sale, then reload the page.", "请启用 JavaScript 后刷新页面参与抢购。")) }
                    }
                }
                p class="actions" { a id="to-order" class="button" href="/orders" hidden { (lang.say("To your order", "查看订单")) } }
            } @else {
                (sale_state(shop, lang, of))
                p { a class="button wide" href=(log_in_path(&visitor.here)) { (lang.say("Log in to take part", "登录后参与抢购")) } }
            }
        }
    }
}

/// The way to the sale's own page. The token is in a form and not in a link: addresses are kept in
/// histories and logs.
fn enter(lang: Lang, origin: &str, of: &OfferedIn, entry: &Entry) -> Markup {
    html! {
        form method="post" action={ (origin) "/sales/" (of.sale) "/enter" } {
            input type="hidden" name="token" value=(entry.token);
            input type="hidden" name="return_url" value=(entry.return_url);
            input type="hidden" name="lang" value=(lang.code());
            input type="hidden" name="item" value=(of.item);
            button class="wide" type="submit" { (lang.say("Go to the sale", "进入抢购")) }
        }
        p class="soft" { (lang.say("You buy on the sale's own page, and pay here.", "在抢购页面抢购，回到本店付款。")) }
    }
}

/// How a sale stands, with its time: as the newest view says that this process has of it, for which
/// nothing waits. Nothing, of a sale that is not known here.
pub(super) fn sale_state(shop: &Shop, lang: Lang, of: &OfferedIn) -> Markup {
    let Some(seen) = shop.sales.seen(&of.sale, &of.item) else { return html! {} };
    let says = match (seen.state, seen.is_sold_out) {
        (SaleState::Closed, _) => lang.say("The sale is over", "抢购已结束").to_owned(),
        (_, true) => lang.say("Sold out", "已售罄").to_owned(),
        (SaleState::Scheduled, _) => match lang {
            Lang::En => format!("Opens {}", moment(seen.opens_at, lang)),
            Lang::Zh => format!("{} 开抢", moment(seen.opens_at, lang)),
        },
        (SaleState::Open, _) => lang.say("On sale now", "正在抢购").to_owned(),
        (SaleState::Paused, _) => lang.say("Paused for a moment", "暂停中，请稍候").to_owned(),
    };
    html! { p class="sale-state" { strong { (says) } } }
}

#[derive(Debug, Deserialize)]
pub(super) struct Back {
    sale: Option<SaleId>,
    hold: Option<AttemptId>,
    /// How often the page has looked before.
    #[serde(default)]
    tries: u32,
    /// From whose page the shopper went to the sale.
    product: Option<String>,
    /// What the sale has signed.
    floodgate: Option<String>,
}

/// `GET /checkout`: leads a winner to the order of the hold, as soon as it has come from the sale;
/// and tells other shoppers who come back from the sale's page how their attempt has ended.
pub(super) async fn checkout(
    State(shop): State<Arc<Shop>>,
    Query(Back { sale, hold, tries, product, floodgate }): Query<Back>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let product: Option<ProductSlug> = product.and_then(|slug| slug.parse().ok());
    let to_product = product.map_or_else(|| "/".to_owned(), |slug| format!("/p/{slug}"));
    let (Some(sale), Some(hold)) = (sale, hold) else {
        let Some(signed) = floodgate else { return Ok(Redirect::to(&to_product).into_response()) };
        return came_back(&shop, &visitor, &signed, &to_product).await;
    };
    let Some(shopper) = visitor.account() else { return visitor.to_log_in() };
    let again = format!("{RETURN_PATH}?sale={sale}&hold={hold}&tries={}", tries.saturating_add(1));
    if let Some(order) = shop.orders.of_hold(shopper, HoldRef { sale, hold }).await.map_err(of_store)? {
        return Ok(Redirect::to(&format!("/orders/{}", order.id)).into_response());
    }
    let (lang, title) = (visitor.lang, visitor.lang.say("Looking for your order", "正在查找您的订单"));
    let is_over = tries >= TRIES_MAX;
    let text = match is_over {
        false => lang.say(
            "Your order will be ready in a moment. This page updates by itself.",
            "抢购成功后订单会在片刻内生成，本页会自动刷新。",
        ),
        true => lang.say(
            "Your order is not here yet. What you got in the sale stays yours: check your orders in a few minutes.",
            "暂未找到订单。抢购结果不会改变，请几分钟后在“我的订单”中查看。",
        ),
    };
    let body = html! {
        h1 { (title) }
        (notice(Mood::Neutral, lang.say("One moment", "请稍候"), &html! { p { (text) } }))
        p class="actions" { a class="button quiet" href="/orders" { (lang.say("Your orders", "我的订单")) } }
    };
    let refresh = (!is_over).then_some((AGAIN_SECONDS, again));
    framed(&shop, &visitor, title, &body, |frame| Frame { refresh, ..frame }).await
}

/// A shopper comes back from the sale's page. The address is one that can be passed on, so what it
/// says is for the account alone that it names.
async fn came_back(
    shop: &Shop,
    visitor: &Visitor,
    signed: &str,
    to_product: &str,
) -> Result<Response, Problem> {
    let Some(account) = visitor.account() else { return visitor.to_log_in() };
    let lang = visitor.lang;
    let (mood, title, text) = match shop.returns.read(signed) {
        None => (
            Mood::Neutral,
            lang.say("This link is out of date", "链接已失效"),
            lang.say(
                "What you got in the sale stays yours, and is among your orders.",
                "抢购结果不会改变，请在“我的订单”中查看。",
            ),
        ),
        Some(SaleReturn { shopper, .. }) if shopper != account.to_string() => (
            Mood::Bad,
            lang.say("You are logged in with another account", "当前登录的是另一个账户"),
            lang.say(
                "Log in with the account with which you went to the sale.",
                "请使用进入抢购时的账户登录。",
            ),
        ),
        Some(SaleReturn { sale, attempt, outcome: ReturnedOutcome::Won, .. }) => {
            // On without the ticket in the address.
            let to = format!("{RETURN_PATH}?sale={sale}&hold={attempt}");
            return Ok(Redirect::to(&to).into_response());
        }
        Some(SaleReturn { outcome, .. }) => ended(lang, outcome),
    };
    let body = html! {
        h1 { (lang.say("Back from the sale", "抢购结果")) }
        (notice(mood, title, &html! { p { (text) } }))
        p class="actions" {
            a class="button" href=(to_product) {
                @if to_product == "/" { (lang.say("Back to the shop", "返回商城")) } @else { (lang.say("Back to the product", "返回商品")) }
            }
            a class="button quiet" href="/orders" { (lang.say("Your orders", "我的订单")) }
        }
    };
    page(shop, visitor, lang.say("Back from the sale", "抢购结果"), &body).await
}

/// How an attempt has ended, to its shopper.
fn ended(lang: Lang, outcome: ReturnedOutcome) -> (Mood, &'static str, &'static str) {
    match outcome {
        ReturnedOutcome::Won => (Mood::Good, lang.say("You got it", "抢购成功"), ""),
        ReturnedOutcome::Waitlisted => (
            Mood::Neutral,
            lang.say("You are on the waitlist", "您已进入候补名单"),
            lang.say(
                "If your turn comes, you find an order to pay here.",
                "轮到您时，订单会出现在“我的订单”中，请及时付款。",
            ),
        ),
        ReturnedOutcome::SoldOut => (
            Mood::Neutral,
            lang.say("Sold out", "已售罄"),
            lang.say(
                "What others give back comes on sale again: you may try again.",
                "他人退回的商品会重新开售，您可以再试。",
            ),
        ),
        ReturnedOutcome::LimitReached => (
            Mood::Neutral,
            lang.say("Your limit is reached", "已达到限购数量"),
            lang.say("You have as many as one shopper may have.", "您已拥有每位顾客可购买的最大数量。"),
        ),
        ReturnedOutcome::NotEligible => (
            Mood::Neutral,
            lang.say("Not for this sale", "您不符合本次抢购的条件"),
            lang.say("This sale is for certain shoppers only.", "本次抢购仅限指定顾客参加。"),
        ),
        ReturnedOutcome::Closed => (
            Mood::Neutral,
            lang.say("The sale is over", "抢购已结束"),
            lang.say("Nothing more is sold in it.", "不再接受新的请求。"),
        ),
        ReturnedOutcome::Released => (
            Mood::Neutral,
            lang.say("Given back", "已退回"),
            lang.say("It went back on sale.", "商品已重新开售。"),
        ),
        ReturnedOutcome::Expired => (
            Mood::Neutral,
            lang.say("Payment time expired", "付款时间已过"),
            lang.say("It went back on sale.", "商品已重新开售。"),
        ),
        ReturnedOutcome::Voided => (
            Mood::Bad,
            lang.say("Taken back by the shop", "已被商家收回"),
            lang.say("Please ask us for the reason.", "请向客服咨询原因。"),
        ),
    }
}
