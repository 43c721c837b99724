//! PEM to a credential, and everything that is wrong with it.
//!
//! `tls.crt, tls.key ──parse──▶ certificates + key ──walk──▶ Credential + findings`
//!
//! The leaf is the certificate whose public key is the private key's, wherever it stands. From there the walk goes to
//! the issuer: the certificate whose subject is the issuer's name, whose subject key identifier is the authority key
//! identifier where both are given, and whose key verifies the signature (RFC 5280 section 6.1). What is served is
//! the walked path: leaf first, without the root, duplicates or unrelated certificates. Everything is checked here,
//! before traffic, because a handshake can only fail, not explain.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::{Severity, TlsSummary, rfc3339, sha256_hex};
use crate::snapshot::HostName;

/// A certificate chain and its private key that can be served: leaf first, each certificate issued by the next, the
/// key matching the leaf.
pub struct Credential {
    certified: Arc<CertifiedKey>,
    /// One per served certificate, leaf first.
    members: Vec<Member>,
    /// Subject alternative DNS names of the leaf, lower case, in its order.
    names: Vec<Box<str>>,
    key: Box<str>,
}

/// What we need to know about one certificate of the chain.
struct Member {
    subject: Box<str>,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// What came of a Secret's `tls.crt` and `tls.key`.
pub struct Loaded {
    /// What can be served; `None` if nothing can.
    pub credential: Option<Arc<Credential>>,
    /// What is wrong whatever the time and the host. An error among these does not mean that nothing can be served.
    pub findings: Vec<Finding>,
}

/// What time says about a chain.
pub struct Dated {
    /// Certificates that are expired or not valid yet.
    pub findings: Vec<Finding>,
    /// When time alone changes the findings.
    pub changes_at: Option<UnixTime>,
}

impl Credential {
    /// Parses, matches and orders. Pure; time and host are judged by the other functions.
    pub fn load(tls_crt: &[u8], tls_key: &[u8]) -> Loaded {
        let mut findings = Vec::new();
        let certificates = parse_certificates(tls_crt, &mut findings);
        let key = parse_key(tls_key).map_err(|finding| findings.push(finding)).ok();
        let (Some(key), false) = (key, certificates.is_empty()) else {
            return Loaded { credential: None, findings };
        };
        let parsed: Vec<Parsed<'_>> = certificates
            .iter()
            .filter_map(|(block, der)| {
                Some(Parsed { block: *block, der, x509: X509Certificate::from_der(der).ok()?.1 })
            })
            .collect();
        let credential = walk(&parsed, key, &mut findings).map(Arc::new);
        Loaded { credential, findings }
    }

    /// What is wrong at this time, for each certificate of the served chain.
    pub fn dated(&self, now: UnixTime) -> Dated {
        let mut findings = Vec::new();
        let mut changes_at: Option<UnixTime> = None;
        for (index, member) in self.members.iter().enumerate() {
            let subject = member.subject.to_string();
            let index = index + 1;
            let next = if now < member.not_before {
                findings.push(Finding::NotValidYet { index, subject, not_before: rfc3339(member.not_before) });
                Some(member.not_before)
            } else if now > member.not_after {
                findings.push(Finding::Expired { index, subject, not_after: rfc3339(member.not_after) });
                None
            } else {
                // notAfter itself still belongs to the validity (RFC 5280 section 4.1.2.5).
                Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(member.not_after.as_secs() + 1)))
            };
            changes_at = [changes_at, next].into_iter().flatten().min();
        }
        Dated { findings, changes_at }
    }

    /// Whether the leaf's subjectAltName covers the host (RFC 9525 section 6.3): the name itself, or a wildcard for
    /// exactly its first label. A common name never counts. Rules without a host need no name.
    pub fn covers(&self, host: &HostName) -> Result<(), Finding> {
        let wildcard = host.wildcard();
        let covered = |name: &str| name == host.as_str() || wildcard.as_ref().is_some_and(|w| name == w.as_str());
        if host.is_catch_all() || self.names.iter().any(|name| covered(name)) {
            return Ok(());
        }
        let names = if self.names.is_empty() { "no DNS name".to_owned() } else { self.names.join(", ") };
        Err(Finding::NameNotCovered { host: host.to_string(), names })
    }

    /// The served chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain and the key, as rustls takes them.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// What is served, for people.
    pub fn summary(&self) -> TlsSummary {
        let leaf = &self.members[0];
        TlsSummary {
            fingerprint: sha256_hex(&self.certified.cert[0]).into(),
            names: self.names.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            key: self.key.clone(),
            chain_length: self.members.len(),
        }
    }
}

