//! How the handshakes of one host are answered: with which certificates, and under which policy.
//!
//! `wanted Secrets × policy that is asked for ──terminate──▶ ServerTls + what it uses + diagnostics`
//!
//! What is asked for may not work: a Secret may hold nothing usable, a policy may not fit its key, a change may lock out
//! a client that has to connect. Then the next best is served, and said: of Secrets the last good version, then the
//! default certificate; of policies the previous one, then a general one. Nothing of this opens what was to be closed: a
//! host whose policy demands certificates of clients, or may demand them, is refused rather than served without.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::pki_types::UnixTime;

use super::claims::Claims;
use super::policy::{self, Asked, Complaint, Fate, HostPolicy, Override, Wish};
use super::tls::Certificate;
use super::view::View;
use super::{Diagnostic, Effect, HeldPolicy, Kind, ObjectKey, Options, Problem};
use crate::api::tls_policy::FindingAction;
use crate::snapshot::{HostName, HostTls, Serving};
use crate::tls::chain::Finding;
use crate::tls::clients;
use crate::tls::compat;
use crate::tls::negotiate::CredentialKind;
use crate::tls::{ServerTls, Severity};

/// A Secret with a certificate for a host, and who names it.
pub(super) struct Wanted {
    pub(super) secret: ObjectKey,
    pub(super) ingress: ObjectKey,
    pub(super) field: String,
}

/// How a host is answered.
pub(super) struct Terminated {
    pub(super) tls: HostTls,
    pub(super) serving: Serving,
    pub(super) hsts: Option<Box<str>>,
    pub(super) https_only: bool,
    pub(super) uses: Vec<SecretUse>,
    pub(super) policy: PolicyUse,
    /// Until when this holds, if time alone changes it.
    pub(super) changes_at: Option<UnixTime>,
}

/// What became of a Secret that a host asks for.
#[derive(Clone)]
pub(super) struct SecretUse {
    pub(super) secret: ObjectKey,
    /// What the Secret holds now, as it was judged for this host; `None` if it does not exist.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// What is served in its place, if something is.
    pub(super) outcome: Outcome,
    /// Codes of the findings for which it is not served.
    pub(super) blamed: BTreeSet<&'static str>,
    /// What is served; its last good version where that is it.
    pub(super) served: Option<Arc<Certificate>>,
}

impl SecretUse {
    /// What a finding about what the Secret holds now does to the host.
    pub(super) fn effect_of(&self, code: &str) -> Effect {
        if self.blamed.contains(code) { self.outcome.effect() } else { Effect::None }
    }
}

impl PartialEq for SecretUse {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Option<Arc<Certificate>>, other: &Option<Arc<Certificate>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        (&self.secret, self.outcome, &self.blamed) == (&other.secret, other.outcome, &other.blamed)
            && same(&self.certificate, &other.certificate)
            && same(&self.served, &other.served)
    }
}

/// What a host is served with where a Secret is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The Secret as it is now.
    Current,
    /// The default certificate.
    Default,
    /// The last usable version of the Secret.
    LastGood,
    /// Other certificates of the host.
    Others,
    /// Nothing.
    Refused,
}

impl Outcome {
    pub(super) fn effect(self) -> Effect {
        match self {
            Outcome::Current | Outcome::Others => Effect::None,
            Outcome::Default => Effect::Default,
            Outcome::LastGood => Effect::LastGood,
            Outcome::Refused => Effect::HostRefused,
        }
    }
}

/// The policy that a host asks for, and the one that is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PolicyUse {
    /// The TlsPolicy that is asked for.
    pub(super) asked: Option<ObjectKey>,
    pub(super) in_force: Option<Arc<HeldPolicy>>,
    /// The one in force is the previous one.
    pub(super) held: bool,
    /// What becomes of the one that is asked for: none if it is in force.
    pub(super) effect: Option<Effect>,
}

/// What the Secrets of a host come to under one policy.
struct Attempt {
    policy: Arc<HostPolicy>,
    server: Option<(Arc<ServerTls>, Serving)>,
    kinds: Vec<CredentialKind>,
    uses: Vec<SecretUse>,
    diagnostics: Vec<Diagnostic>,
    changes_at: Option<UnixTime>,
}

impl Attempt {
    fn works(&self) -> bool {
        self.server.is_none() || !compat::nothing_works(&self.policy.tls, &self.kinds)
    }
}

