//! Everything that can be wrong with a configuration: data, not log lines.

use std::fmt;

use crate::snapshot::{BadPath, HostName};
use crate::tls::chain::Finding;

use super::objects::ObjectKey;

pub use crate::tls::Severity;

/// One thing that is wrong, where it is, what it does to traffic, and which hosts it touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The object to repair.
    pub subject: ObjectKey,
    /// The field, as a path (`spec.rules[0].http.paths[1].path`); empty if it is the whole object.
    pub field: Box<str>,
    /// What is wrong.
    pub problem: Problem,
    /// What it does to traffic now.
    pub effect: Effect,
    /// Hosts that it touches, sorted; empty if none, or if it is not known.
    pub hosts: Vec<HostName>,
}

/// What a problem does to traffic; part of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The default certificate is served in place of the host's own.
    Default,
    /// Handshakes for the host are refused.
    HostRefused,
    /// The last usable version of the Secret, or of a broken file's objects, is served.
    LastGood,
    /// Traffic is served as configured.
    None,
    /// The previous policy stays in force.
    PolicyHeld,
    /// Handfast serves a repaired form (for example, the chain in the right order).
    Repaired,
    /// The route answers 503, or does not exist.
    RouteDropped,
}

impl Effect {
    /// The word used in JSON and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Effect::Default => "default",
            Effect::HostRefused => "host-refused",
            Effect::LastGood => "last-good",
            Effect::None => "none",
            Effect::PolicyHeld => "policy-held",
            Effect::Repaired => "repaired",
            Effect::RouteDropped => "route-dropped",
        }
    }
}

/// What can be wrong. Closed; variants carry data, messages come from `Display`.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An Ingress path that cannot be matched.
    #[error("path {path:?} cannot be served: {error}")]
    BadPath {
        /// As written.
        path: String,
        /// What is wrong with it.
        error: BadPath,
    },
    /// A finding about a certificate chain or key.
    #[error("{0}")]
    Chain(Finding),
    /// The same object is given twice; the first one counts.
    #[error("the object is defined again in {again}; the definition in {first} counts")]
    DuplicateObject {
        /// Scope whose definition counts.
        first: String,
        /// Scope whose definition is ignored.
        again: String,
    },
    /// A document of a known kind does not have its kind's form.
    #[error("the document is not valid: {error}")]
    InvalidDocument {
        /// What is wrong.
        error: String,
    },
    /// A field that its kind does not have.
    #[error("unknown field {name:?}: the API server would refuse it")]
    UnknownField {
        /// The field's path within the document.
        name: String,
    },
    /// A document of a kind that is not used.
    #[error("{kind} objects are not used: the document is ignored")]
    UnknownKind {
        /// apiVersion and kind as written.
        kind: String,
    },
    /// A source's directory that cannot be read any more.
    #[error("the directory cannot be read: {error}")]
    UnreadableDirectory {
        /// What the system says.
        error: String,
    },
    /// A file that cannot be read or is no YAML or JSON.
    #[error("the file cannot be used: {error}")]
    UnreadableFile {
        /// What is wrong.
        error: String,
    },
}

impl Problem {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::BadPath { .. } => "bad-path",
            Problem::Chain(finding) => finding.code(),
            Problem::DuplicateObject { .. } => "duplicate-object",
            Problem::InvalidDocument { .. } => "invalid-document",
            Problem::UnknownField { .. } => "unknown-field",
            Problem::UnknownKind { .. } => "unknown-kind",
            Problem::UnreadableDirectory { .. } => "unreadable-directory",
            Problem::UnreadableFile { .. } => "unreadable-file",
        }
    }

    /// How bad it is. Severity never decides what is served.
    pub fn severity(&self) -> Severity {
        match self {
            Problem::Chain(finding) => finding.severity(),
            Problem::BadPath { .. }
            | Problem::InvalidDocument { .. }
            | Problem::UnreadableDirectory { .. }
            | Problem::UnreadableFile { .. } => Severity::Error,
            Problem::DuplicateObject { .. } | Problem::UnknownField { .. } => Severity::Warning,
            Problem::UnknownKind { .. } => Severity::Info,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Problem::BadPath { .. } => {
                "write a path that begins with '/', with valid percent escapes and no '..' above the root".into()
            }
            Problem::Chain(finding) => finding.remedy(),
            Problem::DuplicateObject { .. } => "delete one of the definitions, or give it another name".into(),
            Problem::InvalidDocument { .. } => {
                "correct the document; `kubectl apply --dry-run=server` names the field as well".into()
            }
            Problem::UnknownField { .. } => "correct the field's name or indentation, or delete it".into(),
            Problem::UnknownKind { .. } => "nothing, if the object is meant for another program".into(),
            Problem::UnreadableDirectory { .. } => {
                "restore the directory or its permissions; until then its last content is served".into()
            }
            Problem::UnreadableFile { .. } => {
                "make the file readable YAML or JSON; until then its last good content is served".into()
            }
        }
    }
}

impl fmt::Display for Diagnostic {
    /// `error: Secret default/shop tls.key: message (host-refused)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { " " };
        write!(f, "{}: {}{colon}{}: {}", self.problem.severity(), self.subject, self.field, self.problem)?;
        if self.effect != Effect::None {
            write!(f, " ({})", self.effect.code())?;
        }
        Ok(())
    }
}
