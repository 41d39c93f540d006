//! Forged logs whose entries stand in a possible order, at impossible times: the audit must say
//! which promise each breaks. And the honest logs beside them, which are proven.

use crate::forged_logs::{Forgery, HOLD_MS, PHONE, check, no_waitlist, waitlist};
use crate::ledger::{CLOSES, Ledger, OPENS, by, id, key, spec};
use contracts::*;
use sale::core::{Record, RefusalKind};
use units::TimeMs;

fn timer() -> Actor {
    Actor::new("timer", "")
}

/// A sale of one phone, which shopper 1 holds.
fn held() -> Forgery {
    let mut f = Forgery::of(no_waitlist(1));
    f.grant(1, 1, &[(PHONE, 1)]);
    f
}

#[test]
fn a_payment_after_the_deadline_is_not_in_time() {
    let mut f = held();
    f.now = OPENS + HOLD_MS - 1;
    f.pay(1, "p", false);
    assert!(f.audit().holds(), "a millisecond before it: {:#?}", f.audit());
    for late_ms in [0, 90_000] {
        let mut f = held();
        f.now = OPENS + HOLD_MS + late_ms;
        f.pay(1, "p", false);
        let want = [
            ("INV-2*", "is still held at"),
            ("INV-4", "is paid as if in time, and was to be paid by 1970-01-01T00:16:50.000Z"),
        ];
        check("paid as if in time", &f, &want);
    }
}

#[test]
fn a_round_opens_and_closes_by_itself_at_its_time_only() {
    // Set up by its document alone; the round opens at OPENS.
    let set_up = |second: bool| {
        let mut f = Forgery::of(no_waitlist(1));
        f.ledger = Ledger { core: sale::core::Core::new(), now: OPENS - 5000, log: vec![] };
        let mut document = no_waitlist(1);
        if second {
            let mut round = document.rounds[0].clone();
            (round.opens_at, round.closes_at) = (TimeMs(CLOSES), TimeMs(CLOSES + 10_000));
            document.rounds.push(round);
        }
        f.ledger.operate(Operation::Define(Box::new(document))).unwrap();
        f
    };
    let mut f = set_up(false);
    f.now = OPENS - 998;
    f.write(&Record::RoundOpened { round: 0, by: timer() });
    check(
        "by the timer",
        &f,
        &[("INV-4", "round 0 opens 998 ms before its time"), ("INV-7", "breaks rounds")],
    );
    let mut f = set_up(false);
    f.now = OPENS - 998;
    f.write(&Record::RoundOpened { round: 0, by: by() });
    assert!(f.audit().holds(), "by an operator: {:#?}", f.audit());
    f.write(&Record::RoundClosed { round: 0, by: timer() });
    let early = "round 0 closes 1000998 ms before its time";
    check("closed by the timer", &f, &[("INV-4", early), ("INV-7", "breaks rounds")]);

    let mut f = set_up(false);
    f.now = OPENS + 1;
    f.write(&Record::Rate { per_second: 1, by: by() });
    let late = "round 0 is not open at 1970-01-01T00:16:40.001Z, and was to open at 1970-01-01T00:16:40.000Z";
    check("not opened in time", &f, &[("INV-4", late), ("INV-7", "breaks rounds")]);

    let mut f = set_up(true);
    f.now = OPENS;
    f.write(&Record::RoundOpened { round: 0, by: timer() });
    f.write(&Record::Extended { round: 0, closes_at: TimeMs(CLOSES + 1), by: by() });
    let over = "round 0 is extended to";
    check("extended into the next", &f, &[("INV-4", over), ("INV-7", "breaks rounds")]);
}

