//! How a password changes: by a shopper who knows the old one, and by a link that was mailed to
//! the account's address.

use crate::{
    connected, email,
    letters::{self, Kind},
    links, password,
    service::{SESSION_FOR, Service, hash_of, key, of_sql, random, secret_of, signed_in},
    store,
};
use contracts::store::{AccountId, AskReset, Language, OwnPassword, ResetPassword, SignedIn, StoreError};
use engines::sql::{SqlError, Tx};
use units::TimeMs;

/// A new password is in force: links that set one are used up, and sessions end.
fn set(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (account, hash): (AccountId, &str),
    (language, letter): (Language, [u8; 16]),
) -> Result<bool, SqlError> {
    let Some(email) = store::set_password(tx, account, hash)? else { return Ok(false) };
    links::remove_all(tx, account)?;
    store::end_sessions(tx, account)?;
    let new = letters::New { id: letter, kind: Kind::PasswordChanged, email: &email, language };
    letters::put(tx, now, &new).map(|()| true)
}

impl Service {
    /// The same work whether the address has an account or not: that is looked up when the letter
    /// is sent.
    pub(crate) async fn ask_reset_one(&self, ask: AskReset) -> Result<(), StoreError> {
        let Some(email) = email::normal_form(&ask.email) else {
            return Err(StoreError::Invalid("email: want an address such as ann@example.com".into()));
        };
        let (now, id) = (self.clock.now(), random()?);
        self.letter_limits.take(key(email.as_bytes()), ask.network, now)?;
        let put = self.sql.write(move |tx| {
            let new = letters::New { id, kind: Kind::Reset, email: &email, language: ask.language };
            letters::put_if_room(tx, now, &new)
        });
        let put: Result<bool, SqlError> = put.await;
        match put.map_err(|error| of_sql(&error))? {
            true => {
                self.written.notify_one();
                Ok(())
            }
            false => Err(StoreError::Unavailable("very many letters wait at the moment".into())),
        }
    }

    pub(crate) async fn reset_link_is_good_one(&self, link: &str) -> Result<bool, StoreError> {
        let Some(secret) = secret_of(link) else { return Ok(false) };
        let (now, hash) = (self.clock.now(), hash_of(&secret));
        let found = self.sql.find(move |tx| links::account_of(tx, now, &hash)).await;
        found.map(|account| account.is_some()).map_err(|error| of_sql(&error))
    }

    pub(crate) async fn reset_one(&self, reset: ResetPassword) -> Result<bool, StoreError> {
        // What is no link costs no hash.
        if !self.reset_link_is_good_one(&reset.link).await? {
            return Ok(false);
        }
        let Some(secret) = secret_of(&reset.link) else { return Ok(false) };
        let password = self.hash_new(reset.password).await?;
        let (now, link, letter) = (self.clock.now(), hash_of(&secret), random()?);
        let written = self.sql.write(move |tx| {
            let Some(account) = links::account_of(tx, now, &link)? else { return Ok(false) };
            if !links::take(tx, &link)? {
                return Ok(false);
            }
            let is_set = set(tx, now, (account, &password), (reset.language, letter))?;
            // Who made the account with another's address may have connected a log-in of theirs.
            connected::remove_of_other_addresses(tx, account)?;
            Ok(is_set)
        });
        self.changed(written.await)
    }

    pub(crate) async fn change_password_one(
        &self,
        own: OwnPassword,
        new: String,
    ) -> Result<Option<SignedIn>, StoreError> {
        // Said before the old one is looked at, which has its limits.
        let (account, language) = (own.account, own.language);
        password::check(&new)?;
        let Some(checked) = self.checked(own).await? else { return Ok(None) };
        self.letter_limits.take_change(checked.key, self.clock.now())?;
        let password = self.hash_new(new).await?;
        let (now, letter, secret) = (self.clock.now(), random()?, random()?);
        let written = self.sql.write(move |tx| {
            let Some((_, name)) = store::locked_with(tx, account, &checked.hash)? else { return Ok(None) };
            set(tx, now, (account, &password), (language, letter))?;
            begin_anew(tx, now, account, &secret).map(|()| Some(name))
        });
        let written: Result<Option<String>, SqlError> = written.await;
        let name = written.map_err(|error| of_sql(&error))?;
        self.written.notify_one();
        Ok(name.map(|name| signed_in(account, name, &secret, SESSION_FOR.0 / 1000)))
    }

    fn changed(&self, written: Result<bool, SqlError>) -> Result<bool, StoreError> {
        let changed = written.map_err(|error| of_sql(&error))?;
        if changed {
            self.written.notify_one();
        }
        Ok(changed)
    }

    pub(crate) async fn log_out_elsewhere_one(
        &self,
        own: OwnPassword,
    ) -> Result<Option<SignedIn>, StoreError> {
        self.end_elsewhere(own, |_, _| Ok(())).await
    }

    /// Ends all sessions but that of who asks, and does this beside.
    async fn end_elsewhere(
        &self,
        own: OwnPassword,
        beside: fn(&mut Tx<'_>, AccountId) -> Result<(), SqlError>,
    ) -> Result<Option<SignedIn>, StoreError> {
        let account = own.account;
        let Some(checked) = self.checked(own).await? else { return Ok(None) };
        let (now, secret) = (self.clock.now(), random()?);
        let written = self.sql.write(move |tx| {
            let Some((_, name)) = store::locked_with(tx, account, &checked.hash)? else { return Ok(None) };
            beside(tx, account)?;
            links::remove_all(tx, account)?;
            store::end_sessions(tx, account)?;
            begin_anew(tx, now, account, &secret).map(|()| Some(name))
        });
        let written: Result<Option<String>, SqlError> = written.await;
        let name = written.map_err(|error| of_sql(&error))?;
        Ok(name.map(|name| signed_in(account, name, &secret, SESSION_FOR.0 / 1000)))
    }

    /// Sessions that the log-ins have opened are over too.
    pub(crate) async fn disconnect_one(&self, own: OwnPassword) -> Result<Option<SignedIn>, StoreError> {
        self.end_elsewhere(own, connected::remove_all).await
    }

    /// What was checked if the password is the account's, under the limits of wrong ones; `None`
    /// if it is not. What is done for it looks again that the hash is still the account's.
    pub(crate) async fn checked(&self, own: OwnPassword) -> Result<Option<Checked>, StoreError> {
        let account = own.account;
        let found = self.sql.primary().read(move |tx| store::email_and_password(tx, account)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let Some((email, hash)) = found else { return Ok(None) };
        let is_right = self.check_password(&email, Some(hash.clone()), own.password, own.network).await?;
        Ok(is_right.then(|| Checked { key: key(email.as_bytes()), hash }))
    }
}

/// A password that was right when it was looked at.
pub(crate) struct Checked {
    /// The key of the account's address in buckets.
    pub(crate) key: u64,
    /// The hash that it has.
    pub(crate) hash: String,
}

/// The session of who asked goes on with another secret: one that was stolen is over.
fn begin_anew(tx: &mut Tx<'_>, now: TimeMs, account: AccountId, secret: &[u8; 32]) -> Result<(), SqlError> {
    store::begin_session(tx, &hash_of(secret), account, (now, now.plus(SESSION_FOR)))
}
