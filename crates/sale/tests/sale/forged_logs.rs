//! Forged logs: each is an honest log with entries forged, left out or moved, and the audit must
//! say which invariant it breaks and at which entry, whether the core refuses it or not.

use crate::ledger::{CLOSES, HOLD_SECONDS, Ledger, MemoryLog, OPENS, by, id, key, spec};
use contracts::*;
use sale::audit::{Found, Report, audit};
use sale::core::{Entry, Record, RefusalCount, RefusalKind};
use units::{Sequence, TimeMs};

pub(crate) const PHONE: u16 = 0;
const CASE: u16 = 1;
pub(crate) const HOLD_MS: u64 = HOLD_SECONDS * 1000;

/// An honest sale's log, to be forged.
pub(crate) struct Forgery {
    pub(crate) ledger: Ledger,
    /// Entries written after the honest ones.
    forged: Vec<Vec<u8>>,
    pub(crate) now: u64,
}

impl Forgery {
    pub(crate) fn of(spec: SaleSpec) -> Self {
        Self { ledger: Ledger::open(spec), forged: Vec::new(), now: OPENS }
    }

    /// Writes an entry that the sale never decided.
    pub(crate) fn write(&mut self, record: &Record) -> &mut Self {
        let mut bytes = Vec::new();
        record.encode(TimeMs(self.now), &mut bytes);
        self.forged.push(bytes);
        self
    }

    /// Attempt `n` of shopper `who` is granted a hold.
    pub(crate) fn grant(&mut self, n: u8, who: u8, lines: &[(u16, u16)]) -> &mut Self {
        let pay_by = TimeMs(self.now + HOLD_MS);
        self.write(&Record::Granted { attempt: attempt(n, who, lines), round: 0, pay_by })
    }

    pub(crate) fn wait(&mut self, n: u8, who: u8, lines: &[(u16, u16)], position: u32) -> &mut Self {
        self.write(&Record::Waitlisted { attempt: attempt(n, who, lines), round: 0, position })
    }

    pub(crate) fn pay(&mut self, n: u8, payment: &str, late: bool) -> &mut Self {
        self.write(&Record::Confirmed { hold: id(n), payment: payment.into(), late, by: None })
    }

    pub(crate) fn refuse(&mut self, kind: RefusalKind, item: u16, quantity: u16, count: u64) -> &mut Self {
        let first_as_of = Sequence((self.ledger.log.len() + self.forged.len()) as u64);
        let entries = vec![RefusalCount { kind, item, quantity, first_as_of, count }];
        self.write(&Record::Refusals { entries })
    }

    fn log(&self) -> Vec<Vec<u8>> {
        [self.ledger.log.as_slice(), &self.forged].concat()
    }

    pub(crate) fn audit(&self) -> Report {
        audit(&mut MemoryLog(self.log()), None).unwrap()
    }
}

pub(crate) fn attempt(n: u8, who: u8, lines: &[(u16, u16)]) -> Attempt {
    let lines: Vec<Line> = lines.iter().map(|&(item, quantity)| Line { item, quantity }).collect();
    let sealed = SealedShopper::new(&[who]).unwrap();
    Attempt { id: id(n), shopper: key(who), sealed, tier: who, basket: Basket::new(&lines).unwrap() }
}

/// The verdicts that are broken, with their text after the entry's number; the others are proven.
fn broken(report: &Report) -> Vec<(&'static str, String)> {
    let broken = report.invariants.iter().filter(|v| v.found != Found::Proven);
    broken
        .map(|v| {
            assert_eq!(v.found, Found::Broken, "{v:?}");
            (v.id, v.how.clone())
        })
        .collect()
}

