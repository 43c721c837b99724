//! PEM to a credential, and everything that is wrong with it.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::Severity;
use crate::snapshot::HostName;

/// A certificate chain and its private key that can be served: leaf first, each certificate issued by the next, the
/// key matching the leaf.
pub struct Credential {
    certified: Arc<CertifiedKey>,
}

/// What came of a Secret's `tls.crt` and `tls.key`.
pub struct Loaded {
    /// What can be served; `None` if nothing can.
    pub credential: Option<Arc<Credential>>,
    /// What is wrong whatever the time and the host. An error of these does not mean that nothing can be served.
    pub findings: Vec<Finding>,
}

/// What time says about a chain.
pub struct Dated {
    /// Certificates that are expired, not valid yet, or expire soon.
    pub findings: Vec<Finding>,
    /// When time alone changes the findings.
    pub changes_at: Option<UnixTime>,
}

impl Credential {
    /// Parses, orders and matches. Pure; time and host are judged by the other functions.
    pub fn load(tls_crt: &[u8], tls_key: &[u8]) -> Loaded {
        let _ = (tls_crt, tls_key);
        Loaded { credential: None, findings: Vec::new() }
    }

    /// What is wrong at this time.
    pub fn dated(&self, now: UnixTime) -> Dated {
        let _ = now;
        Dated { findings: Vec::new(), changes_at: None }
    }

    /// Whether the leaf's subjectAltName covers the host (RFC 9525 section 6.3).
    pub fn covers(&self, host: &HostName) -> Result<(), Finding> {
        let _ = host;
        Ok(())
    }

    /// The served chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

/// One finding about a chain or its key.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The private key does not belong to any certificate.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
}

impl Finding {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Finding::KeyMismatch => "key-mismatch",
        }
    }

    /// The field of the Secret that it is about: `tls.crt` or `tls.key`.
    pub fn field(&self) -> &'static str {
        match self {
            Finding::KeyMismatch => "tls.key",
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::KeyMismatch => Severity::Error,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Finding::KeyMismatch => "put the key that the certificate was issued for into tls.key".into(),
        }
    }
}
