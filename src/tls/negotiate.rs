//! What a handshake comes to, without a handshake.
//!
//! `Policy × credentials × Offer ──▶ Agreement`, or the [`Reason`] why there is none
//!
//! The one model: the compiler judges policies and known clients with it, and the choice of a configuration follows
//! it. The order of the questions is chosen for the answer to be the cause and not a consequence of it: version, suites
//! of that version, signatures, groups, certificate, application protocol. A client with no ECDHE suite, for one, also
//! names no groups; what it lacks is the suite.
//!
//! It is about hellos of full handshakes. Of resumption it says only what a malformed attempt does; and the client's own
//! certificate comes later, so a policy's client authentication does not matter to it.

use rustls::{CipherSuite, SignatureScheme};

use super::Version;
use super::chain::Credential;
use super::codes::SuiteFacts;
use super::offer::{NamedServer, Offer};
use super::policy::{Group, GroupOrder, Policy, Suite, SuiteAuth, SuiteOrder};
use super::reason::Reason;

/// What both sides agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Protocol version.
    pub version: Version,
    /// Cipher suite.
    pub suite: Suite,
    /// Key exchange group.
    pub group: Group,
    /// Which of the credentials, by its index.
    pub credential: usize,
    /// True if the client has to send a second hello, because its first has no key share for the group (RFC 8446
    /// section 4.1.4): one more round trip.
    pub hello_retry: bool,
}

/// The type of a credential's key, as far as a handshake depends on it. The order is that of preference: ECDSA costs
/// an eighth of RSA, and P-256 is the curve that every client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// ECDSA with P-256.
    EcdsaP256,
    /// ECDSA with P-384.
    EcdsaP384,
    /// ECDSA with P-521.
    EcdsaP521,
    /// RFC 8410.
    Ed25519,
    /// RSA, of any size that can be served.
    Rsa,
    /// Post-quantum ML-DSA-44; TLS 1.3 only.
    MlDsa44,
    /// Post-quantum ML-DSA-65; TLS 1.3 only.
    MlDsa65,
    /// Post-quantum ML-DSA-87; TLS 1.3 only.
    MlDsa87,
}

impl CredentialKind {
    /// All kinds, preferred ones first.
    pub const ALL: [CredentialKind; 8] = [
        CredentialKind::EcdsaP256,
        CredentialKind::EcdsaP384,
        CredentialKind::EcdsaP521,
        CredentialKind::Ed25519,
        CredentialKind::Rsa,
        CredentialKind::MlDsa44,
        CredentialKind::MlDsa65,
        CredentialKind::MlDsa87,
    ];

    /// The kind of a credential.
    pub fn of(credential: &Credential) -> Self {
        let key = &credential.certified_key().key;
        let signs = |kind: &CredentialKind| {
            let schemes: Vec<SignatureScheme> = kind.schemes().iter().map(|code| (*code).into()).collect();
            key.choose_scheme(&schemes).is_some()
        };
        // Keys are loaded by aws-lc-rs, whose types these are.
        CredentialKind::ALL.into_iter().find(signs).unwrap_or(CredentialKind::Rsa)
    }

    /// The word for people, such as `ecdsa-p256`.
    pub fn label(self) -> &'static str {
        match self {
            CredentialKind::EcdsaP256 => "ecdsa-p256",
            CredentialKind::EcdsaP384 => "ecdsa-p384",
            CredentialKind::EcdsaP521 => "ecdsa-p521",
            CredentialKind::Ed25519 => "ed25519",
            CredentialKind::Rsa => "rsa",
            CredentialKind::MlDsa44 => "ml-dsa-44",
            CredentialKind::MlDsa65 => "ml-dsa-65",
            CredentialKind::MlDsa87 => "ml-dsa-87",
        }
    }

    /// The signature schemes of the key, as codes of the IANA registry. ECDSA keys sign with the hash of their curve
    /// only: RFC 8446 section 4.2.3 asks for it, and the TLS library keeps to it for TLS 1.2 as well.
    pub fn schemes(self) -> &'static [u16] {
        match self {
            CredentialKind::EcdsaP256 => &[0x0403],
            CredentialKind::EcdsaP384 => &[0x0503],
            CredentialKind::EcdsaP521 => &[0x0603],
            CredentialKind::Ed25519 => &[0x0807],
            CredentialKind::Rsa => &[0x0806, 0x0805, 0x0804, 0x0601, 0x0501, 0x0401],
            CredentialKind::MlDsa44 => &[0x0904],
            CredentialKind::MlDsa65 => &[0x0905],
            CredentialKind::MlDsa87 => &[0x0906],
        }
    }

    /// Whether the key can sign for a suite.
    pub fn works_with(self, suite: Suite) -> bool {
        match (suite.auth(), self) {
            (SuiteAuth::Any, _) => true,
            (
                SuiteAuth::Ecdsa,
                CredentialKind::EcdsaP256
                | CredentialKind::EcdsaP384
                | CredentialKind::EcdsaP521
                | CredentialKind::Ed25519,
            ) => true,
            (SuiteAuth::Rsa, CredentialKind::Rsa) => true,
            (SuiteAuth::Ecdsa | SuiteAuth::Rsa, _) => false,
        }
    }

    /// Whether a signature scheme is by a key of the same family, though perhaps of another curve or size.
    fn is_related(self, scheme: u16) -> bool {
        let family = |code: u16| match code {
            0x0201 | 0x0301 | 0x0401 | 0x0501 | 0x0601 | 0x0804..=0x0806 | 0x0809..=0x080b => "rsa",
            0x0203 | 0x0303 | 0x0403 | 0x0503 | 0x0603 | 0x0807 | 0x0808 => "elliptic curve",
            0x0904..=0x0906 => "ml-dsa",
            _ => "",
        };
        self.schemes().iter().any(|own| family(*own) == family(scheme))
    }

    /// Whether a client that offers these schemes can verify the key's signatures in this version.
    fn verified_by(self, version: Version, schemes: &[u16]) -> bool {
        // TLS 1.3 has no PKCS#1 signatures in handshakes (RFC 8446 section 4.2.3).
        let usable = |scheme: u16| version == Version::Tls12 || ![0x0401, 0x0501, 0x0601].contains(&scheme);
        self.schemes().iter().any(|scheme| usable(*scheme) && schemes.contains(scheme))
    }
}