/// Each of `want` is a broken verdict and a part of what it says; nothing else is broken. A `*`
/// after the number: the core refuses the entry too, so INV-7 is broken with it and says so.
pub(crate) fn check(what: &str, forgery: &Forgery, want: &[(&str, &str)]) {
    let report = forgery.audit();
    let found = broken(&report);
    let mut left: Vec<&(&'static str, String)> = found.iter().collect();
    for (id, text) in want {
        let core_too = id.ends_with('*');
        let mut take = |id: &str, text: &str| {
            let at = left.iter().position(|(found, how)| *found == id && how.contains(text));
            left.remove(at.unwrap_or_else(|| panic!("{what}: {id} should say {text:?}: {found:#?}")));
        };
        take(id.trim_end_matches('*'), text);
        if core_too {
            take("INV-7", "the core refuses it");
        }
    }
    assert!(left.is_empty(), "{what}: broken beside what should be: {left:#?}");
    assert_eq!(report.entries, forgery.log().len() as u64, "{what}: every entry is read");
    assert!(!report.holds(), "{what}");
}

pub(crate) fn no_waitlist(stock: u64) -> SaleSpec {
    SaleSpec { waitlist: Waitlist::Places(0), ..spec(stock) }
}

pub(crate) fn waitlist(stock: u64, places: u32) -> SaleSpec {
    SaleSpec { waitlist: Waitlist::Places(places), ..spec(stock) }
}

/// A sale with one of everything that an audit checks.
fn eventful() -> Forgery {
    let mut f = Forgery::of(SaleSpec { limit_per_shopper: 4, ..waitlist(2, 1) });
    let l = &mut f.ledger;
    l.buy(1, 1, &[(PHONE, 1), (CASE, 1)]);
    l.buy(2, 2, &[(PHONE, 1)]);
    l.buy(3, 3, &[(PHONE, 1)]);
    assert_eq!(l.buy(4, 4, &[(PHONE, 1)]), "sold_out");
    assert_eq!(l.buy(5, 1, &[(PHONE, 1)]), "limit_reached 1");
    l.operate(Operation::List { list: ListKind::Denied, clear: true, shoppers: vec![key(9)] }).unwrap();
    assert_eq!(l.buy(9, 9, &[(CASE, 1)]), "not_eligible");
    l.pay(1, "pay-1");
    l.at(OPENS + HOLD_MS);
    assert_eq!(l.buy(3, 3, &[(PHONE, 1)]), "waitlisted 1 held");
    l.at(OPENS + 2 * HOLD_MS);
    assert_eq!(l.pay(2, "late"), "confirmed late");
    assert_eq!(l.pay(3, "too-late"), "refund");
    l.at(CLOSES);
    l.buy(7, 7, &[(PHONE, 1)]);
    l.at(CLOSES + 1000);
    f
}

#[test]
fn an_honest_log_is_proven_and_the_report_says_what_was_checked() {
    let mut f = eventful();
    f.now = CLOSES + 1000;
    f.write(&Record::SpaceRegained { since: TimeMs(CLOSES), refused: 7 });
    let report = f.audit();
    assert!(report.holds(), "{report:#?}");
    let how = |at: usize| &*report.invariants[at].how;
    assert_eq!(
        how(1),
        "1 journalled sold_out, none while that much was free; nobody waited for what was free at any entry, and \
         no hold outlasted its time"
    );
    assert_eq!(
        how(2),
        "4 grants, places and late payments recounted per shopper, item, round and sale; 3 new ones held against \
         eligibility and deny list, 1 places against the waitlist's length"
    );
    assert_eq!(
        how(3),
        "3 answers, each said once and while its round was open; each hold's steps legal and in time, 2 expiries not \
         before their pay_by; 2 refusals true of the sale as of their sequence; 2 (limit_reached, not_eligible, not_open of an item) \
         depend on who asked for what, which the log does not hold: it shows only that the sale had such a rule; 7 were told \
         paused while nothing could be written, of which the log has the count only"
    );
}

#[test]
fn a_log_that_oversells_is_not_proven() {
    let mut f = Forgery::of(no_waitlist(2));
    for n in 1..=3 {
        f.grant(n, n, &[(PHONE, 1)]);
    }
    check("a grant too many", &f, &[("INV-1*", "entry 5: item 0: 3 held and 0 sold of 2")]);
    // An entry that the core refuses does not end the audit: the next entries are still checked.
    f.grant(4, 4, &[(CASE, 6)]);
    let more = [("INV-1*", "entry 5: item 0: 3 held"), ("INV-3", "its shopper has 6 of item 1 in round 0")];
    check("and one over the limit after it", &f, &more);
    assert_eq!(f.audit().items[0].held, 3, "the figures are those of the log");

    let mut f = Forgery::of(no_waitlist(1));
    f.grant(1, 1, &[(PHONE, 1)]);
    f.write(&Record::Adjusted { item: PHONE, delta: -1, by: by() });
    check("stock taken that is held", &f, &[("INV-1*", "entry 4: item 0: 1 held and 0 sold of 0")]);

    let mut f = Forgery::of(no_waitlist(1));
    f.grant(1, 1, &[(9, 1)]);
    let not_there = [("INV-1", "item 9: there is none"), ("INV-4*", "for what round 0 does not offer")];
    check("an item that is not there", &f, &not_there);
}

#[test]
fn a_log_that_undersells_is_not_proven() {
    let mut f = Forgery::of(no_waitlist(2));
    f.refuse(RefusalKind::SoldOut, PHONE, 1, 40);
    check("sold out, said of free stock", &f, &[("INV-2", "40 were refused 1 of item 0 while 2 were free")]);
    let mut f = Forgery::of(no_waitlist(2));
    f.refuse(RefusalKind::SoldOut, 9, 1, 40);
    check("sold out, said of nothing", &f, &[("INV-2", "40 were refused 1 of item 9 while there is none")]);
    let mut f = Forgery::of(waitlist(1, 5));
    f.wait(1, 1, &[(PHONE, 1)], 1).write(&Record::Paused { by: by() });
    check("a wait for free stock", &f, &[("INV-2*", "must wait for what is free")]);
    let mut f = Forgery::of(waitlist(1, 5));
    f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1);
    f.write(&Record::Released { hold: id(1), by: by() }).write(&Record::Rate { per_second: 1, by: by() });
    check("no one promoted", &f, &[("INV-2*", "waits for what is free")]);
}

