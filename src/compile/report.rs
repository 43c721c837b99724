//! The findings about Secrets, policies and backends: each depends on all hosts that use it.
//!
//! `what hosts made of an object × the object now ──▶ diagnostics, statuses, what is remembered`

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use serde::Serialize;

use super::backend::BackendProblem;
use super::ingress::BackendUse;
use super::terminate::{self, Outcome};
use super::view::Unit;
use super::{BackendUsers, Compiler, Diagnostic, Effect, Object, ObjectKey, Problem, Severity, event_reason, policy};
use crate::snapshot::HostName;
use crate::tls::about::sentence;
use crate::tls::chain::Finding;

/// What is to be said about a TlsPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// `metadata.generation` of the version that this is about, if it has one.
    pub generation: Option<i64>,
    /// Why it is not accepted: code and message of the first problem; `None` if it is.
    pub refused: Option<(&'static str, String)>,
    /// Hosts that ask for it.
    pub hosts: usize,
    /// Those of them for which another policy is in force.
    pub held: Vec<HostName>,
}

/// A condition of a TlsPolicy's status, but for the times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyCondition {
    /// `Accepted` or `Programmed`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// Why, as one word: a code of `handfast explain` in UpperCamelCase, or the type itself if all is well.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl PolicyStatus {
    /// `Accepted` says that the policy can be put in force, `Programmed` that it is, for every host that asks for it.
    pub fn conditions(&self) -> [PolicyCondition; 2] {
        let condition = |kind: &'static str, failure: Option<(&str, String)>, success: String| match failure {
            Some((code, message)) => PolicyCondition { kind, status: "False", reason: event_reason(code), message },
            None => PolicyCondition { kind, status: "True", reason: kind.to_owned(), message: success },
        };
        let hosts = |count: usize| format!("{count} host{}", if count == 1 { "" } else { "s" });
        let held = (!self.held.is_empty()).then(|| {
            const SHOWN: usize = 10;
            let names: Vec<&str> = self.held.iter().take(SHOWN).map(HostName::label).collect();
            let more = if self.held.len() > SHOWN { ", …" } else { "" };
            let message = format!(
                "{} of the {} that name this policy use another one: {}{more}.",
                self.held.len(),
                hosts(self.hosts),
                names.join(", ")
            );
            (Effect::PolicyHeld.code(), message)
        });
        [
            condition("Accepted", self.refused.clone(), "The policy is valid.".to_owned()),
            condition("Programmed", held, format!("The policy applies to {}.", hosts(self.hosts))),
        ]
    }
}

impl Compiler {
    /// Says what is wrong with a TlsPolicy, and what has become of it.
    pub(super) fn report_policy(&mut self, key: ObjectKey, now: UnixTime) {
        let mut view = self.world.view(now);
        let generation = view.policy(&key).map(|policy| policy.metadata.generation);
        let judged = policy::judge(&mut view, &self.options, &key);
        let (reads, changes_at) = view.into_parts();
        // An old list is no fault of the policy: it is in force, and lets nobody in by that list.
        let refuses = |problem: &Problem| {
            problem.severity() == Severity::Error && !matches!(problem, Problem::ExpiredRevocationList { .. })
        };
        let users = self.policies.get(&key).filter(|users| !users.hosts.is_empty());
        let status = generation.map(|generation| PolicyStatus {
            generation,
            refused: judged
                .iter()
                .find(|(_, problem)| refuses(problem))
                .map(|(_, problem)| (problem.code(), sentence(problem))),
            hosts: users.map_or(0, |users| users.hosts.len()),
            held: users.into_iter().flat_map(|users| &users.held).cloned().collect(),
        });
        if users.is_none() {
            self.policies.remove(&key);
        }
        let mut diagnostics = Vec::new();
        for (field, problem) in judged {
            let mut add = |effect, hosts| {
                let (subject, field, problem) = (key.clone(), field.into(), problem.clone());
                diagnostics.push(Diagnostic { subject, field, problem, effect, hosts });
            };
            let is_error = problem.severity() == Severity::Error;
            let refuses = refuses(&problem);
            let hosts = self.policies.get(&key).into_iter().flat_map(|users| &users.hosts);
            let by_effect = hosts.fold(BTreeMap::<Effect, Vec<HostName>>::new(), |mut by_effect, (host, effect)| {
                by_effect.entry(if is_error { *effect } else { Effect::None }).or_default().push(host.clone());
                by_effect
            });
            if by_effect.is_empty() {
                add(if refuses { Effect::PolicyHeld } else { Effect::None }, Vec::new());
            }
            by_effect.into_iter().for_each(|(effect, hosts)| add(effect, hosts));
        }
        if self.statuses.get(&key).map(Arc::as_ref) != status.as_ref() {
            self.statuses.set(&key, status.map(Arc::new));
        }
        let reads = if self.world.store.object(&key).is_some() {
            reads
        } else {
            self.world.policies.forget(&key);
            HashSet::new()
        };
        self.schedule(&Unit::Policy(key.clone()), changes_at);
        self.record(Unit::Policy(key), reads, diagnostics);
    }

