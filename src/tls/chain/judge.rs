//! What is wrong with a walked chain, whatever the time and the host.
//!
//! `certificates × Walk ──▶ findings`
//!
//! Links and completeness come from the walk; the leaf's fields are read here; what some clients refuse in the form of a
//! certificate is listed beside (`refusals.rs`), as are the roots that trust stores removed; what RFC 5280 section 6.1 constrains
//! along the path (names, path length, critical extensions) is webpki's to say. It is asked at a time when the whole
//! path is valid, because a date would hide everything else.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::anchors::TrustAnchors;
use super::certificate::Certificate;
use super::finding::Finding;
use super::outline::TEMPORARY_ISSUER;
use super::refusals::{self, Fault, Position, Verifier};
use super::signature::Signature;
use super::walk::{End, Walk};
use super::{der, key, names, withdrawn};
use crate::tls::negotiate::CredentialKind;
use crate::tls::{clients, rfc3339};

/// Bytes of certificates that fit into the first flight: ten segments (RFC 6928) of 1,460 bytes, less what else a
/// TLS 1.3 server sends there.
const WINDOW: usize = 14_000;

/// Largest chain that small clients take.
const SMALL: usize = 4_096;

const DAY: u64 = 86_400;

/// Everything about the chain of a leaf.
pub(super) fn judge(certificates: &[Certificate], walk: &Walk, anchors: &TrustAnchors) -> Vec<Finding> {
    let mut findings = Vec::new();
    added(certificates, walk, &mut findings);
    stray(certificates, walk, &mut findings);
    order(certificates, walk, &mut findings);
    end(certificates, walk, anchors, &mut findings);
    if let End::Root(root) = walk.end {
        // Nothing is won by deleting a root that is not trusted: it says where the chain ends.
        let root = certificates[root].place;
        findings.retain(|one| !matches!(one, Finding::RootIncluded { place, .. } if *place == root));
    }
    signatures(certificates, walk, &mut findings);
    issuers(certificates, walk, &mut findings);
    leaf(&certificates[walk.path[0]], &mut findings);
    form(certificates, walk, &mut findings);
    constraints(certificates, walk, &mut findings);
    size(certificates, walk, &mut findings);
    findings
}

/// Certificates that were missing.
fn added(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    for index in &walk.path {
        let Certificate { place, subject, added_from, .. } = &certificates[*index];
        if let Some(origin) = added_from {
            let (issuer, origin) = (subject.clone(), origin.to_string());
            findings.push(Finding::ChainCompleted { place: *place, issuer, origin });
        }
    }
}

/// Certificates that clients do not need.
fn stray(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let top = &certificates[walk.path[walk.path.len() - 1]];
    for (index, certificate) in certificates.iter().enumerate() {
        if walk.path.contains(&index) || walk.surplus.contains(&index) || walk.roots.contains(&index) {
            continue;
        }
        let (place, subject) = (certificate.place, certificate.subject.clone());
        let is_gap = matches!(walk.end, End::Gap);
        findings.push(match is_gap && top.issuer_der == certificate.subject_der {
            true => Finding::NotTheIssuer { place, subject },
            false => Finding::UnrelatedCertificate { place, subject },
        });
    }
    for root in &walk.roots {
        let root = &certificates[*root];
        findings.push(Finding::RootIncluded { place: root.place, subject: root.subject.clone() });
    }
    for cross_sign in &walk.surplus {
        let Certificate { place, subject, .. } = &certificates[*cross_sign];
        let anchor = match &walk.end {
            End::Anchor(anchor) => anchor.subject.clone(),
            End::Root(root) => certificates[*root].subject.clone(),
            End::Gap | End::SelfSigned => top.issuer.clone(),
        };
        findings.push(Finding::SurplusCrossSign { place: *place, subject: subject.clone(), anchor });
    }
}

fn order(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let leaf = &certificates[walk.path[0]];
    // What was added stands nowhere, so it cannot stand in a wrong place.
    let stands = |index: &usize| !certificates[*index].place.added;
    let order: Vec<usize> = walk.path.iter().chain(&walk.roots).copied().filter(stands).collect();
    if walk.path[0] != 0 {
        findings.push(Finding::LeafNotFirst { place: leaf.place.number, subject: leaf.subject.clone() });
    } else if !order.is_sorted() {
        let expected = order.iter().map(|index| certificates[*index].subject.as_str()).collect::<Vec<_>>();
        findings.push(Finding::OutOfOrder { expected: expected.join(" <- ") });
    }
}

