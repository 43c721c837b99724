//! Integration tests: one binary, one module a topic.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests may")]

mod source;
mod tidy;
mod tls_chain;
