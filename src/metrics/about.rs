//! What is to be said about each metric, and which values its labels take: for docs/metrics.md.
//!
//! `registered metrics ──▶ About: name, type, help, labels ──▶ Values`
//!
//! The values come from the enums that are counted. Words that no enum has are listed here, and the code that counts takes
//! them from here.

use prometheus::core::Collector;
use prometheus::proto::MetricType;

use crate::proxy::upstream::UpstreamFailure;
use crate::snapshot::{Serving, Traffic};
use crate::status::{Outcome, Target, Told};
use crate::tls::capabilities::Capability;
use crate::tls::policy::{Group, Suite};
use crate::tls::reason::{Blame, Reason};
use crate::tls::{Severity, Version};
use crate::webhook;

/// A value of `direction`: the alert is ours.
pub const SENT: &str = "sent";

/// A value of `direction`: the alert is the client's.
pub const RECEIVED: &str = "received";

/// A value of `outcome`: the handshake is complete.
pub const COMPLETED: &str = "completed";

/// A value of `outcome`: the handshake has failed.
pub const FAILED: &str = "failed";

/// A value of `outcome`: the connection ended before its first byte.
pub const PROBE: &str = "probe";

/// What of a watch fails: the list before it, its start, its stream; or the server ends it: with an error, because its
/// memory does not reach back that far, or with an answer without a version; or its task ends, by a bug of ours.
pub(super) const WATCH_FAILURES: [&str; 7] = ["bug", "expired", "list", "server", "start", "stream", "version"];

/// A value of `kind`: Events.
pub const EVENT: &str = "event";

/// The values of `places`: what they are for.
pub mod places {
    /// Connections to the HTTP listener.
    pub const HTTP: &str = "http";
    /// Connections to the HTTPS listener.
    pub const HTTPS: &str = "https";
    /// TLS handshakes in progress.
    pub const HANDSHAKES: &str = "handshakes";
    /// Connections to the admin listener that have not asked for a page yet.
    pub const ADMIN: &str = "admin";
    /// Pages of the admin listener.
    pub const ADMIN_PAGES: &str = "admin-pages";
    /// Probes: /healthz and /readyz.
    pub const ADMIN_PROBES: &str = "admin-probes";
    /// Connections to the admission webhook.
    pub const WEBHOOK: &str = "webhook";
    /// Bodies of reviews that the webhook holds.
    pub const WEBHOOK_BODIES: &str = "webhook-bodies";

    /// All of them.
    pub const ALL: [&str; 8] = [ADMIN, ADMIN_PAGES, ADMIN_PROBES, HANDSHAKES, HTTP, HTTPS, WEBHOOK, WEBHOOK_BODIES];
}

/// What becomes of the wish to resume a session: granted, not granted, not uttered.
pub const RESUMPTIONS: [&str; 3] = ["resumed", "missed", "not-asked"];

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it measures.
    pub help: String,
    /// Its labels, in their order.
    pub labels: Vec<String>,
}

/// What a label can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// What the configuration or the machine has, or words that are listed elsewhere.
    Named(&'static str),
    /// One of these.
    Words(Vec<String>),
}

impl About {
    pub(super) fn of(metric: &impl Collector) -> Vec<Self> {
        // A vector without series has a family all the same, and with it its type.
        let kind = metric.collect().first().map(|family| match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        });
        let about = |desc: &&prometheus::core::Desc| About {
            name: desc.fq_name.clone(),
            kind: kind.unwrap_or("untyped"),
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
        };
        metric.desc().iter().map(about).collect()
    }
}

