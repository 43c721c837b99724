//! PEM to a credential, and everything that is wrong with it.
//!
//! ```text
//! tls.crt ──pem──▶ blocks ──certificate──▶ certificates ──walk──▶ path ──judge──▶ findings
//! tls.key ──key──▶ key ───────which is the leaf───────────▲  ▲
//! ca.crt, roots ──anchors──▶ whom clients trust ──────────┘  │
//! other Secrets, a bundle ──complete──▶ what is missing ─────┘
//! ```
//!
//! The leaf is the certificate whose public key is the private key's, wherever it stands. From there the walk goes to
//! the issuer: the certificate whose subject is the issuer's name, whose subject key identifier is the authority key
//! identifier where both are given, and whose key verifies the signature (RFC 5280 section 6.1). What is served is
//! the walked path: leaf first, without the root, duplicates or unrelated certificates. Everything is checked here,
//! before traffic, because a handshake can only fail, not explain.

mod anchors;
mod certificate;
mod complete;
mod der;
mod dn;
mod finding;
mod form;
mod judge;
mod key;
mod names;
mod outline;
mod pem;
mod refusals;
mod revocation;
mod signature;
mod table;
mod walk;
mod withdrawn;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};

use self::certificate::{Certificate, Names};
use self::form::{Form, Thing};
use self::pem::{Block, Label};
use self::walk::{End, Walk};
use super::{Severity, TlsSummary, rfc3339, sha256_hex};
use crate::snapshot::HostName;

pub use anchors::{AnchorSource, BadAnchors, TrustAnchors};
pub use certificate::Place;
pub use complete::Candidates;
pub use finding::Finding;
pub use names::Name;
pub use outline::{AnchorDates, Link, Note, Outline, OutlineEnd, Role, Validity};
pub use refusals::Verifier;
pub use revocation::{BadLists, RevocationLists};
pub use withdrawn::Withdrawn;

/// A certificate chain and its private key that can be served: leaf first, each certificate issued by the next, the
/// key matching the leaf.
pub struct Credential {
    certified: Arc<CertifiedKey>,
    /// Its certificates are those of `certified`.
    chain: Chain,
}

/// What came of a Secret's `tls.crt` and `tls.key`.
pub struct Loaded {
    /// What can be served; `None` if nothing can.
    pub credential: Option<Arc<Credential>>,
    /// What is wrong whatever the time and the host. An error among these does not mean that nothing can be served; but
    /// where nothing can be, an error says why.
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// Nothing can be served. The only way to say so: whatever else was found, there is an error that explains it.
    fn unusable(mut findings: Vec<Finding>, cause: Finding) -> Self {
        explain(&mut findings, cause);
        Self { credential: None, findings }
    }
}

/// Adds a cause where no error stands among findings yet.
fn explain(findings: &mut Vec<Finding>, cause: Finding) {
    if !findings.iter().any(|finding| finding.severity() == Severity::Error && !finding.is_repaired()) {
        findings.push(cause);
    }
}

/// What time says about a chain.
pub struct Dated {
    /// Certificates that are expired, not valid yet, or expire soon.
    pub findings: Vec<Finding>,
    /// When time alone changes the findings.
    pub changes_at: Option<UnixTime>,
}

/// A chain without its key: what clients judge.
pub struct Chain {
    /// What is served, leaf first.
    certificates: Vec<CertificateDer<'static>>,
    /// Subject alternative names of the leaf, and its common name.
    names: Names,
    outline: Arc<Outline>,
}

impl Credential {
    /// Parses, matches, orders and judges. Pure; time and host are judged by the other functions.
    ///
    /// `ca_crt` is a trust anchor beside `anchors`, and nothing else; empty if there is none.
    pub fn load(tls_crt: &[u8], tls_key: &[u8], ca_crt: &[u8], anchors: &TrustAnchors) -> Loaded {
        Self::load_completed(tls_crt, tls_key, ca_crt, anchors, &Candidates::new())
    }

