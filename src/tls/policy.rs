//! Which versions, suites and groups a host offers, and the `ServerConfig` that does so.
//!
//! `Credential × Policy ──▶ ServerTls`
//!
//! The default is Mozilla's guideline 6.0 "intermediate": TLS 1.2 and 1.3, the nine AEAD suites with forward secrecy,
//! X25519MLKEM768, X25519, P-256 and P-384. The server's order decides, with AES-128-GCM first: SHA-384 costs more than
//! AES-256 gains. A client that puts ChaCha20 first says that it has no AES hardware, so its own order decides.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, ServerConfig};

use super::ServerTls;
use super::chain::Credential;

/// Versions, suites, groups and order. There is one for now, the default; a type, because it is part of the key under
/// which configurations are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {}

/// ALPN protocols in order of preference (RFC 7301 section 3.2: the server chooses).
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why no configuration can be made. Never about user input: the credential has been checked.
#[derive(thiserror::Error, Debug)]
#[error("cannot make a TLS configuration")]
pub struct ConfigError(#[from] rustls::Error);

/// Makes the configurations that serve `credential` under `policy`, with ticket keys of their own.
///
/// Ticket keys are never shared between credentials: a ticket must not resume where its certificate is not served.
pub fn server_tls(credential: &Credential, policy: &Policy) -> Result<ServerTls, ConfigError> {
    let resolver = Arc::new(SingleCertAndKey::from(credential.certified_key().clone()));
    let mut config = ServerConfig::builder_with_provider(provider(policy))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    config.ignore_client_order = true;
    // No in-memory session store: rustls reserves about 8 KiB per configuration, 84 MiB at 10,000 hosts.
    // Tickets are stateless, so resumption works without it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // One ticket is enough for a connection; a second one costs each resumed handshake about an eighth.
    config.send_tls13_tickets = 1;
    let mut client_order = config.clone();
    client_order.ignore_client_order = false;
    Ok(ServerTls { config: Arc::new(config), client_order: Arc::new(client_order), summary: credential.summary() })
}

/// True if a client offers any suite that can be served, whatever the certificate.
pub fn shares_suite(suites: &[CipherSuite]) -> bool {
    let served = &provider(&Policy::default()).cipher_suites;
    suites.iter().any(|offered| served.iter().any(|suite| suite.suite() == *offered))
}

/// True if a client's list of suites says that it has no AES hardware: its first suite is a ChaCha20 one. Unknown
/// suites in front (GREASE, RFC 8701) are passed over.
pub fn prefers_chacha20(suites: &[CipherSuite]) -> bool {
    let known = suites.iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
    matches!(
        known,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}

/// The provider for a policy, made once and shared by all configurations.
fn provider(policy: &Policy) -> Arc<CryptoProvider> {
    static INTERMEDIATE: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let Policy {} = policy;
    let provider = INTERMEDIATE.get_or_init(|| {
        use aws_lc_rs::{cipher_suite as suite, kx_group};
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                suite::TLS13_AES_128_GCM_SHA256,
                suite::TLS13_AES_256_GCM_SHA384,
                suite::TLS13_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
            ..aws_lc_rs::default_provider()
        })
    });
    provider.clone()
}
