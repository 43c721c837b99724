//! The `TlsPolicy` resource (`handfast.dev/v1alpha1`): how hosts terminate TLS.
//!
//! `TlsPolicy.spec ──validate──▶ compile/ ──▶ tls::Policy and what a host does about findings`
//!
//! An Ingress chooses a policy by the annotation `handfast.dev/tls-policy`; otherwise the parameters of its
//! IngressClass do, otherwise `--default-tls-policy`. Every field may be left out: then the preset's value holds, and
//! without a preset Handfast's default. A field is here only once it works.
//!
//! The comments on the fields are what `kubectl explain` prints, so they speak to operators. What the types cannot say
//! stands in `rules`: an API server holds it by the schema, a directory of manifests by [`TlsPolicySpec::validate`].

mod rules;
mod schema;
mod structure;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::edit_distance;

pub(crate) use schema::nearest_field;
pub use schema::{Field, definition, fields};
pub(crate) use structure::prune_nulls;

/// How hosts terminate TLS. Every field may be left out: then the preset's value holds, and without a preset the
/// default of Handfast, which is the preset intermediate with the server's order of cipher suites.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[kube(
    group = "handfast.dev",
    version = "v1alpha1",
    kind = "TlsPolicy",
    plural = "tlspolicies",
    namespaced,
    status = "TlsPolicyStatus",
    derive = "PartialEq",
    category = "handfast",
    doc = "How hosts terminate TLS: protocol versions, cipher suites, certificates of clients, and what to do about \
           certificates with findings. An Ingress chooses a policy of its namespace with the annotation \
           handfast.dev/tls-policy; otherwise the parameters of its IngressClass choose one, otherwise the \
           controller's option --default-tls-policy."
)]
#[serde(rename_all = "camelCase")]
pub struct TlsPolicySpec {
    /// Defaults of all fields. `intermediate` and `modern` are the configurations of Mozilla's guideline 6.0 for
    /// servers: `intermediate` has TLS 1.2 and 1.3 with AEAD suites and forward secrecy, `modern` has only TLS 1.3.
    /// Without a preset: as `intermediate`, with cipherSuiteOrder `serverUnlessChaCha20First`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Preset")]
    pub preset: Option<Preset>,
    /// Oldest protocol version: `TLSv1.2` (RFC 5246) or `TLSv1.3` (RFC 8446). Older ones are not supported (RFC 8996).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProtocolVersion")]
    pub min_version: Option<ProtocolVersion>,
    /// Newest protocol version: `TLSv1.2` (RFC 5246) or `TLSv1.3` (RFC 8446).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProtocolVersion")]
    pub max_version: Option<ProtocolVersion>,
    /// Cipher suites, best first: names of OpenSSL (`ECDHE-RSA-AES128-GCM-SHA256`) or IANA
    /// (`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`), or any part of the language of openssl-ciphers(1)
    /// (`HIGH:!aNULL:!MD5`). The entries are read as one list. Suites of TLS 1.3 change only if the list names one.
    /// Suites that are not supported (CBC, finite-field Diffie-Hellman, static RSA) are reported, and the others served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = rules::LIST_ITEMS),
        inner(length(min = 1, max = rules::CIPHERS_LENGTH), regex(pattern = rules::CIPHERS_PATTERN))
    )]
    pub cipher_suites: Option<Vec<String>>,
    /// Whose order of cipher suites decides: `client`, `server`, or `serverUnlessChaCha20First`, which is the server's
    /// except for clients that put ChaCha20 first, because these have no AES hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CipherSuiteOrder")]
    pub cipher_suite_order: Option<CipherSuiteOrder>,
    /// Key exchange groups (curves), best first: names of OpenSSL, nginx or IANA, such as `X25519MLKEM768`, `X25519`,
    /// `prime256v1` (also `secp256r1`, `P-256`) and `secp384r1`. `auto` stands for the default groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = rules::LIST_ITEMS),
        inner(length(min = 1, max = rules::GROUP_LENGTH), regex(pattern = rules::GROUP_PATTERN))
    )]
    pub groups: Option<Vec<String>>,
    /// Whose order of groups decides: `client` or `server`. `server` costs a round trip if the client sent no key share
    /// for the server's choice (RFC 8446 section 4.1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GroupOrder")]
    pub group_order: Option<GroupOrder>,
    /// Application protocols, best first (RFC 7301): `h2` (HTTP/2) and `http/1.1`. An empty list negotiates none, and
    /// clients speak HTTP/1.1. Default: both, `h2` first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = rules::ALPN_ITEMS))]
    pub alpn: Option<Vec<String>>,
    /// Whether clients get tickets to resume their sessions (RFC 8446 section 4.6.1, RFC 5077). Hosts with clientAuth
    /// never give tickets, so that the client's certificate is checked in each session. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tickets: Option<bool>,
    /// The header Strict-Transport-Security (RFC 6797) on HTTPS responses: browsers then use HTTPS only. Without it no
    /// header is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Certificates of clients (mutual TLS). Without it clients are not asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// Completes certificate chains that lack an intermediate certificate. Without it such a chain is served as it is,
    /// and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainRepair>,
    /// What to do if a certificate has a finding, by the finding's code, for example `expired: reject`. `serve` serves
    /// the certificate and reports the finding (default, except for `temporary-certificate`, where it is
    /// `holdLastGood`). `holdLastGood` serves the last good version of the Secret, or
    /// without one the certificate as it is. `reject` does not serve the certificate: the host serves the last good
    /// version, without one the default certificate, and without that it refuses handshakes. `handfast explain` lists
    /// the codes.
    #[serde(default)]
    #[schemars(extend("maxProperties" = rules::LIST_ITEMS))]
    pub finding_actions: BTreeMap<String, FindingAction>,
    /// Known clients that must be able to connect, by the ids that `handfast check --clients` prints, for example
    /// `java-8u31`. A change of the policy that would lock one of them out of a host is not applied: the host keeps its
    /// previous policy. If there is none, or if the certificate locks them out, the host is served as configured, and
    /// an error reports it.
    #[serde(default)]
    #[schemars(length(max = rules::LIST_ITEMS))]
    pub required_clients: Vec<String>,
    /// Whether annotations of an Ingress (`ssl-protocols`, `ssl-ciphers`, `ssl-ecdh-curve`,
    /// `ssl-prefer-server-ciphers`) win over this policy. An Ingress can still name another policy. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_overrides: Option<bool>,
}

