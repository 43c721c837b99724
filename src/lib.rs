//! Handfast watches Kubernetes objects, compiles them into one immutable snapshot of hosts, certificates and routes,
//! and serves TLS and HTTP from that snapshot.
//!
//! ```text
//!  source/ ──changes──▶ reconcile ──▶ compile/ (pure) ──▶ snapshot/ ──ArcSwap──▶ proxy/ ◀── clients
//!  directory                 │ diagnostics    └── tls/ (pure) ──────────────────────┘ │ metrics
//!                            ▼                                                        ▼
//!                          status                                     admin (/metrics /readyz /debug)
//! ```

pub mod access_log;
pub mod admin;
pub mod api;
pub mod app;
pub mod check;
pub mod clock;
mod commands;
pub mod compile;
pub mod config;
pub mod demo;
pub mod explain;
pub mod failures;
pub mod keylog;
pub mod kubernetes;
pub mod leader;
pub mod mask;
pub mod metrics;
pub mod open_files;
pub mod places;
pub mod probe;
pub mod proxy;
mod quote;
pub mod reconcile;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod trie;
pub mod webhook;
