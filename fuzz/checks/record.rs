//! What must hold for any bytes that a log entry might have: they are no record, or one that is
//! written as the same bytes.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use sale::core::{Entry, Record};

/// Whether the bytes are an entry.
pub(crate) fn check(data: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(data) else { return false };
    let mut bytes = Vec::with_capacity(data.len());
    entry.record.encode(entry.at, &mut bytes);
    if matches!(entry.record, Record::Defined { .. }) {
        // JSON may be written in more than one way; what it says must stay.
        assert_eq!(Entry::decode(&bytes), Ok(entry));
    } else {
        assert_eq!(bytes, data, "{entry:?}");
    }
    true
}