impl TlsPolicySpec {
    /// Whether an API server would accept it: everything that is wrong, each with its field. What does not have the right
    /// form is reported first, and what does not go together only once the form is right.
    pub fn validate(&self) -> Result<(), Vec<Fault>> {
        let document = serde_json::to_value(self).expect("invariant: a policy is JSON");
        let faults = structure::faults(schema::spec(), &document, "spec");
        if !faults.is_empty() {
            return Err(faults);
        }
        let broken = rules::RULES.iter().filter_map(|rule| {
            let detail = (rule.broken)(self)?;
            Some(Fault { path: rule.path(), message: format!("{}{detail}", rule.message) })
        });
        let faults: Vec<Fault> = broken.collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The same for a document that has not been read: a policy of the right form is read, then validated. Fields
    /// without a value must be removed first (`prune_nulls`).
    pub fn read(document: &serde_json::Value) -> Result<Self, Vec<Fault>> {
        let faults = structure::faults(schema::spec(), document, "spec");
        if !faults.is_empty() {
            return Err(faults);
        }
        let fault = |error: serde_json::Error| vec![Fault { path: "spec".to_owned(), message: error.to_string() }];
        let spec = TlsPolicySpec::deserialize(document).map_err(fault)?;
        spec.validate().map(|()| spec)
    }
}

/// Why a policy is not valid.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{path}: {message}")]
pub struct Fault {
    /// The field: `spec.hsts.maxAge`.
    pub path: String,
    /// What is wrong with it and what to write instead.
    pub message: String,
}

/// The known name that is written almost as this one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).max(1);
    let scored = known.map(|known| (edit_distance(name, known), known));
    scored.filter(|(distance, _)| *distance <= limit).min().map(|(_, known)| known)
}

