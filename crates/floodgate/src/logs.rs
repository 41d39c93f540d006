//! Where logs are kept: in files of the data directory, or on NATS. A log on NATS leaves a note in
//! the directory where its files would be, so that no log is ever looked for in the wrong place.
//!
//! Knows places, and nothing of what a log says.

use data_encoding::HEXLOWER;
use engines::embedded::disk::{RealDisk, make_dir_durable};
use engines::embedded::{self, Checks, EmbeddedLog, ReadOnlyLog};
use engines::log::{Log, LogError, LogId, LogRead, Partition, Visit};
use engines::nats::{self, Connection, NatsLog, NatsReader, Place};
use serde::{Deserialize, Serialize, Serializer};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs};
use units::Sequence;

/// The smallest and largest value of each number.
pub(crate) const RANGES: &[(&str, i64, i64)] = &[("replicas", 1, 5)];

/// The note of a log that is on NATS.
const NOTE: &str = "nats.json";
/// Logs in files, in `logs.url`.
const FILES: &str = "file:";

/// The section `[logs]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsConfig {
    pub(crate) url: Url,
    pub(crate) replicas: usize,
    pub(crate) prefix: String,
    pub(crate) credentials_file: PathBuf,
    pub(crate) roots_file: PathBuf,
}

/// A URL, with a password in it that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Url(String);

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Place::parse(&self.0) {
            Ok(place) => place.fmt(f),
            Err(_) if self.0 == FILES => f.write_str(FILES),
            Err(_) => f.write_str("a URL that is wrong"),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl LogsConfig {
    /// The first key whose value is wrong, and what is wanted.
    pub(crate) fn wrong(&self) -> Option<(&'static str, String)> {
        if self.url.0 != FILES
            && let Err(error) = Place::parse(&self.url.0)
        {
            return Some(("url", format!("want \"{FILES}\" or the servers of NATS: {error}")));
        }
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if self.prefix.is_empty() || self.prefix.len() > 32 || !is_name(&self.prefix) {
            return Some(("prefix", "want letters, digits and hyphens, at most 32".into()));
        }
        None
    }
}

/// Opens logs where the configuration says that they are.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    /// None for files.
    nats: Option<Arc<Nats>>,
}

#[derive(Debug)]
struct Nats {
    place: Place,
    replicas: usize,
    prefix: String,
    /// Made when the first log is opened.
    connection: Mutex<Option<Arc<Connection>>>,
}

/// A log that is open for writing.
pub(crate) struct OpenLog {
    pub(crate) log: Box<dyn Log>,
    pub(crate) log_id: LogId,
}

impl fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLog").field("log_id", &self.log_id).finish_non_exhaustive()
    }
}

/// A log that is open for reading, whether a server writes to it or not.
#[derive(Debug)]
pub(crate) enum KeptLog {
    Files(Box<ReadOnlyLog<RealDisk>>),
    Nats(Box<NatsReader>, LogId),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    stream: String,
    log_id: String,
}

/// What is in a log's directory.
enum Found {
    Nothing,
    Files,
    Nats(Note),
}

/// A new log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewLog<'a> {
    /// What it is of: the sale's name, or `notify`.
    pub(crate) of: &'a str,
    pub(crate) log_id: LogId,
    /// Its first entry: that of a copy may be later than 1.
    pub(crate) first: Sequence,
}

fn failed(doing: String) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { doing, source }
}

impl Logs {
    pub(crate) fn new(config: &LogsConfig) -> Self {
        let Ok(mut place) = Place::parse(&config.url.0) else { return Self::in_files() };
        let given = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        place.credentials_file = given(&config.credentials_file);
        place.root_certificates = given(&config.roots_file);
        let (replicas, prefix) = (config.replicas, config.prefix.clone());
        Self { nats: Some(Arc::new(Nats { place, replicas, prefix, connection: Mutex::default() })) }
    }

    /// Of a backup: it needs no server.
    pub(crate) fn in_files() -> Self {
        Self { nats: None }
    }

    pub(crate) fn are_in_files(&self) -> bool {
        self.nats.is_none()
    }

