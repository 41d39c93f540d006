//! What the gate keeps of each sale, so that it can answer at once: rendered bytes, round keys,
//! admissions. All of it is derived from the sale's view; nothing is decided here.

use crate::{
    admission::Admission,
    keys::Keyring,
    pass::Pass,
    ports::{Sale, Sales},
    problem::{NOT_FOUND, Problem},
};
use arc_swap::ArcSwap;
use axum::body::Bytes;
use contracts::{Basket, GateRefusal, ItemId, ItemState, SaleId, SaleState, SaleView, ShopperKey};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use subtle::ConstantTimeEq;
use units::{Money, TimeMs};
use web::body::clip;

/// A sale, as the gate sees it.
pub(crate) struct Front {
    pub(crate) sale: Arc<dyn Sale>,
    /// For each tier that may have only a part of the sale's rate.
    pub(crate) tier_admissions: Box<[Admission; 256]>,
    rendered: ArcSwap<Rendered>,
    rendering: Mutex<()>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

/// The public document, and the view that it was made from.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) view: Arc<SaleView>,
    pub(crate) body: Bytes,
    at: TimeMs,
    round_keys: Vec<String>,
}

/// How long the same bytes are served. `server_time` in them is at most this old.
const FRESH_MS: u64 = 1000;

/// The public document of a sale.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Sale")]
pub(crate) struct SaleDocument<'a> {
    sale: &'a SaleId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_zh: Option<&'a str>,
    state: SaleState,
    /// When this document was made: up to a second ago.
    server_time: TimeMs,
    /// When the open round opened, or the next round will open; after the last round, when that
    /// opened.
    opens_at: TimeMs,
    /// When the same round ends, or ended.
    closes_at: TimeMs,
    items: Vec<ItemDocument<'a>>,
    /// Where to POST attempts; present only while a round is open or paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri-reference"))]
    attempts_url: Option<String>,
}

/// An item of the sale.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Item")]
struct ItemDocument<'a> {
    item: &'a ItemId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_zh: Option<&'a str>,
    /// Price of one unit.
    price: Money,
    /// Upcoming: a later round offers it. Available: units are free; they can be bought while the
    /// sale is open. Sold out: no unit is free.
    state: ItemState,
    /// A shopper who asks for it now, and finds no unit free, gets a place on the waitlist.
    waitlist_open: bool,
}

impl Front {
    fn new(keys: &Keyring, sale: Arc<dyn Sale>, now: TimeMs) -> Self {
        let rendered = Rendered::new(keys, (sale.view(), sale.log_id()), now, Vec::new());
        Self {
            sale,
            tier_admissions: Box::new(std::array::from_fn(|_| Admission::default())),
            rendered: ArcSwap::from_pointee(rendered),
            rendering: Mutex::new(()),
        }
    }

    /// The answer that the gate may give to a shopper without asking the sale: the shopper has
    /// nothing of the sale, and is not eligible, or the basket is sold out. `view` must be older
    /// than this call.
    pub(crate) fn alone(&self, view: &SaleView, pass: &Pass, basket: &Basket) -> Option<GateRefusal> {
        view.alone(pass.shopper, pass.tier, basket, || self.sale.may_have(pass.shopper))
    }

    /// The document of this second, rendered once for all callers.
    pub(crate) fn rendered(&self, keys: &Keyring, now: TimeMs) -> Arc<Rendered> {
        let view = self.sale.view();
        let is_fresh = |r: &Rendered| same_to_everybody(&r.view, &view) && now.since(r.at).0 < FRESH_MS;
        let rendered = self.rendered.load();
        if is_fresh(&rendered) {
            return Arc::clone(&rendered);
        }
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let rendered = self.rendered.load();
        if is_fresh(&rendered) {
            return Arc::clone(&rendered);
        }
        let new = Arc::new(Rendered::new(keys, (view, self.sale.log_id()), now, rendered.round_keys.clone()));
        self.rendered.store(Arc::clone(&new));
        new
    }
}

/// An attempt that waits here for its tier's turn. Until this is dropped, its shopper counts as one
/// who may have something.
pub(crate) struct Expected {
    sale: Arc<dyn Sale>,
    shopper: ShopperKey,
}

impl Expected {
    pub(crate) fn new(front: &Front, shopper: ShopperKey) -> Self {
        front.sale.expect(shopper);
        Self { sale: Arc::clone(&front.sale), shopper }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.sale.no_longer_expect(self.shopper);
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected").finish_non_exhaustive()
    }
}

