//! What `handfast check` says: a verdict per host and per object.
//!
//! `Snapshot + diagnostics + time ──report──▶ Report ──▶ table, counts, or JSON`
//!
//! Two things are said of a host, and they are not the same: what its requests get ([`Traffic`]), and how bad what was
//! found is ([`Verdict`]), which the exit status follows.
//!
//! Pure. A report is a view of what the compiler found; nothing is judged here a second time. The JSON form is an
//! interface: scripts and pipelines read it, so fields are only ever added.

pub mod chain;
pub mod clients;
pub mod sarif;
pub mod shadow;
pub mod summary;
mod table;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::UnixTime;
use serde::Serialize;

use self::clients::ClientReports;
use self::shadow::ShadowReport;
use self::summary::Summary;
use self::traffic::{CertificateReport, ClosedPath, Judge, PolicyReport, ingress_of};
use crate::compile::{Diagnostic, Effect, Kind, ObjectKey, PolicyCondition, PolicyStatus, Problem, Severity};
use crate::snapshot::{HostTls, Serving, Snapshot, Traffic, VirtualHost};
use crate::tls::about::sentence;
use crate::tls::chain::{Finding as ChainFinding, Note};
use crate::trie::Trie;

pub use self::table::Form;

/// What a report is made from.
pub struct Input<'a> {
    /// All hosts that are judged, also those of other controllers.
    pub snapshot: &'a Snapshot,
    /// What `run` would serve of it; `None` if that is the same.
    pub served: Option<&'a Snapshot>,
    /// Everything that was found.
    pub diagnostics: &'a [Diagnostic],
    /// All Ingresses.
    pub ingresses: &'a [ObjectKey],
    /// The input has EndpointSlices. A Git repository has none, and then Services are taken to have endpoints.
    pub endpoints_are_known: bool,
    /// Codes of findings that are left out.
    pub ignored: &'a [String],
    /// The time that the check is about.
    pub at: UnixTime,
}

impl<'a> Input<'a> {
    /// Of one snapshot that is all there is.
    pub fn new(snapshot: &'a Snapshot, diagnostics: &'a [Diagnostic], at: UnixTime) -> Self {
        Self { snapshot, served: None, diagnostics, ingresses: &[], endpoints_are_known: true, ignored: &[], at }
    }
}

/// The result of a check. Serialises to the JSON that `--output json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all findings.
    pub verdict: Verdict,
    /// The time that the check is about (RFC 3339, UTC).
    pub at: String,
    /// Every virtual host, sorted by name; rules without a host are `*`.
    pub hosts: Vec<HostReport>,
    /// Every object with findings, and every Ingress that brought a route, sorted.
    pub objects: Vec<ObjectReport>,
    /// How many hosts and Ingresses stand where, and what was found how often.
    pub summary: Summary,
    /// Codes of findings that are left out.
    #[serde(skip)]
    ignored: Vec<String>,
}

/// One virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Its name, or `*`.
    pub host: String,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// What its requests get.
    pub traffic: Traffic,
    /// The paths that answer 503.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed_paths: Vec<ClosedPath>,
    /// True if that holds only if its Services have endpoints, about which the input says nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub endpoints_assumed: bool,
    /// Which certificate its handshakes get.
    pub serving: Serving,
    /// The certificates that are served, preferred ones first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateReport>,
    /// The policy of its handshakes, if it terminates TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReport>,
    /// What touches it, worst first.
    pub findings: Vec<Finding>,
    /// Which well-known clients connect; only with `--clients`, and only if it terminates TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientReports>,
    /// Who would connect under the policy that is tried out; only with `--clients`, and only if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// The chain of its certificate with the findings at their places; empty if there is none, or nothing wrong with it.
    #[serde(skip)]
    tree: String,
    /// What its requests get, for the table.
    #[serde(skip)]
    words: String,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectReport {
    /// Kind, namespace and name, for example `Secret default/shop`.
    pub subject: String,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// What is wrong with it, worst first.
    pub findings: Vec<Finding>,
    /// Of an Ingress: what requests for its paths get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Of a TlsPolicy: the conditions that its status would have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PolicyCondition>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// The stable kebab-case word for what is wrong.
    pub code: &'static str,
    /// `info`, `warning` or `error`.
    pub severity: &'static str,
    /// What it does to traffic, for example `host-refused`.
    pub effect: &'static str,
    /// The object to repair.
    pub subject: String,
    /// The field, if it is about one, and what is wrong with it.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// How good it is altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing, or nothing but good-to-know findings.
    Ok,
    /// Works, and will hurt some client or some day.
    Warning,
    /// Some client fails now, or something is not served.
    Error,
}

