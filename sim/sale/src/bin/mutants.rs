//! `mutants`: plants the bugs of `sim/mutants/` one at a time and shows that the simulator catches
//! each.

use sim::mutants::{Checked, Planted};
use std::process::ExitCode;

fn main() -> ExitCode {
    sim::mutants::main(&Planted {
        package: "sim-sale",
        folder: "sim/sale",
        checked: Checked::Seeds("sim"),
        patches: "sim/mutants",
        run_seconds_max: 60,
        members: &[
            "crates/units",
            "crates/contracts",
            "crates/engines",
            "crates/runtime",
            "crates/sale",
            "sim",
            "sim/sale",
        ],
        others: &[],
    })
}
