//! Names of what any peer may speak, served here or not, and what is to be thought of it.
//!
//! `code of the IANA registries ──▶ name, SuiteFacts, GroupFacts`
//!
//! The names of cipher suites say all that matters about them, so the judgement is read from the name, and there is no
//! second table to keep true. [`super::policy`] has the few that can be served.

use std::sync::LazyLock;

use rustls::{AlertDescription, CipherSuite};

use super::alert;
use super::policy::Suite;

/// Values that stand among cipher suites and cannot be agreed on: that of a connection without keys (RFC 5246 section
/// A.5), and signals (RFC 5746, RFC 7507).
const SIGNALS: [u16; 3] = [0x0000, 0x00ff, 0x5600];

/// The names of signals, which clients put among their suites.
const SIGNAL_NAMES: [(u16, &str); 2] = [(0x00ff, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"), (0x5600, "TLS_FALLBACK_SCSV")];

/// Suites that are in use, and that the list of names does not have under the names of the registry.
const FURTHER_SUITES: [(u16, &str); 9] = [
    (0x00c6, "TLS_SM4_GCM_SM3"),
    (0x00c7, "TLS_SM4_CCM_SM3"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
    (0x1305, "TLS_AES_128_CCM_8_SHA256"),
    (0xc0b4, "TLS_SHA256_SHA256"),
    (0xc0b5, "TLS_SHA384_SHA384"),
    // ChaCha20 as it was drafted, before RFC 7905.
    (0xcc13, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_draft"),
    (0xcc14, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_draft"),
    (0xcc15, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_draft"),
];

/// What is to be thought of a cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuiteFacts {
    /// The code of the IANA registry.
    pub code: u16,
    /// The name of the IANA registry.
    pub name: &'static str,
    /// How the keys come about.
    pub key_exchange: KeyExchange,
    /// Encryption and integrity are one (RFC 5116). Otherwise it is a block cipher with a separate hash, or worse.
    pub aead: bool,
    /// What is wrong with it beside age.
    pub weakness: Option<Weakness>,
}

/// How the keys of a session come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// A group that is negotiated beside the suite: TLS 1.3.
    Any,
    /// Ephemeral finite-field Diffie-Hellman.
    Dhe,
    /// Ephemeral elliptic curves.
    Ecdhe,
    /// The certificate's key, a key that both sides have beforehand, or a password: no forward secrecy.
    Static,
}

/// Why a suite must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// No certificate: anybody can be in the middle.
    Anonymous,
    /// A key so short that it can be searched: DES, and what was allowed to be exported.
    ShortKey,
    /// No encryption.
    Null,
    /// RC4 (RFC 7465).
    Rc4,
    /// Blocks of 64 bits, which leak after some gigabytes (Sweet32).
    SmallBlock,
}

impl Weakness {
    /// True if the protection is not worth its name; false if it wears off.
    pub fn is_broken(self) -> bool {
        match self {
            Weakness::Anonymous | Weakness::Null | Weakness::Rc4 | Weakness::ShortKey => true,
            Weakness::SmallBlock => false,
        }
    }

    /// The word used in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Weakness::Anonymous => "anonymous",
            Weakness::Null => "null",
            Weakness::Rc4 => "rc4",
            Weakness::ShortKey => "short-key",
            Weakness::SmallBlock => "small-block",
        }
    }
}

impl SuiteFacts {
    /// The suite with this code; `None` if nobody here knows it, or if it is no suite.
    pub fn of(code: u16) -> Option<Self> {
        if SIGNALS.contains(&code) {
            return None;
        }
        let further = FURTHER_SUITES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name);
        let served = || Suite::of_code(code).map(Suite::iana);
        let name = further.or_else(served).or_else(|| CipherSuite::from(code).as_str())?;
        let key_exchange = match name.split_once("_WITH_") {
            None => KeyExchange::Any,
            Some((exchange, _)) => match exchange.trim_start_matches("TLS_") {
                exchange if exchange.starts_with("ECDHE_") || exchange.starts_with("ECDH_anon") => KeyExchange::Ecdhe,
                exchange if exchange.starts_with("DHE_") || exchange.starts_with("DH_anon") => KeyExchange::Dhe,
                exchange if exchange.starts_with("ECCPWD") => KeyExchange::Ecdhe,
                _ => KeyExchange::Static,
            },
        };
        let has = |part: &str| name.contains(part);
        let weakness = if has("_NULL") || has("TLS_SHA") {
            Some(Weakness::Null)
        } else if has("_anon_") {
            Some(Weakness::Anonymous)
        } else if has("EXPORT") || has("_DES_") || has("_DES40_") || has("_40_") {
            Some(Weakness::ShortKey)
        } else if has("RC4") {
            Some(Weakness::Rc4)
        } else if has("3DES") || has("IDEA") || has("RC2") || has("28147") {
            Some(Weakness::SmallBlock)
        } else {
            None
        };
        let aead = has("_GCM") || has("_CCM") || has("POLY1305");
        Some(Self { code, name, key_exchange, aead, weakness })
    }

    /// Every suite that has a name here, by code.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<SuiteFacts>> = LazyLock::new(|| (0..=u16::MAX).filter_map(SuiteFacts::of).collect());
        &ALL
    }

    /// True for the suites of TLS 1.3, which work with no other version.
    pub fn is_tls13(self) -> bool {
        self.key_exchange == KeyExchange::Any
    }

    /// Whether a protocol version can use it (RFC 5246 section A.5, RFC 8446 section B.4).
    pub fn works_with(self, version: u16) -> bool {
        let needs_tls12 = self.aead || self.name.ends_with("SHA256") || self.name.ends_with("SHA384");
        match version {
            0x0304.. => self.is_tls13(),
            0x0303 => !self.is_tls13(),
            _ => !self.is_tls13() && !needs_tls12,
        }
    }

    /// True if what was recorded stays secret when the server's key comes out.
    pub fn has_forward_secrecy(self) -> bool {
        self.key_exchange != KeyExchange::Static
    }

    /// True if many servers can be made to speak it: they authenticate by a certificate with an RSA or ECDSA key or not at
    /// all, and the cipher is one of those that libraries have by default, or had.
    pub fn is_common(self) -> bool {
        let rare = [
            "ARIA",
            "CAMELLIA",
            "ECCPWD",
            "GOST",
            "KRB5",
            "PSK",
            "SEED",
            "SM4",
            "SRP",
            "TLS_DH_DSS",
            "TLS_DH_RSA",
            "TLS_ECDH_ECDSA",
            "TLS_ECDH_RSA",
            "_DSS_",
        ];
        !rare.iter().any(|part| self.name.contains(part))
    }
}

