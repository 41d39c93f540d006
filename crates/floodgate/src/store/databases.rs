//! Which databases the store has, their opening, and which servers have answered their reads.

use super::{
    Config, NotOpen,
    servers::{make_dir, open_beside, wrong_replicas},
    shards::{self, ORDER_LIST},
};
use engines::sql::{Reads, Sql};
use std::path::Path;
use web::metrics::{Metric, Registry};

/// Files of a database: of SQLite three connections, each with up to three; of a server eight, and
/// of each of its replicas.
const FILES_OF_DATABASE: usize = 8;

/// Why the databases cannot be used, with the key.
pub(super) fn wrong(config: &Config) -> Option<(&'static str, String)> {
    if !config.databases.is_place() {
        let want = "want \"file:\", or \"mysql://user:password@host:3306/PREFIX\", a prefix of letters, digits and _";
        return Some(("databases", want.into()));
    }
    let of_replicas = wrong_replicas(&config.databases, &config.replicas).map(|want| ("replicas", want));
    of_replicas.or_else(|| shards::wrong(&config.orders).map(|want| ("orders", want)))
}

/// Open files that the databases may need: of accounts, catalogue, payments, stock, the list of
/// orders, and those of orders.
pub(super) fn files(config: &Config) -> usize {
    let replicas = config.replicas.len();
    FILES_OF_DATABASE * (5 * (1 + replicas) + shards::count(&config.orders, replicas))
}

/// A database for each context; orders have several, and one for their list.
pub(super) struct Databases {
    pub(super) accounts: Sql,
    pub(super) catalog: Sql,
    pub(super) payments: Sql,
    pub(super) inventory: Sql,
    pub(super) orders: Vec<(String, Sql)>,
    pub(super) order_list: Sql,
}

impl Databases {
    pub(super) fn open(config: &Config, dir: &Path) -> Result<Self, NotOpen> {
        make_dir(dir)?;
        let at = |name: &str| open_beside(&config.databases, &config.replicas, dir, name);
        Ok(Self {
            accounts: at("accounts")?,
            catalog: at("catalog")?,
            payments: at("payments")?,
            inventory: at("inventory")?,
            orders: shards::databases(config, dir)?,
            order_list: at(ORDER_LIST)?,
        })
    }

    /// All of them, to be asked which servers have answered their reads.
    pub(super) fn all(&self) -> Vec<(String, Sql)> {
        let beside = [
            ("accounts", &self.accounts),
            ("catalog", &self.catalog),
            ("payments", &self.payments),
            ("inventory", &self.inventory),
            (ORDER_LIST, &self.order_list),
        ];
        let beside = beside.into_iter().map(|(name, sql)| (name.to_owned(), sql.clone()));
        beside.chain(self.orders.iter().cloned()).collect()
    }
}

/// Which servers have answered the reads of databases that have replicas, for monitoring.
pub(super) fn metrics(databases: &[(String, Sql)], into: &mut Registry) {
    let all: Vec<(&str, Reads)> =
        databases.iter().filter_map(|(name, sql)| Some((&**name, sql.reads()?))).collect();
    if all.is_empty() {
        return;
    }
    let mut rows = |metric: Metric, of: fn(&Reads) -> u64| {
        let rows = all.iter().map(|(name, reads)| ([("database", (*name).to_owned())], of(reads)));
        into.values(metric, rows.collect::<Vec<_>>());
    };
    let name = |name: &str| format!("floodgate_store_{name}");
    let counter = |of, help| Metric::counter(name(of), help);
    rows(counter("replica_reads_total", "Reads that a replica answered"), |of| of.by_replicas);
    rows(
        counter("primary_reads_total", "Reads that the primary answered, though there are replicas"),
        |of| of.by_primary,
    );
    rows(counter("replica_late_total", "Reads for which a replica was too late"), |of| of.late);
    rows(counter("replica_failed_total", "Reads that a replica failed"), |of| of.failed);
    rows(Metric::gauge(name("replicas_in_use"), "Replicas that reads go to now"), |of| of.replicas_in_use);
    rows(
        Metric::gauge(name("replicas_away"), "Replicas that are late, away, or not what they should be"),
        |of| of.replicas - of.replicas_in_use,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn replicas_are_servers_beside_the_primary_and_their_passwords_are_not_shown() {
        let databases = "databases = \"mysql://u:sesame@db-1:3306/shop\"";
        let good =
            read(&format!("{databases}\nreplicas = [\"mysql://r:sesame@db-2:3306\", \"mysql://db-3\"]"));
        assert_eq!(wrong(&good), None);
        let shown = format!("{good:?} {}", toml::to_string(&good).unwrap());
        assert!(!shown.contains("sesame") && shown.contains("mysql://…@db-2:3306"), "{shown}");
        for bad in [
            "[\"mysql://r:sesame@db-2:3306/shop\"]",
            "[\"mysql://r:sesame@db-2:3306/\"]",
            "[\"db-2:3306\"]",
            "[\"\"]",
            "[\"mysql://r:sesame@\"]",
            "[\"mysql://r:sesame@db-2\", \"mysql://s:sesame@db-2\"]",
            "[\"mysql://r:sesame@db-1:3306\"]",
            "[\"mysql://1\", \"mysql://2\", \"mysql://3\", \"mysql://4\", \"mysql://5\"]",
        ] {
            let (key, want) = wrong(&read(&format!("{databases}\nreplicas = {bad}"))).expect(bad);
            assert!(key == "replicas" && !want.contains("sesame"), "{bad}: {want}");
        }
        let (key, want) = wrong(&read("replicas = [\"mysql://db-2\"]")).unwrap();
        assert!(key == "replicas" && want.contains("file:"), "{want}");
    }

    #[test]
    fn each_replica_needs_files_for_each_database() {
        assert_eq!(files(&Config::default()), 8 * 9);
        let at_server = read("databases = \"mysql://h/shop\"\nreplicas = [\"mysql://r\", \"mysql://s\"]");
        assert_eq!(files(&at_server), 8 * 9 * 3);
        let orders = "orders = [{ name = \"orders_0\" }, { name = \"orders_1\", url = \"mysql://i/x\" }, \
                      { name = \"orders_2\", url = \"mysql://i/y\", replicas = [\"mysql://t\"] }]";
        let apart = read(&format!("databases = \"mysql://h/shop\"\nreplicas = [\"mysql://r\"]\n{orders}"));
        assert_eq!(wrong(&apart), None);
        assert_eq!(files(&apart), 8 * (5 * 2 + 2 + 1 + 2));
    }
}
