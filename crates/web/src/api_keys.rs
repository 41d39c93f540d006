//! API keys of operators and their systems. A key carries a secret of 256 random bits, so one round
//! of a fast hash is enough to store it safely: such a secret cannot be guessed, so a slow hash
//! would add nothing, and it would let callers keep the server busy.

mod key;
#[cfg(test)]
mod tests;

use key::is_logs_own;
pub use key::{ApiKey, Grant, Role};

use crate::{
    body::{bearer, cookie},
    problem::{INTERNAL, KEY_MISSING, KEY_REFUSED, Problem, RIGHT_REFUSED, ROLE_REFUSED, UNAVAILABLE},
    secret::{random_bytes, read_secret, write_secret},
    tenants::{OfTenant, Right, Scope, TenantGrant, listed},
    warning::Warning,
};
use axum::extract::FromRequestParts;
use contracts::{Actor, SaleId};
use data_encoding::BASE32_NOPAD;
use http::{Extensions, HeaderMap, request::Parts};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use subtle::ConstantTimeEq;
use units::{DurationMs, TimeMs};

/// The cookie of a session; of one whose pages have `https` addresses, the other (RFC 6265bis,
/// section 4.1.3.2), which is never sent in the clear, and which no other host of the domain can
/// set.
pub(crate) const SESSION_COOKIE: &str = "floodgate_session";
pub(crate) const SECURE_SESSION_COOKIE: &str = "__Host-floodgate_session";
const NO_KEY: &str = "no API key: send Authorization: Bearer fgk_…; floodgate key new makes one. In a browser, open \
                      a link that floodgate key sign-in prints";
/// Of a key that an earlier build made.
const LOGS_OWN: &str = "its name is one of the log's own: make another with `floodgate key new`";
const VERSION: u32 = 1;
/// That of a file with keys of tenants, which earlier builds refuse as a whole.
const VERSION_WITH_TENANTS: u32 = 2;
/// That of a file with keys of the role `support`, likewise.
const VERSION_WITH_SUPPORT: u32 = 3;
const KEYS_MAX: usize = 1000;
const SESSIONS_MAX: usize = 64;
/// Links that are not used yet.
const LINKS_MAX: usize = 64;
/// How the session of the server's own link is named.
const OWN_SESSION: &str = "session";
const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

/// What an operation wants of its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) role: Role,
    /// Or one of these rights, of a tenant's key.
    pub(crate) rights: &'static [Right],
    pub(crate) is_form: bool,
}

/// A caller whose role or right is sufficient for the request.
#[derive(Debug, Clone)]
pub struct Operator {
    name: String,
}

impl Operator {
    /// The name of the key, or of the session's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator as the log names them, with the reason that they gave.
    pub fn actor(&self, reason: &str) -> Actor {
        Actor::new(&self.name, reason)
    }
}

/// A browser's session, with the role that its key has now.
#[derive(Debug, Clone)]
pub struct SignedIn {
    name: String,
    role: Role,
    form_token: String,
}

impl SignedIn {
    /// Whether the session's key has at least this role.
    pub fn may(&self, want: Role) -> bool {
        self.role >= want
    }

    /// The name of the key by which the browser signed in.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a form of a page of this session carries; other pages cannot know it.
    pub fn form_token(&self) -> &str {
        &self.form_token
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator { name: self.name.clone() }
    }
}

/// The session of the request, if it has one: pages show forms only to who may send them.
#[derive(Debug)]
pub struct MaybeSignedIn(pub Option<SignedIn>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeSignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parts.extensions.get::<SignedIn>().cloned()))
    }
}

/// Who sent a request, and how that was proven.
#[derive(Debug)]
pub(crate) enum Known {
    /// With an API key.
    Key(Operator),
    /// With a session's cookie, which a browser sends by itself. `reads`: the operation only reads.
    Session { signed_in: SignedIn, reads: bool },
    /// With a tenant's key.
    Tenant(Operator, OfTenant),
}