fn end(certificates: &[Certificate], walk: &Walk, anchors: &TrustAnchors, findings: &mut Vec<Finding>) {
    let leaf = &certificates[walk.path[0]];
    let top = &certificates[walk.path[walk.path.len() - 1]];
    let subject = leaf.subject.clone();
    match &walk.end {
        End::Anchor(anchor) if anchor.is_leaf => findings.push(Finding::TrustedSelfSigned { subject }),
        End::Anchor(_) => {}
        End::Gap if walk.path.len() == 1 && top.issuer == TEMPORARY_ISSUER => {
            findings.push(Finding::TemporaryCertificate);
        }
        End::Gap => findings.push(gap(leaf, top, anchors)),
        End::Root(root) => {
            let root = &certificates[*root];
            let name = root.subject.clone();
            findings.push(match withdrawn::is(root) {
                Some(withdrawn) => Finding::WithdrawnRoot { place: top.place, root: name, removed: withdrawn.words() },
                None if anchors.is_stated() => {
                    let why = if anchors.has_name(&root.subject_der) { SAME_NAME } else { NO_ANCHOR };
                    Finding::UntrustedRoot { place: top.place, root: name, why: why.to_owned() }
                }
                None if leaf.is_public => {
                    Finding::UntrustedRoot { place: top.place, root: name, why: NOT_PUBLIC.to_owned() }
                }
                None => Finding::Unanchored { issuer: name, key_id: None, url: None },
            });
        }
        End::SelfSigned => findings.push(Finding::SelfSigned { subject }),
    }
}

const NO_ANCHOR: &str = "which is none of the trust anchors";
const SAME_NAME: &str = "and the trust anchor of this name has another key";
const NOT_PUBLIC: &str = "which is no public root, though the certificate has the marks of a public CA";

/// The issuer of the topmost certificate is neither there nor trusted.
fn gap(leaf: &Certificate, top: &Certificate, anchors: &TrustAnchors) -> Finding {
    let (place, issuer, url) = (top.place, top.issuer.clone(), top.issuer_url.clone());
    let key_id = top.authority_key.as_deref().map(der::hex);
    if let Some(root) = withdrawn::named(&top.issuer_der, top.authority_key.as_deref()) {
        return Finding::WithdrawnRoot { place, root: issuer, removed: root.words() };
    }
    if !leaf.is_public && !anchors.is_stated() {
        return Finding::Unanchored { issuer, key_id, url };
    }
    // An issuer whose certificate names itself as its issuer is a root.
    let is_root = top.authority_certificate.as_ref().is_some_and(|(issuer, _)| *issuer == top.issuer_der);
    let untrusted = |why: &str| Finding::UntrustedRoot { place, root: issuer.clone(), why: why.to_owned() };
    if anchors.has_name(&top.issuer_der) {
        return untrusted(SAME_NAME);
    }
    if is_root || (key_id.is_none() && url.is_none() && !leaf.is_public) {
        return untrusted(NO_ANCHOR);
    }
    Finding::MissingIntermediate { place, issuer, key_id, url }
}

