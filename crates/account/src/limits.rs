//! How many letters may be asked for. It knows no letter and no account.

use contracts::store::StoreError;
use units::TimeMs;
use web::limits::Buckets;

/// Letters that may be asked for: to one address five at once, then five an hour; from one network
/// twenty at once, then one a minute; from everywhere a thousand at once, then one a second.
const TO_ADDRESS: (u32, u32) = (720, 5);
const FROM_NETWORK: (u32, u32) = (60, 20);
const IN_ALL: (u32, u32) = (1, 1_000);
/// Changes of passwords and deletions of accounts with one address: five at once, then one an
/// hour. Each of them writes to it.
const CHANGES: (u32, u32) = (3600, 5);
/// Orders of guests with one address, each of which writes to it: twenty at once, then twenty an
/// hour. They are not among the letters that are asked for: those keep no shop from selling.
const ORDERS: (u32, u32) = (180, 20);
const SLOTS: usize = 1 << 14;

/// The limits of letters that are asked for.
pub(crate) struct LetterLimits {
    to_address: Buckets,
    from_network: Buckets,
    in_all: Buckets,
    changes: Buckets,
    orders: Buckets,
}

impl LetterLimits {
    pub(crate) fn new() -> Self {
        let of = |(seconds, burst)| Buckets::slow(seconds, burst, SLOTS);
        Self {
            to_address: of(TO_ADDRESS),
            from_network: of(FROM_NETWORK),
            in_all: of(IN_ALL),
            changes: of(CHANGES),
            orders: of(ORDERS),
        }
    }

    /// Takes one change of an account with this address.
    pub(crate) fn take_change(&self, address: u64, now: TimeMs) -> Result<(), StoreError> {
        let taken = self.changes.take(address, now.0);
        taken.map_err(|wait| StoreError::TooMany { wait_seconds: wait.into() })
    }

    /// Takes one order of a guest with this address.
    pub(crate) fn take_order(&self, address: u64, now: TimeMs) -> Result<(), StoreError> {
        let taken = self.orders.take(address, now.0);
        taken.map_err(|wait| StoreError::TooMany { wait_seconds: wait.into() })
    }

    /// Takes one letter from all three, or none.
    pub(crate) fn take(&self, address: u64, network: u64, now: TimeMs) -> Result<(), StoreError> {
        let of = [(&self.to_address, address), (&self.from_network, network), (&self.in_all, 0)];
        let wait = |wait: u32| StoreError::TooMany { wait_seconds: wait.into() };
        of.iter().try_for_each(|(buckets, key)| buckets.look(*key, now.0)).map_err(wait)?;
        of.iter().try_for_each(|(buckets, key)| buckets.take(*key, now.0)).map_err(wait)
    }
}
