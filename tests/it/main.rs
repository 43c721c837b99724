//! Integration tests.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "helpers of tests fail them by panicking, and a test binary exports nothing"
)]

mod http_support;
mod proxy_connection;
mod proxy_http;
mod smuggling;
mod upstream;
