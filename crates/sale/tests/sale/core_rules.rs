//! The rules, as ledgers.

use crate::forged_logs::HOLD_MS;
use crate::ledger::{CLOSES, HOLD_SECONDS, Ledger, OPENS, by, id, key, spec};
use contracts::*;
use sale::core::{Record, RefusalKind};
use units::{Sequence, TimeMs};

const PHONE: u16 = 0;
const CASE: u16 = 1;

fn no_waitlist(stock: u64) -> SaleSpec {
    SaleSpec { waitlist: Waitlist::Places(0), ..spec(stock) }
}

fn waitlist(stock: u64, places: u32) -> SaleSpec {
    SaleSpec { waitlist: Waitlist::Places(places), ..spec(stock) }
}

#[test]
fn exactly_the_stock_is_sold() {
    let mut l = Ledger::open(no_waitlist(2));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "sold_out");
    assert_eq!(l.pay(1, "p1"), "confirmed");
    assert_eq!(l.stock(0), (0, 1, 1, 0));
}

#[test]
fn a_repeated_attempt_gets_the_same_answer() {
    let mut l = Ledger::open(waitlist(1, 5));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1");
    assert_eq!(l.pay(1, "p"), "confirmed");
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted confirmed");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1");
    l.at(CLOSES);
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted confirmed");
    assert_eq!(l.buy(9, 9, &[(PHONE, 1)]), "closed");
}

#[test]
fn a_key_reused_for_another_basket_or_shopper_is_refused() {
    let mut l = Ledger::open(spec(5));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(1, 1, &[(CASE, 1)]), "key_reused");
    assert_eq!(l.buy(1, 2, &[(PHONE, 1)]), "key_reused");
    assert_eq!(l.stock(0), (4, 1, 0, 0));
}

#[test]
fn a_retry_after_a_refusal_is_decided_afresh() {
    let mut l = Ledger::open(no_waitlist(1));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "sold_out");
    l.release(1);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held");
}

#[test]
fn a_basket_is_all_or_nothing() {
    let mut l = Ledger::open(no_waitlist(2));
    assert_eq!(l.buy(1, 1, &[(CASE, 2)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1), (CASE, 1)]), "sold_out");
    assert_eq!(l.stock(0), (2, 0, 0, 0));
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "granted held");
}

#[test]
fn limit_reached_names_the_attempt_that_holds_the_unit() {
    let mut l = Ledger::open(spec(10));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1), (CASE, 3)]), "granted held");
    assert_eq!(l.buy(2, 1, &[(PHONE, 1)]), "limit_reached 1");
    assert_eq!(l.buy(3, 1, &[(CASE, 2)]), "granted held");
    assert_eq!(l.buy(4, 1, &[(CASE, 1)]), "limit_reached 3");
    assert_eq!(l.buy(5, 2, &[(PHONE, 2)]), "limit_reached", "the basket alone is over");
    l.release(1);
    assert_eq!(l.buy(2, 1, &[(PHONE, 1)]), "granted held", "what was given back does not count");
}

#[test]
fn a_place_on_the_waitlist_counts_against_the_limit() {
    let mut l = Ledger::open(waitlist(1, 5));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1");
    assert_eq!(l.buy(3, 2, &[(PHONE, 1)]), "limit_reached 2");
    l.release(2);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
    assert_eq!(l.buy(3, 2, &[(PHONE, 1)]), "waitlisted 1");
}

#[test]
fn the_sale_limit_spans_rounds() {
    let mut two = SaleSpec { limit_per_shopper: 2, ..spec(10) };
    let mut second = two.rounds[0].clone();
    (second.opens_at, second.closes_at) = (TimeMs(CLOSES + 1000), TimeMs(CLOSES + 2000));
    two.rounds.push(second);
    let mut l = Ledger::open(two);
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.pay(1, "p1"), "confirmed");
    assert_eq!(l.buy(2, 1, &[(PHONE, 1)]), "limit_reached 1");
    l.at(CLOSES);
    assert_eq!(l.buy(3, 1, &[(PHONE, 1)]), "not_open");
    l.at(CLOSES + 1000);
    assert_eq!(l.stock(0), (19, 0, 1, 0), "the first round's rest is sold on");
    assert_eq!(l.buy(3, 1, &[(PHONE, 1)]), "granted held", "the round's limit starts anew");
    assert_eq!(l.buy(4, 1, &[(CASE, 1)]), "limit_reached 3", "the sale's does not");
}

