//! The section `[store.cache]`: what of the catalogue is kept in memory, and in a Redis that
//! several processes share.

use catalog::cached::Settings;
use engines::cache::redis::Redis;
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, sync::Arc, time::Duration};
use web::metrics::{Metric, Registry};

/// What is kept in Redis begins with it, and with the version of its form.
const PREFIX: &str = "floodgate:catalog:1";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) bytes_max: u64,
    pub(crate) kept_seconds: u64,
    pub(crate) redis: RedisUrl,
}

/// A server's URL, whose user and password are never shown.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct RedisUrl(String);

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rsplit_once('@') {
            Some((_, server)) => write!(f, "redis://…@{server}"),
            None => f.write_str(&self.0),
        }
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, kept_seconds: 60, redis: RedisUrl(String::new()) }
    }
}

impl Config {
    /// Why the section cannot be used, with the key.
    pub(crate) fn wrong(&self) -> Option<(&'static str, String)> {
        let url = &self.redis.0;
        let is_url = ["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme));
        // What stands after # would say that a certificate is not checked.
        let is_usable = is_url && !url.contains('#') && Redis::new(url, PREFIX).is_ok();
        let want =
            "want \"\", or a server such as \"redis://user:password@host:6379/0\", \"rediss://\" with TLS";
        (!url.is_empty() && !is_usable).then(|| ("cache.redis", want.to_owned()))
    }

    /// What the catalogue keeps; none if it keeps nothing.
    pub(crate) fn settings(&self) -> Option<Settings> {
        let shared = match &*self.redis.0 {
            "" => None,
            url => Some(Arc::new(Redis::new(url, PREFIX).ok()?) as _),
        };
        let kept_for = Duration::from_secs(self.kept_seconds);
        let bytes_max = self.bytes_max;
        (bytes_max > 0 || shared.is_some()).then_some(Settings { bytes_max, kept_for, shared })
    }
}

/// What the cache did, for monitoring.
pub(super) fn metrics(catalog: &catalog::service::Service, into: &mut Registry) {
    let Some(figures) = catalog.cache_figures() else { return };
    let name = |name: &str| format!("floodgate_store_cache_{name}");
    let counter = |of, help| Metric::counter(format!("floodgate_store_cache_{of}_total"), help);
    into.value(counter("hits", "Reads of the catalogue that the process' cache answered"), figures.hits);
    into.value(counter("shared_hits", "Reads of the catalogue that Redis answered"), figures.shared_hits);
    into.value(counter("loads", "Reads of the catalogue that its database answered"), figures.loads);
    into.value(counter("early_loads", "Values that were loaded before their time"), figures.early_loads);
    into.value(counter("joined", "Reads that waited for another one's load"), figures.joined);
    into.value(
        counter("forgotten", "Groups of values that were forgotten after a change"),
        figures.forgotten,
    );
    into.value(counter("shared_failures", "What Redis did not answer"), figures.shared_failures);
    into.value(Metric::gauge(name("bytes"), "Memory of the process' cache"), figures.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(redis: &str) -> Config {
        Config { redis: RedisUrl(redis.into()), ..Config::default() }
    }

    #[test]
    fn a_redis_is_named_by_a_url_and_its_password_is_not_shown() {
        for url in ["redis://127.0.0.1:6379/", "rediss://shop:secret@cache.example:6380/2"] {
            assert_eq!(with(url).wrong(), None, "{url}");
            assert!(with(url).settings().unwrap().shared.is_some());
        }
        for url in [
            "127.0.0.1:6379",
            "http://cache.example",
            "shop:secret@cache.example",
            "redis://shop:secret@cache.example:x",
            "rediss://shop:secret@cache.example/#insecure",
        ] {
            let (key, want) = with(url).wrong().unwrap();
            assert!(key == "cache.redis" && !want.contains("secret"), "{url}: {want}");
        }
        for url in ["rediss://shop:secret@cache.example:6380/2", "shop:secret@cache.example"] {
            let shown = format!("{:?} {}", with(url), toml::to_string(&with(url)).unwrap());
            assert!(!shown.contains("secret") && shown.contains("cache.example"), "{shown}");
        }
    }

    #[test]
    fn without_memory_and_without_redis_nothing_is_kept() {
        assert!(Config { bytes_max: 0, ..Config::default() }.settings().is_none());
        assert!(Config { bytes_max: 0, ..with("redis://127.0.0.1/") }.settings().is_some());
        assert_eq!(Config::default().settings().unwrap().kept_for, Duration::from_secs(60));
    }
}
