//! Everything that can be wrong with a configuration: data, not log lines.

use std::fmt;

use crate::snapshot::{BadHostName, BadPath, HostName};
use crate::tls::chain::Finding;

use super::objects::ObjectKey;

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
    /// The previous policy stays in force.
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
    /// Two `tls` entries of one Ingress name the same host with different Secrets.
    #[error("spec.tls[{first}] names another Secret for the same host and counts")]
    DuplicateTlsHost {
        /// Index of the entry that counts.
        first: usize,
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
    /// A document of a known kind does not have its kind's form.
    #[error("the document is not valid: {error}")]
    InvalidDocument {
        /// What is wrong.
        error: String,
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
    /// An Ingress of another controller.
    #[error("it belongs to {}, not to this controller, and is not served", describe_class(class))]
    OtherClass {
        /// The class that it names.
        class: Option<String>,
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
    /// A Secret for rules that have no host: there is no name to choose it by.
    #[error("Secret {secret} is not used: rules without a host are served with the default certificate")]
    TlsWithoutHost {
        /// Namespace and name.
        secret: String,
    },
    /// An annotation with one of our prefixes and a name that does not exist.
    #[error("{annotation} is not known{}", nearest.map(|name| format!(": is {name} meant?")).unwrap_or_default())]
    UnknownAnnotation {
        /// With its prefix.
        annotation: String,
        /// The known name that is written most alike.
        nearest: Option<&'static str>,
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
    /// A known annotation without effect.
    #[error("{annotation} has no effect")]
    UnsupportedAnnotation {
        /// With its prefix.
        annotation: String,
    },
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
    /// Every code but those of [`Finding`], sorted.
    pub const CODES: &[&str] = &[
        "bad-annotation",
        "bad-backend",
        "bad-endpoint",
        "bad-external-name",
        "bad-host",
        "bad-path",
        "bad-path-type",
        "canary",
        "conflicting-secrets",
        "cross-namespace",
        "duplicate-object",
        "duplicate-tls-host",
        "external-name-not-allowed",
        "host-owned-elsewhere",
        "invalid-document",
        "no-default-certificate",
        "no-endpoints",
        "other-class",
        "path-conflict",
        "resource-backend",
        "restricting-annotation",
        "secret-not-found",
        "service-not-found",
        "service-port-not-found",
        "tls-host-without-rule",
        "tls-without-host",
        "unknown-annotation",
        "unknown-field",
        "unknown-ingress-class",
        "unknown-kind",
        "unreadable-file",
        "unsupported-annotation",
    ];

    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::BadAnnotation { .. } => "bad-annotation",
            Problem::BadBackend { .. } => "bad-backend",
            Problem::BadEndpoint { .. } => "bad-endpoint",
            Problem::BadExternalName { .. } => "bad-external-name",
            Problem::BadHost { .. } => "bad-host",
            Problem::BadPath { .. } => "bad-path",
            Problem::BadPathType { .. } => "bad-path-type",
            Problem::Canary { .. } => "canary",
            Problem::Chain(finding) => finding.code(),
            Problem::ConflictingSecrets { .. } => "conflicting-secrets",
            Problem::CrossNamespace { .. } => "cross-namespace",
            Problem::DuplicateObject { .. } => "duplicate-object",
            Problem::DuplicateTlsHost { .. } => "duplicate-tls-host",
            Problem::ExternalNameNotAllowed => "external-name-not-allowed",
            Problem::HostOwnedElsewhere { .. } => "host-owned-elsewhere",
            Problem::InvalidDocument { .. } => "invalid-document",
            Problem::NoDefaultCertificate => "no-default-certificate",
            Problem::NoEndpoints { .. } => "no-endpoints",
            Problem::OtherClass { .. } => "other-class",
            Problem::PathConflict { .. } => "path-conflict",
            Problem::ResourceBackend { .. } => "resource-backend",
            Problem::RestrictingAnnotation { .. } => "restricting-annotation",
            Problem::SecretNotFound { .. } => "secret-not-found",
            Problem::ServiceNotFound { .. } => "service-not-found",
            Problem::ServicePortNotFound { .. } => "service-port-not-found",
            Problem::TlsHostWithoutRule { .. } => "tls-host-without-rule",
            Problem::TlsWithoutHost { .. } => "tls-without-host",
            Problem::UnknownAnnotation { .. } => "unknown-annotation",
            Problem::UnknownField { .. } => "unknown-field",
            Problem::UnknownIngressClass { .. } => "unknown-ingress-class",
            Problem::UnknownKind { .. } => "unknown-kind",
            Problem::UnreadableDirectory { .. } => "unreadable-directory",
            Problem::UnreadableFile { .. } => "unreadable-file",
            Problem::UnsupportedAnnotation { .. } => "unsupported-annotation",
        }
    }

    /// How bad it is. Severity never decides what is served.
    pub fn severity(&self) -> Severity {
        match self {
            Problem::Chain(finding) => finding.severity(),
            Problem::BadAnnotation { .. }
            | Problem::BadBackend { .. }
            | Problem::BadEndpoint { .. }
            | Problem::BadExternalName { .. }
            | Problem::BadHost { .. }
            | Problem::BadPath { .. }
            | Problem::BadPathType { .. }
            | Problem::ExternalNameNotAllowed
            | Problem::HostOwnedElsewhere { .. }
            | Problem::InvalidDocument { .. }
            | Problem::NoDefaultCertificate
            | Problem::ResourceBackend { .. }
            | Problem::RestrictingAnnotation { .. }
            | Problem::SecretNotFound { .. }
            | Problem::ServiceNotFound { .. }
            | Problem::ServicePortNotFound { .. }
            | Problem::UnreadableDirectory { .. }
            | Problem::UnreadableFile { .. } => Severity::Error,
            Problem::Canary { .. }
            | Problem::ConflictingSecrets { .. }
            | Problem::DuplicateObject { .. }
            | Problem::DuplicateTlsHost { .. }
            | Problem::PathConflict { .. }
            | Problem::TlsWithoutHost { .. }
            | Problem::UnknownAnnotation { .. }
            | Problem::UnknownField { .. }
            | Problem::UnsupportedAnnotation { .. } => Severity::Warning,
            Problem::CrossNamespace { .. }
            | Problem::NoEndpoints { .. }
            | Problem::OtherClass { .. }
            | Problem::TlsHostWithoutRule { .. }
            | Problem::UnknownIngressClass { .. }
            | Problem::UnknownKind { .. } => Severity::Info,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let remedy = match self {
            Problem::BadAnnotation { error, .. } => return format!("correct the value: {error}"),
            Problem::BadBackend { .. } => {
                "name one Service and one of its ports, by port.number (1 to 65535) or by port.name"
            }
            Problem::BadEndpoint { .. } => {
                "give the endpoint the address and port of the pod or server that takes the traffic"
            }
            Problem::BadExternalName { .. } => "give externalName a public DNS name, or use a Service with endpoints",
            Problem::BadHost { .. } => {
                "write a DNS name, or '*.' and a DNS name; a rule for all hosts has no host field at all"
            }
            Problem::BadPath { .. } => {
                "write a path that begins with '/', with valid percent escapes and no '..' above the root"
            }
            Problem::BadPathType { .. } => "write Exact, Prefix or ImplementationSpecific",
            Problem::Canary { .. } => {
                "delete the canary Ingress, or shift traffic in another way; the primary Ingress takes all requests"
            }
            Problem::Chain(finding) => return finding.remedy(),
            Problem::ConflictingSecrets { .. } => {
                "name the same Secret in all Ingresses of the host, or leave the tls entry to the oldest"
            }
            Problem::CrossNamespace { .. } => {
                "nothing, if both teams know; --host-ownership namespace gives a host to one namespace"
            }
            Problem::DuplicateObject { .. } => "delete one of the definitions, or give it another name",
            Problem::DuplicateTlsHost { .. } => "list each host in one tls entry",
            Problem::ExternalNameNotAllowed => {
                "start with --allow-external-name if everybody who may create Services may choose where traffic goes"
            }
            Problem::HostOwnedElsewhere { .. } => {
                "use another host, or ask the owning namespace for a rule; --host-ownership merge shares hosts"
            }
            Problem::InvalidDocument { .. } => {
                "correct the document; `kubectl apply --dry-run=server` names the field as well"
            }
            Problem::NoDefaultCertificate => {
                "name a Secret in spec.tls, or start with --default-tls-secret NAMESPACE/NAME and a usable Secret"
            }
            Problem::NoEndpoints { .. } => {
                "look at the pods behind the Service: the selector, the readiness probe, the EndpointSlice's label kubernetes.io/service-name, and its port's name"
            }
            Problem::OtherClass { .. } => {
                "nothing, if another controller serves it; otherwise set spec.ingressClassName: handfast, or name its class with --ingress-class"
            }
            Problem::PathConflict { .. } => "delete one of the two rules, or change its path",
            Problem::ResourceBackend { .. } => "use a Service as backend",
            Problem::RestrictingAnnotation { .. } => {
                "delete the annotation if the route may be open without it; until then its routes answer 503"
            }
            Problem::SecretNotFound { .. } => {
                "create the Secret in this namespace, or correct its name; with cert-manager, look at the Certificate's events"
            }
            Problem::ServiceNotFound { .. } => "create the Service in the Ingress's namespace, or correct its name",
            Problem::ServicePortNotFound { .. } => {
                "name a port as the Service lists it under spec.ports: port.number for its number, port.name for its name"
            }
            Problem::TlsHostWithoutRule { .. } => "add a rule for the host, or delete it from spec.tls",
            Problem::TlsWithoutHost { .. } => {
                "give the rule a host, or start with --default-tls-secret to choose the default certificate"
            }
            Problem::UnknownAnnotation { .. } => "correct the name, or delete the annotation",
            Problem::UnknownField { .. } => "correct the field's name or indentation, or delete it",
            Problem::UnknownIngressClass { .. } => {
                "create the IngressClass with spec.controller handfast.dev/ingress-controller, or correct ingressClassName"
            }
            Problem::UnknownKind { .. } => "nothing, if the object is meant for another program",
            Problem::UnreadableDirectory { .. } => {
                "restore the directory or its permissions; until then its last content is served"
            }
            Problem::UnreadableFile { .. } => {
                "make the file readable YAML or JSON; until then its last good content is served"
            }
            Problem::UnsupportedAnnotation { .. } => "delete the annotation, if the host works without it",
        };
        remedy.to_owned()
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
