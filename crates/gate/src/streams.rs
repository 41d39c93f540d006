//! How many streams of server-sent events may be open: neither one shopper nor one address may have
//! all of them.

use crate::{
    pass::Pass,
    problem::{self, Problem},
};
use std::{fmt, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use web::{
    limits::{Share, Shares},
    protection::Protection,
    server::Peer,
};

/// The event streams that may be open.
pub(crate) struct Streams {
    all: Arc<Semaphore>,
    by_shopper: Arc<Shares>,
    by_address: Arc<Shares>,
    protection: Arc<Protection>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.open()).finish_non_exhaustive()
    }
}

/// One event stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    _shopper: Share,
    _address: Option<Share>,
    _of_all: OwnedSemaphorePermit,
}

impl Streams {
    pub(crate) fn new(protection: &Arc<Protection>) -> Self {
        Self {
            all: Arc::new(Semaphore::new(protection.settings.events_max)),
            by_shopper: Arc::default(),
            by_address: Arc::default(),
            protection: Arc::clone(protection),
        }
    }

    /// How many streams are open.
    pub(crate) fn open(&self) -> usize {
        self.protection.settings.events_max.saturating_sub(self.all.available_permits())
    }

    /// Lets a shopper open a stream.
    pub(crate) fn admit(&self, peer: Peer, pass: &Pass) -> Result<StreamPermit, Problem> {
        let full = |whose: &str| {
            let why = format!("{whose}: ask for the attempt itself instead, every few seconds");
            Problem::new(&problem::QUEUE_FULL, why).retry_after(5)
        };
        let (max, addresses) = (&self.protection.settings, &self.protection.addresses);
        let shopper = self
            .by_shopper
            .take(pass.shopper.low_bits(), max.events_per_shopper_max)
            .ok_or_else(|| full("too many event streams of this shopper"))?;
        let address = match addresses.is_exempt(peer.0) {
            true => None,
            false => Some(
                self.by_address
                    .take(addresses.address_key(peer.0), max.events_per_address_max)
                    .ok_or_else(|| full("too many event streams of this address"))?,
            ),
        };
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        let of_all = of_all.map_err(|_| full("too many event streams"))?;
        Ok(StreamPermit { _shopper: shopper, _address: address, _of_all: of_all })
    }
}
