//! `mutants-store`: plants the bugs of `sim/mutants/store/` one at a time and shows that the
//! simulator catches each.

use sim::mutants::{Checked, Planted};
use std::process::ExitCode;

fn main() -> ExitCode {
    sim::mutants::main(&Planted {
        package: "sim-store",
        folder: "sim/store",
        checked: Checked::Seeds("sim-store"),
        patches: "sim/mutants/store",
        run_seconds_max: 600,
        members: &[
            "crates/units",
            "crates/contracts",
            "crates/engines",
            "crates/runtime",
            "crates/web",
            "crates/order",
            "crates/payment",
            "crates/inventory",
            "sim",
            "sim/store",
        ],
        others: &[],
    })
}
