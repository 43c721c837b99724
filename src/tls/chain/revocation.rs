//! Which certificates of clients their issuers have revoked: lists (RFC 5280 section 5) as they stand in `ca.crl`.
//!
//! `PEM + authorities ──parse──▶ RevocationLists ──▶ the verifier of clients`
//!
//! What holds is what nginx and OpenSSL hold (`ssl_crl`, so `ca.crl` of ingress-nginx). With lists, every certificate of a
//! client's chain but the trusted one is looked up in the list of its issuer. No list of the issuer, or one that has
//! expired, and the client is refused: not to know is no reason to let in. A client is judged in its handshake only.
//!
//! Lists of issuers that are no authority here belong to intermediate certificates that clients send, so their
//! signatures can be verified only then. Those of the authorities are verified here, because a list that nobody can use
//! would refuse everybody. Of several lists of one issuer the newest counts. A list from the future counts as well
//! (OpenSSL waits for its time): it knows more, not less.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use webpki::OwnedCertRevocationList;
use x509_parser::asn1_rs::FromDer;
use x509_parser::prelude::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::anchors::{TrustAnchors, common_name};
use super::der;
use super::form::{self, Thing};
use super::pem;
use super::signature::{self, Link, Signature};

/// Lists that can be used together, the newest of each issuer. Never empty.
pub struct RevocationLists {
    lists: Vec<List>,
    /// Over the text that it was made of, for comparison.
    digest: String,
    /// Over what is revoked, whenever that was said.
    revoked: String,
}

/// One list.
struct List {
    der: CertificateRevocationListDer<'static>,
    /// DER of the issuer's name.
    issuer: Vec<u8>,
    /// The issuer, for people.
    name: String,
    /// DER of its scope (RFC 5280 section 5.2.5), if it has one: an issuer may cut its list into several.
    scope: Option<Vec<u8>>,
    begins: UnixTime,
    ends: UnixTime,
    /// Serial numbers, sorted.
    revoked: Vec<Vec<u8>>,
}

/// Why lists cannot be used.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum BadLists {
    /// A block that is no list, or one that nobody here can use.
    #[error("block {index} at byte {offset} cannot be used: {error}")]
    Block {
        /// Its place, from 1.
        index: usize,
        /// Bytes before it.
        offset: usize,
        /// What is wrong.
        error: String,
    },
    /// No list at all.
    #[error("it has no list in PEM (-----BEGIN X509 CRL-----){}", instead.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
    Empty {
        /// What it holds instead and what to do about that, if it can be told.
        instead: Option<String>,
    },
    /// Somebody else has signed it, or another key of the same name.
    #[error("the list of {issuer} is not signed with the key of each {issuer} in ca.crt")]
    Forged {
        /// The issuer.
        issuer: String,
    },
    /// Every client would be refused.
    #[error("none of its lists is of an authority in ca.crt")]
    Foreign,
}

impl RevocationLists {
    /// Reads all lists of a text. One that cannot be used spoils all: what it revokes would be let in.
    pub fn parse(text: &[u8], authorities: &TrustAnchors) -> Result<Self, BadLists> {
        let mut lists = Vec::new();
        let blocks = pem::blocks(text);
        for (index, block) in blocks.iter().enumerate() {
            // What else stands in the file is passed over, as OpenSSL does.
            if block.label.thing() != Some(Thing::RevocationList) {
                continue;
            }
            let list = match &block.der {
                Ok(der) => List::parse(der.clone()),
                Err(damage) => Err(damage.with_advice()),
            };
            let bad = |error| BadLists::Block { index: index + 1, offset: block.offset, error };
            lists.push(list.map_err(bad)?);
        }
        if lists.is_empty() {
            let instead = match blocks.is_empty() {
                true => form::recognise(text).map(|form| format!("{form}: {}", form.advice())),
                false => Some(form::instead(&blocks.iter().map(|block| block.label).collect::<Vec<_>>())),
            };
            return Err(BadLists::Empty { instead });
        }
        // Stable, and the newest first; the verifier takes the first that fits.
        lists.sort_by_key(|list| std::cmp::Reverse(list.begins));
        let mut kept: Vec<List> = Vec::with_capacity(lists.len());
        for list in lists {
            if !kept.iter().any(|newer| (&newer.issuer, &newer.scope) == (&list.issuer, &list.scope)) {
                kept.push(list);
            }
        }
        let mut is_of_authority = false;
        for list in &kept {
            for spki in authorities.keys_of(&list.issuer) {
                match signature::verify(&list.der, spki) {
                    Link::Verified => is_of_authority = true,
                    Link::Assumed | Link::No => return Err(BadLists::Forged { issuer: list.name.clone() }),
                }
            }
        }
        if !is_of_authority {
            return Err(BadLists::Foreign);
        }
        Ok(Self { digest: crate::tls::sha256_hex(text), revoked: revoked(&kept), lists: kept })
    }