/// One certificate of `tls.crt` that parses.
struct Parsed<'a> {
    /// Its place in `tls.crt`, from 1.
    block: usize,
    der: &'a CertificateDer<'static>,
    x509: X509Certificate<'a>,
}

impl Parsed<'_> {
    fn subject(&self) -> String {
        display_name(&self.x509)
    }

    /// Whether `other` issued this certificate, by names, key identifiers and signature.
    fn is_issued_by(&self, other: &Parsed<'_>) -> bool {
        if self.x509.issuer().as_raw() != other.x509.subject().as_raw() {
            return false;
        }
        let authority = self.x509.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        let subject = other.x509.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        if let (Some(authority), Some(subject)) = (authority, subject)
            && authority != subject
        {
            return false;
        }
        self.x509.verify_signature(Some(other.x509.public_key())).is_ok()
    }

    fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }
}

/// All certificates of `tls.crt` that parse, with their place (from 1); findings for what does not.
fn parse_certificates(pem: &[u8], findings: &mut Vec<Finding>) -> Vec<(usize, CertificateDer<'static>)> {
    let mut certificates = Vec::new();
    let mut seen = HashSet::new();
    let mut index = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        index += 1;
        let der = match section {
            Ok((SectionKind::Certificate, der)) => der,
            Ok((kind, _)) => {
                findings.push(Finding::NotACertificate { index, label: block_label(kind).into() });
                continue;
            }
            Err(error) => {
                findings.push(Finding::UnparsableCertificate { index, error: pem_error(&error).into() });
                continue;
            }
        };
        match X509Certificate::from_der(&der) {
            Ok(([], _)) => {}
            Ok(_) => {
                let error = "bytes follow the certificate".into();
                findings.push(Finding::UnparsableCertificate { index, error });
                continue;
            }
            Err(error) => {
                findings
                    .push(Finding::UnparsableCertificate { index, error: format!("not a DER certificate ({error})") });
                continue;
            }
        }
        if !seen.insert(sha256_hex(&der)) {
            findings.push(Finding::DuplicateCertificate { index });
            continue;
        }
        certificates.push((index, CertificateDer::from(der)));
    }
    if certificates.is_empty() && findings.is_empty() {
        findings.push(Finding::NoCertificate);
    }
    certificates
}

/// What a PEM block holds that is no certificate.
fn block_label(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => "private key",
        SectionKind::PublicKey => "public key",
        SectionKind::Crl => "revocation list",
        SectionKind::Csr => "certificate request",
        // The enum is open.
        _ => "block of another kind",
    }
}

/// The one private key of `tls.key`. Errors never quote its content.
fn parse_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, Finding> {
    if pem.windows(b"ENCRYPTED".len()).any(|window| window == b"ENCRYPTED") {
        return Err(Finding::EncryptedKey);
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(pem);
    let key = match keys.next() {
        None => return Err(Finding::NoKey),
        Some(Err(error)) => return Err(Finding::UnparsableKey { error: pem_error(&error).into() }),
        Some(Ok(key)) => key,
    };
    if keys.next().is_some() {
        return Err(Finding::SeveralKeys);
    }
    aws_lc_rs::sign::any_supported_type(&key).map_err(|_| Finding::UnsupportedKey)
}

/// PEM errors in words, without the offending bytes.
fn pem_error(error: &rustls::pki_types::pem::Error) -> &'static str {
    use rustls::pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a BEGIN line has no matching END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        Error::Base64Decode(_) => "the base64 text is damaged",
        _ => "it is not PEM",
    }
}

