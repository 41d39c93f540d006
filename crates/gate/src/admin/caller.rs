//! The operator of a command, and the Idempotency-Key under which it is carried out once.

use crate::problem::{self, Problem};
use axum::extract::FromRequestParts;
use contracts::{Actor, CommandKey, Operation};
use http::request;
use schemars::JsonSchema;
use web::api_keys::Operator;

const KEY_HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 64;

/// New for each command, the same for each retry of it.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct CommandKeyField(
    #[schemars(length(min = 1, max = 64), extend("pattern" = "^[!-~]+$"))] String,
);

/// The operator who gives a command, and its key if it has one.
pub(super) struct Caller {
    operator: Operator,
    key: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        let mut fields = parts.headers.get_all(KEY_HEADER).iter();
        let key = fields.next().map(|field| {
            let is_one = fields.next().is_none();
            let text = std::str::from_utf8(field.as_bytes()).ok();
            let fits = |text: &&str| {
                (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
            };
            text.filter(fits).filter(|_| is_one).map(str::to_owned).ok_or_else(|| {
                let want = format!(
                    "Idempotency-Key: want one of 1 to {KEY_BYTES_MAX} visible ASCII characters, new for each command"
                );
                Problem::new(&problem::INVALID, want)
            })
        });
        Ok(Self { operator, key: key.transpose()? })
    }
}

impl Caller {
    /// The command as the sale takes it. Another caller's key of the same text is another key.
    pub(super) fn command(&self, reason: &str, operation: Operation) -> (Actor, Operation) {
        let actor = self.operator.actor(reason);
        let Some(key) = &self.key else { return (actor, operation) };
        // The text of a command has all of its fields; a later build may write it otherwise, and
        // then a retry across the upgrade is refused instead of being carried out twice.
        let command = hash(&[reason, &format!("{operation:?}")]);
        let key = CommandKey { id: hash(&[&actor.name, key]), command };
        (actor, Operation::Once { key, operation: Box::new(operation) })
    }
}

/// Of the texts, each with its length, so that no two lists of texts are the same bytes.
fn hash(texts: &[&str]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("floodgate gate command keys v1");
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}
