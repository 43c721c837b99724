//! One virtual host: claims of all its Ingresses, oldest first, become routes and a certificate.
//!
//! `claims on a host ──precedence──▶ VirtualHost + diagnostics + what it uses`
//!
//! A host never looks at another host's result, only at its own claims and those of the wildcard above it, so hosts
//! can be built in any order and a broken one cannot reach its neighbours.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::claims::{Claims, RouteClaim};
use super::laxer::report_laxer;
use super::policy::{self, Asked, Wish};
use super::shadow;
use super::terminate::{
    self, DefaultCertificate, PolicyUse, SecretUse, Terminated, Wanted, annotation_field, default_certificate,
    terminate,
};
use super::view::View;
use super::{Diagnostic, Effect, HostOwnership, Kind, ObjectKey, Options, Problem};
use crate::snapshot::{
    BackendKey, HostName, HostTls, PathMatch, PolicySource, Route, RouteTable, Serving, Target, VirtualHost,
};
use crate::tls::policy::Policy;

/// One host, and what it uses.
pub(super) struct Built {
    pub(super) host: VirtualHost,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Secrets that the host asks for or is served with.
    pub(super) secrets: Vec<SecretUse>,
    pub(super) policy: PolicyUse,
    pub(super) backends: Vec<BackendUse>,
    /// The namespace of its oldest Ingress.
    pub(super) owner: Arc<str>,
}

/// A place that names a backend.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackendUse {
    pub(super) backend: BackendKey,
    pub(super) ingress: ObjectKey,
    pub(super) field: Box<str>,
    /// Requests may reach the backend. False where a redirect answers all of them: dummy Services are common there.
    pub(super) reached: bool,
}

/// Builds one host; `None` if nobody claims it.
pub(super) fn virtual_host(view: &mut View<'_>, options: &Options, name: &HostName) -> Option<Built> {
    let claims = owned(view, options, name);
    let oldest = claims.first()?.ingress.clone();
    let mut report = Report { host: name, diagnostics: Vec::new() };
    for other in view.claims(name).iter().filter(|claims| claims.ingress.namespace != oldest.namespace) {
        let (problem, effect) = match options.host_ownership {
            HostOwnership::Merge => (Problem::CrossNamespace { oldest: oldest.clone() }, Effect::None),
            HostOwnership::Namespace => {
                let owner = oldest.namespace.to_string();
                (Problem::HostOwnedElsewhere { owner, oldest: oldest.clone() }, Effect::RouteDropped)
            }
        };
        report.add(&other.ingress, &other.hosts[name].field, problem, effect);
    }

    let asked = policy::choose(view, options, name, &claims);
    let wish = claims.iter().find_map(|claims| Some((*claims, wish(view, options, claims, name)?)));
    // Whether plain HTTP is redirected by default: the default certificate alone is no reason, as in ingress-nginx.
    let (answer, has_tls) = match &wish {
        Some((winner, indices)) => {
            report_conflicts(&claims, winner, indices, name, &mut report);
            (wished(view, options, winner, indices, name, &claims, &asked, &mut report), true)
        }
        None => match covering_wildcard(view, options, name) {
            Some(wanted) => (answered(view, options, name, &claims, &asked, &wanted, &mut report), true),
            None => (unasked(view, options, name, &claims, &asked, &mut report), false),
        },
    };
    report_redirects(&claims, has_tls, &answer, &mut report);
    report_ineffective(&claims, wish.as_ref().map(|(winner, _)| &winner.ingress), &answer, &asked, &mut report);
    report_clear(&claims, &answer.tls, &mut report);
    report_laxer(view, options, name, claims[0], &asked, &answer, &mut report.diagnostics);
    let shadow = shadow::shadow(view, options, name, &claims, &answer.tls, &mut report.diagnostics);
    let closed = closed(view, options, &claims, &asked, &answer, &mut report);

    let is_ours = |route: &Route| {
        let by = |claims: &&&Arc<Claims>| {
            (&claims.ingress.namespace, &claims.ingress.name) == (&route.ingress.0, &route.ingress.1)
        };
        claims.iter().find(by).is_some_and(|claims| claims.is_ours)
    };
    let mut routes = RouteTable::default();
    let mut backends = Vec::new();
    // By address: there may be tens of thousands.
    let mut weak_routes: HashSet<usize> = HashSet::new();
    let address = |route: &Arc<Route>| Arc::as_ptr(route).addr();
    // What is weak comes after everything that is not, so that it only takes what is left.
    for weak in [false, true] {
        for claims in &claims {
            let is_closed = closed.contains(&claims.ingress);
            for claim in claims.hosts[name].routes.iter().filter(|claim| claim.weak == weak) {
                let route = Arc::new(Route {
                    path: claim.path.clone(),
                    matches: claim.matches,
                    ingress: (claims.ingress.namespace.clone(), claims.ingress.name.clone()),
                    target: if is_closed { Target::Dropped } else { claim.target.clone() },
                    options: claims.options(has_tls).clone(),
                });
                match routes.insert(route.clone()) {
                    Ok(()) => {
                        backends.extend(backend_use(claims, claim));
                        if weak {
                            weak_routes.insert(address(&route));
                        }
                    }
                    // It is in the nature of a weak claim to yield to one that is not.
                    Err(taken) if weak && !weak_routes.contains(&address(&taken)) => {}
                    // Beside the Ingress that this controller serves stands the one that another still does.
                    Err(taken) if !claims.is_ours && is_ours(&taken) => {}
                    Err(taken) => report_taken(claims, claim, &taken, &mut report),
                }
            }
        }
    }
    let Terminated { tls, serving, hsts, https_only, uses, policy, client_auth: _ } = answer;
    let source = policy_source(options, name, &asked, &policy);
    // Those of other controllers are judged only, and told nothing.
    let ingresses = claims.iter().filter(|claims| claims.is_ours);
    let ingresses = ingresses.map(|claims| (claims.ingress.namespace.clone(), claims.ingress.name.clone())).collect();
    let host =
        VirtualHost { name: name.clone(), tls, serving, policy: source, hsts, https_only, shadow, routes, ingresses };
    Some(Built { host, diagnostics: report.diagnostics, secrets: uses, policy, backends, owner: oldest.namespace })
}

