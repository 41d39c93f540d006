//! The message service: it delivers messages to the HTTP endpoints of shops. It knows no sale.

pub mod push;
