//! Every metric: name, help, labels, buckets.
//!
//! Names are part of the public interface. Label values are enums or configured host names, never bytes from the
//! network. Counters live here once and are shared by all workers (atomics).

mod about;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use self::about::{About, COMPLETED, EVENT, FAILED, PROBE, RECEIVED, RESUMPTIONS, SENT, Values, places, values};
use crate::places::{Group, Places};
use crate::snapshot::{HostName, VirtualHost};
use crate::tls::Version;
use crate::tls::capabilities::Capability;
use crate::tls::reason::{Blame, Reason};
use crate::tls::shadow::Verdict;

/// All metrics, registered.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    about: Arc<[About]>,
    per_host: bool,
    /// Access log lines lost because the log could not be written fast enough.
    pub access_log_dropped: IntCounter,
    /// Batches compiled, by outcome.
    pub compiles: IntCounter,
    /// Time to compile and publish.
    pub compile_duration: Histogram,
    /// Units built and reused by the compiler: `unit`, `outcome`.
    pub compile_units: IntCounterVec,
    /// Connections open now: `listener` (`http`, `https`), `worker`.
    pub connections_active: IntGaugeVec,
    /// Connections to the plain listener closed before any request: `reason` (`overloaded`, `proxy-header-missing`).
    pub connections_refused: IntCounterVec,
    /// Connections told to end because somebody else needed their place: `places`.
    pub places_evicted: IntCounterVec,
    /// Connections for which there was no place: `places`.
    pub places_refused: IntCounterVec,
    /// Findings about the certificates of hosts now: `host`, `finding`.
    pub certificate_findings: IntGaugeVec,
    /// End of validity of each certificate that is served: `namespace`, `secret`, `position`.
    pub certificate_not_after: GaugeVec,
    /// Diagnostics now: `severity`, `reason`.
    pub diagnostics: IntGaugeVec,
    /// The first end of validity in all chains that a host is served with: `host`.
    pub host_certificate_not_after: GaugeVec,
    /// What the handshakes of a host get now: `host`, `state`.
    pub host_serving: IntGaugeVec,
    /// What the requests of each host get.
    pub host_traffic: IntGaugeVec,
    /// Events that were to be told to the cluster: `outcome`.
    pub events: IntCounterVec,
    /// HTTP requests finished: `host`, `code`.
    pub http_requests: IntCounterVec,
    /// Time from the request's head to the end of the response: `host`.
    pub http_request_duration: HistogramVec,
    /// Bytes of what is kept in the Secret of `--last-good-secret`.
    pub last_good_secret_bytes: IntGauge,
    /// What has no place there.
    pub last_good_secret_dropped: IntGauge,
    /// How much is kept there.
    pub last_good_secret_entries: IntGauge,
    /// Attempts to read or write it that failed.
    pub last_good_secret_failures: IntCounter,
    /// Whether this replica writes to the cluster, once it takes part in an election: `lease`.
    pub leader: IntGaugeVec,
    /// Tasks that died of a bug of ours.
    pub panics: IntCounter,
    /// Attempts to write the state directory that failed.
    pub state_write_failures: IntCounter,
    /// What waits to be written to the cluster: `kind`.
    pub status_queue: IntGaugeVec,
    /// Statuses that were to be written to the cluster: `kind`, `outcome`.
    pub status_writes: IntCounterVec,
    /// When the newest snapshot was published, in seconds since 1970.
    pub snapshot_published: Gauge,
    /// Virtual hosts in the newest snapshot.
    pub snapshot_hosts: IntGauge,
    /// 1 while objects of `--state-dir` are served, because the API server has not answered since the start.
    pub serving_saved: IntGauge,
    /// Alerts in handshakes: `direction` (`received`, `sent`), `alert`.
    pub tls_alerts: IntCounterVec,
    /// Cipher suites of completed handshakes: `suite`.
    pub tls_cipher_suites: IntCounterVec,
    /// What clients can do, by their hellos: `host`, `capability`.
    pub tls_client_capabilities: IntCounterVec,
    /// Sizes of complete hellos.
    pub tls_client_hello_size: Histogram,
    /// Complete hellos for a host that terminates TLS: `host`.
    pub tls_client_hellos: IntCounterVec,
    /// TCP connections accepted by the TLS listener.
    pub tls_connections_accepted: IntCounter,
    /// Completed handshakes whose client left without a byte: `host`.
    pub tls_established_without_request: IntCounterVec,
    /// Key exchange groups of completed handshakes: `group`.
    pub tls_groups: IntCounterVec,
    /// Failed handshakes: `host`, `reason`, `blame`.
    pub tls_handshake_failures: IntCounterVec,
    /// Completed handshakes: `host`, `version`, `resumed`.
    pub tls_handshakes: IntCounterVec,
    /// Time from accept to the end of the handshake: `outcome`.
    pub tls_handshake_duration: HistogramVec,
    /// Connections accepted whose handshake has no outcome yet.
    pub tls_handshakes_in_progress: IntGauge,
    /// Handshakes that cost a further round trip: `host`.
    pub tls_hello_retry_requests: IntCounterVec,
    /// Connections closed or reset before any byte: no failures.
    pub tls_probes: IntCounter,
    /// Completed handshakes, by what became of the client's wish to resume a session: `outcome`.
    pub tls_session_resumptions: IntCounterVec,
    /// What the shadow policy of a host would have done: `host`, `outcome`.
    pub tls_shadow_handshakes: IntCounterVec,
    /// Endpoints taken out of rotation after failures in a row.
    pub upstream_ejections: IntCounter,
    /// Requests that got no response from an endpoint: `reason`.
    pub upstream_failures: IntCounterVec,
    /// Requests sent again to another endpoint, because nothing of them had been sent.
    pub upstream_retries: IntCounter,
    /// Reviews that the admission webhook was asked for: `kind`, `outcome`.
    pub webhook_requests: IntCounterVec,
    /// Time from a review's head to its answer.
    pub webhook_request_duration: Histogram,
    /// TCP connections accepted by the TLS listener, by the worker that has them: `worker`.
    pub worker_tls_accepted: IntCounterVec,
    /// Watches that failed: `kind`, `cause`.
    pub watch_errors: IntCounterVec,
    /// Events of watches: `kind`.
    pub watch_events: IntCounterVec,
    /// Complete lists: `kind`.
    pub watch_relists: IntCounterVec,
    /// How long the watch that is worst off has not worked: `kind`.
    pub watch_stale: GaugeVec,
    /// What became of them: `worker`, `outcome`.
    pub worker_tls_ended: IntCounterVec,
}

