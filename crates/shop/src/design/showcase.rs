//! `/design`: each component with what it is for, so that a change of the tokens is seen at once.

use super::{
    Facet, Field, Frame, Mood, card, facets, field, field_that, no_page, notice, price, problem, state_badge,
    steps,
};
use crate::parts::Shop;
use crate::visitor::Visitor;
use axum::{extract::State, response::Response};
use contracts::store::{OrderState, ProductQuery};
use maud::{Markup, html};
use std::sync::Arc;
use units::Money;
use web::{
    page::Lang,
    problem::{Problem, of_store},
};

/// `GET /design`.
pub(crate) async fn show(State(shop): State<Arc<Shop>>, visitor: Visitor) -> Result<Response, Problem> {
    let query = ProductQuery { at_most: 3, ..ProductQuery::default() };
    let products = shop.catalog.products(query).await.map_err(of_store)?.rows;
    let lang = visitor.lang;
    let title = lang.say("How these pages are built", "页面设计说明");
    let body = html! {
        h1 { (title) }
        p { (lang.say(
            "Every page of the shop is made of the parts below, and so is the sale's. A brand sets its colours, its corners and its logo in the configuration: [brand].",
            "商店与抢购活动的每个页面都由以下组件构成。品牌在配置的 [brand] 中设置颜色、圆角和标志。",
        )) }
        h2 { (lang.say("Light and dark", "浅色与深色")) }
        div class="sides" {
            div class="light" { (side(lang, lang.say("Light", "浅色"))) }
            div class="dark" { (side(lang, lang.say("Dark", "深色"))) }
        }
        h2 { (lang.say("Type", "字体")) }
        div class="card" {
            p class="soft" { (lang.say("Text is set at its reader's own size, in the system's own typeface.", "正文使用系统字体和读者自己设定的字号。")) }
            ul class="scale" {
                @for (class, of) in [("step-3", lang.say("The name of a sale", "活动名称")), ("step-2", lang.say("A heading of a page", "页面标题")),
                    ("step-1", lang.say("A heading of a section", "章节标题")), ("step-0", lang.say("Text", "正文")), ("step--1", lang.say("What matters less", "次要内容"))] {
                    li { span class=(class) { (of) } code { "--" (class) } }
                }
            }
        }
        h2 { (lang.say("Spaces", "间距")) }
        ul class="card scale" {
            @for step in 1..=6 { li { span class={ "space space-" (step) } {} code { "--space-" (step) } } }
        }
        h2 { (lang.say("Buttons", "按钮")) }
        div class="actions" {
            button type="button" { (lang.say("Buy now", "立即抢购")) }
            button type="button" class="quiet" { (lang.say("Cancel", "取消")) }
            button type="button" disabled { (lang.say("Sold out", "已售罄")) }
            button type="button" class="danger" { (lang.say("Delete my account", "永久注销账户")) }
        }
        details class="confirm" {
            summary { (lang.say("What cannot be undone is asked twice", "无法恢复的操作需再次确认")) }
            p { (lang.say("Here it says what happens, with a button.", "此处说明后果，并提供确认按钮。")) }
        }
        h2 { (lang.say("Fields", "输入框")) }
        div class="card narrow" { (fields(lang)) }
        fieldset class="card narrow" {
            legend { (lang.say("One of several", "单选")) }
            label class="choice" { input type="radio" name="shown" checked; span { (lang.say("Standard delivery", "标准配送")) } span class="price" { (lang.say("Free", "免运费")) } }
            label class="choice" { input type="radio" name="shown"; span { (lang.say("Express delivery", "特快配送")) } span class="price" { "¥20" } }
        }
        h2 { (lang.say("Notices", "提示")) }
        (notice(Mood::Good, lang.say("It is yours", "抢购成功"), &html! { p { (lang.say("Pay within 15 minutes.", "请在 15 分钟内付款。")) } }))
        (notice(Mood::Neutral, lang.say("One moment", "请稍候"), &html! { p { (lang.say("Your payment is being confirmed.", "正在确认您的付款。")) } }))
        (notice(Mood::Bad, lang.say("Not paid in time", "超时未付款"), &html! { p { (lang.say("The phone went back on sale.", "商品已重新上架。")) } }))
        h2 { (lang.say("Products", "商品")) }
        ul class="grid" { @for listing in &products { (card(lang, listing)) } }
        h2 { (lang.say("Filters", "筛选")) }
        (facets(lang.say("Example of filters", "筛选示例"), &[
            Facet { href: "/search?q=watch".into(), name: lang.say("All", "全部"), count: 12, is_chosen: true },
            Facet { href: "/search?q=watch&category=wearables".into(), name: lang.say("Wearables", "穿戴"), count: 5, is_chosen: false },
        ]))
        h2 { (lang.say("Prices", "价格")) }
        p { @for (sum, code) in [(199_900, "CNY"), (1999, "JPY"), (123_456_789, "EUR")] {
            @if let Ok(currency) = code.parse() { (price(lang, Money { amount_minor: sum, currency })) " " }
        } }
        h2 { (lang.say("Tables", "表格")) }
        div class="card" { table {
            thead { tr { th scope="col" { (lang.say("Product", "商品")) } th scope="col" class="number" { (lang.say("Price", "小计")) } } }
            tbody { tr { td { (lang.say("A watch × 2", "手表 × 2")) } td class="number" { "¥1,998" } } }
            tfoot { tr { th scope="row" { (lang.say("Total", "合计")) } td class="number" { "¥1,998" } } }
        } }
        h2 { (lang.say("Problems", "出错页面")) }
        @let (title, words) = no_page(lang);
        div class="card" { (problem(lang, title, words)) }
        h2 { (lang.say("How far an order is", "订单进度")) }
        div class="card" { (steps(lang, OrderState::Allocated)) }
        p { @for state in OrderState::ALL { (state_badge(lang, state)) " " } }
    };
    let categories = shop.catalog.categories().await.map_err(of_store)?;
    let cart_units = visitor.cart_units(&shop).await;
    let frame = Frame { categories, cart_units, ..Frame::plain(&shop, &visitor, title) };
    Ok(frame.render(&body))
}

