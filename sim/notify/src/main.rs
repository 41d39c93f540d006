//! `sim-notify`: runs the message service in the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    sim::cli::main::<sim_notify::Messages>()
}
