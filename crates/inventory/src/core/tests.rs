//! The rules, one by one, and against a simple oracle: a warehouse in which each unit is a thing of
//! its own, with a label that says for whom it is.

use super::*;
use contracts::{
    SaleId,
    store::{CameBack, Lacking, OrderId, Sku, StockLine, WarehouseId},
};
use std::collections::{BTreeMap, BTreeSet};
use units::{Prng, TimeMs};

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

fn spot(text: &str) -> Spot {
    sku(text).into()
}

/// The main warehouse alone.
fn one() -> Houses {
    Houses::from([(WarehouseId::main(), House { parcel_cost: 8, days: 2 })])
}

fn sale(text: &str) -> SaleId {
    text.parse().unwrap()
}

fn order(number: u8) -> OrderId {
    OrderId::from_bytes([number; 16])
}

fn line(text: &str, quantity: u32) -> StockLine {
    StockLine { sku: sku(text), quantity }
}

fn of(lines: &[(&str, u32)]) -> Basket {
    basket(&lines.iter().map(|(sku, quantity)| line(sku, *quantity)).collect::<Vec<_>>()).unwrap()
}

fn stocked(skus: &[(&str, u64)]) -> Shelves {
    let shelf = |units: u64| {
        let mut shelf = Shelf::default();
        shelf.change(Change::Receive { units }).unwrap();
        shelf
    };
    skus.iter().map(|(name, units)| (spot(name), shelf(*units))).collect()
}

fn figures(shelves: &Shelves, name: &str) -> [u64; 4] {
    let level = shelves[&spot(name)].level;
    [level.on_hand, level.reserved, level.claimed, level.free()]
}

fn held(number: u8, of_sale: Option<&str>, lines: &[(&str, u32)], shelves: &mut Shelves) -> Reservation {
    let of_sale = of_sale.map(sale);
    let taken = take(order(number), of_sale.as_ref(), &of(lines), &one(), shelves).unwrap();
    new(order(number), of_sale, TimeMs(100), taken)
}

fn new(order: OrderId, sale: Option<SaleId>, until: TimeMs, taken: Taken) -> Reservation {
    let Taken { lines, why } = taken;
    Reservation { order, state: State::Held, sale, until, lines, why, version: 1 }
}

/// Every level is what its movements add up to, from nothing.
fn assert_folds(shelves: &Shelves) {
    for (spot, shelf) in shelves {
        let fold = |level: Level, (moved, after): &(Move, Level)| {
            let level = level.after(moved.movement).unwrap();
            assert_eq!(level, *after, "{spot}");
            level
        };
        assert_eq!(shelf.moves.iter().fold(Level::default(), fold), shelf.level, "{spot}");
        assert!(shelf.level.is_sound(), "{spot}: {:?}", shelf.level);
    }
}

