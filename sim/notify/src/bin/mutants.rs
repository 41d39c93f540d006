//! `mutants-notify`: plants the bugs of `sim/mutants/notify/` one at a time and shows that the
//! simulator catches each.

use sim::mutants::{Checked, Planted};
use std::process::ExitCode;

fn main() -> ExitCode {
    sim::mutants::main(&Planted {
        package: "sim-notify",
        folder: "sim/notify",
        checked: Checked::Seeds("sim-notify"),
        patches: "sim/mutants/notify",
        run_seconds_max: 600,
        members: &[
            "crates/units",
            "crates/contracts",
            "crates/engines",
            "crates/runtime",
            "crates/web",
            "crates/notify",
            "sim",
            "sim/notify",
        ],
        others: &[],
    })
}
