//! One virtual host: claims of all its Ingresses, oldest first, become routes and a certificate.
//!
//! `claims on a host ──precedence──▶ VirtualHost + diagnostics + what it uses`
//!
//! A host never looks at another host's result, only at its own claims and those of the wildcard above it, so hosts
//! can be built in any order and a broken one cannot reach its neighbours.

use std::sync::Arc;

use super::claims::{Claims, RouteClaim};
use super::tls::Certificate;
use super::view::View;
use super::{Diagnostic, Effect, HostOwnership, Kind, ObjectKey, Options, Problem};
use crate::snapshot::{BackendKey, HostName, HostTls, PathMatch, Route, RouteTable, Target, VirtualHost};
use crate::tls::ServerTls;

/// One host, and what it uses.
pub(super) struct Built {
    pub(super) host: VirtualHost,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Secrets that the host asks for or is served with.
    pub(super) secrets: Vec<ObjectKey>,
    pub(super) backends: Vec<BackendUse>,
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

    let mut secrets = Vec::new();
    let wish = claims.iter().find_map(|claims| Some((claims, wish(view, claims, name)?)));
    // Whether plain HTTP is redirected by default: the default certificate alone is no reason, as in ingress-nginx.
    let (tls, has_tls) = match &wish {
        Some((winner, index)) => {
            report_conflicts(&claims, winner, *index, name, &mut report);
            (asked(view, options, winner, *index, name, &mut secrets, &mut report), true)
        }
        None => match covering_wildcard(view, options, name, &mut secrets) {
            Some(tls) => (HostTls::Terminate(tls), true),
            None => (unasked(view, options, &mut secrets), false),
        },
    };

