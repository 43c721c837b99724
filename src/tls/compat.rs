//! Whether a policy and the credentials of a host can work together at all, whoever connects.
//!
//! `Policy × kinds of credentials ──unworkable──▶ version, credential, why not, what to do`
//!
//! A version that is on and that no client can use looks served and is not: each handshake fails, and the client gets
//! the blame. The one thing that can be missing is a suite: a policy has a group for each of its versions, and each
//! kind of key has a signature scheme for each version that has suites for it.

use std::fmt;

use super::Version;
use super::negotiate::CredentialKind;
use super::policy::{Policy, Suite};

/// A version that is on and cannot be negotiated with one of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unworkable {
    /// Which of the credentials, by its index.
    pub credential: usize,
    /// Its kind.
    pub kind: CredentialKind,
    /// The version.
    pub version: Version,
    /// What is missing.
    pub why: WhyUnworkable,
}

/// Why a version cannot be negotiated with a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyUnworkable {
    /// The version knows no signatures of such keys, so no suite would help.
    KeyUnknown,
    /// The suites that the policy has for the version are for other kinds of keys.
    NoSuite {
        /// Those suites.
        suites: Vec<Suite>,
    },
}

/// Each version that is on and each credential that do not work together.
pub fn unworkable(policy: &Policy, kinds: &[CredentialKind]) -> Vec<Unworkable> {
    let judge = |version: Version, (credential, kind): (usize, &CredentialKind)| {
        let (kind, suites): (CredentialKind, Vec<Suite>) = (*kind, policy.suites(version).collect());
        let why = if suites.iter().any(|suite| kind.works_with(*suite)) {
            return None;
        } else if suites_for(kind, version).next().is_none() {
            WhyUnworkable::KeyUnknown
        } else {
            WhyUnworkable::NoSuite { suites }
        };
        Some(Unworkable { credential, kind, version, why })
    };
    policy.versions().flat_map(|version| kinds.iter().enumerate().filter_map(move |one| judge(version, one))).collect()
}

/// The versions that are on and that work with none of the credentials.
pub fn dead_versions(policy: &Policy, kinds: &[CredentialKind]) -> Vec<Version> {
    let found = unworkable(policy, kinds);
    let fails = |version: &Version| found.iter().filter(|one| one.version == *version).count() == kinds.len();
    policy.versions().filter(fails).collect()
}

/// True if no handshake can succeed, whatever a client offers. So it is without any credential.
pub fn nothing_works(policy: &Policy, kinds: &[CredentialKind]) -> bool {
    dead_versions(policy, kinds).len() == policy.versions().count()
}

impl Unworkable {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        let version = self.version.label();
        let suites = suites_for(self.kind, self.version).map(Suite::openssl).collect::<Vec<_>>().join(", ");
        match &self.why {
            WhyUnworkable::KeyUnknown => {
                format!("disable TLS {version}, or use a certificate with an ECDSA P-256 or RSA key")
            }
            WhyUnworkable::NoSuite { suites: ours } => {
                let other = match ours.first().is_some_and(|suite| CredentialKind::Rsa.works_with(*suite)) {
                    true => "an RSA",
                    false => "an ECDSA P-256",
                };
                format!(
                    "add one of {suites} to the cipher suites, disable TLS {version}, or use a certificate with {other} key"
                )
            }
        }
    }
}

impl fmt::Display for Unworkable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, key) = (self.version.label(), self.kind.label());
        match &self.why {
            WhyUnworkable::KeyUnknown => {
                write!(f, "TLS {version} is enabled, but does not support signatures of {key} keys")
            }
            WhyUnworkable::NoSuite { suites } => {
                let suites = suites.iter().map(|suite| suite.openssl()).collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "TLS {version} is enabled, but none of its cipher suites ({suites}) works with the certificate's {key} key"
                )
            }
        }
    }
}

