//! What users write: annotations. A compatibility promise.
