//! From which warehouses baskets are sent: by hand, and against an oracle that tries everything.

use super::*;
use contracts::{
    SaleId,
    store::{CameBack, Lacking, OrderId, Sku, WarehouseId},
};
use std::collections::BTreeMap;
use units::{Prng, TimeMs};

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

fn house(text: &str) -> WarehouseId {
    text.parse().unwrap()
}

fn houses(of: &[(&str, u64, u32)]) -> Houses {
    of.iter()
        .map(|(name, parcel_cost, days)| (house(name), House { parcel_cost: *parcel_cost, days: *days }))
        .collect()
}

fn units(of: &[(&str, &str, u64)]) -> Units {
    let mut all = Units::new();
    for (name, at, units) in of {
        all.entry(sku(name)).or_default().insert(house(at), *units);
    }
    all
}

fn wanted(of: &[(&str, u32)]) -> Basket {
    of.iter().map(|(name, quantity)| (sku(name), *quantity)).collect()
}

/// `sku@warehouse*units` of each line.
fn said(plan: &Plan) -> Vec<String> {
    let of_sku = |(sku, of): (&Sku, &BTreeMap<WarehouseId, u32>)| {
        of.iter().map(|(house, units)| format!("{sku}@{house}*{units}")).collect::<Vec<_>>()
    };
    plan.lines.iter().flat_map(of_sku).collect()
}

#[test]
fn fewest_parcels_then_cost_then_days_then_what_is_left() {
    let all = houses(&[("east", 10, 2), ("north", 8, 5), ("south", 8, 3), ("west", 8, 3)]);
    let check = |basket: &[(&str, u32)], there: &[(&str, &str, u64)], want: &[&str]| {
        let plan = plan(&wanted(basket), &all, &units(there)).unwrap();
        assert_eq!(said(&plan), want, "{basket:?} of {there:?}");
        plan.why
    };
    // One parcel from the dearest rather than two from cheaper ones.
    let why = check(
        &[("A", 1), ("B", 1)],
        &[("A", "north", 9), ("B", "south", 9), ("A", "east", 1), ("B", "east", 1)],
        &["A@east*1", "B@east*1"],
    );
    assert_eq!(why, Why { parcels: 1, cost: 10, days: 2, ways: 1, is_best: true });
    assert_eq!(why.to_string(), "fewest parcels: 1; cost: 10; days: 2; ways compared: 1");
    // The cheapest; of these the soonest; of these the one with the most.
    check(&[("A", 1)], &[("A", "east", 9), ("A", "north", 1)], &["A@north*1"]);
    check(&[("A", 1)], &[("A", "north", 9), ("A", "south", 1)], &["A@south*1"]);
    let why = check(&[("A", 1)], &[("A", "south", 1), ("A", "west", 2), ("A", "east", 9)], &["A@west*1"]);
    assert_eq!((why.ways, why.cost, why.days), (3, 8, 3));
    // Two, if one does not do.
    check(&[("A", 3)], &[("A", "south", 2), ("A", "west", 2), ("A", "east", 2)], &["A@south*2", "A@west*1"]);
    let short = plan(&wanted(&[("A", 5)]), &all, &units(&[("A", "south", 2), ("A", "gone", 9)]));
    assert_eq!(short, None, "nothing is sent from a warehouse that is not named");
}

