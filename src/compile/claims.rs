//! What one Ingress asks for, host by host, before other Ingresses have a say.
//!
//! `Ingress ──claims──▶ Claims ──Index──▶ ingress.rs, one host at a time`
//!
//! Everything that depends on this one object is done here once, however many hosts it names: class, annotations,
//! parsing of hosts, paths and backends. A rule that cannot be served is reported and left out alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressSpec};
use k8s_openapi::jiff::Timestamp;

use super::class::{self, Owner};
use super::diagnostic::BadBackend;
use super::pattern::{Literal, literal, meant};
use super::view::View;
use super::{Diagnostic, Effect, Kind, ObjectKey, Options, Problem};
use crate::api::annotations::{self, Settings, TlsSettings, What};
use crate::snapshot::{BackendKey, HostName, NormalPath, PathMatch, PortKey, RouteOptions, Target};

/// What one Ingress asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Claims {
    /// The Ingress.
    pub(super) ingress: ObjectKey,
    created: Option<Timestamp>,
    /// Options of routes on hosts that ask for TLS, and on others.
    with_tls: Arc<RouteOptions>,
    without_tls: Arc<RouteOptions>,
    /// By host; only hosts that a rule names.
    pub(super) hosts: BTreeMap<HostName, HostClaim>,
    /// `spec.tls`, in order.
    pub(super) tls: Vec<TlsEntry>,
    /// What annotations say about TLS.
    pub(super) settings: TlsSettings,
    /// The TlsPolicy that the parameters of its class name, if they name one.
    pub(super) class_policy: Option<ObjectKey>,
    /// Its class does not exist as an object.
    pub(super) class_is_missing: bool,
    /// It belongs to this controller; others are only judged.
    pub(super) is_ours: bool,
}

/// What one Ingress asks for on one host.
#[derive(Debug, Default, PartialEq)]
pub(super) struct HostClaim {
    /// The field that names the host.
    pub(super) field: Box<str>,
    /// In the order of the rules.
    pub(super) routes: Vec<RouteClaim>,
    /// The `tls` entries that name the host; without one, those that name no host; without one, those that name its
    /// wildcard. Each is another certificate of the host.
    pub(super) tls: Vec<usize>,
}

/// One path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RouteClaim {
    pub(super) path: NormalPath,
    pub(super) matches: PathMatch,
    pub(super) target: Target,
    /// It yields to every claim of the same path that is not weak, however young.
    pub(super) weak: bool,
    /// The field of the path.
    pub(super) field: Box<str>,
    /// The field of the backend.
    pub(super) backend_field: Box<str>,
}

/// One entry of `spec.tls`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TlsEntry {
    /// Name of the Secret in the Ingress's namespace; `None` is the default certificate.
    pub(super) secret: Option<Box<str>>,
}

impl Claims {
    /// What the Ingress's routes have as options on a host that asks for TLS, or does not.
    pub(super) fn options(&self, tls: bool) -> &Arc<RouteOptions> {
        if tls { &self.with_tls } else { &self.without_tls }
    }

    /// Order of precedence: ours before those of other controllers, then creation time, then namespace and name. Objects without a time (those of a directory)
    /// come first, so that among them only the names decide.
    fn age(&self) -> (bool, Option<Timestamp>, &str, &str) {
        (!self.is_ours, self.created, &self.ingress.namespace, &self.ingress.name)
    }
}

/// Claims by Ingress and by host.
#[derive(Default)]
pub(super) struct Index {
    by_ingress: HashMap<ObjectKey, Arc<Claims>>,
    /// Oldest first. Never empty.
    by_host: HashMap<HostName, Vec<Arc<Claims>>>,
}

impl Index {
    pub(super) fn on_host(&self, host: &HostName) -> &[Arc<Claims>] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    pub(super) fn len(&self) -> usize {
        self.by_ingress.len()
    }

    /// Puts the claims of an Ingress in place of what it claimed before. Returns the hosts that this touches.
    pub(super) fn replace(&mut self, ingress: &ObjectKey, claims: Option<Claims>) -> Vec<HostName> {
        let before = self.by_ingress.get(ingress);
        if before.map(Arc::as_ref) == claims.as_ref() {
            return Vec::new();
        }
        let mut touched = Vec::new();
        if let Some(before) = self.by_ingress.remove(ingress) {
            for host in before.hosts.keys() {
                if let Some(on_host) = self.by_host.get_mut(host) {
                    on_host.retain(|claims| claims.ingress != *ingress);
                    if on_host.is_empty() {
                        self.by_host.remove(host);
                    }
                }
                touched.push(host.clone());
            }
        }
        if let Some(claims) = claims.map(Arc::new) {
            for host in claims.hosts.keys() {
                let on_host = self.by_host.entry(host.clone()).or_default();
                let at = on_host.partition_point(|other| other.age() < claims.age());
                on_host.insert(at, claims.clone());
                touched.push(host.clone());
            }
            self.by_ingress.insert(ingress.clone(), claims);
        }
        touched
    }
}