#[test]
fn a_movement_that_would_promise_a_unit_twice_is_refused() {
    let level = Level { on_hand: 10, reserved: 4, claimed: 3, in_transit: 2 };
    let after = |kind, units, of_claim| level.after(Movement { kind, units, of_claim });
    let is = |on_hand, reserved, claimed| Ok(Level { on_hand, reserved, claimed, in_transit: 2 });
    let moved = |on_hand, in_transit| Ok(Level { on_hand, in_transit, ..level });
    let few = Err(Unfit::TooFew { free: 3 });
    for (kind, units, of_claim, want) in [
        (Kind::Receive, 5, 0, is(15, 4, 3)),
        (Kind::Adjust, -3, 0, is(7, 4, 3)),
        (Kind::Adjust, -4, 0, few),
        (Kind::Adjust, -11, 0, few),
        (Kind::Count, 0, 0, is(10, 4, 3)),
        (Kind::Reserve, 3, 0, is(10, 7, 3)),
        (Kind::Reserve, 4, 0, few),
        (Kind::Reserve, 6, 3, is(10, 10, 0)),
        (Kind::Reserve, 4, 4, Err(Unfit::NotSetAside)),
        (Kind::Confirm, 4, 0, is(10, 4, 3)),
        (Kind::Release, 4, 0, is(10, 0, 3)),
        (Kind::Expire, 4, 2, is(10, 0, 5)),
        (Kind::Release, 5, 0, Err(Unfit::NotSetAside)),
        (Kind::Ship, 4, 0, is(6, 0, 3)),
        (Kind::Ship, 5, 0, Err(Unfit::NotSetAside)),
        (Kind::TakeBack, 2, 0, is(12, 4, 3)),
        (Kind::Scrap, 3, 0, is(7, 4, 3)),
        (Kind::Scrap, 4, 0, few),
        (Kind::Claim, 3, 0, is(10, 4, 6)),
        (Kind::Claim, 4, 0, few),
        (Kind::ReturnClaim, 3, 0, is(10, 4, 0)),
        (Kind::ReturnClaim, 4, 0, Err(Unfit::NotSetAside)),
        (Kind::Dispatch, 3, 0, moved(7, 2)),
        (Kind::Dispatch, 4, 0, few),
        (Kind::Expect, 5, 0, moved(10, 7)),
        (Kind::Arrive, 2, 0, moved(12, 0)),
        (Kind::Arrive, 3, 0, Err(Unfit::NotSetAside)),
        (Kind::Lose, 2, 0, moved(10, 0)),
        (Kind::Lose, 3, 0, Err(Unfit::NotSetAside)),
        (Kind::Receive, i64::MAX - 100, 0, Err(Unfit::TooMany)),
        (Kind::Expect, i64::MAX - 100, 0, Err(Unfit::TooMany)),
    ] {
        assert_eq!(after(kind, units, of_claim), want, "{kind:?} {units} {of_claim}");
    }
}

#[test]
fn the_names_of_kinds_and_states_are_read_as_they_are_written() {
    assert!(Kind::ALL.into_iter().all(|kind| Kind::from_name(kind.as_str()) == Some(kind)));
    assert!(State::ALL.into_iter().all(|state| State::from_name(state.as_str()) == Some(state)));
    assert_eq!((Kind::from_name("Ship"), State::from_name("")), (None, None));
}

#[test]
fn lines_are_added_up_and_wrong_ones_are_named() {
    assert_eq!(of(&[("B", 2), ("A", 1), ("B", 3)]), BTreeMap::from([(sku("A"), 1), (sku("B"), 5)]));
    let wrong = |lines: Vec<StockLine>| basket(&lines).unwrap_err().to_string();
    assert_eq!(wrong(vec![]), "lines: want at least one");
    assert_eq!(wrong(vec![line("A", 1), line("B", 0)]), "lines[1].quantity: want at least 1");
    let many = vec![line("A", QUANTITY_MAX), line("A", u32::MAX)];
    assert_eq!(wrong(many), "lines[1].quantity: want 1000000 units of one sku at the most");
    let long = (0..=LINES_MAX).map(|number| line(&format!("S{number}"), 1)).collect();
    assert_eq!(wrong(long), "lines: want 1000 at the most, and there are 1001");
}

#[test]
fn a_basket_is_taken_whole_or_not_at_all_and_all_that_is_lacking_is_named() {
    let mut shelves = stocked(&[("A", 5), ("B", 1), ("C", 0)]);
    let before = shelves.clone();
    let wanted = of(&[("A", 2), ("B", 2), ("C", 1), ("UNKNOWN", 1)]);
    let lacking = |name: &str, wanted, free| Lacking { sku: sku(name), wanted, free };
    let short = vec![lacking("B", 2, 1), lacking("C", 1, 0), lacking("UNKNOWN", 1, 0)];
    assert_eq!(take(order(1), None, &wanted, &one(), &mut shelves), Err(Refused::Short(short)));
    assert_eq!(shelves, before, "nothing was moved");
    let whole = held(1, None, &[("A", 5), ("B", 1)], &mut shelves);
    let free = |quantity| Line { quantity, of_claim: 0, came_back: 0 };
    assert_eq!(whole.lines, BTreeMap::from([(spot("A"), free(5)), (spot("B"), free(1))]));
    assert_eq!((figures(&shelves, "A"), figures(&shelves, "B")), ([5, 5, 0, 0], [1, 1, 0, 0]));
    assert_folds(&shelves);
}

