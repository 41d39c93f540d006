//! One commented TOML with every default in it is the manual; the file that an operator writes changes some of it.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use toml::de::{DeTable, DeValue};

const OWN_DEFAULTS: &str = include_str!("config.default.toml");

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory, unless `--data` names another.
    pub(crate) data: PathBuf,
    pub(crate) log: LogConfig,
    #[serde(default)]
    pub(crate) sale: sale::service::Settings,
    #[serde(default)]
    pub(crate) gate: gate::Config,
}

/// What the process writes to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) level: String,
    pub(crate) json: bool,
}

/// The TOML that `floodgate config` prints.
pub(crate) fn default_toml() -> String {
    [OWN_DEFAULTS, sale::service::DEFAULT_TOML, gate::DEFAULT_TOML].join("\n")
}

/// Why a configuration was refused.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Read { path: PathBuf, source: io::Error },
    Unknown { path: PathBuf, line: usize, key: String, nearest: Option<String> },
    Wrong { path: PathBuf, detail: String },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "read configuration {}: {source}", path.display()),
            Self::Unknown { path, line, key, nearest } => {
                write!(f, "{}, line {line}: unknown key `{key}`", path.display())?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => write!(f, "; `floodgate config` prints every key that there is"),
                }
            }
            Self::Wrong { path, detail } => write!(f, "{}: {detail}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The defaults, changed by the file at `path` if one is named.
pub(crate) fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let name = path.unwrap_or(Path::new("built-in defaults")).to_owned();
    let text = match path {
        Some(path) => {
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?
        }
        None => String::new(),
    };
    parse(&name, &text)
}

fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let wrong = |detail: String| ConfigError::Wrong { path: path.to_owned(), detail };
    let defaults = default_toml();
    let known = DeTable::parse(&defaults).map_err(|e| wrong(e.to_string()))?;
    let given = DeTable::parse(text).map_err(|e| wrong(e.to_string()))?;
    check_keys(path, text, "", given.get_ref(), known.get_ref())?;
    // Parsed for itself first, so that a wrong value is reported with its own line.
    let part: toml::Table = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let mut whole: toml::Table = toml::from_str(&defaults).map_err(|e| wrong(e.to_string()))?;
    merge(&mut whole, part);
    let whole_text = toml::to_string(&whole).map_err(|e| wrong(e.to_string()))?;
    toml::from_str(&whole_text).map_err(|e: toml::de::Error| {
        // The merged text's lines are nobody's: name the key's line in the file that was given.
        let at = e
            .span()
            .map(|span| whole_text[..span.start].lines().last().unwrap_or_default().trim().to_owned());
        let key = at.as_deref().and_then(|line| line.split('=').next()).unwrap_or_default().trim();
        let line = text.lines().position(|l| !key.is_empty() && l.trim_start().starts_with(key));
        match line {
            Some(line) => wrong(format!("line {}: `{key}`: {}", line + 1, e.message())),
            None => wrong(e.message().to_owned()),
        }
    })
}

fn check_keys(
    path: &Path,
    text: &str,
    prefix: &str,
    given: &DeTable<'_>,
    known: &DeTable<'_>,
) -> Result<(), ConfigError> {
    for (key, value) in given {
        let name = format!("{prefix}{}", key.get_ref());
        let Some(default) = known.get(key.get_ref().as_ref()) else {
            let line = text[..key.span().start].matches('\n').count() + 1;
            let nearest = known
                .keys()
                .map(|k| (strsim::damerau_levenshtein(k.get_ref(), key.get_ref()), k.get_ref()))
                .filter(|(distance, _)| *distance <= 3)
                .min()
                .map(|(_, k)| format!("{prefix}{k}"));
            return Err(ConfigError::Unknown { path: path.to_owned(), line, key: name, nearest });
        };
        if let (DeValue::Table(given), DeValue::Table(known)) = (value.get_ref(), default.get_ref()) {
            check_keys(path, text, &format!("{name}."), given, known)?;
        }
    }
    Ok(())
}

fn merge(whole: &mut toml::Table, part: toml::Table) {
    for (key, value) in part {
        match (whole.get_mut(&key), value) {
            (Some(toml::Value::Table(whole)), toml::Value::Table(part)) => merge(whole, part),
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(Path::new("floodgate.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_a_configuration() {
        let config = load(None).unwrap();
        assert_eq!(config.gate, gate::Config::default());
        assert_eq!(config.sale, sale::service::Settings::default());
        let again = parse(Path::new("x"), &default_toml()).unwrap();
        assert_eq!(again.gate, config.gate);
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let config = parse(Path::new("x"), "[gate]\ndecision_wait_ms = 5\n").unwrap();
        assert_eq!(config.gate.decision_wait_ms, 5);
        assert_eq!(config.gate.pass_ttl_seconds, gate::Config::default().pass_ttl_seconds);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        assert_eq!(
            refused("[gate]\n\nshop_listn = \"127.0.0.1:1\""),
            "floodgate.toml, line 3: unknown key `gate.shop_listn`; did you mean `gate.shop_listen`?"
        );
        assert_eq!(
            refused("[elsewhere]\nx = 1"),
            "floodgate.toml, line 1: unknown key `elsewhere`; `floodgate config` prints every key that there is"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line() {
        let text = refused("[sale]\nqueue_max = \"many\"\n");
        assert!(
            text.starts_with("floodgate.toml: line 2: `queue_max`: invalid type: string \"many\""),
            "{text}"
        );
        assert!(refused("[sale").contains("line 1"), "{}", refused("[sale"));
    }
}
