//! The pages, a file for each part of the shop.

mod account;
mod addresses;
mod browse;
mod cart;
mod entrance;
mod guests;
mod orders;
mod own_data;
mod passwords;
mod problems;
mod provider;
mod returns;
mod sale;
mod settings;

use crate::{
    design::{Frame, SCRIPT, STYLE, showcase},
    parts::{Parts, Shop},
    visitor::Visitor,
};
use axum::response::Response;
use http::{HeaderValue, header};
use maud::Markup;
use web::{
    operation::{Access, Operation, get, post},
    page::{StaticFile, statics},
    problem::Problem,
};

pub use problems::problem_page;
pub use provider::CALLBACK as PROVIDER_CALLBACK;
pub use sale::RETURN_PATH;

const OPEN: Access = Access::Open;
static FILES: &[&StaticFile] = &[&STYLE, &SCRIPT, &web::page::STYLE];

/// All pages, and the files that they load.
pub fn operations() -> Vec<Operation<Parts>> {
    let mut all = vec![
        get("/", "showHome", OPEN, browse::home),
        get("/c/{category}", "showCategory", OPEN, browse::category),
        get("/search", "search", OPEN, browse::search),
        get("/p/{product}", "showProduct", OPEN, browse::product),
        get("/design", "showDesign", OPEN, showcase::show),
        get("/account", "showAccount", OPEN, account::show),
        get("/account/log-in", "showLogIn", OPEN, account::show_log_in),
        post("/account/log-in", "logIn", OPEN, account::log_in),
        get("/account/register", "showRegister", OPEN, account::show_register),
        post("/account/register", "register", OPEN, account::register),
        post("/account/log-out", "logOut", OPEN, account::log_out),
        post("/account/provider", "logInAtProvider", OPEN, provider::go),
        get(provider::CALLBACK, "comeFromProvider", OPEN, provider::come_back),
        post("/account/provider/connect", "connectProvider", OPEN, provider::connect),
        post("/account/provider/disconnect", "disconnectProvider", OPEN, provider::disconnect),
        get("/account/forgot", "showForgot", OPEN, passwords::show_forgot),
        post("/account/forgot", "askReset", OPEN, passwords::ask),
        get("/account/reset", "showReset", OPEN, passwords::show_reset),
        post("/account/reset", "resetPassword", OPEN, passwords::reset),
        get("/account/settings", "showSettings", OPEN, settings::show),
        post("/account/name", "changeName", OPEN, settings::rename),
        post("/account/password", "changePassword", OPEN, settings::change_password),
        post("/account/log-out-elsewhere", "logOutElsewhere", OPEN, settings::log_out_elsewhere),
        post("/account/data", "downloadOwnData", OPEN, own_data::download),
        get("/account/delete", "showDeleteAccount", OPEN, own_data::show_delete),
        post("/account/delete", "deleteAccount", OPEN, own_data::delete),
        get("/account/sale-token", "readSaleToken", OPEN, account::sale_token),
        post("/account/addresses/forget", "forgetAddress", OPEN, addresses::forget),
        get("/cart", "showCart", OPEN, cart::show),
        post("/cart", "addToCart", OPEN, cart::add),
        post("/cart/lines", "changeCart", OPEN, cart::set),
        get("/cart/check-out", "showCheckOut", OPEN, cart::show_check_out),
        post("/cart/check-out", "checkOut", OPEN, cart::check_out),
        get("/guest/order", "showGuestOrder", OPEN, guests::open),
        post("/guest/account", "takeOrderOver", OPEN, guests::take_over),
        post("/guest/data", "downloadGuestData", OPEN, guests::download),
        post("/guest/forget", "forgetGuest", OPEN, guests::forget),
        get(RETURN_PATH, "findOrderOfHold", OPEN, sale::checkout),
        get("/orders", "showOrders", OPEN, orders::list),
        get("/orders/{order}", "showOrder", OPEN, orders::show),
        post("/orders/{order}/pay", "payOrder", OPEN, orders::pay),
        post("/orders/{order}/cancel", "cancelOrder", OPEN, orders::cancel),
        get("/orders/{order}/address", "showOrderAddress", OPEN, addresses::show),
        post("/orders/{order}/address", "setOrderAddress", OPEN, addresses::set),
        get("/orders/{order}/return", "showReturn", OPEN, returns::show),
        post("/orders/{order}/return", "requestReturn", OPEN, returns::request),
        post("/orders/{order}/returns/{number}/withdraw", "withdrawReturn", OPEN, returns::withdraw),
    ];
    all.extend(statics(FILES));
    all
}

/// An ordinary page, with the categories above it.
async fn page<'a>(
    shop: &'a Shop,
    visitor: &'a Visitor,
    title: &'a str,
    body: &Markup,
) -> Result<Response, Problem> {
    framed(shop, visitor, title, body, |frame| frame).await
}

/// A page with a form, which was refused or not.
async fn form_page<'a>(
    shop: &'a Shop,
    visitor: &'a Visitor,
    title: &'a str,
    body: &Markup,
    is_refused: bool,
) -> Result<Response, Problem> {
    framed(shop, visitor, title, body, |frame| Frame { is_refused, ..frame }).await
}

/// The page leads to another site at once: a form that is answered by a redirect may only lead to
/// its own (Content Security Policy, `form-action`).
fn leads_to(mut page: Response, url: &str) -> Response {
    if let Ok(refresh) = HeaderValue::try_from(format!("0; url={url}")) {
        page.headers_mut().insert(header::REFRESH, refresh);
    }
    page
}

/// The same, with what is special about it.
async fn framed<'a>(
    shop: &'a Shop,
    visitor: &'a Visitor,
    title: &'a str,
    body: &Markup,
    change: impl FnOnce(Frame<'a>) -> Frame<'a>,
) -> Result<Response, Problem> {
    // Without the catalogue the rest of the shop is still there.
    let categories = shop.catalog.categories().await.unwrap_or_default();
    let cart_units = visitor.cart_units(shop).await;
    let frame = Frame { categories, cart_units, ..Frame::plain(shop, visitor, title) };
    Ok(change(frame).render(body))
}
