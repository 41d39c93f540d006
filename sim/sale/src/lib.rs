//! The flash sale in the simulator: shoppers, payments and operators that send commands, and an
//! independent reading of the log against which every reply and every entry is checked.

mod bounds;
mod checker;
mod gate;
mod model;
mod names;
mod reached;
mod shoppers;
mod system;
mod workload;

pub use system::Sale;
