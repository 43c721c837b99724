//! All we know about TLS: pure, no Kubernetes, no sockets.
//!
//! `tls.crt, tls.key ──chain──▶ Credential ──× policy──▶ ServerTls`, and
//! `policy × credentials × offer ──negotiate──▶ Agreement or Reason`

pub mod about;
pub mod alert;
pub mod answer;
mod bytes;
pub mod capabilities;
pub mod chain;
pub mod ciphers;
pub mod clients;
pub mod codes;
pub mod compat;
pub mod negotiate;
pub mod offer;
pub mod policy;
pub mod preflight;
pub mod reason;
pub mod rejection;
pub mod shadow;

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::UnixTime;

pub use policy::ServerTls;

/// How bad something is. It never decides what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Works, and will hurt some client or some day.
    Warning,
    /// Some client fails now, or something is not served.
    Error,
}

impl Severity {
    /// The word used in JSON, metrics and messages.
    pub fn code(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A protocol version that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// The value of the `version` label.
    pub fn label(self) -> &'static str {
        match self {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        }
    }

    /// The name that nginx and OpenSSL have for it.
    pub fn nginx(self) -> &'static str {
        match self {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        }
    }
}

/// What is served, without secrets: for `render()`, metrics and `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSummary {
    /// SHA-256 of the leaf certificate, lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// Subject alternative names of the leaf, in its order.
    pub names: Vec<Box<str>>,
    /// Start of the leaf's validity.
    pub not_before: UnixTime,
    /// End of the leaf's validity.
    pub not_after: UnixTime,
    /// Key type, for example `ecdsa-p256` or `rsa-2048`.
    pub key: Box<str>,
    /// Certificates served, leaf included.
    pub chain_length: usize,
    /// All certificates that were given, and whom they lead to.
    pub outline: Arc<chain::Outline>,
}

impl TlsSummary {
    /// The whole name of the leaf's issuer, for people; empty where it is not known.
    pub fn issuer(&self) -> &str {
        self.outline.path.first().map_or("", |leaf| &leaf.issuer)
    }
}

impl fmt::Display for TlsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} names={} chain={}", self.key, self.fingerprint, self.names.join(","), self.chain_length)
    }
}

/// A time as RFC 3339 in UTC, to the second.
pub fn rfc3339(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s since 1970"), |time| time.to_string())
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