/// All ways to take each line, one after the other: the number of parcels, their cost and days.
fn best_of_all(basket: &Basket, houses: &Houses, there: &Units) -> Option<(usize, u64, u32)> {
    fn ways(quantity: u32, of: &[(WarehouseId, u64)]) -> Vec<Vec<WarehouseId>> {
        let Some(((house, units), rest)) = of.split_first() else {
            return if quantity == 0 { vec![Vec::new()] } else { Vec::new() };
        };
        let mut all = Vec::new();
        for taken in 0..=quantity.min(*units as u32) {
            for mut way in ways(quantity - taken, rest) {
                way.extend((taken > 0).then(|| house.clone()));
                all.push(way);
            }
        }
        all
    }
    let mut sets = vec![std::collections::BTreeSet::new()];
    for (sku, quantity) in basket {
        let of: Vec<_> =
            there.get(sku).into_iter().flatten().map(|(house, units)| (house.clone(), *units)).collect();
        let of: Vec<_> = of.into_iter().filter(|(house, _)| houses.contains_key(house)).collect();
        let ways = ways(*quantity, &of);
        let with = |set: &std::collections::BTreeSet<WarehouseId>| {
            let set = set.clone();
            ways.iter()
                .map(move |way| set.iter().cloned().chain(way.iter().cloned()).collect())
                .collect::<Vec<_>>()
        };
        sets = sets.iter().flat_map(with).collect();
        sets.sort();
        sets.dedup();
    }
    let worth = |set: &std::collections::BTreeSet<WarehouseId>| {
        let of = || set.iter().map(|house| houses[house]);
        (set.len(), of().map(|of| of.parcel_cost).sum(), of().map(|of| of.days).max().unwrap_or_default())
    };
    sets.iter().map(worth).min()
}

#[test]
fn no_way_is_better_than_the_one_that_is_chosen() {
    let names = ["a", "b", "c", "d"];
    let (mut split, mut short) = (0, 0);
    for seed in 1..=2000 {
        let mut random = Prng::new(seed);
        let all: Houses = names
            .iter()
            .map(|name| (house(name), House { parcel_cost: random.below(4), days: random.below(3) as u32 }))
            .collect();
        let mut there = Units::new();
        for name in ["A", "B", "C"] {
            for at in names {
                there.entry(sku(name)).or_default().insert(house(at), random.below(4));
            }
        }
        let basket: Basket =
            ["A", "B", "C"].iter().map(|name| (sku(name), 1 + random.below(5) as u32)).collect();
        let want = best_of_all(&basket, &all, &there);
        let found = plan(&basket, &all, &there);
        let Some(found) = found else {
            assert_eq!(want, None, "seed {seed}");
            short += 1;
            continue;
        };
        let Why { parcels, cost, days, is_best, .. } = found.why;
        assert_eq!(Some((parcels, cost, days)), want, "seed {seed}");
        split += usize::from(parcels > 1);
        assert!(is_best, "seed {seed}");
        let used: std::collections::BTreeSet<_> = found.lines.values().flat_map(BTreeMap::keys).collect();
        assert_eq!(used.len(), parcels, "seed {seed}");
        for (sku, quantity) in &basket {
            let of = &found.lines[sku];
            assert_eq!(of.values().sum::<u32>(), *quantity, "seed {seed}: {sku}");
            assert!(
                of.iter().all(|(house, units)| u64::from(*units) <= there[sku][house]),
                "seed {seed}: {sku}"
            );
        }
    }
    assert!(split > 500 && short > 20, "{split} split, {short} short");
}

/// One unit in each of very many warehouses, of which hundreds are needed: no set of so many can be
/// found by trying.
#[test]
fn a_way_is_found_also_where_all_cannot_be_tried() {
    let names: Vec<String> = (0..300).map(|number| format!("w{number:03}")).collect();
    let all: Houses = names.iter().map(|name| (house(name), House { parcel_cost: 1, days: 1 })).collect();
    let there: Units = [("A", 1), ("B", 2)]
        .into_iter()
        .map(|(name, units)| (sku(name), names.iter().map(|at| (house(at), units)).collect()))
        .collect();
    let found = plan(&wanted(&[("A", 200), ("B", 300)]), &all, &there).unwrap();
    assert_eq!((found.why.parcels, found.why.is_best), (200, false));
    assert!(found.why.to_string().starts_with("few parcels: 200;"));
    let in_all: u32 = found.lines.values().flat_map(BTreeMap::values).sum();
    assert_eq!(in_all, 500);
    let one_line = plan(&wanted(&[("A", 300)]), &all, &there).unwrap();
    assert_eq!(one_line.why.parcels, 300);
}

