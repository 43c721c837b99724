//! Certificates of clients: whether they are asked for, and who may issue them.

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
