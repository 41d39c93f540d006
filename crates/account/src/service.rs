//! Accounts as a service: registration, sessions, and the token for a sale.

pub use crate::words::ShopWords;
use crate::{connected, email, limits::LetterLimits, password, store};
use contracts::store::{
    AccountId, Accounts, Address, AskReset, Asked, Credentials, Deleted, HoldsPersonalData, LogInWays,
    NewAccount, OwnPassword, Profile, ResetPassword, SessionView, SignedIn, StoreError,
};
use data_encoding::BASE64URL_NOPAD;
use engines::{
    clock::Clock,
    mail::Mail,
    sql::{Sql, SqlError},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::sync::{Notify, Semaphore};
use units::{DurationMs, TimeMs};
use web::{limits::Buckets, warning::Warning};

/// How long a session is good.
pub(crate) const SESSION_FOR: DurationMs = DurationMs(30 * 86_400_000);
/// Passwords that wait to be hashed, one at a time: some 30 ms of CPU and 19 MiB each.
const HASHES_WAIT_MAX: usize = 64;
/// Wrong passwords for one address of mail from one network: so many at once, then one each half
/// minute. And from all networks.
const WRONG_EVERY_SECONDS: u32 = 30;
const WRONG_BURST: u32 = 10;
const WRONG_EVERY_SECONDS_IN_ALL: u32 = 3;
const WRONG_BURST_IN_ALL: u32 = 100;
const WRONG_SLOTS: usize = 1 << 16;
/// Characters of a shopper's name.
pub(crate) const NAME_MAX: usize = 80;
pub(crate) const SECRET_BYTES: usize = 32;

/// Makes the token by which a sale knows the shopper; `None` if the sale takes others' tokens only.
pub type SignForSale = Box<dyn Fn(AccountId, TimeMs) -> Option<String> + Send + Sync>;

/// What accounts need of others.
pub struct Needs {
    pub sql: Sql,
    pub clock: Arc<dyn Clock>,
    pub sign: SignForSale,
    pub mail: Arc<dyn Mail>,
    pub shop: ShopWords,
    /// What else is erased with an account.
    pub holds: Vec<Arc<dyn HoldsPersonalData>>,
}

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").field("shop", &self.shop).finish_non_exhaustive()
    }
}

/// The context's service.
pub struct Service {
    pub(crate) sql: Sql,
    pub(crate) clock: Arc<dyn Clock>,
    sign: SignForSale,
    pub(crate) mail: Arc<dyn Mail>,
    pub(crate) shop: ShopWords,
    pub(crate) letter_limits: LetterLimits,
    /// There may be a new letter.
    pub(crate) written: Notify,
    /// Anybody can ask for letters.
    pub(crate) not_sent: Mutex<Warning>,
    pub(crate) given_up: Mutex<Warning>,
    pub(crate) not_erased: Mutex<Warning>,
    /// The secrets of links whose letters are tried again, by the letters' numbers.
    pub(crate) secrets: Mutex<BTreeMap<u64, [u8; SECRET_BYTES]>>,
    pub(crate) holds: Vec<Arc<dyn HoldsPersonalData>>,
    /// There may be a new deletion.
    pub(crate) deleting: Notify,
    wrong: Buckets,
    wrong_in_all: Buckets,
    hashes: Semaphore,
    hashes_waiting: AtomicUsize,
    /// A hash that no password has: who has no account waits as long as who has one.
    unmatched_hash: String,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

pub(crate) fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "accounts: the database");
    }
    StoreError::Unavailable("accounts cannot be read or changed at the moment".into())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(StoreError::Unavailable(format!("random bytes: {error}"))),
    }
}