impl Known {
    /// Notes the caller for the handler. The operator of a form is proven by the form's token
    /// first.
    pub(crate) fn note(self, extensions: &mut Extensions) {
        let mut scope = Scope::All;
        match self {
            Self::Key(operator) => drop(extensions.insert(operator)),
            Self::Tenant(operator, of) => {
                extensions.insert(operator);
                scope = Scope::Tenant(Arc::new(of));
            }
            Self::Session { signed_in, reads } => {
                if reads {
                    extensions.insert(signed_in.operator());
                }
                extensions.insert(signed_in);
            }
        }
        extensions.insert(scope);
    }
}

/// The operator whose role was checked by the table of operations. It is missing in the handler of
/// an operation without a role, which is a bug.
impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "an operation takes an operator and names no role");
            Problem::new(&INTERNAL, "this operation names no role: nothing was done")
        })
    }
}

/// Read before the rest, so that a file of a later build is named as one.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    keys: Vec<ApiKey>,
}

/// The keys in `keys/admin.json` under a data directory. Another process may change the file, so it
/// is read again when it changes.
#[derive(Debug)]
pub struct ApiKeys {
    path: PathBuf,
    known: Mutex<Current>,
}

/// What tells a changed file: time of change, inode, and time of the inode's change.
type Stamp = (SystemTime, u64, i64, i64);

#[derive(Debug, Default)]
struct Current {
    keys: Vec<ApiKey>,
    stamp: Option<Stamp>,
    /// The file could not be read, for a reason that passes.
    is_unread: bool,
    /// Lines that a stranger could cause.
    unread: Warning,
    refused: Warning,
    /// Hashes of one-time keys that are not used yet.
    one_time: VecDeque<[u8; 32]>,
    /// Of browsers that have signed in with the server's own link, which only read: their hashes.
    own_sessions: VecDeque<([u8; 32], Instant)>,
    /// Of browsers that have signed in with a link of a key, as the file had them that has this
    /// stamp.
    sessions: Vec<Session>,
    sessions_stamp: Option<Stamp>,
}

/// A browser that has signed in with the link of a key. All processes on a data directory know it:
/// the pages of one are often those of several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    /// BLAKE3 of its secret, in hexadecimal.
    hash: String,
    since: TimeMs,
    /// The key whose role it has, as it was: one that was revoked and made again is another.
    key: ApiKey,
}

impl Session {
    /// A session that has begun after `now` is of a clock that was wrong then, or is now.
    fn is_good(&self, now: TimeMs) -> bool {
        self.since <= now && now.since(self.since).0 < SESSION_TTL.as_millis() as u64
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sessions {
    version: u32,
    /// The newest first.
    sessions: Vec<Session>,
}

impl ApiKeys {
    /// Reads the keys, if there are any yet.
    pub fn open(data: &Path) -> io::Result<Self> {
        let keys = Self { path: data.join("keys/admin.json"), known: Mutex::default() };
        let stored = keys.read()?;
        let mut known = keys.known();
        (known.keys, known.stamp) = (stored.keys, keys.stamp());
        drop(known);
        Ok(keys)
    }

    /// Makes a key and returns its text, `fgk_<name>_<secret>`, which is not stored anywhere. The
    /// name must be new.
    pub fn create(&self, name: &str, role: Role, now: TimeMs) -> io::Result<String> {
        self.create_for(name, Grant::Role(role), now)
    }

    /// The same, also for a tenant.
    pub fn create_for(&self, name: &str, grant: Grant, now: TimeMs) -> io::Result<String> {
        name.parse::<SaleId>()
            .map_err(|e| invalid(format!("key name {name:?}: {e}").replace("sale id: ", "")))?;
        if is_logs_own(name) {
            let why = "it is how logs call what is done by itself; give the key another name";
            return Err(invalid(format!("key name {name:?}: {why}")));
        }
        if let Grant::Tenant(grant) = &grant
            && let Some(why) = grant.problem()
        {
            return Err(invalid(format!("key {name:?}: {why}")));
        }
        let secret = secret()?;
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        self.change(|stored| {
            if stored.keys.iter().any(|k| k.name == name) {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("key {name:?}: there is one already"),
                ));
            }
            if stored.keys.len() >= KEYS_MAX {
                return Err(invalid(format!("key {name:?}: there are {KEYS_MAX} keys already")));
            }
            stored.keys.push(ApiKey { name: name.to_owned(), grant, created_at: now, hash });
            Ok(())
        })?;
        Ok(format!("fgk_{name}_{secret}"))
    }