#[test]
fn a_log_that_breaks_limits_or_eligibility_is_not_proven() {
    let mut f = Forgery::of(no_waitlist(9));
    f.grant(1, 1, &[(PHONE, 1)]).grant(2, 1, &[(PHONE, 1)]);
    let text =
        "entry 4: 02020202020202020202020202020202: its shopper has 2 of item 0 in round 0, the limit is 1";
    check("a second phone", &f, &[("INV-3*", text)]);
    let mut f = Forgery::of(SaleSpec { limit_per_shopper: 2, ..no_waitlist(9) });
    f.grant(1, 1, &[(CASE, 3)]);
    check("three of two", &f, &[("INV-3*", "its shopper has 3 units, the sale's limit is 2")]);
    let mut f = Forgery::of(no_waitlist(9));
    f.grant(1, 1, &[(PHONE, 1)]);
    f.now = OPENS + HOLD_MS;
    f.write(&Record::Expired { hold: id(1) }).grant(2, 1, &[(PHONE, 1)]).pay(1, "late", true);
    check("a late payment beside a new hold", &f, &[("INV-3*", "its shopper has 2 of item 0")]);
    let mut f = Forgery::of(no_waitlist(9));
    f.write(&Record::Limits {
        sale: None,
        items: vec![RoundItemLimit { round: 4, item: 0, limit: 9 }],
        by: by(),
    });
    let text = "a limit for item 0, which round 4 does not offer";
    check("a limit of nothing", &f, &[("INV-3", text), ("INV-7", "the core refuses it")]);

    let eligibility = |eligibility| SaleSpec { eligibility, ..no_waitlist(9) };
    let list = |list, shoppers| Record::List { list, clear: true, shoppers, by: by() };
    let mut f = Forgery::of(no_waitlist(9));
    f.write(&list(ListKind::Denied, vec![key(1)])).grant(1, 1, &[(PHONE, 1)]);
    check(
        "a hold of a denied shopper",
        &f,
        &[("INV-3*", "entry 4: 01010101010101010101010101010101: its shopper may not buy")],
    );
    let mut f = Forgery::of(eligibility(Eligibility::List));
    f.write(&list(ListKind::Allowed, vec![key(1)])).grant(1, 1, &[(PHONE, 1)]).grant(2, 2, &[(PHONE, 1)]);
    check(
        "a hold of a shopper who is not listed",
        &f,
        &[("INV-3*", "entry 5: 02020202020202020202020202020202")],
    );
    let mut f = Forgery::of(eligibility(Eligibility::Tier { min: 3 }));
    f.grant(3, 3, &[(PHONE, 1)]).grant(2, 2, &[(PHONE, 1)]);
    check("a hold below the tier", &f, &[("INV-3*", "entry 4: 02020202020202020202020202020202")]);
    let mut f = Forgery::of(eligibility(Eligibility::All { reservation: false, list: true, tier_min: 2 }));
    f.write(&list(ListKind::Allowed, vec![key(1), key(2)])).grant(2, 2, &[(PHONE, 1)]).grant(
        3,
        3,
        &[(PHONE, 1)],
    );
    check("a hold by one of two rules", &f, &[("INV-3*", "entry 5: 03030303030303030303030303030303")]);
    let mut f = Forgery::of(eligibility(Eligibility::Reservation));
    f.write(&Record::Reserved { shopper: key(1), reserved: true }).grant(1, 1, &[(PHONE, 1)]);
    check("a reservation after the opening", &f, &[("INV-3", "a reservation after the sale has opened")]);
    let mut f = Forgery::of(SaleSpec { eligibility: Eligibility::Reservation, ..waitlist(0, 5) });
    f.wait(1, 1, &[(PHONE, 1)], 1);
    let text = "its shopper may not buy";
    check("a place without a reservation", &f, &[("INV-3*", text)]);

    let mut f = Forgery::of(waitlist(1, 1));
    f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1).wait(3, 3, &[(PHONE, 1)], 2);
    check("a place too many", &f, &[("INV-3*", "is number 2 on a waitlist of 1 places")]);
    let mut f = Forgery::of(SaleSpec { waitlist: Waitlist::Percent(10), ..spec(9) });
    f.grant(1, 1, &[(PHONE, 1), (CASE, 5)]).wait(2, 2, &[(CASE, 5)], 1);
    check("a place of none", &f, &[("INV-3*", "is number 1 on a waitlist of 0 places")]);
    let mut f = Forgery::of(waitlist(1, 5));
    f.grant(1, 1, &[(PHONE, 1), (CASE, 1)]).wait(2, 2, &[(PHONE, 1), (CASE, 1)], 1);
    let text = "waits for several things";
    check(
        "a basket that waits",
        &f,
        &[("INV-3", text), ("INV-7", "the core refuses it: replay entry 4: breaks waitlist")],
    );
    let mut f = Forgery::of(waitlist(1, 5));
    f.wait(2, 2, &[(CASE, 2)], 1);
    check("a wait for more than there is", &f, &[("INV-3", "waits for 2 of item 1, and there are 1")]);
}

