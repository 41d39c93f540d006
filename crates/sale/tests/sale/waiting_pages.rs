//! Who waits, read page by page: every place once, in the order in which they were given, whatever
//! the size of a page, and with work that does not grow with the waitlist.

use crate::ledger::{Ledger, OPENS, spec};
use contracts::{
    Answer, Attempt, AttemptId, Basket, Operation, Place, SaleSpec, SealedShopper, ShopperKey, WaitingPlace,
    WaitingQuery, Waitlist,
};
use runtime::Step;
use sale::core::{Core, SoFar, WAITING_PAGE_MAX};
use std::time::{Duration, Instant};
use units::{Prng, Sequence, TimeMs};

fn pages(core: &Core, item: Option<u16>, max: usize) -> Vec<WaitingPlace> {
    let mut all: Vec<WaitingPlace> = Vec::new();
    let mut after = Sequence(0);
    loop {
        let page = core.waiting(&WaitingQuery { item, after, max });
        assert!(page.len() <= max);
        let Some(last) = page.last() else { return all };
        assert!(page.len() == max || core.waiting(&WaitingQuery { item, after: last.as_of, max }).is_empty());
        after = last.as_of;
        all.extend(page);
    }
}

#[test]
fn pages_have_every_place_once_in_order() {
    let mut l = Ledger::open(SaleSpec { waitlist: Waitlist::Places(200), ..spec(5) });
    for n in 1..=5 {
        assert_eq!(l.buy(n, n, &[(0, 1)]), "granted held");
    }
    assert_eq!(l.buy(6, 6, &[(1, 5)]), "granted held");
    let mut prng = Prng::new(3);
    // Shopper, item and quantity of all who wait, in order.
    let mut model: Vec<(u8, u16, u16, u32)> = Vec::new();
    for n in 10..120_u8 {
        let item = prng.below(2) as u16;
        let quantity = if item == 1 { 1 + prng.below(5) as u16 } else { 1 };
        match l.attempt(n, n, &[(item, quantity)]) {
            Answer::Waitlisted { position, place: Place::Waiting } => {
                model.push((n, item, quantity, position))
            }
            other => panic!("{other:?}"),
        }
        if prng.percent(30) {
            let (left, ..) = model.remove(prng.below(model.len() as u64) as usize);
            l.release(left);
        }
        if n % 20 == 0 {
            for (item, max) in [(None, 1), (None, 7), (None, 200), (Some(0), 3), (Some(1), 3), (Some(1), 200)]
            {
                let want: Vec<_> =
                    model.iter().filter(|of| item.is_none_or(|item| of.1 == item)).copied().collect();
                let got = pages(&l.core, item, max);
                let brief = |of: &WaitingPlace| {
                    (of.shopper.0[0], of.basket[0].item, of.basket[0].quantity, of.position)
                };
                assert_eq!(got.iter().map(brief).collect::<Vec<_>>(), want, "{item:?} {max}");
                assert!(got.iter().all(|of| of.attempt.0[0] == of.shopper.0[0]));
                assert!(got.is_sorted_by(|a, b| a.as_of < b.as_of));
            }
        }
    }
    // A turn that has come is none of them any more.
    l.release(1);
    let first = model.iter().position(|of| of.1 == 0).unwrap();
    model.remove(first);
    assert_eq!(pages(&l.core, None, 50).len(), model.len());
}

#[test]
fn a_page_of_a_long_waitlist_is_cheap_and_bounded() {
    const WAITING: u32 = 100_000;
    let mut core = Core::new();
    let mut step = Step::default();
    let spec = SaleSpec { waitlist: Waitlist::Places(WAITING), ..spec(1) };
    let by = contracts::Actor::new("ops", "test");
    let define = Operation::Define(Box::new(spec));
    core.operate(TimeMs(OPENS - 1), by, define, SoFar::default(), &mut step).unwrap();
    for n in 0..=WAITING {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        let sealed = SealedShopper::new(&[1]).unwrap();
        let (id, shopper, basket) = (AttemptId(bytes), ShopperKey(bytes), Basket::single(0, 1));
        step.clear();
        let _ = core.tick(TimeMs(OPENS), &mut step).unwrap();
        let answer =
            core.attempt(TimeMs(OPENS), &Attempt { id, shopper, sealed, tier: 0, basket }, &mut step);
        match n {
            0 => assert!(matches!(answer, Ok(Answer::Granted(_)))),
            _ => assert!(matches!(answer, Ok(Answer::Waitlisted { .. })), "{n}: {answer:?}"),
        }
    }
    let all = core.waiting(&WaitingQuery { item: None, after: Sequence(0), max: usize::MAX });
    assert_eq!(all.len(), WAITING_PAGE_MAX, "whatever was asked for");
    let late = core.sequence().0 - 50;
    let began = Instant::now();
    for _ in 0..1000 {
        let page = core.waiting(&WaitingQuery { item: None, after: Sequence(late), max: 100 });
        assert_eq!(page.len(), 50);
    }
    // Two milliseconds each: a walk through the list would take tens of times as long.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
