//! The data plane.

pub mod handshake;
pub mod listener;
pub mod proxy_protocol;
pub mod stream;