/// What a label of a metric can be; `None` if there is no such label.
pub fn values(metric: &str, label: &str) -> Option<Values> {
    let words = |words: &[&str]| Values::Words(words.iter().map(|word| (*word).to_owned()).collect());
    Some(match (label, metric) {
        ("alert", _) => Values::Named("an alert as RFC 8446 section 6 names it; unknown for others"),
        ("blame", _) => words(&Blame::ALL.map(Blame::label)),
        ("capability", _) => words(&Capability::ALL.map(Capability::label)),
        ("cause", _) => words(&WATCH_FAILURES),
        ("code", _) => Values::Named("a status code of HTTP"),
        ("direction", _) => words(&[SENT, RECEIVED]),
        ("finding", _) => Values::Named("a code of docs/findings.md about certificates"),
        ("group", _) => words(&Group::ALL.map(Group::name)),
        ("host", _) => {
            Values::Named("a host of the configuration; * for rules without a host, empty where there is none")
        }
        ("kind", "handfast_webhook_requests_total") => {
            words(&webhook::review::Kind::ALL.map(webhook::review::Kind::code))
        }
        (
            "kind",
            "handfast_watch_errors_total"
            | "handfast_watch_events_total"
            | "handfast_watch_relists_total"
            | "handfast_watch_stale_seconds",
        ) => words(&["EndpointSlice", "Ingress", "IngressClass", "Namespace", "Secret", "Service", "TlsPolicy"]),
        ("kind", "handfast_status_queue_length") => words(&[Target::Ingress.label(), Target::TlsPolicy.label(), EVENT]),
        ("kind", _) => words(&Target::ALL.map(Target::label)),
        ("lease", _) => Values::Named("namespace and name of the Lease that decides"),
        ("listener", _) => words(&["http", "https"]),
        ("namespace" | "secret", _) => Values::Named("of a Secret that is served"),
        ("outcome", "handfast_compile_units_total") => words(&["built", "reused"]),
        ("outcome", "handfast_events_total") => words(&Told::ALL.map(Told::label)),
        ("outcome", "handfast_status_writes_total") => words(&Outcome::ALL.map(Outcome::label)),
        ("outcome", "handfast_tls_handshake_duration_seconds") => words(&[COMPLETED, FAILED, PROBE]),
        ("outcome", "handfast_tls_session_resumptions_total") => words(&RESUMPTIONS),
        ("outcome", "handfast_tls_shadow_handshakes_total") => Values::Named(
            "kept, gained, failing, or lost- with a code of docs/handshake-failures.md: lost-no-shared-version",
        ),
        ("outcome", "handfast_webhook_requests_total") => {
            words(&webhook::judge::Outcome::ALL.map(webhook::judge::Outcome::code))
        }
        ("outcome", "handfast_worker_tls_connections_ended_total") => words(&[COMPLETED, FAILED, PROBE]),
        ("places", _) => words(&places::ALL),
        ("position", _) => Values::Named("a number: 0 is the leaf"),
        ("reason", "handfast_diagnostics") => Values::Named("a code of docs/findings.md"),
        ("reason", "handfast_http_connections_refused_total") => {
            words(&[Reason::Overloaded, Reason::ProxyHeaderMissing].map(Reason::label))
        }
        ("reason", "handfast_tls_handshake_failures_total") => Values::Named("a code of docs/handshake-failures.md"),
        ("reason", "handfast_upstream_failures_total") => words(&UpstreamFailure::ALL.map(UpstreamFailure::label)),
        ("resumed", _) => words(&["true", "false"]),
        ("severity", _) => words(&[Severity::Error, Severity::Warning, Severity::Info].map(Severity::code)),
        ("state", "handfast_host_traffic") => words(&Traffic::ALL.map(Traffic::code)),
        ("state", _) => words(&Serving::ALL.map(Serving::code)),
        ("suite", _) => words(&Suite::ALL.map(Suite::iana)),
        ("unit", _) => words(&["backend", "host", "ingress", "tls"]),
        ("version", "handfast_build_info") => Values::Named("the version of Handfast"),
        ("version", _) => words(&[Version::Tls12, Version::Tls13].map(Version::label)),
        ("worker", _) => Values::Named("a number, from 0"),
        _ => return None,
    })
}
