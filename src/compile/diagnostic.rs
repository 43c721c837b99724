//! Everything that can be wrong with a configuration: data, not log lines.

use std::fmt;
use std::sync::Arc;

use crate::snapshot::{BadHostName, BadPath, HostName};
use crate::tls::about::About;
use crate::tls::chain::Finding;
use crate::tls::policy::parse::Unavailable;

use super::about;
use super::objects::ObjectKey;
use super::pattern;

pub use crate::tls::Severity;

/// One thing that is wrong, where it is, what it does to traffic, and which hosts it touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The object to repair.
    pub subject: ObjectKey,
    /// The field, as a path (`spec.rules[0].http.paths[1].path`); empty if it is the whole object.
    pub field: Box<str>,
    /// What is wrong.
    pub problem: Problem,
    /// What it does to traffic now.
    pub effect: Effect,
    /// Hosts that it touches, sorted; empty if none, or if it is not known.
    pub hosts: Vec<HostName>,
}

/// What a problem does to traffic; part of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The default certificate is served in place of the host's own.
    Default,
    /// Handshakes for the host are refused.
    HostRefused,
    /// The last usable version of the Secret is served.
    LastGood,
    /// Traffic is served as configured.
    None,
    /// Another policy is in force: the previous one, or without one a general one.
    PolicyHeld,
    /// Handfast serves a repaired form (for example, the chain in the right order).
    Repaired,
    /// The route answers 503, or does not exist.
    RouteDropped,
}

impl Effect {
    /// The word used in JSON and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Effect::Default => "default",
            Effect::HostRefused => "host-refused",
            Effect::LastGood => "last-good",
            Effect::None => "none",
            Effect::PolicyHeld => "policy-held",
            Effect::Repaired => "repaired",
            Effect::RouteDropped => "route-dropped",
        }
    }
}

