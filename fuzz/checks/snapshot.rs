//! What must hold for any bytes that a snapshot might have: they are refused, or they are a state
//! that comes back from its own snapshot. Never a panic, and no more memory than the bytes can
//! fill.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use sale::core::Core;

/// Whether the bytes are a snapshot.
pub(crate) fn check(data: &[u8]) -> bool {
    let Ok(core) = Core::restore(data) else { return false };
    let snapshot = core.snapshot();
    let again = Core::restore(&snapshot).expect("what was restored makes a snapshot that can be");
    assert_eq!(again.sequence(), core.sequence());
    assert!(again.snapshot() == snapshot, "a snapshot of the same state has other bytes");
    true
}
