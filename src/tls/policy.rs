//! Which versions, suites and groups a host offers, and in whose order.
//!
//! `Settings ──check──▶ Policy`, and `Credentials × Policy ──▶ ServerTls`
//!
//! The default is Mozilla's guideline 6.0 "intermediate": TLS 1.2 and 1.3, the nine AEAD suites with forward secrecy,
//! X25519MLKEM768, X25519, P-256 and P-384. Unlike Mozilla's, the server's order decides, with AES-128-GCM first:
//! SHA-384 costs more than AES-256 gains. A client that puts ChaCha20 first says that it has no AES hardware, so its
//! own order decides.
//!
//! A [`Policy`] can be served: each of its versions has a suite and a group. What people write about suites and groups
//! that cannot be served is told name by name where it is read, in [`parse`].

mod client_auth;
pub mod parse;
mod serve;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};

use super::Version;
pub use client_auth::ClientAuth;
pub use serve::{ConfigError, ServerTls, server_tls, server_tls_of};

/// Versions, suites, groups, orders, application protocols and tickets that can be served together. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy(Arc<Settings>);

/// What a [`Policy`] is made of. Any value may be written; [`Policy::new`] judges them together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Oldest version.
    pub min: Version,
    /// Newest version.
    pub max: Version,
    /// Cipher suites, best first.
    pub suites: Vec<Suite>,
    /// Key exchange groups, best first.
    pub groups: Vec<Group>,
    /// Whose order of suites decides.
    pub suite_order: SuiteOrder,
    /// Whose order of groups decides.
    pub group_order: GroupOrder,
    /// Application protocols, best first (RFC 7301 section 3.2: the server chooses). Without any, none is negotiated,
    /// and clients speak HTTP/1.1.
    pub alpn: Vec<Alpn>,
    /// Whether clients get tickets to resume sessions with (RFC 8446 section 4.6.1, RFC 5077). With [`ClientAuth`] they
    /// never do: each client shows its certificate in each handshake.
    pub tickets: bool,
    /// Certificates of clients; `None` if they are not asked for.
    pub client_auth: Option<ClientAuth>,
}

/// Whose order of cipher suites decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SuiteOrder {
    /// The client's.
    Client,
    /// The policy's.
    Server,
    /// The policy's, except for clients that put ChaCha20 first, which say with this that they have no AES hardware.
    ServerUnlessChaCha20First,
}

/// Whose order of groups decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupOrder {
    /// The client's: its first group that the policy has.
    Client,
    /// The policy's: its first group that the client has, even if that costs a round trip because the client has sent
    /// no key share for it (RFC 8446 section 4.1.4).
    Server,
}

/// An application protocol that the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// RFC 9113.
    Http2,
    /// RFC 9112.
    Http11,
}

impl Alpn {
    /// Both.
    pub const ALL: [Alpn; 2] = [Alpn::Http2, Alpn::Http11];

    /// The name on the wire.
    pub fn id(self) -> &'static str {
        match self {
            Alpn::Http2 => "h2",
            Alpn::Http11 => "http/1.1",
        }
    }
}

/// Why settings cannot be served together.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// The oldest version is newer than the newest.
    #[error("the oldest version, TLS {}, is newer than the newest, TLS {}: swap them", min.label(), max.label())]
    VersionsReversed {
        /// Oldest version.
        min: Version,
        /// Newest version.
        max: Version,
    },
    /// A version is on and has no suite.
    #[error("no cipher suite is left for TLS {}: name one of {}, or disable TLS {}", version.label(), suites_of(*version), version.label())]
    NoSuite {
        /// The version.
        version: Version,
    },
    /// A version is on and has no group.
    #[error("no key exchange group is left for TLS {}: name one of {}, or disable TLS {}", version.label(), groups_of(*version), version.label())]
    NoGroup {
        /// The version.
        version: Version,
    },
}

/// A Mozilla recommendation that a policy does not follow, because the TLS library has no means to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What the guideline says.
    pub guideline: &'static str,
    /// What is served instead.
    pub served: &'static str,
}

