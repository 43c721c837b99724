//! What `handfast check --clients` adds: which well-known clients connect to each host, with what, and why others do not.
//!
//! `Snapshot ──judge, once for each way of serving──▶ ClientReports ──▶ table, JSON, and a finding for each host that
//! locks clients out`
//!
//! Ten thousand hosts are served in a few ways: by a policy, by kinds of keys, and by chains that lead to the same roots.
//!
//! Of a host that tries a policy out, also whom that policy would lock out ([`shadow`](super::shadow)).
//!
//! Also the list of clients that `handfast clients` prints. A client that no host here could serve, whatever its policy
//! and certificates, is listed and is no finding: nobody can do anything about it at the host.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::shadow::ShadowReport;
use super::{Finding, Report, Verdict};
use crate::compile::{Effect, Kind, ObjectKey};
use crate::snapshot::{HostTls, ShadowPolicy, Snapshot, VirtualHost};
use crate::tls::about::About;
use crate::tls::chain::{Outline, OutlineEnd, Role};
use crate::tls::clients::{self, Client, Obstacle, clients, judge_all, version_words};
use crate::tls::negotiate::{Agreement, CredentialKind};
use crate::tls::policy::Policy;
use crate::tls::{ServerTls, Severity};

/// The text about codes that only this check and policies report, sorted by code.
pub(crate) static ABOUT: [&About; 3] = [&LOCKED_OUT, &LACKS_ROOT, &UNTRUSTED];

static LOCKED_OUT: About = About {
    code: "clients-locked-out",
    severity: Severity::Warning,
    meaning: "Well-known clients cannot connect to the host, because of its policy, its certificate's key, its chain or its root. Only `check --clients` reports it. For clients in requiredClients of a policy it is an error.",
    fault: "the author of the policy, or the owner of the certificate",
    remedy: "do as `handfast check --clients` says for each client; if nobody uses these clients, nothing",
};

static LACKS_ROOT: About = About {
    code: "lacks-root",
    severity: Severity::Warning,
    meaning: "The chain leads to a public root that is not in the client's trust store, and no cross-sign in the chain leads to one that is.",
    fault: "the owner of the certificate",
    remedy: "add a cross-sign of the root by an older one to tls.crt, if the CA has a valid one, or use a certificate of another CA",
};

static UNTRUSTED: About = About {
    code: "untrusted-chain",
    severity: Severity::Warning,
    meaning: "The chain does not lead to a root that clients trust: it ends at a private CA or a self-signed certificate.",
    fault: "the owner of the Secret",
    remedy: "name the private root in ca.crt or --trust-anchors if the clients have it; otherwise have the certificate issued by a public CA",
};

/// One client at one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientReport {
    /// Its id.
    pub client: &'static str,
    /// Its name, for people.
    pub name: &'static str,
    /// Whether it connects and trusts the chain.
    pub connects: bool,
    /// Protocol version, such as `1.3`.
    pub version: Option<&'static str>,
    /// Cipher suite, by its IANA name.
    pub suite: Option<&'static str>,
    /// Key exchange group, by its IANA name.
    pub group: Option<&'static str>,
    /// Type of the certificate's key, such as `ecdsa-p256`.
    pub certificate: Option<String>,
    /// What keeps it out.
    pub obstacle: Option<ObstacleReport>,
}

/// What keeps a client out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObstacleReport {
    /// A code that `handfast explain` knows.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// All clients at one host; the same for all hosts that are served the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReports(Arc<Judged>);

#[derive(Debug, PartialEq, Eq)]
struct Judged {
    reports: Vec<ClientReport>,
    /// For the table.
    text: String,
    /// Clients that are locked out though they could be served.
    locked_out: usize,
    /// The message and the remedy of the finding, without the host.
    message: String,
    remedy: String,
}

impl Serialize for ClientReports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.reports.serialize(serializer)
    }
}

impl ClientReports {
    /// Each client.
    pub fn reports(&self) -> &[ClientReport] {
        &self.0.reports
    }

    /// For the table.
    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// The same for results of one judgement.
    pub(super) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }
}