impl Metrics {
    /// Creates and registers all metrics. Without `per_host` every `host` label is empty.
    pub fn new(per_host: bool) -> Self {
        let registry = Registry::new();
        let mut about = Vec::new();
        // A name or label set that is wrong or used twice is a bug that the first test finds.
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric.expect("invariant: the metric's name and labels are valid");
                registry.register(Box::new(metric.clone())).expect("invariant: each name is registered once");
                about.extend(About::of(&metric));
                metric
            }};
        }
        let latency = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let mut metrics = Self {
            access_log_dropped: register!(IntCounter::new(
                "handfast_access_log_dropped_total",
                "Access log lines lost because the log could not be written fast enough."
            )),
            compiles: register!(IntCounter::new("handfast_compiles_total", "Compilations of the configuration.")),
            compile_duration: register!(Histogram::with_opts(
                HistogramOpts::new(
                    "handfast_compile_duration_seconds",
                    "Time to compile and publish the configuration."
                )
                .buckets(vec![0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0])
            )),
            compile_units: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_compile_units_total",
                    "Units of the configuration, by whether a compilation built or reused them."
                ),
                &["unit", "outcome"]
            )),
            connections_refused: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_http_connections_refused_total",
                    "Connections to the plain HTTP listener that were closed before any request, by reason."
                ),
                &["reason"]
            )),
            places_evicted: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_places_evicted_total",
                    "Connections that were ended because all places were taken and they had waited longest for their client, by what the places are for."
                ),
                &["places"]
            )),
            places_refused: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_places_refused_total",
                    "Connections for which there was no place, because all were taken by work in progress, by what the places are for."
                ),
                &["places"]
            )),
            connections_active: register!(IntGaugeVec::new(
                Opts::new("handfast_connections_active", "Client connections open now."),
                &["listener", "worker"]
            )),
            certificate_not_after: register!(GaugeVec::new(
                Opts::new(
                    "handfast_certificate_not_after_timestamp_seconds",
                    "End of validity of each served certificate, in seconds since 1970. Position 0 is the leaf; the others follow in the order of the chain."
                ),
                &["namespace", "secret", "position"]
            )),
            certificate_findings: register!(IntGaugeVec::new(
                Opts::new(
                    "handfast_certificate_findings",
                    "Findings about the certificates of a virtual host now, by their code. Without a host: about the default certificate, or of all hosts with --metrics-per-host=false."
                ),
                &["host", "finding"]
            )),
            host_certificate_not_after: register!(GaugeVec::new(
                Opts::new(
                    "handfast_host_certificate_not_after_timestamp_seconds",
                    "The first end of validity among all certificates that a virtual host is served with, intermediates included, in seconds since 1970. Of all hosts with --metrics-per-host=false."
                ),
                &["host"]
            )),
            host_serving: register!(IntGaugeVec::new(
                Opts::new(
                    "handfast_host_serving",
                    "Which certificate the handshakes of a virtual host get now: 1 for current, default, last_good, none or refused. What its requests get is handfast_host_traffic. Only the state of the moment has a series. The number of hosts in each state with --metrics-per-host=false."
                ),
                &["host", "state"]
            )),
            host_traffic: register!(IntGaugeVec::new(
                Opts::new(
                    "handfast_host_traffic",
                    "What the requests of a virtual host get now: 1 for works, works_with_losses, answers_503_partly (some paths), answers_503 (every path), refuses_tls or not_served. Only the state of the moment has a series. The number of hosts in each state with --metrics-per-host=false."
                ),
                &["host", "state"]
            )),
            diagnostics: register!(IntGaugeVec::new(
                Opts::new("handfast_diagnostics", "Problems of the configuration now."),
                &["severity", "reason"]
            )),
            events: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_events_total",
                    "Events that were to be told to the cluster: written, repeated as one more of a series, known because another replica had told it, dropped because there were too many, or failed."
                ),
                &["outcome"]
            )),
            http_requests: register!(IntCounterVec::new(
                Opts::new("handfast_http_requests_total", "HTTP requests finished, by virtual host and status code."),
                &["host", "code"]
            )),
            http_request_duration: register!(HistogramVec::new(
                HistogramOpts::new(
                    "handfast_http_request_duration_seconds",
                    "Time from the request's head to the end of the response."
                )
                .buckets(latency.clone()),
                &["host"]
            )),
            last_good_secret_bytes: register!(IntGauge::new(
                "handfast_last_good_secret_bytes",
                "Bytes of what is held that are kept in the Secret of --last-good-secret; 921600 at most."
            )),
            last_good_secret_dropped: register!(IntGauge::new(
                "handfast_last_good_secret_dropped",
                "Secrets and policies that are held and have no place in the Secret of --last-good-secret, as the leader sees it."
            )),
            last_good_secret_entries: register!(IntGauge::new(
                "handfast_last_good_secret_entries",
                "Secrets and policies that are kept in the Secret of --last-good-secret."
            )),
            last_good_secret_failures: register!(IntCounter::new(
                "handfast_last_good_secret_failures_total",
                "Attempts to read or write the Secret of --last-good-secret that failed."
            )),
            leader: register!(IntGaugeVec::new(
                Opts::new(
                    "handfast_leader",
                    "1 if this replica is the one that writes statuses and Events to the cluster, 0 if not. Absent if it never does."
                ),
                &["lease"]
            )),
            panics: register!(IntCounter::new(
                "handfast_panics_total",
                "Tasks that ended because of a bug. Please report them."
            )),
            state_write_failures: register!(IntCounter::new(
                "handfast_state_write_failures_total",
                "Attempts to write to the state directory that failed."
            )),
            status_queue: register!(IntGaugeVec::new(
                Opts::new(
                    "handfast_status_queue_length",
                    "Statuses and Events that wait to be written to the cluster."
                ),
                &["kind"]
            )),
            status_writes: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_status_writes_total",
                    "Statuses that were to be written to the cluster: written, taken-over from another writer, cleared, contested because another controller keeps changing them back, gone with their object, or failed and tried again."
                ),
                &["kind", "outcome"]
            )),
            snapshot_published: register!(Gauge::new(
                "handfast_snapshot_published_timestamp_seconds",
                "When the newest snapshot was published, in seconds since 1970."
            )),
            snapshot_hosts: register!(IntGauge::new(
                "handfast_snapshot_hosts",
                "Virtual hosts in the newest snapshot."
            )),
            tls_alerts: register!(IntCounterVec::new(
                Opts::new("handfast_tls_alerts_total", "Alerts in TLS handshakes, by who sent them (RFC 8446 section 6)."),
                &["direction", "alert"]
            )),
            tls_cipher_suites: register!(IntCounterVec::new(
                Opts::new("handfast_tls_cipher_suites_total", "Completed TLS handshakes, by cipher suite."),
                &["suite"]
            )),
            tls_client_capabilities: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_client_capabilities_total",
                    "What clients can do by their ClientHello, by virtual host: compare with handfast_tls_client_hellos_total."
                ),
                &["host", "capability"]
            )),
            tls_client_hello_size: register!(Histogram::with_opts(
                HistogramOpts::new(
                    "handfast_tls_client_hello_size_bytes",
                    "Size of complete ClientHellos with their record headers. Above 1400 they come in more than one packet."
                )
                .buckets(vec![200.0, 300.0, 400.0, 600.0, 800.0, 1200.0, 1400.0, 1600.0, 2000.0, 3000.0, 6000.0, 16384.0])
            )),
            tls_client_hellos: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_client_hellos_total",
                    "Complete ClientHellos for a virtual host that terminates TLS, whatever came of them."
                ),
                &["host"]
            )),
            tls_established_without_request: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_established_without_request_total",
                    "Completed TLS handshakes whose client left without a byte: clients that connect ahead, health checks, and some that reject the certificate. They count as completed."
                ),
                &["host"]
            )),
            tls_groups: register!(IntCounterVec::new(
                Opts::new("handfast_tls_groups_total", "Completed TLS handshakes with a key exchange, by group."),
                &["group"]
            )),
            tls_handshakes_in_progress: register!(IntGauge::new(
                "handfast_tls_handshakes_in_progress",
                "Connections accepted by the TLS listener whose handshake has not ended, and ones with TLS on the port for plain HTTP."
            )),
            tls_hello_retry_requests: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_hello_retry_requests_total",
                    "Handshakes that cost a further round trip, because the client sent no key share for the group that was chosen."
                ),
                &["host"]
            )),
            tls_session_resumptions: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_session_resumptions_total",
                    "Completed TLS handshakes, by what became of the client's wish to resume a session: resumed, missed or not-asked."
                ),
                &["outcome"]
            )),
            tls_shadow_handshakes: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_shadow_handshakes_total",
                    "ClientHellos by what the host's shadow policy would have done: kept and failing as now, gained, or lost-REASON for clients that connect now and would not."
                ),
                &["host", "outcome"]
            )),
            worker_tls_accepted: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_worker_tls_connections_accepted_total",
                    "TCP connections accepted by the TLS listener, and ones with TLS on the port for plain HTTP, by worker: the sum of those ended and those in progress."
                ),
                &["worker"]
            )),
            worker_tls_ended: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_worker_tls_connections_ended_total",
                    "What became of connections to the TLS listener, and of ones with TLS on the port for plain HTTP, by worker: completed, failed or probe."
                ),
                &["worker", "outcome"]
            )),
            tls_connections_accepted: register!(IntCounter::new(
                "handfast_tls_connections_accepted_total",
                "TCP connections accepted by the TLS listener, and ones with TLS on the port for plain HTTP."
            )),
            tls_handshake_failures: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_tls_handshake_failures_total",
                    "TLS connections that did not become usable, by virtual host, reason and who must act."
                ),
                &["host", "reason", "blame"]
            )),
            tls_handshakes: register!(IntCounterVec::new(
                Opts::new("handfast_tls_handshakes_total", "Completed TLS handshakes."),
                &["host", "version", "resumed"]
            )),
            tls_handshake_duration: register!(HistogramVec::new(
                HistogramOpts::new(
                    "handfast_tls_handshake_duration_seconds",
                    "Time from accept to the end of the handshake."
                )
                .buckets(latency),
                &["outcome"]
            )),
            tls_probes: register!(IntCounter::new(
                "handfast_tls_probes_total",
                "Connections to the TLS listener that were closed or reset before any byte."
            )),
            upstream_ejections: register!(IntCounter::new(
                "handfast_upstream_ejections_total",
                "Endpoints taken out of rotation after failures in a row."
            )),
            upstream_failures: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_upstream_failures_total",
                    "Requests that got no response from an endpoint, by reason."
                ),
                &["reason"]
            )),
            upstream_retries: register!(IntCounter::new(
                "handfast_upstream_retries_total",
                "Requests sent to another endpoint because nothing of them had been sent to the first."
            )),
            serving_saved: register!(IntGauge::new(
                "handfast_serving_saved_objects",
                "1 while objects of the state directory are served, because the API server has not answered since the start."
            )),
            watch_errors: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_watch_errors_total",
                    "Watches of the API server that failed, by kind of object and by what failed."
                ),
                &["kind", "cause"]
            )),
            watch_events: register!(IntCounterVec::new(
                Opts::new("handfast_watch_events_total", "Events of watches of the API server, by kind of object."),
                &["kind"]
            )),
            watch_relists: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_watch_relists_total",
                    "Complete lists of objects from the API server, by kind of object."
                ),
                &["kind"]
            )),
            watch_stale: register!(GaugeVec::new(
                Opts::new(
                    "handfast_watch_stale_seconds",
                    "For how long the watch of a kind of object has not worked, so that changes may be missed; 0 while it works."
                ),
                &["kind"]
            )),
            webhook_requests: register!(IntCounterVec::new(
                Opts::new(
                    "handfast_webhook_requests_total",
                    "Reviews that the admission webhook was asked for, by kind of object and by how they ended. Failed ones were let in without a verdict, or were no reviews."
                ),
                &["kind", "outcome"]
            )),
            webhook_request_duration: register!(Histogram::with_opts(
                HistogramOpts::new(
                    "handfast_webhook_request_duration_seconds",
                    "Time from the head of a review to the answer of the admission webhook."
                )
                .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
            )),
            about: Arc::default(),
            per_host,
            registry: registry.clone(),
        };
        let build = register!(IntGaugeVec::new(Opts::new("handfast_build_info", "The running version."), &["version"]));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        about.sort_by(|one: &About, other| one.name.cmp(&other.name));
        metrics.about = about.into();
        metrics
    }

    /// What there is, by name.
    pub fn about(&self) -> &[About] {
        &self.about
    }

    /// The value of the `host` label: a configured virtual host, or empty.
    pub fn host_label<'a>(&self, host: Option<&'a VirtualHost>) -> &'a str {
        host.map_or("", |host| self.name_label(&host.name))
    }

    /// The same for a name.
    pub fn name_label<'a>(&self, host: &'a HostName) -> &'a str {
        if self.per_host { host.label() } else { "" }
    }

    /// Places that are counted here: how many, and for each group of members its reserve and its value of `places`.
    pub fn places(&self, of: &'static str, limit: usize, groups: &[(usize, &str)]) -> Places {
        let group = |(reserve, label): &(usize, &str)| Group {
            reserve: *reserve,
            evicted: self.places_evicted.with_label_values(&[label]),
            refused: self.places_refused.with_label_values(&[label]),
        };
        Places::new(of, limit, groups.iter().map(group).collect())
    }

    /// The text exposition format (version 0.0.4).
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Removes what the shadow policy of a host would have done: it has another now. Without series per host nobody can tell
    /// whose the counts are.
    pub fn forget_shadow(&self, host: &HostName) {
        if !self.per_host {
            return;
        }
        let lost = Reason::ALL.iter().map(|reason| Verdict::Lost(*reason));
        for verdict in [Verdict::Failing, Verdict::Gained, Verdict::Kept].into_iter().chain(lost) {
            // An error says that there is no such series.
            let _ = self.tls_shadow_handshakes.remove_label_values(&[host.label(), &verdict.label()]);
        }
    }

    /// Whether there are series per virtual host.
    pub fn per_host(&self) -> bool {
        self.per_host
    }

    /// The values of a counter, each with the labels of `names` in their order.
    pub fn counts(counter: &IntCounterVec, names: &[&str]) -> Vec<(Vec<String>, u64)> {
        let mut found = Vec::new();
        for family in counter.collect() {
            for metric in family.get_metric() {
                let value = |name: &&str| metric.get_label().iter().find(|label| label.name() == *name);
                let labels = names.iter().map(|name| value(name).map_or_else(String::new, |l| l.value().to_owned()));
                // Counters of this crate are floating-point numbers on the way out.
                found.push((labels.collect(), metric.get_counter().get_value() as u64));
            }
        }
        found
    }

    /// Removes the series of a host that is gone. All that can be there is asked for by name: that costs the same however
    /// many other hosts there are, and a search among their series does not.
    pub fn forget_host(&self, host: &HostName) {
        let label = host.label();
        let counters = [&self.tls_client_hellos, &self.tls_established_without_request, &self.tls_hello_retry_requests];
        // An error says that there is no such series.
        for counter in counters {
            let _ = counter.remove_label_values(&[label]);
        }
        let _ = self.http_request_duration.remove_label_values(&[label]);
        for code in STATUS_CODES {
            let _ = self.http_requests.remove_label_values(&[label, &code.to_string()]);
        }
        for capability in Capability::ALL {
            let _ = self.tls_client_capabilities.remove_label_values(&[label, capability.label()]);
        }
        for (reason, blame) in Reason::ALL.iter().flat_map(|reason| Blame::ALL.map(|blame| (reason, blame))) {
            let _ = self.tls_handshake_failures.remove_label_values(&[label, reason.label(), blame.label()]);
        }
        for (version, resumed) in [Version::Tls12, Version::Tls13].into_iter().flat_map(|one| RESUMED.map(|r| (one, r)))
        {
            let _ = self.tls_handshakes.remove_label_values(&[label, version.label(), resumed]);
        }
        self.forget_shadow(host);
    }
}