    /// The same, but certificates that are missing from `tls.crt` are taken from the candidates. Where nothing is
    /// missing (see [`Credential::has_gap`]) or they do not help, nothing differs.
    pub fn load_completed(
        tls_crt: &[u8],
        tls_key: &[u8],
        ca_crt: &[u8],
        anchors: &TrustAnchors,
        candidates: &Candidates,
    ) -> Loaded {
        let mut findings = Vec::new();
        let certificates = parse(tls_crt, &mut findings);
        let key = match key::parse(tls_key) {
            Ok(key) => key,
            Err(finding) => {
                findings.push(finding.clone());
                return Loaded::unusable(findings, finding);
            }
        };
        if certificates.is_empty() {
            return Loaded::unusable(findings, Finding::NoCertificate { instead: None, advice: None });
        }
        let leaf =
            key.public_key().and_then(|spki| certificates.iter().position(|candidate| candidate.spki == spki.as_ref()));
        let Some(leaf) = leaf else {
            let mismatch = Finding::KeyMismatch { certificate: the_certificate(&certificates) };
            findings.push(mismatch.clone());
            return Loaded::unusable(findings, mismatch);
        };
        let chain = Chain::of(certificates, leaf, ca_crt, anchors, candidates, &mut findings);
        let credential = Arc::new(Credential::new(chain, key));
        Loaded { credential: Some(credential), findings }
    }

    fn new(mut chain: Chain, key: Arc<dyn SigningKey>) -> Self {
        // Once, not twice: there may be ten thousand.
        let certificates = std::mem::take(&mut chain.certificates);
        Self { certified: Arc::new(CertifiedKey::new(certificates, key)), chain }
    }

    /// What is wrong at this time, for each certificate of the served chain.
    pub fn dated(&self, now: UnixTime) -> Dated {
        self.chain.dated(now)
    }

    /// Whether the leaf's subjectAltName covers the host (RFC 9525 section 6.3): the name itself, or a wildcard for
    /// exactly its first label. A common name never counts. Rules without a host need no name.
    pub fn covers(&self, host: &HostName) -> Result<(), Finding> {
        self.chain.covers(&Name::Host(host.clone()))
    }

    /// The chain without its key.
    pub fn into_chain(self) -> Chain {
        Chain { certificates: self.certified.cert.clone(), ..self.chain }
    }

    /// True if a certificate is missing: the chain ends at a name that is neither in it nor trusted.
    pub fn has_gap(&self) -> bool {
        self.chain.outline.has_gap()
    }

    /// True if it is the temporary certificate of cert-manager, which no client trusts.
    pub fn is_temporary(&self) -> bool {
        self.chain.outline.is_temporary()
    }

    /// True if other candidates could make another chain of it: one is missing, or was added.
    pub fn depends_on_candidates(&self) -> bool {
        self.has_gap() || self.chain.outline.path.iter().any(|link| link.added_from.is_some())
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
        let leaf = &self.chain.outline.path[0];
        TlsSummary {
            fingerprint: sha256_hex(&self.certified.cert[0]).into(),
            names: self.chain.names.dns.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            key: leaf.key.clone(),
            chain_length: self.certified.cert.len(),
            outline: self.chain.outline.clone(),
        }
    }
}

impl Chain {
    /// Judges certificates without a key. The leaf is then the first one that is no CA and issued none of the others,
    /// or the first of all.
    pub fn load(tls_crt: &[u8], ca_crt: &[u8], anchors: &TrustAnchors) -> (Option<Chain>, Vec<Finding>) {
        Self::load_completed(tls_crt, ca_crt, anchors, &Candidates::new())
    }

