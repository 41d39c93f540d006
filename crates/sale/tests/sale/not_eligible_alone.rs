//! Which shoppers a gate may call not eligible from the sale's view: the view has the deny list of
//! its own entry, and its refusals are those that the sale itself would give.

use crate::ledger::{Ledger, OPENS, key, spec};
use contracts::ShopperKey;
use contracts::*;
use sale::core::{Core, Record};
use units::{Prng, Sequence};

const PHONE: u16 = 0;

fn view(core: &Core) -> SaleView {
    core.view(&"launch".parse().unwrap(), false).unwrap()
}

fn deny(l: &mut Ledger, clear: bool, shoppers: &[u8]) {
    let shoppers = shoppers.iter().map(|n| key(*n)).collect();
    l.operate(Operation::List { list: ListKind::Denied, clear, shoppers }).unwrap();
}

fn told(view: &SaleView, shopper: u8) -> Option<GateRefusal> {
    view.alone(key(shopper), shopper, &Basket::single(PHONE, 1), || false)
}

fn not_eligible(by: IneligibleBy, first: u64, last: u64) -> Option<GateRefusal> {
    let (first_as_of, last_as_of) = (Sequence(first), Sequence(last));
    Some(GateRefusal::NotEligible(NotEligibleRange { by, first_as_of, last_as_of, count: 1 }))
}

#[test]
fn the_sales_view_has_the_deny_list_of_its_entry() {
    let by_list = |first, last| not_eligible(IneligibleBy::DenyList, first, last);
    let mut l = Ledger { core: Core::new(), now: OPENS - 1000, log: vec![] };
    l.operate(Operation::Define(Box::new(spec(5)))).unwrap();
    deny(&mut l, true, &[7, 8]);
    assert_eq!(told(&view(&l.core), 7), None, "who asks before the opening is told that it is not open");
    l.at(OPENS);
    let opened = view(&l.core);
    assert_eq!(opened.as_of, Sequence(3));
    assert_eq!((told(&opened, 7), told(&opened, 9)), (by_list(3, 3), None), "from the opening on");
    deny(&mut l, false, &[9, 8]);
    l.buy(1, 1, &[(PHONE, 1)]);
    let longer = view(&l.core);
    assert_eq!((told(&longer, 7), told(&longer, 9)), (by_list(4, 5), by_list(4, 5)));
    assert_eq!(longer.alone(key(7), 7, &Basket::single(PHONE, 1), || true), None, "they may have something");
    assert_eq!((longer.denied.len(), longer.denied.since()), (3, Sequence(4)));

    // A restart finds the same list of the same entry, in the log and in a snapshot.
    let (mut replayed, restored) = (Core::new(), Core::restore(&l.core.snapshot()).unwrap());
    for (at, bytes) in l.log.iter().enumerate() {
        runtime::replay_entry(&mut replayed, Sequence(at as u64 + 1), bytes).unwrap();
    }
    for again in [&view(&replayed), &view(&restored)] {
        assert_eq!(told(again, 9), by_list(4, 5));
        assert_eq!((again.denied.len(), again.denied.since()), (3, Sequence(4)));
        assert!([7, 8, 9].iter().all(|n| again.denied.contains(key(*n))) && !again.denied.contains(key(1)));
    }

    l.operate(Operation::Pause).unwrap();
    assert_eq!(told(&view(&l.core), 7), None, "paused, and that is what is said");
    l.operate(Operation::Resume).unwrap();
    assert_eq!(told(&view(&l.core), 7), by_list(7, 7), "open again since then");
    assert_eq!(told(&l.core.view(&"launch".parse().unwrap(), true).unwrap(), 7), None, "the disk is full");
    deny(&mut l, true, &[]);
    let cleared = view(&l.core);
    assert!(cleared.denied.is_empty() && told(&cleared, 7).is_none());
    assert_eq!(told(&longer, 7), by_list(4, 5), "an earlier view says what was so then");
    deny(&mut l, true, &[9]);
    assert_eq!((told(&view(&l.core), 7), told(&view(&l.core), 9)), (None, by_list(9, 9)));
    l.operate(Operation::Close).unwrap();
    assert_eq!(told(&view(&l.core), 9), None, "closed, and that is what is said");
}