/// One of those who wait.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Service {
    /// Brings the tables up to date.
    pub async fn open(needs: Needs) -> Result<Arc<Self>, SqlError> {
        let Needs { sql, clock, sign, mail, shop, holds } = needs;
        sql.migrate(store::MIGRATIONS).await?;
        let unmatched_hash = random().ok().and_then(|salt| password::hash("", salt));
        let unmatched_hash = unmatched_hash.ok_or_else(|| SqlError::Shortage("random bytes".into()))?;
        let wrong = Buckets::slow(WRONG_EVERY_SECONDS, WRONG_BURST, WRONG_SLOTS);
        let wrong_in_all = Buckets::slow(WRONG_EVERY_SECONDS_IN_ALL, WRONG_BURST_IN_ALL, WRONG_SLOTS);
        let (hashes, hashes_waiting) = (Semaphore::new(1), AtomicUsize::new(0));
        let (letter_limits, written) = (LetterLimits::new(), Notify::new());
        Ok(Arc::new(Self {
            sql,
            clock,
            sign,
            mail,
            shop,
            letter_limits,
            written,
            not_sent: Mutex::default(),
            given_up: Mutex::default(),
            not_erased: Mutex::default(),
            secrets: Mutex::default(),
            holds,
            deleting: Notify::new(),
            wrong,
            wrong_in_all,
            hashes,
            hashes_waiting,
            unmatched_hash,
        }))
    }

    /// Runs something that takes a password's time, one at a time.
    async fn hashing<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let busy = || StoreError::Unavailable("many log in at the moment".into());
        if self.hashes_waiting.load(Relaxed) >= HASHES_WAIT_MAX {
            return Err(busy());
        }
        self.hashes_waiting.fetch_add(1, Relaxed);
        // Also if the caller goes away.
        let _waits = Counted(&self.hashes_waiting);
        let _turn = self.hashes.acquire().await.map_err(|_| busy())?;
        tokio::task::spawn_blocking(run).await.map_err(|_| busy())
    }

    /// The hash of a new password. [`Invalid`](StoreError::Invalid) if it is none.
    pub(crate) async fn hash_new(&self, typed: String) -> Result<String, StoreError> {
        password::check(&typed)?;
        let salt = random()?;
        let hash = self.hashing(move || password::hash(&typed, salt)).await?;
        hash.ok_or_else(|| StoreError::Unavailable("the password cannot be kept now".into()))
    }

    async fn register_one(&self, new: NewAccount) -> Result<SignedIn, StoreError> {
        let Some(email) = email::normal_form(&new.email) else {
            return Err(StoreError::Invalid("email: want an address such as ann@example.com".into()));
        };
        let name = name_of(&new.name)?;
        let hash = self.hash_new(new.password).await?;
        let created_at = self.clock.now();
        let account = AccountId::new(created_at, random()?);
        let profile = Profile { account, email, name: name.clone(), created_at };
        let of_account = hash.clone();
        let written = self.sql.write(move |tx| store::insert(tx, &profile, &of_account)).await;
        match written.map_err(|error| of_sql(&error))? {
            true => {
                let begun = self.begin(account, name, hash).await?;
                begun.ok_or_else(|| StoreError::Conflict("email: the account was changed at once".into()))
            }
            false => Err(StoreError::Conflict("email: it has an account already, log in".into())),
        }
    }

    async fn log_in_one(&self, credentials: Credentials) -> Result<Option<SignedIn>, StoreError> {
        let Some(email) = email::normal_form(&credentials.email) else { return Ok(None) };
        let of_email = email.clone();
        // The newest password, also if it was set elsewhere a moment ago.
        let found = self.sql.primary().read(move |tx| store::by_email(tx, &of_email)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let stored = found.as_ref().map(|(_, _, hash)| hash.clone());
        match self.check_password(&email, stored, credentials.password, credentials.network).await? {
            true => match found {
                Some((account, name, hash)) => self.begin(account, name, hash).await,
                None => Ok(None),
            },
            false => Ok(None),
        }
    }

    /// Whether the password is that of the account of an address, with this hash if there is one;
    /// [`TooMany`](StoreError::TooMany) after many wrong ones. It takes as long without a hash.
    pub(crate) async fn check_password(
        &self,
        email: &str,
        stored: Option<String>,
        password: String,
        network: u64,
    ) -> Result<bool, StoreError> {
        if password.chars().count() > password::LENGTH_MAX {
            return Ok(false);
        }
        let (of_email, now) = (key(email.as_bytes()), self.clock.now().0);
        let of_both = key(&[of_email, network].map(u64::to_le_bytes).concat());
        let allowed = self.wrong.look(of_both, now).and_then(|()| self.wrong_in_all.look(of_email, now));
        allowed.map_err(|wait| StoreError::TooMany { wait_seconds: wait.into() })?;
        // An account that a provider's log-in has made has none.
        let stored = stored.filter(|stored| !stored.is_empty());
        let is_account = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.unmatched_hash.clone());
        let is_right = self.hashing(move || password::is_of(&password, &stored)).await? && is_account;
        if !is_right {
            // Several at once may be a little more than there are; the next ones wait longer.
            let _ = self.wrong.take(of_both, now);
            let _ = self.wrong_in_all.take(of_email, now);
        }
        Ok(is_right)
    }

    /// A session of an account whose password has this hash; `None` if it has another one by now.
    async fn begin(
        &self,
        account: AccountId,
        name: String,
        password: String,
    ) -> Result<Option<SignedIn>, StoreError> {
        let secret = random::<SECRET_BYTES>()?;
        let (now, hash) = (self.clock.now(), hash_of(&secret));
        let ends_at = now.plus(SESSION_FOR);
        let written = self.sql.write(move |tx| {
            if store::locked_with(tx, account, &password)?.is_none() {
                return Ok(false);
            }
            store::begin_session(tx, &hash, account, (now, ends_at)).map(|()| true)
        });
        let written: Result<bool, SqlError> = written.await;
        let is_begun = written.map_err(|error| of_sql(&error))?;
        Ok(is_begun.then(|| signed_in(account, name, &secret, SESSION_FOR.0 / 1000)))
    }

    async fn session_of(&self, session: String) -> Result<Option<SignedIn>, StoreError> {
        let Some(secret) = secret_of(&session) else { return Ok(None) };
        let (now, hash) = (self.clock.now(), hash_of(&secret));
        let found = self.sql.find(move |tx| store::session(tx, &hash, now)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        Ok(found
            .map(|(account, name, ends_at)| signed_in(account, name, &secret, ends_at.since(now).0 / 1000)))
    }
}