/// A key exchange group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// The code of the IANA registry.
    pub code: u16,
    /// The name of the IANA registry.
    pub name: &'static str,
    /// What it is.
    pub kind: GroupKind,
}

/// What a group is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// An elliptic curve.
    Curve,
    /// An elliptic curve below 112 bits of strength.
    WeakCurve,
    /// A finite field (RFC 7919).
    Field,
    /// Holds against quantum computers, alone or beside a curve.
    PostQuantum,
}

/// The groups that are in use, best known first.
static GROUPS: [GroupFacts; 42] = {
    use GroupKind::{Curve, Field, PostQuantum, WeakCurve};
    const fn group(code: u16, name: &'static str, kind: GroupKind) -> GroupFacts {
        GroupFacts { code, name, kind }
    }
    [
        group(0x11ec, "X25519MLKEM768", PostQuantum),
        group(0x001d, "x25519", Curve),
        group(0x0017, "secp256r1", Curve),
        group(0x0018, "secp384r1", Curve),
        group(0x0019, "secp521r1", Curve),
        group(0x001e, "x448", Curve),
        group(0x11eb, "SecP256r1MLKEM768", PostQuantum),
        group(0x11ed, "SecP384r1MLKEM1024", PostQuantum),
        group(0x0200, "MLKEM512", PostQuantum),
        group(0x0201, "MLKEM768", PostQuantum),
        group(0x0202, "MLKEM1024", PostQuantum),
        group(0x11ee, "curveSM2MLKEM768", PostQuantum),
        group(0x6399, "X25519Kyber768Draft00", PostQuantum),
        group(0x0100, "ffdhe2048", Field),
        group(0x0101, "ffdhe3072", Field),
        group(0x0102, "ffdhe4096", Field),
        group(0x0103, "ffdhe6144", Field),
        group(0x0104, "ffdhe8192", Field),
        group(0x001f, "brainpoolP256r1tls13", Curve),
        group(0x0020, "brainpoolP384r1tls13", Curve),
        group(0x0021, "brainpoolP512r1tls13", Curve),
        group(0x001a, "brainpoolP256r1", Curve),
        group(0x001b, "brainpoolP384r1", Curve),
        group(0x001c, "brainpoolP512r1", Curve),
        group(0x0029, "curveSM2", Curve),
        group(0x0016, "secp256k1", Curve),
        group(0x0015, "secp224r1", Curve),
        group(0x0014, "secp224k1", Curve),
        group(0x000e, "sect571r1", Curve),
        group(0x000d, "sect571k1", Curve),
        group(0x000c, "sect409r1", Curve),
        group(0x000b, "sect409k1", Curve),
        group(0x000a, "sect283r1", Curve),
        group(0x0009, "sect283k1", Curve),
        group(0x0008, "sect239k1", Curve),
        group(0x0007, "sect233r1", Curve),
        group(0x0006, "sect233k1", Curve),
        group(0x0013, "secp192r1", WeakCurve),
        group(0x0012, "secp192k1", WeakCurve),
        group(0x0003, "sect163r2", WeakCurve),
        group(0x0001, "sect163k1", WeakCurve),
        group(0x0010, "secp160r1", WeakCurve),
    ]
};

