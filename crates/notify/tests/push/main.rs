//! Delivery of one message, over real sockets, to endpoints that answer well, badly or never.

mod addresses;
mod certificates;
mod connections;
mod endpoint;
mod hostile_endpoint;
mod signature;
mod statuses;
