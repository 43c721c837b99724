//! Integration tests: one binary, one module a topic.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests may"
)]

mod accounting;
mod backend;
mod binary;
mod cache;
mod cases;
mod chart;
mod ciphers;
mod client_auth;
mod clients;
mod cluster;
mod commands;
mod crd;
mod docs;
mod explained;
mod failures;
mod faults;
mod fuzz;
mod handshake;
mod health;
mod hellos;
mod http_port;
mod http_support;
mod image;
mod incremental;
mod keylog;
mod last_good;
mod leaks;
mod make;
mod manifests;
mod matrix;
mod negotiate;
mod neighbourhood;
mod operator;
mod overhead;
mod pki;
mod places;
mod policies;
mod policy_status;
mod probe;
mod proxy_connection;
mod proxy_http;
mod proxy_tls;
mod python;
mod reconcile;
mod revocation;
mod scale;
mod scanner;
mod serving;
mod smuggling;
mod source;
mod state;
mod temporary;
mod tidy;
mod tls_chain;
mod tls_clients;
mod tls_complete;
mod tls_findings;
mod tls_form;
mod tls_remedies;
mod tls_roots;
mod traffic;
mod upstream;
mod webhook;
mod webhook_server;
