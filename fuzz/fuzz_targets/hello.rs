//! The target of `tests/it/fuzz/hello.rs`.
#![no_main]

#[path = "../../tests/it/fuzz/hello.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a finding is told")]
mod hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hello::run(data));
