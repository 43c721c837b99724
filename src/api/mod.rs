//! What users write: annotations and policies. A compatibility promise.

pub mod annotations;
pub mod tls_policy;