/// What a shopper is called. [`Invalid`](StoreError::Invalid) if that is no name.
pub(crate) fn name_of(text: &str) -> Result<String, StoreError> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(StoreError::Invalid("name: want 1 to 80 characters".into()));
    }
    Ok(name.to_owned())
}

/// What is stored of a secret.
pub(crate) fn hash_of(secret: &[u8; SECRET_BYTES]) -> [u8; 32] {
    *blake3::hash(secret).as_bytes()
}

/// A key of buckets.
pub(crate) fn key(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(blake3::hash(bytes).as_bytes()[..8].try_into().expect("8 bytes"))
}

pub(crate) fn secret_of(session: &str) -> Option<[u8; SECRET_BYTES]> {
    BASE64URL_NOPAD.decode(session.as_bytes()).ok()?.try_into().ok()
}

pub(crate) fn signed_in(
    account: AccountId,
    name: String,
    secret: &[u8; SECRET_BYTES],
    seconds: u64,
) -> SignedIn {
    let csrf = blake3::derive_key("floodgate account 2026-11 form token of a session", secret);
    SignedIn {
        account,
        name,
        session: BASE64URL_NOPAD.encode(secret),
        csrf: BASE64URL_NOPAD.encode(&csrf[..24]),
        seconds,
    }
}

