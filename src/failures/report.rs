//! What the admin pages and `handfast failures` say: the forms of their JSON, and what they are made from.
//!
//! `Failures, Metrics, Snapshot ──▶ FailuresReport, HostsReport, ShadowReport ──▶ JSON ──▶ the terminal view`
//!
//! The forms are part of the public interface: fields are added, never renamed. Counts are those of `/metrics`, so the
//! two cannot disagree.

use std::collections::BTreeMap;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Example, Failures};
use crate::metrics::Metrics;
use crate::probe::target::Target;
use crate::snapshot::{Closed, HostName, HostTls, Paths, Route, ShadowPolicy, Snapshot, VirtualHost};
use crate::tls::chain::Name;
use crate::tls::clients::{Client, clients, version_words};
use crate::tls::codes::{group_name, scheme_name, suite_name};
use crate::tls::offer::{NamedServer, Offer};
use crate::tls::reason::Reason;
use crate::tls::{TlsSummary, alert, rfc3339};

/// `GET /api/failures`: examples of failed handshakes, newest first, and how many there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailuresReport {
    /// The newest failure of each client that is kept, by host and reason.
    pub failures: Vec<Entry>,
    /// Examples that were left out, because there are more than asked for.
    pub omitted: u64,
    /// Counts since the start, as in `handfast_tls_handshake_failures_total`; of one host, null with
    /// `--metrics-per-host=false`.
    pub totals: Option<Vec<Total>>,
}

/// Failures of one client in one way; all but counts and times are about the newest one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// When the newest one was, RFC 3339 in UTC.
    pub time: String,
    /// When the first one was.
    pub first: String,
    /// How many there were.
    pub count: u64,
    /// The client's address, or the network that it is masked to.
    pub client: String,
    /// The server name that it asked for. What can be none is escaped, and cut if it is longer than any name.
    pub sni: Option<String>,
    /// The virtual host; empty if there is none.
    pub host: String,
    /// Why, by a code that `handfast explain` knows.
    pub reason: String,
    /// Who has to act: `certificate`, `client`, `network`, `policy` or `server`.
    pub blame: String,
    /// The alert that we sent, as RFC 8446 section 6 names it.
    pub alert_sent: Option<String>,
    /// The alert that the client sent.
    pub alert_received: Option<String>,
    /// The client's JA4 fingerprint.
    pub ja4: Option<String>,
    /// The well-known client that offers just the same; up to three, with `or` between them, where they cannot be told
    /// apart.
    pub looks_like: Option<String>,
    /// What the client offered, if its hello was complete.
    pub offered: Option<Offered>,
    /// The certificate that was served.
    pub served: Option<ServedEntry>,
    /// What else is known, in one statement.
    pub detail: Option<String>,
    /// The configured host that is meant, where the server name is malformed or unknown: one that it holds, or the one that
    /// is written most like it.
    pub nearest_host: Option<String>,
    /// What to do.
    pub remedy: String,
}

/// A ClientHello in the names of the IANA registries; codes without a name are hexadecimal. Pairs of TLS 1.2 that are no
/// signature scheme are written `hash/signature`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offered {
    /// Protocol versions.
    pub versions: Vec<String>,
    /// Cipher suites.
    pub suites: Vec<String>,
    /// Key exchange groups.
    pub groups: Vec<String>,
    /// Signature schemes.
    pub schemes: Vec<String>,
    /// Application protocols.
    pub alpn: Vec<String>,
}

/// A certificate that was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServedEntry {
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: String,
    /// Type and size of its key.
    pub key: String,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Total {
    /// The virtual host; empty if there is none, or with `--metrics-per-host=false`.
    pub host: String,
    /// Why.
    pub reason: String,
    /// Who has to act.
    pub blame: String,
    /// How many since the start.
    pub count: u64,
}

/// `GET /api/hosts`: each virtual host with what it is served with and what its clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostsReport {
    /// By name.
    pub hosts: Vec<HostEntry>,
    /// Hosts that were left out, because there are more than asked for: `after=NAME` shows those behind a name.
    pub omitted: u64,
}

