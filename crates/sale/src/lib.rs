//! The flash sale's business layer: [`core`] holds the rules, [`worker`] makes them durable, [`service`] gives the worker a
//! thread and everybody else a handle, [`membership_filter`] says whom gates may answer by themselves, [`audit`] derives everything again
//! from the log alone.

pub mod audit;
pub mod core;
pub mod membership_filter;
mod queue;
pub mod service;
pub mod worker;
