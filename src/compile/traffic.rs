//! What the requests of each host get, kept up to date with what changes.
//!
//! `hosts and backends that were built + findings that came or went ──▶ Snapshot::traffic`
//!
//! [`Traffic`] judges one host. Here is known which hosts have to be judged again: those that were built, those whose
//! backends begin or cease to take requests, and those that have their first loss or no longer any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Compiler, Diagnostic, Diagnostics, Effect, Problem, Renewed, Severity};
use crate::snapshot::{HostName, Traffic};

impl Diagnostic {
    /// Whether it costs something now: what is asked for is not in force, or some clients cannot connect. What will hurt
    /// some day only is none, and neither is what counts as a path that answers 503.
    pub fn is_loss(&self) -> bool {
        match self.effect {
            Effect::Default | Effect::HostRefused | Effect::LastGood | Effect::PolicyHeld => true,
            Effect::RouteDropped => self.problem.severity() >= Severity::Warning,
            Effect::None | Effect::Repaired => {
                self.problem.severity() == Severity::Error || takes_something_away(&self.problem)
            }
        }
    }
}

/// Of the warnings that change nothing else: those about something that is written and not in force.
fn takes_something_away(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::Canary { .. }
            | Problem::ConflictingSecrets { .. }
            | Problem::ConflictingTlsSettings { .. }
            | Problem::IneffectiveTlsSetting { .. }
            | Problem::MissingRevocationList { .. }
            | Problem::NoIntermediates
            | Problem::OverrideNotAllowed { .. }
            | Problem::PatternPath { .. }
            | Problem::RedundantCertificate { .. }
            | Problem::TlsSettingsWithoutHost { .. }
            | Problem::TlsWithoutHost { .. }
            | Problem::TooManyCertificates { .. }
            | Problem::UnknownAnnotation { .. }
            | Problem::UnservedTlsNames { .. }
            | Problem::UnsupportedAnnotation { .. }
    )
}

/// How many losses each host has.
#[derive(Default)]
pub(super) struct Losses {
    counts: HashMap<HostName, usize>,
    of: Arc<Diagnostics>,
}

impl Losses {
    /// Takes in what is wrong now. Returns the hosts that have their first loss, or no longer any.
    fn follow(&mut self, now: &Arc<Diagnostics>) -> BTreeSet<HostName> {
        let before = std::mem::replace(&mut self.of, now.clone());
        let mut touched = BTreeSet::new();
        for Renewed { before, now } in now.since(&before) {
            let hosts = |list: &'_ [Diagnostic]| -> Vec<HostName> {
                list.iter().filter(|one| one.is_loss()).flat_map(|one| one.hosts.iter().cloned()).collect()
            };
            // What came first, so that a host that keeps its losses is not touched.
            for host in hosts(now) {
                let count = self.counts.entry(host.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    touched.insert(host);
                }
            }
            for host in hosts(before) {
                if let Some(count) = self.counts.get_mut(&host) {
                    *count -= 1;
                    if *count == 0 {
                        self.counts.remove(&host);
                        touched.insert(host);
                    }
                }
            }
        }
        touched
    }
}

impl Compiler {
    /// Judges these hosts again, and those whose losses came or went.
    pub(super) fn judge_traffic(&mut self, mut hosts: BTreeSet<HostName>, diagnostics: &Arc<Diagnostics>) {
        hosts.append(&mut self.losses.follow(diagnostics));
        for name in hosts {
            let has_losses = self.losses.counts.contains_key(&name);
            let host = self.snapshot.hosts.get(&name);
            let now = host.map(|host| Traffic::of(host, &self.snapshot, has_losses, true));
            if self.snapshot.traffic.get(&name).copied() != now {
                Arc::make_mut(&mut self.snapshot).traffic.set(&name, now);
            }
        }
    }
}