/// Answers a host that terminates TLS. Without a wanted Secret it is the default certificate that is asked for.
pub(super) fn terminate(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    oldest: &Claims,
    asked: &Asked,
    wanted: &[Wanted],
    report: &mut Vec<Diagnostic>,
) -> Terminated {
    let mut alternatives = alternatives(view, options, host, asked).into_iter();
    let requested = match &asked.wish {
        Wish::Accepted(policy) => Some(attempt(view, options, host, wanted, policy)),
        Wish::Missing | Wish::Overridden { .. } | Wish::Refused { .. } => None,
    };
    let locked_out = match &requested {
        Some(attempt) if attempt.works() => locked_out(view, options, attempt),
        Some(_) | None => LockedOut::default(),
    };
    let mut is_held = false;
    let mut is_programmed = false;
    let mut next = |view: &mut View<'_>| {
        alternatives.find_map(|(policy, is_previous)| {
            let attempt = attempt(view, options, host, wanted, &policy);
            attempt.works().then_some((attempt, is_previous))
        })
    };
    let mut problems: Vec<Problem> = Vec::new();
    let in_force = match requested {
        Some(attempt) if attempt.works() && !locked_out.by_policy => {
            problems.extend(locked_out.problems);
            is_programmed = true;
            Some(attempt)
        }
        Some(attempt) if attempt.works() => {
            problems.extend(locked_out.problems);
            // Only a policy that was in force is a reason not to do what is asked for.
            match next(view).filter(|(_, is_previous)| *is_previous) {
                Some((previous, _)) => {
                    is_held = true;
                    Some(previous)
                }
                None => {
                    is_programmed = true;
                    Some(attempt)
                }
            }
        }
        failed => {
            if let Some(attempt) = failed {
                let why = compat::unworkable(&attempt.policy.tls, &attempt.kinds);
                let why = why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                problems.push(Problem::NoWorkableVersion { why });
            }
            next(view).map(|(attempt, is_previous)| {
                is_held = is_previous;
                attempt
            })
        }
    };

    let effect = match &in_force {
        Some(_) if is_programmed => Effect::None,
        Some(_) => Effect::PolicyHeld,
        None => Effect::HostRefused,
    };
    report_policy(host, oldest, asked, problems, effect, report);
    let Some(in_force) = in_force else {
        let refused = |wanted: &Wanted| SecretUse {
            secret: wanted.secret.clone(),
            certificate: view.certificate(&wanted.secret),
            outcome: Outcome::Refused,
            blamed: BTreeSet::new(),
            served: None,
        };
        return Terminated {
            tls: HostTls::Refuse,
            serving: Serving::Refused,
            hsts: None,
            https_only: true,
            uses: wanted.iter().map(refused).collect(),
            policy: PolicyUse { asked: asked.policy.clone(), effect: Some(effect), ..PolicyUse::default() },
            changes_at: None,
        };
    };
    report.extend(in_force.diagnostics);
    if in_force.server.is_some() {
        for unworkable in compat::unworkable(&in_force.policy.tls, &in_force.kinds) {
            let problem = Problem::UnworkableVersion { why: unworkable.to_string() };
            let subject = subject(oldest, asked);
            add(report, host, &subject, policy_field(&subject), problem, Effect::None);
        }
    }
    let (tls, serving) = match in_force.server {
        Some((server, serving)) => (HostTls::Terminate(server), serving),
        None => (HostTls::Refuse, Serving::Refused),
    };
    Terminated {
        tls,
        serving,
        hsts: in_force.policy.hsts.clone(),
        https_only: in_force.policy.requires_client_certificates(),
        uses: in_force.uses,
        policy: PolicyUse {
            asked: asked.policy.clone(),
            in_force: Some(in_force.policy.source.clone()),
            held: is_held,
            effect: Some(effect),
        },
        changes_at: in_force.changes_at,
    }
}

/// The default certificate for names that no host has.
#[derive(Default)]
pub(super) struct DefaultCertificate {
    /// What is served; `None` if nothing can be.
    pub(super) server: Option<(Arc<ServerTls>, Arc<HostPolicy>)>,
    pub(super) uses: Vec<SecretUse>,
    /// Until when this holds, if time alone changes it.
    pub(super) changes_at: Option<UnixTime>,
}

/// Looks for what answers where no host does.
pub(super) fn default_certificate(view: &mut View<'_>, options: &Options) -> DefaultCertificate {
    let Ok(policy) = policy::general(view, options) else { return DefaultCertificate::default() };
    let attempt = attempt(view, options, &HostName::catch_all(), &[], &policy);
    let server = if attempt.works() { attempt.server } else { None };
    DefaultCertificate {
        server: server.map(|(server, _)| (server, policy)),
        uses: attempt.uses,
        changes_at: attempt.changes_at,
    }
}