#[test]
fn each_command_leads_where_the_table_says_and_its_repeat_changes_nothing() {
    type Act = fn(&mut Reservation, &mut Shelves) -> Result<bool, Refused>;
    let (confirm, release, ship): (Act, Act, Act) =
        (|of, shelves| of.confirm(&one(), shelves), Reservation::release, Reservation::ship);
    let expire: Act = |reservation, shelves| reservation.expire(TimeMs(100), shelves);
    let again: Act = |reservation, shelves| {
        let basket = reservation.basket();
        reservation.reserve_again(&basket, TimeMs(200), &one(), shelves)
    };
    let starts = |state: State| {
        let mut shelves = stocked(&[("A", 10)]);
        let mut reservation = held(1, None, &[("A", 4)], &mut shelves);
        let steps: &[Act] = match state {
            State::Held => &[],
            State::Confirmed => &[confirm],
            State::Shipped => &[confirm, ship],
            State::Expired => &[expire],
            State::Released => &[release],
        };
        steps.iter().for_each(|step| assert_eq!(step(&mut reservation, &mut shelves), Ok(true)));
        assert_eq!(reservation.state, state);
        (reservation, shelves)
    };
    let (set_aside, free, gone) = ([10, 4, 0, 6], [10, 0, 0, 10], [6, 0, 0, 6]);
    let refused = |state| Err(Refused::State(state));
    let (done, nothing) = (Ok(true), Ok(false));
    for (name, act, from, said, to, level) in [
        ("confirm", confirm, State::Held, &done, State::Confirmed, set_aside),
        ("confirm", confirm, State::Confirmed, &nothing, State::Confirmed, set_aside),
        ("confirm", confirm, State::Expired, &done, State::Confirmed, set_aside),
        ("confirm", confirm, State::Shipped, &nothing, State::Shipped, gone),
        ("confirm", confirm, State::Released, &refused(State::Released), State::Released, free),
        ("release", release, State::Held, &done, State::Released, free),
        ("release", release, State::Confirmed, &done, State::Released, free),
        ("release", release, State::Expired, &done, State::Released, free),
        ("release", release, State::Shipped, &nothing, State::Shipped, gone),
        ("release", release, State::Released, &nothing, State::Released, free),
        ("expire", expire, State::Held, &done, State::Expired, free),
        ("expire", expire, State::Confirmed, &nothing, State::Confirmed, set_aside),
        ("expire", expire, State::Expired, &nothing, State::Expired, free),
        ("expire", expire, State::Shipped, &nothing, State::Shipped, gone),
        ("ship", ship, State::Confirmed, &done, State::Shipped, gone),
        ("ship", ship, State::Shipped, &nothing, State::Shipped, gone),
        ("ship", ship, State::Held, &refused(State::Held), State::Held, set_aside),
        ("ship", ship, State::Expired, &refused(State::Expired), State::Expired, free),
        ("ship", ship, State::Released, &refused(State::Released), State::Released, free),
        ("reserve", again, State::Held, &nothing, State::Held, set_aside),
        ("reserve", again, State::Confirmed, &nothing, State::Confirmed, set_aside),
        ("reserve", again, State::Shipped, &nothing, State::Shipped, gone),
        ("reserve", again, State::Expired, &done, State::Held, set_aside),
        ("reserve", again, State::Released, &refused(State::Released), State::Released, free),
    ] {
        let (mut reservation, mut shelves) = starts(from);
        let version = reservation.version;
        assert_eq!(&act(&mut reservation, &mut shelves), said, "{name} of {from:?}");
        assert_eq!((reservation.state, figures(&shelves, "A")), (to, level), "{name} of {from:?}");
        assert_eq!(reservation.version > version, *said == Ok(true), "{name} of {from:?}");
        let after = (reservation.clone(), shelves.clone());
        let repeated = act(&mut reservation, &mut shelves);
        assert!(repeated != Ok(true), "{name} of {from:?}, repeated: {repeated:?}");
        assert_eq!((reservation, shelves.clone()), after, "{name} of {from:?}, repeated");
        assert_folds(&shelves);
    }
}

#[test]
fn other_lines_of_the_same_order_are_refused() {
    let mut shelves = stocked(&[("A", 10), ("B", 10)]);
    let mut reservation = held(1, None, &[("A", 4)], &mut shelves);
    for other in [of(&[("A", 5)]), of(&[("B", 4)]), of(&[("A", 4), ("B", 1)])] {
        let said = reservation.reserve_again(&other, TimeMs(200), &one(), &mut shelves);
        assert_eq!(said, Err(Refused::OtherLines), "{other:?}");
    }
}

