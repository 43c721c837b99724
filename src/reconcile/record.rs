//! What a publication comes to, as metrics.
//!
//! Only what differs from the publication before is touched: setting the series of ten thousand hosts again would cost
//! more than compiling one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::compile::{Compiled, Diagnostic, ObjectKey, Problem};
use crate::metrics::Metrics;
use crate::snapshot::{HostTls, Snapshot, VirtualHost};

/// What was recorded last.
#[derive(Default)]
pub(super) struct Recorder {
    certificates: Arc<BTreeMap<ObjectKey, Vec<UnixTime>>>,
    diagnostics: Arc<[Diagnostic]>,
    snapshot: Arc<Snapshot>,
}

impl Recorder {
    /// Takes in one publication, which took this long.
    pub(super) fn record(&mut self, compiled: &Compiled, elapsed: Duration, now: u64, metrics: &Metrics) {
        record_work(compiled, elapsed, now, metrics);
        // What did not change keeps its address; endpoints come and go without any of this.
        if !Arc::ptr_eq(&self.diagnostics, &compiled.diagnostics) {
            self.diagnostics = compiled.diagnostics.clone();
            record_diagnostics(&self.diagnostics, metrics);
            record_findings(&self.diagnostics, metrics);
        }
        if compiled.stats.hosts.built > 0 {
            let before = std::mem::replace(&mut self.snapshot, compiled.snapshot.clone());
            record_hosts(&before, &self.snapshot, metrics);
        }
        if !Arc::ptr_eq(&self.certificates, &compiled.certificates) {
            let before = std::mem::replace(&mut self.certificates, compiled.certificates.clone());
            record_certificates(&before, &self.certificates, metrics);
        }
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

fn record_diagnostics(diagnostics: &[Diagnostic], metrics: &Metrics) {
    let mut series: HashMap<Vec<&str>, i64> = HashMap::new();
    for diagnostic in diagnostics {
        let labels = vec![diagnostic.problem.severity().code(), diagnostic.problem.code()];
        *series.entry(labels).or_default() += 1;
    }
    Metrics::set_all(&metrics.diagnostics, &series, &["severity", "reason"]);
}

fn record_certificates(
    before: &BTreeMap<ObjectKey, Vec<UnixTime>>,
    now: &BTreeMap<ObjectKey, Vec<UnixTime>>,
    metrics: &Metrics,
) {
    let forget = |secret: &ObjectKey, positions: std::ops::Range<usize>| {
        for position in positions {
            // An error says that the series is gone already.
            let _ = metrics.certificate_not_after.remove_label_values(&[
                &*secret.namespace,
                &*secret.name,
                &*position.to_string(),
            ]);
        }
    };
    let mut before = before.iter().peekable();
    for (secret, ends) in now {
        while let Some((gone, ends)) = before.next_if(|(before, _)| *before < secret) {
            forget(gone, 0..ends.len());
        }
        let known = before.next_if(|(before, _)| *before == secret).map(|(_, ends)| ends);
        if known == Some(ends) {
            continue;
        }
        for (position, end) in ends.iter().enumerate() {
            let labels = [&*secret.namespace, &*secret.name, &*position.to_string()];
            metrics.certificate_not_after.with_label_values(&labels).set(end.as_secs() as f64);
        }
        forget(secret, ends.len()..known.map_or(0, Vec::len));
    }
    for (gone, ends) in before {
        forget(gone, 0..ends.len());
    }
}

/// Each finding counts for each host that it touches; those that touch none are about the default certificate.
fn record_findings(diagnostics: &[Diagnostic], metrics: &Metrics) {
    let mut series: HashMap<Vec<&str>, i64> = HashMap::new();
    for diagnostic in diagnostics {
        let Problem::Chain(finding) = &diagnostic.problem else { continue };
        let mut count = |host| *series.entry(vec![host, finding.code()]).or_default() += 1;
        if diagnostic.hosts.is_empty() {
            count("");
        }
        diagnostic.hosts.iter().for_each(|host| count(metrics.name_label(host)));
    }
    Metrics::set_all(&metrics.certificate_findings, &series, &["host", "finding"]);
}

/// What each host is served with, and until when.
fn record_hosts(before: &Snapshot, now: &Snapshot, metrics: &Metrics) {
    if !metrics.per_host() {
        return record_all_hosts(now, metrics);
    }
    for host in now.hosts.values() {
        let old = before.hosts.get(host.name.as_str());
        if old.is_some_and(|old| Arc::ptr_eq(old, host)) {
            continue;
        }
        let label = host.name.label();
        // The new one first, so that no scrape finds none.
        metrics.host_serving.with_label_values(&[label, host.serving.code()]).set(1);
        if let Some(old) = old.filter(|old| old.serving != host.serving) {
            let _ = metrics.host_serving.remove_label_values(&[label, old.serving.code()]);
        }
        match not_after(host) {
            Some(end) => metrics.host_certificate_not_after.with_label_values(&[label]).set(end),
            None => drop(metrics.host_certificate_not_after.remove_label_values(&[label])),
        }
    }
    let gone: Vec<&Arc<VirtualHost>> =
        before.hosts.values().filter(|host| !now.hosts.contains_key(host.name.as_str())).collect();
    for host in &gone {
        let label = host.name.label();
        let _ = metrics.host_serving.remove_label_values(&[label, host.serving.code()]);
        let _ = metrics.host_certificate_not_after.remove_label_values(&[label]);
    }
    if !gone.is_empty() {
        let hosts: HashSet<&str> = now.hosts.keys().map(|host| host.label()).collect();
        metrics.retain_hosts(&hosts);
    }
}

/// The same where all hosts share their series.
fn record_all_hosts(snapshot: &Snapshot, metrics: &Metrics) {
    let mut ends: HashMap<Vec<&str>, f64> = HashMap::new();
    let mut serving: HashMap<Vec<&str>, i64> = HashMap::new();
    for host in snapshot.hosts.values() {
        let label = metrics.name_label(&host.name);
        *serving.entry(vec![label, host.serving.code()]).or_default() += 1;
        if let Some(host_end) = not_after(host) {
            let end = ends.entry(vec![label]).or_insert(f64::INFINITY);
            *end = end.min(host_end);
        }
    }
    Metrics::set_all(&metrics.host_serving, &serving, &["host", "state"]);
    Metrics::set_all(&metrics.host_certificate_not_after, &ends, &["host"]);
}

fn not_after(host: &VirtualHost) -> Option<f64> {
    match &host.tls {
        HostTls::Terminate(tls) => Some(tls.not_after().as_secs() as f64),
        HostTls::Absent | HostTls::Refuse => None,
    }
}
