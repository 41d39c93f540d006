//! Feeds bytes as an attempt's body to the gate's parser.

#![no_main]

#[path = "../checks/attempt_body.rs"]
mod attempt_body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| attempt_body::check(data));
