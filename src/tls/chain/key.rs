//! `tls.key` to a signing key, or the exact reason why it is none.
//!
//! `PEM ──▶ one private key ──▶ rustls SigningKey`, else `EncryptedKey, UnsupportedKey("an Ed448 key"), …`
//!
//! Crypto libraries refuse keys without saying why, so the DER is looked at here: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017
//! appendix A.1.2) and SEC1 (RFC 5915). Nothing of a key's content enters a finding.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::SigningKey;

use super::der::{self, INTEGER, OCTET_STRING, OID, SEQUENCE};
use super::finding::Finding;
use super::form::{self, Thing};
use super::pem::{self, Block, Label};

/// The one private key of `tls.key`.
pub(super) fn parse(text: &[u8]) -> Result<Arc<dyn SigningKey>, Finding> {
    let blocks = pem::blocks(text);
    let is_key = |block: &&Block| block.label.thing().is_some_and(Thing::is_private_key);
    let mut keys = blocks.iter().filter(is_key);
    let Some(key) = keys.next() else { return Err(no_key(text, &blocks)) };
    if keys.next().is_some() {
        return Err(Finding::SeveralKeys);
    }
    if key.encrypted || key.label.thing() == Some(Thing::EncryptedKey) {
        return Err(Finding::EncryptedKey);
    }
    let der = key.der.as_deref();
    let der = der.map_err(|damage| Finding::UnparsableKey { error: damage.to_string(), advice: damage.advice() })?;
    let unsupported = |what: &str| Finding::UnsupportedKey { what: what.to_owned() };
    let label = match key.label {
        Label::Known(label, _) => label,
        Label::Unknown(_) => "",
    };
    let (form, key): (Inspect, PrivateKeyDer<'_>) = match label {
        "PRIVATE KEY" => (pkcs8, PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => (pkcs1, PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => (sec1, PrivateSec1KeyDer::from(der).into()),
        "DSA PRIVATE KEY" => return Err(unsupported("a DSA key")),
        "OPENSSH PRIVATE KEY" => return Err(unsupported("a key in OpenSSH's own format")),
        // Known, so it may be quoted.
        other => return Err(unsupported(&format!("a block labelled {other:?}"))),
    };
    aws_lc_rs::sign::any_supported_type(&key).map_err(|_| match (form(der), form::thing(der)) {
        (Some(what), _) => unsupported(&what),
        (None, Some(Thing::PrivateKey)) => {
            let error = "its content is a private key of another form than its label says".to_owned();
            Finding::UnparsableKey { error, advice: Some("convert it to PKCS#8: openssl pkey -in FILE") }
        }
        (None, Some(thing)) => {
            let error = format!("its content is {}, whatever its label says", thing.words());
            Finding::UnparsableKey { error, advice: None }
        }
        (None, None) => Finding::UnparsableKey { error: "its content is not a private key".into(), advice: None },
    })
}

/// What stands in `tls.key` where no block is a private key.
fn no_key(text: &[u8], blocks: &[Block]) -> Finding {
    if !blocks.is_empty() {
        return Finding::NoKey {
            instead: Some(form::instead(&blocks.iter().map(|block| block.label).collect::<Vec<_>>())),
        };
    }
    match form::recognise(text) {
        Some(form) if form.may_be(Thing::is_private_key) => {
            Finding::UnparsableKey { error: form.to_string(), advice: Some(form.advice()) }
        }
        form => Finding::NoKey { instead: form.map(|form| form.to_string()) },
    }
}

/// Type and size of a public key (a SubjectPublicKeyInfo) in the words that people use: `ecdsa-p256`, `rsa-2048`.
pub(super) fn label(spki: &[u8]) -> String {
    if let Some(bits) = der::rsa_bits(spki) {
        return format!("rsa-{bits}");
    }
    let Some(oid) = der::public_key(spki).and_then(|(algorithm, _)| der::expect(algorithm, OID)) else {
        return "unknown".into();
    };
    match oid.content {
        EC_PUBLIC_KEY => match der::expect(oid.rest, OID).map(|oid| curve_name(oid.content)) {
            Some(Some(CurveName::Served(name))) => format!("ecdsa-{name}"),
            Some(Some(CurveName::Other(name))) => format!("ecdsa-{name}"),
            Some(None) | None => "ecdsa-unknown".into(),
        },
        DSA => "dsa".into(),
        ED25519 => "ed25519".into(),
        ED448 => "ed448".into(),
        _ => "unknown".into(),
    }
}

/// Words about the public key of a server's certificate (a SubjectPublicKeyInfo) that no handshake can be signed with,
/// or that clients do not verify; `None` if it is one of the others.
pub(super) fn unusable(spki: &[u8]) -> Option<String> {
    let (algorithm, _) = der::public_key(spki)?;
    let oid = der::expect(algorithm, OID)?;
    match oid.content {
        der::RSA_ENCRYPTION | der::RSA_PSS | ED25519 => None,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11..=0x13] => None,
        EC_PUBLIC_KEY => match der::expect(oid.rest, OID).and_then(|oid| curve_name(oid.content)) {
            Some(CurveName::Served(_)) => None,
            Some(CurveName::Other(_)) | None => Some(curve(oid.rest)),
        },
        other => Some(kind(other)),
    }
}

/// Says what a key is; `None` if its DER is no key of its form.
type Inspect = fn(&[u8]) -> Option<String>;

/// What kind of key a PKCS#8 structure holds; `None` if it is none.
fn pkcs8(der: &[u8]) -> Option<String> {
    let outer = der::expect(der, SEQUENCE)?;
    let version = der::expect(outer.content, INTEGER)?;
    let algorithm = der::expect(version.rest, SEQUENCE)?;
    let key = der::expect(algorithm.rest, OCTET_STRING)?;
    let oid = der::expect(algorithm.content, OID)?;
    Some(match oid.content {
        der::RSA_ENCRYPTION => return pkcs1(key.content),
        der::RSA_PSS => "an RSA key restricted to RSA-PSS (OID 1.2.840.113549.1.1.10)".into(),
        EC_PUBLIC_KEY => curve(oid.rest),
        ED25519 => "a damaged Ed25519 key".into(),
        other => kind(other),
    })
}

/// Words about a type of key that TLS here has no use for, by its object identifier.
fn kind(oid: &[u8]) -> String {
    match oid {
        [0x2b, 0x65, 0x6e] => "an X25519 key, which cannot sign".into(),
        [0x2b, 0x65, 0x6f] => "an X448 key, which cannot sign".into(),
        ED448 => "an Ed448 key".into(),
        DSA => "a DSA key".into(),
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11..=0x13] => "an ML-DSA key".into(),
        other => format!("a key of the unknown type {}", der::dotted(other)),
    }
}

