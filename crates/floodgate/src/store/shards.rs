//! Where the databases of orders are: beside the store's others, or where `store.orders` says.

use super::{
    NotOpen,
    servers::{DatabasesUrl, ReplicaUrl, make_dir, open_beside, wrong_replicas},
};
use engines::{
    chance::SystemChance,
    clock::Clock,
    sql::{Sql, SqlError},
    sqlite,
};
use order::{
    directory::HOME,
    list::List,
    shards::{SHARDS_MAX, Shards},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::Path};

/// Databases of orders, if the configuration names none.
const BY_DEFAULT: usize = 4;
/// The database of their list.
pub(super) const ORDER_LIST: &str = "order_list";
/// What the name of each begins with, so that it is not another database's of the store.
const BEGINS_WITH: &str = "orders_";

/// One of `store.orders`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    name: String,
    /// None: where `store.databases` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<DatabasesUrl>,
    /// Of its own url. Without one they are `store.replicas`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<ReplicaUrl>,
}

/// How many databases there are, with each of their replicas. `replicas` has the store's server.
pub(super) fn count(orders: &[Config], replicas: usize) -> usize {
    let of = |of: &Config| 1 + if of.url.is_some() { of.replicas.len() } else { replicas };
    if orders.is_empty() { BY_DEFAULT * (1 + replicas) } else { orders.iter().map(of).sum() }
}

/// Why they cannot be used.
pub(super) fn wrong(orders: &[Config]) -> Option<String> {
    let is_name = |name: &str| {
        let number = name.strip_prefix(BEGINS_WITH).unwrap_or_default();
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=20).contains(&number.len()) && number.bytes().all(is_word)
    };
    let names: BTreeSet<&str> = orders.iter().map(|of| &*of.name).collect();
    let is_good = orders.is_empty()
        || (names.len() == orders.len()
            && names.contains(HOME)
            && orders.len() <= SHARDS_MAX
            && orders
                .iter()
                .all(|of| is_name(&of.name) && of.url.as_ref().is_none_or(DatabasesUrl::is_place)));
    if let Some(alone) = orders.iter().find(|of| of.url.is_none() && !of.replicas.is_empty()) {
        return Some(format!("{}: without a url of its own its replicas are store.replicas", alone.name));
    }
    let of_one = |of: &Config| {
        let want = wrong_replicas(of.url.as_ref()?, &of.replicas)?;
        Some(format!("the replicas of {}: {want}", of.name))
    };
    if let Some(want) = orders.iter().find_map(of_one).filter(|_| is_good) {
        return Some(want);
    }
    (!is_good).then(|| {
        format!(
            "want up to {SHARDS_MAX} such as {{ name = \"orders_4\", url = \"mysql://user:password@host:3306/DATABASE\" }}, \
             each with another name of {BEGINS_WITH} and a-z0-9, one of them {HOME}"
        )
    })
}

/// Opens them, each with its name. Nothing is asked of those on servers that are there already.
pub(super) fn databases(config: &super::Config, dir: &Path) -> Result<Vec<(String, Sql)>, NotOpen> {
    make_dir(dir)?;
    let open = |name: &str, own: Option<(&DatabasesUrl, &[ReplicaUrl])>| {
        let (url, replicas, database) = match own {
            Some((url, replicas)) => (url, replicas, url.prefix().map(str::to_owned)),
            None => {
                let url = &config.databases;
                (url, &*config.replicas, url.prefix().map(|prefix| format!("{prefix}_{name}")))
            }
        };
        let opened = match database {
            Some(database) => url.open(&database, replicas),
            None => sqlite::open(&dir.join(format!("{}.db", name.replace('_', "-")))),
        };
        let named = |error: SqlError| {
            let of = match (&error, own) {
                (SqlError::Setup(_), None) => "store.replicas: ",
                (SqlError::Setup(_), Some(_)) => "store.orders: ",
                _ => "",
            };
            NotOpen { passes: error.passes(), why: format!("{of}{name}: {error}") }
        };
        Ok((name.to_owned(), opened.map_err(named)?))
    };
    match config.orders.is_empty() {
        true => (0..BY_DEFAULT).map(|number| open(&format!("{BEGINS_WITH}{number}"), None)).collect(),
        false => {
            let one = |of: &Config| open(&of.name, of.url.as_ref().map(|url| (url, &*of.replicas)));
            config.orders.iter().map(one).collect()
        }
    }
}

