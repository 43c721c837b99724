//! What is to be said about each finding: severity, meaning, fault, remedy, and what strict clients make of it.
//!
//! Read by [`Finding`](super::finding::Finding), `handfast explain` and docs/findings.md. Sorted by code.

use crate::tls::Severity;
use crate::tls::about::About;

/// One code.
pub(super) struct Row {
    pub(super) about: About,
    /// The field of the Secret.
    pub(super) field: &'static str,
    /// What is served differs from what is written, so that clients see no fault.
    pub(super) repaired: bool,
    /// A strict client refuses the chain, by RFC 5280 and RFC 9525 alone.
    pub(super) refused: bool,
}

const CRT: &str = "data[tls.crt]";
const KEY: &str = "data[tls.key]";
const CA: &str = "data[ca.crt]";

/// The row of a code.
pub(super) fn row(code: &str) -> &'static Row {
    let index = ROWS.binary_search_by_key(&code, |row| row.about.code);
    &ROWS[index.expect("invariant: each code has a row, and rows are sorted")]
}

/// Every code.
pub(super) static ROWS: &[Row] = &[
    Row {
        about: About {
            code: "chain-completed",
            severity: Severity::Warning,
            meaning: "An intermediate certificate is missing from tls.crt, and one found elsewhere is served in its place: its name, key identifier and signature fit, and with it the chain leads to a trusted root. Where it was found may change or vanish, and then the chain is incomplete again.",
            fault: "whoever fills the Secret",
            remedy: "put the intermediate into tls.crt, after the certificate that it issued",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "chain-over-window",
            severity: Severity::Warning,
            meaning: "The served certificates are larger than the initial congestion window (RFC 6928), so each full handshake waits one more round trip.",
            fault: "whoever fills the Secret",
            remedy: "leave out certificates that clients do not need, or use ECDSA certificates, which are smaller",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "duplicate-certificate",
            severity: Severity::Warning,
            meaning: "The same certificate stands in tls.crt twice. It is served once.",
            fault: "whoever fills the Secret",
            remedy: "delete the repeated block from tls.crt",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "encrypted-key",
            severity: Severity::Error,
            meaning: "The private key is protected by a pass phrase, and nobody is there to type it.",
            fault: "whoever fills the Secret",
            remedy: "decrypt it first: openssl pkey -in encrypted.key -out tls.key",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "expired",
            severity: Severity::Error,
            meaning: "The validity of a certificate that clients need has ended (RFC 5280 section 4.1.2.5). It is served all the same, and clients refuse it.",
            fault: "whoever renews the certificate",
            remedy: "renew the certificate, or put the CA's current one in its place; with cert-manager, look at the Certificate's events",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "expired-cross-sign",
            severity: Severity::Warning,
            meaning: "A cross-sign that modern clients do not need has expired. OpenSSL 1.0 and old GnuTLS insist on it and refuse the whole chain.",
            fault: "whoever fills the Secret",
            remedy: "delete the expired certificate from tls.crt",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "expires-soon",
            severity: Severity::Warning,
            meaning: "Less than a third of the certificate's lifetime is left. Renewal that works has happened before that.",
            fault: "whoever renews the certificate",
            remedy: "renew the certificate, or put the CA's current one in its place; with cert-manager, look at the Certificate's events",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "intermediate-expires-first",
            severity: Severity::Warning,
            meaning: "An intermediate expires before the leaf, so the chain breaks earlier than the leaf's date says.",
            fault: "the CA",
            remedy: "have the certificate issued again by an intermediate that lives longer, or replace the intermediate by its renewed form",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "issuer-not-ca",
            severity: Severity::Error,
            meaning: "A certificate of the chain has signed another one without being allowed to: it is no CA, or its key usage leaves certificate signing out (RFC 5280 section 6.1.4 k and n).",
            fault: "the CA",
            remedy: "have the issuer made again with basicConstraints CA:TRUE and keyCertSign, and the chain below it as well",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "key-mismatch",
            severity: Severity::Error,
            meaning: "No certificate in tls.crt has the public key of the private key in tls.key, so no handshake can be signed.",
            fault: "whoever fills the Secret",
            remedy: "put the key that the certificate was issued for into tls.key, or have the certificate issued again for this key",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "large-chain",
            severity: Severity::Warning,
            meaning: "The served certificates have more than 4 KB. Clients with small buffers fail, and each full handshake costs more packets.",
            fault: "whoever fills the Secret",
            remedy: "leave out certificates that clients do not need, or use ECDSA certificates, which are smaller",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "leaf-is-ca",
            severity: Severity::Error,
            meaning: "The server's own certificate says CA:TRUE. Firefox and rustls refuse such a certificate for a server; OpenSSL, Go and Java accept it, and RFC 5280 does not forbid it.",
            fault: "whoever asked for the certificate",
            remedy: "have a certificate issued without CA:TRUE; with openssl req, add -addext basicConstraints=critical,CA:FALSE",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "leaf-not-first",
            severity: Severity::Warning,
            meaning: "The server's own certificate does not stand first in tls.crt. It is served first.",
            fault: "whoever fills the Secret",
            remedy: "put the host's own certificate first in tls.crt, its issuer after it",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "long-validity",
            severity: Severity::Warning,
            meaning: "The certificate is valid for more than 825 days. Apple's clients refuse that, also from private CAs.",
            fault: "the CA",
            remedy: "have the certificate issued for 825 days or less",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "missing-intermediate",
            severity: Severity::Error,
            meaning: "A public CA's certificate lacks its intermediate. Browsers that fetch or know it work; curl, Go, Java, Python, Node and most APIs refuse the chain.",
            fault: "whoever fills the Secret",
            remedy: "add the issuer's certificate to tls.crt, after the certificate that it issued",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "must-staple",
            severity: Severity::Error,
            meaning: "The certificate carries must-staple (RFC 7633), and no OCSP response is stapled. Firefox refuses the handshake.",
            fault: "whoever asked for the certificate",
            remedy: "have the certificate issued again without must-staple",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "name-constraint-violated",
            severity: Severity::Error,
            meaning: "A CA of the chain is restricted to certain names, and the certificate has another one (RFC 5280 section 4.2.1.10).",
            fault: "the CA",
            remedy: "have the certificate issued by a CA that may issue for all its names",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "name-not-covered",
            severity: Severity::Error,
            meaning: "No subjectAltName of the certificate covers the host (RFC 9525 section 6.3). A wildcard stands for exactly one label; common names do not count.",
            fault: "whoever asked for the certificate",
            remedy: "have a certificate issued with the host as subjectAltName, or name the right Secret",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "no-certificate",
            severity: Severity::Error,
            meaning: "tls.crt is empty, missing, or has no PEM block.",
            fault: "whoever fills the Secret",
            remedy: "put the PEM certificate of the host, followed by its intermediates, into tls.crt",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "no-key",
            severity: Severity::Error,
            meaning: "tls.key is empty, missing, or has no PEM private key.",
            fault: "whoever fills the Secret",
            remedy: "put the PEM private key (PKCS#8, PKCS#1 or SEC1) into tls.key",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "no-server-auth",
            severity: Severity::Error,
            meaning: "The certificate, or a CA of its chain, lists purposes and leaves server authentication out (RFC 5280 section 4.2.1.12). A certificate without the extension may be used for everything.",
            fault: "whoever asked for the certificate",
            remedy: "have the certificate issued for server authentication (serverAuth)",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "not-a-certificate",
            severity: Severity::Warning,
            meaning: "tls.crt holds something else beside certificates. It is left out.",
            fault: "whoever fills the Secret",
            remedy: "leave nothing but CERTIFICATE blocks in tls.crt; a private key there is readable by more people than you think",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "not-the-issuer",
            severity: Severity::Error,
            meaning: "A certificate has the name of the issuer that is missing, but another key: the CA has several of that name, or has renewed it.",
            fault: "whoever fills the Secret",
            remedy: "replace it by the certificate that really issued the one below it; the CA publishes it",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "not-valid-yet",
            severity: Severity::Error,
            meaning: "The validity of a certificate that clients need has not begun (RFC 5280 section 4.1.2.5).",
            fault: "the CA, or a clock",
            remedy: "wait, or check the clocks of the CA and of this machine",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "out-of-order",
            severity: Severity::Warning,
            meaning: "TLS 1.2 wants each certificate followed by its issuer (RFC 5246 section 7.4.2). They are served in that order.",
            fault: "whoever fills the Secret",
            remedy: "write each certificate's issuer right after it",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "path-length-exceeded",
            severity: Severity::Error,
            meaning: "A CA of the chain limits how many CAs may stand below it, and there are more (RFC 5280 section 4.2.1.9).",
            fault: "the CA",
            remedy: "have the certificate issued by a CA that is allowed to issue, nearer to the root",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "path-refused",
            severity: Severity::Error,
            meaning: "Path validation by RFC 5280 section 6.1 fails for a rare reason that the message names, such as a critical extension that no client knows.",
            fault: "the CA",
            remedy: "have the certificate issued again, with common extensions only",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "rarely-supported-key",
            severity: Severity::Warning,
            meaning: "Well-known clients cannot verify signatures of the certificate's key, so their handshakes fail: browsers know no P-521, Ed25519 or ML-DSA keys, and old clients know fewer still. Which ones is computed from what they offer.",
            fault: "whoever asked for the certificate",
            remedy: "use a certificate with an ECDSA P-256 or RSA key, or add one beside this one; `handfast check --clients` lists who is locked out",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "root-included",
            severity: Severity::Warning,
            meaning: "A self-signed root stands in tls.crt. Clients trust a root because they have it; it is left out.",
            fault: "whoever fills the Secret",
            remedy: "delete the root from tls.crt: clients have it or do not trust it",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "self-signed",
            severity: Severity::Error,
            meaning: "The server's certificate has signed itself and is not among the trust anchors, so no client can verify it.",
            fault: "whoever fills the Secret",
            remedy: "have a certificate issued by a CA; if clients are given exactly this one, put it into ca.crt as well",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "several-keys",
            severity: Severity::Error,
            meaning: "tls.key holds several private keys, and guessing among keys is no way to serve.",
            fault: "whoever fills the Secret",
            remedy: "leave only the key of the certificate in tls.key",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "surplus-cross-sign",
            severity: Severity::Info,
            meaning: "The chain goes on above a root that clients trust. That is a cross-sign for older clients; it is served, and is no fault.",
            fault: "nobody",
            remedy: "nothing; if no old clients are left, the chain gets smaller without it",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "trusted-self-signed",
            severity: Severity::Warning,
            meaning: "The server's certificate has signed itself and is among the trust anchors. It works for clients that trust exactly this certificate, until it is renewed.",
            fault: "whoever fills the Secret",
            remedy: "have certificates issued by a private CA, so that clients can trust the CA once",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "unanchored",
            severity: Severity::Warning,
            meaning: "The chain ends at a CA that is neither public nor named as trust anchor. That is normal for a private CA, and a fault if an intermediate is missing; only the CA's certificate tells.",
            fault: "whoever fills the Secret",
            remedy: "put the private CA's root into ca.crt of the Secret or name it with --trust-anchors; or add the intermediate to tls.crt",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unparsable-certificate",
            severity: Severity::Error,
            meaning: "A block in tls.crt is damaged or is no X.509 certificate.",
            fault: "whoever fills the Secret",
            remedy: "replace the block by the certificate as the CA sent it, in PEM",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unparsable-key",
            severity: Severity::Error,
            meaning: "The private key's PEM or DER is damaged.",
            fault: "whoever fills the Secret",
            remedy: "replace it by the key in PEM (PKCS#8, PKCS#1 or SEC1)",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unrelated-certificate",
            severity: Severity::Warning,
            meaning: "A certificate in tls.crt has nothing to do with the chain. It is left out.",
            fault: "whoever fills the Secret",
            remedy: "delete it from tls.crt, or replace it by the issuer of the certificate before it",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "unsupported-key",
            severity: Severity::Error,
            meaning: "The private key is of a type or size that clients, or Handfast, cannot use for TLS.",
            fault: "whoever asked for the certificate",
            remedy: "use an ECDSA key (P-256, P-384 or P-521), RSA of 2048 to 8192 bits, or Ed25519",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unsupported-signature",
            severity: Severity::Error,
            meaning: "A certificate below the root is signed with an algorithm that clients do not verify, for example RSA-PSS with odd parameters, DSA or Ed448.",
            fault: "the CA",
            remedy: "have the certificate issued with ECDSA or RSA and SHA-256, SHA-384 or SHA-512",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unusable-ca",
            severity: Severity::Warning,
            meaning: "ca.crt holds something that is no certificate. It is only used to judge the chain, so nothing that is served changes.",
            fault: "whoever fills the Secret",
            remedy: "put the CA's root in PEM into ca.crt, or delete ca.crt",
        },
        field: CA,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "validity-over-limit",
            severity: Severity::Warning,
            meaning: "A certificate with the marks of a public CA is valid for longer than the CA/Browser Forum allowed when it was issued (825, 398, 200, 100 or 47 days, by date). Browsers may refuse it.",
            fault: "the CA",
            remedy: "have the certificate issued again, for a shorter time",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "weak-key",
            severity: Severity::Error,
            meaning: "The server's RSA key is shorter than 2048 bits, which clients refuse.",
            fault: "whoever asked for the certificate",
            remedy: "make a new key (ECDSA P-256, or RSA with 2048 bits) and have a certificate issued for it",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "weak-signature",
            severity: Severity::Error,
            meaning: "A certificate below the root is signed with SHA-1, MD5 or an RSA key of less than 2048 bits. Modern clients refuse that.",
            fault: "the CA",
            remedy: "have the certificate issued by a CA that signs with SHA-256 and a strong key",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "wrong-key-usage",
            severity: Severity::Error,
            meaning: "The certificate's key usage leaves digitalSignature out, and the key signs in every handshake of TLS 1.3 and of TLS 1.2 with ECDHE (RFC 8446 section 4.4.2.2). Chrome, Java and others refuse it.",
            fault: "whoever asked for the certificate",
            remedy: "have the certificate issued with keyUsage digitalSignature",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_exactly_one_row_and_rows_are_sorted() {
        let source = include_str!("finding.rs");
        let codes = source.split_once("pub fn code(").unwrap().1.split_once("pub fn place(").unwrap().0;
        let mut codes: Vec<&str> =
            codes.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
        codes.sort_unstable();
        assert!(codes.len() > 30);
        assert_eq!(codes, ROWS.iter().map(|row| row.about.code).collect::<Vec<_>>());
    }

    #[test]
    fn meanings_are_sentences_and_remedies_are_not() {
        for Row { about, repaired, refused, .. } in ROWS {
            assert!(about.meaning.ends_with('.') && !about.remedy.ends_with('.'), "{}", about.code);
            assert!(!(*repaired && *refused), "{}: what is repaired is not refused", about.code);
        }
    }
}