/// What some clients refuse in the form of a certificate.
fn form(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let mut told = |place, anchor, certificate: String, faults: Vec<Fault>| {
        for Fault { words: fault, by } in faults {
            let certificate = certificate.clone();
            findings.push(match by {
                [Verifier::OpenSslStrict] => Finding::StrictClientsRefuse { place, anchor, certificate, fault, by },
                _ => Finding::MalformedCertificate { place, anchor, certificate, fault, by },
            });
        }
    };
    for (position, index) in walk.path.iter().enumerate() {
        let certificate = &certificates[*index];
        let words = format!("{:#} ({})", certificate.place, certificate.subject);
        let position_of = if position == 0 { Position::Leaf } else { Position::Issuer };
        let mut faults = refusals::faults(&certificate.der, position_of);
        if let Some((issuer, serial)) = &certificate.authority_certificate {
            let names_it = |(other, number): &(Vec<u8>, Vec<u8>)| issuer == other && serial == number;
            let fits = match (walk.path.get(position + 1), &walk.end) {
                (Some(above), _) => names_it(&issuer_and_serial(&certificates[*above])),
                (None, End::Anchor(anchor)) => {
                    anchor.issuers_and_serials.is_empty() || anchor.issuers_and_serials.iter().any(names_it)
                }
                (None, End::Root(root)) => names_it(&issuer_and_serial(&certificates[*root])),
                (None, End::Gap | End::SelfSigned) => true,
            };
            if !fits {
                let words = "its authority key identifier names another certificate, by issuer and serial number, than \
                             the one that issued it";
                faults.push(Fault { words: words.to_owned(), by: refusals::READ_AUTHORITY_SERIAL });
            }
        }
        told(Some(certificate.place), None, words, faults);
    }
    if let End::Anchor(anchor) = &walk.end
        && !anchor.is_leaf
    {
        let words = format!("The root {} {}", anchor.subject, anchor.source.place());
        told(None, Some(anchor.source), words, anchor.faults.clone());
    }
}

fn issuer_and_serial(certificate: &Certificate) -> (Vec<u8>, Vec<u8>) {
    (certificate.issuer_der.clone(), refusals::serial(&certificate.der).unwrap_or_default())
}

/// Weak and unknown algorithms below the root. What signed a root does not matter: nobody verifies it.
fn signatures(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    if matches!(walk.end, End::SelfSigned) || matches!(&walk.end, End::Anchor(anchor) if anchor.is_leaf) {
        return;
    }
    for (position, index) in walk.path.iter().enumerate() {
        let certificate = &certificates[*index];
        let (place, subject) = (certificate.place, certificate.subject.clone());
        let issuer_key = match (walk.path.get(position + 1), &walk.end) {
            (Some(issuer), _) => Some(&certificates[*issuer].spki),
            (None, End::Anchor(anchor)) => Some(&anchor.spki),
            (None, End::Root(root)) => Some(&certificates[*root].spki),
            (None, End::Gap | End::SelfSigned) => None,
        };
        match &certificate.signature {
            Signature::Good => {
                let Some(key) = issuer_key else { continue };
                if let Some(bits @ ..2048) = der::rsa_bits(key) {
                    let algorithm = format!("an RSA key of {bits} bits");
                    findings.push(Finding::WeakSignature { place, subject, algorithm });
                } else if !super::signature::is_key_known(key) {
                    let algorithm = "a kind of key".to_owned();
                    findings.push(Finding::UnsupportedSignature { place, subject, algorithm });
                }
            }
            Signature::Weak(algorithm) => {
                findings.push(Finding::WeakSignature { place, subject, algorithm: (*algorithm).to_owned() });
            }
            Signature::Unsupported(algorithm) => {
                findings.push(Finding::UnsupportedSignature { place, subject, algorithm: algorithm.clone() });
            }
        }
    }
}

/// What an issuer must be allowed to do, and its dates against the leaf's.
fn issuers(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let leaf = &certificates[walk.path[0]];
    for (below, index) in walk.path[1..].iter().enumerate() {
        let certificate = &certificates[*index];
        let (place, subject) = (certificate.place, certificate.subject.clone());
        let fault = match certificate.key_usage {
            _ if !certificate.is_ca => Some("is not a CA"),
            Some(usage) if !usage.key_cert_sign => Some("its key usage lacks keyCertSign"),
            Some(_) | None => None,
        };
        if let Some(fault) = fault {
            findings.push(Finding::IssuerNotCa { place, subject: subject.clone(), fault: fault.to_owned() });
        }
        // Self-issued certificates do not count (RFC 5280 section 6.1.4 l).
        let cas = walk.path[1..=below].iter().filter(|index| {
            let ca = &certificates[**index];
            ca.subject_der != ca.issuer_der
        });
        if let Some(allowed) = certificate.path_length
            && cas.count() > usize::try_from(allowed).unwrap_or(usize::MAX)
        {
            findings.push(Finding::PathLengthExceeded { subject: subject.clone(), allowed: allowed.to_string() });
        }
        if let Some(usage) = certificate.other_usage(false) {
            findings.push(Finding::NoServerAuth { place, subject: subject.clone(), usage: usage.to_owned() });
        }
        if certificate.not_after < leaf.not_after {
            let not_after = rfc3339(certificate.not_after);
            findings.push(Finding::IntermediateExpiresFirst { place, subject, not_after });
        }
    }
}