/// Words about an RSA key that was refused.
fn pkcs1(der: &[u8]) -> Option<String> {
    let version = der::expect(der::expect(der, SEQUENCE)?.content, INTEGER)?;
    let modulus = der::expect(version.rest, INTEGER)?;
    Some(match der::bit_length(modulus.content) {
        bits @ ..2048 => format!("an RSA key of {bits} bits, and 2048 is the minimum"),
        bits @ 8193.. => format!("an RSA key of {bits} bits, and 8192 is the maximum"),
        bits => format!("a damaged RSA key of {bits} bits"),
    })
}

/// Words about an EC key that was refused: version, key, then the curve in a context tag 0.
fn sec1(der: &[u8]) -> Option<String> {
    let version = der::expect(der::expect(der, SEQUENCE)?.content, INTEGER)?;
    let key = der::expect(version.rest, OCTET_STRING)?;
    match der::expect(key.rest, 0xa0) {
        Some(parameters) => Some(curve(parameters.content)),
        None => Some("an EC key that does not name its curve".into()),
    }
}

/// Words about the curve in EC parameters (RFC 5480 section 2.1.1).
fn curve(parameters: &[u8]) -> String {
    let Some(oid) = der::expect(parameters, OID) else {
        return "an EC key with explicit curve parameters instead of a curve's name".into();
    };
    match curve_name(oid.content) {
        Some(CurveName::Served(name)) => format!("a damaged {} key", name.to_uppercase().replace('P', "P-")),
        Some(CurveName::Other(name)) => format!("an EC key on the curve {name}"),
        None => format!("an EC key on the unknown curve {}", der::dotted(oid.content)),
    }
}

/// A curve by its name.
enum CurveName {
    /// One that handshakes are signed with.
    Served(&'static str),
    Other(&'static str),
}

fn curve_name(oid: &[u8]) -> Option<CurveName> {
    Some(match oid {
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => CurveName::Served("p256"),
        [0x2b, 0x81, 0x04, 0x00, 0x22] => CurveName::Served("p384"),
        [0x2b, 0x81, 0x04, 0x00, 0x23] => CurveName::Served("p521"),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01] => CurveName::Other("secp192r1"),
        [0x2b, 0x81, 0x04, 0x00, 0x0a] => CurveName::Other("secp256k1"),
        [0x2b, 0x81, 0x04, 0x00, 0x21] => CurveName::Other("secp224r1"),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07] => CurveName::Other("brainpoolP256r1"),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b] => CurveName::Other("brainpoolP384r1"),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d] => CurveName::Other("brainpoolP512r1"),
        _ => return None,
    })
}

/// 1.2.840.10040.4.1.
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
/// 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 1.3.101.113.
const ED448: &[u8] = &[0x2b, 0x65, 0x71];
/// 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