/// What an Ingress claims; `None` if it is not ours or claims nothing.
pub(super) fn claims(
    view: &mut View<'_>,
    options: &Options,
    key: &ObjectKey,
    ingress: &Ingress,
) -> (Option<Claims>, Vec<Diagnostic>) {
    let default = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&default);
    let mut report = Report { ingress: key, diagnostics: Vec::new() };
    let mut is_ours = true;
    let class = match class::owner(view, options, ingress) {
        Owner::Other(class) => {
            if options.report_other_classes {
                report.add("".into(), Problem::OtherClass { class }, Effect::None, Vec::new());
            }
            if !options.every_class {
                return (None, report.diagnostics);
            }
            is_ours = false;
            None
        }
        Owner::Us(class) => class,
        Owner::Unknown(class) if options.every_class => {
            report.add("".into(), Problem::OtherClass { class: Some(class) }, Effect::None, Vec::new());
            is_ours = false;
            None
        }
        Owner::Unknown(class) => {
            let problem = Problem::UnknownIngressClass { class };
            report.add("spec.ingressClassName".into(), problem, Effect::RouteDropped, Vec::new());
            return (None, report.diagnostics);
        }
    };
    let annotations = ingress.metadata.annotations.iter().flatten();
    let settings = annotations::read(annotations.map(|(key, value)| (key.as_str(), value.as_str())));

    let mut hosts = rules(spec, key, &settings, &mut report);
    report_annotations(&settings, &hosts, &mut report);
    if settings.drop_claims {
        return (None, report.diagnostics);
    }
    let tls = tls_entries(spec, &mut hosts, &mut report);
    let class_policy = match class.and_then(|class| Some((class, class::policy(class)?))) {
        None => None,
        Some((_, Ok(policy))) => Some(policy),
        Some((class, Err(error))) => {
            report.diagnostics.push(Diagnostic {
                subject: ObjectKey::new(Kind::IngressClass, "", class.metadata.name.as_deref().unwrap_or_default()),
                field: "spec.parameters".into(),
                problem: Problem::BadClassParameters { error },
                effect: Effect::None,
                hosts: hosts.keys().cloned().collect(),
            });
            // It names a policy that nobody finds, and what that demands is not known.
            Some(ObjectKey::new(Kind::TlsPolicy, "", "named by the parameters of the IngressClass"))
        }
    };
    let class_is_missing = class.is_none();

    let mut route_options = settings.options;
    if settings.drop_routes || settings.patterns {
        // A closed route answers 503; nothing may answer in its place.
        route_options.redirect = None;
    }
    let with_tls = Arc::new(route_options);
    let without_tls = Arc::new(RouteOptions { ssl_redirect: false, ..(*with_tls).clone() });
    let created = ingress.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ingress = key.clone();
    let claims = Claims {
        ingress,
        created,
        with_tls,
        without_tls,
        hosts,
        tls,
        settings: settings.tls,
        class_policy,
        class_is_missing,
        is_ours,
    };
    (Some(claims), report.diagnostics)
}

/// Routes of each host that a rule names.
fn rules(
    spec: &IngressSpec,
    key: &ObjectKey,
    settings: &Settings,
    report: &mut Report<'_>,
) -> BTreeMap<HostName, HostClaim> {
    let mut hosts: BTreeMap<HostName, HostClaim> = BTreeMap::new();
    let rules = spec.rules.as_deref().unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let host = match rule.host.as_deref().filter(|host| !host.is_empty()) {
            None => HostName::catch_all(),
            Some(text) => match text.parse() {
                Ok(host) => host,
                Err(error) => {
                    let problem = Problem::BadHost { host: text.to_owned(), error };
                    report.add(format!("{field}.host"), problem, Effect::RouteDropped, Vec::new());
                    continue;
                }
            },
        };
        let claim = hosts.entry(host.clone()).or_insert_with(|| {
            let field = if host.is_catch_all() { field.clone() } else { format!("{field}.host") };
            HostClaim { field: field.into(), ..HostClaim::default() }
        });
        for (index, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            let field = format!("{field}.http.paths[{index}]");
            claim.routes.extend(route(path, &field, key, settings, &host, report));
        }
    }
    let Some(fallback) = &spec.default_backend else { return hosts };
    // Without rules the default backend is the rule; beside rules it takes what they leave on their hosts.
    let weak = !rules.is_empty();
    if !weak {
        let field = "spec.defaultBackend".into();
        hosts.insert(HostName::catch_all(), HostClaim { field, ..HostClaim::default() });
    }
    let Ok(path) = NormalPath::parse("/") else { return hosts };
    let names: Vec<HostName> = hosts.keys().cloned().collect();
    let target = target(fallback, "spec.defaultBackend", key, &names, report);
    let closed = settings.drop_routes || settings.patterns;
    let route = RouteClaim {
        path,
        matches: PathMatch::Prefix,
        target: if closed { Target::Dropped } else { target },
        weak,
        field: "spec.defaultBackend".into(),
        backend_field: "spec.defaultBackend".into(),
    };
    for claim in hosts.values_mut() {
        claim.routes.push(route.clone());
    }
    hosts
}

