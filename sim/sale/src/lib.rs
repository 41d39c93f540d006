//! The flash sale in the simulator: shoppers, payments and operators who ask, and a reading of the
//! log of its own against which every reply and every entry is held.

mod checker;
mod gate;
mod model;
mod names;
mod shoppers;
mod system;
mod workload;

pub use system::Sale;
