//! One commented TOML with every default is the manual; the file that an operator writes changes
//! some of them. Names and values are checked here, before anything is opened, for every command.

mod names;

use crate::logs::{self, LogsConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};
use toml::de::{DeTable, DeValue};

const OWN_DEFAULTS: &str = include_str!("config.default.toml");

/// The names of log levels.
const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The whole configuration.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The data directory, unless `--data` names another.
    pub(crate) data: PathBuf,
    pub(crate) log: LogConfig,
    pub(crate) logs: LogsConfig,
    #[serde(default)]
    pub(crate) sale: sale::service::Settings,
    #[serde(default)]
    pub(crate) gate: gate::Config,
    #[serde(default)]
    pub(crate) notify: notify::config::Config,
    #[serde(default)]
    pub(crate) brand: web::brand::Config,
    #[serde(default)]
    pub(crate) store: crate::store::Config,
    /// The file names a data directory, whose contents must be kept.
    #[serde(skip)]
    pub(crate) names_data: bool,
}

/// What the process writes to standard error.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) level: String,
    pub(crate) json: bool,
}

/// The TOML that `floodgate config` prints.
pub(crate) fn default_toml() -> String {
    [
        OWN_DEFAULTS,
        sale::service::DEFAULT_TOML,
        gate::DEFAULT_TOML,
        notify::config::DEFAULT_TOML,
        web::brand::DEFAULT_TOML,
        crate::store::DEFAULT_TOML,
    ]
    .join("\n")
}