/// The colours of light pages, or of dark ones, and what is made of them.
fn side(lang: Lang, name: &str) -> Markup {
    html! {
        h3 { (name) }
        ul class="swatches" {
            @for (class, name) in [("brand-colour", "brand"), ("ink", "ink"), ("soft", "soft"), ("well", "well"), ("good", "good"), ("bad", "bad"),
                ("brand-soft", "brand-soft"), ("good-soft", "good-soft"), ("bad-soft", "bad-soft"), ("paper", "paper"), ("card-colour", "card"), ("line-colour", "line")] {
                li class=(class) { (name) }
            }
        }
        p { (lang.say("Text, and ", "正文和")) a href="/design" { (lang.say("a link", "链接")) } ". " span class="soft" { (lang.say("What matters less is softer.", "次要内容颜色较浅。")) } }
        p { span class="badge" { (lang.say("In the sale", "限量抢购")) } }
        div class="actions" {
            button type="button" { (lang.say("Buy now", "立即抢购")) }
            button type="button" class="quiet" { (lang.say("Cancel", "取消")) }
        }
        div class="notice good" { p class="title" { (lang.say("It is yours", "抢购成功")) } p { (lang.say("Pay within 15 minutes.", "请在 15 分钟内付款。")) } }
    }
}

fn fields(lang: Lang) -> Markup {
    html! {
        (field(&Field {
            name: "shown-email", label: lang.say("Email", "邮箱"), kind: "email", value: "", autocomplete: "off",
            hint: lang.say("We write to it about your orders.", "用于接收订单通知。"), error: None, is_optional: false,
        }))
        // As it is after a form was refused, without the focus that it has then.
        (field_that(&Field {
            name: "shown-name", label: lang.say("Name", "姓名"), kind: "text", value: "", autocomplete: "off", hint: "",
            is_optional: false, error: Some(lang.say("Please tell us your name.", "请填写姓名。")),
        }, false))
    }
}