impl Accounts for Service {
    fn register(&self, new: NewAccount) -> Asked<'_, SignedIn> {
        Box::pin(self.register_one(new))
    }

    fn log_in(&self, credentials: Credentials) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.log_in_one(credentials))
    }

    fn log_out(&self, session: String) -> Asked<'_, ()> {
        Box::pin(async move {
            let Some(secret) = secret_of(&session) else { return Ok(()) };
            let hash = hash_of(&secret);
            self.sql.write(move |tx| store::end_session(tx, &hash)).await.map_err(|error| of_sql(&error))
        })
    }

    fn session(&self, session: String) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.session_of(session))
    }

    fn ask_reset(&self, ask: AskReset) -> Asked<'_, ()> {
        Box::pin(self.ask_reset_one(ask))
    }

    fn reset_link_is_good(&self, link: String) -> Asked<'_, bool> {
        Box::pin(async move { self.reset_link_is_good_one(&link).await })
    }

    fn reset_password(&self, reset: ResetPassword) -> Asked<'_, bool> {
        Box::pin(self.reset_one(reset))
    }

    fn change_password(&self, own: OwnPassword, new: String) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.change_password_one(own, new))
    }

    fn rename(&self, account: AccountId, name: String) -> Asked<'_, ()> {
        Box::pin(async move {
            let (name, now) = (name_of(&name)?, self.clock.now());
            let written = self.sql.write(move |tx| store::rename(tx, now, account, &name)).await;
            written.map_err(|error| of_sql(&error))
        })
    }

    fn sessions(&self, account: AccountId, session: String) -> Asked<'_, Vec<SessionView>> {
        Box::pin(async move {
            let now = self.clock.now();
            let found = self.sql.read(move |tx| store::sessions(tx, account, now)).await;
            let this = secret_of(&session).map(|secret| hash_of(&secret));
            let seen =
                |(hash, began_at, ends_at)| SessionView { began_at, ends_at, is_this: Some(hash) == this };
            found.map(|all| all.into_iter().map(seen).collect()).map_err(|error| of_sql(&error))
        })
    }

    fn log_out_elsewhere(&self, own: OwnPassword) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.log_out_elsewhere_one(own))
    }

    fn delete(&self, own: OwnPassword) -> Asked<'_, Deleted> {
        Box::pin(async move { self.delete_one(own).await })
    }

    fn profile(&self, account: AccountId) -> Asked<'_, Option<Profile>> {
        Box::pin(async move {
            let found = self.sql.read(move |tx| store::profile(tx, account)).await;
            found.map_err(|error| of_sql(&error))
        })
    }

    fn log_in_ways(&self, account: AccountId) -> Asked<'_, LogInWays> {
        Box::pin(async move {
            let found = self.sql.read(move |tx| connected::ways(tx, account)).await;
            found.map_err(|error| of_sql(&error))
        })
    }

    fn disconnect(&self, own: OwnPassword) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.disconnect_one(own))
    }

    fn addresses(&self, account: AccountId) -> Asked<'_, Vec<Address>> {
        Box::pin(async move {
            let found = self.sql.read(move |tx| store::addresses(tx, account)).await;
            found.map_err(|error| of_sql(&error))
        })
    }

    fn use_address(&self, account: AccountId, address: Address) -> Asked<'_, ()> {
        Box::pin(async move {
            let address = address.checked();
            let address = address.map_err(|(field, want)| StoreError::Invalid(format!("{field}: {want}")))?;
            let now = self.clock.now();
            let written = self.sql.write(move |tx| store::use_address(tx, now, account, &address)).await;
            written.map_err(|error| of_sql(&error))
        })
    }

    fn forget_address(&self, account: AccountId, address: Address) -> Asked<'_, ()> {
        Box::pin(async move {
            let written = self.sql.write(move |tx| store::forget_address(tx, account, &address)).await;
            written.map_err(|error| of_sql(&error))
        })
    }

    fn sale_token(&self, account: AccountId) -> Asked<'_, String> {
        Box::pin(async move {
            let token = (self.sign)(account, self.clock.now());
            token.ok_or_else(|| StoreError::Unavailable("the sale takes another shop's tokens".into()))
        })
    }
}

#[cfg(test)]
mod tests;
