//! Every entry and every snapshot that the fuzzers start from or found, and thousands near them, go
//! through the checks that the fuzz targets make.

#[path = "../../../../fuzz/checks/record.rs"]
mod record;
#[path = "../../../../fuzz/checks/snapshot.rs"]
mod snapshot;

use crate::ledger::{Ledger, MemoryLog, OPENS, by, id, key, spec};
use contracts::*;
use sale::audit::audit;
use sale::core::{Core, Record, RefusalCount, RefusalKind};
use std::{fs, path::PathBuf};
use units::{Prng, Sequence, TimeMs};

/// Far more than the seeds need, and far less than a false length could ask for.
const GROWTH_KIB_MAX: u64 = 256 << 10;

fn dir(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", target].iter().collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The seeds are what this version writes. Writes them again with `GOLDEN=write`.
fn check_seeds(target: &str, seeds: &[(&str, Vec<u8>)]) {
    for (name, bytes) in seeds {
        if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(dir(target).join(name), bytes).unwrap();
        }
        assert!(fs::read(dir(target).join(name)).unwrap() == *bytes, "{target}/{name}");
    }
}

/// A mutation of a corpus file: flipped, cut, spliced, or with a false length.
fn near(corpus: &[Vec<u8>], prng: &mut Prng) -> Vec<u8> {
    let mut bytes = prng.pick(corpus).clone();
    for _ in 0..1 + prng.below(3) {
        let at = prng.below(bytes.len() as u64 + 1) as usize;
        match prng.below(5) {
            0 => bytes.truncate(at),
            1 | 2 if at < bytes.len() => bytes[at] = prng.next_u64() as u8,
            3 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()),
            _ => {
                let other = prng.pick(corpus);
                let from = prng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn records() -> Vec<(&'static str, Record)> {
    let sealed = SealedShopper::new(b"sealed").unwrap();
    let attempt = Attempt { id: id(1), shopper: key(2), sealed, tier: 3, basket: Basket::single(0, 1) };
    let bundle = [Line { item: 0, quantity: 1 }, Line { item: 1, quantity: 5 }];
    let bundle = Attempt { basket: Basket::new(&bundle).unwrap(), ..attempt };
    let (hold, payment, pay_by) = (id(1), "p-1".to_owned(), TimeMs(OPENS));
    let limits = vec![RoundItemLimit { round: 0, item: 1, limit: 2 }];
    let refused = |kind, item| RefusalCount { kind, item, quantity: 1, first_as_of: Sequence(7), count: 9 };
    let refusals = vec![refused(RefusalKind::SoldOut, 1), refused(RefusalKind::Paused, 0)];
    vec![
        ("defined", Record::Defined { by: by(), spec: Box::new(spec(3)) }),
        ("round_opened", Record::RoundOpened { round: 0, by: by() }),
        ("round_closed", Record::RoundClosed { round: 0, by: by() }),
        ("paused", Record::Paused { by: by() }),
        ("resumed", Record::Resumed { by: by() }),
        ("extended", Record::Extended { round: 0, closes_at: pay_by, by: by() }),
        ("adjusted", Record::Adjusted { item: 1, delta: -3, by: by() }),
        ("limits", Record::Limits { sale: Some(4), items: limits.clone(), by: by() }),
        ("limits_of_items", Record::Limits { sale: None, items: limits, by: by() }),
        ("rate", Record::Rate { per_second: 100, by: by() }),
        (
            "list",
            Record::List { list: ListKind::Denied, clear: true, shoppers: vec![key(1), key(2)], by: by() },
        ),
        ("reserved", Record::Reserved { shopper: key(1), reserved: true }),
        ("granted", Record::Granted { attempt: bundle, round: 0, pay_by }),
        ("waitlisted", Record::Waitlisted { attempt, round: 0, position: 1 }),
        ("promoted", Record::Promoted { attempt, round: 0, pay_by }),
        ("confirmed", Record::Confirmed { hold, payment: payment.clone(), late: true, by: None }),
        ("refund_due", Record::RefundDue { hold, payment: payment.clone(), by: None }),
        ("confirmed_by", Record::Confirmed { hold, payment: payment.clone(), late: false, by: Some(by()) }),
        ("refund_due_by", Record::RefundDue { hold, payment, by: Some(by()) }),
        ("left", Record::Left { attempt: hold, voided: false, by: by() }),
        ("released", Record::Released { hold, by: by() }),
        ("expired", Record::Expired { hold }),
        ("voided", Record::Voided { hold, by: by() }),
        ("refusals", Record::Refusals { entries: refusals }),
        ("space_regained", Record::SpaceRegained { since: pay_by, refused: 3 }),
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
                entries: vec![NotEligibleRange {
                    by: IneligibleBy::DenyList,
                    first_as_of: Sequence(40),
                    last_as_of: Sequence(57),
                    count: 9,
                }],
            },
        ),
    ]
}

#[test]
fn every_corpus_entry_is_a_record_or_refused() {
    let encoded = |(name, record): (&'static str, Record)| {
        let mut bytes = Vec::new();
        record.encode(TimeMs(OPENS), &mut bytes);
        (name, bytes)
    };
    let seeds: Vec<(&str, Vec<u8>)> = records().into_iter().map(encoded).collect();
    check_seeds("record", &seeds);
    let records = corpus("record").iter().filter(|bytes| record::check(bytes)).count();
    assert!(records >= seeds.len(), "{records} of {}", seeds.len());
}

#[test]
fn every_mutated_entry_is_a_record_or_refused() {
    let corpus = corpus("record");
    let mut prng = Prng::new(1);
    let good = (0..50_000).filter(|_| record::check(&near(&corpus, &mut prng))).count();
    assert!(good > 5000, "{good}: the changes leave something to look at");
}

/// The auditor must cope with false numbers: it terminates, and proves nothing that the core does
/// not replay.
#[test]
fn the_auditor_terminates_on_logs_of_mutated_entries() {
    let corpus = corpus("record");
    let mut l = Ledger::open(spec(3));
    l.buy(1, 2, &[(0, 1)]);
    let honest = l.log;
    let mut prng = Prng::new(1);
    for _ in 0..2000 {
        let mut log = honest.clone();
        while log.len() < 20 {
            let bytes = near(&corpus, &mut prng);
            if record::check(&bytes) {
                log.push(bytes);
            }
        }
        let report = audit(&mut MemoryLog(log.clone()), None).unwrap();
        assert_eq!(report.entries, 20);
        let mut core = Core::new();
        let mut entries = log.iter().zip(1..);
        let replays =
            entries.all(|(bytes, at)| runtime::replay_entry(&mut core, Sequence(at), bytes).is_ok());
        assert!(replays || !report.holds(), "{report:#?}");
    }
}

fn snapshots() -> Vec<(&'static str, Vec<u8>)> {
    let spec = SaleSpec { waitlist: Waitlist::Places(3), limit_per_shopper: 4, ..spec(2) };
    let mut l = Ledger::open(spec.clone());
    let opened = l.core.snapshot();
    l.buy(1, 1, &[(0, 1), (1, 1)]);
    l.buy(2, 2, &[(0, 1)]);
    for n in 3..6 {
        l.buy(n, n, &[(0, 1)]);
    }
    l.pay(1, "p-1");
    l.release(2);
    l.operate(Operation::Rate { per_second: 10 }).unwrap();
    l.operate(Operation::List { list: ListKind::Denied, clear: true, shoppers: vec![key(9)] }).unwrap();
    l.operate(Operation::Adjust { item: 1, delta: 5 }).unwrap();
    l.operate(Operation::Pause).unwrap();
    let in_the_middle = l.core.snapshot();
    l.operate(Operation::Resume).unwrap();
    l.at(OPENS + 60_000);
    l.pay(3, "late");
    l.pay(2, "too-late");
    vec![
        ("empty", Core::new().snapshot()),
        ("opened", opened),
        ("in_the_middle", in_the_middle),
        ("after_expiries", l.core.snapshot()),
    ]
}

#[test]
fn every_corpus_snapshot_is_a_state_or_refused() {
    check_seeds("snapshot", &snapshots());
    let states = corpus("snapshot").iter().filter(|bytes| snapshot::check(bytes)).count();
    assert!(states >= 4, "{states}");
}

/// The most memory that this process has ever been given, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn mutated_snapshots_are_read_or_refused_and_a_false_length_costs_no_memory() {
    let corpus = corpus("snapshot");
    let mut prng = Prng::new(1);
    let before = peak_kib();
    let good = (0..20_000).filter(|_| snapshot::check(&near(&corpus, &mut prng))).count();
    assert!(good > 500, "{good}: the changes leave something to look at");
    let growth = peak_kib() - before;
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB for snapshots of a few");
}
