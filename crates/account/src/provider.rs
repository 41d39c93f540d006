//! Log-in at a provider of identities: OpenID Connect, with the authorization code flow, PKCE, and
//! what the browser brings back bound to the one that has begun ([`ticket`]).
//!
//! A log-in there opens the account with which it is connected. One that is connected with none
//! makes an account if the provider has checked its address of mail and no account has that. **An
//! account that has the address is never opened by it**: anybody can register with another's
//! address, and would then share the account with its owner, or take over what a careless provider
//! says. Its shopper connects the two while logged in, with the password.

mod remote;
mod ticket;

use crate::{
    connected::{self, LogIn},
    email,
    letters::{self, Kind},
    service::{NAME_MAX, SECRET_BYTES, SESSION_FOR, Service, hash_of, of_sql, random, signed_in},
    store,
};
use contracts::store::{
    AccountId, Asked, FromProvider, GoToProvider, Language, NotSignedIn, OwnPassword, Profile,
    ProviderAnswer, SignInProvider, SignedIn, StoreError,
};
use engines::sql::{SqlError, Tx};
use remote::{Failed, Remote, Who};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use ticket::{GOOD_FOR, Ticket};
use tokio::sync::Semaphore;
use units::TimeMs;
use web::warning::Warning;

/// Browsers for which the provider is asked at once, how long a further one waits for its turn, and
/// how long any waits for an answer: three calls, and the two of a description.
const AT_ONCE: usize = 8;
const TURN: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// Bytes of a code, and of all that a browser brings back.
const QUERY_MAX: usize = 8 << 10;

/// What is to be known of a provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its URL, as it says it itself.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
    /// Where it sends browsers back to: known to it, letter for letter.
    pub redirect: String,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Settings {
    /// Whether this can be a provider: a URL with `https`, or on this machine.
    pub fn is_issuer(url: &str) -> bool {
        let is_place = |rest: &str| {
            let host = rest.split('/').next().unwrap_or_default();
            let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
            !host.is_empty() && host.bytes().all(is_of_host) && !rest.contains(['?', '#', '\\', ' ', '@'])
        };
        let rest = url.strip_prefix("https://").or_else(|| local_part(url));
        url.len() <= 255 && rest.is_some_and(|rest| is_place(rest) && rest.is_ascii())
    }

    fn is_local(&self) -> bool {
        local_part(&self.issuer).is_some()
    }
}

fn local_part(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://")?;
    let host = rest.split(['/', ':']).next()?;
    ["localhost", "127.0.0.1"].contains(&host).then_some(rest)
}

/// The provider, for the accounts.
#[derive(Debug)]
pub struct Provider {
    accounts: Arc<Service>,
    remote: Arc<Remote>,
    turns: Arc<Semaphore>,
    not_signed_in: Mutex<Warning>,
}

/// What a browser has in the address with which it comes back (RFC 6749, section 4.1.2).
#[derive(Default)]
struct Brought {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

impl Brought {
    /// `None` if something is there twice: two readers could differ about it.
    fn parse(query: &str) -> Option<Self> {
        if query.len() > QUERY_MAX {
            return None;
        }
        let mut brought = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut brought.state,
                "code" => &mut brought.code,
                "error" => &mut brought.error,
                "iss" => &mut brought.issuer,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(brought)
    }
}

/// What a transaction has come to.
enum Ended {
    SignedIn(AccountId, String),
    Connected,
    Not(NotSignedIn),
}

impl Provider {
    /// Nothing is asked of it yet: it may be away.
    pub fn new(accounts: Arc<Service>, settings: Settings) -> Result<Arc<Self>, String> {
        let remote = Arc::new(Remote::new(settings)?);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Arc::new(Self { accounts, remote, turns, not_signed_in: Mutex::default() }))
    }