/// Opens the databases of orders alone, for a command, which decides by what it reads: it does
/// without replicas. `data` is the data directory.
pub(crate) async fn open(
    config: &super::Config,
    data: &Path,
    clock: &dyn Clock,
) -> Result<Shards, Box<dyn std::error::Error>> {
    let (mut config, dir) = (config.clone(), data.join("store"));
    config.replicas.clear();
    config.orders.iter_mut().for_each(|of| of.replicas.clear());
    let opened = tokio::task::spawn_blocking(move || databases(&config, &dir)).await?;
    let all = opened.map_err(|error| error.why)?;
    Ok(Shards::open(all, clock.now(), &SystemChance).await?)
}

/// Opens the list of these orders, in the same way.
pub(crate) async fn open_list(
    config: &super::Config,
    data: &Path,
    shards: &Shards,
) -> Result<List, Box<dyn std::error::Error>> {
    let (url, dir) = (config.databases.clone(), data.join("store"));
    let open = move || open_beside(&url, &[], &dir, ORDER_LIST);
    let sql = tokio::task::spawn_blocking(open).await?.map_err(|error| error.why)?;
    Ok(List::open(sql, shards).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Config> {
        #[derive(Deserialize)]
        struct Whole {
            orders: Vec<Config>,
        }
        toml::from_str::<Whole>(text).unwrap().orders
    }

    #[test]
    fn names_are_different_and_one_of_them_has_the_directory() {
        let good = read(
            r#"orders = [{ name = "orders_0" }, { name = "orders_new", url = "mysql://u:secret@h:1/shop_9" }, { name = "orders_2", url = "file:" }]"#,
        );
        assert_eq!(wrong(&good), None);
        assert!(!format!("{good:?}").contains("secret"), "{good:?}");
        let replicas =
            r#"orders = [{ name = "orders_0", url = "mysql://h/x", replicas = ["mysql://u:secret@r"] }]"#;
        assert_eq!(wrong(&read(replicas)), None);
        assert!(!format!("{:?}", read(replicas)).contains("secret"));
        for (bad, want) in [
            (r#"[{ name = "orders_0", replicas = ["mysql://r"] }]"#, "orders_0: without a url of its own"),
            (
                r#"[{ name = "orders_0", url = "mysql://h/x", replicas = ["mysql://h"] }]"#,
                "of orders_0: h is the primary",
            ),
            (
                r#"[{ name = "orders_0", url = "file:", replicas = ["mysql://h"] }]"#,
                "of orders_0: replicas are other",
            ),
        ] {
            let said = wrong(&read(&format!("orders = {bad}"))).expect(bad);
            assert!(said.contains(want), "{said}");
        }
        for bad in [
            r#"[{ name = "orders_1" }]"#,
            r#"[{ name = "orders_0" }, { name = "orders_0" }]"#,
            r#"[{ name = "orders_0" }, { name = "orders_" }]"#,
            r#"[{ name = "orders_0" }, { name = "catalog" }]"#,
            r#"[{ name = "orders_0" }, { name = "orders_../x" }]"#,
            r#"[{ name = "orders_0", url = "http://h/x" }]"#,
            r#"[{ name = "orders_0", url = "" }]"#,
        ] {
            let want = wrong(&read(&format!("orders = {bad}"))).expect(bad);
            assert!(want.contains("one of them orders_0"), "{want}");
        }
    }

    #[test]
    fn by_default_there_are_four_files_with_the_names_that_they_have_always_had() {
        let dir = tempfile::tempdir().unwrap();
        let config = super::super::Config::default();
        let names = |all: Result<Vec<(String, Sql)>, NotOpen>| {
            all.unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(databases(&config, dir.path())), ["orders_0", "orders_1", "orders_2", "orders_3"]);
        for number in 0..4 {
            assert!(dir.path().join(format!("orders-{number}.db")).is_file(), "{number}");
        }
        let orders = read(r#"orders = [{ name = "orders_0" }, { name = "orders_7" }]"#);
        assert_eq!(names(databases(&super::super::Config { orders, ..config }, dir.path())).len(), 2);
        assert!(dir.path().join("orders-7.db").is_file());
    }
}
