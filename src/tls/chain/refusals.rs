//! What a certificate says in a form that some clients refuse, and which clients these are.
//!
//! `DER × place in the chain ──▶ faults, each with the verifiers that refuse it`
//!
//! Path validation (RFC 5280 section 6.1) looks at none of this, so a chain may be right and still be refused: Go reads
//! every name and number strictly, and OpenSSL's X509_STRICT, which Python sets by itself from 3.13 on, demands most of
//! what RFC 5280 section 4 prescribes. Who refuses what was tried with each verifier, and the tests try it again.

use std::fmt;

use super::der::{self, BIT_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE};
use super::dn;

/// Software that judges chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verifier {
    /// OpenSSL as it is, and what is made with it: curl, Node, Python, PHP, nginx.
    OpenSsl,
    /// OpenSSL with X509_STRICT: Python from 3.13 on, `openssl verify -x509_strict`.
    OpenSslStrict,
    /// crypto/x509.
    Go,
    /// The JDK's trust manager.
    Java,
    /// GnuTLS: wget, glib.
    GnuTls,
    /// NSS.
    Nss,
}

impl Verifier {
    /// For people.
    fn words(self) -> &'static str {
        match self {
            Verifier::OpenSsl => "OpenSSL",
            Verifier::OpenSslStrict => "Python from 3.13 on (OpenSSL with X509_STRICT)",
            Verifier::Go => "Go",
            Verifier::Java => "Java",
            Verifier::GnuTls => "GnuTLS",
            Verifier::Nss => "NSS",
        }
    }
}

/// `OpenSSL, Go and Java refuse it`.
pub(super) struct Refusal<'a>(pub(super) &'a [Verifier]);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nobody refuses it"),
            [only] => write!(f, "{} refuses it", only.words()),
            [first @ .., last] => {
                let first: Vec<&str> = first.iter().map(|one| one.words()).collect();
                write!(f, "{} and {} refuse it", first.join(", "), last.words())
            }
        }
    }
}

/// Something in a certificate that somebody refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What it has or lacks, after "the certificate": `it has …`.
    pub(super) words: String,
    pub(super) by: &'static [Verifier],
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// A trust anchor that is a certificate of its own, in ca.crt or a file.
    Anchor,
    /// Between the leaf and the anchor.
    Issuer,
    Leaf,
}

const GO: &[Verifier] = &[Verifier::Go];
const GNUTLS: &[Verifier] = &[Verifier::GnuTls];
const OPENSSL: &[Verifier] = &[Verifier::OpenSsl];
const OPENSSL_AND_GO: &[Verifier] = &[Verifier::OpenSsl, Verifier::Go];
const OPENSSL_AND_GNUTLS: &[Verifier] = &[Verifier::OpenSsl, Verifier::GnuTls];
const STRICT: &[Verifier] = &[Verifier::OpenSslStrict];
const STRICT_AND_JAVA: &[Verifier] = &[Verifier::OpenSslStrict, Verifier::Java];
const STRICT_GO_AND_JAVA: &[Verifier] = &[Verifier::OpenSslStrict, Verifier::Go, Verifier::Java];
const ALL_BUT_NSS: &[Verifier] = &[Verifier::OpenSsl, Verifier::Go, Verifier::Java, Verifier::GnuTls];

/// Those who look at the dates of the trust anchor itself. Java and rustls take an anchor for a name and a key.
pub(super) const READ_ANCHOR_DATES: &[Verifier] = &[Verifier::OpenSsl, Verifier::Go, Verifier::GnuTls, Verifier::Nss];

/// Those who compare the issuer and the serial number in an authority key identifier.
pub(super) const READ_AUTHORITY_SERIAL: &[Verifier] = OPENSSL;

/// The signed part of a certificate (RFC 5280 section 4.1.2).
struct Body<'a> {
    /// 0, 1 or 2 for versions 1 to 3.
    version: u8,
    serial: &'a [u8],
    issuer: &'a [u8],
    times: Vec<der::Element<'a>>,
    subject: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

struct Extension<'a> {
    oid: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// The serial number as it stands there.
pub(super) fn serial(certificate: &[u8]) -> Option<Vec<u8>> {
    read(certificate).ok().map(|body| body.serial.to_vec())
}

/// The first part of a certificate that cannot be read, for people.
pub(super) fn unreadable(certificate: &[u8]) -> &'static str {
    match read(certificate) {
        Err(what) => what,
        Ok(Body { version: 2, .. }) => "it breaks the rules of DER, or a field of it has a value that cannot be",
        Ok(_) => "it is not of version 3",
    }
}

/// Whether each part can be read; the error names the first that cannot.
pub(super) fn readable(certificate: &[u8]) -> Result<(), &'static str> {
    read(certificate).map(drop)
}

