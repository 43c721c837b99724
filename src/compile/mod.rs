//! The functional core: Kubernetes objects in, a [`Snapshot`](crate::snapshot::Snapshot) and diagnostics out.

mod diagnostic;
mod objects;

pub use diagnostic::{Diagnostic, Effect, Problem, Severity};
pub use objects::{Change, Kind, Object, ObjectKey, Scope, SecretObject};