#[test]
fn what_has_expired_is_confirmed_only_if_it_is_there() {
    let mut shelves = stocked(&[("A", 5)]);
    let mut first = held(1, None, &[("A", 5)], &mut shelves);
    assert_eq!(first.expire(TimeMs(99), &mut shelves), Ok(false), "its time has not come");
    assert_eq!(first.expire(TimeMs(100), &mut shelves), Ok(true));
    let mut second = held(2, None, &[("A", 1)], &mut shelves);
    let lacking = vec![Lacking { sku: sku("A"), wanted: 5, free: 4 }];
    assert_eq!(first.confirm(&one(), &mut shelves), Err(Refused::Short(lacking)));
    assert_eq!((first.state, figures(&shelves, "A")), (State::Expired, [5, 1, 0, 4]));
    assert_eq!(second.release(&mut shelves), Ok(true));
    assert_eq!(first.confirm(&one(), &mut shelves), Ok(true));
    assert_eq!(figures(&shelves, "A"), [5, 5, 0, 0]);
    assert_folds(&shelves);
}

#[test]
fn a_claim_is_taken_from_what_is_free_and_its_orders_give_back_to_it_while_it_is_open() {
    let (launch, a) = (sale("launch"), sku("A"));
    let mut shelves = stocked(&[("A", 10)]);
    let claims = |shelves: &mut Shelves, units| claim(shelves, &one(), &a, &launch, units);
    assert_eq!(claims(&mut shelves, 11), Err(Unfit::TooFew { free: 10 }));
    claims(&mut shelves, 6).unwrap();
    claims(&mut shelves, 6).unwrap();
    assert_eq!(figures(&shelves, "A"), [10, 0, 6, 4]);
    // Others have what is free; the sale's orders first what is claimed.
    let lacking = vec![Lacking { sku: sku("A"), wanted: 5, free: 4 }];
    assert_eq!(take(order(9), None, &of(&[("A", 5)]), &one(), &mut shelves), Err(Refused::Short(lacking)));
    let mut first = held(1, Some("launch"), &[("A", 4)], &mut shelves);
    let mut second = held(2, Some("launch"), &[("A", 3)], &mut shelves);
    assert_eq!(second.lines[&spot("A")].of_claim, 2, "what was left of it");
    assert_eq!(figures(&shelves, "A"), [10, 7, 0, 3]);
    assert_eq!(second.expire(TimeMs(100), &mut shelves), Ok(true));
    assert_eq!(figures(&shelves, "A"), [10, 4, 2, 4], "the sale can grant it again");
    assert_eq!(claim_of(&shelves, &a, &launch), Claim { left: 2, taken: 4, is_open: true });
    assert_eq!(claims(&mut shelves, 3), Err(Unfit::NotSetAside), "its orders have four");
    claims(&mut shelves, 5).unwrap();
    let gives_back = |shelves: &mut Shelves| shelves.get_mut(&spot("A")).unwrap().return_claim(&launch);
    assert_eq!((gives_back(&mut shelves), gives_back(&mut shelves)), (Ok(1), Ok(0)));
    assert_eq!(figures(&shelves, "A"), [10, 4, 0, 6]);
    assert_eq!(first.release(&mut shelves), Ok(true));
    assert_eq!(figures(&shelves, "A"), [10, 0, 0, 10], "the sale has no use for it any more");
    assert_eq!(claim_of(&shelves, &a, &launch), Claim { left: 0, taken: 0, is_open: false });
    assert_folds(&shelves);
}

