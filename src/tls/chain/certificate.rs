//! One certificate: what the walk and the findings need to know, read once.
//!
//! `DER ──▶ Certificate`
//!
//! Text out of a certificate is written by whoever asked for it, and ends up on terminals and in logs: control
//! characters are replaced and long names are cut.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::signature::{self, Signature};
use super::{der, dn, key, refusals};

/// Which certificate of a chain is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Among the blocks of `tls.crt`, from 1; certificates that were added come behind the last block.
    pub number: usize,
    /// It does not stand in `tls.crt`, but was added where one was missing.
    pub added: bool,
}

impl Place {
    /// A block of `tls.crt`, from 1.
    pub(super) fn block(number: usize) -> Self {
        Self { number, added: false }
    }
}

impl fmt::Display for Place {
    /// `{:#}` at the beginning of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match (self.added, f.alternate()) {
            (true, true) => write!(f, "The added certificate {number}"),
            (true, false) => write!(f, "the added certificate {number}"),
            (false, true) => write!(f, "Certificate {number} in tls.crt"),
            (false, false) => write!(f, "certificate {number} in tls.crt"),
        }
    }
}

/// What is read from one certificate.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) place: Place,
    /// Where it was found, if it was added to the chain.
    pub(super) added_from: Option<Arc<str>>,
    pub(super) der: CertificateDer<'static>,
    /// For people: the common name, else the whole subject, else the first DNS name.
    pub(super) subject: String,
    /// The whole name of the issuer, for people.
    pub(super) issuer: String,
    /// DER of the names, for comparison (RFC 5280 section 7.1, byte by byte as most clients do).
    pub(super) subject_der: Vec<u8>,
    pub(super) issuer_der: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    pub(super) authority_key: Option<Vec<u8>>,
    /// The other way to name the issuer's certificate: its issuer (DER) and serial number (RFC 5280 section 4.2.1.1).
    pub(super) authority_certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) subject_key: Option<Vec<u8>>,
    /// basicConstraints says that it is a CA (RFC 5280 section 4.2.1.9).
    pub(super) is_ca: bool,
    pub(super) path_length: Option<u32>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_usage: Option<ExtendedUsage>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) names: Names,
    /// The key's type and size in the words that people use.
    pub(super) key: Box<str>,
    /// How it was signed.
    pub(super) signature: Signature,
    /// It carries the marks of a public CA: an SCT list (RFC 6962) or a policy of the CA/Browser Forum.
    pub(super) is_public: bool,
    /// It demands a stapled OCSP response (RFC 7633).
    pub(super) must_staple: bool,
    /// Where its CA publishes the issuer (RFC 5280 section 4.2.2.1).
    pub(super) issuer_url: Option<String>,
}

/// The bits of keyUsage that matter (RFC 5280 section 4.2.1.3).
#[derive(Clone, Copy)]
pub(super) struct KeyUsage {
    pub(super) digital_signature: bool,
    pub(super) key_cert_sign: bool,
}

/// The purposes in extendedKeyUsage (RFC 5280 section 4.2.1.12).
#[derive(Clone)]
pub(super) struct ExtendedUsage {
    pub(super) server_auth: bool,
    /// All of them, for people.
    pub(super) names: String,
}

/// The names that a leaf may be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// DNS names of subjectAltName, lower case, in its order.
    pub(super) dns: Vec<Box<str>>,
    /// IP addresses of subjectAltName.
    pub(super) addresses: Vec<IpAddr>,
    /// The common name, which no client looks at any more.
    pub(super) common_name: Option<Box<str>>,
}

impl Certificate {
    /// What it may be used for, if that does not include servers. A CA whose certificate is for any usage may issue for
    /// servers; a leaf has to say so.
    pub(super) fn other_usage(&self, is_leaf: bool) -> Option<&str> {
        let usage = self.extended_usage.as_ref()?;
        let includes = usage.server_auth || !is_leaf && usage.names.contains("anyExtendedKeyUsage");
        (!includes).then_some(&usage.names)
    }