/// Finds the leaf by the key and walks to the top.
fn walk(parsed: &[Parsed<'_>], key: Arc<dyn SigningKey>, findings: &mut Vec<Finding>) -> Option<Credential> {
    let spki = key.public_key()?;
    let Some(leaf) = parsed.iter().find(|candidate| candidate.x509.public_key().raw == spki.as_ref()) else {
        let subject = parsed.first().map(Parsed::subject).unwrap_or_default();
        findings.push(Finding::KeyMismatch { subject });
        return None;
    };
    let mut path = vec![leaf];
    let mut root = None;
    let mut top = leaf;
    while !top.is_self_signed() {
        let on_path = |candidate: &Parsed<'_>| path.iter().any(|member| member.block == candidate.block);
        let Some(issuer) = parsed.iter().find(|candidate| !on_path(candidate) && top.is_issued_by(candidate)) else {
            break;
        };
        if issuer.is_self_signed() {
            // Clients trust a root because they have it; sending it only costs bytes.
            root = Some(issuer);
            break;
        }
        path.push(issuer);
        top = issuer;
    }

    for unrelated in
        parsed.iter().filter(|candidate| !path.iter().chain(&root).any(|member| member.block == candidate.block))
    {
        let named_issuer = path.iter().any(|member| member.x509.issuer().as_raw() == unrelated.x509.subject().as_raw());
        let (index, subject) = (unrelated.block, unrelated.subject());
        findings.push(match named_issuer {
            true => Finding::NotTheIssuer { index, subject },
            false => Finding::UnrelatedCertificate { index, subject },
        });
    }
    if let Some(root) = root {
        findings.push(Finding::RootIncluded { index: root.block, subject: root.subject() });
    }
    let order: Vec<usize> = path.iter().chain(&root).map(|member| member.block).collect();
    if leaf.block != parsed[0].block {
        findings.push(Finding::LeafNotFirst { index: leaf.block, subject: leaf.subject() });
    } else if !order.is_sorted() {
        let expected = path.iter().chain(&root).map(|member| member.subject()).collect::<Vec<_>>().join(" <- ");
        findings.push(Finding::OutOfOrder { expected });
    }

    let chain: Vec<CertificateDer<'static>> = path.iter().map(|member| member.der.clone()).collect();
    let time = |time: &x509_parser::time::ASN1Time| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
    };
    let members = path.iter().map(|member| {
        let validity = member.x509.validity();
        Member {
            subject: member.subject().into(),
            not_before: time(&validity.not_before),
            not_after: time(&validity.not_after),
        }
    });
    Some(Credential {
        certified: Arc::new(CertifiedKey::new(chain, key)),
        members: members.collect(),
        names: dns_names(&leaf.x509),
        key: key_name(&leaf.x509),
    })
}

fn dns_names(x509: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(san)) = x509.subject_alternative_name() else { return Vec::new() };
    san.value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect()
}

/// The key's type and size in the words that people use.
fn key_name(x509: &X509Certificate<'_>) -> Box<str> {
    use x509_parser::public_key::PublicKey;
    match x509.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("rsa-{}", rsa.key_size()).into(),
        Ok(PublicKey::EC(point)) => {
            format!("ecdsa-p{}", if point.key_size() == 528 { 521 } else { point.key_size() }).into()
        }
        _ if x509.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" => "ed25519".into(),
        _ => "unknown".into(),
    }
}

/// The common name, or the whole subject where there is none, or the first DNS name.
fn display_name(x509: &X509Certificate<'_>) -> String {
    let common_name = x509.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    match common_name {
        Some(name) => format!("CN={name}"),
        None => {
            let subject = x509.subject().to_string();
            let first_name =
                || dns_names(x509).first().map_or_else(|| "(no subject)".to_owned(), |name| name.to_string());
            if subject.is_empty() { first_name() } else { subject }
        }
    }
}

