//! What users write: annotations. A compatibility promise.

pub mod annotations;
