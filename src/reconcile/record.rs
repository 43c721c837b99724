//! What a publication comes to, as metrics.
//!
//! Only what differs from the publication before is touched: setting the series of ten thousand hosts again would cost
//! more than compiling one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::compile::{Compiled, Diagnostic, Diagnostics, ObjectKey, Problem};
use crate::metrics::Metrics;
use crate::snapshot::{HostName, HostTls, Serving, Snapshot, Traffic, VirtualHost};
use crate::trie::Trie;

/// What was recorded last, and the counts that series of more than one object or host show.
#[derive(Default)]
pub(super) struct Recorder {
    certificates: Trie<ObjectKey, Vec<UnixTime>>,
    diagnostics: Arc<Diagnostics>,
    snapshot: Arc<Snapshot>,
    /// Diagnostics by severity and code.
    problems: Counts<(&'static str, &'static str)>,
    /// Findings by host, without one those about the default certificate, and code.
    findings: Counts<(Option<HostName>, &'static str)>,
    /// Where all hosts share their series: what they are served with, and until when.
    serving: Counts<Serving>,
    traffic: Counts<Traffic>,
    ends: Counts<UnixTime>,
}

impl Recorder {
    /// Takes in one publication, which took this long.
    pub(super) fn record(&mut self, compiled: &Compiled, elapsed: Duration, now: u64, metrics: &Metrics) {
        record_work(compiled, elapsed, now, metrics);
        let before = std::mem::replace(&mut self.diagnostics, compiled.diagnostics.clone());
        self.record_diagnostics(&before, metrics);
        let before = std::mem::replace(&mut self.snapshot, compiled.snapshot.clone());
        self.record_hosts(&before, metrics);
        self.record_traffic(&before, metrics);
        let before = std::mem::replace(&mut self.certificates, compiled.certificates.clone());
        record_certificates(&before, &self.certificates, metrics);
    }

    /// Each finding counts for each host that it touches; those that touch none are about the default certificate.
    fn record_diagnostics(&mut self, before: &Diagnostics, metrics: &Metrics) {
        for changed in self.diagnostics.since(before) {
            for (list, by) in [(changed.now, 1), (changed.before, -1)] {
                for diagnostic in list {
                    let Diagnostic { problem, hosts, .. } = diagnostic;
                    self.problems.add((diagnostic.severity().code(), problem.code()), by);
                    let Problem::Chain(finding) = problem else { continue };
                    if hosts.is_empty() {
                        self.findings.add((None, finding.code()), by);
                    }
                    for host in hosts {
                        let host = metrics.per_host().then(|| host.clone());
                        self.findings.add((host, finding.code()), by);
                    }
                }
            }
        }
        self.problems.settle(|(severity, code), count| match count {
            Some(count) => metrics.diagnostics.with_label_values(&[severity, code]).set(count),
            // An error says that the series is gone already.
            None => drop(metrics.diagnostics.remove_label_values(&[severity, code])),
        });
        self.findings.settle(|(host, code), count| {
            let labels = [host.as_ref().map_or("", HostName::label), code];
            match count {
                Some(count) => metrics.certificate_findings.with_label_values(&labels).set(count),
                None => drop(metrics.certificate_findings.remove_label_values(&labels)),
            }
        });
    }

    /// What the requests of each host get.
    fn record_traffic(&mut self, before: &Snapshot, metrics: &Metrics) {
        let now = self.snapshot.clone();
        for changed in now.traffic.since(&before.traffic, PartialEq::eq) {
            if metrics.per_host() {
                let host = changed.key.label();
                // The new one first, so that no scrape finds none.
                if let Some(now) = changed.now {
                    metrics.host_traffic.with_label_values(&[host, now.code()]).set(1);
                }
                if let Some(gone) = changed.before {
                    let _ = metrics.host_traffic.remove_label_values(&[host, gone.code()]);
                }
                continue;
            }
            for (traffic, by) in [(changed.now, 1), (changed.before, -1)] {
                traffic.into_iter().for_each(|traffic| self.traffic.add(*traffic, by));
            }
        }
        self.traffic.settle(|traffic, count| match count {
            Some(count) => metrics.host_traffic.with_label_values(&["", traffic.code()]).set(count),
            None => drop(metrics.host_traffic.remove_label_values(&["", traffic.code()])),
        });
    }