/// What can be wrong. Closed; variants carry data, messages come from `Display`.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value of an annotation is wrong.
    #[error("{annotation}: {value:?} cannot be used: {error}")]
    BadAnnotation {
        /// With its prefix.
        annotation: String,
        /// As written.
        value: String,
        /// What is wrong with it.
        error: String,
    },
    /// A backend of an Ingress that names no Service port.
    #[error("the backend cannot be used: {error}")]
    BadBackend {
        /// What is wrong with it.
        error: BadBackend,
    },
    /// Parameters of an IngressClass that name no policy.
    #[error("the parameters of the class cannot be used: {error}")]
    BadClassParameters {
        /// What is wrong with them.
        error: String,
    },
    /// An endpoint that traffic is never sent to.
    #[error("endpoint {endpoint} is left out: {error}")]
    BadEndpoint {
        /// Address and port as written.
        endpoint: String,
        /// What is wrong with it.
        error: BadAddress,
    },
    /// An ExternalName Service whose target is never used.
    #[error("externalName {name:?} cannot be used: {error}")]
    BadExternalName {
        /// As written.
        name: String,
        /// What is wrong with it.
        error: BadAddress,
    },
    /// A host that is no host name.
    #[error("host {host:?} cannot be used: {error}")]
    BadHost {
        /// As written.
        host: String,
        /// What is wrong with it.
        error: BadHostName,
    },
    /// An Ingress path that cannot be matched.
    #[error("path {path:?} cannot be served: {error}")]
    BadPath {
        /// As written.
        path: String,
        /// What is wrong with it.
        error: BadPath,
    },
    /// A path type that does not exist.
    #[error("pathType {path_type:?} does not exist, or is missing")]
    BadPathType {
        /// As written.
        path_type: String,
    },
    /// A field of a TlsPolicy that cannot be put in force.
    #[error("the policy is not accepted: {error}")]
    BadTlsPolicy {
        /// What is wrong with the field.
        error: String,
    },
    /// A canary: it stands beside another Ingress, so it must not take that one's paths.
    #[error("{annotation}: canaries are not built, the Ingress claims nothing")]
    Canary {
        /// With its prefix.
        annotation: String,
    },
    /// A finding about a certificate chain or key.
    #[error("{0}")]
    Chain(Finding),
    /// An older Ingress has chosen another Secret for the host.
    #[error("Secret {secret} is not used for the host: {winner} is older and names {chosen}")]
    ConflictingSecrets {
        /// The Secret that is not used, or `the default certificate`.
        secret: String,
        /// The Ingress that counts.
        winner: ObjectKey,
        /// What that Ingress names.
        chosen: String,
    },
    /// An older Ingress sets the same for the host.
    #[error("{annotation} is not used for the host: {winner} is older and says something else")]
    ConflictingTlsSettings {
        /// With its prefix.
        annotation: String,
        /// The Ingress that counts.
        winner: ObjectKey,
    },
    /// Ingresses of several namespaces share the host.
    #[error("the host is shared with {oldest} of another namespace")]
    CrossNamespace {
        /// The oldest Ingress of the host.
        oldest: ObjectKey,
    },
    /// The same object is given twice; the first one counts.
    #[error("the object is defined again in {again}; the definition in {first} counts")]
    DuplicateObject {
        /// Scope whose definition counts.
        first: String,
        /// Scope whose definition is ignored.
        again: String,
    },
    /// A revocation list that says nothing about now.
    #[error(
        "the revocation list of {issuer}, in ca.crl of Secret {secret}, has expired on {since}, and certificates that {issuer} has issued cannot be verified by it"
    )]
    ExpiredRevocationList {
        /// Name of the Secret.
        secret: String,
        /// Whose list it is.
        issuer: String,
        /// When it expired (RFC 3339).
        since: String,
    },
    /// ExternalName Services are used only if the operator allows it.
    #[error("Services of type ExternalName are not allowed")]
    ExternalNameNotAllowed,
    /// The host belongs to another namespace.
    #[error("the host belongs to namespace {owner}, whose {oldest} is older")]
    HostOwnedElsewhere {
        /// The namespace that owns it.
        owner: String,
        /// The oldest Ingress of the host.
        oldest: ObjectKey,
    },
    /// A host of an Ingress with `tls` that none of its entries names.
    #[error("Host {host} is in none of the tls entries of the Ingress, so it is served over plain HTTP only")]
    HostWithoutTls {
        /// The host.
        host: HostName,
    },
    /// A TLS setting on a host where nothing takes it up.
    #[error("{annotation} has no effect on the host: {why}")]
    IneffectiveTlsSetting {
        /// With its prefix.
        annotation: String,
        /// What is missing.
        why: &'static str,
    },
    /// A document of a known kind does not have its kind's form.
    #[error("the document is not valid: {error}")]
    InvalidDocument {
        /// What is wrong.
        error: String,
    },
    /// Objects of a kind that the API server does not list.
    #[error("the API server does not list objects of kind {kind}: {error}")]
    KindNotWatched {
        /// The kind.
        kind: &'static str,
        /// What it says.
        error: String,
    },
    /// All manifests of a directory disappeared at once, which is an accident more often than a wish.
    #[error("all manifests vanished at once: what they held is kept until the directory has stayed empty for 30 s")]
    ManifestsVanished,
    /// An authority whose certificates cannot be looked up.
    #[error(
        "ca.crl of Secret {secret} has no list of {authority}, so certificates that {authority} has issued are refused"
    )]
    MissingRevocationList {
        /// Name of the Secret.
        secret: String,
        /// The authority.
        authority: String,
    },
    /// A kind that is written almost as one that is used.
    #[error("kind {kind} is not known, so the document is ignored: is {meant} meant?")]
    MisspeltKind {
        /// As written.
        kind: String,
        /// The kind that is used.
        meant: &'static str,
    },
    /// The default certificate is wanted, and there is none that can be served.
    #[error("the default certificate is asked for, and there is none that can be served")]
    NoDefaultCertificate,
    /// Nothing behind a Service port takes traffic.
    #[error("port {port} has no endpoint that takes traffic")]
    NoEndpoints {
        /// The port as the Ingress names it.
        port: String,
    },
    /// Chains are to be completed from a bundle that does not exist.
    #[error("chains are to be completed from a bundle, and none is given with --intermediates")]
    NoIntermediates,
    /// A directory without a single manifest.
    #[error("no manifests (*.yaml, *.yml or *.json) in the directory{}", not_read(folders))]
    NoManifests {
        /// Its sub-directories, which are not read.
        folders: Vec<String>,
    },
    /// A policy under which no handshake with the host's certificate can work.
    #[error("no handshake can work with this policy and the host's certificate: {why}")]
    NoWorkableVersion {
        /// Each version with its reason.
        why: String,
    },
    /// A file that is taken over without its removals, since something in it is broken.
    #[error("a document is broken or cut off, so nothing is removed; kept from before: {}", shortened(objects))]
    ObjectsKept {
        /// Objects that the file held before and does not hold now.
        objects: Vec<String>,
    },
    /// An Ingress of another controller.
    #[error("it belongs to {}, not to this controller, which does not serve it", describe_class(class))]
    OtherClass {
        /// The class that it names.
        class: Option<String>,
    },
    /// An annotation that the policy does not allow.
    #[error("{annotation} has no effect: TlsPolicy {policy} says allowOverrides: false")]
    OverrideNotAllowed {
        /// With its prefix.
        annotation: String,
        /// Namespace and name.
        policy: String,
    },
    /// Another rule claims the same path.
    #[error("{matches} path {path} is already claimed by {winner}")]
    PathConflict {
        /// `exact` or `prefix`.
        matches: &'static str,
        /// The path, normalised.
        path: String,
        /// The Ingress whose rule counts.
        winner: ObjectKey,
    },
    /// A path that is written as a pattern, and no annotation says so.
    #[error("Path {path:?} looks like a pattern. It is compared as it is written, so it matches nothing")]
    PatternPath {
        /// As written.
        path: String,
        /// What to write in its place.
        meant: String,
    },
    /// A second certificate of a kind that the host has already.
    #[error("Secret {secret} is not served: its key ({key}) is of the same kind as that of {first}")]
    RedundantCertificate {
        /// Namespace and name.
        secret: String,
        /// Namespace and name of the one that is served.
        first: String,
        /// The type of the key.
        key: String,
    },
    /// A shadow policy of which nothing can be learned.
    #[error("TlsPolicy {policy} is tried out in vain: each client's hello comes to the same under the policy in force")]
    RedundantShadowPolicy {
        /// Namespace and name.
        policy: String,
    },
    /// A certificate that could be served and that the policy of the host rejects.
    #[error("the certificate is not served: the policy of the host rejects {codes}")]
    RejectedByPolicy {
        /// The findings.
        codes: String,
    },
    /// A client that has to connect cannot.
    #[error("the required client {client} cannot connect: {why}")]
    RequiredClientLockedOut {
        /// Its id.
        client: &'static str,
        /// What is in its way.
        why: String,
    },
    /// A backend that is not a Service.
    #[error("backends of kind {kind} are not built, only Services")]
    ResourceBackend {
        /// Its kind.
        kind: String,
    },
    /// An annotation that keeps requests away in a way that is not built.
    #[error("{annotation} restricts or rewrites requests in a way that is not built, so its routes are closed")]
    RestrictingAnnotation {
        /// With its prefix.
        annotation: String,
    },
    /// A Secret that does not exist.
    #[error("Secret {secret} does not exist")]
    SecretNotFound {
        /// Namespace and name.
        secret: String,
    },
    /// A Service that does not exist.
    #[error("Service {service} does not exist")]
    ServiceNotFound {
        /// Namespace and name.
        service: String,
    },
    /// A port that the Service does not have.
    #[error("Service {service} has no TCP port {port:?}")]
    ServicePortNotFound {
        /// Namespace and name.
        service: String,
        /// The port as the Ingress names it.
        port: String,
    },
    /// A host in `tls` that no rule of the Ingress uses.
    #[error("no rule of the Ingress uses host {host}, so its certificate is not served")]
    TlsHostWithoutRule {
        /// The host.
        host: HostName,
    },
    /// The policy that is asked for is wrong in itself.
    #[error("TlsPolicy {policy} is not accepted")]
    TlsPolicyNotAccepted {
        /// Namespace and name.
        policy: String,
    },
    /// A policy that does not exist.
    #[error("TlsPolicy {policy} does not exist")]
    TlsPolicyNotFound {
        /// Namespace and name.
        policy: String,
    },
    /// TLS settings for rules that have no host: there is no name to choose them by.
    #[error(
        "{annotation} has no effect on rules without a host: the default certificate answers them, under its own policy"
    )]
    TlsSettingsWithoutHost {
        /// With its prefix.
        annotation: String,
    },
    /// A Secret for rules that have no host: there is no name to choose it by.
    #[error("Secret {secret} is not used: rules without a host are served with the default certificate")]
    TlsWithoutHost {
        /// Namespace and name.
        secret: String,
    },
    /// More certificates than any host can use.
    #[error("the host has more than {limit} tls entries: the first {limit} count")]
    TooManyCertificates {
        /// How many count.
        limit: usize,
    },
    /// An annotation with one of our prefixes and a name that does not exist.
    #[error("{annotation} is not known{}", nearest.as_ref().map(|name| format!(": is {name} meant?")).unwrap_or_default())]
    UnknownAnnotation {
        /// With its prefix.
        annotation: String,
        /// The known name that is written most alike, with its prefix.
        nearest: Option<String>,
    },
    /// A field that its kind does not have.
    #[error("unknown field {name:?}: the API server would refuse it")]
    UnknownField {
        /// The field's path within the document.
        name: String,
    },
    /// An IngressClass that does not exist.
    #[error("IngressClass {class} does not exist, so the Ingress is not served")]
    UnknownIngressClass {
        /// Its name.
        class: String,
    },
    /// A document of a kind that is not used.
    #[error("{kind} objects are not used: the document is ignored")]
    UnknownKind {
        /// apiVersion and kind as written.
        kind: String,
    },
    /// A source's directory that cannot be read any more.
    #[error("the directory cannot be read: {error}")]
    UnreadableDirectory {
        /// What the system says.
        error: String,
    },
    /// A file that cannot be read or is no YAML or JSON.
    #[error("the file cannot be used: {error}")]
    UnreadableFile {
        /// What is wrong.
        error: String,
    },
    /// Suites behind an alias such as `HIGH` that are not served.
    #[error("{} behind aliases cannot be served ({}); what is left: {left}", counted(names.len(), "cipher suite"), shortened(names))]
    UnservedByAlias {
        /// Their names.
        names: Arc<[String]>,
        /// What is served.
        left: String,
    },
    /// Names of versions, suites, groups or protocols that are asked for and cannot be served.
    #[error("not everything that is named can be served; {}; what is left: {left}", each(names))]
    UnservedTlsNames {
        /// Each name with its reason.
        names: Arc<[Unavailable]>,
        /// What is served.
        left: String,
    },
    /// A known annotation without effect.
    #[error("{annotation} has no effect")]
    UnsupportedAnnotation {
        /// With its prefix.
        annotation: String,
    },
    /// A policy that demands certificates of clients, of an Ingress that does not choose the policy of the host.
    #[error(
        "{annotation} demands certificates of clients, and the policy of the host, which {winner} chooses, does not: its routes are closed"
    )]
    UnenforcedTlsPolicy {
        /// With its prefix, or who names the policy.
        annotation: String,
        /// The oldest Ingress of the host.
        winner: ObjectKey,
    },
    /// A Secret whose `ca.crt` cannot verify clients.
    #[error("the policy is not accepted: certificates of clients cannot be verified with Secret {secret}: {error}")]
    UnusableClientCa {
        /// Its name.
        secret: String,
        /// What is wrong with it.
        error: String,
    },
    /// A Secret whose `ca.crl` holds no lists that can be used.
    #[error("the policy is not accepted: ca.crl of Secret {secret} cannot be used: {error}")]
    UnusableRevocationList {
        /// Its name.
        secret: String,
        /// What is wrong with it.
        error: String,
    },
    /// A shadow policy that cannot be tried out.
    #[error("TlsPolicy {policy} is not tried out: {why}")]
    UnusableShadowPolicy {
        /// Namespace and name.
        policy: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A version that is on and that cannot work with one of the host's certificates.
    #[error("{why}")]
    UnworkableVersion {
        /// The version, the key, and the reason.
        why: String,
    },
}

