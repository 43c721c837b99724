//! How a certificate was signed, and whether a key has signed it.
//!
//! `certificate × public key ──▶ Verified, Assumed, No`
//!
//! What modern clients verify is what webpki verifies. SHA-1 and short RSA keys are verified as well, so that
//! a chain with them is walked to its end and the finding names them instead of a gap. What nobody here can verify
//! (MD5, DSA, Ed448, odd RSA-PSS parameters) is assumed to fit if names and key identifiers do, and reported.

use aws_lc_rs::signature as aws;
use rustls::pki_types::SignatureVerificationAlgorithm;

use super::der::{self, OID};

/// How good the algorithm of a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// Clients verify it.
    Good,
    /// Clients know it and refuse it.
    Weak(&'static str),
    /// Clients do not know it.
    Unsupported(String),
}

/// Whether a key has signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nobody here can tell.
    Assumed,
    /// It has not.
    No,
    /// It has.
    Verified,
}

/// Judges an algorithm identifier (the content of its SEQUENCE).
pub(super) fn name(algorithm: &[u8]) -> Signature {
    let Some(oid) = der::expect(algorithm, OID) else { return Signature::Unsupported("an unreadable one".into()) };
    match oid.content {
        SHA1_WITH_RSA | SHA1_WITH_RSA_OLD => return Signature::Weak("SHA-1 with RSA"),
        SHA1_WITH_ECDSA => return Signature::Weak("SHA-1 with ECDSA"),
        SHA1_WITH_DSA => return Signature::Weak("SHA-1 with DSA"),
        MD5_WITH_RSA => return Signature::Weak("MD5 with RSA"),
        MD2_WITH_RSA => return Signature::Weak("MD2 with RSA"),
        _ => {}
    }
    if algorithms().iter().any(|known| known.signature_alg_id().as_ref() == algorithm) {
        return Signature::Good;
    }
    Signature::Unsupported(match oid.content {
        // Parameters other than one SHA-2 hash for both digests and a salt of its length (RFC 8446 section 4.2.3).
        der::RSA_PSS => "RSA-PSS with parameters that TLS has no name for".into(),
        [0x2b, 0x65, 0x71] => "Ed448".into(),
        other => format!("the algorithm {}", der::dotted(other)),
    })
}

/// Whether the key has signed the certificate.
pub(super) fn verify(certificate: &[u8], spki: &[u8]) -> Link {
    let Some((body, algorithm, signature)) = der::signed(certificate) else { return Link::No };
    let Some((key_algorithm, key)) = der::public_key(spki) else { return Link::No };
    let is_good = |verified: bool| if verified { Link::Verified } else { Link::No };
    let short_rsa = der::rsa_bits(spki).is_some_and(|bits| bits < 2048);
    let weak: Option<&'static dyn aws::VerificationAlgorithm> = match der::expect(algorithm, OID).map(|oid| oid.content)
    {
        Some(SHA1_WITH_RSA | SHA1_WITH_RSA_OLD) => Some(&aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY),
        Some(SHA256_WITH_RSA) if short_rsa => Some(&aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        Some(SHA512_WITH_RSA) if short_rsa => Some(&aws::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        Some(_) | None => None,
    };
    if let Some(weak) = weak {
        return is_good(aws::UnparsedPublicKey::new(weak, key).verify(body, signature).is_ok());
    }
    let fits = algorithms().iter().find(|known| {
        known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == key_algorithm
    });
    match fits {
        Some(_) if short_rsa => Link::Assumed,
        Some(known) => is_good(known.verify_signature(key, body, signature).is_ok()),
        // A known algorithm and a key of another type: it cannot have signed.
        None if name(algorithm) == Signature::Good && key_is_known(key_algorithm) => Link::No,
        None => Link::Assumed,
    }
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    webpki::ALL_VERIFICATION_ALGS
}

/// Whether clients can verify anything with a key (a SubjectPublicKeyInfo).
pub(super) fn is_key_known(spki: &[u8]) -> bool {
    der::public_key(spki).is_some_and(|(algorithm, _)| key_is_known(algorithm))
}

fn key_is_known(key_algorithm: &[u8]) -> bool {
    algorithms().iter().any(|known| known.public_key_alg_id().as_ref() == key_algorithm)
}

/// 1.2.840.113549.1.1.2.
const MD2_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x02];
/// 1.2.840.113549.1.1.4.
const MD5_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];
/// 1.2.840.113549.1.1.5.
const SHA1_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
/// 1.3.14.3.2.29, from before PKCS#1 had a name for it.
const SHA1_WITH_RSA_OLD: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1d];
/// 1.2.840.10045.4.1.
const SHA1_WITH_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// 1.2.840.10040.4.3.
const SHA1_WITH_DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03];
/// 1.2.840.113549.1.1.11.
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// 1.2.840.113549.1.1.13.
const SHA512_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
