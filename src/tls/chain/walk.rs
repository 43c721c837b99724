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
use std::collections::HashMap;

use super::anchors::{AnchorSource, TrustAnchors};
use super::certificate::Certificate;
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
}

/// Longest path that is looked for; clients give up at about the same.
const DEPTH: usize = 10;

/// Most signatures that are verified for one `tls.crt`.
const BUDGET: usize = 200;

/// Most steps on the way up; certificates that sign each other in circles have endless paths.
const STEPS: usize = 1_000;

/// Walks up from a leaf.
pub(super) fn walk(certificates: &[Certificate], leaf: usize, anchors: &TrustAnchors) -> Walk {
    let graph = Graph {
        certificates,
        anchors,
        known: HashMap::new().into(),
        budget: Cell::new(BUDGET),
        steps: Cell::new(STEPS),
    };
    let (path, end) = graph.climb(vec![leaf]);
    let mut walk = Walk { path, surplus: Vec::new(), roots: Vec::new(), end };
    if let End::Root(root) = walk.end {
        walk.roots.push(root);
    }
    // Above the path: issuer by issuer, then other forms of members and of the issuer's issuer.
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

struct Graph<'a> {
    certificates: &'a [Certificate],
    anchors: &'a TrustAnchors,
    /// Verified signatures: child and issuer.
    known: std::cell::RefCell<HashMap<(usize, usize), bool>>,
    budget: Cell<usize>,
    steps: Cell<usize>,
}

impl Graph<'_> {
    /// The best way up that begins with `path`.
    fn climb(&self, path: Vec<usize>) -> (Vec<usize>, End) {
        let top = path[path.len() - 1];
        let certificate = &self.certificates[top];
        let is_leaf = path.len() == 1;
        if is_leaf && self.is_self_signed(top) {
            let end = match self.anchors.same_as(certificate) {
                Some(anchor) => End::Anchor(anchored(anchor, true)),
                None => End::SelfSigned,
            };
            return (path, end);
        }
        if self.spend()
            && let Some((anchor, _)) = self.anchors.issuer_of(certificate)
        {
            return (path, End::Anchor(anchored(anchor, false)));
        }
        let mut best: Option<(Vec<usize>, End)> = None;
        self.steps.set(self.steps.get().saturating_sub(1));
        if path.len() < DEPTH && self.steps.get() > 0 {
            let candidates: Vec<usize> = self.issuers(top).filter(|candidate| !path.contains(candidate)).collect();
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

    /// Complete beats a known root beats a gap; then the shorter of two complete ones, or the longer of two others;
    /// then the one that ends later.
    fn is_better(&self, one: &(Vec<usize>, End), other: &(Vec<usize>, End)) -> bool {
        let score = |(path, end): &(Vec<usize>, End)| {
            let length = i64::try_from(path.len()).unwrap_or(i64::MAX);
            let rank = match end {
                End::Anchor(_) => (2, -length),
                End::Root(_) => (1, length),
                End::Gap | End::SelfSigned => (0, length),
            };
            let until = path.iter().map(|index| self.certificates[*index].not_after.as_secs()).min();
            (rank, until)
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
        let (one, other) = (&self.certificates[child], &self.certificates[issuer]);
        let fits = one.issuer_der == other.subject_der
            && match (&one.authority_key, &other.subject_key) {
                (Some(authority), Some(subject)) => authority == subject,
                (Some(_) | None, _) => true,
            }
            && self.spend()
            && signature::verify(&one.der, &other.spki) != Link::No;
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

fn anchored(anchor: &super::anchors::Anchor, is_leaf: bool) -> Anchored {
    Anchored {
        subject: anchor.subject.clone(),
        source: anchor.source,
        trusted: anchor.trusted.clone(),
        spki: anchor.spki.clone(),
        is_leaf,
    }
}