#[test]
fn a_log_that_contradicts_earlier_answers_is_not_proven() {
    let held = || {
        let mut f = Forgery::of(no_waitlist(2));
        f.grant(1, 1, &[(PHONE, 1)]);
        f
    };
    let mut f = Forgery::of(SaleSpec { hold_seconds: 900, ..no_waitlist(2) });
    let pay_by = TimeMs(OPENS + 900_000);
    f.write(&Record::Granted { attempt: attempt(1, 1, &[(PHONE, 1)]), round: 0, pay_by });
    f.now = OPENS + 60_000;
    f.write(&Record::Expired { hold: id(1) });
    let text = "entry 4: 01010101010101010101010101010101 expires 840000 ms before its pay_by";
    check("an expiry fourteen minutes early", &f, &[("INV-4*", text)]);
    f.forged.pop();
    f.now = OPENS + 899_999;
    f.write(&Record::Expired { hold: id(1) });
    check("one a millisecond early", &f, &[("INV-4*", "expires 1 ms before its pay_by")]);
    f.forged.pop();
    f.now = OPENS + 900_000;
    f.write(&Record::Expired { hold: id(1) });
    assert!(f.audit().holds(), "one in time");

    let mut f = Forgery::of(no_waitlist(2));
    let pay_by = TimeMs(OPENS + HOLD_MS - 1);
    f.write(&Record::Granted { attempt: attempt(1, 1, &[(PHONE, 1)]), round: 0, pay_by });
    check("a hold that is too short", &f, &[("INV-4*", "and a hold of 1970-01-01T00:16:40.000Z has 10 s")]);
    let mut f = held();
    f.grant(1, 1, &[(PHONE, 1)]);
    check(
        "granted twice",
        &f,
        &[("INV-4*", "entry 4: 01010101010101010101010101010101 was answered before")],
    );
    let mut f = held();
    f.pay(1, "p", false).pay(1, "p", false);
    check("paid twice", &f, &[("INV-4*", "is confirmed, confirmed late: false")]);
    let mut f = held();
    f.pay(1, "p", true);
    check("paid late in time", &f, &[("INV-4*", "is held, confirmed late: true")]);
    let mut f = held();
    f.pay(2, "p", false);
    check("paid and never granted", &f, &[("INV-4*", "is confirmed but was never granted")]);
    let mut f = held();
    f.write(&Record::RefundDue { hold: id(1), payment: "p".into(), by: None });
    check("paid back while it is held", &f, &[("INV-4*", "is held, and a payment that buys is paid back")]);
    let mut f = held();
    f.write(&Record::Released { hold: id(1), by: by() });
    f.write(&Record::RefundDue { hold: id(1), payment: "p".into(), by: None });
    check(
        "paid back while it is free",
        &f,
        &[("INV-4", "is released, and a payment that buys is paid back")],
    );
    let mut f = Forgery::of(SaleSpec { late_payment: LatePayment::Refund, ..no_waitlist(2) });
    f.grant(1, 1, &[(PHONE, 1)]).write(&Record::Released { hold: id(1), by: by() }).pay(1, "p", true);
    check("late against the policy", &f, &[("INV-4*", "is paid late, which the sale does not take")]);
    let mut f = held();
    f.pay(1, "p", false).write(&Record::Released { hold: id(1), by: by() });
    check("released what is paid", &f, &[("INV-4*", "is confirmed, not to be released")]);
    let mut f = held();
    f.write(&Record::Voided { hold: id(1), by: by() }).write(&Record::Voided { hold: id(1), by: by() });
    check("voided twice", &f, &[("INV-4*", "is voided, not to be voided")]);
    let mut f = held();
    f.write(&Record::Left { attempt: id(1), voided: false, by: by() });
    check("a hold that leaves the waitlist", &f, &[("INV-4*", "leaves and did not wait")]);
    let mut f = held();
    f.write(&Record::RoundClosed { round: 0, by: by() }).grant(2, 2, &[(PHONE, 1)]);
    check("granted after the end", &f, &[("INV-4", "while round 0 is not open"), ("INV-7", "breaks rounds")]);
    let mut f = held();
    f.write(&Record::Extended { round: 0, closes_at: TimeMs(CLOSES - 1), by: by() });
    check("an end that comes nearer", &f, &[("INV-4", "round 0 is extended to")]);
    let mut f = held();
    f.write(&Record::Defined { by: by(), spec: Box::new(no_waitlist(9)) });
    let text = "another document after the sale has begun";
    check("another sale", &f, &[("INV-4", text), ("INV-7", "breaks define")]);
    let mut f = Forgery::of(waitlist(1, 5));
    f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 3);
    check("a place that is not the next", &f, &[("INV-4*", "is told position 3, behind 0")]);
    let mut f = Forgery::of(waitlist(1, 5));
    f.grant(1, 1, &[(PHONE, 1)]).wait(2, 2, &[(PHONE, 1)], 1);
    f.write(&Record::Released { hold: id(1), by: by() });
    let pay_by = TimeMs(OPENS + HOLD_MS);
    f.write(&Record::Promoted { attempt: attempt(2, 3, &[(PHONE, 1)]), round: 0, pay_by });
    check("promoted as another shopper", &f, &[("INV-4*", "is promoted and did not wait so")]);
}