/// Where the policy of a host comes from. Rules without a host have that of the default certificate.
fn policy_source(options: &Options, name: &HostName, asked: &Asked, used: &PolicyUse) -> PolicySource {
    if name.is_catch_all() {
        let name = options.default_tls_policy.as_ref().map(|(namespace, name)| format!("{namespace}/{name}").into());
        return PolicySource { name, ..PolicySource::default() };
    }
    PolicySource {
        name: asked.policy.as_ref().map(|key| key.path().into()),
        is_overridden: asked.overrides.iter().any(|one| matches!(one.fate, policy::Fate::Applied(_))),
        is_replaced: used.effect.is_some_and(|effect| effect != Effect::None),
    }
}

/// What a host is going to ask for, as far as that can be told without a look into any Secret.
pub(super) struct Foreseen {
    pub(super) secrets: Vec<ObjectKey>,
    /// What its one certificate is served under. A host with several has a configuration that none of them makes alone.
    pub(super) policy: Option<Policy>,
}

/// Looks ahead, for what is worth building in parallel.
pub(super) fn foreseen(view: &mut View<'_>, options: &Options, name: &HostName) -> Option<Foreseen> {
    let claims = owned(view, options, name);
    let (winner, indices) = claims.iter().find_map(|claims| {
        let indices = &claims.hosts.get(name)?.tls;
        if indices.is_empty() { None } else { Some((claims, indices)) }
    })?;
    let secrets: Vec<ObjectKey> = wanted(winner, indices).into_iter().map(|wanted| wanted.secret).collect();
    let policy = match policy::choose(view, options, name, &claims).wish {
        Wish::Accepted(policy) if secrets.len() == 1 => Some(policy.tls.clone()),
        Wish::Accepted(_) | Wish::Missing | Wish::Overridden { .. } | Wish::Refused { .. } => None,
    };
    Some(Foreseen { secrets, policy })
}

