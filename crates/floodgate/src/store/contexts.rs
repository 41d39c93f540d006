//! Opens the contexts that this process has, and gives each of them its ports: of a context beside
//! it, or of one in another process.

use super::{
    Beside, Config, NotOpen, SALE_TOKEN_SECONDS, STRIPE, Signer,
    databases::Databases,
    demo,
    ports::{Follows, Tells},
    sale,
    services::{self, Offered, Others, Part},
};
use contracts::store::{
    Accounts, Carts, Catalog, Guests, HoldsPersonalData, Orders, Payments, SignInProvider, Stock,
};
use engines::{chance::SystemChance, sql::Sql};
use payment::sandbox::Sandbox;
use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use web::{
    operation::Operation,
    page::{ProblemPage, STYLE, StaticFile},
    protection::Protection,
    secret::random_bytes,
};

/// What the operators' pages load.
static FILES: &[&StaticFile] = &[&STYLE];

/// What the contexts are made of.
pub(super) struct Contexts<'a> {
    pub(super) beside: &'a Beside,
    /// Of the listener.
    pub(super) address: SocketAddr,
    pub(super) config: &'a Config,
    pub(super) parts: &'static [Part],
    pub(super) demo_stock: Option<u64>,
    pub(super) protection: &'a Arc<Protection>,
    pub(super) signer: &'a Arc<Option<Signer>>,
}

/// The contexts of this process, and the loops between them.
pub(super) struct Store {
    pub(super) operations: Vec<Operation<()>>,
    pub(super) loops: Vec<JoinSet<()>>,
    /// What other processes may ask of it.
    pub(super) offered: Offered,
    /// What tells the metrics.
    pub(super) seen: Seen,
    pub(super) problem_page: Option<ProblemPage>,
}

/// What the metrics are read from.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) catalog: Option<Arc<catalog::service::Service>>,
    pub(super) databases: Vec<(String, Sql)>,
    pub(super) others: Arc<Others>,
}

/// The contexts that are in this process.
#[derive(Default)]
struct Here {
    catalog: Option<Arc<catalog::service::Service>>,
    payments: Option<(Arc<payment::service::Service>, Arc<Sandbox>)>,
    stock: Option<Arc<inventory::service::Service>>,
    orders: Option<Arc<order::service::Service>>,
    accounts: Option<Arc<account::service::Service>>,
    /// The provider of identities, if there is one.
    provider: Option<Arc<account::provider::Provider>>,
}

/// The port of a context beside it, or of one in another process.
macro_rules! port {
    ($port:ty: $here:expr, $others:expr, $part:expr) => {{
        let port: Result<Arc<$port>, NotOpen> = match $here {
            Some(here) => Ok(Arc::clone(here) as _),
            None => $others.get($part).map(|other| other as _).map_err(|why| NotOpen { why, passes: false }),
        };
        port
    }};
}