    /// Asks the provider, and says in the log what failed.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Remote) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        self.ask_now(ask).await.inspect_err(|failed| {
            if let Some(count) = self.not_signed_in.lock().unwrap_or_else(PoisonError::into_inner).due() {
                let (Failed::Away(why) | Failed::Refused(why)) = failed;
                let is_away = matches!(failed, Failed::Away(_));
                tracing::warn!(why, is_away, count, "a log-in at the provider of identities has failed");
            }
        })
    }

    /// Asks the provider on a thread for what blocks.
    async fn ask_now<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Remote) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let busy = || Failed::Away("too many log in at it at the moment".into());
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let remote = Arc::clone(&self.remote);
        let asked = tokio::task::spawn_blocking(move || {
            // Also if the caller has gone away.
            let _turn = turn;
            ask(&remote)
        });
        let asked = tokio::time::timeout(ANSWER_MAX, asked).await;
        let late = |_| Failed::Away("no answer in time".into());
        asked.map_err(late)?.map_err(|_| Failed::Refused("its answer cannot be read".into()))?
    }

    async fn go_with(&self, ticket: Ticket, language: Language) -> Result<GoToProvider, StoreError> {
        let cookie = ticket.text().to_owned();
        match self.ask(move |remote| remote.url(&ticket, language)).await {
            Ok(url) => Ok(GoToProvider { url, cookie, seconds: GOOD_FOR.0 / 1000 }),
            Err(_) => Err(StoreError::Unavailable("the provider of identities does not answer now".into())),
        }
    }

    async fn come_back_one(&self, from: FromProvider) -> Result<ProviderAnswer, StoreError> {
        let not = |why| Ok(ProviderAnswer::Not(why));
        let now = self.accounts.clock.now();
        let (Some(ticket), Some(brought)) = (Ticket::parse(&from.cookie), Brought::parse(&from.query)) else {
            return not(NotSignedIn::Over);
        };
        let is_ours = brought.state.as_deref().is_some_and(|state| ticket.has_state(state));
        let is_of_session = ticket.connects.is_none_or(|account| from.account == Some(account));
        let Some(ends_at) = ticket.ends_at(now).filter(|_| is_ours && is_of_session) else {
            return not(NotSignedIn::Over);
        };
        let hash = ticket.hash();
        let sql = &self.accounts.sql;
        let used = sql.write(move |tx| connected::use_up(tx, now, &hash, ends_at)).await;
        if !used.map_err(|error| of_sql(&error))? {
            return not(NotSignedIn::Over);
        }
        let code = match (brought.error.as_deref(), brought.code) {
            (Some("access_denied"), _) => return not(NotSignedIn::Cancelled),
            (None, Some(code)) => code,
            _ => return not(NotSignedIn::Refused),
        };
        let (of_browser, issuer) = (ticket.clone(), brought.issuer);
        let who = self.ask(move |remote| remote.who(&of_browser, (code, issuer.as_deref()), now)).await;
        let who = match who {
            Ok(who) => who,
            Err(Failed::Away(_)) => return not(NotSignedIn::Away),
            Err(Failed::Refused(_)) => return not(NotSignedIn::Refused),
        };
        self.end(ticket, who, from.language).await
    }

    async fn end(&self, ticket: Ticket, who: Who, language: Language) -> Result<ProviderAnswer, StoreError> {
        let accounts = &self.accounts;
        let now = accounts.clock.now();
        let log_in = LogIn { issuer: self.remote.issuer().to_owned(), subject: who.subject };
        let email = who.email.as_deref().and_then(email::normal_form);
        let (secret, letter) = (random::<SECRET_BYTES>()?, random()?);
        let written = match ticket.connects {
            Some(account) => {
                let (letter, hash) = ((language, letter), ticket.hash());
                let write = move |tx: &mut Tx<'_>| {
                    connect(tx, now, (&hash, account), (&log_in, email.as_deref()), letter)
                };
                accounts.sql.write(write).await
            }
            None => {
                let account = AccountId::new(now, random()?);
                let name = name_of(who.name.as_deref(), email.as_deref());
                let write = move |tx: &mut Tx<'_>| {
                    sign_in(tx, now, &log_in, (account, email.clone(), name.clone()), &secret)
                };
                accounts.sql.write(write).await
            }
        };
        let ended: Ended = written.map_err(|error| of_sql(&error))?;
        Ok(match ended {
            Ended::Not(why) => ProviderAnswer::Not(why),
            Ended::Connected => {
                accounts.written.notify_one();
                ProviderAnswer::Connected
            }
            Ended::SignedIn(account, name) => {
                let session: SignedIn = signed_in(account, name, &secret, SESSION_FOR.0 / 1000);
                ProviderAnswer::SignedIn(session, ticket.next)
            }
        })
    }
}

