//! The flash sale in the simulator: shoppers, payments and operators that send commands, and an
//! independent reading of the log against which every reply and every entry is checked.

mod checker;
mod gate;
mod model;
mod names;
mod shoppers;
mod system;
mod workload;

pub use system::Sale;
