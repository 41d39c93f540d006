//! The cart, and checking out of it.

use super::{form_page, guests};
use crate::{
    design::{Room, crumbs, plain_picture, price, refusal, text},
    pages::addresses::{self, address_fields, address_of},
    parts::Shop,
    visitor::{
        TOKEN_FIELD, Visitor, give_cart, language, may_check_out, may_make_cart, refuse_other_sites,
        remember_order, session_of,
    },
    words::money,
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{
    AccountId, Address, CartLine, CartOwner, CartView, CheckOut, GuestCart, LINE_QUANTITY_MAX, LineState,
    NewGuest, OrderId, OrderState, Quantity, Quote, ShippingMethod, Sku, StoreError,
};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use std::sync::Arc;
use units::Money;
use web::{
    form::PlainForm,
    net::Peer,
    page::Lang,
    problem::{INVALID, Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;

type Form = PlainForm<FORM_BYTES_MAX>;

/// `GET /cart`.
pub(super) async fn show(State(shop): State<Arc<Shop>>, visitor: Visitor) -> Result<Response, Problem> {
    cart_page(&shop, &visitor, None).await
}

/// `why`: why the cart is shown instead of what was asked for.
async fn cart_page(shop: &Shop, visitor: &Visitor, why: Option<&str>) -> Result<Response, Problem> {
    let cart = match visitor.cart_owner()? {
        Some(owner) => shop.carts.cart(owner).await.map_err(of_store)?,
        None => CartView::default(),
    };
    let (lang, title) = (visitor.lang, visitor.lang.say("Your cart", "购物车"));
    let csrf = visitor.csrf();
    let body = html! {
        h1 { (title) }
        @if let Some(why) = why { (refusal(lang.say("Please look again", "请再确认一次"), &html! { p { (why) } })) }
        @if cart.lines.is_empty() {
            p { (lang.say("Your cart is empty.", "购物车还是空的。")) }
            p class="actions" { a class="button" href="/" { (lang.say("Start shopping", "去逛逛")) } }
        } @else {
            ul class="cart" { @for line in &cart.lines { (cart_line(lang, line, csrf)) } }
            @if let Some(goods) = cart.goods {
                div class="card sum" {
                    p { (lang.say("Subtotal ", "商品合计 ")) strong { (price(lang, goods)) } }
                    p class="soft" { (lang.say("Delivery is added at checkout.", "运费在结算时计算。")) }
                    @if cart.is_good() {
                        a class="button wide" href="/cart/check-out" { (lang.say("Check out", "去结算")) }
                    } @else {
                        p { (lang.say("Some items are not available. Update your cart to check out.", "请先调整无法购买的商品，再去结算。")) }
                    }
                }
            }
        }
    };
    form_page(shop, visitor, title, &body, why.is_some()).await
}

/// What keeps a line from being bought, in words.
fn trouble(lang: Lang, state: LineState) -> Option<String> {
    match (state, lang) {
        (LineState::Good, _) => None,
        (LineState::OtherCurrency, _) => Some(
            lang.say(
                "This item is sold in another currency. Remove it and order it separately.",
                "该商品使用其他货币，请移除后单独下单。",
            )
            .to_owned(),
        ),
        (LineState::Gone, _) => Some(lang.say("No longer available.", "该商品已下架。").to_owned()),
        (LineState::Only(0), _) => Some(lang.say("Sold out for now.", "暂时缺货。").to_owned()),
        (LineState::Only(left), Lang::En) => Some(format!("Only {left} left. Reduce the quantity.")),
        (LineState::Only(left), Lang::Zh) => Some(format!("仅剩 {left} 件，请减少数量。")),
    }
}

fn cart_line(lang: Lang, line: &CartLine, csrf: &str) -> Markup {
    let name = text(lang, &line.name);
    let why = trouble(lang, line.state);
    let why_id = format!("why-{}", line.sku);
    let described = why.is_some().then_some(&why_id);
    let most = match line.state {
        LineState::Only(left) => left.clamp(1, LINE_QUANTITY_MAX.into()),
        _ => LINE_QUANTITY_MAX.into(),
    };
    html! {
        li class="card line" {
            div class="frame" { @if let Some(of) = &line.picture { (plain_picture(of, Room::Small)) } }
            div {
                p { @if let Some(product) = &line.product { a class="apart" href={ "/p/" (product) } { (name) } } @else { (name) } @if !text(lang, &line.variant).is_empty() { br; span class="soft" { (text(lang, &line.variant)) } } }
                @if let Some(of) = line.price { p { (price(lang, of)) } }
                @if let Some(why) = &why { p class="error" role="status" id=(why_id) { (why) } }
                div class="actions" {
                    @if line.state != LineState::Gone {
                        form class="quantity" method="post" action="/cart/lines" {
                            input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                            input type="hidden" name="sku" value=(line.sku);
                            label class="hidden" for={ "q-" (line.sku) } { (lang.say("How many: ", "数量：")) (name) }
                            input id={ "q-" (line.sku) } name="quantity" type="number" inputmode="numeric" min="1" max=(most) required value=(line.quantity)
                                aria-describedby=[described] aria-invalid=[described.map(|_| "true")];
                            button class="quiet" type="submit" { (lang.say("Update", "修改")) span class="hidden" { ": " (name) } }
                        }
                    }
                    form method="post" action="/cart/lines" {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        input type="hidden" name="sku" value=(line.sku);
                        input type="hidden" name="quantity" value="0";
                        button class="quiet" type="submit" { (lang.say("Remove", "移除")) span class="hidden" { ": " (name) } }
                    }
                }
            }
        }
    }
}

/// What a product's page has for a variant that is sold by the cart.
pub(super) fn buy_box(visitor: &Visitor, (sku, name): (&Sku, &str), free: Option<u64>) -> Markup {
    let lang = visitor.lang;
    let left = free.unwrap_or_default();
    let id = format!("q-{sku}");
    html! {
        @match (left, lang) {
            (0, _) => p { (lang.say("Sold out for now", "暂时缺货")) },
            (1..=5, Lang::En) => p { "Only " (left) " left" },
            (1..=5, Lang::Zh) => p { "仅剩 " (left) " 件" },
            _ => p class="soft" { (lang.say("In stock", "有货")) },
        }
        @if left > 0 {
            form class="quantity" method="post" action="/cart" {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
                input type="hidden" name="sku" value=(sku);
                label class="hidden" for=(id) { (lang.say("How many", "数量")) @if !name.is_empty() { ": " (name) } }
                input id=(id) name="quantity" type="number" inputmode="numeric" min="1" max=(left.min(LINE_QUANTITY_MAX.into())) required value="1";
                button type="submit" { (lang.say("Add to cart", "加入购物车")) @if !name.is_empty() { span class="hidden" { ": " (name) } } }
            }
        }
    }
}

/// Whose cart a form changes, after it was checked that a page of this shop sent it. A visitor
/// without one gets one.
async fn owner_of(
    shop: &Shop,
    visitor: &Visitor,
    peer: Peer,
    headers: &HeaderMap,
    form: &Form,
) -> Result<(CartOwner, Option<GuestCart>), Problem> {
    if visitor.signed_in.is_some() {
        return Ok((CartOwner::Account(session_of(visitor, form)?.account), None));
    }
    refuse_other_sites(headers)?;
    match visitor.cart_owner()? {
        // A cookie that was made up has no cart yet.
        Some(owner) if shop.carts.units(owner.clone()).await.map_err(of_store)? > 0 => Ok((owner, None)),
        _ => {
            let new = may_make_cart(shop, peer)?;
            Ok((CartOwner::Guest(new.clone()), Some(new)))
        }
    }
}

fn sku_of(form: &Form) -> Result<Sku, Problem> {
    form.field("sku").parse().map_err(|error| Problem::new(&INVALID, format!("sku: {error}")))
}

fn quantity_of(form: &Form) -> Result<u32, Problem> {
    let wrong = || Problem::new(&INVALID, format!("quantity: want 1 to {LINE_QUANTITY_MAX}"));
    form.field("quantity").parse().map_err(|_| wrong())
}

/// `POST /cart`: puts something into the cart, and shows it.
pub(super) async fn add(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let (owner, new) = owner_of(&shop, &visitor, peer, &headers, &form).await?;
    change(&shop, &visitor, owner, new, sku_of(&form)?, Quantity::Add(quantity_of(&form)?)).await
}

/// `POST /cart/lines`: changes a line, or takes it out.
pub(super) async fn set(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let (owner, new) = owner_of(&shop, &visitor, peer, &headers, &form).await?;
    change(&shop, &visitor, owner, new, sku_of(&form)?, Quantity::Set(quantity_of(&form)?)).await
}

async fn change(
    shop: &Shop,
    visitor: &Visitor,
    owner: CartOwner,
    new: Option<GuestCart>,
    sku: Sku,
    quantity: Quantity,
) -> Result<Response, Problem> {
    shop.carts.change(owner, sku, quantity).await.map_err(of_store)?;
    let mut response = Redirect::to("/cart").into_response();
    if let Some(new) = new {
        give_cart(shop, &new, &mut response);
    }
    visitor.remember(&mut response);
    Ok(response)
}

/// `GET /cart/check-out`.
pub(super) async fn show_check_out(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let known = match visitor.account() {
        Some(shopper) => shop.accounts.addresses(shopper).await.map_err(of_store)?,
        None => Vec::new(),
    };
    let address = known.into_iter().next().unwrap_or_default();
    check_out_page(&shop, &visitor, (&address, "", ""), &[]).await
}

/// `wrong`: the address's fields that are wrong.
async fn check_out_page(
    shop: &Shop,
    visitor: &Visitor,
    (address, shipping, email): (&Address, &str, &str),
    wrong: &[&str],
) -> Result<Response, Problem> {
    let Some(owner) = visitor.cart_owner()? else { return Ok(Redirect::to("/cart").into_response()) };
    // A guest is a shopper of this order alone.
    let (secret, shopper) = match visitor.account() {
        Some(account) => (None, account),
        None => {
            let (secret, guest) = shop.guests.new_secret().await.map_err(of_store)?;
            (Some(secret), guest)
        }
    };
    let cart = shop.carts.cart(owner).await.map_err(of_store)?;
    // What the page offers: each way with what the whole costs by it.
    let offers = match cart.goods.filter(|_| cart.is_good()) {
        Some(goods) => shop.carts.quotes(goods).await.map_err(of_store)?,
        None => Vec::new(),
    };
    if offers.is_empty() {
        return Ok(Redirect::to("/cart").into_response());
    }
    let key = shop.carts.new_key(shopper).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, visitor.lang.say("Checkout", "结算"));
    let chosen = offers.iter().position(|(method, _)| method.id == shipping).unwrap_or(0);
    let body = html! {
        (crumbs(lang, &[("/cart", lang.say("Your cart", "购物车"))]))
        h1 { (title) }
        form class="two" method="post" action="/cart/check-out" {
            input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
            input type="hidden" name="key" value=(key);
            @if let Some(secret) = &secret { input type="hidden" name="guest" value=(secret); }
            div {
                @if secret.is_some() { (guests::contact(lang, email, wrong.contains(&"email"))) }
                fieldset class="card" {
                    legend { (lang.say("Delivery address", "收货地址")) }
                    (address_fields(lang, address, wrong))
                }
                fieldset class="card" {
                    legend { (lang.say("Delivery", "配送方式")) }
                    @for (at, (method, quote)) in offers.iter().enumerate() {
                        label class="choice" {
                            input type="radio" name="shipping" value=(method.id) required checked[at == chosen];
                            span { (lang.say(&method.name, &method.name_zh)) }
                            span class="price" { @if quote.shipping.amount_minor == 0 { (lang.say("Free", "免运费")) } @else { (money(quote.shipping, lang)) } }
                        }
                        input type="hidden" name={ "total-" (method.id) } value=(quote.total.amount_minor);
                    }
                }
            }
            div class="card sum" {
                h2 { (lang.say("Your order", "订单明细")) }
                (order_lines(lang, &cart))
                @for (method, quote) in &offers { (totals(lang, method, quote, offers.len() > 1)) }
                button class="wide" type="submit" { (lang.say("Order and pay", "提交订单并付款")) }
                p class="soft" { (lang.say("You then have 30 minutes to pay. We keep everything for you until then.", "提交后请在 30 分钟内付款，商品将为您保留。")) }
            }
        }
    };
    form_page(shop, visitor, title, &body, !wrong.is_empty()).await
}

fn order_lines(lang: Lang, cart: &CartView) -> Markup {
    html! {
        table {
            tbody { @for line in &cart.lines {
                @let sum = line.price.map(|of| Money { amount_minor: of.amount_minor.saturating_mul(line.quantity.into()), currency: of.currency });
                tr { td { (text(lang, &line.name)) @if line.quantity > 1 { " × " (line.quantity) } } td class="number" { @if let Some(sum) = sum { (price(lang, sum)) } } }
            } }
        }
    }
}

fn totals(lang: Lang, method: &ShippingMethod, quote: &Quote, is_named: bool) -> Markup {
    html! {
        div class="by" {
        p class="total" {
            span { @if is_named { (lang.say(&method.name, &method.name_zh)) " · " } (lang.say("Total", "应付")) }
            strong { (price(lang, quote.total)) }
        }
        @if quote.tax.amount_minor > 0 {
            p class="soft" {
                @if quote.tax_is_included { (lang.say("Includes tax of ", "含税 ")) } @else { (lang.say("Tax on top: ", "另加税 ")) }
                (money(quote.tax, lang))
            }
        }
        }
    }
}

/// `POST /cart/check-out`.
pub(super) async fn check_out(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let buyer = buyer_of(&shop, &visitor, peer, &headers, &form)?;
    let (shipping, email) = (form.field("shipping"), form.field("email"));
    let wrong =
        |what: &str| Problem::new(&INVALID, format!("{what}: load the page again, and send its form"));
    let key: OrderId = form.field("key").parse().map_err(|_| wrong("key"))?;
    let total_minor = form.field(&format!("total-{shipping}")).parse().map_err(|_| wrong("total"))?;
    let typed = address_of(&form);
    let ask_again = async |wrong: &[&str]| {
        let mut shown = check_out_page(&shop, &visitor, (&typed, shipping, email), wrong).await?;
        *shown.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        Ok::<_, Problem>(shown)
    };
    let Ok(address) = typed.clone().checked() else {
        return ask_again(&typed.wrong_fields()).await;
    };
    let (shopper, cart) = match &buyer {
        Buyer::Account(account) => (*account, None),
        Buyer::Guest { secret, cart } => {
            let new = NewGuest {
                secret: secret.clone(),
                email: email.to_owned(),
                order: key,
                language: language(visitor.lang),
            };
            match shop.guests.keep(new).await {
                Ok(shopper) => (shopper, Some(cart.clone())),
                Err(StoreError::Invalid(why)) if why.starts_with("email") => {
                    return ask_again(&["email"]).await;
                }
                // The page's secret is over: the next page has another one.
                Err(StoreError::Invalid(why)) if why.starts_with("secret") => return ask_again(&[]).await,
                Err(error) => return Err(of_store(error)),
            }
        }
    };
    let wanted =
        CheckOut { shopper, cart, key, address: address.clone(), shipping: shipping.to_owned(), total_minor };
    match shop.carts.check_out(wanted).await {
        Ok(order) => {
            let mut response = Redirect::to(&format!("/orders/{}", order.id)).into_response();
            match &buyer {
                Buyer::Account(_) => addresses::remember(&shop, shopper, address).await,
                Buyer::Guest { secret, .. } => {
                    if let Err(error) = shop.guests.ordered(shopper).await {
                        tracing::warn!(order = %order.id, %error, "a guest's order has no letter");
                    }
                    remember_order(&shop, &visitor, secret, &mut response);
                }
            }
            Ok(response)
        }
        Err(StoreError::Conflict(why)) => {
            if matches!(buyer, Buyer::Guest { .. }) {
                // The same form may have been sent twice at once, and the other one made it.
                let made = shop.orders.order(shopper, key).await.map_err(of_store)?;
                if made.is_none_or(|order| order.state == OrderState::Cancelled) {
                    shop.guests.not_ordered(shopper).await.map_err(of_store)?;
                }
            }
            let words = conflict_words(visitor.lang, &why);
            let mut shown = cart_page(&shop, &visitor, Some(words)).await?;
            *shown.status_mut() = StatusCode::CONFLICT;
            Ok(shown)
        }
        Err(error) => Err(of_store(error)),
    }
}

/// Who checks out.
enum Buyer {
    Account(AccountId),
    /// With the secret that the page was given.
    Guest {
        secret: String,
        cart: GuestCart,
    },
}

/// Who checks out, after it was checked that a page of this shop sent the form.
fn buyer_of(
    shop: &Shop,
    visitor: &Visitor,
    peer: Peer,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Buyer, Problem> {
    if visitor.signed_in.is_some() {
        return Ok(Buyer::Account(session_of(visitor, form)?.account));
    }
    refuse_other_sites(headers)?;
    let Some(CartOwner::Guest(cart)) = visitor.cart_owner()? else {
        return Err(Problem::new(&INVALID, "the cart is empty: put something into it first"));
    };
    may_check_out(shop, peer)?;
    Ok(Buyer::Guest { secret: form.field("guest").to_owned(), cart })
}

/// Why a cart did not become an order, for its shopper.
fn conflict_words(lang: Lang, why: &str) -> &'static str {
    match why.split(':').next() {
        Some("total") => lang.say(
            "A price has changed since you looked. Nothing was ordered.",
            "价格有变动，订单尚未提交，请确认新价格。",
        ),
        Some("stock") => lang.say(
            "There is not enough left of what you wanted. Nothing was ordered.",
            "库存不足，订单尚未提交，请调整数量。",
        ),
        Some("orders") => lang.say(
            "You have several unpaid orders. Pay or cancel them, then try again.",
            "您有多笔订单待付款，请先付款或取消后再试。",
        ),
        _ => lang.say(
            "The cart has changed since you looked. Nothing was ordered.",
            "购物车已有变动，订单尚未提交，请再确认一次。",
        ),
    }
}
