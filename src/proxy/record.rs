//! What is written down about each TLS connection: exactly one outcome, and for failures an example for people.
//!
//! ```text
//! accept ──HandshakeRecord──▶ completed | failed | probe ──▶ Metrics
//!                                 └─ Unused   └──────────────▶ Failures, debug log
//! ```
//!
//! A record that is dropped without an outcome has been ended by us, or by a fault of ours, and counts as that. A completed handshake has a
//! second witness, [`Unused`], until the client sends its first byte: some clients reject a certificate by leaving then.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use prometheus::IntCounter;
use rustls::AlertDescription;
use rustls::pki_types::UnixTime;
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, enabled};

use super::handshake::{Handshake, Trace};
use crate::failures::{Failure, Failures, Served};
use crate::mask::ClientAddresses;
use crate::metrics::{COMPLETED, FAILED, Metrics, PROBE, RECEIVED, RESUMPTIONS, SENT};
use crate::places::Notice;
use crate::snapshot::HostName;
use crate::tls::alert;
use crate::tls::capabilities::capabilities;
use crate::tls::offer::{NamedServer, Offer};
use crate::tls::policy::{Group, Suite};
use crate::tls::preflight::{self, Explanation};
use crate::tls::reason::{Blame, Reason};
use crate::tls::rejection::{self, Rejection};
use crate::tls::shadow::{self, Verdict};

/// Where everything that is to be known about TLS connections goes.
#[derive(Clone)]
pub struct Observers {
    /// Counters.
    pub metrics: Metrics,
    /// Examples of failures.
    pub failures: Arc<Failures>,
    /// Examples of clients that a shadow policy would lock out.
    pub lost: Arc<Failures>,
    /// Tells the time of day.
    pub clock: fn() -> SystemTime,
    /// Whether addresses of clients are shown whole.
    pub addresses: ClientAddresses,
}

impl Observers {
    /// For so many workers, with nothing recorded.
    pub fn new(metrics: Metrics, workers: usize, clock: fn() -> SystemTime) -> Self {
        let store = || Arc::new(Failures::new(workers));
        Self { metrics, failures: store(), lost: store(), clock, addresses: ClientAddresses::Whole }
    }

    /// What one worker writes to.
    pub(super) fn worker(&self, index: usize) -> Observer {
        let number = index.to_string();
        let count = |outcome: &str| self.metrics.worker_tls_ended.with_label_values(&[number.as_str(), outcome]);
        Observer {
            accepted: self.metrics.worker_tls_accepted.with_label_values(&[number.as_str()]),
            completed: count(COMPLETED),
            failed: count(FAILED),
            probes: count(PROBE),
            observers: self.clone(),
            index,
        }
    }
}

/// The same for one worker.
pub struct Observer {
    observers: Observers,
    index: usize,
    accepted: IntCounter,
    completed: IntCounter,
    failed: IntCounter,
    probes: IntCounter,
}

/// Records the outcome of one TLS connection exactly once: what is not told otherwise by the time of its end has been
/// ended by us, or by a fault of ours.
pub struct HandshakeRecord {
    observer: Arc<Observer>,
    peer: IpAddr,
    started: Instant,
    recorded: bool,
}

impl HandshakeRecord {
    /// A connection has been accepted.
    #[inline(never)]
    pub fn new(observer: Arc<Observer>, peer: IpAddr) -> Self {
        observer.accepted.inc();
        observer.observers.metrics.tls_connections_accepted.inc();
        observer.observers.metrics.tls_handshakes_in_progress.inc();
        Self { observer, peer, started: Instant::now(), recorded: false }
    }