/// What a sale has suffices for A, not for B.
#[test]
fn a_winner_has_the_sales_units_and_what_is_missing_from_what_is_free() {
    let all = houses(&[("a", 1, 1), ("b", 1, 1)]);
    let launch: SaleId = "launch".parse().unwrap();
    let at = |name: &str, at: &str| Spot { sku: sku(name), warehouse: house(at) };
    let mut shelves = Shelves::new();
    for (name, place, units) in [("A", "a", 5), ("A", "b", 9), ("B", "b", 9)] {
        let mut shelf = Shelf::default();
        shelf.change(Change::Receive { units }).unwrap();
        shelves.insert(at(name, place), shelf);
    }
    claim(&mut shelves, &all, &sku("A"), &launch, 12).unwrap();
    claim(&mut shelves, &all, &sku("B"), &launch, 1).unwrap();
    let left = |shelves: &Shelves, spot: &Spot| shelves[spot].claims[&launch].left;
    assert_eq!(
        (left(&shelves, &at("A", "a")), left(&shelves, &at("A", "b"))),
        (3, 9),
        "first where most is free"
    );
    let taken = take(order(1), Some(&launch), &wanted(&[("A", 3), ("B", 2)]), &all, &mut shelves).unwrap();
    let line = |quantity, of_claim| Line { quantity, of_claim, came_back: 0 };
    assert_eq!(taken.lines, BTreeMap::from([(at("A", "b"), line(3, 3)), (at("B", "b"), line(2, 1))]));
    // Orders are sent from b no more: what the sale has there is moved to where they are.
    let only_a = houses(&[("a", 1, 1)]);
    assert_eq!(claim(&mut shelves, &only_a, &sku("A"), &launch, 9), Err(Unfit::TooFew { free: 2 }));
    claim(&mut shelves, &only_a, &sku("A"), &launch, 8).unwrap();
    assert_eq!((left(&shelves, &at("A", "a")), left(&shelves, &at("A", "b"))), (5, 0));
    assert_eq!(claim_of(&shelves, &sku("A"), &launch), Claim { left: 5, taken: 3, is_open: true });
    claim(&mut shelves, &only_a, &sku("A"), &launch, 4).unwrap();
    assert_eq!(shelves[&at("A", "a")].level, Level { on_hand: 5, claimed: 1, ..Level::default() });
}

fn order(number: u64) -> OrderId {
    OrderId::from_bytes(u128::from(number).to_be_bytes())
}