impl Report {
    /// Adds which well-known clients connect to each host, and a finding for each host that locks some out.
    pub fn add_clients(&mut self, snapshot: &Snapshot) {
        let mut judged: HashMap<Way, ClientReports> = HashMap::new();
        let mut tried_out: HashMap<(Way, Arc<ShadowPolicy>), ShadowReport> = HashMap::new();
        for report in &mut self.hosts {
            let name = if report.host == "*" { "" } else { &report.host };
            let Some(host) = snapshot.hosts.get(name) else { continue };
            let HostTls::Terminate(tls) = &host.tls else { continue };
            let default = snapshot.default_tls.as_deref();
            let reports = judged.entry(way(tls, default)).or_insert_with(|| judge(tls, default)).clone();
            report.shadow = host.shadow.as_ref().map(|shadow| {
                let tried = (way(tls, default), shadow.clone());
                tried_out.entry(tried).or_insert_with(|| ShadowReport::judge(shadow, tls, default)).clone()
            });
            let is_told = !self.ignored.iter().any(|code| code == LOCKED_OUT.code);
            if reports.0.locked_out > 0 && is_told {
                let subject = subject(host);
                let finding = finding(&report.host, &subject, &reports.0);
                add(&mut report.findings, &mut report.verdict, finding.clone());
                // Every Ingress that brought a route is there already.
                if let Some(object) = self.objects.iter_mut().find(|object| object.subject == subject) {
                    add(&mut object.findings, &mut object.verdict, finding);
                }
                self.verdict = self.verdict.max(Verdict::Warning);
            }
            report.clients = Some(reports);
        }
        self.summary.count_findings(&self.hosts, &self.objects);
    }
}

/// All that the judgement of a host depends on.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    policy: Policy,
    kinds: Vec<CredentialKind>,
    is_default: bool,
    chains: Vec<WayUp>,
}

/// All that the judgement of a chain depends on.
#[derive(PartialEq, Eq, Hash)]
struct WayUp {
    key: Box<str>,
    end: OutlineEnd,
    /// Only where the leaf is the end.
    leaf: Option<Box<str>>,
    cross_signs: Vec<(Box<str>, Box<str>)>,
}

fn way(tls: &ServerTls, default: Option<&ServerTls>) -> Way {
    let chain = |credential: usize| {
        let summary = tls.summary_of(credential);
        let Outline { path, end, beside, anchor_validity: _ } = &*summary.outline;
        let cross_signs = beside.iter().filter(|link| link.role == Role::CrossSign);
        WayUp {
            key: summary.key.clone(),
            end: end.clone(),
            leaf: path.first().filter(|_| *end == OutlineEnd::SelfSigned).map(|leaf| leaf.subject.clone()),
            cross_signs: cross_signs.map(|link| (link.subject.clone(), link.issuer.clone())).collect(),
        }
    };
    let kinds = tls.credentials().to_vec();
    let is_default = default.is_some_and(|default| std::ptr::eq(default, tls));
    Way { policy: tls.policy().clone(), is_default, chains: (0..kinds.len()).map(chain).collect(), kinds }
}

/// Behind what is at least as bad.
fn add(findings: &mut Vec<Finding>, verdict: &mut Verdict, finding: Finding) {
    let is_mild = |finding: &Finding| finding.severity == Severity::Info.code();
    let at = findings.iter().position(is_mild).unwrap_or(findings.len());
    findings.insert(at, finding);
    *verdict = (*verdict).max(Verdict::Warning);
}

fn finding(host: &str, subject: &str, judged: &Judged) -> Finding {
    Finding {
        code: LOCKED_OUT.code,
        severity: LOCKED_OUT.severity.code(),
        effect: Effect::None.code(),
        subject: subject.to_owned(),
        message: format!("{host}: {}", judged.message),
        remedy: judged.remedy.clone(),
    }
}

/// The first of the Ingresses that brought the host: its policy and its Secrets are chosen there.
pub(super) fn subject(host: &VirtualHost) -> String {
    let ingress = host.routes.routes().into_iter().map(|route| &route.ingress).min();
    match ingress {
        Some((namespace, name)) => ObjectKey::new(Kind::Ingress, namespace, name).to_string(),
        None => format!("Host {}", host.name),
    }
}

/// Clients with one outcome, by what is said of it, in the order in which it first came up.
pub(super) type Groups<'a> = Vec<(String, Vec<&'a Client>)>;

fn judge(tls: &ServerTls, without_name: Option<&ServerTls>) -> ClientReports {
    let results = judge_all(tls, without_name);
    let mut counted: Groups<'_> = Groups::new();
    let mut remedies: Vec<String> = Vec::new();
    let mut reports = Vec::with_capacity(results.len());
    for (client, result) in &results {
        let client: &Client = client;
        match result {
            Ok(agreement) => {
                let key = tls.summary_of(agreement.credential).key.to_string();
                reports.push(connects(client, agreement, key));
            }
            Err(obstacle) => {
                let (message, remedy) = (obstacle.message(client), obstacle.remedy(tls, client));
                if obstacle.can_be_removed(client) {
                    group_with(&mut counted, message.clone(), client);
                    if !remedies.contains(&remedy) {
                        remedies.push(remedy.clone());
                    }
                }
                reports.push(fails(client, obstacle, message, remedy));
            }
        }
    }
    let text = text(&reports, "    ");
    let count = |groups: &Groups<'_>| groups.iter().map(|(_, clients)| clients.len()).sum::<usize>();
    let why: Vec<String> =
        counted.iter().map(|(what, clients)| format!("{}: {what}", clients::names(clients))).collect();
    let number = count(&counted);
    ClientReports(Arc::new(Judged {
        reports,
        text,
        locked_out: number,
        message: format!("{number} of {} known clients cannot connect ({})", results.len(), why.join("; ")),
        remedy: remedies.join("; "),
    }))
}

