//! What threads share and how they are started: std's types. In this crate's own tests they are
//! those of a model checker, which decides between any two uses of them which thread goes on
//! (`docs/adr/2026-11-26-model-checker.md`).

#[cfg(test)]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
#[cfg(not(test))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