/// One virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostEntry {
    /// Its name; `*` for rules without a host.
    pub host: String,
    /// What its requests get: `works`, `works_with_losses`, `answers_503_partly` (some paths), `answers_503` (every path),
    /// `refuses_tls` or `not_served`.
    pub traffic: String,
    /// Paths that answer 503: the first hundred.
    pub closed_paths: Vec<ClosedPath>,
    /// Which certificate its handshakes get: `current`, `default`, `last_good`, `none` or `refused`.
    pub serving: String,
    /// The certificates that are served, preferred ones first.
    pub certificates: Vec<CertificateEntry>,
    /// Versions, suites and groups that are served.
    pub policy: Option<String>,
    /// The TlsPolicy that is asked for, as `namespace/name`; null is Handfast's own.
    pub policy_name: Option<String>,
    /// Whether another policy is in force: the one from before, or a general one.
    pub policy_replaced: bool,
    /// The shadow policy, as `namespace/name`.
    pub shadow_policy: Option<String>,
    /// What its clients did since the start; null with `--metrics-per-host=false`.
    pub counts: Option<HostCounts>,
}

/// A path that answers 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClosedPath {
    /// The path; `(Exact)` stands behind one that is compared as a whole.
    pub path: String,
    /// Why: `closed` (by configuration), `no_endpoints` or `no_service`.
    pub cause: String,
}

/// Counts of one virtual host since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostCounts {
    /// Completed handshakes.
    pub handshakes: u64,
    /// Of these, those whose client left without a byte.
    pub established_without_request: u64,
    /// Failed ones, by reason.
    pub failures: Vec<Total>,
    /// Complete hellos.
    pub hellos: u64,
    /// Of these, how many had each capability.
    pub capabilities: BTreeMap<String, u64>,
}

/// A certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateEntry {
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: String,
    /// Type and size of its key.
    pub key: String,
    /// The name of its issuer.
    pub issuer: String,
    /// End of its validity, RFC 3339.
    pub not_after: String,
    /// Names that it is for.
    pub names: Vec<String>,
}

/// `GET /api/shadow`: what the shadow policies would have done since they were named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowReport {
    /// Hosts that have one, by name.
    pub hosts: Vec<ShadowEntry>,
    /// Examples that were left out, because there are more than asked for.
    pub omitted: u64,
}

/// One host with a shadow policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowEntry {
    /// The host.
    pub host: String,
    /// The policy, as `namespace/name`.
    pub policy: String,
    /// What of the policy cannot be judged by hellos, in a sentence.
    pub not_judged: Option<String>,
    /// Hellos by what would have become of them, as in `handfast_tls_shadow_handshakes_total`; null with
    /// `--metrics-per-host=false`.
    pub outcomes: Option<BTreeMap<String, u64>>,
    /// Clients that connect now and would not, newest first.
    pub lost: Vec<Entry>,
}

/// Makes `GET /api/failures`.
pub fn failures(
    failures: &Failures,
    metrics: &Metrics,
    snapshot: &Snapshot,
    host: Option<&HostName>,
    limit: usize,
) -> FailuresReport {
    let examples = failures.examples(host);
    let entries: Vec<Entry> = examples.iter().take(limit).map(|example| entry(example, snapshot)).collect();
    let totals = match host {
        None => Some(totals(metrics)),
        Some(_) if !metrics.per_host() => None,
        Some(host) => {
            let mut totals = totals(metrics);
            totals.retain(|total| total.host == host.label());
            Some(totals)
        }
    };
    FailuresReport { omitted: (examples.len() - entries.len()) as u64, failures: entries, totals }
}

