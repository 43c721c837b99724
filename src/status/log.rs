//! Publications become log lines.
//!
//! `Publication ──difference──▶ hosts that came, went or have other TLS; diagnostics that appeared or went`
//!
//! The list of diagnostics is level-triggered: each publication has all of them. What is said once is not repeated;
//! what is gone is said to be gone. A problem that does something else to traffic than before is said again, with its
//! new effect, and is not gone.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::compile::{Diagnostic, Diagnostics, Effect, ObjectKey, Renewed, Severity};
use crate::reconcile::Publication;
use crate::snapshot::{HostName, HostTls, Snapshot, Traffic, VirtualHost};
use crate::tls::about::sentence;
use crate::trie::Difference;

/// Lines for one publication; a broken repository must not flood the log.
const MAX_LINES: usize = 200;

/// Names in one list.
const MAX_NAMES: usize = 10;

/// Remembers what has been said.
#[derive(Default)]
pub struct Status {
    reported: Arc<Diagnostics>,
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
        report_traffic(before.as_deref(), snapshot);
        let Some(before) = before else {
            info!(
                generation,
                hosts = snapshot.hosts.len(),
                backends = snapshot.backends.len(),
                "The first configuration is active."
            );
            return;
        };
        let (mut added, mut removed, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for Difference { key, before, now } in snapshot.hosts.since(&before.hosts, Arc::ptr_eq) {
            match (before, now) {
                (None, _) => added.push(key.clone()),
                (Some(_), None) => removed.push(key.clone()),
                (Some(before), Some(now)) if is_served_alike(before, now) => {}
                (Some(_), Some(_)) => changed.push(key.clone()),
            }
        }
        if added.is_empty() && removed.is_empty() && changed.is_empty() {
            return;
        }
        info!(
            generation,
            hosts = snapshot.hosts.len(),
            added = names(added),
            removed = names(removed),
            tls_changed = names(changed),
            "A new configuration is active."
        );
    }

    fn report_diagnostics(&mut self, diagnostics: &Arc<Diagnostics>) {
        let before = std::mem::replace(&mut self.reported, diagnostics.clone());
        let Changes { mut appeared, gone } = Changes::between(&before, diagnostics);
        // The worst first, so that the limit cuts the least.
        appeared.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.problem.severity()));
        for diagnostic in appeared.iter().take(MAX_LINES) {
            log(diagnostic);
        }
        if appeared.len() > MAX_LINES {
            warn!(more = appeared.len() - MAX_LINES, "There are more problems. `handfast check` lists all of them.");
        }
        for diagnostic in gone.iter().take(MAX_LINES) {
            // Solved, or its object is gone: which of the two, the lines about hosts say.
            info!(
                subject = %diagnostic.subject,
                reason = diagnostic.problem.code(),
                "No longer a problem: {}", sentence(&diagnostic.problem)
            );
        }
    }
}

/// One line for each state that hosts have come to; of those that are new, for each that is not well.
fn report_traffic(before: Option<&Snapshot>, now: &Snapshot) {
    let nothing = Snapshot::default();
    for (traffic, hosts) in changed_traffic(before.unwrap_or(&nothing), now) {
        let (state, count, hosts) = (traffic.code(), hosts.len(), names(hosts));
        match traffic {
            Traffic::Works | Traffic::WorksWithLosses => {
                info!(state, count, hosts, "What requests get: {}.", traffic.words());
            }
            Traffic::Answers503 | Traffic::Answers503Partly | Traffic::NotServed | Traffic::RefusesTls => {
                warn!(state, count, hosts, "What requests get: {}.", traffic.words());
            }
        }
    }
}

/// Hosts whose requests get something else than before, by what they get.
fn changed_traffic(before: &Snapshot, now: &Snapshot) -> BTreeMap<Traffic, Vec<HostName>> {
    let mut changed: BTreeMap<Traffic, Vec<HostName>> = BTreeMap::new();
    for Difference { key, before, now } in now.traffic.since(&before.traffic, PartialEq::eq) {
        if let Some(now) = now.filter(|now| before.is_some() || **now != Traffic::Works) {
            changed.entry(*now).or_default().push(key.clone());
        }
    }
    changed
}

/// What one list of diagnostics has and the one before it had not, and the other way round.
struct Changes<'a> {
    /// To be said: new problems, and known ones with another effect.
    appeared: Vec<&'a Diagnostic>,
    /// No longer there, whatever the effect.
    gone: Vec<&'a Diagnostic>,
}

impl<'a> Changes<'a> {
    fn between(before: &'a Diagnostics, now: &'a Diagnostics) -> Self {
        let mut changes = Changes { appeared: Vec::new(), gone: Vec::new() };
        now.since(before).iter().for_each(|Renewed { before, now }| changes.add(before, now));
        changes
    }

