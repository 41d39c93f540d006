//! The HTTP layer of the flash sale: verifies who asks, queues the question, returns the answer. It owns no stock.

pub mod ports;