    /// What each host is served with, and until when.
    fn record_hosts(&mut self, before: &Snapshot, metrics: &Metrics) {
        let now = self.snapshot.clone();
        for changed in now.hosts.since(&before.hosts, Arc::ptr_eq) {
            if metrics.per_host() {
                record_host(changed.before, changed.now, metrics);
                if changed.now.is_none() {
                    metrics.forget_host(changed.key);
                }
                continue;
            }
            for (host, by) in [(changed.now, 1), (changed.before, -1)] {
                let Some(host) = host else { continue };
                self.serving.add(host.serving, by);
                not_after(host).into_iter().for_each(|end| self.ends.add(end, by));
            }
        }
        self.serving.settle(|serving, count| match count {
            Some(count) => metrics.host_serving.with_label_values(&["", serving.code()]).set(count),
            None => drop(metrics.host_serving.remove_label_values(&["", serving.code()])),
        });
        if self.ends.settle(|_, _| {}) {
            match self.ends.first() {
                Some(end) => metrics.host_certificate_not_after.with_label_values(&[""]).set(end.as_secs() as f64),
                None => drop(metrics.host_certificate_not_after.remove_label_values(&[""])),
            }
        }
    }
}

/// How many there are of each.
struct Counts<K> {
    counts: BTreeMap<K, i64>,
    /// What has changed, and what it was.
    changed: BTreeMap<K, i64>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), changed: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Counts<K> {
    fn add(&mut self, key: K, by: i64) {
        let count = self.counts.entry(key.clone()).or_default();
        self.changed.entry(key).or_insert(*count);
        *count += by;
    }

    fn first(&self) -> Option<&K> {
        self.counts.keys().next()
    }

    /// Shows each count that is another one than before, `None` where there are no more. Returns whether there was one.
    fn settle(&mut self, mut show: impl FnMut(&K, Option<i64>)) -> bool {
        let mut any = false;
        for (key, before) in std::mem::take(&mut self.changed) {
            let now = self.counts.get(&key).copied().filter(|count| *count != 0);
            if now.is_none() {
                self.counts.remove(&key);
            }
            if now.unwrap_or_default() != before {
                any = true;
                show(&key, now);
            }
        }
        any
    }
}

fn record_work(compiled: &Compiled, elapsed: Duration, now: u64, metrics: &Metrics) {
    metrics.compiles.inc();
    metrics.compile_duration.observe(elapsed.as_secs_f64());
    metrics.snapshot_published.set(now as f64);
    metrics.snapshot_hosts.set(i64::try_from(compiled.snapshot.hosts.len()).unwrap_or(i64::MAX));
    let units = [
        ("backend", compiled.stats.backends),
        ("host", compiled.stats.hosts),
        ("ingress", compiled.stats.ingresses),
        ("tls", compiled.stats.tls),
    ];
    for (unit, counts) in units {
        for (outcome, count) in [("built", counts.built), ("reused", counts.reused)] {
            metrics.compile_units.with_label_values(&[unit, outcome]).inc_by(count as u64);
        }
    }
}

fn record_certificates(
    before: &Trie<ObjectKey, Vec<UnixTime>>,
    now: &Trie<ObjectKey, Vec<UnixTime>>,
    metrics: &Metrics,
) {
    for changed in now.since(before, Vec::eq) {
        let ends = changed.now.map_or(&[][..], Vec::as_slice);
        for position in 0..ends.len().max(changed.before.map_or(0, Vec::len)) {
            let labels = [&*changed.key.namespace, &*changed.key.name, &*position.to_string()];
            match ends.get(position) {
                Some(end) => metrics.certificate_not_after.with_label_values(&labels).set(end.as_secs() as f64),
                // An error says that the series is gone already.
                None => drop(metrics.certificate_not_after.remove_label_values(&labels)),
            }
        }
    }
}

/// Where each host has series of its own.
fn record_host(before: Option<&Arc<VirtualHost>>, now: Option<&Arc<VirtualHost>>, metrics: &Metrics) {
    let Some(label) = now.or(before).map(|host| host.name.label()) else { return };
    let serving = |host: Option<&Arc<VirtualHost>>| host.map(|host| host.serving.code());
    // The new one first, so that no scrape finds none.
    if let Some(serving) = serving(now) {
        metrics.host_serving.with_label_values(&[label, serving]).set(1);
    }
    if let Some(gone) = serving(before).filter(|gone| Some(*gone) != serving(now)) {
        let _ = metrics.host_serving.remove_label_values(&[label, gone]);
    }
    match now.and_then(|host| not_after(host)) {
        Some(end) => metrics.host_certificate_not_after.with_label_values(&[label]).set(end.as_secs() as f64),
        None => drop(metrics.host_certificate_not_after.remove_label_values(&[label])),
    }
}

fn not_after(host: &VirtualHost) -> Option<UnixTime> {
    match &host.tls {
        HostTls::Terminate(tls) => Some(tls.not_after()),
        HostTls::Absent | HostTls::Refuse => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Compiler, Effect, Kind, Options};
    use crate::snapshot::RouteTable;

    fn publication(hosts: &[(&str, Serving)], missing: &[&str], ends: &[(&str, &[u64])]) -> Compiled {
        let key = |name: &str| ObjectKey::new(Kind::Secret, "shop", name);
        let mut compiled = Compiler::new(Options::default()).compile(UnixTime::since_unix_epoch(Duration::ZERO));
        let host = |(name, serving): &(&str, Serving)| {
            let host = VirtualHost::new(name.parse().unwrap(), HostTls::Refuse, RouteTable::default());
            (host.name.clone(), Arc::new(VirtualHost { serving: *serving, ..host }))
        };
        compiled.snapshot = Arc::new(Snapshot { hosts: hosts.iter().map(host).collect(), ..Snapshot::default() });
        let diagnostic = |name: &&str| Diagnostic {
            subject: key(name),
            field: "".into(),
            problem: Problem::SecretNotFound { secret: (*name).into(), redirected: false },
            effect: Effect::None,
            hosts: Vec::new(),
        };
        compiled.diagnostics = Arc::new(missing.iter().map(diagnostic).collect());
        let at = |seconds: &u64| UnixTime::since_unix_epoch(Duration::from_secs(*seconds));
        compiled.certificates = ends.iter().map(|(name, ends)| (key(name), ends.iter().map(at).collect())).collect();
        compiled
    }

    /// The series that publications set, without the name that all have.
    fn shown(recorder: &mut Recorder, compiled: &Compiled, metrics: &Metrics) -> Vec<String> {
        recorder.record(compiled, Duration::ZERO, 0, metrics);
        let text = metrics.render();
        let wanted = ["handfast_certificate_not_after", "handfast_diagnostics{", "handfast_host_serving{"];
        let lines = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        lines.map(|line| line.replace("handfast_", "").replace('"', "")).collect()
    }

    #[test]
    fn series_are_those_of_the_last_publication_and_what_did_not_change_is_not_touched() {
        let (mut recorder, metrics) = (Recorder::default(), Metrics::default());
        let hosts = [("a.example", Serving::Refused), ("b.example", Serving::Refused)];
        let first = publication(&hosts, &["x", "y"], &[("x", &[1, 2]), ("y", &[3])]);
        assert_eq!(
            shown(&mut recorder, &first, &metrics),
            [
                "certificate_not_after_timestamp_seconds{namespace=shop,position=0,secret=x} 1",
                "certificate_not_after_timestamp_seconds{namespace=shop,position=0,secret=y} 3",
                "certificate_not_after_timestamp_seconds{namespace=shop,position=1,secret=x} 2",
                "diagnostics{reason=secret-not-found,severity=error} 2",
                "host_serving{host=a.example,state=refused} 1",
                "host_serving{host=b.example,state=refused} 1",
            ]
        );
        // Taken away by hand, they would come back if they were set again.
        metrics.host_serving.remove_label_values(&["b.example", "refused"]).unwrap();
        metrics.certificate_not_after.remove_label_values(&["shop", "y", "0"]).unwrap();
        let mut second = first.clone();
        let other = publication(&[("a.example", Serving::LastGood)], &["y"], &[("x", &[5])]);
        Arc::make_mut(&mut second.snapshot)
            .hosts
            .extend(other.snapshot.hosts.iter().map(|(a, b)| (a.clone(), b.clone())));
        second.certificates.extend(other.certificates.iter().map(|(key, ends)| (key.clone(), ends.clone())));
        second.diagnostics = other.diagnostics.clone();
        assert_eq!(
            shown(&mut recorder, &second, &metrics),
            [
                "certificate_not_after_timestamp_seconds{namespace=shop,position=0,secret=x} 5",
                "diagnostics{reason=secret-not-found,severity=error} 1",
                "host_serving{host=a.example,state=last_good} 1",
            ]
        );
        assert_eq!(shown(&mut recorder, &publication(&[], &[], &[]), &metrics), [""; 0]);
    }

    #[test]
    fn what_requests_get_has_one_series_a_host_or_is_counted() {
        let publication = |hosts: &[(&str, Traffic)]| {
            let mut compiled = publication(&[], &[], &[]);
            let traffic = hosts.iter().map(|(name, traffic)| (name.parse().unwrap(), *traffic)).collect();
            compiled.snapshot = Arc::new(Snapshot { traffic, ..Snapshot::default() });
            compiled
        };
        let first = publication(&[("a.example", Traffic::Answers503), ("b.example", Traffic::Works)]);
        let second = publication(&[("a.example", Traffic::Works)]);
        let shown = |metrics: &Metrics, recorder: &mut Recorder, compiled: &Compiled| -> Vec<String> {
            recorder.record(compiled, Duration::ZERO, 0, metrics);
            let text = metrics.render();
            let lines = text.lines().filter_map(|line| line.strip_prefix("handfast_host_traffic{"));
            lines.map(|line| line.replace('"', "")).collect()
        };
        let (mut recorder, metrics) = (Recorder::default(), Metrics::default());
        let expected = ["host=a.example,state=answers_503} 1", "host=b.example,state=works} 1"];
        assert_eq!(shown(&metrics, &mut recorder, &first), expected);
        assert_eq!(shown(&metrics, &mut recorder, &second), ["host=a.example,state=works} 1"]);
        let (mut recorder, metrics) = (Recorder::default(), Metrics::new(false));
        assert_eq!(shown(&metrics, &mut recorder, &first), ["host=,state=answers_503} 1", "host=,state=works} 1"]);
        assert_eq!(shown(&metrics, &mut recorder, &second), ["host=,state=works} 1"]);
    }

    #[test]
    fn hosts_that_share_their_series_are_counted_together() {
        let (mut recorder, metrics) = (Recorder::default(), Metrics::new(false));
        let hosts = [("a.example", Serving::Refused), ("b.example", Serving::Refused), ("c.example", Serving::None)];
        let lines = shown(&mut recorder, &publication(&hosts, &[], &[]), &metrics);
        assert_eq!(lines, ["host_serving{host=,state=none} 1", "host_serving{host=,state=refused} 2"]);
        let lines = shown(&mut recorder, &publication(&hosts[..1], &[], &[]), &metrics);
        assert_eq!(lines, ["host_serving{host=,state=refused} 1"]);
    }
}
