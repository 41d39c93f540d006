//! How a password changes: by a shopper who knows the old one, and by a link that was mailed to
//! the account's address.

use crate::{
    email,
    letters::{self, Kind},
    links, password,
    service::{Service, hash_of, key, of_sql, random, secret_of},
    store,
};
use contracts::store::{AccountId, AskReset, Language, OwnPassword, ResetPassword, StoreError};
use engines::sql::{SqlError, Tx};
use units::TimeMs;

/// A new password is in force: links that set one are used up, and sessions end, but for one.
fn set(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (account, hash): (AccountId, &str),
    but: Option<&[u8; 32]>,
    (language, letter): (Language, [u8; 16]),
) -> Result<bool, SqlError> {
    let Some(email) = store::set_password(tx, account, hash)? else { return Ok(false) };
    links::remove_all(tx, account)?;
    store::end_sessions(tx, account, but)?;
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
        let found = self.sql.read(move |tx| links::account_of(tx, now, &hash)).await;
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
            set(tx, now, (account, &password), None, (reset.language, letter))
        });
        self.changed(written.await)
    }

    pub(crate) async fn change_password_one(
        &self,
        own: OwnPassword,
        new: String,
    ) -> Result<bool, StoreError> {
        // Said before the old one is looked at, which has its limits.
        let OwnPassword { account, session, language, .. } = own.clone();
        password::check(&new)?;
        if !self.is_own(own).await? {
            return Ok(false);
        }
        let password = self.hash_new(new).await?;
        let (now, letter) = (self.clock.now(), random()?);
        let but = secret_of(&session).map(|secret| hash_of(&secret));
        let written =
            self.sql.write(move |tx| set(tx, now, (account, &password), but.as_ref(), (language, letter)));
        self.changed(written.await)
    }

    fn changed(&self, written: Result<bool, SqlError>) -> Result<bool, StoreError> {
        let changed = written.map_err(|error| of_sql(&error))?;
        if changed {
            self.written.notify_one();
        }
        Ok(changed)
    }

    pub(crate) async fn log_out_elsewhere_one(&self, own: OwnPassword) -> Result<bool, StoreError> {
        let (account, session) = (own.account, own.session.clone());
        if !self.is_own(own).await? {
            return Ok(false);
        }
        let but = secret_of(&session).map(|secret| hash_of(&secret));
        let written = self.sql.write(move |tx| {
            links::remove_all(tx, account)?;
            store::end_sessions(tx, account, but.as_ref())
        });
        written.await.map(|()| true).map_err(|error: SqlError| of_sql(&error))
    }

    /// Whether the password is the account's, under the limits of wrong ones.
    pub(crate) async fn is_own(&self, own: OwnPassword) -> Result<bool, StoreError> {
        let account = own.account;
        let found = self.sql.read(move |tx| store::email_and_password(tx, account)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        let Some((email, stored)) = found else { return Ok(false) };
        self.check_password(&email, Some(stored), own.password, own.network).await
    }
}
