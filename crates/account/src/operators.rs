//! What operators do with a shopper's account: find it, lock it, end its sessions, have a link sent
//! that sets a password. They see no password and no secret of a session, and can set neither.

use crate::{
    email,
    letters::{self, Kind},
    links,
    operated::{self, Seen},
    service::{Service, of_sql, random},
    store,
};
use contracts::{
    Actor,
    store::{AccountId, Language, StoreError},
};
use engines::sql::{
    SqlError, Tx,
    trail::{self, Step, Stored},
};
use units::TimeMs;

/// What an operator does with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nobody logs in to it, and its sessions end.
    Lock,
    Unlock,
    EndSessions,
    /// A letter with a link that sets a password goes to its address.
    SendReset(Language),
}

impl Command {
    fn did(self) -> &'static str {
        match self {
            Self::Lock => "account.lock",
            Self::Unlock => "account.unlock",
            Self::EndSessions => "account.end-sessions",
            Self::SendReset(_) => "account.send-reset",
        }
    }
}

/// Why nothing was done.
enum Refused {
    Sql(SqlError),
    Unknown,
    TooManyLetters,
}

impl From<SqlError> for Refused {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

fn unknown() -> StoreError {
    StoreError::NotFound("account: there is none".into())
}

/// Carries a command out. Repeated, it changes nothing, and only what changes is noted.
fn carry_out(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (by, account): (&Actor, AccountId),
    command: Command,
    letter: [u8; 16],
) -> Result<Seen, Refused> {
    let Some(mut seen) = operated::find_locked(tx, account)? else { return Err(Refused::Unknown) };
    match command {
        Command::Lock if seen.locked_at.is_some() => return Ok(seen),
        Command::Unlock if seen.locked_at.is_none() => return Ok(seen),
        Command::Lock => {
            seen.locked_at = Some(now);
            operated::set_lock(tx, account, Some(now))?;
            links::remove_all(tx, account)?;
            store::end_sessions(tx, account)?;
        }
        Command::Unlock => {
            seen.locked_at = None;
            operated::set_lock(tx, account, None)?;
        }
        Command::EndSessions => store::end_sessions(tx, account)?,
        Command::SendReset(language) => {
            let email = &seen.profile.email;
            let new = letters::New { id: letter, kind: Kind::Reset, email, language };
            if !letters::put_if_room(tx, now, &new)? {
                return Err(Refused::TooManyLetters);
            }
        }
    }
    let subject = account.to_string();
    let step = Step {
        actor: &by.name,
        did: command.did(),
        subject: &subject,
        reason: &by.reason,
        // No address of mail: the trail outlives the account.
        detail: "",
    };
    trail::note(tx, now, step)?;
    Ok(seen)
}

impl Service {
    pub(crate) async fn operate(
        &self,
        by: Actor,
        account: AccountId,
        command: Command,
    ) -> Result<Seen, StoreError> {
        let (now, letter) = (self.clock.now(), random()?);
        if matches!(command, Command::SendReset(_)) {
            let found = self.seen(account).await?.ok_or_else(unknown)?;
            self.letter_limits.take_change(crate::service::key(found.profile.email.as_bytes()), now)?;
        }
        let done = self.sql.write(move |tx| carry_out(tx, now, (&by, account), command, letter)).await;
        match done {
            Ok(seen) => {
                self.written.notify_one();
                Ok(seen)
            }
            Err(Refused::Unknown) => Err(unknown()),
            Err(Refused::TooManyLetters) => {
                Err(StoreError::Unavailable("very many letters wait at the moment".into()))
            }
            Err(Refused::Sql(error)) => Err(of_sql(&error)),
        }
    }

    pub(crate) async fn seen(&self, account: AccountId) -> Result<Option<Seen>, StoreError> {
        let found = self.sql.read(move |tx| operated::find(tx, account)).await;
        found.map_err(|error: SqlError| of_sql(&error))
    }

    /// The account of an address of mail.
    pub(crate) async fn seen_by_email(&self, typed: &str) -> Result<Option<Seen>, StoreError> {
        let Some(email) = email::normal_form(typed) else { return Ok(None) };
        let found = self.sql.read(move |tx| operated::by_email(tx, &email)).await;
        found.map_err(|error: SqlError| of_sql(&error))
    }

    /// Newest first, before this one.
    pub(crate) async fn newest(
        &self,
        before: Option<AccountId>,
        at_most: usize,
    ) -> Result<Vec<Seen>, StoreError> {
        let found = self.sql.read(move |tx| operated::newest(tx, before, at_most)).await;
        found.map_err(|error: SqlError| of_sql(&error))
    }

    /// Beginning and end of each session, the newest first.
    pub(crate) async fn sessions_of(&self, account: AccountId) -> Result<Vec<(TimeMs, TimeMs)>, StoreError> {
        let now = self.clock.now();
        let found = self.sql.read(move |tx| store::sessions(tx, account, now)).await;
        let found = found.map_err(|error: SqlError| of_sql(&error))?;
        Ok(found.into_iter().map(|(_, began_at, ends_at)| (began_at, ends_at)).collect())
    }

    /// What operators did, newest first.
    pub(crate) async fn trail(
        &self,
        subject: Option<String>,
        before: Option<u64>,
        at_most: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let found = self.sql.read(move |tx| trail::page(tx, subject.as_deref(), before, at_most)).await;
        found.map_err(|error: SqlError| of_sql(&error))
    }
}

#[cfg(test)]
mod tests;
