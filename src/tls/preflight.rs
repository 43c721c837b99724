//! Why a handshake is going to fail, before it is tried: who must act, and what would let this client in.
//!
//! `Reason × Policy × credentials × Offer ──explain──▶ Explanation`
//!
//! The model says that client and host agree on nothing. What would help is found by asking it again: with a further
//! certificate, then with the preset `intermediate`. Nothing is recommended that has not been tried in the model.

use super::Version;
use super::negotiate::{Agreement, CredentialKind, negotiate};
use super::offer::Offer;
use super::policy::{Alpn, Policy, Settings};
use super::reason::{Blame, Reason};

/// Who must act, and what to do, for one client and one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who must act.
    pub blame: Blame,
    /// What to do.
    pub remedy: String,
}

/// Explains a failure that [`negotiate`] predicts.
///
/// The certificate is to blame if a certificate with another kind of key would let the client in, the policy if the
/// preset `intermediate` would, and the client otherwise.
pub fn explain(reason: Reason, policy: &Policy, kinds: &[CredentialKind], offer: &Offer) -> Explanation {
    let with = |added: &[CredentialKind]| [kinds, added].concat();
    for (kind, key) in [(CredentialKind::EcdsaP256, "ECDSA P-256"), (CredentialKind::Rsa, "RSA")] {
        if negotiate(policy, &with(&[kind]), offer).is_ok() {
            let remedy = format!("add a certificate with an {key} key to the host");
            return Explanation { blame: Blame::Certificate, remedy };
        }
    }
    let intermediate = intermediate();
    if let Ok(agreement) = negotiate(&intermediate, kinds, offer) {
        let remedy = one_change(reason, policy, kinds, offer, &agreement);
        let remedy = remedy.unwrap_or_else(|| "use the preset `intermediate`".to_owned());
        return Explanation { blame: Blame::Policy, remedy };
    }
    let both = with(&[CredentialKind::EcdsaP256, CredentialKind::Rsa]);
    let remedy = if negotiate(&intermediate, &both, offer).is_ok() {
        "use the preset `intermediate`, and certificates with an ECDSA P-256 and an RSA key".to_owned()
    } else if offer.newest_version() < OLDEST_SERVED {
        format!("update the client: TLS {} is the oldest supported version (RFC 8996)", Version::Tls12.label())
    } else {
        reason.remedy().to_owned()
    };
    Explanation { blame: Blame::Client, remedy }
}

/// The one thing of an agreement under the preset that the policy lacks, if it is enough to add that.
fn one_change(
    reason: Reason,
    policy: &Policy,
    kinds: &[CredentialKind],
    offer: &Offer,
    agreement: &Agreement,
) -> Option<String> {
    let Agreement { version, suite, group, .. } = *agreement;
    let mut settings = policy.settings().clone();
    let remedy = match reason {
        Reason::NoSharedVersion => {
            (settings.min, settings.max) = (settings.min.min(version), settings.max.max(version));
            // A policy without suites of a version has those of the preset once the version is on.
            if !settings.suites.iter().any(|suite| suite.version() == version) {
                settings
                    .suites
                    .extend(Settings::default().suites.into_iter().filter(|suite| suite.version() == version));
            }
            format!("enable TLS {} in the policy", version.label())
        }
        Reason::CbcOnly | Reason::NoSharedSuite | Reason::StaticRsaOnly => {
            settings.suites.push(suite);
            format!("add {suite} to the policy's cipher suites")
        }
        Reason::NoSharedGroup => {
            settings.groups.push(group);
            format!("add {group} to the policy's groups")
        }
        Reason::NoSharedAlpn => {
            settings.alpn = Alpn::ALL.to_vec();
            "allow both h2 and http/1.1 in the policy (alpn)".to_owned()
        }
        _ => return None,
    };
    let changed = Policy::new(settings).ok()?;
    negotiate(&changed, kinds, offer).is_ok().then_some(remedy)
}

/// TLS 1.2 as it stands in a hello.
const OLDEST_SERVED: u16 = 0x0303;

