//! What users write: annotations and policies. A compatibility promise.

pub mod annotations;
pub mod crd;
pub mod tls_policy;