/// Why a configuration was refused.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    /// `hint` suggests the key that may be meant.
    Unknown {
        path: PathBuf,
        line: usize,
        key: String,
        hint: String,
    },
    /// `want` names the allowed values.
    Value {
        path: PathBuf,
        line: usize,
        key: String,
        value: String,
        want: String,
    },
    /// Not TOML.
    Wrong {
        path: PathBuf,
        detail: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "read configuration {}: {source}", path.display()),
            Self::Unknown { path, line, key, hint } => {
                write!(f, "{}, line {line}: unknown key `{key}`; {hint}", path.display())
            }
            Self::Value { path, line, key, value, want } => {
                write!(f, "{}, line {line}: `{key}` = {value}: {want}", path.display())
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

/// A key to which the file gives a value.
#[derive(Debug)]
struct Given {
    key: String,
    line: usize,
    value: toml::Value,
}

impl Given {
    fn wrong(&self, path: &Path, want: String) -> ConfigError {
        // It may have a password in it.
        let is_secret =
            ["logs.url", "store.databases", "store.orders", "store.mail.smtp", "store.cache.redis"]
                .contains(&&*self.key);
        let value = if is_secret { "\"…\"".into() } else { self.value.to_string() };
        let key = self.key.clone();
        ConfigError::Value { path: path.to_owned(), line: self.line, key, value, want }
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let wrong = |detail: String| ConfigError::Wrong { path: path.to_owned(), detail };
    let known_text = default_toml();
    let known = DeTable::parse(&known_text).map_err(|e| wrong(e.to_string()))?;
    let tree = DeTable::parse(text).map_err(|e| wrong(e.to_string()))?;
    names::check(path, text, tree.get_ref(), known.get_ref())?;
    let mut whole: toml::Table = toml::from_str(&known_text).map_err(|e| wrong(e.to_string()))?;
    let part: toml::Table = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let mut given = Vec::new();
    collect(text, "", tree.get_ref(), &whole, &part, &mut given);
    // One key at a time on top of the valid ones so far, so that the wrong key is known.
    for one in &given {
        check_value(path, one, &mut whole)?;
    }
    let mut config: Config = whole.try_into().map_err(|e: toml::de::Error| wrong(e.message().to_owned()))?;
    config.names_data = part.contains_key("data");
    if let Some((key, want)) = wrong_together(&config) {
        let one = given.iter().rfind(|one| one.key == key);
        return Err(match one {
            Some(one) => one.wrong(path, want),
            None => wrong(format!("`{key}`: {want}")),
        });
    }
    Ok(config)
}

/// The keys of a file, without sections, in its order.
fn collect(
    text: &str,
    prefix: &str,
    tree: &DeTable<'_>,
    known: &toml::Table,
    part: &toml::Table,
    given: &mut Vec<Given>,
) {
    for (name, value) in tree {
        let key = format!("{prefix}{}", name.get_ref());
        let (Some(default), Some(own)) =
            (known.get(name.get_ref().as_ref()), part.get(name.get_ref().as_ref()))
        else {
            continue;
        };
        match (value.get_ref(), default, own) {
            (DeValue::Table(tree), toml::Value::Table(known), toml::Value::Table(part)) => {
                collect(text, &format!("{key}."), tree, known, part, given);
            }
            _ => given.push(Given { key, line: line_of(text, name.span().start), value: own.clone() }),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The smallest and largest value of each key that is a number.
fn range_of(key: &str) -> Option<(i64, i64)> {
    let find = |ranges: &[(&str, i64, i64)], key: &str| {
        ranges.iter().find(|(name, ..)| *name == key).map(|&(_, min, max)| (min, max))
    };
    key.strip_prefix("sale.")
        .and_then(|key| find(sale::service::RANGES, key))
        .or_else(|| key.strip_prefix("gate.").and_then(|key| find(gate::config::RANGES, key)))
        .or_else(|| key.strip_prefix("notify.").and_then(|key| find(notify::config::RANGES, key)))
        .or_else(|| key.strip_prefix("brand.").and_then(|key| find(web::brand::RANGES, key)))
        .or_else(|| key.strip_prefix("store.").and_then(|key| find(crate::store::RANGES, key)))
        .or_else(|| key.strip_prefix("logs.").and_then(|key| find(logs::RANGES, key)))
}

/// Replaces the default by the value, if it is valid.
fn check_value(path: &Path, one: &Given, whole: &mut toml::Table) -> Result<(), ConfigError> {
    let Some(default) = place(whole, &one.key).cloned() else { return Ok(()) };
    if !default.same_type(&one.value) {
        let kind = match &default {
            toml::Value::String(_) => "a text in quotes",
            toml::Value::Integer(_) => "a whole number",
            toml::Value::Boolean(_) => "true or false",
            toml::Value::Array(_) => "a list in brackets",
            _ => "a section with keys of its own",
        };
        let such =
            if default.is_table() { String::new() } else { format!(", such as {default} (the default)") };
        return Err(one.wrong(path, format!("want {kind}{such}")));
    }
    if let (toml::Value::Integer(value), Some((min, max))) = (&one.value, range_of(&one.key))
        && !(min..=max).contains(value)
    {
        return Err(one.wrong(path, format!("want {min} to {max}; {default} is the default")));
    }
    if let Some(slot) = place(whole, &one.key) {
        *slot = one.value.clone();
    }
    match whole.clone().try_into::<Config>() {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(one
                .wrong(path, format!("{}; want such as {default} (the default)", error.message().trim_end())))
        }
    }
}

fn place<'a>(table: &'a mut toml::Table, key: &str) -> Option<&'a mut toml::Value> {
    match key.split_once('.') {
        Some((section, rest)) => place(table.get_mut(section)?.as_table_mut()?, rest),
        None => table.get_mut(key),
    }
}

/// A value that is wrong although its type is right, or together with other values: its key, and
/// the allowed values.
fn wrong_together(config: &Config) -> Option<(String, String)> {
    if !LOG_LEVELS.contains(&config.log.level.as_str()) {
        return Some(("log.level".into(), format!("want {}", LOG_LEVELS.join(", "))));
    }
    if config.data.as_os_str().is_empty() {
        return Some(("data".into(), "want the path of a directory".into()));
    }
    if let Some((key, want)) = config.logs.wrong() {
        return Some((format!("logs.{key}"), want));
    }
    let of_gate = config.gate.wrong().map(|(key, want)| (format!("gate.{key}"), want.into()));
    let of_notify = || config.notify.wrong().map(|(key, want)| (format!("notify.{key}"), want.into()));
    let has_messages = !config.notify.listen.is_empty();
    let of_brand = || config.brand.wrong().map(|(key, want)| (format!("brand.{key}"), want));
    let of_store = || config.store.wrong(has_messages).map(|(key, want)| (format!("store.{key}"), want));
    of_gate.or_else(of_notify).or_else(of_brand).or_else(of_store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(Path::new("floodgate.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_default_file_is_the_default_configuration() {
        let config = load(None).unwrap();
        assert_eq!(config.gate, gate::Config::default());
        assert_eq!(config.sale, sale::service::Settings::default());
        assert_eq!(config.notify, notify::config::Config::default());
        let again = parse(Path::new("x"), &default_toml()).unwrap();
        assert_eq!(again.gate, config.gate);
        assert!(again.names_data && !config.names_data);
    }

    #[test]
    fn a_configuration_file_changes_only_the_keys_that_it_names() {
        let config = parse(Path::new("x"), "[gate]\ndecision_wait_ms = 5\n").unwrap();
        assert_eq!(config.gate.decision_wait_ms, 5);
        assert_eq!(config.gate.pass_ttl_seconds, gate::Config::default().pass_ttl_seconds);
    }

    /// Every number has its bounds: one below and one above is refused, with its line, its key and
    /// the allowed values.
    #[test]
    fn a_number_out_of_its_bounds_is_refused() {
        fn walk(prefix: &str, table: &toml::Table, check: &mut impl FnMut(&str, i64)) {
            for (name, value) in table {
                match value {
                    toml::Value::Table(table) => walk(&format!("{prefix}{name}."), table, check),
                    toml::Value::Integer(default) => check(&format!("{prefix}{name}"), *default),
                    _ => {}
                }
            }
        }
        let mut count = 0;
        walk("", &toml::from_str(&default_toml()).unwrap(), &mut |key, default| {
            count += 1;
            let (min, max) = range_of(key).unwrap_or_else(|| panic!("{key} has no bounds"));
            assert!((min..=max).contains(&default), "{key}");
            for bad in [min - 1, max + 1] {
                let want = format!(
                    "floodgate.toml, line 2: `{key}` = {bad}: want {min} to {max}; {default} is the default"
                );
                assert_eq!(refused(&format!("# first line\n{key} = {bad}")), want);
            }
            for good in [min, max] {
                parse(Path::new("x"), &format!("{key} = {good}")).unwrap_or_else(|e| panic!("{e}"));
            }
        });
        assert_eq!(
            count,
            sale::service::RANGES.len()
                + gate::config::RANGES.len()
                + notify::config::RANGES.len()
                + web::brand::RANGES.len()
                + crate::store::RANGES.len()
                + logs::RANGES.len(),
            "bounds of what is no key"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line_and_the_allowed_values() {
        let check = |text: &str, want: &str| {
            let said = refused(text);
            assert!(said.starts_with("floodgate.toml") && said.contains(want), "{text:?}: {said}");
        };
        check(
            "[sale]\nqueue_max = \"many\"\n",
            "line 2: `sale.queue_max` = \"many\": want a whole number, such as 65536 (the default)",
        );
        check(
            "[log]\nlevel = \"loud\"",
            "line 2: `log.level` = \"loud\": want error, warn, info, debug, trace",
        );
        check("[log]\njson = 1", "line 2: `log.json` = 1: want true or false");
        check("[sale]\n\nqueue_max = 0", "line 3: `sale.queue_max` = 0: want 1 to ");
        check("gate = 3", "line 1: `gate` = 3: want a section");
        check("data = \"\"", "line 1: `data` = \"\": want the path of a directory");
        check(
            "[gate.jwt]\nalgorithms = []",
            "line 2: `gate.jwt.algorithms` = []: want at least one of HS256",
        );
        check(
            "[gate.jwt]\nalgorithms = [\"none\"]",
            "line 2: `gate.jwt.algorithms` = [\"none\"]: unknown variant",
        );
        check("[gate.jwt]\nissuer = \"\"", "line 2: `gate.jwt.issuer`");
        check("[gate.jwt]\nkey_file = \"a\"\njwks_url = \"https://x\"", "line 3: `gate.jwt.jwks_url`");
        check("[gate.jwt]\njwks_url = \"http://shop.example\"", "line 2: `gate.jwt.jwks_url`");
        check("[brand]\naccent = \"orange\"", "line 2: `brand.accent` = \"orange\": want a colour such as");
        check("[gate]\nshop_listen = \"nowhere\"", "line 2: `gate.shop_listen` = \"nowhere\"");
        check("[gate]\npublic_origin = \"sale.example\"", "line 2: `gate.public_origin`");
        // Dotted, after a key with the same beginning: the line is that of the wrong key.
        check(
            "gate.limits.address_burst = 3\n# shopper_burst\ngate.limits.shopper_burst = 0",
            "line 3: `gate.limits.shopper_burst` = 0",
        );
        assert!(refused("[sale").contains("line 1"), "{}", refused("[sale"));
    }
}
