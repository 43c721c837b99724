//! Integration tests: one binary, one module a topic.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests may"
)]

mod cases;
mod handshake;
mod incremental;
mod manifests;
mod source;
mod tidy;
mod tls_chain;
