//! What traffic gets, for the hosts and Ingresses of a report.
//!
//! `Input ──▶ Traffic of each host and Ingress, with words, and a finding where nothing else explains it`
//!
//! [`Traffic`] judges; here is put together what it has to know: what `run` would serve of it, which losses count, and
//! whether anything is known about endpoints.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::summary::counted;
use super::{Finding, Input};
use crate::compile::{Diagnostic, Effect, Kind, ObjectKey, Problem};
use crate::snapshot::{Closed, HostTls, Paths, Route, Serving, Snapshot, Traffic, VirtualHost};
use crate::tls::about::{About, sentence};
use crate::tls::{Severity, TlsSummary, Version, rfc3339};

/// What is to be said of a host that nothing reaches, where no error says so.
pub(crate) static ANSWERS_503: About = About {
    code: "host-answers-503",
    severity: Severity::Error,
    meaning: "Every path of the host answers 503, and no other error says why: its Services have no endpoints that take traffic. Only `handfast check` reports it, and only if its input holds any EndpointSlice: without one, Services are taken to have endpoints.",
    fault: "the owner of the pods",
    remedy: "look at the pods behind the Services of its paths: is one ready, and does the selector of the Service match it?",
};

/// A path that answers 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClosedPath {
    /// The path; `(Exact)` stands behind one that is compared as a whole.
    pub path: String,
    /// Why: `closed` (by configuration), `no_endpoints` or `no_service`.
    pub cause: &'static str,
}

/// The policy of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// The TlsPolicy that is asked for, as `namespace/name`; `null` is Handfast's own.
    pub name: Option<String>,
    /// Annotations change it.
    pub overridden: bool,
    /// It is not in force: the one from before is, or a general one.
    pub replaced: bool,
    /// The protocol versions that are served.
    pub versions: Vec<&'static str>,
}

/// A certificate that a host is served with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: String,
    /// Type and size of its key.
    pub key: String,
    /// The name of its issuer.
    pub issuer: String,
    /// End of its validity, RFC 3339.
    pub not_after: String,
    /// Whole days until then; negative if it has expired.
    pub days_left: i64,
}

/// What traffic gets of a host, with what there is to say about it.
pub(super) struct Standing {
    pub(super) traffic: Traffic,
    /// Its Services are taken to have endpoints.
    pub(super) endpoints_assumed: bool,
    /// In full: the word, then which paths, or why.
    pub(super) words: String,
    pub(super) closed: Vec<ClosedPath>,
}

