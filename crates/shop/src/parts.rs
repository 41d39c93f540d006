//! What the pages use.

use axum::extract::FromRef;
use contracts::store::{
    Accounts, Carts, Catalog, Guests, Orders, Payments, SaleReturns, SaleViews, SignInProvider, Stock,
};
use std::{fmt, sync::Arc};
use web::{limits::Buckets, protection::Protection};

/// A provider of identities.
pub struct Provider {
    pub port: Arc<dyn SignInProvider>,
    /// What shoppers call it, in both languages.
    pub name: [String; 2],
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The contexts that the pages are over, and what the shop is called.
pub struct Shop {
    pub catalog: Arc<dyn Catalog>,
    pub accounts: Arc<dyn Accounts>,
    pub guests: Arc<dyn Guests>,
    pub orders: Arc<dyn Orders>,
    pub payments: Arc<dyn Payments>,
    pub carts: Arc<dyn Carts>,
    pub stock: Arc<dyn Stock>,
    pub sales: Arc<dyn SaleViews>,
    pub returns: Arc<dyn SaleReturns>,
    /// What the shop is called, in both languages.
    pub name: [String; 2],
    /// The shop's own origin, for links that others follow.
    pub origin: String,
    /// The origin of the sale's pages, such as `https://sale.example`: its script runs on the pages
    /// of products that are sold in a sale.
    pub sale_origin: String,
    /// Shown on every page of a demo.
    pub is_demo: bool,
    /// Orders can be paid here.
    pub takes_payments: bool,
    /// They are paid in the sandbox, which takes no money: said on every page.
    pub has_sandbox: bool,
    /// Where shoppers may log in too.
    pub provider: Option<Provider>,
    /// Forms of log-in and registration, by address: each costs a password's hash.
    pub sign_ins: Buckets,
    /// New carts of visitors without an account, by address: each stays for a month.
    pub new_carts: Buckets,
    /// Orders of visitors without an account, by address.
    pub guest_check_outs: Buckets,
    pub protection: Arc<Protection>,
}

/// The limit of new carts: so many at once, then one each ten seconds.
pub fn new_carts() -> Buckets {
    Buckets::slow(10, 60, 1 << 14)
}

/// The limit of orders without an account: so many at once, then one each minute.
pub fn guest_check_outs() -> Buckets {
    Buckets::slow(60, 10, 1 << 14)
}

/// The limit of forms that cost a password's hash: so many at once, then one each six seconds.
pub fn sign_ins() -> Buckets {
    Buckets::slow(6, 10, 1 << 14)
}

impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shop").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The same, as the state of a router.
#[derive(Debug, Clone)]
pub struct Parts(pub Arc<Shop>);

impl FromRef<Parts> for Arc<Shop> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.0)
    }
}

impl FromRef<Parts> for Arc<Protection> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.0.protection)
    }
}