#[test]
fn a_log_with_untrue_refusals_is_not_proven() {
    let refused = |spec: SaleSpec, kind| {
        let mut f = Forgery::of(spec);
        f.refuse(kind, 0, 0, 5000);
        f
    };
    let everyone = || SaleSpec { limit_per_shopper: 0, ..no_waitlist(9) };
    let mut unlimited = everyone();
    unlimited.rounds[0].items.iter_mut().for_each(|offer| offer.limit_per_shopper = 0);
    let rows = [
        (
            "closed while it is open",
            refused(everyone(), RefusalKind::Closed),
            "5000 closed said in another state",
        ),
        (
            "paused while it is not",
            refused(everyone(), RefusalKind::Paused),
            "5000 paused said in another state",
        ),
        (
            "not eligible, open to all",
            refused(everyone(), RefusalKind::NotEligible),
            "5000 not_eligible said",
        ),
        (
            "a limit where there is none",
            refused(unlimited, RefusalKind::LimitReached),
            "5000 limit_reached said",
        ),
    ];
    for (what, f, text) in rows {
        check(what, &f, &[("INV-4", text)]);
    }
    let mut f = Forgery::of(no_waitlist(9));
    f.write(&Record::Paused { by: by() }).refuse(RefusalKind::Paused, 0, 0, 3);
    assert!(f.audit().holds());
    let entries = vec![RefusalCount {
        kind: RefusalKind::Paused,
        item: 0,
        quantity: 0,
        first_as_of: Sequence(2),
        count: 3,
    }];
    f.write(&Record::Refusals { entries });
    check("as of an entry before the last journal", &f, &[("INV-4", "refusals as of 2")]);

    // No shopper is named, so these cannot be told from true ones; and the verdict does not say
    // that they are true.
    for kind in [RefusalKind::LimitReached, RefusalKind::NotOpen] {
        let report = refused(SaleSpec { limit_per_shopper: 2, ..everyone() }, kind).audit();
        assert!(report.holds(), "{report:#?}");
        let how = &report.invariants[3].how;
        let only = "0 refusals true of the sale as of their sequence; 5000 (limit_reached, not_eligible, not_open of an item) \
                    depend on who asked for what, which the log does not hold: it shows only that the sale had such a rule";
        assert!(how.ends_with(only), "{how}");
    }
}

