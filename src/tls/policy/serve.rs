//! Policies and credentials as rustls configurations.
//!
//! `Credentials × Policy ──▶ ServerTls`, and `ServerTls × Offer ──▶ ServerConfig`
//!
//! Three choices are not rustls' to make: the credential, because a resolver there does not learn the version; the
//! group by the server's order, because rustls always takes the client's first; and whose order of suites decides for
//! clients without AES hardware. Each is made by the model of the handshake after the hello has been read, and selects
//! one of a few configurations that differ in just that. A further configuration costs about 0.4 KiB: everything large
//! in it is shared.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::{Alpn, ClientAuth, Group, GroupOrder, Policy, Suite, SuiteOrder};
use crate::tls::chain::Credential;
use crate::tls::negotiate::{Agreement, CredentialKind, by_preference, has_client_order, negotiate, select};
use crate::tls::offer::Offer;
use crate::tls::reason::Reason;
use crate::tls::{TlsSummary, Version};

/// How TLS is terminated for the credentials of one host under one policy. Shared by all hosts that use both.
pub struct ServerTls {
    policy: Policy,
    /// In the order given.
    credentials: Vec<CredentialKind>,
    /// The first serves where nothing speaks for another.
    variants: Vec<Variant>,
    /// What is served, for people: the credential that is preferred.
    pub summary: TlsSummary,
    /// The further credentials, for clients that cannot use the first.
    pub additional: Vec<TlsSummary>,
}

