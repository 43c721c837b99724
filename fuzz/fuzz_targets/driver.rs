//! The target of `tests/it/fuzz/driver.rs`.
#![no_main]

#[path = "../../tests/it/fuzz/driver.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a finding is told")]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| driver::run(data));
