//! The text about a code that is the same in every case: for `handfast explain` and docs/findings.md.
//!
//! `code ──▶ About: severity, meaning, who must act, remedy`
//!
//! One row per code of a finding or a problem. Messages of a case carry its data; a row carries none.

use std::fmt::Display;

use super::Severity;

/// A message as it is shown: with a full stop at its end. Messages are written without it, so that they can also stand
/// inside another sentence.
pub fn sentence(message: impl Display) -> String {
    let mut text = message.to_string();
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is and what comes of it, in whole sentences.
    pub meaning: &'static str,
    /// Who must act.
    pub fault: &'static str,
    /// What to do about it: an instruction without a full stop.
    pub remedy: &'static str,
}
