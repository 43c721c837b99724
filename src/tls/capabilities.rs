//! What clients can do, in a few words that can be counted.
//!
//! `Offer ──capabilities──▶ Capability …`
//!
//! Few and closed, so that a counter per host and capability stays small. Together they answer the questions that come
//! before a stricter policy: who still needs TLS 1.2, an RSA certificate, a group that is to go.

use super::negotiate::CredentialKind;
use super::offer::{NamedServer, Offer};
use super::policy::{Alpn, Group, Suite};

/// One thing that a client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// It can verify ECDSA certificates with P-256, P-384 or P-521.
    Ecdsa,
    /// It offers HTTP/2 by ALPN.
    Http2,
    /// TLS 1.0, or older, is its newest version.
    MaxTls10,
    /// TLS 1.1 is its newest version.
    MaxTls11,
    /// TLS 1.2 is its newest version.
    MaxTls12,
    /// TLS 1.3 is its newest version.
    MaxTls13,
    /// It has a post-quantum key exchange group that can be served.
    PostQuantum,
    /// It names the server that it asks for (RFC 6066 section 3).
    ServerName,
    /// It has a suite with forward secrecy and authenticated encryption in TLS 1.2.
    Tls12Aead,
    /// It has X25519, alone or in X25519MLKEM768.
    X25519,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 10] = [
        Capability::Ecdsa,
        Capability::Http2,
        Capability::MaxTls10,
        Capability::MaxTls11,
        Capability::MaxTls12,
        Capability::MaxTls13,
        Capability::PostQuantum,
        Capability::ServerName,
        Capability::Tls12Aead,
        Capability::X25519,
    ];

    /// The value of the `capability` label.
    pub fn label(self) -> &'static str {
        match self {
            Capability::Ecdsa => "ecdsa",
            Capability::Http2 => "http2",
            Capability::MaxTls10 => "max-tls-1.0",
            Capability::MaxTls11 => "max-tls-1.1",
            Capability::MaxTls12 => "max-tls-1.2",
            Capability::MaxTls13 => "max-tls-1.3",
            Capability::PostQuantum => "post-quantum",
            Capability::ServerName => "server-name",
            Capability::Tls12Aead => "tls-1.2-aead",
            Capability::X25519 => "x25519",
        }
    }

    fn is_had_by(self, offer: &Offer) -> bool {
        let has_suite =
            |wanted: fn(Suite) -> bool| Suite::ALL.into_iter().any(|s| wanted(s) && offer.suites.contains(&s.code()));
        let has_group = |group: Group| offer.groups.iter().flatten().any(|code| *code == group.code());
        match self {
            Capability::Ecdsa => {
                let verifies = |scheme: &u16| [0x0403, 0x0503, 0x0603].contains(scheme);
                offer.schemes.iter().flatten().any(verifies)
                    && has_suite(|suite| CredentialKind::EcdsaP256.works_with(suite))
            }
            Capability::Http2 => offer.alpn.iter().flatten().any(|id| **id == *Alpn::Http2.id().as_bytes()),
            Capability::MaxTls10 => offer.newest_version() <= 0x0301,
            Capability::MaxTls11 => offer.newest_version() == 0x0302,
            Capability::MaxTls12 => offer.newest_version() == 0x0303,
            Capability::MaxTls13 => offer.newest_version() >= 0x0304,
            Capability::PostQuantum => Group::ALL.into_iter().any(|group| group.is_post_quantum() && has_group(group)),
            Capability::ServerName => match offer.server_name {
                NamedServer::Name(_) => true,
                NamedServer::Absent | NamedServer::Address(_) | NamedServer::Malformed(_) => false,
            },
            Capability::Tls12Aead => has_suite(|suite| suite.version() == super::Version::Tls12),
            Capability::X25519 => has_group(Group::X25519) || has_group(Group::X25519MlKem768),
        }
    }
}

/// What a client that offers this can do.
pub fn capabilities(offer: &Offer) -> impl Iterator<Item = Capability> {
    Capability::ALL.into_iter().filter(|capability| capability.is_had_by(offer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::clients::client;

    #[test]
    fn well_known_clients_can_do_what_is_known_of_them() {
        let can = |id: &str| capabilities(&client(id).unwrap().offer).map(Capability::label).collect::<Vec<_>>();
        assert_eq!(
            can("chrome-150"),
            ["ecdsa", "http2", "max-tls-1.3", "post-quantum", "server-name", "tls-1.2-aead", "x25519"]
        );
        assert_eq!(can("java-7-7u25-7u80-defaults"), ["max-tls-1.0", "server-name"]);
        assert_eq!(can("java-8u161"), ["ecdsa", "max-tls-1.2", "server-name", "tls-1.2-aead"]);
        // It knows ECDSA signatures, and has no suite for them.
        assert!(!can("chrome-49-xp").contains(&"ecdsa"));
    }

    #[test]
    fn every_client_has_exactly_one_newest_version() {
        for client in crate::tls::clients::clients() {
            let newest = capabilities(&client.offer).filter(|capability| capability.label().starts_with("max-tls"));
            assert_eq!(newest.count(), 1, "{}", client.id);
        }
    }
}
