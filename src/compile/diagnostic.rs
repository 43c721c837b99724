//! Everything that can be wrong with a configuration: data, not log lines.

mod bad;

use std::fmt;
use std::sync::Arc;

use crate::api::annotations;
use crate::quote::{Quoted, may_hold_a_key, shown};
use crate::snapshot::{BadHostName, BadPath, HostName};
use crate::tls::about::{About, sentence};
use crate::tls::chain::Finding;
use crate::tls::policy::parse::Unavailable;

use super::about;
use super::absent::Absent;
use super::objects::{Kind, ObjectKey};
use super::pattern;

pub use crate::tls::Severity;
pub use bad::{BadAddress, BadBackend};

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
    #[error("{}: the value {} is wrong: {error}", short(annotation), Quoted(value))]
    BadAnnotation {
        /// With its prefix.
        annotation: String,
        /// As written.
        value: String,
        /// What is wrong with it.
        error: String,
    },
    /// A backend of an Ingress that names no Service port.
    #[error("The backend is wrong: {error}")]
    BadBackend {
        /// What is wrong with it.
        error: BadBackend,
    },
    /// Parameters of an IngressClass that name no policy.
    #[error("The parameters of the class are wrong: {error}")]
    BadClassParameters {
        /// What is wrong with them.
        error: String,
    },
    /// An endpoint that traffic is never sent to.
    #[error("Endpoint {} is not used: {error}", shown(endpoint))]
    BadEndpoint {
        /// Address and port as written.
        endpoint: String,
        /// What is wrong with it.
        error: BadAddress,
    },
    /// An ExternalName Service whose target is never used.
    #[error("externalName {} is not used: {error}", Quoted(name))]
    BadExternalName {
        /// As written.
        name: String,
        /// What is wrong with it.
        error: BadAddress,
    },
    /// A host that is no host name.
    #[error("Host {} is not served: {error}", Quoted(host))]
    BadHost {
        /// As written.
        host: String,
        /// What is wrong with it.
        error: BadHostName,
    },
    /// An Ingress path that cannot be matched.
    #[error("Path {} is not served: {error}", Quoted(path))]
    BadPath {
        /// As written.
        path: String,
        /// What is wrong with it.
        error: BadPath,
    },
    /// A path type that does not exist, or is missing.
    #[error("{}", match path_type.as_str() {
        "" => "pathType is missing".to_owned(),
        _ => format!("pathType {} does not exist", Quoted(path_type)),
    })]
    BadPathType {
        /// As written.
        path_type: String,
    },
    /// A field of a TlsPolicy that cannot be put in force.
    #[error("The policy is not accepted: {error}")]
    BadTlsPolicy {
        /// What is wrong with the field.
        error: String,
    },
    /// Something asks for versions that the operator does not allow.
    #[error("{asked} is not served: the operator's --min-tls-version is {floor}")]
    BelowMinTlsVersion {
        /// The version that is asked for.
        asked: &'static str,
        /// The oldest version that is allowed.
        floor: &'static str,
    },
    /// A canary: it stands beside another Ingress, so it must not take that one's paths.
    #[error("{} is not supported. To be safe, this Ingress serves nothing", short(annotation))]
    Canary {
        /// With its prefix.
        annotation: String,
    },
    /// A finding about a certificate chain or key.
    #[error("{0}")]
    Chain(Finding),
    /// An older Ingress has chosen another Secret for the host.
    #[error("Secret {secret} is not used for this host. The older {winner} names {chosen}")]
    ConflictingSecrets {
        /// The Secret that is not used, or `the default certificate`.
        secret: String,
        /// The Ingress that counts.
        winner: ObjectKey,
        /// What that Ingress names.
        chosen: String,
    },
    /// An older Ingress sets the same for the host.
    #[error("{} is not used for this host. The older {winner} decides", short(annotation))]
    ConflictingTlsSettings {
        /// With its prefix.
        annotation: String,
        /// The Ingress that counts.
        winner: ObjectKey,
    },
    /// Ingresses of several namespaces share the host.
    #[error("The host is shared with {oldest} of another namespace")]
    CrossNamespace {
        /// The oldest Ingress of the host.
        oldest: ObjectKey,
    },
    /// The same object is given twice; the first one counts.
    #[error("The object is defined twice. The definition in {first} is used, another one in {again} is ignored")]
    DuplicateObject {
        /// Scope whose definition counts.
        first: String,
        /// Scope whose definition is ignored.
        again: String,
    },
    /// A revocation list that says nothing about now.
    #[error(
        "The revocation list of {issuer} in ca.crl of Secret {secret} expired on {since}. It can no longer verify certificates that {issuer} issued"
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
    #[error("The host belongs to namespace {owner}: its {oldest} is older")]
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
    #[error("{} has no effect on this host: {why}", short(annotation))]
    IneffectiveTlsSetting {
        /// With its prefix.
        annotation: String,
        /// What is missing.
        why: &'static str,
    },
    /// The ConfigMap of ingress-nginx in a directory.
    #[error("ConfigMap {name} looks like the configuration of ingress-nginx. It has no effect yet")]
    IngressNginxConfig {
        /// Its name.
        name: String,
    },
    /// A document of a known kind does not have its kind's form.
    #[error("The document is not valid: {error}")]
    InvalidDocument {
        /// The object, as far as the document names it.
        object: Option<ObjectKey>,
        /// What is wrong.
        error: String,
    },
    /// Objects of a kind that the API server does not list.
    #[error("The API server does not list objects of kind {kind}: {error}")]
    KindNotWatched {
        /// The kind.
        kind: &'static str,
        /// What it says.
        error: String,
    },
    /// A host whose policy lets in what the operator's default keeps out.
    #[error("The host is laxer than the default policy {default}: {how}")]
    LaxerThanDefault {
        /// Namespace and name of the operator's default policy.
        default: String,
        /// Each difference.
        how: String,
    },
    /// All manifests of a directory disappeared at once, which is an accident more often than a wish.
    #[error("All manifests are gone. Their objects are served until the directory has been empty for 30 s")]
    ManifestsVanished,
    /// An authority whose certificates cannot be looked up.
    #[error("ca.crl of Secret {secret} has no list of {authority}. Certificates that {authority} issued are refused")]
    MissingRevocationList {
        /// Name of the Secret.
        secret: String,
        /// The authority.
        authority: String,
    },
    /// A kind that is written almost as one that is used.
    #[error("Kind {kind} is unknown, so the document is ignored. Do you mean {meant}?")]
    MisspeltKind {
        /// As written.
        kind: String,
        /// The kind that is used.
        meant: &'static str,
    },
    /// The default certificate is wanted, and there is none that can be served.
    #[error("No default certificate can be served, and this tls entry needs it")]
    NoDefaultCertificate,
    /// Nothing behind a Service port takes traffic.
    #[error("Port {} has no ready endpoint", shown(port))]
    NoEndpoints {
        /// The port as the Ingress names it.
        port: String,
    },
    /// Chains are to be completed from a bundle that does not exist.
    #[error("The policy completes chains from a bundle, but --intermediates names none")]
    NoIntermediates,
    /// A directory without a single manifest.
    #[error("The directory has no manifests (*.yaml, *.yml or *.json){}", not_read(folders))]
    NoManifests {
        /// Its sub-directories, which are not read.
        folders: Vec<String>,
    },
    /// A policy under which no handshake with the host's certificate can work.
    #[error("No handshake works with this policy and the host's certificate: {why}")]
    NoWorkableVersion {
        /// Each version with its reason.
        why: String,
    },
    /// A file that is taken over without its removals, since something in it is broken.
    #[error("A document is broken or cut off, so no object is removed. Kept: {}", shortened(objects))]
    ObjectsKept {
        /// Objects that the file held before and does not hold now.
        objects: Vec<String>,
    },
    /// An Ingress of another controller.
    #[error("{}", other_class(class))]
    OtherClass {
        /// The class that it names.
        class: Option<String>,
    },
    /// An annotation that the policy does not allow.
    #[error("{} has no effect: TlsPolicy {policy} says allowOverrides: false", short(annotation))]
    OverrideNotAllowed {
        /// With its prefix.
        annotation: String,
        /// Namespace and name.
        policy: String,
    },
    /// Another rule claims the same path.
    #[error("The {matches} path {} already belongs to {winner}", shown(path))]
    PathConflict {
        /// `exact` or `prefix`.
        matches: &'static str,
        /// The path, normalised.
        path: String,
        /// The Ingress whose rule counts.
        winner: ObjectKey,
    },
    /// A path that is written as a pattern, and no annotation says so.
    #[error("Path {} looks like a pattern. It is compared as it is written, so it matches nothing", Quoted(path))]
    PatternPath {
        /// As written.
        path: String,
        /// What to write in its place.
        meant: String,
    },
    /// A second certificate of a kind that the host has already.
    #[error("Secret {secret} is not served: {first} already has a key of this kind ({key})")]
    RedundantCertificate {
        /// Namespace and name.
        secret: String,
        /// Namespace and name of the one that is served.
        first: String,
        /// The type of the key.
        key: String,
    },
    /// A shadow policy of which nothing can be learned.
    #[error("TlsPolicy {policy} changes nothing: it treats each client as the current policy does")]
    RedundantShadowPolicy {
        /// Namespace and name.
        policy: String,
    },
    /// A certificate that could be served and that the policy of the host rejects.
    #[error("The certificate is not served: the policy of the host rejects {codes}")]
    RejectedByPolicy {
        /// The findings.
        codes: String,
    },
    /// A client that has to connect cannot.
    #[error("The required client {client} cannot connect: {why}")]
    RequiredClientLockedOut {
        /// Its id.
        client: &'static str,
        /// What is in its way.
        why: String,
    },
    /// A backend that is not a Service.
    #[error("Backends of kind {} are not supported, only Services", shown(kind))]
    ResourceBackend {
        /// Its kind.
        kind: String,
    },
    /// An annotation that keeps requests away in a way that is not supported.
    #[error("{} is not supported. To be safe, the paths of this Ingress answer 503", short(annotation))]
    RestrictingAnnotation {
        /// With its prefix.
        annotation: String,
    },
    /// A Secret that does not exist.
    #[error("Secret {} does not exist{}", shown(secret), if *redirected { ", and plain HTTP is redirected to HTTPS, where handshakes are refused" } else { "" })]
    SecretNotFound {
        /// Namespace and name.
        secret: String,
        /// Handshakes for the host are refused, and its plain HTTP leads to them.
        redirected: bool,
    },
    /// A Service that does not exist.
    #[error("Service {} does not exist", shown(service))]
    ServiceNotFound {
        /// Namespace and name.
        service: String,
    },
    /// A port that the Service does not have.
    #[error("Service {} has no TCP port {}", shown(service), Quoted(port))]
    ServicePortNotFound {
        /// Namespace and name.
        service: String,
        /// The port as the Ingress names it.
        port: String,
    },
    /// A host in `tls` that no rule of the Ingress uses.
    #[error("The Ingress has no rule for host {host}, so this certificate is not served")]
    TlsHostWithoutRule {
        /// The host.
        host: HostName,
    },
    /// The policy that is asked for is wrong in itself.
    #[error("TlsPolicy {} is not accepted", shown(policy))]
    TlsPolicyNotAccepted {
        /// Namespace and name.
        policy: String,
    },
    /// A policy that does not exist.
    #[error("{}", why.message(shown(policy)))]
    TlsPolicyNotFound {
        /// Namespace and name.
        policy: String,
        /// Why it is not there.
        why: Absent,
    },
    /// TLS settings for rules that have no host: there is no name to choose them by.
    #[error(
        "{} has no effect on rules without a host: the default certificate answers them, under its own policy",
        short(annotation)
    )]
    TlsSettingsWithoutHost {
        /// With its prefix.
        annotation: String,
    },
    /// A Secret for rules that have no host: there is no name to choose it by.
    #[error("Secret {} is not used: rules without a host are served with the default certificate", shown(secret))]
    TlsWithoutHost {
        /// Namespace and name.
        secret: String,
    },
    /// More certificates than any host can use.
    #[error("The host has more than {limit} tls entries. The first {limit} are used")]
    TooManyCertificates {
        /// How many count.
        limit: usize,
    },
    /// A file that another program makes manifests from.
    #[error("This is a file of {tool}, which Handfast does not run. The manifests next to it are read as they are")]
    ToolFile {
        /// The program.
        tool: &'static str,
    },
    /// An annotation with one of our prefixes and a name that does not exist.
    #[error("{} is unknown{}", shown(annotation), nearest.as_ref().map(|name| format!(". Do you mean {name}?")).unwrap_or_default())]
    UnknownAnnotation {
        /// With its prefix.
        annotation: String,
        /// The known name that is written most alike, with its prefix.
        nearest: Option<String>,
    },
    /// A field that its kind does not have.
    #[error("Field {} is unknown. The API server would refuse it", Quoted(name))]
    UnknownField {
        /// The field's path within the document.
        name: String,
    },
    /// An IngressClass that does not exist.
    #[error("Not served: IngressClass {} does not exist", shown(class))]
    UnknownIngressClass {
        /// Its name.
        class: String,
    },
    /// A document of a kind that is not used.
    #[error("Handfast does not use {kind} objects. The document is ignored")]
    UnknownKind {
        /// apiVersion and kind as written.
        kind: String,
    },
    /// A source's directory that cannot be read any more.
    #[error("Cannot read the directory: {error}")]
    UnreadableDirectory {
        /// What the system says.
        error: String,
    },
    /// A file that cannot be read or is no YAML or JSON.
    #[error("The file is not used: {error}")]
    UnreadableFile {
        /// What is wrong.
        error: String,
    },
    /// Suites behind an alias such as `HIGH` that are not served.
    #[error("Aliases in the list include {} that Handfast does not serve ({}). The list becomes: {left}", counted(names.len(), "cipher suite"), shortened(names))]
    UnservedByAlias {
        /// Their names.
        names: Arc<[String]>,
        /// What is served.
        left: String,
    },
    /// Names of versions, suites, groups or protocols that are asked for and cannot be served.
    #[error("Not all names in the list can be served: {}. The list becomes: {left}", each(names))]
    UnservedTlsNames {
        /// Each name with its reason.
        names: Arc<[Unavailable]>,
        /// What is served.
        left: String,
    },
    /// A known annotation without effect.
    #[error("{} is ignored: {}", short(annotation), annotations::why_ignored(short(annotation)))]
    UnsupportedAnnotation {
        /// With its prefix.
        annotation: String,
    },
    /// A policy that demands certificates of clients, of an Ingress that does not choose the policy of the host.
    #[error(
        "{} asks clients for certificates, but {winner} chooses the policy of the host, and that one does not. To be safe, the paths of this Ingress answer 503",
        short(annotation)
    )]
    UnenforcedTlsPolicy {
        /// With its prefix, or who names the policy.
        annotation: String,
        /// The oldest Ingress of the host.
        winner: ObjectKey,
    },
    /// A Secret whose `ca.crt` cannot verify clients.
    #[error("The policy is not accepted. Secret {} cannot verify certificates of clients: {error}", shown(secret))]
    UnusableClientCa {
        /// Its name.
        secret: String,
        /// What is wrong with it.
        error: String,
    },
    /// A Secret whose `ca.crl` holds no lists that can be used.
    #[error("The policy is not accepted. ca.crl of Secret {secret} cannot be used: {error}")]
    UnusableRevocationList {
        /// Its name.
        secret: String,
        /// What is wrong with it.
        error: String,
    },
    /// A shadow policy that cannot be tried out.
    #[error("TlsPolicy {} is not tried: {why}", shown(policy))]
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
    // Of a key that was taken apart, the last part is short.
    if names.iter().any(|one| may_hold_a_key(&one.name)) {
        return format!("{} names are not shown: they may hold a private key", names.len());
    }
    let mut words: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    if names.len() > SHOWN {
        words.push(format!("and {} more", names.len() - SHOWN));
    }
    words.join("; ")
}

