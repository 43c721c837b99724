//! Handfast watches Kubernetes objects, compiles them into one immutable snapshot of hosts, certificates and routes,
//! and serves TLS and HTTP from that snapshot.
//!
//! ```text
//!  source/ ──changes──▶ reconcile ──▶ compile/ (pure) ──▶ snapshot/ ──ArcSwap──▶ proxy/ ◀── clients
//!  directory                 │ diagnostics    └── tls/ (pure) ──────────────────────┘ │ metrics
//!                            ▼                                                        ▼
//!                          status                                     admin (/metrics /readyz /debug)
//! ```

pub mod api;
pub mod check;
pub mod compile;
pub mod demo;
pub mod metrics;
pub mod proxy;
pub mod snapshot;
pub mod source;
pub mod tls;