#[test]
fn nothing_is_decided_in_a_round_whose_time_is_over() {
    let late = CLOSES + 86_400_000;
    let text =
        "round 0 is still open at 1970-01-02T00:33:20.000Z, and was to close at 1970-01-01T00:33:20.000Z";
    let want = [("INV-4", text), ("INV-7", "breaks rounds")];
    let mut f = Forgery::of(no_waitlist(1));
    f.now = late;
    f.grant(1, 1, &[(PHONE, 1)]);
    check("a grant a day after its end", &f, &want);
    let mut f = Forgery::of(waitlist(1, 5));
    f.grant(1, 1, &[(PHONE, 1)]).pay(1, "p", false);
    f.now = late;
    f.wait(2, 2, &[(PHONE, 1)], 1);
    check("a place", &f, &want);
    let mut f = Forgery::of(no_waitlist(1));
    f.write(&Record::Extended { round: 0, closes_at: TimeMs(late + 1), by: by() });
    f.now = late;
    f.grant(1, 1, &[(PHONE, 1)]);
    assert!(f.audit().holds(), "it was extended: {:#?}", f.audit());
    let mut f = Forgery::of(no_waitlist(1));
    f.refuse(RefusalKind::LimitReached, 0, 0, 1);
    f.now = late;
    f.refuse(RefusalKind::LimitReached, 0, 0, 1);
    check("a refusal", &f, &[("INV-4", "and was to close at")]);
}

/// A hold is over at its `pay_by`: its units are free before anything else is decided.
#[test]
fn a_hold_that_never_expires_is_found() {
    let still = "01010101010101010101010101010101 is still held at 1970-01-01T00:20:00.000Z, and its time was over at \
                 1970-01-01T00:16:50.000Z";
    let later = OPENS + 200_000;
    let mut f = held();
    f.now = later;
    f.refuse(RefusalKind::SoldOut, PHONE, 1, 5000);
    check("5,000 are told sold out", &f, &[("INV-2", still)]);
    f.write(&Record::Expired { hold: id(1) });
    assert!(f.audit().holds(), "said before the hold's end, journalled by the expiry: {:#?}", f.audit());

    // Journalled before the hold's end for the first time, and after it for the second, as of an
    // entry after it.
    let mut f = held();
    f.now = later;
    f.write(&Record::SpaceRegained { since: TimeMs(OPENS), refused: 0 });
    f.refuse(RefusalKind::SoldOut, PHONE, 1, 5000);
    f.write(&Record::Expired { hold: id(1) });
    let said = "5000 sold_out said as of 4, and 01010101010101010101010101010101 was to expire at";
    check("said after its end", &f, &[("INV-2", said)]);

    for (what, record) in [
        ("an operator's command", Record::Rate { per_second: 1, by: by() }),
        (
            "a grant",
            Record::Granted {
                attempt: crate::forged_logs::attempt(2, 2, &[(1, 1)]),
                round: 0,
                pay_by: TimeMs(later + HOLD_MS),
            },
        ),
    ] {
        let mut f = held();
        f.now = later;
        f.write(&record);
        check(what, &f, &[("INV-2*", still)]);
    }

    // Holds expire in the order of their ends.
    let mut f = Forgery::of(no_waitlist(2));
    f.grant(1, 1, &[(PHONE, 1)]);
    f.now += 1;
    f.grant(2, 2, &[(PHONE, 1)]);
    f.now = later;
    f.write(&Record::Expired { hold: id(2) });
    check("one is passed over", &f, &[("INV-2*", "expires before 01010101010101010101010101010101")]);
}

#[test]
fn a_denied_shopper_in_line_is_not_promoted() {
    let denied = Record::List { list: ListKind::Denied, clear: true, shoppers: vec![key(2)], by: by() };
    let line = || {
        let mut f = Forgery::of(waitlist(1, 5));
        f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1);
        f
    };
    let pay_by = TimeMs(OPENS + HOLD_MS);
    let promoted =
        Record::Promoted { attempt: crate::forged_logs::attempt(2, 2, &[(PHONE, 1)]), round: 0, pay_by };
    let mut f = line();
    f.write(&denied).write(&Record::Released { hold: id(1), by: by() }).write(&promoted);
    check("promoted", &f, &[("INV-3", "is promoted, and its shopper is on the deny list")]);
    let taken = Record::Left { attempt: id(2), voided: true, by: timer() };
    let mut f = line();
    f.write(&denied).write(&Record::Released { hold: id(1), by: by() }).write(&taken);
    assert!(f.audit().holds(), "its place is taken back: {:#?}", f.audit());
    let mut f = line();
    f.write(&taken);
    check("and nobody else's", &f, &[("INV-4*", "is taken off the line, and is not on the deny list")]);
}

