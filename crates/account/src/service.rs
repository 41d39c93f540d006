//! Accounts as a service: registration, sessions, and the token for a sale.

use crate::{email, password, store};
use contracts::store::{
    AccountId, Accounts, Address, Asked, Credentials, NewAccount, Profile, SignedIn, StoreError,
};
use data_encoding::BASE64URL_NOPAD;
use engines::{
    clock::Clock,
    sql::{Sql, SqlError},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::sync::Semaphore;
use units::{DurationMs, TimeMs};
use web::limits::Buckets;

/// How long a session is good.
const SESSION_FOR: DurationMs = DurationMs(30 * 86_400_000);
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
const NAME_MAX: usize = 80;
const SECRET_BYTES: usize = 32;

/// Makes the token by which a sale knows the shopper; `None` if the sale takes others' tokens only.
pub type SignForSale = Box<dyn Fn(AccountId, TimeMs) -> Option<String> + Send + Sync>;

/// The context's service.
pub struct Service {
    sql: Sql,
    clock: Arc<dyn Clock>,
    sign: SignForSale,
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

fn of_sql(error: &SqlError) -> StoreError {
    if !error.passes() {
        tracing::error!(%error, "accounts: the database");
    }
    StoreError::Unavailable("accounts cannot be read or changed at the moment".into())
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
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
    pub async fn open(sql: Sql, clock: Arc<dyn Clock>, sign: SignForSale) -> Result<Arc<Self>, SqlError> {
        sql.migrate(store::MIGRATIONS).await?;
        let unmatched_hash = random().ok().and_then(|salt| password::hash("", salt));
        let unmatched_hash = unmatched_hash.ok_or_else(|| SqlError::Shortage("random bytes".into()))?;
        let wrong = Buckets::slow(WRONG_EVERY_SECONDS, WRONG_BURST, WRONG_SLOTS);
        let wrong_in_all = Buckets::slow(WRONG_EVERY_SECONDS_IN_ALL, WRONG_BURST_IN_ALL, WRONG_SLOTS);
        let (hashes, hashes_waiting) = (Semaphore::new(1), AtomicUsize::new(0));
        Ok(Arc::new(Self { sql, clock, sign, wrong, wrong_in_all, hashes, hashes_waiting, unmatched_hash }))
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

    async fn register_one(&self, new: NewAccount) -> Result<SignedIn, StoreError> {
        let wrong = |what: &str| Err(StoreError::Invalid(what.to_owned()));
        let Some(email) = email::normal_form(&new.email) else {
            return wrong("email: want an address such as ann@example.com");
        };
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
            return wrong("name: want 1 to 80 characters");
        }
        let length = new.password.chars().count();
        if !(password::LENGTH_MIN..=password::LENGTH_MAX).contains(&length) {
            return wrong("password: want 10 to 128 characters");
        }
        let now = self.clock.now();
        let account = AccountId::new(now, random()?);
        let (salt, typed) = (random()?, new.password);
        let hash = self.hashing(move || password::hash(&typed, salt)).await?;
        let hash = hash.ok_or_else(|| StoreError::Unavailable("the password cannot be kept now".into()))?;
        let profile = Profile { account, email, name: name.clone() };
        let written = self.sql.write(move |tx| store::insert(tx, now, &profile, &hash)).await;
        match written.map_err(|error| of_sql(&error))? {
            true => self.begin(account, name).await,
            false => Err(StoreError::Conflict("email: it has an account already, log in".into())),
        }
    }

    async fn log_in_one(&self, credentials: Credentials) -> Result<Option<SignedIn>, StoreError> {
        let Some(email) = email::normal_form(&credentials.email) else { return Ok(None) };
        if credentials.password.chars().count() > password::LENGTH_MAX {
            return Ok(None);
        }
        let (of_email, now) = (key(email.as_bytes()), self.clock.now().0);
        let of_both = key(&[of_email, credentials.network].map(u64::to_le_bytes).concat());
        let allowed = self.wrong.look(of_both, now).and_then(|()| self.wrong_in_all.look(of_email, now));
        allowed.map_err(|wait| StoreError::TooMany { wait_seconds: wait.into() })?;
        let found = self.sql.read(move |tx| store::by_email(tx, &email)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let stored = found.as_ref().map_or(&self.unmatched_hash, |(_, _, hash)| hash).clone();
        let is_right = self.hashing(move || password::is_of(&credentials.password, &stored)).await?;
        match found.filter(|_| is_right) {
            Some((account, name, _)) => self.begin(account, name).await.map(Some),
            None => {
                // Several at once may be a little more than there are; the next ones wait longer.
                let _ = self.wrong.take(of_both, now);
                let _ = self.wrong_in_all.take(of_email, now);
                Ok(None)
            }
        }
    }

    async fn begin(&self, account: AccountId, name: String) -> Result<SignedIn, StoreError> {
        let secret = random::<SECRET_BYTES>()?;
        let (now, hash) = (self.clock.now(), *blake3::hash(&secret).as_bytes());
        let ends_at = now.plus(SESSION_FOR);
        let written = self.sql.write(move |tx| store::begin_session(tx, &hash, account, (now, ends_at)));
        written.await.map_err(|error| of_sql(&error))?;
        Ok(signed_in(account, name, &secret, SESSION_FOR.0 / 1000))
    }

    async fn session_of(&self, session: String) -> Result<Option<SignedIn>, StoreError> {
        let Some(secret) = secret_of(&session) else { return Ok(None) };
        let (now, hash) = (self.clock.now(), *blake3::hash(&secret).as_bytes());
        let found = self.sql.read(move |tx| store::session(tx, &hash, now)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        Ok(found
            .map(|(account, name, ends_at)| signed_in(account, name, &secret, ends_at.since(now).0 / 1000)))
    }
}

/// A key of buckets.
fn key(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(blake3::hash(bytes).as_bytes()[..8].try_into().expect("8 bytes"))
}

fn secret_of(session: &str) -> Option<[u8; SECRET_BYTES]> {
    BASE64URL_NOPAD.decode(session.as_bytes()).ok()?.try_into().ok()
}

fn signed_in(account: AccountId, name: String, secret: &[u8; SECRET_BYTES], seconds: u64) -> SignedIn {
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
            let hash = *blake3::hash(&secret).as_bytes();
            self.sql.write(move |tx| store::end_session(tx, &hash)).await.map_err(|error| of_sql(&error))
        })
    }

    fn session(&self, session: String) -> Asked<'_, Option<SignedIn>> {
        Box::pin(self.session_of(session))
    }

    fn profile(&self, account: AccountId) -> Asked<'_, Option<Profile>> {
        Box::pin(async move {
            let found = self.sql.read(move |tx| store::profile(tx, account)).await;
            found.map_err(|error| of_sql(&error))
        })
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
mod tests {
    use super::*;
    use engines::clock::SteadyClock;

    struct Shop {
        accounts: Arc<Service>,
        _dir: tempfile::TempDir,
    }

    async fn shop() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let sql = engines::sqlite::open(&dir.path().join("accounts.db")).unwrap();
        let sign: SignForSale = Box::new(|account, _| Some(format!("token of {account}")));
        let accounts = Service::open(sql, Arc::new(SteadyClock::start()), sign).await.unwrap();
        Shop { accounts, _dir: dir }
    }

    fn ann(email: &str) -> NewAccount {
        NewAccount { email: email.into(), password: "correct horse".into(), name: " Ann 安 ".into() }
    }

    fn with(email: &str, password: &str) -> Credentials {
        Credentials { email: email.into(), password: password.into(), network: 1 }
    }

    #[tokio::test]
    async fn a_shopper_registers_logs_out_and_in_again() {
        let shop = shop().await;
        let accounts = &shop.accounts;
        let first = accounts.register(ann("Ann@Example.com")).await.unwrap();
        assert_eq!(first.name, "Ann 安");
        let seen = accounts.session(first.session.clone()).await.unwrap().unwrap();
        assert_eq!((seen.account, &seen.csrf), (first.account, &first.csrf));
        assert!(seen.seconds > 29 * 86_400);
        accounts.log_out(first.session.clone()).await.unwrap();
        assert_eq!(accounts.session(first.session.clone()).await, Ok(None));

        let again = accounts.log_in(with("ann@example.COM", "correct horse")).await.unwrap().unwrap();
        assert_eq!(again.account, first.account);
        assert!(again.session != first.session && again.csrf != first.csrf);
        let profile = accounts.profile(first.account).await.unwrap().unwrap();
        assert_eq!(profile.email, "ann@example.com");
        assert_eq!(accounts.sale_token(first.account).await, Ok(format!("token of {}", first.account)));
    }

    #[tokio::test]
    async fn wrong_passwords_are_refused_and_many_of_them_have_to_wait() {
        let shop = shop().await;
        let accounts = &shop.accounts;
        accounts.register(ann("ann@example.com")).await.unwrap();
        for password in ["", "correct horsf", "CORRECT HORSE", &"x".repeat(1000)] {
            assert_eq!(accounts.log_in(with("ann@example.com", password)).await, Ok(None), "{password:?}");
        }
        assert_eq!(accounts.log_in(with("bob@example.com", "correct horse")).await, Ok(None));
        let mut waits = None;
        for _ in 0..WRONG_BURST {
            if let Err(StoreError::TooMany { wait_seconds }) =
                accounts.log_in(with("ann@example.com", "guess guess")).await
            {
                waits = Some(wait_seconds);
            }
        }
        assert!(waits.is_some_and(|seconds| (1..=30).contains(&seconds)), "{waits:?}");
        // The right password from elsewhere is let in, and another account is not slowed down.
        let elsewhere = Credentials { network: 2, ..with("ann@example.com", "correct horse") };
        assert!(accounts.log_in(elsewhere).await.unwrap().is_some());
        assert_eq!(accounts.log_in(with("bob@example.com", "guess guess")).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_no_account_is_refused_with_the_field() {
        let shop = shop().await;
        let accounts = &shop.accounts;
        let check = async |new: NewAccount, want: &str| {
            let refused = accounts.register(new).await.unwrap_err().to_string();
            assert!(refused.starts_with(want), "{refused}");
        };
        check(ann("ann"), "email:").await;
        check(NewAccount { name: " \n ".into(), ..ann("a@example.com") }, "name:").await;
        check(NewAccount { name: "x\u{7}".into(), ..ann("a@example.com") }, "name:").await;
        check(NewAccount { password: "short".into(), ..ann("a@example.com") }, "password:").await;
        accounts.register(ann("a@example.com")).await.unwrap();
        let twice = accounts.register(ann("A@EXAMPLE.com")).await;
        assert!(matches!(twice, Err(StoreError::Conflict(_))), "{twice:?}");
    }

    #[tokio::test]
    async fn a_session_that_is_made_up_is_nobodys() {
        let shop = shop().await;
        for session in ["", "a", "AAAA", &"A".repeat(43), "' OR 1=1 --", &"A".repeat(10_000)] {
            assert_eq!(shop.accounts.session(session.to_owned()).await, Ok(None), "{session:?}");
            assert_eq!(shop.accounts.log_out(session.to_owned()).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_sessions_ends() {
        let shop = shop().await;
        let first = shop.accounts.register(ann("ann@example.com")).await.unwrap();
        let mut last = first.clone();
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            last = shop.accounts.begin(first.account, "Ann".into()).await.unwrap();
        }
        assert_eq!(shop.accounts.session(first.session).await, Ok(None));
        assert!(shop.accounts.session(last.session).await.unwrap().is_some());
    }
}
