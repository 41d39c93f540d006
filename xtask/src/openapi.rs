//! The documents that follow from the tables of operations: written, and compared with those of the
//! last release.

mod compatible;

use crate::shell::{Failure, cargo_program, output};
use serde_json::Value;
use std::{fs, path::Path};

/// The contexts that have an HTTP interface, and the page of each one's problems.
const CONTEXTS: [(&str, &str); 3] = [
    ("gate", "docs/api-problems.md"),
    ("notify", "docs/notify-problems.md"),
    ("store", "docs/store-problems.md"),
];

fn document_of(context: &str) -> String {
    format!("openapi/{context}.json")
}

/// As it was in the last release.
fn released(context: &str) -> String {
    format!("openapi/released/{context}.json")
}

/// Writes `openapi/<context>.json`, and the page of its problems.
pub(crate) fn write() -> Result<(), Failure> {
    for (context, problems) in CONTEXTS {
        let floodgate = ["run", "--quiet", "--locked", "--package", "floodgate", "--", "openapi", context];
        fs::write(document_of(context), output(&cargo_program(), &floodgate)?)?;
        fs::write(problems, output(&cargo_program(), &[&floodgate[..], &["--problems"]].concat())?)?;
    }
    Ok(())
}

/// Makes today's documents those that later ones are compared with: at a release.
pub(crate) fn release() -> Result<(), Failure> {
    for (context, _) in CONTEXTS {
        fs::write(released(context), fs::read(document_of(context))?)?;
    }
    Ok(())
}

/// Finds what a caller of the last release could not live with.
pub(crate) fn check(found: &mut Vec<String>) -> Result<(), Failure> {
    for (context, _) in CONTEXTS {
        let read = |file: String| -> Result<Value, Failure> {
            let text = fs::read_to_string(&file).map_err(|e| Failure(format!("{file}: {e}")))?;
            serde_json::from_str(&text).map_err(|e| Failure(format!("{file}: {e}")))
        };
        // It came after the last release.
        if !Path::new(&released(context)).exists() {
            continue;
        }
        let breaks = compatible::compare(&read(released(context))?, &read(document_of(context))?);
        let file = document_of(context);
        found.extend(
            breaks.into_iter().map(|what| format!("{file}: {what} (compared with the last release)")),
        );
    }
    Ok(())
}
