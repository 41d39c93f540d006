//! Operators' commands with an Idempotency-Key: which ones the sale is to take for the same.

use crate::client::send;
use crate::fake::Running;
use contracts::{CommandKey, Operation};
use units::TimeMs;
use web::api_keys::Role;

const ADJUST: &str = "/api/v1/admin/sales/demo/items/phone/adjust";
const RATE: &str = "/api/v1/admin/sales/demo/rate";
const MORE: &str = r#"{"delta":100,"reason":"more came"}"#;

#[test]
fn a_command_has_the_key_of_its_caller_and_stands_for_its_body() {
    let gate = Running::start(true, false, |_| {});
    let other = gate.api_keys.create("night-shift", Role::Operator, TimeMs(0)).unwrap();
    let key_of = |caller: &str, key: &str, path: &str, body: &str| -> CommandKey {
        let bearer = format!("Bearer {caller}");
        let headers =
            [("authorization", &*bearer), ("content-type", "application/json"), ("idempotency-key", key)];
        let answer = send(gate.bound.admin, "POST", path, &headers, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        match gate.sale.operations().pop() {
            Some((_, Operation::Once { key, .. })) => key,
            other => panic!("{other:?}"),
        }
    };
    let owner = &*gate.owner;
    let first = key_of(owner, "k1", ADJUST, MORE);
    assert_eq!(key_of(owner, "k1", ADJUST, MORE), first, "a retry");
    let spaced = r#"{ "reason": "more came", "delta": 100 }"#;
    assert_eq!(key_of(owner, "k1", ADJUST, spaced), first, "the same command, written otherwise");
    for (body, path) in [
        (r#"{"delta":101,"reason":"more came"}"#, ADJUST),
        (r#"{"delta":100,"reason":"another"}"#, ADJUST),
        (r#"{"per_second":100}"#, RATE),
    ] {
        let another = key_of(owner, "k1", path, body);
        assert!(another.id == first.id && another.command != first.command, "{body}");
    }
    assert_ne!(key_of(owner, "k2", ADJUST, MORE).id, first.id);
    assert_ne!(key_of(&other, "k1", ADJUST, MORE).id, first.id, "another caller's key is another key");
}

#[test]
fn a_key_is_optional_and_a_wrong_one_is_refused() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let ask = |key: Option<&str>| {
        let mut headers = vec![("authorization", &*bearer), ("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        send(gate.bound.admin, "POST", ADJUST, &headers, MORE)
    };
    assert_eq!(ask(None).status, 200);
    assert!(matches!(gate.sale.operations().pop(), Some((_, Operation::Adjust { delta: 100, .. }))));
    let count = gate.sale.operations().len();
    for wrong in ["", "two words", &"k".repeat(65)] {
        let answer = ask(Some(wrong));
        assert_eq!(answer.problem(), "invalid", "{wrong:?}: {answer:?}");
        assert!(answer.body.contains("Idempotency-Key: want one of 1 to 64"), "{answer:?}");
    }
    assert_eq!(gate.sale.operations().len(), count, "and nothing is done");
}

/// A sale may remember the key of a command as an earlier build wrote it, with a hash of other
/// bytes.
#[test]
fn a_key_that_stands_for_another_command_is_tried_as_an_earlier_build_made_it() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let headers =
        [("authorization", &*bearer), ("content-type", "application/json"), ("idempotency-key", "k1")];
    let ask = |path: &str, body: &str| send(gate.bound.admin, "POST", path, &headers, body);
    // The fake sale refuses every pause as one that does not fit.
    let refused = ask("/api/v1/admin/sales/demo/pause", r#"{"reason":"rain"}"#);
    assert_eq!(refused.problem(), "conflict");
    let keys: Vec<CommandKey> = gate
        .sale
        .operations()
        .into_iter()
        .map(|(_, operation)| match operation {
            Operation::Once { key, operation } if *operation == Operation::Pause => key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(keys[0].id, keys[1].id);
    assert_ne!(keys[0].command, keys[1].command);

    assert_eq!(ask(ADJUST, MORE).status, 200);
    assert_eq!(gate.sale.operations().len(), 3, "what is carried out is not tried again");
}