/// Names for a message: all, or the first ones and how many more.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 suite`, `2 suites`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Every name with its reason.
fn each(names: &[Unavailable]) -> String {
    const SHOWN: usize = 20;
    let mut words: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    if names.len() > SHOWN {
        words.push(format!("and {} more", names.len() - SHOWN));
    }
    words.join("; ")
}

fn not_read(folders: &[String]) -> String {
    if folders.is_empty() { String::new() } else { format!("; sub-directories are not read: {}", shortened(folders)) }
}

/// Why a backend of an Ingress names no Service port.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBackend {
    /// Both a name and a number, or a Service and a resource.
    #[error("it names two things where only one may stand")]
    Both,
    /// No Service.
    #[error("it names no Service")]
    NoService,
    /// Neither name nor number.
    #[error("it names no port")]
    NoPort,
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
}

/// Why an address is never connected to.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// Link-local: metadata services of clouds live there.
    #[error("it is a link-local address")]
    LinkLocal,
    /// Loopback: Handfast's own listeners, among others.
    #[error("it is a loopback address, which would lead back to Handfast's own machine")]
    Loopback,
    /// Multicast or broadcast.
    #[error("it is a multicast or broadcast address")]
    Multicast,
    /// No name that could be resolved.
    #[error("it is not a host name: {0}")]
    Name(BadHostName),
    /// No IP address.
    #[error("it is not an IP address")]
    NotAnAddress,
    /// A number outside 1 to 65535.
    #[error("port {0} is not between 1 and 65535")]
    PortRange(i32),
    /// `0.0.0.0` or `::`.
    #[error("it is the unspecified address")]
    Unspecified,
}

