//! Everything that can be wrong with a chain or its key: data, not log lines.
//!
//! `Finding ──code──▶ row of the table: severity, meaning, who must act, remedy`

use super::anchors::AnchorSource;
use super::certificate::Place;
use super::refusals::{READ_ANCHOR_DATES, Refusal, Verifier};
use super::table::{self, Row};
use crate::tls::Severity;
use crate::tls::about::About;

/// One finding about a chain or its key. Places count the blocks of `tls.crt`, from 1.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A certificate was missing, and one from elsewhere is served in its place: its name, key identifier and signature
    /// fit, and the chain then leads to a trusted root.
    #[error("{issuer} is missing from tls.crt and was added from {origin}")]
    ChainCompleted {
        /// Its place in the chain's tree, behind the blocks of `tls.crt`.
        place: Place,
        /// The certificate that was missing.
        issuer: String,
        /// Where it was found.
        origin: String,
    },
    /// The served certificates do not fit into the server's first flight (RFC 6928): each full handshake waits one round trip longer.
    #[error("The chain has {bytes} bytes. Only {window} fit into the first flight")]
    ChainOverWindow {
        /// Size of the served certificates.
        bytes: usize,
        /// What fits into the initial congestion window (RFC 6928).
        window: usize,
    },
    /// The same certificate stands in `tls.crt` twice; it is served once.
    #[error("Certificate {place} in tls.crt repeats an earlier one")]
    DuplicateCertificate {
        /// Its place in `tls.crt`, from 1.
        place: usize,
    },
    /// The private key is encrypted; nobody can type a pass phrase here.
    #[error("The private key in tls.key is encrypted")]
    EncryptedKey,
    /// The validity has ended (RFC 5280 section 4.1.2.5). Served all the same.
    #[error("{place:#} ({subject}) expired on {not_after}")]
    Expired {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: String,
    },
    /// A surplus cross-sign has expired. Modern clients find another way; OpenSSL 1.0 and GnuTLS before 3.6.14 do not.
    #[error("{place:#} ({subject}) is a cross-sign that expired on {not_after}")]
    ExpiredCrossSign {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: String,
    },
    /// The trust anchor's own certificate has expired. RFC 5280 leaves its dates out; many clients do not.
    #[error("The root {root} {} expired on {not_after}: {}", anchor.place(), Refusal(READ_ANCHOR_DATES))]
    ExpiredRoot {
        /// Its subject.
        root: String,
        /// Why it is trusted.
        anchor: AnchorSource,
        /// End of validity.
        not_after: String,
    },
    /// Less than a third of its lifetime is left. Automatic renewal happens before that.
    #[error("{place:#} ({subject}) expires on {not_after}. Less than a third of its lifetime is left")]
    ExpiresSoon {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: String,
    },
    /// An issuer expires before the leaf does, so the chain breaks before the leaf's own date.
    #[error("{place:#} ({subject}) expires on {not_after}, before the certificate that it issued")]
    IntermediateExpiresFirst {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: String,
    },
    /// An issuer in the chain may not issue certificates (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
    #[error("{place:#} ({subject}) issued the certificate below it, but {fault}")]
    IssuerNotCa {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// What is missing.
        fault: String,
    },
    /// The private key does not belong to any certificate in `tls.crt`.
    #[error("The private key in tls.key does not belong to {certificate}")]
    KeyMismatch {
        /// What there is instead.
        certificate: String,
    },
    /// The served certificates have more than 4 KB, which some clients with small buffers do not take.
    #[error("The chain has {bytes} bytes, more than 4096")]
    LargeChain {
        /// Size of the served certificates.
        bytes: usize,
    },
    /// The leaf is a CA (RFC 5280 section 4.2.1.9). Firefox, rustls and others refuse it; OpenSSL and Java do not.
    #[error("{place:#} ({subject}) is a CA certificate, not a server certificate")]
    LeafIsCa {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
    },
    /// The leaf is there, but not as the first block.
    #[error("The certificate of the key ({subject}) is block {place} of tls.crt and must be the first")]
    LeafNotFirst {
        /// Its place in `tls.crt`, from 1.
        place: usize,
        /// Its subject.
        subject: String,
    },
    /// Valid for more than 825 days, which Apple's clients refuse whoever the CA is.
    #[error("The certificate ({subject}) is valid for {days} days. Apple's clients accept 825 at most")]
    LongValidity {
        /// Its subject.
        subject: String,
        /// Its validity.
        days: u64,
    },
    /// Something in a certificate has a form that some clients refuse.
    #[error("{certificate}: {fault}; {}", Refusal(by))]
    MalformedCertificate {
        /// Its place in `tls.crt`; `None` if it is the trust anchor.
        place: Option<Place>,
        /// Why it is trusted, if it is the trust anchor.
        anchor: Option<AnchorSource>,
        /// Which certificate, for people.
        certificate: String,
        /// What is wrong.
        fault: String,
        /// Who refuses it.
        by: &'static [Verifier],
    },
    /// A public certificate's issuer is neither in `tls.crt` nor a root. Browsers fetch it, everybody else fails.
    #[error(
        "The issuer of {place} is missing: {issuer}{}{}",
        key_id.as_ref().map(|id| format!(", key identifier {id}")).unwrap_or_default(),
        url.as_ref().map(|url| format!(", published at {url}")).unwrap_or_default()
    )]
    MissingIntermediate {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// The issuer's name.
        issuer: String,
        /// The issuer's key identifier, in hexadecimal.
        key_id: Option<String>,
        /// Where the CA publishes it.
        url: Option<String>,
    },
    /// The certificate demands a stapled OCSP response (RFC 7633), and Handfast sends none.
    #[error("The certificate ({subject}) requires a stapled OCSP response, and Handfast sends none")]
    MustStaple {
        /// Its subject.
        subject: String,
    },
    /// A CA of the chain may not issue for a name of the leaf (RFC 5280 section 4.2.1.10).
    #[error("The certificate ({subject}) has a name that its CA may not issue for")]
    NameConstraintViolated {
        /// Subject of the leaf.
        subject: String,
    },
    /// No subjectAltName covers the host (RFC 9525 section 6.3; common names do not count).
    #[error("The certificate does not cover {host}: {names}")]
    NameNotCovered {
        /// The host.
        host: String,
        /// What it has instead, and why that does not count.
        names: String,
    },
    /// `tls.crt` holds no certificate.
    #[error("tls.crt has no certificate{}", clause(instead))]
    NoCertificate {
        /// What it holds instead, if that can be told.
        instead: Option<String>,
        /// What to do about that.
        advice: Option<&'static str>,
    },
    /// `tls.key` holds no private key.
    #[error("tls.key has no private key{}", clause(instead))]
    NoKey {
        /// What it holds instead, if that can be told.
        instead: Option<String>,
    },
    /// extendedKeyUsage is there and leaves serverAuth out (RFC 5280 section 4.2.1.12).
    #[error("{place:#} ({subject}) may not be used for servers: its extended key usage is {usage}")]
    NoServerAuth {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// The purposes that it has.
        usage: String,
    },
    /// A PEM block in `tls.crt` that is something else.
    #[error("Block {place} in tls.crt (at byte {offset}) is {label}, not a CERTIFICATE")]
    NotACertificate {
        /// Its place, from 1.
        place: usize,
        /// Bytes before it.
        offset: usize,
        /// What it is, with an article.
        label: String,
        /// What to do about it.
        advice: Option<&'static str>,
    },
    /// It has the issuer's name, but its key did not sign the certificate below.
    #[error("{place:#} ({subject}) has the issuer's name, but did not sign the certificate below it")]
    NotTheIssuer {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
    },
    /// The validity has not begun.
    #[error("{place:#} ({subject}) is not valid before {not_before}")]
    NotValidYet {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// Start of validity.
        not_before: String,
    },
    /// TLS 1.2 wants each certificate followed by its issuer (RFC 5246 section 7.4.2). Served in the right order.
    #[error("The certificates in tls.crt are in the wrong order. The right order is {expected}")]
    OutOfOrder {
        /// The subjects in the right order.
        expected: String,
    },
    /// More CAs stand below one than its path length constraint allows (RFC 5280 section 4.2.1.9).
    #[error("The CA {subject} allows {allowed} CAs below it, and the chain has more")]
    PathLengthExceeded {
        /// The CA.
        subject: String,
        /// How many it allows.
        allowed: String,
    },
    /// RFC 5280's path validation fails for a rarer reason, which the message names.
    #[error("Strict clients refuse the chain: {error}")]
    PathRefused {
        /// Why.
        error: String,
    },
    /// Well-known clients cannot verify signatures of the leaf's key (RFC 8446 section 4.2.3), though they connect to
    /// hosts with a P-256 or RSA key.
    #[error("{count} known clients cannot verify signatures of the certificate's {key} key ({subject}): {clients}")]
    RarelySupportedKey {
        /// Its subject.
        subject: String,
        /// Type of the key.
        key: String,
        /// How many clients.
        count: usize,
        /// Some of them.
        clients: String,
    },
    /// A self-signed root stands in `tls.crt`. Left out when served.
    #[error("{place:#} ({subject}) is the root, which clients do not need")]
    RootIncluded {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
    },
    /// The validity of the trust anchor's own certificate has not begun.
    #[error("The root {root} {} is not valid before {not_before}: {}", anchor.place(), Refusal(READ_ANCHOR_DATES))]
    RootNotValidYet {
        /// Its subject.
        root: String,
        /// Why it is trusted.
        anchor: AnchorSource,
        /// Start of validity.
        not_before: String,
    },
    /// The leaf has signed itself, and nobody is known to trust it.
    #[error("The certificate ({subject}) is self-signed")]
    SelfSigned {
        /// Its subject.
        subject: String,
    },
    /// More than one private key.
    #[error("tls.key has more than one private key")]
    SeveralKeys,
    /// The leaf's RSA key is longer than 4096 bits: a signature costs many times that of a P-256 key.
    #[error("The certificate ({subject}) has an RSA key of {bits} bits, which makes each full handshake slow")]
    SlowKey {
        /// Its subject.
        subject: String,
        /// Size of the key.
        bits: usize,
    },
    /// A certificate lacks something that RFC 5280 section 4 prescribes and that clients with strict checks demand.
    #[error("{certificate}: {fault}; {}", Refusal(by))]
    StrictClientsRefuse {
        /// Its place in `tls.crt`; `None` if it is the trust anchor.
        place: Option<Place>,
        /// Why it is trusted, if it is the trust anchor.
        anchor: Option<AnchorSource>,
        /// Which certificate, for people.
        certificate: String,
        /// What is wrong.
        fault: String,
        /// Who refuses it.
        by: &'static [Verifier],
    },
    /// A certificate above the first one that a trusted root has issued. Served, because clients without that root need it.
    #[error("{place:#} ({subject}) is a cross-sign that clients with the root {anchor} do not need")]
    SurplusCrossSign {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// The anchor below it.
        anchor: String,
    },
    /// cert-manager has issued it with an authority that it made for this one certificate and threw away.
    #[error(
        "The certificate is the temporary one of cert-manager. No client trusts its issuer, CN=cert-manager.local. The order of the real one is not finished"
    )]
    TemporaryCertificate,
    /// The leaf has signed itself and is a trust anchor: every renewal has to reach every client first.
    #[error("The certificate ({subject}) is self-signed, and is itself a trust anchor")]
    TrustedSelfSigned {
        /// Its subject.
        subject: String,
    },
    /// The chain ends at a name that is neither in `tls.crt` nor trusted, and nothing says that it is a public one. Private CAs are normal.
    #[error(
        "The chain ends at {issuer}{}{}, which is not a known root. Either this is a private CA, or an intermediate is missing",
        key_id.as_ref().map(|id| format!(", key identifier {id}")).unwrap_or_default(),
        url.as_ref().map(|url| format!(", published at {url}")).unwrap_or_default()
    )]
    Unanchored {
        /// Where the chain ends.
        issuer: String,
        /// That issuer's key identifier, in hexadecimal, if its certificate is not there.
        key_id: Option<String>,
        /// Where the CA publishes its certificate, if that is not there.
        url: Option<String>,
    },
    /// A block that is no certificate, or a text that is no PEM.
    #[error("{}tls.crt{} cannot be parsed: {error}",
        block.map(|(place, _)| format!("Block {place} in ")).unwrap_or_default(),
        block.map(|(_, offset)| format!(" (at byte {offset})")).unwrap_or_default())]
    UnparsableCertificate {
        /// Its place, from 1, and the bytes before it; `None` for the whole text.
        block: Option<(usize, usize)>,
        /// What is wrong.
        error: String,
        /// What to do about that, if something better can be said than to put the certificate there again.
        advice: Option<&'static str>,
    },
    /// The key's PEM is damaged.
    #[error("tls.key cannot be parsed: {error}")]
    UnparsableKey {
        /// What is wrong.
        error: String,
        /// What to do about that, if something better can be said than to put the key there again.
        advice: Option<&'static str>,
    },
    /// A certificate that no certificate of the path was issued by. Left out when served.
    #[error("{place:#} ({subject}) does not belong to the chain")]
    UnrelatedCertificate {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
    },
    /// The key's type or size cannot be used for TLS here.
    #[error("The private key in tls.key cannot be used: it is {what}")]
    UnsupportedKey {
        /// What it is.
        what: String,
    },
    /// The leaf's public key is of a kind that no handshake can be signed with.
    #[error("The certificate ({subject}) has {what}, which clients do not accept from servers")]
    UnsupportedLeafKey {
        /// Its subject.
        subject: String,
        /// What it is.
        what: String,
    },
    /// Signed with an algorithm that TLS clients do not verify (RFC 8446 section 4.2.3).
    #[error("{place:#} ({subject}) is signed with {algorithm}, which clients do not support")]
    UnsupportedSignature {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// The algorithm.
        algorithm: String,
    },
    /// The chain ends at a root that is none of those that clients are said to trust.
    #[error("The chain leads to {root}, {why}")]
    UntrustedRoot {
        /// Place of the topmost certificate.
        place: Place,
        /// The root, or the issuer where it is not there.
        root: String,
        /// Why it is not trusted.
        why: String,
    },
    /// `ca.crt` holds something that is no certificate, so it anchors nothing.
    #[error("ca.crt is not used: {error}")]
    UnusableCa {
        /// What is wrong with it.
        error: String,
        /// What to do about that, if something better can be said than to put the CA there again.
        advice: Option<&'static str>,
    },
    /// Names in subjectAltName that no client looks for.
    #[error("The certificate ({subject}) has names that match no host: {names}")]
    UselessName {
        /// Its subject.
        subject: String,
        /// The names, each with what it is.
        names: String,
    },
    /// A public certificate is valid for longer than the CA/Browser Forum allowed at its issue (ballot SC-081v3). Browsers refuse it.
    #[error("The public certificate ({subject}) is valid for {days} days. When it was issued, {limit} were allowed")]
    ValidityOverLimit {
        /// Its subject.
        subject: String,
        /// Its validity.
        days: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The leaf's RSA key is shorter than 2048 bits.
    #[error("The certificate ({subject}) has an RSA key of {bits} bits. Clients need at least 2048")]
    WeakKey {
        /// Its subject.
        subject: String,
        /// Size of the key.
        bits: usize,
    },
    /// Signed with SHA-1, MD5 or a short RSA key (RFC 8446 section 4.4.2.4; RFC 9155).
    #[error("{place:#} ({subject}) is signed with {algorithm}")]
    WeakSignature {
        /// Its place in `tls.crt`, from 1.
        place: Place,
        /// Its subject.
        subject: String,
        /// The algorithm, or the weak key.
        algorithm: String,
    },
    /// The chain leads to a public root that trust stores have removed.
    #[error("The chain leads to the public root {root}: {removed}")]
    WithdrawnRoot {
        /// Place of the topmost certificate.
        place: Place,
        /// The root.
        root: String,
        /// Who has removed it, and who trusts it until when.
        removed: String,
    },
    /// keyUsage is there and leaves digitalSignature out, which every handshake here needs (RFC 8446 section 4.4.2.2).
    #[error("The certificate ({subject}) may not sign handshakes: its key usage lacks digitalSignature")]
    WrongKeyUsage {
        /// Its subject.
        subject: String,
    },
}

