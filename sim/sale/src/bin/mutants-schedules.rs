//! `mutants-schedules`: plants the bugs of `sim/mutants/schedules/` one at a time and shows that
//! the tests of the sale's threads under a model checker catch each.

use sim::mutants::{Checked, Planted};
use std::process::ExitCode;

fn main() -> ExitCode {
    sim::mutants::main(&Planted {
        package: "sale",
        folder: "crates/sale",
        checked: Checked::Tests("sale", "schedules::"),
        patches: "sim/mutants/schedules",
        run_seconds_max: 300,
        members: &[
            "crates/units",
            "crates/contracts",
            "crates/engines",
            "crates/runtime",
            "crates/sale",
            "sim",
        ],
        others: &["fuzz/checks", "fuzz/corpus", "docs"],
    })
}