/// Everything in a certificate that somebody refuses.
pub(super) fn faults(certificate: &[u8], position: Position) -> Vec<Fault> {
    let Ok(body) = read(certificate) else { return Vec::new() };
    let mut faults = Vec::new();
    let mut say = |words: &str, by| faults.push(Fault { words: words.to_owned(), by });
    let is_self_issued = body.subject == body.issuer;
    match body.serial {
        [first, ..] if first & 0x80 != 0 => say("it has a negative serial number", GO),
        [0, second, ..] if second & 0x80 == 0 => say("its serial number begins with a zero too many", OPENSSL_AND_GO),
        _ => {}
    }
    for time in body.times.iter().filter(|time| !is_plain_time(time)) {
        match time.content.last() {
            Some(b'Z') => say("its validity has a time without seconds", OPENSSL),
            Some(_) | None => say("its validity has a time with an offset from UTC", OPENSSL_AND_GNUTLS),
        }
    }
    if dn::is_empty(body.issuer) {
        say("its issuer is an empty name", STRICT_AND_JAVA);
    }
    let mut seen: Vec<&[u8]> = Vec::new();
    for extension in &body.extensions {
        if seen.contains(&extension.oid) {
            say(&format!("it has the extension {} twice", der::dotted(extension.oid)), ALL_BUT_NSS);
        }
        seen.push(extension.oid);
    }
    let find = |oid: &[u8]| body.extensions.iter().find(|extension| extension.oid == oid);
    let constraints = find(BASIC_CONSTRAINTS);
    let members = constraints.and_then(|found| der::members(der::expect(found.value, SEQUENCE)?.content));
    let members = members.unwrap_or_default();
    let is_ca = members.first().is_some_and(|first| first.tag == 0x01 && first.content != [0]);
    let has_length = members.iter().any(|member| member.tag == INTEGER);
    let signs_certificates = find(KEY_USAGE).and_then(|found| {
        let bits = der::expect(found.value, BIT_STRING)?.content;
        Some(bits.get(1).is_some_and(|first| first & 0x04 != 0))
    });

    if position != Position::Anchor && !is_self_issued && !find(AUTHORITY_KEY).is_some_and(has_key_identifier) {
        say("it has no authority key identifier", STRICT);
    }
    match position {
        Position::Anchor if constraints.is_none() && body.version == 0 => {
            say("it is of version 1, which has no extensions", STRICT);
        }
        Position::Anchor if constraints.is_none() => {
            say("it does not say that it is a CA (basicConstraints)", STRICT_GO_AND_JAVA);
        }
        Position::Anchor | Position::Issuer | Position::Leaf => {}
    }
    if is_ca {
        if find(SUBJECT_KEY).is_none() {
            say("it is a CA without a subject key identifier", STRICT);
        }
        if constraints.is_some_and(|found| !found.critical) {
            say("it is a CA whose basicConstraints are not critical", STRICT);
        }
        if signs_certificates.is_none() {
            say("it is a CA without a key usage", STRICT);
        }
    } else if position == Position::Leaf {
        if has_length {
            say("it is no CA and has a path length", STRICT);
        }
        if signs_certificates == Some(true) {
            say("it is no CA and has the key usage keyCertSign", STRICT);
        }
    }
    faults.extend(dn::faults(body.issuer, "its issuer"));
    if !is_self_issued {
        faults.extend(dn::faults(body.subject, "its subject"));
    }
    if position == Position::Leaf
        && let Some(names) = find(ALTERNATIVE_NAMES)
    {
        faults.extend(of_names(names, dn::is_empty(body.subject)));
    }
    faults
}

/// What is wrong with the names of a leaf (RFC 5280 section 4.2.1.6).
fn of_names(extension: &Extension<'_>, is_subject_empty: bool) -> Vec<Fault> {
    let fault = |words: &str, by| Fault { words: words.to_owned(), by };
    let names = der::expect(extension.value, SEQUENCE).and_then(|names| der::members(names.content));
    let Some(names) = names else { return Vec::new() };
    let mut faults = Vec::new();
    if names.is_empty() {
        faults.push(fault("its subjectAltName has no name", STRICT));
    }
    if is_subject_empty && !extension.critical {
        faults.push(fault("its subject is empty and its subjectAltName is not critical", STRICT_AND_JAVA));
    }
    for name in names {
        let (kind, is_text) = match name.tag {
            0x81 => ("an e-mail address", true),
            0x82 => ("a dNSName", true),
            0x86 => ("a URI", true),
            0x87 => ("an iPAddress", false),
            0xa0 | 0xa3 | 0xa4 | 0xa5 | 0x88 => continue,
            tag => {
                faults.push(fault(
                    &format!("its subjectAltName has a name of an unknown kind (tag {tag})"),
                    OPENSSL_AND_GNUTLS,
                ));
                continue;
            }
        };
        let has = |what: &str| format!("its subjectAltName has {kind} {what}");
        let length = name.content.len();
        if is_text && !name.content.is_ascii() {
            faults.push(fault(&has("that is not ASCII"), GO));
        } else if name.tag == 0x82 && length == 0 {
            faults.push(fault(&has("that is empty"), GNUTLS));
        } else if name.tag == 0x86 && !is_plain_uri(name.content) {
            faults.push(fault(&has("that cannot be parsed"), GO));
        } else if name.tag == 0x87 && length != 4 && length != 16 {
            let text = if name.content.is_ascii() && length > 6 { ": it stands there as text" } else { "" };
            faults.push(fault(&has(&format!("of {length} bytes, and not 4 or 16{text}")), GO));
        }
    }
    faults
}

