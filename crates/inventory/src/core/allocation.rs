//! From which warehouses a basket is sent: in the fewest parcels; of those ways, at the lowest
//! cost; then the soonest; then from where there is most of it.

use super::basket::Basket;
use contracts::store::{Sku, WarehouseId};
use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// A warehouse that orders are sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct House {
    /// What a parcel from here costs, in whatever unit all warehouses have.
    pub parcel_cost: u64,
    /// After how many days it arrives.
    pub days: u32,
}

/// Those that orders are sent from.
pub type Houses = BTreeMap<WarehouseId, House>;

/// Units by SKU, and for each by warehouse.
pub type Units = BTreeMap<Sku, BTreeMap<WarehouseId, u64>>;

/// Steps that are taken to find the best way. Where that takes more, as with very many warehouses
/// of which no few suffice, a good way is found, which may have more parcels.
const STEPS_MAX: u64 = 200_000;

/// From where each SKU is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub lines: BTreeMap<Sku, BTreeMap<WarehouseId, u32>>,
    pub why: Why,
}

/// Why a basket is sent in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Why {
    pub parcels: usize,
    pub cost: u64,
    /// Until the last parcel arrives.
    pub days: u32,
    /// Ways with as many parcels that were compared.
    pub ways: u64,
    /// No other way has fewer parcels, or as many and costs less.
    pub is_best: bool,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parcels, cost, days, ways, is_best } = self;
        let best = if *is_best { "fewest parcels" } else { "few parcels" };
        write!(f, "{best}: {parcels}; cost: {cost}; days: {days}; ways compared: {ways}")
    }
}

/// How good a set of warehouses is, the smaller the better: its cost, its days, and what it has of
/// what is wanted.
type Worth = (u64, u32, Reverse<u64>);

struct Search<'a> {
    wanted: Vec<(&'a Sku, u64)>,
    houses: Vec<(&'a WarehouseId, House)>,
    /// Units, by line and house.
    units: Vec<Vec<u64>>,
    steps: u64,
    ways: u64,
    best: Option<(Worth, Vec<usize>)>,
}

/// Plans a basket of which there is enough of everything in these warehouses together; `None` if
/// there is not.
pub fn plan(basket: &Basket, houses: &Houses, units: &Units) -> Option<Plan> {
    let wanted: Vec<_> = basket.iter().map(|(sku, wanted)| (sku, u64::from(*wanted))).collect();
    let has = |sku: &Sku, house| units.get(sku).and_then(|of| of.get(house)).copied().unwrap_or_default();
    let useful = houses.iter().filter(|(house, _)| wanted.iter().any(|(sku, _)| has(sku, house) > 0));
    let houses: Vec<_> = useful.map(|(house, of)| (house, *of)).collect();
    let of_line = |(sku, _): &(&Sku, u64)| houses.iter().map(|(house, _)| has(sku, house)).collect();
    let units: Vec<Vec<u64>> = wanted.iter().map(of_line).collect();
    if wanted.iter().zip(&units).any(|((_, wanted), of)| of.iter().sum::<u64>() < *wanted) {
        return None;
    }
    let mut search = Search { wanted, houses, units, steps: 0, ways: 0, best: None };
    for parcels in 1..=search.houses.len() {
        search.try_all(parcels, 0, &mut Vec::with_capacity(parcels));
        if let Some((_, chosen)) = search.best.take() {
            let is_best = search.steps <= STEPS_MAX;
            return Some(search.plan(&chosen, is_best));
        }
        if search.steps > STEPS_MAX {
            break;
        }
    }
    let chosen = search.some_way();
    Some(search.plan(&chosen, false))
}

impl Search<'_> {
    /// Tries every set of so many warehouses that has those in `chosen`, and further ones from
    /// `from` on.
    fn try_all(&mut self, parcels: usize, from: usize, chosen: &mut Vec<usize>) {
        if chosen.len() == parcels {
            return self.try_one(chosen);
        }
        let missing = parcels - chosen.len();
        for house in from..=self.houses.len().saturating_sub(missing) {
            if self.steps > STEPS_MAX {
                return;
            }
            chosen.push(house);
            self.try_all(parcels, house + 1, chosen);
            chosen.pop();
        }
    }

    fn try_one(&mut self, chosen: &[usize]) {
        let mut in_all = 0u64;
        for line in 0..self.wanted.len() {
            self.steps += chosen.len() as u64;
            let units = chosen.iter().map(|house| self.units[line][*house]).fold(0, u64::saturating_add);
            if units < self.wanted[line].1 {
                return;
            }
            in_all = in_all.saturating_add(units);
        }
        self.ways += 1;
        let (cost, days) = self.costs(chosen);
        let worth = (cost, days, Reverse(in_all));
        if self.best.as_ref().is_none_or(|(best, _)| worth < *best) {
            self.best = Some((worth, chosen.to_vec()));
        }
    }

    fn costs(&self, chosen: &[usize]) -> (u64, u32) {
        let houses = || chosen.iter().map(|house| self.houses[*house].1);
        let cost = houses().map(|house| house.parcel_cost).fold(0, u64::saturating_add);
        (cost, houses().map(|house| house.days).max().unwrap_or_default())
    }

    /// Each time the warehouse that has most of what is still missing.
    fn some_way(&self) -> Vec<usize> {
        let mut missing: Vec<u64> = self.wanted.iter().map(|(_, wanted)| *wanted).collect();
        let mut chosen = Vec::new();
        while missing.iter().any(|units| *units > 0) {
            let helps = |house: usize| -> u64 {
                missing.iter().zip(&self.units).map(|(missing, of)| of[house].min(*missing)).sum()
            };
            let left = (0..self.houses.len()).filter(|house| !chosen.contains(house));
            let best = left.max_by_key(|house| {
                let of = self.houses[*house].1;
                (helps(*house), Reverse((of.parcel_cost, of.days, *house)))
            });
            // There is enough in all of them together, so one helps until nothing is missing.
            let Some(house) = best else { break };
            for (line, units) in missing.iter_mut().enumerate() {
                *units = units.saturating_sub(self.units[line][house]);
            }
            chosen.push(house);
        }
        chosen
    }

    /// Takes each SKU from where most of it is.
    fn plan(&self, chosen: &[usize], is_best: bool) -> Plan {
        let mut lines = BTreeMap::new();
        for (line, (sku, wanted)) in self.wanted.iter().enumerate() {
            let mut houses: Vec<_> = chosen.iter().map(|house| (self.units[line][*house], *house)).collect();
            houses.sort_by_key(|(units, house)| (Reverse(*units), self.houses[*house].1.parcel_cost, *house));
            let mut missing = *wanted;
            let mut of_sku = BTreeMap::new();
            for (units, house) in houses {
                let taken = units.min(missing);
                missing -= taken;
                if taken > 0 {
                    // It is not more than what is wanted of it.
                    of_sku.insert(self.houses[house].0.clone(), taken as u32);
                }
            }
            lines.insert((*sku).clone(), of_sku);
        }
        let used: Vec<usize> = chosen
            .iter()
            .copied()
            .filter(|house| lines.values().any(|of| of.contains_key(self.houses[*house].0)))
            .collect();
        let (cost, days) = self.costs(&used);
        Plan { lines, why: Why { parcels: used.len(), cost, days, ways: self.ways.max(1), is_best } }
    }
}
