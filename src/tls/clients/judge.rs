//! Whether a well-known client gets through to a host: handshake, server name, chain and root.
//!
//! `ServerTls × Client ──negotiate, then the outline of the chain──▶ Agreement, or Obstacle`
//!
//! The handshake is the model's to judge; then the chain of the credential that it chose is followed as the client would.
//! Dates are no matter here: whoever may connect at all is another question than for how long.

use std::fmt;

use super::{Client, clients, version_words};
use crate::tls::chain::{AnchorSource, Outline, OutlineEnd, Role, TrustAnchors};
use crate::tls::negotiate::{Agreement, CredentialKind, negotiate};
use crate::tls::offer::NamedServer;
use crate::tls::policy::{Policy, ServerTls};
use crate::tls::preflight;
use crate::tls::reason::Reason;

/// What keeps a client from a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// The handshake comes to nothing.
    Handshake(Reason),
    /// The chain leads to a root that the client does not have, and no cross-sign in it to one that it has.
    LacksRoot {
        /// Common name of the root.
        root: String,
    },
    /// An intermediate certificate is missing, and the client does not get it by itself.
    MissingIntermediate {
        /// Name of the issuer that is missing.
        issuer: String,
    },
    /// The client names no server (RFC 6066 section 3), and another certificate answers then, or none.
    NoServerName,
    /// The chain ends at nobody whom clients are known to trust.
    UntrustedChain {
        /// Where it ends.
        end: String,
    },
}

/// What a client and a host come to. `without_name` is what answers clients that name no server: the default
/// certificate, if there is one.
///
/// Roots of the operator's own (`--trust-anchors`, `ca.crt`) are taken to have been given to every client.
pub fn judge(tls: &ServerTls, without_name: Option<&ServerTls>, client: &Client) -> Result<Agreement, Obstacle> {
    judge_under(tls.policy(), tls, without_name, client)
}

/// The same with another policy in force for the host.
pub fn judge_under(
    policy: &Policy,
    tls: &ServerTls,
    without_name: Option<&ServerTls>,
    client: &Client,
) -> Result<Agreement, Obstacle> {
    let agreement = negotiate(policy, tls.credentials(), &client.offer).map_err(Obstacle::Handshake)?;
    let names_server = match client.offer.server_name {
        NamedServer::Name(_) => true,
        NamedServer::Absent | NamedServer::Address(_) | NamedServer::Malformed(_) => false,
    };
    // What answers without a name answers under its own policy, and a request for a host of another one is refused.
    let is_same = |other: &ServerTls| std::ptr::eq(tls, other) && policy == other.policy();
    if !names_server && !without_name.is_some_and(is_same) {
        return Err(Obstacle::NoServerName);
    }
    trusts(client, &tls.summary_of(agreement.credential).outline)?;
    Ok(agreement)
}

/// The same for each well-known client.
pub fn judge_all(
    tls: &ServerTls,
    without_name: Option<&ServerTls>,
) -> Vec<(&'static Client, Result<Agreement, Obstacle>)> {
    clients().iter().map(|client| (client, judge(tls, without_name, client))).collect()
}

/// Whether a client finds its way from the leaf to a root that it has.
pub fn trusts(client: &Client, outline: &Outline) -> Result<(), Obstacle> {
    match &outline.end {
        OutlineEnd::Anchor { source: AnchorSource::Operator | AnchorSource::Secret, .. } => Ok(()),
        OutlineEnd::Anchor { source: AnchorSource::Public, subject } => {
            let reached = reached(subject, outline);
            let known = |name: &String| *name == **subject || TrustAnchors::is_public_root(name);
            let has = |name: &&String| known(name) && !client.lacks.iter().any(|root| is_named(name, root));
            match reached.iter().find(has) {
                Some(_) => Ok(()),
                None => {
                    let root = subject.strip_prefix("CN=").unwrap_or(subject).to_owned();
                    Err(Obstacle::LacksRoot { root })
                }
            }
        }
        OutlineEnd::Missing { issuer, is_public: true } => match client.fetches_intermediates {
            true => Ok(()),
            false => Err(Obstacle::MissingIntermediate { issuer: issuer.to_string() }),
        },
        OutlineEnd::Missing { issuer, is_public: false } => Err(Obstacle::UntrustedChain { end: issuer.to_string() }),
        OutlineEnd::SelfSigned => {
            let leaf = outline.path.first().map(|leaf| leaf.subject.to_string()).unwrap_or_default();
            Err(Obstacle::UntrustedChain { end: leaf })
        }
        OutlineEnd::UnknownRoot { subject } => Err(Obstacle::UntrustedChain { end: subject.to_string() }),
        OutlineEnd::Withdrawn { root, .. } => Err(Obstacle::UntrustedChain { end: root.name.to_owned() }),
    }
}

