//! Certificates of clients: whether they are asked for, and who may issue them.
//!
//! A client shows its certificate after its hello, so nothing of this is in the model of the handshake
//! ([`negotiate`](crate::tls::negotiate)): a client that cannot agree with the host never comes this far. Hosts that ask
//! for certificates give no tickets, whatever the policy says: a resumed session would stand for a certificate that
//! nobody looks at again, expired or not, and for a CA that may be gone.

use std::sync::Arc;

use crate::tls::chain::TrustAnchors;

/// Certificates of clients (RFC 8446 section 4.3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// True if a client without a certificate is refused; otherwise it may connect, but a certificate that it sends
    /// has to be valid.
    pub required: bool,
    /// Who issues them. Never empty.
    pub authorities: Arc<TrustAnchors>,
}
