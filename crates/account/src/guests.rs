//! Guests: shoppers who order without an account. Each checkout of a guest is a shopper of its own,
//! whose number follows from a secret that the checkout's page was given. A secret that came by
//! letter also proves that the address is the guest's: with it an account can be made that takes
//! the order over. It has the guest's number as its own, so that nothing of the order changes.

use crate::{
    deletion::{self, ANSWER_MAX},
    email, guest_rows,
    service::{SESSION_FOR, Service, hash_of, key, name_of, of_sql, random, secret_of, signed_in},
    store,
};
use contracts::store::{
    AccountId, Asked, Deleted, Guest, Guests, NewGuest, Profile, SignedIn, StoreError, TakeOver,
};
use data_encoding::BASE64URL_NOPAD;
use engines::{
    params,
    sql::{SqlError, Tx},
};
use std::{sync::Arc, time::Duration};
use units::{DurationMs, TimeMs};
use web::warning::Warning;

/// How long after a contact was kept its order, and the letter about that, are written at the
/// latest, unless the checkout was cut off.
const CHECKOUT_MAX: DurationMs = DurationMs(3_600_000);
/// How often it is looked for checkouts that were.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Bytes of a secret that say when it was made.
const TIME_BYTES: usize = 6;

/// The shopper whom a secret stands for.
fn shopper_of(secret: &[u8; 32]) -> AccountId {
    let mut at = [0; 8];
    at[8 - TIME_BYTES..].copy_from_slice(&secret[..TIME_BYTES]);
    let derived = blake3::derive_key("floodgate account 2026-11 number of a guest", secret);
    let random = derived[..16].try_into().expect("16 of 32 bytes");
    AccountId::new(TimeMs(u64::from_be_bytes(at)), random)
}

fn csrf(secret: &[u8; 32]) -> String {
    let csrf = blake3::derive_key("floodgate account 2026-11 form token of a guest", secret);
    BASE64URL_NOPAD.encode(&csrf[..24])
}

/// A guest who has ordered nothing after all goes, and what an order that was given up at once has.
fn not_ordered(tx: &mut Tx<'_>, now: TimeMs, shopper: AccountId) -> Result<(), SqlError> {
    let text = "DELETE FROM guests WHERE shopper = ? AND letter_at IS NULL";
    match tx.execute(text, params![&shopper.to_bytes()])? {
        0 => Ok(()),
        _ => deletion::put(tx, now, shopper),
    }
}

/// What became of an account that was to take an order over.
enum Taken {
    Yes,
    /// The link is over, or another one has taken the order over.
    Over,
    /// The address has an account.
    HasAccount,
}

fn take_over(
    tx: &mut Tx<'_>,
    now: TimeMs,
    link: &[u8; 32],
    (name, password): (&str, &str),
    session: &[u8; 32],
) -> Result<Taken, SqlError> {
    let Some((guest, true)) = guest_rows::find(tx, now, link)? else { return Ok(Taken::Over) };
    if !guest_rows::remove(tx, guest.shopper)? {
        return Ok(Taken::Over);
    }
    let profile = Profile {
        account: guest.shopper,
        email: guest.email.clone(),
        name: name.to_owned(),
        created_at: now,
    };
    if !store::insert(tx, &profile, password)? {
        return Err(SqlError::Shortage("an account with the address was made at once".into()));
    }
    store::begin_session(tx, session, guest.shopper, (now, now.plus(SESSION_FOR)))?;
    Ok(Taken::Yes)
}

impl Service {
    async fn keep_one(&self, new: NewGuest) -> Result<AccountId, StoreError> {
        let wrong = || StoreError::Invalid("secret: load the page again".into());
        let secret = secret_of(&new.secret).ok_or_else(wrong)?;
        let Some(email) = email::normal_form(&new.email) else {
            return Err(StoreError::Invalid("email: want an address such as ann@example.com".into()));
        };
        let now = self.clock.now();
        // A letter goes to it.
        self.letter_limits.take_order(key(email.as_bytes()), now)?;
        let (shopper, hash) = (shopper_of(&secret), hash_of(&secret));
        let (order, language) = (new.order, new.language);
        let of = guest_rows::Stored { shopper, order, email, language, letter: random()? };
        let kept = self.sql.write(move |tx| guest_rows::keep(tx, now, &hash, &of)).await;
        let is_kept: bool = kept.map_err(|error| of_sql(&error))?;
        if is_kept { Ok(shopper) } else { Err(wrong()) }
    }

    async fn ordered_one(&self, shopper: AccountId) -> Result<(), StoreError> {
        let now = self.clock.now();
        let written = self.sql.write(move |tx| guest_rows::write_letter(tx, now, shopper)).await;
        if written.map_err(|error| of_sql(&error))? {
            self.written.notify_one();
        }
        Ok(())
    }

    async fn not_ordered_one(&self, shopper: AccountId) -> Result<(), StoreError> {
        let now = self.clock.now();
        let written = self.sql.write(move |tx| not_ordered(tx, now, shopper)).await;
        written.map_err(|error| of_sql(&error))
    }