/// A set of values for all fields.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// Mozilla's guideline 6.0 "intermediate": TLS 1.2 and 1.3.
    Intermediate,
    /// Mozilla's guideline 6.0 "modern": TLS 1.3.
    Modern,
}

/// A protocol version that can be served.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// RFC 5246.
    #[serde(rename = "TLSv1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "TLSv1.3")]
    Tls13,
}

/// Whose order of cipher suites decides.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum CipherSuiteOrder {
    /// The client's.
    Client,
    /// The policy's.
    Server,
    /// The policy's, except for clients that put ChaCha20 first, which say with this that they have no AES hardware.
    ServerUnlessChaCha20First,
}

/// Whose order of groups decides.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum GroupOrder {
    /// The client's.
    Client,
    /// The policy's, even where that costs a round trip.
    Server,
}

/// The header Strict-Transport-Security (RFC 6797).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Hsts {
    /// How long browsers use HTTPS only after each response, in seconds (RFC 6797 section 6.1.1); a year has 31536000.
    /// 0 makes them forget it.
    #[schemars(range(min = 0, max = rules::HSTS_MAX_AGE))]
    pub max_age: i64,
    /// Whether this also applies to all subdomains of the host (RFC 6797 section 6.1.2). Default: false.
    #[serde(default)]
    pub include_sub_domains: bool,
    /// Whether the host may be added to the list that browsers ship (hstspreload.org), which requires
    /// includeSubDomains and a maxAge of at least 31536000. Removal from that list takes months. Default: false.
    #[serde(default)]
    pub preload: bool,
}

/// Certificates of clients (RFC 8446 section 4.3.2).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuth {
    /// `required`: a client without a valid certificate cannot connect. `optional`: it may connect without one, but a
    /// certificate that it sends must be valid.
    pub mode: ClientAuthMode,
    /// Name of the Secret, in the policy's namespace, whose entry `ca.crt` holds the certificates (PEM) of the CAs that
    /// issue the clients' certificates. If it has an entry `ca.crl`, these are their revocation lists (PEM), and a
    /// certificate that they revoke or do not cover is refused.
    #[schemars(length(min = 1, max = rules::NAME_LENGTH), regex(pattern = rules::NAME_PATTERN))]
    pub ca_secret: String,
}

/// Whether a client may connect without a certificate.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuthMode {
    /// It may; a certificate that it sends must be valid.
    Optional,
    /// It may not.
    Required,
}

/// What to do about a chain that lacks an intermediate certificate.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ChainRepair {
    /// Where to look for missing intermediate certificates: `fromCluster`, in the public parts of other Secrets of the
    /// same namespace; `fromBundle`, in the PEM file of the controller's option --intermediates. A certificate is used
    /// only if its signature verifies, and the chain is reported as repaired. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ChainCompletion")]
    pub complete: Option<ChainCompletion>,
}

/// Where missing intermediate certificates are looked for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum ChainCompletion {
    /// In the PEM bundle that the operator names with `--intermediates`.
    FromBundle,
    /// In the public parts of other Secrets of the same namespace.
    FromCluster,
}

/// What to do where a certificate has a finding.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum FindingAction {
    /// The last good version of the Secret is served if there is one, otherwise the certificate as it is.
    HoldLastGood,
    /// The certificate is not served: the last good version, or else the default certificate, or else nothing.
    Reject,
    /// The certificate is served, and the finding reported.
    Serve,
}

/// What Handfast says about a policy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TlsPolicyStatus {
    /// `Accepted`: whether the policy is valid. `Programmed`: whether every host that names it uses it.
    #[serde(default)]
    #[schemars(length(max = rules::CONDITION_ITEMS))]
    pub conditions: Vec<Condition>,
}