/// The claims that count on a host, oldest first.
fn owned<'a>(view: &mut View<'a>, options: &Options, host: &HostName) -> Vec<&'a Arc<Claims>> {
    let claims = view.claims(host);
    let owner = claims.first().map(|oldest| &oldest.ingress.namespace);
    let counts = |claims: &&Arc<Claims>| match options.host_ownership {
        HostOwnership::Merge => true,
        HostOwnership::Namespace => Some(&claims.ingress.namespace) == owner,
    };
    claims.iter().filter(counts).collect()
}

/// The `tls` entries of one Ingress that a host is to be served with: those that name it, or else the first whose
/// certificate covers it, as ingress-nginx chooses.
fn wish(view: &mut View<'_>, options: &Options, claims: &Claims, host: &HostName) -> Option<Vec<usize>> {
    // Enough for every Ingress that people write; without a limit one object could cost its square in time.
    const SEARCHED: usize = 16;
    let named = &claims.hosts.get(host)?.tls;
    if !named.is_empty() {
        return Some(named.clone());
    }
    if host.is_catch_all() {
        return None;
    }
    let covering = claims.tls.iter().take(SEARCHED).position(|entry| {
        let secret = entry.secret.as_deref();
        secret.is_some_and(|secret| covers(view, options, &secret_key(claims, secret), host))
    });
    covering.map(|index| vec![index])
}

fn secret_key(claims: &Claims, secret: &str) -> ObjectKey {
    ObjectKey::new(Kind::Secret, &claims.ingress.namespace, secret)
}

/// Whether what a Secret holds, or held when it was last usable, covers a host.
fn covers(view: &mut View<'_>, options: &Options, key: &ObjectKey, host: &HostName) -> bool {
    let current = view.certificate(key);
    if let Some(credential) = current.as_ref().and_then(|certificate| certificate.credential.as_ref()) {
        return credential.covers(host).is_ok();
    }
    let Some((secret, until)) = view.last_good(key, current.is_some(), options.last_good_ttl) else { return false };
    let certificate = view.certificate_of(&secret);
    let covers = certificate.credential.as_ref().is_some_and(|credential| credential.covers(host).is_ok());
    // What does not cover the host is not used by it, and may be forgotten for that.
    view.note_until(until.filter(|_| covers));
    covers
}

/// The Secrets that `tls` entries and annotations of one Ingress name.
fn wanted(claims: &Claims, indices: &[usize]) -> Vec<Wanted> {
    let entries = indices.iter().filter_map(|index| {
        let secret = claims.tls[*index].secret.as_deref()?;
        Some((secret, format!("spec.tls[{index}].secretName")))
    });
    let additional = claims.settings.additional_secrets.iter().flat_map(|written| {
        let field = annotation_field(&written.annotation);
        written.value.iter().map(move |secret| (secret.as_str(), field.clone()))
    });
    let mut wanted: Vec<Wanted> = Vec::new();
    for (secret, field) in entries.chain(additional) {
        let secret = secret_key(claims, secret);
        if !wanted.iter().any(|other| other.secret == secret) {
            wanted.push(Wanted { secret, ingress: claims.ingress.clone(), field });
        }
    }
    wanted
}