fn not_read(folders: &[String]) -> String {
    if folders.is_empty() { String::new() } else { format!(". Sub-directories are not read: {}", shortened(folders)) }
}

impl Diagnostic {
    /// How bad it is. A host that does not get what it asks for is an error whatever the reason: a policy may reject a
    /// certificate for what is a warning elsewhere.
    pub fn severity(&self) -> Severity {
        match self.effect {
            // Of a file, the last good version is of objects, which hosts may get as they ask for.
            Effect::LastGood if self.subject.kind == Kind::File => self.problem.severity(),
            Effect::Default | Effect::HostRefused | Effect::LastGood => Severity::Error,
            Effect::None | Effect::PolicyHeld | Effect::Repaired | Effect::RouteDropped => self.problem.severity(),
        }
    }
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
            Problem::BelowMinTlsVersion { .. } => "below-min-tls-version",
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
            Problem::IngressNginxConfig { .. } => "ingress-nginx-config",
            Problem::InvalidDocument { .. } => "invalid-document",
            Problem::KindNotWatched { .. } => "kind-not-watched",
            Problem::LaxerThanDefault { .. } => "laxer-than-default",
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
            Problem::ToolFile { .. } => "tool-file",
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

    /// True if it often solves itself within seconds: something is made, deleted or started a moment before or after what
    /// refers to it. Metrics and `check` have it at once; people are told if it lasts.
    pub fn is_often_brief(&self) -> bool {
        matches!(
            self,
            Problem::Chain(Finding::TemporaryCertificate)
                | Problem::NoEndpoints { .. }
                | Problem::SecretNotFound { .. }
                | Problem::ServiceNotFound { .. }
                | Problem::ServicePortNotFound { .. }
                | Problem::TlsPolicyNotFound { .. }
        )
    }