    pub(crate) async fn look_after_guests(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            if let Err(error) = self.settle_cut_off().await
                && let Some(count) = warning.due()
            {
                tracing::warn!(%error, count, "checkouts of guests that were cut off cannot be settled now");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Settles checkouts that were cut off: who has an order that is open is written to about it,
    /// and who has none is forgotten.
    pub(crate) async fn settle_cut_off(&self) -> Result<(), StoreError> {
        let before = TimeMs(self.clock.now().0.saturating_sub(CHECKOUT_MAX.0));
        let found = self.sql.read(move |tx| guest_rows::cut_off(tx, before)).await;
        for shopper in found.map_err(|error| of_sql(&error))? {
            match self.has_open_order(shopper).await? {
                true => self.ordered_one(shopper).await?,
                false => self.not_ordered_one(shopper).await?,
            }
        }
        Ok(())
    }

    async fn has_open_order(&self, shopper: AccountId) -> Result<bool, StoreError> {
        for context in &self.holds {
            let asked = tokio::time::timeout(ANSWER_MAX, context.in_the_way(shopper)).await;
            let away = |_| StoreError::Unavailable("a context does not answer".into());
            if asked.map_err(away)??.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn guest_one(&self, text: String) -> Result<Option<Guest>, StoreError> {
        let Some(secret) = secret_of(&text) else { return Ok(None) };
        let (now, hash) = (self.clock.now(), hash_of(&secret));
        let found = self.sql.find(move |tx| guest_rows::find(tx, now, &hash)).await;
        let found = found.map_err(|error| of_sql(&error))?;
        Ok(found.map(|(of, proves_address)| Guest {
            shopper: of.shopper,
            order: of.order,
            email: of.email,
            csrf: csrf(&secret),
            proves_address,
        }))
    }

    async fn take_over_one(&self, take: TakeOver) -> Result<SignedIn, StoreError> {
        let over = || StoreError::NotFound("link: it is over".into());
        let guest = self.guest_one(take.link.clone()).await?.filter(|guest| guest.proves_address);
        let (guest, link) = (guest.ok_or_else(over)?, secret_of(&take.link).ok_or_else(over)?);
        let name = name_of(&take.name)?;
        let password = self.hash_new(take.password).await?;
        let (now, secret, link) = (self.clock.now(), random()?, hash_of(&link));
        let (of_account, session) = (name.clone(), hash_of(&secret));
        let email = guest.email;
        let written = self.sql.write(move |tx| {
            if store::by_email(tx, &email)?.is_some() {
                return Ok(Taken::HasAccount);
            }
            take_over(tx, now, &link, (&of_account, &password), &session)
        });
        let written: Result<Taken, SqlError> = written.await;
        match written.map_err(|error| of_sql(&error))? {
            Taken::Yes => Ok(signed_in(guest.shopper, name, &secret, SESSION_FOR.0 / 1000)),
            Taken::Over => Err(over()),
            Taken::HasAccount => Err(StoreError::Conflict("email: it has an account already, log in".into())),
        }
    }

    async fn forget_one(&self, link: String) -> Result<Deleted, StoreError> {
        let guest = self.guest_one(link).await?.filter(|guest| guest.proves_address);
        let Some(guest) = guest else { return Ok(Deleted::WrongPassword) };
        for context in &self.holds {
            if let Some(open) = context.in_the_way(guest.shopper).await? {
                return Ok(Deleted::Not(open));
            }
        }
        let now = self.clock.now();
        let written = self.sql.write(move |tx| {
            guest_rows::remove(tx, guest.shopper)?;
            deletion::put(tx, now, guest.shopper)
        });
        let written: Result<(), SqlError> = written.await;
        written.map_err(|error| of_sql(&error))?;
        self.deleting.notify_one();
        Ok(Deleted::Yes)
    }
}

impl Guests for Service {
    fn new_secret(&self) -> Asked<'_, (String, AccountId)> {
        let made = random().map(|mut secret: [u8; 32]| {
            secret[..TIME_BYTES].copy_from_slice(&self.clock.now().0.to_be_bytes()[8 - TIME_BYTES..]);
            (BASE64URL_NOPAD.encode(&secret), shopper_of(&secret))
        });
        Box::pin(std::future::ready(made))
    }

    fn keep(&self, new: NewGuest) -> Asked<'_, AccountId> {
        Box::pin(self.keep_one(new))
    }

    fn ordered(&self, shopper: AccountId) -> Asked<'_, ()> {
        Box::pin(self.ordered_one(shopper))
    }

    fn not_ordered(&self, shopper: AccountId) -> Asked<'_, ()> {
        Box::pin(self.not_ordered_one(shopper))
    }

    fn guest(&self, secret: String) -> Asked<'_, Option<Guest>> {
        Box::pin(self.guest_one(secret))
    }

    fn take_over(&self, take: TakeOver) -> Asked<'_, SignedIn> {
        Box::pin(self.take_over_one(take))
    }

    fn forget(&self, link: String) -> Asked<'_, Deleted> {
        Box::pin(self.forget_one(link))
    }
}