/// Makes `GET /api/hosts`: one host, or those behind a name.
pub fn hosts(
    metrics: &Metrics,
    snapshot: &Snapshot,
    host: Option<&HostName>,
    after: Option<&HostName>,
    limit: usize,
) -> HostsReport {
    let mut names: Vec<&VirtualHost> = snapshot.hosts.values().map(|host| &**host).collect();
    names.retain(|one| host.is_none_or(|host| one.name == *host) && after.is_none_or(|after| one.name > *after));
    names.sort_by(|one, other| one.name.cmp(&other.name));
    let omitted = names.len().saturating_sub(limit) as u64;
    names.truncate(limit);
    let mut counts = metrics.per_host().then(|| Counts::of(metrics));
    let hosts = names.into_iter().map(|host| {
        let tls = match &host.tls {
            HostTls::Terminate(tls) => Some(tls),
            HostTls::Absent | HostTls::Refuse => None,
        };
        HostEntry {
            host: host.name.label().to_owned(),
            traffic: snapshot.traffic(host).code().to_owned(),
            closed_paths: closed_paths(host, snapshot),
            serving: host.serving.code().to_owned(),
            certificates: tls
                .map(|tls| std::iter::once(&tls.summary).chain(&tls.additional).map(certificate).collect())
                .unwrap_or_default(),
            policy: tls.map(|tls| tls.policy().to_string()),
            policy_name: host.policy.name.as_deref().map(str::to_owned),
            policy_replaced: host.policy.is_replaced,
            shadow_policy: host.shadow.as_ref().map(|shadow| shadow.name.to_string()),
            counts: counts.as_mut().map(|counts| counts.take(host.name.label())),
        }
    });
    HostsReport { hosts: hosts.collect(), omitted }
}

fn closed_paths(host: &VirtualHost, snapshot: &Snapshot) -> Vec<ClosedPath> {
    const SHOWN: usize = 100;
    let paths = Paths::of(host.routes.iter(), snapshot, true).closed.into_iter();
    let entry = |(route, cause): (&Route, Closed)| ClosedPath { path: route.label(), cause: cause.code().to_owned() };
    paths.take(SHOWN).map(entry).collect()
}

/// Makes `GET /api/shadow`.
pub fn shadow(
    lost: &Failures,
    metrics: &Metrics,
    snapshot: &Snapshot,
    host: Option<&HostName>,
    limit: usize,
) -> ShadowReport {
    let outcomes = metrics
        .per_host()
        .then(|| by_host_and_word(Metrics::counts(&metrics.tls_shadow_handshakes, &["host", "outcome"])));
    let mut hosts: BTreeMap<&str, ShadowEntry> = BTreeMap::new();
    for one in snapshot.hosts.values().filter(|one| host.is_none_or(|host| one.name == *host)) {
        let Some(shadow) = &one.shadow else { continue };
        let name = one.name.label();
        let entry = ShadowEntry {
            host: name.to_owned(),
            policy: shadow.name.to_string(),
            not_judged: not_judged(one, shadow),
            outcomes: outcomes.as_ref().map(|outcomes| outcomes.get(name).cloned().unwrap_or_default()),
            lost: Vec::new(),
        };
        hosts.insert(name, entry);
    }
    let examples = lost.examples(host);
    let shown = examples.len().min(limit);
    for example in &examples[..shown] {
        let place = example.last.host.as_ref().and_then(|host| hosts.get_mut(host.label()));
        if let Some(host) = place {
            host.lost.push(entry(example, snapshot));
        }
    }
    ShadowReport { hosts: hosts.into_values().collect(), omitted: (examples.len() - shown) as u64 }
}

/// What hellos do not say.
fn not_judged(host: &VirtualHost, shadow: &ShadowPolicy) -> Option<String> {
    let HostTls::Terminate(tls) = &host.tls else { return None };
    let demanded = &shadow.policy.settings().client_auth;
    (demanded.is_some() && *demanded != tls.policy().settings().client_auth).then(|| {
        "the policy asks clients for certificates, and a ClientHello does not say whether the client has one. Clients counted \
         as kept may be refused then"
            .to_owned()
    })
}

/// All counts by host, collected once.
struct Counts {
    handshakes: BTreeMap<String, u64>,
    unused: BTreeMap<String, u64>,
    hellos: BTreeMap<String, u64>,
    capabilities: BTreeMap<String, BTreeMap<String, u64>>,
    failures: BTreeMap<String, Vec<Total>>,
}

