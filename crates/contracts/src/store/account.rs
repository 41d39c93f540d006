//! Accounts: who a shopper is. The account's id is the shopper of the sale too, so one log-in
//! serves both.

use super::{AccountId, Address, Asked, OrderId};
use serde::{Deserialize, Serialize};
use std::fmt;
use units::TimeMs;

/// Addresses of one account; a further one takes the place of the one that was used least lately.
pub const ADDRESSES_MAX: usize = 10;

/// What is asked for a new account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAccount {
    /// As it was typed; compared without regard to the case of its domain and its local part.
    pub email: String,
    pub password: String,
    /// What the shop calls the shopper.
    pub name: String,
}

/// What a shopper logs in with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub email: String,
    pub password: String,
    /// Stands for the network that they come from, for limits.
    pub network: u64,
}

/// In which language the shop writes to a shopper: that of the page with which it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    En,
    Zh,
}

impl Language {
    /// Its name in databases, and in links.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::En, Self::Zh].into_iter().find(|language| language.as_str() == name)
    }
}

/// A shopper has forgotten the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskReset {
    /// As it was typed.
    pub email: String,
    /// Stands for the network that the request comes from, for limits.
    pub network: u64,
    pub language: Language,
}

/// A new password, with the secret of a link that was mailed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPassword {
    pub link: String,
    pub password: String,
    pub language: Language,
}

/// The shopper of a session says the password once more, for what a borrowed browser may not do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPassword {
    pub account: AccountId,
    /// The secret of the session.
    pub session: String,
    pub password: String,
    /// Stands for the network that the request comes from, for limits.
    pub network: u64,
    pub language: Language,
}

/// A session, as its shopper sees it in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    pub began_at: TimeMs,
    pub ends_at: TimeMs,
    /// The one that asks.
    pub is_this: bool,
}

/// What keeps an account from being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InTheWay {
    /// This order waits for its payment, its delivery, or for money to go back.
    Order(OrderId),
    /// Units of this order are to come back.
    Return(OrderId),
}

/// What became of an account that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deleted {
    /// It is gone. What other contexts have of it is erased in a moment.
    Yes,
    WrongPassword,
    Not(InTheWay),
}

/// A log-in at the provider of identities that is connected with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectedLogIn {
    /// The provider, by its URL.
    pub issuer: String,
    /// The provider's own name of the shopper.
    pub subject: String,
    pub connected_at: TimeMs,
}

/// How the shopper of an account can log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInWays {
    pub has_password: bool,
    pub connected: Vec<ConnectedLogIn>,
}

/// A browser goes to the provider of identities.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoToProvider {
    /// The provider's page.
    pub url: String,
    /// What the browser brings along when it comes back, as a cookie's value. It is a secret.
    pub cookie: String,
    /// Seconds for which it is good.
    pub seconds: u64,
}

/// A browser comes back from the provider.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromProvider {
    /// The [`GoToProvider::cookie`] that it has.
    pub cookie: String,
    /// The query of the address with which it comes.
    pub query: String,
    /// The account to which it is logged in.
    pub account: Option<AccountId>,
    pub language: Language,
}

/// What became of a log-in at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderAnswer {
    /// A new session, and the path to go to.
    SignedIn(SignedIn, String),
    /// The account is connected with the provider's log-in.
    Connected,
    Not(NotSignedIn),
}

/// Why a log-in at the provider is none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotSignedIn {
    /// This browser has not begun it, has ended it already, or took too long.
    Over,
    /// The shopper has cancelled it there.
    Cancelled,
    /// The provider, or what it says, cannot be believed now.
    Refused,
    /// The provider does not answer.
    Away,
    /// The provider knows no address of mail, or has not checked it.
    NoAddress,
    /// The address has an account, whose shopper is to log in to it first.
    HasAccount,
    /// Another account is connected with it.
    OfAnother,
    /// The account is connected with another log-in of this provider.
    HasAnother,
    /// An operator has locked the account.
    Locked,
}

