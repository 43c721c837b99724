//! The invariants of ARCHITECTURE.md as tests: what a module must not name, and what we may depend on.
//!
//! Source files are parsed, not searched: comments and strings may say what they like, and a rule sees
//! `use std::{fs, env}` as well as `std::fs::read`. Every rule is shown to fail on a snippet that breaks it.

mod dependencies;
mod files;
mod names;
mod words;
