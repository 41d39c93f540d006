//! Sends the letters that wait, each at least once: one is claimed before it is sent, and removed
//! after that, so it comes twice only if a process ends in between. One that does not leave is
//! tried again, later and later, and does not stop those after it. No line of the log has an
//! address or a link.

use crate::{
    guest_rows,
    letters::{self, Kind, Waiting},
    links,
    service::{Service, hash_of, random},
    store,
};
use contracts::store::{OrderId, Posts, StoreError};
use data_encoding::BASE64URL_NOPAD;
use engines::{
    mail::{Letter, MailError},
    sql::{
        SqlError,
        outbox::{self, NotTold},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, task::JoinSet};
use units::TimeMs;
use web::warning::Warning;

/// Letters that are sent at once, and that are read at once.
const AT_ONCE: usize = 4;
const READ_MAX: usize = 40;
/// Links of letters that are tried again, whose secrets are kept in memory only.
const SECRETS_MAX: usize = 10_000;
/// How often it is looked for what is due, if nothing tells of something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a letter was not sent.
enum NotSent {
    Mail(MailError),
    /// The database does not answer: nothing is known of the letter.
    Sql(SqlError),
}

impl From<SqlError> for NotSent {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl Service {
    /// Sends letters, finishes deletions and looks after guests, for as long as the set is there.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        loops.spawn(Arc::clone(self).send_letters());
        loops.spawn(Arc::clone(self).finish_deletions());
        loops.spawn(Arc::clone(self).look_after_guests());
        loops
    }

    /// Tells others what becomes of accounts, within a second, for as long as the set is there.
    pub fn tell(self: &Arc<Self>, posts: Arc<dyn Posts>) -> JoinSet<()> {
        let (mut loops, databases) = (JoinSet::new(), [self.sql.clone()]);
        loops.spawn(async move {
            let (posts, mut warning) = (&*posts, Warning::default());
            let failed = |error: NotTold<StoreError>| {
                if let Some(count) = warning.due() {
                    tracing::warn!(%error, count, "accounts: events wait, they cannot be told now");
                }
            };
            match outbox::tell(&databases, &Notify::new(), |events| posts.post(events), failed).await {}
        });
        loops
    }

    async fn send_letters(self: Arc<Self>) {
        let mut warning = Warning::default();
        // What a process before this one had claimed when it ended. Where several have one
        // database, a letter that another one is sending now may come twice.
        let mut is_released = false;
        loop {
            if !is_released {
                let now = self.clock.now();
                let released: Result<(), SqlError> =
                    self.sql.write(move |tx| letters::release(tx, now)).await;
                is_released = released.is_ok();
            }
            let is_more = match Arc::clone(&self).send_due().await {
                Ok(is_more) => is_more,
                Err(error) => {
                    if let Some(count) = warning.due() {
                        tracing::warn!(%error, count, "letters that wait cannot be read or settled now");
                    }
                    false
                }
            };
            if !is_more {
                let _ = tokio::time::timeout(LOOK_EVERY, self.written.notified()).await;
            }
        }
    }

    /// Returns whether more may be due at once.
    pub(crate) async fn send_due(self: Arc<Self>) -> Result<bool, SqlError> {
        let now = self.clock.now();
        let due = self.sql.primary().read(move |tx| letters::due(tx, now, READ_MAX)).await?;
        let is_more = due.len() == READ_MAX;
        let (mut under_way, mut settled) = (JoinSet::new(), Ok(()));
        for letter in due {
            if under_way.len() == AT_ONCE
                && let Some(Ok(one)) = under_way.join_next().await
            {
                settled = settled.and(one);
            }
            under_way.spawn(Arc::clone(&self).send(letter));
        }
        while let Some(one) = under_way.join_next().await {
            settled = settled.and(one.unwrap_or(Ok(())));
        }
        settled.map(|()| is_more)
    }

    async fn send(self: Arc<Self>, letter: Waiting) -> Result<(), SqlError> {
        let (now, of) = (self.clock.now(), letter.clone());
        let claimed: Result<bool, SqlError> = self.sql.write(move |tx| letters::claim(tx, now, &of)).await;
        if !claimed? {
            // Another process has it.
            return Ok(());
        }
        let Waiting { number, kind, written_at, .. } = letter;
        let is_over = |now: TimeMs| now.since(written_at) >= kind.tried_for();
        let sent = match is_over(now) {
            true => Err(NotSent::Mail(MailError::Later("it is too old to be of use".into()))),
            false => self.write_and_send(&letter).await,
        };
        let (now, name) = (self.clock.now(), kind.as_str());
        match sent {
            Ok(()) => {}
            Err(NotSent::Sql(error)) => return Err(error),
            Err(NotSent::Mail(MailError::Later(_))) if !is_over(now) => {
                return self.sql.write(move |tx| letters::postpone(tx, now, &letter)).await;
            }
            Err(NotSent::Mail(error)) => {
                if let Some(count) = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).due() {
                    tracing::warn!(number, kind = name, %error, count, "a letter is given up");
                }
            }
        }
        self.secrets().remove(&number);
        self.sql.write(move |tx| letters::remove(tx, number)).await
    }

    fn secrets(&self) -> MutexGuard<'_, BTreeMap<u64, [u8; 32]>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_and_send(&self, letter: &Waiting) -> Result<(), NotSent> {
        let (shop, language) = (&self.shop, letter.language);
        let words = match letter.kind {
            Kind::Deleted => shop.deleted(language),
            Kind::Connected => shop.connected(language),
            Kind::PasswordChanged => shop.password_changed(language),
            Kind::Ordered => match self.link_of_guest(letter).await? {
                Some((order, secret)) => shop.ordered(language, order, &secret),
                // The guest is gone, or has an account.
                None => return Ok(()),
            },
            Kind::Reset => match self.link_of(letter).await? {
                Some(secret) => shop.reset(language, &secret),
                // The address has no account, or the link was used already.
                None => return Ok(()),
            },
        };
        let of_mail = self.mail.send(Letter {
            id: letter.id,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(letter.written_at.0),
            to: letter.email.clone(),
            subject: words.subject,
            text: words.text,
            html: words.html,
        });
        of_mail.await.map_err(|error| {
            if let MailError::Later(why) = &error
                && let Some(count) = self.not_sent.lock().unwrap_or_else(PoisonError::into_inner).due()
            {
                tracing::warn!(why, count, "a letter waits, and is tried again later");
            }
            NotSent::Mail(error)
        })
    }

    /// The order that a letter is about, and the secret of the link to it: another one for each
    /// try, and all of them are good.
    async fn link_of_guest(&self, letter: &Waiting) -> Result<Option<(OrderId, String)>, SqlError> {
        let secret = random::<32>().map_err(|_| SqlError::Shortage("random bytes".into()))?;
        let (now, hash, id) = (self.clock.now(), hash_of(&secret), letter.id);
        let order = self.sql.write(move |tx| guest_rows::link(tx, now, &id, &hash)).await?;
        Ok(order.map(|order| (order, BASE64URL_NOPAD.encode(&secret))))
    }

    /// The secret of the link in a letter, for the account of its address. It is the same for each
    /// try of this process: a first copy whose answer was lost may have arrived, and its link is
    /// good too.
    async fn link_of(&self, letter: &Waiting) -> Result<Option<String>, SqlError> {
        let shortage = |_| SqlError::Shortage("random bytes".into());
        let known = self.secrets().get(&letter.number).copied();
        let secret = known.map_or_else(|| random::<32>().map_err(shortage), Ok)?;
        let (now, hash, email) = (self.clock.now(), hash_of(&secret), letter.email.clone());
        let made = self.sql.write(move |tx| {
            let Some((account, ..)) = store::by_email(tx, &email)? else { return Ok(false) };
            match known {
                Some(_) => links::prolong(tx, now, &hash),
                None => links::put(tx, now, account, &hash).map(|()| true),
            }
        });
        let made: Result<bool, SqlError> = made.await;
        if !made? {
            return Ok(None);
        }
        let mut secrets = self.secrets();
        secrets.insert(letter.number, secret);
        if secrets.len() > SECRETS_MAX {
            secrets.pop_first();
        }
        Ok(Some(BASE64URL_NOPAD.encode(&secret)))
    }
}