/// Who orders without an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGuest {
    /// What [`Guests::new_secret`] has made for the page.
    pub secret: String,
    /// As it was typed.
    pub email: String,
    /// The order that is made.
    pub order: OrderId,
    pub language: Language,
}

/// A shopper without an account, with one order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The shopper of the order.
    pub shopper: AccountId,
    pub order: OrderId,
    pub email: String,
    /// What each form for this secret carries. Base64url.
    pub csrf: String,
    /// The secret came by a letter to the address: who has it reads what is sent there.
    pub proves_address: bool,
}

/// An account that takes a guest's order over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// A secret that [proves the address](Guest::proves_address).
    pub link: String,
    pub name: String,
    pub password: String,
}

/// The port of those who order without an account.
pub trait Guests: Send + Sync {
    /// A new secret for the page of a checkout, and the shopper whom it stands for.
    fn new_secret(&self) -> Asked<'_, (String, AccountId)>;

    /// Keeps who is about to order. Doing it again with the same secret changes nothing.
    /// [`Invalid`](super::StoreError::Invalid) for what is no address,
    /// [`TooMany`](super::StoreError::TooMany) after many letters were asked for.
    fn keep(&self, new: NewGuest) -> Asked<'_, AccountId>;

    /// The guest has ordered: writes the letter with the link, once.
    fn ordered(&self, shopper: AccountId) -> Asked<'_, ()>;

    /// Nothing was ordered: forgets the guest, unless the letter is written.
    fn not_ordered(&self, shopper: AccountId) -> Asked<'_, ()>;

    /// The guest of a secret: the page's, or one that came by letter.
    fn guest(&self, secret: String) -> Asked<'_, Option<Guest>>;

    /// Makes an account that has the guest's order, and logs in to it: the guest's secrets are
    /// over.
    /// [`NotFound`](super::StoreError::NotFound) if the link is none,
    /// [`Conflict`](super::StoreError::Conflict) if the address has an account,
    /// [`Invalid`](super::StoreError::Invalid) names the field that is wrong.
    fn take_over(&self, take: TakeOver) -> Asked<'_, SignedIn>;

    /// Forgets the guest, and has other contexts erase who it was.
    /// [`Deleted::WrongPassword`] if the link does not prove the address.
    fn forget(&self, link: String) -> Asked<'_, Deleted>;
}

/// The port of a provider of identities (OpenID Connect).
pub trait SignInProvider: Send + Sync {
    /// Sends a browser there, to come back to `next`, a path of the shop.
    fn go(&self, next: String, language: Language) -> Asked<'_, GoToProvider>;

    /// The same for who wants to connect an account. `None` if the password is not the account's.
    fn connect(&self, own: OwnPassword) -> Asked<'_, Option<GoToProvider>>;

    /// What the provider says of a browser that comes back.
    fn come_back(&self, from: FromProvider) -> Asked<'_, ProviderAnswer>;
}

/// The port of a context that has something of its own about shoppers.
pub trait HoldsPersonalData: Send + Sync {
    /// What keeps the account from being deleted, if anything does.
    fn in_the_way(&self, shopper: AccountId) -> Asked<'_, Option<InTheWay>>;

    /// Erases who the shopper is, from all that is over. `true` once nothing is left; otherwise it
    /// is to be asked again. Asking again is safe.
    fn erase(&self, shopper: AccountId) -> Asked<'_, bool>;
}

// None is ever written into a log by mistake.
macro_rules! without_fields {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

without_fields! { NewAccount Credentials AskReset ResetPassword OwnPassword GoToProvider FromProvider NewGuest Guest TakeOver }

/// A session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    pub account: AccountId,
    pub name: String,
    /// The session's secret, for a cookie; only a hash of it is stored. Base64url, 43 characters.
    pub session: String,
    /// What each form of this session carries, so that no other site can send one. Base64url.
    pub csrf: String,
    /// Seconds for which the session is good.
    pub seconds: u64,
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("account", &self.account).finish_non_exhaustive()
    }
}

/// What an account says of its shopper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub account: AccountId,
    pub email: String,
    pub name: String,
    pub created_at: TimeMs,
}