impl Settings {
    /// Mozilla's guideline 6.0 "intermediate": the default of most sites.
    pub fn intermediate() -> Self {
        Settings {
            min: Version::Tls12,
            max: Version::Tls13,
            suites: vec![
                Suite::Aes128GcmSha256,
                Suite::Aes256GcmSha384,
                Suite::ChaCha20Poly1305Sha256,
                Suite::EcdheEcdsaAes128GcmSha256,
                Suite::EcdheRsaAes128GcmSha256,
                Suite::EcdheEcdsaAes256GcmSha384,
                Suite::EcdheRsaAes256GcmSha384,
                Suite::EcdheEcdsaChaCha20Poly1305Sha256,
                Suite::EcdheRsaChaCha20Poly1305Sha256,
            ],
            groups: vec![Group::X25519MlKem768, Group::X25519, Group::Secp256r1, Group::Secp384r1],
            suite_order: SuiteOrder::Client,
            group_order: GroupOrder::Client,
            alpn: Alpn::ALL.to_vec(),
            tickets: true,
            client_auth: None,
        }
    }

    /// Mozilla's guideline 6.0 "modern": clients of 2018 and later.
    pub fn modern() -> Self {
        let suites = vec![Suite::Aes128GcmSha256, Suite::Aes256GcmSha384, Suite::ChaCha20Poly1305Sha256];
        Settings { min: Version::Tls13, suites, ..Settings::intermediate() }
    }

    /// Where the presets `modern` and `intermediate` do not do what the guideline says. Nothing in versions, suites,
    /// groups and order: the library has all of these. Mozilla's third preset, "old", cannot be served at all.
    pub const MOZILLA_GAPS: &[Gap] = &[Gap {
        guideline: "OCSP stapling is on",
        served: "no staple is sent: nothing fetches and checks one, and a staple that is not checked breaks clients",
    }];
}

impl Default for Settings {
    /// What is served where nothing else is said.
    fn default() -> Self {
        Settings { suite_order: SuiteOrder::ServerUnlessChaCha20First, ..Settings::intermediate() }
    }
}

impl Policy {
    /// Judges the settings. Repeated entries of a list count where they stand first.
    pub fn new(mut settings: Settings) -> Result<Self, PolicyError> {
        if settings.min > settings.max {
            return Err(PolicyError::VersionsReversed { min: settings.min, max: settings.max });
        }
        keep_first(&mut settings.suites);
        keep_first(&mut settings.groups);
        keep_first(&mut settings.alpn);
        let policy = Policy(Arc::new(settings));
        for version in policy.versions() {
            if policy.suites(version).next().is_none() {
                return Err(PolicyError::NoSuite { version });
            }
            if policy.groups(version).next().is_none() {
                return Err(PolicyError::NoGroup { version });
            }
        }
        Ok(policy)
    }

    /// What it is made of.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The versions that are on, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = Version> + use<> {
        let (min, max) = (self.0.min, self.0.max);
        [Version::Tls12, Version::Tls13].into_iter().filter(move |version| (min..=max).contains(version))
    }

    /// The suites of a version that is on, best first.
    pub fn suites(&self, version: Version) -> impl Iterator<Item = Suite> {
        let on = (self.0.min..=self.0.max).contains(&version);
        self.0.suites.iter().copied().filter(move |suite| on && suite.version() == version)
    }

    /// The groups that a version that is on can use, best first.
    pub fn groups(&self, version: Version) -> impl Iterator<Item = Group> {
        let on = (self.0.min..=self.0.max).contains(&version);
        self.0.groups.iter().copied().filter(move |group| on && group.usable_for(version))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy(Arc::new(Settings::default()))
    }
}

impl fmt::Display for Policy {
    /// One line: versions, suites, groups, and what differs from the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { suites, groups, suite_order, group_order, alpn, tickets, client_auth, min: _, max: _ } =
            self.settings();
        let join = |names: Vec<&str>, by: &str| names.join(by);
        let versions = join(self.versions().map(Version::label).collect(), ",");
        let suites = join(suites.iter().map(|suite| suite.openssl()).collect(), ":");
        let groups = join(groups.iter().map(|group| group.name()).collect(), ":");
        write!(f, "versions={versions} suites={suites}")?;
        match suite_order {
            SuiteOrder::Client => write!(f, " suite-order=client")?,
            SuiteOrder::Server => write!(f, " suite-order=server")?,
            SuiteOrder::ServerUnlessChaCha20First => {}
        }
        write!(f, " groups={groups}")?;
        match group_order {
            GroupOrder::Client => {}
            GroupOrder::Server => write!(f, " group-order=server")?,
        }
        if *alpn != Alpn::ALL {
            write!(f, " alpn={}", join(alpn.iter().map(|alpn| alpn.id()).collect(), ","))?;
        }
        if !tickets {
            write!(f, " no-tickets")?;
        }
        match client_auth {
            Some(auth) => {
                let mode = if auth.required { "required" } else { "optional" };
                write!(f, " client-certificates={mode} ({} authorities", auth.authorities.len())?;
                match &auth.revoked {
                    Some(lists) => write!(f, ", {} revocation lists)", lists.count()),
                    None => write!(f, ")"),
                }
            }
            None => Ok(()),
        }
    }
}