impl Counts {
    fn of(metrics: &Metrics) -> Self {
        let mut failures: BTreeMap<String, Vec<Total>> = BTreeMap::new();
        for total in totals(metrics) {
            failures.entry(total.host.clone()).or_default().push(total);
        }
        Self {
            handshakes: by_host(Metrics::counts(&metrics.tls_handshakes, &["host"])),
            unused: by_host(Metrics::counts(&metrics.tls_established_without_request, &["host"])),
            hellos: by_host(Metrics::counts(&metrics.tls_client_hellos, &["host"])),
            capabilities: by_host_and_word(Metrics::counts(&metrics.tls_client_capabilities, &["host", "capability"])),
            failures,
        }
    }

    fn take(&mut self, host: &str) -> HostCounts {
        HostCounts {
            handshakes: self.handshakes.remove(host).unwrap_or_default(),
            established_without_request: self.unused.remove(host).unwrap_or_default(),
            failures: self.failures.remove(host).unwrap_or_default(),
            hellos: self.hellos.remove(host).unwrap_or_default(),
            capabilities: self.capabilities.remove(host).unwrap_or_default(),
        }
    }
}

fn entry(example: &Example, snapshot: &Snapshot) -> Entry {
    let Example { last, first, count } = example;
    let name = |alert| alert::name(alert).to_owned();
    let nearest = match last.reason {
        Reason::UnknownHost => last.server_name.as_deref().and_then(|name| snapshot.nearest_host(name).cloned()),
        Reason::MalformedServerName => last.server_name.as_deref().and_then(|text| meant(text, snapshot)),
        _ => None,
    };
    Entry {
        time: time(last.time),
        first: time(*first),
        count: *count,
        client: last.client.to_string(),
        sni: last.server_name.as_deref().map(str::to_owned),
        host: last.host.as_ref().map_or("", |host| host.label()).to_owned(),
        reason: last.reason.label().to_owned(),
        blame: last.blame.label().to_owned(),
        alert_sent: last.alert_sent.map(name),
        alert_received: last.alert_received.map(name),
        ja4: last.offer.as_ref().map(|offer| offer.ja4()),
        looks_like: last.offer.as_deref().and_then(looks_like),
        offered: last.offer.as_deref().map(offered),
        served: last
            .served
            .as_ref()
            .map(|served| ServedEntry { fingerprint: served.fingerprint.to_string(), key: served.key.to_string() }),
        detail: (!last.detail.is_empty()).then(|| last.detail.to_string()),
        nearest_host: nearest.map(|host| host.label().to_owned()),
        remedy: last.remedy.to_string(),
    }
}

/// The host that is meant by a text which is no server name: a URL, a host with a port, one in letters of its language.
fn meant(text: &str, snapshot: &Snapshot) -> Option<HostName> {
    let text = text.trim_end_matches('.').trim_matches(['[', ']']);
    match text.parse::<Target>().map(|target| target.host) {
        Ok(Name::Host(name)) if snapshot.named_host(name.as_str()).is_some() => Some(name),
        Ok(Name::Host(name)) => snapshot.nearest_host(name.as_str()).cloned(),
        Ok(Name::Address(_)) => None,
        Err(_) => snapshot.nearest_host(&text.to_lowercase()).cloned(),
    }
}

/// The well-known clients that offer all the same; or else, because settings change the rest, those that offer the same
/// suites, groups and schemes in the same order.
fn looks_like(offer: &Offer) -> Option<String> {
    const NAMED: usize = 3;
    let library = |other: &Offer| {
        (&other.suites, &other.groups, &other.schemes) == (&offer.suites, &offer.groups, &offer.schemes)
    };
    let names_server = |offer: &Offer| offer.server_name != NamedServer::Absent;
    let settings = |other: &Offer| {
        (&other.versions, other.legacy_version, &other.alpn, names_server(other))
            == (&offer.versions, offer.legacy_version, &offer.alpn, names_server(offer))
    };
    let alike: Vec<&Client> = clients().iter().filter(|client| library(&client.offer)).collect();
    let same: Vec<&Client> = alike.iter().copied().filter(|client| settings(&client.offer)).collect();
    let found = if same.is_empty() { alike } else { same };
    let mut names: Vec<&str> = found.iter().take(NAMED).map(|client| client.name).collect();
    if found.len() > NAMED {
        names.push("others");
    }
    (!names.is_empty()).then(|| names.join(" or "))
}