/// The TLS of a host that asks for it.
#[expect(clippy::too_many_arguments, reason = "they are what one host is made of")]
fn wished(
    view: &mut View<'_>,
    options: &Options,
    winner: &Claims,
    indices: &[usize],
    host: &HostName,
    claims: &[&Arc<Claims>],
    asked: &Asked,
    report: &mut Report<'_>,
) -> Terminated {
    let index = indices.first().copied().unwrap_or_default();
    let wanted = match winner.tls.get(index).and_then(|entry| entry.secret.as_ref()) {
        Some(_) => wanted(winner, indices),
        None => {
            if let Some(written) = &winner.settings.additional_secrets {
                let annotation = written.annotation.clone();
                let field = annotation_field(&annotation);
                let why = "its tls entry names no Secret, so the default certificate is served";
                report.add(&winner.ingress, &field, Problem::IneffectiveTlsSetting { annotation, why }, Effect::None);
            }
            Vec::new()
        }
    };
    if host.is_catch_all() {
        if let Some(first) = wanted.first() {
            // Without a name nothing selects this certificate: the default one answers.
            let secret = first.secret.path();
            let field = format!("spec.tls[{index}].secretName");
            report.add(&winner.ingress, &field, Problem::TlsWithoutHost { secret }, Effect::None);
        }
        return unasked(view, options, host, claims, asked, report);
    }
    if wanted.is_empty() {
        let answer = answered(view, options, host, claims, asked, &[], report);
        if answer.uses.iter().all(|used| used.served.is_none()) && answer.policy.in_force.is_some() {
            let field = format!("spec.tls[{index}]");
            report.add(&winner.ingress, &field, Problem::NoDefaultCertificate, Effect::HostRefused);
        }
        return answer;
    }
    answered(view, options, host, claims, asked, &wanted, report)
}

/// The Secrets of the wildcard host above a host, if they cover the host.
fn covering_wildcard(view: &mut View<'_>, options: &Options, host: &HostName) -> Option<Vec<Wanted>> {
    let wildcard = host.wildcard()?;
    let claims = owned(view, options, &wildcard);
    let (claims, indices) =
        claims.iter().find_map(|claims| Some((*claims, wish(view, options, claims, &wildcard)?)))?;
    let mut wanted = wanted(claims, &indices);
    wanted.retain(|wanted| covers(view, options, &wanted.secret, host));
    if wanted.is_empty() { None } else { Some(wanted) }
}

/// The TLS of a host that no `tls` entry asks for and no wildcard covers: the default certificate, if there is one.
fn unasked(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    claims: &[&Arc<Claims>],
    asked: &Asked,
    report: &mut Report<'_>,
) -> Terminated {
    if host.is_catch_all() {
        let DefaultCertificate { server, mut uses, held: _ } = default_certificate(view, options);
        uses.iter_mut().for_each(|used| used.counts = false);
        let (tls, policy) = match server {
            Some((server, policy)) => (HostTls::Terminate(server), Some(policy)),
            None => (HostTls::Absent, None),
        };
        return Terminated {
            serving: if policy.is_some() { Serving::Default } else { Serving::None },
            tls,
            hsts: policy.as_ref().and_then(|policy| policy.hsts.clone()),
            https_only: policy.as_ref().is_some_and(|policy| policy.demanded().is_some()),
            uses,
            policy: PolicyUse::default(),
            client_auth: policy.and_then(|policy| policy.demanded().cloned()),
        };
    }
    let mut answer = answered(view, options, host, claims, asked, &[], report);
    if let HostTls::Refuse = answer.tls {
        (answer.tls, answer.serving) = (HostTls::Absent, Serving::None);
        // Nobody has asked for the default certificate, so what is wrong with it costs this host nothing.
        answer.uses.clear();
    }
    answer
}

/// The TLS of a host with these Secrets, or with the default certificate.
fn answered(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    claims: &[&Arc<Claims>],
    asked: &Asked,
    wanted: &[Wanted],
    report: &mut Report<'_>,
) -> Terminated {
    let answer = terminate(view, options, host, claims[0], asked, wanted, &mut report.diagnostics);
    // What is asked for is to cover the host; the default certificate rarely does, and need not.
    for used in answer.uses.iter().filter(|used| wanted.iter().any(|wanted| wanted.secret == used.secret)) {
        let credential = used.certificate.as_ref().and_then(|certificate| certificate.credential.as_ref());
        if let Some(Err(finding)) = credential.map(|credential| credential.covers(host)) {
            let effect = used.effect_of(finding.code());
            report.add(&used.secret, finding.field(), Problem::Chain(finding.clone()), effect);
        }
    }
    answer
}