/// The preset `intermediate` as it would be recommended: in the order of the default, which decides only which suite is
/// named. Whoever connects under one connects under the other.
fn intermediate() -> Policy {
    Policy::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::clients::client;
    use crate::tls::policy::{Group, Suite};

    const ECDSA: &[CredentialKind] = &[CredentialKind::EcdsaP256];
    const RSA: &[CredentialKind] = &[CredentialKind::Rsa];

    fn offer(id: &str) -> Offer {
        client(id).unwrap().offer.clone()
    }

    /// Reason, blame and remedy.
    fn explained(settings: Settings, kinds: &[CredentialKind], offer: &Offer) -> (Reason, Blame, String) {
        let policy = Policy::new(settings).unwrap();
        let reason = negotiate(&policy, kinds, offer).unwrap_err();
        let Explanation { blame, remedy } = explain(reason, &policy, kinds, offer);
        (reason, blame, remedy)
    }

    #[test]
    fn the_one_to_blame_is_the_one_whose_change_lets_the_client_in() {
        let any = Settings::default;
        let (reason, blame, remedy) = explained(any(), ECDSA, &offer("chrome-49-xp"));
        assert_eq!((reason, blame), (Reason::WrongCertificateType, Blame::Certificate));
        assert_eq!(remedy, "add a certificate with an RSA key to the host");

        let (reason, blame, remedy) = explained(Settings::modern(), ECDSA, &offer("java-8u161"));
        assert_eq!((reason, blame, &*remedy), (Reason::NoSharedVersion, Blame::Policy, "enable TLS 1.2 in the policy"));

        let narrow = Settings { groups: vec![Group::Secp384r1], ..any() };
        let mut modern = offer("chrome-150");
        modern.groups = Some(vec![0x001d]);
        let (reason, blame, remedy) = explained(narrow, ECDSA, &modern);
        assert_eq!(
            (reason, blame, &*remedy),
            (Reason::NoSharedGroup, Blame::Policy, "add x25519 to the policy's groups")
        );

        // One change alone does not help here.
        let narrow = Settings {
            suites: vec![Suite::Aes128GcmSha256, Suite::EcdheEcdsaAes256GcmSha384],
            groups: vec![Group::Secp384r1],
            ..any()
        };
        let mut old = offer("java-8u161");
        (old.suites, old.groups) = (vec![0xc02b], Some(vec![0x0017]));
        assert_eq!(explained(narrow, ECDSA, &old).2, "use the preset `intermediate`");

        let http1 = Settings { alpn: vec![Alpn::Http11], ..any() };
        let mut h2_only = offer("chrome-150");
        h2_only.alpn = Some(vec![(*b"h2").into()]);
        assert_eq!(explained(http1, ECDSA, &h2_only).1, Blame::Policy);

        let (reason, blame, remedy) = explained(any(), RSA, &offer("java-7-7u25-7u80-defaults"));
        assert_eq!((reason, blame), (Reason::NoSharedVersion, Blame::Client));
        assert!(remedy.starts_with("update the client: TLS 1.2"), "{remedy}");
    }

    #[test]
    fn what_a_client_lacks_is_named_by_what_its_suites_have_in_common() {
        let with = |suites: &[u16]| Offer { suites: suites.to_vec(), ..offer("java-8u161") };
        let rows: [(&[u16], Reason); 6] = [
            (&[0x002f, 0x009c, 0x00ff], Reason::StaticRsaOnly),
            (&[0xc013, 0xc014, 0x002f], Reason::CbcOnly),
            (&[0x009e, 0xc013], Reason::NoSharedSuite),
            (&[0xc02c, 0xc02b], Reason::WrongCertificateType),
            (&[0x00ff], Reason::NoSharedSuite),
            (&[0xfafb], Reason::NoSharedSuite),
        ];
        for (suites, reason) in rows {
            let (found, ..) = explained(Settings::default(), RSA, &with(suites));
            assert_eq!(found, reason, "{suites:04x?}");
        }
        // The client has a suite for the key, and the policy does not.
        let narrow =
            Settings { suites: vec![Suite::Aes128GcmSha256, Suite::EcdheRsaAes128GcmSha256], ..Settings::default() };
        let (reason, blame, remedy) = explained(narrow, ECDSA, &with(&[0xc02b, 0xc02f]));
        assert_eq!((reason, blame), (Reason::NoSharedSuite, Blame::Certificate));
        assert_eq!(remedy, "add a certificate with an RSA key to the host");
    }

    #[test]
    fn schemes_of_the_right_family_are_told_from_those_of_another() {
        let tls13 = |schemes: &[u16]| Offer { schemes: Some(schemes.to_vec()), ..offer("chrome-150") };
        let reason = |kind, schemes: &[u16]| explained(Settings::default(), &[kind], &tls13(schemes)).0;
        assert_eq!(reason(CredentialKind::EcdsaP384, &[0x0403, 0x0804]), Reason::NoSharedSignatureScheme);
        assert_eq!(reason(CredentialKind::EcdsaP256, &[0x0804]), Reason::WrongCertificateType);
        assert_eq!(reason(CredentialKind::Rsa, &[0x0403]), Reason::WrongCertificateType);
        assert_eq!(reason(CredentialKind::Rsa, &[0x0201, 0x0203]), Reason::Sha1Only);
        let mut without_shares = offer("chrome-150");
        without_shares.key_shares = None;
        assert_eq!(explained(Settings::default(), ECDSA, &without_shares).0, Reason::MissingExtension);
    }

    #[test]
    fn the_default_differs_from_the_preset_in_its_order_only() {
        let order = Settings::intermediate().suite_order;
        assert_eq!(Settings { suite_order: order, ..intermediate().settings().clone() }, Settings::intermediate());
    }
}
