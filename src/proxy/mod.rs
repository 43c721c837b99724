//! The data plane.

pub mod http;
pub mod settings;
pub mod upstream;
