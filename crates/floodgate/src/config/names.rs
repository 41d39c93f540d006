//! Refuses an unknown key, and suggests the one that may be meant. Knows names and their sections,
//! no values.

use super::{ConfigError, line_of};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The largest edit distance between a misspelt name and the right one.
const DISTANCE_MAX: usize = 3;

/// Refuses the first unknown key.
pub(super) fn check(
    path: &Path,
    text: &str,
    given: &DeTable<'_>,
    known: &DeTable<'_>,
) -> Result<(), ConfigError> {
    let mut all = Vec::new();
    every_name("", known, &mut all);
    check_section(path, text, "", given, known, &all)
}

fn every_name(prefix: &str, known: &DeTable<'_>, all: &mut Vec<String>) {
    for (key, value) in known {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(section) = value.get_ref() {
            every_name(&format!("{name}."), section, all);
        }
        all.push(name);
    }
}

fn check_section(
    path: &Path,
    text: &str,
    prefix: &str,
    given: &DeTable<'_>,
    known: &DeTable<'_>,
    all: &[String],
) -> Result<(), ConfigError> {
    for (key, value) in given {
        let name = format!("{prefix}{}", key.get_ref());
        let Some(default) = known.get(key.get_ref().as_ref()) else {
            let line = line_of(text, key.span().start);
            let hint = hint(prefix, key.get_ref(), all);
            return Err(ConfigError::Unknown { path: path.to_owned(), line, key: name, hint });
        };
        if let (DeValue::Table(given), DeValue::Table(known)) = (value.get_ref(), default.get_ref()) {
            check_section(path, text, &format!("{name}."), given, known, all)?;
        }
    }
    Ok(())
}

/// The section and the last part of a name.
fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// The key that may be meant: first one of the same section with a similar spelling or the same
/// beginning; then the same, or a similar, name in another section.
fn hint(prefix: &str, key: &str, all: &[String]) -> String {
    let section = prefix.trim_end_matches('.');
    let here = || all.iter().filter(|name| parts(name).0 == section);
    let elsewhere = || all.iter().filter(|name| parts(name).0 != section);
    let distance = |name: &str| strsim::damerau_levenshtein(parts(name).1, key);
    // Half of a short name is another name.
    let far = DISTANCE_MAX.min(key.chars().count() / 2);
    let nearest = |names: &mut dyn Iterator<Item = &String>| {
        names
            .map(|name| (distance(name), name.clone()))
            .filter(|(d, _)| *d <= far)
            .min()
            .map(|(_, name)| name)
    };
    let begun = || {
        let begins = |name: &&String| key.len() >= 3 && parts(name).1.starts_with(key);
        here().filter(begins).min_by_key(|name| name.len()).cloned()
    };
    if let Some(name) = elsewhere().find(|name| parts(name).1 == key) {
        let (section, _) = parts(name);
        let place =
            if section.is_empty() { "the top, before any section".into() } else { format!("[{section}]") };
        return format!("it belongs to {place}: `{name}`");
    }
    match nearest(&mut here()).or_else(begun).or_else(|| nearest(&mut elsewhere())) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`floodgate config` prints every key that there is".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_toml;

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let known = default_toml();
        let known = DeTable::parse(&known).unwrap();
        let refused = |text: &str, want: &str| {
            let given = DeTable::parse(text).unwrap();
            let said = check(Path::new("f.toml"), text, given.get_ref(), known.get_ref());
            assert_eq!(said.unwrap_err().to_string(), format!("f.toml, {want}"), "{text:?}");
        };
        refused(
            "[gate]\n\nshop_listn = \"127.0.0.1:1\"",
            "line 3: unknown key `gate.shop_listn`; did you mean `gate.shop_listen`?",
        );
        refused(
            "[gate]\npass_ttl = 3",
            "line 2: unknown key `gate.pass_ttl`; did you mean `gate.pass_ttl_seconds`?",
        );
        refused("queue_max = 3", "line 1: unknown key `queue_max`; it belongs to [sale]: `sale.queue_max`");
        refused("[gate]\nlevel = 3", "line 2: unknown key `gate.level`; it belongs to [log]: `log.level`");
        refused("[limits]\nx = 1", "line 1: unknown key `limits`; it belongs to [gate]: `gate.limits`");
        refused(
            "[log]\ndata = \"x\"",
            "line 2: unknown key `log.data`; it belongs to the top, before any section: `data`",
        );
        refused("[gate]\nissuer_ = 3", "line 2: unknown key `gate.issuer_`; did you mean `gate.jwt.issuer`?");
        refused(
            "[elsewhere]\nx = 1",
            "line 1: unknown key `elsewhere`; `floodgate config` prints every key that there is",
        );
    }
}
