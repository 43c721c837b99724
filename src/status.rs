//! Shell, outward: diagnostics become log lines.
//!
//! The list of diagnostics is level-triggered: each publication has all of them. What is said once is not repeated;
//! what is gone is said to be gone.

use std::collections::HashMap;

use tracing::{error, info, warn};

use crate::compile::{Diagnostic, Effect, Severity};

/// Lines for one publication; a broken repository must not flood the log.
const MAX_LINES: usize = 200;

/// Remembers what has been said.
#[derive(Default)]
pub struct Status {
    said: HashMap<String, Diagnostic>,
}

impl Status {
    /// Logs what appeared and what went since the last call.
    pub fn report(&mut self, diagnostics: &[Diagnostic]) {
        let now: HashMap<String, &Diagnostic> =
            diagnostics.iter().map(|diagnostic| (diagnostic.to_string(), diagnostic)).collect();
        let mut appeared: Vec<_> = diagnostics.iter().filter(|d| !self.said.contains_key(&d.to_string())).collect();
        // The worst first, so that the limit cuts the least.
        appeared.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.problem.severity()));
        for diagnostic in appeared.iter().take(MAX_LINES) {
            log(diagnostic);
        }
        if appeared.len() > MAX_LINES {
            warn!(more = appeared.len() - MAX_LINES, "There are more problems; `handfast check` lists them all.");
        }
        let gone: Vec<_> = self.said.iter().filter(|(text, _)| !now.contains_key(*text)).collect();
        for (_, diagnostic) in gone.iter().take(MAX_LINES) {
            info!(
                subject = %diagnostic.subject,
                reason = diagnostic.problem.code(),
                "Solved: {}.", diagnostic.problem
            );
        }
        self.said = now.into_iter().map(|(text, diagnostic)| (text, diagnostic.clone())).collect();
    }
}

fn log(diagnostic: &Diagnostic) {
    let hosts = diagnostic.hosts.iter().map(|host| host.label()).collect::<Vec<_>>().join(",");
    let effect = match diagnostic.effect {
        Effect::None => "none",
        effect => effect.code(),
    };
    macro_rules! line {
        ($level:ident) => {
            $level!(
                subject = %diagnostic.subject,
                field = %diagnostic.field,
                reason = diagnostic.problem.code(),
                effect,
                hosts,
                "{}: {}.", diagnostic.problem, diagnostic.problem.remedy()
            )
        };
    }
    match diagnostic.problem.severity() {
        Severity::Error => line!(error),
        Severity::Warning => line!(warn),
        Severity::Info => line!(info),
    }
}