/// The root that a chain leads to, and those that cross-signs in the chain lead on to.
fn reached(root: &str, outline: &Outline) -> Vec<String> {
    let mut reached = vec![root.to_owned()];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        let cross_signs = outline.beside.iter().filter(|link| link.role == Role::CrossSign && *link.subject == *name);
        for cross_sign in cross_signs {
            let issuer = short_name(&cross_sign.issuer);
            if !reached.contains(&issuer) {
                reached.push(issuer);
            }
        }
        next += 1;
    }
    reached
}

/// `C=US, O=…, CN=Root` as subjects are written: `CN=Root`. A name without a common name stays whole.
fn short_name(name: &str) -> String {
    let Some(at) = name.rfind("CN=") else { return name.to_owned() };
    let rest = &name[at..];
    // What follows a comma is a further attribute only if it is one.
    let end = rest.match_indices(", ").find(|(at, _)| rest[at + 2..].contains('=')).map_or(rest.len(), |(at, _)| at);
    rest[..end].to_owned()
}

fn is_named(name: &str, common_name: &str) -> bool {
    name.strip_prefix("CN=") == Some(common_name)
}

impl Obstacle {
    /// The stable kebab-case word in JSON, which `handfast explain` knows.
    pub fn code(&self) -> &'static str {
        match self {
            Obstacle::Handshake(reason) => reason.label(),
            Obstacle::LacksRoot { .. } => "lacks-root",
            Obstacle::MissingIntermediate { .. } => "missing-intermediate",
            Obstacle::NoServerName => Reason::NoServerName.label(),
            Obstacle::UntrustedChain { .. } => "untrusted-chain",
        }
    }

    /// What is wrong, for this client.
    pub fn message(&self, client: &Client) -> String {
        match self {
            Obstacle::Handshake(Reason::NoSharedVersion) if client.newest < 0x0304 => {
                format!("supports at most {}", version_words(client.newest))
            }
            Obstacle::Handshake(_)
            | Obstacle::LacksRoot { .. }
            | Obstacle::MissingIntermediate { .. }
            | Obstacle::NoServerName
            | Obstacle::UntrustedChain { .. } => self.to_string(),
        }
    }

    /// True if there are a policy and certificates with which the client would connect.
    pub fn can_be_removed(&self, client: &Client) -> bool {
        let kinds = [CredentialKind::EcdsaP256, CredentialKind::Rsa];
        !self.is_about_policy() || negotiate(&Policy::default(), &kinds, &client.offer).is_ok()
    }

    /// True if versions, suites, groups or keys are the cause, and not the chain or the name.
    pub fn is_about_policy(&self) -> bool {
        match self {
            Obstacle::Handshake(_) => true,
            Obstacle::LacksRoot { .. }
            | Obstacle::MissingIntermediate { .. }
            | Obstacle::NoServerName
            | Obstacle::UntrustedChain { .. } => false,
        }
    }

    /// What to do about it at the host, if anything can be done there. It is tried out in the model before it is said.
    pub fn remedy(&self, tls: &ServerTls, client: &Client) -> String {
        self.remedy_under(tls.policy(), tls, client)
    }

    /// The same for a host with another policy in force.
    pub fn remedy_under(&self, policy: &Policy, tls: &ServerTls, client: &Client) -> String {
        match self {
            Obstacle::Handshake(reason) => preflight::explain(*reason, policy, tls.credentials(), &client.offer).remedy,
            Obstacle::LacksRoot { root } => format!(
                "add a cross-sign of {root} by an older root to tls.crt, if the CA has a valid one, or use a certificate \
                 of another CA"
            ),
            Obstacle::MissingIntermediate { .. } => {
                "put the missing intermediate into tls.crt, or let the policy complete the chain".to_owned()
            }
            Obstacle::NoServerName => {
                "make this host's Secret the default certificate (--default-tls-secret)".to_owned()
            }
            Obstacle::UntrustedChain { .. } => {
                "if the clients of this host have the private root, name it in ca.crt or --trust-anchors; otherwise have \
                 the certificate issued by a public CA"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Handshake(reason) => f.write_str(match reason {
                Reason::NoSharedAlpn => "supports none of the host's application protocols",
                Reason::NoSharedGroup => "supports none of the host's key exchange groups",
                Reason::NoSharedSignatureScheme => "cannot verify signatures of the host's key",
                Reason::NoSharedSuite => "supports no cipher suite that the host allows and that works with its key",
                Reason::NoSharedVersion => "supports none of the host's protocol versions",
                Reason::CbcOnly => "supports only CBC and older cipher suites",
                Reason::Sha1Only => "can verify only SHA-1 signatures",
                Reason::StaticRsaOnly => "supports only cipher suites without forward secrecy",
                Reason::WrongCertificateType => "cannot use a certificate with the host's kind of key",
                other => other.meaning().trim_end_matches('.'),
            }),
            Obstacle::LacksRoot { root } => write!(f, "does not have the root {root}"),
            Obstacle::MissingIntermediate { issuer } => {
                write!(f, "does not fetch the missing intermediate {issuer}")
            }
            Obstacle::NoServerName => f.write_str("sends no server name, so it does not get this host's certificate"),
            Obstacle::UntrustedChain { end } => write!(f, "does not trust {end}, where the chain ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::tls::chain::Link;
    use crate::tls::clients::client;

    fn link(subject: &str, issuer: &str, role: Role) -> Link {
        let day = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        Link {
            place: 1,
            added_from: None,
            subject: subject.into(),
            issuer: issuer.into(),
            not_before: day,
            not_after: day,
            key: "ecdsa-p256".into(),
            other_usage: None,
            role,
        }
    }

    fn outline(end: OutlineEnd, cross_signs: &[(&str, &str)]) -> Outline {
        Outline {
            path: vec![link("CN=shop.example", "CN=E7", Role::Leaf), link("CN=E7", "CN=Root", Role::Intermediate)],
            end,
            beside: cross_signs.iter().map(|(subject, issuer)| link(subject, issuer, Role::CrossSign)).collect(),
            anchor_validity: Vec::new(),
        }
    }

    fn anchor(subject: &str, source: AnchorSource) -> OutlineEnd {
        OutlineEnd::Anchor { subject: subject.into(), source }
    }

    fn code(id: &str, outline: &Outline) -> Option<&'static str> {
        trusts(client(id).unwrap(), outline).err().map(|obstacle| obstacle.code())
    }

    #[test]
    fn a_client_needs_the_root_or_a_cross_sign_that_leads_to_one_it_has() {
        let x1 = outline(anchor("CN=ISRG Root X1", AnchorSource::Public), &[]);
        assert_eq!(code("java-8u31", &x1), Some("lacks-root"));
        assert_eq!(code("android-7-0", &x1), Some("lacks-root"));
        assert_eq!(code("android-8-1", &x1), None);
        let x2 = outline(anchor("CN=ISRG Root X2", AnchorSource::Public), &[]);
        assert_eq!(code("android-8-1", &x2), Some("lacks-root"));
        assert_eq!(code("chrome-150", &x2), None);
        let issuer = "C=US, O=Internet Security Research Group, CN=ISRG Root X1";
        let crossed = outline(anchor("CN=ISRG Root X2", AnchorSource::Public), &[("CN=ISRG Root X2", issuer)]);
        assert_eq!(code("android-8-1", &crossed), None);
        assert_eq!(code("java-8u31", &crossed), Some("lacks-root"), "it lacks both");
        // Two levels up, to a public root that it does not lack.
        let older = "C=US, CN=DigiCert Global Root G2, O=DigiCert Inc";
        let twice = [("CN=ISRG Root X2", issuer), ("CN=ISRG Root X1", older)];
        assert_eq!(code("java-8u31", &outline(anchor("CN=ISRG Root X2", AnchorSource::Public), &twice)), None);
        // Nobody knows whether it has a root that is no public one any more.
        let unknown = [("CN=ISRG Root X1", "O=Digital Signature Trust Co., CN=DST Root CA X3")];
        let retired = outline(anchor("CN=ISRG Root X1", AnchorSource::Public), &unknown);
        assert_eq!(code("java-8u31", &retired), Some("lacks-root"));
    }

    #[test]
    fn private_roots_were_given_to_every_client_and_gaps_stop_those_that_fetch_nothing() {
        for source in [AnchorSource::Operator, AnchorSource::Secret] {
            assert_eq!(code("java-8u31", &outline(anchor("CN=ISRG Root X1", source), &[])), None);
        }
        let gap = |is_public| outline(OutlineEnd::Missing { issuer: "CN=E7".into(), is_public }, &[]);
        assert_eq!(code("go-1-25", &gap(true)), Some("missing-intermediate"));
        assert_eq!(code("chrome-150", &gap(true)), None);
        for end in [OutlineEnd::SelfSigned, OutlineEnd::UnknownRoot { subject: "CN=R".into() }] {
            assert_eq!(code("chrome-150", &outline(end, &[])), Some("untrusted-chain"));
        }
        assert_eq!(code("chrome-150", &gap(false)), Some("untrusted-chain"));
    }

    #[test]
    fn names_are_shortened_to_the_common_name() {
        assert_eq!(short_name("C=US, O=X, CN=Root"), "CN=Root");
        assert_eq!(short_name("CN=Root, O=X, C=US"), "CN=Root");
        assert_eq!(short_name("C=US, CN=Root, Inc."), "CN=Root, Inc.");
        assert_eq!(short_name("OU=Starfield Class 2"), "OU=Starfield Class 2");
    }
}
