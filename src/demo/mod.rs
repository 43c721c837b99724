//! `handfast demo`: a tour that needs nothing but this binary.

pub mod client;
pub mod echo;
pub mod pki;
