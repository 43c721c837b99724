//! Whom clients trust: Mozilla's roots, the operator's own, and the CA in a Secret.
//!
//! `webpki-roots + --trust-anchors + ca.crt ──▶ TrustAnchors ──issuer of──▶ Anchor`
//!
//! An anchor is a name and a key (RFC 5280 section 6.1.1 d), whether or not it signed itself. Where it comes as a
//! certificate, its dates and its form are kept beside: the RFC leaves them out, and many clients do not. Parsed once
//! and shared. Anchors judge chains; they are never served and never turn client authentication on.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::certificate::{Certificate, Place, clean};
use super::form::{self, Form, Thing};
use super::outline::Validity;
use super::pem::{self, Block};
use super::refusals::{self, Fault, Position};
use super::signature::{self, Link};
use super::{der, dn};

/// A set of trusted names and keys.
#[derive(Clone)]
pub struct TrustAnchors {
    sets: Vec<Arc<Set>>,
}

/// Where an anchor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnchorSource {
    /// `--trust-anchors`.
    Operator,
    /// Mozilla's list, packaged with Handfast.
    Public,
    /// `ca.crt` beside the certificate.
    Secret,
}

impl AnchorSource {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            AnchorSource::Operator => "trusted by --trust-anchors",
            AnchorSource::Public => "a public root",
            AnchorSource::Secret => "trusted by ca.crt",
        }
    }

    /// Where its certificate stands, for people.
    pub(super) fn place(self) -> &'static str {
        match self {
            AnchorSource::Operator => "in the file of --trust-anchors",
            AnchorSource::Public => "among the public roots",
            AnchorSource::Secret => "in ca.crt",
        }
    }

    /// The word used in JSON.
    pub fn code(self) -> &'static str {
        match self {
            AnchorSource::Operator => "operator",
            AnchorSource::Public => "public",
            AnchorSource::Secret => "secret",
        }
    }
}

/// Why a file holds no anchors.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadAnchors {
    /// A block that is no certificate.
    #[error("block {index} at byte {offset} cannot be used: {error}")]
    Block {
        /// Its place, from 1.
        index: usize,
        /// Bytes before it.
        offset: usize,
        /// What is wrong.
        error: String,
        /// What to do about that, if something can be said.
        advice: Option<&'static str>,
    },
    /// No certificate at all.
    #[error("it has no PEM certificate{}", instead.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
    Empty {
        /// What it holds instead, if that can be told.
        instead: Option<String>,
        /// What to do about that.
        advice: Option<&'static str>,
    },
}

impl BadAnchors {
    /// What to do about it, where something better can be said than to put the certificate there again.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            BadAnchors::Block { advice, .. } | BadAnchors::Empty { advice, .. } => *advice,
        }
    }

    /// No block in a text.
    pub(super) fn empty(text: &[u8]) -> Self {
        let form = form::recognise(text);
        BadAnchors::Empty { instead: form.map(|form| form.to_string()), advice: form.map(Form::advice) }
    }
}

/// The certificate of a block, as DER.
pub(super) fn certificate_of(block: Block, index: usize) -> Result<Vec<u8>, BadAnchors> {
    let Block { label, offset, der, .. } = block;
    let (error, advice) = match (label.thing(), der) {
        (Some(Thing::Certificate), Ok(der)) => return Ok(der),
        (Some(Thing::Certificate), Err(damage)) => (damage.to_string(), damage.advice()),
        (thing, _) => (format!("it is {label}, not a CERTIFICATE"), thing.map(Thing::in_place_of_certificate)),
    };
    Err(BadAnchors::Block { index: index + 1, offset, error, advice })
}

/// A trusted name and key.
pub(super) struct Anchor {
    pub(super) trusted: TrustAnchor<'static>,
    /// For people.
    pub(super) subject: String,
    /// DER of the SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    pub(super) source: AnchorSource,
    /// What its certificate says beside name and key; `None` for public roots, of which no more is known.
    pub(super) details: Option<Details>,
}

