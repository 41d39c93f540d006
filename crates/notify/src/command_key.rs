//! The Idempotency-Key of commands to a subscription: the hashes by which the log knows them.

use crate::{
    core::{Command, From},
    problem::Problem,
};
use axum::extract::FromRequestParts;
use contracts::CommandKey;
use http::request;
use web::command_key::{hash, sent};

const KEYS: &str = "floodgate notify command keys v1";
const COMMANDS: &str = "floodgate notify commands v1";

/// The key of a request, if it has one.
pub(crate) struct Key(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        sent(&parts.headers).map(Self)
    }
}

impl Key {
    /// The command, to be carried out once if there is a key. Another caller's key of the same text
    /// is another key, and so is one for another subscription.
    pub(crate) fn once(&self, command: Command) -> Command {
        let (Some(key), Some((caller, texts))) = (&self.0, texts(&command)) else { return command };
        let id = hash(KEYS, &[&caller, key]);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let key = CommandKey { id, command: hash(COMMANDS, &texts) };
        Command::Once { key, command: Box::new(command) }
    }
}

/// Who gives a command, and what identifies it beside its subscription. The log has hashes of it,
/// so it is the same in every build: a field that is new is added only where it is not as it was
/// before.
fn texts(command: &Command) -> Option<(String, Vec<String>)> {
    let (by, name, field) = match command {
        Command::Replay { from: From::Event(event), by, .. } => (by, "replay-event", event.0.to_string()),
        Command::Replay { from: From::Time(at), by, .. } => (by, "replay-time", at.0.to_string()),
        Command::RotateSecret { overlap, by, .. } => (by, "rotate-secret", overlap.0.to_string()),
        Command::Redrive { event, by, .. } => {
            (by, "redrive", event.map_or("all".into(), |of| of.0.to_string()))
        }
        Command::Discard { event, by, .. } => {
            (by, "discard", event.map_or("all".into(), |of| of.0.to_string()))
        }
        _ => return None,
    };
    Some((by.name.clone(), vec![by.reason.clone(), name.to_owned(), field]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::EventNo;
    use contracts::{Actor, SubscriptionId};
    use data_encoding::HEXLOWER;
    use units::{DurationMs, TimeMs};

    /// The log has such hashes: a change of one refuses retries across the upgrade.
    #[test]
    fn the_hash_of_each_command_is_the_same_in_every_build() {
        let name: SubscriptionId = "crm".parse().unwrap();
        let by = || Actor::new("alice", "because");
        let replay = |from| Command::Replay { name: name.clone(), from, by: by() };
        let redrive = |event| Command::Redrive { name: name.clone(), event, by: by() };
        let discard = |event| Command::Discard { name: name.clone(), event, by: by() };
        let commands = [
            replay(From::Event(EventNo(7))),
            replay(From::Time(TimeMs(7))),
            Command::RotateSecret { name: name.clone(), overlap: DurationMs(7), by: by() },
            redrive(None),
            redrive(Some(EventNo(7))),
            discard(None),
            discard(Some(EventNo(7))),
        ];
        let hashes = commands.map(|command| match Key(Some("k-1".into())).once(command) {
            Command::Once { key, .. } => {
                assert_eq!(HEXLOWER.encode(&key.id), "4910bea56027aea9e4af000a8d949f8d");
                HEXLOWER.encode(&key.command)
            }
            other => panic!("{other:?} has no key"),
        });
        assert_eq!(
            hashes,
            [
                "e2a3c17632e808c675a9f5e90320a594",
                "aefc87ce2f50689086131d6bbf64af6c",
                "0aa8e0df2dbe667d62de58f9344664a5",
                "5e393868375e8d5e4cd8da8e083b77f6",
                "9c82ed5d763b4c4060afc2c4d63a4072",
                "ddf39c87538bcaa72ab8e2f0b5f43301",
                "42d4b5c4ced0e476b455853df50e03ba"
            ]
        );
    }
}
