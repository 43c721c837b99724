//! A cluster as a source.

pub mod seen;
