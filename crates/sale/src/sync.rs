//! What threads share: std's types, and how large the filter is that they share.
//! `tests/sale/filter_schedules.rs` puts those of a model checker in their place
//! (`docs/adr/2026-11-26-model-checker.md`).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
pub(crate) use std::sync::{Mutex, MutexGuard};

/// 1 MiB. With 200,000 shoppers who have something, one in 440 of the others is a false positive.
pub(crate) const FILTER_BITS: u64 = 1 << 23;