/// Refusals that gates sent by themselves are checked at every entry that they named, though they
/// report them later.
#[test]
fn refusals_by_gates_are_checked_at_each_entry_that_they_named() {
    let said = |item, first, last, count| Record::GateRefusals {
        entries: vec![SoldOutRange { item, first_as_of: Sequence(first), last_as_of: Sequence(last), count }],
    };
    // Entries: 1 the document, 2 the opening, 3 to 5 the only phone goes, comes back and goes
    // again.
    let sale = || {
        let mut f = Forgery::of(no_waitlist(1));
        let l = &mut f.ledger;
        l.buy(1, 1, &[(PHONE, 1)]);
        l.release(1);
        l.buy(2, 2, &[(PHONE, 1)]);
        assert_eq!(l.log.len(), 5);
        f
    };
    let mut f = sale();
    f.write(&said(PHONE, 3, 3, 7)).write(&said(PHONE, 5, 6, 2)).write(&Record::Paused { by: by() });
    f.write(&said(PHONE, 5, 7, 1));
    let report = f.audit();
    assert!(report.holds(), "{report:#?}");
    assert_eq!(report.outcomes["sold_out"], 10);
    let lies = [
        ("while it was free", said(PHONE, 4, 4, 1), "INV-2", "item 0 is sold out as of 4 to 4"),
        ("across a restock", said(PHONE, 3, 5, 1), "INV-2", "as of 3 to 5"),
        ("before the opening", said(PHONE, 1, 1, 1), "INV-2", "as of 1 to 1"),
        ("of what is there", said(CASE, 3, 5, 1), "INV-2", "item 1 is sold out"),
        ("of the future", said(PHONE, 5, 6, 1), "INV-4*", "as of 5 to 6"),
        ("of an item that there is not", said(9, 5, 5, 1), "INV-4*", "as of 5 to 5"),
    ];
    for (what, record, inv, text) in lies {
        let mut f = sale();
        f.write(&record);
        let report = f.audit();
        let found = broken(&report);
        let want = inv.trim_end_matches('*');
        assert!(found.iter().any(|(id, how)| *id == want && how.contains(text)), "{what}: {found:#?}");
    }
    let mut f = sale();
    f.write(&Record::Paused { by: by() }).write(&said(PHONE, 5, 6, 1));
    check("while the sale was paused", &f, &[("INV-2", "as of 5 to 6")]);
}