impl GroupFacts {
    /// The group with this code, if it is known here.
    pub fn of(code: u16) -> Option<&'static Self> {
        GROUPS.iter().find(|group| group.code == code)
    }

    /// Every group that is known here, best known first.
    pub fn all() -> &'static [Self] {
        &GROUPS
    }

    /// Whether TLS 1.3 can use it (RFC 8446 section 4.2.7, RFC 8734).
    pub fn works_with_tls13(&self) -> bool {
        match self.kind {
            GroupKind::Field | GroupKind::PostQuantum => true,
            GroupKind::Curve => matches!(self.code, 0x0017..=0x0019 | 0x001d..=0x0021 | 0x0029),
            GroupKind::WeakCurve => false,
        }
    }

    /// Whether the versions before TLS 1.3 can agree on it with a suite on elliptic curves.
    pub fn works_with_ecdhe(&self) -> bool {
        match self.kind {
            GroupKind::Curve | GroupKind::WeakCurve => !matches!(self.code, 0x001f..=0x0021 | 0x0029),
            GroupKind::Field | GroupKind::PostQuantum => false,
        }
    }
}

/// The registry "TLS SignatureScheme", without what is reserved.
const SCHEMES: [(u16, &str); 34] = [
    (0x0201, "rsa_pkcs1_sha1"),
    (0x0203, "ecdsa_sha1"),
    (0x0401, "rsa_pkcs1_sha256"),
    (0x0403, "ecdsa_secp256r1_sha256"),
    (0x0420, "rsa_pkcs1_sha256_legacy"),
    (0x0501, "rsa_pkcs1_sha384"),
    (0x0503, "ecdsa_secp384r1_sha384"),
    (0x0520, "rsa_pkcs1_sha384_legacy"),
    (0x0601, "rsa_pkcs1_sha512"),
    (0x0603, "ecdsa_secp521r1_sha512"),
    (0x0620, "rsa_pkcs1_sha512_legacy"),
    (0x0704, "eccsi_sha256"),
    (0x0708, "sm2sig_sm3"),
    (0x0709, "gostr34102012_256a"),
    (0x070a, "gostr34102012_256b"),
    (0x070b, "gostr34102012_256c"),
    (0x070c, "gostr34102012_256d"),
    (0x070d, "gostr34102012_512a"),
    (0x070e, "gostr34102012_512b"),
    (0x070f, "gostr34102012_512c"),
    (0x0804, "rsa_pss_rsae_sha256"),
    (0x0805, "rsa_pss_rsae_sha384"),
    (0x0806, "rsa_pss_rsae_sha512"),
    (0x0807, "ed25519"),
    (0x0808, "ed448"),
    (0x0809, "rsa_pss_pss_sha256"),
    (0x080a, "rsa_pss_pss_sha384"),
    (0x080b, "rsa_pss_pss_sha512"),
    (0x081a, "ecdsa_brainpoolP256r1tls13_sha256"),
    (0x081b, "ecdsa_brainpoolP384r1tls13_sha384"),
    (0x081c, "ecdsa_brainpoolP512r1tls13_sha512"),
    (0x0904, "mldsa44"),
    (0x0905, "mldsa65"),
    (0x0906, "mldsa87"),
];

