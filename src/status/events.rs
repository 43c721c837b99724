//! Events: what is wrong, told where people look when something does not work (`kubectl describe ingress`).
//!
//! ```text
//! diagnostics ──difference──▶ Book ──worst first, as many as tokens──▶ Teller ──▶ events.k8s.io
//! ```
//!
//! An Event is told on the Ingress concerned, and about a TlsPolicy on the policy as well; never on a Secret, where nobody
//! looks, and where other controllers do. Errors and warnings are Warning; what is merely worth knowing is Normal, so that
//! whoever alerts on Warnings is not woken by it. The solution of a problem that was told is told as well, as Normal, since
//! the Event about the problem stays to be seen for an hour.
//!
//! New kinds of failed handshakes are told as well, where a certificate or a policy is to blame.
//!
//! There are limits in all and for each object. What they leave out is one line in the log, which has every diagnostic
//! anyway. A problem of something that many Ingresses share is told on a few of them.
//!
//! The name of an Event is made of what it says, so a replica that begins to lead finds what another has told (409), and
//! does not tell it again; what appears again later becomes a series, as with client-go. `kube`'s own recorder gives every
//! Event a new name, remembers in memory alone, and has no limits, so it is not used.

mod book;
mod tell;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::mpsc;

pub(super) use self::book::Book;
pub(super) use self::tell::Teller;
use super::conditions::cut;
use crate::compile::{Diagnostic, Effect, Kind, ObjectKey, Severity, event_reason};
use crate::failures::summary::Line;
use crate::snapshot::{HostName, Snapshot};
use crate::tls::about::sentence;
use crate::tls::reason::{Blame, Reason};

/// Who tells (`reportingController`).
const CONTROLLER: &str = "handfast.dev/ingress-controller";

/// The longest note that the API takes.
const NOTE: usize = 1024;

/// What became of an Event that was to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is new.
    Written,
    /// It was there, and counts one more.
    Repeated,
    /// It was there, told by another replica or another process.
    Known,
    /// There were too many.
    Dropped,
    /// The API server did not take it.
    Failed,
}

impl Told {
    /// All of them.
    pub const ALL: [Told; 5] = [Told::Written, Told::Repeated, Told::Known, Told::Dropped, Told::Failed];

    /// The word used in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Told::Written => "written",
            Told::Repeated => "repeated",
            Told::Known => "known",
            Told::Dropped => "dropped",
            Told::Failed => "failed",
        }
    }
}

/// Something to be told that is no diagnostic.
#[derive(Clone, Debug)]
pub(super) enum Remark {
    /// Another controller keeps changing the status of this Ingress.
    Contested(ObjectKey),
    /// Handshakes for this host fail, for a reason that whoever owns the Ingress can do something about.
    Handshakes { host: HostName, reason: Reason, remedy: Box<str> },
}

/// Takes what is to be told beside diagnostics. If this replica does not lead, or there is too much of it, it is not told;
/// the log has it.
#[derive(Clone, Debug)]
pub struct Remarks(pub(super) mpsc::Sender<Remark>);

impl Remarks {
    /// A kind of failed handshakes, if the certificate or the policy of a host is to blame.
    pub fn handshakes(&self, line: &Line) {
        let (host, reason) = &line.kind;
        let is_ours = match line.newest.blame {
            Blame::Certificate | Blame::Policy => true,
            Blame::Client | Blame::Network | Blame::Server => false,
        };
        // An unknown name has the host that may be meant, which has nothing to do with it.
        if let Some(host) = host.clone().filter(|_| is_ours && *reason != Reason::UnknownHost) {
            let remark = Remark::Handshakes { host, reason: *reason, remedy: line.newest.remedy.clone() };
            let _ = self.0.try_send(remark);
        }
    }
}

/// How urgent a text is: the first is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Error,
    Warning,
    Solved,
    Info,
}

/// What an Event says, whichever object it is told on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) rank: Rank,
    pub(super) reason: String,
    /// What is done about it.
    pub(super) action: &'static str,
    pub(super) note: String,
    /// The object to repair, if it is another than the one that it is told on.
    pub(super) about: ObjectKey,
    /// Made of all of this: two texts that say the same have the same.
    pub(super) fingerprint: u64,
}