/// Puts together what the compiler found.
pub fn report(input: &Input<'_>) -> Report {
    let told: Vec<&Diagnostic> =
        input.diagnostics.iter().filter(|diagnostic| is_told(diagnostic, input.ignored)).collect();
    let judge = Judge::new(input, &told);
    let mut by_host: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
    let mut by_object: BTreeMap<ObjectKey, Vec<&Diagnostic>> = BTreeMap::new();
    for diagnostic in &told {
        by_object.entry(diagnostic.subject.clone()).or_default().push(diagnostic);
        for host in &diagnostic.hosts {
            by_host.entry(host.as_str()).or_default().push(diagnostic);
        }
    }
    let mut virtual_hosts: Vec<&Arc<VirtualHost>> = input.snapshot.hosts.values().collect();
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let of_routes = virtual_hosts.iter().flat_map(|host| host.routes.iter()).map(|route| ingress_of(route));
    for key in of_routes.chain(input.ingresses.iter().cloned()) {
        by_object.entry(key).or_default();
    }
    let places = judge.places();
    let mut objects: Vec<ObjectReport> = Vec::with_capacity(by_object.len());
    let mut other_classes: Vec<String> = Vec::new();
    for (key, diagnostics) in by_object {
        let traffic = (key.kind == Kind::Ingress).then(|| judge.ingress(&key, &places));
        other_classes.extend(judge.other_class(&key));
        objects.push(ObjectReport {
            subject: key.to_string(),
            verdict: verdict(&diagnostics),
            findings: findings(&diagnostics),
            traffic,
            conditions: Vec::new(),
        });
    }
    let mut hosts: Vec<HostReport> = Vec::with_capacity(virtual_hosts.len());
    for host in virtual_hosts {
        let diagnostics = by_host.get(host.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let (mut findings, mut worst) = (findings(diagnostics), verdict(diagnostics));
        let standing = judge.host(host);
        let added = traffic::finding(host, &standing, clients::subject(host), &findings);
        if let Some(finding) = added.filter(|finding| !input.ignored.iter().any(|code| code == finding.code)) {
            worst = Verdict::Error;
            findings.insert(0, finding.clone());
            if let Some(object) = objects.iter_mut().find(|object| object.subject == finding.subject) {
                object.verdict = Verdict::Error;
                object.findings.insert(0, finding);
            }
        }
        hosts.push(HostReport {
            tree: tree(host, diagnostics),
            host: host.name.to_string(),
            verdict: worst,
            traffic: standing.traffic,
            closed_paths: standing.closed,
            endpoints_assumed: standing.endpoints_assumed,
            serving: host.serving,
            certificates: traffic::certificates(host, input.at.as_secs()),
            policy: traffic::policy(host),
            findings,
            clients: None,
            shadow: None,
            words: standing.words,
        });
    }
    Report {
        verdict: objects.iter().map(|object| object.verdict).max().unwrap_or(Verdict::Ok),
        at: rfc3339(input.at),
        summary: summary::summary(&hosts, &objects, other_classes.into_iter(), &told),
        ignored: input.ignored.to_vec(),
        hosts,
        objects,
    }
}

/// Whether a finding is one of those that are to be reported.
fn is_told(diagnostic: &Diagnostic, ignored: &[String]) -> bool {
    ignored.is_empty() || !ignored.iter().any(|code| code == diagnostic.problem.code())
}

impl Report {
    /// Adds each TlsPolicy, with the conditions of its status.
    pub fn add_policies(&mut self, policies: &Trie<ObjectKey, Arc<PolicyStatus>>) {
        for (key, status) in policies.iter().collect::<BTreeMap<_, _>>() {
            let (subject, conditions) = (key.to_string(), status.conditions().to_vec());
            match self.objects.iter_mut().find(|object| object.subject == subject) {
                Some(object) => object.conditions = conditions,
                None => {
                    let (verdict, findings, traffic) = (Verdict::Ok, Vec::new(), None);
                    self.objects.push(ObjectReport { subject, verdict, findings, traffic, conditions });
                }
            }
        }
    }
}

/// The last line: `error: 2 hosts, 1 error, 0 warnings at …`.
fn write_total(out: &mut String, verdict: &str, what: &[(usize, &str)], errors: usize, warnings: usize, at: &str) {
    let counted = |(number, word): &(usize, &str)| format!("{number} {word}{}", if *number == 1 { "" } else { "s" });
    let counts: Vec<String> = what.iter().chain(&[(errors, "error"), (warnings, "warning")]).map(counted).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{verdict}: {} at {at}", counts.join(", "));
}

impl Verdict {
    /// What the worst severity, if there is any, amounts to.
    pub fn of(worst: Option<Severity>) -> Self {
        match worst {
            None | Some(Severity::Info) => Verdict::Ok,
            Some(Severity::Warning) => Verdict::Warning,
            Some(Severity::Error) => Verdict::Error,
        }
    }

    /// The word used in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Verdict::Error => "error",
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
        }
    }

    fn mark(self) -> char {
        match self {
            Verdict::Error => '✗',
            Verdict::Ok => '✓',
            Verdict::Warning => '!',
        }
    }
}