/// What a response can have (RFC 9110 section 15).
const STATUS_CODES: std::ops::Range<u16> = 100..1000;

/// The values of `resumed`.
const RESUMED: [&str; 2] = ["true", "false"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_vanished_host_go_and_others_stay() {
        let metrics = Metrics::default();
        for host in ["", "a.example", "b.example"] {
            for code in ["200", "999"] {
                metrics.http_requests.with_label_values(&[host, code]).inc();
            }
            metrics.http_request_duration.with_label_values(&[host]).observe(0.1);
            metrics.tls_client_capabilities.with_label_values(&[host, Capability::ALL[1].label()]).inc();
            metrics.tls_client_hellos.with_label_values(&[host]).inc();
            metrics.tls_established_without_request.with_label_values(&[host]).inc();
            let failed = [host, Reason::NoSharedVersion.label(), Blame::Policy.label()];
            metrics.tls_handshake_failures.with_label_values(&failed).inc();
            metrics.tls_handshakes.with_label_values(&[host, Version::Tls12.label(), "true"]).inc();
            metrics.tls_hello_retry_requests.with_label_values(&[host]).inc();
            let lost = Verdict::Lost(Reason::NoSharedVersion).label();
            metrics.tls_shadow_handshakes.with_label_values(&[host, &lost]).inc();
        }
        let before = metrics.render();
        metrics.forget_host(&"a.example".parse().unwrap());
        let expected: Vec<&str> = before.lines().filter(|line| !line.contains("a.example")).collect();
        assert_eq!(metrics.render().lines().collect::<Vec<_>>(), expected);
        // All that has a series for each host: gauges go where they are set.
        let of_hosts = |about: &&About| about.labels.iter().any(|label| label == "host") && about.kind != "gauge";
        for About { name, .. } in metrics.about().iter().filter(of_hosts) {
            assert!(before.lines().any(|line| line.starts_with(name) && line.contains("a.example")), "{name}");
        }
    }

    #[test]
    fn every_metric_has_a_type_a_sentence_and_labels_with_known_values() {
        let metrics = Metrics::default();
        assert!(metrics.about().len() > 35);
        for About { name, kind, help, labels } in metrics.about() {
            assert!(help.ends_with('.'), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}: {kind}");
            for label in labels {
                assert!(values(name, label).is_some(), "{name}: {label}");
            }
        }
        assert_eq!(values("handfast_panics_total", "nobody"), None);
    }
}