/// The same for shoppers whom gates told that they may not buy: by one unchanged list, or by the
/// sale's document.
#[test]
fn not_eligible_by_gates_is_proven_only_if_the_sale_had_such_a_rule() {
    let said = |by, first, last, count| Record::GateNotEligible {
        entries: vec![NotEligibleRange {
            by,
            first_as_of: Sequence(first),
            last_as_of: Sequence(last),
            count,
        }],
    };
    let denied = |clear, shoppers: &[u8]| {
        let shoppers = shoppers.iter().map(|n| key(*n)).collect();
        Operation::List { list: ListKind::Denied, clear, shoppers }
    };
    // Entries: 1 the document, 2 the opening, 3 a list, 4 one more on it, 5 none any more, 6 a
    // list, 7 and 8 a pause.
    let sale = |spec| {
        let mut f = Forgery::of(spec);
        let commands = [denied(true, &[7]), denied(false, &[8]), denied(true, &[]), denied(true, &[9])];
        for command in commands.into_iter().chain([Operation::Pause, Operation::Resume]) {
            f.ledger.operate(command).unwrap();
        }
        assert_eq!(f.ledger.log.len(), 8);
        f
    };
    let by_tier = || SaleSpec { eligibility: Eligibility::Tier { min: 1 }, ..spec(2) };
    let (list, tier) = (IneligibleBy::DenyList, IneligibleBy::Tier);
    let mut f = sale(by_tier());
    f.write(&said(list, 3, 3, 5)).write(&said(list, 4, 4, 1)).write(&said(list, 6, 6, 1));
    f.write(&said(tier, 2, 6, 40)).write(&said(list, 8, 11, 2)).write(&said(tier, 8, 12, 1));
    let report = f.audit();
    assert!(report.holds(), "{report:#?}");
    assert_eq!(report.outcomes["not_eligible"], 50);
    let how = &report.invariants[3].how;
    assert!(how.contains("; 50 (limit_reached, not_eligible"), "who they were is not shown: {how}");
    let lies = [
        ("before there was a list", said(list, 2, 2, 1), "as of 2 to 2"),
        ("from before the list", said(list, 2, 3, 1), "as of 2 to 3"),
        ("across another list", said(list, 3, 4, 1), "as of 3 to 4"),
        ("of a cleared list", said(list, 4, 5, 1), "as of 4 to 5"),
        ("after it was cleared", said(list, 5, 5, 1), "as of 5 to 5"),
        ("while paused", said(list, 6, 7, 1), "as of 6 to 7"),
        ("across a pause", said(list, 6, 8, 1), "as of 6 to 8"),
        ("of a tier while paused", said(tier, 2, 7, 1), "as of 2 to 7"),
        ("of a tier before the opening", said(tier, 1, 2, 1), "as of 1 to 2"),
        ("of the future", said(list, 8, 9, 1), "as of 8 to 9"),
        ("backwards", said(tier, 4, 3, 1), "as of 4 to 3"),
    ];
    for (what, record, text) in lies {
        let mut f = sale(by_tier());
        f.write(&record);
        let report = f.audit();
        assert!(broken(&report).iter().any(|(id, how)| *id == "INV-4" && how.contains(text)), "{what}");
    }
    for spec in [spec(2), SaleSpec { eligibility: Eligibility::Tier { min: 0 }, ..spec(2) }] {
        let mut f = sale(spec);
        f.write(&said(tier, 2, 2, 1));
        check("of a tier that no shopper lacks", &f, &[("INV-4", "as of 2 to 2")]);
    }
}

#[test]
fn a_log_that_breaks_the_waitlists_order_is_not_proven() {
    let waits = || {
        let mut f = Forgery::of(waitlist(2, 5));
        f.grant(1, 1, &[(CASE, 2)]).wait(2, 2, &[(CASE, 1)], 1).wait(3, 3, &[(CASE, 1)], 2);
        f
    };
    let pay_by = TimeMs(OPENS + HOLD_MS);
    let mut f = waits();
    f.write(&Record::Adjusted { item: CASE, delta: 1, by: by() });
    f.write(&Record::Promoted { attempt: attempt(3, 3, &[(CASE, 1)]), round: 0, pay_by });
    check("promoted before its turn", &f, &[("INV-5*", "03030303030303030303030303030303 is promoted, but")]);
    let mut f = waits();
    f.write(&Record::Adjusted { item: CASE, delta: 1, by: by() }).grant(4, 4, &[(CASE, 1)]);
    let want =
        [("INV-2", "waits for what is free"), ("INV-5*", "04040404040404040404040404040404 passes by")];
    check("granted past who waits", &f, &want);
    let mut f = waits();
    f.grant(5, 5, &[(PHONE, 1)]).write(&Record::Released { hold: id(5), by: by() });
    f.write(&Record::Paused { by: by() }).write(&Record::Adjusted { item: CASE, delta: 1, by: by() });
    f.write(&Record::Voided { hold: id(1), by: by() }).pay(1, "p", true);
    let found = f.audit();
    assert!(found.invariants[4].how.contains("01010101010101010101010101010101 passes by"), "{found:#?}");
}

