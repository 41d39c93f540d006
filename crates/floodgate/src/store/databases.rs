//! Which databases the store has, their opening, and which servers have answered their reads.

use super::{
    Config, NotOpen,
    servers::{make_dir, open_beside, wrong_replicas},
    services::Part,
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

/// Open files that the databases of these contexts may need.
pub(super) fn files(config: &Config, of: &[Part]) -> usize {
    let replicas = config.replicas.len();
    let count = of.iter().map(|part| match part {
        Part::Account | Part::Catalog | Part::Payment | Part::Inventory => 1 + replicas,
        // And one for their list.
        Part::Order => shards::count(&config.orders, replicas) + 1 + replicas,
        Part::Shop => 0,
    });
    FILES_OF_DATABASE * count.sum::<usize>()
}

/// A database for each context that is in this process; orders have several, and
/// one for their list.
pub(super) struct Databases {
    pub(super) accounts: Option<Sql>,
    pub(super) catalog: Option<Sql>,
    pub(super) payments: Option<Sql>,
    pub(super) inventory: Option<Sql>,
    pub(super) orders: Option<Vec<(String, Sql)>>,
    pub(super) order_list: Option<Sql>,
}

impl Databases {
    pub(super) fn open(config: &Config, dir: &Path, of: &[Part]) -> Result<Self, NotOpen> {
        make_dir(dir)?;
        let open = |name: &str| open_beside(&config.databases, &config.replicas, dir, name);
        let at = |part, name| of.contains(&part).then(|| open(name)).transpose();
        Ok(Self {
            accounts: at(Part::Account, "accounts")?,
            catalog: at(Part::Catalog, "catalog")?,
            payments: at(Part::Payment, "payments")?,
            inventory: at(Part::Inventory, "inventory")?,
            orders: of.contains(&Part::Order).then(|| shards::databases(config, dir)).transpose()?,
            order_list: at(Part::Order, ORDER_LIST)?,
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
        let beside = beside.into_iter().filter_map(|(name, sql)| Some((name.to_owned(), sql.clone()?)));
        beside.chain(self.orders.iter().flatten().cloned()).collect()
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
        assert_eq!(files(&Config::default(), &Part::ALL), 8 * 9);
        assert_eq!(files(&Config::default(), &[Part::Catalog]), 8);
        let at_server = read("databases = \"mysql://h/shop\"\nreplicas = [\"mysql://r\", \"mysql://s\"]");
        assert_eq!(files(&at_server, &Part::ALL), 8 * 9 * 3);
        let orders = "orders = [{ name = \"orders_0\" }, { name = \"orders_1\", url = \"mysql://i/x\" }, \
                      { name = \"orders_2\", url = \"mysql://i/y\", replicas = [\"mysql://t\"] }]";
        let apart = read(&format!("databases = \"mysql://h/shop\"\nreplicas = [\"mysql://r\"]\n{orders}"));
        assert_eq!(wrong(&apart), None);
        assert_eq!(files(&apart, &Part::ALL), 8 * (5 * 2 + 2 + 1 + 2));
    }
}