    /// Says what is wrong with a Secret that hosts use, at this time, and remembers it if it is good.
    pub(super) fn report_secret(&mut self, key: ObjectKey, now: UnixTime) {
        let Some(users) = self.secrets.get(&key) else { return };
        let nobody = BTreeSet::new();
        let mut groups = users.groups();
        for used in self.default_uses.iter().filter(|used| used.secret == key) {
            if !groups.iter().any(|(other, _)| *other == used) {
                groups.push((used, &nobody));
            }
        }
        let mut diagnostics = Vec::new();
        let mut changes_at = None;
        for (used, hosts) in &groups {
            let Some(certificate) = &used.certificate else { continue };
            let mut add = |finding: &Finding| {
                let effect = match used.effect_of(finding.code()) {
                    Effect::None if finding.is_repaired() && certificate.credential.is_some() => Effect::Repaired,
                    effect => effect,
                };
                diagnostics.push(Diagnostic {
                    subject: key.clone(),
                    field: finding.field().into(),
                    problem: Problem::Chain(finding.clone()),
                    effect,
                    hosts: hosts.iter().cloned().collect(),
                });
            };
            certificate.findings.iter().for_each(&mut add);
            if let Some(credential) = &certificate.credential {
                let dated = credential.dated(now);
                dated.findings.iter().for_each(&mut add);
                changes_at = terminate::earliest(changes_at, dated.changes_at);
            }
        }
        for (used, hosts) in groups.iter().filter(|(used, _)| used.outcome == Outcome::LastGood) {
            let credential = used.served.as_ref().and_then(|certificate| certificate.credential.as_ref());
            let Some(dated) = credential.map(|credential| credential.dated(now)) else { continue };
            changes_at = terminate::earliest(changes_at, dated.changes_at);
            diagnostics.extend(dated.findings.into_iter().map(|finding| Diagnostic {
                subject: key.clone(),
                field: "(last good version)".into(),
                problem: Problem::Chain(finding),
                effect: Effect::None,
                hosts: hosts.iter().cloned().collect(),
            }));
        }
        let served = groups.iter().filter_map(|(used, _)| Some((used.outcome, used.served.as_ref()?)));
        let served = served.min_by_key(|(outcome, _)| *outcome != Outcome::Current);
        let ends: Option<Vec<UnixTime>> = served.and_then(|(_, certificate)| {
            let credential = certificate.credential.as_ref()?;
            Some(credential.summary().outline.path.iter().map(|link| link.not_after).collect())
        });
        let is_used = !groups.is_empty();
        let mut judges = groups.iter().filter(|(used, _)| used.counts).peekable();
        let is_good =
            judges.peek().is_some() && judges.all(|(used, _)| used.outcome == Outcome::Current && !used.is_temporary());

        let history = &mut self.world.history;
        let current = match self.world.store.object(&key) {
            Some(Object::Secret(secret)) => Some(secret),
            Some(_) | None => None,
        };
        match current {
            _ if !is_used => history.forget_secret(&key),
            Some(secret) if is_good => history.accept_secret(&key, secret),
            Some(_) | None => {}
        }
        // What is kept is let go in time, also where no host is served with it.
        let (kept, until) = history.secret(&key, current.is_some(), now, self.options.last_good_ttl).unzip();
        changes_at = terminate::earliest(changes_at, until.flatten());
        let held = kept.filter(|kept| !is_good && current != Some(&kept.secret));
        self.hold_secret(&key, held, now);
        if !is_used {
            self.secrets.remove(&key);
        }
        if self.ends.get(&key) != ends.as_ref() {
            self.ends.set(&key, ends);
        }
        self.schedule(&Unit::Secret(key.clone()), changes_at);
        self.reports.report(Some(Unit::Secret(key)), diagnostics);
    }
}

pub(super) fn backend_diagnostics(users: &BackendUsers) -> Vec<Diagnostic> {
    if users.problems.is_empty() {
        return Vec::new();
    }
    let reached: Vec<(&HostName, &BackendUse)> = users
        .places
        .iter()
        .flat_map(|(host, uses)| uses.iter().map(move |used| (host, used)))
        .filter(|(_, used)| used.reached)
        .collect();
    if reached.is_empty() {
        return Vec::new();
    }
    // A host may name the backend at thousands of paths.
    let mut hosts: Vec<&HostName> = reached.iter().map(|(host, _)| *host).collect();
    hosts.dedup();
    let mut diagnostics = Vec::new();
    for problem in &users.problems {
        match problem {
            BackendProblem::Object(subject, field, problem, effect) => diagnostics.push(Diagnostic {
                subject: subject.clone(),
                field: field.clone(),
                problem: problem.clone(),
                effect: *effect,
                hosts: hosts.iter().map(|host| (*host).clone()).collect(),
            }),
            BackendProblem::Reference(problem) => {
                diagnostics.extend(reached.iter().map(|(host, used)| Diagnostic {
                    subject: used.ingress.clone(),
                    field: used.field.clone(),
                    problem: problem.clone(),
                    effect: Effect::RouteDropped,
                    hosts: vec![(*host).clone()],
                }));
            }
        }
    }
    diagnostics
}