fn verdict(diagnostics: &[&Diagnostic]) -> Verdict {
    Verdict::of(diagnostics.iter().map(|diagnostic| diagnostic.severity()).max())
}

/// The chain that a host is served with, if something is wrong with it.
fn tree(host: &VirtualHost, diagnostics: &[&Diagnostic]) -> String {
    let HostTls::Terminate(tls) = &host.tls else { return String::new() };
    // A Secret that is not served has no place in the tree of the one that is.
    let is_served = |subject: &ObjectKey| {
        let replaced = |effect| matches!(effect, Effect::Default | Effect::HostRefused | Effect::LastGood);
        !diagnostics.iter().any(|diagnostic| diagnostic.subject == *subject && replaced(diagnostic.effect))
    };
    let mut chain: Vec<&ChainFinding> = Vec::new();
    for diagnostic in diagnostics {
        if let Problem::Chain(finding) = &diagnostic.problem
            && is_served(&diagnostic.subject)
        {
            chain.push(finding);
        }
    }
    if chain.is_empty() || tls.summary.outline.path.is_empty() {
        return String::new();
    }
    // The findings stand above in full; here are their places.
    let notes = chain.iter().map(|finding| Note {
        place: finding.place(),
        severity: finding.severity().code(),
        code: finding.code(),
        message: "",
        remedy: "",
    });
    tls.summary.outline.tree(&notes.collect::<Vec<_>>(), "    │ ")
}

fn findings(diagnostics: &[&Diagnostic]) -> Vec<Finding> {
    let mut sorted = diagnostics.to_vec();
    // Stable: within one severity the compiler's order stays.
    sorted.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity()));
    let finding = |diagnostic: &Diagnostic| Finding {
        code: diagnostic.problem.code(),
        severity: diagnostic.severity().code(),
        effect: diagnostic.effect.code(),
        subject: diagnostic.subject.to_string(),
        message: match &*diagnostic.field {
            "" => sentence(&diagnostic.problem),
            field => format!("{field}: {}", sentence(&diagnostic.problem)),
        },
        remedy: diagnostic.problem.remedy(),
    };
    sorted.into_iter().map(finding).collect()
}

