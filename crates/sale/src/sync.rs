//! What threads share: std's types. `tests/sale/filter_schedules.rs` puts those of a model checker in
//! their place (`docs/adr/2026-11-26-model-checker.md`).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
pub(crate) use std::sync::{Mutex, MutexGuard};
