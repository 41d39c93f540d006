//! `sim`: runs the flash sale in the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    sim::cli::main::<sim_sale::Sale>()
}
