//! The driver over a small ledger, which is also an example of a whole machine.

mod ledger;
mod machine;