/// The indices of credentials, preferred ones first; of equals, the first.
pub fn by_preference(credentials: &[CredentialKind]) -> impl Iterator<Item = usize> + use<> {
    let mut indices: Vec<usize> = (0..credentials.len()).collect();
    indices.sort_by_key(|index| credentials[*index]);
    indices.into_iter()
}

/// What a client that offers this and a host with this policy and these credentials agree on.
pub fn negotiate(policy: &Policy, credentials: &[CredentialKind], offer: &Offer) -> Result<Agreement, Reason> {
    if matches!(offer.server_name, NamedServer::Malformed(_)) {
        return Err(Reason::MalformedServerName);
    }
    if !offer.compressions.contains(&0) || !offer.takes_x509 {
        return Err(Reason::ProtocolViolation);
    }
    let Selection { version, suite, group, credential } = select(policy, credentials, offer)?;
    let hello_retry = match version {
        Version::Tls12 if !offer.uncompressed_points => return Err(Reason::NoSharedGroup),
        Version::Tls12 => false,
        Version::Tls13 => !has_share(group, offer)?,
    };
    let alpn = &policy.settings().alpn;
    if let Some(offered) = &offer.alpn
        && !alpn.is_empty()
        && !alpn.iter().any(|ours| offered.iter().any(|theirs| **theirs == *ours.id().as_bytes()))
    {
        return Err(Reason::NoSharedAlpn);
    }
    Ok(Agreement { version, suite, group, credential, hello_retry })
}

/// What the lists of both sides come to, whatever else may be wrong with the hello.
pub(super) struct Selection {
    version: Version,
    suite: Suite,
    pub(super) group: Group,
    pub(super) credential: usize,
}

/// The part of [`negotiate`] that chooses.
pub(super) fn select(policy: &Policy, credentials: &[CredentialKind], offer: &Offer) -> Result<Selection, Reason> {
    let version = version(policy, offer)?;
    let shared: Vec<Suite> = shared_suites(policy, version, offer);
    if shared.is_empty() {
        return Err(no_suite(offer));
    }
    // Without the extension a client knows only SHA-1 (RFC 5246 section 7.4.1.4.1).
    let schemes = offer.schemes.as_deref().filter(|schemes| !schemes.iter().all(|scheme| is_sha1(*scheme)));
    let schemes = schemes.ok_or(Reason::Sha1Only)?;
    let group = shared_group(policy, version, offer)?;
    let (credential, suite) = credential(version, &shared, schemes, credentials, offer)?;
    Ok(Selection { version, suite, group, credential })
}

/// True if the client offers any suite of the policy, whatever the version and the certificate. If it does not, that is
/// the cause of a failure that rustls puts down to groups.
pub fn shares_suite(policy: &Policy, offer: &Offer) -> bool {
    policy.settings().suites.iter().any(|suite| offer.suites.contains(&suite.code()))
}