/// What came of all clients, for people, each line indented by `indent`: those that connect by what they connect with,
/// then the others by what keeps them out.
pub fn text(reports: &[ClientReport], indent: &str) -> String {
    let (mut connecting, mut locked_out): (Groups<'_>, Groups<'_>) = Default::default();
    for report in reports {
        let Some(client) = clients::client(report.client) else { continue };
        match &report.obstacle {
            None => {
                let parts = [report.version, report.group, report.suite, report.certificate.as_deref()];
                let what: Vec<&str> = parts.into_iter().flatten().collect();
                let what = what.join(" ");
                let what = if what.starts_with("SSL") { what } else { format!("TLS {what}") };
                group_with(&mut connecting, what, client);
            }
            Some(ObstacleReport { message, remedy, .. }) => {
                group_with(&mut locked_out, format!("{message}\n{indent}    remedy: {remedy}"), client);
            }
        }
    }
    connecting.sort_by_key(|(_, clients)| std::cmp::Reverse(clients.len()));
    let count = connecting.iter().map(|(_, clients)| clients.len()).sum::<usize>();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}clients: {count} of {} known ones connect", reports.len());
    for (what, clients) in &connecting {
        let _ = writeln!(text, "{indent}  {what}: {} ({})", counted_clients(clients.len()), clients::names(clients));
    }
    for (what, clients) in &locked_out {
        let _ = writeln!(text, "{indent}  ✗ {}: {what}", clients::names(clients));
    }
    text
}

pub(super) fn group_with<'a>(groups: &mut Groups<'a>, what: String, client: &'a Client) {
    match groups.iter_mut().find(|(known, _)| *known == what) {
        Some((_, clients)) => clients.push(client),
        None => groups.push((what, vec![client])),
    }
}

fn counted_clients(number: usize) -> String {
    format!("{number} client{}", if number == 1 { "" } else { "s" })
}

pub(super) fn connects(client: &Client, agreement: &Agreement, key: String) -> ClientReport {
    ClientReport {
        client: client.id,
        name: client.name,
        connects: true,
        version: Some(agreement.version.label()),
        suite: Some(agreement.suite.iana()),
        group: Some(agreement.group.name()),
        certificate: Some(key),
        obstacle: None,
    }
}

pub(super) fn fails(client: &Client, obstacle: &Obstacle, message: String, remedy: String) -> ClientReport {
    let obstacle = Some(ObstacleReport { code: obstacle.code(), message, remedy });
    let (client, name) = (client.id, client.name);
    ClientReport { client, name, connects: false, version: None, suite: None, group: None, certificate: None, obstacle }
}

/// One client, as `handfast clients --output json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientEntry {
    /// Its id, for `requiredClients` of a policy.
    pub client: &'static str,
    /// Its name, for people.
    pub name: &'static str,
    /// The oldest version that it offers.
    pub oldest: &'static str,
    /// The newest version that it offers.
    pub newest: &'static str,
    /// Whether it gets a missing intermediate certificate by itself.
    pub fetches_intermediates: bool,
    /// Public roots that it is known to lack, by common name.
    pub lacks_roots: Vec<&'static str>,
}

/// All clients.
pub fn entries() -> Vec<ClientEntry> {
    let entry = |client: &Client| ClientEntry {
        client: client.id,
        name: client.name,
        oldest: version_words(client.oldest),
        newest: version_words(client.newest),
        fetches_intermediates: client.fetches_intermediates,
        lacks_roots: client.lacks.clone(),
    };
    clients().iter().map(entry).collect()
}

/// All clients as a table for people.
pub fn list() -> String {
    let entries = entries();
    let width = |text: fn(&ClientEntry) -> &str| {
        entries.iter().map(|entry| text(entry).chars().count()).max().unwrap_or_default()
    };
    let (ids, names) = (width(|entry| entry.client), width(|entry| entry.name));
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:ids$}  {:names$}  versions", "id", "name");
    for ClientEntry { client, name, oldest, newest, fetches_intermediates, lacks_roots } in &entries {
        let mut facts: Vec<String> = Vec::new();
        if *fetches_intermediates {
            facts.push("gets missing intermediates".to_owned());
        }
        if !lacks_roots.is_empty() {
            facts.push(format!("lacks {}", lacks_roots.join(" and ")));
        }
        let facts = if facts.is_empty() { String::new() } else { format!("; {}", facts.join("; ")) };
        let _ = writeln!(out, "{client:ids$}  {name:names$}  {oldest} to {newest}{facts}");
    }
    out
}
