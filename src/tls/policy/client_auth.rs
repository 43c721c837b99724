//! Certificates of clients: whether they are asked for, and who may issue them.
//!
//! A client shows its certificate after its hello, so nothing of this is in the model of the handshake
//! ([`negotiate`](crate::tls::negotiate)): a client that cannot agree with the host never comes this far. Hosts that ask
//! for certificates give no tickets, whatever the policy says: a resumed session would stand for a certificate that
//! nobody looks at again, expired or not, and for a CA that may be gone.

use std::sync::Arc;

use crate::tls::chain::{RevocationLists, TrustAnchors};

/// Certificates of clients (RFC 8446 section 4.3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// True if a client without a certificate is refused; otherwise it may connect, but a certificate that it sends
    /// has to be valid.
    pub required: bool,
    /// Who issues them. Never empty.
    pub authorities: Arc<TrustAnchors>,
    /// What they have revoked; `None` if nobody looks.
    pub revoked: Option<Arc<RevocationLists>>,
}

impl ClientAuth {
    /// Whether a client that one of the two has let in may stay under the other: the same is asked of it. A new list
    /// that revokes what the one before did asks for nothing new.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let revoked = match (&self.revoked, &other.revoked) {
            (Some(one), Some(other)) => one.revoke_the_same(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        revoked && (self.required, &self.authorities) == (other.required, &other.authorities)
    }
}