fn rfc3339(at: UnixTime) -> String {
    let second = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;
    use crate::snapshot::{
        Backend, BackendKey, BackendState, HostName, NormalPath, PathMatch, PortKey, Route, RouteTable, Target,
    };
    use crate::tls::{ServerTls, TlsSummary};

    fn at() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_795_000_000))
    }

    fn tls() -> Arc<ServerTls> {
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let config = Arc::new(config);
        let summary = TlsSummary {
            fingerprint: "00".into(),
            names: Vec::new(),
            not_before: at(),
            not_after: at(),
            key: "ecdsa-p256".into(),
            chain_length: 1,
            outline: Arc::default(),
        };
        Arc::new(ServerTls::fixed(config, summary))
    }

    fn name(text: &str) -> HostName {
        if text == "*" { HostName::catch_all() } else { text.parse().unwrap() }
    }

    fn snapshot(
        default_tls: Option<Arc<ServerTls>>,
        hosts: impl IntoIterator<Item = (&'static str, HostTls)>,
    ) -> Snapshot {
        let host = |(host, tls): (&str, HostTls)| {
            let mut routes = RouteTable::default();
            let route = Route {
                path: NormalPath::parse("/").unwrap(),
                matches: PathMatch::Prefix,
                ingress: ("web".into(), "shop".into()),
                target: Target::Backend(backend()),
                options: Arc::default(),
            };
            routes.insert(route.into()).unwrap();
            (name(host), Arc::new(VirtualHost::new(name(host), tls, routes)))
        };
        let (key, state) = (backend(), BackendState::Ready);
        let ready = Arc::new(Backend { key: key.clone(), state, endpoints: Arc::default() });
        let backends = [(key, ready)].into_iter().collect();
        Snapshot { hosts: hosts.into_iter().map(host).collect(), backends, default_tls, ..Snapshot::default() }
    }

    fn backend() -> BackendKey {
        BackendKey { namespace: "web".into(), service: "shop".into(), port: PortKey::Number(80) }
    }

    fn report(snapshot: &Snapshot, diagnostics: &[Diagnostic], at: UnixTime) -> Report {
        super::report(&Input::new(snapshot, diagnostics, at))
    }

    fn diagnostic(
        subject: (Kind, &str, &str),
        field: &str,
        problem: Problem,
        effect: Effect,
        hosts: &[&str],
    ) -> Diagnostic {
        Diagnostic {
            subject: ObjectKey::new(subject.0, subject.1, subject.2),
            field: field.into(),
            problem,
            effect,
            hosts: hosts.iter().map(|host| name(host)).collect(),
        }
    }

    fn key_mismatch(effect: Effect, hosts: &[&str]) -> Diagnostic {
        let secret = (Kind::Secret, "default", "shop");
        diagnostic(secret, "tls.key", Problem::Chain(ChainFinding::NoKey { instead: None }), effect, hosts)
    }

    fn unknown_field() -> Diagnostic {
        diagnostic((Kind::File, "", "a.yaml"), "", Problem::UnknownField { name: "x".into() }, Effect::None, &[])
    }

    fn unknown_kind() -> Diagnostic {
        diagnostic((Kind::File, "", "b.yaml"), "", Problem::UnknownKind { kind: "v1 Pod".into() }, Effect::None, &[])
    }

    #[test]
    fn the_json_form_has_exactly_the_promised_fields() {
        let diagnostics = [key_mismatch(Effect::HostRefused, &["a.example"]), unknown_kind()];
        let report = report(&snapshot(None, [("a.example", HostTls::Refuse)]), &diagnostics, at());
        let finding = serde_json::json!({
            "code": "no-key", "severity": "error", "effect": "host-refused", "subject": "Secret default/shop",
            "message": format!("tls.key: {}.", ChainFinding::NoKey { instead: None }),
            "remedy": ChainFinding::NoKey { instead: None }.remedy(),
        });
        let note = serde_json::json!({
            "code": "unknown-kind", "severity": "info", "effect": "none", "subject": "File b.yaml",
            "message": sentence(unknown_kind().problem), "remedy": unknown_kind().problem.remedy(),
        });
        let expected = serde_json::json!({
            "verdict": "error",
            "at": "2026-11-18T11:06:40Z",
            "hosts": [{
                "host": "a.example", "verdict": "error", "traffic": "refuses_tls", "serving": "refused",
                "findings": [finding],
            }],
            "objects": [
                {"subject": "File b.yaml", "verdict": "ok", "findings": [note]},
                {"subject": "Ingress web/shop", "verdict": "ok", "findings": [], "traffic": "refuses_tls"},
                {"subject": "Secret default/shop", "verdict": "error", "findings": [finding]},
            ],
            "summary": {
                "hosts": {"refuses_tls": 1},
                "ingresses": {"refuses_tls": 1},
                "other_classes": {},
                "findings": [
                    {"code": "no-key", "severity": "error", "count": 1, "objects": 1, "hosts": 1},
                    {"code": "unknown-kind", "severity": "info", "count": 1, "objects": 1, "hosts": 0},
                ],
                "annotations": [],
            },
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }

    #[test]
    fn serving_is_what_the_host_says_whatever_was_found() {
        let all = [
            ("*", HostTls::Terminate(tls()), Serving::Default),
            ("*.example", HostTls::Terminate(tls()), Serving::Current),
            ("last.example", HostTls::Terminate(tls()), Serving::LastGood),
            ("plain.example", HostTls::Absent, Serving::None),
            ("refused.example", HostTls::Refuse, Serving::Refused),
        ];
        let mut snapshot = snapshot(None, all.iter().map(|(host, tls, _)| (*host, tls.clone())));
        for (host, _, serving) in &all {
            let mut host = snapshot.hosts.remove(&name(host)).unwrap();
            Arc::get_mut(&mut host).unwrap().serving = *serving;
            snapshot.hosts.insert(host.name.clone(), host);
        }
        let report = report(&snapshot, &[key_mismatch(Effect::LastGood, &["*.example"])], at());
        let rows: Vec<_> = report.hosts.iter().map(|host| (host.host.as_str(), host.serving)).collect();
        assert_eq!(rows, all.iter().map(|(host, _, serving)| (*host, *serving)).collect::<Vec<_>>());
        assert_eq!(serde_json::to_value(Serving::LastGood).unwrap(), "last_good");
    }

    #[test]
    fn the_verdict_is_the_worst_finding_and_information_is_no_fault() {
        let verdict = |diagnostics: &[Diagnostic]| report(&Snapshot::default(), diagnostics, at()).verdict;
        assert_eq!(verdict(&[]), Verdict::Ok);
        assert_eq!(verdict(&[unknown_kind()]), Verdict::Ok);
        assert_eq!(verdict(&[unknown_kind(), unknown_field()]), Verdict::Warning);
        assert_eq!(verdict(&[unknown_field(), key_mismatch(Effect::None, &[]), unknown_kind()]), Verdict::Error);
    }

    #[test]
    fn the_worst_finding_of_a_host_comes_first() {
        let mut mild = unknown_field();
        mild.hosts = vec![name("a.example")];
        let diagnostics = [mild, key_mismatch(Effect::HostRefused, &["a.example"])];
        let report = report(&snapshot(None, [("a.example", HostTls::Refuse)]), &diagnostics, at());
        let codes: Vec<_> = report.hosts[0].findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["no-key", "unknown-field"]);
    }

    #[test]
    fn the_table_shows_hosts_then_what_touches_none_then_the_verdict() {
        let diagnostics = [key_mismatch(Effect::HostRefused, &["shop.example"]), unknown_field()];
        let hosts = [("shop.example", HostTls::Refuse), ("a.example", HostTls::Absent)];
        let table = report(&snapshot(None, hosts), &diagnostics, at()).table();
        let chain = ChainFinding::NoKey { instead: None };
        let expected = format!(
            "\
✓ a.example     works, over plain HTTP only
✗ shop.example  refuses TLS
    error no-key: Secret default/shop: tls.key: {chain}. (host-refused)
      remedy: {}

! File a.yaml
    warning unknown-field: File a.yaml: {}.
      remedy: {}

error: 2 hosts, 1 error, 1 warning at 2026-11-18T11:06:40Z
",
            chain.remedy(),
            unknown_field().problem,
            unknown_field().problem.remedy(),
        );
        assert_eq!(table, expected);
        let empty = report(&Snapshot::default(), &[], at()).table();
        assert_eq!(empty, "ok: 0 hosts, 0 errors, 0 warnings at 2026-11-18T11:06:40Z\n");
    }
}