impl Contexts<'_> {
    /// Opens them in the order in which they need each other.
    pub(super) async fn open(&self) -> Result<Store, NotOpen> {
        let (databases, others) = self.open_files().await?;
        let all = databases.all();
        let clock = || Arc::clone(&self.beside.clock);
        let mut here = Here::default();
        if let Some(sql) = databases.catalog {
            let cache = self.config.cache.settings();
            here.catalog = Some(catalog::service::Service::open_cached(sql, clock(), cache).await?);
        }
        if let Some(sql) = databases.payments {
            here.payments = Some(self.open_payments(sql).await?);
        }
        if let Some(sql) = databases.inventory {
            here.stock = Some(inventory::service::Service::open(sql, clock()).await?);
        }
        if let (Some(databases), Some(list)) = (databases.orders, databases.order_list) {
            let shards = order::shards::Shards::open(databases, clock().now(), &SystemChance).await?;
            let list = order::list::List::open(list, &shards).await?;
            here.orders = Some(order::service::Service::new(order::service::Needs {
                shards,
                list,
                clock: clock(),
                chance: Arc::new(SystemChance),
                catalog: port!(dyn Catalog: &here.catalog, others, Part::Catalog)?,
                sales: Arc::clone(&self.beside.ports.holds),
                payments: here.payments(&others)?,
                stock: port!(dyn Stock: &here.stock, others, Part::Inventory)?,
                rules: self.config.rules(),
            }));
        }
        if let Some(sql) = databases.accounts {
            let orders = port!(dyn HoldsPersonalData: &here.orders, others, Part::Order)?;
            self.open_accounts(sql, orders, &mut here).await?;
        }
        if let (Some(in_sale), Some(catalog), Some(stock)) = (self.demo_stock, &here.catalog, &here.stock) {
            let filled = async {
                demo::fill(catalog).await?;
                demo::fill_stock(stock, in_sale).await
            };
            filled.await.map_err(|error| NotOpen { why: error.to_string(), passes: true })?;
        }
        let mut operations = self.operations(&here);
        let mut problem_page = None;
        if self.parts.contains(&Part::Shop) {
            let parts = self.shop(&here, &others)?;
            problem_page = Some(shop::problem_page(&parts));
            let pages = shop::operations().into_iter();
            operations.extend(pages.map(|operation| operation.with_state(parts.clone())));
        } else {
            // Of the pages for operators; the shop's own files have it too.
            operations.extend(web::page::statics(FILES));
        }
        let loops = self.start(&here);
        let offered = here.offered();
        let seen = Seen { catalog: here.catalog, databases: all, others: Arc::new(others) };
        Ok(Store { operations, loops, offered, seen, problem_page })
    }

    /// The databases, and what is known of the contexts in other processes.
    async fn open_files(&self) -> Result<(Databases, Others), NotOpen> {
        let (dir, keys) = (self.beside.data.join("store"), self.beside.data.join("keys"));
        let (config, parts) = (self.config.clone(), self.parts);
        let idle = Duration::from_secs(self.protection.settings.idle_timeout_seconds);
        let opened = tokio::task::spawn_blocking(move || {
            let others = match parts.len() == Part::ALL.len() {
                true => Others::default(),
                false => Others::new(&config.services, parts, &services::key(&keys)?, idle),
            };
            let databases = Databases::open(&config, &dir, parts)?;
            Ok::<_, NotOpen>((databases, others))
        });
        opened.await.map_err(io::Error::other)?
    }

    async fn open_payments(
        &self,
        sql: Sql,
    ) -> Result<(Arc<payment::service::Service>, Arc<Sandbox>), NotOpen> {
        let is_demo = self.demo_stock.is_some();
        let clock = || Arc::clone(&self.beside.clock);
        let keys = self.beside.data.join("keys");
        let key =
            tokio::task::spawn_blocking(move || sandbox_key(&keys)).await.map_err(io::Error::other)??;
        payment::service::migrate(&sql).await?;
        let sandbox = Sandbox::new(sql.clone(), clock(), &key);
        let provider: Arc<dyn payment::provider::Provider> = if self.config.is_sandbox(is_demo) {
            Arc::clone(&sandbox) as _
        } else if self.config.payments == STRIPE {
            let (settings, shop) = (self.config.stripe.clone(), self.config.public_url.clone());
            let read = tokio::task::spawn_blocking(move || settings.open(&shop));
            let settings =
                read.await.map_err(io::Error::other)?.and_then(|of| match is_demo && of.is_live() {
                    true => Err("a demo takes no money: want a key of Stripe's test mode, sk_test_…".into()),
                    false => Ok(of),
                });
            let stripe = settings.and_then(|of| payment::stripe::Stripe::new(of, clock()));
            stripe.map_err(|why| NotOpen { why, passes: false })?
        } else {
            Arc::new(payment::no_provider::NoProvider)
        };
        let payments = payment::service::Service::new(sql, clock(), Arc::new(SystemChance), provider);
        Ok((payments, sandbox))
    }

    async fn open_accounts(
        &self,
        sql: Sql,
        orders: Arc<dyn HoldsPersonalData>,
        here: &mut Here,
    ) -> Result<(), NotOpen> {
        let (mail, dir) = (self.config.mail.clone(), self.beside.data.join("store"));
        let mail = tokio::task::spawn_blocking(move || mail.open(&dir)).await.map_err(io::Error::other)??;
        let accounts = account::service::Service::open(account::service::Needs {
            sql,
            clock: Arc::clone(&self.beside.clock),
            sign: self.sign(),
            mail,
            shop: self.words(),
            holds: vec![orders],
        });
        let accounts = accounts.await?;
        let (oidc, of_provider, origin) =
            (self.config.oidc.clone(), Arc::clone(&accounts), self.words().origin);
        let opened = tokio::task::spawn_blocking(move || oidc.open(&origin, &of_provider));
        let opened = opened.await.map_err(io::Error::other)?;
        here.provider = opened.map_err(|why| NotOpen { why, passes: false })?;
        here.accounts = Some(accounts);
        Ok(())
    }

    /// The loops of the contexts that are here.
    fn start(&self, here: &Here) -> Vec<JoinSet<()>> {
        let ports = &self.beside.ports;
        let posts = |tells| Arc::clone(ports.posts(tells));
        let inbox = |follows| Arc::clone(ports.inbox(follows));
        let mut loops = Vec::new();
        if let Some((payments, sandbox)) = &here.payments {
            let mut webhooks = JoinSet::new();
            webhooks.spawn(Arc::clone(sandbox).send_webhooks(Arc::clone(payments)));
            loops.extend([payments.start(posts(Tells::Payments)), webhooks]);
        }
        loops.extend(here.stock.as_ref().map(|stock| stock.start(posts(Tells::Stock))));
        if let Some(orders) = &here.orders {
            let follows = order::service::Follows {
                sales: inbox(Follows::Winners),
                payments: inbox(Follows::Paid),
                orders: inbox(Follows::Listed),
            };
            loops.push(orders.start(follows, posts(Tells::Orders)));
        }
        if let Some(accounts) = &here.accounts {
            loops.extend([accounts.start(), accounts.tell(posts(Tells::Accounts))]);
        }
        if let Some(catalog) = &here.catalog {
            loops.extend([catalog.start(), catalog.tell(posts(Tells::Catalog))]);
        }
        loops
    }

    /// What is served of the contexts that are here, each with its API and its pages.
    fn operations(&self, here: &Here) -> Vec<Operation<()>> {
        fn with<S: Clone + Send + Sync + 'static>(
            state: S,
            tables: [Vec<Operation<S>>; 2],
        ) -> impl Iterator<Item = Operation<()>> {
            tables.into_iter().flatten().map(move |operation| operation.with_state(state.clone()))
        }
        let protection = || Arc::clone(self.protection);
        let mut all: Vec<Operation<()>> = Vec::new();
        if let Some(service) = &here.catalog {
            let parts = catalog::api::Parts { service: Arc::clone(service), protection: protection() };
            let trail = [catalog::trail_pages::operations(), catalog::trail_pages::pages()];
            all.extend(with(parts.clone(), [catalog::api::operations(), catalog::pages::pages()]));
            all.extend(with(parts, trail));
            all.extend(with(Arc::clone(service), [catalog::media::operations(), Vec::new()]));
        }
        if let Some(service) = &here.orders {
            let parts = order::api::Parts { service: Arc::clone(service), protection: protection() };
            all.extend(with(parts, [order::api::operations(), order::pages::pages()]));
        }
        if let Some((service, sandbox)) = &here.payments {
            let parts = payment::api::Parts { service: Arc::clone(service), protection: protection() };
            all.extend(with(parts, [payment::api::operations(), payment::pages::pages()]));
            let sandbox = Arc::clone(sandbox);
            let parts = payment::sandbox::page::Parts { service: sandbox, protection: protection() };
            all.extend(with(parts, [payment::sandbox::page::operations(), Vec::new()]));
        }
        if let Some(service) = &here.stock {
            let parts = inventory::api::Parts { service: Arc::clone(service), protection: protection() };
            all.extend(with(parts, [inventory::api::operations(), inventory::pages::pages()]));
        }
        if let Some(service) = &here.accounts {
            let parts = account::api::Parts { service: Arc::clone(service), protection: protection() };
            all.extend(with(parts, [account::api::operations(), account::pages::pages()]));
        }
        all
    }

    /// What the shoppers' pages are over.
    fn shop(&self, here: &Here, others: &Others) -> Result<shop::parts::Parts, NotOpen> {
        let Beside { clock, keys, ports, sale_origin, .. } = self.beside;
        let (keys, clock, origin) = (Arc::clone(keys), Arc::clone(clock), self.words().origin);
        let returns = sale::Returns { keys, clock, origin: origin.clone() };
        let is_demo = self.demo_stock.is_some();
        let provider: Option<Arc<dyn SignInProvider>> = match (&here.accounts, &here.provider) {
            (Some(_), provider) => provider.as_ref().map(|provider| Arc::clone(provider) as _),
            (None, _) if self.config.oidc.is_set() => Some(
                port!(dyn SignInProvider: None::<&Arc<account::provider::Provider>>, others, Part::Account)?,
            ),
            (None, _) => None,
        };
        Ok(shop::parts::Parts(Arc::new(shop::parts::Shop {
            catalog: port!(dyn Catalog: &here.catalog, others, Part::Catalog)?,
            accounts: port!(dyn Accounts: &here.accounts, others, Part::Account)?,
            guests: port!(dyn Guests: &here.accounts, others, Part::Account)?,
            orders: port!(dyn Orders: &here.orders, others, Part::Order)?,
            payments: here.payments(others)?,
            carts: port!(dyn Carts: &here.orders, others, Part::Order)?,
            stock: port!(dyn Stock: &here.stock, others, Part::Inventory)?,
            sales: Arc::clone(&ports.views),
            returns: Arc::new(returns),
            name: [self.config.name.clone(), self.config.name_zh.clone()],
            origin,
            sale_origin: sale_origin.clone(),
            is_demo,
            takes_payments: is_demo || !self.config.payments.is_empty(),
            has_sandbox: self.config.is_sandbox(is_demo),
            provider: provider.map(|port| shop::parts::Provider { port, name: self.config.oidc.names() }),
            sign_ins: shop::parts::sign_ins(),
            new_carts: shop::parts::new_carts(),
            guest_check_outs: shop::parts::guest_check_outs(),
            protection: Arc::clone(self.protection),
        })))
    }

    /// What letters say of the shop. Their links lead to where it says that it is, or to its
    /// listener: never to what a request says.
    fn words(&self) -> account::service::ShopWords {
        let Config { name, name_zh, .. } = self.config;
        let origin = self.config.origin(self.address, self.parts);
        account::service::ShopWords { name: [name.clone(), name_zh.clone()], origin }
    }

    fn sign(&self) -> account::service::SignForSale {
        let signer = Arc::clone(self.signer);
        Box::new(move |account, now| {
            let Signer { secret, config } = signer.as_ref().as_ref()?;
            let shopper = web::jwt::Shopper { id: account.to_string(), tier: 0 };
            Some(web::jwt::sign_token(secret, config, &shopper, now, SALE_TOKEN_SECONDS))
        })
    }
}

