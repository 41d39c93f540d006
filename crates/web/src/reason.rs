//! Why an operator gives a command, for the log. A command that changes a promise to shoppers needs
//! a reason; for others it is optional.

use crate::problem::{INVALID, Problem};
use axum::extract::Query;
use contracts::REASON_BYTES_MAX;
use schemars::JsonSchema;
use serde::Deserialize;

/// Whether a command needs a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasons {
    Needed,
    Optional,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct InQuery {
    reason: String,
}

/// A reason that may be left out. Not checked: see [`Reasons::check`].
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(inline, extend("pattern" = NO_CONTROLS), description = REASON)]
pub struct Reason(#[schemars(length(max = 200))] pub String);

/// A reason that is needed. Not checked: see [`Reasons::check`], which says more of one that is
/// missing than the reader of JSON: a field of this type defaults to none.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(inline, extend("pattern" = NO_CONTROLS), description = REASON)]
pub struct NeededReason(#[schemars(length(min = 1, max = 200))] pub String);

const REASON: &str =
    "In the operator's own words, for the log. At most 200 bytes of UTF-8, without control characters.";

/// The pattern of text without control characters.
pub const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

impl Reasons {
    /// Refuses a reason that is missing, too long or not one line of text.
    pub fn check(self, reason: &str) -> Result<(), Problem> {
        check_text("reason", reason, usize::from(self == Self::Needed))
    }

    /// The reason as `?reason=…`, for requests whose body is not a JSON command.
    pub fn in_query(self, query: Option<&str>) -> Result<String, Problem> {
        let wrong =
            |why: String| Problem::new(&INVALID, format!("query: {why}; want reason, and nothing else"));
        let uri = format!("/?{}", query.unwrap_or_default());
        let uri: http::Uri = uri.parse().map_err(|e: http::uri::InvalidUri| wrong(e.to_string()))?;
        let Query(InQuery { reason }) = Query::try_from_uri(&uri).map_err(|e| wrong(e.body_text()))?;
        // Invalid UTF-8 was replaced while it was decoded, and would not be logged as given.
        if reason.contains(char::REPLACEMENT_CHARACTER) {
            return Err(wrong("reason: not UTF-8".into()));
        }
        self.check(&reason).map(|()| reason)
    }
}

/// Refuses a text for the log that is too short, too long, or could break a line.
pub fn check_text(field: &str, text: &str, bytes_min: usize) -> Result<(), Problem> {
    if (bytes_min..=REASON_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        return Ok(());
    }
    let why = format!("{field}: want {bytes_min} to {REASON_BYTES_MAX} bytes without control characters");
    Err(Problem::new(&INVALID, why))
}