/// What may be in force in place of the policy that is asked for, best first; true for the previous one.
fn alternatives(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    asked: &Asked,
) -> Vec<(Arc<HostPolicy>, bool)> {
    let previous = view.history().policy(host).cloned();
    let previous = previous.and_then(|previous| view.resolve(HeldPolicy::clone(&previous)).policy.clone().ok());
    let demands = |policy: &HostPolicy| policy.requires_client_certificates();
    let (base, demanding, known) = match &asked.wish {
        Wish::Accepted(policy) => (None, demands(policy), true),
        Wish::Missing => (None, true, false),
        Wish::Overridden { base, .. } => (Some(base.clone()), demands(base), true),
        Wish::Refused { requires_client_certificates } => (None, *requires_client_certificates, true),
    };
    let mut found: Vec<(Arc<HostPolicy>, bool)> = previous.into_iter().map(|policy| (policy, true)).collect();
    let mut general: Vec<Arc<HostPolicy>> = base.into_iter().collect();
    if known {
        general.extend(policy::general(view, options).ok());
        general.extend(policy::built_in_policy(view).ok());
    }
    found.extend(general.into_iter().filter(|policy| !demanding || demands(policy)).map(|policy| (policy, false)));
    if let Wish::Accepted(policy) = &asked.wish {
        found.retain(|(other, _)| other.source != policy.source);
    }
    found
}

/// Chooses a certificate for each Secret under a policy, and puts the configuration together.
fn attempt(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    wanted: &[Wanted],
    policy: &Arc<HostPolicy>,
) -> Attempt {
    let mut attempt = Attempt {
        policy: policy.clone(),
        server: None,
        kinds: Vec::new(),
        uses: Vec::new(),
        diagnostics: Vec::new(),
        changes_at: None,
    };
    let mut served: Vec<Arc<Certificate>> = Vec::new();
    let mut owners: Vec<&ObjectKey> = Vec::new();
    for wanted in wanted {
        let used = pick(view, options, host, &wanted.secret, &mut attempt);
        if let Some(certificate) = &used.served
            && let Some(credential) = &certificate.credential
        {
            let kind = CredentialKind::of(credential);
            match attempt.kinds.iter().position(|other| *other == kind) {
                None => {
                    served.push(certificate.clone());
                    attempt.kinds.push(kind);
                    owners.push(&wanted.secret);
                }
                Some(first) => {
                    let problem = Problem::RedundantCertificate {
                        secret: format!("{}/{}", wanted.secret.namespace, wanted.secret.name),
                        first: format!("{}/{}", owners[first].namespace, owners[first].name),
                        key: credential.summary().key.to_string(),
                    };
                    add(&mut attempt.diagnostics, host, &wanted.ingress, &wanted.field, problem, Effect::None);
                }
            }
        }
        attempt.uses.push(used);
    }
    let mut serving = match attempt.uses.iter().any(|used| used.outcome == Outcome::LastGood) {
        true => Serving::LastGood,
        false => Serving::Current,
    };
    let mut refused_by_library = None;
    if !served.is_empty() {
        match view.server(&served, &policy.tls) {
            Ok(server) => attempt.server = Some((server, serving)),
            Err(error) => refused_by_library = Some(error),
        }
    }
    if attempt.server.is_none()
        && let Some(key) = default_key(options)
    {
        serving = Serving::Default;
        attempt.kinds.clear();
        let used = pick(view, options, host, &key, &mut attempt);
        if let Some(certificate) = &used.served
            && let Some(credential) = &certificate.credential
        {
            attempt.kinds.push(CredentialKind::of(credential));
            attempt.server =
                view.server(std::slice::from_ref(certificate), &policy.tls).ok().map(|server| (server, serving));
        }
        attempt.uses.push(used);
    }
    // What is served in place of a Secret that is not: other Secrets, the default certificate, or nothing.
    let instead = match &attempt.server {
        None => Outcome::Refused,
        Some((_, Serving::Default)) => Outcome::Default,
        Some(_) => Outcome::Others,
    };
    for (used, wanted) in attempt.uses.iter_mut().zip(wanted) {
        if refused_by_library.is_some() || used.served.is_none() {
            used.outcome = instead;
            used.served = None;
        }
        if used.certificate.is_none() {
            let secret = format!("{}/{}", wanted.secret.namespace, wanted.secret.name);
            let problem = Problem::SecretNotFound { secret };
            let effect = used.outcome.effect();
            add(&mut attempt.diagnostics, host, &wanted.ingress, &wanted.field, problem, effect);
        }
    }
    if let (Some(error), Some(wanted)) = (refused_by_library, wanted.first()) {
        let finding = Finding::UnsupportedKey { what: format!("refused by the TLS library ({error})") };
        let field = finding.field().to_owned();
        let problem = Problem::Chain(finding);
        add(&mut attempt.diagnostics, host, &wanted.secret, &field, problem, instead.effect());
    }
    attempt
}

