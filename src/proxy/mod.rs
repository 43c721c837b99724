//! The data plane.

pub mod handshake;
pub mod http;
pub mod listener;
pub mod proxy_protocol;
pub mod record;
pub mod settings;
pub mod stream;
pub mod upstream;
pub mod worker;
