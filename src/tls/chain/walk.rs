//! From the leaf up: which certificate issued which, and where the chain ends.
//!
//! `certificates × anchors ──▶ Walk: path, what stands above it, and the end`
//!
//! An issuer has the name that the certificate gives, the key identifier where both give one, and the key that verifies
//! the signature (RFC 5280 section 6.1). Of several ways up the one to an anchor wins, then the shortest: certificates
//! that are signed by two CAs are normal. The walk stops at the first certificate that an anchor issued. What `tls.crt`
//! holds above that is a cross-sign for clients without that anchor, so it is surplus and no fault.
//!
//! A Secret may hold a thousand certificates with one name, so the number of signatures that are verified is bounded.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::HashMap;

use super::anchors::{Anchor, AnchorSource, Details, TrustAnchors};
use super::certificate::Certificate;
use super::outline::Validity;
use super::refusals::Fault;
use super::signature::{self, Link};
use rustls::pki_types::TrustAnchor;

/// What the walk found. Numbers are indexes into the list of certificates.
pub(super) struct Walk {
    /// Leaf first, each issued by the next.
    pub(super) path: Vec<usize>,
    /// Linked certificates that the path does not need, in the order in which they are served.
    pub(super) surplus: Vec<usize>,
    /// Self-signed certificates above the path.
    pub(super) roots: Vec<usize>,
    pub(super) end: End,
}

/// Where a chain ends.
pub(super) enum End {
    /// At a trust anchor.
    Anchor(Anchored),
    /// At a certificate whose issuer is neither in `tls.crt` nor trusted.
    Gap,
    /// At a self-signed root in `tls.crt` that nobody is known to trust.
    Root(usize),
    /// The leaf has signed itself, and is not trusted.
    SelfSigned,
}

/// The anchor at the end of a chain.
pub(super) struct Anchored {
    pub(super) subject: String,
    pub(super) source: AnchorSource,
    pub(super) trusted: TrustAnchor<'static>,
    /// DER of its SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    /// The leaf itself is the anchor.
    pub(super) is_leaf: bool,
    /// When it is valid itself; empty if nobody knows.
    pub(super) validity: Vec<Validity>,
    /// What somebody refuses in its own certificate.
    pub(super) faults: Vec<Fault>,
    /// Its issuers (DER) and serial numbers.
    pub(super) issuers_and_serials: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Longest path that is looked for; clients give up at about the same.
const DEPTH: usize = 10;

/// Most signatures that are verified for one `tls.crt`.
const BUDGET: usize = 200;

/// Most steps on the way up; certificates that sign each other in circles have endless paths.
const STEPS: usize = 1_000;

/// Walks up from a leaf.
pub(super) fn walk(certificates: &[Certificate], leaf: usize, anchors: &TrustAnchors) -> Walk {
    let graph = Graph::new(certificates.iter().collect(), anchors);
    let (path, end) = graph.climb(vec![leaf]);
    graph.above(path, end)
}

/// The best way up for a chain with a gap, by certificates that may be added to it as well. Ways that live longer come
/// first, then those with fewer additions. `None` if no way leads to an anchor or to a root that is there.
pub(super) fn climb_with_additions(
    certificates: Vec<&Certificate>,
    leaf: usize,
    anchors: &TrustAnchors,
) -> Option<(Vec<usize>, End)> {
    let (path, end) = Graph::new(certificates, anchors).climb(vec![leaf]);
    match end {
        End::Anchor(_) | End::Root(_) => Some((path, end)),
        End::Gap | End::SelfSigned => None,
    }
}

/// What stands above a path that has been found.
pub(super) fn above(certificates: Vec<&Certificate>, path: Vec<usize>, end: End, anchors: &TrustAnchors) -> Walk {
    Graph::new(certificates, anchors).above(path, end)
}

/// Whether an issuer's name and key identifier are those that a certificate gives.
pub(super) fn keys_fit(child: &Certificate, issuer: &Certificate) -> bool {
    child.issuer_der == issuer.subject_der
        && match (&child.authority_key, &issuer.subject_key) {
            (Some(authority), Some(subject)) => authority == subject,
            (Some(_) | None, _) => true,
        }
}

struct Graph<'a> {
    certificates: Vec<&'a Certificate>,
    anchors: &'a TrustAnchors,
    /// Verified signatures: child and issuer.
    known: std::cell::RefCell<HashMap<(usize, usize), bool>>,
    budget: Cell<usize>,
    steps: Cell<usize>,
}

impl<'a> Graph<'a> {
    fn new(certificates: Vec<&'a Certificate>, anchors: &'a TrustAnchors) -> Self {
        let (budget, steps) = (Cell::new(BUDGET), Cell::new(STEPS));
        Graph { certificates, anchors, known: HashMap::new().into(), budget, steps }
    }

    /// Above the path: issuer by issuer, then other forms of members and of the issuer's issuer.
    fn above(&self, path: Vec<usize>, end: End) -> Walk {
        let graph = self;
        let certificates = &self.certificates;
        let mut walk = Walk { path, surplus: Vec::new(), roots: Vec::new(), end };
        if let End::Root(root) = walk.end {
            walk.roots.push(root);
        }
        let mut above = walk.path.clone();
        while let Some(top) = above.last().copied() {
            let taken = |candidate: &usize| above.contains(candidate) || walk.roots.contains(candidate);
            let issuers: Vec<usize> = graph.issuers(top).filter(|candidate| !taken(candidate)).collect();
            let (roots, others): (Vec<usize>, Vec<usize>) =
                issuers.into_iter().partition(|candidate| graph.is_self_signed(*candidate));
            walk.roots.extend(roots);
            let Some(next) = others.first() else { break };
            above.push(*next);
            walk.surplus.push(*next);
        }
        for index in 0..certificates.len() {
            if above.contains(&index) || walk.roots.contains(&index) {
                continue;
            }
            let same = |other: &usize| {
                let (one, other) = (&certificates[index], &certificates[*other]);
                one.spki == other.spki && one.subject_der == other.subject_der
            };
            // The leaf has no second form: another certificate of its key is a leftover of a renewal.
            if walk.path[1..].iter().chain(&walk.surplus).any(same) {
                walk.surplus.push(index);
            }
        }
        walk
    }

