//! Feeds bytes as a segment file to the read-only opener.

#![no_main]

#[path = "../checks/log_frames.rs"]
mod log_frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| log_frames::check(data));