fn leaf(leaf: &Certificate, findings: &mut Vec<Finding>) {
    let (place, subject) = (leaf.place, leaf.subject.clone());
    if leaf.is_ca {
        findings.push(Finding::LeafIsCa { place, subject: subject.clone() });
    }
    match der::rsa_bits(&leaf.spki) {
        Some(bits @ ..2048) => findings.push(Finding::WeakKey { subject: subject.clone(), bits }),
        Some(bits @ 4097..) => findings.push(Finding::SlowKey { subject: subject.clone(), bits }),
        Some(_) | None => {}
    }
    if let Some(what) = key::unusable(&leaf.spki) {
        findings.push(Finding::UnsupportedLeafKey { subject: subject.clone(), what });
    }
    if let Some(names) = names::useless(&leaf.names) {
        findings.push(Finding::UselessName { subject: subject.clone(), names });
    }
    if let Some(usage) = leaf.other_usage(true) {
        findings.push(Finding::NoServerAuth { place, subject: subject.clone(), usage: usage.to_owned() });
    }
    if leaf.key_usage.is_some_and(|usage| !usage.digital_signature) {
        findings.push(Finding::WrongKeyUsage { subject: subject.clone() });
    }
    if let Some(kind) = CredentialKind::ALL.into_iter().find(|kind| kind.label() == &*leaf.key)
        && let found @ [_, ..] = clients::cannot_verify(kind)
    {
        let (key, count, clients) = (leaf.key.to_string(), found.len(), clients::names(found));
        findings.push(Finding::RarelySupportedKey { subject: subject.clone(), key, count, clients });
    }
    if leaf.must_staple {
        findings.push(Finding::MustStaple { subject: subject.clone() });
    }
    // notAfter itself still belongs to the validity (RFC 5280 section 4.1.2.5).
    let seconds = (leaf.not_after.as_secs() + 1).saturating_sub(leaf.not_before.as_secs());
    let days = seconds.div_ceil(DAY);
    let limit = validity_limit(leaf.not_before);
    // The limit is one for subscribers' certificates; a CA in their place has a finding of its own.
    if leaf.is_public && !leaf.is_ca && seconds > limit * DAY {
        findings.push(Finding::ValidityOverLimit { subject, days, limit });
    } else if seconds > 825 * DAY {
        findings.push(Finding::LongValidity { subject, days });
    }
}

/// Days that the CA/Browser Forum allows a certificate issued then (Baseline Requirements section 6.3.2; SC-081v3).
fn validity_limit(not_before: UnixTime) -> u64 {
    const LIMITS: [(u64, u64); 4] = [
        // 2029-03-15, 2027-03-15, 2026-03-15 and 2020-09-01, at midnight UTC.
        (1_868_227_200, 47),
        (1_805_068_800, 100),
        (1_773_532_800, 200),
        (1_598_918_400, 398),
    ];
    LIMITS.iter().find(|(from, _)| not_before.as_secs() >= *from).map_or(825, |(_, days)| *days)
}

