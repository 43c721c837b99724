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
use super::{Diagnostic, Effect, HeldPolicy, Kind, ObjectKey, Options, Problem, SecretObject};
use crate::api::tls_policy::FindingAction;
use crate::quote::about;
use crate::snapshot::{HostName, HostTls, Serving};
use crate::tls::chain::{Credential, Finding};
use crate::tls::clients;
use crate::tls::compat;
use crate::tls::negotiate::CredentialKind;
use crate::tls::policy::ClientAuth;
use crate::tls::{ServerTls, Severity, rfc3339};

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
    /// Certificates of clients that are demanded of the host's connections.
    pub(super) client_auth: Option<ClientAuth>,
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
    /// The host has a say in whether the Secret is good: it is of the Secret's namespace, and its policy is known.
    pub(super) counts: bool,
}

impl SecretUse {
    /// Nothing is served, for want of a policy: that says nothing about the Secret.
    fn refused(view: &mut View<'_>, secret: ObjectKey) -> Self {
        let certificate = view.certificate(&secret);
        Self { secret, certificate, outcome: Outcome::Refused, blamed: BTreeSet::new(), served: None, counts: false }
    }

    /// The Secret holds the temporary certificate of cert-manager now, which is never good.
    pub(super) fn is_temporary(&self) -> bool {
        let credential = self.certificate.as_ref().and_then(|certificate| certificate.credential.as_ref());
        credential.is_some_and(|credential| credential.is_temporary())
    }

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
        (&self.secret, self.outcome, &self.blamed, self.counts)
            == (&other.secret, other.outcome, &other.blamed, other.counts)
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
    let owner = &*oldest.ingress.namespace;
    let requested = match &asked.wish {
        Wish::Accepted(policy) => Some(attempt(view, options, host, Some(owner), wanted, policy)),
        Wish::Missing | Wish::Overridden(_) | Wish::Refused { .. } => None,
    };
    let locked_out = match &requested {
        Some(attempt) if attempt.works() => locked_out(view, options, attempt),
        Some(_) | None => LockedOut::default(),
    };
    let mut is_held = false;
    let mut is_programmed = false;
    // Most hosts have what they ask for, so the next best is looked for only where it is needed.
    let next = |view: &mut View<'_>| {
        alternatives(view, options, host, owner, asked).into_iter().find_map(|(policy, is_previous)| {
            let attempt = attempt(view, options, host, Some(owner), wanted, &policy);
            attempt.works().then_some((attempt, is_previous))
        })
    };
    let mut problems: Vec<Problem> = Vec::new();
    let in_force = match requested {
        Some(attempt) if attempt.works() && !locked_out.by_policy && is_current(&attempt.policy, view.now) => {
            problems.extend(locked_out.problems);
            is_programmed = true;
            Some(attempt)
        }
        Some(attempt) if attempt.works() => {
            problems.extend(locked_out.problems);
            // Only a policy that was in force is a reason not to do what is asked for; where the cause is that revocation
            // lists have expired, only as long as its own have not.
            let now = view.now;
            let is_better = |previous: &Attempt| locked_out.by_policy || is_current(&previous.policy, now);
            match next(view).filter(|(previous, is_previous)| *is_previous && is_better(previous)) {
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
    let Some(mut in_force) = in_force else {
        let refused = |wanted: &Wanted| SecretUse::refused(view, wanted.secret.clone());
        return Terminated {
            tls: HostTls::Refuse,
            serving: Serving::Refused,
            hsts: None,
            https_only: true,
            uses: wanted.iter().map(refused).collect(),
            policy: PolicyUse { asked: asked.policy.clone(), effect: Some(effect), ..PolicyUse::default() },
            client_auth: None,
        };
    };
    report.append(&mut in_force.diagnostics);
    if in_force.server.is_some() {
        for unworkable in compat::unworkable(&in_force.policy.tls, &in_force.kinds) {
            let problem = Problem::UnworkableVersion { why: unworkable.to_string() };
            let subject = subject(oldest, asked);
            add(report, host, &subject, policy_field(&subject), problem, Effect::None);
        }
    }
    if is_held && let Some(lists) = in_force.policy.revoked() {
        // What is wrong with the policy that is asked for says nothing about the one that is in force.
        let secret = in_force.policy.source.spec.client_auth.as_ref().map(|auth| auth.ca_secret.clone());
        let subject = subject(oldest, asked);
        for (issuer, since) in lists.expired(view.now) {
            let (secret, issuer) = (secret.clone().unwrap_or_default(), issuer.to_owned());
            let problem = Problem::ExpiredRevocationList { secret, issuer, since: rfc3339(since) };
            add(report, host, &subject, "(previous policy)", problem, Effect::None);
        }
        view.note_until(lists.changes_at(view.now));
    }
    let (tls, serving) = match in_force.server {
        Some((server, serving)) => (HostTls::Terminate(server), serving),
        None => (HostTls::Refuse, Serving::Refused),
    };
    Terminated {
        tls,
        serving,
        hsts: in_force.policy.hsts.clone(),
        https_only: in_force.policy.demanded().is_some(),
        uses: in_force.uses,
        policy: PolicyUse {
            asked: asked.policy.clone(),
            in_force: Some(in_force.policy.source.clone()),
            held: is_held,
            effect: Some(effect),
        },
        client_auth: in_force.policy.demanded().cloned(),
    }
}

/// The default certificate for names that no host has.
pub(super) struct DefaultCertificate {
    /// What is served; `None` if nothing can be.
    pub(super) server: Option<(Arc<ServerTls>, Arc<HostPolicy>)>,
    pub(super) uses: Vec<SecretUse>,
    /// The policy is the one that was in force before.
    pub(super) held: bool,
}

/// Looks for what answers where no host does.
pub(super) fn default_certificate(view: &mut View<'_>, options: &Options) -> DefaultCertificate {
    let nobody = HostName::catch_all();
    let general = policy::general(view, options);
    let previous = view.previous_policy(&nobody, "").and_then(|previous| previous.policy.clone().ok());
    let mut policies: Vec<(Arc<HostPolicy>, bool)> = Vec::new();
    policies.extend(general.ok().map(|policy| (policy, false)));
    policies.extend(previous.map(|policy| (policy, true)));
    // As for a host: what was in force is better than revocation lists that have expired.
    if let [(general, _), (previous, _)] = policies.as_slice()
        && !is_current(general, view.now)
        && is_current(previous, view.now)
    {
        view.note_until(previous.revoked().and_then(|lists| lists.changes_at(view.now)));
        policies.swap(0, 1);
    }
    for (policy, held) in policies {
        let attempt = attempt(view, options, &nobody, None, &[], &policy);
        if attempt.works() {
            let server = attempt.server.map(|(server, _)| (server, policy));
            return DefaultCertificate { server, uses: attempt.uses, held };
        }
    }
    let refused = default_key(options).map(|secret| SecretUse::refused(view, secret));
    DefaultCertificate { server: None, uses: refused.into_iter().collect(), held: false }
}

/// What may be in force in place of the policy that is asked for, best first; true for the previous one.
fn alternatives(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    owner: &str,
    asked: &Asked,
) -> Vec<(Arc<HostPolicy>, bool)> {
    let auth = |policy: &HostPolicy| policy.tls.settings().client_auth.clone();
    let previous = view.previous_policy(host, owner).and_then(|previous| previous.policy.clone().ok());
    // Certificates of clients that a general policy would have to ask for as well; `None` if nobody knows which.
    let demanded = match &asked.wish {
        Wish::Accepted(policy) => Some(auth(policy)),
        Wish::Overridden(_) => Some(asked.base.as_deref().and_then(auth)),
        Wish::Missing | Wish::Refused { asks_for_client_certificates: true } => None,
        Wish::Refused { asks_for_client_certificates: false } => Some(None),
    };
    let mut found: Vec<(Arc<HostPolicy>, bool)> = Vec::new();
    found.extend(previous.map(|policy| (policy, true)));
    if let Some(base) = &asked.base {
        // Annotations that do not work are no reason to keep a host open that is to demand certificates now.
        let first = auth(base).is_some() && found.iter().any(|(previous, _)| auth(previous) != auth(base));
        found.insert(if first { 0 } else { found.len() }, (base.clone(), false));
    }
    let general = [policy::general(view, options), policy::built_in_policy(view)].into_iter().flatten();
    let fits = |policy: &Arc<HostPolicy>| match &demanded {
        Some(None) => true,
        Some(demanded) => auth(policy) == *demanded,
        None => false,
    };
    found.extend(general.filter(fits).map(|policy| (policy, false)));
    if let Wish::Accepted(policy) = &asked.wish {
        found.retain(|(other, _)| other.source != policy.source);
    }
    found
}

/// Chooses a certificate for each Secret under a policy, and puts the configuration together. `owner` is the namespace of
/// the host; the default certificate for unknown names has none.
fn attempt(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    owner: Option<&str>,
    wanted: &[Wanted],
    policy: &Arc<HostPolicy>,
) -> Attempt {
    let mut attempt =
        Attempt { policy: policy.clone(), server: None, kinds: Vec::new(), uses: Vec::new(), diagnostics: Vec::new() };
    let mut served: Vec<Arc<Certificate>> = Vec::new();
    let mut owners: Vec<&ObjectKey> = Vec::new();
    for wanted in wanted {
        let used = pick(view, options, host, owner, &wanted.secret, policy);
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
                        secret: wanted.secret.path(),
                        first: owners[first].path(),
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
        let used = pick(view, options, host, owner, &key, policy);
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
        let is_usable = used.certificate.as_ref().is_some_and(|certificate| certificate.credential.is_some());
        if is_usable && used.served.is_none() && !used.blamed.is_empty() {
            let codes = used.blamed.iter().copied().collect::<Vec<_>>().join(", ");
            let effect = used.outcome.effect();
            let problem = Problem::RejectedByPolicy { codes };
            add(&mut attempt.diagnostics, host, &used.secret, "", problem, effect);
        }
        if used.certificate.is_none() {
            let problem = Problem::SecretNotFound { secret: wanted.secret.path(), redirected: false };
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
///
/// Whether a Secret is good is for hosts of its own namespace to say; of the default certificate's, for nobody but itself.
/// Others are served with the last good version only if the Secret is of no use to anybody now, or its certificate is
/// temporary, which is good for nobody.
fn pick(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    owner: Option<&str>,
    key: &ObjectKey,
    policy: &HostPolicy,
) -> SecretUse {
    let is_default = default_key(options).as_ref() == Some(key);
    let counts = owner.is_none_or(|owner| *key.namespace == *owner && !is_default);
    let complete = |view: &mut View<'_>, secret: &SecretObject, certificate: Arc<Certificate>| match policy.completion {
        Some(from) => view.completed(key, secret, certificate, from, &options.intermediates),
        None => certificate,
    };
    let current = match (view.certificate(key), view.secret(key)) {
        (Some(certificate), Some(secret)) => Some(complete(view, secret, certificate)),
        (None, _) | (_, None) => None,
    };
    let (action, blamed) = match &current {
        Some(certificate) => judge(view, certificate, policy, host),
        None => (FindingAction::Reject, BTreeSet::new()),
    };
    let used = |outcome, blamed, served| SecretUse {
        secret: key.clone(),
        certificate: current.clone(),
        outcome,
        blamed,
        served,
        counts,
    };
    if action == FindingAction::Serve {
        return used(Outcome::Current, blamed, current.clone());
    }
    let credential = current.as_ref().and_then(|certificate| certificate.credential.as_deref());
    let temporary = credential.filter(|credential| credential.is_temporary());
    if (counts || credential.is_none() || temporary.is_some())
        && let Some((secret, until)) = view.last_good(key, current.is_some(), options.last_good_ttl)
    {
        view.note_until(until);
        let certificate = view.certificate_of(&secret);
        let certificate = complete(view, &secret, certificate);
        // Clients that would refuse it as well are no reason to keep what cert-manager has put there.
        let is_better = match temporary {
            Some(temporary) if action == FindingAction::HoldLastGood => {
                is_worth_keeping(view, &certificate, (!is_default).then_some(host), temporary)
            }
            Some(_) | None => true,
        };
        if is_better && judge(view, &certificate, policy, host).0 == FindingAction::Serve {
            return used(Outcome::LastGood, blamed, Some(certificate));
        }
    }
    match action {
        FindingAction::Reject => used(Outcome::Refused, blamed, None),
        FindingAction::HoldLastGood | FindingAction::Serve => used(Outcome::Current, BTreeSet::new(), current.clone()),
    }
}

/// Whether the last good version of a Secret is better than a temporary certificate: it is in date, and covers the host
/// as far as the other one does. The default certificate need not cover any.
fn is_worth_keeping(
    view: &mut View<'_>,
    certificate: &Certificate,
    host: Option<&HostName>,
    temporary: &Credential,
) -> bool {
    let Some(credential) = &certificate.credential else { return false };
    let dated = credential.dated(view.now);
    view.note_until(dated.changes_at);
    let is_out_of_date = |finding: &Finding| matches!(finding, Finding::Expired { .. } | Finding::NotValidYet { .. });
    let covers = |host: &HostName| credential.covers(host).is_ok() || temporary.covers(host).is_err();
    !dated.findings.iter().any(is_out_of_date) && host.is_none_or(covers)
}

/// What the policy says to do with a certificate at this time, and for which findings.
fn judge(
    view: &mut View<'_>,
    certificate: &Certificate,
    policy: &HostPolicy,
    host: &HostName,
) -> (FindingAction, BTreeSet<&'static str>) {
    let Some(credential) = &certificate.credential else {
        let is_error = |finding: &&Finding| finding.severity() == Severity::Error && !finding.is_repaired();
        return (FindingAction::Reject, certificate.findings.iter().filter(is_error).map(Finding::code).collect());
    };
    if policy.actions.is_empty() && !credential.is_temporary() {
        return (FindingAction::Serve, BTreeSet::new());
    }
    let dated = credential.dated(view.now);
    view.note_until(dated.changes_at);
    let uncovered = credential.covers(host).err();
    let found = certificate.findings.iter().chain(&dated.findings).chain(&uncovered);
    let asked: Vec<(&'static str, FindingAction)> =
        found.filter_map(|finding| Some((finding.code(), policy.action(finding)?))).collect();
    let with = |action| asked.iter().filter(move |(_, other)| *other == action).map(|(code, _)| *code);
    for action in [FindingAction::Reject, FindingAction::HoldLastGood] {
        let blamed: BTreeSet<&'static str> = with(action).collect();
        if !blamed.is_empty() {
            return (action, blamed);
        }
    }
    (FindingAction::Serve, BTreeSet::new())
}

/// Whether the revocation lists of a policy, if it has some, say what is revoked now.
fn is_current(policy: &HostPolicy, now: UnixTime) -> bool {
    policy.revoked().is_none_or(|lists| lists.expired(now).next().is_none())
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

/// Who names the policy of a host, and where.
pub(super) fn namer(oldest: &Claims, asked: &Asked) -> (ObjectKey, String) {
    match (&asked.by, &asked.policy) {
        (Some((ingress, annotation)), _) => (ingress.clone(), annotation_field(annotation)),
        (None, Some(policy)) if !policy.namespace.is_empty() => (policy.clone(), String::new()),
        (None, Some(_) | None) => (oldest.ingress.clone(), "spec.ingressClassName".to_owned()),
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
    let named = asked.policy.as_ref().map(|key| match key.namespace.is_empty() || key.name.contains('/') {
        // Parameters that name none, or a namespace where none can stand.
        true => key.name.to_string(),
        false => key.path(),
    });
    let named = named.unwrap_or_else(|| "of the IngressClass, which is gone,".to_owned());
    let (namer, field) = namer(oldest, asked);
    match &asked.wish {
        Wish::Accepted(_) => {}
        Wish::Missing => {
            let problem = Problem::TlsPolicyNotFound { policy: named.clone(), why: asked.absent.clone() };
            add(report, host, &namer, &field, problem, effect);
        }
        Wish::Overridden(complaints) => {
            for Complaint { part, problem } in complaints {
                let culprit = asked.overrides.iter().filter(|one| matches!(one.fate, Fate::Applied(_)));
                let (fitting, others): (Vec<&Override>, Vec<&Override>) = culprit.partition(|one| one.part == *part);
                if let Some(one) = fitting.into_iter().chain(others).next() {
                    let error = match problem {
                        Problem::BadTlsPolicy { error } => error.clone(),
                        other => other.to_string(),
                    };
                    let problem = bad_annotation(one, error);
                    add(report, host, &one.ingress, &annotation_field(&one.annotation), problem, effect);
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
            add(report, host, &one.ingress, &annotation_field(&one.annotation), problem, effect);
        }
    }
    let subject = subject(oldest, asked);
    for problem in problems {
        add(report, host, &subject, policy_field(&subject), problem, effect);
    }
}

fn bad_annotation(one: &Override, error: String) -> Problem {
    Problem::BadAnnotation {
        annotation: one.annotation.clone(),
        value: one.value.clone(),
        error: about(&one.value, error),
    }
}

/// The field of an annotation.
pub(super) fn annotation_field(annotation: &str) -> String {
    format!("metadata.annotations[{annotation}]")
}

/// Says something that touches one host.
pub(super) fn add(
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
