//! Incremental compilation.
