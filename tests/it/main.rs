//! Integration tests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail its test by panicking")]

mod source;
