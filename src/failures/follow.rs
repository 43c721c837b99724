//! What goes on beside the workers: log lines about new kinds of failures, and forgetting what is outdated.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::summary::{INTERVAL, Line, Summary};
use super::{Failures, News};
use crate::metrics::Metrics;
use crate::reconcile::{self, Publication};
use crate::snapshot::{HostName, Reader, Snapshot, VirtualHost};
use crate::tls::alert;
use crate::tls::reason::Reason;

/// Logs new kinds of failures until `end`: a few lines a minute, however many handshakes fail. Each goes to `tell` as well.
pub async fn summarize(failures: Arc<Failures>, reader: Reader, end: CancellationToken, tell: impl Fn(&Line)) {
    let mut summary = Summary::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let snapshot = reader.load_full();
        let News { kinds: mut news, unknown_names } = failures.news();
        for (name, counted) in unknown_names {
            // A misspelt name is a story of its own. No failure is counted under the host that is meant, so no kind is lost.
            if let Some(host) = snapshot.nearest_host(&name) {
                news.insert((Some(host.clone()), Reason::UnknownHost), counted);
            }
        }
        let (lines, more) = summary.look(news, Instant::now());
        for line in &lines {
            log(line);
            tell(line);
        }
        if more > 0 {
            warn!(more, "Handshakes fail for more reasons. `handfast failures` shows all of them.");
        }
    }
}

fn log(line: &Line) {
    let Line { kind: (host, reason), count, newest } = line;
    let (host, nearest) = if *reason == Reason::UnknownHost { (None, host.as_ref()) } else { (host.as_ref(), None) };
    let what = match reason {
        Reason::EstablishedWithoutRequest => {
            "Clients connect and leave without a request. If they are not health checks"
        }
        _ => "TLS handshakes fail",
    };
    macro_rules! line {
        ($level:ident) => {
            $level!(
                host = host.map_or("", |host| host.label()),
                reason = reason.label(),
                blame = newest.blame.label(),
                count,
                client = &*newest.client,
                server_name = newest.server_name.as_deref().unwrap_or_default(),
                alert_sent = newest.alert_sent.map(alert::name),
                alert_received = newest.alert_received.map(alert::name),
                detail = &*newest.detail,
                nearest = nearest.map(tracing::field::display),
                "{what}: {}.",
                newest.remedy
            )
        };
    }
    if line.is_urgent() { line!(warn) } else { line!(info) }
}

/// Forgets examples of hosts that are gone, and what shadow policies would have done that are no longer named.
pub async fn forget(
    failures: Arc<Failures>,
    lost: Arc<Failures>,
    metrics: Metrics,
    publications: watch::Receiver<Option<Publication>>,
    end: CancellationToken,
) {
    let mut before: Option<Arc<Snapshot>> = None;
    let look = |publication: &Publication| {
        let now = &publication.compiled.snapshot;
        if let Some(before) = before.replace(now.clone()) {
            forget_outdated(&before, now, &failures, &lost, &metrics);
        }
    };
    reconcile::follow(publications, end, look).await;
}

fn forget_outdated(before: &Snapshot, now: &Snapshot, failures: &Failures, lost: &Failures, metrics: &Metrics) {
    let differences = now.hosts.since(&before.hosts, Arc::ptr_eq);
    if differences.iter().any(|difference| difference.now.is_none()) {
        failures.retain_hosts(|host| now.hosts.contains_key(host.as_str()));
        lost.retain_hosts(|host| now.hosts.contains_key(host.as_str()));
    }
    let shadow = |host: Option<&'_ Arc<VirtualHost>>| host.and_then(|host| host.shadow.clone());
    let changed = differences.iter().filter(|host| {
        let now = shadow(host.now);
        // Unchanged shadow policies keep their address.
        shadow(host.before).is_some_and(|before| now.is_none_or(|now| !Arc::ptr_eq(&now, &before) && now != before))
    });
    let changed: HashSet<&HostName> = changed.map(|difference| difference.key).collect();
    if !changed.is_empty() {
        lost.retain_hosts(|host| !changed.contains(host));
        changed.iter().for_each(|host| metrics.forget_shadow(host));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::tests::failure;
    use crate::snapshot::{HostTls, RouteTable, ShadowPolicy};
    use crate::tls::policy::{Policy, Settings};

    fn snapshot(hosts: &[(&str, Option<Settings>)]) -> Snapshot {
        let host = |(name, shadow): &(&str, Option<Settings>)| {
            let mut host = VirtualHost::new(name.parse().unwrap(), HostTls::Absent, RouteTable::default());
            host.shadow = shadow.clone().map(|settings| {
                Arc::new(ShadowPolicy { name: "default/next".into(), policy: Policy::new(settings).unwrap() })
            });
            (host.name.clone(), Arc::new(host))
        };
        Snapshot { hosts: hosts.iter().map(host).collect(), ..Snapshot::default() }
    }

    #[test]
    fn another_shadow_policy_begins_anew_and_other_hosts_keep_what_they_have() {
        let (failures, lost, metrics) = (Failures::new(1), Failures::new(1), Metrics::default());
        for host in ["a.example", "b.example", "c.example"] {
            lost.record(0, failure("192.0.2.1", Some(host), Reason::NoSharedVersion, 1));
            failures.record(0, failure("192.0.2.1", Some(host), Reason::NoSharedVersion, 1));
            metrics.tls_shadow_handshakes.with_label_values(&[host, "kept"]).inc();
        }
        let modern = || Some(Settings::modern());
        let before = snapshot(&[("a.example", modern()), ("b.example", modern()), ("c.example", modern())]);
        let now = snapshot(&[("a.example", modern()), ("b.example", Some(Settings::intermediate()))]);
        forget_outdated(&before, &now, &failures, &lost, &metrics);
        let kept = |store: &Failures| {
            store.examples(None).iter().map(|one| one.last.host.clone().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(kept(&lost), ["a.example"]);
        assert_eq!(kept(&failures).len(), 2);
        let counts = Metrics::counts(&metrics.tls_shadow_handshakes, &["host"]);
        assert_eq!(counts, [(vec!["a.example".to_owned()], 1)]);
    }
}