/// What the certificate of an anchor says beside its name and key.
pub(super) struct Details {
    pub(super) validity: Validity,
    /// Its issuer (DER) and serial number, by which a certificate below it may name it.
    pub(super) issuer_and_serial: (Vec<u8>, Vec<u8>),
    pub(super) faults: Vec<Fault>,
}

#[derive(Default)]
struct Set {
    anchors: Vec<Anchor>,
    /// DER of the name to places in `anchors`.
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// SHA-256 over what it was made of, for comparison.
    digest: String,
}

impl TrustAnchors {
    /// None.
    pub fn none() -> Self {
        Self { sets: Vec::new() }
    }

    /// Mozilla's roots for TLS servers. Parsed once for the whole process.
    pub fn public() -> Self {
        static PUBLIC: OnceLock<Arc<Set>> = OnceLock::new();
        let set = PUBLIC.get_or_init(|| {
            let anchors = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
            Arc::new(Set::new("public", anchors.map(|anchor| Anchor::new(anchor, AnchorSource::Public, None))))
        });
        Self { sets: vec![set.clone()] }
    }

    /// Whether one of Mozilla's roots has this name, written as subjects are: `CN=ISRG Root X1`.
    pub fn is_public_root(subject: &str) -> bool {
        Self::public().sets.iter().flat_map(|set| &set.anchors).any(|anchor| anchor.subject == subject)
    }

    /// These, and the certificates of a PEM file that the operator names.
    pub fn with_file(&self, text: &[u8]) -> Result<Self, BadAnchors> {
        let (added, errors) = self.with(text, AnchorSource::Operator);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        if added.sets.len() == self.sets.len() { Err(BadAnchors::empty(text)) } else { Ok(added) }
    }

    /// These, and what can be used of a Secret's `ca.crt`.
    pub(super) fn with_secret(&self, text: &[u8]) -> (Self, Vec<BadAnchors>) {
        self.with(text, AnchorSource::Secret)
    }