fn keep_first<T: Copy + PartialEq>(list: &mut Vec<T>) {
    let mut kept = Vec::with_capacity(list.len());
    list.retain(|item| {
        let new = !kept.contains(item);
        kept.push(*item);
        new
    });
}

fn suites_of(version: Version) -> String {
    let names = Suite::ALL.iter().filter(|suite| suite.version() == version).map(|suite| suite.openssl());
    names.collect::<Vec<_>>().join(", ")
}

fn groups_of(version: Version) -> String {
    let names = Group::ALL.iter().filter(|group| group.usable_for(version)).map(|group| group.name());
    names.collect::<Vec<_>>().join(", ")
}

/// A cipher suite that can be served. There are nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// TLS 1.3, code 1301.
    Aes128GcmSha256,
    /// TLS 1.3, code 1302.
    Aes256GcmSha384,
    /// TLS 1.3, code 1303.
    ChaCha20Poly1305Sha256,
    /// TLS 1.2, code c02b.
    EcdheEcdsaAes128GcmSha256,
    /// TLS 1.2, code c02c.
    EcdheEcdsaAes256GcmSha384,
    /// TLS 1.2, code c02f.
    EcdheRsaAes128GcmSha256,
    /// TLS 1.2, code c030.
    EcdheRsaAes256GcmSha384,
    /// TLS 1.2, code cca8.
    EcdheRsaChaCha20Poly1305Sha256,
    /// TLS 1.2, code cca9.
    EcdheEcdsaChaCha20Poly1305Sha256,
}

/// How the certificate's key must sign for a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteAuth {
    /// In any way that the client can verify: TLS 1.3.
    Any,
    /// ECDSA or, by RFC 8422 section 5.10, EdDSA.
    Ecdsa,
    /// RSA.
    Rsa,
}

impl Suite {
    /// All nine.
    pub const ALL: [Suite; 9] = [
        Suite::Aes128GcmSha256,
        Suite::Aes256GcmSha384,
        Suite::ChaCha20Poly1305Sha256,
        Suite::EcdheEcdsaAes128GcmSha256,
        Suite::EcdheEcdsaAes256GcmSha384,
        Suite::EcdheRsaAes128GcmSha256,
        Suite::EcdheRsaAes256GcmSha384,
        Suite::EcdheRsaChaCha20Poly1305Sha256,
        Suite::EcdheEcdsaChaCha20Poly1305Sha256,
    ];

    /// The code of the IANA registry.
    pub fn code(self) -> u16 {
        self.rustls().suite().into()
    }

    /// The suite with this code, if it can be served.
    pub fn of_code(code: u16) -> Option<Self> {
        Suite::ALL.into_iter().find(|suite| suite.code() == code)
    }