    /// How bad it is by itself. Others ask [`Diagnostic::severity`], which knows what it does.
    pub(super) fn severity(&self) -> Severity {
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
            Problem::BadPathType { path_type } if path_type.is_empty() => {
                "add pathType: Exact, Prefix or ImplementationSpecific"
            }
            Problem::UnsupportedAnnotation { annotation } | Problem::RestrictingAnnotation { annotation } => {
                annotations::instead(short(annotation))
            }
            Problem::MisspeltKind { meant, .. } => {
                return format!("write kind: {meant}, or move the document out of the directory");
            }
            Problem::SecretNotFound { redirected: true, .. } => {
                let remedy = about::about(self.code()).remedy;
                return format!(
                    "{remedy}; until then ssl-redirect: \"false\", without force-ssl-redirect, keeps plain HTTP open"
                );
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
            Problem::TlsPolicyNotFound { why, .. } => {
                return why.remedy().unwrap_or(about::about(self.code()).remedy).to_owned();
            }
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

/// A code as the word that Events and conditions have as their reason: `key-mismatch` is `KeyMismatch`.
pub fn event_reason(code: &str) -> String {
    code.split('-')
        .flat_map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            [first.to_ascii_uppercase(), rest.to_owned()]
        })
        .collect()
}

/// Why an Ingress of another class is not served, and the option that would serve it.
fn other_class(class: &Option<String>) -> String {
    match class {
        // A name that no class can have is quoted, so that it stays on its line.
        Some(class) if !annotations::is_subdomain(class) => format!("Not served: its class is {}", Quoted(class)),
        Some(class) => format!("Not served: its class is {class}. Use --adopt-class {class}"),
        None => "Not served: it names no class. Use --watch-ingress-without-class".to_owned(),
    }
}

/// An annotation without its prefix, which the field of the message shows.
fn short(annotation: &str) -> &str {
    annotation.split_once('/').map_or(annotation, |(_, name)| name)
}

impl fmt::Display for Diagnostic {
    /// `error: Secret default/shop tls.key: Message. (host-refused)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.field.is_empty() { "" } else { " " };
        let message = sentence(&self.problem);
        write!(f, "{}: {}{colon}{}: {message}", self.severity(), self.subject, self.field)?;
        if self.effect != Effect::None {
            write!(f, " ({})", self.effect.code())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