/// What the shop calls a shopper whose name is this at the provider.
fn name_of(name: Option<&str>, email: Option<&str>) -> String {
    let clean = |text: &str| {
        let text: String = text.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let local = || email?.split('@').next().and_then(clean);
    name.and_then(clean).or_else(local).unwrap_or_else(|| "–".to_owned())
}

/// A session of the account with which the log-in is connected, or of a new one.
fn sign_in(
    tx: &mut Tx<'_>,
    now: TimeMs,
    log_in: &LogIn,
    (new, email, name): (AccountId, Option<String>, String),
    secret: &[u8; SECRET_BYTES],
) -> Result<Ended, SqlError> {
    let (account, name) = match connected::account_of(tx, log_in)? {
        Some(account) => match store::locked(tx, account)? {
            Some((own, name)) => {
                // It may have been disconnected before the account's row was this transaction's.
                if connected::account_of_locked(tx, log_in)? != Some(account) {
                    return Ok(Ended::Not(NotSignedIn::Over));
                }
                connected::note_address(tx, log_in, email.as_deref() == Some(&own))?;
                (account, name)
            }
            None => return Ok(Ended::Not(NotSignedIn::Locked)),
        },
        None => {
            let Some(email) = email else { return Ok(Ended::Not(NotSignedIn::NoAddress)) };
            let profile = Profile { account: new, email, name: name.clone(), created_at: now };
            if !store::insert(tx, &profile, "")? {
                return Ok(Ended::Not(NotSignedIn::HasAccount));
            }
            if !connected::put(tx, now, new, log_in, true)? {
                return Err(SqlError::Shortage("the same log-in made an account at once".into()));
            }
            (new, name)
        }
    };
    store::begin_session(tx, &hash_of(secret), account, (now, now.plus(SESSION_FOR)))?;
    Ok(Ended::SignedIn(account, name))
}

/// The log-in opens this account from now on.
fn connect(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (ticket, account): (&[u8; 32], AccountId),
    (log_in, email): (&LogIn, Option<&str>),
    (language, letter): (Language, [u8; 16]),
) -> Result<Ended, SqlError> {
    let Some((own, _)) = store::locked(tx, account)? else { return Ok(Ended::Not(NotSignedIn::Locked)) };
    // Only this says that the password was proved: a cookie can be made by its owner.
    if !connected::take_begun(tx, now, (ticket, account))? {
        return Ok(Ended::Not(NotSignedIn::Over));
    }
    match connected::account_of(tx, log_in)? {
        Some(of) if of == account => return Ok(Ended::Connected),
        Some(_) => return Ok(Ended::Not(NotSignedIn::OfAnother)),
        None => {}
    }
    if connected::has_one_of(tx, account, &log_in.issuer)? {
        return Ok(Ended::Not(NotSignedIn::HasAnother));
    }
    if !connected::put(tx, now, account, log_in, email == Some(&own))? {
        return Ok(Ended::Not(NotSignedIn::OfAnother));
    }
    letters::put(tx, now, &letters::New { id: letter, kind: Kind::Connected, email: &own, language })?;
    Ok(Ended::Connected)
}

impl SignInProvider for Provider {
    fn go(&self, next: String, language: Language) -> Asked<'_, GoToProvider> {
        Box::pin(async move {
            let ticket = Ticket::new(&random()?, self.accounts.clock.now(), None, next);
            self.go_with(ticket, language).await
        })
    }

    fn connect(&self, own: OwnPassword) -> Asked<'_, Option<GoToProvider>> {
        Box::pin(async move {
            let (account, language, now) = (own.account, own.language, self.accounts.clock.now());
            let Some(checked) = self.accounts.checked(own).await? else { return Ok(None) };
            // Each connection writes a letter.
            self.accounts.letter_limits.take_change(checked.key, now)?;
            let ticket = Ticket::new(&random()?, now, Some(account), "/account/settings".into());
            let (hash, ends_at) = (ticket.hash(), now.plus(GOOD_FOR));
            let begun = self.accounts.sql.write(move |tx| {
                if store::locked_with(tx, account, &checked.hash)?.is_none() {
                    return Ok(false);
                }
                connected::begin(tx, now, (&hash, account), ends_at).map(|()| true)
            });
            let begun: Result<bool, SqlError> = begun.await;
            match begun.map_err(|error| of_sql(&error))? {
                true => self.go_with(ticket, language).await.map(Some),
                false => Ok(None),
            }
        })
    }

    fn come_back(&self, from: FromProvider) -> Asked<'_, ProviderAnswer> {
        Box::pin(self.come_back_one(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_has_tls_or_is_on_this_machine() {
        for good in [
            "https://id.example",
            "https://id.example/realms/shop/",
            "http://localhost:9998/",
            "http://127.0.0.1:1",
        ] {
            assert!(Settings::is_issuer(good), "{good}");
        }
        for bad in [
            "",
            "id.example",
            "http://id.example",
            "http://localhost.example",
            "https://",
            "https://id.example?x",
            "https://id.example/#x",
            "https://ann@id.example",
            "https://id.example/é",
        ] {
            assert!(!Settings::is_issuer(bad), "{bad}");
        }
    }

    #[test]
    fn a_shopper_has_a_name_whatever_the_provider_says() {
        assert_eq!(name_of(Some(" Ann\n Lee "), None), "Ann Lee");
        assert_eq!(name_of(Some("\t"), Some("ann.lee@example.com")), "ann.lee");
        assert_eq!(name_of(None, None), "–");
        assert_eq!(name_of(Some(&"安".repeat(100)), None).chars().count(), NAME_MAX);
    }

    #[test]
    fn what_a_browser_brings_twice_is_not_read() {
        let brought = Brought::parse("code=a%2Bb&state=s&other=1&other=2").unwrap();
        assert_eq!((brought.code.as_deref(), brought.state.as_deref()), (Some("a+b"), Some("s")));
        assert!(brought.error.is_none() && brought.issuer.is_none());
        for twice in ["code=1&code=1", "state=1&state=2", "iss=a&code=1&iss=a"] {
            assert!(Brought::parse(twice).is_none(), "{twice}");
        }
        assert!(Brought::parse(&format!("code={}", "x".repeat(QUERY_MAX))).is_none());
    }
}