struct Variant {
    choice: Choice,
    config: Arc<ServerConfig>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Choice {
    credential: usize,
    /// The only group; `None` leaves it to the client.
    group: Option<Group>,
    client_order: bool,
}

/// Why no configuration can be made. Never about user input: credentials and policy have been checked.
#[derive(thiserror::Error, Debug)]
pub enum ConfigError {
    /// There is no credential to serve.
    #[error("cannot make a TLS configuration without a certificate")]
    NoCredential,
    /// The TLS library refuses the parts.
    #[error("cannot make a TLS configuration")]
    Library(#[from] rustls::Error),
    /// The TLS library refuses the authorities of clients.
    #[error("cannot verify certificates of clients")]
    ClientAuth(#[from] VerifierBuilderError),
}

/// Makes the configurations that serve `credential` under `policy`, with ticket keys of their own.
pub fn server_tls(credential: &Credential, policy: &Policy) -> Result<ServerTls, ConfigError> {
    server_tls_of(&[credential], policy)
}

/// Makes the configurations that serve one host with several credentials under `policy`: each client gets the best one
/// that it can use, ECDSA before RSA. Ticket keys are theirs together.
///
/// Ticket keys are never shared more widely: a ticket must not resume where its certificate is not served.
pub fn server_tls_of(credentials: &[&Credential], policy: &Policy) -> Result<ServerTls, ConfigError> {
    let kinds: Vec<CredentialKind> = credentials.iter().map(|credential| CredentialKind::of(credential)).collect();
    let preference: Vec<usize> = by_preference(&kinds).collect();
    let settings = policy.settings();
    // A ticket stands for a certificate of the client that nobody looks at again, however long it has expired; so each
    // handshake that asks for one is a full one.
    let ticketer = match settings.tickets && settings.client_auth.is_none() {
        true => Some(aws_lc_rs::Ticketer::new()?),
        false => None,
    };
    let verifier = match &settings.client_auth {
        Some(client_auth) => verifier(client_auth)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };

    let suites: Vec<Suite> = settings.suites.iter().copied().filter(|suite| in_use(policy, *suite)).collect();
    let mut group_choices: Vec<(Option<Group>, Vec<Group>)> = vec![(None, settings.groups.clone())];
    if settings.group_order == GroupOrder::Server && settings.groups.len() > 1 {
        group_choices.extend(settings.groups.iter().map(|group| (Some(*group), vec![*group])));
    }
    let orders: &[bool] = match settings.suite_order {
        SuiteOrder::Client => &[true],
        SuiteOrder::Server => &[false],
        SuiteOrder::ServerUnlessChaCha20First => &[false, true],
    };

    let mut variants = Vec::with_capacity(preference.len() * group_choices.len() * orders.len());
    for &credential in &preference {
        for (group, groups) in &group_choices {
            let provider = provider(&suites, groups);
            let base = config(credentials[credential], policy, provider, &verifier, ticketer.as_ref())?;
            for &client_order in orders {
                let mut config = base.clone();
                config.ignore_client_order = !client_order;
                let choice = Choice { credential, group: *group, client_order };
                variants.push(Variant { choice, config: Arc::new(config) });
            }
        }
    }
    let mut summaries = preference.iter().map(|&credential| credentials[credential].summary());
    let summary = summaries.next().ok_or(ConfigError::NoCredential)?;
    let additional = summaries.collect();
    Ok(ServerTls { policy: policy.clone(), credentials: kinds, variants, summary, additional })
}

impl ServerTls {
    /// One ready-made configuration for all clients.
    pub fn fixed(config: Arc<ServerConfig>, summary: TlsSummary) -> Self {
        let choice = Choice { credential: 0, group: None, client_order: !config.ignore_client_order };
        ServerTls {
            policy: Policy::default(),
            credentials: Vec::new(),
            variants: vec![Variant { choice, config }],
            summary,
            additional: Vec::new(),
        }
    }

    /// The configuration for a client that offers this. Without an offer, or for one that cannot succeed, it is the
    /// one that is nearest to the policy, and rustls says why it fails.
    pub fn config_for(&self, offer: Option<&Offer>) -> &Arc<ServerConfig> {
        let [first, further @ ..] = &self.variants[..] else {
            unreachable!("invariant: server_tls_of and fixed make at least one configuration");
        };
        let Some(offer) = offer.filter(|_| !further.is_empty()) else { return &first.config };
        let client_order = has_client_order(&self.policy, offer);
        let (credential, group) = match select(&self.policy, &self.credentials, offer) {
            Ok(selection) => (selection.credential, Some(selection.group)),
            Err(_) => (first.choice.credential, None),
        };
        self.variant(credential, group, client_order)
    }

    /// The configuration by which a client that offers this and the host agree, and the index of the credential in it; or
    /// why they cannot. Of a [fixed](ServerTls::fixed) configuration nothing is known beforehand.
    pub fn agree(&self, offer: &Offer) -> Result<(&Arc<ServerConfig>, usize), Reason> {
        if self.credentials.is_empty() {
            return Ok((self.config_for(None), 0));
        }
        let Agreement { credential, group, .. } = negotiate(&self.policy, &self.credentials, offer)?;
        Ok((self.variant(credential, Some(group), has_client_order(&self.policy, offer)), credential))
    }

    fn variant(&self, credential: usize, group: Option<Group>, client_order: bool) -> &Arc<ServerConfig> {
        let settings = self.policy.settings();
        let group = group.filter(|_| settings.group_order == GroupOrder::Server && settings.groups.len() > 1);
        let choice = Choice { credential, group, client_order };
        let variant = self.variants.iter().find(|variant| variant.choice == choice).or(self.variants.first());
        let Some(variant) = variant else {
            unreachable!("invariant: server_tls_of and fixed make at least one configuration");
        };
        &variant.config
    }

    /// The policy that is served.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The credentials that are served, in the order given.
    pub fn credentials(&self) -> &[CredentialKind] {
        &self.credentials
    }

    /// When the first certificate of all that is served expires, intermediates included.
    pub fn not_after(&self) -> UnixTime {
        let summaries = std::iter::once(&self.summary).chain(&self.additional);
        let ends = summaries.flat_map(|summary| {
            let path = summary.outline.path.iter().map(|link| link.not_after);
            std::iter::once(summary.not_after).chain(path)
        });
        ends.min_by_key(|end| end.as_secs()).unwrap_or(self.summary.not_after)
    }

    /// What one of the credentials serves, by its index in the order given.
    pub fn summary_of(&self, credential: usize) -> &TlsSummary {
        let rank = by_preference(&self.credentials).position(|index| index == credential);
        match rank.and_then(|rank| rank.checked_sub(1)) {
            None => &self.summary,
            Some(further) => self.additional.get(further).unwrap_or(&self.summary),
        }
    }

    /// How many configurations there are.
    pub fn variants(&self) -> usize {
        self.variants.len()
    }
}

fn config(
    credential: &Credential,
    policy: &Policy,
    provider: Arc<CryptoProvider>,
    verifier: &Arc<dyn ClientCertVerifier>,
    ticketer: Option<&Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: Vec<_> = policy
        .versions()
        .map(|version| match version {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        })
        .collect();
    let resolver = Arc::new(SingleCertAndKey::from(credential.certified_key().clone()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(resolver);
    config.alpn_protocols = policy.settings().alpn.iter().map(|alpn: &Alpn| alpn.id().into()).collect();
    // No in-memory session store: rustls reserves about 8 KiB per configuration, 84 MiB at 10,000 hosts.
    // Tickets are stateless, so resumption works without it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match ticketer {
        Some(ticketer) => {
            config.ticketer = ticketer.clone();
            // One ticket is enough for a connection; a second one costs each resumed handshake about an eighth.
            config.send_tls13_tickets = 1;
        }
        None => config.send_tls13_tickets = 0,
    }
    Ok(config)
}

/// Whether the policy has the suite's version on. rustls judges certificates by all suites of a provider, also by those
/// of versions that are off.
fn in_use(policy: &Policy, suite: Suite) -> bool {
    policy.versions().any(|version| version == suite.version())
}

/// What verifies the certificates of clients: one for all configurations that ask for the same, as long as there are
/// any, because a bundle of authorities can be large. Signatures of every kind that the library knows are verified,
/// whatever suites and groups the policy has.
fn verifier(client_auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    static VERIFIERS: LazyLock<Mutex<HashMap<ClientAuth, Weak<dyn ClientCertVerifier>>>> =
        LazyLock::new(Mutex::default);
    // As for providers.
    let mut verifiers = VERIFIERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(verifier) = verifiers.get(client_auth).and_then(Weak::upgrade) {
        return Ok(verifier);
    }
    verifiers.retain(|_, verifier| verifier.strong_count() > 0);
    let roots = Arc::new(client_auth.authorities.root_store());
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(aws_lc_rs::default_provider()));
    // With lists, a certificate of any issuer without a current one is refused, to the last intermediate.
    let builder = match &client_auth.revoked {
        Some(lists) => builder.with_crls(lists.der()).enforce_revocation_expiration(),
        None => builder,
    };
    let verifier = if client_auth.required { builder } else { builder.allow_unauthenticated() }.build()?;
    verifiers.insert(client_auth.clone(), Arc::downgrade(&verifier));
    Ok(verifier)
}

/// The provider with these suites and groups: one for all configurations that have them, as long as there are any.
fn provider(suites: &[Suite], groups: &[Group]) -> Arc<CryptoProvider> {
    type Key = (Vec<Suite>, Vec<Group>);
    static PROVIDERS: LazyLock<Mutex<HashMap<Key, Weak<CryptoProvider>>>> = LazyLock::new(Mutex::default);
    // A thread that panicked here has left the map whole: each change to it is one call.
    let mut providers = PROVIDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (suites.to_vec(), groups.to_vec());
    if let Some(provider) = providers.get(&key).and_then(Weak::upgrade) {
        return provider;
    }
    providers.retain(|_, provider| provider.strong_count() > 0);
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites.iter().map(|suite| suite.rustls()).collect(),
        kx_groups: groups.iter().map(|group| group.rustls()).collect(),
        ..aws_lc_rs::default_provider()
    });
    providers.insert(key, Arc::downgrade(&provider));
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_suites_and_groups_share_a_provider() {
        let one = provider(&[Suite::Aes128GcmSha256], &[Group::Secp384r1]);
        let two = provider(&[Suite::Aes128GcmSha256], &[Group::Secp384r1]);
        let other = provider(&[Suite::Aes128GcmSha256], &[Group::Secp256r1]);
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