    /// Revokes a key; false if there is none of that name. A running server notices at the next
    /// request.
    pub fn revoke(&self, name: &str) -> io::Result<bool> {
        let mut found = false;
        self.change(|stored| {
            let before = stored.keys.len();
            stored.keys.retain(|k| k.name != name);
            found = stored.keys.len() < before;
            Ok(())
        })?;
        Ok(found)
    }

    /// All keys, in the order in which they were made.
    pub fn list(&self) -> io::Result<Vec<ApiKey>> {
        Ok(self.read()?.keys)
    }

    /// Whose key this is. An error says that the keys cannot be read now, and nothing of the key.
    pub fn verify(&self, text: &str) -> Result<Option<(String, Grant)>, Unread> {
        let Some((name, secret)) = text.strip_prefix("fgk_").and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let hash = blake3::hash(secret.as_bytes()).to_hex();
        let mut known = self.known();
        self.reread_if_changed(&mut known);
        if known.is_unread {
            return Err(Unread);
        }
        let key = known.keys.iter().find(|k| k.name == name);
        let same = |key: &&ApiKey| bool::from(key.hash.as_bytes().ct_eq(hash.as_bytes()));
        Ok(key.filter(same).map(|key| (key.name.clone(), key.grant.clone())))
    }

    /// Notes that a key was refused. Returns how many were, if it is time to write a line.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.known().refused.due()
    }

    /// Whether it is time for a line about files that cannot be read.
    pub(crate) fn is_unread_line_due(&self) -> bool {
        self.known().unread.due().is_some()
    }

    /// Who sent the request, if their role is sufficient. A session is sufficient for what only
    /// reads and for forms of pages.
    pub(crate) fn authorize(&self, headers: &HeaderMap, wanted: Wanted) -> Result<Known, Problem> {
        let Wanted { role: want, rights, is_form } = wanted;
        let Some(text) = bearer(headers) else {
            let mut signed_in = None;
            for name in [SECURE_SESSION_COOKIE, SESSION_COOKIE] {
                if let Some(session) = cookie(headers, name).filter(|_| signed_in.is_none()) {
                    signed_in = self.session(session).map_err(|Unread| unread())?;
                }
            }
            let signed_in = signed_in.ok_or_else(|| Problem::new(&KEY_MISSING, NO_KEY))?;
            return match want {
                Role::ReadOnly => Ok(Known::Session { signed_in, reads: !is_form }),
                _ if !is_form => Err(Problem::new(&KEY_MISSING, NO_KEY)),
                _ if signed_in.may(want) => Ok(Known::Session { signed_in, reads: false }),
                _ => Err(role_refused(&signed_in.name, signed_in.role, want)),
            };
        };
        let known = self.verify(text).map_err(|Unread| unread())?;
        if known.as_ref().is_some_and(|(name, _)| is_logs_own(name)) {
            return Err(Problem::new(&KEY_REFUSED, format!("API key: {LOGS_OWN}")));
        }
        let known = known.ok_or_else(|| Problem::new(&KEY_REFUSED, "API key: unknown or revoked"))?;
        match known {
            (name, Grant::Role(role)) if role < want => Err(role_refused(&name, role, want)),
            (name, Grant::Role(_)) => Ok(Known::Key(Operator { name })),
            (name, Grant::Tenant(grant)) if rights.is_empty() => Err(not_here(&name, &grant)),
            (name, Grant::Tenant(grant)) if !rights.iter().any(|right| grant.rights.contains(right)) => {
                let has = listed(&grant.rights);
                let why = format!("API key {name:?} may {has}: this needs one of {}", listed(rights));
                Err(Problem::new(&RIGHT_REFUSED, why))
            }
            (name, Grant::Tenant(grant)) => {
                let topics = grant.narrowed(rights);
                let of = OfTenant { key: name.clone(), tenant: grant.tenant, topics };
                Ok(Known::Tenant(Operator { name }, of))
            }
        }
    }

    /// Refuses a tenant's key where it has nothing to ask, whatever else the request has.
    pub(crate) fn refuse_tenants(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match bearer(headers).map(|text| self.verify(text)) {
            Some(Ok(Some((name, Grant::Tenant(grant))))) => Err(not_here(&name, &grant)),
            _ => Ok(()),
        }
    }

    /// Whether a request is an operator's, for what shows others less. Where the keys cannot be
    /// read, it is not.
    pub fn is_operators(&self, headers: &HeaderMap) -> bool {
        let wanted = Wanted { role: Role::ReadOnly, rights: &[], is_form: false };
        self.authorize(headers, wanted).is_ok()
    }

    /// Whether a caller who was let in with these credentials still is: a stream outlives the
    /// moment in which its key was checked. While the keys cannot be read, it is.
    pub fn may_still(&self, headers: &HeaderMap, role: Role, rights: &'static [Right]) -> bool {
        let known = self.authorize(headers, Wanted { role, rights, is_form: false });
        known.map_or_else(|problem| problem.is(&UNAVAILABLE), |_| true)
    }

    /// Makes a one-time key, which signs one browser in. It is valid until the process ends.
    pub fn mint_one_time(&self) -> io::Result<String> {
        let secret = secret()?;
        let mut known = self.known();
        known.one_time.truncate(SESSIONS_MAX - 1);
        known.one_time.push_front(*blake3::hash(secret.as_bytes()).as_bytes());
        Ok(secret)
    }

    /// Whether a one-time key is valid. It stays so.
    pub(crate) fn is_one_time(&self, one_time: &str) -> bool {
        let hash = *blake3::hash(one_time.as_bytes()).as_bytes();
        self.known().one_time.iter().any(|known| known.ct_eq(&hash).into())
    }

    /// Exchanges a one-time key of this process for a session, which can only read.
    pub fn sign_in(&self, one_time: &str) -> Option<String> {
        let hash = *blake3::hash(one_time.as_bytes()).as_bytes();
        let mut known = self.known();
        let at = known.one_time.iter().position(|h| h.ct_eq(&hash).into())?;
        let session = secret().ok()?;
        known.one_time.remove(at);
        known.own_sessions.truncate(SESSIONS_MAX - 1);
        known.own_sessions.push_front((*blake3::hash(session.as_bytes()).as_bytes(), Instant::now()));
        Some(session)
    }

    /// The session of this cookie, with the role that its key has now. A revoked key ends its
    /// sessions; an error says that the keys cannot be read now, and nothing of the session.
    pub fn session(&self, session: &str) -> Result<Option<SignedIn>, Unread> {
        let hash = blake3::hash(session.as_bytes());
        let mut known = self.known();
        let is_own = |(own, since): &([u8; 32], Instant)| {
            bool::from(own.ct_eq(hash.as_bytes())) && since.elapsed() < SESSION_TTL
        };
        let (name, role) = match known.own_sessions.iter().any(is_own) {
            true => (OWN_SESSION.to_owned(), Role::ReadOnly),
            false => {
                self.reread_if_changed(&mut known);
                if known.is_unread || self.reread_sessions_if_changed(&mut known).is_err() {
                    return Err(Unread);
                }
                let (now, hash) = (wall_clock(), hash.to_hex());
                let is_it = |of: &&Session| bool::from(of.hash.as_bytes().ct_eq(hash.as_bytes()));
                let found = known.sessions.iter().find(is_it).filter(|found| found.is_good(now));
                let key = found.and_then(|found| known.keys.iter().find(|key| **key == found.key));
                match key.filter(|key| !key.has_logs_own_name()) {
                    Some(key) => (key.name.clone(), key.role().unwrap_or(Role::ReadOnly)),
                    None => return Ok(None),
                }
            }
        };
        let token = blake3::derive_key("floodgate operators' forms v1", session.as_bytes());
        Ok(Some(SignedIn { name, role, form_token: BASE32_NOPAD.encode(&token[..20]) }))
    }

    /// Makes a link's one-time key, by which one browser signs in with the role of the named key.
    /// Any process on the same data directory may make it, and the server takes it.
    pub fn mint_sign_in(&self, name: &str, now: TimeMs, lifetime: DurationMs) -> io::Result<(Role, String)> {
        let secret = secret()?;
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        let mut role = None;
        self.change_links(|stored, links| {
            let Some(key) = stored.keys.iter().find(|key| key.name == name) else {
                let why = format!("there is no key {name:?}; `floodgate key list` prints them");
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            };
            if key.has_logs_own_name() {
                return Err(invalid(format!("key {name:?}: {LOGS_OWN}")));
            }
            role = key.role();
            if role.is_none() {
                let why = format!("key {name:?} is {}: its tenant has no page to sign in to", key.grant);
                return Err(invalid(why));
            }
            links.links.retain(|link| link.expires_at > now);
            if links.links.len() >= LINKS_MAX {
                let why =
                    format!("there are {LINKS_MAX} unused sign-in links already: wait until they expire");
                return Err(invalid(why));
            }
            links.links.push(Link { key: key.clone(), hash, expires_at: now.plus(lifetime) });
            Ok(())
        })?;
        Ok((role.unwrap_or(Role::ReadOnly), secret))
    }

    /// Whether a link's one-time key is not used up. It stays so. Blocks on the disk.
    pub(crate) fn is_sign_in(&self, one_time: &str) -> io::Result<bool> {
        let hash = blake3::hash(one_time.as_bytes()).to_hex();
        Ok(self.read_links()?.links.iter().any(|link| link.is(&hash)))
    }

    /// Exchanges a link's one-time key for a session with the role of its key. The key is used up
    /// durably before there is a session, so no crash lets it be used twice. Blocks on the disk.
    pub(crate) fn take_sign_in(&self, one_time: &str, now: TimeMs) -> io::Result<Taken> {
        let hash = blake3::hash(one_time.as_bytes()).to_hex();
        // A file that was never made costs no lock.
        if !self.read_links()?.links.iter().any(|link| link.is(&hash)) {
            return Ok(Taken::Unknown);
        }
        let mut taken = None;
        self.change_links(|_, links| {
            if let Some(at) = links.links.iter().position(|link| link.is(&hash)) {
                taken = Some(links.links.swap_remove(at));
            }
            Ok(())
        })?;
        let Some(link) = taken else { return Ok(Taken::Unknown) };
        let name = link.key.name.clone();
        let mut known = self.known();
        self.reread_if_changed(&mut known);
        let why = if !known.keys.contains(&link.key) {
            Some("its API key was revoked")
        } else if link.key.has_logs_own_name() {
            Some("the name of its API key is one of the log's own")
        } else {
            (link.expires_at <= now).then_some("expired")
        };
        if let Some(why) = why {
            return Ok(Taken::Refused { name, why });
        }
        drop(known);
        let session = self.begin_session(link.key)?;
        Ok(Taken::Session { name, session })
    }

    /// A new session with the role of a key. The oldest of too many ends.
    fn begin_session(&self, key: ApiKey) -> io::Result<String> {
        let session = secret()?;
        let (hash, now) = (blake3::hash(session.as_bytes()).to_hex().to_string(), wall_clock());
        let _lock = self.lock()?;
        // What cannot be read any more has no session that is good.
        let mut kept = match self.read_sessions() {
            Err(error) if passes(&error) => return Err(error),
            kept => kept.unwrap_or_default(),
        };
        kept.sessions.retain(|session| session.is_good(now));
        kept.sessions.truncate(SESSIONS_MAX - 1);
        kept.sessions.insert(0, Session { hash, since: now, key });
        kept.version = VERSION;
        write_secret(&self.sessions_path(), &serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?)?;
        Ok(session)
    }

    fn sessions_path(&self) -> PathBuf {
        self.path.with_file_name("sessions.json")
    }

    fn read_sessions(&self) -> io::Result<Sessions> {
        let path = self.sessions_path();
        let bytes = match read_secret(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Sessions::default()),
            read => read?,
        };
        let kept: Sessions = serde_json::from_slice(&bytes)
            .map_err(|_| invalid(format!("{}: it cannot be read: remove it", path.display())))?;
        match kept.version {
            VERSION => Ok(kept),
            other => Err(invalid(format!("{}: version {other}, want {VERSION}: remove it", path.display()))),
        }
    }

    /// An error is one that passes: whether a session is good is not known now. Of a file that
    /// cannot be read for good, none is.
    fn reread_sessions_if_changed(&self, known: &mut Current) -> io::Result<()> {
        let stamp = stamp_of(&self.sessions_path());
        if stamp == known.sessions_stamp {
            return Ok(());
        }
        known.sessions = match self.read_sessions() {
            Err(error) if passes(&error) => {
                if known.unread.due().is_some() {
                    tracing::error!(%error, "sessions of operators not read: they get 503 until they can be");
                }
                return Err(error);
            }
            Err(error) => {
                tracing::error!(%error, "sessions of operators not read: all have to sign in again");
                Vec::new()
            }
            Ok(kept) => kept.sessions,
        };
        known.sessions_stamp = stamp;
        Ok(())
    }

    fn links_path(&self) -> PathBuf {
        self.path.with_file_name("sign-in.json")
    }

    fn read_links(&self) -> io::Result<Links> {
        let path = self.links_path();
        let bytes = match read_secret(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Links::default()),
            read => read?,
        };
        let links: Links = serde_json::from_slice(&bytes)
            .map_err(|_| invalid(format!("{}: it cannot be read: remove it", path.display())))?;
        if links.version == VERSION {
            return Ok(links);
        }
        Err(invalid(format!("{}: version {}, want {VERSION}: remove it", path.display(), links.version)))
    }

    fn change_links(&self, change: impl FnOnce(&Stored, &mut Links) -> io::Result<()>) -> io::Result<()> {
        let _lock = self.lock()?;
        let (stored, mut links) = (self.read()?, self.read_links()?);
        change(&stored, &mut links)?;
        links.version = VERSION;
        write_secret(&self.links_path(), &serde_json::to_vec_pretty(&links).map_err(io::Error::other)?)
    }

    fn known(&self) -> MutexGuard<'_, Current> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reread_if_changed(&self, known: &mut Current) {
        let stamp = self.stamp();
        known.is_unread = false;
        if stamp == known.stamp {
            return;
        }
        match self.read() {
            Ok(stored) => (known.keys, known.stamp) = (stored.keys, stamp),
            // A key may have been revoked in what cannot be read, so none is accepted; but a
            // shortage is not the operators' fault, and the next request tries again.
            Err(error) if passes(&error) => {
                known.is_unread = true;
                if known.unread.due().is_some() {
                    tracing::error!(%error, "API keys not read: operators get 503 until they can be");
                }
            }
            // Without a readable file no key is valid: a damaged file must not keep a revoked key
            // alive.
            Err(error) => {
                tracing::error!(%error, "API keys not read: none is accepted until the file is right");
                (known.keys, known.stamp) = (Vec::new(), stamp);
            }
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        stamp_of(&self.path)
    }

    fn read(&self) -> io::Result<Stored> {
        let bytes = match read_secret(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Stored { version: VERSION, keys: Vec::new() });
            }
            read => read?,
        };
        let wrong = |e: serde_json::Error| invalid(format!("{}: {e}", self.path.display()));
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(wrong)?;
        if !(VERSION..=VERSION_WITH_SUPPORT).contains(&version) {
            let want = format!("want {VERSION} to {VERSION_WITH_SUPPORT}: a later build has written it");
            return Err(invalid(format!("{}: version {version}, {want}", self.path.display())));
        }
        serde_json::from_slice(&bytes).map_err(wrong)
    }

    /// The lock that every process takes before it changes the keys or the links. It is held until
    /// the file is dropped.
    fn lock(&self) -> io::Result<fs::File> {
        if let Some(dir) = self.path.parent() {
            engines::embedded::disk::make_dir_durable(dir)?;
        }
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Reads, changes and writes under a lock that other processes honour too.
    fn change(&self, change: impl FnOnce(&mut Stored) -> io::Result<()>) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut stored = self.read()?;
        change(&mut stored)?;
        // Without such keys, earlier builds read it.
        let has = |role: Option<Role>| stored.keys.iter().any(|key| key.role() == role);
        stored.version = match (has(Some(Role::Support)), has(None)) {
            (true, _) => VERSION_WITH_SUPPORT,
            (false, true) => VERSION_WITH_TENANTS,
            (false, false) => VERSION,
        };
        let text = serde_json::to_vec_pretty(&stored).map_err(io::Error::other)?;
        write_secret(&self.path, &text)?;
        let mut known = self.known();
        (known.keys, known.stamp) = (stored.keys, self.stamp());
        Ok(())
    }
}