/// The version of a Secret that a host can be served with.
fn pick(view: &mut View<'_>, options: &Options, host: &HostName, key: &ObjectKey, attempt: &mut Attempt) -> SecretUse {
    let policy = attempt.policy.clone();
    let complete =
        |view: &mut View<'_>, secret: &super::SecretObject, certificate: Arc<Certificate>| match policy.completion {
            Some(from) => view.completed(key, secret, certificate, from, &options.intermediates),
            None => certificate,
        };
    let now = view.now;
    let current = view.certificate(key);
    let current = match (current, view.secret(key)) {
        (Some(certificate), Some(secret)) => Some(complete(view, secret, certificate)),
        (None, _) | (_, None) => None,
    };
    let (action, blamed) = match &current {
        Some(certificate) => judge(certificate, &policy, host, now, &mut attempt.changes_at),
        None => (FindingAction::Reject, BTreeSet::new()),
    };
    let current_use = |outcome, served| SecretUse {
        secret: key.clone(),
        certificate: current.clone(),
        outcome,
        blamed: blamed.clone(),
        served,
    };
    if action == FindingAction::Serve {
        return current_use(Outcome::Current, current.clone());
    }
    let exists = current.is_some();
    if let Some((held, until)) = view.history().secret(key, exists, now, options.last_good_ttl) {
        let certificate = view.certificate_of(&held.secret);
        let certificate = complete(view, &held.secret, certificate);
        let (action, _) = judge(&certificate, &policy, host, now, &mut attempt.changes_at);
        if action == FindingAction::Serve {
            attempt.changes_at = earliest(attempt.changes_at, until);
            return current_use(Outcome::LastGood, Some(certificate));
        }
    }
    match action {
        FindingAction::Reject => current_use(Outcome::Refused, None),
        FindingAction::HoldLastGood | FindingAction::Serve => {
            SecretUse { blamed: BTreeSet::new(), ..current_use(Outcome::Current, current.clone()) }
        }
    }
}

/// What the policy says to do with a certificate at this time, and for which findings.
fn judge(
    certificate: &Certificate,
    policy: &HostPolicy,
    host: &HostName,
    now: UnixTime,
    changes_at: &mut Option<UnixTime>,
) -> (FindingAction, BTreeSet<&'static str>) {
    let Some(credential) = &certificate.credential else {
        let is_error = |finding: &&Finding| finding.severity() == Severity::Error && !finding.is_repaired();
        return (FindingAction::Reject, certificate.findings.iter().filter(is_error).map(Finding::code).collect());
    };
    if policy.actions.is_empty() {
        return (FindingAction::Serve, BTreeSet::new());
    }
    let dated = credential.dated(now);
    *changes_at = earliest(*changes_at, dated.changes_at);
    let uncovered = credential.covers(host).err();
    let codes = certificate.findings.iter().chain(&dated.findings).chain(&uncovered).map(Finding::code);
    let asked: Vec<(&'static str, FindingAction)> =
        codes.filter_map(|code| Some((code, *policy.actions.get(code)?))).collect();
    let with = |action| asked.iter().filter(move |(_, other)| *other == action).map(|(code, _)| *code);
    for action in [FindingAction::Reject, FindingAction::HoldLastGood] {
        let blamed: BTreeSet<&'static str> = with(action).collect();
        if !blamed.is_empty() {
            return (action, blamed);
        }
    }
    (FindingAction::Serve, BTreeSet::new())
}

/// Required clients that this would lock out.
#[derive(Default)]
struct LockedOut {
    problems: Vec<Problem>,
    /// The policy is the cause for one of them, not its chain: then another policy helps.
    by_policy: bool,
}

fn locked_out(view: &mut View<'_>, options: &Options, attempt: &Attempt) -> LockedOut {
    let mut found = LockedOut::default();
    let (Some((server, _)), false) = (&attempt.server, attempt.policy.required_clients.is_empty()) else {
        return found;
    };
    let without_name = default_certificate(view, options).server.map(|(server, _)| server);
    for client in &attempt.policy.required_clients {
        if let Err(obstacle) = clients::judge(server, without_name.as_deref(), client) {
            found.by_policy |= obstacle.is_about_policy();
            found.problems.push(Problem::RequiredClientLockedOut { client: client.id, why: obstacle.message(client) });
        }
    }
    found
}

/// The field that policies are set by.
fn policy_field(subject: &ObjectKey) -> &'static str {
    if subject.kind == Kind::TlsPolicy { "spec" } else { "metadata.annotations" }
}

