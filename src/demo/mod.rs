//! `handfast demo`: a tour that needs nothing but this binary.

pub mod pki;