/// The routes of one path: one, or none if it cannot be served, or the tombstones of a pattern.
fn route(
    path: &HTTPIngressPath,
    field: &str,
    key: &ObjectKey,
    settings: &Settings,
    host: &HostName,
    report: &mut Report<'_>,
) -> Vec<RouteClaim> {
    let on_host = || vec![host.clone()];
    let (matches, default_path) = match path.path_type.as_str() {
        "Exact" => (PathMatch::Exact, ""),
        "Prefix" => (PathMatch::Prefix, ""),
        "ImplementationSpecific" => (PathMatch::Prefix, "/"),
        other => {
            let problem = Problem::BadPathType { path_type: other.to_owned() };
            report.add(format!("{field}.pathType"), problem, Effect::RouteDropped, on_host());
            return Vec::new();
        }
    };
    let written = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or(default_path);
    let path_field: Box<str> = format!("{field}.path").into();
    let backend_field: Box<str> = format!("{field}.backend").into();
    let pattern = if settings.patterns { literal(written) } else { Literal::Whole };
    let (text, weak_text, matches) = match pattern {
        Literal::Whole if settings.patterns => (written, None, PathMatch::Prefix),
        Literal::Whole => (written, None, matches),
        Literal::Segments(text) => (text, None, PathMatch::Prefix),
        Literal::Partial { parent, partial } => (parent, Some(partial), PathMatch::Prefix),
    };
    let normal = match NormalPath::parse(text) {
        Ok(normal) => normal,
        Err(error) => {
            let problem = Problem::BadPath { path: written.to_owned(), error };
            report.add(path_field.into(), problem, Effect::RouteDropped, on_host());
            return Vec::new();
        }
    };
    if !settings.patterns && normal.is_pattern() {
        let problem = Problem::PatternPath { path: written.to_owned(), meant: meant(written).unwrap_or_default() };
        report.add(path_field.clone().into(), problem, Effect::None, on_host());
    }
    let target = target(&path.backend, &backend_field, key, &on_host(), report);
    // A certificate authority must reach the challenge, and cert-manager's solver carries annotations of its own.
    let is_acme = normal.is_acme_challenge() || normal.is_acme_prefix();
    let closed = (settings.drop_routes || settings.patterns) && !(is_acme && weak_text.is_none());
    let claim = RouteClaim {
        path: normal,
        matches,
        target: if closed { Target::Dropped } else { target },
        weak: weak_text.is_some(),
        field: path_field,
        backend_field,
    };
    let weak_path = weak_text.and_then(|text| NormalPath::parse(text).ok());
    let partial = weak_path.filter(|path| *path != claim.path).map(|path| RouteClaim { path, ..claim.clone() });
    [Some(claim), partial].into_iter().flatten().collect()
}

/// Where a backend of the Ingress sends requests. What cannot be used keeps its path, closed.
fn target(
    backend: &IngressBackend,
    field: &str,
    key: &ObjectKey,
    hosts: &[HostName],
    report: &mut Report<'_>,
) -> Target {
    let bad = |error| Problem::BadBackend { error };
    let service = match (&backend.service, &backend.resource) {
        (Some(service), None) => service,
        (None, Some(resource)) => {
            let problem = Problem::ResourceBackend { kind: resource.kind.clone() };
            report.add(format!("{field}.resource"), problem, Effect::RouteDropped, hosts.to_vec());
            return Target::Dropped;
        }
        (Some(_), Some(_)) => {
            report.add(field.to_owned(), bad(BadBackend::Both), Effect::RouteDropped, hosts.to_vec());
            return Target::Dropped;
        }
        (None, None) => {
            report.add(field.to_owned(), bad(BadBackend::NoService), Effect::RouteDropped, hosts.to_vec());
            return Target::Dropped;
        }
    };
    let name = service.port.as_ref().and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
    let number = service.port.as_ref().and_then(|port| port.number).filter(|number| *number != 0);
    let port = match (name, number) {
        _ if service.name.is_empty() => Err(BadBackend::NoService),
        (Some(_), Some(_)) => Err(BadBackend::Both),
        (Some(name), None) => Ok(PortKey::Name(name.into())),
        (None, Some(number)) => u16::try_from(number).map(PortKey::Number).map_err(|_| BadBackend::PortRange(number)),
        (None, None) => Err(BadBackend::NoPort),
    };
    match port {
        Ok(port) => Target::Backend(BackendKey {
            namespace: key.namespace.clone(),
            service: service.name.as_str().into(),
            port,
        }),
        Err(error) => {
            report.add(format!("{field}.service"), bad(error), Effect::RouteDropped, hosts.to_vec());
            Target::Dropped
        }
    }
}