#[test]
fn attempts_before_the_opening_take_no_stock() {
    // newbee-ltd/newbee-mall#97
    let mut l = Ledger { core: sale::core::Core::new(), now: OPENS - 1000, log: vec![] };
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "not_open", "not even set up");
    l.operate(Operation::Define(Box::new(spec(1)))).unwrap();
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "not_open");
    l.at(OPENS);
    assert_eq!(l.stock(0), (1, 0, 0, 0));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held", "and the early key is as good as any");
}

#[test]
fn an_unpaid_hold_expires_and_its_unit_is_sold_again() {
    let mut l = Ledger::open(no_waitlist(1));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    l.at(OPENS + HOLD_SECONDS * 1000 - 1);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "sold_out");
    l.at(OPENS + HOLD_SECONDS * 1000);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted expired");
}

#[test]
fn freed_units_go_to_the_first_place_that_they_fit() {
    let mut l = Ledger::open(waitlist(2, 9));
    assert_eq!(l.buy(1, 1, &[(CASE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(CASE, 1)]), "granted held");
    assert_eq!(l.buy(3, 3, &[(CASE, 2)]), "waitlisted 1");
    assert_eq!(l.buy(4, 4, &[(CASE, 1)]), "waitlisted 2");
    l.release(1);
    assert_eq!(l.buy(4, 4, &[(CASE, 1)]), "waitlisted 2 held", "one is free, and two do not fit");
    assert_eq!(l.buy(3, 3, &[(CASE, 2)]), "waitlisted 1", "which keeps its place");
    l.release(2);
    assert_eq!(l.stock(1), (1, 1, 0, 1));
    assert_eq!(l.buy(5, 5, &[(CASE, 1)]), "granted held", "overtaken only by what fits where it does not");
    l.release(5);
    l.release(4);
    assert_eq!(l.buy(3, 3, &[(CASE, 2)]), "waitlisted 1 held");
}

#[test]
fn no_place_is_given_for_more_units_than_the_sale_has() {
    let mut l = Ledger::open(waitlist(2, 9));
    assert_eq!(l.buy(1, 1, &[(CASE, 3)]), "sold_out");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1), (CASE, 3)]), "sold_out", "baskets do not wait");
}

#[test]
fn the_waitlist_is_capped() {
    let mut l = Ledger::open(waitlist(1, 1));
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1");
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "sold_out");
}

#[test]
fn a_late_payment_follows_the_policy() {
    let late = OPENS + HOLD_SECONDS * 1000 + 1;
    let mut l = Ledger::open(no_waitlist(1));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.at(late);
    assert_eq!(l.pay(1, "p1"), "confirmed late", "the unit is still there");
    assert_eq!(l.pay(1, "p1"), "confirmed late", "and stays theirs");
    assert_eq!(l.stock(0), (0, 0, 1, 0));

    let mut l = Ledger::open(no_waitlist(1));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.at(late);
    l.buy(2, 2, &[(PHONE, 1)]);
    assert_eq!(l.pay(1, "p1"), "refund", "another shopper has it");
    l.release(2);
    assert_eq!(l.pay(1, "p1"), "refund", "and a refund is final");

    let mut l = Ledger::open(SaleSpec { late_payment: LatePayment::Refund, ..no_waitlist(1) });
    l.buy(1, 1, &[(PHONE, 1)]);
    l.at(late);
    assert_eq!(l.pay(1, "p1"), "refund");
    assert_eq!(l.stock(0), (1, 0, 0, 0));
}