    /// The handshake is complete.
    #[inline(never)]
    pub fn complete<S>(&mut self, handshake: &Handshake<S>, client: IpAddr) {
        let metrics = &self.observer.observers.metrics;
        let trace = &handshake.trace;
        let host = metrics.host_label(trace.host.as_deref());
        let resumed = if handshake.resumed { "true" } else { "false" };
        metrics.tls_handshakes.with_label_values(&[host, handshake.version.label(), resumed]).inc();
        let (suite, group) = handshake.parameters;
        if let Some(suite) = Suite::ALL.into_iter().find(|known| known.code() == suite) {
            metrics.tls_cipher_suites.with_label_values(&[suite.iana()]).inc();
        }
        if let Some(group) = group.and_then(Group::of_code) {
            metrics.tls_groups.with_label_values(&[group.name()]).inc();
        }
        let asked = trace.offer.as_ref().is_some_and(|offer| offer.asks_to_resume());
        let [granted, missed, not_asked] = RESUMPTIONS;
        let outcome = match (handshake.resumed, asked) {
            (true, _) => granted,
            (false, true) => missed,
            (false, false) => not_asked,
        };
        metrics.tls_session_resumptions.with_label_values(&[outcome]).inc();
        self.observer.observe_hello(trace, client);
        self.observer.completed.inc();
        self.finish(COMPLETED);
    }

    /// The handshake has failed.
    pub fn fail(&mut self, reason: Reason, trace: Trace, client: IpAddr, cause: Option<io::Error>) {
        let observer = self.observer.clone();
        let Observers { metrics, failures, .. } = &observer.observers;
        let failure = self.observer.explained(reason, &trace, client, cause.as_ref());
        let labels = [metrics.host_label(trace.host.as_deref()), reason.label(), failure.blame.label()];
        metrics.tls_handshake_failures.with_label_values(&labels).inc();
        for (direction, alert) in [(SENT, trace.alert_sent), (RECEIVED, trace.alert_received)] {
            if let Some(alert) = alert {
                metrics.tls_alerts.with_label_values(&[direction, alert::name(alert)]).inc();
            }
        }
        self.observer.observe_hello(&trace, client);
        self.observer.failed.inc();
        self.finish(FAILED);
        self.observer.log(&failure, cause.as_ref(), "A TLS handshake failed.");
        failures.record(self.observer.index, Failure { offer: trace.offer, ..failure });
    }

    /// The connection ended before its first byte.
    pub fn probe(&mut self) {
        self.observer.observers.metrics.tls_probes.inc();
        self.observer.probes.inc();
        self.finish(PROBE);
    }

    fn finish(&mut self, outcome: &str) {
        debug_assert!(!self.recorded, "invariant: one outcome per connection");
        self.recorded = true;
        let metrics = &self.observer.observers.metrics;
        metrics.tls_handshakes_in_progress.dec();
        let elapsed = self.started.elapsed().as_secs_f64();
        metrics.tls_handshake_duration.with_label_values(&[outcome]).observe(elapsed);
    }
}

impl Drop for HandshakeRecord {
    fn drop(&mut self) {
        if !self.recorded {
            let reason = if std::thread::panicking() { Reason::Internal } else { Reason::ShutDown };
            self.fail(reason, Trace::default(), self.peer, None);
        }
    }
}

impl Observer {
    /// Counts what the client can do, and asks the shadow policy what it would have done.
    #[inline(never)]
    fn observe_hello(&self, trace: &Trace, client: IpAddr) {
        let Observers { metrics, lost, .. } = &self.observers;
        if trace.hello_size > 0 {
            metrics.tls_client_hello_size.observe(trace.hello_size as f64);
        }
        // Without a configuration there is no host of ours to count it for.
        let (Some(offer), Some(tls)) = (&trace.offer, &trace.tls) else { return };
        let host = metrics.host_label(trace.host.as_deref());
        metrics.tls_client_hellos.with_label_values(&[host]).inc();
        for capability in capabilities(offer) {
            metrics.tls_client_capabilities.with_label_values(&[host, capability.label()]).inc();
        }
        if trace.retried {
            metrics.tls_hello_retry_requests.with_label_values(&[host]).inc();
        }
        let Some(shadow) = trace.host.as_deref().and_then(|host| host.shadow.as_deref()) else { return };
        let verdict = shadow::judge(&shadow.policy, tls.credentials(), offer, trace.agreed);
        metrics.tls_shadow_handshakes.with_label_values(&[host, &verdict.label()]).inc();
        match verdict {
            Verdict::Failing | Verdict::Gained | Verdict::Kept => {}
            Verdict::Lost(reason) => {
                let Explanation { blame, remedy } =
                    preflight::explain(reason, &shadow.policy, tls.credentials(), offer);
                let detail = format!("the shadow policy {} would refuse this client", shadow.name);
                let failure = Failure {
                    alert_sent: None,
                    alert_received: None,
                    offer: Some(offer.clone()),
                    ..self.failure(reason, trace, client, (self.observers.clock)(), (blame, detail, remedy))
                };
                lost.record(self.index, failure);
            }
        }
    }