fn offered(offer: &Offer) -> Offered {
    let hex = |code: u16| format!("0x{code:04x}");
    let versions: Vec<u16> = offer.versions.clone().unwrap_or_else(|| vec![offer.legacy_version]);
    let version = |code: u16| match code {
        0x0300..=0x0304 => version_words(code).to_owned(),
        _ => hex(code),
    };
    let alpn = offer.alpn.iter().flatten().map(|id| String::from_utf8_lossy(id).into_owned());
    Offered {
        versions: versions.into_iter().map(version).collect(),
        suites: offer.suites.iter().copied().map(suite_name).collect(),
        groups: offer.groups.iter().flatten().copied().map(group_name).collect(),
        schemes: offer.schemes.iter().flatten().copied().map(scheme_name).collect(),
        alpn: alpn.collect(),
    }
}

fn certificate(summary: &TlsSummary) -> CertificateEntry {
    CertificateEntry {
        fingerprint: summary.fingerprint.to_string(),
        key: summary.key.to_string(),
        issuer: summary.issuer().to_owned(),
        not_after: rfc3339(summary.not_after),
        names: summary.names.iter().map(ToString::to_string).collect(),
    }
}

fn totals(metrics: &Metrics) -> Vec<Total> {
    let counts = Metrics::counts(&metrics.tls_handshake_failures, &["host", "reason", "blame"]);
    let mut totals: Vec<Total> = Vec::with_capacity(counts.len());
    for (labels, count) in counts {
        let [host, reason, blame]: [String; 3] = labels.try_into().unwrap_or_default();
        totals.push(Total { host, reason, blame, count });
    }
    totals.sort();
    totals
}

fn by_host(counts: Vec<(Vec<String>, u64)>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for (labels, count) in counts {
        *found.entry(labels.into_iter().next().unwrap_or_default()).or_default() += count;
    }
    found
}

fn by_host_and_word(counts: Vec<(Vec<String>, u64)>) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut found: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (labels, count) in counts {
        let [host, word]: [String; 2] = labels.try_into().unwrap_or_default();
        found.entry(host).or_default().insert(word, count);
    }
    found
}

