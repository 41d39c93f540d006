//! Accounts: who a shopper is. The account's id is the shopper of the sale too, so one log-in
//! serves both.

use super::{AccountId, Address, Asked};
use std::fmt;

/// Addresses of one account; a further one takes the place of the one that was used least lately.
pub const ADDRESSES_MAX: usize = 10;

/// What is asked for a new account.
#[derive(Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// As it was typed; compared without regard to the case of its domain and its local part.
    pub email: String,
    pub password: String,
    /// What the shop calls the shopper.
    pub name: String,
}

/// What a shopper logs in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub email: String,
    pub password: String,
    /// Stands for the network that they come from, for limits.
    pub network: u64,
}

// Neither is ever written into a log by mistake.
impl fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAccount").finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A session.
#[derive(Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub account: AccountId,
    pub email: String,
    pub name: String,
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

    /// The account's own view.
    fn profile(&self, account: AccountId) -> Asked<'_, Option<Profile>>;

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