    /// Opens the log of this directory; makes it if none was made before.
    pub(crate) fn open(
        &self,
        dir: &Path,
        of: &str,
        is_made: bool,
        checks: Checks,
    ) -> Result<OpenLog, LogError> {
        match (found(dir)?, &self.nats) {
            (Found::Nothing, _) if is_made => Err(gone(dir)),
            (Found::Nothing, _) => {
                self.make(dir, &NewLog { of, log_id: new_log_id()?, first: Sequence(1) }, checks)
            }
            (Found::Files, None) => open_files(
                dir,
                embedded::Options { checks, ..embedded::Options::new(Partition(0), new_log_id()?) },
            ),
            (Found::Nats(note), Some(nats)) => nats.open(dir, of, &note, is_made),
            (Found::Files, Some(nats)) => Err(elsewhere(dir, FILES, &nats.place.to_string())),
            (Found::Nats(_), None) => Err(elsewhere(dir, "nats://…", FILES)),
        }
    }

    /// Makes a log in this directory, where there is none.
    pub(crate) fn make(&self, dir: &Path, new: &NewLog<'_>, checks: Checks) -> Result<OpenLog, LogError> {
        let Some(nats) = &self.nats else {
            let options = embedded::Options::new(Partition(0), new.log_id);
            return open_files(dir, embedded::Options { checks, first: new.first, ..options });
        };
        let note = Note {
            stream: stream_name(&nats.prefix, new.of, new.log_id),
            log_id: HEXLOWER.encode(&new.log_id.0),
        };
        // Before the stream: one without a note would stay for good.
        note_durably(dir, &note).map_err(failed(format!("note in {}", dir.display())))?;
        let log = NatsLog::make(&nats.connection()?, nats.options(new.of, &note, new.log_id, new.first))?;
        Ok(OpenLog { log: Box::new(log), log_id: new.log_id })
    }

    /// Opens the log of this directory to read it.
    pub(crate) fn read(&self, dir: &Path) -> Result<KeptLog, LogError> {
        let Found::Nats(note) = found(dir)? else {
            return Ok(KeptLog::Files(Box::new(embedded::open_read_only(dir)?)));
        };
        let Some(nats) = &self.nats else { return Err(elsewhere(dir, "nats://…", FILES)) };
        let log_id = note.log_id(dir)?;
        let reader = nats::open_read_only(&nats.connection()?, &note.stream, log_id, Partition(0))?;
        Ok(KeptLog::Nats(Box::new(reader), log_id))
    }

    /// Removes what the log of this directory has outside of it.
    pub(crate) fn remove_outside(&self, dir: &Path) -> Result<(), LogError> {
        match (found(dir)?, &self.nats) {
            (Found::Nats(note), Some(nats)) => nats::remove(&nats.connection()?, &note.stream),
            (Found::Nats(_), None) => Err(elsewhere(dir, "nats://…", FILES)),
            (Found::Nothing | Found::Files, _) => Ok(()),
        }
    }
}

impl Nats {
    fn connection(&self) -> Result<Arc<Connection>, LogError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = &*connection {
            return Ok(Arc::clone(there));
        }
        let made = Connection::open(&self.place)?;
        *connection = Some(Arc::clone(&made));
        Ok(made)
    }

    fn options(&self, of: &str, note: &Note, log_id: LogId, first: Sequence) -> nats::Options {
        nats::Options {
            stream: note.stream.clone(),
            log_id,
            partition: Partition(0),
            replicas: self.replicas,
            description: format!("floodgate: the log of {of}"),
            first,
        }
    }

    fn open(&self, dir: &Path, of: &str, note: &Note, is_made: bool) -> Result<OpenLog, LogError> {
        let log_id = note.log_id(dir)?;
        let options = self.options(of, note, log_id, Sequence(1));
        let open = if is_made { NatsLog::open } else { NatsLog::make };
        let log = open(&self.connection()?, options)?;
        if let Some(torn) = log.torn() {
            tracing::warn!(
                stream = %torn.stream, messages = torn.messages,
                "a batch at the log's end was cut off: nobody was told of what was in it"
            );
        }
        Ok(OpenLog { log: Box::new(log), log_id })
    }
}

impl Note {
    fn log_id(&self, dir: &Path) -> Result<LogId, LogError> {
        let id = HEXLOWER.decode(self.log_id.as_bytes()).ok().and_then(|id| id.try_into().ok());
        id.map(LogId).ok_or_else(|| wrong_note(dir, "log_id is no log's".into()))
    }
}