/// Who is to mend what is wrong with the policy of a host.
fn subject(oldest: &Claims, asked: &Asked) -> ObjectKey {
    let by_annotation = asked.overrides.iter().find(|one| matches!(one.fate, Fate::Applied(_) | Fate::Wrong(_)));
    match (by_annotation, &asked.policy) {
        (Some(one), _) => one.ingress.clone(),
        (None, Some(policy)) => policy.clone(),
        (None, None) => oldest.ingress.clone(),
    }
}

/// Says what is wrong with the policy of a host, and with the annotations that change it.
fn report_policy(
    host: &HostName,
    oldest: &Claims,
    asked: &Asked,
    problems: Vec<Problem>,
    effect: Effect,
    report: &mut Vec<Diagnostic>,
) {
    let named = asked.policy.as_ref().map(|key| match key.name.contains('/') {
        // Somebody has written a namespace where none can stand.
        true => key.name.to_string(),
        false => format!("{}/{}", key.namespace, key.name),
    });
    let named = named.unwrap_or_default();
    let (namer, field) = match (&asked.by, &asked.policy) {
        (Some((ingress, annotation)), _) => (ingress.clone(), format!("metadata.annotations[{annotation}]")),
        (None, Some(policy)) => (policy.clone(), String::new()),
        (None, None) => (oldest.ingress.clone(), String::new()),
    };
    match &asked.wish {
        Wish::Accepted(_) => {}
        Wish::Missing => {
            add(report, host, &namer, &field, Problem::TlsPolicyNotFound { policy: named.clone() }, effect);
        }
        Wish::Overridden { complaints, .. } => {
            for Complaint { part, problem } in complaints {
                let culprit = asked.overrides.iter().filter(|one| matches!(one.fate, Fate::Applied(_)));
                let (fitting, others): (Vec<&Override>, Vec<&Override>) = culprit.partition(|one| one.part == *part);
                if let Some(one) = fitting.into_iter().chain(others).next() {
                    let error = match problem {
                        Problem::BadTlsPolicy { error } => error.clone(),
                        other => other.to_string(),
                    };
                    let problem = bad_annotation(one, error);
                    add(report, host, &one.ingress, &field_of(one), problem, effect);
                }
            }
        }
        Wish::Refused { .. } => {
            add(report, host, &namer, &field, Problem::TlsPolicyNotAccepted { policy: named.clone() }, effect);
        }
    }
    for one in &asked.overrides {
        let (problems, effect) = match &one.fate {
            Fate::Applied(problems) => (problems.clone(), Effect::None),
            Fate::Forbidden => (
                vec![Problem::OverrideNotAllowed { annotation: one.annotation.clone(), policy: named.clone() }],
                Effect::None,
            ),
            Fate::Late(winner) => {
                let (annotation, winner) = (one.annotation.clone(), winner.clone());
                (vec![Problem::ConflictingTlsSettings { annotation, winner }], Effect::None)
            }
            Fate::Wrong(error) => (vec![bad_annotation(one, error.clone())], effect),
        };
        for problem in problems {
            add(report, host, &one.ingress, &field_of(one), problem, effect);
        }
    }
    let subject = subject(oldest, asked);
    for problem in problems {
        add(report, host, &subject, policy_field(&subject), problem, effect);
    }
}

fn bad_annotation(one: &Override, error: String) -> Problem {
    Problem::BadAnnotation { annotation: one.annotation.clone(), value: one.value.clone(), error }
}

fn field_of(one: &Override) -> String {
    format!("metadata.annotations[{}]", one.annotation)
}

fn add(
    report: &mut Vec<Diagnostic>,
    host: &HostName,
    subject: &ObjectKey,
    field: &str,
    problem: Problem,
    effect: Effect,
) {
    let hosts = vec![host.clone()];
    report.push(Diagnostic { subject: subject.clone(), field: field.into(), problem, effect, hosts });
}

/// The Secret of the default certificate.
pub(super) fn default_key(options: &Options) -> Option<ObjectKey> {
    let (namespace, name) = options.default_tls_secret.as_ref()?;
    Some(ObjectKey::new(Kind::Secret, namespace, name))
}

/// The earlier of two times, if there are any.
pub(super) fn earliest(one: Option<UnixTime>, other: Option<UnixTime>) -> Option<UnixTime> {
    [one, other].into_iter().flatten().min()
}