    let mut routes = RouteTable::default();
    let mut backends = Vec::new();
    let mut weak_routes: Vec<Arc<Route>> = Vec::new();
    // What is weak comes after everything that is not, so that it only takes what is left.
    for weak in [false, true] {
        for claims in &claims {
            for claim in claims.hosts[name].routes.iter().filter(|claim| claim.weak == weak) {
                let route = Arc::new(Route {
                    path: claim.path.clone(),
                    matches: claim.matches,
                    ingress: (claims.ingress.namespace.clone(), claims.ingress.name.clone()),
                    target: claim.target.clone(),
                    options: claims.options(has_tls).clone(),
                });
                match routes.insert(route.clone()) {
                    Ok(()) => {
                        backends.extend(backend_use(claims, claim));
                        if weak {
                            weak_routes.push(route);
                        }
                    }
                    // It is in the nature of a weak claim to yield to one that is not.
                    Err(taken) if weak && !weak_routes.iter().any(|route| Arc::ptr_eq(route, &taken)) => {}
                    Err(taken) => report_taken(claims, claim, &taken, &mut report),
                }
            }
        }
    }
    let host = VirtualHost::new(name.clone(), tls, routes);
    Some(Built { host, diagnostics: report.diagnostics, secrets, backends })
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

/// The `tls` entry of one Ingress that a host is to be served with: one that names it, or else the first whose
/// certificate covers it, as ingress-nginx chooses.
fn wish(view: &mut View<'_>, claims: &Claims, host: &HostName) -> Option<usize> {
    // Enough for every Ingress that people write; without a limit one object could cost its square in time.
    const SEARCHED: usize = 16;
    if let Some(index) = claims.hosts.get(host)?.tls {
        return Some(index);
    }
    if host.is_catch_all() {
        return None;
    }
    claims.tls.iter().take(SEARCHED).position(|entry| {
        let secret = entry.secret.as_deref();
        let certificate = secret.and_then(|secret| view.certificate(&claims.ingress.namespace, secret));
        certificate.is_some_and(|certificate| serves(&certificate, host).is_some())
    })
}

/// The TLS of a host that asks for it.
fn asked(
    view: &mut View<'_>,
    options: &Options,
    claims: &Claims,
    index: usize,
    host: &HostName,
    secrets: &mut Vec<ObjectKey>,
    report: &mut Report<'_>,
) -> HostTls {
    let field = format!("spec.tls[{index}]");
    let namespace = &claims.ingress.namespace;
    let default = default_certificate(view, options);
    let fallback = |secrets: &mut Vec<ObjectKey>| match &default {
        Some((key, _, tls)) => {
            secrets.push(key.clone());
            (HostTls::Terminate(tls.clone()), Effect::Default)
        }
        None => (HostTls::Refuse, Effect::HostRefused),
    };
    let Some(secret) = &claims.tls[index].secret else {
        let (tls, effect) = fallback(secrets);
        match &default {
            Some((key, certificate, _)) => report_names(certificate, key, host, report),
            None => report.add(&claims.ingress, &field, Problem::NoDefaultCertificate, effect),
        }
        return tls;
    };
    let secret_name = format!("{namespace}/{secret}");
    if host.is_catch_all() {
        // Without a name nothing selects this certificate: the default one answers.
        let problem = Problem::TlsWithoutHost { secret: secret_name };
        report.add(&claims.ingress, &format!("{field}.secretName"), problem, Effect::None);
        return unasked(view, options, secrets);
    }
    let Some(certificate) = view.certificate(namespace, secret) else {
        let (tls, effect) = fallback(secrets);
        let problem = Problem::SecretNotFound { secret: secret_name };
        report.add(&claims.ingress, &format!("{field}.secretName"), problem, effect);
        return tls;
    };
    let key = ObjectKey::new(Kind::Secret, namespace, secret);
    let tls = match &certificate.tls {
        Some(tls) => {
            report_names(&certificate, &key, host, report);
            HostTls::Terminate(tls.clone())
        }
        // Why it cannot be served is said once, about the Secret.
        None => fallback(secrets).0,
    };
    secrets.push(key);
    tls
}

/// The certificate of the wildcard host above a host, if it covers the host.
fn covering_wildcard(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    secrets: &mut Vec<ObjectKey>,
) -> Option<Arc<ServerTls>> {
    let wildcard = host.wildcard()?;
    let claims = owned(view, options, &wildcard);
    let (claims, index) = claims.iter().find_map(|claims| Some((claims, wish(view, claims, &wildcard)?)))?;
    let secret = claims.tls[index].secret.as_ref()?;
    let certificate = view.certificate(&claims.ingress.namespace, secret)?;
    let tls = serves(&certificate, host)?;
    secrets.push(ObjectKey::new(Kind::Secret, &claims.ingress.namespace, secret));
    Some(tls)
}

/// The TLS of a host that no `tls` entry asks for and no wildcard covers: the default certificate, if there is one.
fn unasked(view: &mut View<'_>, options: &Options, secrets: &mut Vec<ObjectKey>) -> HostTls {
    match default_certificate(view, options) {
        Some((key, _, tls)) => {
            secrets.push(key);
            HostTls::Terminate(tls)
        }
        None => HostTls::Absent,
    }
}

/// The default certificate if it can be served.
pub(super) fn default_certificate(
    view: &mut View<'_>,
    options: &Options,
) -> Option<(ObjectKey, Arc<Certificate>, Arc<ServerTls>)> {
    let (namespace, name) = options.default_tls_secret.as_ref()?;
    let certificate = view.certificate(namespace, name)?;
    let tls = certificate.tls.clone()?;
    Some((ObjectKey::new(Kind::Secret, namespace, name), certificate, tls))
}

/// What is served if the certificate is usable and covers the host.
fn serves(certificate: &Certificate, host: &HostName) -> Option<Arc<ServerTls>> {
    let covers = certificate.credential.as_ref().is_some_and(|credential| credential.covers(host).is_ok());
    certificate.tls.clone().filter(|_| covers)
}

/// A certificate that does not cover its host is served all the same, loudly.
fn report_names(certificate: &Certificate, key: &ObjectKey, host: &HostName, report: &mut Report<'_>) {
    if let Some(Err(finding)) = certificate.credential.as_ref().map(|credential| credential.covers(host)) {
        report.add(key, finding.field(), Problem::Chain(finding.clone()), Effect::None);
    }
}

/// Younger Ingresses that name another Secret for the host.
fn report_conflicts(claims: &[&Arc<Claims>], winner: &Claims, index: usize, host: &HostName, report: &mut Report<'_>) {
    let describe = |claims: &Claims, index: usize| match &claims.tls[index].secret {
        Some(secret) => format!("{}/{secret}", claims.ingress.namespace),
        None => "the default certificate".to_owned(),
    };
    let chosen = describe(winner, index);
    for other in claims.iter().filter(|other| other.ingress != winner.ingress) {
        let Some(index) = other.hosts[host].tls else { continue };
        let secret = describe(other, index);
        if secret != chosen {
            let field = format!("spec.tls[{index}].secretName");
            let winner = winner.ingress.clone();
            let problem = Problem::ConflictingSecrets { secret, winner, chosen: chosen.clone() };
            report.add(&other.ingress, &field, problem, Effect::None);
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
        let hosts = vec![self.host.clone()];
        self.diagnostics.push(Diagnostic { subject: subject.clone(), field: field.into(), problem, effect, hosts });
    }
}