impl Text {
    fn new(rank: Rank, reason: String, action: &'static str, note: String, about: &ObjectKey) -> Self {
        let note = cut(note, NOTE);
        let fingerprint = fingerprint(&[&reason, action, &note, &about.to_string()]);
        Self { rank, reason, action, note, about: about.clone(), fingerprint }
    }

    /// What is to be said about a diagnostic.
    pub(super) fn of(diagnostic: &Diagnostic) -> Self {
        let Diagnostic { subject, problem, effect, field: _, hosts: _ } = diagnostic;
        let rank = match diagnostic.severity() {
            Severity::Error => Rank::Error,
            Severity::Warning => Rank::Warning,
            Severity::Info => Rank::Info,
        };
        let action = match effect {
            Effect::Default => "ServeDefaultCertificate",
            Effect::HostRefused => "RefuseHandshakes",
            Effect::LastGood => "ServeLastGood",
            Effect::None => "Serve",
            Effect::PolicyHeld => "HoldPolicy",
            Effect::Repaired => "ServeRepaired",
            Effect::RouteDropped => "DropRoute",
        };
        Self::new(rank, event_reason(problem.code()), action, note(diagnostic), subject)
    }

    /// That a problem is no longer there.
    pub(super) fn solved(diagnostic: &Diagnostic) -> Self {
        let Diagnostic { subject, field, problem, .. } = diagnostic;
        let note = format!("No longer a problem: {}{}", place(subject, field), sentence(problem));
        Self::new(Rank::Solved, format!("{}Solved", event_reason(problem.code())), "Serve", note, subject)
    }

    /// What is to be said about a remark, and where: on the oldest Ingress of a host.
    pub(super) fn remark(remark: &Remark, snapshot: &Snapshot) -> Option<(ObjectKey, Self)> {
        match remark {
            Remark::Contested(ingress) => {
                let note =
                    "Another controller keeps changing status.loadBalancer of this Ingress, so Handfast leaves it \
                            alone. Let only one controller serve its class, or run Handfast with --no-status."
                        .to_owned();
                let text = Self::new(Rank::Warning, "StatusContested".to_owned(), "LeaveStatus", note, ingress);
                Some((ingress.clone(), text))
            }
            Remark::Handshakes { host, reason, remedy } => {
                let (namespace, name) = snapshot.hosts.get(host.as_str())?.ingresses.first()?;
                let on = ObjectKey { kind: Kind::Ingress, namespace: namespace.clone(), name: name.clone() };
                let label = host.label();
                let note = format!("TLS handshakes for {label} fail ({}). What to do: {remedy}.", reason.label());
                let mut text = Self::new(Rank::Warning, event_reason(reason.label()), "RefuseHandshake", note, &on);
                // However the words differ from client to client, it is one story.
                text.fingerprint = fingerprint(&[&text.reason, label]);
                Some((on, text))
            }
        }
    }
}

/// What is to be said about a diagnostic, for people.
pub fn note(diagnostic: &Diagnostic) -> String {
    let Diagnostic { subject, field, problem, effect, hosts: _ } = diagnostic;
    let mut note = place(subject, field);
    // Writing to a String cannot fail.
    let _ = write!(note, "{}", sentence(problem));
    if *effect != Effect::None {
        let _ = write!(note, " Effect: {}.", effect.code());
    }
    let _ = write!(note, " What to do: {}.", problem.remedy());
    note
}

/// `Secret shop/tls tls.key: `; for an Ingress, which the Event is told on, the field alone.
fn place(subject: &ObjectKey, field: &str) -> String {
    match (subject.kind == Kind::Ingress, field.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!("{field}: "),
        (false, true) => format!("{subject}: "),
        (false, false) => format!("{subject} {field}: "),
    }
}

/// A number made of texts, the same in every process and version.
pub(super) fn fingerprint(texts: &[&str]) -> u64 {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    let digest = digest(&SHA256, &bytes);
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}