#[test]
fn no_more_comes_back_than_was_shipped() {
    let mut shelves = stocked(&[("A", 10), ("B", 10)]);
    let mut reservation = held(1, None, &[("A", 4)], &mut shelves);
    let early = reservation.take_back(&of(&[("A", 1)]), CameBack::Restock, &mut shelves);
    assert_eq!(early, Err(Refused::State(State::Held)));
    reservation.confirm(&one(), &mut shelves).unwrap();
    reservation.ship(&mut shelves).unwrap();
    reservation.take_back(&of(&[("A", 3)]), CameBack::Restock, &mut shelves).unwrap();
    assert_eq!(figures(&shelves, "A"), [9, 0, 0, 9]);
    for too_much in [of(&[("A", 2)]), of(&[("B", 1)])] {
        let sku = too_much.keys().next().unwrap().clone();
        let before = shelves.clone();
        let said = reservation.take_back(&too_much, CameBack::Restock, &mut shelves);
        assert_eq!((said, &shelves), (Err(Refused::NotShipped(sku)), &before));
    }
    reservation.take_back(&of(&[("A", 1)]), CameBack::Scrap, &mut shelves).unwrap();
    assert_eq!(figures(&shelves, "A"), [9, 0, 0, 9], "it came back, and is not to be sold again");
    assert_folds(&shelves);
}

/// A unit in the oracle's warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Free,
    Claimed(SaleId),
    /// And from whose claim it came.
    Order(OrderId, Option<SaleId>),
}

/// The oracle: it finds units one by one and relabels them.
#[derive(Debug, Default)]
struct Oracle {
    units: BTreeMap<Sku, Vec<Label>>,
    open_sales: BTreeSet<(SaleId, Sku)>,
}

impl Oracle {
    fn level(&self, sku: &Sku) -> [u64; 4] {
        let units = self.units.get(sku).map_or(&[][..], Vec::as_slice);
        let count = |is: fn(&Label) -> bool| units.iter().filter(|unit| is(unit)).count() as u64;
        [
            units.len() as u64,
            count(|unit| matches!(unit, Label::Order(..))),
            count(|unit| matches!(unit, Label::Claimed(_))),
            count(|unit| matches!(unit, Label::Free)),
        ]
    }

    fn reserve(&mut self, order: OrderId, sale: Option<&SaleId>, basket: &Basket) -> bool {
        let mut after = self.units.clone();
        for (sku, wanted) in basket {
            let units = after.entry(sku.clone()).or_default();
            for _ in 0..*wanted {
                let claimed = units
                    .iter()
                    .position(|unit| sale.is_some_and(|sale| *unit == Label::Claimed(sale.clone())));
                let free = units.iter().position(|unit| *unit == Label::Free);
                let Some(at) = claimed.or(free) else { return false };
                units[at] = Label::Order(order, claimed.and(sale).cloned());
            }
        }
        self.units = after;
        true
    }

    fn give_up(&mut self, order: OrderId) {
        for (sku, units) in &mut self.units {
            for unit in units {
                let Label::Order(of, from) = unit else { continue };
                if *of == order {
                    let back =
                        from.clone().filter(|sale| self.open_sales.contains(&(sale.clone(), sku.clone())));
                    *unit = back.map_or(Label::Free, Label::Claimed);
                }
            }
        }
    }

    fn ship(&mut self, order: OrderId) {
        for units in self.units.values_mut() {
            units.retain(|unit| !matches!(unit, Label::Order(of, _) if *of == order));
        }
    }
}