/// Judges hosts and Ingresses.
pub(super) struct Judge<'a> {
    input: &'a Input<'a>,
    served: &'a Snapshot,
    /// Hosts with a loss.
    losing: BTreeSet<&'a str>,
    /// Those of them that have it from something else than an Ingress.
    losing_by_others: BTreeSet<&'a str>,
    /// Ingresses with a loss of their own.
    losing_ingresses: BTreeSet<&'a ObjectKey>,
    /// Ingresses that belong to another controller, with their class.
    others: BTreeMap<&'a ObjectKey, Option<&'a str>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(input: &'a Input<'a>, told: &[&'a Diagnostic]) -> Self {
        let losses = || told.iter().copied().filter(|diagnostic| diagnostic.is_loss());
        let hosts = |diagnostic: &'a Diagnostic| diagnostic.hosts.iter().map(|host| host.as_str());
        let is_by_ingress = |diagnostic: &&'a Diagnostic| diagnostic.subject.kind == Kind::Ingress;
        let other = |diagnostic: &'a Diagnostic| {
            let Problem::OtherClass { class } = &diagnostic.problem else { return None };
            Some((&diagnostic.subject, class.as_deref()))
        };
        Self {
            input,
            served: input.served.unwrap_or(input.snapshot),
            losing: losses().flat_map(hosts).collect(),
            losing_by_others: losses().filter(|one| !is_by_ingress(one)).flat_map(hosts).collect(),
            losing_ingresses: losses().filter(is_by_ingress).map(|one| &one.subject).collect(),
            // Also where that finding is not to be told.
            others: input.diagnostics.iter().filter_map(other).collect(),
        }
    }

    /// What the requests of a host get.
    pub(super) fn host(&self, judged: &VirtualHost) -> Standing {
        let Some(host) = self.served.hosts.get(judged.name.as_str()) else {
            let classes: BTreeSet<Option<&str>> =
                judged.routes.iter().filter_map(|route| self.others.get(&ingress_of(route)).copied()).collect();
            let words = format!("not served: {}", class_words(&classes));
            return Standing { traffic: Traffic::NotServed, endpoints_assumed: false, words, closed: Vec::new() };
        };
        let known = self.input.endpoints_are_known;
        let traffic = Traffic::of(host, self.served, self.losing.contains(host.name.as_str()), known);
        let paths = Paths::of(host.routes.iter(), self.served, known);
        let endpoints_assumed = !known && Paths::of(host.routes.iter(), self.served, true).counts() != paths.counts();
        let closed = paths.closed.iter().map(|(route, why)| ClosedPath { path: route.label(), cause: why.code() });
        let words = words(traffic, host, &paths, endpoints_assumed);
        Standing { traffic, endpoints_assumed, words, closed: closed.collect() }
    }

    /// What the requests for the paths of an Ingress get.
    pub(super) fn ingress(&self, key: &ObjectKey, places: &Places<'a>) -> Traffic {
        let places = places.get(key).map(Vec::as_slice).unwrap_or_default();
        if self.others.contains_key(key) {
            return Traffic::NotServed;
        }
        let refuses = places.iter().any(|(host, _)| matches!(host.tls, HostTls::Refuse));
        let routes = places.iter().flat_map(|(_, routes)| routes.iter().copied());
        let counts = Paths::of(routes, self.served, self.input.endpoints_are_known).counts();
        let has_losses = self.losing_ingresses.contains(key)
            || places.iter().any(|(host, _)| self.losing_by_others.contains(host.name.as_str()));
        Traffic::put_together(refuses, counts, has_losses)
    }

    /// Where each Ingress that is served has routes.
    pub(super) fn places(&self) -> Places<'a> {
        let mut places: Places<'a> = BTreeMap::new();
        for host in self.served.hosts.values() {
            let mut of_host: BTreeMap<ObjectKey, Vec<&'a std::sync::Arc<Route>>> = BTreeMap::new();
            for route in host.routes.iter() {
                of_host.entry(ingress_of(route)).or_default().push(route);
            }
            for (key, routes) in of_host {
                places.entry(key).or_default().push((host, routes));
            }
        }
        places
    }

    /// The class of an Ingress that is not served for it.
    pub(super) fn other_class(&self, key: &ObjectKey) -> Option<String> {
        self.others
            .get(key)
            .map(|class| class.map_or_else(|| "the default class".to_owned(), |class| format!("class {class}")))
    }
}

/// Routes by Ingress and host.
pub(super) type Places<'a> = BTreeMap<ObjectKey, Vec<(&'a VirtualHost, Vec<&'a std::sync::Arc<Route>>)>>;

pub(super) fn ingress_of(route: &Route) -> ObjectKey {
    let (namespace, name) = &route.ingress;
    ObjectKey { kind: Kind::Ingress, namespace: namespace.clone(), name: name.clone() }
}

fn class_words(classes: &BTreeSet<Option<&str>>) -> String {
    let named: Vec<&str> = classes.iter().flatten().copied().collect();
    match named.as_slice() {
        [] if classes.is_empty() => "none of its Ingresses is served".to_owned(),
        [] => "its Ingress names no class".to_owned(),
        [one] => format!("its class is {one}. Use --adopt-class {one} to serve it"),
        several => format!("its classes are {}. Use --adopt-class to serve one", several.join(", ")),
    }
}