/// The name of a suite or of a signal among suites, or its code.
pub fn suite_name(code: u16) -> String {
    let signal = SIGNAL_NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name);
    let name = signal.or_else(|| SuiteFacts::of(code).map(|suite| suite.name));
    name.map_or_else(|| format!("{code:#06x}"), str::to_owned)
}

/// The name of a signature scheme, or its code. What TLS 1.2 has as a pair only, and no scheme is made of, is named by the
/// registries of hashes and signatures: `sha224/ecdsa` (RFC 5246 section 7.4.1.4.1).
pub fn scheme_name(code: u16) -> String {
    if let Some((_, name)) = SCHEMES.iter().find(|(known, _)| *known == code) {
        return (*name).to_owned();
    }
    let [hash, signature] = code.to_be_bytes().map(usize::from);
    let hash = ["none", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"].get(hash);
    let signature = ["anonymous", "rsa", "dsa", "ecdsa"].get(signature);
    match (hash, signature) {
        (Some(hash), Some(signature)) => format!("{hash}/{signature}"),
        _ => format!("{code:#06x}"),
    }
}

/// The name of a group, or its code.
pub fn group_name(code: u16) -> String {
    GroupFacts::of(code).map_or_else(|| format!("{code:#06x}"), |group| group.name.to_owned())
}

/// The name of an alert, or its number.
pub fn alert_name(code: u8) -> String {
    match alert::name(AlertDescription::from(code)) {
        "unknown" => format!("alert {code}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Group;
    use super::*;

    fn facts(code: u16) -> (&'static str, bool, bool, Option<Weakness>) {
        let suite = SuiteFacts::of(code).unwrap();
        (suite.name, suite.has_forward_secrecy(), suite.aead, suite.weakness)
    }

    #[test]
    fn a_suite_is_judged_by_its_name() {
        assert_eq!(facts(0x1301), ("TLS_AES_128_GCM_SHA256", true, true, None));
        assert_eq!(facts(0x1304), ("TLS_AES_128_CCM_SHA256", true, true, None));
        assert_eq!(facts(0xc02f), ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", true, true, None));
        assert_eq!(facts(0xc013), ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", true, false, None));
        assert_eq!(facts(0x009c), ("TLS_RSA_WITH_AES_128_GCM_SHA256", false, true, None));
        assert_eq!(facts(0x0035), ("TLS_RSA_WITH_AES_256_CBC_SHA", false, false, None));
        assert_eq!(facts(0xc004), ("TLS_ECDH_ECDSA_WITH_AES_128_CBC_SHA", false, false, None));
        assert!(facts(0x009e).1);
        assert_eq!(facts(0x000a).3, Some(Weakness::SmallBlock));
        assert_eq!(facts(0x0009).3, Some(Weakness::ShortKey));
        assert_eq!(facts(0x0005).3, Some(Weakness::Rc4));
        assert_eq!(facts(0x0003).3, Some(Weakness::ShortKey));
        assert_eq!(facts(0x0034).3, Some(Weakness::Anonymous));
        assert_eq!(facts(0x003b).3, Some(Weakness::Null));
        assert_eq!(facts(0xc0b4).3, Some(Weakness::Null));
        assert!(facts(0xcc13).2);
        for signal in [0x00ff, 0x5600, 0x0a0a, 0x0000] {
            assert_eq!(SuiteFacts::of(signal), None, "{signal:#06x}");
        }
    }

    #[test]
    fn a_hello_has_room_for_all_common_suites() {
        let count =
            |version| SuiteFacts::all().iter().filter(|suite| suite.is_common() && suite.works_with(version)).count();
        assert!(count(0x0303) < 127 && count(0x0304) < 10, "{} {}", count(0x0303), count(0x0304));
    }

    #[test]
    fn versions_have_the_suites_that_work_with_them() {
        let works =
            |code| [0x0300, 0x0301, 0x0303, 0x0304].map(|version| SuiteFacts::of(code).unwrap().works_with(version));
        assert_eq!(works(0x1301), [false, false, false, true]);
        assert_eq!(works(0xc02f), [false, false, true, false]);
        assert_eq!(works(0x003c), [false, false, true, false]);
        assert_eq!(works(0xc013), [true, true, true, false]);
        for suite in Suite::ALL {
            let facts = SuiteFacts::of(suite.code()).unwrap();
            assert_eq!(facts.name, suite.iana());
            assert!(facts.aead && facts.has_forward_secrecy() && facts.weakness.is_none() && facts.is_common());
        }
        assert!(SuiteFacts::all().len() > 300);
    }

    #[test]
    fn every_group_that_can_be_served_is_known_under_its_name() {
        for group in Group::ALL {
            let facts = GroupFacts::of(group.code()).unwrap();
            assert_eq!(facts.name, group.name());
            assert!(facts.works_with_tls13());
            assert_eq!(facts.works_with_ecdhe(), group.usable_for(super::super::Version::Tls12), "{group}");
        }
        let codes: std::collections::BTreeSet<u16> = GROUPS.iter().map(|group| group.code).collect();
        assert_eq!(codes.len(), GROUPS.len());
        assert_eq!((group_name(0x001d).as_str(), group_name(0x7777).as_str()), ("x25519", "0x7777"));
    }

    #[test]
    fn signature_schemes_and_signals_have_the_names_of_the_registry() {
        let rows = [
            (0x0403, "ecdsa_secp256r1_sha256"),
            (0x0804, "rsa_pss_rsae_sha256"),
            (0x0809, "rsa_pss_pss_sha256"),
            (0x0303, "sha224/ecdsa"),
            (0x0202, "sha1/dsa"),
            (0x0101, "md5/rsa"),
            (0x7777, "0x7777"),
        ];
        for (code, name) in rows {
            assert_eq!(scheme_name(code), name);
        }
        let codes: std::collections::BTreeSet<u16> = SCHEMES.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.len(), SCHEMES.len());
        // Whatever a well-known client offers has a name.
        for client in super::super::clients::clients() {
            for code in client.offer.schemes.iter().flatten() {
                assert!(!scheme_name(*code).starts_with("0x"), "{}: {code:#06x}", client.id);
            }
        }
        assert_eq!((suite_name(0x00ff).as_str(), suite_name(0x5600).as_str()), (SIGNAL_NAMES[0].1, SIGNAL_NAMES[1].1));
        assert_eq!(suite_name(0x7777), "0x7777");
    }

    #[test]
    fn alerts_without_a_name_have_their_number() {
        for (code, name) in [(40, "handshake_failure"), (112, "unrecognized_name"), (250, "alert 250")] {
            assert_eq!(alert_name(code), name);
        }
    }
}
