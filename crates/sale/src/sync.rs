//! What threads share and how they are started: std's types and arc-swap's, and how large the
//! filter is that they share. `tests/sale/sync.rs` has those of a model checker in their place
//! (`docs/adr/2026-11-26-model-checker.md`).

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use runtime::drive::Threads;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::time::Instant;

/// 1 MiB. With 200,000 shoppers who have something, one in 440 of the others is a false positive.
pub(crate) const FILTER_BITS: u64 = 1 << 23;