/// What webpki says of the path at a time when all of it is valid. What was found already is not told twice.
fn constraints(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let path: Vec<&Certificate> = walk.path.iter().map(|index| &certificates[*index]).collect();
    let ders: Vec<CertificateDer<'_>> = path.iter().map(|member| CertificateDer::from(member.der.as_ref())).collect();
    // Without an anchor the topmost certificate stands in for it, so that what is below is judged all the same.
    let (anchor, intermediates) = match &walk.end {
        End::Anchor(anchor) if anchor.is_leaf => return,
        End::Anchor(anchor) => (anchor.trusted.clone(), &ders[1..]),
        End::Root(root) => match webpki::anchor_from_trusted_cert(&certificates[*root].der) {
            Ok(anchor) => (anchor.to_owned(), &ders[1..]),
            Err(_) => return,
        },
        End::Gap => match (ders.len(), webpki::anchor_from_trusted_cert(&ders[ders.len() - 1])) {
            (2.., Ok(anchor)) => (anchor.to_owned(), &ders[1..ders.len() - 1]),
            _ => return,
        },
        End::SelfSigned => return,
    };
    let start = path.iter().map(|member| member.not_before.as_secs()).max().unwrap_or_default();
    let end = path.iter().map(|member| member.not_after.as_secs()).min().unwrap_or_default();
    if start > end {
        // No time suits all of it; the dates are told for each member.
        return;
    }
    let time = UnixTime::since_unix_epoch(Duration::from_secs(start + (end - start) / 2));
    let result = EndEntityCert::try_from(&ders[0]).and_then(|leaf| {
        let usage = KeyUsage::server_auth();
        let anchors = [anchor];
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, time, usage, None, None).map(drop)
    });
    let Err(error) = result else { return };
    let told = |code: &str| findings.iter().any(|finding| finding.code() == code);
    let words = match &error {
        webpki::Error::CaUsedAsEndEntity
        | webpki::Error::EndEntityUsedAsCa
        | webpki::Error::RequiredEkuNotFoundContext(_)
        | webpki::Error::UnsupportedSignatureAlgorithmContext(_)
        | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            if told("leaf-is-ca")
                || told("issuer-not-ca")
                || told("no-server-auth")
                || told("weak-signature")
                || told("unsupported-signature") =>
        {
            return;
        }
        webpki::Error::InvalidSignatureForPublicKey | webpki::Error::UnknownIssuer if told("weak-signature") => return,
        webpki::Error::NameConstraintViolation => {
            findings.push(Finding::NameConstraintViolated { subject: path[0].subject.clone() });
            return;
        }
        webpki::Error::PathLenConstraintViolated => {
            if !told("path-length-exceeded") {
                let subject = path[path.len() - 1].subject.clone();
                findings.push(Finding::PathLengthExceeded { subject, allowed: "fewer".into() });
            }
            return;
        }
        webpki::Error::UnsupportedCriticalExtension => "it has a critical extension that clients do not know",
        webpki::Error::MaximumPathDepthExceeded => "it is too long",
        webpki::Error::UnsupportedCertVersion => "a certificate in it is not of version 3",
        webpki::Error::ExtensionValueInvalid | webpki::Error::MalformedExtensions => {
            "it has an extension that is damaged"
        }
        webpki::Error::InvalidSerialNumber => "a certificate in it has a serial number that is negative or too long",
        webpki::Error::SignatureAlgorithmMismatch => "a certificate in it names two different signature algorithms",
        webpki::Error::InvalidNetworkMaskConstraint | webpki::Error::MalformedNameConstraint => {
            "a CA in it has name constraints that are damaged"
        }
        webpki::Error::MalformedDnsIdentifier => "it has a name that is no DNS name where name constraints apply",
        webpki::Error::TrailingData(_) | webpki::Error::BadDer | webpki::Error::BadDerTime => {
            "a certificate in it breaks the rules of DER"
        }
        webpki::Error::InvalidSignatureForPublicKey | webpki::Error::UnknownIssuer => {
            "a signature in it does not verify"
        }
        // The library may come to know others.
        _ => "a certificate in it breaks a rule of RFC 5280 that clients check",
    };
    findings.push(Finding::PathRefused { error: words.to_owned() });
}

fn size(certificates: &[Certificate], walk: &Walk, findings: &mut Vec<Finding>) {
    let served = walk.path.iter().chain(&walk.surplus);
    // Each certificate has a length of three bytes in front (RFC 8446 section 4.4.2).
    let bytes: usize = served.map(|index| certificates[*index].der.len() + 3).sum();
    if bytes > WINDOW {
        findings.push(Finding::ChainOverWindow { bytes, window: WINDOW });
    } else if bytes > SMALL {
        findings.push(Finding::LargeChain { bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_depends_on_the_day_of_issue() {
        let limit = |date: &str| {
            let time: jiff::Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
            validity_limit(UnixTime::since_unix_epoch(Duration::from_secs(time.as_second().try_into().unwrap())))
        };
        for (day_before, day, days_before, days) in [
            ("2020-08-31", "2020-09-01", 825, 398),
            ("2026-03-14", "2026-03-15", 398, 200),
            ("2027-03-14", "2027-03-15", 200, 100),
            ("2029-03-14", "2029-03-15", 100, 47),
        ] {
            assert_eq!((limit(day_before), limit(day)), (days_before, days), "{day}");
        }
    }
}