impl Problem {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::BadAnnotation { .. } => "bad-annotation",
            Problem::BadBackend { .. } => "bad-backend",
            Problem::BadClassParameters { .. } => "bad-class-parameters",
            Problem::BadEndpoint { .. } => "bad-endpoint",
            Problem::BadExternalName { .. } => "bad-external-name",
            Problem::BadHost { .. } => "bad-host",
            Problem::BadPath { .. } => "bad-path",
            Problem::BadPathType { .. } => "bad-path-type",
            Problem::BadTlsPolicy { .. } => "bad-tls-policy",
            Problem::Canary { .. } => "canary",
            Problem::Chain(finding) => finding.code(),
            Problem::ConflictingSecrets { .. } => "conflicting-secrets",
            Problem::ConflictingTlsSettings { .. } => "conflicting-tls-settings",
            Problem::CrossNamespace { .. } => "cross-namespace",
            Problem::DuplicateObject { .. } => "duplicate-object",
            Problem::ExpiredRevocationList { .. } => "expired-revocation-list",
            Problem::ExternalNameNotAllowed => "external-name-not-allowed",
            Problem::HostOwnedElsewhere { .. } => "host-owned-elsewhere",
            Problem::HostWithoutTls { .. } => "host-without-tls",
            Problem::IneffectiveTlsSetting { .. } => "ineffective-tls-setting",
            Problem::InvalidDocument { .. } => "invalid-document",
            Problem::KindNotWatched { .. } => "kind-not-watched",
            Problem::ManifestsVanished => "manifests-vanished",
            Problem::MissingRevocationList { .. } => "missing-revocation-list",
            Problem::MisspeltKind { .. } => "misspelt-kind",
            Problem::NoDefaultCertificate => "no-default-certificate",
            Problem::NoEndpoints { .. } => "no-endpoints",
            Problem::NoIntermediates => "no-intermediates",
            Problem::NoManifests { .. } => "no-manifests",
            Problem::NoWorkableVersion { .. } => "no-workable-version",
            Problem::ObjectsKept { .. } => "objects-kept",
            Problem::OtherClass { .. } => "other-class",
            Problem::OverrideNotAllowed { .. } => "override-not-allowed",
            Problem::PathConflict { .. } => "path-conflict",
            Problem::PatternPath { .. } => "pattern-path",
            Problem::RedundantCertificate { .. } => "redundant-certificate",
            Problem::RedundantShadowPolicy { .. } => "redundant-shadow-policy",
            Problem::RejectedByPolicy { .. } => "rejected-by-policy",
            Problem::RequiredClientLockedOut { .. } => "required-client-locked-out",
            Problem::ResourceBackend { .. } => "resource-backend",
            Problem::RestrictingAnnotation { .. } => "restricting-annotation",
            Problem::SecretNotFound { .. } => "secret-not-found",
            Problem::ServiceNotFound { .. } => "service-not-found",
            Problem::ServicePortNotFound { .. } => "service-port-not-found",
            Problem::TlsHostWithoutRule { .. } => "tls-host-without-rule",
            Problem::TlsPolicyNotAccepted { .. } => "tls-policy-not-accepted",
            Problem::TlsPolicyNotFound { .. } => "tls-policy-not-found",
            Problem::TlsSettingsWithoutHost { .. } => "tls-settings-without-host",
            Problem::TlsWithoutHost { .. } => "tls-without-host",
            Problem::TooManyCertificates { .. } => "too-many-certificates",
            Problem::UnenforcedTlsPolicy { .. } => "unenforced-tls-policy",
            Problem::UnknownAnnotation { .. } => "unknown-annotation",
            Problem::UnknownField { .. } => "unknown-field",
            Problem::UnknownIngressClass { .. } => "unknown-ingress-class",
            Problem::UnknownKind { .. } => "unknown-kind",
            Problem::UnreadableDirectory { .. } => "unreadable-directory",
            Problem::UnreadableFile { .. } => "unreadable-file",
            Problem::UnservedByAlias { .. } => "unserved-by-alias",
            Problem::UnservedTlsNames { .. } => "unserved-tls-names",
            Problem::UnsupportedAnnotation { .. } => "unsupported-annotation",
            Problem::UnusableClientCa { .. } => "unusable-client-ca",
            Problem::UnusableRevocationList { .. } => "unusable-revocation-list",
            Problem::UnusableShadowPolicy { .. } => "unusable-shadow-policy",
            Problem::UnworkableVersion { .. } => "unworkable-version",
        }
    }

    /// How bad it is. Severity never decides what is served.
    pub fn severity(&self) -> Severity {
        if let Problem::Chain(finding) = self {
            return finding.severity();
        }
        about::about(self.code()).severity
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        if let Problem::Chain(finding) = self {
            return finding.remedy();
        }
        if let Problem::BadPath { path, .. } = self
            && let Some(meant) = pattern::meant(path)
        {
            return meant;
        }
        let remedy = match self {
            Problem::BadAnnotation { error, .. } => return format!("correct the value: {error}"),
            Problem::PatternPath { meant, .. } => return meant.clone(),
            Problem::MisspeltKind { meant, .. } => {
                return format!("write kind: {meant}, or move the document out of the directory");
            }
            Problem::UnknownField { name } if name.ends_with(".backend.serviceName") => {
                "networking.k8s.io/v1 has service.name in its place: write backend.service.name"
            }
            Problem::UnknownField { name } if name.ends_with(".backend.servicePort") => {
                "networking.k8s.io/v1 has service.port in its place: write backend.service.port.number or .name"
            }
            Problem::UnknownField { name } if name.starts_with("Ingress ") && name.ends_with(" spec.backend") => {
                "networking.k8s.io/v1 has spec.defaultBackend in its place"
            }
            Problem::UnknownKind { kind } if kind == "v1 Endpoints" => "write an EndpointSlice (discovery.k8s.io/v1)",
            // What is the same whatever the data stands in the table.
            _ => about::about(self.code()).remedy,
        };
        remedy.to_owned()
    }

    /// Every code but those of [`Finding`] with what is to be said about it, sorted by code.
    pub fn all() -> impl Iterator<Item = &'static About> {
        about::ROWS.iter()
    }
}

