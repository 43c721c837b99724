//! The `TlsPolicy` resource (`handfast.dev/v1alpha1`): how hosts terminate TLS.
//!
//! `TlsPolicy.spec ──compile/policy.rs──▶ tls::Policy and what a host does about findings`
//!
//! An Ingress chooses a policy by the annotation `handfast.dev/tls-policy`; otherwise the parameters of its
//! IngressClass do, otherwise `--default-tls-policy`. Every field may be left out: then the preset's value holds, and
//! without a preset Handfast's default. A field is here only once it works.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How hosts terminate TLS. Every field may be left out.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[kube(
    group = "handfast.dev",
    version = "v1alpha1",
    kind = "TlsPolicy",
    plural = "tlspolicies",
    namespaced,
    status = "TlsPolicyStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct TlsPolicySpec {
    /// What holds for every field that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Oldest protocol version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<ProtocolVersion>,
    /// Newest protocol version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_version: Option<ProtocolVersion>,
    /// Cipher suites, best first: names of OpenSSL or IANA, or any part of the language of openssl-ciphers(1). The
    /// entries are read as one list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suites: Option<Vec<String>>,
    /// Whose order of cipher suites decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite_order: Option<CipherSuiteOrder>,
    /// Key exchange groups, best first: names of OpenSSL, nginx or IANA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Whose order of groups decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_order: Option<GroupOrder>,
    /// Application protocols, best first: `h2`, `http/1.1`. An empty list negotiates none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<Vec<String>>,
    /// Whether clients get tickets to resume their sessions with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tickets: Option<bool>,
    /// Strict-Transport-Security on HTTPS responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Certificates of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// What to do about a chain that lacks an intermediate certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainRepair>,
    /// What to do where a certificate has a finding, by its code (`handfast explain` lists them). Without an entry it
    /// is served, and reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub finding_actions: BTreeMap<String, FindingAction>,
    /// Clients that must be able to connect, by the ids that `handfast check --clients` prints. A change that locks
    /// one of them out is not put in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_clients: Vec<String>,
    /// Whether annotations of an Ingress (`ssl-protocols` and others) win over this policy. They do unless this is
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_overrides: Option<bool>,
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
    /// How long browsers use HTTPS only, in seconds. 0 makes them forget.
    pub max_age: i64,
    /// Whether this holds for all subdomains as well.
    #[serde(default)]
    pub include_sub_domains: bool,
    /// Whether browsers may ship the host in their list.
    #[serde(default)]
    pub preload: bool,
}

/// Certificates of clients (RFC 8446 section 4.3.2).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuth {
    /// Whether a client may connect without one.
    pub mode: ClientAuthMode,
    /// The Secret of the policy's namespace whose `ca.crt` issues them.
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
    /// Where missing intermediates are looked for. Without it, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// `Accepted` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