/// Says of a missing Secret that plain HTTP leads to the handshakes that are refused for want of it.
fn report_redirects(claims: &[&Arc<Claims>], has_tls: bool, answer: &Terminated, report: &mut Report<'_>) {
    let redirects = |claims: &&Arc<Claims>| {
        let options = claims.options(has_tls);
        let is_redirected = options.redirect.is_none() && (options.ssl_redirect || options.force_ssl_redirect);
        is_redirected && claims.hosts[report.host].routes.iter().any(|route| route.target != Target::Dropped)
    };
    if !matches!(answer.tls, HostTls::Refuse) || !claims.iter().any(redirects) {
        return;
    }
    for diagnostic in report.diagnostics.iter_mut().filter(|diagnostic| diagnostic.effect == Effect::HostRefused) {
        if let Problem::SecretNotFound { redirected, .. } = &mut diagnostic.problem {
            *redirected = true;
        }
    }
}

/// Annotations about TLS that nothing takes up.
fn report_ineffective(
    claims: &[&Arc<Claims>],
    chooses: Option<&ObjectKey>,
    answer: &Terminated,
    asked: &Asked,
    report: &mut Report<'_>,
) {
    if report.host.is_catch_all() {
        return;
    }
    let mut add = |ingress: &ObjectKey, annotation: &str, why| {
        let problem = Problem::IneffectiveTlsSetting { annotation: annotation.to_owned(), why };
        report.add(ingress, &annotation_field(annotation), problem, Effect::None);
    };
    for claims in claims.iter().filter(|claims| Some(&claims.ingress) != chooses) {
        if let Some(written) = &claims.settings.additional_secrets {
            add(&claims.ingress, &written.annotation, "another Ingress chooses the host's certificate");
        }
    }
    if matches!(answer.tls, HostTls::Absent) {
        let applied = asked.overrides.iter().filter(|one| matches!(one.fate, policy::Fate::Applied(_)));
        let named = asked.by.iter().map(|(ingress, annotation)| (ingress, annotation.as_str()));
        let why = match answer.https_only {
            true => "the host has no certificate, so clients cannot show theirs; plain HTTP is closed",
            false => "the host has no certificate and is served over plain HTTP only",
        };
        for (ingress, annotation) in named.chain(applied.map(|one| (&one.ingress, one.annotation.as_str()))) {
            add(ingress, annotation, why);
        }
    }
}

/// Ingresses that have `tls` for other hosts and none for this one, where nothing else gives it a certificate: that is
/// rarely meant.
fn report_clear(claims: &[&Arc<Claims>], tls: &HostTls, report: &mut Report<'_>) {
    if report.host.is_catch_all() || !matches!(tls, HostTls::Absent) {
        return;
    }
    for claims in claims.iter().filter(|claims| !claims.tls.is_empty()) {
        let host = report.host.clone();
        let field = &claims.hosts[&host].field;
        report.add(&claims.ingress, field, Problem::HostWithoutTls { host }, Effect::None);
    }
}