/// The word, and what belongs to it.
fn words(traffic: Traffic, host: &VirtualHost, paths: &Paths<'_>, endpoints_assumed: bool) -> String {
    const SHOWN: usize = 4;
    let causes = || paths.causes().into_iter().map(Closed::words).collect::<Vec<_>>().join(", ");
    let clear = match host.tls {
        HostTls::Absent => ", over plain HTTP only",
        HostTls::Refuse | HostTls::Terminate(_) => "",
    };
    let condition = if endpoints_assumed { ", if its Services have endpoints" } else { "" };
    match traffic {
        Traffic::Works | Traffic::WorksWithLosses => format!("{}{clear}{condition}", traffic.words()),
        Traffic::Answers503 => format!("{}: {}", traffic.words(), causes()),
        Traffic::Answers503Partly => {
            let total = paths.open + paths.closed.len();
            let mut shown: Vec<String> = paths.closed.iter().take(SHOWN).map(|(route, _)| route.label()).collect();
            if paths.closed.len() > SHOWN {
                shown.push("…".to_owned());
            }
            let number = paths.closed.len();
            format!("answers 503 ({number} of {total} paths: {}): {}{condition}", shown.join(", "), causes())
        }
        Traffic::RefusesTls => {
            let redirects =
                host.routes.iter().any(|route| route.options.ssl_redirect || route.options.force_ssl_redirect);
            let instead = match (host.https_only, redirects) {
                (true, _) => ", and plain HTTP is closed",
                (false, true) => ", and plain HTTP is redirected to it",
                (false, false) => "",
            };
            format!("{}{instead}", traffic.words())
        }
        Traffic::NotServed => format!("{}: none of its paths can match a request", traffic.words()),
    }
}

/// Says that every path of a host answers 503, where no error does.
pub(super) fn finding(host: &VirtualHost, standing: &Standing, subject: String, told: &[Finding]) -> Option<Finding> {
    let explains =
        |finding: &Finding| finding.severity == Severity::Error.code() && finding.effect == Effect::RouteDropped.code();
    let is_explained = told.iter().any(explains);
    if standing.traffic != Traffic::Answers503 || is_explained {
        return None;
    }
    Some(Finding {
        code: ANSWERS_503.code,
        severity: ANSWERS_503.severity.code(),
        effect: Effect::RouteDropped.code(),
        subject,
        message: sentence(format!("{}: {}", host.name, standing.words)),
        remedy: ANSWERS_503.remedy.to_owned(),
    })
}

/// Under which policy a host is served.
pub(super) fn policy(host: &VirtualHost) -> Option<PolicyReport> {
    let HostTls::Terminate(tls) = &host.tls else { return None };
    Some(PolicyReport {
        name: host.policy.name.as_deref().map(str::to_owned),
        overridden: host.policy.is_overridden,
        replaced: host.policy.is_replaced,
        versions: tls.policy().versions().map(Version::label).collect(),
    })
}

/// The certificates that a host is served with.
pub(super) fn certificates(host: &VirtualHost, at: u64) -> Vec<CertificateReport> {
    let HostTls::Terminate(tls) = &host.tls else { return Vec::new() };
    let report = |summary: &TlsSummary| {
        let seconds = i128::from(summary.not_after.as_secs()) - i128::from(at);
        CertificateReport {
            fingerprint: summary.fingerprint.to_string(),
            key: summary.key.to_string(),
            issuer: summary.issuer().to_owned(),
            not_after: rfc3339(summary.not_after),
            days_left: i64::try_from(seconds.div_euclid(86_400)).unwrap_or(i64::MAX),
        }
    };
    std::iter::once(&tls.summary).chain(&tls.additional).map(report).collect()
}

/// One line about certificate and policy.
pub(super) fn served(serving: Serving, policy: Option<&PolicyReport>, certificates: &[CertificateReport]) -> String {
    let Some(policy) = policy else { return String::new() };
    let what = match serving {
        Serving::Current | Serving::None | Serving::Refused => "certificate",
        Serving::Default => "default certificate",
        Serving::LastGood => "last good certificate",
    };
    let days = |left: i64| {
        let number = counted(usize::try_from(left.unsigned_abs()).unwrap_or(usize::MAX), "day");
        if left < 0 { format!("expired {number} ago") } else { format!("{number} left") }
    };
    let one = |one: &CertificateReport| {
        let issuer = if one.issuer.is_empty() { String::new() } else { format!(" by {}", one.issuer) };
        format!("{}{issuer}, {}", one.key, days(one.days_left))
    };
    let all: Vec<String> = certificates.iter().map(one).collect();
    let name = policy.name.as_deref().unwrap_or("default");
    let changed = match (policy.replaced, policy.overridden) {
        (true, _) => " (not in force)",
        (false, true) => " and annotations",
        (false, false) => "",
    };
    format!("{what}: {}; TLS {}; policy: {name}{changed}", all.join(" and "), policy.versions.join(", "))
}