    /// The same, but certificates that are missing are taken from the candidates.
    pub fn load_completed(
        tls_crt: &[u8],
        ca_crt: &[u8],
        anchors: &TrustAnchors,
        candidates: &Candidates,
    ) -> (Option<Chain>, Vec<Finding>) {
        let mut findings = Vec::new();
        let certificates = parse(tls_crt, &mut findings);
        if certificates.is_empty() {
            return (None, findings);
        }
        let issued = |one: &Certificate| {
            certificates.iter().any(|other| other.place != one.place && other.issuer_der == one.subject_der)
        };
        let leaf = certificates.iter().position(|one| !one.is_ca && !issued(one)).unwrap_or(0);
        let chain = Chain::of(certificates, leaf, ca_crt, anchors, candidates, &mut findings);
        (Some(chain), findings)
    }

    /// Judges certificates as a server has sent them, DER: the leaf is the first, whatever the others are (RFC 8446
    /// section 4.4.2). Places count from 1 in the order in which they came.
    pub fn served(certificates: &[Vec<u8>], anchors: &TrustAnchors) -> (Option<Chain>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut parsed = Vec::new();
        for (index, der) in certificates.iter().enumerate() {
            let place = index + 1;
            if certificates[..index].contains(der) {
                findings.push(Finding::DuplicateCertificate { place });
                continue;
            }
            match Certificate::parse(Place::block(place), der.clone()) {
                Ok(certificate) => parsed.push(certificate),
                Err(error) => {
                    findings.push(Finding::UnparsableCertificate { block: Some((place, 0)), error, advice: None });
                    if index == 0 {
                        return (None, findings);
                    }
                }
            }
        }
        if parsed.is_empty() {
            findings.push(Finding::NoCertificate { instead: None, advice: None });
            return (None, findings);
        }
        let chain = Chain::of(parsed, 0, b"", anchors, &Candidates::new(), &mut findings);
        (Some(chain), findings)
    }

    fn of(
        mut certificates: Vec<Certificate>,
        leaf: usize,
        ca_crt: &[u8],
        anchors: &TrustAnchors,
        candidates: &Candidates,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let (anchors, errors) = anchors.with_secret(ca_crt);
        let unusable = |error: BadAnchors| Finding::UnusableCa { error: error.to_string(), advice: error.advice() };
        findings.extend(errors.into_iter().map(unusable));
        let mut walk = walk::walk(&certificates, leaf, &anchors);
        if let End::Gap = walk.end
            && let Some((additions, longer)) = complete::fill(&certificates, leaf, &anchors, candidates)
        {
            certificates.extend(additions);
            walk = longer;
        }
        findings.extend(judge::judge(&certificates, &walk, &anchors));
        let served = walk.path.iter().chain(&walk.surplus).map(|index| certificates[*index].der.clone());
        Self {
            certificates: served.collect(),
            names: certificates[leaf].names.clone(),
            outline: Arc::new(outline(&certificates, &walk)),
        }
    }

    /// What is wrong at this time, for each certificate that is served.
    pub fn dated(&self, now: UnixTime) -> Dated {
        let mut findings = Vec::new();
        let mut changes_at: Option<UnixTime> = None;
        let cross_signs = self.outline.beside.iter().filter(|link| link.role == Role::CrossSign);
        for link in self.outline.path.iter().chain(cross_signs) {
            let Link { not_before, not_after, role, .. } = link;
            let place = Place { number: link.place, added: link.added_from.is_some() };
            let (subject, is_needed) = (link.subject.to_string(), *role != Role::CrossSign);
            let soon = two_thirds(*not_before, *not_after);
            let not_after_words = rfc3339(*not_after);
            let next = if now < *not_before {
                if is_needed {
                    findings.push(Finding::NotValidYet { place, subject, not_before: rfc3339(*not_before) });
                }
                Some(*not_before)
            } else if now > *not_after {
                let not_after = not_after_words;
                findings.push(match is_needed {
                    true => Finding::Expired { place, subject, not_after },
                    false => Finding::ExpiredCrossSign { place, subject, not_after },
                });
                None
            } else if now < soon || !is_needed {
                Some(if is_needed { soon } else { after(*not_after) })
            } else {
                findings.push(Finding::ExpiresSoon { place, subject, not_after: not_after_words });
                Some(after(*not_after))
            };
            changes_at = [changes_at, next].into_iter().flatten().min();
        }
        if let OutlineEnd::Anchor { subject, source } = &self.outline.end
            && let Some(dates) = self.outline.anchor_dates(now)
        {
            let (root, anchor) = (subject.to_string(), *source);
            findings.push(match dates {
                AnchorDates::Expired(not_after) => Finding::ExpiredRoot { root, anchor, not_after: rfc3339(not_after) },
                AnchorDates::NotValidBefore(not_before) => {
                    Finding::RootNotValidYet { root, anchor, not_before: rfc3339(not_before) }
                }
            });
        }
        let anchor = self.outline.anchor_validity.iter();
        let anchor = anchor.flat_map(|validity| [validity.not_before, after(validity.not_after)]);
        changes_at = changes_at.into_iter().chain(anchor.filter(|time| *time > now)).min();
        Dated { findings, changes_at }
    }