/// The port of the context `account`.
pub trait Accounts: Send + Sync {
    /// Makes an account, and logs in to it. [`Conflict`](super::StoreError::Conflict) if the
    /// address has one; [`Invalid`](super::StoreError::Invalid) names the field that is wrong.
    fn register(&self, new: NewAccount) -> Asked<'_, SignedIn>;

    /// `None` if the password is not the account's, or there is no such account: both take the same
    /// time. [`TooMany`](super::StoreError::TooMany) after many wrong ones.
    fn log_in(&self, credentials: Credentials) -> Asked<'_, Option<SignedIn>>;

    /// Ends a session. It is no error if there is none.
    fn log_out(&self, session: String) -> Asked<'_, ()>;

    /// The session with this secret, if it is good.
    fn session(&self, session: String) -> Asked<'_, Option<SignedIn>>;

    /// Writes a letter with a link that sets a new password, if the address has an account. What it
    /// answers, and how long that takes, does not depend on whether there is one.
    /// [`Invalid`](super::StoreError::Invalid) for what is no address,
    /// [`TooMany`](super::StoreError::TooMany) after many letters were asked for.
    fn ask_reset(&self, ask: AskReset) -> Asked<'_, ()>;

    /// Whether the link still sets a password. Asking does not use it up.
    fn reset_link_is_good(&self, link: String) -> Asked<'_, bool>;

    /// Sets the password, uses up all links and ends all sessions of the account, and writes a
    /// letter about it. `false` if the link is not good (any more);
    /// [`Invalid`](super::StoreError::Invalid) if the password is none.
    fn reset_password(&self, reset: ResetPassword) -> Asked<'_, bool>;

    /// The same for a shopper who knows the old one, who has a new session then. `None` if that
    /// is not it (any more); [`TooMany`](super::StoreError::TooMany) after many changes.
    fn change_password(&self, own: OwnPassword, new: String) -> Asked<'_, Option<SignedIn>>;

    /// Changes what the shop calls the shopper. [`Invalid`](super::StoreError::Invalid) names the
    /// field that is wrong.
    fn rename(&self, account: AccountId, name: String) -> Asked<'_, ()>;

    /// Of one account, the one that began last first. `session` is the one that asks.
    fn sessions(&self, account: AccountId, session: String) -> Asked<'_, Vec<SessionView>>;

    /// Ends all sessions of the account, uses up links that set a password, and begins a new
    /// session for who asks. `None` if the password is not the account's.
    fn log_out_elsewhere(&self, own: OwnPassword) -> Asked<'_, Option<SignedIn>>;

    /// Deletes the account, ends its sessions and lets its address go, unless something is
    /// [`InTheWay`]. A letter says that the rest will be erased.
    /// [`TooMany`](super::StoreError::TooMany) after many changes of an account with its address.
    fn delete(&self, own: OwnPassword) -> Asked<'_, Deleted>;

    /// The account's own view.
    fn profile(&self, account: AccountId) -> Asked<'_, Option<Profile>>;

    /// How its shopper can log in.
    fn log_in_ways(&self, account: AccountId) -> Asked<'_, LogInWays>;

    /// Takes the provider's log-ins away from an account, and ends all its sessions but that of who
    /// asks, which goes on with another secret. `None` if the password is not the account's.
    fn disconnect(&self, own: OwnPassword) -> Asked<'_, Option<SignedIn>>;

    /// Where the account's parcels went, the one that was used last first.
    fn addresses(&self, account: AccountId) -> Asked<'_, Vec<Address>>;

    /// Remembers an address as the one that was used last.
    fn use_address(&self, account: AccountId, address: Address) -> Asked<'_, ()>;

    /// Forgets an address. It is no error if there is none such.
    fn forget_address(&self, account: AccountId, address: Address) -> Asked<'_, ()>;

    /// A token by which the sale knows the shopper: a JWT with the account's id as its subject,
    /// good for some minutes.
    fn sale_token(&self, account: AccountId) -> Asked<'_, String>;
}