#[test]
fn a_log_whose_figures_do_not_add_up_is_not_proven() {
    let mut two = no_waitlist(2);
    let mut second = two.rounds[0].clone();
    (second.opens_at, second.closes_at) = (TimeMs(CLOSES + 1000), TimeMs(CLOSES + 2000));
    two.rounds.push(second);
    let mut f = Forgery::of(two);
    f.write(&Record::RoundClosed { round: 0, by: by() }).write(&Record::RoundOpened { round: 0, by: by() });
    let again = [("INV-6", "entry 4: round 0 opens out of turn"), ("INV-7", "breaks rounds")];
    check("a round opened twice", &f, &again);
    assert_eq!(f.audit().items[0].initial, 2, "it brings no second stock");
    for n in 1..=3 {
        f.grant(n, n, &[(PHONE, 1)]);
    }
    let sold = [again[0], again[1], ("INV-1", "item 0: 3 held and 0 sold of 2")];
    check("and sold", &f, &sold);
}

#[test]
fn a_log_that_cannot_be_replayed_is_not_proven() {
    let mut f = Forgery::of(no_waitlist(2));
    f.now = OPENS - 1;
    f.write(&Record::Rate { per_second: 1, by: by() });
    check(
        "time that runs backwards",
        &f,
        &[("INV-7", "its time is 1970-01-01T00:16:39.999Z, behind one of")],
    );

    let mut f = eventful();
    let report =
        |f: &Forgery, at, bytes| audit(&mut MemoryLog(f.log()), Some((Sequence(at), bytes))).unwrap();
    let end = f.log().len() as u64;
    let snapshot = f.ledger.core.snapshot();
    let honest = report(&f, end, snapshot.clone());
    assert!(
        honest.holds() && honest.invariants[6].how.ends_with("the stored snapshot has the replay's bytes")
    );
    let mut other = snapshot.clone();
    *other.last_mut().unwrap() ^= 1;
    let of_seven = |report: &Report, text: &str| {
        assert!(matches!(&broken(report)[..], [("INV-7", how)] if how.contains(text)), "{report:#?}");
    };
    of_seven(&report(&f, end, other), "the stored snapshot differs from the log's replay");
    of_seven(&report(&f, end + 1, snapshot), "a snapshot stands at a later entry: the log's end is missing");

    // An undecodable entry ends the audit: it does not call proven what it has not seen.
    f.forged.push(vec![200, 0, 0]);
    let behind = f.audit();
    let seven = &behind.invariants[6];
    assert_eq!((seven.found, seven.how.contains("no record")), (Found::Broken, true), "{behind:#?}");
    for verdict in &behind.invariants[..6] {
        let early = format!("the audit ended at entry {}, which is no record", end + 1);
        assert_eq!((verdict.found, verdict.holds, &verdict.how), (Found::NotShown, false, &early));
    }
    assert_eq!(behind.entries, end);
    let nothing = audit(&mut MemoryLog(Vec::new()), None).unwrap();
    assert!(nothing.invariants.iter().all(|v| v.found == Found::NotShown && v.how == "the log is empty"));
}

/// Entries removed, doubled or swapped: the audit terminates, and never proves more than the core
/// replays.
#[test]
fn the_auditor_terminates_on_any_mixture_of_entries() {
    let honest = eventful().log();
    let len = honest.len();
    let mut mixtures: Vec<Vec<Vec<u8>>> = Vec::new();
    for at in 0..len {
        for to in 0..len {
            let mut doubled = honest.clone();
            doubled.insert(to, honest[at].clone());
            mixtures.push(doubled);
            let mut swapped = honest.clone();
            swapped.swap(at, to);
            mixtures.push(swapped);
        }
        let mut without = honest.clone();
        without.remove(at);
        mixtures.push(without);
    }
    for log in mixtures {
        let mut core = sale::core::Core::new();
        let replays = log.iter().enumerate().all(|(at, bytes)| {
            assert!(Entry::decode(bytes).is_ok());
            runtime::replay_entry(&mut core, Sequence(at as u64 + 1), bytes).is_ok()
        });
        let report = audit(&mut MemoryLog(log), None).unwrap();
        assert!(replays || !report.holds(), "{report:#?}");
    }
}
