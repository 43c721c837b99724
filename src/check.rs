//! What `handfast check` says: a verdict per host and per object.
//!
//! `Snapshot + diagnostics + time ──report──▶ Report ──▶ table, or JSON`
//!
//! Pure. A report is a view of what the compiler found; nothing is judged here a second time. The JSON form is an
//! interface: scripts and pipelines read it, so fields are only ever added.

pub mod chain;
pub mod clients;
pub mod sarif;
pub mod shadow;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::UnixTime;
use serde::Serialize;

use self::clients::ClientReports;
use self::shadow::ShadowReport;
use crate::compile::{Diagnostic, Effect, Kind, ObjectKey, PolicyCondition, PolicyStatus, Problem, Severity};
use crate::snapshot::{HostTls, Serving, Snapshot, VirtualHost};
use crate::tls::about::sentence;
use crate::tls::chain::{Finding as ChainFinding, Note};
use crate::trie::Trie;

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
}

/// One virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Its name, or `*`.
    pub host: String,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// What its handshakes get.
    pub serving: Serving,
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
pub fn report(snapshot: &Snapshot, diagnostics: &[Diagnostic], at: UnixTime) -> Report {
    let mut by_host: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
    let mut by_object: BTreeMap<ObjectKey, Vec<&Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        by_object.entry(diagnostic.subject.clone()).or_default().push(diagnostic);
        for host in &diagnostic.hosts {
            by_host.entry(host.as_str()).or_default().push(diagnostic);
        }
    }
    let mut hosts: Vec<&Arc<VirtualHost>> = snapshot.hosts.values().collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    for (namespace, name) in hosts.iter().flat_map(|host| host.routes.routes()).map(|route| &route.ingress) {
        by_object
            .entry(ObjectKey { kind: Kind::Ingress, namespace: namespace.clone(), name: name.clone() })
            .or_default();
    }
    let hosts = hosts.into_iter().map(|host| {
        let diagnostics = by_host.get(host.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        HostReport {
            tree: tree(host, diagnostics),
            host: host.name.to_string(),
            verdict: verdict(diagnostics),
            serving: host.serving,
            findings: findings(diagnostics),
            clients: None,
            shadow: None,
        }
    });
    let objects = by_object.into_iter().map(|(subject, diagnostics)| ObjectReport {
        subject: subject.to_string(),
        verdict: verdict(&diagnostics),
        findings: findings(&diagnostics),
        conditions: Vec::new(),
    });
    Report {
        verdict: verdict(&diagnostics.iter().collect::<Vec<_>>()),
        at: rfc3339(at),
        hosts: hosts.collect(),
        objects: objects.collect(),
    }
}

impl Report {
    /// Adds each TlsPolicy, with the conditions of its status.
    pub fn add_policies(&mut self, policies: &Trie<ObjectKey, Arc<PolicyStatus>>) {
        for (key, status) in policies.iter().collect::<BTreeMap<_, _>>() {
            let (subject, conditions) = (key.to_string(), status.conditions().to_vec());
            match self.objects.iter_mut().find(|object| object.subject == subject) {
                Some(object) => object.conditions = conditions,
                None => {
                    let (verdict, findings) = (Verdict::Ok, Vec::new());
                    self.objects.push(ObjectReport { subject, verdict, findings, conditions });
                }
            }
        }
    }

