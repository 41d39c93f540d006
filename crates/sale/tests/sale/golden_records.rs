//! The bytes of every kind of record, and of a snapshot, as they were first written. A change here
//! is a change of what old logs say: give the record a new kind instead.

use crate::ledger::{HOLD_SECONDS, Ledger, OPENS, by, id, key, spec};
use contracts::*;
use sale::core::{Core, Entry, Record, RefusalCount, RefusalKind};
use units::{Sequence, TimeMs};

const RECORDS: &str = include_str!("golden/records-v1.txt");
const SNAPSHOT_1: &str = include_str!("golden/snapshot-v1.txt");
const SNAPSHOT_2: &str = include_str!("golden/snapshot-v2.txt");
const SNAPSHOT_3: &str = include_str!("golden/snapshot-v3.txt");
const SNAPSHOT_4: &str = include_str!("golden/snapshot-v4.txt");
const SNAPSHOT: &str = include_str!("golden/snapshot-v5.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// One of each kind.
fn records() -> Vec<(&'static str, Record)> {
    let basket = Basket::new(&[Line { item: 0, quantity: 1 }, Line { item: 1, quantity: 3 }]).unwrap();
    let attempt = Attempt {
        id: id(1),
        shopper: key(2),
        sealed: SealedShopper::new(b"sealed").unwrap(),
        tier: 7,
        basket,
    };
    let pay_by = TimeMs(OPENS + HOLD_SECONDS * 1000);
    let entry =
        |kind, item, quantity, count| RefusalCount { kind, item, quantity, first_as_of: Sequence(9), count };
    vec![
        ("defined", Record::Defined { by: by(), spec: Box::new(spec(5)) }),
        ("round_opened", Record::RoundOpened { round: 1, by: by() }),
        ("round_closed", Record::RoundClosed { round: 1, by: by() }),
        ("paused", Record::Paused { by: by() }),
        ("resumed", Record::Resumed { by: by() }),
        ("extended", Record::Extended { round: 1, closes_at: TimeMs(OPENS), by: by() }),
        ("adjusted", Record::Adjusted { item: 1, delta: -3, by: by() }),
        (
            "limits",
            Record::Limits {
                sale: Some(4),
                items: vec![RoundItemLimit { round: 0, item: 1, limit: 2 }],
                by: by(),
            },
        ),
        ("rate", Record::Rate { per_second: 1000, by: by() }),
        (
            "list",
            Record::List { list: ListKind::Denied, clear: true, shoppers: vec![key(1), key(2)], by: by() },
        ),
        ("reserved", Record::Reserved { shopper: key(3), reserved: true }),
        ("waitlist_ended", Record::WaitlistEnded { by: by() }),
        (
            "command_done",
            Record::CommandDone {
                key: CommandKey { id: [4; 16], command: [5; 16] },
                answer: sale::core::CommandAnswer::Adjusted(70),
            },
        ),
        ("granted", Record::Granted { attempt, round: 1, pay_by }),
        ("waitlisted", Record::Waitlisted { attempt, round: 1, position: 12 }),
        ("promoted", Record::Promoted { attempt, round: 1, pay_by }),
        ("confirmed", Record::Confirmed { hold: id(1), payment: "pay-1".into(), late: true, by: None }),
        ("refund_due", Record::RefundDue { hold: id(1), payment: "pay-2".into(), by: None }),
        ("released", Record::Released { hold: id(1), by: by() }),
        ("expired", Record::Expired { hold: id(1) }),
        ("voided", Record::Voided { hold: id(1), by: by() }),
        (
            "refusals",
            Record::Refusals {
                entries: vec![entry(RefusalKind::SoldOut, 1, 2, 40), entry(RefusalKind::NotOpen, 0, 0, 3)],
            },
        ),
        ("space_regained", Record::SpaceRegained { since: TimeMs(OPENS), refused: 17 }),
        (
            "confirmed_by",
            Record::Confirmed { hold: id(1), payment: "pay-1".into(), late: true, by: Some(by()) },
        ),
        ("refund_due_by", Record::RefundDue { hold: id(1), payment: "pay-2".into(), by: Some(by()) }),
        ("left", Record::Left { attempt: id(1), voided: true, by: by() }),
        (
            "gate_refusals",
            Record::GateRefusals {
                entries: vec![SoldOutRange {
                    item: 1,
                    first_as_of: Sequence(40),
                    last_as_of: Sequence(57),
                    count: 9,
                }],
            },
        ),
        (
            "gate_not_eligible",
            Record::GateNotEligible {
                entries: IneligibleBy::ALL
                    .map(|by| NotEligibleRange {
                        by,
                        first_as_of: Sequence(40),
                        last_as_of: Sequence(57),
                        count: 9,
                    })
                    .to_vec(),
            },
        ),
    ]
}

#[test]
fn records_match_their_golden_bytes() {
    let mut written = String::new();
    for (name, record) in records() {
        let mut bytes = Vec::new();
        record.encode(TimeMs(OPENS + 5), &mut bytes);
        assert_eq!(Entry::decode(&bytes), Ok(Entry { at: TimeMs(OPENS + 5), record }), "{name}");
        for cut in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        written.push_str(&format!("{name} {}\n", hex(&bytes)));
    }
    assert_eq!(written, RECORDS, "the bytes of a record have changed");
}

/// A sale with one of everything that a snapshot keeps.
fn eventful() -> Ledger {
    let mut l = Ledger::open(SaleSpec { waitlist: Waitlist::Places(5), ..spec(2) });
    l.buy(1, 1, &[(0, 1), (1, 1)]);
    l.buy(2, 2, &[(0, 1)]);
    l.buy(3, 3, &[(0, 1)]);
    l.buy(4, 4, &[(1, 1)]);
    l.pay(1, "pay-1");
    l.release(4);
    l.operate(Operation::List { list: ListKind::Denied, clear: true, shoppers: vec![key(9), key(8)] })
        .unwrap();
    let key = CommandKey { id: [7; 16], command: [8; 16] };
    let rate = Box::new(Operation::Rate { per_second: 500 });
    l.operate(Operation::Once { key, operation: rate }).unwrap();
    l
}

#[test]
fn a_snapshot_matches_its_golden_bytes() {
    let sale = eventful();
    assert_eq!(hex(&sale.core.snapshot()), SNAPSHOT.trim_end(), "the bytes of a snapshot have changed");
    let restored = Core::restore(&unhex(SNAPSHOT.trim_end())).unwrap();
    assert_eq!(restored.stats(), sale.core.stats());
}

#[test]
fn a_snapshot_of_an_earlier_version_is_refused() {
    for (version, old) in [(1, SNAPSHOT_1), (2, SNAPSHOT_2), (3, SNAPSHOT_3), (4, SNAPSHOT_4)] {
        let old = unhex(old.trim_end());
        let refused = Core::restore(&old).unwrap_err().to_string();
        assert!(refused.contains(&format!("version {version}, this build reads 5")), "{refused}");
        assert!(!Core::writes_like(&old) && Core::writes_like(&eventful().core.snapshot()));
    }
}
