//! A command whose answer was lost comes again, with the same Idempotency-Key: it is carried out
//! once, and answered the same, also after a restart. (`+100` stock, sent twice, was `+200`.)

use crate::forged_logs::{Forgery, check, no_waitlist};
use crate::ledger::{Ledger, OPENS, id, spec};
use contracts::*;
use runtime::Step;
use sale::core::{COMMAND_KEYS_MAX, CommandAnswer, Core, Operated, Record, SoFar};
use units::TimeMs;

const PHONE: u16 = 0;

fn once(key: u16, command: u8, operation: Operation) -> Operation {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&key.to_le_bytes());
    Operation::Once { key: CommandKey { id, command: [command; 16] }, operation: Box::new(operation) }
}

fn restock(key: u16, command: u8) -> Operation {
    once(key, command, Operation::Adjust { item: PHONE, delta: 100 })
}

#[test]
fn a_repeated_command_has_one_effect_and_one_answer() {
    let mut l = Ledger::open(spec(1));
    let first = l.operate(restock(1, 1));
    assert_eq!(first, Ok(OperationDone::Adjusted { free: 101 }));
    l.buy(1, 1, &[(PHONE, 1)]);
    assert_eq!(l.operate(restock(1, 1)), first, "the answer is that of the first time");
    assert_eq!(l.stock(0), (100, 1, 0, 0));
    let Err(OperateError::Conflict(why)) = l.operate(restock(1, 2)) else { panic!("another command") };
    assert!(why.contains("stands for another command"), "{why}");
    assert_eq!(l.operate(restock(2, 1)), Ok(OperationDone::Adjusted { free: 200 }), "another key");

    let pause = || once(3, 3, Operation::Pause);
    assert_eq!(l.operate(pause()), Ok(OperationDone::Ok));
    l.operate(Operation::Resume).unwrap();
    assert_eq!(l.operate(pause()), Ok(OperationDone::Ok), "a late duplicate");
    assert_eq!(l.buy(2, 2, &[(PHONE, 1)]), "granted held", "does not pause it again");
    let void = || once(4, 4, Operation::Void(VoidTarget::Attempts(vec![id(1)])));
    assert_eq!(l.operate(void()), Ok(OperationDone::Voided { count: 1 }));
    assert_eq!(l.operate(void()), Ok(OperationDone::Voided { count: 1 }));
}

#[test]
fn a_refused_command_is_decided_afresh() {
    let mut l = Ledger::open(spec(1));
    let less = || once(1, 1, Operation::Adjust { item: PHONE, delta: -1 });
    l.buy(1, 1, &[(PHONE, 1)]);
    assert!(matches!(l.operate(less()), Err(OperateError::Conflict(_))));
    l.release(1);
    assert_eq!(l.operate(less()), Ok(OperationDone::Adjusted { free: 0 }));
    let confirm = Operation::Confirm { hold: id(1), payment: "p".into() };
    assert!(matches!(l.operate(once(2, 2, confirm)), Err(OperateError::Invalid(_))), "idempotent by itself");
}

/// Promotions that a command makes due may be cut off by the end of its step; the key is not.
#[test]
fn the_key_is_logged_with_the_effect() {
    let mut l = Ledger::open(SaleSpec { waitlist: Waitlist::Places(9), ..spec(1) });
    for n in 1..6 {
        l.buy(n, n, &[(PHONE, 1)]);
    }
    let mut step = Step::with_budget(runtime::Budget { work_max: 1, ..Default::default() });
    let (now, by) = (TimeMs(OPENS), crate::ledger::by());
    let done = l.core.operate(now, by.clone(), restock(1, 1), SoFar::default(), &mut step).unwrap();
    assert!(matches!(done, Operated::Done(Ok(_))), "{done:?}");
    let entries: Vec<_> =
        step.batch().entries().map(|e| sale::core::Entry::decode(e).unwrap().record).collect();
    assert!(matches!(entries[..], [Record::Adjusted { .. }, .., Record::CommandDone { .. }]), "{entries:?}");
    assert!(l.core.owes_promotions());
    let mut step = Step::default();
    let _ = l.core.tick(now, &mut step).unwrap();
    assert!(!l.core.owes_promotions());
}

#[test]
fn keys_survive_a_restart_and_the_oldest_are_forgotten() {
    let mut l = Ledger::open(spec(1));
    l.operate(restock(1, 1)).unwrap();
    let ask = |core: &mut Core, operation| {
        let mut step = Step::default();
        let now = TimeMs(OPENS);
        match core.operate(now, crate::ledger::by(), operation, SoFar::default(), &mut step).unwrap() {
            Operated::Done(done) => (done, step.batch().count()),
            Operated::More(_) => panic!("one step is enough"),
        }
    };
    let mut restored = Core::restore(&l.core.snapshot()).unwrap();
    assert_eq!(ask(&mut restored, restock(1, 1)), (Ok(OperationDone::Adjusted { free: 101 }), 0));
    for key in 2..=COMMAND_KEYS_MAX as u16 {
        ask(&mut restored, once(key, 1, Operation::Pause)).0.unwrap();
    }
    assert_eq!(ask(&mut restored, restock(1, 1)).1, 0, "the last that is remembered");
    ask(&mut restored, once(COMMAND_KEYS_MAX as u16 + 1, 1, Operation::Resume)).0.unwrap();
    assert_eq!(ask(&mut restored, restock(1, 1)).0, Ok(OperationDone::Adjusted { free: 201 }));
    let again = Core::restore(&restored.snapshot()).unwrap();
    assert_eq!(again.snapshot(), restored.snapshot());
}

#[test]
fn a_log_with_a_command_done_twice_under_one_key_is_not_proven() {
    let done = |command| Record::CommandDone {
        key: CommandKey { id: [1; 16], command: [command; 16] },
        answer: CommandAnswer::Done,
    };
    let mut f = Forgery::of(no_waitlist(2));
    f.write(&done(1));
    assert!(f.audit().holds(), "{:#?}", f.audit());
    f.write(&done(2));
    check("twice", &f, &[("INV-4*", "a command is done twice under one key")]);
}
