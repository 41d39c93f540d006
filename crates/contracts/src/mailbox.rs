//! How a caller with many requests gets their answers, without a channel for each.

use crate::{Told, Unavailable};

/// The answer to one attempt.
#[derive(Debug)]
pub struct Mail {
    /// The token of the request.
    pub token: u64,
    pub said: Result<Told, Unavailable>,
}

/// Takes answers, from any thread.
pub trait Mailbox: Send + Sync {
    /// Takes all of `mail`, which is left empty. Must not wait for anything.
    fn deliver(&self, mail: &mut Vec<Mail>);
}
