//! The catalogue of the run: a few products, whose prices change now and then. It is a table behind
//! the catalogue's port; the context itself is not simulated.

use crate::world::{World, lock};
use contracts::{
    SaleId,
    store::{
        Asked, Catalog, Category, ForSale, Listings, Localized, OfferedIn, Product, ProductQuery, Sku,
        StoreError, Variant,
    },
};
use std::sync::{Arc, Mutex};
use units::{Currency, Money};

pub(crate) fn currency() -> Currency {
    "CNY".parse().expect("it is a currency")
}

pub(crate) fn sale() -> SaleId {
    "launch".parse().expect("it is a sale")
}

/// What the sale sells: its items, with the SKU of each that the catalogue has. The last is in no
/// catalogue, and so not known to the stock.
pub(crate) const ITEMS: [(&str, Option<&str>); 3] =
    [("phone", Some("P-1")), ("case", Some("P-2")), ("ghost", None)];

/// What carts can have.
pub(crate) const SKUS: [&str; 4] = ["C-1", "C-2", "C-3", "C-4"];

/// The prices of the SKUs of carts.
#[derive(Debug)]
pub(crate) struct Prices(Mutex<[u64; SKUS.len()]>);

impl Default for Prices {
    fn default() -> Self {
        Self(Mutex::new([1_000, 2_500, 400, 9_900]))
    }
}

impl Prices {
    pub(crate) fn change(&self, at: usize, by_minor: u64) {
        lock(&self.0)[at] += by_minor;
    }

    fn of(&self, at: usize) -> Money {
        Money { amount_minor: lock(&self.0)[at], currency: currency() }
    }

    fn products(&self) -> Vec<Product> {
        let product = |sku: &str, price: Money, offered_in: Vec<OfferedIn>| Product {
            slug: sku.to_ascii_lowercase().parse().expect("it is a slug"),
            name: named(sku),
            description: Localized::default(),
            category: "all".parse().expect("it is a slug"),
            variants: vec![Variant {
                sku: sku.parse().expect("it is a sku"),
                name: Localized::default(),
                price,
                offered_in,
            }],
            pictures: Vec::new(),
            position: 1,
            is_published: true,
        };
        let in_carts = SKUS.iter().enumerate().map(|(at, sku)| product(sku, self.of(at), Vec::new()));
        let in_sale = ITEMS.iter().filter_map(|(item, sku)| {
            let offered = OfferedIn { sale: sale(), item: item.parse().expect("it is an item") };
            let price = Money { amount_minor: 5_000, currency: currency() };
            Some(product((*sku)?, price, vec![offered]))
        });
        in_carts.chain(in_sale).collect()
    }
}

fn named(sku: &str) -> Localized {
    Localized { en: sku.to_owned(), zh: sku.to_owned() }
}

/// The catalogue, for one life of the process.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) prices: Arc<Prices>,
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
}

impl Catalog for Shelf {
    fn categories(&self) -> Asked<'_, Vec<Category>> {
        let all = Category { slug: "all".parse().expect("it is a slug"), name: named("All") };
        Box::pin(std::future::ready(Ok(vec![all])))
    }

    fn products(&self, _query: ProductQuery) -> Asked<'_, Listings> {
        let why = "orders ask for no lists of products";
        Box::pin(std::future::ready(Err(StoreError::Invalid(why.into()))))
    }

    fn product(&self, slug: contracts::store::ProductSlug) -> Asked<'_, Option<Product>> {
        let found = self.prices.products().into_iter().find(|product| product.slug == slug);
        Box::pin(std::future::ready(Ok(found)))
    }

    fn for_sale(&self, skus: Vec<Sku>) -> Asked<'_, Vec<ForSale>> {
        let find = move || {
            let for_sale = |product: Product| {
                let variant = product.variants.into_iter().next()?;
                let (product, name) = (product.slug, product.name);
                skus.contains(&variant.sku).then_some(ForSale { product, name, picture: None, variant })
            };
            Ok(self.prices.products().into_iter().filter_map(for_sale).collect())
        };
        Box::pin(self.world.call(self.life, "the catalogue's prices", find))
    }

    fn of_sale(&self, sale: SaleId) -> Asked<'_, Vec<Product>> {
        let find = move || {
            let is_in = |product: &Product| {
                product.variants.iter().any(|of| of.offered_in.iter().any(|of| of.sale == sale))
            };
            Ok(self.prices.products().into_iter().filter(is_in).collect())
        };
        Box::pin(self.world.call(self.life, "the catalogue's names", find))
    }
}