/// Ingresses whose policy demands certificates of clients that the host does not ask for: because another Ingress has
/// chosen its policy, or because no name selects one. Their routes are closed, since nothing would protect them.
fn closed(
    view: &mut View<'_>,
    options: &Options,
    claims: &[&Arc<Claims>],
    asked: &Asked,
    answer: &Terminated,
    report: &mut Report<'_>,
) -> BTreeSet<ObjectKey> {
    let is_catch_all = report.host.is_catch_all();
    let mut closed = BTreeSet::new();
    for one in claims {
        let own = policy::own(one);
        // On a host with a name the policy that counts is enforced by the host itself; and what the class of the oldest
        // Ingress says has been heard there.
        let is_heard = own.is_none() || own == asked.policy || (own == claims[0].class_policy && asked.by.is_some());
        if is_heard && !is_catch_all {
            continue;
        }
        let is_enforced = match policy::demand(view, options, own.as_ref()) {
            policy::Demand::Certificates(auth) => answer.client_auth.as_ref() == Some(&auth),
            policy::Demand::Nothing => true,
            policy::Demand::Unknown => false,
        };
        let effect = if is_enforced { Effect::None } else { Effect::RouteDropped };
        if !is_enforced {
            closed.insert(one.ingress.clone());
        }
        let annotation = one.settings.policy.as_ref().map(|written| written.annotation.clone());
        let (annotation, field) = match annotation {
            Some(annotation) => (annotation.clone(), annotation_field(&annotation)),
            None if is_enforced => continue,
            None if own.is_some() => ("the policy of the IngressClass".to_owned(), "spec.ingressClassName".to_owned()),
            None => ("--default-tls-policy".to_owned(), String::new()),
        };
        if is_catch_all {
            report.add(&one.ingress, &field, Problem::TlsSettingsWithoutHost { annotation }, effect);
        } else if !is_enforced {
            let problem = Problem::UnenforcedTlsPolicy { annotation, winner: claims[0].ingress.clone() };
            report.add(&one.ingress, &field, problem, effect);
        }
    }
    if is_catch_all {
        for one in &asked.overrides {
            let (annotation, field) = (one.annotation.clone(), annotation_field(&one.annotation));
            report.add(&one.ingress, &field, Problem::TlsSettingsWithoutHost { annotation }, Effect::None);
        }
    }
    closed
}

/// Younger Ingresses that name another Secret for the host.
fn report_conflicts(
    claims: &[&Arc<Claims>],
    winner: &Claims,
    indices: &[usize],
    host: &HostName,
    report: &mut Report<'_>,
) {
    let describe = |claims: &Claims, index: usize| match &claims.tls[index].secret {
        Some(secret) => format!("{}/{secret}", claims.ingress.namespace),
        None => "the default certificate".to_owned(),
    };
    let chosen: Vec<String> = indices.iter().map(|index| describe(winner, *index)).collect();
    let is_other = |other: &&&Arc<Claims>| other.ingress != winner.ingress && (other.is_ours || !winner.is_ours);
    for other in claims.iter().filter(is_other) {
        for index in &other.hosts[host].tls {
            let secret = describe(other, *index);
            if !chosen.contains(&secret) {
                let field = format!("spec.tls[{index}].secretName");
                let winner = winner.ingress.clone();
                let problem = Problem::ConflictingSecrets { secret, winner, chosen: chosen.join(", ") };
                report.add(&other.ingress, &field, problem, Effect::None);
            }
        }
    }
}

/// A claim that came too late.
fn report_taken(claims: &Claims, claim: &RouteClaim, taken: &Route, report: &mut Report<'_>) {
    let winner = ObjectKey { kind: Kind::Ingress, namespace: taken.ingress.0.clone(), name: taken.ingress.1.clone() };
    // Patterns of one Ingress often begin alike; closing the same path twice is no conflict.
    if claim.weak && claim.target == Target::Dropped && taken.target == Target::Dropped {
        return;
    }
    let matches = match claim.matches {
        PathMatch::Exact => "exact",
        PathMatch::Prefix => "prefix",
    };
    let problem = Problem::PathConflict { matches, path: claim.path.as_str().to_owned(), winner };
    report.add(&claims.ingress, &claim.field, problem, Effect::RouteDropped);
}

fn backend_use(claims: &Claims, claim: &RouteClaim) -> Option<BackendUse> {
    match &claim.target {
        Target::Backend(backend) => Some(BackendUse {
            backend: backend.clone(),
            ingress: claims.ingress.clone(),
            field: claim.backend_field.clone(),
            reached: claims.options(false).redirect.is_none(),
        }),
        Target::Dropped => None,
    }
}

/// Diagnostics that touch one host.
struct Report<'a> {
    host: &'a HostName,
    diagnostics: Vec<Diagnostic>,
}

impl Report<'_> {
    fn add(&mut self, subject: &ObjectKey, field: &str, problem: Problem, effect: Effect) {
        terminate::add(&mut self.diagnostics, self.host, subject, field, problem, effect);
    }
}
