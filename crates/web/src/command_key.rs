//! The Idempotency-Key of a command: one that is sent again, because its answer was lost, is
//! carried out once. What a context remembers of it are two hashes.

use crate::problem::{INVALID, Problem};
use http::HeaderMap;
use schemars::JsonSchema;

/// The field's name.
pub const KEY_HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 64;

/// New for each command, the same for each retry of it.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub struct CommandKeyField(
    #[expect(dead_code, reason = "it is only described")]
    #[schemars(length(min = 1, max = 64), extend("pattern" = "^[!-~]+$"))]
    String,
);

/// The key of a request, if it has one.
pub fn sent(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut fields = headers.get_all(KEY_HEADER).iter();
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
            Problem::new(&INVALID, want)
        })
    });
    key.transpose()
}

/// Of the texts, each with its length, so that no two lists of texts are the same bytes.
pub fn hash(context: &str, texts: &[&str]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}