/// A link by which one browser may sign in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    /// The key as it was: one that was revoked and made again is another.
    key: ApiKey,
    /// BLAKE3 of the link's one-time key, in hexadecimal.
    hash: String,
    expires_at: TimeMs,
}

impl Link {
    fn is(&self, hash: &str) -> bool {
        self.hash.as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Links {
    version: u32,
    links: Vec<Link>,
}

/// What came of a link's one-time key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Session {
        name: String,
        session: String,
    },
    Refused {
        name: String,
        why: &'static str,
    },
    /// There is no such key, or it was used before.
    Unknown,
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).ok()?;
    // A mended mode or owner changes the last of them alone.
    Some((meta.modified().ok()?, meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn wall_clock() -> TimeMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    TimeMs(since.as_millis() as u64)
}

fn unread() -> Problem {
    Problem::unavailable("the API keys cannot be read now (the server's log says why)").retry_after(2)
}

fn not_here(name: &str, grant: &TenantGrant) -> Problem {
    let why = format!(
        "API key {name:?} is of tenant {}: it is for the operations of the message service that name a right, and for \
         nothing else",
        grant.tenant
    );
    Problem::new(&RIGHT_REFUSED, why)
}

fn role_refused(name: &str, role: Role, want: Role) -> Problem {
    Problem::new(&ROLE_REFUSED, format!("API key {name:?} is {role}: this needs {want}"))
}

/// The keys cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread;

/// Whether a failure to read a file may be over at the next try: of descriptors or memory there are
/// too few, or the disk failed. A file with wrong content or a wrong mode stays wrong.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let stays = [InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied];
    !stays.contains(&error.kind())
}

/// 256 random bits as 52 letters and digits, without `_`, which separates the parts of a key.
fn secret() -> io::Result<String> {
    Ok(BASE32_NOPAD.encode(&random_bytes::<32>()?).to_ascii_lowercase())
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
