//! The section `[store.mail]`: from whom the shop's letters are, and how they leave.

use engines::mail::{
    Mail, Sender,
    files::Files,
    smtp::{Place, Smtp},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The domain of the default sender, which no server of mail takes (RFC 2606).
const NO_DOMAIN: &str = "shop.invalid";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) from: String,
    pub(crate) smtp: String,
    pub(crate) password_file: String,
    pub(crate) roots_file: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from: format!("Floodgate <mail@{NO_DOMAIN}>"),
            smtp: String::new(),
            password_file: String::new(),
            roots_file: String::new(),
        }
    }
}

impl Config {
    /// Why the section cannot be used, with the key.
    pub(crate) fn wrong(&self) -> Option<(&'static str, String)> {
        let say = |key, want: &str| Some((key, want.to_owned()));
        let Some(sender) = Sender::parse(&self.from) else {
            return say("mail.from", "want an address such as \"Shop <mail@shop.example>\"");
        };
        if self.smtp.is_empty() {
            return None;
        }
        let Some(place) = Place::parse(&self.smtp) else {
            let want = "want \"\", \"smtp://user@host:587\" or \"smtps://user@host:465\", the password in mail.password_file";
            return say("mail.smtp", want);
        };
        if sender.domain() == NO_DOMAIN {
            return say(
                "mail.from",
                "mail.smtp needs an address of your own here, such as \"Shop <mail@shop.example>\"",
            );
        }
        if place.has_user() == self.password_file.is_empty() {
            return say(
                "mail.password_file",
                "want a file with the password of the user in mail.smtp, or neither",
            );
        }
        None
    }

    /// What takes the letters. It reads files.
    pub(crate) fn open(&self, dir: &Path) -> io::Result<Arc<dyn Mail>> {
        let unusable = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("store.mail: {why}"));
        let sender = Sender::parse(&self.from).ok_or_else(|| unusable("from is no address"))?;
        if self.smtp.is_empty() {
            let path = dir.join("mail");
            tracing::info!(dir = %path.display(), "letters are written as files");
            return Ok(Arc::new(Files::open(&path, sender)?));
        }
        let place = Place::parse(&self.smtp).ok_or_else(|| unusable("smtp cannot be read"))?;
        let password = match &*self.password_file {
            "" => String::new(),
            path => {
                let bytes = web::secret::read_secret(Path::new(path))?;
                let text = String::from_utf8(bytes).map_err(|_| unusable("the password is no text"))?;
                text.strip_suffix('\n').unwrap_or(&text).to_owned()
            }
        };
        let roots = match &*self.roots_file {
            "" => None,
            path => Some(read(path)?),
        };
        let smtp = Smtp::new(sender, place, &password, roots.as_deref()).map_err(|why| unusable(&why))?;
        Ok(Arc::new(smtp))
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    fs::read(PathBuf::from(path)).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}
