//! What is to be said about a code, whatever the case: for `handfast explain` and docs/findings.md.
//!
//! `code ──▶ About: severity, meaning, fault, remedy`
//!
//! One row per code of a finding or a problem. Messages of a case carry its data; a row carries none.

use super::Severity;

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is and what comes of it, in whole sentences.
    pub meaning: &'static str,
    /// Who has to act.
    pub fault: &'static str,
    /// What to do about it: an instruction without a full stop.
    pub remedy: &'static str,
}
