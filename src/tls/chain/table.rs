//! The text about each finding: severity, meaning, who must act, remedy, and whether strict clients refuse the chain.
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
pub(super) const CA: &str = "data[ca.crt]";

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
            meaning: "An intermediate certificate is missing from tls.crt. Handfast serves one that it found elsewhere: its name, key identifier and signature fit, and with it the chain leads to a trusted root. If that source changes, the chain is incomplete again.",
            fault: "the owner of the Secret",
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
            fault: "the owner of the Secret",
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
            meaning: "The same certificate is in tls.crt twice. It is served once.",
            fault: "the owner of the Secret",
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
            meaning: "The private key is protected by a pass phrase, which a server cannot ask for.",
            fault: "the owner of the Secret",
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
            meaning: "A certificate that clients need has expired (RFC 5280 section 4.1.2.5). It is still served. Every client that was tried refuses it: OpenSSL, Go, Java, GnuTLS, NSS and rustls.",
            fault: "the owner of the certificate",
            remedy: "renew the certificate, or replace it by the CA's current one; with cert-manager, look at the events of the Certificate",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "expired-cross-sign",
            severity: Severity::Warning,
            meaning: "A cross-sign that modern clients do not need has expired. OpenSSL 1.0 and old GnuTLS still check it and refuse the whole chain.",
            fault: "the owner of the Secret",
            remedy: "delete the expired certificate from tls.crt",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "expired-root",
            severity: Severity::Error,
            meaning: "The root that the chain leads to has expired. RFC 5280 takes a trust anchor for a name and a key without dates, and Java and rustls do so; OpenSSL (curl, Python, Node), Go, GnuTLS and NSS refuse the chain.",
            fault: "the CA",
            remedy: "have the CA issue its root again with the same name and key, give that one to the clients, and put it into ca.crt or the file of --trust-anchors",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "expires-soon",
            severity: Severity::Warning,
            meaning: "Less than a third of the certificate's lifetime is left. Automatic renewal normally happens earlier.",
            fault: "the owner of the certificate",
            remedy: "renew the certificate, or replace it by the CA's current one; with cert-manager, look at the events of the Certificate",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "intermediate-expires-first",
            severity: Severity::Warning,
            meaning: "An intermediate expires before the leaf, so the chain breaks before the leaf expires.",
            fault: "the CA",
            remedy: "have the certificate issued again by an intermediate that is valid longer, or replace the intermediate by its renewed version",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "issuer-not-ca",
            severity: Severity::Error,
            meaning: "A certificate of the chain has issued another one and may not: it is not a CA, or its key usage lacks certificate signing (RFC 5280 section 6.1.4 k and n).",
            fault: "the CA",
            remedy: "issue the CA certificate again with basicConstraints CA:TRUE and keyCertSign, and then the chain below it",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "key-mismatch",
            severity: Severity::Error,
            meaning: "The private key in tls.key does not belong to a certificate in tls.crt, so no handshake can be signed.",
            fault: "the owner of the Secret",
            remedy: "put the key of the certificate into tls.key, or have the certificate issued again for this key",
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
            fault: "the owner of the Secret",
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
            fault: "the owner of the certificate",
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
            meaning: "The server's own certificate is not the first in tls.crt. It is served first.",
            fault: "the owner of the Secret",
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
            meaning: "The certificate is valid for more than 825 days. Apple's clients refuse it, even from a private CA.",
            fault: "the CA",
            remedy: "have the certificate issued for 825 days or less",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "malformed-certificate",
            severity: Severity::Error,
            meaning: "Something in a certificate of the chain, or in the root in ca.crt, is written in a way that some clients cannot read or do not accept: a name in the wrong kind of string, a negative serial number, an extension twice. The message says who refuses it. Other clients connect.",
            fault: "the CA",
            remedy: "have the certificate issued again, without what the message names",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "missing-intermediate",
            severity: Severity::Error,
            meaning: "The certificate of an issuer is missing from tls.crt, and without it the chain reaches no root. Browsers that fetch or cache the intermediates of public CAs connect. curl, Go, Java, Python, Node and most APIs refuse the chain.",
            fault: "the owner of the Secret",
            remedy: "add the issuer's certificate to tls.crt, after the certificate that it issued; if it is a root (it is its own issuer), clients must trust that root, or the certificate must come from another CA",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "must-staple",
            severity: Severity::Error,
            meaning: "The certificate requires a stapled OCSP response (must-staple, RFC 7633), and Handfast sends none. Firefox refuses the handshake.",
            fault: "the owner of the certificate",
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
            fault: "the owner of the certificate",
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
            meaning: "tls.crt is empty or missing, or none of its PEM blocks is a certificate. The message says what it holds instead, if that can be told.",
            fault: "the owner of the Secret",
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
            meaning: "tls.key is empty or missing, or none of its PEM blocks is a private key. The message says what it holds instead, if that can be told.",
            fault: "the owner of the Secret",
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
            fault: "the owner of the certificate",
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
            meaning: "A block in tls.crt is not a certificate: a certificate request, a private key, a PKCS#7 bundle and so on. It is not served. Where no certificate is left, no-certificate says so.",
            fault: "the owner of the Secret",
            remedy: "leave only CERTIFICATE blocks in tls.crt; replace a private key that was there, because others may have read it",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "not-the-issuer",
            severity: Severity::Error,
            meaning: "A certificate has the name of the missing issuer, but another key. The CA has several certificates of that name, or has renewed it.",
            fault: "the owner of the Secret",
            remedy: "replace it by the certificate that issued the one below it; the CA publishes it",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "not-valid-yet",
            severity: Severity::Error,
            meaning: "A certificate that clients need is not valid yet (RFC 5280 section 4.1.2.5). OpenSSL, Go and Java refuse it.",
            fault: "the CA, or the operator of a machine whose clock is wrong",
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
            meaning: "Each certificate must be followed by its issuer in TLS 1.2 (RFC 5246 section 7.4.2). Handfast serves them in that order.",
            fault: "the owner of the Secret",
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
            meaning: "A CA of the chain limits how many CAs are allowed below it, and there are more (RFC 5280 section 4.2.1.9).",
            fault: "the CA",
            remedy: "have the certificate issued by a CA nearer to the root, which is allowed to issue it",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "path-refused",
            severity: Severity::Error,
            meaning: "Path validation (RFC 5280 section 6.1) fails for a rare reason, such as an unknown critical extension. The message names it.",
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
            meaning: "Well-known clients cannot verify signatures of the certificate's key, so their handshakes fail. Browsers do not support P-521, Ed25519 or ML-DSA keys, and old clients support even fewer. The clients are computed from their ClientHellos.",
            fault: "the owner of the certificate",
            remedy: "use a certificate with an ECDSA P-256 or RSA key, or add such a certificate to this one; `handfast check --clients` lists the clients that cannot connect",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "root-included",
            severity: Severity::Warning,
            meaning: "A self-signed root is in tls.crt. Clients only trust roots that they already have, so Handfast does not send it.",
            fault: "the owner of the Secret",
            remedy: "delete the root from tls.crt",
        },
        field: CRT,
        repaired: true,
        refused: false,
    },
    Row {
        about: About {
            code: "root-not-valid-yet",
            severity: Severity::Error,
            meaning: "The root that the chain leads to is not valid yet. Java and rustls do not look at the dates of a root; OpenSSL (curl, Python, Node), Go, GnuTLS and NSS refuse the chain.",
            fault: "the CA, or the operator of a machine whose clock is wrong",
            remedy: "wait, or check the clocks of the CA and of this machine",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "self-signed",
            severity: Severity::Error,
            meaning: "The server's certificate is self-signed and is not a trust anchor, so no client can verify it.",
            fault: "the owner of the Secret",
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
            meaning: "tls.key has several private keys. Handfast does not guess which one is meant.",
            fault: "the owner of the Secret",
            remedy: "leave only the key of the certificate in tls.key",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "slow-key",
            severity: Severity::Warning,
            meaning: "The server's RSA key has more than 4096 bits. A signature takes hundreds of times as long as one with an ECDSA P-256 key (240 times with 4096 bits, 1,600 times with 7680), so a few clients at once use up the processor.",
            fault: "the owner of the certificate",
            remedy: "use a certificate with an ECDSA P-256 key, or RSA with 2048 or 3072 bits",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "strict-clients-refuse",
            severity: Severity::Warning,
            meaning: "A certificate of the chain, or the root in ca.crt, lacks something that RFC 5280 section 4 prescribes and path validation does not need, such as the authority key identifier. Python from 3.13 on demands it by default (X509_STRICT of OpenSSL), and refuses the chain.",
            fault: "the CA",
            remedy: "have the certificate issued again with what the message names; with openssl, add authorityKeyIdentifier=keyid and subjectKeyIdentifier=hash, and for a CA basicConstraints=critical,CA:TRUE and keyUsage=critical,keyCertSign,cRLSign",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "surplus-cross-sign",
            severity: Severity::Info,
            meaning: "The chain continues above a root that clients trust. This is a cross-sign for older clients. It is served and is not a mistake.",
            fault: "nobody",
            remedy: "nothing; without old clients, remove it to make the chain smaller",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "temporary-certificate",
            severity: Severity::Error,
            meaning: "cert-manager puts a certificate of its own into the Secret while an order is not finished (issue-temporary-certificate, http01-edit-in-place). No client trusts its issuer, CN=cert-manager.local. It never replaces a good certificate that is valid now and covers the host: that one is served until the order is finished. Without one, the temporary certificate is served. findingActions of the policy can change this.",
            fault: "the operator of cert-manager, or the CA",
            remedy: "look at cert-manager's order in the namespace of the Secret: kubectl describe certificate,certificaterequest,order,challenge",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "trusted-self-signed",
            severity: Severity::Warning,
            meaning: "The server's certificate is self-signed and is a trust anchor. It works for clients that trust exactly this certificate, until it is renewed.",
            fault: "the owner of the Secret",
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
            meaning: "The chain ends at a CA that is neither public nor named as a trust anchor. This is normal for a private CA. It is a mistake if an intermediate is missing. Where ca.crt or --trust-anchors say whom clients trust, the finding is an error: missing-intermediate or untrusted-root.",
            fault: "the owner of the Secret",
            remedy: "add the CA certificates that are missing to tls.crt, and put the private CA's root into ca.crt or the file of --trust-anchors",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unparsable-certificate",
            severity: Severity::Error,
            meaning: "A block in tls.crt is damaged or is not an X.509 certificate, or all of tls.crt is a certificate that is not written as PEM: in DER, in base64 twice, without its line breaks and so on. The message says which. Such text is not served even where it could be understood, because other programs that read the Secret refuse it.",
            fault: "the owner of the Secret",
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
            meaning: "The private key's PEM or DER is damaged, or it is not written as PEM: in DER, in base64 twice, without its line breaks and so on. The message says which.",
            fault: "the owner of the Secret",
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
            meaning: "A certificate in tls.crt does not belong to the chain. It is not served.",
            fault: "the owner of the Secret",
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
            meaning: "Clients or Handfast cannot use a private key of this type or size for TLS.",
            fault: "the owner of the certificate",
            remedy: "use an ECDSA key (P-256, P-384 or P-521), RSA of 2048 to 8192 bits, or Ed25519",
        },
        field: KEY,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unsupported-leaf-key",
            severity: Severity::Error,
            meaning: "The public key in the server's certificate is of a kind that clients do not accept from servers: DSA, Ed448, or an elliptic curve other than P-256, P-384 and P-521 (RFC 8446 section 4.2.3). Go and Java refuse to read some of them at all.",
            fault: "the owner of the certificate",
            remedy: "make a new key (ECDSA P-256, or RSA with 2048 bits) and have a certificate issued for it",
        },
        field: CRT,
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
            code: "untrusted-root",
            severity: Severity::Error,
            meaning: "The chain leads to a root that is none of those that clients are said to trust (ca.crt, --trust-anchors, --only-anchors), or that no client has although the certificate looks like one of a public CA. Everybody refuses it.",
            fault: "the owner of the Secret",
            remedy: "if the clients of the host trust this root, put it into ca.crt or the file of --trust-anchors; otherwise have the certificate issued by a CA that they trust",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "unusable-ca",
            severity: Severity::Warning,
            meaning: "ca.crt contains something that is not a certificate. It is only used to check the chain, so what is served does not change.",
            fault: "the owner of the Secret",
            remedy: "put the CA's root in PEM into ca.crt, or delete ca.crt",
        },
        field: CA,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "useless-name",
            severity: Severity::Warning,
            meaning: "The certificate has DNS names that no client ever looks for: an address (which must be an iPAddress name), a URL, a name with a port. They do no harm, but they do not cover the host that was meant.",
            fault: "the owner of the certificate",
            remedy: "have the certificate issued with plain host names, and with addresses as iPAddress names",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "validity-over-limit",
            severity: Severity::Warning,
            meaning: "A certificate of a public CA is valid for longer than the CA/Browser Forum allowed when it was issued (825, 398, 200, 100 or 47 days, depending on the date). Browsers may refuse it.",
            fault: "the CA",
            remedy: "have the certificate issued again with a shorter validity",
        },
        field: CRT,
        repaired: false,
        refused: false,
    },
    Row {
        about: About {
            code: "weak-key",
            severity: Severity::Error,
            meaning: "The server's RSA key is shorter than 2048 bits. Clients refuse it.",
            fault: "the owner of the certificate",
            remedy: "create a new key (ECDSA P-256, or RSA with 2048 bits) and have a certificate issued for it",
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
            code: "withdrawn-root",
            severity: Severity::Error,
            meaning: "The chain leads to a public root that trust stores have removed, so clients with up-to-date stores refuse it, however complete it is. The message says who has removed it and who still has it. Stores of Microsoft hold roots for all purposes, not for TLS alone.",
            fault: "the owner of the certificate",
            remedy: "have the certificate issued by a CA whose root clients have; a further intermediate does not help, unless the CA publishes a cross-sign of this root by one that is trusted",
        },
        field: CRT,
        repaired: false,
        refused: true,
    },
    Row {
        about: About {
            code: "wrong-key-usage",
            severity: Severity::Error,
            meaning: "The certificate's key usage lacks digitalSignature, but the key signs each handshake of TLS 1.3 and of TLS 1.2 with ECDHE (RFC 8446 section 4.4.2.2). Chrome, Java and others refuse it.",
            fault: "the owner of the certificate",
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
