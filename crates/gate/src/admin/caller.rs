//! The operator of a command, and the Idempotency-Key under which it is carried out once.

use crate::problem::Problem;
use axum::extract::FromRequestParts;
use contracts::{Actor, AttemptId, CommandKey, Operation, VoidTarget};
use data_encoding::HEXLOWER;
use http::request;
pub(super) use web::command_key::CommandKeyField;
use web::{
    api_keys::Operator,
    command_key::{self, hash},
};

/// The operator who gives a command, and its key if it has one.
pub(super) struct Caller {
    operator: Operator,
    key: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        Ok(Self { operator, key: command_key::sent(&parts.headers)? })
    }
}

/// A command as the sale takes it.
pub(super) struct Commanded {
    pub(super) actor: Actor,
    pub(super) operation: Operation,
    /// The same with the key as builds before version 2 of the hash made it: the sale may remember
    /// it, if this is a retry across an upgrade.
    pub(super) as_before: Option<Operation>,
}

impl Caller {
    /// The command as the sale takes it. Another caller's key of the same text is another key.
    pub(super) fn command(&self, reason: &str, operation: Operation) -> Commanded {
        let actor = self.operator.actor(reason);
        let Some(key) = &self.key else { return Commanded { actor, operation, as_before: None } };
        let id = hash(KEYS, &[&actor.name, key]);
        let once = |command: [u8; 16]| Operation::Once {
            key: CommandKey { id, command },
            operation: Box::new(operation.clone()),
        };
        let as_before = once(hash(KEYS, &[reason, &format!("{operation:?}")]));
        Commanded { operation: once(command_hash(reason, &operation)), as_before: Some(as_before), actor }
    }
}

const KEYS: &str = "floodgate gate command keys v1";
const COMMANDS: &str = "floodgate gate commands v2";

/// Identifies a command with its reason. The sale's log has it, so it is the same in every build: a
/// field that is new is added only where it is not as it was before.
fn command_hash(reason: &str, operation: &Operation) -> [u8; 16] {
    let mut texts = vec![reason.to_owned()];
    let mut add = |name: &str, fields: Vec<String>| {
        texts.push(name.to_owned());
        texts.extend(fields);
    };
    match operation {
        Operation::Open => add("open", vec![]),
        Operation::Pause => add("pause", vec![]),
        Operation::Resume => add("resume", vec![]),
        Operation::Close => add("close", vec![]),
        Operation::Extend { closes_at } => add("extend", vec![closes_at.0.to_string()]),
        Operation::Adjust { item, delta } => add("adjust", vec![item.to_string(), delta.to_string()]),
        Operation::Limits { sale, items } => {
            let sale = sale.map_or("unchanged".into(), |limit| limit.to_string());
            let items = items.iter().flat_map(|of| [of.round, of.item, of.limit]).map(|n| n.to_string());
            add("limits", std::iter::once(sale).chain(items).collect());
        }
        Operation::EndWaitlist => add("end-waitlist", vec![]),
        Operation::Rate { per_second } => add("rate", vec![per_second.to_string()]),
        Operation::Void(VoidTarget::Shopper(shopper)) => add("void-shopper", vec![hex(&shopper.0)]),
        Operation::Void(VoidTarget::Attempts(attempts)) => {
            add("void-attempts", attempts.iter().map(AttemptId::to_string).collect());
        }
        // They are idempotent by themselves, and the sale takes no key for them.
        Operation::List { .. }
        | Operation::Confirm { .. }
        | Operation::Release { .. }
        | Operation::Reserve { .. }
        | Operation::Once { .. }
        | Operation::Define(_) => add("takes-no-key", vec![]),
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    hash(COMMANDS, &texts)
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{RoundItemLimit, ShopperKey};
    use units::TimeMs;

    /// The log of every sale has such hashes: a change of one refuses retries across the upgrade.
    #[test]
    fn the_hash_of_each_command_is_the_same_in_every_build() {
        let limits = vec![RoundItemLimit { round: 1, item: 2, limit: 3 }];
        let commands = [
            (Operation::Open, "9238167a98974d9e2a10f1c4048e180a"),
            (Operation::Pause, "6125050ddfe3f898e4c4541afd277920"),
            (Operation::Resume, "9a607288332e84c11b1d200cd80d9759"),
            (Operation::Close, "34f015f2edc3dfd81a18ff5340696b2b"),
            (Operation::Extend { closes_at: TimeMs(1_700_000_000_000) }, "e48c9b7d73490856f0bfb30558ece6d2"),
            (Operation::Adjust { item: 1, delta: -5 }, "a1572fc94be8c6cb2a3f56498ae31ad5"),
            (Operation::Limits { sale: Some(4), items: limits.clone() }, "94160069c6b741c43809c7d912bd785e"),
            (Operation::Limits { sale: None, items: limits }, "13af2e302add6a54997c4981006b2aab"),
            (Operation::EndWaitlist, "d241db8e70a02d57359bd3e7aab8befe"),
            (Operation::Rate { per_second: 9 }, "b0252c3061e2a08318a6d31bafdbcc36"),
            (Operation::Void(VoidTarget::Shopper(ShopperKey([7; 16]))), "49d20c9c60f1d86785c9128d63edf255"),
            (
                Operation::Void(VoidTarget::Attempts(vec![AttemptId([1; 16]), AttemptId([2; 16])])),
                "05bcc822f511d0a7bef4eefcd8f1b60e",
            ),
        ];
        assert!(commands.iter().all(|(operation, _)| operation.takes_key()));
        let hashes = commands.each_ref().map(|(operation, _)| hex(&command_hash("because", operation)));
        assert_eq!(hashes, commands.map(|(_, want)| want));
    }

    /// As builds before version 2 wrote them: see [`Commanded::as_before`].
    #[test]
    fn the_hash_of_earlier_builds_is_still_made() {
        let text = format!("{:?}", Operation::Adjust { item: 1, delta: 100 });
        assert_eq!(text, "Adjust { item: 1, delta: 100 }");
        assert_eq!(hex(&hash(KEYS, &["more came", &text])), "8f1205e04bcf63bdcab53a784274e748");
    }
}