    /// Authorities without a list: what they issue is refused.
    pub fn missing(&self, authorities: &TrustAnchors) -> Vec<String> {
        let is_listed = |subject: &[u8]| self.lists.iter().any(|list| list.issuer == subject);
        let mut missing: Vec<String> =
            authorities.subjects().filter(|(der, _)| !is_listed(der)).map(|(_, name)| name.to_owned()).collect();
        missing.sort();
        missing.dedup();
        missing
    }

    /// Issuers whose lists have expired, each with when that was.
    pub fn expired(&self, now: UnixTime) -> impl Iterator<Item = (&str, UnixTime)> {
        self.lists.iter().filter(move |list| list.ends <= now).map(|list| (list.name.as_str(), list.ends))
    }

    /// When the next list expires.
    pub fn changes_at(&self, now: UnixTime) -> Option<UnixTime> {
        self.lists.iter().map(|list| list.ends).filter(|ends| *ends > now).min()
    }

    /// True if the same certificates are revoked, and the same issuers have lists: then whoever was let in by one may
    /// stay.
    pub fn revoke_the_same(&self, other: &Self) -> bool {
        self.revoked == other.revoked
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lists.len()
    }

    /// For rustls.
    pub(in crate::tls) fn der(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|list| list.der.clone())
    }
}

impl PartialEq for RevocationLists {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for RevocationLists {}

impl Hash for RevocationLists {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationLists({})", self.lists.len())
    }
}

impl List {
    fn parse(der: Vec<u8>) -> Result<Self, String> {
        let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| "it is damaged".to_owned())?;
        if !rest.is_empty() {
            return Err("bytes follow it".to_owned());
        }
        if list.version() != Some(X509Version::V2) {
            return Err(
                "it is of version 1: let the CA issue lists of version 2 (RFC 5280 section 5.1.2.1), with openssl \
                        by crl_extensions in its configuration"
                    .to_owned(),
            );
        }
        let (_, algorithm, _) = der::signed(&der).ok_or("it is damaged")?;
        match signature::name(algorithm) {
            Signature::Good => {}
            Signature::Weak(name) => return Err(format!("it is signed with {name}, which is no longer accepted")),
            Signature::Unsupported(name) => return Err(format!("it is signed with {name}, which is not supported")),
        }
        let Some(ends) = list.next_update() else {
            return Err("it does not say when the next one comes (nextUpdate), so its age is unknown".to_owned());
        };
        // The library that is going to verify clients by it has the last word.
        OwnedCertRevocationList::from_der(&der).map_err(|error| unusable(&error))?;
        let name = common_name(list.issuer().as_raw());
        let mut revoked: Vec<Vec<u8>> =
            list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect();
        revoked.sort();
        let scope = list.extensions().iter().find(|extension| extension.oid.as_bytes() == ISSUING_DISTRIBUTION_POINT);
        Ok(List {
            issuer: list.issuer().as_raw().to_vec(),
            name,
            scope: scope.map(|scope| scope.value.to_vec()),
            begins: time(list.last_update()),
            ends: time(ends),
            revoked,
            der: CertificateRevocationListDer::from(der),
        })
    }
}

/// What the library does not take, in words.
fn unusable(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnsupportedDeltaCrl => "it is a delta list, and only complete lists are supported".to_owned(),
        webpki::Error::UnsupportedIndirectCrl => {
            "it lists certificates of other issuers (indirect), which is not supported".to_owned()
        }
        webpki::Error::UnsupportedRevocationReasonsPartitioning => {
            "it lists only some reasons for revocation, and only lists with all reasons are supported".to_owned()
        }
        webpki::Error::UnsupportedCrlIssuingDistributionPoint => {
            "its issuing distribution point has no full name".to_owned()
        }
        webpki::Error::UnsupportedCriticalExtension => "it has an unknown critical extension".to_owned(),
        other => format!("it does not have the form of RFC 5280 section 5 ({other})"),
    }
}

fn time(time: ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}

/// A digest over what the lists revoke, whatever their order.
fn revoked(lists: &[List]) -> String {
    let mut parts: Vec<Vec<u8>> = lists
        .iter()
        .map(|list| {
            let mut part = Vec::new();
            let scope = list.scope.as_deref().unwrap_or_default();
            for bytes in [list.issuer.as_slice(), scope].into_iter().chain(list.revoked.iter().map(Vec::as_slice)) {
                // The length keeps bytes from moving between the fields unnoticed.
                part.extend((bytes.len() as u64).to_be_bytes());
                part.extend(bytes);
            }
            part
        })
        .collect();
    parts.sort();
    crate::tls::sha256_hex(&parts.concat())
}

/// 2.5.29.28.
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