    /// Reads a certificate; the error is for people.
    pub(super) fn parse(place: Place, der: Vec<u8>) -> Result<Self, String> {
        refusals::readable(&der)?;
        let (rest, x509) = X509Certificate::from_der(&der).map_err(|_| refusals::unreadable(&der).to_owned())?;
        if !rest.is_empty() {
            return Err("bytes follow the certificate".into());
        }
        let (_, algorithm, _) = der::signed(&der).ok_or("its signature cannot be read")?;
        let time = |time: &x509_parser::time::ASN1Time| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
        };
        let subject = x509.subject().as_raw();
        let common_name = dn::common_name(subject).map(|name| clean(&name));
        let names = Names { common_name: common_name.as_deref().map(Box::from), ..Names::default() };
        let mut certificate = Certificate {
            place,
            added_from: None,
            subject: String::new(),
            issuer: words(x509.issuer().as_raw()),
            subject_der: subject.to_vec(),
            issuer_der: x509.issuer().as_raw().to_vec(),
            spki: x509.public_key().raw.to_vec(),
            authority_key: None,
            authority_certificate: None,
            subject_key: None,
            is_ca: false,
            path_length: None,
            key_usage: None,
            extended_usage: None,
            not_before: time(&x509.validity().not_before),
            not_after: time(&x509.validity().not_after),
            names,
            key: key::label(x509.public_key().raw).into(),
            signature: signature::name(algorithm),
            is_public: false,
            must_staple: false,
            issuer_url: None,
            der: CertificateDer::from(Vec::new()),
        };
        for extension in x509.extensions() {
            certificate.note(extension)?;
        }
        certificate.subject = match (common_name, certificate.names.dns.first()) {
            (Some(name), _) => format!("CN={name}"),
            (None, Some(name)) if dn::is_empty(subject) => name.to_string(),
            (None, _) if dn::is_empty(subject) => "(no subject)".into(),
            (None, _) => words(subject),
        };
        drop(x509);
        certificate.der = CertificateDer::from(der);
        Ok(certificate)
    }

    fn note(&mut self, extension: &x509_parser::extensions::X509Extension<'_>) -> Result<(), String> {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                let issuer = id.authority_cert_issuer.iter().flatten().find_map(|name| match name {
                    GeneralName::DirectoryName(name) => Some(name.as_raw().to_vec()),
                    _ => None,
                });
                self.authority_certificate = issuer.zip(id.authority_cert_serial.map(<[u8]>::to_vec));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key = Some(id.0.to_vec()),
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: usage.digital_signature(),
                    key_cert_sign: usage.key_cert_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known = [
                    (usage.any, "anyExtendedKeyUsage"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.ocsp_signing, "OCSPSigning"),
                    (usage.server_auth, "serverAuth"),
                    (usage.time_stamping, "timeStamping"),
                ];
                let known = known.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned());
                let other = usage.other.iter().take(8).map(|oid| oid.to_id_string());
                let names = known.chain(other).collect::<Vec<_>>().join(", ");
                self.extended_usage = Some(ExtendedUsage { server_auth: usage.server_auth, names });
            }
            ParsedExtension::SubjectAlternativeName(alternatives) => {
                for name in &alternatives.general_names {
                    match name {
                        GeneralName::DNSName(name) => self.names.dns.push(clean(&name.to_ascii_lowercase()).into()),
                        GeneralName::IPAddress(bytes) => self.names.addresses.extend(address(bytes)),
                        _ => {}
                    }
                }
            }
            ParsedExtension::CertificatePolicies(policies) => {
                self.is_public |= policies.iter().any(|policy| {
                    let oid = policy.policy_id.as_bytes();
                    oid.starts_with(CABF_VALIDATED) || oid == CABF_EXTENDED
                });
            }
            ParsedExtension::SCT(_) => self.is_public = true,
            ParsedExtension::AuthorityInfoAccess(access) => {
                let issuers = access.iter().filter(|access| access.access_method.as_bytes() == CA_ISSUERS);
                let urls = issuers.filter_map(|access| match &access.access_location {
                    GeneralName::URI(uri) => Some(clean(uri)),
                    _ => None,
                });
                // Directories (ldap:) stand beside the web in many private ones; people can use the web.
                self.issuer_url = urls.min_by_key(|url| !url.starts_with("http"));
            }
            ParsedExtension::ParseError { .. } => {
                return Err(format!("its extension {} is damaged", extension.oid.to_id_string()));
            }
            _ if extension.oid.as_bytes() == SCT_LIST => self.is_public = true,
            // A list of TLS extensions; 5 is status_request.
            _ if extension.oid.as_bytes() == TLS_FEATURE => {
                self.must_staple = extension.value.windows(3).any(|feature| feature == [0x02, 0x01, 0x05]);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The whole of a name, for people.
fn words(name: &[u8]) -> String {
    let text = clean(&dn::words(name));
    if text.is_empty() { "(no name)".into() } else { text }
}

/// Fit for a terminal and a log: no control characters, and not endless.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut cleaned: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() || is_bidirectional(c) { '?' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        cleaned.push('…');
    }
    cleaned
}

/// Characters that make a terminal show later text elsewhere.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// 2.23.140.1.2 and below: domain, organisation and individual validated.
const CABF_VALIDATED: &[u8] = &[0x67, 0x81, 0x0c, 0x01, 0x02];
/// 2.23.140.1.1: extended validation.
const CABF_EXTENDED: &[u8] = &[0x67, 0x81, 0x0c, 0x01, 0x01];
/// 1.3.6.1.5.5.7.48.2.
const CA_ISSUERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
/// 1.3.6.1.4.1.11129.2.4.2.
const SCT_LIST: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
/// 1.3.6.1.5.5.7.1.24.
const TLS_FEATURE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];
