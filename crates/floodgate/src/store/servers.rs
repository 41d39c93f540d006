//! Where databases are: in files, or on a server that may have replicas.

use super::NotOpen;
use engines::{
    mariadb,
    sql::{Sql, SqlError},
    sqlite,
};
use serde::{Deserialize, Serialize, Serializer};
use std::{collections::BTreeSet, fmt, fs, io, path::Path};

/// The most replicas of one server: each has eight connections for each database.
const REPLICAS_MAX: usize = 4;

/// Where the databases are: `file:`, or a server's URL, whose user and password are never shown.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct DatabasesUrl(String);

impl Default for DatabasesUrl {
    fn default() -> Self {
        Self(Self::FILES.into())
    }
}

impl DatabasesUrl {
    const FILES: &str = "file:";

    /// What the names of databases on a server begin with; `None` for files.
    pub(super) fn prefix(&self) -> Option<&str> {
        let (_, prefix) = self.0.strip_prefix("mysql://")?.rsplit_once('/')?;
        let is_name = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (is_name && (1..=40).contains(&prefix.len())).then_some(prefix)
    }

    pub(super) fn is_place(&self) -> bool {
        self.0 == Self::FILES || self.prefix().is_some()
    }

    /// The host and the port.
    fn server(&self) -> &str {
        let rest = self.0.strip_prefix("mysql://").unwrap_or_default();
        let rest = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
        rest.split_once('/').map_or(rest, |(server, _)| server)
    }

    /// Opens the database of this name on the server.
    pub(super) fn open(&self, name: &str, replicas: &[ReplicaUrl]) -> Result<Sql, SqlError> {
        let replicas: Vec<&str> = replicas.iter().map(|url| &*url.0.0).collect();
        mariadb::open_or_make(&self.0, name, &replicas)
    }
}

impl fmt::Debug for DatabasesUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rsplit_once('@') {
            Some((_, server)) => write!(f, "mysql://…@{server}"),
            None => f.write_str(&self.0),
        }
    }
}

impl Serialize for DatabasesUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// A server that copies another one with all its databases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ReplicaUrl(DatabasesUrl);

impl ReplicaUrl {
    fn is_place(&self) -> bool {
        let Self(url) = self;
        let server = url.server();
        url.0.starts_with("mysql://") && url.0.ends_with(server) && !server.is_empty()
    }
}

/// Why replicas of the server at `url` cannot be used.
pub(super) fn wrong_replicas(url: &DatabasesUrl, replicas: &[ReplicaUrl]) -> Option<String> {
    if replicas.is_empty() {
        return None;
    }
    if url.prefix().is_none() {
        return Some("replicas are other servers of MariaDB: want none beside \"file:\"".into());
    }
    let servers: BTreeSet<&str> = replicas.iter().map(|ReplicaUrl(of)| of.server()).collect();
    if replicas.len() > REPLICAS_MAX
        || servers.len() != replicas.len()
        || !replicas.iter().all(ReplicaUrl::is_place)
    {
        return Some(format!(
            "want up to {REPLICAS_MAX} servers such as \"mysql://user:password@host:3306\", without a database, each once"
        ));
    }
    servers.contains(url.server()).then(|| {
        format!("{} is the primary, where the databases are: want servers that copy it", url.server())
    })
}

/// Opens a database that is beside the store's others: a file in `dir`, or one of the store's
/// server.
pub(super) fn open_beside(
    url: &DatabasesUrl,
    replicas: &[ReplicaUrl],
    dir: &Path,
    name: &str,
) -> Result<Sql, NotOpen> {
    let Some(prefix) = url.prefix() else {
        return Ok(sqlite::open(&dir.join(format!("{}.db", name.replace('_', "-"))))?);
    };
    url.open(&format!("{prefix}_{name}"), replicas).map_err(|error| NotOpen {
        passes: error.passes(),
        why: match error {
            SqlError::Setup(_) => format!("store.replicas: {error}"),
            error => error.to_string(),
        },
    })
}

/// Only its owner may look into it.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    engines::embedded::disk::make_dir_durable(dir)
}