/// Certificates that one host can have: there are no more kinds of keys.
const MOST_CERTIFICATES: usize = 8;

/// Reads `spec.tls`, and tells each host which entries are its own: those that name it, else those that name no host
/// at all, else those that name its wildcard.
fn tls_entries(
    spec: &IngressSpec,
    hosts: &mut BTreeMap<HostName, HostClaim>,
    report: &mut Report<'_>,
) -> Vec<TlsEntry> {
    let mut entries: Vec<TlsEntry> = Vec::new();
    let mut named: BTreeMap<HostName, (Vec<usize>, String)> = BTreeMap::new();
    let mut for_all: Vec<usize> = Vec::new();
    let mut too_many: Option<usize> = None;
    for (index, entry) in spec.tls.iter().flatten().enumerate() {
        let secret = entry.secret_name.as_deref().filter(|name| !name.is_empty()).map(Box::from);
        entries.push(TlsEntry { secret });
        let mut add = |list: &mut Vec<usize>| {
            let known = list.iter().any(|other| entries[*other] == entries[index]);
            if known {
            } else if list.len() < MOST_CERTIFICATES {
                list.push(index);
            } else {
                too_many.get_or_insert(index);
            }
        };
        let names = entry.hosts.as_deref().unwrap_or_default();
        if names.is_empty() {
            add(&mut for_all);
        }
        for (place, text) in names.iter().enumerate() {
            let field = format!("spec.tls[{index}].hosts[{place}]");
            match text.parse() {
                Ok(host) => add(&mut named.entry(host).or_insert_with(|| (Vec::new(), field)).0),
                Err(error) => {
                    report.add(field, Problem::BadHost { host: text.clone(), error }, Effect::None, Vec::new());
                }
            }
        }
    }
    if let Some(index) = too_many {
        let problem = Problem::TooManyCertificates { limit: MOST_CERTIFICATES };
        report.add(format!("spec.tls[{index}]"), problem, Effect::None, hosts.keys().cloned().collect());
    }
    for (host, claim) in hosts.iter_mut() {
        let of = |host: &HostName| named.get(host).map(|(indices, _)| indices.clone());
        let general = || Some(for_all.clone()).filter(|indices| !indices.is_empty());
        let wildcard = || host.wildcard().and_then(|wildcard| of(&wildcard));
        claim.tls = of(host).or_else(general).or_else(wildcard).unwrap_or_default();
    }
    let covered: BTreeSet<HostName> = hosts.keys().filter_map(HostName::wildcard).collect();
    for (host, (_, field)) in named {
        if !hosts.contains_key(&host) && !covered.contains(&host) {
            report.add(field, Problem::TlsHostWithoutRule { host: host.clone() }, Effect::None, vec![host]);
        }
    }
    entries
}

fn report_annotations(settings: &Settings, hosts: &BTreeMap<HostName, HostClaim>, report: &mut Report<'_>) {
    // Each finding touches all hosts of the Ingress. One object may have a hundred thousand, and hundreds of findings; then
    // it is left open which hosts it touches, for that list alone could take all memory.
    const MOST: usize = 1_000_000;
    let names: Vec<HostName> = match settings.findings.len().saturating_mul(hosts.len()) {
        0..=MOST => hosts.keys().cloned().collect(),
        _ => Vec::new(),
    };
    for finding in &settings.findings {
        let annotation = finding.annotation.clone();
        let field = "metadata.annotations".to_owned();
        let problem = match &finding.what {
            What::Bad { value, error } => {
                Problem::BadAnnotation { annotation, value: value.clone(), error: error.clone() }
            }
            What::Canary => Problem::Canary { annotation },
            What::Restricting => Problem::RestrictingAnnotation { annotation },
            What::Unknown { nearest } => Problem::UnknownAnnotation { annotation, nearest: nearest.clone() },
            What::Unsupported => Problem::UnsupportedAnnotation { annotation },
        };
        let effect = if finding.drops { Effect::RouteDropped } else { Effect::None };
        report.add(field, problem, effect, names.clone());
    }
}

/// Diagnostics about one Ingress.
struct Report<'a> {
    ingress: &'a ObjectKey,
    diagnostics: Vec<Diagnostic>,
}

impl Report<'_> {
    fn add(&mut self, field: String, problem: Problem, effect: Effect, hosts: Vec<HostName>) {
        let subject = self.ingress.clone();
        self.diagnostics.push(Diagnostic { subject, field: field.into(), problem, effect, hosts });
    }
}