impl Finding {
    /// The stable kebab-case word in metrics, JSON and docs.
    pub fn code(&self) -> &'static str {
        match self {
            Finding::ChainCompleted { .. } => "chain-completed",
            Finding::ChainOverWindow { .. } => "chain-over-window",
            Finding::DuplicateCertificate { .. } => "duplicate-certificate",
            Finding::EncryptedKey => "encrypted-key",
            Finding::Expired { .. } => "expired",
            Finding::ExpiredCrossSign { .. } => "expired-cross-sign",
            Finding::ExpiredRoot { .. } => "expired-root",
            Finding::ExpiresSoon { .. } => "expires-soon",
            Finding::IntermediateExpiresFirst { .. } => "intermediate-expires-first",
            Finding::IssuerNotCa { .. } => "issuer-not-ca",
            Finding::KeyMismatch { .. } => "key-mismatch",
            Finding::LargeChain { .. } => "large-chain",
            Finding::LeafIsCa { .. } => "leaf-is-ca",
            Finding::LeafNotFirst { .. } => "leaf-not-first",
            Finding::LongValidity { .. } => "long-validity",
            Finding::MalformedCertificate { .. } => "malformed-certificate",
            Finding::MissingIntermediate { .. } => "missing-intermediate",
            Finding::MustStaple { .. } => "must-staple",
            Finding::NameConstraintViolated { .. } => "name-constraint-violated",
            Finding::NameNotCovered { .. } => "name-not-covered",
            Finding::NoCertificate { .. } => "no-certificate",
            Finding::NoKey { .. } => "no-key",
            Finding::NoServerAuth { .. } => "no-server-auth",
            Finding::NotACertificate { .. } => "not-a-certificate",
            Finding::NotTheIssuer { .. } => "not-the-issuer",
            Finding::NotValidYet { .. } => "not-valid-yet",
            Finding::OutOfOrder { .. } => "out-of-order",
            Finding::PathLengthExceeded { .. } => "path-length-exceeded",
            Finding::PathRefused { .. } => "path-refused",
            Finding::RarelySupportedKey { .. } => "rarely-supported-key",
            Finding::RootIncluded { .. } => "root-included",
            Finding::RootNotValidYet { .. } => "root-not-valid-yet",
            Finding::SelfSigned { .. } => "self-signed",
            Finding::SeveralKeys => "several-keys",
            Finding::SlowKey { .. } => "slow-key",
            Finding::StrictClientsRefuse { .. } => "strict-clients-refuse",
            Finding::SurplusCrossSign { .. } => "surplus-cross-sign",
            Finding::TemporaryCertificate => "temporary-certificate",
            Finding::TrustedSelfSigned { .. } => "trusted-self-signed",
            Finding::Unanchored { .. } => "unanchored",
            Finding::UnparsableCertificate { .. } => "unparsable-certificate",
            Finding::UnparsableKey { .. } => "unparsable-key",
            Finding::UnrelatedCertificate { .. } => "unrelated-certificate",
            Finding::UnsupportedKey { .. } => "unsupported-key",
            Finding::UnsupportedLeafKey { .. } => "unsupported-leaf-key",
            Finding::UnsupportedSignature { .. } => "unsupported-signature",
            Finding::UntrustedRoot { .. } => "untrusted-root",
            Finding::UnusableCa { .. } => "unusable-ca",
            Finding::UselessName { .. } => "useless-name",
            Finding::ValidityOverLimit { .. } => "validity-over-limit",
            Finding::WeakKey { .. } => "weak-key",
            Finding::WeakSignature { .. } => "weak-signature",
            Finding::WithdrawnRoot { .. } => "withdrawn-root",
            Finding::WrongKeyUsage { .. } => "wrong-key-usage",
        }
    }

    /// The block of `tls.crt` that it is about, from 1; `None` if it is about the whole.
    pub fn place(&self) -> Option<usize> {
        match self {
            Finding::DuplicateCertificate { place, .. }
            | Finding::LeafNotFirst { place, .. }
            | Finding::NotACertificate { place, .. } => Some(*place),
            Finding::UnparsableCertificate { block, .. } => block.map(|(place, _)| place),
            Finding::ChainCompleted { place, .. }
            | Finding::Expired { place, .. }
            | Finding::ExpiredCrossSign { place, .. }
            | Finding::ExpiresSoon { place, .. }
            | Finding::IntermediateExpiresFirst { place, .. }
            | Finding::IssuerNotCa { place, .. }
            | Finding::LeafIsCa { place, .. }
            | Finding::MissingIntermediate { place, .. }
            | Finding::NoServerAuth { place, .. }
            | Finding::NotTheIssuer { place, .. }
            | Finding::NotValidYet { place, .. }
            | Finding::RootIncluded { place, .. }
            | Finding::SurplusCrossSign { place, .. }
            | Finding::UnrelatedCertificate { place, .. }
            | Finding::UnsupportedSignature { place, .. }
            | Finding::UntrustedRoot { place, .. }
            | Finding::WeakSignature { place, .. }
            | Finding::WithdrawnRoot { place, .. } => Some(place.number),
            Finding::MalformedCertificate { place, .. } | Finding::StrictClientsRefuse { place, .. } => {
                place.map(|place| place.number)
            }
            Finding::ChainOverWindow { .. }
            | Finding::EncryptedKey
            | Finding::ExpiredRoot { .. }
            | Finding::KeyMismatch { .. }
            | Finding::LargeChain { .. }
            | Finding::LongValidity { .. }
            | Finding::MustStaple { .. }
            | Finding::NameConstraintViolated { .. }
            | Finding::NameNotCovered { .. }
            | Finding::NoCertificate { .. }
            | Finding::NoKey { .. }
            | Finding::OutOfOrder { .. }
            | Finding::PathLengthExceeded { .. }
            | Finding::PathRefused { .. }
            | Finding::RarelySupportedKey { .. }
            | Finding::RootNotValidYet { .. }
            | Finding::SelfSigned { .. }
            | Finding::SeveralKeys
            | Finding::SlowKey { .. }
            | Finding::TemporaryCertificate
            | Finding::TrustedSelfSigned { .. }
            | Finding::Unanchored { .. }
            | Finding::UnparsableKey { .. }
            | Finding::UnsupportedKey { .. }
            | Finding::UnsupportedLeafKey { .. }
            | Finding::UnusableCa { .. }
            | Finding::UselessName { .. }
            | Finding::ValidityOverLimit { .. }
            | Finding::WeakKey { .. }
            | Finding::WrongKeyUsage { .. } => None,
        }
    }

    /// The field of the Secret that it is about.
    pub fn field(&self) -> &'static str {
        if let Finding::ExpiredRoot { anchor: AnchorSource::Secret, .. }
        | Finding::MalformedCertificate { anchor: Some(AnchorSource::Secret), .. }
        | Finding::RootNotValidYet { anchor: AnchorSource::Secret, .. }
        | Finding::StrictClientsRefuse { anchor: Some(AnchorSource::Secret), .. } = self
        {
            return table::CA;
        }
        self.row().field
    }

    /// Verifiers that were tried and refuse the chain because of it, where that depends on who verifies.
    pub fn refused_by(&self) -> &'static [Verifier] {
        if let Finding::ExpiredRoot { .. } | Finding::RootNotValidYet { .. } = self {
            return READ_ANCHOR_DATES;
        }
        if let Finding::MalformedCertificate { by, .. } | Finding::StrictClientsRefuse { by, .. } = self {
            return by;
        }
        &[]
    }

    /// How bad it is. It never decides what is served.
    pub fn severity(&self) -> Severity {
        self.row().about.severity
    }

    /// True if what is served differs from what is written, so that clients see no fault.
    pub fn is_repaired(&self) -> bool {
        self.row().repaired
    }

    /// True if a strict client refuses the chain because of it, by RFC 5280 and RFC 9525 alone.
    pub fn is_refused(&self) -> bool {
        self.row().refused
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let remedy = self.row().about.remedy;
        if let Finding::NoCertificate { advice: Some(advice), .. }
        | Finding::NotACertificate { advice: Some(advice), .. }
        | Finding::UnparsableCertificate { advice: Some(advice), .. }
        | Finding::UnparsableKey { advice: Some(advice), .. }
        | Finding::UnusableCa { advice: Some(advice), .. } = self
        {
            return (*advice).to_owned();
        }
        // The URL was written by whoever asked for the certificate, and commands are copied into shells.
        let is_harmless = |url: &str| {
            url.starts_with("http") && url.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._~%-".contains(&b))
        };
        if let Finding::MissingIntermediate { url: Some(url), .. } | Finding::Unanchored { url: Some(url), .. } = self
            && is_harmless(url)
        {
            let read = match url.ends_with(".p7c") {
                true => "openssl pkcs7 -inform der -print_certs",
                false => "openssl x509 -inform der",
            };
            return format!("{remedy}; get it with curl -s {url} | {read}");
        }
        remedy.to_owned()
    }

    /// Every code with what is to be said about it, sorted by code.
    pub fn all() -> impl Iterator<Item = &'static About> {
        table::ROWS.iter().map(|row| &row.about)
    }

    fn row(&self) -> &'static Row {
        table::row(self.code())
    }
}

/// A further clause of a message, if there is one.
fn clause(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}