impl Here {
    fn payments(&self, others: &Others) -> Result<Arc<dyn Payments>, NotOpen> {
        let here = self.payments.as_ref().map(|(payments, _)| payments);
        port!(dyn Payments: here, others, Part::Payment)
    }

    /// What other processes may ask of those that are here.
    fn offered(&self) -> Offered {
        Offered {
            catalog: self.catalog.clone().map(|port| port as _),
            accounts: self.accounts.clone().map(|port| port as _),
            guests: self.accounts.clone().map(|port| port as _),
            provider: self.provider.clone().map(|port| port as _),
            personal_data: self.orders.clone().map(|port| port as _),
            orders: self.orders.clone().map(|port| port as _),
            carts: self.orders.clone().map(|port| port as _),
            payments: self.payments.clone().map(|(port, _)| port as _),
            stock: self.stock.clone().map(|port| port as _),
        }
    }
}

fn sandbox_key(keys: &Path) -> io::Result<Vec<u8>> {
    web::secret::read_or_create_secret(&keys.join("sandbox.key"), || {
        random_bytes::<32>().map(|bytes| bytes.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The paths of each part, as its tables have them.
    fn paths() -> Vec<(Part, Vec<&'static str>)> {
        fn of<S, T>(api: Vec<Operation<S>>, pages: Vec<Operation<T>>) -> Vec<&'static str> {
            let api = api.iter().map(|operation| operation.row.path);
            api.chain(pages.iter().map(|operation| operation.row.path)).collect()
        }
        let mut of_catalog = of(catalog::api::operations(), catalog::pages::pages());
        of_catalog.extend(of(catalog::trail_pages::operations(), catalog::trail_pages::pages()));
        of_catalog.extend(catalog::media::operations().iter().map(|operation| operation.row.path));
        let mut of_payments = of(payment::api::operations(), payment::pages::pages());
        of_payments.extend(payment::sandbox::page::operations().iter().map(|operation| operation.row.path));
        vec![
            (Part::Account, of(account::api::operations(), account::pages::pages())),
            (Part::Catalog, of_catalog),
            (Part::Order, of(order::api::operations(), order::pages::pages())),
            (Part::Payment, of_payments),
            (Part::Inventory, of(inventory::api::operations(), inventory::pages::pages())),
            (Part::Shop, shop::operations().iter().map(|operation| operation.row.path).collect()),
        ]
    }

    #[test]
    fn the_rules_in_the_manual_lead_each_path_to_its_part() {
        let manual = include_str!("../../../../docs/operating.md");
        let rules = manual.split_once("```haproxy\nfrontend store\n").unwrap().1;
        let rules = rules.split_once("```").unwrap().0;
        let rules: Vec<(&str, BTreeSet<&str>)> = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("use_backend ")?.split_once(" if { path_beg "))
            .map(|(backend, paths)| (backend, paths.trim_end_matches(" }").split(' ').collect()))
            .collect();
        assert_eq!(rules.len(), Part::ALL.len() - 1, "the shop has what is left");
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for (part, paths) in paths() {
            assert!(paths.len() > 5, "{part:?}: {paths:?}");
            // Each listener has the stylesheet and the icon.
            for path in paths.into_iter().filter(|path| !["/static/{file}", "/favicon.ico"].contains(path)) {
                let found = rules.iter().find_map(|(backend, begins)| {
                    let begin = begins.iter().find(|begin| path.starts_with(**begin))?;
                    used.insert(begin);
                    Some(*backend)
                });
                assert_eq!(found.unwrap_or("shop"), part.name(), "{path}");
            }
        }
        let unused: Vec<&&str> = rules.iter().flat_map(|(_, begins)| begins.difference(&used)).collect();
        assert!(unused.is_empty(), "rules that lead nothing: {unused:?}");
    }
}