/// One finding about a chain or its key. Positions count from 1: for blocks of `tls.crt` in its order, for dates in
/// the served chain.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The same certificate stands in `tls.crt` twice; it is served once.
    #[error("certificate {index} in tls.crt repeats an earlier one")]
    DuplicateCertificate {
        /// Its place.
        index: usize,
    },
    /// The private key is encrypted; nobody can type a pass phrase here.
    #[error("the private key in tls.key is encrypted")]
    EncryptedKey,
    /// The validity has ended (RFC 5280 section 4.1.2.5). Served all the same.
    #[error("certificate {index} of the chain ({subject}) expired at {not_after}")]
    Expired {
        /// Its place in the served chain.
        index: usize,
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: String,
    },
    /// The private key does not belong to any certificate in `tls.crt`.
    #[error("the private key in tls.key does not belong to the certificate in tls.crt ({subject})")]
    KeyMismatch {
        /// Subject of the first certificate.
        subject: String,
    },
    /// The leaf is there, but not as the first block.
    #[error("the certificate of the key ({subject}) stands at place {index} of tls.crt, not first")]
    LeafNotFirst {
        /// Its place.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// No subjectAltName covers the host (RFC 9525 section 6.3; common names do not count).
    #[error("the certificate does not cover {host}: it has {names}")]
    NameNotCovered {
        /// The host.
        host: String,
        /// The DNS names that it has.
        names: String,
    },
    /// `tls.crt` holds no certificate.
    #[error("tls.crt holds no certificate")]
    NoCertificate,
    /// `tls.key` holds no private key.
    #[error("tls.key holds no private key")]
    NoKey,
    /// A PEM block in `tls.crt` that is something else.
    #[error("block {index} in tls.crt is a {label}, not a CERTIFICATE")]
    NotACertificate {
        /// Its place.
        index: usize,
        /// Its label.
        label: String,
    },
    /// It has the issuer's name, but its key did not sign the certificate below.
    #[error(
        "certificate {index} in tls.crt ({subject}) has the issuer's name but did not sign the certificate below it"
    )]
    NotTheIssuer {
        /// Its place.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// The validity has not begun.
    #[error("certificate {index} of the chain ({subject}) is not valid before {not_before}")]
    NotValidYet {
        /// Its place in the served chain.
        index: usize,
        /// Its subject.
        subject: String,
        /// Start of validity.
        not_before: String,
    },
    /// TLS 1.2 wants each certificate followed by its issuer (RFC 5246 section 7.4.2). Served in the right order.
    #[error("the certificates in tls.crt are out of order: it should be {expected}")]
    OutOfOrder {
        /// The subjects in the right order.
        expected: String,
    },
    /// A self-signed root stands in `tls.crt`. Left out when served.
    #[error("certificate {index} in tls.crt ({subject}) is the root itself")]
    RootIncluded {
        /// Its place.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// More than one private key.
    #[error("tls.key holds more than one private key")]
    SeveralKeys,
    /// A block that is no certificate.
    #[error("block {index} in tls.crt cannot be parsed: {error}")]
    UnparsableCertificate {
        /// Its place.
        index: usize,
        /// What is wrong.
        error: String,
    },
    /// The key's PEM is damaged.
    #[error("tls.key cannot be parsed: {error}")]
    UnparsableKey {
        /// What is wrong.
        error: String,
    },
    /// A certificate that no certificate of the path was issued by. Left out when served.
    #[error("certificate {index} in tls.crt ({subject}) does not belong to the chain")]
    UnrelatedCertificate {
        /// Its place.
        index: usize,
        /// Its subject.
        subject: String,
    },
    /// The key's type or size cannot be used for TLS here.
    #[error("the private key in tls.key cannot be used: its form, type or size is not supported")]
    UnsupportedKey,
}

impl Finding {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Finding::DuplicateCertificate { .. } => "duplicate-certificate",
            Finding::EncryptedKey => "encrypted-key",
            Finding::Expired { .. } => "expired",
            Finding::KeyMismatch { .. } => "key-mismatch",
            Finding::LeafNotFirst { .. } => "leaf-not-first",
            Finding::NameNotCovered { .. } => "name-not-covered",
            Finding::NoCertificate => "no-certificate",
            Finding::NoKey => "no-key",
            Finding::NotACertificate { .. } => "not-a-certificate",
            Finding::NotTheIssuer { .. } => "not-the-issuer",
            Finding::NotValidYet { .. } => "not-valid-yet",
            Finding::OutOfOrder { .. } => "out-of-order",
            Finding::RootIncluded { .. } => "root-included",
            Finding::SeveralKeys => "several-keys",
            Finding::UnparsableCertificate { .. } => "unparsable-certificate",
            Finding::UnparsableKey { .. } => "unparsable-key",
            Finding::UnrelatedCertificate { .. } => "unrelated-certificate",
            Finding::UnsupportedKey => "unsupported-key",
        }
    }

    /// The field of the Secret that it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Finding::EncryptedKey
            | Finding::KeyMismatch { .. }
            | Finding::NoKey
            | Finding::SeveralKeys
            | Finding::UnparsableKey { .. }
            | Finding::UnsupportedKey => "data[tls.key]",
            Finding::DuplicateCertificate { .. }
            | Finding::Expired { .. }
            | Finding::LeafNotFirst { .. }
            | Finding::NameNotCovered { .. }
            | Finding::NoCertificate
            | Finding::NotACertificate { .. }
            | Finding::NotTheIssuer { .. }
            | Finding::NotValidYet { .. }
            | Finding::OutOfOrder { .. }
            | Finding::RootIncluded { .. }
            | Finding::UnparsableCertificate { .. }
            | Finding::UnrelatedCertificate { .. } => "data[tls.crt]",
        }
    }

    /// How bad it is. It never decides what is served.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::EncryptedKey
            | Finding::Expired { .. }
            | Finding::KeyMismatch { .. }
            | Finding::NameNotCovered { .. }
            | Finding::NoCertificate
            | Finding::NoKey
            | Finding::NotTheIssuer { .. }
            | Finding::NotValidYet { .. }
            | Finding::SeveralKeys
            | Finding::UnparsableCertificate { .. }
            | Finding::UnparsableKey { .. }
            | Finding::UnsupportedKey => Severity::Error,
            Finding::DuplicateCertificate { .. }
            | Finding::LeafNotFirst { .. }
            | Finding::NotACertificate { .. }
            | Finding::OutOfOrder { .. }
            | Finding::RootIncluded { .. }
            | Finding::UnrelatedCertificate { .. } => Severity::Warning,
        }
    }

    /// True if what is served differs from what is written, so that clients see no fault.
    pub fn is_repaired(&self) -> bool {
        match self {
            Finding::DuplicateCertificate { .. }
            | Finding::LeafNotFirst { .. }
            | Finding::NotACertificate { .. }
            | Finding::OutOfOrder { .. }
            | Finding::RootIncluded { .. }
            | Finding::UnrelatedCertificate { .. } => true,
            Finding::EncryptedKey
            | Finding::Expired { .. }
            | Finding::KeyMismatch { .. }
            | Finding::NameNotCovered { .. }
            | Finding::NoCertificate
            | Finding::NoKey
            | Finding::NotTheIssuer { .. }
            | Finding::NotValidYet { .. }
            | Finding::SeveralKeys
            | Finding::UnparsableCertificate { .. }
            | Finding::UnparsableKey { .. }
            | Finding::UnsupportedKey => false,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let remedy = match self {
            Finding::DuplicateCertificate { .. } => "delete the repeated block from tls.crt",
            Finding::EncryptedKey => "decrypt it first: openssl pkey -in encrypted.key -out tls.key",
            Finding::Expired { .. } => "renew the certificate; with cert-manager, look at the Certificate's events",
            Finding::KeyMismatch { .. } => {
                "put the key that the certificate was issued for into tls.key, or have the certificate issued again for this key"
            }
            Finding::LeafNotFirst { .. } => "put the host's own certificate first in tls.crt, its issuer after it",
            Finding::NameNotCovered { .. } => {
                "have a certificate issued with the host as subjectAltName, or name the right Secret"
            }
            Finding::NoCertificate => {
                "put the PEM certificate of the host, followed by its intermediates, into tls.crt"
            }
            Finding::NoKey => "put the PEM private key (PKCS#8, PKCS#1 or SEC1) into tls.key",
            Finding::NotACertificate { .. } => {
                "leave nothing but CERTIFICATE blocks in tls.crt; a private key there is readable by more people than you think"
            }
            Finding::NotTheIssuer { .. } => {
                "replace it by the certificate that really issued the one below it; the CA publishes it"
            }
            Finding::NotValidYet { .. } => "wait, or check the clocks of the CA and of this machine",
            Finding::OutOfOrder { .. } => "write each certificate's issuer right after it",
            Finding::RootIncluded { .. } => "delete the root from tls.crt: clients have it or do not trust it",
            Finding::SeveralKeys => "leave only the key of the certificate in tls.key",
            Finding::UnparsableCertificate { .. } => "replace the block by the certificate as the CA sent it, in PEM",
            Finding::UnparsableKey { .. } => "replace it by the key in PEM (PKCS#8, PKCS#1 or SEC1)",
            Finding::UnrelatedCertificate { .. } => {
                "delete it from tls.crt, or replace it by the issuer of the certificate before it"
            }
            Finding::UnsupportedKey => "use an ECDSA key (P-256, P-384 or P-521), RSA of 2048 to 8192 bits, or Ed25519",
        };
        remedy.to_owned()
    }
}