    /// A failure with whose fault it is, what else is known, and what to do.
    fn explained(&self, reason: Reason, trace: &Trace, client: IpAddr, cause: Option<&io::Error>) -> Failure {
        let time = (self.observers.clock)();
        self.failure(reason, trace, client, time, explain(reason, trace, time, cause))
    }

    /// A failure with everything but the offer.
    fn failure(
        &self,
        reason: Reason,
        trace: &Trace,
        client: IpAddr,
        time: SystemTime,
        (blame, detail, remedy): (Blame, String, String),
    ) -> Failure {
        let summary = trace.tls.as_ref().map(|tls| tls.summary_of(trace.credential));
        Failure {
            time,
            client: self.observers.addresses.show(client).to_string().into(),
            server_name: sent_name(trace),
            host: trace.host.as_ref().map(|host| host.name.clone()),
            reason,
            blame,
            alert_sent: trace.alert_sent,
            alert_received: trace.alert_received,
            offer: None,
            served: summary
                .filter(|_| trace.answered)
                .map(|summary| Served { fingerprint: summary.fingerprint.clone(), key: summary.key.clone() }),
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }

    fn log(&self, failure: &Failure, cause: Option<&io::Error>, message: &'static str) {
        if !enabled!(Level::DEBUG) {
            return;
        }
        debug!(
            client = %failure.client,
            server_name = failure.server_name.as_deref().unwrap_or_default(),
            host = failure.host.as_ref().map_or("", |host| host.label()),
            reason = failure.reason.label(),
            blame = failure.blame.label(),
            alert_sent = failure.alert_sent.map(alert::name),
            alert_received = failure.alert_received.map(alert::name),
            detail = &*failure.detail,
            remedy = &*failure.remedy,
            cause = cause.map(tracing::field::display),
            "{message}"
        );
    }
}

/// Who must act, what else is known, and what to do.
fn explain(reason: Reason, trace: &Trace, time: SystemTime, cause: Option<&io::Error>) -> (Blame, String, String) {
    let cause = || cause.map(ToString::to_string).unwrap_or_default();
    let Some(tls) = &trace.tls else {
        let known = trace.offer.as_deref().map(|offer| offered(reason, offer)).filter(|text| !text.is_empty());
        return (reason.blame(), known.unwrap_or_else(cause), reason.remedy().to_owned());
    };
    if !trace.agreed
        && let Some(offer) = &trace.offer
    {
        let Explanation { blame, remedy } = preflight::explain(reason, tls.policy(), tls.credentials(), offer);
        return (blame, offered(reason, offer), remedy);
    }
    if trace.resumed && reason.may_be_rejection() {
        // A certificate that was accepted before, and not shown again, is no cause.
        let detail = "the session was resumed, so no certificate was shown".to_owned();
        let remedy = "nothing, unless it happens often: then the client, or a device in front of it, gives up early";
        return (Blame::Client, detail, remedy.to_owned());
    }
    let elapsed = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(elapsed);
    let rejection = rejection::explain(reason, tls.summary_of(trace.credential), trace.server_name.as_deref(), now);
    let (blame, mut detail, remedy) = match rejection {
        Some(Rejection { blame, detail, remedy }) => (blame, detail, remedy),
        None => (reason.blame(), cause(), reason.remedy().to_owned()),
    };
    let further = match reason {
        Reason::ClosedInHello | Reason::ResetInHello | Reason::TimeoutInHello if trace.retried => {
            "the client was asked for another key share (HelloRetryRequest) and did not answer"
        }
        Reason::ClosedAfterCertificate | Reason::ResetAfterCertificate
            if tls.policy().settings().client_auth.is_some() =>
        {
            "the client was asked for a certificate"
        }
        _ => "",
    };
    if !further.is_empty() {
        detail = if detail.is_empty() { further.to_owned() } else { format!("{detail}; {further}") };
    }
    (blame, detail, remedy)
}

/// The server name that the client sent, whether or not it can be one.
fn sent_name(trace: &Trace) -> Option<Box<str>> {
    match trace.offer.as_deref().map(|offer| &offer.server_name) {
        Some(NamedServer::Address(address)) => Some(address.to_string().into()),
        Some(NamedServer::Malformed(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(NamedServer::Absent | NamedServer::Name(_)) | None => trace.server_name.as_deref().map(Into::into),
    }
}

/// What of an offer a reason is about.
fn offered(reason: Reason, offer: &Offer) -> String {
    match reason {
        Reason::NoSharedVersion => {
            format!("the client's newest version is {}", crate::tls::clients::version_words(offer.newest_version()))
        }
        Reason::MalformedServerName | Reason::NoServerName => match &offer.server_name {
            NamedServer::Address(_) => "an address is not a server name and is ignored (RFC 6066 section 3)".to_owned(),
            NamedServer::Malformed(text) if text.is_empty() => "the list of server names has no host name".to_owned(),
            NamedServer::Malformed(text) if text.ends_with('…') => "it has more than 253 characters".to_owned(),
            NamedServer::Malformed(text) => match HostName::asked_for(text) {
                Err(error) => error.to_string(),
                // Ours is the more patient rule.
                Ok(_) => "the last label is a number, as in an address".to_owned(),
            },
            NamedServer::Absent | NamedServer::Name(_) => String::new(),
        },
        _ => String::new(),
    }
}

/// A completed handshake whose client has not sent a byte. Unless it does, this is recorded when it is dropped.
pub struct Unused {
    observer: Arc<Observer>,
    trace: Trace,
    client: IpAddr,
    /// We are ending connections ourselves.
    drain: CancellationToken,
    /// We are ending this one.
    notice: Notice,
    used: bool,
}

impl Unused {
    /// A handshake has been completed.
    pub(super) fn new(
        observer: Arc<Observer>,
        trace: Trace,
        client: IpAddr,
        drain: CancellationToken,
        notice: Notice,
    ) -> Self {
        Self { observer, trace, client, drain, notice, used: false }
    }

    /// The client has sent something.
    pub(super) fn used(&mut self) {
        self.used = true;
    }

    /// The client has ended the connection with an alert.
    pub(super) fn left_with(&mut self, alert: AlertDescription) {
        self.trace.alert_received = Some(alert);
        let metrics = &self.observer.observers.metrics;
        metrics.tls_alerts.with_label_values(&[RECEIVED, alert::name(alert)]).inc();
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if self.used || self.drain.is_cancelled() || self.notice.is_told() {
            return;
        }
        let Observers { metrics, failures, .. } = &self.observer.observers;
        let host = metrics.host_label(self.trace.host.as_deref());
        metrics.tls_established_without_request.with_label_values(&[host]).inc();
        let failure = self.observer.explained(Reason::EstablishedWithoutRequest, &self.trace, self.client, None);
        self.observer.log(&failure, None, "A TLS connection ended without a request.");
        failures.record(self.observer.index, Failure { offer: self.trace.offer.take(), ..failure });
    }
}