#[test]
fn a_gate_refuses_a_lower_tier_by_the_sales_document_alone() {
    let mut l = Ledger::open(SaleSpec { eligibility: Eligibility::Tier { min: 5 }, ..spec(5) });
    let seen = view(&l.core);
    assert_eq!(told(&seen, 4), not_eligible(IneligibleBy::Tier, 2, 2));
    assert_eq!(told(&seen, 5), None);
    deny(&mut l, true, &[4]);
    assert_eq!(
        told(&view(&l.core), 4),
        not_eligible(IneligibleBy::DenyList, 3, 3),
        "what operators look for"
    );
}

/// Lists and stock at random: the view's answer to a shopper who has nothing is the sale's answer
/// too. The view refuses every shopper whom the deny list or the tier bars.
#[test]
fn a_gates_refusals_are_those_of_the_sale() {
    let (mut prng, mut by_view) = (Prng::new(5), [0; 2]);
    for round in 0..60 {
        let eligibility = if round % 2 == 0 { Eligibility::Everyone } else { Eligibility::Tier { min: 100 } };
        let places = Waitlist::Places(prng.below(2) as u32);
        let mut l = Ledger::open(SaleSpec { eligibility, waitlist: places, ..spec(2) });
        for n in 0..20 {
            if prng.percent(25) {
                let chosen: Vec<u8> = (0..prng.below(40)).map(|_| prng.below(200) as u8).collect();
                deny(&mut l, prng.percent(50), &chosen);
            }
            // No shopper twice, so that none has anything.
            let shopper = n * 10 + prng.below(10) as u8;
            let item = prng.below(2) as u16;
            let said = view(&l.core).alone(key(shopper), shopper, &Basket::single(item, 1), || false);
            let answer = l.attempt(n, shopper, &[(item, 1)]);
            match said {
                Some(said) => {
                    assert_eq!(said.answer(), answer);
                    by_view[usize::from(matches!(said, GateRefusal::NotEligible(_)))] += 1;
                }
                None => assert!(!matches!(
                    answer,
                    Answer::Refused { refusal: Refusal::NotEligible | Refusal::SoldOut, .. }
                )),
            }
        }
    }
    assert!(by_view.iter().all(|count| *count > 50), "{by_view:?}");
}

#[test]
fn refusals_by_gates_are_logged_by_their_kind() {
    let mut l = Ledger::open(SaleSpec { waitlist: Waitlist::Places(0), ..spec(1) });
    deny(&mut l, true, &[7]);
    l.buy(1, 1, &[(PHONE, 1)]);
    let seen = view(&l.core);
    let (denied, sold_out) = (told(&seen, 7).unwrap(), told(&seen, 2).unwrap());
    let future = GateRefusal::NotEligible(NotEligibleRange {
        by: IneligibleBy::DenyList,
        first_as_of: Sequence(4),
        last_as_of: Sequence(99),
        count: 1,
    });
    let mut out = runtime::Step::default();
    let now = units::TimeMs(l.now);
    l.core.gate_refusals(now, &[denied, sold_out, future], &mut out).unwrap();
    let logged: Vec<Record> =
        out.batch().entries().map(|bytes| sale::core::Entry::decode(bytes).unwrap().record).collect();
    let (GateRefusal::NotEligible(denied), GateRefusal::SoldOut(sold_out)) = (denied, sold_out) else {
        panic!()
    };
    assert_eq!(
        logged,
        [Record::GateRefusals { entries: vec![sold_out] }, Record::GateNotEligible { entries: vec![denied] }]
    );
    let outcomes = l.core.stats().outcomes;
    assert_eq!((outcomes["not_eligible"], outcomes["sold_out"]), (1, 1));
}

/// The same list is uploaded again and again: it does not grow.
#[test]
fn uploading_the_same_deny_list_again_does_not_grow_it() {
    let mut l = Ledger::open(spec(1));
    let some: Vec<ShopperKey> = (0..100).map(key).collect();
    for _ in 0..50 {
        let shoppers = [some.clone(), some.clone()].concat();
        l.operate(Operation::List { list: ListKind::Denied, clear: false, shoppers }).unwrap();
    }
    let seen = view(&l.core);
    assert_eq!((seen.denied.len(), seen.denied.runs().len()), (100, 1));
    assert_eq!(l.core.stats().denied, 100);
}