/// Sorts by subject, field, code and message, and merges what differs in its hosts only.
pub(super) fn settle(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_cached_key(|diagnostic| {
        let Diagnostic { subject, field, problem, effect, hosts } = diagnostic;
        (subject.clone(), field.clone(), problem.code(), problem.to_string(), *effect, hosts.first().cloned())
    });
    let mut settled: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        match settled.last_mut() {
            Some(last)
                if (&last.subject, &last.field, &last.problem, last.effect)
                    == (&diagnostic.subject, &diagnostic.field, &diagnostic.problem, diagnostic.effect) =>
            {
                last.hosts.extend(diagnostic.hosts);
            }
            Some(_) | None => settled.push(diagnostic),
        }
    }
    for diagnostic in &mut settled {
        diagnostic.hosts.sort_unstable();
        diagnostic.hosts.dedup();
    }
    settled
}

/// A code as the word that Events and conditions have as their reason: `key-mismatch` is `KeyMismatch`.
pub fn event_reason(code: &str) -> String {
    code.split('-')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_ascii_uppercase(), rest.to_owned()]
        })
        .collect()
}

fn describe_class(class: &Option<String>) -> String {
    class.as_ref().map_or_else(|| "the default class".to_owned(), |class| format!("class {class:?}"))
}

impl fmt::Display for Diagnostic {
    /// `error: Secret default/shop tls.key: message (host-refused)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { " " };
        write!(f, "{}: {}{colon}{}: {}", self.problem.severity(), self.subject, self.field, self.problem)?;
        if self.effect != Effect::None {
            write!(f, " ({})", self.effect.code())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_codes_has_every_code() {
        let source = include_str!("diagnostic.rs");
        let (_, body) = source.split_once("pub fn code(&self)").unwrap();
        let (body, _) = body.split_once("pub fn severity").unwrap();
        let mut codes: Vec<&str> =
            body.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
        codes.sort_unstable();
        assert_eq!(codes, Problem::all().map(|about| about.code).collect::<Vec<_>>());
    }

    #[test]
    fn long_lists_of_names_are_shortened() {
        let names: Vec<String> = (1..=7).map(|index| index.to_string()).collect();
        assert_eq!(
            (shortened(&names[..5]), shortened(&names)),
            ("1, 2, 3, 4, 5".into(), "1, 2, 3, 4, 5 and 2 more".into())
        );
    }

    #[test]
    fn fields_of_the_first_ingress_versions_are_translated() {
        for (name, expected) in [
            ("Ingress a/b spec.rules[0].http.paths[0].backend.serviceName", "backend.service.name"),
            ("Ingress a/b spec.rules[0].http.paths[0].backend.servicePort", "backend.service.port.number"),
            ("Ingress a/b spec.backend", "spec.defaultBackend"),
        ] {
            let remedy = Problem::UnknownField { name: name.into() }.remedy();
            assert!(remedy.contains(expected), "{remedy}");
        }
    }

    #[test]
    fn no_remedy_claims_what_only_the_effect_knows() {
        let remedy = Problem::UnreadableFile { error: String::new() }.remedy();
        assert!(!remedy.contains("served"), "{remedy}");
    }
}