/// Whether two views give the same document, and refuse the same shoppers. `as_of` changes with
/// every batch and concerns neither.
fn same_to_everybody(a: &Arc<SaleView>, b: &Arc<SaleView>) -> bool {
    let same = |a: &SaleView, b: &SaleView| {
        a.state == b.state
            && a.rounds_opened == b.rounds_opened
            && (a.opens_at, a.closes_at, a.rate_per_second) == (b.opens_at, b.closes_at, b.rate_per_second)
            && Arc::ptr_eq(&a.spec, &b.spec)
            // A shopper who was removed from the list is let in at once, not when the document is
            // next rendered.
            && Arc::ptr_eq(&a.denied, &b.denied)
            && a.items == b.items
    };
    Arc::ptr_eq(a, b) || same(a, b)
}

impl Rendered {
    fn new(
        keys: &Keyring,
        (view, log_id): (Arc<SaleView>, &str),
        now: TimeMs,
        mut round_keys: Vec<String>,
    ) -> Self {
        let sale = view.sale.as_str();
        round_keys.truncate(usize::from(view.rounds_opened));
        for round in round_keys.len()..usize::from(view.rounds_opened) {
            round_keys.push(match view.is_restored {
                true => keys.round_key_of_copy(sale, log_id, round as u16),
                false => keys.round_key(sale, round as u16),
            });
        }
        let open = matches!(view.state, SaleState::Open | SaleState::Paused);
        let attempts_url = |key: &String| format!("/api/v1/sales/{sale}/rounds/{key}/attempts");
        let currency = view.spec.currency;
        let items = view.spec.items.iter().zip(&view.items).map(|(item, seen)| ItemDocument {
            item: &item.item,
            name: &item.name,
            name_zh: item.name_zh.as_deref(),
            price: Money { amount_minor: seen.price_minor, currency },
            state: seen.state,
            waitlist_open: seen.waitlist_open,
        });
        let document = SaleDocument {
            sale: &view.sale,
            name: &view.spec.name,
            name_zh: view.spec.name_zh.as_deref(),
            state: view.state,
            server_time: now,
            opens_at: view.opens_at,
            closes_at: view.closes_at,
            items: items.collect(),
            attempts_url: round_keys.last().filter(|_| open).map(attempts_url),
        };
        let body = serde_json::to_vec(&document).expect("the document has no map with odd keys").into();
        Self { body, at: now, round_keys, view }
    }

    /// Whether a round that has opened has this key, in constant time.
    pub(crate) fn knows_round_key(&self, key: &str) -> bool {
        let fits = self.round_keys.iter().rev().map(|k| k.as_bytes().ct_eq(key.as_bytes()));
        fits.fold(subtle::Choice::from(0), |a, b| a | b).into()
    }
}

/// The fronts of the sales that this gate was asked for.
pub(crate) struct Fronts {
    sales: Arc<dyn Sales>,
    keys: Arc<Keyring>,
    met: RwLock<HashMap<String, Arc<Front>>>,
}

impl fmt::Debug for Fronts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fronts").finish_non_exhaustive()
    }
}

fn no_sale(sale: &str) -> Problem {
    Problem::new(&NOT_FOUND, format!("no sale {:?}", clip(sale)))
}

impl Fronts {
    pub(crate) fn new(sales: &Arc<dyn Sales>, keys: &Arc<Keyring>) -> Self {
        Self { sales: Arc::clone(sales), keys: Arc::clone(keys), met: RwLock::default() }
    }

    /// The front of a sale, or 404. Only names of existing sales are kept, so guesses cost no
    /// memory.
    pub(crate) fn get(&self, sale: &str) -> Result<Arc<Front>, Problem> {
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner).get(sale).cloned();
        let was_met = met.is_some();
        if let Some(front) = met.filter(|front| !front.sale.is_gone()) {
            return Ok(front);
        }
        let found = self.sales.get(sale);
        if found.is_none() && !was_met {
            return Err(no_sale(sale));
        }
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        met.retain(|_, front| !front.sale.is_gone());
        let Some(found) = found else { return Err(no_sale(sale)) };
        let front = || Arc::new(Front::new(&self.keys, found, self.sales.now()));
        Ok(Arc::clone(met.entry(sale.to_owned()).or_insert_with(front)))
    }

    /// A sale's document of this second.
    pub(crate) fn rendered(&self, front: &Front) -> Arc<Rendered> {
        front.rendered(&self.keys, self.sales.now())
    }

    /// All sales.
    pub(crate) fn sales(&self) -> &Arc<dyn Sales> {
        &self.sales
    }

    /// Each sale, by its name.
    pub(crate) fn each(&self) -> impl Iterator<Item = (SaleId, Arc<dyn Sale>)> {
        self.sales.list().into_iter().filter_map(|id| self.sales.get(id.as_str()).map(|sale| (id, sale)))
    }
}