    /// For people: each host with its findings, then what touches no host in particular, then the verdict.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let width = self.hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or_default();
        // Hosts that are served the same way are told together: ten thousand may share a wildcard's certificate.
        let mut judged: HashMap<*const (), &str> = HashMap::new();
        for host in &self.hosts {
            writeln!(out, "{} {:width$}  {}", host.verdict.mark(), host.host, words(host.serving))?;
            write_findings(out, &host.findings)?;
            out.push_str(&host.tree);
            let Some(clients) = &host.clients else { continue };
            let mut once = |identity, what: &str, text: &str| match judged.entry(identity) {
                Entry::Occupied(first) => writeln!(out, "    {what}: as for {}", first.get()),
                Entry::Vacant(place) => {
                    out.push_str(text);
                    place.insert(&host.host);
                    Ok(())
                }
            };
            once(clients.identity(), "clients", clients.text())?;
            if let Some(shadow) = &host.shadow {
                once(shadow.identity(), &format!("shadow policy {}", shadow.policy()), shadow.text())?;
            }
        }
        let told: HashSet<&Finding> = self.hosts.iter().flat_map(|host| &host.findings).collect();
        let mut heading = if self.hosts.is_empty() { "" } else { "\n" };
        for object in &self.objects {
            let findings: Vec<Finding> =
                object.findings.iter().filter(|finding| !told.contains(finding)).cloned().collect();
            if !findings.is_empty() {
                writeln!(out, "{heading}{} {}", object.verdict.mark(), object.subject)?;
                write_findings(out, &findings)?;
                heading = "";
            }
        }
        let all = || self.objects.iter().flat_map(|object| &object.findings);
        let count = |severity: Severity| all().filter(|finding| finding.severity == severity.code()).count();
        if !out.is_empty() {
            out.push('\n');
        }
        let hosts = [(self.hosts.len(), "host")];
        write_total(out, self.verdict.code(), &hosts, count(Severity::Error), count(Severity::Warning), &self.at);
        Ok(())
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

/// For the table.
fn words(serving: Serving) -> &'static str {
    match serving {
        Serving::Current => "serves its certificate",
        Serving::Default => "serves the default certificate",
        Serving::LastGood => "serves the last good version of its certificate",
        Serving::None => "plain HTTP only",
        Serving::Refused => "refuses TLS handshakes",
    }
}

fn write_findings(out: &mut String, findings: &[Finding]) -> std::fmt::Result {
    for finding in findings {
        let effect =
            if finding.effect == Effect::None.code() { String::new() } else { format!(" ({})", finding.effect) };
        writeln!(out, "    {} {}: {}: {}{effect}", finding.severity, finding.code, finding.subject, finding.message)?;
        writeln!(out, "      remedy: {}", finding.remedy)?;
    }
    Ok(())
}

fn verdict(diagnostics: &[&Diagnostic]) -> Verdict {
    Verdict::of(diagnostics.iter().map(|diagnostic| diagnostic.problem.severity()).max())
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
    sorted.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.problem.severity()));
    let finding = |diagnostic: &Diagnostic| Finding {
        code: diagnostic.problem.code(),
        severity: diagnostic.problem.severity().code(),
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
    use crate::snapshot::{HostName, NormalPath, PathMatch, Route, RouteTable, Target};
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
                target: Target::Dropped,
                options: Arc::default(),
            };
            routes.insert(route.into()).unwrap();
            (name(host), Arc::new(VirtualHost::new(name(host), tls, routes)))
        };
        Snapshot { hosts: hosts.into_iter().map(host).collect(), default_tls, ..Snapshot::default() }
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
        diagnostic(secret, "tls.key", Problem::Chain(ChainFinding::NoKey), effect, hosts)
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
            "message": format!("tls.key: {}.", ChainFinding::NoKey), "remedy": ChainFinding::NoKey.remedy(),
        });
        let note = serde_json::json!({
            "code": "unknown-kind", "severity": "info", "effect": "none", "subject": "File b.yaml",
            "message": sentence(unknown_kind().problem), "remedy": unknown_kind().problem.remedy(),
        });
        let expected = serde_json::json!({
            "verdict": "error",
            "at": "2026-11-18T11:06:40Z",
            "hosts": [{"host": "a.example", "verdict": "error", "serving": "refused", "findings": [finding]}],
            "objects": [
                {"subject": "File b.yaml", "verdict": "ok", "findings": [note]},
                {"subject": "Ingress web/shop", "verdict": "ok", "findings": []},
                {"subject": "Secret default/shop", "verdict": "error", "findings": [finding]},
            ],
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
        let chain = ChainFinding::NoKey;
        let expected = format!(
            "\
✓ a.example     plain HTTP only
✗ shop.example  refuses TLS handshakes
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