/// True if a client's list of suites says that it has no AES hardware: its first suite is a ChaCha20 one. Unknown
/// suites in front (GREASE, RFC 8701) are passed over.
pub fn prefers_chacha20(suites: &[u16]) -> bool {
    let known = suites.iter().map(|code| CipherSuite::from(*code)).find(|suite| suite.as_str().is_some());
    matches!(
        known,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}

/// Whether the client's order of suites decides.
pub(super) fn has_client_order(policy: &Policy, offer: &Offer) -> bool {
    match policy.settings().suite_order {
        SuiteOrder::Client => true,
        SuiteOrder::Server => false,
        SuiteOrder::ServerUnlessChaCha20First => prefers_chacha20(&offer.suites),
    }
}

fn version(policy: &Policy, offer: &Offer) -> Result<Version, Reason> {
    let code = |version| match version {
        Version::Tls12 => 0x0303,
        Version::Tls13 => 0x0304,
    };
    let offered = |version: &Version| match &offer.versions {
        Some(versions) => versions.contains(&code(*version)),
        // Without the extension the hello's own version is the newest, and 1.2 the end (RFC 8446 section 4.2.1).
        None => *version == Version::Tls12 && offer.legacy_version >= code(Version::Tls12),
    };
    policy.versions().filter(offered).last().ok_or(Reason::NoSharedVersion)
}

/// The suites that both sides have, in the order that decides.
fn shared_suites(policy: &Policy, version: Version, offer: &Offer) -> Vec<Suite> {
    let mut shared: Vec<Suite> = policy.suites(version).filter(|suite| offer.suites.contains(&suite.code())).collect();
    if has_client_order(policy, offer) {
        shared.sort_by_key(|suite| offer.suites.iter().position(|code| *code == suite.code()));
    }
    shared
}

fn shared_group(policy: &Policy, version: Version, offer: &Offer) -> Result<Group, Reason> {
    let offered = offer.groups.as_deref().unwrap_or_default();
    let shared = match policy.settings().group_order {
        GroupOrder::Server => policy.groups(version).find(|group| offered.contains(&group.code())),
        GroupOrder::Client => offered
            .iter()
            .find_map(|code| Group::of_code(*code).filter(|group| policy.groups(version).any(|ours| ours == *group))),
    };
    shared.ok_or(Reason::NoSharedGroup)
}

/// Why a client and a host have no suite in common: by what all suites of the client lack.
fn no_suite(offer: &Offer) -> Reason {
    let facts: Vec<SuiteFacts> = offer.suites.iter().filter_map(|code| SuiteFacts::of(*code)).collect();
    if facts.is_empty() {
        Reason::NoSharedSuite
    } else if !facts.iter().any(|suite| suite.has_forward_secrecy()) {
        Reason::StaticRsaOnly
    } else if !facts.iter().any(|suite| suite.aead) {
        Reason::CbcOnly
    } else {
        Reason::NoSharedSuite
    }
}

/// `rsa_pkcs1_sha1`, `dsa_sha1` and `ecdsa_sha1` (RFC 8446 section 4.2.3).
fn is_sha1(scheme: u16) -> bool {
    scheme >> 8 == 0x02
}

/// The best credential that the client can use, with its suite; or why it cannot use the best one.
fn credential(
    version: Version,
    shared: &[Suite],
    schemes: &[u16],
    credentials: &[CredentialKind],
    offer: &Offer,
) -> Result<(usize, Suite), Reason> {
    let mut reason = None;
    for index in by_preference(credentials) {
        let kind = credentials[index];
        let knows_suite = || {
            let offered = |suite: &Suite| suite.version() == version && offer.suites.contains(&suite.code());
            Suite::ALL.into_iter().any(|suite| offered(&suite) && kind.works_with(suite))
        };
        let failed = match shared.iter().find(|suite| kind.works_with(**suite)) {
            // It is the policy that leaves out what the client has for such keys.
            None if knows_suite() => Reason::NoSharedSuite,
            None => Reason::WrongCertificateType,
            Some(_) if !kind.verified_by(version, schemes) => match schemes.iter().any(|code| kind.is_related(*code)) {
                true => Reason::NoSharedSignatureScheme,
                false => Reason::WrongCertificateType,
            },
            Some(suite) => return Ok((index, *suite)),
        };
        reason.get_or_insert(failed);
    }
    Err(reason.unwrap_or(Reason::HostRefused))
}

/// Whether the hello has a key share for the group, and what else TLS 1.3 asks of a hello.
fn has_share(group: Group, offer: &Offer) -> Result<bool, Reason> {
    let shares = offer.key_shares.as_deref().ok_or(Reason::MissingExtension)?;
    if offer.compressions.len() != 1 || offer.repeated_shares {
        return Err(Reason::ProtocolViolation);
    }
    let has_share = shares.contains(&group.code());
    if has_share && let Some(psk) = &offer.psk {
        // RFC 8446 sections 4.2.9 and 4.2.11.
        if offer.psk_modes.is_none() {
            return Err(Reason::MissingExtension);
        }
        if psk.identities != psk.binders {
            return Err(Reason::ProtocolViolation);
        }
    }
    Ok(has_share)
}