    /// What is wrong with one object.
    fn add(&mut self, before: &'a [Diagnostic], now: &'a [Diagnostic]) {
        let with_effect = |diagnostic: &'a Diagnostic| (problem_of(diagnostic), diagnostic.effect);
        let said: HashSet<_> = before.iter().map(with_effect).collect();
        let mut known: HashSet<_> = now.iter().map(problem_of).collect();
        self.appeared.extend(now.iter().filter(|diagnostic| !said.contains(&with_effect(diagnostic))));
        self.gone.extend(before.iter().filter(|diagnostic| known.insert(problem_of(diagnostic))));
    }
}

/// What makes two diagnostics the same problem: subject, field, code and message, but not what it does to traffic.
fn problem_of(diagnostic: &Diagnostic) -> (&ObjectKey, &str, &'static str, String) {
    let problem = &diagnostic.problem;
    (&diagnostic.subject, &diagnostic.field, problem.code(), problem.to_string())
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
                "{} What to do: {}.", sentence(&diagnostic.problem), diagnostic.problem.remedy()
            )
        };
    }
    match diagnostic.problem.severity() {
        Severity::Error => line!(error),
        Severity::Warning => line!(warn),
        Severity::Info => line!(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Kind, Problem};

    fn diagnostic(name: &str, message: &str, effect: Effect) -> Diagnostic {
        Diagnostic {
            subject: ObjectKey { kind: Kind::Secret, namespace: "shop".into(), name: name.into() },
            field: "data".into(),
            problem: Problem::BadClassParameters { error: message.into() },
            effect,
            hosts: Vec::new(),
        }
    }

    /// The names and effects of what is said to have appeared, and the names of what is said to be gone.
    fn said(before: &[Diagnostic], now: &[Diagnostic]) -> (Vec<(String, Effect)>, Vec<String>) {
        let [before, now] = [before, now].map(|list| list.iter().cloned().collect());
        let changes = Changes::between(&before, &now);
        let name = |diagnostic: &&Diagnostic| diagnostic.subject.name.to_string();
        let appeared = changes.appeared.iter().map(|diagnostic| (name(diagnostic), diagnostic.effect));
        (appeared.collect(), changes.gone.iter().map(name).collect())
    }

    #[test]
    fn hosts_are_named_where_their_requests_get_something_else() {
        let snapshot = |hosts: &[(&str, Traffic)]| Snapshot {
            traffic: hosts.iter().map(|(name, traffic)| (name.parse().unwrap(), *traffic)).collect(),
            ..Snapshot::default()
        };
        let said = |before: &Snapshot, now: &Snapshot| -> Vec<(Traffic, String)> {
            changed_traffic(before, now).into_iter().map(|(traffic, hosts)| (traffic, names(hosts))).collect()
        };
        let first = snapshot(&[
            ("a.example", Traffic::Works),
            ("b.example", Traffic::Answers503),
            ("c.example", Traffic::Answers503),
        ]);
        let expected = vec![(Traffic::Answers503, "b.example,c.example".to_owned())];
        assert_eq!(said(&Snapshot::default(), &first), expected, "a new host that works needs no word");
        let second = snapshot(&[("a.example", Traffic::RefusesTls), ("b.example", Traffic::Works)]);
        let expected = vec![(Traffic::Works, "b.example".to_owned()), (Traffic::RefusesTls, "a.example".to_owned())];
        assert_eq!(said(&first, &second), expected, "one that is gone is said elsewhere");
        assert_eq!(said(&second, &second.clone()), []);
    }

    #[test]
    fn a_problem_with_another_effect_is_said_once_more_and_is_not_gone() {
        let refused = diagnostic("a", "x", Effect::HostRefused);
        let held = diagnostic("a", "x", Effect::LastGood);
        let (before, now) = ([refused], [held.clone()]);
        assert_eq!(said(&before, &now), (vec![("a".into(), Effect::LastGood)], vec![]));
        assert_eq!(said(&now, &[held]), (vec![], vec![]));
        assert_eq!(said(&now, &before), (vec![("a".into(), Effect::HostRefused)], vec![]));
    }

    #[test]
    fn a_problem_that_is_gone_is_said_to_be_gone_once_and_another_in_its_place_to_have_appeared() {
        let (refused, held) = (diagnostic("a", "x", Effect::HostRefused), diagnostic("a", "x", Effect::LastGood));
        let other = diagnostic("b", "x", Effect::LastGood);
        let worse = diagnostic("a", "y", Effect::LastGood);
        assert_eq!(said(&[refused, held.clone()], &[]), (vec![], vec!["a".into()]));
        assert_eq!(
            said(std::slice::from_ref(&held), &[worse]),
            (vec![("a".into(), Effect::LastGood)], vec!["a".into()])
        );
        assert_eq!(said(&[held], &[other]), (vec![("b".into(), Effect::LastGood)], vec!["a".into()]));
    }
}
