//! API keys of operators and their systems. A key carries a secret of 256 random bits, so one round
//! of a fast hash is enough to store it safely: such a secret cannot be guessed, so a slow hash
//! would add nothing, and it would let callers keep the server busy.

use crate::{
    body::{bearer, cookie},
    problem::{INTERNAL, KEY_MISSING, KEY_REFUSED, Problem, ROLE_REFUSED},
    secret::{random_bytes, read_secret, write_secret},
    warning::Warning,
};
use axum::extract::FromRequestParts;
use contracts::{Actor, SaleId};
use data_encoding::BASE32_NOPAD;
use http::{HeaderMap, request::Parts};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use subtle::ConstantTimeEq;
use units::TimeMs;

/// The cookie of a session.
pub(crate) const SESSION_COOKIE: &str = "floodgate_session";
const NO_KEY: &str = "no API key: send Authorization: Bearer fgk_…; floodgate key new makes one. In a browser, open \
                      the sign-in URL that the server printed at its start";
const VERSION: u32 = 1;
const KEYS_MAX: usize = 1000;
const SESSIONS_MAX: usize = 64;
const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

/// What a key may do. Each role includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads figures and winners.
    ReadOnly,
    /// Runs sales that are set up: opens, pauses, voids, confirms.
    Operator,
    /// Sets sales up.
    Owner,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Operator => "operator",
            Self::Owner => "owner",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known =
            [Self::ReadOnly, Self::Operator, Self::Owner].into_iter().find(|role| role.to_string() == text);
        known.ok_or_else(|| format!("role {text:?}: want owner, operator or read-only"))
    }
}

/// An operator whose role is sufficient for the request.
#[derive(Debug, Clone)]
pub struct Operator {
    name: String,
}

impl Operator {
    /// The operator as the log names them, with the reason that they gave.
    pub fn actor(&self, reason: &str) -> Actor {
        Actor::new(&self.name, reason)
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

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// 1 to 40 of `a-z`, `0-9` and `-`; the log names it as the actor.
    pub name: String,
    pub role: Role,
    pub created_at: TimeMs,
    /// BLAKE3 of the secret, in hexadecimal.
    hash: String,
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
    sessions: VecDeque<([u8; 32], Instant)>,
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
        name.parse::<SaleId>()
            .map_err(|e| invalid(format!("key name {name:?}: {e}").replace("sale id: ", "")))?;
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
            stored.keys.push(ApiKey { name: name.to_owned(), role, created_at: now, hash });
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
    pub fn verify(&self, text: &str) -> Result<Option<(String, Role)>, Unread> {
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
        Ok(key.filter(same).map(|key| (key.name.clone(), key.role)))
    }

    /// Notes that a key was refused. Returns how many were, if it is time to write a line.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.known().refused.due()
    }