#[test]
fn a_late_payment_does_not_lift_the_limit() {
    let mut l = Ledger::open(no_waitlist(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.at(OPENS + HOLD_SECONDS * 1000);
    assert_eq!(l.buy(2, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.pay(1, "p1"), "refund");
    assert_eq!(l.pay(2, "p2"), "confirmed");
}

#[test]
fn a_payment_at_the_deadline_is_late_even_before_the_timer_ran() {
    let mut l = Ledger::open(SaleSpec { late_payment: LatePayment::Refund, ..no_waitlist(1) });
    l.buy(1, 1, &[(PHONE, 1)]);
    l.now = OPENS + HOLD_SECONDS * 1000;
    assert_eq!(l.pay(1, "p1"), "refund");
}

#[test]
fn a_repeated_payment_message_takes_stock_once() {
    // mollie/WooCommerce#1252
    let mut l = Ledger::open(spec(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(l.pay(1, "p1"), "confirmed");
    assert_eq!(l.pay(1, "p1"), "confirmed");
    assert_eq!(l.pay(1, "another"), "refund", "paid twice: the second goes back");
    assert_eq!(l.stock(0), (1, 0, 1, 0));
}

#[test]
fn a_void_returns_the_stock_once_and_a_payment_for_it_is_refunded() {
    let mut l = Ledger::open(waitlist(2, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    l.buy(3, 3, &[(PHONE, 1)]);
    l.pay(1, "p1");
    let void = |l: &mut Ledger, n| l.operate(Operation::Void(VoidTarget::Attempts(vec![id(n)])));
    assert_eq!(void(&mut l, 1), Ok(OperationDone::Voided { count: 1 }));
    assert_eq!(void(&mut l, 1), Ok(OperationDone::Voided { count: 0 }));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted voided");
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "waitlisted 1 held");
    assert_eq!(l.pay(1, "p1"), "refund", "voided after it was paid");
    assert_eq!(
        l.operate(Operation::Void(VoidTarget::Shopper(key(3)))),
        Ok(OperationDone::Voided { count: 1 })
    );
    assert_eq!(l.stock(0), (1, 1, 0, 0));
    assert!(matches!(void(&mut l, 99), Err(OperateError::NotFound(_))));
}

#[test]
fn an_adjustment_never_takes_units_that_are_promised() {
    let mut l = Ledger::open(waitlist(3, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    let adjust = |l: &mut Ledger, delta| l.operate(Operation::Adjust { item: PHONE, delta });
    assert!(matches!(adjust(&mut l, -3), Err(OperateError::Conflict(_))));
    assert_eq!(adjust(&mut l, -2), Ok(OperationDone::Adjusted { free: 0 }));
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1");
    assert_eq!(adjust(&mut l, 1), Ok(OperationDone::Adjusted { free: 0 }));
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 held");
}

#[test]
fn a_paused_sale_answers_paused_and_promotes_on_resume() {
    let mut l = Ledger::open(waitlist(1, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    l.operate(Operation::Pause).unwrap();
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "paused");
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    l.release(1);
    assert_eq!(l.stock(0), (1, 0, 0, 1));
    assert_eq!(l.pay(1, "p1"), "refund", "a late claim does not overtake the waitlist");
    l.operate(Operation::Resume).unwrap();
    assert_eq!(l.stock(0), (0, 1, 0, 0));
}

#[test]
fn tier_lists_and_reservations_decide_who_may_buy() {
    let with = |eligibility| SaleSpec { eligibility, ..spec(5) };
    let mut l = Ledger::open(with(Eligibility::Tier { min: 3 }));
    assert_eq!(l.buy(1, 2, &[(PHONE, 1)]), "not_eligible");
    assert_eq!(l.buy(2, 3, &[(PHONE, 1)]), "granted held");

    let mut l = Ledger::open(with(Eligibility::List));
    let list = |list, clear, shoppers| Operation::List { list, clear, shoppers };
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "not_eligible");
    l.operate(list(ListKind::Allowed, true, vec![key(1), key(2)])).unwrap();
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    l.operate(list(ListKind::Denied, true, vec![key(2)])).unwrap();
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "not_eligible");
    l.operate(list(ListKind::Denied, true, vec![])).unwrap();
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held");

    let mut l = Ledger { core: sale::core::Core::new(), now: OPENS - 1000, log: vec![] };
    l.operate(Operation::Define(Box::new(with(Eligibility::Reservation)))).unwrap();
    let reserve = |who, reserved| Operation::Reserve { shopper: key(who), reserved };
    l.operate(reserve(1, true)).unwrap();
    l.operate(reserve(2, true)).unwrap();
    l.operate(reserve(2, false)).unwrap();
    l.at(OPENS);
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "not_eligible");
    assert!(matches!(l.operate(reserve(3, true)), Err(OperateError::Conflict(_))));
}

#[test]
fn of_several_rules_each_must_hold() {
    let all = Eligibility::All { reservation: true, list: true, tier_min: 2 };
    let mut l = Ledger { core: sale::core::Core::new(), now: OPENS - 1000, log: vec![] };
    l.operate(Operation::Define(Box::new(SaleSpec { eligibility: all, ..spec(5) }))).unwrap();
    let listed = vec![key(1), key(2), key(4)];
    l.operate(Operation::List { list: ListKind::Allowed, clear: true, shoppers: listed }).unwrap();
    for who in [1, 3, 4] {
        l.operate(Operation::Reserve { shopper: key(who), reserved: true }).unwrap();
    }
    l.at(OPENS);
    // A shopper's number is the tier.
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "not_eligible", "tier 1");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "not_eligible", "no reservation");
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "not_eligible", "not listed");
    assert_eq!(l.buy(4, 4, &[(PHONE, 1)]), "granted held");
}

#[test]
fn refusals_are_journalled_before_they_could_become_untrue() {
    let mut l = Ledger::open(no_waitlist(1));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    l.buy(3, 3, &[(PHONE, 1)]);
    l.release(1);
    let records = l.records();
    let (refusals, released) = (&records[records.len() - 2], &records[records.len() - 1]);
    assert!(matches!(released, Record::Released { .. }));
    let Record::Refusals { entries } = refusals else { panic!("{refusals:?}") };
    assert_eq!((entries[0].kind, entries[0].quantity, entries[0].count), (RefusalKind::SoldOut, 1, 2));
}

#[test]
fn refusals_are_journalled_once_a_second() {
    let mut l = Ledger::open(no_waitlist(1));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    assert_eq!(l.core.next_wakeup(), Some(TimeMs(OPENS + 1000)));
    l.at(OPENS + 1000);
    assert!(matches!(l.records().last(), Some(Record::Refusals { .. })));
    let entries = l.log.len();
    l.at(OPENS + 5000);
    assert_eq!(l.log.len(), entries, "nothing to say, nothing logged");
}

#[test]
fn a_clock_that_jumps_back_does_not_move_the_sales_time_back() {
    let mut l = Ledger::open(spec(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.now = OPENS - 50_000;
    let Answer::Granted(hold) = l.attempt(2, 2, &[(PHONE, 1)]) else { panic!() };
    assert_eq!(
        hold.pay_by,
        TimeMs(OPENS + HOLD_SECONDS * 1000),
        "the sale's own time stands still, it never returns"
    );
}

#[test]
fn rounds_follow_the_operator_and_the_clock() {
    let mut l = Ledger { core: sale::core::Core::new(), now: OPENS - 1000, log: vec![] };
    l.operate(Operation::Define(Box::new(spec(1)))).unwrap();
    l.operate(Operation::Open).unwrap();
    assert!(matches!(l.operate(Operation::Open), Err(OperateError::Conflict(_))));
    assert_eq!(l.buy(1, 1, &[(PHONE, 1)]), "granted held", "opened early");
    assert!(matches!(
        l.operate(Operation::Extend { closes_at: TimeMs(CLOSES) }),
        Err(OperateError::Invalid(_))
    ));
    l.operate(Operation::Extend { closes_at: TimeMs(CLOSES + 10) }).unwrap();
    l.at(CLOSES);
    assert_ne!(l.buy(2, 2, &[(CASE, 1)]), "closed");
    l.operate(Operation::Close).unwrap();
    assert_eq!(l.buy(3, 3, &[(CASE, 1)]), "closed");
    assert!(matches!(l.operate(Operation::Define(Box::new(spec(9)))), Err(OperateError::Conflict(_))));
}

#[test]
fn the_waitlist_holds_a_tenth_of_the_stock_by_default() {
    let mut l = Ledger::open(spec(20));
    for n in 1..=20 {
        assert_eq!(l.buy(n, n, &[(PHONE, 1)]), "granted held");
    }
    assert_eq!(l.buy(21, 21, &[(PHONE, 1)]), "waitlisted 1");
    assert_eq!(l.buy(22, 22, &[(PHONE, 1)]), "waitlisted 2");
    assert_eq!(l.buy(23, 23, &[(PHONE, 1)]), "sold_out", "a tenth of 20 are 2 places");
}

#[test]
fn every_payment_is_logged_with_its_reporter() {
    let mut l = Ledger::open(no_waitlist(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(l.pay(1, "pay-1"), "confirmed");
    assert_eq!(l.pay(1, "pay-2"), "refund");
    let records = l.records();
    let [.., Record::Confirmed { by: confirmed, .. }, Record::RefundDue { by: refunded, .. }] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((confirmed, refunded), (&Some(by()), &Some(by())));
}

#[test]
fn giving_up_a_place_is_not_the_end_of_a_hold() {
    let mut l = Ledger::open(waitlist(1, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    for n in 2..4 {
        l.buy(n, n, &[(PHONE, 1)]);
    }
    l.release(2);
    l.operate(Operation::Void(VoidTarget::Attempts(vec![id(3)]))).unwrap();
    let records = l.records();
    let [.., left, taken] = &records[..] else { panic!("{records:?}") };
    assert_eq!(*left, Record::Left { attempt: id(2), voided: false, by: by() });
    assert_eq!(*taken, Record::Left { attempt: id(3), voided: true, by: by() });
    // Older logs record it as the end of a hold.
    let mut old = Ledger::open(waitlist(1, 5));
    old.buy(1, 1, &[(PHONE, 1)]);
    old.buy(2, 2, &[(PHONE, 1)]);
    let mut bytes = Vec::new();
    Record::Released { hold: id(2), by: by() }.encode(TimeMs(OPENS), &mut bytes);
    runtime::replay_entry(&mut old.core, Sequence(old.log.len() as u64 + 1), &bytes).unwrap();
    old.log.push(bytes);
    assert_eq!(old.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
}

#[test]
fn a_lookup_finds_the_basket_however_many_attempts_came_after() {
    let mut l = Ledger::open(no_waitlist(250));
    for n in 1..=120 {
        l.buy(n, 7, &[(CASE, 1)]);
        l.release(n);
    }
    let told: Vec<_> = l.core.shopper(key(7)).attempts;
    assert!(told.len() == 100 && told.iter().all(|a| a.id != id(1)), "the list is bounded");
    let found = l.core.lookup(id(1), key(7));
    assert_eq!(found.basket, Some(Basket::single(CASE, 1)));
    assert_eq!(l.core.lookup(id(1), key(8)).basket, None, "not for another shopper");
}

fn seen(l: &Ledger) -> SaleView {
    l.core.view(&"launch".parse().unwrap(), false).unwrap()
}

#[test]
fn the_public_view_shows_when_the_sale_really_opened_and_closed() {
    let mut l = Ledger { core: sale::core::Core::new(), now: OPENS - 5000, log: vec![] };
    l.operate(Operation::Define(Box::new(spec(1)))).unwrap();
    assert_eq!((seen(&l).opens_at, seen(&l).closes_at), (TimeMs(OPENS), TimeMs(CLOSES)), "as planned");
    l.operate(Operation::Open).unwrap();
    assert_eq!(
        (seen(&l).opens_at, seen(&l).closes_at),
        (TimeMs(OPENS - 5000), TimeMs(CLOSES)),
        "opened early"
    );
    l.at(OPENS + 7000);
    l.operate(Operation::Close).unwrap();
    let closed = seen(&l);
    assert_eq!(
        (closed.opens_at, closed.closes_at),
        (TimeMs(OPENS - 5000), TimeMs(OPENS + 7000)),
        "ended early"
    );
    let mut replayed = sale::core::Core::new();
    for (at, bytes) in l.log.iter().enumerate() {
        runtime::replay_entry(&mut replayed, Sequence(at as u64 + 1), bytes).unwrap();
    }
    let same = |core: &sale::core::Core| {
        format!("{:?}", core.view(&closed.sale, false)) == format!("{:?}", Some(&closed))
    };
    assert!(same(&replayed), "after a restart too");
    assert!(same(&sale::core::Core::restore(&l.core.snapshot()).unwrap()), "and from a snapshot");
}

#[test]
fn an_item_with_free_units_is_never_shown_as_sold_out() {
    let mut l = Ledger::open(no_waitlist(1));
    let states = |l: &Ledger| seen(l).items.iter().map(|i| (i.state, i.offered)).collect::<Vec<_>>();
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(states(&l), [(ItemState::SoldOut, true), (ItemState::Available, true)]);
    l.operate(Operation::Close).unwrap();
    assert_eq!(states(&l), [(ItemState::SoldOut, false), (ItemState::Available, false)], "one case is left");
    l.operate(Operation::Void(VoidTarget::Shopper(key(1)))).unwrap();
    assert_eq!(states(&l), [(ItemState::Available, false), (ItemState::Available, false)]);
}

#[test]
fn a_denied_shopper_in_line_loses_the_place_when_its_turn_comes() {
    let mut l = Ledger::open(waitlist(1, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    l.buy(3, 3, &[(PHONE, 1)]);
    let deny = Operation::List { list: ListKind::Denied, clear: true, shoppers: vec![key(2)] };
    l.operate(deny).unwrap();
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1", "the list may be taken back until then");
    l.release(1);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "waitlisted 2 held");
    let by = Actor::new("timer", "on the deny list");
    assert!(l.records().contains(&Record::Left { attempt: id(2), voided: true, by }));
}

#[test]
fn one_payment_pays_for_one_hold() {
    let mut l = Ledger::open(no_waitlist(3));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    assert_eq!(l.pay(1, "p1"), "confirmed");
    let reused = |l: &mut Ledger, n| l.operate(Operation::Confirm { hold: id(n), payment: "p1".into() });
    let Err(OperateError::Conflict(why)) = reused(&mut l, 2) else { panic!("one payment buys two holds") };
    assert!(why.contains("payment p1 was reported for hold 01010101"), "{why}");
    assert_eq!(l.stock(0), (1, 1, 1, 0));
    let mut restored = Ledger { core: sale::core::Core::restore(&l.core.snapshot()).unwrap(), ..l };
    restored.log = Vec::new();
    assert_eq!(restored.core.stats().items[0].sold, 1);
    let (mut step, now) = (runtime::Step::default(), TimeMs(OPENS));
    let confirm = Operation::Confirm { hold: id(2), payment: "p1".into() };
    let again = restored.core.operate(now, by(), confirm, sale::core::SoFar::default(), &mut step).unwrap();
    let sale::core::Operated::Done(Err(OperateError::Conflict(_))) = again else { panic!("{again:?}") };
}

#[test]
fn a_clock_that_jumps_back_leaves_nothing_due_behind() {
    let mut l = Ledger::open(SaleSpec { late_payment: LatePayment::Refund, ..no_waitlist(2) });
    l.buy(1, 1, &[(PHONE, 1)]);
    let hold_ms = HOLD_SECONDS * 1000;
    // The log's time has passed the hold's end, and the timer has not run since.
    let mut bytes = Vec::new();
    Record::SpaceRegained { since: TimeMs(OPENS), refused: 0 }.encode(TimeMs(OPENS + hold_ms), &mut bytes);
    runtime::replay_entry(&mut l.core, Sequence(l.log.len() as u64 + 1), &bytes).unwrap();
    l.log.push(bytes);
    l.now = OPENS + 1;
    assert_eq!(l.pay(1, "p"), "refund", "the log's time counts");
    assert_eq!(l.stock(0), (2, 0, 0, 0));
}

/// The log's last entry is far ahead of the clock: one of the two is wrong, and a person must say
/// which.
#[test]
fn a_sale_whose_log_is_ahead_of_the_clock_waits_for_an_operator() {
    let mut l = Ledger::open(no_waitlist(3));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.at(OPENS - 60_000);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held", "a minute is borne");
    l.at(OPENS - 60_001);
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "paused");
    let Some(Record::Paused { by }) = l.records().last().cloned() else { panic!("{:?}", l.records()) };
    let reason = "the log's last entry is 60 s ahead of this machine's clock";
    assert_eq!(by, Actor::new("clock", reason));
    assert_eq!(seen(&l).pause, Some(PauseCause::Clock));
    assert_eq!(l.core.stats().pause.map(|pause| pause.cause), Some(PauseCause::Clock));
    l.operate(Operation::Resume).unwrap();
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "granted held", "told to go on, it goes on");
    assert_eq!(seen(&l).pause, None);
    let restored = sale::core::Core::restore(&l.core.snapshot()).unwrap();
    let mut step = runtime::Step::default();
    let mut restored = Ledger { core: restored, now: l.now, log: Vec::new() };
    let _ = restored.core.tick(TimeMs(restored.now), &mut step).unwrap();
    assert!(step.batch().is_empty(), "after a restart too");
    // A pause of an operator's own does not hide it.
    let mut l = Ledger::open(no_waitlist(3));
    l.operate(Operation::Pause).unwrap();
    assert_eq!(seen(&l).pause, Some(PauseCause::Operator));
    l.at(OPENS - 1_000_000);
    assert_eq!(seen(&l).pause, Some(PauseCause::Clock));
}

#[test]
fn payments_that_must_be_refunded_are_counted() {
    let mut l = Ledger::open(no_waitlist(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(l.pay(1, "p1"), "confirmed");
    assert_eq!(l.pay(1, "p2"), "refund", "paid twice");
    l.operate(Operation::Void(VoidTarget::Attempts(vec![id(1)]))).unwrap();
    assert_eq!(l.pay(1, "p3"), "refund", "voided");
    assert_eq!(l.pay(1, "p3"), "refund", "and reported again");
    assert_eq!(l.core.stats().refunds_due, 2);
    let restored = sale::core::Core::restore(&l.core.snapshot()).unwrap();
    assert_eq!(restored.stats(), l.core.stats());
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds() && report.refunds_due == 2, "{report:#?}");
}

/// A backup may end anywhere between two batches, also between two promotions.
#[test]
fn a_restored_copy_is_paused_wherever_its_backup_ended() {
    let mut released = Ledger::open(waitlist(1, 5));
    released.buy(1, 1, &[(PHONE, 1)]);
    released.buy(2, 2, &[(PHONE, 1)]);
    released.release(1);
    let mut log = released.log.clone();
    assert!(matches!(released.records().last(), Some(Record::Promoted { .. })));
    log.pop();
    let mut pause = Vec::new();
    Record::Paused { by: Actor::new("restore", "restored from a backup") }.encode(TimeMs(OPENS), &mut pause);
    log.push(pause);
    let mut copy = Ledger { core: sale::core::Core::new(), now: OPENS, log: Vec::new() };
    for (bytes, at) in log.iter().zip(1..) {
        runtime::replay_entry(&mut copy.core, Sequence(at), bytes).unwrap();
    }
    copy.log = log;
    assert_eq!(seen(&copy).pause, Some(PauseCause::Restored));
    assert!(seen(&copy).is_restored);
    assert_eq!(copy.buy(3, 3, &[(PHONE, 1)]), "paused");
    // The other server may have sold the unit since: a late payment neither buys it nor is
    // refunded.
    let late = copy.operate(Operation::Confirm { hold: id(1), payment: "p1".into() });
    assert!(matches!(late, Err(OperateError::Conflict(_))), "{late:?}");
    copy.operate(Operation::Resume).unwrap();
    assert_eq!(copy.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 held");
    assert!(seen(&copy).pause.is_none() && seen(&copy).is_restored);
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(copy.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

#[test]
fn all_who_wait_leave_when_the_waitlist_ends() {
    let mut l = Ledger::open(waitlist(1, 5));
    l.buy(1, 1, &[(PHONE, 1)]);
    for n in 2..5 {
        l.buy(n, n, &[(PHONE, 1)]);
    }
    l.operate(Operation::EndWaitlist).unwrap();
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
    assert_eq!(l.stock(0), (0, 1, 0, 0));
    assert!(!seen(&l).items[0].waitlist_open);
    assert_eq!(l.buy(6, 6, &[(PHONE, 1)]), "sold_out", "no place is given any more");
    l.release(1);
    assert_eq!(l.stock(0), (1, 0, 0, 0), "nobody is promoted");
    assert_eq!(l.buy(7, 7, &[(PHONE, 1)]), "granted held");
    let entries = l.log.len();
    l.operate(Operation::EndWaitlist).unwrap();
    assert_eq!(l.log.len(), entries, "it has ended already");
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

/// Those who wait, at a time at which the next hold has expired too.
fn waitlist_with_an_end() -> Ledger {
    let ends_at = Some(TimeMs(OPENS + 2 * HOLD_MS));
    let mut l = Ledger::open(SaleSpec { waitlist_ends_at: ends_at, ..waitlist(1, 5) });
    l.buy(1, 1, &[(PHONE, 1)]);
    for n in 2..5 {
        l.buy(n, n, &[(PHONE, 1)]);
    }
    assert_eq!(l.core.next_wakeup(), Some(TimeMs(OPENS + HOLD_MS)));
    l
}

#[test]
fn the_waitlist_ends_at_its_time() {
    let mut l = waitlist_with_an_end();
    l.at(OPENS + HOLD_MS);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 held");
    l.at(OPENS + 2 * HOLD_MS - 1);
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "waitlisted 2");
    assert_eq!(l.core.next_wakeup(), Some(TimeMs(OPENS + 2 * HOLD_MS)));
    // The promoted shopper's hold expires at the same moment, and its unit is for sale again.
    l.at(OPENS + 2 * HOLD_MS);
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "waitlisted 2 left");
    assert_eq!(l.stock(0), (1, 0, 0, 0));
    assert!(!seen(&l).items[0].waitlist_open);
    assert_eq!(l.buy(7, 7, &[(PHONE, 1)]), "granted held");
    assert_eq!(l.buy(8, 8, &[(PHONE, 1)]), "sold_out", "no place is given any more");
    let entries = l.log.len();
    l.operate(Operation::EndWaitlist).unwrap();
    assert_eq!(l.log.len(), entries, "it has ended already");
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

#[test]
fn nobody_is_promoted_after_the_waitlists_time_even_if_the_sale_was_down() {
    let mut l = waitlist_with_an_end();
    // Nothing ran when the first hold expired, and when the waitlist was to end.
    l.at(OPENS + 3 * HOLD_MS);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
    assert_eq!(l.stock(0), (1, 0, 0, 0));
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

#[test]
fn a_paused_sale_ends_its_waitlist_in_time() {
    let mut l = waitlist_with_an_end();
    l.operate(Operation::Pause).unwrap();
    l.at(OPENS + 2 * HOLD_MS);
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "waitlisted 1 left");
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

#[test]
fn a_log_that_ends_before_a_promotion_is_proven_and_the_next_start_promotes() {
    let mut l = Ledger::open(waitlist(1, 5));
    for n in 1..4 {
        l.buy(n, n, &[(PHONE, 1)]);
    }
    l.operate(Operation::Adjust { item: PHONE, delta: 2 }).unwrap();
    let mut log = l.log.clone();
    let last = sale::core::Entry::decode(&log[log.len() - 1]).unwrap();
    assert!(matches!(last.record, Record::Promoted { .. }));
    log.pop();
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
    let inv_2 = report.invariants.iter().find(|verdict| verdict.id == "INV-2").unwrap();
    assert!(inv_2.how.contains("goes on with them"), "{inv_2:?}");
    let mut next = Ledger { core: sale::core::Core::new(), now: OPENS, log: log.clone() };
    for (bytes, at) in log.iter().zip(1..) {
        runtime::replay_entry(&mut next.core, Sequence(at), bytes).unwrap();
    }
    next.at(OPENS);
    assert_eq!(next.stock(0), (0, 3, 0, 0));
}