fn wrong_note(dir: &Path, why: String) -> LogError {
    LogError::Foreign { file: dir.join(NOTE).display().to_string(), why }
}

fn gone(dir: &Path) -> LogError {
    let why = "the log that was here is gone".into();
    LogError::Damaged { file: dir.display().to_string(), offset: 0, why }
}

fn elsewhere(dir: &Path, kept: &str, configured: &str) -> LogError {
    let doing = format!("open the log in {}", dir.display());
    let why = format!(
        "it is kept on {kept}, and logs.url of the configuration is {configured}: set it back; to move logs, \
         make a backup, and restore it into a new data directory with the other logs.url"
    );
    LogError::Io { doing, source: io::Error::other(why) }
}

/// A log's id: random, so that no two logs have the same.
pub(crate) fn new_log_id() -> Result<LogId, LogError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| failed("draw a log id".into())(io::Error::other(error.to_string())))?;
    Ok(LogId(id))
}

/// Whether a log was begun in this directory.
pub(crate) fn has_log(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name == NOTE || name.to_string_lossy().starts_with("seg-") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn found(dir: &Path) -> Result<Found, LogError> {
    let reading = || failed(format!("read {}", dir.display()));
    match fs::read(dir.join(NOTE)) {
        Ok(bytes) => {
            let note = serde_json::from_slice(&bytes);
            return note.map(Found::Nats).map_err(|error| wrong_note(dir, error.to_string()));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(reading()(error)),
        Err(_) => {}
    }
    Ok(if has_log(dir).map_err(reading())? { Found::Files } else { Found::Nothing })
}

fn open_files(dir: &Path, options: embedded::Options) -> Result<OpenLog, LogError> {
    let log = EmbeddedLog::open_dir(dir, options)?;
    if let Some(torn) = &log.report().torn {
        tracing::warn!(
            file = %torn.file, offset = torn.offset, bytes = torn.bytes,
            "a torn append at the log's end was cut: nobody was told of what was in it"
        );
    }
    let log_id = log.report().log_id;
    Ok(OpenLog { log: Box::new(log), log_id })
}

/// For people who list streams; the id makes it the only one of its name.
fn stream_name(prefix: &str, of: &str, log_id: LogId) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let of: String = of.chars().map(plain).take(64).collect();
    format!("{prefix}-{of}-{}", HEXLOWER.encode(&log_id.0[..8]))
}

/// Whole under its name, or not there at all, and nothing else is left.
fn note_durably(dir: &Path, note: &Note) -> io::Result<()> {
    make_dir_durable(dir)?;
    // Opened first, so that nothing is written when no more files can be opened.
    let names = fs::File::open(dir)?;
    let (unfinished, path) = (dir.join(format!("{NOTE}.tmp")), dir.join(NOTE));
    let write = || {
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        names.sync_all().inspect_err(|_| drop(fs::remove_file(&path)))
    };
    write().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

impl KeptLog {
    pub(crate) fn log_id(&self) -> LogId {
        match self {
            Self::Files(log) => log.report().log_id,
            Self::Nats(_, log_id) => *log_id,
        }
    }

    pub(crate) fn latest_snapshot(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        match self {
            Self::Files(log) => log.latest_snapshot(),
            Self::Nats(log, _) => log.latest_snapshot(),
        }
    }

    /// Bytes of a torn append at the end, which was never acknowledged.
    pub(crate) fn torn_bytes(&self) -> u64 {
        match self {
            Self::Files(log) => log.report().torn.as_ref().map_or(0, |torn| torn.bytes),
            Self::Nats(..) => 0,
        }
    }

    pub(crate) fn is_in_files(&self) -> bool {
        matches!(self, Self::Files(_))
    }
}

impl LogRead for KeptLog {
    fn last(&self) -> Sequence {
        match self {
            Self::Files(log) => log.last(),
            Self::Nats(log, _) => log.last(),
        }
    }

    fn first(&self) -> Sequence {
        match self {
            Self::Files(log) => log.first(),
            Self::Nats(log, _) => log.first(),
        }
    }

    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        match self {
            Self::Files(log) => log.read(from, visit),
            Self::Nats(log, _) => log.read(from, visit),
        }
    }
}