    /// The operator who sent the request, if their role is sufficient.
    pub(crate) fn authorize(&self, headers: &HeaderMap, want: Role) -> Result<Operator, Problem> {
        let has_session = || cookie(headers, SESSION_COOKIE).is_some_and(|session| self.is_session(session));
        let known = match bearer(headers) {
            Some(text) => self.verify(text).map_err(|Unread| {
                let why = "the API keys cannot be read now (the server's log says why)";
                Problem::unavailable(why).retry_after(2)
            })?,
            // A session can only read, so it needs no defence against forged requests.
            None if want == Role::ReadOnly && has_session() => Some(("session".to_owned(), want)),
            None => return Err(Problem::new(&KEY_MISSING, NO_KEY)),
        };
        // Made by an earlier build: the log must tell the sale's own actions from an operator's.
        if known.as_ref().is_some_and(|(name, _)| Actor::SYSTEM.contains(&&**name)) {
            let why = "API key: its name is one of the log's own: make another with `floodgate key new`";
            return Err(Problem::new(&KEY_REFUSED, why));
        }
        let (name, role) = known.ok_or_else(|| Problem::new(&KEY_REFUSED, "API key: unknown or revoked"))?;
        if role < want {
            let why = format!("API key {name:?} is {role}: this needs {want}");
            return Err(Problem::new(&ROLE_REFUSED, why));
        }
        Ok(Operator { name })
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

    /// Exchanges a one-time key for a session, which can only read.
    pub fn sign_in(&self, one_time: &str) -> Option<String> {
        let hash = *blake3::hash(one_time.as_bytes()).as_bytes();
        let session = secret().ok()?;
        let mut known = self.known();
        let at = known.one_time.iter().position(|h| h.ct_eq(&hash).into())?;
        known.one_time.remove(at);
        known.sessions.truncate(SESSIONS_MAX - 1);
        known.sessions.push_front((*blake3::hash(session.as_bytes()).as_bytes(), Instant::now()));
        Some(session)
    }

    pub fn is_session(&self, session: &str) -> bool {
        let hash = *blake3::hash(session.as_bytes()).as_bytes();
        let known = self.known();
        known.sessions.iter().any(|(h, since)| bool::from(h.ct_eq(&hash)) && since.elapsed() < SESSION_TTL)
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
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(&self.path).ok()?;
        // A mended mode or owner changes the last of them alone.
        Some((meta.modified().ok()?, meta.ino(), meta.ctime(), meta.ctime_nsec()))
    }

    fn read(&self) -> io::Result<Stored> {
        let bytes = match read_secret(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Stored { version: VERSION, keys: Vec::new() });
            }
            read => read?,
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|e| invalid(format!("{}: {e}", self.path.display())))?;
        if stored.version == VERSION {
            return Ok(stored);
        }
        Err(invalid(format!("{}: version {}, want {VERSION}", self.path.display(), stored.version)))
    }

    /// Reads, changes and writes under a lock that other processes honour too.
    fn change(&self, change: impl FnOnce(&mut Stored) -> io::Result<()>) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            engines::embedded::disk::make_dir_durable(dir)?;
        }
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.with_extension("lock"))?;
        lock.lock()?;
        let mut stored = self.read()?;
        change(&mut stored)?;
        let text = serde_json::to_vec_pretty(&stored).map_err(io::Error::other)?;
        write_secret(&self.path, &text)?;
        let mut known = self.known();
        (known.keys, known.stamp) = (stored.keys, self.stamp());
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_server_refuses_a_revoked_key() {
        let dir = tempfile::tempdir().unwrap();
        let server = ApiKeys::open(dir.path()).unwrap();
        let tool = ApiKeys::open(dir.path()).unwrap();
        let text = tool.create("night-shift", Role::Operator, TimeMs(5)).unwrap();
        assert_eq!(server.verify(&text), Ok(Some(("night-shift".to_owned(), Role::Operator))));
        assert_eq!(server.verify(&text[..text.len() - 1]), Ok(None));
        assert_eq!(server.verify(&text.replace("night", "day")), Ok(None));
        assert!(!fs::read_to_string(dir.path().join("keys/admin.json")).unwrap().contains(&text[16..]));
        assert!(tool.create("night-shift", Role::Owner, TimeMs(5)).is_err());
        assert!(tool.create("Not_good", Role::Owner, TimeMs(5)).is_err());

        assert!(tool.revoke("night-shift").unwrap());
        assert!(!tool.revoke("night-shift").unwrap());
        assert_eq!(server.verify(&text), Ok(None));
        assert!(server.list().unwrap().is_empty());
    }

    #[test]
    fn a_one_time_key_signs_in_once() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ApiKeys::open(dir.path()).unwrap();
        let one_time = keys.mint_one_time().unwrap();
        assert_eq!(keys.sign_in("guess"), None);
        let session = keys.sign_in(&one_time).unwrap();
        assert!(keys.is_session(&session));
        assert!(!keys.is_session(&one_time));
        assert_eq!(keys.sign_in(&one_time), None);
    }
}
