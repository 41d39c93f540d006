//! What the contexts of the store say to each other: accounts, catalogue, orders, payments, stock,
//! and the pages over them. Each context has its own database; these are the ports between them,
//! which `floodgate` wires: by function call in one process, and over HTTP between two. So whatever
//! goes through a port can be written as JSON and read back.

mod account;
mod address;
mod cart;
mod catalog;
mod charges;
mod console;
mod id;
mod messages;
mod order;
mod payment;
mod returns;
mod sales;
mod stock;

pub use account::{
    ADDRESSES_MAX, Accounts, AskReset, ConnectedLogIn, Credentials, Deleted, FromProvider, GoToProvider,
    Guest, Guests, HoldsPersonalData, InTheWay, Language, LogInWays, NewAccount, NewGuest, NotSignedIn,
    OwnPassword, Profile, ProviderAnswer, ResetPassword, SessionView, SignInProvider, SignedIn, TakeOver,
};
pub use address::Address;
pub use cart::{
    CART_LINES_MAX, CartLine, CartOwner, CartView, Carts, CheckOut, GuestCart, LINE_QUANTITY_MAX, LineState,
    Quantity,
};
pub use catalog::{
    Catalog, Category, CategoryHits, ForSale, Hits, Listing, Listings, Localized, OfferedIn, Page, Picture,
    PictureSize, Product, ProductQuery, ProductSlug, Understood, Variant,
};
pub use charges::{Charges, Quote, ShippingMethod};
pub use console::CONSOLE_PLACES;
pub use id::{AccountId, BUCKETS, Bucket, OrderId, PaymentId, Sku, TransferId, WarehouseId};
pub use messages::{Backlog, Ended, Inbox, Posts, Pulled, Receipt};
pub use order::{
    Delivery, HoldRef, OrderLine, OrderOrigin, OrderState, OrderView, Orders, PaymentSeen, SaleDecision,
    SaleHolds, Transition,
};
pub use payment::{PaymentState, PaymentView, Payments, StartPayment, StartedPayment};
pub use returns::{RETURN_WITHIN, RequestReturn, ReturnState, ReturnStep, ReturnView, Wish};
pub use sales::{ReturnedOutcome, SaleReturn, SaleReturns, SaleSeen, SaleViews};
pub use stock::{CameBack, Lacking, Reserved, Stock, StockLevel, StockLine, TakenFrom};

use std::{fmt, pin::Pin};

/// An answer of another context, which may be in another process.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a context of the store did not do what it was asked, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StoreError {
    /// What was sent is wrong, and stays so.
    Invalid(String),
    /// It does not exist, or is not the caller's.
    NotFound(String),
    /// It does not fit the present state.
    Conflict(String),
    /// Too often: ask again after so many seconds.
    TooMany { wait_seconds: u64 },
    /// Nothing is known to have happened. The same request may succeed later, and is not done
    /// twice.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::NotFound(why) | Self::Conflict(why) | Self::Unavailable(why) => {
                f.write_str(why)
            }
            Self::TooMany { wait_seconds } => write!(f, "too often: again after {wait_seconds} s"),
        }
    }
}

impl std::error::Error for StoreError {}