    /// OpenSSL's name.
    pub fn openssl(self) -> &'static str {
        match self {
            Suite::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Suite::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
            Suite::EcdheEcdsaAes128GcmSha256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            Suite::EcdheEcdsaAes256GcmSha384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            Suite::EcdheRsaAes128GcmSha256 => "ECDHE-RSA-AES128-GCM-SHA256",
            Suite::EcdheRsaAes256GcmSha384 => "ECDHE-RSA-AES256-GCM-SHA384",
            Suite::EcdheRsaChaCha20Poly1305Sha256 => "ECDHE-RSA-CHACHA20-POLY1305",
            Suite::EcdheEcdsaChaCha20Poly1305Sha256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        }
    }

    /// The name of the IANA registry.
    pub fn iana(self) -> &'static str {
        match self {
            Suite::Aes128GcmSha256 | Suite::Aes256GcmSha384 | Suite::ChaCha20Poly1305Sha256 => self.openssl(),
            Suite::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Suite::EcdheEcdsaAes256GcmSha384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Suite::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Suite::EcdheRsaAes256GcmSha384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Suite::EcdheRsaChaCha20Poly1305Sha256 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            Suite::EcdheEcdsaChaCha20Poly1305Sha256 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The one version that it works with.
    pub fn version(self) -> Version {
        match self.auth() {
            SuiteAuth::Any => Version::Tls13,
            SuiteAuth::Ecdsa | SuiteAuth::Rsa => Version::Tls12,
        }
    }

    /// Which certificates it works with.
    pub fn auth(self) -> SuiteAuth {
        match self {
            Suite::Aes128GcmSha256 | Suite::Aes256GcmSha384 | Suite::ChaCha20Poly1305Sha256 => SuiteAuth::Any,
            Suite::EcdheEcdsaAes128GcmSha256
            | Suite::EcdheEcdsaAes256GcmSha384
            | Suite::EcdheEcdsaChaCha20Poly1305Sha256 => SuiteAuth::Ecdsa,
            Suite::EcdheRsaAes128GcmSha256 | Suite::EcdheRsaAes256GcmSha384 | Suite::EcdheRsaChaCha20Poly1305Sha256 => {
                SuiteAuth::Rsa
            }
        }
    }

    /// Bits of its symmetric key.
    pub fn bits(self) -> u16 {
        match self {
            Suite::Aes128GcmSha256 | Suite::EcdheEcdsaAes128GcmSha256 | Suite::EcdheRsaAes128GcmSha256 => 128,
            Suite::Aes256GcmSha384
            | Suite::ChaCha20Poly1305Sha256
            | Suite::EcdheEcdsaAes256GcmSha384
            | Suite::EcdheRsaAes256GcmSha384
            | Suite::EcdheRsaChaCha20Poly1305Sha256
            | Suite::EcdheEcdsaChaCha20Poly1305Sha256 => 256,
        }
    }

    fn rustls(self) -> SupportedCipherSuite {
        use aws_lc_rs::cipher_suite as suite;
        match self {
            Suite::Aes128GcmSha256 => suite::TLS13_AES_128_GCM_SHA256,
            Suite::Aes256GcmSha384 => suite::TLS13_AES_256_GCM_SHA384,
            Suite::ChaCha20Poly1305Sha256 => suite::TLS13_CHACHA20_POLY1305_SHA256,
            Suite::EcdheEcdsaAes128GcmSha256 => suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Suite::EcdheEcdsaAes256GcmSha384 => suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Suite::EcdheRsaAes128GcmSha256 => suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            Suite::EcdheRsaAes256GcmSha384 => suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Suite::EcdheRsaChaCha20Poly1305Sha256 => suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            Suite::EcdheEcdsaChaCha20Poly1305Sha256 => suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.iana())
    }
}