/// Random commands over three warehouses, from one of which nothing is sent.
#[test]
fn several_warehouses_promise_nothing_twice_and_refuse_nothing_that_is_there() {
    let all = houses(&[("a", 5, 1), ("b", 3, 2)]);
    let launch: SaleId = "launch".parse().unwrap();
    let (mut taken_of_two, mut refused) = (0, 0);
    for seed in 1..=200 {
        let mut random = Prng::new(seed);
        let mut shelves = Shelves::new();
        for name in ["A", "B"] {
            for at in ["a", "b", "returns"] {
                let mut shelf = Shelf::default();
                shelf.change(Change::Receive { units: 1 + random.below(6) }).unwrap();
                shelves.insert(Spot { sku: sku(name), warehouse: house(at) }, shelf);
            }
        }
        let mut reservations = BTreeMap::<u64, Reservation>::new();
        for step in 0..80u64 {
            let name = *random.pick(&["A", "B"]);
            let sale = random.percent(40).then(|| launch.clone());
            let number = random.below(10);
            match random.below(7) {
                0 | 1 if !reservations.contains_key(&number) => {
                    let basket =
                        wanted(&[("A", 1 + random.below(3) as u32), ("B", 1 + random.below(3) as u32)]);
                    let can_have = |sku: &Sku| -> u64 {
                        let of = shelves.iter().filter(|(spot, _)| spot.sku == *sku);
                        let of = of.filter(|(spot, _)| all.contains_key(&spot.warehouse));
                        of.map(|(_, shelf)| {
                            let claim = sale.as_ref().and_then(|sale| shelf.claims.get(sale));
                            shelf.level.free() + claim.filter(|of| of.is_open).map_or(0, |of| of.left)
                        })
                        .sum()
                    };
                    let short: Vec<Lacking> = basket
                        .iter()
                        .map(|(sku, wanted)| Lacking {
                            sku: sku.clone(),
                            wanted: *wanted,
                            free: can_have(sku),
                        })
                        .filter(|of| u64::from(of.wanted) > of.free)
                        .collect();
                    match take(order(number), sale.as_ref(), &basket, &all, &mut shelves) {
                        Ok(Taken { lines, why }) => {
                            assert!(short.is_empty(), "seed {seed}, step {step}: {short:?}");
                            let houses: std::collections::BTreeSet<_> =
                                lines.keys().map(|of| &of.warehouse).collect();
                            taken_of_two += usize::from(houses.len() > 1);
                            let (state, until) = (State::Held, TimeMs(step + 10));
                            let new = Reservation {
                                order: order(number),
                                state,
                                sale,
                                until,
                                lines,
                                why,
                                version: 1,
                            };
                            assert_eq!(new.basket(), basket);
                            reservations.insert(number, new);
                        }
                        Err(why) => {
                            assert_eq!(why, Refused::Short(short), "seed {seed}, step {step}");
                            refused += 1;
                        }
                    }
                }
                2 => {
                    let taken = claim_of(&shelves, &sku(name), &launch).taken;
                    let _ = claim(&mut shelves, &all, &sku(name), &launch, taken + random.below(6));
                }
                3 => {
                    let Some(of) = reservations.get_mut(&number) else { continue };
                    let _ = of.confirm(&all, &mut shelves);
                }
                4 => {
                    let Some(mut of) = reservations.remove(&number) else { continue };
                    if of.ship(&mut shelves) == Ok(true) {
                        let back: Basket = of.basket().into_iter().filter(|_| random.percent(70)).collect();
                        of.take_back(&back, CameBack::Restock, &mut shelves).unwrap();
                        let more = wanted(&[(name, 4)]);
                        let said = of.take_back(&more, CameBack::Restock, &mut shelves);
                        assert_eq!(said, Err(Refused::NotShipped(sku(name))));
                    } else {
                        of.release(&mut shelves).unwrap();
                    }
                }
                5 => {
                    for of in reservations.values_mut() {
                        let _ = of.expire(TimeMs(step), &mut shelves).unwrap();
                    }
                }
                _ => {
                    let at = random.pick(&["a", "b", "returns"].map(house)).clone();
                    let spot = Spot { sku: sku(name), warehouse: at };
                    let change = random.below(7) as i64 - 3;
                    let _ = shelves.get_mut(&spot).unwrap().change(Change::Adjust { change });
                }
            }
            let mut reserved = BTreeMap::<&Spot, u64>::new();
            for of in reservations.values().filter(|of| of.state.is_open()) {
                of.lines
                    .iter()
                    .for_each(|(spot, line)| *reserved.entry(spot).or_default() += u64::from(line.quantity));
            }
            for (spot, shelf) in &shelves {
                let folded = shelf
                    .moves
                    .iter()
                    .fold(Level::default(), |of, (moved, _)| of.after(moved.movement).unwrap());
                assert_eq!(folded, shelf.level, "seed {seed}, step {step}: {spot}");
                let of_orders = reserved.get(spot).copied().unwrap_or_default();
                let of_sales: u64 = shelf.claims.values().map(|of| of.left).sum();
                assert_eq!(
                    (of_orders, of_sales),
                    (shelf.level.reserved, shelf.level.claimed),
                    "seed {seed}, step {step}: {spot}"
                );
                let is_used = shelf.level.reserved + shelf.level.claimed > 0;
                assert!(!is_used || spot.warehouse != house("returns"), "seed {seed}, step {step}");
            }
        }
    }
    assert!(taken_of_two > 100 && refused > 100, "{taken_of_two} of two, {refused} refused");
}
