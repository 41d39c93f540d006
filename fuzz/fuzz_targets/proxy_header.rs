//! Feeds bytes as the start of a balancer's connection to the gate's reader of PROXY protocol
//! headers.

#![no_main]

#[path = "../checks/proxy_header.rs"]
mod proxy_header;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy_header::check(data));
