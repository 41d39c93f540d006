//! What the gate keeps of each sale so that it can answer everybody at once: rendered bytes, round
//! keys, admissions. All of it follows from the sale's view; nothing is decided here.

use crate::{
    admission::Admission,
    keys::Keyring,
    pass::Pass,
    ports::{Sale, Sales},
};
use arc_swap::ArcSwap;
use axum::body::Bytes;
use contracts::{Basket, GateRefusal, ItemState, SaleState, SaleView, ShopperKey};
use serde::Serialize;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use subtle::ConstantTimeEq;
use units::{Money, TimeMs};

/// A sale, seen from the gate.
pub(crate) struct Front {
    pub(crate) sale: Arc<dyn Sale>,
    /// Of each tier that may have a part of the sale's rate only.
    pub(crate) tier_admissions: Box<[Admission; 256]>,
    rendered: ArcSwap<Rendered>,
    rendering: Mutex<()>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

/// The public document, and the view that it shows.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) view: Arc<SaleView>,
    pub(crate) body: Bytes,
    at: TimeMs,
    round_keys: Vec<String>,
}

/// How long the same bytes are good; `server_time` in them is older by so much at the most.
const FRESH_MS: u64 = 1000;

#[derive(Serialize)]
struct SaleDocument<'a> {
    sale: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_zh: Option<&'a str>,
    state: SaleState,
    server_time: TimeMs,
    opens_at: TimeMs,
    closes_at: TimeMs,
    items: Vec<ItemDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_url: Option<String>,
}

#[derive(Serialize)]
struct ItemDocument<'a> {
    item: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_zh: Option<&'a str>,
    price: Money,
    state: ItemState,
}

impl Front {
    fn new(keys: &Keyring, sale: Arc<dyn Sale>, now: TimeMs) -> Self {
        let rendered = Rendered::new(keys, sale.view(), now, Vec::new());
        Self {
            sale,
            tier_admissions: Box::new(std::array::from_fn(|_| Admission::default())),
            rendered: ArcSwap::from_pointee(rendered),
            rendering: Mutex::new(()),
        }
    }

    /// What the gate alone may tell a shopper of a basket: they have nothing of the sale, and are
    /// not eligible, or it is sold out. `view` was taken before.
    pub(crate) fn alone(&self, view: &SaleView, pass: &Pass, basket: &Basket) -> Option<GateRefusal> {
        view.alone(pass.shopper, pass.tier, basket, || self.sale.may_have(pass.shopper))
    }

    /// The document of this second, rendered once for everybody.
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
        let new = Arc::new(Rendered::new(keys, view, now, rendered.round_keys.clone()));
        self.rendered.store(Arc::clone(&new));
        new
    }
}

/// An attempt that waits here for its tier's turn: until this is dropped its shopper is one who may
/// have something.
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

/// Whether two views show the same document, and refuse the same shoppers. `as_of` moves with every
/// batch and is in neither.
fn same_to_everybody(a: &Arc<SaleView>, b: &Arc<SaleView>) -> bool {
    let same = |a: &SaleView, b: &SaleView| {
        a.state == b.state
            && a.rounds_opened == b.rounds_opened
            && (a.opens_at, a.closes_at, a.rate_per_second) == (b.opens_at, b.closes_at, b.rate_per_second)
            && Arc::ptr_eq(&a.spec, &b.spec)
            // Whoever was taken off the list is let in at once, not when the document is next
            // rendered.
            && Arc::ptr_eq(&a.denied, &b.denied)
            && a.items == b.items
    };
    Arc::ptr_eq(a, b) || same(a, b)
}

impl Rendered {
    fn new(keys: &Keyring, view: Arc<SaleView>, now: TimeMs, mut round_keys: Vec<String>) -> Self {
        let sale = view.sale.as_str();
        round_keys.truncate(usize::from(view.rounds_opened));
        for round in round_keys.len()..usize::from(view.rounds_opened) {
            round_keys.push(keys.round_key(sale, round as u16));
        }
        let open = matches!(view.state, SaleState::Open | SaleState::Paused);
        let attempts_url = |key: &String| format!("/api/v1/sales/{sale}/rounds/{key}/attempts");
        let currency = view.spec.currency;
        let items = view.spec.items.iter().zip(&view.items).map(|(item, seen)| ItemDocument {
            item: item.item.as_str(),
            name: &item.name,
            name_zh: item.name_zh.as_deref(),
            price: Money { amount_minor: seen.price_minor, currency },
            state: seen.state,
        });
        let document = SaleDocument {
            sale,
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

    /// Whether a round that has opened has this key. Takes as long for a key that is nearly right.
    pub(crate) fn knows_round_key(&self, key: &str) -> bool {
        let fits = self.round_keys.iter().rev().map(|k| k.as_bytes().ct_eq(key.as_bytes()));
        fits.fold(subtle::Choice::from(0), |a, b| a | b).into()
    }
}

/// The sales that this gate has met.
#[derive(Default)]
pub(crate) struct Fronts(RwLock<HashMap<String, Arc<Front>>>);

impl fmt::Debug for Fronts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fronts").finish_non_exhaustive()
    }
}

impl Fronts {
    /// The front of a sale that exists. Only names of real sales are kept, so guessing costs no
    /// memory.
    pub(crate) fn get(&self, keys: &Keyring, sales: &dyn Sales, sale: &str) -> Option<Arc<Front>> {
        if let Some(front) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(sale) {
            return Some(Arc::clone(front));
        }
        let found = sales.get(sale)?;
        let mut fronts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let front = || Arc::new(Front::new(keys, found, sales.now()));
        Some(Arc::clone(fronts.entry(sale.to_owned()).or_insert_with(front)))
    }
}