/// RFC 3339 in UTC, to the millisecond.
fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::failures::tests::failure;
    use crate::snapshot::{HostTls, RouteTable};
    use crate::tls::clients::client;

    fn snapshot(names: &[&str]) -> Snapshot {
        let host = |name: &&str| {
            let name: HostName = name.parse().unwrap();
            (name.clone(), Arc::new(VirtualHost::new(name, HostTls::Absent, RouteTable::default())))
        };
        Snapshot { hosts: names.iter().map(host).collect(), ..Snapshot::default() }
    }

    #[test]
    fn an_entry_says_what_the_client_offered_and_whom_it_looks_like() {
        let store = Failures::new(1);
        let java = client("java-8u161").unwrap();
        let mut one = failure("192.0.2.1", Some("shop.example"), Reason::NoSharedVersion, 3);
        one.offer = Some(Box::new(java.offer.clone()));
        store.record(0, one);
        let report = failures(&store, &Metrics::default(), &snapshot(&["shop.example"]), None, 10);
        let [entry] = &report.failures[..] else { panic!("one is kept") };
        assert_eq!(entry.looks_like.as_deref(), Some("Java 8u161"));
        assert_eq!((&*entry.time, entry.alert_sent.as_deref()), ("1970-01-01T00:00:03.000Z", Some("protocol_version")));
        let offered = entry.offered.as_ref().unwrap();
        assert_eq!(offered.versions, ["TLS 1.2"]);
        assert!(offered.suites.contains(&"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()));
        assert_eq!(offered.groups[..3], ["secp256r1", "secp384r1", "secp521r1"]);
        assert!(entry.ja4.as_ref().is_some_and(|ja4| ja4.starts_with("t12d5")));
        assert!(offered.suites.contains(&"TLS_EMPTY_RENEGOTIATION_INFO_SCSV".to_owned()));
        assert_eq!(offered.schemes[0], "ecdsa_secp521r1_sha512");
    }

    #[test]
    fn clients_of_one_library_are_told_apart_by_their_settings_or_not_at_all() {
        let offer = |id: &str| client(id).unwrap().offer.clone();
        let curl = || offer("curl-7-88-1-openssl-3-0");
        let openssl = "OpenSSL 3.0 (s_client)";
        assert_eq!(looks_like(&curl()).as_deref(), Some("curl 7.88.1 / OpenSSL 3.0"));
        assert_eq!(looks_like(&offer("openssl-3-0-s-client")).as_deref(), Some(openssl));
        // With settings of its own it may be either.
        let either = Some(format!("{openssl} or curl 7.88.1 / OpenSSL 3.0"));
        assert_eq!(looks_like(&Offer { alpn: Some(vec![(*b"mqtt").into()]), ..curl() }), either);
        assert_eq!(looks_like(&Offer { server_name: NamedServer::Absent, ..curl() }), either);
        assert_eq!(looks_like(&Offer { versions: Some(vec![0x0304]), ..curl() }), either);
        // Nothing tells these apart.
        let same = looks_like(&offer("chrome-131")).unwrap();
        assert_eq!(same, "Android 15/16 or Chrome 131 or Edge 133 (Chromium) Win 11");
        assert_eq!(looks_like(&Offer { suites: vec![0x1301], ..curl() }), None);
    }

    #[test]
    fn an_unknown_name_comes_with_the_host_that_is_written_most_like_it() {
        let store = Failures::new(1);
        for (name, seconds) in [("shpo.example", 1), ("entirely.other.test", 2)] {
            let mut one = failure(&format!("192.0.2.{seconds}"), None, Reason::UnknownHost, seconds);
            one.server_name = Some(name.into());
            store.record(0, one);
        }
        let report = failures(&store, &Metrics::default(), &snapshot(&["shop.example", "mail.example"]), None, 10);
        let nearest: Vec<_> = report.failures.iter().map(|entry| entry.nearest_host.as_deref()).collect();
        assert_eq!(nearest, [None, Some("shop.example")]);
    }

    #[test]
    fn totals_are_those_of_the_metrics() {
        let metrics = Metrics::default();
        metrics.tls_handshake_failures.with_label_values(&["a.example", "ssh", "client"]).inc_by(3);
        metrics.tls_handshake_failures.with_label_values(&["", "not-tls", "client"]).inc();
        let store = Failures::new(1);
        let all = failures(&store, &metrics, &Snapshot::default(), None, 10).totals.unwrap();
        let counts: Vec<_> = all.iter().map(|total| (&*total.host, &*total.reason, total.count)).collect();
        assert_eq!(counts, [("", "not-tls", 1), ("a.example", "ssh", 3)]);
        let host = "a.example".parse().unwrap();
        assert_eq!(failures(&store, &metrics, &Snapshot::default(), Some(&host), 10).totals.unwrap().len(), 1);
        let found = hosts(&metrics, &snapshot(&["a.example", "b.example"]), None, None, 1);
        let counts = found.hosts[0].counts.as_ref().unwrap();
        assert_eq!((found.omitted, counts.failures[0].count, &*found.hosts[0].serving), (1, 3, "none"));
        let after = hosts(&metrics, &snapshot(&["a.example", "b.example"]), None, Some(&host), 1);
        assert_eq!((after.omitted, &*after.hosts[0].host), (0, "b.example"));
    }

    #[test]
    fn without_series_per_host_nothing_is_said_about_one() {
        let metrics = Metrics::new(false);
        metrics.tls_handshake_failures.with_label_values(&["", "ssh", "client"]).inc();
        let (store, host) = (Failures::new(1), "a.example".parse().unwrap());
        let snapshot = snapshot(&["a.example"]);
        assert_eq!(failures(&store, &metrics, &snapshot, Some(&host), 10).totals, None);
        assert_eq!(failures(&store, &metrics, &snapshot, None, 10).totals.unwrap().len(), 1);
        assert_eq!(hosts(&metrics, &snapshot, Some(&host), None, 10).hosts[0].counts, None);
    }
}