    fn with(&self, text: &[u8], source: AnchorSource) -> (Self, Vec<BadAnchors>) {
        let mut errors = Vec::new();
        let mut anchors = Vec::new();
        let blocks = pem::blocks(text);
        if blocks.is_empty() && !text.trim_ascii().is_empty() {
            errors.push(BadAnchors::empty(text));
        }
        for (index, block) in blocks.into_iter().enumerate() {
            let offset = block.offset;
            let anchor = certificate_of(block, index).and_then(|der| {
                let der = CertificateDer::from(der);
                let anchor = webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned());
                let anchor = anchor.map_err(|_| {
                    let error = match form::thing(&der) {
                        Some(Thing::Certificate) | None => refusals::unreadable(&der).to_owned(),
                        Some(thing) => format!("its content is {}, whatever its label says", thing.words()),
                    };
                    BadAnchors::Block { index: index + 1, offset, error, advice: None }
                })?;
                Ok(Anchor::new(anchor, source, Details::read(&der)))
            });
            match anchor {
                Ok(anchor) => anchors.push(anchor),
                Err(error) => errors.push(error),
            }
        }
        let mut sets = self.sets.clone();
        if !anchors.is_empty() {
            sets.push(Arc::new(Set::new(&crate::tls::sha256_hex(text), anchors.into_iter())));
        }
        (Self { sets }, errors)
    }

    /// True if somebody has said whom the clients trust: a file of anchors, `ca.crt`, or nobody but these. With the
    /// public roots alone, a private CA may be trusted all the same.
    pub(super) fn is_stated(&self) -> bool {
        let is_public =
            |set: &Arc<Set>| set.anchors.first().is_some_and(|anchor| anchor.source == AnchorSource::Public);
        self.sets.is_empty() || !self.sets.iter().all(is_public)
    }

    /// True if an anchor has this name (DER), whatever its key.
    pub(super) fn has_name(&self, subject: &[u8]) -> bool {
        self.named(subject).next().is_some()
    }

    /// All anchors with the name and the key of one: clients take any of them.
    pub(super) fn equal_to<'a, 'b>(&'a self, anchor: &'b Anchor) -> impl Iterator<Item = &'a Anchor> + use<'a, 'b> {
        self.sets.iter().flat_map(move |set| {
            set.anchors
                .iter()
                .filter(|other| other.spki == anchor.spki && other.trusted.subject == anchor.trusted.subject)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| set.anchors.len()).sum()
    }

    /// True if nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same for rustls, which verifies certificates of clients by them.
    pub(in crate::tls) fn root_store(&self) -> RootCertStore {
        self.sets.iter().flat_map(|set| &set.anchors).map(|anchor| anchor.trusted.clone()).collect()
    }

    /// The keys of a name (DER), each a SubjectPublicKeyInfo (DER).
    pub(super) fn keys_of(&self, subject: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.named(subject).map(|anchor| anchor.spki.as_slice())
    }

    /// The names of all, as DER and for people.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&[u8], &str)> {
        self.sets.iter().flat_map(move |set| {
            set.by_subject.iter().filter_map(move |(der, indices)| {
                Some((der.as_slice(), set.anchors.get(*indices.first()?)?.subject.as_str()))
            })
        })
    }

    /// The anchor that issued a certificate: by name and signature. Those of the Secret first, since it knows best.
    pub(super) fn issuer_of(&self, certificate: &Certificate) -> Option<(&Anchor, Link)> {
        self.named(&certificate.issuer_der).find_map(|anchor| match signature::verify(&certificate.der, &anchor.spki) {
            Link::No => None,
            link @ (Link::Assumed | Link::Verified) => Some((anchor, link)),
        })
    }

    /// The anchor with a certificate's own name and key.
    pub(super) fn same_as(&self, certificate: &Certificate) -> Option<&Anchor> {
        self.named(&certificate.subject_der).find(|anchor| anchor.spki == certificate.spki)
    }

    fn named<'a, 'b>(&'a self, subject: &'b [u8]) -> impl Iterator<Item = &'a Anchor> + use<'a, 'b> {
        self.sets
            .iter()
            .rev()
            .flat_map(move |set| set.by_subject.get(subject).into_iter().flatten().map(|index| &set.anchors[*index]))
    }
}

impl Default for TrustAnchors {
    fn default() -> Self {
        Self::public()
    }
}

impl PartialEq for TrustAnchors {
    fn eq(&self, other: &Self) -> bool {
        let digests = |anchors: &Self| anchors.sets.iter().map(|set| set.digest.clone()).collect::<Vec<_>>();
        digests(self) == digests(other)
    }
}

impl Eq for TrustAnchors {}

impl Hash for TrustAnchors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sets.iter().for_each(|set| set.digest.hash(state));
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchors({})", self.len())
    }
}

impl Anchor {
    fn new(trusted: TrustAnchor<'static>, source: AnchorSource, details: Option<Details>) -> Self {
        let subject = common_name(&der::sequence(&trusted.subject));
        let spki = der::sequence(&trusted.subject_public_key_info);
        Self { trusted, subject, spki, source, details }
    }
}

impl Details {
    fn read(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::parse(Place::block(1), der.to_vec()).ok()?;
        let validity = Validity { not_before: certificate.not_before, not_after: certificate.not_after };
        let issuer_and_serial = (certificate.issuer_der, refusals::serial(der).unwrap_or_default());
        Some(Self { validity, issuer_and_serial, faults: refusals::faults(der, Position::Anchor) })
    }
}

/// A name (DER) for people: its common name, or all of it if it has none.
pub(super) fn common_name(name: &[u8]) -> String {
    clean(&dn::common_name(name).map_or_else(|| dn::words(name), |name| format!("CN={name}")))
}

impl Set {
    fn new(digest: &str, anchors: impl Iterator<Item = Anchor>) -> Self {
        let mut set = Set { digest: digest.to_owned(), ..Set::default() };
        for anchor in anchors {
            set.by_subject.entry(der::sequence(&anchor.trusted.subject)).or_default().push(set.anchors.len());
            set.anchors.push(anchor);
        }
        set
    }
}