    /// The best way up that begins with `path`.
    fn climb(&self, path: Vec<usize>) -> (Vec<usize>, End) {
        let top = path[path.len() - 1];
        let certificate = self.certificates[top];
        let is_leaf = path.len() == 1;
        if is_leaf && self.is_self_signed(top) {
            let end = match self.anchors.same_as(certificate) {
                Some(anchor) => End::Anchor(anchored(self.anchors, anchor, true)),
                None => End::SelfSigned,
            };
            return (path, end);
        }
        if self.spend()
            && let Some((anchor, link)) = self.anchors.issuer_of(certificate)
            && (link == Link::Verified || !certificate.place.added)
        {
            return (path, End::Anchor(anchored(self.anchors, anchor, false)));
        }
        let mut best: Option<(Vec<usize>, End)> = None;
        self.steps.set(self.steps.get().saturating_sub(1));
        if path.len() < DEPTH && self.steps.get() > 0 {
            let fits = |candidate: &usize| !path.contains(candidate) && self.allows(*candidate, &path);
            let candidates: Vec<usize> = self.issuers(top).filter(fits).collect();
            for candidate in candidates {
                let found = if self.is_self_signed(candidate) {
                    (path.clone(), End::Root(candidate))
                } else {
                    let mut longer = path.clone();
                    longer.push(candidate);
                    self.climb(longer)
                };
                if best.as_ref().is_none_or(|best| self.is_better(&found, best)) {
                    best = Some(found);
                }
            }
        }
        best.unwrap_or((path, End::Gap))
    }

    /// Whether a certificate that would be added may stand above so many others (RFC 5280 section 6.1.4 l and m). For
    /// those of `tls.crt` it is a finding and decides nothing.
    fn allows(&self, candidate: usize, path: &[usize]) -> bool {
        let candidate = self.certificates[candidate];
        let cas = path[1..].iter().filter(|index| {
            let ca = self.certificates[**index];
            ca.subject_der != ca.issuer_der
        });
        !candidate.place.added
            || candidate.path_length.is_none_or(|most| cas.count() <= usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Complete beats a known root beats a gap. Of two ways with additions the one that ends later is better, then the
    /// one with fewer. Then the shorter of two complete ones, or the longer of two others; then the one that ends
    /// later.
    fn is_better(&self, one: &(Vec<usize>, End), other: &(Vec<usize>, End)) -> bool {
        let additions = |path: &[usize]| path.iter().filter(|index| self.certificates[**index].place.added).count();
        let with_additions = additions(&one.0) > 0 && additions(&other.0) > 0;
        let score = |(path, end): &(Vec<usize>, End)| {
            let length = i64::try_from(path.len()).unwrap_or(i64::MAX);
            let (rank, length) = match end {
                End::Anchor(_) => (2, -length),
                End::Root(_) => (1, length),
                End::Gap | End::SelfSigned => (0, length),
            };
            let until = path.iter().map(|index| self.certificates[*index].not_after.as_secs()).min();
            let repaired = with_additions.then(|| (until, Reverse(additions(path))));
            (rank, repaired, length, until)
        };
        score(one) > score(other)
    }

    /// Who issued a certificate, among all of them.
    fn issuers(&self, child: usize) -> impl Iterator<Item = usize> {
        (0..self.certificates.len())
            .filter(move |candidate| *candidate != child && self.is_issued_by(child, *candidate))
    }

    fn is_self_signed(&self, index: usize) -> bool {
        self.is_issued_by(index, index)
    }

    fn is_issued_by(&self, child: usize, issuer: usize) -> bool {
        if let Some(known) = self.known.borrow().get(&(child, issuer)) {
            return *known;
        }
        let (one, other) = (self.certificates[child], self.certificates[issuer]);
        let is_good = |link: Link| match link {
            Link::Verified => true,
            Link::Assumed => !one.place.added && !other.place.added,
            Link::No => false,
        };
        let fits = keys_fit(one, other) && self.spend() && is_good(signature::verify(&one.der, &other.spki));
        self.known.borrow_mut().insert((child, issuer), fits);
        fits
    }

    /// False once as many signatures were verified as may be.
    fn spend(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }
}

fn anchored(anchors: &TrustAnchors, anchor: &Anchor, is_leaf: bool) -> Anchored {
    // Clients take any that has this name and key. Of one that nobody knows the details of, nothing can be said.
    let details: Option<Vec<&Details>> = anchors.equal_to(anchor).map(|equal| equal.details.as_ref()).collect();
    let details = details.unwrap_or_default();
    let faults = details.iter().map(|details| &details.faults).min_by_key(|faults| faults.len());
    Anchored {
        subject: anchor.subject.clone(),
        source: anchor.source,
        trusted: anchor.trusted.clone(),
        spki: anchor.spki.clone(),
        is_leaf,
        validity: details.iter().map(|details| details.validity).collect(),
        faults: faults.cloned().unwrap_or_default(),
        issuers_and_serials: details.iter().map(|details| details.issuer_and_serial.clone()).collect(),
    }
}