/// All suites of a version that work with a kind of key.
fn suites_for(kind: CredentialKind, version: Version) -> impl Iterator<Item = Suite> {
    Suite::ALL.into_iter().filter(move |suite| suite.version() == version && kind.works_with(*suite))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::negotiate::negotiate;
    use crate::tls::offer::{NamedServer, Offer};
    use crate::tls::policy::{Group, Settings};

    /// Everything there is to offer, for one version.
    fn everything(version: Version) -> Offer {
        let code = match version {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        };
        let groups: Vec<u16> = Group::ALL.iter().map(|group| group.code()).collect();
        Offer {
            legacy_version: 0x0303,
            suites: Suite::ALL.iter().map(|suite| suite.code()).collect(),
            compressions: vec![0],
            extensions: Vec::new(),
            server_name: NamedServer::Name("client.example".into()),
            psk_modes: Some(vec![1]),
            versions: Some(vec![code]),
            key_shares: Some(groups.clone()),
            groups: Some(groups),
            schemes: Some(CredentialKind::ALL.iter().flat_map(|kind| kind.schemes()).copied().collect()),
            repeated_shares: false,
            alpn: None,
            psk: None,
            session_ticket: None,
            uncompressed_points: true,
            takes_x509: true,
            certificate_compressions: Vec::new(),
        }
    }

    #[test]
    fn a_version_is_unworkable_exactly_if_no_handshake_succeeds() {
        let (mut judged, mut found) = (0, 0);
        for chosen in 0..1_u32 << Suite::ALL.len() {
            let suites: Vec<Suite> = Suite::ALL
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| chosen & (1 << bit) != 0)
                .map(|(_, s)| s)
                .collect();
            for (min, max) in
                [(Version::Tls12, Version::Tls12), (Version::Tls12, Version::Tls13), (Version::Tls13, Version::Tls13)]
            {
                for groups in [vec![Group::Secp384r1], Group::ALL.to_vec()] {
                    let settings = Settings { min, max, suites: suites.clone(), groups, ..Settings::default() };
                    let Ok(policy) = Policy::new(settings) else { continue };
                    let said = unworkable(&policy, &CredentialKind::ALL);
                    for version in policy.versions() {
                        for (index, kind) in CredentialKind::ALL.into_iter().enumerate() {
                            let fails = negotiate(&policy, &[kind], &everything(version)).is_err();
                            let said = said.iter().any(|one| (one.version, one.credential) == (version, index));
                            assert_eq!(said, fails, "{policy:?} {version:?} {kind:?}");
                            judged += 1;
                            found += usize::from(fails);
                        }
                    }
                    let pair = [CredentialKind::Rsa, CredentialKind::MlDsa65];
                    let dead: Vec<Version> = policy
                        .versions()
                        .filter(|version| negotiate(&policy, &pair, &everything(*version)).is_err())
                        .collect();
                    assert_eq!(dead_versions(&policy, &pair), dead);
                    assert_eq!(nothing_works(&policy, &pair), dead.len() == policy.versions().count());
                }
            }
        }
        assert!(judged > 20_000 && found > 5_000, "{found} of {judged}");
    }

    #[test]
    fn what_is_said_names_the_suites_and_the_way_out() {
        let suites = vec![Suite::Aes128GcmSha256, Suite::EcdheRsaAes128GcmSha256];
        let policy = Policy::new(Settings { suites, ..Settings::default() }).unwrap();
        let said = |kind| {
            let [one] = &unworkable(&policy, &[CredentialKind::Rsa, kind])[..] else { panic!("one is wrong") };
            assert_eq!((one.credential, one.version), (1, Version::Tls12));
            (one.to_string(), one.remedy())
        };
        let (message, remedy) = said(CredentialKind::EcdsaP256);
        assert_eq!(
            message,
            "TLS 1.2 is enabled, but none of its cipher suites (ECDHE-RSA-AES128-GCM-SHA256) works with the certificate's \
             ecdsa-p256 key"
        );
        assert_eq!(
            remedy,
            "add one of ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305 to \
             the cipher suites, disable TLS 1.2, or use a certificate with an RSA key"
        );
        let (message, remedy) = said(CredentialKind::MlDsa44);
        assert_eq!(message, "TLS 1.2 is enabled, but does not support signatures of ml-dsa-44 keys");
        assert!(remedy.starts_with("disable TLS 1.2"));
    }

    #[test]
    fn without_a_credential_nothing_works() {
        assert!(nothing_works(&Policy::default(), &[]));
        assert!(!nothing_works(&Policy::default(), &[CredentialKind::Ed25519]));
        assert_eq!(unworkable(&Policy::default(), &CredentialKind::ALL[..5]), []);
    }
}
