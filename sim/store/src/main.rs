//! `sim-store`: runs the store in the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    sim_store::cli::main()
}
