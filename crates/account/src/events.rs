//! What becomes of accounts, for others: events of the topic `store-accounts`, written in the
//! transaction of the change. They have the account's number, and nothing else of the person: an
//! event cannot be taken back when the account is deleted.

use contracts::store::AccountId;
use engines::sql::{SqlError, Tx, outbox};
use serde_json::json;
use units::TimeMs;

/// What has become of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Registered,
    /// Its name is another one.
    Renamed,
    Deleted,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Renamed => "renamed",
            Self::Deleted => "deleted",
        }
    }
}

/// Puts an event into the outbox.
pub(crate) fn put(tx: &mut Tx<'_>, at: TimeMs, account: AccountId, change: Change) -> Result<(), SqlError> {
    let id = web::secret::random_bytes::<16>();
    let id = id.map_err(|error| SqlError::Shortage(format!("random bytes: {error}")))?;
    let event = json!({
        "specversion": "1.0",
        "id": format!("{:032x}", u128::from_be_bytes(id)),
        "source": "/accounts",
        "type": format!("floodgate.account.{}", change.as_str()),
        "subject": account,
        "time": at,
        "datacontenttype": "application/json",
        "data": { "account": account },
    });
    outbox::put(tx, &event.to_string())
}
