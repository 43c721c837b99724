//! Certificates that may fill a gap in a chain, and whether they do.
//!
//! `Candidates × certificates with a gap ──fill──▶ the certificates that are missing, in order`
//!
//! A missing intermediate is often at hand: another Secret of the namespace holds it, or a file of the operator's. It
//! is taken only if it is a CA that may issue for servers, its name, key identifier and signature fit, and the chain
//! then ends at a trust anchor, or at a root in `tls.crt` itself. Anything less stays as it is: a chain that leads one
//! certificate further into nowhere is as incomplete as before, and nobody has said that it should be served.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::anchors::{self, BadAnchors, TrustAnchors};
use super::certificate::{Certificate, Place};
use super::pem;
use super::signature::{self, Link, Signature};
use super::walk::{self, Walk};
use crate::tls::sha256_hex;

/// CA certificates that may be missing elsewhere, each with where it was seen. They are served where they fit, and
/// trusted nowhere. Equal if they hold the same certificates from the same places, in whatever order they came.
#[derive(Clone, Default)]
pub struct Candidates {
    /// By SHA-256 of the certificate.
    by_digest: BTreeMap<String, Candidate>,
    /// DER of the subject to digests.
    by_subject: HashMap<Vec<u8>, Vec<String>>,
}

#[derive(Clone)]
struct Candidate {
    certificate: Arc<Certificate>,
    origin: Arc<str>,
}

/// Most candidates that are looked at for one chain. More have the same few names on purpose.
const MOST: usize = 100;

impl Candidates {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the CAs among the certificates of a PEM text. Roots and certificates of servers are passed over: the first
    /// are never missing, the second never issue. `origin` is for people: `Secret shop/other`. Returns what could not
    /// be read.
    pub fn add_pem(&mut self, text: &[u8], origin: &str) -> Vec<BadAnchors> {
        let mut errors = Vec::new();
        let origin: Arc<str> = origin.into();
        let blocks = pem::blocks(text);
        if blocks.is_empty() {
            errors.push(BadAnchors::empty(text));
        }
        for (index, block) in blocks.into_iter().enumerate() {
            let number = index + 1;
            let offset = block.offset;
            let certificate = anchors::certificate_of(block, index).and_then(|der| {
                let bad = |error| BadAnchors::Block { index: number, offset, error, advice: None };
                Certificate::parse(Place { number, added: true }, der).map_err(bad)
            });
            match certificate {
                Ok(certificate) if may_issue(&certificate) => self.insert(certificate, origin.clone()),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Candidates) {
        for (digest, candidate) in &other.by_digest {
            self.insert_as(digest.clone(), candidate.certificate.clone(), candidate.origin.clone());
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// How many different certificates there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    fn insert(&mut self, certificate: Certificate, origin: Arc<str>) {
        self.insert_as(sha256_hex(&certificate.der), Arc::new(certificate), origin);
    }

    fn insert_as(&mut self, digest: String, certificate: Arc<Certificate>, origin: Arc<str>) {
        if let Some(known) = self.by_digest.get_mut(&digest) {
            // One origin whatever the order in which they came.
            known.origin = origin.min(known.origin.clone());
            return;
        }
        self.by_subject.entry(certificate.subject_der.clone()).or_default().push(digest.clone());
        self.by_digest.insert(digest, Candidate { certificate, origin });
    }

    fn content(&self) -> impl Iterator<Item = (&String, &Arc<str>)> {
        self.by_digest.iter().map(|(digest, candidate)| (digest, &candidate.origin))
    }

    /// Those that may have issued a certificate, the likeliest first: by key identifier, then by how long they live.
    fn issuers_of(&self, child: &Certificate) -> Vec<(&String, &Candidate)> {
        let named = self.by_subject.get(&child.issuer_der).into_iter().flatten();
        let mut fitting: Vec<(&String, &Candidate)> = named
            .filter_map(|digest| self.by_digest.get_key_value(digest))
            .filter(|(_, candidate)| walk::keys_fit(child, &candidate.certificate))
            .collect();
        fitting.sort_by_key(|(digest, Candidate { certificate, .. })| {
            (certificate.subject_key.is_none(), Reverse(certificate.not_after.as_secs()), *digest)
        });
        fitting
    }
}

impl PartialEq for Candidates {
    fn eq(&self, other: &Self) -> bool {
        self.content().eq(other.content())
    }
}

impl Eq for Candidates {}

impl Hash for Candidates {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.content().for_each(|content| content.hash(state));
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidates({})", self.len())
    }
}

/// Whether a certificate may stand between a server's and a root (RFC 5280 section 6.1.4 k to n), and clients can
/// verify that it was issued.
fn may_issue(certificate: &Certificate) -> bool {
    let is_root = certificate.subject_der == certificate.issuer_der
        && signature::verify(&certificate.der, &certificate.spki) != Link::No;
    certificate.is_ca
        && !is_root
        && certificate.key_usage.is_none_or(|usage| usage.key_cert_sign)
        && certificate.other_usage(false).is_none()
        && certificate.signature == Signature::Good
}

/// What is missing above a leaf whose walk ended in a gap: the walk over the certificates and the additions behind
/// them. `None` if the candidates do not lead to an anchor or to a root among the certificates.
pub(super) fn fill(
    certificates: &[Certificate],
    leaf: usize,
    anchors: &TrustAnchors,
    candidates: &Candidates,
) -> Option<(Vec<Certificate>, Walk)> {
    let reachable = reachable(certificates, leaf, candidates);
    if reachable.is_empty() {
        return None;
    }
    let all: Vec<&Certificate> =
        certificates.iter().chain(reachable.iter().map(|candidate| &*candidate.certificate)).collect();
    let (path, end) = walk::climb_with_additions(all, leaf, anchors)?;

    let blocks = certificates.iter().map(|certificate| certificate.place.number).max().unwrap_or_default();
    let mut additions: Vec<Certificate> = Vec::new();
    let mut places = Vec::with_capacity(path.len());
    for index in path {
        match index.checked_sub(certificates.len()) {
            None => places.push(index),
            Some(added) => {
                places.push(certificates.len() + additions.len());
                let Candidate { certificate, origin } = reachable[added];
                let place = Place { number: blocks + additions.len() + 1, added: true };
                let added_from = Some(origin.clone());
                additions.push(Certificate { place, added_from, ..Certificate::clone(certificate) });
            }
        }
    }
    let walk = walk::above(certificates.iter().chain(&additions).collect(), places, end, anchors);
    Some((additions, walk))
}

/// Candidates that have a name which is asked for below, level by level.
fn reachable<'a>(certificates: &[Certificate], leaf: usize, candidates: &'a Candidates) -> Vec<&'a Candidate> {
    // What stands in tls.crt is there already.
    let mut seen: HashSet<String> = certificates.iter().map(|certificate| sha256_hex(&certificate.der)).collect();
    let mut found: Vec<&Candidate> = Vec::new();
    let mut next = 0;
    let mut add = |child: &Certificate, found: &mut Vec<&'a Candidate>| {
        for (digest, candidate) in candidates.issuers_of(child) {
            if found.len() < MOST && seen.insert(digest.clone()) {
                found.push(candidate);
            }
        }
    };
    add(&certificates[leaf], &mut found);
    for certificate in certificates.iter().take(MOST) {
        add(certificate, &mut found);
    }
    while let Some(child) = found.get(next).copied() {
        add(&child.certificate, &mut found);
        next += 1;
    }
    found
}
