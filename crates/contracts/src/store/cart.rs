//! Carts, and how one becomes an order.

use super::{
    AccountId, Address, Asked, OrderId, Sku,
    catalog::{Localized, Picture, ProductSlug},
    charges::{Quote, ShippingMethod},
    order::OrderView,
};
use crate::IdError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use units::Money;

/// Lines of a cart, and units of one line.
pub const CART_LINES_MAX: usize = 100;
pub const LINE_QUANTITY_MAX: u32 = 99;

/// The secret by which a visitor without an account has a cart: 32 hexadecimal digits in a cookie.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestCart(String);

impl GuestCart {
    pub fn new(random: [u8; 16]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GuestCart {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == 32 && text.bytes().all(is_digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(IdError::Form { what: "cart", want: "32 hexadecimal digits" }),
        }
    }
}

impl TryFrom<String> for GuestCart {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<GuestCart> for String {
    fn from(cart: GuestCart) -> Self {
        cart.0
    }
}

// It opens a cart.
impl fmt::Debug for GuestCart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestCart(…)")
    }
}

/// Whose cart it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CartOwner {
    Account(AccountId),
    Guest(GuestCart),
}

/// Whether a line can be bought as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineState {
    Good,
    /// So many can be had, fewer than the line has.
    Only(u64),
    /// It is not sold any more, or only in a sale.
    Gone,
    /// It is sold in another currency than the lines before it.
    OtherCurrency,
}

/// A line of a cart, at today's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartLine {
    pub sku: Sku,
    /// None if it is not known any more.
    pub product: Option<ProductSlug>,
    pub name: Localized,
    /// Of the variant; empty if the product has one only.
    pub variant: Localized,
    pub picture: Option<Picture>,
    pub quantity: u32,
    /// None if it is not known any more.
    pub price: Option<Money>,
    pub state: LineState,
}

/// A cart, in the order in which its lines came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CartView {
    pub lines: Vec<CartLine>,
    /// Of the lines that are not gone, nor in another currency; `None` if there are none.
    pub goods: Option<Money>,
}

impl CartView {
    /// Whether all of it can be bought as it stands.
    pub fn is_good(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.state == LineState::Good)
    }

    /// Units of all lines.
    pub fn units(&self) -> u32 {
        self.lines.iter().map(|line| line.quantity).sum()
    }
}

/// How a line changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quantity {
    /// So many more.
    Add(u32),
    /// So many; none takes the line away.
    Set(u32),
}

/// A cart is to become an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOut {
    pub shopper: AccountId,
    /// Whose cart it is, if not the shopper's: that of a guest.
    pub cart: Option<GuestCart>,
    /// What the shopper's page was given: the same one makes one order, however often it is sent.
    pub key: OrderId,
    pub address: Address,
    /// The id of a [`ShippingMethod`].
    pub shipping: String,
    /// What the shopper was shown.
    pub total_minor: u64,
}

/// The port of carts, which are the context `order`'s.
pub trait Carts: Send + Sync {
    fn cart(&self, owner: CartOwner) -> Asked<'_, CartView>;

    /// Units in it, for a page's top.
    fn units(&self, owner: CartOwner) -> Asked<'_, u32>;

    /// [`Invalid`](super::StoreError::Invalid) names what is wrong: an unknown SKU, one that is
    /// sold in a sale only, a quantity, another currency.
    fn change(&self, owner: CartOwner, sku: Sku, quantity: Quantity) -> Asked<'_, ()>;

    /// The guest has logged in: what is in the guest's cart comes into the account's.
    fn merge(&self, guest: GuestCart, into: AccountId) -> Asked<'_, ()>;

    /// What goods of this price cost in all, by each of the ways in which parcels go.
    fn quotes(&self, goods: Money) -> Asked<'_, Vec<(ShippingMethod, Quote)>>;

    /// A new key for [`CheckOut::key`].
    fn new_key(&self, shopper: AccountId) -> Asked<'_, OrderId>;

    /// The cart becomes an order that waits for its payment, and its units are set aside. The cart
    /// is empty then. [`Conflict`](super::StoreError::Conflict) if it is not as the shopper saw it,
    /// or if there is too little stock: then the cart is as it was.
    fn check_out(&self, check_out: CheckOut) -> Asked<'_, OrderView>;
}