/// A key exchange group that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// X25519 with ML-KEM-768, post-quantum: code 11ec, TLS 1.3.
    X25519MlKem768,
    /// P-256 with ML-KEM-768, post-quantum: code 11eb, TLS 1.3.
    Secp256r1MlKem768,
    /// RFC 7748: code 001d.
    X25519,
    /// P-256: code 0017.
    Secp256r1,
    /// P-384: code 0018.
    Secp384r1,
    /// ML-KEM-768 alone: code 0201, TLS 1.3.
    MlKem768,
    /// ML-KEM-1024 alone: code 0202, TLS 1.3.
    MlKem1024,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 7] = [
        Group::X25519MlKem768,
        Group::Secp256r1MlKem768,
        Group::X25519,
        Group::Secp256r1,
        Group::Secp384r1,
        Group::MlKem768,
        Group::MlKem1024,
    ];

    /// The code of the IANA registry.
    pub fn code(self) -> u16 {
        self.rustls().name().into()
    }

    /// The group with this code, if it can be served.
    pub fn of_code(code: u16) -> Option<Self> {
        Group::ALL.into_iter().find(|group| group.code() == code)
    }

    /// The name of the IANA registry.
    pub fn name(self) -> &'static str {
        match self {
            Group::X25519MlKem768 => "X25519MLKEM768",
            Group::Secp256r1MlKem768 => "SecP256r1MLKEM768",
            Group::X25519 => "x25519",
            Group::Secp256r1 => "secp256r1",
            Group::Secp384r1 => "secp384r1",
            Group::MlKem768 => "MLKEM768",
            Group::MlKem1024 => "MLKEM1024",
        }
    }

    /// Whether it withstands a quantum computer as far as anybody knows.
    pub fn is_post_quantum(self) -> bool {
        match self {
            Group::X25519 | Group::Secp256r1 | Group::Secp384r1 => false,
            Group::X25519MlKem768 | Group::Secp256r1MlKem768 | Group::MlKem768 | Group::MlKem1024 => true,
        }
    }

    /// Whether a version can use it: TLS 1.2 has only the elliptic curves.
    pub fn usable_for(self, version: Version) -> bool {
        version == Version::Tls13 || !self.is_post_quantum()
    }

    fn rustls(self) -> &'static dyn SupportedKxGroup {
        use aws_lc_rs::kx_group;
        match self {
            Group::X25519MlKem768 => kx_group::X25519MLKEM768,
            Group::Secp256r1MlKem768 => kx_group::SECP256R1MLKEM768,
            Group::X25519 => kx_group::X25519,
            Group::Secp256r1 => kx_group::SECP256R1,
            Group::Secp384r1 => kx_group::SECP384R1,
            Group::MlKem768 => kx_group::MLKEM768,
            Group::MlKem1024 => kx_group::MLKEM1024,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_needs_a_suite_and_a_group_for_each_version() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Policy::new(settings).unwrap_err()
        };
        assert_eq!(
            refused(|settings| settings.suites.retain(|suite| suite.version() == Version::Tls13)),
            PolicyError::NoSuite { version: Version::Tls12 }
        );
        assert_eq!(
            refused(|settings| settings.suites.retain(|suite| suite.version() == Version::Tls12)),
            PolicyError::NoSuite { version: Version::Tls13 }
        );
        assert_eq!(
            refused(|settings| settings.groups = vec![Group::X25519MlKem768]),
            PolicyError::NoGroup { version: Version::Tls12 }
        );
        let reversed = refused(|settings| (settings.min, settings.max) = (Version::Tls13, Version::Tls12));
        assert_eq!(reversed, PolicyError::VersionsReversed { min: Version::Tls13, max: Version::Tls12 });
        let error = refused(|settings| settings.groups = vec![Group::MlKem768]).to_string();
        assert_eq!(
            error,
            "no key exchange group is left for TLS 1.2: name one of x25519, secp256r1, secp384r1, or disable TLS 1.2"
        );
    }

    #[test]
    fn mozillas_presets_are_the_published_ones() {
        let codes = |settings: Settings| {
            let policy = Policy::new(settings).unwrap();
            let suites: Vec<u16> = policy.settings().suites.iter().map(|suite| suite.code()).collect();
            let groups: Vec<u16> = policy.settings().groups.iter().map(|group| group.code()).collect();
            (policy.versions().collect::<Vec<_>>(), suites, groups, policy.settings().suite_order)
        };
        let groups = vec![0x11ec, 0x001d, 0x0017, 0x0018];
        assert_eq!(
            codes(Settings::modern()),
            (vec![Version::Tls13], vec![0x1301, 0x1302, 0x1303], groups.clone(), SuiteOrder::Client)
        );
        let nine = vec![0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8];
        assert_eq!(
            codes(Settings::intermediate()),
            (vec![Version::Tls12, Version::Tls13], nine, groups, SuiteOrder::Client)
        );
    }

    #[test]
    fn repeated_entries_count_where_they_stand_first() {
        let groups = vec![Group::Secp256r1, Group::X25519, Group::Secp256r1];
        let policy = Policy::new(Settings { groups, ..Settings::default() }).unwrap();
        assert_eq!(policy.settings().groups, [Group::Secp256r1, Group::X25519]);
    }

    #[test]
    fn names_and_versions_are_those_of_the_library() {
        for suite in Suite::ALL {
            let rustls = suite.rustls();
            let name = format!("{:?}", rustls.suite()).replace("TLS13_", "TLS_");
            assert_eq!(suite.iana(), name);
            let newest = rustls.version() == &rustls::version::TLS13;
            assert_eq!(suite.version() == Version::Tls13, newest, "{suite}");
            assert_eq!(Suite::of_code(suite.code()), Some(suite));
        }
        for group in Group::ALL {
            let tls12 = group.rustls().usable_for_version(rustls::ProtocolVersion::TLSv1_2);
            assert_eq!(group.usable_for(Version::Tls12), tls12, "{group}");
            assert_eq!(Group::of_code(group.code()), Some(group));
        }
    }
}
