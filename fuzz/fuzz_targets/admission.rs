//! The target of `tests/it/fuzz/admission.rs`.
#![no_main]

#[path = "../../tests/it/fuzz/admission.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a finding is told")]
mod admission;

libfuzzer_sys::fuzz_target!(|data: &[u8]| admission::run(data));
