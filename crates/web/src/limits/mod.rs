//! How many requests an address may send and how many connections it may have: the parts, which a
//! context composes, and [`AddressFilter`], which combines those for addresses and serves all
//! listeners. This module sees addresses and times, and no HTTP. Its records of clients have a
//! fixed size, whatever a crowd sends; a count of connections is dropped with the last of them.

mod addresses;
mod buckets;
mod denied;
mod reason;
mod refusals;
mod shares;

pub use addresses::{AddressFilter, TooMany};
pub use buckets::Buckets;
pub use denied::{ChangeError, DENIED_MAX, Denied, DenyList};
pub use reason::{REASONS_MAX, Reason};
pub use refusals::{Refusals, Refused};
pub use shares::{Share, Shares};