/// Random commands on a small stock: the core and the oracle agree after each.
#[test]
fn the_core_agrees_with_a_warehouse_of_labelled_units() {
    let names = ["A", "B", "C"];
    let sales = ["launch", "night"].map(sale);
    for seed in 1..=300 {
        let mut random = Prng::new(seed);
        let mut shelves = stocked(&names.map(|name| (name, 6)));
        let mut oracle = Oracle::default();
        for name in names {
            oracle.units.insert(sku(name), vec![Label::Free; 6]);
        }
        let mut reservations = BTreeMap::<OrderId, Reservation>::new();
        let mut done = 0;
        for step in 0..120u64 {
            let (number, name) = (random.below(8) as u8, *random.pick(&names));
            let of_sale = random.percent(50).then(|| sales[random.below(2) as usize].clone());
            let now = TimeMs(step);
            match random.below(8) {
                0 | 1 => {
                    let mut lines = vec![line(name, 1 + random.below(3) as u32)];
                    let other = *random.pick(&names);
                    lines.extend(random.percent(50).then(|| line(other, 1)));
                    let basket = basket(&lines).unwrap();
                    if reservations.contains_key(&order(number)) {
                        continue;
                    }
                    let taken = take(order(number), of_sale.as_ref(), &basket, &one(), &mut shelves);
                    let want = oracle.reserve(order(number), of_sale.as_ref(), &basket);
                    assert_eq!(taken.is_ok(), want, "seed {seed}, step {step}: {taken:?}");
                    let Ok(taken) = taken else { continue };
                    let new = new(order(number), of_sale, TimeMs(step + 20), taken);
                    reservations.insert(order(number), new);
                }
                2 => {
                    let Some(of) = reservations.get_mut(&order(number)) else { continue };
                    let was = of.state;
                    let (confirmed, basket) = (of.confirm(&one(), &mut shelves), of.basket());
                    if was == State::Expired {
                        let want = oracle.reserve(of.order, of.sale.as_ref(), &basket);
                        assert_eq!(confirmed.is_ok(), want, "seed {seed}, step {step}");
                    }
                }
                3 => {
                    let Some(of) = reservations.get_mut(&order(number)) else { continue };
                    let was = of.state;
                    let _ = of.ship(&mut shelves);
                    if was == State::Confirmed {
                        oracle.ship(of.order);
                    }
                }
                4 => {
                    // Released and shipped ones make room for new orders of the same number.
                    let Some(mut of) = reservations.remove(&order(number)) else { continue };
                    if of.state == State::Shipped {
                        continue;
                    }
                    assert!(of.release(&mut shelves).is_ok());
                    oracle.give_up(of.order);
                }
                5 => {
                    for of in reservations.values_mut() {
                        if of.expire(now, &mut shelves) == Ok(true) {
                            oracle.give_up(of.order);
                        }
                    }
                }
                6 => {
                    let Some(of_sale) = of_sale else { continue };
                    let taken = claim_of(&shelves, &sku(name), &of_sale).taken;
                    if random.percent(30) {
                        shelves.get_mut(&spot(name)).unwrap().return_claim(&of_sale).unwrap();
                        oracle.open_sales.remove(&(of_sale.clone(), sku(name)));
                        for unit in oracle.units.get_mut(&sku(name)).unwrap() {
                            if *unit == Label::Claimed(of_sale.clone()) {
                                *unit = Label::Free;
                            }
                        }
                        continue;
                    }
                    let left = random.below(5);
                    let units = oracle.units.get_mut(&sku(name)).unwrap();
                    let mine = Label::Claimed(of_sale.clone());
                    let has = units.iter().filter(|unit| **unit == mine).count() as u64;
                    let free = units.iter().filter(|unit| **unit == Label::Free).count() as u64;
                    let fits = left <= has + free;
                    let claimed = claim(&mut shelves, &one(), &sku(name), &of_sale, taken + left);
                    assert_eq!(claimed.is_ok(), fits, "seed {seed}, step {step}");
                    if fits {
                        oracle.open_sales.insert((of_sale.clone(), sku(name)));
                        for _ in has..left {
                            let at = units.iter().position(|unit| *unit == Label::Free).unwrap();
                            units[at] = mine.clone();
                        }
                        for _ in left..has {
                            let at = units.iter().position(|unit| *unit == mine).unwrap();
                            units[at] = Label::Free;
                        }
                    }
                }
                _ => {
                    let change = random.below(9) as i64 - 4;
                    let fits =
                        shelves.get_mut(&spot(name)).unwrap().change(Change::Adjust { change }).is_ok();
                    let units = oracle.units.get_mut(&sku(name)).unwrap();
                    let free = units.iter().filter(|unit| **unit == Label::Free).count() as i64;
                    assert_eq!(fits, -change <= free, "seed {seed}, step {step}: {change}");
                    if fits {
                        units.extend((0..change).map(|_| Label::Free));
                        for _ in change..0 {
                            let at = units.iter().position(|unit| *unit == Label::Free).unwrap();
                            units.remove(at);
                        }
                    }
                }
            }
            done += 1;
            for name in names {
                assert_eq!(
                    figures(&shelves, name),
                    oracle.level(&sku(name)),
                    "seed {seed}, step {step}: {name}"
                );
            }
        }
        assert!(done > 30, "seed {seed}: {done} commands did something");
        assert_folds(&shelves);
    }
}
