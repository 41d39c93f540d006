//! The flash sale's business layer: [`core`] holds the rules, [`worker`] makes them durable, [`service`] gives the worker a
//! thread and everybody else a handle, [`known`] says whom gates may answer by themselves, [`audit`] derives everything again
//! from the log alone.

pub mod audit;
pub mod core;
pub mod known;
mod queue;
pub mod service;
pub mod worker;