#[test]
fn one_payment_pays_for_one_hold() {
    let mut f = Forgery::of(no_waitlist(2));
    f.grant(1, 1, &[(PHONE, 1)]).grant(2, 2, &[(PHONE, 1)]).pay(1, "p", false).pay(2, "p", false);
    let text = "payment p is settled for 02020202020202020202020202020202, and was for 01010101010101010101010101010101";
    check("two holds", &f, &[("INV-4", text)]);
}

#[test]
fn a_sale_that_waits_for_long_expires_its_holds_when_it_wakes() {
    let mut l = Ledger::open(no_waitlist(2));
    l.buy(1, 1, &[(PHONE, 1)]);
    l.now = OPENS + HOLD_MS - 1;
    l.buy(2, 2, &[(PHONE, 1)]);
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "sold_out");
    l.at(CLOSES + 86_400_000);
    let report = sale::audit::audit(&mut crate::ledger::MemoryLog(l.log.clone()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
    assert_eq!(spec(1).rounds.len(), 1);
}

#[test]
fn nobody_waits_after_the_waitlists_end() {
    let line = || {
        let mut f = Forgery::of(waitlist(1, 5));
        f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1);
        f.write(&Record::WaitlistEnded { by: by() });
        f
    };
    let mut f = line();
    f.write(&Record::Rate { per_second: 1, by: by() });
    check("one is forgotten", &f, &[("INV-4*", "1 still wait, and the waitlist has ended")]);
    let mut f = line();
    f.write(&Record::Left { attempt: id(2), voided: true, by: timer() });
    f.write(&Record::Rate { per_second: 1, by: by() });
    assert!(f.audit().holds(), "{:#?}", f.audit());
    f.wait(3, 3, &[(PHONE, 1)], 1);
    check("one comes after it", &f, &[("INV-3*", "is number 1 on a waitlist of 0 places")]);
}

#[test]
fn a_waitlist_ends_at_its_time() {
    const ENDS: u64 = OPENS + 1000;
    let line = || {
        let mut f = Forgery::of(SaleSpec { waitlist_ends_at: Some(TimeMs(ENDS)), ..waitlist(1, 5) });
        f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1);
        f
    };
    let left = || Record::Left { attempt: id(2), voided: true, by: timer() };
    let mut f = line();
    f.now = ENDS;
    f.write(&Record::WaitlistEnded { by: timer() }).write(&left());
    f.write(&Record::Rate { per_second: 1, by: by() });
    assert!(f.audit().holds(), "{:#?}", f.audit());
    let mut f = line();
    f.now = ENDS - 1;
    f.write(&Record::WaitlistEnded { by: timer() }).write(&left());
    check("early", &f, &[("INV-4*", "the waitlist ends before its time, and no operator said so")]);
    let mut f = line();
    f.now = ENDS - 1;
    f.write(&Record::WaitlistEnded { by: by() }).write(&left());
    assert!(f.audit().holds(), "an operator may: {:#?}", f.audit());
    let mut f = line();
    f.now = ENDS;
    f.write(&Record::Rate { per_second: 1, by: by() });
    check("late", &f, &[("INV-4*", "the waitlist goes on at")]);
    let mut f = line();
    f.now = ENDS;
    f.wait(3, 3, &[(PHONE, 1)], 2);
    check("one more place", &f, &[("INV-4*", "and was to end at")]);
}
