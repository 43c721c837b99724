//! Shell, outward: publications become log lines.
//!
//! `Publication ──difference──▶ hosts that came, went or have other TLS; diagnostics that appeared or went`
//!
//! The list of diagnostics is level-triggered: each publication has all of them. What is said once is not repeated;
//! what is gone is said to be gone.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::compile::{Diagnostic, Effect, Severity};
use crate::reconcile::Publication;
use crate::snapshot::{HostName, HostTls, Snapshot, VirtualHost};

/// Lines for one publication; a broken repository must not flood the log.
const MAX_LINES: usize = 200;

/// Names in one list.
const MAX_NAMES: usize = 10;

/// Remembers what has been said.
#[derive(Default)]
pub struct Status {
    diagnostics: HashMap<String, Diagnostic>,
    /// The list that `diagnostics` was made of.
    reported: Arc<[Diagnostic]>,
    snapshot: Option<Arc<Snapshot>>,
}

impl Status {
    /// Logs what this publication changes: hosts and certificates, and diagnostics that appeared or went.
    pub fn report(&mut self, publication: &Publication) {
        self.report_hosts(publication.generation, &publication.compiled.snapshot);
        self.report_diagnostics(&publication.compiled.diagnostics);
    }

    /// One line if hosts appear or go, or are served with another certificate or policy. Endpoints come and go all the time.
    fn report_hosts(&mut self, generation: u64, snapshot: &Arc<Snapshot>) {
        let before = self.snapshot.replace(snapshot.clone());
        let Some(before) = before else {
            info!(
                generation,
                hosts = snapshot.hosts.len(),
                backends = snapshot.backends.len(),
                "The first configuration is in force."
            );
            return;
        };
        if Arc::ptr_eq(&before, snapshot) {
            return;
        }
        let missing_in = |these: &Snapshot, others: &Snapshot| {
            let missing = others.hosts.keys().filter(|name| !these.hosts.contains_key(name.as_str()));
            missing.cloned().collect::<Vec<HostName>>()
        };
        let added = missing_in(&before, snapshot);
        let removed = missing_in(snapshot, &before);
        let changed: Vec<HostName> = snapshot
            .hosts
            .values()
            .filter(|host| before.hosts.get(host.name.as_str()).is_some_and(|before| !is_served_alike(before, host)))
            .map(|host| host.name.clone())
            .collect();
        if added.is_empty() && removed.is_empty() && changed.is_empty() {
            return;
        }
        info!(
            generation,
            hosts = snapshot.hosts.len(),
            added = names(added),
            removed = names(removed),
            tls_changed = names(changed),
            "A new configuration is in force."
        );
    }

    fn report_diagnostics(&mut self, diagnostics: &Arc<[Diagnostic]>) {
        if Arc::ptr_eq(&self.reported, diagnostics) {
            return;
        }
        self.reported = diagnostics.clone();
        let now: HashMap<String, &Diagnostic> =
            diagnostics.iter().map(|diagnostic| (diagnostic.to_string(), diagnostic)).collect();
        let mut appeared: Vec<_> =
            diagnostics.iter().filter(|diagnostic| !self.diagnostics.contains_key(&diagnostic.to_string())).collect();
        // The worst first, so that the limit cuts the least.
        appeared.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.problem.severity()));
        for diagnostic in appeared.iter().take(MAX_LINES) {
            log(diagnostic);
        }
        if appeared.len() > MAX_LINES {
            warn!(more = appeared.len() - MAX_LINES, "There are more problems; `handfast check` lists them all.");
        }
        let gone: Vec<_> = self.diagnostics.iter().filter(|(text, _)| !now.contains_key(*text)).collect();
        for (_, diagnostic) in gone.iter().take(MAX_LINES) {
            // Solved, or its object is gone: which of the two, the lines about hosts say.
            info!(
                subject = %diagnostic.subject,
                reason = diagnostic.problem.code(),
                "No longer reported: {}.", diagnostic.problem
            );
        }
        self.diagnostics = now.into_iter().map(|(text, diagnostic)| (text, diagnostic.clone())).collect();
    }
}

fn is_served_alike(before: &VirtualHost, after: &VirtualHost) -> bool {
    match (&before.tls, &after.tls) {
        (HostTls::Absent, HostTls::Absent) | (HostTls::Refuse, HostTls::Refuse) => true,
        (HostTls::Terminate(before), HostTls::Terminate(after)) => Arc::ptr_eq(before, after),
        (HostTls::Absent | HostTls::Refuse | HostTls::Terminate(_), _) => false,
    }
}

/// A list for people: sorted, and cut.
fn names(mut hosts: Vec<HostName>) -> String {
    hosts.sort();
    let shown = hosts.iter().take(MAX_NAMES).map(|host| host.label()).collect::<Vec<_>>().join(",");
    match hosts.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
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