/// Without spaces and control characters, and with brackets in the host that belong together. What else net/url of Go
/// refuses is rarer than that.
fn is_plain_uri(uri: &[u8]) -> bool {
    let host = uri.windows(3).position(|three| three == b"://").map_or(&[][..], |at| {
        let rest = &uri[at + 3..];
        &rest[..rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len())]
    });
    uri.iter().all(|byte| !byte.is_ascii_control())
        && !host.contains(&b' ')
        && host.contains(&b'[') == host.contains(&b']')
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year (RFC 5280 section 4.1.2.5).
fn is_plain_time(time: &der::Element<'_>) -> bool {
    let digits = if time.tag == 0x17 { 12 } else { 14 };
    time.content.len() == digits + 1
        && time.content.last() == Some(&b'Z')
        && time.content[..digits].iter().all(u8::is_ascii_digit)
}

fn has_key_identifier(authority: &Extension<'_>) -> bool {
    let members = der::expect(authority.value, SEQUENCE).and_then(|outer| der::members(outer.content));
    members.is_some_and(|members| members.iter().any(|member| member.tag == 0x80))
}

/// Reads field by field; the error names the first that cannot be read.
fn read(certificate: &[u8]) -> Result<Body<'_>, &'static str> {
    let outer = der::expect(certificate, SEQUENCE).ok_or("it is not a certificate, or it is cut short")?;
    let signed = der::expect(outer.content, SEQUENCE).ok_or("its signed part is damaged")?;
    let mut rest = signed.content;
    let mut version = 0;
    if let Some(tagged) = der::expect(rest, 0xa0) {
        let number = der::expect(tagged.content, INTEGER).ok_or("its version is damaged")?;
        version = number.content.last().copied().unwrap_or_default();
        rest = tagged.rest;
    }
    let mut next = |tag: u8, what: &'static str| {
        let element = der::expect(rest, tag).ok_or(what)?;
        rest = element.rest;
        Ok::<_, &'static str>(element)
    };
    let serial = next(INTEGER, "its serial number is damaged")?;
    next(SEQUENCE, "its signature algorithm is damaged")?;
    let issuer = next(SEQUENCE, "the name of its issuer is damaged")?;
    let validity = next(SEQUENCE, "its validity is damaged")?;
    let subject = next(SEQUENCE, "its subject is damaged")?;
    next(SEQUENCE, "its public key is damaged")?;
    if serial.content.is_empty() {
        return Err("its serial number is empty");
    }
    if dn::words(issuer.whole) == "(unreadable)" {
        return Err("the name of its issuer is damaged");
    }
    if dn::words(subject.whole) == "(unreadable)" {
        return Err("its subject is damaged");
    }
    let times = der::members(validity.content).filter(|times| times.len() == 2).ok_or("its validity is damaged")?;
    let trailing = der::members(rest).ok_or("its extensions are damaged")?;
    let extensions = match trailing.iter().find(|element| element.tag == 0xa3) {
        None => Vec::new(),
        Some(tagged) => {
            let list = der::expect(tagged.content, SEQUENCE).and_then(|list| der::members(list.content));
            let list = list.and_then(|list| list.iter().map(extension).collect::<Option<Vec<_>>>());
            list.ok_or("its extensions are damaged")?
        }
    };
    Ok(Body { version, serial: serial.content, issuer: issuer.whole, times, subject: subject.whole, extensions })
}

fn extension<'a>(element: &der::Element<'a>) -> Option<Extension<'a>> {
    let oid = (element.tag == SEQUENCE).then(|| der::expect(element.content, OID)).flatten()?;
    let critical = der::expect(oid.rest, 0x01);
    let value = der::expect(critical.map_or(oid.rest, |critical| critical.rest), OCTET_STRING)?;
    let critical = critical.is_some_and(|critical| critical.content != [0]);
    Some(Extension { oid: oid.content, critical, value: value.content })
}

const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 35];