    /// Whether the leaf covers a name (RFC 9525 section 6.3).
    pub fn covers(&self, name: &Name) -> Result<(), Finding> {
        names::covers(&self.names, name)
    }

    /// The chain, for people.
    pub fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// Subject alternative names of the leaf: DNS names, then addresses.
    pub fn names(&self) -> Vec<String> {
        let addresses = self.names.addresses.iter().map(ToString::to_string);
        self.names.dns.iter().map(|name| name.to_string()).chain(addresses).collect()
    }

    /// What is served, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// All certificates of `tls.crt` that parse; findings for what does not, with an error among them if there is none.
fn parse(text: &[u8], findings: &mut Vec<Finding>) -> Vec<Certificate> {
    let mut certificates = Vec::new();
    let mut seen = HashSet::new();
    let blocks = pem::blocks(text);
    let labels: Vec<Label> = blocks.iter().map(|block| block.label).collect();
    for (index, block) in blocks.into_iter().enumerate() {
        let Block { label, offset, der, .. } = block;
        let place = index + 1;
        if label.thing() != Some(Thing::Certificate) {
            let holds = der.ok().and_then(|der| form::thing(&der));
            findings.push(not_a_certificate(place, offset, label, holds));
            continue;
        }
        if der.as_ref().is_ok_and(|der| !seen.insert(sha256_hex(der))) {
            findings.push(Finding::DuplicateCertificate { place });
            continue;
        }
        let bad = |error, advice| Finding::UnparsableCertificate { block: Some((place, offset)), error, advice };
        let parsed = der.map_err(|damage| bad(damage.to_string(), damage.advice())).and_then(|der| {
            let holds = form::thing(&der);
            Certificate::parse(Place::block(place), der).map_err(|error| match holds {
                Some(Thing::Certificate) | None => bad(error, None),
                Some(thing) => {
                    let error = format!("its content is {}, whatever its label says", thing.words());
                    bad(error, Some(thing.in_place_of_certificate()))
                }
            })
        });
        match parsed {
            Ok(certificate) => certificates.push(certificate),
            Err(finding) => findings.push(finding),
        }
    }
    if certificates.is_empty() {
        explain(findings, no_certificate(text, &labels));
    }
    certificates
}

/// What stands in `tls.crt` where no block is a certificate.
fn no_certificate(text: &[u8], labels: &[Label]) -> Finding {
    if let Some(first) = labels.first() {
        let advice = first.thing().map(Thing::in_place_of_certificate);
        return Finding::NoCertificate { instead: Some(form::instead(labels)), advice };
    }
    match form::recognise(text) {
        Some(form) if form.may_be(|thing| thing == Thing::Certificate) => {
            Finding::UnparsableCertificate { block: None, error: form.to_string(), advice: Some(form.advice()) }
        }
        form => Finding::NoCertificate { instead: form.map(|form| form.to_string()), advice: form.map(Form::advice) },
    }
}

/// A block that says of itself that it is something else, and what its content is, if that can be told.
fn not_a_certificate(place: usize, offset: usize, label: Label, holds: Option<Thing>) -> Finding {
    let (label, advice) = match (label.thing(), holds) {
        // The remedy of the table is about keys.
        (Some(Thing::PrivateKey | Thing::EncryptedKey), _) => ("a private key".to_owned(), None),
        (Some(thing), _) => (thing.words().to_owned(), Some(thing.in_place_of_certificate())),
        (None, Some(thing)) => {
            (format!("{label} and that holds {}", thing.words()), Some(thing.in_place_of_certificate()))
        }
        (None, None) => (label.to_string(), None),
    };
    Finding::NotACertificate { place, offset, label, advice }
}

/// For people: what a key was compared with.
fn the_certificate(certificates: &[Certificate]) -> String {
    match certificates {
        [only] => format!("the certificate in tls.crt ({})", only.subject),
        [first, ..] => format!("any of the {} certificates in tls.crt ({}, …)", certificates.len(), first.subject),
        [] => "a certificate".to_owned(),
    }
}

fn outline(certificates: &[Certificate], walk: &Walk) -> Outline {
    let link = |index: usize, role: Role| {
        let certificate = &certificates[index];
        Link {
            place: certificate.place.number,
            added_from: certificate.added_from.clone(),
            subject: certificate.subject.as_str().into(),
            issuer: certificate.issuer.as_str().into(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            key: certificate.key.clone(),
            other_usage: certificate.other_usage(role == Role::Leaf).map(Into::into),
            role,
        }
    };
    let path = walk
        .path
        .iter()
        .enumerate()
        .map(|(position, index)| link(*index, if position == 0 { Role::Leaf } else { Role::Intermediate }));
    let role = |index: usize| {
        if walk.surplus.contains(&index) {
            Role::CrossSign
        } else if walk.roots.contains(&index) {
            Role::Root
        } else {
            Role::Unrelated
        }
    };
    let beside =
        (0..certificates.len()).filter(|index| !walk.path.contains(index)).map(|index| link(index, role(index)));
    let top = &certificates[walk.path[walk.path.len() - 1]];
    let mut anchor_validity = Vec::new();
    let end = match &walk.end {
        End::Anchor(anchor) => {
            // The dates of a leaf that is its own anchor are those of the leaf.
            if !anchor.is_leaf {
                anchor_validity.clone_from(&anchor.validity);
            }
            OutlineEnd::Anchor { subject: anchor.subject.as_str().into(), source: anchor.source }
        }
        End::Gap => match withdrawn::named(&top.issuer_der, top.authority_key.as_deref()) {
            Some(root) => OutlineEnd::Withdrawn { root, is_missing: true },
            None => {
                let is_public = certificates[walk.path[0]].is_public;
                OutlineEnd::Missing { issuer: top.issuer.as_str().into(), is_public }
            }
        },
        End::Root(root) => match withdrawn::is(&certificates[*root]) {
            Some(root) => OutlineEnd::Withdrawn { root, is_missing: false },
            None => OutlineEnd::UnknownRoot { subject: certificates[*root].subject.as_str().into() },
        },
        End::SelfSigned => OutlineEnd::SelfSigned,
    };
    Outline { path: path.collect(), end, beside: beside.collect(), anchor_validity }
}

/// When less than a third of a lifetime begins to be left.
fn two_thirds(not_before: UnixTime, not_after: UnixTime) -> UnixTime {
    let lifetime = not_after.as_secs().saturating_sub(not_before.as_secs());
    UnixTime::since_unix_epoch(Duration::from_secs(not_after.as_secs() - lifetime / 3 + 1))
}

/// The first second after a validity: notAfter itself still belongs to it (RFC 5280 section 4.1.2.5).
fn after(not_after: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(not_after.as_secs() + 1))
}
